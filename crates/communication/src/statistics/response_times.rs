//! Response times of an agent. A received message is answered by one that names it in `reply_to`, or by the agent's
//! next message to the same agent in the same channel. When several messages wait there, the time counts once, from the
//! first.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::MessageFacts;
use am_core::ids::{AgentId, ChannelId, MessageId};
use am_db::codec::Timestamp;

/// Response times of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ResponseTimes {
    /// Number of measured answers.
    pub answers: u64,
    /// Mean response time in seconds; null without answers.
    pub mean_seconds: Option<f64>,
    /// Median response time in seconds; null without answers.
    pub median_seconds: Option<f64>,
    /// 95th percentile of the response time in seconds; null without answers.
    pub p95_seconds: Option<f64>,
    /// Number of conversations whose last message waits for an answer.
    pub waiting: u64,
}

/// A message from the agent's point of view.
pub(super) struct ConversationEvent<'a> {
    id: i64,
    /// Whether the agent sent the message; otherwise it received it.
    sent: bool,
    message_id: &'a MessageId,
    with: (&'a ChannelId, &'a AgentId),
    reply_to: Option<&'a MessageId>,
    at: Timestamp,
}

impl<'a> ConversationEvent<'a> {
    pub(super) fn from_row(row: &'a MessageFacts, sent: bool) -> Self {
        let (message_id, reply_to) = (&row.message_id, row.reply_to.as_ref());
        Self { id: row.id, sent, message_id, with: (&row.channel, &row.peer), reply_to, at: row.at }
    }
}

/// Compute the response times from these events, in any order; `None` without answers and waiting messages.
pub(super) fn measure_response_times(mut events: Vec<ConversationEvent<'_>>) -> Option<ResponseTimes> {
    events.sort_by_key(|event| event.id);
    // Received messages until they are answered by id, and the time since when a conversation waits.
    let mut came: HashMap<&MessageId, Timestamp> = HashMap::new();
    let mut waits: HashMap<(&ChannelId, &AgentId), Timestamp> = HashMap::new();
    let mut times = Vec::new();
    for event in events {
        if !event.sent {
            came.insert(event.message_id, event.at);
            waits.entry(event.with).or_insert(event.at);
            continue;
        }
        let next = waits.remove(&event.with);
        let named = event.reply_to.and_then(|id| came.remove(id));
        if let Some(since) = named.or(next) {
            times.push(event.at.seconds_since(since).max(0.0));
        }
    }
    if times.is_empty() && waits.is_empty() {
        return None;
    }
    times.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let place = (part * times.len() as f64).ceil() as usize;
        times.get(place.saturating_sub(1)).copied()
    };
    Some(ResponseTimes {
        answers: times.len() as u64,
        mean_seconds: (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64),
        median_seconds: at(0.5),
        p95_seconds: at(0.95),
        waiting: waits.len() as u64,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap())
    }

    /// Seconds, whether sent, and what it answers: `b` in one channel, named by their seconds.
    fn talk(lines: &[(i64, bool, Option<i64>)]) -> Option<ResponseTimes> {
        let name = |second: i64| MessageId::from(format!("m{second}"));
        let names: Vec<MessageId> = lines.iter().map(|(second, ..)| name(*second)).collect();
        let replies: Vec<Option<MessageId>> = lines.iter().map(|(.., to)| to.map(name)).collect();
        let (channel, peer) = ("ch".into(), "b".into());
        let events =
            lines.iter().zip(&names).zip(&replies).map(|(((second, sent, _), name), reply)| ConversationEvent {
                id: *second,
                sent: *sent,
                message_id: name,
                with: (&channel, &peer),
                reply_to: reply.as_ref(),
                at: at(*second),
            });
        measure_response_times(events.collect())
    }

    #[test]
    fn a_wait_counts_from_the_first_that_waits() {
        assert_eq!(talk(&[]), None);
        assert_eq!(talk(&[(1, true, None), (2, true, None)]), None, "nobody asked");
        let found =
            talk(&[(0, false, None), (2, false, None), (5, true, None), (6, true, None), (10, false, None)]).unwrap();
        assert_eq!((found.answers, found.mean_seconds, found.waiting), (1, Some(5.0), 1));
        let found = talk(&[(0, false, None), (1, false, None), (4, true, Some(1)), (9, true, Some(0))]).unwrap();
        let asked = talk(&[(0, false, None)]).unwrap();
        let times = (asked.mean_seconds, asked.median_seconds, asked.p95_seconds);
        assert_eq!((asked.answers, times, asked.waiting), (0, (None, None, None), 1), "nothing was measured");
        assert_eq!((found.answers, found.mean_seconds, found.p95_seconds, found.waiting), (2, Some(6.0), Some(9.0), 0));
        let found = talk(&[(0, false, None), (3, true, Some(77))]).unwrap();
        assert_eq!((found.answers, found.median_seconds), (1, Some(3.0)), "what it names is not known");
    }

    proptest! {
        #[test]
        fn no_more_answers_than_messages_and_no_time_before_its_cause(lines in proptest::collection::vec((any::<bool>(), proptest::option::of(0i64..40)), 0..40)) {
            let lines: Vec<_> = lines.iter().enumerate().map(|(second, (sent, to))| (second as i64, *sent, *to)).collect();
            let got = lines.iter().filter(|(_, sent, _)| !sent).count() as u64;
            let sent = lines.len() as u64 - got;
            if let Some(found) = talk(&lines) {
                prop_assert!(found.answers <= sent && found.waiting <= 1);
                prop_assert_eq!(found.median_seconds.is_none(), found.answers == 0);
                let (median, p95) = (found.median_seconds.unwrap_or(0.0), found.p95_seconds.unwrap_or(0.0));
                prop_assert!(median >= 0.0 && median <= p95 && p95 <= 40.0);
            }
        }
    }
}
