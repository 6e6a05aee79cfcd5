//! Health checks: each instance is asked at its interval, and at once when its process has changed.

use std::time::Duration;

use am_agent_process::protocol::KeptState;
use am_db::{Tx, codec::Timestamp};
use serde::Deserialize;

use crate::{
    DeploymentError, DeploymentService, Result, instances,
    instances::{model::InstanceFigures, store::KEPT_CHECKS},
    live::LiveInstance,
    model::{DeploymentSettingsDocument, DeploymentStatus, HealthCheckRecord, InstanceHealth},
};

/// Time between two checks of an instance that is not known to be healthy.
const EAGER_CHECK: Duration = Duration::from_millis(250);
/// Time that a process has to begin to answer.
const START_GRACE: Duration = Duration::from_secs(10);

/// What a check of an instance found.
#[derive(Debug)]
pub(crate) struct CheckResult {
    deployment: String,
    id: String,
    /// Process that was asked, by pid and start.
    process: Option<(u32, u64)>,
    at: Timestamp,
    /// Seconds until a good answer, or what was wrong.
    found: std::result::Result<f64, String>,
    /// Whether it tells of the end of a process.
    is_end: bool,
}

impl CheckResult {
    /// The end of an instance's process, which counts as a failed check.
    pub(super) fn of_end(
        (deployment, id): (&str, &str),
        successor: Option<(u32, u64)>,
        at: Timestamp,
        how: String,
    ) -> Self {
        let (deployment, id) = (deployment.to_owned(), id.to_owned());
        Self { deployment, id, process: successor, at, found: Err(how), is_end: true }
    }
}

/// What an instance says of itself.
#[derive(Deserialize)]
struct HealthAnswer {
    status: String,
    instance_id: String,
    revision: i64,
}

/// Health after a check, and failed checks in a row: `max_failures` of them make an instance unhealthy. One that was not healthy since
/// its process started is not known until then.
fn health_after(before: (InstanceHealth, i64), good: bool, max_failures: i64) -> (InstanceHealth, i64) {
    if good {
        return (InstanceHealth::Healthy, 0);
    }
    let failures = before.1 + 1;
    let health = match before.0 {
        _ if failures >= max_failures => InstanceHealth::Unhealthy,
        InstanceHealth::Unknown => InstanceHealth::Unknown,
        _ => InstanceHealth::Degraded,
    };
    (health, failures)
}

impl DeploymentService {
    /// Begin the checks of a deployment that are due.
    pub(super) fn begin_checks(&self, id: &str, settings: &DeploymentSettingsDocument) {
        let now = self.0.parts.clock.elapsed();
        let timeout = Duration::from_secs(settings.health_check_timeout.unsigned_abs());
        let mut fleet = self.0.live.lock();
        let Some(live) = fleet.deployments.get_mut(id) else { return };
        for (instance_id, one) in &mut live.instances {
            let due = one.next_check.is_some_and(|at| at <= now) && one.kept == Some(KeptState::Running);
            if !due {
                continue;
            }
            one.next_check = None;
            let url = format!("http://127.0.0.1:{}{}", one.port, settings.health_check_endpoint);
            let wanted = (one.instance_id.clone(), one.revision);
            let (me, deployment, id, process) = (self.clone(), id.to_owned(), instance_id.clone(), one.process);
            tokio::spawn(async move {
                let begun = me.0.parts.clock.elapsed();
                let found = me.ask_health(url, timeout, wanted).await;
                let found = found.map(|()| me.0.parts.clock.elapsed().saturating_sub(begun).as_secs_f64());
                let at = me.now();
                me.0.checked.lock().push(CheckResult { deployment, id, process, at, found, is_end: false });
                me.0.wake.notify_one();
            });
        }
    }

    async fn ask_health(
        &self,
        url: String,
        timeout: Duration,
        (instance, revision): (String, i64),
    ) -> std::result::Result<(), String> {
        let asked = async {
            let answer = self.0.client.get(url).timeout(timeout).send().await?;
            Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.bytes().await?))
        };
        let (status, body) = asked.await.map_err(|error| match error.is_timeout() {
            true => format!("no answer within {} s", timeout.as_secs()),
            false if error.is_connect() => "nothing listens on its port".to_owned(),
            false => "the answer broke off".to_owned(),
        })?;
        if status != 200 {
            return Err(format!("it answered {status}"));
        }
        let said: HealthAnswer = serde_json::from_slice(&body).map_err(|_| "it answered no health".to_owned())?;
        if said.instance_id != instance || said.revision != revision {
            return Err("another process answers on its port".to_owned());
        }
        match said.status.as_str() {
            "healthy" => Ok(()),
            other => Err(format!("it says that it is {other}")),
        }
    }

    /// Take in what checks have found, and store it.
    pub(super) async fn store_checks(&self) -> Result<()> {
        let found = std::mem::take(&mut *self.0.checked.lock());
        let mut figures = Vec::new();
        {
            let now = self.0.parts.clock.elapsed();
            let mut fleet = self.0.live.lock();
            for result in found {
                let live = fleet.deployments.get_mut(&result.deployment);
                let Some(one) = live.and_then(|live| live.instances.get_mut(&result.id)) else { continue };
                // Of a process that is gone: its successor is checked by itself.
                if one.process != result.process {
                    one.next_check = Some(Duration::ZERO);
                    continue;
                }
                one.next_check = Some(now + EAGER_CHECK);
                figures.extend(one.take_check(result, now));
            }
        }
        if figures.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let work = async move |tx: &mut Tx| {
            for one in &figures {
                instances::store::put_figures(tx, one, now).await?;
            }
            Ok(())
        };
        self.db().write::<(), DeploymentError, _>(work).await?;
        // Where calls may go has changed.
        self.0.wake.notify_one();
        Ok(())
    }

    /// Set when each instance of a deployment is checked next, by its interval and its health.
    pub(super) fn plan_checks(&self, id: &str, settings: &DeploymentSettingsDocument) {
        let interval = Duration::from_secs(settings.health_check_interval.unsigned_abs());
        let mut fleet = self.0.live.lock();
        let Some(live) = fleet.deployments.get_mut(id) else { return };
        for one in live.instances.values_mut() {
            let calm = one.health == InstanceHealth::Healthy;
            if let (true, Some(_), Some(checked)) = (calm, one.next_check, one.checked) {
                one.next_check = Some(checked + interval);
            }
        }
    }
}

impl LiveInstance {
    /// Take in a check. `None`: it tells nothing, since the process is still starting.
    fn take_check(&mut self, result: CheckResult, now: Duration) -> Option<InstanceFigures> {
        let good = result.found.is_ok();
        let starts = self.health == InstanceHealth::Unknown && now.saturating_sub(self.born) < START_GRACE;
        if !good && starts && !result.is_end {
            return None;
        }
        (self.health, self.failures) = health_after((self.health, self.failures), good, self.max_failures);
        if self.kept == Some(KeptState::GivenUp) {
            self.health = InstanceHealth::Unhealthy;
        }
        if let Some(before) = self.checked {
            let passed = now.saturating_sub(before).as_secs_f64();
            *(if good { &mut self.up_seconds } else { &mut self.down_seconds }) += passed;
        }
        self.checked = Some(now);
        while self.history.len() >= KEPT_CHECKS {
            self.history.pop_front();
        }
        let (response_time, error) = match result.found {
            Ok(seconds) => (Some(seconds), None),
            Err(error) => (None, Some(error)),
        };
        self.history.push_back(HealthCheckRecord { timestamp: result.at, status: self.health, response_time, error });
        Some(InstanceFigures {
            id: result.id,
            deployment_id: result.deployment,
            status: match (self.health, self.kept) {
                (_, Some(KeptState::GivenUp)) => DeploymentStatus::Failed,
                (_, Some(KeptState::Waiting)) => DeploymentStatus::Retrying,
                (InstanceHealth::Unknown, _) => DeploymentStatus::Deploying,
                _ => DeploymentStatus::Deployed,
            },
            health: self.health,
            cpu_usage: self.cpu_usage,
            memory_usage: self.memory_bytes.map(|bytes| (bytes >> 20).cast_signed()),
            requests: self.requests,
            errors: self.errors,
            response_seconds: self.response_seconds,
            up_seconds: self.up_seconds,
            down_seconds: self.down_seconds,
            checked_at: Some(result.at),
            consecutive_failures: self.failures,
            history: self.history.iter().cloned().collect(),
            pid: self.process.map(|(pid, _)| i64::from(pid)),
            restarts: self.restarts.cast_signed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::InstanceHealth::{Degraded, Healthy, Unhealthy, Unknown};
    use super::*;

    #[test]
    fn checks_in_a_row_decide() {
        let mut state = (Unknown, 0);
        let mut seen = Vec::new();
        for good in [false, true, false, false, false, false, true] {
            state = health_after(state, good, 3);
            seen.push(state);
        }
        let wanted =
            [(Unknown, 1), (Healthy, 0), (Degraded, 1), (Degraded, 2), (Unhealthy, 3), (Unhealthy, 4), (Healthy, 0)];
        assert_eq!(seen, wanted);
        assert_eq!(health_after((Unknown, 2), false, 3), (Unhealthy, 3));
    }
}
