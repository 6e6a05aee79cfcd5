//! A definition as clients send it and as a run stores it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use am_core::crypto;

/// A definition as stored with a run; it never changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkflowDefinition {
    /// Steps by key, in order.
    pub steps: Map<String, Value>,
    /// Dependencies: step key to the keys it depends on.
    #[serde(default)]
    pub dependencies: Map<String, Value>,
    /// Groups of steps with inputs of their own, by which several agents form one run.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub scopes: Map<String, Value>,
}

impl WorkflowDefinition {
    /// Create a definition from the two members of a workflow.
    pub fn new(steps: Map<String, Value>, dependencies: Map<String, Value>) -> Self {
        Self { steps, dependencies, scopes: Map::new() }
    }

    /// Iterate over the dependencies of a step, from both places that can declare them; keys of no step are left out.
    pub fn waits_for(&self, key: &str) -> impl Iterator<Item = &str> {
        let inside = self.steps.get(key).and_then(|step| step.get("depends_on"));
        let lists = [inside, self.dependencies.get(key)].into_iter().flatten();
        lists.filter_map(Value::as_array).flatten().filter_map(Value::as_str)
    }

    /// Return the canonical JSON, with the steps' order stored beside them because canonical JSON sorts members, and
    /// its SHA-256.
    pub(super) fn snapshot(&self) -> (Arc<str>, String) {
        let mut document = Map::new();
        document.insert("order".into(), self.steps.keys().cloned().collect());
        document.insert("steps".into(), Value::Object(self.steps.clone()));
        document.insert("dependencies".into(), Value::Object(self.dependencies.clone()));
        if !self.scopes.is_empty() {
            document.insert("scopes".into(), Value::Object(self.scopes.clone()));
        }
        let bytes = crypto::canonical_audit_json(&Value::Object(document));
        let hash = crypto::sha256_hex(&bytes);
        (String::from_utf8_lossy(&bytes).into(), hash)
    }

    /// Parse a stored snapshot.
    ///
    /// # Errors
    /// When the text is not a snapshot.
    pub fn from_snapshot(body: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Snapshot {
            order: Vec<String>,
            #[serde(flatten)]
            definition: WorkflowDefinition,
        }
        let Snapshot { order, mut definition } = serde_json::from_str(body)?;
        let mut steps = Map::new();
        for key in order {
            if let Some(step) = definition.steps.remove(&key) {
                steps.insert(key, step);
            }
        }
        steps.append(&mut definition.steps);
        definition.steps = steps;
        Ok(definition)
    }
}
