//! A step that an agent of the registry does: read and checked with its workflow, an assignment when it begins.

use serde_json::{Map, Value};

use super::{
    model::Fault,
    registry::{GpuTier, Need, TaskType},
    template::Template,
};

/// Attempts at an assignment that may fail, but for the first (the contract's).
pub const MAX_RETRIES: i64 = 3;

/// What a step asks of an agent.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    /// Which agents can do it.
    pub need: Need,
    /// 0 goes first.
    pub priority: i64,
    /// What the agent gets to know, beside the step's input.
    pub request: Template,
    /// See [`MAX_RETRIES`].
    pub max_retries: i64,
}

/// Read the members of an action of kind agent.
///
/// # Errors
/// The first fault, with the member it is in.
pub fn parse(members: &Map<String, Value>) -> Result<AgentSpec, Fault> {
    let fault = |member: &str, message: String| Fault::new(["action", member], message);
    let given = |member: &str| members.get(member).filter(|value| !value.is_null());
    let words = |all: Vec<&'static str>| all.join(", ");
    let task_types = || words(TaskType::ALL.iter().map(|one| one.value()).collect());
    let task_type = given("task_type").and_then(Value::as_str).and_then(TaskType::from_value);
    let task_type = task_type.ok_or_else(|| fault("task_type", format!("must be one of {}", task_types())))?;
    let gpu_tier = match given("gpu_tier") {
        None => None,
        Some(tier) => Some(tier.as_str().and_then(GpuTier::from_value).ok_or_else(|| {
            fault("gpu_tier", format!("must be one of {}", words(GpuTier::ALL.iter().map(|one| one.value()).collect())))
        })?),
    };
    let agent_type = match given("agent_type") {
        None => None,
        Some(Value::String(kind)) if (1..=50).contains(&kind.chars().count()) => Some(kind.clone()),
        Some(_) => return Err(fault("agent_type", "must have 1 to 50 characters".into())),
    };
    let number = |member: &str, least: f64, most: f64| match given(member).map(Value::as_f64) {
        None => Ok(None),
        Some(Some(number)) if (least..=most).contains(&number) => Ok(Some(number)),
        Some(_) => Err(fault(member, format!("must be a number from {least} to {most}"))),
    };
    let whole = |member: &str, default: i64, most: i64| match given(member).map(Value::as_i64) {
        None => Ok(default),
        Some(Some(number)) if (0..=most).contains(&number) => Ok(number),
        Some(_) => Err(fault(member, format!("must be a whole number from 0 to {most}"))),
    };
    let max_price = number("max_price", 0.0, 1e9)?;
    let estimated_seconds = number("estimated_seconds", 0.0, 604_800.0)?;
    let priority = whole("priority", 1, 9)?;
    let max_retries = whole("max_retries", MAX_RETRIES, MAX_RETRIES)?;
    let request = given("request").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    if !request.is_object() {
        return Err(fault("request", "must be an object".into()));
    }
    let request = Template::parse(request).map_err(|(mut path, message)| {
        path.splice(0..0, ["action".into(), "request".into()]);
        Fault { path, message }
    })?;
    let need = Need { task_type, gpu_tier, agent_type, max_price, estimated_seconds };
    Ok(AgentSpec { need, priority, request, max_retries })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_asked_of_an_agent_is_checked_with_its_workflow() {
        let good = json!({"kind": "agent", "task_type": "text_processing", "gpu_tier": "low_end_gpu", "request": {"x": "$.inputs.x"}, "priority": 0});
        let spec = parse(good.as_object().unwrap()).unwrap();
        assert_eq!((spec.need.gpu_tier, spec.priority, spec.max_retries), (Some(GpuTier::LowEndGpu), 0, 3));
        for (change, member) in [
            (json!({"task_type": "cooking"}), "task_type"),
            (json!({"task_type": null}), "task_type"),
            (json!({"gpu_tier": "huge"}), "gpu_tier"),
            (json!({"agent_type": ""}), "agent_type"),
            (json!({"max_price": -1}), "max_price"),
            (json!({"estimated_seconds": "x"}), "estimated_seconds"),
            (json!({"priority": 10}), "priority"),
            (json!({"max_retries": 4}), "max_retries"),
            (json!({"request": []}), "request"),
        ] {
            let mut bad = good.as_object().unwrap().clone();
            bad.extend(change.as_object().unwrap().clone());
            assert_eq!(parse(&bad).unwrap_err().place(), format!("action.{member}"), "{change}");
        }
    }
}
