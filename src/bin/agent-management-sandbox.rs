//! The first process of a sandbox, and what starts bubblewrap. An executable of its own, as the jq workers are: it is
//! started for each command, and must not bring libtorch along. It compiles the few files that it needs.

#![expect(dead_code, reason = "the service's side of the same files")]

#[path = "../security/sandbox"]
mod sandbox {
    pub mod filter;
    pub mod inside;
    pub mod kernel;
    pub mod wire;
}

fn main() -> std::process::ExitCode {
    sandbox::inside::main()
}
