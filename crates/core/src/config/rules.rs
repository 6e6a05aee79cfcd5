//! What makes a value good, beyond its type.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use tracing_subscriber::EnvFilter;

use super::{Config, EndpointKind, Environment, HttpEndpoint, read::Reader};

/// The dearest a step, a second or a call may be.
pub(super) const MAX_PRICE: f64 = 1e9;

/// What `log_filter` accepts.
pub(super) const LOG_FILTER: &str =
    "off, error, warn, info, debug or trace, and after it target=level, comma-separated";

/// The rules that look at more than one setting, and those that only production keeps.
pub(super) fn check(config: &Config, reader: &mut Reader) {
    let loopback = config.host.to_canonical().is_loopback();
    if config.environment == Environment::Dev && !loopback && !config.allow_remote_dev {
        let why = "is reachable from other machines, and with APP_ENV=dev any key is taken";
        let way_out = "use 127.0.0.1 or APP_ENV=production, or say it twice with APP_ALLOW_REMOTE_DEV=true";
        reader.fault("APP_HOST", format!("`{}` {why}: {way_out}", config.host));
    }
    let signing = [
        ("RECEIPT_SIGNING_KEY_HEX", &config.receipt_signing_key),
        ("AUDIT_SIGNING_KEY_HEX", &config.audit.signing_key),
    ];
    for (name, key) in signing {
        if key.as_ref().is_some_and(|key| !is_signing_key(key.expose_secret())) {
            let good = "32 random bytes as 64 hex digits (openssl rand -hex 32), or nothing: then a key is made";
            reader.fault(name, format!("should be {good}"));
        }
    }
    api_keys(config, reader);
}

/// Can a log have this name? A signed note's key name has no blank and no plus sign.
pub fn is_origin(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

fn is_signing_key(text: &str) -> bool {
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(text, &mut bytes).is_ok() && bytes.iter().any(|byte| *byte != bytes[0])
}

/// Keys are named by their place in the list and never shown.
fn api_keys(config: &Config, reader: &mut Reader) {
    let lists = [
        ("ADMIN_API_KEYS", &config.admin_keys),
        ("CLIENT_API_KEYS", &config.client_keys),
        ("MINER_API_KEYS", &config.miner_keys),
    ];
    let mut roles: HashMap<&str, &str> = HashMap::new();
    for (name, keys) in lists {
        // A list that could not be read has its fault already.
        if keys.is_empty()
            && config.environment == Environment::Production
            && reader.faults.iter().all(|f| f.key != name)
        {
            reader.fault(name, "is empty; with APP_ENV=production it needs at least one key (openssl rand -hex 24)");
        }
        for (place, key) in keys.iter().enumerate() {
            let key = key.expose_secret();
            if let Some(message) = bad_key(key, config.environment) {
                reader.fault(name, format!("key {} {message}", place + 1));
            }
            let before = *roles.entry(key).or_insert(name);
            if before != name {
                reader.fault(name, format!("key {} stands in {before} too: one key has one role", place + 1));
            }
        }
    }
}

fn bad_key(key: &str, environment: Environment) -> Option<&'static str> {
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("has spaces or non-ASCII characters, which no header can carry");
    }
    if environment == Environment::Dev {
        return None;
    }
    let lower = key.to_lowercase();
    if ["$", "<", "your_", "your-", "changeme", "change_me", "change-me"].iter().any(|start| lower.starts_with(start)) {
        return Some("is a placeholder: put a real key there (openssl rand -hex 24)");
    }
    if is_principal(key) {
        return Some("looks like the identity derived from a key (key_...), not like a key");
    }
    (key.len() < 16).then_some("is shorter than 16 characters")
}

/// The form of the identity that stands for a key in rows and answers: `key_` and 20 hex digits.
fn is_principal(key: &str) -> bool {
    key.strip_prefix("key_").is_some_and(|rest| rest.len() == 20 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

pub(super) fn host(text: &str) -> Option<IpAddr> {
    if text == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { text.parse().ok() }
}

/// A tracing filter. A lone word that is no level would be taken for a target and silence everything else, so it is refused.
pub(super) fn log_filter(text: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |part: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
    let good = text.split(',').map(str::trim).all(|part| part.contains(['=', '[']) || is_level(part));
    (good && EnvFilter::builder().parse(text).is_ok()).then(|| text.to_owned())
}

/// The file that a SQLAlchemy URL of SQLite names: three slashes for a relative path, four for an absolute one.
pub(super) fn database(url: &str) -> Result<PathBuf, String> {
    const GOOD: &str = "should be sqlite:///relative/path.db or sqlite:////absolute/path.db";
    let Some((scheme, rest)) = url.split_once("://") else { return Err(GOOD.to_owned()) };
    if !matches!(scheme, "sqlite" | "sqlite+aiosqlite" | "sqlite+pysqlite") {
        // Another database's URL may hold a password, so no more than the scheme is shown.
        return Err(format!("the scheme `{scheme}` is not supported, only SQLite is: {GOOD}"));
    }
    // The query is for Python's driver.
    let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
    if matches!(rest, "" | "/" | "/:memory:") {
        let why = "a database in memory is gone when the service stops and the coordinator can't share it";
        return Err(format!("`{url}` is not good: {why}; {GOOD}"));
    }
    let path = match rest.strip_prefix('/') {
        Some(path) if path.starts_with("file:") => Err("SQLite's own file: addresses are not taken"),
        Some(path) if path.ends_with('/') || Path::new(path).file_name().is_none() => Err("it names a directory"),
        Some(path) => Ok(PathBuf::from(path)),
        None => Err("it has a host, which SQLite does not"),
    };
    path.map_err(|why| format!("`{url}` is not good: {why}; {GOOD}"))
}

/// `*` alone, or scheme and host of each page that may call.
pub(super) fn origins(reader: &mut Reader) -> Vec<String> {
    let origins = reader.list("CORS_ORIGINS");
    for origin in &origins {
        let any = origin == "*" && origins.len() == 1;
        let one = Url::parse(origin)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == *origin);
        if !any && !one {
            let good = "an origin as browsers send it (https://app.example, no path), or * alone";
            reader.fault("CORS_ORIGINS", format!("`{origin}` is not good: should be {good}"));
        }
    }
    origins
}

/// The addresses that steps may call.
pub(super) fn endpoints(reader: &mut Reader) -> BTreeMap<String, HttpEndpoint> {
    let good = r#"{"NAME": {"url": "https://...", "kind": "openai" or "json"}} (in .env within single quotes)"#;
    named(reader, "HTTP_ENDPOINTS", good, endpoint)
}

/// Things by their names: JSON text from the environment, or tables of the file. `read` reads one; `good` says what is
/// taken.
pub(super) fn named<T>(
    reader: &mut Reader,
    key: &'static str,
    good: &str,
    read: impl Fn(&Value, &Reader) -> Result<T, String>,
) -> BTreeMap<String, T> {
    let table = match reader.value(key) {
        None => return BTreeMap::new(),
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        Some(value) => Some(value.clone()),
    };
    let Some(Value::Object(table)) = table else {
        reader.fault(key, format!("should be a JSON object: {good}"));
        return BTreeMap::new();
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let mut found = BTreeMap::new();
    for (name, value) in table {
        let read = if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            Err("a name is 1 to 64 letters, digits, `_`, `-` and `.`".to_owned())
        } else {
            read(&value, reader)
        };
        match read {
            Ok(one) => drop(found.insert(name, one)),
            Err(message) => reader.fault(&format!("{key}.{name}"), message),
        }
    }
    found
}

fn endpoint(value: &Value, reader: &Reader) -> Result<HttpEndpoint, String> {
    let Value::Object(fields) = value else { return Err("should be an object with url and kind".to_owned()) };
    if let Some(field) =
        fields.keys().find(|f| !matches!(f.as_str(), "url" | "kind" | "bearer" | "bearer_env" | "price"))
    {
        return Err(format!("unknown field `{field}`: there are url, kind, bearer, bearer_env and price"));
    }
    let kind = match fields.get("kind").and_then(Value::as_str) {
        Some("openai") => EndpointKind::OpenAi,
        Some("json") => EndpointKind::Json,
        _ => return Err("kind should be openai or json".to_owned()),
    };
    let price = match fields.get("price") {
        None => 0.0,
        Some(price) => price
            .as_f64()
            .filter(|price| (0.0..=MAX_PRICE).contains(price))
            .ok_or_else(|| format!("price should be a number from 0 to {MAX_PRICE}"))?,
    };
    Ok(HttpEndpoint { url: address(fields)?, kind, bearer: bearer(fields, reader)?, price })
}

pub(super) fn address(fields: &Map<String, Value>) -> Result<String, String> {
    let text = fields.get("url").and_then(Value::as_str).ok_or("url is missing")?;
    let url = Url::parse(text).map_err(|error| format!("url is not good: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("url holds a user or password: give a token as bearer or bearer_env".to_owned());
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("url has the scheme `{}`: should be http or https", url.scheme()));
    }
    Ok(text.to_owned())
}

fn bearer(fields: &Map<String, Value>, reader: &Reader) -> Result<Option<SecretString>, String> {
    let token = match (fields.get("bearer"), fields.get("bearer_env")) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err("has both bearer and bearer_env: one is enough".to_owned()),
        (Some(token), None) => token.as_str().ok_or("bearer should be a string")?,
        (None, Some(name)) => {
            let name = name.as_str().ok_or("bearer_env should be the name of an environment variable")?;
            reader.variable(name).ok_or_else(|| format!("bearer_env: the environment has no variable `{name}`"))?
        }
    };
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its bearer token is empty or has characters that no header can carry".to_owned());
    }
    Ok(Some(SecretString::from(token)))
}
