//! Rules of a sandbox by security level, and their changes by a workflow's requirements.

use super::model::{SandboxBounds, SandboxRequirements, SandboxRules, StepLimits};
use am_audit::SecurityLevel;

/// Isolation mechanisms of a sandbox of any type.
pub const ISOLATION_MECHANISMS: &str = "bubblewrap namespaces, Landlock, seccomp";

/// Rules of `level`; each level extends the ones below it.
pub fn rules_for_level(level: SecurityLevel) -> SandboxRules {
    let at = SecurityLevel::ALL.iter().position(|other| *other == level).unwrap_or_default();
    let up_to = |steps: [&[&str]; 4]| -> Vec<String> {
        steps[..=at].iter().flat_map(|words| words.iter().map(|word| (*word).to_owned())).collect()
    };
    let web: Vec<u16> = [80, 443].into_iter().chain(8000..=8003).chain(8010..=8016).collect();
    SandboxRules {
        sandbox_type: ["process", "docker", "docker", "vm"][at].to_owned(),
        security_level: level,
        cpu_limit: [1.0, 2.0, 4.0, 8.0][at],
        memory_limit: [1024, 2048, 4096, 8192][at],
        disk_limit: [10_240, 20_480, 40_960, 81_920][at],
        network_access: at > 0,
        allowed_commands: up_to([&["python", "node", "java"], &["curl", "wget"], &["git"], &["docker"]]),
        blocked_commands: up_to([&["rm", "sudo", "chmod", "chown"], &["iptables"], &["systemctl"], &["systemd"]]),
        allowed_file_paths: up_to([&["/tmp", "/workspace"], &["/app"], &["/data"], &["/shared"]]),
        blocked_file_paths: up_to([&["/etc", "/root", "/home"], &["/var"], &["/sys", "/proc"], &["/boot"]]),
        allowed_domains: Vec::new(),
        blocked_domains: Vec::new(),
        allowed_ports: match at {
            0 => Vec::new(),
            3 => web.into_iter().chain([22, 25]).collect(),
            _ => web,
        },
        max_execution_time: [3600, 7200, 14_400, 28_800][at],
        idle_timeout: [300, 600, 1800, 3600][at],
        enable_monitoring: true,
        log_all_commands: false,
        log_file_access: true,
        log_network_access: true,
    }
}

impl SandboxRules {
    /// Apply a workflow's requirements: more resources, less time, longer lists.
    #[must_use]
    pub fn with(mut self, asked: &SandboxRequirements) -> Self {
        let most = |own: u64, asked: Option<u64>| own.max(asked.unwrap_or(own));
        let least = |own: u64, asked: Option<u64>| own.min(asked.unwrap_or(own));
        self.cpu_limit = self.cpu_limit.max(asked.cpu_cores.unwrap_or(self.cpu_limit));
        self.memory_limit = most(self.memory_limit, asked.memory_mb);
        self.disk_limit = most(self.disk_limit, asked.disk_mb);
        self.network_access |= asked.network_access.unwrap_or(false);
        self.max_execution_time = least(self.max_execution_time, asked.max_execution_time);
        self.idle_timeout = least(self.idle_timeout, asked.idle_timeout);
        extend_unique(&mut self.allowed_commands, &asked.allowed_commands);
        extend_unique(&mut self.blocked_commands, &asked.blocked_commands);
        extend_unique(&mut self.allowed_domains, &asked.allowed_domains);
        extend_unique(&mut self.blocked_domains, &asked.blocked_domains);
        extend_unique(&mut self.allowed_ports, &asked.allowed_ports);
        self
    }

    /// Apply the limits that a step sets for itself.
    #[must_use]
    pub fn under(mut self, limits: &StepLimits) -> Self {
        let least = |own: u64, asked: Option<u64>| own.min(asked.unwrap_or(own));
        self.cpu_limit = self.cpu_limit.min(limits.cpu_cores.unwrap_or(self.cpu_limit));
        self.memory_limit = least(self.memory_limit, limits.memory_mb);
        self.disk_limit = least(self.disk_limit, limits.disk_mb);
        self.max_execution_time = least(self.max_execution_time, limits.seconds);
        self.idle_timeout = least(self.idle_timeout, limits.idle_seconds);
        self
    }
}

impl SandboxRules {
    /// Apply bounds: what is beyond them is taken away.
    #[must_use]
    pub fn within(mut self, bounds: &SandboxBounds) -> Self {
        let least = |own: u64, most: Option<u64>| own.min(most.unwrap_or(own));
        self.network_access &= !bounds.no_network;
        if let Some(allowed) = &bounds.domains {
            self.allowed_domains.retain(|domain| allowed.iter().any(|known| covers_domain(known, domain)));
        }
        if let Some(allowed) = &bounds.commands {
            self.allowed_commands.retain(|command| allowed.contains(command));
        }
        self.cpu_limit = self.cpu_limit.min(bounds.cpu_cores.unwrap_or(self.cpu_limit));
        self.memory_limit = least(self.memory_limit, bounds.memory_mb);
        self.disk_limit = least(self.disk_limit, bounds.disk_mb);
        self
    }
}

/// Whether everything that `domain` allows is allowed by `pattern`: a name, `*.name` for its subdomains, or `*`.
pub fn covers_domain(pattern: &str, domain: &str) -> bool {
    let (pattern, domain) = (pattern.to_ascii_lowercase(), domain.to_ascii_lowercase());
    let below = |parent: &str| {
        let name = domain.strip_prefix("*.").unwrap_or(&domain);
        name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
    };
    pattern == "*" || pattern == domain || pattern.strip_prefix("*.").is_some_and(below)
}

fn extend_unique<T: Clone + PartialEq>(list: &mut Vec<T>, more: &[T]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_level_is_the_contracts() {
        let [public, internal, confidential, restricted] =
            [0, 1, 2, 3].map(|at| rules_for_level(SecurityLevel::ALL[at]));
        let numbers = |rules: &SandboxRules| {
            (rules.cpu_limit, rules.memory_limit, rules.disk_limit, rules.max_execution_time, rules.idle_timeout)
        };
        assert_eq!(numbers(&public), (1.0, 1024, 10_240, 3600, 300));
        assert_eq!(numbers(&internal), (2.0, 2048, 20_480, 7200, 600));
        assert_eq!(numbers(&confidential), (4.0, 4096, 40_960, 14_400, 1800));
        assert_eq!(numbers(&restricted), (8.0, 8192, 81_920, 28_800, 3600));
        assert_eq!(
            [&public, &internal, &confidential, &restricted].map(|rules| (&*rules.sandbox_type, rules.network_access)),
            [("process", false), ("docker", true), ("docker", true), ("vm", true)]
        );
        assert_eq!(public.allowed_commands, ["python", "node", "java"]);
        assert_eq!(restricted.allowed_commands, ["python", "node", "java", "curl", "wget", "git", "docker"]);
        assert_eq!(restricted.blocked_commands, ["rm", "sudo", "chmod", "chown", "iptables", "systemctl", "systemd"]);
        assert_eq!(restricted.allowed_file_paths, ["/tmp", "/workspace", "/app", "/data", "/shared"]);
        assert_eq!(restricted.blocked_file_paths, ["/etc", "/root", "/home", "/var", "/sys", "/proc", "/boot"]);
        assert!(public.allowed_ports.is_empty());
        assert_eq!(internal.allowed_ports, confidential.allowed_ports);
        assert_eq!((internal.allowed_ports.len(), restricted.allowed_ports.len()), (13, 15));
    }

    proptest! {
        #[test]
        fn requirements_raise_resources_and_lower_time(
            at in 0usize..4, cpu in 0.1f64..64.0, memory in 1u64..1 << 20, disk in 1u64..1 << 20, time in 1u64..100_000,
            network: bool, word in "[a-z]{1,8}",
        ) {
            let before = rules_for_level(SecurityLevel::ALL[at]);
            let asked = SandboxRequirements {
                cpu_cores: Some(cpu), memory_mb: Some(memory), disk_mb: Some(disk), network_access: Some(network),
                max_execution_time: Some(time), allowed_commands: vec![word.clone()], blocked_commands: vec![word.clone()],
                ..SandboxRequirements::default()
            };
            let after = before.clone().with(&asked);
            prop_assert!(after.cpu_limit >= before.cpu_limit && after.cpu_limit >= cpu);
            prop_assert!(after.memory_limit >= before.memory_limit && after.memory_limit >= memory);
            prop_assert!(after.disk_limit >= before.disk_limit && after.disk_limit >= disk);
            prop_assert!(after.max_execution_time <= before.max_execution_time && after.max_execution_time <= time);
            prop_assert_eq!(after.network_access, before.network_access || network);
            prop_assert!(after.allowed_commands.contains(&word) && after.blocked_commands.contains(&word));
            prop_assert!(before.blocked_commands.iter().all(|known| after.blocked_commands.contains(known)));
            // Asking twice changes nothing more.
            prop_assert_eq!(after.clone().with(&asked), after);
        }
    }
}
