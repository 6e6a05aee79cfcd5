//! Output of commands: tables for people on a terminal, JSON for programs.

use std::io::IsTerminal as _;

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::commands::print_output;

/// Width of a table where the terminal does not tell its own, in columns.
const DEFAULT_WIDTH: u16 = 120;

/// Form in which a command prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputForm {
    /// Tables for people on a terminal.
    Table,
    /// JSON for programs, and for pipes.
    Json,
}

impl OutputForm {
    /// JSON if it is asked for, or if no terminal reads the output.
    pub fn choose(json: bool) -> Self {
        if json || !std::io::stdout().is_terminal() { Self::Json } else { Self::Table }
    }
}

/// Print a document as JSON of several lines.
pub fn print_document(document: &Value) {
    print_output(&format!("{document:#}"));
}

/// Print a table without lines. Columns are cut to the terminal's width.
pub fn print_table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let width = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| size.ws_col);
    print_output(&format_table(heads, rows, if width == 0 { DEFAULT_WIDTH } else { width }));
}

fn format_table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>, width: u16) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    if !heads.is_empty() {
        table.set_header(heads.to_vec());
    }
    table.add_rows(rows.into_iter().map(|row| row.iter().map(|cell| printable(cell)).collect::<Vec<_>>()));
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Print members of a document, one to a line; absent and empty ones are left out.
pub fn print_members(document: &Value, members: &[(&str, &str)]) {
    let present = members.iter().filter(|(_, name)| !document[*name].is_null() && document[*name] != "");
    print_table(&[], present.map(|(title, name)| vec![(*title).to_owned(), cell(&document[*name])]));
}

/// A value as a cell of a table: moments without their fractions, null as a dash.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => moment(text).unwrap_or_else(|| text.clone()),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// A time of the API to the second, in UTC.
fn moment(text: &str) -> Option<String> {
    let is_moment = text.len() >= 20 && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
    let at = chrono::DateTime::parse_from_rfc3339(text).ok().filter(|_| is_moment)?;
    Some(at.format("%F %T").to_string())
}

/// A number of seconds for people.
pub fn seconds(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(seconds) if seconds < 60.0 => format!("{seconds:.2} s"),
        Some(seconds) => humantime::format_duration(std::time::Duration::from_secs(seconds as u64)).to_string(),
    }
}

/// The text without characters that would steer the terminal: names and errors are other people's.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { if c == '\n' || c == '\t' { ' ' } else { '\u{fffd}' } } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_aligned_and_steer_no_terminal() {
        let rows = [["a", "one\u{1b}[2Jtwo"], ["long name", "x\ny"]].map(|row| row.map(str::to_owned).to_vec());
        let table = format_table(&["NAME", "TEXT"], rows, 80);
        let lines: Vec<&str> = table.lines().map(str::trim).collect();
        assert_eq!(lines, ["NAME       TEXT", "a          one\u{fffd}[2Jtwo", "long name  x y"]);
    }

    #[test]
    fn a_narrow_terminal_breaks_cells_and_loses_nothing() {
        let table = format_table(&["A", "B"], [vec!["exec_1".to_owned(), "many words in one cell".to_owned()]], 24);
        assert!(table.lines().all(|line| line.chars().count() <= 24) && table.lines().count() > 2, "{table}");
        for word in ["exec_1", "many", "words", "in", "one", "cell"] {
            assert!(table.contains(word), "{table}");
        }
    }

    #[test]
    fn cells_show_moments_to_the_second_and_null_as_a_dash() {
        for (value, expected) in [
            (json!("2026-05-12T14:29:30.123456Z"), "2026-05-12 14:29:30"),
            (json!("2026-05-12T14"), "2026-05-12T14"),
            (json!(null), "-"),
            (json!(true), "yes"),
            (json!(0.01), "0.01"),
            (json!({"a": 1}), r#"{"a":1}"#),
        ] {
            assert_eq!(cell(&value), expected);
        }
        assert_eq!(
            (seconds(&json!(1.239)), seconds(&json!(75.2)), seconds(&json!(null))),
            ("1.24 s".into(), "1m 15s".into(), "-".into())
        );
    }
}
