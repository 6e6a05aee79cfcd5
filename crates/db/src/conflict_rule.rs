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
}

impl ConflictRule {
    /// The same rule for an insert of these columns. As a constant, one that names another column does not compile.
    pub const fn for_columns(self, columns: &[&str]) -> Self {
        if let Self::Update { key, except, .. } = &self {
            assert!(all_among(key, columns), "the key has a column that is not inserted");
            assert!(all_among(except, columns), "a column is excepted that is not inserted");
        }
        self
    }

    /// The clause of an insert of these columns; empty where a duplicate is an error.
    pub(super) fn clause(&self, columns: &[&str]) -> String {
        match self {
            Self::Refuse => String::new(),
            Self::Clause(text) => (*text).to_owned(),
            Self::Update { key, except, rest } => {
                let written = columns.iter().filter(|column| !key.contains(column) && !except.contains(column));
                let set: Vec<String> = written.map(|column| format!("{column} = excluded.{column}")).collect();
                format!("ON CONFLICT ({}) DO UPDATE SET {}{rest}", key.join(", "), set.join(", "))
            }
        }
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
/// (`"ON CONFLICT ..."`), or `update on (id) except (created_at) " WHERE ..."`, whose last two parts may be missing.
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
}
