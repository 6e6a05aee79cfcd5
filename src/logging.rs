//! Log lines to standard error: collected by the logging threads, written together by a separate thread a few
//! milliseconds later. A queue that wakes its thread for each line took a fifth of the time of a short request.

use std::{
    io::{self, Write},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing_subscriber::fmt::MakeWriter;

/// Time for which lines are collected.
const FLUSH_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum number of buffered bytes while the reader is too slow; further lines are dropped and counted.
const MAX_BUFFERED_BYTES: usize = 8 << 20;

#[derive(Default)]
struct LogBuffer {
    lines: Vec<u8>,
    dropped: u64,
    /// Whether the thread waits for a first line.
    idle: bool,
    closed: bool,
}

#[derive(Default)]
struct LogQueue {
    state: Mutex<LogBuffer>,
    work: Condvar,
}

impl LogQueue {
    fn lock(&self) -> MutexGuard<'_, LogBuffer> {
        self.state.lock()
    }

    /// Return the collected lines; `None` when it is closed and everything was taken.
    fn take(&self) -> Option<(Vec<u8>, u64)> {
        let mut state = self.lock();
        while state.lines.is_empty() && !state.closed {
            state.idle = true;
            self.work.wait(&mut state);
        }
        state.idle = false;
        if !state.closed {
            // Wait until the time is up or it is closed, whichever is first.
            self.work.wait_while_for(&mut state, |state| !state.closed, FLUSH_INTERVAL);
        }
        let taken = (std::mem::take(&mut state.lines), std::mem::take(&mut state.dropped));
        (!taken.0.is_empty() || !state.closed).then_some(taken)
    }
}

/// Writer for `tracing_subscriber`.
#[derive(Clone)]
pub struct LogWriter(Arc<LogQueue>);

/// Guard that writes the remaining lines when it is dropped.
pub struct LogGuard {
    shared: Arc<LogQueue>,
    thread: Option<JoinHandle<()>>,
}

/// Create a writer whose lines a separate thread writes to `out`.
///
/// # Errors
/// When the operating system cannot start a thread.
pub fn spawn_log_writer(mut out: impl Write + Send + 'static) -> io::Result<(LogWriter, LogGuard)> {
    let shared = Arc::new(LogQueue::default());
    let taking = shared.clone();
    let thread = std::thread::Builder::new().name("log".into()).spawn(move || {
        while let Some((lines, dropped)) = taking.take() {
            // An error of writing the log cannot be reported anywhere.
            let _ = out.write_all(&lines);
            if dropped > 0 {
                let _ = writeln!(out, "{{\"level\":\"WARN\",\"message\":\"{dropped} log lines were dropped\"}}");
            }
            let _ = out.flush();
        }
    })?;
    Ok((LogWriter(shared.clone()), LogGuard { shared, thread: Some(thread) }))
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.lines.len() + line.len() > MAX_BUFFERED_BYTES {
            state.dropped += 1;
        } else {
            state.lines.extend_from_slice(line);
        }
        if std::mem::take(&mut state.idle) {
            self.0.work.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_once_by_the_end() {
        let sink = Sink::default();
        let (lines, guard) = spawn_log_writer(sink.clone()).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let mut lines = lines.clone();
                std::thread::spawn(move || {
                    (0..500).for_each(|n| lines.write_all(format!("{thread} {n}\n").as_bytes()).unwrap())
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drop(guard);
        let text = String::from_utf8(sink.0.lock().clone()).unwrap();
        for thread in 0..4 {
            let prefix = format!("{thread} ");
            let seen: Vec<usize> =
                text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(|n| n.parse().unwrap()).collect();
            assert_eq!(seen, (0..500).collect::<Vec<_>>(), "in the order of thread {thread}");
        }
    }

    #[test]
    fn what_is_too_much_is_dropped_and_told() {
        let shared = Arc::new(LogQueue::default());
        let mut lines = LogWriter(shared.clone());
        lines.write_all(&vec![b'x'; MAX_BUFFERED_BYTES]).unwrap();
        lines.write_all(b"one more\n").unwrap();
        shared.lock().closed = true;
        let (text, dropped) = shared.take().unwrap();
        assert_eq!((text.len(), dropped), (MAX_BUFFERED_BYTES, 1));
        assert!(shared.take().is_none());
    }
}
