//! Three durable activities on Duroxide over SQLite, a peer for the engine benchmark: callers in this process start an
//! orchestration each and wait for its result, over and over. One line of figures, or a failure if any of them is void.
//!
//!     duroxide-peer [--seconds 5] [--callers 32] [--workers 2] [--poll-ms 10] [--connections 1] [--synchronous full|as-shipped]
use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use duroxide::{
    providers::sqlite::SqliteProvider,
    runtime::{registry::ActivityRegistry, Runtime, RuntimeOptions},
    ActivityContext, Client, OrchestrationContext, OrchestrationRegistry, OrchestrationStatus,
};
use sqlx::{pool::PoolConnection, Connection, Sqlite, SqlitePool};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The value of `--name`, or what stands for it.
fn option(name: &str, otherwise: &str) -> String {
    let mut words = std::env::args().skip_while(|word| word != name).skip(1);
    words.next().unwrap_or_else(|| otherwise.to_owned())
}

/// Every connection of the provider's pool, so that none is left with another setting, and what is in effect on all of them.
async fn settings(pool: &SqlitePool, full: bool) -> Fallible<(Vec<PoolConnection<Sqlite>>, String)> {
    let mut held = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        held.push(pool.acquire().await?);
    }
    let mut seen = Vec::new();
    for connection in &mut held {
        if full {
            sqlx::query("PRAGMA synchronous = FULL").execute(&mut **connection).await?;
        }
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut **connection).await?;
        let level: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut **connection).await?;
        connection.ping().await?;
        seen.push(format!("journal_mode={mode} synchronous={}", ["off", "normal", "full", "extra"][level as usize]));
    }
    seen.dedup();
    if seen.len() != 1 {
        return Err(format!("the connections differ: {seen:?}").into());
    }
    Ok((held, seen.remove(0)))
}

/// One execution from start to result, in milliseconds.
async fn one(client: &Client, instance: &str) -> Fallible<f64> {
    let begun = Instant::now();
    client.start_orchestration(instance, "ThreeSteps", "x").await?;
    match client.wait_for_orchestration(instance, Duration::from_secs(60)).await? {
        OrchestrationStatus::Completed { output, .. } if output == "x-a-b-c" => Ok(begun.elapsed().as_secs_f64() * 1e3),
        other => Err(format!("{instance} ended as {other:?}").into()),
    }
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let seconds: f64 = option("--seconds", "5").parse()?;
    let callers: usize = option("--callers", "32").parse()?;
    let workers: usize = option("--workers", "2").parse()?;
    let connections: usize = option("--connections", "1").parse()?;
    let poll = Duration::from_millis(option("--poll-ms", "10").parse()?);

    let place = tempfile::tempdir()?;
    let file = place.path().join("duroxide.db");
    std::fs::File::create(&file)?;
    let store = Arc::new(SqliteProvider::new(&format!("sqlite:{}", file.display()), None).await?);
    let full = option("--synchronous", "full") == "full";
    // The provider opens five connections, come what may, and its transactions then fail on one another's locks and wait
    // for 200 ms and more. With the others held back it is several times faster.
    let (mut held, before) = settings(store.get_pool(), full).await?;
    held.truncate(held.len().saturating_sub(connections));

    let mut activities = ActivityRegistry::builder();
    for step in ["a", "b", "c"] {
        activities = activities
            .register(step, move |_: ActivityContext, value: String| async move { Ok(format!("{value}-{step}")) });
    }
    let three = |context: OrchestrationContext, mut value: String| async move {
        for step in ["a", "b", "c"] {
            value = context.schedule_activity(step, value).await?;
        }
        Ok(value)
    };
    let runtime = Runtime::start_with_options(
        store.clone(),
        activities.build(),
        OrchestrationRegistry::builder().register("ThreeSteps", three).build(),
        RuntimeOptions {
            orchestration_concurrency: workers,
            worker_concurrency: workers,
            dispatcher_min_poll_interval: poll,
            ..RuntimeOptions::default()
        },
    )
    .await;
    let client = Client::new(store.clone());
    one(&client, "warm").await?;

    let begun = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let client = client.clone();
        running.spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed().as_secs_f64() < seconds {
                times.push(one(&client, &format!("{caller}-{}", times.len())).await?);
            }
            Fallible::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = running.join_next().await {
        times.extend(done??);
    }
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let rank = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];

    // What the callers saw must be what the file holds: each one completed, with three results of activities.
    let stored: (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM executions WHERE status = 'Completed'), (SELECT count(*) FROM history WHERE event_type = 'ActivityCompleted')",
    )
    .fetch_one(store.get_pool())
    .await?;
    let expected = times.len() as i64 + 1;
    if stored != (expected, 3 * expected) {
        return Err(format!("{expected} executions were answered, the file holds {stored:?}").into());
    }
    drop(held);
    if settings(store.get_pool(), false).await?.1 != before {
        return Err("a connection was replaced, and its settings with it".into());
    }
    println!(
        "rate={rate:.1} median_ms={:.2} p99_ms={:.2} completed={} callers={callers} workers={workers} connections={connections} {before}",
        rank(0.5),
        rank(0.99),
        times.len()
    );
    runtime.shutdown(None).await;
    Ok(())
}
