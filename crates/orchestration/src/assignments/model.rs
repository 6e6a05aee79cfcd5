//! State machine of an assignment: state, current attempt, and the effect of reports. No I/O.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agents::{GpuTier, TaskRequirements, TaskType};
use am_core::{
    ids::{AgentId, AssignmentId, ExecutionId, PrincipalId, WorkflowId},
    money::Money,
};
use am_db::{
    codec::{JsonText, Timestamp},
    owner,
};

am_db::stored_enum! {
    /// State of an assignment.
    #[schema(as = AssignmentStatus)]
    pub enum AssignmentState {
        /// Waiting for an agent.
        Waiting = "WAITING" / "waiting",
        /// Offered to an agent.
        Offered = "OFFERED" / "offered",
        /// Accepted by the agent.
        Accepted = "ACCEPTED" / "accepted",
        /// Completed with a result.
        Completed = "COMPLETED" / "completed",
        /// Failed too often, or not done before its deadline.
        Failed = "FAILED" / "failed",
        /// Cancelled by the client.
        Cancelled = "CANCELLED" / "cancelled",
    }
}

impl AssignmentState {
    /// Return whether the state is final.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Return whether an agent holds the assignment.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Offered | Self::Accepted)
    }
}

am_db::stored_enum! {
    /// Outcome of an attempt.
    #[schema(as = AttemptOutcome)]
    pub enum AttemptOutcome {
        /// Completed with a result.
        Completed = "COMPLETED" / "completed",
        /// Failed, as the agent reported, or because it could not be notified.
        Failed = "FAILED" / "failed",
        /// Released because the agent went offline.
        Lost = "LOST" / "lost",
        /// The agent did not answer the offer in time.
        Missed = "MISSED" / "missed",
        /// Cancelled by the client.
        Cancelled = "CANCELLED" / "cancelled",
        /// The deadline passed.
        Expired = "EXPIRED" / "expired",
    }
}

am_db::stored_enum! {
    /// Way in which an agent is notified.
    pub enum NotifyChannel {
        /// By a call to its endpoint.
        Endpoint = "endpoint" / "endpoint",
        /// By a message that is kept for it.
        Message = "message" / "message",
        /// Not at all: the agent has to ask.
        Poll = "poll" / "poll",
    }
}

am_db::stored_enum! {
    /// What an agent is notified of.
    pub enum NotificationKind {
        /// An assignment was offered to it.
        Task = "TASK" / "task",
        /// An assignment was taken from it.
        Cancel = "CANCEL" / "cancel",
    }
}

/// An assignment to be stored.
#[derive(Clone, Debug)]
pub struct NewAssignment {
    /// Id: `assign_` and 16 hex digits.
    pub id: AssignmentId,
    /// Execution whose step waits for it.
    pub execution_id: ExecutionId,
    /// Key of that step.
    pub step_key: String,
    /// Workflow, network or plan of the execution.
    pub workflow_id: WorkflowId,
    /// Principal of the client; never a key.
    pub client_id: PrincipalId,
    /// Requirements on the agent.
    pub need: TaskRequirements,
    /// Priority; 0 is served first.
    pub priority: i64,
    /// Request sent to the agent.
    pub request: Value,
    /// Number of retries after a failed attempt.
    pub max_retries: i64,
    /// Time at which the assignment fails.
    pub deadline: Timestamp,
}

/// Number of agents that may be lost with an assignment before it fails.
pub const MAX_LOST_ATTEMPTS: i64 = 5;
/// Prefix of an assignment's id.
pub const ASSIGNMENT_ID_PREFIX: &str = "assign_";

/// Check that an id has the form of an assignment's id.
pub fn is_assignment_id(id: &str) -> bool {
    id.starts_with(ASSIGNMENT_ID_PREFIX)
}

/// An assignment of a step to agents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// Id: `assign_` and 16 hex digits.
    pub id: AssignmentId,
    /// Execution whose step waits for it.
    pub execution_id: ExecutionId,
    /// Key of that step.
    pub step_key: String,
    /// Workflow, network or plan of the execution.
    pub workflow_id: WorkflowId,
    /// Client as stored; shown as a principal.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub client_id: PrincipalId,
    /// Type of the task.
    pub task_type: TaskType,
    /// Minimum GPU tier; null: any.
    pub gpu_tier: Option<GpuTier>,
    /// Required type of agent; null: any.
    pub agent_type: Option<String>,
    /// The only agent that may do it; null: any.
    pub only_agent: Option<AgentId>,
    /// Priority; 0 is served first.
    pub priority: i64,
    /// Request sent to the agent.
    pub request: JsonText,
    /// Maximum price; null: no limit.
    pub max_price: Option<Money>,
    /// Estimated duration in seconds; null when unknown.
    pub estimated_seconds: Option<f64>,
    /// Number of retries after a failed attempt.
    pub max_retries: i64,
    /// State of the assignment.
    pub state: AssignmentState,
    /// Number of the latest attempt; 0: none yet.
    pub attempt: i64,
    /// Agent that holds the assignment, or that ended it; null: none.
    pub agent_id: Option<AgentId>,
    /// Number of failed attempts.
    pub failures: i64,
    /// Progress in percent, as last reported.
    pub progress: f64,
    /// Result delivered by the agent.
    pub result: JsonText,
    /// Error of the assignment, or of its last failed attempt.
    pub error: Option<String>,
    /// Seconds from the agent's acceptance to its result.
    pub seconds: Option<f64>,
    /// Cost of these seconds.
    pub cost: Option<Money>,
    /// Time at which the assignment fails.
    pub deadline: Timestamp,
    /// Time when it was stored.
    pub placed_at: Timestamp,
    /// Time of the current offer.
    pub offered_at: Option<Timestamp>,
    /// Time when the agent accepted it.
    pub accepted_at: Option<Timestamp>,
    /// Time when it ended.
    pub ended_at: Option<Timestamp>,
}

/// A waiting assignment, as dispatch sees it.
#[derive(Clone, Debug)]
pub struct WaitingAssignment {
    /// Id of the assignment.
    pub id: AssignmentId,
    /// Principal of the client.
    pub client_id: PrincipalId,
    /// Requirements on the agent.
    pub need: TaskRequirements,
    /// Priority; 0 is served first.
    pub priority: i64,
    /// Time when it was stored.
    pub placed_at: Timestamp,
    /// Number of the latest attempt; 0: none yet.
    pub attempt: i64,
}

/// Place of a waiting assignment among those of its client and type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitingPosition {
    /// Priority; 0 is served first.
    pub priority: i64,
    /// Time when it was stored.
    pub placed_at: Timestamp,
    /// Id of the assignment.
    pub id: AssignmentId,
}

impl WaitingAssignment {
    /// Return its place.
    pub fn position(&self) -> WaitingPosition {
        WaitingPosition { priority: self.priority, placed_at: self.placed_at, id: self.id.clone() }
    }
}

/// An attempt of one agent at an assignment.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = AssignmentAttempt)]
pub struct AssignmentAttempt {
    /// Number of the attempt, from 1.
    pub attempt: i64,
    /// Id of the agent.
    pub agent_id: AgentId,
    /// Incarnation of the agent: a later registration of its id by another owner has a higher one.
    #[serde(skip_serializing, default)]
    pub incarnation: i64,
    /// Score of the agent when it was chosen.
    pub score: f64,
    /// Price of the agent per hour at that time.
    pub cost_per_hour: Money,
    /// Time of the offer.
    pub offered_at: Timestamp,
    /// Time when the agent accepted; null before.
    pub accepted_at: Option<Timestamp>,
    /// Time of the end; null before.
    pub ended_at: Option<Timestamp>,
    /// Outcome; null: the attempt is in progress.
    pub outcome: Option<AttemptOutcome>,
    /// Reason of the outcome, as a sentence.
    pub reason: Option<String>,
    /// Digest of the agent's final report.
    #[serde(skip_serializing, default)]
    pub digest: Option<String>,
    /// Seconds from acceptance to result.
    pub seconds: Option<f64>,
    /// Cost of these seconds.
    pub cost: Option<Money>,
    /// Way in which the agent was notified; null: not yet.
    pub told_by: Option<NotifyChannel>,
    /// Time of the notification.
    pub told_at: Option<Timestamp>,
    /// Error of the last notification attempt.
    pub tell_error: Option<String>,
}

/// Report of an agent about its attempt.
#[derive(Clone, Debug)]
pub enum AgentReport {
    /// The agent accepts the assignment.
    Accept,
    /// Progress in percent.
    Progress(f64),
    /// Result of the task.
    Complete(Value),
    /// Failure of the task.
    Fail {
        /// Reason of the failure, as a sentence.
        reason: String,
        /// Whether another agent may try.
        retryable: bool,
    },
}

/// Effect of a report on the attempt that it names.
#[derive(Debug, PartialEq, Eq)]
pub enum ReportDisposition {
    /// The report takes effect.
    Counts,
    /// The report repeats one that took effect.
    Known,
    /// The attempt is over, with this outcome.
    Late(AttemptOutcome),
}

impl Assignment {
    /// Return the requirements on the agent.
    pub fn need(&self) -> TaskRequirements {
        TaskRequirements {
            only_agent: self.only_agent.clone(),
            task_type: self.task_type,
            gpu_tier: self.gpu_tier,
            agent_type: self.agent_type.clone(),
            max_price: self.max_price,
            estimated_seconds: self.estimated_seconds,
        }
    }

    /// Offer the assignment to an agent, as the next attempt. Returns `None` unless it is waiting.
    pub fn offer(
        &mut self,
        (agent_id, incarnation): (&AgentId, i64),
        score: f64,
        cost_per_hour: Money,
        now: Timestamp,
    ) -> Option<AssignmentAttempt> {
        if self.state != AssignmentState::Waiting {
            return None;
        }
        self.attempt += 1;
        self.state = AssignmentState::Offered;
        (self.agent_id, self.offered_at, self.accepted_at) = (Some(agent_id.clone()), Some(now), None);
        self.progress = 0.0;
        Some(AssignmentAttempt {
            attempt: self.attempt,
            agent_id: agent_id.clone(),
            incarnation,
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

    /// Determine the effect of a report with this digest on `attempt`, an attempt of this assignment.
    pub fn judge(&self, attempt: &AssignmentAttempt, report: &AgentReport, digest: &str) -> ReportDisposition {
        match attempt.outcome {
            None if matches!(report, AgentReport::Accept) && attempt.accepted_at.is_some() => ReportDisposition::Known,
            None => ReportDisposition::Counts,
            Some(outcome) => {
                let same = attempt.digest.as_deref() == Some(digest);
                let ends = matches!(report, AgentReport::Complete(_) | AgentReport::Fail { .. });
                if ends && same { ReportDisposition::Known } else { ReportDisposition::Late(outcome) }
            }
        }
    }

    /// Mark the attempt as accepted. Progress and results imply acceptance.
    pub fn accept(&mut self, attempt: &mut AssignmentAttempt, now: Timestamp) {
        if self.state == AssignmentState::Offered {
            self.state = AssignmentState::Accepted;
            (self.accepted_at, attempt.accepted_at) = (Some(now), Some(now));
        }
    }

    /// Set the progress in percent.
    pub fn advance(&mut self, percent: f64) {
        self.progress = percent.clamp(0.0, 100.0);
    }

    /// Close the current attempt; the state shows the consequence. With `last`, a failure is final.
    pub fn close(
        &mut self,
        attempt: &mut AssignmentAttempt,
        outcome: AttemptOutcome,
        why: Option<&str>,
        last: bool,
        now: Timestamp,
    ) {
        attempt.outcome = Some(outcome);
        attempt.ended_at = Some(now);
        attempt.reason = why.map(str::to_owned);
        self.state = match outcome {
            AttemptOutcome::Completed => AssignmentState::Completed,
            AttemptOutcome::Cancelled => AssignmentState::Cancelled,
            AttemptOutcome::Expired => AssignmentState::Failed,
            // The agent is gone. That is no failure of the task, unless each agent goes that takes it.
            AttemptOutcome::Lost if self.attempt - self.failures >= MAX_LOST_ATTEMPTS => AssignmentState::Failed,
            AttemptOutcome::Lost => AssignmentState::Waiting,
            AttemptOutcome::Failed | AttemptOutcome::Missed => {
                self.failures += 1;
                if last || self.failures > self.max_retries {
                    AssignmentState::Failed
                } else {
                    AssignmentState::Waiting
                }
            }
        };
        if outcome == AttemptOutcome::Completed {
            let begun = attempt.accepted_at.unwrap_or(attempt.offered_at);
            let seconds = now.seconds_since(begun).max(0.0);
            let asked = attempt.cost_per_hour.scaled(seconds / 3600.0);
            let cost = self.max_price.map_or(asked, |limit| asked.min(limit));
            (attempt.seconds, attempt.cost) = (Some(seconds), Some(cost));
            (self.seconds, self.cost, self.progress, self.error) = (Some(seconds), Some(cost), 100.0, None);
        } else if outcome != AttemptOutcome::Cancelled {
            let given_up = (outcome == AttemptOutcome::Lost && self.state == AssignmentState::Failed)
                .then(|| format!("given up: {MAX_LOST_ATTEMPTS} agents were lost that had it; the last: "));
            self.error = why.map(|why| format!("{}{why}", given_up.unwrap_or_default()));
        }
        if self.state == AssignmentState::Waiting {
            (self.agent_id, self.offered_at, self.accepted_at) = (None, None, None);
            self.progress = 0.0;
        } else {
            self.ended_at = Some(now);
        }
    }

    /// End the assignment while no agent holds it.
    pub fn end_unheld(&mut self, state: AssignmentState, why: Option<&str>, now: Timestamp) {
        self.state = state;
        self.ended_at = Some(now);
        self.error = why.map(str::to_owned).or(self.error.take());
    }
}

#[cfg(test)]
mod tests;
