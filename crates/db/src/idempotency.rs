//! Idempotent writes: a request with an idempotency key stores its answer in the same transaction as its effect.

use serde::{Serialize, de::DeserializeOwned};

use super::{Connection, Database, DatabaseError, Result, Tx, bulk_insert::RowBatch, codec::Timestamp};
use crate::{insert, push_row, sql};
use am_core::ambient::Clock;
use futures_util::{FutureExt as _, future::BoxFuture};

/// Retention of idempotency keys and their answers.
pub const IDEMPOTENCY_RETENTION: chrono::Duration = chrono::Duration::hours(24);

/// Idempotency key of a request, which makes it take effect once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Principal of the caller; keys of different callers are independent.
    pub scope: String,
    /// Key chosen by the caller.
    pub key: String,
    /// SHA-256 of the request; another request under the same key is refused.
    pub fingerprint: String,
}

/// Answer of an idempotent write, with whether it was replayed.
#[derive(Clone, Debug)]
pub struct IdempotentResult<T> {
    /// Answer of the write.
    pub value: T,
    /// True when the answer was stored by an earlier request and nothing was done now.
    pub replayed: bool,
}

impl<T> IdempotentResult<T> {
    /// The answer of work that was done now.
    pub fn fresh(value: T) -> Self {
        Self { value, replayed: false }
    }

    /// Convert the answer and keep the replay flag.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> IdempotentResult<U> {
        IdempotentResult { value: change(self.value), replayed: self.replayed }
    }
}

impl Database {
    /// Run [`Database::write`] at most once for a given `once`.
    ///
    /// # Errors
    /// Same as [`Database::write`]; [`DatabaseError::IdempotencyKeyReused`] when the key was used for another request.
    pub async fn write_idempotent<T, E, F>(
        &self,
        clock: &Clock,
        once: Option<IdempotencyKey>,
        work: F,
    ) -> std::result::Result<IdempotentResult<T>, E>
    where
        F: AsyncFnOnce(&mut Tx) -> std::result::Result<T, E> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let now = Timestamp(clock.now());
        self.write(async move |tx: &mut Tx| {
            let Some(once) = once else { return Ok(IdempotentResult::fresh(work(tx).await?)) };
            if let Some(answer) = find_answer(tx.conn().await?, &once, now).await? {
                return Ok(IdempotentResult { value: parse_answer(&answer)?, replayed: true });
            }
            let value = work(tx).await?;
            let answer =
                serde_json::to_string(&value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
            record_answer(tx, once, now, answer).await?;
            Ok(IdempotentResult::fresh(value))
        })
        .await
    }

    /// The stored answer for `once`, `None` if there is none. For work whose preparation may fail at a repetition
    /// although it succeeded the first time; [`Database::write_idempotent`] looks up the answer itself.
    ///
    /// # Errors
    /// Returns [`DatabaseError::IdempotencyKeyReused`] when the key was used for another request.
    pub async fn answered<T: DeserializeOwned>(
        &self,
        clock: &Clock,
        once: Option<&IdempotencyKey>,
    ) -> Result<Option<IdempotentResult<T>>> {
        let Some(once) = once else { return Ok(None) };
        let found = find_answer(&mut *self.read().await?, once, Timestamp(clock.now())).await?;
        let Some(answer) = found else { return Ok(None) };
        Ok(Some(IdempotentResult { value: parse_answer(&answer)?, replayed: true }))
    }
}

impl Database {
    /// Write what was prepared from a reader's view, with its answer for `once`, and run `after` once it is durable. Such writes of
    /// many requests that wait at the same time are one statement for each kind of row. `Ok(None)`: a row is there already, or a
    /// guard of the database refuses one, so that what was read has changed since, or something else is wrong that only a look at
    /// the rows under the write lock tells ([`Database::write_idempotent`]); nothing was written.
    ///
    /// # Errors
    /// Same as [`Database::write`], but for what the rows themselves are refused for.
    pub async fn write_prepared<T: Serialize>(
        &self,
        clock: &Clock,
        once: Option<&IdempotencyKey>,
        (mut rows, value): (RowBatch, T),
        after: impl FnOnce() + Send + 'static,
    ) -> Result<Option<IdempotentResult<T>>> {
        if let Some(once) = once {
            let answer =
                serde_json::to_string(&value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
            // One that is there, expired or not, is a matter for who looks.
            push_row!(rows, "am_idempotency" {
                scope: &once.scope,
                key: &once.key,
                fingerprint: &once.fingerprint,
                answer: answer,
                created_at: Timestamp(clock.now()),
            });
        }
        match self.insert(rows, after).await {
            Ok(()) => Ok(Some(IdempotentResult::fresh(value))),
            Err(DatabaseError::Duplicate(_) | DatabaseError::Other(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Store `value` as the answer for `once` within a transaction that has its effect. For work with a key of its own
/// beside the client's.
///
/// # Errors
/// Returns [`DatabaseError::IdempotencyKeyReused`] when the key was used for another request.
pub async fn record_result<T: Serialize>(tx: &mut Tx, once: &IdempotencyKey, now: Timestamp, value: &T) -> Result<()> {
    if find_answer(tx.conn().await?, once, now).await?.is_some() {
        return Ok(());
    }
    let answer = serde_json::to_string(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    record_answer(tx, once.clone(), now, answer).await
}

fn find_answer<'a>(
    conn: &'a mut Connection,
    once: &'a IdempotencyKey,
    now: Timestamp,
) -> BoxFuture<'a, Result<Option<String>>> {
    let found = async move {
        let found =
            sql!("SELECT fingerprint, answer FROM am_idempotency WHERE scope = $1 AND key = $2 AND created_at > $3")
                .bind(&once.scope)
                .bind(&once.key)
                .bind(Timestamp(now.0 - IDEMPOTENCY_RETENTION));
        let found: Option<(String, String)> = found.fetch_optional(conn).await?;
        match found {
            Some((fingerprint, _)) if fingerprint != once.fingerprint => Err(DatabaseError::IdempotencyKeyReused),
            found => Ok(found.map(|(_, answer)| answer)),
        }
    };
    found.boxed()
}

fn parse_answer<T: DeserializeOwned>(answer: &str) -> Result<T> {
    serde_json::from_str(answer).map_err(|error| DatabaseError::InvalidValue(format!("am_idempotency: {error}")))
}

fn record_answer(tx: &mut Tx, once: IdempotencyKey, now: Timestamp, answer: String) -> BoxFuture<'_, Result<()>> {
    let recorded = async move {
        // An expired record is overwritten.
        insert!("am_idempotency" {
            scope: &once.scope,
            key: &once.key,
            fingerprint: &once.fingerprint,
            answer: answer,
            created_at: now,
        } update on (scope, key))
        .execute(tx.conn().await?)
        .await?;
        Ok(())
    };
    recorded.boxed()
}

/// Answers that are deleted at once, some milliseconds of the write lock.
pub const EXPIRED_BATCH: u64 = 500;

/// Delete answers older than [`IDEMPOTENCY_RETENTION`], at most [`EXPIRED_BATCH`] per call. Returns their number.
///
/// # Errors
/// Same as [`Database::write`].
pub async fn delete_expired_results(db: &Database, clock: &Clock) -> Result<u64> {
    let limit = Timestamp(clock.now().checked_sub_signed(IDEMPOTENCY_RETENTION).unwrap_or_default());
    db.write(async move |tx: &mut Tx| {
        sql!(
            "DELETE FROM am_idempotency WHERE (scope, key) IN (SELECT scope, key FROM am_idempotency WHERE created_at <= $1 LIMIT $2)",
        )
        .bind(limit)
        .bind(EXPIRED_BATCH.cast_signed())
        .execute(tx.conn().await?)
        .await
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use super::*;
    use crate::{DatabaseSettings, migrate};

    fn key(name: &str) -> IdempotencyKey {
        IdempotencyKey { scope: "caller".into(), key: name.into(), fingerprint: "print".into() }
    }

    fn thing(id: i64) -> RowBatch {
        let mut rows = RowBatch::default();
        push_row!(rows, "am_prepared_things" { id: id });
        rows
    }

    #[tokio::test]
    async fn prepared_rows_are_written_with_their_answer_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_millis(200) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        let clock = Clock::system();
        migrate(&db, &clock).await.unwrap();
        db.write(async |tx: &mut Tx| {
            let table = "CREATE TABLE am_prepared_things (id INTEGER PRIMARY KEY CHECK (id < 100))";
            sqlx::query(table).execute(tx.conn().await?).await?;
            Ok::<_, DatabaseError>(())
        })
        .await
        .unwrap();
        let hooks = Arc::new(AtomicUsize::new(0));
        let write = async |id: i64, once: Option<&IdempotencyKey>| {
            let hooks = hooks.clone();
            let after = move || {
                hooks.fetch_add(1, Ordering::Relaxed);
            };
            db.write_prepared(&clock, once, (thing(id), id), after).await.unwrap().map(|done| done.value)
        };
        assert_eq!(write(1, None).await, Some(1));
        assert_eq!(write(2, Some(&key("two"))).await, Some(2));
        assert_eq!(db.answered::<i64>(&clock, Some(&key("two"))).await.unwrap().unwrap().value, 2);
        // The key was used, the row is there, a rule of the database is broken.
        assert_eq!(write(3, Some(&key("two"))).await, None);
        assert_eq!(write(2, Some(&key("three"))).await, None);
        assert_eq!(write(100, Some(&key("three"))).await, None);
        assert!(db.answered::<i64>(&clock, Some(&key("three"))).await.unwrap().is_none());
        let stored: Vec<i64> = sql!("SELECT id FROM am_prepared_things ORDER BY id")
            .fetch_values(&mut db.read().await.unwrap())
            .await
            .unwrap();
        assert_eq!(stored, [1, 2]);
        assert_eq!(hooks.load(Ordering::Relaxed), 2, "what follows a write follows one that is durable");
    }
}
