//! Names that operations know: members of bodies and query parameters, from the schemas of the OpenAPI document. What no
//! operation knows is refused, or reported where the coordinator's clients may send it; it never vanishes.

mod tree;

use std::{collections::HashMap, sync::Arc};

use axum::http::Method;
use serde_json::Value;

use super::error::{ApiError, FieldError, HIDDEN_NAME, LocationSegment};
use tree::{NameTree, UnknownName};

/// Most parameters of a query, repeated ones included.
pub const MAX_QUERY_PARAMETERS: usize = 100;
/// Likeness, 0 to 1, from which an unknown name is taken for a misspelt one: `timeout` for `timeout_seconds` is just above.
const MISSPELT: f64 = 0.88;
/// Most names that a refusal lists.
const MAX_LISTED: usize = 16;

/// Members that clients of the coordinator send where no model has them. They are ignored without a warning.
const COORDINATOR_MEMBERS: [&str; 4] = ["workflow_id", "inputs", "priority", "timeout_seconds"];

/// Paths of the coordinator's operations. Its clients may send members that no model has, and must not be refused for them.
const COORDINATOR_PATHS: [&str; 10] = [
    "/api/v1/agents/performance/resources",
    "/api/v1/agents/workflows",
    "/api/v1/agents/executions",
    "/api/v1/agents/networks",
    "/api/v1/agents/receipts",
    "/api/v1/agents/messages",
    "/api/v1/agents/security",
    "/api/v1/agents/integration",
    "/api/v1/agents/{agent_id}/learning",
    "/api/v1/services",
];

/// Paths below these that the coordinator does not have: a misspelt member is refused there.
const OWN_PATHS: [&str; 5] = [
    "/api/v1/agents/performance/resources/plan",
    "/api/v1/agents/security/webhooks",
    "/api/v1/agents/executions/retry",
    "/api/v1/agents/executions/cancel",
    "/api/v1/agents/executions/operations",
];

/// Names of all operations.
#[derive(Clone, Debug, Default)]
pub struct KnownNames {
    /// By path template and method.
    operations: HashMap<String, HashMap<String, Arc<OperationNames>>>,
}

/// Names of an operation.
#[derive(Debug)]
pub struct OperationNames {
    query: Vec<String>,
    /// Names of the JSON body; an operation without a body knows none.
    body: NameTree,
    /// Whether it is one of the coordinator's.
    is_coordinators: bool,
    /// Whether it is part of the API, and not a probe, a page or metrics, which are asked with whatever parameters.
    is_api: bool,
    /// Whether it takes any caller, one without a key too.
    is_public: bool,
}

/// A name that was ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredName {
    /// Path, with points between its segments.
    pub path: String,
    /// What the client is told; `None`: the coordinator's clients send it, so the header is enough.
    pub warning: Option<String>,
}

impl IgnoredName {
    /// Return it without the names that are keys.
    #[must_use]
    pub fn without_keys(mut self, is_key: impl Fn(&str) -> bool) -> Self {
        let path = self.path.clone();
        for name in path.split('.').chain([path.as_str()]).filter(|name| is_key(name)) {
            self.path = self.path.replace(name, HIDDEN_NAME);
            self.warning = self.warning.map(|warning| warning.replace(name, HIDDEN_NAME));
        }
        self
    }
}

impl KnownNames {
    /// The names in an OpenAPI document.
    pub fn from_document(document: &Value) -> Self {
        let mut operations: HashMap<String, HashMap<String, Arc<OperationNames>>> = HashMap::new();
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            let of_path = operations.entry(path.clone()).or_default();
            for (method, operation) in item.as_object().into_iter().flatten() {
                let names = OperationNames::read(path, operation, document);
                of_path.insert(method.to_ascii_uppercase(), Arc::new(names));
            }
        }
        Self { operations }
    }

    /// The names of an operation; `None`: there is none.
    pub fn find(&self, template: &str, method: &Method) -> Option<&Arc<OperationNames>> {
        let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
        self.operations.get(template)?.get(method)
    }
}

impl OperationNames {
    fn read(path: &str, operation: &Value, document: &Value) -> Self {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let query = parameters.filter(|parameter| parameter["in"] == "query");
        let schema = operation.pointer("/requestBody/content/application~1json/schema");
        Self {
            query: query.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned)).collect(),
            body: schema.map(|schema| NameTree::of_schema(schema, document)).unwrap_or_default(),
            is_coordinators: COORDINATOR_PATHS.iter().any(|prefix| path.starts_with(prefix))
                && !OWN_PATHS.iter().any(|prefix| path.starts_with(prefix)),
            is_api: path.starts_with("/api/"),
            is_public: operation["security"].as_array().is_none_or(Vec::is_empty),
        }
    }

    /// Whether a caller without a valid key may use it.
    pub fn is_public(&self) -> bool {
        self.is_public
    }

    /// Check the names of a query.
    ///
    /// # Errors
    /// 422, with each parameter that nobody knows.
    pub fn check_query(&self, query: &str) -> Result<Vec<IgnoredName>, ApiError> {
        if query.bytes().filter(|byte| *byte == b'&').count() >= MAX_QUERY_PARAMETERS {
            let message = format!("At most {MAX_QUERY_PARAMETERS} parameters are taken");
            return Err(ApiError::invalid_field(vec!["query".into()], message, "too_long"));
        }
        // A query that can't be read is refused by whoever reads it.
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap_or_default();
        let unknown = pairs.into_iter().map(|(name, _)| name).filter(|name| !self.query.contains(name));
        let known: Vec<&str> = self.query.iter().map(String::as_str).collect();
        if !self.is_api {
            return Ok(unknown.map(|name| IgnoredName { path: name, warning: None }).collect());
        }
        let refused: Vec<FieldError> = unknown
            .map(|name| {
                let loc = vec!["query".into(), name.replace('\0', "").into()];
                FieldError::new(loc, refusal("parameter", &name, &known), "extra_forbidden")
            })
            .collect();
        if refused.is_empty() { Ok(Vec::new()) } else { Err(ApiError::unprocessable(refused)) }
    }

    /// Check the names of a JSON body. One that is not JSON is refused by whoever reads it.
    ///
    /// # Errors
    /// 422, with each member that nobody knows.
    pub fn check_body(&self, body: &[u8]) -> Result<Vec<IgnoredName>, ApiError> {
        if body.is_empty() {
            return Ok(Vec::new());
        }
        if self.body.is_bare() {
            // Nothing is taken, so an object with any member at all is of no use.
            let bare = NameTree::of_schema(&serde_json::json!({"properties": {}}), &Value::Null);
            return self.judge(bare.find_unknown(body).unwrap_or_default(), false);
        }
        let unknown = self.body.find_unknown(body).unwrap_or_default();
        let is_lost = !unknown.is_empty() && !self.names_any_member(body);
        self.judge(unknown, is_lost)
    }

    /// Whether a body has a member that is known or that the coordinator's clients send.
    fn names_any_member(&self, body: &[u8]) -> bool {
        let names: HashMap<String, serde::de::IgnoredAny> = serde_json::from_slice(body).unwrap_or_default();
        let known = self.body.names();
        names.keys().any(|name| known.contains(&name.as_str()) || COORDINATOR_MEMBERS.contains(&name.as_str()))
    }

    /// What becomes of unknown members: refused or reported. `is_lost`: the body has no other.
    fn judge(&self, unknown: Vec<UnknownName<'_>>, is_lost: bool) -> Result<Vec<IgnoredName>, ApiError> {
        let (mut refused, mut ignored) = (Vec::new(), Vec::new());
        for UnknownName { path, name, known, is_own } in unknown {
            let listed = path.len() == 1 && self.is_coordinators && COORDINATOR_MEMBERS.contains(&name.as_str());
            let lenient = self.is_coordinators && !is_own && !is_lost && nearest_name(&name, &known).is_none();
            if listed || lenient {
                let path = dotted(&path);
                let warning = (!listed).then(|| format!("`{path}` was ignored: {}", refusal("member", &name, &known)));
                ignored.push(IgnoredName { path, warning });
            } else {
                let loc = std::iter::once("body".into()).chain(path).collect();
                refused.push(FieldError::new(loc, refusal("member", &name, &known), "extra_forbidden"));
            }
        }
        if refused.is_empty() { Ok(ignored) } else { Err(ApiError::unprocessable(refused)) }
    }
}

/// What is said of an unknown name.
fn refusal(what: &str, name: &str, known: &[&str]) -> String {
    if let Some(nearest) = nearest_name(name, known) {
        return format!("Unknown {what}; did you mean `{nearest}`?");
    }
    if known.is_empty() {
        return format!("Unknown {what}; none is taken here");
    }
    let more = if known.len() > MAX_LISTED { ", ..." } else { "" };
    let list = known.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let hint = if what == "member" && known.contains(&"inputs") { ". Put your data under `inputs`" } else { "" };
    format!("Unknown {what}; known are {list}{more}{hint}")
}

/// The known name that `name` is most like, if it is like one.
pub fn nearest_name<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let name: String = name.chars().take(200).collect::<String>().to_lowercase();
    let likeness = |other: &&str| strsim::jaro_winkler(&name, &other.to_lowercase());
    let best = known.iter().copied().max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(&best) >= MISSPELT).then_some(best)
}

fn dotted(path: &[LocationSegment]) -> String {
    let segments = path.iter().map(|segment| match segment {
        LocationSegment::Name(name) => name.to_string(),
        LocationSegment::Index(index) => index.to_string(),
    });
    segments.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::error::ErrorDetail;

    fn operation(path: &str, schema: Value) -> OperationNames {
        let document = json!({
            "components": {"schemas": {
                "Kind": {"oneOf": [
                    {"type": "object", "properties": {"kind": {"type": "string", "enum": ["http"]}, "body": {}}},
                    {"type": "object", "properties": {"kind": {"type": "string", "const": "jq"}, "program": {"type": "string"}}},
                ], "discriminator": {"propertyName": "kind"}},
            }},
            "paths": {path: {"post": {
                "parameters": [{"in": "query", "name": "limit"}, {"in": "path", "name": "id"}],
                "requestBody": {"content": {"application/json": {"schema": schema}}},
            }}},
        });
        let names = KnownNames::from_document(&document);
        Arc::try_unwrap(names.operations.into_iter().next().unwrap().1.into_iter().next().unwrap().1).unwrap()
    }

    fn schema() -> Value {
        json!({"oneOf": [{"type": "null"}, {"type": "object", "properties": {
            "inputs": {"type": ["object", "null"]},
            "capabilities": {"type": "array", "items": {"type": "string"}, "description": "What it does. Also taken as `task_types` and `skills`."},
            "steps": {"type": "object", "additionalProperties": {"type": "object", "properties": {
                "timeout_seconds": {"type": "integer"}, "max_retries": {"type": "integer"},
                "action": {"$ref": "#/components/schemas/Kind"},
            }}},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "number"}}}},
        }}]})
    }

    /// Paths that are refused, and paths that are ignored.
    fn found(path: &str, body: Value) -> (Vec<String>, Vec<String>) {
        match operation(path, schema()).check_body(body.to_string().as_bytes()) {
            Ok(ignored) => (vec![], ignored.into_iter().map(|name| name.path).collect()),
            Err(error) => {
                let ErrorDetail::Fields(fields) = error.detail else { panic!("{error}") };
                (fields.into_iter().map(|field| dotted(&field.loc)).collect(), vec![])
            }
        }
    }

    const OWN: &str = "/api/v1/agents/plans";
    const COORDINATORS: &str = "/api/v1/agents/workflows";

    #[test]
    fn what_is_known_passes() {
        let body = json!({
            "inputs": {"anything": {"at": ["all"]}}, "task_types": [], "skills": ["x"], "capabilities": [],
            "steps": {"any name": {"max_retries": 1, "action": {"kind": "jq", "program": "."}}, "b": {"action": {"body": {"q": 1}, "kind": "http"}}},
            "rows": [{"x": 1}, {}],
        });
        for path in [OWN, COORDINATORS] {
            assert_eq!(found(path, body.clone()), (vec![], vec![]));
            assert_eq!(found(path, json!(null)), (vec![], vec![]));
        }
    }

    #[test]
    fn what_nobody_knows_is_refused_or_reported() {
        let name = |text: &str| vec![text.to_owned()];
        let table = [
            (json!({"inputs": {}, "note": 1}), name("body.note"), name("note")),
            (json!({"inputs": {}, "workflow_id": 1}), name("body.workflow_id"), name("workflow_id")),
            (json!({"steps": {"a": {"note": 1}}}), name("body.steps.a.note"), name("steps.a.note")),
            (json!({"rows": [{}, {"y": 1}]}), name("body.rows.1.y"), name("rows.1.y")),
        ];
        for (body, refused, ignored) in table {
            assert_eq!(found(OWN, body.clone()), (refused, vec![]));
            assert_eq!(found(COORDINATORS, body), (vec![], ignored));
        }
        // Misspelt, of this service alone, or nothing else is there.
        for body in [
            json!({"steps": {"a": {"timeout": 1}}}),
            json!({"steps": {"a": {"max_retry": 1}}}),
            json!({"steps": {"a": {"action": {"kind": "http", "method": "GET"}}}}),
            json!({"steps": {"a": {"action": {"method": "GET", "kind": "jq"}}}}),
            json!({"steps": {"a": {"action": {"kind": "http", "program": "."}}}}),
            json!({"input": {}}),
            json!({"sku": 1}),
        ] {
            for path in [OWN, COORDINATORS] {
                let (refused, ignored) = found(path, body.clone());
                assert!(refused.len() == 1 && ignored.is_empty(), "{path}: {body}: {refused:?} {ignored:?}");
            }
        }
    }

    #[test]
    fn refusals_help() {
        let names = operation(COORDINATORS, schema());
        let text = |body: &str| names.check_body(body.as_bytes()).unwrap_err().to_string();
        assert!(text(r#"{"steps": {"a": {"max_retry": 3}}}"#).contains("did you mean `max_retries`?"));
        assert!(text(r#"{"steps": {"a": {"timeout": 3}}}"#).contains("did you mean `timeout_seconds`?"));
        assert!(text(r#"{"sku": 1}"#).contains("Put your data under `inputs`"));
        assert!(names.check_query("limits=1").unwrap_err().to_string().contains("did you mean `limit`?"));
        assert!(names.check_query("limit=1&since=2").is_err() && names.check_query("limit=1&limit=2").is_ok());
        assert!(names.check_query("id=1").is_err(), "it is a parameter of the path");
        let probe = operation("/health", json!({"type": "object", "properties": {}}));
        assert_eq!(probe.check_query("x=1").unwrap().len(), 1);
        let nothing = operation(OWN, Value::Null);
        assert!(nothing.check_body(b"{\"x\": 1}").is_ok(), "a schema that says nothing takes anything");
    }
}
