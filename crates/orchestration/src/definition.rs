//! A workflow's definition: read, checked as a whole, and compiled to a [`Plan`] that the engine can run.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::{
    action::{self, Action, Names},
    dag, hooks,
    mapping::Mapping,
    model::{Fault, Place, RetryPolicy, StepType, VerificationLevel},
};
use am_core::crypto;

/// The most steps of a workflow.
const MAX_STEPS: usize = 1000;
/// The longest a step may take, in seconds.
const MAX_TIMEOUT: u64 = 604_800;

/// A definition as it is stored with a run: nothing in it changes any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Definition {
    /// Step key to step, in order.
    pub steps: Map<String, Value>,
    /// Step key to the keys it waits for.
    #[serde(default)]
    pub dependencies: Map<String, Value>,
    /// Groups of steps with inputs of their own: how several agents become one run.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub scopes: Map<String, Value>,
}

/// A step, ready to run.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its key in the definition.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// What it is for.
    pub step_type: StepType,
    /// What it does.
    pub action: Action,
    /// Where its input comes from; none: what it waits for, or the run's inputs.
    pub inputs: Option<Mapping>,
    /// What of its result becomes its output; none: all.
    pub outputs: Option<Mapping>,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// How a failed attempt is tried again.
    pub retry: RetryPolicy,
    /// How often.
    pub max_retries: u32,
    /// Must it leave a proof?
    pub requires_proof: bool,
    /// How it is checked, if it says so itself.
    pub verification_level: Option<VerificationLevel>,
    /// The steps it waits for, by index.
    pub depends_on: Vec<usize>,
    /// The group it belongs to, with the mapping that makes the group's inputs.
    pub scope: Option<Arc<Scope>>,
    /// What it needs, as the definition says it.
    pub model_requirements: Value,
    /// As the definition says it.
    pub raw: RawStep,
}

/// A group of steps that sees its own inputs and its own steps only.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Its name; the keys of its steps are `<name>.<key>`.
    pub name: String,
    /// Makes its inputs, out of the run's.
    pub inputs: Mapping,
}

/// A step as it stands in a definition. Members that are not named here are ignored.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct RawStep {
    /// For people; the key where it is missing.
    pub name: Option<String>,
    /// Default inference.
    pub step_type: Option<StepType>,
    /// `model` names a language model.
    pub model_requirements: Option<Map<String, Value>>,
    /// Name to JSONPath or literal.
    pub input_mappings: Option<Map<String, Value>>,
    /// Name to JSONPath or literal.
    pub output_mappings: Option<Map<String, Value>>,
    /// Default 300.
    pub timeout_seconds: Option<u64>,
    /// See [`RetryPolicy`].
    pub retry_policy: Option<RetryPolicy>,
    /// Default 3.
    pub max_retries: Option<u32>,
    /// Default false.
    pub requires_proof: Option<bool>,
    /// Default the execution's.
    pub verification_level: Option<VerificationLevel>,
    /// Keys of the steps it waits for.
    pub depends_on: Option<Vec<String>>,
    /// What it does.
    pub action: Option<Value>,
    /// The group it belongs to.
    pub scope: Option<String>,
    /// The step whose hook it is: waited for, and neither input nor result of others.
    pub hook_of: Option<String>,
}

/// A compiled definition.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The steps, in the definition's order.
    pub steps: Vec<Step>,
    /// For each step the steps that wait for it.
    pub dependents: Vec<Vec<usize>>,
    /// The definition's canonical JSON, as it is stored with a run.
    pub body: Arc<str>,
    /// SHA-256 of `body`, in hex.
    pub hash: String,
}

/// Definitions up to this size, in bytes of JSON, are compiled where they are; larger ones could hold a thread for long.
const QUICK: usize = 8 << 10;

impl Definition {
    /// [`Definition::compile`], off the asynchronous threads where it may take long: programs and schemas are read.
    ///
    /// # Errors
    /// As [`Definition::compile`].
    pub async fn compiled(self, names: &Names) -> Result<Plan, Vec<Fault>> {
        let size: usize = self.steps.values().map(|step| step.to_string().len()).sum();
        if size <= QUICK {
            return self.compile(names);
        }
        let names = names.clone();
        let compiled = tokio::task::spawn_blocking(move || self.compile(&names)).await;
        compiled.unwrap_or_else(|_| Err(vec![Fault::new(["steps"], "could not be read")]))
    }

    /// From the two members of a workflow.
    pub fn new(steps: Map<String, Value>, dependencies: Map<String, Value>) -> Self {
        Self { steps, dependencies, scopes: Map::new() }
    }

    /// Check everything and compile.
    ///
    /// # Errors
    /// Every fault that was found, each with its path.
    pub fn compile(&self, names: &Names) -> Result<Plan, Vec<Fault>> {
        match hooks::expand(self)? {
            None => self.compile_expanded(names),
            Some(expanded) => {
                let plan = expanded.compile_expanded(names);
                plan.map_err(|faults| faults.into_iter().map(|fault| hooks::written(&expanded, fault)).collect())
            }
        }
    }

    fn compile_expanded(&self, names: &Names) -> Result<Plan, Vec<Fault>> {
        if self.steps.len() > MAX_STEPS {
            return Err(vec![Fault::new(
                ["steps"],
                format!("at most {MAX_STEPS} steps; these are {}", self.steps.len()),
            )]);
        }
        // Compiled from the form that is stored with a run: a worker that takes the run over must read the same, down
        // to the order of an object's members.
        let (body, hash) = self.snapshot();
        let stored = Self::from_snapshot(&body)
            .map_err(|error| vec![Fault::new(["steps"], format!("can't be stored: {error}"))])?;
        stored.compile_stored(names, body, hash)
    }

    fn compile_stored(&self, names: &Names, body: Arc<str>, hash: String) -> Result<Plan, Vec<Fault>> {
        let scopes = self.scopes()?;
        let index: HashMap<&str, usize> = self.steps.keys().enumerate().map(|(at, key)| (key.as_str(), at)).collect();
        let trained: BTreeSet<String> = self.steps.values().filter_map(action::trains).collect();
        let known = Known { index: &index, scopes: &scopes, names, trained: &trained };
        let mut faults = Vec::new();
        let mut steps = Vec::with_capacity(self.steps.len());
        for (key, value) in &self.steps {
            match step(key, value, &known) {
                Ok(step) => steps.push(step),
                Err(found) => faults.extend(found.into_iter().map(|fault| fault.below(&["steps", key]))),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        self.add_dependencies(&mut steps, &index)?;
        check_order(&steps)?;
        let mut dependents = vec![Vec::new(); steps.len()];
        for (at, step) in steps.iter().enumerate() {
            for other in &step.depends_on {
                dependents[*other].push(at);
            }
        }
        Ok(Plan { steps, dependents, body, hash })
    }

    /// What a step waits for, said in either way; what is no key is left out.
    pub fn waits_for(&self, key: &str) -> impl Iterator<Item = &str> {
        let inside = self.steps.get(key).and_then(|step| step.get("depends_on"));
        let lists = [inside, self.dependencies.get(key)].into_iter().flatten();
        lists.filter_map(Value::as_array).flatten().filter_map(Value::as_str)
    }

    /// The canonical JSON with the steps' order kept beside them (canonical JSON sorts members), and its SHA-256.
    fn snapshot(&self) -> (Arc<str>, String) {
        let mut document = Map::new();
        document.insert("order".into(), self.steps.keys().cloned().collect());
        document.insert("steps".into(), Value::Object(self.steps.clone()));
        document.insert("dependencies".into(), Value::Object(self.dependencies.clone()));
        if !self.scopes.is_empty() {
            document.insert("scopes".into(), Value::Object(self.scopes.clone()));
        }
        let bytes = crypto::audit(&Value::Object(document));
        let hash = crypto::sha256_hex(&bytes);
        (String::from_utf8_lossy(&bytes).into(), hash)
    }

    /// Read a stored snapshot back.
    ///
    /// # Errors
    /// When the text is no snapshot.
    pub fn from_snapshot(body: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Snapshot {
            order: Vec<String>,
            #[serde(flatten)]
            definition: Definition,
        }
        let Snapshot { order, mut definition } = serde_json::from_str(body)?;
        let mut steps = Map::new();
        for key in order {
            if let Some(step) = definition.steps.remove(&key) {
                steps.insert(key, step);
            }
        }
        steps.append(&mut definition.steps);
        definition.steps = steps;
        Ok(definition)
    }

    fn scopes(&self) -> Result<HashMap<&str, Arc<Scope>>, Vec<Fault>> {
        let mut scopes = HashMap::new();
        for (name, value) in &self.scopes {
            let empty = Map::new();
            let inputs = Mapping::parse(value.as_object().unwrap_or(&empty)).map_err(|found| {
                found.into_iter().map(|fault| Fault::from(fault).below(&["scopes", name])).collect::<Vec<_>>()
            })?;
            scopes.insert(name.as_str(), Arc::new(Scope { name: name.clone(), inputs }));
        }
        Ok(scopes)
    }

    /// `dependencies` says the same as `depends_on` in the steps; both count.
    fn add_dependencies(&self, steps: &mut [Step], index: &HashMap<&str, usize>) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        for (key, waits_for) in &self.dependencies {
            let Some(&at) = index.get(key.as_str()) else {
                faults.push(Fault::new(["dependencies", key], format!("there is no step {key:?}")));
                continue;
            };
            let Some(list) = waits_for.as_array() else {
                faults.push(Fault::new(["dependencies", key], "must be a list of step keys"));
                continue;
            };
            for (place, other) in list.iter().enumerate() {
                match other.as_str().and_then(|other| index.get(other)) {
                    Some(other) if steps[at].depends_on.contains(other) => {}
                    Some(other) => steps[at].depends_on.push(*other),
                    None => {
                        let message = format!("there is no step {other}");
                        faults.push(Fault::new(["dependencies", key], message).item(place));
                    }
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// What a step may name.
struct Known<'a> {
    index: &'a HashMap<&'a str, usize>,
    scopes: &'a HashMap<&'a str, Arc<Scope>>,
    names: &'a Names,
    trained: &'a BTreeSet<String>,
}

fn step(key: &str, value: &Value, known: &Known<'_>) -> Result<Step, Vec<Fault>> {
    if key.is_empty() || key.len() > 200 {
        return Err(vec![Fault { path: Vec::new(), message: "a step's key has 1 to 200 characters".into() }]);
    }
    if !value.is_object() {
        return Err(vec![Fault { path: Vec::new(), message: "a step must be an object".into() }]);
    }
    // Serde would fill it from a list in its fields' order.
    if value.get("retry_policy").is_some_and(Value::is_array) {
        return Err(vec![Fault::new(["retry_policy"], "must be an object")]);
    }
    let raw: RawStep = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().iter().filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Place::Item(*index)),
            Segment::Map { key } => Some(key.into()),
            Segment::Enum { variant } => Some(variant.into()),
            Segment::Unknown => None,
        });
        vec![Fault::new(path, error.inner().to_string())]
    })?;
    let mut faults = bounds(&raw);
    let mut mapping = |member: &str, entries: Option<&Map<String, Value>>| {
        let entries = entries.filter(|entries| !entries.is_empty())?;
        match Mapping::parse(entries) {
            Ok(mapping) => Some(mapping),
            Err(found) => {
                faults.extend(found.into_iter().map(|fault| Fault::from(fault).below(&[member])));
                None
            }
        }
    };
    let inputs = mapping("input_mappings", raw.input_mappings.as_ref());
    let outputs = mapping("output_mappings", raw.output_mappings.as_ref());
    let mut depends_on = Vec::new();
    for (place, other) in raw.depends_on.iter().flatten().enumerate() {
        match known.index.get(other.as_str()) {
            Some(other) if depends_on.contains(other) => {}
            Some(other) => depends_on.push(*other),
            None => faults.push(Fault::new(["depends_on"], format!("there is no step {other:?}")).item(place)),
        }
    }
    let step_type = raw.step_type.unwrap_or(StepType::Inference);
    let model = raw.model_requirements.as_ref().and_then(|needs| needs.get("model")).and_then(Value::as_str);
    let action = match action::parse(raw.action.as_ref(), step_type, model, known.names, known.trained) {
        Ok(action) => action,
        Err(fault) => {
            faults.push(fault);
            Action::Identity
        }
    };
    let scope = match raw.scope.as_deref() {
        None => None,
        Some(name) => match known.scopes.get(name) {
            Some(scope) => Some(scope.clone()),
            None => {
                faults.push(Fault::new(["scope"], format!("there is no scope {name:?}")));
                None
            }
        },
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Step {
        key: key.to_owned(),
        name: raw.name.clone().unwrap_or_else(|| key.to_owned()),
        step_type,
        action,
        inputs,
        outputs,
        timeout: Duration::from_secs(raw.timeout_seconds.unwrap_or(300)),
        retry: raw.retry_policy.unwrap_or_default(),
        max_retries: raw.max_retries.unwrap_or(3),
        requires_proof: raw.requires_proof.unwrap_or(false),
        verification_level: raw.verification_level,
        depends_on,
        scope,
        model_requirements: raw.model_requirements.clone().map_or(Value::Null, Value::Object),
        raw,
    })
}

fn bounds(raw: &RawStep) -> Vec<Fault> {
    let mut faults = Vec::new();
    if raw.name.as_ref().is_some_and(|name| name.chars().count() > 100) {
        faults.push(Fault::new(["name"], "at most 100 characters"));
    }
    if raw.timeout_seconds.is_some_and(|seconds| !(1..=MAX_TIMEOUT).contains(&seconds)) {
        faults.push(Fault::new(["timeout_seconds"], format!("must be 1 to {MAX_TIMEOUT}")));
    }
    if raw.max_retries.is_some_and(|retries| retries > 100) {
        faults.push(Fault::new(["max_retries"], "must be 0 to 100"));
    }
    if let Some((member, message)) = raw.retry_policy.and_then(|policy| policy.fault()) {
        faults.push(Fault::new(["retry_policy", member], message));
    }
    faults
}

/// No cycle, and mappings name only steps that have ended by then.
fn check_order(steps: &[Step]) -> Result<(), Vec<Fault>> {
    let depends_on: Vec<Vec<usize>> = steps.iter().map(|step| step.depends_on.clone()).collect();
    if let Some(cycle) = dag::cycle(&depends_on) {
        let mut walk: Vec<&str> = cycle.iter().map(|at| steps[*at].key.as_str()).collect();
        walk.push(walk[0]);
        return Err(vec![Fault::new(
            ["steps", walk[0], "depends_on"],
            format!("a cycle: {} (each waits for the next)", walk.join(" -> ")),
        )]);
    }
    let ancestors = dag::ancestors(&depends_on);
    let index: HashMap<&str, usize> = steps.iter().enumerate().map(|(at, step)| (step.key.as_str(), at)).collect();
    let mut faults = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let prefix = step.scope.as_ref().map_or(String::new(), |scope| format!("{}.", scope.name));
        let mut check = |path: Vec<Place>, key: &str, itself: bool| {
            let key = format!("{prefix}{key}");
            let message = match index.get(key.as_str()) {
                Some(other) if ancestors[at].contains(other) || (itself && *other == at) => return,
                Some(_) => format!("step {key:?} need not have ended by then; add it to depends_on"),
                None => format!("there is no step {key:?}"),
            };
            faults.push(Fault { path, message }.below(&["steps", &step.key]));
        };
        for (entry, key) in step.inputs.iter().flat_map(Mapping::steps_used) {
            check(vec!["input_mappings".into(), entry.into()], key, false);
        }
        for (entry, key) in step.outputs.iter().flat_map(Mapping::steps_used) {
            check(vec!["output_mappings".into(), entry.into()], key, true);
        }
        if let Some((member, template)) = step.action.template() {
            for (path, key) in template.steps_used() {
                let to: Vec<Place> = ["action"].into_iter().chain(member).map(Place::from).collect();
                check([&to, path].concat(), key, false);
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}
