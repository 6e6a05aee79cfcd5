//! Capabilities of agents: what their makers claim, and what is certified from evidence.

mod evidence;
mod model;
mod record;
mod rules;
mod store;

use std::sync::Arc;

use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    crypto::Signer,
    ids::{AgentId, CapabilityId},
    validation::{FieldPath, Violation, Violations, has_length},
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};
use am_orchestration::executions::ExecutionService;
use serde_json::json;

pub use self::model::{
    CapabilityDocument, CapabilityDraft, CapabilityFilter, CapabilityStanding, CertificationDocument, EvidenceDocument,
    EvidenceDraft, EvidenceKind,
};
use self::{record::CapabilityRecord, rules::describe};
use crate::{
    PerformanceCaller,
    agents::{check_visible, use_agent},
    error::{PerformanceError, Result},
};

/// Capabilities of one agent.
const MAX_CAPABILITIES: i64 = 200;
/// What a capability is special in.
const MAX_SPECIALIZATIONS: usize = 50;

/// The service for capabilities. Cheap to clone.
#[derive(Clone)]
pub struct CapabilityService(Arc<CapabilityInner>);

struct CapabilityInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    executions: ExecutionService,
    signer: Arc<Signer>,
}

fn no_capability(id: &CapabilityId) -> PerformanceError {
    PerformanceError::NotFound(format!("No capability {id}"))
}

impl CapabilityService {
    /// The service; receipts of executions must be signed by the signer.
    pub fn new(
        (db, clock, ids): (Database, Clock, IdGenerator),
        audit: AuditLog,
        (executions, signer): (ExecutionService, Arc<Signer>),
    ) -> Self {
        Self(Arc::new(CapabilityInner { db, clock, ids, audit, executions, signer }))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// The audit entry of what `caller` did with a capability.
    fn entry(&self, caller: &Principal, action: &str, now: Timestamp) -> AuditEntry {
        AuditEntry::new(EventType::WorkflowUpdated, now).by(caller).of("capability", action)
    }

    /// Add a capability to an agent, at the level that its maker claims.
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] with all faults; [`PerformanceError::NotFound`] for another's agent;
    /// [`PerformanceError::Conflict`] where it has too many.
    #[boxed]
    pub async fn create(
        &self,
        caller: &PerformanceCaller,
        draft: CapabilityDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<CapabilityDocument>> {
        check(&draft).map_err(PerformanceError::Invalid)?;
        let (by, now, audit) = (caller.clone(), self.now(), self.0.audit.clone());
        let record = CapabilityRecord {
            capability_id: self.0.ids.next("cap_", 8).into(),
            agent_id: draft.agent_id,
            capability_name: draft.capability_name,
            capability_type: draft.capability_type,
            domain_area: draft.domain_area,
            skill_level: draft.skill_level,
            specializations: draft.specialization_areas,
            created_at: now,
            updated_at: now,
            claimed_level: Some(draft.skill_level),
            trials: None,
            reached: None,
            evidence: None,
            evidence_at: None,
        };
        let made = describe(record, now);
        let entry = self.entry(&caller.principal, "created", now).data("capability", json!(made.capability_id));
        let entry = entry.data("agent", json!(made.agent_id)).data("claimed_level", json!(made.claimed_level));
        let work = async move |tx: &mut Tx| {
            let owner = use_agent(tx, &by, &made.agent_id, now).await?;
            if store::count(tx.conn().await?, &made.agent_id).await? >= MAX_CAPABILITIES {
                let text = format!("The agent has {MAX_CAPABILITIES} capabilities, and may have no more");
                return Err(PerformanceError::Conflict("too_many_capabilities", text));
            }
            store::insert(tx, &made, &owner).await?;
            audit.append(tx, vec![entry]).await?;
            Ok(made)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// A page of an agent's capabilities, the newest first, and how many the filter leaves.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`] for another's agent.
    #[boxed]
    pub async fn list(
        &self,
        caller: &PerformanceCaller,
        agent: &AgentId,
        filter: &CapabilityFilter,
        page: &PageRequest,
    ) -> Result<(Vec<CapabilityDocument>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        check_visible(&mut conn, caller, agent).await?;
        let (rows, total) = store::list(&mut conn, agent, filter, page).await?;
        let now = self.now();
        Ok((rows.into_iter().map(|row| describe(row, now)).collect(), total))
    }

    /// A page of what shows a capability, the newest first, and how many pieces there are.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn list_evidence(
        &self,
        caller: &PerformanceCaller,
        id: &CapabilityId,
        page: &PageRequest,
    ) -> Result<(Vec<EvidenceDocument>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        let found = store::capability(&mut conn, id).await?.ok_or_else(|| no_capability(id))?;
        check_visible(&mut conn, caller, &found.agent_id).await.map_err(|error| hidden(error, id))?;
        Ok(store::evidence(&mut conn, id, page).await?)
    }
}

/// A capability of an agent that is another's is none.
fn hidden(error: PerformanceError, id: &CapabilityId) -> PerformanceError {
    match error {
        PerformanceError::NotFound(_) => no_capability(id),
        other => other,
    }
}

fn check(draft: &CapabilityDraft) -> std::result::Result<(), Vec<Violation>> {
    let mut violations = Violations::default();
    let sound = |text: &str, most: usize| has_length(text, &(1..=most)) && !text.chars().any(char::is_control);
    let texts = [
        ("capability_name", &draft.capability_name, 100),
        ("capability_type", &draft.capability_type, 50),
        ("domain_area", &draft.domain_area, 50),
    ];
    for (member, text, most) in texts {
        let message = format!("must have 1 to {most} characters, no control characters");
        violations.require(sound(text, most), member, message);
    }
    let level = (0.0..=rules::MAX_LEVEL).contains(&draft.skill_level);
    violations.require(level, "skill_level", "must be a number from 0 to 10");
    let few = draft.specialization_areas.len() <= MAX_SPECIALIZATIONS;
    violations.require(few, "specialization_areas", format!("must have at most {MAX_SPECIALIZATIONS} texts"));
    for (at, text) in draft.specialization_areas.iter().take(MAX_SPECIALIZATIONS).enumerate() {
        let place = FieldPath::from([at]).within(["specialization_areas"]);
        violations.require(sound(text, 100), place, "must have 1 to 100 characters, no control characters");
    }
    violations.finish()
}
