//! What makes a value acceptable, beyond its type.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use reqwest::Url;
use secrecy::ExposeSecret as _;
use tracing_subscriber::EnvFilter;

use super::{
    AppEnvironment, Config, ConstraintRule, JobClockSetting, LogFormat, setting_reader::SettingReader,
    settlement::validate_settlement,
};
use crate::crypto::is_valid_note_name;

/// What `log_filter` accepts.
pub(super) const LOG_FILTER_SYNTAX: &str =
    "off, error, warn, info, debug or trace, and after it target=level, comma-separated";

/// Bytes of the shortest secret of tokens: as many as the coordinator requires, and as the signature's hash has.
const MIN_TOKEN_SECRET_BYTES: usize = 32;

/// What `origin` accepts.
pub(super) const ORIGIN: &str = "a name without blanks and plus signs, such as example.com/agent-management";

/// The rules that look at more than one setting, and those that only production keeps.
pub(super) fn validate_config(config: &Config, reader: &mut SettingReader) {
    let plain = config.portfolios.price_url.as_ref().is_some_and(|url| url.scheme() == "http");
    if plain && !config.portfolios.price_private_addresses {
        let text = "has the scheme `http`: should be https, unless PORTFOLIO_PRICE_PRIVATE_ADDRESSES is true";
        reader.reject("PORTFOLIO_PRICE_URL", text);
    }
    let plain = config.creativity.llm_url.as_ref().is_some_and(|url| url.scheme() == "http");
    if plain && !config.creativity.llm_private_addresses {
        let text = "has the scheme `http`: should be https, unless CREATIVITY_LLM_PRIVATE_ADDRESSES is true";
        reader.reject("CREATIVITY_LLM_URL", text);
    }
    validate_settlement(&config.portfolios.settlement, reader);
    let loopback = config.host.to_canonical().is_loopback();
    if config.environment == AppEnvironment::Dev && !loopback && !config.allow_remote_dev {
        let why = "is reachable from other machines, and with APP_ENV=dev any key is accepted";
        let way_out = "use 127.0.0.1 or APP_ENV=production, or confirm it with APP_ALLOW_REMOTE_DEV=true";
        reader.reject("APP_HOST", format!("`{}` {why}: {way_out}", config.host));
    }
    let signing = [
        ("RECEIPT_SIGNING_KEY_HEX", &config.receipt_signing_key),
        ("AUDIT_SIGNING_KEY_HEX", &config.audit.signing_key),
        ("AUDIT_PREVIOUS_SIGNING_KEY_HEX", &config.audit.previous_signing_key),
    ];
    for (name, key) in signing {
        if key.as_ref().is_some_and(|key| !is_valid_signing_key(key.expose_secret())) {
            let good = "32 random bytes as 64 hex digits (openssl rand -hex 32), or unset: a key is then created";
            reader.reject(name, format!("should be {good}"));
        }
    }
    if let Some(secret) = config.jwt_secret.as_ref().map(|secret| secret.expose_secret()) {
        // Who guesses it is any caller, admins included; no environment is exempt.
        if is_placeholder(secret) {
            reader.reject("JWT_SECRET", "is a placeholder: set the coordinator's secret, or leave it unset");
        } else if secret.len() < MIN_TOKEN_SECRET_BYTES {
            reader.reject("JWT_SECRET", format!("is shorter than {MIN_TOKEN_SECRET_BYTES} characters"));
        }
    }
    validate_api_keys(config, reader);
}

fn is_valid_signing_key(text: &str) -> bool {
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(text, &mut bytes).is_ok() && bytes.iter().any(|byte| *byte != bytes[0])
}

/// Keys are named by their place in the list and never shown.
fn validate_api_keys(config: &Config, reader: &mut SettingReader) {
    let lists = [
        ("ADMIN_API_KEYS", &config.admin_keys),
        ("CLIENT_API_KEYS", &config.client_keys),
        ("MINER_API_KEYS", &config.miner_keys),
    ];
    let mut roles: HashMap<&str, &str> = HashMap::new();
    for (name, keys) in lists {
        // A list that could not be read has its fault already.
        if keys.is_empty() && config.environment == AppEnvironment::Production && !reader.has_rejected(name) {
            reader.reject(name, "is empty; with APP_ENV=production it needs at least one key (openssl rand -hex 24)");
        }
        for (place, key) in keys.iter().enumerate() {
            let key = key.expose_secret();
            if config.services.client_ids.values().any(|id| id == key) {
                reader.reject(
                    "COORDINATOR_CLIENT_ID",
                    format!("holds key {} of {name}: no row may hold a key", place + 1),
                );
            }
            if let Some(message) = api_key_fault(key, config.environment) {
                reader.reject(name, format!("key {} {message}", place + 1));
            }
            let before = *roles.entry(key).or_insert(name);
            if before != name {
                reader.reject(name, format!("key {} is in {before} too: a key has one role", place + 1));
            }
        }
    }
}

fn api_key_fault(key: &str, environment: AppEnvironment) -> Option<&'static str> {
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("has spaces or non-ASCII characters, which are not allowed in a header");
    }
    if environment == AppEnvironment::Dev {
        return None;
    }
    if is_placeholder(key) {
        return Some("is a placeholder: replace it by a real key (openssl rand -hex 24)");
    }
    if has_principal_form(key) {
        return Some("looks like the identity derived from a key (key_...), not like a key");
    }
    (key.len() < 16).then_some("is shorter than 16 characters")
}

fn is_placeholder(secret: &str) -> bool {
    let lower = secret.to_lowercase();
    let starts = ["$", "<", "your_", "your-", "changeme", "change_me", "change-me", "change-this"];
    starts.iter().any(|start| lower.starts_with(start))
}

/// The form of the identity that stands for a key or a token in rows and answers: `key_` or `jwt_` and 20 hex digits.
pub(super) fn has_principal_form(key: &str) -> bool {
    let rest = key.strip_prefix("key_").or_else(|| key.strip_prefix("jwt_"));
    rest.is_some_and(|rest| rest.len() == 20 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

pub(super) fn parse_constraint_rule(text: &str) -> Option<ConstraintRule> {
    match text {
        "matching" => Some(ConstraintRule::Matching),
        "strict" => Some(ConstraintRule::Strict),
        _ => None,
    }
}

pub(super) fn parse_environment(text: &str) -> Option<AppEnvironment> {
    match text {
        "dev" => Some(AppEnvironment::Dev),
        "production" => Some(AppEnvironment::Production),
        _ => None,
    }
}

pub(super) fn parse_job_clock(text: &str) -> Option<JobClockSetting> {
    match text {
        "auto" => Some(JobClockSetting::Auto),
        "local" => Some(JobClockSetting::Local),
        "utc" => Some(JobClockSetting::Utc),
        _ => None,
    }
}

pub(super) fn parse_log_format(text: &str) -> Option<LogFormat> {
    match text {
        "json" => Some(LogFormat::Json),
        "text" => Some(LogFormat::Text),
        _ => None,
    }
}

pub(super) fn origin(text: &str) -> Option<String> {
    is_valid_note_name(text).then(|| text.to_owned())
}

pub(super) fn parse_host(text: &str) -> Option<IpAddr> {
    if text == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { text.parse().ok() }
}

/// A tracing filter. A lone word that is no level would be taken for a target and silence everything else, so it is refused.
pub(super) fn parse_log_filter(text: &str) -> Option<String> {
    const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |part: &str| LOG_LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
    let good = text.split(',').map(str::trim).all(|part| part.contains(['=', '[']) || is_level(part));
    (good && EnvFilter::builder().parse(text).is_ok()).then(|| text.to_owned())
}

/// `DATA_DIR`, or where the database's file is, or the default.
pub(super) fn data_dir(from: &mut SettingReader, key: &str, default: PathBuf) -> PathBuf {
    let database = || Some(sqlite_file(&from.plain_text("DATABASE_URL")?).ok()?.parent()?.to_owned());
    // The parent of `x.db` is the empty path.
    let beside = database().map(|parent| if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent });
    from.text(key).map(PathBuf::from).or(beside).unwrap_or(default)
}

/// The file of `DATABASE_URL`, or the default one in the data directory.
pub(super) fn parse_database_url(from: &mut SettingReader, key: &str, default: PathBuf) -> PathBuf {
    match from.text(key).map(|url| sqlite_file(&url)) {
        Some(Ok(file)) => return file,
        Some(Err(message)) => from.reject(key, message),
        None => {}
    }
    let name = default.file_name().map(PathBuf::from).unwrap_or_default();
    from.plain_text("DATA_DIR").map_or(default, |directory| PathBuf::from(directory).join(name))
}

/// The file that a SQLAlchemy URL of SQLite names: three slashes for a relative path, four for an absolute one.
fn sqlite_file(url: &str) -> Result<PathBuf, String> {
    const EXPECTED: &str = "should be sqlite:///relative/path.db or sqlite:////absolute/path.db";
    let Some((scheme, rest)) = url.split_once("://") else { return Err(EXPECTED.to_owned()) };
    if !matches!(scheme, "sqlite" | "sqlite+aiosqlite" | "sqlite+pysqlite") {
        // Another database's URL may hold a password, so no more than the scheme is shown.
        return Err(format!("the scheme `{scheme}` is not supported, only SQLite is: {EXPECTED}"));
    }
    // The query is for Python's driver.
    let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
    if matches!(rest, "" | "/" | "/:memory:") {
        let why = "a database in memory is lost when the service stops, and the coordinator can't share it";
        return Err(format!("`{url}` is invalid: {why}; {EXPECTED}"));
    }
    let path = match rest.strip_prefix('/') {
        Some(path) if path.starts_with("file:") => Err("SQLite's own file: addresses are not taken"),
        Some(path) if path.ends_with('/') || Path::new(path).file_name().is_none() => Err("it names a directory"),
        Some(path) => Ok(PathBuf::from(path)),
        None => Err("it has a host, which SQLite does not"),
    };
    path.map_err(|why| format!("`{url}` is invalid: {why}; {EXPECTED}"))
}

/// `*` alone, or scheme and host of each page that may call.
pub(super) fn read_cors_origins(reader: &mut SettingReader, key: &str, _: Vec<String>) -> Vec<String> {
    let origins = reader.list(key);
    for origin in &origins {
        let any = origin == "*" && origins.len() == 1;
        let one = Url::parse(origin)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == *origin);
        if !any && !one {
            let good = "an origin as browsers send it (https://app.example, no path), or * alone";
            reader.reject(key, format!("`{origin}` is invalid: should be {good}"));
        }
    }
    origins
}
