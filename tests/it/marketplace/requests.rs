//! The life of a request: its money, its races, and what happens by itself.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::*;
use crate::harness::TestApp;

#[tokio::test]
async fn paid_request_leaves_its_money_where_the_contract_says() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
    assert_eq!(
        (&made["state"], &made["escrow"], &made["provider_id"]),
        (&json!("open"), &json!(10.0), &service["owner_id"])
    );
    assert_eq!(balance(&server, &principal(CLIENT), "ESCROW").await, units(&made, "budget"));
    let accepted = act(&server, OTHER_ADMIN, &made, "accept", json!({})).await.ok();
    // 2 × (1 + 5000 / 10000 × 0.5): an unknown agent has a reputation of 5000.
    assert_eq!((&accepted["price"], &accepted["refunded"]), (&json!(2.5), &json!(7.5)));
    assert_eq!(balance(&server, &principal(CLIENT), "ESCROW").await, units(&accepted, "price"));
    let completed = act(&server, OTHER_ADMIN, &made, "complete", json!({"results": {"chart": [1, 2]}})).await.ok();
    assert_eq!(completed["results_hash"].as_str().unwrap().len(), 64);
    check_books(&server).await;
    let settled = act(&server, CLIENT, &made, "settle", json!({})).await.ok();
    assert_eq!(
        (&settled["state"], &settled["paid"], &settled["fee"]),
        (&json!("settled"), &json!(2.5), &json!(0.0625))
    );
    assert_eq!(balance(&server, &principal(OTHER_ADMIN), "WALLET").await, 243_750_000);
    assert_eq!(balance(&server, "system", "FEES").await, 6_250_000);
    assert_eq!(balance(&server, &principal(CLIENT), "WALLET").await, 9_750_000_000);
    check_books(&server).await;

    let rated = act(&server, CLIENT, &made, "rating", json!({"rating": 5, "comment": "good"})).await.is(201);
    assert_eq!((&rated["reputation"]["before"], &rated["reputation"]["after"]), (&json!(5000.0), &json!(5200.0)));
    let reputation = server.get("/api/v1/agents/seller/reputation").await.ok();
    assert_eq!((&reputation["reputation"], &reputation["source"]), (&json!(5200.0), &json!("coordinator")));
    let service = get(&server, CLIENT, &format!("/services/{}", service.text("id"))).await.ok();
    assert_eq!((&service["jobs"], &service["rating"], &service["rating_count"]), (&json!(1), &json!(5.0), &json!(1)));
    let history = get(&server, CLIENT, &format!("/requests/{}/history", made.text("id"))).await.ok();
    let events: Vec<&str> = history.as_array().unwrap().iter().map(|event| event.text("event")).collect();
    assert_eq!(events, ["created", "accepted", "completed", "settled"]);
    let again = act(&server, CLIENT, &made, "rating", json!({"rating": 1})).await.is(409);
    assert_eq!(again["code"], "conflict");
}

#[tokio::test]
async fn of_agents_accepting_at_once_one_wins() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    let mut services = vec![service.clone()];
    for number in 0..5 {
        let name = format!("rival-{number}");
        agent(&server, OTHER_ADMIN, &name).await;
        services.push(offer(&server, OTHER_ADMIN, &name, json!({})).await);
    }
    let body =
        json!({"category": "data_analysis", "requirements": "anybody", "budget": 9, "deadline": later(&service, 1000)});
    let made = request(&server, CLIENT, body).await;
    assert_eq!(made["service_id"], json!(null));
    let board = get(&server, OTHER_ADMIN, "/requests?role=open&category=data_analysis").await.ok();
    assert_eq!(board[0]["id"], made["id"]);
    let accepts = services.iter().map(|service| {
        let body = json!({"service_id": service["id"]});
        async { act(&server, OTHER_ADMIN, &made, "accept", body).await }
    });
    let answers = join_all(accepts).await;
    let winners: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(winners.len(), 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (409, &json!("conflict")));
    }
    assert_eq!(now(&server, &made).await["agent_id"], winners[0].body["agent_id"]);
    check_books(&server).await;
}

#[tokio::test]
async fn money_comes_back_when_nobody_works() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    for (verb, key, before, state) in [
        ("cancel", CLIENT, None, "cancelled"),
        ("reject", OTHER_ADMIN, None, "rejected"),
        ("reject", OTHER_ADMIN, Some("accept"), "rejected"),
    ] {
        let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
        if let Some(before) = before {
            act(&server, OTHER_ADMIN, &made, before, json!({})).await.ok();
        }
        let ended = act(&server, key, &made, verb, json!({"reason": "no time"})).await.ok();
        assert_eq!((ended.text("state"), &ended["refunded"], &ended["escrow"]), (state, &json!(10.0), &json!(0.0)));
        check_books(&server).await;
    }
    assert_eq!(balance(&server, &principal(CLIENT), "WALLET").await, 10_000_000_000);
    let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
    let taken = request(&server, CLIENT, request_for(&service, 10.0)).await;
    act(&server, OTHER_ADMIN, &taken, "accept", json!({})).await.ok();
    server.clock().advance(Duration::from_secs(11 * 86_400));
    for made in [&made, &taken] {
        assert_eq!(until_state(&server, made, "expired").await["refunded"], 10.0);
    }
    assert_eq!(balance(&server, &principal(CLIENT), "WALLET").await, 10_000_000_000);
    check_books(&server).await;
    let late = act(&server, OTHER_ADMIN, &made, "accept", json!({})).await.is(409);
    assert_eq!(late["code"], "conflict");
}

#[tokio::test]
async fn what_is_not_confirmed_is_paid_by_itself() {
    let server = TestApp::builder().env("MARKET_REVIEW_SECONDS", 3600).start().await;
    let service = open_market(&server).await;
    let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
    act(&server, OTHER_ADMIN, &made, "accept", json!({})).await.ok();
    act(&server, OTHER_ADMIN, &made, "complete", json!({"results": 1})).await.ok();
    server.clock().advance(Duration::from_secs(3601));
    assert_eq!(until_state(&server, &made, "settled").await["paid"], 2.5);
    let refused = act(&server, CLIENT, &made, "dispute", json!({"reason": "late"})).await.is(409);
    assert_eq!(refused["code"], "invalid_state");
    check_books(&server).await;
}

#[tokio::test]
async fn disputes_are_decided_by_an_arbiter_or_by_time() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    let mut disputed = Vec::new();
    for completes in [true, true, false] {
        let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
        act(&server, OTHER_ADMIN, &made, "accept", json!({})).await.ok();
        if completes {
            act(&server, OTHER_ADMIN, &made, "complete", json!({"results": 1})).await.ok();
        }
        act(&server, CLIENT, &made, "dispute", json!({"reason": "not a chart"})).await.ok();
        disputed.push(made);
    }
    let decision = json!({"provider_percent": 40, "reason": "half a chart"});
    let party = act(&server, OTHER_ADMIN, &disputed[0], "decide", decision.clone()).await.is(403);
    assert_eq!(party["code"], "forbidden");
    act(&server, CLIENT, &disputed[0], "decide", decision.clone()).await.is(403);
    let decided = act(&server, ADMIN, &disputed[0], "decide", decision).await.ok();
    assert_eq!((decided.text("state"), &decided["paid"], &decided["refunded"]), ("resolved", &json!(1.0), &json!(9.0)));
    assert_eq!((&decided["fee"], &decided["reason"]), (&json!(0.025), &json!("half a chart")));
    check_books(&server).await;
    server.clock().advance(Duration::from_secs(8 * 86_400));
    let completed = until_state(&server, &disputed[1], "resolved").await;
    assert_eq!((&completed["paid"], &completed["refunded"]), (&json!(2.5), &json!(7.5)), "it had been completed");
    let open = until_state(&server, &disputed[2], "resolved").await;
    assert_eq!((&open["paid"], &open["refunded"]), (&json!(0.0), &json!(10.0)), "it had not been completed");
    check_books(&server).await;
}

#[tokio::test]
async fn requests_are_seen_by_their_parties() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
    let server = server.restart().await;
    let path = format!("/requests/{}", made.text("id"));
    get(&server, CLIENT, &path).await.ok();
    get(&server, OTHER_ADMIN, &path).await.ok();
    let incoming = get(&server, OTHER_ADMIN, "/requests?role=provider&state=open").await.ok();
    assert_eq!(incoming.as_array().unwrap().len(), 1);
    assert_eq!(get(&server, CLIENT, "/requests").await.ok()[0]["id"], made["id"]);
    get(&server, CLIENT, "/requests?role=all").await.is(403);
    assert_eq!(get(&server, ADMIN, "/requests?role=all").await.ok().as_array().unwrap().len(), 1);
    get(&server, CLIENT, "/requests?category=research").await.is(422);
}

#[tokio::test]
async fn figures_are_those_of_what_was_paid() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    for _ in 0..3 {
        let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
        pay(&server, OTHER_ADMIN, CLIENT, &made).await;
    }
    request(&server, CLIENT, request_for(&service, 10.0)).await;
    let figures = get(&server, CLIENT, "/analytics").await.ok();
    assert_eq!((&figures["requests"], &figures["settled"], &figures["volume"]), (&json!(4), &json!(3), &json!(7.5)));
    assert_eq!((&figures["revenue"], &figures["revenue_total"]), (&json!(0.1875), &json!(0.1875)));
    assert_eq!(figures["volume_growth"], json!(null), "there was nothing before");
    assert_eq!(
        (&figures["top_agents"][0]["agent_id"], &figures["top_agents"][0]["earned"]),
        (&json!("seller"), &json!(7.5))
    );
    let categories = get(&server, CLIENT, "/categories").await.ok();
    let own = categories.as_array().unwrap().iter().find(|one| one["category"] == "data_analysis").unwrap();
    let counts = ["services", "open_requests", "settled", "requests_last_week"].map(|name| own[name].as_i64().unwrap());
    assert_eq!((categories.as_array().unwrap().len(), counts), (20, [1, 1, 3, 4]));
    get(&server, CLIENT, "/analytics?first_day=2026-01-02&last_day=2026-01-01").await.is(422);
}

#[tokio::test]
async fn key_of_an_agent_sells_for_it_alone() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    let key = crate::agent_keys::key_of(&server, "seller").await;
    let other = crate::agent_keys::key_of(&server, "other").await;
    let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
    act(&server, &other, &made, "accept", json!({})).await.is(404);
    let incoming = get(&server, &key, "/requests?role=provider").await.ok();
    assert_eq!(incoming[0]["id"], made["id"]);
    act(&server, &key, &made, "accept", json!({})).await.ok();
    act(&server, &other, &made, "complete", body_of("complete")).await.is(404);
    let completed = act(&server, &key, &made, "complete", body_of("complete")).await.ok();
    assert_eq!(completed["state"], "completed");
    check_books(&server).await;
}

#[tokio::test]
async fn ratings_reach_every_generation_of_the_coordinator() {
    for file in ["coordinator", "migrated-2026-08", "created-2026-08"] {
        let database = crate::kit::fixture(&format!("coordinator/{file}.sqlite"));
        let server = TestApp::builder().database(&database).start().await;
        let service = open_market(&server).await;
        let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
        pay(&server, OTHER_ADMIN, CLIENT, &made).await;
        act(&server, CLIENT, &made, "rating", json!({"rating": 1})).await.is(201);
        let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
        let row = "SELECT r.trust_score, r.jobs_completed, e.trust_score_before, e.trust_score_after
             FROM agent_reputation r JOIN reputation_events e ON e.agent_id = r.id WHERE r.agent_id = 'seller'";
        let row: (f64, i64, f64, f64) = sqlx::query_as(row).fetch_one(&mut conn).await.unwrap();
        assert_eq!(row, (480.0, 1, 500.0, 480.0), "{file}");
    }
}
