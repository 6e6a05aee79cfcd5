//! Rules that a process applies to itself: limits and Landlock.

use std::io;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

use super::ipc::{InitPlan, ProcessLimits};

/// Nice value of commands: what they compute for long must not delay the service, whose threads compute for moments.
const COMMAND_NICE: i32 = 10;

/// Set each limit, never above the current one, and a lower priority.
pub fn set_limits(limits: &ProcessLimits) -> io::Result<()> {
    let all = [
        // One byte disables core dumps even where they are piped to a program, which ignores a limit of zero.
        (Resource::Core, Some(1)),
        (Resource::Cpu, limits.cpu_seconds),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Nproc, limits.processes),
        (Resource::Nofile, limits.open_files),
        (Resource::Data, limits.data_bytes),
    ];
    for (resource, value) in all {
        let Some(value) = value else { continue };
        let value = getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value));
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?;
    }
    // Lower than it was inherited is allowed to everybody; a failure would only cost latency elsewhere.
    let _ = setpriority_process(None, COMMAND_NICE);
    Ok(())
}

/// Devices that every program may write.
const WRITABLE_DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Restrict the process with Landlock: read what is mounted, write and execute what the plan names, connect to no port
/// but the proxy's, signal no process outside.
pub fn restrict_with_landlock(plan: &InitPlan, port: Option<u16>) -> io::Result<()> {
    let restricted = apply_ruleset(plan, port).map_err(io::Error::other)?;
    if plan.landlock && restricted == RulesetStatus::NotEnforced {
        return Err(io::Error::other("this kernel has none"));
    }
    Ok(())
}

fn apply_ruleset(plan: &InitPlan, port: Option<u16>) -> Result<RulesetStatus, landlock::RulesetError> {
    const LANDLOCK_ABI: ABI = ABI::V6;
    let every = AccessFs::from_all(LANDLOCK_ABI);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = every & !AccessFs::Execute & !AccessFs::IoctlDev;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(every)?
        .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
        .scope(Scope::from_all(LANDLOCK_ABI))?
        .create()?;
    let mut allow = |path: &str, access: BitFlags<AccessFs>| -> Result<(), landlock::RulesetError> {
        // A missing path needs no rule.
        if let Ok(file) = PathFd::new(path) {
            let files = AccessFs::from_file(LANDLOCK_ABI);
            let directory = std::path::Path::new(path).is_dir();
            let access = if directory { access } else { access & files };
            (&mut ruleset).add_rule(PathBeneath::new(file, access))?;
        }
        Ok(())
    };
    allow("/", read)?;
    for path in &plan.writable {
        allow(path, read | write)?;
    }
    for path in &plan.executable {
        allow(path, read | AccessFs::Execute)?;
    }
    for device in WRITABLE_DEVICES {
        allow(device, AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev)?;
    }
    if let Some(port) = port {
        (&mut ruleset).add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}
