//! Catalogue of policies, with the data needed for serving.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::traffic_split::TrafficSplit;
use crate::{
    builtin,
    model::{ActError, LATEST_ALIAS, PRODUCTION_ALIAS, PolicyReference, VersionSelector},
    network::PolicySpec,
};

/// A version of a policy, with the data for loading it and naming its actions.
#[derive(Debug, Clone, PartialEq)]
pub struct ServedVersion {
    /// Reference `name@version` as it appears in answers.
    pub reference: String,
    /// Name of the policy.
    pub name: String,
    /// Version number, from 1.
    pub version: u32,
    /// SHA-256 of its file, which is also the file's name.
    pub sha256: String,
    /// Network's algorithm, dimensions and actions.
    pub form: PolicySpec,
    /// Names of the discrete actions.
    pub action_names: Vec<String>,
    /// Names of the numbers of a state; empty when unknown.
    pub state_names: Vec<String>,
}

impl ServedVersion {
    /// Check that it takes the same states and has the same actions as `other`, under the same names.
    pub fn has_same_interface(&self, other: &Self) -> bool {
        let terms = |one: &Self| (one.form.state_length, one.state_names.clone(), one.action_names.clone());
        terms(self) == terms(other)
    }

    /// Return the name of action `index`.
    pub fn action_name(&self, index: usize) -> String {
        self.action_names.get(index).cloned().unwrap_or_else(|| format!("action_{index}"))
    }
}

/// A policy with its versions.
#[derive(Debug, Clone, Default)]
pub struct ServedPolicy {
    /// Versions by number.
    pub versions: BTreeMap<u32, Arc<ServedVersion>>,
    /// Version number of each alias.
    pub aliases: BTreeMap<String, u32>,
    /// Split of the calls that name no version.
    pub split: TrafficSplit,
}

impl ServedPolicy {
    /// Return the number of the version that answers calls without a version; `None`: there is none.
    pub fn serving_version(&self) -> Option<u32> {
        let newest = || self.versions.last_key_value().map(|(number, _)| *number);
        self.aliases.get(PRODUCTION_ALIAS).copied().or_else(newest)
    }

    fn pick(&self, reference: &PolicyReference) -> Result<&Arc<ServedVersion>, ActError> {
        let name = || reference.name.clone();
        let newest = self.versions.last_key_value().map(|(_, version)| version);
        let at = |version: u32| {
            self.versions.get(&version).ok_or_else(|| ActError::UnknownVersion { name: name(), version })
        };
        let newest = || newest.ok_or_else(|| ActError::UnknownPolicy(name()));
        match &reference.pick {
            VersionSelector::Serving => self.aliases.get(PRODUCTION_ALIAS).map_or_else(newest, |version| at(*version)),
            VersionSelector::Version(version) => at(*version),
            VersionSelector::Alias(alias) if alias == LATEST_ALIAS => newest(),
            VersionSelector::Alias(alias) => match self.aliases.get(alias) {
                Some(version) => at(*version),
                None => Err(ActError::UnknownAlias { name: name(), alias: alias.clone() }),
            },
        }
    }
}

/// All policies by name.
#[derive(Debug)]
pub struct PolicyCatalog(HashMap<String, Arc<ServedPolicy>>);

impl PolicyCatalog {
    /// Create a catalogue of the built-in policy alone.
    pub fn builtin(form: PolicySpec) -> Self {
        let version = ServedVersion {
            reference: format!("{}@{}", builtin::BUILTIN_NAME, builtin::BUILTIN_VERSION),
            name: builtin::BUILTIN_NAME.to_owned(),
            version: builtin::BUILTIN_VERSION,
            sha256: builtin::BUILTIN_SHA256.to_owned(),
            form,
            action_names: crate::marketplace_state::ACTION_NAMES.map(str::to_owned).into(),
            state_names: crate::marketplace_state::FEATURE_NAMES.map(str::to_owned).into(),
        };
        let entry = ServedPolicy {
            versions: BTreeMap::from([(version.version, Arc::new(version))]),
            ..ServedPolicy::default()
        };
        Self(HashMap::from([(builtin::BUILTIN_NAME.to_owned(), Arc::new(entry))]))
    }

    /// Insert or replace a policy.
    pub fn put(&mut self, name: String, entry: ServedPolicy) {
        self.0.insert(name, Arc::new(entry));
    }

    /// Return the policy of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<ServedPolicy>> {
        self.0.get(name)
    }

    /// Return the policy and version that `reference` names.
    pub fn resolve(&self, reference: &PolicyReference) -> Result<(&Arc<ServedPolicy>, &Arc<ServedVersion>), ActError> {
        let entry = self.0.get(&reference.name).ok_or_else(|| ActError::UnknownPolicy(reference.name.clone()))?;
        Ok((entry, entry.pick(reference)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::PolicyNetwork;

    #[test]
    fn a_reference_finds_its_version() {
        let form = PolicyNetwork::from_safetensors(builtin::BUILTIN_BYTES).unwrap().form().clone();
        let mut catalogue = PolicyCatalog::builtin(form);
        let made = |version: u32| {
            let (_, first) = catalogue.resolve(&"marketplace-ppo".parse().unwrap()).unwrap();
            let reference = format!("p@{version}");
            (version, Arc::new(ServedVersion { reference, name: "p".into(), version, ..(**first).clone() }))
        };
        let versions = BTreeMap::from([made(1), made(2), made(3)]);
        let aliases = BTreeMap::from([("blue".to_owned(), 1)]);
        catalogue.put("p".into(), ServedPolicy { versions: versions.clone(), aliases, split: TrafficSplit::default() });
        let found = |catalogue: &PolicyCatalog, text: &str| {
            catalogue.resolve(&text.parse().unwrap()).map(|(_, version)| version.reference.clone())
        };
        for (text, version) in [("p", "p@3"), ("p@2", "p@2"), ("p@latest", "p@3"), ("p@blue", "p@1")] {
            assert_eq!(found(&catalogue, text).unwrap(), version, "{text}");
        }
        let aliases = BTreeMap::from([(PRODUCTION_ALIAS.to_owned(), 2)]);
        catalogue.put("p".into(), ServedPolicy { versions, aliases, split: TrafficSplit::default() });
        assert_eq!(found(&catalogue, "p").unwrap(), "p@2", "what is in production serves");
        assert_eq!(found(&catalogue, "p@4"), Err(ActError::UnknownVersion { name: "p".into(), version: 4 }));
        assert_eq!(found(&catalogue, "p@blue"), Err(ActError::UnknownAlias { name: "p".into(), alias: "blue".into() }));
        assert_eq!(found(&catalogue, "q@1"), Err(ActError::UnknownPolicy("q".into())));
    }
}
