//! Commands `runs retry-all|cancel-all`: operations on many executions.

use std::{io::Write as _, time::Duration};

use am_core::ambient::Clock;
use chrono::SecondsFormat;
use clap::Args;
use serde_json::{Value, json};

use crate::commands::{
    CommandError,
    output::{OutputForm, cell, print_document, print_members, print_table},
    since_moment::{SinceMoment, parse_since},
};

use super::service_client::ServiceClient;

/// Path of the operations of the API.
const EXECUTIONS_PATH: &str = "/api/v1/agents/executions";
/// Time between two looks at an operation that is followed.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);
/// Members of an operation that are shown, with their titles.
const SHOWN: [(&str, &str); 8] = [
    ("operation", "id"),
    ("action", "action"),
    ("status", "status"),
    ("executions", "total"),
    ("changed", "changed"),
    ("skipped", "skipped"),
    ("failed", "failed"),
    ("more match", "has_more"),
];

/// Which executions an operation is about.
#[derive(Args, Clone)]
pub struct BulkChoice {
    /// Only executions in this status; several are separated by commas. Default: all that can be changed.
    #[arg(long)]
    status: Option<String>,
    /// Only executions of this workflow.
    #[arg(long, value_name = "ID")]
    workflow: Option<String>,
    /// Only executions that are not older: a duration (12h, 7d), a date (2027-01-31, 00:00 UTC) or a time (RFC 3339).
    #[arg(long, value_name = "7d|DATE", value_parser = parse_since)]
    since: Option<SinceMoment>,
    /// Only executions that are older, in the same forms.
    #[arg(long, value_name = "7d|DATE", value_parser = parse_since)]
    before: Option<SinceMoment>,
    /// Only count them.
    #[arg(long)]
    dry_run: bool,
    /// Wait until each has its outcome. Exit status 1 if one was refused.
    #[arg(long, conflicts_with = "dry_run")]
    follow: bool,
}

impl BulkChoice {
    /// The filter of the request.
    fn filter(&self, failures: &[(&str, Option<String>)]) -> Value {
        let clock = Clock::system();
        let time = |moment: Option<SinceMoment>| {
            moment.map(|moment| moment.instant(&clock).to_rfc3339_opts(SecondsFormat::Micros, true))
        };
        let mut filter = json!({});
        let words = self.status.as_ref().map(|words| words.split(',').map(str::trim).collect::<Vec<_>>());
        if let Some(words) = words {
            filter["status"] = json!(words);
        }
        let texts = [
            ("workflow_id", self.workflow.clone()),
            ("created_after", time(self.since)),
            ("created_before", time(self.before)),
        ];
        let given = texts.iter().chain(failures).filter_map(|(name, text)| Some((*name, text.as_ref()?)));
        for (name, text) in given {
            filter[name] = json!(text);
        }
        filter
    }
}

/// Begin an operation, or count what it would be about.
///
/// # Errors
/// The reason for which it failed; executions that were refused, if it was followed.
pub async fn change_many(
    client: &ServiceClient,
    action: &str,
    mut body: Value,
    failures: &[(&str, Option<String>)],
    choice: &BulkChoice,
    form: OutputForm,
) -> Result<(), CommandError> {
    body["filter"] = choice.filter(failures);
    body["dry_run"] = json!(choice.dry_run);
    let mut answer = client.post(&format!("{EXECUTIONS_PATH}/{action}"), &[], &body).await?;
    if choice.follow {
        let path = format!("{EXECUTIONS_PATH}/operations/{}", cell(&answer["operation"]["id"]));
        while answer["operation"]["status"] == "running" {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
            answer["operation"] = client.get(&path, &[]).await?.body;
        }
    }
    match form {
        OutputForm::Json => print_document(&answer),
        OutputForm::Table => print_answer(&answer),
    }
    let failed = answer["operation"]["failed"].as_i64().unwrap_or(0);
    if choice.follow && failed > 0 { Err(format!("{failed} executions were refused").into()) } else { Ok(()) }
}

/// Print what an operation is about, for people.
fn print_answer(answer: &Value) {
    let operation = &answer["operation"];
    if operation.is_null() {
        let ids = answer["execution_ids"].as_array().into_iter().flatten();
        print_table(&["EXECUTION"], ids.map(|id| vec![cell(id)]));
        let more = if answer["has_more"] == true { " or more" } else { "" };
        let _ = writeln!(std::io::stderr(), "{}{more} match; nothing was changed", cell(&answer["count"]));
        return;
    }
    print_members(operation, &SHOWN);
    let faults = operation["faults"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> =
        faults.map(|fault| ["execution_id", "outcome", "reason"].map(|name| cell(&fault[name])).to_vec()).collect();
    if !rows.is_empty() {
        print_table(&["EXECUTION", "OUTCOME", "REASON"], rows);
    }
}
