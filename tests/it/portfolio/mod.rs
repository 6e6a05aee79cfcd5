//! Portfolios: strategies, prices, deposits, trades, rebalances, snapshots, alerts and reports.

mod books;
mod figures;
mod prices;
#[cfg(feature = "contract-settlement")]
pub mod settlement;
mod signals;
mod trading;
mod year;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use crate::{
    harness::{ApiClient, TestApp},
    kit::{locations, sql},
};

pub const PORTFOLIOS: &str = "/api/v1/agents/portfolios";

/// Number of the next agent address.
static NEXT_ADDRESS: AtomicU64 = AtomicU64::new(1);

/// Place of the next settlement that a test stores.
static NEXT_SETTLEMENT: AtomicU64 = AtomicU64::new(1);

/// An agent address that no other portfolio has.
pub fn new_address() -> String {
    format!("0x{:040x}", NEXT_ADDRESS.fetch_add(1, Relaxed))
}

/// Make a strategy and a portfolio with it; answers the portfolio's number.
pub async fn create_portfolio(server: &ApiClient, strategy: Value, more: Value) -> i64 {
    let strategy = server.post(&format!("{PORTFOLIOS}/strategies"), strategy).await.is(201);
    let mut body = json!({"agent_address": new_address(), "strategy_id": strategy["id"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post(PORTFOLIOS, body).await.is(201)["id"].as_i64().unwrap()
}

/// Record prices of tokens now.
pub async fn record_prices(server: &ApiClient, prices: &[(&str, f64)]) {
    let prices: Vec<Value> = prices.iter().map(|(token, price)| json!({"token": token, "price": price})).collect();
    server.post(&format!("{PORTFOLIOS}/prices/bulk"), json!({"prices": prices})).await.is(201);
}

/// A portfolio that aims at half AIT and half ETH, and holds 1000 AIT; answers its path.
pub async fn funded(server: &ApiClient) -> String {
    record_prices(server, &[("ETH", 20.0)]).await;
    let strategy = json!({"name": "half", "target_allocations": {"AIT": 50, "ETH": 50}});
    let id = create_portfolio(server, strategy, json!({"risk_tolerance": 100})).await;
    let portfolio = format!("{PORTFOLIOS}/{id}");
    let body = json!({"amount": 1000, "source": "outside"});
    server.post(&format!("{portfolio}/deposits"), body).await.ok();
    portfolio
}

/// Store a settlement that the contract refused, of a portfolio of the server's own principal; answers its id.
pub async fn insert_settlement(server: &ApiClient) -> String {
    let place = NEXT_SETTLEMENT.fetch_add(1, Relaxed);
    let (id, owner, address) =
        (format!("settle_{place:016x}"), crate::ledger::principal_of(crate::harness::ADMIN), new_address());
    let at = "'2026-05-12 00:00:00.000000'";
    let row = format!(
        "INSERT INTO am_settlements (id, place, owner_id, portfolio_id, agent_address, kind, content, status, attempts,
             queued_at, created_at, updated_at)
         VALUES ('{id}', {place}, '{owner}', 1, '{address}', 'create', '{{\"call\": \"create\"}}', 'reverted', 1, {at}, {at}, {at})"
    );
    sql(&server.database(), &row).await;
    id
}

/// What to ask of a POST below `/portfolios` so that it succeeds once: its path and its body.
pub async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    let rest = template.strip_prefix("/portfolios").unwrap();
    let strategy = json!({"name": "once", "target_allocations": {"AIT": 50, "ETH": 50}});
    let at = |rest: &str| format!("{PORTFOLIOS}{rest}");
    match rest {
        "" => {
            let made = server.post(&at("/strategies"), strategy).await.is(201);
            (at(""), json!({"agent_address": new_address(), "strategy_id": made["id"]}))
        }
        "/strategies" => (at(rest), strategy),
        "/prices" => (at(rest), json!({"token": "ETH", "price": 20})),
        "/prices/bulk" => (at(rest), json!({"prices": [{"token": "ETH", "price": 20}]})),
        "/optimize" | "/backtest" => {
            let price = |token: &str, day: i64| {
                let at = am_core::ambient::Clock::system().now() - chrono::TimeDelta::days(day);
                json!({"token": token, "price": 10 + (day * 7 + token.len() as i64 * day) % 5, "at": at.to_rfc3339()})
            };
            let prices: Vec<Value> = (1..60).flat_map(|day| [price("ONE", day), price("OTHER", day)]).collect();
            server.post(&at("/prices/bulk"), json!({"prices": prices})).await.is(201);
            let asked = match rest {
                "/optimize" => json!({"method": "risk_parity"}),
                _ => json!({"weights": {"ONE": 0.5, "OTHER": 0.5}}),
            };
            let mut body = json!({"tokens": ["ONE", "OTHER"]});
            body.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
            (at(rest), body)
        }
        "/settlements/{settlement_id}/retry" | "/settlements/{settlement_id}/abandon" => {
            let id = insert_settlement(server).await;
            (at(&rest.replace("{settlement_id}", &id)), json!({}))
        }
        "/{portfolio_id}/signals/{signal_id}/rebalance" => {
            let portfolio = signals::signalling(server, json!([{"rule": "drift"}])).await;
            let signal = server.get(&format!("{portfolio}/signals")).await.ok()[0]["id"].clone();
            (format!("{portfolio}/signals/{signal}/rebalance"), json!({}))
        }
        _ => {
            let portfolio = funded(server).await;
            let what = rest.strip_prefix("/{portfolio_id}/").unwrap();
            let body = match what {
                "assets" => json!({"token_symbol": "SOL"}),
                "deposits" | "withdrawals" => json!({"amount": 1, "source": "outside"}),
                "quotes" | "trades" => json!({"sell_token": "AIT", "buy_token": "ETH", "sell_amount": 1}),
                "stress" => json!({"scenarios": [{"name": "x", "shocks": {"ETH": -0.5}}]}),
                "rebalances" | "snapshots" | "alerts/{alert_id}/acknowledge" => json!({}),
                other => panic!("POST {other} of a portfolio is not tried: say how it is asked"),
            };
            if !what.starts_with("alerts") {
                return (format!("{portfolio}/{what}"), body);
            }
            server.post(&format!("{portfolio}/snapshots"), json!({})).await.is(201);
            let alert = server.get(&format!("{portfolio}/alerts")).await.ok()[0]["id"].clone();
            (format!("{portfolio}/alerts/{alert}/acknowledge"), body)
        }
    }
}

/// All rows of a list, page by page.
pub async fn all_pages(server: &ApiClient, first: &str) -> Vec<Value> {
    let (mut rows, mut path) = (Vec::new(), Some(first.to_owned()));
    while let Some(at) = path {
        let page = server.get(&at).await;
        let links = page.header("link").to_owned();
        rows.extend(page.ok().as_array().unwrap().clone());
        let next = links.split(", ").find(|link| link.ends_with("rel=\"next\""));
        path = next.map(|link| link.trim_start_matches('<').split_once('>').unwrap().0.to_owned());
    }
    rows
}

/// The only value that a statement reads of a server's database.
pub async fn text_of(server: &ApiClient, statement: &str) -> String {
    let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    let found = sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    found
}

#[tokio::test]
async fn strategies_are_made_changed_and_refused_with_all_faults() {
    let server = TestApp::start().await;
    let strategies = format!("{PORTFOLIOS}/strategies");
    let body = json!({"name": " Half ", "target_allocations": {"AIT": 50, "ETH": 50}, "strategy_type": "conservative"});
    let made = server.post(&strategies, body).await.is(201);
    assert_eq!((&made["name"], &made["rebalance_frequency"], &made["id"]), (&json!("Half"), &json!(86_400), &json!(1)));
    let one = format!("{strategies}/{}", made["id"]);
    assert_eq!(server.get(&one).await.ok(), made);
    let changed = json!({"name": "All", "target_allocations": {"AIT": 100}, "max_drawdown": 5});
    let changed = server.put(&one, changed).await.ok();
    assert_eq!((&changed["max_drawdown"], &changed["strategy_type"]), (&json!(5.0), &json!("balanced")));
    assert_eq!(server.get(&one).await.ok()["target_allocations"], json!({"AIT": 100.0}));
    let bad = json!({"name": "", "target_allocations": {"AIT": 99.98}, "max_drawdown": -1});
    let refused = server.post(&strategies, bad).await.is(422);
    let places = ["name", "target_allocations", "max_drawdown"].map(|member| json!(["body", member]));
    assert_eq!(locations(&refused), places);
    server.get(&format!("{strategies}/2")).await.is(404);
    server.get(&format!("{strategies}/01")).await.is(404);
    assert_eq!(server.get(&strategies).await.ok().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_address_has_one_portfolio() {
    let server = TestApp::start().await;
    let strategy = json!({"name": "s", "target_allocations": {"AIT": 100}});
    let strategy = server.post(&format!("{PORTFOLIOS}/strategies"), strategy).await.is(201)["id"].clone();
    let address = "0xAbcDef0000000000000000000000000000000001";
    let made = server.post(PORTFOLIOS, json!({"agent_address": address, "strategy_id": strategy})).await.is(201);
    assert_eq!(made["agent_address"], address.to_lowercase());
    assert_eq!((&made["contract_portfolio_id"], &made["total_value"]), (&Value::Null, &json!(0.0)));
    let again = json!({"agent_address": address.to_lowercase(), "strategy_id": strategy});
    assert_eq!(server.post(PORTFOLIOS, again).await.is(409)["code"], "conflict");
    let refused = server.post(PORTFOLIOS, json!({"agent_address": "0x12", "strategy_id": strategy})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "agent_address"])]);
    let refused = server.post(PORTFOLIOS, json!({"agent_address": new_address(), "strategy_id": 99})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "strategy_id"])]);
}
