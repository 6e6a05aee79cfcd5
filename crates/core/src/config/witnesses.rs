//! Witnesses of the audit log: `AUDIT_WITNESSES`.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::{
    endpoints::{TIMEOUT_SECONDS, parse_webhook_url},
    setting_reader::SettingReader,
};
use crate::crypto::{NoteKey, NoteKeyKind};

/// A witness that cosigns the heads of the audit log (<https://c2sp.org/tlog-witness>).
#[derive(Clone, Debug)]
pub struct WitnessEndpoint {
    /// Where heads are submitted: the witness's submission prefix and `add-checkpoint`.
    pub url: Url,
    /// Name and key that its cosignatures are verified with.
    pub key: NoteKey,
    /// Whether the URL may name a host outside the public Internet, default false.
    pub allow_private: bool,
    /// Time limit of one call, default 10 s.
    pub timeout: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWitness {
    url: String,
    key: String,
    #[serde(default)]
    allow_private: bool,
    timeout_seconds: Option<f64>,
}

const EXPECTED: &str =
    r#"[{"url": "https://witness.example/", "key": "NAME+HASH+BASE64"}] (in .env within single quotes)"#;

/// Witnesses: JSON text of the environment, or an array of tables of the file.
pub(super) fn audit_witnesses(from: &mut SettingReader, key: &str, _: Vec<WitnessEndpoint>) -> Vec<WitnessEndpoint> {
    let list = match from.value(key) {
        None => return Vec::new(),
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        Some(value) => Some(value.clone()),
    };
    let Some(Value::Array(list)) = list else {
        from.reject(key, format!("should be a JSON list: {EXPECTED}"));
        return Vec::new();
    };
    let mut found: Vec<WitnessEndpoint> = Vec::new();
    for (place, value) in (1..).zip(list) {
        let witness = if value.is_object() {
            serde_path_to_error::deserialize(value).map_err(|error| error.to_string()).and_then(witness)
        } else {
            Err(format!("should be an object, as in {EXPECTED}"))
        };
        let known = |witness: &WitnessEndpoint| found.iter().any(|other| other.key == witness.key);
        match witness {
            Ok(witness) if known(&witness) => from.reject(key, format!("witness {place} has the key of another")),
            Ok(witness) => found.push(witness),
            Err(message) => from.reject(key, format!("witness {place}: {message}")),
        }
    }
    found
}

fn witness(raw: RawWitness) -> Result<WitnessEndpoint, String> {
    let mut url = parse_webhook_url(&raw.url)?;
    if url.scheme() == "http" && !raw.allow_private {
        return Err("url has the scheme `http`: should be https, unless allow_private is true".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("url has a query or a fragment: should be the prefix that add-checkpoint follows".to_owned());
    }
    let path = format!("{}/add-checkpoint", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let key = NoteKey::parse(&raw.key, NoteKeyKind::Cosignature).map_err(
        |_| "key should be the witness's verifier key for Ed25519 cosignatures, NAME+HASH+BASE64 (algorithm byte 4)",
    )?;
    let timeout = raw.timeout_seconds.unwrap_or(10.0);
    if !TIMEOUT_SECONDS.contains(&timeout) {
        return Err("timeout_seconds should be a number from 0.1 to 60".to_owned());
    }
    Ok(WitnessEndpoint { url, key, allow_private: raw.allow_private, timeout: Duration::from_secs_f64(timeout) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        config::{Config, ConfigSources},
        crypto::Signer,
    };

    fn key(name: &str, kind: NoteKeyKind) -> String {
        let signer = Signer::from_hex(&"17".repeat(32)).unwrap();
        NoteKey::new(name, kind, signer.public_key().clone()).to_string()
    }

    fn load(text: &str) -> Result<Vec<WitnessEndpoint>, String> {
        let sources = ConfigSources::from_variables([("AUDIT_WITNESSES", text)]);
        Config::load(sources).map(|config| config.audit.witnesses).map_err(|error| error.to_string())
    }

    #[test]
    fn witnesses_are_prefixes_with_keys() {
        let key = key("witness.example/w1", NoteKeyKind::Cosignature);
        for (prefix, called) in [
            ("https://witness.example", "https://witness.example/add-checkpoint"),
            ("https://witness.example/log/", "https://witness.example/log/add-checkpoint"),
        ] {
            let found = load(&json!([{"url": prefix, "key": key}]).to_string()).unwrap();
            assert_eq!((found.len(), found[0].url.as_str(), found[0].key.name()), (1, called, "witness.example/w1"));
            assert_eq!((found[0].timeout, found[0].allow_private), (Duration::from_secs(10), false));
        }
        assert!(load("[]").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_witness_is_said() {
        let own = key("w", NoteKeyKind::Cosignature);
        let good = json!({"url": "https://witness.example/", "key": own});
        for (member, value, why) in [
            ("url", json!("http://witness.example/"), "scheme `http`"),
            ("url", json!("ftp://witness.example/"), "ftp"),
            ("url", json!("https://u:hunter2@witness.example/"), "password"),
            ("url", json!("https://witness.example/?a=b"), "query"),
            ("url", json!("nonsense"), "url is invalid"),
            ("key", json!(key("w", NoteKeyKind::Note)), "algorithm byte 4"),
            ("key", json!(own.replace("w+", "v+")), "verifier key"),
            ("key", json!(1), "key"),
            ("timeout_seconds", json!(0), "timeout_seconds"),
            ("secret", json!("x"), "secret"),
        ] {
            let mut witness = good.clone();
            witness[member] = value;
            let message = load(&json!([witness]).to_string()).unwrap_err();
            assert!(message.contains("witness 1: ") && message.contains(why), "{member}: {message}");
            assert!(message.contains("AUDIT_WITNESSES") && !message.contains("hunter2"), "{message}");
        }
        assert!(load(&json!([good, good]).to_string()).unwrap_err().contains("witness 2 has the key of another"));
        for bad in ["{}", "nonsense", "[1]"] {
            assert!(load(bad).unwrap_err().contains("NAME+HASH+BASE64"), "{bad}");
        }
    }
}
