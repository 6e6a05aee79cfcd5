//! Prices: recorded once, by admins or from a configured address, and never made up.

use std::time::Duration;

use serde_json::json;

use super::{PORTFOLIOS, funded, record_prices};
use crate::{
    harness::{CLIENT, TestApp, poll_interval},
    kit::{get_as, locations, post_as},
};

#[tokio::test]
async fn a_price_is_recorded_once_and_not_changed() {
    let server = TestApp::start().await;
    let prices = format!("{PORTFOLIOS}/prices");
    let at = "2026-01-02T03:04:05Z";
    let body = json!({"token": "ETH", "price": "2000.12345678", "at": at});
    assert_eq!(server.post(&prices, body.clone()).await.is(201), json!({"recorded": 1, "known": 0}));
    assert_eq!(server.post(&prices, body).await.is(201), json!({"recorded": 0, "known": 1}));
    let refused = server.post(&prices, json!({"token": "ETH", "price": 2001, "at": at})).await.is(409);
    assert_eq!(refused["code"], "price_recorded");
    let read = server.get(&format!("{prices}/ETH")).await;
    assert!(read.text.contains("\"price\":2000.12345678"), "{}", read.text);
    server.get(&format!("{prices}/BTC")).await.is(404);
    assert_eq!(post_as(&server, CLIENT, &prices, json!({"token": "ETH", "price": 1})).await.status, 403);
    assert_eq!(get_as(&server, CLIENT, &format!("{prices}/ETH")).await.status, 200);
    // All or none.
    let batch = json!({"prices": [
        {"token": "BTC", "price": 1, "at": at}, {"token": "ETH", "price": 3, "at": at}, {"token": "SOL", "price": 1, "at": at},
    ]});
    server.post(&format!("{prices}/bulk"), batch).await.is(409);
    server.get(&format!("{prices}/BTC")).await.is(404);
}

#[tokio::test]
async fn amounts_that_are_none_are_refused_by_the_name_of_the_field() {
    let server = TestApp::start().await;
    let prices = format!("{PORTFOLIOS}/prices");
    for bad in [json!(-1), json!(0), json!("0.000000001"), json!(1e300), json!("NaN"), json!(null), json!([])] {
        let refused = server.post(&prices, json!({"token": "ETH", "price": bad})).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", "price"])], "{bad}");
    }
    let future = json!({"token": "ETH", "price": 1, "at": "2999-01-01T00:00:00Z"});
    assert_eq!(locations(&server.post(&prices, future).await.is(422)), [json!(["body", "at"])]);
    let token = json!({"prices": [{"token": "ETH", "price": 1}, {"token": "eth", "price": 1}]});
    let refused = server.post(&format!("{prices}/bulk"), token).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "prices", 1, "token"])]);
}

#[tokio::test]
async fn history_is_read_page_by_page_in_both_orders() {
    let server = TestApp::start().await;
    let day = |day: usize| json!({"token": "ETH", "price": day, "at": format!("2026-01-{day:02}T00:00:00Z")});
    let batch: Vec<_> = (1..=7).map(day).collect();
    server.post(&format!("{PORTFOLIOS}/prices/bulk"), json!({"prices": batch})).await.is(201);
    let read = async |query: &str| -> Vec<i64> {
        let rows = super::all_pages(&server, &format!("{PORTFOLIOS}/prices?token=ETH&limit=2&{query}")).await;
        rows.iter().map(|row| row["price"].as_f64().unwrap() as i64).collect()
    };
    assert_eq!(read("").await, [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(read("order=asc").await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(read("created_after=2026-01-05T00:00:00Z").await, [7, 6]);
    assert_eq!(read("token=NONE").await, Vec::<i64>::new());
}

#[tokio::test]
async fn without_a_price_that_is_young_enough_nothing_is_traded() {
    let server = TestApp::builder().env("PORTFOLIO_PRICE_MAX_AGE_SECONDS", 3600).start().await;
    let portfolio = funded(&server).await;
    let trade = |buy: &str| json!({"sell_token": "AIT", "buy_token": buy, "sell_amount": 1});
    let refused = server.post(&format!("{portfolio}/trades"), trade("SOL")).await.is(409);
    assert_eq!(refused["code"], "price_missing");
    server.post(&format!("{portfolio}/trades"), trade("ETH")).await.is(201);
    server.clock().advance(Duration::from_secs(3601));
    let refused = server.post(&format!("{portfolio}/trades"), trade("ETH")).await.is(409);
    assert_eq!(refused["code"], "price_too_old");
    let holdings = server.get(&format!("{portfolio}/assets")).await.ok();
    assert!(holdings["total_value"].is_null() && holdings["reason"].as_str().unwrap().contains("ETH"), "{holdings}");
    record_prices(&server, &[("ETH", 21.0)]).await;
    server.post(&format!("{portfolio}/trades"), trade("ETH")).await.is(201);
}

#[tokio::test]
async fn a_configured_address_is_polled_until_it_answers() {
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/latest", listener.local_addr().unwrap());
    let counted = calls.clone();
    let answer = move || {
        let call = counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            let prices = r#"{"prices": [{"token": "ETH", "price": 1234.5}]}"#;
            let status = if call == 0 { axum::http::StatusCode::BAD_GATEWAY } else { axum::http::StatusCode::OK };
            (status, prices)
        }
    };
    let routes = axum::Router::new().route("/latest", axum::routing::get(answer));
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let builder = TestApp::builder().env("PORTFOLIO_PRICE_URL", &address).env("PORTFOLIO_PRICE_SECONDS", 1);
    let server = builder.env("PORTFOLIO_PRICE_PRIVATE_ADDRESSES", true).start().await;
    let price = loop {
        let found = server.get(&format!("{PORTFOLIOS}/prices/ETH")).await;
        if found.status == 200 {
            break found.ok();
        }
        poll_interval().await;
    };
    assert_eq!((&price["price"], &price["source"]), (&json!(1234.5), &json!("source")));
    assert!(calls.load(std::sync::atomic::Ordering::SeqCst) >= 2, "the first call failed");
    server.logged("the price source could not be read").await;
    serving.abort();
    let refusal = TestApp::builder().env("PORTFOLIO_PRICE_URL", &address).refusal();
    assert!(refusal.contains("PORTFOLIO_PRICE_URL"), "{refusal}");
}
