//! Jobs are read by a list of this service's own, which follows what either of the two writes.

use std::path::Path;

use serde_json::json;
use tokio::time::timeout;

use super::{SERVICES, queued, submit};
use crate::{
    agents::kept_lists::built,
    harness::{ADMIN, ApiClient, CLIENT, PATIENCE, TestApp, poll_interval},
    jobs::open,
    kit::{JsonDocument as _, get_as, sql},
};

/// Jobs that the coordinator writes: of the client by its key, and of another; in all states, forms of times and services.
fn coordinator_rows(key: &str, from: u32, to: u32) -> String {
    let rows = format!("WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to} - 1)");
    format!(
        "PRAGMA foreign_keys = OFF; {rows} INSERT INTO job (id, client_id, state, payload, constraints, ttl_seconds, requested_at, expires_at, result)
         SELECT printf('c%05d', i), CASE i % 3 WHEN 0 THEN 'another' ELSE '{key}' END,
             CASE i % 7 WHEN 0 THEN 'QUEUED' WHEN 1 THEN 'RUNNING' WHEN 2 THEN 'FAILED' WHEN 3 THEN 'CANCELED' ELSE 'COMPLETED' END,
             CASE i % 4 WHEN 0 THEN '{{}}' WHEN 1 THEN '{{\"service_type\": \"whisper\"}}'
                 ELSE '{{\"service_type\": \"ffmpeg\"}}' END,
             '{{}}', 60, '2026-01-0' || (1 + i % 5) || CASE i % 2 WHEN 0 THEN ' 10:00:00.000000' ELSE ' 10:00:00' END,
             '2026-01-09 10:00:00.000000',
             CASE i % 5 WHEN 0 THEN '{{\"status\": \"failed\", \"error\": \"out of memory\"}}' ELSE '{{\"text\": \"x\"}}' END
         FROM n;"
    )
}

const STATE: &str = "CASE WHEN state = 'COMPLETED' AND result ->> 'status' = 'failed' THEN 'FAILED' ELSE state END";

async fn ids_of(database: &Path, condition: &str, order: &str) -> Vec<String> {
    let query = format!("SELECT id FROM job WHERE {condition} ORDER BY requested_at {order}, id {order}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&mut open(database).await).await.unwrap()
}

/// All ids of a list, page by page, and the last total.
async fn walk(server: &ApiClient, key: &str, first: &str) -> (Vec<String>, String) {
    let (mut found, mut path, mut total) = (Vec::new(), Some(first.to_owned()), String::new());
    while let Some(at) = path {
        let page = get_as(server, key, &at).await;
        let rows = page.body.as_array().unwrap_or_else(|| panic!("no list: {}", page.text));
        found.extend(rows.iter().map(|row| row.text("job_id").to_owned()));
        total = page.header("x-total-count").to_owned();
        let next = page.header("link").split(", ").find(|link| link.ends_with("rel=\"next\""));
        path = next.map(|link| link.trim_start_matches('<').split_once('>').unwrap().0.to_owned());
    }
    (found, total)
}

/// What each list answers is what the table holds.
async fn lists_are_true(server: &ApiClient) {
    let database = server.database();
    for (key, whose) in [(CLIENT, "client_id <> 'another'"), (ADMIN, "true")] {
        for (filter, condition) in [
            ("", "true".to_owned()),
            ("state=QUEUED", "state = 'QUEUED'".to_owned()),
            ("state=FAILED", format!("{STATE} = 'FAILED'")),
            ("state=COMPLETED,RUNNING", format!("{STATE} IN ('COMPLETED', 'RUNNING')")),
            ("service_type=whisper", "payload ->> 'service_type' = 'whisper'".to_owned()),
            (
                "service_type=ffmpeg&state=FAILED",
                format!("payload ->> 'service_type' = 'ffmpeg' AND {STATE} = 'FAILED'"),
            ),
            ("created_after=2026-01-03T12:00:00Z", "requested_at > '2026-01-03 12:00:00'".to_owned()),
        ] {
            let path =
                |rest: &str| format!("{SERVICES}/jobs?{filter}{}{rest}", if filter.is_empty() { "" } else { "&" });
            for (rest, order) in [("limit=7", "DESC"), ("limit=500", "DESC"), ("limit=11&order=asc", "ASC")] {
                let expected = ids_of(&database, &format!("{whose} AND {condition}"), order).await;
                let total = expected.len().to_string();
                assert_eq!(walk(server, key, &path(rest)).await, (expected, total), "{key} {filter} {rest}");
            }
            let expected = ids_of(&database, &format!("{whose} AND {condition}"), "DESC").await;
            let by_offset = get_as(server, key, &path("limit=3&offset=2")).await.ok();
            let found: Vec<&str> = by_offset.as_array().unwrap().iter().map(|row| row.text("job_id")).collect();
            assert_eq!(found, expected.iter().skip(2).take(3).collect::<Vec<_>>(), "{key} {filter}");
        }
    }
}

/// The list has the rows of the table, with a principal in the place of each key, and its counters the numbers of them.
async fn list_agrees(database: &Path) {
    let number = async |query: &'static str| -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut open(database).await).await.unwrap()
    };
    let differences = "SELECT (SELECT count(*) FROM job t LEFT JOIN am_job_list l ON l.id = t.id
             WHERE l.id IS NULL OR l.client_id NOT LIKE 'key_%' OR l.state <> CASE WHEN t.state = 'COMPLETED'
                 AND t.result ->> 'status' = 'failed' THEN 'FAILED' ELSE t.state END)
         + (SELECT count(*) FROM am_job_list WHERE id NOT IN (SELECT id FROM job))";
    let agree = async {
        while number(differences).await > 0 {
            poll_interval().await;
        }
    };
    timeout(PATIENCE * 4, agree).await.expect("the list follows");
    let miscounted = "SELECT (SELECT count(*) FROM am_list_counts c WHERE list = 'jobs' AND entries <>
             (SELECT count(*) FROM am_job_list l WHERE (c.owner_id = '*' OR l.client_id = c.owner_id) AND l.state = c.kind))
         + (SELECT count(*) FROM am_list_counts c WHERE list LIKE 'jobs/%' AND entries <>
             (SELECT count(*) FROM am_job_list l WHERE (c.owner_id = '*' OR l.client_id = c.owner_id) AND l.state = c.kind
                  AND 'jobs/' || l.service = c.list))";
    assert_eq!(number(miscounted).await, 0);
}

#[tokio::test]
async fn the_list_of_jobs_follows_what_both_write() {
    let server = TestApp::start().await;
    let database = server.database();
    built(&database).await;
    let mine = queued(&server, "a").await;
    submit(&server, "/whisper/transcribe", json!({"audio_url": "https://example.com/a"})).await.is(201);
    lists_are_true(&server).await;
    sql(&database, &coordinator_rows(CLIENT, 0, 60)).await;
    lists_are_true(&server).await;
    let changes =
        "PRAGMA foreign_keys = OFF; UPDATE job SET state = 'RUNNING' WHERE state = 'QUEUED' AND id LIKE 'c%1';
         UPDATE job SET state = 'COMPLETED', result = '{\"status\": \"failed\"}' WHERE state = 'RUNNING';
         DELETE FROM job WHERE id IN ('c00002', 'c00003')";
    sql(&database, changes).await;
    // What is open is compared before each list of a state; the others are found by the sweep.
    list_agrees(&database).await;
    lists_are_true(&server).await;
    super::delete(&server, &mine).await.ok();
    lists_are_true(&server).await;
    list_agrees(&database).await;
}

#[tokio::test]
async fn the_list_of_jobs_is_made_of_what_is_stored() {
    let server = TestApp::start().await;
    let database = server.database();
    built(&database).await;
    queued(&server, "a").await;
    // As an earlier version leaves a database.
    sql(&database, "DELETE FROM am_job_list; DELETE FROM am_list_progress WHERE list = 'jobs'").await;
    sql(&database, &coordinator_rows(CLIENT, 0, 1200)).await;
    let server = server.restart().await;
    let first = get_as(&server, CLIENT, &format!("{SERVICES}/jobs?limit=3")).await;
    assert_eq!((first.body.as_array().unwrap().len(), first.header("x-total-count")), (3, "801"));
    built(&database).await;
    list_agrees(&database).await;
    let page = get_as(&server, CLIENT, &format!("{SERVICES}/jobs?limit=500")).await;
    assert_eq!((page.body.as_array().unwrap().len(), page.header("x-total-count")), (500, "801"));
}
