//! `WEBHOOKS`: whom the service calls when something happens.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Url;
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::{WebhookConfig, WebhookEndpoint, read::Reader, rules};

const KEY: &str = "WEBHOOKS";
const FIELDS: &[&str] = &["url", "secret", "secret_env", "events", "allow_private", "timeout_seconds"];
/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret, as Standard Webhooks has them.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

pub(super) fn webhooks(from: &mut Reader) -> WebhookConfig {
    let default = WebhookConfig::default();
    WebhookConfig {
        endpoints: endpoints(from),
        retry_scale: from.number("WEBHOOK_RETRY_SCALE", default.retry_scale, 0.0..=100.0),
        kept: Duration::from_secs(
            86_400 * from.number("WEBHOOK_KEEP_DAYS", default.kept.as_secs() / 86_400, 1..=36_500),
        ),
    }
}

fn endpoints(from: &mut Reader) -> BTreeMap<String, WebhookEndpoint> {
    let good = r#"{"NAME": {"url": "https://...", "secret": "whsec_..."}} (in .env within single quotes)"#;
    rules::named(from, KEY, good, endpoint)
}

fn endpoint(value: &Value, reader: &Reader) -> Result<WebhookEndpoint, String> {
    let Value::Object(fields) = value else { return Err("should be an object with url and secret".to_owned()) };
    if let Some(field) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        return Err(format!("unknown field `{field}`: there are {}", FIELDS.join(", ")));
    }
    let allow_private = match fields.get("allow_private") {
        None => false,
        Some(value) => value.as_bool().ok_or("allow_private should be true or false")?,
    };
    let timeout = match fields.get("timeout_seconds") {
        None => 15.0,
        Some(value) => value
            .as_f64()
            .filter(|seconds| (0.1..=60.0).contains(seconds))
            .ok_or("timeout_seconds should be a number from 0.1 to 60")?,
    };
    Ok(WebhookEndpoint {
        url: address(fields, allow_private)?,
        secrets: secrets(fields, reader)?,
        events: events(fields)?,
        allow_private,
        timeout: Duration::from_secs_f64(timeout),
    })
}

fn address(fields: &Map<String, Value>, allow_private: bool) -> Result<Url, String> {
    let url: Url = rules::address(fields)?.parse().map_err(|_| "url is not good")?;
    if url.scheme() == "http" && !allow_private {
        return Err("url has the scheme `http`: should be https, unless allow_private is true".to_owned());
    }
    Ok(url)
}

/// No message shows a secret.
fn secrets(fields: &Map<String, Value>, reader: &Reader) -> Result<Vec<SecretString>, String> {
    let texts: Vec<&str> = match (fields.get("secret"), fields.get("secret_env")) {
        (Some(_), Some(_)) => return Err("has both secret and secret_env: one is enough".to_owned()),
        (None, None) => return Err("secret is missing (or secret_env)".to_owned()),
        (Some(Value::String(text)), None) => vec![text.as_str()],
        (Some(Value::Array(items)), None) => items
            .iter()
            .map(Value::as_str)
            .collect::<Option<_>>()
            .ok_or("secret should be a string, or some of them")?,
        (Some(_), None) => return Err("secret should be a string, or some of them".to_owned()),
        (None, Some(name)) => {
            let name = name.as_str().ok_or("secret_env should be the name of an environment variable")?;
            let text =
                reader.variable(name).ok_or_else(|| format!("secret_env: the environment has no variable `{name}`"))?;
            text.split(' ').filter(|text| !text.is_empty()).collect()
        }
    };
    if texts.is_empty() || !texts.iter().all(|text| is_secret(text)) {
        let good = "whsec_ and 24 to 64 random bytes in base64 (echo \"whsec_$(openssl rand -base64 32)\")";
        return Err(format!("a secret should be {good}"));
    }
    Ok(texts.into_iter().map(SecretString::from).collect())
}

fn is_secret(text: &str) -> bool {
    let bytes = text.strip_prefix(PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
    bytes.is_some_and(|bytes| SECRET_BYTES.contains(&bytes.len()))
}

/// None: all of them.
fn events(fields: &Map<String, Value>) -> Result<Option<Vec<String>>, String> {
    const GOOD: &str = "events should be a list of kinds of events, or [\"*\"] for all";
    let kinds: Vec<String> = match fields.get("events") {
        None => return Ok(None),
        Some(Value::String(kind)) => vec![kind.clone()],
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or(GOOD)?
        }
        Some(_) => return Err(GOOD.to_owned()),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    if kinds.iter().any(|kind| kind == "*") {
        return Ok(None);
    }
    if kinds.is_empty() || !kinds.iter().all(|kind| !kind.is_empty() && kind.bytes().all(plain)) {
        return Err(GOOD.to_owned());
    }
    Ok(Some(kinds))
}
