//! Which waiting assignments agents get, among many that nobody can take, and what an agent's id stands for.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    plans::{PLANS, execute, has, plan, report},
    registry::{REGISTRY, register},
};
use crate::{
    harness::{OTHER_ADMIN, TestApp},
    kit::{JsonDocument, ask, get_as, post_as, sql},
};

#[tokio::test]
async fn assignments_that_nobody_can_take_keep_none_from_an_agent() {
    let server = TestApp::start().await;
    // Placed before, more urgent, and of the same client and type; what they may cost is less than anybody asks.
    let client: String = {
        let made = plan(&server, json!({"sub_tasks": [{"key": "first", "task_type": "text_processing"}]})).await;
        made["owner_id"].as_str().unwrap().to_owned()
    };
    let rows = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO am_assignments (id, execution_id, step_key, workflow_id, client_id, task_type, priority, request,
             max_price, estimated_seconds, max_retries, state, deadline, placed_at)
         SELECT 'assign_' || i, 'exec_none', 's', 'plan_none', '{client}', 'TEXT_PROCESSING', 0, '{{}}', 0.000001, 3600, 0,
             'WAITING', '2099-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000' FROM n"
    );
    sql(&server.database(), &rows).await;
    register(&server, "worker", json!({"max_concurrent_tasks": 1})).await;
    let made =
        plan(&server, json!({"sub_tasks": [{"key": "s", "task_type": "text_processing", "estimated_seconds": 36}]}))
            .await;
    execute(&server, &made).await;
    assert_eq!(has(&server, "worker", 1).await[0]["sub_task"], "s");
}

#[tokio::test]
async fn another_owners_registration_of_an_id_inherits_nothing() {
    let server = TestApp::start().await;
    register(&server, "x", json!({"max_concurrent_tasks": 1, "reliability": 0.9})).await;
    let mut done = Value::Null;
    for _ in 0..3 {
        let made = plan(&server, json!({"sub_tasks": [{"key": "s", "task_type": "text_processing"}]})).await;
        execute(&server, &made).await;
        done = has(&server, "x", 1).await.remove(0);
        report(&server, &done, "fail", json!({"error": "no", "retryable": false})).await.ok();
    }
    assert_eq!(server.get(&format!("{REGISTRY}/x")).await.ok()["reliability"]["value"], 0.0, "its own record");
    let path = format!("{PLANS}/assignments/{}", done.text("assignment_id"));
    get_as(&server, OTHER_ADMIN, &path).await.is(404);
    // Registered again by its owner it is the same; by another it is another.
    ask(&server, Some(server.key()), Method::DELETE, &format!("{REGISTRY}/x"), None).await.is(204);
    register(&server, "x", json!({"reliability": 0.9})).await;
    assert_eq!(server.get(&format!("{REGISTRY}/x")).await.ok()["reliability"]["value"], 0.0);
    ask(&server, Some(server.key()), Method::DELETE, &format!("{REGISTRY}/x"), None).await.is(204);
    let body = json!({"agent_id": "x", "capabilities": ["text_processing"], "reliability": 0.9});
    post_as(&server, OTHER_ADMIN, REGISTRY, body).await.is(201);
    assert_eq!(server.get(&format!("{REGISTRY}/x")).await.ok()["reliability"]["value"], 0.9, "nothing is known of it");
    get_as(&server, OTHER_ADMIN, &path).await.is(404);
    let late = json!({"attempt": done["attempt"], "error": "no", "retryable": false});
    post_as(&server, OTHER_ADMIN, &format!("{path}/fail"), late).await.is(404);
}

#[tokio::test]
async fn an_agents_assignments_have_pages_with_the_most_urgent_first() {
    let server = TestApp::start().await;
    register(&server, "worker", json!({"max_concurrent_tasks": 10})).await;
    let tasks: Vec<Value> = (0..7).map(|at| json!({"key": format!("s{at}"), "task_type": "text_processing"})).collect();
    let made = plan(&server, json!({"sub_tasks": tasks})).await;
    execute(&server, &made).await;
    let all = has(&server, "worker", 7).await;
    let ids = |rows: &[Value]| rows.iter().map(|one| one.text("assignment_id").to_owned()).collect::<Vec<_>>();
    let list = format!("{REGISTRY}/worker/assignments");
    for (order, expected) in [("", ids(&all)), ("order=asc&", ids(&all).into_iter().rev().collect())] {
        let (mut found, mut path) = (Vec::new(), Some(format!("{list}?{order}limit=3")));
        while let Some(at) = path {
            let page = server.get(&at).await;
            assert_eq!(page.header("x-total-count"), "7", "{at}");
            let next = page.header("link").split(", ").find(|link| link.ends_with("rel=\"next\""));
            path = next.map(|link| link.trim_start_matches('<').split_once('>').unwrap().0.to_owned());
            found.extend(ids(page.ok().as_array().unwrap()));
            assert!(found.len() <= 7, "{order}: {found:?}");
        }
        assert_eq!(found, expected, "{order}");
    }
    let by_offset = server.get(&format!("{list}?limit=2&offset=3")).await.ok();
    assert_eq!(ids(by_offset.as_array().unwrap()), ids(&all)[3..5]);
    assert_eq!(server.get(&format!("{list}?created_before=1h")).await.ok(), json!([]));
}
