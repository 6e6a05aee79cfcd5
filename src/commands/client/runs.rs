//! Commands `runs list|show|watch|retry|cancel|retry-all|cancel-all`: executions of workflows.

use std::io::Write as _;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::commands::{
    CommandError,
    output::{OutputForm, cell, print_document, print_table, seconds},
};

use super::{
    bulk_runs::{BulkChoice, change_many},
    listing::{ListArguments, list_rows, listed_cell, rest_notice},
    run_progress::{check_completed, follow_run, is_ended, print_run, run_path},
    service_client::{ServiceArguments, ServiceClient},
};

/// Subcommands of `runs`.
#[derive(Subcommand)]
pub enum RunsCommand {
    /// List executions, the newest first.
    #[command(after_help = "Example:\n  agent-management runs list --status failed --since 7d")]
    List {
        /// Only executions in this status: pending, running, completed, failed or cancelled; several are separated by commas.
        #[arg(long)]
        status: Option<String>,
        /// Only executions of this workflow.
        #[arg(long, value_name = "ID")]
        workflow: Option<String>,
        #[command(flatten)]
        list: ListArguments,
    },
    /// Show an execution with its steps.
    Show {
        /// Id of the execution.
        id: String,
    },
    /// Follow an execution to its end. Exit status 1 if it does not complete.
    Watch {
        /// Id of the execution.
        id: String,
    },
    /// Run the steps of a failed or cancelled execution again that have not completed.
    Retry {
        /// Id of the execution.
        id: String,
        /// Definition to go on with.
        #[arg(long, default_value = "original")]
        definition: RetryDefinition,
        /// Follow it to its end. Exit status 1 if it does not complete.
        #[arg(long)]
        follow: bool,
    },
    /// Cancel executions that have not ended.
    Cancel {
        /// Ids of the executions.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Retry all failed executions that match, up to 10 000, in the background.
    #[command(after_help = "Example:\n  agent-management runs retry-all --error-class http --since 7d --dry-run")]
    RetryAll {
        /// Only executions that failed at the step of this key.
        #[arg(long, value_name = "KEY")]
        failed_step: Option<String>,
        /// Only executions that failed by this kind of step: jq, policy, train, job, http, agent, command, check, none or limit.
        #[arg(long, value_name = "CLASS")]
        error_class: Option<String>,
        /// Only executions whose error contains this text.
        #[arg(long, value_name = "TEXT")]
        error_contains: Option<String>,
        /// Definition to go on with.
        #[arg(long, default_value = "original")]
        definition: RetryDefinition,
        #[command(flatten)]
        choice: BulkChoice,
    },
    /// Cancel all executions that match and have not ended, up to 10 000, in the background.
    #[command(after_help = "Example:\n  agent-management runs cancel-all --workflow agent_0123456789ab --dry-run")]
    CancelAll {
        #[command(flatten)]
        choice: BulkChoice,
    },
}

/// Definition with which an execution is retried.
#[derive(Clone, Copy, ValueEnum)]
pub enum RetryDefinition {
    /// The workflow as it was when the execution began.
    Original,
    /// The workflow as it is now.
    Current,
}

impl RetryDefinition {
    /// The word that the API takes.
    fn word(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Current => "current",
        }
    }
}

/// Run the operation on the service.
///
/// # Errors
/// The reason for which it failed; an execution that was followed and did not complete.
pub async fn run_runs_command(service: &ServiceArguments, command: RunsCommand) -> Result<(), CommandError> {
    let client = ServiceClient::new(service)?;
    let form = OutputForm::choose(service.json);
    match command {
        RunsCommand::List { status, workflow, list } => {
            let filters = [("status", status), ("workflow_id", workflow)];
            let query: Vec<_> = filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            list_runs(&client, &query, &list, form).await
        }
        RunsCommand::Show { id } => {
            let run = client.get(&run_path(&id), &[]).await?.body;
            match form {
                OutputForm::Json => print_document(&run),
                OutputForm::Table => print_run(&run),
            }
            Ok(())
        }
        RunsCommand::Watch { id } => {
            let run = client.get(&run_path(&id), &[]).await?.body;
            follow_run(&client, &run, form).await
        }
        RunsCommand::Retry { id, definition, follow } => {
            let path = format!("{}/retry", run_path(&id));
            let run = client.post(&path, &[("definition", definition.word().to_owned())], &json!({})).await?;
            if follow { follow_run(&client, &run, form).await } else { show_started(&run, form) }
        }
        RunsCommand::Cancel { ids } => cancel_runs(&client, &ids, form).await,
        RunsCommand::RetryAll { failed_step, error_class, error_contains, definition, choice } => {
            let failures =
                [("failed_step", failed_step), ("error_class", error_class), ("error_contains", error_contains)];
            let body = json!({"definition": definition.word()});
            change_many(&client, "retry", body, &failures, &choice, form).await
        }
        RunsCommand::CancelAll { choice } => change_many(&client, "cancel", json!({}), &[], &choice, form).await,
    }
}

/// Print an execution that has just begun.
pub fn show_started(run: &Value, form: OutputForm) -> Result<(), CommandError> {
    match form {
        OutputForm::Json => print_document(run),
        OutputForm::Table => {
            print_run(run);
            if !is_ended(run) {
                let _ = writeln!(
                    std::io::stderr(),
                    "\nfollow it: agent-management runs watch {}",
                    cell(&run["execution_id"])
                );
            }
        }
    }
    check_completed(run)
}

async fn list_runs(
    client: &ServiceClient,
    query: &[(&str, String)],
    list: &ListArguments,
    form: OutputForm,
) -> Result<(), CommandError> {
    let listed = list_rows(client, "/api/v1/agents/executions", query, list).await?;
    if form == OutputForm::Json {
        print_document(&Value::Array(listed.rows));
        return Ok(());
    }
    let rows = listed.rows.iter().map(|run| {
        let status = if run["paused"] == true { "paused".to_owned() } else { cell(&run["status"]) };
        let steps = format!("{}/{}", cell(&run["completed_steps"]), cell(&run["total_steps"]));
        let (time, cost) = (seconds(&run["total_execution_time"]), cell(&run["total_cost"]));
        let (id, workflow) = (cell(&run["execution_id"]), cell(&run["workflow_id"]));
        vec![id, workflow, status, steps, cell(&run["created_at"]), time, cost, listed_cell(run, "error_message")]
    });
    print_table(&["EXECUTION", "WORKFLOW", "STATUS", "STEPS", "CREATED (UTC)", "TIME", "COST", "ERROR"], rows);
    if let Some(notice) = rest_notice(&listed) {
        let _ = writeln!(std::io::stderr(), "{notice}");
    }
    Ok(())
}

/// Cancel each; those that could not be are named at the end.
async fn cancel_runs(client: &ServiceClient, ids: &[String], form: OutputForm) -> Result<(), CommandError> {
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for id in ids {
        match client.post(&format!("{}/cancel", run_path(id)), &[], &json!({})).await {
            Ok(answer) => done.push(answer),
            Err(error) if error.is_passing() => return Err(error.into()),
            Err(error) => failures.push(format!("{id}: {error}")),
        }
    }
    match form {
        OutputForm::Json => print_document(&Value::Array(done)),
        OutputForm::Table => print_table(
            &["EXECUTION", "STATUS"],
            done.iter().map(|run| vec![cell(&run["execution_id"]), cell(&run["status"])]),
        ),
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}
