//! Which clock the coordinator keeps in its table `job`: as the operator says, or as its rows and tables show.

use chrono::{DateTime, TimeDelta, Utc};

use super::queue_view::{self, FoundJob};
use am_core::{boxed, config::JobClockSetting};
use am_db::{
    Database, Result,
    job_clock::{JobClock, suggested_clock},
};

/// How much later than now a time may be that another machine's clock gave.
const FUTURE_TOLERANCE: TimeDelta = TimeDelta::minutes(5);
/// Age up to which a row counts as just made when it is seen for the first time.
const FRESH: TimeDelta = TimeDelta::minutes(3);
/// Difference of the clocks from which they are told apart.
const APART: TimeDelta = TimeDelta::minutes(10);

/// Select the clock for all times of table `job`.
///
/// # Errors
/// As the database.
#[boxed]
pub async fn settle_clock(db: &Database, setting: JobClockSetting, now: DateTime<Utc>) -> Result<JobClock> {
    let (clock, reason) = match setting {
        JobClockSetting::Local => (JobClock::Local, "COORDINATOR_JOB_CLOCK says so"),
        JobClockSetting::Utc => (JobClock::Utc, "COORDINATOR_JOB_CLOCK says so"),
        JobClockSetting::Auto => {
            let mut conn = db.read().await?;
            let times = queue_view::store::times_of_others(&mut conn).await?;
            match times.iter().find_map(|at| clock_of(at.0, now)) {
                Some(clock) => (clock, "a row of the coordinator would lie in the future by the other clock"),
                None => (suggested_clock(&mut conn).await?, "the coordinator's tables suggest it"),
            }
        }
    };
    clock.select();
    if is_apart(now) {
        tracing::info!(clock = clock.name(), reason, "the clock of the coordinator's table job is selected");
    }
    Ok(clock)
}

/// Whether the two clocks differ on this machine.
fn is_apart(now: DateTime<Utc>) -> bool {
    (JobClock::Utc.read(JobClock::Local.stored(now)) - now).abs() >= APART
}

/// The clock in which a time, here as it is read in UTC, does not lie in the future; null: both or none.
fn clock_of(stored: DateTime<Utc>, now: DateTime<Utc>) -> Option<JobClock> {
    let is_future = |clock: JobClock| clock.read(stored.naive_utc()) > now + FUTURE_TOLERANCE;
    match (is_future(JobClock::Utc), is_future(JobClock::Local)) {
        (true, false) => Some(JobClock::Local),
        (false, true) => Some(JobClock::Utc),
        _ => None,
    }
}

/// Select the other clock if a row that has just appeared is of this moment by the other one only. Rows of this service are of
/// this moment by the present one. Answers whether it did.
pub(super) fn correct_clock(fresh: &[FoundJob], now: DateTime<Utc>) -> bool {
    let clock = JobClock::current();
    let contradicts = |job: &FoundJob| {
        let by_other = clock.other().read(clock.stored(job.requested_at));
        (now - job.requested_at).abs() > APART && (now - by_other).abs() < FRESH
    };
    let found = fresh.iter().find(|job| contradicts(job));
    if let Some(job) = found {
        clock.other().select();
        tracing::warn!(
            job = %job.id,
            clock = clock.other().name(),
            "a new row of the coordinator's table job is in the other clock, which is used from now on"
        );
    }
    found.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Under UTC both clocks are one, and nothing is ever contradicted.
    #[test]
    fn a_time_tells_the_clock_only_where_they_differ() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        for hours in -14..=14 {
            let at = now + TimeDelta::hours(hours);
            let told = clock_of(at, now);
            if let Some(clock) = told {
                assert!(is_apart(now), "{hours}");
                assert!(clock.read(at.naive_utc()) <= now + FUTURE_TOLERANCE, "{hours}");
            }
        }
    }
}
