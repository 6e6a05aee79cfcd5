//! What runs, agents and messages cost is in the books.

use serde_json::{Value, json};

use super::{LEDGER, principal_of, spending_by, verified};
use crate::{
    agents::{plans, registry},
    harness::{ADMIN, CLIENT, TestApp},
    kit::{AGENTS, JsonDocument, get_as, jq},
    messages,
};

fn group<'a>(report: &'a Value, member: &str, value: &str) -> &'a Value {
    let groups = report["spending"].as_array().unwrap();
    groups.iter().find(|group| group[member] == value).unwrap_or_else(|| panic!("{value}: {report}"))
}

#[tokio::test]
async fn a_runs_cost_is_posted_with_its_end() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq("1"), "b": jq("2"), "c": jq("3")})).await;
    for _ in 0..3 {
        let run = server.execute(&workflow, json!({})).await;
        assert_eq!(server.ended(run.text("id")).await["current_cost"], 0.03);
    }
    let failing = json!({"good": jq("1"), "bad": {"step_type": "data_processing", "max_retries": 0, "depends_on": ["good"],
        "action": {"kind": "jq", "program": "error(\"x\")"}}});
    let failing = server.workflow(failing).await;
    let failed = server.execute(&failing, json!({})).await;
    server.ended(failed.text("id")).await;
    let report = server.get(&spending_by("workflow")).await.ok();
    assert_eq!((&report["total"], &report["groups"]), (&json!(0.1), &json!(2)), "{report}");
    assert_eq!(group(&report, "workflow_id", &workflow)["amount"], 0.09);
    // One for each run, and one more where a run was saved on its way.
    let entries = group(&report, "workflow_id", &workflow)["entries"].as_i64().unwrap();
    assert!(entries >= 3, "{report}");
    assert_eq!(group(&report, "workflow_id", &failing)["amount"], 0.01);
    let report = server.get(&spending_by("principal")).await.ok();
    assert_eq!(group(&report, "principal", &principal_of(ADMIN))["amount"], 0.1);
    assert_eq!(get_as(&server, CLIENT, &spending_by("day")).await.ok()["total"], 0.0, "a client spent nothing");
    let another = format!("{}&principal={}", spending_by("day"), principal_of(ADMIN));
    assert_eq!(get_as(&server, CLIENT, &another).await.status, 403);
    // The tab may be below zero, and is paid by a transfer.
    let accounts = server.get(&format!("{LEDGER}/accounts?purpose=costs&owner={}", principal_of(ADMIN))).await.ok();
    assert_eq!(accounts[0]["balance"], -0.1);
    let later =
        server.get(&format!("{}&from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z", spending_by("day"))).await.ok();
    assert_eq!(later["total"], 0.0);
    assert!(verified(&server).await.entries >= 4);
}

#[tokio::test]
async fn what_an_agent_is_paid_comes_out_of_what_the_run_cost() {
    let server = TestApp::start().await;
    registry::register(
        &server,
        "worker",
        json!({"agent_type": "paid", "capabilities": ["io_bound"], "cost_per_hour": 3600}),
    )
    .await;
    let sub_task = json!({"task_type": "io_bound", "agent_type": "paid"});
    let plan = plans::plan(&server, json!({"sub_tasks": [sub_task]})).await;
    plans::execute(&server, &plan).await;
    let one = plans::has(&server, "worker", 1).await.remove(0);
    plans::report(&server, &one, "accept", json!({})).await.ok();
    server.clock().advance(std::time::Duration::from_secs(2));
    plans::report(&server, &one, "result", json!({"result": {"x": 1}})).await.ok();
    let run = server.ended(one.text("execution_id")).await;
    let paid = run["current_cost"].as_f64().unwrap() - 0.01;
    assert!(paid >= 2.0, "{run}");
    let accounts = server.get(&format!("{LEDGER}/accounts?owner=agent:worker")).await.ok();
    let earned = accounts[0]["balance"].as_f64().unwrap();
    assert!((earned - paid).abs() < 1e-7, "{earned} of {paid}");
    let report = server.get(&spending_by("agent")).await.ok();
    let spent = group(&report, "agent_id", "worker")["amount"].as_f64().unwrap();
    assert!((spent - paid).abs() < 1e-7, "{report}");
    let total = server.get(&spending_by("day")).await.ok()["total"].as_f64().unwrap();
    assert!((total - paid - 0.01).abs() < 1e-7, "it counts once: {total}");
    verified(&server).await;
}

#[tokio::test]
async fn a_message_costs_its_sender_its_price() {
    let server = TestApp::start().await;
    let sent = messages::send(&server, "alice", "bob", json!({"word": "walnut"})).await;
    messages::send(&server, "alice", "bob", json!({"word": "again"})).await;
    let listed = server.get(&format!("{AGENTS}/messages/id/{}", sent.text("message_id"))).await.ok();
    let price = listed["price"].as_f64().unwrap();
    let report = server.get(&spending_by("agent")).await.ok();
    let spent = group(&report, "agent_id", "alice")["amount"].as_f64().unwrap();
    assert!((spent - 2.0 * price).abs() < 1e-9 && price > 0.0, "{report}");
    let budget = json!({"name": "talk", "scope": "agent", "subject": "alice", "limit": 2.5 * price, "period": "day"});
    let budget = server.post(&format!("{LEDGER}/budgets"), budget).await.is(201);
    assert_eq!(budget["state"]["spent"], json!(2.0 * price));
    let body = json!({"sender": "alice", "recipient": "bob", "content": {"word": "more"}});
    let refused = server.post(&format!("{AGENTS}/messages/send"), body).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("budget_exceeded")), "{}", refused.text);
    assert_eq!(refused.body["budget"], "talk");
    let other = json!({"sender": "carol", "recipient": "bob", "content": {"word": "more"}});
    server.post(&format!("{AGENTS}/messages/send"), other).await.ok();
    verified(&server).await;
}
