//! Blocks of the documents that tests run, and one bash session that runs them as they are printed.

use std::{fmt::Write as _, os::unix::fs::symlink, path::Path, process::Command};

use crate::harness::ReservedPort;

/// A fenced block below an HTML comment `<!-- mark -->` or `<!-- mark: words -->`.
pub(crate) struct Block {
    /// The number of its first line in the document.
    pub(crate) line: usize,
    /// What stands behind the mark: words that its output has, separated by ` | `; empty: none.
    pub(crate) words: String,
    /// The word behind the opening fence.
    pub(crate) language: &'static str,
    pub(crate) code: String,
}

/// The blocks of a document below a mark, in their order.
pub(crate) fn blocks(document: &'static str, mark: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = document.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let inside = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
        let Some(rest) = inside.and_then(|inside| inside.strip_prefix(mark)) else { continue };
        if !(rest.is_empty() || rest.starts_with(": ")) {
            continue;
        }
        let (_, fence) = lines.next().unwrap();
        let language = fence.strip_prefix("```").unwrap_or_else(|| panic!("line {}: no block follows", at + 2));
        let code =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect::<Vec<_>>().join("\n");
        found.push(Block { line: at + 3, words: rest.trim_start_matches(": ").to_owned(), language, code });
    }
    found
}

/// Runs the blocks in one bash, in a directory of its own, with the program where `cargo build` would have put it, a free
/// port in `APP_PORT`, and `files` (name and content) beside it. `last` is run after them. Checks that every block says its
/// words, and returns what `last` says.
pub(crate) fn run_blocks(document: &str, tour: &[Block], files: &[(&str, &str)], last: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_agent-management"));
    std::fs::create_dir(place.path().join("target")).unwrap();
    symlink(binary.parent().unwrap(), place.path().join("target/release")).unwrap();
    for (name, content) in files {
        let path = place.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let port = ReservedPort::new();

    // What is built is the test's own; all that is started ends with the script.
    let mut script = String::from("set -euo pipefail\nexec 2>&1\nhere=$PWD\nmake() { :; }\ncargo() { :; }\n");
    script.push_str("trap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\n");
    for block in tour {
        assert_eq!(block.language, "sh", "{document}:{}", block.line);
        write!(script, "echo; echo '@@ {document}:{}'\n{}\n", block.line, block.code).unwrap();
    }
    write!(script, "echo; echo '@@ last'\n{last}\n").unwrap();

    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(place.path())
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| matches!(name.as_str(), "PATH" | "HOME" | "LD_LIBRARY_PATH" | "TZ")))
        .env("TMPDIR", place.path())
        .env("APP_PORT", port.number().to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}:\n{said}", output.status);
    for block in tour {
        let heading = format!("@@ {document}:{}\n", block.line);
        let part = said.split(&heading).nth(1).and_then(|rest| rest.split("\n@@ ").next()).unwrap();
        for words in block.words.split(" | ") {
            assert!(part.contains(words), "{document}:{}: {words:?} is not in what it says:\n{part}", block.line);
        }
    }
    said.split("@@ last\n").nth(1).unwrap().to_owned()
}
