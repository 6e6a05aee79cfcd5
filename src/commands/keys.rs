//! Commands `keys create|list|revoke|rotate`.

use std::{io::Write as _, time::Duration};

use agent_management::app;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
    ids::AgentId,
};
use am_db::codec::Timestamp;
use am_keys::{ApiKey, ApiKeyService, Expiry, IssuedKey, KeyRole};
use chrono::{DateTime, NaiveDate, NaiveTime};
use clap::{Subcommand, builder::PossibleValuesParser, builder::TypedValueParser as _};
use secrecy::ExposeSecret as _;

use super::{CommandError, print_output};

/// Subcommands of `keys`.
#[derive(Subcommand)]
pub enum KeysCommand {
    /// Create a key and print it to standard output. It is shown once; only a salted hash is stored.
    #[command(
        after_help = "Examples:\n  agent-management keys create --name ci --role admin --expires 90d\n  agent-management keys create --name bobs --role agent --agent bob"
    )]
    Create {
        /// Name: 1 to 64 letters, digits, `_`, `.` and `-`. The name of a revoked key can't be used again.
        #[arg(long)]
        name: String,
        /// Routes that the key may call.
        #[arg(long, value_parser = role_parser())]
        role: KeyRole,
        /// Agent that a key of the role `agent` is bound to. From then on no other key sends in the agent's name.
        #[arg(long, value_name = "ID", required_if_eq("role", "agent"))]
        agent: Option<String>,
        /// Expiry: a duration (12h, 90d), a date (2027-01-31, 00:00 UTC), a time (RFC 3339) or `never`.
        #[arg(long, value_name = "90d|DATE", default_value = "never", value_parser = parse_expiry)]
        expires: Expiry,
    },
    /// List all keys, expired and revoked ones included, without their secrets.
    List {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key permanently. Running servers refuse it within two seconds.
    Revoke {
        /// Name or id of the key.
        #[arg(value_name = "NAME_OR_ID")]
        key: String,
    },
    /// Replace a key's secret and print the new one, once. The principal and its resources stay.
    #[command(after_help = "Example:\n  agent-management keys rotate ci --grace 1h")]
    Rotate {
        /// Name or id of the key.
        #[arg(value_name = "NAME_OR_ID")]
        key: String,
        /// How long the previous secret stays valid (30m, 1h). Older secrets become invalid at once.
        #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
        grace: Duration,
        /// New expiry, in the forms of `create`. Default: unchanged.
        #[arg(long, value_name = "90d|DATE", value_parser = parse_expiry)]
        expires: Option<Expiry>,
    },
}

fn role_parser() -> impl clap::builder::TypedValueParser<Value = KeyRole> {
    PossibleValuesParser::new(KeyRole::ALL.iter().map(|role| role.value()))
        .try_map(|text| KeyRole::from_value(&text).ok_or("not a role"))
}

fn parse_expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry::Never);
    }
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(Expiry::Until(Timestamp(date.and_time(NaiveTime::MIN).and_utc())));
    }
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(Expiry::Until(Timestamp(moment.to_utc())));
    }
    let time = humantime::parse_duration(text).map(Expiry::For);
    time.map_err(|_| "should be a time such as 12h or 90d, a date such as 2027-01-31, or never".to_owned())
}

/// Run the operation on the configured database.
///
/// # Errors
/// The reason for which it failed.
pub async fn run_keys_command(config: &Config, command: KeysCommand) -> Result<(), CommandError> {
    if !config.database.exists() {
        let path = config.database.display();
        return Err(format!("there is no database {path}: start the service or run `agent-management migrate`").into());
    }
    let clock = Clock::system();
    let ids = IdGenerator::system()?;
    let db = app::open_database(config).await?;
    let (audit, _) = app::open_audit(config, &db, &clock, &ids).await?;
    let keys = ApiKeyService::open(db.clone(), clock, ids, audit).await?;
    let done = run_on_keys(&keys, command).await;
    db.close().await;
    done
}

async fn run_on_keys(keys: &ApiKeyService, command: KeysCommand) -> Result<(), CommandError> {
    match command {
        KeysCommand::Create { name, role, agent, expires } => {
            print_issued_key("made", &keys.create(&name, role, agent.map(AgentId::from), expires).await?)
        }
        KeysCommand::List { json: true } => print_output(&serde_json::to_string_pretty(&keys.list().await?)?),
        KeysCommand::List { json: false } => print_output(&format_table(&keys.list().await?)),
        KeysCommand::Revoke { key } => {
            let key = keys.revoke(&key).await?;
            print_output(&format!("revoked key '{}' ({})", key.name, key.id));
        }
        KeysCommand::Rotate { key, grace, expires } => {
            print_issued_key("rotated", &keys.rotate(&key, grace, expires).await?)
        }
    }
    Ok(())
}

/// Print the key alone to standard output, so that a script can read it, and everything else to standard error.
fn print_issued_key(done: &str, IssuedKey { key, secret }: &IssuedKey) {
    print_output(secret.expose_secret());
    let mut text = format!("{done} key '{}' ({}): {}, {}", key.name, key.id, key.role, key.principal);
    if let Some(agent) = &key.agent_id {
        text += &format!(", bound to agent '{agent}'");
    }
    if let Some(end) = key.expires_at {
        text += &format!(", expires {end}");
    }
    if let Some(until) = key.previous_until {
        text += &format!("; the previous secret is accepted until {until}");
    }
    let _ = writeln!(std::io::stderr(), "{text}\nThis is the only time that the key is shown.");
}

fn format_table(keys: &[ApiKey]) -> String {
    let moment = |at: Option<Timestamp>| at.map_or("never".to_owned(), |at| at.0.format("%F %T").to_string());
    let heads =
        ["ID", "NAME", "ROLE", "AGENT", "STATE", "PRINCIPAL", "CREATED", "EXPIRES", "LAST USED"].map(str::to_owned);
    let rows = keys.iter().map(|key| {
        let (created, expires) = (moment(Some(key.created_at)), moment(key.expires_at));
        let used = moment(key.last_used_at);
        let [role, state] = [key.role.value(), key.state.word()].map(str::to_owned);
        let agent = key.agent_id.as_ref().map_or("-".to_owned(), AgentId::to_string);
        [key.id.to_string(), key.name.clone(), role, agent, state, key.principal.to_string(), created, expires, used]
    });
    let rows: Vec<[String; 9]> = std::iter::once(heads).chain(rows).collect();
    let widths: [usize; 9] = std::array::from_fn(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or_default());
    let line = |row: &[String; 9]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::CliArguments;

    #[test]
    fn a_command_line_that_says_too_little_or_nonsense_is_refused() {
        let read =
            |line: &str| CliArguments::try_parse_from(["agent-management", "keys"].into_iter().chain(line.split(' ')));
        for good in [
            "create --name ci --role admin",
            "create --name ci --role miner --expires 90d",
            "create --name bobs --role agent --agent bob",
            "list",
            "list --json",
            "revoke ci",
            "rotate ci",
            "rotate ci --grace 1h --expires never",
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in [
            "create --name ci",
            "create --role admin",
            "create --name ci --role root",
            "create --name ci --role agent",
            "create --name ci --role ADMIN",
            "create --name ci --role admin --expires soon",
            "list all",
            "revoke",
            "revoke one two",
            "rotate",
            "rotate ci --grace long",
            "rotate ci --grace -1h",
            "dance",
        ] {
            assert!(read(bad).is_err_and(|error| error.exit_code() == 2), "{bad}");
        }
    }

    #[test]
    fn a_term_is_a_time_a_date_a_moment_or_never() {
        let until = |text: &str| Some(Expiry::Until(Timestamp(text.parse().unwrap())));
        for (text, expected) in [
            ("never", Some(Expiry::Never)),
            ("90d", Some(Expiry::For(Duration::from_secs(90 * 86400)))),
            ("1h 30m", Some(Expiry::For(Duration::from_secs(5400)))),
            ("2027-01-31", until("2027-01-31T00:00:00Z")),
            ("2027-01-31T12:00:00+02:00", until("2027-01-31T10:00:00Z")),
            ("", None),
            ("soon", None),
            ("90", None),
            ("-1d", None),
            ("2027-02-30", None),
        ] {
            assert_eq!(parse_expiry(text).ok(), expected, "{text}");
        }
    }
}
