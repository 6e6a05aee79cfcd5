//! Topics and the subscriptions to them.

use serde_json::{Map, Value, json};

use super::{DeliveryService, model::TopicSubscription, store};
use crate::{
    error::{CommunicationError, Result},
    model::{validate_agent_name, validate_topic},
};
use am_audit::{AuditEntry, EventType};
use am_core::{boxed, ids::AgentId, validation::Violations};
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};

/// Maximum size of a filter in bytes of its JSON.
const MAX_FILTER_BYTES: usize = 4096;

/// Whether the content has all members of the filter with equal values. Content that its sender encrypted shows only
/// its envelope, so it usually passes an empty filter only.
pub fn passes_filter(filter: &Map<String, Value>, content: &Value) -> bool {
    filter.iter().all(|(name, value)| content.get(name) == Some(value))
}

/// Subscribers of a topic whose filters the content passes.
pub async fn matching_subscribers(conn: &mut Connection, topic: &str, content: &Value) -> Result<Vec<AgentId>> {
    let all = store::topic_subscribers(conn, topic).await?;
    Ok(all.into_iter().filter(|(_, filter)| passes_filter(filter, content)).map(|(agent, _)| agent).collect())
}

impl DeliveryService {
    /// Subscribe `agent` to a topic. Repeating it with another filter changes the filter.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Invalid`] for an invalid name, topic or filter.
    #[boxed]
    pub async fn subscribe(
        &self,
        by: &Principal,
        agent: &AgentId,
        topic: &str,
        filter: Map<String, Value>,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TopicSubscription>> {
        let mut violations = Violations::default();
        let names = violations.take(validate_agent_name("agent_id", agent)).zip(violations.take(validate_topic(topic)));
        let text = Value::Object(filter.clone()).to_string();
        let message = format!("has {} bytes as JSON, over {MAX_FILTER_BYTES}", text.len());
        violations.require(text.len() <= MAX_FILTER_BYTES, "filter", message);
        let (agent, topic) = violations.finish_with(names)?;
        let (now, by) = (Timestamp(self.0.clock.now()), by.clone());
        let audit = self.0.audit.clone();
        let work = async move |tx: &mut Tx| {
            if store::upsert_subscription(tx, &agent, &topic, &text, now).await? {
                let entry = audit_entry("subscribed", &by, &agent, &topic, now).data("filter", json!(filter));
                audit.append(tx, vec![entry]).await?;
            }
            let found = store::list_subscriptions(tx.conn().await?, &agent).await?;
            found.into_iter().find(|found| found.topic == topic).ok_or(CommunicationError::NotFound("Subscription"))
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Unsubscribe `agent` from a topic. Returns whether it was subscribed.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn unsubscribe(
        &self,
        by: &Principal,
        agent: &AgentId,
        topic: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<bool>> {
        let (agent, topic) = (validate_agent_name("agent_id", agent)?, validate_topic(topic)?);
        let (now, by) = (Timestamp(self.0.clock.now()), by.clone());
        let audit = self.0.audit.clone();
        let work = async move |tx: &mut Tx| {
            let removed = store::delete_subscription(tx, &agent, &topic).await?;
            if removed {
                audit.append(tx, vec![audit_entry("unsubscribed", &by, &agent, &topic, now)]).await?;
            }
            Ok(removed)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Subscriptions of an agent.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn subscriptions(&self, agent: &AgentId) -> Result<Vec<TopicSubscription>> {
        store::list_subscriptions(&mut *self.0.db.read().await?, agent).await
    }
}

fn audit_entry(action: &str, by: &Principal, agent: &AgentId, topic: &str, now: Timestamp) -> AuditEntry {
    let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("topic", action).by(by);
    entry.data("agent_id", json!(agent)).data("topic", json!(topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_asks_for_members_and_their_values() {
        let content = json!({"kind": "gpu", "price": 2, "at": {"zone": "eu"}});
        let passing = [json!({}), json!({"kind": "gpu"}), json!({"price": 2, "at": {"zone": "eu"}})];
        let failing = [json!({"kind": "cpu"}), json!({"price": 2.5}), json!({"none": null}), json!({"at": {}})];
        for filter in passing {
            assert!(passes_filter(filter.as_object().unwrap(), &content), "{filter}");
        }
        for filter in failing {
            assert!(!passes_filter(filter.as_object().unwrap(), &content), "{filter}");
        }
    }
}
