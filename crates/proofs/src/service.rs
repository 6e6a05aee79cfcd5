//! The service: proofs are asked for, shown and verified.

use std::{sync::Arc, time::Duration};

use am_audit::{AuditEntry, AuditLog};
use am_background::{BackgroundTasks, NewWork};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    crypto::{Signer, canonical_audit_json},
    ids::{ExecutionId, StepExecutionId},
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};
use am_orchestration::{
    executions::{ExecutionService, RecordedRun, RecordedStep, ReplayOutcome, ReplayTools},
    jq::JqPool,
    model::{ExecutionStatus, VerificationLevel},
    receipts::{json_hash, verify_receipt},
    workflows::WorkflowService,
};
use am_rl::library::PolicyLibrary;
use am_zk::{
    BLOCK_ELEMENTS, ProofFault,
    circuits::{CircuitForm, named_signals, policy_form},
    json_elements, quantised_state,
    snarkjs::read_proof,
    verify,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    checks::{StepFacts, check_step},
    error::{ProofError, Result},
    inclusion::ReceiptTree,
    key_store::{CircuitDocument, CircuitKeyStore},
    model::{
        IntegrationStatus, ProofDocument, ProofExport, ProofProblem, ProofRecord, ProofVerdict, StepProofResult,
        WorkflowProof,
    },
    network::fixed_network,
    plan::{PlannedPolicy, PlannedStep, ProvingPlan},
    record::{RECEIPT_REFUSED, audited_event, finish_document, write_results},
    statement::{StatementParts, sign_statement},
    store,
    work::{PROOF_KIND, ProofOrder, ProofWork},
};

/// Time in which the steps of an execution are done again; those that are left then are not.
const REPLAY_TIME: Duration = Duration::from_secs(20);

/// The service for proofs. Cheap to clone.
#[derive(Clone)]
pub struct ProofService(pub(crate) Arc<ProofParts>);

/// What proofs are made of.
pub struct ProofParts {
    /// Database of the service.
    pub db: Database,
    /// Source of the time.
    pub clock: Clock,
    /// Source of ids, salts and the random parts of proofs.
    pub ids: IdGenerator,
    /// The audit log.
    pub audit: AuditLog,
    /// Background work, which learns of a kind of its own here.
    pub tasks: BackgroundTasks,
    /// Service for executions.
    pub executions: ExecutionService,
    /// Service for workflows.
    pub workflows: WorkflowService,
    /// Library of the policies.
    pub library: PolicyLibrary,
    /// Workers that do programs again.
    pub jq: JqPool,
    /// Signer of receipts, which signs statements too.
    pub signer: Arc<Signer>,
    /// Keys of circuits.
    pub keys: CircuitKeyStore,
}

/// A proof that a client wants verified.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
pub struct SubmittedProof {
    /// Name of the circuit, whose keys this service has.
    #[schema(example = "openings-v1-8x4")]
    pub circuit: String,
    /// The proof: snarkjs's `proof.json`.
    #[schema(value_type = Object)]
    pub proof: Value,
    /// The public signals: snarkjs's `public.json`.
    #[schema(value_type = Vec<String>)]
    pub public: Value,
}

fn no_proof(id: &ExecutionId) -> ProofError {
    ProofError::NotFound(format!("No proof of execution {id}"))
}

/// What is known of a run before anything is written.
pub(crate) struct CheckedRun {
    results: Vec<StepProofResult>,
    pub(crate) problems: Vec<ProofProblem>,
    receipt: Value,
    steps_root: String,
    plan: Option<ProvingPlan>,
}

impl ProofService {
    /// The service of these parts.
    pub fn new(parts: ProofParts) -> Self {
        parts.tasks.register_kind(Arc::new(ProofWork {
            db: parts.db.clone(),
            clock: parts.clock.clone(),
            ids: parts.ids.clone(),
            audit: parts.audit.clone(),
            library: parts.library.clone(),
            keys: parts.keys.clone(),
            signer: parts.signer.clone(),
        }));
        Self(Arc::new(parts))
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Prove an execution at a level. Where zero-knowledge proofs are to be made, the answer says which task makes them; one that is
    /// being made is answered again.
    ///
    /// # Errors
    /// [`ProofError::Orchestration`] for an execution that is not the caller's; [`ProofError::Conflict`] when it is not completed, has no
    /// receipt, or can't be proved, which says why.
    #[boxed]
    pub async fn prove(
        &self,
        caller: &Principal,
        id: &ExecutionId,
        level: VerificationLevel,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<ProofDocument>> {
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        let execution = self.0.executions.get(caller, id).await?;
        if execution.status != ExecutionStatus::Completed {
            let text = format!("Execution cannot be proved: it is {}, not completed", execution.status);
            return Err(ProofError::Conflict("invalid_state", text));
        }
        let run = self.0.executions.recorded(caller, id, self.0.workflows.names()).await?;
        let checked = match level {
            VerificationLevel::ZeroKnowledge => self.check_provable(&run).await?,
            _ => self.check(&run, level).await?,
        };
        let (me, caller, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| me.begin(tx, &caller, run, level, checked, now).await;
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Check each step at the highest level, and decide what is to be proved.
    pub(crate) async fn check_provable(&self, run: &RecordedRun) -> Result<CheckedRun> {
        let mut checked = self.check(run, VerificationLevel::ZeroKnowledge).await?;
        checked.plan = Some(self.plan(run, &mut checked.results).await?);
        Ok(checked)
    }

    /// Check each step.
    pub(crate) async fn check(&self, run: &RecordedRun, level: VerificationLevel) -> Result<CheckedRun> {
        let receipt: Value = run.execution.execution_receipt.parse().unwrap_or(None).unwrap_or(Value::Null);
        let payload = receipt.get("payload").cloned().unwrap_or(Value::Null);
        let described = payload.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
        if described.is_empty() {
            return Err(ProofError::Conflict("no_receipt", "The execution has no receipt of its steps".to_owned()));
        }
        let verdict = verify_receipt(&receipt, std::slice::from_ref(self.0.signer.public_key()));
        let mut problems = Vec::new();
        if let Some(reason) = verdict.reason.filter(|_| !verdict.valid) {
            problems.push(ProofProblem { step: None, reason: format!("{RECEIPT_REFUSED}: {reason}") });
        }
        let tree = ReceiptTree::new(&described);
        let states: Value = run.execution.step_states.parse().unwrap_or(None).unwrap_or(Value::Null);
        let until = self.0.clock.elapsed() + REPLAY_TIME;
        let mut results = Vec::new();
        for (at, step) in run.steps().enumerate() {
            let place = described.iter().position(|other| other["step"] == step.spec.key.as_str());
            let inclusion = place.map(|index| tree.inclusion(index, &described[index]));
            let same = |found: &Value| {
                found["input_sha256"] == json_hash(step.input) && found["output_sha256"] == json_hash(step.output)
            };
            let facts = StepFacts {
                status: step.log.status,
                has_output: step.output.is_some_and(|output| !output.is_null()),
                has_error: step.log.error_message.is_some(),
                seconds: step.log.execution_time,
                memory_mb: step.log.memory_usage,
                is_included: verdict.valid && place.is_some_and(|index| same(&described[index])),
                replay: if level == VerificationLevel::Basic { None } else { Some(self.repeat(run, at, until).await) },
                needs_proof: step.spec.requires_proof,
            };
            let lists = check_step(level, &facts);
            let row = states.pointer(&format!("/{}/step_execution_id", escaped(&step.spec.key)));
            results.push(StepProofResult {
                step: step.spec.key.clone(),
                step_id: step.log.step_id.clone(),
                row_id: row.and_then(Value::as_str).map(StepExecutionId::from),
                verification_level: level,
                verified: lists.failed.is_empty(),
                checks_passed: lists.passed,
                checks_failed: lists.failed,
                not_measured: lists.not_measured,
                inclusion,
                note: lists.note,
            });
        }
        Ok(CheckedRun { results, problems, receipt: payload, steps_root: tree.root(), plan: None })
    }

    async fn repeat(&self, run: &RecordedRun, at: usize, until: Duration) -> ReplayOutcome {
        let tools = ReplayTools { jq: self.0.jq.clone(), policies: self.0.library.policies().clone() };
        let left = until.saturating_sub(self.0.clock.elapsed());
        let late = || ReplayOutcome::NotRepeatable("there was no time to do it again".to_owned());
        tokio::time::timeout(left, run.replay(at, &tools)).await.unwrap_or_else(|_| late())
    }

    /// Decide which circuits prove a run.
    async fn plan(&self, run: &RecordedRun, results: &mut [StepProofResult]) -> Result<ProvingPlan> {
        let offered = self.0.keys.forms()?;
        let (mut steps, mut blocks) = (Vec::new(), 1);
        for ((at, step), found) in run.steps().enumerate().zip(results.iter_mut()) {
            let row_id = found.row_id.clone().ok_or_else(|| {
                ProofError::Conflict("not_provable", format!("Step {} has no recorded values", step.spec.key))
            })?;
            let policy = match self.policy(run, at, &step, &offered).await {
                Ok(policy) => policy,
                Err(reason) => {
                    found.note = Some(format!("its network is not proved: {reason}"));
                    None
                }
            };
            if policy.is_none() {
                let size = |value: Option<&Value>| {
                    json_elements(&canonical_audit_json(value.unwrap_or(&Value::Null))).len().div_ceil(BLOCK_ELEMENTS)
                };
                blocks = blocks.max(size(step.input)).max(size(step.output));
            }
            steps.push(PlannedStep { key: step.spec.key.clone(), row_id, policy });
        }
        let wanted = CircuitForm::Openings { steps: steps.len(), blocks };
        let circuit = CircuitForm::smallest(&offered, steps.len(), blocks).ok_or_else(|| match wanted.check() {
            Err(fault) => ProofError::Conflict("not_provable", format!("No circuit holds this execution: {fault}")),
            Ok(()) => ProofError::Conflict(
                "no_circuit_keys",
                format!("There are no keys of a circuit for {} steps with values of {blocks} blocks; make them with `agent-management proof-keys {wanted}`", steps.len()),
            ),
        })?;
        Ok(ProvingPlan {
            circuit: circuit.to_string(),
            seed: format!("{}{}", self.0.ids.hex(32), self.0.ids.hex(32)),
            steps,
        })
    }

    /// The network of a policy step; `None`: it asks no policy.
    async fn policy(
        &self,
        run: &RecordedRun,
        at: usize,
        step: &RecordedStep<'_>,
        offered: &[CircuitForm],
    ) -> std::result::Result<Option<PlannedPolicy>, String> {
        let Some(query) = run.policy_query(at, self.0.library.policies()) else { return Ok(None) };
        let query = query?;
        let (_, weights) = self.0.library.weights(&query.reference).await.map_err(|error| error.to_string())?;
        let (network, layers) = fixed_network(&weights)?;
        let form = policy_form(&network).map_err(|fault| fault.to_string())?;
        if !offered.contains(&form) {
            return Err(format!("there are no keys of {form}; make them with `agent-management proof-keys {form}`"));
        }
        let state = quantised_state(&layers.first_input(&query.state)).map_err(|fault| fault.to_string())?;
        let action = network.action(&state);
        if action != query.action {
            return Err(format!(
                "in fixed point step {} takes action {action}, and the recorded one is {}",
                step.spec.key, query.action
            ));
        }
        Ok(Some(PlannedPolicy { circuit: form.to_string(), reference: query.reference.to_string(), state, action }))
    }

    /// Store a proof, with its background work where it has a plan, and tell the log.
    pub(crate) async fn begin(
        &self,
        tx: &mut Tx,
        caller: &Principal,
        run: RecordedRun,
        level: VerificationLevel,
        checked: CheckedRun,
        now: Timestamp,
    ) -> Result<ProofDocument> {
        let execution = &run.execution;
        if let Some(running) = store::under_way(tx.conn().await?, &execution.id).await? {
            return Ok(running.document);
        }
        let proving = checked.plan.is_some();
        let mut document = ProofDocument {
            proof_id: format!("proof_{}", self.0.ids.hex(12)),
            execution_id: execution.id.clone(),
            workflow_id: execution.workflow_id.clone(),
            verification_level: level,
            integration_status: IntegrationStatus::InProgress,
            zk_proofs_generated: Vec::new(),
            verification_results: checked.results,
            integration_errors: checked.problems,
            workflow_proof: None,
            workflow_verification: None,
            task_id: proving.then(|| self.0.tasks.new_id()),
            created_at: now,
            completed_at: None,
        };
        let parts = StatementParts {
            receipt: &checked.receipt,
            steps_root: &checked.steps_root,
            root: None,
            commitments: &[],
            now,
        };
        let statement = sign_statement(&self.0.signer, &document, &parts);
        document.workflow_proof = Some(WorkflowProof {
            steps_root: checked.steps_root.clone(),
            root: None,
            commitments: Vec::new(),
            statement,
        });
        if !proving {
            finish_document(&mut document, now);
        }
        let record = ProofRecord { document, plan: checked.plan };
        store::insert(tx, &record, &caller.id()).await?;
        let document = record.document;
        match &document.task_id {
            None => write_results(tx, &document, now).await?,
            Some(task) => {
                let order = ProofOrder { proof_id: document.proof_id.clone() };
                let new = NewWork {
                    id: task.clone(),
                    kind: PROOF_KIND,
                    owner_id: caller.id(),
                    subject: document.execution_id.to_string(),
                    parameters: json!(order),
                    seed: 0,
                    limited: false,
                };
                self.0.tasks.submit(tx, new, now).await?;
            }
        }
        let entry = AuditEntry::new(audited_event(&document), now).by(caller).of("proof", "requested");
        let entry = entry.workflow(&document.workflow_id).execution(&document.execution_id);
        let entry = entry.data("proof_id", json!(document.proof_id)).data("level", json!(level));
        self.0.audit.append(tx, vec![entry.change(None, Some(json!({"status": document.integration_status})))]).await?;
        Ok(document)
    }

    /// The newest proof of an execution.
    ///
    /// # Errors
    /// [`ProofError::Orchestration`] for an execution that is not the caller's, [`ProofError::NotFound`] without a proof.
    #[boxed]
    pub async fn get(&self, caller: &Principal, id: &ExecutionId) -> Result<ProofDocument> {
        self.0.executions.get(caller, id).await?;
        let found = store::latest(&mut *self.0.db.read().await?, id).await?;
        found.map(|record| record.document).ok_or_else(|| no_proof(id))
    }

    /// One of the zero-knowledge proofs of the newest proof of an execution.
    ///
    /// # Errors
    /// As [`ProofService::get`]; [`ProofError::NotFound`] for a number that there is none of.
    #[boxed]
    pub async fn export(&self, caller: &Principal, id: &ExecutionId, number: i64) -> Result<ProofExport> {
        let document = self.get(caller, id).await?;
        let text = store::part(&mut *self.0.db.read().await?, id, &document.proof_id, number).await?;
        let found = text.parse().map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))?;
        found.ok_or_else(|| ProofError::NotFound(format!("No zero-knowledge proof {number} of execution {id}")))
    }

    /// A circuit whose keys there are.
    ///
    /// # Errors
    /// [`ProofError::NotFound`] when there are none.
    #[boxed]
    pub async fn circuit(&self, name: &str) -> Result<CircuitDocument> {
        let form = CircuitForm::parse(name).ok();
        let found = form.map(|form| self.0.keys.document(&form)).transpose()?.flatten();
        found.ok_or_else(|| ProofError::NotFound(format!("No keys of circuit {name}")))
    }

    /// Verify a proof by the keys of this service.
    ///
    /// # Errors
    /// [`ProofError::Invalid`] for a proof that can't be one of the circuit: what is wrong and where; [`ProofError::NotFound`] for a circuit
    /// without keys.
    #[boxed]
    pub async fn verify(&self, submitted: SubmittedProof) -> Result<ProofVerdict> {
        let form =
            CircuitForm::parse(&submitted.circuit).map_err(|fault| ProofError::field("circuit", fault.to_string()))?;
        let found = self.0.keys.verifying_key(&form)?;
        let (document, key) = found.ok_or_else(|| ProofError::NotFound(format!("No keys of circuit {form}")))?;
        let proof = read_proof(&submitted.proof, &submitted.public).map_err(|fault| match fault {
            ProofFault::Malformed { member, reason } if member.starts_with("public") => {
                ProofError::field("public", format!("{member} {reason}"))
            }
            ProofFault::Malformed { member, reason } => ProofError::field("proof", format!("{member} {reason}")),
            other => ProofError::field("proof", other.to_string()),
        })?;
        let valid = verify(&key, &proof).map_err(|fault| ProofError::field("public", fault.to_string()))?;
        Ok(ProofVerdict {
            valid,
            signals: named_signals(&form, &proof.publics),
            circuit: document.circuit,
            key_sha256: document.key_sha256,
        })
    }
}

/// A member's name in a JSON Pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
