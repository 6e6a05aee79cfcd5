//! Configuration: defaults, then a file, then `.env`, then the environment. `.env.example` documents every setting.

mod background;
mod client_ids;
mod connections;
mod creativity;
mod deployments;
mod endpoints;
mod error;
mod group;
mod http_method;
mod market;
mod messages;
mod origins;
mod portfolios;
mod retention;
mod setting_reader;
mod settlement;
mod sources;
#[cfg(test)]
mod tests;
mod validate;
mod witnesses;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use reqwest::Url;
use secrecy::SecretString;
use serde::Deserialize;

use self::{
    group::settings,
    setting_reader::{
        boolean, days, fraction, hours, microseconds, milliseconds, number, optional_path, parsed, price, read_secrets,
        seconds, secret,
    },
};
use crate::money::Money;

pub use background::BackgroundConfig;
pub use connections::{AddressBlock, ConnectionConfig};
pub use creativity::CreativityConfig;
pub use deployments::{DeploymentConfig, SupervisorKind};
pub use endpoints::check_hook_url;
pub use error::ConfigError;
pub use http_method::HttpMethod;
pub use market::MarketConfig;
pub use messages::MessageConfig;
pub use origins::{ConfigOrigins, SettingOrigin, SettingSource, hidden_settings};
pub use portfolios::PortfolioConfig;
pub use retention::RetentionConfig;
pub use settlement::{SettlementConfig, SettlementMode};
pub use sources::ConfigSources;
pub use witnesses::WitnessEndpoint;

/// The name of every setting in the environment. In the file the same names are lower-case.
pub static SETTING_NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(Config::keys);

/// The longest that anything with a size may be, in bytes: one request or step can't take the machine's memory.
const MAX_SIZE_BYTES: usize = 1 << 30;

/// Deployment environment, which decides how strictly the configuration is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppEnvironment {
    /// Development: any API key is accepted, and only loopback addresses are listened on.
    Dev,
    /// Production: API keys are required and placeholders are refused.
    Production,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for a terminal.
    Text,
}

/// Which requirements on miners are written with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstraintRule {
    /// Those that miners can meet which announce product names of GPUs and names of models.
    Matching,
    /// Those of the coordinator's own service routes: GPU, version of CUDA and category of models too.
    Strict,
}

/// The clock in which the coordinator keeps the times of its table `job`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobClockSetting {
    /// Found out from the coordinator's rows and tables.
    Auto,
    /// The machine's local time, as coordinators before August 2026 do.
    Local,
    /// UTC, as those since do.
    Utc,
}

settings! {
    /// All settings of the service. They don't change after the start.
    pub struct Config {
        /// Deployment environment: `dev` (default) or `production`.
        "APP_ENV" environment: AppEnvironment = AppEnvironment::Dev, parsed("dev or production", validate::parse_environment);
        /// The address to listen on, or `localhost`; default 127.0.0.1.
        "APP_HOST" host: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST), parsed("an IP address, or localhost", validate::parse_host);
        /// Listening port, default 8012. With 0 the operating system chooses a free port, which is logged.
        "APP_PORT" port: u16 = 8012, number(0..=u16::MAX);
        /// Confirmation that a development server may listen beyond loopback, default false.
        "APP_ALLOW_REMOTE_DEV" allow_remote_dev: bool = false, boolean;
        /// The SQLite file, as an URL; default: coordinator.db in `DATA_DIR`.
        "DATABASE_URL" database: PathBuf = "./data/coordinator.db".into(), validate::parse_database_url;
        /// Where generated keys and everything else beside the database is kept. Default: ./data, or the database's directory.
        "DATA_DIR" data_dir: PathBuf = "./data".into(), validate::data_dir;
        /// Whether `serve` migrates the database before it accepts requests, default true.
        "MIGRATE_ON_START" migrate_on_start: bool = true, boolean;
        /// API keys of administrators, default none.
        "ADMIN_API_KEYS" admin_keys: Vec<SecretString> = Vec::new(), read_secrets;
        /// API keys of clients, default none.
        "CLIENT_API_KEYS" client_keys: Vec<SecretString> = Vec::new(), read_secrets;
        /// API keys of miners, default none.
        "MINER_API_KEYS" miner_keys: Vec<SecretString> = Vec::new(), read_secrets;
        /// Secret with which the coordinator signs tokens (JWT, HS256). `None`: tokens are not accepted.
        "JWT_SECRET" jwt_secret: Option<SecretString> = None, secret;
        /// Ed25519 signing key of receipts, 32 bytes in hex. `None`: a key is created in a file beside the database.
        "RECEIPT_SIGNING_KEY_HEX" receipt_signing_key: Option<SecretString> = None, secret;
        /// Log filter in the syntax of `tracing`, default info.
        "LOG_LEVEL" log_level: String = "info".to_owned(), parsed(validate::LOG_FILTER_SYNTAX, validate::parse_log_filter);
        /// Log format: json (default) or text.
        "LOG_FORMAT" log_format: LogFormat = LogFormat::Json, parsed("json or text", validate::parse_log_format);
        /// Requests allowed per window and principal, default 120000; 0: no limit.
        "RATE_LIMIT_REQUESTS" rate_limit_requests: u32 = 120_000, number(0..=10_000_000);
        /// Window of the rate limit, default 60 s.
        "RATE_LIMIT_WINDOW_SECONDS" rate_limit_window: Duration = Duration::from_secs(60), seconds(1..=86_400);
        /// Requests of one principal that are worked on at once, default 32; further ones wait for their turn.
        "REQUESTS_MAX_ACTIVE" requests_active: u32 = 32, number(1..=65_536);
        /// Origins allowed by CORS: a JSON list or comma-separated, default none; `*` allows any.
        "CORS_ORIGINS" cors_origins: Vec<String> = Vec::new(), validate::read_cors_origins;
        /// Largest accepted request body in bytes, default 10 MB.
        "BODY_LIMIT_BYTES" body_limit: usize = 10 << 20, number(1024..=MAX_SIZE_BYTES);
        /// Most values (members and elements at any depth) that a JSON body may have, default 500 000. Each takes some
        /// hundred bytes of memory while the request is served.
        "BODY_VALUE_LIMIT" body_values: usize = 500_000, number(1024..=MAX_SIZE_BYTES);
        /// Time limit of a request, default 60 s.
        "REQUEST_TIMEOUT_SECONDS" request_timeout: Duration = Duration::from_secs(60), seconds(1..=3600);
        /// First stage of a shutdown, during which running requests and steps may finish, default 25 s.
        "SHUTDOWN_GRACE_SECONDS" shutdown_grace: Duration = Duration::from_secs(25), seconds(0..=3600);
        /// Number of read-only database connections, default 4.
        "DB_READERS" db_readers: u32 = 4, number(1..=64);
        /// Time that a write waits for the coordinator's lock before the request is answered with 503, default 10000
        /// ms.
        "DB_BUSY_TIMEOUT_MS" db_busy_timeout: Duration = Duration::from_secs(10), milliseconds(100..=600_000);
        /// Time after which a statement that reads is ended and its request answered with 503, default 30 s.
        "DB_STATEMENT_TIMEOUT_SECONDS" db_statement_timeout: Duration = Duration::from_secs(30), seconds(1..=3600);
        /// Time after which a write is rolled back and its request answered with 503, default 10 s.
        "DB_WRITE_TIMEOUT_SECONDS" db_write_timeout: Duration = Duration::from_secs(10), seconds(1..=3600);
        /// Time that a start waits for another process's lock on the database before it gives up, default 280 s. The
        /// service manager is told meanwhile, so that its own limit does not end the start.
        "DB_START_TIMEOUT_SECONDS" db_start_timeout: Duration = Duration::from_secs(280), seconds(1..=86_400);
        /// Endpoints that steps with `{"kind": "http"}` may call, by name (a JSON object, or `[http_endpoints.NAME]` in
        /// the file). Default none.
        "HTTP_ENDPOINTS" http_endpoints: BTreeMap<String, HttpEndpoint> = BTreeMap::new(), endpoints::http_endpoints;
        groups:
        /// Settings of connections.
        connections: ConnectionConfig;
        /// Settings of the audit log.
        audit: AuditConfig;
        /// Settings of the workflow engine.
        engine: EngineConfig;
        /// Settings of policies and their training.
        rl: RlConfig;
        /// Settings of background work.
        background: BackgroundConfig;
        /// Settings of service jobs for miners.
        services: ServicesConfig;
        /// Settings of sandboxes.
        sandbox: SandboxConfig;
        /// Settings of the agent registry and of plans.
        agents: AgentsConfig;
        /// Settings of webhooks.
        webhooks: WebhookConfig;
        /// Settings of messages between agents.
        messages: MessageConfig;
        /// Settings of portfolios.
        portfolios: PortfolioConfig;
        /// Settings of creativity.
        creativity: CreativityConfig;
        /// Settings of deployments.
        deployments: DeploymentConfig;
        /// Settings of retention.
        retention: RetentionConfig;
        /// Settings of the marketplace of services.
        market: MarketConfig;
    }
}

impl Config {
    /// Read defaults, file, `.env` and environment, the later winning over the earlier.
    ///
    /// # Errors
    /// Everything that is wrong, each with the setting's name; no secret is shown.
    pub fn load(sources: ConfigSources) -> Result<Self, ConfigError> {
        let mut reader = sources.gather();
        let config = Self::read(&mut reader);
        validate::validate_config(&config, &mut reader);
        if reader.violations.is_empty() { Ok(config) } else { Err(ConfigError { violations: reader.violations }) }
    }

    /// Settings for tests: dev, a free port, two readers, no rate limit, all files below `data_dir`.
    pub fn for_tests(data_dir: &Path) -> Self {
        let database = data_dir.join("coordinator.db");
        Self {
            port: 0,
            db_readers: 2,
            rate_limit_requests: 0,
            database,
            data_dir: data_dir.to_owned(),
            ..Self::default()
        }
    }
}

settings! {
    /// Settings of the audit log's signed checkpoints.
    pub struct AuditConfig {
        /// Name of the log in its signed heads, default agent-management.
        "AUDIT_ORIGIN" origin: String = "agent-management".to_owned(), parsed(validate::ORIGIN, validate::origin);
        /// Ed25519 signing key of the heads, 32 bytes in hex. `None`: a key is created in a file beside the database.
        "AUDIT_SIGNING_KEY_HEX" signing_key: Option<SecretString> = None, secret;
        /// The signing key before the current one, 32 bytes in hex, to rotate the key. `None`: it was not changed.
        "AUDIT_PREVIOUS_SIGNING_KEY_HEX" previous_signing_key: Option<SecretString> = None, secret;
        /// Whether a key may sign that is not connected with the one before, which is lost; default false.
        "AUDIT_NEW_KEY" new_key: bool = false, boolean;
        /// Interval between two signed heads, default 5 s.
        "AUDIT_SEAL_SECONDS" every: Duration = Duration::from_secs(5), seconds(1..=3600);
        /// Witnesses that cosign the heads (a JSON list, or `[[audit_witnesses]]` in the file). Default none.
        "AUDIT_WITNESSES" witnesses: Vec<WitnessEndpoint> = Vec::new(), witnesses::audit_witnesses;
    }
}

settings! {
    /// Settings of the workflow engine.
    pub struct EngineConfig {
        /// Executions of one principal that work in this process at the same time, default 512; an eighth more, at least
        /// one, is kept for other principals. An execution that only waits for an agent, a miner, a training run or a retry
        /// does not count.
        "ENGINE_MAX_ACTIVE" max_active: usize = 512, number(1..=100_000);
        /// Largest value of an execution in bytes of JSON: its inputs, a step's input or output; default 16 MiB. It may take
        /// eight times as much memory, of which each member or element takes about 100 bytes.
        "ENGINE_VALUE_BYTES" value_bytes: usize = 16 << 20, number(1024..=MAX_SIZE_BYTES);
        /// Bytes of JSON that inputs and outputs of all steps of one execution have together, default 64 MiB.
        "ENGINE_RUN_BYTES" run_bytes: usize = 64 << 20, number(1024..=MAX_SIZE_BYTES);
        /// Memory in MiB that the values of all executions which this process drives may take together, default 512. An
        /// execution that needs more waits, at most some seconds before it is saved and taken up again later.
        "ENGINE_MEMORY_MB" memory_mb: usize = 512, number(16..=1 << 20);
        /// Executions of one principal that this process keeps in memory while they only wait, default 16384; an eighth more
        /// is kept for other principals. Beyond it they count as active.
        "ENGINE_MAX_PARKED" max_parked: usize = 16_384, number(1..=1_000_000);
        /// Executions of one principal that have not ended, default 10000: another is refused with 429.
        "ENGINE_MAX_OPEN" max_open: i64 = 10_000, number(1..=10_000_000);
        /// Steps of one execution that run at the same time, default 8.
        "ENGINE_MAX_PARALLEL_STEPS" max_parallel_steps: usize = 8, number(1..=1024);
        /// Duration of a worker's lease, default 15 s: a worker without a heartbeat for this long is treated as dead.
        "ENGINE_LEASE_SECONDS" lease: Duration = Duration::from_secs(15), seconds(1..=3600);
        /// Interval at which the database is polled for changes while steps wait for miners, default 50 ms.
        "JOB_POLL_MS" job_poll: Duration = Duration::from_millis(50), milliseconds(5..=60_000);
        /// Time limit of one evaluation of a jq program, and of compiling the programs and schemas of one definition, default
        /// 2000 ms.
        "JQ_TIMEOUT_MS" jq_timeout: Duration = Duration::from_secs(2), milliseconds(10..=600_000);
        /// Largest output of a jq program in bytes, default 1 MiB.
        "JQ_MAX_OUTPUT_BYTES" jq_max_output: usize = 1 << 20, number(1024..=MAX_SIZE_BYTES);
        /// Address space limit of a jq worker process in MiB, default 512.
        "JQ_MEMORY_MB" jq_memory_mb: u64 = 512, number(64..=65_536);
        /// jq worker processes that one principal may occupy, default 2; one more is kept for other principals, and one for
        /// each two of them compiles definitions.
        "JQ_WORKERS" jq_workers: usize = 2, number(1..=64);
        /// Price of one step in the marketplace's currency, default 0.01, the list price of the former monolith.
        "STEP_PRICE" step_price: Money = Money::from_f64(0.01), price;
        /// Price of each measured second of a step in the marketplace's currency, added to the step's price, default
        /// 0.0.
        "COMPUTE_PRICE_PER_SECOND" compute_price_per_second: Money = Money::ZERO, price;
        /// Largest response of an http step in bytes, default 4 MiB.
        "HTTP_STEP_MAX_RESPONSE_BYTES" http_max_response: usize = 4 << 20, number(1024..=MAX_SIZE_BYTES);
    }
}

settings! {
    /// Settings of serving and training policies.
    pub struct RlConfig {
        /// Memory for the parameters of loaded policies in MiB, default 256; the least recently used policies are
        /// unloaded.
        "POLICY_MEMORY_MB" policy_memory_mb: usize = 256, number(1..=1 << 20);
        /// Whether a policy's output for a state is bit-identical in any batch, default true; a request may override
        /// it.
        "POLICY_DETERMINISTIC" deterministic: bool = true, boolean;
        /// Time that a batch waits for further concurrent calls, in microseconds, default 0.
        "POLICY_BATCH_WINDOW_US" batch_window: Duration = Duration::ZERO, microseconds(0..=200);
        /// Uploaded weights of one principal in MiB, default 1024.
        "POLICY_UPLOAD_QUOTA_MB" upload_quota_mb: u64 = 1024, number(0..=1 << 20);
        /// Training runs of this process at the same time, default 1; with 0 it trains none.
        "TRAINING_SLOTS" training_slots: usize = 1, number(0..=64);
        /// Threads inside one tensor operation of a training run, default 1.
        "TRAINING_THREADS" training_threads: u32 = 1, number(1..=256);
        /// Interval between two checkpoints of a training run, the most training time that a crash loses, default 30 s.
        "TRAINING_CHECKPOINT_SECONDS" checkpoint_every: Duration = Duration::from_secs(30), fraction(0.0..=86_400.0);
        /// Turn of each of two owners who always train, default 60 s.
        "TRAINING_SLICE_SECONDS" training_slice: Duration = Duration::from_secs(60), fraction(0.0..=86_400.0);
        /// Most steps of a training run that an admin or a workflow's step asks for, default 100 000 000.
        "TRAINING_MAX_STEPS_ADMIN" training_admin_steps: u64 = 100_000_000, number(1..=100_000_000);
        /// Most steps of a client's training run, default 10 000 000.
        "TRAINING_MAX_STEPS_CLIENT" training_client_steps: u64 = 10_000_000, number(1..=100_000_000);
        /// Most steps of a miner's training run, default 2 000 000.
        "TRAINING_MAX_STEPS_MINER" training_miner_steps: u64 = 2_000_000, number(1..=100_000_000);
        /// Training runs of one principal that have not ended, default 32.
        "TRAINING_MAX_OPEN_RUNS" training_open_runs: u64 = 32, number(1..=10_000);
        /// Longest time that a bridge to environments in another process may take for an answer, default 30 s.
        "TRAINING_BRIDGE_STEP_SECONDS" training_bridge_step: Duration = Duration::from_secs(30), fraction(0.1..=3600.0);
        /// Bridges that are connected to this process at the same time, default 16; with 0 it takes none.
        "TRAINING_BRIDGES" training_bridges: usize = 16, number(0..=1024);
    }
}

settings! {
    /// Settings of service jobs, the work that clients may submit to miners.
    pub struct ServicesConfig {
        /// Whether jobs may contain addresses of hosts outside the public Internet, default false.
        "SERVICE_PRIVATE_ADDRESSES" private_addresses: bool = false, boolean;
        /// Which requirements on miners are written with a job: `matching` (default) or `strict`.
        "SERVICE_CONSTRAINTS" constraints: ConstraintRule = ConstraintRule::Matching,
            parsed("matching or strict", validate::parse_constraint_rule);
        /// Ids under which the coordinator knows clients, by principal; default none. Their jobs are written with these ids.
        "COORDINATOR_CLIENT_ID" client_ids: BTreeMap<String, String> = BTreeMap::new(), client_ids::read_client_ids;
        /// Clock of the times in the coordinator's table `job`: auto (default), local or utc.
        "COORDINATOR_JOB_CLOCK" job_clock: JobClockSetting = JobClockSetting::Auto, parsed("auto, local or utc", validate::parse_job_clock);
        /// Jobs of one admin that have not ended, default 10000: another is refused with 429.
        "SERVICE_MAX_OPEN_JOBS_ADMIN" admin_open_jobs: i64 = 10_000, number(1..=10_000_000);
        /// Jobs of one client that have not ended, default 1000: another is refused with 429.
        "SERVICE_MAX_OPEN_JOBS_CLIENT" client_open_jobs: i64 = 1000, number(1..=10_000_000);
    }
}

settings! {
    /// Settings of the sandboxes that commands run in.
    pub struct SandboxConfig {
        /// Directory for the files of executions whose steps run commands, default `DATA_DIR`/sandboxes.
        "SANDBOX_DIR" directory: Option<PathBuf> = None, optional_path;
        /// Path of bubblewrap, default `bwrap` from the search path.
        "SANDBOX_BUBBLEWRAP" bubblewrap: Option<PathBuf> = None, optional_path;
        /// User id of commands when this service runs as root, default 65534.
        "SANDBOX_UID" uid: u32 = 65_534, number(1..=u32::MAX - 1);
        /// Group id of commands when this service runs as root, default 65534.
        "SANDBOX_GID" gid: u32 = 65_534, number(1..=u32::MAX - 1);
        /// Whether commands run even if the host can't enforce all limits of their security level, default false; their
        /// reports list the missing ones.
        "SANDBOX_ALLOW_UNENFORCED" allow_unenforced: bool = false, boolean;
        /// Whether control groups are used where this process may create them, default true.
        "SANDBOX_CGROUPS" cgroups: bool = true, boolean;
        /// Commands that run at the same time, default 4.
        "SANDBOX_MAX_RUNNING" max_running: usize = 4, number(1..=1024);
        /// Processes and threads of one command, default 128.
        "SANDBOX_MAX_PROCESSES" max_processes: u64 = 128, number(1..=100_000);
        /// Processors that a sandbox may have at most, default 16.
        "SANDBOX_MAX_CPU_CORES" max_cpu_cores: u32 = 16, number(1..=1024);
        /// MB of memory that a sandbox may have at most, default 16384.
        "SANDBOX_MAX_MEMORY_MB" max_memory_mb: u64 = 16_384, number(8..=10_000_000);
        /// MB of files that a sandbox may have at most, default 102400.
        "SANDBOX_MAX_DISK_MB" max_disk_mb: u64 = 102_400, number(1..=1_000_000_000);
        /// Seconds that a command may run, and be idle, at most, default 86400.
        "SANDBOX_MAX_SECONDS" max_seconds: u64 = 86_400, number(1..=1_000_000);
        /// MB of files that the workspaces of all sandboxes may have together, default 204800. No command starts while they
        /// have more.
        "SANDBOX_TOTAL_DISK_MB" total_disk_mb: u64 = 204_800, number(1..=1_000_000_000);
        /// Bytes kept of each output stream of a command, default 1 MiB.
        "SANDBOX_MAX_OUTPUT_BYTES" max_output: usize = 1 << 20, number(1024..=MAX_SIZE_BYTES);
        /// Retention of an execution's files after its end, default 24 h.
        "SANDBOX_KEEP_HOURS" keep: Duration = Duration::from_secs(24 * 3600), hours(0..=87_600);
        /// Whether allowed domains may resolve to addresses that are not public, default false.
        "SANDBOX_PRIVATE_ADDRESSES" private_addresses: bool = false, boolean;
    }
}

settings! {
    /// Settings of the agent registry and of plans.
    pub struct AgentsConfig {
        /// Time without a heartbeat after which an agent is offline, default 300 s.
        "AGENT_OFFLINE_SECONDS" offline_after: Duration = Duration::from_secs(300), seconds(1..=86_400);
        /// Time within which an agent must accept an assignment before it is given to another, and time limit of a call
        /// to its address, default 60 s.
        "AGENT_ACCEPT_SECONDS" accept_within: Duration = Duration::from_secs(60), seconds(1..=3600);
        /// Whether agents' addresses may use http and hosts outside the public Internet, default false.
        "AGENT_PRIVATE_ADDRESSES" private_addresses: bool = false, boolean;
        /// Agents that one principal may have registered, default 10000.
        "AGENT_MAX_REGISTERED" max_registered: i64 = 10_000, number(1..=1_000_000);
        /// Plans that run at the same time, default 10.
        "PLANS_MAX_RUNNING" plans_max_running: i64 = 10, number(1..=10_000);
    }
}

settings! {
    /// Settings of webhooks.
    pub struct WebhookConfig {
        /// Endpoints by name (a JSON object, or `[webhooks.NAME]` in the file). Default none.
        "WEBHOOKS" endpoints: BTreeMap<String, WebhookEndpoint> = BTreeMap::new(), endpoints::read_webhook_config;
        /// Factor for the waits between delivery attempts, default 1.0.
        "WEBHOOK_RETRY_SCALE" retry_scale: f64 = 1.0, number(0.0..=100.0);
        /// Whether endpoints that are made over the API may use http and hosts outside the public Internet, default false.
        "WEBHOOK_PRIVATE_ADDRESSES" private_addresses: bool = false, boolean;
        /// Retention of finished deliveries, default 30 days.
        "WEBHOOK_KEEP_DAYS" kept: Duration = Duration::from_secs(30 * 86_400), days(1..=36_500);
    }
}

/// A named endpoint that http steps may call.
#[derive(Clone, Debug)]
pub struct HttpEndpoint {
    /// Complete URL; a step can't change it.
    pub url: String,
    /// Protocol of the endpoint. `openai`: the body is a chat completion request and the first message of the answer
    /// becomes `output.text`; `json`: the answer is passed on unchanged.
    pub kind: EndpointKind,
    /// Token sent as `Authorization: Bearer`; `None` sends none.
    pub bearer: Option<SecretString>,
    /// Price of one call in the marketplace's currency, default 0.0.
    pub price: Money,
    /// Methods by which steps may call it; `None`: all.
    pub methods: Option<BTreeSet<HttpMethod>>,
    /// Names of the headers, in lower case, that steps may set; by default none.
    pub headers: BTreeSet<String>,
}

impl HttpEndpoint {
    /// Host of the URL, which has one.
    pub fn host(&self) -> Option<String> {
        Url::parse(&self.url).ok()?.host_str().map(str::to_owned)
    }
}

/// Protocol of an HTTP endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointKind {
    /// OpenAI-compatible chat completions.
    OpenAi,
    /// Plain JSON request and response.
    Json,
}

/// A URL that receives events as signed POST requests.
#[derive(Clone, Debug)]
pub struct WebhookEndpoint {
    /// Complete URL; https, or http where private addresses are allowed.
    pub url: Url,
    /// Signing secrets, at least one, each `whsec_` and base64. Every request is signed with all of them, so that a
    /// receiver can change from one to the next.
    pub secrets: Vec<SecretString>,
    /// Event kinds that the endpoint receives; `None`: all.
    pub events: Option<Vec<String>>,
    /// Whether the URL may name a host outside the public Internet, default false.
    pub allow_private: bool,
    /// Time limit of one request.
    pub timeout: Duration,
}
