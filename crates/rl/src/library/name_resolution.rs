//! Names of versions, actions and state features.

use std::collections::BTreeSet;

use super::model::WeightsUpload;
use crate::{
    environments::{ActionSpace, make_environment},
    error::RlError,
    marketplace_state::{ACTION_NAMES, FEATURE_NAMES},
    model::{LATEST_ALIAS, is_alias},
    network::{PolicyActions, PolicySpec},
};
use am_core::validation::{Violation, Violations};

/// Maximum length of an action's or feature's name, in characters.
const MAX_NAME_LEN: usize = 100;

/// Determine the names of actions and state features: those sent, else the environment's, else the marketplace's if the
/// network has its dimensions.
pub(super) fn resolve_names(upload: &WeightsUpload, form: &PolicySpec) -> Result<(Vec<String>, Vec<String>), RlError> {
    let described = match &upload.environment {
        Some(name) => {
            let found =
                make_environment(name, None).map_err(|error| RlError::invalid("environment", error.to_string()))?;
            Some(found.description().clone())
        }
        None => None,
    };
    let actions = match &form.actions {
        PolicyActions::Discrete { count } | PolicyActions::Scores { count } => *count,
        PolicyActions::Continuous { .. } => 0,
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
        return Err(RlError::invalid("environment", message));
    }
    let fit = |list: &[&str], length: usize| {
        (list.len() == length).then(|| list.iter().map(|name| (*name).to_owned()).collect())
    };
    let action_names = upload.action_names.clone().or(environments_actions).or_else(|| fit(&ACTION_NAMES, actions));
    let state_names = upload
        .state_names
        .clone()
        .or(described.map(|described| described.observations))
        .or_else(|| fit(&FEATURE_NAMES, form.state_length));
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
    match names.iter().find(|name| name.is_empty() || name.len() > MAX_NAME_LEN || !seen.insert(*name)) {
        Some(bad) => Err(Violation::new(member, format!("{bad:?}: names are different, of 1 to {MAX_NAME_LEN} bytes"))),
        None => Ok(()),
    }
}

/// Check that the texts, sent as the member `member`, are valid names of movable aliases.
pub(crate) fn check_aliases(member: &str, aliases: &[String]) -> Result<(), Violation> {
    match aliases.iter().find(|alias| !is_alias(alias) || *alias == LATEST_ALIAS) {
        Some(bad) if bad == LATEST_ALIAS => Err(Violation::new(member, "'latest' is always the newest version")),
        Some(bad) => Err(Violation::new(
            member,
            format!("'{bad}' is not an alias: 1 to 64 of a-z, 0-9, '_', '.', '-', beginning with a letter"),
        )),
        None => Ok(()),
    }
}
