//! Sandboxes of executions: created in advance, changed, cleaned up.

use super::*;
use crate::kit::waiting;

const SECURITY: &str = "/api/v1/agents/security";
const EXECUTIONS: usize = 3;

#[derive(Clone, Debug)]
enum Action {
    Create(usize, u64),
    CreateBadly(usize),
    CreateForNobody,
    CleanUp(usize),
}

/// A sandbox that was created.
#[derive(Clone, Debug)]
struct Sandbox {
    megabytes: u64,
    active: bool,
    /// How often it was created or changed, and cleaned up.
    changes: (usize, usize),
}

#[derive(Default)]
struct Sandboxes {
    executions: Vec<String>,
    all: [Option<Sandbox>; EXECUTIONS],
}

impl Sandboxes {
    fn path(&self, at: usize, what: &str) -> String {
        format!("{SECURITY}/sandbox/{}/{what}", self.executions[at])
    }
}

impl RoomModel for Sandboxes {
    type Action = Action;

    async fn prepare(&mut self, server: &ApiClient) {
        let workflow = server.workflow(json!({"w": waiting()})).await;
        for _ in 0..EXECUTIONS {
            self.executions.push(server.execute(&workflow, json!({})).await.text("id").to_owned());
        }
    }

    fn choose(&self, random: &mut SmallRng) -> Action {
        let at = random.random_range(0..EXECUTIONS);
        match random.random_range(0..10) {
            0 => Action::CreateBadly(at),
            1 => Action::CreateForNobody,
            2..5 => Action::CleanUp(at),
            // The level gives 1024 at least, whatever is asked.
            _ => Action::Create(at, random.random_range(16..40) * 64),
        }
    }

    fn ask(&self, action: &Action) -> Ask {
        match *action {
            Action::Create(at, megabytes) => Ask::post(self.path(at, "create"), json!({"memory_mb": megabytes}), 200),
            Action::CreateBadly(at) => Ask::post(self.path(at, "create"), json!({"memory_mb": "much"}), 422),
            Action::CreateForNobody => {
                Ask::post(format!("{SECURITY}/sandbox/exec_none/create"), json!({"memory_mb": 64}), 404)
            }
            Action::CleanUp(at) => {
                let status = if self.all[at].is_some() { 200 } else { 404 };
                Ask::post(self.path(at, "cleanup"), Value::Null, status)
            }
        }
    }

    fn accepted(&mut self, action: &Action, _: &Accepted) {
        match *action {
            Action::Create(at, megabytes) => {
                let new = Sandbox { megabytes, active: true, changes: (0, 0) };
                let sandbox = self.all[at].get_or_insert(new);
                (sandbox.megabytes, sandbox.active) = (megabytes, true);
                sandbox.changes.0 += 1;
            }
            Action::CleanUp(at) => {
                if let Some(sandbox) = &mut self.all[at] {
                    sandbox.active = false;
                    sandbox.changes.1 += 1;
                }
            }
            Action::CreateBadly(_) | Action::CreateForNobody => panic!("{action:?} was accepted"),
        }
    }

    async fn compare(&self, server: &ApiClient) {
        let told = audited(server, "sandbox").await;
        for (at, sandbox) in self.all.iter().enumerate() {
            let shown = server.get(&self.path(at, "monitor")).await;
            let Some(sandbox) = sandbox else {
                assert_eq!(shown.status, 404, "{}", shown.text);
                continue;
            };
            let shown = shown.ok();
            let seen = (shown["memory_limit"].as_f64(), shown["is_active"].as_bool());
            assert_eq!(seen, (Some(sandbox.megabytes as f64), Some(sandbox.active)), "{shown}");
            let of: Vec<_> =
                told.iter().filter(|(_, data)| data["sandbox_id"] == shown["sandbox_id"]).cloned().collect();
            let changed = count(&of, "created") + count(&of, "updated");
            assert_eq!((changed, count(&of, "cleaned")), sandbox.changes, "{of:?}");
            assert_eq!(count(&of, "created"), 1, "{of:?}");
        }
    }
}

#[tokio::test]
async fn sandboxes_are_as_the_model_has_them() {
    play(Sandboxes::default(), Server::builder()).await;
}
