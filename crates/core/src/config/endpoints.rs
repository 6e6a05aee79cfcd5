//! Addresses that the service calls, by name: `HTTP_ENDPOINTS` for steps, `WEBHOOKS` for events.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Url;
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    EndpointKind, HttpEndpoint, HttpMethod, WebhookEndpoint,
    messages::is_valid_key_name,
    setting_reader::{MAX_PRICE, SettingReader},
};
use crate::money::Money;

/// What a secret of a webhook begins with.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret, as Standard Webhooks has them.
const SECRET_LEN_RANGE: std::ops::RangeInclusive<usize> = 24..=64;
/// Seconds that one call of a webhook or a witness may take.
pub(super) const TIMEOUT_SECONDS: std::ops::RangeInclusive<f64> = 0.1..=60.0;

type Endpoints<T> = BTreeMap<String, T>;

pub(super) fn http_endpoints(
    from: &mut SettingReader,
    key: &str,
    _: Endpoints<HttpEndpoint>,
) -> Endpoints<HttpEndpoint> {
    let expected = r#"{"NAME": {"url": "https://...", "kind": "openai" or "json"}} (in .env within single quotes)"#;
    read_named_table(from, key, expected, http_endpoint)
}

pub(super) fn read_webhook_config(
    from: &mut SettingReader,
    key: &str,
    _: Endpoints<WebhookEndpoint>,
) -> Endpoints<WebhookEndpoint> {
    let expected = r#"{"NAME": {"url": "https://...", "secret": "whsec_..."}} (in .env within single quotes)"#;
    read_named_table(from, key, expected, webhook)
}

/// Values by their names: JSON text of the environment, or tables of the file.
fn read_named_table<Raw: DeserializeOwned, T>(
    from: &mut SettingReader,
    key: &str,
    expected: &str,
    read: impl Fn(Raw, &SettingReader) -> Result<T, String>,
) -> Endpoints<T> {
    let table = match from.value(key) {
        None => return BTreeMap::new(),
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        Some(value) => Some(value.clone()),
    };
    let Some(Value::Object(table)) = table else {
        from.reject(key, format!("should be a JSON object: {expected}"));
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for (name, value) in table {
        let value = if !is_valid_key_name(&name) {
            Err("a name is 1 to 64 letters, digits, `_`, `-` and `.`".to_owned())
        } else if !value.is_object() {
            Err(format!("should be an object, as in {expected}"))
        } else {
            let raw = serde_path_to_error::deserialize(value).map_err(|error| error.to_string());
            raw.and_then(|raw| read(raw, from))
        };
        match value {
            Ok(value) => drop(found.insert(name, value)),
            Err(message) => from.reject([key, &name], message),
        }
    }
    found
}

// Secrets are read as any value, since serde's messages show what they refuse.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttpEndpoint {
    url: String,
    kind: EndpointKind,
    bearer: Option<Value>,
    bearer_env: Option<String>,
    #[serde(default)]
    price: f64,
    methods: Option<BTreeSet<HttpMethod>>,
    #[serde(default)]
    headers: Vec<String>,
}

/// Headers that the service or the connection sets, so that no step may.
const OWN_HEADERS: [&str; 15] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "idempotency-key",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn allowed_headers(names: Vec<String>, has_bearer: bool) -> Result<BTreeSet<String>, String> {
    let mut allowed = BTreeSet::new();
    for name in names {
        let lower = name.to_ascii_lowercase();
        if reqwest::header::HeaderName::from_bytes(lower.as_bytes()).is_err() {
            return Err(format!("headers: {name:?} is no name of a header"));
        }
        if OWN_HEADERS.contains(&lower.as_str()) || (has_bearer && lower == "authorization") {
            return Err(format!("headers: {lower} is set by the service, so no step may set it"));
        }
        allowed.insert(lower);
    }
    Ok(allowed)
}

fn http_endpoint(raw: RawHttpEndpoint, from: &SettingReader) -> Result<HttpEndpoint, String> {
    parse_webhook_url(&raw.url)?;
    if !(0.0..=MAX_PRICE).contains(&raw.price) {
        return Err(format!("price should be a number from 0 to {MAX_PRICE}"));
    }
    let bearer = match (raw.bearer, raw.bearer_env) {
        (None, None) => None,
        (Some(_), Some(_)) => return Err("has both bearer and bearer_env: one is enough".to_owned()),
        (Some(token), None) => Some(token.as_str().ok_or("bearer should be a string")?.to_owned()),
        (None, Some(name)) => Some(variable(from, "bearer_env", &name)?),
    };
    if bearer.as_ref().is_some_and(|token| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err("its bearer token is empty or has characters that are not allowed in a header".to_owned());
    }
    if raw.methods.as_ref().is_some_and(BTreeSet::is_empty) {
        return Err("methods should be a list of GET, POST, PUT, PATCH, DELETE; leave it out to allow all".to_owned());
    }
    let headers = allowed_headers(raw.headers, bearer.is_some())?;
    Ok(HttpEndpoint {
        methods: raw.methods,
        headers,
        url: raw.url,
        kind: raw.kind,
        bearer: bearer.map(SecretString::from),
        price: Money::from_f64(raw.price),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    url: String,
    secret: Option<Value>,
    secret_env: Option<String>,
    events: Option<Value>,
    #[serde(default)]
    allow_private: bool,
    timeout_seconds: Option<f64>,
}

fn webhook(raw: RawWebhook, from: &SettingReader) -> Result<WebhookEndpoint, String> {
    let url = parse_webhook_url(&raw.url)?;
    if url.scheme() == "http" && !raw.allow_private {
        return Err("url has the scheme `http`: should be https, unless allow_private is true".to_owned());
    }
    let timeout = raw.timeout_seconds.unwrap_or(15.0);
    if !TIMEOUT_SECONDS.contains(&timeout) {
        return Err("timeout_seconds should be a number from 0.1 to 60".to_owned());
    }
    let secrets = match (raw.secret, raw.secret_env) {
        (Some(_), Some(_)) => return Err("has both secret and secret_env: one is enough".to_owned()),
        (None, None) => return Err("secret is missing (or secret_env)".to_owned()),
        (Some(Value::String(text)), None) => vec![text],
        (Some(value), None) => {
            serde_json::from_value(value).map_err(|_| "secret should be a string or a list of strings".to_owned())?
        }
        (None, Some(name)) => variable(from, "secret_env", &name)?.split_whitespace().map(str::to_owned).collect(),
    };
    if secrets.is_empty() || !secrets.iter().all(|text: &String| is_valid_signing_secret(text)) {
        let expected = "whsec_ and 24 to 64 random bytes in base64 (echo \"whsec_$(openssl rand -base64 32)\")";
        return Err(format!("a secret should be {expected}"));
    }
    Ok(WebhookEndpoint {
        url,
        secrets: secrets.into_iter().map(SecretString::from).collect(),
        events: event_kinds(raw.events)?,
        allow_private: raw.allow_private,
        timeout: Duration::from_secs_f64(timeout),
    })
}

/// Read the address of a webhook that is made over the API: https, or http where private addresses are allowed.
///
/// # Errors
/// What is wrong with it, for its author.
pub fn check_hook_url(text: &str, allow_private: bool) -> Result<Url, String> {
    let url = parse_webhook_url(text)?;
    if url.scheme() == "http" && !allow_private {
        return Err("url has the scheme `http`: should be https".to_owned());
    }
    Ok(url)
}

pub(super) fn parse_webhook_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("url is invalid: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("url holds a user or password: give a token as bearer or bearer_env".to_owned());
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("url has the scheme `{}`: should be http or https", url.scheme()));
    }
    Ok(url)
}

/// The variable that `member` names.
fn variable(from: &SettingReader, member: &str, name: &str) -> Result<String, String> {
    let value = from.variables.get(name).cloned();
    value.ok_or_else(|| format!("{member}: the environment has no variable `{name}`"))
}

fn is_valid_signing_secret(text: &str) -> bool {
    let bytes = text.strip_prefix(SECRET_PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
    bytes.is_some_and(|bytes| SECRET_LEN_RANGE.contains(&bytes.len()))
}

/// None: all of them.
fn event_kinds(sent: Option<Value>) -> Result<Option<Vec<String>>, String> {
    const EXPECTED: &str = "events should be a list of kinds of events, or [\"*\"] for all";
    let kinds: Vec<String> = match sent {
        None => return Ok(None),
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or(EXPECTED)?
        }
        Some(_) => return Err(EXPECTED.to_owned()),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    if kinds.iter().any(|kind| kind == "*") {
        return Ok(None);
    }
    if kinds.is_empty() || !kinds.iter().all(|kind| !kind.is_empty() && kind.bytes().all(plain)) {
        return Err(EXPECTED.to_owned());
    }
    Ok(Some(kinds))
}
