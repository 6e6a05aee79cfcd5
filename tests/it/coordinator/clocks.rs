//! The clock of the coordinator's table `job`: local time or UTC, as the operator says or as its rows and tables show.

use super::{
    versions::{CREATED, FIRST, MIGRATED},
    *,
};

/// Five hours behind UTC, and five before.
const WEST: &str = "EST5";
const EAST: &str = "UZT-5";

/// A job as the coordinator writes it now, in a clock that is `hours` before UTC.
fn job_of_theirs(hours: i64) -> String {
    let at = |seconds: i64| format!("strftime('%Y-%m-%d %H:%M:%f000', 'now', '{hours} hours', '{seconds} seconds')");
    format!(
        "INSERT INTO job (id, client_id, state, payload, constraints, ttl_seconds, requested_at, expires_at, result, receipt)
         VALUES (lower(hex(randomblob(16))), 'a-client-of-theirs', 'QUEUED', '{{}}', '{{}}', 900, {}, {}, 'null', 'null')",
        at(0),
        at(900)
    )
}

/// Order a job, and answer how many hours its stored time is before UTC.
async fn hours_before(server: &Server) -> i64 {
    let made = server.post("/api/v1/services/llm/inference", json!({"model": "llama-7b", "prompt": "x"})).await.is(201);
    let id = made.text("job_id");
    let query = format!(
        "SELECT CAST(round((julianday(requested_at) - julianday('now')) * 24) AS INTEGER) FROM job WHERE id = '{id}'"
    );
    let shown = server.get(&format!("/api/v1/services/jobs/{id}")).await.ok();
    let left = format!("SELECT CAST((julianday('{}') - julianday('now')) * 1440 AS INTEGER)", shown.text("expires_at"));
    let left = number(&server.database(), &left).await;
    assert!((0..=20).contains(&left), "{left} minutes: {shown}");
    number(&server.database(), &query).await
}

#[tokio::test]
async fn the_clock_is_known_by_setting_by_rows_or_by_tables() {
    for (version, zone, setting, theirs, expected) in [
        (&FIRST, WEST, None, None, -5),
        (&MIGRATED, WEST, None, None, 0),
        (&CREATED, EAST, None, None, 0),
        (&FIRST, EAST, Some("utc"), None, 0),
        (&MIGRATED, WEST, Some("local"), None, -5),
        // The coordinator's last row tells it, where one of the clocks would have it in the future.
        (&FIRST, WEST, None, Some(0), 0),
        (&MIGRATED, EAST, None, Some(5), 5),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy.db");
        std::fs::copy(fixture(version.file), &copy).unwrap();
        if let Some(hours) = theirs {
            sql(&copy, &job_of_theirs(hours)).await;
        }
        let mut server = Server::builder().database(&copy).env("TZ", zone);
        if let Some(setting) = setting {
            server = server.env("COORDINATOR_JOB_CLOCK", setting);
        }
        let found = hours_before(&server.start().await).await;
        assert_eq!(found, expected, "{} in {zone}, {setting:?}, {theirs:?}", version.file);
    }
}

#[tokio::test]
async fn a_coordinator_that_changes_its_clock_is_followed() {
    let server = Server::builder().database(&fixture(FIRST.file)).env("TZ", WEST).start().await;
    assert_eq!(hours_before(&server).await, -5);
    sql(&server.database(), &job_of_theirs(0)).await;
    server.logged("is in the other clock").await;
    assert_eq!(hours_before(&server).await, 0);
}
