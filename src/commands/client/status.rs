//! Command `status`: how a running service is.

use serde_json::{Map, Value, json};

use crate::commands::{
    CommandError,
    output::{OutputForm, cell, print_document, print_table},
    print_output,
};

use super::service_client::{ServiceArguments, ServiceClient, ServiceError};

/// A list whose rows are counted.
struct CountedList {
    /// What is counted.
    name: &'static str,
    /// Path of the list.
    path: &'static str,
    /// Parameter of its query, and the value; `None`: all rows.
    filter: Option<(&'static str, &'static str)>,
}

const fn counted(name: &'static str, path: &'static str, filter: Option<(&'static str, &'static str)>) -> CountedList {
    CountedList { name, path, filter }
}

/// Path of the list of executions.
const RUNS: &str = "/api/v1/agents/executions";
/// Path of the list of jobs.
const JOBS: &str = "/api/v1/services/jobs";
/// Lists that are counted, in the order in which they are shown.
const COUNTED_LISTS: [CountedList; 7] = [
    counted("workflows", "/api/v1/agents/workflows", None),
    counted("runs_pending", RUNS, Some(("status", "pending"))),
    counted("runs_running", RUNS, Some(("status", "running"))),
    counted("runs_completed", RUNS, Some(("status", "completed"))),
    counted("runs_failed", RUNS, Some(("status", "failed"))),
    counted("jobs_queued", JOBS, Some(("state", "QUEUED"))),
    counted("jobs_running", JOBS, Some(("state", "RUNNING"))),
];

/// Print the service's version, its readiness checks and what the key's owner has in it.
///
/// # Errors
/// When there is no answer, or the service is not ready.
pub async fn show_status(arguments: &ServiceArguments) -> Result<(), CommandError> {
    let client = ServiceClient::new(arguments)?;
    let health = client.get("/health", &[]).await?.body;
    let ready = client.get_any("/health/ready").await?.body;
    let counts = if client.has_key() { Some(count_rows(&client).await?) } else { None };
    let is_ready = ready["status"] == "ready";
    match OutputForm::choose(arguments.json) {
        OutputForm::Json => {
            print_document(&json!({"url": client.url().as_str(), "health": health, "ready": ready, "counts": counts}));
        }
        OutputForm::Table => print_status(&client, &health, &ready, counts.as_ref()),
    }
    if is_ready { Ok(()) } else { Err(format!("the service is {}", cell(&ready["status"])).into()) }
}

async fn count_rows(client: &ServiceClient) -> Result<Map<String, Value>, ServiceError> {
    let mut counts = Map::new();
    for list in COUNTED_LISTS {
        let query = list.filter.into_iter().chain([("limit", "1")]);
        let query: Vec<_> = query.map(|(name, value)| (name, value.to_owned())).collect();
        counts.insert(list.name.to_owned(), json!(client.get(list.path, &query).await?.total()));
    }
    Ok(counts)
}

fn print_status(client: &ServiceClient, health: &Value, ready: &Value, counts: Option<&Map<String, Value>>) {
    let service = format!("{} {}", cell(&health["service"]), cell(&health["version"]));
    let status = format!("{}, {}", cell(&health["status"]), cell(&ready["status"]));
    let rows = [("service", service), ("address", client.url().to_string()), ("status", status)];
    print_table(&[], rows.map(|(name, value)| vec![name.to_owned(), value]));
    let checks = ready["checks"].as_array().into_iter().flatten().map(|check| {
        let word = if check["ok"] == true { "ok" } else { "FAILED" };
        let notice = if check["reason"].is_null() { &check["notice"] } else { &check["reason"] };
        vec![cell(&check["name"]), word.to_owned(), cell(notice)]
    });
    print_output("");
    print_table(&["CHECK", "RESULT", "NOTICE"], checks);
    print_output("");
    match counts {
        Some(counts) => print_table(
            &["OF THE KEY'S OWNER", "ROWS"],
            counts.iter().map(|(name, count)| vec![name.replace('_', " "), cell(count)]),
        ),
        None => print_output("no key is given (AGENT_MANAGEMENT_KEY, --key-file), so nothing is counted"),
    }
}
