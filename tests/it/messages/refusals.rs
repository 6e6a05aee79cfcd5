//! A message to several is written as a whole or not at all, whatever else is written with it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{MESSAGES, Socket, each, server};
use crate::{
    harness::TestApp,
    jobs::open,
    kit::{AGENTS, JsonDocument},
};

/// Messages of one batch.
const TOGETHER: usize = 40;

/// Numbers that look random and are the same for the same seed.
struct Lottery(u64);

impl Lottery {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

async fn number(server: &TestApp, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&mut open(&server.database()).await).await.unwrap()
}

async fn words(server: &TestApp, query: &'static str) -> BTreeSet<String> {
    let rows: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut open(&server.database()).await).await.unwrap();
    rows.into_iter().collect()
}

/// A payload for somebody: some of them are refused for one of several recipients, or for the only one.
fn drawn(lottery: &mut Lottery, id: &str, groups: &[String]) -> Value {
    let mut payload = json!({"content": {"id": id}, "message_id": id});
    match lottery.below(6) {
        0 => payload["recipient_id"] = json!("keyed"),
        1 => payload["recipient_id"] = json!(format!("stranger-{}", lottery.below(50))),
        2 => payload["topic"] = json!(format!("topic-{}", lottery.below(3))),
        _ => payload["channel_id"] = json!(groups[lottery.below(groups.len() as u64) as usize]),
    }
    match lottery.below(5) {
        0 => {}
        // Long enough to be shared by the copies.
        1 => payload["content"]["long"] = json!("x".repeat(1500)),
        2 => payload["encryption"] = json!("hpke"),
        3 => payload["encryption"] = json!("aes256"),
        _ => {
            payload["encryption"] = json!("rsa");
            payload["content"]["long"] = json!("x".repeat(500));
        }
    }
    payload
}

async fn try_with(seed: u64) {
    let server = server().start().await;
    let rsa = crate::kit::json_fixture("envelopes/envelopes.json");
    let rsa = json!({"kind": "rsa", "public_key": rsa["rsa"]["pem"]});
    let hpke = json!({"kind": "x25519", "public_key": "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="});
    server.post(&format!("{AGENTS}/keyed/keys"), hpke).await.is(201);
    server.post(&format!("{AGENTS}/old/keys"), rsa).await.is(201);
    let mut groups = Vec::new();
    for members in [vec!["keyed", "plain"], vec!["keyed"], vec!["old", "keyed", "plain"], vec!["plain", "old"], vec![]]
    {
        let body = json!({"type": "group", "members": members});
        groups.push(server.post(&format!("{AGENTS}/alice/channels"), body).await.is(201).text("channel_id").to_owned());
    }
    for (topic, agent) in [(0, "keyed"), (0, "plain"), (1, "old"), (1, "keyed"), (2, "plain")] {
        let body = json!({"agent_id": agent, "topic": format!("topic-{topic}")});
        server.post(&format!("{MESSAGES}/subscribe"), body).await.ok();
    }
    let channels = number(&server, "SELECT count(*) FROM am_channels").await;
    let (mut alice, mut keyed) = (Socket::open(&server, "alice").await, Socket::open(&server, "keyed").await);
    let mut lottery = Lottery(seed);
    let (mut accepted, mut refused, mut rows) = (BTreeSet::new(), BTreeSet::new(), 0);
    for batch in 0..4 {
        for at in 0..TOGETHER {
            let id = format!("m-{batch}-{at}");
            let payload = drawn(&mut lottery, &id, &groups);
            alice.send(json!({"type": "message", "ref": id, "payload": payload})).await;
        }
        for _ in 0..TOGETHER {
            let answer = alice.next().await;
            let id = answer.text("ref").to_owned();
            if answer["status"] == "success" {
                rows += answer["recipients"].as_i64().unwrap_or(1);
                accepted.insert(id);
            } else {
                assert_eq!(answer["code"], "validation_error", "{answer}");
                refused.insert(id);
            }
        }
    }
    assert!(!accepted.is_empty() && !refused.is_empty(), "both happen: {} {}", accepted.len(), refused.len());
    // The rows are those of the accepted, numbered without a gap.
    assert_eq!(number(&server, "SELECT count(*) FROM am_messages").await, rows);
    assert_eq!(number(&server, "SELECT max(id) FROM am_messages").await, rows);
    let named = "SELECT coalesce(broadcast_id, message_id) FROM am_messages UNION SELECT id FROM am_broadcasts";
    assert_eq!(words(&server, named).await, accepted, "seed {seed}");
    let gaps = "SELECT count(*) FROM am_channels AS c
         WHERE c.last_seq <> (SELECT count(*) FROM am_messages AS m WHERE m.channel_id = c.id)";
    assert_eq!(number(&server, gaps).await, 0, "seed {seed}");
    let unused = "SELECT count(*) FROM am_channels AS c WHERE NOT EXISTS (SELECT 1 FROM am_messages AS m WHERE m.channel_id = c.id)
         AND NOT EXISTS (SELECT 1 FROM am_broadcasts AS b WHERE b.channel_id = c.id)";
    assert!(number(&server, unused).await <= channels, "no channel was made for a refused message");
    let keys = "SELECT count(*) FROM am_message_data_keys AS k
         WHERE NOT EXISTS (SELECT 1 FROM am_messages AS m WHERE m.key_id = k.id)";
    assert_eq!(number(&server, keys).await, 0, "no key was made for a refused message");
    let contents = "SELECT count(*) FROM am_message_contents AS c
         WHERE NOT EXISTS (SELECT 1 FROM am_messages AS m WHERE m.content_id = c.id)";
    assert_eq!(number(&server, contents).await, 0, "no content was stored for a refused message");
    assert_ne!(number(&server, "SELECT count(*) FROM am_message_contents").await, 0);
    let mut audited = BTreeSet::new();
    let trail = server.get(&format!("{AGENTS}/security/audit-logs?event_type=workflow_updated&limit=500")).await.ok();
    for data in each(trail.as_array().unwrap(), "event_data") {
        if data["resource"] == "message" {
            audited.insert(data.text("message_id").to_owned());
        }
    }
    assert_eq!(audited, accepted, "seed {seed}");
    // The socket got what is stored for its agent, and gets what is written next.
    let stored = words(&server, "SELECT CAST(id AS TEXT) FROM am_messages WHERE recipient = 'keyed'").await;
    let mut got = BTreeSet::new();
    while got.len() < stored.len() {
        got.insert(keyed.message().await["id"].to_string());
    }
    assert_eq!(got, stored, "seed {seed}");
    let last = alice.say("keyed", json!({"n": "last"})).await;
    assert_eq!((&last["ws_delivered"], &keyed.message().await["message_id"]), (&json!(true), &last["message_id"]));
    assert!(keyed.is_silent().await);
}

#[tokio::test]
async fn refused_messages_leave_nothing_among_accepted_ones() {
    for seed in 1..=6 {
        try_with(seed).await;
    }
}

#[tokio::test]
async fn refused_message_to_a_group_leaves_no_row_number_or_frame() {
    let server = server().start().await;
    let hpke = json!({"kind": "x25519", "public_key": "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="});
    server.post(&format!("{AGENTS}/bob/keys"), hpke).await.is(201);
    let group = json!({"type": "group", "members": ["bob", "carol"]});
    let group = server.post(&format!("{AGENTS}/alice/channels"), group).await.is(201);
    let path = format!("{AGENTS}/alice/channels/{}/messages", group.text("channel_id"));
    let mut bob = Socket::open(&server, "bob").await;
    let body = json!({"content": {"x": 1}, "encryption": "hpke", "message_id": "y"});
    for _ in 0..3 {
        server.post(&path, body.clone()).await.is(422);
    }
    assert!(bob.is_silent().await);
    assert_eq!(number(&server, "SELECT count(*) FROM am_messages").await, 0);
    let sent = server.post(&path, json!({"content": {"x": 1}, "message_id": "y"})).await.ok();
    assert_eq!((&sent["seq"], &sent["recipients"], &sent["repeated"]), (&json!(2), &json!(2), &json!(false)));
    let got = bob.message().await;
    assert_eq!((&got["id"], &got["seq"]), (&json!(1), &json!(1)));
}
