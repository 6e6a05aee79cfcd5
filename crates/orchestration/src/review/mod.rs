//! Review of workflows and executions against the security policies, without running them: validation of one, a scan of
//! all, and the policies that bind one.

mod store;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    action::StepAction,
    definition::{ExecutionPlan, WorkflowDefinition},
    error::{OrchestrationError, Result},
    executions::ExecutionService,
    guard::{ExecutionConstraints, PolicyGuard},
    model::StepType,
    workflows::{Workflow, WorkflowFilter, WorkflowService},
};
use am_audit::SecurityLevel;
use am_core::boxed;
use am_core::ids::{ExecutionId, SecurityPolicyId, WorkflowId};
use am_db::{Database, kept_list::ListPage, page::PageRequest, principal::Principal, row::ListedRow};
use am_security::policies::{PolicyExplanation, PolicyRefusal, WorkflowFacts};

/// Time limit in seconds above which a workflow gets a warning.
const LONG_RUN_SECONDS: i64 = 3600;

/// Service for policy reviews. Cheap to clone.
#[derive(Clone)]
pub struct PolicyReview {
    db: Database,
    guard: PolicyGuard,
    workflows: WorkflowService,
    executions: ExecutionService,
}

/// A violation of a policy by a workflow.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PolicyViolation)]
pub struct PolicyViolation {
    /// Description of the violation.
    pub message: String,
    /// Whether the workflow would be refused for it.
    pub enforced: bool,
    /// Id of the policy; null: a rule without a policy.
    pub policy_id: Option<SecurityPolicyId>,
    /// Name of the policy.
    pub policy: Option<String>,
    /// Name of the rule.
    pub rule: String,
    /// Limit set by the rule.
    pub limit: Value,
    /// Value requested by the workflow.
    pub asked: Value,
    /// Key of the step, for a rule about steps.
    pub step: Option<String>,
}

/// A policy that binds a workflow.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PolicyBinding)]
pub struct PolicyBinding {
    /// Id of the policy.
    pub policy_id: SecurityPolicyId,
    /// Name of the policy.
    pub policy: String,
}

/// Result of validating a workflow.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = WorkflowReview)]
pub struct ValidationReport {
    /// Id of the workflow.
    pub workflow_id: WorkflowId,
    /// Whether there is no violation.
    pub valid: bool,
    /// Whether it would be refused if it were made or run now.
    pub refused: bool,
    /// Security level implied by its verification; policies of this level bind it.
    pub required_level: SecurityLevel,
    /// Same as `required_level`, under the monolith's name.
    pub required_security_level: SecurityLevel,
    /// Violations of the policies.
    pub violations: Vec<PolicyViolation>,
    /// Warnings, as sentences.
    pub warnings: Vec<String>,
    /// Recommendations, as sentences.
    pub recommendations: Vec<String>,
    /// Policies that bind it.
    pub policies: Vec<PolicyBinding>,
}

/// Policies that bind a workflow, with the reasons.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PolicyBindings)]
pub struct WorkflowBindings {
    /// Id of the workflow.
    pub workflow_id: WorkflowId,
    /// Security level implied by its verification.
    pub required_level: SecurityLevel,
    /// Reason for the level, as a sentence.
    pub why: String,
    /// Every policy, explained.
    pub policies: Vec<PolicyExplanation>,
}

/// A workflow or execution with violations, found by a scan.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PolicyFinding)]
pub struct ScanFinding {
    /// Id of the workflow.
    pub workflow_id: WorkflowId,
    /// Id of the execution, if it is an active one.
    pub execution_id: Option<ExecutionId>,
    /// Security level of it.
    pub required_level: SecurityLevel,
    /// Violations; because of one, an execution fails before its next step, or when its time is up.
    pub violations: Vec<PolicyViolation>,
}

/// A workflow or execution that could not be checked.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = UnreadWorkflow)]
pub struct UncheckedItem {
    /// Id of the workflow.
    pub workflow_id: WorkflowId,
    /// Id of the execution, if it is one.
    pub execution_id: Option<ExecutionId>,
    /// Reason, as a sentence.
    pub reason: String,
}

/// A page of a scan.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PolicyScan)]
pub struct PolicyScan {
    /// Number of active policies.
    pub active_policies: usize,
    /// Number of workflows checked on this page.
    pub workflows_checked: usize,
    /// Total number of workflows.
    pub workflows_total: i64,
    /// Number of active executions checked on this page.
    pub executions_checked: usize,
    /// Total number of active executions.
    pub executions_total: i64,
    /// Violations of active policies.
    pub findings: Vec<ScanFinding>,
    /// Workflows and executions that could not be checked.
    pub not_checked: Vec<UncheckedItem>,
    /// Offset of the next page; null: this is the last.
    pub next_offset: Option<u32>,
}

impl PolicyReview {
    /// Create the service: reviews by `guard` of what is in `db`.
    pub fn new(db: Database, guard: PolicyGuard, workflows: WorkflowService, executions: ExecutionService) -> Self {
        Self { db, guard, workflows, executions }
    }

    /// Check a workflow as if it were made or run now.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`]; [`OrchestrationError::Invalid`] for one that the coordinator stored without
    /// validation.
    #[boxed]
    pub async fn validate(&self, caller: &Principal, id: &WorkflowId) -> Result<ValidationReport> {
        let workflow = self.workflows.get(caller, id).await?;
        let plan = self.workflows.compiled(&workflow).await?.plan;
        let terms = workflow.terms();
        let facts = self.guard.facts(terms, &plan, None);
        let mut violations: Vec<PolicyViolation> = self.violations(&facts);
        let under_way = self.executions.under_way(caller, facts.level).await?;
        if let Err(refusal) = self.guard.policies().check_concurrency(facts.level, under_way) {
            violations.push((*refusal).into());
        }
        if !workflow.requires_verification {
            violations.push(missing_verification());
        }
        let refused = violations.iter().any(|violation| violation.enforced);
        let (warnings, recommendations) = collect_advice(&workflow, &plan, self.binding(terms.security));
        Ok(ValidationReport {
            workflow_id: workflow.id,
            valid: violations.is_empty(),
            refused,
            required_level: terms.security,
            required_security_level: terms.security,
            violations,
            warnings,
            recommendations,
            policies: self.binding(terms.security).collect(),
        })
    }

    /// Explain rule by rule which policies bind a workflow.
    ///
    /// # Errors
    /// As [`PolicyReview::validate`].
    #[boxed]
    pub async fn workflow_bindings(&self, caller: &Principal, id: &WorkflowId) -> Result<WorkflowBindings> {
        let workflow = self.workflows.get(caller, id).await?;
        let plan = self.workflows.compiled(&workflow).await?.plan;
        let terms = workflow.terms();
        let facts = self.guard.facts(terms, &plan, None);
        let under_way = self.executions.under_way(caller, facts.level).await?;
        let explained = self.guard.policies().explain(&facts, under_way).await;
        let policies = explained.map_err(|error| match error {
            am_security::policies::SecurityPolicyError::Db(error) => OrchestrationError::Db(error),
            other => OrchestrationError::Conflict(other.to_string()),
        })?;
        let ExecutionConstraints { security, level, requires_verification, .. } = terms;
        let why = match requires_verification {
            true => format!("verification is required, and its level is {level}"),
            false => "no verification is required".to_owned(),
        };
        Ok(WorkflowBindings {
            workflow_id: workflow.id,
            required_level: security,
            why: format!("{why}: {security}"),
            policies,
        })
    }

    /// Check a page of the workflows visible to `caller`, and of its active executions, against the active policies.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn scan(&self, caller: &Principal, limit: u32, offset: u32) -> Result<PolicyScan> {
        let page = PageRequest { limit, offset, ..PageRequest::default() };
        let mut filter = WorkflowFilter { page: page.clone(), ..WorkflowFilter::default() };
        let ListPage { rows: mut listed, total: workflows_total, mut is_cut } =
            self.workflows.list(caller, &filter).await?;
        // A page of long rows ends early.
        while let (true, Some(last)) = (is_cut, listed.last()) {
            filter.page = page.rest(listed.len(), &last.row.id);
            let more = self.workflows.list(caller, &filter).await?;
            is_cut = more.is_cut && !more.rows.is_empty();
            listed.extend(more.rows);
        }
        let mut workflows = Vec::with_capacity(listed.len());
        for ListedRow { row, omitted } in listed {
            // A list leaves long steps out. One that was deleted meanwhile needs no check.
            match if omitted.is_empty() { Ok(row) } else { self.workflows.get(caller, &row.id).await } {
                Ok(workflow) => workflows.push(workflow),
                Err(OrchestrationError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let (runs, executions_total) = store::list_active(&mut *self.db.read_list().await?, caller, &page).await?;
        let (mut findings, mut not_checked) = (Vec::new(), Vec::new());
        for workflow in &workflows {
            match self.workflows.compiled(workflow).await {
                Ok(compiled) => {
                    let facts = self.guard.facts(workflow.terms(), &compiled.plan, None);
                    findings.extend(self.scan_finding(&workflow.id, None, &facts));
                }
                Err(error) => not_checked.push(unchecked_item(&workflow.id, None, error)?),
            }
        }
        for run in &runs {
            match self.run_facts(run).await {
                Ok(facts) => findings.extend(self.scan_finding(&run.workflow_id, Some(&run.id), &facts)),
                Err(error) => not_checked.push(unchecked_item(&run.workflow_id, Some(&run.id), error)?),
            }
        }
        let end = i64::from(offset) + i64::from(limit);
        let more = workflows_total.max(executions_total) > end;
        Ok(PolicyScan {
            active_policies: self.guard.policies().active().len(),
            workflows_checked: workflows.len(),
            workflows_total,
            executions_checked: runs.len(),
            executions_total,
            findings,
            not_checked,
            next_offset: more.then(|| u32::try_from(end).unwrap_or(u32::MAX)),
        })
    }

    async fn run_facts(&self, run: &store::ActiveRunRow) -> Result<WorkflowFacts> {
        let definition = WorkflowDefinition::from_snapshot(&run.definition)?;
        let plan = definition.compiled(self.workflows.names()).await?;
        let terms = ExecutionConstraints {
            security: run.security,
            level: run.level,
            requires_verification: run.security != SecurityLevel::Public,
            max_execution_time: run.max_execution_time,
            max_cost_budget: run.max_cost_budget,
        };
        Ok(WorkflowFacts { data_bytes: Some(run.input_bytes.unsigned_abs()), ..self.guard.facts(terms, &plan, None) })
    }

    fn violations(&self, facts: &WorkflowFacts) -> Vec<PolicyViolation> {
        self.guard.policies().violations(facts).into_iter().map(PolicyViolation::from).collect()
    }

    fn scan_finding(
        &self,
        workflow_id: &WorkflowId,
        execution_id: Option<&ExecutionId>,
        facts: &WorkflowFacts,
    ) -> Option<ScanFinding> {
        let violations = self.violations(facts);
        (!violations.is_empty()).then(|| ScanFinding {
            workflow_id: workflow_id.clone(),
            execution_id: execution_id.cloned(),
            required_level: facts.level,
            violations,
        })
    }

    fn binding(&self, level: SecurityLevel) -> impl Iterator<Item = PolicyBinding> {
        let active = self.guard.policies().active();
        let of_level: Vec<PolicyBinding> = active
            .iter()
            .filter(|policy| policy.security_level == level)
            .map(|policy| PolicyBinding { policy_id: policy.id.clone(), policy: policy.name.clone() })
            .collect();
        of_level.into_iter()
    }
}

/// Report an item that was stored without validation; a temporary error fails the scan.
fn unchecked_item(
    workflow_id: &WorkflowId,
    execution_id: Option<&ExecutionId>,
    error: OrchestrationError,
) -> Result<UncheckedItem> {
    match error {
        OrchestrationError::Invalid(_) | OrchestrationError::Db(am_db::DatabaseError::InvalidValue(_)) => {
            Ok(UncheckedItem {
                workflow_id: workflow_id.clone(),
                execution_id: execution_id.cloned(),
                reason: error.to_string(),
            })
        }
        other => Err(other),
    }
}

impl From<PolicyRefusal> for PolicyViolation {
    fn from(refusal: PolicyRefusal) -> Self {
        Self {
            message: refusal.to_string(),
            enforced: true,
            policy_id: Some(refusal.policy_id),
            policy: Some(refusal.policy_name),
            rule: refusal.rule.to_owned(),
            limit: refusal.limit,
            asked: refusal.asked,
            step: refusal.step,
        }
    }
}

fn missing_verification() -> PolicyViolation {
    PolicyViolation {
        message: "The workflow does not require verification".into(),
        enforced: false,
        policy_id: None,
        policy: None,
        rule: "requires_verification".into(),
        limit: json!(true),
        asked: json!(false),
        step: None,
    }
}

/// Collect warnings and recommendations.
fn collect_advice(
    workflow: &Workflow,
    plan: &ExecutionPlan,
    mut binding: impl Iterator<Item = PolicyBinding>,
) -> (Vec<String>, Vec<String>) {
    let (mut warnings, mut recommendations) = (Vec::new(), Vec::new());
    for step in &plan.steps {
        let (what, advice) = match step.step_type {
            StepType::Training => ("trains a model", "check where its data come from, and limit time and memory"),
            StepType::DataProcessing => ("changes data", "check its input against a schema in a verification step"),
            _ => continue,
        };
        warnings.push(format!("Step {:?} {what}", step.key));
        recommendations.push(format!("Step {:?}: {advice}", step.key));
    }
    if workflow.max_execution_time > LONG_RUN_SECONDS || workflow.max_execution_time == 0 {
        warnings.push(match workflow.max_execution_time {
            0 => "The workflow has no limit of time".to_owned(),
            seconds => format!("The workflow may take {seconds} seconds, more than {LONG_RUN_SECONDS}"),
        });
    }
    let leaves = |action: &StepAction| matches!(action, StepAction::Job(_) | StepAction::Http(_));
    for step in plan.steps.iter().filter(|step| leaves(&step.action)) {
        warnings.push(format!("What step {:?} sends leaves this service", step.key));
    }
    if !workflow.requires_verification {
        recommendations.push("Set requires_verification".into());
    }
    if binding.next().is_none() {
        recommendations.push("No active policy binds the workflow: make one of its required level".into());
    }
    warnings.push("This service does not encrypt what it keeps in the database".into());
    (warnings, recommendations)
}
