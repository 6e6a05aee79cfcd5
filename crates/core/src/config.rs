//! Configuration: defaults, then a file, then `.env`, then the environment. `.env.example` documents every setting.

mod endpoints;
mod error;
mod group;
mod messages;
mod read;
mod sources;
#[cfg(test)]
mod tests;
mod validate;

use std::{
    collections::BTreeMap,
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
    read::{
        boolean, days, fraction, hours, microseconds, milliseconds, number, optional_path, parsed, seconds, secret,
        secrets,
    },
    validate::MAX_PRICE,
};

pub use error::ConfigError;
pub use messages::MessageConfig;
pub use sources::Sources;
pub use validate::is_origin;

/// The name of every setting in the environment. In the file the same names are lower-case.
pub static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(Config::keys);

/// The longest that anything with a size may be, in bytes: one request or step can't take the machine's memory.
const GIBIBYTE: usize = 1 << 30;

/// Deployment environment, which decides how strictly the configuration is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
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

settings! {
    /// Everything an operator can set. Immutable after the start.
    pub struct Config {
        /// dev (default) or production.
        "APP_ENV" environment: Environment = Environment::Dev, parsed("dev or production", validate::environment);
        /// The address to listen on, or `localhost`; default 127.0.0.1.
        "APP_HOST" host: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST), parsed("an IP address, or localhost", validate::host);
        /// Default 8012; 0 takes a free port (and says which).
        "APP_PORT" port: u16 = 8012, number(0..=u16::MAX);
        /// The second confirmation that a dev server may listen beyond loopback.
        "APP_ALLOW_REMOTE_DEV" allow_remote_dev: bool = false, boolean;
        /// The SQLite file, as an URL; default: coordinator.db in `DATA_DIR`.
        "DATABASE_URL" database: PathBuf = "./data/coordinator.db".into(), validate::database;
        /// Where generated keys and everything else beside the database is kept. Default: ./data, or the database's directory.
        "DATA_DIR" data_dir: PathBuf = "./data".into(), validate::data_dir;
        /// Whether `serve` migrates before it answers; default true.
        "MIGRATE_ON_START" migrate_on_start: bool = true, boolean;
        /// API keys with the role admin.
        "ADMIN_API_KEYS" admin_keys: Vec<SecretString> = Vec::new(), secrets;
        /// API keys with the role client.
        "CLIENT_API_KEYS" client_keys: Vec<SecretString> = Vec::new(), secrets;
        /// API keys with the role miner.
        "MINER_API_KEYS" miner_keys: Vec<SecretString> = Vec::new(), secrets;
        /// 32 bytes in hex; none: a key is made beside the database.
        "RECEIPT_SIGNING_KEY_HEX" receipt_signing_key: Option<SecretString> = None, secret;
        /// A tracing filter; default info.
        "LOG_LEVEL" log_level: String = "info".to_owned(), parsed(validate::LOG_FILTER, validate::log_filter);
        /// json (default) or text.
        "LOG_FORMAT" log_format: LogFormat = LogFormat::Json, parsed("json or text", validate::log_format);
        /// Requests a window and key; default 0: no limit.
        "RATE_LIMIT_REQUESTS" rate_limit_requests: u32 = 0, number(0..=10_000_000);
        /// The window of the rate limit, in seconds; default 60.
        "RATE_LIMIT_WINDOW_SECONDS" rate_limit_window: Duration = Duration::from_secs(60), seconds(1..=86_400);
        /// Origins whose pages may call: a JSON list or comma-separated, or `*` for any; default: none.
        "CORS_ORIGINS" cors_origins: Vec<String> = Vec::new(), validate::origins;
        /// The largest request body in bytes; default 10 MB.
        "BODY_LIMIT_BYTES" body_limit: usize = 10 << 20, number(1024..=GIBIBYTE);
        /// How long a request may take, in seconds; default 60.
        "REQUEST_TIMEOUT_SECONDS" request_timeout: Duration = Duration::from_secs(60), seconds(1..=3600);
        /// The first stage of a stop, in which requests and steps may end, in seconds; default 25.
        "SHUTDOWN_GRACE_SECONDS" shutdown_grace: Duration = Duration::from_secs(25), seconds(0..=3600);
        /// Read-only connections; default 4.
        "DB_READERS" db_readers: u32 = 4, number(1..=64);
        /// How long a write waits for the coordinator's lock before a 503, in milliseconds; default 10000.
        "DB_BUSY_TIMEOUT_MS" db_busy_timeout: Duration = Duration::from_secs(10), milliseconds(100..=600_000);
        /// The addresses that a step's `{"kind": "http"}` may name (JSON object, or `[http_endpoints.NAME]` in the file).
        "HTTP_ENDPOINTS" http_endpoints: BTreeMap<String, HttpEndpoint> = BTreeMap::new(), endpoints::http_endpoints;
        groups:
        /// The audit log.
        audit: AuditConfig;
        /// The engine that runs workflows.
        engine: EngineConfig;
        /// Policies and their training.
        rl: RlConfig;
        /// Jobs for miners.
        services: ServicesConfig;
        /// Sandboxes.
        sandbox: SandboxConfig;
        /// The registry of agents, and plans.
        agents: AgentsConfig;
        /// Calls to webhooks.
        webhooks: WebhookConfig;
        /// Messages between agents.
        messages: MessageConfig;
    }
}

impl Config {
    /// Read defaults, file, `.env` and environment, the later winning over the earlier.
    ///
    /// # Errors
    /// Everything that is wrong, each with the setting's name; no secret is shown.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        let mut reader = sources.gather();
        let config = Self::read(&mut reader);
        validate::check(&config, &mut reader);
        if reader.violations.is_empty() { Ok(config) } else { Err(ConfigError { violations: reader.violations }) }
    }

    /// Settings for tests: dev, a free port, two readers, no rate limit, all files below `data_dir`.
    pub fn for_tests(data_dir: &Path) -> Self {
        let database = data_dir.join("coordinator.db");
        Self { port: 0, db_readers: 2, database, data_dir: data_dir.to_owned(), ..Self::default() }
    }
}

settings! {
    /// How the audit log is sealed.
    pub struct AuditConfig {
        /// The log's name in its signed heads; default agent-management.
        "AUDIT_ORIGIN" origin: String = "agent-management".to_owned(), parsed(validate::ORIGIN, validate::origin);
        /// 32 bytes in hex; none: a key is made beside the database.
        "AUDIT_SIGNING_KEY_HEX" signing_key: Option<SecretString> = None, secret;
        /// Time between two signed heads, in seconds; default 5.
        "AUDIT_SEAL_SECONDS" every: Duration = Duration::from_secs(5), seconds(1..=3600);
    }
}

settings! {
    /// How workflows are run.
    pub struct EngineConfig {
        /// Executions driven at once by this process; default 512.
        "ENGINE_MAX_ACTIVE" max_active: usize = 512, number(1..=100_000);
        /// Steps of one execution that run at once; default 8.
        "ENGINE_MAX_PARALLEL_STEPS" max_parallel_steps: usize = 8, number(1..=1024);
        /// After this long without a heartbeat a worker counts as gone, in seconds; default 15.
        "ENGINE_LEASE_SECONDS" lease: Duration = Duration::from_secs(15), seconds(1..=3600);
        /// How often a change of the database is looked for while steps wait for miners, in milliseconds; default 50.
        "JOB_POLL_MS" job_poll: Duration = Duration::from_millis(50), milliseconds(5..=60_000);
        /// One evaluation of a jq program, in milliseconds; default 2000.
        "JQ_TIMEOUT_MS" jq_timeout: Duration = Duration::from_secs(2), milliseconds(10..=600_000);
        /// Bytes that a jq program may answer; default 1 MiB.
        "JQ_MAX_OUTPUT_BYTES" jq_max_output: usize = 1 << 20, number(1024..=GIBIBYTE);
        /// Address space of one jq worker process, in MB; default 512.
        "JQ_MEMORY_MB" jq_memory_mb: u64 = 512, number(64..=65_536);
        /// jq worker processes; default 2.
        "JQ_WORKERS" jq_workers: usize = 2, number(1..=64);
        /// The price of one step; default 0.01, the monolith's list price.
        "STEP_PRICE" step_price: f64 = 0.01, number(0.0..=MAX_PRICE);
        /// Added for each measured second of a step; default 0.
        "COMPUTE_PRICE_PER_SECOND" compute_price_per_second: f64 = 0.0, number(0.0..=MAX_PRICE);
        /// The largest answer of an HTTP endpoint in bytes; default 4 MiB.
        "HTTP_STEP_MAX_RESPONSE_BYTES" http_max_response: usize = 4 << 20, number(1024..=GIBIBYTE);
    }
}

settings! {
    /// How policies are served and trained.
    pub struct RlConfig {
        /// Parameters of policies that are loaded at once, in MB, default 256; the least recently used go.
        "POLICY_MEMORY_MB" policy_memory_mb: usize = 256, number(1..=1 << 20);
        /// Whether a state gets the same bits in any company, where a call does not say; default true.
        "POLICY_DETERMINISTIC" deterministic: bool = true, boolean;
        /// How long a batch waits for more while calls come together, in microseconds; default 0.
        "POLICY_BATCH_WINDOW_US" batch_window: Duration = Duration::ZERO, microseconds(0..=200);
        /// Training runs of this process at once, default 1; 0: it trains none.
        "TRAINING_SLOTS" training_slots: usize = 1, number(0..=64);
        /// Threads inside one operation of a run; default 1.
        "TRAINING_THREADS" training_threads: u32 = 1, number(1..=256);
        /// How much training a crash may cost, in seconds; default 30.
        "TRAINING_CHECKPOINT_SECONDS" checkpoint_every: Duration = Duration::from_secs(30), fraction(0.0..=86_400.0);
    }
}

settings! {
    /// What clients may ask of miners.
    pub struct ServicesConfig {
        /// Whether requests are taken whose addresses name hosts that are not on the Internet; default false.
        "SERVICE_PRIVATE_ADDRESSES" private_addresses: bool = false, boolean;
    }
}

settings! {
    /// What commands run in.
    pub struct SandboxConfig {
        /// The files of executions whose steps run commands; default: sandboxes in `DATA_DIR`.
        "SANDBOX_DIR" directory: Option<PathBuf> = None, optional_path;
        /// bubblewrap's executable; default: `bwrap` of the search path.
        "SANDBOX_BUBBLEWRAP" bubblewrap: Option<PathBuf> = None, optional_path;
        /// The user that commands run as where this service is root, default 65534. Root would be root for files outside as well.
        "SANDBOX_UID" uid: u32 = 65_534, number(1..=u32::MAX - 1);
        /// The group; default 65534.
        "SANDBOX_GID" gid: u32 = 65_534, number(1..=u32::MAX - 1);
        /// Whether commands run although the host does not enforce all that their level demands, which is then said;
        /// default false.
        "SANDBOX_ALLOW_UNENFORCED" allow_unenforced: bool = false, boolean;
        /// Whether control groups are used where this process may make them; default true.
        "SANDBOX_CGROUPS" cgroups: bool = true, boolean;
        /// Commands that run at once; default 4.
        "SANDBOX_MAX_RUNNING" max_running: usize = 4, number(1..=1024);
        /// Processes and threads of one command; default 128.
        "SANDBOX_MAX_PROCESSES" max_processes: u64 = 128, number(1..=100_000);
        /// Bytes that are kept of each of a command's outputs; default 1 MiB.
        "SANDBOX_MAX_OUTPUT_BYTES" max_output: usize = 1 << 20, number(1024..=GIBIBYTE);
        /// How long after an execution's end its files stay, in hours; default 24.
        "SANDBOX_KEEP_HOURS" keep: Duration = Duration::from_secs(24 * 3600), hours(0..=87_600);
        /// Whether listed domains may lead to addresses that are not public; default false.
        "SANDBOX_PRIVATE_ADDRESSES" private_addresses: bool = false, boolean;
    }
}

settings! {
    /// The registry of agents, and plans over them.
    pub struct AgentsConfig {
        /// After this long without a heartbeat an agent is offline, in seconds; default 300.
        "AGENT_OFFLINE_SECONDS" offline_after: Duration = Duration::from_secs(300), seconds(1..=86_400);
        /// An agent that does not accept an assignment for so long loses it, in seconds, default 60; and how long a call to
        /// its address may take.
        "AGENT_ACCEPT_SECONDS" accept_within: Duration = Duration::from_secs(60), seconds(1..=3600);
        /// Whether agents' addresses may be http, and not on the Internet; default false.
        "AGENT_PRIVATE_ADDRESSES" private_addresses: bool = false, boolean;
        /// Plans that run at once; default 10.
        "PLANS_MAX_RUNNING" plans_max_running: i64 = 10, number(1..=10_000);
    }
}

settings! {
    /// How events leave the service.
    pub struct WebhookConfig {
        /// The addresses that are called, by name (JSON object, or `[webhooks.NAME]` in the file).
        "WEBHOOKS" endpoints: BTreeMap<String, WebhookEndpoint> = BTreeMap::new(), endpoints::webhooks;
        /// Multiplies the waits between the attempts of a delivery; default 1.
        "WEBHOOK_RETRY_SCALE" retry_scale: f64 = 1.0, number(0.0..=100.0);
        /// How long a delivery that has ended is kept, in days; default 30.
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
    pub price: f64,
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
