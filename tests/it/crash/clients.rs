//! What clients were told holds, whenever the process dies.

use super::*;

/// Cancel a run, die, start again, ask again. Answers whether the first cancel was acknowledged, and whether the second
/// was told that it had been done; none when it died before it was asked.
async fn cancels(prepared: &Prepared, point: &str, n: usize) -> Option<(bool, bool)> {
    let peer = Peer::start();
    let server = prepared.to_die_at(point, n, &peer).ok()?;
    let acknowledged = keyed(&server, &prepared.path, KEY).await.map(Answer::ok).is_some();
    // An acknowledged one is followed by death as well.
    let server = server.again().env("FAILPOINTS", "").start().await;
    let answer = keyed(&server, &prepared.path, KEY).await.unwrap();
    let replayed = answer.header("idempotency-replayed") == "true";
    assert!(replayed || !acknowledged, "an acknowledged cancel was lost: {answer:?}");
    let cancelled = answer.ok();
    assert_eq!(cancelled["status"], "cancelled");
    let id = cancelled.text("execution_id");
    assert_eq!(server.get(&format!("/api/v1/agents/executions/{id}")).await.ok()["status"], "cancelled");
    assert_eq!(queue(&server).await[0]["state"], "CANCELED");
    let events = events(&server, id, 1000).await;
    assert_eq!(kinds(&events).iter().filter(|kind| **kind == "execution_cancelled").count(), 1);
    Some((acknowledged, replayed))
}

#[tokio::test]
async fn acknowledged_cancel_survives_a_crash() {
    let prepared = Prepared::under_way().await;
    for point in ["db.before_commit", "db.after_commit"] {
        let mut done_unheard = 0;
        // Writes in the background pass the point too, and more of them on a busy machine: then another round meets it.
        for _ in 0..5 {
            for n in 0.. {
                let Some((acknowledged, replayed)) = cancels(&prepared, point, n).await else { continue };
                done_unheard += usize::from(replayed && !acknowledged);
                if acknowledged {
                    break;
                }
            }
            if point == "db.before_commit" || done_unheard >= 1 {
                break;
            }
        }
        assert!(point == "db.before_commit" || done_unheard >= 1, "a client never had to ask for what was done");
    }
}

/// A client that keeps its own list: it asks again until it is answered, then it notes what it was told.
async fn client(
    number: usize,
    mut at: watch::Receiver<String>,
    mut stop: watch::Receiver<bool>,
) -> Vec<(String, String)> {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let ask = async |at: &mut watch::Receiver<String>, path: &str, key: &str, body: Value| loop {
        let url = format!("{}{path}", at.borrow().clone());
        let request = http.post(url).header("x-api-key", crate::harness::ADMIN).header("idempotency-key", key);
        match request.json(&body).send().await {
            Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {}
            Ok(response) => {
                let status = response.status();
                if let Ok(body) = response.json::<Value>().await {
                    assert!(status.is_success(), "{status} {body}");
                    return body.text("id").to_owned();
                }
            }
            Err(_) => drop(timeout(Duration::from_millis(20), at.changed()).await),
        }
    };
    let mut known = Vec::new();
    for n in 0.. {
        if *stop.borrow_and_update() {
            break;
        }
        let steps = json!({"a": {"step_type": "data_processing", "action": {"kind": "jq", "program": ".x"}}, "b": call("b", &["a"])});
        let workflow = json!({"name": "w", "steps": steps});
        let workflow = ask(&mut at, "/api/v1/agents/workflows", &format!("w-{number}-{n}"), workflow).await;
        let path = format!("/api/v1/agents/workflows/{workflow}/execute");
        let run = ask(&mut at, &path, &format!("e-{number}-{n}"), json!({"inputs": {"x": n}})).await;
        known.push((workflow, run));
    }
    known
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_crashes_lose_and_repeat_nothing_for_clients() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let peer = Peer::start();
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let (at, now_at) = watch::channel(server.url(""));
    let (stop, stopped) = watch::channel(false);
    let clients: Vec<_> = (0..4).map(|n| tokio::spawn(client(n, now_at.clone(), stopped.clone()))).collect();
    let mut server = Some(server);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..800))).await;
        let again = server.take().unwrap().again();
        let next = again.start().await;
        at.send_replace(next.url(""));
        server = Some(next);
    }
    stop.send_replace(true);
    let server = server.unwrap();
    let mut known = Vec::new();
    for client in clients {
        known.extend(client.await.unwrap());
    }
    assert!(known.len() >= 40, "{} runs are too few to prove anything", known.len());
    for (workflow, run) in &known {
        server.get(&format!("/api/v1/agents/workflows/{workflow}")).await.ok();
        let document = server.ended(run).await;
        assert_eq!(document["status"], "completed", "{document}");
        let events = events(&server, run, 1000).await;
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        kinds(&events).into_iter().for_each(|kind| *count.entry(kind).or_default() += 1);
        assert_eq!(count["execution_completed"], 1);
        check_trail(&server, run, &count).await;
        assert_eq!(server.get(&format!("/api/v1/agents/executions/{run}/receipt")).await.ok()["verified"], true);
    }
    // Nothing else came of what was asked more than once.
    let count = |headers: &Answer| headers.header("x-total-count").parse::<usize>().unwrap();
    assert_eq!(count(&server.get("/api/v1/agents/executions?limit=1").await), known.len());
    let keys: BTreeSet<String> = peer.calls().iter().map(|call| call.key().to_owned()).collect();
    let expected: BTreeSet<String> = known.iter().map(|(_, run)| format!("{run}:b:1")).collect();
    assert_eq!(keys, expected, "seed {seed}");
}
