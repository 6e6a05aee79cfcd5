//! Lists: their order, their pages, what they leave out.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, ApiClient, OTHER_ADMIN, TestApp},
    kit::{AGENTS, JsonDocument, get_as, jq, post_as, sql, waiting},
};

const WORKFLOWS: &str = "/api/v1/agents/workflows";

async fn make(server: &ApiClient, key: &str, name: &str, tags: Value, is_public: bool) -> String {
    let body = json!({"name": name, "steps": {"a": jq("1")}, "tags": tags, "is_public": is_public});
    post_as(server, key, WORKFLOWS, body).await.ok().text("id").to_owned()
}

/// The address behind a relation of the Link header, as it was given.
fn link(answer: &Answer, relation: &str) -> Option<String> {
    answer.header("link").split(", ").find_map(|link| {
        let (address, rest) = link.split_once('>')?;
        (rest == format!("; rel=\"{relation}\"")).then(|| address.trim_start_matches('<').to_owned())
    })
}

fn ids(answer: &Answer) -> Vec<String> {
    let rows = answer.body.as_array().unwrap_or_else(|| panic!("a list is an array: {}", answer.text));
    rows.iter().map(|row| row.text("id").to_owned()).collect()
}

/// Follow the links from `first` to the end; `between` happens after each page.
async fn walk(server: &ApiClient, first: &str, mut between: impl AsyncFnMut()) -> Vec<String> {
    let (mut found, mut next) = (Vec::new(), Some(first.to_owned()));
    while let Some(path) = next {
        let page = server.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        found.extend(ids(&page));
        next = link(&page, "next");
        assert!(found.len() < 200, "it goes round in circles");
        between().await;
    }
    found
}

#[tokio::test]
async fn keyset_pages_show_every_row_once_during_changes() {
    let server = TestApp::start().await;
    let mut made = Vec::new();
    for number in 0..11 {
        made.push(make(&server, server.key(), &format!("w{number}"), json!([]), false).await);
    }
    made.reverse();
    let all = server.get(WORKFLOWS).await;
    assert_eq!((ids(&all), all.header("x-total-count")), (made.clone(), "11"), "newest first");
    assert_eq!(link(&all, "next"), None);
    for alias in [WORKFLOWS, "/v1/agents/workflows/", "/api/v1/agent/workflows"] {
        let mut late = HashSet::new();
        let found = walk(&server, &format!("{alias}?limit=4"), async || {
            late.insert(make(&server, server.key(), "late", json!([]), false).await);
        })
        .await;
        assert_eq!(found, made, "{alias}");
        for id in late {
            server.delete(&format!("{WORKFLOWS}/{id}")).await.ok();
        }
    }
    // By offset: each page says what is before and after it.
    let middle = server.get(&format!("{WORKFLOWS}?limit=4&offset=4")).await;
    assert_eq!((ids(&middle), middle.header("x-total-count")), (made[4..8].to_vec(), "11"));
    assert_eq!(ids(&server.get(&link(&middle, "next").unwrap()).await), made[8..]);
    assert_eq!(ids(&server.get(&link(&middle, "prev").unwrap()).await), made[..4]);
    assert_eq!(ids(&server.get(&link(&middle, "first").unwrap()).await), made[..4]);
    assert_eq!(walk(&server, &format!("{WORKFLOWS}?limit=3&offset=0"), async || {}).await, made);
    let beyond = server.get(&format!("{WORKFLOWS}?offset=50")).await;
    assert_eq!((beyond.text.as_str(), beyond.header("x-total-count")), ("[]", "11"));
}

#[tokio::test]
async fn keyset_pages_keep_rows_with_equal_timestamps() {
    let server = TestApp::start().await;
    let makers = (0..40).map(|_| make(&server, server.key(), "w", json!([]), false));
    let made: HashSet<String> = futures_util::future::join_all(makers).await.into_iter().collect();
    let found = walk(&server, &format!("{WORKFLOWS}?limit=7"), async || {}).await;
    assert_eq!(found.len(), 40);
    assert_eq!(found.into_iter().collect::<HashSet<_>>(), made);
}

#[tokio::test]
async fn workflow_list_filters_stay_within_visible_rows() {
    let server = TestApp::start().await;
    let (me, other) = (server.key().to_owned(), OTHER_ADMIN);
    let mine = make(&server, &me, "mine", json!(["red", "round"]), false).await;
    let mine_public = make(&server, &me, "mine public", json!(["red", "größe", "a,b", "50%"]), true).await;
    let theirs = make(&server, other, "theirs", json!(["red"]), false).await;
    let theirs_public = make(&server, other, "theirs public", json!(["redder", "\"quoted\" \\ it"]), true).await;
    let theirs_id = get_as(&server, other, &format!("{WORKFLOWS}/{theirs}")).await.ok()["owner_id"].clone();
    let theirs_id = theirs_id.as_str().unwrap();
    type Case<'a> = (Vec<(&'a str, &'a str)>, Vec<&'a String>);
    let cases: Vec<Case> = vec![
        (vec![], vec![&theirs_public, &mine_public, &mine]),
        (vec![("is_public", "true")], vec![&theirs_public, &mine_public]),
        (vec![("is_public", "True")], vec![&theirs_public, &mine_public]),
        (vec![("is_public", "1")], vec![&theirs_public, &mine_public]),
        (vec![("is_public", "false")], vec![&mine]),
        (vec![("owner_id", "key_8211bbf633a893df9505")], vec![&mine_public, &mine]),
        (vec![("owner_id", me.as_str())], vec![&mine_public, &mine]),
        (vec![("owner_id", theirs_id)], vec![&theirs_public]),
        (vec![("owner_id", "nobody")], vec![]),
        (vec![("tags", "red")], vec![&mine_public, &mine]),
        (vec![("tags", "red,round")], vec![&mine]),
        (vec![("tags", "[\"red\", \"round\"]")], vec![&mine]),
        (vec![("tags", "[\"a,b\"]")], vec![&mine_public]),
        (vec![("tags", "größe")], vec![&mine_public]),
        (vec![("tags", "50%")], vec![&mine_public]),
        (vec![("tags", "%")], vec![]),
        (vec![("tags", "[\"\\\"quoted\\\" \\\\ it\"]")], vec![&theirs_public]),
        (vec![("tags", "re")], vec![]),
        (vec![("tags", "[\", \"]")], vec![]),
        (vec![("tags", "red"), ("is_public", "true")], vec![&mine_public]),
        (vec![("tags", "")], vec![&theirs_public, &mine_public, &mine]),
    ];
    for (query, expected) in cases {
        let answer = Answer::of(server.request(Method::GET, WORKFLOWS).query(&query)).await;
        assert_eq!(ids(&answer).iter().collect::<Vec<_>>(), expected, "{query:?}");
        assert_eq!(answer.header("x-total-count"), expected.len().to_string(), "{query:?}");
    }
    // A tag given as several parameters, as the monolith's own clients send a list.
    let several = server.get(&format!("{WORKFLOWS}?tags=red&tags=round")).await;
    assert_eq!(ids(&several), [mine.as_str()], "{}", several.text);
    // Filters go on to the next page.
    let found = walk(&server, &format!("{WORKFLOWS}?limit=1&tags=red"), async || {}).await;
    assert_eq!(found, [mine_public, mine]);
}

#[tokio::test]
async fn executions_are_listed_by_workflow_and_state_to_their_owner() {
    let server = TestApp::start().await;
    let quick = make(&server, server.key(), "quick", json!([]), true).await;
    let slow = server.workflow(json!({"a": waiting()})).await;
    let fails = server.workflow(json!({"a": {"step_type": "data_processing", "max_retries": 0, "action": {"kind": "jq", "program": "error(\"no\")"}}})).await;
    let mut runs = Vec::new();
    for workflow in [&quick, &quick, &fails, &slow] {
        let run = server.execute(workflow, json!({})).await;
        runs.push(run.text("id").to_owned());
    }
    for run in &runs[..3] {
        server.ended(run).await;
    }
    let theirs = post_as(&server, OTHER_ADMIN, &format!("{WORKFLOWS}/{quick}/execute?wait=20"), json!({})).await.ok();
    let theirs = theirs.text("id");
    let newest_first: Vec<&String> = runs.iter().rev().collect();
    let executions = format!("{AGENTS}/executions");
    let of = async |query: &str| ids(&server.get(&format!("{executions}{query}")).await);
    assert_eq!(of("").await.iter().collect::<Vec<_>>(), newest_first);
    assert_eq!(of(&format!("?workflow_id={quick}")).await, [runs[1].as_str(), &runs[0]]);
    assert_eq!(of("?status=completed").await, [runs[1].as_str(), &runs[0]]);
    assert_eq!(of("?status=failed").await, [runs[2].as_str()]);
    assert_eq!(of("?status=cancelled").await, Vec::<String>::new());
    assert_eq!(of(&format!("?status=running&workflow_id={slow}")).await, [runs[3].as_str()]);
    assert_eq!(of("?limit=1&offset=1").await, [runs[2].as_str()]);
    assert_eq!(
        walk(&server, &format!("{executions}?limit=1"), async || {}).await.iter().collect::<Vec<_>>(),
        newest_first
    );
    assert_eq!(ids(&server.get(&format!("{WORKFLOWS}/{quick}/executions")).await), [runs[1].as_str(), &runs[0]]);
    assert_eq!(ids(&server.get(&format!("{WORKFLOWS}/{quick}/executions?status=failed")).await), Vec::<String>::new());
    server.get(&format!("{WORKFLOWS}/agent_00000000/executions")).await.is(404);
    // Another's run of the same public workflow is another's.
    assert_eq!(ids(&get_as(&server, OTHER_ADMIN, &executions).await), [theirs]);
    for path in ["", "/status", "/logs", "/receipt", "/events"] {
        get_as(&server, OTHER_ADMIN, &format!("{executions}/{}{path}", runs[0])).await.is(404);
        get_as(&server, OTHER_ADMIN, &format!("{executions}/exec_0000000000{path}")).await.is(404);
    }
    for action in ["cancel", "pause", "resume", "retry"] {
        post_as(&server, OTHER_ADMIN, &format!("{executions}/{}/{action}", runs[3]), json!({})).await.is(404);
        post_as(&server, OTHER_ADMIN, &format!("{executions}/exec_0000000000/{action}"), json!({})).await.is(404);
    }
}

#[tokio::test]
async fn execution_list_defaults_to_fifty_per_page() {
    let server = TestApp::start().await;
    let id = make(&server, server.key(), "w", json!([]), false).await;
    let runs = (0..53).map(|_| server.execute(&id, json!({})));
    futures_util::future::join_all(runs).await;
    let page = server.get(&format!("{AGENTS}/executions")).await;
    assert_eq!((ids(&page).len(), page.header("x-total-count")), (50, "53"));
    assert_eq!(ids(&server.get(&link(&page, "next").unwrap()).await).len(), 3);
}

#[tokio::test]
async fn an_empty_text_filters_nothing() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": {"step_type": "custom"}})).await;
    server.execute(&workflow, json!({})).await;
    for query in
        ["executions?workflow_id=", "workflows?owner_id=&tags=", "performance/rl/runs?policy=", "registry?agent_type="]
    {
        let all = server.get(&format!("/api/v1/agents/{}", query.split('?').next().unwrap())).await;
        let same = server.get(&format!("/api/v1/agents/{query}")).await;
        assert_eq!((same.status, &same.body), (all.status, &all.body), "{query}");
    }
    let found = server.get("/api/v1/agents/executions?workflow_id=").await.ok();
    assert_eq!(found.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn pages_lead_through_rows_in_every_form_of_a_time() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    for number in 0..13 {
        make(&server, server.key(), &format!("w{number}"), json!([]), false).await;
        server.execute(&workflow, json!({})).await;
        let policy = format!("/api/v1/agents/security/policies?name=p{number}&security_level=internal");
        server.post(&policy, json!({})).await.ok();
        server.post("/api/v1/services/llm/inference", json!({"model": "llama-7b", "prompt": "x"})).await.is(201);
    }
    // What CURRENT_TIMESTAMP, SQLAlchemy and other programs write, at the same few moments.
    for (table, column) in [
        ("ai_agent_workflows", "created_at"),
        ("agent_executions", "created_at"),
        ("agent_security_policies", "created_at"),
        ("job", "requested_at"),
    ] {
        let forms = "CASE rowid % 6 WHEN 0 THEN ' 10:00:00' WHEN 1 THEN ' 10:00:00.000000' WHEN 2 THEN 'T10:00:00'
            WHEN 3 THEN ' 10:00' WHEN 4 THEN ' 10:00:00.000' ELSE ' 10:00:00.000001' END";
        let change = format!("UPDATE {table} SET {column} = '2026-05-1' || (rowid % 2) || {forms}");
        sql(&server.database(), &change).await;
    }
    for list in [WORKFLOWS, "/api/v1/agents/executions", "/api/v1/agents/security/policies", "/api/v1/services/jobs"] {
        let all = server.get(&format!("{list}?limit=500")).await;
        let all = row_ids(&all);
        assert!(all.len() >= 13, "{list}");
        for limit in 1..=5 {
            let (mut found, mut next) = (Vec::new(), Some(format!("{list}?limit={limit}")));
            while let Some(path) = next {
                let page = server.get(&path).await;
                found.extend(row_ids(&page));
                next = link(&page, "next");
                assert!(found.len() <= all.len(), "{list} goes round in circles");
            }
            assert_eq!(found, all, "{list} by {limit}");
        }
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_holds_up_no_list() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    for number in 0..5 {
        make(&server, server.key(), &format!("w{number}"), json!([]), false).await;
        let run = server.execute(&workflow, json!({})).await;
        server.ended(run.text("id")).await;
        let policy = format!("/api/v1/agents/security/policies?name=p{number}&security_level=internal");
        server.post(&policy, json!({})).await.ok();
    }
    for (table, column, list) in [
        ("ai_agent_workflows", "verification_level", WORKFLOWS),
        ("agent_executions", "status", "/api/v1/agents/executions"),
        ("agent_security_policies", "security_level", "/api/v1/agents/security/policies"),
    ] {
        let mut all = row_ids(&server.get(list).await);
        for at in [all.len() - 1, 2, 1] {
            let id = all.remove(at);
            let id = id.as_str().unwrap();
            sql(&server.database(), &format!("UPDATE {table} SET {column} = 'PONDERING' WHERE id = '{id}'")).await;
            let single = server.get(&format!("{list}/{id}")).await;
            assert_eq!(
                (single.status.as_u16(), &single.body["code"]),
                (500, &json!("unreadable_row")),
                "{}",
                single.text
            );
        }
        assert!(all.len() >= 2);
        for limit in [1, 2, 50] {
            let (mut found, mut next) = (Vec::new(), Some(format!("{list}?limit={limit}")));
            while let Some(path) = next {
                let page = server.get(&path).await;
                found.extend(row_ids(&page));
                next = link(&page, "next");
            }
            assert_eq!(found, all, "{list} by {limit}");
        }
    }
    assert!(server.log().contains("is left out of a list"));
}

fn row_ids(page: &Answer) -> Vec<Value> {
    let rows = page.body.as_array().unwrap_or_else(|| panic!("no list: {}", page.text));
    rows.iter().map(|row| row.get("id").or_else(|| row.get("job_id")).unwrap().clone()).collect()
}
