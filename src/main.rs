//! The service's executable: `serve` (default) and further commands.

mod commands;

use std::{path::PathBuf, process::ExitCode};

use agent_management::{lifecycle, routes};
use clap::{CommandFactory as _, Parser, Subcommand};
use rustix::fs::Mode;

use commands::{CommandError, client, client::ServiceArguments, print_output, run_to_completion, run_with_config};

/// Requests make many small allocations on few threads; the C library's allocator took a fifth of their time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `--version` tells of the build.
const LONG_VERSION: &str = agent_management::BUILD_TEXT;

/// The agent service of the AITBC marketplace: durable agent workflows on the coordinator's SQLite database.
///
/// Settings come from the environment, then `.env` in the working directory, then a TOML file; the first that has a
/// setting wins. `.env.example` documents every setting with its default and range.
#[derive(Parser)]
#[command(
    version,
    long_version = LONG_VERSION,
    arg_required_else_help = false,
    after_help = "Examples:
  agent-management                                        serve on 127.0.0.1:8012 with ./data/coordinator.db
  agent-management --config /etc/agent-management.toml serve
  agent-management keys create --name ci --role admin --expires 90d
  agent-management status
  agent-management workflows run workflow.json --input sku=a-17 --follow

Exit status: 0, done; 1, it failed, or what was followed or verified is not good; 2, an invalid command line."
)]
struct CliArguments {
    /// TOML file with settings. Its keys are the settings' names in lower case; unknown keys are refused.
    #[arg(long, global = true, env = "AGENT_MANAGEMENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<CliCommand>,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Serve HTTP until SIGTERM or SIGINT. This is the default command.
    Serve {
        /// Start although the key that signed the audit log's last head is lost. The log says so for ever.
        #[arg(long)]
        new_audit_key: bool,
    },
    /// Create missing tables, check the existing ones, then exit.
    ///
    /// The coordinator's tables are never altered. Exit status 1 and the name of the table if one does not fit.
    Migrate,
    /// Show the version, the readiness checks and the counts of a running service. Exit status 1 if it is not ready.
    Status {
        #[command(flatten)]
        service: ServiceArguments,
    },
    /// List, show, follow, retry and cancel executions of a running service.
    Runs {
        #[command(flatten)]
        service: ServiceArguments,
        #[command(subcommand)]
        command: commands::client::runs::RunsCommand,
    },
    /// List, show and execute workflows of a running service.
    Workflows {
        #[command(flatten)]
        service: ServiceArguments,
        #[command(subcommand)]
        command: commands::client::workflows::WorkflowsCommand,
    },
    /// List, show, follow and cancel jobs of a running service.
    Jobs {
        #[command(flatten)]
        service: ServiceArguments,
        #[command(subcommand)]
        command: commands::client::jobs::JobsCommand,
    },
    /// Copy the database, the weights of policies and the signing keys to a new directory, while everything runs.
    #[command(after_help = "Example:\n  agent-management backup /backup/$(date +%F)")]
    Backup {
        /// New or empty directory for the backup.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Print JSON on a terminal too.
        #[arg(long)]
        json: bool,
    },
    /// Verify a backup and put it in place of what is there, with the audit log's entry of it. Stop all services first.
    #[command(after_help = "Example:\n  agent-management restore /backup/2027-01-31 --reason \"disk failure\"")]
    Restore(commands::backup::RestoreArguments),
    /// List entries of the audit log, the newest first. Reads the database; a server may run or not.
    #[command(after_help = "Example:\n  agent-management audit --since 7d --by ci --kind workflow_deleted")]
    Audit(commands::audit_list::AuditListArguments),
    /// Serve one workflow of a running service as an instance of a deployment.
    ///
    /// Answers /health, /metrics and /invoke on a port of 127.0.0.1. The service starts instances by itself; the token that it gives each
    /// is read from a file or from standard input, never from an argument.
    #[command(
        after_help = "Example:\n  agent-management agent --workflow agent_0123abcd --port 20000 --token-file token --kept-id deploy_0123.1"
    )]
    Agent(am_agent_process::InstanceArguments),
    /// Check the settings.
    #[command(subcommand)]
    Config(commands::config_check::ConfigCommand),
    /// Print the completions of a shell.
    #[command(
        after_help = "Example:\n  agent-management completions bash > /usr/share/bash-completion/completions/agent-management"
    )]
    Completions {
        /// Shell that reads them.
        shell: clap_complete::Shell,
    },
    /// Write the man pages of all commands into a directory, or print the first one.
    Man {
        /// Directory for the pages. Default: the page of the program itself is printed.
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Create, list, rotate and revoke API keys.
    ///
    /// They are valid beside the configured keys (ADMIN_API_KEYS and its like). Running servers apply a change within
    /// two seconds.
    #[command(subcommand)]
    Keys(commands::keys::KeysCommand),
    /// Create an agent's key pair; encrypt messages to a recipient and decrypt messages from others.
    ///
    /// Needs no server, no database and no settings.
    #[command(subcommand)]
    AgentKey(commands::messages::AgentKeyCommand),
    /// Create, list and rotate the master keys that encrypt messages at rest (MESSAGE_KEYS).
    #[command(subcommand)]
    MessageKeys(commands::messages::MasterKeyCommand),
    /// List and verify the archives of what was removed, and put things of them back into the database.
    #[command(subcommand)]
    Archive(commands::archive::ArchiveCommand),
    /// Verify the ledger; print its balances and statements, and export them.
    #[command(subcommand)]
    Ledger(commands::ledger::LedgerCommand),
    /// Say what takes the disk: the database by cause, its log, weights, archives, files of sandboxes.
    ///
    /// Reads every page of the database once. A server may run.
    Disk {
        /// Print JSON, which is what a pipe gets anyway.
        #[arg(long)]
        json: bool,
    },
    /// Print the OpenAPI document as JSON.
    Openapi,
    /// Verify a receipt offline. Exit status 0: valid; 1: not valid.
    #[command(
        after_help = "Example:\n  agent-management verify-receipt receipt.json --public-key \"$OLD_KEY\" --public-key \"$NEW_KEY\""
    )]
    VerifyReceipt {
        /// File with the answer of `/api/v1/agents/executions/{id}/receipt`; `-` reads standard input.
        file: PathBuf,
        /// Public key, 64 hex digits, from `/api/v1/agents/receipts/keys`. Repeatable: the receipt may be signed with any
        /// of them.
        #[arg(long, value_name = "HEX", required = true)]
        public_key: Vec<String>,
    },
    /// Make the keys of circuits for zero-knowledge proofs, in the data directory. A server that runs takes them at once.
    #[command(
        after_help = "Example:\n  agent-management proof-keys openings-v1-8x4 policy-v1-9-32-32-4 --ptau powersOfTau28_hez_final_17.ptau"
    )]
    ProofKeys(commands::proofs::ProofKeysArguments),
    /// Verify proofs of executions offline. Exit status 0: valid; 1: not valid.
    ///
    /// Takes the answers of /api/v1/agents/integration/integrations/zk/{execution_id} and of its proofs/{number}, or the three files
    /// that snarkjs takes: a proof, its public signals and a verification key. Prints which of their parts hold, which do not, and
    /// what could not be verified with what was given. Needs no server, no database and no settings.
    #[command(
        after_help = "Examples:\n  agent-management verify-proof proof.json public.json verification_key.json\n  agent-management verify-proof document.json export.json --public-key \"$KEY\""
    )]
    VerifyProof {
        /// Files, in any order; `-` reads standard input.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Public key of receipts, 64 hex digits, for the signature of a document's statement. Repeatable.
        #[arg(long, value_name = "HEX")]
        public_key: Vec<String>,
    },
    /// Write the audit log to standard output as JSON lines. Reads the database; a server may run or not.
    #[command(after_help = "Example:\n  agent-management export-audit > log.jsonl")]
    ExportAudit,
    /// Accept that the database was restored from a backup, so that heads of the audit log are signed again.
    ///
    /// Writes a signed entry that names the head which the log continues and the one that was lost. Run it once, after the
    /// restore; servers may run or not.
    #[command(
        after_help = "Example:\n  agent-management accept-audit-restore --reason \"disk failure, backup of 1 May\""
    )]
    AcceptAuditRestore {
        /// Why the database was restored, for those who verify the log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Verify an exported audit log offline. Exit status 0: unchanged since it was signed; 1: not.
    ///
    /// The log alone can't prove that nothing was cut off its end, nor that it was not rewritten with the key. Keep
    /// signed heads on another machine and pass them with --checkpoint, or let witnesses cosign them and pass their keys with
    /// --witness.
    #[command(
        after_help = "Example:\n  agent-management verify-audit log.jsonl --public-key \"$LOG_KEY\" --checkpoint kept-in-may.txt"
    )]
    VerifyAudit {
        /// Export file, from `export-audit` or the export route; `-` reads standard input.
        file: PathBuf,
        /// A public key of the log: `public_key` or `verifier_key` of `/api/v1/agents/security/audit-tree/head`. Keep a copy on
        /// another machine. Repeatable; keys that a rotation connects with one of these are accepted too.
        #[arg(long, value_name = "KEY", required = true)]
        public_key: Vec<String>,
        /// File with a signed head (C2SP checkpoint) that was kept on another machine. Repeatable.
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
        /// Verifier key of a witness, NAME+HASH+BASE64. Repeatable: each must have cosigned a head of the log.
        #[arg(long, value_name = "KEY")]
        witness: Vec<String>,
    },
    /// Verify an inclusion proof or a consistency proof of the audit log offline. Exit status 0: valid; 1: not valid.
    #[command(after_help = "Example:\n  agent-management verify-audit-proof proof.json --public-key \"$LOG_KEY\"")]
    VerifyAuditProof {
        /// File with the answer of `/api/v1/agents/security/audit-tree/inclusion/...` or `.../consistency`; `-` reads
        /// standard input.
        file: PathBuf,
        /// A public key of the log, in hex or as `verifier_key`. Repeatable.
        #[arg(long, value_name = "KEY", required = true)]
        public_key: Vec<String>,
    },
}

/// Keep what this process creates from other users, unless whoever starts it has chosen a group: the database, its `-wal` and
/// `-shm` files, weights, keys and logs.
fn restrict_new_files() {
    let others = Mode::RWXO;
    let given = rustix::process::umask(Mode::RWXG | others);
    // Shells begin with 022 or 002, which nobody has chosen for this.
    if given.contains(others) {
        rustix::process::umask(given);
    }
}

/// Run a command that needs no settings of the service.
fn complete(work: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    run_to_completion(work)?
}

fn main() -> ExitCode {
    restrict_new_files();
    // Crash points are set by the variable FAILPOINTS while this lives.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let arguments = CliArguments::parse();
    am_rl::keep_freed_memory();
    let result = match arguments.command.unwrap_or(CliCommand::Serve { new_audit_key: false }) {
        CliCommand::Serve { new_audit_key } => run_with_config(arguments.config, |mut config| {
            config.audit.new_key |= new_audit_key;
            run_to_completion(lifecycle::serve_until_stopped(config))?.map_err(Into::into)
        }),
        CliCommand::Migrate => run_with_config(arguments.config, |config| {
            run_to_completion(async move { lifecycle::migrate_database(&config).await })??
                .iter()
                .for_each(|line| print_output(line));
            Ok(())
        }),
        CliCommand::Status { service } => complete(client::status::show_status(&service)),
        CliCommand::Runs { service, command } => complete(client::runs::run_runs_command(&service, command)),
        CliCommand::Workflows { service, command } => {
            complete(client::workflows::run_workflows_command(&service, command))
        }
        CliCommand::Jobs { service, command } => complete(client::jobs::run_jobs_command(&service, command)),
        CliCommand::Backup { directory, json } => run_with_config(arguments.config, |config| {
            run_to_completion(commands::backup::create_backup(&config, &directory, json))?
        }),
        CliCommand::Restore(restore) => run_with_config(arguments.config, |config| {
            run_to_completion(commands::backup::restore_backup(&config, restore))?
        }),
        CliCommand::Audit(list) => run_with_config(arguments.config, |config| {
            run_to_completion(commands::audit_list::list_entries(&config, list))?
        }),
        CliCommand::Agent(instance) => am_agent_process::run_instance(instance).map_err(Into::into),
        CliCommand::Config(commands::config_check::ConfigCommand::Check { json }) => {
            commands::config_check::check_config(arguments.config, json)
        }
        CliCommand::Completions { shell } => commands::shell::print_completions(CliArguments::command(), shell),
        CliCommand::Man { directory } => commands::shell::write_man_pages(CliArguments::command(), directory),
        CliCommand::Keys(command) => run_with_config(arguments.config, |config| {
            run_to_completion(async move { commands::keys::run_keys_command(&config, command).await })?
        }),
        CliCommand::AgentKey(command) => commands::messages::run_agent_key(command),
        CliCommand::MessageKeys(command) => run_with_config(arguments.config, |config| {
            run_to_completion(async move { commands::messages::run_master_keys(&config, command).await })?
        }),
        CliCommand::Archive(command) => run_with_config(arguments.config, |config| {
            run_to_completion(async move { commands::archive::run_archive_command(&config, command).await })?
        }),
        CliCommand::Ledger(command) => run_with_config(arguments.config, |config| {
            run_to_completion(async move { commands::ledger::run_ledger_command(&config, command).await })?
        }),
        CliCommand::Disk { json } => run_with_config(arguments.config, |config| {
            run_to_completion(async move { commands::disk::print_usage(&config, json).await })?
        }),
        CliCommand::Openapi => routes::openapi_document(routes::route_groups())
            .and_then(|document| serde_json::to_string_pretty(&document))
            .map(|json| print_output(&json))
            .map_err(Into::into),
        CliCommand::VerifyReceipt { file, public_key } => commands::verify_receipt(&file, &public_key),
        CliCommand::ProofKeys(circuits) => {
            run_with_config(arguments.config, |config| commands::proofs::make_keys(&config, &circuits))
        }
        CliCommand::VerifyProof { files, public_key } => commands::proofs::verify_proof(&files, &public_key),
        CliCommand::ExportAudit => {
            run_with_config(arguments.config, |config| run_to_completion(commands::audit::export_log(config))?)
        }
        CliCommand::AcceptAuditRestore { reason } => run_with_config(arguments.config, |config| {
            run_to_completion(async move { commands::audit::accept_restore(config, &reason).await })?
        }),
        CliCommand::VerifyAudit { file, public_key, checkpoint, witness } => {
            commands::audit::verify_export(&file, &public_key, &checkpoint, &witness)
        }
        CliCommand::VerifyAuditProof { file, public_key } => commands::audit::verify_proof(&file, &public_key),
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
