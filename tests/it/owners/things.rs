//! One thing of each kind, made by the first admin, and how each operation is asked about it.

use std::collections::BTreeMap;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::MARK;
use crate::{
    agents::{plans, registry},
    harness::{ADMIN, ApiClient, CLIENT, OTHER_ADMIN},
    kit::{AGENTS, JsonDocument, fixture, jq, waiting},
    marketplace::{self, MARKET},
    messages, rl,
    services::SERVICES,
};

/// The public key of an agent.
const PUBLIC_KEY: &str = "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8";

/// What each part of a path template names.
pub struct Things(BTreeMap<&'static str, String>);

impl Things {
    /// Make one of each kind with the server's own key.
    pub async fn made(server: &ApiClient) -> Self {
        let mut things = BTreeMap::new();
        let id = |document: &Value, member: &str| document.text(member).to_owned();
        let steps = json!({"a": waiting(), "b": jq(&format!("\"{MARK}\""))});
        let body = json!({"name": "private", "description": MARK, "steps": steps});
        let workflow = server.post(&format!("{AGENTS}/workflows"), body).await.ok();
        let workflow = id(&workflow, "id");
        let execution = server.execute(&workflow, json!({"word": MARK})).await;
        things.insert("execution_id", id(&execution, "id"));
        let body = json!({"filter": {"workflow_id": "agent_00000000"}});
        let begun = server.post(&format!("{AGENTS}/executions/retry"), body).await.ok();
        things.insert("operation_id", id(&begun["operation"], "id"));
        let body = json!({"name": "private", "description": MARK, "agents": [workflow]});
        things.insert("network_id", id(&server.post(&format!("{AGENTS}/networks"), body).await.is(201), "id"));
        things.insert("workflow_id", workflow);

        registry::register(server, "alice", json!({"agent_type": "own", "capabilities": ["io_bound"]})).await;
        // Before it has work, of which it would get one.
        let body = json!({"agent_id": "alice", "agent_type": MARK, "initial_metrics": {"accuracy": 90}});
        server.post(&format!("{}/profiles", crate::performance::PERFORMANCE), body).await.ok();
        server.post(&format!("{AGENTS}/register"), json!({"agent_id": "listed"})).await.ok();
        let sub_task = json!({"task_type": "io_bound", "agent_type": "own"});
        let plan =
            plans::plan(server, json!({"name": "private", "sub_tasks": [sub_task], "inputs": {"word": MARK}})).await;
        plans::execute(server, &plan).await;
        let one = plans::has(server, "alice", 1).await.remove(0);
        things.insert("plan_id", id(&plan, "id"));
        things.insert("assignment_id", id(&one, "assignment_id"));

        let sent = messages::send(server, "alice", "bob", json!({"word": MARK})).await;
        things.insert("message_id", id(&sent, "message_id"));
        let agent = |what: &str| format!("{AGENTS}/alice/{what}");
        let body = json!({"type": "group", "name": "private", "members": ["bob"]});
        things.insert("channel_id", id(&server.post(&agent("channels"), body).await.is(201), "channel_id"));
        let body = json!({"name": "note", "content": {"word": MARK}});
        things.insert("template_id", id(&server.post(&agent("templates"), body).await.is(201), "template_id"));
        let body = json!({"kind": "x25519", "public_key": PUBLIC_KEY});
        things.insert("key_id", id(&server.post(&agent("keys"), body).await.is(201), "key_id"));
        server.post(&agent("contacts"), json!({"contact_id": "carol"})).await.ok();
        server.post(&agent("blocks"), json!({"blocked_id": "mallory"})).await.ok();
        server.post(&agent("learning/enable"), json!({"feedback_source": "sales"})).await.ok();

        let weights = std::fs::read(fixture("vectors/ppo.safetensors")).unwrap();
        rl::upload(server, server.key(), "mine/versions?aliases=mine", weights).await.is(201);
        let state = json!({"state": [0, 0, 0, 0, 0, 0, 0, 0, 0]});
        let act = server.post(&format!("{}/policies/mine/act", rl::RL), state).await.ok();
        things.insert("call_id", id(&act, "call_id"));
        // Before the run that never ends takes the place of trainings.
        crate::performance::optimisation::policy(server, server.key(), "to-tune").await;
        let asked = json!({"policy": "to-tune", "budget": {"trials": 2, "steps": 64}});
        let made = crate::performance::optimisation::optimize(server, server.key(), "alice", asked).await.ok();
        things.insert("optimization_id", id(&made, "optimization_id"));
        let run = server.post(&format!("{}/runs", rl::RL), rl::small(50_000_000)).await.is(201);
        things.insert("run_id", id(&run, "id"));
        let sweep = server.post(&format!("{}/sweeps", rl::RL), rl::sweeps::small(json!({}))).await.is(201);
        things.insert("sweep_id", id(&sweep, "sweep_id"));
        server.post(&format!("{}/environments", rl::RL), rl::environments::walk("walk")).await.is(201);
        let body = json!({"model": "llama-7b", "prompt": MARK});
        things.insert("job_id", id(&server.post(&format!("{SERVICES}/llm/inference"), body).await.is(201), "job_id"));

        let security = |what: &str| format!("{AGENTS}/security/{what}");
        let sandbox = security(&format!("sandbox/{}/create", things["execution_id"]));
        server.post(&sandbox, json!({})).await.ok();
        let policy = server.post(&security("policies?name=shared&security_level=restricted"), json!({})).await.ok();
        things.insert("policy_id", id(&policy, "id"));
        let entries = server.get(&security("audit-logs?limit=1")).await.ok();
        things.insert("audit_id", id(&entries[0], "id"));
        let delivery = server.post(&security("webhooks/ops/test"), json!({})).await.ok();
        things.insert("id", id(&delivery, "id"));
        let cash = json!({"owner": crate::ledger::principal_of(ADMIN), "amount": 100});
        let entry = server.post(&format!("{AGENTS}/ledger/deposits"), cash).await.is(201);
        let lines = entry["lines"].as_array().unwrap();
        let wallet = lines.iter().find(|line| line["purpose"] == "wallet").unwrap();
        things.insert("account_id", id(wallet, "account_id"));
        let cash = json!({"owner": crate::ledger::principal_of(ADMIN), "amount": 1});
        let entry = server.post(&format!("{AGENTS}/ledger/deposits"), cash).await.is(201);
        things.insert("entry_id", id(&entry, "id"));
        let hold = json!({"amount": 10, "reference": "r"});
        let hold = server.post(&format!("{AGENTS}/ledger/holds"), hold).await.is(201);
        things.insert("hold_id", id(&hold, "id"));
        let budget = json!({"name": "own", "scope": "workflow", "subject": "agent_00000000", "limit": 5});
        let budget = server.post(&format!("{AGENTS}/ledger/budgets"), budget).await.is(201);
        things.insert("budget_id", id(&budget, "id"));
        let update = security("trust-scores/agent/alice/update?execution_success=true");
        server.post(&update, json!({})).await.ok();
        marketplace::fund(server, server.key(), 100.0).await;
        marketplace::agent(server, OTHER_ADMIN, "seller").await;
        let service = marketplace::offer(server, OTHER_ADMIN, "seller", json!({})).await;
        let mut asked = marketplace::request_for(&service, 10.0);
        asked["requirements"] = json!(MARK);
        let asked = marketplace::request(server, server.key(), asked).await;
        things.insert("request_id", id(&asked, "id"));
        things.insert("deadline", marketplace::later(&service, 864_000));
        things.insert("service_id", id(&service, "id"));
        let body = json!({"agent_id": "alice", "name": "first guild"});
        things.insert("guild_id", id(&server.post(&format!("{MARKET}/guilds"), body).await.is(201), "id"));

        let creativity = crate::creativity::CREATIVITY;
        let mut body = crate::creativity::draft_of("alice");
        body["creative_domain"] = json!(MARK);
        let capability = server.post(&format!("{creativity}/capabilities"), body).await.ok();
        things.insert("capability_id", id(&capability, "capability_id"));
        let capability = format!("{creativity}/capabilities/{}", things["capability_id"]);
        let text = json!({"text": format!("A {MARK} falls. Nobody hears it.")});
        let corpus = server.post(&format!("{capability}/corpus"), json!({"texts": [text]})).await.ok();
        things.insert("work_id", corpus["added"][0].as_str().unwrap().to_owned());
        server.post(&format!("{capability}/corpus"), crate::creativity::works()).await.ok();
        let enhanced = server.post(&format!("{capability}/enhance"), json!({"training_cycles": 1})).await.ok();
        things.insert("task_id", id(&enhanced, "task_id"));

        let portfolios = crate::portfolio::PORTFOLIOS;
        let rules = json!([{"rule": "drift"}]);
        let body = json!({"name": MARK, "target_allocations": {"AIT": 50, "ETH": 50}, "signal_rules": rules});
        let strategy = server.post(&format!("{portfolios}/strategies"), body).await.is(201)["id"].to_string();
        crate::portfolio::record_prices(server, &[("ETH", 20.0)]).await;
        let body =
            json!({"agent_address": crate::portfolio::new_address(), "strategy_id": strategy.parse::<i64>().unwrap()});
        let portfolio = server.post(portfolios, body).await.is(201)["id"].to_string();
        let body = json!({"amount": 1000, "source": "outside"});
        server.post(&format!("{portfolios}/{portfolio}/deposits"), body).await.ok();
        // Half of it should be ETH, and an alert and a signal say so.
        server.post(&format!("{portfolios}/{portfolio}/snapshots"), json!({})).await.is(201);
        let alert = server.get(&format!("{portfolios}/{portfolio}/alerts")).await.ok()[0]["id"].to_string();
        let signal = server.get(&format!("{portfolios}/{portfolio}/signals")).await.ok()[0]["id"].to_string();
        things.insert("signal_id", signal);
        things.insert("settlement_id", crate::portfolio::insert_settlement(server).await);
        things.extend([("strategy_id", strategy), ("portfolio_id", portfolio), ("alert_id", alert)]);
        let performance = crate::performance::PERFORMANCE;
        crate::performance::resources::put_host(server, "rack-one", crate::performance::resources::host_for(100)).await;
        let body = json!({"agent_id": "alice", "task_requirements": {"note": MARK}});
        let allocation = server.post(&format!("{performance}/resources/allocate"), body).await.ok();
        things.insert("allocation_id", id(&allocation, "allocation_id"));
        let model = crate::performance::meta::trained(server, MARK, json!({})).await;
        things.insert("model_id", id(&model, "model_id"));
        let shown = crate::performance::capabilities::capability(server, "alice").await;
        things.insert("shown_capability_id", id(&shown, "capability_id"));
        let mut sums = crate::performance::suites::sums(MARK);
        sums["description"] = json!(MARK);
        let suite = server.post(&crate::performance::suites::suites(), sums).await.is(201);
        things.insert("suite_id", id(&suite, "id"));
        let suite = format!("{performance}/suites/{}", things["suite_id"]);
        let gate = json!({"policy": "mine", "alias": "gated", "rule": "at_least", "bound": 0.5});
        things.insert("gate_id", id(&server.post(&format!("{suite}/gates"), gate).await.is(201), "id"));
        // The other workflow waits.
        let quick = server.workflow(json!({"a": jq(".a + .b")})).await;
        let body = crate::performance::suites::of_workflow(&quick);
        let evaluation = server.post(&format!("{suite}/evaluate"), body).await.is(201);
        crate::performance::suites::ended(server, &evaluation).await;
        things.insert("evaluation_id", id(&evaluation, "id"));
        let deployment = crate::deployment::make(server, &things["workflow_id"], MARK, json!({})).await;
        things.insert("deployment_alert_id", crate::deployment::raised_alert(server, &deployment, 0xabcdef).await);
        things.insert("instance_id", crate::deployment::stored_instance(server, &deployment).await);
        things.insert("deployment_id", deployment.clone());
        things.insert("config_id", deployment);
        let fixed = [
            ("host_id", "rack-one"),
            ("token", "ETH"),
            ("agent_id", "alice"),
            ("member_id", "bob"),
            ("contact_id", "carol"),
            ("blocked_id", "mallory"),
            ("name", "mine"),
            ("policy", "mine"),
            ("alias", "mine"),
            ("version", "1"),
            ("strategy", "pricing"),
            ("environment", "price_optimization"),
            ("entity_type", "agent"),
            ("entity_id", "alice"),
            ("service_type", "whisper"),
            ("circuit", "openings-v1-1x1"),
            ("number", "0"),
        ];
        things.extend(fixed.map(|(name, value)| (name, value.to_owned())));
        Self(things)
    }

    /// The same with ids that nothing ever had; what is chosen and not drawn stays.
    pub fn nowhere(&self) -> Self {
        let drawn = |(name, id): (&&'static str, &String)| {
            let digits = id.rsplit('_').next().unwrap_or_default();
            let is_drawn = digits.len() > 5 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let last = if id.ends_with('0') { "1" } else { "0" };
            (*name, if is_drawn { format!("{}{last}", &id[..id.len() - 1]) } else { id.clone() })
        };
        Self(self.0.iter().map(drawn).collect())
    }

    /// The path of an operation about these.
    pub fn path(&self, template: &str) -> String {
        let named = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            // Webhooks have names too.
            Some("name") if template.contains("/webhooks/") => "ops".to_owned(),
            // Creative capabilities have ids too.
            Some("capability_id") if template.contains("/performance/") => self.0["shown_capability_id"].clone(),
            // Calibration is of built-in environments.
            Some("environment") if !template.ends_with("/calibration") => "walk".to_owned(),
            // Others are asked about the first one later.
            Some("agent_id") if template.ends_with("/deregister") => "listed".to_owned(),
            Some(name) => self.0.get(name).unwrap_or_else(|| panic!("{template}: say what {name} is")).clone(),
            None => part.to_owned(),
        };
        template.split('/').map(named).collect::<Vec<_>>().join("/")
    }

    /// A text with these ids instead of the others'.
    pub fn renamed(&self, text: &str, others: &Self) -> String {
        let mut text = text.to_owned();
        for (name, id) in &self.0 {
            text = text.replace(&others.0[name], id);
        }
        text
    }

    /// A request that a caller of this role may send; names that must be new have the role in them.
    pub fn request(
        &self,
        server: &ApiClient,
        key: &str,
        role: &str,
        method: &Method,
        template: &str,
    ) -> RequestBuilder {
        let query = match template.strip_prefix(AGENTS).unwrap_or_default() {
            "/integration/deployments/config" => {
                format!("?workflow_id={}&deployment_name={role}", self.0["workflow_id"])
            }
            "/integration/production/deploy" => format!("?workflow_id={}", self.0["workflow_id"]),
            "/integration/deployments/{config_id}/scale" => "?target_instances=1".to_owned(),
            "/messages/inbox" | "/messages/stream" => "?agent_id=alice".to_owned(),
            "/portfolios/prices" if *method == Method::GET => "?token=ETH".to_owned(),
            "/performance/profiles/{agent_id}/timeseries" => "?metric=accuracy".to_owned(),
            "/performance/rl/compare" if *method == Method::GET => "?versions=mine@1,marketplace-ppo".to_owned(),
            "/workflows/{workflow_id}/cancel" => format!("?execution_id={}", self.0["execution_id"]),
            "/security/policies" if *method == Method::POST => format!("?name={role}"),
            "/security/audit-tree/consistency" => "?from=1".to_owned(),
            "/security/executions/{execution_id}/security-monitor" => format!("?workflow_id={}", self.0["workflow_id"]),
            "/security/trust-scores/{entity_type}/{entity_id}/update" => "?execution_success=true".to_owned(),
            other if other.ends_with("/events") => "?format=json".to_owned(),
            _ => String::new(),
        };
        let url = server.url(&format!("{}{query}", self.path(template)));
        let request = server.client().request(method.clone(), url).header("x-api-key", key);
        if matches!(*method, Method::GET | Method::DELETE) {
            return request;
        }
        if (template.ends_with("/versions") && !template.contains("/suites/")) || template.ends_with("/import") {
            let kind = if template.ends_with("/import") { "application/x-ndjson" } else { "application/octet-stream" };
            return request.header("content-type", kind).body("no file");
        }
        request.json(&self.body(role, method, template))
    }

    fn body(&self, role: &str, method: &Method, template: &str) -> Value {
        let content = json!({"word": role});
        match template.strip_prefix(AGENTS).unwrap_or(template) {
            "/workflows" => json!({"name": role, "steps": {"a": jq("1")}}),
            "/networks" => json!({"name": role}),
            "/plans" => json!({"name": role, "task_types": ["io_bound"]}),
            "/registry" => json!({"agent_id": format!("new-{role}"), "capabilities": ["io_bound"]}),
            "/register" => json!({"agent_id": format!("listed-{role}")}),
            "/{agent_id}/status" => json!({"status": "active"}),
            "/networks/{network_id}/execute" => json!({"task": {"x": 1}}),
            "/receipts/verify" => json!({"receipt": {}}),
            "/integration/integrations/zk/verify" => crate::proofs::nowhere(),
            "/security/webhooks" => json!({"url": "https://example.com/hook", "events": ["test"]}),
            "/portfolios" => {
                let strategy = self.0["strategy_id"].parse::<i64>().unwrap();
                json!({"agent_address": crate::portfolio::new_address(), "strategy_id": strategy})
            }
            "/portfolios/backtest" => json!({"tokens": ["ETH", "BTC"], "method": "risk_parity"}),
            "/portfolios/optimize" => json!({"tokens": ["ETH", "BTC"], "method": "risk_parity"}),
            "/portfolios/prices" => json!({"token": "ETH", "price": 20}),
            "/portfolios/prices/bulk" => json!({"prices": [{"token": "ETH", "price": 20}]}),
            "/portfolios/strategies" | "/portfolios/strategies/{strategy_id}" => {
                json!({"name": role, "target_allocations": {"AIT": 50, "ETH": 50}})
            }
            "/portfolios/{portfolio_id}/assets" => json!({"token_symbol": "SOL"}),
            "/portfolios/{portfolio_id}/deposits" | "/portfolios/{portfolio_id}/withdrawals" => {
                json!({"amount": 1, "source": "outside"})
            }
            "/portfolios/{portfolio_id}/quotes" | "/portfolios/{portfolio_id}/trades" => {
                json!({"sell_token": "AIT", "buy_token": "ETH", "sell_amount": 1})
            }
            "/portfolios/{portfolio_id}/rebalances" | "/portfolios/{portfolio_id}/signals/{signal_id}/rebalance" => {
                json!({"dry_run": true})
            }
            "/portfolios/{portfolio_id}/stress" => json!({"scenarios": [{"name": "x", "shocks": {"ETH": -0.5}}]}),
            "/executions/retry" | "/executions/cancel" => json!({"filter": {"workflow_id": "agent_00000000"}}),
            "/ledger/deposits" | "/ledger/withdrawals" => {
                json!({"owner": crate::ledger::principal_of(ADMIN), "amount": 1})
            }
            "/ledger/transfers" => {
                json!({"from_owner": crate::ledger::principal_of(ADMIN), "to_owner": crate::ledger::principal_of(CLIENT), "amount": 1})
            }
            "/ledger/holds" => {
                json!({"owner": crate::ledger::principal_of(ADMIN), "amount": 1, "reference": role})
            }
            "/ledger/holds/{hold_id}/capture" => {
                json!({"to_owner": crate::ledger::principal_of(CLIENT), "amount": 1, "release_rest": false})
            }
            "/ledger/budgets" => {
                json!({"name": role, "scope": "workflow", "subject": "agent_00000000", "limit": 1})
            }
            "/ledger/budgets/{budget_id}" => json!({"limit": 7}),
            "/messages/send" => json!({"sender": "alice", "recipient": "bob", "content": content}),
            "/messages/broadcast" => json!({"sender": "alice", "topic": "t", "content": content}),
            "/messages/subscribe" | "/messages/unsubscribe" => json!({"agent_id": "alice", "topic": "t"}),
            "/security/audit-logs" => json!({"event_type": "step_failed"}),
            "/{agent_id}/keys" => json!({"kind": "x25519", "public_key": PUBLIC_KEY}),
            "/{agent_id}/contacts" => json!({"contact_id": "dave"}),
            "/{agent_id}/blocks" => json!({"blocked_id": "mallory"}),
            "/{agent_id}/templates" => json!({"name": role, "content": content}),
            "/{agent_id}/payments" => json!({"message_ids": [self.0["message_id"]], "payment_status": "paid"}),
            "/{agent_id}/channels" => json!({"type": "group", "members": ["bob"]}),
            "/{agent_id}/channels/{channel_id}/members" => json!({"agent_id": "dave"}),
            "/{agent_id}/channels/{channel_id}/messages" => json!({"content": content}),
            other if other.starts_with("/creativity/") => crate::creativity::body_of("alice", other),
            "/{agent_id}/learning/train" => {
                json!({"feedback": [{"state": [0, 0, 0, 0, 0, 0, 0, 0, 0], "action": 1, "reward": 0.5}], "epochs": 1})
            }
            other if other.contains("/assignments/{") => match other.rsplit('/').next().unwrap() {
                "progress" => json!({"attempt": 1, "progress": 5}),
                "result" => json!({"attempt": 1, "result": {"x": 1}}),
                "fail" => json!({"attempt": 1, "error": "no"}),
                _ => json!({"attempt": 1}),
            },
            "/integration/production/deploy" => {
                json!({"deployment_config": {"deployment_name": format!("own-{role}")}})
            }
            "/integration/deployments/alerts/{deployment_alert_id}/silence" => json!({"seconds": 60}),
            "/performance/meta-learning/models" => crate::performance::meta::draft(role, &json!({})),
            "/performance/meta-learning/models/{model_id}/adapt" => json!({"draw": 1}),
            "/performance/capabilities" => crate::performance::capabilities::draft("alice"),
            "/performance/capabilities/{capability_id}/evidence" => {
                json!({"kind": "execution", "id": self.0["execution_id"]})
            }
            "/performance/suites" => crate::performance::suites::sums(role),
            "/performance/suites/{suite_id}/versions" => {
                json!({"cases": crate::performance::suites::sums(role)["cases"]})
            }
            "/performance/suites/{suite_id}/evaluate" => {
                crate::performance::suites::of_workflow(&self.0["workflow_id"])
            }
            "/performance/suites/{suite_id}/gates" => {
                json!({"policy": "mine", "alias": "gated", "rule": "not_worse", "bound": 0.5})
            }
            "/performance/optimization/optimize" => crate::performance::optimisation::request("alice", json!({})),
            "/performance/resources/allocate" => json!({"agent_id": "alice", "task_requirements": {}}),
            "/performance/profiles" => json!({"agent_id": "alice"}),
            "/performance/profiles/{agent_id}/metrics" => json!({"metrics": {"accuracy": 91}}),
            "/performance/resources/plan" => json!({"requests": [{"task_requirements": {}}]}),
            "/performance/capacity/hosts/{host_id}" => crate::performance::resources::host_for(100),
            "/performance/rl/environments" => rl::environments::walk(role),
            "/performance/rl/runs" => rl::small(64),
            "/performance/rl/runs/{run_id}" => json!({"name": role, "tags": [role]}),
            "/performance/rl/sweeps" => rl::sweeps::small(json!({})),
            "/performance/rl/compare" => {
                json!({"versions": ["mine@1", "marketplace-ppo"], "environment": "price_optimization", "episodes": 1, "seeds": [0, 1]})
            }
            "/performance/rl/policies/{name}/aliases/{alias}" if *method == Method::PUT => json!({"version": 1}),
            "/performance/rl/policies/{name}/split" => json!({"canary": {"version": 1, "share": 0.5}}),
            "/performance/rl/policies/{policy}/act" => json!({"state": [0, 0, 0, 0, 0, 0, 0, 0, 0]}),
            "/performance/rl/policies/{policy}/act/{call_id}/outcome" => json!({"reward": 1}),
            "/performance/rl/policies/{policy}/evaluate" => json!({"environment": "price_optimization", "episodes": 1}),
            "/performance/rl/strategies/{strategy}/optimize" => json!({"policy": "mine", "steps": 64}),
            "/performance/rl/strategies/{strategy}/evaluate" => json!({"policy": "mine", "episodes": 1}),
            "/performance/rl/strategies/{strategy}/deploy" => json!({"policy": "mine"}),
            // Streams until the job's end: only who may ask is looked at.
            "/api/v1/services/llm/stream" => json!({}),
            other if other.starts_with(MARKET) => self.market_body(role, method, other),
            other if other.starts_with(SERVICES) => crate::services::good(other).1,
            _ => json!({}),
        }
    }

    /// The same for the marketplace.
    fn market_body(&self, role: &str, method: &Method, template: &str) -> Value {
        match template.strip_prefix(MARKET).unwrap() {
            "/services" => marketplace::offer_of("alice"),
            "/services/{service_id}" => json!({"tags": [role]}),
            "/requests" => {
                let deadline = &self.0["deadline"];
                json!({"service_id": self.0["service_id"], "requirements": role, "budget": 5, "deadline": deadline})
            }
            "/guilds" => json!({"agent_id": "alice", "name": format!("guild of {role}")}),
            "/guilds/{guild_id}" => json!({"description": role}),
            "/guilds/{guild_id}/members" => json!({"agent_id": "seller"}),
            "/guilds/{guild_id}/members/{agent_id}" => json!({"role": "leader"}),
            "/guilds/{guild_id}/payouts" => json!({"agent_id": "alice", "amount": 1}),
            other if *method == Method::POST => marketplace::body_of(other.rsplit('/').next().unwrap()),
            other => panic!("{method} {other} is not tried: say how it is asked"),
        }
    }
}
