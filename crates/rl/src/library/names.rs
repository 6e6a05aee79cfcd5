//! Names of versions, actions and state features.

use std::collections::BTreeSet;

use super::model::Upload;
use crate::{
    environments::{ActionSpace, environment},
    error::Error,
    model::{LATEST, is_alias},
    network::{Actions, Form},
    state::{ACTIONS, FEATURES},
};
use am_core::validation::{Violation, Violations};

/// Maximum length of an action's or feature's name, in characters.
const LONGEST_NAME: usize = 100;

/// Determine the names of actions and state features: those sent, else the environment's, else the marketplace's if the
/// network has its dimensions.
pub(super) fn names(upload: &Upload, form: &Form) -> Result<(Vec<String>, Vec<String>), Error> {
    let described = match &upload.environment {
        Some(name) => {
            let found = environment(name, None).map_err(|error| Error::invalid("environment", error.to_string()))?;
            Some(found.description().clone())
        }
        None => None,
    };
    let actions = match &form.actions {
        Actions::Discrete { count } | Actions::Scores { count } => *count,
        Actions::Continuous { .. } => 0,
    };
    let environments_actions = described.as_ref().and_then(|described| match &described.actions {
        ActionSpace::Discrete { names } => Some(names.clone()),
        ActionSpace::Continuous { .. } => None,
    });
    if let Some(described) = &described
        && described.observations.len() != form.state_length
    {
        let message = format!(
            "'{}' has states of {} numbers, the network takes {}",
            described.name,
            described.observations.len(),
            form.state_length
        );
        return Err(Error::invalid("environment", message));
    }
    let fit = |list: &[&str], length: usize| {
        (list.len() == length).then(|| list.iter().map(|name| (*name).to_owned()).collect())
    };
    let action_names = upload.action_names.clone().or(environments_actions).or_else(|| fit(&ACTIONS, actions));
    let state_names = upload
        .state_names
        .clone()
        .or(described.map(|described| described.observations))
        .or_else(|| fit(&FEATURES, form.state_length));
    let action_names = action_names.unwrap_or_else(|| (0..actions).map(|index| format!("action_{index}")).collect());
    let mut violations = Violations::default();
    violations.take(check_names("action_names", &action_names, actions));
    let state_names = state_names.unwrap_or_default();
    if !state_names.is_empty() {
        violations.take(check_names("state_names", &state_names, form.state_length));
    }
    Ok(violations.finish_with(Some((action_names, state_names)))?)
}

fn check_names(member: &str, names: &[String], needed: usize) -> Result<(), Violation> {
    if names.len() != needed {
        return Err(Violation::new(member, format!("{needed} names are needed, these are {}", names.len())));
    }
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| name.is_empty() || name.len() > LONGEST_NAME || !seen.insert(*name)) {
        Some(bad) => Err(Violation::new(member, format!("{bad:?}: names are different, of 1 to {LONGEST_NAME} bytes"))),
        None => Ok(()),
    }
}

/// Check that the texts, sent as the member `member`, are valid names of movable aliases.
pub(crate) fn check_aliases(member: &str, aliases: &[String]) -> Result<(), Violation> {
    match aliases.iter().find(|alias| !is_alias(alias) || *alias == LATEST) {
        Some(bad) if bad == LATEST => Err(Violation::new(member, "'latest' is always the newest version")),
        Some(bad) => Err(Violation::new(
            member,
            format!("'{bad}' is not an alias: 1 to 64 of a-z, 0-9, '_', '.', '-', beginning with a letter"),
        )),
        None => Ok(()),
    }
}
