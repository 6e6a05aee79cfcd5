//! Classification of attempts: whether they are recorded, and whether they are a breach. It permits and forbids
//! nothing: mounts, Landlock and seccomp do that, whatever a path was when it was read here.

use std::collections::BTreeMap;

use super::model::{AttemptKind, SandboxRules, ViolationAttempt};

/// Files below blocked directories that the C library and ordinary runtimes look for at their start. Such attempts are
/// no breach; most of these files do not exist in a sandbox.
const HARMLESS_PATHS: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ld.so.nohwcap",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/python",
    "/etc/inputrc",
    "/etc/terminfo",
    "/etc/locale.alias",
    "/etc/mime.types",
    "/etc/httpd/mime.types",
    "/etc/apache",
    "/etc/java",
    "/etc/alternatives",
    "/etc/gitconfig",
    "/etc/wgetrc",
    "/etc/curlrc",
    "/etc/.curlrc",
    "/etc/nodejs",
    "/etc/machine-id",
    "/etc/os-release",
    "/etc/lsb-release",
    "/etc/debian_version",
    "/etc/gss",
    "/etc/krb5.conf",
    "/etc/openssl",
    "/etc/bash",
    "/etc/profile",
    "/etc/jvm-",
    "/etc/magic",
    "/var/run/nscd",
    "/proc/self",
    "/proc/thread-self",
    "/proc/sys",
    "/proc/stat",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/version",
    "/proc/mounts",
    "/proc/filesystems",
    "/proc/net",
    "/proc/loadavg",
    "/proc/cgroups",
    "/proc/uptime",
    "/sys/fs/cgroup",
    "/sys/devices/system",
    "/sys/kernel/mm",
    "/sys/hypervisor",
];

/// Recorder that classifies and counts the attempts in one sandbox.
#[derive(Debug, Default)]
pub struct ViolationRecorder {
    blocked_paths: Vec<String>,
    /// Paths of the service, which no program names by chance.
    hidden: Vec<String>,
    writable: Vec<String>,
    allowed_commands: Vec<String>,
    blocked_commands: Vec<String>,
    network: bool,
    seen: BTreeMap<(AttemptKind, String), (u64, bool)>,
    /// Number of all attempts.
    total: u64,
}

/// Maximum number of distinct attempts; further ones are counted under one name.
const MAX_DISTINCT_ATTEMPTS: usize = 200;

impl ViolationRecorder {
    /// Create the recorder for a sandbox under `rules`, which may write below `writable` and must not access `hidden`.
    pub fn new(rules: &SandboxRules, writable: &[&str], hidden: &[String]) -> Self {
        Self {
            blocked_paths: rules.blocked_file_paths.clone(),
            hidden: hidden.to_vec(),
            writable: writable.iter().map(|path| (*path).to_owned()).collect(),
            allowed_commands: rules.allowed_commands.clone(),
            blocked_commands: rules.blocked_commands.clone(),
            network: rules.log_network_access,
            seen: BTreeMap::new(),
            total: 0,
        }
    }

    /// Record a refused system call.
    pub fn record_system_call(&mut self, name: &str) {
        let kind = if name == "socket" { AttemptKind::Network } else { AttemptKind::SystemCall };
        self.count(kind, name, true);
    }

    /// Record that a file is opened or changed, by its absolute path inside.
    pub fn file(&mut self, path: &str, write: bool) {
        let path = normalize_path(path);
        if self.hidden.iter().any(|hidden| is_below(&path, hidden)) {
            self.count(if write { AttemptKind::Write } else { AttemptKind::Read }, &path, true);
        } else if write {
            let may = self.writable.iter().any(|own| is_below(&path, own));
            if !may && !is_below(&path, "/dev") && !is_below(&path, "/proc/self") {
                self.count(AttemptKind::Write, &path, true);
            }
        } else if self.blocked_paths.iter().any(|blocked| is_below(&path, blocked)) {
            let innocent = HARMLESS_PATHS.iter().any(|known| path.starts_with(known))
                // The process's own directory, by its number.
                || path.strip_prefix("/proc/").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                || self.blocked_paths.contains(&path);
            if !innocent {
                self.count(AttemptKind::Read, &path, true);
            }
        }
    }

    /// Record that a program is started, by its path.
    pub fn program(&mut self, path: &str) {
        let name = path.rsplit('/').next().unwrap_or(path);
        if matches_any(name, &self.blocked_commands) {
            self.count(AttemptKind::Command, name, true);
        } else if !matches_any(name, &self.allowed_commands) {
            self.count(AttemptKind::Command, name, false);
        }
    }

    /// Record a refused connection: a breach if the proxy refused it, not if it bypassed the proxy.
    pub fn record_connection(&mut self, to: &str, breach: bool) {
        if self.network || breach {
            self.count(AttemptKind::Network, to, breach);
        }
    }

    fn count(&mut self, kind: AttemptKind, what: &str, breach: bool) {
        self.total += 1;
        let what: String = what.chars().take(200).collect();
        let key = (kind, what);
        let key = if self.seen.contains_key(&key) || self.seen.len() < MAX_DISTINCT_ATTEMPTS {
            key
        } else {
            (kind, "others".to_owned())
        };
        let entry = self.seen.entry(key).or_insert((0, false));
        entry.0 += 1;
        entry.1 |= breach;
    }

    /// Number of attempts that are breaches.
    pub fn breaches(&self) -> u64 {
        self.seen.values().filter(|(_, breach)| *breach).map(|(count, _)| count).sum()
    }

    /// All attempts so far.
    pub fn attempts(&self) -> Vec<ViolationAttempt> {
        let attempt = |((kind, what), (count, breach)): (&(AttemptKind, String), &(u64, bool))| ViolationAttempt {
            kind: *kind,
            what: what.clone(),
            count: *count,
            breach: *breach,
        };
        self.seen.iter().map(attempt).collect()
    }
}

/// Whether `path` is `directory` or below it.
pub fn is_below(path: &str, directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Normalise an absolute path: remove `.`, `..` and doubled slashes.
pub fn normalize_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether a program's name is one of `commands`, with or without a version: `python3.11` matches `python`.
pub fn matches_any(name: &str, commands: &[String]) -> bool {
    commands.iter().any(|command| is_version_of(name, command))
}

/// Whether `name` is `command`, possibly with a version.
pub fn is_version_of(name: &str, command: &str) -> bool {
    name.strip_prefix(command).is_some_and(|rest| {
        let version = rest.strip_prefix('-').unwrap_or(rest);
        rest.is_empty() || (!version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::presets;
    use am_audit::SecurityLevel;

    fn judge() -> ViolationRecorder {
        let rules = presets::rules_for_level(SecurityLevel::Restricted);
        ViolationRecorder::new(&rules, &["/workspace", "/tmp"], &["/srv/data".to_owned()])
    }

    fn found(judge: &ViolationRecorder) -> Vec<(AttemptKind, &str, bool)> {
        judge.seen.iter().map(|((kind, what), (_, breach))| (*kind, what.as_str(), *breach)).collect()
    }

    #[test]
    fn blocked_files_are_breaches_and_what_runtimes_ask_for_is_not() {
        let mut judge = judge();
        for innocent in [
            "/etc/ld.so.cache",
            "/etc/localtime",
            "/etc/ssl/openssl.cnf",
            "/proc/self/maps",
            "/proc/17/stat",
            "/usr/lib/x.so",
            "/etcetera",
            "/sys/fs/cgroup/memory.max",
        ] {
            judge.file(innocent, false);
        }
        assert!(found(&judge).is_empty(), "{:?}", found(&judge));
        judge.file("/etc/shadow", false);
        judge.file("/workspace/../root//.ssh/./id", false);
        judge.file("/srv/data/coordinator.db", false);
        assert_eq!(
            found(&judge),
            [
                (AttemptKind::Read, "/etc/shadow", true),
                (AttemptKind::Read, "/root/.ssh/id", true),
                (AttemptKind::Read, "/srv/data/coordinator.db", true)
            ]
        );
    }

    #[test]
    fn writing_is_for_the_sandboxs_own_places() {
        let mut judge = judge();
        for own in ["/workspace/a/b", "/tmp/x", "/dev/null", "/proc/self/oom_score_adj"] {
            judge.file(own, true);
        }
        assert!(found(&judge).is_empty());
        judge.file("/workspace/../usr/bin/python3", true);
        judge.file("/workspaces/x", true);
        assert_eq!(judge.breaches(), 2);
    }

    #[test]
    fn programs_are_known_with_their_version() {
        for (name, command, same) in [
            ("python", "python", true),
            ("python3.11", "python", true),
            ("gcc-12", "gcc", true),
            ("python3-config", "python", false),
            ("pythonic", "python", false),
            ("rm", "rm", true),
            ("rmdir", "rm", false),
            ("gcc-", "gcc", false),
        ] {
            assert_eq!(is_version_of(name, command), same, "{name}");
        }
        let mut judge = judge();
        for path in ["/usr/bin/python3", "/usr/bin/rm", "/bin/rm", "/usr/sbin/ldconfig"] {
            judge.program(path);
        }
        assert_eq!(found(&judge), [(AttemptKind::Command, "ldconfig", false), (AttemptKind::Command, "rm", true)]);
        assert_eq!(judge.breaches(), 2);
    }

    #[test]
    fn names_are_bounded() {
        let mut judge = judge();
        (0..1000).for_each(|n| judge.file(&format!("/etc/secret/{n}"), false));
        assert_eq!(judge.attempts().len(), MAX_DISTINCT_ATTEMPTS + 1);
        assert_eq!((judge.total, judge.breaches()), (1000, 1000));
    }
}
