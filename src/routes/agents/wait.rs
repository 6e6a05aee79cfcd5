//! The query parameter `wait` of routes that start or show work.

use std::time::Duration;

use serde::Deserialize;
use utoipa::IntoParams;

use crate::{app::App, http::ApiError};

/// How long to wait before the answer.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Seconds to wait for the end, 0 or more. The answer comes when it is reached or the time is up; the wait is cut
    /// a little below the server's request timeout. Without it the answer comes at once.
    #[param(minimum = 0)]
    wait: Option<f64>,
}

impl WaitQuery {
    /// The wait, kept below the request timeout, so that the answer still gets out.
    pub fn of(&self, app: &App) -> Result<Option<Duration>, ApiError> {
        let Some(seconds) = self.wait else { return Ok(None) };
        let wait = Duration::try_from_secs_f64(seconds).map_err(|_| {
            ApiError::invalid_field(
                vec!["query".into(), "wait".into()],
                "Input should be a number of seconds from 0",
                "value_error",
            )
        })?;
        let longest = app.shared.config.request_timeout;
        Ok(Some(wait.min(longest.saturating_sub((longest / 10).min(Duration::from_secs(2))))))
    }
}
