//! Exactly once: a request that carries an idempotency key leaves its answer in the transaction of its effect.

use serde::{Serialize, de::DeserializeOwned};

use super::{Connection, Database, Error, Result, Tx, codec::Timestamp};
use am_core::ambient::Clock;

/// How long an answer is kept.
pub const KEPT: chrono::Duration = chrono::Duration::hours(24);

/// A request that must take effect once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Whose key it is: the caller's principal.
    pub scope: String,
    /// The key the caller chose.
    pub key: String,
    /// SHA-256 of what was asked; another question under the same key is refused.
    pub fingerprint: String,
}

/// What a write answered, and whether it had been answered before.
#[derive(Clone, Debug)]
pub struct Done<T> {
    /// The answer.
    pub value: T,
    /// True: from the record of the first time; nothing was done now.
    pub replayed: bool,
}

impl<T> Done<T> {
    /// The answer of work done just now.
    pub fn fresh(value: T) -> Self {
        Self { value, replayed: false }
    }

    /// The same standing for another answer.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Done<U> {
        Done { value: change(self.value), replayed: self.replayed }
    }
}

impl Database {
    /// [`Database::write`], at most once for a given `once`.
    ///
    /// # Errors
    /// As [`Database::write`]; [`Error::KeyReused`] when the key was used for another request.
    pub async fn write_once<T, E, F>(
        &self,
        clock: &Clock,
        once: Option<Once>,
        work: F,
    ) -> std::result::Result<Done<T>, E>
    where
        F: AsyncFnOnce(&mut Tx) -> std::result::Result<T, E> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let now = Timestamp(clock.now());
        self.write(async move |tx: &mut Tx| {
            let Some(once) = once else { return Ok(Done::fresh(work(tx).await?)) };
            if let Some(value) = recall(tx.conn().await?, &once, now).await? {
                return Ok(Done { value, replayed: true });
            }
            let value = work(tx).await?;
            record(tx, &once, now, &value).await?;
            Ok(Done::fresh(value))
        })
        .await
    }

    /// What was answered to `once` before, if it was. For work whose preparation may fail by now, though it did not
    /// the first time; [`Database::write_once`] asks again by itself.
    ///
    /// # Errors
    /// [`Error::KeyReused`] when the key was used for another request.
    pub async fn answered<T: DeserializeOwned>(&self, clock: &Clock, once: Option<&Once>) -> Result<Option<Done<T>>> {
        let Some(once) = once else { return Ok(None) };
        let found = recall(&mut *self.read().await?, once, Timestamp(clock.now())).await?;
        Ok(found.map(|value| Done { value, replayed: true }))
    }
}

async fn recall<T: DeserializeOwned>(conn: &mut Connection, once: &Once, now: Timestamp) -> Result<Option<T>> {
    let found: Option<(String, String)> = sqlx::query_as(
        "SELECT fingerprint, answer FROM am_idempotency WHERE scope = ?1 AND key = ?2 AND created_at > ?3",
    )
    .bind(&once.scope)
    .bind(&once.key)
    .bind(Timestamp(now.0 - KEPT))
    .fetch_optional(conn)
    .await?;
    let Some((fingerprint, answer)) = found else { return Ok(None) };
    if fingerprint != once.fingerprint {
        return Err(Error::KeyReused);
    }
    let value = serde_json::from_str(&answer).map_err(|error| Error::Unreadable(format!("am_idempotency: {error}")))?;
    Ok(Some(value))
}

async fn record<T: Serialize>(tx: &mut Tx, once: &Once, now: Timestamp, value: &T) -> Result<()> {
    let answer = serde_json::to_string(value).map_err(|error| Error::Unreadable(error.to_string()))?;
    // One that has expired is written over.
    sqlx::query(
        "INSERT INTO am_idempotency (scope, key, fingerprint, answer, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (scope, key) DO UPDATE SET fingerprint = excluded.fingerprint, answer = excluded.answer, created_at = excluded.created_at",
    )
    .bind(&once.scope)
    .bind(&once.key)
    .bind(&once.fingerprint)
    .bind(answer)
    .bind(now)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Forget answers older than [`KEPT`], a bounded number a call. Answers how many.
///
/// # Errors
/// As [`Database::write`].
pub async fn forget_expired(db: &Database, clock: &Clock) -> Result<u64> {
    let limit = Timestamp(clock.now().checked_sub_signed(KEPT).unwrap_or_default());
    db.write(async move |tx: &mut Tx| {
        let done = sqlx::query(
            "DELETE FROM am_idempotency WHERE (scope, key) IN (SELECT scope, key FROM am_idempotency WHERE created_at <= ?1 LIMIT 1000)",
        )
        .bind(limit)
        .execute(tx.conn().await?)
        .await?;
        Ok(done.rows_affected())
    })
    .await
}
