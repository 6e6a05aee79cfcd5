//! What an agent says of itself, and what is known of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rules;
use crate::model::{Fault, StepType};
use am_db::{
    codec::{Doc, Timestamp},
    owner,
    page::Page,
};

am_db::stored_enum! {
    /// What a sub-task is; an agent names those that it does.
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
    /// The type of the step that does it in a plan, by which security policies judge it.
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
    /// How strong an agent's GPU is; the last is the strongest.
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
    /// Can an agent be given something?
    pub enum AgentStatus {
        /// It was heard of lately.
        Online = "ONLINE" / "online",
        /// It went silent, or said that it goes.
        Offline = "OFFLINE" / "offline",
    }
}

am_db::stored_enum! {
    /// Why an agent is offline.
    pub enum OfflineReason {
        /// No heartbeat came for too long; the next brings it back.
        Silent = "silent" / "silent",
        /// It was asked for, and holds until the agent is told to be online.
        Requested = "requested" / "requested",
    }
}

am_db::stored_enum! {
    /// Where a figure comes from.
    pub enum Source {
        /// The agent said so when it registered.
        Claimed = "claimed" / "claimed",
        /// The agent measured it and said so with a heartbeat.
        Reported = "reported" / "reported",
        /// From what became of its assignments.
        Measured = "measured" / "measured",
    }
}

/// What became of an agent's assignments of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Ended well.
    pub completed: i64,
    /// The agent said that it failed.
    pub failed: i64,
    /// Released because the agent went silent, or did not answer an offer.
    pub lost: i64,
    /// Of those that were completed.
    pub seconds: f64,
}

impl Work {
    /// Seconds an assignment of it takes, where one was completed.
    pub fn mean(&self) -> Option<f64> {
        (self.completed > 0).then(|| self.seconds / self.completed as f64)
    }
}

/// An agent with what is known of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agent {
    /// Chosen by whoever registers it.
    pub id: String,
    /// As stored; shown as a principal.
    #[serde(serialize_with = "owner::shown")]
    pub owner_id: String,
    /// Whatever its owner calls its kind; default `worker`.
    pub agent_type: String,
    /// For people.
    pub description: String,
    /// The sub-tasks that it does.
    pub task_types: Vec<TaskType>,
    /// Its GPU.
    pub gpu_tier: GpuTier,
    /// Assignments it takes at once.
    pub max_concurrent_tasks: i64,
    /// What it says of its speed, 0 to 1.
    pub claimed_performance: f64,
    /// Did it measure that itself?
    pub performance_reported: bool,
    /// What it says of its reliability, 0 to 1.
    pub claimed_reliability: f64,
    /// What an hour of it costs.
    pub cost_per_hour: f64,
    /// Where it is called, if it does not fetch its assignments.
    pub endpoint_url: Option<String>,
    /// Whatever its owner wants to be kept with it.
    pub metadata: Doc,
    /// As of now: one that was silent too long is offline.
    pub status: AgentStatus,
    /// Why, if it is offline.
    pub offline_reason: Option<OfflineReason>,
    /// How busy it said that it is, 0 to 1, with what this service does not know of as well.
    pub reported_load: Option<f64>,
    /// When it was heard of last.
    pub last_seen: Timestamp,
    /// When it registered first.
    pub created_at: Timestamp,
    /// When its entry was changed last.
    pub updated_at: Timestamp,
    /// Assignments that it has now.
    pub open: i64,
    /// What became of those it had, by type.
    pub work: BTreeMap<TaskType, Work>,
}

/// Assignments that must have ended before an agent's own word counts no more.
pub const ENOUGH: i64 = 3;

impl Agent {
    /// Is it there to be given something?
    pub fn is_online(&self) -> bool {
        self.status == AgentStatus::Online
    }

    /// Can it take another assignment?
    pub fn has_room(&self) -> bool {
        self.open < self.max_concurrent_tasks
    }

    /// Assignments it has, as a share of those it takes; or what it said itself, if that is more.
    pub fn load(&self) -> f64 {
        let real = self.open as f64 / self.max_concurrent_tasks.max(1) as f64;
        real.max(self.reported_load.unwrap_or(0.0)).clamp(0.0, 1.0)
    }

    /// All that became of its assignments.
    pub fn total(&self) -> Work {
        self.work.values().fold(Work::default(), |sum, work| Work {
            completed: sum.completed + work.completed,
            failed: sum.failed + work.failed,
            lost: sum.lost + work.lost,
            seconds: sum.seconds + work.seconds,
        })
    }

    /// The share of its assignments that ended well, once enough have ended; before that what it says.
    pub fn reliability(&self) -> (f64, Source) {
        let all = self.total();
        let ended = all.completed + all.failed + all.lost;
        if ended < ENOUGH {
            return (self.claimed_reliability, Source::Claimed);
        }
        (all.completed as f64 / ended as f64, Source::Measured)
    }

    /// How quick it is, once enough were completed: over the types that it has done, how long the quickest agent takes
    /// (`fastest`, mean seconds by type) as a share of what this one takes, each completed assignment counting once.
    pub fn performance(&self, fastest: &BTreeMap<TaskType, f64>) -> (f64, Source) {
        let completed = self.total().completed;
        if completed < ENOUGH {
            let source = if self.performance_reported { Source::Reported } else { Source::Claimed };
            return (self.claimed_performance, source);
        }
        let share = |(task_type, work): (&TaskType, &Work)| {
            let own = work.mean()?;
            let best = fastest.get(task_type).copied().unwrap_or(own);
            let share = if own > 0.0 { (best / own).clamp(0.0, 1.0) } else { 1.0 };
            Some(share * work.completed as f64)
        };
        (self.work.iter().filter_map(share).sum::<f64>() / completed as f64, Source::Measured)
    }

    /// 0 to 1: its reliability, less the longer it is silent; 0 when it is offline.
    pub fn health(&self, now: Timestamp, offline_after: std::time::Duration) -> f64 {
        if !self.is_online() {
            return 0.0;
        }
        let silent = now.seconds_since(self.last_seen).max(0.0) / offline_after.as_secs_f64().max(f64::MIN_POSITIVE);
        self.reliability().0 * (1.0 - silent.clamp(0.0, 1.0))
    }

    /// What the audit log keeps of it.
    pub(super) fn state(&self) -> Value {
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
        })
    }
}

/// What a client sends to register an agent.
#[derive(Clone, Debug)]
pub struct Draft {
    /// 1 to 128 letters, digits and `._:-`.
    pub agent_id: String,
    /// 1 to 50 characters.
    pub agent_type: String,
    /// For people; at most 2000 characters.
    pub description: String,
    /// At least one.
    pub task_types: Vec<TaskType>,
    /// Its GPU.
    pub gpu_tier: GpuTier,
    /// 1 to 1000.
    pub max_concurrent_tasks: i64,
    /// 0 to 1.
    pub performance: f64,
    /// 0 to 1.
    pub reliability: f64,
    /// From 0.
    pub cost_per_hour: f64,
    /// http (where private addresses are allowed) or https.
    pub endpoint_url: Option<String>,
    /// An object of at most 16 KB.
    pub metadata: Doc,
}

impl Draft {
    /// What is wrong with it.
    pub(super) fn faults(&self, private_addresses: bool) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(rules::agent_id(&self.agent_id));
        faults.extend(rules::common(self, private_addresses));
        faults
    }
}

/// What a client changes; what is left out stays.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "as in Draft")]
pub struct Change {
    pub agent_type: Option<String>,
    pub description: Option<String>,
    pub task_types: Option<Vec<TaskType>>,
    pub gpu_tier: Option<GpuTier>,
    pub max_concurrent_tasks: Option<i64>,
    pub performance: Option<f64>,
    pub reliability: Option<f64>,
    pub cost_per_hour: Option<f64>,
    /// The empty text takes it away.
    pub endpoint_url: Option<String>,
    pub metadata: Option<Doc>,
}

impl Change {
    /// Change `agent`, or say what is wrong.
    pub(super) fn apply(self, agent: &mut Agent, private_addresses: bool) -> Result<(), Vec<Fault>> {
        let draft = Draft {
            agent_id: agent.id.clone(),
            agent_type: self.agent_type.unwrap_or_else(|| agent.agent_type.clone()),
            description: self.description.unwrap_or_else(|| agent.description.clone()),
            task_types: self.task_types.unwrap_or_else(|| agent.task_types.clone()),
            gpu_tier: self.gpu_tier.unwrap_or(agent.gpu_tier),
            max_concurrent_tasks: self.max_concurrent_tasks.unwrap_or(agent.max_concurrent_tasks),
            performance: self.performance.unwrap_or(agent.claimed_performance),
            reliability: self.reliability.unwrap_or(agent.claimed_reliability),
            cost_per_hour: self.cost_per_hour.unwrap_or(agent.cost_per_hour),
            endpoint_url: self.endpoint_url.or_else(|| agent.endpoint_url.clone()).filter(|url| !url.is_empty()),
            metadata: self.metadata.unwrap_or_else(|| agent.metadata.clone()),
        };
        let faults = rules::common(&draft, private_addresses);
        if !faults.is_empty() {
            return Err(faults);
        }
        agent.performance_reported &= self.performance.is_none();
        draft.fill(agent);
        Ok(())
    }
}

impl Draft {
    /// Write what it says into `agent`.
    pub(super) fn fill(self, agent: &mut Agent) {
        let mut task_types = self.task_types;
        task_types.sort_unstable();
        task_types.dedup();
        agent.agent_type = self.agent_type;
        agent.description = self.description;
        agent.task_types = task_types;
        agent.gpu_tier = self.gpu_tier;
        agent.max_concurrent_tasks = self.max_concurrent_tasks;
        agent.claimed_performance = self.performance;
        agent.claimed_reliability = self.reliability;
        agent.cost_per_hour = self.cost_per_hour;
        agent.endpoint_url = self.endpoint_url;
        agent.metadata = self.metadata;
    }

    /// A new entry of `owner`'s.
    pub(super) fn into_agent(self, owner: &str, now: Timestamp) -> Agent {
        let mut agent = Agent {
            id: self.agent_id.clone(),
            owner_id: owner.to_owned(),
            agent_type: String::new(),
            description: String::new(),
            task_types: Vec::new(),
            gpu_tier: self.gpu_tier,
            max_concurrent_tasks: 0,
            claimed_performance: 0.0,
            performance_reported: false,
            claimed_reliability: 0.0,
            cost_per_hour: 0.0,
            endpoint_url: None,
            metadata: Doc::none(),
            status: AgentStatus::Online,
            offline_reason: None,
            reported_load: None,
            last_seen: now,
            created_at: now,
            updated_at: now,
            open: 0,
            work: BTreeMap::new(),
        };
        self.fill(&mut agent);
        agent
    }
}

/// A sign of life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beat {
    /// 0 to 1.
    pub load: Option<f64>,
    /// What the agent measured of itself, 0 to 1.
    pub performance: Option<f64>,
}

/// Which agents to list; what is none restricts nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In this state, as of now.
    pub status: Option<AgentStatus>,
    /// That do this.
    pub task_type: Option<TaskType>,
    /// With this GPU.
    pub gpu_tier: Option<GpuTier>,
    /// Of this kind.
    pub agent_type: Option<String>,
    /// Which of them.
    pub page: Page,
}
