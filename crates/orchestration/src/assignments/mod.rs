//! Assignments: sub-tasks that agents do. Each is what one attempt of a step waits for; it is given to the best agent that
//! is free, taken from one that goes away, and given to the next, each time under a higher number, by which what an agent
//! says too late is known.

mod changes;
mod courier;
mod dispatch;
mod metrics;
mod model;
mod store;
mod tell;

use std::{pin::Pin, sync::Arc};

use prometheus_client::registry::Registry as Metrics;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use changes::{place, release_all, take_back};
pub use model::{Assignment, Attempt, NewAssignment, Outcome, PREFIX, Report, State, Verdict, is_assignment_id};
pub(crate) use store::{attempts, of_execution, open};

use super::{
    error::{Error, Result},
    registry::{self, Registry},
};
use am_audit::Audit;
use am_core::{ambient::Clock, config::AgentsConfig, crypto};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    principal::Principal,
};
use am_events::Hub;

/// What wakes whoever gives assignments to agents.
pub const WORK: &str = "assignments";

/// Seconds a step leaves an assignment beyond its own time, which ends it with better words.
pub const AROUND: std::time::Duration = std::time::Duration::from_secs(5);

/// A message to an agent that is not called at an address.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The agent.
    pub recipient: String,
    /// The same for each repetition.
    pub message_id: String,
    /// Is it a new task? Otherwise it takes one back.
    pub is_task: bool,
    /// How long it is worth keeping for the agent.
    pub keep: std::time::Duration,
    /// What it says.
    pub content: Value,
}

/// Carries messages to agents.
pub trait Courier: Send + Sync + 'static {
    /// Hand a message over; it is kept for its recipient then. The same `message_id` again changes nothing.
    fn send(&self, letter: Letter) -> Pin<Box<dyn Future<Output = std::result::Result<(), String>> + Send + '_>>;
}

/// The assignments. Cheap to clone.
#[derive(Clone)]
pub struct Assignments(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    audit: Audit,
    hub: Hub,
    registry: Registry,
    settings: AgentsConfig,
    client: reqwest::Client,
    courier: Arc<dyn Courier>,
    metrics: metrics::Metrics,
}

/// How an assignment ended, for the step that waits for it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// A final state.
    pub state: State,
    /// What the agent delivered.
    pub result: Value,
    /// Why it failed.
    pub error: Option<String>,
    /// What it cost.
    pub cost: f64,
}

/// An assignment with all attempts at it.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// As it stands.
    #[serde(flatten)]
    pub assignment: Assignment,
    /// The oldest first.
    pub attempts: Vec<Attempt>,
}

/// What a report came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reported {
    /// The assignment.
    pub assignment_id: String,
    /// The attempt that reported.
    pub attempt: i64,
    /// Where the assignment stands now.
    pub state: State,
    /// Had the same been reported before?
    pub known: bool,
}

impl Assignments {
    /// In `db`, given to the agents of `registry`, who are told at their addresses, or by `courier` where they have none.
    ///
    /// # Errors
    /// When the HTTP client can't be built.
    pub fn new(
        (db, clock): (Database, Clock),
        audit: Audit,
        hub: Hub,
        registry: Registry,
        settings: AgentsConfig,
        courier: Arc<dyn Courier>,
    ) -> std::result::Result<Self, reqwest::Error> {
        let client = tell::client(&settings)?;
        let metrics = metrics::Metrics::default();
        Ok(Self(Arc::new(Inner { db, clock, audit, hub, registry, settings, client, courier, metrics })))
    }

    /// Add the room's metrics.
    pub fn register(&self, metrics: &mut Metrics) {
        self.0.metrics.register(metrics);
    }

    /// Something was placed or taken back.
    pub fn wake(&self) {
        self.0.hub.wake(WORK);
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Until assignment `id` has ended. A database that can't be read for a moment is no reason to give it up.
    pub async fn ended(&self, id: &str) -> Ended {
        let mut subscription = self.0.hub.subscribe(id);
        loop {
            match self.find(id).await {
                Ok(Some(one)) if one.state.is_final() => {
                    let result = one.result.parse().ok().flatten().unwrap_or(Value::Null);
                    return Ended { state: one.state, result, error: one.error, cost: one.cost.unwrap_or(0.0) };
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    let error = Some("it is not on record".to_owned());
                    return Ended { state: State::Failed, result: Value::Null, error, cost: 0.0 };
                }
                Err(error) => tracing::warn!(assignment = id, %error, "could not look at an assignment; trying again"),
            }
            // What another process is told is found by looking.
            tokio::select! {
                () = subscription.woken() => {}
                () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
            }
        }
    }

    async fn find(&self, id: &str) -> Result<Option<Assignment>> {
        store::get(&mut *self.0.db.read().await?, id).await
    }

    /// An assignment that `caller` asked for, or whose agent is `caller`'s, with its attempts.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn get(&self, caller: &Principal, id: &str) -> Result<History> {
        let mut conn = self.0.db.read().await?;
        let assignment = store::get(&mut conn, id).await?.ok_or(Error::NotFound("Assignment"))?;
        let cutoff = self.0.registry.cutoff(self.now());
        let agent = match &assignment.agent_id {
            Some(agent) => registry::store::get(&mut conn, agent, cutoff).await?,
            None => None,
        };
        if !caller.owns(&assignment.client_id) && !agent.is_some_and(|agent| caller.owns(&agent.owner_id)) {
            return Err(Error::Forbidden);
        }
        let attempts = store::attempts(&mut conn, &assignment.execution_id).await?.remove(id).unwrap_or_default();
        Ok(History { assignment, attempts })
    }

    /// What an agent of `owner`'s has to do now, the most urgent first.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn of_agent(&self, owner: &Principal, agent_id: &str) -> Result<Vec<Assignment>> {
        let mut conn = self.0.db.read().await?;
        let cutoff = self.0.registry.cutoff(self.now());
        let agent = registry::store::get(&mut conn, agent_id, cutoff).await?.ok_or(Error::NotFound("Agent"))?;
        if !owner.owns(&agent.owner_id) {
            return Err(Error::Forbidden);
        }
        store::held_by(&mut conn, agent_id).await
    }

    /// Take in what the agent that made attempt `number` tells. The same again is answered the same.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the attempt is over, because another agent has it, or it has ended otherwise;
    /// [`Error::Forbidden`] for another owner's agent; [`Error::NotFound`].
    pub async fn report(
        &self,
        owner: &Principal,
        id: &str,
        number: i64,
        report: Report,
        once: Option<Once>,
    ) -> Result<Done<Reported>> {
        let (inner, owner, id) = (self.0.clone(), owner.clone(), id.to_owned());
        self.0
            .db
            .write_once(&self.0.clock, once, async move |tx: &mut Tx| {
                let cutoff = inner.registry.cutoff(Timestamp(inner.clock.now()));
                let attempt = store::get_attempt(tx.conn().await?, &id, number).await?;
                let attempt = attempt.ok_or(Error::NotFound("Assignment attempt"))?;
                let agent = registry::store::get(tx.conn().await?, &attempt.agent_id, cutoff).await?;
                match agent {
                    Some(agent) if !owner.owns(&agent.owner_id) => return Err(Error::Forbidden),
                    Some(_) => {}
                    None => return Err(Error::Conflict(late(&attempt, "its agent is registered no more"))),
                }
                inner.take(tx, &id, attempt, report, Some(&owner)).await
            })
            .await
    }
}

impl Inner {
    /// Take in a report; `owner` sent it, none: this service learned it itself.
    async fn take(
        &self,
        tx: &mut Tx,
        id: &str,
        mut attempt: Attempt,
        report: Report,
        owner: Option<&Principal>,
    ) -> Result<Reported> {
        let now = Timestamp(self.clock.now());
        let mut one = store::get(tx.conn().await?, id).await?.ok_or(Error::NotFound("Assignment"))?;
        let digest = digest(&report)?;
        let known = match one.judge(&attempt, &report, &digest) {
            Verdict::Known => true,
            Verdict::Counts => false,
            Verdict::Late(outcome) => return Err(Error::Conflict(late(&attempt, &format!("it is {outcome}")))),
        };
        if !known {
            let action = match report {
                Report::Accept | Report::Progress(_) => {
                    let begins = attempt.accepted_at.is_none();
                    one.accept(&mut attempt, now);
                    if let Report::Progress(percent) = report {
                        one.advance(percent);
                    }
                    store::save_attempt(tx, id, &attempt).await?;
                    store::save(tx, &one).await?;
                    let kind = if begins { "agent_accepted" } else { "agent_progress" };
                    let data = json!({"progress": one.progress});
                    changes::tell(tx, &one, Some(&attempt), kind, now, data).await?;
                    begins.then_some("accepted")
                }
                Report::Complete(result) => {
                    attempt.digest = Some(digest);
                    changes::complete(tx, &mut one, &mut attempt, &result, now).await?;
                    Some("completed")
                }
                Report::Fail(why, again) => {
                    attempt.digest = Some(digest);
                    changes::over(tx, &mut one, &mut attempt, Outcome::Failed, &why, !again, now).await?;
                    Some("failed")
                }
            };
            if let Some(action) = action {
                let mut entry = changes::entry(&one, &attempt, action, now);
                if let Some(owner) = owner {
                    entry = entry.by(owner);
                }
                self.audit.append(tx, vec![entry]).await?;
            }
            self.metrics.count(&attempt);
            self.wake_after(tx, &one);
        }
        Ok(Reported { assignment_id: id.to_owned(), attempt: attempt.attempt, state: one.state, known })
    }

    /// Wake who waits for it, who follows its run, and who gives agents work, once it is committed.
    fn wake_after(&self, tx: &mut Tx, one: &Assignment) {
        let (hub, id, execution) = (self.hub.clone(), one.id.clone(), one.execution_id.clone());
        tx.after_commit(move || {
            hub.wake(&id);
            hub.wake(&execution);
            hub.wake(WORK);
        });
    }
}

fn late(attempt: &Attempt, why: &str) -> String {
    let reason = attempt.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("attempt {} at this assignment is over: {why}{reason}", attempt.attempt)
}

/// What a repetition is known by.
fn digest(report: &Report) -> Result<String> {
    let said = match report {
        Report::Accept => json!(["accept"]),
        Report::Progress(percent) => json!(["progress", percent]),
        Report::Complete(result) => json!(["result", result]),
        Report::Fail(why, again) => json!(["fail", why, again]),
    };
    Ok(crypto::sha256_hex(&crypto::audit(&said)))
}
