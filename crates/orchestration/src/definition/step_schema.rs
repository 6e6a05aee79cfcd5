//! The members of steps and actions, for the description of the API: what a client may write, and under which names. The
//! parsers read the same members from the definition.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    agents::{GpuTier, TaskType},
    model::{RetryPolicy, StepType, VerificationLevel},
};
use am_audit::SecurityLevel;
use am_core::{config::HttpMethod, money::Money};
use am_rl::runs::TrainingRequest;
use am_security::sandbox::{SandboxRequirements, StepLimits};

/// A step of a workflow.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the parser of definitions reads")]
pub struct WorkflowStep {
    /// Name, for people, at most 100 characters. Default: the key.
    name: Option<String>,
    /// Type of the step, which decides what actions are possible. Default `inference`.
    step_type: Option<StepType>,
    /// What the step does. Default: it passes on its input, or does what its type does without an action.
    action: Option<WorkflowAction>,
    /// Keys of the steps that must complete before. Default: none.
    depends_on: Option<Vec<String>>,
    /// Input of the action: values, and paths such as `$.inputs.x`, by name. Default: what the steps before answered.
    #[schema(value_type = Option<Object>)]
    input_mappings: Option<Map<String, Value>>,
    /// Output of the step: values, and paths such as `$.output.x`, by name. Default: what the action answered.
    #[schema(value_type = Option<Object>)]
    output_mappings: Option<Map<String, Value>>,
    /// Seconds that one attempt may take, 1 to 604800. Default 300.
    timeout_seconds: Option<u64>,
    /// Waits before further attempts.
    retry_policy: Option<RetryPolicy>,
    /// Attempts after the first, 0 to 100. Default 3.
    max_retries: Option<u32>,
    /// Verification level. Default: that of the execution.
    verification_level: Option<VerificationLevel>,
    /// Stored for the coordinator. Default false.
    requires_proof: Option<bool>,
    /// Requirements on a model; `model` names a language model. Default: none.
    #[schema(value_type = Option<Object>)]
    model_requirements: Option<Map<String, Value>>,
    /// Commands before the step begins and after it completed. Default: none.
    hooks: Option<StepHooks>,
}

/// Commands around a step.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the parser of hooks reads")]
pub struct StepHooks {
    /// Reads the step's input; if it fails, the step does not start.
    before: Option<HookCommand>,
    /// Reads the step's output, when it completed.
    after: Option<HookCommand>,
}

/// A command of a hook, in a sandbox.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what the parser of hooks reads")]
pub struct HookCommand {
    /// The program and its arguments.
    argv: Vec<Value>,
    /// Standard input: a text, or JSON. Default: the step's input or output as JSON.
    stdin: Option<Value>,
    /// Environment variables. Default: none.
    env: Option<BTreeMap<String, String>>,
    /// Security level whose rules apply. Default `public`.
    security_level: Option<SecurityLevel>,
    /// What it needs beyond the level's rules.
    requirements: Option<SandboxRequirements>,
    /// Limits below the rules.
    limits: Option<StepLimits>,
    /// Whether an exit status other than 0 is a normal result. Default false.
    allow_failure: Option<bool>,
    /// Seconds that one attempt may take. Default 300.
    timeout_seconds: Option<u64>,
    /// Attempts after the first. Default 3.
    max_retries: Option<u32>,
    /// Waits before further attempts.
    retry_policy: Option<RetryPolicy>,
}

/// What a step does.
#[derive(ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WorkflowAction {
    /// Transform the input by a jq program.
    Jq {
        /// The program, at most 64 KB.
        program: String,
    },
    /// Ask a reinforcement-learning policy.
    Policy {
        /// Name, with a version or an alias, or a path to one.
        policy: String,
    },
    /// Train a reinforcement-learning policy.
    Train(TrainingRequest),
    /// Order a job of one of the services.
    Job {
        /// Name of the service.
        service: String,
        /// Request to the service, with paths. Members that it lacks come from the step's input.
        #[schema(value_type = Option<Object>)]
        request: Option<Value>,
        /// Constraints on the miner, in place of the service's. Default: none.
        #[schema(value_type = Option<Object>)]
        constraints: Option<Value>,
        /// Seconds after which the job expires, 1 to 604800. Default: the service's.
        ttl_seconds: Option<u64>,
        /// Most that the job may cost, in AITBC tokens. Default: no limit.
        max_price: Option<Money>,
    },
    /// Call a configured endpoint.
    Http {
        /// Name of the endpoint (`HTTP_ENDPOINTS`).
        endpoint: String,
        /// Method of the request. Default `POST`.
        method: Option<HttpMethod>,
        /// Headers by name, with paths; only names that the endpoint's configuration allows. A null leaves one out. Default: none.
        #[schema(value_type = Option<Object>)]
        headers: Option<Map<String, Value>>,
        /// Parameters by name, with paths, added to those of the endpoint's URL; a list gives one for each item, a null
        /// none. Default: none.
        #[schema(value_type = Option<Object>)]
        query: Option<Map<String, Value>>,
        /// Body, with paths. Default: the step's input for POST, PUT and PATCH, no body for GET and DELETE.
        body: Option<Value>,
    },
    /// Check the input by a JSON Schema, by a jq program, or both.
    Check {
        /// JSON Schema of the input. Default: none.
        schema: Option<Value>,
        /// jq program that must answer true. Default: none.
        assert: Option<String>,
    },
    /// Assign the step to an agent of the registry.
    Agent {
        /// Type of the task.
        task_type: TaskType,
        /// Weakest GPU that will do. Default: none is needed.
        gpu_tier: Option<GpuTier>,
        /// The only agent that gets it. Default: any that does the type.
        agent_id: Option<String>,
        /// Only agents of this type get it. Default: any.
        agent_type: Option<String>,
        /// Request to the agent, with paths, beside its input. Default: none.
        #[schema(value_type = Option<Object>)]
        request: Option<Value>,
        /// Most that it may cost, in AITBC tokens. Default: no limit.
        max_price: Option<Money>,
        /// Estimated duration in seconds. Default: unknown.
        estimated_seconds: Option<f64>,
        /// 0 to 9; the lowest goes first. Default 1.
        priority: Option<i64>,
        /// Attempts by other agents after the first, 0 to 3. Default 3.
        max_retries: Option<i64>,
    },
    /// Run a command in a sandbox.
    Command {
        /// The program and its arguments.
        argv: Vec<Value>,
        /// Standard input: a text, or JSON. Default: the step's input as JSON.
        stdin: Option<Value>,
        /// Environment variables. Default: none.
        env: Option<BTreeMap<String, String>>,
        /// Security level whose rules apply. Default `public`.
        security_level: Option<SecurityLevel>,
        /// What it needs beyond the level's rules.
        requirements: Option<SandboxRequirements>,
        /// Limits below the rules.
        limits: Option<StepLimits>,
        /// Whether an exit status other than 0 is a normal result. Default false.
        allow_failure: Option<bool>,
    },
}
