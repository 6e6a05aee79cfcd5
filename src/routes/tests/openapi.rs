//! The OpenAPI document of all routes.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    app::App,
    http::openapi,
    routes::{openapi_document, route_groups, with_system},
};

pub fn whole() -> Value {
    openapi_document(route_groups()).unwrap()
}

/// Each operation: method, path, itself.
pub fn operations(document: &Value) -> Vec<(&str, &str, &Map<String, Value>)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let all = item.as_object().unwrap().iter();
            all.map(move |(method, one)| (method.as_str(), path.as_str(), one.as_object().unwrap()))
        })
        .collect()
}

/// Calls `visit` with each value below `value` and where it stands.
fn walk(value: &Value, place: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(place, value);
    match value {
        Value::Object(members) => members.iter().for_each(|(name, one)| walk(one, &format!("{place}/{name}"), visit)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, one)| walk(one, &format!("{place}/{at}"), visit))
        }
        _ => {}
    }
}

#[test]
fn openapi_operation_ids_are_unique_resource_verb() {
    let document = whole();
    let mut seen = BTreeMap::new();
    let mut tags = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        let fine = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        assert!(id.contains('_') && id.split('_').all(fine), "{method} {path}: {id} is no resource_verb");
        let Some([tag]) = operation["tags"].as_array().map(Vec::as_slice) else { panic!("{id} has no one tag") };
        let tag = tag.as_str().unwrap();
        assert!(
            id.strip_prefix(tag).is_some_and(|verb| verb.starts_with('_')),
            "{id} does not begin with its tag {tag}"
        );
        tags.insert(tag);
        if let Some(other) = seen.insert(id, path) {
            panic!("{id} is the operation of {path} and of {other}");
        }
    }
    let described: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    assert_eq!(tags, described);
}

#[test]
fn openapi_schema_names_are_unique_and_references_resolve() {
    let collisions = openapi::collisions(&with_system::<App>(route_groups()).into_openapi());
    assert!(collisions.is_empty(), "several schemas have the same name; give them #[schema(as = ...)]: {collisions:?}");
    let document = whole();
    let mut dangling = BTreeSet::new();
    let mut used = BTreeSet::new();
    walk(&document, "", &mut |place, value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            used.insert(reference.to_owned());
            if document.pointer(&reference[1..]).is_none() {
                dangling.insert(format!("{place}: {reference}"));
            }
        }
    });
    assert!(dangling.is_empty(), "references lead nowhere: {dangling:#?}");
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(used.contains(&format!("#/components/schemas/{name}")), "nothing refers to {name}");
    }
}

#[test]
fn openapi_responses_are_described_and_typed() {
    let document = whole();
    for (method, path, operation) in operations(&document) {
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path} has no summary");
        let stated = path.starts_with("/api/") == operation["security"][0]["ApiKey"].is_array();
        assert!(stated || operation["security"] == Value::Array(Vec::new()), "{method} {path} names no roles");
        for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
            let described = parameter["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described, "{method} {path}: {} has no description", parameter["name"]);
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let shared = response["$ref"].as_str().map(|reference| document.pointer(&reference[1..]).unwrap());
            let response = shared.unwrap_or(response);
            let described = response["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described, "{method} {path}: {status} has no description");
            let empty = matches!(status.as_str(), "101" | "204" | "304");
            assert_eq!(response.get("content").is_none(), empty, "{method} {path}: {status}");
            for (kind, content) in response.get("content").and_then(Value::as_object).into_iter().flatten() {
                let schema = &content["schema"];
                let open =
                    ["/openapi.json", "/api/v1/services/{service_type}/schema"].contains(&path) && status == "200";
                let bare =
                    schema.get("type").is_some_and(|kind| kind == "object") && schema.get("properties").is_none();
                assert!(
                    schema.is_object() && (open || !bare),
                    "{method} {path}: {status} {kind} is not typed: {schema}"
                );
            }
        }
    }
}

#[test]
fn openapi_properties_are_described() {
    let document = whole();
    let schemas = &document["components"]["schemas"];
    let text = |schema: &Value| schema["description"].as_str().is_some_and(|text| !text.trim().is_empty());
    let mut bare = BTreeSet::new();
    walk(schemas, "", &mut |place, value| {
        let Some(properties) = value.get("properties").and_then(Value::as_object) else { return };
        for (name, property) in properties {
            // The tag of an alternative is the alternative's name.
            let tag = property.get("enum").is_some_and(|words| words.as_array().is_some_and(|words| words.len() == 1));
            let inner = property["oneOf"].as_array().into_iter().flatten().any(text);
            if !(tag || inner || text(property)) {
                bare.insert(format!("{place}/{name}"));
            }
        }
    });
    assert!(bare.is_empty(), "{} properties have no description: {bare:#?}", bare.len());
}

/// The words that serde takes for `T`, from what it says of a word that is none.
fn words_of<T: DeserializeOwned>(json: &str) -> BTreeSet<String> {
    let error = serde_json::from_str::<T>(json).err().unwrap().to_string();
    let (_, words) = error.split_once("expected ").unwrap();
    words.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn named<T: ToSchema + DeserializeOwned>() -> (String, BTreeSet<String>) {
    (T::name().into_owned(), words_of::<T>("\"no such word\""))
}

/// Those that requests have too are compared with what the server takes, in `tests/it/openapi.rs`.
#[test]
fn openapi_enumerations_of_answers_are_serdes() {
    let document = whole();
    let of_serde = [
        named::<am_orchestration::assignments::AssignmentState>(),
        named::<am_orchestration::assignments::AttemptOutcome>(),
        named::<am_orchestration::assignments::NotifyChannel>(),
        named::<am_orchestration::agents::MeasureSource>(),
        named::<am_orchestration::agents::OfflineReason>(),
        named::<am_orchestration::bulk::BulkAction>(),
        named::<am_orchestration::bulk::BulkOutcome>(),
        named::<am_orchestration::bulk::BulkStatus>(),
        named::<am_orchestration::executions::WaitKind>(),
        named::<am_orchestration::networks::NetworkActivity>(),
        named::<am_orchestration::plans::ConfidenceSource>(),
        named::<am_orchestration::plans::SplitBy>(),
        named::<am_security::sandbox::AttemptKind>(),
        named::<am_security::sandbox::TerminationReason>(),
        named::<am_security::reputation::ReputationSource>(),
        named::<am_audit::EntrySource>(),
        named::<am_communication::relations::AgentAuthorization>(),
        named::<am_communication::ChannelStatus>(),
        named::<am_communication::MessageStatus>(),
        named::<am_communication::encryption::EncryptionScope>(),
        named::<am_creativity::EmbeddingKind>(),
        named::<am_creativity::FigureOrigin>(),
        named::<am_creativity::IdeaSource>(),
        named::<am_creativity::WorkRole>(),
        named::<am_creativity::synthesis::DomainBasis>(),
        named::<am_creativity::algorithms::EnhancementAlgorithm>(),
        named::<am_deployment::InstanceHealth>(),
        named::<am_deployment::InstanceState>(),
        named::<am_deployment::RevisionState>(),
        named::<am_deployment::RolloutStrategy>(),
        named::<am_deployment::RolloutPhase>(),
        named::<am_deployment::alerts::DeploymentAlertRule>(),
        named::<am_proofs::IntegrationStatus>(),
        named::<am_ledger::EntryKind>(),
        named::<am_ledger::SpendingGroup>(),
        named::<am_marketplace::RequestState>(),
        named::<am_portfolio::TradeStatus>(),
        named::<am_portfolio::SettlementKind>(),
        named::<am_portfolio::SettlementVenue>(),
        named::<am_portfolio::SignalSide>(),
        named::<am_background::WorkWish>(),
        named::<am_performance::capabilities::CapabilityStanding>(),
        named::<am_performance::optimisation::TunedSubject>(),
        named::<am_performance::meta::MetaModelStatus>(),
        named::<am_performance::profiles::SeriesResolution>(),
        named::<am_performance::suites::EvaluationState>(),
        named::<am_performance::suites::ResultState>(),
        named::<am_performance::comparison::ComparedMeasure>(),
        named::<am_performance::comparison::ComparisonMethod>(),
        named::<am_performance::comparison::ComparisonVerdict>(),
        named::<am_performance::sweeps::TrialState>(),
        named::<am_rl::meta_learning::MetaAlgorithm>(),
        named::<am_rl::meta_learning::TaskFamily>(),
        named::<crate::routes::performance::rl::environments::EnvironmentKind>(),
        named::<am_rl::runs::ControlRequest>(),
        ("TrainingTaskKind".to_owned(), words_of::<am_rl::runs::TrainingTask>(r#"{"kind": "no such word"}"#)),
    ];
    // Whatever a request or a parameter refers to, directly or by way of others.
    let mut asked = BTreeSet::new();
    let mut open = Vec::new();
    for (_, _, operation) in operations(&document) {
        open.extend(operation.get("parameters").into_iter().chain(operation.get("requestBody")));
    }
    while let Some(value) = open.pop() {
        walk(value, "", &mut |_, value| {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str)
                && asked.insert(reference.to_owned())
            {
                open.extend(document.pointer(&reference[1..]));
            }
        });
    }
    let mut answered = BTreeMap::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let words = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        let words: BTreeSet<String> = words.collect();
        if !words.is_empty() && !asked.contains(&format!("#/components/schemas/{name}")) {
            answered.insert(name.clone(), words);
        }
    }
    assert_eq!(answered, BTreeMap::from(of_serde));
}

#[test]
fn openapi_document_is_the_committed_one() {
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json")).unwrap();
    let generated = serde_json::to_string_pretty(&whole()).unwrap() + "\n";
    let differs = committed.lines().zip(generated.lines()).position(|(one, other)| one != other);
    assert!(
        committed == generated,
        "docs/openapi.json is out of date from line {}: cargo run --bin agent-management -- openapi > docs/openapi.json",
        differs.map_or(committed.lines().count().min(generated.lines().count()), |line| line + 1)
    );
}
