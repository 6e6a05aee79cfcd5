//! Places that are shared between keys.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::queue::FairQueue;

/// How many places there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceLimits {
    /// Places that one key may hold.
    pub share: usize,
    /// Places in all. Those beyond the share are left for other keys, whatever one key does.
    pub total: usize,
}

impl PlaceLimits {
    /// Limits for a share of `share` places, at least 1, with an eighth of them, at least one, kept for others.
    pub fn with_reserve(share: usize) -> Self {
        let share = share.max(1);
        Self { share, total: share + (share / 8).max(1) }
    }
}

/// Places that are given to waiting keys in turn. Clones share them.
#[derive(Debug)]
pub struct FairPlaces<K: Clone + Eq + Hash>(Arc<SharedPlaces<K>>);

impl<K: Clone + Eq + Hash> Clone for FairPlaces<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct SharedPlaces<K: Clone + Eq + Hash> {
    state: Mutex<PlaceState<K>>,
}

#[derive(Debug)]
struct PlaceState<K: Clone + Eq + Hash> {
    limits: PlaceLimits,
    waiting: FairQueue<K, oneshot::Sender<FairPlace<K>>>,
    held: HashMap<K, usize>,
    used: usize,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct FairPlace<K: Clone + Eq + Hash> {
    places: Arc<SharedPlaces<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash> FairPlaces<K> {
    /// Create places within these limits.
    pub fn new(limits: PlaceLimits) -> Self {
        let state = PlaceState { limits, waiting: FairQueue::new(1), held: HashMap::new(), used: 0 };
        Self(Arc::new(SharedPlaces { state: Mutex::new(state) }))
    }

    /// Change how many places one key may hold, at least 1. Whoever holds more gets no further place until it holds fewer.
    pub fn set_share(&self, share: usize) {
        self.0.state.lock().limits.share = share.max(1);
        self.0.grant();
    }

    /// Take a place if the key may have one now.
    pub fn try_acquire(&self, key: &K) -> Option<FairPlace<K>> {
        let mut state = self.0.state.lock();
        state.may_take(key).then(|| {
            state.take(key);
            FairPlace { places: self.0.clone(), key: key.clone() }
        })
    }

    /// Wait for a place. The key is in the queue from this call on, until the future is dropped.
    pub fn acquire(&self, key: &K) -> impl Future<Output = FairPlace<K>> + use<K> {
        let (sender, granted) = oneshot::channel();
        self.0.state.lock().waiting.push(key, 1, sender);
        self.0.grant();
        let places = self.clone();
        async move {
            match granted.await {
                Ok(place) => place,
                // The queue drops no sender while `places` exists.
                Err(_) => {
                    let _places = places;
                    std::future::pending().await
                }
            }
        }
    }

    /// Number of places in use.
    pub fn used(&self) -> usize {
        self.0.state.lock().used
    }

    /// Number of places that the key holds.
    pub fn held_by(&self, key: &K) -> usize {
        self.0.state.lock().held.get(key).copied().unwrap_or(0)
    }
}

impl<K: Clone + Eq + Hash> SharedPlaces<K> {
    /// Give free places to those who wait.
    fn grant(self: &Arc<Self>) {
        loop {
            let granted = {
                let mut state = self.state.lock();
                let next = if state.used < state.limits.total {
                    let PlaceState { limits, waiting, held, .. } = &mut *state;
                    waiting.pop(|key| held.get(key).copied().unwrap_or(0) < limits.share)
                } else {
                    None
                };
                let Some((key, sender)) = next else { return };
                if sender.is_closed() {
                    continue;
                }
                state.take(&key);
                (key, sender)
            };
            let (key, sender) = granted;
            // Outside the lock: a place that nobody waits for any more gives itself back.
            drop(sender.send(FairPlace { places: self.clone(), key }));
        }
    }
}

impl<K: Clone + Eq + Hash> PlaceState<K> {
    fn may_take(&self, key: &K) -> bool {
        self.used < self.limits.total && self.held.get(key).copied().unwrap_or(0) < self.limits.share
    }

    fn take(&mut self, key: &K) {
        self.used += 1;
        *self.held.entry(key.clone()).or_default() += 1;
    }
}

impl<K: Clone + Eq + Hash> Drop for FairPlace<K> {
    fn drop(&mut self) {
        {
            let mut state = self.places.state.lock();
            state.used -= 1;
            let left = state.held.get_mut(&self.key).map(|held| {
                *held -= 1;
                *held
            });
            if left == Some(0) {
                state.held.remove(&self.key);
            }
        }
        self.places.grant();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_key_never_takes_what_is_kept_for_others() {
        let places = FairPlaces::new(PlaceLimits::with_reserve(2));
        let held: Vec<_> = (0..2).map(|_| places.try_acquire(&'a').unwrap()).collect();
        assert!(places.try_acquire(&'a').is_none());
        let mut waiting: Vec<_> = (0..1000).map(|_| Box::pin(places.acquire(&'a'))).collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
        let other = places.try_acquire(&'b').unwrap();
        assert_eq!((places.used(), places.held_by(&'a')), (3, 2));
        let mut third = Box::pin(places.acquire(&'c'));
        assert!((&mut third).now_or_never().is_none());
        drop(held);
        // Two places are free: one for each of those who wait.
        assert!((&mut third).now_or_never().is_some());
        drop(other);
        drop(waiting);
        assert_eq!(places.used(), 0, "who waits no longer holds nothing");
    }

    #[test]
    fn a_smaller_share_takes_no_place_away() {
        let places = FairPlaces::new(PlaceLimits::with_reserve(4));
        let mut held: Vec<_> = (0..4).map(|_| places.try_acquire(&'a').unwrap()).collect();
        let mut next = Box::pin(places.acquire(&'a'));
        places.set_share(2);
        held.truncate(2);
        assert!((&mut next).now_or_never().is_none() && places.try_acquire(&'b').is_some());
        places.set_share(3);
        assert!((&mut next).now_or_never().is_some());
    }

    proptest! {
        /// Limits hold, every place that can be given is given, and nothing leaks.
        #[test]
        fn places_are_neither_lost_nor_overdrawn(
            share in 1usize..5,
            reserve in 0usize..3,
            script in prop::collection::vec((0u8..3, 0u8..3, any::<prop::sample::Index>()), 1..120),
        ) {
            let limits = PlaceLimits { share, total: share + reserve };
            let places = FairPlaces::new(limits);
            let (mut held, mut waiting) = (Vec::new(), Vec::new());
            for (what, key, at) in script {
                match what {
                    0 => waiting.push((key, Box::pin(places.acquire(&key)))),
                    1 if !held.is_empty() => drop(held.swap_remove(at.index(held.len()))),
                    2 if !waiting.is_empty() => drop(waiting.swap_remove(at.index(waiting.len()))),
                    _ => {}
                }
                let mut still = Vec::new();
                for (key, mut one) in waiting {
                    match (&mut one).now_or_never() {
                        Some(place) => held.push((key, place)),
                        None => still.push((key, one)),
                    }
                }
                waiting = still;
                let of = |key: u8| held.iter().filter(|(other, _)| *other == key).count();
                prop_assert!(held.len() <= limits.total && (0..3).all(|key| of(key) <= limits.share));
                prop_assert_eq!(places.used(), held.len());
                let stuck = waiting.iter().any(|(key, _)| held.len() < limits.total && of(*key) < limits.share);
                prop_assert!(!stuck, "a place is free, and somebody waits who may have it");
            }
            drop((held, waiting));
            prop_assert_eq!(places.used(), 0);
        }
    }
}
