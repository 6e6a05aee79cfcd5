//! The executable itself, started by somebody else than the service.

use std::process::{Command, Stdio};

#[test]
fn sandbox_init_says_who_starts_it() {
    for arguments in [&[][..], &["inner-most"]] {
        let ended = Command::new(env!("CARGO_BIN_EXE_agent-management-sandbox"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(125));
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(said.contains("is started by agent-management"), "{said}");
    }
}
