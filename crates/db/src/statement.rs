//! Statements: SQL with numbered parameters, every one known to the program before it is executed.
//!
//! The macros [`sql!`](crate::sql), [`insert!`](crate::insert) and [`update!`](crate::update) each make a static [`Statement`], list
//! it among [all statements](super::statement_list::statements) and begin a [`Query`] of it. A statement's text may hold
//!
//! - `$1`, `$2`: parameters, bound in this order;
//! - `[AND status = $2]`: a section, left out where one of its parameters is bound as missing ([`Query::bind_some`]);
//!   `[?3 AND online]` is one that parameter 3 ([`Query::bind_flag`]) alone decides on;
//! - `IN ($1)`: any number of values, where parameter 1 is bound with [`Query::bind_all`];
//! - `{texts $1}`: a fragment, which the [dialect](super::dialect) writes.

use std::sync::OnceLock;

use futures_util::{FutureExt as _, future::BoxFuture};
use sqlx::{
    Arguments as _, AssertSqlSafe, Encode, SqlSafeStr as _, SqlStr, Type, error::BoxDynError, sqlite::SqliteArguments,
};

use super::{
    Connection, Db, Result, Row,
    conflict_rule::ConflictRule,
    dialect::Dialect,
    page::{PageRequest, TimeSpan},
    round_trips,
    row::{Columns, FromRow},
    statement_watch::StatementWatch,
    template::{Bound, Template},
};

/// A statement of this program. Made by the macros, as a static.
pub struct Statement {
    place: &'static str,
    source: Source,
    form: OnceLock<Form>,
}

enum Source {
    Text(&'static [&'static str]),
    Insert { table: &'static str, columns: &'static [&'static str], conflict: ConflictRule },
    Update { table: &'static str, columns: &'static [&'static str], given: usize, rest: &'static str },
}

/// A statement's text, read.
struct Form {
    template: Template,
    /// With all sections and one value for each parameter: what most statements are.
    whole: String,
}

impl Statement {
    /// From the pieces of its text, one after the other. `place` says where it stands in the source.
    pub const fn new(place: &'static str, pieces: &'static [&'static str]) -> Self {
        Self { place, source: Source::Text(pieces), form: OnceLock::new() }
    }

    /// One row into `table`.
    pub const fn insert(
        place: &'static str,
        table: &'static str,
        columns: &'static [&'static str],
        conflict: ConflictRule,
    ) -> Self {
        Self { place, source: Source::Insert { table, columns, conflict }, form: OnceLock::new() }
    }

    /// Changes `columns`, whose parameters follow the `given` ones that `rest` (a condition and what follows it) has.
    pub const fn update(
        place: &'static str,
        table: &'static str,
        columns: &'static [&'static str],
        given: usize,
        rest: &'static str,
    ) -> Self {
        Self { place, source: Source::Update { table, columns, given, rest }, form: OnceLock::new() }
    }

    /// Begin to bind its parameters.
    pub fn query(&'static self) -> Query {
        self.query_after(SqliteArguments::default())
    }

    /// The same, behind the arguments of other statements.
    pub(super) fn query_after(&'static self, arguments: SqliteArguments) -> Query {
        Query { statement: self, before: arguments.len(), arguments, bound: Vec::new(), irregular: false, failed: None }
    }

    /// Where it stands in the source: file and line.
    pub(super) fn place(&self) -> &'static str {
        self.place
    }

    /// Its text, with sections and fragments.
    pub(super) fn text(&self) -> String {
        match &self.source {
            Source::Text(pieces) => pieces.concat(),
            Source::Insert { table, columns, conflict } => {
                let values: Vec<String> = (1..=columns.len()).map(|at| format!("${at}")).collect();
                let conflict = conflict.clause(table, columns);
                format!("INSERT INTO {table} ({}) VALUES ({}) {conflict}", columns.join(", "), values.join(", "))
            }
            Source::Update { table, columns, given, rest } => {
                let set = columns.iter().zip(given + 1..).map(|(column, at)| format!("{column} = ${at}"));
                format!("UPDATE {table} SET {} WHERE {rest}", set.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Its SQL with this number for its only parameter.
    pub(super) fn text_with(&self, parameter: usize) -> String {
        self.form().template.render(&[Bound::Values(parameter, 1)])
    }

    fn form(&self) -> &Form {
        self.form.get_or_init(|| {
            // A fragment that nobody knows stays as it is, and the database refuses it.
            let text = Dialect::Sqlite.expand(&self.text()).unwrap_or_else(|| self.text());
            let template = Template::read(&text);
            let whole = template.render(&[]);
            Form { template, whole }
        })
    }
}

/// A statement with its arguments.
#[must_use = "it is executed or fetched"]
pub struct Query {
    statement: &'static Statement,
    arguments: SqliteArguments,
    /// How many arguments are those of other statements of a batch.
    before: usize,
    bound: Vec<Bound>,
    /// Some parameter has not exactly one value.
    irregular: bool,
    failed: Option<BoxDynError>,
}

impl Query {
    /// The next parameter is `value`.
    pub fn bind<'t, T: Encode<'t, Db> + Type<Db>>(mut self, value: T) -> Self {
        self.bound.push(Bound::Values(self.arguments.len() + 1, 1));
        self.add(value);
        self
    }

    /// The next parameter is `value`; where there is none, the sections that name it are left out.
    pub fn bind_some<'t, T: Encode<'t, Db> + Type<Db>>(mut self, value: Option<T>) -> Self {
        let Some(value) = value else {
            self.bound.push(Bound::Missing);
            self.irregular = true;
            return self;
        };
        self.bind(value)
    }

    /// The next parameter is all of `values`, with commas between them.
    pub fn bind_all<'t, T: Encode<'t, Db> + Type<Db>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        let first = self.arguments.len() + 1;
        values.into_iter().for_each(|value| self.add(value));
        let count = self.arguments.len() + 1 - first;
        self.bound.push(Bound::Values(first, count));
        self.irregular |= count != 1;
        self
    }

    /// [`Query::bind_all`]; where there are no `values`, the sections that name the parameter are left out.
    pub fn bind_all_some<'t, T: Encode<'t, Db> + Type<Db>>(
        mut self,
        values: Option<impl IntoIterator<Item = T>>,
    ) -> Self {
        let Some(values) = values else {
            self.bound.push(Bound::Missing);
            self.irregular = true;
            return self;
        };
        self.bind_all(values)
    }

    /// The next parameter only decides whether the sections stand that it guards.
    pub fn bind_flag(mut self, stands: bool) -> Self {
        self.bound.push(if stands { Bound::Flag } else { Bound::Missing });
        self.irregular = true;
        self
    }

    /// The next nine parameters say which page: those of the fragment `{page}`.
    pub fn bind_page(self, page: &PageRequest) -> Self {
        let query = self.bind_positions(page).bind_span(page.created).bind_flag(!page.oldest_first);
        query.bind(i64::from(page.limit)).bind(i64::from(page.offset))
    }

    /// The next four parameters are where a page begins: time and id, newest first, and the same oldest first.
    pub fn bind_positions(self, page: &PageRequest) -> Self {
        page.positions().into_iter().fold(self, |query, position| {
            let (at, id) = position.unzip();
            query.bind_some(at).bind_some(id)
        })
    }

    /// The next two parameters are the ends of a span of time: those of the fragment `{span}`.
    pub fn bind_span(self, span: TimeSpan) -> Self {
        self.bind_some(span.after).bind_some(span.before)
    }

    fn add<'t, T: Encode<'t, Db> + Type<Db>>(&mut self, value: T) {
        if let Err(error) = self.arguments.add(value) {
            self.failed.get_or_insert(error);
        }
    }

    /// Its text and its arguments.
    fn finish(self) -> Result<(SqlStr, SqliteArguments)> {
        if let Some(error) = self.failed {
            return Err(sqlx::Error::Encode(error).into());
        }
        let form = self.statement.form();
        let sql = match (self.irregular, self.before) {
            (false, 0) => SqlStr::from_static(&form.whole),
            // The text is this program's own, the values are bound.
            _ => AssertSqlSafe(form.template.render(&self.bound)).into_sql_str(),
        };
        Ok((sql, self.arguments))
    }

    /// Its text at the end of `sql`, and the arguments of all statements there.
    pub(super) fn append_to(self, sql: &mut String) -> Result<SqliteArguments> {
        let (text, arguments) = self.finish()?;
        sql.push_str(text.as_str());
        Ok(arguments)
    }

    /// Execute it; answers how many rows it changed.
    ///
    /// # Errors
    /// As the database.
    pub fn execute(self, conn: &mut Connection) -> BoxFuture<'_, Result<u64>> {
        let executed = async move {
            let (sql, arguments) = self.finish()?;
            round_trips::count();
            let watch = StatementWatch::begin(conn);
            let executed = sqlx::query_with::<Db, _>(sql, arguments).execute(conn).await;
            watch.end();
            Ok(executed?.rows_affected())
        };
        executed.boxed()
    }

    // The rows themselves are fetched by code without type parameters, in boxed futures: it is generated here, once, and not
    // by each crate for each type of row.

    fn fetch_first(self, conn: &mut Connection) -> BoxFuture<'_, Result<Option<Row>>> {
        let fetched = async move {
            let (sql, arguments) = self.finish()?;
            round_trips::count();
            let watch = StatementWatch::begin(conn);
            let fetched = sqlx::query_with::<Db, _>(sql, arguments).fetch_optional(conn).await;
            watch.end();
            Ok(fetched?)
        };
        fetched.boxed()
    }

    fn fetch_rows(self, conn: &mut Connection) -> BoxFuture<'_, Result<Vec<Row>>> {
        let fetched = async move {
            let (sql, arguments) = self.finish()?;
            round_trips::count();
            let watch = StatementWatch::begin(conn);
            let fetched = sqlx::query_with::<Db, _>(sql, arguments).fetch_all(conn).await;
            watch.end();
            Ok(fetched?)
        };
        fetched.boxed()
    }

    /// The only row.
    ///
    /// # Errors
    /// As the database; when there is none, or it can't be read.
    pub async fn fetch_one<R: FromRow>(self, conn: &mut Connection) -> Result<R> {
        let row = self.fetch_first(conn).await?.ok_or(sqlx::Error::RowNotFound)?;
        R::from_row(&mut Columns::of(&row))
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// As the database; when it can't be read.
    pub async fn fetch_optional<R: FromRow>(self, conn: &mut Connection) -> Result<Option<R>> {
        let row = self.fetch_first(conn).await?;
        row.map(|row| R::from_row(&mut Columns::of(&row))).transpose()
    }

    /// All rows.
    ///
    /// # Errors
    /// As the database; when one can't be read.
    pub async fn fetch_all<R: FromRow>(self, conn: &mut Connection) -> Result<Vec<R>> {
        self.fetch_readable(conn).await?.into_iter().collect()
    }

    /// All rows, each with what is wrong with it: one that can't be read does not hold up the others.
    ///
    /// # Errors
    /// As the database.
    pub async fn fetch_readable<R: FromRow>(self, conn: &mut Connection) -> Result<Vec<Result<R>>> {
        let rows = self.fetch_rows(conn).await?;
        Ok(rows.iter().map(|row| R::from_row(&mut Columns::of(row))).collect())
    }

    /// The only row's only value.
    ///
    /// # Errors
    /// As [`Query::fetch_one`].
    pub async fn fetch_value<T>(self, conn: &mut Connection) -> Result<T>
    where
        (T,): FromRow,
    {
        Ok(self.fetch_one::<(T,)>(conn).await?.0)
    }

    /// The first row's only value, if there is a row.
    ///
    /// # Errors
    /// As [`Query::fetch_optional`].
    pub async fn fetch_optional_value<T>(self, conn: &mut Connection) -> Result<Option<T>>
    where
        (T,): FromRow,
    {
        Ok(self.fetch_optional::<(T,)>(conn).await?.map(|(value,)| value))
    }

    /// Each row's only value.
    ///
    /// # Errors
    /// As [`Query::fetch_all`].
    pub async fn fetch_values<T>(self, conn: &mut Connection) -> Result<Vec<T>>
    where
        (T,): FromRow,
    {
        Ok(self.fetch_all::<(T,)>(conn).await?.into_iter().map(|(value,)| value).collect())
    }

    /// Is there any row?
    ///
    /// # Errors
    /// As the database.
    pub async fn exists(self, conn: &mut Connection) -> Result<bool> {
        Ok(self.fetch_first(conn).await?.is_some())
    }
}

/// These values for [`Query::bind_all_some`]; none where there are none, since no value filters nothing.
pub fn some_of<T>(values: &[T]) -> Option<&[T]> {
    (!values.is_empty()).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{insert, sql, update};

    fn text(query: Query) -> String {
        query.finish().unwrap().0.as_str().to_owned()
    }

    #[test]
    fn a_section_stands_only_with_its_parameters() {
        let query = |status: Option<&'static str>, online: bool| {
            let query = sql!("SELECT 1 FROM t WHERE a = $1 [AND status = $2][?3 AND online] LIMIT $4");
            text(query.bind(1i64).bind_some(status).bind_flag(online).bind(5i64))
        };
        assert_eq!(query(Some("x"), true), "SELECT 1 FROM t WHERE a = $1 AND status = $2 AND online LIMIT $3");
        assert_eq!(query(None, false), "SELECT 1 FROM t WHERE a = $1  LIMIT $2");
    }

    #[test]
    fn a_list_is_as_long_as_its_values() {
        let query = |ids: &[i64]| text(sql!("SELECT '$9' WHERE id IN ($1) AND n > $2").bind_all(ids).bind(2i64));
        assert_eq!(query(&[7, 8]), "SELECT '$9' WHERE id IN ($1, $2) AND n > $3");
        assert_eq!(query(&[7]), "SELECT '$9' WHERE id IN ($1) AND n > $2");
        assert_eq!(query(&[]), "SELECT '$9' WHERE id IN (NULL) AND n > $1");
    }

    #[test]
    fn columns_and_values_stand_side_by_side() {
        let insert = insert!("t" { id: 1i64, name: "x" } "ON CONFLICT (id) DO NOTHING");
        assert_eq!(text(insert), "INSERT INTO t (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING");
        let upsert = insert!("t" { id: 1i64, name: "x", made: 2i64, size: 3i64 } update on (id) except (made) " WHERE t.size < 9");
        let expected = "ON CONFLICT (id) DO UPDATE SET name = excluded.name, size = excluded.size WHERE t.size < 9";
        assert!(text(upsert).ends_with(expected));
        let update = update!("t" { name: "x", size: 2i64 } where "id = $1 AND size < $2" (1i64, 5i64));
        assert_eq!(text(update), "UPDATE t SET name = $3, size = $4 WHERE id = $1 AND size < $2");
    }
}
