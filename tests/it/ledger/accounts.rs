//! Accounts, deposits, transfers, holds and statements over the API.

use am_core::ambient::Clock;
use serde_json::json;

use super::{LEDGER, account_of, fund, held, principal_of, verified};
use crate::{
    harness::{ADMIN, CLIENT, MINER, TestApp},
    kit::{AGENTS, JsonDocument, get_as, locations, post_as},
};

#[tokio::test]
async fn money_comes_in_moves_and_leaves_and_the_books_balance() {
    let server = TestApp::start().await;
    let deposit = json!({"owner": principal_of(CLIENT), "amount": "100.50", "reference": "bank-1", "note": "first"});
    let entry = server.post(&format!("{LEDGER}/deposits"), deposit).await.is(201);
    assert_eq!((&entry["kind"], &entry["reference"]["id"]), (&json!("deposit"), &json!("bank-1")));
    let wallet = account_of(&entry, "wallet");
    let account = get_as(&server, CLIENT, &format!("{LEDGER}/accounts/{wallet}")).await.ok();
    assert_eq!((&account["balance"], &account["available"]), (&json!(100.5), &json!(100.5)));

    let transfer = json!({"to_owner": principal_of(MINER), "amount": 40.25});
    let moved = post_as(&server, CLIENT, &format!("{LEDGER}/transfers"), transfer).await.is(201);
    assert_eq!(moved["lines"].as_array().unwrap().len(), 1, "the other's balance is not shown: {moved}");
    assert_eq!(moved["lines"][0]["balance_after"], 60.25);
    let theirs = get_as(&server, MINER, &format!("{LEDGER}/entries/{}", moved.text("id"))).await.ok();
    assert_eq!(theirs["lines"][0]["amount"], 40.25);
    let all = server.get(&format!("{LEDGER}/entries/{}", moved.text("id"))).await.ok();
    assert_eq!(all["lines"].as_array().unwrap().len(), 2, "an admin sees both");

    let too_much = post_as(
        &server,
        CLIENT,
        &format!("{LEDGER}/transfers"),
        json!({"to_owner": principal_of(MINER), "amount": 60.25000001}),
    )
    .await;
    assert_eq!((too_much.status.as_u16(), &too_much.body["code"]), (409, &json!("insufficient_funds")));
    assert_eq!((&too_much.body["available"], &too_much.body["needed"]), (&json!(60.25), &json!(60.25000001)));
    let log = server.get(&format!("{AGENTS}/security/audit-logs?event_type=access_denied")).await.ok();
    assert_eq!(log[0]["event_data"]["resource"], "ledger_account", "{log}");
    assert_eq!((&log[0]["event_data"]["action"], &log[0]["event_data"]["refused"]), (&json!("transfer"), &json!(true)));

    let out = json!({"owner": principal_of(CLIENT), "amount": 60.25});
    server.post(&format!("{LEDGER}/withdrawals"), out).await.is(201);
    let account = get_as(&server, CLIENT, &format!("{LEDGER}/accounts/{wallet}")).await.ok();
    assert_eq!((&account["balance"], &account["lines"]), (&json!(0.0), &json!(3)));
    assert_eq!(verified(&server).await.entries, 3);
}

#[tokio::test]
async fn amounts_that_are_none_are_refused_by_the_field() {
    let server = TestApp::start().await;
    let owner = principal_of(ADMIN);
    for amount in [
        json!(-1),
        json!("-0.00000001"),
        json!(0),
        json!("NaN"),
        json!("Infinity"),
        json!(0.000000001),
        json!("1e-9"),
        json!(92_233_720_369_i64),
        json!("1e300"),
        json!(true),
        json!(null),
        json!({"units": 5}),
        json!(""),
    ] {
        let answer = server.post(&format!("{LEDGER}/deposits"), json!({"owner": owner, "amount": amount})).await;
        assert_eq!(answer.status, 422, "{amount}: {}", answer.text);
        assert_eq!(locations(&answer.body), [json!(["body", "amount"])], "{amount}: {}", answer.text);
    }
    for (field, value) in [
        ("owner", json!("nobody-known-here")),
        ("owner", json!("agent:no-such-agent")),
        ("purpose", json!("pocket")),
        ("asset", json!("a symbol")),
        ("note", json!("x".repeat(501))),
        ("reference", json!("")),
    ] {
        let mut body = json!({"owner": owner, "amount": 1});
        body[field] = value;
        let answer = server.post(&format!("{LEDGER}/deposits"), body).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["detail"][0]["loc"][1]),
            (422, &json!(field)),
            "{}",
            answer.text
        );
    }
    assert_eq!(server.get(&format!("{LEDGER}/accounts")).await.ok(), json!([]));
    assert_eq!(verified(&server).await.entries, 0);
}

#[tokio::test]
async fn what_is_no_amount_is_told_in_the_log() {
    let server = TestApp::start().await;
    fund(&server, 10).await;
    let hold = held(&server, 2).await;
    let (to, capture) = (principal_of(MINER), format!("holds/{hold}/capture"));
    let amounts = [json!(-1), json!("NaN"), json!(1e-9), json!("0.000000001"), json!(1e300), json!("much"), json!("")];
    for amount in &amounts {
        for (path, field, body) in [
            ("transfers", "amount", json!({"to_owner": to, "amount": amount})),
            ("holds", "amount", json!({"reference": "r", "amount": amount})),
            (capture.as_str(), "amount", json!({"to_owner": to, "amount": amount})),
            ("budgets", "limit", json!({"name": "b", "limit": amount})),
        ] {
            let answer = server.post(&format!("{LEDGER}/{path}"), body).await.is(422);
            assert_eq!(locations(&answer), [json!(["body", field])], "{path} {amount}");
        }
    }
    let log = server.get(&format!("{AGENTS}/security/audit-logs?event_type=access_denied&limit=100")).await.ok();
    let log = log.as_array().unwrap();
    for (resource, action) in
        [("ledger_account", "transfer"), ("ledger_account", "hold"), ("ledger_hold", "capture"), ("budget", "create")]
    {
        let data = |entry: &&serde_json::Value| {
            (entry["event_data"]["resource"] == resource) && entry["event_data"]["action"] == action
        };
        assert_eq!(log.iter().filter(data).count(), amounts.len(), "{resource} {action}");
    }
    verified(&server).await;
}

#[tokio::test]
async fn all_digits_of_a_large_amount_come_back() {
    let server = TestApp::start().await;
    let owner = principal_of(ADMIN);
    let body = format!("{{\"owner\": \"{owner}\", \"amount\": 92233720368.54775807}}");
    let request = server.request(reqwest::Method::POST, &format!("{LEDGER}/deposits"));
    let request = request.header("content-type", "application/json").header("idempotency-key", "large");
    let first = server.answer(request.body(body.clone())).await;
    assert_eq!(first.status, 201, "{}", first.text);
    assert!(first.text.contains("\"balance_after\":92233720368.54775807"), "{}", first.text);
    let request = server.request(reqwest::Method::POST, &format!("{LEDGER}/deposits"));
    let request = request.header("content-type", "application/json").header("idempotency-key", "large");
    let again = server.answer(request.body(body)).await;
    assert_eq!((again.header("idempotency-replayed"), &again.text), ("true", &first.text));
    let more = server.post(&format!("{LEDGER}/deposits"), json!({"owner": owner, "amount": 1e-8})).await;
    assert_eq!((more.status.as_u16(), locations(&more.body)), (422, vec![json!(["body", "amount"])]), "{}", more.text);
    let account = account_of(&serde_json::from_str(&first.text).unwrap(), "wallet");
    let csv = server.get(&format!("{LEDGER}/accounts/{account}/export")).await;
    assert!(csv.text.contains(",92233720368.54775807,92233720368.54775807,"), "{}", csv.text);
    verified(&server).await;
}

#[tokio::test]
async fn statements_are_paged_by_period_and_written_to_files() {
    let server = TestApp::start().await;
    let mut wallet = String::new();
    for amount in 1..=7 {
        wallet = account_of(&fund(&server, amount).await, "wallet");
        server.clock().advance(std::time::Duration::from_secs(86_400));
    }
    let statement = format!("{LEDGER}/accounts/{wallet}/statement?limit=3");
    let page = server.get(&statement).await;
    assert_eq!(page.header("x-total-count"), "7");
    let numbers = |page: &serde_json::Value| {
        page.as_array().unwrap().iter().map(|line| line["line_no"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&page.body), [7, 6, 5]);
    let link = page.header("link").to_owned();
    let next = link.split(',').find(|part| part.contains("rel=\"next\"")).unwrap();
    let next = next.split_once('<').unwrap().1.split_once('>').unwrap().0.to_owned();
    assert_eq!(numbers(&server.get(&next).await.ok()), [4, 3, 2]);
    assert_eq!(numbers(&server.get(&format!("{statement}&order=asc")).await.ok()), [1, 2, 3]);
    let recent = server.get(&format!("{statement}&created_after=60h")).await;
    assert_eq!((numbers(&recent.body), recent.header("x-total-count")), (vec![7, 6], "2"));

    let periods = server.get(&format!("{LEDGER}/accounts/{wallet}/periods?period=day")).await.ok();
    let closing: Vec<f64> = periods.as_array().unwrap().iter().map(|day| day["closing"].as_f64().unwrap()).collect();
    assert_eq!(closing[..7], [1.0, 3.0, 6.0, 10.0, 15.0, 21.0, 28.0]);
    assert_eq!((periods.as_array().unwrap().len(), closing[7]), (8, 28.0), "the last day has no line");
    let then = server.get(&format!("{LEDGER}/accounts/{wallet}/balance?at=108h")).await.ok();
    assert_eq!((&then["balance"], &then["held"]), (&json!(6.0), &json!(null)));
    let too_long =
        server.get(&format!("{LEDGER}/accounts/{wallet}/periods?period=hour&from=2000-01-01T00:00:00Z")).await;
    assert_eq!(too_long.status, 422);

    let csv = server.get(&format!("{LEDGER}/accounts/{wallet}/export?format=csv")).await;
    assert_eq!((csv.text.lines().count(), csv.header("content-type")), (8, "text/csv; charset=utf-8"));
    let lines = server.get(&format!("{LEDGER}/accounts/{wallet}/export?format=jsonl")).await;
    let last: serde_json::Value = serde_json::from_str(lines.text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["line_no"], &last["balance_after"]), (&json!(7), &json!(28.0)));
}

#[tokio::test]
async fn a_hold_expires_by_itself_and_a_reversal_takes_back_once() {
    let server = TestApp::start().await;
    let entry = fund(&server, 10).await;
    let wallet = account_of(&entry, "wallet");
    let at = Clock::system().now() + chrono::TimeDelta::hours(1);
    let hold = json!({"amount": 8, "reference": "r", "expires_at": at});
    let hold = server.post(&format!("{LEDGER}/holds"), hold).await.is(201);
    let late = json!({"amount": 1, "reference": "r", "expires_at": "2020-01-01T00:00:00Z"});
    assert_eq!(server.post(&format!("{LEDGER}/holds"), late).await.status, 422);
    let refused = server.post(&format!("{LEDGER}/entries/{}/reverse", entry.text("id")), json!({})).await;
    assert_eq!(refused.body["code"], "insufficient_funds", "what is held can't be taken back");
    let other = post_as(&server, CLIENT, &format!("{LEDGER}/holds/{}/release", hold.text("id")), json!({})).await;
    assert_eq!(other.status, 404);

    server.clock().advance(std::time::Duration::from_secs(3601));
    let path = format!("{LEDGER}/holds/{}", hold.text("id"));
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while server.get(&path).await.ok()["state"] != "expired" {
        assert!(std::time::Instant::now() < deadline, "it does not expire");
        crate::harness::poll_interval().await;
    }
    let late = server.post(&format!("{path}/capture"), json!({"to_owner": principal_of(CLIENT)})).await;
    assert_eq!((late.status.as_u16(), &late.body["code"]), (409, &json!("hold_ended")));
    let holds = server.get(&format!("{LEDGER}/accounts/{wallet}/holds?state=expired")).await.ok();
    assert_eq!(holds.as_array().unwrap().len(), 1);

    let reversal = server.post(&format!("{LEDGER}/entries/{}/reverse", entry.text("id")), json!({})).await.is(201);
    assert_eq!(reversal["reverses"], entry["id"]);
    let again = server.post(&format!("{LEDGER}/entries/{}/reverse", entry.text("id")), json!({})).await;
    assert_eq!((again.status.as_u16(), &again.body["code"]), (409, &json!("already_reversed")));
    assert_eq!(server.get(&format!("{LEDGER}/accounts/{wallet}")).await.ok()["balance"], 0.0);
    verified(&server).await;
}
