//! Statements as files: CSV and JSON lines, a part at a time.

use serde::Serialize;

use am_core::{boxed, ids::LedgerAccountId};
use am_db::{
    codec::Timestamp,
    page::{PageRequest, TimeSpan},
};

use super::StatementLine;
use crate::{LedgerService, error::Result};

/// Lines that are read at once.
const EXPORT_PAGE: u32 = 500;

/// Form of an exported statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementFormat {
    /// Comma-separated values (RFC 4180) with a line of names.
    Csv,
    /// A JSON document on each line.
    JsonLines,
}

/// A line as CSV has it: amounts are decimal texts with all digits.
#[derive(Serialize)]
struct CsvLine<'a> {
    line_no: i64,
    posted_at: Timestamp,
    entry_id: &'a str,
    kind: &'a str,
    reference_kind: Option<&'a str>,
    reference_id: Option<&'a str>,
    other_account_id: &'a str,
    other_owner: &'a str,
    amount: String,
    balance_after: String,
    is_fee: bool,
    note: Option<&'a str>,
}

impl<'a> From<&'a StatementLine> for CsvLine<'a> {
    fn from(line: &'a StatementLine) -> Self {
        Self {
            line_no: line.line_no,
            posted_at: line.posted_at,
            entry_id: &line.entry_id,
            kind: line.kind.value(),
            reference_kind: line.reference_kind.as_deref(),
            reference_id: line.reference_id.as_deref(),
            other_account_id: &line.other_account_id,
            other_owner: &line.other_owner,
            amount: line.amount.to_string(),
            balance_after: line.balance_after.to_string(),
            is_fee: line.is_fee,
            note: line.note.as_deref(),
        }
    }
}

/// Reader of an export that reads in pages, so that no snapshot is held for long. Lines that are added meanwhile are in it.
pub struct StatementExport {
    ledger: LedgerService,
    account: LedgerAccountId,
    format: StatementFormat,
    page: PageRequest,
    is_begun: bool,
    is_done: bool,
}

impl LedgerService {
    /// Export the lines of an account in a span of time, the oldest first.
    pub fn export_statement(
        &self,
        account: LedgerAccountId,
        format: StatementFormat,
        span: TimeSpan,
    ) -> StatementExport {
        let page = PageRequest { limit: EXPORT_PAGE, oldest_first: true, created: span, ..PageRequest::default() };
        StatementExport { ledger: self.clone(), account, format, page, is_begun: false, is_done: false }
    }
}

impl StatementExport {
    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn next(&mut self) -> Result<Option<String>> {
        if self.is_done {
            return Ok(None);
        }
        let (lines, _) = self.ledger.statement(&self.account, &self.page).await?;
        self.is_done = lines.len() < EXPORT_PAGE as usize;
        if let Some(last) = lines.last() {
            self.page.after = Some((last.posted_at, last.place.clone()));
        }
        let begins = !std::mem::replace(&mut self.is_begun, true);
        write_lines(self.format, &lines, begins).map(Some)
    }
}

/// Write lines; the first part of a CSV file has the names of its columns, also where there are no lines.
fn write_lines(format: StatementFormat, lines: &[StatementLine], begins: bool) -> Result<String> {
    let unwritable = |error: String| am_db::DatabaseError::InvalidValue(error);
    match format {
        StatementFormat::JsonLines => {
            let mut text = String::new();
            for line in lines {
                text.push_str(&serde_json::to_string(line).map_err(|error| unwritable(error.to_string()))?);
                text.push('\n');
            }
            Ok(text)
        }
        StatementFormat::Csv => {
            let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
            if begins {
                writer.write_record(CSV_COLUMNS).map_err(|error| unwritable(error.to_string()))?;
            }
            for line in lines {
                writer.serialize(CsvLine::from(line)).map_err(|error| unwritable(error.to_string()))?;
            }
            let bytes = writer.into_inner().map_err(|error| unwritable(error.to_string()))?;
            Ok(String::from_utf8(bytes).map_err(|error| unwritable(error.to_string()))?)
        }
    }
}

/// Names of the columns, in the order of [`CsvLine`].
const CSV_COLUMNS: [&str; 12] = [
    "line_no",
    "posted_at",
    "entry_id",
    "kind",
    "reference_kind",
    "reference_id",
    "other_account_id",
    "other_owner",
    "amount",
    "balance_after",
    "is_fee",
    "note",
];

#[cfg(test)]
mod tests {
    use am_core::money::Money;

    use super::*;
    use crate::model::EntryKind;

    #[test]
    fn a_file_has_all_digits_and_quotes_what_needs_it() {
        let line = StatementLine {
            posted_at: Timestamp("2027-01-01T00:00:00Z".parse().unwrap()),
            line_no: 1,
            place: "1".into(),
            entry_id: "entry_1".into(),
            kind: EntryKind::Deposit,
            reference_kind: None,
            reference_id: None,
            note: Some("a \"b\", c".into()),
            other_account_id: "acct_1".into(),
            other_owner: "system".into(),
            amount: Money::from_units(i64::MAX),
            balance_after: Money::from_units(-1),
            is_fee: false,
        };
        let csv = write_lines(StatementFormat::Csv, std::slice::from_ref(&line), true).unwrap();
        let expected = "1,2027-01-01T00:00:00.000000Z,entry_1,deposit,,,acct_1,system,92233720368.54775807,-0.00000001,false,\"a \"\"b\"\", c\"";
        assert_eq!(csv.lines().nth(1), Some(expected));
        assert_eq!(csv.lines().next().map(|names| names.split(',').count()), Some(CSV_COLUMNS.len()));
        assert_eq!(write_lines(StatementFormat::Csv, &[], false).unwrap(), "");
        let json = write_lines(StatementFormat::JsonLines, &[line], true).unwrap();
        assert!(json.contains("\"amount\":92233720368.54775807,\"balance_after\":-1e-8"), "{json}");
    }
}
