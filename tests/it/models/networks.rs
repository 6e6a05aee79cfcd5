//! Networks: made, ordered anew, run.

use super::*;
use crate::{harness::OTHER_ADMIN, kit::jq};

const NETWORKS: &str = "/api/v1/agents/networks";

#[derive(Clone, Debug)]
enum Action {
    Create(usize),
    CreateBadly(u8),
    Run(usize),
    RunBadly(usize),
    Optimize(usize),
    OptimizeBadly(usize),
    Stranger(usize),
}

#[derive(Default)]
struct Networks {
    workflow: String,
    ids: Vec<String>,
    runs: Vec<String>,
    optimized: usize,
}

impl RoomModel for Networks {
    type Action = Action;

    async fn prepare(&mut self, server: &ApiClient) {
        self.workflow = server.workflow(json!({"a": jq("1")})).await;
    }

    fn choose(&self, random: &mut SmallRng) -> Action {
        let n = random.random_range(0..3);
        let at = random.random_range(0..self.ids.len().max(1));
        match random.random_range(0..10) {
            _ if self.ids.is_empty() => Action::Create(n),
            0..2 => Action::Create(n),
            2 => Action::CreateBadly(n as u8),
            3..6 => Action::Run(at),
            6 => Action::RunBadly(at),
            7 => Action::Optimize(at),
            8 => Action::OptimizeBadly(at),
            _ => Action::Stranger(at),
        }
    }

    fn ask(&self, action: &Action) -> Ask {
        let of = |at: usize, verb: &str| format!("{NETWORKS}/{}/{verb}", self.ids[at]);
        match *action {
            Action::Create(n) => {
                let body = json!({"name": "n", "agents": vec![&self.workflow; n + 1], "coordination": "decentralized"});
                Ask::post(NETWORKS.into(), body, 201)
            }
            Action::CreateBadly(n) => {
                let bad = [
                    json!({"name": ""}),
                    json!({"name": "n", "coordination": "anarchy"}),
                    json!({"name": "n", "agents": ["a", 5]}),
                ];
                Ask::post(NETWORKS.into(), bad[usize::from(n)].clone(), 422)
            }
            Action::Run(at) => Ask::post(of(at, "execute?wait=20"), json!({"task": {"x": 1}}), 200),
            Action::RunBadly(at) => Ask::post(of(at, "execute"), json!({"task": 1, "priority": 7}), 422),
            Action::Optimize(at) => Ask::post(of(at, "optimize"), json!({"objective": "speed"}), 200),
            Action::OptimizeBadly(at) => Ask::post(of(at, "optimize"), json!({"objective": "luck"}), 422),
            Action::Stranger(at) => Ask::post(of(at, "execute"), json!({"task": 1}), 404).by(OTHER_ADMIN),
        }
    }

    fn accepted(&mut self, action: &Action, accepted: &Accepted) {
        match *action {
            Action::Create(_) => self.ids.push(accepted.body.text("id").to_owned()),
            Action::Run(_) => {
                assert_eq!(accepted.body["status"], "completed", "{}", accepted.body);
                self.runs.push(accepted.body.text("id").to_owned());
            }
            Action::Optimize(_) => self.optimized += 1,
            _ => panic!("{action:?} was accepted"),
        }
    }

    async fn compare(&self, server: &ApiClient) {
        let mut found = ids(&list(server, NETWORKS).await, "id");
        let mut expected = self.ids.clone();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        let runs = list(server, &format!("{AGENTS}/executions")).await;
        assert_eq!(ids(&runs, "id"), self.runs.iter().rev().cloned().collect::<Vec<_>>());
        assert!(runs.iter().all(|run| run["status"] == "completed"), "{runs:?}");
        let told = audited(server, "network").await;
        assert_eq!((count(&told, "created"), count(&told, "optimized")), (self.ids.len(), self.optimized));
    }
}

#[tokio::test]
async fn networks_are_as_the_model_has_them() {
    play(Networks::default(), Server::builder()).await;
}
