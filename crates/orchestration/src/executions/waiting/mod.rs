//! What an open execution and its steps wait for, as far as rows say: a miner, an agent, training, the time of a retry, a place.

mod store;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::store::step_states;
use crate::{
    assignments::{AssignmentState, is_assignment_id},
    engine::Engine,
    error::Result,
    run::Execution,
};
use am_core::ids::{AgentId, ExternalTaskId, JobId};
use am_db::{
    Database,
    codec::{JsonText, Timestamp},
};
use am_jobs::JobWait;
use am_rl::runs::{RunStatus, is_run_id};
use store::{AssignmentWaitRow, TrainingWaitRow};

/// Steps of one execution whose waits are looked up.
const MAX_WAITS: usize = 200;

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitKind {
    /// The execution is in the queue, until a worker has a place for it.
    Place,
    /// The execution is paused, until it is resumed.
    Resume,
    /// No miner has taken the step's job yet.
    Miner,
    /// A miner works on the step's job.
    Job,
    /// No agent does the step's assignment yet, or one works on it.
    Agent,
    /// The step's training run is queued, paused, or trains.
    Training,
    /// The execution waits until a budget has room for it.
    Budget,
    /// The step's last attempt failed, and the time of the next has not come.
    Timer,
}

/// What an execution or a step waits for.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct WaitingFor {
    /// What it waits for.
    pub kind: WaitKind,
    /// Why, in words.
    pub reason: String,
    /// Key of the step that waits; null: the execution itself.
    pub step: Option<String>,
    /// Since when; null: not known.
    pub since: Option<Timestamp>,
    /// Until when it waits at the longest; null: not known.
    pub until: Option<Timestamp>,
    /// Id of the job, assignment or training run; null: none.
    #[schema(value_type = Option<String>)]
    pub job_id: Option<ExternalTaskId>,
    /// Agent that has the assignment; null: none, or it waits for something else.
    #[schema(value_type = Option<String>)]
    pub agent_id: Option<AgentId>,
    /// Position, from 1: of a job in the coordinator's queue, or of an execution among those of the same owner; null: not known,
    /// or it is in no queue.
    pub queue_position: Option<u64>,
    /// Miners that announce what the job requires, busy or not: with 0 nobody can take it; null: not known, or it waits for no
    /// miner.
    pub matching_miners: Option<u64>,
}

/// What an execution and its steps wait for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecutionWaits {
    /// What keeps the whole execution: the wait of the step that has waited longest, unless another step is at work; `None`:
    /// it waits for nothing.
    pub execution: Option<WaitingFor>,
    /// Waits of steps by key.
    pub steps: BTreeMap<String, WaitingFor>,
}

impl ExecutionWaits {
    /// Whether the end can't be estimated, because a job waits for a miner.
    pub fn hides_end(&self) -> bool {
        self.steps.values().any(|wait| wait.kind == WaitKind::Miner)
    }

    /// Whether nobody can take a job that a step waits for.
    pub fn lacks_miner(&self) -> bool {
        self.steps.values().any(|wait| wait.kind == WaitKind::Miner && wait.matching_miners == Some(0))
    }

    /// The states of steps, each with what it waits for as `waiting_for`.
    pub fn add_to_states(&self, states: JsonText) -> JsonText {
        if self.steps.is_empty() {
            return states;
        }
        let Ok(Some(Value::Object(mut members))) = states.parse::<Value>() else { return states };
        for (key, wait) in &self.steps {
            if let (Some(Value::Object(state)), Ok(wait)) = (members.get_mut(key), serde_json::to_value(wait)) {
                state.insert("waiting_for".to_owned(), wait);
            }
        }
        JsonText::from_value(&members).unwrap_or(states)
    }
}

impl WaitingFor {
    fn new(kind: WaitKind, reason: impl Into<String>, since: Option<Timestamp>) -> Self {
        Self {
            kind,
            reason: reason.into(),
            step: None,
            since,
            until: None,
            job_id: None,
            agent_id: None,
            queue_position: None,
            matching_miners: None,
        }
    }

    fn for_job(wait: &JobWait) -> Self {
        let (kind, reason) = match (wait.is_taken, wait.matching_miners) {
            (true, _) => (WaitKind::Job, "A miner works on the job"),
            (false, Some(0)) => (WaitKind::Miner, "No miner announces what the job requires"),
            (false, _) => (WaitKind::Miner, "No miner has taken the job yet"),
        };
        Self {
            queue_position: wait.position.map(|position| position as u64),
            matching_miners: wait.matching_miners.map(|miners| miners as u64),
            ..Self::new(kind, reason, Some(wait.since))
        }
    }

    fn for_assignment(row: &AssignmentWaitRow) -> Self {
        let (reason, since) = match row.state {
            AssignmentState::Offered => ("An agent was asked and has not answered yet", row.offered_at),
            AssignmentState::Accepted => ("An agent works on the assignment", row.accepted_at),
            _ => ("No agent that could do it is free", Some(row.placed_at)),
        };
        let holder = row.agent_id.clone().filter(|_| row.state.is_held());
        Self { agent_id: holder, until: Some(row.deadline), ..Self::new(WaitKind::Agent, reason, since) }
    }

    fn for_training(row: &TrainingWaitRow) -> Self {
        let reason = match row.status {
            RunStatus::Queued => "The training run is in the queue",
            RunStatus::Paused => "The training run is paused",
            _ => "The training run trains",
        };
        Self::new(WaitKind::Training, reason, Some(row.created_at))
    }
}

/// Find what an open execution waits for.
pub(super) async fn find_waits(
    db: &Database,
    engine: &Engine,
    execution: &Execution,
    now: Timestamp,
) -> Result<ExecutionWaits> {
    let states = step_states(execution)?;
    let tasks: Vec<&str> = states.values().filter_map(running_task).take(MAX_WAITS).collect();
    let jobs: Vec<JobId> =
        tasks.iter().filter(|id| !is_assignment_id(id) && !is_run_id(id)).map(|id| JobId::from(*id)).collect();
    let jobs = engine.jobs().waits(&jobs).await?;
    let (assignments, training, run, budget) = {
        let mut conn = db.read().await?;
        let of = |is: fn(&str) -> bool| tasks.iter().copied().filter(|id| is(id)).collect::<Vec<_>>();
        let run = match states.values().any(is_running) {
            true => None,
            false => store::read_queued_run(&mut conn, &execution.id).await?,
        };
        let budget = match run.as_ref().is_some_and(|run| run.is_held) {
            true => engine.ledger().wait_of(&mut conn, &execution.id).await?,
            false => None,
        };
        (
            store::read_assignments(&mut conn, &of(is_assignment_id)).await?,
            store::read_training(&mut conn, &of(is_run_id)).await?,
            run.filter(|run| !run.is_held),
            budget,
        )
    };
    let mut known: HashMap<String, WaitingFor> = HashMap::new();
    known.extend(jobs.iter().map(|wait| (wait.id.to_string(), WaitingFor::for_job(wait))));
    known.extend(assignments.iter().map(|row| (row.id.to_string(), WaitingFor::for_assignment(row))));
    known.extend(training.iter().map(|row| (row.id.to_string(), WaitingFor::for_training(row))));
    let place = run.map(|run| WaitingFor {
        queue_position: Some(run.before.unsigned_abs() + 1),
        ..WaitingFor::new(WaitKind::Place, "Workers have no free place for the execution yet", Some(run.queued_at))
    });
    let place = place.or(budget.map(|wait| WaitingFor {
        until: wait.until,
        ..WaitingFor::new(WaitKind::Budget, format!("The budget '{}' has no room for it yet", wait.name), Some(wait.since))
    }));
    Ok(judge(&states, &known, place, execution.paused, now))
}

/// The external task that a running step waits for.
fn running_task(state: &Value) -> Option<&str> {
    state.get("job_id").filter(|_| is_running(state))?.as_str()
}

fn is_running(state: &Value) -> bool {
    state.get("status").and_then(Value::as_str) == Some("running")
}

/// Say who waits for what. `known` are the waits for external tasks by the task's id; `place` is the wait of a run that nobody
/// drives.
fn judge(
    states: &Map<String, Value>,
    known: &HashMap<String, WaitingFor>,
    place: Option<WaitingFor>,
    is_paused: bool,
    now: Timestamp,
) -> ExecutionWaits {
    let (mut steps, mut works) = (BTreeMap::new(), false);
    for (key, state) in states {
        let text = |name: &str| state.get(name).and_then(Value::as_str);
        let moment = |name: &str| serde_json::from_value::<Timestamp>(state.get(name)?.clone()).ok();
        let wait = match text("status") {
            Some("running") => {
                let wait = running_task(state).and_then(|id| Some((id, known.get(id)?.clone())));
                works |= wait.is_none();
                wait.map(|(id, wait)| WaitingFor { job_id: Some(id.into()), ..wait })
            }
            Some("pending") => moment("retry_at").filter(|at| *at > now).map(|at| WaitingFor {
                until: Some(at),
                ..WaitingFor::new(WaitKind::Timer, "The last attempt failed; the next is later", None)
            }),
            _ => None,
        };
        if let Some(wait) = wait {
            steps.insert(key.clone(), WaitingFor { step: Some(key.clone()), ..wait });
        }
    }
    // Without a time it is behind those that have one.
    let longest = steps.values().min_by_key(|wait| (wait.since.is_none(), wait.since)).cloned();
    let paused = is_paused.then(|| WaitingFor::new(WaitKind::Resume, "The execution is paused", None));
    let execution = if works && place.is_none() { None } else { longest.or(paused).or(place) };
    ExecutionWaits { execution, steps }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: u32) -> Timestamp {
        Timestamp(format!("2027-01-01T00:00:{second:02}Z").parse().unwrap())
    }

    fn judged(states: Value, known: &[(&str, WaitingFor)], place: bool, paused: bool) -> ExecutionWaits {
        let known = known.iter().map(|(id, wait)| ((*id).to_owned(), wait.clone())).collect();
        let place = place.then(|| WaitingFor::new(WaitKind::Place, "", Some(at(0))));
        judge(states.as_object().unwrap(), &known, place, paused, at(30))
    }

    #[test]
    fn an_execution_waits_where_none_of_its_steps_works() {
        let job = |second| WaitingFor::new(WaitKind::Miner, "", Some(at(second)));
        let known = [("j1", job(5)), ("j2", job(3))];
        let waiting = |id: &str| json!({"status": "running", "job_id": id});
        let kind = |waits: &ExecutionWaits| waits.execution.as_ref().map(|wait| (wait.kind, wait.step.clone()));

        let found = judged(json!({"a": waiting("j1"), "b": waiting("j2")}), &known, false, false);
        assert_eq!(kind(&found), Some((WaitKind::Miner, Some("b".to_owned()))), "the one that has waited longest");
        assert_eq!(found.steps["a"].job_id, Some("j1".into()));
        let found = judged(json!({"a": waiting("j1"), "b": {"status": "running"}}), &known, false, false);
        assert_eq!((kind(&found), found.steps.len()), (None, 1), "another step works");
        // The task ended a moment ago.
        assert_eq!(judged(json!({"a": waiting("gone")}), &known, false, false), ExecutionWaits::default());

        let retrying =
            |second: u32| json!({"a": {"status": "pending", "retry_at": at(second)}, "b": {"status": "pending"}});
        let found = judged(retrying(31), &[], false, false);
        assert_eq!(kind(&found), Some((WaitKind::Timer, Some("a".to_owned()))));
        assert_eq!(found.steps["a"].until, Some(at(31)));
        assert_eq!(judged(retrying(30), &[], false, false), ExecutionWaits::default(), "its time has come");

        let pending = json!({"a": {"status": "pending"}});
        assert_eq!(kind(&judged(pending.clone(), &[], true, false)), Some((WaitKind::Place, None)));
        assert_eq!(kind(&judged(pending.clone(), &[], false, true)), Some((WaitKind::Resume, None)));
        assert_eq!(kind(&judged(pending, &[], false, false)), None);
    }

    #[test]
    fn steps_show_their_waits_and_keep_the_rest() {
        let states =
            JsonText::from_stored(r#"{"b":{"status":"pending"},"a":{"status":"running","cost":0.01}}"#).unwrap();
        let wait = WaitingFor::new(WaitKind::Job, "r", Some(at(1)));
        let waits = ExecutionWaits {
            execution: None,
            steps: [("a".to_owned(), wait), ("gone".to_owned(), WaitingFor::new(WaitKind::Job, "", None))].into(),
        };
        let shown: Value = waits.add_to_states(states).parse().unwrap().unwrap();
        assert_eq!(shown["b"], json!({"status": "pending"}));
        assert_eq!((&shown["a"]["cost"], &shown["a"]["waiting_for"]["kind"]), (&json!(0.01), &json!("job")));
        assert_eq!(shown.as_object().unwrap().len(), 2);
    }
}
