//! Dispatch of assignments to agents. Any process may do it: each round is one transaction that counts the agents'
//! assignments, so that no agent gets more than it accepts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Assignments, Inner, WORK, changes,
    model::{Assignment, Outcome, State},
    store,
};
use crate::{
    error::Result,
    registry::{self, Agent, TaskType, best},
};
use am_audit::Entry;
use am_core::supervisor::BackgroundTask;
use am_db::{Connection, Tx, codec::Timestamp, owner};

/// Polling interval while nothing wakes the dispatcher.
const LOOK: Duration = Duration::from_millis(500);
/// Maximum number of waiting assignments examined per round.
const AT_ONCE: i64 = 200;

/// An assignment and the agent that gets it.
struct Match {
    assignment: Assignment,
    agent: Agent,
    score: f64,
}

impl Assignments {
    /// The tasks that give assignments to agents and tell them of it, until `stopping`.
    pub fn background_tasks(&self, stopping: &CancellationToken) -> [BackgroundTask; 2] {
        [
            BackgroundTask::new("assignments.dispatch", self.clone().work(stopping.clone())),
            BackgroundTask::new("assignments.notices", self.clone().tell(stopping.clone())),
        ]
    }

    /// Dispatch assignments, and release those of agents that are gone, until `stopping`.
    async fn work(self, stopping: CancellationToken) {
        let mut subscription = self.0.hub.subscribe(WORK);
        loop {
            match self.0.round().await {
                // More work may be waiting.
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "could not dispatch assignments; retrying"),
            }
            tokio::select! {
                () = stopping.cancelled() => break,
                () = subscription.woken() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

impl Inner {
    /// Do one dispatch round. Returns whether anything changed.
    async fn round(self: &std::sync::Arc<Self>) -> Result<bool> {
        let now = Timestamp(self.clock.now());
        if !self.anything_to_do(now).await? {
            return Ok(false);
        }
        let inner = self.clone();
        // The time is read while the write lock is held, so that timestamps follow the order of changes.
        self.db.write(async move |tx: &mut Tx| inner.change(tx).await).await
    }

    /// Check on a read connection whether a round would change anything, so that an idle round takes no write lock.
    async fn anything_to_do(&self, now: Timestamp) -> Result<bool> {
        let mut conn = self.db.read().await?;
        let cutoff = self.registry.cutoff(now);
        let (_, online) = registry::store::counts(&mut conn, cutoff).await?;
        let (waiting, held) = store::open(&mut conn).await?;
        self.metrics.online.set(online);
        self.metrics.waiting.set(waiting);
        self.metrics.held.set(held);
        if !registry::store::silent(&mut conn, cutoff).await?.is_empty() {
            return Ok(true);
        }
        if waiting + held == 0 {
            return Ok(false);
        }
        if !store::overdue(&mut conn, now, self.unanswered_since(now)).await?.is_empty() {
            return Ok(true);
        }
        Ok(waiting > 0 && online > 0 && !matches(&mut conn, cutoff).await?.is_empty())
    }

    /// Time before which an unanswered offer counts as missed.
    fn unanswered_since(&self, now: Timestamp) -> Timestamp {
        let within = chrono::Duration::from_std(self.settings.accept_within).unwrap_or(chrono::Duration::MAX);
        Timestamp(now.0.checked_sub_signed(within).unwrap_or_default())
    }

    async fn change(&self, tx: &mut Tx) -> Result<bool> {
        let now = Timestamp(self.clock.now());
        let cutoff = self.registry.cutoff(now);
        let mut entries = Vec::new();
        for id in registry::store::silent(tx.conn().await?, cutoff).await? {
            entries.append(&mut self.silent(tx, &id, cutoff, now).await?);
        }
        for one in store::overdue(tx.conn().await?, now, self.unanswered_since(now)).await? {
            entries.push(self.overdue(tx, one, now).await?);
        }
        for Match { mut assignment, agent, score } in matches(tx.conn().await?, cutoff).await? {
            let offered = changes::offer(tx, &mut assignment, &agent, score, now).await?;
            if let Some(attempt) = offered {
                self.metrics.offered.inc();
                entries.push(changes::entry(&assignment, &attempt, "offered", now).data("score", json!(score)));
                self.wake_after(tx, &assignment);
            }
        }
        let changed = !entries.is_empty();
        self.audit.append(tx, entries).await?;
        am_core::crash_point!("assignments.before_commit");
        Ok(changed)
    }

    /// Mark an agent offline that sent no heartbeat, and release its assignments.
    async fn silent(&self, tx: &mut Tx, id: &str, cutoff: Timestamp, now: Timestamp) -> Result<Vec<Entry>> {
        // As read, it is already offline.
        let Some(mut agent) = registry::store::get(tx.conn().await?, id, cutoff).await? else { return Ok(Vec::new()) };
        let seconds = self.settings.offline_after.as_secs_f64();
        let why = format!("no heartbeat for {seconds} seconds");
        agent.updated_at = now;
        registry::store::put(tx, &agent).await?;
        for one in &store::held_by(tx.conn().await?, id).await? {
            self.wake_after(tx, one);
        }
        let mut entries = changes::release_all(tx, id, &why, now).await?;
        let released = entries.len() as u64;
        self.metrics.released(released);
        let data = json!({"agent_id": id, "reason": "silent", "released": released});
        registry::store::tell(tx, "agent_offline", now, data).await?;
        let hub = self.hub.clone();
        tx.after_commit(move || hub.wake(registry::store::STREAM));
        let entry = registry::entry("offline", id, now).on_behalf_of(owner::SYSTEM);
        let change = (Some(json!({"status": "online"})), Some(json!({"status": "offline"})));
        entries.push(entry.data("released", json!(released)).change(change.0, change.1));
        Ok(entries)
    }

    /// Close an assignment whose deadline has passed, or an attempt whose offer was not answered.
    async fn overdue(&self, tx: &mut Tx, mut one: Assignment, now: Timestamp) -> Result<Entry> {
        let late = one.deadline <= now;
        self.wake_after(tx, &one);
        if one.state == State::Waiting {
            let last = one.error.take().map(|error| format!("; the last attempt: {error}")).unwrap_or_default();
            one.end_unheld(State::Failed, Some(&format!("no agent was available before the deadline{last}")), now);
            store::save(tx, &one).await?;
            let data = json!({"outcome": Outcome::Expired, "reason": one.error, "state": one.state});
            changes::tell(tx, &one, None, "agent_released", now, data).await?;
            return Ok(Entry::new(am_audit::EventType::WorkflowUpdated, now)
                .of("assignment", "expired")
                .on_behalf_of(owner::SYSTEM)
                .workflow(&one.workflow_id)
                .execution(&one.execution_id)
                .data("assignment_id", json!(one.id)));
        }
        let mut attempt = changes::current(tx.conn().await?, &one).await?;
        let (outcome, why) = if late {
            (Outcome::Expired, "it was not done before the deadline".to_owned())
        } else {
            let seconds = self.settings.accept_within.as_secs_f64();
            (Outcome::Missed, format!("agent {:?} did not accept it in {seconds} seconds", attempt.agent_id))
        };
        changes::over(tx, &mut one, &mut attempt, outcome, &why, false, now).await?;
        store::notify(tx, &one.id, &attempt, "CANCEL", now).await?;
        self.metrics.count(&attempt);
        Ok(changes::entry(&one, &attempt, "released", now))
    }
}

/// Match assignments to agents: by urgency, each to the best agent that has capacity then.
async fn matches(conn: &mut Connection, cutoff: Timestamp) -> Result<Vec<Match>> {
    let mut agents = registry::store::all(conn, cutoff).await?;
    // Assignments that no agent can take now must not block those that one can.
    let free = agents.iter().filter(|agent| agent.is_online() && agent.has_room());
    let types: BTreeSet<TaskType> = free.flat_map(|agent| agent.task_types.iter().copied()).collect();
    let waiting = store::waiting(conn, &types, AT_ONCE).await?;
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let fastest = registry::store::fastest(conn).await?;
    let tried = store::tried(conn).await?;
    Ok(matched(waiting, &mut agents, &fastest, &tried))
}

fn matched(
    waiting: Vec<Assignment>,
    agents: &mut [Agent],
    fastest: &BTreeMap<TaskType, f64>,
    tried: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<Match> {
    let nobody = BTreeSet::new();
    let mut found = Vec::new();
    for assignment in waiting {
        let had = tried.get(&assignment.id).unwrap_or(&nobody);
        let Ok((agent, score)) = best(&assignment.need(), agents, fastest, had) else { continue };
        let agent = agent.clone();
        if let Some(taken) = agents.iter_mut().find(|other| other.id == agent.id) {
            taken.open += 1;
        }
        found.push(Match { assignment, agent, score });
    }
    found
}
