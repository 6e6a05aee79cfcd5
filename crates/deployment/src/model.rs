//! Deployments and their instances, as they are stored and answered.

use am_core::ids::{PrincipalId, WorkflowId};
use am_db::{
    codec::{JsonText, Timestamp},
    idempotency::IdempotencyKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{alerts::AlertThresholds, rollout::Rollout, scaling::ScalingPolicy};

am_db::stored_enum! {
    /// Status of a deployment or of an instance, in the coordinator's words.
    pub enum DeploymentStatus {
        /// Nothing was started yet.
        Pending = "PENDING" / "pending",
        /// A rollout is under way.
        Deploying = "DEPLOYING" / "deploying",
        /// A revision serves.
        Deployed = "DEPLOYED" / "deployed",
        /// No revision serves, since the first rollout was undone.
        Failed = "FAILED" / "failed",
        /// It has ended and is started again.
        Retrying = "RETRYING" / "retrying",
        /// It has ended and stays so.
        Terminated = "TERMINATED" / "terminated",
    }
}

am_db::stored_enum! {
    /// Health of an instance or of a deployment.
    pub enum InstanceHealth {
        /// The last check was good.
        Healthy = "healthy" / "healthy",
        /// `max_failures` checks in a row failed, or the supervisor has given it up.
        Unhealthy = "unhealthy" / "unhealthy",
        /// The last check failed, and not yet too many in a row. A deployment: some instance is not known.
        Degraded = "degraded" / "degraded",
        /// It was not checked since it started.
        Unknown = "unknown" / "unknown",
    }
}

am_db::stored_enum! {
    /// Whether calls may go to an instance.
    pub enum InstanceState {
        /// It is wanted.
        Serving = "SERVING" / "serving",
        /// It gets no more calls, and ends.
        Draining = "DRAINING" / "draining",
        /// It has no process.
        Gone = "GONE" / "gone",
    }
}

am_db::stored_enum! {
    /// State of a revision of a deployment.
    pub enum RevisionState {
        /// It is being rolled out.
        Candidate = "CANDIDATE" / "candidate",
        /// It serves calls.
        Active = "ACTIVE" / "active",
        /// It served before.
        Superseded = "SUPERSEDED" / "superseded",
        /// Its rollout was undone.
        Undone = "UNDONE" / "undone",
    }
}

/// How instances of a deployment are started and checked: what the coordinator's row says of them, and what a revision keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentSettingsDocument {
    /// Description for people.
    pub description: String,
    /// Version of the deployment, a word of its owner's.
    pub version: String,
    /// Names of the environments that it may be deployed to; empty: any.
    pub target_environments: Vec<String>,
    /// Names of regions; kept, and `local` is where instances run.
    pub deployment_regions: Vec<String>,
    /// Cores that an instance is meant to have; its use of the processor is measured against them.
    pub min_cpu_cores: f64,
    /// Memory for an instance's data in MiB. The system refuses an instance more.
    pub min_memory_mb: i64,
    /// Storage in GB; kept, as instances write none.
    pub min_storage_gb: i64,
    /// Whether a GPU is asked for; kept, as steps get theirs from the service.
    pub requires_gpu: bool,
    /// Memory of that GPU in MiB; kept. Null: none is asked for.
    pub gpu_memory_mb: Option<i64>,
    /// Fewest instances; 0 lets the last one end when there are no calls.
    pub min_instances: i64,
    /// Maximum number of instances.
    pub max_instances: i64,
    /// Whether the number of instances follows the load.
    pub auto_scaling: bool,
    /// How it does.
    pub scaling_policy: ScalingPolicy,
    /// Path that health checks ask.
    pub health_check_endpoint: String,
    /// Seconds between two checks of an instance.
    pub health_check_interval: i64,
    /// Seconds after which a check has failed.
    pub health_check_timeout: i64,
    /// Failed checks in a row after which an instance is unhealthy.
    pub max_failures: i64,
    /// How a new revision takes the place of the old one, by its word: `rolling`, `blue-green` or `canary`.
    pub rollout_strategy: String,
    /// Whether a revision may be rolled back.
    pub rollback_enabled: bool,
    /// Seconds after which a rollout is undone.
    pub deployment_timeout: i64,
    /// Whether samples of the calls are kept.
    pub enable_metrics: bool,
    /// Kept; instances write their own faults only.
    pub enable_logging: bool,
    /// Kept; calls are traced by the service.
    pub enable_tracing: bool,
    /// Kept for clients; it changes nothing.
    pub log_level: String,
}

/// A deployment: its configuration, and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AgentDeploymentConfig)]
pub struct DeploymentDocument {
    /// Id of the deployment: `deploy_` and hexadecimal digits.
    pub id: String,
    /// Id of the workflow that its instances serve.
    pub workflow_id: WorkflowId,
    /// Name of the deployment, which begins its instances' names.
    pub deployment_name: String,
    /// How instances are started and checked.
    #[serde(flatten)]
    pub settings: DeploymentSettingsDocument,
    /// Where it stands.
    pub status: DeploymentStatus,
    /// When a revision last began to serve; null: none has.
    pub deployment_time: Option<Timestamp>,
    /// When an instance was last checked; null: none was.
    pub last_health_check: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Principal that made it.
    pub owner_id: PrincipalId,
    /// Where it is deployed; null: nowhere yet.
    pub environment: Option<String>,
    /// Revision that serves; 0: none.
    pub revision: i64,
    /// Instances that are wanted.
    pub desired_instances: i64,
    /// Ports that its instances take, both included.
    pub port_range: [u16; 2],
    /// Limits from which its figures raise alerts.
    pub alert_thresholds: AlertThresholds,
    /// The rollout under way; null: none.
    pub rollout: Option<Rollout>,
    /// Why the last rollout was undone; null: it was not.
    pub error: Option<String>,
}

/// A check of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentHealthCheck)]
pub struct HealthCheckRecord {
    /// When it was made.
    pub timestamp: Timestamp,
    /// What it found.
    pub status: InstanceHealth,
    /// Seconds until the answer; null: there was none.
    pub response_time: Option<f64>,
    /// What was wrong; null: nothing.
    pub error: Option<String>,
}

/// An instance of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AgentDeploymentInstance)]
pub struct InstanceDocument {
    /// Id of the instance.
    pub id: String,
    /// Id of its deployment.
    pub deployment_id: String,
    /// Name of the instance: the deployment's, the environment and a number.
    pub instance_id: String,
    /// Where it is deployed.
    pub environment: String,
    /// Region that it runs in.
    pub region: String,
    /// What its supervisor does with it.
    pub status: DeploymentStatus,
    /// What its checks find.
    pub health_status: InstanceHealth,
    /// Address that only this host reaches; null: it has ended.
    pub endpoint_url: Option<String>,
    /// Address within the host; null: it has ended.
    pub internal_ip: Option<String>,
    /// Address for others; null: there is none, calls go through the service.
    pub external_ip: Option<String>,
    /// Port; null: it has ended.
    pub port: Option<i64>,
    /// Processor time in percent of a core, since the check before; null: not measured.
    pub cpu_usage: Option<f64>,
    /// Memory in MiB; null: not measured.
    pub memory_usage: Option<i64>,
    /// Storage; null, as instances write none.
    pub disk_usage: Option<i64>,
    /// Use of a GPU; null, as instances have none.
    pub gpu_usage: Option<f64>,
    /// Calls that this service sent to it and that have ended.
    pub request_count: i64,
    /// Those of them that failed.
    pub error_count: i64,
    /// Mean seconds of a call; null: there was none.
    pub average_response_time: Option<f64>,
    /// Percent of the time since its first check in which it was healthy; null: it was not checked twice.
    pub uptime_percentage: Option<f64>,
    /// When it was last checked; null: it was not.
    pub last_health_check: Option<Timestamp>,
    /// Failed checks in a row.
    pub consecutive_failures: i64,
    /// The last 100 checks, the oldest first.
    pub health_check_history: Vec<HealthCheckRecord>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Revision that it serves; null: the coordinator made it.
    pub revision: Option<i64>,
    /// Whether calls may go to it; null: the coordinator made it.
    pub state: Option<InstanceState>,
    /// Its process; null: none runs.
    pub pid: Option<i64>,
    /// Times that its process was started again.
    pub restarts: i64,
    /// Why it is as it is; null: the coordinator made it.
    pub reason: Option<String>,
}

/// A revision of a deployment: a workflow and a configuration as they were deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentRevision)]
pub struct RevisionDocument {
    /// Its number, from 1.
    pub number: i64,
    /// Where it stands.
    pub state: RevisionState,
    /// Version of the workflow that it holds: its ETag at that time.
    pub workflow_etag: String,
    /// Configuration that its instances have.
    pub settings: DeploymentSettingsDocument,
    /// Why it was made.
    pub reason: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it first served; null: it has not.
    pub promoted_at: Option<Timestamp>,
    /// When it served no longer, or was undone; null: it has not.
    pub ended_at: Option<Timestamp>,
}

/// Something that changed of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentChange)]
pub struct ChangeDocument {
    /// Its number within the deployment.
    pub seq: i64,
    /// What happened, in a word: `deploy`, `promote`, `undo`, `scale`, `instance_started`, ...
    pub kind: String,
    /// Revision that it is about; null: none.
    pub revision: Option<i64>,
    /// Why it happened.
    pub reason: String,
    /// When it happened.
    pub created_at: Timestamp,
}

/// A deployment's row as this service works with it.
#[derive(Clone, Debug)]
pub(crate) struct DeploymentRecord {
    pub document: DeploymentDocument,
    /// Number of its newest revision.
    pub last_revision: i64,
    /// Whether it has instances, or wants some.
    pub live: bool,
}

/// An instance's own row: what supervision needs.
#[derive(Clone, Debug)]
pub(crate) struct InstanceRecord {
    pub id: String,
    pub number: i64,
    pub revision: i64,
    pub port: i64,
    pub state: InstanceState,
    pub instance_id: String,
    pub health: InstanceHealth,
    pub consecutive_failures: i64,
    pub draining_at: Option<Timestamp>,
}

/// A revision as instances are started from it and calls are run.
#[derive(Clone, Debug)]
pub(crate) struct RevisionRecord {
    pub number: i64,
    pub workflow: JsonText,
    pub workflow_etag: String,
}

/// A workflow as it is at one moment.
#[derive(Clone, Debug)]
pub struct WorkflowSnapshot {
    /// Its row, as JSON.
    pub workflow: Value,
    /// What tells two of them apart.
    pub etag: String,
}

/// A run of a snapshot, for an instance.
#[derive(Clone, Debug)]
pub struct SnapshotRun {
    /// Principal that the run belongs to.
    pub owner_id: PrincipalId,
    /// The workflow, as a snapshot has it.
    pub workflow: Value,
    /// Inputs of the run.
    pub inputs: Map<String, Value>,
    /// Key under which it runs once; `None`: each call runs.
    pub once: Option<IdempotencyKey>,
    /// Time to wait for its end.
    pub wait: std::time::Duration,
}

/// What became of a run, as callers of an instance see it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentCallAnswer)]
pub struct SnapshotAnswer {
    /// Instance that took the call.
    pub instance_id: String,
    /// Revision that was run.
    pub revision: i64,
    /// Execution that was run.
    pub execution_id: String,
    /// Its status: `completed`, `failed`, or another where it goes on.
    pub status: String,
    /// Results by step; null: it has not completed.
    #[schema(value_type = Option<Object>)]
    pub result: Value,
    /// Why it failed; null: it did not.
    pub error: Option<String>,
    /// Whether an earlier call with the same key was answered so.
    #[serde(skip)]
    pub replayed: bool,
}
