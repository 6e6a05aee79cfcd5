//! What a plan is.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    model::Status,
    registry::{GpuTier, Need, TaskType},
};
use am_db::{
    codec::{Doc, Timestamp},
    owner,
    page::Page,
};

am_db::stored_enum! {
    /// How a task is split into sub-tasks that wait for each other.
    pub enum Strategy {
        /// As its sub-tasks say.
        Given = "GIVEN" / "given",
        /// One after the other; each takes the task's inputs.
        Sequential = "SEQUENTIAL" / "sequential",
        /// All at once.
        Parallel = "PARALLEL" / "parallel",
        /// The first leads, the last gathers, those between run at once.
        Hierarchical = "HIERARCHICAL" / "hierarchical",
        /// One after the other; each takes what the one before gave.
        Pipeline = "PIPELINE" / "pipeline",
        /// In phases by type: fetching, media and text, analysis and computing, training, inference, the rest; those of a
        /// phase at once.
        Adaptive = "ADAPTIVE" / "adaptive",
    }
}

am_db::stored_enum! {
    /// Where sub-tasks come from.
    pub enum SplitBy {
        /// They were sent.
        SubTasks = "SUB_TASKS" / "sub_tasks",
        /// One for each type that was sent.
        TaskTypes = "TASK_TYPES" / "task_types",
        /// One for each type of which the description has a word.
        Description = "DESCRIPTION" / "description",
    }
}

am_db::stored_enum! {
    /// How urgent a plan is: its sub-tasks go to agents before those of less urgent ones.
    pub enum Priority {
        /// Can wait.
        Low = "LOW" / "low",
        /// As usual.
        Normal = "NORMAL" / "normal",
        /// First.
        High = "HIGH" / "high",
    }
}

impl Priority {
    /// 0 goes first.
    pub fn place(self) -> i64 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
}

am_db::stored_enum! {
    /// Where a plan stands.
    pub enum PlanStatus {
        /// Made, and not executed.
        Created = "created" / "created",
        /// Its execution waits for a place.
        Pending = "pending" / "pending",
        /// Under way.
        Running = "running" / "running",
        /// Ended well.
        Completed = "completed" / "completed",
        /// Ended badly.
        Failed = "failed" / "failed",
        /// Stopped on request.
        Cancelled = "cancelled" / "cancelled",
    }
}

impl From<Status> for PlanStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Running => Self::Running,
            Status::Completed => Self::Completed,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

/// A part of a task that one agent does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubTask {
    /// Its name in the plan; the step's key.
    pub key: String,
    /// For people.
    pub name: String,
    /// What it is.
    pub task_type: TaskType,
    /// The weakest GPU that will do.
    pub gpu_tier: Option<GpuTier>,
    /// Only agents of this kind.
    pub agent_type: Option<String>,
    /// What its agent gets to know, beside its input. Texts that begin with `$.` are paths, as in a workflow.
    pub payload: Map<String, Value>,
    /// Keys of those it waits for.
    pub depends_on: Vec<String>,
    /// Seconds it is thought to take.
    pub estimated_seconds: Option<f64>,
    /// The most it may cost.
    pub max_price: Option<f64>,
    /// Seconds after which it is given up, waiting for an agent included.
    pub timeout_seconds: u64,
}

impl SubTask {
    /// What is asked of its agent.
    pub fn need(&self) -> Need {
        Need {
            task_type: self.task_type,
            gpu_tier: self.gpu_tier,
            agent_type: self.agent_type.clone(),
            max_price: self.max_price,
            estimated_seconds: self.estimated_seconds,
        }
    }
}

/// A sub-task as a client sends it.
#[derive(Clone, Debug, Default)]
pub struct SubTaskDraft {
    /// Default the type, and a number where there are several.
    pub key: Option<String>,
    /// Default the key.
    pub name: Option<String>,
    /// What it is.
    pub task_type: Option<TaskType>,
    /// See [`SubTask`], and so the others.
    pub gpu_tier: Option<GpuTier>,
    #[expect(missing_docs, reason = "as in SubTask")]
    pub agent_type: Option<String>,
    #[expect(missing_docs, reason = "as in SubTask")]
    pub payload: Map<String, Value>,
    /// None: the strategy says it.
    pub depends_on: Option<Vec<String>>,
    #[expect(missing_docs, reason = "as in SubTask")]
    pub estimated_seconds: Option<f64>,
    #[expect(missing_docs, reason = "as in SubTask")]
    pub max_price: Option<f64>,
    /// Default 300.
    pub timeout_seconds: Option<u64>,
}

/// A task as a client sends it.
#[derive(Clone, Debug)]
pub struct Draft {
    /// 1 to 200 characters.
    pub name: String,
    /// For people; and, where neither sub-tasks nor types are sent, for finding its types.
    pub description: String,
    /// Default given where sub-tasks say what they wait for, else adaptive.
    pub strategy: Option<Strategy>,
    /// At most 100.
    pub sub_tasks: Vec<SubTaskDraft>,
    /// Instead of sub-tasks.
    pub task_types: Vec<TaskType>,
    /// `$.inputs`.
    pub inputs: Map<String, Value>,
    /// Default normal.
    pub priority: Priority,
    /// What it may cost; 0: no limit.
    pub max_cost_budget: f64,
    /// When it must be done.
    pub deadline: Option<Timestamp>,
}

/// Who is thought to do a sub-task, as of the moment the plan was made. Who does it is decided when it begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Planned {
    /// The sub-task.
    pub sub_task: String,
    /// None where nobody could take it.
    pub agent_id: Option<String>,
    /// By the contract's formula.
    pub score: Option<f64>,
    /// As sent, or as that agent took so far, or any.
    pub estimated_seconds: Option<f64>,
    /// What the agent asks for so long.
    pub estimated_cost: Option<f64>,
    /// Why there is no agent, or no estimate.
    pub reason: Option<String>,
}

/// A plan as it is stored: nothing in it changes any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// How it was split.
    pub strategy: Strategy,
    /// Where its sub-tasks come from.
    pub split_by: SplitBy,
    /// `$.inputs`.
    pub inputs: Map<String, Value>,
    /// How urgent it is.
    pub priority: Priority,
    /// What it may cost; 0: no limit.
    pub max_cost_budget: f64,
    /// When it must be done.
    pub deadline: Option<Timestamp>,
    /// In the order in which they were sent or found.
    pub sub_tasks: Vec<SubTask>,
    /// Keys by stage: those of a stage wait for none but earlier ones.
    pub stages: Vec<Vec<String>>,
    /// One for each sub-task.
    pub assignments: Vec<Planned>,
    /// What everything is thought to cost; none where it is not known of some.
    pub estimated_cost: Option<f64>,
    /// The stages' longest, added up; none where it is not known of some.
    pub estimated_seconds: Option<f64>,
    /// Why an estimate is missing, in words.
    pub estimate_reason: Option<String>,
    /// 0.1 to 0.95: how likely it is to be done as planned.
    pub confidence: f64,
    /// How good the split is taken to be, before anything else counts.
    pub decomposition_confidence: f64,
    /// `measured`: the share of plans of this strategy that ended well; `assumed` before enough of them ended.
    pub confidence_source: String,
}

/// A plan, and where it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// `plan_` and 12 hex digits.
    pub id: String,
    /// As stored; shown as a principal.
    #[serde(serialize_with = "owner::shown")]
    pub owner_id: String,
    /// Where it stands.
    pub status: PlanStatus,
    /// Its run, once it is executed.
    pub execution_id: Option<String>,
    /// What was planned.
    #[serde(flatten)]
    pub document: Document,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its run began.
    pub started_at: Option<Timestamp>,
    /// When its run ended.
    pub completed_at: Option<Timestamp>,
    /// What its run cost so far.
    pub total_cost: Option<f64>,
    /// Seconds its run took.
    pub total_execution_time: Option<f64>,
    /// Why its run failed.
    pub error_message: Option<String>,
}

/// A sub-task and where it stands.
#[derive(Clone, Debug, Serialize)]
pub struct SubTaskStatus {
    /// As planned.
    #[serde(flatten)]
    pub sub_task: SubTask,
    /// From 1.
    pub stage: usize,
    /// Of its step.
    pub status: Status,
    /// Of its last assignment: waiting, offered, accepted, completed, failed, cancelled; none before it begins.
    pub assignment_status: Option<crate::assignments::State>,
    /// That assignment.
    pub assignment_id: Option<String>,
    /// Who has it, or did it.
    pub agent_id: Option<String>,
    /// Percent.
    pub progress: f64,
    /// What its agent delivered.
    pub result: Doc,
    /// Why it failed, or why its last attempt did.
    pub error: Option<String>,
    /// From acceptance to result.
    pub seconds: Option<f64>,
    /// What that cost.
    pub cost: Option<f64>,
    /// Who had it, and what came of it; the oldest first.
    pub attempts: Vec<crate::assignments::Attempt>,
}

/// What became of plans of one strategy.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Measured {
    /// The strategy.
    pub strategy: Strategy,
    /// Plans.
    pub plans: i64,
    /// Executed, and not ended.
    pub running: i64,
    /// Ended well.
    pub completed: i64,
    /// Ended badly.
    pub failed: i64,
    /// Stopped on request.
    pub cancelled: i64,
    /// Completed, of those that ended well or badly.
    pub success_rate: Option<f64>,
    /// Mean of those that ended well.
    pub mean_seconds: Option<f64>,
    /// Mean of those that ended well.
    pub mean_cost: Option<f64>,
    /// Mean seconds, as a share of what they were thought to take.
    pub seconds_to_estimate: Option<f64>,
    /// Mean cost, as a share of what they were thought to cost.
    pub cost_to_estimate: Option<f64>,
}

/// Which plans to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In this state.
    pub status: Option<PlanStatus>,
    /// Split so.
    pub strategy: Option<Strategy>,
    /// Which of them.
    pub page: Page,
}
