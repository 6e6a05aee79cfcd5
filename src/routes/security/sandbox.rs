//! `security/sandbox`: what commands of an execution may do, what they took and tried, and the end of it.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
};
use am_audit::SecurityLevel;
use am_core::ids::ExecutionId;
use am_security::policies::CommandFacts;
use am_security::sandbox::{
    AttemptKind, CleanupReport, HostCapabilities, SandboxRequirements, SandboxState, SandboxUsage, SandboxView,
    ViolationAttempt,
};

/// The level of a sandbox.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LevelQuery {
    /// Security level, which decides the rules. Default `public`.
    security_level: Option<SecurityLevel>,
}

/// Create the sandbox of an execution
///
/// Its rules are those of the level, changed by the requirements, and apply to every command of the execution that
/// starts later. Without it a command's sandbox is created when it starts, by the step's own `security_level`. The
/// types docker and vm are enforced by the same isolation as process, which `isolation` names. Where this host does
/// not enforce all rules, the answer is 503 `sandbox_unenforced`, or, if so configured, `unenforced` names them.
#[utoipa::path(
    post, path = "/api/v1/agents/security/sandbox/{execution_id}/create", operation_id = "sandboxes_create",
    tag = "sandboxes", security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = ExecutionId, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        LevelQuery,
        IdempotencyHeader,
    ),
    request_body = Option<SandboxRequirements>,
    responses(
        (status = 200, body = CreatedSandbox, description = "The sandbox"),
        (status = 403, description = "A security policy refuses it (`policy_violation`)"),
        (status = 404, description = "The caller has no execution of this id"),
        (status = 503, description = "This host does not enforce all of a sandbox's rules (`sandbox_unenforced`)"),
    )
)]
pub async fn create_sandbox(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(execution_id): PathParams<ExecutionId>,
    QueryParams(query): QueryParams<LevelQuery>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<CreatedSandbox>, ApiError> {
    let (level, asked) =
        (query.security_level.unwrap_or(SecurityLevel::Public), SandboxRequirements::parse(request.body)?);
    let facts = CommandFacts::new(Some(level), None, &asked);
    if let Err(refused) = app.executions.check_sandbox(&caller, &execution_id, &facts).await {
        // The answer to a repeated request does not depend on policies set since.
        let known = app.sandboxes.created(request.once.as_ref()).await?;
        return known.map(|known| known.map(Into::into)).map(IdempotentOk).ok_or_else(|| refused.into());
    }
    let created = app.sandboxes.create(&caller, &execution_id, level, &asked, request.once).await?;
    Ok(IdempotentOk(created.map(Into::into)))
}

/// A sandbox that was created.
#[derive(Serialize, ToSchema)]
pub struct CreatedSandbox {
    #[serde(flatten)]
    sandbox: SandboxState,
    /// Whether commands may run in it: false once it was cleaned up.
    is_active: bool,
    /// A sentence for people.
    message: &'static str,
}

impl From<SandboxState> for CreatedSandbox {
    fn from(sandbox: SandboxState) -> Self {
        Self { is_active: sandbox.is_active(), message: "The sandbox is ready for the execution's commands", sandbox }
    }
}

/// A sandbox that was cleaned up.
#[derive(Serialize, ToSchema)]
pub struct CleanedSandbox {
    #[serde(flatten)]
    report: CleanupReport,
    /// Whether commands may run in it: false.
    is_active: bool,
    /// A sentence for people.
    message: &'static str,
}

impl From<CleanupReport> for CleanedSandbox {
    fn from(report: CleanupReport) -> Self {
        Self { report, is_active: false, message: "Sandbox cleanup completed" }
    }
}

/// A sandbox, its use of resources and the attempts against its rules.
#[derive(Serialize, ToSchema)]
#[schema(as = SandboxMonitor)]
pub struct SandboxReport {
    #[serde(flatten)]
    sandbox: SandboxState,
    /// Present use of all running commands together.
    resource_usage: ResourceUsage,
    /// Use of each running command.
    running: Vec<SandboxUsage>,
    /// Attempts against the rules, those of running commands included.
    security_events: Vec<ViolationAttempt>,
    /// Number of commands, running ones included.
    command_count: u64,
    /// Number of attempts to read or write forbidden files.
    file_access_count: u64,
    /// Number of attempts to use the network.
    network_access_count: u64,
    /// Whether commands may run in it: false once it was cleaned up.
    is_active: bool,
    /// How the figures come about, for people.
    note: &'static str,
}

/// Present use of resources.
#[derive(Serialize, ToSchema)]
pub struct ResourceUsage {
    /// Processor time in percent of one processor, averaged since each command started.
    cpu_percent: f64,
    /// Memory, in MiB.
    memory_mb: f64,
    /// Files, in MiB.
    disk_mb: f64,
    /// Number of processes and threads.
    processes: u64,
}

impl From<SandboxView> for SandboxReport {
    fn from(SandboxView { sandbox, running }: SandboxView) -> Self {
        const MEGABYTE: f64 = 1048576.0;
        let sum = |of: fn(&SandboxUsage) -> f64| running.iter().fold(0.0, |sum, (usage, _)| sum + of(usage));
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
            is_active: sandbox.is_active(),
            note: "All figures are measured",
            sandbox,
        }
    }
}

/// Get the use of resources and the attempts of a sandbox
///
/// All values are measured.
#[utoipa::path(
    get, path = "/api/v1/agents/security/sandbox/{execution_id}/monitor", operation_id = "sandboxes_monitor",
    tag = "sandboxes", security(("ApiKey" = ["admin"])),
    params(("execution_id" = ExecutionId, Path, description = "Id of the execution: `exec_` and hexadecimal digits")),
    responses(
        (status = 200, body = SandboxReport, description = "The sandbox, its use of resources and the attempts against its rules"),
        (status = 404, description = "The caller has no execution of this id, or it has no sandbox"),
    )
)]
pub async fn get_sandbox(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(execution_id): PathParams<ExecutionId>,
) -> Result<JsonBody<SandboxReport>, ApiError> {
    Ok(JsonBody(app.sandboxes.monitor(&caller, &execution_id).await?.into()))
}

/// Kill the commands of a sandbox and remove its files
///
/// Answers the number of processes, files and bytes. Measurements and attempts stay on record.
#[utoipa::path(
    post, path = "/api/v1/agents/security/sandbox/{execution_id}/cleanup", operation_id = "sandboxes_clean_up",
    tag = "sandboxes", security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = ExecutionId, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = CleanedSandbox, description = "What was removed"),
        (status = 404, description = "The caller has no execution of this id, or it has no sandbox"),
    )
)]
pub async fn clean_up_sandbox(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(execution_id): PathParams<ExecutionId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<CleanedSandbox>, ApiError> {
    Ok(IdempotentOk(app.sandboxes.cleanup(&caller, &execution_id, request.once).await?.map(Into::into)))
}

/// Get what this host enforces of a sandbox's rules
///
/// Measured once in each process by a program that tries what the rules forbid.
#[utoipa::path(
    get, path = "/api/v1/agents/security/sandbox/capabilities", operation_id = "sandboxes_get_capabilities",
    tag = "sandboxes", security(("ApiKey" = ["admin"])),
    responses((status = 200, body = HostCapabilities, description = "What this host enforces"))
)]
pub async fn get_sandbox_capabilities(State(app): State<App>, _: AdminKey) -> JsonBody<HostCapabilities> {
    JsonBody((*app.sandboxes.capabilities().await).clone())
}
