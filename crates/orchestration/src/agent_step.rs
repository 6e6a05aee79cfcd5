//! Steps done by an agent of the registry: parsed with the workflow, assigned when they begin.

use serde_json::{Map, Value};

use super::{
    agents::{AGENT_TYPE_LENGTH, GpuTier, TaskRequirements, TaskType, check_agent_id},
    model::MAX_STEP_SECONDS,
    template::JsonTemplate,
};
use am_core::{
    ids::AgentId,
    money::Money,
    validation::{Violation, Violations, has_length, within},
};

/// Default number of retries of a failed assignment (from the contract).
pub const MAX_RETRIES: i64 = 3;
/// The lowest priority.
const MAX_PRIORITY: i64 = 9;
/// The highest price of a step.
const MAX_PRICE: f64 = 1e9;

/// Assignment of a step to an agent.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    /// Requirements on the agent.
    pub need: TaskRequirements,
    /// Priority; 0 is served first.
    pub priority: i64,
    /// Request sent to the agent, in addition to the step's input.
    pub request: JsonTemplate,
    /// Number of retries of a failed assignment; see [`MAX_RETRIES`].
    pub max_retries: i64,
}

/// Parse the members of an action of kind `agent`.
///
/// # Errors
/// Every violation, with its path inside the step.
pub fn parse_agent_step(members: &Map<String, Value>) -> Result<AgentSpec, Vec<Violation>> {
    let mut violations = Violations::default();
    let spec = read(members, &mut violations);
    violations.finish_with(spec).map_err(|found| found.into_iter().map(|one| one.within(["action"])).collect())
}

/// What the members say; none only where a violation was recorded.
fn read(members: &Map<String, Value>, violations: &mut Violations) -> Option<AgentSpec> {
    let given = |member: &str| members.get(member).filter(|value| !value.is_null());
    let task_type = given("task_type").and_then(Value::as_str).and_then(TaskType::from_value);
    if task_type.is_none() {
        let known = TaskType::ALL.iter().map(|one| one.value()).collect::<Vec<_>>().join(", ");
        violations.add("task_type", format!("must be one of {known}"));
    }
    let gpu_tier = given("gpu_tier").map(|tier| tier.as_str().and_then(GpuTier::from_value));
    if gpu_tier == Some(None) {
        let known = GpuTier::ALL.iter().map(|one| one.value()).collect::<Vec<_>>().join(", ");
        violations.add("gpu_tier", format!("must be one of {known}"));
    }
    let only_agent = given("agent_id").map(|id| id.as_str().map(AgentId::from));
    let sound = only_agent.as_ref().is_none_or(|id| id.as_ref().is_some_and(|id| check_agent_id(id).is_none()));
    violations.require(sound, "agent_id", "must be the id of an agent");
    let agent_type = given("agent_type").map(|kind| kind.as_str().filter(|kind| has_length(kind, &AGENT_TYPE_LENGTH)));
    violations.require(agent_type != Some(None), "agent_type", "must have 1 to 50 characters");
    let mut number = |member: &str, most: f64| {
        let number = given(member).map(|value| value.as_f64().filter(|number| (0.0..=most).contains(number)));
        violations.require(number != Some(None), member, format!("must be a number from 0 to {most}"));
        number.flatten()
    };
    let max_price = number("max_price", MAX_PRICE).map(Money::from_f64);
    let estimated_seconds = number("estimated_seconds", MAX_STEP_SECONDS as f64);
    let mut whole = |member: &str, default: i64, most: i64| {
        let number = given(member).map(|value| value.as_i64().filter(|number| (0..=most).contains(number)));
        violations.require(number != Some(None), member, format!("must be a whole number from 0 to {most}"));
        number.flatten().unwrap_or(default)
    };
    let priority = whole("priority", 1, MAX_PRIORITY);
    let max_retries = whole("max_retries", MAX_RETRIES, MAX_RETRIES);
    let request = given("request").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    violations.require(request.is_object(), "request", "must be an object");
    let request = JsonTemplate::parse(request).map_err(|found| within("request", found));
    let request = violations.take(request);
    let (only_agent, task_type) = (only_agent.flatten(), task_type?);
    let (gpu_tier, agent_type) = (gpu_tier.flatten(), agent_type.flatten().map(str::to_owned));
    let need = TaskRequirements { only_agent, task_type, gpu_tier, agent_type, max_price, estimated_seconds };
    Some(AgentSpec { need, priority, request: request?, max_retries })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_asked_of_an_agent_is_checked_with_its_workflow() {
        let good = json!({"kind": "agent", "task_type": "text_processing", "gpu_tier": "low_end_gpu", "request": {"x": "$.inputs.x"}, "priority": 0});
        let spec = parse_agent_step(good.as_object().unwrap()).unwrap();
        assert_eq!((spec.need.gpu_tier, spec.priority, spec.max_retries), (Some(GpuTier::LowEndGpu), 0, 3));
        for (change, member) in [
            (json!({"task_type": "cooking"}), "task_type"),
            (json!({"task_type": null}), "task_type"),
            (json!({"gpu_tier": "huge"}), "gpu_tier"),
            (json!({"agent_id": "no id"}), "agent_id"),
            (json!({"agent_id": 3}), "agent_id"),
            (json!({"agent_type": ""}), "agent_type"),
            (json!({"max_price": -1}), "max_price"),
            (json!({"estimated_seconds": "x"}), "estimated_seconds"),
            (json!({"priority": 10}), "priority"),
            (json!({"max_retries": 4}), "max_retries"),
            (json!({"request": []}), "request"),
        ] {
            let mut bad = good.as_object().unwrap().clone();
            bad.extend(change.as_object().unwrap().clone());
            let found = parse_agent_step(&bad).unwrap_err();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].path.to_string(), format!("action.{member}"), "{change}");
        }
        let bad = json!({"priority": -1, "max_price": "x", "request": {"a": "$.nowhere"}});
        let paths: Vec<String> =
            parse_agent_step(bad.as_object().unwrap()).unwrap_err().iter().map(|one| one.path.to_string()).collect();
        assert_eq!(paths, ["action.task_type", "action.max_price", "action.priority", "action.request.a"]);
    }
}
