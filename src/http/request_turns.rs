//! Turns of requests: how many of one principal's are worked on at once.

use std::time::Duration;

use am_core::fair::{FairPlaces, PlaceLimits};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::rate_limit::RateBucket;

/// Time after which a request no longer counts: it waits for something, such as an execution's end or its client.
const MAX_TURN: Duration = Duration::from_millis(50);

/// Turns of requests, by principal, or by address where there is none. A principal with thousands of connections would otherwise keep
/// each request of others waiting behind all of its own.
#[derive(Debug)]
pub struct RequestTurns(FairPlaces<RateBucket>);

impl RequestTurns {
    /// Turns for at most `share` requests of one principal at once, and an eighth more for others.
    pub fn new(share: usize) -> Self {
        Self(FairPlaces::new(PlaceLimits::with_reserve(share)))
    }

    /// Work on a request when it is its principal's turn. `None`: it had no answer within `limit`.
    pub async fn work<T>(&self, principal: RateBucket, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut place = match self.0.try_acquire(&principal) {
            Some(place) => Some(place),
            None => Some(timeout_at(deadline, self.0.acquire(&principal)).await.ok()?),
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
