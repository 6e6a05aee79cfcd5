//! Retry schedule of failed deliveries: the example schedule of Standard Webhooks, a little over three days.

use std::time::Duration;

const SECONDS_PER_MINUTE: u64 = 60;
const SECONDS_PER_HOUR: u64 = 60 * SECONDS_PER_MINUTE;
/// Seconds to wait after each failed attempt, the first one first.
const RETRY_WAITS: [u64; 9] = [
    5,
    5 * SECONDS_PER_MINUTE,
    30 * SECONDS_PER_MINUTE,
    2 * SECONDS_PER_HOUR,
    5 * SECONDS_PER_HOUR,
    10 * SECONDS_PER_HOUR,
    14 * SECONDS_PER_HOUR,
    20 * SECONDS_PER_HOUR,
    24 * SECONDS_PER_HOUR,
];
/// Random share of a wait, so that deliveries that failed together are not retried together.
const JITTER_FRACTION: f64 = 0.1;
/// Upper bound of the wait that an endpoint may request.
pub(super) const MAX_REQUESTED_WAIT: Duration = Duration::from_secs(24 * SECONDS_PER_HOUR);

/// Time to wait after failed attempt number `attempt` (from 1), multiplied by `scale`; `chance` is a random number from
/// 0 to 1. An endpoint may request more (`ask`). `None` after the last attempt.
pub(super) fn retry_wait(attempt: i64, scale: f64, chance: f64, ask: Option<Duration>) -> Option<Duration> {
    let seconds = *RETRY_WAITS.get(usize::try_from(attempt - 1).ok()?)?;
    let wait = Duration::from_secs_f64(seconds as f64 * scale * (1.0 + JITTER_FRACTION * chance));
    Some(wait.max(ask.unwrap_or_default().min(MAX_REQUESTED_WAIT)))
}

/// Time for which an endpoint is not called after `failures` attempts without success (from 1): the same schedule, whose
/// last wait is repeated. The endpoint may request more (`ask`).
pub(super) fn endpoint_wait(failures: i64, scale: f64, chance: f64, ask: Option<Duration>) -> Duration {
    let attempt = failures.clamp(1, RETRY_WAITS.len() as i64);
    retry_wait(attempt, scale, chance, ask).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<u64> = (1..).map_while(|n| retry_wait(n, 1.0, 0.0, None)).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]);
        assert_eq!(retry_wait(1, 1.0, 1.0, None), Some(Duration::from_millis(5500)));
        assert_eq!(retry_wait(2, 0.01, 0.0, None), Some(Duration::from_secs(3)));
        assert_eq!(retry_wait(1, 0.0, 0.7, None), Some(Duration::ZERO));
        assert_eq!(
            (retry_wait(0, 1.0, 0.0, None), retry_wait(10, 1.0, 0.0, None), retry_wait(99, 1.0, 0.0, None)),
            (None, None, None)
        );
    }

    #[test]
    fn an_endpoint_is_tried_for_ever() {
        let waits = [1, 2, 9, 10, 1000].map(|failures| endpoint_wait(failures, 1.0, 0.0, None).as_secs());
        assert_eq!(waits, [5, 300, 86_400, 86_400, 86_400]);
        assert_eq!(endpoint_wait(1, 0.0, 1.0, Some(Duration::from_secs(7))), Duration::from_secs(7));
    }

    #[test]
    fn an_endpoint_may_ask_for_longer_but_not_for_ever() {
        let ask = |seconds| retry_wait(1, 1.0, 0.0, Some(Duration::from_secs(seconds))).unwrap().as_secs();
        assert_eq!((ask(1), ask(60), ask(u64::MAX)), (5, 60, 86_400));
        assert_eq!(retry_wait(10, 1.0, 0.0, Some(Duration::from_secs(60))), None);
    }
}
