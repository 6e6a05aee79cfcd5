//! The source files of the workspace, for the rules that are checked on their text.

use std::{fs, path::Path};

/// A source file of a crate or of the root package, outside tests.
pub struct Source {
    /// Below the repository: `crates/db/src/codec.rs`.
    pub file: String,
    /// Without the folders that all have: `db/codec.rs` in a crate, `routes/mod.rs` in the root package.
    pub path: String,
    /// The crate, or the root package's module.
    pub module: String,
    /// Whether it belongs to the root package.
    pub in_root: bool,
    /// Without what follows the first test module, which stands at a file's end.
    pub text: String,
    /// The text without lines that are comments.
    pub code: String,
    /// Lines of the file, with its tests.
    pub lines: usize,
}

impl Source {
    pub fn new(file: &str, text: &str) -> Self {
        let in_crate = file.strip_prefix("crates/").and_then(|rest| rest.split_once("/src/"));
        let path = match in_crate {
            Some((name, path)) => format!("{name}/{path}"),
            None => file.trim_start_matches("src/").to_owned(),
        };
        let module = path.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        let lines = text.lines().count();
        let text = without_tests(text);
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        Self { file: file.to_owned(), path, module, in_root: in_crate.is_none(), text: text.to_owned(), code, lines }
    }
}

/// The repository's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folders below `crates/`.
pub fn crates() -> Vec<String> {
    let entries = fs::read_dir(root().join("crates")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// All source files, by their paths.
pub fn sources() -> Vec<Source> {
    let mut folders: Vec<_> = crates().iter().map(|name| root().join("crates").join(name).join("src")).collect();
    folders.push(root().join("src"));
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap();
            if file.is_dir() && name != "tests" {
                folders.push(file);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = fs::read_to_string(&file).unwrap();
                found.push(Source::new(file.strip_prefix(root()).unwrap().to_str().unwrap(), &text));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 300, "only {} files found", found.len());
    found
}

fn without_tests(text: &str) -> &str {
    let begins = |at: usize| {
        let item = text[at..].lines().nth(1).unwrap_or_default();
        item.ends_with('{') && item.split(' ').any(|word| word == "mod")
    };
    text.match_indices("#[cfg(test)]\n").find(|(at, _)| begins(*at)).map_or(text, |(at, _)| &text[..at])
}

/// The paths behind `prefix` (such as `crate::`), with braces opened: `crate::{db::{self, Tx}, jobs}` names `db`, `db::Tx`
/// and `jobs`.
pub fn paths_behind(prefix: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
            tree(&code[at + prefix.len()..], "", &mut found);
        }
    }
    found
}

/// Read one use tree; answers how many bytes it took.
fn tree(text: &str, prefix: &str, found: &mut Vec<String>) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    let mut path = prefix.to_owned();
    loop {
        let rest = &text[at..];
        if rest.starts_with('{') {
            at += 1;
            loop {
                at += text[at..].len() - text[at..].trim_start_matches(|c: char| c.is_whitespace() || c == ',').len();
                if text[at..].is_empty() {
                    return at;
                }
                if text[at..].starts_with('}') {
                    return at + 1;
                }
                let took = tree(&text[at..], &path, found);
                // Something that is no use tree, such as a block: leave it.
                if took == 0 {
                    return at;
                }
                at += took;
            }
        }
        let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
        at += word.len();
        if word.is_empty() {
            return if rest.starts_with('*') { at + 1 } else { at };
        }
        if word != "self" {
            path = if path.is_empty() { word } else { format!("{path}::{word}") };
        }
        let rest = &text[at..];
        if let Some(more) = rest.strip_prefix("::") {
            at += 2;
            if more.starts_with('<') {
                found.push(path);
                return at;
            }
            continue;
        }
        found.push(path);
        // `x as y`
        let renamed = rest.strip_prefix(" as ").map(|name| 4 + name.chars().take_while(|c| is_word(*c)).count());
        return at + renamed.unwrap_or(0);
    }
}

#[test]
fn paths_are_read_from_nested_braces() {
    let code = "use crate::{\n    db::{self, codec::{Doc, Timestamp}, once::Done as D},\n    jobs,\n};\nlet x = crate::rl::Policies::open();";
    let expected = ["db", "db::codec::Doc", "db::codec::Timestamp", "db::once::Done", "jobs", "rl::Policies::open"];
    assert_eq!(paths_behind("crate::", code), expected);
}

#[test]
fn test_modules_are_left_out_and_what_follows_their_declaration_is_not() {
    let source =
        Source::new("crates/db/src/a.rs", "//! A.\n#[cfg(test)]\nmod tests;\nuse b;\n#[cfg(test)]\npub mod tests {\n");
    assert_eq!(
        (source.text.as_str(), source.code.as_str()),
        ("//! A.\n#[cfg(test)]\nmod tests;\nuse b;\n", "#[cfg(test)]\nmod tests;\nuse b;")
    );
    assert_eq!((source.path.as_str(), source.module.as_str(), source.lines), ("db/a.rs", "db", 6));
}
