//! Documents of the API as snapshots hold them: what differs from run to run stands by its kind.

use std::collections::HashMap;

use serde_json::Value;

/// Members that hold what was measured.
const MEASURED: [&str; 4] = ["execution_time", "total_execution_time", "compute_seconds", "memory_usage"];

/// The document with `[agent 1]` for an id, `[time]` for a moment, `[sha256]` for a hash, `[signature]` for a signature
/// and `[measured]` for a measured number. An id is the same words wherever it stands.
pub fn redacted(document: &Value) -> Value {
    Redactor::default().value(document)
}

#[derive(Default)]
struct Redactor {
    /// The words of each id seen.
    ids: HashMap<String, String>,
    /// The ids of each kind.
    counts: HashMap<String, usize>,
}

impl Redactor {
    fn value(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| {
                    let measured = value.is_number() && MEASURED.contains(&name.as_str());
                    (self.text(name), if measured { "[measured]".into() } else { self.value(value) })
                })
                .collect(),
            other => other.clone(),
        }
    }

    fn text(&mut self, text: &str) -> String {
        if is_moment(text) {
            return "[time]".to_owned();
        }
        if text.len() == 64 && is_hex(text) {
            return "[sha256]".to_owned();
        }
        if text.len() == 86 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return "[signature]".to_owned();
        }
        let Some(kind) = id_kind(text) else { return text.to_owned() };
        if let Some(words) = self.ids.get(text) {
            return words.clone();
        }
        let count = self.counts.entry(kind.to_owned()).or_default();
        *count += 1;
        let words = format!("[{kind} {count}]");
        self.ids.insert(text.to_owned(), words.clone());
        words
    }
}

/// `2026-05-12T14:29:30.123456Z`
fn is_moment(text: &str) -> bool {
    text.len() == 27 && text.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(text).is_ok()
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The kind of an id, `exec` of `exec_0123456789`. A principal is derived from its key, and stays.
fn id_kind(text: &str) -> Option<&str> {
    if text.len() == 32 && is_hex(text) {
        return Some("id");
    }
    // Words, and behind them digits, perhaps in several parts.
    let digits = text.rsplit('_').take_while(|part| is_hex(part)).map(|part| part.len() + 1).sum::<usize>();
    let kind = text.get(..text.len().checked_sub(digits)?)?;
    let is_kind = kind != "key" && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    (is_kind && !kind.is_empty() && digits > 8).then_some(kind)
}

#[test]
fn redaction_keeps_what_is_the_same_in_every_run() {
    let document = serde_json::json!({
        "id": "exec_0123456789", "step": "step_exec_0123456789", "again": ["exec_0123456789", "exec_abcdef0123"], "owner": "key_8211bbf633a893df9505",
        "at": "2026-05-12T14:29:30.123456Z", "hash": "0".repeat(64), "execution_time": 0.25, "total_cost": 0.01,
        "status": "access_denied", "job": "a".repeat(32),
    });
    let expected = serde_json::json!({
        "id": "[exec 1]", "step": "[step_exec 1]", "again": ["[exec 1]", "[exec 2]"], "owner": "key_8211bbf633a893df9505",
        "at": "[time]", "hash": "[sha256]", "execution_time": "[measured]", "total_cost": 0.01,
        "status": "access_denied", "job": "[id 1]",
    });
    assert_eq!(redacted(&document), expected);
}
