//! Opens sockets of agents to a running service and sends messages between pairs of them at a steady rate; each recipient
//! acknowledges what it gets. Prints what it measured as JSON. `scripts/message-load.sh` runs it.
//!
//! A message's times count from when it was due, so that a service that falls behind is not spared.

use std::{
    error::Error,
    io::{Write, stdout},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use futures_util::{SinkExt, StreamExt, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{Mutex, mpsc, watch},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[derive(Parser)]
struct Arguments {
    /// Where the service listens.
    #[arg(long, default_value = "127.0.0.1:8012")]
    address: String,
    /// An admin key.
    #[arg(long)]
    token: String,
    /// Beginning of the agents' names.
    #[arg(long, default_value = "load")]
    names: String,
    /// Sockets to open, an even number: each agent writes to its neighbour.
    #[arg(long, default_value_t = 5000)]
    sockets: usize,
    /// Messages a second.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// For how long they are counted.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// For how long they are sent before that.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// Bytes of a message's content.
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// The service's process, whose memory and processor time are told.
    #[arg(long)]
    pid: Option<u32>,
}

/// What was counted.
#[derive(Default)]
struct Counts {
    stored: AtomicU64,
    came: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    /// Microseconds from when a message was due.
    to_stored: Mutex<Vec<u32>>,
    to_recipient: Mutex<Vec<u32>>,
}

/// What of a frame is looked at.
#[derive(Deserialize)]
struct Frame<'a> {
    r#type: &'a str,
    #[serde(default)]
    message_id: &'a str,
    status: Option<&'a str>,
    r#ref: Option<u64>,
    content: Option<Content>,
}

#[derive(Deserialize)]
struct Content {
    due: u64,
}

/// One agent's socket, and the due times of what it is to send.
struct Agent {
    socket: Socket,
    peer: String,
    orders: mpsc::UnboundedReceiver<u64>,
}

fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let measured = runtime.block_on(run(&arguments))?;
    writeln!(stdout(), "{measured:#}")?;
    Ok(())
}

async fn run(arguments: &Arguments) -> Result<Value> {
    let before = memory(arguments.pid);
    let opening = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let counts = Arc::new(Counts::default());
    let window = Duration::from_secs(arguments.warm_up)..Duration::from_secs(arguments.warm_up + arguments.seconds);
    let (begin, begun) = watch::channel(None::<Instant>);
    let mut orders = Vec::with_capacity(arguments.sockets);
    let mut sockets =
        stream::iter(0..arguments.sockets).map(|n| async move { (n, open(arguments, n).await) }).buffer_unordered(50);
    while let Some((n, socket)) = sockets.next().await {
        let (order, waiting) = mpsc::unbounded_channel();
        orders.push(order);
        let agent = Agent { socket: socket?, peer: arguments.name(n ^ 1), orders: waiting };
        tasks.spawn(serve(agent, counts.clone(), begun.clone(), window.clone(), "x".repeat(arguments.size)));
    }
    drop(sockets);
    let opened = opening.elapsed();
    // What is left of the opening is not the messages' memory.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let with_sockets = memory(arguments.pid);
    let origin = Instant::now();
    begin.send_replace(Some(origin));
    let mut processor = 0.0;
    let mut from = 0.0;
    let (mut sent, mut counting) = (0, false);
    while origin.elapsed() < window.end {
        let due = origin.elapsed();
        if !counting && due >= window.start {
            counting = true;
            from = processor_seconds(arguments.pid);
        }
        while sent as f64 / (arguments.rate as f64) < due.as_secs_f64() {
            let at = sent as f64 / arguments.rate as f64;
            // Neighbours in turn, so that every socket is used.
            let order = &orders[(sent as usize * 7919) % orders.len()];
            order.send((at * 1e6) as u64)?;
            sent += 1;
        }
        processor = processor_seconds(arguments.pid);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let used = processor - from;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = memory(arguments.pid);
    let seconds = arguments.seconds as f64;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let per_socket = with_sockets.zip(before).map(|(with, without)| (with - without) / arguments.sockets as f64);
    Ok(json!({
        "sockets": arguments.sockets,
        "opened_in_s": opened.as_secs_f64(),
        "rate_asked": arguments.rate,
        "seconds": arguments.seconds,
        "content_bytes": arguments.size,
        "stored_a_second": count(&counts.stored) as f64 / seconds,
        "received_a_second": count(&counts.came) as f64 / seconds,
        "refused": count(&counts.refused),
        "sockets_lost": count(&counts.lost),
        "ms_to_stored": quantiles(&mut counts.to_stored.lock().await),
        "ms_to_recipient": quantiles(&mut counts.to_recipient.lock().await),
        "service_cores": used / seconds,
        "service_mb_before": before.map(|kb| kb / 1024.0),
        "service_mb_with_sockets": with_sockets.map(|kb| kb / 1024.0),
        "service_mb_after": after.map(|kb| kb / 1024.0),
        "service_kb_a_socket": per_socket,
    }))
}

impl Arguments {
    fn name(&self, n: usize) -> String {
        format!("{}-{n}", self.names)
    }
}

async fn open(arguments: &Arguments, n: usize) -> Result<Socket> {
    let Arguments { address, token, .. } = arguments;
    let url = format!("ws://{address}/api/v1/agent/messages/stream?agent_id={}&token={token}", arguments.name(n));
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096);
    Ok(connect_async_with_config(url, Some(config), true).await?.0)
}

/// Send what is ordered, read what comes, acknowledge it.
async fn serve(
    agent: Agent,
    counts: Arc<Counts>,
    begun: watch::Receiver<Option<Instant>>,
    window: std::ops::Range<Duration>,
    filling: String,
) {
    let Agent { mut socket, peer, mut orders } = agent;
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(due) = order else { return };
                let content = json!({"due": due, "text": filling});
                let frame = json!({"type": "message", "ref": due, "payload": {"recipient_id": peer, "content": content}});
                if socket.send(Message::text(frame.to_string())).await.is_err() {
                    counts.lost.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
            frame = socket.next() => {
                let Some(Ok(frame)) = frame else {
                    counts.lost.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                let Message::Text(text) = frame else { continue };
                let Some(origin) = *begun.borrow() else { continue };
                if let Some(ack) = heard(&text, origin, &window, &counts).await
                    && socket.send(Message::text(ack)).await.is_err()
                {
                    counts.lost.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

/// Count a frame; of a message, its acknowledgement.
async fn heard(text: &str, origin: Instant, window: &std::ops::Range<Duration>, counts: &Counts) -> Option<String> {
    let frame: Frame = serde_json::from_str(text).ok()?;
    let now = origin.elapsed();
    let counted = |due: u64| {
        let due = Duration::from_micros(due);
        window.contains(&due).then(|| u32::try_from((now.saturating_sub(due)).as_micros()).unwrap_or(u32::MAX))
    };
    match frame.r#type {
        "message" => {
            if let Some(took) = frame.content.and_then(|content| counted(content.due)) {
                counts.came.fetch_add(1, Ordering::Relaxed);
                counts.to_recipient.lock().await.push(took);
            }
            Some(format!(r#"{{"type":"ack","message_id":"{}"}}"#, frame.message_id))
        }
        "handler_acknowledgment" => {
            match frame.status {
                Some("success") => {
                    if let Some(took) = frame.r#ref.and_then(counted) {
                        counts.stored.fetch_add(1, Ordering::Relaxed);
                        counts.to_stored.lock().await.push(took);
                    }
                }
                _ => drop(counts.refused.fetch_add(1, Ordering::Relaxed)),
            }
            None
        }
        _ => None,
    }
}

fn quantiles(times: &mut [u32]) -> Value {
    times.sort_unstable();
    let at = |share: f64| {
        let place = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(place).map(|micros| f64::from(*micros) / 1000.0)
    };
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)})
}

/// Resident memory of a process, in KB.
fn memory(pid: Option<u32>) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid?)).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Processor time that a process has taken, all its threads together.
fn processor_seconds(pid: Option<u32>) -> f64 {
    let read = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid?)).ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        Some(ticks / 100.0)
    };
    read().unwrap_or(0.0)
}
