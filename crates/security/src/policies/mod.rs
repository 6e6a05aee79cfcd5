//! Security policies: restrictions on the workflows of a security level. Active policies are cached in memory, so that
//! a check needs no database access.

mod bounds;
mod check;
mod explain;
mod model;
pub mod policy_change;
pub mod rule;
mod store;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use bounds::{CommandFacts, PolicyBounds};
pub use check::{PolicyRefusal, StepDestination, StepFacts, WorkflowFacts};
pub use explain::PolicyExplanation;
pub use model::{SecurityPolicy, SecurityPolicyFilter};
pub use policy_change::PolicyChange;

use crate::sandbox::SandboxBounds;
use am_audit::{AuditEntry, AuditLog, EventType, SecurityLevel};
use am_core::{
    ambient::{Clock, IdGenerator, sleep_or_cancelled},
    boxed,
    ids::SecurityPolicyId,
    money::Money,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};

/// Interval at which changes by other processes are looked for.
const POLICY_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Error of a security policy operation.
#[derive(Debug, thiserror::Error)]
pub enum SecurityPolicyError {
    /// There is no policy with this id.
    #[error("there is no security policy {0}")]
    NotFound(SecurityPolicyId),
    /// Another policy has this name.
    #[error("another security policy is named {0:?}")]
    NameTaken(String),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}

/// Result of a security policy operation.
pub type Result<T> = std::result::Result<T, SecurityPolicyError>;

/// The security policies. Cheap to clone.
#[derive(Clone)]
pub struct SecurityPolicies(Arc<SecurityPoliciesInner>);

struct SecurityPoliciesInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    active: watch::Sender<Arc<[SecurityPolicy]>>,
    /// Lock held while policies are read and put in force, so that an older version never replaces a newer one.
    refreshing: tokio::sync::Mutex<()>,
}

impl SecurityPolicies {
    /// Load the policies of `db`.
    ///
    /// # Errors
    /// Fails when they can't be read: the service must not run without its policies.
    #[boxed]
    pub async fn open(db: Database, clock: Clock, ids: IdGenerator, audit: AuditLog) -> Result<Self> {
        let (active, refreshing) = (watch::Sender::default(), tokio::sync::Mutex::default());
        let policies = Self(Arc::new(SecurityPoliciesInner { db, clock, ids, audit, active, refreshing }));
        policies.refresh().await?;
        Ok(policies)
    }

    /// Reload the policies from the database and put them in force.
    ///
    /// # Errors
    /// Returns a database error when a query fails; the cached policies stay in force then.
    #[boxed]
    pub async fn refresh(&self) -> Result<()> {
        let _one = self.0.refreshing.lock().await;
        let active: Arc<[SecurityPolicy]> = store::active_policies(&mut *self.0.db.read().await?).await?.into();
        self.0.active.send_if_modified(|known| {
            let changed = *known != active;
            *known = active;
            changed
        });
        Ok(())
    }

    /// Reload changed policies at intervals until `stop` is cancelled.
    #[boxed]
    pub async fn watch(self, stop: CancellationToken) {
        while sleep_or_cancelled(&stop, POLICY_POLL_INTERVAL).await {
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "could not reload changed security policies; the cached ones stay in force");
            }
        }
    }

    /// The policies in force.
    pub fn active(&self) -> Arc<[SecurityPolicy]> {
        self.0.active.borrow().clone()
    }

    /// A receiver that is notified when the policies in force change.
    pub fn subscribe_changes(&self) -> watch::Receiver<Arc<[SecurityPolicy]>> {
        self.0.active.subscribe()
    }

    /// Whether any policy applies to workflows of this level.
    pub fn bind(&self, level: SecurityLevel) -> bool {
        self.active().iter().any(|policy| policy.security_level == level)
    }

    /// The strictest time limit for runs of this level in seconds, with its policy; `None`: no limit.
    pub fn time_limit(&self, level: SecurityLevel) -> Option<(i64, SecurityPolicy)> {
        let active = self.active();
        let binding = active.iter().filter(|policy| policy.security_level == level);
        let strictest = binding.min_by_key(|policy| policy.max_execution_time)?;
        Some((strictest.max_execution_time, strictest.clone()))
    }

    /// The strictest limit of the cost for runs of this level; `None`: no limit.
    pub fn cost_limit(&self, level: SecurityLevel) -> Option<Money> {
        let active = self.active();
        active
            .iter()
            .filter(|policy| policy.security_level == level)
            .filter_map(|policy| policy.bounds.max_cost_budget)
            .min()
    }

    /// The bounds of all policies of this level on the sandboxes of its runs.
    pub fn sandbox_bounds(&self, level: SecurityLevel) -> SandboxBounds {
        let mut bounds = SandboxBounds::default();
        for policy in self.active().iter().filter(|policy| policy.security_level == level) {
            policy.bounds.narrow(&mut bounds);
            let memory = policy.max_memory_usage.unsigned_abs();
            bounds.memory_mb = Some(bounds.memory_mb.map_or(memory, |least| least.min(memory)));
        }
        bounds
    }

    /// Check what is asked of the sandbox of a run of this level.
    ///
    /// # Errors
    /// Returns the first violation.
    pub fn check_sandbox(
        &self,
        level: SecurityLevel,
        asked: &CommandFacts,
    ) -> std::result::Result<(), Box<PolicyRefusal>> {
        let active = self.active();
        let mut binding = active.iter().filter(|policy| policy.security_level == level);
        let broken = binding.find_map(|policy| check::check_sandbox(policy, asked).into_iter().next());
        broken.map_or(Ok(()), |refusal| Err(Box::new(refusal)))
    }

    /// All violations of the policies that apply to a workflow, including those by its steps.
    pub fn violations(&self, facts: &WorkflowFacts) -> Vec<PolicyRefusal> {
        let active = self.active();
        let binding = active.iter().filter(|policy| policy.security_level == facts.level);
        binding.flat_map(|policy| check::check_workflow(policy, facts)).collect()
    }

    /// Check whether a workflow may be stored or run.
    ///
    /// # Errors
    /// Returns the first violation.
    pub fn check_workflow(&self, facts: &WorkflowFacts) -> std::result::Result<(), Box<PolicyRefusal>> {
        self.violations(facts).into_iter().next().map_or(Ok(()), |refusal| Err(Box::new(refusal)))
    }

    /// Check whether a step of a run may start. The run's time is measured instead: see [`SecurityPolicies::time_limit`].
    ///
    /// # Errors
    /// Returns the first violation.
    pub fn check_step(&self, run: &WorkflowFacts, step: &StepFacts) -> std::result::Result<(), Box<PolicyRefusal>> {
        let active = self.active();
        let binding = active.iter().filter(|policy| policy.security_level == run.level);
        let broken =
            binding.flat_map(|policy| check::check_run(policy, run).into_iter().chain(check::check_step(policy, step)));
        broken.into_iter().next().map_or(Ok(()), |refusal| Err(Box::new(refusal)))
    }

    /// Check whether a run of this level may start while its client has `under_way` others running.
    ///
    /// # Errors
    /// Returns the limit that is reached.
    pub fn check_concurrency(
        &self,
        level: SecurityLevel,
        under_way: i64,
    ) -> std::result::Result<(), Box<PolicyRefusal>> {
        let active = self.active();
        let full = active
            .iter()
            .filter(|policy| policy.security_level == level)
            .find(|policy| under_way >= policy.max_concurrent_executions);
        match full {
            Some(policy) => {
                let limit = json!(policy.max_concurrent_executions);
                Err(Box::new(PolicyRefusal::new(policy, rule::MAX_CONCURRENT_EXECUTIONS, limit, json!(under_way + 1))))
            }
            None => Ok(()),
        }
    }

    /// Check whether a step of this level used more memory than a policy allows.
    ///
    /// # Errors
    /// Returns the limit with the measured value.
    pub fn check_memory(
        &self,
        level: SecurityLevel,
        step: &str,
        used_mb: f64,
    ) -> std::result::Result<(), Box<PolicyRefusal>> {
        let active = self.active();
        let over = active
            .iter()
            .filter(|policy| policy.security_level == level)
            .find(|policy| used_mb > policy.max_memory_usage as f64);
        match over {
            Some(policy) => {
                let refusal =
                    PolicyRefusal::new(policy, rule::MAX_MEMORY_USAGE, json!(policy.max_memory_usage), json!(used_mb));
                Err(Box::new(refusal.with_step(step)))
            }
            None => Ok(()),
        }
    }

    /// Explain for each policy whether it applies to a workflow, rule by rule; `under_way` is the number of the
    /// client's running executions of its level.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn explain(&self, facts: &WorkflowFacts, under_way: i64) -> Result<Vec<PolicyExplanation>> {
        let page = PageRequest { limit: explain::MAX_EXPLAINED, ..PageRequest::default() };
        let (all, _) = self.list(&SecurityPolicyFilter { page, ..SecurityPolicyFilter::default() }).await?;
        Ok(all.into_iter().map(|policy| explain::explain_policy(policy, facts, under_way)).collect())
    }

    /// Create a policy from the coordinator's defaults and `rules`.
    ///
    /// # Errors
    /// Returns [`SecurityPolicyError::NameTaken`] when another policy has the name.
    #[boxed]
    pub async fn create(
        &self,
        caller: &Principal,
        rules: PolicyChange,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SecurityPolicy>> {
        let now = self.now();
        let mut policy = SecurityPolicy::new(self.0.ids.next("policy_", 8).into(), now);
        rules.apply(&mut policy);
        let entry = audit_entry("created", caller, &policy, now).change(None, Some(json!(policy)));
        let audit = self.0.audit.clone();
        let done = self
            .0
            .db
            .write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| {
                check_name_free(tx, &policy).await?;
                store::insert_policy(tx, &policy).await?;
                audit.append(tx, vec![entry]).await?;
                Ok::<_, SecurityPolicyError>(policy)
            })
            .await?;
        self.refresh().await?;
        Ok(done)
    }

    /// A policy by its id.
    ///
    /// # Errors
    /// Returns [`SecurityPolicyError::NotFound`] when it does not exist.
    #[boxed]
    pub async fn get(&self, id: &SecurityPolicyId) -> Result<SecurityPolicy> {
        let found = store::get_policy(&mut *self.0.db.read().await?, id).await?;
        found.ok_or_else(|| SecurityPolicyError::NotFound(id.clone()))
    }

    /// A page of policies, newest first, and the total number of matches.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list(&self, filter: &SecurityPolicyFilter) -> Result<(Vec<SecurityPolicy>, i64)> {
        store::list_policies(&mut *self.0.db.read_list().await?, filter).await
    }

    /// Change the named members of a policy. The change is in force for everything that starts after this returns.
    ///
    /// # Errors
    /// Returns [`SecurityPolicyError::NotFound`] or [`SecurityPolicyError::NameTaken`].
    #[boxed]
    pub async fn update(
        &self,
        caller: &Principal,
        id: &SecurityPolicyId,
        change: PolicyChange,
    ) -> Result<SecurityPolicy> {
        let (caller, id, now, audit) = (caller.clone(), id.clone(), self.now(), self.0.audit.clone());
        let work = async move |tx: &mut Tx| {
            let mut policy =
                store::get_policy(tx.conn().await?, &id).await?.ok_or(SecurityPolicyError::NotFound(id))?;
            let before = json!(policy);
            change.apply(&mut policy);
            check_name_free(tx, &policy).await?;
            policy.updated_at = now;
            store::update_policy(tx, &policy).await?;
            let entry = audit_entry("updated", &caller, &policy, now).change(Some(before), Some(json!(policy)));
            audit.append(tx, vec![entry]).await?;
            Ok::<_, SecurityPolicyError>(policy)
        };
        let policy = self.0.db.write(work).await?;
        self.refresh().await?;
        Ok(policy)
    }

    /// Delete a policy, which then applies to nothing.
    ///
    /// # Errors
    /// Returns [`SecurityPolicyError::NotFound`] when it does not exist.
    #[boxed]
    pub async fn delete(&self, caller: &Principal, id: &SecurityPolicyId) -> Result<SecurityPolicy> {
        let (caller, id, now, audit) = (caller.clone(), id.clone(), self.now(), self.0.audit.clone());
        let work = async move |tx: &mut Tx| {
            let policy = store::get_policy(tx.conn().await?, &id).await?.ok_or(SecurityPolicyError::NotFound(id))?;
            store::delete_policy(tx, &policy.id).await?;
            let entry = audit_entry("deleted", &caller, &policy, now).change(Some(json!(policy)), None);
            audit.append(tx, vec![entry]).await?;
            Ok::<_, SecurityPolicyError>(policy)
        };
        let policy = self.0.db.write(work).await?;
        self.refresh().await?;
        Ok(policy)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }
}

/// Check that the name is free. The coordinator's table has a unique index as well; the query tells a taken name from a
/// taken id.
async fn check_name_free(tx: &mut Tx, policy: &SecurityPolicy) -> Result<()> {
    match store::find_id_by_name(tx.conn().await?, &policy.name).await? {
        Some(other) if other != policy.id => Err(SecurityPolicyError::NameTaken(policy.name.clone())),
        _ => Ok(()),
    }
}

/// Audit entry of a change.
fn audit_entry(action: &str, caller: &Principal, policy: &SecurityPolicy, now: Timestamp) -> AuditEntry {
    AuditEntry::new(EventType::WorkflowUpdated, now)
        .of("security_policy", action)
        .by(caller)
        .level(policy.security_level)
        .data("policy_id", Value::from(policy.id.as_str()))
}
