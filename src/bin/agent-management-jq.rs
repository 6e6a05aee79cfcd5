//! The process in which jq programs and JSON Schemas are evaluated. It is an executable of its own, for one that links
//! libtorch takes 110 MB and a third of a second to start, and this takes 5 MB and a few milliseconds: so it compiles
//! the few files that it needs and doesn't use the library.

#![cfg_attr(not(test), expect(dead_code, reason = "the library's side of the same files"))]

#[path = "../orchestration"]
mod orchestration {
    pub mod schema;
    pub mod jq {
        pub mod worker;
    }
}

fn main() -> std::process::ExitCode {
    orchestration::jq::worker::main()
}
