//! What a step does: parsed and checked when the workflow is created, performed by the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value};

use super::{
    agent_step::{self, AgentSpec},
    command::{self, CommandSpec},
    jq,
    model::{Fault, StepType},
    template::Template,
};
use am_core::config::HttpEndpoint;
use am_jobs::{Service, llm_vram_gb};
use am_jq_worker::schema::Schema;
use am_rl::{
    Error, Policies, PolicyReference,
    runs::{Request, Work, checked, default_policy},
};

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Change the input by a jq program.
    Jq(Arc<str>),
    /// Ask a reinforcement-learning policy.
    Policy(PolicyName),
    /// Train one.
    Train(Arc<TrainSpec>),
    /// Put a job into the coordinator's queue and wait for its miner.
    Job(JobSpec),
    /// Call a configured address.
    Http {
        /// Its configured name.
        endpoint: String,
        /// The body; none: the step's input.
        body: Option<Template>,
    },
    /// Let an agent of the registry do it.
    Agent(Arc<AgentSpec>),
    /// Run a command in a sandbox.
    Command(Arc<CommandSpec>),
    /// Check the input against a JSON Schema and a jq program that must answer true.
    Check {
        /// The schema, as JSON text.
        schema: Option<Arc<str>>,
        /// The program.
        assert: Option<Arc<str>>,
    },
    /// Check the verification of the steps this one waits for.
    CheckDependencies,
    /// The output is the input.
    Identity,
    /// The monolith took such a step; it says nothing that could be done.
    Nothing(&'static str),
}

/// The policy that a step asks.
#[derive(Clone, Debug)]
pub enum PolicyName {
    /// It stands in the definition.
    Known(PolicyReference),
    /// A path leads to it: a version that a step before has trained.
    Path(Template),
}

/// What a step trains.
#[derive(Clone, Debug)]
pub struct TrainSpec {
    /// The policy that gets a version.
    pub policy: String,
    /// How.
    pub work: Work,
}

/// A job as a step describes it.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// The service.
    pub service: Service,
    /// The request; members that the step's input has and this has not are added.
    pub request: Template,
    /// Replaces the service's own constraints, member by member.
    pub constraints: Map<String, Value>,
    /// Replaces the service's own time to live.
    pub ttl: Option<Duration>,
    /// The most it may cost; reserved before it is put into the queue.
    pub max_price: Option<f64>,
}

impl Action {
    /// The document of it that may name other steps' results, and the member that holds it; none: its own members do.
    pub fn template(&self) -> Option<(Option<&'static str>, &Template)> {
        match self {
            Self::Job(job) => Some((Some("request"), &job.request)),
            Self::Agent(spec) => Some((Some("request"), &spec.request)),
            Self::Http { body, .. } => body.as_ref().map(|body| (Some("body"), body)),
            Self::Policy(PolicyName::Path(path)) => Some((Some("policy"), path)),
            Self::Command(command) => Some((None, &command.document)),
            _ => None,
        }
    }

    /// May it be repeated at no harm, nothing having left the process?
    pub fn is_pure(&self) -> bool {
        !matches!(self, Self::Job(_) | Self::Http { .. } | Self::Train(_) | Self::Command(_) | Self::Agent(_))
    }
}

/// What actions may name.
#[derive(Clone)]
pub struct Names {
    /// Configured addresses.
    pub endpoints: Arc<BTreeMap<String, HttpEndpoint>>,
    /// Policies.
    pub policies: Policies,
}

/// The policy that the action of a step would train, if it trains one.
pub fn trains(step: &Value) -> Option<String> {
    let action = step.get("action")?.as_object()?;
    match action.get("kind")?.as_str()? {
        "train" => train(action).ok().map(|spec| spec.policy),
        _ => None,
    }
}

/// Read the `action` of a step of type `step_type`. Paths of faults start inside the step;
/// `trained` are the policies that steps of the same definition train.
///
/// # Errors
/// Each fault, with the member it is in.
pub fn parse(
    action: Option<&Value>,
    step_type: StepType,
    model: Option<&str>,
    names: &Names,
    trained: &BTreeSet<String>,
) -> Result<Action, Fault> {
    let Some(action) = action.filter(|action| !action.is_null()) else { return Ok(without(step_type, model)) };
    let fault = |member: &str, message: String| Fault::new(["action", member], message);
    let Some(members) = action.as_object() else { return Err(Fault::new(["action"], "must be an object")) };
    let kind = members.get("kind").and_then(Value::as_str).ok_or_else(|| fault("kind", "must be a string".into()))?;
    let allowed: &[&str] = match step_type {
        StepType::DataProcessing => &["jq", "agent"],
        StepType::Inference => &["policy", "job", "http", "agent"],
        StepType::Training => &["train", "job", "agent"],
        StepType::Verification => &["check"],
        StepType::Custom => &["http", "command", "agent"],
    };
    if !allowed.contains(&kind) {
        return Err(fault(
            "kind",
            format!("{kind:?} is not possible in a step of type {step_type}; one of {}", allowed.join(", ")),
        ));
    }
    match kind {
        "jq" => Ok(Action::Jq(program(members, "program")?.ok_or_else(|| fault("program", "is missing".into()))?)),
        "policy" => policy(members, names, trained),
        "train" => train(members).map(|spec| Action::Train(Arc::new(spec))),
        "job" => job(members),
        "http" => http(members, names),
        "check" => check(members),
        "agent" => agent_step::parse(members).map(|spec| Action::Agent(Arc::new(spec))),
        _ => command::parse(members).map(|spec| Action::Command(Arc::new(spec))),
    }
}

fn without(step_type: StepType, model: Option<&str>) -> Action {
    match (step_type, model) {
        (StepType::Inference, Some(model)) if llm_vram_gb(model).is_some() => Action::Job(JobSpec {
            service: Service::LlmInference,
            request: Template::literal(serde_json::json!({"model": model})),
            constraints: Map::new(),
            ttl: None,
            max_price: None,
        }),
        (StepType::Inference, Some(_)) => Action::Nothing(
            "model_requirements.model is not a language model that miners run, and the step has no action",
        ),
        (StepType::Inference, None) => {
            Action::Nothing("an inference step needs an action, or model_requirements.model")
        }
        (StepType::Training, _) => Action::Nothing("a training step needs an action"),
        (StepType::Verification, _) => Action::CheckDependencies,
        (StepType::DataProcessing | StepType::Custom, _) => Action::Identity,
    }
}

fn program(members: &Map<String, Value>, member: &str) -> Result<Option<Arc<str>>, Fault> {
    let Some(value) = members.get(member) else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| Fault::new(["action", member], "must be a jq program, a string"))?;
    jq::check(text).map_err(|error| Fault::new(["action", member], error.to_string()))?;
    Ok(Some(text.into()))
}

fn policy(members: &Map<String, Value>, names: &Names, trained: &BTreeSet<String>) -> Result<Action, Fault> {
    let fault = |message: String| Fault::new(["action", "policy"], message);
    let text = members
        .get("policy")
        .and_then(Value::as_str)
        .ok_or_else(|| fault("must be a policy's name, a string".into()))?;
    if text.starts_with('$') {
        let template = Template::parse(Value::String(text.to_owned())).map_err(|(_, message)| fault(message))?;
        return Ok(Action::Policy(PolicyName::Path(template)));
    }
    let reference: PolicyReference = text.parse().map_err(|error| fault(format!("{error}")))?;
    // A policy, version or alias that is not there yet may be there when the step begins.
    if !trained.contains(&reference.name) {
        names.policies.resolve(&reference).map_err(|error| fault(error.to_string()))?;
    }
    Ok(Action::Policy(PolicyName::Known(reference)))
}

fn train(members: &Map<String, Value>) -> Result<TrainSpec, Fault> {
    let fault = |member: &str, message: String| Fault::new(["action", member], message);
    if !members.get("environment").is_some_and(Value::is_string) {
        return Err(fault("environment", "must be an environment's name, a string".into()));
    }
    let read: Request = serde_path_to_error::deserialize(Value::Object(members.clone())).map_err(|error| {
        let member = error.path().iter().next().map(ToString::to_string).unwrap_or_default();
        fault(&member, error.inner().to_string())
    })?;
    if read.calibrate {
        let why = "is not possible in a step: give the parameters that the environment's calibration answers";
        return Err(fault("calibrate", why.into()));
    }
    let policy = read.policy.clone();
    let work = checked(read.work()).map_err(|error| match error {
        Error::Invalid { path, message } => Fault::new(std::iter::once("action".to_owned()).chain(path), message),
        other => fault("kind", other.to_string()),
    })?;
    let policy = policy.unwrap_or_else(|| default_policy(&work));
    PolicyReference::named(&policy).map_err(|error| fault("policy", error.to_string()))?;
    Ok(TrainSpec { policy, work })
}

fn job(members: &Map<String, Value>) -> Result<Action, Fault> {
    let fault = |member: &str, message: String| Fault::new(["action", member], message);
    let service = match members.get("service").and_then(Value::as_str) {
        None => return Err(fault("service", "must be a service's name, a string".into())),
        Some(name) => Service::from_name(name).ok_or_else(|| {
            let known = Service::ALL.map(Service::name).join(", ");
            fault("service", format!("{name:?} is no service; one of {known}"))
        })?,
    };
    let request = members.get("request").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    if !request.is_object() {
        return Err(fault("request", "must be an object".into()));
    }
    let constraints = match members.get("constraints") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(constraints)) => constraints.clone(),
        Some(_) => return Err(fault("constraints", "must be an object".into())),
    };
    let ttl = match members.get("ttl_seconds") {
        None | Some(Value::Null) => None,
        Some(value) => match value.as_u64() {
            Some(seconds @ 1..=604_800) => Some(Duration::from_secs(seconds)),
            _ => return Err(fault("ttl_seconds", "must be 1 to 604800".into())),
        },
    };
    let max_price = match constraints.get("max_price").or_else(|| members.get("max_price")) {
        None | Some(Value::Null) => None,
        Some(value) => match value.as_f64() {
            Some(price) if price >= 0.0 => Some(price),
            _ => return Err(fault("max_price", "must be a number from 0".into())),
        },
    };
    let request = Template::parse(request).map_err(|(mut path, message)| {
        path.splice(0..0, ["action".into(), "request".into()]);
        Fault { path, message }
    })?;
    Ok(Action::Job(JobSpec { service, request, constraints, ttl, max_price }))
}

fn http(members: &Map<String, Value>, names: &Names) -> Result<Action, Fault> {
    let fault = |message: String| Fault::new(["action", "endpoint"], message);
    let endpoint = members
        .get("endpoint")
        .and_then(Value::as_str)
        .ok_or_else(|| fault("must be the name of a configured endpoint, a string".into()))?;
    if !names.endpoints.contains_key(endpoint) {
        let known = names.endpoints.keys().cloned().collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none is configured".into() } else { format!("one of {known}") };
        return Err(fault(format!("{endpoint:?} is no configured endpoint; {known}")));
    }
    let body = members.get("body").cloned().map(Template::parse).transpose().map_err(|(mut path, message)| {
        path.splice(0..0, ["action".into(), "body".into()]);
        Fault { path, message }
    })?;
    Ok(Action::Http { endpoint: endpoint.to_owned(), body })
}

fn check(members: &Map<String, Value>) -> Result<Action, Fault> {
    let schema = match members.get("schema") {
        None | Some(Value::Null) => None,
        Some(schema) => {
            Schema::compile(schema).map_err(|error| Fault::new(["action", "schema"], error.to_string()))?;
            Some(schema.to_string().into())
        }
    };
    let assert = program(members, "assert")?;
    if schema.is_none() && assert.is_none() {
        return Err(Fault::new(["action"], "a check needs a schema or an assert"));
    }
    Ok(Action::Check { schema, assert })
}
