//! The ground gives way: a process that hangs, a lock, a disk that fails or is full.

use super::*;

#[tokio::test]
async fn stopped_process_loses_its_executions_and_cannot_write() {
    let peer = Peer::start();
    let first = Server::builder()
        .env("HTTP_ENDPOINTS", peer.endpoints())
        .env("ENGINE_LEASE_SECONDS", 3)
        .env("RECEIPT_SIGNING_KEY_HEX", "7f".repeat(16) + &"a1".repeat(16))
        .start()
        .await;
    let beside = |first: &ApiClient| {
        Server::builder()
            .env("HTTP_ENDPOINTS", peer.endpoints())
            .env("ENGINE_LEASE_SECONDS", 3)
            .env("RECEIPT_SIGNING_KEY_HEX", "7f".repeat(16) + &"a1".repeat(16))
            .beside(first)
    };
    let second = beside(&first).start().await;
    let workflow = first.workflow(json!({"held": held(), "then": call("then", &["held"])})).await;
    let run = first.execute(&workflow, json!({"x": 1})).await;
    let id = run.text("id");
    peer.called(1).await;
    // While this holds the write lock the process cannot: stopped with it, it would keep everybody from writing.
    let mut lock = open(&first.database()).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut lock).await.unwrap();
    first.stop();
    sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
    // The second makes the same call when the lease has run out.
    peer.called(2).await;
    peer.open();
    let done = second.ended(id).await;
    assert_eq!(done["status"], "completed");
    let told = events(&second, id, 1000).await;
    first.signal("CONT");
    // The first gets its answer now, and finds that the run is another's.
    first.logged("another worker holds the execution").await;
    assert_eq!(first.ended(id).await, done, "it did not write");
    assert_eq!(events(&first, id, 1000).await, told);
    let keys: Vec<String> = peer.calls().iter().map(|call| call.key().to_owned()).collect();
    assert_eq!(keys, [format!("{id}:held:1"), format!("{id}:held:1"), format!("{id}:then:1")]);

    // Awake, it is a worker like any other: its runs are left to it although it was taken for dead.
    peer.shut();
    let next = first.execute(&workflow, json!({"x": 1})).await;
    let next = next.text("id");
    peer.called(4).await;
    let heartbeat = async |server: &ApiClient| -> String {
        sqlx::query_scalar("SELECT group_concat(heartbeat_at) FROM am_workers WHERE id IN (SELECT worker FROM am_runs WHERE execution_id = ?1)")
            .bind(next)
            .fetch_one(&mut open(&server.database()).await)
            .await
            .unwrap()
    };
    for _ in 0..6 {
        let before = heartbeat(&first).await;
        let beaten = timeout(PATIENCE, async { while heartbeat(&first).await == before {} });
        assert!(beaten.await.is_ok(), "its worker gives signs of life");
    }
    // And what one process is asked reaches a step that another runs.
    assert_eq!(peer.calls().len(), 4, "nobody took it over");
    second.post(&format!("/api/v1/agents/executions/{next}/cancel"), json!({})).await.ok();
    let gone = timeout(PATIENCE, async {
        while peer.under_way() > 0 {
            crate::harness::poll_interval().await;
        }
    });
    assert!(gone.await.is_ok(), "the call is given up");
}

#[tokio::test]
async fn database_lock_timeout_is_reported_and_loses_nothing() {
    let peer = Peer::start();
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("DB_BUSY_TIMEOUT_MS", 300).start().await;
    let workflow = server.workflow(json!({"held": held(), "then": call("then", &["held"])})).await;
    let run = server.execute(&workflow, json!({"x": 1})).await;
    peer.called(1).await;
    // The coordinator, say, in a transaction that does not end.
    let mut other = open(&server.database()).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    peer.open();
    for _ in 0..2 {
        let refused = server.post("/api/v1/agents/workflows", json!({"name": "n", "steps": {}})).await;
        assert!(!refused.header("retry-after").is_empty());
        assert_eq!(refused.is(503)["code"], "database_busy");
    }
    let id = run.text("id");
    let reading = server.get(&format!("/api/v1/agents/executions/{id}")).await.ok();
    assert_eq!(reading["step_states"]["held"]["status"], "running", "its end can't be saved yet; reading goes on");
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    assert_eq!(server.ended(id).await["status"], "completed");
    assert_eq!((peer.count("held"), peer.count("then")), (1, 1));
    let all = server.get("/api/v1/agents/workflows").await.ok();
    assert_eq!(all.as_array().unwrap().len(), 1, "what was refused is not there");
}

#[tokio::test]
async fn failing_fsync_ends_the_process_without_acknowledging() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("left out: strace is not there");
        return;
    }
    let mut server = Server::start().await;
    let before = server.workflow(json!({"a": {"step_type": "custom"}})).await;
    let mut strace = Command::new("strace")
        .args(["-f", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", "-p"])
        .arg(server.pid().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines().map_while(Result::ok);
    if !lines.any(|line| line.contains("attached")) {
        let _ = strace.wait();
        println!("left out: strace may not attach here");
        return;
    }
    std::thread::spawn(move || lines.for_each(drop));
    let answer = keyed(&server, &format!("/api/v1/agents/workflows/{before}/execute"), KEY).await;
    assert!(answer.is_none_or(|answer| answer.status.is_server_error()), "nothing may be acknowledged");
    let status = server.wait();
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    let _ = strace.wait();
    let server = server.restart().await;
    server.get(&format!("/api/v1/agents/workflows/{before}")).await.ok();
    let run = keyed(&server, &format!("/api/v1/agents/workflows/{before}/execute"), KEY).await.unwrap().ok();
    assert_eq!(server.ended(run.text("id")).await["status"], "completed");
    let runs = server.get("/api/v1/agents/executions").await;
    assert_eq!(runs.header("x-total-count"), "1", "whether it was written or not, it is there once");
}

/// A small file system of its own, gone with the test.
struct Small(Arc<tempfile::TempDir>);

impl Small {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(dir.path()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(Arc::new(dir)))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn full_disk_is_reported_and_acknowledged_rows_stay() {
    let Some(small) = Small::mount() else {
        println!("left out: a tmpfs can't be mounted here");
        return;
    };
    let peer = Peer::start();
    let url = format!("sqlite:///{}", small.0.path().join("coordinator.db").display());
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("DATABASE_URL", url).start().await;
    let workflow = server.workflow(json!({"held": held(), "then": call("then", &["held"])})).await;
    let run = server.execute(&workflow, json!({"x": 1})).await;
    peer.called(1).await;
    let filler = small.0.path().join("filler");
    let _ = std::fs::write(&filler, vec![0; 4 << 20]);
    let mut known = Vec::new();
    let refused = loop {
        let body = json!({"name": "n", "description": "x".repeat(2000), "steps": {"a": {"step_type": "custom"}}});
        let answer = server.post("/api/v1/agents/workflows", body).await;
        if answer.status.is_success() {
            known.push(answer.ok().text("id").to_owned());
        } else {
            break answer;
        }
    };
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    assert_eq!(refused.is(503)["code"], "storage_full");
    peer.open();
    std::fs::remove_file(filler).unwrap();
    assert_eq!(server.ended(run.text("id")).await["status"], "completed");
    let server = server.restart().await;
    for id in &known {
        server.get(&format!("/api/v1/agents/workflows/{id}")).await.ok();
    }
    assert_eq!((peer.count("held"), peer.count("then")), (1, 1));
    drop(server);
}
