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
    stage.files(&mut args, &rules, &[]);
    let (data, link) = (text(&data), text(&link));
    let expected = format!(
        "--ro-bind-try {data} {link} --size 4096 --tmpfs {link}/secret --remount-ro {link}/secret \
         --size 4096 --tmpfs {link}/am --remount-ro {link}/am \
         --size 4096 --tmpfs {link}/am/sandboxes --remount-ro {link}/am/sandboxes"
    );
    assert_eq!(args.0.join(" "), expected);
    // bubblewrap could mount nothing in a directory that is empty and read-only.
    let mut args = BwrapArguments::default();
    stage.files(&mut args, &rules, &[format!("{link}/am")]);
    assert_eq!(args.0.join(" "), expected.split_once(&format!(" --size 4096 --tmpfs {link}/am ")).unwrap().0);
}

#[test]
fn entries_that_are_no_part_of_the_system_are_known_by_their_names() {
    let place = tempfile::tempdir().unwrap();
    for name in ["bin", "lib", "lib64", "libexec", "share", "local", "src", "etc", "games", "Cellar"] {
        fs::create_dir(place.path().join(name)).unwrap();
    }
    std::os::unix::fs::symlink("share/man", place.path().join("man")).unwrap();
    for name in ["notes", "library.conf"] {
        fs::write(place.path().join(name), "x").unwrap();
    }
    let mut found = foreign_entries(place.path());
    found.sort();
    let path = |name: &str| place.path().join(name).display().to_string();
    let foreign =
        [("Cellar", true), ("etc", true), ("games", true), ("library.conf", false), ("notes", false), ("src", true)];
    assert_eq!(found, foreign.map(|(name, is_directory)| (path(name), is_directory)));
    assert!(foreign_entries(&place.path().join("missing")).is_empty());
}

#[test]
fn directories_of_the_administrator_are_hidden_unless_a_program_is_there() {
    let place = tempfile::tempdir().unwrap();
    let host = host(place.path());
    let rules = presets::rules_for_level(SecurityLevel::Public);
    let stage = BindMounts { host: &host, workspace: Path::new("/w"), bubblewrap: Path::new("/x/bwrap") };
    // Most systems have it, if only empty.
    if !is_real_directory("/usr/src") {
        return;
    }
    assert!(stage.arguments(&rules, &[]).join(" ").contains("--tmpfs /usr/src --remount-ro /usr/src"));
    let program = AllowedProgram { link: "/usr/bin/x".into(), file: "/usr/src/x/bin/x".into() };
    assert!(!stage.arguments(&rules, &[program]).join(" ").contains("--tmpfs /usr/src"));
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
