//! What an agent says of itself in the directory. The service shows it and searches it, and acts on none of it.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

use am_core::validation::{Violations, has_length};

/// Number of entries of a list or a map.
const MAX_ENTRIES: usize = 100;
/// Characters of a word: a capability, a service, a tag, the name of an endpoint or of a load.
const WORD_LENGTH: RangeInclusive<usize> = 1..=128;
/// Characters of an address, of the version, and of the names of a chain and an island.
const TEXT_LENGTH: RangeInclusive<usize> = 0..=2048;
/// Version of an agent that states none.
const DEFAULT_VERSION: &str = "1.0.0";

am_db::stored_enum! {
    /// State that an agent reports of itself, beside being there or not.
    pub enum ReportedState {
        /// It works, and takes more only if it has to.
        Busy = "BUSY" / "busy",
        /// It is being worked on.
        Maintenance = "MAINTENANCE" / "maintenance",
        /// It can't work.
        Error = "ERROR" / "error",
    }
}

/// What an agent says of itself in the directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentProfile {
    /// Capabilities that are no types of tasks, in words of the agent's own.
    pub words: Vec<String>,
    /// Services that it offers.
    pub services: Vec<String>,
    /// Addresses by name. The service does not call them.
    pub endpoints: BTreeMap<String, String>,
    /// Version of the agent.
    pub version: String,
    /// Tags to find it by.
    pub tags: Vec<String>,
    /// Chain that it works on; empty: none.
    pub chain_id: String,
    /// Island that it is on; empty: none.
    pub island_id: String,
    /// State that it reported last; null: none but being there or not.
    pub state: Option<ReportedState>,
    /// Loads that it reported, by name.
    pub load_metrics: BTreeMap<String, f64>,
}

impl Default for AgentProfile {
    fn default() -> Self {
        Self {
            words: Vec::new(),
            services: Vec::new(),
            endpoints: BTreeMap::new(),
            version: DEFAULT_VERSION.to_owned(),
            tags: Vec::new(),
            chain_id: String::new(),
            island_id: String::new(),
            state: None,
            load_metrics: BTreeMap::new(),
        }
    }
}

impl AgentProfile {
    /// What is wrong with it.
    pub(super) fn violations(&self) -> Violations {
        let mut violations = Violations::default();
        for (member, words) in [("capabilities", &self.words), ("services", &self.services), ("tags", &self.tags)] {
            let good = words.len() <= MAX_ENTRIES && words.iter().all(|word| is_word(word));
            violations.require(good, member, "must be at most 100 words of 1 to 128 characters");
        }
        let good = self.endpoints.len() <= MAX_ENTRIES
            && self.endpoints.iter().all(|(name, address)| is_word(name) && is_text(address));
        violations.require(good, "endpoints", "must be at most 100 addresses of at most 2048 characters, by name");
        let texts = [("version", &self.version), ("chain_id", &self.chain_id), ("island_id", &self.island_id)];
        for (member, text) in texts {
            violations.require(is_text(text), member, "must have at most 2048 characters, without control characters");
        }
        violations.require(are_loads(&self.load_metrics), "load_metrics", LOADS_MESSAGE);
        violations
    }
}

/// What is said of loads that are none.
pub(crate) const LOADS_MESSAGE: &str = "must be at most 100 numbers by name";

/// Whether these are loads by name.
pub(crate) fn are_loads(loads: &BTreeMap<String, f64>) -> bool {
    loads.len() <= MAX_ENTRIES && loads.iter().all(|(name, load)| is_word(name) && load.is_finite())
}

/// The mean of loads that are shares; `None` when there is none, or one is no share.
pub(crate) fn mean_load(loads: &BTreeMap<String, f64>) -> Option<f64> {
    let shares = !loads.is_empty() && loads.values().all(|load| (0.0..=1.0).contains(load));
    shares.then(|| loads.values().sum::<f64>() / loads.len() as f64)
}

fn is_word(text: &str) -> bool {
    has_length(text, &WORD_LENGTH) && !text.chars().any(char::is_control)
}

fn is_text(text: &str) -> bool {
    has_length(text, &TEXT_LENGTH) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn profile_has_bounds() {
        assert!(AgentProfile::default().violations().finish().is_ok());
        let long = |count: usize| vec!["w".to_owned(); count];
        for bad in [
            AgentProfile { words: vec![String::new()], ..AgentProfile::default() },
            AgentProfile { services: long(101), ..AgentProfile::default() },
            AgentProfile { tags: vec!["a\n".into()], ..AgentProfile::default() },
            AgentProfile { endpoints: [("http".into(), "x".repeat(2049))].into(), ..AgentProfile::default() },
            AgentProfile { chain_id: "\0".into(), ..AgentProfile::default() },
            AgentProfile { load_metrics: [("cpu".into(), f64::NAN)].into(), ..AgentProfile::default() },
        ] {
            assert_eq!(bad.violations().finish().unwrap_err().len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn stored_profile_of_another_version_is_read() {
        let profile: AgentProfile = serde_json::from_value(json!({"words": ["gpu"], "later": 1})).unwrap();
        assert_eq!((profile.words, profile.version.as_str()), (vec!["gpu".to_owned()], "1.0.0"));
    }

    #[test]
    fn mean_is_of_shares_only() {
        assert_eq!(mean_load(&[("cpu".into(), 0.5), ("gpu".into(), 1.0)].into()), Some(0.75));
        assert_eq!(mean_load(&[("cpu".into(), 55.0)].into()), None);
        assert_eq!(mean_load(&BTreeMap::new()), None);
    }
}
