//! A market of simulated agents, through the API of a real process, for a simulated time with crashes.
//!
//! The process's clock is set ahead by half a day again and again. Each half-day it dies at a random commit, is started again, and is
//! killed when the half-day is over. Clients and agents ask again, under the same idempotency key, until
//! they are answered. At the end all that was promised is compared with what the service says, and the books with an account kept
//! here: `ledger verify` must find nothing, and every balance must be the one that follows from the requests.
//!
//! `ECONOMY_AGENTS` and `ECONOMY_HALF_DAYS` choose the size: `make economy-month` has 1000 agents and 60 half-days.

use std::{collections::VecDeque, sync::Mutex};

use am_core::ambient::Clock;
use chrono::TimeDelta;
use futures_util::future::join_all;
use sqlx::AssertSqlSafe;

use super::*;
use crate::{
    harness::{ADMIN, poll_interval},
    kit::{get_as, post_as},
    marketplace::{MARKET, principal},
};

const LEDGER: &str = "/api/v1/agents/ledger";
/// Owners of agents; each has a key of its own, and buys for its agents.
const OWNERS: usize = 12;
/// AIT that each owner begins with.
const FUNDS: i64 = 100_000;
const UNITS: f64 = 100_000_000.0;
/// Clients and agents that ask at once.
const ACTORS: usize = 8;
/// Commits after which a process dies at the latest, and at the earliest.
const COMMITS: std::ops::Range<usize> = 3..30;

struct MonthSize {
    agents: usize,
    half_days: usize,
}

impl MonthSize {
    fn from_environment() -> Self {
        let number = |name: &str, usual: usize| {
            std::env::var(name).map_or(usual, |text| text.parse().expect("a number of agents or half-days"))
        };
        Self { agents: number("ECONOMY_AGENTS", 48), half_days: number("ECONOMY_HALF_DAYS", 8) }
    }
}

fn key_of(owner: usize) -> String {
    format!("market-month-owner-key-{owner:04}")
}

/// What becomes of a request, if nothing comes in between.
#[derive(Clone, Copy, Debug, PartialEq)]
enum StoryPlan {
    Settle,
    /// The client never confirms; time does.
    SettleByTime,
    Reject,
    GiveUp,
    Cancel,
    Expire,
    ExpireAccepted,
    Decide,
    /// Nobody decides; time does.
    DecideByTime,
}

impl StoryPlan {
    const ALL: [Self; 9] = [
        Self::Settle,
        Self::SettleByTime,
        Self::Reject,
        Self::GiveUp,
        Self::Cancel,
        Self::Expire,
        Self::ExpireAccepted,
        Self::Decide,
        Self::DecideByTime,
    ];

    fn steps(self) -> &'static [StoryStep] {
        use StoryStep::{Accept, Cancel, Complete, Create, Decide, Dispute, Rate, Reject, Settle};
        match self {
            Self::Settle => &[Create, Accept, Complete, Settle, Rate],
            Self::SettleByTime => &[Create, Accept, Complete],
            Self::Reject => &[Create, Reject],
            Self::GiveUp => &[Create, Accept, Reject],
            Self::Cancel => &[Create, Cancel],
            Self::Expire => &[Create],
            Self::ExpireAccepted => &[Create, Accept],
            Self::Decide => &[Create, Accept, Complete, Dispute, Decide],
            Self::DecideByTime => &[Create, Accept, Complete, Dispute],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum StoryStep {
    Create,
    Accept,
    Complete,
    Settle,
    Rate,
    Reject,
    Cancel,
    Dispute,
    Decide,
}

/// A request from the point of view of those who take part in it.
#[derive(Debug)]
struct Story {
    number: usize,
    client: usize,
    agent: usize,
    plan: StoryPlan,
    next: usize,
    /// Half-day in which it goes on.
    ready: usize,
    request: Option<String>,
    /// What is asked for until it is answered.
    pending: Option<Value>,
    /// State that the last answer had.
    state: String,
    is_rated: bool,
}

impl Story {
    /// State in which it ends when nothing more is asked for: the one that was reached, or the one to which time leads.
    fn end(&self) -> &'static str {
        match self.plan.steps()[..self.next].iter().rfind(|step| **step != StoryStep::Rate) {
            Some(StoryStep::Settle | StoryStep::Complete) => "settled",
            Some(StoryStep::Reject) => "rejected",
            Some(StoryStep::Cancel) => "cancelled",
            Some(StoryStep::Dispute | StoryStep::Decide) => "resolved",
            _ => "expired",
        }
    }
}

/// Where a story stands after it was told on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum StoryPause {
    /// It waits for a later half-day.
    Waits,
    /// Nothing more is to be asked for.
    Told,
    /// The process died before it answered.
    Unanswered,
}

/// The market as its participants know it.
struct Market {
    agents: Vec<String>,
    /// Service of each agent, in their order.
    services: Vec<String>,
    /// How far the market's clock is ahead.
    lead: TimeDelta,
}

impl Market {
    /// The path, the caller's key and the body of a step.
    fn step(&self, story: &Story, step: StoryStep) -> (String, String, Value) {
        let request = |verb: &str| format!("{MARKET}/requests/{}/{verb}", story.request.as_deref().unwrap_or_default());
        let (client, seller) = (key_of(story.client), key_of(owner_of(story.agent)));
        let n = story.number;
        match step {
            StoryStep::Create => {
                let deadline = Clock::system().now() + self.lead + TimeDelta::hours([30, 40, 80, 200][n % 4]);
                let body = json!({"service_id": self.services[story.agent], "requirements": format!("work {n}"),
                    "budget": format!("{}.{:08}", 1 + n % 7, (n * 7_654_321) % 100_000_000), "deadline": deadline.to_rfc3339()});
                (format!("{MARKET}/requests"), client, body)
            }
            StoryStep::Accept => (request("accept"), seller, json!({"agent_id": self.agents[story.agent]})),
            StoryStep::Complete => (request("complete"), seller, json!({"results": {"number": n}})),
            StoryStep::Settle => (request("settle"), client, json!({})),
            StoryStep::Rate => (request("rating"), client, json!({"rating": 1 + n % 5})),
            StoryStep::Reject => (request("reject"), seller, json!({"reason": "too much to do"})),
            StoryStep::Cancel => (request("cancel"), client, json!({})),
            StoryStep::Dispute => (request("dispute"), client, json!({"reason": "not what was asked for"})),
            StoryStep::Decide => {
                let percent = [0.0, 33.3, 100.0][n % 3];
                (request("decide"), ADMIN.to_owned(), json!({"provider_percent": percent, "reason": "as seen"}))
            }
        }
    }

    /// Tell a story on, until it waits or the process does not answer.
    async fn tell(&self, server: &ApiClient, story: &mut Story, half_day: usize) -> StoryPause {
        while let Some(step) = story.plan.steps().get(story.next).copied() {
            if story.ready > half_day {
                return StoryPause::Waits;
            }
            let (path, caller, fresh) = self.step(story, step);
            let body = story.pending.get_or_insert(fresh).clone();
            let key = format!("story-{}-{step:?}", story.number);
            let Some(answer) = ask_once(server, &path, &caller, &key, &body).await else {
                return StoryPause::Unanswered;
            };
            if answer.status == StatusCode::SERVICE_UNAVAILABLE {
                poll_interval().await;
                continue;
            }
            story.pending = None;
            if answer.status == StatusCode::CONFLICT {
                // Time was faster: it has expired, or was paid or decided by itself, or will be once its turn has come.
                let path = format!("{MARKET}/requests/{}", story.request.as_deref().unwrap());
                let ended = timeout(PATIENCE, ended_once(server, &path)).await;
                let ended = ended.unwrap_or_else(|_| panic!("{step:?} of {story:?}: {}", answer.text));
                return if ended.is_some() { StoryPause::Told } else { StoryPause::Unanswered };
            }
            let document = answer.ok();
            if step == StoryStep::Create {
                story.request = Some(document.text("id").to_owned());
            }
            if step == StoryStep::Rate {
                story.is_rated = true;
            } else {
                story.state = document.text("state").to_owned();
            }
            story.next += 1;
            story.ready = half_day.saturating_add([0, 0, 1, 0, 4][(story.number + story.next) % 5]);
        }
        StoryPause::Told
    }
}

fn owner_of(agent: usize) -> usize {
    agent % OWNERS
}

fn is_final(state: &str) -> bool {
    matches!(state, "settled" | "resolved" | "rejected" | "cancelled" | "expired")
}

/// POST, with a key that says which request it is; none when the process dies before its answer has come whole.
async fn ask_once(server: &ApiClient, path: &str, caller: &str, key: &str, body: &Value) -> Option<Answer> {
    let request = server.client().post(server.url(path)).header("x-api-key", caller).header("idempotency-key", key);
    let response = request.json(body).send().await.ok()?;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.ok()?;
    Some(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text })
}

/// The document at a path for an admin; none when the process dies before.
async fn get_once(server: &ApiClient, path: &str) -> Option<Value> {
    let response = server.request(Method::GET, path).send().await.ok()?;
    assert!(response.status().is_success(), "{path}: {}", response.status());
    response.json().await.ok()
}

/// The request at a path once time has ended it; none when the process dies before.
async fn ended_once(server: &ApiClient, path: &str) -> Option<Value> {
    loop {
        let now = get_once(server, path).await?;
        if is_final(now.text("state")) {
            return Some(now);
        }
        poll_interval().await;
    }
}

/// Register the agents, offer a service of each, and give every owner the same funds.
async fn open_market(server: &ApiClient, agents: usize) -> Market {
    let mut market = Market { agents: Vec::new(), services: Vec::new(), lead: TimeDelta::zero() };
    for agent in 0..agents {
        let (name, key) = (format!("trader-{agent:04}"), key_of(owner_of(agent)));
        let registered = json!({"agent_id": name, "capabilities": ["text_processing"]});
        post_as(server, &key, "/api/v1/agents/registry", registered).await.ok();
        let offer = json!({"agent_id": name, "name": format!("service {agent}"), "description": "what this agent is good at",
            "category": "data_analysis", "tags": ["simulated"], "base_price": format!("0.{:08}", 10_000_000 + agent * 1_003)});
        let service = post_as(server, &key, &format!("{MARKET}/services"), offer).await.ok();
        market.agents.push(name);
        market.services.push(service.text("id").to_owned());
    }
    for owner in 0..OWNERS {
        let deposit = json!({"owner": principal(&key_of(owner)), "amount": FUNDS});
        server.post(&format!("{LEDGER}/deposits"), deposit).await.ok();
    }
    market
}

/// One life of the process: several ask at once until all stories wait or are told, or the process has died. Answers the stories that
/// are to go on, and adds the others to `told`.
async fn live(
    server: &ApiClient,
    market: &Market,
    stories: Vec<Story>,
    half_day: usize,
    told: &mut Vec<Story>,
) -> Vec<Story> {
    let queue = Mutex::new(VecDeque::from(stories));
    let actor = async |_| {
        let mut seen = Vec::new();
        loop {
            let Some(mut story) = queue.lock().unwrap().pop_front() else { return seen };
            let pause = market.tell(server, &mut story, half_day).await;
            seen.push((story, pause));
            if pause == StoryPause::Unanswered {
                return seen;
            }
        }
    };
    let mut left = Vec::new();
    for (story, pause) in join_all((0..ACTORS).map(actor)).await.into_iter().flatten() {
        if pause == StoryPause::Told { told.push(story) } else { left.push(story) }
    }
    left.extend(queue.into_inner().unwrap());
    left
}

/// Check the books while no process serves them.
fn verify_books(dir: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-management"));
    let done = command.args(["ledger", "verify"]).current_dir(dir).env("DATA_DIR", dir).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "the books do not balance:\n{text}");
}

/// An amount of a document in its smallest units; those of this market are exact as floating-point numbers.
fn units(document: &Value, member: &str) -> i64 {
    (document[member].as_f64().unwrap_or_default() * UNITS).round() as i64
}

/// Sum of the balances of all accounts of a key's holder.
async fn wealth(server: &ApiClient, key: &str) -> i64 {
    let path = format!("{LEDGER}/accounts?limit=500&owner={}", principal(key));
    let accounts = get_as(server, key, &path).await.ok();
    let accounts = accounts.as_array().unwrap();
    assert!(accounts.len() < 500, "more accounts than a page has");
    accounts.iter().map(|account| units(account, "balance")).sum()
}

/// What must have become of the money.
struct ExpectedBooks {
    /// Of each owner, with its agents.
    wealth: Vec<i64>,
    fees: i64,
}

/// Wait until time has ended all requests, check that each is what its participants were told, and add up who must have what.
async fn check_requests(server: &ApiClient, told: &[Story]) -> ExpectedBooks {
    let mut books = ExpectedBooks { wealth: vec![FUNDS * UNITS as i64; OWNERS], fees: 0 };
    for story in told {
        let path = format!("{MARKET}/requests/{}", story.request.as_deref().unwrap());
        let ended = timeout(PATIENCE, ended_once(server, &path)).await;
        let document = ended.expect("time did not end the request").expect("the process died");
        assert!(!is_final(&story.state) || document["state"] == story.state, "{story:?}: {document}");
        assert_eq!(document["state"], story.end(), "{story:?}: {document}");
        let (paid, refunded) = (units(&document, "paid"), units(&document, "refunded"));
        assert_eq!(paid + refunded, units(&document, "budget"), "{document}");
        assert_eq!(units(&document, "escrow"), 0, "{document}");
        assert_eq!(document["rating"].is_number(), story.is_rated, "{document}");
        // 2.5 %, half a unit rounded up.
        let fee = (paid * 25 + 500) / 1000;
        assert_eq!(units(&document, "fee"), fee, "{document}");
        books.wealth[story.client] -= paid;
        books.wealth[owner_of(story.agent)] += paid - fee;
        books.fees += fee;
    }
    books
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_trade_with_crashes_and_the_books_balance() {
    let seed = std::env::var("ECONOMY_SEED").map_or(u64::from(std::process::id()), |text| text.parse().unwrap());
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let size = MonthSize::from_environment();
    let keys: Vec<String> = (0..OWNERS).map(key_of).collect();
    // Who registers agents needs an admin's key.
    let settings = [("ADMIN_API_KEYS", format!("{ADMIN},{}", keys.join(","))), ("RATE_LIMIT_REQUESTS", "0".to_owned())];
    let start = settings.iter().fold(Server::builder(), |builder, (name, value)| builder.env(name, value));
    let server = start.start().await;
    let mut market = open_market(&server, size.agents).await;
    let (mut stories, mut told): (Vec<Story>, Vec<Story>) = (Vec::new(), Vec::new());
    let (mut begun, mut deaths, mut next) = (0, 0, server.again());
    for half_day in 0..size.half_days {
        for _ in 0..size.agents.div_ceil(4) {
            let agent = random.random_range(0..size.agents);
            let client = (owner_of(agent) + random.random_range(1..OWNERS)) % OWNERS;
            // Most are paid.
            let plan =
                if random.random_bool(0.5) { StoryPlan::Settle } else { StoryPlan::ALL[random.random_range(0..9)] };
            let (request, pending, state) = (None, None, String::new());
            stories.push(Story {
                number: begun,
                client,
                agent,
                plan,
                next: 0,
                ready: half_day,
                request,
                pending,
                state,
                is_rated: false,
            });
            begun += 1;
        }
        let (point, at) =
            (["db.before_commit", "db.after_commit"][random.random_range(0..2)], random.random_range(COMMITS));
        let lead = 43_200 * half_day;
        market.lead = TimeDelta::seconds(lead as i64);
        let mut builder = next.env("CLOCK_AHEAD_SECONDS", lead).env("FAILPOINTS", format!("{point}={at}*off->return"));
        let server = loop {
            builder = match builder.try_start() {
                Ok(server) => break server,
                Err(builder) => builder.env("FAILPOINTS", format!("{point}={}*off->return", COMMITS.end)),
            };
        };
        let ready = stories.extract_if(.., |story| story.ready <= half_day).collect();
        let mut left = live(&server, &market, ready, half_day, &mut told).await;
        next = server.again();
        // Whoever had no answer asks again on the same day: answers to keys are kept for 24 hours.
        if left.iter().any(|story| story.pending.is_some()) {
            deaths += 1;
            let server = next.env("FAILPOINTS", "").start().await;
            left = live(&server, &market, left, half_day, &mut told).await;
            assert!(left.iter().all(|story| story.pending.is_none()), "{left:?}");
            next = server.again();
        }
        stories.extend(left);
        if half_day % 5 == 4 {
            verify_books(next.dir());
        }
    }
    assert!(deaths >= size.half_days / 5, "the process died {deaths} times only while it was asked: seed {seed}");

    // What was begun is brought to its end; then two months pass, in which time does the rest.
    let lead = 43_200 * size.half_days;
    market.lead = TimeDelta::seconds(lead as i64);
    let server = next.env("CLOCK_AHEAD_SECONDS", lead).env("FAILPOINTS", "").start().await;
    let left = live(&server, &market, stories, usize::MAX, &mut told).await;
    assert!(left.is_empty(), "{left:?}");
    let server = server.again().env("CLOCK_AHEAD_SECONDS", lead + 60 * 86_400).start().await;
    assert_eq!(told.len(), begun);
    let expected = check_requests(&server, &told).await;
    for (owner, expected) in expected.wealth.iter().enumerate() {
        assert_eq!(wealth(&server, &keys[owner]).await, *expected, "owner {owner}: seed {seed}");
    }
    let rows = |table: &'static str| format!("SELECT count(*) FROM {table}");
    let mut conn = open(&server.database()).await;
    for (table, count) in
        [("am_market_requests", begun), ("am_market_ratings", told.iter().filter(|story| story.is_rated).count())]
    {
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(rows(table))).fetch_one(&mut conn).await.unwrap();
        assert_eq!(found as usize, count, "{table}: nothing was lost or done twice: seed {seed}");
    }
    let fees: i64 =
        sqlx::query_scalar("SELECT balance FROM am_ledger_accounts WHERE owner = 'system' AND purpose = 'FEES'")
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!(fees, expected.fees, "seed {seed}");
    conn.close().await.unwrap();
    verify_books(server.again().dir());
}
