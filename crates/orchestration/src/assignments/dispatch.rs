//! Dispatch of assignments to agents. Any process may do it: each round is one transaction that counts the agents'
//! assignments, so that no agent gets more than it accepts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    AssignmentService, AssignmentServiceInner, DISPATCH_TOPIC,
    model::{Assignment, AssignmentState, AttemptOutcome, NotificationKind},
    store, transitions,
    waiting_queue::{AssignmentMatch, match_agents},
};
use crate::{
    agents::{self, AgentStatus, TaskType},
    error::Result,
    event_kinds::{ExecutionEventKind, RegistryEventKind},
};
use am_audit::AuditEntry;
use am_core::{
    absence,
    ids::{AgentId, AssignmentId},
    supervisor::BackgroundTask,
};
use am_db::{Connection, Tx, codec::Timestamp, owner};

/// Polling interval while nothing wakes the dispatcher.
const DISPATCH_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Number of assignments whose former agents are read at once.
const TRIED_BATCH: usize = 500;

impl AssignmentService {
    /// The tasks that give assignments to agents and tell them of it, until `stopping`.
    pub fn background_tasks(&self, stopping: &CancellationToken) -> [BackgroundTask; 2] {
        [
            BackgroundTask::new("assignments.dispatch", self.clone().work(stopping.clone())),
            BackgroundTask::new("assignments.notices", self.clone().tell(stopping.clone())),
        ]
    }

    /// Dispatch assignments, and release those of agents that are gone, until `stopping`.
    async fn work(self, stopping: CancellationToken) {
        let mut subscription = self.0.hub.subscribe(DISPATCH_TOPIC);
        loop {
            match self.0.round().await {
                // More work may be waiting.
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "could not dispatch assignments; retrying"),
            }
            tokio::select! {
                () = stopping.cancelled() => break,
                () = subscription.wait_for_wake() => {}
                () = tokio::time::sleep(DISPATCH_POLL_INTERVAL) => {}
            }
        }
    }
}

impl AssignmentServiceInner {
    /// Do one dispatch round. Returns whether anything changed. Assignments are matched on a read connection; the write
    /// lock is held only for what changes.
    async fn round(self: &std::sync::Arc<Self>) -> Result<bool> {
        let now = Timestamp(self.clock.now());
        let Some(matches) = self.plan_round(now).await? else { return Ok(false) };
        let inner = self.clone();
        // The time is read while the write lock is held, so that timestamps follow the order of changes.
        self.db.write(async move |tx: &mut Tx| inner.change(tx, matches).await).await
    }

    /// Find out on a read connection what a round would change: the assignments that agents get. `None`: nothing, so that an
    /// idle round takes no write lock.
    async fn plan_round(&self, now: Timestamp) -> Result<Option<Vec<AssignmentMatch>>> {
        let mut conn = self.db.read().await?;
        let cutoff = agents::offline_cutoff(&self.settings, now);
        let online = agents::store::count_online(&mut conn, cutoff).await?;
        let (waiting, held) = store::count_open(&mut conn).await?;
        self.metrics.online.set(online);
        self.metrics.waiting.set(waiting);
        self.metrics.held.set(held);
        let matches = match waiting > 0 && online > 0 {
            true => self.find_matches(&mut conn, cutoff).await?,
            false => Vec::new(),
        };
        let passed = self.excused(now);
        let due = !matches.is_empty()
            || !agents::store::list_silent(&mut conn, cutoff).await?.is_empty()
            || (waiting + held > 0
                && !store::list_overdue(&mut conn, passed, self.offer_cutoff(passed)).await?.is_empty());
        Ok(due.then_some(matches))
    }

    /// Match waiting assignments to agents that have capacity now.
    async fn find_matches(&self, conn: &mut Connection, cutoff: Timestamp) -> Result<Vec<AssignmentMatch>> {
        let mut agents = agents::store::list_all(conn, cutoff).await?;
        let free = agents.iter().filter(|agent| agent.is_online() && agent.has_capacity());
        let types: BTreeSet<TaskType> = free.flat_map(|agent| agent.task_types.iter().copied()).collect();
        if types.is_empty() {
            return Ok(Vec::new());
        }
        let waiting = self.waiting.lock().await.read_candidates(conn, &types).await?;
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let fastest = agents::store::fastest_mean_seconds(conn).await?;
        let mut tried = BTreeMap::<AssignmentId, BTreeSet<AgentId>>::new();
        let again: Vec<&AssignmentId> = waiting.iter().filter(|one| one.attempt > 0).map(|one| &one.id).collect();
        for some in again.chunks(TRIED_BATCH) {
            for (id, agent) in store::previous_agents(conn, some).await? {
                tried.entry(id).or_default().insert(agent);
            }
        }
        let held = store::count_held_by_client(conn).await?;
        Ok(match_agents(waiting, &mut agents, &fastest, &tried, held))
    }

    /// Time up to which deadlines have passed: this process's own absence is not an agent's fault.
    fn excused(&self, now: Timestamp) -> Timestamp {
        let absent = chrono::Duration::from_std(absence::recent(self.settings.offline_after)).unwrap_or_default();
        Timestamp(now.0 - absent)
    }

    /// Time before which an unanswered offer counts as missed.
    fn offer_cutoff(&self, now: Timestamp) -> Timestamp {
        let within = chrono::Duration::from_std(self.settings.accept_within).unwrap_or(chrono::Duration::MAX);
        Timestamp(now.0.checked_sub_signed(within).unwrap_or_default())
    }

    async fn change(&self, tx: &mut Tx, matches: Vec<AssignmentMatch>) -> Result<bool> {
        let now = Timestamp(self.clock.now());
        let cutoff = agents::offline_cutoff(&self.settings, now);
        let mut entries = Vec::new();
        for id in agents::store::list_silent(tx.conn().await?, cutoff).await? {
            entries.append(&mut self.silent(tx, &id, cutoff, now).await?);
        }
        let due = self.excused(now);
        for one in store::list_overdue(tx.conn().await?, due, self.offer_cutoff(due)).await? {
            let late = one.deadline <= due;
            entries.push(self.overdue(tx, one, late, now).await?);
        }
        for AssignmentMatch { id, attempt, agent_id, score } in matches {
            // Both may have changed since they were matched.
            let assignment = store::get(tx.conn().await?, &id).await?.filter(|one| one.attempt == attempt);
            let agent = agents::store::get(tx.conn().await?, &agent_id, cutoff).await?;
            let agent = agent.filter(|agent| agent.is_online() && agent.has_capacity());
            let (Some(mut assignment), Some(agent)) = (assignment, agent) else { continue };
            if assignment.need().incompatibility(&agent).is_some() {
                continue;
            }
            let offered = transitions::offer_assignment(tx, &mut assignment, &agent, score, now).await?;
            if let Some(attempt) = offered {
                self.metrics.offered.inc();
                entries
                    .push(transitions::audit_entry(&assignment, &attempt, "offered", now).data("score", json!(score)));
                self.wake_after(tx, &assignment);
            }
        }
        let changed = !entries.is_empty();
        self.audit.append(tx, entries).await?;
        am_core::crash_point!("assignments.before_commit");
        Ok(changed)
    }

    /// Mark an agent offline that sent no heartbeat, and release its assignments.
    async fn silent(&self, tx: &mut Tx, id: &AgentId, cutoff: Timestamp, now: Timestamp) -> Result<Vec<AuditEntry>> {
        // As read, it is already offline.
        let Some(mut agent) = agents::store::get(tx.conn().await?, id, cutoff).await? else { return Ok(Vec::new()) };
        let seconds = self.settings.offline_after.as_secs_f64();
        let why = format!("no heartbeat for {seconds} seconds");
        agent.updated_at = now;
        agents::store::upsert(tx, &agent).await?;
        for one in &store::list_held_by(tx.conn().await?, id).await? {
            self.wake_after(tx, one);
        }
        let mut entries = transitions::release_all(tx, id, &why, now).await?;
        let released = entries.len() as u64;
        self.metrics.released(released);
        let data = json!({"agent_id": id, "reason": "silent", "released": released});
        agents::store::append_event(tx, RegistryEventKind::Offline, now, data).await?;
        let hub = self.hub.clone();
        tx.after_commit(move || hub.wake(agents::store::REGISTRY_STREAM));
        let entry = agents::audit_entry("offline", id, now).on_behalf_of(owner::SYSTEM_PRINCIPAL);
        let entry = entry.data("reason", json!("silent")).data("owner_id", json!(agent.owner_id));
        let (before, after) = (json!({"status": AgentStatus::Online}), json!({"status": AgentStatus::Offline}));
        entries.push(entry.data("released", json!(released)).change(Some(before), Some(after)));
        Ok(entries)
    }

    /// Close an assignment whose deadline has passed (`late`), or an attempt whose offer was not answered.
    async fn overdue(&self, tx: &mut Tx, mut one: Assignment, late: bool, now: Timestamp) -> Result<AuditEntry> {
        self.wake_after(tx, &one);
        if one.state == AssignmentState::Waiting {
            let last = one.error.take().map(|error| format!("; the last attempt: {error}")).unwrap_or_default();
            one.end_unheld(
                AssignmentState::Failed,
                Some(&format!("no agent was available before the deadline{last}")),
                now,
            );
            store::save(tx, &one).await?;
            let data = json!({"outcome": AttemptOutcome::Expired, "reason": one.error, "state": one.state});
            transitions::append_event(tx, &one, None, ExecutionEventKind::AgentReleased, now, data).await?;
            return Ok(AuditEntry::new(am_audit::EventType::WorkflowUpdated, now)
                .of("assignment", "expired")
                .on_behalf_of(owner::SYSTEM_PRINCIPAL)
                .workflow(one.workflow_id.as_str())
                .execution(one.execution_id.as_str())
                .data("assignment_id", json!(one.id)));
        }
        let mut attempt = transitions::current_attempt(tx.conn().await?, &one).await?;
        let (outcome, why) = if late {
            (AttemptOutcome::Expired, "it was not done before the deadline".to_owned())
        } else {
            let seconds = self.settings.accept_within.as_secs_f64();
            (AttemptOutcome::Missed, format!("agent {:?} did not accept it in {seconds} seconds", attempt.agent_id))
        };
        transitions::close_attempt(tx, &mut one, &mut attempt, outcome, &why, false, now).await?;
        store::insert_notification(tx, &one.id, &attempt, NotificationKind::Cancel, now).await?;
        self.metrics.count(&attempt);
        Ok(transitions::audit_entry(&one, &attempt, "released", now))
    }
}
