//! Requests that change nothing and are asked under an idempotency key all the same.

use serde::{Serialize, de::DeserializeOwned};

use crate::{app::App, http::ApiError};
use am_db::once::{Done, Once};

/// The answer that was given to `once` first, or this one. Without a key nothing is kept.
pub async fn kept<T>(app: &App, once: Option<Once>, answer: T) -> Result<Done<T>, ApiError>
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    if once.is_none() {
        return Ok(Done::fresh(answer));
    }
    let work = async move |_: &mut am_db::Tx| Ok::<T, am_db::Error>(answer);
    Ok(app.db.write_once(&app.clock, once, work).await?)
}
