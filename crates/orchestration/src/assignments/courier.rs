//! Notification of agents without an endpoint: an encrypted message that is kept until the agent fetches it.

use std::{pin::Pin, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{Courier, Letter};
use am_communication::{
    Priority,
    messages::{Draft, LONGEST_TTL, Messages, To},
    price::{MOST_BYTES, MessageType},
};
use am_db::{owner, principal::Principal};

/// Sender of the messages. It has no inbox.
const SENDER: &str = "agent-management";
/// Maximum size of a message's members other than the request, in bytes.
const AROUND: usize = 4 << 10;

impl Courier for Messages {
    fn send(&self, letter: Letter) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async move {
            let by =
                Principal { name: owner::SYSTEM.into(), aliases: Arc::new([owner::SYSTEM.to_owned()]), origin: None };
            let draft = Draft {
                message_id: Some(letter.message_id),
                sender: SENDER.to_owned(),
                to: To::Agent(letter.recipient),
                content: fitting(letter.content),
                kind: if letter.is_task { MessageType::TaskRequest } else { MessageType::Notification },
                priority: Priority::High,
                encrypt: true,
                encryption: None,
                ttl: letter.keep.clamp(Duration::from_secs(1), LONGEST_TTL),
                reply_to: None,
            };
            Self::send(self, &by, draft, None).await.map(drop).map_err(|error| error.to_string())
        })
    }
}

/// Leave out a request that is too large for a message; the agent can fetch it.
fn fitting(mut content: Value) -> Value {
    let long = content.get("request").is_some_and(|request| request.to_string().len() > MOST_BYTES - AROUND);
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
        assert_eq!(fitting(short.clone()), short);
        let long = fitting(json!({"type": "task_request", "request": {"x": "y".repeat(MOST_BYTES)}}));
        assert!(long["request"].is_null() && long["request_left_out"].is_string());
        assert!(long.to_string().len() < AROUND);
    }
}
