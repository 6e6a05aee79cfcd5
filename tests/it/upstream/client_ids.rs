//! Jobs that a client orders here, and looks for at the coordinator.

use serde_json::{Value, json};

use super::tokens::{accepting, bearing, token};
use crate::{
    harness::{Answer, ApiClient, CLIENT, MINER, TestApp},
    jobs::queue,
    kit::{JsonDocument, get_as, post_as, sql},
};

const SERVICES: &str = "/api/v1/services";
const WALLET: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

fn order() -> Value {
    json!({"model": "llama-7b", "prompt": "hello"})
}

/// What the coordinator does with a job's id and the client that its token names.
async fn found_at_the_coordinator(server: &ApiClient, job: &Value, client: &str) -> bool {
    queue(server).await.iter().any(|row| row["id"] == job["job_id"] && row["client_id"] == client)
}

async fn job(server: &ApiClient, key: &str, job: &Value) -> Answer {
    get_as(server, key, &format!("{SERVICES}/jobs/{}", job.text("job_id"))).await
}

#[tokio::test]
async fn mapped_client_finds_its_job_at_both() {
    let server = TestApp::start().await;
    let before = post_as(&server, CLIENT, &format!("{SERVICES}/llm/inference"), order()).await.is(201);
    let principal = before.text("client_id").to_owned();
    assert!(found_at_the_coordinator(&server, &before, &principal).await, "without a mapping it is the principal");
    let mapping = json!({&principal: WALLET}).to_string();
    let server = server.restart_with(&[("COORDINATOR_CLIENT_ID", &mapping)]).await;
    let ordered = post_as(&server, CLIENT, &format!("{SERVICES}/llm/inference"), order()).await.is(201);
    assert!(found_at_the_coordinator(&server, &ordered, WALLET).await);
    assert_eq!(ordered["client_id"], principal, "the principal is shown");
    let theirs = json!({"job_id": "00000000000000000000000000000001"});
    sql(
        &server.database(),
        &format!(
            "PRAGMA foreign_keys = OFF; CREATE TEMP TABLE copy AS SELECT * FROM job WHERE id = '{0}';
             UPDATE copy SET id = '{1}'; INSERT INTO job SELECT * FROM copy",
            ordered.text("job_id"),
            theirs.text("job_id")
        ),
    )
    .await;
    for known in [&before, &ordered, &theirs] {
        job(&server, CLIENT, known).await.is(200);
    }
    assert_eq!(job(&server, CLIENT, &ordered).await.ok()["client_id"], principal);
    let listed = get_as(&server, CLIENT, &format!("{SERVICES}/jobs")).await.is(200);
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
    job(&server, MINER, &ordered).await.is(403);
    // The mapping is taken away: what was ordered here is still its client's.
    let server = server.restart_with(&[("COORDINATOR_CLIENT_ID", "")]).await;
    job(&server, CLIENT, &ordered).await.is(200);
    job(&server, CLIENT, &theirs).await.is(404);
    let done =
        "UPDATE job SET state = 'COMPLETED', result = '{\"text\": \"for 0x52908400098527886E0F7030069857D2E4169EE7\"}'";
    sql(&server.database(), done).await;
    let ended = get_as(&server, CLIENT, &format!("{SERVICES}/jobs/{}?wait=20", ordered.text("job_id"))).await.ok();
    assert_eq!(ended["result"]["text"], format!("for {WALLET}"), "an id is no key, and stands where it stood");
}

#[tokio::test]
async fn job_of_a_token_has_its_subject() {
    let server = accepting().start().await;
    let (alice, bob) = (token(WALLET, "client"), token("0xbob", "client"));
    let path = format!("{SERVICES}/llm/inference");
    let ordered = bearing(&server, &alice, reqwest::Method::POST, &path, Some(order())).await.is(201);
    assert!(ordered.text("client_id").starts_with("jwt_"), "{ordered}");
    assert!(found_at_the_coordinator(&server, &ordered, WALLET).await);
    let shown = format!("{SERVICES}/jobs/{}", ordered.text("job_id"));
    let mine = bearing(&server, &alice, reqwest::Method::GET, &shown, None).await.is(200);
    assert_eq!(mine["client_id"], ordered["client_id"]);
    bearing(&server, &bob, reqwest::Method::GET, &shown, None).await.is(404);
    let listed = bearing(&server, &alice, reqwest::Method::GET, &format!("{SERVICES}/jobs"), None).await.is(200);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    // Who calls itself by a key's text is not that key, and the key is stored nowhere.
    let odd = token(CLIENT, "client");
    let ordered = bearing(&server, &odd, reqwest::Method::POST, &path, Some(order())).await.is(201);
    assert!(!found_at_the_coordinator(&server, &ordered, CLIENT).await);
    job(&server, CLIENT, &ordered).await.is(404);
}

#[tokio::test]
async fn mappings_that_name_nobody_or_hold_a_key_refuse_the_start() {
    let principal = "key_0123456789abcdef0123";
    for mapping in [
        "x".to_owned(),
        "[]".to_owned(),
        json!({"client": WALLET}).to_string(),
        json!({principal: ""}).to_string(),
        json!({principal: "two words"}).to_string(),
        json!({principal: 7}).to_string(),
        json!({principal: "key_0123456789abcdef0124"}).to_string(),
        json!({principal: CLIENT}).to_string(),
        json!({CLIENT: WALLET}).to_string(),
    ] {
        let refused = TestApp::builder().env("COORDINATOR_CLIENT_ID", &mapping).refusal();
        assert!(refused.contains("COORDINATOR_CLIENT_ID") && !refused.contains(CLIENT), "{mapping}: {refused}");
    }
}
