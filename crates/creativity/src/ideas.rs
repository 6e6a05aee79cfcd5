//! Ideas for problems, and synthesis across domains.

use am_audit::EventType;
use am_core::{
    boxed,
    ids::AgentId,
    validation::{FieldPath, Violations, has_length},
};
use am_db::{
    Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

pub use crate::ideation::IdeaSource;
use crate::{
    CreativityService,
    caller::{CreativeCaller, use_agent},
    enhancement::MAX_SEED,
    error::{CreativityError, Result},
    ideation::{IdeationOrder, IdeationOutcome, generate_ideas, judge_ideas, technique_prompt},
    metrics::IdeaLabel,
    synthesis::{SynthesisOrder, SynthesisOutcome, synthesise},
};

/// Bytes of a problem or a goal.
const MAX_PROBLEM_BYTES: usize = 100_000;
/// Bytes of constraints as JSON.
const MAX_CONSTRAINT_BYTES: usize = 64 << 10;
/// Characters of a domain.
const MAX_DOMAIN_LEN: usize = 200;
/// Domains beside the primary one.
const MAX_DOMAINS: usize = 10;

/// What ideas are wanted for.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct IdeationRequest {
    /// The problem in words, at most 100000 bytes.
    pub problem_statement: String,
    /// Field that the problem is in, 1 to 200 characters.
    pub domain: String,
    /// `scamper` (default), `triz`, `six_hats`, `first_principles`, `biomimicry` or `morphological`.
    #[serde(default = "usual_technique")]
    #[schema(default = "scamper")]
    pub technique: String,
    /// Number of ideas, 1 to 20. Default 5.
    #[serde(default = "usual_ideas")]
    #[schema(default = 5, minimum = 1, maximum = 20)]
    pub num_ideas: u32,
    /// What ideas should keep to, by a name: a word or a list of words that must or must not be there. Default: none.
    pub constraints: Option<Map<String, Value>>,
    /// Number that decides all choices, 0 to 9007199254740991: the same request and seed give the same ideas. Default 0.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub seed: u64,
    /// Whether the configured language model writes the ideas, which are judged in the same way. Default: it does where there
    /// is one.
    pub language_model: Option<bool>,
}

fn usual_technique() -> String {
    "scamper".to_owned()
}

fn usual_ideas() -> u32 {
    5
}

/// Ideas, best first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct IdeationAnswer {
    /// The problem, as it was sent.
    pub problem_statement: String,
    /// Field that the problem is in.
    pub domain: String,
    /// Who wrote the ideas.
    pub source: IdeaSource,
    /// Model that wrote the ideas; null: the technique's prompts were filled in by rule.
    #[schema(required = true)]
    pub model: Option<String>,
    /// The ideas and their figures.
    #[serde(flatten)]
    pub outcome: IdeationOutcome,
}

/// Domains to bring together.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct SynthesisRequest {
    /// Name of the agent that asks. One that nobody has registered belongs to the principal that uses it first.
    pub agent_id: AgentId,
    /// Domain that the goal is in, 1 to 200 characters.
    pub primary_domain: String,
    /// Domains to take structure from: 1 to 10, of 1 to 200 characters each.
    pub secondary_domains: Vec<String>,
    /// The goal in words, at most 100000 bytes.
    pub synthesis_goal: String,
    /// Number that decides all choices, 0 to 9007199254740991: the same request and seed give the same answer. Default 0.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub seed: u64,
}

/// What a synthesis found.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SynthesisAnswer {
    /// Name of the agent that asked.
    pub agent_id: AgentId,
    /// Domain that the goal is in.
    pub primary_domain: String,
    /// Domains that structure was taken from.
    pub secondary_domains: Vec<String>,
    /// The goal, as it was sent.
    pub synthesis_goal: String,
    /// The shared structure, what follows from it, and the figures.
    #[serde(flatten)]
    pub outcome: SynthesisOutcome,
}

fn check_text(faults: &mut Violations, name: &'static str, text: &str) {
    faults.require(text.chars().any(char::is_alphanumeric), name, "has no word");
    let few = text.len() <= MAX_PROBLEM_BYTES;
    faults.require(few, name, format!("has {} bytes: at most {MAX_PROBLEM_BYTES}", text.len()));
}

fn check_domain(faults: &mut Violations, path: impl Into<FieldPath>, text: &str) {
    let good = has_length(text, &(1..=MAX_DOMAIN_LEN)) && text.chars().any(char::is_alphanumeric);
    faults.require(good, path, format!("must have 1 to {MAX_DOMAIN_LEN} characters, with a word among them"));
}

fn check_seed(faults: &mut Violations, seed: u64) {
    faults.require(seed <= MAX_SEED, "seed", format!("must be at most {MAX_SEED}"));
}

impl CreativityService {
    /// Make ideas for a problem.
    ///
    /// # Errors
    /// [`CreativityError::Invalid`] with all faults; [`CreativityError::Conflict`] when a language model is asked for and none is
    /// configured; [`CreativityError::Unavailable`] when it gave no usable ideas.
    #[boxed]
    pub async fn generate_ideas(
        &self,
        caller: &CreativeCaller,
        request: IdeationRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<IdeationAnswer>> {
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        let constraints = request.constraints.unwrap_or_default();
        let mut faults = Violations::default();
        check_text(&mut faults, "problem_statement", &request.problem_statement);
        check_domain(&mut faults, "domain", &request.domain);
        faults.require((1..=20).contains(&request.num_ideas), "num_ideas", "must be from 1 to 20");
        let size = serde_json::to_string(&constraints).map_or(0, |text| text.len());
        faults.require(
            size <= MAX_CONSTRAINT_BYTES,
            "constraints",
            format!("have {size} bytes: at most {MAX_CONSTRAINT_BYTES}"),
        );
        check_seed(&mut faults, request.seed);
        faults.finish().map_err(CreativityError::Invalid)?;
        let order = IdeationOrder {
            problem_statement: request.problem_statement,
            domain: request.domain,
            technique: request.technique,
            num_ideas: request.num_ideas,
            constraints,
            seed: request.seed,
        };
        let llm = match (&self.0.llm, request.language_model) {
            (None, Some(true)) => {
                let text = "no language model is configured (CREATIVITY_LLM_URL)";
                return Err(CreativityError::Conflict(text.to_owned()));
            }
            (Some(_), Some(false)) => None,
            (llm, _) => llm.as_ref(),
        };
        let answer = match llm {
            Some(llm) => {
                // An unknown technique is refused before anybody is asked.
                let prompt = technique_prompt(&order)?;
                let texts = llm.ideas(&prompt, order.seed).await.map_err(|reason| {
                    self.0.metrics.llm_failures.inc();
                    tracing::warn!(reason, "no ideas could be had");
                    CreativityError::Unavailable(reason)
                })?;
                let (problem_statement, domain) = (order.problem_statement.clone(), order.domain.clone());
                let outcome = self.judged(move |judge| judge_ideas(&order, texts, judge)).await?;
                let model = Some(llm.model.clone());
                IdeationAnswer { problem_statement, domain, source: IdeaSource::LanguageModel, model, outcome }
            }
            None => {
                let (problem_statement, domain) = (order.problem_statement.clone(), order.domain.clone());
                let outcome = self.judged(move |judge| generate_ideas(&order, judge)).await?;
                IdeationAnswer { problem_statement, domain, source: IdeaSource::Template, model: None, outcome }
            }
        };
        let source = if answer.model.is_some() { "language_model" } else { "rules" };
        let count = answer.outcome.ideas.len() as u64;
        let (this, caller, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let entry = this.entry(&caller, EventType::WorkflowUpdated, "ideas", "generated", now);
            let entry = entry.data("technique", json!(answer.outcome.technique)).data("ideas", json!(count));
            this.0.audit.append(tx, vec![entry.data("source", json!(source))]).await?;
            Ok::<_, CreativityError>(answer)
        };
        let done = self.0.db.write_idempotent(&self.0.clock, once, work).await?;
        if !done.replayed {
            self.0.metrics.ideas.get_or_create(&IdeaLabel { source }).inc_by(count);
        }
        Ok(done)
    }

    /// Find structure that domains share, and what follows from it for a goal.
    ///
    /// # Errors
    /// [`CreativityError::Invalid`] with all faults; [`CreativityError::NotFound`] for another's agent.
    #[boxed]
    pub async fn synthesise_domains(
        &self,
        caller: &CreativeCaller,
        request: SynthesisRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SynthesisAnswer>> {
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        let mut faults = Violations::default();
        check_domain(&mut faults, "primary_domain", &request.primary_domain);
        let count = request.secondary_domains.len();
        faults.require((1..=MAX_DOMAINS).contains(&count), "secondary_domains", format!("must be 1 to {MAX_DOMAINS}"));
        for (at, domain) in request.secondary_domains.iter().enumerate().take(MAX_DOMAINS) {
            check_domain(&mut faults, FieldPath::from([at]).within(["secondary_domains"]), domain);
        }
        check_text(&mut faults, "synthesis_goal", &request.synthesis_goal);
        check_seed(&mut faults, request.seed);
        faults.finish().map_err(CreativityError::Invalid)?;
        let order = SynthesisOrder {
            primary_domain: request.primary_domain.clone(),
            secondary_domains: request.secondary_domains.clone(),
            synthesis_goal: request.synthesis_goal.clone(),
            seed: request.seed,
        };
        let outcome = self.judged(move |judge| synthesise(&order, judge)).await?;
        let SynthesisRequest { agent_id, primary_domain, secondary_domains, synthesis_goal, .. } = request;
        let answer = SynthesisAnswer { agent_id, primary_domain, secondary_domains, synthesis_goal, outcome };
        let (this, caller, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            use_agent(tx, &caller, &answer.agent_id, now).await?;
            let entry = this.entry(&caller, EventType::WorkflowUpdated, "synthesis", "made", now);
            let entry = entry.data("agent_id", json!(answer.agent_id)).data("domains", json!(answer.secondary_domains));
            this.0.audit.append(tx, vec![entry]).await?;
            Ok::<_, CreativityError>(answer)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }
}
