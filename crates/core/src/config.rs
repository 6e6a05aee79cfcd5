//! Configuration: defaults, then a file, then the environment (and `.env`). `.env.example` documents every key.

mod error;
mod load;
mod messages;
mod read;
mod rules;
mod sources;
#[cfg(test)]
mod tests;
mod webhooks;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Url;
use secrecy::SecretString;

pub use error::{ConfigError, Fault};
pub use load::KEYS;
pub use messages::MessageConfig;
pub use rules::is_origin;
pub use sources::Sources;

/// Where the service runs; decides how strict the start is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Any key is taken, loopback only.
    Dev,
    /// Keys are required, none may be a placeholder.
    Production,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person at a terminal.
    Text,
}

/// Everything an operator can set. Immutable after the start.
#[derive(Clone, Debug)]
pub struct Config {
    /// `APP_ENV`: dev (default) or production.
    pub environment: Environment,
    /// `APP_HOST`, default 127.0.0.1.
    pub host: IpAddr,
    /// `APP_PORT`, default 8012; 0 takes a free port (and says which).
    pub port: u16,
    /// `APP_ALLOW_REMOTE_DEV`: the second saying that a dev server may listen beyond loopback.
    pub allow_remote_dev: bool,
    /// The SQLite file: from `DATABASE_URL`, else `DATA_DIR`/coordinator.db.
    pub database: PathBuf,
    /// `DATA_DIR`, default ./data: generated key and whatever else stands beside the database.
    pub data_dir: PathBuf,
    /// `MIGRATE_ON_START`, default true: `serve` migrates before it answers.
    pub migrate_on_start: bool,
    /// `ADMIN_API_KEYS`.
    pub admin_keys: Vec<SecretString>,
    /// `CLIENT_API_KEYS`.
    pub client_keys: Vec<SecretString>,
    /// `MINER_API_KEYS`.
    pub miner_keys: Vec<SecretString>,
    /// `RECEIPT_SIGNING_KEY_HEX`: 32 bytes in hex; none: one is made beside the database.
    pub receipt_signing_key: Option<SecretString>,
    /// The audit log's own settings.
    pub audit: AuditConfig,
    /// `LOG_LEVEL`: a tracing filter, default info.
    pub log_level: String,
    /// `LOG_FORMAT`: json or text, default json.
    pub log_format: LogFormat,
    /// `RATE_LIMIT_REQUESTS` a window and key, default 0: off.
    pub rate_limit_requests: u32,
    /// `RATE_LIMIT_WINDOW_SECONDS`, default 60.
    pub rate_limit_window: Duration,
    /// `CORS_ORIGINS`: a JSON list or comma-separated, default none; `*` for any.
    pub cors_origins: Vec<String>,
    /// `BODY_LIMIT_BYTES`, default 10 MB.
    pub body_limit: usize,
    /// `REQUEST_TIMEOUT_SECONDS`, default 60.
    pub request_timeout: Duration,
    /// `SHUTDOWN_GRACE_SECONDS`, default 25: the first stage of a stop, in which requests and steps may end.
    pub shutdown_grace: Duration,
    /// `DB_READERS`, default 4: read-only connections.
    pub db_readers: u32,
    /// `DB_BUSY_TIMEOUT_MS`, default 10000: how long a write waits for the coordinator's lock before a 503.
    pub db_busy_timeout: Duration,
    /// The engine's own settings.
    pub engine: EngineConfig,
    /// Policies and their training.
    pub rl: RlConfig,
    /// Jobs for miners.
    pub services: ServicesConfig,
    /// Sandboxes.
    pub sandbox: SandboxConfig,
    /// The registry of agents, and plans.
    pub agents: AgentsConfig,
    /// `HTTP_ENDPOINTS`: the addresses that a step's `{"kind": "http"}` may name (JSON object, or `[http_endpoints.NAME]` in the file).
    pub http_endpoints: BTreeMap<String, HttpEndpoint>,
    /// Whom the service calls when something happens.
    pub webhooks: WebhookConfig,
    /// Messages between agents.
    pub messages: MessageConfig,
}

impl Config {
    /// What holds where nothing is said, with everything kept below `data_dir`.
    fn defaults(data_dir: &Path) -> Self {
        Self {
            environment: Environment::Dev,
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8012,
            allow_remote_dev: false,
            database: data_dir.join("coordinator.db"),
            data_dir: data_dir.to_owned(),
            migrate_on_start: true,
            admin_keys: Vec::new(),
            client_keys: Vec::new(),
            miner_keys: Vec::new(),
            receipt_signing_key: None,
            audit: AuditConfig::default(),
            log_level: "info".to_owned(),
            log_format: LogFormat::Json,
            rate_limit_requests: 0,
            rate_limit_window: Duration::from_secs(60),
            cors_origins: Vec::new(),
            body_limit: 10 << 20,
            request_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(25),
            db_readers: 4,
            db_busy_timeout: Duration::from_secs(10),
            engine: EngineConfig::default(),
            rl: RlConfig::default(),
            services: ServicesConfig::default(),
            sandbox: SandboxConfig::default(),
            agents: AgentsConfig::default(),
            http_endpoints: BTreeMap::new(),
            webhooks: WebhookConfig::default(),
            messages: MessageConfig::default(),
        }
    }

    /// For tests: dev, a free port, two readers, no rate limit, everything below `data_dir`.
    pub fn for_tests(data_dir: &Path) -> Self {
        Self { port: 0, db_readers: 2, rate_limit_requests: 0, ..Self::defaults(data_dir) }
    }
}

/// How the audit log is sealed.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// `AUDIT_ORIGIN`, default agent-management: the log's name in its signed heads.
    pub origin: String,
    /// `AUDIT_SIGNING_KEY_HEX`: 32 bytes in hex; none: one is made beside the database.
    pub signing_key: Option<SecretString>,
    /// `AUDIT_SEAL_SECONDS`, default 5: between two signed heads.
    pub every: Duration,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { origin: "agent-management".to_owned(), signing_key: None, every: Duration::from_secs(5) }
    }
}

/// How workflows are run.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// `ENGINE_MAX_ACTIVE`, default 512: executions driven at once by this process.
    pub max_active: usize,
    /// `ENGINE_MAX_PARALLEL_STEPS`, default 8: steps of one execution that run at once.
    pub max_parallel_steps: usize,
    /// `ENGINE_LEASE_SECONDS`, default 15: after this long without a heartbeat a worker counts as gone.
    pub lease: Duration,
    /// `JOB_POLL_MS`, default 50: how often a change of the database is looked for while steps wait for miners.
    pub job_poll: Duration,
    /// `JQ_TIMEOUT_MS`, default 2000: one evaluation of a jq program.
    pub jq_timeout: Duration,
    /// `JQ_MAX_OUTPUT_BYTES`, default 1 MiB.
    pub jq_max_output: usize,
    /// `JQ_MEMORY_MB`, default 512: address space of one jq worker process.
    pub jq_memory_mb: u64,
    /// `JQ_WORKERS`, default 2: jq worker processes.
    pub jq_workers: usize,
    /// `STEP_PRICE`, default 0.01: the price of one step, the monolith's list price.
    pub step_price: f64,
    /// `COMPUTE_PRICE_PER_SECOND`, default 0.0: added for each measured second of a step.
    pub compute_price_per_second: f64,
    /// `HTTP_STEP_MAX_RESPONSE_BYTES`, default 4 MiB.
    pub http_max_response: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_active: 512,
            max_parallel_steps: 8,
            lease: Duration::from_secs(15),
            job_poll: Duration::from_millis(50),
            jq_timeout: Duration::from_secs(2),
            jq_max_output: 1 << 20,
            jq_memory_mb: 512,
            jq_workers: 2,
            step_price: 0.01,
            compute_price_per_second: 0.0,
            http_max_response: 4 << 20,
        }
    }
}

/// How policies are served and trained.
#[derive(Clone, Debug)]
pub struct RlConfig {
    /// `POLICY_MEMORY_MB`, default 256: parameters of policies that are loaded at once; the least recently used go.
    pub policy_memory_mb: usize,
    /// `POLICY_DETERMINISTIC`, default true: a state gets the same bits in any company, where a call does not say.
    pub deterministic: bool,
    /// `POLICY_BATCH_WINDOW_US`, default 0: how long a batch waits for more while calls come together, in microseconds.
    pub batch_window: Duration,
    /// `TRAINING_SLOTS`, default 1: training runs of this process at once; 0: it trains none.
    pub training_slots: usize,
    /// `TRAINING_THREADS`, default 1: threads inside one operation of a run.
    pub training_threads: u32,
    /// `TRAINING_CHECKPOINT_SECONDS`, default 30: how much training a crash may cost.
    pub checkpoint_every: Duration,
}

impl Default for RlConfig {
    fn default() -> Self {
        Self {
            policy_memory_mb: 256,
            deterministic: true,
            batch_window: Duration::ZERO,
            training_slots: 1,
            training_threads: 1,
            checkpoint_every: Duration::from_secs(30),
        }
    }
}

/// What clients may ask of miners.
#[derive(Clone, Debug, Default)]
pub struct ServicesConfig {
    /// `SERVICE_PRIVATE_ADDRESSES`, default false: take requests whose addresses name hosts that are not on the Internet.
    pub private_addresses: bool,
}

/// What commands run in.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// `SANDBOX_DIR`, default `DATA_DIR`/sandboxes: the files of executions whose steps run commands.
    pub directory: Option<PathBuf>,
    /// `SANDBOX_BUBBLEWRAP`: bubblewrap's executable; default: `bwrap` of the search path.
    pub bubblewrap: Option<PathBuf>,
    /// `SANDBOX_UID`, default 65534: who commands run as where this service is root.
    pub uid: u32,
    /// `SANDBOX_GID`, default 65534.
    pub gid: u32,
    /// `SANDBOX_ALLOW_UNENFORCED`, default false: run commands although the host does not enforce all that their level
    /// demands, and say so.
    pub allow_unenforced: bool,
    /// `SANDBOX_CGROUPS`, default true: use control groups where this process may make them.
    pub cgroups: bool,
    /// `SANDBOX_MAX_RUNNING`, default 4: commands that run at once.
    pub max_running: usize,
    /// `SANDBOX_MAX_PROCESSES`, default 128: processes and threads of one command.
    pub max_processes: u64,
    /// `SANDBOX_MAX_OUTPUT_BYTES`, default 1 MiB: what is kept of each of a command's outputs.
    pub max_output: usize,
    /// `SANDBOX_KEEP_HOURS`, default 24: how long after an execution's end its files stay.
    pub keep: Duration,
    /// `SANDBOX_PRIVATE_ADDRESSES`, default false: let listed domains lead to addresses that are not public.
    pub private_addresses: bool,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            directory: None,
            bubblewrap: None,
            uid: 65_534,
            gid: 65_534,
            allow_unenforced: false,
            cgroups: true,
            max_running: 4,
            max_processes: 128,
            max_output: 1 << 20,
            keep: Duration::from_secs(24 * 3600),
            private_addresses: false,
        }
    }
}

/// The registry of agents, and plans over them.
#[derive(Clone, Debug)]
pub struct AgentsConfig {
    /// `AGENT_OFFLINE_SECONDS`, default 300: without a heartbeat for so long an agent is offline.
    pub offline_after: Duration,
    /// `AGENT_ACCEPT_SECONDS`, default 60: an agent that does not accept an assignment for so long loses it; and how long
    /// a call to its address may take.
    pub accept_within: Duration,
    /// `AGENT_PRIVATE_ADDRESSES`, default false: let agents' addresses be http, and not on the Internet.
    pub private_addresses: bool,
    /// `PLANS_MAX_RUNNING`, default 10: plans that run at once.
    pub plans_max_running: i64,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        Self {
            offline_after: Duration::from_secs(300),
            accept_within: Duration::from_secs(60),
            private_addresses: false,
            plans_max_running: 10,
        }
    }
}

/// One address that a step may call by its name.
#[derive(Clone, Debug)]
pub struct HttpEndpoint {
    /// The full address; a step can't change it.
    pub url: String,
    /// `openai`: the body is a chat completion request, the answer's first message becomes `output.text`; `json`: as it comes.
    pub kind: EndpointKind,
    /// Sent as `Authorization: Bearer`.
    pub bearer: Option<SecretString>,
    /// Price of one call, default 0.0.
    pub price: f64,
}

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    /// OpenAI-compatible chat completions.
    OpenAi,
    /// Plain JSON in, plain JSON out.
    Json,
}

/// How events leave the service.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// `WEBHOOKS`: who is called, by name (JSON object, or `[webhooks.NAME]` in the file).
    pub endpoints: BTreeMap<String, WebhookEndpoint>,
    /// `WEBHOOK_RETRY_SCALE`, default 1.0: multiplies the waits between the attempts of a delivery.
    pub retry_scale: f64,
    /// `WEBHOOK_KEEP_DAYS`, default 30: how long a delivery that has ended is kept.
    pub kept: Duration,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { endpoints: BTreeMap::new(), retry_scale: 1.0, kept: Duration::from_secs(30 * 86_400) }
    }
}

/// One address that is called when something happens.
#[derive(Clone, Debug)]
pub struct WebhookEndpoint {
    /// The full address; https, or http too where private addresses are allowed.
    pub url: Url,
    /// `whsec_` and base64, at least one. Each signs, so that a receiver can go from one to another.
    pub secrets: Vec<SecretString>,
    /// The kinds of events that it gets; none: all.
    pub events: Option<Vec<String>>,
    /// Whether the address may be one that is not on the Internet.
    pub allow_private: bool,
    /// How long one call may take.
    pub timeout: Duration,
}
