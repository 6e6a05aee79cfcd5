//! The task that makes the lists at the first start on a database, and keeps them true to what others write.

use std::time::{Duration, Instant};

use am_core::ambient::{Clock, sleep_or_cancelled};
use tokio_util::sync::CancellationToken;

use super::{ListedTable, log_failure, store};
use crate::{Database, DatabaseError, Result, Tx, codec::Timestamp, metrics::ListLabel};

/// Rows that are added to a list in one transaction: some 20 ms.
const BUILD_BATCH: i64 = 500;
/// Time between two rounds.
const ROUND_INTERVAL: Duration = Duration::from_secs(2);
/// Rows of a table, and of its list, that a round compares.
const SWEEP_BATCH: i64 = 400;
/// Time between two log lines about the making of a list.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Rows that are followed before it is noted in the database how far.
const NOTED_ROWS: i64 = 10_000;

/// Keeper of the lists beside the coordinator's tables.
pub struct ListKeeper {
    db: Database,
    clock: Clock,
    sweeps: [ListSweep; ListedTable::ALL.len()],
}

/// Where a sweep stands. It rests once it has gone through all of table and list since another process wrote.
#[derive(Default)]
struct ListSweep {
    /// Others' commits before the round through all of it; none: it begins with the next step.
    begun: Option<u64>,
    /// Others' commits before the last whole round; none: there was none.
    done: Option<u64>,
    /// Whether the round has gone through the table, and through the list.
    is_past: [bool; 2],
    /// The rowid up to which rows of the table were compared.
    place: i64,
    /// The id up to which rows of the list were.
    id: String,
    /// The rowid that was noted last as followed.
    noted: i64,
}

impl ListKeeper {
    /// Keep the lists of `db`.
    pub fn new(db: Database, clock: Clock) -> Self {
        Self { db, clock, sweeps: Default::default() }
    }

    /// Make the lists and keep them until `stop`.
    pub async fn work(mut self, stop: CancellationToken) {
        let mut watcher = None;
        for table in ListedTable::ALL {
            while let Err(error) = self.build(table, &stop).await {
                log_failure(table, &error);
                if !sleep_or_cancelled(&stop, ROUND_INTERVAL).await {
                    return;
                }
            }
        }
        while sleep_or_cancelled(&stop, ROUND_INTERVAL).await {
            if watcher.is_none() {
                watcher = self.db.open_watcher().await.ok();
            }
            let Some(commits) = watcher.as_mut() else { continue };
            match commits.changed().await {
                Ok(false) => continue,
                Ok(true) => {}
                Err(_) => watcher = None,
            }
            // A write that changes nothing learns whether it was another process that committed.
            let looked = self.db.write(async |_: &mut Tx| Ok::<_, DatabaseError>(())).await;
            for table in ListedTable::ALL {
                let swept = if looked.is_ok() { self.sweep(table).await } else { Ok(()) };
                if let Err(error) = swept {
                    log_failure(table, &error);
                }
            }
        }
    }

    /// Add the rows of `table` that are missing, from where it was left.
    async fn build(&self, table: ListedTable, stop: &CancellationToken) -> Result<()> {
        let (mut place, is_built) = store::read_progress(&mut *self.db.read_list().await?, table).await?;
        let state = self.db.list_state(table);
        let progress = self.db.0.metrics.list_progress.get_or_create(&ListLabel { list: table.name() }).clone();
        let (begun, mut told) = (Instant::now(), Instant::now());
        if is_built {
            progress.set(1.0);
            state.complete(place);
            return Ok(());
        }
        while !stop.is_cancelled() {
            let mut conn = self.db.read_list().await?;
            let top = store::highest_place(&mut conn, table).await?;
            state.advance(place, top);
            let (ids, last) = store::ids_after(&mut conn, table, place, BUILD_BATCH).await?;
            drop(conn);
            place = last.unwrap_or(place);
            let built_at = last.is_none().then(|| Timestamp(self.clock.now()));
            am_core::crash_point!("lists.before_batch");
            self.db
                .write(async move |tx: &mut Tx| {
                    if !ids.is_empty() {
                        store::refresh(tx, table, &ids).await?;
                    }
                    store::save_progress(tx, table, place, built_at).await
                })
                .await?;
            am_core::crash_point!("lists.after_batch");
            if built_at.is_some() {
                progress.set(1.0);
                state.complete(place);
                if begun.elapsed() > PROGRESS_INTERVAL {
                    let seconds = begun.elapsed().as_secs();
                    tracing::info!(list = table.name(), rows = top, seconds, "a list is complete");
                }
                return Ok(());
            }
            progress.set(place as f64 / top.max(1) as f64);
            if told.elapsed() > PROGRESS_INTERVAL {
                told = Instant::now();
                tracing::info!(
                    list = table.name(),
                    rows = place,
                    of = top,
                    "a list is being made; lists are slow until then"
                );
            }
            // Others' writes come first.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Follow new and open rows, and compare some of the others.
    async fn sweep(&mut self, table: ListedTable) -> Result<()> {
        let others = self.db.others_commits();
        let sweep = &mut self.sweeps[table as usize];
        if sweep.done == Some(others) {
            return Ok(());
        }
        let mut conn = self.db.read_list().await?;
        if !self.db.follow_list(&mut conn, table, true).await? {
            return Ok(());
        }
        let begun = *sweep.begun.get_or_insert(others);
        let mut compared = store::compare_table(&mut conn, table, sweep.place, SWEEP_BATCH).await?;
        let is_last = compared.count < SWEEP_BATCH;
        sweep.is_past[0] |= is_last;
        sweep.place = compared.last.filter(|_| !is_last).unwrap_or_default();
        let listed = store::compare_list(&mut conn, table, &sweep.id, SWEEP_BATCH).await?;
        let is_last = listed.count < SWEEP_BATCH;
        sweep.is_past[1] |= is_last;
        sweep.id = listed.last.filter(|_| !is_last).unwrap_or_default();
        if sweep.is_past == [true, true] {
            (sweep.begun, sweep.done, sweep.is_past) = (None, Some(begun), [false, false]);
        }
        drop(conn);
        compared.differing.extend(listed.differing);
        self.db.refresh_list(table, compared.differing).await?;
        let place = self.db.list_state(table).place.load(std::sync::atomic::Ordering::Acquire);
        if place >= sweep.noted + NOTED_ROWS || place < sweep.noted {
            sweep.noted = place;
            let built_at = Some(Timestamp(self.clock.now()));
            self.db.write(async move |tx: &mut Tx| store::save_progress(tx, table, place, built_at).await).await?;
        }
        Ok(())
    }
}
