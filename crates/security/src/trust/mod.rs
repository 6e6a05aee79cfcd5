//! Trust scores of users, workflows and other entities that clients name, computed from the outcomes of executions and
//! verifications, refusals by policies and sandbox breaches.

mod audit_consumer;
mod error;
mod formula;
mod model;
mod scoring;
mod store;

use serde_json::json;

pub use self::{
    error::{Result, TrustError},
    formula::{ScoreSum, ScoreTerm},
    model::{MAX_ENTITY_ID_LEN, MAX_ENTITY_TYPE_LEN, TrustDistribution, TrustFilter, TrustScore, TrustStatistics},
    scoring::{TrustEvidence, TrustExplanation},
};
use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::AuditId,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};

/// The trust scores. Cheap to clone.
#[derive(Clone)]
pub struct TrustService {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
}

/// An entity with a trust score.
#[derive(Clone, Debug)]
pub struct TrustEntity {
    /// Type of the entity.
    pub kind: String,
    /// Forms of its id in rows, the current form first. Never empty.
    pub forms: Vec<String>,
}

impl TrustEntity {
    fn choose(&self, found: Vec<TrustScore>) -> Option<TrustScore> {
        let place = |score: &TrustScore| self.forms.iter().position(|form| *form == score.entity_id);
        // The oldest row of each form comes first.
        found.into_iter().filter(|score| score.entity_type == self.kind).min_by_key(place)
    }

    fn ids(&self) -> Vec<&str> {
        self.forms.iter().map(String::as_str).collect()
    }
}

impl TrustService {
    /// Create the service on `db`, with evidence from `audit`.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, audit: AuditLog) -> Self {
        Self { db, clock, ids, audit }
    }

    fn unknown(&self, (kind, id): (&str, &str), now: Timestamp) -> TrustScore {
        TrustScore::unknown(self.ids.random_id("trust_", 8).into(), kind, id, now)
    }

    /// Scores of an entity, up to date with the audit log.
    ///
    /// # Errors
    /// Returns [`TrustError::NotFound`] when it has none.
    #[boxed]
    pub async fn get(&self, entity: &TrustEntity) -> Result<TrustScore> {
        self.catch_up().await?;
        let found = store::scores_by_ids(&mut *self.db.read().await?, &entity.ids()).await?;
        entity.choose(found).ok_or(TrustError::NotFound("Trust score"))
    }

    /// A page of scores, newest first, and the total number of matches.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list(&self, filter: &TrustFilter, page: &PageRequest) -> Result<(Vec<TrustScore>, i64)> {
        self.catch_up().await?;
        Ok(store::list(&self.db, filter, page).await?)
    }

    /// Explanation of an entity's scores.
    ///
    /// # Errors
    /// Returns [`TrustError::NotFound`] when it has none.
    #[boxed]
    pub async fn explain(&self, entity: &TrustEntity) -> Result<TrustExplanation> {
        Ok(TrustExplanation::explain(self.get(entity).await?, Timestamp(self.clock.now())))
    }

    /// Distribution of trust scores.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn statistics(&self) -> Result<TrustStatistics> {
        Ok(store::statistics(&self.db).await?)
    }

    /// Add evidence reported by a client.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn update(
        &self,
        caller: &Principal,
        entity: TrustEntity,
        seen: Vec<TrustEvidence>,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TrustScore>> {
        let (trust, caller) = (self.clone(), caller.clone());
        self.db
            .write_idempotent(&self.clock, once, async move |tx: &mut Tx| {
                let now = Timestamp(trust.clock.now());
                let found = entity.choose(store::scores_by_ids(tx.conn().await?, &entity.ids()).await?);
                let id = entity.forms.first().map_or("", String::as_str);
                let before = found.unwrap_or_else(|| trust.unknown((&entity.kind, id), now));
                let after = with_evidence(before.clone(), &seen, None, now);
                let scores = |of: &TrustScore| {
                    Some(json!({"trust_score": of.trust_score, "reputation_score": of.reputation_score}))
                };
                let entry = AuditEntry::new(EventType::WorkflowUpdated, now)
                    .of("trust_score", "updated")
                    .by(&caller)
                    .data("entity_type", json!(entity.kind))
                    .data("entity_id", json!(id))
                    .data("evidence", json!(seen.iter().map(|seen| seen.word()).collect::<Vec<_>>()))
                    .change(scores(&before), scores(&after));
                let audit_id = trust.audit.record(tx, entry).await?;
                let after = with_evidence(before, &seen, Some(&audit_id), now);
                store::upsert_scores(tx, [&after]).await?;
                Ok::<_, TrustError>(after)
            })
            .await
    }
}

fn with_evidence(
    mut score: TrustScore,
    seen: &[TrustEvidence],
    audit_id: Option<&AuditId>,
    now: Timestamp,
) -> TrustScore {
    for evidence in seen {
        score.take(*evidence, now, audit_id, now);
    }
    score
}
