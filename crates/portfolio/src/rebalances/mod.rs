//! Rebalancing: from what is held to what the strategy aims at.

mod planner;
mod store;

use std::collections::BTreeMap;

use am_core::{boxed, money::Money, validation::Violations};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use am_ledger::AIT;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

pub(crate) use self::planner::largest_drift;
use self::planner::{PlanItem, due_reason, plan_trades};
use crate::{
    PortfolioCaller, PortfolioService,
    book::PortfolioBook,
    error::{PortfolioError, Result},
    portfolios::visible_portfolio,
    settlement::{ContractCall, SettlementDraft, SettlementKind},
    trades::{TradeOrigin, TradeTerms, leg_of},
};

/// What the reason is called of a rebalance that was not due.
const MANUAL: &str = "manual";

/// A rebalance to make.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = PortfolioRebalanceRequest)]
pub struct RebalanceRequest {
    /// Only show the trades; nothing is changed. Default false.
    pub dry_run: Option<bool>,
    /// Rebalance although it is not due. Default false.
    pub force: Option<bool>,
    /// Percent of the whole that is sold at most, above 0 to 100. Default: the strategy's limit.
    pub max_turnover: Option<f64>,
}

/// A rebalance, or what one would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioRebalance)]
pub struct RebalanceReport {
    /// Number of the rebalance; null for a dry run.
    #[serde(default)]
    pub id: Option<i64>,
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Whether it is due.
    pub due: bool,
    /// Why: `frequency`, `drift`, `signal` where it follows one, or `manual` where it is not due.
    pub trigger_reason: String,
    /// What the portfolio is worth in AIT before.
    #[serde(with = "am_core::money::exact")]
    pub pre_rebalance_value: Money,
    /// What it is worth after, at the same prices.
    #[serde(with = "am_core::money::exact")]
    pub post_rebalance_value: Money,
    /// Fees and slippage in AIT.
    #[serde(with = "am_core::money::exact")]
    pub rebalance_cost: Money,
    /// Percent of the whole that is sold.
    pub turnover: f64,
    /// The trades, in their order.
    pub trades: Vec<TradeTerms>,
    /// Numbers of the trades; empty for a dry run.
    pub trade_ids: Vec<i64>,
    /// Percent of the whole that each token is before.
    pub allocations_before: BTreeMap<String, f64>,
    /// Percent of the whole that each token is after.
    pub allocations_after: BTreeMap<String, f64>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A rebalance of the past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioRebalanceRecord)]
pub struct RebalanceRecord {
    /// Number of the rebalance.
    pub id: i64,
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// Why: `frequency`, `drift`, `signal`, `manual`.
    pub trigger_reason: String,
    /// What the portfolio was worth in AIT before.
    pub pre_rebalance_value: f64,
    /// What it was worth after, at the same prices.
    pub post_rebalance_value: f64,
    /// Number of its trades.
    pub trades_executed: i64,
    /// Fees and slippage in AIT.
    pub rebalance_cost: f64,
    /// Milliseconds that it took, without the commit.
    pub execution_time_ms: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a rebalance goes to for another reason than its being due.
pub(crate) struct RebalanceAim {
    /// The reason that is recorded.
    pub reason: &'static str,
    /// Percent of the whole for each token; `None`: the strategy's targets.
    pub targets: Option<BTreeMap<String, f64>>,
}

/// A rebalance that was planned.
struct RebalancePlan {
    terms: Vec<TradeTerms>,
    value: Money,
    reason: Option<&'static str>,
}

fn owned(percents: BTreeMap<&str, f64>) -> BTreeMap<String, f64> {
    percents.into_iter().map(|(token, percent)| (token.to_owned(), percent)).collect()
}

/// Points by which the holding that is farthest off its target is off, at a measured value.
pub(crate) fn drift_of(book: &PortfolioBook, total: Money) -> f64 {
    let percents = book.positions.percents(total);
    let targets = &book.strategy.target_allocations;
    let tokens = book.positions.0.keys();
    largest_drift(tokens.map(|token| {
        (percents.get(token.as_str()).copied().unwrap_or(0.0), targets.get(token).copied().unwrap_or(0.0))
    }))
}

impl PortfolioService {
    /// Bring a portfolio to its targets, or show what that would do.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Invalid`]; [`PortfolioError::Conflict`] where it is not due, or a price is
    /// missing or too old.
    #[boxed]
    pub async fn rebalance(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        request: RebalanceRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<RebalanceReport>> {
        let (me, by) = (self.clone(), caller.clone());
        let work = async move |tx: &mut Tx| me.rebalance_in(tx, &by, id, &request, None).await;
        match self.0.db.write_idempotent(&self.0.clock, once, work).await {
            Ok(done) => {
                self.wake_settlement();
                Ok(done)
            }
            Err(error) => Err(self.refused(&caller.principal, id, "rebalance", error).await),
        }
    }

    /// Rebalance in the transaction of a change, to the targets or to `aim`.
    pub(crate) async fn rebalance_in(
        &self,
        tx: &mut Tx,
        caller: &PortfolioCaller,
        id: i64,
        request: &RebalanceRequest,
        aim: Option<&RebalanceAim>,
    ) -> Result<RebalanceReport> {
        let (now, begun) = (self.now(), self.0.clock.elapsed());
        // What nothing else is aimed at may go to AIT.
        let more: &[&str] = if aim.is_some() { &[AIT] } else { &[] };
        let mut book = self.open_book(tx.conn().await?, caller, id, more, now).await?;
        let mut violations = Violations::default();
        let sound = request.max_turnover.is_none_or(|most| most > 0.0 && most <= 100.0);
        violations.require(sound, "max_turnover", "must be above 0 and at most 100");
        violations.finish().map_err(PortfolioError::Invalid)?;
        book.check_active()?;
        let targets = aim.and_then(|aim| aim.targets.as_ref()).unwrap_or(&book.strategy.target_allocations);
        let plan = self.plan(&book, request, targets)?;
        let (dry_run, forced) = (request.dry_run.unwrap_or(false), request.force.unwrap_or(false));
        if plan.reason.is_none() && !dry_run && !forced {
            let text = "No rebalance is due; `force` makes one all the same".to_owned();
            return Err(PortfolioError::Conflict("not_due", text));
        }
        let before = owned(book.positions.percents(plan.value));
        let number = store::next_id(tx.conn().await?).await?;
        let cost: Money = plan.terms.iter().map(TradeTerms::cost).sum();
        let sold: Money = plan.terms.iter().map(|terms| terms.sell_value).sum();
        let mut report = RebalanceReport {
            id: (!dry_run).then_some(number),
            portfolio_id: id,
            dry_run,
            due: plan.reason.is_some(),
            trigger_reason: aim.map_or(plan.reason.unwrap_or(MANUAL), |aim| aim.reason).to_owned(),
            pre_rebalance_value: plan.value,
            post_rebalance_value: Money::ZERO,
            rebalance_cost: cost,
            turnover: if plan.value.is_positive() { 100.0 * sold.to_f64() / plan.value.to_f64() } else { 0.0 },
            trades: plan.terms,
            trade_ids: Vec::new(),
            allocations_before: before,
            allocations_after: BTreeMap::new(),
            created_at: now,
        };
        let held = book.amounts_held();
        let settlement = match dry_run || report.trades.is_empty() {
            true => None,
            false => self.open_settlement(tx, &mut book.portfolio, &held).await?,
        };
        let origin = TradeOrigin { quote: None, rebalance: Some(number), settlement: settlement.as_deref() };
        for terms in &report.trades {
            if dry_run {
                book.positions.take(&terms.sell_token, terms.sell_amount, terms.sell_value)?;
                book.positions.add(&terms.buy_token, terms.received_amount, terms.received_value, terms.sell_value)?;
            } else {
                let trade = self.execute_trade(tx, &mut book, terms.clone(), origin).await?;
                report.trade_ids.push(trade.id);
            }
        }
        report.post_rebalance_value = book.total()?;
        report.allocations_after = owned(book.positions.percents(report.post_rebalance_value));
        if dry_run {
            return Ok(report);
        }
        if let Some(id) = settlement {
            let call = ContractCall::Trade { trades: report.trades.iter().map(leg_of).collect() };
            let draft = SettlementDraft { id, kind: SettlementKind::Rebalance, subject_id: Some(number), call };
            self.store_settlement(tx, &book.portfolio, draft).await?;
        }
        book.portfolio.last_rebalance = now;
        book.save(tx).await?;
        let took = self.0.clock.elapsed().saturating_sub(begun).as_millis();
        store::insert(tx, &report, number, i64::try_from(took).unwrap_or(i64::MAX)).await?;
        let entry = self.entry(&caller.principal, "portfolio", "rebalanced", now).data("portfolio", json!(id));
        let entry = entry.data("rebalance", json!(number)).data("reason", json!(report.trigger_reason));
        self.0.audit.append(tx, vec![entry.data("trades", json!(report.trade_ids.len()))]).await?;
        Ok(report)
    }

    fn plan(
        &self,
        book: &PortfolioBook,
        request: &RebalanceRequest,
        targets: &BTreeMap<String, f64>,
    ) -> Result<RebalancePlan> {
        let value = book.total()?;
        let mut items = Vec::new();
        for (token, position) in &book.positions.0 {
            let target = targets.get(token).copied().unwrap_or(0.0);
            if !position.amount.is_positive() && target <= 0.0 {
                continue;
            }
            let lot = book.strategy.lot_sizes.get(token).copied().unwrap_or(0.0);
            items.push(PlanItem {
                token: token.clone(),
                amount: position.amount,
                price: book.price(token)?,
                target: target / 100.0,
                lot: Money::from_f64(lot),
            });
        }
        let (rates, most) = (self.trade_rates(), request.max_turnover.or(book.strategy.max_turnover));
        let trades = plan_trades(&items, rates, most.map(|most| most / 100.0));
        let terms = trades.into_iter().map(|trade| {
            let (from, to) = (&items[trade.sell], &items[trade.buy]);
            TradeTerms::at_prices((&from.token, &to.token), trade.sell_amount, (from.price, to.price), rates)
        });
        let elapsed = book.now.seconds_since(book.portfolio.last_rebalance);
        let drift = if value.is_positive() { drift_of(book, value) } else { 0.0 };
        let reason = due_reason(elapsed, book.strategy.rebalance_frequency, drift).map(|reason| reason.word());
        Ok(RebalancePlan { terms: terms.collect::<Result<_>>()?, value, reason })
    }

    /// A page of a portfolio's rebalances, the newest first, and how many there are.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`].
    #[boxed]
    pub async fn list_rebalances(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        page: &PageRequest,
    ) -> Result<(Vec<RebalanceRecord>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        visible_portfolio(&mut conn, caller, id).await?;
        store::list(&mut conn, id, page).await
    }
}
