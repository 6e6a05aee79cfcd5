//! The marketplace from outside: who offers, asks, accepts and is paid, and that the money always adds up.

mod guilds;
mod receipts;
mod refusals;
mod requests;
mod services;
mod steps;
mod trust;
mod walk;

use std::time::Instant;

use am_db::owner::PrincipalName;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::{
    harness::{ADMIN, Answer, ApiClient, CLIENT, OTHER_ADMIN, PATIENCE, poll_interval},
    kit::{JsonDocument, ask, get_as, post_as},
    services::SERVICES,
};

/// The prefix of the group.
pub const MARKET: &str = "/api/v1/services/marketplace";
const UNITS: f64 = 100_000_000.0;
/// Ten days, as seconds.
const TEN_DAYS: i64 = 864_000;

/// The principal of a key.
pub fn principal(key: &str) -> String {
    PrincipalName::from_api_key(key).as_str().to_owned()
}

/// Put money into the wallet of a key's holder.
pub async fn fund(server: &ApiClient, key: &str, amount: f64) {
    let deposit = json!({"owner": principal(key), "amount": amount});
    let answer = server.post("/api/v1/agents/ledger/deposits", deposit).await;
    assert!(answer.status.is_success(), "{}", answer.text);
}

/// Register an agent with this key.
pub async fn agent(server: &ApiClient, key: &str, name: &str) {
    let body = json!({"agent_id": name, "capabilities": ["io_bound"]});
    let answer = post_as(server, key, "/api/v1/agents/registry", body).await;
    assert!(answer.status.is_success(), "{}", answer.text);
}

/// What is listed of a service of this agent.
pub fn offer_of(agent: &str) -> Value {
    json!({"agent_id": agent, "name": "Charts", "description": "Draws charts of your figures", "category": "data_analysis",
        "tags": ["charts", "figures"], "base_price": 2})
}

/// List a service with this key, with other members than usual.
pub async fn offer(server: &ApiClient, key: &str, agent: &str, others: Value) -> Value {
    let mut body = offer_of(agent);
    body.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
    post_as(server, key, &format!("{MARKET}/services"), body).await.is(201)
}

/// A time so many seconds after the one that a document was made at.
pub fn later(document: &Value, seconds: i64) -> String {
    let made = chrono::DateTime::parse_from_rfc3339(document.text("created_at")).unwrap();
    (made + chrono::TimeDelta::seconds(seconds)).to_rfc3339()
}

/// A request for a service, in ten days.
pub fn request_for(service: &Value, budget: f64) -> Value {
    json!({"service_id": service["id"], "requirements": "A chart of the year", "budget": budget,
        "deadline": later(service, TEN_DAYS)})
}

/// Make a request with this key.
pub async fn request(server: &ApiClient, key: &str, body: Value) -> Value {
    post_as(server, key, &format!("{MARKET}/requests"), body).await.is(201)
}

/// POST what is done with a request.
pub async fn act(server: &ApiClient, key: &str, request: &Value, verb: &str, body: Value) -> Answer {
    post_as(server, key, &format!("{MARKET}/requests/{}/{verb}", request.text("id")), body).await
}

/// The request as it stands now.
pub async fn now(server: &ApiClient, request: &Value) -> Value {
    server.get(&format!("{MARKET}/requests/{}", request.text("id"))).await.ok()
}

/// The request once it is in this state.
pub async fn until_state(server: &ApiClient, request: &Value, state: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = now(server, request).await;
        if found["state"] == state {
            return found;
        }
        assert!(Instant::now() < deadline, "it never was {state}: {found}");
        poll_interval().await;
    }
}

/// A market with a seller's agent `seller` of the other admin, its service, and a client with 100 AIT.
pub async fn open_market(server: &ApiClient) -> Value {
    agent(server, OTHER_ADMIN, "seller").await;
    fund(server, CLIENT, 100.0).await;
    offer(server, OTHER_ADMIN, "seller", json!({})).await
}

/// Balance of an account in units.
pub async fn balance(server: &ApiClient, owner: &str, purpose: &str) -> i64 {
    let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    let found =
        "SELECT coalesce(sum(balance), 0) FROM am_ledger_accounts WHERE owner = $1 AND purpose = $2 AND asset = 'AIT'";
    let found: i64 = sqlx::query_scalar(found).bind(owner).bind(purpose).fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    found
}

/// Check that all accounts sum to zero, and that the escrow accounts have what open requests have in escrow.
pub async fn check_books(server: &ApiClient) {
    let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    let sums = "SELECT (SELECT coalesce(sum(balance), 0) FROM am_ledger_accounts),
         (SELECT coalesce(sum(balance), 0) FROM am_ledger_accounts WHERE purpose = 'ESCROW'),
         (SELECT coalesce(sum(escrow), 0) FROM am_market_requests),
         (SELECT count(*) FROM am_market_requests WHERE escrow + paid + refunded <> budget OR escrow < 0)";
    let (all, held, waiting, faults): (i64, i64, i64, i64) = sqlx::query_as(sums).fetch_one(&mut conn).await.unwrap();
    assert_eq!((all, faults), (0, 0), "the books balance, and no request lost a unit");
    assert_eq!(held, waiting, "what is in escrow is what requests have there");
    conn.close().await.unwrap();
}

/// An amount of a document in units.
pub fn units(document: &Value, member: &str) -> i64 {
    (document[member].as_f64().unwrap_or_else(|| panic!("{member} of {document}")) * UNITS).round() as i64
}

/// Something of another admin's to buy, and money to pay for it; for requests of the first admin.
async fn seller_for(server: &ApiClient, number: usize) -> Value {
    let name = format!("seller-{number}");
    agent(server, OTHER_ADMIN, &name).await;
    fund(server, server.key(), 1000.0).await;
    fund(server, CLIENT, 1000.0).await;
    offer(server, OTHER_ADMIN, &name, json!({"name": format!("service {number}")})).await
}

/// What to ask of a POST of this group so that it succeeds once, with an admin key.
pub async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    let number = template.len() * 31 + template.bytes().map(usize::from).sum::<usize>();
    let service = seller_for(server, number).await;
    let verb = template.rsplit('/').next().unwrap();
    let path = |id: &str| template.replace("{request_id}", id).replace("{guild_id}", id);
    let own = format!("own-{number}");
    match template.strip_prefix(MARKET).unwrap() {
        "/services" => {
            agent(server, server.key(), &own).await;
            (template.to_owned(), offer_of(&own))
        }
        "/requests" => (template.to_owned(), request_for(&service, 10.0)),
        "/guilds" => {
            agent(server, server.key(), &own).await;
            (template.to_owned(), json!({"agent_id": own, "name": "Once"}))
        }
        "/guilds/{guild_id}/members" => {
            let founded = found_guild(server, &format!("founder-{number}")).await;
            agent(server, server.key(), &own).await;
            (path(founded.text("id")), json!({"agent_id": own}))
        }
        "/guilds/{guild_id}/payouts" => {
            let founder = format!("founder-{number}");
            let founded = found_guild(server, &founder).await;
            let service = offer(server, OTHER_ADMIN, &founder, json!({})).await;
            let made = request(server, CLIENT, request_for(&service, 50.0)).await;
            pay(server, OTHER_ADMIN, CLIENT, &made).await;
            (path(founded.text("id")), json!({"agent_id": founder, "amount": 0.01}))
        }
        _ => {
            let client = if verb == "decide" { CLIENT } else { server.key() };
            let made = request(server, client, request_for(&service, 10.0)).await;
            if !matches!(verb, "accept" | "cancel" | "reject") {
                act(server, OTHER_ADMIN, &made, "accept", json!({})).await.ok();
            }
            if !matches!(verb, "accept" | "cancel" | "reject" | "complete") {
                act(server, OTHER_ADMIN, &made, "complete", json!({"results": {"n": 1}})).await.ok();
            }
            if verb == "rating" {
                act(server, client, &made, "settle", json!({})).await.ok();
            }
            if verb == "decide" {
                act(server, client, &made, "dispute", json!({"reason": "not what was asked for"})).await.ok();
            }
            (path(made.text("id")), body_of(verb))
        }
    }
}

/// A body for a verb of a request.
pub fn body_of(verb: &str) -> Value {
    match verb {
        "complete" => json!({"results": {"n": 1}}),
        "reject" | "dispute" => json!({"reason": "a reason"}),
        "decide" => json!({"provider_percent": 50, "reason": "half each"}),
        "rating" => json!({"rating": 4}),
        _ => json!({}),
    }
}

/// A guild of the other admin's agent of this name, which gives ten percent.
async fn found_guild(server: &ApiClient, founder: &str) -> Value {
    agent(server, OTHER_ADMIN, founder).await;
    let body = json!({"agent_id": founder, "name": format!("Guild of {founder}"), "contribution_percent": 10});
    post_as(server, OTHER_ADMIN, &format!("{MARKET}/guilds"), body).await.is(201)
}

/// Let a request be accepted, completed and paid.
pub async fn pay(server: &ApiClient, seller: &str, client: &str, request: &Value) -> Value {
    act(server, seller, request, "accept", json!({})).await.ok();
    act(server, seller, request, "complete", json!({"results": {"n": 1}})).await.ok();
    act(server, client, request, "settle", json!({})).await.ok()
}

/// GET with this key.
async fn get(server: &ApiClient, key: &str, path: &str) -> Answer {
    get_as(server, key, &format!("{MARKET}{path}")).await
}

/// PATCH with this key.
async fn patch(server: &ApiClient, key: &str, path: &str, body: Value) -> Answer {
    ask(server, Some(key), Method::PATCH, &format!("{MARKET}{path}"), Some(body)).await
}

#[test]
fn prefix_is_below_the_services() {
    assert!(MARKET.starts_with(SERVICES) && ADMIN != OTHER_ADMIN);
}
