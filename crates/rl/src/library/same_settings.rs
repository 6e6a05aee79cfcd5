//! Versions of a policy that were trained alike, with other seeds.

use serde_json::Value;

use super::{
    PolicyLibrary, VersionRecord,
    model::{NeighbourRow, TRAINED_WITH},
    store,
};
use crate::error::Result;
use am_core::boxed;

/// Version numbers before and after a version among which others are looked for.
pub const NEIGHBOURS: u32 = 200;

/// A version that was trained, with its evaluation at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedVersion {
    /// Reference to the version, `name@version`.
    pub reference: String,
    /// Seed of the training.
    pub seed: u64,
    /// Evaluation made at its end; `None`: there was none.
    pub scores: Option<Value>,
}

/// A member of a training's record as text: what is no text is JSON.
fn text_of(training: &Value, member: &str) -> Option<String> {
    match training.get(member)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Whether two stored texts say the same: as JSON, where both are, whatever the order of members.
fn is_same(one: Option<&str>, other: Option<&str>) -> bool {
    let parsed = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<Value>(text).ok());
    one == other || matches!((parsed(one), parsed(other)), (Some(one), Some(other)) if one == other)
}

impl PolicyLibrary {
    /// The versions of the same policy that were trained in the same environment with the same parameters, algorithm, settings and
    /// steps as `record`, each seed once, the newest version of it; `record` itself is among them, in the place of its seed. Looked for
    /// among [`NEIGHBOURS`] versions before and after it. Empty: `record` was not trained, or without a seed.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn trained_alike(&self, record: &VersionRecord) -> Result<Vec<SeedVersion>> {
        let (Some(seed), Some(training)) = (record.seed, &record.training) else { return Ok(Vec::new()) };
        if record.source != "trained" {
            return Ok(Vec::new());
        }
        let wanted = TRAINED_WITH.map(|member| text_of(training, member));
        let span = (record.version.saturating_sub(NEIGHBOURS), record.version.saturating_add(NEIGHBOURS));
        let rows = store::neighbours(&mut *self.0.db.read().await?, &record.name, span).await?;
        let alike = |row: &NeighbourRow| {
            row.environment == record.environment
                && row.trained_with.iter().zip(&wanted).all(|(one, other)| is_same(one.as_deref(), other.as_deref()))
        };
        let mut found = vec![SeedVersion { reference: record.reference.clone(), seed, scores: record.scores.clone() }];
        // The newest first.
        for row in rows.into_iter().rev().filter(alike) {
            if let Some(seed) = row.seed.filter(|seed| found.iter().all(|known| known.seed != *seed)) {
                let reference = format!("{}@{}", record.name, row.version);
                found.push(SeedVersion { reference, seed, scores: row.scores });
            }
        }
        found.sort_by_key(|version| version.seed);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_compared_by_what_they_say() {
        assert!(is_same(Some(r#"{"a":1,"b":[2]}"#), Some(r#"{"b": [2], "a": 1}"#)));
        assert!(!is_same(Some(r#"{"a":1}"#), Some(r#"{"a":2}"#)));
        assert!(is_same(Some("ppo"), Some("ppo")) && !is_same(Some("ppo"), Some("a2c")));
        assert!(is_same(None, None) && !is_same(None, Some("null")));
        let training = json!({"algorithm": "ppo", "parameters": null, "settings": {"hidden": [8]}, "steps": 64});
        let texts = TRAINED_WITH.map(|member| text_of(&training, member));
        assert_eq!(texts.map(Option::unwrap_or_default), ["", "ppo", r#"{"hidden":[8]}"#, "64"]);
    }
}
