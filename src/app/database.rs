//! Opening of the database. A start while another process holds the write lock waits, and tells for whom.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio_util::task::AbortOnDropHandle;

use super::StartError;
use am_core::{ambient::Clock, boxed, config::Config};
use am_db::{Database, DatabaseError, DatabaseSettings, lock_holder::write_lock_holders};

/// Interval at which a waiting start tells for whom it waits.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
/// How much longer the service manager is asked to wait, each time.
const START_EXTENSION: Duration = Duration::from_secs(30);

/// Open the database of `config`, which must exist and be migrated.
///
/// # Errors
/// The missing or unexpected database objects, by name.
pub async fn open_database(config: &Config) -> Result<Database, StartError> {
    let failed = |source| StartError::Database { path: config.database.clone(), source };
    check_exists(config)?;
    let settings = DatabaseSettings { readers: config.db_readers, busy_timeout: config.db_busy_timeout };
    let db = Database::open(&config.database, &settings).await.map_err(failed)?;
    am_db::check_schema(&mut *db.read().await.map_err(failed)?).await.map_err(failed)?;
    Ok(db)
}

/// Refuse a database file that does not exist: opening would make an empty one.
fn check_exists(config: &Config) -> Result<(), StartError> {
    if config.database.exists() {
        return Ok(());
    }
    let missing = "there is no such file; `agent-management migrate` makes it".to_owned();
    Err(StartError::Database { path: config.database.clone(), source: am_db::DatabaseError::SchemaMismatch(missing) })
}

/// Open the database for the service, and migrate it if the configuration says so. Waits for another process's lock.
pub(super) async fn open_for_service(config: &Config, clock: &Clock) -> Result<StartingDatabase, StartError> {
    let failed = |source| StartError::Database { path: config.database.clone(), source };
    if !config.migrate_on_start {
        check_exists(config)?;
    }
    let starting = StartingDatabase::open(config).await.map_err(failed)?;
    let db = &starting.db;
    if config.migrate_on_start {
        let report = am_db::migrate(db, clock).await.map_err(failed)?;
        tracing::info!(created = report.created.len(), adopted = report.adopted.len(), applied = ?report.applied, "database migrated");
    } else {
        am_db::check_schema(&mut *db.read().await.map_err(failed)?).await.map_err(failed)?;
    }
    am_jobs::settle_clock(db, config.services.job_clock, clock.now()).await.map_err(failed)?;
    let tables = db.coordinator_report().await.map_err(failed)?;
    tables.accept().map_err(failed)?;
    for notice in &tables.notices {
        tracing::warn!(notice, "this service does without a part of the coordinator's tables");
    }
    Ok(starting)
}

/// The database while the service starts: its writes wait for the lock as long as a start may.
pub(super) struct StartingDatabase {
    /// The open database.
    pub db: Database,
    /// Task that tells for whom a write waits.
    _telling: AbortOnDropHandle<()>,
    busy_timeout: Duration,
    write_timeout: Duration,
}

impl StartingDatabase {
    /// Open the database of `config`. Switching a file to WAL takes the lock too.
    ///
    /// # Errors
    /// As [`Database::open`]; [`DatabaseError::Busy`] only after `DB_START_TIMEOUT_SECONDS`.
    #[boxed]
    pub async fn open(config: &Config) -> Result<Self, DatabaseError> {
        let settings = DatabaseSettings { readers: config.db_readers, busy_timeout: config.db_start_timeout };
        let started = Instant::now();
        let opening =
            AbortOnDropHandle::new(tokio::spawn(tell_holders(config.database.clone(), move || Some(started))));
        let db = loop {
            match Database::open(&config.database, &settings).await {
                Err(DatabaseError::Busy) if started.elapsed() < config.db_start_timeout => {}
                opened => break opened?,
            }
        };
        drop(opening);
        db.set_statement_limit(config.db_statement_timeout);
        let waiting = db.clone();
        let telling = tell_holders(config.database.clone(), move || waiting.waits_for_lock_since());
        let _telling = AbortOnDropHandle::new(tokio::spawn(telling));
        Ok(Self { db, _telling, busy_timeout: config.db_busy_timeout, write_timeout: config.db_write_timeout })
    }

    /// The service has started: from now on writes wait for the lock, and hold it, as long as those of a request may.
    pub fn finish(self) {
        self.db.set_busy_timeout(self.busy_timeout);
        self.db.set_write_limit(self.write_timeout);
    }
}

/// Tell the log and the service manager at intervals for whom is waited, as long as `since` says that something waits.
async fn tell_holders(database: PathBuf, since: impl Fn() -> Option<Instant>) {
    let mut told = None;
    loop {
        tokio::time::sleep(TELL_INTERVAL).await;
        let Some(waited) = since().map(|since| since.elapsed()).filter(|waited| *waited >= TELL_INTERVAL) else {
            continue;
        };
        let asked = database.clone();
        let holders = tokio::task::spawn_blocking(move || write_lock_holders(&asked)).await.unwrap_or_default();
        let holders = match holders.as_slice() {
            [] => "another process".to_owned(),
            known => known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        let status = format!("waiting for the write lock of {}, held by {holders}", database.display());
        let extension = u32::try_from(START_EXTENSION.as_micros()).unwrap_or(u32::MAX);
        let _ = sd_notify::notify(&[
            sd_notify::NotifyState::ExtendTimeoutUsec(extension),
            sd_notify::NotifyState::Status(&status),
        ]);
        if told.as_ref() != Some(&status) {
            tracing::warn!(seconds = waited.as_secs(), holders, "the start waits for the database's write lock");
            told = Some(status);
        }
    }
}
