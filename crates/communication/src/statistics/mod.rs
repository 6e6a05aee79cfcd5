//! How an agent communicates: what it wrote and got, how soon it answered, what of it came, what it cost. All of it is
//! counted from its last messages, a bounded number of them.

mod answers;
mod store;

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

pub use answers::ResponseTimes;
use answers::{Event, response_times};

use super::{
    error::Result,
    model::{MessageStatus, PaymentStatus},
    price::MessageType,
};
use am_db::{Database, codec::Timestamp};

/// The last messages that count, of those that were written and of those that came.
pub const WINDOW: u32 = 10_000;

/// How an agent communicates.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Statistics {
    /// Which agent.
    pub agent_id: String,
    /// What it wrote.
    pub sent: Sent,
    /// What it got.
    pub received: Received,
    /// How soon it answered.
    pub response_time: Option<ResponseTimes>,
    /// How many of what it wrote, and of what it got, are of each type.
    pub by_type: BTreeMap<&'static str, OfType>,
    /// What is counted: at most so many messages of each direction, the last ones.
    pub window: u32,
    /// True: these are all there are.
    pub complete: bool,
}

/// What an agent wrote.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Sent {
    /// Messages, each copy of one to several by itself.
    pub messages: u64,
    /// Of their content.
    pub bytes: i64,
    /// By what has become of them.
    pub by_status: BTreeMap<&'static str, u64>,
    /// Of those that have come or can't come any more, the part that came; none where there is none yet.
    pub delivery_rate: Option<f64>,
    /// What they cost.
    pub cost: f64,
    /// By what is recorded of that.
    pub cost_by_payment: BTreeMap<&'static str, f64>,
    /// When the last was written.
    #[schema(value_type = Option<String>)]
    pub last_at: Option<Timestamp>,
}

/// What an agent got.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Received {
    /// Messages.
    pub messages: u64,
    /// Of their content.
    pub bytes: i64,
    /// By what has become of them.
    pub by_status: BTreeMap<&'static str, u64>,
    /// When the last was written.
    #[schema(value_type = Option<String>)]
    pub last_at: Option<Timestamp>,
}

/// Messages of a type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct OfType {
    /// Written.
    pub sent: u64,
    /// Got.
    pub received: u64,
}

/// A message, without its content.
struct Row {
    id: i64,
    message_id: String,
    channel: String,
    /// The agent at the other end.
    peer: String,
    reply_to: Option<String>,
    kind: MessageType,
    status: MessageStatus,
    bytes: i64,
    price: f64,
    payment: PaymentStatus,
    at: Timestamp,
}

/// The statistics of an agent.
///
/// # Errors
/// As the database.
pub async fn statistics(db: &Database, agent: &str) -> Result<Statistics> {
    let mut conn = db.read().await?;
    let (sent, received) = (store::sent(&mut conn, agent).await?, store::received(&mut conn, agent).await?);
    drop(conn);
    Ok(counted(agent, &sent, &received))
}

/// `sent` and `received` are the last ones, the newest first.
fn counted(agent: &str, sent: &[Row], received: &[Row]) -> Statistics {
    let mut by_type: BTreeMap<&'static str, OfType> = BTreeMap::new();
    sent.iter().for_each(|row| by_type.entry(row.kind.value()).or_default().sent += 1);
    received.iter().for_each(|row| by_type.entry(row.kind.value()).or_default().received += 1);
    let full = |rows: &[Row]| rows.len() >= WINDOW as usize;
    // Where one side goes back further than the other, an answer could be without what it answers.
    let from = [sent, received].into_iter().filter(|rows| full(rows)).filter_map(|rows| rows.last()).map(|row| row.id);
    let from = from.max().unwrap_or(0);
    let both = sent.iter().map(|row| (row, true)).chain(received.iter().map(|row| (row, false)));
    let events = both.filter(|(row, _)| row.id >= from).map(|(row, sent)| Event::of(row, sent));
    Statistics {
        agent_id: agent.to_owned(),
        response_time: response_times(events.collect()),
        sent: of_sent(sent),
        received: Received {
            messages: received.len() as u64,
            bytes: received.iter().map(|row| row.bytes).sum(),
            by_status: by_status(received),
            last_at: received.first().map(|row| row.at),
        },
        by_type,
        window: WINDOW,
        complete: !full(sent) && !full(received),
    }
}

fn by_status(rows: &[Row]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    rows.iter().for_each(|row| *counts.entry(row.status.value()).or_default() += 1);
    counts
}

fn of_sent(rows: &[Row]) -> Sent {
    let came = |row: &&Row| matches!(row.status, MessageStatus::Delivered | MessageStatus::Read);
    let ended = rows.iter().filter(|row| row.status != MessageStatus::Pending).count();
    let mut cost_by_payment: BTreeMap<&'static str, f64> = BTreeMap::new();
    rows.iter().for_each(|row| *cost_by_payment.entry(row.payment.value()).or_default() += row.price);
    Sent {
        messages: rows.len() as u64,
        bytes: rows.iter().map(|row| row.bytes).sum(),
        by_status: by_status(rows),
        delivery_rate: (ended > 0).then(|| rows.iter().filter(came).count() as f64 / ended as f64),
        cost: rows.iter().map(|row| row.price).sum(),
        cost_by_payment,
        last_at: rows.first().map(|row| row.at),
    }
}
