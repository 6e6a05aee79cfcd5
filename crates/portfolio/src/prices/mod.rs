//! Prices of tokens in AIT, as they were recorded: by a route, or from a configured address.

mod source;
mod store;

use std::collections::BTreeMap;

use am_core::{
    boxed,
    money::{Money, StatedAmount},
    validation::{FieldPath, Violation, Violations},
};
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

pub(crate) use self::source::PriceSource;
use crate::{
    PortfolioCaller, PortfolioService,
    error::{PortfolioError, Result},
    model::{SYMBOL_RULE, is_cash, is_symbol},
};

/// Prices that one request may record.
const MAX_BATCH: usize = 5_000;
/// Seconds that a price's time may be ahead of this service's clock.
const MAX_AHEAD: chrono::Duration = chrono::Duration::seconds(5);

/// A price to record.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct PriceDraft {
    /// Symbol of the token, as `ETH`.
    pub token: String,
    /// Price of one token in AIT, more than nothing.
    pub price: StatedAmount,
    /// Time of the price, not in the future. Default: now.
    pub at: Option<Timestamp>,
}

/// Prices to record, all or none.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct PriceBatch {
    /// The prices, at most 5000, at most one for each token and time.
    pub prices: Vec<PriceDraft>,
}

/// A recorded price.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TokenPrice)]
pub struct PriceRecord {
    /// Symbol of the token.
    pub token: String,
    /// Time of the price.
    pub at: Timestamp,
    /// Price of one token in AIT.
    #[serde(with = "am_core::money::exact")]
    pub price: Money,
    /// Who said so: a principal, or `source` for the configured address.
    pub source: String,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

/// What became of prices that were sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PriceReport {
    /// Prices that are new.
    pub recorded: u64,
    /// Prices that were recorded before, with the same value.
    pub known: u64,
}

/// A price and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PricePoint {
    pub price: Money,
    pub at: Timestamp,
}

/// A token's last price of a day.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PriceDay {
    pub day: String,
    pub price: Money,
}

/// The day (UTC) of a moment, as prices and values by day are kept: `2026-05-12`.
pub(crate) fn day_of(at: Timestamp) -> String {
    at.0.format("%Y-%m-%d").to_string()
}

/// The prices as they are stored, or all that is wrong with them.
fn checked(
    drafts: Vec<PriceDraft>,
    source: &str,
    now: Timestamp,
) -> std::result::Result<Vec<PriceRecord>, Vec<Violation>> {
    let mut violations = Violations::default();
    violations.require(!drafts.is_empty(), "prices", "name at least one price");
    violations.require(drafts.len() <= MAX_BATCH, "prices", format!("at most {MAX_BATCH} prices at once"));
    let mut known = BTreeMap::new();
    let mut rows = Vec::with_capacity(drafts.len().min(MAX_BATCH));
    for (at, draft) in drafts.into_iter().take(MAX_BATCH).enumerate() {
        let place = |member: &str| FieldPath::from([member]).within([at]).within(["prices"]);
        violations.require(is_symbol(&draft.token), place("token"), SYMBOL_RULE);
        violations.require(!is_cash(&draft.token), place("token"), "values are counted in AIT: its price is 1");
        let price = draft.price.positive(place("price"), &mut violations);
        let moment = draft.at.unwrap_or(now);
        violations.require(moment.0 <= now.0 + MAX_AHEAD, place("at"), "must not be in the future");
        let (token, Some(price)) = (draft.token, price) else { continue };
        let before = known.insert((token.clone(), moment), price);
        violations.require(
            before.is_none_or(|before| before == price),
            place("at"),
            "the token has another price at this time",
        );
        if before.is_none() {
            rows.push(PriceRecord { token, at: moment, price, source: source.to_owned(), recorded_at: now });
        }
    }
    violations.finish_with(Some(rows))
}

impl PortfolioService {
    /// Record prices, all or none.
    ///
    /// # Errors
    /// [`PortfolioError::Invalid`] with all faults; [`PortfolioError::Conflict`] where another price of the same token and time is
    /// recorded.
    #[boxed]
    pub async fn record_prices(
        &self,
        caller: &PortfolioCaller,
        batch: PriceBatch,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<PriceReport>> {
        let now = self.now();
        let rows = checked(batch.prices, &caller.principal.name, now).map_err(PortfolioError::Invalid)?;
        let entry = self.entry(&caller.principal, "price", "recorded", now).data("prices", json!(rows.len()));
        let me = self.clone();
        let work = async move |tx: &mut Tx| {
            let report = store_prices(tx, &rows).await?;
            me.0.audit.append(tx, vec![entry]).await?;
            me.0.metrics.prices.inc_by(report.recorded);
            Ok(report)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Record one price.
    ///
    /// # Errors
    /// As [`PortfolioService::record_prices`]; faults name the members of the price.
    #[boxed]
    pub async fn record_price(
        &self,
        caller: &PortfolioCaller,
        draft: PriceDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<PriceReport>> {
        let own = |violation: Violation| Violation {
            // Without the list and the place in it.
            path: violation.path.into_iter().skip(2).collect(),
            ..violation
        };
        match self.record_prices(caller, PriceBatch { prices: vec![draft] }, once).await {
            Err(PortfolioError::Invalid(violations)) => {
                Err(PortfolioError::Invalid(violations.into_iter().map(own).collect()))
            }
            done => done,
        }
    }

    /// A page of a token's prices, the newest first, and how many there are.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list_prices(&self, token: &str, page: &PageRequest) -> Result<(Vec<PriceRecord>, i64)> {
        store::list(&mut *self.0.db.read_list().await?, token, page).await
    }

    /// The last recorded price of a token.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`] where there is none.
    #[boxed]
    pub async fn latest_price(&self, token: &str) -> Result<PriceRecord> {
        let found = store::latest_record(&mut *self.0.db.read().await?, token).await?;
        found.ok_or_else(|| PortfolioError::NotFound(format!("No price of {token}")))
    }
}

/// Store checked prices.
async fn store_prices(tx: &mut Tx, rows: &[PriceRecord]) -> Result<PriceReport> {
    if let Some((token, at)) = store::find_other_price(tx.conn().await?, rows).await? {
        let text = format!("Another price of {token} at {at} is recorded; prices are never changed");
        return Err(PortfolioError::Conflict("price_recorded", text));
    }
    let known = store::count_known(tx.conn().await?, rows).await?.cast_unsigned();
    store::insert(tx, rows).await?;
    Ok(PriceReport { recorded: rows.len() as u64 - known, known })
}

/// The last prices of `tokens` at `at`; a token without one is left out. AIT is 1.
pub(crate) async fn latest_prices(
    conn: &mut Connection,
    tokens: &[String],
    at: Timestamp,
) -> Result<BTreeMap<String, PricePoint>> {
    let mut found = store::latest(conn, tokens, at).await?;
    if tokens.iter().any(|token| is_cash(token)) {
        found.insert(am_ledger::AIT.to_owned(), PricePoint { price: Money::from_units(100_000_000), at });
    }
    Ok(found)
}

/// The last prices of a token's days in a span of days, both included, the oldest first; the newest `most` of them.
pub(crate) async fn daily_prices(
    conn: &mut Connection,
    token: &str,
    (from, to): (&str, &str),
    most: usize,
) -> Result<Vec<PriceDay>> {
    store::days(conn, token, (from, to), most).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(token: &str, price: &str, at: Option<&str>) -> PriceDraft {
        let at = at.map(|at| serde_json::from_value(json!(at)).unwrap());
        PriceDraft { token: token.into(), price: serde_json::from_value(json!(price)).unwrap(), at }
    }

    #[test]
    fn prices_are_checked_together() {
        let now: Timestamp = serde_json::from_value(json!("2026-05-12T00:00:00Z")).unwrap();
        let drafts = vec![
            draft("eth", "1", None),
            draft("AIT", "1", None),
            draft("ETH", "0", None),
            draft("BTC", "1", Some("2026-05-13T00:00:00Z")),
            draft("SOL", "1", None),
            draft("SOL", "2", None),
        ];
        let places: Vec<String> =
            checked(drafts, "me", now).unwrap_err().iter().map(|violation| violation.path.to_string()).collect();
        assert_eq!(places, ["prices.0.token", "prices.1.token", "prices.2.price", "prices.3.at", "prices.5.at"]);
        let same = checked(vec![draft("SOL", "2", None), draft("SOL", "2.0", None)], "me", now).unwrap();
        assert_eq!(same.len(), 1);
        assert_eq!(day_of(now), "2026-05-12");
        assert!(checked(Vec::new(), "me", now).is_err());
    }
}
