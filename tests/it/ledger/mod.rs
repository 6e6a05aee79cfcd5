//! The ledger: accounts, money that moves, holds, what runs cost, budgets.

mod accounts;
mod budgets;
mod commands;
mod costs;

use serde_json::{Value, json};

use am_db::owner::PrincipalName;

use crate::{
    harness::ApiClient,
    kit::{AGENTS, JsonDocument},
};

/// Path of the ledger's routes.
pub const LEDGER: &str = "/api/v1/agents/ledger";

/// The principal of an API key.
pub fn principal_of(key: &str) -> String {
    PrincipalName::from_api_key(key).as_str().to_owned()
}

/// Deposit an amount for the server's own key. Answers the entry.
pub async fn fund(server: &ApiClient, amount: u32) -> Value {
    let body = json!({"owner": principal_of(server.key()), "amount": amount});
    server.post(&format!("{LEDGER}/deposits"), body).await.is(201)
}

/// Hold an amount of the server's own key, which gets it before. Answers the hold's id.
pub async fn held(server: &ApiClient, amount: u32) -> String {
    fund(server, amount).await;
    let hold = server.post(&format!("{LEDGER}/holds"), json!({"amount": amount, "reference": "r"})).await.is(201);
    hold.text("id").to_owned()
}

/// The account of this purpose among the lines of an entry.
pub fn account_of(entry: &Value, purpose: &str) -> String {
    let lines = entry["lines"].as_array().unwrap();
    lines.iter().find(|line| line["purpose"] == purpose).unwrap().text("account_id").to_owned()
}

/// Verify the server's ledger by reading its database.
pub async fn verified(server: &ApiClient) -> am_ledger::LedgerVerification {
    let settings = am_db::DatabaseSettings { readers: 1, busy_timeout: std::time::Duration::from_secs(5) };
    let db = am_db::Database::open(&server.database(), &settings).await.unwrap();
    let (clock, ids) = (am_core::ambient::Clock::system(), am_core::ambient::IdGenerator::seeded(1));
    let config = am_core::config::WebhookConfig::default();
    let webhooks = am_webhooks::WebhookService::new(db.clone(), clock.clone(), ids.clone(), &config).unwrap();
    let settings = am_audit::AuditSettings { origin: "test".into(), every: std::time::Duration::from_secs(3600) };
    let signer = am_core::crypto::Signer::from_hex(&"17".repeat(32)).unwrap();
    let audit = am_audit::AuditLog::new(db.clone(), clock.clone(), ids.clone(), webhooks.clone(), signer, settings);
    let report = am_ledger::LedgerService::new(db.clone(), clock, ids, audit, webhooks).verify().await.unwrap();
    db.close().await;
    assert!(report.valid, "{report:?}");
    report
}

/// Path of a workflow's spending report.
pub fn spending_by(group: &str) -> String {
    format!("{AGENTS}/ledger/spending?by={group}")
}
