//! The operator's ceilings of sandboxes: what requirements may not ask for, and no sandbox ever gets.

use super::model::{SandboxRequirements, SandboxRules};
use am_core::{
    config::SandboxConfig,
    validation::{Violation, Violations},
};

/// Ceilings of every sandbox, whatever its level and its requirements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxCeilings {
    cpu_cores: u32,
    memory_mb: u64,
    disk_mb: u64,
    seconds: u64,
}

impl SandboxCeilings {
    /// The ceilings that `config` sets.
    pub fn from_config(config: &SandboxConfig) -> Self {
        Self {
            cpu_cores: config.max_cpu_cores,
            memory_mb: config.max_memory_mb,
            disk_mb: config.max_disk_mb,
            seconds: config.max_seconds,
        }
    }

    /// Check that requirements ask for nothing above the ceilings.
    ///
    /// # Errors
    /// Every member that does, with its ceiling.
    pub fn check(&self, asked: &SandboxRequirements) -> Result<(), Vec<Violation>> {
        let mut violations = Violations::default();
        let seconds = self.seconds as f64;
        for (name, asked, ceiling, setting) in [
            ("cpu_cores", asked.cpu_cores, f64::from(self.cpu_cores), "SANDBOX_MAX_CPU_CORES"),
            ("memory_mb", asked.memory_mb.map(|n| n as f64), self.memory_mb as f64, "SANDBOX_MAX_MEMORY_MB"),
            ("disk_mb", asked.disk_mb.map(|n| n as f64), self.disk_mb as f64, "SANDBOX_MAX_DISK_MB"),
            ("max_execution_time", asked.max_execution_time.map(|n| n as f64), seconds, "SANDBOX_MAX_SECONDS"),
            ("idle_timeout", asked.idle_timeout.map(|n| n as f64), seconds, "SANDBOX_MAX_SECONDS"),
        ] {
            let fits = asked.is_none_or(|asked| asked <= ceiling);
            violations.require(fits, name, format!("must be at most {ceiling}, which {setting} sets"));
        }
        violations.finish()
    }
}

impl SandboxRules {
    /// Apply the ceilings: a level or a requirement of before may give more.
    #[must_use]
    pub(super) fn below(mut self, ceilings: &SandboxCeilings) -> Self {
        self.cpu_limit = self.cpu_limit.min(f64::from(ceilings.cpu_cores));
        self.memory_limit = self.memory_limit.min(ceilings.memory_mb);
        self.disk_limit = self.disk_limit.min(ceilings.disk_mb);
        self.max_execution_time = self.max_execution_time.min(ceilings.seconds);
        self.idle_timeout = self.idle_timeout.min(ceilings.seconds);
        self
    }
}

#[cfg(test)]
mod tests {
    use am_audit::SecurityLevel;
    use serde_json::json;

    use super::*;
    use crate::sandbox::presets;

    const CEILINGS: SandboxCeilings = SandboxCeilings { cpu_cores: 2, memory_mb: 512, disk_mb: 100, seconds: 60 };

    #[test]
    fn what_is_above_a_ceiling_is_refused_by_its_name() {
        let asked = |sent| SandboxRequirements::parse(Some(sent)).unwrap();
        for (name, at, over) in [
            ("cpu_cores", json!(2), json!(2.1)),
            ("memory_mb", json!(512), json!(513)),
            ("disk_mb", json!(100), json!(101)),
            ("max_execution_time", json!(60), json!(61)),
            ("idle_timeout", json!(60), json!(61)),
        ] {
            assert_eq!(CEILINGS.check(&asked(json!({name: at}))), Ok(()));
            let found = CEILINGS.check(&asked(json!({name: over}))).unwrap_err();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].path.to_string(), name);
            assert!(found[0].message.contains("at most") && found[0].message.contains("SANDBOX_MAX_"), "{found:?}");
        }
    }

    #[test]
    fn no_level_gives_more_than_the_ceilings() {
        for level in SecurityLevel::ALL {
            let rules = presets::rules_for_level(*level).below(&CEILINGS);
            assert!(rules.cpu_limit <= 2.0 && rules.memory_limit <= 512 && rules.disk_limit <= 100);
            assert!(rules.max_execution_time <= 60 && rules.idle_timeout <= 60);
        }
    }
}
