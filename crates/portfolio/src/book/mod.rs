//! The books of one portfolio, read and written in the transaction of a change: holdings from the ledger, prices, what was paid, what
//! it is worth.

mod positions;
mod store;

use std::collections::HashMap;

use am_core::{boxed, money::Money, validation::Violations};
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use am_ledger::{AccountKey, AccountOwner, AccountPurpose};
use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

pub(crate) use self::positions::{Position, PositionSet, RecordedPosition};
pub(crate) use self::store::{BookState, ValueRecord};
use crate::{
    PortfolioCaller, PortfolioService,
    error::{PortfolioError, Result, no_portfolio},
    model::{
        AssetHolding, HoldingsReport, MAX_TOKENS, PortfolioDocument, SYMBOL_RULE, StrategyDocument, is_address,
        is_cash, is_symbol,
    },
    portfolios::{store_portfolio, stored_portfolio, visible_portfolio},
    prices::{day_of, latest_prices},
    strategies::stored_strategy,
};

/// A token of a portfolio, with the address of its contract.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PortfolioAssetDraft)]
pub struct AssetDraft {
    /// Symbol of the token, as `ETH`.
    pub token_symbol: String,
    /// Address of the token's contract: `0x` and 40 hex digits. Default: none.
    pub token_address: Option<String>,
}

/// Why a value was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueCause {
    Deposit,
    Withdrawal,
    Snapshot,
}

impl ValueCause {
    pub fn word(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Withdrawal => "withdrawal",
            Self::Snapshot => "snapshot",
        }
    }
}

/// The books of a portfolio at a moment.
#[derive(Clone, Debug)]
pub(crate) struct PortfolioBook {
    pub portfolio: PortfolioDocument,
    pub strategy: StrategyDocument,
    pub positions: PositionSet,
    pub state: BookState,
    pub now: Timestamp,
    pub max_age: TimeDelta,
}

/// The account of a portfolio for a token.
pub(crate) fn wallet_of(portfolio: i64, token: &str) -> AccountKey {
    AccountKey::new(AccountOwner::Portfolio(portfolio.to_string()), token, AccountPurpose::Wallet)
}

/// The account of the market's other side, and of what is outside, for a token.
pub(crate) fn outside_of(token: &str) -> AccountKey {
    AccountKey::new(AccountOwner::System, token, AccountPurpose::External)
}

/// The account of the service's fees in a token.
pub(crate) fn fees_of(token: &str) -> AccountKey {
    AccountKey::new(AccountOwner::System, token, AccountPurpose::Fees)
}

impl PortfolioService {
    fn max_price_age(&self) -> TimeDelta {
        TimeDelta::from_std(self.0.settings.price_max_age).unwrap_or(TimeDelta::days(1))
    }

    /// The books of a portfolio that `caller` may see, with prices of `tokens` too.
    pub(crate) async fn open_book(
        &self,
        conn: &mut Connection,
        caller: &PortfolioCaller,
        id: i64,
        tokens: &[&str],
        now: Timestamp,
    ) -> Result<PortfolioBook> {
        let portfolio = visible_portfolio(conn, caller, id).await?;
        self.read_book(conn, portfolio, tokens, now).await
    }

    /// The books of a portfolio, whoever asks.
    pub(crate) async fn reviewed_book(&self, conn: &mut Connection, id: i64, now: Timestamp) -> Result<PortfolioBook> {
        let portfolio = stored_portfolio(conn, id).await?.ok_or_else(|| no_portfolio(id))?;
        self.read_book(conn, portfolio, &[], now).await
    }

    async fn read_book(
        &self,
        conn: &mut Connection,
        portfolio: PortfolioDocument,
        tokens: &[&str],
        now: Timestamp,
    ) -> Result<PortfolioBook> {
        let strategy = stored_strategy(conn, portfolio.strategy_id).await?;
        let state = store::read_state(conn, portfolio.id).await?.ok_or_else(|| no_portfolio(portfolio.id))?;
        let mut positions = PositionSet(store::read_positions(conn, portfolio.id).await?);
        let owner = AccountOwner::Portfolio(portfolio.id.to_string());
        for (account, balance) in self.0.ledger.holdings(conn, &owner).await? {
            if account.purpose == AccountPurpose::Wallet {
                positions.0.entry(account.asset).or_default().amount = balance.balance;
            }
        }
        for token in tokens.iter().copied().chain(strategy.target_allocations.keys().map(String::as_str)) {
            positions.0.entry(token.to_owned()).or_default();
        }
        let all: Vec<String> = positions.0.keys().cloned().collect();
        for (token, point) in latest_prices(conn, &all, now).await? {
            positions.0.entry(token).or_default().price = Some(point);
        }
        Ok(PortfolioBook { portfolio, strategy, positions, state, now, max_age: self.max_price_age() })
    }

    /// What a portfolio holds.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`].
    #[boxed]
    pub async fn holdings(&self, caller: &PortfolioCaller, id: i64) -> Result<HoldingsReport> {
        let (mut conn, now) = (self.0.db.read().await?, self.now());
        let book = self.open_book(&mut conn, caller, id, &[], now).await?;
        let addresses = store::read_addresses(&mut conn, id).await?;
        Ok(book.report(&addresses))
    }

    /// Add a token to a portfolio, or say its contract's address.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Invalid`] with all faults; [`PortfolioError::Conflict`] where it has as many
    /// as it may have.
    #[boxed]
    pub async fn add_asset(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        draft: AssetDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<HoldingsReport>> {
        let mut violations = Violations::default();
        violations.require(is_symbol(&draft.token_symbol), "token_symbol", SYMBOL_RULE);
        let sound = draft.token_address.as_deref().is_none_or(is_address);
        violations.require(sound, "token_address", "is `0x` and 40 hex digits");
        violations.finish().map_err(PortfolioError::Invalid)?;
        let (me, by, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let mut book = me.open_book(tx.conn().await?, &by, id, &[&draft.token_symbol], now).await?;
            book.check_room(&draft.token_symbol)?;
            let address = draft.token_address.as_deref().unwrap_or_default().to_ascii_lowercase();
            book.save_with(tx, Some((&draft.token_symbol, &address))).await?;
            let entry = me.entry(&by.principal, "portfolio", "asset_added", now);
            let entry = entry.data("portfolio", json!(id)).data("token", json!(draft.token_symbol));
            me.0.audit.append(tx, vec![entry]).await?;
            let addresses = store::read_addresses(tx.conn().await?, id).await?;
            Ok(book.report(&addresses))
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }
}

impl PortfolioBook {
    /// Number of the portfolio.
    pub fn id(&self) -> i64 {
        self.portfolio.id
    }

    /// The tokens that are held, and how much of each.
    pub fn amounts_held(&self) -> Vec<(String, Money)> {
        self.positions.held().map(|(token, position)| (token.clone(), position.amount)).collect()
    }

    /// What is held, for clients; `addresses` are those of tokens' contracts.
    fn report(&self, addresses: &HashMap<String, String>) -> HoldingsReport {
        let total = self.total();
        let reason = total.as_ref().err().map(ToString::to_string);
        let total = total.ok();
        let percents = total.map(|total| self.positions.percents(total));
        let targets = &self.strategy.target_allocations;
        let known = |token: &str, position: &Position| {
            position.amount.is_positive() || addresses.contains_key(token) || targets.contains_key(token)
        };
        let asset = |(token, position): (&String, &Position)| {
            let value = position.value();
            let held = position.amount.is_positive();
            AssetHolding {
                token_symbol: token.clone(),
                token_address: addresses.get(token).cloned().filter(|address| !address.is_empty()),
                balance: position.amount,
                price: position.price.map(|point| point.price),
                priced_at: position.price.map(|point| point.at).filter(|_| !is_cash(token)),
                value,
                target_allocation: targets.get(token).copied().unwrap_or(0.0),
                current_allocation: percents.as_ref().map(|all| all.get(token.as_str()).copied().unwrap_or(0.0)),
                average_cost: held.then(|| self.average_cost(token, position)),
                unrealized_pnl: value.map(|value| self.unrealized(token, position, value)),
            }
        };
        let assets = self.positions.0.iter().filter(|(token, position)| known(token, position)).map(asset).collect();
        HoldingsReport { portfolio_id: self.id(), measured_at: self.now, total_value: total, reason, assets }
    }

    /// What all of it is worth.
    pub fn total(&self) -> Result<Money> {
        self.positions.total(self.now, self.max_age)
    }

    /// Price of a token that is young enough.
    pub fn price(&self, token: &str) -> Result<Money> {
        self.positions.fresh_price(token, self.now, self.max_age)
    }

    /// AIT paid for each token held.
    fn average_cost(&self, token: &str, position: &Position) -> f64 {
        if is_cash(token) { 1.0 } else { position.cost.to_f64() / position.amount.to_f64() }
    }

    fn unrealized(&self, token: &str, position: &Position, value: Money) -> f64 {
        if is_cash(token) { 0.0 } else { (value - position.cost).to_f64() }
    }

    /// Refuse what an inactive portfolio does not do.
    pub fn check_active(&self) -> Result<()> {
        if self.portfolio.is_active {
            return Ok(());
        }
        Err(PortfolioError::Conflict("portfolio_inactive", format!("Portfolio {} is not active", self.id())))
    }

    /// Refuse one token more than a portfolio may hold.
    pub fn check_room(&self, token: &str) -> Result<()> {
        let others = self.positions.held().filter(|(held, _)| *held != token).count();
        if others < MAX_TOKENS {
            return Ok(());
        }
        Err(PortfolioError::Conflict("too_many_tokens", format!("A portfolio holds at most {MAX_TOKENS} tokens")))
    }

    /// Record what it is worth before `flow` AIT come in (or go out, below 0).
    pub async fn record_value(&mut self, tx: &mut Tx, cause: ValueCause, flow: Money) -> Result<Money> {
        let value = self.total()?;
        let before = self.state.last_value;
        if before.is_positive() {
            self.state.unit_value *= value.to_f64() / before.to_f64();
        }
        self.state.peak_unit = self.state.peak_unit.max(self.state.unit_value);
        self.state.last_value =
            value.checked_add(flow).ok_or(PortfolioError::Ledger(am_ledger::LedgerError::OutOfRange))?;
        store::insert_value(tx, self, cause.word(), value, flow).await?;
        store::insert_day(tx, self.id(), &day_of(self.now), &self.state, value + flow, self.now).await?;
        Ok(value)
    }

    /// Store holdings, what was paid, and the portfolio itself.
    pub async fn save(&mut self, tx: &mut Tx) -> Result<()> {
        self.save_with(tx, None).await
    }

    async fn save_with(&mut self, tx: &mut Tx, address: Option<(&str, &str)>) -> Result<()> {
        // A token that has lost its price since is still written, at its last one.
        let total: Money = self.positions.held().filter_map(|(_, position)| position.value()).sum();
        self.portfolio.total_value = total.to_f64();
        self.portfolio.updated_at = self.now;
        store_portfolio(tx, &self.portfolio).await?;
        store::write_state(tx, self.id(), &self.state).await?;
        store::write_positions(tx, self, total, address).await
    }

    /// What the coordinator's table has of a position: average cost and unrealised gain.
    pub fn figures(&self, token: &str, position: &Position) -> (f64, f64) {
        let average = if position.amount.is_positive() { self.average_cost(token, position) } else { 0.0 };
        let gain = position.value().map_or(0.0, |value| self.unrealized(token, position, value));
        (average, gain)
    }
}

/// The records between which a period is measured.
pub(crate) async fn period_records(
    conn: &mut Connection,
    portfolio: i64,
    (from, to): (Timestamp, Timestamp),
) -> Result<Option<(ValueRecord, ValueRecord)>> {
    let Some(end) = store::last_value(conn, portfolio, to).await? else { return Ok(None) };
    let begin = match store::last_value(conn, portfolio, from).await? {
        Some(begin) => Some(begin),
        None => store::first_value(conn, portfolio).await?,
    };
    Ok(begin.filter(|begin| begin.id < end.id).map(|begin| (begin, end)))
}

/// The records with a flow strictly between two records, the oldest first, `most` at most.
pub(crate) async fn flows_between(
    conn: &mut Connection,
    portfolio: i64,
    (begin, end): (&ValueRecord, &ValueRecord),
    most: usize,
) -> Result<Vec<(Timestamp, Money)>> {
    store::flows_between(conn, portfolio, begin, end, most).await
}

/// The last record of each day in a span of days, both included, the oldest first; the newest `most` of them: the day and the worth
/// of a unit.
pub(crate) async fn unit_days(
    conn: &mut Connection,
    portfolio: i64,
    (from, to): (&str, &str),
    most: usize,
) -> Result<Vec<(String, f64)>> {
    store::days(conn, portfolio, (from, to), most).await
}

/// The value of a unit at the last record that is not later than `at`; `None`: there is none.
pub(crate) async fn unit_at(conn: &mut Connection, portfolio: i64, at: Timestamp) -> Result<Option<f64>> {
    Ok(store::last_value(conn, portfolio, at).await?.map(|record| record.unit_value))
}
