//! Samples of what was measured, and the alerts that they raise.

use std::collections::BTreeMap;

use am_db::Tx;

use super::SAMPLE_EVERY;
use crate::{
    DeploymentError, DeploymentService, Result,
    alerts::{AlertChange, AlertThresholds, DeploymentAlertRule, DeploymentAlertSeverity},
    model::{DeploymentRecord, DeploymentStatus, InstanceHealth},
    samples::{self, SampleSums},
};

/// A figure that may raise an alert.
struct JudgedFigure {
    rule: DeploymentAlertRule,
    severity: Option<DeploymentAlertSeverity>,
    value: f64,
    message: String,
}

/// An alert's change that is to be stored.
type AlertNews = (DeploymentAlertRule, AlertChange, f64, String);

/// What the last minute of a deployment says, rule by rule. A rule whose figure was not measured has none.
fn judge(
    limits: &AlertThresholds,
    minute: &SampleSums,
    (cores, memory_mb): (f64, i64),
    (healthy, desired): (i64, i64),
) -> Vec<JudgedFigure> {
    let mut found = Vec::new();
    let mut add = |rule, severity, value: f64, message: String| {
        found.push(JudgedFigure { rule, severity, value, message });
    };
    if minute.instances > 0 {
        // Processor seconds of all instances over the seconds that all of them were looked at.
        let seconds = minute.instances as f64 * SAMPLE_EVERY.as_secs_f64();
        let cpu = minute.cpu_seconds * 100.0 / (seconds * cores);
        let text = format!("instances use {cpu:.1} % of {cores} cores each");
        add(DeploymentAlertRule::CpuUsage, limits.cpu_usage.judge(cpu), cpu, text);
        let memory = minute.average_memory().unwrap_or(0.0) * 100.0 / (memory_mb as f64 * f64::from(1 << 20));
        let text = format!("instances use {memory:.1} % of {memory_mb} MiB each");
        add(DeploymentAlertRule::MemoryUsage, limits.memory_usage.judge(memory), memory, text);
    }
    // Without a call there is nothing wrong with calls.
    let rate = minute.error_rate().unwrap_or(0.0);
    let text = format!("{} of {} calls failed within a minute", minute.errors, minute.requests);
    add(DeploymentAlertRule::ErrorRate, limits.error_rate.judge(rate), rate, text);
    let mean = minute.average_response_time().unwrap_or(0.0);
    add(
        DeploymentAlertRule::ResponseTime,
        limits.response_time.judge(mean),
        mean,
        format!("calls took {mean:.3} s on average within a minute"),
    );
    let severity = match (healthy, desired) {
        (_, 0) => None,
        (0, _) => Some(DeploymentAlertSeverity::Critical),
        (healthy, desired) if healthy < desired => Some(DeploymentAlertSeverity::High),
        _ => None,
    };
    let ill = (desired - healthy).max(0);
    add(
        DeploymentAlertRule::InstanceHealth,
        severity,
        ill as f64,
        format!("{ill} of {desired} instances are not healthy"),
    );
    found
}

impl DeploymentService {
    /// Store a sample of each deployment, and what becomes of its alerts.
    pub(super) async fn sample(&self, records: &[DeploymentRecord]) -> Result<()> {
        let at = self.0.parts.clock.now().timestamp();
        let mut taken = Vec::new();
        let mut counted: BTreeMap<InstanceHealth, i64> =
            InstanceHealth::ALL.iter().map(|health| (*health, 0)).collect();
        {
            let mut fleet = self.0.live.lock();
            for record in records {
                let Some(live) = fleet.deployments.get_mut(&record.document.id) else { continue };
                live.instances.values().for_each(|one| *counted.entry(one.health).or_default() += 1);
                let settings = &record.document.settings;
                let used: f64 = live.instances.values().filter_map(|one| one.cpu_usage).sum();
                let sums = live.take_sample(used / 100.0 * SAMPLE_EVERY.as_secs_f64());
                let mut minute = SampleSums::default();
                live.recent.iter().for_each(|sums| minute.add(sums));
                let mut news: Vec<AlertNews> = Vec::new();
                // While a rollout is under way instances come and go.
                if record.document.status == DeploymentStatus::Deployed {
                    let size = (settings.min_cpu_cores, settings.min_memory_mb);
                    let limits = &record.document.alert_thresholds;
                    for figure in judge(limits, &minute, size, (sums.healthy, record.document.desired_instances)) {
                        let track = live.tracks.entry(figure.rule).or_default();
                        let change = track.observe(figure.severity);
                        news.extend(change.map(|change| (figure.rule, change, figure.value, figure.message)));
                    }
                }
                let kept = settings.enable_metrics.then_some(sums);
                taken.push((record.document.id.clone(), record.document.owner_id.clone(), kept, news));
            }
        }
        for (health, count) in counted {
            self.0.metrics.instances.get_or_create(&[("health", health.to_string())]).set(count);
        }
        let (me, now) = (self.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            for (id, owner, sums, news) in taken {
                if let Some(sums) = sums {
                    samples::store::add_sample(tx, &id, at, &sums).await?;
                }
                for (rule, change, value, message) in news {
                    me.change_alert(tx, (&id, &owner), (rule, change), (value, message), now).await?;
                }
            }
            Ok(())
        };
        self.db().write::<(), DeploymentError, _>(work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeploymentAlertSeverity::{Critical, High};

    fn severities(minute: SampleSums, health: (i64, i64)) -> Vec<(DeploymentAlertRule, DeploymentAlertSeverity)> {
        let found = judge(&AlertThresholds::default(), &minute, (1.0, 100), health);
        found.into_iter().filter_map(|figure| Some((figure.rule, figure.severity?))).collect()
    }

    #[test]
    fn figures_are_judged_by_their_limits() {
        let calm = SampleSums { requests: 100, errors: 4, response_seconds: 100.0, ..SampleSums::default() };
        assert!(severities(calm, (3, 3)).is_empty());
        assert!(severities(SampleSums::default(), (0, 0)).is_empty(), "nothing is wrong with what is scaled to zero");
        let slow = SampleSums { requests: 100, errors: 10, response_seconds: 200.0, ..SampleSums::default() };
        let wanted = [(DeploymentAlertRule::ErrorRate, Critical), (DeploymentAlertRule::ResponseTime, High)];
        assert_eq!(severities(slow, (3, 3)), wanted);
        // Two instances, six looks each: 108 of 120 seconds of one core each, and 90 of 100 MiB.
        let busy = SampleSums {
            cpu_seconds: 108.0,
            memory_bytes: 6.0 * 90.0 * 1_048_576.0,
            instances: 12,
            looks: 6,
            ..SampleSums::default()
        };
        let wanted = [(DeploymentAlertRule::CpuUsage, Critical), (DeploymentAlertRule::MemoryUsage, High)];
        assert_eq!(severities(busy, (2, 2)), wanted);
        assert_eq!(severities(SampleSums::default(), (0, 2)), [(DeploymentAlertRule::InstanceHealth, Critical)]);
        assert_eq!(severities(SampleSums::default(), (1, 2)), [(DeploymentAlertRule::InstanceHealth, High)]);
    }
}
