//! Trades: from a quote or by themselves, at recorded prices.

mod store;
mod terms;

use am_core::{
    boxed,
    money::{Money, StatedAmount},
    validation::{Violation, Violations},
};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use am_ledger::{EntryKind, EntryTags, NewEntry};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

pub(crate) use self::terms::TradeRates;
pub use self::terms::TradeTerms;
use crate::{
    PortfolioCaller, PortfolioService,
    book::{PortfolioBook, fees_of, outside_of, wallet_of},
    error::{PortfolioError, Result},
    model::{SYMBOL_RULE, SettlementSummary, TradeStatus, is_symbol},
    portfolios::visible_portfolio,
    reports::{RiskHistory, read_history, risk_after},
    settlement::{ContractCall, SettlementDraft, SettlementKind, TradeLeg, fill_summaries},
};

/// Characters of a quote's id.
const MAX_QUOTE_ID_LEN: usize = 64;

/// A trade to be priced.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PortfolioQuoteRequest)]
pub struct QuoteRequest {
    /// Symbol of the token to sell.
    pub sell_token: String,
    /// Symbol of the token to buy.
    pub buy_token: String,
    /// Amount to sell, more than nothing, with at most eight decimal places.
    pub sell_amount: StatedAmount,
}

/// A priced offer of a trade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioQuote)]
pub struct QuoteDocument {
    /// Id of the quote, which a trade may name.
    pub id: String,
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// What is paid for what.
    pub terms: TradeTerms,
    /// Time from which it is not taken any more.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A trade to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PortfolioTradeRequest)]
pub struct TradeRequest {
    /// Symbol of the token to sell. Default: the quote's.
    pub sell_token: Option<String>,
    /// Symbol of the token to buy. Default: the quote's.
    pub buy_token: Option<String>,
    /// Amount to sell, more than nothing, with at most eight decimal places. Default: the quote's.
    pub sell_amount: Option<StatedAmount>,
    /// Least amount that the portfolio must receive, after fee and slippage. Default: any.
    pub min_buy_amount: Option<StatedAmount>,
    /// Quote whose prices are taken. Default: the recorded prices.
    pub quote_id: Option<String>,
}

/// A trade of a portfolio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioTrade)]
pub struct TradeDocument {
    /// Number of the trade.
    pub id: i64,
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// Symbol of the token that was sold.
    pub sell_token: String,
    /// Symbol of the token that was bought.
    pub buy_token: String,
    /// Amount that was sold.
    #[serde(with = "am_core::money::exact")]
    pub sell_amount: Money,
    /// Amount that was bought, before the fee.
    #[serde(with = "am_core::money::exact")]
    pub buy_amount: Money,
    /// Tokens bought for one sold, before the fee.
    pub price: f64,
    /// The service's fee, in the token that was bought.
    #[serde(with = "am_core::money::exact")]
    pub fee_amount: Money,
    /// State of the trade.
    pub status: TradeStatus,
    /// Transaction on a chain that settled it; null: it is settled in the ledger, or not in the chain for good yet.
    #[serde(default)]
    pub transaction_hash: Option<String>,
    /// How far it is in the contract.
    #[serde(default)]
    pub settlement: SettlementSummary,
    /// Prices, slippage and values; null: another service made the trade.
    #[serde(default)]
    pub terms: Option<TradeTerms>,
    /// Entry of the ledger; null: another service made the trade.
    #[serde(default)]
    pub entry_id: Option<String>,
    /// Quote that it took; null: none.
    #[serde(default)]
    pub quote_id: Option<String>,
    /// Number of the rebalance that it was part of; null: none.
    #[serde(default)]
    pub rebalance_id: Option<i64>,
    /// When it was carried out; null: it was not.
    #[serde(default)]
    pub executed_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a trade belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TradeOrigin<'a> {
    pub quote: Option<&'a str>,
    pub rebalance: Option<i64>,
    pub settlement: Option<&'a str>,
}

/// A pair of tokens, and how much of the first is sold.
#[derive(Clone, Debug)]
struct TradePair {
    sell: String,
    buy: String,
    amount: Money,
}

impl TradePair {
    fn checked(
        sell: Option<String>,
        buy: Option<String>,
        amount: Option<StatedAmount>,
    ) -> std::result::Result<Self, Vec<Violation>> {
        let mut violations = Violations::default();
        for (token, member) in [(&sell, "sell_token"), (&buy, "buy_token")] {
            violations.require(token.is_some(), member, "is needed without a `quote_id`");
            violations.require(token.as_deref().is_none_or(is_symbol), member, SYMBOL_RULE);
        }
        violations.require(sell.is_none() || sell != buy, "buy_token", "must be another token than `sell_token`");
        violations.require(amount.is_some(), "sell_amount", "is needed without a `quote_id`");
        let amount = amount.and_then(|amount| amount.positive("sell_amount", &mut violations));
        let pair = match (sell, buy, amount) {
            (Some(sell), Some(buy), Some(amount)) => Some(Self { sell, buy, amount }),
            _ => None,
        };
        violations.finish_with(pair)
    }
}

impl PortfolioService {
    pub(crate) fn trade_rates(&self) -> TradeRates {
        TradeRates { fee: self.0.settings.fee_bps, slippage: self.0.settings.slippage_bps }
    }

    /// Price a trade, for as long as quotes hold.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Invalid`] with all faults; [`PortfolioError::Conflict`] where a price is
    /// missing or too old.
    #[boxed]
    pub async fn quote(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        request: QuoteRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<QuoteDocument>> {
        let (me, by, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            visible_portfolio(tx.conn().await?, &by, id).await?;
            let pair = TradePair::checked(Some(request.sell_token), Some(request.buy_token), Some(request.sell_amount));
            let pair = pair.map_err(PortfolioError::Invalid)?;
            let book = me.open_book(tx.conn().await?, &by, id, &[&pair.sell, &pair.buy], now).await?;
            book.check_active()?;
            let hold = chrono::Duration::from_std(me.0.settings.quote_time).unwrap_or(chrono::Duration::minutes(1));
            let quote = QuoteDocument {
                id: me.0.ids.next("quote_", 16),
                portfolio_id: id,
                terms: me.terms(&book, &pair)?,
                expires_at: Timestamp(now.0 + hold),
                created_at: now,
            };
            store::delete_expired_quotes(tx, now).await?;
            store::insert_quote(tx, &quote).await?;
            let entry = me.entry(&by.principal, "portfolio", "quoted", now).data("portfolio", json!(id));
            me.0.audit.append(tx, vec![entry.data("quote", json!(quote.id))]).await?;
            Ok(quote)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    fn terms(&self, book: &PortfolioBook, pair: &TradePair) -> Result<TradeTerms> {
        let prices = (book.price(&pair.sell)?, book.price(&pair.buy)?);
        TradeTerms::at_prices((&pair.sell, &pair.buy), pair.amount, prices, self.trade_rates())
    }

    /// Make a trade.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Invalid`] with all faults; [`PortfolioError::Conflict`] where a price is
    /// missing or too old, less than the wanted amount would be received, the risk would be too high, or the quote is over;
    /// [`PortfolioError::Ledger`] where the portfolio has too little.
    #[boxed]
    pub async fn trade(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        request: TradeRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TradeDocument>> {
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        match self.trade_once(caller, id, request, once).await {
            Ok(done) => Ok(done),
            Err(error) => Err(self.refused(&caller.principal, id, "trade", error).await),
        }
    }

    async fn trade_once(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        request: TradeRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TradeDocument>> {
        let now = self.now();
        // Histories of prices are read outside the transaction: nothing else may wait for them.
        let mut conn = self.0.db.read().await?;
        visible_portfolio(&mut conn, caller, id).await?;
        let pair = self.wanted_pair(&mut conn, id, &request, now).await?;
        let mut violations = Violations::default();
        let least = request.min_buy_amount.and_then(|least| least.amount("min_buy_amount", &mut violations));
        violations.finish().map_err(PortfolioError::Invalid)?;
        let book = self.open_book(&mut conn, caller, id, &[&pair.sell, &pair.buy], now).await?;
        let tokens: Vec<String> = book.positions.0.keys().cloned().collect();
        let history = read_history(&mut conn, &tokens, now).await?;
        drop(conn);
        let (me, by) = (self.clone(), caller.clone());
        let work = async move |tx: &mut Tx| {
            let mut book = me.open_book(tx.conn().await?, &by, id, &[&pair.sell, &pair.buy], now).await?;
            book.check_active()?;
            book.check_room(&pair.buy)?;
            let terms = match request.quote_id.as_deref() {
                Some(quote) => open_quote(tx, id, quote, now).await?.terms,
                None => me.terms(&book, &pair)?,
            };
            if let Some(least) = least
                && terms.received_amount < least
            {
                let text =
                    format!("{} {} would be received, less than {least}", terms.received_amount, terms.buy_token);
                return Err(PortfolioError::Conflict("below_minimum", text));
            }
            let held = book.amounts_held();
            let settlement = me.open_settlement(tx, &mut book.portfolio, &held).await?;
            let quote = request.quote_id.as_deref();
            let origin = TradeOrigin { quote, rebalance: None, settlement: settlement.as_deref() };
            let trade = me.execute_trade(tx, &mut book, terms, origin).await?;
            if let (Some(id), Some(terms)) = (settlement, &trade.terms) {
                let call = ContractCall::Trade { trades: vec![leg_of(terms)] };
                let draft = SettlementDraft { id, kind: SettlementKind::Trade, subject_id: Some(trade.id), call };
                me.store_settlement(tx, &book.portfolio, draft).await?;
            }
            check_risk(&mut book, &history)?;
            book.save(tx).await?;
            if let Some(quote) = &trade.quote_id {
                store::take_quote(tx, quote, trade.id).await?;
            }
            let entry = me.entry(&by.principal, "portfolio", "traded", now).data("portfolio", json!(id));
            let entry = entry.data("trade", json!(trade.id)).data("entry", json!(trade.entry_id));
            me.0.audit.append(tx, vec![entry]).await?;
            Ok(trade)
        };
        let done = self.0.db.write_idempotent(&self.0.clock, once, work).await;
        self.wake_settlement();
        done
    }

    /// The pair that a request means: its own, or that of its quote.
    async fn wanted_pair(
        &self,
        conn: &mut am_db::Connection,
        id: i64,
        request: &TradeRequest,
        now: Timestamp,
    ) -> Result<TradePair> {
        let TradeRequest { sell_token, buy_token, sell_amount, quote_id, .. } = request.clone();
        let Some(quote_id) = quote_id else {
            return TradePair::checked(sell_token, buy_token, sell_amount).map_err(PortfolioError::Invalid);
        };
        if quote_id.len() > MAX_QUOTE_ID_LEN {
            return Err(PortfolioError::invalid("quote_id", "is no quote of this portfolio"));
        }
        let quote = store::quote(conn, id, &quote_id).await?;
        let terms = usable_quote(quote, now)?.terms;
        let mut violations = Violations::default();
        let same = "must be the quote's, or left out";
        violations.require(sell_token.is_none_or(|token| token == terms.sell_token), "sell_token", same);
        violations.require(buy_token.is_none_or(|token| token == terms.buy_token), "buy_token", same);
        violations.require(sell_amount.is_none_or(|amount| amount.is(terms.sell_amount)), "sell_amount", same);
        violations.finish().map_err(PortfolioError::Invalid)?;
        Ok(TradePair { sell: terms.sell_token, buy: terms.buy_token, amount: terms.sell_amount })
    }

    /// Post a trade, write its rows, and change the book, which the caller saves.
    pub(crate) async fn execute_trade(
        &self,
        tx: &mut Tx,
        book: &mut PortfolioBook,
        terms: TradeTerms,
        origin: TradeOrigin<'_>,
    ) -> Result<TradeDocument> {
        let (id, number) = (book.id(), store::next_trade_id(tx.conn().await?).await?);
        let tags = EntryTags { principal: Some(book.portfolio.owner_id.clone()), ..EntryTags::default() };
        let kind = if origin.rebalance.is_some() { EntryKind::Rebalance } else { EntryKind::Trade };
        let (sold, bought) = (&terms.sell_token, &terms.buy_token);
        let entry = NewEntry::new(kind)
            .of("portfolio_trade", number.to_string())
            .moving(wallet_of(id, sold), outside_of(sold), terms.sell_amount)
            .moving(outside_of(bought), wallet_of(id, bought), terms.buy_amount)
            .fee(wallet_of(id, bought), fees_of(bought), terms.fee_amount)
            .tagged(tags);
        let posted = self.0.ledger.post(tx, entry).await?;
        book.positions.take(sold, terms.sell_amount, terms.sell_value)?;
        book.positions.add(bought, terms.received_amount, terms.received_value, terms.sell_value)?;
        book.state.costs += terms.cost();
        let trade = TradeDocument {
            id: number,
            portfolio_id: id,
            sell_token: sold.clone(),
            buy_token: bought.clone(),
            sell_amount: terms.sell_amount,
            buy_amount: terms.buy_amount,
            price: terms.rate(),
            fee_amount: terms.fee_amount,
            status: TradeStatus::Executed,
            transaction_hash: None,
            settlement: SettlementSummary::pending(origin.settlement.map(str::to_owned)),
            terms: Some(terms),
            entry_id: posted.map(|posted| posted.id.to_string()),
            quote_id: origin.quote.map(str::to_owned),
            rebalance_id: origin.rebalance,
            executed_at: Some(book.now),
            created_at: book.now,
        };
        store::insert_trade(tx, &trade).await?;
        self.0.metrics.trades.inc();
        Ok(trade)
    }

    /// A page of a portfolio's trades, the newest first, and how many there are.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`].
    #[boxed]
    pub async fn list_trades(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        page: &PageRequest,
    ) -> Result<(Vec<TradeDocument>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        visible_portfolio(&mut conn, caller, id).await?;
        let (mut rows, total) = store::list_trades(&mut conn, id, page).await?;
        fill_summaries(&mut conn, rows.iter_mut().map(|row| &mut row.settlement)).await?;
        Ok((rows, total))
    }
}

/// What a trade changes of what the contract holds for the portfolio.
pub(crate) fn leg_of(terms: &TradeTerms) -> TradeLeg {
    TradeLeg {
        sell_token: terms.sell_token.clone(),
        buy_token: terms.buy_token.clone(),
        sell_amount: terms.sell_amount.units(),
        received_amount: terms.received_amount.units(),
    }
}

/// Refuse a trade that leads to more risk than the portfolio tolerates, unless it lowers the risk. Where there are too few prices to
/// measure it, nothing is refused.
fn check_risk(book: &mut PortfolioBook, history: &RiskHistory) -> Result<()> {
    let Some(score) = risk_after(book, history)? else { return Ok(()) };
    let (before, most) = (book.portfolio.risk_score, book.portfolio.risk_tolerance);
    if score > most && score >= before {
        let text = format!("The trade leads to a risk of {score:.1}, and the portfolio tolerates {most}");
        return Err(PortfolioError::Conflict("risk_too_high", text));
    }
    book.portfolio.risk_score = score;
    Ok(())
}

fn usable_quote(found: Option<(QuoteDocument, Option<i64>)>, now: Timestamp) -> Result<QuoteDocument> {
    match found {
        None => Err(PortfolioError::invalid("quote_id", "is no quote of this portfolio")),
        Some((_, Some(trade))) => {
            Err(PortfolioError::Conflict("quote_used", format!("`quote_id`: trade {trade} has taken the quote")))
        }
        Some((quote, None)) if quote.expires_at <= now => {
            let text = format!("`quote_id`: the quote was good until {}", quote.expires_at);
            Err(PortfolioError::Conflict("quote_expired", text))
        }
        Some((quote, None)) => Ok(quote),
    }
}

async fn open_quote(tx: &mut Tx, portfolio: i64, id: &str, now: Timestamp) -> Result<QuoteDocument> {
    usable_quote(store::quote(tx.conn().await?, portfolio, id).await?, now)
}
