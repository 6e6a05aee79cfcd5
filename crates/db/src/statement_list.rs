//! The list of all statements that the program may execute, filled by the macros that make them.

use super::{bulk_insert::InsertStatement, dialect::Dialect, statement::Statement, template::Template};

/// Something that the program may execute.
pub enum Listed {
    /// A statement that is executed by itself.
    Statement(&'static Statement),
    /// Rows of one kind, written with one statement.
    Insert(&'static InsertStatement),
}

inventory::collect!(Listed);

impl Listed {
    /// Where it stands in the source: file and line.
    pub fn place(&self) -> &'static str {
        match self {
            Self::Statement(statement) => statement.place(),
            Self::Insert(insert) => insert.place(),
        }
    }

    /// Its texts in `dialect`, with all sections and with none; none at all where the dialect can't say it.
    pub fn texts(&self, dialect: Dialect) -> Vec<String> {
        let text = match self {
            Self::Statement(statement) => statement.text(),
            Self::Insert(insert) if dialect == Dialect::Sqlite => return vec![insert.sql().to_owned()],
            Self::Insert(insert) => insert.as_statement().text(),
        };
        dialect.expand(&text).map(|text| Template::read(&text).samples()).unwrap_or_default()
    }
}

/// Every statement that the program may execute.
pub fn statements() -> impl Iterator<Item = &'static Listed> {
    inventory::iter::<Listed>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql;

    #[test]
    fn every_statement_is_listed_with_and_without_its_sections() {
        let _ = sql!("SELECT 'listed' FROM t WHERE [b = $2 AND] a = $1");
        let listed = statements().find(|listed| listed.texts(Dialect::Sqlite)[0].contains("'listed'")).unwrap();
        let expected = ["SELECT 'listed' FROM t WHERE b = $2 AND a = $1", "SELECT 'listed' FROM t WHERE  a = $1"];
        assert_eq!(listed.texts(Dialect::Postgres), expected);
        assert!(listed.place().contains("statement_list.rs:"), "{}", listed.place());
    }
}
