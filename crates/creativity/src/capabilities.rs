//! Capabilities: recorded, found, listed.

use am_audit::EventType;
use am_core::{
    boxed,
    ids::{AgentId, CreativeCapabilityId},
    validation::{Violations, has_length},
};
use am_db::{
    Connection, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use serde_json::json;

use crate::{
    CreativityService,
    caller::{CreativeCaller, is_visible, use_agent},
    error::{CreativityError, Result},
    model::{CapabilityDocument, CapabilityDraft, CapabilityRow},
    store,
};

/// Capabilities that one agent may have.
const MAX_AGENT_CAPABILITIES: i64 = 200;
/// Rows of one agent that a list looks at: the coordinator may have made more than may be made here.
const MAX_LISTED: i64 = 1000;
/// Models that a capability may name.
const MAX_MODELS: usize = 50;
/// Characters of a domain and of a kind, as the coordinator's columns have them.
const MAX_NAME_LEN: usize = 50;

/// Check what a draft says.
fn check_draft(draft: &CapabilityDraft) -> Result<()> {
    let mut faults = Violations::default();
    for (name, text) in [("creative_domain", &draft.creative_domain), ("capability_type", &draft.capability_type)] {
        let good = has_length(text, &(1..=MAX_NAME_LEN)) && !text.trim().is_empty();
        faults.require(good, name, format!("must have 1 to {MAX_NAME_LEN} characters"));
    }
    let models = &draft.generation_models;
    faults.require(models.len() <= MAX_MODELS, "generation_models", format!("must be at most {MAX_MODELS}"));
    for (at, model) in models.iter().enumerate().take(MAX_MODELS) {
        let path = am_core::validation::FieldPath::from([at]).within(["generation_models"]);
        faults.require(has_length(model, &(1..=200)), path, "must have 1 to 200 characters");
    }
    let claim = draft.initial_score;
    faults.require((0.0..=1.0).contains(&claim), "initial_score", "must be from 0 to 1");
    faults.finish().map_err(CreativityError::Invalid)
}

/// A capability that the caller may see.
///
/// # Errors
/// [`CreativityError::NotFound`].
pub(crate) async fn visible_capability(
    conn: &mut Connection,
    caller: &CreativeCaller,
    id: &CreativeCapabilityId,
) -> Result<CapabilityRow> {
    let row = store::get(conn, id).await?.ok_or(CreativityError::NotFound("Capability"))?;
    if is_visible(conn, caller, &row.agent_id).await? { Ok(row) } else { Err(CreativityError::NotFound("Capability")) }
}

/// A capability that the caller changes, with a row of this service's own for it.
///
/// # Errors
/// [`CreativityError::NotFound`].
pub(crate) async fn own_capability(
    tx: &mut Tx,
    caller: &CreativeCaller,
    id: &CreativeCapabilityId,
    now: Timestamp,
) -> Result<CapabilityRow> {
    let row = visible_capability(tx.conn().await?, caller, id).await?;
    if row.owner_id.is_some() {
        return Ok(row);
    }
    let owner = use_agent(tx, caller, &row.agent_id, now).await?;
    let mut rows = RowBatch::default();
    store::insert_own(&mut rows, &row, &owner, now);
    rows.execute(tx).await?;
    Ok(CapabilityRow { claimed_score: Some(row.originality_score), owner_id: Some(owner), ..row })
}

impl CreativityService {
    /// Record a capability of an agent.
    ///
    /// # Errors
    /// [`CreativityError::Invalid`] with all faults; [`CreativityError::NotFound`] for another's agent;
    /// [`CreativityError::Conflict`] when the agent has as many as it may have.
    #[boxed]
    pub async fn create_capability(
        &self,
        caller: &CreativeCaller,
        draft: CapabilityDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<CapabilityDocument>> {
        check_draft(&draft)?;
        let (this, caller, now) = (self.clone(), caller.clone(), self.now());
        let id: CreativeCapabilityId = self.0.ids.next("creative_", 12).into();
        let work = async move |tx: &mut Tx| {
            let owner = use_agent(tx, &caller, &draft.agent_id, now).await?;
            if store::count_of_agent(tx.conn().await?, &draft.agent_id).await? >= MAX_AGENT_CAPABILITIES {
                let text = format!("the agent has {MAX_AGENT_CAPABILITIES} capabilities, as many as it may have");
                return Err(CreativityError::Conflict(text));
            }
            let row = new_row(&id, &draft, now)?;
            let mut rows = RowBatch::default();
            store::insert_capability(&mut rows, &row);
            store::insert_own(&mut rows, &row, &owner, now);
            let document = CapabilityRow { owner_id: Some(owner), ..row }.into_document();
            let entry = this.entry(&caller, EventType::WorkflowUpdated, "creative_capability", "created", now);
            // The settings, without the caller's own texts.
            let told = json!({
                "agent_id": document.agent_id,
                "capability_type": document.capability_type,
                "claimed_score": document.claimed_score,
            });
            let entry = entry.data("capability_id", json!(id)).change(None, Some(told));
            this.0.audit.add_entry_rows(&mut rows, [entry]);
            rows.execute(tx).await?;
            Ok(document)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Return a page of an agent's capabilities, the newest first, and how many there are.
    ///
    /// # Errors
    /// [`CreativityError::NotFound`] for an agent that the caller may not use.
    #[boxed]
    pub async fn list_capabilities(
        &self,
        caller: &CreativeCaller,
        agent: &AgentId,
        page: &PageRequest,
    ) -> Result<(Vec<CapabilityDocument>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        if !is_visible(&mut conn, caller, agent).await? {
            return Err(CreativityError::NotFound("Agent"));
        }
        let mut rows = store::of_agent(&mut conn, agent, MAX_LISTED).await?;
        drop(conn);
        let is_within = |row: &CapabilityRow| {
            page.created.after.is_none_or(|after| row.created_at > after)
                && page.created.before.is_none_or(|before| row.created_at < before)
        };
        rows.retain(is_within);
        let total = rows.len() as i64;
        rows.sort_by(|one, other| {
            let order = (one.created_at, &*one.capability_id).cmp(&(other.created_at, &*other.capability_id));
            if page.oldest_first { order } else { order.reverse() }
        });
        let is_behind = |row: &CapabilityRow| {
            page.after.as_ref().is_none_or(|(at, id)| {
                let order = (row.created_at, &*row.capability_id).cmp(&(*at, id.as_str()));
                order == if page.oldest_first { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less }
            })
        };
        let shown = rows.into_iter().filter(is_behind).skip(page.offset as usize).take(page.limit as usize);
        Ok((shown.map(CapabilityRow::into_document).collect(), total))
    }
}

/// A new capability: nothing of it is known.
fn new_row(id: &CreativeCapabilityId, draft: &CapabilityDraft, now: Timestamp) -> Result<CapabilityRow> {
    let none = || store::json_text(&json!([]));
    let empty = || store::json_text(&json!({}));
    Ok(CapabilityRow {
        id: id.to_string(),
        capability_id: id.clone(),
        agent_id: draft.agent_id.clone(),
        creative_domain: draft.creative_domain.clone(),
        capability_type: draft.capability_type.clone(),
        // What the coordinator's columns hold of what is not known.
        originality_score: 0.0,
        novelty_score: 0.0,
        aesthetic_quality: 0.0,
        coherence_score: 0.0,
        generation_models: store::json_text(&draft.generation_models)?,
        style_variety: 1,
        output_quality: 0.0,
        creative_learning_rate: 0.0,
        style_adaptation: 0.0,
        cross_domain_transfer: 0.0,
        creative_specializations: none()?,
        tool_proficiency: empty()?,
        domain_knowledge: empty()?,
        creations_generated: 0,
        user_ratings: none()?,
        expert_evaluations: none()?,
        status: "developing".to_owned(),
        certification_level: None,
        last_evaluation: None,
        created_at: now,
        updated_at: now,
        meta_data: JsonText::none().or_empty_object(),
        portfolio_samples: none()?,
        owner_id: None,
        claimed_score: Some(draft.initial_score),
        originality: None,
        novelty: None,
        aesthetic: None,
        coherence: None,
        works_variety: None,
        learning_rate: None,
        evaluations: Some(0),
    })
}
