//! What the store of instances takes and gives.

use am_core::ids::PrincipalId;
use am_db::codec::Timestamp;

use crate::model::{DeploymentStatus, HealthCheckRecord, InstanceHealth};

/// An instance that is to be started.
#[derive(Clone, Debug)]
pub(crate) struct NewInstance<'n> {
    pub id: String,
    pub deployment_id: &'n str,
    pub owner_id: &'n PrincipalId,
    pub instance_id: String,
    pub environment: &'n str,
    pub region: &'n str,
    pub number: i64,
    pub revision: i64,
    pub port: u16,
    pub token_hash: &'n str,
    pub reason: &'n str,
}

/// Whom a token speaks for.
#[derive(Clone, Debug)]
pub(crate) struct InstanceCaller {
    pub deployment_id: String,
    pub revision: i64,
    pub token_hash: String,
    pub instance_id: String,
    pub owner_id: PrincipalId,
}

/// What was found of an instance.
#[derive(Clone, Debug)]
pub(crate) struct InstanceFigures {
    pub id: String,
    pub deployment_id: String,
    pub status: DeploymentStatus,
    pub health: InstanceHealth,
    /// Percent of a core.
    pub cpu_usage: Option<f64>,
    /// Memory in MiB.
    pub memory_usage: Option<i64>,
    pub requests: i64,
    pub errors: i64,
    pub response_seconds: f64,
    pub up_seconds: f64,
    pub down_seconds: f64,
    pub checked_at: Option<Timestamp>,
    pub consecutive_failures: i64,
    pub history: Vec<HealthCheckRecord>,
    pub pid: Option<i64>,
    pub restarts: i64,
}

/// What was found of an instance until now, as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredFigures {
    pub history: Vec<HealthCheckRecord>,
    pub up_seconds: f64,
    pub down_seconds: f64,
    pub requests: i64,
    pub errors: i64,
    pub average_response_time: Option<f64>,
}
