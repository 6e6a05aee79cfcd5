//! Requests that wait for a worker, served by principal in turn.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::process::{PendingEvaluation, WorkerPlace};
use am_core::{fair::FairQueue, ids::PrincipalId};

/// Maximum number of requests sent to a worker at once.
const MAX_BATCH_REQUESTS: usize = 16;
/// Size of a batch's inputs, in bytes, from which no further request is added.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Requests that wait, and the number of workers that each principal occupies. Where there is more than one worker, no
/// principal occupies them all; requests without a principal, of the service itself, may.
pub(super) struct RequestQueue {
    /// Number of workers.
    workers: usize,
    /// Workers that one principal may occupy.
    share: usize,
    state: Mutex<QueueState>,
    /// Wakes a common worker when requests wait.
    pushed: Notify,
    /// Wakes the reserve when requests wait while all others work.
    pushed_beyond: Notify,
}

struct QueueState {
    /// A request counts as a millisecond until its duration is known.
    waiting: FairQueue<PrincipalId, PendingEvaluation>,
    occupied: HashMap<PrincipalId, usize>,
}

/// Requests of one principal that one worker answers. The worker counts as occupied until it is dropped.
pub(super) struct RequestBatch<'a> {
    pub requests: VecDeque<PendingEvaluation>,
    queue: &'a RequestQueue,
    client: PrincipalId,
}

impl RequestQueue {
    pub fn new(workers: usize) -> Self {
        let state = QueueState { waiting: FairQueue::new(1), occupied: HashMap::new() };
        let share = workers.saturating_sub(1).max(1);
        Self { workers, share, state: Mutex::new(state), pushed: Notify::new(), pushed_beyond: Notify::new() }
    }

    /// Place of the worker with this number.
    pub fn place_of(&self, worker: usize) -> WorkerPlace {
        if worker > 0 && worker + 1 == self.workers { WorkerPlace::Reserve } else { WorkerPlace::Common }
    }

    pub fn push(&self, client: &PrincipalId, request: PendingEvaluation) {
        let mut state = self.state.lock();
        state.waiting.push(client, 1, request);
        self.wake(&state);
    }

    /// Wake whoever may take what waits.
    fn wake(&self, state: &QueueState) {
        if !state.waiting.is_empty() {
            self.pushed.notify_one();
            if self.reserve_may_work(state) {
                self.pushed_beyond.notify_one();
            }
        }
    }

    fn reserve_may_work(&self, state: &QueueState) -> bool {
        state.occupied.values().sum::<usize>() + 1 >= self.workers
    }

    /// Wait for requests and take one worker's share of those of the principal whose turn it is.
    pub async fn take(&self, place: WorkerPlace) -> RequestBatch<'_> {
        let pushed = match place {
            WorkerPlace::Common => &self.pushed,
            WorkerPlace::Reserve => &self.pushed_beyond,
        };
        loop {
            if let Some(batch) = self.try_take(place) {
                return batch;
            }
            pushed.notified().await;
        }
    }

    /// Drop all requests.
    pub fn clear(&self) {
        self.state.lock().waiting.clear();
    }

    fn try_take(&self, place: WorkerPlace) -> Option<RequestBatch<'_>> {
        let mut guard = self.state.lock();
        if place == WorkerPlace::Reserve && !self.reserve_may_work(&guard) {
            return None;
        }
        let QueueState { waiting, occupied } = &mut *guard;
        loop {
            let may = |client: &PrincipalId| {
                client.as_str().is_empty() || occupied.get(client).copied().unwrap_or(0) < self.share
            };
            let (client, first) = waiting.pop(may)?;
            let share = 1 + (waiting.len_of(&client) / self.workers).min(MAX_BATCH_REQUESTS - 1);
            let mut bytes = first.input.get().len();
            let mut requests = VecDeque::from([first]);
            while requests.len() < share && bytes < MAX_BATCH_BYTES {
                let Some(next) = waiting.pop_from(&client) else { break };
                bytes += next.input.get().len();
                requests.push_back(next);
            }
            requests.retain(|request| !request.reply.is_closed());
            if requests.is_empty() {
                continue;
            }
            *occupied.entry(client.clone()).or_default() += 1;
            // For another idle worker.
            self.wake(&guard);
            return Some(RequestBatch { requests, queue: self, client });
        }
    }
}

impl RequestBatch<'_> {
    /// Charge the principal for the time that its requests took.
    pub fn charge(&self, duration: Duration) {
        let milliseconds = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        self.queue.state.lock().waiting.charge(&self.client, milliseconds);
    }
}

impl Drop for RequestBatch<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        let left = state.occupied.get_mut(&self.client).map(|workers| {
            *workers -= 1;
            *workers
        });
        if left == Some(0) {
            state.occupied.remove(&self.client);
        }
        self.queue.wake(&state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use serde_json::value::RawValue;
    use tokio::sync::oneshot;

    use super::*;
    use am_jq_worker::protocol::TaskKind;

    fn request() -> (PendingEvaluation, impl Sized) {
        let (reply, answer) = oneshot::channel();
        let input = Arc::from(RawValue::from_string("1".to_owned()).unwrap());
        (PendingEvaluation { task: TaskKind::Jq, text: ".".into(), input, reply, interrupted: 0 }, answer)
    }

    #[test]
    fn a_worker_stays_for_others_and_batches_are_of_one_principal() {
        let queue = RequestQueue::new(3);
        let [a, b] = ["a", "b"].map(PrincipalId::from);
        let mut answers = Vec::new();
        let mut push = |client: &PrincipalId| {
            let (request, answer) = request();
            answers.push(answer);
            queue.push(client, request);
        };
        (0..10).for_each(|_| push(&a));
        let take = |worker| queue.take(queue.place_of(worker)).now_or_never();
        let first = take(0).unwrap();
        assert!(take(2).is_none(), "the third worker works only while the others do");
        let second = take(1).unwrap();
        assert!(take(2).is_none(), "the third worker is kept for others");
        push(&b);
        let other = take(2).unwrap();
        assert_eq!((other.requests.len(), &other.client), (1, &b));
        drop(first);
        let next = take(0).unwrap();
        assert_eq!(next.client, a);
        drop((second, other, next));
        assert!(queue.state.lock().occupied.is_empty());
    }

    #[test]
    fn requests_that_nobody_waits_for_are_dropped() {
        let queue = RequestQueue::new(1);
        queue.push(&"a".into(), request().0);
        assert!(queue.take(queue.place_of(0)).now_or_never().is_none());
        assert!(queue.state.lock().waiting.is_empty() && queue.state.lock().occupied.is_empty());
    }
}
