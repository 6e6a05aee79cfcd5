//! A scripted year: daily prices of five tokens, deposits, 250 trades and 12 rebalances through the API, and a report whose every figure
//! an independent NumPy script recomputes from the records.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use super::{PORTFOLIOS, all_pages, create_portfolio};
use crate::{
    coordinator::python,
    harness::{ApiClient, TestApp},
    kit::{JsonDocument as _, json_fixture},
};

const DAY: Duration = Duration::from_secs(86_400);

/// Amount of a token that the portfolio holds, as a decimal's whole units of 10^-8.
fn units_of(holdings: &Value, token: &str) -> i128 {
    let assets = holdings["assets"].as_array().unwrap();
    let held = assets.iter().find(|asset| asset["token_symbol"] == token);
    held.map_or(0, |asset| units(&asset["balance"]))
}

fn units(amount: &Value) -> i128 {
    (amount.as_f64().unwrap() * 1e8).round() as i128
}

fn decimal(units: i128) -> String {
    format!("{}.{:08}", units / 100_000_000, units % 100_000_000)
}

async fn trade(server: &ApiClient, portfolio: &str, trade: &Value) {
    let holdings = server.get(&format!("{portfolio}/assets")).await.ok();
    let held = units_of(&holdings, trade.text("sell"));
    let share = (trade["share"].as_f64().unwrap() * 10_000.0).round() as i128;
    let amount = held * share / 10_000;
    if amount == 0 {
        return;
    }
    let body = json!({"sell_token": trade["sell"], "buy_token": trade["buy"], "sell_amount": decimal(amount)});
    server.post(&format!("{portfolio}/trades"), body).await.is(201);
}

/// Live through the year of the fixture; answers the portfolio's path and the tokens with prices.
async fn live_through(server: &TestApp, year: &Value) -> (String, Vec<String>) {
    let strategy = json!({
        "name": "year", "strategy_type": "balanced", "target_allocations": year["targets"], "rebalance_frequency": 2_592_000,
        "sectors": {"BTC": "chain", "ETH": "chain", "SOL": "chain", "GOLD": "metal"},
    });
    let id = create_portfolio(server, strategy, json!({"risk_tolerance": 100})).await;
    let portfolio = format!("{PORTFOLIOS}/{id}");
    let prices = year["prices"].as_object().unwrap();
    let of_day = |list: &str, day: usize| -> Vec<Value> {
        let all = year[list].as_array().unwrap().iter();
        all.filter(|event| event["day"] == json!(day)).cloned().collect()
    };
    let days = prices["BTC"].as_array().unwrap().len();
    for day in 0..days {
        let quoted: Vec<Value> = prices.iter().map(|(token, all)| json!({"token": token, "price": all[day]})).collect();
        server.post(&format!("{PORTFOLIOS}/prices/bulk"), json!({"prices": quoted})).await.is(201);
        for flow in of_day("flows", day) {
            let body = json!({"token": flow["token"], "amount": flow["amount"], "source": "outside"});
            server.post(&format!("{portfolio}/{}", flow.text("kind")), body).await.ok();
        }
        if year["rebalances"].as_array().unwrap().contains(&json!(day)) {
            let done = server.post(&format!("{portfolio}/rebalances"), json!({})).await.ok();
            assert_eq!(done["due"], true, "{done}");
        }
        for one in of_day("trades", day) {
            trade(server, &portfolio, &one).await;
        }
        server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
        if day + 1 < days {
            server.clock().advance(DAY);
        }
    }
    (portfolio, prices.keys().cloned().collect())
}

#[tokio::test]
async fn report_of_a_year_is_what_an_independent_script_computes() {
    let builder = TestApp::builder().env("PORTFOLIO_SNAPSHOT_SECONDS", 31_536_000).env("PORTFOLIO_FEE_BPS", 12);
    let server = builder.env("PORTFOLIO_SLIPPAGE_BPS", 7).start().await;
    let year = json_fixture("portfolio/year.json");
    let (portfolio, tokens) = live_through(&server, &year).await;
    let mut prices = serde_json::Map::new();
    for token in tokens {
        let all = all_pages(&server, &format!("{PORTFOLIOS}/prices?token={token}&order=asc&limit=500")).await;
        prices.insert(token, all.iter().map(|one| json!([one["at"], one["price"]])).collect());
    }
    let list = async |name: &str| all_pages(&server, &format!("{portfolio}/{name}?order=asc&limit=500")).await;
    let get = async |what: &str| server.get(&format!("{portfolio}/{what}")).await.ok();
    let report = json!({
        "fee_bps": 12, "slippage_bps": 7, "prices": prices,
        "flows": list("flows").await, "trades": list("trades").await, "snapshots": list("snapshots").await,
        "rebalances": list("rebalances").await, "holdings": get("assets").await,
        "performance": get("performance").await, "attribution": get("attribution").await,
        "risk": get("risk?benchmark=BTC").await,
    });
    assert!(report["trades"].as_array().unwrap().len() >= 250, "{}", report["trades"].as_array().unwrap().len());
    assert_eq!(report["rebalances"].as_array().unwrap().len(), 12);
    let file = server.dir().join("report.json");
    std::fs::write(&file, report.to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/portfolio/year.py");
    let output = Command::new(python()).arg(script).arg(&file).output().unwrap();
    let (said, faults) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{faults}");
    assert!(said.contains("figures agree"), "{said}");
    // The same script refuses a report with one figure changed.
    let mut forged = report.clone();
    forged["performance"]["money_weighted_return"] =
        json!(report["performance"]["money_weighted_return"].as_f64().unwrap() + 1e-7);
    std::fs::write(&file, forged.to_string()).unwrap();
    let output = Command::new(python()).arg(script).arg(&file).output().unwrap();
    assert!(!output.status.success(), "a changed figure is not noticed");
}
