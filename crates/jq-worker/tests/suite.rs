//! jq's own test suite, through a real worker process. What is answered otherwise is listed with its class in
//! `tests/fixtures/jq/differences.tsv`, and docs/API.md explains the classes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what goes wrong in a test's helper fails the test, and is told there"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

mod worker;

use worker::{SpokenAnswer, Worker};

const FILES: [&str; 7] = ["jq", "man", "manonig", "onig", "base64", "uri", "optional"];

/// A case of the suite; without an input it is a program that must be refused.
struct SuiteCase {
    file: &'static str,
    program: String,
    input: Option<String>,
    outputs: Vec<String>,
}

impl SuiteCase {
    /// The case as the list of differences names it.
    fn key(&self) -> String {
        [self.file, &self.program, self.input.as_deref().unwrap_or("%%FAIL")].join("\t")
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The unpacked suite, beside the other tools of tests below the directory that Cargo builds into.
fn suite() -> PathBuf {
    let executable = Path::new(env!("CARGO_BIN_EXE_agent-management-jq"));
    let places = executable.ancestors().map(|folder| folder.join("tools/jq"));
    places
        .into_iter()
        .find(|place| place.join("test-jq.txt").exists())
        .unwrap_or_else(|| panic!("this test needs jq's test suite: run scripts/test-tools.sh once (`make test` does)"))
}

/// The cases of a file: blocks between empty lines of a program, an input, and outputs, one in a line.
fn cases(folder: &Path, file: &'static str) -> Vec<SuiteCase> {
    let bytes = fs::read(folder.join(format!("{file}.test"))).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let refused = line.starts_with("%%FAIL");
        let program = if refused { lines.next().unwrap() } else { line }.to_owned();
        let input = (!refused).then(|| lines.next().unwrap().trim_start_matches('\u{feff}').to_owned());
        let mut outputs = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.trim().is_empty()) {
            if line.starts_with('#') {
                break;
            }
            outputs.push(line.to_owned());
        }
        found.push(SuiteCase { file, program, input, outputs });
    }
    found
}

/// Numbers are the same if their digits are, or if they aren't both integers and are the same double.
fn same_number(left: &str, right: &str) -> bool {
    let integer = |text: &str| text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
    left == right || !(integer(left) && integer(right)) && left.parse::<f64>().unwrap() == right.parse::<f64>().unwrap()
}

fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => same_number(&left.to_string(), &right.to_string()),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| right.get(name).is_some_and(|right| same(left, right)))
        }
        _ => left == right,
    }
}

/// What is wrong with the answer to a case.
fn fault(worker: &mut Worker, case: &SuiteCase) -> Option<String> {
    let Some(input) = &case.input else {
        return match worker.compile(&case.program) {
            SpokenAnswer::Output(_) => Some("the program is taken".to_owned()),
            SpokenAnswer::Refused(_) => None,
            SpokenAnswer::Ended => Some("the worker ended".to_owned()),
        };
    };
    // The suite counts what comes before an error, too.
    let answer = match worker.evaluate(&format!("[try ({}\n) catch empty]", case.program), input) {
        SpokenAnswer::Output(answer) => answer,
        SpokenAnswer::Refused(message) => return Some(message),
        SpokenAnswer::Ended => return Some("the worker ended".to_owned()),
    };
    let expected: Result<Value, serde_json::Error> =
        case.outputs.iter().map(|output| serde_json::from_str::<Value>(output)).collect();
    match (expected, serde_json::from_str::<Value>(&answer)) {
        (Ok(expected), Ok(found)) if same(&expected, &found) => None,
        _ => Some(answer),
    }
}

#[test]
fn the_suite_of_jq_gives_its_answers_but_for_known_differences() {
    let text = fs::read_to_string(repository().join("tests/fixtures/jq/differences.tsv")).unwrap();
    let known: BTreeMap<String, String> = text
        .lines()
        .filter(|line| !line.starts_with("# ") && !line.is_empty())
        .map(|line| {
            let (class, key) = line.split_once('\t').unwrap();
            (key.to_owned(), class.to_owned())
        })
        .collect();
    let mut worker = Worker::start();
    let folder = suite();
    let (mut count, mut unknown, mut seen) = (0, Vec::new(), BTreeSet::new());
    for case in FILES.iter().flat_map(|file| cases(&folder, file)) {
        count += 1;
        if let Some(fault) = fault(&mut worker, &case) {
            seen.insert(case.key());
            if !known.contains_key(&case.key()) {
                unknown.push(format!("?\t{}\n#  {}\n#  {fault}", case.key(), case.outputs.join("\n#  ")));
            }
        }
    }
    assert!(count > 800, "{count} cases");
    println!("{} of {count} cases differ", seen.len());
    assert!(unknown.is_empty(), "{} unknown differences:\n{}", unknown.len(), unknown.join("\n"));
    let stale: Vec<&String> = known.keys().filter(|key| !seen.contains(*key)).collect();
    assert!(stale.is_empty(), "these answers are jq's now, and no differences:\n{stale:#?}");
    // The table in the documentation has a row for each class.
    let api = fs::read_to_string(repository().join("docs/API.md")).unwrap();
    for class in known.values().collect::<BTreeSet<_>>() {
        assert!(api.contains(&format!("| `{class}` |")), "docs/API.md says nothing of the class {class}");
    }
}
