//! The books of portfolios balance to the last unit, whenever the process is killed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::{all_pages, funded, record_prices};
use crate::harness::{ApiClient, Server};

/// Moments at which the process is killed.
const MOMENTS: usize = 100;
/// Processes that live and die beside each other, each on a database of its own.
const LANES: usize = 5;
/// Clients that ask at once.
const CLIENTS: usize = 4;
/// Longest time, in milliseconds, between the first requests and the kill.
const LATEST_KILL: u64 = 120;

/// A request that may be refused, but leaves the books right.
fn random_request(random: &mut SmallRng) -> (&'static str, Value) {
    let tokens = ["AIT", "ETH", "BTC"];
    let sell = random.random_range(0..tokens.len());
    let buy = (sell + random.random_range(1..tokens.len())) % tokens.len();
    let amount = format!("{}.{:08}", random.random_range(0..20), random.random_range(0..100_000_000));
    match random.random_range(0..8) {
        0 => ("deposits", json!({"token": tokens[sell], "amount": amount, "source": "outside"})),
        1 => ("withdrawals", json!({"token": tokens[sell], "amount": amount, "source": "outside"})),
        2 => ("rebalances", json!({"force": true})),
        3 => ("snapshots", json!({})),
        _ => ("trades", json!({"sell_token": tokens[sell], "buy_token": tokens[buy], "sell_amount": amount})),
    }
}

/// Send requests until the process is gone; counts those that were answered with success, by kind.
async fn busy(url: String, key: String, client: reqwest::Client, seed: u64, done: Arc<[AtomicU64; 3]>) {
    let mut random = SmallRng::seed_from_u64(seed);
    loop {
        let (path, body) = random_request(&mut random);
        let request = client.request(Method::POST, format!("{url}/{path}")).header("x-api-key", &key);
        let Ok(answer) = request.json(&body).send().await else { return };
        assert!(!answer.status().is_server_error() || answer.status() == 503, "{path} {body}: {}", answer.status());
        let kind = ["deposits", "withdrawals", "trades"].iter().position(|kind| *kind == path);
        if let (true, Some(kind)) = (answer.status().is_success(), kind) {
            done[kind].fetch_add(1, SeqCst);
        }
    }
}

/// Whole units of 10^-8.
fn units(amount: &Value) -> i128 {
    (amount.as_f64().unwrap() * 1e8).round() as i128
}

/// Compare what the ledger, the coordinator's table and the records of a portfolio say of each token.
async fn check_books(server: &ApiClient, portfolio: &str, done: &[AtomicU64; 3]) {
    let flows = all_pages(server, &format!("{portfolio}/flows?limit=500")).await;
    let trades = all_pages(server, &format!("{portfolio}/trades?limit=500")).await;
    let mut held: BTreeMap<String, i128> = BTreeMap::new();
    let mut counts = [0, 0];
    for flow in &flows {
        let outgoing = usize::from(flow["direction"] == "withdrawal");
        counts[outgoing] += 1;
        let sign = if outgoing == 1 { -1 } else { 1 };
        *held.entry(flow["token"].as_str().unwrap().to_owned()).or_default() += sign * units(&flow["amount"]);
    }
    for trade in &trades {
        *held.entry(trade["sell_token"].as_str().unwrap().to_owned()).or_default() -= units(&trade["sell_amount"]);
        let received = units(&trade["terms"]["received_amount"]);
        *held.entry(trade["buy_token"].as_str().unwrap().to_owned()).or_default() += received;
    }
    // The first deposit was made before.
    assert!(counts[0] > done[0].load(SeqCst), "a deposit that was answered is gone");
    assert!(counts[1] >= done[1].load(SeqCst), "a withdrawal that was answered is gone");
    assert!(trades.len() as u64 >= done[2].load(SeqCst), "a trade that was answered is gone");
    let id = portfolio.rsplit('/').next().unwrap();
    let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    let sql = format!("SELECT asset, balance FROM am_ledger_accounts WHERE owner = 'portfolio:{id}'");
    let ledger: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut conn).await.unwrap();
    let sql = format!("SELECT token_symbol, balance FROM portfolio_asset WHERE portfolio_id = {id}");
    let table: Vec<(String, f64)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut conn).await.unwrap();
    let sums = "SELECT count(*) FROM (SELECT 1 FROM am_ledger_accounts GROUP BY asset HAVING sum(balance) <> 0)";
    let unbalanced: i64 = sqlx::query_scalar(sums).fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    assert_eq!(unbalanced, 0, "an asset's accounts do not sum to nothing");
    let ledger: BTreeMap<String, i128> = ledger.into_iter().map(|(token, units)| (token, i128::from(units))).collect();
    for (token, wanted) in &held {
        assert_eq!(ledger.get(token).copied().unwrap_or_default(), *wanted, "{token} in the ledger");
        let row = table.iter().find(|(of, _)| of == token).map_or(0.0, |(_, balance)| *balance);
        assert_eq!((row * 1e8).round() as i128, *wanted, "{token} in the coordinator's table");
    }
}

async fn lane(number: usize, seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed + number as u64);
    let mut server = Server::builder().env("PORTFOLIO_SNAPSHOT_SECONDS", 1).env("RATE_LIMIT_REQUESTS", 0).start().await;
    record_prices(&server, &[("BTC", 500.0)]).await;
    let portfolio = funded(&server).await;
    let done: Arc<[AtomicU64; 3]> = Arc::default();
    for _ in 0..MOMENTS / LANES {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (url, key) = (server.url(&portfolio), server.key().to_owned());
                tokio::spawn(busy(url, key, reqwest::Client::new(), random.random(), done.clone()))
            })
            .collect();
        // The moment is drawn, not waited for: whatever is under way then is cut off.
        tokio::time::sleep(Duration::from_millis(random.random_range(1..LATEST_KILL))).await;
        server.kill();
        for client in clients {
            client.await.unwrap();
        }
        server = server.restart().await;
        check_books(&server, &portfolio, &done).await;
    }
    let answered: u64 = done.iter().map(|kind| kind.load(SeqCst)).sum();
    assert!(answered > 0, "nothing was ever answered");
    let server = server.restart().await;
    check_books(&server, &portfolio, &done).await;
    let holdings = server.get(&format!("{portfolio}/assets")).await.ok();
    assert!(holdings["total_value"].is_number(), "{holdings}");
}

#[tokio::test]
async fn books_balance_after_kills_at_a_hundred_moments() {
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let lanes = (0..LANES).map(|number| tokio::spawn(lane(number, seed)));
    for lane in futures_util::future::join_all(lanes).await {
        lane.unwrap();
    }
}
