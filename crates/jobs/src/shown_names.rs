//! Names that the coordinator stores with a job: it writes API keys of clients and miners, which are never shown.

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{model::JobRecord, outcome::JobOutcome};
use am_db::{codec::JsonText, owner::PrincipalName};

/// Members of a receipt that name a caller.
const RECEIPT_NAMES: [&str; 4] = ["provider", "client", "miner", "miner_id"];

/// Turns a name into the form that may be shown: a key into its principal, other names into themselves. Cheap to clone.
#[derive(Clone)]
pub struct ShownNames(Arc<dyn Fn(&str) -> String + Send + Sync>);

impl ShownNames {
    /// Create it from the function that knows the keys.
    pub fn new(shown: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(shown))
    }

    /// Replace the keys in a job that was read.
    pub(super) fn hide_in_record(&self, mut job: JobRecord) -> JobRecord {
        let receipt = job.receipt.parse::<Value>().ok().flatten().unwrap_or_default();
        let keys = self.keys([job.client_key(), job.miner.as_deref()], &receipt);
        if keys.is_empty() {
            return job;
        }
        job.miner = job.miner.map(|text| replace(&keys, text));
        job.error = job.error.map(|text| replace(&keys, text));
        for document in [&mut job.payload, &mut job.constraints, &mut job.result, &mut job.receipt] {
            hide_in_document(&keys, document);
        }
        job
    }

    /// Replace the keys in a job's end. `client` is the client as stored, or empty where that is no key.
    pub(super) fn hide_in_outcome(&self, client: &str, mut end: JobOutcome) -> JobOutcome {
        let keys = self.keys([Some(client), end.miner.as_deref()], &end.receipt);
        if keys.is_empty() {
            return end;
        }
        end.miner = end.miner.map(|text| replace(&keys, text));
        end.error = end.error.map(|text| replace(&keys, text));
        end.result = hide_in_value(&keys, end.result);
        end.receipt = hide_in_value(&keys, end.receipt);
        end
    }

    /// The keys among the names of a job, each with its principal. The longest stands first, since one may be part of
    /// another.
    fn keys(&self, [client, miner]: [Option<&str>; 2], receipt: &Value) -> Vec<(String, String)> {
        let client = client.map(|name| (name, PrincipalName::from_stored(name).as_str().to_owned()));
        let named = RECEIPT_NAMES.iter().filter_map(|member| receipt.get(*member)?.as_str());
        let others = miner.into_iter().chain(named).map(|name| (name, (self.0)(name)));
        let all = client.into_iter().chain(others).filter(|(name, shown)| !name.is_empty() && name != shown);
        let mut keys: Vec<(String, String)> = all.map(|(name, shown)| (name.to_owned(), shown)).collect();
        keys.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        keys.dedup();
        keys
    }
}

impl fmt::Debug for ShownNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShownNames")
    }
}

fn replace(keys: &[(String, String)], text: String) -> String {
    keys.iter().fold(text, |text, (key, shown)| if text.contains(key) { text.replace(key, shown) } else { text })
}

fn hide_in_value(keys: &[(String, String)], value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(replace(keys, text)),
        Value::Array(items) => items.into_iter().map(|item| hide_in_value(keys, item)).collect(),
        Value::Object(members) => {
            let hidden = |(name, member)| (replace(keys, name), hide_in_value(keys, member));
            Value::Object(members.into_iter().map(hidden).collect())
        }
        other => other,
    }
}

fn hide_in_document(keys: &[(String, String)], document: &mut JsonText) {
    if let Ok(Some(value)) = document.parse::<Value>() {
        *document = JsonText::from_value(&hide_in_value(keys, value)).unwrap_or_else(|_| JsonText::none());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::JobState;

    #[test]
    fn keys_are_replaced_wherever_a_job_names_them() {
        let names = ShownNames::new(|name| if name.starts_with("secret") { "key_m".into() } else { name.into() });
        let receipt = json!({"provider": "secret-1", "client": "a client's key", "price": 1, "note": ["by secret-1"]});
        let end = JobOutcome {
            state: JobState::Failed,
            result: json!({"secret-1": "a client's key"}),
            error: Some("secret-1 gave up".into()),
            price: None,
            receipt,
            miner: Some("secret-1".into()),
        };
        let client = PrincipalName::from_api_key("a client's key");
        let hidden = names.hide_in_outcome("a client's key", end.clone());
        assert_eq!((hidden.miner.as_deref(), hidden.error.as_deref()), (Some("key_m"), Some("key_m gave up")));
        assert_eq!(hidden.result, json!({"key_m": client}));
        assert_eq!(hidden.receipt, json!({"provider": "key_m", "client": client, "price": 1, "note": ["by key_m"]}));
        let named = JobOutcome { receipt: json!({"provider": "miner-1"}), miner: Some("miner-1".into()), ..end };
        assert_eq!(names.hide_in_outcome("system", named).miner.as_deref(), Some("miner-1"), "names stay");
    }
}
