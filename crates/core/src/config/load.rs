//! From the sources to a `Config`, or to everything that is wrong with them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    AgentsConfig, AuditConfig, Config, ConfigError, EngineConfig, Environment, LogFormat, RlConfig, SandboxConfig,
    ServicesConfig, Sources, messages, read::Reader, rules, webhooks,
};

/// Every setting by its name in the environment. In the file the same names are lower-case.
pub const KEYS: &[&str] = &[
    "APP_ENV",
    "APP_HOST",
    "APP_PORT",
    "APP_ALLOW_REMOTE_DEV",
    "DATABASE_URL",
    "DATA_DIR",
    "MIGRATE_ON_START",
    "ADMIN_API_KEYS",
    "CLIENT_API_KEYS",
    "MINER_API_KEYS",
    "RECEIPT_SIGNING_KEY_HEX",
    "AUDIT_ORIGIN",
    "AUDIT_SIGNING_KEY_HEX",
    "AUDIT_SEAL_SECONDS",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "RATE_LIMIT_REQUESTS",
    "RATE_LIMIT_WINDOW_SECONDS",
    "CORS_ORIGINS",
    "BODY_LIMIT_BYTES",
    "REQUEST_TIMEOUT_SECONDS",
    "SHUTDOWN_GRACE_SECONDS",
    "DB_READERS",
    "DB_BUSY_TIMEOUT_MS",
    "ENGINE_MAX_ACTIVE",
    "ENGINE_MAX_PARALLEL_STEPS",
    "ENGINE_LEASE_SECONDS",
    "JOB_POLL_MS",
    "SERVICE_PRIVATE_ADDRESSES",
    "JQ_TIMEOUT_MS",
    "JQ_MAX_OUTPUT_BYTES",
    "JQ_MEMORY_MB",
    "JQ_WORKERS",
    "STEP_PRICE",
    "COMPUTE_PRICE_PER_SECOND",
    "HTTP_STEP_MAX_RESPONSE_BYTES",
    "HTTP_ENDPOINTS",
    "POLICY_MEMORY_MB",
    "POLICY_DETERMINISTIC",
    "POLICY_BATCH_WINDOW_US",
    "TRAINING_SLOTS",
    "TRAINING_THREADS",
    "TRAINING_CHECKPOINT_SECONDS",
    "WEBHOOKS",
    "WEBHOOK_RETRY_SCALE",
    "WEBHOOK_KEEP_DAYS",
    "SANDBOX_DIR",
    "SANDBOX_BUBBLEWRAP",
    "SANDBOX_UID",
    "SANDBOX_GID",
    "SANDBOX_ALLOW_UNENFORCED",
    "SANDBOX_CGROUPS",
    "SANDBOX_MAX_RUNNING",
    "SANDBOX_MAX_PROCESSES",
    "SANDBOX_MAX_OUTPUT_BYTES",
    "SANDBOX_KEEP_HOURS",
    "SANDBOX_PRIVATE_ADDRESSES",
    "AGENT_OFFLINE_SECONDS",
    "AGENT_ACCEPT_SECONDS",
    "AGENT_PRIVATE_ADDRESSES",
    "PLANS_MAX_RUNNING",
    "MESSAGE_KEYS",
    "MESSAGES_ALLOW_PLAINTEXT",
    "MESSAGES_REQUIRE_AUTHORIZATION",
    "MESSAGE_SOCKETS_MAX",
    "MESSAGE_PING_SECONDS",
];

/// Sizes stay below this, so that one request or step can't take the machine's memory.
const GIBIBYTE: usize = 1 << 30;

impl Config {
    /// Reads defaults, file, `.env` and environment, the later winning over the earlier.
    ///
    /// # Errors
    /// All faults at once, each with its key; no secret is shown.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let settings = sources.gather(&mut faults);
        let mut reader = Reader::new(settings, faults);
        let config = Self::read(&mut reader);
        rules::check(&config, &mut reader);
        if reader.faults.is_empty() { Ok(config) } else { Err(ConfigError { faults: reader.faults }) }
    }

    fn read(from: &mut Reader) -> Self {
        let (data_dir, database) = places(from);
        let default = Self::defaults(&data_dir);
        Self {
            environment: from.parsed("APP_ENV", default.environment, "dev or production", environment),
            host: from.parsed("APP_HOST", default.host, "an IP address, or localhost", rules::host),
            port: from.number("APP_PORT", default.port, 0..=u16::MAX),
            allow_remote_dev: from.truth("APP_ALLOW_REMOTE_DEV", default.allow_remote_dev),
            database: database.unwrap_or(default.database),
            data_dir,
            migrate_on_start: from.truth("MIGRATE_ON_START", default.migrate_on_start),
            admin_keys: from.secrets("ADMIN_API_KEYS"),
            client_keys: from.secrets("CLIENT_API_KEYS"),
            miner_keys: from.secrets("MINER_API_KEYS"),
            receipt_signing_key: from.secret("RECEIPT_SIGNING_KEY_HEX"),
            audit: audit(from),
            log_level: from.parsed("LOG_LEVEL", default.log_level, rules::LOG_FILTER, rules::log_filter),
            log_format: from.parsed("LOG_FORMAT", default.log_format, "json or text", log_format),
            rate_limit_requests: from.number("RATE_LIMIT_REQUESTS", default.rate_limit_requests, 0..=10_000_000),
            rate_limit_window: from.seconds("RATE_LIMIT_WINDOW_SECONDS", default.rate_limit_window, 1..=86_400),
            cors_origins: rules::origins(from),
            body_limit: from.number("BODY_LIMIT_BYTES", default.body_limit, 1024..=GIBIBYTE),
            request_timeout: from.seconds("REQUEST_TIMEOUT_SECONDS", default.request_timeout, 1..=3600),
            shutdown_grace: from.seconds("SHUTDOWN_GRACE_SECONDS", default.shutdown_grace, 0..=3600),
            db_readers: from.number("DB_READERS", default.db_readers, 1..=64),
            db_busy_timeout: from.milliseconds("DB_BUSY_TIMEOUT_MS", default.db_busy_timeout, 100..=600_000),
            engine: engine(from),
            rl: rl(from),
            services: services(from),
            sandbox: sandbox(from),
            agents: agents(from),
            http_endpoints: rules::endpoints(from),
            webhooks: webhooks::webhooks(from),
            messages: messages::messages(from),
        }
    }
}

/// The data directory and, where a URL names it, the database.
fn places(from: &mut Reader) -> (PathBuf, Option<PathBuf>) {
    let directory = from.text("DATA_DIR").map(PathBuf::from);
    let database = from.text("DATABASE_URL").and_then(|url| match rules::database(&url) {
        Ok(path) => Some(path),
        Err(message) => {
            from.fault("DATABASE_URL", message);
            None
        }
    });
    let beside = database.as_deref().and_then(Path::parent).map(|parent| {
        // The parent of `x.db` is the empty path.
        if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() }
    });
    (directory.or(beside).unwrap_or_else(|| PathBuf::from("./data")), database)
}

fn engine(from: &mut Reader) -> EngineConfig {
    let default = EngineConfig::default();
    EngineConfig {
        max_active: from.number("ENGINE_MAX_ACTIVE", default.max_active, 1..=100_000),
        max_parallel_steps: from.number("ENGINE_MAX_PARALLEL_STEPS", default.max_parallel_steps, 1..=1024),
        lease: from.seconds("ENGINE_LEASE_SECONDS", default.lease, 1..=3600),
        job_poll: from.milliseconds("JOB_POLL_MS", default.job_poll, 5..=60_000),
        jq_timeout: from.milliseconds("JQ_TIMEOUT_MS", default.jq_timeout, 10..=600_000),
        jq_max_output: from.number("JQ_MAX_OUTPUT_BYTES", default.jq_max_output, 1024..=GIBIBYTE),
        jq_memory_mb: from.number("JQ_MEMORY_MB", default.jq_memory_mb, 64..=65_536),
        jq_workers: from.number("JQ_WORKERS", default.jq_workers, 1..=64),
        step_price: from.number("STEP_PRICE", default.step_price, 0.0..=rules::MAX_PRICE),
        compute_price_per_second: from.number(
            "COMPUTE_PRICE_PER_SECOND",
            default.compute_price_per_second,
            0.0..=rules::MAX_PRICE,
        ),
        http_max_response: from.number("HTTP_STEP_MAX_RESPONSE_BYTES", default.http_max_response, 1024..=GIBIBYTE),
    }
}

fn audit(from: &mut Reader) -> AuditConfig {
    let default = AuditConfig::default();
    let good = "a name without blanks and plus signs, such as example.com/agent-management";
    AuditConfig {
        origin: from
            .parsed("AUDIT_ORIGIN", default.origin, good, |text| rules::is_origin(text).then(|| text.to_owned())),
        signing_key: from.secret("AUDIT_SIGNING_KEY_HEX"),
        every: from.seconds("AUDIT_SEAL_SECONDS", default.every, 1..=3600),
    }
}

fn rl(from: &mut Reader) -> RlConfig {
    let default = RlConfig::default();
    RlConfig {
        policy_memory_mb: from.number("POLICY_MEMORY_MB", default.policy_memory_mb, 1..=1 << 20),
        deterministic: from.truth("POLICY_DETERMINISTIC", default.deterministic),
        batch_window: from.microseconds("POLICY_BATCH_WINDOW_US", default.batch_window, 0..=200),
        training_slots: from.number("TRAINING_SLOTS", default.training_slots, 0..=64),
        training_threads: from.number("TRAINING_THREADS", default.training_threads, 1..=256),
        checkpoint_every: Duration::from_secs_f64(from.number(
            "TRAINING_CHECKPOINT_SECONDS",
            default.checkpoint_every.as_secs_f64(),
            0.0..=86_400.0,
        )),
    }
}

fn services(from: &mut Reader) -> ServicesConfig {
    let default = ServicesConfig::default();
    ServicesConfig { private_addresses: from.truth("SERVICE_PRIVATE_ADDRESSES", default.private_addresses) }
}

fn sandbox(from: &mut Reader) -> SandboxConfig {
    let default = SandboxConfig::default();
    // Root would be root for files outside as well.
    let ids = 1..=u32::MAX - 1;
    SandboxConfig {
        directory: from.text("SANDBOX_DIR").map(PathBuf::from),
        bubblewrap: from.text("SANDBOX_BUBBLEWRAP").map(PathBuf::from),
        uid: from.number("SANDBOX_UID", default.uid, ids.clone()),
        gid: from.number("SANDBOX_GID", default.gid, ids),
        allow_unenforced: from.truth("SANDBOX_ALLOW_UNENFORCED", default.allow_unenforced),
        cgroups: from.truth("SANDBOX_CGROUPS", default.cgroups),
        max_running: from.number("SANDBOX_MAX_RUNNING", default.max_running, 1..=1024),
        max_processes: from.number("SANDBOX_MAX_PROCESSES", default.max_processes, 1..=100_000),
        max_output: from.number("SANDBOX_MAX_OUTPUT_BYTES", default.max_output, 1024..=GIBIBYTE),
        keep: Duration::from_secs(3600 * from.number("SANDBOX_KEEP_HOURS", default.keep.as_secs() / 3600, 0..=87_600)),
        private_addresses: from.truth("SANDBOX_PRIVATE_ADDRESSES", default.private_addresses),
    }
}

fn agents(from: &mut Reader) -> AgentsConfig {
    let default = AgentsConfig::default();
    AgentsConfig {
        offline_after: from.seconds("AGENT_OFFLINE_SECONDS", default.offline_after, 1..=86_400),
        accept_within: from.seconds("AGENT_ACCEPT_SECONDS", default.accept_within, 1..=3600),
        private_addresses: from.truth("AGENT_PRIVATE_ADDRESSES", default.private_addresses),
        plans_max_running: from.number("PLANS_MAX_RUNNING", default.plans_max_running, 1..=10_000),
    }
}

fn environment(text: &str) -> Option<Environment> {
    match text {
        "dev" => Some(Environment::Dev),
        "production" => Some(Environment::Production),
        _ => None,
    }
}

fn log_format(text: &str) -> Option<LogFormat> {
    match text {
        "json" => Some(LogFormat::Json),
        "text" => Some(LogFormat::Text),
        _ => None,
    }
}
