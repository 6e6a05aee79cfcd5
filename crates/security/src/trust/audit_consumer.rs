//! Update of trust scores from the audit log: each entry about a user or a workflow is counted exactly once, because
//! the position in the log is stored in the transaction of the scores.

use std::{collections::HashMap, time::Duration};

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{
    Result, TrustService,
    model::{MAX_ENTITY_ID_LEN, TrustScore},
    scoring::TrustEvidence,
    store,
};
use am_audit::{AuditRecord, EventType};
use am_core::{ambient::sleep_or_cancelled, boxed, ids::AgentId, validation};
use am_db::{Tx, codec::Timestamp};

/// Consumer name of the position in the audit log.
const CONSUMER_NAME: &str = "trust";
/// Interval between two reads of the log.
const LOG_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Maximum number of entries per transaction.
const READ_BATCH: u64 = 1000;
/// Maximum number of entries that a query waits for; with a longer backlog it answers from the current scores.
const MAX_CATCH_UP_ENTRIES: u64 = 5 * READ_BATCH;

const COUNTED_EVENTS: [EventType; 7] = [
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
struct EvidenceData {
    execution_time: Option<serde_json::Value>,
    policy_id: Option<serde_json::Value>,
    resource: Option<serde_json::Value>,
    /// Agent of the assignment that the entry is about.
    agent_id: Option<AgentId>,
}

/// Evidence in an audit entry and its agent, if the entry counts.
fn evidence_from_record(fact: &AuditRecord) -> Option<(TrustEvidence, Option<AgentId>)> {
    let known: EvidenceData = fact.data.parse().ok().flatten().unwrap_or_default();
    let seconds = known.execution_time.as_ref().and_then(serde_json::Value::as_f64).filter(|seconds| *seconds >= 0.0);
    let evidence = match fact.event {
        EventType::ExecutionCompleted => Some(TrustEvidence::Execution { success: true, seconds }),
        EventType::ExecutionFailed => Some(TrustEvidence::Execution { success: false, seconds }),
        EventType::VerificationCompleted => Some(TrustEvidence::Verification(true)),
        EventType::VerificationFailed => Some(TrustEvidence::Verification(false)),
        EventType::SecurityViolation => Some(TrustEvidence::SecurityViolation),
        // A refusal counts as a policy's only if the entry names one.
        EventType::AccessDenied => known.policy_id.filter(|id| !id.is_null()).map(|_| TrustEvidence::PolicyViolation),
        EventType::SandboxBreach => Some(TrustEvidence::SandboxBreach),
        _ => None,
    };
    let is_assignment = known.resource.is_some_and(|resource| resource == "assignment");
    Some((evidence?, known.agent_id.filter(|_| is_assignment)))
}

/// Entities that an entry is about: a user and a workflow, or only the agent that it names, because other entries cover
/// that agent's user and workflow.
fn affected_entities<'a>(
    fact: &'a AuditRecord,
    agent: &'a Option<AgentId>,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let agent = agent.as_deref().map(|id| ("agent", id));
    let (user, workflow) = match agent {
        Some(_) => (None, None),
        None => (fact.user.as_ref(), fact.workflow_id.as_deref()),
    };
    let user = user.map(|user| ("user", user.as_str()));
    let workflow = workflow.map(|id| ("workflow", id));
    let all = agent.into_iter().chain(user).chain(workflow);
    all.filter(|(_, id)| validation::has_length(id, &(1..=MAX_ENTITY_ID_LEN)))
}

impl TrustService {
    /// Start at the current end of the log when there is no position yet: existing scores include what was before.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn begin(&self) -> Result<()> {
        Ok(self.audit.begin(CONSUMER_NAME).await?)
    }

    /// Follow the log until `stopping` is cancelled.
    pub async fn work(self, stopping: CancellationToken) {
        while sleep_or_cancelled(&stopping, LOG_POLL_INTERVAL).await {
            if let Err(error) = self.follow(u64::MAX).await {
                tracing::warn!(%error, "trust scores could not be updated; retrying");
            }
        }
    }

    /// Process the log to its end if the backlog is small, so that a client sees the effect of its last action.
    pub(super) async fn catch_up(&self) -> Result<()> {
        self.follow(MAX_CATCH_UP_ENTRIES).await
    }

    async fn follow(&self, most: u64) -> Result<()> {
        let behind = self.audit.behind(CONSUMER_NAME).await?.min(most);
        for _ in 0..behind.div_ceil(READ_BATCH) {
            let trust = self.clone();
            self.db.write(async move |tx: &mut Tx| trust.step(tx).await).await?;
        }
        Ok(())
    }

    async fn step(&self, tx: &mut Tx) -> am_db::Result<()> {
        let now = Timestamp(self.clock.now());
        let facts = self.audit.follow(tx, CONSUMER_NAME, &COUNTED_EVENTS, READ_BATCH).await?;
        let told: Vec<(&AuditRecord, (TrustEvidence, Option<AgentId>))> =
            facts.iter().filter_map(|fact| Some((fact, evidence_from_record(fact)?))).collect();
        let mut ids: Vec<&str> =
            told.iter().flat_map(|(fact, (_, agent))| affected_entities(fact, agent)).map(|(_, id)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        let mut scores: HashMap<(String, String), TrustScore> = HashMap::new();
        for score in store::scores_by_ids(tx.conn().await?, &ids).await? {
            scores.entry((score.entity_type.clone(), score.entity_id.clone())).or_insert(score);
        }
        let mut changed: HashMap<(&str, &str), TrustScore> = HashMap::new();
        for (fact, (evidence, agent)) in &told {
            for entity in affected_entities(fact, agent) {
                let known = || scores.get(&(entity.0.to_owned(), entity.1.to_owned())).cloned();
                let score =
                    changed.entry(entity).or_insert_with(|| known().unwrap_or_else(|| self.unknown(entity, now)));
                score.take(*evidence, fact.at, Some(&fact.audit_id), now);
            }
        }
        store::upsert_scores(tx, changed.values()).await?;
        am_core::crash_point!("trust.before_commit");
        Ok(())
    }
}
