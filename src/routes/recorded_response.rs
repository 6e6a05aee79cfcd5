//! Requests that change nothing and are asked under an idempotency key all the same.

use serde::{Serialize, de::DeserializeOwned};

use crate::{app::App, http::ApiError};
use am_db::idempotency::{IdempotencyKey, IdempotentResult};

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
