//! Trust in agents and recommendations, once there is something to know.

use serde_json::json;

use super::*;
use crate::harness::TestApp;

async fn until(server: &ApiClient, path: &str, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = get(server, CLIENT, path).await.ok();
        if done(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{path}: {found}");
        poll_interval().await;
    }
}

#[tokio::test]
async fn rated_agents_are_trusted_and_it_is_explained() {
    let builder = TestApp::builder().env("MARKET_TRUST_SECONDS", 1).env("MARKET_TRUSTED_CLIENTS", principal(CLIENT));
    let server = builder.start().await;
    let service = open_market(&server).await;
    let nothing = get(&server, CLIENT, "/trust/seller").await.ok();
    assert_eq!((&nothing["score"], nothing["reason"].is_string()), (&json!(null), true));
    agent(&server, ADMIN, "rival").await;
    let rival = offer(&server, ADMIN, "rival", json!({})).await;
    for (service, seller, rating) in [(&service, OTHER_ADMIN, 5), (&rival, ADMIN, 4)] {
        let made = request(&server, CLIENT, request_for(service, 10.0)).await;
        pay(&server, seller, CLIENT, &made).await;
        act(&server, CLIENT, &made, "rating", json!({"rating": rating})).await.is(201);
    }
    let both = until(&server, "/trust", |all| all.as_array().unwrap().len() == 2).await;
    assert_eq!(both[0]["agent_id"], "seller");
    let best = until(&server, "/trust/seller", |one| one["explanation"].is_object()).await;
    assert_eq!((&best["rank"], &best["seeding"]), (&json!(1), &json!("named")));
    let raters = best["explanation"]["raters"].as_array().unwrap();
    let parts: f64 = raters.iter().map(|rater| rater["contribution"].as_f64().unwrap()).sum::<f64>()
        + best["explanation"]["others"].as_f64().unwrap()
        + best["explanation"]["pre_trusted"].as_f64().unwrap();
    assert!((parts - best["score"].as_f64().unwrap()).abs() < 1e-9, "{best}");
    assert_eq!(raters[0]["rater"], principal(CLIENT));
}

#[tokio::test]
async fn recommendations_say_why() {
    let server = TestApp::start().await;
    open_market(&server).await;
    fund(&server, ADMIN, 100.0).await;
    let mut services = Vec::new();
    for name in ["first", "second", "third"] {
        services.push(offer(&server, OTHER_ADMIN, "seller", json!({"name": name})).await);
    }
    let buy = async |key: &str, service: &Value| {
        let made = request(&server, key, request_for(service, 10.0)).await;
        pay(&server, OTHER_ADMIN, key, &made).await;
    };
    buy(ADMIN, &services[0]).await;
    buy(ADMIN, &services[1]).await;
    let found = until(&server, "/recommendations", |all| all.as_array().unwrap().len() == 2).await;
    assert_eq!(found[0]["reason"]["kind"], "popular", "{found}");
    assert!(found[0].text("text").contains("1 of 1 clients"), "{found}");
    buy(CLIENT, &services[0]).await;
    let found = until(&server, "/recommendations", |all| {
        all.as_array().is_some_and(|all| all.len() == 1 && all[0].text("text").contains("of 2 clients"))
    })
    .await;
    assert_eq!(found[0]["service"]["id"], services[1]["id"], "what was paid for is not recommended");
}
