//! Notification of agents without an endpoint: an encrypted message that is kept until the agent fetches it.

use std::{pin::Pin, time::Duration};

use serde_json::{Value, json};

use super::{AgentMessage, AgentNotifier};
use am_communication::{
    MessagePriority,
    messages::{MAX_TTL, MessageDestination, MessageDraft, MessageService},
    price::{MAX_CONTENT_BYTES, MessageType},
};
use am_db::{owner, principal::Principal};

/// Sender of the messages. It has no inbox.
const SENDER_ID: &str = "agent-management";
/// Maximum size of a message's members other than the request, in bytes.
const MAX_ENVELOPE_BYTES: usize = 4 << 10;

impl AgentNotifier for MessageService {
    fn send(&self, letter: AgentMessage) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async move {
            let by = Principal::named(owner::SYSTEM_PRINCIPAL);
            let draft = MessageDraft {
                message_id: Some(letter.message_id),
                sender: SENDER_ID.into(),
                to: MessageDestination::Agent(letter.recipient),
                content: fit_content(letter.content),
                kind: if letter.is_task { MessageType::TaskRequest } else { MessageType::Notification }.into(),
                priority: MessagePriority::High,
                encrypt: true,
                encryption: None,
                ttl: letter.keep.clamp(Duration::from_secs(1), MAX_TTL),
                reply_to: None,
                signature: None,
            };
            Self::send(self, &by, draft, None).await.map(drop).map_err(|error| error.to_string())
        })
    }
}

/// Leave out a request that is too large for a message; the agent can fetch it.
fn fit_content(mut content: Value) -> Value {
    let long = content
        .get("request")
        .is_some_and(|request| request.to_string().len() > MAX_CONTENT_BYTES - MAX_ENVELOPE_BYTES);
    if long {
        content["request"] = Value::Null;
        content["request_left_out"] = json!("the request is too long for a message: fetch the assignment");
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_too_long_for_a_message_is_left_out_of_it() {
        let short = json!({"type": "task_request", "request": {"x": 1}});
        assert_eq!(fit_content(short.clone()), short);
        let long = fit_content(json!({"type": "task_request", "request": {"x": "y".repeat(MAX_CONTENT_BYTES)}}));
        assert!(long["request"].is_null() && long["request_left_out"].is_string());
        assert!(long.to_string().len() < MAX_ENVELOPE_BYTES);
    }
}
