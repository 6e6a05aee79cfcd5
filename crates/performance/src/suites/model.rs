//! Types of suites, evaluations and gates.

use std::collections::BTreeMap;

use am_core::{
    ids::{AgentId, AliasGateId, BackgroundTaskId, EvaluationId, ExecutionId, PrincipalId, SuiteId, WorkflowId},
    money::Money,
};
use am_db::{codec::Timestamp, owner};
use am_orchestration::agents::TaskType;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// How the output of a case is checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CaseCheck {
    /// The output is this value; numbers are compared as numbers.
    Equals {
        /// The wanted value.
        value: Value,
    },
    /// The output is a number near this one.
    Number {
        /// The wanted number.
        value: f64,
        /// How far the output may be from it, at least 0. Default 0.
        #[serde(default)]
        tolerance: f64,
    },
    /// The output is a text with this part, or its JSON has it.
    Contains {
        /// The wanted part.
        text: String,
    },
    /// The output conforms to a JSON Schema.
    Schema {
        /// The schema that the output conforms to.
        schema: Value,
    },
    /// A jq program judges the output: `true` or `false`, or a number from 0 to 1 as the case's score.
    Jq {
        /// The program; its input is the output of the case.
        program: String,
    },
}

/// A case of a suite, as it is sent.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = SuiteCaseDraft)]
pub struct CaseDraft {
    /// Name of the case, 1 to 100 characters, which no other case of the suite has.
    pub name: String,
    /// Inputs of its run. Default: none.
    #[serde(default)]
    pub input: Map<String, Value>,
    /// The wanted output; this or `check`.
    pub expected: Option<Value>,
    /// How the output is checked; this or `expected`.
    pub check: Option<CaseCheck>,
    /// Weight in the score, more than 0 and at most 1000. Default 1.
    pub weight: Option<f64>,
}

/// The cases of a version, as they are sent.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct SuiteVersionDraft {
    /// What the suite shows. Default: empty.
    #[serde(default)]
    pub description: String,
    /// Key of the step whose output is checked. Default: the only step, or all outputs by key.
    pub output_step: Option<String>,
    /// 1 to 500 cases.
    pub cases: Vec<CaseDraft>,
}

/// A suite to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct SuiteDraft {
    /// Name, 1 to 100 characters, which no other suite of the caller has.
    pub name: String,
    /// What the suite shows. Default: empty.
    #[serde(default)]
    pub description: String,
    /// Key of the step whose output is checked. Default: the only step, or all outputs by key.
    pub output_step: Option<String>,
    /// 1 to 500 cases.
    pub cases: Vec<CaseDraft>,
}

/// A suite with one of its versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = EvaluationSuite)]
pub struct SuiteDocument {
    /// Id of the suite.
    pub id: SuiteId,
    /// Principal that made it.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// Name of the suite.
    pub name: String,
    /// Number of the newest version.
    pub latest: i64,
    /// Number of this version, from 1. A version never changes.
    pub version: i64,
    /// What the suite shows.
    pub description: String,
    /// Key of the step whose output is checked; null: the only step's, or all outputs by key.
    pub output_step: Option<String>,
    /// Number of cases.
    pub cases: i64,
    /// SHA-256 of the cases, 64 hex digits.
    pub sha256: String,
    /// When the suite was made.
    pub created_at: Timestamp,
    /// When its newest version was made.
    pub updated_at: Timestamp,
}

/// A case as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SuiteCase {
    /// Number of the case, from 1.
    pub id: i64,
    /// Name of the case.
    pub name: String,
    /// Inputs of its run.
    pub input: Map<String, Value>,
    /// How the output is checked.
    pub check: CaseCheck,
    /// Weight in the score.
    pub weight: f64,
    /// SHA-256 of input and check: a case of another version with the same is the same case.
    pub sha256: String,
    /// When it was stored.
    pub created_at: Timestamp,
}

am_db::stored_enum! {
    /// What a suite evaluates.
    #[schema(as = EvaluationTargetKind)]
    pub enum TargetKind {
        /// A workflow, which is run once for each case.
        Workflow = "workflow" / "workflow",
        /// A version of a policy, which is asked once for each case: its input has `state`.
        Policy = "policy" / "policy",
        /// A registered agent, which gets an assignment for each case.
        Agent = "agent" / "agent",
    }
}

am_db::stored_enum! {
    /// How far an evaluation is.
    #[schema(as = EvaluationStatus)]
    pub enum EvaluationState {
        /// Its cases are run, or its task is paused.
        Running = "RUNNING" / "running",
        /// It is to end: its runs are cancelled.
        Cancelling = "CANCELLING" / "cancelling",
        /// All cases have ended.
        Completed = "COMPLETED" / "completed",
        /// It was cancelled.
        Cancelled = "CANCELLED" / "cancelled",
        /// It could not be done.
        Failed = "FAILED" / "failed",
    }
}

am_db::stored_enum! {
    /// How far a case is.
    #[schema(as = EvaluationCaseState)]
    pub enum ResultState {
        /// Its run has not begun.
        Waiting = "WAITING" / "waiting",
        /// Its execution goes on.
        Running = "RUNNING" / "running",
        /// Its score is 1, or at least 0.5 where it is graded.
        Passed = "PASSED" / "passed",
        /// It ran and did not pass; or an agent did not do it, or not in its time.
        Failed = "FAILED" / "failed",
        /// Its run did not end well, or its check could not be made: its score is 0.
        Broken = "BROKEN" / "broken",
        /// The evaluation was cancelled before it ended.
        Cancelled = "CANCELLED" / "cancelled",
    }
}

/// What is to be evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EvaluationTarget {
    /// `workflow`, `policy` or `agent`.
    pub kind: TargetKind,
    /// Id of the workflow, id of a registered agent that the caller acts for, or name of the policy as `name`, `name@version` or `name@alias`.
    pub id: String,
}

/// An evaluation to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct EvaluationDraft {
    /// What is to be evaluated.
    pub target: EvaluationTarget,
    /// Number of the suite's version. Default: the newest.
    pub version: Option<i64>,
    /// Agent whose work the target does, which the caller acts for: its capabilities can be certified by the evaluation. Default: the
    /// target where that is an agent, else none.
    pub agent_id: Option<AgentId>,
    /// Cases that run at the same time, 1 to 16. Default 4, and 1 of an agent.
    pub parallel: Option<i64>,
    /// Of an agent: type of the tasks that it gets. Default: the first of those that it does.
    pub task_type: Option<TaskType>,
    /// Of an agent: seconds that it has for each case from its assignment on, the wait until it takes it included, 1 to 86400. A case that
    /// is not done by then is failed. Default 300.
    pub timeout_seconds: Option<i64>,
}

/// An evaluation of a workflow, a policy or an agent by a suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SuiteEvaluation)]
pub struct EvaluationDocument {
    /// Id of the evaluation.
    pub id: EvaluationId,
    /// Suite whose cases are run.
    pub suite_id: SuiteId,
    /// Number of the suite's version.
    pub version: i64,
    /// Principal that evaluates, for whom the cases run.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// What is evaluated; a policy with its version, `name@version`.
    pub target: EvaluationTarget,
    /// Agent whose work it evaluates; null: none was named.
    pub agent_id: Option<AgentId>,
    /// Workflow of which each case is an execution; null: it is not made yet.
    pub workflow_id: Option<WorkflowId>,
    /// Cases that run at the same time.
    pub parallel: i64,
    /// Type of the tasks that an agent gets; null: it evaluates no agent.
    pub task_type: Option<TaskType>,
    /// Seconds that an agent has for each case; null: it evaluates no agent.
    pub timeout_seconds: Option<i64>,
    /// How far it is.
    pub status: EvaluationState,
    /// Number of cases.
    pub cases: i64,
    /// Number of cases that have ended.
    pub done: i64,
    /// Number of cases that passed.
    pub passed: i64,
    /// Share of the cases that have ended, from 0 to 1.
    pub progress: f64,
    /// Mean of the cases' scores by their weights, from 0 to 1; null until it has completed.
    pub score: Option<f64>,
    /// Lower end of the score's 95 % interval.
    pub low: Option<f64>,
    /// Upper end of it.
    pub high: Option<f64>,
    /// How the interval was computed: `wilson` or `bootstrap`.
    pub interval_method: Option<String>,
    /// Why it failed; null: it did not.
    pub error: Option<String>,
    /// Why figures are null, by their names.
    pub reasons: BTreeMap<String, String>,
    /// Background task that carries it on, with its events; it can be paused there. Null: it is not queued yet.
    pub task_id: Option<BackgroundTaskId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended; null: it has not.
    pub ended_at: Option<Timestamp>,
}

/// The result of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = EvaluationResult)]
pub struct ResultDocument {
    /// Number of the case.
    pub id: i64,
    /// How far it is.
    pub status: ResultState,
    /// Its execution; null: it has not begun.
    pub execution_id: Option<ExecutionId>,
    /// Its score, from 0 to 1; null: it has not ended.
    pub score: Option<f64>,
    /// Why it did not pass; null: it did, or has not ended.
    pub reason: Option<String>,
    /// Seconds that its execution took; null: unknown.
    pub seconds: Option<f64>,
    /// Cost of its execution in AIT; null: unknown.
    pub cost: Option<Money>,
    /// When the evaluation was asked for.
    pub created_at: Timestamp,
}

/// Two evaluations compared case by case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EvaluationComparison {
    /// The evaluation that is compared.
    pub evaluation_id: EvaluationId,
    /// The one that it is compared with.
    pub against: EvaluationId,
    /// Cases that both have.
    pub pairs: i64,
    /// Cases that pass now and did not before.
    pub gained: i64,
    /// Cases that passed before and do not now.
    pub lost: i64,
    /// Mean of the scores' differences by the cases' weights, new less old; null: there is no pair.
    pub difference: Option<f64>,
    /// Lower end of its 95 % interval.
    pub low: Option<f64>,
    /// Upper end of it.
    pub high: Option<f64>,
    /// Exact probability of a split of gained and lost cases as uneven as this one, if both were equally likely (McNemar).
    pub p_value: Option<f64>,
    /// Whether the interval lies above 0 (`better`), below (`worse`), or neither (`unclear`).
    pub verdict: String,
    /// Why figures are null, by their names.
    pub reasons: BTreeMap<String, String>,
}

am_db::stored_enum! {
    /// What a gate asks of a version.
    #[schema(as = AliasGateRule)]
    pub enum GateRule {
        /// The lower end of the interval of its score is at least `bound`.
        AtLeast = "at_least" / "at_least",
        /// Compared case by case with the version that the alias points to, the lower end of the difference's interval is at least
        /// less `bound`.
        NotWorse = "not_worse" / "not_worse",
    }
}

/// A gate to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = AliasGateDraft)]
pub struct GateDraft {
    /// Name of the policy, which is the caller's.
    pub policy: String,
    /// Alias of the policy.
    pub alias: String,
    /// `at_least` or `not_worse`.
    pub rule: GateRule,
    /// Bound of the rule, from 0 to 1.
    pub bound: f64,
}

/// A condition of a policy's alias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AliasGate)]
pub struct GateDocument {
    /// Id of the gate.
    pub id: AliasGateId,
    /// Suite whose evaluations it asks for.
    pub suite_id: SuiteId,
    /// Name of the policy.
    pub policy: String,
    /// Alias of the policy.
    pub alias: String,
    /// What it asks.
    pub rule: GateRule,
    /// Bound of the rule, from 0 to 1.
    pub bound: f64,
    /// Principal that made it.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// When it was made.
    pub created_at: Timestamp,
}
