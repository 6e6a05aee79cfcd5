//! Rollouts by the three strategies under load, undone canaries, rollbacks: no call is lost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use serde_json::{Value, json};

use super::{builder, call, deploy, deployed, deployments, healthy, redefine, settled, state};
use crate::{
    harness::{ApiClient, poll_interval},
    kit::JsonDocument,
};

/// Calls that go on until they are stopped; what was wrong with them.
struct CallLoad {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl CallLoad {
    fn start(server: &ApiClient, id: &str, callers: usize, may_fail: bool) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let one = || {
            let (server, id, stop, done) = (server.clone(), id.to_owned(), stop.clone(), done.clone());
            tokio::spawn(async move {
                let mut wrong = Vec::new();
                while !stop.load(SeqCst) {
                    let answer = call(&server, &id, json!({"n": 2})).await;
                    let good = answer.status == 200 && (may_fail || answer.body["status"] == "completed");
                    if !good {
                        wrong.push(answer.text);
                    }
                    done.fetch_add(1, SeqCst);
                }
                wrong
            })
        };
        let tasks = (0..callers).map(|_| one()).collect();
        Self { stop, done, tasks }
    }

    async fn until(&self, calls: u64) {
        while self.done.load(SeqCst) < calls {
            poll_interval().await;
        }
    }

    async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, SeqCst);
        let mut wrong = Vec::new();
        for task in self.tasks {
            wrong.extend(task.await.unwrap());
        }
        (self.done.load(SeqCst), wrong)
    }
}

async fn reasons(server: &ApiClient, id: &str) -> Vec<(String, String)> {
    let found = server.get(&deployments(&format!("{id}/changes?limit=500"))).await.ok();
    let rows = found["changes"].as_array().unwrap().iter();
    rows.map(|row| (row.text("kind").to_owned(), row.text("reason").to_owned())).collect()
}

/// Roll out a new revision under load; returns the deployment.
async fn rolled_under_load(strategy: &str) -> Value {
    let server = builder().start().await;
    let others = json!({"rollout_strategy": strategy});
    let (workflow, id) = deployed(&server, ".n * 2", "shop", 2, others).await;
    let before = call(&server, &id, json!({"n": 2})).await.ok();
    assert_eq!((&before["revision"], &before["result"]["step_results"]["a"]), (&json!(1), &json!(4)), "{before}");
    redefine(&server, &workflow, ".n * 3").await;
    let load = CallLoad::start(&server, &id, 3, false);
    load.until(10).await;
    deploy(&server, &id).await;
    let found = settled(&server, &id).await;
    let instances = healthy(&server, &id, 2, 2).await;
    let so_far = load.done.load(SeqCst);
    load.until(so_far + 5).await;
    let (calls, wrong) = load.end().await;
    assert!(wrong.is_empty(), "{strategy}: {} of {calls} calls were lost: {wrong:?}", wrong.len());
    assert_eq!((&found["status"], &found["revision"]), (&json!("deployed"), &json!(2)), "{found}");
    assert_eq!(instances.len(), 2);
    let after = call(&server, &id, json!({"n": 2})).await.ok();
    assert_eq!((&after["revision"], &after["result"]["step_results"]["a"]), (&json!(2), &json!(6)), "{after}");
    let told = reasons(&server, &id).await;
    assert!(told.iter().any(|(kind, _)| kind == "promote"), "{told:?}");
    assert!(told.iter().all(|(_, reason)| !reason.is_empty()));
    found
}

#[tokio::test]
async fn a_rolling_rollout_loses_no_call() {
    rolled_under_load("rolling").await;
}

#[tokio::test]
async fn a_blue_green_rollout_loses_no_call() {
    rolled_under_load("blue-green").await;
}

#[tokio::test]
async fn a_good_canary_is_promoted_and_loses_no_call() {
    rolled_under_load("canary").await;
}

#[tokio::test]
async fn a_canary_that_errors_is_undone_by_itself() {
    let server = builder().start().await;
    let others = json!({"rollout_strategy": "canary"});
    let (workflow, id) = deployed(&server, "1", "shop", 1, others).await;
    redefine(&server, &workflow, "error(\"broken\")").await;
    let load = CallLoad::start(&server, &id, 3, true);
    deploy(&server, &id).await;
    let found = settled(&server, &id).await;
    load.end().await;
    assert_eq!((&found["status"], &found["revision"]), (&json!("deployed"), &json!(1)), "{found}");
    assert!(found.text("error").contains("calls failed"), "{found}");
    healthy(&server, &id, 1, 1).await;
    let after = call(&server, &id, json!({})).await.ok();
    assert_eq!((&after["revision"], &after["status"]), (&json!(1), &json!("completed")));
    let revisions = server.get(&deployments(&format!("{id}/revisions"))).await.ok();
    let states: Vec<&str> = revisions["revisions"].as_array().unwrap().iter().map(|row| row.text("state")).collect();
    assert_eq!(states, ["undone", "active"]);
    let alerts = server.get(&deployments(&format!("alerts?deployment_id={id}"))).await.ok();
    assert_eq!((&alerts[0]["rule"], &alerts[0]["severity"]), (&json!("rollout_undone"), &json!("critical")));
}

#[tokio::test]
async fn a_rollback_restores_what_served_before() {
    let server = builder().start().await;
    let (workflow, id) = deployed(&server, "1", "shop", 1, json!({})).await;
    redefine(&server, &workflow, "2").await;
    deploy(&server, &id).await;
    assert_eq!(settled(&server, &id).await["revision"], 2);
    let begun = server.post(&deployments(&format!("{id}/rollback")), json!({})).await.ok();
    assert_eq!((&begun["restored_revision"], &begun["revision"]), (&json!(1), &json!(3)), "{begun}");
    assert_eq!(settled(&server, &id).await["revision"], 3);
    let after = call(&server, &id, json!({})).await.ok();
    assert_eq!((&after["revision"], &after["result"]["step_results"]["a"]), (&json!(3), &json!(1)), "{after}");
    let forbidden = super::make(&server, &workflow, "fixed", json!({"rollback_enabled": false})).await;
    let refused = server.post(&deployments(&format!("{forbidden}/rollback")), json!({})).await.is(409);
    assert_eq!(refused["code"], "rollback_disabled");
}

#[tokio::test]
async fn a_rollout_that_can_not_start_is_undone_at_its_deadline() {
    let server = builder().start().await;
    let workflow = server.workflow(json!({"a": crate::kit::jq("1")})).await;
    let id = super::make(&server, &workflow, "shop", json!({"deployment_timeout": 1, "health_check_timeout": 1})).await;
    // Nobody can start it: its token's directory is a file.
    let tokens = server.dir().join("deployments");
    std::fs::create_dir_all(&tokens).unwrap();
    std::fs::write(tokens.join("tokens"), "").unwrap();
    deploy(&server, &id).await;
    let found = settled(&server, &id).await;
    assert_eq!(found["status"], "failed", "{found}");
    assert!(found.text("error").contains("deadline"), "{found}");
    std::fs::remove_file(tokens.join("tokens")).unwrap();
    deploy(&server, &id).await;
    assert_eq!(settled(&server, &id).await["status"], "deployed", "{}", state(&server, &id).await);
}
