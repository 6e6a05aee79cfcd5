//! An agent as it is registered: its own statements, and measured figures.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::profile::AgentProfile;
use crate::model::StepType;
use am_core::{
    ids::{AgentId, PrincipalId},
    money::Money,
};
use am_db::{
    codec::{JsonText, Timestamp},
    owner,
    page::PageRequest,
};

am_db::stored_enum! {
    /// Type of a sub-task; an agent names the types that it does.
    #[expect(missing_docs, reason = "each is what its name says")]
    pub enum TaskType {
        TextProcessing = "TEXT_PROCESSING" / "text_processing",
        ImageProcessing = "IMAGE_PROCESSING" / "image_processing",
        AudioProcessing = "AUDIO_PROCESSING" / "audio_processing",
        VideoProcessing = "VIDEO_PROCESSING" / "video_processing",
        DataAnalysis = "DATA_ANALYSIS" / "data_analysis",
        ModelInference = "MODEL_INFERENCE" / "model_inference",
        ModelTraining = "MODEL_TRAINING" / "model_training",
        ComputeIntensive = "COMPUTE_INTENSIVE" / "compute_intensive",
        IoBound = "IO_BOUND" / "io_bound",
        MixedModal = "MIXED_MODAL" / "mixed_modal",
    }
}

impl TaskType {
    /// Return the type of its step in a plan, by which security policies judge it.
    pub fn step_type(self) -> StepType {
        match self {
            Self::TextProcessing
            | Self::ImageProcessing
            | Self::AudioProcessing
            | Self::VideoProcessing
            | Self::DataAnalysis
            | Self::IoBound => StepType::DataProcessing,
            Self::ModelInference | Self::MixedModal => StepType::Inference,
            Self::ModelTraining => StepType::Training,
            Self::ComputeIntensive => StepType::Custom,
        }
    }
}

am_db::stored_enum! {
    /// Tier of an agent's GPU; the last is the strongest.
    #[expect(missing_docs, reason = "each is what its name says")]
    pub enum GpuTier {
        CpuOnly = "CPU_ONLY" / "cpu_only",
        LowEndGpu = "LOW_END_GPU" / "low_end_gpu",
        MidRangeGpu = "MID_RANGE_GPU" / "mid_range_gpu",
        HighEndGpu = "HIGH_END_GPU" / "high_end_gpu",
        PremiumGpu = "PREMIUM_GPU" / "premium_gpu",
    }
}

am_db::stored_enum! {
    /// Availability of an agent.
    pub enum AgentStatus {
        /// A heartbeat was received recently.
        Online = "ONLINE" / "online",
        /// Heartbeats stopped, or the agent was taken offline.
        Offline = "OFFLINE" / "offline",
    }
}

am_db::stored_enum! {
    /// Reason why an agent is offline.
    pub enum OfflineReason {
        /// Heartbeats stopped; the next one brings it back.
        Silent = "silent" / "silent",
        /// Requested; holds until the agent is brought online again.
        Requested = "requested" / "requested",
    }
}

am_db::stored_enum! {
    /// Source of a figure about an agent.
    #[schema(as = FigureSource)]
    pub enum MeasureSource {
        /// Stated by the agent at registration.
        Claimed = "claimed" / "claimed",
        /// Measured by the agent and reported with a heartbeat.
        Reported = "reported" / "reported",
        /// Measured by the service from the agent's assignments.
        Measured = "measured" / "measured",
    }
}

/// Statistics of an agent's assignments of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskStats {
    /// Number of completed assignments.
    pub completed: i64,
    /// Number of assignments that the agent reported as failed.
    pub failed: i64,
    /// Number of assignments released because the agent went offline or did not answer an offer.
    pub lost: i64,
    /// Total seconds of the completed assignments.
    pub seconds: f64,
}

impl TaskStats {
    /// Return the mean seconds of a completed assignment.
    pub fn mean(&self) -> Option<f64> {
        (self.completed > 0).then(|| self.seconds / self.completed as f64)
    }
}

/// An agent of the registry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegisteredAgentRecord {
    /// Id chosen by its owner.
    pub id: AgentId,
    /// Owner as stored; shown as a principal.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// Type chosen by its owner; default `worker`.
    pub agent_type: String,
    /// Description for people.
    pub description: String,
    /// Types of sub-tasks that it does.
    pub task_types: Vec<TaskType>,
    /// Tier of its GPU.
    pub gpu_tier: GpuTier,
    /// Maximum number of concurrent assignments.
    pub max_concurrent_tasks: i64,
    /// Performance stated by the agent, 0 to 1.
    pub claimed_performance: f64,
    /// Whether the agent measured this performance.
    pub performance_reported: bool,
    /// Reliability stated by the agent, 0 to 1.
    pub claimed_reliability: f64,
    /// Price per hour.
    pub cost_per_hour: Money,
    /// URL at which it is called; null: it polls for assignments.
    pub endpoint_url: Option<String>,
    /// Metadata given by its owner.
    pub metadata: JsonText,
    /// What it says of itself in the directory; null: it was registered without.
    #[serde(default)]
    pub profile: Option<AgentProfile>,
    /// Present status: an agent without recent heartbeat is offline.
    pub status: AgentStatus,
    /// Reason why it is offline; null while online.
    pub offline_reason: Option<OfflineReason>,
    /// Load reported by the agent, 0 to 1, including work that this service does not know of.
    pub reported_load: Option<f64>,
    /// Time of the last heartbeat or other request.
    pub last_seen: Timestamp,
    /// Time of the first registration.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
    /// Which registration of the id this is: it rises when another owner registers it, and with it begins another record.
    #[serde(default)]
    pub incarnation: i64,
    /// Number of assignments it holds.
    pub open: i64,
    /// Statistics of its assignments, by type.
    pub work: BTreeMap<TaskType, TaskStats>,
}

/// Minimum number of ended assignments from which figures are measured instead of stated.
pub const MIN_ENDED_ASSIGNMENTS: i64 = 3;

impl RegisteredAgentRecord {
    /// Return whether it is online.
    pub fn is_online(&self) -> bool {
        self.status == AgentStatus::Online
    }

    /// Return its capabilities: words of its own, then types of tasks.
    pub fn capabilities(&self) -> Vec<String> {
        let own = self.profile.iter().flat_map(|profile| profile.words.iter().cloned());
        own.chain(self.task_types.iter().map(|kind| kind.value().to_owned())).collect()
    }

    /// Return whether it has this capability: a type of task, or a word of its own.
    pub fn has_capability(&self, word: &str) -> bool {
        let own = self.profile.iter().flat_map(|profile| &profile.words).any(|own| own == word);
        own || TaskType::from_value(word).is_some_and(|kind| self.task_types.contains(&kind))
    }

    /// Return whether it can take another assignment.
    pub fn has_capacity(&self) -> bool {
        self.open < self.max_concurrent_tasks
    }

    /// Return the share of its capacity in use, or the reported load if that is higher.
    pub fn load(&self) -> f64 {
        let real = self.open as f64 / self.max_concurrent_tasks.max(1) as f64;
        real.max(self.reported_load.unwrap_or(0.0)).clamp(0.0, 1.0)
    }

    /// Return the cost of so many seconds of its time.
    pub fn cost(&self, seconds: f64) -> Money {
        self.cost_per_hour.scaled(seconds / 3600.0)
    }

    /// Return the statistics over all types.
    pub fn total(&self) -> TaskStats {
        self.work.values().fold(TaskStats::default(), |sum, work| TaskStats {
            completed: sum.completed + work.completed,
            failed: sum.failed + work.failed,
            lost: sum.lost + work.lost,
            seconds: sum.seconds + work.seconds,
        })
    }

    /// Return the success rate of its assignments, once enough have ended; before that the stated reliability.
    pub fn reliability(&self) -> (f64, MeasureSource) {
        let all = self.total();
        let ended = all.completed + all.failed + all.lost;
        if ended < MIN_ENDED_ASSIGNMENTS {
            return (self.claimed_reliability, MeasureSource::Claimed);
        }
        (all.completed as f64 / ended as f64, MeasureSource::Measured)
    }

    /// Return the relative speed, once enough assignments were completed: over the types it has done, the mean seconds
    /// of the fastest agent (`fastest`, by type) divided by its own, weighted by completed assignments.
    pub fn performance(&self, fastest: &BTreeMap<TaskType, f64>) -> (f64, MeasureSource) {
        let completed = self.total().completed;
        if completed < MIN_ENDED_ASSIGNMENTS {
            let source = if self.performance_reported { MeasureSource::Reported } else { MeasureSource::Claimed };
            return (self.claimed_performance, source);
        }
        let share = |(task_type, work): (&TaskType, &TaskStats)| {
            let own = work.mean()?;
            let best = fastest.get(task_type).copied().unwrap_or(own);
            let share = if own > 0.0 { (best / own).clamp(0.0, 1.0) } else { 1.0 };
            Some(share * work.completed as f64)
        };
        (self.work.iter().filter_map(share).sum::<f64>() / completed as f64, MeasureSource::Measured)
    }

    /// Return the health, 0 to 1: its reliability, reduced with the time since the last heartbeat; 0 when offline.
    pub fn health(&self, now: Timestamp, offline_after: std::time::Duration) -> f64 {
        if !self.is_online() {
            return 0.0;
        }
        let silent = now.seconds_since(self.last_seen).max(0.0) / offline_after.as_secs_f64().max(f64::MIN_POSITIVE);
        self.reliability().0 * (1.0 - silent.clamp(0.0, 1.0))
    }

    /// Return the state recorded in the audit log.
    pub(crate) fn state(&self) -> Value {
        json!({
            "agent_type": self.agent_type,
            "task_types": self.task_types,
            "gpu_tier": self.gpu_tier,
            "max_concurrent_tasks": self.max_concurrent_tasks,
            "performance": self.claimed_performance,
            "reliability": self.claimed_reliability,
            "cost_per_hour": self.cost_per_hour,
            "has_endpoint": self.endpoint_url.is_some(),
            "status": self.status,
            "profile": self.profile,
        })
    }
}

/// Figures reported with a heartbeat.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeartbeatReport {
    /// Load of the agent, 0 to 1.
    pub load: Option<f64>,
    /// Performance measured by the agent, 0 to 1.
    pub performance: Option<f64>,
}

/// Filter for listing agents; null members do not restrict.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Restricts the list to this present status.
    pub status: Option<AgentStatus>,
    /// Restricts the list to agents that do this type of task.
    pub task_type: Option<TaskType>,
    /// Restricts the list to this GPU tier.
    pub gpu_tier: Option<GpuTier>,
    /// Restricts the list to this type of agent.
    pub agent_type: Option<String>,
    /// Page to return.
    pub page: PageRequest,
}
