//! What a workflow is, and what clients send to make or change one.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    definition::Definition,
    error::{Error, Result, unreadable},
    guard::Terms,
    model::{Fault, VerificationLevel},
};
use am_core::crypto;
use am_db::{
    codec::{Doc, Timestamp},
    owner,
    page::Page,
    principal::Principal,
};

/// A row of `ai_agent_workflows`, in the shape that clients see.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Workflow {
    /// `agent_` and 8 hex digits.
    pub id: String,
    /// As stored: a principal, or the key itself in a row of the coordinator; shown as a principal.
    #[serde(serialize_with = "owner::shown")]
    pub owner_id: String,
    /// At most 100 characters.
    pub name: String,
    /// For people.
    pub description: String,
    /// Step key to step.
    pub steps: Doc,
    /// Step key to the keys it waits for.
    pub dependencies: Doc,
    /// Seconds a run may take; 0: no limit.
    pub max_execution_time: i64,
    /// What a run may cost; 0: no limit.
    pub max_cost_budget: f64,
    /// Is a run's verification part of its result?
    pub requires_verification: bool,
    /// How thoroughly results are checked.
    pub verification_level: VerificationLevel,
    /// A JSON list as text, or empty: the form that clients of the monolith know.
    pub tags: String,
    /// The definition's version.
    pub version: String,
    /// May everybody read and run it?
    pub is_public: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// The version of a workflow, from its JSON as it is sent.
pub fn etag_of(json: &[u8]) -> String {
    hex::encode(&Sha256::digest(json)[..12])
}

impl Workflow {
    /// The version of this state.
    pub fn etag(&self) -> String {
        // A workflow always has a JSON form: its members are text, numbers and JSON.
        etag_of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Its definition.
    ///
    /// # Errors
    /// When the coordinator stored something else than two objects.
    pub fn definition(&self) -> Result<Definition> {
        let members = |doc: &Doc, what| doc.parse::<Map<String, Value>>().map_err(|error| unreadable(what, error));
        let steps = members(&self.steps, "ai_agent_workflows.steps")?.unwrap_or_default();
        let dependencies = members(&self.dependencies, "ai_agent_workflows.dependencies")?.unwrap_or_default();
        Ok(Definition::new(steps, dependencies))
    }

    /// Has `other` the same steps and dependencies, to the letter?
    pub(super) fn is_defined_as(&self, other: &Self) -> bool {
        let text = |doc: &Doc| doc.get().map(|raw| raw.get().to_owned());
        text(&self.steps) == text(&other.steps) && text(&self.dependencies) == text(&other.dependencies)
    }

    /// What a policy judges it by, beside its steps.
    pub fn terms(&self) -> Terms {
        Terms {
            security: self.verification_level.security_level(self.requires_verification),
            level: self.verification_level,
            requires_verification: self.requires_verification,
            max_execution_time: self.max_execution_time,
        }
    }

    /// What the audit log keeps of it: settings, and the hash of the definition in place of the definition.
    pub(super) fn state(&self) -> Value {
        let text = |doc: &Doc| doc.get().map_or("", |raw| raw.get()).to_owned();
        let definition = format!("{}\n{}", text(&self.steps), text(&self.dependencies));
        json!({
            "name": self.name,
            "definition_sha256": crypto::sha256_hex(definition.as_bytes()),
            "max_execution_time": self.max_execution_time,
            "max_cost_budget": self.max_cost_budget,
            "requires_verification": self.requires_verification,
            "verification_level": self.verification_level,
            "is_public": self.is_public,
            "tags": self.tags,
        })
    }

    /// Tells definitions apart without parsing them.
    pub(super) fn definition_key(&self) -> [u8; 32] {
        let text = |doc: &Doc| doc.get().map_or("", |raw| raw.get()).to_owned();
        let hash = Sha256::new().chain_update(&self.id).chain_update([0]).chain_update(self.updated_at.stored());
        hash.chain_update(text(&self.steps)).chain_update([0]).chain_update(text(&self.dependencies)).finalize().into()
    }
}

/// What clients send to make a workflow.
#[derive(Clone, Debug)]
pub struct Draft {
    /// 1 to 100 characters.
    pub name: String,
    /// For people.
    pub description: String,
    /// Step key to step.
    pub steps: Map<String, Value>,
    /// Step key to the keys it waits for.
    pub dependencies: Map<String, Value>,
    /// Seconds a run may take; 0: no limit.
    pub max_execution_time: i64,
    /// What a run may cost; 0: no limit.
    pub max_cost_budget: f64,
    /// Is a run's verification part of its result?
    pub requires_verification: bool,
    /// How thoroughly results are checked.
    pub verification_level: VerificationLevel,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// May everybody read and run it?
    pub is_public: bool,
}

fn check_name(name: &str) -> Option<Fault> {
    let length = name.chars().count();
    (!(1..=100).contains(&length)).then(|| Fault::new(["name"], "must have 1 to 100 characters"))
}

/// The faults in the two limits of a run.
pub fn check_limits(seconds: i64, budget: f64) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !(0..=31_536_000).contains(&seconds) {
        faults.push(Fault::new(["max_execution_time"], "must be 0 (no limit) to 31536000 seconds"));
    }
    if !(budget.is_finite() && budget >= 0.0) {
        faults.push(Fault::new(["max_cost_budget"], "must be a number from 0 (no limit)"));
    }
    faults
}

impl Draft {
    pub(super) fn check(&self) -> std::result::Result<(), Vec<Fault>> {
        let faults: Vec<Fault> = check_name(&self.name)
            .into_iter()
            .chain(check_limits(self.max_execution_time, self.max_cost_budget))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The row; its id is given when it is stored.
    pub(super) fn into_workflow(self, owner: &Principal, now: Timestamp) -> Result<Workflow> {
        let doc = |members: Map<String, Value>| Doc::of(&members).map_err(|error| unreadable("steps", error));
        Ok(Workflow {
            id: String::new(),
            owner_id: owner.name.to_string(),
            name: self.name,
            description: self.description,
            steps: doc(self.steps)?,
            dependencies: doc(self.dependencies)?,
            max_execution_time: self.max_execution_time,
            max_cost_budget: self.max_cost_budget,
            requires_verification: self.requires_verification,
            verification_level: self.verification_level,
            tags: stored_tags(&self.tags),
            version: "1.0.0".into(),
            is_public: self.is_public,
            created_at: now,
            updated_at: now,
        })
    }
}

fn stored_tags(tags: &[String]) -> String {
    if tags.is_empty() { String::new() } else { Value::from(tags).to_string() }
}

/// What clients send to change a workflow; what is left out stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// As in [`Draft`], and so are the others.
    pub name: Option<String>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub description: Option<String>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub steps: Option<Map<String, Value>>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub dependencies: Option<Map<String, Value>>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub max_execution_time: Option<i64>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub max_cost_budget: Option<f64>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub requires_verification: Option<bool>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub verification_level: Option<VerificationLevel>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub tags: Option<Vec<String>>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub is_public: Option<bool>,
}

impl Change {
    /// Change `workflow`. True: its definition is another.
    pub(super) fn apply(self, workflow: &mut Workflow) -> std::result::Result<bool, Vec<Fault>> {
        let redefined = self.steps.is_some() || self.dependencies.is_some();
        let doc = |members: &Map<String, Value>| {
            Doc::of(members).map_err(|error| vec![Fault::new(["steps"], error.to_string())])
        };
        if let Some(steps) = self.steps {
            workflow.steps = doc(&steps)?;
        }
        if let Some(dependencies) = self.dependencies {
            workflow.dependencies = doc(&dependencies)?;
        }
        if let Some(tags) = self.tags {
            workflow.tags = stored_tags(&tags);
        }
        let set = |slot: &mut String, value: Option<String>| value.into_iter().for_each(|value| *slot = value);
        set(&mut workflow.name, self.name);
        set(&mut workflow.description, self.description);
        workflow.max_execution_time = self.max_execution_time.unwrap_or(workflow.max_execution_time);
        workflow.max_cost_budget = self.max_cost_budget.unwrap_or(workflow.max_cost_budget);
        workflow.requires_verification = self.requires_verification.unwrap_or(workflow.requires_verification);
        workflow.verification_level = self.verification_level.unwrap_or(workflow.verification_level);
        workflow.is_public = self.is_public.unwrap_or(workflow.is_public);
        let faults: Vec<Fault> = check_name(&workflow.name)
            .into_iter()
            .chain(check_limits(workflow.max_execution_time, workflow.max_cost_budget))
            .collect();
        if faults.is_empty() { Ok(redefined) } else { Err(faults) }
    }
}

/// Which workflows to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this owner's, in any of its stored forms.
    pub owner: Option<Vec<String>>,
    /// Only public, or only private ones.
    pub is_public: Option<bool>,
    /// Only those with all of these tags.
    pub tags: Vec<String>,
    /// Which of them.
    pub page: Page,
}

impl Filter {
    /// The JSON texts of each tag, one of which a stored list holds if it holds the tag: this service's, and Python's,
    /// which escapes what is not ASCII.
    pub(super) fn needles(&self) -> impl Iterator<Item = [String; 2]> {
        self.tags.iter().map(|tag| {
            let tag = Value::from(tag.as_str());
            [tag.to_string(), String::from_utf8_lossy(&crypto::canonical(&tag)).into_owned()]
        })
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        unreadable("JSON", error)
    }
}
