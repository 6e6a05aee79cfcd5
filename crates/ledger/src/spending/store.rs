//! Statements on the sums of what was spent.

use am_core::ids::PrincipalId;
use am_db::{Connection, FromRow as _, Result, bulk_insert::RowBatch, push_row, row, sql};

use super::model::SpendingKey;

/// Add the row that adds an amount to a sum.
pub(super) fn add_row(rows: &mut RowBatch, key: &SpendingKey<'_>, asset: &str, hour: &str, amount: i64) {
    push_row!(rows, "am_ledger_spending" {
        dimension: key.dimension.stored(),
        principal: key.principal,
        subject: key.subject,
        asset: asset,
        hour: hour,
        amount: amount,
        entries: 1i64,
    } add on (dimension, principal, subject, asset, hour));
}

row! {
    /// What was spent in one hour.
    pub(super) struct HourSum {
        pub(super) principal: String,
        pub(super) subject: String,
        pub(super) hour: String,
        pub(super) amount: i64,
        pub(super) entries: i64,
    }
}

/// Read the sums of a dimension in these hours, for one principal or for all.
pub(super) async fn read_sums(
    conn: &mut Connection,
    dimension: &str,
    principal: Option<&PrincipalId>,
    asset: &str,
    (from, to): (&str, &str),
) -> Result<Vec<HourSum>> {
    let sums = sql!(
        "SELECT ",
        HourSum::COLUMNS,
        " FROM am_ledger_spending WHERE dimension = $1 [AND principal = $2] AND asset = $3 AND hour >= $4 AND hour < $5"
    );
    sums.bind(dimension).bind_some(principal).bind(asset).bind(from).bind(to).fetch_all(conn).await
}

/// Sum what a principal spent on a subject in these hours.
pub(super) async fn sum_spent(
    conn: &mut Connection,
    key: &SpendingKey<'_>,
    asset: &str,
    (from, to): (&str, &str),
) -> Result<i64> {
    let sum = sql!(
        "SELECT CAST(coalesce(sum(amount), 0) AS BIGINT) FROM am_ledger_spending
         WHERE dimension = $1 AND principal = $2 AND subject = $3 AND asset = $4 AND hour >= $5 AND hour < $6"
    );
    let sum = sum.bind(key.dimension.stored()).bind(key.principal).bind(key.subject).bind(asset);
    sum.bind(from).bind(to).fetch_value(conn).await
}
