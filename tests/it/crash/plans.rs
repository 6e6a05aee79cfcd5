//! A process dies in the middle of a plan: no sub-task is lost, and none is two agents' at once.

use std::{collections::BTreeMap, time::Instant};

use serde_json::{Value, json};
use sqlx::Connection as _;

use super::Death;
use crate::kit::JsonDocument;
use crate::{
    agents::{
        plans::{PLANS, assigned, execute, has, plan, report, standing},
        registry::{REGISTRY, beat, register},
    },
    harness::{ApiClient, PATIENCE, Server},
    peer::Peer,
};

/// Two at once, then one that takes what both gave.
fn task() -> Value {
    json!({"sub_tasks": [
        {"key": "one", "task_type": "text_processing", "depends_on": []},
        {"key": "two", "task_type": "data_analysis"},
        {"key": "end", "task_type": "text_processing", "depends_on": ["one", "two"]},
    ]})
}

/// Whatever is on record: each assignment was done once, and no two attempts at it were open at the same time.
async fn check(server: &ApiClient) {
    let mut conn = sqlx::SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT s.step_key, s.state, (SELECT count(*) FROM am_assignment_attempts a WHERE a.assignment_id = s.id AND a.outcome = 'COMPLETED')
         FROM am_assignments s ORDER BY s.step_key",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let expected = ["end", "one", "two"].map(|key| (key.to_owned(), "COMPLETED".to_owned(), 1));
    assert_eq!(rows, expected, "each was placed once, and done once");
    let both: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM am_assignment_attempts a JOIN am_assignment_attempts b
             ON b.assignment_id = a.assignment_id AND b.attempt > a.attempt WHERE a.ended_at IS NULL OR a.ended_at > b.offered_at",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(both, 0, "two agents had it at once");
}

/// POST that may meet a dead server.
async fn try_post(server: &ApiClient, path: &str, body: Value) -> Option<Value> {
    let request = server.request(reqwest::Method::POST, path).json(&body);
    request.send().await.ok()?.json().await.ok()
}

/// Do what is given until the plan ends; none when the server dies before. What was delivered is remembered by its agent,
/// who delivers it again where it had no answer.
async fn end_of(server: &ApiClient, id: &str) -> Option<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for agent in ["a", "b"] {
            try_post(server, &format!("{REGISTRY}/{agent}/heartbeat"), json!({})).await?;
            let path = format!("{REGISTRY}/{agent}/assignments");
            let open: Value = server.request(reqwest::Method::GET, &path).send().await.ok()?.json().await.ok()?;
            for one in open.as_array()? {
                let path = format!("{PLANS}/assignments/{}", one["assignment_id"].as_str()?);
                try_post(server, &format!("{path}/accept"), json!({"attempt": one["attempt"]})).await?;
                let result = json!({"attempt": one["attempt"], "result": {"did": one["sub_task"]}});
                try_post(server, &format!("{path}/result"), result).await?;
            }
        }
        let path = format!("{PLANS}/{id}");
        let now: Value = server.request(reqwest::Method::GET, &path).send().await.ok()?.json().await.ok()?;
        if matches!(now["status"].as_str(), Some("completed" | "failed" | "cancelled")) {
            return Some(now);
        }
        assert!(Instant::now() < deadline, "the plan did not end: {now}");
        crate::harness::poll_interval().await;
    }
}

/// Die at the `n`th passage of `point`, start again, and bring the plan to its end.
async fn dies_at(point: &str, n: usize) -> Death {
    let builder = Server::builder().env("FAILPOINTS", format!("{point}={n}*off->return"));
    let mut server = match builder.try_start() {
        Ok(server) => server,
        Err(_) => return Death::AtTheStart,
    };
    let prepared = async {
        for agent in ["a", "b"] {
            let body = json!({"agent_id": agent, "capabilities": ["text_processing", "data_analysis"]});
            try_post(&server, REGISTRY, body).await?;
        }
        let mut body = task();
        body["name"] = "task".into();
        let made = try_post(&server, PLANS, body).await?;
        Some(made["id"].as_str()?.to_owned())
    };
    let Some(id) = prepared.await else { return Death::AtTheStart };
    let path = format!("{PLANS}/{id}/execute");
    let died = try_post(&server, &path, json!({})).await.is_none() || end_of(&server, &id).await.is_none();
    if died {
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&server.wait()), Some(9));
    }
    let server = server.again().env("FAILPOINTS", "").start().await;
    // Asked again it is the same run.
    let run = try_post(&server, &path, json!({})).await.unwrap();
    let now = end_of(&server, &id).await.unwrap();
    assert_eq!((&now["status"], &now["execution_id"]), (&json!("completed"), &run["id"]), "{now}");
    check(&server).await;
    if died { Death::Survived(Peer::start()) } else { Death::None }
}

async fn sweep(point: &str, at_least: usize) {
    let mut survived = 0;
    for n in 0.. {
        match dies_at(point, n).await {
            Death::AtTheStart => {}
            Death::Survived(_) => survived += 1,
            Death::None => break,
        }
    }
    assert!(survived >= at_least, "{point} was passed {survived} times only");
}

#[tokio::test]
async fn crash_while_assigning_loses_and_repeats_no_assignment() {
    sweep("assignments.before_commit", 2).await;
}

#[tokio::test]
async fn crash_before_saving_a_plan_loses_no_sub_task() {
    sweep("engine.before_save", 4).await;
}

#[tokio::test]
async fn assignment_survives_a_crash() {
    let mut server = Server::start().await;
    for agent in ["a", "b"] {
        register(&server, agent, json!({})).await;
    }
    let made = plan(&server, task()).await;
    let run = execute(&server, &made).await;
    let [first, second] = [has(&server, "a", 1).await.remove(0), has(&server, "b", 1).await.remove(0)];
    report(&server, &first, "accept", json!({})).await.ok();
    report(&server, &second, "result", json!({"result": 2})).await.ok();
    server.kill();
    let server = server.restart().await;
    // The same attempt, of the same agent, under the same number.
    let [again] = &assigned(&server, "a").await[..] else { panic!("it has {:?}", assigned(&server, "a").await) };
    assert_eq!(
        (&again["assignment_id"], &again["attempt"], &again["status"]),
        (&first["assignment_id"], &json!(1), &json!("accepted"))
    );
    beat(&server, "b").await.ok();
    report(&server, &first, "result", json!({"result": 1})).await.ok();
    assert_eq!(report(&server, &second, "result", json!({"result": 2})).await.ok()["already_known"], true);
    let now = crate::agents::plans::work(&server, &["a", "b"], &made).await;
    assert_eq!(now["status"], "completed", "{now}");
    let ended = server.ended(run.text("id")).await;
    let results = &ended["final_result"]["step_results"];
    let given = if first["sub_task"] == "one" { json!([1, 2]) } else { json!([2, 1]) };
    assert_eq!(json!([results["one"], results["two"]]), given);
    assert_eq!(results["end"]["input"], json!({"one": results["one"], "two": results["two"]}));
    check(&server).await;
    let counts: BTreeMap<&str, usize> = standing(&server, &made).await["sub_task_status"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                ["one", "two", "end"].into_iter().find(|key| one["key"] == *key).unwrap(),
                one["attempts"].as_array().unwrap().len(),
            )
        })
        .collect();
    assert_eq!(counts, BTreeMap::from([("end", 1), ("one", 1), ("two", 1)]));
}
