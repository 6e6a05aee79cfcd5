//! Command `audit`: entries of the audit log, read from the database.

use std::{collections::HashMap, io::Write as _};

use agent_management::app;
use am_audit::{AuditEntryView, AuditFilter, AuditPageRequest, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
};
use am_keys::{ApiKey, ApiKeyService};
use clap::{Args, builder::PossibleValuesParser, builder::TypedValueParser as _};
use serde_json::{Value, json};

use super::{
    CommandError,
    output::{OutputForm, cell, print_document, print_table},
    since_moment::{SinceMoment, parse_since},
};

/// Entries that are read at once.
const PAGE_ROWS: u32 = 500;

/// Which entries are listed.
#[derive(Args)]
pub struct AuditListArguments {
    /// Only entries that are not older: a duration (12h, 7d), a date (2027-01-31, 00:00 UTC) or a time (RFC 3339).
    #[arg(long, value_name = "7d|DATE", value_parser = parse_since)]
    since: Option<SinceMoment>,
    /// Only entries caused by this principal, or by the managed key of this name or id.
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Only entries of this event.
    #[arg(long, value_name = "EVENT", value_parser = event_parser())]
    kind: Option<EventType>,
    /// Only entries about this kind of resource (`event_data.resource`), such as `api_key` or `policy`.
    #[arg(long, value_name = "KIND")]
    resource: Option<String>,
    /// Number of entries, the newest first.
    #[arg(long, default_value_t = 50, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all entries.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Print JSON on a terminal too.
    #[arg(long)]
    json: bool,
}

fn event_parser() -> impl clap::builder::TypedValueParser<Value = EventType> {
    PossibleValuesParser::new(EventType::ALL.iter().map(|event| event.value()))
        .try_map(|text| EventType::from_value(&text).ok_or("not an event"))
}

/// List entries, the newest first.
pub async fn list_entries(config: &Config, arguments: AuditListArguments) -> Result<(), CommandError> {
    let (clock, ids) = (Clock::system(), IdGenerator::system()?);
    let db = app::open_database(config).await?;
    let (audit, _) = app::open_audit(config, &db, &clock, &ids).await?;
    let keys = ApiKeyService::open(db.clone(), clock.clone(), ids, audit.clone()).await?.list().await?;
    let user = arguments.by.as_ref().map(|who| vec![principal_of(&keys, who)]);
    let filter = AuditFilter { event_type: arguments.kind, user, ..AuditFilter::default() };
    let since = arguments.since.map(|since| since.instant(&clock));
    let wanted = if arguments.all { usize::MAX } else { arguments.limit as usize };
    let mut page = AuditPageRequest { after: None, oldest_first: false, limit: PAGE_ROWS, offset: 0 };
    let mut entries = Vec::new();
    let has_more = 'pages: loop {
        let found = audit.search(&filter, &page).await?;
        for entry in found.entries {
            if since.is_some_and(|since| entry.timestamp.0 < since) {
                break 'pages false;
            }
            if is_about(&entry, arguments.resource.as_deref()) {
                if entries.len() == wanted {
                    break 'pages true;
                }
                entries.push(entry);
            }
        }
        match found.next {
            Some((_, id)) => page.after = Some(id),
            None => break false,
        }
    };
    db.close().await;
    let names: HashMap<String, String> = keys.into_iter().map(|key| (key.principal.to_string(), key.name)).collect();
    print_entries(&entries, &names, arguments.json)?;
    if has_more {
        let _ = writeln!(std::io::stderr(), "the first {} entries; --all or --limit shows more", entries.len());
    }
    Ok(())
}

/// The principal of a key that is named, or the words themselves.
fn principal_of(keys: &[ApiKey], who: &str) -> String {
    let key = keys.iter().find(|key| key.name == who || key.id == who);
    key.map_or_else(|| who.to_owned(), |key| key.principal.to_string())
}

fn is_about(entry: &AuditEntryView, resource: Option<&str>) -> bool {
    let Some(resource) = resource else { return true };
    let data = entry.event_data.parse::<Value>().ok().flatten().unwrap_or_default();
    data["resource"] == resource
}

fn print_entries(entries: &[AuditEntryView], names: &HashMap<String, String>, json: bool) -> Result<(), CommandError> {
    let name = |entry: &AuditEntryView| names.get(entry.user_id.as_ref()?.as_str()).cloned();
    if OutputForm::choose(json) == OutputForm::Json {
        let mut shown = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut document = serde_json::to_value(entry)?;
            document["key_name"] = json!(name(entry));
            shown.push(document);
        }
        print_document(&Value::Array(shown));
        return Ok(());
    }
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        let document = serde_json::to_value(entry)?;
        let data = &document["event_data"];
        let by = name(entry).unwrap_or_else(|| cell(&document["user_id"]));
        let what = match (data["resource"].as_str(), data["action"].as_str()) {
            (Some(resource), Some(action)) => format!("{resource} {action}"),
            _ => "-".to_owned(),
        };
        let subjects = ["step_id", "execution_id", "workflow_id"].map(|name| &document[name]);
        let about = subjects.into_iter().find(|subject| !subject.is_null()).map_or_else(|| "-".to_owned(), cell);
        let [time, event, risk, source] =
            ["timestamp", "event_type", "risk_score", "source"].map(|name| cell(&document[name]));
        rows.push(vec![time, event, by, what, about, risk, source]);
    }
    print_table(&["TIME (UTC)", "EVENT", "BY", "WHAT", "ABOUT", "RISK", "SOURCE"], rows);
    Ok(())
}
