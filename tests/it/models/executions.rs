//! Workflows and their executions: made, changed, deleted; started, paused, resumed, cancelled, retried.

use super::*;
use crate::{
    engine::events,
    harness::OTHER_ADMIN,
    jobs::queue,
    kit::{jq, sql, waiting},
};

const WORKFLOWS: &str = "/api/v1/agents/workflows";
const EXECUTIONS: &str = "/api/v1/agents/executions";

/// What comes of a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Quick,
    Failing,
    /// For a miner.
    Waiting,
}

impl Kind {
    fn steps(self) -> Value {
        let mut failing = jq("error(\"x\")");
        failing["max_retries"] = 0.into();
        let last =
            json!({"step_type": "data_processing", "depends_on": ["a"], "action": {"kind": "jq", "program": "2"}});
        match self {
            Self::Quick => json!({"a": jq("1"), "b": last}),
            Self::Failing => json!({"a": failing}),
            Self::Waiting => json!({"a": waiting(), "b": last}),
        }
    }

    fn query(self) -> &'static str {
        if self == Self::Waiting { "" } else { "?wait=20" }
    }
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Create(Kind),
    CreateBadly(u8),
    Change(usize, u8),
    ChangeBadly(usize),
    ChangeOthers(usize),
    Delete(usize),
    Execute(usize),
    ExecuteBadly(usize),
    Do(usize, &'static str),
    DoOthers(usize, &'static str),
    /// A miner has done the job.
    Finish(usize),
}

const VERBS: [&str; 4] = ["pause", "resume", "cancel", "retry"];

#[derive(Debug)]
struct Workflow {
    id: String,
    kind: Kind,
    description: String,
    gone: bool,
    changes: usize,
    /// Changes that may have been made twice.
    unsure: usize,
}

#[derive(Debug)]
struct Run {
    id: String,
    kind: Kind,
    /// Null: it goes on.
    end: Option<&'static str>,
    paused: bool,
    /// What its events tell, in order, but for its steps.
    told: Vec<&'static str>,
}

#[derive(Default)]
struct Executions {
    workflows: Vec<Workflow>,
    runs: Vec<Run>,
}

impl Executions {
    /// What an action on a run is answered with.
    fn verb_status(&self, run: &Run, verb: &str) -> u16 {
        let may = match verb {
            "pause" => run.end.is_none() && !run.paused,
            "resume" => run.end.is_none() && run.paused,
            "cancel" => run.end.is_none(),
            _ => run.end == Some("failed"),
        };
        if may { 200 } else { 400 }
    }
}

impl RoomModel for Executions {
    type Action = Action;

    fn choose(&self, random: &mut SmallRng) -> Action {
        let kind = *one_of(random, &[Kind::Quick, Kind::Failing, Kind::Waiting, Kind::Waiting]).unwrap();
        let n = random.random_range(0..4u8);
        let verb = *one_of(random, &VERBS).unwrap();
        let workflow = random.random_range(0..self.workflows.len().max(1));
        let run = random.random_range(0..self.runs.len().max(1));
        match random.random_range(0..22) {
            _ if self.workflows.is_empty() => Action::Create(kind),
            0..3 => Action::Create(kind),
            3 => Action::CreateBadly(n),
            4 => Action::Change(workflow, n),
            5 => Action::ChangeBadly(workflow),
            6 => Action::ChangeOthers(workflow),
            7 => Action::Delete(workflow),
            8 => Action::ExecuteBadly(workflow),
            9..13 => Action::Execute(workflow),
            _ if self.runs.is_empty() => Action::Execute(workflow),
            13 => Action::DoOthers(run, verb),
            14..16 => match &self.runs[run] {
                Run { kind: Kind::Waiting, end: None, paused: false, .. } => Action::Finish(run),
                _ => Action::Do(run, verb),
            },
            _ => Action::Do(run, verb),
        }
    }

    fn ask(&self, action: &Action) -> Ask {
        let of = |at: usize| (format!("{WORKFLOWS}/{}", self.workflows[at].id), self.workflows[at].gone);
        let alive = |at: usize, status: u16| (of(at).0, if of(at).1 { 404 } else { status });
        match *action {
            Action::Create(kind) => Ask::post(WORKFLOWS.into(), json!({"name": "w", "steps": kind.steps()}), 200),
            Action::CreateBadly(n) => {
                let bad = [
                    json!({"name": "", "steps": Kind::Quick.steps()}),
                    json!({"name": "w", "steps": {"a": {"step_type": "custom", "depends_on": ["a"]}}}),
                    json!({"name": "w", "steps": Kind::Quick.steps(), "max_cost_budget": -1}),
                    json!({"name": "w", "steps": {"a": jq("{")}}),
                ];
                Ask::post(WORKFLOWS.into(), bad[usize::from(n)].clone(), 422)
            }
            Action::Change(at, n) => {
                let (path, status) = alive(at, 200);
                Ask::put(path, json!({"description": n.to_string()}), status)
            }
            Action::ChangeBadly(at) => {
                let (path, status) = alive(at, 422);
                Ask::put(path, json!({"description": "x", "steps": {"a": {"depends_on": ["a"]}}}), status)
            }
            Action::ChangeOthers(at) => Ask::put(of(at).0, json!({"description": "x"}), 404).by(OTHER_ADMIN),
            Action::Delete(at) => {
                let (path, status) = alive(at, 200);
                Ask::delete(path, status, 404)
            }
            Action::Execute(at) => {
                let (path, status) = alive(at, 200);
                Ask::post(
                    format!("{path}/execute{}", self.workflows[at].kind.query()),
                    json!({"inputs": {"x": 1}}),
                    status,
                )
            }
            Action::ExecuteBadly(at) => {
                let (path, status) = alive(at, 422);
                Ask::post(format!("{path}/execute"), json!({"max_cost_budget": -1}), status)
            }
            Action::Do(at, verb) => {
                let run = &self.runs[at];
                let query = if verb == "retry" { "?wait=20" } else { "" };
                Ask::post(format!("{EXECUTIONS}/{}/{verb}{query}", run.id), json!({}), self.verb_status(run, verb))
            }
            Action::DoOthers(at, verb) => {
                Ask::post(format!("{EXECUTIONS}/{}/{verb}", self.runs[at].id), json!({}), 404).by(OTHER_ADMIN)
            }
            Action::Finish(at) => Ask::get(format!("{EXECUTIONS}/{}?wait=20", self.runs[at].id)),
        }
    }

    async fn before(&self, action: &Action, server: &ApiClient) {
        let Action::Finish(at) = *action else { return };
        // Until its job is there, or the server is not.
        let path = format!("{EXECUTIONS}/{}", self.runs[at].id);
        loop {
            let Some(run) = send(server, &Ask::get(path.clone()), "").await else { return };
            if run.body["step_states"]["a"]["status"] == "completed" {
                // By the same action, before its process died.
                return;
            }
            if let Some(job) = run.body["step_states"]["a"]["job_id"].as_str() {
                let done = "state = 'COMPLETED', result = '{\"text\": \"x\"}', receipt = '{\"price\": 0.25}'";
                sql(&server.database(), &format!("UPDATE job SET {done} WHERE id = '{job}'")).await;
                return;
            }
            poll_interval().await;
        }
    }

    fn accepted(&mut self, action: &Action, accepted: &Accepted) {
        match *action {
            Action::Create(kind) => self.workflows.push(Workflow {
                id: accepted.body.text("id").to_owned(),
                kind,
                description: String::new(),
                gone: false,
                changes: 0,
                unsure: 0,
            }),
            Action::Change(at, n) => {
                let workflow = &mut self.workflows[at];
                workflow.description = n.to_string();
                workflow.changes += 1;
                workflow.unsure += usize::from(accepted.asked_twice);
            }
            Action::Delete(at) => self.workflows[at].gone = true,
            Action::Execute(at) => {
                let kind = self.workflows[at].kind;
                let (end, told) = match kind {
                    Kind::Quick => (Some("completed"), vec!["completed"]),
                    Kind::Failing => (Some("failed"), vec!["failed"]),
                    Kind::Waiting => (None, Vec::new()),
                };
                assert!(end.is_none_or(|end| accepted.body["status"] == end), "{}", accepted.body);
                let id = accepted.body.text("id").to_owned();
                self.runs.push(Run { id, kind, end, paused: false, told });
            }
            Action::Do(at, verb) => {
                let run = &mut self.runs[at];
                match verb {
                    "pause" => {
                        run.paused = true;
                        run.told.push("paused");
                    }
                    "resume" => {
                        run.paused = false;
                        run.told.push("resumed");
                    }
                    "cancel" => {
                        (run.end, run.paused) = (Some("cancelled"), false);
                        run.told.push("cancelled");
                    }
                    _ => run.told.extend(["retried", "failed"]),
                }
                assert!(run.end.is_none_or(|end| accepted.body["status"] == end), "{}", accepted.body);
            }
            Action::Finish(at) => {
                assert_eq!(accepted.body["status"], "completed", "{}", accepted.body);
                self.runs[at].end = Some("completed");
                self.runs[at].told.push("completed");
            }
            _ => panic!("{action:?} was accepted"),
        }
    }

    async fn compare(&self, server: &ApiClient) {
        let kept = |of: &Workflow| (of.id.clone(), of.description.clone());
        let mut expected: Vec<_> = self.workflows.iter().filter(|one| !one.gone).map(kept).collect();
        let found = list(server, WORKFLOWS).await;
        let mut found: Vec<(String, String)> =
            found.iter().map(|one| (one.text("id").to_owned(), one.text("description").to_owned())).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        let told = audited(server, "workflow").await;
        assert_eq!(count(&told, "created"), self.workflows.len());
        assert_eq!(count(&told, "deleted"), self.workflows.iter().filter(|one| one.gone).count());
        let changes: usize = self.workflows.iter().map(|one| one.changes).sum();
        let unsure: usize = self.workflows.iter().map(|one| one.unsure).sum();
        assert!((changes..=changes + unsure).contains(&count(&told, "updated")), "{changes} {unsure}: {told:?}");

        let found = list(server, EXECUTIONS).await;
        assert_eq!(ids(&found, "id"), self.runs.iter().rev().map(|run| run.id.clone()).collect::<Vec<_>>());
        for run in &self.runs {
            self.compare_run(server, run).await;
        }
        // No job but those of the runs.
        let jobs = queue(server).await.len();
        let waiting = self.runs.iter().filter(|run| run.kind == Kind::Waiting).count();
        assert!(jobs <= waiting, "{jobs} jobs of {waiting} executions");
    }
}

impl Executions {
    async fn compare_run(&self, server: &ApiClient, run: &Run) {
        let Run { id, kind, end, paused, told } = run;
        if *kind == Kind::Waiting && end.is_none() && !paused {
            server.until(id, |found| found["step_states"]["a"]["job_id"].is_string()).await;
        }
        let found = server.get(&format!("{EXECUTIONS}/{id}")).await.ok();
        match end {
            Some(end) => assert_eq!(found["status"], *end, "{found}"),
            None => assert!(matches!(found.text("status"), "pending" | "running"), "{found}"),
        }
        assert_eq!(found["paused"], *paused, "{found}");
        let events = events(server, id, 1000).await;
        let kinds = kinds(&events);
        let of_run: Vec<&str> = kinds.iter().filter_map(|kind| kind.strip_prefix("execution_")).collect();
        let begun = of_run.iter().filter(|kind| **kind == "started").count();
        assert!(begun == 1 || (begun == 0 && *kind == Kind::Waiting), "{kinds:?}");
        assert_eq!(of_run.into_iter().filter(|kind| *kind != "started").collect::<Vec<_>>(), *told, "{run:?}");
        let path = format!("{AGENTS}/security/audit-logs?execution_id={id}&limit=500");
        let entries = server.get(&path).await.ok();
        for verb in ["paused", "resumed", "retried", "cancelled", "completed", "failed"] {
            let is = |entry: &&Value| {
                let kind = entry.text("event_type");
                let data = &entry["event_data"];
                kind.strip_prefix("execution_") == Some(verb)
                    || (kind == "workflow_updated" && data["resource"] == "execution" && data["action"] == verb)
            };
            let logged = entries.as_array().unwrap().iter().filter(is).count();
            assert_eq!(logged, told.iter().filter(|done| **done == verb).count(), "{verb} of {run:?}: {entries}");
        }
        let queued: Vec<&Value> = events.iter().filter(|event| event["type"] == "job_queued").collect();
        let least = usize::from(*kind == Kind::Waiting && (*end == Some("completed") || (end.is_none() && !paused)));
        let most = usize::from(*kind == Kind::Waiting);
        assert!((least..=most).contains(&queued.len()), "{kinds:?}");
        let rows = queue(server).await;
        for event in queued {
            let state = match end {
                Some("completed") => "COMPLETED",
                Some(_) => "CANCELED",
                None => "QUEUED",
            };
            let row = rows.iter().find(|row| row["id"] == event["data"]["job_id"]);
            assert!(row.is_some_and(|row| row["state"] == state), "{event} {rows:?}");
        }
        if *end == Some("completed") {
            assert_eq!(server.get(&format!("{EXECUTIONS}/{id}/receipt")).await.ok()["verified"], true);
        }
    }
}

#[tokio::test]
async fn executions_are_as_the_model_has_them() {
    play(Executions::default(), Server::builder()).await;
}
