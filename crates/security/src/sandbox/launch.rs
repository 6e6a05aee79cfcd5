//! Conversion of a sandbox's rules into bubblewrap's arguments, and into the plan of the first process inside.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    cgroups::CgroupControllers,
    error::{Result, SandboxError},
    measure,
    model::{SandboxCommand, SandboxRules},
    programs::{self, AllowedProgram},
    violation_recorder::{ViolationRecorder, is_below, normalize_path},
};
use am_core::config::SandboxConfig;
use am_sandbox_init::ipc::{INNER_MODE, InitPlan, LauncherPlan, ProcessLimits, STAGE_PATH};

/// Path of the workspace inside the sandbox.
pub const WORKSPACE_PATH: &str = "/workspace";
/// Path of the helper executable inside the sandbox.
pub const HELPER_PATH: &str = "/run/agent-management-sandbox";
const SCRATCH_PATH: &str = "/tmp";
const SHARED_MEMORY_PATH: &str = "/dev/shm";
/// Directories that commands may write.
const WRITABLE_PATHS: [&str; 3] = [WORKSPACE_PATH, SCRATCH_PATH, SHARED_MEMORY_PATH];
/// System directories whose programs are shown one by one.
const PROGRAM_DIRECTORIES: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// Directories with programs that packages start internally. They are hidden unless an allowed program needs them: the
/// dynamic loader, which must be executable, could start any program that it can read.
const HELPER_DIRECTORIES: [&str; 7] = [
    "/usr/libexec",
    "/usr/local/libexec",
    "/usr/lib/git-core",
    "/usr/lib/jvm",
    "/usr/lib/openssh",
    "/usr/lib/sudo",
    "/usr/lib/systemd",
];
/// Directories whose entries are shown only if programs need them: what else an administrator keeps there (sources,
/// settings, packages of others) is no part of the system.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/usr", "/usr/local"];
/// Names in [`SYSTEM_DIRECTORIES`] that programs need, beside those of libraries, which begin with `lib`.
const SYSTEM_ENTRIES: [&str; 5] = ["bin", "sbin", "share", "include", "local"];
/// Files of /etc that programs need and that are not confidential.
const SYSTEM_FILES: [&str; 8] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates",
];
/// Files made for the sandbox, so that it does not see the host's user names.
const STUB_FILES: [(&str, &str); 4] = [
    ("passwd", "sandbox:x:65534:65534:sandbox:/workspace:/usr/sbin/nologin\n"),
    ("group", "sandbox:x:65534:\n"),
    ("hosts", "127.0.0.1 localhost\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
];

/// Resources of this host for sandboxes.
#[derive(Debug)]
pub struct SandboxHost {
    /// Path of the helper executable.
    pub helper: PathBuf,
    /// Path of bubblewrap; `None` when it is not installed.
    pub bubblewrap: Option<PathBuf>,
    /// User and group that bubblewrap is started as; `None`: those of this process, which is not root.
    pub user: Option<(u32, u32)>,
    /// Directory of the workspaces.
    pub directory: PathBuf,
    /// Directories of the service that must be invisible inside.
    pub hidden: Vec<PathBuf>,
    /// Control groups available to this process.
    pub groups: CgroupControllers,
    /// Whether Landlock must be enforced.
    pub landlock: bool,
    /// Settings of sandboxes.
    pub settings: SandboxConfig,
}

/// Everything needed to start a command.
#[derive(Debug)]
pub struct PreparedLaunch {
    /// Work outside the sandbox before bubblewrap starts.
    pub outer: LauncherPlan,
    /// Plan of the first process inside.
    pub plan: InitPlan,
    /// Recorder of attempts.
    pub judge: ViolationRecorder,
}

impl SandboxHost {
    /// Prepare the directory of workspaces.
    ///
    /// # Errors
    /// Fails when the directory can't be created.
    pub fn open(helper: PathBuf, directory: PathBuf, hidden: Vec<PathBuf>, settings: SandboxConfig) -> Result<Self> {
        let stored = |what: &Path, error| SandboxError::Storage(what.display().to_string(), error);
        let stubs = directory.join(".etc");
        fs::create_dir_all(&stubs).map_err(|error| stored(&stubs, error))?;
        for (name, text) in STUB_FILES {
            let file = stubs.join(name);
            fs::write(&file, text).map_err(|error| stored(&file, error))?;
            // The service's umask may hide it from other users.
            make_readable(&file).map_err(|error| stored(&file, error))?;
        }
        let directory = fs::canonicalize(&directory).map_err(|error| stored(&directory, error))?;
        let hidden = hidden.iter().chain([&directory]).filter_map(|path| fs::canonicalize(path).ok()).collect();
        let root = rustix::process::geteuid().is_root();
        let groups = if settings.cgroups { CgroupControllers::detect() } else { CgroupControllers::default() };
        Ok(Self {
            helper,
            bubblewrap: settings.bubblewrap.clone().or_else(|| find_program("bwrap")).filter(|file| file.is_file()),
            user: root.then_some((settings.uid, settings.gid)),
            directory,
            hidden,
            groups,
            landlock: !settings.allow_unenforced,
            settings,
        })
    }

    /// Path of an execution's workspace.
    pub fn workspace(&self, execution: &str) -> PathBuf {
        self.directory.join(execution)
    }

    /// Create the workspace, owned by the user that commands run as.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub fn make_workspace(&self, execution: &str) -> Result<PathBuf> {
        let path = self.workspace(execution);
        let make = || -> io::Result<()> {
            fs::create_dir_all(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            self.user.map_or(Ok(()), |(user, group)| std::os::unix::fs::chown(&path, Some(user), Some(group)))
        };
        make().map_err(|error| SandboxError::Storage(path.display().to_string(), error))?;
        Ok(path)
    }

    /// Existing workspaces with the time of their last change. Those left by tests of dead processes are removed.
    pub fn existing_workspaces(&self) -> Vec<(String, chrono::DateTime<chrono::Utc>)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let trial = name.strip_prefix(".probe-").is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()));
            if trial && !Path::new("/proc").join(&name[".probe-".len()..]).exists() {
                let _ = measure::remove_tree(&entry.path());
            }
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            if let (Ok(changed), false) = (changed, name.starts_with('.')) {
                found.push((name, changed.into()));
            }
        }
        found
    }

    /// Paths of the service for the recorder, without those that contain a writable directory of the sandbox.
    pub fn hidden_paths(&self) -> Vec<String> {
        let names = self.hidden.iter().map(|path| path.display().to_string());
        names.filter(|hidden| !WRITABLE_PATHS.iter().any(|own| is_below(own, hidden))).collect()
    }
}

/// Make a file and its directory readable for everybody.
fn make_readable(file: &Path) -> io::Result<()> {
    fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
    file.parent().map_or(Ok(()), |parent| fs::set_permissions(parent, fs::Permissions::from_mode(0o755)))
}

/// Find a program on the service's search path.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin")]);
    places.map(|place| place.join(name)).find(|file| file.is_file())
}

/// Prepare the start of a command.
///
/// # Errors
/// Returns [`SandboxError::CommandRefused`] for one that is not allowed, [`SandboxError::Unenforced`] without bubblewrap.
pub fn prepare_launch(
    host: &SandboxHost,
    rules: &SandboxRules,
    command: &SandboxCommand,
    workspace: &Path,
    own: bool,
) -> Result<PreparedLaunch> {
    let missing = || SandboxError::Unenforced("bubblewrap (bwrap) is not installed".to_owned());
    let bubblewrap = host.bubblewrap.clone().ok_or_else(missing)?;
    let mut programs = programs::allowed_programs(rules);
    let mut argv = command.argv.clone();
    let Some(first) = argv.first_mut() else {
        return Err(SandboxError::CommandRefused("the command is empty".to_owned()));
    };
    if own {
        // The test of the sandbox itself runs the helper executable.
        programs.push(AllowedProgram { link: HELPER_PATH.into(), file: HELPER_PATH.into() });
    } else {
        *first = programs::resolve_program(first, &programs, rules)?.display().to_string();
    }
    let stage = BindMounts { host, workspace, bubblewrap: &bubblewrap };
    let outer = LauncherPlan {
        user: host.user,
        groups: Vec::new(),
        processors: Vec::new(),
        shown: stage.shown(),
        program: stage.place("bwrap", &bubblewrap),
        arguments: stage.arguments(rules, &programs),
    };
    let processes = process_limit(host, command);
    let megabyte = 1u64 << 20;
    let memory = rules.memory_limit * megabyte;
    let plan = InitPlan {
        argv,
        env: command_environment(command),
        executable: executable_files(&programs),
        writable: WRITABLE_PATHS.map(str::to_owned).into(),
        limits: ProcessLimits {
            cpu_seconds: Some((rules.max_execution_time as f64 * rules.cpu_limit.max(1.0)).ceil() as u64 + 1),
            file_bytes: Some(rules.disk_limit * megabyte),
            processes: Some(processes + 2),
            open_files: Some(1024),
            // With a control group the kernel limits the memory really used by all processes together.
            data_bytes: (!host.groups.can_limit("memory")).then_some(memory),
        },
        network: rules.network_access,
        watch_files: rules.log_file_access,
        landlock: host.landlock,
    };
    let judge = ViolationRecorder::new(rules, &WRITABLE_PATHS, &host.hidden_paths());
    Ok(PreparedLaunch { outer, plan, judge })
}

/// Maximum number of processes and threads of a command.
pub fn process_limit(host: &SandboxHost, command: &SandboxCommand) -> u64 {
    command.limits.processes.unwrap_or(host.settings.max_processes).min(host.settings.max_processes)
}

fn command_environment(command: &SandboxCommand) -> Vec<(String, String)> {
    let fixed = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", WORKSPACE_PATH),
        ("LANG", "C.UTF-8"),
        ("TMPDIR", SCRATCH_PATH),
        // System directories are not writable, so the attempt would only be refused.
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ];
    let mut env: Vec<(String, String)> = fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    env.extend(command.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    env
}

/// Files that may be executed: the programs, the files that come with them, and the dynamic loaders.
fn executable_files(programs: &[AllowedProgram]) -> Vec<String> {
    let mut files: Vec<String> = Vec::new();
    for program in programs {
        files.push(program.file.display().to_string());
        // A runtime in its own directory starts its own helper programs: /usr/lib/jvm/NAME/bin/java.
        let home = program.file.parent().filter(|bin| bin.ends_with("bin")).and_then(Path::parent);
        let own = home.filter(|home| !["/usr", "/usr/local", "/"].iter().any(|system| *home == Path::new(system)));
        files.extend(own.map(|home| home.display().to_string()));
        if program.link.file_name().is_some_and(|name| name == "git") {
            files.extend(["/usr/lib/git-core".to_owned(), "/usr/libexec/git-core".to_owned()]);
        }
    }
    for directory in ["/lib64", "/lib", "/usr/lib64", "/usr/lib"] {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let loader = name.to_str().is_some_and(|name| name.starts_with("ld-linux") || name.starts_with("ld-musl"));
            let file = loader.then(|| fs::canonicalize(entry.path()).ok()).flatten();
            files.extend(file.map(|file| file.display().to_string()));
        }
    }
    files.sort();
    files.dedup();
    files
}

/// Paths that bubblewrap mounts. An unprivileged bubblewrap can't enter directories that only root may enter, so root
/// first mounts them below [`STAGE_PATH`].
struct BindMounts<'a> {
    host: &'a SandboxHost,
    workspace: &'a Path,
    bubblewrap: &'a Path,
}

impl BindMounts<'_> {
    fn shown(&self) -> Vec<(PathBuf, String)> {
        if self.host.user.is_none() {
            return Vec::new();
        }
        let all: [(&Path, &str); 4] = [
            (self.workspace, "workspace"),
            (&self.host.helper, "helper"),
            (self.bubblewrap, "bwrap"),
            (&self.host.directory.join(".etc"), "etc"),
        ];
        all.map(|(from, name)| (from.to_owned(), name.to_owned())).into()
    }

    fn place(&self, name: &str, real: &Path) -> PathBuf {
        if self.host.user.is_some() { Path::new(STAGE_PATH).join(name) } else { real.to_owned() }
    }

    fn arguments(&self, rules: &SandboxRules, programs: &[AllowedProgram]) -> Vec<String> {
        let mut args = BwrapArguments::default();
        args.words("--unshare-all --unshare-user --disable-userns --new-session --die-with-parent --clearenv");
        args.words("--cap-drop ALL");
        let emptied = self.system(&mut args, rules, programs);
        self.files(&mut args, rules, &emptied);
        args.two("--bind", &self.place("workspace", self.workspace), WORKSPACE_PATH);
        args.two("--ro-bind", &self.place("helper", &self.host.helper), HELPER_PATH);
        args.words("--remount-ro /dev --remount-ro / --chdir /workspace --");
        args.words(&format!("{HELPER_PATH} {INNER_MODE}"));
        args.0
    }

    /// Add the system: libraries completely, programs one by one, and only a few files of /etc. Returns the directories in
    /// which nothing is left of the host but these programs.
    fn system(&self, args: &mut BwrapArguments, rules: &SandboxRules, programs: &[AllowedProgram]) -> Vec<String> {
        args.two("--ro-bind", Path::new("/usr"), "/usr");
        for directory in ["/lib", "/lib32", "/lib64", "/bin", "/sbin"] {
            let path = Path::new(directory);
            match fs::read_link(path) {
                Ok(target) => args.two("--symlink", &target, directory),
                Err(_) if directory.starts_with("/lib") && path.is_dir() => args.two("--ro-bind", path, directory),
                Err(_) => {}
            }
        }
        let shown = PROGRAM_DIRECTORIES.into_iter().filter(|directory| is_real_directory(directory));
        let shown: Vec<&str> = shown.collect();
        shown.iter().for_each(|directory| args.words(&format!("--tmpfs {directory}")));
        let needed = executable_files(programs);
        let mut emptied: Vec<String> = shown.iter().map(|directory| (*directory).to_owned()).collect();
        for directory in HELPER_DIRECTORIES.iter().filter(|directory| is_real_directory(directory)) {
            if !needed.iter().any(|file| is_below(file, directory)) {
                args.words(&format!("--size 4096 --tmpfs {directory} --remount-ro {directory}"));
                emptied.push((*directory).to_owned());
            }
        }
        for (entry, is_directory) in
            SYSTEM_DIRECTORIES.iter().flat_map(|directory| foreign_entries(Path::new(directory)))
        {
            if needed.iter().any(|file| is_below(file, &entry)) {
                continue;
            }
            if is_directory {
                args.words("--size 4096 --tmpfs");
                args.0.extend([entry.clone(), "--remount-ro".to_owned(), entry.clone()]);
                emptied.push(entry);
            } else {
                // Devices can't be opened there.
                args.two("--ro-bind", Path::new("/dev/null"), &entry);
            }
        }
        for file in programs.iter().map(|program| &program.file).filter(|file| *file != Path::new(HELPER_PATH)) {
            let text = file.display().to_string();
            let covered = shown.iter().any(|directory| is_below(&text, directory)) || !is_below(&text, "/usr");
            if covered {
                args.two("--ro-bind", file, &text);
            }
        }
        for program in programs.iter().filter(|program| program.link != program.file) {
            args.two("--symlink", &program.file, &program.link.display().to_string());
        }
        shown.iter().for_each(|directory| args.words(&format!("--remount-ro {directory}")));
        for file in SYSTEM_FILES {
            args.two("--ro-bind-try", Path::new(file), file);
        }
        for entry in fs::read_dir("/etc").into_iter().flatten().flatten() {
            // Debian keeps a Java's settings there.
            let text = entry.path().display().to_string();
            if text.starts_with("/etc/java-") {
                args.two("--ro-bind", &entry.path(), &text);
            }
        }
        for (name, _) in STUB_FILES {
            let stubs = self.host.directory.join(".etc");
            args.two("--ro-bind", &self.place("etc", &stubs).join(name), &format!("/etc/{name}"));
        }
        args.words("--dev /dev");
        if !rules.blocked_file_paths.iter().any(|path| is_below("/proc", path)) {
            args.words("--proc /proc");
        }
        let scratch = scratch_bytes(rules);
        args.words(&format!("--size {scratch} --tmpfs {SCRATCH_PATH} --size {scratch} --tmpfs {SHARED_MEMORY_PATH}"));
        emptied
    }

    /// Add the allowed directories, without blocked directories and those of the service. Of the latter, those in `emptied`
    /// directories are not there.
    fn files(&self, args: &mut BwrapArguments, rules: &SandboxRules, emptied: &[String]) {
        let mut bound = vec![(PathBuf::from("/usr"), "/usr".to_owned())];
        for path in rules.allowed_file_paths.iter().filter(|path| is_bindable(path)) {
            let blocked = rules.blocked_file_paths.iter().any(|blocked| is_below(path, blocked));
            let Ok(real) = fs::canonicalize(path) else { continue };
            let hidden = self.host.hidden.iter().any(|hidden| real.starts_with(hidden));
            if !blocked && !hidden && real.is_dir() {
                args.two("--ro-bind-try", &real, path);
                bound.push((real, path.clone()));
            }
        }
        // The resolved path counts, because a link may lead there.
        let blocked = rules.blocked_file_paths.iter().map(PathBuf::from);
        for path in blocked.chain(self.host.hidden.iter().cloned()).filter(|path| path.is_dir()) {
            for (real, shown) in &bound {
                if let Ok(rest) = path.strip_prefix(real) {
                    let place = Path::new(shown).join(rest).display().to_string();
                    if emptied.iter().any(|directory| is_below(&place, directory)) {
                        continue;
                    }
                    args.0.extend(["--size", "4096", "--tmpfs", &place, "--remount-ro", &place].map(str::to_owned));
                }
            }
        }
    }
}

/// Maximum size of `/tmp` and `/dev/shm` in bytes; they are in memory.
pub fn scratch_bytes(rules: &SandboxRules) -> u64 {
    (rules.memory_limit * (1 << 20) / 4).min(rules.disk_limit << 20)
}

/// Entries of `directory` that are no part of the system, and whether each is a directory. Links are left out: what they
/// lead to is shown or not.
fn foreign_entries(directory: &Path) -> Vec<(String, bool)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| {
        // A name that is no text can't be passed to bubblewrap.
        let name = entry.file_name().into_string().ok()?;
        let kind = entry.file_type().ok().filter(|kind| !kind.is_symlink())?;
        let known = name.starts_with("lib") || SYSTEM_ENTRIES.contains(&name.as_str());
        (!known || !kind.is_dir()).then(|| (directory.join(name).display().to_string(), kind.is_dir()))
    });
    entries.collect()
}

/// Whether `path` is a directory and not a link to another, as `/usr/sbin` is on some systems.
fn is_real_directory(path: &str) -> bool {
    let path = Path::new(path);
    path.is_dir() && !path.is_symlink()
}

/// Whether a directory can be mounted: neither a directory that the sandbox provides itself, nor one that would hide
/// such a directory. The path may be anything that the coordinator wrote.
fn is_bindable(path: &str) -> bool {
    const RESERVED_DIRECTORIES: [&str; 13] = [
        "/usr",
        "/lib",
        "/lib32",
        "/lib64",
        "/bin",
        "/sbin",
        "/etc",
        "/dev",
        "/proc",
        "/sys",
        "/run",
        SCRATCH_PATH,
        WORKSPACE_PATH,
    ];
    normalize_path(path) == path && path != "/" && !RESERVED_DIRECTORIES.iter().any(|own| is_below(path, own))
}

#[derive(Default)]
struct BwrapArguments(Vec<String>);

impl BwrapArguments {
    fn words(&mut self, words: &str) {
        self.0.extend(words.split_whitespace().map(str::to_owned));
    }

    fn two(&mut self, option: &str, from: &Path, to: &str) {
        self.0.extend([option.to_owned(), from.display().to_string(), to.to_owned()]);
    }
}

#[cfg(test)]
mod tests;
