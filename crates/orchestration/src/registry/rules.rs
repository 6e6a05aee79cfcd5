//! What may stand in an agent's entry.

use reqwest::Url;

use super::model::Draft;
use crate::model::Fault;
use am_core::net;

/// Bytes of metadata, as JSON.
const MOST_METADATA: usize = 16 << 10;

/// Words that are places of the API below the registry.
const RESERVED: [&str; 2] = ["utilisation", "events"];

/// What is wrong with an agent's name.
pub fn agent_id(id: &str) -> Option<Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    if !(1..=128).contains(&id.len()) || !id.bytes().all(plain) || id.bytes().all(|byte| byte == b'.') {
        return Some(Fault::new(["agent_id"], "must be 1 to 128 letters, digits, `.`, `_`, `:` and `-`"));
    }
    RESERVED.contains(&id).then(|| Fault::new(["agent_id"], format!("{id:?} is a place of the API")))
}

/// What is wrong with the rest.
pub fn common(draft: &Draft, private_addresses: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut check = |good: bool, member: &str, message: &str| {
        if !good {
            faults.push(Fault::new([member], message));
        }
    };
    let kind = draft.agent_type.chars();
    check(
        (1..=50).contains(&kind.clone().count()) && !kind.clone().any(char::is_control),
        "agent_type",
        "must have 1 to 50 characters",
    );
    check(draft.description.chars().count() <= 2000, "description", "at most 2000 characters");
    check(!draft.task_types.is_empty(), "capabilities", "must name at least one type of task");
    check((1..=1000).contains(&draft.max_concurrent_tasks), "max_concurrent_tasks", "must be 1 to 1000");
    check(share(draft.performance), "performance", "must be 0 to 1");
    check(share(draft.reliability), "reliability", "must be 0 to 1");
    check((0.0..=1e9).contains(&draft.cost_per_hour), "cost_per_hour", "must be 0 to 1000000000");
    let metadata = draft.metadata.get().map_or("{}", |raw| raw.get());
    check(
        metadata.len() <= MOST_METADATA && metadata.trim_start().starts_with('{'),
        "metadata",
        "must be an object of at most 16384 bytes of JSON",
    );
    if let Some(Err(why)) = draft.endpoint_url.as_deref().map(|url| endpoint(url, private_addresses)) {
        faults.push(Fault::new(["endpoint_url"], why));
    }
    faults
}

/// Is it 0 to 1? NaN is not.
pub fn share(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

/// An address where an agent is called: on the Internet and encrypted, unless private ones are allowed.
///
/// # Errors
/// What is wrong with it.
pub fn endpoint(text: &str, private_addresses: bool) -> Result<Url, String> {
    if text.len() > 2000 {
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
        return Err("must hold no user and no password".into());
    }
    if !private_addresses {
        net::check_literal(&url).map_err(|error| error.to_string())?;
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
            assert_eq!((endpoint(text, false).is_ok(), endpoint(text, true).is_ok()), (public, private), "{text}");
        }
    }

    #[test]
    fn a_name_is_plain() {
        for good in ["a", "agent-1", "0xAB:cd.ef_g", &"x".repeat(128)] {
            assert_eq!(agent_id(good), None, "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "utilisation", "events", &"x".repeat(129)] {
            assert!(agent_id(bad).is_some(), "{bad}");
        }
    }
}
