//! The service's executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("jq-worker") => agent_management::orchestration::jq::worker::main(),
        _ => ExitCode::FAILURE,
    }
}
