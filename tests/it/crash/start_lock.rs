//! A start while another process holds the database's write lock.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
};

use crate::harness::{PATIENCE, Server};

/// Python's SQLite, in a transaction until its input ends.
const HOLDER: &str = r#"
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode = " + sys.argv[2])
database.execute("CREATE TABLE IF NOT EXISTS elsewhere (x)")
database.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
database.execute("COMMIT")
"#;

/// A process that holds the lock of `database`.
fn hold_lock(database: &std::path::Path, journal: &str) -> Child {
    let mut holder = Command::new("python3")
        .args(["-c", HOLDER])
        .arg(database)
        .arg(journal)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    holder
}

/// The first notice that contains `part`.
fn notice(socket: &UnixDatagram, part: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).expect("no such notice came");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.contains(part) {
            return text;
        }
    }
}

#[tokio::test]
async fn start_waits_for_a_lock_and_tells_for_whom() {
    for journal in ["delete", "wal"] {
        // A busy timeout so short that a start would fail at once.
        let builder = Server::builder().env("DB_BUSY_TIMEOUT_MS", 100);
        let address = builder.dir().join("notify");
        let socket = UnixDatagram::bind(&address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let builder = builder.env("NOTIFY_SOCKET", address.display());
        let mut holder = hold_lock(&builder.dir().join("coordinator.db"), journal);
        let runtime = tokio::runtime::Handle::current();
        let starting = tokio::task::spawn_blocking(move || runtime.block_on(builder.start()));
        let (mut holder, told) = tokio::task::spawn_blocking(move || {
            let told = notice(&socket, &format!("process {} (python3)", holder.id()));
            // Its input ends, and with it the transaction.
            drop(holder.stdin.take());
            notice(&socket, "READY=1");
            (holder, told)
        })
        .await
        .unwrap();
        assert!(told.contains("EXTEND_TIMEOUT_USEC=30000000"), "{told}");
        let server = starting.await.unwrap();
        server.logged("the start waits for the database's write lock").await;
        server.get("/health/ready").await.ok();
        assert!(holder.wait().unwrap().success());
    }
}

#[tokio::test]
async fn start_gives_up_when_its_time_is_over() {
    let builder = Server::builder().env("DB_START_TIMEOUT_SECONDS", 1);
    let mut holder = hold_lock(&builder.dir().join("coordinator.db"), "wal");
    let (status, log) = builder.start_and_fail();
    assert!(!status.success() && log.contains("is busy"), "{log}");
    holder.stdin.take().unwrap().flush().unwrap();
    assert!(holder.wait().unwrap().success());
}
