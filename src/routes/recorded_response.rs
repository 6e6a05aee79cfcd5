//! Requests that change nothing and are asked under an idempotency key all the same.

use serde::{Serialize, de::DeserializeOwned};

use crate::{app::App, http::ApiError};
use am_db::idempotency::{IdempotencyKey, IdempotentResult};

/// `answer`, with whether `once` was used for the same request before. Only that it was used is kept, not the answer: for reads
/// whose repetition computes it again.
///
/// # Errors
/// When the key was used for another request.
pub async fn record_read<T>(
    app: &App,
    once: Option<IdempotencyKey>,
    answer: T,
) -> Result<IdempotentResult<T>, ApiError> {
    let recorded = record_response(app, once, serde_json::Value::Null).await?;
    Ok(IdempotentResult { value: answer, replayed: recorded.replayed })
}

/// The answer that was given to `once` first, or this one. Without a key nothing is kept.
pub async fn record_response<T>(
    app: &App,
    once: Option<IdempotencyKey>,
    answer: T,
) -> Result<IdempotentResult<T>, ApiError>
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    if once.is_none() {
        return Ok(IdempotentResult::fresh(answer));
    }
    let work = async move |_: &mut am_db::Tx| Ok::<T, am_db::DatabaseError>(answer);
    Ok(app.db.write_idempotent(&app.clock, once, work).await?)
}
