//! The worker: it replays workflows over their history, and runs activities.
use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use serde_json::{json, Value};
use tokio::{sync::Notify, time::timeout};

use crate::engine::Engine;

/// What comes next in a workflow: the first activity without a result, with the result before it, or the end.
fn next(task: &Value) -> Value {
    let mut value = task["input"].clone();
    let history = task["history"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, step) in ["a", "b", "c"].into_iter().enumerate() {
        let sequence = index + 1;
        let done =
            |event: &&Value| event["event_type"] == "ActivityCompleted" && event["payload"]["activity_seq"] == sequence;
        match history.iter().find(done) {
            Some(event) => value = event["payload"]["result"].clone(),
            None => {
                return json!({"type": "ScheduleActivity", "seq": sequence, "name": step, "task_queue": "main", "input": value})
            }
        }
    }
    json!({"type": "CompleteWorkflow", "result": value})
}

async fn turn(engine: &Engine) -> Result<bool> {
    let asked = json!({"queue": "main", "worker_id": engine.worker});
    let task = engine.post("/workflow-tasks/poll", &asked).await?;
    let Some(id) = task["workflow_id"].as_str() else { return Ok(false) };
    let commands = json!({"worker_id": engine.worker, "commands": [next(&task)]});
    engine.post(&format!("/workflow-tasks/{id}/commands"), &commands).await?;
    Ok(true)
}

async fn activity(engine: &Engine) -> Result<bool> {
    let asked = json!({"queue": "main", "worker_id": engine.worker});
    let task = engine.post("/tasks/poll", &asked).await?;
    let (Some(id), Some(step)) = (task["id"].as_i64(), task["name"].as_str()) else { return Ok(false) };
    let value: String = serde_json::from_str(task["input"].as_str().context("no input")?)?;
    engine.post(&format!("/tasks/{id}/complete"), &json!({"result": format!("{value}-{step}")})).await?;
    Ok(true)
}

/// Waits for one of the events, and not for long: an announcement can be lost, or come before its task can be had.
async fn woken(events: &Notify) {
    let _ = timeout(Duration::from_millis(50), events.notified()).await;
}

pub async fn turns(engine: Arc<Engine>) {
    loop {
        match turn(&engine).await {
            Ok(true) => {}
            Ok(false) => woken(&engine.turns).await,
            Err(error) => return eprintln!("workflow task: {error:#}"),
        }
    }
}

pub async fn activities(engine: Arc<Engine>) {
    loop {
        match activity(&engine).await {
            Ok(true) => {}
            Ok(false) => woken(&engine.activities).await,
            Err(error) => return eprintln!("activity: {error:#}"),
        }
    }
}
