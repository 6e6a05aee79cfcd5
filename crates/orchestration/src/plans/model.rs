//! Types of plans.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    agents::{GpuTier, TaskRequirements, TaskType},
    model::ExecutionStatus,
};
use am_core::{
    ids::{AgentId, AssignmentId, ExecutionId, PlanId, PrincipalId},
    money::{self, Money},
};
use am_db::{
    codec::{JsonText, Timestamp},
    owner,
    page::PageRequest,
};

am_db::stored_enum! {
    /// Strategy of decomposing a task: the dependencies between its sub-tasks.
    #[schema(as = PlanStrategy)]
    pub enum DecompositionStrategy {
        /// Dependencies given by the sub-tasks.
        Given = "GIVEN" / "given",
        /// One after the other; each takes the task's inputs.
        Sequential = "SEQUENTIAL" / "sequential",
        /// All at once.
        Parallel = "PARALLEL" / "parallel",
        /// The first before all others, the last after them, those between at once.
        Hierarchical = "HIERARCHICAL" / "hierarchical",
        /// One after the other; each takes the output of the one before.
        Pipeline = "PIPELINE" / "pipeline",
        /// Phases by type: fetching, media and text, analysis and computing, training, inference, the rest. Sub-tasks
        /// of a phase run at once.
        Adaptive = "ADAPTIVE" / "adaptive",
    }
}

am_db::stored_enum! {
    /// Origin of the sub-tasks.
    #[schema(as = PlanSplit)]
    pub enum SplitBy {
        /// Sub-tasks sent by the client.
        SubTasks = "SUB_TASKS" / "sub_tasks",
        /// One per type sent by the client.
        TaskTypes = "TASK_TYPES" / "task_types",
        /// One per type that the description hints at.
        Description = "DESCRIPTION" / "description",
    }
}

am_db::stored_enum! {
    /// Priority of a plan: agents get its sub-tasks before those of plans with lower priority.
    #[schema(as = PlanPriority)]
    pub enum PlanPriority {
        /// After all others.
        Low = "LOW" / "low",
        /// Usual priority, the default.
        Normal = "NORMAL" / "normal",
        /// Before all others.
        High = "HIGH" / "high",
    }
}

impl PlanPriority {
    /// Return the rank; 0 is served first.
    pub fn place(self) -> i64 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
}

am_db::stored_enum! {
    /// Status of a plan.
    pub enum PlanStatus {
        /// Stored, and not executed.
        Created = "created" / "created",
        /// Executed, and waiting to begin.
        Pending = "pending" / "pending",
        /// Begun and not ended.
        Running = "running" / "running",
        /// Completed without error.
        Completed = "completed" / "completed",
        /// Ended by an error.
        Failed = "failed" / "failed",
        /// Cancelled on request.
        Cancelled = "cancelled" / "cancelled",
    }
}

impl From<ExecutionStatus> for PlanStatus {
    fn from(status: ExecutionStatus) -> Self {
        match status {
            ExecutionStatus::Pending => Self::Pending,
            ExecutionStatus::Running => Self::Running,
            ExecutionStatus::Completed => Self::Completed,
            ExecutionStatus::Failed => Self::Failed,
            ExecutionStatus::Cancelled => Self::Cancelled,
        }
    }
}

/// A part of a task that one agent does.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubTask {
    /// Key in the plan, and key of its step.
    pub key: String,
    /// Name for people.
    pub name: String,
    /// Type of the task.
    pub task_type: TaskType,
    /// Minimum GPU tier; null: any.
    pub gpu_tier: Option<GpuTier>,
    /// Required type of agent; null: any.
    pub agent_type: Option<String>,
    /// Data sent to the agent, in addition to its input. Strings that begin with `$.` are paths, as in a workflow.
    #[schema(value_type = Object)]
    pub payload: Map<String, Value>,
    /// Keys of the sub-tasks it depends on.
    pub depends_on: Vec<String>,
    /// Estimated duration in seconds; null when unknown.
    pub estimated_seconds: Option<f64>,
    /// Maximum price; null: no limit.
    pub max_price: Option<Money>,
    /// Seconds after which it fails, including the time of waiting for an agent.
    pub timeout_seconds: u64,
}

impl SubTask {
    /// Return the requirements on its agent.
    pub fn need(&self) -> TaskRequirements {
        TaskRequirements {
            only_agent: None,
            task_type: self.task_type,
            gpu_tier: self.gpu_tier,
            agent_type: self.agent_type.clone(),
            max_price: self.max_price,
            estimated_seconds: self.estimated_seconds,
        }
    }
}

/// A sub-task as sent by a client.
#[derive(Clone, Debug, Default)]
pub struct SubTaskDraft {
    /// Key; default the type, with a number where there are several.
    pub key: Option<String>,
    /// Name; default the key.
    pub name: Option<String>,
    /// Type of the task.
    pub task_type: Option<TaskType>,
    /// Minimum GPU tier; this and the following members are as in [`SubTask`].
    pub gpu_tier: Option<GpuTier>,
    #[expect(missing_docs, reason = "as in SubTask")]
    pub agent_type: Option<String>,
    #[expect(missing_docs, reason = "as in SubTask")]
    pub payload: Map<String, Value>,
    /// Keys of the sub-tasks it depends on; null: determined by the strategy.
    pub depends_on: Option<Vec<String>>,
    #[expect(missing_docs, reason = "as in SubTask")]
    pub estimated_seconds: Option<f64>,
    #[expect(missing_docs, reason = "as in SubTask")]
    pub max_price: Option<Money>,
    /// Seconds after which it fails; default 300.
    pub timeout_seconds: Option<u64>,
}

/// A task as sent by a client.
#[derive(Clone, Debug)]
pub struct PlanDraft {
    /// Name, 1 to 200 characters.
    pub name: String,
    /// Description for people; its words determine the types when neither sub-tasks nor types are sent.
    pub description: String,
    /// Strategy; default `given` when sub-tasks have dependencies, else `adaptive`.
    pub strategy: Option<DecompositionStrategy>,
    /// Sub-tasks, at most 100.
    pub sub_tasks: Vec<SubTaskDraft>,
    /// Types of sub-tasks, instead of sub-tasks.
    pub task_types: Vec<TaskType>,
    /// Inputs, visible as `$.inputs`.
    pub inputs: Map<String, Value>,
    /// Priority; default `normal`.
    pub priority: PlanPriority,
    /// Cost limit; 0: no limit.
    pub max_cost_budget: Money,
    /// Time by which it must be done; null: none.
    pub deadline: Option<Timestamp>,
}

/// Expected agent of a sub-task when the plan was made. The actual agent is chosen when the sub-task begins.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PlannedAssignment)]
pub struct PlannedAssignment {
    /// Key of the sub-task.
    pub sub_task: String,
    /// Id of the expected agent; null when no agent could take it.
    pub agent_id: Option<AgentId>,
    /// Score of the agent by the contract's formula.
    pub score: Option<f64>,
    /// Estimated seconds: as sent, or the mean of that agent, or of all agents.
    pub estimated_seconds: Option<f64>,
    /// Estimated cost: the agent's price for that time.
    pub estimated_cost: Option<Money>,
    /// Reason why agent or estimates are missing.
    pub reason: Option<String>,
}

/// Source of the confidence in a decomposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConfidenceSource {
    /// Success rate of plans of the strategy.
    Measured,
    /// Figure of the strategy, until enough of its plans have ended.
    Assumed,
}

/// Content of a plan; it never changes.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PlanDocument)]
pub struct PlanDocument {
    /// Name for people.
    pub name: String,
    /// Description for people.
    pub description: String,
    /// Strategy of the decomposition.
    pub strategy: DecompositionStrategy,
    /// Origin of the sub-tasks.
    pub split_by: SplitBy,
    /// Inputs, visible as `$.inputs`.
    #[schema(value_type = Object)]
    pub inputs: Map<String, Value>,
    /// Priority of the plan.
    pub priority: PlanPriority,
    /// Cost limit; 0: no limit.
    #[serde(deserialize_with = "money::deserialize_stored")]
    pub max_cost_budget: Money,
    /// Time by which it must be done; null: none.
    pub deadline: Option<Timestamp>,
    /// Sub-tasks, in the order in which they were sent or found.
    pub sub_tasks: Vec<SubTask>,
    /// Keys of the sub-tasks by stage: those of a stage depend only on earlier stages.
    pub stages: Vec<Vec<String>>,
    /// Expected assignments, one per sub-task.
    pub assignments: Vec<PlannedAssignment>,
    /// Estimated total cost; null when unknown for a sub-task.
    pub estimated_cost: Option<Money>,
    /// Estimated total seconds: the sum of each stage's longest sub-task; null when unknown for a sub-task.
    pub estimated_seconds: Option<f64>,
    /// Reason why an estimate is missing.
    pub estimate_reason: Option<String>,
    /// Confidence that the plan completes as planned, 0.1 to 0.95.
    pub confidence: f64,
    /// Confidence in the decomposition alone.
    pub decomposition_confidence: f64,
    /// Source of the decomposition's confidence.
    pub confidence_source: ConfidenceSource,
}

/// A plan with its status.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskPlan {
    /// Id: `plan_` and 12 hex digits.
    pub id: PlanId,
    /// Owner as stored; shown as a principal.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// Status of the plan.
    pub status: PlanStatus,
    /// Id of its execution; null before it was executed.
    pub execution_id: Option<ExecutionId>,
    /// Content of the plan.
    #[serde(flatten)]
    pub document: PlanDocument,
    /// Time when it was made.
    pub created_at: Timestamp,
    /// Time when its execution began.
    pub started_at: Option<Timestamp>,
    /// Time when its execution ended.
    pub completed_at: Option<Timestamp>,
    /// Cost of its execution so far.
    pub total_cost: Option<Money>,
    /// Duration of its execution in seconds.
    pub total_execution_time: Option<f64>,
    /// Error message of its execution.
    pub error_message: Option<String>,
}

/// A sub-task and its state.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SubTaskStatus {
    /// The sub-task as planned.
    #[serde(flatten)]
    pub sub_task: SubTask,
    /// Number of its stage, from 1.
    pub stage: usize,
    /// Status of its step.
    pub status: ExecutionStatus,
    /// State of its latest assignment: waiting, offered, accepted, completed, failed or cancelled; null before it
    /// begins.
    pub assignment_status: Option<crate::assignments::AssignmentState>,
    /// Id of that assignment.
    pub assignment_id: Option<AssignmentId>,
    /// Agent that holds or did the assignment.
    pub agent_id: Option<AgentId>,
    /// Progress in percent.
    pub progress: f64,
    /// Result delivered by the agent.
    pub result: JsonText,
    /// Error of the sub-task, or of its last failed attempt.
    pub error: Option<String>,
    /// Seconds from acceptance to result.
    pub seconds: Option<f64>,
    /// Cost of these seconds.
    pub cost: Option<Money>,
    /// Attempts at all its assignments, oldest first.
    pub attempts: Vec<crate::assignments::AssignmentAttempt>,
}

/// Statistics of the plans of one strategy.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanMeasurement)]
pub struct StrategyStats {
    /// Strategy of the plans.
    pub strategy: DecompositionStrategy,
    /// Number of plans.
    pub plans: i64,
    /// Executed plans that have not ended.
    pub running: i64,
    /// Plans that ended well.
    pub completed: i64,
    /// Plans that ended by an error.
    pub failed: i64,
    /// Plans cancelled on request.
    pub cancelled: i64,
    /// Share of completed among completed and failed plans; null without such plans.
    pub success_rate: Option<f64>,
    /// Mean seconds of the completed plans.
    pub mean_seconds: Option<f64>,
    /// Mean cost of the completed plans.
    pub mean_cost: Option<Money>,
    /// Mean ratio of actual to estimated seconds.
    pub seconds_to_estimate: Option<f64>,
    /// Mean ratio of actual to estimated cost.
    pub cost_to_estimate: Option<f64>,
}

/// Filter for listing plans.
#[derive(Clone, Debug, Default)]
pub struct PlanFilter {
    /// Restricts the list to these statuses; empty: any.
    pub status: Vec<PlanStatus>,
    /// Restricts the list to this strategy.
    pub strategy: Option<DecompositionStrategy>,
    /// Page to return.
    pub page: PageRequest,
}
