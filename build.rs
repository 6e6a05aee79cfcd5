//! Tells the linker where libtorch lies, so that `cargo run`, `cargo test` and an IDE find it at run time too; and the executable from
//! what it was built.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    tell_build();
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    // An installed binary finds it beside itself: /usr/local/bin and /usr/local/lib/agent-management.
    let mut places = vec!["../lib/agent-management".to_owned()];
    if let (Some(torch), Some(out)) = (std::env::var_os("LIBTORCH"), std::env::var_os("OUT_DIR")) {
        // OUT_DIR is <profile>/build/<package>/out; executables lie in <profile>, tests in <profile>/deps.
        let libraries = Path::new(&torch).join("lib");
        let profile = Path::new(&out).ancestors().nth(3).map(Path::to_owned).unwrap_or_default();
        places.extend([&profile, &profile.join("deps")].map(|from| relative_path(from, &libraries)));
    }
    // Relative to the binary alone: an installed one must not look into the directory in which it was built, which another
    // user may own.
    for place in places {
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/{place}");
    }
    // Nothing of tch's calls libtorch_cpu by name; without this the linker would drop it.
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
}

/// Set `BUILD_COMMIT` and `BUILD_COMPILER` for the crate. A commit is told by SOURCE_COMMIT or, in releases, by git: a build for tests
/// is not repeated for each commit.
fn tell_build() {
    println!("cargo:rerun-if-env-changed=SOURCE_COMMIT");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if is_release {
        for file in [".git/HEAD", ".git/logs/HEAD"].into_iter().filter(|file| Path::new(file).exists()) {
            println!("cargo:rerun-if-changed={file}");
        }
    }
    let of_git = || is_release.then(|| output("git", &["rev-parse", "--short=12", "HEAD"])).flatten();
    let commit = std::env::var("SOURCE_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(of_git);
    println!("cargo:rustc-env=BUILD_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    let compiler = output(&std::env::var("RUSTC").unwrap_or_default(), &["--version"]);
    println!("cargo:rustc-env=BUILD_COMPILER={}", compiler.as_deref().unwrap_or("rustc unknown"));
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let done = Command::new(program).args(arguments).output().ok().filter(|done| done.status.success())?;
    Some(String::from_utf8(done.stdout).ok()?.trim().to_owned())
}

/// The way from one absolute directory to another.
fn relative_path(from: &Path, to: &Path) -> String {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Path::new("..").as_os_str());
    let down = to.components().skip(common).map(|part| part.as_os_str());
    up.chain(down).collect::<PathBuf>().to_string_lossy().into_owned()
}
