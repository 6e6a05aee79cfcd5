//! Tells the linker where libtorch lies, so that `cargo run`, `cargo test` and an IDE find it at run time too.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Some(place) = std::env::var_os("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}/lib", place.to_string_lossy());
    }
    // An installed binary finds it beside itself: /usr/local/bin and /usr/local/lib/agent-management.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/agent-management");
    // Nothing of tch's calls libtorch_cpu by name; without this the linker would drop it.
    println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
}
