//! Estimate of a job's completion from the durations of the last completed jobs of its service. Without any, there is
//! no estimate.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::JobState;
use am_db::codec::Timestamp;

/// Number of completed jobs that an estimate uses.
pub(super) const ESTIMATE_SAMPLE: usize = 50;

/// Durations of a completed job, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct JobDuration {
    /// Seconds from the submission to the end.
    pub(super) all: f64,
    /// Seconds from when a miner took the job, if that was noticed.
    pub(super) run: Option<f64>,
}

/// Estimated completion of a job, with its basis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = JobEstimate)]
pub struct JobEstimate {
    /// Estimated time of completion; null without an estimate.
    pub estimated_completion: Option<Timestamp>,
    /// Number of completed jobs of the service that the estimate uses, at most 50.
    pub from_jobs: usize,
    /// Median of their seconds from submission to end; null without an estimate.
    pub median_seconds: Option<f64>,
    /// Reason why there is no estimate; null when there is one.
    pub reason: Option<String>,
}

/// Progress of a job.
pub(super) struct JobProgress {
    pub(super) state: JobState,
    pub(super) requested_at: DateTime<Utc>,
    pub(super) running_at: Option<DateTime<Utc>>,
}

/// Estimate for a job in this state at `now`, from the durations of completed jobs.
pub(super) fn estimate_completion(took: &[JobDuration], job: &JobProgress, now: DateTime<Utc>) -> JobEstimate {
    if job.state.is_final() {
        return JobEstimate { reason: Some("the job has ended".to_owned()), ..JobEstimate::default() };
    }
    let Some(all) = median(took.iter().map(|took| took.all)) else {
        return JobEstimate {
            reason: Some("no job of this service has been completed yet".to_owned()),
            ..JobEstimate::default()
        };
    };
    let run = median(took.iter().map(|took| took.run.unwrap_or(took.all))).unwrap_or(all);
    let after = |from: DateTime<Utc>, seconds: f64| from + TimeDelta::microseconds((seconds * 1e6) as i64);
    let at = match job.running_at.filter(|_| job.state == JobState::Running) {
        Some(since) => after(since, run).max(now),
        // A job that has waited longer than the others did still has its run ahead.
        None => after(job.requested_at, all).max(after(now, run)),
    };
    JobEstimate {
        estimated_completion: Some(Timestamp(at)),
        from_jobs: took.len(),
        median_seconds: Some(all),
        reason: None,
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 0 => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_what_the_last_ones_took() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let took = [(60.0, Some(20.0)), (10.0, None), (40.0, Some(30.0))].map(|(all, run)| JobDuration { all, run });
        let of = |state, running_at, now| {
            let job = JobProgress { state, requested_at: at(0), running_at };
            estimate_completion(&took, &job, now).estimated_completion.map(|at| at.0)
        };
        assert_eq!(of(JobState::Queued, None, at(1)), Some(at(40)));
        assert_eq!(of(JobState::Queued, None, at(35)), Some(at(55)), "its run is still before it");
        assert_eq!(of(JobState::Running, Some(at(5)), at(6)), Some(at(25)));
        assert_eq!(of(JobState::Running, Some(at(5)), at(90)), Some(at(90)), "never in the past");
        assert_eq!(of(JobState::Completed, None, at(90)), None);
        let job = JobProgress { state: JobState::Queued, requested_at: at(0), running_at: None };
        let none = estimate_completion(&[], &job, at(0));
        assert!(none.estimated_completion.is_none() && none.reason.is_some(), "nothing is made up");
        let two = estimate_completion(&took[1..], &job, at(0));
        assert_eq!((two.from_jobs, two.median_seconds), (2, Some(25.0)));
    }
}
