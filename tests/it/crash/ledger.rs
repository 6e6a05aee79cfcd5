//! The books balance wherever the process dies, and nothing is posted twice.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use serde_json::json;

use super::*;
use crate::{
    harness::CLIENT,
    kit::jq,
    ledger::{LEDGER, account_of, fund, principal_of, spending_by, verified},
};

/// Transfers that are sent, each under a key of its own.
const TRANSFERS: usize = 40;

/// Start the server anew so that it dies at this passage of `point`, if it comes so far while `act` asks it, and once more on what
/// it has left.
async fn died_at(server: Server, point: &str, passages: usize, act: impl AsyncFn(&Server)) -> Server {
    let doomed = server.again().env("FAILPOINTS", format!("{point}={passages}*off->return"));
    let left = match doomed.try_start() {
        Err(builder) => builder,
        Ok(doomed) => {
            act(&doomed).await;
            doomed.again()
        }
    };
    left.env("FAILPOINTS", "").start().await
}

#[tokio::test]
async fn a_transfer_that_dies_happened_once_or_not_at_all() {
    let body = || json!({"to_owner": principal_of(CLIENT), "amount": "0.5"});
    let keyed = |server: &Server, at: usize| {
        let request = server.request(Method::POST, &format!("{LEDGER}/transfers"));
        request.header("idempotency-key", format!("move-{at}")).json(&body())
    };
    for (point, passages) in
        [("db.before_commit", 8), ("db.before_commit", 20), ("db.after_commit", 8), ("db.after_commit", 20)]
    {
        let mut server = Server::builder().start().await;
        let wallet = account_of(&fund(&server, 100).await, "wallet");
        server = died_at(server, point, passages, async |server: &Server| {
            for at in 0..TRANSFERS {
                if keyed(server, at).send().await.is_err() {
                    break;
                }
            }
        })
        .await;
        for at in 0..TRANSFERS {
            Answer::of(keyed(&server, at)).await.is(201);
        }
        let account = server.get(&format!("{LEDGER}/accounts/{wallet}")).await.ok();
        assert_eq!((&account["balance"], &account["lines"]), (&json!(80.0), &json!(41)), "{point} {passages}");
        assert_eq!(verified(&server).await.entries, 41, "{point} {passages}");
    }
}

#[tokio::test]
async fn a_run_that_dies_costs_what_it_says() {
    for (point, passages) in
        [("engine.before_save", 2), ("engine.after_claim", 1), ("db.before_commit", 12), ("db.after_commit", 12)]
    {
        let mut server = Server::builder().start().await;
        let workflow = server.workflow(json!({"a": jq("1"), "b": jq("2")})).await;
        server.post(&format!("{LEDGER}/budgets"), json!({"name": "all", "limit": 5})).await.is(201);
        let path = format!("/api/v1/agents/workflows/{workflow}/execute");
        server = died_at(server, point, passages, async |server: &Server| {
            for _ in 0..6 {
                if server.request(Method::POST, &path).json(&json!({"inputs": {}})).send().await.is_err() {
                    break;
                }
            }
        })
        .await;
        let mut total = 0.0;
        let runs = server.get(&format!("/api/v1/agents/workflows/{workflow}/executions?limit=100")).await.ok();
        for run in runs.as_array().unwrap() {
            let ended = server.ended(run.text("execution_id")).await;
            assert_eq!(ended["status"], "completed", "{point}: {ended}");
            total += ended["current_cost"].as_f64().unwrap();
        }
        let report = server.get(&spending_by("workflow")).await.ok();
        let posted = report["total"].as_f64().unwrap();
        assert!((posted - total).abs() < 1e-9, "{point}: {posted} is posted, and the runs cost {total}");
        let budget = server.get(&format!("{LEDGER}/budgets")).await.ok();
        assert_eq!(
            (&budget[0]["state"]["reserved"], &budget[0]["state"]["spent"]),
            (&json!(0.0), &report["total"]),
            "{point}"
        );
        verified(&server).await;
    }
}

/// Moments at which the process is killed.
const MOMENTS: usize = 100;
/// Processes that live and die beside each other, each on a database of its own.
const LANES: usize = 5;
/// Clients that ask at once.
const CLIENTS: usize = 4;
/// Longest time, in milliseconds, between the first requests and the kill.
const LATEST_KILL: u64 = 120;

/// Something that moves money, keeps it, or takes it back; it may be refused.
fn random_move(random: &mut SmallRng, known: &[String]) -> (String, Value) {
    let amount = format!("{}.{:08}", random.random_range(0..5), random.random_range(0..100_000_000));
    let hold = known.get(random.random_range(0..known.len().max(1))).cloned();
    match (random.random_range(0..8), hold) {
        (0, _) => ("deposits".to_owned(), json!({"owner": principal_of(crate::harness::ADMIN), "amount": amount})),
        (1, _) => ("withdrawals".to_owned(), json!({"owner": principal_of(crate::harness::ADMIN), "amount": amount})),
        (2, _) => ("holds".to_owned(), json!({"amount": amount, "reference": "kept"})),
        (3, Some(hold)) => {
            let capture = json!({"to_owner": principal_of(CLIENT), "amount": amount, "release_rest": false});
            (format!("holds/{hold}/capture"), capture)
        }
        (4, Some(hold)) => (format!("holds/{hold}/release"), json!({})),
        _ => ("transfers".to_owned(), json!({"to_owner": principal_of(CLIENT), "amount": amount})),
    }
}

/// Send requests until the process is gone; counts the entries that were answered.
async fn keep_moving(url: String, key: String, seed: u64, answered: Arc<AtomicU64>) {
    let (mut random, client, mut holds) = (SmallRng::seed_from_u64(seed), reqwest::Client::new(), Vec::new());
    loop {
        let (path, body) = random_move(&mut random, &holds);
        let request = client.post(format!("{url}/{path}")).header("x-api-key", &key);
        let Ok(answer) = request.json(&body).send().await else { return };
        let status = answer.status();
        assert!(!status.is_server_error() || status == 503, "{path} {body}: {status}");
        if !status.is_success() {
            continue;
        }
        match path.as_str() {
            "holds" => {
                let Ok(made) = answer.json::<Value>().await else { return };
                holds.push(made.text("id").to_owned());
            }
            "deposits" | "withdrawals" | "transfers" => {
                answered.fetch_add(1, SeqCst);
            }
            _ => {}
        }
    }
}

/// Kill a process again and again; returns how many entries were answered.
async fn killed_lane(number: usize, seed: u64) -> u64 {
    let mut random = SmallRng::seed_from_u64(seed + number as u64);
    let mut server = Server::builder().env("RATE_LIMIT_REQUESTS", 0).start().await;
    fund(&server, 1000).await;
    let answered: Arc<AtomicU64> = Arc::default();
    for _ in 0..MOMENTS / LANES {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (url, key) = (server.url(LEDGER), server.key().to_owned());
                tokio::spawn(keep_moving(url, key, random.random(), answered.clone()))
            })
            .collect();
        // The moment is drawn, not waited for: whatever is under way then is cut off.
        tokio::time::sleep(Duration::from_millis(random.random_range(1..LATEST_KILL))).await;
        server.kill();
        for client in clients {
            client.await.unwrap();
        }
        server = server.restart().await;
        let report = verified(&server).await;
        let entries = u64::try_from(report.entries).unwrap();
        assert!(entries > answered.load(SeqCst), "an entry that was answered is gone: {report:?}");
    }
    answered.load(SeqCst)
}

#[tokio::test]
async fn the_ledger_is_right_after_kills_at_a_hundred_moments() {
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let lanes = (0..LANES).map(|number| tokio::spawn(killed_lane(number, seed)));
    let answered: u64 = futures_util::future::join_all(lanes).await.into_iter().map(Result::unwrap).sum();
    assert!(answered > 0, "nothing was ever answered");
}
