//! Thread that owns a model, with a bounded queue.
//!
//! libtorch blocks, so no async task calls it. The thread takes all queued requests and evaluates them together. While
//! requests come one at a time it does not wait; after several came together it waits briefly for more. A full queue
//! refuses at once.

use std::{
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::metrics::PolicyMetrics;
use crate::{model::ActError, network::NetworkOutput};

/// Maximum number of queued requests.
const MAX_QUEUED_REQUESTS: usize = 256;
/// Maximum number of states evaluated together; a single request may have more.
const MAX_BATCH_STATES: usize = 64;

/// Model that a worker's thread runs. A trait, so that a test can use a model that blocks.
pub(super) trait ServingModel: Send + 'static {
    /// Prepare on the thread, before the first batch.
    fn prepare(&mut self) -> Result<(), ActError>;
    /// Return the length of a state.
    fn width(&self) -> usize;
    /// Evaluate the concatenated `states`, one output each.
    fn evaluate(&mut self, states: &[f32], exact: bool) -> Result<Vec<NetworkOutput>, ActError>;
}

/// Result of a request: one output per state.
pub(super) type InferenceResult = Result<Vec<NetworkOutput>, ActError>;

struct InferenceRequest {
    states: Vec<f32>,
    exact: bool,
    accepted: Instant,
    reply: oneshot::Sender<InferenceResult>,
}

/// Thread that owns a model, and the sender of its queue. The thread ends when this is dropped or stopped.
pub(super) struct ModelWorker {
    /// `None` once stopped.
    queue: RwLock<Option<SyncSender<InferenceRequest>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    metrics: PolicyMetrics,
}

impl ModelWorker {
    /// Start the thread; returns when the model is prepared. `window` is the maximum time that a batch waits for more
    /// requests.
    pub(super) fn start(
        mut model: impl ServingModel,
        window: Duration,
        metrics: PolicyMetrics,
    ) -> Result<Self, ActError> {
        let (queue, requests) = sync_channel(MAX_QUEUED_REQUESTS);
        let (ready, prepared) = sync_channel(1);
        let own_metrics = metrics.clone();
        let thread = thread::Builder::new().name("policy".to_owned()).spawn(move || {
            let outcome = model.prepare();
            let good = outcome.is_ok();
            if ready.send(outcome).is_ok() && good {
                run_model_loop(&mut model, &requests, window, &own_metrics);
            }
        });
        let thread = thread.map_err(|error| ActError::Runtime(error.to_string()))?;
        prepared.recv().map_err(|_| ActError::Stopped)??;
        Ok(Self { queue: RwLock::new(Some(queue)), thread: Mutex::new(Some(thread)), metrics })
    }

    /// Queue concatenated states for evaluation; never blocks.
    pub(super) fn ask(&self, states: Vec<f32>, exact: bool) -> Result<oneshot::Receiver<InferenceResult>, ActError> {
        let queue = self.queue.read();
        let queue = queue.as_ref().ok_or(ActError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        self.metrics.waiting.inc();
        queue.try_send(InferenceRequest { states, exact, accepted: Instant::now(), reply }).map_err(|refusal| {
            self.metrics.waiting.dec();
            match refusal {
                TrySendError::Full(_) => ActError::Overloaded,
                TrySendError::Disconnected(_) => ActError::Stopped,
            }
        })?;
        Ok(answer)
    }

    /// Answer queued requests, end the thread and return when it has ended.
    pub(super) fn stop(&self) {
        drop(self.queue.write().take());
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a policy's thread panicked");
        }
    }
}

impl Drop for ModelWorker {
    /// Join the thread: libtorch must not be running while the process destroys its globals.
    fn drop(&mut self) {
        self.stop();
    }
}

/// Answer requests until every sender is gone and the queue is empty.
fn run_model_loop(
    model: &mut impl ServingModel,
    requests: &Receiver<InferenceRequest>,
    window: Duration,
    metrics: &PolicyMetrics,
) {
    let (mut batch, mut last) = (Vec::with_capacity(MAX_BATCH_STATES), 1);
    while gather_batch(&mut batch, requests, model.width(), last, window) {
        metrics.waiting.dec_by(batch.len() as i64);
        last = batch.len();
        // Requests whose client has gone away need no answer.
        batch.retain(|request| !request.reply.is_closed());
        let (exact, others): (Vec<_>, Vec<_>) = batch.drain(..).partition(|request| request.exact);
        for (some, exact) in [(exact, true), (others, false)] {
            answer_batch(model, some, exact, metrics);
        }
    }
}

/// Wait for a request and take those queued with it, up to [`MAX_BATCH_STATES`] states; if several came together the `last` time,
/// wait `window` first. Returns false when every sender is gone.
fn gather_batch(
    batch: &mut Vec<InferenceRequest>,
    requests: &Receiver<InferenceRequest>,
    width: usize,
    last: usize,
    window: Duration,
) -> bool {
    let Ok(first) = requests.recv() else { return false };
    let mut states = first.states.len() / width;
    batch.push(first);
    if last > 1 && !window.is_zero() {
        // Sleep, so that no sender has to wake this thread for each request.
        thread::sleep(window);
    }
    while states < MAX_BATCH_STATES {
        let Ok(next) = requests.try_recv() else { break };
        states += next.states.len() / width;
        batch.push(next);
    }
    true
}

fn answer_batch(model: &mut impl ServingModel, requests: Vec<InferenceRequest>, exact: bool, metrics: &PolicyMetrics) {
    if requests.is_empty() {
        return;
    }
    let states: Vec<f32> = requests.iter().flat_map(|request| &request.states).copied().collect();
    let mut result = model.evaluate(&states, exact).map(Vec::into_iter);
    for request in requests {
        let count = request.states.len() / model.width();
        let answer = match &mut result {
            Ok(evaluations) => Ok(evaluations.by_ref().take(count).collect()),
            Err(error) => Err(error.clone()),
        };
        metrics.latency.observe(request.accepted.elapsed().as_secs_f64());
        // The client went away during the forward pass.
        let _ = request.reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::metrics::ServingMetrics, *};

    /// Tells of each batch as it begins and goes on when told to; what it says of a state is its number.
    struct Gate {
        begun: SyncSender<usize>,
        go_on: Receiver<()>,
    }

    impl ServingModel for Gate {
        fn prepare(&mut self) -> Result<(), ActError> {
            Ok(())
        }

        fn width(&self) -> usize {
            1
        }

        fn evaluate(&mut self, states: &[f32], _: bool) -> Result<Vec<NetworkOutput>, ActError> {
            self.begun.send(states.len()).unwrap();
            self.go_on.recv().unwrap();
            Ok(states.iter().map(|state| NetworkOutput::Values { q: vec![*state] }).collect())
        }
    }

    fn said(answer: oneshot::Receiver<InferenceResult>) -> Vec<f32> {
        let of = |evaluation| match evaluation {
            NetworkOutput::Values { q } => q[0],
            other => panic!("{other:?}"),
        };
        answer.blocking_recv().unwrap().unwrap().into_iter().map(of).collect()
    }

    fn gated() -> (ModelWorker, Receiver<usize>, SyncSender<()>) {
        let (begun, batches) = sync_channel(MAX_QUEUED_REQUESTS);
        let (release, go_on) = sync_channel(MAX_QUEUED_REQUESTS);
        (
            ModelWorker::start(Gate { begun, go_on }, Duration::ZERO, ServingMetrics::default().of("gate", 1)).unwrap(),
            batches,
            release,
        )
    }

    #[test]
    fn a_full_queue_refuses_and_what_was_accepted_is_answered_in_batches() {
        let (worker, batches, release) = gated();
        let first = worker.ask(vec![-1.0], true).unwrap();
        assert_eq!(batches.recv(), Ok(1));
        let waiting: Vec<_> = (0..MAX_QUEUED_REQUESTS).map(|n| worker.ask(vec![n as f32], true).unwrap()).collect();
        assert_eq!(worker.metrics.waiting.get(), MAX_QUEUED_REQUESTS as i64);
        assert_eq!(worker.ask(vec![0.0], true).unwrap_err(), ActError::Overloaded);
        for _ in 0..5 {
            release.send(()).unwrap();
        }
        assert_eq!(said(first), [-1.0]);
        for (n, answer) in waiting.into_iter().enumerate() {
            assert_eq!(said(answer), [n as f32]);
        }
        assert_eq!(batches.iter().take(4).collect::<Vec<_>>(), [MAX_BATCH_STATES; 4]);
        assert_eq!(worker.metrics.waiting.get(), 0);
    }

    #[test]
    fn stopping_answers_what_was_accepted_and_refuses_the_rest() {
        let (worker, batches, release) = gated();
        let (first, second) = (worker.ask(vec![1.0], true).unwrap(), worker.ask(vec![2.0], true).unwrap());
        batches.recv().unwrap();
        release.send(()).unwrap();
        release.send(()).unwrap();
        worker.stop();
        assert_eq!(said(first), [1.0]);
        assert_eq!(said(second), [2.0]);
        assert_eq!(worker.ask(vec![3.0], true).unwrap_err(), ActError::Stopped);
        worker.stop();
    }

    #[test]
    fn dropping_ends_the_thread_and_drops_the_model() {
        let (worker, batches, _release) = gated();
        drop(worker);
        assert!(batches.recv().is_err());
    }

    #[test]
    fn who_has_gone_away_is_not_computed() {
        let (worker, batches, release) = gated();
        let first = worker.ask(vec![1.0], true).unwrap();
        batches.recv().unwrap();
        drop(worker.ask(vec![2.0], true).unwrap());
        let third = worker.ask(vec![3.0], true).unwrap();
        release.send(()).unwrap();
        release.send(()).unwrap();
        first.blocking_recv().unwrap().unwrap();
        assert_eq!(said(third), [3.0]);
        assert_eq!(batches.recv(), Ok(1));
    }

    #[test]
    fn a_model_that_cannot_be_prepared_does_not_start() {
        struct Broken;
        impl ServingModel for Broken {
            fn prepare(&mut self) -> Result<(), ActError> {
                Err(ActError::Runtime("broken".into()))
            }

            fn width(&self) -> usize {
                1
            }

            fn evaluate(&mut self, _: &[f32], _: bool) -> InferenceResult {
                Ok(vec![])
            }
        }
        let refused = ModelWorker::start(Broken, Duration::ZERO, ServingMetrics::default().of("broken", 1)).map(drop);
        assert_eq!(refused, Err(ActError::Runtime("broken".into())));
    }

    #[test]
    fn a_request_of_many_states_gets_its_own_answers_back() {
        let (worker, batches, release) = gated();
        let first = worker.ask(vec![0.0], true).unwrap();
        batches.recv().unwrap();
        let many = worker.ask(vec![1.0, 2.0, 3.0], true).unwrap();
        let other = worker.ask(vec![4.0], false).unwrap();
        let more = worker.ask(vec![5.0, 6.0], true).unwrap();
        (0..3).for_each(|_| release.send(()).unwrap());
        assert_eq!(
            (said(first), said(many), said(more), said(other)),
            (vec![0.0], vec![1.0, 2.0, 3.0], vec![5.0, 6.0], vec![4.0])
        );
        assert_eq!(batches.iter().take(2).collect::<Vec<_>>(), [5, 1], "what must be exact goes by itself");
    }
}
