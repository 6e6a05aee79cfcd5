//! Nothing that was acknowledged is lost, whenever the process dies.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::watch};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::MESSAGES;
#[cfg(feature = "failpoints")]
use super::Socket;
use crate::harness::{ADMIN, PATIENCE, Server};
use crate::kit::JsonDocument;
use futures_util::{SinkExt, StreamExt};

/// The next frame, unless the socket ends.
async fn next(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Option<Value> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).ok(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return None,
        }
    }
}

/// Sends over a socket, one number after the other, each until it is acknowledged; answers its own log of those.
async fn sender(name: String, at: watch::Receiver<String>, stop: watch::Receiver<bool>) -> Vec<i64> {
    let mut log = Vec::new();
    while !*stop.borrow() {
        let url = format!("{}/api/v1/agent/messages/stream?agent_id={name}&token={ADMIN}", at.borrow().clone());
        let Ok((mut socket, _)) = connect_async(url).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if next(&mut socket).await.is_none_or(|first| first["type"] != "connection_established") {
            continue;
        }
        while !*stop.borrow() {
            let n = log.len() as i64;
            let payload =
                json!({"content": {"n": n}, "recipient_id": "bob", "message_id": format!("{name}-{n}"), "ttl": 3600});
            let frame = json!({"type": "message", "payload": payload}).to_string();
            if socket.send(Message::text(frame)).await.is_err() {
                break;
            }
            match next(&mut socket).await {
                Some(answer) if answer["status"] == "success" => {
                    assert_eq!(answer["message_id"], format!("{name}-{n}"));
                    log.push(n);
                }
                Some(answer) => assert!(answer["code"] == "unavailable", "{answer}"),
                None => break,
            }
        }
    }
    log
}

/// Reads from sockets and acknowledges half of what comes; answers everything in the order in which it came first.
async fn receiver(
    at: watch::Receiver<String>,
    stop: watch::Receiver<bool>,
) -> (Vec<(String, i64, i64)>, BTreeSet<String>) {
    let (mut came, mut ids, mut acknowledged) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    while !*stop.borrow() {
        let url = format!("{}/api/v1/agent/messages/stream?agent_id=bob&token={ADMIN}", at.borrow().clone());
        let Ok((mut socket, _)) = connect_async(url).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(Duration::from_millis(500), socket.next()).await {
            let Message::Text(text) = frame else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["type"] != "message" {
                continue;
            }
            let id = message.text("message_id").to_owned();
            if ids.insert(id.clone()) {
                let sender = message.text("sender").to_owned();
                came.push((sender, message["content"]["n"].as_i64().unwrap(), message["seq"].as_i64().unwrap()));
            }
            if message["content"]["n"].as_i64().unwrap() % 2 == 0 {
                let ack = json!({"type": "ack", "message_id": id}).to_string();
                if socket.send(Message::text(ack)).await.is_ok() {
                    acknowledged.insert(id);
                }
            }
        }
    }
    (came, acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_crashes_lose_and_repeat_no_message() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let ws = |port: u16| format!("ws://127.0.0.1:{port}");
    let mut server = Server::builder().start().await;
    let (at, now_at) = watch::channel(ws(server.port()));
    let (stop, stopped) = watch::channel(false);
    let senders: Vec<_> =
        (0..3).map(|n| tokio::spawn(sender(format!("s{n}"), now_at.clone(), stopped.clone()))).collect();
    let receiver = tokio::spawn(receiver(now_at.clone(), stopped.clone()));
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..600))).await;
        server = server.restart().await;
        at.send_replace(ws(server.port()));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.send_replace(true);
    let mut known: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (n, sender) in senders.into_iter().enumerate() {
        known.insert(format!("s{n}"), tokio::time::timeout(PATIENCE, sender).await.unwrap().unwrap());
    }
    let (came, acknowledged) = receiver.await.unwrap();
    let total: usize = known.values().map(Vec::len).sum();
    assert!(total >= 20, "{total} messages are too few to prove anything");
    // What a sender was told is stored, once, in its order.
    let mut unread = BTreeSet::new();
    for (sender, log) in &known {
        let mut found = Vec::new();
        let mut path = format!("{MESSAGES}/history?sender_id={sender}&limit=500");
        loop {
            let page = server.get(&path).await;
            let link = page.header("link").to_owned();
            found.extend(page.ok().as_array().unwrap().iter().cloned());
            let next = link.split(',').find(|link| link.contains("rel=\"next\""));
            let Some(next) = next else { break };
            path = next.trim().trim_start_matches('<').split('>').next().unwrap().to_owned();
        }
        found.reverse();
        let numbers: Vec<i64> = found.iter().map(|message| message["content"]["n"].as_i64().unwrap()).collect();
        let seqs: Vec<i64> = found.iter().map(|message| message["seq"].as_i64().unwrap()).collect();
        assert!(
            numbers.starts_with(log),
            "seed {seed}: {sender} was told of {} and there are {}",
            log.len(),
            numbers.len()
        );
        assert!(numbers.len() <= log.len() + 1, "one may be stored whose sender was not told");
        assert_eq!(numbers, (0..numbers.len() as i64).collect::<Vec<_>>(), "each once");
        assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>(), "numbers have no gap");
        // What came first came in order.
        let mine = came.iter().filter(|(name, ..)| name == sender);
        let order: Vec<i64> = mine.map(|(_, n, _)| *n).collect();
        assert_eq!(order, (0..order.len() as i64).collect::<Vec<_>>(), "seed {seed}: {sender}");
        unread.extend(
            found
                .iter()
                .filter(|message| message["status"] == "pending")
                .map(|message| message.text("message_id").to_owned()),
        );
    }
    // What was not acknowledged still waits: a socket gets all of it.
    let odd = came.iter().filter(|(_, n, _)| n % 2 == 1);
    for (sender, n, _) in odd {
        assert!(unread.contains(&format!("{sender}-{n}")), "seed {seed}: {sender}-{n} was never acknowledged");
    }
    println!(
        "{total} acknowledged to senders, {} came, {} acknowledged by the recipient",
        came.len(),
        acknowledged.len()
    );
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn crash_between_storing_and_pushing_delivers_once() {
    let mut server = Server::builder().env("FAILPOINTS", "messages.before_push=return").start().await;
    let mut bob = Socket::open(&server, "bob").await;
    let body = || json!({"sender": "alice", "recipient": "bob", "content": {"n": 1}, "message_id": "m-1"});
    let unheard = server.request(reqwest::Method::POST, &format!("{MESSAGES}/send")).json(&body()).send().await;
    assert!(unheard.is_err(), "nobody was told: {unheard:?}");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&server.wait()), Some(9));
    assert!(bob.closed().await.is_none(), "nothing came of it");
    let server = server.restart_with(&[("FAILPOINTS", "")]).await;
    let again = server.post(&format!("{MESSAGES}/send"), body()).await.ok();
    assert_eq!((&again["repeated"], &again["seq"]), (&json!(true), &json!(1)));
    let mut bob = Socket::open(&server, "bob").await;
    assert_eq!(bob.message().await["message_id"], "m-1");
    assert!(bob.is_silent().await, "once");
}
