//! Turns of requests: how many of one principal's are worked on at once.

use std::time::Duration;

use am_core::fair::{FairPlaces, PlaceLimits};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::rate_limit::RateBucket;

/// Time after which a request no longer counts: it waits for something, such as an execution's end or its client.
const MAX_TURN: Duration = Duration::from_millis(50);

/// Time for which a principal counts as active after its request.
const ACTIVE_TIME: Duration = Duration::from_secs(1);

/// Turns of requests, by principal, or by address where there is none. A principal with thousands of connections would otherwise keep
/// each request of others waiting behind all of its own.
#[derive(Debug)]
pub struct RequestTurns {
    places: FairPlaces<RateBucket>,
    /// Requests of one principal that are worked on at once while no other is active.
    share: usize,
    active: Mutex<ActivePrincipals>,
}

/// The principal of the last request, and when another one's last request came.
#[derive(Debug, Default)]
struct ActivePrincipals {
    last: Option<(RateBucket, Instant)>,
    other: Option<Instant>,
    /// Whether the share is divided at present.
    divided: bool,
}

impl ActivePrincipals {
    /// Take note of a request, and return whether several principals have become active, or one is alone again. `None`: as before.
    fn notice(&mut self, principal: &RateBucket, now: Instant) -> Option<bool> {
        match &mut self.last {
            Some((last, at)) if last == principal => *at = now,
            last => self.other = last.replace((principal.clone(), now)).map(|(_, at)| at),
        }
        let divided = self.other.is_some_and(|at| now.saturating_duration_since(at) < ACTIVE_TIME);
        (std::mem::replace(&mut self.divided, divided) != divided).then_some(divided)
    }
}

impl RequestTurns {
    /// Turns for at most `share` requests of one principal at once, and an eighth more for others. While several principals are
    /// active it is half of that: a batch of the writer, and the processor's queue, are then short enough for single requests.
    pub fn new(share: usize) -> Self {
        Self { places: FairPlaces::new(PlaceLimits::with_reserve(share)), share, active: Mutex::default() }
    }

    fn notice(&self, principal: &RateBucket, now: Instant) {
        // Requests without a key, such as probes, are not worth the throughput of those with one.
        if matches!(principal, RateBucket::Principal(_))
            && let Some(divided) = self.active.lock().notice(principal, now)
        {
            self.places.set_share(if divided { self.share.div_ceil(2) } else { self.share });
        }
    }

    /// Work on a request when it is its principal's turn. `None`: it had no answer within `limit`.
    pub async fn work<T>(&self, principal: RateBucket, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
        let begun = Instant::now();
        self.notice(&principal, begun);
        let deadline = begun + limit;
        let mut place = match self.places.try_acquire(&principal) {
            Some(place) => Some(place),
            None => Some(timeout_at(deadline, self.places.acquire(&principal)).await.ok()?),
        };
        // One timer for both: requests are many, and each timer takes a lock.
        let timer = sleep_until(deadline.min(Instant::now() + MAX_TURN));
        tokio::pin!(answer, timer);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return Some(answer),
                () = &mut timer => {
                    place.take()?;
                    timer.as_mut().reset(deadline);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn principal(name: &str) -> RateBucket {
        RateBucket::Principal(name.into())
    }

    #[tokio::test]
    async fn requests_beyond_a_principals_share_wait_and_others_do_not() {
        let turns = RequestTurns::new(8);
        let mut endless: Vec<_> =
            (0..1000).map(|_| Box::pin(turns.work(principal("a"), LIMIT, pending::<()>()))).collect();
        assert!(endless.iter_mut().all(|one| one.now_or_never().is_none()));
        let mut next = Box::pin(turns.work(principal("a"), LIMIT, ready(1)));
        assert!((&mut next).now_or_never().is_none());
        assert_eq!(turns.work(principal("b"), LIMIT, ready(2)).now_or_never(), Some(Some(2)));
        drop(endless);
        assert_eq!(next.now_or_never(), Some(Some(1)), "who gave up is in nobody's way");
    }

    #[test]
    fn the_share_is_divided_while_others_are_active() {
        let (mut active, begun) = (ActivePrincipals::default(), Instant::now());
        let mut at = |name: &str, millis: u64| active.notice(&principal(name), begun + Duration::from_millis(millis));
        assert_eq!((at("a", 0), at("a", 5), at("b", 10)), (None, None, Some(true)));
        assert_eq!((at("a", 20), at("a", 900), at("a", 1009)), (None, None, None));
        assert_eq!((at("a", 1010), at("a", 9000)), (Some(false), None), "alone again");
        assert_eq!((at("b", 9001), at("b", 9999), at("b", 10_000)), (Some(true), None, Some(false)));
        assert_eq!((at("c", 20_000), at("c", 20_001)), (None, None), "the others are long gone");
    }

    #[tokio::test]
    async fn one_principal_has_half_its_turns_beside_another() {
        let turns = RequestTurns::new(8);
        let begin = |name: &str, count: usize| -> usize {
            let mut works: Vec<_> =
                (0..count).map(|_| Box::pin(turns.work(principal(name), LIMIT, pending::<()>()))).collect();
            works.iter_mut().for_each(|one| assert!(one.now_or_never().is_none()));
            turns.places.held_by(&principal(name))
        };
        assert_eq!(begin("a", 20), 8);
        assert_eq!(turns.work(principal("b"), LIMIT, ready(2)).now_or_never(), Some(Some(2)));
        assert_eq!(begin("a", 20), 4);
    }

    #[tokio::test]
    async fn requests_that_wait_for_long_hold_no_turn() {
        let turns = RequestTurns::new(1);
        let waits = futures_util::future::join_all((0..3).map(|_| turns.work(principal("a"), LIMIT, pending::<()>())));
        let last = turns.work(principal("a"), LIMIT, ready("its turn came"));
        tokio::select! {
            _ = waits => unreachable!("they wait for ever"),
            told = last => assert_eq!(told, Some("its turn came")),
        }
    }

    #[tokio::test]
    async fn a_request_may_wait_and_work_no_longer_than_its_limit() {
        let turns = RequestTurns::new(1);
        let short = Duration::from_millis(1);
        let work = turns.work(principal("a"), LIMIT, pending::<()>());
        let waits = async {
            assert_eq!(turns.work(principal("a"), short, ready(())).await, None, "its turn did not come");
            assert_eq!(turns.work(principal("b"), short, pending::<()>()).await, None);
            assert_eq!(turns.work(principal("b"), MAX_TURN * 2, pending::<()>()).await, None);
        };
        tokio::select! {
            biased;
            _ = work => unreachable!("it works for ever"),
            () = waits => {}
        }
    }
}
