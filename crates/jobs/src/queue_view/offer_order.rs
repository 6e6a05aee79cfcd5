//! The order in which the coordinator offers queued jobs to miners: a place in it is found by search, not by looking at
//! every open job.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Included},
};

use chrono::{DateTime, Utc};

/// Place of a queued job: its submission, then its row number.
pub(super) type OfferPlace = (DateTime<Utc>, i64);

/// Queued jobs in the order of their submission, counted while they have not expired.
#[derive(Default)]
pub(super) struct OfferOrder {
    /// Places of the jobs whose expiry lies after `counted_at`, ascending.
    places: Vec<OfferPlace>,
    /// Expiry and place of every queued job.
    expiries: BTreeSet<(DateTime<Utc>, OfferPlace)>,
    /// The time as of which `places` is right.
    counted_at: DateTime<Utc>,
}

/// The last of all places, for ranges over an expiry.
const LAST: OfferPlace = (DateTime::<Utc>::MAX_UTC, i64::MAX);

impl OfferOrder {
    pub(super) fn insert(&mut self, place: OfferPlace, expires_at: DateTime<Utc>) {
        self.expiries.insert((expires_at, place));
        if expires_at > self.counted_at {
            self.count(place);
        }
    }

    pub(super) fn remove(&mut self, place: OfferPlace, expires_at: DateTime<Utc>) {
        self.expiries.remove(&(expires_at, place));
        self.discount(place);
    }

    /// Number of jobs before `place` that have not expired at `now`.
    pub(super) fn before(&mut self, place: OfferPlace, now: DateTime<Utc>) -> usize {
        self.count_at(now);
        self.places.partition_point(|other| *other < place)
    }

    /// Leave out what has expired since the last count, or take it in again when the clock was set back.
    fn count_at(&mut self, now: DateTime<Utc>) {
        let (earlier, later) = (self.counted_at.min(now), self.counted_at.max(now));
        let between = (Excluded((earlier, LAST)), Included((later, LAST)));
        let changed: Vec<OfferPlace> = match earlier < later {
            true => self.expiries.range(between).map(|(_, place)| *place).collect(),
            false => Vec::new(),
        };
        for place in changed {
            if now > self.counted_at { self.discount(place) } else { self.count(place) }
        }
        self.counted_at = now;
    }

    /// New jobs come last, so that this is nearly always a push.
    fn count(&mut self, place: OfferPlace) {
        if let Err(at) = self.places.binary_search(&place) {
            self.places.insert(at, place);
        }
    }

    fn discount(&mut self, place: OfferPlace) {
        if let Ok(at) = self.places.binary_search(&place) {
            self.places.remove(at);
        }
    }
}
