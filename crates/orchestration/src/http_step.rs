//! Call that a step makes to a configured endpoint: parsed with the workflow, filled from its inputs when the step begins.

use std::collections::BTreeSet;

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::{
    mapping::{MappingContext, ResolveError},
    template::JsonTemplate,
};
use am_core::{
    config::{HttpEndpoint, HttpMethod},
    validation::{FieldPath, Violation, Violations, within},
    value_budget::ValueBudget,
};

/// Headers that one call may have of its own.
const MAX_OWN_HEADERS: usize = 32;
/// Bytes of the value of one header.
const MAX_HEADER_BYTES: usize = 4096;
/// Parameters that one call may have of its own, each item of a list among them.
const MAX_QUERY_PAIRS: usize = 100;
/// Bytes of all own parameters together, before they are encoded.
const MAX_QUERY_BYTES: usize = 8192;

/// Call of a step to an endpoint.
#[derive(Clone, Debug)]
pub struct HttpSpec {
    /// Name of the endpoint in the configuration.
    pub endpoint: String,
    /// Method of the request.
    pub method: HttpMethod,
    /// Members `body`, `headers` and `query`, as far as they are given, with paths in them.
    pub document: JsonTemplate,
}

/// A call whose values are filled in.
#[derive(Debug, PartialEq)]
pub struct PreparedRequest {
    /// Name of the endpoint in the configuration.
    pub endpoint: String,
    /// Method of the request.
    pub method: HttpMethod,
    /// Headers of its own, each name once.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Own parameters in the order of the definition as it is stored, to be added to those of the endpoint's URL.
    pub query: Vec<(String, String)>,
    /// JSON body; `None` sends none.
    pub body: Option<Value>,
}

/// Parse the members of an action of kind `http` that concern the request. `endpoint` is what the configuration has; `None`:
/// it is unknown, so what it allows is checked when the step begins.
///
/// # Errors
/// Every violation, with its path inside the action.
pub fn parse_http_request(
    name: &str,
    members: &Map<String, Value>,
    endpoint: Option<&HttpEndpoint>,
) -> Result<HttpSpec, Vec<Violation>> {
    let mut violations = Violations::default();
    let given = |member: &str| members.get(member).filter(|value| !value.is_null());
    let method = given("method").map_or(Some(HttpMethod::Post), |sent| sent.as_str().and_then(HttpMethod::from_name));
    violations.require(method.is_some(), "method", "must be GET, POST, PUT, PATCH or DELETE; by default it is POST");
    let method = method.unwrap_or(HttpMethod::Post);
    if let Some(message) = endpoint.and_then(|endpoint| refused_method(endpoint, method)) {
        violations.add("method", message);
    }
    let has_body = given("body").is_some();
    violations.require(!has_body || method != HttpMethod::Get, "body", "a GET has no body; use `query`");
    let mut document = Map::new();
    if let Some(headers) = given("headers") {
        violations.extend(within("headers", header_faults(headers, endpoint)));
        document.insert("headers".into(), headers.clone());
    }
    if let Some(query) = given("query") {
        violations.extend(within("query", query_faults(query, endpoint)));
        document.insert("query".into(), query.clone());
    }
    document.extend(members.get("body").map(|body| ("body".to_owned(), body.clone())));
    let document = violations.take(JsonTemplate::parse(Value::Object(document)));
    let spec = document.map(|document| HttpSpec { endpoint: name.to_owned(), method, document });
    violations.finish_with(spec)
}

/// Why an endpoint does not take this method.
fn refused_method(endpoint: &HttpEndpoint, method: HttpMethod) -> Option<String> {
    let methods = endpoint.methods.as_ref().filter(|methods| !methods.contains(&method))?;
    let allowed: Vec<&str> = methods.iter().map(|method| method.name()).collect();
    Some(format!("the endpoint does not take {}; one of {}", method.name(), allowed.join(", ")))
}

/// Why a call may not have a header of this name.
fn refused_header(name: &str, endpoint: &HttpEndpoint) -> Option<String> {
    if endpoint.headers.contains(&name.to_ascii_lowercase()) {
        return None;
    }
    let allowed = endpoint.headers.iter().cloned().collect::<Vec<_>>().join(", ");
    let allowed = if allowed.is_empty() { "it takes none".to_owned() } else { format!("it takes {allowed}") };
    Some(format!("is not among the `headers` that the endpoint's configuration allows; {allowed}"))
}

fn header_faults(headers: &Value, endpoint: Option<&HttpEndpoint>) -> Vec<Violation> {
    let Some(headers) = headers.as_object() else {
        let expected = r#"must be an object, header to value: {"accept-language": "de"}"#;
        return vec![Violation::new(FieldPath::default(), expected)];
    };
    if headers.len() > MAX_OWN_HEADERS {
        return vec![Violation::new(FieldPath::default(), format!("at most {MAX_OWN_HEADERS} headers"))];
    }
    let (mut faults, mut seen) = (Vec::new(), BTreeSet::new());
    for (name, value) in headers {
        let mut fault = |message: String| faults.push(Violation::new([name], message));
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            fault("is no name of a header".to_owned());
        } else if let Some(message) = endpoint.and_then(|endpoint| refused_header(name, endpoint)) {
            fault(message);
        } else if !seen.insert(name.to_ascii_lowercase()) {
            fault("is given twice; the case of letters does not count".to_owned());
        } else if let Err(message) = scalar_text(value).and_then(|text| text.map(header_value).transpose()) {
            fault(message);
        }
    }
    faults
}

fn query_faults(query: &Value, endpoint: Option<&HttpEndpoint>) -> Vec<Violation> {
    let Some(query) = query.as_object() else {
        let expected = r#"must be an object, parameter to value: {"page": 2, "tag": ["a", "b"]}"#;
        return vec![Violation::new(FieldPath::default(), expected)];
    };
    let mut faults = Vec::new();
    for (name, value) in query {
        if let Some(message) = endpoint.and_then(|endpoint| refused_parameter(name, endpoint)) {
            faults.push(Violation::new([name], message));
        } else if let Err(message) = parameter_texts(value) {
            faults.push(Violation::new([name], message));
        }
    }
    if faults.is_empty()
        && let Err(message) = query_pairs(query)
    {
        faults.push(Violation::new(FieldPath::default(), message));
    }
    faults
}

/// Why a call may not have a parameter of this name.
fn refused_parameter(name: &str, endpoint: &HttpEndpoint) -> Option<String> {
    let url = reqwest::Url::parse(&endpoint.url).ok()?;
    let is_set = url.query_pairs().any(|(known, _)| known == name);
    is_set.then(|| "is set by the endpoint's configuration".to_owned())
}

/// Text of a value that stands for one header or parameter; `None` where it is null, which leaves it out.
fn scalar_text(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(_) | Value::Number(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => Err("must be a string, a number, true, false or null".to_owned()),
    }
}

fn header_value(text: String) -> Result<HeaderValue, String> {
    if text.len() > MAX_HEADER_BYTES {
        return Err(format!("has more than {MAX_HEADER_BYTES} bytes"));
    }
    let visible = text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    let value = if visible { HeaderValue::try_from(text).ok() } else { None };
    value.ok_or_else(|| "has characters that are not allowed in a header".to_owned())
}

fn parameter_texts(value: &Value) -> Result<Vec<String>, String> {
    let one = |value: &Value| {
        scalar_text(value).map_err(|_| "must be a string, a number, true, false, null, or a list of these".to_owned())
    };
    match value {
        Value::Array(items) => items.iter().filter_map(|item| one(item).transpose()).collect(),
        other => Ok(one(other)?.into_iter().collect()),
    }
}

/// Parameters in the order of the object; a list gives one for each item.
fn query_pairs(query: &Map<String, Value>) -> Result<Vec<(String, String)>, String> {
    let (mut pairs, mut bytes) = (Vec::new(), 0);
    for (name, value) in query {
        let texts = parameter_texts(value).map_err(|message| format!("{name:?} {message}"))?;
        for text in texts {
            bytes += name.len() + text.len();
            pairs.push((name.clone(), text));
        }
    }
    if pairs.len() > MAX_QUERY_PAIRS {
        return Err(format!("has more than {MAX_QUERY_PAIRS} parameters"));
    }
    if bytes > MAX_QUERY_BYTES {
        return Err(format!("has more than {MAX_QUERY_BYTES} bytes"));
    }
    Ok(pairs)
}

impl HttpSpec {
    /// Fill in the paths. Without a `body`, POST, PUT and PATCH send the step's input, and GET and DELETE nothing.
    ///
    /// # Errors
    /// The first path without a value, or whose value can't be sent.
    pub fn fill(
        &self,
        context: &dyn MappingContext,
        input: &Value,
        budget: &mut ValueBudget,
    ) -> Result<PreparedRequest, ResolveError> {
        let mut filled = self.document.fill(context, budget)?;
        let body = match filled.get_mut("body").map(Value::take) {
            Some(body) => Some(body).filter(|_| self.method != HttpMethod::Get),
            None => self.method.sends_input().then(|| input.clone()),
        };
        let fault = |path: String, message: String| ResolveError { path, message };
        let mut headers = Vec::new();
        for (name, value) in filled.get("headers").and_then(Value::as_object).into_iter().flatten() {
            let bad = |message| fault(format!("action.headers.{name}"), message);
            let Some(text) = scalar_text(value).map_err(bad)? else { continue };
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|error| bad(error.to_string()))?;
            headers.push((header, header_value(text).map_err(bad)?));
        }
        let query = match filled.get("query").and_then(Value::as_object) {
            Some(query) => query_pairs(query).map_err(|message| fault("action.query".to_owned(), message))?,
            None => Vec::new(),
        };
        Ok(PreparedRequest { endpoint: self.endpoint.clone(), method: self.method, headers, query, body })
    }
}

impl PreparedRequest {
    /// Check it against what the endpoint's configuration allows now: it may have changed since the workflow was made.
    ///
    /// # Errors
    /// What is not allowed.
    pub fn check_allowed(&self, endpoint: &HttpEndpoint) -> Result<(), String> {
        if let Some(message) = refused_method(endpoint, self.method) {
            return Err(message);
        }
        for (name, _) in &self.headers {
            if let Some(message) = refused_header(name.as_str(), endpoint) {
                return Err(format!("header {name:?} {message}"));
            }
        }
        for (name, _) in &self.query {
            if let Some(message) = refused_parameter(name, endpoint) {
                return Err(format!("parameter {name:?} {message}"));
            }
        }
        Ok(())
    }
}

/// Return the endpoint's URL with the parameters added, percent-encoded. `None`: the URL is invalid.
pub fn url_with_query(url: &str, query: &[(String, String)]) -> Option<reqwest::Url> {
    let mut url = reqwest::Url::parse(url).ok()?;
    if query.is_empty() {
        return Some(url);
    }
    let mut own = reqwest::Url::parse("http://a/").ok()?;
    own.query_pairs_mut().extend_pairs(query);
    // A plus is a space for forms only; a literal one is encoded already.
    let own = own.query().unwrap_or_default().replace('+', "%20");
    let joined = match url.query().filter(|known| !known.is_empty()) {
        Some(known) => format!("{known}&{own}"),
        None => own,
    };
    url.set_query(Some(&joined));
    Some(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::mapping::StepView;
    use am_core::{config::EndpointKind, money::Money, value_budget::ByteLimit};

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

    fn endpoint() -> HttpEndpoint {
        HttpEndpoint {
            url: "https://api.example/v1?token=t0ken".to_owned(),
            kind: EndpointKind::Json,
            bearer: None,
            price: Money::ZERO,
            methods: Some([HttpMethod::Get, HttpMethod::Post, HttpMethod::Delete].into()),
            headers: ["accept".to_owned(), "x-tenant".to_owned()].into(),
        }
    }

    fn parse(action: Value) -> Result<HttpSpec, Vec<String>> {
        let read = parse_http_request("e", action.as_object().unwrap(), Some(&endpoint()));
        read.map_err(|found| found.iter().map(|violation| violation.path.to_string()).collect())
    }

    fn fill(action: Value, inputs: Value) -> Result<PreparedRequest, String> {
        let mut budget = ValueBudget::new(ByteLimit { name: "TEST_BYTES", bytes: 1 << 20 });
        let filled = parse(action).unwrap().fill(&Inputs(inputs), &json!({"the": "input"}), &mut budget);
        filled.map_err(|error| error.to_string())
    }

    #[test]
    fn every_fault_is_named_where_it_stands() {
        for (action, paths) in [
            (json!({"method": "get"}), vec!["method"]),
            (json!({"method": 1}), vec!["method"]),
            (json!({"method": "PUT"}), vec!["method"]),
            (json!({"method": "GET", "body": {}}), vec!["body"]),
            (json!({"headers": []}), vec!["headers"]),
            (json!({"query": "a=1"}), vec!["query"]),
            (json!({"headers": {"authorization": "x"}}), vec!["headers.authorization"]),
            (json!({"headers": {"Host": "x"}}), vec!["headers.Host"]),
            (json!({"headers": {"a b": "x"}}), vec!["headers.a b"]),
            (json!({"headers": {"x-tenant": "a\r\nb: c"}}), vec!["headers.x-tenant"]),
            (json!({"headers": {"x-tenant": "é"}}), vec!["headers.x-tenant"]),
            (json!({"headers": {"x-tenant": "1", "X-Tenant": "2"}}), vec!["headers.X-Tenant"]),
            (json!({"headers": {"x-tenant": {}}}), vec!["headers.x-tenant"]),
            (json!({"headers": {"x-tenant": "x".repeat(MAX_HEADER_BYTES + 1)}}), vec!["headers.x-tenant"]),
            (json!({"query": {"token": "mine"}}), vec!["query.token"]),
            (json!({"query": {"a": {"b": 1}}}), vec!["query.a"]),
            (json!({"query": {"a": [[1]]}}), vec!["query.a"]),
            (json!({"query": {"a": vec![1; MAX_QUERY_PAIRS + 1]}}), vec!["query"]),
            (json!({"query": {"a": "x".repeat(MAX_QUERY_BYTES)}}), vec!["query"]),
            (json!({"query": {"a": "$.nowhere"}, "body": "$.["}), vec!["query.a", "body"]),
            (json!({"method": "FETCH", "headers": 1, "query": 2}), vec!["method", "headers", "query"]),
        ] {
            let mut found = parse(action.clone()).err().unwrap_or_default();
            let mut paths = paths;
            found.sort_unstable();
            paths.sort_unstable();
            assert_eq!(found, paths, "{action}");
        }
    }

    #[test]
    fn values_are_filled_in() {
        let action = json!({
            "method": "GET",
            "headers": {"X-Tenant": "$.inputs.tenant", "accept": null},
            "query": {"q": "$.inputs.text", "n": 2, "flag": true, "tag": ["a", "$.inputs.text"], "none": null},
        });
        let made = fill(action.clone(), json!({"tenant": "t1", "text": "a b&c=ü+"})).unwrap();
        assert_eq!(made.body, None);
        assert_eq!(made.headers, [(HeaderName::from_static("x-tenant"), HeaderValue::from_static("t1"))]);
        let url = url_with_query(&endpoint().url, &made.query).unwrap();
        assert_eq!(
            url.as_str(),
            "https://api.example/v1?token=t0ken&q=a%20b%26c%3D%C3%BC%2B&n=2&flag=true&tag=a&tag=a%20b%26c%3D%C3%BC%2B"
        );
        let bad = |inputs| fill(action.clone(), inputs).unwrap_err();
        assert!(bad(json!({"tenant": "t1\r\nx: y", "text": ""})).starts_with("action.headers.X-Tenant "));
        assert!(bad(json!({"tenant": {}, "text": ""})).starts_with("action.headers.X-Tenant "));
        assert!(bad(json!({"tenant": 1, "text": {}})).starts_with("action.query "));
        assert!(bad(json!({"tenant": 1})).starts_with("$.inputs.text "));
    }

    #[test]
    fn the_input_is_the_body_of_what_has_one() {
        let body = |action| fill(action, json!({})).unwrap().body;
        assert_eq!(body(json!({})), Some(json!({"the": "input"})));
        assert_eq!(body(json!({"body": null})), Some(Value::Null));
        assert_eq!(body(json!({"method": "GET"})), None);
        assert_eq!(body(json!({"method": "DELETE"})), None);
        assert_eq!(body(json!({"method": "DELETE", "body": [1]})), Some(json!([1])));
    }

    #[test]
    fn what_the_configuration_no_longer_allows_is_not_sent() {
        let made = fill(json!({"headers": {"accept": "a/b"}, "query": {"q": 1}}), json!({})).unwrap();
        assert_eq!(made.check_allowed(&endpoint()), Ok(()));
        let no_post = HttpEndpoint { methods: Some([HttpMethod::Get].into()), ..endpoint() };
        let no_headers = HttpEndpoint { headers: BTreeSet::new(), ..endpoint() };
        let own_query = HttpEndpoint { url: "https://api.example/?q=fixed".to_owned(), ..endpoint() };
        for (changed, named) in [(no_post, "POST"), (no_headers, "accept"), (own_query, "\"q\"")] {
            assert!(made.check_allowed(&changed).unwrap_err().contains(named));
        }
    }

    proptest! {
        #[test]
        fn parameters_are_read_as_they_were_given(pairs in prop::collection::vec((".{0,20}", ".{0,20}"), 1..6)) {
            let url = url_with_query("https://a.example/p?x=1", &pairs).unwrap();
            let read: Vec<(String, String)> =
                url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).skip(1).collect();
            prop_assert_eq!(read, pairs);
            prop_assert!(!url.query().unwrap_or_default().contains('+'));
            prop_assert_eq!(url.path(), "/p");
        }
    }
}
