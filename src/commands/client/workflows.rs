//! Commands `workflows list|show|run`.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use am_core::strict_json::parse_strict_json;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::commands::{
    CommandError,
    output::{OutputForm, cell, print_document, print_members, print_table},
    print_output, read_text,
};

use super::{
    listing::{ListArguments, list_rows, listed_cell, rest_notice},
    run_progress::follow_run,
    runs::show_started,
    service_client::{ServiceArguments, ServiceClient},
};

/// Path of the list of workflows.
const WORKFLOWS_PATH: &str = "/api/v1/agents/workflows";

/// Subcommands of `workflows`.
#[derive(Subcommand)]
pub enum WorkflowsCommand {
    /// List workflows that the key's owner may see, the newest first.
    List {
        /// Only public workflows, or with `false` only others.
        #[arg(long, value_name = "BOOL")]
        public: Option<bool>,
        /// Only workflows with all of these tags, separated by commas.
        #[arg(long, value_name = "TAGS")]
        tags: Option<String>,
        #[command(flatten)]
        list: ListArguments,
    },
    /// Show a workflow with its steps.
    Show {
        /// Id of the workflow.
        id: String,
    },
    /// Execute a workflow; one that is given as a file is created first.
    #[command(after_help = "Examples:
  agent-management workflows run workflow.json --input sku=a-17 --input count=3 --follow
  agent-management workflows run agent_0123456789abcdef --inputs inputs.json")]
    Run(RunArguments),
}

/// What is executed, and with which inputs.
#[derive(Args)]
pub struct RunArguments {
    /// File with a workflow as `POST /api/v1/agents/workflows` takes it (`-`: standard input), or the id of a workflow.
    #[arg(value_name = "FILE_OR_ID")]
    workflow: String,
    /// An input, NAME=VALUE. A VALUE that is JSON is taken as such (3, true, null, ["a"], "3"), any other as text. Repeatable.
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = parse_input)]
    inputs: Vec<(String, Value)>,
    /// File with a JSON object of inputs (`-`: standard input); `--input` goes before it.
    #[arg(long = "inputs", value_name = "FILE")]
    inputs_file: Option<PathBuf>,
    /// Time limit of the execution in seconds; 0: none. Default: the workflow's.
    #[arg(long, value_name = "SECONDS")]
    max_time: Option<u64>,
    /// Cost limit of the execution in AITBC tokens; 0: none. Default: the workflow's.
    #[arg(long, value_name = "TOKENS")]
    max_cost: Option<f64>,
    /// Follow the execution to its end. Exit status 1 if it does not complete.
    #[arg(long)]
    follow: bool,
}

fn parse_input(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("should be NAME=VALUE")?;
    let value = parse_strict_json(value.as_bytes()).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

/// Run the operation on the service.
///
/// # Errors
/// The reason for which it failed; an execution that was followed and did not complete.
pub async fn run_workflows_command(service: &ServiceArguments, command: WorkflowsCommand) -> Result<(), CommandError> {
    let client = ServiceClient::new(service)?;
    let form = OutputForm::choose(service.json);
    match command {
        WorkflowsCommand::List { public, tags, list } => {
            let filters = [("is_public", public.map(|public| public.to_string())), ("tags", tags)];
            let query: Vec<_> = filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            list_workflows(&client, &query, &list, form).await
        }
        WorkflowsCommand::Show { id } => {
            let workflow = client.get(&workflow_path(&id), &[]).await?.body;
            match form {
                OutputForm::Json => print_document(&workflow),
                OutputForm::Table => print_workflow(&workflow),
            }
            Ok(())
        }
        WorkflowsCommand::Run(run) => run_workflow(&client, run, form).await,
    }
}

fn workflow_path(id: &str) -> String {
    let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
    format!("{WORKFLOWS_PATH}/{id}")
}

async fn list_workflows(
    client: &ServiceClient,
    query: &[(&str, String)],
    list: &ListArguments,
    form: OutputForm,
) -> Result<(), CommandError> {
    let listed = list_rows(client, WORKFLOWS_PATH, query, list).await?;
    if form == OutputForm::Json {
        print_document(&Value::Array(listed.rows));
        return Ok(());
    }
    let rows = listed.rows.iter().map(|workflow| {
        let steps = match workflow["steps"].as_object() {
            Some(steps) if !steps.is_empty() => steps.len().to_string(),
            _ => listed_cell(workflow, "steps").replace("{}", "0"),
        };
        let [id, name, owner, public, created] =
            ["id", "name", "owner_id", "is_public", "created_at"].map(|name| cell(&workflow[name]));
        vec![id, name, steps, owner, public, created]
    });
    print_table(&["WORKFLOW", "NAME", "STEPS", "OWNER", "PUBLIC", "CREATED (UTC)"], rows);
    if let Some(notice) = rest_notice(&listed) {
        let _ = writeln!(std::io::stderr(), "{notice}");
    }
    Ok(())
}

fn print_workflow(workflow: &Value) {
    print_members(
        workflow,
        &[
            ("workflow", "id"),
            ("name", "name"),
            ("description", "description"),
            ("owner", "owner_id"),
            ("version", "version"),
            ("public", "is_public"),
            ("tags", "tags"),
            ("time limit (s)", "max_execution_time"),
            ("cost limit", "max_cost_budget"),
            ("verification", "verification_level"),
            ("created", "created_at"),
            ("updated", "updated_at"),
        ],
    );
    let Some(steps) = workflow["steps"].as_object() else { return };
    print_output("");
    let rows = steps.iter().map(|(key, step)| {
        let waits = [&workflow["dependencies"][key], &step["depends_on"]];
        let names: Vec<&str> =
            waits.into_iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str).collect();
        let after = if names.is_empty() { "-".to_owned() } else { names.join(", ") };
        vec![key.clone(), cell(&step["step_type"]), cell(&step["action"]["kind"]), after]
    });
    print_table(&["STEP", "TYPE", "ACTION", "AFTER"], rows);
}

async fn run_workflow(client: &ServiceClient, run: RunArguments, form: OutputForm) -> Result<(), CommandError> {
    // All that can be wrong here is found before anything is created.
    let mut inputs = match &run.inputs_file {
        Some(file) => read_object(file)?,
        None => Map::new(),
    };
    inputs.extend(run.inputs);
    let is_file = run.workflow == "-" || Path::new(&run.workflow).is_file();
    let id = if is_file {
        if run.workflow == "-" && run.inputs_file.as_deref() == Some(Path::new("-")) {
            return Err("the workflow and its inputs can't both come from standard input".into());
        }
        let definition = Value::Object(read_object(Path::new(&run.workflow))?);
        let made = client.post(WORKFLOWS_PATH, &[], &definition).await?;
        let id = made["id"].as_str().ok_or("the answer has no id of a workflow")?.to_owned();
        let _ = writeln!(std::io::stderr(), "created workflow {id}");
        id
    } else if run.workflow.contains(['/', '.']) {
        return Err(format!("there is no file {}", run.workflow).into());
    } else {
        run.workflow
    };
    let mut body = json!({"inputs": inputs});
    let limits =
        [("max_execution_time", run.max_time.map(Value::from)), ("max_cost_budget", run.max_cost.map(Value::from))];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            body[name] = limit;
        }
    }
    let started = client.post(&format!("{}/execute", workflow_path(&id)), &[], &body).await?;
    if run.follow { follow_run(client, &started, form).await } else { show_started(&started, form) }
}

fn read_object(file: &Path) -> Result<Map<String, Value>, CommandError> {
    let text = read_text(file)?;
    match parse_strict_json(text.as_bytes()) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(format!("{}: should be a JSON object", file.display()).into()),
        Err(error) => Err(format!("{}: not JSON: {error}", file.display()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_json_where_they_can_be_and_text_otherwise() {
        for (text, expected) in [
            ("a=3", Some(("a", json!(3)))),
            ("a=true", Some(("a", json!(true)))),
            (r#"a="3""#, Some(("a", json!("3")))),
            (r#"a=["x", 1]"#, Some(("a", json!(["x", 1])))),
            ("a=b=c", Some(("a", json!("b=c")))),
            ("a=", Some(("a", json!("")))),
            ("a=two words", Some(("a", json!("two words")))),
            ("=1", None),
            ("a", None),
        ] {
            let read = parse_input(text).ok();
            assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value)), "{text}");
        }
    }
}
