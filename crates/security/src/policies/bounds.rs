//! Bounds of a policy on what a step, its sandbox and a run may ask, beside the rules of the coordinator's table.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::sandbox::{SandboxBounds, SandboxRequirements, covers_domain, is_version_of, rules_for_level};
use am_audit::SecurityLevel;
use am_core::money::Money;

use super::rule;

/// Bounds of a policy. Null members bound nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = SecurityPolicyBounds)]
pub struct PolicyBounds {
    /// False: no command may reach the network, and no step may call an endpoint or an agent.
    pub allow_network: Option<bool>,
    /// Hosts that commands and endpoints may reach: a name, `*.name` for its subdomains, `*` for any.
    pub allowed_domains: Option<Vec<String>>,
    /// Programs that commands may start, by their names without a version.
    pub allowed_commands: Option<Vec<String>>,
    /// Highest security level whose sandbox a command may ask for.
    pub max_sandbox_level: Option<SecurityLevel>,
    /// Highest cost limit of a workflow and of an execution, which must then have one.
    pub max_cost_budget: Option<Money>,
    /// Processors that a command may ask for.
    pub max_cpu_cores: Option<f64>,
    /// MB of files that a command may ask for.
    pub max_disk_mb: Option<i64>,
}

/// What a command asks of its sandbox.
#[derive(Clone, Debug)]
pub struct CommandFacts {
    level: SecurityLevel,
    program: Option<String>,
    network: bool,
    requirements: SandboxRequirements,
}

/// A bound that is passed: rule, limit and what was asked.
pub(super) type PassedBound = (&'static str, Value, Value);

impl CommandFacts {
    /// What `program` asks under the rules of `level` (`None`: public) with its requirements; `None` for a sandbox that
    /// is asked for without a command.
    pub fn new(level: Option<SecurityLevel>, program: Option<&str>, requirements: &SandboxRequirements) -> Self {
        let level = level.unwrap_or(SecurityLevel::Public);
        let rules = rules_for_level(level).with(requirements);
        let reachable = rules.network_access && !rules.allowed_domains.is_empty();
        Self {
            level,
            program: program.map(|program| program.rsplit('/').next().unwrap_or(program).to_owned()),
            network: reachable || requirements.network_access == Some(true),
            requirements: requirements.clone(),
        }
    }

    /// Memory in MB that it asks for; `None`: the level's.
    pub fn memory_mb(&self) -> Option<f64> {
        self.requirements.memory_mb.map(|memory| memory as f64)
    }
}

impl PolicyBounds {
    /// The bounds that a command passes.
    pub(super) fn passed_by_command(&self, asked: &CommandFacts) -> Vec<PassedBound> {
        let requirements = &asked.requirements;
        let mut passed = Vec::new();
        if self.allow_network == Some(false) && asked.network {
            passed.push((rule::ALLOW_NETWORK, json!(false), json!(true)));
        }
        passed.extend(requirements.allowed_domains.iter().find_map(|domain| self.passed_by_host(domain)));
        if let Some(allowed) = &self.allowed_commands {
            let mut programs = asked.program.iter().chain(&requirements.allowed_commands);
            let other = programs.find(|program| !allowed.iter().any(|known| is_version_of(program, known)));
            passed.extend(other.map(|program| (rule::ALLOWED_COMMANDS, json!(allowed), json!(program))));
        }
        if let Some(most) = self.max_sandbox_level.filter(|most| asked.level > *most) {
            passed.push((rule::MAX_SANDBOX_LEVEL, json!(most), json!(asked.level)));
        }
        if let (Some(most), Some(cores)) = (self.max_cpu_cores, requirements.cpu_cores)
            && cores > most
        {
            passed.push((rule::MAX_CPU_CORES, json!(most), json!(cores)));
        }
        if let (Some(most), Some(disk)) = (self.max_disk_mb, requirements.disk_mb)
            && disk > most.unsigned_abs()
        {
            passed.push((rule::MAX_DISK_MB, json!(most), json!(disk)));
        }
        passed
    }

    /// The bound that reaching `host` passes.
    pub(super) fn passed_by_host(&self, host: &str) -> Option<PassedBound> {
        let allowed = self.allowed_domains.as_ref()?;
        let covered = allowed.iter().any(|known| covers_domain(known, host));
        (!covered).then(|| (rule::ALLOWED_DOMAINS, json!(allowed), json!(host)))
    }

    /// The bound that a run with this limit of its cost passes; 0: without limit.
    pub(super) fn passed_by_budget(&self, budget: Money) -> Option<PassedBound> {
        let most = self.max_cost_budget.filter(|most| !budget.is_positive() || budget > *most)?;
        Some((rule::MAX_COST_BUDGET, json!(most), json!(budget)))
    }

    /// Narrow a sandbox's bounds to these.
    pub(super) fn narrow(&self, bounds: &mut SandboxBounds) {
        fn meet(list: &mut Option<Vec<String>>, other: Option<&Vec<String>>, covers: impl Fn(&str, &str) -> bool) {
            let Some(other) = other else { return };
            *list = Some(match list.take() {
                None => other.clone(),
                Some(own) => {
                    // What both allow: the narrower of two that cover each other.
                    let covered = |word: &String, by: &[String]| by.iter().any(|known| covers(known, word));
                    let narrower = other.iter().filter(|word| covered(word, &own) && !own.contains(word)).cloned();
                    let narrower: Vec<String> = narrower.collect();
                    own.into_iter().filter(|word| covered(word, other)).chain(narrower).collect()
                }
            });
        }
        fn least<T: PartialOrd>(own: Option<T>, other: Option<T>) -> Option<T> {
            match (own, other) {
                (Some(own), Some(other)) => Some(if other < own { other } else { own }),
                (own, other) => own.or(other),
            }
        }
        bounds.no_network |= self.allow_network == Some(false);
        meet(&mut bounds.domains, self.allowed_domains.as_ref(), covers_domain);
        meet(&mut bounds.commands, self.allowed_commands.as_ref(), |known, word| known == word);
        bounds.cpu_cores = least(bounds.cpu_cores, self.max_cpu_cores);
        bounds.disk_mb = least(bounds.disk_mb, self.max_disk_mb.map(i64::unsigned_abs));
    }
}
