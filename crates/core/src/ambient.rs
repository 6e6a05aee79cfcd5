//! Time, randomness and identifiers. Rooms take them from here and never from the operating system, so that a
//! test can set the clock and repeat the ids.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, SubsecRound, Utc};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio_util::sync::CancellationToken;

/// Wall-clock time, to the microsecond (what the coordinator's timestamps hold).
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
        Self(Arc::new(|| Utc::now().trunc_subsecs(6)))
    }

    /// A clock that answers whatever `read` does.
    pub fn from_fn(read: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The present moment.
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}

/// Identifiers and randomness.
#[derive(Clone)]
pub struct Ids(Arc<Mutex<Source>>);

struct Source {
    rng: StdRng,
    /// The next number of the sequence.
    next: u64,
}

impl Source {
    fn new(mut rng: StdRng) -> Self {
        let next = rng.next_u64();
        Self { rng, next }
    }
}

impl Ids {
    /// Seeded by the operating system.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn system() -> std::io::Result<Self> {
        let rng = StdRng::try_from_rng(&mut rand::rngs::SysRng).map_err(std::io::Error::other)?;
        Ok(Self(Arc::new(Mutex::new(Source::new(rng)))))
    }

    /// The same sequence for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Source::new(StdRng::seed_from_u64(seed)))))
    }

    /// `digits` (at most 32) random hex digits.
    pub fn hex(&self, digits: usize) -> String {
        let mut text = format!(
            "{:032x}",
            self.with(|source| source.rng.next_u64() as u128 | (source.rng.next_u64() as u128) << 64)
        );
        text.truncate(digits);
        text
    }

    /// `prefix` and `digits` (at most 16) hex digits that follow the ones before: a key of a table, where neighbours share
    /// an index page. Random keys make a commit write a page for each index of each row.
    pub fn next(&self, prefix: &str, digits: usize) -> String {
        let number = self.with(|source| {
            source.next = source.next.wrapping_add(1);
            source.next
        });
        let text = format!("{number:016x}");
        format!("{prefix}{}", &text[text.len() - digits.min(text.len())..])
    }

    /// Go on with [`Ids::next`] elsewhere, at random: what follows is taken.
    pub fn jump(&self) {
        self.with(|source| source.next = source.rng.next_u64());
    }

    /// `prefix` and `digits` random hex digits, the coordinator's form of an identifier.
    pub fn prefixed(&self, prefix: &str, digits: usize) -> String {
        format!("{prefix}{}", self.hex(digits))
    }

    /// A number in `0.0..1.0`.
    pub fn fraction(&self) -> f64 {
        self.with(|source| (source.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// 64 random bits.
    pub fn number(&self) -> u64 {
        self.with(|source| source.rng.next_u64())
    }

    fn with<T>(&self, draw: impl FnOnce(&mut Source) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Wait, unless `stop` is asked for. False: it was, and whoever looks now and then looks no more.
pub async fn pause(stop: &CancellationToken, wait: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(wait) => true,
    }
}

/// What `kill -9` does, from within: no destructor runs, nothing is flushed.
#[cfg(feature = "failpoints")]
pub fn kill_self() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_each_other_until_told_to_go_elsewhere() {
        let ids = Ids::seeded(7);
        let number = |text: String| u64::from_str_radix(text.strip_prefix("exec_").unwrap(), 16).unwrap();
        let (first, second) = (number(ids.next("exec_", 10)), number(ids.next("exec_", 10)));
        assert_eq!((first + 1) % (1 << 40), second);
        ids.jump();
        assert!(number(ids.next("exec_", 10)).abs_diff(second) > 1000);
        assert_eq!(ids.next("agent_", 8).len(), "agent_".len() + 8);
    }
}
