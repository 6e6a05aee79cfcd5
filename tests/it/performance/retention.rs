//! What long work leaves behind goes when it is old: tasks, optimisations, sweeps and models; what is open or in use stays.

use std::time::Duration;

use serde_json::{Value, json};

use super::{PERFORMANCE, optimisation, tasks};
use crate::{
    harness::TestApp,
    kit::sql,
    retention::{archive, number, printed, until},
};

const DAY: Duration = Duration::from_secs(86_400);
const OLD: &str = "2020-01-01 00:00:00.000000";

#[tokio::test(flavor = "multi_thread")]
async fn ended_work_leaves_when_it_is_old_and_what_is_in_use_stays() {
    let kept = ["RETENTION_BACKGROUND_TASKS", "RETENTION_OPTIMISATIONS", "RETENTION_META_MODELS"];
    let builder = kept.iter().fold(TestApp::builder(), |builder, name| builder.env(name, "10d"));
    let server = builder.env("RETENTION_INTERVAL_SECONDS", 1).start().await;
    let database = server.database();
    let (applied, _) = optimisation::prepare(&server, "/apply").await;
    server.post(&applied, json!({})).await.ok();
    let (idle, _) = optimisation::prepare(&server, "/apply").await;
    let open = tasks::waiting(&server, "paused").await;
    let (applied, idle) = (applied.trim_end_matches("/apply"), idle.trim_end_matches("/apply"));
    let task = format!("{}/{}", tasks::tasks(), server.get(idle).await.ok()["task_id"].as_str().unwrap());
    let sweep = |id: &str, status: &str, ended: &str| {
        format!(
            "INSERT INTO am_sweeps (id, owner_id, tags, policy, status, plan, task_id, trials, created_at, ended_at, updated_at)
             VALUES ('{id}', 'key_a', '[]', 'p', '{status}', '{{}}', 'task_x', 1, '{OLD}', {ended}, '{OLD}');
             INSERT INTO am_sweep_trials (sweep_id, trial, state, settings, point, runs, created_at)
             VALUES ('{id}', 1, 'measured', '{{}}', '[]', '[]', '{OLD}');"
        )
    };
    let ended = format!("'{OLD}'");
    sql(&database, &sweep("sweep_open", "running", "NULL")).await;
    sql(&database, &sweep("sweep_ended", "completed", &ended)).await;
    // The last of a name stays, and so does what an alias names; weights go with the last model that has them.
    let models = [("m", 1, "aa"), ("m", 2, "bb"), ("m", 3, "aa"), ("n", 1, "cc"), ("n", 2, "dd")];
    sql(
        &database,
        "INSERT INTO am_meta_weights (sha256, file) VALUES ('aa', 'x'), ('bb', 'x'), ('cc', 'x'), ('dd', 'x')",
    )
    .await;
    let alias = format!(
        "INSERT INTO am_meta_aliases (owner_id, name, alias, model_id, moved_at) VALUES ('key_a', 'n', 'best', 'meta_n1', '{OLD}')"
    );
    sql(&database, &alias).await;
    for (name, version, weights) in models.into_iter().rev() {
        let insert = format!(
            "INSERT INTO am_meta_models (id, owner_id, name, version, meta_strategy, status, base_algorithms, adaptation_targets, plan,
                 sha256, created_at, updated_at)
             VALUES ('meta_{name}{version}', 'key_a', '{name}', {version}, 'MODEL_AGNOSTIC', 'ready', '[]', '[]', '{{}}', '{weights}',
                 '{OLD}', '{OLD}')"
        );
        sql(&database, &insert).await;
    }
    until(&database, "SELECT count(*) FROM am_meta_models", 3).await;
    until(&database, "SELECT count(*) FROM am_sweep_trials", 1).await;
    let left = "SELECT count(*) FROM am_meta_models WHERE id IN ('meta_m3', 'meta_n1', 'meta_n2')";
    assert_eq!(number(&database, left).await, 3);
    assert_eq!(number(&database, "SELECT count(*) FROM am_meta_weights WHERE sha256 = 'bb'").await, 0);
    assert_eq!(number(&database, "SELECT count(*) FROM am_meta_weights").await, 3);
    assert_eq!(number(&database, "SELECT count(*) FROM am_sweeps WHERE id = 'sweep_open'").await, 1);
    server.get(idle).await.ok();
    server.get(&task).await.ok();

    server.clock().advance(DAY * 11);
    until(&database, "SELECT count(*) FROM am_background_tasks", 1).await;
    until(&database, "SELECT count(*) FROM am_optimisations", 1).await;
    server.get(idle).await.is(404);
    server.get(&task).await.is(404);
    assert_eq!(server.get(applied).await.ok()["status"], "completed", "it is applied");
    assert_eq!(server.get(&format!("{}/{open}", tasks::tasks())).await.ok()["status"], "paused");
    let events = "SELECT count(*) FROM am_events WHERE stream LIKE 'task_%'";
    assert_eq!(number(&database, events).await, 0, "the events of tasks go with them");
    let listed = server.get(&format!("{PERFORMANCE}/optimization/worker")).await.ok();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");

    printed(archive(server.dir(), &["verify"]));
    let server = server.restart_with(&[("RETENTION_META_MODELS", "0")]).await;
    let report = printed(archive(server.dir(), &["restore", "--kind", "meta_models", "--id", "meta_m2"]));
    assert_eq!((&report["restored"], &report["present"]), (&json!(1), &json!(0)), "{report}");
    assert_eq!(number(&database, "SELECT count(*) FROM am_meta_weights WHERE sha256 = 'bb'").await, 1);
    assert_ne!(report["rows"], Value::Null);
}
