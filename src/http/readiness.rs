//! Readiness: named checks, run at each probe, and a flag that the service is stopping.

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

/// Time limit of a check, after which it has failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers what there is to know although all is well, or why it is not.
type ReadinessCheck = Box<dyn Fn() -> BoxFuture<'static, Result<Option<String>, String>> + Send + Sync>;

/// Builder that collects the checks.
pub struct ReadinessBuilder {
    checks: Vec<(&'static str, ReadinessCheck)>,
    patience: Duration,
}

impl ReadinessBuilder {
    /// Add a check. Its error is shown to clients, so it must not reveal internals.
    #[must_use]
    pub fn check<F>(self, name: &'static str, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.check_with_notice(name, move || {
            let asked = ask();
            async move { asked.await.map(|()| None) }
        })
    }

    /// Add a check that may pass with a notice.
    #[must_use]
    pub fn check_with_notice<F>(mut self, name: &'static str, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<String>, String>> + Send + 'static,
    {
        self.checks.push((name, Box::new(move || Box::pin(ask()))));
        self
    }

    /// Build the handle for probes and the shutdown.
    pub fn build(self) -> Readiness {
        Readiness(Arc::new(ReadinessState {
            checks: self.checks,
            patience: self.patience,
            stopping: AtomicBool::new(false),
        }))
    }
}

/// Readiness of the service: checks, and whether it is stopping.
#[derive(Clone)]
pub struct Readiness(Arc<ReadinessState>);

struct ReadinessState {
    checks: Vec<(&'static str, ReadinessCheck)>,
    patience: Duration,
    stopping: AtomicBool,
}

/// Result of all checks.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadyReport {
    /// Status: `ready`, `not_ready` or `stopping`.
    #[schema(example = "ready")]
    pub status: &'static str,
    /// Results, one entry per check.
    pub checks: Vec<CheckReport>,
}

/// Result of one check.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckReport {
    /// Name of the check.
    #[schema(example = "database")]
    pub name: &'static str,
    /// Whether it has passed.
    pub ok: bool,
    /// Reason of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the service does without although the check has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
}

impl Readiness {
    /// Start building a readiness without checks.
    pub fn builder() -> ReadinessBuilder {
        ReadinessBuilder { checks: Vec::new(), patience: CHECK_TIMEOUT }
    }

    /// Mark the service as stopping: it is not ready from now on.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }

    /// Return whether the service is stopping.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    /// Run all checks concurrently.
    pub async fn report(&self) -> ReadyReport {
        let asked = self.0.checks.iter().map(async |(name, check)| {
            let answer = tokio::time::timeout(self.0.patience, check()).await;
            let (notice, reason) = match answer.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                Ok(notice) => (notice, None),
                Err(reason) => (None, Some(reason)),
            };
            CheckReport { name, ok: reason.is_none(), reason, notice }
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
