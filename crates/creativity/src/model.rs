//! Capabilities, their works, and what came of evaluations, as clients see them.

use std::collections::BTreeMap;

use am_core::ids::{AgentId, CreativeCapabilityId, CreativeWorkId, PrincipalId};
use am_db::codec::{JsonText, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::measures::CreationMeasures;

/// Who wrote the figures of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FigureOrigin {
    /// This service, from evaluations; what was not measured is null.
    Measured,
    /// The coordinator, in its own table: nothing is known of how it came to them.
    Coordinator,
}

/// A capability to record.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = CreativeCapabilityCreate)]
pub struct CapabilityDraft {
    /// Name of the agent. One that nobody has registered belongs to the principal that uses it first.
    pub agent_id: AgentId,
    /// Field of the creations, 1 to 50 characters.
    pub creative_domain: String,
    /// Kind of the capability, 1 to 50 characters.
    pub capability_type: String,
    /// Models that it generates with, at most 50 names of 1 to 200 characters.
    pub generation_models: Vec<String>,
    /// What the caller says of its originality, from 0 to 1. It is kept as a claim, and is no measurement. Default 0.5.
    #[serde(default = "usual_claim")]
    #[schema(default = 0.5, minimum = 0, maximum = 1)]
    pub initial_score: f64,
}

fn usual_claim() -> f64 {
    0.5
}

/// A creative capability of an agent. A figure that is not known is null, and `reasons` says why.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = CreativeCapability)]
pub struct CapabilityDocument {
    /// Id of the row.
    pub id: String,
    /// Id of the capability.
    pub capability_id: CreativeCapabilityId,
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Field of the creations.
    pub creative_domain: String,
    /// Kind of the capability.
    pub capability_type: String,
    /// Moving average of the originality of evaluated creations, from 0 to 1.
    #[schema(required = true)]
    pub originality_score: Option<f64>,
    /// Moving average of their novelty against the agent's earlier works, from 0 to 1.
    #[schema(required = true)]
    pub novelty_score: Option<f64>,
    /// Moving average of experts' ratings of their beauty, from 0 to 5. Nothing computes it.
    #[schema(required = true)]
    pub aesthetic_quality: Option<f64>,
    /// Moving average of their coherence, from 0 to 1.
    #[schema(required = true)]
    pub coherence_score: Option<f64>,
    /// Models that it generates with.
    pub generation_models: Vec<String>,
    /// Number of kinds of works in the corpus: groups of works that are near each other.
    #[schema(required = true)]
    pub style_variety: Option<i64>,
    /// Mean of users' ratings, from 0 to 5; null: nobody has rated it.
    #[schema(required = true)]
    pub output_quality: Option<f64>,
    /// Measured gain of the last enhancement for each of its cycles.
    #[schema(required = true)]
    pub creative_learning_rate: Option<f64>,
    /// Always null for what was made here: nothing is recorded that it could be computed from.
    #[schema(required = true)]
    pub style_adaptation: Option<f64>,
    /// Always null for what was made here: nothing is recorded that it could be computed from.
    #[schema(required = true)]
    pub cross_domain_transfer: Option<f64>,
    /// Fields that it is best in, as they were recorded.
    pub creative_specializations: Vec<String>,
    /// How well it masters tools, by their names, as it was recorded.
    pub tool_proficiency: Map<String, Value>,
    /// What it knows of fields, by their names, as it was recorded.
    pub domain_knowledge: Map<String, Value>,
    /// Number of evaluated creations.
    pub creations_generated: i64,
    /// Ratings of users, from 0 to 5, as they were recorded.
    pub user_ratings: Vec<f64>,
    /// The last 50 evaluations with experts' feedback.
    pub expert_evaluations: Vec<Value>,
    /// `developing` until the first evaluation, then `ready`; or what the coordinator wrote.
    pub status: String,
    /// Level of certification, as the coordinator recorded it; null: none.
    #[schema(required = true)]
    pub certification_level: Option<String>,
    /// When a creation was evaluated last; null: never.
    #[schema(required = true)]
    pub last_evaluation: Option<Timestamp>,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// Additional data, as it was recorded.
    pub creative_profile_meta_data: Map<String, Value>,
    /// Samples of its works, as they were recorded.
    pub portfolio_samples: Vec<Value>,
    /// Who wrote the figures.
    pub figures_source: FigureOrigin,
    /// What its maker said of its originality, from 0 to 1: a claim, and no measurement. Null for the coordinator's.
    #[schema(required = true)]
    pub claimed_score: Option<f64>,
    /// Principal that it belongs to; null: the coordinator wrote it.
    #[schema(required = true)]
    pub owner_id: Option<PrincipalId>,
    /// Why a figure is null, by its name.
    pub reasons: BTreeMap<String, String>,
}

/// A capability as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct CapabilityRow {
    pub(crate) id: String,
    pub(crate) capability_id: CreativeCapabilityId,
    pub(crate) agent_id: AgentId,
    pub(crate) creative_domain: String,
    pub(crate) capability_type: String,
    pub(crate) originality_score: f64,
    pub(crate) novelty_score: f64,
    pub(crate) aesthetic_quality: f64,
    pub(crate) coherence_score: f64,
    pub(crate) generation_models: JsonText,
    pub(crate) style_variety: i64,
    pub(crate) output_quality: f64,
    pub(crate) creative_learning_rate: f64,
    pub(crate) style_adaptation: f64,
    pub(crate) cross_domain_transfer: f64,
    pub(crate) creative_specializations: JsonText,
    pub(crate) tool_proficiency: JsonText,
    pub(crate) domain_knowledge: JsonText,
    pub(crate) creations_generated: i64,
    pub(crate) user_ratings: JsonText,
    pub(crate) expert_evaluations: JsonText,
    pub(crate) status: String,
    pub(crate) certification_level: Option<String>,
    pub(crate) last_evaluation: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) meta_data: JsonText,
    pub(crate) portfolio_samples: JsonText,
    /// Null: the coordinator made it, and nothing of it was measured here.
    pub(crate) owner_id: Option<PrincipalId>,
    pub(crate) claimed_score: Option<f64>,
    pub(crate) originality: Option<f64>,
    pub(crate) novelty: Option<f64>,
    pub(crate) aesthetic: Option<f64>,
    pub(crate) coherence: Option<f64>,
    pub(crate) works_variety: Option<i64>,
    pub(crate) learning_rate: Option<f64>,
    pub(crate) evaluations: Option<i64>,
}

/// The value of a JSON column; its default where it has another form.
fn read_json<T: serde::de::DeserializeOwned + Default>(text: &JsonText) -> T {
    text.parse().ok().flatten().unwrap_or_default()
}

impl CapabilityRow {
    /// Experts' evaluations that are kept.
    pub(crate) fn expert_evaluations(&self) -> Vec<Value> {
        read_json(&self.expert_evaluations)
    }

    /// As clients see it.
    pub(crate) fn into_document(self) -> CapabilityDocument {
        let is_ours = self.owner_id.is_some();
        // In the coordinator's columns, which are never null, 0 stands for what is not known.
        let figure = |ours: Option<f64>, theirs: f64| if is_ours { ours } else { Some(theirs) };
        let ratings: Vec<f64> = read_json(&self.user_ratings);
        let rated = (!ratings.is_empty()).then(|| ratings.iter().sum::<f64>() / ratings.len() as f64);
        let mut document = CapabilityDocument {
            originality_score: figure(self.originality, self.originality_score),
            novelty_score: figure(self.novelty, self.novelty_score),
            aesthetic_quality: figure(self.aesthetic, self.aesthetic_quality),
            coherence_score: figure(self.coherence, self.coherence_score),
            style_variety: if is_ours { self.works_variety } else { Some(self.style_variety) },
            output_quality: figure(rated, self.output_quality),
            creative_learning_rate: figure(self.learning_rate, self.creative_learning_rate),
            style_adaptation: figure(None, self.style_adaptation),
            cross_domain_transfer: figure(None, self.cross_domain_transfer),
            generation_models: read_json(&self.generation_models),
            creative_specializations: read_json(&self.creative_specializations),
            tool_proficiency: read_json(&self.tool_proficiency),
            domain_knowledge: read_json(&self.domain_knowledge),
            expert_evaluations: read_json(&self.expert_evaluations),
            creative_profile_meta_data: read_json(&self.meta_data),
            portfolio_samples: read_json(&self.portfolio_samples),
            figures_source: if is_ours { FigureOrigin::Measured } else { FigureOrigin::Coordinator },
            user_ratings: ratings,
            id: self.id,
            capability_id: self.capability_id,
            agent_id: self.agent_id,
            creative_domain: self.creative_domain,
            capability_type: self.capability_type,
            creations_generated: self.creations_generated,
            status: self.status,
            certification_level: self.certification_level,
            last_evaluation: self.last_evaluation,
            created_at: self.created_at,
            updated_at: self.updated_at,
            claimed_score: self.claimed_score,
            owner_id: self.owner_id,
            reasons: BTreeMap::new(),
        };
        document.reasons = reasons_of(&document);
        document
    }
}

/// Why figures of a capability are null.
fn reasons_of(document: &CapabilityDocument) -> BTreeMap<String, String> {
    let unmeasured = "no evaluated creation has given it yet";
    let unrecorded = "nothing is recorded that it could be computed from";
    let found = [
        ("originality_score", document.originality_score.is_none(), unmeasured),
        ("novelty_score", document.novelty_score.is_none(), unmeasured),
        ("aesthetic_quality", document.aesthetic_quality.is_none(), "no expert has rated it, and nothing computes it"),
        ("coherence_score", document.coherence_score.is_none(), unmeasured),
        ("style_variety", document.style_variety.is_none(), "the corpus has no works of the agent's own"),
        ("output_quality", document.output_quality.is_none(), "no user has rated it"),
        ("creative_learning_rate", document.creative_learning_rate.is_none(), "no enhancement has ended yet"),
        ("style_adaptation", document.style_adaptation.is_none(), unrecorded),
        ("cross_domain_transfer", document.cross_domain_transfer.is_none(), unrecorded),
    ];
    let missing = found.into_iter().filter(|(_, is_missing, _)| *is_missing);
    missing.map(|(name, _, reason)| (name.to_owned(), reason.to_owned())).collect()
}

am_db::stored_enum! {
    /// What a text is to its capability.
    pub enum WorkRole {
        /// A work of the agent's own.
        Own = "OWN" / "own",
        /// A work of others, that originality is measured against.
        Reference = "REFERENCE" / "reference",
        /// A creation that was evaluated.
        Creation = "CREATION" / "creation",
    }
}

/// A kept text of a capability.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = CreativeWork)]
pub struct WorkDocument {
    /// Id of the text.
    pub id: CreativeWorkId,
    /// Capability that it belongs to.
    pub capability_id: CreativeCapabilityId,
    /// What it is to the capability.
    pub role: WorkRole,
    /// Title; null: it has none.
    #[schema(required = true)]
    pub title: Option<String>,
    /// The text itself.
    pub text: String,
    /// SHA-256 of the text, in hex.
    pub sha256: String,
    /// When it was kept.
    pub created_at: Timestamp,
}

/// Figures of one evaluation that a capability keeps averages of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreativeFigures {
    /// Originality, from 0 to 1; null: not known.
    #[schema(required = true)]
    pub originality: Option<f64>,
    /// Novelty, from 0 to 1; null: not known.
    #[schema(required = true)]
    pub novelty: Option<f64>,
    /// Beauty, from 0 to 5; null: no expert has rated it.
    #[schema(required = true)]
    pub aesthetic_quality: Option<f64>,
    /// Coherence, from 0 to 1; null: not known.
    #[schema(required = true)]
    pub coherence: Option<f64>,
}

/// What came of an evaluation.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CreationEvaluation {
    /// Capability that was evaluated.
    pub capability_id: CreativeCapabilityId,
    /// What was measured of the creation.
    pub measures: CreationMeasures,
    /// What experts said, as far as it names a figure.
    pub expert: CreativeFigures,
    /// Both together: experts weigh 0.7 where they said something, what was measured 0.3; either alone where there is no other.
    pub combined: CreativeFigures,
    /// Members of the feedback that name no figure; they are kept with the evaluation, and change nothing.
    pub unused_feedback: Vec<String>,
    /// The capability's moving averages after this evaluation.
    pub averages: CreativeFigures,
    /// Number of creations that were evaluated, this one included.
    pub creations_generated: i64,
    /// When it was evaluated.
    pub evaluated_at: Timestamp,
    /// Why a figure of `combined` is null, by its name.
    pub reasons: BTreeMap<String, String>,
}
