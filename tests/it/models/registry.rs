//! Agents: registered, again, by others, offline, gone.

use std::collections::BTreeMap;

use super::*;
use crate::{agents::registry::REGISTRY, harness::OTHER_ADMIN};

const AGENT_IDS: [&str; 4] = ["r-0", "r-1", "r-2", "r-3"];
const OWNERS: [&str; 2] = [ADMIN, OTHER_ADMIN];

#[derive(Clone, Copy, Debug)]
enum Wish {
    Register(u8),
    RegisterBadly,
    Beat(u8),
    BeatBadly,
    Offline,
    Online,
    Change(u8),
    ChangeBadly,
    Deregister,
}

#[derive(Clone, Copy, Debug)]
struct Action {
    agent: &'static str,
    owner: &'static str,
    wish: Wish,
}

#[derive(Debug)]
struct Agent {
    owner: &'static str,
    online: bool,
    cost: u8,
    load: Option<u8>,
}

#[derive(Default)]
struct Registry {
    agents: BTreeMap<&'static str, Agent>,
    events: Vec<(&'static str, &'static str)>,
    changes: usize,
    /// Changes that may have been made twice.
    unsure: usize,
}

impl Registry {
    /// The status where the agent is the caller's.
    fn owned(&self, action: &Action, then: impl FnOnce(&Agent) -> u16) -> u16 {
        match self.agents.get(action.agent) {
            None => 404,
            Some(agent) if agent.owner != action.owner => 403,
            Some(agent) => then(agent),
        }
    }
}

impl RoomModel for Registry {
    type Action = Action;

    fn choose(&self, random: &mut SmallRng) -> Action {
        let n = random.random_range(0..10u8);
        let wish = match random.random_range(0..16) {
            0..4 => Wish::Register(n),
            4 => Wish::RegisterBadly,
            5..7 => Wish::Beat(n),
            7 => Wish::BeatBadly,
            8..10 => Wish::Offline,
            10..12 => Wish::Online,
            12..14 => Wish::Change(n),
            14 => Wish::ChangeBadly,
            _ => Wish::Deregister,
        };
        let owner = OWNERS[usize::from(random.random_ratio(1, 4))];
        Action { agent: AGENT_IDS[random.random_range(0..AGENT_IDS.len())], owner, wish }
    }

    fn ask(&self, action: &Action) -> Ask {
        let path = format!("{REGISTRY}/{}", action.agent);
        let ask = match action.wish {
            Wish::Register(cost) => {
                let status = self.owned(action, |_| 201);
                let status = match status {
                    404 => 201,
                    403 => 409,
                    other => other,
                };
                let body = json!({"agent_id": action.agent, "capabilities": ["io_bound"], "cost_per_hour": cost});
                Ask::post(REGISTRY.into(), body, status)
            }
            Wish::RegisterBadly => {
                let body = json!({"agent_id": action.agent, "capabilities": [], "cost_per_hour": 1});
                Ask::post(REGISTRY.into(), body, 422)
            }
            Wish::Beat(load) => {
                let body = json!({"load": f64::from(load) / 10.0});
                Ask::post(format!("{path}/heartbeat"), body, self.owned(action, |_| 200))
            }
            Wish::BeatBadly => Ask::post(format!("{path}/heartbeat"), json!({"load": 7}), 422),
            Wish::Offline => {
                let status = self.owned(action, |agent| if agent.online { 200 } else { 400 });
                Ask::post(format!("{path}/offline"), json!({}), status)
            }
            Wish::Online => {
                let status = self.owned(action, |agent| if agent.online { 400 } else { 200 });
                Ask::post(format!("{path}/online"), json!({}), status)
            }
            Wish::Change(cost) => Ask::put(path, json!({"cost_per_hour": cost}), self.owned(action, |_| 200)),
            Wish::ChangeBadly => {
                Ask::put(path, json!({"cost_per_hour": 3, "performance": 7}), self.owned(action, |_| 422))
            }
            Wish::Deregister => Ask::delete(path, self.owned(action, |_| 204), 404),
        };
        ask.by(action.owner)
    }

    fn accepted(&mut self, action: &Action, accepted: &Accepted) {
        let mut told = |kind| self.events.push((kind, action.agent));
        let known = self.agents.get_mut(action.agent);
        match (action.wish, known) {
            (Wish::Register(cost), _) => {
                told("agent_registered");
                self.agents.insert(action.agent, Agent { owner: action.owner, online: true, cost, load: None });
            }
            (Wish::Beat(load), Some(agent)) => agent.load = Some(load),
            (Wish::Offline, Some(agent)) => {
                told("agent_offline");
                agent.online = false;
            }
            (Wish::Online, Some(agent)) => {
                told("agent_online");
                agent.online = true;
            }
            (Wish::Change(cost), Some(agent)) => {
                agent.cost = cost;
                self.changes += 1;
                self.unsure += usize::from(accepted.asked_twice);
            }
            (Wish::Deregister, Some(_)) => {
                told("agent_deregistered");
                self.agents.remove(action.agent);
            }
            (wish, known) => panic!("{wish:?} of {known:?} was accepted"),
        }
    }

    async fn compare(&self, server: &ApiClient) {
        let found = list(server, REGISTRY).await;
        let found: BTreeMap<&str, (Value, Value, Value)> = found
            .iter()
            .map(|one| {
                (
                    one.text("agent_id"),
                    (one["status"].clone(), one["cost_per_hour"].clone(), one["reported_load"].clone()),
                )
            })
            .collect();
        let expected = self.agents.iter().map(|(id, agent)| {
            let status = if agent.online { "online" } else { "offline" };
            let load = agent.load.map(|load| f64::from(load) / 10.0);
            (*id, (json!(status), json!(f64::from(agent.cost)), json!(load)))
        });
        assert_eq!(found, expected.collect());
        let page = server.get(&format!("{REGISTRY}/events?format=json&limit=1000")).await.ok();
        let events = page["events"].as_array().unwrap();
        let told: Vec<(&str, &str)> =
            kinds(events).into_iter().zip(events.iter().map(|event| event["data"].text("agent_id"))).collect();
        assert_eq!(told, self.events);
        let audited = audited(server, "agent").await;
        for (kind, action) in [
            ("agent_registered", "registered"),
            ("agent_online", "online"),
            ("agent_offline", "offline"),
            ("agent_deregistered", "deregistered"),
        ] {
            let events = self.events.iter().filter(|(told, _)| *told == kind).count();
            assert_eq!(count(&audited, action), events, "{action}");
        }
        let changes = count(&audited, "updated");
        assert!((self.changes..=self.changes + self.unsure).contains(&changes), "{changes} of {}", self.changes);
    }
}

#[tokio::test]
async fn agents_are_as_the_model_has_them() {
    play(Registry::default(), Server::builder()).await;
}
