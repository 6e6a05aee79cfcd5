//! Work outside the sandbox: enter control groups, give up root, execute bubblewrap.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::Path,
    process::Command,
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change},
    process::{Signal, set_parent_process_death_signal},
    thread::{CpuSet, sched_setaffinity, set_no_new_privs},
};

use super::{
    ipc::{LauncherPlan, STAGE_PATH},
    sys,
};

/// Execute bubblewrap; returns only on failure.
pub fn become_bubblewrap(text: &str) -> io::Result<()> {
    let outer: LauncherPlan = serde_json::from_str(text)?;
    for group in &outer.groups {
        fs::write(group, "0").map_err(|error| io::Error::other(format!("{}: {error}", group.display())))?;
    }
    if !outer.processors.is_empty() {
        let mut set = CpuSet::new();
        outer.processors.iter().for_each(|at| set.set(*at));
        sched_setaffinity(None, &set)?;
    }
    if !outer.shown.is_empty() {
        mount_stage(&outer).map_err(|error| io::Error::other(format!("mounts for bubblewrap: {error}")))?;
    }
    set_no_new_privs(true)?;
    let mut command = Command::new(&outer.program);
    command.args(&outer.arguments).env_clear().current_dir("/");
    if let Some((user, group)) = outer.user {
        // Supplementary groups are dropped with the user, as std documents for a process of root.
        command.uid(user).gid(group);
    } else {
        // A change of user clears this setting; bubblewrap sets it again once it runs.
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    Err(io::Error::other(format!("{}: {}", outer.program.display(), command.exec())))
}

/// Mount paths that only root can reach below a directory that everybody can enter, in a separate mount namespace.
fn mount_stage(outer: &LauncherPlan) -> io::Result<()> {
    sys::unshare_mounts()?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let path = |file: &Path| OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(file);
    // Opened first, because the mounts may hide them.
    let opened: Vec<(File, &str)> =
        outer.shown.iter().map(|(from, name)| Ok((path(from)?, name.as_str()))).collect::<io::Result<_>>()?;
    mount("agent-management", STAGE_PATH, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755,size=64k")?;
    for (file, name) in opened {
        let place = Path::new(STAGE_PATH).join(name);
        if file.metadata()?.is_dir() {
            fs::create_dir(&place)?
        } else {
            File::create(&place).map(drop)?
        }
        mount_bind_recursive(format!("/proc/self/fd/{}", file.as_raw_fd()), &place)?;
    }
    Ok(())
}
