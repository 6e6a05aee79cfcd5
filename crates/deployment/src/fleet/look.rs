//! Taking in what the database and the supervisor say of a deployment.

use std::{sync::Arc, time::Duration};

use am_agent_process::{
    process_info::read_process,
    protocol::{InstanceSpec, KeptInstance, KeptState},
};
use am_core::boxed;
use am_db::Tx;

use super::checks::CheckResult;
use crate::{
    DeploymentError, DeploymentService, Result, alerts, instances,
    live::{LAST_RESORT, LiveDeployment, LiveInstance},
    model::{DeploymentRecord, DeploymentStatus, InstanceHealth, InstanceRecord, InstanceState},
    tokens,
};

/// Calls of a draining instance that may still be on their way when it is taken from the balance.
const DRAIN_SETTLE: Duration = Duration::from_millis(300);

impl DeploymentService {
    /// Take in where a deployment stands, and where calls may go.
    pub(super) async fn take_in(
        &self,
        record: &DeploymentRecord,
        found: &[InstanceRecord],
        kept: Option<&[KeptInstance]>,
        leads: bool,
    ) -> Result<()> {
        let id = &record.document.id;
        let unknown: Vec<&InstanceRecord> = {
            let live = self.0.live.lock();
            let known = live.deployments.get(id);
            let is_new = |one: &&InstanceRecord| {
                let same = |held: &LiveInstance| held.revision == one.revision && i64::from(held.port) == one.port;
                !known.is_some_and(|known| known.instances.get(&one.id).is_some_and(same))
            };
            found.iter().filter(is_new).collect()
        };
        let mut fresh = Vec::new();
        for one in unknown {
            fresh.extend(self.new_live(one, leads).await?.map(|live| (one.id.clone(), live)));
        }
        let is_known = self.0.live.lock().deployments.contains_key(id);
        let raised = match is_known {
            true => Vec::new(),
            false => alerts::raised(&mut *self.db().read_vital().await?, id).await?,
        };
        let mut fleet = self.0.live.lock();
        let live = fleet
            .deployments
            .entry(id.clone())
            .or_insert_with(|| LiveDeployment::new(record.document.owner_id.clone()));
        for alert in raised {
            live.tracks.insert(alert.rule, alerts::AlertTrack::of_raised(alert.severity));
        }
        live.instances.retain(|id, _| found.iter().any(|one| one.id == *id));
        live.instances.extend(fresh);
        live.takes_calls = !matches!(record.document.status, DeploymentStatus::Terminated | DeploymentStatus::Failed);
        live.desired = record.document.desired_instances;
        let rollout = record.document.rollout.as_ref();
        live.share = rollout.map_or(Some(LAST_RESORT), |rollout| rollout.target_share());
        let (now, cores) = (self.0.parts.clock.elapsed(), record.document.settings.min_cpu_cores);
        let (at, mut lost) = (self.now(), Vec::new());
        for one in found {
            let Some(instance) = live.instances.get_mut(&one.id) else { continue };
            instance.max_failures = record.document.settings.max_failures;
            match kept {
                Some(kept) => {
                    let kept = kept.iter().find(|kept| kept.id == one.id);
                    if let Some(end) = instance.take_kept(kept, (now, cores)) {
                        lost.push(CheckResult::of_end((id, &one.id), instance.process, at, end));
                    }
                }
                // Who does not act believes what the one that does has found.
                None if !leads => instance.health = one.health,
                None => {}
            }
        }
        // Without a rollout those of another revision are on their way out.
        let is_target = |revision: i64| match rollout {
            Some(rollout) => revision == rollout.target,
            None => revision != record.document.revision,
        };
        let open = |one: &&InstanceRecord| {
            let held = live.instances.get(&one.id);
            one.state == InstanceState::Serving && held.is_some_and(LiveInstance::takes_calls)
        };
        let members: Vec<(String, bool)> =
            found.iter().filter(open).map(|one| (one.id.clone(), is_target(one.revision))).collect();
        live.balance.set_members(members);
        drop(fleet);
        self.0.checked.lock().extend(lost);
        self.0.routes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// What is known of an instance that this process has not looked at. `None`: its token is not there yet.
    async fn new_live(&self, record: &InstanceRecord, leads: bool) -> Result<Option<LiveInstance>> {
        let directory = &self.0.parts.settings.directory;
        let host = |error| DeploymentError::Host("the token of an instance", error);
        let token = match tokens::read_token(directory, &record.id).map_err(host)? {
            Some(token) => token,
            None if !leads => return Ok(None),
            None => self.renew_token(&record.id).await?,
        };
        let stored = instances::store::figures(&mut *self.db().read_vital().await?, &record.id).await?;
        let Some(stored) = stored else { return Ok(None) };
        Ok(Some(LiveInstance {
            instance_id: record.instance_id.clone(),
            port: u16::try_from(record.port).unwrap_or_default(),
            revision: record.revision,
            token: Arc::from(token),
            health: record.health,
            failures: record.consecutive_failures,
            max_failures: 1,
            kept: None,
            process: None,
            born: Duration::ZERO,
            restarts: 0,
            next_check: Some(Duration::ZERO),
            checked: None,
            history: stored.history.into(),
            up_seconds: stored.up_seconds,
            down_seconds: stored.down_seconds,
            cpu: None,
            cpu_usage: None,
            memory_bytes: None,
            requests: stored.requests,
            errors: stored.errors,
            response_seconds: stored.average_response_time.unwrap_or(0.0) * stored.requests as f64,
        }))
    }

    /// Give an instance a new token where its file is lost.
    #[boxed]
    async fn renew_token(&self, id: &str) -> Result<String> {
        let made = tokens::make_token(&self.0.parts.settings.directory, id, &self.0.parts.ids);
        let token = made.map_err(|error| DeploymentError::Host("the token of an instance", error))?;
        let (id, hash) = (id.to_owned(), tokens::token_hash(&token));
        let work = async move |tx: &mut Tx| Ok(instances::store::set_token(tx, &id, &hash).await?);
        self.db().write::<(), DeploymentError, _>(work).await?;
        Ok(token)
    }

    /// Let the supervisor have what is wanted: instances that serve, and those that drain until their calls are answered. Returns
    /// whether something starts or ends.
    pub(super) async fn tend(
        &self,
        record: &DeploymentRecord,
        found: &[InstanceRecord],
        kept: &[KeptInstance],
    ) -> Result<bool> {
        let mut busy = false;
        for one in found {
            let there = kept.iter().find(|kept| kept.id == one.id);
            match (one.state, there) {
                (InstanceState::Serving, None) => {
                    busy = true;
                    let Some(spec) = self.spec_of(record, one) else { continue };
                    if let Err(fault) = self.0.parts.supervisor.keep(spec).await {
                        tracing::warn!(instance = one.instance_id, fault, "an instance can't be started");
                    }
                }
                // A row that is used again, while the process before it still ends.
                // Also one that would call this service where it answers no more.
                (InstanceState::Serving, Some(held)) if held.revision != one.revision || self.has_moved(held) => {
                    busy = true;
                    self.end(&one.id, Duration::ZERO).await;
                }
                (InstanceState::Serving, Some(held)) => busy |= held.state != KeptState::Running,
                (InstanceState::Draining, Some(held)) => {
                    busy = true;
                    if held.state != KeptState::Ending && self.has_drained(record, one) {
                        self.end(&one.id, self.0.parts.settings.drain).await;
                    }
                }
                (InstanceState::Draining, None) => {
                    busy = true;
                    let (id, now) = (one.id.clone(), self.now());
                    let work = async move |tx: &mut Tx| Ok(instances::store::end_instance(tx, &id, now).await?);
                    self.db().write::<(), DeploymentError, _>(work).await?;
                    tokens::remove_token(&self.0.parts.settings.directory, &one.id);
                }
                (InstanceState::Gone, _) => {}
            }
        }
        Ok(busy)
    }

    /// Whether an instance was started with another address of this service.
    fn has_moved(&self, held: &KeptInstance) -> bool {
        self.0.service_url.get().is_some_and(|url| *url != held.service_url)
    }

    async fn end(&self, id: &str, grace: Duration) {
        if let Err(fault) = self.0.parts.supervisor.remove(id.to_owned(), grace).await {
            tracing::warn!(instance = id, fault, "an instance can't be ended");
        }
    }

    /// Whether no call is under way at an instance that gets no more, or its time is over.
    fn has_drained(&self, record: &DeploymentRecord, one: &InstanceRecord) -> bool {
        let since = one.draining_at.map_or(0.0, |at| self.now().seconds_since(at));
        let live = self.0.live.lock();
        let calls = live.deployments.get(&record.document.id).map_or(0, |live| live.balance.in_flight(&one.id));
        since >= self.0.parts.settings.drain.as_secs_f64() || (calls == 0 && since >= DRAIN_SETTLE.as_secs_f64())
    }

    /// What an instance is started with; `None`: it is not known yet where this service answers, or the token is not there.
    fn spec_of(&self, record: &DeploymentRecord, one: &InstanceRecord) -> Option<InstanceSpec> {
        let settings = &record.document.settings;
        Some(InstanceSpec {
            id: one.id.clone(),
            instance_id: one.instance_id.clone(),
            workflow_id: record.document.workflow_id.to_string(),
            revision: one.revision,
            port: u16::try_from(one.port).ok()?,
            service_url: self.0.service_url.get()?.clone(),
            token_file: tokens::token_file(&self.0.parts.settings.directory, &one.id),
            health_path: settings.health_check_endpoint.clone(),
            memory_mb: settings.min_memory_mb.unsigned_abs(),
            cpu_millis: (settings.min_cpu_cores * 1000.0).round() as u64,
        })
    }
}

impl LiveInstance {
    /// Take in what the supervisor says of it. One whose process has changed is not known to be healthy, and is checked at once.
    /// Returns how its process ended, once for each.
    fn take_kept(&mut self, kept: Option<&KeptInstance>, (now, cores): (Duration, f64)) -> Option<String> {
        // After this service's own restart the process is the one that was healthy before.
        let begins = self.kept.is_none() && self.checked.is_none();
        let known = std::mem::replace(&mut self.kept, kept.map(|kept| kept.state));
        // One that never ran for long enough to be seen has its end, too.
        let lost = self.kept == Some(KeptState::GivenUp) && known != self.kept;
        self.restarts = kept.map_or(self.restarts, |kept| kept.restarts);
        let runs = self.kept == Some(KeptState::Running);
        let process = kept.and_then(|kept| Some((kept.pid?, kept.started_ticks?)));
        let before = std::mem::replace(&mut self.process, process);
        if process != before {
            (self.cpu, self.cpu_usage, self.born) = (None, None, now);
            if !(begins && runs) {
                self.health = InstanceHealth::Unknown;
            }
            self.next_check = self.next_check.map(|_| Duration::ZERO);
        }
        self.measure(now, cores);
        if !runs {
            self.health = match self.kept {
                Some(KeptState::GivenUp) => InstanceHealth::Unhealthy,
                _ => InstanceHealth::Unknown,
            };
        }
        let ended = lost || (before.is_some() && process != before && self.kept != Some(KeptState::Ending));
        let how = kept.and_then(|kept| kept.last_end.clone()).filter(|_| ended);
        how.map(|how| format!("its process has ended: {how}"))
    }

    /// Read what its process uses.
    fn measure(&mut self, now: Duration, cores: f64) {
        const SHORTEST: Duration = Duration::from_secs(1);
        let due = self.cpu.is_none_or(|(_, at)| now.saturating_sub(at) >= SHORTEST);
        let Some((pid, started)) = self.process.filter(|_| due && cores > 0.0) else { return };
        let Some(read) = read_process(pid).filter(|read| read.started_ticks == started) else { return };
        if let Some((before, at)) = self.cpu {
            let passed = now.saturating_sub(at).as_secs_f64();
            self.cpu_usage = Some(read.processor_time.saturating_sub(before).as_secs_f64() * 100.0 / passed);
        }
        self.cpu = Some((read.processor_time, now));
        self.memory_bytes = Some(read.resident_bytes);
    }
}
