//! Agents that learn: each has a policy of its own, which feedback changes version by version.

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
use am_core::ambient::{Clock, Ids};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    page::Page,
    principal::Principal,
};

/// The longest id of an agent.
const LONGEST_ID: usize = 200;

/// Agents that learn. Cheap to clone.
#[derive(Clone)]
pub struct Learning {
    db: Database,
    clock: Clock,
    ids: Ids,
    library: Library,
    runs: Runs,
}

impl Learning {
    /// Agents in `db`, whose policies are `library`'s.
    pub fn new(db: Database, clock: Clock, ids: Ids, library: Library, runs: Runs) -> Self {
        Self { db, clock, ids, library, runs }
    }

    /// Let an agent learn: it gets a policy of its own, a copy of another. One that learns already learns otherwise from
    /// now on.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Forbidden`] for another owner's agent, [`Error::Act`] for a policy that is not there.
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

    /// An agent of `caller`'s that learns.
    ///
    /// # Errors
    /// [`Error::State`] when it was not enabled, [`Error::Forbidden`].
    pub async fn get(&self, caller: &Principal, agent_id: &str) -> Result<Learner> {
        let found = store::get(&mut *self.db.read().await?, agent_id).await?;
        let learner = found.ok_or_else(|| {
            Error::State(format!("Agent '{agent_id}' does not learn: enable that first (learning/enable)"))
        })?;
        allowed(caller, &learner)?;
        Ok(learner)
    }

    /// Change an agent's policy by feedback, in the background.
    ///
    /// # Errors
    /// As [`Learning::get`]; [`Error::Invalid`] naming the row that doesn't fit.
    pub async fn train(
        &self,
        caller: &Principal,
        learner: Learner,
        feedback: Vec<GivenFeedback>,
        settings: OfflineSettings,
        once: Option<Once>,
    ) -> Result<Done<TrainingRun>> {
        let version = self.version(&learner).await?;
        let rows = feedback.into_iter().enumerate().map(|(at, row)| {
            read(row, &version).map_err(|(member, message)| Error::Invalid {
                path: vec!["feedback".into(), at.to_string(), member.into()],
                message,
            })
        });
        let feedback = rows.collect::<Result<Vec<_>>>()?;
        // Of a few rows there can't be as many parts as usual.
        let settings = OfflineSettings { tasks: settings.tasks.min(feedback.len().max(1)), ..settings };
        let Learner { agent_id, policy, .. } = learner;
        self.runs.teach(caller, Teaching { agent_id, policy, settings, feedback }, once).await
    }

    async fn version(&self, learner: &Learner) -> Result<VersionRecord> {
        self.library.version(&PolicyReference::newest(&learner.policy)).await
    }

    /// How an agent's learning goes.
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

/// The first version of an agent's own policy.
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

/// A row in the policy's own terms, or which member is wrong.
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
