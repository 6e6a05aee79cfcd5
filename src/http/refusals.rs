//! Keys whose requests are refused again and again: counted by key, and told to the audit log once in a while.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Refusals of one key within [`WINDOW`] from which on they are told of.
const MIN_TOLD: u64 = 50;
/// Time within which refusals are counted together.
const WINDOW: TimeDelta = TimeDelta::minutes(10);
/// Time for which a key that was told of is not told of again.
const PAUSE: TimeDelta = TimeDelta::hours(1);
/// Keys that are counted at most; labels are bounded by the keys that exist, so this is never reached in practice.
const MAX_KEYS: usize = 10_000;

/// Name of all keys that nobody knows, and of none, among refusals.
pub const UNKNOWN_KEY: &str = "unknown";
/// Name of tokens, and of keys of a development server.
pub const TOKEN_KEY: &str = "token";

/// Repeated refusals of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatedRefusals {
    /// Id of a stored key, principal of a configured one, [`UNKNOWN_KEY`] or [`TOKEN_KEY`].
    pub key: Arc<str>,
    /// Number of refusals since `since`.
    pub count: u64,
    /// Time of the first of them.
    pub since: DateTime<Utc>,
    /// Code of the last error.
    pub code: &'static str,
    /// Address of the last request; `None`: unknown.
    pub address: Option<IpAddr>,
}

/// Refusals of one key.
struct KeyRefusals {
    since: DateTime<Utc>,
    count: u64,
    /// When they were told of last.
    told_at: Option<DateTime<Utc>>,
}

/// Counts refusals by key.
#[derive(Default)]
pub struct RefusalWatch {
    keys: Mutex<HashMap<Arc<str>, KeyRefusals>>,
    /// What is to be told of.
    found: Mutex<Vec<RepeatedRefusals>>,
    wake: Notify,
}

impl RefusalWatch {
    /// Count a refusal of a request with this key.
    pub fn note(&self, key: &Arc<str>, code: &'static str, address: Option<IpAddr>, now: DateTime<Utc>) {
        let mut keys = self.keys.lock();
        if keys.len() >= MAX_KEYS && !keys.contains_key(key) {
            return;
        }
        let begun = || KeyRefusals { since: now, count: 0, told_at: None };
        let seen = keys.entry(key.clone()).or_insert_with(begun);
        if now - seen.since > WINDOW {
            (seen.since, seen.count) = (now, 0);
        }
        seen.count += 1;
        let may_tell = seen.told_at.is_none_or(|told| now - told >= PAUSE);
        if seen.count >= MIN_TOLD && may_tell {
            seen.told_at = Some(now);
            let found = RepeatedRefusals { key: key.clone(), count: seen.count, since: seen.since, code, address };
            drop(keys);
            self.found.lock().push(found);
            self.wake.notify_one();
        }
    }

    /// Wait until there is something to tell of, and take it.
    pub async fn next(&self) -> Vec<RepeatedRefusals> {
        loop {
            let found = self.take();
            if !found.is_empty() {
                return found;
            }
            self.wake.notified().await;
        }
    }

    /// Put back what could not be told of.
    pub fn put_back(&self, found: Vec<RepeatedRefusals>) {
        self.found.lock().splice(0..0, found);
    }

    fn take(&self) -> Vec<RepeatedRefusals> {
        std::mem::take(&mut self.found.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(minute * 60, 0).unwrap()
    }

    #[test]
    fn a_key_is_told_of_once_an_hour_and_only_if_it_is_refused_often() {
        let watch = RefusalWatch::default();
        let [often, seldom]: [Arc<str>; 2] = ["00000001".into(), UNKNOWN_KEY.into()];
        for refusal in 0..MIN_TOLD - 1 {
            watch.note(&often, "unauthorized", None, at(0));
            // The same number, but spread over hours.
            watch.note(&seldom, "unauthorized", None, at(refusal.cast_signed() * 11));
        }
        assert_eq!(watch.take(), []);
        watch.note(&often, "forbidden", None, at(1));
        let told =
            RepeatedRefusals { key: often.clone(), count: MIN_TOLD, since: at(0), code: "forbidden", address: None };
        assert_eq!(watch.take(), [told]);
        for minute in 2..61 {
            (0..MIN_TOLD).for_each(|_| watch.note(&often, "forbidden", None, at(minute)));
        }
        assert_eq!(watch.take(), [], "not again within the hour");
        (0..MIN_TOLD).for_each(|_| watch.note(&often, "forbidden", None, at(61)));
        assert_eq!(watch.take().len(), 1);
    }
}
