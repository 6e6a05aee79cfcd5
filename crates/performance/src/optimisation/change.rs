//! The best settings of an optimisation applied, and taken back.

use am_core::boxed;
use am_db::{
    Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use am_orchestration::workflows::{PreparedChange, Workflow, WorkflowChange};
use serde_json::{Map, Value, json};

use super::{
    OptimisationService,
    model::{OptimisationDocument, OptimisationRecord, TunedSettings, TunedSubject},
    no_optimisation, store, text_of,
};
use crate::{
    PerformanceCaller,
    error::{PerformanceError, Result},
    resources::{TunedAllocation, TunedAmounts, set_tuned_allocation, tuned_allocation},
};

/// What is done with the best settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SettingsChange {
    /// They take effect.
    Apply,
    /// What they replaced takes effect again.
    RollBack,
}

impl SettingsChange {
    fn word(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::RollBack => "rollback",
        }
    }

    fn check(self, record: &OptimisationRecord) -> Result<()> {
        let refused = |text: &str| Err(PerformanceError::Conflict("invalid_state", text.to_owned()));
        let is_applied = record.applied_at.is_some() && record.rolled_back_at.is_none();
        match self {
            Self::Apply if record.status != "completed" || record.outcome.is_none() => {
                refused(&format!("The optimization has no settings to apply: it is {}", record.status))
            }
            Self::Apply if is_applied => refused("The optimization is applied already"),
            Self::RollBack if !is_applied => {
                refused("The optimization is not applied, so there is nothing to take back")
            }
            _ => Ok(()),
        }
    }
}

/// A workflow that is to be changed: how, in which version, and what that replaces.
struct TunedWorkflow {
    prepared: PreparedChange,
    version: String,
    replaced: Value,
}

fn members(value: &impl serde::Serialize, name: &str) -> Map<String, Value> {
    let value = serde_json::to_value(value).ok().and_then(|mut value| value.get_mut(name).map(Value::take));
    match value {
        Some(Value::Object(members)) => members,
        // The coordinator's rows have their JSON as text.
        Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or_default(),
        _ => Map::new(),
    }
}

/// The steps of a workflow with the best settings of each.
fn tuned_steps(workflow: &Workflow, best: &Map<String, Value>) -> Map<String, Value> {
    let mut steps = members(workflow, "steps");
    for (key, settings) in best {
        let (Some(Value::Object(step)), Value::Object(settings)) = (steps.get_mut(key), settings) else { continue };
        step.extend(settings.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    steps
}

impl OptimisationService {
    /// Let the best settings of a completed optimisation take effect: as those that trainings of the policy begin with, or as a new
    /// version of the workflow.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] when it is not completed, or applied already.
    #[boxed]
    pub async fn apply(
        &self,
        caller: &PerformanceCaller,
        id: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<OptimisationDocument>> {
        self.change(caller, id, SettingsChange::Apply, once).await
    }

    /// Take back what was applied.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] when it is not applied, or the workflow was changed since.
    #[boxed]
    pub async fn roll_back(
        &self,
        caller: &PerformanceCaller,
        id: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<OptimisationDocument>> {
        self.change(caller, id, SettingsChange::RollBack, once).await
    }

    async fn change(
        &self,
        caller: &PerformanceCaller,
        id: &str,
        change: SettingsChange,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<OptimisationDocument>> {
        let record = self.visible(caller, id).await?;
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        change.check(&record)?;
        let workflow = match record.tuned {
            Some(TunedSubject::Workflow) => Some(self.prepare_workflow(caller, &record, change).await?),
            _ => None,
        };
        let (me, by, id, now) = (self.clone(), caller.clone(), id.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &id).await?;
            let mut record = found.ok_or_else(|| no_optimisation(&id))?;
            change.check(&record)?;
            if let Some(TunedWorkflow { prepared, version, replaced }) = workflow {
                record.replaced = Some(replaced);
                let expected = Box::new(move |present: &str| present == version);
                me.0.workflows.update_in(tx, prepared, expected).await?;
                am_core::crash_point!("optimisations.workflow_changed");
            }
            if record.tuned == Some(TunedSubject::Policy) {
                me.change_policy(tx, &mut record, change, now).await?;
            }
            if record.tuned == Some(TunedSubject::Allocation) {
                change_allocation(tx, &mut record, change, now).await?;
            }
            let before = json!({"applied_at": record.applied_at, "rolled_back_at": record.rolled_back_at});
            (record.applied_at, record.rolled_back_at) = match change {
                SettingsChange::Apply => (Some(now), None),
                SettingsChange::RollBack => (record.applied_at, Some(now)),
            };
            record.updated_at = now;
            store::save_applied(tx, &record).await?;
            let after = json!({"applied_at": record.applied_at, "rolled_back_at": record.rolled_back_at});
            let entry = me.entry(&by.principal, change.word(), &record, now).change(Some(before), Some(after));
            me.0.audit.append(tx, vec![entry]).await?;
            Ok(record.document())
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    async fn change_policy(
        &self,
        tx: &mut Tx,
        record: &mut OptimisationRecord,
        change: SettingsChange,
        now: am_db::codec::Timestamp,
    ) -> Result<()> {
        let outcome = record.outcome.clone().unwrap_or_default();
        let target = record.target.clone().unwrap_or_default();
        let policy = target.split('@').next().unwrap_or_default();
        let (algorithm, environment) =
            (text_of(&outcome.details, "algorithm"), text_of(&outcome.details, "environment"));
        let key = (policy, algorithm.unwrap_or_default(), environment.unwrap_or_default());
        match change {
            SettingsChange::Apply => {
                let before = store::tuned_settings(tx.conn().await?, key).await?;
                let before =
                    before.map(|tuned| json!({"settings": tuned.settings, "optimization_id": tuned.optimization_id}));
                record.replaced = Some(json!({"tuned": before}));
                let tuned = TunedSettings { settings: outcome.best, optimization_id: record.optimization_id.clone() };
                store::put_tuned_settings(tx, key, &tuned, now).await?;
            }
            SettingsChange::RollBack => {
                let present = store::tuned_settings(tx.conn().await?, key).await?;
                if present.is_none_or(|present| present.optimization_id != record.optimization_id) {
                    let text =
                        "The policy's settings were changed since, by another optimization: roll that one back first";
                    return Err(PerformanceError::Conflict("changed_since", text.to_owned()));
                }
                let before = record.replaced.as_ref().map(|replaced| &replaced["tuned"]);
                match before.filter(|before| before.is_object()) {
                    Some(before) => {
                        let settings = members(before, "settings");
                        let optimization_id = text_of(before, "optimization_id").unwrap_or_default().to_owned();
                        let tuned = TunedSettings { settings, optimization_id };
                        store::put_tuned_settings(tx, key, &tuned, now).await?;
                    }
                    None => store::delete_tuned_settings(tx, key).await?,
                }
            }
        }
        Ok(())
    }

    /// The change of the workflow, checked before the transaction that makes it, and what it replaces.
    async fn prepare_workflow(
        &self,
        caller: &PerformanceCaller,
        record: &OptimisationRecord,
        change: SettingsChange,
    ) -> Result<TunedWorkflow> {
        let target = record.target.clone().unwrap_or_default();
        let workflow = self.0.workflows.get(&caller.principal, &target.as_str().into()).await?;
        let present = members(&workflow, "steps");
        let (steps, replaced) = match change {
            SettingsChange::Apply => {
                let tuned = tuned_steps(&workflow, &record.outcome.clone().unwrap_or_default().best);
                (tuned.clone(), json!({"steps": present, "tuned": tuned}))
            }
            SettingsChange::RollBack => {
                let replaced = record.replaced.clone().unwrap_or_default();
                if Value::Object(present) != replaced["tuned"] {
                    let text = "The workflow's steps were changed since, so they are not taken back";
                    return Err(PerformanceError::Conflict("changed_since", text.to_owned()));
                }
                (members(&replaced, "steps"), replaced)
            }
        };
        let wanted = WorkflowChange { steps: Some(steps), ..WorkflowChange::default() };
        let prepared = self.0.workflows.prepare_update(&caller.principal, &workflow.id, wanted).await?;
        Ok(TunedWorkflow { prepared, version: workflow.etag(), replaced })
    }
}

/// Let the agent's allocations for the task begin with the best amounts, or with what they began with before.
async fn change_allocation(
    tx: &mut Tx,
    record: &mut OptimisationRecord,
    change: SettingsChange,
    now: am_db::codec::Timestamp,
) -> Result<()> {
    let outcome = record.outcome.clone().unwrap_or_default();
    let task = text_of(&outcome.details, "task").unwrap_or_default();
    let present = tuned_allocation(tx.conn().await?, &record.agent_id, task).await?;
    let amounts = |value: Value| {
        let read = serde_json::from_value::<TunedAmounts>(value);
        read.map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))
    };
    let next = match change {
        SettingsChange::Apply => {
            let before =
                present.map(|tuned| json!({"amounts": tuned.amounts, "optimization_id": tuned.optimization_id}));
            record.replaced = Some(json!({"tuned": before}));
            let amounts = amounts(Value::Object(outcome.best))?;
            Some(TunedAllocation { amounts, optimization_id: record.optimization_id.clone() })
        }
        SettingsChange::RollBack => {
            if present.is_none_or(|present| present.optimization_id != record.optimization_id) {
                let text = "The agent's amounts were changed since, by another optimization: roll that one back first";
                return Err(PerformanceError::Conflict("changed_since", text.to_owned()));
            }
            let before = record.replaced.as_ref().map(|replaced| replaced["tuned"].clone());
            match before.filter(Value::is_object) {
                Some(before) => {
                    let optimization_id = text_of(&before, "optimization_id").unwrap_or_default().to_owned();
                    Some(TunedAllocation { amounts: amounts(before["amounts"].clone())?, optimization_id })
                }
                None => None,
            }
        }
    };
    Ok(set_tuned_allocation(tx, (&record.agent_id, task), next.as_ref(), now).await?)
}
