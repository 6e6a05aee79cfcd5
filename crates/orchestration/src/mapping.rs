//! Mappings select values for a step by JSONPath (RFC 9535): `$.inputs.x`, `$.steps.score.output.y`, and for outputs
//! `$.output.z`. A value that does not start with `$` is a literal.
//!
//! Most paths refer to one step's output. Their first segments are removed here, so that only that value is searched,
//! instead of a document of all values built for each lookup.

use serde_json::{Map, Value, json};

use super::json_path::JsonPath;
use am_core::{
    validation::Violation,
    value_budget::{BudgetExceeded, ValueBudget},
};

/// Source of the values that paths refer to.
pub trait MappingContext {
    /// Return `$.inputs`, the inputs of the run or group.
    fn inputs(&self) -> &Value;
    /// Return `$.steps.<key>`, if there is such a step.
    fn step(&self, key: &str) -> Option<StepView<'_>>;
    /// Return `$.output`, if it is visible.
    fn output(&self) -> Option<&Value>;
}

/// Part of a step that is visible to paths.
#[derive(Clone, Copy, Debug)]
pub struct StepView<'a> {
    /// Output, once the step has ended well.
    pub output: Option<&'a Value>,
    /// Input, once the step has begun.
    pub input: Option<&'a Value>,
    /// Status of the step.
    pub status: &'a str,
}

/// Named value sources.
#[derive(Clone, Debug)]
pub struct ValueMapping(Vec<(String, ValueSource)>);

/// Source of one value.
#[derive(Clone, Debug)]
pub enum ValueSource {
    /// Value found by a path.
    Path(PathQuery),
    /// Value given literally.
    Literal(Value),
}

/// Compiled path with its starting point.
#[derive(Clone, Debug)]
pub struct PathQuery {
    root: PathRoot,
    path: JsonPath,
    /// Whether at most one value can match: the result is then the value itself, not a list.
    singular: bool,
    text: String,
}

#[derive(Clone, Debug)]
enum PathRoot {
    Inputs,
    Output,
    StepOutput(String),
    StepInput(String),
    StepStatus(String),
}

impl PathRoot {
    /// Remove the segments that name the starting point from `path`, and return it.
    fn take(path: &mut JsonPath) -> Option<Self> {
        match path.take_name()?.as_str() {
            "inputs" => Some(Self::Inputs),
            "output" => Some(Self::Output),
            "steps" => {
                let key = path.take_name()?;
                match path.take_name()?.as_str() {
                    "output" => Some(Self::StepOutput(key)),
                    "input" => Some(Self::StepInput(key)),
                    "status" => Some(Self::StepStatus(key)),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Error of parsing a mapping's entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry}: {message}")]
pub struct MappingError {
    /// The entry's name.
    pub entry: String,
    /// Description of the error.
    pub message: String,
}

impl From<MappingError> for Violation {
    fn from(error: MappingError) -> Self {
        Self::new([error.entry], error.message)
    }
}

/// Error of a path without a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} {message}")]
pub struct ResolveError {
    /// Path as written.
    pub path: String,
    /// Description of the error.
    pub message: String,
}

impl ResolveError {
    /// Create the error of a value that exceeds its budget.
    pub fn too_large(path: impl Into<String>, exceeded: BudgetExceeded) -> Self {
        Self { path: path.into(), message: format!("would give a value of {exceeded}") }
    }
}

impl ValueMapping {
    /// Parse the entries.
    ///
    /// # Errors
    /// Every entry that cannot be parsed.
    pub fn parse(entries: &Map<String, Value>) -> Result<Self, Vec<MappingError>> {
        let (mut picks, mut errors) = (Vec::with_capacity(entries.len()), Vec::new());
        for (entry, value) in entries {
            match ValueSource::parse(value) {
                Ok(pick) => picks.push((entry.clone(), pick)),
                Err(message) => errors.push(MappingError { entry: entry.clone(), message }),
            }
        }
        if errors.is_empty() { Ok(Self(picks)) } else { Err(errors) }
    }

    /// Return the object of the selected values, which are drawn from `budget` before they are copied.
    ///
    /// # Errors
    /// The first path without a value, or whose value exceeds the budget.
    pub fn resolve(
        &self,
        context: &dyn MappingContext,
        budget: &mut ValueBudget,
    ) -> Result<Map<String, Value>, ResolveError> {
        self.0.iter().map(|(entry, pick)| Ok((entry.clone(), pick.resolve(context, budget)?))).collect()
    }

    /// Return whether a path searches: its work is not bounded by the size of what it selects.
    pub fn searches(&self) -> bool {
        self.0.iter().any(|(_, pick)| pick.searches())
    }

    /// Iterate over the steps that paths refer to: (entry, step key).
    pub fn referenced_steps(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(entry, pick)| Some((entry.as_str(), pick.step()?)))
    }
}

impl ValueSource {
    /// Parse one value source.
    ///
    /// # Errors
    /// The error in the path.
    pub fn parse(value: &Value) -> Result<Self, String> {
        match value.as_str().filter(|text| text.starts_with('$')) {
            Some(text) => PathQuery::parse(text).map(Self::Path),
            None => Ok(Self::Literal(value.clone())),
        }
    }

    /// Return the selected value, drawn from `budget` before it is copied.
    ///
    /// # Errors
    /// When a path that names one value finds none, or the value exceeds the budget.
    pub fn resolve(&self, context: &dyn MappingContext, budget: &mut ValueBudget) -> Result<Value, ResolveError> {
        match self {
            Self::Path(query) => query.resolve(context, budget),
            Self::Literal(value) => budget
                .draw(value)
                .map(|()| value.clone())
                .map_err(|exceeded| ResolveError::too_large("a literal value", exceeded)),
        }
    }

    /// Return whether it is a path that can match several values.
    pub fn searches(&self) -> bool {
        matches!(self, Self::Path(query) if !query.singular)
    }

    /// Return the step that the path refers to.
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::Path(PathQuery {
                root: PathRoot::StepOutput(key) | PathRoot::StepInput(key) | PathRoot::StepStatus(key),
                ..
            }) => Some(key),
            _ => None,
        }
    }
}

impl PathQuery {
    fn parse(text: &str) -> Result<Self, String> {
        let mut path = JsonPath::parse(text)?;
        let root = PathRoot::take(&mut path).ok_or_else(|| {
            format!("{text:?} must start with $.inputs, $.output or $.steps.<key>.output (or .input, .status)")
        })?;
        Ok(Self { root, singular: path.is_singular(), path, text: text.to_owned() })
    }

    fn resolve(&self, context: &dyn MappingContext, budget: &mut ValueBudget) -> Result<Value, ResolveError> {
        let missing = |message: &str| ResolveError { path: self.text.clone(), message: message.to_owned() };
        let step = |key: &str| context.step(key).ok_or_else(|| missing("refers to a step that does not exist"));
        let status;
        let start = match &self.root {
            PathRoot::Inputs => Some(context.inputs()),
            PathRoot::Output => context.output(),
            PathRoot::StepOutput(key) => step(key)?.output,
            PathRoot::StepInput(key) => step(key)?.input,
            PathRoot::StepStatus(key) => {
                status = json!(step(key)?.status);
                Some(&status)
            }
        };
        let start = start.ok_or_else(|| missing("has no value yet"))?;
        let found = self.path.query(start).map_err(|error| missing(&error.to_string()))?;
        let mut draw =
            |value: &Value| budget.draw(value).map_err(|exceeded| ResolveError::too_large(&self.text, exceeded));
        if self.singular {
            let value = *found.first().ok_or_else(|| missing(&self.no_value(start)))?;
            draw(value)?;
            Ok(value.clone())
        } else {
            found.iter().try_for_each(|value| draw(value))?;
            Ok(found.into_iter().cloned().collect())
        }
    }

    /// Explain that nothing was found below `start`; for inputs, name at most ten of those that were given.
    fn no_value(&self, start: &Value) -> String {
        match (&self.root, start.as_object()) {
            (PathRoot::Inputs, Some(inputs)) => {
                let names: Vec<_> = inputs.keys().take(10).map(String::as_str).collect();
                let given = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                let wanted = self.text.strip_prefix("$.inputs.").unwrap_or_default();
                let wanted = wanted.split(|one: char| !one.is_alphanumeric() && one != '_').next().unwrap_or_default();
                if wanted.is_empty() || inputs.contains_key(wanted) {
                    return format!("has no value (inputs: {given})");
                }
                format!(
                    "has no value: this run was given no input `{wanted}` (inputs: {given}). Send {{\"inputs\": {{\"{wanted}\": ...}}}}"
                )
            }
            _ => "has no value".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use am_core::value_budget::ByteLimit;

    use super::*;

    struct Fixed(Value);

    impl MappingContext for Fixed {
        fn inputs(&self) -> &Value {
            &self.0["inputs"]
        }
        fn step(&self, key: &str) -> Option<StepView<'_>> {
            let step = self.0["steps"].get(key)?;
            Some(StepView { output: step.get("output"), input: step.get("input"), status: "completed" })
        }
        fn output(&self) -> Option<&Value> {
            self.0.get("output")
        }
    }

    fn context() -> Fixed {
        Fixed(json!({
            "inputs": {"x": 1, "list": [{"n": 1}, {"n": 2}]},
            "steps": {"score": {"output": {"y": {"z": [10, 20]}}, "input": {"q": 5}}, "a.b": {"output": 7}, "late": {}},
            "output": {"raw": true}
        }))
    }

    fn pick(text: &str) -> Result<Value, String> {
        pick_within(text, &context(), 1 << 20)
    }

    fn budget() -> ValueBudget {
        ValueBudget::new(ByteLimit { name: "TEST_BYTES", bytes: 1 << 20 })
    }

    fn pick_within(text: &str, context: &Fixed, bytes: usize) -> Result<Value, String> {
        let mut budget = ValueBudget::new(ByteLimit { name: "TEST_BYTES", bytes });
        ValueSource::parse(&json!(text))?.resolve(context, &mut budget).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_selected_is_bounded_before_it_is_copied() {
        let large = Fixed(json!({"inputs": {"a": "x".repeat(500), "list": vec![0; 5000]}}));
        assert!(pick_within("$.inputs.a", &large, 600).is_ok());
        assert_eq!(
            pick_within("$.inputs.a", &large, 400),
            Err("$.inputs.a would give a value of more than 400 bytes of JSON (TEST_BYTES)".to_owned())
        );
        assert!(pick_within("$.inputs.list[*]", &large, 4000).unwrap_err().contains("TEST_BYTES"));
        // Each segment multiplies what is found.
        let deep = Fixed(json!({"inputs": {"a": (0..30).fold(json!(1), |inner, _| json!([inner]))}}));
        let repeated = format!("$.inputs.a{}", "[0,0,0]".repeat(30));
        assert!(pick_within(&repeated, &deep, 1 << 20).unwrap_err().contains("visits more than"));
    }

    #[test]
    fn one_value_or_a_list() {
        assert_eq!(pick("$.inputs.x"), Ok(json!(1)));
        assert_eq!(pick("$.inputs"), Ok(context().0["inputs"].clone()));
        assert_eq!(pick("$.steps.score.output.y.z[1]"), Ok(json!(20)));
        assert_eq!(pick("$['steps'][\"score\"].output.y.z[-1]"), Ok(json!(20)));
        assert_eq!(pick("$.steps['a.b'].output"), Ok(json!(7)));
        assert_eq!(pick("$.steps.score.input.q"), Ok(json!(5)));
        assert_eq!(pick("$.steps.score.status"), Ok(json!("completed")));
        assert_eq!(pick("$.inputs.list[*].n"), Ok(json!([1, 2])));
        assert_eq!(pick("$.inputs.list[?@.n > 1].n"), Ok(json!([2])));
        assert_eq!(pick("$.inputs..nothing"), Ok(json!([])));
        assert_eq!(pick("$.output.raw"), Ok(json!(true)));
        assert_eq!(pick("no path"), Ok(json!("no path")));
    }

    #[test]
    fn what_is_not_there_is_an_error_that_names_the_path() {
        assert_eq!(
            pick("$.inputs.gone").unwrap_err(),
            "$.inputs.gone has no value: this run was given no input `gone` (inputs: x, list). Send {\"inputs\": {\"gone\": ...}}"
        );
        assert!(pick("$.steps.nobody.output").unwrap_err().contains("does not exist"));
        assert!(pick("$.steps.late.output.x").unwrap_err().contains("no value yet"));
    }

    #[test]
    fn what_is_no_path_is_refused_when_it_is_read() {
        for bad in [
            "$.inputs[",
            "$.",
            "$",
            "$.elsewhere",
            "$.steps",
            "$.steps.a",
            "$.steps.a.gone",
            "$.steps.*.output",
            "$..x",
        ] {
            assert!(ValueSource::parse(&json!(bad)).is_err(), "{bad}");
        }
        let errors =
            ValueMapping::parse(json!({"a": "$.inputs.x", "b": "$.inputs["}).as_object().unwrap()).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].entry, "b");
    }

    #[test]
    fn names_may_hold_what_paths_are_written_with() {
        let names =
            ["$oid", "$ref", "price in $", "match(x)", "C:\\", "a]b", "it's", "*", "..", "[[[[[[[[[", "é\"\n", "?@.x"];
        let inputs: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), json!([name]))).collect();
        let context = Fixed(json!({"inputs": inputs, "steps": {"it's $1": {"output": 3}}}));
        for name in names {
            let double = json!(name).to_string();
            let single = format!("'{}'", double[1..double.len() - 1].replace("\\\"", "\"").replace('\'', "\\'"));
            for quoted in [single, double] {
                let pick = |rest: &str| {
                    let path = json!(format!("$.inputs[{quoted}]{rest}"));
                    ValueSource::parse(&path).unwrap().resolve(&context, &mut budget()).unwrap()
                };
                assert_eq!(pick(""), json!([name]), "{quoted}");
                assert_eq!(pick("[*]"), json!([name]), "{quoted}");
                assert_eq!(pick("[0]"), json!(name), "{quoted}");
            }
        }
        let source = ValueSource::parse(&json!(r"$.steps['it\'s $1'].output")).unwrap();
        assert_eq!((source.step(), source.resolve(&context, &mut budget())), (Some("it's $1"), Ok(json!(3))));
    }

    #[test]
    fn the_steps_that_are_used_are_known() {
        let entries = json!({"a": "$.inputs.x", "b": "$.steps.score.output", "c": "$.steps['a.b'].status", "d": 4});
        let mapping = ValueMapping::parse(entries.as_object().unwrap()).unwrap();
        assert_eq!(mapping.referenced_steps().collect::<Vec<_>>(), [("b", "score"), ("c", "a.b")]);
    }
}
