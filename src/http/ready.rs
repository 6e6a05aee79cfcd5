//! Whether the service can take requests: named checks, asked at each probe, and whether it is stopping.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use serde::Serialize;
use utoipa::ToSchema;

/// A check that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(2);

type Check = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Collects the checks before the service starts.
pub struct ReadinessBuilder {
    checks: Vec<(&'static str, Check)>,
    patience: Duration,
}

impl ReadinessBuilder {
    /// Adds a check; what it answers as an error is shown to whoever asks, so it names no inside.
    #[must_use]
    pub fn check<F>(mut self, name: &'static str, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.checks.push((name, Box::new(move || Box::pin(ask()))));
        self
    }

    /// The handle that probes ask and the shutdown tells.
    pub fn build(self) -> Readiness {
        Readiness(Arc::new(State { checks: self.checks, patience: self.patience, stopping: AtomicBool::new(false) }))
    }
}

/// The checks, and whether the service is stopping.
#[derive(Clone)]
pub struct Readiness(Arc<State>);

struct State {
    checks: Vec<(&'static str, Check)>,
    patience: Duration,
    stopping: AtomicBool,
}

/// What the checks say.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadyReport {
    /// `ready`, `not_ready` or `stopping`.
    #[schema(example = "ready")]
    pub status: &'static str,
    /// One entry a check.
    pub checks: Vec<CheckReport>,
}

/// What one check says.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckReport {
    /// What is checked.
    #[schema(example = "database")]
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Readiness {
    /// No check yet.
    pub fn builder() -> ReadinessBuilder {
        ReadinessBuilder { checks: Vec::new(), patience: PATIENCE }
    }

    /// From now on not ready: the first stage of a stop.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }

    /// Whether the service is stopping.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    /// Asks all checks at once.
    pub async fn report(&self) -> ReadyReport {
        let asked = self.0.checks.iter().map(async |(name, check)| {
            let answer = tokio::time::timeout(self.0.patience, check()).await;
            let reason = answer.unwrap_or_else(|_| Err("no answer in time".to_owned())).err();
            CheckReport { name, ok: reason.is_none(), reason }
        });
        let checks = join_all(asked).await;
        let well = checks.iter().all(|check| check.ok);
        let status = match (self.is_stopping(), well) {
            (true, _) => "stopping",
            (false, true) => "ready",
            (false, false) => "not_ready",
        };
        ReadyReport { status, checks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_failing_or_silent_check_is_enough() {
        let well = Readiness::builder().check("database", async || Ok(())).build();
        assert_eq!(well.report().await.status, "ready");
        let hasty = ReadinessBuilder { checks: Vec::new(), patience: Duration::from_millis(20) };
        let ill = hasty
            .check("database", async || Ok(()))
            .check("workers", async || Err("none is running".to_owned()))
            .check("queue", std::future::pending)
            .build();
        let report = ill.report().await;
        assert_eq!(report.status, "not_ready");
        let reasons: Vec<_> = report.checks.iter().map(|check| check.reason.as_deref()).collect();
        assert_eq!(reasons, [None, Some("none is running"), Some("no answer in time")]);
    }

    #[tokio::test]
    async fn a_stopping_service_is_not_ready() {
        let readiness = Readiness::builder().build();
        readiness.clone().stop();
        assert_eq!(readiness.report().await.status, "stopping");
    }
}
