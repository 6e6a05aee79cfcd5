//! Commands other than serving: each is a function that prints its result and returns the reason of a failure.

pub mod audit;
pub mod keys;
pub mod messages;

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use agent_management::logging;
use am_core::{
    config::{Config, LogFormat, Sources},
    crypto::PublicKey,
};
use am_orchestration::receipts;

/// Reason for the failure of a command, for people.
pub type Failure = Box<dyn std::error::Error>;

/// Print the output of a command. A closed pipe (`| head`) is not an error.
pub fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Run with the settings of this process, and its log on standard error.
pub fn with_config(file: Option<PathBuf>, run: impl FnOnce(Config) -> Result<(), Failure>) -> Result<(), Failure> {
    let config = Config::load(Sources::of_process(file))?;
    let (writer, _guard) = logging::lines(std::io::stderr())?;
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log_level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match config.log_format {
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(true).init(),
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
    run(config)
}

/// Run a future to completion.
pub fn block_on<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work))
}

/// Read a file; `-` is standard input.
fn text_of(file: &Path) -> Result<String, Failure> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    Ok(std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?)
}

/// Verify a receipt offline.
pub fn verify_receipt(file: &Path, keys: &[String]) -> Result<(), Failure> {
    let text = text_of(file)?;
    let receipt = serde_json::from_str(&text).map_err(|error| format!("{}: no JSON: {error}", file.display()))?;
    let keys = keys.iter().map(|key| PublicKey::from_hex(key)).collect::<Result<Vec<_>, _>>()?;
    let verdict = receipts::verify(&receipt, &keys);
    print(&serde_json::to_string_pretty(&verdict)?);
    if verdict.valid { Ok(()) } else { Err("the receipt is not valid".into()) }
}
