//! Execution of step actions. The driver records every external action before it is started here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    agents,
    commands::{self, AROUND, Prepared},
    orders::Order,
    run::{Outcome, Run},
};
use crate::{
    action::{Action, JobSpec, PolicyName, TrainSpec},
    assignments::{self, Assignments},
    jq,
    mapping::ResolveError,
    model::Status,
};
use am_core::{
    config::{EndpointKind, EngineConfig, HttpEndpoint},
    validation,
};
use am_jobs::{Constraints, JobState, Jobs, NewJob};
use am_rl::{
    ActError, Policies, PolicyReference, by_name,
    runs::{NewRun, RunStatus, Runs, Task, run_id},
    state_from_json,
};
use am_security::sandbox::Sandboxes;

/// Services that actions need.
pub struct Performer {
    /// Evaluates jq programs.
    pub jq: jq::Pool,
    /// Answers policy queries.
    pub policies: Policies,
    /// Waits for the coordinator's miners.
    pub jobs: Jobs,
    /// Trains reinforcement-learning policies.
    pub training: Runs,
    /// Assigns sub-tasks to agents.
    pub assignments: Assignments,
    /// Runs commands in sandboxes.
    pub sandboxes: Sandboxes,
    /// Calls configured endpoints.
    pub http: reqwest::Client,
    /// Configured endpoints by name.
    pub endpoints: Arc<BTreeMap<String, HttpEndpoint>>,
    /// Prices and limits.
    pub config: EngineConfig,
}

/// Failure of an attempt, and whether another attempt may succeed.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub retryable: bool,
}

impl Failure {
    /// Create a permanent failure: a retry would fail again.
    pub fn certain(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: false }
    }

    /// Create a transient failure: a retry may succeed.
    pub fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: true }
    }
}

/// An attempt with all inputs resolved, ready to be executed independently of its run.
pub enum Call {
    /// Result is known without executing anything.
    Known(Result<Value, Failure>),
    Jq {
        program: Arc<str>,
        input: Arc<Value>,
    },
    Policy {
        reference: PolicyReference,
        input: Arc<Value>,
    },
    Check {
        schema: Option<Arc<str>>,
        assert: Option<Arc<str>>,
        input: Arc<Value>,
    },
    Job {
        id: String,
    },
    Train {
        id: String,
    },
    Agent {
        id: String,
    },
    Http {
        endpoint: String,
        body: Value,
        key: String,
        traceparent: Option<String>,
    },
    Command(Box<Prepared>),
}

/// Output of an action, and figures measured with it.
pub(super) struct Found {
    output: Value,
    pub cost: f64,
    gpu: bool,
    proof: Option<Value>,
    pub memory_mb: Option<f64>,
    miner_receipt: Option<Value>,
}

impl Found {
    pub(super) fn output(output: Value) -> Self {
        Self { output, cost: 0.0, gpu: false, proof: None, memory_mb: None, miner_receipt: None }
    }
}

impl Performer {
    /// Return the maximum cost of an attempt of `action`, as far as it is known in advance.
    pub fn estimate(&self, action: &Action) -> f64 {
        let service = match action {
            Action::Job(job) => job.max_price.unwrap_or(0.0),
            Action::Agent(spec) => spec.need.max_price.unwrap_or(0.0),
            Action::Http { endpoint, .. } => self.endpoints.get(endpoint).map_or(0.0, |endpoint| endpoint.price),
            _ => 0.0,
        };
        self.config.step_price + service
    }

    /// Resolve the action of step `at` of `run`, which has begun. The external task to submit is returned with it.
    pub fn prepare(
        &self,
        run: &Run,
        at: usize,
        new_job_id: impl FnOnce() -> String,
        now: chrono::DateTime<chrono::Utc>,
    ) -> (Call, Option<Order>) {
        match self.try_prepare(run, at, new_job_id, now) {
            Ok(prepared) => prepared,
            Err(error) => (Call::Known(Err(Failure::certain(error.to_string()))), None),
        }
    }

    fn try_prepare(
        &self,
        run: &Run,
        at: usize,
        new_job_id: impl FnOnce() -> String,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Result<(Call, Option<Order>), ResolveError> {
        let (step, state) = (&run.plan.steps[at], &run.steps[at]);
        let input = state.input.clone().unwrap_or_default();
        let call = match &step.action {
            Action::Identity => Call::Known(Ok((*input).clone())),
            Action::Nothing(why) => Call::Known(Err(Failure::certain(*why))),
            Action::CheckDependencies => Call::Known(check_dependencies(run, at)),
            Action::Jq(program) => Call::Jq { program: program.clone(), input },
            Action::Policy(PolicyName::Known(reference)) => Call::Policy { reference: reference.clone(), input },
            Action::Policy(PolicyName::Path(template)) => {
                let scope = run.scope_inputs(step)?;
                let named = template.fill(&run.context(at, scope.as_ref(), None))?;
                match named.as_str().map(str::parse::<PolicyReference>) {
                    Some(Ok(reference)) => Call::Policy { reference, input },
                    Some(Err(error)) => Call::Known(Err(Failure::certain(format!("action.policy: {error}")))),
                    None => Call::Known(Err(Failure::certain(format!("action.policy: {named} is no policy's name")))),
                }
            }
            Action::Train(spec) => {
                if let Some(id) = &state.job_id {
                    return Ok((Call::Train { id: id.clone() }, None));
                }
                let TrainSpec { policy, work } = (**spec).clone();
                let id = run_id(&new_job_id()[..12]);
                let (owner_id, task) = (run.client_id.clone(), Task::Train(work));
                let new = NewRun { id: id.clone(), owner_id, policy, task, feedback: None };
                return Ok((Call::Train { id }, Some(Order::Training(new))));
            }
            Action::Agent(spec) => return agents::prepare(run, at, spec, new_job_id, now),
            Action::Check { schema, assert } => Call::Check { schema: schema.clone(), assert: assert.clone(), input },
            Action::Command(spec) => commands::prepare(run, at, spec, &input)?,
            Action::Http { endpoint, body } => {
                let scope = run.scope_inputs(step)?;
                let body = match body {
                    Some(template) => template.fill(&run.context(at, scope.as_ref(), None))?,
                    None => (*input).clone(),
                };
                // The key is equal for the same attempt, also after a crash, so that the receiver recognises a
                // repetition.
                let key = format!("{}:{}:{}", run.id, step.key, state.attempts);
                let traceparent = run.trace_id.as_ref().map(|trace| format!("00-{trace}-{}-01", span_of(&key)));
                Call::Http { endpoint: endpoint.clone(), body, key, traceparent }
            }
            Action::Job(job) => {
                if let Some(id) = &state.job_id {
                    return Ok((Call::Job { id: id.clone() }, None));
                }
                let scope = run.scope_inputs(step)?;
                let request = job_request(job, job.request.fill(&run.context(at, scope.as_ref(), None))?, &input);
                let violations = self.jobs.hazards(job.service, &request);
                if !violations.is_empty() {
                    let why = validation::join(&violations);
                    let refused = Failure::certain(format!("no miner is given this request: {why}"));
                    return Ok((Call::Known(Err(refused)), None));
                }
                let mut constraints = Constraints::of(job.service, &request);
                constraints.0.extend(job.constraints.clone());
                if let Some(price) = job.max_price {
                    constraints.0.entry("max_price").or_insert_with(|| json!(price));
                }
                let ttl = job.ttl.unwrap_or_else(|| job.service.ttl(&request));
                let id = new_job_id();
                let client_id = run.client_id.clone();
                let row = NewJob {
                    id: id.clone(),
                    client_id,
                    service: job.service,
                    request,
                    constraints,
                    requested_at: now,
                    ttl,
                };
                return Ok((Call::Job { id }, Some(Order::Job(row))));
            }
        };
        Ok((call, None))
    }

    /// Execute the invocation within `timeout`. Returns the cost too: price of the step and its seconds, plus the
    /// service's price.
    pub async fn perform(&self, call: Call, timeout: Duration) -> (Result<Outcome, Failure>, f64) {
        let started = std::time::Instant::now();
        let result = match call {
            Call::Known(result) => result.map(Found::output),
            call => {
                // Another attempt would train from the start, and take as long.
                let again = !matches!(call, Call::Train { .. } | Call::Agent { .. });
                // A command enforces its time limit itself and reports its resource use and violations then.
                let around = match call {
                    Call::Command(_) => AROUND,
                    Call::Agent { .. } => assignments::AROUND,
                    _ => Duration::ZERO,
                };
                let timed = tokio::time::timeout(timeout + around, self.call(call)).await;
                timed.unwrap_or_else(|_| {
                    let seconds = timeout.as_secs_f64();
                    let message = format!("timeout_seconds {seconds}: the step was still running after them");
                    Err(Failure { message, retryable: again })
                })
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let result = result.map(|found| Outcome {
            output: found.output,
            seconds,
            cost: self.config.step_price + seconds * self.config.compute_price_per_second + found.cost,
            memory_mb: found.memory_mb,
            gpu: found.gpu,
            proof: found.proof,
            miner_receipt: found.miner_receipt,
        });
        (result, seconds)
    }

    async fn call(&self, call: Call) -> Result<Found, Failure> {
        match call {
            Call::Known(result) => result.map(Found::output),
            Call::Jq { program, input } => self.jq(program, &input).await.map(Found::output),
            Call::Policy { reference, input } => self.policy(&reference, &input).await.map(Found::output),
            Call::Check { schema, assert, input } => self.check(schema, assert, &input).await.map(Found::output),
            Call::Job { id } => self.job(&id).await,
            Call::Train { id } => self.train(&id).await.map(Found::output),
            Call::Agent { id } => self.agent(&id).await,
            Call::Command(prepared) => self.command(*prepared).await,
            Call::Http { endpoint, body, key, traceparent } => self.http(&endpoint, &body, &key, traceparent).await,
        }
    }

    async fn jq(&self, program: Arc<str>, input: &Value) -> Result<Value, Failure> {
        let evaluated = self.jq.eval(program, raw(input)?).await.map_err(failed)?;
        serde_json::from_str(evaluated.output.get())
            .map_err(|error| Failure::certain(format!("the program's output: {error}")))
    }

    async fn policy(&self, reference: &PolicyReference, input: &Value) -> Result<Value, Failure> {
        // The state is the input, or its member `state`.
        let state = input.get("state").unwrap_or(input);
        let fault = |error: String| Failure::certain(format!("the step's input: {error}"));
        if self.policies.resolve(reference).is_err() {
            // Another process may have published it a moment ago and died.
            self.training.look_for_policies().await.map_err(|error| Failure::passing(error.to_string()))?;
        }
        let state = match state {
            Value::Object(named) => {
                let version = self.policies.resolve(reference).map_err(|error| Failure::certain(error.to_string()))?;
                by_name(named, &version.state_names).map_err(fault)?
            }
            other => state_from_json(other).map_err(|error| fault(error.to_string()))?,
        };
        let decision = self.policies.act(reference, state).await.map_err(|error| match error {
            ActError::Overloaded | ActError::Stopped => Failure::passing(error.to_string()),
            _ => Failure::certain(error.to_string()),
        })?;
        serde_json::to_value(decision).map_err(|error| Failure::certain(error.to_string()))
    }

    async fn check(&self, schema: Option<Arc<str>>, assert: Option<Arc<str>>, input: &Value) -> Result<Value, Failure> {
        if let Some(schema) = schema {
            // Evaluated in a worker process: a short schema can take exponential time.
            let verdict = self.jq.validate(schema, raw(input)?).await.map_err(failed)?;
            if !verdict.violations.is_empty() {
                let list: Vec<String> = verdict.violations.iter().map(ToString::to_string).collect();
                return Err(Failure::certain(format!("the input does not fit the schema: {}", list.join("; "))));
            }
        }
        if let Some(assert) = assert {
            let answer = self.jq(assert.clone(), input).await?;
            if answer != Value::Bool(true) {
                return Err(Failure::certain(format!("the assertion {assert:?} answered {answer}, not true")));
            }
        }
        Ok(json!({"valid": true, "checked": input}))
    }

    async fn job(&self, id: &str) -> Result<Found, Failure> {
        let ended = self.jobs.ended(id).await;
        let reason = || ended.error.clone().unwrap_or_else(|| "no reason was given".into());
        match ended.state {
            JobState::Completed => Ok(Found {
                output: ended.result,
                cost: ended.price.unwrap_or(0.0),
                gpu: true,
                proof: ended.receipt.get("proof").cloned(),
                memory_mb: ended.receipt.get("memory_mb").and_then(Value::as_f64),
                miner_receipt: Some(ended.receipt).filter(|receipt| !receipt.is_null()),
            }),
            JobState::Failed => Err(Failure::passing(format!("job {id} failed: {}", reason()))),
            JobState::Expired => Err(Failure::passing(format!("job {id} expired: {}", reason()))),
            _ => Err(Failure::certain(format!("job {id} was canceled: {}", reason()))),
        }
    }

    /// Wait for the training and return the new version's reference and its evaluation.
    async fn train(&self, id: &str) -> Result<Value, Failure> {
        let run = self.training.ended(id).await.map_err(|error| Failure::certain(error.to_string()))?;
        match run.status {
            RunStatus::Completed => Ok(json!({
                "run_id": run.id,
                "policy": run.reference,
                "name": run.policy,
                "version": run.version,
                "steps": run.steps_done,
                "seconds": run.seconds,
                "scores": run.scores,
            })),
            RunStatus::Cancelled => Err(Failure::certain(format!("training run {id} was cancelled"))),
            _ => {
                let reason = run.error.unwrap_or_else(|| "no reason was given".into());
                Err(Failure::certain(format!("training run {id} failed: {reason}")))
            }
        }
    }

    async fn http(&self, name: &str, body: &Value, key: &str, traceparent: Option<String>) -> Result<Found, Failure> {
        let endpoint = self
            .endpoints
            .get(name)
            .ok_or_else(|| Failure::certain(format!("endpoint {name:?} is no longer configured")))?;
        am_core::crash_point!("step.before_http");
        let mut request = self.http.post(&endpoint.url).header("idempotency-key", key).json(body);
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        if let Some(bearer) = &endpoint.bearer {
            request = request.bearer_auth(secrecy::ExposeSecret::expose_secret(bearer));
        }
        // The URL stays out of the message: it may contain a secret.
        let sent = request
            .send()
            .await
            .map_err(|error| Failure::passing(format!("endpoint {name:?}: {}", error.without_url())))?;
        let status = sent.status();
        let bytes = limited(sent, self.config.http_max_response).await.map_err(|failure| Failure {
            message: format!("endpoint {name:?}: {}", failure.message),
            retryable: failure.retryable,
        })?;
        am_core::crash_point!("step.after_http");
        if !status.is_success() {
            let message = format!("endpoint {name:?} answered {status}: {}", excerpt(&bytes));
            let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
            return Err(if passing { Failure::passing(message) } else { Failure::certain(message) });
        }
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::certain(format!("endpoint {name:?} answered no JSON: {error}")))?;
        let output = match endpoint.kind {
            EndpointKind::Json => answer,
            EndpointKind::OpenAi => {
                let text = answer.pointer("/choices/0/message/content").cloned().unwrap_or(Value::Null);
                json!({"text": text, "response": answer})
            }
        };
        Ok(Found { cost: endpoint.price, ..Found::output(output) })
    }
}

fn raw(value: &Value) -> Result<Arc<RawValue>, Failure> {
    to_raw_value(value).map(Into::into).map_err(|error| Failure::certain(error.to_string()))
}

/// A failed program fails again; a missing worker may be available later.
fn failed(error: jq::Error) -> Failure {
    match error {
        jq::Error::NoWorker(_) | jq::Error::PoolClosed => Failure::passing(error.to_string()),
        _ => Failure::certain(error.to_string()),
    }
}

/// Add members of the step's input that the request lacks; the prompt of a language model is taken from the input.
fn job_request(job: &JobSpec, mut request: Value, input: &Value) -> Value {
    let Some(members) = request.as_object_mut() else { return request };
    if let Some(more) = input.as_object() {
        for (name, value) in more {
            members.entry(name.as_str()).or_insert_with(|| value.clone());
        }
    }
    if job.service == am_jobs::Service::LlmInference && !members.contains_key("prompt") {
        let text = ["prompt", "text", "input"].iter().find_map(|name| input.get(name).and_then(Value::as_str));
        let prompt = text.or(input.as_str()).map_or_else(|| input.to_string(), str::to_owned);
        members.insert("prompt".into(), Value::String(prompt));
    }
    request
}

/// Verification step without an action: check that the steps it depends on passed their verification.
fn check_dependencies(run: &Run, at: usize) -> Result<Value, Failure> {
    let mut checked = serde_json::Map::new();
    let mut bad = Vec::new();
    for other in &run.plan.steps[at].depends_on {
        let (spec, step) = (&run.plan.steps[*other], &run.steps[*other]);
        match step.verification.as_ref().filter(|done| done.verified && step.status == Status::Completed) {
            Some(done) => drop(checked.insert(spec.key.clone(), json!(done))),
            None => {
                let failed = step
                    .verification
                    .as_ref()
                    .map_or_else(String::new, |done| format!(" ({})", done.checks_failed.join(", ")));
                bad.push(format!("{}{failed}", spec.key));
            }
        }
    }
    if bad.is_empty() {
        Ok(json!({"verified": true, "steps": checked}))
    } else {
        Err(Failure::certain(format!("not verified: {}", bad.join(", "))))
    }
}

/// Read the whole response. One that is too large would be too large again.
async fn limited(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let broken = |error: reqwest::Error| Failure::passing(error.without_url().to_string());
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if bytes.len() + chunk.len() > limit {
            return Err(Failure::certain(format!("its answer is larger than {limit} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).collect()
}

/// Span id of an attempt: its repetition after a crash has the same id.
fn span_of(key: &str) -> String {
    am_core::crypto::sha256_hex(key.as_bytes())[..16].to_owned()
}
