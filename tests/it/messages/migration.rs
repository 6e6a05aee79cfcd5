//! A database with messages of an earlier version: everything in it is read after the migration as before.

use std::path::Path;

use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, Connection as _, SqlSafeStr as _, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteConnectOptions,
};

use super::{MESSAGES, inbox, send, server};
use crate::{
    harness::{ApiClient, TestApp},
    kit::{AGENTS, JsonDocument},
};

const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
/// The last migration of the earlier version.
const LAST_OLD: i64 = 11;

/// Make a database of the earlier version with the rows of a present one.
async fn make_old(file: &Path, present: &Path) {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true).foreign_keys(false);
    let mut conn = SqliteConnection::connect_with(&options).await.unwrap();
    let read = |name: &str| std::fs::read_to_string(Path::new(MIGRATIONS).join(name)).unwrap();
    sqlx::raw_sql(AssertSqlSafe(read("coordinator.sql"))).execute(&mut conn).await.unwrap();
    let mut names: Vec<String> = std::fs::read_dir(MIGRATIONS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            name.split_once('_').and_then(|(version, _)| version.parse().ok()).is_some_and(|v: i64| v <= LAST_OLD)
        })
        .collect();
    names.sort();
    assert_eq!(names.len() as i64, LAST_OLD);
    let migrations = names.iter().map(|name| {
        let (version, rest) = name.split_once('_').unwrap();
        let (title, sql) = (rest.trim_end_matches(".sql").to_owned(), AssertSqlSafe(read(name)).into_sql_str());
        Migration::new(version.parse().unwrap(), title.into(), MigrationType::Simple, sql, true)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name("am_migrations");
    migrator.run_direct(None, &mut conn, false).await.unwrap();
    let attach = AssertSqlSafe(format!("ATTACH '{}' AS present", present.display()));
    sqlx::raw_sql(attach).execute(&mut conn).await.unwrap();
    let shared =
        "SELECT o.name, group_concat(c.name) FROM main.sqlite_master o JOIN pragma_table_info(o.name, 'main') c
         WHERE o.type = 'table' AND o.name LIKE 'am!_%' ESCAPE '!' AND o.name <> 'am_migrations'
         AND c.name IN (SELECT n.name FROM pragma_table_info(o.name, 'present') n) GROUP BY o.name";
    let tables: Vec<(String, String)> = sqlx::query_as(shared).fetch_all(&mut conn).await.unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    for (table, columns) in tables {
        let copy = format!(
            "DELETE FROM main.{table}; INSERT INTO main.{table} ({columns}) SELECT {columns} FROM present.{table}"
        );
        sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut conn).await.unwrap();
    }
    conn.close().await.unwrap();
}

/// What clients are answered.
async fn shown(server: &ApiClient) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let paths = [
        format!("{MESSAGES}/history?limit=100"),
        format!("{MESSAGES}/id/mine"),
        format!("{MESSAGES}/subscriptions/dave"),
        format!("{AGENTS}/alice/channels"),
        format!("{AGENTS}/bob/keys"),
        format!("{AGENTS}/alice/communication-stats"),
    ];
    for path in paths {
        all.push((path.clone(), server.get(&path).await.ok()));
    }
    for agent in ["alice", "bob", "carol", "dave"] {
        all.push((agent.to_owned(), json!(inbox(server, agent, "").await)));
        let export = server.get(&format!("{AGENTS}/{agent}/messages/export")).await.text;
        let lines = export.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.push((format!("export of {agent}"), lines.collect()));
    }
    all
}

#[tokio::test]
async fn messages_of_an_earlier_version_are_read_after_the_migration() {
    let present = server().env("MESSAGES_ALLOW_PLAINTEXT", true).start().await;
    let key = json!({"kind": "x25519", "public_key": "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="});
    present.post(&format!("{AGENTS}/bob/keys"), key).await.is(201);
    let subscription = json!({"agent_id": "dave", "topic": "offers", "filter": {"zone": "eu"}});
    present.post(&format!("{MESSAGES}/subscribe"), subscription).await.ok();
    for n in 0..3 {
        send(&present, "alice", "bob", json!({"n": n})).await;
        send(&present, "alice", "carol", json!({"n": n, "text": "x".repeat(5000)})).await;
    }
    let mine = json!({"sender": "alice", "recipient": "carol", "content": {"x": 1}, "message_id": "mine"});
    present.post(&format!("{MESSAGES}/send"), mine.clone()).await.ok();
    let plain =
        json!({"sender": "carol", "recipient": "alice", "content": {"x": 2}, "encryption": "none", "reply_to": "mine"});
    present.post(&format!("{MESSAGES}/send"), plain).await.ok();
    let topic = json!({"sender": "alice", "topic": "offers", "content": {"zone": "eu"}, "message_id": "whole"});
    present.post(&format!("{MESSAGES}/broadcast"), topic.clone()).await.ok();
    let group = json!({"type": "group", "members": ["bob", "carol"]});
    let group = present.post(&format!("{AGENTS}/alice/channels"), group).await.is(201);
    let path = format!("{AGENTS}/alice/channels/{}/messages", group.text("channel_id"));
    present.post(&path, json!({"content": {"n": "short"}})).await.ok();
    let read = present.post(&format!("{MESSAGES}/id/mine/read"), json!({"agent_id": "carol"})).await;
    read.ok();
    // What is fetched is delivered: the second time nothing changes any more.
    shown(&present).await;
    let before = shown(&present).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old.db");
    make_old(&file, &present.database()).await;
    // The head that may have been signed meanwhile continues under its key.
    let key = std::fs::read_to_string(present.dir().join("audit-signing-key.hex")).unwrap();
    let server = TestApp::builder().database(&file).env("AUDIT_SIGNING_KEY_HEX", key.trim()).start().await;
    for ((what, old), (_, new)) in before.iter().zip(shown(&server).await) {
        assert_eq!(new, *old, "{what}");
    }
    // Ids that were used are known, and what is new is written beside what is old.
    for (route, body) in [("send", mine), ("broadcast", topic)] {
        assert_eq!(server.post(&format!("{MESSAGES}/{route}"), body).await.ok()["repeated"], true, "{route}");
    }
    let long = json!({"content": {"text": "y".repeat(5000)}});
    let sent = server.post(&path, long.clone()).await.ok();
    assert_eq!((&sent["recipients"], &sent["seq"]), (&json!(2), &json!(4)));
    assert_eq!(inbox(&server, "carol", "").await[0]["content"], long["content"]);
}
