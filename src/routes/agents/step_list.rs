//! Steps of a workflow as clients send them: by key, or as a list of steps that name themselves.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};

/// Members that name a step of a list, in the order in which they count.
const NAMING_MEMBERS: [&str; 2] = ["step_id", "name"];

/// Read steps by key. A step of a list has the key that its `step_id` says, or else its `name`.
///
/// # Errors
/// The error of the deserializer; for a list also a step without a name, and two of one name.
pub fn steps_by_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    deserializer.deserialize_any(StepVisitor)
}

/// The same for steps that may be left out or null.
///
/// # Errors
/// As [`steps_by_key`].
pub fn optional_steps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Map<String, Value>>, D::Error> {
    struct Steps(Map<String, Value>);

    impl<'de> Deserialize<'de> for Steps {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            steps_by_key(deserializer).map(Self)
        }
    }

    Ok(Option::<Steps>::deserialize(deserializer)?.map(|steps| steps.0))
}

struct StepVisitor;

impl<'de> Visitor<'de> for StepVisitor {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a map, step name to step: {"fetch": {"step_type": "custom"}}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, steps: A) -> Result<Self::Value, A::Error> {
        Map::deserialize(MapAccessDeserializer::new(steps))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut steps = Map::new();
        while let Some(mut step) = list.next_element::<Map<String, Value>>()? {
            let number = steps.len() + 1;
            let named = NAMING_MEMBERS.iter().find_map(|member| step.get(*member)?.as_str());
            let key = named.filter(|key| !key.is_empty()).map(str::to_owned);
            let key = key.ok_or_else(|| {
                A::Error::custom(format!("Step {number} of the list should have a step_id or a name"))
            })?;
            step.remove(NAMING_MEMBERS[0]);
            if steps.contains_key(&key) {
                return Err(A::Error::custom(format!("Two steps of the list are called {key:?}")));
            }
            steps.insert(key, Value::Object(step));
        }
        // What an empty list means is not clear, and nobody wants a workflow without steps.
        if steps.is_empty() { Err(A::Error::invalid_type(Unexpected::Seq, &self)) } else { Ok(steps) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Body {
        #[serde(deserialize_with = "steps_by_key")]
        steps: Map<String, Value>,
        #[serde(default, deserialize_with = "optional_steps")]
        other: Option<Map<String, Value>>,
    }

    fn read(steps: Value) -> Result<Value, String> {
        let body: Body = serde_json::from_value(json!({"steps": steps})).map_err(|error| error.to_string())?;
        assert_eq!(body.other, None);
        Ok(Value::Object(body.steps))
    }

    #[test]
    fn list_names_its_steps() {
        let by_key = json!({"b": {"x": 1}, "a": {"name": "a"}});
        assert_eq!(read(by_key.clone()), Ok(by_key));
        let list = json!([{"step_id": "b", "name": "second", "depends_on": ["a"]}, {"name": "a"}]);
        let found = read(list).unwrap();
        assert_eq!(found, json!({"b": {"name": "second", "depends_on": ["a"]}, "a": {"name": "a"}}));
        assert_eq!(found.as_object().unwrap().keys().collect::<Vec<_>>(), ["b", "a"], "in the order of the list");
        for (bad, why) in [
            (json!([{"step_type": "custom"}]), "Step 1"),
            (json!([{"step_id": 7}]), "Step 1"),
            (json!([{"name": "a"}, {"name": ""}]), "Step 2"),
            (json!([{"name": "a"}, {"step_id": "a"}]), "Two steps"),
            (json!(["a"]), "a map"),
            (json!([]), "a map"),
            (json!(7), "a map"),
        ] {
            assert!(read(bad.clone()).unwrap_err().contains(why), "{bad}");
        }
        let body: Body = serde_json::from_value(json!({"steps": {}, "other": [{"name": "a"}]})).unwrap();
        assert_eq!(body.other.unwrap().len(), 1);
        let body: Body = serde_json::from_value(json!({"steps": {}, "other": null})).unwrap();
        assert_eq!(body.other, None);
    }
}
