//! Payment status of messages. Payments are collected elsewhere and recorded here.

mod model;
mod store;

use serde_json::json;

pub use model::{NewPayment, RecordedPayment};

use self::model::MessagePayment;
use super::error::{CommunicationError, Result};
use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::Clock,
    boxed,
    ids::{AgentId, MessageId},
    validation::Violations,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};

/// Maximum number of messages per record.
pub const MAX_PAYMENT_MESSAGES: usize = 500;
/// Maximum length of a reference, in characters.
const MAX_REFERENCE_LEN: usize = 200;

/// The payment records of messages. Cheap to clone.
#[derive(Clone)]
pub struct PaymentRecords {
    db: Database,
    clock: Clock,
    audit: AuditLog,
}

impl PaymentRecords {
    /// Create the service on `db`.
    pub fn new(db: Database, clock: Clock, audit: AuditLog) -> Self {
        Self { db, clock, audit }
    }

    /// Record the payment status of messages that `agent` sent, all of them or none.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Invalid`], which names the messages that the agent did not send.
    #[boxed]
    pub async fn record(
        &self,
        by: &Principal,
        agent: &AgentId,
        new: NewPayment,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<RecordedPayment>> {
        let NewPayment { messages: ids, status, reference } = new;
        let mut violations = Violations::default();
        violations.require(
            (1..=MAX_PAYMENT_MESSAGES).contains(&ids.len()),
            "message_ids",
            format!("must be 1 to {MAX_PAYMENT_MESSAGES} messages"),
        );
        let characters = reference.as_ref().map_or(0, |text| text.chars().count());
        violations.require(
            characters <= MAX_REFERENCE_LEN,
            "reference",
            format!("has over {MAX_REFERENCE_LEN} characters"),
        );
        violations.finish()?;
        let entry = AuditEntry::new(EventType::WorkflowUpdated, Timestamp(self.clock.now()))
            .by(by)
            .of("payment", status.value());
        let entry = entry.data("agent_id", json!(agent)).data("message_ids", json!(ids));
        let entry = entry.data("reference", json!(reference));
        let (agent, audit) = (agent.clone(), self.audit.clone());
        let work = async move |tx: &mut Tx| {
            let found = store::sent_payments(tx.conn().await?, &agent, &ids).await?;
            let unknown: Vec<&MessageId> =
                ids.iter().filter(|id| found.iter().all(|known| known.message_id != **id)).collect();
            if !unknown.is_empty() {
                return Err(CommunicationError::invalid("message_ids", format!("not sent by the agent: {unknown:?}")));
            }
            let changed: Vec<&MessagePayment> =
                found.iter().filter(|message| message.payment_status != status).collect();
            let amount = changed.iter().map(|message| message.price).sum();
            let changed: Vec<&MessageId> = changed.into_iter().map(|message| &message.message_id).collect();
            store::set_payment_status(tx, &agent, &changed, status).await?;
            let recorded = RecordedPayment {
                payment_status: status,
                changed: changed.len(),
                unchanged: found.len() - changed.len(),
                amount,
            };
            audit.append(tx, vec![entry.change(None, Some(json!(recorded)))]).await?;
            Ok(recorded)
        };
        self.db.write_idempotent(&self.clock, once, work).await
    }
}
