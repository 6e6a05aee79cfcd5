//! A process dies while it archives and deletes: nothing is lost, and nothing is in two archives that the audit log knows.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use crate::{
    harness::{Builder, Server},
    kit::{JsonDocument as _, jq, sql},
    retention::{archive, number, printed, until},
};

/// Executions that are old.
const OLD: i64 = 12;

/// Ids of the executions in an archive.
fn archived(path: &std::path::Path) -> Vec<String> {
    let text = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let lines = String::from_utf8(text).unwrap();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter_map(|line| Some(line["id"].as_str()?.to_owned())).collect()
}

/// What a process was started with that died at its crash point, before it served or after.
fn died(builder: Builder) -> Builder {
    let mut server = match builder.try_start() {
        Ok(server) => server,
        Err(builder) => return builder,
    };
    let status = server.wait();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{}", server.log());
    server.again()
}

async fn dies_at(point: &str) {
    let server = Server::start().await;
    let workflow = server.workflow(json!({"a": jq(".x")})).await;
    let mut all = BTreeSet::new();
    for x in 0..OLD {
        let run = server.execute(&workflow, json!({"x": x})).await;
        all.insert(server.ended(run.text("id")).await.text("id").to_owned());
    }
    let old = "2020-01-01 10:00:00.000000";
    let age = format!("UPDATE am_runs SET queued_at = '{old}'; UPDATE agent_executions SET completed_at = '{old}'");
    sql(&server.database(), &age).await;
    let database = server.database();
    let builder = server.again().env("RETENTION_EXECUTIONS", "1d").env("RETENTION_INTERVAL_SECONDS", 1);
    let builder = died(builder.env("FAILPOINTS", format!("{point}=return")));
    let left = number(&database, "SELECT count(*) FROM agent_executions").await;
    assert_eq!(left < OLD, point == "retention.after_batch", "{point}: {left}");

    let server = builder.env("FAILPOINTS", "").start().await;
    until(&server.database(), "SELECT count(*) FROM agent_executions", 0).await;
    until(&server.database(), "SELECT count(*) FROM am_archives WHERE done_at IS NULL", 0).await;
    let listed = printed(archive(server.dir(), &["list"]));
    let mut found = Vec::new();
    for one in listed.as_array().unwrap() {
        assert_eq!((&one["removed"], &one["kept"]), (&one["things"], &json!(0)), "{point}: {one}");
        found.extend(archived(&server.dir().join("archive").join(one.text("name"))));
    }
    assert_eq!(found.len(), all.len(), "{point}: each is in one archive that the log knows");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all, "{point}");
    // What was never told of is not deleted from, and is told of as unknown until it is old.
    let verified = archive(server.dir(), &["verify"]);
    let said: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    let unknown = said.as_array().unwrap().iter().filter(|one| one["state"] == "unknown").count();
    assert_eq!(unknown, usize::from(point == "retention.before_register"), "{point}: {said}");
    let intact = said.as_array().unwrap().iter().filter(|one| one["state"] == "intact").count();
    assert_eq!(intact, listed.as_array().unwrap().len(), "{point}: {said}");
    let report = printed(archive(server.dir(), &["restore"]));
    assert_eq!(report["restored"], OLD, "{point}");
}

#[tokio::test]
async fn nothing_is_lost_before_an_archive_is_told_of() {
    dies_at("retention.before_register").await;
}

#[tokio::test]
async fn an_archive_that_was_told_of_gets_its_name_and_is_gone_by() {
    dies_at("retention.after_register").await;
    dies_at("retention.before_delete").await;
}

#[tokio::test]
async fn deletions_go_on_where_they_were_left() {
    dies_at("retention.after_batch").await;
}

/// A row that changes between its archive and its deletion stays.
#[tokio::test]
async fn what_changed_after_it_was_archived_stays() {
    let server = Server::start().await;
    let workflow = server.workflow(json!({"a": jq(".x")})).await;
    let run = server.execute(&workflow, json!({"x": 1})).await.text("id").to_owned();
    server.ended(&run).await;
    let old = "2020-01-01 10:00:00.000000";
    let age = format!("UPDATE am_runs SET queued_at = '{old}'; UPDATE agent_executions SET completed_at = '{old}'");
    sql(&server.database(), &age).await;
    let database = server.database();
    let builder = server.again().env("RETENTION_EXECUTIONS", "1d").env("RETENTION_INTERVAL_SECONDS", 1);
    let builder = died(builder.env("FAILPOINTS", "retention.before_delete=return"));
    sql(&database, "UPDATE agent_executions SET total_cost = 7.5").await;
    let server = builder.env("FAILPOINTS", "").env("RETENTION_EXECUTIONS", "0").start().await;
    until(&server.database(), "SELECT count(*) FROM am_archives WHERE done_at IS NULL", 0).await;
    let listed = printed(archive(server.dir(), &["list"]));
    assert_eq!((&listed[0]["removed"], &listed[0]["kept"]), (&json!(0), &json!(1)), "{listed}");
    assert_eq!(server.get(&format!("/api/v1/agents/executions/{run}")).await.ok()["total_cost"], 7.5);
    assert!(
        tokio::time::timeout(Duration::from_secs(20), server.logged("deletions of an archive go on")).await.is_ok()
    );
}
