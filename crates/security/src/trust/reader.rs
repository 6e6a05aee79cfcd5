//! Trust follows the audit log: what entries tell of a user or a workflow is counted, each exactly once, because how far
//! the log was read is kept in the transaction of the scores.

use std::{collections::HashMap, time::Duration};

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{
    Result, Trust,
    model::{Evidence, LONGEST_ID, TrustScore},
    store,
};
use am_audit::{EventType, Fact};
use am_core::ambient::pause;
use am_db::{Tx, codec::Timestamp};

/// The name under which the log's cursor is kept.
const READER: &str = "trust";
/// Between two looks at the log.
const EVERY: Duration = Duration::from_millis(500);
/// Entries that one transaction comes past at most.
const AT_ONCE: u64 = 1000;
/// Entries that a question waits for at most; of a longer way it answers what is known so far.
const PATIENCE: u64 = 5 * AT_ONCE;

const EVENTS: [EventType; 7] = [
    EventType::ExecutionCompleted,
    EventType::ExecutionFailed,
    EventType::VerificationCompleted,
    EventType::VerificationFailed,
    EventType::SecurityViolation,
    EventType::AccessDenied,
    EventType::SandboxBreach,
];

/// What an entry's data may hold that counts.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Known {
    execution_time: Option<serde_json::Value>,
    policy_id: Option<serde_json::Value>,
    resource: Option<serde_json::Value>,
    /// Of an entry about an assignment: the agent that had it.
    agent_id: Option<String>,
}

/// What an entry tells, and of whom, if it counts.
fn evidence(fact: &Fact) -> Option<(Evidence, Option<String>)> {
    let known: Known = fact.data.parse().ok().flatten().unwrap_or_default();
    let seconds = known.execution_time.as_ref().and_then(serde_json::Value::as_f64).filter(|seconds| *seconds >= 0.0);
    let evidence = match fact.event {
        EventType::ExecutionCompleted => Some(Evidence::Execution { success: true, seconds }),
        EventType::ExecutionFailed => Some(Evidence::Execution { success: false, seconds }),
        EventType::VerificationCompleted => Some(Evidence::Verification(true)),
        EventType::VerificationFailed => Some(Evidence::Verification(false)),
        EventType::SecurityViolation => Some(Evidence::SecurityViolation),
        // Who may do what is no policy's business unless the entry names one.
        EventType::AccessDenied => known.policy_id.filter(|id| !id.is_null()).map(|_| Evidence::PolicyViolation),
        EventType::SandboxBreach => Some(Evidence::SandboxBreach),
        _ => None,
    };
    let is_assignment = known.resource.is_some_and(|resource| resource == "assignment");
    Some((evidence?, known.agent_id.filter(|_| is_assignment)))
}

/// Whom an entry tells of: a user and a workflow; or the agent alone that it names, whose user and workflow have entries of
/// their own.
fn entities<'a>(fact: &'a Fact, agent: &'a Option<String>) -> impl Iterator<Item = (&'static str, &'a str)> {
    let agent = agent.as_deref().map(|id| ("agent", id));
    let (user, workflow) = match agent {
        Some(_) => (None, None),
        None => (fact.user.as_ref(), fact.workflow_id.as_deref()),
    };
    let user = user.map(|user| ("user", user.as_str()));
    let workflow = workflow.map(|id| ("workflow", id));
    let all = agent.into_iter().chain(user).chain(workflow);
    all.filter(|(_, id)| !id.is_empty() && id.len() <= LONGEST_ID)
}

impl Trust {
    /// Begin at the log's present end, the first time: what was before stands in the scores already.
    ///
    /// # Errors
    /// As the database.
    pub async fn begin(&self) -> Result<()> {
        Ok(self.audit.begin(READER).await?)
    }

    /// Follow the log until `stopping`.
    pub async fn work(self, stopping: CancellationToken) {
        while pause(&stopping, EVERY).await {
            if let Err(error) = self.follow(u64::MAX).await {
                tracing::warn!(%error, "trust could not be brought up to date; trying again");
            }
        }
    }

    /// Come to the log's end, if that is not too far: so that a client sees what it has just done.
    pub(super) async fn catch_up(&self) -> Result<()> {
        self.follow(PATIENCE).await
    }

    async fn follow(&self, most: u64) -> Result<()> {
        let mut left = most;
        // A look is cheap; only what is there to count costs a write.
        while left > 0 && self.audit.behind(READER).await? > 0 {
            let trust = self.clone();
            self.db.write(async move |tx: &mut Tx| trust.step(tx).await).await?;
            left = left.saturating_sub(AT_ONCE);
        }
        Ok(())
    }

    async fn step(&self, tx: &mut Tx) -> am_db::Result<()> {
        let now = Timestamp(self.clock.now());
        let facts = self.audit.follow(tx, READER, &EVENTS, AT_ONCE).await?;
        let told: Vec<(&Fact, (Evidence, Option<String>))> =
            facts.iter().filter_map(|fact| Some((fact, evidence(fact)?))).collect();
        let mut ids: Vec<&str> =
            told.iter().flat_map(|(fact, (_, agent))| entities(fact, agent)).map(|(_, id)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        let mut scores: HashMap<(String, String), TrustScore> = HashMap::new();
        for score in store::of_ids(tx.conn().await?, &ids).await? {
            scores.entry((score.entity_type.clone(), score.entity_id.clone())).or_insert(score);
        }
        let mut changed: HashMap<(&str, &str), TrustScore> = HashMap::new();
        for (fact, (evidence, agent)) in &told {
            for entity in entities(fact, agent) {
                let known = || scores.get(&(entity.0.to_owned(), entity.1.to_owned())).cloned();
                let score =
                    changed.entry(entity).or_insert_with(|| known().unwrap_or_else(|| self.unknown(entity, now)));
                score.take(*evidence, fact.at, Some(&fact.audit_id), now);
            }
        }
        store::put(tx, changed.values()).await?;
        am_core::crash_point!("trust.before_commit");
        Ok(())
    }
}
