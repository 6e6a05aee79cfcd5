//! What the optimisation of allocations needs: what executions used of an agent's allocations, how a configuration fits that, and the
//! configurations that were tuned.

use am_core::{ids::AgentId, validation::Violations};
use am_db::{Connection, Database, Tx, codec::Timestamp};
use serde_json::{Map, Value};

use super::{
    amounts::ResourceAmounts,
    model::OptimizationTarget,
    rules::TaskDemand,
    store::{self, UsedAllocation},
    tuned_amounts::{RecordedUse, TunedAllocation},
};

/// Allocations of an agent that are looked at, the newest ones.
const MAX_ALLOCATIONS: i64 = 500;

/// An allocation that is to be tuned.
pub(crate) struct TunableAllocation {
    pub(crate) agent_id: AgentId,
    /// What it has in common with those that it is tuned by, and for.
    pub(crate) task: String,
    pub(crate) amounts: ResourceAmounts,
    /// What was used of the agent's allocations for such tasks, oldest first.
    pub(crate) uses: Vec<RecordedUse>,
}

/// How well a configuration fits a use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ConfigurationFit {
    /// Whether it has no less than was used.
    pub(crate) fits: bool,
    /// Mean of the used shares, each 1 at most.
    pub(crate) efficiency: f64,
    /// Share of the cost of the measured resources that was used.
    pub(crate) cost_efficiency: f64,
}

/// What a configuration costs, in cost units.
pub(crate) fn cost_of(amounts: &ResourceAmounts) -> f64 {
    amounts.cost()
}

/// How well a configuration fits a use.
pub(crate) fn fit_of(amounts: &ResourceAmounts, used: &RecordedUse) -> ConfigurationFit {
    let [cores, memory, _, _, storage, _] = amounts.resource_costs();
    let parts = [
        (used.cpu_cores, amounts.cpu_cores, cores),
        (used.memory_gb, amounts.memory_gb, memory),
        (used.storage_gb, amounts.storage_gb, storage),
    ];
    let share = |(used, has, _): &(f64, f64, f64)| if *has > 0.0 { (used / has).min(1.0) } else { 0.0 };
    let whole: f64 = parts.iter().map(|(.., cost)| cost).sum();
    let spent: f64 = parts.iter().map(|part| share(part) * part.2).sum();
    ConfigurationFit {
        fits: parts.iter().all(|(used, has, _)| used <= has),
        efficiency: parts.iter().map(share).sum::<f64>() / parts.len() as f64,
        cost_efficiency: if whole > 0.0 { spent / whole } else { 0.0 },
    }
}

/// What allocations for like tasks have in common.
pub(super) fn task_key(demand: &TaskDemand, target: OptimizationTarget) -> String {
    let size = if demand.is_large { "large" } else { "any" };
    format!("{}/{size}/{}/{}", demand.rule.name(), demand.workload_factor, target.value())
}

fn key_of(requirements: &Map<String, Value>, target: OptimizationTarget) -> String {
    // They were checked when the allocation was made.
    let demand = TaskDemand::read(requirements, "task_requirements", &mut Violations::default());
    task_key(&demand, target)
}

/// What was used of an allocation; `None`: not all of it was measured.
fn use_of(row: &UsedAllocation) -> Option<RecordedUse> {
    let shares = &row.measured.as_ref()?.utilisation;
    Some(RecordedUse {
        cpu_cores: shares.cpu_cores? * row.cpu_cores,
        memory_gb: shares.memory_gb? * row.memory_gb,
        storage_gb: shares.storage_gb? * row.storage_gb,
    })
}

/// An allocation that was made here, with what was used of the agent's allocations for such tasks; `None`: there is none.
///
/// # Errors
/// A database error.
pub(crate) async fn tunable_allocation(db: &Database, id: &str) -> am_db::Result<Option<TunableAllocation>> {
    let mut conn = db.read_list().await?;
    let found = store::allocation(&mut conn, id).await?;
    let Some(record) = found.filter(|record| record.owner_id.is_some()) else { return Ok(None) };
    let task = key_of(&record.task_requirements, record.optimization_target);
    let rows = store::used_allocations(db, &mut conn, &record.agent_id, MAX_ALLOCATIONS).await?;
    let alike = rows.iter().filter(|row| key_of(&row.task_requirements, row.optimization_target) == task);
    let mut uses: Vec<RecordedUse> = alike.filter_map(use_of).collect();
    uses.reverse();
    Ok(Some(TunableAllocation { amounts: record.amounts(), agent_id: record.agent_id, task, uses }))
}

/// What an agent's allocations for a task begin with; `None`: the table's configuration.
///
/// # Errors
/// A database error.
pub(crate) async fn tuned_allocation(
    conn: &mut Connection,
    agent: &AgentId,
    task: &str,
) -> am_db::Result<Option<TunedAllocation>> {
    store::tuned_allocation(conn, agent, task).await
}

/// Set what an agent's allocations for a task begin with; `None`: the table's configuration again.
///
/// # Errors
/// A database error.
pub(crate) async fn set_tuned_allocation(
    tx: &mut Tx,
    (agent, task): (&AgentId, &str),
    tuned: Option<&TunedAllocation>,
    now: Timestamp,
) -> am_db::Result<()> {
    match tuned {
        Some(tuned) => store::put_tuned_allocation(tx, (agent, task), tuned, now).await,
        None => store::delete_tuned_allocation(tx, (agent, task)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tuned_amounts::TunedAmounts, *};
    use serde_json::json;

    #[test]
    fn a_configuration_fits_what_is_no_more_than_it() {
        let amounts = ResourceAmounts::from_values([2.0, 4.0, 1.0, 0.0, 50.0, 100.0]);
        let found = fit_of(&amounts, &RecordedUse { cpu_cores: 1.0, memory_gb: 1.0, storage_gb: 5.0 });
        assert!(found.fits && (found.efficiency - (0.5 + 0.25 + 0.1) / 3.0).abs() < 1e-12, "{found:?}");
        // Half of 20, a quarter of 8, a tenth of 5, of 33.
        assert!((found.cost_efficiency - 12.5 / 33.0).abs() < 1e-12, "{found:?}");
        let more = fit_of(&amounts, &RecordedUse { cpu_cores: 1.0, memory_gb: 4.5, storage_gb: 5.0 });
        assert!(!more.fits && more.efficiency > found.efficiency);
        let less = TunedAmounts { cpu_cores: 1.0, memory_gb: 1.0, storage_gb: 10.0 }.within(&amounts);
        assert_eq!((less.gpu_count, less.cpu_cores, cost_of(&less)), (1.0, 1.0, 113.0));
    }

    #[test]
    fn like_tasks_have_one_key() {
        let key = |requirements: Value, target| key_of(requirements.as_object().unwrap(), target);
        let plain = key(json!({"task_type": "inference", "note": 1}), OptimizationTarget::Cost);
        assert_eq!(plain, "inference/any/1/cost");
        assert_eq!(key(json!({"task_type": "inference", "workload_factor": 1.0}), OptimizationTarget::Cost), plain);
        for other in [
            key(json!({"task_type": "inference", "model_size": "large"}), OptimizationTarget::Cost),
            key(json!({"task_type": "inference", "workload_factor": 1.5}), OptimizationTarget::Cost),
            key(json!({"task_type": "inference"}), OptimizationTarget::Speed),
        ] {
            assert_ne!(other, plain);
        }
    }
}
