//! Writes of one kind that are done at once for all callers that wait. What they read is one statement, and what they write another:
//! each statement costs two thread switches, and rows that several of them change are read and written once.

use std::{any::Any, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::{
    Database, DatabaseError, Tx,
    write_job::{JobGroup, WriteJob, caller_result},
};

/// What is done for items: one result for each, in their order.
type GroupWork<I, O, E> =
    dyn for<'a> Fn(&'a mut Tx, &'a [Arc<I>]) -> Pin<Box<dyn Future<Output = GroupResult<O, E>> + 'a>> + Send + Sync;
/// A result for each item, or the error of all of them.
pub type GroupResult<O, E> = Result<Vec<Result<O, E>>, E>;

/// A kind of write that is done at once for all that wait. Cheap to clone.
pub struct GroupedWrite<I, O, E>(Arc<GroupWork<I, O, E>>);

impl<I, O, E> Clone for GroupedWrite<I, O, E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I, O, E> GroupedWrite<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: From<DatabaseError> + Send + 'static,
{
    /// Create it from its work, which is given items in the order in which they were sent and answers a result for each. For an item
    /// that it refuses it must have written nothing. After an error, or a panic, nothing is written, and the work is done for each item
    /// by itself.
    pub fn new<F>(work: F) -> Self
    where
        F: AsyncFn(&mut Tx, &[Arc<I>]) -> GroupResult<O, E> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        Self(Arc::new(move |tx, items| {
            let work = work.clone();
            Box::pin(async move { work(tx, items).await })
        }))
    }

    /// Do the work for one item, as part of another write.
    ///
    /// # Errors
    /// As the work.
    pub async fn run_one(&self, tx: &mut Tx, item: Arc<I>) -> Result<O, E> {
        let mut results = (self.0)(tx, &[item]).await?;
        results.pop().unwrap_or_else(|| Err(no_result().into()))
    }
}

fn no_result() -> DatabaseError {
    DatabaseError::InvalidValue("a grouped write answered fewer results than it had items".to_owned())
}

impl<I, O, E> JobGroup for GroupedWrite<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: From<DatabaseError> + Send + 'static,
{
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    fn run<'a>(
        &'a self,
        jobs: &'a mut [Box<dyn WriteJob>],
        tx: &'a mut Tx,
    ) -> Pin<Box<dyn Future<Output = super::Result<()>> + 'a>> {
        Box::pin(async move {
            let mut members: Vec<&mut GroupedJob<I, O, E>> =
                jobs.iter_mut().filter_map(|job| job.as_any().downcast_mut()).collect();
            let items: Vec<Arc<I>> = members.iter().map(|member| member.item.clone()).collect();
            // Each is done by itself then, so that the one that panics is told.
            let done = AssertUnwindSafe((self.0)(tx, &items)).catch_unwind().await;
            match done {
                Ok(Ok(results)) if results.len() == members.len() => {
                    for (member, result) in members.iter_mut().zip(results) {
                        member.result = Some(result);
                    }
                    Ok(())
                }
                _ => Err(no_result()),
            }
        })
    }
}

/// A queued item of a grouped write.
struct GroupedJob<I, O, E> {
    group: GroupedWrite<I, O, E>,
    item: Arc<I>,
    result: Option<Result<O, E>>,
    panicked: bool,
    caller: oneshot::Sender<Result<O, E>>,
}

impl<I, O, E> WriteJob for GroupedJob<I, O, E>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
    E: From<DatabaseError> + Send + 'static,
{
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> Pin<Box<dyn Future<Output = bool> + 'a>> {
        Box::pin(async move {
            let done = AssertUnwindSafe(self.group.run_one(tx, self.item.clone())).catch_unwind().await;
            self.panicked = done.is_err();
            self.result = done.ok();
            matches!(self.result, Some(Ok(_)))
        })
    }

    fn name(&self) -> &'static str {
        std::any::type_name::<I>()
    }

    fn answer(self: Box<Self>, batch: super::Result<()>) {
        let batch = if self.panicked { Err(DatabaseError::WritePanicked) } else { batch };
        let _ = self.caller.send(caller_result(batch, self.result));
    }

    fn group(&self) -> Option<Arc<dyn JobGroup>> {
        Some(Arc::new(self.group.clone()))
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl Database {
    /// Do a grouped write for `item`, together with those that wait for it at the same time, and return once it is durable.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn write_grouped<I, O, E>(&self, group: &GroupedWrite<I, O, E>, item: I) -> Result<O, E>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let job = GroupedJob { group: group.clone(), item: Arc::new(item), result: None, panicked: false, caller };
        let queued = async move {
            self.0.writer.queue(Box::new(job)).await?;
            answer.await.unwrap_or_else(|_| Err(DatabaseError::WriterStopped.into()))
        };
        queued.instrument(tracing::debug_span!("write")).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::{DatabaseSettings, sql};

    async fn open() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_millis(200) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        db.write(async |tx: &mut Tx| {
            let tables = "CREATE TABLE t (n INTEGER PRIMARY KEY, place INTEGER NOT NULL)";
            sqlx::query(tables).execute(tx.conn().await?).await?;
            Ok::<_, DatabaseError>(())
        })
        .await
        .unwrap();
        (dir, db)
    }

    /// Inserts numbers: one below 0 is refused, 13 panics, one that is there fails; answers how many were done with it.
    fn inserts(largest: &Arc<AtomicUsize>, kept: &Arc<AtomicUsize>) -> GroupedWrite<i64, usize, DatabaseError> {
        let (largest, kept) = (largest.clone(), kept.clone());
        GroupedWrite::new(async move |tx: &mut Tx, items: &[Arc<i64>]| {
            largest.fetch_max(items.len(), Ordering::Relaxed);
            let mut results = Vec::new();
            for item in items {
                assert_ne!(**item, 13, "on purpose");
                if **item < 0 {
                    results.push(Err(DatabaseError::SchemaMismatch("on purpose".into())));
                    continue;
                }
                let insert = sql!("INSERT INTO t (n, place) SELECT $1, count(*) FROM t");
                insert.bind(**item).execute(tx.conn().await?).await?;
                results.push(Ok(items.len()));
                let kept = kept.clone();
                tx.after_commit(move || {
                    kept.fetch_add(1, Ordering::Relaxed);
                });
            }
            Ok(results)
        })
    }

    async fn send(
        db: &Database,
        group: &GroupedWrite<i64, usize, DatabaseError>,
        items: Vec<i64>,
    ) -> Vec<(i64, Result<usize, DatabaseError>)> {
        // Something that holds the writer until all are queued.
        let (held, go) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let blocking = tokio::spawn({
            let (db, held, go) = (db.clone(), held.clone(), go.clone());
            async move {
                db.write(async move |_: &mut Tx| {
                    held.notify_one();
                    go.notified().await;
                    Ok::<_, DatabaseError>(())
                })
                .await
            }
        });
        held.notified().await;
        let waiting = items.into_iter().map(|item| async move { (item, db.write_grouped(group, item).await) });
        let waiting = futures_util::future::join_all(waiting);
        // Polled in their order: each is queued by its first poll.
        let mut waiting = Box::pin(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        go.notify_one();
        blocking.await.unwrap().unwrap();
        waiting.await
    }

    #[tokio::test]
    async fn what_waits_is_done_at_once_in_its_order() {
        let (_dir, db) = open().await;
        let (largest, kept) = (Arc::default(), Arc::default());
        let group = inserts(&largest, &kept);
        let results = send(&db, &group, vec![5, 3, -1, 9, 1]).await;
        for (item, result) in results {
            match result {
                Ok(together) => assert_eq!((together, item < 0), (5, false)),
                Err(error) => assert!(item < 0 && matches!(error, DatabaseError::SchemaMismatch(_)), "{item}: {error}"),
            }
        }
        let order: Vec<i64> =
            sql!("SELECT n FROM t ORDER BY place").fetch_values(&mut db.read().await.unwrap()).await.unwrap();
        assert_eq!(order, [5, 3, 9, 1]);
        assert_eq!((largest.load(Ordering::Relaxed), kept.load(Ordering::Relaxed)), (5, 4));
        assert_eq!(db.write_grouped(&group, 77).await.unwrap(), 1, "alone it needs no others");
    }

    #[tokio::test]
    async fn one_that_fails_or_panics_fails_alone() {
        let (_dir, db) = open().await;
        let (largest, kept) = (Arc::default(), Arc::default());
        let group = inserts(&largest, &kept);
        db.write_grouped(&group, 4).await.unwrap();
        for bad in [4, 13] {
            let before = kept.load(Ordering::Relaxed);
            let items = vec![bad * 100, bad * 100 + 1, bad, bad * 100 + 2, -1];
            for (item, result) in send(&db, &group, items).await {
                match result {
                    Ok(together) => assert!(together == 1 && item >= 100, "{item}"),
                    Err(DatabaseError::WritePanicked) => assert_eq!((item, bad), (13, 13)),
                    Err(DatabaseError::Duplicate(_)) => assert_eq!((item, bad), (4, 4)),
                    Err(error) => assert!(item < 0, "{item}: {error}"),
                }
            }
            assert_eq!(kept.load(Ordering::Relaxed) - before, 3, "a hook runs for what is durable only");
        }
        assert_eq!(largest.load(Ordering::Relaxed), 5);
        let count: i64 = sql!("SELECT count(*) FROM t").fetch_value(&mut db.read().await.unwrap()).await.unwrap();
        assert_eq!(count, 7);
    }
}
