//! Ownership of runs. A worker is identified by a lock on a file beside the database, which the kernel releases when
//! the process ends in any way, and by a lease in the database, for a process that hangs. In either case a fence keeps
//! a worker that was declared dead from writing runs it no longer holds.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use super::claim::store;
use crate::error::{OrchestrationError, Result};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::WorkerId,
};
use am_db::{Database, Tx, codec::Timestamp};

/// This process as a worker of the engine.
pub struct EngineWorker {
    /// Id: `worker_` and 12 hex digits.
    pub id: WorkerId,
    lease: Duration,
    path: PathBuf,
    /// Locked for as long as the process lives.
    _lock: File,
}

fn lock_path(database: &Path, id: &WorkerId) -> PathBuf {
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{id}.lock"));
    database.with_file_name(name)
}

impl EngineWorker {
    /// Take the lock and write the first heartbeat.
    #[boxed]
    pub async fn register(db: &Database, clock: &Clock, ids: &IdGenerator, lease: Duration) -> Result<Self> {
        let id = WorkerId::from(ids.random_id("worker_", 12));
        let path = lock_path(db.path(), &id);
        let failed =
            |error: std::io::Error| OrchestrationError::Conflict(format!("can't lock {}: {error}", path.display()));
        let lock = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let worker = Self { id, lease, path, _lock: lock };
        worker.heartbeat(db, clock).await?;
        Ok(worker)
    }

    /// Write a heartbeat.
    pub async fn heartbeat(&self, db: &Database, clock: &Clock) -> Result<()> {
        let (id, now) = (self.id.clone(), clock.now());
        let until = Timestamp(now + self.lease);
        db.write(async move |tx: &mut Tx| store::heartbeat(tx, &id, Timestamp(now), until).await).await
    }

    /// Find dead workers and release their runs. Returns the number of runs.
    pub async fn reclaim_dead_workers(&self, db: &Database, clock: &Clock) -> Result<u64> {
        let others = store::list_workers(&mut *db.read_vital().await?).await?;
        let now = Timestamp(clock.now());
        let mut freed = 0;
        for (id, lease_until) in others.into_iter().filter(|(id, _)| *id != self.id) {
            let path = lock_path(db.path(), &id);
            let ended = is_lock_released(&path);
            let why = match ended {
                true => "its process has ended",
                false if lease_until < now => "its lease has expired",
                false => continue,
            };
            // A hanging process may have written a heartbeat since: then its lease differs.
            let lease = (!ended).then_some(lease_until);
            let runs = db
                .write({
                    let id = id.clone();
                    async move |tx: &mut Tx| store::remove_worker(tx, &id, lease).await
                })
                .await?;
            let Some(runs) = runs else { continue };
            freed += runs;
            tracing::warn!(worker = %id, runs, why, "a worker is dead; its executions were released");
            // A hanging process keeps its lock file: if it recovers, the lock shows that it lives.
            if ended {
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(freed)
    }

    /// Deregister in an orderly stop: no run is held any more.
    #[boxed]
    pub async fn leave(&self, db: &Database) -> Result<()> {
        let id = self.id.clone();
        db.write(async move |tx: &mut Tx| store::remove_worker(tx, &id, None).await).await?;
        let _ = std::fs::remove_file(&self.path);
        Ok(())
    }
}

/// Return whether the lock is free. A file that cannot be opened gives no answer; the lease decides then.
fn is_lock_released(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
        },
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use am_db::{DatabaseSettings, migrate};

    #[tokio::test]
    async fn a_lock_tells_the_living_from_the_dead() {
        let dir = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(1) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        let (clock, ids) = (Clock::system(), IdGenerator::seeded(1));
        migrate(&db, &clock).await.unwrap();
        let lease = Duration::from_secs(60);
        let first = EngineWorker::register(&db, &clock, &ids, lease).await.unwrap();
        let second = EngineWorker::register(&db, &clock, &ids, lease).await.unwrap();
        let count = async || store::list_workers(&mut db.read().await.unwrap()).await.unwrap().len();
        second.reclaim_dead_workers(&db, &clock).await.unwrap();
        assert_eq!(count().await, 2, "both live");
        // The kernel gives the lock back when the process ends; here the file is closed.
        drop(first);
        second.reclaim_dead_workers(&db, &clock).await.unwrap();
        assert_eq!(count().await, 1);
        let later = Clock::from_fn(move || Clock::system().now() + Duration::from_secs(120));
        let third = EngineWorker::register(&db, &later, &ids, lease).await.unwrap();
        third.reclaim_dead_workers(&db, &later).await.unwrap();
        assert_eq!(count().await, 1, "a lease that has run out counts as death, lock or no lock");
        third.leave(&db).await.unwrap();
        assert_eq!(count().await, 0);
        assert!(!lock_path(db.path(), &third.id).exists());
    }
}
