//! How far users, workflows and whatever else clients name are trusted: from how executions ended, results held, policies
//! refused and sandboxes were broken out of.

mod error;
mod formula;
mod model;
mod reader;
mod store;

use serde_json::json;

pub use self::{
    error::{Error, Result},
    formula::{Sum, Term},
    model::{Bands, Evidence, Explanation, Filter, LONGEST_ID, LONGEST_TYPE, TrustScore, TrustStatistics},
};
use am_audit::{Audit, Entry, EventType};
use am_core::ambient::{Clock, Ids};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    page::Page,
    principal::Principal,
};

/// What is known of an entity's trust. Cheap to clone.
#[derive(Clone)]
pub struct Trust {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
}

/// Which entity.
#[derive(Clone, Debug)]
pub struct Entity {
    /// What it is.
    pub kind: String,
    /// How rows may name it: first the way that new ones do. Never empty.
    pub forms: Vec<String>,
}

impl Entity {
    fn choose(&self, found: Vec<TrustScore>) -> Option<TrustScore> {
        let place = |score: &TrustScore| self.forms.iter().position(|form| *form == score.entity_id);
        // The oldest of each form comes first.
        found.into_iter().filter(|score| score.entity_type == self.kind).min_by_key(place)
    }

    fn ids(&self) -> Vec<&str> {
        self.forms.iter().map(String::as_str).collect()
    }
}

impl Trust {
    /// In `db`, from what `audit` tells.
    pub fn new(db: Database, clock: Clock, ids: Ids, audit: Audit) -> Self {
        Self { db, clock, ids, audit }
    }

    fn unknown(&self, (kind, id): (&str, &str), now: Timestamp) -> TrustScore {
        TrustScore::unknown(self.ids.prefixed("trust_", 8), kind, id, now)
    }

    /// An entity's scores, with all that has ended by now.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, entity: &Entity) -> Result<TrustScore> {
        self.catch_up().await?;
        let found = store::of_ids(&mut *self.db.read().await?, &entity.ids()).await?;
        entity.choose(found).ok_or(Error::NotFound("Trust score"))
    }

    /// A page of entities, newest first, and how many match.
    ///
    /// # Errors
    /// As the database.
    pub async fn list(&self, filter: &Filter, page: &Page) -> Result<(Vec<TrustScore>, i64)> {
        self.catch_up().await?;
        Ok(store::list(&mut *self.db.read().await?, filter, page).await?)
    }

    /// How an entity's score came about.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn explain(&self, entity: &Entity) -> Result<Explanation> {
        Ok(Explanation::of(self.get(entity).await?, Timestamp(self.clock.now())))
    }

    /// How many entities are trusted how far.
    ///
    /// # Errors
    /// As the database.
    pub async fn statistics(&self) -> Result<TrustStatistics> {
        Ok(store::statistics(&mut *self.db.read().await?).await?)
    }

    /// Take in what a client saw.
    ///
    /// # Errors
    /// As the database.
    pub async fn update(
        &self,
        caller: &Principal,
        entity: Entity,
        seen: Vec<Evidence>,
        once: Option<Once>,
    ) -> Result<Done<TrustScore>> {
        let (trust, caller) = (self.clone(), caller.clone());
        self.db
            .write_once(&self.clock, once, async move |tx: &mut Tx| {
                let now = Timestamp(trust.clock.now());
                let found = entity.choose(store::of_ids(tx.conn().await?, &entity.ids()).await?);
                let id = entity.forms.first().map_or("", String::as_str);
                let before = found.unwrap_or_else(|| trust.unknown((&entity.kind, id), now));
                let after = taken(before.clone(), &seen, None, now);
                let scores = |of: &TrustScore| {
                    Some(json!({"trust_score": of.trust_score, "reputation_score": of.reputation_score}))
                };
                let entry = Entry::new(EventType::WorkflowUpdated, now)
                    .of("trust_score", "updated")
                    .by(&caller)
                    .data("entity_type", json!(entity.kind))
                    .data("entity_id", json!(id))
                    .data("evidence", json!(seen.iter().map(|seen| seen.word()).collect::<Vec<_>>()))
                    .change(scores(&before), scores(&after));
                let audit_id = trust.audit.record(tx, entry).await?;
                let after = taken(before, &seen, Some(&audit_id), now);
                store::put(tx, [&after]).await?;
                Ok::<_, Error>(after)
            })
            .await
    }
}

fn taken(mut score: TrustScore, seen: &[Evidence], audit_id: Option<&str>, now: Timestamp) -> TrustScore {
    for evidence in seen {
        score.take(*evidence, now, audit_id, now);
    }
    score
}
