//! JSON documents with placeholders: every string that starts with `$.` is a path, filled in when the step begins.

use serde_json::Value;

use super::mapping::{MappingContext, ResolveError, ValueSource};
use am_core::{
    validation::{FieldPath, PathSegment, Violation, Violations},
    value_budget::ValueBudget,
};

/// A JSON document with paths in it.
#[derive(Clone, Debug)]
pub struct JsonTemplate {
    document: Value,
    /// Position and source of each placeholder.
    holes: Vec<(FieldPath, ValueSource)>,
}

impl JsonTemplate {
    /// Parse `document`.
    ///
    /// # Errors
    /// Every path that can't be parsed, with where it stands in the document.
    pub fn parse(document: Value) -> Result<Self, Vec<Violation>> {
        let (mut holes, mut violations) = (Vec::new(), Violations::default());
        find_placeholders(&document, &mut FieldPath::default(), &mut holes, &mut violations);
        violations.finish().map(|()| Self { document, holes })
    }

    /// Create a document without placeholders.
    pub fn literal(document: Value) -> Self {
        Self { document, holes: Vec::new() }
    }

    /// Return the document with all placeholders filled in, which is drawn from `budget` before it is built.
    ///
    /// # Errors
    /// The first path without a value, or whose value exceeds the budget.
    pub fn fill(&self, context: &dyn MappingContext, budget: &mut ValueBudget) -> Result<Value, ResolveError> {
        budget.draw(&self.document).map_err(|exceeded| ResolveError::too_large("the action's document", exceeded))?;
        let mut document = self.document.clone();
        for (path, pick) in &self.holes {
            let slot = path.segments().iter().try_fold(&mut document, |value, place| match place {
                PathSegment::Member(name) => value.get_mut(name),
                PathSegment::Item(at) => value.get_mut(at),
            });
            if let Some(slot) = slot {
                *slot = pick.resolve(context, budget)?;
            }
        }
        Ok(document)
    }

    /// Return whether a path searches: its work is not bounded by the size of what it selects.
    pub fn searches(&self) -> bool {
        self.holes.iter().any(|(_, pick)| pick.searches())
    }

    /// Iterate over the steps that paths refer to, with the positions of the paths.
    pub fn referenced_steps(&self) -> impl Iterator<Item = (&FieldPath, &str)> {
        self.holes.iter().filter_map(|(path, pick)| Some((path, pick.step()?)))
    }
}

fn find_placeholders(
    value: &Value,
    path: &mut FieldPath,
    holes: &mut Vec<(FieldPath, ValueSource)>,
    violations: &mut Violations,
) {
    match value {
        Value::String(text) if text.starts_with("$.") => {
            let pick = ValueSource::parse(value).map_err(|message| Violation::new(path.clone(), message));
            holes.extend(violations.take(pick).map(|pick| (path.clone(), pick)));
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                path.push(at);
                find_placeholders(item, path, holes, violations);
                path.pop();
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                path.push(name);
                find_placeholders(member, path, holes, violations);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::StepView;
    use am_core::value_budget::ByteLimit;
    use serde_json::json;

    struct Inputs(Value);

    impl MappingContext for Inputs {
        fn inputs(&self) -> &Value {
            &self.0
        }
        fn step(&self, _: &str) -> Option<StepView<'_>> {
            None
        }
        fn output(&self) -> Option<&Value> {
            None
        }
    }

    #[test]
    fn holes_are_filled_wherever_they_stand() {
        let fill = |template: &JsonTemplate, inputs: Value, bytes: usize| {
            template.fill(&Inputs(inputs), &mut ValueBudget::new(ByteLimit { name: "TEST_BYTES", bytes }))
        };
        let template = JsonTemplate::parse(json!({"m": [{"a/b~": "$.inputs.x"}, "$5 is money"], "n": 1})).unwrap();
        assert_eq!(
            fill(&template, json!({"x": {"y": 2}}), 1000).unwrap(),
            json!({"m": [{"a/b~": {"y": 2}}, "$5 is money"], "n": 1})
        );
        assert!(fill(&template, json!({}), 1000).is_err());
        let twice = JsonTemplate::parse(json!(["$.inputs.x", "$.inputs.x"])).unwrap();
        let text = json!({"x": "t".repeat(600)});
        assert!(fill(&twice, text.clone(), 1300).is_ok());
        assert!(fill(&twice, text, 1000).unwrap_err().message.contains("TEST_BYTES"));
    }

    #[test]
    fn bad_paths_are_found_where_they_stand() {
        let found =
            JsonTemplate::parse(json!({"m": [0, {"t": "$.nowhere"}], "n": "$.[", "o": "$.inputs.x"})).unwrap_err();
        let paths: Vec<String> = found.iter().map(|violation| violation.path.to_string()).collect();
        assert_eq!(paths, ["m.1.t", "n"]);
    }
}
