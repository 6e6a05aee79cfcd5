//! What docs/SERVICES.md says of plans in figures: measured when it is asked for, not with the other tests.
//!
//! `cargo test --release --all-features --test it figures -- --ignored --nocapture --test-threads 1`

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    plans::{PLANS, assigned, execute, plan, report},
    registry::{REGISTRY, beat, becomes, register},
};
use crate::harness::{ApiClient, Server};
use crate::kit::JsonDocument;

/// Do what an agent is given as soon as it is there, until `all` results are in, which `count` counts.
async fn diligent(server: &ApiClient, agent: &str, count: &std::sync::atomic::AtomicUsize, all: usize) {
    use std::sync::atomic::Ordering::SeqCst;
    while count.load(SeqCst) < all {
        for one in assigned(server, agent).await {
            report(server, &one, "result", json!({"result": {"sub_task": one["sub_task"]}})).await.ok();
            count.fetch_add(1, SeqCst);
        }
    }
}

fn quantile(sorted: &[Duration], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0
}

#[tokio::test]
#[ignore = "measures"]
async fn assignment_time_after_a_sub_task_ends() {
    let server = Server::start().await;
    register(&server, "a", json!({})).await;
    let made = plan(&server, json!({"task_types": vec!["text_processing"; 100], "strategy": "pipeline"})).await;
    let started = Instant::now();
    execute(&server, &made).await;
    let (mut last, mut waits) = (started, Vec::new());
    while waits.len() < 100 {
        for one in assigned(&server, "a").await {
            waits.push(last.elapsed());
            report(&server, &one, "result", json!({"result": 1})).await.ok();
            last = Instant::now();
        }
    }
    let total = started.elapsed();
    waits.sort_unstable();
    println!(
        "hand-over, answer to the result until the next is in the agent's list: p50 {:.1} ms, p99 {:.1} ms; 100 in {:.2} s",
        quantile(&waits, 0.5),
        quantile(&waits, 0.99),
        total.as_secs_f64()
    );
}

#[tokio::test]
#[ignore = "measures"]
async fn sub_tasks_per_second_over_twenty_agents() {
    let server = Server::builder().env("ENGINE_MAX_PARALLEL_STEPS", 100).start().await;
    let names: Vec<String> = (0..20).map(|n| format!("agent-{n}")).collect();
    for name in &names {
        register(&server, name, json!({"max_concurrent_tasks": 10})).await;
    }
    let mut plans = Vec::new();
    for _ in 0..10 {
        plans.push(plan(&server, json!({"task_types": vec!["text_processing"; 100], "strategy": "parallel"})).await);
    }
    let (count, started) = (std::sync::atomic::AtomicUsize::new(0), Instant::now());
    for made in &plans {
        execute(&server, made).await;
    }
    join_all(names.iter().map(|name| diligent(&server, name, &count, 1000))).await;
    for made in &plans {
        let path = format!("{PLANS}/{}", made.text("id"));
        while server.get(&path).await.ok()["status"] != "completed" {
            crate::harness::poll_interval().await;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("1000 sub-tasks of 10 plans over 20 agents: {seconds:.2} s, {:.0} a second", 1000.0 / seconds);
}

#[tokio::test]
#[ignore = "measures"]
async fn reassignment_time_after_an_agent_goes_silent() {
    let server = Server::builder().env("AGENT_OFFLINE_SECONDS", 2).start().await;
    register(&server, "good", json!({"performance": 1.0, "max_concurrent_tasks": 10})).await;
    register(&server, "other", json!({"performance": 0.1, "max_concurrent_tasks": 10})).await;
    let mut over = Vec::new();
    for _ in 0..5 {
        becomes(&server, "good", "online").await;
        let made = plan(&server, json!({"task_types": ["text_processing"]})).await;
        let silent = Instant::now();
        beat(&server, "good").await.ok();
        execute(&server, &made).await;
        let one: Value = loop {
            beat(&server, "other").await.ok();
            if let [one] = &assigned(&server, "other").await[..] {
                break one.clone();
            }
        };
        over.push(silent.elapsed().saturating_sub(Duration::from_secs(2)));
        report(&server, &one, "result", json!({"result": 1})).await.ok();
        beat(&server, "good").await.ok();
    }
    over.sort_unstable();
    println!(
        "taken from a silent agent and given to another after AGENT_OFFLINE_SECONDS and {:.0} ms (median of 5), {:.0} ms at most",
        quantile(&over, 0.5),
        quantile(&over, 1.0)
    );
}

#[tokio::test]
#[ignore = "measures"]
async fn processor_time_of_open_assignments_at_rest() {
    let server = Server::start().await;
    for n in 0..200 {
        register(&server, &format!("agent-{n}"), json!({})).await;
    }
    // A sub-task that nobody can do waits meanwhile.
    let made = plan(&server, json!({"task_types": ["model_training"]})).await;
    let path = format!("{PLANS}/{}/execute", made.text("id"));
    server.post(&path, json!({"wait_for_agents": true})).await.ok();
    let cpu = async || {
        let page = server.get("/metrics").await.text;
        let line = page.lines().find(|line| line.starts_with("process_cpu_seconds_total")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let before = cpu().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let used = cpu().await - before;
    let online = server.get(&format!("{REGISTRY}?status=online&limit=1")).await;
    println!(
        "200 agents ({} online), one sub-task waiting: {:.2} % of a core",
        online.header("x-total-count"),
        used / 0.2
    );
}
