//! Agents that learn: each has its own policy, of which feedback makes new versions.

mod model;
mod store;

use serde_json::json;

use self::model::policy_name_for;
pub use self::model::{
    FeedbackActionInput, FeedbackInput, FeedbackStateInput, Learner, LearnerSettings, LearnerStatus,
};
use super::{
    BUILTIN_NAME,
    error::{Result, RlError},
    library::{self, NewVersion, PolicyLibrary, StoredWeights, VersionRecord},
    model::PolicyReference,
    runs::{FeedbackTraining, RunFilter, TrainingCaller, TrainingRun, TrainingRuns},
    training::{FeedbackAction, FeedbackSample, OfflineSettings},
};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::AgentId,
    validation::{self, PathSegment, Violation, Violations},
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};

/// Maximum length of an agent id, in characters.
const MAX_AGENT_ID_LEN: usize = 200;

/// Service for learning agents. Cheap to clone.
#[derive(Clone)]
pub struct LearningService {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    library: PolicyLibrary,
    runs: TrainingRuns,
}

impl LearningService {
    /// Create the service on `db`, with policies stored in `library`.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, library: PolicyLibrary, runs: TrainingRuns) -> Self {
        Self { db, clock, ids, library, runs }
    }

    /// Enable learning for an agent. It gets its own policy, a copy of another. For an agent that learns already, the
    /// settings are changed.
    ///
    /// # Errors
    /// [`RlError::Invalid`]; [`RlError::Forbidden`] for another owner's agent; [`RlError::Act`] for a policy that does not
    /// exist.
    #[boxed]
    pub async fn enable(
        &self,
        caller: &Principal,
        agent_id: &AgentId,
        enabling: LearnerSettings,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Learner>> {
        if !validation::has_length(agent_id, &(1..=MAX_AGENT_ID_LEN)) {
            return Err(RlError::invalid("agent_id", format!("has 1 to {MAX_AGENT_ID_LEN} characters")));
        }
        OfflineSettings { learning_rate: enabling.learning_rate, ..OfflineSettings::default() }
            .validate()
            .map_err(RlError::from_feedback_error)?;
        let from = enabling.policy.as_deref().unwrap_or(BUILTIN_NAME).parse::<PolicyReference>();
        let from = from.map_err(|error| RlError::invalid("policy", error.to_string()))?;
        let copied = self.library.version(&from).await?;
        let now = Timestamp(self.clock.now());
        let learner = Learner {
            agent_id: agent_id.clone(),
            owner_id: caller.id(),
            policy: policy_name_for(agent_id),
            mode: enabling.mode,
            learning_rate: enabling.learning_rate,
            feedback_source: enabling.feedback_source,
            created_at: now,
            updated_at: now,
        };
        self.library.check_may_publish(caller, &learner.policy).await?;
        let (ids, caller, first) = (self.ids.clone(), caller.clone(), first_version(&learner, copied));
        let audit = self.library.audit().clone();
        let done = self
            .db
            .write_idempotent(&self.clock, once, async move |tx: &mut Tx| {
                let learner = match store::get(tx.conn().await?, &learner.agent_id).await? {
                    Some(old) => {
                        check_owner(&caller, &old)?;
                        Learner { owner_id: old.owner_id, policy: old.policy, created_at: old.created_at, ..learner }
                    }
                    None => {
                        let told = (&audit, library::audit_entry(now).by(&caller));
                        library::publish_version(tx, &ids, told, &learner.owner_id, first, now).await?;
                        library::set_agent(tx, &learner.policy, &learner.agent_id).await?;
                        learner
                    }
                };
                store::put(tx, &learner).await?;
                let entry = library::audit_entry(now).of("learner", "enabled").by(&caller);
                audit.append(tx, vec![entry.change(None, Some(json!(learner)))]).await?;
                Ok::<_, RlError>(learner)
            })
            .await?;
        self.library.refresh().await?;
        Ok(done)
    }

    /// Return a learning agent of `caller`.
    ///
    /// # Errors
    /// [`RlError::InvalidState`] when learning is not enabled for it, or by another owner.
    #[boxed]
    pub async fn get(&self, caller: &Principal, agent_id: &AgentId) -> Result<Learner> {
        let found = store::get(&mut *self.db.read().await?, agent_id).await?;
        caller.own(found, |learner| &learner.owner_id).ok_or_else(|| {
            RlError::InvalidState(format!(
                "Learning is not enabled for agent '{agent_id}': enable it first (learning/enable)"
            ))
        })
    }

    /// Change an agent's policy by feedback, in the background, with the settings that `settings` makes of how learning was
    /// enabled.
    ///
    /// # Errors
    /// As [`LearningService::get`]; [`RlError::Invalid`] with the row that does not fit.
    pub async fn train(
        &self,
        caller: &Principal,
        agent_id: &AgentId,
        feedback: Vec<FeedbackInput>,
        settings: impl FnOnce(&Learner) -> OfflineSettings,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TrainingRun>> {
        let learner = self.get(caller, agent_id).await?;
        let settings = settings(&learner);
        let version = self.version(&learner).await?;
        let mut violations = Violations::default();
        let rows = feedback.into_iter().enumerate().filter_map(|(at, row)| {
            let read = resolve_feedback(row, &version);
            violations.take(read.map_err(|(member, message)| {
                Violation::new([PathSegment::from("feedback"), at.to_string().into(), member.into()], message)
            }))
        });
        let feedback: Vec<_> = rows.collect();
        let feedback = violations.finish_with(Some(feedback))?;
        // Fewer rows than the default number of parts cannot be divided into it.
        let settings = OfflineSettings { tasks: settings.tasks.min(feedback.len().max(1)), ..settings };
        let Learner { agent_id, policy, .. } = learner;
        let training = FeedbackTraining { agent_id, policy, settings, feedback };
        self.runs.queue_feedback_training(&TrainingCaller::admin(caller), training, once).await
    }

    async fn version(&self, learner: &Learner) -> Result<VersionRecord> {
        self.library.version(&PolicyReference::newest(&learner.policy)).await
    }

    /// Return the state of an agent's learning.
    ///
    /// # Errors
    /// As [`LearningService::get`].
    #[boxed]
    pub async fn standing(&self, caller: &Principal, agent_id: &AgentId) -> Result<LearnerStatus> {
        let learner = self.get(caller, agent_id).await?;
        let version = self.version(&learner).await?;
        let filter = RunFilter { policy: Some(learner.policy.clone()), ..RunFilter::default() };
        let page = PageRequest { limit: 100, ..PageRequest::default() };
        let (runs, total) = self.runs.list(caller, &filter, &page).await?;
        Ok(LearnerStatus { learner, version, runs, total })
    }
}

fn check_owner(caller: &Principal, learner: &Learner) -> Result<()> {
    match caller.owns(&learner.owner_id) {
        true => Ok(()),
        false => Err(RlError::Forbidden(format!("agent '{}' is another owner's", learner.agent_id))),
    }
}

/// Build the first version of an agent's own policy.
fn first_version(learner: &Learner, from: VersionRecord) -> NewVersion {
    NewVersion {
        name: learner.policy.clone(),
        training: Some(json!({"agent_id": learner.agent_id, "copy_of": from.reference})),
        file: StoredWeights { sha256: from.sha256, size: from.size_bytes },
        form: from.form,
        action_names: from.action_names,
        state_names: from.state_names,
        environment: from.environment,
        source: "copied",
        seed: from.seed,
        scores: from.scores,
        aliases: Vec::new(),
    }
}

/// Resolve names in a row of feedback to the policy's indices, or name the wrong member.
fn resolve_feedback(
    row: FeedbackInput,
    version: &VersionRecord,
) -> std::result::Result<FeedbackSample, (&'static str, String)> {
    let state = match row.state {
        FeedbackStateInput::Numbers(numbers) => numbers,
        FeedbackStateInput::Named(named) => {
            super::state_by_names(&named, &version.state_names).map_err(|message| ("state", message))?
        }
    };
    let action = match row.action {
        FeedbackActionInput::Action(action) => action,
        FeedbackActionInput::Name(name) => match version.action_names.iter().position(|known| *known == name) {
            Some(index) => FeedbackAction::Index(index as u64),
            None => {
                let known = version.action_names.join(", ");
                return Err(("action", format!("there is no action '{name}': there are {known}")));
            }
        },
    };
    Ok(FeedbackSample { state, action, reward: row.reward })
}
