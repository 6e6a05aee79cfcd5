//! `security/sandbox`: what commands of an execution may do, what they took and tried, and the end of it.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
    },
};
use am_audit::SecurityLevel;
use am_security::sandbox::{Attempt, AttemptKind, Capabilities, Cleaned, Requirements, Sandbox, Seen, Usage};

/// For which level.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LevelQuery {
    /// public (default), internal, confidential or restricted.
    security_level: Option<SecurityLevel>,
}

/// Make the sandbox of an execution
///
/// Its rules are those of the level, changed by the requirements, and hold for every command of the execution that begins
/// later. Without it a command's sandbox is made when it begins, by the step's own `security_level`. Types docker and vm
/// are held by the same isolation as process, which `isolation` names. Where this host does not enforce all of it, the
/// answer is 503 `sandbox_unenforced`, or, if so configured, `unenforced` names what does not hold.
#[utoipa::path(
    post, path = "/api/v1/agents/security/sandbox/{execution_id}/create", tag = "security",
    params(("execution_id" = String, Path), LevelQuery), request_body = Option<Requirements>,
    responses((status = 200, body = Sandbox), (status = 404), (status = 422), (status = 503))
)]
pub async fn create(
    State(app): State<App>,
    caller: Admin,
    Path(execution_id): Path<String>,
    Query(query): Query<LevelQuery>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    let (level, asked) = (query.security_level.unwrap_or(SecurityLevel::Public), Requirements::read(request.body)?);
    let done = app.sandboxes.create(&(&caller.0).into(), &execution_id, level, &asked, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// What was measured and tried.
#[derive(Serialize, ToSchema)]
pub struct Monitor {
    #[serde(flatten)]
    sandbox: Sandbox,
    /// Now: of all running commands together, or 0.
    resource_usage: ResourceUsage,
    /// Each running command.
    #[schema(value_type = Vec<Object>)]
    running: Vec<Usage>,
    /// What commands have tried against the rules, running ones included.
    security_events: Vec<Attempt>,
    /// Commands that have run.
    command_count: u64,
    /// Attempts at files.
    file_access_count: u64,
    /// Attempts at the network.
    network_access_count: u64,
}

/// What is taken at this moment.
#[derive(Serialize, ToSchema)]
pub struct ResourceUsage {
    /// Of one processor, on the average since each began.
    cpu_percent: f64,
    /// Memory, in MB.
    memory_mb: f64,
    /// Files, in MB.
    disk_mb: f64,
    /// Processes and threads.
    processes: u64,
}

impl From<Seen> for Monitor {
    fn from(Seen { sandbox, running }: Seen) -> Self {
        const MEGABYTE: f64 = 1048576.0;
        let sum = |of: fn(&Usage) -> f64| running.iter().fold(0.0, |sum, (usage, _)| sum + of(usage));
        let cpu = sum(|usage| if usage.seconds > 0.0 { usage.cpu_seconds / usage.seconds } else { 0.0 });
        // They share one workspace.
        let disk = running.iter().map(|(usage, _)| usage.disk_bytes).max().unwrap_or(sandbox.totals.disk_bytes);
        let mut events = sandbox.attempts.clone();
        events.extend(running.iter().flat_map(|(_, attempts)| attempts.iter().cloned()));
        let count = |kinds: &[AttemptKind]| {
            events.iter().filter(|event| kinds.contains(&event.kind)).map(|event| event.count).sum()
        };
        Self {
            resource_usage: ResourceUsage {
                cpu_percent: cpu * 100.0,
                memory_mb: sum(|usage| usage.memory_bytes as f64) / MEGABYTE,
                disk_mb: disk as f64 / MEGABYTE,
                processes: running.iter().map(|(usage, _)| usage.processes).sum(),
            },
            command_count: sandbox.runs + running.len() as u64,
            file_access_count: count(&[AttemptKind::Read, AttemptKind::Write]),
            network_access_count: count(&[AttemptKind::Network]),
            security_events: events,
            running: running.into_iter().map(|(usage, _)| usage).collect(),
            sandbox,
        }
    }
}

/// What the commands of an execution take and have tried
///
/// Everything is measured: what runs now, what all that has run took, and each attempt against the rules.
#[utoipa::path(
    get, path = "/api/v1/agents/security/sandbox/{execution_id}/monitor", tag = "security",
    params(("execution_id" = String, Path)), responses((status = 200, body = Monitor), (status = 404))
)]
pub async fn monitor(
    State(app): State<App>,
    _: Admin,
    Path(execution_id): Path<String>,
) -> Result<Json<Monitor>, ApiError> {
    Ok(Json(app.sandboxes.monitor(&execution_id).await?.into()))
}

/// Kill what runs in the sandbox of an execution and remove its files
///
/// Answers how many processes, files and bytes there were. What was measured and tried stays on record.
#[utoipa::path(
    post, path = "/api/v1/agents/security/sandbox/{execution_id}/cleanup", tag = "security",
    params(("execution_id" = String, Path)), responses((status = 200, body = Cleaned), (status = 404))
)]
pub async fn cleanup(
    State(app): State<App>,
    caller: Admin,
    Path(execution_id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    let done = app.sandboxes.cleanup(&(&caller.0).into(), &execution_id, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// What this host enforces of a sandbox's rules
///
/// Found out once in each process by a program that stands under the rules and does what they forbid.
#[utoipa::path(
    get, path = "/api/v1/agents/security/sandbox/capabilities", tag = "security",
    responses((status = 200, body = Capabilities))
)]
pub async fn capabilities(State(app): State<App>, _: Admin) -> Json<Capabilities> {
    Json((*app.sandboxes.capabilities().await).clone())
}
