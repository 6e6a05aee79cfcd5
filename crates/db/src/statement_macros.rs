//! The macros that make statements and list them.

/// A query of the statement with this text: literals and constants, one after the other (see [their syntax](crate::statement)).
/// `sql!(in batch, ...)` begins one that is to be [added](crate::statement_batch::StatementBatch::add) to a batch.
#[macro_export]
macro_rules! sql {
    (in $batch:expr, $($piece:expr),+ $(,)?) => { $crate::sql!(@static $($piece),+).query_in($batch) };
    ($first:literal $(, $piece:expr)* $(,)?) => { $crate::sql!(@static $first $(, $piece)*).query() };
    (@static $($piece:expr),+) => {{
        static STATEMENT: $crate::statement::Statement =
            $crate::statement::Statement::new(concat!(file!(), ":", line!()), &[$($piece),+]);
        $crate::inventory::submit! { $crate::statement_list::Listed::Statement(&STATEMENT) }
        &STATEMENT
    }};
}

/// A query that inserts one row: `insert!("table" { column: value, ... })`, with what is done about a row that is there already
/// after the braces: `"ON CONFLICT ..."`, or `update on (id)`, which gives it the new values of all columns but the key (and of those
/// named by `except (created_at)`); a literal at the end follows the assignments.
#[macro_export]
macro_rules! insert {
    ($table:literal { $($column:ident : $value:expr),+ $(,)? } $($conflict:tt)*) => {{
        static STATEMENT: $crate::statement::Statement = $crate::statement::Statement::insert(
            concat!(file!(), ":", line!()),
            $table,
            &[$(stringify!($column)),+],
            $crate::conflict_rule!($($conflict)*).for_columns(&[$(stringify!($column)),+]),
        );
        $crate::inventory::submit! { $crate::statement_list::Listed::Statement(&STATEMENT) }
        STATEMENT.query()$(.bind($value))+
    }};
}

/// A query that changes columns: `update!("table" { column: value, ... } where "id = $1" (id))`. The condition's own parameters come
/// first, in parentheses.
#[macro_export]
macro_rules! update {
    ($table:literal { $($column:ident : $value:expr),+ $(,)? } where $rest:literal ($($given:expr),* $(,)?)) => {{
        static STATEMENT: $crate::statement::Statement = $crate::statement::Statement::update(
            concat!(file!(), ":", line!()),
            $table,
            &[$(stringify!($column)),+],
            <[&str]>::len(&[$(stringify!($given)),*]),
            $rest,
        );
        $crate::inventory::submit! { $crate::statement_list::Listed::Statement(&STATEMENT) }
        STATEMENT.query()$(.bind($given))*$(.bind($value))+
    }};
}

/// Add a row to [`RowBatch`](crate::bulk_insert::RowBatch) by which a statement makes a change:
/// `push_change!(rows, (id, amount), "UPDATE t SET ... FROM {records $1 id:text amount:bigint} AS r WHERE ...")`. The statement has one
/// parameter, the rows of all requests that wait together; where several may be about one row of the table, it must sum them.
#[macro_export]
macro_rules! push_change {
    ($rows:expr, ($($value:expr),+ $(,)?), $($piece:expr),+ $(,)?) => {{
        let mut row = $crate::bulk_insert::RowValues::default();
        row$(.put($value))+;
        $rows.push_change($crate::sql!(@static $($piece),+), row);
    }};
}

/// Add a row to [`RowBatch`](crate::bulk_insert::RowBatch): `push_row!(rows, "table" { column: value, ... })`, with what is done about a row that is there already
/// after the braces: `"ON CONFLICT ..."`, or `update on (id)`, which gives it the new values of all columns but the key (and of those
/// named by `except (created_at)`); a literal at the end follows the assignments; or `add on (day) latest (updated_at)`, which adds the
/// new values to sums. `where present { column: value }` after the first
/// braces names columns that only some versions of the coordinator have.
#[macro_export]
macro_rules! push_row {
    (@row $rows:expr, $table:literal, { $($column:ident : $value:expr),+ } { $($optional:ident : $present:expr),* } $($conflict:tt)*) => {{
        static INSERT: $crate::bulk_insert::InsertStatement = $crate::bulk_insert::InsertStatement::new(
            concat!(file!(), ":", line!()),
            $table,
            &[$(stringify!($column)),+],
            &[$(stringify!($optional)),*],
            $crate::conflict_rule!($($conflict)*).for_columns(&[$(stringify!($column)),+]),
        );
        $crate::inventory::submit! { $crate::statement_list::Listed::Insert(&INSERT) }
        let mut row = $crate::bulk_insert::RowValues::default();
        row$(.put($value))+$(.put($present))*;
        $rows.push_values(&INSERT, row);
    }};
    ($rows:expr, $table:literal { $($column:ident : $value:expr),+ $(,)? }
        where present { $($optional:ident : $present:expr),+ $(,)? } $($conflict:tt)*) => {
        $crate::push_row!(@row $rows, $table, { $($column : $value),+ } { $($optional : $present),+ } $($conflict)*)
    };
    ($rows:expr, $table:literal { $($column:ident : $value:expr),+ $(,)? } $($conflict:tt)*) => {
        $crate::push_row!(@row $rows, $table, { $($column : $value),+ } {} $($conflict)*)
    };
}
