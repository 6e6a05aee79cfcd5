//! Snapshots, alerts, performance, risk, stress tests, optimisers and backtests.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Connection as _;

use super::{PORTFOLIOS, create_portfolio, funded, record_prices, text_of};
use crate::{
    harness::{ApiClient, TestApp, poll_interval},
    kit::{JsonDocument, locations},
};

const DAY: Duration = Duration::from_secs(86_400);

async fn open_alerts(server: &ApiClient, portfolio: &str) -> Vec<String> {
    let alerts = server.get(&format!("{portfolio}/alerts?open=true&order=asc")).await.ok();
    alerts.as_array().unwrap().iter().map(|alert| alert["alert_type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn figures_without_records_are_null_with_a_reason() {
    let server = TestApp::start().await;
    let portfolio = funded(&server).await;
    let performance = server.get(&format!("{portfolio}/performance")).await.ok();
    for figure in ["total_return", "annualized_return", "money_weighted_return", "volatility", "sharpe_ratio"] {
        assert!(performance[figure].is_null() && performance["reasons"][figure].is_string(), "{figure}: {performance}");
    }
    let risk = server.get(&format!("{portfolio}/risk?benchmark=BTC")).await.ok();
    for figure in ["var_95", "beta", "overall_risk_score", "risk_level", "correlation_matrix"] {
        assert!(risk[figure].is_null() && risk["reasons"][figure].is_string(), "{figure}: {risk}");
    }
    let attribution = server.get(&format!("{portfolio}/attribution")).await.ok();
    assert!(attribution["reason"].is_string() && attribution["assets"] == json!([]), "{attribution}");
    let refused = server.get(&format!("{portfolio}/risk?benchmark=AIT")).await.is(422);
    assert_eq!(locations(&refused)[0][1], "benchmark");
}

#[tokio::test]
async fn growth_between_flows_is_what_counts() {
    let server = TestApp::start().await;
    let portfolio = funded(&server).await;
    server
        .post(&format!("{portfolio}/deposits"), json!({"token": "ETH", "amount": 50, "source": "outside"}))
        .await
        .ok();
    server.clock().advance(DAY);
    record_prices(&server, &[("ETH", 30.0)]).await;
    // 1000 AIT and 50 ETH were worth 2000, now 2500; then as much comes in again.
    server.post(&format!("{portfolio}/deposits"), json!({"amount": 2500, "source": "outside"})).await.ok();
    server.clock().advance(DAY);
    record_prices(&server, &[("ETH", 20.0)]).await;
    let shot = server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
    assert_eq!(
        (&shot["total_value"], &shot["cash_balance"], &shot["asset_count"]),
        (&json!(4500.0), &json!(3500.0), &json!(2))
    );
    let found = server.get(&format!("{portfolio}/performance")).await.ok();
    let total = found["total_return"].as_f64().unwrap();
    assert!((total - (1.25 * 0.9 - 1.0)).abs() < 1e-12, "{found}");
    assert_eq!((&found["gain"], &found["net_flow"]), (&json!(0.0), &json!(3500.0)));
    assert!(found["money_weighted_return"].as_f64().unwrap().abs() < 1e-9, "nothing was earned: {found}");
    let attribution = server.get(&format!("{portfolio}/attribution")).await.ok();
    let eth = attribution["assets"].as_array().unwrap().iter().find(|asset| asset["token"] == "ETH").unwrap();
    assert_eq!((&eth["gain"], &eth["net_invested"]), (&json!(0.0), &json!(1000.0)));
    let last_day = server.get(&format!("{portfolio}/performance?from=80000s")).await.ok();
    assert!((last_day["total_return"].as_f64().unwrap() + 0.1).abs() < 1e-12, "{last_day}");
    let refused = server.get(&format!("{portfolio}/performance?from=1s&to=1d")).await.is(422);
    assert!(refused.to_string().contains("from"), "{refused}");
}

#[tokio::test]
async fn alerts_are_raised_once_acknowledged_and_resolved() {
    let server = TestApp::start().await;
    let portfolio = funded(&server).await;
    let snapshot = async || server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
    snapshot().await;
    assert_eq!(open_alerts(&server, &portfolio).await, ["drift"]);
    snapshot().await;
    assert_eq!(open_alerts(&server, &portfolio).await, ["drift"], "it is raised once");
    let alert = server.get(&format!("{portfolio}/alerts")).await.ok()[0].clone();
    let path = format!("{portfolio}/alerts/{}/acknowledge", alert["id"]);
    let read = server.post(&path, json!({})).await.ok();
    assert_eq!(read["is_acknowledged"], true);
    assert_eq!(server.post(&path, json!({})).await.ok(), read, "once is enough");
    server.post(&format!("{portfolio}/alerts/77/acknowledge"), json!({})).await.is(404);
    server.post(&format!("{portfolio}/rebalances"), json!({})).await.ok();
    snapshot().await;
    assert_eq!(open_alerts(&server, &portfolio).await, Vec::<String>::new());
    // Half of it falls by half: a quarter is lost, within a day.
    server.clock().advance(Duration::from_secs(3600));
    record_prices(&server, &[("ETH", 10.0)]).await;
    snapshot().await;
    assert_eq!(open_alerts(&server, &portfolio).await, ["drawdown", "drift"], "no record is 24 hours old");
    server.clock().advance(DAY);
    let refused = server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(409);
    assert_eq!(refused["code"], "price_too_old");
}

#[tokio::test]
async fn the_worker_writes_snapshots_and_tells_of_old_prices() {
    let server = TestApp::builder().env("PORTFOLIO_SNAPSHOT_SECONDS", 60).start().await;
    let portfolio = funded(&server).await;
    let until = async |path: &str, done: &dyn Fn(&Value) -> bool| loop {
        let found = server.get(&format!("{portfolio}/{path}")).await.ok();
        if done(&found) {
            break found;
        }
        poll_interval().await;
    };
    server.clock().advance(Duration::from_secs(61));
    let shots = until("snapshots", &|shots| !shots.as_array().unwrap().is_empty()).await;
    assert_eq!(shots[0]["total_value"], json!(1000.0));
    server.post(&format!("{portfolio}/rebalances"), json!({})).await.ok();
    server.clock().advance(2 * DAY);
    let alerts = until("alerts?open=true", &|alerts| alerts.to_string().contains("price_age")).await;
    assert!(alerts.to_string().contains("ETH"), "{alerts}");
    record_prices(&server, &[("ETH", 20.0)]).await;
    server.clock().advance(Duration::from_secs(61));
    until("alerts?open=true", &|alerts| !alerts.to_string().contains("price_age")).await;
}

#[tokio::test]
async fn risk_is_kept_in_the_coordinators_table() {
    let server = TestApp::start().await;
    let portfolio = funded(&server).await;
    let id = portfolio.rsplit('/').next().unwrap();
    let kept = "SELECT count(*) || ' ' || coalesce(max(risk_level), '') FROM risk_metrics";
    server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
    assert_eq!(text_of(&server, kept).await, "0 ", "a year of which nothing is known");
    let mut conn = sqlx::SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    for days_ago in 1..60_i32 {
        let unit = 1.0 + f64::from(60 - days_ago) * 0.001 + f64::from(days_ago % 7) * 0.003;
        let day = (am_core::ambient::Clock::system().now() - chrono::TimeDelta::days(days_ago.into())).to_rfc3339();
        let insert = "INSERT INTO am_portfolio_days (portfolio_id, day, unit_value, value, measured_at)
             VALUES ($1, $2, $3, 1, $2 || ' 00:00:00.000000')";
        let insert = sqlx::query(insert).bind(id.parse::<i64>().unwrap()).bind(&day[..10]).bind(unit);
        insert.execute(&mut conn).await.unwrap();
    }
    for _ in 0..2 {
        server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
    }
    let (volatility, var_95, level, score): (f64, f64, String, f64) =
        sqlx::query_as("SELECT volatility, var_95, risk_level, overall_risk_score FROM risk_metrics")
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert!(text_of(&server, kept).await.starts_with("1 "), "one row, which is written anew");
    let risk = server.get(&format!("{portfolio}/risk?from=365d")).await.ok();
    assert_eq!(level, risk.text("risk_level").to_uppercase());
    for (name, kept) in [("volatility", volatility), ("var_95", var_95), ("overall_risk_score", score)] {
        assert!((risk[name].as_f64().unwrap() - kept).abs() < 1e-9, "{name}: {kept}, {risk}");
    }
}

/// The last 60 days of a portfolio, and of the price of ETH: by how many days ago.
fn unit_before(days_ago: i64) -> f64 {
    if days_ago == 0 { 1.0 } else { 1.0 + (60 - days_ago) as f64 * 0.001 + (days_ago % 7) as f64 * 0.003 }
}

fn ether_before(days_ago: i64) -> f64 {
    20.0 + (days_ago * 5 % 11) as f64 * 0.25
}

#[tokio::test]
async fn periods_are_kept_beside_the_strategys_targets() {
    let server = TestApp::start().await;
    let now = am_core::ambient::Clock::system().now();
    let at = |days_ago: i64| (now - chrono::TimeDelta::days(days_ago)).to_rfc3339();
    let portfolio = funded(&server).await;
    let id: i64 = portfolio.rsplit('/').next().unwrap().parse().unwrap();
    let mut conn = sqlx::SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    for days_ago in 1..60 {
        let insert = "INSERT INTO am_portfolio_days (portfolio_id, day, unit_value, value, measured_at)
             VALUES ($1, $2, $3, 1, $2 || ' 00:00:00.000000')";
        let insert = sqlx::query(insert).bind(id).bind(at(days_ago)[..10].to_owned()).bind(unit_before(days_ago));
        insert.execute(&mut conn).await.unwrap();
    }
    // Without a price of what is aimed at on each day there is nothing to compare with.
    let prices = |days: std::ops::Range<i64>| {
        let price = |days_ago: i64| json!({"token": "ETH", "price": ether_before(days_ago), "at": at(days_ago)});
        json!({"prices": days.map(price).collect::<Vec<_>>()})
    };
    server.post(&format!("{PORTFOLIOS}/prices/bulk"), prices(1..30)).await.is(201);
    server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
    let kept = "SELECT count(*) || ' ' || coalesce(group_concat(period), '') FROM
         (SELECT period FROM performance_metrics ORDER BY period)";
    assert_eq!(text_of(&server, kept).await, "0 ", "the thirtieth day has no price");
    server.post(&format!("{PORTFOLIOS}/prices/bulk"), prices(30..60)).await.is(201);
    for _ in 0..2 {
        server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
    }
    assert_eq!(text_of(&server, kept).await, "3 1y,30d,90d", "one row of each, which is written anew");

    let read = "SELECT total_return, volatility, max_drawdown, win_rate, profit_factor, sharpe_ratio, sortino_ratio, calmar_ratio,
             benchmark_return, beta, tracking_error, information_ratio FROM performance_metrics WHERE period = '30d'";
    let row = sqlx::query(read).fetch_one(&mut conn).await.unwrap();
    let figure = |name: &str| -> f64 { sqlx::Row::get(&row, name) };
    let near = |name: &str, wanted: f64| {
        assert!((figure(name) - wanted).abs() < 1e-9 * wanted.abs().max(1.0), "{name}: {} {wanted}", figure(name));
    };
    let report = server.get(&format!("{portfolio}/performance?from=30d")).await.ok();
    for name in
        ["volatility", "max_drawdown", "win_rate", "profit_factor", "sharpe_ratio", "sortino_ratio", "calmar_ratio"]
    {
        near(name, report[name].as_f64().unwrap());
    }
    // The benchmark holds half AIT and half ETH, from day to day.
    let days = || (0..30).rev();
    let own: Vec<f64> = days().map(|ago| unit_before(ago) / unit_before(ago + 1) - 1.0).collect();
    let other: Vec<f64> = days().map(|ago| 0.5 * (ether_before(ago) / ether_before(ago + 1) - 1.0)).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let covariance = |one: &[f64], two: &[f64]| {
        let (first, second) = (mean(one), mean(two));
        one.iter().zip(two).map(|(a, b)| (a - first) * (b - second)).sum::<f64>() / (one.len() - 1) as f64
    };
    let active: Vec<f64> = own.iter().zip(&other).map(|(one, other)| one - other).collect();
    let error = (covariance(&active, &active) * 365.0).sqrt();
    near("total_return", unit_before(0) / unit_before(30) - 1.0);
    near("benchmark_return", other.iter().map(|change| 1.0 + change).product::<f64>() - 1.0);
    near("beta", covariance(&own, &other) / covariance(&other, &other));
    near("tracking_error", error);
    near("information_ratio", mean(&active) * 365.0 / error);
    let same = "SELECT count(*) || '' FROM risk_metrics r JOIN performance_metrics p ON p.portfolio_id = r.portfolio_id
         WHERE p.period = '1y' AND p.beta = r.beta AND p.alpha = r.alpha AND r.beta <> 0";
    assert_eq!(text_of(&server, same).await, "1", "the risk of the year is compared with the same benchmark");
}

#[tokio::test]
async fn shocks_are_what_the_weights_make_of_them() {
    let server = TestApp::start().await;
    let portfolio = funded(&server).await;
    server
        .post(&format!("{portfolio}/deposits"), json!({"token": "ETH", "amount": 50, "source": "outside"}))
        .await
        .ok();
    let body = json!({"scenarios": [{"name": "crash", "shocks": {"ETH": -0.5, "BTC": -0.9}}]});
    let found = server.post(&format!("{portfolio}/stress"), body).await.ok();
    assert_eq!(found["scenarios"][0]["portfolio_return"], json!(-0.25));
    assert_eq!((&found["scenarios"][0]["value"], &found["total_value"]), (&json!(1500.0), &json!(2000.0)));
    let bad = json!({"scenarios": [{"name": "x", "shocks": {"ETH": -2}}]});
    let refused = server.post(&format!("{portfolio}/stress"), bad).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "scenarios", 0, "shocks", "ETH"])]);
}

/// Prices of two tokens over `days` days until now: UP grows evenly but for small waves, WAVE goes up and down.
async fn two_tokens(server: &ApiClient, days: i64) {
    let now = am_core::ambient::Clock::system().now();
    let mut batch = Vec::new();
    for day in 0..=days {
        let at = (now - chrono::TimeDelta::days(days - day)).to_rfc3339();
        let x = day as f64;
        batch.push(json!({"token": "UP", "price": format!("{:.8}", 100.0 * 1.001_f64.powf(x) * (1.0 + 0.002 * (x * 0.7).sin())), "at": at}));
        batch
            .push(json!({"token": "WAVE", "price": format!("{:.8}", 50.0 * (1.0 + 0.05 * (x * 1.3).sin())), "at": at}));
    }
    server.post(&format!("{PORTFOLIOS}/prices/bulk"), json!({"prices": batch})).await.is(201);
}

#[tokio::test]
async fn optimisers_and_backtests_go_by_recorded_prices() {
    let server = TestApp::start().await;
    let optimize = format!("{PORTFOLIOS}/optimize");
    let ask = |method: &str| json!({"tokens": ["UP", "WAVE"], "method": method});
    assert_eq!(server.post(&optimize, ask("minimum_variance")).await.is(409)["code"], "price_missing");
    two_tokens(&server, 200).await;
    for method in ["minimum_variance", "maximum_sharpe", "risk_parity", "hierarchical_risk_parity", "minimum_cvar"] {
        let found = server.post(&optimize, ask(method)).await.ok();
        let (up, wave) = (found["weights"]["UP"].as_f64().unwrap(), found["weights"]["WAVE"].as_f64().unwrap());
        assert!((up + wave - 1.0).abs() < 1e-9 && up > wave, "{method}: {found}");
        assert_eq!(found["observations"], 200);
        assert!(found["status"].is_string(), "{found}");
    }
    let views = json!([{"tokens": {"WAVE": 1}, "expected_return": 2.0, "confidence": 0.9}]);
    let mut viewed = ask("black_litterman");
    assert_eq!(locations(&server.post(&optimize, viewed.clone()).await.is(422)), [json!(["body", "views"])]);
    viewed["views"] = views;
    server.post(&optimize, viewed).await.ok();
    let mut bounded = ask("minimum_variance");
    bounded["max_weight"] = json!(0.6);
    bounded["frontier_points"] = json!(5);
    let found = server.post(&optimize, bounded).await.ok();
    assert!((found["weights"]["UP"].as_f64().unwrap() - 0.6).abs() < 1e-6, "{found}");
    assert_eq!(found["frontier"].as_array().unwrap().len(), 5);
    let mut impossible = ask("minimum_variance");
    impossible["max_weight"] = json!(0.4);
    server.post(&optimize, impossible).await.is(422);
    assert_eq!(locations(&server.post(&optimize, ask("policy")).await.is(422)), [json!(["body", "policy"])]);
    let backtest = format!("{PORTFOLIOS}/backtest");
    let fixed = json!({"tokens": ["UP", "WAVE"], "weights": {"UP": 0.5, "WAVE": 0.5}, "rebalance_days": 30});
    let found = server.post(&backtest, fixed).await.ok();
    assert_eq!((found["values"].as_array().unwrap().len(), &found["values"][0]), (201, &json!(10_000.0)));
    assert!(
        found["total_cost"].as_f64().unwrap() > 0.0 && found["rebalances"].as_array().unwrap().len() > 5,
        "{found}"
    );
    let walk = json!({"tokens": ["UP", "WAVE"], "method": "minimum_variance", "window": 60, "step": 20});
    let found = server.post(&backtest, walk).await.ok();
    assert_eq!(found["days"].as_array().unwrap().len(), 141);
    let both = json!({"tokens": ["UP"], "weights": {"UP": 1}, "method": "risk_parity"});
    assert_eq!(locations(&server.post(&backtest, both).await.is(422))[0], json!(["body", "method"]));
}

#[tokio::test]
async fn weights_are_chosen_by_a_policy_of_the_environment() {
    let server = TestApp::start().await;
    two_tokens(&server, 120).await;
    for (environment, policy) in [("portfolio_management", "shares"), ("price_optimization", "prices")] {
        let mut run = crate::rl::small(64);
        (run["environment"], run["policy"]) = (json!(environment), json!(policy));
        let run = server.post(&format!("{}/runs", crate::rl::RL), run).await.is(201);
        assert_eq!(crate::rl::trained(&server, run.text("id")).await["status"], "completed");
    }
    let optimize = format!("{PORTFOLIOS}/optimize");
    let ask = |policy: &str| json!({"tokens": ["UP", "WAVE"], "method": "policy", "policy": policy});
    for policy in ["nobody", "shares@7", "No Name", "prices"] {
        let refused = server.post(&optimize, ask(policy)).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", "policy"])], "{policy}");
    }
    let mut bounded = ask("shares");
    bounded["max_weight"] = json!(0.6);
    assert_eq!(locations(&server.post(&optimize, bounded).await.is(422)), [json!(["body", "max_weight"])]);
    let other = json!({"tokens": ["UP", "WAVE"], "method": "risk_parity", "policy": "shares"});
    assert_eq!(locations(&server.post(&optimize, other).await.is(422)), [json!(["body", "policy"])]);
    // A policy that has learned next to nothing may hold none of the tokens, which is said.
    let answer = server.post(&optimize, ask("shares")).await;
    if answer.status == 409 {
        assert_eq!(answer.body["code"], "not_solved", "{}", answer.text);
        return;
    }
    let found = answer.ok();
    let sum = found["weights"]["UP"].as_f64().unwrap() + found["weights"]["WAVE"].as_f64().unwrap();
    assert!((sum - 1.0).abs() < 1e-12, "{found}");
    assert_eq!(
        (&found["policy"], &found["iterations"], &found["gap"]),
        (&json!("shares@1"), &json!(101), &json!(null))
    );
    assert_eq!(found, server.post(&optimize, ask("shares@1")).await.ok(), "the same days, the same weights");
    let walk = json!({"tokens": ["UP", "WAVE"], "method": "policy", "policy": "shares", "window": 40, "step": 20});
    let tested = server.post(&format!("{PORTFOLIOS}/backtest"), walk).await;
    assert!(tested.status == 200 || tested.status == 409, "{}", tested.text);
}

#[tokio::test]
async fn assets_have_addresses_and_a_portfolio_follows_its_strategy() {
    let server = TestApp::start().await;
    let portfolio = funded(&server).await;
    let body = json!({"token_symbol": "SOL", "token_address": super::new_address()});
    let found = server.post(&format!("{portfolio}/assets"), body.clone()).await.is(201);
    let sol = found["assets"].as_array().unwrap().iter().find(|asset| asset["token_symbol"] == "SOL").unwrap();
    assert_eq!((&sol["token_address"], &sol["balance"]), (&body["token_address"], &json!(0.0)));
    let refused =
        server.post(&format!("{portfolio}/assets"), json!({"token_symbol": "SOL", "token_address": "0x1"})).await;
    assert_eq!(locations(&refused.is(422)), [json!(["body", "token_address"])]);
    let other = create_portfolio(&server, json!({"name": "n", "target_allocations": {"ETH": 100}}), json!({})).await;
    let strategy = server.get(&format!("{PORTFOLIOS}/{other}")).await.ok()["strategy_id"].clone();
    server.put(&portfolio, json!({"strategy_id": strategy})).await.ok();
    let shown = server.post(&format!("{portfolio}/rebalances"), json!({"dry_run": true})).await.ok();
    assert!(shown["allocations_after"]["ETH"].as_f64().unwrap() > 99.9, "{shown}");
}
