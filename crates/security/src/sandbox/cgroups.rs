//! Control groups: limits enforced by the kernel, where this process may create groups below its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Version of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CgroupVersion {
    V1,
    V2,
}

/// Directory of a controller below which groups can be created.
#[derive(Clone, Debug)]
struct ControllerRoot {
    controller: &'static str,
    version: CgroupVersion,
    path: PathBuf,
}

/// Control groups available to this process.
#[derive(Debug, Default)]
pub struct CgroupControllers {
    places: Vec<ControllerRoot>,
}

/// Limits of a control group.
#[derive(Clone, Copy, Debug)]
pub struct CgroupLimits {
    /// Memory in bytes.
    pub memory: u64,
    /// Number of processes and threads.
    pub processes: u64,
    /// Number of processors.
    pub processors: f64,
}

const GROUP_NAME_PREFIX: &str = "agent-management-sandbox-";

impl CgroupControllers {
    /// Test each controller by creating a group with a limit and removing it.
    pub fn detect() -> Self {
        let mut places = Vec::new();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        for controller in ["memory", "pids", "cpu", "cpuacct"] {
            places.extend(candidate_roots(&own, controller).into_iter().find(is_usable));
        }
        let groups = Self { places };
        groups.sweep();
        groups
    }

    /// Whether the kernel can limit this controller: memory, pids or cpu.
    pub fn can_limit(&self, controller: &str) -> bool {
        self.places.iter().any(|place| place.controller == controller)
    }

    /// Version of a controller, for people.
    pub fn version(&self, controller: &str) -> Option<&'static str> {
        let place = self.places.iter().find(|place| place.controller == controller)?;
        Some(if place.version == CgroupVersion::V1 { "cgroup v1" } else { "cgroup v2" })
    }

    /// Create the groups for one command.
    ///
    /// # Errors
    /// Fails when a group can't be created or limited.
    pub fn make(&self, bounds: CgroupLimits) -> io::Result<CgroupGuard> {
        let name = unused_group_name();
        let mut group = CgroupGuard { paths: Vec::new() };
        for place in &self.places {
            let path = place.path.join(&name);
            if !group.paths.iter().any(|(_, _, known)| *known == path) {
                fs::create_dir(&path).map_err(|error| error_with_path(&path, &error))?;
            }
            group.paths.push((place.controller, place.version, path));
        }
        group.bound(bounds)?;
        Ok(group)
    }

    /// Remove the groups of processes that no longer exist.
    fn sweep(&self) {
        for place in &self.places {
            for entry in fs::read_dir(&place.path).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let owner = name.to_str().and_then(|name| name.strip_prefix(GROUP_NAME_PREFIX)?.split('-').next());
                if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }
}

/// A name that no other group has, whichever service of this process makes it. It begins with the process's id, by which
/// groups of processes that died are found.
fn unused_group_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{GROUP_NAME_PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn error_with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Directories where groups of a controller may be created: below this process's own group, or at the root of the file
/// system (in a container the path may be invisible); in version 2 beside it, because a group with processes can't have
/// child groups.
fn candidate_roots(own: &str, controller: &'static str) -> Vec<ControllerRoot> {
    let lines = own.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        Some((parts.next()?, parts.next()?, parts.next()?.trim_start_matches('/')))
    });
    let mut found = Vec::new();
    for (number, controllers, path) in lines {
        if number == "0" && controllers.is_empty() {
            let root = Path::new("/sys/fs/cgroup");
            let own = root.join(path);
            let above = own.parent().filter(|above| above.starts_with(root)).map(Path::to_owned);
            let both = above.into_iter().chain([own]);
            found.extend(both.map(|path| ControllerRoot { controller, version: CgroupVersion::V2, path }));
        } else if controllers.split(',').any(|known| known == controller) {
            let root = Path::new("/sys/fs/cgroup").join(controller);
            let both = [root.join(path), root];
            found.extend(both.map(|path| ControllerRoot { controller, version: CgroupVersion::V1, path }));
        }
    }
    found
}

fn is_usable(place: &ControllerRoot) -> bool {
    if place.version == CgroupVersion::V2 {
        let controller = if place.controller == "cpuacct" { "cpu" } else { place.controller };
        let known = fs::read_to_string(place.path.join("cgroup.controllers")).unwrap_or_default();
        if !known.split_whitespace().any(|known| known == controller) {
            return false;
        }
        if fs::write(place.path.join("cgroup.subtree_control"), format!("+{controller}")).is_err() {
            return false;
        }
    }
    let path = place.path.join(unused_group_name());
    if fs::create_dir(&path).is_err() {
        return false;
    }
    let group = CgroupGuard { paths: vec![(place.controller, place.version, path)] };
    group.bound(CgroupLimits { memory: 64 << 20, processes: 16, processors: 1.0 }).is_ok()
}

/// The groups of one command; dropping them removes them.
#[derive(Debug)]
pub struct CgroupGuard {
    paths: Vec<(&'static str, CgroupVersion, PathBuf)>,
}

impl CgroupGuard {
    fn bound(&self, bounds: CgroupLimits) -> io::Result<()> {
        const CPU_PERIOD_MICROS: u64 = 100_000;
        let quota = (bounds.processors * CPU_PERIOD_MICROS as f64) as u64;
        for (controller, version, path) in &self.paths {
            let put = |file: &str, text: String| {
                let file = path.join(file);
                fs::write(&file, text).map_err(|error| error_with_path(&file, &error))
            };
            match (*controller, version) {
                ("memory", CgroupVersion::V1) => {
                    put("memory.limit_in_bytes", bounds.memory.to_string())?;
                    // Only where swap is accounted.
                    let _ = put("memory.memsw.limit_in_bytes", bounds.memory.to_string());
                }
                ("memory", CgroupVersion::V2) => {
                    put("memory.max", bounds.memory.to_string())?;
                    let _ = put("memory.swap.max", "0".to_owned());
                }
                ("pids", _) => put("pids.max", bounds.processes.to_string())?,
                ("cpu", CgroupVersion::V1) => put("cpu.cfs_quota_us", quota.to_string())?,
                ("cpu", CgroupVersion::V2) => put("cpu.max", format!("{quota} {CPU_PERIOD_MICROS}"))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Files through which a process enters the groups.
    pub fn process_files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.paths.iter().map(|(.., path)| path.join("cgroup.procs")).collect();
        files.dedup();
        files
    }

    fn number(&self, controller: &str, one: &str, two: &str) -> Option<u64> {
        let (_, version, path) = self.paths.iter().find(|(known, ..)| *known == controller)?;
        let text = fs::read_to_string(path.join(if *version == CgroupVersion::V1 { one } else { two })).ok()?;
        text.trim().parse().ok()
    }

    /// Value in a file of named numbers.
    fn named(&self, controller: &str, one: &str, two: &str, name: &str) -> Option<u64> {
        let (_, version, path) = self.paths.iter().find(|(known, ..)| *known == controller)?;
        let text = fs::read_to_string(path.join(if *version == CgroupVersion::V1 { one } else { two })).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// Peak memory in bytes.
    pub fn memory_peak(&self) -> Option<u64> {
        self.number("memory", "memory.max_usage_in_bytes", "memory.peak")
    }

    /// Current memory in bytes, including the kernel's page cache.
    pub fn memory(&self) -> Option<u64> {
        self.number("memory", "memory.usage_in_bytes", "memory.current")
    }

    /// Number of processes that the kernel killed for lack of memory.
    pub fn oom_kill_count(&self) -> u64 {
        self.named("memory", "memory.oom_control", "memory.events", "oom_kill ").unwrap_or(0)
    }

    /// Processor time in seconds.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let nanoseconds = self.number("cpuacct", "cpuacct.usage", "no such file").map(|n| n as f64 / 1e9);
        nanoseconds.or_else(|| Some(self.named("cpuacct", "no such file", "cpu.stat", "usage_usec ")? as f64 / 1e6))
    }
}

impl Drop for CgroupGuard {
    fn drop(&mut self) {
        for (.., path) in &self.paths {
            // A dying process still counts as a member for a moment.
            for _ in 0..500 {
                match fs::remove_dir(path) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_for_both_versions() {
        let own = "9:memory:/a/b\n3:cpu,cpuacct:/\n0::/system.slice/x.service/main\n";
        let paths =
            |controller| candidate_roots(own, controller).into_iter().map(|place| place.path).collect::<Vec<_>>();
        assert_eq!(
            paths("memory"),
            [
                "/sys/fs/cgroup/memory/a/b",
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/system.slice/x.service",
                "/sys/fs/cgroup/system.slice/x.service/main"
            ]
            .map(PathBuf::from)
        );
        assert_eq!(paths("cpu")[0], PathBuf::from("/sys/fs/cgroup/cpu/"));
        assert_eq!(paths("pids").len(), 2, "version 2 alone");
    }
}
