//! Evidence: what is attached to a capability, checked against the records that it names.

use am_core::{boxed, ids::CapabilityId};
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use am_orchestration::{error::OrchestrationError, model::ExecutionStatus, receipts::verify_receipt_text};
use serde_json::json;

use super::{
    CapabilityService, hidden,
    model::{CertificationDocument, EvidenceDocument, EvidenceDraft, EvidenceKind},
    no_capability,
    record::CapabilityRecord,
    rules::{TrialSums, describe},
    store,
};
use crate::{
    PerformanceCaller,
    agents::use_agent,
    error::{PerformanceError, Result},
};

/// Trials that an execution is: its owner chooses which are shown.
const EXECUTION_TRIALS: f64 = 0.25;
/// Rating of the marketplace that is nothing reached, and steps from it to the best.
const RATINGS: (f64, f64) = (1.0, 4.0);

/// What a record shows.
struct ShownTrials {
    sums: TrialSums,
    at: Timestamp,
}

fn refused(text: impl Into<String>) -> PerformanceError {
    PerformanceError::invalid("id", text)
}

impl CapabilityService {
    /// Attach evidence to a capability of an agent that the caller acts for; its level is computed anew.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Invalid`] for what shows nothing of the agent;
    /// [`PerformanceError::Conflict`] for what shows another capability already.
    #[boxed]
    pub async fn attach(
        &self,
        caller: &PerformanceCaller,
        id: &CapabilityId,
        draft: EvidenceDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<CertificationDocument>> {
        let run = match draft.kind {
            EvidenceKind::Execution => Some(self.passed_run(caller, &draft.id).await),
            _ => None,
        };
        let (by, id, now, audit) = (caller.clone(), id.clone(), self.now(), self.0.audit.clone());
        let evidence_id = self.0.ids.next("evidence_", 12);
        let entry = self.entry(&caller.principal, "evidence_attached", now).data("capability", json!(id));
        let work = async move |tx: &mut Tx| {
            let found = store::capability(tx.conn().await?, &id).await?.ok_or_else(|| no_capability(&id))?;
            let owner = use_agent(tx, &by, &found.agent_id, now).await.map_err(|error| hidden(error, &id))?;
            let shown = match run {
                Some(run) => run?,
                None => shown_by(tx.conn().await?, &by, &found, &draft).await?,
            };
            if store::is_used(tx.conn().await?, draft.kind, &draft.id).await? {
                let text = format!("The {} {} shows a capability already", draft.kind.value(), draft.id);
                return Err(PerformanceError::Conflict("evidence_used", text));
            }
            let attached = EvidenceDocument {
                id: evidence_id,
                kind: draft.kind,
                reference: draft.id,
                trials: shown.sums.trials,
                reached: shown.sums.reached,
                shown_at: shown.at,
                created_at: now,
            };
            let noted = TrialSums { trials: found.trials.unwrap_or(0.0), reached: found.reached.unwrap_or(0.0) };
            let before = found.evidence_at.map_or(noted, |at| noted.after(now.seconds_since(at)));
            let sums = before.plus(shown.sums.after(now.seconds_since(shown.at)));
            store::attach(tx, &found, (&attached, &owner), sums, now).await?;
            let stored = store::capability(tx.conn().await?, &id).await?.ok_or_else(|| no_capability(&id))?;
            let mut capability = describe(stored, now);
            store::tell(tx, &capability, now).await?;
            capability.updated_at = now;
            let entry = entry.data("kind", json!(attached.kind)).data("reference", json!(attached.reference));
            audit.append(tx, vec![entry.data("certified_level", json!(capability.certified_level))]).await?;
            Ok(CertificationDocument { attached, capability })
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// An execution of the caller's that completed with a valid receipt.
    async fn passed_run(&self, caller: &PerformanceCaller, id: &str) -> Result<ShownTrials> {
        let run = match self.0.executions.get(&caller.principal, &id.into()).await {
            Ok(run) => run,
            Err(OrchestrationError::Db(error)) => return Err(error.into()),
            Err(_) => return Err(refused(format!("you have no execution {id}"))),
        };
        let Some(receipt) = run.execution_receipt.get().filter(|_| run.status == ExecutionStatus::Completed) else {
            return Err(refused(format!("the execution {id} has not completed with a receipt")));
        };
        let verified = verify_receipt_text(receipt.get().as_bytes(), std::slice::from_ref(self.0.signer.public_key()));
        if !verified.valid || verified.execution_id.as_ref() != Some(&run.id) {
            let reason = verified.reason.unwrap_or_else(|| "it is of another execution".to_owned());
            return Err(refused(format!("the receipt of {id} is not valid: {reason}")));
        }
        let sums = TrialSums { trials: EXECUTION_TRIALS, reached: EXECUTION_TRIALS };
        Ok(ShownTrials { sums, at: run.completed_at.unwrap_or(run.updated_at) })
    }
}

/// What an evaluation or a rated request shows of the capability's agent.
async fn shown_by(
    conn: &mut Connection,
    caller: &PerformanceCaller,
    capability: &CapabilityRecord,
    draft: &EvidenceDraft,
) -> Result<ShownTrials> {
    let (id, agent) = (&draft.id, &capability.agent_id);
    if draft.kind == EvidenceKind::MarketRequest {
        let found = store::rated_request(conn, id).await?.filter(|found| found.agent_id.as_ref() == Some(agent));
        let Some(found) = found else { return Err(refused(format!("{agent} did no request {id}"))) };
        let (Some(rating), Some(at)) = (found.rating, found.ended_at) else {
            return Err(refused(format!("the request {id} was not rated")));
        };
        let reached = ((rating as f64 - RATINGS.0) / RATINGS.1).clamp(0.0, 1.0);
        return Ok(ShownTrials { sums: TrialSums { trials: 1.0, reached }, at });
    }
    let found = store::evaluated_agent(conn, id).await?.filter(|found| caller.may_see(&found.owner_id));
    let Some(found) = found else { return Err(refused(format!("you have no evaluation {id}"))) };
    if found.agent_id.as_ref() != Some(agent) {
        return Err(refused(format!("the evaluation {id} is not of {agent}: begin one with this `agent_id`")));
    }
    let (Some(score), Some(at), "COMPLETED") = (found.score, found.ended_at, found.state.as_str()) else {
        return Err(refused(format!("the evaluation {id} has not completed")));
    };
    let trials = found.cases as f64;
    Ok(ShownTrials { sums: TrialSums { trials, reached: score * trials }, at })
}
