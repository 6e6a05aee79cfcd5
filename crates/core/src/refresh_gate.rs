//! Cached data that is read anew for a miss: another process may have written a moment ago what is not known here.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// Minimum time from the begin of one refresh to that of the next.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(20);

/// Lets one refresh run at a time and bounds their number, however many callers miss something.
#[derive(Debug, Default)]
pub struct RefreshGate {
    begun: AtomicU64,
    /// Number of the last refresh that succeeded.
    succeeded: AtomicU64,
    /// Begin of the last refresh; held while one runs.
    last: Mutex<Option<Instant>>,
}

impl RefreshGate {
    /// Run `refresh`, unless another caller's that began after this call has succeeded meanwhile: then what was written
    /// before this call is known too. At most 50 begin in a second; the callers between wait for the next.
    ///
    /// # Errors
    /// The error of `refresh`.
    pub async fn refresh<E>(&self, refresh: impl Future<Output = Result<(), E>> + Send) -> Result<(), E> {
        let before = self.begun.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        if self.succeeded.load(Ordering::Acquire) > before {
            return Ok(());
        }
        if let Some(last) = *last {
            sleep_until(last + MIN_REFRESH_INTERVAL).await;
        }
        *last = Some(Instant::now());
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        refresh.await?;
        self.succeeded.store(number, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A source with a number, and the number of times that it was read.
    #[derive(Default)]
    struct CountedSource {
        gate: RefreshGate,
        written: AtomicU64,
        known: AtomicU64,
        reads: AtomicU64,
    }

    impl CountedSource {
        async fn refresh(&self) -> Result<(), ()> {
            let read = async {
                self.reads.fetch_add(1, Ordering::SeqCst);
                let number = self.written.load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                self.known.store(number, Ordering::SeqCst);
                Ok(())
            };
            self.gate.refresh(read).await
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn storm_of_misses_is_few_reads_and_each_sees_what_was_written_before() {
        block_on(async {
            let source = Arc::new(CountedSource::default());
            let begun = Instant::now();
            let misses = (0..2000).map(|_| {
                let source = source.clone();
                tokio::spawn(async move {
                    let written = source.written.fetch_add(1, Ordering::SeqCst) + 1;
                    source.refresh().await.unwrap();
                    assert!(source.known.load(Ordering::SeqCst) >= written);
                })
            });
            for miss in misses.collect::<Vec<_>>() {
                miss.await.unwrap();
            }
            let most = begun.elapsed().as_millis() / MIN_REFRESH_INTERVAL.as_millis() + 2;
            assert!(u128::from(source.reads.load(Ordering::SeqCst)) <= most);
        });
    }

    #[test]
    fn failed_refresh_is_nobodys_answer() {
        block_on(async {
            let source = CountedSource::default();
            assert_eq!(source.gate.refresh(async { Err("no") }).await, Err("no"));
            source.refresh().await.unwrap();
            source.refresh().await.unwrap();
            assert_eq!(source.reads.load(Ordering::SeqCst), 2, "nothing was missed before the first ended");
        });
    }
}
