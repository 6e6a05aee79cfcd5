//! The process in which jq programs and JSON Schemas are evaluated. An executable of its own, because one that links
//! libtorch takes 110 MB and a third of a second to start, and this takes 5 MB and a few milliseconds.

fn main() -> std::process::ExitCode {
    am_jq_worker::main()
}
