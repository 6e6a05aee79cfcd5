//! The service's executable: `serve` (default), `migrate`, `keys`, `openapi`, `verify-receipt`.

mod commands;

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use agent_management::{
    config::{Config, LogFormat, Sources},
    crypto::PublicKey,
    lifecycle, logging,
    orchestration::receipts,
    rl, routes,
};
use clap::{Parser, Subcommand};

/// Requests are many small allocations on few threads; the C library's allocator was a fifth of their time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The agent service of the AITBC marketplace: durable agent workflows on the coordinator's database.
///
/// Settings come from the environment, an optional TOML file and `.env`; `.env.example` documents each.
#[derive(Parser)]
#[command(version, arg_required_else_help = false)]
struct Arguments {
    /// Settings file (TOML).
    #[arg(long, global = true, env = "AGENT_MANAGEMENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HTTP until SIGTERM or SIGINT (the default).
    Serve,
    /// Make what the database lacks, check what stands, and end.
    Migrate,
    /// Make, list, rotate and take back API keys, beside the configured ones; running servers see it at once.
    #[command(subcommand)]
    Keys(commands::keys::Command),
    /// Print the OpenAPI document.
    Openapi,
    /// Check a receipt offline: exit 0 when it is valid, 1 when it is not.
    VerifyReceipt {
        /// The receipt, as the receipt route answers it; `-` for standard input.
        file: PathBuf,
        /// The public key in hex, from `/api/v1/agents/receipts/keys`.
        #[arg(long, value_name = "HEX", required = true)]
        public_key: Vec<String>,
    },
}

fn main() -> ExitCode {
    // Crash points are set by the variable FAILPOINTS, for as long as this lives.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let arguments = Arguments::parse();
    rl::keep_freed_memory();
    let result = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            with_config(arguments.config, |config| block_on(lifecycle::serve(config))?.map_err(Into::into))
        }
        Command::Migrate => with_config(arguments.config, |config| {
            block_on(async move { lifecycle::migrate(&config).await })??.iter().for_each(|line| print(line));
            Ok(())
        }),
        Command::Keys(command) => with_config(arguments.config, |config| {
            block_on(async move { commands::keys::run(&config, command).await })?
        }),
        Command::Openapi => {
            routes::document(routes::groups()).to_pretty_json().map(|json| print(&json)).map_err(Into::into)
        }
        Command::VerifyReceipt { file, public_key } => verify(&file, &public_key),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the log may not be set up, and a person reads this")]
            {
                eprintln!("agent-management: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

/// What a command was asked to print. A reader that has seen enough (`| head`) is no fault.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn with_config(file: Option<PathBuf>, run: impl FnOnce(Config) -> Result<(), Failure>) -> Result<(), Failure> {
    let config = Config::load(Sources::of_process(file))?;
    let (writer, _guard) = logging::lines(std::io::stderr())?;
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log_level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match config.log_format {
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
    run(config)
}

fn block_on<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work))
}

fn verify(file: &std::path::Path, keys: &[String]) -> Result<(), Failure> {
    let text = if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?
    };
    let receipt = serde_json::from_str(&text).map_err(|error| format!("{}: no JSON: {error}", file.display()))?;
    let keys = keys.iter().map(|key| PublicKey::from_hex(key)).collect::<Result<Vec<_>, _>>()?;
    let verdict = receipts::verify(&receipt, &keys);
    print(&serde_json::to_string_pretty(&verdict)?);
    if verdict.valid { Ok(()) } else { Err("the receipt is not valid".into()) }
}
