//! Update of trust scores from the audit log: each entry about a user or a workflow is counted exactly once, because
//! the position in the log is stored in the transaction of the scores.

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

/// Consumer name of the position in the audit log.
const READER: &str = "trust";
/// Interval between two reads of the log.
const EVERY: Duration = Duration::from_millis(500);
/// Maximum number of entries per transaction.
const AT_ONCE: u64 = 1000;
/// Maximum number of entries that a query waits for; with a longer backlog it answers from the current scores.
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

/// Relevant data of an audit entry.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Known {
    execution_time: Option<serde_json::Value>,
    policy_id: Option<serde_json::Value>,
    resource: Option<serde_json::Value>,
    /// Agent of the assignment that the entry is about.
    agent_id: Option<String>,
}

/// Evidence in an audit entry and its agent, if the entry counts.
fn evidence(fact: &Fact) -> Option<(Evidence, Option<String>)> {
    let known: Known = fact.data.parse().ok().flatten().unwrap_or_default();
    let seconds = known.execution_time.as_ref().and_then(serde_json::Value::as_f64).filter(|seconds| *seconds >= 0.0);
    let evidence = match fact.event {
        EventType::ExecutionCompleted => Some(Evidence::Execution { success: true, seconds }),
        EventType::ExecutionFailed => Some(Evidence::Execution { success: false, seconds }),
        EventType::VerificationCompleted => Some(Evidence::Verification(true)),
        EventType::VerificationFailed => Some(Evidence::Verification(false)),
        EventType::SecurityViolation => Some(Evidence::SecurityViolation),
        // A refusal counts as a policy's only if the entry names one.
        EventType::AccessDenied => known.policy_id.filter(|id| !id.is_null()).map(|_| Evidence::PolicyViolation),
        EventType::SandboxBreach => Some(Evidence::SandboxBreach),
        _ => None,
    };
    let is_assignment = known.resource.is_some_and(|resource| resource == "assignment");
    Some((evidence?, known.agent_id.filter(|_| is_assignment)))
}

/// Entities that an entry is about: a user and a workflow, or only the agent that it names, because other entries cover
/// that agent's user and workflow.
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
    /// Start at the current end of the log when there is no position yet: existing scores include what was before.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn begin(&self) -> Result<()> {
        Ok(self.audit.begin(READER).await?)
    }

    /// Follow the log until `stopping` is cancelled.
    pub async fn work(self, stopping: CancellationToken) {
        while pause(&stopping, EVERY).await {
            if let Err(error) = self.follow(u64::MAX).await {
                tracing::warn!(%error, "trust scores could not be updated; retrying");
            }
        }
    }

    /// Process the log to its end if the backlog is small, so that a client sees the effect of its last action.
    pub(super) async fn catch_up(&self) -> Result<()> {
        self.follow(PATIENCE).await
    }

    async fn follow(&self, most: u64) -> Result<()> {
        let mut left = most;
        // Checking is cheap; only entries to count need a write.
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
