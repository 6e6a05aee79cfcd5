//! Commands other than serving: each is a function that prints its result and returns the reason of a failure.

pub mod archive;
pub mod audit;
pub mod audit_list;
pub mod backup;
pub mod client;
pub mod config_check;
pub mod disk;
pub mod keys;
pub mod ledger;
pub mod messages;
pub mod output;
pub mod proofs;
pub mod shell;
mod since_moment;

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use agent_management::logging;
use am_core::{
    config::{Config, ConfigSources, LogFormat},
    crypto::Ed25519PublicKey,
};
use am_orchestration::receipts;

/// Reason for the failure of a command, for people.
pub type CommandError = Box<dyn std::error::Error>;

/// Print the output of a command. A closed pipe (`| head`) is not an error.
pub fn print_output(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Run with the settings of this process, and its log on standard error.
pub fn run_with_config(
    file: Option<PathBuf>,
    run: impl FnOnce(Config) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let sources = ConfigSources::from_process(file);
    let origins = sources.origins();
    let config = Config::load(sources)?;
    let (writer, _guard) = logging::spawn_log_writer(std::io::stderr())?;
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log_level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match config.log_format {
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(true).init(),
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
    let database = config.database.clone();
    run(config).map_err(|error| match database.exists() {
        true => error,
        // Perhaps the settings are not those that were meant.
        false => format!("{error}{}", config_check::settings_hint(&origins)).into(),
    })
}

/// Run a future to completion.
pub fn run_to_completion<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work))
}

/// Read a file; `-` is standard input.
fn read_text(file: &Path) -> Result<String, CommandError> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    Ok(std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?)
}

/// Verify a receipt offline.
pub fn verify_receipt(file: &Path, keys: &[String]) -> Result<(), CommandError> {
    let text = read_text(file)?;
    let keys = keys.iter().map(|key| Ed25519PublicKey::from_hex(key)).collect::<Result<Vec<_>, _>>()?;
    let verdict = receipts::verify_receipt_text(text.as_bytes(), &keys);
    print_output(&serde_json::to_string_pretty(&verdict)?);
    if verdict.valid { Ok(()) } else { Err("the receipt is not valid".into()) }
}
