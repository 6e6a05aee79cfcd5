//! Payment status of messages. Payments are collected elsewhere and recorded here.

mod store;

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    error::{CommunicationError, Result},
    model::PaymentStatus,
};
use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{ambient::Clock, validation::Violations};
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

/// Result of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = RecordedPayments)]
pub struct RecordedPayment {
    /// Recorded payment status.
    pub payment_status: PaymentStatus,
    /// Number of messages whose status changed.
    pub changed: usize,
    /// Number of messages that had the status already.
    pub unchanged: usize,
    /// Sum of the prices of the changed messages in the marketplace's currency, with up to 8 decimal places.
    pub amount: f64,
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
    pub async fn record(
        &self,
        by: &Principal,
        agent: &str,
        (ids, status, reference): (Vec<String>, PaymentStatus, Option<String>),
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<RecordedPayment>> {
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
        let (agent, audit) = (agent.to_owned(), self.audit.clone());
        let work = async move |tx: &mut Tx| {
            let found = store::sent_payments(tx.conn().await?, &agent, &ids).await?;
            let unknown: Vec<&String> = ids.iter().filter(|id| found.iter().all(|(known, ..)| known != *id)).collect();
            if !unknown.is_empty() {
                return Err(CommunicationError::invalid("message_ids", format!("not sent by the agent: {unknown:?}")));
            }
            let changed: Vec<&str> =
                found.iter().filter(|(_, before, _)| *before != status).map(|(id, ..)| id.as_str()).collect();
            let amount = found.iter().filter(|(_, before, _)| *before != status).map(|(.., price)| price).sum();
            store::set_payment_status(tx, &changed, status).await?;
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
