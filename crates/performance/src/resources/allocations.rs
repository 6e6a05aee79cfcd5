//! Allocations: made against the capacity of hosts, started, completed, given back, and ended when their time runs out.

use am_core::{
    boxed,
    ids::{AgentId, ExecutionId},
    validation::{Violations, has_length},
};
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    owner::PrincipalName,
    page::PageRequest,
};
use am_performance_math::packing::{choose_host, scarcity};
use chrono::TimeDelta;
use serde_json::json;

use super::{
    ResourceService,
    amounts::{RESOURCE_NAMES, ResourceParts, ResourceRoom, to_thousandths},
    model::{
        AllocationCompletion, AllocationDocument, AllocationDraft, AllocationStart, HostState, OptimizationTarget,
        PlacementNote,
    },
    record::{AllocationRecord, HostRecord, describe_lack},
    rules::{TaskConfiguration, TaskDemand},
    state::{AllocationAction, AllocationLife, AllocationState},
    store,
    tuned::{task_key, tuned_allocation},
};
use crate::{
    agents::{PerformanceCaller, check_visible, use_agent},
    error::{PerformanceError, Result},
};

/// Seconds after which an allocation expires by default: a day.
const DEFAULT_TTL_SECONDS: i64 = 86_400;
/// Seconds after which an allocation may expire: to thirty days.
const TTL_RANGE: std::ops::RangeInclusive<i64> = 1..=2_592_000;
/// Characters of a priority.
const MAX_PRIORITY_LEN: usize = 50;
/// Hosts that a refusal tells of at most.
const MAX_TOLD_HOSTS: usize = 10;
/// Allocations that one transaction ends at most.
pub(super) const EXPIRY_BATCH: i64 = 100;

fn no_allocation(id: &str) -> PerformanceError {
    PerformanceError::NotFound(format!("No allocation {id}"))
}

/// A checked draft.
struct CheckedDraft {
    draft: AllocationDraft,
    demand: TaskDemand,
    configuration: TaskConfiguration,
    target: OptimizationTarget,
    /// The optimisation whose amounts it has.
    tuned_by: Option<String>,
}

fn checked(draft: AllocationDraft) -> std::result::Result<CheckedDraft, Vec<am_core::validation::Violation>> {
    let mut violations = Violations::default();
    let demand = TaskDemand::read(&draft.task_requirements, "task_requirements", &mut violations);
    let priority = draft.priority_level.as_deref().unwrap_or("normal");
    let sound = has_length(priority, &(1..=MAX_PRIORITY_LEN)) && !priority.chars().any(char::is_control);
    let text = format!("has 1 to {MAX_PRIORITY_LEN} characters, no control characters");
    violations.require(sound, "priority_level", text);
    violations.require_within(draft.ttl_seconds, &TTL_RANGE, "ttl_seconds");
    let target = draft.optimization_target.unwrap_or(OptimizationTarget::Efficiency);
    let configuration = demand.configure(target);
    violations.finish_with(Some(CheckedDraft { draft, demand, configuration, target, tuned_by: None }))
}

/// The host for a demand, with why; an error that says what each host lacks.
fn placed(hosts: &[HostRecord], parts: &ResourceParts) -> Result<(String, PlacementNote)> {
    let open: Vec<&HostRecord> = hosts.iter().filter(|host| host.state == HostState::Open).collect();
    let rooms: Vec<ResourceRoom> = open.iter().map(|host| host.room()).collect();
    let Some(choice) = choose_host(&rooms, parts, &scarcity(&rooms, parts)) else {
        let open: Vec<HostRecord> = open.into_iter().cloned().collect();
        let text = match open.is_empty() {
            true => "All hosts are closed".to_owned(),
            false => format!("No host has room for it: {}", describe_lack(&open, parts, MAX_TOLD_HOSTS)),
        };
        return Err(PerformanceError::Conflict("capacity_exhausted", text));
    };
    let host = open[choice.host].id.clone();
    let dominant = choice.dominant.map_or("none", |at| RESOURCE_NAMES[at]);
    let share = to_thousandths(choice.dominant_share * 100.0);
    let reason = match choice.opens_host {
        true => "no host in use has room for it, and of the idle ones",
        false => "of the hosts in use that have room for it,",
    };
    let explanation = format!(
        "It fits on {} of {} open hosts; {reason} the free shares of {host} are nearest to what it takes ({share} percent of the \
         host's {dominant}, its dominant resource)",
        choice.candidates,
        rooms.len(),
    );
    let note = PlacementNote {
        opened_host: choice.opens_host,
        dominant_resource: dominant.to_owned(),
        dominant_share: choice.dominant_share,
        distance: choice.distance,
        candidates: choice.candidates as u64,
        open_hosts: rooms.len() as u64,
        explanation,
    };
    Ok((host, note))
}

impl ResourceService {
    /// Allocate resources to an agent: a host's, where hosts are configured, else as advice.
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] with all faults; [`PerformanceError::NotFound`] for another's agent;
    /// [`PerformanceError::Conflict`] where no host has room.
    #[boxed]
    pub async fn allocate(
        &self,
        caller: &PerformanceCaller,
        draft: AllocationDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AllocationDocument>> {
        let mut checked = checked(draft).map_err(PerformanceError::Invalid)?;
        let (me, by, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            use_agent(tx, &by, &checked.draft.agent_id, now).await?;
            let task = task_key(&checked.demand, checked.target);
            if let Some(tuned) = tuned_allocation(tx.conn().await?, &checked.draft.agent_id, &task).await? {
                checked.configuration.optimized = tuned.amounts.within(&checked.configuration.optimized);
                checked.tuned_by = Some(tuned.optimization_id);
            }
            if let Some(execution) = &checked.draft.execution_id {
                check_execution(tx.conn().await?, &by, execution).await?;
            }
            let placement = me.place(tx, &checked.configuration.optimized.parts(), now).await?;
            let record = me.new_record(&by, checked, placement, now);
            let cost = record.amounts().cost();
            let savings = record.initial.map_or(0.0, |initial| to_thousandths(initial.cost() - cost));
            store::insert_allocation(tx, &record, savings).await?;
            let entry = me.entry(&by.principal, "resource_allocation", "allocated", now);
            let entry = entry.data("allocation", json!(record.id)).data("agent", json!(record.agent_id));
            me.0.audit.append(tx, vec![entry.data("host", json!(record.host_id))]).await?;
            let metrics = me.clone();
            tx.after_commit(move || {
                metrics.0.metrics.allocations.inc();
            });
            if record.execution_id.is_none() {
                return Ok(record.into_document());
            }
            // As it is read, with what its execution's sandbox has measured so far.
            let stored = store::allocation(tx.conn().await?, &record.allocation_id).await?;
            Ok(stored.unwrap_or(record).into_document())
        };
        let done = self.0.db.write_idempotent(&self.0.clock, once, work).await;
        if matches!(done, Err(PerformanceError::Conflict("capacity_exhausted", _))) {
            self.0.metrics.refusals.inc();
        }
        done
    }

    /// Take capacity for a demand. Where no host has room, those whose time has run out give theirs back first. `None`: no host is
    /// configured.
    async fn place(
        &self,
        tx: &mut Tx,
        parts: &ResourceParts,
        now: Timestamp,
    ) -> Result<Option<(String, PlacementNote)>> {
        let mut hosts = store::hosts(tx.conn().await?).await?;
        if hosts.is_empty() {
            return Ok(None);
        }
        let mut found = placed(&hosts, parts);
        if found.is_err() && self.expire_batch(tx, now).await? > 0 {
            hosts = store::hosts(tx.conn().await?).await?;
            found = placed(&hosts, parts);
        }
        let (host, note) = found?;
        if !store::take(tx, &host, parts).await? {
            return Err(PerformanceError::Conflict(
                "capacity_exhausted",
                format!("The host {host} has no room for it"),
            ));
        }
        Ok(Some((host, note)))
    }

    fn new_record(
        &self,
        by: &PerformanceCaller,
        checked: CheckedDraft,
        placement: Option<(String, PlacementNote)>,
        now: Timestamp,
    ) -> AllocationRecord {
        let CheckedDraft { draft, demand, configuration, target, tuned_by } = checked;
        let amounts = configuration.optimized;
        let id = self.0.ids.next("alloc_", 12);
        let life = AllocationLife::begun(placement.is_some());
        let (host_id, placement) = placement.unzip();
        let ttl = TimeDelta::seconds(draft.ttl_seconds.unwrap_or(DEFAULT_TTL_SECONDS));
        AllocationRecord {
            allocation_id: id.clone(),
            id,
            agent_id: draft.agent_id,
            cpu_cores: amounts.cpu_cores,
            memory_gb: amounts.memory_gb,
            gpu_count: amounts.gpu_count,
            gpu_memory_gb: amounts.gpu_memory_gb,
            storage_gb: amounts.storage_gb,
            network_bandwidth: amounts.network_bandwidth,
            optimization_target: target,
            priority_level: draft.priority_level.unwrap_or_else(|| "normal".to_owned()),
            status: life.state.word().to_owned(),
            allocated_at: Some(now),
            started_at: None,
            completed_at: None,
            created_at: now,
            updated_at: now,
            owner_id: Some(by.principal.id()),
            task_requirements: draft.task_requirements,
            task_rule: Some(demand.rule.name().to_owned()),
            initial: Some(configuration.initial),
            execution_id: draft.execution_id,
            host_id,
            placement,
            held: Some(i64::from(life.holds)),
            parts: amounts.parts(),
            due_at: Some(Timestamp(now.0 + ttl)),
            tuned_by,
            measured: None,
            sandbox: None,
            commands: None,
        }
    }

    /// Begin an allocation's use.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] where its state forbids it; [`PerformanceError::Invalid`] for an
    /// execution that is not the caller's.
    #[boxed]
    pub async fn start(
        &self,
        caller: &PerformanceCaller,
        id: &str,
        start: AllocationStart,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AllocationDocument>> {
        self.act(caller, id, (AllocationAction::Start, "started"), start.execution_id, once).await
    }

    /// End an allocation's use: what was measured of it is kept.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] where its state forbids it.
    #[boxed]
    pub async fn complete(
        &self,
        caller: &PerformanceCaller,
        id: &str,
        end: AllocationCompletion,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AllocationDocument>> {
        let action = AllocationAction::Complete { keep: end.keep.unwrap_or(false) };
        self.act(caller, id, (action, "completed"), None, once).await
    }

    /// Give an allocation back.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] where it has ended.
    #[boxed]
    pub async fn release(
        &self,
        caller: &PerformanceCaller,
        id: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AllocationDocument>> {
        self.act(caller, id, (AllocationAction::Release, "released"), None, once).await
    }

    async fn act(
        &self,
        caller: &PerformanceCaller,
        id: &str,
        (action, word): (AllocationAction, &'static str),
        execution: Option<ExecutionId>,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AllocationDocument>> {
        let (me, by, id, now) = (self.clone(), caller.clone(), id.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            let mut record = visible_allocation(tx.conn().await?, &by, &id).await?;
            if let Some(execution) = execution {
                check_execution(tx.conn().await?, &by, &execution).await?;
                record.execution_id = Some(execution);
            }
            let Some(life) = record.life() else {
                let text = format!("Allocation {id} was made or changed by another service");
                return Err(PerformanceError::Conflict("conflict", text));
            };
            if record.due_at.is_some_and(|due| due <= now) {
                return Err(PerformanceError::Conflict("allocation_expired", format!("Allocation {id} has expired")));
            }
            let Some(change) = life.apply(action) else {
                let text = format!("Allocation {id} is {}: it can't be {word}", life.state);
                return Err(PerformanceError::Conflict("invalid_state", text));
            };
            me.change(tx, &mut record, change, now).await?;
            let entry = me.entry(&by.principal, "resource_allocation", word, now);
            let entry = entry.data("allocation", json!(id)).data("host", json!(record.host_id));
            me.0.audit.append(tx, vec![entry]).await?;
            let stored = store::allocation(tx.conn().await?, &id).await?;
            Ok(stored.unwrap_or(record).into_document())
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Store what an action has made of an allocation, and give its capacity back where it frees it.
    async fn change(
        &self,
        tx: &mut Tx,
        record: &mut AllocationRecord,
        change: super::state::LifeChange,
        now: Timestamp,
    ) -> Result<()> {
        let life = change.life;
        if let (true, Some(host)) = (change.frees, &record.host_id) {
            store::give_back(tx, host, &record.parts).await?;
        }
        match life.state {
            AllocationState::Active if record.started_at.is_none() => record.started_at = Some(now),
            AllocationState::Completed if record.completed_at.is_none() => {
                record.completed_at = Some(now);
                record.measured = Some(record.usage());
            }
            AllocationState::Released | AllocationState::Expired if record.measured.is_none() => {
                record.measured = Some(record.usage());
            }
            _ => {}
        }
        record.status = life.state.word().to_owned();
        record.held = Some(i64::from(life.holds));
        if !life.can_expire() {
            record.due_at = None;
        }
        record.updated_at = now;
        store::update_allocation(tx, record).await?;
        Ok(())
    }

    /// End those whose time has run out, as many as one transaction takes. Returns how many had a row.
    pub(super) async fn expire_batch(&self, tx: &mut Tx, now: Timestamp) -> Result<usize> {
        let due = store::due(tx.conn().await?, now, EXPIRY_BATCH).await?;
        let mut entries = Vec::new();
        for id in &due {
            let Some(mut record) = store::allocation(tx.conn().await?, id).await? else {
                if let Some((host, parts)) = store::held_parts(tx.conn().await?, id).await? {
                    store::give_back(tx, &host, &parts).await?;
                }
                store::forget_due(tx, id).await?;
                continue;
            };
            let change = record.life().and_then(|life| life.apply(AllocationAction::Expire));
            let Some(change) = change else {
                // The coordinator has ended it in its own way: what it took is free.
                self.free_foreign_end(tx, &mut record, now).await?;
                continue;
            };
            self.change(tx, &mut record, change, now).await?;
            let owner = record.owner_id.clone().unwrap_or_default();
            let entry = am_audit::AuditEntry::new(am_audit::EventType::WorkflowUpdated, now)
                .on_behalf_of(PrincipalName::from_stored(&owner).as_str())
                .of("resource_allocation", "expired");
            entries.push(entry.data("allocation", json!(id)).data("host", json!(record.host_id)));
        }
        let ended = entries.len() as u64;
        if !entries.is_empty() {
            self.0.audit.append(tx, entries).await?;
        }
        let me = self.clone();
        tx.after_commit(move || {
            me.0.metrics.expired.inc_by(ended);
        });
        Ok(due.len())
    }

    /// Free what an allocation takes whose state another service has set; the state stays.
    async fn free_foreign_end(&self, tx: &mut Tx, record: &mut AllocationRecord, now: Timestamp) -> Result<()> {
        if let (Some(1), Some(host)) = (record.held, &record.host_id) {
            store::give_back(tx, host, &record.parts).await?;
        }
        (record.held, record.due_at, record.updated_at) = (Some(0), None, now);
        store::update_allocation(tx, record).await?;
        Ok(())
    }

    /// An allocation that the caller may see.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn allocation(&self, caller: &PerformanceCaller, id: &str) -> Result<AllocationDocument> {
        let found = visible_allocation(&mut *self.0.db.read().await?, caller, id).await?;
        Ok(found.into_document())
    }

    /// A page of an agent's allocations, the newest first, and how many there are.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`] for another's agent, and for one that nobody has used.
    #[boxed]
    pub async fn list_allocations(
        &self,
        caller: &PerformanceCaller,
        agent: &AgentId,
        status: Option<&str>,
        page: &PageRequest,
    ) -> Result<(Vec<AllocationDocument>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        check_visible(&mut conn, caller, agent).await?;
        let (rows, total) = store::list(&self.0.db, &mut conn, (agent, status), page).await?;
        Ok((rows.into_iter().map(AllocationRecord::into_document).collect(), total))
    }
}

/// An allocation that the caller may see: one that it made, or of an agent that it may use.
async fn visible_allocation(conn: &mut Connection, caller: &PerformanceCaller, id: &str) -> Result<AllocationRecord> {
    let found = store::allocation(conn, id).await?.ok_or_else(|| no_allocation(id))?;
    let own = found.owner_id.as_ref().is_some_and(|owner| caller.may_see(owner));
    if own {
        return Ok(found);
    }
    match check_visible(conn, caller, &found.agent_id).await {
        Ok(()) => Ok(found),
        Err(PerformanceError::NotFound(_)) => Err(no_allocation(id)),
        Err(error) => Err(error),
    }
}

/// Check that an execution is the caller's.
async fn check_execution(conn: &mut Connection, caller: &PerformanceCaller, execution: &ExecutionId) -> Result<()> {
    let client = store::execution_client(conn, execution).await?;
    if client.is_some_and(|client| caller.may_see(&client)) {
        return Ok(());
    }
    Err(PerformanceError::invalid("execution_id", "is no execution of yours"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: serde_json::Value) -> Vec<String> {
        match checked(serde_json::from_value(body).unwrap()) {
            Ok(_) => Vec::new(),
            Err(violations) => violations.iter().map(|violation| violation.path.to_string()).collect(),
        }
    }

    #[test]
    fn all_faults_of_a_draft_are_told_together() {
        let good = json!({"agent_id": "a", "task_requirements": {}, "priority_level": "low", "ttl_seconds": 1});
        assert!(faults(good).is_empty());
        let bad = json!({
            "agent_id": "a", "task_requirements": {"workload_factor": -1}, "priority_level": "", "ttl_seconds": 0,
        });
        assert_eq!(faults(bad), ["task_requirements.workload_factor", "priority_level", "ttl_seconds"]);
    }
}
