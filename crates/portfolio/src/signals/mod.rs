//! Signals of strategies: what their rules find in a portfolio's holdings and in recorded prices, and rebalances that follow them.

mod model;
mod rules;
mod store;

use am_core::boxed;
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use chrono::TimeDelta;
use serde_json::json;

pub use self::model::{FollowRequest, SignalRecord};
use self::rules::{HoldingView, SignalFinding, drift, from_prices, tilted};
use crate::{
    PortfolioCaller, PortfolioService,
    book::PortfolioBook,
    error::{PortfolioError, Result},
    model::{SignalKind, SignalRule, is_cash},
    portfolios::visible_portfolio,
    prices::day_of,
    rebalances::{RebalanceAim, RebalanceReport, RebalanceRequest},
    reports::{RiskHistory, read_days},
    strategies::stored_strategy,
};

/// What the reason is called of a rebalance that follows a signal.
const SIGNAL_REASON: &str = "signal";

fn days_before(now: Timestamp, days: i64) -> String {
    day_of(Timestamp(now.0.checked_sub_signed(TimeDelta::days(days)).unwrap_or_default()))
}

/// Tokens that rules about prices are asked about: those that the strategy aims at.
fn watched(book: &PortfolioBook) -> Vec<String> {
    let aimed = book.strategy.target_allocations.iter().filter(|(token, percent)| **percent > 0.0 && !is_cash(token));
    aimed.map(|(token, _)| token.clone()).collect()
}

/// The prices by day that the rules of a portfolio's strategy look at.
pub(crate) async fn read_signal_prices(conn: &mut Connection, book: &PortfolioBook) -> Result<RiskHistory> {
    let Some(days) = book.strategy.signal_rules.iter().map(SignalRule::days).max().filter(|days| *days > 0) else {
        return Ok(RiskHistory::default());
    };
    let (from, to) = (days_before(book.now, days), day_of(book.now));
    read_days(conn, &watched(book), (&from, &to), usize::try_from(days).unwrap_or_default() + 1).await
}

/// How a token is held; `None`: its price is missing or too old.
fn holding_of(book: &PortfolioBook, token: &str, percent: f64) -> Option<HoldingView> {
    let price = book.price(token).ok()?;
    let age = book.positions.0.get(token)?.price.map_or(0.0, |point| book.now.seconds_since(point.at));
    let most = book.max_age.num_seconds() as f64;
    Some(HoldingView {
        percent,
        target: book.strategy.target_allocations.get(token).copied().unwrap_or(0.0),
        price: price.to_f64(),
        staleness: if most > 0.0 { (age / most).clamp(0.0, 1.0) } else { 1.0 },
    })
}

/// All that the rules find now.
fn findings(book: &PortfolioBook, history: &RiskHistory) -> Result<Vec<SignalFinding>> {
    let total = book.total()?;
    let percents = book.positions.percents(total);
    let mut found = Vec::new();
    for rule in &book.strategy.signal_rules {
        if rule.rule == SignalKind::Drift {
            // An empty portfolio is off no target.
            for token in book.positions.0.keys().filter(|token| total.is_positive() && !is_cash(token)) {
                let percent = percents.get(token.as_str()).copied().unwrap_or(0.0);
                found.extend(holding_of(book, token, percent).and_then(|holding| drift(rule, token, holding)));
            }
            continue;
        }
        let first = days_before(book.now, rule.days());
        for token in watched(book) {
            let Some(aligned) = history.aligned(&[token.as_str()])? else { continue };
            let prices = aligned.days.iter().zip(aligned.prices.column(0));
            let closes: Vec<f64> = prices.filter(|(day, _)| **day >= first).map(|(_, price)| price).collect();
            found.extend(from_prices(rule, &token, &closes));
        }
    }
    Ok(found)
}

/// Make signals of what the rules find newly, and end those whose condition is over. Answers how many were made.
pub(crate) async fn update_signals(tx: &mut Tx, book: &PortfolioBook, history: &RiskHistory) -> Result<u64> {
    let found = if book.portfolio.is_active { findings(book, history)? } else { Vec::new() };
    let mut standing = Vec::new();
    for open in store::open(tx.conn().await?, book.id()).await? {
        let same = |one: &SignalFinding| (one.rule, one.side) == (open.rule, open.side) && one.token == open.token;
        if open.expires_at > book.now && found.iter().any(same) {
            standing.push(open);
        } else {
            store::close(tx, book.id(), &open, book.now).await?;
        }
    }
    let mut made = 0;
    for one in &found {
        if standing.iter().any(|open| open.rule == one.rule && open.token == one.token) {
            continue;
        }
        let expires_at = Timestamp(book.now.0 + TimeDelta::days(one.expires_days));
        store::insert(tx, (book.id(), book.strategy.id), one, (book.now, expires_at)).await?;
        made += 1;
    }
    Ok(made)
}

impl PortfolioService {
    /// A page of a portfolio's signals, the newest first, and how many there are; with `open`, those that may be followed, or may not.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`].
    #[boxed]
    pub async fn list_signals(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        open: Option<bool>,
        page: &PageRequest,
    ) -> Result<(Vec<SignalRecord>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        visible_portfolio(&mut conn, caller, id).await?;
        store::list(&mut conn, id, (open, self.now()), page).await
    }

    /// Follow a signal of a portfolio by a rebalance, or show what that would do.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Invalid`]; [`PortfolioError::Conflict`] where it was followed already, has
    /// expired, or is of another strategy than the portfolio has now, or where a price is missing or too old.
    #[boxed]
    pub async fn follow_signal(
        &self,
        caller: &PortfolioCaller,
        (id, signal): (i64, i64),
        request: FollowRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<RebalanceReport>> {
        let (me, by) = (self.clone(), caller.clone());
        let work = async move |tx: &mut Tx| me.follow_in(tx, &by, (id, signal), &request).await;
        match self.0.db.write_idempotent(&self.0.clock, once, work).await {
            Ok(done) => {
                self.wake_settlement();
                Ok(done)
            }
            Err(error) => Err(self.refused(&caller.principal, id, "follow_signal", error).await),
        }
    }

    async fn follow_in(
        &self,
        tx: &mut Tx,
        caller: &PortfolioCaller,
        (id, signal): (i64, i64),
        request: &FollowRequest,
    ) -> Result<RebalanceReport> {
        let now = self.now();
        let portfolio = visible_portfolio(tx.conn().await?, caller, id).await?;
        let found = store::get(tx.conn().await?, id, signal).await?;
        let found = found.ok_or_else(|| PortfolioError::NotFound(format!("No signal {signal}")))?;
        let refused = |code, text: &str| Err(PortfolioError::Conflict(code, format!("Signal {signal} {text}")));
        if found.is_executed {
            return refused("signal_executed", "was followed already");
        }
        if found.expires_at <= now {
            return refused("signal_expired", "has expired, or its condition is over");
        }
        if found.strategy_id != portfolio.strategy_id {
            return refused("signal_outdated", "is of another strategy than the portfolio has now");
        }
        let strategy = stored_strategy(tx.conn().await?, portfolio.strategy_id).await?;
        let tilts = found.tilt.abs() > 0.0;
        let targets = tilts.then(|| tilted(&strategy.target_allocations, &found.token_symbol, found.tilt));
        let aim = RebalanceAim { reason: SIGNAL_REASON, targets };
        let FollowRequest { dry_run, max_turnover } = *request;
        let order = RebalanceRequest { dry_run, force: Some(true), max_turnover };
        let report = self.rebalance_in(tx, caller, id, &order, Some(&aim)).await?;
        if !report.dry_run {
            store::mark_executed(tx, signal, report.id, now).await?;
            let entry = self.entry(&caller.principal, "portfolio", "signal_followed", now);
            let entry = entry.data("portfolio", json!(id)).data("signal", json!(signal));
            self.0.audit.append(tx, vec![entry.data("rebalance", json!(report.id))]).await?;
        }
        Ok(report)
    }
}
