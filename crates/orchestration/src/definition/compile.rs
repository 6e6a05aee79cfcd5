//! Validation of a definition as a whole, and its compilation to a plan.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value};

use super::{
    hooks,
    plan::{CompiledStep, ExecutionPlan, StepDefinition, StepScope},
    source::WorkflowDefinition,
};
use crate::{
    action::{self, ActionCatalog},
    dag,
    error::OrchestrationError,
    jq::{JqError, SourceText},
    mapping::ValueMapping,
    model::{MAX_STEP_SECONDS, StepType},
};
use am_core::{
    boxed,
    validation::{FieldPath, PathSegment, Violation, Violations, has_length, within},
};

/// Maximum number of steps of a workflow.
const MAX_STEPS: usize = 1000;
/// Characters of a step's key.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 1..=200;
/// Characters of a step's name.
const MAX_NAME_LENGTH: usize = 100;
/// Retries of a step.
const MAX_RETRIES: u32 = 100;

/// Maximum size of definitions, in bytes of JSON, that are compiled on the async thread; larger ones could block it for
/// long.
const INLINE_COMPILE_MAX_BYTES: usize = 8 << 10;

/// Error of compiling a definition.
#[derive(Debug)]
pub enum CompileError {
    /// The definition has these faults, each with its path.
    Faults(Vec<Violation>),
    /// It can't be compiled now.
    Unavailable(String),
    /// The service is stopping.
    Stopping,
}

impl From<CompileError> for OrchestrationError {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Faults(faults) => Self::Invalid(faults),
            CompileError::Unavailable(error) => Self::Unavailable(error),
            CompileError::Stopping => Self::Stopping,
        }
    }
}

impl From<JqError> for CompileError {
    fn from(error: JqError) -> Self {
        match error {
            JqError::PoolClosed => Self::Stopping,
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl WorkflowDefinition {
    /// Validate and compile the definition of a client: like [`WorkflowDefinition::compiled`], then its programs and
    /// schemas in a worker process.
    ///
    /// # Errors
    /// All faults; when no worker can be started.
    #[boxed]
    pub async fn checked(self, names: &ActionCatalog) -> Result<ExecutionPlan, CompileError> {
        self.look_for_policies(names).await?;
        let keys: Vec<String> = self.steps.keys().cloned().collect();
        let (texts, compiled) = compile_apart(self, names, |definition| definition.source_texts()).await;
        let faults = names.texts.check(texts).await?;
        match compiled {
            Ok(plan) if faults.is_empty() => Ok(plan),
            Ok(_) => Err(CompileError::Faults(faults)),
            Err(mut found) => {
                let place = |fault: &Violation| match fault.path.segments().get(1) {
                    Some(PathSegment::Member(key)) => keys.iter().position(|known| known == key),
                    _ => None,
                };
                found.extend(faults);
                // The order of the steps; what belongs to none comes first.
                found.sort_by_cached_key(place);
                Err(CompileError::Faults(found))
            }
        }
    }

    /// Look for changed policies if a step asks one that is not known: another process may have published it a moment ago.
    async fn look_for_policies(&self, names: &ActionCatalog) -> Result<(), CompileError> {
        let mut asked = self.steps.values().filter_map(action::asked_policy);
        match asked.find(|reference| names.policies.resolve(reference).is_err()) {
            Some(missed) => {
                names.library.look_for(&missed).await.map_err(|error| CompileError::Unavailable(error.to_string()))
            }
            None => Ok(()),
        }
    }

    fn source_texts(&self) -> Vec<(FieldPath, SourceText)> {
        let texts = self.steps.iter().take(MAX_STEPS).flat_map(|(key, step)| {
            let texts = action::source_texts(step).into_iter();
            texts.map(move |(member, text)| (FieldPath::from(["steps", key, "action", member]), text))
        });
        texts.collect()
    }

    /// Compile the definition of a run, whose programs and schemas have been checked; on a blocking thread if it is large.
    ///
    /// # Errors
    /// All faults, each with its path; when policies can't be looked for.
    pub async fn compiled(self, names: &ActionCatalog) -> Result<ExecutionPlan, CompileError> {
        self.look_for_policies(names).await?;
        compile_apart(self, names, |_| ()).await.1.map_err(CompileError::Faults)
    }

    /// Return whether the steps are so small that compiling them takes no time worth another thread.
    fn is_small(&self) -> bool {
        /// Takes so many bytes, and fails at the next.
        struct ByteRoom(usize);
        impl io::Write for ByteRoom {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        serde_json::to_writer(ByteRoom(INLINE_COMPILE_MAX_BYTES), &self.steps).is_ok()
    }

    fn compile(&self, names: &ActionCatalog) -> Result<ExecutionPlan, Vec<Violation>> {
        match hooks::expand_hooks(self)? {
            None => self.compile_expanded(names),
            Some(expanded) => {
                let plan = expanded.compile_expanded(names);
                plan.map_err(|faults| {
                    faults.into_iter().map(|fault| hooks::fault_in_source(&expanded, fault)).collect()
                })
            }
        }
    }

    fn compile_expanded(&self, names: &ActionCatalog) -> Result<ExecutionPlan, Vec<Violation>> {
        if self.steps.len() > MAX_STEPS {
            return Err(vec![Violation::new(
                ["steps"],
                format!("at most {MAX_STEPS} steps; these are {}", self.steps.len()),
            )]);
        }
        // The stored form is compiled: a worker that takes over the run must read the same, including the order of
        // members.
        let (body, hash) = self.snapshot();
        let stored = Self::from_snapshot(&body)
            .map_err(|error| vec![Violation::new(["steps"], format!("can't be stored: {error}"))])?;
        stored.compile_stored(names, body, hash)
    }

    fn compile_stored(
        &self,
        names: &ActionCatalog,
        body: Arc<str>,
        hash: String,
    ) -> Result<ExecutionPlan, Vec<Violation>> {
        let scopes = self.scopes()?;
        let index: HashMap<&str, usize> = self.steps.keys().enumerate().map(|(at, key)| (key.as_str(), at)).collect();
        let trained: BTreeSet<String> = self.steps.values().filter_map(action::trained_policy).collect();
        let known = CompileContext { index: &index, scopes: &scopes, names, trained: &trained };
        let mut faults = Vec::new();
        let mut steps = Vec::with_capacity(self.steps.len());
        for (key, value) in &self.steps {
            match compile_step(key, value, &known) {
                Ok(step) => steps.push(step),
                Err(found) => faults.extend(found.into_iter().map(|fault| fault.within(["steps", key]))),
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
        Ok(ExecutionPlan { steps, dependents, body, hash })
    }

    fn scopes(&self) -> Result<HashMap<&str, Arc<StepScope>>, Vec<Violation>> {
        let mut scopes = HashMap::new();
        for (name, value) in &self.scopes {
            let empty = Map::new();
            let inputs = ValueMapping::parse(value.as_object().unwrap_or(&empty)).map_err(|found| {
                found.into_iter().map(|fault| Violation::from(fault).within(["scopes", name])).collect::<Vec<_>>()
            })?;
            scopes.insert(name.as_str(), Arc::new(StepScope { name: name.clone(), inputs }));
        }
        Ok(scopes)
    }

    /// Add the definition's `dependencies` to the `depends_on` of the steps; both count.
    fn add_dependencies(&self, steps: &mut [CompiledStep], index: &HashMap<&str, usize>) -> Result<(), Vec<Violation>> {
        let mut faults = Vec::new();
        for (key, waits_for) in &self.dependencies {
            let Some(&at) = index.get(key.as_str()) else {
                faults.push(Violation::new(["dependencies", key], format!("there is no step {key:?}")));
                continue;
            };
            let Some(list) = waits_for.as_array() else {
                faults.push(Violation::new(["dependencies", key], "must be a list of step keys"));
                continue;
            };
            for (place, other) in list.iter().enumerate() {
                match other.as_str().and_then(|other| index.get(other)) {
                    Some(other) if steps[at].depends_on.contains(other) => {}
                    Some(other) => steps[at].depends_on.push(*other),
                    None => {
                        let message = format!("there is no step {other}");
                        faults.push(Violation::new(FieldPath::from([place]).within(["dependencies", key]), message));
                    }
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Compile `definition`, with what `read` takes from it, on a blocking thread if it is large.
async fn compile_apart<T: Default + Send + 'static>(
    definition: WorkflowDefinition,
    names: &ActionCatalog,
    read: fn(&WorkflowDefinition) -> T,
) -> (T, Result<ExecutionPlan, Vec<Violation>>) {
    if definition.is_small() {
        return (read(&definition), definition.compile(names));
    }
    let names = names.clone();
    let compiled = tokio::task::spawn_blocking(move || (read(&definition), definition.compile(&names))).await;
    compiled.unwrap_or_else(|_| (T::default(), Err(vec![Violation::new(["steps"], "could not be read")])))
}

/// Names that a step may refer to.
struct CompileContext<'a> {
    index: &'a HashMap<&'a str, usize>,
    scopes: &'a HashMap<&'a str, Arc<StepScope>>,
    names: &'a ActionCatalog,
    trained: &'a BTreeSet<String>,
}

fn compile_step(key: &str, value: &Value, known: &CompileContext<'_>) -> Result<CompiledStep, Vec<Violation>> {
    let whole = |message: &str| vec![Violation::new(FieldPath::default(), message)];
    if !has_length(key, &KEY_LENGTH) {
        return Err(whole("a step's key has 1 to 200 characters"));
    }
    if !value.is_object() {
        return Err(whole("a step must be an object"));
    }
    // Serde would also accept a list, in the order of the fields.
    if value.get("retry_policy").is_some_and(Value::is_array) {
        return Err(vec![Violation::new(["retry_policy"], "must be an object")]);
    }
    let raw: Result<StepDefinition, _> = serde_path_to_error::deserialize(value);
    let raw = raw.map_err(|error| vec![Violation::unreadable(&error)])?;
    let mut violations = check_bounds(&raw);
    let mut mapping = |member: &str, entries: Option<&Map<String, Value>>| {
        let entries = entries.filter(|entries| !entries.is_empty())?;
        let parsed = ValueMapping::parse(entries);
        let parsed = parsed.map_err(|found| within(member, found.into_iter().map(Violation::from).collect()));
        violations.take(parsed)
    };
    let inputs = mapping("input_mappings", raw.input_mappings.as_ref());
    let outputs = mapping("output_mappings", raw.output_mappings.as_ref());
    let mut depends_on = Vec::new();
    for (place, other) in raw.depends_on.iter().flatten().enumerate() {
        match known.index.get(other.as_str()) {
            Some(other) if depends_on.contains(other) => {}
            Some(other) => depends_on.push(*other),
            None => {
                violations.add(FieldPath::from([place]).within(["depends_on"]), format!("there is no step {other:?}"));
            }
        }
    }
    let step_type = raw.step_type.unwrap_or(StepType::Inference);
    let model = raw.model_requirements.as_ref().and_then(|needs| needs.get("model")).and_then(Value::as_str);
    let action = action::parse_action(raw.action.as_ref(), step_type, model, known.names, known.trained);
    let action = violations.take(action);
    let scope = raw.scope.as_deref().and_then(|name| {
        let scope = known.scopes.get(name).cloned();
        violations.require(scope.is_some(), "scope", format!("there is no scope {name:?}"));
        scope
    });
    let action = violations.finish_with(action)?;
    Ok(CompiledStep {
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

fn check_bounds(raw: &StepDefinition) -> Violations {
    let mut violations = Violations::default();
    let name = raw.name.as_ref().map_or(0, |name| name.chars().count());
    violations.require(name <= MAX_NAME_LENGTH, "name", "at most 100 characters");
    let timeout = raw.timeout_seconds.unwrap_or(1);
    let message = format!("must be 1 to {MAX_STEP_SECONDS}");
    violations.require((1..=MAX_STEP_SECONDS).contains(&timeout), "timeout_seconds", message);
    let retries = raw.max_retries.unwrap_or(0);
    violations.require(retries <= MAX_RETRIES, "max_retries", "must be 0 to 100");
    if let Some(found) = raw.retry_policy.and_then(|policy| policy.violations().finish().err()) {
        violations.extend(within("retry_policy", found));
    }
    violations
}

/// Check that there is no cycle and that mappings refer only to steps that have ended by then.
fn check_order(steps: &[CompiledStep]) -> Result<(), Vec<Violation>> {
    let depends_on: Vec<Vec<usize>> = steps.iter().map(|step| step.depends_on.clone()).collect();
    if let Some(cycle) = dag::find_cycle(&depends_on) {
        let mut walk: Vec<&str> = cycle.iter().map(|at| steps[*at].key.as_str()).collect();
        walk.push(walk[0]);
        return Err(vec![Violation::new(
            ["steps", walk[0], "depends_on"],
            format!("a cycle: {} (each waits for the next)", walk.join(" -> ")),
        )]);
    }
    let ancestors = dag::ancestors(&depends_on);
    let index: HashMap<&str, usize> = steps.iter().enumerate().map(|(at, step)| (step.key.as_str(), at)).collect();
    let mut faults = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let prefix = step.scope.as_ref().map_or(String::new(), |scope| format!("{}.", scope.name));
        let mut check = |path: FieldPath, key: &str, itself: bool| {
            let key = format!("{prefix}{key}");
            let message = match index.get(key.as_str()) {
                Some(other) if ancestors[at].contains(other) || (itself && *other == at) => return,
                Some(_) => format!("step {key:?} need not have ended by then; add it to depends_on"),
                None => format!("there is no step {key:?}"),
            };
            faults.push(Violation::new(path, message).within(["steps", &step.key]));
        };
        for (entry, key) in step.inputs.iter().flat_map(ValueMapping::referenced_steps) {
            check(["input_mappings", entry].into(), key, false);
        }
        for (entry, key) in step.outputs.iter().flat_map(ValueMapping::referenced_steps) {
            check(["output_mappings", entry].into(), key, true);
        }
        if let Some((member, template)) = step.action.template() {
            for (path, key) in template.referenced_steps() {
                check(path.clone().within(["action"].into_iter().chain(member)), key, false);
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}
