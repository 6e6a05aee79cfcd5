//! What one database says differently from another, asked for by name.
//!
//! Statements stand in the modules' store files as SQL that SQLite and PostgreSQL both take. Where the two have no common form, the
//! text holds a fragment, a name with arguments in braces (`{texts $1}`), and the dialect puts its own form there. A fragment
//! that a dialect can't express yet makes the statement one of the other dialect's alone.

use super::conflict_rule::ConflictRule;

/// Bytes above which a document is left out of a list's row.
const BRIEF_BYTES: usize = 8192;
/// Maximum number of rows that a search by text ranks, the newest that match.
pub const RANKED_ROWS: usize = 1000;
/// Maximum number of new rows that a page's own statement looks at.
const NEWS_ROWS: usize = 500;

/// A database whose SQL can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The database this service runs on.
    Sqlite,
    /// The one that statements are kept portable for.
    Postgres,
}

impl Dialect {
    /// `text` with this dialect's form of every fragment. None: it has none for one of them.
    pub(super) fn expand(self, text: &str) -> Option<String> {
        let mut out = String::with_capacity(text.len());
        let (mut rest, mut quoted) = (text, false);
        while let Some(c) = rest.chars().next() {
            let begins = c == '{' && !quoted && rest[1..].starts_with(|c: char| c.is_ascii_lowercase());
            if begins {
                let end = closing(rest)?;
                out.push_str(&self.fragment(&self.expand(&rest[1..end])?)?);
                rest = &rest[end + 1..];
                continue;
            }
            quoted ^= c == '\'';
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
        Some(out)
    }

    /// One fragment: its name, a blank, its arguments.
    fn fragment(self, text: &str) -> Option<String> {
        let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let sqlite = self == Self::Sqlite;
        Some(match (name, words.as_slice()) {
            // A page: its nine parameters begin with the one named (creation time and id of the entry before, newest first; the
            // same, oldest first; after and before which time; whether newest first; how many, how many to leave out). The word
            // before it is the table's alias with a dot. A table behind it is one that the coordinator writes, too, in several forms
            // of a time: its entry before is compared as it is stored.
            ("page", [first]) => page("", first, None)?,
            ("page", [first, table]) if first.starts_with('$') => page("", first, Some(table))?,
            ("page", [alias, first]) => page(alias, first, None)?,
            ("page", [alias, first, table]) => page(alias, first, Some(table))?,
            // Rows made after and before two times, the parameter named and the next.
            ("span", [first]) => span("created_at", first)?,
            ("span", [alias, first]) => span(&format!("{alias}created_at"), first)?,
            // A JSON array of texts as a column of rows.
            ("texts", [json]) if sqlite => format!("(SELECT value FROM json_each({json}))"),
            ("texts", [json]) => {
                format!("(SELECT value FROM jsonb_array_elements_text(CAST({json} AS jsonb)) AS j(value))")
            }
            // A JSON array of integers as a column of rows.
            ("integers", [json]) if sqlite => format!("(SELECT value FROM json_each({json}))"),
            ("integers", [json]) => {
                format!(
                    "(SELECT CAST(value AS bigint) AS value FROM jsonb_array_elements_text(CAST({json} AS jsonb)) AS j(value))"
                )
            }
            // A JSON array of arrays as rows whose columns have these names and types.
            ("records", [json, columns @ ..]) => records(self, json, columns)?,
            // The same, each with its place in the array as column `place`; all columns are texts.
            ("placed", [json, columns @ ..]) => placed(self, json, columns),
            // A float as text that reads as the same float: SQLite's JSON functions write 15 digits, which are too few.
            ("exact", [column]) if sqlite => format!("format('%!.17g', {column})"),
            ("exact", [column]) => format!("CAST({column} AS text)"),
            // One value that holds the expressions, and all rows' such values as one.
            ("array", _) if sqlite => format!("json_array({rest})"),
            ("array", _) => format!("json_build_array({rest})"),
            ("arrays", _) if sqlite => format!("json_group_array({rest})"),
            ("arrays", _) => format!("coalesce(json_agg({rest}), '[]')"),
            // The bytes of a text or a JSON column, without reading it.
            ("bytes", [column]) if sqlite => format!("coalesce(octet_length({column}), 0)"),
            ("bytes", [column]) => format!("coalesce(octet_length(CAST({column} AS text)), 0)"),
            // A document of a list's row: its text, or the number of its bytes where these are many (`row::BriefText`).
            ("brief", [column]) if sqlite => {
                format!(
                    "CASE WHEN octet_length({column}) > {BRIEF_BYTES} THEN octet_length({column}) ELSE CAST({column} AS TEXT) END"
                )
            }
            ("brief", [column]) => {
                let text = format!("CAST({column} AS text)");
                format!(
                    "CASE WHEN octet_length({text}) > {BRIEF_BYTES} THEN to_json(octet_length({text})) ELSE to_json({text}) END"
                )
            }
            // What others added to a table since a place, as JSON: the highest place, the last one that was looked at, and ids
            // of rows that the table's list does not have. PostgreSQL's triggers are the table's own, and miss none.
            ("news", [table, list, place]) if sqlite => format!(
                "(SELECT json_array((SELECT coalesce(max(rowid), 0) FROM {table}), max(place), \
                 json_group_array(missing) FILTER (WHERE missing IS NOT NULL)) \
                 FROM (SELECT t.rowid AS place, \
                 CASE WHEN EXISTS (SELECT 1 FROM {list} l WHERE l.id = t.id) THEN NULL ELSE t.id END AS missing \
                 FROM {table} t WHERE t.rowid > {place} ORDER BY t.rowid LIMIT {NEWS_ROWS}))"
            ),
            ("news", [_, _, _]) => "'[0, null, []]'".to_owned(),
            // Does the text hold the other one?
            ("contains", [text, part]) if sqlite => format!("instr({text}, {part}) > 0"),
            ("contains", [text, part]) => format!("strpos({text}, {part}) > 0"),
            // Whether a stored JSON array of texts holds one.
            ("has", [json, text]) if sqlite => {
                format!("EXISTS (SELECT 1 FROM json_each({json}) AS j WHERE j.value = {text})")
            }
            ("has", [json, text]) => {
                format!(
                    "EXISTS (SELECT 1 FROM jsonb_array_elements_text(CAST({json} AS jsonb)) AS j(value) WHERE j.value = {text})"
                )
            }
            // Numbers of the newest rows whose texts match: the index of texts, the table, the parameter, and the columns.
            ("matches", [index, table, query, columns @ ..]) => matches(self, index, table, query, columns),
            // Numbers of the rows in which these columns alone match, from the lowest number of other rows on: as above, what names
            // the other rows before the columns.
            ("matches_in", [index, table, query, others, columns @ ..]) => {
                matches_in(self, index, table, query, others, columns)
            }
            // A text member of stored JSON; null where the text is no JSON.
            ("member", [json, name]) if sqlite => format!("CASE WHEN json_valid({json}) THEN {json} ->> '{name}' END"),
            ("member", [json, name]) => format!("CAST({json} AS jsonb) ->> '{name}'"),
            // A join whose left side is read first: SQLite's planner would begin with the other.
            ("then", []) if sqlite => "CROSS JOIN".to_owned(),
            ("then", []) => "JOIN".to_owned(),
            // The index to go by, where the planner would choose another.
            ("by", [index]) if sqlite => format!("INDEXED BY {index}"),
            ("by", [_]) => String::new(),
            // The place of a row among all that were ever written to its table, which only SQLite keeps.
            ("place", [alias]) if sqlite => format!("{alias}.rowid"),
            // The last number that the table's counter gave.
            ("last", [table]) if sqlite => format!("(SELECT seq FROM sqlite_sequence WHERE name = '{table}')"),
            ("last", [table]) => format!("(SELECT pg_sequence_last_value(pg_get_serial_sequence('{table}', 'id')))"),
            _ => return None,
        })
    }
}

/// Where the brace that `text` begins with is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

fn number(parameter: &str) -> Option<usize> {
    parameter.strip_prefix('$')?.parse().ok()
}

fn span(column: &str, first: &str) -> Option<String> {
    let after = number(first)?;
    Some(format!("[AND {column} > ${after}] [AND {column} < ${}]", after + 1))
}

fn page(alias: &str, first: &str, table: Option<&&str>) -> Option<String> {
    let first = number(first)?;
    let row = format!("({alias}created_at, {alias}id)");
    let position = |at: usize| match table {
        Some(table) => {
            format!("(coalesce((SELECT created_at FROM {table} WHERE id = ${}), ${at}), ${})", at + 1, at + 1)
        }
        None => format!("(${at}, ${})", at + 1),
    };
    let (newer, older) = (position(first), position(first + 2));
    let span = span(&format!("{alias}created_at"), &format!("${}", first + 4))?;
    let [descending, limit, offset] = [first + 6, first + 7, first + 8];
    Some(format!(
        "[AND {row} < {newer}] [AND {row} > {older}] {span} \
         ORDER BY {alias}created_at [?{descending} DESC], {alias}id [?{descending} DESC] LIMIT ${limit} OFFSET ${offset}"
    ))
}

fn records(dialect: Dialect, json: &str, columns: &[&str]) -> Option<String> {
    let mut list = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let (name, kind) = column.split_once(':')?;
        list.push(match dialect {
            Dialect::Sqlite => format!("value ->> {at} AS {name}"),
            Dialect::Postgres => format!("CAST(value ->> {at} AS {kind}) AS {name}"),
        });
    }
    let list = list.join(", ");
    Some(match dialect {
        Dialect::Sqlite => format!("(SELECT {list} FROM json_each({json}))"),
        Dialect::Postgres => format!("(SELECT {list} FROM jsonb_array_elements(CAST({json} AS jsonb)) AS j(value))"),
    })
}

fn placed(dialect: Dialect, json: &str, columns: &[&str]) -> String {
    let list: Vec<String> = columns.iter().enumerate().map(|(at, name)| format!("value ->> {at} AS {name}")).collect();
    let list = list.join(", ");
    match dialect {
        Dialect::Sqlite => format!("(SELECT key AS place, {list} FROM json_each({json}))"),
        Dialect::Postgres => format!(
            "(SELECT place, {list} FROM jsonb_array_elements(CAST({json} AS jsonb)) WITH ORDINALITY AS j(value, place))"
        ),
    }
}

fn matches(dialect: Dialect, index: &str, table: &str, query: &str, columns: &[&str]) -> String {
    match dialect {
        // No score: SQLite's would count every row of the table that has one of the words.
        Dialect::Sqlite => {
            format!(
                "(SELECT rowid AS number FROM {index} WHERE {index} MATCH {query} ORDER BY rowid DESC LIMIT {RANKED_ROWS})"
            )
        }
        Dialect::Postgres => {
            let found = found_by(query, columns);
            format!("(SELECT number FROM {table} WHERE {found} ORDER BY number DESC LIMIT {RANKED_ROWS})")
        }
    }
}

fn matches_in(dialect: Dialect, index: &str, table: &str, query: &str, others: &str, columns: &[&str]) -> String {
    let least = format!("(SELECT min(number) FROM {others})");
    match dialect {
        Dialect::Sqlite => {
            let within = columns.join(" ");
            format!(
                "(SELECT rowid AS number FROM {index} WHERE {index} MATCH '{{{within}}} : (' || {query} || ')' AND rowid >= {least})"
            )
        }
        Dialect::Postgres => {
            format!("(SELECT number FROM {table} WHERE {} AND number >= {least})", found_by(query, columns))
        }
    }
}

/// PostgreSQL's condition that these columns have what is looked for.
fn found_by(query: &str, columns: &[&str]) -> String {
    let words = columns.join(" || ' ' || ");
    format!("to_tsvector('simple', {words}) @@ websearch_to_tsquery('simple', {query})")
}

/// The cell at a place of a row that comes as JSON.
pub(super) fn row_cell(at: usize) -> String {
    format!("value ->> {at}")
}

/// One statement that inserts a JSON array of rows, each an array of cells, given as the only parameter, a `?`.
pub(super) fn insert_rows(table: &str, columns: &[&str], conflict: &ConflictRule) -> String {
    let cells: Vec<(&str, String)> = columns.iter().enumerate().map(|(at, column)| (*column, row_cell(at))).collect();
    insert_cells(table, &cells, columns, conflict)
}

/// The same, where each column is given with what is written into it; those of `written` are of the rows.
pub(super) fn insert_cells(
    table: &str,
    columns: &[(&str, String)],
    written: &[&str],
    conflict: &ConflictRule,
) -> String {
    let (cells, grouping) = conflict.combined(columns);
    // Without a WHERE, ON CONFLICT would be read as a join's ON. From json_each a row would come as text, which each
    // of its cells' paths had to be found in anew.
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let (names, cells, conflict) = (names.join(", "), cells.join(", "), conflict.clause(table, written));
    format!("INSERT INTO {table} ({names}) SELECT {cells} FROM jsonb_each(?) WHERE true {grouping}{conflict}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_has_each_dialects_form() {
        let text = "SELECT '{texts}' FROM t WHERE id IN {texts $1} AND {contains tags $2}";
        assert_eq!(
            Dialect::Sqlite.expand(text).unwrap(),
            "SELECT '{texts}' FROM t WHERE id IN (SELECT value FROM json_each($1)) AND instr(tags, $2) > 0"
        );
        assert!(Dialect::Postgres.expand(text).unwrap().ends_with("AND strpos(tags, $2) > 0"));
    }

    #[test]
    fn matches_are_the_newest_and_may_be_those_of_some_columns() {
        let text = "SELECT number FROM {matches_in words things $1 newest name tags} AS m";
        let sqlite = Dialect::Sqlite.expand(text).unwrap();
        assert!(
            sqlite.contains("words MATCH '{name tags} : (' || $1 || ')' AND rowid >= (SELECT min(number) FROM newest)")
        );
        let postgres = Dialect::Postgres.expand(text).unwrap();
        assert!(postgres.contains("to_tsvector('simple', name || ' ' || tags) @@ websearch_to_tsquery('simple', $1)"));
        let all = Dialect::Sqlite.expand("SELECT number FROM {matches words things $1 name tags} AS m").unwrap();
        assert!(all.contains(&format!("ORDER BY rowid DESC LIMIT {RANKED_ROWS}")), "{all}");
    }

    #[test]
    fn fragments_nest_and_an_unknown_one_is_refused() {
        let text = "SELECT {arrays {array id, {exact price}}} FROM t";
        let expected = "SELECT json_group_array(json_array(id, format('%!.17g', price))) FROM t";
        assert_eq!(Dialect::Sqlite.expand(text).unwrap(), expected);
        assert_eq!(Dialect::Sqlite.expand("SELECT {nothing}"), None);
        assert_eq!(Dialect::Postgres.expand("SELECT {place t} FROM t"), None, "only SQLite keeps it");
    }
}
