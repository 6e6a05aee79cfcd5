//! Portfolios by the address of their agent.

mod store;

use am_core::{
    boxed,
    validation::{Violation, Violations},
};
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    PortfolioCaller, PortfolioService,
    error::{PortfolioError, Result, no_portfolio},
    model::{PortfolioDocument, SettlementSummary, is_address},
    settlement::{ContractCall, SettlementDraft, SettlementKind, fill_summaries},
    strategies::visible_strategy,
};

/// Highest risk that trades may lead to, by default.
const DEFAULT_RISK_TOLERANCE: f64 = 50.0;

/// A portfolio to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = AgentPortfolioDraft)]
pub struct PortfolioDraft {
    /// Address of the agent: `0x` and 40 hex digits. There is one portfolio for an address.
    pub agent_address: String,
    /// Number of its strategy.
    pub strategy_id: i64,
    /// Highest risk, 0 to 100, that a trade may lead to. Default 50.
    pub risk_tolerance: Option<f64>,
}

/// What is changed of a portfolio.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = AgentPortfolioUpdate)]
pub struct PortfolioUpdate {
    /// Number of another strategy. Default: it stays.
    pub strategy_id: Option<i64>,
    /// Highest risk, 0 to 100, that a trade may lead to. Default: it stays.
    pub risk_tolerance: Option<f64>,
    /// Whether it takes deposits and trades. Default: it stays.
    pub is_active: Option<bool>,
}

fn check_tolerance(violations: &mut Violations, tolerance: Option<f64>) {
    violations.require_within(tolerance, &(0.0..=100.0), "risk_tolerance");
}

fn check_draft(draft: &PortfolioDraft) -> std::result::Result<(), Vec<Violation>> {
    let mut violations = Violations::default();
    violations.require(is_address(&draft.agent_address), "agent_address", "is `0x` and 40 hex digits");
    check_tolerance(&mut violations, draft.risk_tolerance);
    violations.finish()
}

/// A portfolio that `caller` may see.
pub(crate) async fn visible_portfolio(
    conn: &mut Connection,
    caller: &PortfolioCaller,
    id: i64,
) -> Result<PortfolioDocument> {
    let found = store::get(conn, id).await?;
    found.filter(|found| caller.may_use(found.owner_id.as_str())).ok_or_else(|| no_portfolio(id))
}

/// A portfolio, whoever asks; `None`: there is none.
pub(crate) async fn stored_portfolio(conn: &mut Connection, id: i64) -> Result<Option<PortfolioDocument>> {
    store::get(conn, id).await
}

/// Store what changed of a portfolio.
pub(crate) async fn store_portfolio(tx: &mut Tx, document: &PortfolioDocument) -> Result<()> {
    store::update(tx, document).await
}

/// The strategy that a request names must be one that may be used.
async fn usable_strategy(conn: &mut Connection, caller: &PortfolioCaller, id: i64) -> Result<()> {
    let found = visible_strategy(conn, caller, id).await;
    match found {
        Ok(strategy) if strategy.is_active => Ok(()),
        Ok(_) => Err(PortfolioError::invalid("strategy_id", format!("strategy {id} is not active"))),
        Err(PortfolioError::NotFound(text)) => Err(PortfolioError::invalid("strategy_id", text)),
        Err(error) => Err(error),
    }
}

impl PortfolioService {
    /// Make a portfolio, which holds nothing yet.
    ///
    /// # Errors
    /// [`PortfolioError::Invalid`] with all faults; [`PortfolioError::Conflict`] where the address has one.
    #[boxed]
    pub async fn create_portfolio(
        &self,
        caller: &PortfolioCaller,
        draft: PortfolioDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<PortfolioDocument>> {
        check_draft(&draft).map_err(PortfolioError::Invalid)?;
        let (me, caller, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            usable_strategy(tx.conn().await?, &caller, draft.strategy_id).await?;
            let address = draft.agent_address.to_ascii_lowercase();
            if store::is_taken(tx.conn().await?, &address).await? {
                let text = "The address has a portfolio".to_owned();
                return Err(PortfolioError::Conflict("conflict", text));
            }
            let settlement = me.new_settlement_id();
            let document = PortfolioDocument {
                id: store::next_id(tx.conn().await?).await?,
                agent_address: address,
                strategy_id: draft.strategy_id,
                contract_portfolio_id: None,
                settlement: SettlementSummary::pending(settlement.clone()),
                initial_capital: 0.0,
                total_value: 0.0,
                risk_score: 0.0,
                risk_tolerance: draft.risk_tolerance.unwrap_or(DEFAULT_RISK_TOLERANCE),
                is_active: true,
                owner_id: caller.principal.id(),
                created_at: now,
                updated_at: now,
                last_rebalance: now,
            };
            store::insert(tx, &document, me.next_review(now)).await?;
            if let Some(id) = settlement {
                let (kind, call) = (SettlementKind::Create, ContractCall::Create);
                me.store_settlement(tx, &document, SettlementDraft { id, kind, subject_id: None, call }).await?;
            }
            let entry = me.entry(&caller.principal, "portfolio", "created", now).data("portfolio", json!(document.id));
            me.0.audit.append(tx, vec![entry]).await?;
            Ok(document)
        };
        let done = self.0.db.write_idempotent(&self.0.clock, once, work).await;
        self.wake_settlement();
        done
    }

    /// When a portfolio is looked at next.
    pub(crate) fn next_review(&self, now: Timestamp) -> Timestamp {
        let interval =
            chrono::Duration::from_std(self.0.settings.snapshot_interval).unwrap_or(chrono::Duration::days(1));
        Timestamp(now.0.checked_add_signed(interval).unwrap_or(now.0))
    }

    /// Change a portfolio.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Invalid`] with all faults.
    #[boxed]
    pub async fn update_portfolio(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        update: PortfolioUpdate,
    ) -> Result<PortfolioDocument> {
        let mut violations = Violations::default();
        check_tolerance(&mut violations, update.risk_tolerance);
        violations.finish().map_err(PortfolioError::Invalid)?;
        let (me, caller, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let mut document = visible_portfolio(tx.conn().await?, &caller, id).await?;
            if let Some(strategy) = update.strategy_id {
                usable_strategy(tx.conn().await?, &caller, strategy).await?;
                document.strategy_id = strategy;
            }
            document.risk_tolerance = update.risk_tolerance.unwrap_or(document.risk_tolerance);
            document.is_active = update.is_active.unwrap_or(document.is_active);
            document.updated_at = now;
            store::update(tx, &document).await?;
            fill_summaries(tx.conn().await?, [&mut document.settlement]).await?;
            let entry = me.entry(&caller.principal, "portfolio", "updated", now).data("portfolio", json!(id));
            me.0.audit.append(tx, vec![entry]).await?;
            Ok(document)
        };
        self.0.db.write(work).await
    }

    /// A portfolio that the caller may see.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`].
    #[boxed]
    pub async fn portfolio(&self, caller: &PortfolioCaller, id: i64) -> Result<PortfolioDocument> {
        let mut conn = self.0.db.read().await?;
        let mut document = visible_portfolio(&mut conn, caller, id).await?;
        fill_summaries(&mut conn, [&mut document.settlement]).await?;
        Ok(document)
    }

    /// A page of the caller's portfolios, for an admin of all, and how many there are; `None`: not counted.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list_portfolios(
        &self,
        caller: &PortfolioCaller,
        page: &PageRequest,
    ) -> Result<(Vec<PortfolioDocument>, Option<i64>)> {
        let mut conn = self.0.db.read_list().await?;
        let (mut rows, total) = store::list(&mut conn, caller.owner_filter(), page).await?;
        fill_summaries(&mut conn, rows.iter_mut().map(|row| &mut row.settlement)).await?;
        Ok((rows, total))
    }
}
