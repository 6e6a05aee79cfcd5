//! Lists of the coordinator's tables are read by lists of this service's own, which follow what either of the two writes.

use std::path::Path;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    harness::{Answer, ApiClient, PATIENCE, TestApp, poll_interval},
    jobs::open,
    kit::{JsonDocument as _, jq, sql},
};

const WORKFLOWS: &str = "/api/v1/agents/workflows";
const EXECUTIONS: &str = "/api/v1/agents/executions";

async fn number(database: &Path, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&mut open(database).await).await.unwrap()
}

/// Wait until this many lists are complete.
pub async fn built(database: &Path) {
    let all = am_db::kept_list::ListedTable::ALL.len() as i64;
    let built = async {
        while number(database, "SELECT count(*) FROM am_list_progress WHERE built_at IS NOT NULL").await < all {
            poll_interval().await;
        }
    };
    timeout(PATIENCE, built).await.expect("lists are made");
}

fn ids(answer: &Answer) -> Vec<String> {
    answer
        .body
        .as_array()
        .unwrap_or_else(|| panic!("no list: {}", answer.text))
        .iter()
        .map(|row| row.text("id").to_owned())
        .collect()
}

fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link").split(", ").find(|link| link.ends_with("rel=\"next\""))?;
    Some(link.trim_start_matches('<').split_once('>')?.0.to_owned())
}

/// All ids of a list, page by page, each with the same total.
async fn walk(server: &ApiClient, first: &str) -> (Vec<String>, String) {
    let (mut found, mut path, mut total) = (Vec::new(), Some(first.to_owned()), String::new());
    while let Some(at) = path {
        let page = server.get(&at).await;
        found.extend(ids(&page));
        total = page.header("x-total-count").to_owned();
        path = next(&page);
    }
    (found, total)
}

/// Rows that the coordinator writes, of owners 0 to 2 of which the first is the caller by its key, the second by its principal.
pub fn coordinator_rows(key: &str, principal: &str, from: u32, to: u32) -> String {
    let rows = format!("WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to} - 1)");
    let owner = format!("CASE i % 3 WHEN 0 THEN '{key}' WHEN 1 THEN '{principal}' ELSE 'key_00000000000000000000' END");
    let at = "'2026-01-0' || (1 + i % 5) || ' 10:00:00.000000'";
    format!(
        "{rows} INSERT INTO ai_agent_workflows SELECT 'agent_c' || i, {owner}, 'w', '', '{{}}', '{{}}', 60, 0, 0, 'BASIC',
             '[\"t' || (i % 2) || '\"]', '1', i % 4 = 0, {at}, {at} FROM n;
         {rows} INSERT INTO agent_executions SELECT 'exec_c' || i, 'agent_c' || (i % 2), {owner},
             CASE i % 3 WHEN 2 THEN 'RUNNING' ELSE CASE i % 4 WHEN 0 THEN 'RUNNING' ELSE 'COMPLETED' END END,
             0, '{{}}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 1, 0, {at}, {at} FROM n;"
    )
}

const MINE: &str = "owner_id <> 'key_00000000000000000000'";

/// What each list answers is what the tables hold.
async fn lists_are_true(server: &ApiClient) {
    let database = server.database();
    let mine = MINE.replace("owner_id", "client_id");
    let visible = format!("is_public OR {MINE}");
    for (list, table, condition) in [
        (WORKFLOWS.to_owned(), "ai_agent_workflows", visible.clone()),
        (format!("{WORKFLOWS}?is_public=true"), "ai_agent_workflows", "is_public".to_owned()),
        (format!("{WORKFLOWS}?is_public=false"), "ai_agent_workflows", format!("NOT is_public AND {MINE}")),
        (
            format!("{WORKFLOWS}?owner_id=key_00000000000000000000"),
            "ai_agent_workflows",
            format!("is_public AND NOT {MINE}"),
        ),
        (format!("{WORKFLOWS}?tags=t1"), "ai_agent_workflows", format!("({visible}) AND tags LIKE '%\"t1\"%'")),
        (EXECUTIONS.to_owned(), "agent_executions", mine.clone()),
        (format!("{EXECUTIONS}?status=running"), "agent_executions", format!("{mine} AND status = 'RUNNING'")),
        (format!("{EXECUTIONS}?status=completed"), "agent_executions", format!("{mine} AND status = 'COMPLETED'")),
        (
            format!("{EXECUTIONS}?workflow_id=agent_c1"),
            "agent_executions",
            format!("{mine} AND workflow_id = 'agent_c1'"),
        ),
    ] {
        let query = format!("SELECT id FROM {table} WHERE {condition} ORDER BY created_at DESC, id DESC");
        let expected: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&mut open(&database).await).await.unwrap();
        for limit in [3, 500] {
            let (question, total) = (if list.contains('?') { '&' } else { '?' }, expected.len().to_string());
            let found = walk(server, &format!("{list}{question}limit={limit}")).await;
            assert_eq!(found, (expected.clone(), total), "{list} by {limit}");
        }
        let question = if list.contains('?') { '&' } else { '?' };
        let page = server.get(&format!("{list}{question}limit=2&offset=1")).await;
        let some: Vec<String> = expected.iter().skip(1).take(2).cloned().collect();
        assert_eq!(ids(&page), some, "{list}");
    }
}

/// The lists have the rows of the tables, with principals in the place of keys, and their counters the numbers of them.
pub async fn lists_agree(database: &Path) {
    let differences = "SELECT (SELECT count(*) FROM agent_executions t LEFT JOIN am_execution_list l ON l.id = t.id
                 WHERE l.id IS NULL OR l.status <> t.status OR l.ended_at IS NOT t.completed_at OR l.client_id NOT LIKE 'key_%'
                     OR (t.client_id LIKE 'key_%' AND l.client_id <> t.client_id))
             + (SELECT count(*) FROM ai_agent_workflows t LEFT JOIN am_workflow_list l ON l.id = t.id
                 WHERE l.id IS NULL OR l.is_public <> t.is_public OR l.owner_id NOT LIKE 'key_%'
                     OR (t.owner_id LIKE 'key_%' AND l.owner_id <> t.owner_id))
             + (SELECT count(*) FROM am_execution_list WHERE id NOT IN (SELECT id FROM agent_executions))
             + (SELECT count(*) FROM am_workflow_list WHERE id NOT IN (SELECT id FROM ai_agent_workflows))";
    let agree = async {
        while number(database, differences).await > 0 {
            poll_interval().await;
        }
    };
    // A sweep compares some hundred rows every two seconds.
    timeout(PATIENCE * 4, agree).await.expect("the lists follow");
    let miscounted = "SELECT (SELECT count(*) FROM am_list_counts c WHERE list = 'executions' AND entries <>
                 (SELECT count(*) FROM am_execution_list l WHERE l.client_id = c.owner_id AND l.status = c.kind))
             + (SELECT count(*) FROM am_list_counts c WHERE list = 'workflows' AND entries <>
                 (SELECT count(*) FROM am_workflow_list l
                  WHERE (c.owner_id = '*' OR l.owner_id = c.owner_id) AND CAST(l.is_public AS TEXT) = c.kind))
             + (SELECT count(*) FROM am_execution_list) - (SELECT sum(entries) FROM am_list_counts WHERE list = 'executions')";
    assert_eq!(number(database, miscounted).await, 0);
}

#[tokio::test]
async fn lists_follow_what_both_write() {
    let server = TestApp::start().await;
    let database = server.database();
    built(&database).await;
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    let run = server.execute(&workflow, json!({})).await;
    server.ended(run.text("id")).await;
    let row = server.get(&format!("{WORKFLOWS}/{workflow}")).await;
    let principal = row.body.text("owner_id").to_owned();
    lists_are_true(&server).await;
    sql(&database, &coordinator_rows(server.key(), &principal, 0, 40)).await;
    lists_are_true(&server).await;
    sql(
        &database,
        "UPDATE agent_executions SET status = 'COMPLETED', completed_at = '2026-01-09 10:00:00.000000' WHERE status = 'RUNNING' AND rowid % 2 = 0;
         DELETE FROM agent_executions WHERE id IN ('exec_c1', 'exec_c4', 'exec_c39');
         UPDATE ai_agent_workflows SET is_public = NOT is_public WHERE id IN ('agent_c2', 'agent_c8');
         DELETE FROM ai_agent_workflows WHERE id IN ('agent_c3', 'agent_c39')",
    )
    .await;
    // What became private is not shown from then on, whatever the list says.
    assert!(!ids(&server.get(&format!("{WORKFLOWS}?limit=500")).await).contains(&"agent_c8".to_owned()));
    sql(&database, &coordinator_rows(server.key(), &principal, 40, 60)).await;
    lists_agree(&database).await;
    lists_are_true(&server).await;
    server.delete(&format!("{WORKFLOWS}/{workflow}")).await;
    lists_are_true(&server).await;
    lists_agree(&database).await;
}

#[tokio::test]
async fn lists_are_made_of_what_is_stored_and_read_before() {
    let server = TestApp::start().await;
    let database = server.database();
    built(&database).await;
    let row = server.workflow(json!({"a": jq("1")})).await;
    let principal = server.get(&format!("{WORKFLOWS}/{row}")).await.body.text("owner_id").to_owned();
    let key = server.key().to_owned();
    // As an earlier version leaves a database.
    sql(&database, "DELETE FROM am_execution_list; DELETE FROM am_workflow_list; DELETE FROM am_list_progress").await;
    sql(&database, &coordinator_rows(&key, &principal, 0, 1200)).await;
    let server = server.restart().await;
    assert_eq!(ids(&server.get(&format!("{WORKFLOWS}?limit=3")).await).len(), 3);
    built(&database).await;
    lists_agree(&database).await;
    let page = server.get(&format!("{EXECUTIONS}?limit=500")).await;
    assert_eq!((ids(&page).len(), page.header("x-total-count")), (500, "800"));
}

/// A server with rows of the coordinator's, and the statement that gives them this text in their long columns.
async fn with_rows(count: u32, text: &str) -> (TestApp, String) {
    let server = TestApp::start().await;
    let database = server.database();
    built(&database).await;
    let row = server.workflow(json!({"a": jq("1")})).await;
    let principal = server.get(&format!("{WORKFLOWS}/{row}")).await.body.text("owner_id").to_owned();
    sql(&database, &coordinator_rows(server.key(), &principal, 0, count)).await;
    let change = format!(
        "UPDATE ai_agent_workflows SET description = {text}, steps = json_object('a', {text}),
             dependencies = json_object('a', {text}), tags = json_array({text}) WHERE created_at < '2026-02-01';
         UPDATE agent_executions SET step_states = json_object('a', {text}), final_result = json_array({text}),
             verification_proof = json_array({text}), error_message = {text} WHERE created_at < '2026-02-01'"
    );
    (server, change)
}

#[tokio::test]
async fn pages_of_long_rows_end_early() {
    let (server, change) = with_rows(300, "printf('%.8000c', 'x')").await;
    sql(&server.database(), &change).await;
    lists_agree(&server.database()).await;
    for list in [WORKFLOWS, EXECUTIONS] {
        let first = server.get(&format!("{list}?limit=500")).await;
        assert!((2 << 20..5 << 20).contains(&first.text.len()), "{list}: {}", first.text.len());
        assert_eq!(first.body[0].get("omitted"), None, "{list}");
        let (found, total) = walk(&server, &format!("{list}?limit=500")).await;
        assert_eq!(found.len().to_string(), total, "{list}");
        assert!(found.len() >= 200 && ids(&first).len() < found.len(), "{list}: {}", found.len());
        let (by_offset, _) = walk(&server, &format!("{list}?limit=500&offset=0")).await;
        assert_eq!(by_offset, found, "{list}");
    }
}

#[tokio::test]
async fn deep_pages_are_those_of_a_walk() {
    let (server, _) = with_rows(1800, "'x'").await;
    lists_agree(&server.database()).await;
    for question in [
        format!("{WORKFLOWS}?"),
        format!("{WORKFLOWS}?is_public=false&"),
        format!("{WORKFLOWS}?is_public=true&"),
        format!("{WORKFLOWS}?order=asc&"),
        format!("{EXECUTIONS}?"),
        format!("{EXECUTIONS}?order=asc&"),
        format!("{EXECUTIONS}?status=completed&"),
    ] {
        let (walked, total) = walk(&server, &format!("{question}limit=500")).await;
        let from = walked.len().min(510);
        let (deep, counted) = walk(&server, &format!("{question}limit=500&offset={from}")).await;
        assert_eq!((deep, counted), (walked[from..].to_vec(), total), "{question}");
    }
    // Where a single part has rows, none is lost to the others.
    sql(&server.database(), "UPDATE ai_agent_workflows SET is_public = 0").await;
    lists_agree(&server.database()).await;
    let (walked, total) = walk(&server, &format!("{WORKFLOWS}?limit=500")).await;
    assert!(walked.len() > 600, "{}", walked.len());
    assert_eq!(walk(&server, &format!("{WORKFLOWS}?limit=500&offset=520")).await, (walked[520..].to_vec(), total));
}

fn first_with_omissions(page: &Answer) -> &Value {
    let rows = page.body.as_array().unwrap_or_else(|| panic!("no list: {}", page.text));
    rows.iter().find(|row| row.get("omitted").is_some()).unwrap_or_else(|| panic!("none: {}", page.text))
}

/// Long members are empty in lists, which name them; short ones and the single documents are whole.
async fn long_members_are_left_out(server: &ApiClient) {
    let workflows = server.get(&format!("{WORKFLOWS}?limit=500&is_public=false")).await;
    let row = first_with_omissions(&workflows);
    assert_eq!(row["omitted"], json!(["steps", "dependencies", "description", "tags"]));
    let members = ["steps", "dependencies", "description", "tags"].map(|member| &row[member]);
    assert_eq!(members, [&json!({}), &json!({}), &json!(""), &json!("")], "of the same types");
    let whole = server.get(&format!("{WORKFLOWS}/{}", row.text("id"))).await.ok();
    assert_eq!((whole.get("omitted"), whole.text("description").len()), (None, 1_000_000));
    let executions = server.get(&format!("{EXECUTIONS}?limit=500")).await;
    let row = first_with_omissions(&executions);
    let omitted = json!(["step_states", "final_result", "verification_proof", "error_message"]);
    assert_eq!((&row["omitted"], &row["step_states"], &row["final_result"]), (&omitted, &json!({}), &json!(null)));
    let whole = server.get(&format!("{EXECUTIONS}/{}", row.text("id"))).await.ok();
    assert_eq!((whole.get("omitted"), whole.text("error_message").len()), (None, 1_000_000));
    for page in [workflows, executions] {
        assert!(page.text.len() < 900_000, "{}", page.text.len());
    }
}

#[tokio::test]
async fn lists_leave_long_members_out_and_say_so() {
    let (server, change) = with_rows(12, "printf('%.1000000c', 'x')").await;
    let own = server.get(&format!("{WORKFLOWS}?limit=500")).await;
    sql(&server.database(), &change).await;
    lists_agree(&server.database()).await;
    long_members_are_left_out(&server).await;
    let first = ids(&own)[0].clone();
    let short = server.get(&format!("{WORKFLOWS}?limit=1")).await;
    assert_eq!((ids(&short)[0].as_str(), short.body[0].get("omitted")), (first.as_str(), None));
    // While the table itself is read: the list is being made.
    let principal = own.body[0].text("owner_id").to_owned();
    sql(&server.database(), &coordinator_rows(server.key(), &principal, 100, 1500)).await;
    sql(
        &server.database(),
        "DELETE FROM am_execution_list; DELETE FROM am_workflow_list; DELETE FROM am_list_progress",
    )
    .await;
    let server = server.restart().await;
    long_members_are_left_out(&server).await;
    built(&server.database()).await;
    long_members_are_left_out(&server).await;
}
