//! What is refused moves nothing, names the field, and stands in the audit log.

use serde_json::json;

use super::*;
use crate::{harness::TestApp, kit::locations};

/// Refusals of the marketplace that the audit log tells of.
async fn told(server: &ApiClient) -> i64 {
    let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    let count =
        "SELECT count(*) FROM agent_audit_logs WHERE event_data LIKE '%\"refused\"%' AND event_data LIKE '%mreq_%'";
    sqlx::query_scalar(count).fetch_one(&mut conn).await.unwrap()
}

#[tokio::test]
async fn bad_requests_move_nothing() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    let own = {
        agent(&server, ADMIN, "own").await;
        fund(&server, ADMIN, 100.0).await;
        offer(&server, ADMIN, "own", json!({})).await
    };
    let before = balance(&server, &principal(CLIENT), "WALLET").await;
    let good = request_for(&service, 10.0);
    for (change, field) in [
        (json!({"budget": 1.99}), "budget"),
        (json!({"budget": -1}), "budget"),
        (json!({"budget": "NaN"}), "budget"),
        (json!({"budget": "2.000000001"}), "budget"),
        (json!({"budget": 1e12}), "budget"),
        (json!({"deadline": "2020-01-01T00:00:00Z"}), "deadline"),
        (json!({"deadline": later(&service, 366 * 86_400)}), "deadline"),
        (json!({"service_id": "msvc_000000000000"}), "service_id"),
        (json!({"category": "writing"}), "category"),
        (json!({"requirements": ""}), "requirements"),
    ] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = post_as(&server, CLIENT, &format!("{MARKET}/requests"), body).await.is(422);
        assert_eq!(locations(&answer), [json!(["body", field])], "{change}");
    }
    let poor = post_as(&server, CLIENT, &format!("{MARKET}/requests"), request_for(&service, 100.000_000_01)).await;
    assert_eq!(poor.is(409)["code"], "insufficient_funds");
    let traded = post_as(&server, ADMIN, &format!("{MARKET}/requests"), request_for(&own, 10.0)).await.is(422);
    assert_eq!(locations(&traded), [json!(["body", "service_id"])], "nobody trades with itself");
    assert_eq!(balance(&server, &principal(CLIENT), "WALLET").await, before);
    assert_eq!(told(&server).await, 12, "each refusal is in the log");
    check_books(&server).await;
}

#[tokio::test]
async fn what_is_no_amount_is_refused_by_its_field_and_told() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    let guild = found_guild(&server, "founder").await;
    let guild = format!("{MARKET}/guilds/{}/payouts", guild.text("id"));
    let listed = format!("{MARKET}/services/{}", service.text("id"));
    let amounts = [json!(-1), json!("NaN"), json!(1e-9), json!("0.000000001"), json!(1e300), json!("much"), json!(0)];
    for amount in &amounts {
        let mut body = offer_of("founder");
        body["base_price"] = amount.clone();
        let answer = post_as(&server, OTHER_ADMIN, &format!("{MARKET}/services"), body).await.is(422);
        assert_eq!(locations(&answer), [json!(["body", "base_price"])], "{amount}");
        let changed = json!({"base_price": amount});
        let answer = ask(&server, Some(OTHER_ADMIN), Method::PATCH, &listed, Some(changed)).await.is(422);
        assert_eq!(locations(&answer), [json!(["body", "base_price"])], "{amount}");
        let payment = json!({"agent_id": "founder", "amount": amount});
        let answer = post_as(&server, OTHER_ADMIN, &guild, payment).await.is(422);
        assert_eq!(locations(&answer), [json!(["body", "amount"])], "{amount}");
    }
    let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    for (resource, action, refusals) in
        [("market_service", "list", 7), ("market_service", "change", 7), ("market_guild", "pay_out", 7_i64)]
    {
        let count = "SELECT count(*) FROM agent_audit_logs WHERE event_data LIKE '%\"refused\"%'
            AND event_data LIKE '%' || $1 || '%' AND event_data LIKE '%\"' || $2 || '\"%'";
        let found: i64 = sqlx::query_scalar(count).bind(resource).bind(action).fetch_one(&mut conn).await.unwrap();
        assert_eq!(found, refusals, "{resource} {action}");
    }
    check_books(&server).await;
}

#[tokio::test]
async fn own_agents_do_not_accept() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    agent(&server, ADMIN, "own").await;
    fund(&server, ADMIN, 100.0).await;
    let own = offer(&server, ADMIN, "own", json!({})).await;
    let body =
        json!({"category": "data_analysis", "requirements": "anybody", "budget": 9, "deadline": later(&service, 1000)});
    let made = request(&server, ADMIN, body).await;
    let refused = act(&server, ADMIN, &made, "accept", json!({"service_id": own["id"]})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "agent_id"])]);
    let missing = act(&server, OTHER_ADMIN, &made, "accept", json!({})).await.is(422);
    assert_eq!(locations(&missing), [json!(["body", "service_id"])]);
    let strange = act(&server, CLIENT, &made, "accept", json!({"service_id": service["id"]})).await.is(422);
    assert_eq!(locations(&strange), [json!(["body", "service_id"])], "another's agent");
    assert_eq!(now(&server, &made).await["state"], "open");
    assert_eq!(told(&server).await, 3);
    // What was asked of one is nobody else's.
    let asked = request(&server, CLIENT, request_for(&service, 10.0)).await;
    let other = act(&server, ADMIN, &asked, "accept", json!({"service_id": own["id"]})).await.is(422);
    assert_eq!(locations(&other)[0], json!(["body", "service_id"]));
    for verb in ["settle", "complete", "decide", "rating"] {
        let answer = act(&server, OTHER_ADMIN, &asked, verb, body_of(verb)).await;
        assert!(answer.status == 403 || answer.status == 409, "{verb}: {}", answer.text);
    }
    act(&server, CLIENT, &asked, "complete", body_of("complete")).await.is(403);
    check_books(&server).await;
}
