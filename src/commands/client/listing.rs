//! Rows of a list of the API, from as many pages as a command asks for.

use am_core::ambient::Clock;
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::Value;

use crate::commands::since_moment::{SinceMoment, parse_since};

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
    /// Number of all rows that match, where the service counts them. `--since` is no part of it.
    pub total: Option<u64>,
}

/// The first rows of a list, which has the newest first by its member `time`.
///
/// # Errors
/// Any but good answers.
pub async fn list_rows(
    client: &ServiceClient,
    path: &str,
    query: &[(&str, String)],
    arguments: &ListArguments,
    time: &str,
) -> Result<ListedRows, ServiceError> {
    let wanted = if arguments.all { usize::MAX } else { arguments.limit as usize };
    let since = arguments.since.map(|since| since.instant(&Clock::system()));
    let query = [query, &[("limit", wanted.min(PAGE_ROWS).to_string())]].concat();
    let mut answer = client.get(path, &query).await?;
    let total = answer.total();
    let mut rows = Vec::new();
    loop {
        let next = answer.next_page();
        let Value::Array(page) = answer.body else {
            return Err(ServiceError::Foreign { url: client.url().to_string(), what: format!("{path} is no list") });
        };
        for row in page {
            if is_before(&row[time], since) {
                return Ok(ListedRows { rows, has_more: false, total });
            }
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

fn is_before(at: &Value, since: Option<DateTime<Utc>>) -> bool {
    let at = at.as_str().and_then(|at| DateTime::parse_from_rfc3339(at).ok());
    at.zip(since).is_some_and(|(at, since)| at < since)
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
    fn rows_end_at_the_moment_and_rows_without_one_are_kept() {
        let since = Some("2027-01-31T00:00:00Z".parse().unwrap());
        for (at, expected) in [
            (json!("2027-01-30T23:59:59.999999Z"), true),
            (json!("2027-01-31T00:00:00.000000Z"), false),
            (json!(null), false),
            (json!("nonsense"), false),
        ] {
            assert_eq!(is_before(&at, since), expected, "{at}");
        }
        assert!(!is_before(&json!("2027-01-30T23:59:59Z"), None));
    }
}
