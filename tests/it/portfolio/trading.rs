//! Deposits, quotes, trades and rebalances: what is moved, what is refused, and that a refusal moves nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::{PORTFOLIOS, create_portfolio, funded, record_prices};
use crate::{
    harness::{ApiClient, CLIENT, TestApp},
    kit::{JsonDocument as _, ask, get_as, locations, post_as},
};
use reqwest::Method;

/// Balance of a token in a portfolio's document of holdings.
fn balance(holdings: &Value, token: &str) -> f64 {
    let all = holdings["assets"].as_array().unwrap();
    all.iter().find(|asset| asset["token_symbol"] == token).map_or(0.0, |asset| asset["balance"].as_f64().unwrap())
}

async fn holdings(server: &ApiClient, portfolio: &str) -> Value {
    server.get(&format!("{portfolio}/assets")).await.ok()
}

#[tokio::test]
async fn a_trade_says_what_it_costs_and_is_in_the_books() {
    let server = TestApp::start().await;
    let portfolio = funded(&server).await;
    let body = json!({"sell_token": "AIT", "buy_token": "ETH", "sell_amount": "100", "min_buy_amount": 4.9});
    let trade = server.post(&format!("{portfolio}/trades"), body).await.is(201);
    // 100 AIT are 5 ETH at 20; 5 basis points are lost, 10 of the rest are the fee.
    let terms = &trade["terms"];
    assert_eq!((&terms["slippage_amount"], &terms["buy_amount"]), (&json!(0.0025), &json!(4.9975)));
    assert_eq!((&terms["fee_amount"], &terms["received_amount"]), (&json!(0.0049975), &json!(4.9925025)));
    assert_eq!((&trade["status"], &trade["transaction_hash"]), (&json!("executed"), &Value::Null));
    let found = holdings(&server, &portfolio).await;
    assert_eq!((balance(&found, "AIT"), balance(&found, "ETH")), (900.0, 4.9925025));
    assert_eq!(found["total_value"], json!(999.85005));
    let eth = found["assets"].as_array().unwrap().iter().find(|asset| asset["token_symbol"] == "ETH").unwrap();
    assert!((eth["average_cost"].as_f64().unwrap() - 100.0 / 4.9925025).abs() < 1e-12, "{eth}");
    // The coordinator's tables say the same.
    let sql = "SELECT balance || '|' || target_allocation FROM portfolio_asset WHERE token_symbol = 'ETH'";
    assert_eq!(super::text_of(&server, sql).await, "4.9925025|50.0");
    let sql = "SELECT status || '|' || fee_amount FROM portfolio_trade";
    assert_eq!(super::text_of(&server, sql).await, "EXECUTED|0.0049975");
    let listed = server.get(&format!("{portfolio}/trades")).await.ok();
    assert_eq!(listed, json!([trade]));
}

#[tokio::test]
async fn what_breaks_a_rule_moves_nothing_and_is_in_the_log() {
    let server = TestApp::builder().env("PORTFOLIO_QUOTE_SECONDS", 30).start().await;
    let portfolio = funded(&server).await;
    let before = holdings(&server, &portfolio).await["assets"].clone();
    let trade = |more: Value| {
        let mut body = json!({"sell_token": "AIT", "buy_token": "ETH", "sell_amount": 10});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, member) in [
        (trade(json!({"buy_token": "AIT"})), "buy_token"),
        (trade(json!({"sell_amount": -1})), "sell_amount"),
        (trade(json!({"sell_amount": 0})), "sell_amount"),
        (trade(json!({"sell_amount": 0.000000001})), "sell_amount"),
        (trade(json!({"sell_amount": "1e30"})), "sell_amount"),
        (trade(json!({"sell_amount": "0.00000001", "buy_token": "ETH"})), "sell_amount"),
        (trade(json!({"sell_token": "a token"})), "sell_token"),
        (trade(json!({"quote_id": "quote_0000000000000000"})), "quote_id"),
    ] {
        let refused = server.post(&format!("{portfolio}/trades"), body.clone()).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", member])], "{body}");
    }
    for (path, body, code) in [
        ("trades", trade(json!({"sell_amount": 1000.00000001})), "insufficient_funds"),
        ("trades", trade(json!({"sell_token": "ETH", "buy_token": "AIT"})), "insufficient_funds"),
        ("trades", trade(json!({"min_buy_amount": 0.5})), "below_minimum"),
        ("withdrawals", json!({"amount": "1000.00000001"}), "insufficient_funds"),
        ("deposits", json!({"amount": 1}), "insufficient_funds"),
        ("deposits", json!({"amount": 1, "token": "SOL", "source": "outside"}), "price_missing"),
    ] {
        let refused = server.post(&format!("{portfolio}/{path}"), body.clone()).await.is(409);
        assert_eq!(refused["code"], code, "{path} {body}: {refused}");
    }
    let asked = json!({"sell_token": "AIT", "buy_token": "ETH", "sell_amount": 10});
    let quote = server.post(&format!("{portfolio}/quotes"), asked).await.is(201);
    server.clock().advance(Duration::from_secs(31));
    let refused = server.post(&format!("{portfolio}/trades"), json!({"quote_id": quote["id"]})).await.is(409);
    assert_eq!(refused["code"], "quote_expired");
    let inactive = server.put(&portfolio, json!({"is_active": false})).await.ok();
    assert_eq!(inactive["is_active"], false);
    assert_eq!(
        server.post(&format!("{portfolio}/trades"), trade(json!({}))).await.is(409)["code"],
        "portfolio_inactive"
    );
    assert_eq!(holdings(&server, &portfolio).await["assets"], before, "nothing was moved");
    let log = server.get("/api/v1/agents/security/audit-logs?limit=100").await.ok();
    let refusals = log.as_array().unwrap().iter().filter(|entry| entry["event_type"] == "access_denied");
    assert!(refusals.count() >= 15, "{log}");
}

#[tokio::test]
async fn a_quote_is_taken_once_at_its_own_prices() {
    let server = TestApp::start().await;
    let portfolio = funded(&server).await;
    let asked = json!({"sell_token": "AIT", "buy_token": "ETH", "sell_amount": 100});
    let quote = server.post(&format!("{portfolio}/quotes"), asked).await.is(201);
    record_prices(&server, &[("ETH", 40.0)]).await;
    let trades = format!("{portfolio}/trades");
    let other = json!({"quote_id": quote["id"], "sell_amount": 99});
    assert_eq!(locations(&server.post(&trades, other).await.is(422)), [json!(["body", "sell_amount"])]);
    let trade = server.post(&trades, json!({"quote_id": quote["id"]})).await.is(201);
    assert_eq!((&trade["terms"]["buy_price"], &trade["quote_id"]), (&json!(20.0), &quote["id"]));
    assert_eq!(server.post(&trades, json!({"quote_id": quote["id"]})).await.is(409)["code"], "quote_used");
    // A quote is its own portfolio's.
    let other = funded(&server).await;
    let fresh = server
        .post(&format!("{portfolio}/quotes"), json!({"sell_token": "AIT", "buy_token": "ETH", "sell_amount": 1}))
        .await;
    let refused = server.post(&format!("{other}/trades"), json!({"quote_id": fresh.is(201)["id"]})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "quote_id"])]);
}

#[tokio::test]
async fn money_of_a_client_comes_from_its_own_wallet() {
    let server = TestApp::start().await;
    let strategy = json!({"name": "own", "target_allocations": {"AIT": 100}});
    let strategy = post_as(&server, CLIENT, &format!("{PORTFOLIOS}/strategies"), strategy).await.is(201);
    let body = json!({"agent_address": super::new_address(), "strategy_id": strategy["id"]});
    let made = post_as(&server, CLIENT, PORTFOLIOS, body).await.is(201);
    let portfolio = format!("{PORTFOLIOS}/{}", made["id"]);
    let outside = json!({"amount": 5, "source": "outside"});
    let refused = post_as(&server, CLIENT, &format!("{portfolio}/deposits"), outside.clone()).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "source"])]);
    // An admin attests what came from outside; a withdrawal brings it to the owner's wallet, from which it may come back.
    server.post(&format!("{portfolio}/deposits"), outside).await.ok();
    post_as(&server, CLIENT, &format!("{portfolio}/withdrawals"), json!({"amount": 3})).await.ok();
    post_as(&server, CLIENT, &format!("{portfolio}/deposits"), json!({"amount": "2.5"})).await.ok();
    let refused = post_as(&server, CLIENT, &format!("{portfolio}/deposits"), json!({"amount": "0.50000001"})).await;
    assert_eq!(refused.is(409)["code"], "insufficient_funds");
    let found = get_as(&server, CLIENT, &format!("{portfolio}/assets")).await.ok();
    assert_eq!(found["total_value"], json!(4.5));
    let flows = get_as(&server, CLIENT, &format!("{portfolio}/flows?order=asc")).await.ok();
    let flows: Vec<&str> = flows.as_array().unwrap().iter().map(|flow| flow.text("direction")).collect();
    assert_eq!(flows, ["deposit", "withdrawal", "deposit"]);
    let hidden = ask(&server, Some(CLIENT), Method::GET, &funded(&server).await, None).await;
    assert_eq!(hidden.status, 404);
}

#[tokio::test]
async fn a_rebalance_reaches_its_targets_once_it_is_due() {
    let server = TestApp::start().await;
    record_prices(&server, &[("ETH", 20.0), ("BTC", 500.0)]).await;
    let strategy = json!({
        "name": "thirds", "target_allocations": {"AIT": 20, "BTC": 50, "ETH": 30}, "rebalance_frequency": 1000,
    });
    let id = create_portfolio(&server, strategy, json!({})).await;
    let portfolio = format!("{PORTFOLIOS}/{id}");
    server.post(&format!("{portfolio}/deposits"), json!({"amount": 1000, "source": "outside"})).await.ok();
    let rebalances = format!("{portfolio}/rebalances");
    let shown = server.post(&rebalances, json!({"dry_run": true})).await.ok();
    assert_eq!((&shown["trigger_reason"], &shown["id"]), (&json!("drift"), &Value::Null));
    assert_eq!(server.get(&rebalances).await.ok(), json!([]), "a dry run changes nothing");
    let done = server.post(&rebalances, json!({})).await.ok();
    assert_eq!((&done["trades"], &done["rebalance_cost"]), (&shown["trades"], &shown["rebalance_cost"]));
    let after = done["allocations_after"].as_object().unwrap();
    for (token, target) in [("AIT", 20.0), ("BTC", 50.0), ("ETH", 30.0)] {
        assert!((after[token].as_f64().unwrap() - target).abs() < 1e-4, "{token}: {done}");
    }
    assert_eq!(server.post(&rebalances, json!({})).await.is(409)["code"], "not_due");
    server.clock().advance(Duration::from_secs(1000));
    record_prices(&server, &[("ETH", 20.5), ("BTC", 500.0)]).await;
    let quiet = server.post(&rebalances, json!({})).await.ok();
    assert_eq!(
        (&quiet["trigger_reason"], &quiet["trades"]),
        (&json!("frequency"), &json!([])),
        "less than a point is left"
    );
    record_prices(&server, &[("ETH", 30.0), ("BTC", 500.0)]).await;
    let drifted = server.post(&rebalances, json!({"max_turnover": 2})).await.ok();
    assert_eq!(drifted["trigger_reason"], "drift");
    assert!(drifted["turnover"].as_f64().unwrap() <= 2.0 + 1e-6, "{drifted}");
    let listed = server.get(&rebalances).await.ok();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert_eq!(listed[2]["trades_executed"], 2);
}

#[tokio::test]
async fn a_trade_that_is_too_risky_is_refused() {
    let server = TestApp::start().await;
    // Forty days in which WILD halves and doubles.
    let now = am_core::ambient::Clock::system().now();
    let price = |day: i64| {
        let at = now - chrono::TimeDelta::days(40 - day);
        json!({"token": "WILD", "price": if day % 2 == 0 { 10 } else { 20 }, "at": at.to_rfc3339()})
    };
    let batch: Vec<Value> = (0..=40).map(price).collect();
    server.post(&format!("{PORTFOLIOS}/prices/bulk"), json!({"prices": batch})).await.is(201);
    let strategy = json!({"name": "calm", "target_allocations": {"AIT": 100}});
    let id = create_portfolio(&server, strategy, json!({"risk_tolerance": 40})).await;
    let portfolio = format!("{PORTFOLIOS}/{id}");
    server.post(&format!("{portfolio}/deposits"), json!({"amount": 1000, "source": "outside"})).await.ok();
    let trades = format!("{portfolio}/trades");
    let sell = |amount: i64| json!({"sell_token": "AIT", "buy_token": "WILD", "sell_amount": amount});
    let refused = server.post(&trades, sell(900)).await.is(409);
    assert_eq!(refused["code"], "risk_too_high", "{refused}");
    server.post(&trades, sell(1)).await.is(201);
    let score = server.get(&portfolio).await.ok()["risk_score"].as_f64().unwrap();
    assert!(score > 0.0 && score < 40.0, "{score}");
}
