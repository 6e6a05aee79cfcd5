//! Types of workflows, as stored and as sent by clients.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    definition::WorkflowDefinition,
    error::{OrchestrationError, Result, corrupt_json_error},
    guard::ExecutionConstraints,
    model::VerificationLevel,
};
use am_core::{
    crypto,
    ids::{PrincipalId, WorkflowId},
    money::Money,
    validation::{Violation, Violations, has_length},
};
use am_db::{
    codec::{JsonText, Timestamp},
    owner,
    page::PageRequest,
    principal::Principal,
};

/// A workflow: a row of `ai_agent_workflows`, in the form shown to clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Workflow {
    /// Id: `agent_` and 8 hex digits.
    pub id: WorkflowId,
    /// Owner as stored: a principal, or the key itself in a row of the coordinator; shown as a principal.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// Name, at most 100 characters.
    pub name: String,
    /// Description for people.
    pub description: String,
    /// Steps by key.
    pub steps: JsonText,
    /// Dependencies: step key to the keys it depends on.
    pub dependencies: JsonText,
    /// Time limit of an execution in seconds; 0: no limit.
    pub max_execution_time: i64,
    /// Cost limit of an execution; 0: no limit.
    pub max_cost_budget: Money,
    /// Whether the result of an execution includes its verification.
    pub requires_verification: bool,
    /// Verification level of results.
    pub verification_level: VerificationLevel,
    /// JSON list as a string, or empty: the form that the monolith's clients expect.
    pub tags: String,
    /// Version of the definition.
    pub version: String,
    /// Whether everybody may read and run it.
    pub is_public: bool,
    /// Time when it was made.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// Return the ETag of a workflow, from its JSON as sent.
pub fn etag_of(json: &[u8]) -> String {
    hex::encode(&Sha256::digest(json)[..12])
}

impl Workflow {
    /// Return the ETag of the present state.
    pub fn etag(&self) -> String {
        // A workflow always has a JSON form: its members are strings, numbers and JSON.
        etag_of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Return the definition.
    ///
    /// # Errors
    /// When the coordinator stored something other than two objects.
    pub fn definition(&self) -> Result<WorkflowDefinition> {
        let members =
            |doc: &JsonText, what| doc.parse::<Map<String, Value>>().map_err(|error| corrupt_json_error(what, error));
        let steps = members(&self.steps, "ai_agent_workflows.steps")?.unwrap_or_default();
        let dependencies = members(&self.dependencies, "ai_agent_workflows.dependencies")?.unwrap_or_default();
        Ok(WorkflowDefinition::new(steps, dependencies))
    }

    /// Return whether `other` has exactly the same steps and dependencies.
    pub(super) fn has_same_definition(&self, other: &Self) -> bool {
        let text = |doc: &JsonText| doc.get().map(|raw| raw.get().to_owned());
        text(&self.steps) == text(&other.steps) && text(&self.dependencies) == text(&other.dependencies)
    }

    /// Return the properties that policies judge, apart from the steps.
    pub fn terms(&self) -> ExecutionConstraints {
        ExecutionConstraints {
            security: self.verification_level.security_level(self.requires_verification),
            level: self.verification_level,
            requires_verification: self.requires_verification,
            max_execution_time: self.max_execution_time,
            max_cost_budget: self.max_cost_budget,
        }
    }

    /// Return the state recorded in the audit log: the settings, and the hash of the definition.
    pub(super) fn state(&self) -> Value {
        let text = |doc: &JsonText| doc.get().map_or("", |raw| raw.get()).to_owned();
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

    /// Return a key that distinguishes definitions without parsing them.
    pub(super) fn definition_key(&self) -> [u8; 32] {
        let text = |doc: &JsonText| doc.get().map_or("", |raw| raw.get()).to_owned();
        let hash =
            Sha256::new().chain_update(self.id.as_str()).chain_update([0]).chain_update(self.updated_at.stored());
        hash.chain_update(text(&self.steps)).chain_update([0]).chain_update(text(&self.dependencies)).finalize().into()
    }
}

/// Request for making a workflow.
#[derive(Clone, Debug)]
pub struct WorkflowDraft {
    /// Name, 1 to 100 characters.
    pub name: String,
    /// Description for people.
    pub description: String,
    /// Steps by key.
    pub steps: Map<String, Value>,
    /// Dependencies: step key to the keys it depends on.
    pub dependencies: Map<String, Value>,
    /// Time limit of an execution in seconds; 0: no limit.
    pub max_execution_time: i64,
    /// Cost limit of an execution; 0: no limit.
    pub max_cost_budget: Money,
    /// Whether the result of an execution includes its verification.
    pub requires_verification: bool,
    /// Verification level of results.
    pub verification_level: VerificationLevel,
    /// Tags for finding it.
    pub tags: Vec<String>,
    /// Whether everybody may read and run it.
    pub is_public: bool,
}

/// Characters of a workflow's name.
pub const NAME_LENGTH: RangeInclusive<usize> = 1..=100;
/// Seconds that a run may take; 0: no limit. The longest is a year.
const EXECUTION_SECONDS: RangeInclusive<i64> = 0..=31_536_000;

fn check_fields(name: &str, seconds: i64, budget: Money) -> Violations {
    let mut violations = Violations::default();
    violations.require(has_length(name, &NAME_LENGTH), "name", "must have 1 to 100 characters");
    violations.extend(Vec::from(check_limits(seconds, budget)));
    violations
}

/// The violations in the two limits of a run: its seconds and its budget.
pub fn check_limits(seconds: i64, budget: Money) -> Violations {
    let mut violations = Violations::default();
    let message = "must be 0 (no limit) to 31536000 seconds";
    violations.require(EXECUTION_SECONDS.contains(&seconds), "max_execution_time", message);
    violations.require(budget >= Money::ZERO, "max_cost_budget", "must be a number from 0 (no limit)");
    violations
}

impl WorkflowDraft {
    pub(super) fn check(&self) -> std::result::Result<(), Vec<Violation>> {
        check_fields(&self.name, self.max_execution_time, self.max_cost_budget).finish()
    }

    /// Build the row; its id is assigned when it is stored.
    pub(super) fn into_workflow(self, owner: &Principal, now: Timestamp) -> Result<Workflow> {
        let doc = |members: Map<String, Value>| {
            JsonText::from_value(&members).map_err(|error| corrupt_json_error("steps", error))
        };
        Ok(Workflow {
            id: WorkflowId::default(),
            owner_id: owner.id(),
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

/// Changes to a workflow; members left out stay unchanged.
#[derive(Clone, Debug, Default)]
pub struct WorkflowChange {
    /// Name; this and the other members are as in [`WorkflowDraft`].
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
    pub max_cost_budget: Option<Money>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub requires_verification: Option<bool>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub verification_level: Option<VerificationLevel>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub tags: Option<Vec<String>>,
    #[expect(missing_docs, reason = "as in Draft")]
    pub is_public: Option<bool>,
}

impl WorkflowChange {
    /// Apply the changes to `workflow`. Returns whether its definition has changed.
    pub(super) fn apply(self, workflow: &mut Workflow) -> std::result::Result<bool, Vec<Violation>> {
        let redefined = self.steps.is_some() || self.dependencies.is_some();
        let doc = |members: &Map<String, Value>| {
            JsonText::from_value(members).map_err(|error| vec![Violation::new(["steps"], error.to_string())])
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
        check_fields(&workflow.name, workflow.max_execution_time, workflow.max_cost_budget).finish_with(Some(redefined))
    }
}

/// Filter for listing workflows.
#[derive(Clone, Debug, Default)]
pub struct WorkflowFilter {
    /// Restricts the list to this owner, in any of its stored forms.
    pub owner: Option<Vec<String>>,
    /// Restricts the list to public, or to private workflows.
    pub is_public: Option<bool>,
    /// Restricts the list to workflows with all of these tags.
    pub tags: Vec<String>,
    /// Page to return.
    pub page: PageRequest,
}

impl WorkflowFilter {
    /// Return the JSON forms of each tag, one of which occurs in a stored list that contains the tag: this service's,
    /// and Python's, which escapes non-ASCII characters.
    pub(super) fn tag_patterns(&self) -> impl Iterator<Item = [String; 2]> {
        self.tags.iter().map(|tag| {
            let tag = Value::from(tag.as_str());
            [tag.to_string(), String::from_utf8_lossy(&crypto::canonical_receipt_json(&tag)).into_owned()]
        })
    }
}

impl From<serde_json::Error> for OrchestrationError {
    fn from(error: serde_json::Error) -> Self {
        corrupt_json_error("JSON", error)
    }
}
