//! Reports: the health of a deployment and of all, what was measured over a time range, and the dashboard.

use std::collections::BTreeMap;

use am_core::boxed;
use am_db::{codec::Timestamp, page::PageRequest, principal::Principal};
use chrono::DateTime;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    DeploymentError, DeploymentService, Result,
    alerts::{DeploymentAlert, DeploymentAlertState},
    configs::own_deployment,
    instances,
    model::{DeploymentDocument, DeploymentStatus, HealthCheckRecord, InstanceDocument, InstanceHealth, InstanceState},
    samples::{
        SampleSums,
        series::{MAX_POINTS, grain_for, parse_range, thin},
        store::samples_since,
    },
    store,
};

/// Deployments and alerts that the dashboard shows at most.
const DASHBOARD_ROWS: u32 = 50;

/// The health of an instance.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = DeploymentInstanceHealth)]
pub struct InstanceHealthReport {
    /// Name of the instance.
    pub instance_id: String,
    /// What its checks find.
    pub health_status: InstanceHealth,
    /// Revision that it serves; null: the coordinator made it.
    pub revision: Option<i64>,
    /// Failed checks in a row.
    pub consecutive_failures: i64,
    /// When it was last checked; null: it was not.
    pub last_health_check: Option<Timestamp>,
    /// Seconds until the last check's answer; null: there was none.
    pub response_time: Option<f64>,
    /// Percent of the time in which it was healthy; null: it was not checked twice.
    pub uptime_percentage: Option<f64>,
    /// Times that its process was started again.
    pub restarts: i64,
    /// The last 100 checks, the oldest first.
    pub health_check_history: Vec<HealthCheckRecord>,
}

/// The health of a deployment.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = DeploymentHealth)]
pub struct DeploymentHealthReport {
    /// Id of the deployment.
    pub deployment_id: String,
    /// `unhealthy` if an instance is, `degraded` if one is degraded or not known, `unknown` without instances, else `healthy`.
    pub overall_health: InstanceHealth,
    /// Where the deployment stands.
    pub status: DeploymentStatus,
    /// Instances that are wanted.
    pub desired_instances: i64,
    /// Instances that there are.
    pub total_instances: u64,
    /// Those that are healthy.
    pub healthy_instances: u64,
    /// Those that are unhealthy.
    pub unhealthy_instances: u64,
    /// Those that are degraded.
    pub degraded_instances: u64,
    /// Those that are not known.
    pub unknown_instances: u64,
    /// When an instance was last checked; null: none was.
    pub last_health_check: Option<Timestamp>,
    /// Its instances that are not gone.
    pub instances: Vec<InstanceHealthReport>,
}

/// What was measured of a deployment in a span of time.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = DeploymentMetricPoint)]
pub struct MetricPoint {
    /// Beginning of the span.
    pub timestamp: Timestamp,
    /// Calls that ended.
    pub requests: i64,
    /// Those of them that failed.
    pub errors: i64,
    /// Percent of the calls that failed; null: there was none.
    pub error_rate: Option<f64>,
    /// Mean seconds of a call; null: there was none.
    pub average_response_time: Option<f64>,
    /// Seconds of the slowest call; null: there was none.
    pub slowest_response_time: Option<f64>,
    /// Processor seconds of all instances.
    pub cpu_seconds: f64,
    /// Mean MiB of memory of an instance; null: none was looked at.
    pub memory_mb: Option<f64>,
    /// Mean percent of the instances that were healthy; null: none was looked at.
    pub healthy_percentage: Option<f64>,
}

/// What was measured of a deployment over a time range.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = DeploymentMetrics)]
pub struct DeploymentMetricsReport {
    /// Id of the deployment.
    pub deployment_id: String,
    /// The time range, as it was asked for.
    pub time_range: String,
    /// Seconds that a point stands for.
    pub point_seconds: i64,
    /// Instances that there are now.
    pub total_instances: u64,
    /// All points together.
    pub aggregated_metrics: MetricPoint,
    /// The points, the oldest first, at most 360. Spans in which nothing was looked at have none.
    pub points: Vec<MetricPoint>,
    /// The instances that there are now, with what was measured of each since it was made.
    pub instance_metrics: Vec<InstanceDocument>,
}

/// A deployment in few words.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeploymentSummary {
    /// Id of the deployment.
    pub deployment_id: String,
    /// Name of the deployment.
    pub deployment_name: String,
    /// Where it stands.
    pub status: DeploymentStatus,
    /// Revision that serves; 0: none.
    pub revision: i64,
    /// Where it is deployed; null: nowhere yet.
    pub environment: Option<String>,
    /// Instances that are wanted.
    pub desired_instances: i64,
    /// Instances that are healthy, as this process sees it.
    pub healthy_instances: u64,
    /// Calls of the last minute, as this process sees it.
    pub requests: i64,
    /// Percent of them that failed; null: there was none.
    pub error_rate: Option<f64>,
    /// Mean seconds of them; null: there was none.
    pub average_response_time: Option<f64>,
    /// Why the last rollout was undone; null: it was not.
    pub error: Option<String>,
}

/// The caller's deployments at a glance.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeploymentDashboard {
    /// The caller's deployments.
    pub total_deployments: i64,
    /// How many there are in each status, among those that are shown.
    pub deployments_by_status: BTreeMap<String, u64>,
    /// Their health, together.
    pub overall_health: InstanceHealth,
    /// Instances that are healthy.
    pub healthy_instances: u64,
    /// Instances that are wanted.
    pub desired_instances: i64,
    /// Calls of the last minute.
    pub requests: i64,
    /// Alerts that nobody has taken note of.
    pub open_alerts: i64,
    /// The newest of them, at most 50.
    pub alerts: Vec<DeploymentAlert>,
    /// The newest deployments, at most 50.
    pub deployments: Vec<DeploymentSummary>,
    /// When it was made.
    pub generated_at: Timestamp,
}

/// Whether the caller's deployments do what they should.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FleetHealthReport {
    /// The health of all of the caller's deployments that have instances or want some, together; `unknown` without one.
    pub overall_health: InstanceHealth,
    /// Name of the supervisor.
    pub supervisor: String,
    /// Whether instances can be started on this host.
    pub can_start: bool,
    /// Why they can't; null: they can.
    pub reason: Option<String>,
    /// Deployments that have instances or want some.
    pub live_deployments: u64,
    /// Instances of all of them.
    pub total_instances: u64,
    /// Those that are healthy.
    pub healthy_instances: u64,
    /// Those that are wanted.
    pub desired_instances: i64,
    /// When this was found.
    pub checked_at: Timestamp,
}

/// Health of several together.
fn overall(found: impl IntoIterator<Item = InstanceHealth>) -> InstanceHealth {
    let mut all = InstanceHealth::Unknown;
    let mut any = false;
    for health in found {
        let worst = |one| match one {
            InstanceHealth::Unhealthy => 2,
            InstanceHealth::Degraded | InstanceHealth::Unknown => 1,
            InstanceHealth::Healthy => 0,
        };
        // Of an instance that is not known, a deployment is degraded.
        let seen = if health == InstanceHealth::Unknown { InstanceHealth::Degraded } else { health };
        if !any || worst(seen) > worst(all) {
            all = seen;
        }
        any = true;
    }
    all
}

impl MetricPoint {
    fn of(at: Timestamp, sums: &SampleSums) -> Self {
        Self {
            timestamp: at,
            requests: sums.requests,
            errors: sums.errors,
            error_rate: sums.error_rate(),
            average_response_time: sums.average_response_time(),
            slowest_response_time: (sums.requests > 0).then_some(sums.slowest_seconds),
            cpu_seconds: sums.cpu_seconds,
            memory_mb: sums.average_memory().map(|bytes| bytes / f64::from(1 << 20)),
            healthy_percentage: sums.healthy_share(),
        }
    }
}

/// A time in seconds since 1970.
fn moment(seconds: i64) -> Timestamp {
    Timestamp(DateTime::from_timestamp(seconds, 0).unwrap_or_default())
}

impl DeploymentService {
    /// The health of a deployment.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`].
    #[boxed]
    pub async fn health(&self, caller: &Principal, id: &str) -> Result<DeploymentHealthReport> {
        let mut conn = self.db().read_list().await?;
        let record = own_deployment(&mut conn, caller, id).await?.document;
        let found = instances::store::shown_instances(&mut conn, id).await?;
        let count = |health| found.iter().filter(|one| one.health_status == health).count() as u64;
        let serving = found.iter().filter(|one| one.state == Some(InstanceState::Serving));
        Ok(DeploymentHealthReport {
            deployment_id: record.id,
            overall_health: overall(serving.map(|one| one.health_status)),
            status: record.status,
            desired_instances: record.desired_instances,
            total_instances: found.len() as u64,
            healthy_instances: count(InstanceHealth::Healthy),
            unhealthy_instances: count(InstanceHealth::Unhealthy),
            degraded_instances: count(InstanceHealth::Degraded),
            unknown_instances: count(InstanceHealth::Unknown),
            last_health_check: found.iter().filter_map(|one| one.last_health_check).max(),
            instances: found.into_iter().map(Into::into).collect(),
        })
    }

    /// What was measured of a deployment over a time range, such as `1h`.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`]; [`DeploymentError::InvalidQuery`] for the time range.
    #[boxed]
    pub async fn metrics(&self, caller: &Principal, id: &str, time_range: &str) -> Result<DeploymentMetricsReport> {
        let seconds = parse_range(time_range).ok_or_else(|| {
            DeploymentError::query("time_range", "must be a number with s, m, h or d, such as 1h, at most 30d")
        })?;
        let mut conn = self.db().read_list().await?;
        own_deployment(&mut conn, caller, id).await?;
        let grain = grain_for(seconds);
        let since = self.0.parts.clock.now().timestamp() - seconds;
        let found = samples_since(&mut conn, id, grain, since).await?;
        let mut all = SampleSums::default();
        found.iter().for_each(|(_, sums)| all.add(sums));
        let (points, point_seconds) = thin(found, grain.seconds, MAX_POINTS);
        let instance_metrics = instances::store::shown_instances(&mut conn, id).await?;
        Ok(DeploymentMetricsReport {
            deployment_id: id.to_owned(),
            time_range: time_range.to_owned(),
            point_seconds,
            total_instances: instance_metrics.len() as u64,
            aggregated_metrics: MetricPoint::of(moment(since), &all),
            points: points.iter().map(|(at, sums)| MetricPoint::of(moment(*at), sums)).collect(),
            instance_metrics,
        })
    }

    /// The caller's deployments at a glance.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn dashboard(&self, caller: &Principal) -> Result<DeploymentDashboard> {
        let page = PageRequest { limit: DASHBOARD_ROWS, ..PageRequest::default() };
        let mut conn = self.db().read_list().await?;
        let (found, total) = store::list_deployments(&mut conn, &caller.id(), (None, None), &page).await?;
        drop(conn);
        let filter = (None, Some(DeploymentAlertState::Open), None);
        let (alerts, open_alerts) = self.alerts(caller, filter, &page).await?;
        let mut by_status: BTreeMap<String, u64> = BTreeMap::new();
        for one in &found {
            *by_status.entry(one.status.to_string()).or_default() += 1;
        }
        let fleet = self.fleet_health(caller);
        let deployments: Vec<DeploymentSummary> = found.into_iter().map(|one| self.summary(one)).collect();
        Ok(DeploymentDashboard {
            total_deployments: total,
            deployments_by_status: by_status,
            overall_health: fleet.overall_health,
            healthy_instances: fleet.healthy_instances,
            desired_instances: fleet.desired_instances,
            requests: deployments.iter().map(|one| one.requests).sum(),
            open_alerts,
            alerts,
            deployments,
            generated_at: self.now(),
        })
    }

    fn summary(&self, document: DeploymentDocument) -> DeploymentSummary {
        let fleet = self.0.live.lock();
        let live = fleet.deployments.get(&document.id);
        let mut minute = SampleSums::default();
        live.into_iter().flat_map(|live| &live.recent).for_each(|sums| minute.add(sums));
        let healthy = |live: &crate::live::LiveDeployment| {
            live.instances.values().filter(|one| one.health == InstanceHealth::Healthy).count() as u64
        };
        DeploymentSummary {
            deployment_id: document.id,
            deployment_name: document.deployment_name,
            status: document.status,
            revision: document.revision,
            environment: document.environment,
            desired_instances: document.desired_instances,
            healthy_instances: live.map_or(0, healthy),
            requests: minute.requests,
            error_rate: minute.error_rate(),
            average_response_time: minute.average_response_time(),
            error: document.error,
        }
    }

    /// Whether the caller's deployments do what they should, as this process sees it.
    pub fn fleet_health(&self, caller: &Principal) -> FleetHealthReport {
        let host = self.0.parts.supervisor.check_host();
        let fleet = self.0.live.lock();
        let own: Vec<_> = fleet.deployments.values().filter(|live| caller.owns(&live.owner_id)).collect();
        let healths: Vec<InstanceHealth> =
            own.iter().flat_map(|live| live.instances.values()).map(|one| one.health).collect();
        FleetHealthReport {
            overall_health: overall(healths.iter().copied()),
            supervisor: self.0.parts.supervisor.name().to_owned(),
            can_start: host.is_ok(),
            reason: host.err(),
            live_deployments: own.len() as u64,
            total_instances: healths.len() as u64,
            healthy_instances: healths.iter().filter(|one| **one == InstanceHealth::Healthy).count() as u64,
            desired_instances: own.iter().map(|live| live.desired).sum(),
            checked_at: self.now(),
        }
    }
}

impl From<InstanceDocument> for InstanceHealthReport {
    fn from(one: InstanceDocument) -> Self {
        Self {
            instance_id: one.instance_id,
            health_status: one.health_status,
            revision: one.revision,
            consecutive_failures: one.consecutive_failures,
            last_health_check: one.last_health_check,
            response_time: one.health_check_history.last().and_then(|check| check.response_time),
            uptime_percentage: one.uptime_percentage,
            restarts: one.restarts,
            health_check_history: one.health_check_history,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::InstanceHealth::{Degraded, Healthy, Unhealthy, Unknown};
    use super::*;

    #[test]
    fn the_worst_instance_decides() {
        assert_eq!(overall([]), Unknown);
        assert_eq!(overall([Healthy, Healthy]), Healthy);
        assert_eq!(overall([Healthy, Unknown]), Degraded);
        assert_eq!(overall([Degraded, Healthy]), Degraded);
        assert_eq!(overall([Unknown, Unhealthy, Healthy]), Unhealthy);
    }
}
