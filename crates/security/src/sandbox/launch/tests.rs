use super::*;
use crate::sandbox::presets;
use am_audit::SecurityLevel;

/// A host whose data lie in `data`, which bubblewrap can enter.
fn host(data: &Path) -> SandboxHost {
    let settings = SandboxConfig { cgroups: false, ..SandboxConfig::default() };
    let mut host =
        SandboxHost::open("/x/helper".into(), data.join("sandboxes"), vec![data.to_owned()], settings).unwrap();
    (host.user, host.bubblewrap) = (None, Some("/x/bwrap".into()));
    host
}

fn arguments(host: &SandboxHost, rules: &SandboxRules) -> String {
    let workspace = host.workspace("exec_1");
    BindMounts { host, workspace: &workspace, bubblewrap: Path::new("/x/bwrap") }.arguments(rules, &[]).join(" ")
}

#[test]
fn allowed_directories_are_shown_without_what_is_blocked_or_the_services_own() {
    // Not below /tmp, which is the sandbox's own.
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let shown = place.path().canonicalize().unwrap();
    for name in ["data/am", "data/secret", "data/open"] {
        fs::create_dir_all(shown.join(name)).unwrap();
    }
    let (data, link) = (shown.join("data"), shown.join("link"));
    std::os::unix::fs::symlink(&data, &link).unwrap();
    let host = host(&data.join("am"));
    let text = |path: &Path| path.display().to_string();
    let mut rules = presets::rules_for_level(SecurityLevel::Public);
    let never = ["/", "/usr/share", "data", "/data/../etc", "/proc", "/tmp/x", "/no/such/place"].map(str::to_owned);
    rules.allowed_file_paths = never.into_iter().chain([text(&link), text(&data.join("am"))]).collect();
    rules.blocked_file_paths.push(text(&data.join("secret")));
    let mut args = BwrapArguments::default();
    let stage = BindMounts { host: &host, workspace: Path::new("/w"), bubblewrap: Path::new("/x/bwrap") };
    stage.files(&mut args, &rules);
    let (data, link) = (text(&data), text(&link));
    let expected = format!(
        "--ro-bind-try {data} {link} --size 4096 --tmpfs {link}/secret --remount-ro {link}/secret \
         --size 4096 --tmpfs {link}/am --remount-ro {link}/am \
         --size 4096 --tmpfs {link}/am/sandboxes --remount-ro {link}/am/sandboxes"
    );
    assert_eq!(args.0.join(" "), expected);
}

#[test]
fn nothing_of_the_host_is_shown_beyond_its_system() {
    let place = tempfile::tempdir().unwrap();
    let host = host(place.path());
    let public = arguments(&host, &presets::rules_for_level(SecurityLevel::Public));
    for word in
        ["--unshare-all", "--disable-userns", "--cap-drop ALL", "--die-with-parent", "--clearenv", "--remount-ro /"]
    {
        assert!(public.contains(word), "{word}");
    }
    assert!(!public.contains("--share-net") && !public.contains("--bind / ") && public.contains("--proc /proc"));
    let restricted = arguments(&host, &presets::rules_for_level(SecurityLevel::Restricted));
    assert!(!restricted.contains("--proc"), "it is blocked there");
    for directory in PROGRAM_DIRECTORIES.iter().filter(|directory| is_real_directory(directory)) {
        assert!(public.contains(&format!("--tmpfs {directory}")), "programs are shown one by one");
    }
    // Git's own programs are there with git alone.
    if Path::new("/usr/lib/git-core").is_dir() {
        assert!(public.contains("--tmpfs /usr/lib/git-core"));
        let git = AllowedProgram { link: "/usr/bin/git".into(), file: "/usr/bin/git".into() };
        let workspace = host.workspace("exec_1");
        let stage = BindMounts { host: &host, workspace: &workspace, bubblewrap: Path::new("/x/bwrap") };
        let shown = stage.arguments(&presets::rules_for_level(SecurityLevel::Restricted), &[git]).join(" ");
        assert!(!shown.contains("--tmpfs /usr/lib/git-core"));
    }
}
