//! Rooms against models in memory: requests at random, bad ones among them, to a process that dies at random points. What
//! is refused must leave nothing, what is asked again must be answered as before, and nothing acknowledged may be lost.

mod api_keys;
mod executions;
mod jobs;
mod keys;
mod networks;
mod policies;
mod registry;
mod sandboxes;
mod webhooks;

use std::fmt::Debug;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agents::refusals::TableDigests,
    engine::kinds,
    harness::{ADMIN, Answer, ApiClient, Builder, Server, poll_interval},
    kit::{AGENTS, JsonDocument as _},
};

/// Deaths, each followed by a start and a time without one.
const ROUNDS: usize = 3;
/// Requests before a process is killed that has not died by itself.
const DEADLY: usize = 16;
/// Requests between a start and the next death.
const CALM: usize = 12;
/// Times that a refused request is sent before it counts as one that leaves something.
const ATTEMPTS: usize = 3;

/// A request, and what the model expects of it.
#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    path: String,
    body: Option<Value>,
    /// API key of the caller.
    caller: &'static str,
    status: u16,
    /// Status of a repetition of a request whose answer was lost, where no key says that it is one.
    repeated: u16,
}

impl Ask {
    fn new(method: Method, path: String, body: Option<Value>, status: u16) -> Self {
        Self { method, path, body, caller: ADMIN, status, repeated: status }
    }

    fn get(path: String) -> Self {
        Self::new(Method::GET, path, None, 200)
    }

    fn post(path: String, body: Value, status: u16) -> Self {
        Self::new(Method::POST, path, Some(body), status)
    }

    fn put(path: String, body: Value, status: u16) -> Self {
        Self::new(Method::PUT, path, Some(body), status)
    }

    fn delete(path: String, status: u16, repeated: u16) -> Self {
        Self { repeated, ..Self::new(Method::DELETE, path, None, status) }
    }

    fn by(self, caller: &'static str) -> Self {
        Self { caller, ..self }
    }

    fn is_refused(&self) -> bool {
        self.status >= 400
    }

    /// Whether it would be accepted, and is not what `done` was.
    fn is_another(&self, done: &Self) -> bool {
        let same = (&self.path, &self.body, self.caller) == (&done.path, &done.body, done.caller);
        self.method == Method::POST && !self.is_refused() && self.caller == done.caller && !same
    }
}

/// What is known of the answer to an accepted request.
struct Accepted {
    body: Value,
    /// Whether an answer to it was lost before: without a key it may have been done twice.
    asked_twice: bool,
}

/// A room: its requests, and what should be there after those that were accepted.
trait RoomModel {
    type Action: Clone + Debug;

    /// Make what the actions need, while the process is not to die.
    async fn prepare(&mut self, _: &ApiClient) {}

    fn choose(&self, random: &mut SmallRng) -> Self::Action;

    fn ask(&self, action: &Self::Action) -> Ask;

    /// What others do before it; it may be done twice, and the process may have died.
    async fn before(&self, _: &Self::Action, _: &ApiClient) {}

    fn accepted(&mut self, action: &Self::Action, accepted: &Accepted);

    /// Compare what the API and the tables show with the model.
    async fn compare(&self, server: &ApiClient);
}

/// A room's model, and what was asked of the service.
struct Play<M: RoomModel> {
    model: M,
    random: SmallRng,
    /// Number of requests so far: each has a key of its own.
    asked: usize,
    /// The request whose answer was lost, with its key.
    lost: Option<(M::Action, Ask, String)>,
    /// What was done with a key.
    done: Option<(Ask, String)>,
}

/// The answer; none when the server dies before it has come whole.
async fn send(server: &ApiClient, ask: &Ask, key: &str) -> Option<Answer> {
    let mut request =
        server.client().request(ask.method.clone(), server.url(&ask.path)).header("x-api-key", ask.caller);
    if ask.method == Method::POST {
        request = request.header("idempotency-key", key);
    }
    if let Some(body) = &ask.body {
        request = request.json(body);
    }
    let response = request.send().await.ok()?;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.ok()?;
    Some(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text })
}

/// The same answer, but for what is computed anew each time.
fn lasting(mut body: Value) -> Value {
    if let Some(members) = body.as_object_mut() {
        for name in ["request_id", "estimate", "estimated_completion", "estimated_total_cost", "waiting_for", "inputs"]
        {
            members.shift_remove(name);
        }
        for state in
            members.get_mut("step_states").and_then(Value::as_object_mut).into_iter().flat_map(|all| all.values_mut())
        {
            state.as_object_mut().map(|state| state.shift_remove("waiting_for"));
        }
    }
    body
}

impl<M: RoomModel> Play<M> {
    /// One request. Answers whether the server lives.
    async fn step(&mut self, server: &ApiClient, digests: Option<&mut TableDigests>) -> bool {
        let (action, ask, key, asked_twice) = match self.lost.take() {
            Some((action, ask, key)) => (action, ask, key, true),
            None => {
                let action = self.model.choose(&mut self.random);
                let ask = self.model.ask(&action);
                self.asked += 1;
                (action, ask, format!("k-{}", self.asked), false)
            }
        };
        self.model.before(&action, server).await;
        if let Some(digests) = digests.filter(|_| ask.is_refused()) {
            check_refusal(server, digests, &ask, &key).await;
            return true;
        }
        // It is not taken for another that was asked before.
        let reused = self.done.as_ref().filter(|(done, _)| ask.is_another(done));
        if let Some((_, reused)) = reused.filter(|_| self.random.random_ratio(1, 4)) {
            let Some(refused) = send(server, &ask, reused).await else {
                self.lost = Some((action, ask, key));
                return false;
            };
            assert_eq!(refused.body["code"], "idempotency_key_reused", "{ask:?}: {}", refused.text);
        }
        let Some(answer) = send(server, &ask, &key).await else {
            self.lost = Some((action, ask, key));
            return false;
        };
        let status = answer.status.as_u16();
        let expected = if asked_twice { [ask.status, ask.repeated] } else { [ask.status; 2] };
        assert!(
            expected.contains(&status),
            "{action:?} {ask:?} (asked twice: {asked_twice}): {status} {}",
            answer.text
        );
        if ask.is_refused() {
            return true;
        }
        let first = lasting(answer.body.clone());
        self.model.accepted(&action, &Accepted { body: answer.body, asked_twice });
        if ask.method != Method::POST {
            return true;
        }
        if self.random.random_ratio(1, 3) {
            let Some(again) = send(server, &ask, &key).await else { return false };
            assert_eq!(again.header("idempotency-replayed"), "true", "{action:?}: {}", again.text);
            assert_eq!((again.status.as_u16(), lasting(again.body)), (status, first), "{action:?}");
        }
        self.done = Some((ask, key));
        true
    }

    /// Until the server dies, or is killed.
    async fn die(&mut self, builder: Builder) -> Builder {
        let points = ["db.before_commit", "db.after_commit"];
        let point = points[self.random.random_range(0..points.len())];
        let passages = self.random.random_range(2..40);
        let server = match builder.env("FAILPOINTS", format!("{point}={passages}*off->return")).try_start() {
            Ok(server) => server,
            Err(builder) => return builder,
        };
        for _ in 0..DEADLY {
            if !self.step(&server, None).await {
                break;
            }
        }
        server.again()
    }
}

/// Send what is to be refused, and look whether it left something. What was accepted before may still go on in the
/// background: what a refusal leaves, it leaves each time.
async fn check_refusal(server: &ApiClient, digests: &mut TableDigests, ask: &Ask, key: &str) {
    let mut left = String::new();
    for _ in 0..ATTEMPTS {
        let before = digests.settled().await;
        let answer = send(server, ask, key).await.unwrap();
        assert_eq!(answer.status.as_u16(), ask.status, "{ask:?}: {}", answer.text);
        let after = digests.read().await;
        let Some(table) = after.keys().find(|table| before[*table] != after[*table]) else { return };
        left = format!("{ask:?} changed {table}: {}\n=> {}", before[table], after[table]);
    }
    panic!("{left}");
}

/// The seed where `SEED` gives none.
const DEFAULT_SEED: u64 = 20_261_129;

/// The seed of this run, printed.
fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(DEFAULT_SEED);
    eprintln!("SEED={seed}");
    seed
}

/// Play a room to its end. `SEED` plays it otherwise, or repeats what went wrong, as far as the machine lets it.
async fn play(model: impl RoomModel, builder: Builder) {
    let seed = seed();
    let mut play = Play { model, random: SmallRng::seed_from_u64(seed), asked: 0, lost: None, done: None };
    let mut server = builder.start().await;
    play.model.prepare(&server).await;
    for _ in 0..ROUNDS {
        server = play.die(server.again()).await.env("FAILPOINTS", "").start().await;
        if play.lost.is_some() {
            assert!(play.step(&server, None).await);
        }
        play.model.compare(&server).await;
        let mut digests = TableDigests::open(&server).await;
        for _ in 0..CALM {
            assert!(play.step(&server, Some(&mut digests)).await, "it died by itself");
        }
        play.model.compare(&server).await;
    }
}

/// One of these.
fn one_of<'a, T>(random: &mut SmallRng, all: &'a [T]) -> Option<&'a T> {
    (!all.is_empty()).then(|| &all[random.random_range(0..all.len())])
}

/// The list at this path, and its ids.
async fn list(server: &ApiClient, path: &str) -> Vec<Value> {
    let answer = server.get(&format!("{path}?limit=500")).await;
    let total = answer.header("x-total-count").to_owned();
    let list = answer.ok().as_array().unwrap().clone();
    assert_eq!(total, list.len().to_string(), "{path}");
    list
}

fn ids(list: &[Value], member: &str) -> Vec<String> {
    list.iter().map(|one| one.text(member).to_owned()).collect()
}

/// The audit log's changes of this resource: the action and the rest.
async fn audited(server: &ApiClient, resource: &str) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    for kind in ["workflow_created", "workflow_updated", "workflow_deleted"] {
        let path = format!("{AGENTS}/security/audit-logs?event_type={kind}&limit=500");
        let entries = server.get(&path).await.ok();
        let entries = entries.as_array().unwrap();
        assert!(entries.len() < 500, "the log has more than is looked at");
        let data = entries.iter().map(|entry| &entry["event_data"]).filter(|data| data["resource"] == resource);
        told.extend(data.map(|data| (data.text("action").to_owned(), data.clone())));
    }
    told
}

fn count(told: &[(String, Value)], action: &str) -> usize {
    told.iter().filter(|(done, _)| done == action).count()
}

/// Until `done` answers true.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while !done().await {
        assert!(std::time::Instant::now() < deadline, "it never came: {what}");
        poll_interval().await;
    }
}
