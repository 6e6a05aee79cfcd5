//! The executable `agent-management-agent`: `instance` serves one workflow, `supervise` keeps instances alive.

use std::process::ExitCode;

use am_agent_process::{InstanceArguments, SuperviseArguments, run_instance, run_supervisor};
use clap::{Parser, Subcommand};

/// An instance of a deployment, or the supervisor of all instances on this host. The service starts both.
#[derive(Parser)]
#[command(version)]
struct AgentArguments {
    #[command(subcommand)]
    command: AgentCommand,
}

#[derive(Subcommand)]
enum AgentCommand {
    /// Serve one workflow: `/health`, `/metrics` and `/invoke` on a port of 127.0.0.1.
    Instance(InstanceArguments),
    /// Start instances, restart them when they end, and adopt those that run already.
    Supervise(SuperviseArguments),
}

fn main() -> ExitCode {
    let done = match AgentArguments::parse().command {
        AgentCommand::Instance(arguments) => run_instance(arguments),
        AgentCommand::Supervise(arguments) => run_supervisor(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "there is no log, and the supervisor's file or a person reads this"
            )]
            {
                eprintln!("agent-management-agent: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
