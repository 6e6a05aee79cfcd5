//! The clock, the randomness and the executables that the service works with.

use std::path::{Path, PathBuf};

use super::StartError;
use am_audit::AuditLog;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
    supervisor::{BackgroundTask, Supervisor},
};
use am_db::Database;
use am_orchestration::jq;
use am_security::sandbox::{self, SandboxService};

/// The parts of the host that the service depends on. A test sets the clock, repeats the ids and says where the
/// executables are.
pub struct HostResources {
    /// The wall clock.
    pub clock: Clock,
    /// Source of identifiers and randomness.
    pub ids: IdGenerator,
    /// Directory of the executables `agent-management-jq` and `agent-management-sandbox`.
    pub executables: PathBuf,
}

impl HostResources {
    /// The system's clock and randomness, and the directory of the running executable.
    ///
    /// # Errors
    /// When the operating system gives no randomness or does not tell the executable's path.
    pub fn system() -> Result<Self, StartError> {
        let ids = IdGenerator::system().map_err(|error| StartError::System("randomness", error))?;
        let own = std::env::current_exe().map_err(|error| StartError::System("the executable's own path", error))?;
        let executables = own.parent().map(PathBuf::from).unwrap_or_default();
        Ok(Self { clock: Clock::system(), ids, executables })
    }
}

/// Commands' sandboxes, which are set up by `agent-management-sandbox`.
pub(super) fn open_sandboxes(
    config: &Config,
    executables: &Path,
    audit: &AuditLog,
    db: &Database,
    clock: &Clock,
) -> Result<SandboxService, StartError> {
    let database = config.database.parent().map(Path::to_owned);
    let places = sandbox::SandboxPaths {
        helper: executables.join("agent-management-sandbox"),
        directory: config.sandbox.directory.clone().unwrap_or_else(|| config.data_dir.join("sandboxes")),
        hidden: std::iter::once(config.data_dir.clone()).chain(database).collect(),
    };
    Ok(SandboxService::open(db.clone(), clock.clone(), audit.clone(), places, config.sandbox.clone())?)
}

/// The worker processes of jq programs and schemas.
pub(super) struct JqWorkers {
    /// Those that evaluate.
    pub jq: jq::JqPool,
    /// Those that compile what clients define.
    pub texts: jq::TextChecker,
}

/// Start the processes that evaluate jq programs, and one more for each two that compiles definitions.
pub(super) async fn start_jq(
    config: &Config,
    executables: &Path,
    supervisor: &Supervisor,
) -> Result<JqWorkers, StartError> {
    let program = executables.join("agent-management-jq");
    let settings = jq::JqSettings {
        // One is kept for other principals than the one that occupies most.
        workers: config.engine.jq_workers + 1,
        timeout: config.engine.jq_timeout,
        max_output: config.engine.jq_max_output,
        memory_mb: config.engine.jq_memory_mb,
    };
    let compiling = jq::JqSettings { workers: settings.workers.div_ceil(2), ..settings.clone() };
    let jq = open_pool(&program, &settings, supervisor).await?;
    let texts = jq::TextChecker::new(open_pool(&program, &compiling, supervisor).await?, &compiling);
    Ok(JqWorkers { jq, texts })
}

async fn open_pool(
    program: &Path,
    settings: &jq::JqSettings,
    supervisor: &Supervisor,
) -> Result<jq::JqPool, StartError> {
    let opened = jq::JqPool::open(program.to_owned(), Vec::new(), settings.clone()).await;
    let (pool, keepers) = opened.map_err(|error| StartError::Jq(program.to_owned(), error))?;
    keepers.into_iter().for_each(|keeper| supervisor.adopt(BackgroundTask::new("jq", keeper)));
    Ok(pool)
}

/// The client for endpoints that steps call.
pub(super) fn endpoint_client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        // Only configured addresses are called: redirects could lead elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(std::time::Duration::from_secs(10))
        .user_agent(concat!("agent-management/", env!("CARGO_PKG_VERSION")))
        .build()
}
