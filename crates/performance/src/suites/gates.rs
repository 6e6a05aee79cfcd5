//! Gates: what a version of a policy must have shown before an alias may point to it.

mod store;

use am_core::{
    boxed,
    ids::{AliasGateId, SuiteId},
    validation::Violations,
};
use am_db::{
    Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use am_rl::library::AliasCheck;
use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::json;

use super::{
    SuiteService, figures,
    model::{GateDocument, GateDraft, GateRule, TargetKind},
    store as suite_store, visible_suite,
};
use crate::{
    PerformanceCaller,
    error::{PerformanceError, Result},
};

/// Gates of one alias.
const MAX_GATES: i64 = 10;

fn no_gate(id: &AliasGateId) -> PerformanceError {
    PerformanceError::NotFound(format!("No gate {id}"))
}

impl SuiteService {
    /// Make a gate for an alias of a policy of the caller's: from then on the alias is moved only to versions that pass it.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Invalid`]; [`PerformanceError::Conflict`] where there is one like it, or there
    /// are too many.
    #[boxed]
    pub async fn add_gate(
        &self,
        caller: &PerformanceCaller,
        suite: &SuiteId,
        draft: GateDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<GateDocument>> {
        self.get(caller, suite, None).await?;
        let mut violations = Violations::default();
        violations.require((0.0..=1.0).contains(&draft.bound), "bound", "must be from 0 to 1");
        let sound = (1..=64).contains(&draft.alias.len()) && !draft.alias.chars().any(char::is_control);
        violations.require(sound && draft.alias != "latest", "alias", "is no alias that can be moved");
        violations.finish().map_err(PerformanceError::Invalid)?;
        let owned = match self.0.parts.library.get(&draft.policy).await {
            Ok(policy) => caller.is_admin || caller.principal.owns(&policy.owner_id),
            Err(am_rl::RlError::Db(error)) => return Err(error.into()),
            Err(_) => false,
        };
        if !owned {
            return Err(PerformanceError::invalid("policy", format!("you have no policy {:?}", draft.policy)));
        }
        let (now, audit, by, suite) = (self.now(), self.0.parts.audit.clone(), caller.clone(), suite.clone());
        let made = GateDocument {
            id: self.0.parts.ids.next("gate_", 12).into(),
            suite_id: suite,
            policy: draft.policy,
            alias: draft.alias,
            rule: draft.rule,
            bound: draft.bound,
            owner_id: caller.principal.id(),
            created_at: now,
        };
        let entry = self.entry(&caller.principal, "alias_gate", "created", now).data("gate", json!(made.id));
        let entry = entry.data("policy", json!(made.policy)).data("alias", json!(made.alias));
        let work = async move |tx: &mut Tx| {
            visible_suite(tx.conn().await?, &by, &made.suite_id, None).await?;
            let there = store::gates_of(tx.conn().await?, (&made.policy, &made.alias), MAX_GATES).await?;
            if there.len() as i64 >= MAX_GATES {
                let text = format!("The alias has {MAX_GATES} gates, and may have no more");
                return Err(PerformanceError::Conflict("too_many_gates", text));
            }
            if !store::insert_gate(tx, &made).await? {
                let text = "The alias has a gate of this suite with this rule".to_owned();
                return Err(PerformanceError::Conflict("gate_exists", text));
            }
            audit.append(tx, vec![entry]).await?;
            Ok(made)
        };
        self.0.parts.db.write_idempotent(&self.0.parts.clock, once, work).await
    }

    /// A page of a suite's gates, and how many there are.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn gates(
        &self,
        caller: &PerformanceCaller,
        suite: &SuiteId,
        page: &PageRequest,
    ) -> Result<(Vec<GateDocument>, i64)> {
        let mut conn = self.0.parts.db.read_list().await?;
        visible_suite(&mut conn, caller, suite, None).await?;
        Ok(store::gates(&mut conn, suite, page).await?)
    }

    /// Remove a gate.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn remove_gate(&self, caller: &PerformanceCaller, suite: &SuiteId, id: &AliasGateId) -> Result<()> {
        let (by, suite, id, audit) = (caller.clone(), suite.clone(), id.clone(), self.0.parts.audit.clone());
        let entry = self.entry(&caller.principal, "alias_gate", "removed", self.now()).data("gate", json!(id));
        let work = async move |tx: &mut Tx| {
            visible_suite(tx.conn().await?, &by, &suite, None).await?;
            let found = store::gate(tx.conn().await?, &id).await?;
            let Some(found) = found.filter(|gate| gate.suite_id == suite && by.may_see(&gate.owner_id)) else {
                return Err(no_gate(&id));
            };
            store::delete_gate(tx, &id).await?;
            let entry = entry.data("policy", json!(found.policy)).data("alias", json!(found.alias));
            audit.append(tx, vec![entry]).await?;
            Ok(())
        };
        self.0.parts.db.write(work).await
    }

    /// Why a version may not take an alias; `None`: it may.
    async fn gate_refusal(
        &self,
        tx: &mut Tx,
        (policy, alias): (&str, &str),
        version: Option<u32>,
        current: Option<u32>,
    ) -> am_db::Result<Option<String>> {
        let conn = tx.conn().await?;
        for gate in store::gates_of(conn, (policy, alias), MAX_GATES).await? {
            let Some(version) = version else {
                let text =
                    format!("the alias '{alias}' has gates, and the new version was not evaluated: set it once it was");
                return Ok(Some(text));
            };
            let suite = &gate.suite_id;
            let reference = format!("{policy}@{version}");
            let target = (suite, TargetKind::Policy, reference.as_str());
            let Some(new) = suite_store::last_completed(conn, target, &gate.owner_id).await? else {
                let text = format!("the gate {} asks for an evaluation of {reference} by the suite {suite}", gate.id);
                return Ok(Some(text));
            };
            match gate.rule {
                GateRule::AtLeast => {
                    let low = new.low.unwrap_or(0.0);
                    if low < gate.bound {
                        return Ok(Some(format!(
                            "the gate {} asks for a lower bound of {}, and {reference} has {low:.4} in {}",
                            gate.id, gate.bound, new.id
                        )));
                    }
                }
                GateRule::NotWorse => {
                    let Some(current) = current.filter(|current| *current != version) else { continue };
                    let before = format!("{policy}@{current}");
                    let found =
                        suite_store::last_completed(conn, (suite, TargetKind::Policy, &before), &gate.owner_id).await?;
                    let Some(old) = found else {
                        let text =
                            format!("the gate {} asks for an evaluation of {before} by the suite {suite}", gate.id);
                        return Ok(Some(text));
                    };
                    let (after, earlier) = (
                        suite_store::scored_cases(conn, &new.id).await?,
                        suite_store::scored_cases(conn, &old.id).await?,
                    );
                    let found = figures::compare((&new.id, &after), (&old.id, &earlier));
                    // Where all differences are the same there is no interval: what was seen decides.
                    let low = found.low.or(found.difference);
                    if low.is_none_or(|low| low < -gate.bound) {
                        return Ok(Some(format!(
                            "the gate {} asks that {reference} is not worse than {before} by more than {}: the difference's lower \
                             bound is {} on {} cases",
                            gate.id,
                            gate.bound,
                            low.map_or_else(|| "unknown".to_owned(), |low| format!("{low:.4}")),
                            found.pairs
                        )));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl AliasCheck for SuiteService {
    fn refusal<'a>(
        &'a self,
        tx: &'a mut Tx,
        policy: &'a str,
        alias: &'a str,
        version: Option<u32>,
        current: Option<u32>,
    ) -> BoxFuture<'a, am_db::Result<Option<String>>> {
        self.gate_refusal(tx, (policy, alias), version, current).boxed()
    }
}
