//! What is recorded of the prices of messages. Nothing is collected here: somebody else does, and says so.

mod store;

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    error::{Error, Result},
    model::PaymentStatus,
};
use am_audit::{Audit, Entry, EventType};
use am_core::ambient::Clock;
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    principal::Principal,
};

/// Messages that are recorded at once.
pub const MOST: usize = 500;
/// The longest reference, in characters.
const LONGEST: usize = 200;

/// What is recorded of messages' prices. Cheap to clone.
#[derive(Clone)]
pub struct Payments {
    db: Database,
    clock: Clock,
    audit: Audit,
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Recorded {
    /// As it stands now.
    pub payment_status: PaymentStatus,
    /// Messages that were recorded otherwise before.
    pub changed: usize,
    /// Those that stood so already.
    pub unchanged: usize,
    /// The price of those that were changed.
    pub amount: f64,
}

impl Payments {
    /// Those in `db`.
    pub fn new(db: Database, clock: Clock, audit: Audit) -> Self {
        Self { db, clock, audit }
    }

    /// Record what has become of the prices of messages that `agent` wrote. All of them or none.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the messages that are none of the agent's.
    pub async fn record(
        &self,
        by: &Principal,
        agent: &str,
        (ids, status, reference): (Vec<String>, PaymentStatus, Option<String>),
        once: Option<Once>,
    ) -> Result<Done<Recorded>> {
        if ids.is_empty() || ids.len() > MOST {
            return Err(Error::invalid("message_ids", format!("must be 1 to {MOST} messages")));
        }
        if reference.as_ref().is_some_and(|text| text.chars().count() > LONGEST) {
            return Err(Error::invalid("reference", format!("has over {LONGEST} characters")));
        }
        let entry =
            Entry::new(EventType::WorkflowUpdated, Timestamp(self.clock.now())).by(by).of("payment", status.value());
        let entry = entry.data("agent_id", json!(agent)).data("message_ids", json!(ids));
        let entry = entry.data("reference", json!(reference));
        let (agent, audit) = (agent.to_owned(), self.audit.clone());
        let work = async move |tx: &mut Tx| {
            let found = store::of(tx.conn().await?, &agent, &ids).await?;
            let unknown: Vec<&String> = ids.iter().filter(|id| found.iter().all(|(known, ..)| known != *id)).collect();
            if !unknown.is_empty() {
                return Err(Error::invalid("message_ids", format!("no messages of the agent: {unknown:?}")));
            }
            let changed: Vec<&str> =
                found.iter().filter(|(_, before, _)| *before != status).map(|(id, ..)| id.as_str()).collect();
            let amount = found.iter().filter(|(_, before, _)| *before != status).map(|(.., price)| price).sum();
            store::set(tx, &changed, status).await?;
            let recorded = Recorded {
                payment_status: status,
                changed: changed.len(),
                unchanged: found.len() - changed.len(),
                amount,
            };
            audit.append(tx, vec![entry.change(None, Some(json!(recorded)))]).await?;
            Ok(recorded)
        };
        self.db.write_once(&self.clock, once, work).await
    }
}
