//! What an insert does about a row that is there already.

/// What is done about a row that is there already.
#[derive(Clone, Copy, Debug)]
pub enum ConflictRule {
    /// It makes the new row a duplicate, which is an error.
    Refuse,
    /// What the clause says, which begins with `ON CONFLICT`.
    Clause(&'static str),
    /// Its columns get the new row's values.
    Update {
        /// Columns by which the row is found.
        key: &'static [&'static str],
        /// Columns of the new row that are not written over.
        except: &'static [&'static str],
        /// What follows the assignments: more of them, each after a comma, and a condition.
        rest: &'static str,
    },
    /// Its columns are sums: the new row's values are added to them, those of several new rows at once.
    Add {
        /// Columns by which the row is found.
        key: &'static [&'static str],
        /// Columns that are no sums, but get the greatest of the new values.
        latest: &'static [&'static str],
    },
}

impl ConflictRule {
    /// The same rule for an insert of these columns. As a constant, one that names another column does not compile.
    pub const fn for_columns(self, columns: &[&str]) -> Self {
        if let Self::Update { key, except: named, .. } | Self::Add { key, latest: named } = &self {
            assert!(all_among(key, columns), "the key has a column that is not inserted");
            assert!(all_among(named, columns), "a column is named that is not inserted");
        }
        self
    }

    /// The clause of an insert of these columns into `table`; empty where a duplicate is an error.
    pub(super) fn clause(&self, table: &str, columns: &[&str]) -> String {
        match self {
            Self::Refuse => String::new(),
            Self::Clause(text) => (*text).to_owned(),
            Self::Update { key, except, rest } => {
                let written = columns.iter().filter(|column| !key.contains(column) && !except.contains(column));
                let set: Vec<String> = written.map(|column| format!("{column} = excluded.{column}")).collect();
                format!("ON CONFLICT ({}) DO UPDATE SET {}{rest}", key.join(", "), set.join(", "))
            }
            Self::Add { key, latest } => {
                let assignment = |column: &&str| match latest.contains(column) {
                    true => format!("{column} = excluded.{column}"),
                    false => format!("{column} = {table}.{column} + excluded.{column}"),
                };
                let set: Vec<String> = columns.iter().filter(|column| !key.contains(column)).map(assignment).collect();
                format!("ON CONFLICT ({}) DO UPDATE SET {}", key.join(", "), set.join(", "))
            }
        }
    }

    /// How several new rows become one, where they do: what is selected for each of `columns`, which are given with their cells, and the
    /// grouping.
    pub(super) fn combined(&self, columns: &[(&str, String)]) -> (Vec<String>, String) {
        let Self::Add { key, latest } = self else {
            return (columns.iter().map(|(_, cell)| cell.clone()).collect(), String::new());
        };
        let selected = columns.iter().map(|(column, cell)| match column {
            _ if key.contains(column) => cell.clone(),
            _ if latest.contains(column) => format!("max({cell})"),
            _ => format!("sum({cell})"),
        });
        let places: Vec<String> = columns
            .iter()
            .zip(1..)
            .filter(|((column, _), _)| key.contains(column))
            .map(|(_, place): (_, usize)| place.to_string())
            .collect();
        (selected.collect(), format!("GROUP BY {} ", places.join(", ")))
    }
}

const fn all_among(names: &[&str], columns: &[&str]) -> bool {
    let mut at = 0;
    while at < names.len() {
        if !is_among(names[at], columns) {
            return false;
        }
        at += 1;
    }
    true
}

const fn is_among(name: &str, columns: &[&str]) -> bool {
    let mut at = 0;
    while at < columns.len() {
        if is_same(name.as_bytes(), columns[at].as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The [`ConflictRule`](crate::conflict_rule::ConflictRule) that stands after an insert's columns: nothing, a clause
/// (`"ON CONFLICT ..."`), `update on (id) except (created_at) " WHERE ..."`, whose last two parts may be missing, or `add on (day)
/// latest (updated_at)`, whose last may.
#[doc(hidden)]
#[macro_export]
macro_rules! conflict_rule {
    () => { $crate::conflict_rule::ConflictRule::Refuse };
    ($clause:literal) => { $crate::conflict_rule::ConflictRule::Clause($clause) };
    (update on ($($key:ident),+) $(except ($($except:ident),+))? $($rest:literal)?) => {
        $crate::conflict_rule::ConflictRule::Update {
            key: &[$(stringify!($key)),+],
            except: &[$($(stringify!($except)),+)?],
            rest: concat!("", $($rest)?),
        }
    };
    (add on ($($key:ident),+) $(latest ($($latest:ident),+))?) => {
        $crate::conflict_rule::ConflictRule::Add {
            key: &[$(stringify!($key)),+],
            latest: &[$($(stringify!($latest)),+)?],
        }
    };
}
