//! Time, randomness and identifiers. All other modules take them from here and never from the operating system, so that
//! a test can set the clock and repeat the identifiers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound, Utc};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio_util::sync::CancellationToken;

/// Wall-clock time in UTC with a resolution of one microsecond, the resolution of the coordinator's timestamps; and time
/// that passes evenly, whatever becomes of the wall clock.
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    steady: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// The clock of the operating system.
    pub fn system() -> Self {
        let (origin, lead) = (Instant::now(), system_clock_lead());
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
        let wall = move || Utc::now().trunc_subsecs(6) + lead;
        Self { wall: Arc::new(wall), steady: Arc::new(move || origin.elapsed()) }
    }

    /// A clock that returns the result of `read`, for tests. Its even time is that of `read`, too.
    pub fn from_fn(read: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        let wall = Arc::new(read);
        let read = wall.clone();
        Self { wall, steady: Arc::new(move || (read() - DateTime::UNIX_EPOCH).to_std().unwrap_or_default()) }
    }

    /// A clock whose wall time and even time are set apart, for tests.
    pub fn from_parts(
        wall: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
        steady: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self { wall: Arc::new(wall), steady: Arc::new(steady) }
    }

    /// The current time.
    pub fn now(&self) -> DateTime<Utc> {
        (self.wall)()
    }

    /// The time since some moment, which passes evenly: for durations within the life of a process.
    pub fn elapsed(&self) -> Duration {
        (self.steady)()
    }

    /// A clock that says `start` now, and then goes evenly.
    pub fn steady_from(&self, start: DateTime<Utc>) -> SteadyClock {
        SteadyClock { clock: self.clone(), start, origin: self.elapsed() }
    }
}

/// How far the clock of this process is ahead of the system's: `CLOCK_AHEAD_SECONDS`, so that tests of a real process can let days
/// pass while it is down.
#[cfg(feature = "failpoints")]
fn system_clock_lead() -> chrono::TimeDelta {
    let seconds = std::env::var("CLOCK_AHEAD_SECONDS").ok().and_then(|text| text.parse().ok());
    seconds.and_then(chrono::TimeDelta::try_seconds).unwrap_or_default()
}

/// Nothing without feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
fn system_clock_lead() -> chrono::TimeDelta {
    chrono::TimeDelta::zero()
}

/// Time in UTC that goes evenly from a moment on, although the wall clock may be set meanwhile.
#[derive(Clone)]
pub struct SteadyClock {
    clock: Clock,
    start: DateTime<Utc>,
    origin: Duration,
}

impl SteadyClock {
    /// The current time, as the wall clock would say if nobody had set it since the start.
    pub fn now(&self) -> DateTime<Utc> {
        let passed = self.clock.elapsed().saturating_sub(self.origin);
        let passed = chrono::Duration::from_std(passed).unwrap_or_default();
        self.start.checked_add_signed(passed).unwrap_or(self.start).trunc_subsecs(6)
    }
}

/// Generator of identifiers and random numbers. Cheap to clone; clones share one sequence.
#[derive(Clone)]
pub struct IdGenerator(Arc<Mutex<RandomSource>>);

struct RandomSource {
    rng: StdRng,
    /// Last numbers of the sequences behind [`IdGenerator::next`], by the number of digits.
    last: [u64; MAX_SEQUENCE_DIGITS + 1],
}

/// Largest number of digits of an identifier of a sequence.
const MAX_SEQUENCE_DIGITS: usize = 16;

/// Digits of a sequence that its steps leave alone: so many numbers there are at least before it begins anew.
const COUNTED_DIGITS: usize = 7;

impl RandomSource {
    fn new(rng: StdRng) -> Self {
        let mut source = Self { rng, last: [0; MAX_SEQUENCE_DIGITS + 1] };
        source.reseed();
        source
    }

    fn reseed(&mut self) {
        self.last = std::array::from_fn(|_| self.rng.next_u64());
    }
}

impl IdGenerator {
    /// A generator seeded by the operating system.
    ///
    /// # Errors
    /// Fails when the operating system provides no randomness.
    pub fn system() -> std::io::Result<Self> {
        let rng = StdRng::try_from_rng(&mut rand::rngs::SysRng).map_err(std::io::Error::other)?;
        Ok(Self(Arc::new(Mutex::new(RandomSource::new(rng)))))
    }

    /// A generator that yields the same sequence for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(RandomSource::new(StdRng::seed_from_u64(seed)))))
    }

    /// Random lower-case hex digits: `digits` of them, at most 32.
    pub fn hex(&self, digits: usize) -> String {
        let mut text = format!(
            "{:032x}",
            self.with(|source| source.rng.next_u64() as u128 | (source.rng.next_u64() as u128) << 64)
        );
        text.truncate(digits);
        text
    }

    /// A random UUID (RFC 9562, version 4) of 32 hex digits without hyphens: the coordinator's form of a job's id.
    pub fn uuid(&self) -> String {
        let bytes = self.with(|source| {
            let mut bytes = [0; 16];
            source.rng.fill_bytes(&mut bytes);
            bytes
        });
        uuid::Builder::from_random_bytes(bytes).into_uuid().simple().to_string()
    }

    /// An identifier for a table's key: `prefix` and `digits` (8 to 16) hex digits, each number above the one before, so
    /// that neighbours share an index page. With random keys a commit writes one page per index and row. The steps are
    /// random: an identifier tells neither the next one nor how many there are.
    pub fn next(&self, prefix: &str, digits: usize) -> String {
        let digits = digits.min(MAX_SEQUENCE_DIGITS);
        let largest_step = 1u64 << (4 * digits.saturating_sub(COUNTED_DIGITS));
        let number = self.with(|source| {
            let step = 1 + source.rng.next_u64() % largest_step;
            source.last[digits] = source.last[digits].wrapping_add(step);
            source.last[digits]
        });
        let text = format!("{number:016x}");
        format!("{prefix}{}", &text[text.len() - digits..])
    }

    /// Restart the sequences of [`IdGenerator::next`] at random numbers, for when their next numbers are taken already.
    pub fn reseed_sequence(&self) {
        self.with(RandomSource::reseed);
    }

    /// An identifier in the coordinator's form: `prefix` and `digits` (at most 32) random hex digits.
    pub fn random_id(&self, prefix: &str, digits: usize) -> String {
        format!("{prefix}{}", self.hex(digits))
    }

    /// A random number from the half-open range `0.0..1.0`.
    pub fn fraction(&self) -> f64 {
        self.with(|source| (source.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// 64 random bits.
    pub fn number(&self) -> u64 {
        self.with(|source| source.rng.next_u64())
    }

    fn with<T>(&self, draw: impl FnOnce(&mut RandomSource) -> T) -> T {
        draw(&mut self.0.lock())
    }
}

/// Sleep for `wait`, or until `stop` is cancelled. Returns false when it was cancelled, which ends a polling loop.
pub async fn sleep_or_cancelled(stop: &CancellationToken, wait: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(wait) => true,
    }
}

/// Kill the own process with SIGKILL: no destructor runs and nothing is flushed.
#[cfg(feature = "failpoints")]
pub fn kill_self() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lie_near_each_other_and_tell_nothing_of_the_next() {
        let ids = IdGenerator::seeded(7);
        let number = |text: String| u64::from_str_radix(text.strip_prefix("exec_").unwrap(), 16).unwrap();
        let drawn: Vec<u64> = (0..1000).map(|_| number(ids.next("exec_", 10))).collect();
        let steps: Vec<u64> = drawn.windows(2).map(|two| two[1].wrapping_sub(two[0]) % (1 << 40)).collect();
        assert!(steps.iter().all(|step| (1..=4096).contains(step)), "{steps:?}");
        let different: std::collections::BTreeSet<&u64> = steps.iter().collect();
        assert!(different.len() > 800, "{} different steps", different.len());
        ids.reseed_sequence();
        assert!(number(ids.next("exec_", 10)).abs_diff(drawn[999]) > 4096);
        for digits in [8, 12, 16] {
            assert_eq!(ids.next("x_", digits).len(), "x_".len() + digits);
        }
    }

    #[test]
    fn a_uuid_is_random_and_of_version_4() {
        let ids = IdGenerator::seeded(7);
        let (first, second) = (ids.uuid(), ids.uuid());
        assert_ne!(first, second);
        let read: uuid::Uuid = first.parse().unwrap();
        assert_eq!((read.get_version_num(), read.simple().to_string()), (4, first));
    }
}
