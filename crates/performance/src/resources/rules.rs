//! The configuration for a task: what its type takes, and what the target of the optimisation makes of that.

use am_core::validation::{FieldPath, Violations};
use serde_json::{Map, Value};

use super::{
    amounts::{ResourceAmounts, to_thousandths},
    model::OptimizationTarget,
};

/// Largest `workload_factor` that is taken.
const MAX_WORKLOAD_FACTOR: f64 = 1000.0;
/// Characters of a text among the requirements that the rules read.
const MAX_WORD_LEN: usize = 100;
/// Bytes of all requirements together.
const MAX_REQUIREMENT_BYTES: usize = 16 << 10;
/// GB of GPU memory that accuracy gives each GPU.
const ACCURATE_GPU_MEMORY: f64 = 8.0;

/// A row of the table of initial allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskRule {
    General,
    Inference,
    Training,
    TextGeneration,
    ImageGeneration,
}

impl TaskRule {
    /// The row for a task's type: `general` for one that has no row of its own.
    fn of(task_type: &str) -> Self {
        match task_type {
            "inference" => Self::Inference,
            "training" => Self::Training,
            "text_generation" => Self::TextGeneration,
            "image_generation" => Self::ImageGeneration,
            _ => Self::General,
        }
    }

    /// Name of the row.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Inference => "inference",
            Self::Training => "training",
            Self::TextGeneration => "text_generation",
            Self::ImageGeneration => "image_generation",
        }
    }
}

/// What the rules read of a task's requirements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TaskDemand {
    /// Row of the table.
    pub rule: TaskRule,
    /// Whether `model_size` is `large`.
    pub is_large: bool,
    /// Multiplies the whole row; above 0.
    pub workload_factor: f64,
}

/// A configuration before and after the target's rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TaskConfiguration {
    /// The row of the table times the workload factor.
    pub initial: ResourceAmounts,
    /// After the target's rule, within the bounds.
    pub optimized: ResourceAmounts,
}

impl TaskDemand {
    /// Read requirements, in `place` of the request. All that the rules do not read is let through.
    pub(super) fn read(requirements: &Map<String, Value>, place: &str, violations: &mut Violations) -> Self {
        let path = |member: &str| FieldPath::from([member]).within(place.split('.'));
        let mut word = |member: &str| match requirements.get(member) {
            None | Some(Value::Null) => "",
            Some(Value::String(text)) if text.chars().count() <= MAX_WORD_LEN => text.as_str(),
            Some(_) => {
                violations.add(path(member), format!("must be a text of at most {MAX_WORD_LEN} characters"));
                ""
            }
        };
        let (rule, is_large) = (TaskRule::of(word("task_type")), word("model_size") == "large");
        let workload_factor = match requirements.get("workload_factor") {
            None | Some(Value::Null) => 1.0,
            Some(factor) => {
                let sound = factor.as_f64().filter(|factor| *factor > 0.0 && *factor <= MAX_WORKLOAD_FACTOR);
                let message = format!("must be a number above 0 and at most {MAX_WORKLOAD_FACTOR}");
                violations.require(sound.is_some(), path("workload_factor"), message);
                sound.unwrap_or(1.0)
            }
        };
        let bytes = requirements.iter().map(|(name, value)| name.len() + value.to_string().len()).sum::<usize>();
        violations.require(
            bytes <= MAX_REQUIREMENT_BYTES,
            place.split('.').collect::<FieldPath>(),
            format!("must have at most {MAX_REQUIREMENT_BYTES} bytes"),
        );
        Self { rule, is_large, workload_factor }
    }

    /// The configuration before the target's rule.
    fn initial(&self) -> ResourceAmounts {
        let gpu_if_large = if self.is_large { 1.0 } else { 0.0 };
        let [cpu_cores, memory_gb, gpu_count, storage_gb, network_bandwidth] = match self.rule {
            TaskRule::General => [2.0, 4.0, 0.0, 50.0, 100.0],
            TaskRule::Inference => [4.0, 8.0, gpu_if_large, 50.0, 200.0],
            TaskRule::Training => [8.0, 16.0, 2.0, 200.0, 500.0],
            TaskRule::TextGeneration => [2.0, 6.0, 0.0, 50.0, 50.0],
            TaskRule::ImageGeneration => [4.0, 12.0, 1.0, 100.0, 100.0],
        }
        .map(|amount| amount * self.workload_factor);
        ResourceAmounts { cpu_cores, memory_gb, gpu_count, gpu_memory_gb: 0.0, storage_gb, network_bandwidth }.rounded()
    }

    /// The configuration for a target.
    pub(super) fn configure(&self, target: OptimizationTarget) -> TaskConfiguration {
        let initial = self.initial();
        let mut amounts = initial;
        let mut gpu_memory_each = 0.0;
        match target {
            OptimizationTarget::Speed => {
                amounts.cpu_cores *= 1.5;
                amounts.memory_gb *= 1.3;
                if matches!(self.rule, TaskRule::Inference | TaskRule::ImageGeneration) {
                    amounts.gpu_count = amounts.gpu_count.max(1.0);
                }
            }
            OptimizationTarget::Accuracy => {
                amounts.memory_gb *= 2.0;
                if matches!(self.rule, TaskRule::Training | TaskRule::Inference) {
                    amounts.gpu_count = amounts.gpu_count.max(2.0);
                    gpu_memory_each = ACCURATE_GPU_MEMORY;
                }
            }
            OptimizationTarget::Efficiency => match self.rule {
                TaskRule::TextGeneration => {
                    amounts.cpu_cores *= 0.8;
                    amounts.gpu_count = 0.0;
                }
                TaskRule::Inference => amounts.gpu_count = (amounts.gpu_count * 0.7).max(0.5),
                TaskRule::General | TaskRule::Training | TaskRule::ImageGeneration => {}
            },
            OptimizationTarget::Cost => {
                amounts.gpu_count = 0.0;
                amounts.cpu_cores *= 0.5;
                amounts.memory_gb *= 0.7;
            }
            // Whole cores and GPUs, which equal copies can share out, and room for more data and calls.
            OptimizationTarget::Scalability => {
                amounts.cpu_cores = to_thousandths(amounts.cpu_cores).ceil();
                amounts.gpu_count = to_thousandths(amounts.gpu_count).ceil();
                amounts.memory_gb *= 1.25;
                amounts.storage_gb *= 1.5;
                amounts.network_bandwidth *= 2.0;
            }
            // Reserves for peaks, storage for a second copy, no shared GPU.
            OptimizationTarget::Reliability => {
                amounts.cpu_cores *= 1.25;
                amounts.memory_gb *= 1.5;
                amounts.storage_gb *= 2.0;
                amounts.gpu_count = to_thousandths(amounts.gpu_count).ceil();
            }
        }
        let mut optimized = bounded(amounts);
        optimized.gpu_memory_gb = gpu_memory_each * optimized.gpu_count;
        TaskConfiguration { initial, optimized: optimized.rounded() }
    }
}

/// Within the bounds: cores 0.5 to 16, memory 1 to 64 GB, GPUs 0 to 8, storage 10 to 1000 GB, network 10 to 1000 Mbit/s.
fn bounded(amounts: ResourceAmounts) -> ResourceAmounts {
    ResourceAmounts {
        cpu_cores: amounts.cpu_cores.clamp(0.5, 16.0),
        memory_gb: amounts.memory_gb.clamp(1.0, 64.0),
        gpu_count: amounts.gpu_count.clamp(0.0, 8.0),
        gpu_memory_gb: amounts.gpu_memory_gb,
        storage_gb: amounts.storage_gb.clamp(10.0, 1000.0),
        network_bandwidth: amounts.network_bandwidth.clamp(10.0, 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every task type, model size, workload factor and target, computed from the contract's text by another program: type, size,
    /// factor, target, the six amounts before (without GPU memory) and after.
    const CELLS: &str = include_str!("allocation_cells.txt");

    fn demand(requirements: Value) -> Result<TaskDemand, Vec<String>> {
        let mut violations = Violations::default();
        let read = TaskDemand::read(requirements.as_object().unwrap(), "task_requirements", &mut violations);
        violations
            .finish()
            .map(|()| read)
            .map_err(|found| found.iter().map(|violation| violation.path.to_string()).collect())
    }

    #[test]
    fn every_cell_of_the_table_is_as_the_contract_says() {
        let mut cells = 0;
        for line in CELLS.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [task_type, model_size, factor, target, amounts @ ..] = words.as_slice() else { panic!("{line}") };
            let factor: f64 = factor.parse().unwrap();
            let mut asked = json!({"task_type": task_type, "workload_factor": factor});
            if *model_size != "-" {
                asked["model_size"] = json!(model_size);
            }
            let target = OptimizationTarget::from_value(target).unwrap();
            let found = demand(asked).unwrap().configure(target);
            let wanted: Vec<f64> = amounts.iter().map(|amount| amount.parse().unwrap()).collect();
            let shown = [found.initial.values(), found.optimized.values()].concat();
            assert_eq!(shown, wanted, "{line}");
            cells += 1;
        }
        assert_eq!(cells, 6 * 3 * 5 * 6, "types, sizes, factors, targets");
    }

    #[test]
    fn what_is_missing_has_a_default() {
        let found = demand(json!({})).unwrap();
        assert_eq!((found.rule.name(), found.is_large, found.workload_factor), ("general", false, 1.0));
        let other = demand(json!({"task_type": "video", "model_size": null, "deadline": [1]})).unwrap();
        assert_eq!(other, found);
    }

    #[test]
    fn requirements_that_cannot_be_read_are_named() {
        for factor in [json!(-1), json!(0), json!(1001), json!("NaN"), json!([1])] {
            assert_eq!(
                demand(json!({"workload_factor": factor})).unwrap_err(),
                ["task_requirements.workload_factor"],
                "{factor}"
            );
        }
        let found = demand(json!({"task_type": 1, "model_size": {}, "workload_factor": true})).unwrap_err();
        let members =
            ["task_type", "model_size", "workload_factor"].map(|member| format!("task_requirements.{member}"));
        assert_eq!(found, members);
        assert_eq!(demand(json!({"note": "x".repeat(20_000)})).unwrap_err(), ["task_requirements"]);
    }
}
