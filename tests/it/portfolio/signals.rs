//! Signals of strategies: what their rules find, once, and rebalances that follow them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{PORTFOLIOS, create_portfolio, record_prices, text_of};
use crate::{
    harness::{ApiClient, CLIENT, TestApp},
    kit::{JsonDocument, get_as, locations, post_as},
};

/// A portfolio that aims at half AIT and half ETH and signals by these rules, holds 1000 AIT, and has a snapshot; answers its path.
pub async fn signalling(server: &ApiClient, rules: Value) -> String {
    record_prices(server, &[("ETH", 20.0)]).await;
    let strategy = json!({"name": "half", "target_allocations": {"AIT": 50, "ETH": 50}, "signal_rules": rules});
    let id = create_portfolio(server, strategy, json!({"risk_tolerance": 100})).await;
    let portfolio = format!("{PORTFOLIOS}/{id}");
    let body = json!({"amount": 1000, "source": "outside"});
    server.post(&format!("{portfolio}/deposits"), body).await.ok();
    server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
    portfolio
}

async fn signals(server: &ApiClient, portfolio: &str, filter: &str) -> Vec<Value> {
    server.get(&format!("{portfolio}/signals{filter}")).await.ok().as_array().unwrap().clone()
}

#[tokio::test]
async fn a_signal_is_made_once_and_followed_once() {
    let server = TestApp::start().await;
    let portfolio = signalling(&server, json!([{"rule": "drift"}])).await;
    server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
    let found = signals(&server, &portfolio, "").await;
    assert_eq!(found.len(), 1, "it stands, and is not made again: {found:#?}");
    let signal = &found[0];
    assert_eq!(
        (&signal["rule"], &signal["signal_type"], &signal["token_symbol"]),
        (&json!("drift"), &json!("buy"), &json!("ETH"))
    );
    assert_eq!((&signal["measured"], &signal["strength"], &signal["tilt"]), (&json!(-50.0), &json!(1.0), &json!(0.0)));
    assert_eq!((&signal["threshold"], &signal["time_horizon"]), (&json!(5.0), &json!("1d")));
    assert_eq!(signals(&server, &portfolio, "?open=true").await, found);
    assert!(signals(&server, &portfolio, "?open=false").await.is_empty());

    let follow = format!("{portfolio}/signals/{}/rebalance", signal["id"]);
    let shown = server.post(&follow, json!({"dry_run": true})).await.ok();
    assert_eq!((&shown["dry_run"], &shown["trigger_reason"]), (&json!(true), &json!("signal")));
    assert_eq!(
        locations(&server.post(&follow, json!({"max_turnover": 0})).await.is(422)),
        [json!(["body", "max_turnover"])]
    );
    server.post(&format!("{portfolio}/signals/99/rebalance"), json!({})).await.is(404);
    post_as(&server, CLIENT, &follow, json!({})).await.is(404);
    get_as(&server, CLIENT, &format!("{portfolio}/signals")).await.is(404);
    let done = server.post(&follow, json!({})).await.ok();
    assert_eq!((&done["trigger_reason"], &done["allocations_after"]), (&json!("signal"), &shown["allocations_after"]));
    assert!((done["allocations_after"]["ETH"].as_f64().unwrap() - 50.0).abs() < 1e-4, "{done}");
    assert_eq!(server.post(&follow, json!({})).await.is(409)["code"], "signal_executed");

    server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
    let after = signals(&server, &portfolio, "?open=false").await;
    assert_eq!(after.len(), 1, "the condition is over: {after:#?}");
    assert_eq!((&after[0]["is_executed"], &after[0]["rebalance_id"]), (&json!(true), &done["id"]));
    assert!(signals(&server, &portfolio, "?open=true").await.is_empty());
    // The coordinator's table says so too.
    let row =
        "SELECT signal_type || ' ' || token_symbol || ' ' || is_executed || ' ' || time_horizon FROM strategy_signal";
    assert_eq!(text_of(&server, row).await, "buy ETH 1 1d");
    assert!(server.get("/metrics").await.text.contains("portfolio_signals_total 1"));
}

#[tokio::test]
async fn a_signal_ends_with_its_time_or_its_condition() {
    let server = TestApp::start().await;
    let portfolio = signalling(&server, json!([{"rule": "drift", "expires_days": 2}])).await;
    let first = signals(&server, &portfolio, "").await[0].clone();
    let follow = |signal: &Value| format!("{portfolio}/signals/{}/rebalance", signal["id"]);
    server.clock().advance(Duration::from_secs(2 * 86_400 + 1));
    assert_eq!(server.post(&follow(&first), json!({})).await.is(409)["code"], "signal_expired");
    record_prices(&server, &[("ETH", 20.0)]).await;
    server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
    let found = signals(&server, &portfolio, "").await;
    assert_eq!(found.len(), 2, "what still holds is signalled anew: {found:#?}");
    // Brought to its targets by hand, it is off them no more.
    server.post(&format!("{portfolio}/rebalances"), json!({"force": true})).await.ok();
    server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
    assert_eq!(server.post(&follow(&found[0]), json!({})).await.is(409)["code"], "signal_expired");
    assert!(signals(&server, &portfolio, "?open=true").await.is_empty());
}

#[tokio::test]
async fn a_rise_moves_the_targets_of_the_rebalance_that_follows() {
    let server = TestApp::start().await;
    let now = am_core::ambient::Clock::system().now();
    let price = |days_ago: i32| 20.0 * 0.98_f64.powi(days_ago);
    let prices: Vec<Value> = (1..=10)
        .map(|days_ago| {
            let at = (now - chrono::TimeDelta::days(days_ago.into())).to_rfc3339();
            json!({"token": "ETH", "price": format!("{:.8}", price(days_ago)), "at": at})
        })
        .collect();
    server.post(&format!("{PORTFOLIOS}/prices/bulk"), json!({"prices": prices})).await.is(201);
    let rules =
        json!([{"rule": "momentum", "days": 10, "tilt": 10}, {"rule": "reversion", "days": 10, "threshold": 10}]);
    let portfolio = signalling(&server, rules).await;
    let found = signals(&server, &portfolio, "").await;
    assert_eq!(found.len(), 1, "nothing is ten deviations off its mean: {found:#?}");
    let (signal, change) = (&found[0], 100.0 * (20.0 / price(10) - 1.0));
    let near = |name: &str, wanted: f64| {
        let found = signal[name].as_f64().unwrap();
        assert!((found - wanted).abs() < 1e-6 * wanted.abs(), "{name}: {found} {wanted}");
    };
    assert_eq!((signal.text("rule"), signal.text("signal_type")), ("momentum", "buy"));
    near("measured", change);
    near("confidence", 1.0);
    near("tilt", 10.0);
    near("price_target", 20.0 * (1.0 + change / 1000.0));
    near("stop_loss", price(10) * 1.05);
    let done = server.post(&format!("{portfolio}/signals/{}/rebalance", signal["id"]), json!({})).await.ok();
    let after = &done["allocations_after"];
    assert!((after["ETH"].as_f64().unwrap() - 60.0).abs() < 1e-4, "{done}");
    // The strategy itself aims at what it did.
    let assets = server.get(&format!("{portfolio}/assets")).await.ok();
    assert!(assets["assets"].as_array().unwrap().iter().all(|asset| asset["target_allocation"] == 50.0), "{assets}");
}

#[tokio::test]
async fn rules_and_signals_of_another_strategy_are_refused() {
    let server = TestApp::start().await;
    let strategies = format!("{PORTFOLIOS}/strategies");
    let with = |rules: Value| json!({"name": "n", "target_allocations": {"AIT": 100}, "signal_rules": rules});
    let refused = server.post(&strategies, with(json!([{"rule": "drift", "threshold": -1, "days": 9}]))).await.is(422);
    let places = ["threshold", "days"].map(|member| json!(["body", "signal_rules", 0, member]));
    assert_eq!(locations(&refused), places);
    let refused = server.post(&strategies, with(json!([{"rule": "astrology"}]))).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "signal_rules", 0, "rule"])]);
    let other = server.post(&strategies, with(json!([{"rule": "momentum"}]))).await.is(201);
    let filled = json!([{"rule": "momentum", "threshold": 5.0, "days": 90, "tilt": 10.0, "expires_days": 1}]);
    assert_eq!(server.get(&format!("{strategies}/{}", other["id"])).await.ok()["signal_rules"], filled);

    let portfolio = signalling(&server, json!([{"rule": "drift"}])).await;
    let signal = signals(&server, &portfolio, "").await[0]["id"].clone();
    server.put(&portfolio, json!({"strategy_id": other["id"]})).await.ok();
    let refused = server.post(&format!("{portfolio}/signals/{signal}/rebalance"), json!({})).await.is(409);
    assert_eq!(refused["code"], "signal_outdated");
}
