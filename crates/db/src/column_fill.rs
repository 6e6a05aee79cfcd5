//! Values for columns that this service does not know and that a row must have all the same: what the column's
//! declaration, its checks and the coordinator's enumerations allow.

use sqlx::AssertSqlSafe;

use super::{
    Connection, Result,
    table_shape::{ColumnShape, TableShape},
};

/// Number of rows that are looked at for names of an unknown enumeration.
const SAMPLED_ROWS: i64 = 500;
/// Maximum number of different values of a column that is taken for an enumeration.
const MAX_ENUMERATION: usize = 12;

/// The coordinator's enumerations by the column that holds them: names of their members, the usual one first.
const ENUMERATIONS: &[(&str, &[&str])] = &[
    ("verification_level", &["BASIC", "FULL", "ZERO_KNOWLEDGE"]),
    ("step_type", &["INFERENCE", "TRAINING", "DATA_PROCESSING", "VERIFICATION", "CUSTOM"]),
    ("security_level", &["INTERNAL", "PUBLIC", "CONFIDENTIAL", "RESTRICTED"]),
    ("status", &["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"]),
    ("last_execution_status", &["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"]),
    ("reputation_level", &["BEGINNER", "INTERMEDIATE", "ADVANCED", "EXPERT", "MASTER"]),
    ("risk_level", &["LOW", "MEDIUM", "HIGH", "CRITICAL"]),
    ("optimization_target", &["EFFICIENCY", "SPEED", "ACCURACY", "COST", "SCALABILITY", "RELIABILITY"]),
    ("strategy_type", &["BALANCED", "CONSERVATIVE", "AGGRESSIVE", "DYNAMIC"]),
];

/// What stands in a column that an insert does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ColumnFill {
    /// This SQL, a constant or a random value.
    Sql(String),
    /// The moment at which the row is made.
    Moment,
}

/// The moment of a row that has no time of its own.
pub(super) const NOW: &str = "strftime('%Y-%m-%d %H:%M:%f000', 'now')";

impl ColumnFill {
    fn sql(&self) -> &str {
        match self {
            Self::Sql(sql) => sql,
            Self::Moment => NOW,
        }
    }
}

/// What is to be done about a column that an insert does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FillRule {
    /// Nothing: its default stands, or null.
    Leave,
    /// This value is written.
    Write(ColumnFill),
    /// No value is known that it takes.
    Unknown,
}

/// Find the rule for `column` of `table`.
pub(super) async fn find_rule(
    conn: &mut Connection,
    table: &str,
    shape: &TableShape,
    column: &ColumnShape,
) -> Result<FillRule> {
    let default = column.default.as_deref().and_then(text_literal);
    if column.generated || (!column.is_demanded() && default.is_none()) {
        return Ok(FillRule::Leave);
    }
    let checks = read_checks(conn, table, &column.name).await?;
    let names = if is_text(column) { known_names(&column.name) } else { &[] };
    if let Some(default) = default {
        // A default is often the value of a member where the coordinator reads its name.
        let name = default.to_uppercase().replace(['-', ' '], "_");
        let by_name = names.contains(&name.as_str())
            || (default != name && sample_names(conn, table, &column.name).await?.contains(&name));
        let as_name = ColumnFill::Sql(quoted(&name));
        let stands = passes(conn, shape, column, &checks, &quoted(&default)).await?;
        let fits = default != name && passes(conn, shape, column, &checks, as_name.sql()).await?;
        return Ok(if fits && (by_name || !stands) { FillRule::Write(as_name) } else { FillRule::Leave });
    }
    if is_unique(conn, table, column).await? {
        return Ok(match is_text(column) {
            true => FillRule::Write(ColumnFill::Sql("lower(hex(randomblob(16)))".to_owned())),
            false => FillRule::Unknown,
        });
    }
    if is_reference(conn, table, &column.name).await? {
        return Ok(FillRule::Unknown);
    }
    let mut candidates: Vec<ColumnFill> = names.iter().map(|name| ColumnFill::Sql(quoted(name))).collect();
    if is_text(column) && names.is_empty() {
        let sampled = sample_names(conn, table, &column.name).await?;
        candidates.extend(sampled.iter().map(|name| ColumnFill::Sql(quoted(name))));
    }
    let plain = by_type(&column.declared);
    if names.is_empty() {
        candidates.push(plain.clone());
    }
    candidates.extend(checks.iter().flat_map(|check| literals(check)).map(ColumnFill::Sql));
    candidates.extend([plain, ColumnFill::Sql("1".to_owned())]);
    for fill in candidates {
        if passes(conn, shape, column, &checks, fill.sql()).await? {
            return Ok(FillRule::Write(fill));
        }
    }
    Ok(FillRule::Unknown)
}

fn known_names(column: &str) -> &'static [&'static str] {
    ENUMERATIONS.iter().find(|(name, _)| *name == column).map_or(&[], |(_, names)| names)
}

fn is_text(column: &ColumnShape) -> bool {
    ["CHAR", "TEXT", "CLOB", "ENUM"].iter().any(|part| column.declared.contains(part))
}

/// The value that a declared type suggests.
fn by_type(declared: &str) -> ColumnFill {
    let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    let sql = if has(&["DATETIME", "TIMESTAMP"]) {
        return ColumnFill::Moment;
    } else if has(&["JSON"]) {
        "'{}'"
    } else if has(&["DATE"]) {
        "date('now')"
    } else if has(&["CHAR", "TEXT", "CLOB", "ENUM"]) {
        "''"
    } else if has(&["UUID", "GUID"]) {
        "lower(hex(randomblob(16)))"
    } else if has(&["BLOB", "BINARY", "BYTEA"]) {
        "x''"
    } else if has(&["BOOL", "INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "MONEY"]) {
        "0"
    } else if has(&["TIME"]) {
        "'00:00:00.000000'"
    } else {
        "''"
    };
    ColumnFill::Sql(sql.to_owned())
}

/// A text as a literal of SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The text of a literal of SQL; null: it is something else.
fn text_literal(sql: &str) -> Option<String> {
    let inner = sql.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    Some(inner.replace("''", "'"))
}

/// Whether no two rows may have the same value.
async fn is_unique(conn: &mut Connection, table: &str, column: &ColumnShape) -> Result<bool> {
    let found: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pragma_index_list(?1) AS l WHERE l.\"unique\" = 1
         AND (SELECT count(*) FROM pragma_index_info(l.name)) = 1
         AND EXISTS (SELECT 1 FROM pragma_index_info(l.name) AS c WHERE c.name = ?2)",
    )
    .bind(table)
    .bind(&column.name)
    .fetch_one(conn)
    .await?;
    Ok(found > 0 || column.in_key)
}

/// Whether it names a row of another table.
async fn is_reference(conn: &mut Connection, table: &str, column: &str) -> Result<bool> {
    let found: i64 = sqlx::query_scalar("SELECT count(*) FROM pragma_foreign_key_list(?1) AS k WHERE k.\"from\" = ?2")
        .bind(table)
        .bind(column)
        .fetch_one(conn)
        .await?;
    Ok(found > 0)
}

/// Names of members that rows of the coordinator have in a column, the most frequent first; none where its values do not look
/// like names of an enumeration.
async fn sample_names(conn: &mut Connection, table: &str, column: &str) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT CAST(v AS TEXT) FROM (SELECT {c} AS v FROM {t} ORDER BY rowid DESC LIMIT {SAMPLED_ROWS}) WHERE v IS NOT NULL
         GROUP BY v ORDER BY count(*) DESC, v LIMIT {limit}",
        c = identifier(column),
        t = identifier(table),
        limit = MAX_ENUMERATION + 1
    );
    let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(conn).await?;
    let is_name = |text: &String| {
        text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    let few = found.len() <= MAX_ENUMERATION;
    Ok(found.into_iter().filter(|text| few && is_name(text)).collect())
}

/// A name in quotes.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The conditions of a table's checks that name a column.
async fn read_checks(conn: &mut Connection, table: &str, column: &str) -> Result<Vec<String>> {
    let sql: Option<String> = sqlx::query_scalar("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1")
        .bind(table)
        .fetch_optional(conn)
        .await?;
    let mut checks = checks_of(sql.as_deref().unwrap_or_default());
    checks.retain(|check| words(check).any(|word| word.eq_ignore_ascii_case(column)));
    Ok(checks)
}

/// The words of a text: names, keywords, numbers.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The conditions of a table's checks.
fn checks_of(sql: &str) -> Vec<String> {
    let upper = sql.to_ascii_uppercase();
    let mut checks = Vec::new();
    for (at, _) in upper.match_indices("CHECK") {
        let rest = sql[at + "CHECK".len()..].trim_start();
        let begins_word = sql[..at].ends_with(|c: char| !c.is_alphanumeric() && c != '_');
        if let (true, Some(end)) = (begins_word && rest.starts_with('('), closing(rest)) {
            checks.push(rest[1..end].to_owned());
        }
    }
    checks
}

/// Where the parenthesis that `text` begins with is closed, outside of literals.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quoted) = (0usize, false);
    text.char_indices().find_map(|(at, c)| {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

/// The literals of a condition, texts first.
fn literals(check: &str) -> Vec<String> {
    let parts: Vec<&str> = check.split('\'').collect();
    let texts = parts.iter().skip(1).step_by(2).map(|text| format!("'{text}'"));
    let outside = parts.iter().step_by(2);
    let numbers = outside.flat_map(|part| words(part)).filter(|word| word.parse::<u32>().is_ok());
    texts.chain(numbers.map(str::to_owned)).collect()
}

/// Whether a row with this value passes the checks, as far as they are about this column.
async fn passes(
    conn: &mut Connection,
    shape: &TableShape,
    column: &ColumnShape,
    checks: &[String],
    value: &str,
) -> Result<bool> {
    let others = shape.columns.iter().filter(|other| other.name != column.name);
    let others: String = others.map(|other| format!(", NULL AS {}", identifier(&other.name))).collect();
    for check in checks {
        let sql =
            format!("SELECT coalesce(({check}), 1) FROM (SELECT {value} AS {}{others})", identifier(&column.name));
        // A condition that can't be evaluated by itself says nothing against the value.
        let passed: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *conn).await.unwrap_or(1);
        if passed == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table_shape::read_shapes;

    /// The rule for the column `c` that this text declares, in a table with these rows.
    async fn rule(declared: &str, rows: &str) -> FillRule {
        let mut conn = <Connection as sqlx::Connection>::connect("sqlite::memory:").await.unwrap();
        let name = declared.split(' ').next().unwrap();
        let sql = format!(
            "CREATE TABLE other (id INTEGER PRIMARY KEY); CREATE TABLE t (id TEXT PRIMARY KEY, {declared}); {rows}"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
        let shape = read_shapes(&mut conn, &["t"]).await.unwrap().remove("t").unwrap();
        find_rule(&mut conn, "t", &shape, shape.column(name).unwrap()).await.unwrap()
    }

    fn sql(text: &str) -> FillRule {
        FillRule::Write(ColumnFill::Sql(text.to_owned()))
    }

    #[tokio::test]
    async fn a_column_gets_what_its_declaration_allows() {
        for (declared, expected) in [
            ("c VARCHAR NOT NULL", sql("''")),
            ("c BOOLEAN NOT NULL", sql("0")),
            ("c NUMERIC(20, 8) NOT NULL", sql("0")),
            ("c DATETIME NOT NULL", FillRule::Write(ColumnFill::Moment)),
            ("c JSON NOT NULL", sql("'{}'")),
            ("c BLOB NOT NULL", sql("x''")),
            ("c VARCHAR", FillRule::Leave),
            ("c INTEGER NOT NULL DEFAULT 3", FillRule::Leave),
            ("c VARCHAR NOT NULL DEFAULT 'some text'", FillRule::Leave),
            ("c AS (id) STORED NOT NULL", FillRule::Leave),
            ("c VARCHAR NOT NULL UNIQUE", sql("lower(hex(randomblob(16)))")),
            ("c INTEGER NOT NULL UNIQUE", FillRule::Unknown),
            ("c INTEGER NOT NULL REFERENCES other (id)", FillRule::Unknown),
        ] {
            assert_eq!(rule(declared, "").await, expected, "{declared}");
        }
    }

    #[tokio::test]
    async fn an_enumeration_gets_a_name() {
        let names = "INSERT INTO t VALUES ('1', 'SLOW_LANE'), ('2', 'FAST'), ('3', 'SLOW_LANE')";
        for (declared, rows, expected) in [
            ("verification_level VARCHAR(14) NOT NULL", "", sql("'BASIC'")),
            ("verification_level VARCHAR(20) DEFAULT 'zero-knowledge' NOT NULL", "", sql("'ZERO_KNOWLEDGE'")),
            ("verification_level VARCHAR(20) DEFAULT 'BASIC' NOT NULL", "", FillRule::Leave),
            ("step_type VARCHAR(20) DEFAULT 'inference'", "", sql("'INFERENCE'")),
            ("step_type VARCHAR(20) NOT NULL CHECK (step_type IN ('CUSTOM', 'OTHER'))", "", sql("'CUSTOM'")),
            ("lane VARCHAR(20) NOT NULL", names, sql("'SLOW_LANE'")),
            ("lane VARCHAR(20) NOT NULL DEFAULT 'fast'", names, sql("'FAST'")),
            ("lane VARCHAR(20) NOT NULL DEFAULT 'fast'", "", FillRule::Leave),
            ("lane VARCHAR(20) NOT NULL CONSTRAINT lanes CHECK (lane IN ('A', 'B'))", "", sql("'A'")),
            ("lane VARCHAR(20) NOT NULL DEFAULT 'a' CHECK (lane IN ('A', 'B'))", "", sql("'A'")),
            ("rank INTEGER NOT NULL CHECK (rank BETWEEN 2 AND 5)", "", sql("2")),
            ("rank INTEGER NOT NULL CHECK (rank <> rank)", "", FillRule::Unknown),
        ] {
            assert_eq!(rule(declared, rows).await, expected, "{declared}");
        }
    }
}
