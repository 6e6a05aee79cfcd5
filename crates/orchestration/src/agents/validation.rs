//! Validation of what several requests say of an agent.

use std::ops::RangeInclusive;

use reqwest::Url;

use am_core::{
    ids::AgentId,
    public_address,
    validation::{Violation, has_length},
};

/// Bytes of an agent's id.
const ID_BYTES: RangeInclusive<usize> = 1..=128;
/// Characters of what an agent's owner calls its kind.
pub const AGENT_TYPE_LENGTH: RangeInclusive<usize> = 1..=50;
/// Ids that are words of the API's paths where an agent's id stands: below the registry, and where agents themselves are.
const RESERVED_NAMES: [&str; 19] = [
    "utilisation",
    "events",
    "creativity",
    "discover",
    "executions",
    "integration",
    "ledger",
    "messages",
    "networks",
    "performance",
    "plans",
    "portfolios",
    "receipts",
    "register",
    "registry",
    "security",
    "subscribe",
    "test",
    "workflows",
];

/// What is wrong with an agent's id.
pub fn check_agent_id(id: &AgentId) -> Option<Violation> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    if !ID_BYTES.contains(&id.len()) || !id.bytes().all(plain) || id.bytes().all(|byte| byte == b'.') {
        return Some(Violation::new("agent_id", "must be 1 to 128 letters, digits, `.`, `_`, `:` and `-`"));
    }
    RESERVED_NAMES.contains(&id.as_str()).then(|| Violation::new("agent_id", format!("{id:?} is reserved by the API")))
}

/// Return whether a value is from 0 to 1; NaN is not.
pub fn is_share(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

/// Characters of an agent's address.
const ENDPOINT_LENGTH: RangeInclusive<usize> = 0..=2000;

/// Parse the URL of an agent: https and a public address, unless private ones are allowed.
///
/// # Errors
/// The reason for refusing it.
pub fn parse_endpoint(text: &str, private_addresses: bool) -> Result<Url, String> {
    if !has_length(text, &ENDPOINT_LENGTH) {
        return Err("at most 2000 characters".into());
    }
    let url = Url::parse(text).map_err(|error| format!("is no address: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if private_addresses => {}
        "http" => return Err("must begin with https".into()),
        other => return Err(format!("has the scheme {other:?}; must be https")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password".into());
    }
    if !private_addresses {
        public_address::check_literal_host(&url).map_err(|error| error.to_string())?;
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_https_and_out_on_the_internet() {
        for (text, public, private) in [
            ("https://agents.example/work", true, true),
            ("http://agents.example/work", false, true),
            ("http://127.0.0.1:9/x", false, true),
            ("https://10.0.0.1/x", false, true),
            ("https://[::1]/x", false, true),
            ("https://user:secret@agents.example/", false, false),
            ("ftp://agents.example/", false, false),
            ("file:///etc/passwd", false, false),
            ("agents.example", false, false),
        ] {
            assert_eq!(
                (parse_endpoint(text, false).is_ok(), parse_endpoint(text, true).is_ok()),
                (public, private),
                "{text}"
            );
        }
    }

    #[test]
    fn a_name_is_plain() {
        for good in ["a", "agent-1", "0xAB:cd.ef_g", &"x".repeat(128)] {
            assert_eq!(check_agent_id(&good.into()), None, "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "utilisation", "events", "registry", &"x".repeat(129)] {
            assert!(check_agent_id(&bad.into()).is_some(), "{bad}");
        }
    }
}
