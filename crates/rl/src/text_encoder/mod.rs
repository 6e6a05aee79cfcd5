//! A sentence encoder of the form of all-MiniLM-L6-v2: texts to vectors of length 1, by libtorch on a thread of its own.
//!
//! The thread is started with the first text, and ends after a time without any: the memory is given back then. Each text is one
//! pass, so that its vector has the same bits whatever else is asked for.

mod bert;
#[cfg(test)]
mod test_place;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use bert::BertEncoder;

/// Requests that wait for the thread at most; more wait for a place.
const MAX_QUEUED_REQUESTS: usize = 16;
/// Attempts to hand a request to a thread, since one may be about to end.
const MAX_ATTEMPTS: usize = 3;

/// Why a text has no vector.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EncoderError {
    /// The files can't be read or are of another form.
    #[error("the sentence encoder can't be loaded: {0}")]
    Load(String),
    /// A pass failed.
    #[error("the sentence encoder failed: {0}")]
    Pass(String),
}

type EncodedTexts = Result<Vec<Vec<f32>>, EncoderError>;

struct EncodeRequest {
    texts: Vec<String>,
    reply: SyncSender<EncodedTexts>,
}

/// The present thread, if there is one.
#[derive(Default)]
struct EncoderThread {
    /// How many were started before it, and it.
    number: u64,
    queue: Option<SyncSender<EncodeRequest>>,
    handle: Option<JoinHandle<()>>,
}

struct EncoderInner {
    directory: PathBuf,
    idle: Duration,
    thread: Mutex<EncoderThread>,
    loads: Counter,
}

/// A sentence encoder. Cheap to clone.
#[derive(Clone)]
pub struct TextEncoder(Arc<EncoderInner>);

impl TextEncoder {
    /// The encoder of a directory with `model.safetensors` and `tokenizer.json`. Nothing is loaded before the first text; `loads`
    /// counts how often it was.
    ///
    /// # Errors
    /// [`EncoderError::Load`] when one of the files is not there.
    pub fn open(directory: &Path, idle: Duration, loads: Counter) -> Result<Self, EncoderError> {
        for name in [bert::WEIGHTS_FILE, bert::TOKENIZER_FILE] {
            let file = directory.join(name);
            if !file.is_file() {
                return Err(EncoderError::Load(format!("there is no file {}", file.display())));
            }
        }
        let (directory, thread) = (directory.to_owned(), Mutex::default());
        Ok(Self(Arc::new(EncoderInner { directory, idle, thread, loads })))
    }

    /// The vectors of texts: 384 numbers each, of length 1. It blocks until they are there, so it is not called in async code.
    ///
    /// # Errors
    /// [`EncoderError::Load`], where the files are not an encoder's; [`EncoderError::Pass`].
    pub fn encode(&self, texts: &[&str]) -> EncodedTexts {
        for _ in 0..MAX_ATTEMPTS {
            let (reply, answer) = sync_channel(1);
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            let (number, queue) = self.queue()?;
            if queue.send(EncodeRequest { texts, reply }).is_ok()
                && let Ok(answer) = answer.recv()
            {
                return answer;
            }
            // It has taken its last request, of its idleness, a failure or a panic: the next attempt starts another.
            self.0.forget(number);
        }
        Err(EncoderError::Pass("its thread ended".to_owned()))
    }

    /// The queue of a thread that runs, and the thread's number.
    fn queue(&self) -> Result<(u64, SyncSender<EncodeRequest>), EncoderError> {
        let mut thread = self.0.thread.lock();
        if let (Some(queue), Some(handle)) = (&thread.queue, &thread.handle)
            && !handle.is_finished()
        {
            return Ok((thread.number, queue.clone()));
        }
        let (queue, requests) = sync_channel(MAX_QUEUED_REQUESTS);
        let (directory, idle, loads) = (self.0.directory.clone(), self.0.idle, self.0.loads.clone());
        let run = move || encode_until_idle(&directory, &requests, idle, &loads);
        let handle = thread::Builder::new().name("text_encoder".to_owned()).spawn(run);
        let handle = handle.map_err(|error| EncoderError::Load(error.to_string()))?;
        let number = thread.number + 1;
        *thread = EncoderThread { number, queue: Some(queue.clone()), handle: Some(handle) };
        Ok((number, queue))
    }

    /// End the thread and return when it has ended. A later text starts another.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl EncoderThread {
    /// Take the thread from its place, in which its number stays.
    fn take(&mut self) -> Self {
        Self { number: self.number, queue: self.queue.take(), handle: self.handle.take() }
    }

    /// Wait until it has ended, once nobody can ask any more.
    fn join(self) {
        drop(self.queue);
        if self.handle.is_some_and(|handle| handle.join().is_err()) {
            tracing::error!("the sentence encoder's thread panicked");
        }
    }
}

impl EncoderInner {
    fn stop(&self) {
        let thread = self.thread.lock().take();
        thread.join();
    }

    /// End the thread of this number, if it is still the present one.
    fn forget(&self, number: u64) {
        let mut present = self.thread.lock();
        if present.number == number {
            let thread = present.take();
            drop(present);
            thread.join();
        }
    }
}

impl Drop for EncoderInner {
    /// Join the thread: libtorch must not be running while the process destroys its globals.
    fn drop(&mut self) {
        self.stop();
    }
}

/// Load the encoder and answer requests until none has come for the time `idle`, or nobody can ask any more.
fn encode_until_idle(directory: &Path, requests: &Receiver<EncodeRequest>, idle: Duration, loads: &Counter) {
    let encoder = BertEncoder::load(directory);
    match &encoder {
        Ok(_) => {
            loads.inc();
            tracing::info!(path = %directory.display(), "the sentence encoder is loaded");
        }
        Err(error) => tracing::error!(%error, "texts can't be encoded"),
    }
    loop {
        match requests.recv_timeout(idle) {
            Ok(EncodeRequest { texts, reply }) => {
                let answer = match &encoder {
                    Ok(encoder) => texts.iter().map(|text| encoder.encode(text)).collect(),
                    Err(error) => Err(error.clone()),
                };
                // Whoever has gone away needs no answer.
                let _ = reply.send(answer);
                if encoder.is_err() {
                    // The next text tries the files anew.
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{test_place::encoder_directory, *};

    #[test]
    fn files_that_are_missing_are_named() {
        let empty = tempfile::tempdir().unwrap();
        let error =
            TextEncoder::open(empty.path(), Duration::from_secs(1), Counter::default()).err().unwrap().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
    }

    /// The vectors that numpy computes from the same weights (`tests/fixtures/text_encoder.py`).
    #[test]
    fn vectors_are_those_of_the_package() {
        let encoder = TextEncoder::open(&encoder_directory(), Duration::from_secs(60), Counter::default()).unwrap();
        let cases: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../tests/fixtures/text_encoder.json")).unwrap();
        let texts: Vec<&str> = cases.iter().map(|case| case["text"].as_str().unwrap()).collect();
        let vectors = encoder.encode(&texts).unwrap();
        assert_eq!((vectors.len(), encoder.0.loads.get()), (cases.len(), 1));
        for (case, vector) in cases.iter().zip(&vectors) {
            let expected: Vec<f32> = serde_json::from_value(case["vector"].clone()).unwrap();
            let off = vector.iter().zip(&expected).map(|(one, other)| (one - other).abs()).fold(0.0_f32, f32::max);
            assert!(vector.len() == 384 && off < 1e-4, "{}: off by {off}", case["text"]);
        }
        assert_eq!(encoder.encode(&texts[2..3]).unwrap()[0], vectors[2], "the same bits by itself");
        assert!(encoder.encode(&[""]).unwrap()[0].iter().all(|number| *number == 0.0));
        encoder.stop();
        assert_eq!(encoder.encode(&texts[..1]).unwrap()[0], vectors[0], "it is loaded again");
        assert_eq!(encoder.0.loads.get(), 2);
    }

    /// The thread is gone after its idle time, and a text brings it back.
    #[test]
    fn an_idle_encoder_is_given_back() {
        let encoder = TextEncoder::open(&encoder_directory(), Duration::from_millis(1), Counter::default()).unwrap();
        let first = encoder.encode(&["a text"]).unwrap();
        let handle = encoder.0.thread.lock().handle.take().unwrap();
        handle.join().unwrap();
        assert_eq!(encoder.encode(&["a text"]).unwrap(), first);
        assert!(encoder.0.loads.get() >= 2);
    }

    #[test]
    fn files_of_another_form_are_refused_and_read_anew() {
        let place = tempfile::tempdir().unwrap();
        for name in [bert::WEIGHTS_FILE, bert::TOKENIZER_FILE] {
            std::fs::write(place.path().join(name), "not this").unwrap();
        }
        let encoder = TextEncoder::open(place.path(), Duration::from_secs(60), Counter::default()).unwrap();
        // Again and again, since a thread that has failed takes a moment to end.
        for _ in 0..200 {
            let answer = encoder.encode(&["a text"]);
            assert!(matches!(answer, Err(EncoderError::Load(_))), "{answer:?}");
        }
    }
}
