//! Which policies there are, as far as serving needs to know.

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

/// One version of a policy: what it takes to load it and to name what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// `name@version`: what it is called in answers, written once.
    pub reference: String,
    /// The policy's name.
    pub name: String,
    /// Its number, from 1.
    pub version: u32,
    /// The SHA-256 of its file, which is named by it.
    pub sha256: String,
    /// What its network is.
    pub form: Form,
    /// What its discrete actions are called.
    pub action_names: Vec<String>,
    /// What the numbers of a state are called; empty: nothing is said.
    pub state_names: Vec<String>,
}

impl Version {
    /// Whether it takes the same states and answers the same actions as `other`, by the same names.
    pub fn speaks_as(&self, other: &Self) -> bool {
        let terms = |one: &Self| (one.form.state_length, one.state_names.clone(), one.action_names.clone());
        terms(self) == terms(other)
    }

    /// What action `index` is called.
    pub fn action_name(&self, index: usize) -> String {
        self.action_names.get(index).cloned().unwrap_or_else(|| format!("action_{index}"))
    }
}

/// A policy with its versions.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// By their numbers.
    pub versions: BTreeMap<u32, Arc<Version>>,
    /// Where each alias points.
    pub aliases: BTreeMap<String, u32>,
    /// Which calls go elsewhere as well.
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

/// Every policy by its name.
#[derive(Debug)]
pub struct Catalogue(HashMap<String, Arc<Entry>>);

impl Catalogue {
    /// The built-in policy alone.
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

    /// Take in a policy as it is now.
    pub fn put(&mut self, name: String, entry: Entry) {
        self.0.insert(name, Arc::new(entry));
    }

    /// The policy of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Entry>> {
        self.0.get(name)
    }

    /// The policy that `reference` names, and which of its versions.
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
