//! A thread that owns a model, behind a bounded queue.
//!
//! libtorch blocks, so no task of the runtime calls it. The thread takes whatever waits, at most [`BATCH`] requests and
//! without waiting for more, and answers them together. A full queue refuses at once.

use std::{
    sync::{Mutex, PoisonError, RwLock, mpsc::sync_channel},
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};

use super::{metrics::PolicyMetrics, model::Error, network::Evaluation};

/// How many requests may wait.
const QUEUE: usize = 256;
/// How many are answered together.
const BATCH: usize = 64;

/// What a worker's thread runs. A trait, so that a test can put something in that waits for it.
pub(super) trait Model: Send + 'static {
    /// Called once on the thread, before the first batch.
    fn prepare(&mut self) -> Result<(), Error>;
    /// One evaluation for each state, in their order.
    fn evaluate(&mut self, states: &[Vec<f32>]) -> Result<Vec<Evaluation>, Error>;
}

/// What a request gets.
pub(super) type Answer = Result<Evaluation, Error>;

struct Request {
    state: Vec<f32>,
    accepted: Instant,
    reply: oneshot::Sender<Answer>,
}

/// A thread that owns a model, and the way in. Ends when dropped or stopped.
pub(super) struct Worker {
    /// `None` once stopped.
    queue: RwLock<Option<mpsc::Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    metrics: PolicyMetrics,
}

impl Worker {
    /// Returns when the model is prepared.
    pub(super) fn start(mut model: impl Model, metrics: PolicyMetrics) -> Result<Self, Error> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let (ready, prepared) = sync_channel(1);
        let own_metrics = metrics.clone();
        let thread = thread::Builder::new().name("policy".to_owned()).spawn(move || {
            let outcome = model.prepare();
            let good = outcome.is_ok();
            if ready.send(outcome).is_ok() && good {
                serve(&mut model, requests, &own_metrics);
            }
        });
        let thread = thread.map_err(|error| Error::Runtime(error.to_string()))?;
        prepared.recv().map_err(|_| Error::Stopped)??;
        Ok(Self { queue: RwLock::new(Some(queue)), thread: Mutex::new(Some(thread)), metrics })
    }

    /// Puts a state into the queue; never waits.
    pub(super) fn ask(&self, state: Vec<f32>) -> Result<oneshot::Receiver<Answer>, Error> {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let queue = queue.as_ref().ok_or(Error::Stopped)?;
        let place = queue.try_reserve().map_err(|refusal| match refusal {
            mpsc::error::TrySendError::Full(()) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(()) => Error::Stopped,
        })?;
        let (reply, answer) = oneshot::channel();
        self.metrics.waiting.inc();
        place.send(Request { state, accepted: Instant::now(), reply });
        Ok(answer)
    }

    /// Answers what waits, ends the thread and returns when it has ended.
    pub(super) fn stop(&self) {
        drop(self.queue.write().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a policy's thread panicked");
        }
    }
}

impl Drop for Worker {
    /// Joins the thread: libtorch must not be at work while the process takes its globals down.
    fn drop(&mut self) {
        self.stop();
    }
}

/// Answers until every sender is gone and the queue is empty.
fn serve(model: &mut impl Model, mut requests: mpsc::Receiver<Request>, metrics: &PolicyMetrics) {
    let mut batch = Vec::with_capacity(BATCH);
    while requests.blocking_recv_many(&mut batch, BATCH) > 0 {
        metrics.waiting.dec_by(batch.len() as i64);
        // Whoever has gone away meanwhile needs no answer.
        batch.retain(|request| !request.reply.is_closed());
        if batch.is_empty() {
            continue;
        }
        let states: Vec<_> = batch.iter_mut().map(|request| std::mem::take(&mut request.state)).collect();
        let answers: Vec<Answer> = match model.evaluate(&states) {
            Ok(evaluations) => evaluations.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); batch.len()],
        };
        for (request, answer) in batch.drain(..).zip(answers) {
            metrics.latency.observe(request.accepted.elapsed().as_secs_f64());
            // Gone away during the forward pass: nobody to tell.
            let _ = request.reply.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender};

    use super::*;
    use crate::rl::metrics::Metrics;

    /// Tells of each batch as it begins and goes on when told to; its value is the sum of the state.
    struct Gate {
        begun: SyncSender<usize>,
        go_on: Receiver<()>,
    }

    impl Model for Gate {
        fn prepare(&mut self) -> Result<(), Error> {
            Ok(())
        }

        fn evaluate(&mut self, states: &[Vec<f32>]) -> Result<Vec<Evaluation>, Error> {
            self.begun.send(states.len()).unwrap();
            self.go_on.recv().unwrap();
            let sum = |state: &Vec<f32>| Evaluation::Values { q: vec![state.iter().sum()] };
            Ok(states.iter().map(sum).collect())
        }
    }

    /// What the gate answered.
    fn sum(answer: oneshot::Receiver<Answer>) -> f32 {
        let Evaluation::Values { q } = answer.blocking_recv().unwrap().unwrap() else { panic!() };
        q[0]
    }

    fn gated() -> (Worker, Receiver<usize>, SyncSender<()>) {
        let (begun, batches) = sync_channel(QUEUE);
        let (release, go_on) = sync_channel(QUEUE);
        (Worker::start(Gate { begun, go_on }, Metrics::default().of("gate", 1)).unwrap(), batches, release)
    }

    #[test]
    fn a_full_queue_refuses_and_what_was_accepted_is_answered_in_batches() {
        let (worker, batches, release) = gated();
        let first = worker.ask(vec![-1.0]).unwrap();
        assert_eq!(batches.recv(), Ok(1));
        let waiting: Vec<_> = (0..QUEUE).map(|n| worker.ask(vec![n as f32]).unwrap()).collect();
        assert_eq!(worker.metrics.waiting.get(), QUEUE as i64);
        assert_eq!(worker.ask(vec![0.0]).unwrap_err(), Error::Overloaded);
        for _ in 0..5 {
            release.send(()).unwrap();
        }
        assert_eq!(sum(first), -1.0);
        for (n, answer) in waiting.into_iter().enumerate() {
            assert_eq!(sum(answer), n as f32);
        }
        assert_eq!(batches.iter().take(4).collect::<Vec<_>>(), [BATCH; 4]);
        assert_eq!(worker.metrics.waiting.get(), 0);
    }

    #[test]
    fn stopping_answers_what_was_accepted_and_refuses_the_rest() {
        let (worker, batches, release) = gated();
        let (first, second) = (worker.ask(vec![1.0]).unwrap(), worker.ask(vec![2.0]).unwrap());
        batches.recv().unwrap();
        release.send(()).unwrap();
        release.send(()).unwrap();
        worker.stop();
        assert_eq!(sum(first), 1.0);
        assert_eq!(sum(second), 2.0);
        assert_eq!(worker.ask(vec![3.0]).unwrap_err(), Error::Stopped);
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
        let first = worker.ask(vec![1.0]).unwrap();
        batches.recv().unwrap();
        drop(worker.ask(vec![2.0]).unwrap());
        let third = worker.ask(vec![3.0]).unwrap();
        release.send(()).unwrap();
        release.send(()).unwrap();
        first.blocking_recv().unwrap().unwrap();
        assert_eq!(sum(third), 3.0);
        assert_eq!(batches.recv(), Ok(1));
    }

    #[test]
    fn a_model_that_cannot_be_prepared_does_not_start() {
        struct Broken;
        impl Model for Broken {
            fn prepare(&mut self) -> Result<(), Error> {
                Err(Error::Runtime("broken".into()))
            }

            fn evaluate(&mut self, _: &[Vec<f32>]) -> Result<Vec<Evaluation>, Error> {
                Ok(vec![])
            }
        }
        let refused = Worker::start(Broken, Metrics::default().of("broken", 1)).map(drop);
        assert_eq!(refused, Err(Error::Runtime("broken".into())));
    }
}
