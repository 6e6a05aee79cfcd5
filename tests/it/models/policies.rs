//! Security policies and trust: made, renamed, deleted; updates of trust.

use std::collections::BTreeMap;

use super::*;
use crate::harness::CLIENT;

const POLICIES: &str = "/api/v1/agents/security/policies";
const TRUST: &str = "/api/v1/agents/security/trust-scores";
const NAMES: [&str; 4] = ["north", "east", "south", "west"];

#[derive(Clone, Debug)]
enum Action {
    Create(&'static str, u8),
    CreateBadly(&'static str),
    Change(usize, u8),
    Rename(usize, &'static str),
    ChangeBadly(usize),
    Delete(usize),
    Trust(u8, bool),
    TrustBadly(u8),
    Stranger(&'static str),
}

#[derive(Clone, Debug)]
struct Policy {
    id: String,
    name: &'static str,
    steps: u8,
    gone: bool,
}

#[derive(Default)]
struct Policies {
    all: Vec<Policy>,
    /// Executions that ended well and badly, by entity.
    trust: BTreeMap<u8, (i64, i64)>,
    changed: usize,
    unsure: usize,
}

impl Policies {
    fn taken(&self, name: &str, but: Option<usize>) -> bool {
        self.all.iter().enumerate().any(|(at, policy)| !policy.gone && policy.name == name && Some(at) != but)
    }

    fn of(&self, at: usize, status: u16) -> (String, u16) {
        let policy = &self.all[at];
        (format!("{POLICIES}/{}", policy.id), if policy.gone { 404 } else { status })
    }
}

impl RoomModel for Policies {
    type Action = Action;

    fn choose(&self, random: &mut SmallRng) -> Action {
        let n = random.random_range(1..9);
        let name = *one_of(random, &NAMES).unwrap();
        let at = random.random_range(0..self.all.len().max(1));
        match random.random_range(0..14) {
            _ if self.all.is_empty() => Action::Create(name, n),
            0..4 => Action::Create(name, n),
            4 => Action::CreateBadly(name),
            5 => Action::Change(at, n),
            6 => Action::Rename(at, name),
            7 => Action::ChangeBadly(at),
            8 => Action::Delete(at),
            9..12 => Action::Trust(n % 3, n > 3),
            12 => Action::TrustBadly(n % 3),
            _ => Action::Stranger(name),
        }
    }

    fn ask(&self, action: &Action) -> Ask {
        let create = |name: &str| format!("{POLICIES}?name={name}&security_level=restricted");
        match *action {
            Action::Create(name, n) => {
                let status = if self.taken(name, None) { 409 } else { 200 };
                Ask::post(create(name), json!({"max_workflow_steps": n}), status)
            }
            Action::CreateBadly(name) => Ask::post(create(name), json!({"max_execution_time": 0}), 422),
            Action::Change(at, n) => {
                let (path, status) = self.of(at, 200);
                Ask::put(path, json!({"max_workflow_steps": n}), status)
            }
            Action::Rename(at, name) => {
                let (path, status) = self.of(at, if self.taken(name, Some(at)) { 409 } else { 200 });
                Ask::put(path, json!({"name": name}), status)
            }
            Action::ChangeBadly(at) => {
                Ask::put(self.of(at, 0).0, json!({"max_workflow_steps": 1, "is_active": null}), 422)
            }
            Action::Delete(at) => {
                let (path, status) = self.of(at, 200);
                Ask::delete(path, status, 404)
            }
            Action::Trust(n, good) => {
                let path = format!("{TRUST}/agent/t-{n}/update?execution_success={good}&execution_time=1");
                Ask::post(path, json!({}), 200)
            }
            Action::TrustBadly(n) => Ask::post(
                format!("{TRUST}/agent/t-{n}/update?execution_success=true&execution_time=-1"),
                json!({}),
                422,
            ),
            Action::Stranger(name) => Ask::post(create(name), json!({}), 403).by(CLIENT),
        }
    }

    fn accepted(&mut self, action: &Action, accepted: &Accepted) {
        match *action {
            Action::Create(name, steps) => {
                self.all.push(Policy { id: accepted.body.text("id").to_owned(), name, steps, gone: false });
            }
            Action::Change(at, steps) => self.all[at].steps = steps,
            Action::Rename(at, name) => self.all[at].name = name,
            Action::Delete(at) => self.all[at].gone = true,
            Action::Trust(n, good) => {
                let (well, badly) = self.trust.entry(n).or_default();
                *if good { well } else { badly } += 1;
            }
            _ => panic!("{action:?} was accepted"),
        }
        if let Action::Change(..) | Action::Rename(..) = action {
            self.changed += 1;
            self.unsure += usize::from(accepted.asked_twice);
        }
    }

    async fn compare(&self, server: &ApiClient) {
        let found = list(server, POLICIES).await;
        let found: Vec<Value> =
            found.iter().rev().map(|one| json!([one["id"], one["name"], one["max_workflow_steps"]])).collect();
        let kept = self.all.iter().filter(|policy| !policy.gone);
        let expected: Vec<Value> = kept.map(|policy| json!([policy.id, policy.name, policy.steps])).collect();
        assert_eq!(found, expected);
        let scores: BTreeMap<String, Value> = list(server, TRUST)
            .await
            .iter()
            .filter(|score| score["entity_type"] == "agent")
            .map(|score| {
                let counts = json!([score["successful_executions"], score["failed_executions"]]);
                (score.text("entity_id").to_owned(), counts)
            })
            .collect();
        let expected = self.trust.iter().map(|(n, (well, badly))| (format!("t-{n}"), json!([well, badly])));
        assert_eq!(scores, expected.collect());
        let told = audited(server, "security_policy").await;
        assert_eq!(count(&told, "created"), self.all.len());
        assert_eq!(count(&told, "deleted"), self.all.iter().filter(|policy| policy.gone).count());
        let changed = count(&told, "updated");
        assert!((self.changed..=self.changed + self.unsure).contains(&changed), "{changed} of {}", self.changed);
        let updates: i64 = self.trust.values().map(|(well, badly)| well + badly).sum();
        assert_eq!(audited(server, "trust_score").await.len() as i64, updates);
    }
}

#[tokio::test]
async fn security_policies_and_trust_are_as_the_model_has_them() {
    play(Policies::default(), Server::builder()).await;
}
