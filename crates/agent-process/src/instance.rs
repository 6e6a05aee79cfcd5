//! An instance: a process that serves one workflow. It holds no workflow itself: its token names its revision to the service, which
//! runs the revision's snapshot; so what is run survives whatever becomes of the instance.

use std::{
    fs::File,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Response, body::Incoming, header};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    AgentError,
    confine::give_up_files,
    counters::CallCounters,
    http_server::{WholeResponse, serve_calls},
};

/// Bytes of a token at most.
const MAX_TOKEN_BYTES: u64 = 1024;
/// Bytes of a call's body at most, as the service itself takes.
const MAX_BODY_BYTES: usize = 16 << 20;
/// Time limit of a call to the service, which itself answers earlier.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Least memory for data, in MiB: below it the runtime does not start.
const LEAST_MEMORY_MB: u64 = 64;
/// Header of the service's answer with the status of the execution.
const EXECUTION_STATUS: &str = "x-execution-status";
/// Headers of the service's answer that callers get too.
const PASSED_ON: [&str; 2] = [EXECUTION_STATUS, "idempotency-replayed"];
/// Seconds that the service is asked to wait for the end of an execution.
const DEFAULT_WAIT_SECONDS: f64 = 25.0;

/// What an instance serves, and where.
#[derive(Args, Clone, Debug)]
pub struct InstanceArguments {
    /// Id of the workflow.
    #[arg(long, value_name = "ID")]
    pub workflow: String,
    /// Port of 127.0.0.1 to listen on, 1024 to 65535.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1024..))]
    pub port: u16,
    /// File with the token. Without it and --token-fd the token is read from standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "token_fd")]
    pub token_file: Option<PathBuf>,
    /// Open file descriptor with the token: 0, standard input.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=0))]
    pub token_fd: Option<i32>,
    /// Name under which clients know the instance.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub instance: String,
    /// Id of the instance at the service.
    #[arg(long, value_name = "ID", default_value = "")]
    pub kept_id: String,
    /// Revision of the deployment.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub revision: i64,
    /// Address of the service.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8012")]
    pub service: String,
    /// Path that answers health checks, beside `/health`.
    #[arg(long, value_name = "PATH", default_value = "/health")]
    pub health_path: String,
    /// Memory for data in MiB, at least 64; 0: no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub memory_mb: u64,
    /// Run as root, too.
    #[arg(long)]
    pub allow_root: bool,
}

impl InstanceArguments {
    fn read_token(&self) -> Result<String, AgentError> {
        let mut text = String::new();
        let read = match &self.token_file {
            Some(path) => File::open(path).and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut text)),
            None => std::io::stdin().take(MAX_TOKEN_BYTES).read_to_string(&mut text),
        };
        read.map_err(|error| AgentError::of("the token", error))?;
        let token = text.trim();
        match token.len() {
            0 => Err(AgentError("the token is empty".to_owned())),
            _ => Ok(token.to_owned()),
        }
    }
}

struct ServedInstance {
    arguments: InstanceArguments,
    token: String,
    confinement: &'static str,
    counters: CallCounters,
    started: Instant,
    closing: CancellationToken,
    client: reqwest::Client,
    target: String,
}

/// Serve until SIGTERM. Calls under way are answered first.
///
/// # Errors
/// When it would run as root, has no token, or its port is taken.
pub fn run_instance(arguments: InstanceArguments) -> Result<(), AgentError> {
    if rustix::process::geteuid().is_root() && !arguments.allow_root {
        return Err(AgentError("an instance does not run as root".to_owned()));
    }
    if arguments.memory_mb > 0 {
        limit_memory(arguments.memory_mb.max(LEAST_MEMORY_MB)).map_err(|error| AgentError::of("its memory", error))?;
    }
    let token = arguments.read_token()?;
    // Before the files are gone, of which it reads some.
    let client =
        reqwest::Client::builder().timeout(CALL_TIMEOUT).no_proxy().redirect(reqwest::redirect::Policy::none());
    let client = client.build().map_err(|error| AgentError::of("the client", error))?;
    let confinement = give_up_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| AgentError::of("the runtime", error))?;
    let target = format!(
        "{}/api/v1/agents/integration/deployments/instances/{}/execute",
        arguments.service.trim_end_matches('/'),
        arguments.kept_id
    );
    let served = ServedInstance {
        arguments,
        token,
        confinement,
        counters: CallCounters::default(),
        started: Instant::now(),
        closing: CancellationToken::new(),
        client,
        target,
    };
    runtime.block_on(Arc::new(served).serve())
}

/// Let the system refuse more memory for data.
fn limit_memory(mebibytes: u64) -> Result<(), rustix::io::Errno> {
    let wanted = mebibytes.saturating_mul(1 << 20);
    let bytes = getrlimit(Resource::Data).maximum.map_or(wanted, |maximum| maximum.min(wanted));
    setrlimit(Resource::Data, Rlimit { current: Some(bytes), maximum: Some(bytes) })
}

impl ServedInstance {
    async fn serve(self: Arc<Self>) -> Result<(), AgentError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.arguments.port));
        let listener = TcpListener::bind(address).await.map_err(|error| AgentError::of(address, error))?;
        let mut terminated = signal(SignalKind::terminate()).map_err(|error| AgentError::of("SIGTERM", error))?;
        let closing = self.closing.clone();
        tokio::spawn(async move {
            terminated.recv().await;
            closing.cancel();
        });
        let (me, closing) = (self.clone(), self.closing.clone());
        serve_calls(listener, move |request| me.clone().answer(request), closing).await;
        Ok(())
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> WholeResponse {
        let path = request.uri().path();
        if *request.method() == Method::GET && (path == "/health" || path == self.arguments.health_path) {
            return json_answer(200, &self.health());
        }
        match (request.method(), path) {
            (&Method::GET, "/metrics") => self.metrics(&request),
            (&Method::POST, "/invoke") => self.invoke(request).await,
            (_, "/health" | "/metrics" | "/invoke") => fault(405, "method_not_allowed", "This path does not take it"),
            _ => fault(404, "not_found", "There is no such path"),
        }
    }

    fn health(&self) -> Value {
        let counted = self.counters.report();
        json!({
            "status": if self.closing.is_cancelled() { "draining" } else { "healthy" },
            "instance_id": self.arguments.instance,
            "workflow_id": self.arguments.workflow,
            "revision": self.arguments.revision,
            "uptime_seconds": self.started.elapsed().as_secs_f64(),
            "request_count": counted.request_count,
            "error_count": counted.error_count,
            "in_flight": counted.in_flight,
            "confinement": self.confinement,
        })
    }

    fn metrics(&self, request: &Request<Incoming>) -> WholeResponse {
        let accepted =
            request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if accepted.contains("text/plain") || accepted.contains("openmetrics") {
            let text = self.counters.prometheus(self.started.elapsed());
            return answer(200, "text/plain; version=0.0.4", text.into());
        }
        let mut document = json!(self.counters.report());
        document["instance_id"] = json!(self.arguments.instance);
        document["workflow_id"] = json!(self.arguments.workflow);
        document["uptime_seconds"] = json!(self.started.elapsed().as_secs_f64());
        json_answer(200, &document)
    }

    /// Run the workflow once, with the body's inputs.
    async fn invoke(&self, request: Request<Incoming>) -> WholeResponse {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
        if !bool::from(given.as_bytes().ct_eq(self.token.as_bytes())) {
            return fault(401, "unauthorized", "Only the service calls an instance");
        }
        let _guard = self.counters.begin();
        let begun = Instant::now();
        let answered = self.pass_on(request).await;
        let failed_run = answered.headers().get(EXECUTION_STATUS).is_some_and(|status| status == "failed");
        self.counters.count(begun.elapsed(), failed_run || answered.status().is_server_error());
        answered
    }

    async fn pass_on(&self, request: Request<Incoming>) -> WholeResponse {
        let once = request.headers().get("idempotency-key").cloned();
        let wait = request.uri().query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("wait=")));
        let wait: f64 = wait.and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_WAIT_SECONDS);
        let body = match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return fault(400, "incomplete_body", &format!("The body can't be read: {error}")),
        };
        let url = format!("{}?wait={wait}", self.target);
        let mut call = self.client.post(url).bearer_auth(&self.token).header(header::CONTENT_TYPE, "application/json");
        if let Some(once) = once {
            call = call.header("idempotency-key", once);
        }
        let done = async {
            let answered = call.body(body).send().await?;
            let status = answered.status().as_u16();
            let told: Vec<_> =
                PASSED_ON.iter().filter_map(|name| Some((*name, answered.headers().get(*name)?.clone()))).collect();
            Ok::<_, reqwest::Error>((status, told, answered.bytes().await?))
        };
        match done.await {
            Ok((status, told, bytes)) => {
                let mut response = answer(status, "application/json", bytes);
                for (name, value) in told {
                    response.headers_mut().insert(name, value);
                }
                response
            }
            Err(error) if error.is_timeout() => fault(504, "service_timeout", "The service did not answer in time"),
            Err(_) => fault(502, "service_unreachable", "The service does not answer"),
        }
    }
}

fn answer(status: u16, kind: &'static str, body: Bytes) -> WholeResponse {
    let built = Response::builder().status(status).header(header::CONTENT_TYPE, kind).body(Full::new(body));
    built.unwrap_or_else(|_| Response::new(Full::default()))
}

fn json_answer(status: u16, document: &Value) -> WholeResponse {
    answer(status, "application/json", document.to_string().into())
}

fn fault(status: u16, code: &str, detail: &str) -> WholeResponse {
    json_answer(status, &json!({"detail": detail, "code": code}))
}
