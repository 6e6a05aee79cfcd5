//! Ends of jobs count in the profiles of the miners that did them, once.

use std::time::Instant;

use serde_json::{Value, json};

use super::{SERVICES, queued, set};
use crate::{
    harness::{ApiClient, CLIENT, MINER, PATIENCE, Server, TestApp, poll_interval},
    kit::{JsonDocument as _, get_as, sql, waiting},
    ledger::principal_of,
    portfolio::text_of,
};

const PROFILES: &str = "/api/v1/agents/performance/profiles";

/// Wait until so many tasks are counted in a profile.
async fn counted(server: &ApiClient, miner: &str, tasks: u64) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = server.get(&format!("{PROFILES}/{miner}")).await;
        if found.status == 200 && found.body["measured"]["tasks"] == tasks {
            return found.body;
        }
        assert!(Instant::now() < deadline, "{miner} never had {tasks}: {}", found.body);
        poll_interval().await;
    }
}

/// What the coordinator writes when the miner with this key has done a job.
async fn done(server: &ApiClient, miner: &str, state: &str) {
    let id = queued(server, "x").await;
    let result = "result = '{\"text\": \"HELLO\"}', receipt = '{\"price\": 0.5}'";
    set(server, &id, &format!("state = '{state}', assigned_miner_id = '{miner}', {result}")).await;
}

#[tokio::test]
async fn ends_of_jobs_make_the_profile_of_their_miner() {
    let server = TestApp::start().await;
    let miner = principal_of(MINER);
    done(&server, MINER, "COMPLETED").await;
    let found = counted(&server, &miner, 1).await;
    let measured = &found["measured"];
    assert_eq!((&measured["succeeded"], &measured["cost"]["mean"]), (&json!(1), &json!(0.5)), "{found}");
    assert_eq!(
        (&found["agent_type"], &found["owner_id"], &found["cost_per_task"]),
        (&json!("miner"), &json!(miner), &json!(0.5))
    );
    done(&server, MINER, "FAILED").await;
    let found = counted(&server, &miner, 2).await;
    assert_eq!((&found["measured"]["failed"], &found["measured"]["cost"]["count"]), (&json!(1), &json!(1)), "{found}");
    // One that nobody did, and one that was withdrawn.
    let id = queued(&server, "x").await;
    set(&server, &id, "state = 'EXPIRED', error = 'job expired'").await;
    let id = queued(&server, "x").await;
    set(&server, &id, &format!("state = 'CANCELED', assigned_miner_id = '{MINER}'")).await;
    done(&server, MINER, "COMPLETED").await;
    assert_eq!(counted(&server, &miner, 3).await["measured"]["succeeded"], 2);
    assert_eq!(get_as(&server, MINER, &format!("{PROFILES}/{miner}")).await.ok()["measured"]["tasks"], 3, "its own");
    get_as(&server, CLIENT, &format!("{PROFILES}/{miner}")).await.is(404);
    let named = format!("SELECT count(*) || '' FROM am_profiles WHERE agent_id = '{MINER}'");
    assert_eq!(text_of(&server, &named).await, "0", "a key is no name");
}

#[tokio::test]
async fn a_miner_with_a_name_that_an_agent_has_makes_no_profile_for_it() {
    let server = TestApp::start().await;
    let claim = "INSERT INTO am_agent_claims (agent_id, owner_id, created_at) VALUES ('miner-1', 'key_00000000000000000000', '2026-01-01 00:00:00')";
    sql(&server.database(), claim).await;
    done(&server, "miner-1", "COMPLETED").await;
    done(&server, "miner-2", "COMPLETED").await;
    let found = counted(&server, "miner-2", 1).await;
    assert!(found["owner_id"].is_null(), "{found}");
    let none = "SELECT count(*) || '' FROM am_profiles WHERE agent_id = 'miner-1'";
    let deadline = Instant::now() + PATIENCE;
    while text_of(&server, "SELECT count(*) || '' FROM am_profile_feed").await != "0" {
        assert!(Instant::now() < deadline, "the feed is never taken in");
        poll_interval().await;
    }
    assert_eq!(text_of(&server, none).await, "0");
}

#[tokio::test]
async fn the_end_of_a_job_counts_once_when_the_process_dies() {
    for point in ["jobs.after_telling", "profiles.before_commit", "profiles.after_commit"] {
        let mut doomed = Server::builder().env("FAILPOINTS", format!("{point}=return")).start().await;
        done(&doomed, MINER, "COMPLETED").await;
        doomed.wait();
        let server = doomed.again().env("FAILPOINTS", "").start().await;
        let found = counted(&server, &principal_of(MINER), 1).await;
        assert_eq!(found["measured"]["succeeded"], 1, "{point}: {found}");
        assert_eq!(text_of(&server, "SELECT count(*) || '' FROM am_profile_feed").await, "0", "{point}");
    }
}

#[tokio::test]
async fn jobs_of_steps_count_for_their_miner_too() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": waiting()})).await;
    let run = server.execute(&workflow, json!({"prompt": "x"})).await.text("id").to_owned();
    let run = server.until(&run, |run| run["step_states"]["a"]["job_id"].is_string()).await;
    let job = run["step_states"]["a"]["job_id"].as_str().unwrap().to_owned();
    let change = "result = '{\"text\": \"HELLO\"}', receipt = '{\"price\": 0.25}'";
    set(&server, &job, &format!("state = 'COMPLETED', assigned_miner_id = '{MINER}', {change}")).await;
    assert_eq!(server.ended(run.text("id")).await["status"], "completed");
    // The coordinator's rows are followed where they are listed.
    server.get(&format!("{SERVICES}/jobs")).await.ok();
    let found = counted(&server, &principal_of(MINER), 1).await;
    let measured = &found["measured"];
    assert_eq!((&measured["succeeded"], &measured["cost"]["mean"]), (&json!(1), &json!(0.25)), "{found}");
    assert_eq!(measured["latency"]["count"], 0, "{found}");
    server.get(&format!("{SERVICES}/jobs")).await.ok();
    assert_eq!(counted(&server, &principal_of(MINER), 1).await["measured"]["tasks"], 1, "once");
}
