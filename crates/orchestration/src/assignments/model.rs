//! An assignment as a state machine: who has it, under which number, and what follows from what is told of it. No I/O.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::registry::{GpuTier, Need, TaskType};
use am_db::{
    codec::{Doc, Timestamp},
    owner,
};

am_db::stored_enum! {
    /// Where an assignment stands.
    pub enum State {
        /// No agent has it.
        Waiting = "WAITING" / "waiting",
        /// An agent was told of it.
        Offered = "OFFERED" / "offered",
        /// The agent has begun.
        Accepted = "ACCEPTED" / "accepted",
        /// It ended well.
        Completed = "COMPLETED" / "completed",
        /// It failed too often, or was not done in time.
        Failed = "FAILED" / "failed",
        /// Nobody wants it any more.
        Cancelled = "CANCELLED" / "cancelled",
    }
}

impl State {
    /// Will nothing happen any more?
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Has an agent got it?
    pub fn is_held(self) -> bool {
        matches!(self, Self::Offered | Self::Accepted)
    }
}

am_db::stored_enum! {
    /// How an agent's attempt ended.
    pub enum Outcome {
        /// With a result.
        Completed = "COMPLETED" / "completed",
        /// The agent said that it failed, or could not be told.
        Failed = "FAILED" / "failed",
        /// The agent went away.
        Lost = "LOST" / "lost",
        /// The agent did not answer the offer.
        Missed = "MISSED" / "missed",
        /// Nobody wants it any more.
        Cancelled = "CANCELLED" / "cancelled",
        /// Not in time.
        Expired = "EXPIRED" / "expired",
    }
}

/// An assignment to be placed.
#[derive(Clone, Debug)]
pub struct NewAssignment {
    /// `assign_` and 16 hex digits.
    pub id: String,
    /// The run whose step waits for it.
    pub execution_id: String,
    /// That step.
    pub step_key: String,
    /// What the run is one of.
    pub workflow_id: String,
    /// Who asks; a principal, never a key.
    pub client_id: String,
    /// What is asked of the agent.
    pub need: Need,
    /// 0 goes first.
    pub priority: i64,
    /// What the agent gets to know.
    pub request: Value,
    /// Attempts that may fail before it has failed, but for the first.
    pub max_retries: i64,
    /// When it is given up.
    pub deadline: Timestamp,
}

/// Prefix of an assignment's id.
pub const PREFIX: &str = "assign_";

/// Whether a step's order is an assignment.
pub fn is_assignment_id(id: &str) -> bool {
    id.starts_with(PREFIX)
}

/// An assignment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// `assign_` and 16 hex digits.
    pub id: String,
    /// The run whose step waits for it.
    pub execution_id: String,
    /// That step.
    pub step_key: String,
    /// The workflow or plan that the run is one of.
    pub workflow_id: String,
    /// As stored; shown as a principal.
    #[serde(serialize_with = "owner::shown")]
    pub client_id: String,
    /// What it is.
    pub task_type: TaskType,
    /// The weakest GPU that will do.
    pub gpu_tier: Option<GpuTier>,
    /// Only agents of this kind.
    pub agent_type: Option<String>,
    /// 0 goes first.
    pub priority: i64,
    /// What the agent gets to know.
    pub request: Doc,
    /// The most it may cost.
    pub max_price: Option<f64>,
    /// Seconds it is thought to take.
    pub estimated_seconds: Option<f64>,
    /// Attempts that may fail, but for the first.
    pub max_retries: i64,
    /// Where it stands.
    pub state: State,
    /// The number of the last attempt; 0: nobody had it yet.
    pub attempt: i64,
    /// Who has it, or who ended it.
    pub agent_id: Option<String>,
    /// Attempts that failed.
    pub failures: i64,
    /// Percent, as the agent said last.
    pub progress: f64,
    /// What the agent delivered.
    pub result: Doc,
    /// Why it failed, or why its last attempt did.
    pub error: Option<String>,
    /// From the agent's acceptance to its result.
    pub seconds: Option<f64>,
    /// What that costs.
    pub cost: Option<f64>,
    /// When it is given up.
    pub deadline: Timestamp,
    /// When it was asked for.
    pub placed_at: Timestamp,
    /// When the agent that has it was told.
    pub offered_at: Option<Timestamp>,
    /// When that one began.
    pub accepted_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// One agent's go at an assignment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub attempt: i64,
    /// Whose.
    pub agent_id: String,
    /// Why this one: its score at that moment.
    pub score: f64,
    /// What an hour of it cost at that moment.
    pub cost_per_hour: f64,
    /// When it was given the assignment.
    pub offered_at: Timestamp,
    /// When it began.
    pub accepted_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// How; none: it goes on.
    pub outcome: Option<Outcome>,
    /// Why, in words.
    pub reason: Option<String>,
    /// Of what the agent reported at the end.
    #[serde(skip_serializing, default)]
    pub digest: Option<String>,
    /// From acceptance to result.
    pub seconds: Option<f64>,
    /// What that costs.
    pub cost: Option<f64>,
    /// How the agent was told: endpoint, message; poll: it must ask.
    pub told_by: Option<String>,
    /// When.
    pub told_at: Option<Timestamp>,
    /// What was wrong when it was tried last.
    pub tell_error: Option<String>,
}

/// What an agent tells of its attempt.
#[derive(Clone, Debug)]
pub enum Report {
    /// It begins.
    Accept,
    /// So many percent are done.
    Progress(f64),
    /// The result.
    Complete(Value),
    /// It can't; false: nobody can.
    Fail(String, bool),
}

/// What a report means for the attempt that it names.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Counts,
    /// It counted before.
    Known,
    /// The attempt is over.
    Late(Outcome),
}

impl Assignment {
    /// What is asked of its agent.
    pub fn need(&self) -> Need {
        Need {
            task_type: self.task_type,
            gpu_tier: self.gpu_tier,
            agent_type: self.agent_type.clone(),
            max_price: self.max_price,
            estimated_seconds: self.estimated_seconds,
        }
    }

    /// Give it to an agent, under the next number. Only one that waits may be given.
    pub fn offer(&mut self, agent_id: &str, score: f64, cost_per_hour: f64, now: Timestamp) -> Option<Attempt> {
        if self.state != State::Waiting {
            return None;
        }
        self.attempt += 1;
        self.state = State::Offered;
        (self.agent_id, self.offered_at, self.accepted_at) = (Some(agent_id.to_owned()), Some(now), None);
        self.progress = 0.0;
        Some(Attempt {
            attempt: self.attempt,
            agent_id: agent_id.to_owned(),
            score,
            cost_per_hour,
            offered_at: now,
            accepted_at: None,
            ended_at: None,
            outcome: None,
            reason: None,
            digest: None,
            seconds: None,
            cost: None,
            told_by: None,
            told_at: None,
            tell_error: None,
        })
    }

    /// What a report with this digest means for `attempt`, which is one of this assignment's.
    pub fn judge(&self, attempt: &Attempt, report: &Report, digest: &str) -> Verdict {
        match attempt.outcome {
            None if matches!(report, Report::Accept) && attempt.accepted_at.is_some() => Verdict::Known,
            None => Verdict::Counts,
            Some(outcome) => {
                let same = attempt.digest.as_deref() == Some(digest);
                let ends = matches!(report, Report::Complete(_) | Report::Fail(..));
                if ends && same { Verdict::Known } else { Verdict::Late(outcome) }
            }
        }
    }

    /// The agent has begun. Progress and a result say so too.
    pub fn accept(&mut self, attempt: &mut Attempt, now: Timestamp) {
        if self.state == State::Offered {
            self.state = State::Accepted;
            (self.accepted_at, attempt.accepted_at) = (Some(now), Some(now));
        }
    }

    /// So many percent are done.
    pub fn advance(&mut self, percent: f64) {
        self.progress = percent.clamp(0.0, 100.0);
    }

    /// The attempt under way is over; what follows is in the state. With `last`, a failure is the end.
    pub fn close(&mut self, attempt: &mut Attempt, outcome: Outcome, why: Option<&str>, last: bool, now: Timestamp) {
        attempt.outcome = Some(outcome);
        attempt.ended_at = Some(now);
        attempt.reason = why.map(str::to_owned);
        self.state = match outcome {
            Outcome::Completed => State::Completed,
            Outcome::Cancelled => State::Cancelled,
            Outcome::Expired => State::Failed,
            // Its agent is gone: that is no fault of the sub-task's.
            Outcome::Lost => State::Waiting,
            Outcome::Failed | Outcome::Missed => {
                self.failures += 1;
                if last || self.failures > self.max_retries { State::Failed } else { State::Waiting }
            }
        };
        if outcome == Outcome::Completed {
            let begun = attempt.accepted_at.unwrap_or(attempt.offered_at);
            let seconds = now.seconds_since(begun).max(0.0);
            let asked = attempt.cost_per_hour * seconds / 3600.0;
            let cost = self.max_price.map_or(asked, |limit| asked.min(limit));
            (attempt.seconds, attempt.cost) = (Some(seconds), Some(cost));
            (self.seconds, self.cost, self.progress, self.error) = (Some(seconds), Some(cost), 100.0, None);
        } else if outcome != Outcome::Cancelled {
            self.error = why.map(str::to_owned);
        }
        if self.state == State::Waiting {
            (self.agent_id, self.offered_at, self.accepted_at) = (None, None, None);
            self.progress = 0.0;
        } else {
            self.ended_at = Some(now);
        }
    }

    /// It ends though no agent has it.
    pub fn end_unheld(&mut self, state: State, why: Option<&str>, now: Timestamp) {
        self.state = state;
        self.ended_at = Some(now);
        self.error = why.map(str::to_owned).or(self.error.take());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        let start = Timestamp::from_stored("2026-05-12 14:00:00.000000").unwrap();
        Timestamp(start.0 + chrono::Duration::seconds(second))
    }

    fn assignment(max_retries: i64) -> Assignment {
        Assignment {
            id: "assign_0".into(),
            execution_id: "exec_0".into(),
            step_key: "s".into(),
            workflow_id: "plan_0".into(),
            client_id: "key_0".into(),
            task_type: TaskType::DataAnalysis,
            gpu_tier: None,
            agent_type: None,
            priority: 1,
            request: Doc::none(),
            max_price: None,
            estimated_seconds: None,
            max_retries,
            state: State::Waiting,
            attempt: 0,
            agent_id: None,
            failures: 0,
            progress: 0.0,
            result: Doc::none(),
            error: None,
            seconds: None,
            cost: None,
            deadline: at(1000),
            placed_at: at(0),
            offered_at: None,
            accepted_at: None,
            ended_at: None,
        }
    }

    #[test]
    fn what_is_completed_is_paid_by_the_hour_up_to_its_limit() {
        for (limit, cost) in [(None, 0.2), (Some(0.05), 0.05)] {
            let mut one = Assignment { max_price: limit, ..assignment(3) };
            let mut attempt = one.offer("a", 0.9, 7.2, at(0)).unwrap();
            assert!(one.offer("b", 0.9, 7.2, at(0)).is_none(), "one at a time");
            one.accept(&mut attempt, at(10));
            one.close(&mut attempt, Outcome::Completed, None, false, at(110));
            assert_eq!((one.seconds, one.cost, one.state), (Some(100.0), Some(cost), State::Completed));
        }
    }

    #[test]
    fn three_failures_are_tried_again_and_a_lost_agent_is_none() {
        let mut one = assignment(3);
        for n in 1..=4 {
            let mut lost = one.offer("gone", 0.9, 0.0, at(n)).unwrap();
            one.close(&mut lost, Outcome::Lost, Some("silent"), false, at(n));
            let mut failed = one.offer("bad", 0.9, 0.0, at(n)).unwrap();
            one.close(&mut failed, Outcome::Failed, Some("no"), false, at(n));
            assert_eq!(one.state, if n < 4 { State::Waiting } else { State::Failed }, "{n}");
        }
        assert_eq!((one.attempt, one.failures, one.error.as_deref()), (8, 4, Some("no")));
        let mut one = assignment(3);
        let mut failed = one.offer("a", 0.9, 0.0, at(0)).unwrap();
        one.close(&mut failed, Outcome::Failed, Some("impossible"), true, at(1));
        assert_eq!(one.state, State::Failed);
    }

    #[derive(Clone, Debug)]
    enum Event {
        Offer,
        Report(usize, u8, u8),
        Lose,
        Miss,
        Cancel,
        Expire,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Offer),
            // Of any attempt so far, also one that is over: accept, progress, complete, fail.
            8 => (0usize..8, 0u8..4, 0u8..2).prop_map(|(which, kind, what)| Event::Report(which, kind, what)),
            2 => Just(Event::Lose),
            1 => Just(Event::Miss),
            1 => Just(Event::Cancel),
            1 => Just(Event::Expire),
        ]
    }

    proptest! {
        #[test]
        fn whatever_comes_it_is_one_agents_at_a_time_and_ends_once(
            events in proptest::collection::vec(event(), 0..60), max_retries in 0i64..5,
        ) {
            let mut one = assignment(max_retries);
            let mut attempts: Vec<Attempt> = Vec::new();
            for (second, event) in events.into_iter().enumerate() {
                let (now, before) = (at(second as i64), one.clone());
                match event {
                    Event::Offer => {
                        let given = one.offer(&format!("agent-{second}"), 0.5, 1.0, now);
                        prop_assert_eq!(given.is_some(), before.state == State::Waiting);
                        attempts.extend(given);
                    }
                    Event::Report(which, kind, what) => {
                        let Some(at) = which.checked_rem(attempts.len().max(1)).filter(|at| *at < attempts.len()) else { continue };
                        let report = match kind {
                            0 => Report::Accept,
                            1 => Report::Progress(50.0),
                            2 => Report::Complete(what.into()),
                            _ => Report::Fail(what.to_string(), true),
                        };
                        let digest = format!("{kind} {what}");
                        let attempt = &mut attempts[at];
                        match one.judge(attempt, &report, &digest) {
                            Verdict::Counts => {
                                prop_assert!(before.state.is_held() && attempt.attempt == before.attempt);
                                match report {
                                    Report::Accept => one.accept(attempt, now),
                                    Report::Progress(percent) => { one.accept(attempt, now); one.advance(percent); }
                                    Report::Complete(_) => {
                                        attempt.digest = Some(digest.clone());
                                        one.close(attempt, Outcome::Completed, None, false, now);
                                    }
                                    Report::Fail(ref why, _) => {
                                        attempt.digest = Some(digest.clone());
                                        one.close(attempt, Outcome::Failed, Some(why), false, now);
                                    }
                                }
                                let kind_ends = matches!(report, Report::Complete(_) | Report::Fail(..));
                                let again = one.judge(attempt, &report, &digest);
                                prop_assert!(!kind_ends || again == Verdict::Known, "a repetition is known: {again:?}");
                            }
                            Verdict::Known => {}
                            Verdict::Late(_) => prop_assert!(attempt.outcome.is_some()),
                        }
                    }
                    Event::Lose | Event::Miss | Event::Cancel | Event::Expire => {
                        if before.state.is_final() { continue }
                        let outcome = match event {
                            Event::Lose => Outcome::Lost,
                            Event::Miss => Outcome::Missed,
                            Event::Cancel => Outcome::Cancelled,
                            _ => Outcome::Expired,
                        };
                        if before.state.is_held() {
                            let last = attempts.len() - 1;
                            one.close(&mut attempts[last], outcome, Some("x"), false, now);
                        } else if matches!(outcome, Outcome::Cancelled) {
                            one.end_unheld(State::Cancelled, None, now);
                        } else if matches!(outcome, Outcome::Expired) {
                            one.end_unheld(State::Failed, Some("x"), now);
                        }
                    }
                }
                let open: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.outcome.is_none()).collect();
                prop_assert_eq!(open.len(), usize::from(one.state.is_held()), "as many attempts as agents that have it");
                prop_assert!(open.iter().all(|attempt| attempt.attempt == one.attempt && Some(&attempt.agent_id) == one.agent_id.as_ref()));
                prop_assert_eq!(one.attempt, attempts.len() as i64);
                prop_assert!(one.failures <= max_retries + 1);
                prop_assert_eq!(one.state.is_final(), one.ended_at.is_some());
                prop_assert!(!before.state.is_final() || before.state == one.state, "an end is an end");
                let completed = attempts.iter().filter(|attempt| attempt.outcome == Some(Outcome::Completed)).count();
                prop_assert_eq!(completed, usize::from(one.state == State::Completed));
            }
        }
    }
}
