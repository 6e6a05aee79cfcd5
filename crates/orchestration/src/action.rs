//! Actions of steps: parsed and validated when a workflow is created, executed by the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value};

use super::{
    agent_step::{self, AgentSpec},
    command_step::{self, CommandSpec},
    http_step::{HttpSpec, parse_http_request},
    jq::{SourceText, TextChecker},
    model::{MAX_STEP_SECONDS, StepType},
    template::JsonTemplate,
};
use am_core::{
    config::HttpEndpoint,
    money::Money,
    validation::{FieldPath, Violation, Violations, join, within},
};
use am_jobs::{JobService, llm_vram_gb};
use am_rl::{
    PolicyReference, PolicyServer, RlError,
    library::PolicyLibrary,
    runs::{TrainingRequest, TrainingSpec, default_policy_name, validate_spec},
};
use am_security::sandbox::SandboxCeilings;

/// Action of a step.
#[derive(Clone, Debug)]
pub enum StepAction {
    /// Transform the input by a jq program.
    Jq(Arc<str>),
    /// Ask a reinforcement-learning policy.
    Policy(PolicyTarget),
    /// Train a reinforcement-learning policy.
    Train(Arc<TrainSpec>),
    /// Queue a job at the coordinator and wait for its miner.
    Job(JobSpec),
    /// Call a configured HTTP endpoint.
    Http(Arc<HttpSpec>),
    /// Assign the step to an agent of the registry.
    Agent(Arc<AgentSpec>),
    /// Run a command in a sandbox.
    Command(Arc<CommandSpec>),
    /// Validate the input by a JSON Schema and by a jq program that must return true.
    Check {
        /// Schema as JSON text.
        schema: Option<Arc<str>>,
        /// Program that must return true.
        assert: Option<Arc<str>>,
    },
    /// Check that the steps it depends on passed their verification.
    CheckDependencies,
    /// Return the input as output.
    Identity,
    /// An action that the monolith accepted without effect; it does nothing.
    Unsupported(&'static str),
}

/// Policy that a step asks.
#[derive(Clone, Debug)]
pub enum PolicyTarget {
    /// Named in the definition.
    Fixed(PolicyReference),
    /// Path to the name: a version that an earlier step has trained.
    Path(JsonTemplate),
}

/// Training that a step starts.
#[derive(Clone, Debug)]
pub struct TrainSpec {
    /// Policy that gets a new version.
    pub policy: String,
    /// Work of the training run.
    pub work: TrainingSpec,
}

/// Job that a step queues.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// Service that does the job.
    pub service: JobService,
    /// Request; members of the step's input that it lacks are added.
    pub request: JsonTemplate,
    /// Constraints that replace those of the service, member by member.
    pub constraints: Map<String, Value>,
    /// Time to live that replaces the service's; `None`: the service's.
    pub ttl: Option<Duration>,
    /// Maximum price, reserved before the job is queued; `None`: no limit.
    pub max_price: Option<Money>,
}

impl StepAction {
    /// Return the template that may refer to results of other steps, with the member that contains it (`None`: the
    /// action itself).
    pub fn template(&self) -> Option<(Option<&'static str>, &JsonTemplate)> {
        match self {
            Self::Job(job) => Some((Some("request"), &job.request)),
            Self::Agent(spec) => Some((Some("request"), &spec.request)),
            Self::Http(call) => Some((None, &call.document)),
            Self::Policy(PolicyTarget::Path(path)) => Some((Some("policy"), path)),
            Self::Command(command) => Some((None, &command.document)),
            _ => None,
        }
    }

    /// Return the word for the action in logs: the `kind` that clients write, where they write one.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Jq(_) => "jq",
            Self::Policy(_) => "policy",
            Self::Train(_) => "train",
            Self::Job(_) => "job",
            Self::Http(_) => "http",
            Self::Agent(_) => "agent",
            Self::Command(_) => "command",
            Self::Check { .. } => "check",
            Self::CheckDependencies => "verification",
            Self::Identity | Self::Unsupported(_) => "none",
        }
    }

    /// Return whether the action can be repeated without harm, because it has no effect outside the process.
    pub fn is_pure(&self) -> bool {
        !matches!(self, Self::Job(_) | Self::Http(_) | Self::Train(_) | Self::Command(_) | Self::Agent(_))
    }
}

/// Names that actions may refer to.
#[derive(Clone)]
pub struct ActionCatalog {
    /// Configured HTTP endpoints by name.
    pub endpoints: Arc<BTreeMap<String, HttpEndpoint>>,
    /// Policies that answer.
    pub policies: PolicyServer,
    /// Ceilings of what commands may ask of their sandboxes.
    pub ceilings: SandboxCeilings,
    /// Library of the policies, in which those that are not known are looked for.
    pub library: PolicyLibrary,
    /// Compiles programs and schemas.
    pub texts: TextChecker,
    /// Whether a name must be one of these. False where a run goes on: a name that is gone concerns its step alone, and only
    /// if that is still to begin.
    pub must_exist: bool,
}

impl ActionCatalog {
    /// The same names for a run that goes on.
    pub fn for_takeover(&self) -> Self {
        Self { must_exist: false, ..self.clone() }
    }
}

/// Return the policy that a step's action trains, if it trains one.
pub fn trained_policy(step: &Value) -> Option<String> {
    let action = step.get("action")?.as_object()?;
    match action.get("kind")?.as_str()? {
        "train" => parse_train(action).ok().map(|spec| spec.policy),
        _ => None,
    }
}

/// Return the programs and schemas in the action of `step`, each with its member. What has another type is left for
/// [`parse_action`] to refuse.
pub fn source_texts(step: &Value) -> Vec<(&'static str, SourceText)> {
    let Some(action) = step.get("action").and_then(Value::as_object) else { return Vec::new() };
    let program = |member| {
        let text = action.get(member)?.as_str()?;
        Some((member, SourceText::Program(text.into())))
    };
    let schema = || {
        let schema = action.get("schema").filter(|schema| !schema.is_null())?;
        Some(("schema", SourceText::Schema(schema.to_string().into())))
    };
    match action.get("kind").and_then(Value::as_str) {
        Some("jq") => program("program").into_iter().collect(),
        Some("check") => schema().into_iter().chain(program("assert")).collect(),
        _ => Vec::new(),
    }
}

/// Return the policy that `step` asks, if its action names one.
pub fn asked_policy(step: &Value) -> Option<PolicyReference> {
    let action = step.get("action")?.as_object()?;
    let policy = action.get("policy")?.as_str()?;
    (action.get("kind")?.as_str()? == "policy" && !policy.starts_with('$')).then(|| policy.parse().ok()).flatten()
}

/// Read the `action` of a step of type `step_type`. `trained` are the policies that steps of the same definition train.
///
/// # Errors
/// Every violation, with its path inside the step.
pub fn parse_action(
    action: Option<&Value>,
    step_type: StepType,
    model: Option<&str>,
    names: &ActionCatalog,
    trained: &BTreeSet<String>,
) -> Result<StepAction, Vec<Violation>> {
    let Some(action) = action.filter(|action| !action.is_null()) else { return Ok(default_action(step_type, model)) };
    let Some(members) = action.as_object() else { return Err(one(["action"], "must be an object")) };
    let Some(kind) = members.get("kind").and_then(Value::as_str) else {
        return Err(one(["action", "kind"], "must be a string"));
    };
    let allowed: &[&str] = match step_type {
        StepType::DataProcessing => &["jq", "agent"],
        StepType::Inference => &["policy", "job", "http", "agent"],
        StepType::Training => &["train", "job", "agent"],
        StepType::Verification => &["check"],
        StepType::Custom => &["http", "command", "agent"],
    };
    if !allowed.contains(&kind) {
        let allowed = allowed.join(", ");
        let message = format!("{kind:?} is not possible in a step of type {step_type}; one of {allowed}");
        return Err(one(["action", "kind"], message));
    }
    let read = match kind {
        "jq" => jq_program(members),
        "policy" => parse_policy(members, names, trained).map_err(|message| one("policy", message)),
        "train" => parse_train(members).map(|spec| StepAction::Train(Arc::new(spec))),
        "job" => parse_job(members),
        "http" => parse_http(members, names),
        "check" => parse_check(members),
        "agent" => return agent_step::parse_agent_step(members).map(|spec| StepAction::Agent(Arc::new(spec))),
        _ => return command_step::parse_command(members).map(|spec| StepAction::Command(Arc::new(spec))),
    };
    read.map_err(|found| within("action", found))
}

fn one(path: impl Into<FieldPath>, message: impl Into<String>) -> Vec<Violation> {
    vec![Violation::new(path, message)]
}

fn default_action(step_type: StepType, model: Option<&str>) -> StepAction {
    match (step_type, model) {
        (StepType::Inference, Some(model)) if llm_vram_gb(model).is_some() => StepAction::Job(JobSpec {
            service: JobService::LlmInference,
            request: JsonTemplate::literal(serde_json::json!({"model": model})),
            constraints: Map::new(),
            ttl: None,
            max_price: None,
        }),
        (StepType::Inference, Some(_)) => StepAction::Unsupported(
            "model_requirements.model is not a language model that miners run, and the step has no action",
        ),
        (StepType::Inference, None) => {
            StepAction::Unsupported("an inference step needs an action, or model_requirements.model")
        }
        (StepType::Training, _) => StepAction::Unsupported("a training step needs an action"),
        (StepType::Verification, _) => StepAction::CheckDependencies,
        (StepType::DataProcessing | StepType::Custom, _) => StepAction::Identity,
    }
}

// Each reads the members of one kind of action. Paths start inside the action. Programs and schemas are not compiled.

fn parse_program(members: &Map<String, Value>, member: &str) -> Result<Option<Arc<str>>, Violation> {
    let Some(value) = members.get(member) else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| Violation::new(member, "must be a jq program, a string"))?;
    Ok(Some(text.into()))
}

fn jq_program(members: &Map<String, Value>) -> Result<StepAction, Vec<Violation>> {
    let program = parse_program(members, "program").map_err(|violation| vec![violation])?;
    program.map(StepAction::Jq).ok_or_else(|| one("program", "is missing"))
}

fn parse_policy(
    members: &Map<String, Value>,
    names: &ActionCatalog,
    trained: &BTreeSet<String>,
) -> Result<StepAction, String> {
    let text = members.get("policy").and_then(Value::as_str).ok_or("must be a policy's name, a string")?;
    if text.starts_with('$') {
        let template = JsonTemplate::parse(Value::String(text.to_owned())).map_err(|found| join(&found))?;
        return Ok(StepAction::Policy(PolicyTarget::Path(template)));
    }
    let reference: PolicyReference = text.parse().map_err(|error| format!("{error}"))?;
    // A policy, version or alias that does not exist yet may exist when the step begins.
    if names.must_exist && !trained.contains(&reference.name) {
        names.policies.resolve(&reference).map_err(|error| error.to_string())?;
    }
    Ok(StepAction::Policy(PolicyTarget::Fixed(reference)))
}

fn parse_train(members: &Map<String, Value>) -> Result<TrainSpec, Vec<Violation>> {
    if !members.get("environment").is_some_and(Value::is_string) {
        return Err(one("environment", "must be an environment's name, a string"));
    }
    let read: Result<TrainingRequest, _> = serde_path_to_error::deserialize(Value::Object(members.clone()));
    let read = read.map_err(|error| {
        let member = error.path().iter().next().map(ToString::to_string).unwrap_or_default();
        one([member], error.inner().to_string())
    })?;
    if read.calibrate {
        let why = "is not possible in a step: give the parameters that the environment's calibration answers";
        return Err(one("calibrate", why));
    }
    let policy = read.policy.clone();
    let work = validate_spec(read.work()).map_err(|error| match error {
        RlError::Invalid(found) => found,
        other => one("kind", other.to_string()),
    })?;
    let policy = policy.unwrap_or_else(|| default_policy_name(&work));
    PolicyReference::named(&policy).map_err(|error| one("policy", error.to_string()))?;
    Ok(TrainSpec { policy, work })
}

fn parse_job(members: &Map<String, Value>) -> Result<StepAction, Vec<Violation>> {
    let mut violations = Violations::default();
    let given = |member: &str| members.get(member).filter(|value| !value.is_null());
    let service = service(members.get("service")).map_err(|message| Violation::new("service", message));
    let service = violations.take(service);
    let request = members.get("request").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    violations.require(request.is_object(), "request", "must be an object");
    let constraints = given("constraints").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    violations.require(constraints.is_object(), "constraints", "must be an object");
    let ttl = given("ttl_seconds").map(|ttl| ttl.as_u64().filter(|ttl| (1..=MAX_STEP_SECONDS).contains(ttl)));
    violations.require(ttl != Some(None), "ttl_seconds", format!("must be 1 to {MAX_STEP_SECONDS}"));
    let max_price = constraints.get("max_price").or_else(|| members.get("max_price")).filter(|price| !price.is_null());
    let max_price = max_price.map(|price| price.as_f64().filter(|price| *price >= 0.0).map(Money::from_f64));
    violations.require(max_price != Some(None), "max_price", "must be a number from 0");
    let request = violations.take(JsonTemplate::parse(request).map_err(|found| within("request", found)));
    let (ttl, max_price) = (ttl.flatten().map(Duration::from_secs), max_price.flatten());
    let constraints = constraints.as_object().cloned().unwrap_or_default();
    let job = service.zip(request);
    violations.finish_with(
        job.map(|(service, request)| StepAction::Job(JobSpec { service, request, constraints, ttl, max_price })),
    )
}

fn service(sent: Option<&Value>) -> Result<JobService, String> {
    let name = sent.and_then(Value::as_str).ok_or("must be a service's name, a string")?;
    JobService::from_name(name).ok_or_else(|| {
        let known = JobService::ALL.map(JobService::name).join(", ");
        format!("{name:?} is no service; one of {known}")
    })
}

fn parse_http(members: &Map<String, Value>, names: &ActionCatalog) -> Result<StepAction, Vec<Violation>> {
    let mut violations = Violations::default();
    let endpoint = members.get("endpoint").and_then(Value::as_str).unwrap_or_default();
    if endpoint.is_empty() {
        violations.add("endpoint", "must be the name of a configured endpoint, a string");
    } else if names.must_exist && !names.endpoints.contains_key(endpoint) {
        let known = names.endpoints.keys().cloned().collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none is configured".into() } else { format!("one of {known}") };
        violations.add("endpoint", format!("{endpoint:?} is no configured endpoint; {known}"));
    }
    let call = parse_http_request(endpoint, members, names.endpoints.get(endpoint).filter(|_| names.must_exist));
    let call = violations.take(call);
    violations.finish_with(call.map(|call| StepAction::Http(Arc::new(call))))
}

fn parse_check(members: &Map<String, Value>) -> Result<StepAction, Vec<Violation>> {
    let mut violations = Violations::default();
    let schema = members.get("schema").filter(|schema| !schema.is_null());
    let schema: Option<Arc<str>> = schema.map(|schema| schema.to_string().into());
    let assert = violations.take(parse_program(members, "assert")).flatten();
    if schema.is_none() && !members.contains_key("assert") {
        violations.add(FieldPath::default(), "a check needs a schema or an assert");
    }
    violations.finish_with(Some(StepAction::Check { schema, assert }))
}
