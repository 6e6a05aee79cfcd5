//! Where a step's inputs come from and what its outputs are called: names mapped to JSONPath (RFC 9535) queries or
//! literals.
//!
//! A query sees `{"inputs": ..., "steps": {"<key>": {"input": ..., "output": ..., "status": ...}}, "output": ...}`
//! ([`Context`]). One that begins with `$.inputs`, `$.output` or `$.steps.<key>.output` touches nothing else of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use serde_json_path::JsonPath;

mod scan;

use scan::Shape;

/// A mapping's entry is wrong, or cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry}: {message}")]
pub struct MappingError {
    /// The entry's name; empty where it is the mapping as a whole.
    pub entry: String,
    /// What is wrong.
    pub message: String,
}

/// What is known of one step.
#[derive(Clone, Copy, Debug)]
pub struct StepValues<'a> {
    /// What it was given, once it has begun.
    pub input: Option<&'a Value>,
    /// What it gave, once it has ended well.
    pub output: Option<&'a Value>,
    /// Its state's name.
    pub status: &'a str,
}

/// What queries look at.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The execution's inputs.
    pub inputs: &'a Value,
    /// At least the steps that [`Mapping::steps_used`] names; all that are known where [`Mapping::uses_all_steps`].
    pub steps: BTreeMap<&'a str, StepValues<'a>>,
    /// The step's own raw output, for output mappings.
    pub output: Option<&'a Value>,
}

/// Names, each with the query or the literal that gives its value, in the order they were written.
#[derive(Clone, Debug, Default)]
pub struct Mapping(Vec<(String, Source)>);

#[derive(Clone, Debug)]
enum Source {
    Literal(Value),
    Query(Query),
}

#[derive(Clone, Debug)]
struct Query {
    text: String,
    root: Root,
    /// Relative to `root`.
    path: JsonPath,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Root {
    Inputs,
    Output,
    StepInput(String),
    StepOutput(String),
    Everything,
}

impl Mapping {
    /// Reads `{"name": "$.json.path" | literal}`; null is the empty mapping. A string that begins with `$` is a query,
    /// every other value a literal. Beyond JSONPath's own rules a query is bounded so that it cannot run away: 1024
    /// bytes, brackets 8 deep, one `..`, `$` inside a filter only for a single value, and no regular expressions (they
    /// would be compiled again for each value; jq has them).
    pub fn parse(mapping: &Value) -> Result<Self, MappingError> {
        let members = match mapping {
            Value::Object(members) => members,
            Value::Null => return Ok(Self::default()),
            _ => return Err(MappingError { entry: String::new(), message: "must be an object".into() }),
        };
        let entries = members.iter().map(|(name, value)| {
            let source = match value {
                Value::String(text) if text.starts_with('$') => Query::parse(text).map(Source::Query),
                literal => Ok(Source::Literal(literal.clone())),
            };
            let named = |message| MappingError { entry: name.clone(), message };
            Ok((name.clone(), source.map_err(named)?))
        });
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The steps that queries name as `$.steps.<key>`.
    pub fn steps_used(&self) -> BTreeSet<&str> {
        self.queries().flat_map(|query| &query.shape.steps).map(String::as_str).collect()
    }

    /// Whether a query looks at steps without naming them, such as `$.steps.*.output`: what it finds depends on which
    /// have run.
    pub fn uses_all_steps(&self) -> bool {
        self.queries().any(|query| query.shape.all_steps)
    }

    /// Whether a query looks at `$.output`, which only output mappings have.
    pub fn uses_output(&self) -> bool {
        self.queries().any(|query| query.shape.output)
    }

    /// The named values. A query for a single place gives the value there, and it is an error if there is none; any
    /// other gives the array of what it finds.
    pub fn resolve(&self, context: &Context<'_>) -> Result<Map<String, Value>, MappingError> {
        let entries = self.0.iter().map(|(name, source)| {
            let value = match source {
                Source::Literal(value) => Ok(value.clone()),
                Source::Query(query) => query.resolve(context),
            };
            Ok((name.clone(), value.map_err(|message| MappingError { entry: name.clone(), message })?))
        });
        entries.collect()
    }

    fn queries(&self) -> impl Iterator<Item = &Query> {
        self.0.iter().filter_map(|(_, source)| match source {
            Source::Query(query) => Some(query),
            Source::Literal(_) => None,
        })
    }
}

impl Query {
    fn parse(text: &str) -> Result<Self, String> {
        scan::bounded(text)?;
        let whole = JsonPath::parse(text).map_err(|error| format!("`{text}` is not a JSONPath: {error}"))?;
        let shape = scan::shape(text)?;
        let (root, rest) = match &shape.names[..] {
            _ if shape.looks_back => (Root::Everything, None),
            [("inputs", end), ..] => (Root::Inputs, Some(*end)),
            [("output", end), ..] => (Root::Output, Some(*end)),
            [("steps", _), (key, _), ("input", end)] => (Root::StepInput((*key).to_owned()), Some(*end)),
            [("steps", _), (key, _), ("output", end)] => (Root::StepOutput((*key).to_owned()), Some(*end)),
            _ => (Root::Everything, None),
        };
        let path = match rest {
            Some(end) => JsonPath::parse(&format!("${}", &text[end..])).map_err(|error| error.to_string())?,
            None => whole,
        };
        Ok(Self { text: text.to_owned(), root, path, shape: shape.into_owned() })
    }

    fn resolve(&self, context: &Context<'_>) -> Result<Value, String> {
        let step = |key: &str| context.steps.get(key).ok_or_else(|| format!("step `{key}` has not run"));
        let everything;
        let root = match &self.root {
            Root::Inputs => context.inputs,
            Root::Output => context.output.ok_or("there is no output here")?,
            Root::StepInput(key) => step(key)?.input.ok_or_else(|| format!("step `{key}` has no input"))?,
            Root::StepOutput(key) => step(key)?.output.ok_or_else(|| format!("step `{key}` has no output"))?,
            Root::Everything => {
                everything = self.everything(context);
                &everything
            }
        };
        let found = self.path.query(root);
        if !self.shape.singular {
            return Ok(Value::Array(found.into_iter().cloned().collect()));
        }
        found.first().cloned().ok_or_else(|| format!("`{}` finds nothing", self.text))
    }

    /// The context as one document, as far as the query can look at it.
    fn everything(&self, context: &Context<'_>) -> Value {
        let looked_at =
            context.steps.iter().filter(|(key, _)| self.shape.all_steps || self.shape.steps.contains(**key));
        let steps: Map<_, _> = looked_at
            .map(|(key, step)| {
                let mut values = Map::new();
                values.insert("status".into(), step.status.into());
                values.extend(step.input.map(|input| ("input".into(), input.clone())));
                values.extend(step.output.map(|output| ("output".into(), output.clone())));
                ((*key).to_owned(), Value::Object(values))
            })
            .collect();
        let mut document = json!({ "inputs": context.inputs, "steps": steps });
        if let Some(output) = context.output {
            document["output"] = output.clone();
        }
        document
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Result<Mapping, String> {
        Mapping::parse(&json!({ "x": text })).map_err(|error| error.to_string())
    }

    fn document() -> Value {
        json!({
            "inputs": {"x": 1, "list": [{"id": "a", "n": 1}, {"id": "b", "n": 2}], "$": "sign", "it's": 7, "null": null},
            "steps": {
                "score": {"status": "completed", "input": {"q": [1]}, "output": {"y": [10, 20], "id": "b"}},
                "wait": {"status": "running", "input": 5},
            },
            "output": {"raw": {"z": true}},
        })
    }

    fn context(document: &Value) -> Context<'_> {
        let steps = document["steps"].as_object().unwrap().iter().map(|(key, step)| {
            let status = step["status"].as_str().unwrap();
            (key.as_str(), StepValues { input: step.get("input"), output: step.get("output"), status })
        });
        Context { inputs: &document["inputs"], steps: steps.collect(), output: document.get("output") }
    }

    fn resolve(text: &str) -> Result<Value, String> {
        let document = document();
        let values = one(text).unwrap().resolve(&context(&document)).map_err(|error| error.to_string())?;
        Ok(values["x"].clone())
    }

    #[test]
    fn a_single_place_gives_its_value_and_others_what_they_find() {
        for (query, value) in [
            ("$.inputs.x", json!(1)),
            ("$.inputs", document()["inputs"].clone()),
            ("$['inputs']['it\\'s']", json!(7)),
            ("$.inputs['$']", json!("sign")),
            ("$.inputs.null", json!(null)),
            ("$.inputs.list[1].id", json!("b")),
            ("$.inputs.list[-1]['n']", json!(2)),
            ("$.inputs.list[*].n", json!([1, 2])),
            ("$.inputs.list[:1].n", json!([1])),
            ("$.inputs.list['n', 'm']", json!([])),
            ("$.inputs.nothing.*", json!([])),
            ("$.inputs..n", json!([1, 2])),
            ("$.inputs.list[?@.n > 1].id", json!(["b"])),
            ("$.inputs.list[?@.id == $.steps.score.output.id].n", json!([2])),
            ("$.inputs.list[?@.id == '$.steps.ghost.output'].n", json!([])),
            ("$.steps.score.output.y[0]", json!(10)),
            ("$[\"steps\"][\"score\"].output", json!({"y": [10, 20], "id": "b"})),
            ("$.steps.score.input.q", json!([1])),
            ("$.steps.score.status", json!("completed")),
            ("$.steps.wait", json!({"status": "running", "input": 5})),
            ("$.steps.*.status", json!(["completed", "running"])),
            ("$.output.raw.z", json!(true)),
        ] {
            assert_eq!(resolve(query).unwrap(), value, "{query}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (query, message) in [
            ("$.inputs.y", "x: `$.inputs.y` finds nothing"),
            ("$.inputs.list[7]", "x: `$.inputs.list[7]` finds nothing"),
            ("$.steps.wait.output", "x: step `wait` has no output"),
            ("$.steps.wait.output[*]", "x: step `wait` has no output"),
            ("$.steps.ghost.output.y", "x: step `ghost` has not run"),
        ] {
            assert_eq!(resolve(query).unwrap_err(), message);
        }
        let document = document();
        let no_output = Context { output: None, ..context(&document) };
        let error = one("$.output.raw").unwrap().resolve(&no_output).unwrap_err();
        assert_eq!((error.entry.as_str(), error.message.as_str()), ("x", "there is no output here"));
    }

    #[test]
    fn literals_are_what_does_not_begin_with_a_dollar() {
        let literal = json!({"a": "text", "b": {"c": "$.inputs.x"}, "d": [1, null], "e": " $"});
        let document = document();
        let values = Mapping::parse(&literal).unwrap().resolve(&context(&document)).unwrap();
        assert_eq!(Value::Object(values), literal);
        assert!(Mapping::parse(&json!(null)).unwrap().is_empty());
        assert_eq!(Mapping::parse(&json!([1])).unwrap_err().to_string(), ": must be an object");
    }

    #[test]
    fn what_cannot_be_parsed_is_named() {
        assert!(one("$.inputs.").unwrap_err().starts_with("x: `$.inputs.` is not a JSONPath: at position"));
        assert!(one("$5.00").unwrap_err().contains("is not a JSONPath"));
        assert!(one("$.input.x").unwrap_err().contains("there is no `input`"));
        assert!(one("$['in\\u0070uts'].x").unwrap_err().contains("begins with $.inputs"));
        assert!(one(&format!("$.inputs.{}", "a".repeat(1020))).unwrap_err().contains("1024 bytes"));
        assert!(one(&format!("$.inputs[?{}@.a{}]", "(".repeat(8), ")".repeat(8))).unwrap_err().contains("8 deep"));
        for function in ["match", "search"] {
            let query = format!("$.inputs.list[?{function}(@.id, 'a')]");
            assert!(one(&query).unwrap_err().contains("no regular expressions"));
        }
        assert_eq!(resolve("$.inputs.list[?@.id == 'match(']").unwrap(), json!([]));
        assert!(one("$.inputs..a..b").unwrap_err().contains("one `..`"));
        assert!(one("$.inputs.list[?$.inputs.list[*]]").unwrap_err().contains("single value"));
        assert!(one("$.inputs.list[?$..a]").unwrap_err().contains("single value"));
    }

    #[test]
    fn tells_which_steps_it_needs() {
        let mapping = json!({
            "a": "$.steps.first.output.x", "b": "$.steps['second key'].status", "c": "$.inputs.l[?@.n == $.steps.third.output]",
            "d": "$.steps.first.input", "e": "$.inputs['$.steps.none']", "f": "$.output",
        });
        let mapping = Mapping::parse(&mapping).unwrap();
        assert_eq!(mapping.steps_used().into_iter().collect::<Vec<_>>(), ["first", "second key", "third"]);
        assert!(!mapping.uses_all_steps() && mapping.uses_output());
        for query in ["$", "$.*", "$..x", "$.steps", "$.steps[*].output", "$['steps', 'inputs']", "$[?@.x]"] {
            assert!(one(query).unwrap().uses_all_steps(), "{query}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z]{1,3}",
            Just("inputs".into()),
            Just("steps".into()),
            Just("score".into()),
            Just("output".into())
        ]
    }

    fn query() -> impl Strategy<Value = String> {
        let segment = prop_oneof![
            4 => name().prop_map(|name| format!(".{name}")),
            2 => name().prop_map(|name| format!("['{name}']")),
            1 => name().prop_map(|name| format!("[ \"{name}\" ]")),
            2 => (-2..3i8).prop_map(|index| format!("[{index}]")),
            1 => Just("[*]".to_owned()),
            1 => Just(".*".to_owned()),
            1 => name().prop_map(|name| format!("[?@.{name}]")),
            1 => name().prop_map(|name| format!("..{name}")),
        ];
        let start =
            prop_oneof![Just("$.inputs"), Just("$['steps'].score"), Just("$.steps"), Just("$.output"), Just("$")];
        (start, proptest::collection::vec(segment, 0..4))
            .prop_map(|(start, segments)| start.to_owned() + &segments.concat())
    }

    proptest! {
        /// The short ways give what the query gives on the whole document.
        #[test]
        fn finds_what_the_whole_document_has(text in query()) {
            let Ok(mapping) = one(&text) else { return Ok(()) };
            let document = document();
            let whole = JsonPath::parse(&text).unwrap().query(&document).all();
            match mapping.resolve(&context(&document)) {
                Ok(values) if mapping.queries().all(|query| query.shape.singular) => {
                    prop_assert_eq!(vec![&values["x"]], whole);
                }
                Ok(values) => prop_assert_eq!(values["x"].as_array().unwrap().iter().collect::<Vec<_>>(), whole),
                Err(_) => prop_assert!(whole.is_empty()),
            }
        }

        #[test]
        fn no_text_is_too_odd(text in "\\$[.\\[\\]()'\"$*?@a-c1\\\\ =-]{0,40}|\\$.*") {
            let _ = one(&text);
        }
    }
}
