//! Rows of a list of the API, from as many pages as a command asks for.

use am_core::ambient::Clock;
use chrono::{SecondsFormat, TimeDelta};
use clap::Args;
use serde_json::Value;

use crate::commands::{
    output::cell,
    since_moment::{SinceMoment, parse_since},
};

use super::service_client::{ServiceClient, ServiceError};

/// Largest page that the API answers, in rows.
const PAGE_ROWS: usize = 500;

/// How much of a list is shown.
#[derive(Args, Clone)]
pub struct ListArguments {
    /// Number of rows, the newest first.
    #[arg(long, default_value_t = 50, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all rows, however many there are.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Only rows that are not older: a duration (12h, 7d), a date (2027-01-31, 00:00 UTC) or a time (RFC 3339).
    #[arg(long, value_name = "7d|DATE", value_parser = parse_since)]
    since: Option<SinceMoment>,
}

/// Rows of a list.
pub struct ListedRows {
    /// The rows, the newest first.
    pub rows: Vec<Value>,
    /// Whether the list goes on.
    pub has_more: bool,
    /// Number of all rows that match, where the service counts them.
    pub total: Option<u64>,
}

/// The first rows of a list, the newest first.
///
/// # Errors
/// Any but good answers.
pub async fn list_rows(
    client: &ServiceClient,
    path: &str,
    query: &[(&str, String)],
    arguments: &ListArguments,
) -> Result<ListedRows, ServiceError> {
    let wanted = if arguments.all { usize::MAX } else { arguments.limit as usize };
    let mut query = [query, &[("limit", wanted.min(PAGE_ROWS).to_string())]].concat();
    if let Some(since) = arguments.since {
        // The service's bound is no part of what it bounds; times have microseconds.
        let since = since.instant(&Clock::system()) - TimeDelta::microseconds(1);
        query.push(("created_after", since.to_rfc3339_opts(SecondsFormat::Micros, true)));
    }
    let mut answer = client.get(path, &query).await?;
    let total = answer.total();
    let mut rows = Vec::new();
    loop {
        let next = answer.next_page();
        let Value::Array(page) = answer.body else {
            return Err(ServiceError::Foreign { url: client.url().to_string(), what: format!("{path} is no list") });
        };
        for row in page {
            if rows.len() == wanted {
                return Ok(ListedRows { rows, has_more: true, total });
            }
            rows.push(row);
        }
        let Some(next) = next else { return Ok(ListedRows { rows, has_more: false, total }) };
        if rows.len() == wanted {
            return Ok(ListedRows { rows, has_more: true, total });
        }
        answer = client.get(&next, &[]).await?;
    }
}

/// A member of a row as a cell; one that lists leave out because it is long is named as such.
pub fn listed_cell(row: &Value, name: &str) -> String {
    let omitted = row["omitted"].as_array().is_some_and(|omitted| omitted.iter().any(|member| *member == name));
    if omitted { "(long)".to_owned() } else { cell(&row[name]) }
}

/// What is said below a table that does not show all.
pub fn rest_notice(listed: &ListedRows) -> Option<String> {
    let shown = listed.rows.len();
    match (listed.has_more, listed.total) {
        (false, _) => None,
        (true, Some(total)) => Some(format!("{shown} of {total} rows; --all or --limit shows more")),
        (true, None) => Some(format!("the first {shown} rows; --all or --limit shows more")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_that_lists_leave_out_are_told_from_empty_ones() {
        let row = json!({"name": "n", "description": "", "steps": {}, "omitted": ["description", "steps"]});
        assert_eq!(["name", "description", "steps"].map(|name| listed_cell(&row, name)), ["n", "(long)", "(long)"]);
        assert_eq!(listed_cell(&json!({"error_message": null}), "error_message"), "-");
    }
}
