//! Catalogue of policies, with the data needed for serving.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::split::Split;
use crate::{
    builtin,
    model::{ActError, LATEST, PRODUCTION, Pick, PolicyReference},
    network::Form,
};

/// A version of a policy, with the data for loading it and naming its actions.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Reference `name@version` as it appears in answers.
    pub reference: String,
    /// Name of the policy.
    pub name: String,
    /// Version number, from 1.
    pub version: u32,
    /// SHA-256 of its file, which is also the file's name.
    pub sha256: String,
    /// Network's algorithm, dimensions and actions.
    pub form: Form,
    /// Names of the discrete actions.
    pub action_names: Vec<String>,
    /// Names of the numbers of a state; empty when unknown.
    pub state_names: Vec<String>,
}

impl Version {
    /// Check that it takes the same states and has the same actions as `other`, under the same names.
    pub fn speaks_as(&self, other: &Self) -> bool {
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
pub struct Entry {
    /// Versions by number.
    pub versions: BTreeMap<u32, Arc<Version>>,
    /// Version number of each alias.
    pub aliases: BTreeMap<String, u32>,
    /// Split of the calls that name no version.
    pub split: Split,
}

impl Entry {
    fn pick(&self, reference: &PolicyReference) -> Result<&Arc<Version>, ActError> {
        let name = || reference.name.clone();
        let newest = self.versions.last_key_value().map(|(_, version)| version);
        let at = |version: u32| {
            self.versions.get(&version).ok_or_else(|| ActError::UnknownVersion { name: name(), version })
        };
        let newest = || newest.ok_or_else(|| ActError::UnknownPolicy(name()));
        match &reference.pick {
            Pick::Serving => self.aliases.get(PRODUCTION).map_or_else(newest, |version| at(*version)),
            Pick::Version(version) => at(*version),
            Pick::Alias(alias) if alias == LATEST => newest(),
            Pick::Alias(alias) => match self.aliases.get(alias) {
                Some(version) => at(*version),
                None => Err(ActError::UnknownAlias { name: name(), alias: alias.clone() }),
            },
        }
    }
}

/// All policies by name.
#[derive(Debug)]
pub struct Catalogue(HashMap<String, Arc<Entry>>);

impl Catalogue {
    /// Create a catalogue of the built-in policy alone.
    pub fn builtin(form: Form) -> Self {
        let version = Version {
            reference: format!("{}@{}", builtin::BUILTIN_NAME, builtin::BUILTIN_VERSION),
            name: builtin::BUILTIN_NAME.to_owned(),
            version: builtin::BUILTIN_VERSION,
            sha256: builtin::BUILTIN_SHA256.to_owned(),
            form,
            action_names: crate::state::ACTIONS.map(str::to_owned).into(),
            state_names: crate::state::FEATURES.map(str::to_owned).into(),
        };
        let entry = Entry { versions: BTreeMap::from([(version.version, Arc::new(version))]), ..Entry::default() };
        Self(HashMap::from([(builtin::BUILTIN_NAME.to_owned(), Arc::new(entry))]))
    }

    /// Insert or replace a policy.
    pub fn put(&mut self, name: String, entry: Entry) {
        self.0.insert(name, Arc::new(entry));
    }

    /// Return the policy of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Entry>> {
        self.0.get(name)
    }

    /// Return the policy and version that `reference` names.
    pub fn resolve(&self, reference: &PolicyReference) -> Result<(&Arc<Entry>, &Arc<Version>), ActError> {
        let entry = self.0.get(&reference.name).ok_or_else(|| ActError::UnknownPolicy(reference.name.clone()))?;
        Ok((entry, entry.pick(reference)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    #[test]
    fn a_reference_finds_its_version() {
        let form = Network::from_safetensors(builtin::BYTES).unwrap().form().clone();
        let mut catalogue = Catalogue::builtin(form);
        let made = |version: u32| {
            let (_, first) = catalogue.resolve(&"marketplace-ppo".parse().unwrap()).unwrap();
            let reference = format!("p@{version}");
            (version, Arc::new(Version { reference, name: "p".into(), version, ..(**first).clone() }))
        };
        let versions = BTreeMap::from([made(1), made(2), made(3)]);
        let aliases = BTreeMap::from([("blue".to_owned(), 1)]);
        catalogue.put("p".into(), Entry { versions: versions.clone(), aliases, split: Split::default() });
        let found = |catalogue: &Catalogue, text: &str| {
            catalogue.resolve(&text.parse().unwrap()).map(|(_, version)| version.reference.clone())
        };
        for (text, version) in [("p", "p@3"), ("p@2", "p@2"), ("p@latest", "p@3"), ("p@blue", "p@1")] {
            assert_eq!(found(&catalogue, text).unwrap(), version, "{text}");
        }
        let aliases = BTreeMap::from([(PRODUCTION.to_owned(), 2)]);
        catalogue.put("p".into(), Entry { versions, aliases, split: Split::default() });
        assert_eq!(found(&catalogue, "p").unwrap(), "p@2", "what is in production serves");
        assert_eq!(found(&catalogue, "p@4"), Err(ActError::UnknownVersion { name: "p".into(), version: 4 }));
        assert_eq!(found(&catalogue, "p@blue"), Err(ActError::UnknownAlias { name: "p".into(), alias: "blue".into() }));
        assert_eq!(found(&catalogue, "q@1"), Err(ActError::UnknownPolicy("q".into())));
    }
}
