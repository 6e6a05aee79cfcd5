//! The coordinator's database in each form that it has had: what must be the same over all of them, what of a table the service
//! needs, and what it does when the coordinator changes a table while it runs.

use super::*;

/// A form of the coordinator's database.
pub(super) struct Version {
    pub(super) file: &'static str,
    /// Whether the coordinator's rows are in it.
    has_rows: bool,
    /// Least number of rows after everything was written.
    rows: i64,
}

/// As the coordinator made it in May 2026, with its rows.
pub(super) const FIRST: Version = Version { file: "coordinator/coordinator.sqlite", has_rows: true, rows: 140 };
/// The same after its migrations up to August 2026: amounts are NUMERIC, tables are gone, columns have been added.
pub(super) const MIGRATED: Version = Version { file: "coordinator/migrated-2026-08.sqlite", has_rows: true, rows: 140 };
/// As its models of August 2026 make it: columns that demand values have no defaults.
pub(super) const CREATED: Version = Version { file: "coordinator/created-2026-08.sqlite", has_rows: false, rows: 60 };

impl Version {
    async fn start(&self) -> Server {
        let server = Server::builder().database(&fixture(self.file)).start().await;
        if self.has_rows {
            unbound(&server).await;
        }
        server
    }
}

/// How many values of a column that this service has written are not of these.
async fn others(database: &Path, table: &str, column: &str, names: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table} WHERE created_at > '2026-06' AND {column} NOT IN ({names})");
    number(database, &query).await
}

async fn has_column(database: &Path, table: &str, column: &str) -> bool {
    number(database, &format!("SELECT count(*) FROM pragma_table_info('{table}') WHERE name = '{column}'")).await == 1
}

/// Reads all rows as the coordinator does.
fn read_back(database: &Path) -> i64 {
    let check = Command::new(python()).arg(fixture("coordinator/readback.py")).arg(database).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{said}{}", String::from_utf8_lossy(&check.stderr));
    assert!(said.contains(" 0 faults"), "{said}");
    said.split(' ').next().unwrap().parse().unwrap()
}

/// What the coordinator of August reads as an enumeration has its names.
async fn has_names(database: &Path) {
    for (table, column, names) in [
        ("agent_executions", "verification_level", "'BASIC', 'FULL', 'ZERO_KNOWLEDGE'"),
        ("agent_step_executions", "step_type", "'INFERENCE', 'TRAINING', 'DATA_PROCESSING', 'VERIFICATION', 'CUSTOM'"),
    ] {
        if has_column(database, table, column).await {
            assert_eq!(others(database, table, column, names).await, 0, "{table}.{column}");
        }
    }
}

async fn everything_is_read_back(version: Version) {
    let mut server = version.start().await;
    let database = server.database();
    write_everything(&server, version.has_rows).await;
    assert!(server.terminate().success());
    let rows = read_back(&database);
    assert!(rows > version.rows, "{rows} rows");
    has_names(&database).await;
    // All kinds of rows were among them.
    for (table, least) in [
        ("ai_agent_workflows", 8),
        ("agent_steps", 25),
        ("agent_executions", 10),
        ("agent_step_executions", 30),
        ("job", 10),
        ("rl_configurations", 4),
        ("agent_sandbox_configs", 2),
    ] {
        let count = number(&database, &format!("SELECT count(*) FROM {table} WHERE rowid > 0")).await;
        assert!(count >= least, "{table} has {count} rows");
    }
    let states = "SELECT count(DISTINCT status) FROM agent_executions WHERE created_at > '2026-06'";
    assert_eq!(number(&database, states).await, 4);
}

#[tokio::test]
async fn the_first_coordinator_reads_everything() {
    everything_is_read_back(FIRST).await;
}

#[tokio::test]
async fn the_migrated_coordinator_reads_everything() {
    everything_is_read_back(MIGRATED).await;
}

#[tokio::test]
async fn the_newly_made_coordinator_reads_everything() {
    everything_is_read_back(CREATED).await;
}

#[tokio::test]
async fn the_coordinators_own_policy_rows_stay() {
    let server = Server::builder().database(&theirs()).start().await;
    unbound(&server).await;
    policies(&server).await;
    let theirs = "SELECT count(*) FROM rl_configurations WHERE config_id = 'rl_cfx00000' AND agent_id = 'agent-a' AND status = 'ready'";
    assert_eq!(number(&server.database(), theirs).await, 1);
}

/// Runs with jobs that are there when the process is killed end as all others, once miners have done their part.
async fn runs_survive(version: Version) {
    let server = version.start().await;
    let steps = json!({
        "a": jq("1"), "b": {"depends_on": ["a"], "step_type": "inference", "verification_level": "full", "action": waiting()["action"]},
        "c": {"depends_on": ["b"], "step_type": "custom"},
    });
    let body = json!({"name": "survives", "steps": steps, "verification_level": "full", "max_cost_budget": 2});
    let workflow = server.post(&format!("{AGENTS}/workflows"), body).await.ok().text("id").to_owned();
    let mut runs = Vec::new();
    for _ in 0..3 {
        let begun = server.execute(&workflow, json!({})).await;
        let state = server.until(begun.text("id"), |run| run["step_states"]["b"]["job_id"].is_string()).await;
        runs.push((begun.text("id").to_owned(), state["step_states"]["b"].text("job_id").to_owned()));
    }
    let server = server.restart().await;
    let database = server.database();
    for (_, job) in &runs {
        let done = format!(
            "UPDATE job SET state = 'COMPLETED', assigned_miner_id = 'miner-1', result = '{{\"text\": \"hello\"}}',
             receipt = '{{\"price\": 1}}' WHERE id = '{job}' AND state = 'QUEUED'"
        );
        sql(&database, &done).await;
    }
    for (run, _) in &runs {
        let ended = server.ended(run).await;
        assert_eq!(ended["status"], "completed", "{ended}");
        let steps = server.get(&format!("{AGENTS}/executions/{run}/logs")).await.ok();
        assert_eq!(steps["step_logs"].as_array().unwrap().len(), 3, "{steps}");
    }
    server.get(&format!("{AGENTS}/executions?limit=50")).await.ok();
    let mut server = server.restart().await;
    assert!(server.terminate().success());
    read_back(&database);
    has_names(&database).await;
    let levels = "SELECT count(*) FROM agent_executions WHERE verification_level <> 'FULL' AND created_at > '2026-06'";
    let kinds = "SELECT count(DISTINCT step_type) FROM agent_step_executions WHERE created_at > '2026-06'";
    if has_column(&database, "agent_executions", "verification_level").await {
        assert_eq!((number(&database, levels).await, number(&database, kinds).await), (0, 3));
    }
}

#[tokio::test]
async fn runs_survive_beside_the_first_coordinator() {
    runs_survive(FIRST).await;
}

#[tokio::test]
async fn runs_survive_beside_the_migrated_coordinator() {
    runs_survive(MIGRATED).await;
}

#[tokio::test]
async fn runs_survive_beside_the_newly_made_coordinator() {
    runs_survive(CREATED).await;
}

/// The statements that make a table anew with one column more or another one, as the coordinator's migrations do.
async fn remade(database: &Path, table: &str, change: impl Fn(&str) -> String) -> String {
    let mut conn = SqliteConnection::connect(database.to_str().unwrap()).await.unwrap();
    let read = format!("SELECT sql FROM sqlite_schema WHERE name = '{table}'");
    let made: String = sqlx::query_scalar(AssertSqlSafe(read)).fetch_one(&mut conn).await.unwrap();
    let columns = format!("SELECT group_concat(name) FROM pragma_table_info('{table}')");
    let columns: String = sqlx::query_scalar(AssertSqlSafe(columns)).fetch_one(&mut conn).await.unwrap();
    let body = made.split_once('(').unwrap().1;
    format!(
        "PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE; CREATE TABLE _alembic_tmp_{table} ({}; INSERT INTO _alembic_tmp_{table} ({columns}) SELECT {columns} FROM {table};
         DROP TABLE {table}; ALTER TABLE _alembic_tmp_{table} RENAME TO {table}; COMMIT;",
        change(body)
    )
}

/// The same with this column before all others.
async fn with_column(database: &Path, table: &str, column: &str) -> String {
    remade(database, table, |body| format!("{column}, {body}")).await
}

#[tokio::test]
async fn columns_that_nobody_has_seen_are_filled() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("changed.db");
    std::fs::copy(fixture(CREATED.file), &copy).unwrap();
    let new = [
        ("agent_steps", "step_type_before", "VARCHAR(20) NOT NULL CHECK (step_type_before IN ('NONE', 'SOME'))"),
        ("ai_agent_workflows", "security_level", "VARCHAR(12) NOT NULL"),
        ("agent_executions", "rank", "INTEGER NOT NULL CHECK (rank BETWEEN 3 AND 5)"),
        ("agent_step_executions", "begun_at", "DATETIME NOT NULL"),
        ("job", "shards", "JSON NOT NULL"),
        ("job", "handle", "VARCHAR(32) NOT NULL UNIQUE"),
        ("agent_trust_scores", "stake", "NUMERIC(20, 8) NOT NULL"),
        ("agent_security_policies", "is_shared", "BOOLEAN NOT NULL"),
        ("agent_sandbox_configs", "image", "VARCHAR NOT NULL"),
    ];
    for (table, column, declared) in new {
        let statement = with_column(&copy, table, &format!("{column} {declared}")).await;
        sql(&copy, &statement).await;
    }
    let mut server = Server::builder().database(&copy).start().await;
    let database = server.database();
    write_everything(&server, false).await;
    let policies = format!("{AGENTS}/security/policies?name=p&security_level=public");
    server.post(&policies, json!({})).await.ok();
    assert!(server.terminate().success());
    read_back(&database);
    for (table, column, _) in new {
        let count = number(&database, &format!("SELECT count(*) FROM {table} WHERE {column} IS NOT NULL")).await;
        assert!(count > 0, "{table} has no row");
    }
    assert_eq!(others(&database, "agent_steps", "step_type_before", "'NONE'").await, 0);
    assert_eq!(others(&database, "ai_agent_workflows", "security_level", "'INTERNAL'").await, 0);
    assert_eq!(number(&database, "SELECT count(*) FROM agent_step_executions WHERE begun_at <> created_at").await, 0);
}

#[tokio::test]
async fn names_are_written_where_a_default_is_a_value() {
    let (_dir, copy) = changed(
        "ALTER TABLE ai_agent_workflows ADD COLUMN step_type VARCHAR(20) DEFAULT 'data_processing' NOT NULL;
         ALTER TABLE agent_steps ADD COLUMN security_level VARCHAR(20) DEFAULT 'restricted' NOT NULL;
         ALTER TABLE agent_steps ADD COLUMN label VARCHAR(20) DEFAULT 'plain' NOT NULL",
    )
    .await;
    let server = TestApp::builder().database(&copy).start().await;
    server.workflow(json!({"a": jq("1")})).await;
    let database = server.database();
    assert_eq!(others(&database, "ai_agent_workflows", "step_type", "'DATA_PROCESSING'").await, 0);
    assert_eq!(others(&database, "agent_steps", "security_level", "'RESTRICTED'").await, 0);
    assert_eq!(others(&database, "agent_steps", "label", "'plain'").await, 0);
}

#[tokio::test]
async fn a_column_that_takes_no_known_value_refuses_the_start_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("changed.db");
    std::fs::copy(fixture(CREATED.file), &copy).unwrap();
    sql(&copy, &with_column(&copy, "job", "parent INTEGER NOT NULL REFERENCES miner (id)").await).await;
    let (status, log) = Server::builder().database(&copy).start_and_fail();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("table job requires column parent (INTEGER)") && log.contains("default value"), "{log}");
}

/// The check of the coordinator's tables in a report.
async fn tables(server: &ApiClient) -> (u16, Value) {
    let report = server.get("/health/ready").await;
    let checks = report.body["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "coordinator_tables").unwrap();
    (report.status.as_u16(), check.clone())
}

#[tokio::test]
async fn a_mirror_that_is_dropped_is_done_without() {
    let server = Server::builder().database(&theirs()).start().await;
    unbound(&server).await;
    let run = post_as(&server, ADMIN, &format!("{}/runs", rl::RL), rl::small(320)).await.is(201);
    sql(&server.database(), "DROP TABLE rl_configurations").await;
    assert_eq!(rl::trained(&server, run.text("id")).await["status"], "completed");
    let weights = std::fs::read(fixture("vectors/ppo.safetensors")).unwrap();
    let made = rl::upload(&server, ADMIN, "uploaded/versions?aliases=production", weights).await;
    assert_eq!(made.status, 201, "{}", made.text);
    server.logged("table rl_configurations is missing").await;
    let (status, check) = tables(&server).await;
    assert_eq!((status, &check["ok"]), (200, &json!(true)), "{check}");
    assert!(check.text("notice").contains("table rl_configurations is missing"), "{check}");
}

#[tokio::test]
async fn a_table_that_is_migrated_under_the_service_is_served() {
    let server = Server::builder().database(&fixture(CREATED.file)).start().await;
    let database = server.database();
    let workflow = server.workflow(json!({"a": waiting()})).await;
    let begun = server.execute(&workflow, json!({})).await;
    let with_job = async |run: &Value| {
        let state = server.until(run.text("id"), |run| run["step_states"]["a"]["job_id"].is_string()).await;
        state["step_states"]["a"].text("job_id").to_owned()
    };
    let first = with_job(&begun).await;
    for (table, column) in [
        ("job", "tier VARCHAR(20) NOT NULL DEFAULT 'x'"),
        ("agent_executions", "tier VARCHAR(20) NOT NULL DEFAULT 'x'"),
        ("agent_step_executions", "tier VARCHAR(20) NOT NULL DEFAULT 'x'"),
    ] {
        // The rows that are there get a value, later ones must name one.
        sql(&database, &with_column(&database, table, column).await).await;
        let statement = remade(&database, table, |body| body.replacen(" DEFAULT 'x'", "", 1)).await;
        sql(&database, &statement).await;
    }
    let second = with_job(&server.execute(&workflow, json!({})).await).await;
    for job in [first, second] {
        sql(&database, &format!("UPDATE job SET state = 'COMPLETED', result = '{{}}' WHERE id = '{job}'")).await;
    }
    assert_eq!(server.ended(begun.text("id")).await["status"], "completed");
    assert_eq!(tables(&server).await.0, 200);
}

#[tokio::test]
async fn a_table_that_no_longer_fits_is_told_until_it_does() {
    let server = TestApp::builder().database(&theirs()).start().await;
    let database = server.database();
    sql(&database, "ALTER TABLE job RENAME COLUMN payment_status TO paid").await;
    let (status, check) = tables(&server).await;
    assert_eq!(status, 503);
    assert!(check.text("reason").contains("table job lacks column payment_status"), "{check}");
    server.logged("table job lacks column payment_status").await;
    sql(&database, "ALTER TABLE job RENAME COLUMN paid TO payment_status").await;
    assert_eq!(tables(&server).await.0, 200);
    sql(&database, "ALTER TABLE agent_steps RENAME TO steps_before").await;
    let (status, check) = tables(&server).await;
    assert!(status == 503 && check.text("reason").contains("table agent_steps is missing"), "{check}");
}

#[tokio::test]
async fn amounts_are_read_as_they_are_stored() {
    for (stored, shown) in [("3", 3.0), ("0.03", 0.03), ("'0.50000000'", 0.5), ("'0E-8'", 0.0)] {
        for kind in ["FLOAT", "NUMERIC(20, 8)", "VARCHAR", "BLOB"] {
            let (_dir, copy) = changed("SELECT 1").await;
            for (table, column) in [("agent_executions", "total_cost"), ("ai_agent_workflows", "max_cost_budget")] {
                let change = |body: &str| body.replacen(&format!("{column} FLOAT"), &format!("{column} {kind}"), 1);
                sql(&copy, &remade(&copy, table, change).await).await;
                sql(&copy, &format!("UPDATE {table} SET {column} = {stored}")).await;
            }
            sql(&copy, &format!("UPDATE agent_executions SET total_execution_time = {stored}")).await;
            sql(&copy, "UPDATE ai_agent_workflows SET max_execution_time = '60'").await;
            let server = TestApp::builder().database(&copy).start().await;
            let run = server.get(&format!("{AGENTS}/executions/exec_fix000004")).await.ok();
            assert_eq!((&run["total_cost"], &run["total_execution_time"]), (&json!(shown), &json!(shown)), "{kind}");
            let list = server.get(&format!("{AGENTS}/executions?limit=50")).await.ok();
            assert_eq!(list.as_array().unwrap().len(), 3, "{kind} {stored}: {list}");
            let workflow = server.get(&format!("{AGENTS}/workflows/agent_fix00001")).await.ok();
            assert_eq!((&workflow["max_cost_budget"], &workflow["max_execution_time"]), (&json!(shown), &json!(60)));
            let made = server.workflow(json!({"a": jq("1")})).await;
            let run = server.execute(&made, json!({})).await;
            assert_eq!(server.ended(run.text("id")).await["status"], "completed", "{kind} {stored}");
        }
    }
}

#[tokio::test]
async fn names_that_nobody_knows_take_no_list_with_them() {
    let (_dir, copy) = changed(
        "UPDATE ai_agent_workflows SET verification_level = 'QUANTUM' WHERE id = 'agent_fix00001';
         UPDATE agent_executions SET status = 'HIBERNATING' WHERE id = 'exec_fix000000';
         UPDATE agent_step_executions SET status = 'HIBERNATING' WHERE id = (SELECT min(id) FROM agent_step_executions WHERE execution_id = 'exec_fix000001');
         UPDATE agent_audit_logs SET event_type = 'SOLAR_FLARE', security_level = 'COSMIC' WHERE rowid = 1;
         UPDATE agent_security_policies SET security_level = 'COSMIC' WHERE id IN ('policy_fix0000', 'policy_fix0001', 'policy_fix0003');
         UPDATE agent_trust_scores SET trust_score = 'high' WHERE rowid = 1;
         UPDATE job SET state = 'TELEPORTED' WHERE rowid = 1",
    )
    .await;
    let server = TestApp::builder().database(&copy).start().await;
    for (path, least) in [
        ("workflows", 2),
        ("executions", 2),
        ("executions/exec_fix000001/logs", 0),
        ("security/audit-logs", 10),
        ("security/policies", 1),
        ("security/trust-scores", 3),
        ("security/security-dashboard", 0),
        ("security/security-stats", 0),
        ("security/scan", 0),
        ("workflows/agent_fix00003/executions", 0),
    ] {
        let answer = server.get(&format!("{AGENTS}/{path}")).await;
        assert!(answer.status == 200 || answer.status == 404, "{path}: {} {}", answer.status, answer.text);
        let rows = answer.body.as_array().map_or(0, Vec::len);
        assert!(rows >= least, "{path} has {rows} rows: {}", answer.text);
    }
    let jobs = server.get("/api/v1/services/jobs").await.ok();
    assert!(jobs.to_string().contains("TELEPORTED"), "{jobs}");
    let made = server.workflow(json!({"a": jq("1")})).await;
    let run = server.execute(&made, json!({})).await;
    assert_eq!(server.ended(run.text("id")).await["status"], "completed");
}
