//! A job's states as a stream of frames. Frames are derived from the job's row, not stored, so that the stream is
//! available for every job, in any process, and again after any frame.

use serde_json::{Value, json};

use super::{
    error::Result,
    estimate::JobEstimate,
    job_queue::JobQueue,
    model::{JobRecord, JobState, JobViewer},
    queue_watcher::StateSubscription,
};
use am_core::boxed;
use am_core::ids::JobId;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobFrameKind {
    /// The job has reached a state.
    State,
    /// The miner has delivered a result.
    Result,
    /// The stream has ended.
    End,
}

impl JobFrameKind {
    /// The name of the event that carries such a frame.
    pub fn word(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Result => "result",
            Self::End => "end",
        }
    }
}

/// A frame of a job's stream.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFrame {
    /// Sequence number: 1 queued, 2 running, 3 ended, 4 the result, 5 the end of the stream. Numbers that don't apply
    /// are skipped.
    pub seq: u64,
    /// What the frame tells of.
    pub kind: JobFrameKind,
    /// Data of the frame, depending on its kind.
    pub data: Value,
}

/// Stream of the frames of a job that were not sent yet.
pub struct JobFollower {
    jobs: JobQueue,
    who: JobViewer,
    id: JobId,
    after: u64,
    interest: StateSubscription,
    done: bool,
}

impl JobQueue {
    /// Follow a job, starting after frame number `after`.
    ///
    /// # Errors
    /// Same as [`JobQueue::get`].
    #[boxed]
    pub async fn follow(&self, who: &JobViewer, id: &JobId, after: u64) -> Result<JobFollower> {
        self.get(who, id).await?;
        let interest = self.subscribe_state(id);
        Ok(JobFollower { jobs: self.clone(), who: who.clone(), id: id.clone(), after, interest, done: false })
    }
}

/// Number of the frame that ends each stream.
const LAST_FRAME: u64 = 5;

impl JobFollower {
    /// Whether the job has ended and there is no frame after the number that was asked for, nor will be.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn is_exhausted(&self) -> Result<bool> {
        Ok(self.after >= LAST_FRAME && self.jobs.get(&self.who, &self.id).await?.is_final())
    }

    /// The next frames; `None` when the job has ended and all frames were returned, or at a shutdown.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn next(&mut self) -> Result<Option<Vec<JobFrame>>> {
        loop {
            if self.done || self.jobs.is_stopping() {
                return Ok(None);
            }
            let job = self.jobs.get(&self.who, &self.id).await?;
            let estimate = self.jobs.estimate(&job).await?;
            self.done = job.is_final();
            let all = job_frames(&job, self.jobs.position(&job), &estimate);
            let news: Vec<JobFrame> = all.into_iter().filter(|frame| frame.seq > self.after).collect();
            if let Some(last) = news.last() {
                self.after = last.seq;
                return Ok(Some(news));
            }
            if !self.done {
                self.interest.changed().await;
            }
        }
    }
}

fn job_frames(job: &JobRecord, position: Option<usize>, estimate: &JobEstimate) -> Vec<JobFrame> {
    let state = |seq, state: JobState, more: Value| {
        let mut data = json!({"job_id": job.id, "status": state});
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        JobFrame { seq, kind: JobFrameKind::State, data }
    };
    let queued = json!({
        "requested_at": job.requested_at, "expires_at": job.expires_at, "position": position,
        "estimated_completion": estimate.estimated_completion,
    });
    let mut frames = vec![state(1, JobState::Queued, queued)];
    if job.state == Some(JobState::Running) || job.miner.is_some() {
        let running = json!({"miner": job.miner, "running_at": job.running_at});
        frames.push(state(2, JobState::Running, running));
    }
    if let Some(last) = job.state.filter(|state| state.is_final()) {
        frames.push(state(3, last, json!({"error": job.error})));
        if last == JobState::Completed {
            frames.push(JobFrame {
                seq: 4,
                kind: JobFrameKind::Result,
                data: json!({"job_id": job.id, "result": job.result}),
            });
        }
        frames.push(JobFrame {
            seq: LAST_FRAME,
            kind: JobFrameKind::End,
            data: json!({"job_id": job.id, "status": last}),
        });
    }
    frames
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use am_db::codec::{JsonText, Timestamp};

    fn sample_job(state: &str, miner: bool) -> JobRecord {
        let at = Timestamp(chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        JobRecord {
            id: "j".into(),
            stored_client: "c".into(),
            ordered_by: None,
            state: JobState::from_stored(state),
            status: state.into(),
            service: None,
            service_type: None,
            ttl_seconds: 300,
            requested_at: at,
            expires_at: at,
            miner: miner.then(|| "miner-1".into()),
            error: None,
            payment_status: None,
            running_at: None,
            ended_at: None,
            payload: JsonText::none(),
            constraints: JsonText::none(),
            result: JsonText::none(),
            receipt: JsonText::none(),
        }
    }

    proptest! {
        /// Whatever a row goes through and whenever it is looked at, numbers only rise, and a stream that has ended has its
        /// end once, as its last frame.
        #[test]
        fn frames_come_once_and_in_order(
            looks in proptest::collection::vec((prop_oneof!["QUEUED", "RUNNING", "lost"], any::<bool>()), 0..6),
            end in proptest::sample::select(vec!["COMPLETED", "FAILED", "CANCELED", "EXPIRED"]),
            taken in any::<bool>(),
        ) {
            let (mut after, mut told) = (0, Vec::new());
            for (state, miner) in looks.iter().map(|(state, miner)| (state.as_str(), *miner)).chain([(end, taken)]) {
                for frame in job_frames(&sample_job(state, miner), None, &JobEstimate::default()) {
                    if frame.seq > after {
                        after = frame.seq;
                        told.push(frame);
                    }
                }
            }
            prop_assert!(told.windows(2).all(|pair| pair[0].seq < pair[1].seq));
            prop_assert_eq!(told.iter().filter(|frame| frame.kind == JobFrameKind::End).count(), 1);
            prop_assert_eq!(told.last().unwrap().kind, JobFrameKind::End);
            prop_assert_eq!(told[0].seq, 1);
            prop_assert_eq!(told.iter().any(|frame| frame.kind == JobFrameKind::Result), end == "COMPLETED");
        }
    }
}
