//! The service's executable: `serve` (default) and its other commands.

mod commands;

use std::{path::PathBuf, process::ExitCode};

use agent_management::{lifecycle, routes};
use clap::{Parser, Subcommand};

use commands::{block_on, print, with_config};

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
    /// An agent's own key: make one, seal to another's, open what was sealed to it.
    #[command(subcommand)]
    AgentKey(commands::messages::AgentKey),
    /// The keys that messages are encrypted at rest with.
    #[command(subcommand)]
    MessageKeys(commands::messages::MasterKeys),
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
    /// Write the audit log to standard output as JSON lines, from the database, with or without a server.
    ExportAudit,
    /// Verify an exported audit log offline: exit 0 when it is as it was signed, 1 when it is not.
    ///
    /// A log alone can't show that its end was cut off or that all of it was written anew: give the checkpoints that were
    /// kept elsewhere.
    VerifyAudit {
        /// The export, as `export-audit` or the export route writes it; `-` for standard input.
        file: PathBuf,
        /// The log's public key in hex, from `/api/v1/agents/security/audit-tree/head`, kept elsewhere.
        #[arg(long, value_name = "HEX")]
        public_key: String,
        /// A signed head that was kept elsewhere; may be given several times.
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
    },
    /// Check a proof that an entry is in the log, or that one head's log is the beginning of another's.
    VerifyAuditProof {
        /// The proof, as the routes below `/api/v1/agents/security/audit-tree` answer it; `-` for standard input.
        file: PathBuf,
        /// The log's public key in hex.
        #[arg(long, value_name = "HEX")]
        public_key: String,
    },
}

fn main() -> ExitCode {
    // Crash points are set by the variable FAILPOINTS, for as long as this lives.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let arguments = Arguments::parse();
    am_rl::keep_freed_memory();
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
        Command::AgentKey(command) => commands::messages::agent_key(command),
        Command::MessageKeys(command) => with_config(arguments.config, |config| {
            block_on(async move { commands::messages::master_keys(&config, command).await })?
        }),
        Command::Openapi => routes::document(routes::groups())
            .and_then(|document| serde_json::to_string_pretty(&document))
            .map(|json| print(&json))
            .map_err(Into::into),
        Command::VerifyReceipt { file, public_key } => commands::verify_receipt(&file, &public_key),
        Command::ExportAudit => with_config(arguments.config, |config| block_on(commands::audit::export(config))?),
        Command::VerifyAudit { file, public_key, checkpoint } => {
            commands::audit::verify(&file, &public_key, &checkpoint)
        }
        Command::VerifyAuditProof { file, public_key } => commands::audit::verify_proof(&file, &public_key),
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
