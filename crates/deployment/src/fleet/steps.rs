//! Doing what the rules say: instances started and drained, rollouts promoted and undone, numbers that follow the load.

use am_agent_process::protocol::KeptState;
use am_db::{Tx, codec::Timestamp};
use serde_json::json;

use crate::{
    Actor, DeploymentError, DeploymentService, Result,
    alerts::{AlertChange, DeploymentAlertRule, DeploymentAlertSeverity},
    instances,
    instances::model::NewInstance,
    model::{DeploymentRecord, DeploymentStatus, InstanceHealth, InstanceRecord, InstanceState, RevisionState},
    ports::{PortRange, free_ports},
    rollout::{CanaryTrial, FleetMember, FleetStep, RolloutPhase, TrialBaseline, settle},
    standing::stand_as_before,
    store, tokens,
};

/// What a write needs that is found outside of it.
struct StepGround {
    /// Ports that nobody listens on.
    ports: Vec<u16>,
    baseline: TrialBaseline,
    members: Vec<FleetMember>,
}

impl DeploymentService {
    /// Do for a deployment what is to be done next. Returns whether the next look should be soon.
    pub(super) async fn decide(&self, record: &DeploymentRecord) -> Result<bool> {
        let (document, id) = (&record.document, &record.document.id);
        self.plan_checks(id, &document.settings);
        self.begin_checks(id, &document.settings);
        let mut record = record.clone();
        self.take_in_trial(&mut record).await?;
        let found = instances::store::live_instances(&mut *self.db().read_vital().await?, id).await?;
        let members = self.members(id, &found);
        let ill = members.iter().any(|one| !one.healthy && !one.given_up);
        let rolls = record.document.rollout.is_some();
        if found.is_empty() && record.document.desired_instances == 0 && !rolls && is_over(&record) {
            self.leave_alone(&record).await?;
            return Ok(false);
        }
        let steps = next_steps(&record, &members, self.now());
        if !steps.is_empty() {
            let ground = self.ground(&record, members, &steps).await?;
            self.carry_out(id, ground).await?;
            self.0.wake.notify_one();
            return Ok(true);
        }
        if !rolls {
            self.follow_load(&record).await?;
        }
        Ok(ill || rolls)
    }

    /// The members of a deployment as the rules see them: all but those that drain.
    fn members(&self, id: &str, found: &[InstanceRecord]) -> Vec<FleetMember> {
        let fleet = self.0.live.lock();
        let live = fleet.deployments.get(id);
        let member = |one: &InstanceRecord| {
            let known = live.and_then(|live| live.instances.get(&one.id));
            FleetMember {
                id: one.id.clone(),
                revision: one.revision,
                healthy: known.is_some_and(|known| known.health == InstanceHealth::Healthy),
                given_up: known.is_some_and(|known| known.kept == Some(KeptState::GivenUp)),
            }
        };
        found.iter().filter(|one| one.state == InstanceState::Serving).map(member).collect()
    }

    /// Add the canary's calls since the last look to its trial, and keep the trial.
    async fn take_in_trial(&self, record: &mut DeploymentRecord) -> Result<()> {
        let calls = {
            let mut fleet = self.0.live.lock();
            let live = fleet.deployments.get_mut(&record.document.id);
            live.map(|live| std::mem::take(&mut live.trial_calls)).unwrap_or_default()
        };
        let Some(rollout) = record.document.rollout.as_mut() else { return Ok(()) };
        let Some(trial) = rollout.trial.as_mut().filter(|_| rollout.phase == RolloutPhase::Trial && !calls.is_empty())
        else {
            return Ok(());
        };
        for (failed, seconds) in calls {
            trial.observe(failed, seconds);
        }
        let (id, rollout) = (record.document.id.clone(), rollout.clone());
        let work = async move |tx: &mut Tx| Ok(store::update_rollout(tx, &id, &rollout).await?);
        self.db().write::<(), DeploymentError, _>(work).await
    }

    async fn ground(
        &self,
        record: &DeploymentRecord,
        members: Vec<FleetMember>,
        steps: &[FleetStep],
    ) -> Result<StepGround> {
        let starts = steps.iter().filter(|step| matches!(step, FleetStep::Start(_))).count();
        let [low, high] = record.document.port_range;
        let mut ports = Vec::new();
        if starts > 0 {
            let taken = instances::store::taken_ports(&mut *self.db().read_vital().await?, low, high).await?;
            ports = free_ports(PortRange { low, high }, &taken, starts);
        }
        let baseline = {
            let fleet = self.0.live.lock();
            fleet.deployments.get(&record.document.id).map(|live| live.baseline()).unwrap_or_default()
        };
        Ok(StepGround { ports, baseline, members })
    }

    /// Decide again on what is stored now, and store what is decided.
    async fn carry_out(&self, id: &str, mut ground: StepGround) -> Result<()> {
        let (me, id, now) = (self.clone(), id.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            let Some(mut record) = store::deployment(tx.conn().await?, &id).await? else { return Ok(()) };
            let found = instances::store::live_instances(tx.conn().await?, &id).await?;
            let serves = |member: &FleetMember| {
                let same = |one: &&InstanceRecord| one.id == member.id && one.revision == member.revision;
                found.iter().find(same).is_some_and(|one| one.state == InstanceState::Serving)
            };
            ground.members.retain(serves);
            let mut numbers: Vec<i64> = found.iter().map(|one| one.number).collect();
            for step in next_steps(&record, &ground.members, now) {
                match step {
                    FleetStep::Start(revision) => {
                        let Some(port) = ground.ports.pop() else {
                            tracing::warn!(deployment = id, "no port of its range is free for an instance");
                            continue;
                        };
                        let number = (1..).find(|number| !numbers.contains(number)).unwrap_or(i64::MAX);
                        numbers.push(number);
                        me.start_one(tx, &record, (revision, number, port), now).await?;
                    }
                    FleetStep::Drain(instance) => me.drain_one(tx, &record, &instance, now).await?,
                    FleetStep::Enter(phase) => {
                        let Some(rollout) = record.document.rollout.as_mut() else { continue };
                        rollout.phase = phase;
                        if phase == RolloutPhase::Trial {
                            rollout.trial = Some(CanaryTrial::begin(&ground.baseline));
                        }
                        let target = rollout.target;
                        store::update_deployment(tx, &record).await?;
                        let reason = phase_reason(&record);
                        store::note_change(tx, &id, "phase", Some(target), (&reason, now)).await?;
                    }
                    FleetStep::Promote(reason) => me.promote(tx, &mut record, &reason, now).await?,
                    FleetStep::Undo(reason) => me.undo(tx, &mut record, &reason, now).await?,
                }
            }
            let state = record.document.status;
            let owner = record.document.owner_id.clone();
            let entry = me.entry(Actor::Owner(&owner), "tended", &id, now).data("status", json!(state));
            Ok(me.0.parts.audit.append(tx, vec![entry]).await?)
        };
        self.db().write::<(), DeploymentError, _>(work).await
    }

    async fn start_one(
        &self,
        tx: &mut Tx,
        record: &DeploymentRecord,
        (revision, number, port): (i64, i64, u16),
        now: Timestamp,
    ) -> Result<()> {
        let document = &record.document;
        let id = format!("{}.{number}", document.id);
        let made = tokens::make_token(&self.0.parts.settings.directory, &id, &self.0.parts.ids);
        let token = made.map_err(|error| DeploymentError::Host("the token of an instance", error))?;
        let environment = document.environment.as_deref().unwrap_or("production");
        let region = document.settings.deployment_regions.first().map_or("local", String::as_str);
        let reason = match document.rollout.as_ref().is_some_and(|rollout| rollout.target == revision) {
            true => format!("revision {revision} is rolled out"),
            false => format!("{} instances of revision {revision} are wanted", document.desired_instances),
        };
        let new = NewInstance {
            id,
            deployment_id: &document.id,
            owner_id: &document.owner_id,
            instance_id: format!("{}-{environment}-{number}", document.deployment_name),
            environment,
            region,
            number,
            revision,
            port,
            token_hash: &tokens::token_hash(&token),
            reason: &reason,
        };
        instances::store::put_instance(tx, &new, now).await?;
        let reason = format!("{}: {reason}", new.instance_id);
        Ok(store::note_change(tx, &document.id, "instance_started", Some(revision), (&reason, now)).await?)
    }

    async fn drain_one(&self, tx: &mut Tx, record: &DeploymentRecord, instance: &str, now: Timestamp) -> Result<()> {
        let document = &record.document;
        let reason = match &document.rollout {
            Some(rollout) => format!("revision {} takes its place", rollout.target),
            None if document.status == DeploymentStatus::Terminated => "the deployment has ended".to_owned(),
            None => format!("{} instances of revision {} are wanted", document.desired_instances, document.revision),
        };
        instances::store::drain(tx, instance, &reason, now).await?;
        let reason = format!("{instance}: {reason}");
        Ok(store::note_change(tx, &document.id, "instance_drained", None, (&reason, now)).await?)
    }

    async fn promote(&self, tx: &mut Tx, record: &mut DeploymentRecord, reason: &str, now: Timestamp) -> Result<()> {
        let Some(rollout) = record.document.rollout.take() else { return Ok(()) };
        let document = &mut record.document;
        (document.revision, document.status, document.error) = (rollout.target, DeploymentStatus::Deployed, None);
        (document.deployment_time, document.updated_at) = (Some(now), now);
        store::promote_revision(tx, &document.id, rollout.target, now).await?;
        store::update_deployment(tx, record).await?;
        // Before anybody can read that it is promoted. Were this not committed, the next look would set it right.
        if let Some(live) = self.0.live.lock().deployments.get_mut(&record.document.id) {
            live.serve(rollout.target);
        }
        let document = &record.document;
        store::note_change(tx, &document.id, "promote", Some(rollout.target), (reason, now)).await?;
        let told = (DeploymentAlertRule::RolloutUndone, AlertChange::Resolve);
        let about = (document.id.as_str(), &document.owner_id);
        self.change_alert(tx, about, told, (0.0, String::new()), now).await?;
        self.count_rollout(tx, "promoted");
        Ok(())
    }

    async fn undo(&self, tx: &mut Tx, record: &mut DeploymentRecord, reason: &str, now: Timestamp) -> Result<()> {
        let Some(rollout) = record.document.rollout.take() else { return Ok(()) };
        stand_as_before(&mut record.document, reason, now);
        store::end_revision(tx, &record.document.id, rollout.target, RevisionState::Undone, now).await?;
        store::update_deployment(tx, record).await?;
        let document = &record.document;
        store::note_change(tx, &document.id, "undo", Some(rollout.target), (reason, now)).await?;
        let told = (DeploymentAlertRule::RolloutUndone, AlertChange::Raise(DeploymentAlertSeverity::Critical));
        let message =
            format!("The rollout of revision {} of {} was undone: {reason}", rollout.target, document.deployment_name);
        let about = (document.id.as_str(), &document.owner_id);
        self.change_alert(tx, about, told, (rollout.target as f64, message), now).await?;
        self.count_rollout(tx, "undone");
        Ok(())
    }

    fn count_rollout(&self, tx: &mut Tx, how: &'static str) {
        let me = self.clone();
        tx.after_commit(move || {
            me.0.metrics.rollouts.get_or_create(&[("end", how.to_owned())]).inc();
        });
    }

    /// A deployment that has ended and has no instance left is not looked at any more.
    async fn leave_alone(&self, record: &DeploymentRecord) -> Result<()> {
        let (me, id, now) = (self.clone(), record.document.id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let Some(mut record) = store::deployment(tx.conn().await?, &id).await? else { return Ok(()) };
            if record.document.rollout.is_some() || record.document.desired_instances > 0 || !is_over(&record) {
                return Ok(());
            }
            record.live = false;
            store::update_deployment(tx, &record).await?;
            let owner = record.document.owner_id.clone();
            Ok(me.0.parts.audit.append(tx, vec![me.entry(Actor::Owner(&owner), "ended", &id, now)]).await?)
        };
        self.db().write::<(), DeploymentError, _>(work).await
    }

    /// Let the number of instances follow the load, or an owner's call that waits.
    async fn follow_load(&self, record: &DeploymentRecord) -> Result<()> {
        let (document, settings) = (&record.document, &record.document.settings);
        if document.status != DeploymentStatus::Deployed {
            return Ok(());
        }
        let bound = |number: i64| u32::try_from(number).unwrap_or(0);
        let present = bound(document.desired_instances);
        let bounds = (present, bound(settings.min_instances), bound(settings.max_instances));
        let found = {
            let mut fleet = self.0.live.lock();
            let Some(live) = fleet.deployments.get_mut(&document.id) else { return Ok(()) };
            let load = live.observe_load();
            match (present, live.held) {
                (0, held) if held > 0 => Some((1, format!("{held} calls wait"))),
                _ if !settings.auto_scaling => None,
                _ => live.watch.observe(&settings.scaling_policy, load, bounds, self.0.parts.clock.elapsed()),
            }
        };
        let Some((number, reason)) = found else { return Ok(()) };
        let (me, id, now) = (self.clone(), document.id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let Some(mut record) = store::deployment(tx.conn().await?, &id).await? else { return Ok(()) };
            if record.document.rollout.is_some() || record.document.status != DeploymentStatus::Deployed {
                return Ok(());
            }
            me.set_desired(tx, &mut record, i64::from(number), (&reason, now)).await?;
            let owner = record.document.owner_id.clone();
            let entry = me.entry(Actor::Owner(&owner), "scaled", &id, now).data("instances", json!(number));
            Ok(me.0.parts.audit.append(tx, vec![entry]).await?)
        };
        self.db().write::<(), DeploymentError, _>(work).await
    }
}

/// Whether a deployment needs no more looks once it has no instance.
fn is_over(record: &DeploymentRecord) -> bool {
    matches!(record.document.status, DeploymentStatus::Terminated | DeploymentStatus::Failed)
}

/// What the rules say of a deployment.
fn next_steps(record: &DeploymentRecord, members: &[FleetMember], now: Timestamp) -> Vec<FleetStep> {
    let document = &record.document;
    let desired = usize::try_from(document.desired_instances).unwrap_or(0);
    match &document.rollout {
        Some(rollout) => rollout.decide(desired, members, now),
        None => settle(document.revision, desired, members),
    }
}

fn phase_reason(record: &DeploymentRecord) -> String {
    let Some(rollout) = &record.document.rollout else { return String::new() };
    match (rollout.phase, rollout.trial.map(|trial| trial.verdict())) {
        (RolloutPhase::Replacing, Some(crate::rollout::TrialVerdict::Good(figures))) => {
            format!("the canary is as good as what serves: {figures}")
        }
        (RolloutPhase::Trial, _) => "the canary is healthy and gets its share of the calls".to_owned(),
        (phase, _) => format!("the rollout is {phase}"),
    }
}
