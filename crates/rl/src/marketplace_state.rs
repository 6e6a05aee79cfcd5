//! State and actions of the marketplace, and the two JSON forms of a state.

use serde_json::{Map, Value};

/// Names of the features of a marketplace state, in the policy's order.
pub const FEATURE_NAMES: [&str; 9] =
    ["price", "volume", "demand", "supply", "competition", "reputation", "resources", "capabilities", "position"];

/// Names of the actions of a marketplace policy, in the policy's order.
pub const ACTION_NAMES: [&str; 4] = ["increase", "decrease", "maintain", "dynamic"];

/// Error of reading a state from JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The value has neither of the two forms.
    #[error("a state is an array of numbers or an object of named features, not {0}")]
    Form(&'static str),
    /// An element of the array is not a number.
    #[error("the state's element at position {position} is not a number")]
    Element {
        /// Position of the element, from 0.
        position: usize,
    },
    /// A named feature is not a number.
    #[error("the state's feature '{0}' is not a number")]
    Feature(String),
    /// The object's features are not the nine of [`FEATURE_NAMES`].
    #[error("{}", describe_names(missing, unknown))]
    Names {
        /// Missing features, in the policy's order.
        missing: Vec<&'static str>,
        /// Unknown names, in the object's order.
        unknown: Vec<String>,
    },
}

fn describe_names(missing: &[&str], unknown: &[String]) -> String {
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("the state lacks {}", missing.join(", ")));
    }
    if !unknown.is_empty() {
        parts.push(format!("the state has no feature called {}", unknown.join(", ")));
    }
    parts.join("; ")
}

/// Read a state: an array of numbers, whose length the policy checks, or an object with each of the nine [`FEATURE_NAMES`]
/// by name, which yields nine numbers in their order.
pub fn state_from_json(value: &Value) -> Result<Vec<f64>, StateError> {
    match value {
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .map(|(position, element)| element.as_f64().ok_or(StateError::Element { position }))
            .collect(),
        Value::Object(features) => state_from_features(features),
        Value::Null => Err(StateError::Form("null")),
        Value::Bool(_) => Err(StateError::Form("a boolean")),
        Value::Number(_) => Err(StateError::Form("a number")),
        Value::String(_) => Err(StateError::Form("a string")),
    }
}

fn state_from_features(features: &Map<String, Value>) -> Result<Vec<f64>, StateError> {
    let missing: Vec<_> = FEATURE_NAMES.into_iter().filter(|name| !features.contains_key(*name)).collect();
    let unknown: Vec<_> = features.keys().filter(|name| !FEATURE_NAMES.contains(&name.as_str())).cloned().collect();
    if !missing.is_empty() || !unknown.is_empty() {
        return Err(StateError::Names { missing, unknown });
    }
    let number = |name: &str| features.get(name).and_then(Value::as_f64).ok_or(StateError::Feature(name.to_owned()));
    FEATURE_NAMES.into_iter().map(number).collect()
}

/// Read the numbers of a state whose features are called `names`, in this order, from an object.
///
/// # Errors
/// A message about missing, unknown or non-numeric members.
pub fn state_by_names(named: &Map<String, Value>, names: &[String]) -> Result<Vec<f64>, String> {
    if names.is_empty() {
        return Err("the policy has no names for the numbers of a state: send an array".into());
    }
    if let Some(unknown) = named.keys().find(|name| !names.contains(name)) {
        return Err(format!("a state has no '{unknown}': it has {}", names.join(", ")));
    }
    let number = |name: &String| match named.get(name) {
        None => Err(format!("'{name}' is missing")),
        Some(value) => value.as_f64().ok_or_else(|| format!("'{name}' is not a number")),
    };
    names.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_give_the_same_state() {
        let named = json!({"position": 9, "capabilities": 8, "resources": 7.5, "reputation": 6, "competition": 5,
            "supply": 4, "demand": 3, "volume": -2, "price": 1});
        let state = vec![1.0, -2.0, 3.0, 4.0, 5.0, 6.0, 7.5, 8.0, 9.0];
        assert_eq!(state_from_json(&named), Ok(state.clone()));
        assert_eq!(state_from_json(&json!(state)), Ok(state));
    }

    #[test]
    fn what_is_missing_and_what_is_unknown_is_named() {
        let mut named: Map<String, Value> = FEATURE_NAMES.iter().map(|name| (name.to_string(), json!(0.5))).collect();
        named.remove("supply");
        named.remove("price");
        named.insert("prize".into(), json!(1));
        let error = state_from_json(&Value::Object(named)).unwrap_err();
        assert_eq!(error, StateError::Names { missing: vec!["price", "supply"], unknown: vec!["prize".into()] });
        assert_eq!(error.to_string(), "the state lacks price, supply; the state has no feature called prize");
    }

    #[test]
    fn what_is_no_number_is_named() {
        assert_eq!(state_from_json(&json!([1, 2, "3"])), Err(StateError::Element { position: 2 }));
        assert_eq!(state_from_json(&json!([1, null])), Err(StateError::Element { position: 1 }));
        let mut named: Map<String, Value> = FEATURE_NAMES.iter().map(|name| (name.to_string(), json!(0.5))).collect();
        named.insert("demand".into(), json!(true));
        assert_eq!(state_from_json(&Value::Object(named)), Err(StateError::Feature("demand".into())));
        assert_eq!(state_from_json(&json!("x")), Err(StateError::Form("a string")));
    }
}
