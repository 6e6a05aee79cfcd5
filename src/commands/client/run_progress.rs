//! Progress of an execution: bars on a terminal, events as JSON lines for programs.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::commands::{
    CommandError,
    output::{OutputForm, cell, print_members, print_table, printable, seconds},
    print_output,
};

use super::{
    following::{FollowedEvent, FollowedThing, follow_to_end},
    service_client::ServiceClient,
};

/// Interval at which the sign of a running step moves.
const TICK_INTERVAL: Duration = Duration::from_millis(120);

/// Path of an execution's document.
pub fn run_path(id: &str) -> String {
    format!(
        "/api/v1/agents/executions/{}",
        percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC)
    )
}

/// Follow an execution to its end and show its progress. A command whose execution fails fails.
pub async fn follow_run(client: &ServiceClient, run: &Value, form: OutputForm) -> Result<(), CommandError> {
    let id = run["execution_id"].as_str().ok_or("the answer has no execution_id")?;
    let document = run_path(id);
    let events = format!("{document}/events");
    let thing = FollowedThing { events: &events, document: &document, is_ended };
    let ended = match form {
        OutputForm::Json => {
            let ended = follow_to_end(client, &thing, |event| print_output(&event.data.to_string())).await?;
            print_output(&ended.to_string());
            ended
        }
        OutputForm::Table => {
            let mut progress = RunProgress::start(id, run["total_steps"].as_u64().unwrap_or_default());
            let ended = follow_to_end(client, &thing, |event| progress.show(&event)).await;
            progress.finish();
            let ended = ended?;
            print_run(&ended);
            ended
        }
    };
    check_completed(&ended)
}

/// Whether an execution's document is final.
pub fn is_ended(run: &Value) -> bool {
    matches!(run["status"].as_str(), Some("completed" | "failed" | "cancelled"))
}

/// Refuse an execution that has ended otherwise than completed.
pub fn check_completed(run: &Value) -> Result<(), CommandError> {
    let (id, status) = (cell(&run["execution_id"]), cell(&run["status"]));
    match status.as_str() {
        "failed" | "cancelled" => {
            let error = run["error_message"].as_str().map_or_else(String::new, |error| format!(": {error}"));
            Err(printable(&format!("execution {id} {status}{error}")).into())
        }
        _ => Ok(()),
    }
}

/// Print an execution and its steps for people.
pub fn print_run(run: &Value) {
    print_members(
        run,
        &[
            ("execution", "execution_id"),
            ("workflow", "workflow_id"),
            ("status", "status"),
            ("paused", "paused"),
            ("created", "created_at"),
            ("started", "started_at"),
            ("ended", "completed_at"),
            ("cost", "total_cost"),
            ("failed step", "failed_step"),
            ("error", "error_message"),
        ],
    );
    let Some(steps) = run["step_states"].as_object().filter(|steps| !steps.is_empty()) else { return };
    print_output("");
    let rows = steps.iter().map(|(key, step)| {
        let time = seconds(&step["execution_time"]);
        vec![key.clone(), cell(&step["status"]), cell(&step["attempts"]), time, cell(&step["cost"]), step_notice(step)]
    });
    print_table(&["STEP", "STATUS", "ATTEMPTS", "TIME", "COST", "NOTICE"], rows);
}

/// What a step waits for, or why it failed.
fn step_notice(step: &Value) -> String {
    let waits = || Some(format!("waits for {}", step["waiting_for"]["kind"].as_str()?));
    let job = || Some(format!("job {}", step["job_id"].as_str()?));
    step["error"].as_str().map(str::to_owned).or_else(waits).or_else(job).unwrap_or_else(|| "-".to_owned())
}

/// Bars of an execution: one for all steps, and a line for each that runs.
struct RunProgress {
    bars: MultiProgress,
    all: ProgressBar,
    running: BTreeMap<String, ProgressBar>,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl RunProgress {
    fn start(id: &str, steps: u64) -> Self {
        let is_shown = std::io::stderr().is_terminal();
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let all = bars.add(ProgressBar::new(steps).with_style(style("{msg} [{bar:30}] {pos}/{len} steps, {elapsed}")));
        all.set_message(printable(id));
        all.enable_steady_tick(TICK_INTERVAL);
        Self { bars, all, running: BTreeMap::new() }
    }

    fn show(&mut self, event: &FollowedEvent) {
        let data = &event.data["data"];
        let step = data["step"].as_str().map(printable).unwrap_or_default();
        let error = || printable(data["error"].as_str().unwrap_or("no reason was given"));
        match event.kind.as_str() {
            "execution_started" => self.all.set_length(data["total_steps"].as_u64().unwrap_or_default()),
            "step_started" => {
                let attempt = data["attempt"].as_u64().filter(|attempt| *attempt > 1);
                let words = attempt.map_or_else(String::new, |attempt| format!(", attempt {attempt}"));
                let bar = self.running.entry(step.clone()).or_insert_with(|| {
                    let bar = ProgressBar::new_spinner().with_style(style("  {spinner} {msg} ({elapsed})"));
                    bar.enable_steady_tick(TICK_INTERVAL);
                    self.bars.add(bar)
                });
                bar.set_message(format!("{step}{words}"));
            }
            "job_queued" => self.note(&step, &format!("waits for a miner, job {}", cell(&data["job_id"]))),
            "training_queued" => self.note(&step, &format!("waits for training run {}", cell(&data["run_id"]))),
            "step_completed" => {
                self.end(&step);
                self.all.inc(1);
                self.say(&format!("  done       {step} ({})", seconds(&data["execution_time"])));
            }
            "step_failed" if data["retry_at"].is_string() => {
                self.note(&step, &format!("failed, again at {}: {}", cell(&data["retry_at"]), error()));
            }
            "step_failed" => {
                self.end(&step);
                self.say(&format!("  failed     {step}: {}", error()));
            }
            "step_cancelled" => {
                self.end(&step);
                self.say(&format!("  cancelled  {step}"));
            }
            "execution_paused" => self.say("  paused"),
            "execution_resumed" => self.say("  resumed"),
            _ => {}
        }
    }

    fn note(&self, step: &str, words: &str) {
        if let Some(bar) = self.running.get(step) {
            bar.set_message(format!("{step}: {}", printable(words)));
        }
    }

    fn end(&mut self, step: &str) {
        if let Some(bar) = self.running.remove(step) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn say(&self, line: &str) {
        // A terminal that is gone is no reason to stop following.
        let _ = self.bars.println(line);
    }

    fn finish(&self) {
        self.running.values().for_each(ProgressBar::finish_and_clear);
        self.all.finish_and_clear();
    }
}
