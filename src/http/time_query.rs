//! Times in the queries of lists: a moment, or how long ago.

use serde::Deserialize;
use utoipa::IntoParams;

use am_core::ambient::Clock;
use am_db::{codec::Timestamp, moment::QueryMoment, page::TimeSpan};

/// The time between two moments, seen from `now`.
pub fn time_span(after: Option<QueryMoment>, before: Option<QueryMoment>, now: Timestamp) -> TimeSpan {
    let seen = |moment: Option<QueryMoment>| moment.map(|moment| moment.seen_from(now));
    TimeSpan { after: seen(after), before: seen(before) }
}

/// Query parameters of lists of what ends.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EndedQuery {
    /// Only what ended later than this: a time, or how long ago (`90s`, `30m`, `12h`, `7d`, `4w`). Default: whatever its end.
    #[param(value_type = Option<String>, example = "7d")]
    ended_after: Option<QueryMoment>,
    /// Only what ended earlier than this, in the same forms. Default: whatever its end.
    #[param(value_type = Option<String>, example = "2026-05-12T14:29:30Z")]
    ended_before: Option<QueryMoment>,
}

impl EndedQuery {
    /// The time in which it ended, seen from now.
    pub fn span(&self, clock: &Clock) -> TimeSpan {
        time_span(self.ended_after, self.ended_before, Timestamp(clock.now()))
    }
}
