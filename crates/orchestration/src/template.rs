//! Documents with holes: every string in it that starts with `$.` is a path, filled in when the step begins.

use serde_json::Value;

use super::{
    mapping::{Context, Pick, ResolveError},
    model::Place,
};

/// A JSON document with paths in it.
#[derive(Clone, Debug)]
pub struct Template {
    document: Value,
    /// Where each hole is, and what fills it.
    holes: Vec<(Vec<Place>, Pick)>,
}

impl Template {
    /// Read `document`.
    ///
    /// # Errors
    /// Where the first path stands that can't be parsed, and what is wrong with it.
    pub fn parse(document: Value) -> Result<Self, (Vec<Place>, String)> {
        let mut holes = Vec::new();
        find(&document, &mut Vec::new(), &mut holes)?;
        Ok(Self { document, holes })
    }

    /// A document without holes.
    pub fn literal(document: Value) -> Self {
        Self { document, holes: Vec::new() }
    }

    /// The document, filled in.
    ///
    /// # Errors
    /// The first path that finds nothing.
    pub fn fill(&self, context: &dyn Context) -> Result<Value, ResolveError> {
        let mut document = self.document.clone();
        for (path, pick) in &self.holes {
            let slot = path.iter().try_fold(&mut document, |value, place| match place {
                Place::Member(name) => value.get_mut(name),
                Place::Item(at) => value.get_mut(at),
            });
            if let Some(slot) = slot {
                *slot = pick.resolve(context)?;
            }
        }
        Ok(document)
    }

    /// The steps that paths name, with where they stand.
    pub fn steps_used(&self) -> impl Iterator<Item = (&[Place], &str)> {
        self.holes.iter().filter_map(|(path, pick)| Some((path.as_slice(), pick.step()?)))
    }
}

fn find(value: &Value, path: &mut Vec<Place>, holes: &mut Vec<(Vec<Place>, Pick)>) -> Result<(), (Vec<Place>, String)> {
    match value {
        Value::String(text) if text.starts_with("$.") => {
            let pick = Pick::parse(value).map_err(|message| (path.clone(), message))?;
            holes.push((path.clone(), pick));
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                path.push(Place::Item(at));
                find(item, path, holes)?;
                path.pop();
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                path.push(name.into());
                find(member, path, holes)?;
                path.pop();
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::StepView;
    use serde_json::json;

    struct Inputs(Value);

    impl Context for Inputs {
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
        let template = Template::parse(json!({"m": [{"a/b~": "$.inputs.x"}, "$5 is money"], "n": 1})).unwrap();
        assert_eq!(
            template.fill(&Inputs(json!({"x": {"y": 2}}))).unwrap(),
            json!({"m": [{"a/b~": {"y": 2}}, "$5 is money"], "n": 1})
        );
        assert!(template.fill(&Inputs(json!({}))).is_err());
    }

    #[test]
    fn a_bad_path_is_found_where_it_stands() {
        let (path, _) = Template::parse(json!({"m": [0, {"t": "$.nowhere"}]})).unwrap_err();
        assert_eq!(path, ["m".into(), Place::Item(1), "t".into()]);
    }
}
