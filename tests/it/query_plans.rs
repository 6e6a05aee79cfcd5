//! The query plan of every statement on tables whose statistics say that they are large: none reads or sorts a whole table that
//! grows.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use am_db::{dialect::Dialect, statement_list::statements};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

use crate::kit::migrated_database;

/// Rows of each table.
const ROWS: i64 = 1_000_000;
/// Rows of an index of what is open, due or waiting.
const OPEN_ROWS: i64 = 1000;
/// Columns in which many rows agree; a tenth of all, for the planner.
const COMMON_COLUMNS: [&str; 29] = [
    "category",
    "channel_id",
    "state",
    "status",
    "kind",
    "endpoint",
    "service",
    "scope",
    "strategy",
    "source",
    "alias",
    "task_type",
    "priority",
    "client_id",
    "owner_id",
    "agent_id",
    "recipient",
    "sender",
    "process",
    "policy",
    "online",
    "is_active",
    "is_public",
    "trust_score",
    "entity_type",
    "event_type",
    "user_id",
    "risk_score",
    "topic",
];
/// Indexes of what is open, due or waiting, which do not grow with what was ever stored.
const OPEN_INDEXES: [&str; 42] = [
    "am_settlements_pending",
    "am_settlements_flight",
    "am_deployments_live",
    "am_deployment_instances_live",
    "am_deployment_instances_port",
    "am_deployment_alerts_raised",
    "am_evaluations_open",
    "am_evaluation_results_open",
    "am_allocations_due",
    "am_allocation_list_open",
    "am_market_requests_board",
    "am_market_requests_category",
    "am_market_requests_due",
    "am_market_requests_running",
    "am_market_purchases_open",
    "am_archives_open",
    "am_bulk_operations_open",
    "am_bulk_items_open",
    "am_webhook_deliveries_due",
    "am_webhook_deliveries_order",
    "am_webhook_deliveries_tries",
    "am_execution_list_open",
    "am_job_list_open",
    "am_runs_open",
    "am_runs_claimable",
    "am_runs_of_client",
    "am_jobs_open",
    "am_background_tasks_open",
    "am_background_tasks_unended",
    "am_optimisation_list_open",
    "am_training_runs_open",
    "am_training_runs_unended",
    "am_assignments_open",
    "am_assignments_held",
    "am_assignments_held_order",
    "am_assignments_waiting",
    "am_plans_held",
    "am_messages_pending",
    "am_messages_due",
    "am_presence_online",
    "am_presence_process",
    "am_channels_idle",
];

/// Tables that do not grow with use, each with its reason.
const SMALL_TABLES: &[(&str, &str)] = &[
    ("am_migrations", "one row for each migration"),
    ("am_capacity_hosts", "at most a thousand, which admins configure"),
    ("am_workers", "one row for each process"),
    ("am_socket_processes", "one row for each process"),
    ("am_settlement_chains", "one row for each contract"),
    ("am_webhook_endpoints", "one row for each endpoint"),
    ("am_webhook_hooks", "at most ten of each caller"),
    ("am_webhook_counts", "one row for each endpoint, kind and state"),
    ("am_agent_work_sums", "one row for each type of task"),
    ("am_audit_counts", "one row for each kind of entry"),
    ("am_audit_keys", "one row for each key that signed heads"),
    ("am_policy_bounds", "one row for each security policy"),
    ("am_api_keys", "made by operators, and held in memory"),
    ("agent_security_policies", "made by operators"),
    ("am_trust_bands", "five rows"),
    ("am_market_categories", "one row for each of twenty categories"),
    ("am_market_counters", "three rows"),
    ("am_ledger_budgets", "at most 100 of each principal, and held in memory"),
    ("am_ledger_reservations", "what open executions that budgets bind may still spend"),
    ("am_ledger_waits", "executions that wait for a budget"),
    ("am_proof_orders", "executions that ended within the last seconds, until their proof is begun"),
    ("am_late_jobs", "jobs that outlive their execution, until they are booked"),
];

/// Tables that still have statements that read all of them, each with its reason: take them out when these are mended.
const EXEMPT_TABLES: &[(&str, &str)] = &[
    ("agent_executions", "the coordinator's: read itself until its list is complete; figures of a workflow's runs"),
    ("ai_agent_workflows", "the coordinator's: read itself until its list is complete"),
    ("agent_marketplace", "the coordinator's, read once for a calibration"),
    ("am_message_data_keys", "read as a whole when the master key changes and in the report on master keys"),
];

/// Parts of statements that read or sort what is bounded otherwise, each with its reason.
const BOUNDED: &[(&str, &str)] = &[
    ("FROM agent_capabilities c LEFT JOIN", "the capabilities of one agent, at most two hundred"),
    ("WHERE r.agent_id = $1", "the allocations of one agent, until their list is complete"),
    ("LIMIT 1000) AS m CROSS JOIN am_market_services s", "at most the newest thousand services that match"),
    ("WHERE agent_id = w.agent ORDER BY", "the records of one agent, one as a rule"),
    ("FROM agent_reputation WHERE agent_id = $1 ORDER BY", "the records of one agent, one as a rule"),
    ("WITH c AS MATERIALIZED", "the audit log's searches go through pages of candidates"),
    ("WHERE l.id IN (SELECT value FROM json_each($1)) ORDER BY e.seq DESC", "the entries of a page"),
    ("WITH RECURSIVE subscriber", "agents that a message to all may reach at most, one step in an index each"),
    ("FROM p ORDER BY p.place", "the pairs of one message"),
    ("AND kind <> 'ED25519'", "the keys of one message's recipients, at most ten each"),
    ("AND agent_id = $1 ORDER BY priority, placed_at, id", "what an agent holds, at most its capacity"),
    ("GROUP BY client_id", "what agents hold"),
    ("FROM am_agents a ORDER BY a.id", "a round of dispatch and a new plan match all agents"),
    ("row_number() OVER (ORDER BY d.created_at, d.id)", "deliveries since the last numbering"),
    ("count(DISTINCT CASE WHEN h.owner_id", "plans that hold a slot"),
    ("GROUP BY p.strategy", "a report on all plans of an owner"),
    (
        "count(*) FROM am_workflow_list l WHERE (l.is_public",
        "tags have no index: the list is gone through, not the table",
    ),
    ("sum(balance / 1000000000)", "the verification of the ledger reads all accounts"),
    ("FROM am_ledger_accounts a WHERE", "a filter by asset or purpose, of operators; an owner has an index"),
    ("SELECT string_agg(", "at most the hashes below one tile"),
    ("UNION SELECT id FROM (SELECT id FROM am_messages WHERE recipient", "two pages are made one"),
    ("FROM agent_step_executions WHERE execution_id = $1 ORDER BY", "the steps of one execution"),
    ("SELECT count(*) FROM am_agents", "agents register themselves: a count of 10 000 takes 0.2 ms"),
    ("SELECT count(*) FROM am_background_tasks", "tasks take seconds of a core each: a count of 100 000 takes 2 ms"),
    ("SELECT count(*) FROM am_training_runs", "runs take minutes of a core each: a count of 100 000 takes 2 ms"),
    ("SELECT count(*) FROM am_sweeps", "sweeps have trainings behind them: a count of 100 000 takes 2 ms"),
    ("SELECT count(*) FROM am_policies", "policies have runs or uploads behind them"),
    ("SELECT count(*) FROM am_own_environments", "people make them: a count of 100 000 takes 2 ms"),
    ("SELECT count(*) FROM am_messages WHERE true", "lists of messages name an agent or a channel"),
    ("FROM job j LEFT JOIN am_jobs a ON a.id = j.id WHERE true", "the table itself, until its list is complete"),
    ("SELECT DISTINCT coalesce(a.client_id, t.client_id)", "the jobs of one batch"),
    ("receipt FROM job WHERE state = 'COMPLETED'", "the coordinator's, read once for a calibration"),
    ("FROM agent_trust_scores WHERE entity_id = a.value", "the rows of one entity"),
    ("FROM am_channel_members WHERE channel_id = c.id ORDER BY", "the members of one channel"),
    ("FROM agent_trust_scores t WHERE true", "the table itself, until its list is complete"),
    ("WHERE trust_score < 20", "the table itself, until its list is complete"),
    ("t.entity_id IN (SELECT value FROM json_each($1)) ORDER BY", "the rows of one entity, or of a batch of them"),
    ("FROM agent_sandbox_configs WHERE is_active", "the table itself, until its list is complete"),
    ("SELECT count(*) FROM am_trust_list", "a filter by time or score; without one there are counters"),
    ("SELECT count(*) FROM am_webhook_deliveries", "a filter by time, of operators; without one there are counters"),
];

/// A database with the service's tables, which are empty and said to be large.
async fn large_database(path: &Path) -> SqliteConnection {
    drop(migrated_database(path).await);
    let mut conn = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    sqlx::raw_sql("ANALYZE; DELETE FROM sqlite_stat1").execute(&mut conn).await.unwrap();
    let indexes = "SELECT t.name, i.name, i.\"unique\", i.partial,
             (SELECT group_concat(coalesce(c.name, '')) FROM pragma_index_info(i.name) c)
         FROM sqlite_master t, pragma_index_list(t.name) i WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%'";
    let indexes: Vec<(String, String, bool, bool, String)> =
        sqlx::query_as(indexes).fetch_all(&mut conn).await.unwrap();
    assert!(indexes.len() > 100, "{}", indexes.len());
    for (table, index, unique, partial, columns) in indexes {
        assert!(partial || !OPEN_INDEXES.contains(&index.as_str()), "{index} grows");
        let rows = if OPEN_INDEXES.contains(&index.as_str()) { OPEN_ROWS } else { ROWS };
        // Rows that agree in the first columns.
        let mut stat = vec![rows];
        let columns: Vec<&str> = columns.split(',').collect();
        for (at, column) in columns.iter().enumerate() {
            let before = stat[at];
            let agree = if COMMON_COLUMNS.contains(column) { before / 10 } else { before.min(20) / 2 };
            stat.push(if unique && at + 1 == columns.len() { 1 } else { agree.max(1) });
        }
        let stat: Vec<String> = stat.iter().map(i64::to_string).collect();
        let insert = sqlx::query("INSERT INTO sqlite_stat1 VALUES ($1, $2, $3)").bind(table).bind(index);
        insert.bind(stat.join(" ")).execute(&mut conn).await.unwrap();
    }
    // Read anew by whoever connects.
    conn.close().await.unwrap();
    SqliteConnection::connect(path.to_str().unwrap()).await.unwrap()
}

/// What stands for which tables in a statement: their names and aliases.
fn names_in<'t>(text: &'t str, tables: &BTreeSet<String>) -> BTreeMap<&'t str, BTreeSet<&'t str>> {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || "(),=".contains(c)).filter(|word| !word.is_empty()).collect();
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (at, word) in words.iter().enumerate() {
        if !tables.contains(*word) {
            continue;
        }
        names.entry(*word).or_default().insert(*word);
        let next = words.get(at + 1).filter(|next| **next != "AS").or_else(|| words.get(at + 2));
        if let Some(alias) = next.filter(|alias| alias.chars().all(|c| c.is_ascii_lowercase())) {
            names.entry(*alias).or_default().insert(*word);
        }
    }
    names
}

/// Faults of a plan: steps that read a whole table of these, or sort.
fn faults_of<'s>(steps: &'s [String], text: &str, growing: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<&'s str> {
    // The rows of a parameter are as many as a request brings.
    let reads = |step: &String| {
        ["SCAN ", "SEARCH "].iter().any(|verb| step.starts_with(verb))
            && !step.contains("json_each")
            && !step.contains("jsonb_each")
    };
    let sorts = steps.iter().any(|step| step.contains("TEMP B-TREE")) && steps.iter().any(reads);
    let is_fault = |step: &&String| {
        let mut words = step.split(' ');
        let scans = words.next() == Some("SCAN") && words.next().is_some_and(|name| growing.contains_key(name));
        let index = step.split(" INDEX ").nth(1);
        let of_open = index.is_some_and(|index| OPEN_INDEXES.contains(&index));
        // In the order of an index, or of the rowid, until the page is full.
        let paged = (index.is_some() || text.contains("ORDER BY")) && !sorts && text.contains("LIMIT");
        (scans && !of_open && !paged) || (step.contains("TEMP B-TREE") && sorts && !growing.is_empty())
    };
    steps.iter().filter(is_fault).map(String::as_str).collect()
}

fn is_exempt(table: &str) -> bool {
    SMALL_TABLES.iter().chain(EXEMPT_TABLES).any(|(exempt, _)| *exempt == table)
}

#[tokio::test]
async fn statements_read_no_whole_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut conn = large_database(&folder.path().join("t.db")).await;
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut conn).await.unwrap();
    let tables: BTreeSet<String> = tables.into_iter().collect();
    let mut unused: BTreeSet<&str> = EXEMPT_TABLES.iter().map(|(what, _)| *what).collect();
    let (mut faults, mut explained) = (Vec::new(), 0);
    for listed in statements() {
        for text in listed.texts(Dialect::Sqlite) {
            // A list of values has several, which no index has in order.
            let text = text.replace(" IN ($1)", " IN ($1, $1)").split_whitespace().collect::<Vec<_>>().join(" ");
            let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"))).fetch_all(&mut conn).await;
            // The coordinator makes some tables late.
            let Ok(plan) = plan else { continue };
            explained += 1;
            let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
            let names = names_in(&text, &tables);
            if faults_of(&steps, &text, &names).is_empty() {
                continue;
            }
            let exempt: Vec<&str> = names.keys().copied().filter(|name| is_exempt(name)).collect();
            unused.retain(|what| !exempt.contains(what));
            if BOUNDED.iter().any(|(part, _)| text.contains(part)) {
                continue;
            }
            // What is sorted may be rows of a table that is exempt; what is scanned has a name.
            let growing = names.into_iter().filter(|(_, of)| !of.iter().all(|table| is_exempt(table))).collect();
            let mut found = faults_of(&steps, &text, &growing);
            found.retain(|step| step.starts_with("SCAN") || exempt.is_empty());
            if !found.is_empty() {
                faults.push(format!("{}: {steps:?}\n    {text}", listed.place()));
            }
        }
    }
    assert!(explained > 400, "{explained}");
    faults.sort();
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    assert!(unused.is_empty(), "no statement needs these exemptions: {unused:?}");
}
