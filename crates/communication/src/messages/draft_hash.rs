//! Hash of a draft, which tells a repetition from another message under the same id. It is salted, so that equal
//! messages have different hashes.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::model::{MessageDestination, MessageDraft};

/// Hash of a draft by this salt.
pub fn hash_draft(draft: &MessageDraft, salt: &str) -> String {
    let (to, name) = match &draft.to {
        MessageDestination::Agent(agent) => ("agent", agent.as_str()),
        MessageDestination::Channel(channel) => ("channel", channel.as_str()),
        MessageDestination::Topic(topic) => ("topic", topic.as_str()),
        MessageDestination::AllAgents => ("all", ""),
    };
    let mut options = json!([
        to,
        name,
        draft.kind,
        draft.priority,
        draft.encrypt,
        draft.encryption,
        draft.ttl.as_secs(),
        draft.reply_to,
    ]);
    // A signature made again is the same message; one by another key, or none, is not.
    if let (Some(options), Some(signature)) = (options.as_array_mut(), &draft.signature) {
        options.push(json!({"signed_by": signature.key_id}));
    }
    let mut text = format!("agent-management draft v1 {salt} {options} ");
    write_sorted(&draft.content, &mut text);
    format!("{salt}:{}", hex::encode(Sha256::digest(text)))
}

/// Whether a stored hash is this draft's.
pub fn has_hash(draft: &MessageDraft, stored: &str) -> bool {
    stored.split_once(':').is_some_and(|(salt, _)| hash_draft(draft, salt) == stored)
}

/// Write JSON with sorted members.
fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (name, member) in sorted {
                let _ = write!(text, "{}:", Value::String(name.clone()));
                write_sorted(member, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write_sorted(item, text);
                text.push(',');
            }
            text.push(']');
        }
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{messages::model::tests::sample_draft, model::MessagePriority, price::MessageType};

    #[test]
    fn every_member_counts_and_the_order_of_names_does_not() {
        let draft = |text: &str| MessageDraft {
            message_id: Some("m".into()),
            content: serde_json::from_str(text).unwrap(),
            ..sample_draft()
        };
        let first = draft(r#"{"a": 1, "b": {"c": [1, 2], "d": null}}"#);
        let hash = hash_draft(&first, "salt");
        assert!(has_hash(&draft(r#"{"b": {"d": null, "c": [1, 2]}, "a": 1}"#), &hash));
        let others = [
            draft(r#"{"a": 1, "b": {"c": [2, 1], "d": null}}"#),
            draft(r#"{"a": 1}"#),
            MessageDraft { to: MessageDestination::Agent("c".into()), ..first.clone() },
            MessageDraft { to: MessageDestination::Topic("b".into()), ..first.clone() },
            MessageDraft { to: MessageDestination::AllAgents, ..first.clone() },
            MessageDraft { kind: MessageType::Urgent.into(), ..first.clone() },
            MessageDraft { priority: MessagePriority::High, ..first.clone() },
            MessageDraft { encrypt: false, ..first.clone() },
            MessageDraft { ttl: Duration::from_secs(301), ..first.clone() },
            MessageDraft { reply_to: Some("r".into()), ..first.clone() },
        ];
        assert!(others.iter().all(|other| !has_hash(other, &hash)));
        assert_ne!(hash, hash_draft(&first, "another"));
    }
}
