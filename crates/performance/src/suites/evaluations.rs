//! Evaluations as clients ask for them: begun, followed, cancelled and compared.

use am_core::{
    boxed,
    ids::{AgentId, EvaluationId, SuiteId},
    validation::{FieldPath, Violation, Violations},
};
use am_db::{
    Connection, Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use am_orchestration::agents::TaskType;
use am_rl::PolicyReference;
use serde_json::json;

use super::{
    SuiteService, figures,
    model::{
        EvaluationComparison, EvaluationDocument, EvaluationDraft, EvaluationState, EvaluationTarget, ResultDocument,
        TargetKind,
    },
    record::EvaluationRecord,
    store, visible_suite,
};
use crate::{
    PerformanceCaller,
    agents::{own_task_types, use_agent},
    error::{PerformanceError, Result},
};

/// Evaluations of one principal that go on at the same time.
const MAX_OPEN: i64 = 20;
/// Cases that run at the same time.
const PARALLEL: std::ops::RangeInclusive<i64> = 1..=16;
/// The same by default, and of an agent, whose time limits would else go on while it works on other cases.
const DEFAULT_PARALLEL: i64 = 4;
const AGENT_PARALLEL: i64 = 1;
/// Seconds that an agent has for a case.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<i64> = 1..=86_400;
/// The same by default.
const DEFAULT_TIMEOUT_SECONDS: i64 = 300;

fn no_evaluation(id: &EvaluationId) -> PerformanceError {
    PerformanceError::NotFound(format!("No evaluation {id}"))
}

/// The refusal of a target.
fn refused_target(text: String) -> PerformanceError {
    let path = FieldPath::from(["id"]).within(["target"]);
    PerformanceError::Invalid(vec![Violation::new(path, text)])
}

async fn visible(conn: &mut Connection, caller: &PerformanceCaller, id: &EvaluationId) -> Result<EvaluationRecord> {
    let found = store::evaluation(conn, id).await?.filter(|found| caller.may_see(&found.owner_id));
    found.ok_or_else(|| no_evaluation(id))
}

impl SuiteService {
    /// Begin an evaluation.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`] for a suite or agent that is another's; [`PerformanceError::Invalid`] for a target that is not
    /// there; [`PerformanceError::Conflict`] where too many go on.
    #[boxed]
    pub async fn evaluate(
        &self,
        caller: &PerformanceCaller,
        id: &SuiteId,
        draft: EvaluationDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<EvaluationDocument>> {
        let suite = self.get(caller, id, None).await?;
        let mut violations = Violations::default();
        violations.require_within(draft.parallel, &PARALLEL, "parallel");
        let version = draft.version.unwrap_or(suite.latest);
        let known = (1..=suite.latest).contains(&version);
        violations.require(known, "version", format!("the suite has no version {version}"));
        let is_agent = draft.target.kind == TargetKind::Agent;
        violations.require_within(draft.timeout_seconds, &TIMEOUT_SECONDS, "timeout_seconds");
        violations.require(is_agent || draft.timeout_seconds.is_none(), "timeout_seconds", "is for agents only");
        violations.require(is_agent || draft.task_type.is_none(), "task_type", "is for agents only");
        let same = draft.agent_id.as_deref().is_none_or(|agent| agent == draft.target.id);
        violations.require(!is_agent || same, "agent_id", "is another agent than the target");
        violations.finish().map_err(PerformanceError::Invalid)?;
        let target = self.resolved_target(caller, draft.target).await?;
        let (task_type, agent_id) = match is_agent {
            true => {
                let agent = AgentId::from(target.id.as_str());
                (Some(self.asked_task_type(caller, &agent, draft.task_type).await?), Some(agent))
            }
            false => (None, draft.agent_id),
        };
        let cases = self.get(caller, id, Some(version)).await?.cases;
        let now = self.now();
        let mut made = EvaluationRecord {
            id: self.0.parts.ids.next("eval_", 12).into(),
            suite_id: suite.id,
            version,
            owner_id: caller.principal.id(),
            workflow_id: (target.kind == TargetKind::Workflow).then(|| target.id.as_str().into()),
            target_kind: target.kind,
            target_id: target.id,
            agent_id,
            parallel: draft.parallel.unwrap_or(if is_agent { AGENT_PARALLEL } else { DEFAULT_PARALLEL }),
            task_type,
            timeout_seconds: is_agent.then(|| draft.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS)),
            state: EvaluationState::Running,
            cases,
            done: 0,
            passed: 0,
            score: None,
            low: None,
            high: None,
            method: None,
            reason: None,
            task_id: None,
            created_at: now,
            ended_at: None,
        };
        let task = self.task_of(&made);
        made.task_id = Some(task.id.clone());
        let (by, audit) = (caller.clone(), self.0.parts.audit.clone());
        let entry = self.entry(&caller.principal, "evaluation", "started", now).data("evaluation", json!(made.id));
        let entry = entry.data("suite", json!(made.suite_id)).data("target", json!(made.target_id));
        let me = self.clone();
        let work = async move |tx: &mut Tx| {
            if store::count_open(tx.conn().await?, &made.owner_id).await? >= MAX_OPEN {
                let text = format!("You have {MAX_OPEN} evaluations that go on, and may have no more");
                return Err(PerformanceError::Conflict("too_many_evaluations", text));
            }
            if let Some(agent) = &made.agent_id {
                use_agent(tx, &by, agent, now).await?;
            }
            store::insert_evaluation(tx, &made).await?;
            me.0.tasks.submit(tx, task, now).await?;
            audit.append(tx, vec![entry]).await?;
            Ok(made.into_document())
        };
        self.0.parts.db.write_idempotent(&self.0.parts.clock, once, work).await
    }

    /// The type of task that a registered agent is asked for, which the caller acts for: the wanted one, else the first that it does.
    async fn asked_task_type(
        &self,
        caller: &PerformanceCaller,
        agent: &AgentId,
        wanted: Option<TaskType>,
    ) -> Result<TaskType> {
        let known = own_task_types(&mut *self.0.parts.db.read().await?, caller, agent).await?;
        let known = known.ok_or_else(|| refused_target(format!("you act for no registered agent {agent:?}")))?;
        match wanted {
            Some(wanted) if known.contains(&wanted) => Ok(wanted),
            Some(wanted) => Err(PerformanceError::invalid("task_type", format!("the agent does no {wanted}"))),
            None => known.first().copied().ok_or_else(|| refused_target("the agent does no type of task".to_owned())),
        }
    }

    /// What a target is now: a policy with the version that its name means.
    async fn resolved_target(&self, caller: &PerformanceCaller, target: EvaluationTarget) -> Result<EvaluationTarget> {
        let refused = refused_target;
        match target.kind {
            // Looked for with what it does.
            TargetKind::Agent => Ok(target),
            TargetKind::Workflow => {
                match self.0.parts.workflows.get(&caller.principal, &target.id.as_str().into()).await {
                    Ok(_) => Ok(target),
                    Err(am_orchestration::error::OrchestrationError::Db(error)) => Err(error.into()),
                    Err(_) => Err(refused(format!("you may run no workflow {:?}", target.id))),
                }
            }
            TargetKind::Policy => {
                let Ok(reference) = target.id.parse::<PolicyReference>() else {
                    return Err(refused(format!("{:?} names no policy", target.id)));
                };
                match self.0.parts.library.version(&reference).await {
                    Ok(found) => Ok(EvaluationTarget { id: found.reference, ..target }),
                    Err(am_rl::RlError::Db(error)) => Err(error.into()),
                    Err(error) => Err(refused(error.to_string())),
                }
            }
        }
    }

    /// One evaluation.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn evaluation(&self, caller: &PerformanceCaller, id: &EvaluationId) -> Result<EvaluationDocument> {
        Ok(visible(&mut *self.0.parts.db.read().await?, caller, id).await?.into_document())
    }

    /// A page of a suite's evaluations, the newest first, and how many there are.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn evaluations(
        &self,
        caller: &PerformanceCaller,
        suite: &SuiteId,
        page: &PageRequest,
    ) -> Result<(Vec<EvaluationDocument>, i64)> {
        let mut conn = self.0.parts.db.read_list().await?;
        visible_suite(&mut conn, caller, suite, None).await?;
        let owner = (!caller.is_admin).then(|| caller.principal.id());
        let (rows, total) = store::evaluations(&mut conn, (suite, owner.as_ref()), page).await?;
        Ok((rows.into_iter().map(EvaluationRecord::into_document).collect(), total))
    }

    /// A page of an evaluation's cases, and how many there are.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn results(
        &self,
        caller: &PerformanceCaller,
        id: &EvaluationId,
        page: &PageRequest,
    ) -> Result<(Vec<ResultDocument>, i64)> {
        let mut conn = self.0.parts.db.read_list().await?;
        visible(&mut conn, caller, id).await?;
        Ok(store::results(&mut conn, id, page).await?)
    }

    /// Cancel an evaluation: its runs are cancelled, cases that have ended keep their results.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] for one that has ended.
    #[boxed]
    pub async fn cancel_evaluation(
        &self,
        caller: &PerformanceCaller,
        id: &EvaluationId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<EvaluationDocument>> {
        let (by, id, me, audit) = (caller.clone(), id.clone(), self.clone(), self.0.parts.audit.clone());
        let now = self.now();
        let entry = self.entry(&caller.principal, "evaluation", "cancelled", now).data("evaluation", json!(id));
        let work = async move |tx: &mut Tx| {
            let mut found = visible(tx.conn().await?, &by, &id).await?;
            if !store::ask_to_end(tx, &id).await? {
                let text = format!("The evaluation is {}", found.state);
                return Err(PerformanceError::Conflict("invalid_state", text));
            }
            if let Some(task) = &found.task_id {
                me.0.tasks.cancel_in(tx, task, now).await?;
            }
            audit.append(tx, vec![entry]).await?;
            found.state = EvaluationState::Cancelling;
            tx.after_commit(move || me.0.wake.notify_one());
            Ok(found.into_document())
        };
        self.0.parts.db.write_idempotent(&self.0.parts.clock, once, work).await
    }

    /// Compare a completed evaluation with another, by default the last one before it of the same workflow or policy.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] where one has not completed, or none was before.
    #[boxed]
    pub async fn compare_evaluation(
        &self,
        caller: &PerformanceCaller,
        id: &EvaluationId,
        against: Option<EvaluationId>,
    ) -> Result<EvaluationComparison> {
        let mut conn = self.0.parts.db.read_list().await?;
        let new = visible(&mut conn, caller, id).await?;
        let old = match against {
            Some(against) => visible(&mut conn, caller, &against).await?,
            None => {
                let target = (&new.suite_id, new.target_kind, new.target_id.as_str());
                let found = store::completed_before(&mut conn, target, (new.created_at, &new.id)).await?;
                found.filter(|old| caller.may_see(&old.owner_id)).ok_or_else(|| {
                    let text = "No evaluation of this target was completed before by this suite: name one (`against`)";
                    PerformanceError::Conflict("nothing_to_compare", text.to_owned())
                })?
            }
        };
        for one in [&new, &old] {
            if one.state != EvaluationState::Completed {
                let text = format!("The evaluation {} is {}, not completed", one.id, one.state);
                return Err(PerformanceError::Conflict("invalid_state", text));
            }
        }
        let scores = (store::scored_cases(&mut conn, &new.id).await?, store::scored_cases(&mut conn, &old.id).await?);
        Ok(figures::compare((&new.id, &scores.0), (&old.id, &scores.1)))
    }
}
