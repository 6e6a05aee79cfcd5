//! Limits of a run beside its budget: its time, and what the security policies allow it.

use std::time::Duration;

use serde_json::{Value, json};

use super::RunDriver;
use crate::{
    guard::{self, GuardedResource},
    run::round_progress,
};
use am_core::absence;
use am_db::codec::Timestamp;
use am_security::policies::{PolicyRefusal, rule};

impl RunDriver {
    pub(super) fn fail_time_limit(&mut self) {
        let now = self.now();
        let (limit, used) = (self.run.limits.seconds, self.run.active_seconds(now));
        if self.run.time_left(now).is_none_or(|left| !left.is_zero())
            && let Some((limit, policy)) = self.engine.policies.time_limit(self.run.security)
        {
            let refusal =
                PolicyRefusal::new(&policy, rule::MAX_EXECUTION_TIME, json!(limit), json!(round_progress(used)));
            return self.refuse(None, Box::new(refusal), now);
        }
        self.fail(None, &format!("max_execution_time {limit}: {used:.3} seconds were used"), "time_limit", now);
    }

    /// Return the rest of the time limit, of the run itself and of its policies. Time in which this process did not run does not
    /// count.
    pub(super) fn time_left(&mut self) -> Option<Duration> {
        let absent = absence::absent_since(self.began);
        let more = chrono::Duration::from_std(absent.saturating_sub(self.excused)).unwrap_or_default();
        self.run.claimed_at.0 += more;
        self.excused = self.excused.max(absent);
        let now = self.now();
        let policy = self.engine.policies.time_limit(self.run.security);
        let left = policy.map(|(seconds, _)| self.run.seconds_left(seconds, now));
        self.run.time_left(now).into_iter().chain(left).min()
    }

    /// Check whether the current policies allow step `at` to begin with this input.
    pub(super) fn allowed(&self, at: usize, input: &Value) -> std::result::Result<(), Box<PolicyRefusal>> {
        let (policies, run) = (&self.engine.policies, &self.run);
        if !policies.bind(run.security) {
            return Ok(());
        }
        let facts = guard::step_facts(&run.plan.steps[at], &self.engine.names, Some(input));
        policies.check_step(&run.terms().facts(run.steps.len()), &facts)
    }

    /// Fail the run because a policy forbids the step, or forbids that the run continues.
    pub(super) fn refuse(&mut self, at: Option<usize>, refusal: Box<PolicyRefusal>, now: Timestamp) {
        let resource = if at.is_some() { GuardedResource::Step } else { GuardedResource::Execution };
        let run = &self.run;
        let mut entry = guard::refusal_entry(resource, run.security, &refusal, now)
            .on_behalf_of(run.client_id.as_str())
            .from(run.origin.clone())
            .workflow(run.workflow_id.as_str())
            .execution(run.id.as_str());
        if let Some(at) = at {
            entry = entry.step(run.steps[at].step_id.as_str());
        }
        self.refusals.push(entry);
        self.fail(at, &refusal.to_string(), "policy", now);
    }
}
