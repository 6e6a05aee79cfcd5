//! The first process of a sandbox, and what starts bubblewrap. An executable of its own, as the jq workers are: it is
//! started for each command, and must not bring libtorch along.

fn main() -> std::process::ExitCode {
    am_sandbox_init::main()
}
