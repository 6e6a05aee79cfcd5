//! Commands `jobs list|show|watch|cancel`: work that miners do.

use std::io::Write as _;

use clap::Subcommand;
use serde_json::Value;

use crate::commands::{
    CommandError,
    output::{OutputForm, cell, print_document, print_members, print_table, printable},
    print_output,
};

use super::{
    following::{FollowedThing, follow_to_end},
    listing::{ListArguments, list_rows, rest_notice},
    service_client::{ServiceArguments, ServiceClient},
};

/// Path of the list of jobs.
const JOBS_PATH: &str = "/api/v1/services/jobs";

/// Subcommands of `jobs`.
#[derive(Subcommand)]
pub enum JobsCommand {
    /// List jobs, the newest first: with an admin key everybody's, otherwise the key's owner's.
    List {
        /// Only jobs in this state: QUEUED, RUNNING, COMPLETED, FAILED, CANCELED or EXPIRED; several are separated by commas.
        #[arg(long)]
        state: Option<String>,
        /// Only jobs of this service, such as whisper.
        #[arg(long)]
        service: Option<String>,
        #[command(flatten)]
        list: ListArguments,
    },
    /// Show a job with its request and result.
    Show {
        /// Id of the job.
        id: String,
    },
    /// Follow a job to its end. Exit status 1 if it does not complete.
    Watch {
        /// Id of the job.
        id: String,
    },
    /// Withdraw a job that waits, or mark one that runs as cancelled; its miner may still finish that one.
    Cancel {
        /// Id of the job.
        id: String,
    },
}

/// Run the operation on the service.
///
/// # Errors
/// The reason for which it failed; a job that was followed and did not complete.
pub async fn run_jobs_command(service: &ServiceArguments, command: JobsCommand) -> Result<(), CommandError> {
    let client = ServiceClient::new(service)?;
    let form = OutputForm::choose(service.json);
    match command {
        JobsCommand::List { state, service, list } => {
            let filters = [("state", state), ("service_type", service)];
            let query: Vec<_> = filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            list_jobs(&client, &query, &list, form).await
        }
        JobsCommand::Show { id } => {
            let job = client.get(&job_path(&id), &[]).await?.body;
            show_job(&job, form);
            Ok(())
        }
        JobsCommand::Cancel { id } => {
            let answer = client.delete(&job_path(&id)).await?;
            match form {
                OutputForm::Json => print_document(&answer),
                OutputForm::Table if answer["taken_back"] == true => print_output("withdrawn: no miner had it"),
                OutputForm::Table => print_output("cancelled: the miner that has it may still finish it"),
            }
            Ok(())
        }
        JobsCommand::Watch { id } => watch_job(&client, &id, form).await,
    }
}

fn job_path(id: &str) -> String {
    let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
    format!("{JOBS_PATH}/{id}")
}

async fn list_jobs(
    client: &ServiceClient,
    query: &[(&str, String)],
    list: &ListArguments,
    form: OutputForm,
) -> Result<(), CommandError> {
    let listed = list_rows(client, JOBS_PATH, query, list).await?;
    if form == OutputForm::Json {
        print_document(&Value::Array(listed.rows));
        return Ok(());
    }
    let rows = listed.rows.iter().map(|job| {
        let members = ["job_id", "service_type", "status", "position", "miner", "requested_at", "ended_at", "error"];
        members.map(|name| cell(&job[name])).to_vec()
    });
    print_table(&["JOB", "SERVICE", "STATUS", "POSITION", "MINER", "REQUESTED (UTC)", "ENDED (UTC)", "ERROR"], rows);
    if let Some(notice) = rest_notice(&listed) {
        let _ = writeln!(std::io::stderr(), "{notice}");
    }
    Ok(())
}

fn show_job(job: &Value, form: OutputForm) {
    match form {
        OutputForm::Json => print_document(job),
        OutputForm::Table => print_members(
            job,
            &[
                ("job", "job_id"),
                ("service", "service_type"),
                ("status", "status"),
                ("position", "position"),
                ("client", "client_id"),
                ("miner", "miner"),
                ("requested", "requested_at"),
                ("expires", "expires_at"),
                ("running since", "running_at"),
                ("ended", "ended_at"),
                ("estimated end", "estimated_completion"),
                ("payment", "payment_status"),
                ("error", "error"),
                ("request", "request"),
                ("constraints", "constraints"),
                ("result", "result"),
            ],
        ),
    }
}

async fn watch_job(client: &ServiceClient, id: &str, form: OutputForm) -> Result<(), CommandError> {
    let document = job_path(id);
    // A job that is not there is known before anything is followed.
    client.get(&document, &[]).await?;
    let events = format!("{document}/events");
    let is_ended = |job: &Value| !matches!(job["status"].as_str(), Some("QUEUED" | "RUNNING"));
    let thing = FollowedThing { events: &events, document: &document, is_ended };
    let ended = follow_to_end(client, &thing, |event| match form {
        OutputForm::Json => print_output(&event.data.to_string()),
        OutputForm::Table if event.kind == "state" => print_output(&printable(&cell(&event.data["status"]))),
        OutputForm::Table => {}
    })
    .await?;
    match form {
        OutputForm::Json => print_output(&ended.to_string()),
        OutputForm::Table => show_job(&ended, form),
    }
    match ended["status"].as_str() {
        Some("COMPLETED") => Ok(()),
        _ => Err(format!("job {id} is {}", cell(&ended["status"])).into()),
    }
}
