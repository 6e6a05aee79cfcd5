//! Zero-knowledge proofs as background work. A piece of work is one proof, which takes seconds; a checkpoint holds those that are made.

use std::{sync::Arc, time::Instant};

use am_audit::{AuditEntry, AuditLog};
use am_background::{EndedWork, WorkContext, WorkFault, WorkKind, WorkMachine, WorkStatus, WorkStep};
use am_core::{
    ambient::{Clock, IdGenerator},
    crypto::{Signer, canonical_audit_json},
    ids::ExecutionId,
};
use am_db::{Database, DatabaseError, Tx, codec::Timestamp};
use am_rl::{PolicyReference, library::PolicyLibrary};
use am_zk::{
    FieldElement, FixedNetwork, ValueOpening, chain_root,
    circuits::{CircuitForm, CircuitWitness, OpeningsWitness, PolicyWitness, StepOpening, named_signals},
    element_decimal, json_elements, policy_action_elements, policy_state_elements, prove,
    snarkjs::{key_hash, key_json, proof_json, signals_json},
    value_digest, verify,
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    key_store::CircuitKeyStore,
    model::{CommittedStep, GeneratedProof, IntegrationStatus, ProofExport, ProofProblem, ProofRecord},
    network::fixed_network,
    plan::{PlannedPolicy, ProvingPlan},
    record::{audited_event, finish_document, write_results},
    store,
};

/// Name of the kind of work.
pub(crate) const PROOF_KIND: &str = "proof";

/// What a task is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProofOrder {
    /// Id of the proof.
    pub(crate) proof_id: String,
}

/// What a task's end gives to the transaction that ends it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct ProofResult {
    made: Vec<GeneratedProof>,
    root: String,
    commitments: Vec<CommittedStep>,
}

/// Proofs as work.
pub(crate) struct ProofWork {
    pub(crate) db: Database,
    pub(crate) clock: Clock,
    pub(crate) ids: IdGenerator,
    pub(crate) audit: AuditLog,
    pub(crate) library: PolicyLibrary,
    pub(crate) keys: CircuitKeyStore,
    pub(crate) signer: Arc<Signer>,
}

/// The parts that a machine works with.
#[derive(Clone)]
struct ProvingTools {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    library: PolicyLibrary,
    keys: CircuitKeyStore,
}

/// A task under way.
struct ProofMachine {
    tools: ProvingTools,
    proof_id: String,
    plan: ProvingPlan,
    /// What opens each step's commitments; read with the first piece.
    openings: Option<Vec<StepOpening>>,
    texts: Vec<[Vec<u8>; 2]>,
    made: Vec<GeneratedProof>,
}

fn failed(error: impl std::fmt::Display) -> WorkFault {
    WorkFault::Failed(error.to_string())
}

impl WorkKind for ProofWork {
    fn name(&self) -> &'static str {
        PROOF_KIND
    }

    fn open(&self, context: &WorkContext, checkpoint: Option<&str>) -> Result<Box<dyn WorkMachine>, WorkFault> {
        let order: ProofOrder = context.parameters()?;
        let record = context.block_on(async { store::get(&mut *self.db.read().await?, &order.proof_id).await })?;
        let record = record.ok_or_else(|| failed("the proof is gone"))?;
        let plan = record.plan.ok_or_else(|| failed("the proof has no plan"))?;
        let made = match checkpoint {
            None => Vec::new(),
            Some(text) => serde_json::from_str(text).map_err(failed)?,
        };
        let tools = ProvingTools {
            db: self.db.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            library: self.library.clone(),
            keys: self.keys.clone(),
        };
        let machine = ProofMachine { tools, proof_id: order.proof_id, plan, openings: None, texts: Vec::new(), made };
        Ok(Box::new(machine))
    }

    fn settle<'a>(&'a self, tx: &'a mut Tx, ended: &'a EndedWork) -> BoxFuture<'a, am_db::Result<()>> {
        Box::pin(self.record_end(tx, ended))
    }
}

impl ProofWork {
    async fn record_end(&self, tx: &mut Tx, ended: &EndedWork) -> am_db::Result<()> {
        let id = ended.task.parameters.get("proof_id").and_then(Value::as_str).unwrap_or_default();
        let Some(mut record) = store::get(tx.conn().await?, id).await? else { return Ok(()) };
        if let (WorkStatus::Completed, Some(result)) = (ended.status, &ended.result) {
            let result = ProofResult::deserialize(result);
            self.adopt(&mut record, result.map_err(|error| DatabaseError::InvalidValue(error.to_string()))?, ended.now);
        } else {
            let reason = ended.error.clone().unwrap_or_else(|| "the background task was cancelled".to_owned());
            record.document.integration_errors.push(ProofProblem { step: None, reason });
        }
        record.plan = None;
        finish_document(&mut record.document, ended.now);
        store::save(tx, &record, ended.now).await?;
        write_results(tx, &record.document, ended.now).await?;
        let status = record.document.integration_status;
        let entry = AuditEntry::new(audited_event(&record.document), ended.now)
            .of("proof", status.stored())
            .on_behalf_of(&ended.task.owner_id)
            .workflow(&record.document.workflow_id)
            .execution(&record.document.execution_id)
            .data("proof_id", json!(id));
        let entry =
            entry.change(Some(json!({"status": IntegrationStatus::InProgress})), Some(json!({"status": status})));
        self.audit.append(tx, vec![entry]).await
    }

    /// Take the proofs that were made into the document, and sign what they commit to.
    fn adopt(&self, record: &mut ProofRecord, result: ProofResult, now: Timestamp) {
        let document = &mut record.document;
        for found in &mut document.verification_results {
            found.checks_failed.retain(|check| check != "proof");
            found.checks_passed.push("proof".to_owned());
            let network = result.made.iter().any(|proof| proof.step.as_deref() == Some(&*found.step));
            if network {
                found.checks_passed.push("network_proof".to_owned());
            }
        }
        document.zk_proofs_generated = result.made;
        let Some(mut proof) = document.workflow_proof.take() else { return };
        proof.root = Some(result.root);
        proof.commitments = result.commitments;
        let said = proof.statement.pointer("/payload").cloned().unwrap_or_default();
        let mut payload = said;
        payload["root"] = json!(proof.root);
        payload["commitments"] = json!(proof.commitments);
        payload["issued_at"] = json!(now);
        let signature = self.signer.sign(&payload);
        proof.statement = json!({"payload": payload, "signature": signature});
        document.workflow_proof = Some(proof);
    }
}

impl ProofMachine {
    fn policies(&self) -> impl Iterator<Item = (usize, &PlannedPolicy)> {
        self.plan.steps.iter().enumerate().filter_map(|(at, step)| Some((at, step.policy.as_ref()?)))
    }

    fn total(&self) -> usize {
        1 + self.policies().count()
    }

    /// Read the steps' values and what opens their commitments.
    fn read_values(&mut self, context: &WorkContext) -> Result<(), WorkFault> {
        let execution: ExecutionId = context.task().subject.as_str().into();
        let db = self.tools.db.clone();
        let rows = context.block_on(async { store::step_values(&mut *db.read().await?, &execution).await })?;
        let mut openings = Vec::new();
        self.texts.clear();
        for (at, step) in self.plan.steps.iter().enumerate() {
            let row = rows
                .iter()
                .find(|row| row.id == step.row_id)
                .ok_or_else(|| failed(format!("step {} is gone", step.key)))?;
            let canonical = |text: &am_db::codec::JsonText| -> Result<Vec<u8>, WorkFault> {
                let value: Option<Value> = text.parse().map_err(failed)?;
                Ok(canonical_audit_json(&value.unwrap_or(Value::Null)))
            };
            let texts = [canonical(&row.input)?, canonical(&row.output)?];
            let (input, output) = match &step.policy {
                None => (json_elements(&texts[0]), json_elements(&texts[1])),
                Some(policy) => (
                    policy_state_elements(&policy.state, &texts[0]).map_err(failed)?,
                    policy_action_elements(policy.action, &texts[1]).map_err(failed)?,
                ),
            };
            openings
                .push(StepOpening { input: self.plan.opening(at, 0, input), output: self.plan.opening(at, 1, output) });
            self.texts.push(texts);
        }
        self.openings = Some(openings);
        Ok(())
    }

    /// The circuit, the step and the values of the proof with this number.
    fn witness(&self, context: &WorkContext, number: usize) -> Result<(Option<String>, CircuitWitness), WorkFault> {
        let openings = self.openings.as_deref().unwrap_or_default();
        if number == 0 {
            let CircuitForm::Openings { steps, blocks } = CircuitForm::parse(&self.plan.circuit).map_err(failed)?
            else {
                return Err(failed(format!("{} does not open commitments", self.plan.circuit)));
            };
            let witness = OpeningsWitness { steps: openings.to_vec() };
            return Ok((None, CircuitWitness::Openings { steps, blocks, witness }));
        }
        let (at, policy) = self.policies().nth(number - 1).ok_or_else(|| failed("there is no such proof"))?;
        let opening = openings.get(at).ok_or_else(|| failed("the step's values are gone"))?;
        let network = self.network(context, policy)?;
        let digest = |side: usize| value_digest(&json_elements(&self.texts[at][side])).map_err(failed);
        let witness = PolicyWitness {
            network,
            state: policy.state.clone(),
            input_text: digest(0)?,
            input_salt: opening.input.salt,
            output_text: digest(1)?,
            output_salt: opening.output.salt,
        };
        Ok((Some(self.plan.steps[at].key.clone()), CircuitWitness::Policy(witness)))
    }

    fn network(&self, context: &WorkContext, policy: &PlannedPolicy) -> Result<FixedNetwork, WorkFault> {
        let reference: PolicyReference = policy.reference.parse().map_err(failed)?;
        let (_, bytes) = context.block_on(self.tools.library.weights(&reference)).map_err(failed)?;
        fixed_network(&bytes).map_err(failed).map(|(network, _)| network)
    }

    /// Make and verify one proof, and keep it.
    fn make(&mut self, context: &WorkContext) -> Result<(), WorkFault> {
        let number = self.made.len();
        let (step, witness) = self.witness(context, number)?;
        let form = witness.form();
        let keys = self.tools.keys.keys(&form).map_err(failed)?;
        let ids = self.tools.ids.clone();
        let mut entropy = move |buffer: &mut [u8]| {
            for part in buffer.chunks_mut(8) {
                let length = part.len();
                part.copy_from_slice(&ids.number().to_le_bytes()[..length]);
            }
        };
        let started = Instant::now();
        let proof = prove(&keys, &witness, &mut entropy).map_err(failed)?;
        let proving_seconds = started.elapsed().as_secs_f64();
        let key = keys.verifying_key();
        let started = Instant::now();
        if !verify(&key, &proof).map_err(failed)? {
            return Err(failed(format!("the proof of {form} that was made is not valid: its keys are damaged")));
        }
        let verifying_seconds = started.elapsed().as_secs_f64();
        let exported = proof_json(&proof);
        let made = GeneratedProof {
            number: number as i64,
            step: step.clone(),
            circuit: form.to_string(),
            circuit_sha256: keys.circuit_sha256().to_owned(),
            key_sha256: key_hash(&key),
            setup: keys.setup().into(),
            constraints: keys.constraints() as u64,
            proving_seconds,
            verifying_seconds,
            proof_bytes: exported.to_string().len() as u64,
            signals: named_signals(&form, &proof.publics),
        };
        let export = ProofExport {
            circuit: made.circuit.clone(),
            circuit_sha256: made.circuit_sha256.clone(),
            key_sha256: made.key_sha256.clone(),
            step,
            signals: form.signals(),
            proof: exported,
            public: signals_json(&proof.publics),
            verification_key: key_json(&key),
        };
        let (id, now) = (self.proof_id.clone(), Timestamp(self.tools.clock.now()));
        let execution: ExecutionId = context.task().subject.as_str().into();
        let write = async move |tx: &mut Tx| store::put_part(tx, (&execution, &id, number as i64), &export, now).await;
        context.block_on(self.tools.db.write(write))?;
        self.made.push(made);
        Ok(())
    }

    fn result(&self) -> Result<ProofResult, WorkFault> {
        let (mut commitments, mut pairs) = (Vec::new(), Vec::new());
        for (step, opening) in self.plan.steps.iter().zip(self.openings.iter().flatten()) {
            let commit =
                |opening: &ValueOpening| -> Result<FieldElement, WorkFault> { opening.commitment().map_err(failed) };
            let pair = (commit(&opening.input)?, commit(&opening.output)?);
            commitments.push(CommittedStep {
                step: step.key.clone(),
                encoding: if step.policy.is_some() { "policy" } else { "json" }.to_owned(),
                input: element_decimal(&pair.0),
                output: element_decimal(&pair.1),
            });
            pairs.push(pair);
        }
        let root = element_decimal(&chain_root(&pairs).map_err(failed)?);
        Ok(ProofResult { made: self.made.clone(), root, commitments })
    }
}

impl WorkMachine for ProofMachine {
    fn advance(&mut self, context: &WorkContext) -> Result<WorkStep, WorkFault> {
        if self.openings.is_none() {
            self.read_values(context)?;
        }
        let total = self.total();
        if self.made.len() < total {
            self.make(context)?;
            let note =
                self.made.last().map(|made| json!({"circuit": made.circuit, "proving_seconds": made.proving_seconds}));
            return Ok(WorkStep::Progress { done: self.made.len() as u64, total: total as u64, note });
        }
        Ok(WorkStep::Done(serde_json::to_value(self.result()?).map_err(failed)?))
    }

    fn checkpoint(&self) -> Result<String, WorkFault> {
        serde_json::to_string(&self.made).map_err(failed)
    }
}
