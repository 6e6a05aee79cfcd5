//! Rows of a page that come packed in one value.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    DatabaseError, Result,
    row::{ListedRow, PackedRow, Truth},
};

/// A row of a page.
pub(super) struct PageEntry<R> {
    /// Its id in the list.
    pub(super) id: String,
    /// Whether the table has a row of this id and time.
    pub(super) is_placed: bool,
    /// Bytes that came for it; where all of them are few, the mean.
    pub(super) bytes: usize,
    /// The row, or what is wrong with it.
    pub(super) row: Result<ListedRow<R>>,
}

/// A packed row behind its id and its time in the list, and whether the table's row is of this time.
#[derive(Deserialize)]
struct PackedCell<'a, P>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>, Option<Truth>, P);

/// Read the rows of a page, which came as a JSON array, newest first or oldest first. How many bytes each has is told exactly where
/// they are more than `exact_above` together.
///
/// # Errors
/// [`DatabaseError::InvalidValue`] when it is no such array.
pub(super) fn unpack<R: PackedRow>(json: &str, oldest_first: bool, exact_above: usize) -> Result<Vec<PageEntry<R>>> {
    // All at once where every row is of the type; else each by itself, so that the bad one is told.
    if json.len() <= exact_above
        && let Ok(cells) = serde_json::from_str::<Vec<PackedCell<R::Packed<'_>>>>(json)
    {
        let bytes = json.len() / cells.len().max(1);
        return Ok(entries(cells, oldest_first, |packed| (bytes, R::unpack(packed))));
    }
    let cells: Vec<PackedCell<&RawValue>> = serde_json::from_str(json).map_err(fault)?;
    let read = |packed: &RawValue| {
        let row = serde_json::from_str::<R::Packed<'_>>(packed.get()).map_err(fault).and_then(R::unpack);
        (packed.get().len(), row)
    };
    Ok(entries(cells, oldest_first, read))
}

fn fault(error: serde_json::Error) -> DatabaseError {
    DatabaseError::InvalidValue(format!("rows of a page: {error}"))
}

/// The cells in the order of the page, each with what `read` makes of its row: its bytes and the row.
fn entries<P, R>(
    mut cells: Vec<PackedCell<'_, P>>,
    oldest_first: bool,
    read: impl Fn(P) -> (usize, Result<ListedRow<R>>),
) -> Vec<PageEntry<R>> {
    // They come in this order, which SQL does not promise.
    let order = |a: &PackedCell<P>, b: &PackedCell<P>| (&b.1, &b.0).cmp(&(&a.1, &a.0));
    cells.sort_by(|a, b| if oldest_first { order(a, b).reverse() } else { order(a, b) });
    let entry = |PackedCell(id, _, placed, packed): PackedCell<'_, P>| {
        let (bytes, row) = read(packed);
        PageEntry { id: id.into_owned(), is_placed: placed == Some(Truth(true)), bytes, row }
    };
    cells.into_iter().map(entry).collect()
}

/// How many rows from the first on have at most `bytes`; with `any` at least one.
pub(super) fn fitting<R>(rows: &[PageEntry<R>], bytes: usize, any: bool) -> usize {
    let mut sum = 0;
    let fits = |row: &&PageEntry<R>| {
        sum += row.bytes;
        sum <= bytes
    };
    let count = rows.iter().take_while(fits).count();
    if any { count.max(rows.len().min(1)) } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::OmittedMembers;

    struct Word(String);

    impl PackedRow for Word {
        type Packed<'a> = (&'a str,);

        fn unpack((word,): (&str,)) -> Result<ListedRow<Self>> {
            Ok(ListedRow { row: Self(word.to_owned()), omitted: OmittedMembers::default() })
        }
    }

    #[test]
    fn rows_come_newest_first_and_a_bad_one_alone_is_told() {
        let json = r#"[["a", "2026", 1, ["x"]], ["b", "2027", 0, [7]], ["c", "2026", null, [null]]]"#;
        let rows = unpack::<Word>(json, false, 0).unwrap();
        let seen: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.is_placed, row.row.is_ok())).collect();
        assert_eq!(seen, [("b", false, false), ("c", false, false), ("a", true, true)]);
        assert_eq!(rows[2].row.as_ref().unwrap().row.0, "x");
        let good = r#"[["a", "2026", 1, ["x"]], ["b", "2027", 0, ["y"]]]"#;
        let seen = [0, good.len()].map(|exact_above| {
            let rows = unpack::<Word>(good, false, exact_above).unwrap();
            rows.into_iter().map(|row| (row.id, row.is_placed, row.row.unwrap().row.0)).collect::<Vec<_>>()
        });
        assert_eq!(seen[0], seen[1], "read by themselves and all at once");
        let oldest = unpack::<Word>(json, true, 0).unwrap();
        assert!(oldest.iter().map(|row| &row.id).eq(rows.iter().rev().map(|row| &row.id)));
        assert!(unpack::<Word>("{}", false, 0).is_err());
    }

    #[test]
    fn a_page_ends_before_the_row_that_is_too_much() {
        let rows =
            unpack::<Word>(r#"[["a", "3", 1, ["x"]], ["b", "2", 1, ["yy"]], ["c", "1", 1, ["z"]]]"#, false, 0).unwrap();
        let counts = [(0, false), (0, true), (5, true), (10, true), (11, true), (16, false)];
        let counts = counts.map(|(bytes, any)| fitting(&rows, bytes, any));
        assert_eq!(counts, [0, 1, 1, 1, 2, 3]);
    }
}
