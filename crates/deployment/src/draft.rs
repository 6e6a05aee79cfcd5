//! A configuration as a client sends it, checked.

use std::ops::RangeInclusive;

use am_core::validation::{Violation, Violations, has_length};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    alerts::AlertThresholds,
    model::DeploymentSettingsDocument,
    ports::{PortRange, read_range},
    rollout::RolloutStrategy,
    scaling::ScalingPolicy,
};

/// Numbers of instances that a deployment may have.
pub const INSTANCE_COUNTS: RangeInclusive<i64> = 0..=100;
/// Names in a list at most.
const MOST_NAMES: usize = 20;
/// The commands that mean an instance of this service.
const OWN_COMMANDS: [&str; 2] = ["agent", "agent-management agent"];

/// The configuration of a deployment. Members that are left out have the coordinator's defaults.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = AgentDeploymentRequest, example = json!({
    "min_instances": 3, "max_instances": 6, "rollout_strategy": "canary", "health_check_interval": 5,
}))]
pub struct DeploymentDraft {
    /// Name of the deployment, where `production/deploy` makes it; elsewhere the query has the name, and this is not read.
    pub deployment_name: Option<String>,
    /// Description for people, at most 1000 characters. Default: empty.
    pub description: Option<String>,
    /// Version, 1 to 50 characters. Default `1.0.0`.
    pub version: Option<String>,
    /// Names of the environments that it may be deployed to, at most 20. Default: any.
    pub target_environments: Option<Vec<String>>,
    /// Names of regions, at most 20. Default: none.
    pub deployment_regions: Option<Vec<String>>,
    /// Cores that an instance is meant to have, 0.01 to 1024. Default 1.
    pub min_cpu_cores: Option<f64>,
    /// Memory for an instance's data in MiB, 64 to 1048576. Default 1024.
    pub min_memory_mb: Option<i64>,
    /// Storage in GB, 0 to 1048576. Default 10.
    pub min_storage_gb: Option<i64>,
    /// Whether a GPU is asked for. Default false.
    pub requires_gpu: Option<bool>,
    /// Memory of that GPU in MiB, 0 to 1048576. Default: none.
    pub gpu_memory_mb: Option<i64>,
    /// Fewest instances, 0 to 100. Default 1.
    pub min_instances: Option<i64>,
    /// Most instances, 1 to 100, no fewer than the fewest. Default 5.
    pub max_instances: Option<i64>,
    /// Whether the number of instances follows the load. Default true.
    pub auto_scaling: Option<bool>,
    /// How it does. Default: 4 calls under way at each instance.
    pub scaling_policy: Option<ScalingPolicy>,
    /// Path that health checks ask, of 1 to 200 letters, digits and `/ . - _`, beginning with `/`. Default `/health`.
    pub health_check_endpoint: Option<String>,
    /// Seconds between two checks, 1 to 3600. Default 30.
    pub health_check_interval: Option<i64>,
    /// Seconds after which a check has failed, 1 to 300. Default 10.
    pub health_check_timeout: Option<i64>,
    /// Failed checks in a row after which an instance is unhealthy, 1 to 100. Default 3.
    pub max_failures: Option<i64>,
    /// How a new revision takes the place of the old one: `rolling`, `blue-green` (or `blue_green`) or `canary`. Default `rolling`.
    pub rollout_strategy: Option<String>,
    /// Whether it may be rolled back. Default true.
    pub rollback_enabled: Option<bool>,
    /// Seconds after which a rollout is undone, 1 to 86400. Default 1800.
    pub deployment_timeout: Option<i64>,
    /// Whether samples of the calls are kept. Default true.
    pub enable_metrics: Option<bool>,
    /// Kept, and changes nothing. Default true.
    pub enable_logging: Option<bool>,
    /// Kept, and changes nothing. Default false.
    pub enable_tracing: Option<bool>,
    /// Kept, and changes nothing: `DEBUG`, `INFO`, `WARNING` or `ERROR`. Default `INFO`.
    pub log_level: Option<String>,
    /// Ports of its instances, the lowest and the highest, from 1024, within the server's range: `[20000, 20019]`, or
    /// `"20000-20019"`. Default: the server's range.
    #[schema(value_type = Option<Vec<u16>>)]
    pub port_range: Option<Value>,
    /// Command of an instance. Only this service's own is started: `agent`. Default: that one.
    pub command: Option<String>,
    /// Limits from which its figures raise alerts. Default: the service's.
    pub alert_thresholds: Option<AlertThresholds>,
}

/// A draft that has no faults.
#[derive(Clone, Debug)]
pub(crate) struct CheckedDraft {
    pub settings: DeploymentSettingsDocument,
    pub ports: PortRange,
    pub thresholds: Option<AlertThresholds>,
}

impl DeploymentDraft {
    /// Check it as a whole; ports must lie within `allowed`.
    pub(crate) fn check(self, allowed: PortRange) -> std::result::Result<CheckedDraft, Vec<Violation>> {
        let mut found = Violations::default();
        self.check_texts(&mut found);
        self.check_numbers(&mut found);
        let strategy = self.strategy();
        let known = "must be rolling, blue-green or canary";
        found.require(strategy.is_some(), "rollout_strategy", known);
        let least = self.min_instances.unwrap_or(1);
        let most = self.max_instances.unwrap_or(least.max(5));
        found.require(most >= least, "max_instances", format!("must be no less than min_instances, which is {least}"));
        let ports = match &self.port_range {
            None => Some(allowed),
            Some(value) => match read_range(value, allowed) {
                Ok(range) => Some(range),
                Err(message) => {
                    found.add("port_range", message);
                    None
                }
            },
        };
        // A blue-green rollout has all of both revisions at one time.
        let needed = most.saturating_mul(2);
        if let Some(range) = ports.filter(|range| i64::from(range.len()) < needed) {
            found.add("port_range", format!("has {} ports, and {needed} are needed for {most} instances", range.len()));
        }
        let thresholds = self.alert_thresholds;
        found.finish()?;
        let (Some(ports), Some(strategy)) = (ports, strategy) else { return Err(Vec::new()) };
        let settings = self.into_settings(least, most, strategy);
        Ok(CheckedDraft { settings, ports, thresholds })
    }

    fn strategy(&self) -> Option<RolloutStrategy> {
        match self.rollout_strategy.as_deref() {
            None => Some(RolloutStrategy::Rolling),
            Some("blue_green") => Some(RolloutStrategy::BlueGreen),
            Some(word) => RolloutStrategy::from_value(word),
        }
    }

    fn check_texts(&self, found: &mut Violations) {
        let plain = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
        if let Some(text) = &self.description {
            found.require(has_length(text, &(0..=1000)) && plain(text), "description", "has at most 1000 characters");
        }
        if let Some(text) = &self.version {
            found.require(has_length(text, &(1..=50)) && plain(text), "version", "has 1 to 50 characters");
        }
        for (name, list) in
            [("target_environments", &self.target_environments), ("deployment_regions", &self.deployment_regions)]
        {
            let Some(list) = list else { continue };
            found.require(list.len() <= MOST_NAMES, name, format!("has at most {MOST_NAMES} names"));
            for (at, word) in list.iter().enumerate().filter(|(_, word)| !is_name(word)) {
                found.add([name.into(), am_core::validation::PathSegment::Item(at)], name_fault(word));
            }
        }
        if let Some(path) = &self.health_check_endpoint {
            let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
            let fits = path.starts_with('/') && path.len() <= 200 && path.chars().all(sound);
            let taken = matches!(path.as_str(), "/invoke" | "/metrics");
            let text = "must be a path such as /health, and not /invoke or /metrics";
            found.require(fits && !taken, "health_check_endpoint", text);
        }
        if let Some(level) = &self.log_level {
            let known = ["DEBUG", "INFO", "WARNING", "ERROR"].contains(&level.as_str());
            found.require(known, "log_level", "must be DEBUG, INFO, WARNING or ERROR");
        }
        if let Some(command) = &self.command {
            let text = "is no command of this service: instances run `agent-management agent` only";
            found.require(OWN_COMMANDS.contains(&command.trim()), "command", text);
        }
    }

    fn check_numbers(&self, found: &mut Violations) {
        found.require_within(self.min_cpu_cores, &(0.01..=1024.0), "min_cpu_cores");
        for (value, range, name) in [
            (self.min_memory_mb, 64..=1_048_576, "min_memory_mb"),
            (self.min_storage_gb, 0..=1_048_576, "min_storage_gb"),
            (self.gpu_memory_mb, 0..=1_048_576, "gpu_memory_mb"),
            (self.min_instances, INSTANCE_COUNTS, "min_instances"),
            (self.max_instances, 1..=*INSTANCE_COUNTS.end(), "max_instances"),
            (self.health_check_interval, 1..=3600, "health_check_interval"),
            (self.health_check_timeout, 1..=300, "health_check_timeout"),
            (self.max_failures, 1..=100, "max_failures"),
            (self.deployment_timeout, 1..=86_400, "deployment_timeout"),
        ] {
            found.require_within(value, &range, name);
        }
        if let Some(policy) = &self.scaling_policy {
            for (value, range, name) in [
                (policy.target_in_flight, 0.1..=1000.0, "target_in_flight"),
                (policy.scale_up_seconds, 1.0..=3600.0, "scale_up_seconds"),
                (policy.scale_down_seconds, 1.0..=86_400.0, "scale_down_seconds"),
                (policy.idle_seconds, 1.0..=86_400.0, "idle_seconds"),
            ] {
                found.require_within(Some(value), &range, ["scaling_policy", name]);
            }
        }
        if let Some(limits) = &self.alert_thresholds {
            for (limit, name) in [
                (limits.cpu_usage, "cpu_usage"),
                (limits.memory_usage, "memory_usage"),
                (limits.error_rate, "error_rate"),
                (limits.response_time, "response_time"),
            ] {
                let text = "must be two numbers above 0, critical no lower than warning";
                found.require(limit.is_sound(), ["alert_thresholds", name], text);
            }
        }
    }

    fn into_settings(self, least: i64, most: i64, strategy: RolloutStrategy) -> DeploymentSettingsDocument {
        DeploymentSettingsDocument {
            description: self.description.unwrap_or_default(),
            version: self.version.unwrap_or_else(|| "1.0.0".to_owned()),
            target_environments: self.target_environments.unwrap_or_default(),
            deployment_regions: self.deployment_regions.unwrap_or_default(),
            min_cpu_cores: self.min_cpu_cores.unwrap_or(1.0),
            min_memory_mb: self.min_memory_mb.unwrap_or(1024),
            min_storage_gb: self.min_storage_gb.unwrap_or(10),
            requires_gpu: self.requires_gpu.unwrap_or(false),
            gpu_memory_mb: self.gpu_memory_mb,
            min_instances: least,
            max_instances: most,
            auto_scaling: self.auto_scaling.unwrap_or(true),
            scaling_policy: self.scaling_policy.unwrap_or_default(),
            health_check_endpoint: self.health_check_endpoint.unwrap_or_else(|| "/health".to_owned()),
            health_check_interval: self.health_check_interval.unwrap_or(30),
            health_check_timeout: self.health_check_timeout.unwrap_or(10),
            max_failures: self.max_failures.unwrap_or(3),
            rollout_strategy: strategy.value().to_owned(),
            rollback_enabled: self.rollback_enabled.unwrap_or(true),
            deployment_timeout: self.deployment_timeout.unwrap_or(1800),
            enable_metrics: self.enable_metrics.unwrap_or(true),
            enable_logging: self.enable_logging.unwrap_or(true),
            enable_tracing: self.enable_tracing.unwrap_or(false),
            log_level: self.log_level.unwrap_or_else(|| "INFO".to_owned()),
        }
    }
}

/// Whether a text can be the name of a deployment, an environment or a region: it becomes a part of instances' names.
pub(crate) fn is_name(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=100).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(sound)
}

/// What is wrong with one that can't.
pub(crate) fn name_fault(text: &str) -> String {
    match text.is_empty() {
        true => "must not be empty".to_owned(),
        false => "has 1 to 100 letters, digits, dots, hyphens and underscores, the first a letter or digit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ALLOWED: PortRange = PortRange { low: 20_000, high: 20_999 };

    fn faults(body: Value) -> Vec<String> {
        let draft: DeploymentDraft = serde_json::from_value(body).unwrap();
        match draft.check(ALLOWED) {
            Ok(_) => Vec::new(),
            Err(found) => found.iter().map(|one| one.path.to_string()).collect(),
        }
    }

    #[test]
    fn an_empty_draft_has_the_coordinators_defaults() {
        let checked = DeploymentDraft::default().check(ALLOWED).unwrap();
        let settings = checked.settings;
        assert_eq!((settings.min_instances, settings.max_instances, settings.min_memory_mb), (1, 5, 1024));
        assert_eq!((settings.rollout_strategy.as_str(), settings.deployment_timeout), ("rolling", 1800));
        assert_eq!(checked.ports, ALLOWED);
    }

    #[test]
    fn all_faults_are_told_together() {
        let body = json!({
            "min_instances": 4, "max_instances": 3, "rollout_strategy": "big-bang", "command": "/bin/sh -c id",
            "port_range": "80-90", "health_check_endpoint": "health", "min_memory_mb": 1, "log_level": "LOUD",
            "target_environments": ["ok", "../etc"], "alert_thresholds": {"error_rate": {"warning": 9, "critical": 1}},
            "scaling_policy": {"idle_seconds": 0},
        });
        let wanted = [
            "target_environments.1",
            "health_check_endpoint",
            "log_level",
            "command",
            "min_memory_mb",
            "scaling_policy.idle_seconds",
            "alert_thresholds.error_rate",
            "rollout_strategy",
            "max_instances",
            "port_range",
        ];
        assert_eq!(faults(body), wanted);
    }

    #[test]
    fn the_own_command_is_taken_and_no_other() {
        for command in ["agent", "agent-management agent"] {
            assert!(faults(json!({"command": command})).is_empty(), "{command}");
        }
        for command in ["", "agent; id", "/usr/bin/python3", "agent-management serve"] {
            assert_eq!(faults(json!({"command": command})), ["command"], "{command}");
        }
    }

    #[test]
    fn a_range_needs_ports_for_both_revisions() {
        assert_eq!(faults(json!({"port_range": [20_000, 20_008], "max_instances": 5})), ["port_range"]);
        assert!(faults(json!({"port_range": [20_000, 20_009], "max_instances": 5})).is_empty());
    }
}
