//! Statistics of an agent's communication: messages sent and received, response times, delivery rate and cost, computed
//! from a bounded number of its last messages.

mod response_times;
mod store;

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

pub use response_times::ResponseTimes;
use response_times::{ConversationEvent, measure_response_times};

use super::{
    error::Result,
    model::{MessageStatus, PaymentStatus},
    type_name::MessageTypeName,
};
use am_core::{
    boxed,
    ids::{AgentId, ChannelId, MessageId},
    money::Money,
};
use am_db::{Database, codec::Timestamp};

/// Number of the last messages that are counted, of those sent and of those received.
pub const STATISTICS_WINDOW: u32 = 10_000;

/// Statistics of an agent's communication.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = CommunicationStatistics)]
pub struct CommunicationStatistics {
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Messages that the agent sent.
    pub sent: SentStatistics,
    /// Messages that the agent received.
    pub received: ReceivedStatistics,
    /// Response times; null without answers and waiting messages.
    pub response_time: Option<ResponseTimes>,
    /// Numbers of sent and received messages by type.
    pub by_type: BTreeMap<String, TypeCounts>,
    /// Maximum number of messages counted per direction, the last ones.
    pub window: u32,
    /// Whether all messages of the agent were counted.
    pub complete: bool,
}

/// Messages that an agent sent.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct SentStatistics {
    /// Number of messages; each copy of a message to several recipients counts.
    pub messages: u64,
    /// Size of their content in bytes of JSON.
    pub bytes: i64,
    /// Numbers by status.
    pub by_status: BTreeMap<&'static str, u64>,
    /// Share of delivered messages among those that are no longer pending, from 0 to 1; null when all are pending.
    pub delivery_rate: Option<f64>,
    /// Sum of their prices in the marketplace's currency, with up to 8 decimal places; null without messages.
    pub cost: Option<Money>,
    /// Sums of their prices by payment status, in the marketplace's currency, with up to 8 decimal places.
    pub cost_by_payment: BTreeMap<&'static str, Money>,
    /// Time of the last message; null without messages.
    pub last_at: Option<Timestamp>,
}

/// Messages that an agent received.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ReceivedStatistics {
    /// Number of messages.
    pub messages: u64,
    /// Size of their content in bytes of JSON.
    pub bytes: i64,
    /// Numbers by status.
    pub by_status: BTreeMap<&'static str, u64>,
    /// Time of the last message; null without messages.
    pub last_at: Option<Timestamp>,
}

/// Numbers of messages of a type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct TypeCounts {
    /// Number of messages sent.
    pub sent: u64,
    /// Number of messages received.
    pub received: u64,
}

/// A message without its content.
struct MessageFacts {
    id: i64,
    message_id: MessageId,
    channel: ChannelId,
    /// The other agent.
    peer: AgentId,
    reply_to: Option<MessageId>,
    kind: MessageTypeName,
    status: MessageStatus,
    bytes: i64,
    price: Money,
    payment: PaymentStatus,
    at: Timestamp,
}

/// Compute the statistics of an agent.
///
/// # Errors
/// Returns a database error when a query fails.
#[boxed]
pub async fn communication_statistics(db: &Database, agent: &AgentId) -> Result<CommunicationStatistics> {
    let mut conn = db.read().await?;
    let (sent, received) = (store::read_sent(&mut conn, agent).await?, store::read_received(&mut conn, agent).await?);
    drop(conn);
    Ok(compute_statistics(agent, &sent, &received))
}

/// Compute the statistics; `sent` and `received` are the last messages, newest first.
fn compute_statistics(agent: &AgentId, sent: &[MessageFacts], received: &[MessageFacts]) -> CommunicationStatistics {
    let mut by_type: BTreeMap<String, TypeCounts> = BTreeMap::new();
    sent.iter().for_each(|row| by_type.entry(row.kind.value().to_owned()).or_default().sent += 1);
    received.iter().for_each(|row| by_type.entry(row.kind.value().to_owned()).or_default().received += 1);
    let full = |rows: &[MessageFacts]| rows.len() >= STATISTICS_WINDOW as usize;
    // If one direction goes back further than the other, an answer could lack the message that it answers.
    let from = [sent, received].into_iter().filter(|rows| full(rows)).filter_map(|rows| rows.last()).map(|row| row.id);
    let from = from.max().unwrap_or(0);
    let both = sent.iter().map(|row| (row, true)).chain(received.iter().map(|row| (row, false)));
    let events = both.filter(|(row, _)| row.id >= from).map(|(row, sent)| ConversationEvent::from_row(row, sent));
    CommunicationStatistics {
        agent_id: agent.clone(),
        response_time: measure_response_times(events.collect()),
        sent: sent_statistics(sent),
        received: ReceivedStatistics {
            messages: received.len() as u64,
            bytes: received.iter().map(|row| row.bytes).sum(),
            by_status: count_by_status(received),
            last_at: received.first().map(|row| row.at),
        },
        by_type,
        window: STATISTICS_WINDOW,
        complete: !full(sent) && !full(received),
    }
}

fn count_by_status(rows: &[MessageFacts]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    rows.iter().for_each(|row| *counts.entry(row.status.value()).or_default() += 1);
    counts
}

fn sent_statistics(rows: &[MessageFacts]) -> SentStatistics {
    let came = |row: &&MessageFacts| matches!(row.status, MessageStatus::Delivered | MessageStatus::Read);
    let ended = rows.iter().filter(|row| row.status != MessageStatus::Pending).count();
    let mut cost_by_payment: BTreeMap<&'static str, Money> = BTreeMap::new();
    rows.iter().for_each(|row| *cost_by_payment.entry(row.payment.value()).or_default() += row.price);
    SentStatistics {
        messages: rows.len() as u64,
        bytes: rows.iter().map(|row| row.bytes).sum(),
        by_status: count_by_status(rows),
        delivery_rate: (ended > 0).then(|| rows.iter().filter(came).count() as f64 / ended as f64),
        cost: (!rows.is_empty()).then(|| rows.iter().map(|row| row.price).sum()),
        cost_by_payment,
        last_at: rows.first().map(|row| row.at),
    }
}
