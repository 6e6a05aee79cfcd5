//! Messages between agents: what clients of the monolith send and get, and what holds whenever sockets come and go.

mod channels;
pub mod client;
mod contract;
mod crash;
mod delivery;
mod fan_out;
mod ids;
mod migration;
mod model;
mod refusals;
mod signatures;
mod socket_close;
mod topics;

pub use client::Socket;

use serde_json::{Value, json};

use crate::harness::{ApiClient, AppBuilder, TestApp};

/// The prefix that clients of the monolith use.
pub const MESSAGES: &str = "/api/v1/agent/messages";

/// An application that can encrypt at rest.
pub fn server() -> AppBuilder {
    TestApp::builder()
}

/// Send one, and answer what its sender is told.
pub async fn send(server: &ApiClient, sender: &str, recipient: &str, content: Value) -> Value {
    let body = json!({"sender": sender, "recipient": recipient, "content": content});
    server.post(&format!("{MESSAGES}/send"), body).await.ok()
}

/// What lies in an inbox.
pub async fn inbox(server: &ApiClient, agent: &str, rest: &str) -> Vec<Value> {
    let answer = server.get(&format!("{MESSAGES}/inbox?agent_id={agent}{rest}")).await.ok();
    answer["messages"].as_array().unwrap().clone()
}

/// One member of each.
pub fn each<'a>(messages: &'a [Value], member: &str) -> Vec<&'a Value> {
    messages.iter().map(|message| &message[member]).collect()
}
