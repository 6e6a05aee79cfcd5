//! Tells the linker where libtorch lies, so that `cargo run`, `cargo test` and an IDE find it at run time too.

use std::path::{Path, PathBuf};

fn main() {
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

/// The way from one absolute directory to another.
fn relative_path(from: &Path, to: &Path) -> String {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Path::new("..").as_os_str());
    let down = to.components().skip(common).map(|part| part.as_os_str());
    up.chain(down).collect::<PathBuf>().to_string_lossy().into_owned()
}
