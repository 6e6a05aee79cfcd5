//! A sweep as background work: it queues the training runs of one trial after the other, waits for their ends, and chooses the next
//! trial by their scores.
//!
//! Its state is that of its rows: a process that goes on with it reads the trials, and finds in the runs what came of them meanwhile.

use std::time::Duration;

use am_audit::{AuditEntry, AuditLog, EventType};
use am_background::{EndedWork, WorkContext, WorkFault, WorkKind, WorkMachine, WorkStatus, WorkStep};
use am_core::{
    ambient::Clock,
    ids::{PrincipalId, SweepId},
};
use am_db::{Database, DatabaseError, Tx, codec::Timestamp};
use am_rl::{
    RlError,
    runs::{
        ControlRequest, NewTrainingRun, RunLabels, TrainingRun, TrainingRuns, TrainingSpec, TrainingTask, cancel_run,
        enqueue_runs, validate_spec_in,
    },
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{
    draft::with_settings,
    figures::{best_trial, score_of},
    model::{SweepPlan, SweepStatus, TrialRecord, TrialRun, TrialState},
    points::next_trial,
    store,
};
use crate::sample_spread::sample_spread;

/// Name of the kind of work.
pub(super) const SWEEP_KIND: &str = "sweep";
/// How long a piece of work waits for a run, or for a place: a cancellation of the sweep waits for it.
const WAIT_PIECE: Duration = Duration::from_millis(200);
/// Characters of a sweep's name that stand in those of its runs.
const NAMED_CHARACTERS: usize = 80;

/// What sweeps are done with. Cheap to clone.
#[derive(Clone)]
pub(super) struct SweepWork {
    pub(super) db: Database,
    pub(super) clock: Clock,
    pub(super) audit: AuditLog,
    pub(super) training: TrainingRuns,
}

/// A sweep under way.
struct SweepMachine {
    work: SweepWork,
    owner_id: PrincipalId,
    plan: SweepPlan,
    /// The trials so far; all but the last have ended.
    trials: Vec<TrialRecord>,
    /// Whether it only waits at present.
    waits: bool,
}

fn fault(error: RlError) -> WorkFault {
    match error {
        RlError::Db(error) => WorkFault::Db(error),
        error => WorkFault::Failed(error.to_string()),
    }
}

fn entry(action: &str, owner: &PrincipalId, id: &SweepId, now: Timestamp) -> AuditEntry {
    let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("sweep", action).on_behalf_of(owner);
    entry.data("sweep_id", json!(id))
}

impl WorkKind for SweepWork {
    fn name(&self) -> &'static str {
        SWEEP_KIND
    }

    fn open(&self, context: &WorkContext, _: Option<&str>) -> Result<Box<dyn WorkMachine>, WorkFault> {
        let plan: SweepPlan = context.parameters()?;
        let (db, id) = (self.db.clone(), plan.sweep_id.clone());
        let trials = context.block_on(async move { store::trials(&mut *db.read().await?, &id).await })?;
        let owner_id = context.task().owner_id.clone();
        Ok(Box::new(SweepMachine { work: self.clone(), owner_id, plan, trials, waits: false }))
    }

    fn settle<'a>(&'a self, tx: &'a mut Tx, ended: &'a EndedWork) -> BoxFuture<'a, am_db::Result<()>> {
        Box::pin(self.record_end(tx, ended))
    }
}

impl SweepWork {
    async fn record_end(&self, tx: &mut Tx, ended: &EndedWork) -> am_db::Result<()> {
        let id = SweepId::from(ended.task.subject.as_str());
        let Some(mut sweep) = store::get(tx.conn().await?, &id).await? else { return Ok(()) };
        let before = sweep.status;
        sweep.status = match ended.status {
            WorkStatus::Completed => SweepStatus::Completed,
            WorkStatus::Cancelled => SweepStatus::Cancelled,
            _ => SweepStatus::Failed,
        };
        let ended_by = ended.result.as_ref().and_then(|result| result.get("ended_by")).and_then(Value::as_str);
        sweep.ended_by = ended_by.map(str::to_owned);
        sweep.error.clone_from(&ended.error);
        (sweep.ended_at, sweep.updated_at) = (Some(ended.now), ended.now);
        if ended.status != WorkStatus::Completed {
            self.cancel_trial(tx, &id, ended.now).await?;
        }
        store::save_end(tx, &sweep).await?;
        let entry = entry(sweep.status.value(), &sweep.owner_id, &id, ended.now)
            .data("trials", json!(sweep.ended))
            .error("sweep_failed", ended.error.as_deref())
            .change(Some(json!({"status": before})), Some(json!({"status": sweep.status})));
        self.audit.append(tx, vec![entry]).await
    }

    /// Cancel the trial under way with its runs, in the transaction that ends the sweep.
    async fn cancel_trial(&self, tx: &mut Tx, id: &SweepId, now: Timestamp) -> am_db::Result<()> {
        let trials = store::trials(tx.conn().await?, id).await?;
        let Some(mut trial) = trials.into_iter().next_back().filter(|trial| trial.state == TrialState::Running) else {
            return Ok(());
        };
        for run in &trial.runs {
            let cancelled = cancel_run(tx, &run.run_id, now).await;
            let was_open = cancelled.map_err(|error| match error {
                RlError::Db(error) => error,
                error => DatabaseError::InvalidValue(error.to_string()),
            })?;
            if was_open {
                let (training, run_id) = (self.training.clone(), run.run_id.clone());
                tx.after_commit(move || training.told(&run_id, Some(ControlRequest::Cancel)));
            }
        }
        (trial.state, trial.ended_at) = (TrialState::Cancelled, Some(now));
        trial.reason = Some("the sweep ended before the trial's runs".to_owned());
        store::put_trial(tx, &trial).await
    }
}

impl SweepMachine {
    fn ended(&self) -> u64 {
        self.trials.iter().filter(|trial| trial.state != TrialState::Running).count() as u64
    }

    /// Why no further trial is begun; `None`: one is. `Some(None)`: all are done.
    fn spent(&self, context: &WorkContext) -> Option<Option<&'static str>> {
        let (plan, begun) = (&self.plan, self.trials.len() as u64);
        if begun >= u64::from(plan.trials) {
            return Some(None);
        }
        let steps = (begun + 1).saturating_mul(plan.base.steps).saturating_mul(plan.seeds.len() as u64);
        if plan.budget.steps.is_some_and(|most| steps > most) {
            return Some(Some("steps"));
        }
        plan.budget.max_seconds.is_some_and(|most| context.seconds() >= most).then_some(Some("max_seconds"))
    }

    /// Store a trial as it is now, with how far the sweep has come; first queue these runs. Returns false, and stores nothing, where
    /// the owner has no place for them.
    fn save(&self, context: &WorkContext, trial: TrialRecord, runs: Vec<NewTrainingRun>) -> Result<bool, WorkFault> {
        let (audit, now) = (self.work.audit.clone(), Timestamp(self.work.clock.now()));
        let others = self.trials.iter().filter(|other| other.trial != trial.trial);
        let known: Vec<TrialRecord> = others.cloned().chain([trial.clone()]).collect();
        let ended = known.iter().filter(|trial| trial.state != TrialState::Running).count() as u64;
        let best = best_trial(&known);
        let action = if trial.state == TrialState::Running { "trial_begun" } else { "trial_ended" };
        let told = entry(action, &self.owner_id, &trial.sweep_id, now).data("trial", json!(trial.trial));
        let saved: Result<bool, RlError> = context.block_on(self.work.db.write(async move |tx: &mut Tx| {
            if !enqueue_runs(tx, &runs, now).await? {
                return Ok(false);
            }
            store::put_trial(tx, &trial).await?;
            store::save_progress(tx, &trial.sweep_id, (ended, best), now).await?;
            audit.append(tx, vec![told.data("score", json!(trial.score))]).await?;
            Ok(true)
        }));
        let saved = saved.map_err(fault)?;
        am_core::crash_point!("sweep.after_trial_save");
        Ok(saved)
    }

    /// The runs of a trial, one for each seed.
    fn runs_of(&self, trial: i64, work: &TrainingSpec) -> Vec<NewTrainingRun> {
        let (plan, training) = (&self.plan, &self.work.training);
        let title: String = plan.name.as_deref().unwrap_or(&plan.sweep_id).chars().take(NAMED_CHARACTERS).collect();
        let own = [format!("sweep:{}", plan.sweep_id), format!("trial:{trial}")];
        let run = |seed: &u64| NewTrainingRun {
            id: training.new_id(),
            owner_id: self.owner_id.clone(),
            policy: plan.policy.clone(),
            labels: RunLabels {
                name: Some(format!("{title}, trial {trial}, seed {seed}")),
                tags: own.iter().chain(&plan.tags).cloned().collect(),
            },
            task: TrainingTask::Train(TrainingSpec { seed: *seed, ..work.clone() }),
            feedback: None,
            limits: training.limits(plan.role),
        };
        plan.seeds.iter().map(run).collect()
    }

    fn begin_trial(&mut self, context: &WorkContext) -> Result<(), WorkFault> {
        let (settings, point) = next_trial(&self.plan, &self.trials);
        let number = self.trials.len() as i64 + 1;
        let now = Timestamp(self.work.clock.now());
        let mut trial = TrialRecord {
            sweep_id: self.plan.sweep_id.clone(),
            trial: number,
            state: TrialState::Running,
            settings,
            point,
            runs: Vec::new(),
            score: None,
            reason: None,
            created_at: now,
            ended_at: None,
        };
        let (training, spec) = (self.work.training.clone(), with_settings(&self.plan.base, &trial.settings));
        let chosen = context.block_on(async move { training.choose_environment(spec).await });
        let runs = match chosen.and_then(|(work, source)| validate_spec_in(work, source)) {
            Ok(work) => self.runs_of(number, &work),
            Err(error @ RlError::Invalid(_)) => {
                (trial.state, trial.ended_at) = (TrialState::Failed, Some(now));
                trial.reason = Some(format!("these settings can't be trained together: {error}"));
                Vec::new()
            }
            Err(error) => return Err(fault(error)),
        };
        let queued = |run: &NewTrainingRun| TrialRun {
            seed: match &run.task {
                TrainingTask::Train(work) => work.seed,
                TrainingTask::Learn(_) => 0,
            },
            run_id: run.id.clone(),
            status: Some(am_rl::runs::RunStatus::Queued),
            reference: None,
            score: None,
        };
        trial.runs = runs.iter().map(queued).collect();
        if self.save(context, trial.clone(), runs)? {
            self.work.training.wake();
            self.waits = trial.state == TrialState::Running;
            self.trials.push(trial);
        } else {
            self.waits = true;
            context.block_on(async { tokio::time::sleep(WAIT_PIECE).await });
        }
        Ok(())
    }

    /// Wait a while for the next run of the trial under way that has not ended.
    fn follow(&mut self, context: &WorkContext) -> Result<(), WorkFault> {
        let training = self.work.training.clone();
        let Some(trial) = self.trials.last_mut() else { return Ok(()) };
        let goal = self.plan.goal;
        let is_open = |run: &TrialRun| run.status.is_some_and(|status| !status.is_final());
        if let Some(run) = trial.runs.iter_mut().find(|run| is_open(run)) {
            let id = run.run_id.clone();
            let ended = context.block_on(async move { tokio::time::timeout(WAIT_PIECE, training.ended(&id)).await });
            match ended {
                Err(_) => {
                    self.waits = true;
                    return Ok(());
                }
                Ok(Ok(found)) => settle_run(run, &found, score_of(goal, &found)),
                Ok(Err(RlError::NotFound(_))) => run.status = None,
                Ok(Err(error)) => return Err(fault(error)),
            }
        }
        if trial.runs.iter().any(is_open) {
            self.waits = true;
            return Ok(());
        }
        let mut ended = trial.clone();
        end_trial(&mut ended, Timestamp(self.work.clock.now()));
        self.save(context, ended.clone(), Vec::new())?;
        self.trials.pop();
        self.trials.push(ended);
        Ok(())
    }
}

/// Note what came of a run that has ended.
pub(super) fn settle_run(run: &mut TrialRun, found: &TrainingRun, score: Option<f64>) {
    run.status = Some(found.status);
    run.reference.clone_from(&found.reference);
    run.score = score.filter(|_| found.reference.is_some());
}

/// Give a trial whose runs have ended its score, or the reason why it has none: means over different seeds would not compare.
fn end_trial(trial: &mut TrialRecord, now: Timestamp) {
    trial.ended_at = Some(now);
    let scores: Vec<f64> = trial.runs.iter().filter_map(|run| run.score).collect();
    if scores.len() == trial.runs.len() && !scores.is_empty() {
        (trial.state, trial.score) = (TrialState::Measured, Some(sample_spread(&scores).0));
        return;
    }
    let without = trial.runs.iter().find(|run| run.score.is_none());
    trial.state = TrialState::Failed;
    trial.reason = without.map(|run| match run.status {
        Some(status) => format!("the run {} with seed {} has no score: it is {status}", run.run_id, run.seed),
        None => format!("the run {} with seed {} is gone", run.run_id, run.seed),
    });
}

impl WorkMachine for SweepMachine {
    fn advance(&mut self, context: &WorkContext) -> Result<WorkStep, WorkFault> {
        self.waits = false;
        let is_running = self.trials.last().is_some_and(|trial| trial.state == TrialState::Running);
        match self.spent(context).filter(|_| !is_running) {
            Some(ended_by) => {
                let result = json!({"sweep_id": self.plan.sweep_id, "trials": self.ended(),
                    "best_trial": best_trial(&self.trials), "ended_by": ended_by});
                return Ok(WorkStep::Done(result));
            }
            None if is_running => self.follow(context)?,
            None => self.begin_trial(context)?,
        }
        let best = best_trial(&self.trials);
        let score = self.trials.iter().find(|trial| Some(trial.trial) == best).and_then(|trial| trial.score);
        let note = json!({"trial": self.trials.len(), "best_trial": best, "best_score": score, "waiting": self.waits});
        Ok(WorkStep::Progress { done: self.ended(), total: u64::from(self.plan.trials), note: Some(note) })
    }

    fn is_waiting(&self) -> bool {
        self.waits
    }

    fn checkpoint(&self) -> Result<String, WorkFault> {
        // The rows are the state.
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use am_rl::runs::RunStatus;

    fn trial(scores: &[Option<f64>]) -> TrialRecord {
        let run = |(seed, score): (u64, &Option<f64>)| TrialRun {
            seed,
            run_id: format!("train_{seed}").into(),
            status: Some(if score.is_some() { RunStatus::Completed } else { RunStatus::Failed }),
            reference: None,
            score: *score,
        };
        TrialRecord {
            sweep_id: "sweep_1".into(),
            trial: 1,
            state: TrialState::Running,
            settings: serde_json::Map::new(),
            point: Vec::new(),
            runs: (0..).zip(scores).map(run).collect(),
            score: None,
            reason: None,
            created_at: Timestamp::from_stored("2027-01-15 08:00:00").unwrap(),
            ended_at: None,
        }
    }

    #[test]
    fn a_trial_is_measured_when_every_seed_is() {
        let now = Timestamp::from_stored("2027-01-15 09:00:00").unwrap();
        let mut whole = trial(&[Some(1.0), Some(4.0)]);
        end_trial(&mut whole, now);
        assert_eq!((whole.state, whole.score, whole.ended_at), (TrialState::Measured, Some(2.5), Some(now)));
        let shown = whole.document();
        assert!(shown.low.unwrap() < 1.0 && shown.high.unwrap() > 4.0, "{shown:?}");
        let mut partly = trial(&[Some(1.0), None]);
        end_trial(&mut partly, now);
        assert_eq!((partly.state, partly.score), (TrialState::Failed, None));
        assert!(
            partly.reason.clone().unwrap().contains("train_1 with seed 1 has no score: it is failed"),
            "{partly:?}"
        );
        let mut gone = trial(&[None]);
        gone.runs[0].status = None;
        end_trial(&mut gone, now);
        assert!(gone.reason.unwrap().contains("is gone"));
        let mut alone = trial(&[Some(3.0)]);
        end_trial(&mut alone, now);
        let shown = alone.document();
        assert_eq!((shown.score, shown.low, shown.reason), (Some(3.0), None, None), "one seed has no interval");
    }
}
