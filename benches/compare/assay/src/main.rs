//! Three durable activities on assay-engine over SQLite, a peer for the engine benchmark. The engine is used as it is meant to
//! be: a server process (this program again, as `serve`), with a worker and callers that reach it over HTTP on loopback. One
//! line of figures, or a failure if any of them is void.
//!
//!     assay-peer [--seconds 5] [--callers 32] [--workers 4] [--journal wal|as-shipped]
mod engine;
mod server;
mod worker;

use std::{process::Stdio, sync::Arc, time::Instant};

use anyhow::{bail, Context, Result};
use engine::Engine;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

/// The value of `--name`, or what stands for it.
fn option(name: &str, otherwise: &str) -> String {
    let mut words = std::env::args().skip_while(|word| word != name).skip(1);
    words.next().unwrap_or_else(|| otherwise.to_owned())
}

#[tokio::main]
async fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return server::serve(&option("--config", "engine.toml"), option("--journal", "wal") == "wal").await;
    }
    let seconds: f64 = option("--seconds", "5").parse()?;
    let callers: usize = option("--callers", "32").parse()?;
    let workers: usize = option("--workers", "4").parse()?;

    let place = tempfile::tempdir()?;
    let config = place.path().join("engine.toml");
    std::fs::write(&config, server::config(place.path()))?;
    // The server ends with its standard input, so with this process however that ends.
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", "--journal", &option("--journal", "wal"), "--config"])
        .arg(&config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut said = BufReader::new(child.stdout.take().context("no output")?).lines();
    let address = said.next_line().await?.context("the server said no address")?;
    let settings = said.next_line().await?.context("the server said no settings")?;

    let engine = Arc::new(Engine::register(&format!("http://{address}")).await?);
    engine.clone().listen().await?;
    let mut working = tokio::task::JoinSet::new();
    for _ in 0..workers {
        working.spawn(worker::turns(engine.clone()));
        working.spawn(worker::activities(engine.clone()));
    }
    engine.execute("warm").await?;

    let begun = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let engine = engine.clone();
        running.spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed().as_secs_f64() < seconds {
                times.push(engine.execute(&format!("{caller}-{}", times.len())).await?);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = running.join_next().await {
        times.extend(done??);
    }
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let rank = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];

    working.shutdown().await;
    child.kill().await?;
    let stored = server::stored(place.path()).await?;
    let expected = times.len() as i64 + 1;
    if stored != (expected, 3 * expected) {
        bail!("{expected} executions were answered, the file holds {stored:?}");
    }
    println!(
        "rate={rate:.1} median_ms={:.2} p99_ms={:.2} completed={} callers={callers} workers={workers} {settings}",
        rank(0.5),
        rank(0.99),
        times.len()
    );
    Ok(())
}
