//! Agents that learn: each has its own policy, of which feedback makes new versions.

mod model;
mod store;

use serde_json::json;

use self::model::policy_of;
pub use self::model::{Enabling, GivenAction, GivenFeedback, GivenState, Learner, Standing};
use super::{
    BUILTIN_NAME,
    error::{Error, Result},
    library::{self, Library, NewVersion, Stored, VersionRecord},
    model::PolicyReference,
    runs::{RunFilter, Runs, Teaching, TrainingRun},
    training::{Feedback, FeedbackAction, OfflineSettings},
};
use am_core::{
    ambient::{Clock, Ids},
    validation::{PathSegment, Violation, Violations},
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    page::Page,
    principal::Principal,
};

/// Maximum length of an agent id, in characters.
const LONGEST_ID: usize = 200;

/// Service for learning agents. Cheap to clone.
#[derive(Clone)]
pub struct Learning {
    db: Database,
    clock: Clock,
    ids: Ids,
    library: Library,
    runs: Runs,
}

impl Learning {
    /// Create the service on `db`, with policies stored in `library`.
    pub fn new(db: Database, clock: Clock, ids: Ids, library: Library, runs: Runs) -> Self {
        Self { db, clock, ids, library, runs }
    }

    /// Enable learning for an agent. It gets its own policy, a copy of another. For an agent that learns already, the
    /// settings are changed.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::Forbidden`] for another owner's agent; [`Error::Act`] for a policy that does not
    /// exist.
    pub async fn enable(
        &self,
        caller: &Principal,
        agent_id: &str,
        enabling: Enabling,
        once: Option<Once>,
    ) -> Result<Done<Learner>> {
        if agent_id.is_empty() || agent_id.len() > LONGEST_ID {
            return Err(Error::invalid("agent_id", format!("has 1 to {LONGEST_ID} bytes")));
        }
        OfflineSettings { learning_rate: enabling.learning_rate, ..OfflineSettings::default() }
            .validate()
            .map_err(Error::of_lesson)?;
        let from = enabling.policy.as_deref().unwrap_or(BUILTIN_NAME).parse::<PolicyReference>();
        let from = from.map_err(|error| Error::invalid("policy", error.to_string()))?;
        let copied = self.library.version(&from).await?;
        let now = Timestamp(self.clock.now());
        let learner = Learner {
            agent_id: agent_id.to_owned(),
            owner_id: caller.name.to_string(),
            policy: policy_of(agent_id),
            mode: enabling.mode,
            learning_rate: enabling.learning_rate,
            feedback_source: enabling.feedback_source,
            created_at: now,
            updated_at: now,
        };
        self.library.may_publish(caller, &learner.policy).await?;
        let (ids, caller, first) = (self.ids.clone(), caller.clone(), copy(&learner, copied));
        let audit = self.library.audit().clone();
        let done = self
            .db
            .write_once(&self.clock, once, async move |tx: &mut Tx| {
                let learner = match store::get(tx.conn().await?, &learner.agent_id).await? {
                    Some(old) => {
                        allowed(&caller, &old)?;
                        Learner { owner_id: old.owner_id, policy: old.policy, created_at: old.created_at, ..learner }
                    }
                    None => {
                        let told = (&audit, library::told(now).by(&caller));
                        library::publish(tx, &ids, told, &learner.owner_id, first, now).await?;
                        library::belongs_to(tx, &learner.policy, &learner.agent_id).await?;
                        learner
                    }
                };
                store::put(tx, &learner).await?;
                let entry = library::told(now).of("learner", "enabled").by(&caller);
                audit.append(tx, vec![entry.change(None, Some(json!(learner)))]).await?;
                Ok::<_, Error>(learner)
            })
            .await?;
        self.library.refresh().await?;
        Ok(done)
    }

    /// Return a learning agent of `caller`.
    ///
    /// # Errors
    /// [`Error::State`] when learning is not enabled for it; [`Error::Forbidden`].
    pub async fn get(&self, caller: &Principal, agent_id: &str) -> Result<Learner> {
        let found = store::get(&mut *self.db.read().await?, agent_id).await?;
        let learner = found.ok_or_else(|| {
            Error::State(format!("Learning is not enabled for agent '{agent_id}': enable it first (learning/enable)"))
        })?;
        allowed(caller, &learner)?;
        Ok(learner)
    }

    /// Change an agent's policy by feedback, in the background, with the settings that `settings` makes of how learning was
    /// enabled.
    ///
    /// # Errors
    /// As [`Learning::get`]; [`Error::Invalid`] with the row that does not fit.
    pub async fn train(
        &self,
        caller: &Principal,
        agent_id: &str,
        feedback: Vec<GivenFeedback>,
        settings: impl FnOnce(&Learner) -> OfflineSettings,
        once: Option<Once>,
    ) -> Result<Done<TrainingRun>> {
        let learner = self.get(caller, agent_id).await?;
        let settings = settings(&learner);
        let version = self.version(&learner).await?;
        let mut violations = Violations::default();
        let rows = feedback.into_iter().enumerate().filter_map(|(at, row)| {
            let read = read(row, &version);
            violations.take(read.map_err(|(member, message)| {
                Violation::new([PathSegment::from("feedback"), at.into(), member.into()], message)
            }))
        });
        let feedback: Vec<_> = rows.collect();
        let feedback = violations.finish_with(Some(feedback))?;
        // Fewer rows than the default number of parts cannot be divided into it.
        let settings = OfflineSettings { tasks: settings.tasks.min(feedback.len().max(1)), ..settings };
        let Learner { agent_id, policy, .. } = learner;
        self.runs.teach(caller, Teaching { agent_id, policy, settings, feedback }, once).await
    }

    async fn version(&self, learner: &Learner) -> Result<VersionRecord> {
        self.library.version(&PolicyReference::newest(&learner.policy)).await
    }

    /// Return the state of an agent's learning.
    ///
    /// # Errors
    /// As [`Learning::get`].
    pub async fn standing(&self, caller: &Principal, agent_id: &str) -> Result<Standing> {
        let learner = self.get(caller, agent_id).await?;
        let version = self.version(&learner).await?;
        let filter = RunFilter { policy: Some(learner.policy.clone()), status: None };
        let page = Page { limit: 100, ..Page::default() };
        let (runs, total) = self.runs.list(caller, &filter, &page).await?;
        Ok(Standing { learner, version, runs, total })
    }
}

fn allowed(caller: &Principal, learner: &Learner) -> Result<()> {
    match caller.owns(&learner.owner_id) {
        true => Ok(()),
        false => Err(Error::Forbidden(format!("agent '{}' is another owner's", learner.agent_id))),
    }
}

/// Build the first version of an agent's own policy.
fn copy(learner: &Learner, from: VersionRecord) -> NewVersion {
    NewVersion {
        name: learner.policy.clone(),
        training: Some(json!({"agent_id": learner.agent_id, "copy_of": from.reference})),
        file: Stored { sha256: from.sha256, size: from.size_bytes },
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
fn read(row: GivenFeedback, version: &VersionRecord) -> std::result::Result<Feedback, (&'static str, String)> {
    let state = match row.state {
        GivenState::Numbers(numbers) => numbers,
        GivenState::Named(named) => {
            super::by_name(&named, &version.state_names).map_err(|message| ("state", message))?
        }
    };
    let action = match row.action {
        GivenAction::Action(action) => action,
        GivenAction::Name(name) => match version.action_names.iter().position(|known| *known == name) {
            Some(index) => FeedbackAction::Index(index as u64),
            None => {
                let known = version.action_names.join(", ");
                return Err(("action", format!("there is no action '{name}': there are {known}")));
            }
        },
    };
    Ok(Feedback { state, action, reward: row.reward })
}
