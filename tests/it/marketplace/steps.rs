//! Steps of many requests that are written together: each is what it is alone, and takes few round trips to the writer.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;

use super::*;
use crate::{harness::TestApp, kit::sql, ledger::verified};

/// Requests that are taken through their steps at once.
const TOGETHER: usize = 24;
/// Requests whose steps are counted, and how often.
const COUNTED: usize = 12;
const ROUNDS: usize = 3;
/// A step that does not wait has one round trip to the write connection, with all its rows; this is below two, with room for those of
/// tasks that run beside it.
const MAX_ROUND_TRIPS: f64 = 1.9;

/// One number of the database.
async fn number(server: &ApiClient, select: &'static str) -> i64 {
    let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    let found = sqlx::query_scalar(select).fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    found
}

/// A counter of the service.
async fn counter(server: &ApiClient, name: &str) -> f64 {
    let page = server.get("/metrics").await.text;
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name}")).rsplit(' ').next().unwrap().parse().unwrap()
}

/// All at once, each of which succeeds with this status.
async fn all_at_once(server: &ApiClient, key: &str, requests: &[Value], verb: &str) -> Vec<Value> {
    let answers = join_all(requests.iter().map(|request| act(server, key, request, verb, body_of(verb)))).await;
    answers.into_iter().map(Answer::ok).collect()
}

#[tokio::test]
async fn steps_taken_at_once_add_up() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    fund(&server, CLIENT, 1000.0).await;
    let row = "PRAGMA foreign_keys = OFF; INSERT INTO agent_reputation (id, agent_id, trust_score, reputation_level, performance_rating, reliability_score,
         community_rating, total_earnings, transaction_count, success_rate, dispute_count, dispute_won_count, jobs_completed, jobs_failed,
         average_response_time, uptime_percentage, geographic_region, created_at, updated_at, last_activity)
         VALUES ('rep_1', 'seller', 500, 'BEGINNER', 3, 50, 3, 7, 1, 0, 0, 0, 1, 0, 0, 0, '', '2026-05-12 14:29:30.123456',
         '2026-05-12 14:29:30.123456', '2026-05-12 14:29:30.123456')";
    sql(&server.database(), row).await;
    let path = format!("{MARKET}/requests");
    let made = (0..TOGETHER).map(|_| post_as(&server, CLIENT, &path, request_for(&service, 10.0)));
    let made: Vec<Value> = join_all(made).await.into_iter().map(|answer| answer.is(201)).collect();
    check_books(&server).await;
    let accepted = all_at_once(&server, OTHER_ADMIN, &made, "accept").await;
    assert!(accepted.iter().all(|request| request["price"] == 2.5 && request["escrow"] == 2.5), "{accepted:?}");
    check_books(&server).await;
    all_at_once(&server, OTHER_ADMIN, &made, "complete").await;
    let paid = all_at_once(&server, CLIENT, &made, "settle").await;
    assert!(paid.iter().all(|request| request["state"] == "settled" && request["events"] == 4), "{paid:?}");
    check_books(&server).await;
    verified(&server).await;

    // What each step counts is counted once for each.
    let all = i64::try_from(TOGETHER).unwrap();
    let listed = get(&server, CLIENT, &format!("/services/{}", service.text("id"))).await.ok();
    assert_eq!(listed["jobs"], json!(all));
    for (select, expected) in [
        ("SELECT jobs FROM am_market_agents WHERE agent_id = 'seller'", all),
        ("SELECT earned FROM am_market_agents WHERE agent_id = 'seller'", all * 250_000_000),
        (
            "SELECT settled FROM am_market_categories WHERE category = 'DATA_ANALYSIS' OR category = 'data_analysis'",
            all,
        ),
        ("SELECT sum(open_requests) FROM am_market_categories", 0),
        ("SELECT sum(requests) FROM am_market_days", all),
        ("SELECT sum(volume) FROM am_market_days", all * 250_000_000),
        ("SELECT jobs_completed FROM agent_reputation WHERE id = 'rep_1'", all + 1),
        ("SELECT transaction_count FROM agent_reputation WHERE id = 'rep_1'", all + 1),
        ("SELECT CAST(round(total_earnings * 10) AS INTEGER) FROM agent_reputation WHERE id = 'rep_1'", 70 + all * 25),
        ("SELECT count(*) FROM am_market_purchases", 1),
        ("SELECT count(*) FROM am_market_request_events", all * 4),
        (
            "SELECT count(*) FROM agent_audit_logs WHERE event_data LIKE '%\"settled\"%' AND event_data LIKE '%mreq_%'",
            all,
        ),
    ] {
        assert_eq!(number(&server, select).await, expected, "{select}");
    }
}

#[tokio::test]
async fn what_does_not_fit_the_wallet_fails_alone() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    // 100 AIT are enough for ten of them, in whichever order they come.
    let path = format!("{MARKET}/requests");
    let made = (0..TOGETHER).map(|_| post_as(&server, CLIENT, &path, request_for(&service, 10.0)));
    let (mut good, mut poor) = (Vec::new(), 0);
    for answer in join_all(made).await {
        if answer.status == 201 {
            good.push(answer.body);
        } else {
            assert_eq!(answer.is(409)["code"], "insufficient_funds");
            poor += 1;
        }
    }
    assert_eq!((good.len(), poor), (10, TOGETHER - 10));
    assert_eq!(balance(&server, &principal(CLIENT), "WALLET").await, 0);
    check_books(&server).await;
    // Of several steps of one request at once one is taken, whatever the others saw before.
    let verbs = ["accept", "cancel", "accept", "reject", "cancel"];
    let answers = join_all(good.iter().flat_map(|request| {
        let server = &server;
        verbs.map(|verb| {
            let key = if verb == "cancel" { CLIENT } else { OTHER_ADMIN };
            act(server, key, request, verb, body_of(verb))
        })
    }))
    .await;
    for (request, answers) in good.iter().zip(answers.chunks(verbs.len())) {
        let taken = answers.iter().filter(|answer| answer.status == 200).count();
        // One that was accepted first may have been rejected then.
        let state = now(&server, request).await["state"].clone();
        let accepted = answers[0].status == 200 || answers[2].status == 200;
        let most = if accepted && state == "rejected" { 2 } else { 1 };
        assert_eq!(taken, most, "{state}: {answers:?}");
        assert!(answers.iter().all(|answer| answer.status == 200 || answer.status == 409), "{answers:?}");
    }
    check_books(&server).await;
    verified(&server).await;
}

#[tokio::test]
async fn repeated_steps_are_answered_as_the_first_one() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
    for (verb, key) in [("accept", OTHER_ADMIN), ("complete", OTHER_ADMIN), ("settle", CLIENT)] {
        let path = format!("{MARKET}/requests/{}/{verb}", made.text("id"));
        let ask = || {
            let request = server.client().post(server.url(&path)).header("x-api-key", key);
            Answer::of(request.header("idempotency-key", format!("once-{verb}")).json(&body_of(verb)))
        };
        let answers = join_all((0..6).map(|_| ask())).await;
        let replayed = answers.iter().filter(|answer| answer.header("idempotency-replayed") == "true").count();
        assert_eq!(replayed, 5, "{verb}: {answers:?}");
        let first = answers[0].body.clone();
        assert!(answers.into_iter().all(|answer| answer.ok() == first), "{verb}");
    }
    assert_eq!(number(&server, "SELECT count(*) FROM am_ledger_entries WHERE kind = 'PAYMENT'").await, 1);
    check_books(&server).await;
}

#[tokio::test]
async fn each_step_takes_few_round_trips() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    fund(&server, CLIENT, 1000.0).await;
    let round_trips = async || counter(&server, "db_write_round_trips_total").await;
    // Tasks that run beside it write too: the least of some rounds is the steps' own.
    let mut least: BTreeMap<&str, f64> = BTreeMap::new();
    let mut note = |verb: &'static str, made: f64| {
        let each = least.entry(verb).or_insert(f64::INFINITY);
        *each = each.min(made / COUNTED as f64);
    };
    for _ in 0..ROUNDS {
        let mut requests = Vec::new();
        let before = round_trips().await;
        for _ in 0..COUNTED {
            requests.push(request(&server, CLIENT, request_for(&service, 10.0)).await);
        }
        note("create", round_trips().await - before);
        for (verb, key) in [("accept", OTHER_ADMIN), ("complete", OTHER_ADMIN), ("settle", CLIENT)] {
            let before = round_trips().await;
            for request in &requests {
                act(&server, key, request, verb, body_of(verb)).await.ok();
            }
            note(verb, round_trips().await - before);
        }
    }
    for (verb, each) in &least {
        assert!((1.0..MAX_ROUND_TRIPS).contains(each), "{verb}: {each} round trips each, of all {least:?}");
    }
}
