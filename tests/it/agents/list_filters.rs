//! Filters by time and state, and the order, of all lists.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::plans::plan;
use crate::{
    harness::{Answer, ApiClient, TestApp},
    kit::{AGENTS, JsonDocument as _, filled, jq, locations, sql, waiting},
};

fn ids(page: &Answer) -> Vec<String> {
    let rows = page.body.as_array().unwrap_or_else(|| panic!("no list: {}", page.text));
    rows.iter().map(|row| row.get("job_id").unwrap_or(&row["id"]).as_str().unwrap().to_owned()).collect()
}

/// All ids of a list, one on a page, and the total that the last page names.
async fn walk(server: &ApiClient, first: String) -> (Vec<String>, usize) {
    let (mut found, mut path, mut total) = (Vec::new(), Some(first), 0);
    while let Some(at) = path {
        let page = server.get(&at).await;
        assert_eq!(page.status, 200, "{at}: {}", page.text);
        found.extend(ids(&page));
        assert!(found.len() < 100, "{at} goes round in circles");
        total = page.header("x-total-count").parse().unwrap();
        let next = page.header("link").split(", ").find(|link| link.ends_with("rel=\"next\""));
        path = next.map(|link| link.trim_start_matches('<').split_once('>').unwrap().0.to_owned());
    }
    (found, total)
}

/// All ids of a list that does not count, page by page.
async fn pages(server: &ApiClient, first: String) -> Vec<String> {
    let (mut found, mut path, mut count) = (Vec::new(), Some(first), 0);
    while let Some(at) = path {
        let page = server.get(&at).await;
        assert_eq!(page.status, 200, "{at}: {}", page.text);
        found.extend(ids(&page));
        count += 1;
        assert!(count < 100, "{at} goes round in circles");
        let next = page.header("link").split(", ").find(|link| link.ends_with("rel=\"next\""));
        path = next.map(|link| link.trim_start_matches('<').split_once('>').unwrap().0.to_owned());
    }
    found
}

/// A server with four of each thing that lists have, and where these are.
async fn full_server() -> (TestApp, Vec<(String, &'static str)>) {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    for number in 0..4 {
        if number > 0 {
            server.workflow(json!({"a": jq("1")})).await;
        }
        let run = server.execute(&workflow, json!({})).await;
        server.ended(run.text("id")).await;
        server.post(&format!("{AGENTS}/networks"), json!({"name": "n"})).await.is(201);
        plan(&server, json!({"task_types": ["model_training"]})).await;
        let policy = format!("{AGENTS}/security/policies?name=p{number}&security_level=internal");
        server.post(&policy, json!({})).await.ok();
    }
    let lists = [
        (format!("{AGENTS}/workflows"), "ai_agent_workflows"),
        (format!("{AGENTS}/executions"), "agent_executions"),
        (format!("{AGENTS}/workflows/{workflow}/executions"), "agent_executions"),
        (format!("{AGENTS}/networks"), "am_networks"),
        (format!("{AGENTS}/plans"), "am_plans"),
        (format!("{AGENTS}/security/policies"), "agent_security_policies"),
    ];
    (server, lists.into())
}

#[tokio::test]
async fn lists_are_filtered_by_time_and_read_in_both_orders() {
    let (server, lists) = full_server().await;
    for (list, table) in &lists {
        let question = if list.contains('?') { '&' } else { '?' };
        // The newest has the highest day.
        let mut known = ids(&server.get(list).await);
        known.reverse();
        for (day, id) in known.iter().enumerate() {
            let at = format!("2026-05-1{day} 10:00:00.000000");
            sql(&server.database(), &format!("UPDATE {table} SET created_at = '{at}' WHERE id = '{id}'")).await;
        }
        // What another program changed is noticed where it is read.
        server.get(&format!("{list}{question}limit=500")).await.ok();
        for (filter, from, to) in [
            ("", 0, 4),
            ("created_after=2026-05-11T10:00:00Z&", 2, 4),
            ("created_before=2026-05-11T10:00:00Z&", 0, 1),
            ("created_after=2026-05-10T12:00:00%2B02:00&created_before=2026-05-13T09:59:59.5Z&", 1, 3),
            ("created_after=1w&", 4, 4),
            ("created_before=1s&", 0, 4),
        ] {
            let expected = &known[from..to];
            let newest_first: Vec<String> = expected.iter().rev().cloned().collect();
            for (order, expected) in [("", &newest_first[..]), ("order=desc&", &newest_first), ("order=asc&", expected)]
            {
                let all = format!("{list}{question}{filter}{order}");
                let found = walk(&server, format!("{all}limit=1")).await;
                assert_eq!(found, (expected.to_vec(), expected.len()), "{all}");
                assert_eq!(walk(&server, format!("{all}limit=3&offset=0")).await.0, expected, "{all}");
                assert_eq!(ids(&server.get(&format!("{all}limit=500")).await), expected, "{all}");
            }
        }
    }
}

#[tokio::test]
async fn executions_are_listed_by_several_states_and_by_their_end() {
    let server = TestApp::start().await;
    let fails = json!({"a": {"step_type": "data_processing", "max_retries": 0, "action": {"kind": "jq", "program": "error(\"no\")"}}});
    let mut runs = Vec::new();
    for steps in [json!({"a": jq("1")}), fails, json!({"a": waits_for_days()})] {
        let workflow = server.workflow(steps).await;
        let run = server.execute(&workflow, json!({})).await;
        runs.push((workflow, run.text("id").to_owned()));
    }
    for (_, run) in &runs[..2] {
        server.ended(run).await;
    }
    let running = &runs[2].1;
    server.until(running, |run| run["status"] == "running").await;
    server.clock().advance(Duration::from_secs(7200));
    let (completed, failed) = (&runs[0].1, &runs[1].1);
    let executions = format!("{AGENTS}/executions");
    for (query, expected) in [
        ("status=completed,failed", vec![failed, completed]),
        ("status=failed&status=running", vec![running, failed]),
        ("status=running,cancelled&order=asc", vec![running]),
        ("status=", vec![running, failed, completed]),
        ("ended_after=1d", vec![failed, completed]),
        ("ended_before=1h", vec![failed, completed]),
        ("ended_after=1h", vec![]),
        ("ended_after=1d&ended_before=1h&status=failed,running&order=asc", vec![failed]),
        ("created_after=1d&status=running,completed&order=asc", vec![completed, running]),
    ] {
        let (found, total) = walk(&server, format!("{executions}?{query}&limit=1")).await;
        assert_eq!((found.iter().collect::<Vec<_>>(), total), (expected.clone(), expected.len()), "{query}");
    }
    let of_one = format!("{AGENTS}/workflows/{}/executions?status=completed,failed", runs[1].0);
    assert_eq!(walk(&server, of_one).await.0, [failed.as_str()]);
    let refused = server.get(&format!("{executions}?status=failed,finished")).await.is(422);
    assert_eq!(locations(&refused), [json!(["query", "status"])]);
}

#[tokio::test]
async fn jobs_runs_messages_and_the_audit_log_are_filtered_too() {
    let server = TestApp::start().await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let job = server.post("/api/v1/services/llm/inference", json!({"model": "llama-7b", "prompt": "x"})).await;
        jobs.push(job.is(201).text("job_id").to_owned());
    }
    let list = "/api/v1/services/jobs";
    server.delete(&format!("{list}/{}", jobs[1])).await;
    let newest_first: Vec<String> = jobs.iter().rev().cloned().collect();
    for (query, expected) in [
        ("order=asc", jobs.clone()),
        ("", newest_first.clone()),
        ("created_after=1h", newest_first.clone()),
        ("created_before=1h", vec![]),
        ("state=QUEUED,RUNNING&order=asc", vec![jobs[0].clone(), jobs[2].clone()]),
        ("state=QUEUED,CANCELED", newest_first),
        ("ended_before=1h", vec![]),
    ] {
        let found = walk(&server, format!("{list}?{query}&limit=1")).await;
        assert_eq!(found, (expected.clone(), expected.len()), "{query}");
    }
    let run = json!({"environment": "CartPole-v1", "algorithm": "ppo", "policy": "p", "steps": 1000});
    let runs = format!("{AGENTS}/performance/rl/runs");
    let run = server.post(&runs, run).await.is(201);
    for (query, count) in [
        ("status=queued,running,completed,failed,cancelled,paused&created_after=1h", 1),
        ("created_before=1h", 0),
        ("ended_before=1h&order=asc", 0),
    ] {
        let (found, total) = walk(&server, format!("{runs}?{query}")).await;
        assert_eq!((found.len(), total), (count, count), "{query}: {run}");
    }
    let log = format!("{AGENTS}/security/audit-logs");
    let all = ids(&server.get(&log).await);
    assert_eq!(ids(&server.get(&format!("{log}?created_after=1h")).await), all);
    assert_eq!(ids(&server.get(&format!("{log}?created_before=1h")).await), Vec::<String>::new());
    let oldest_first: Vec<String> = all.iter().rev().cloned().collect();
    for filter in
        ["", "event_type=workflow_updated&", "risk_score_max=100&", "security_level=internal&", "created_after=1h&"]
    {
        // The run in the background may write further entries.
        let newest = pages(&server, format!("{log}?{filter}limit=3")).await;
        let oldest = pages(&server, format!("{log}?{filter}order=asc&limit=3")).await;
        let [newest, oldest] =
            [newest, oldest].map(|found| found.into_iter().filter(|id| all.contains(id)).collect::<Vec<_>>());
        assert!(!newest.is_empty() && oldest.iter().rev().eq(newest.iter()), "{filter}: {oldest:?} {newest:?}");
        if filter.is_empty() {
            assert_eq!(oldest, oldest_first);
        }
    }
    assert_eq!(ids(&server.get(&format!("{log}?order=asc&limit=2&offset=1")).await), oldest_first[1..3]);
}

/// Lists whose order is another than by time: searches of services, agents by trust.
const OF_OTHER_ORDER: [&str; 2] = ["/api/v1/services/marketplace/services", "/api/v1/services/marketplace/trust"];

#[tokio::test]
async fn every_list_refuses_what_is_no_time_and_no_order() {
    let server = TestApp::start().await;
    let document = server.get("/openapi.json").await.ok();
    let mut lists = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let parameters = item["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let has = |name: &str| parameters.iter().any(|parameter: &Value| parameter["name"] == name);
        if !has("cursor") || OF_OTHER_ORDER.contains(&path.as_str()) {
            continue;
        }
        lists += 1;
        for (name, wrong) in [
            ("created_after", "yesterday"),
            ("created_before", "7y"),
            ("order", "newest"),
            ("ended_after", "-1d"),
            ("ended_before", "2026-05-12"),
        ] {
            if !has(name) {
                assert!(name.starts_with("ended"), "{path} has no {name}");
                continue;
            }
            let request = server.request(Method::GET, &filled(path, "agent_1")).query(&[(name, wrong)]);
            let refused = Answer::of(request).await.is(422);
            assert_eq!(locations(&refused), [json!(["query", name])], "{path}: {refused}");
        }
    }
    assert!(lists > 15, "{lists}");
}

/// A step whose job is still in time when the clock has advanced by hours.
fn waits_for_days() -> Value {
    let mut step = waiting();
    step["timeout_seconds"] = json!(604_800);
    step["action"]["ttl_seconds"] = json!(604_800);
    step
}
