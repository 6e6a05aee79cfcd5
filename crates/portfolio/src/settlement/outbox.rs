//! Settlements are stored in the transaction of the change that they are of.

use am_core::money::Money;
use am_db::{Connection, Tx};

use super::{
    model::{ContractCall, SettlementDraft, SettlementKind},
    store,
};
use crate::{
    PortfolioService,
    error::Result,
    model::{PortfolioDocument, SettlementSummary},
};

/// What is said of a settlement of which there is no record any more.
const REMOVED_REASON: &str = "It ended; its record was removed after its time";

impl PortfolioService {
    /// Id of a new settlement; `None`: changes are settled in the ledger alone.
    pub(crate) fn new_settlement_id(&self) -> Option<String> {
        self.0.settlement.as_ref().map(|_| self.0.ids.next("settle_", 16))
    }

    /// Id of the settlement of a change that is to be made of a portfolio, which holds `held` before. A portfolio that is not in the
    /// contract is brought there first, with what it holds. `None`: changes are settled in the ledger alone.
    pub(crate) async fn open_settlement(
        &self,
        tx: &mut Tx,
        portfolio: &mut PortfolioDocument,
        held: &[(String, Money)],
    ) -> Result<Option<String>> {
        let Some(id) = self.new_settlement_id() else { return Ok(None) };
        if portfolio.settlement.id.is_none() {
            let created = self.new_settlement_id();
            portfolio.settlement = SettlementSummary::pending(created.clone());
            store::name_creation(tx, portfolio.id, created.as_deref()).await?;
            if let Some(id) = created {
                let (kind, call) = (SettlementKind::Create, ContractCall::Create);
                self.store_settlement(tx, portfolio, SettlementDraft { id, kind, subject_id: None, call }).await?;
            }
            for (token, amount) in held {
                let Some(id) = self.new_settlement_id() else { continue };
                let call = ContractCall::Deposit { token: token.clone(), amount: amount.units() };
                let draft = SettlementDraft { id, kind: SettlementKind::Opening, subject_id: None, call };
                self.store_settlement(tx, portfolio, draft).await?;
            }
        }
        Ok(Some(id))
    }

    /// Store a settlement, which the worker sends after those that were stored before.
    pub(crate) async fn store_settlement(
        &self,
        tx: &mut Tx,
        portfolio: &PortfolioDocument,
        draft: SettlementDraft,
    ) -> Result<()> {
        let place = store::next_place(tx.conn().await?).await?;
        store::insert(tx, portfolio, &draft, place, self.now()).await
    }

    /// Let the worker look now, not after its interval.
    pub(crate) fn wake_settlement(&self) {
        if let Some(setup) = &self.0.settlement {
            setup.wake.notify_one();
        }
    }
}

/// Read how far the settlements of these are that have one.
pub(crate) async fn fill_summaries<'a>(
    conn: &mut Connection,
    summaries: impl IntoIterator<Item = &'a mut SettlementSummary>,
) -> Result<()> {
    let open: Vec<&mut SettlementSummary> = summaries.into_iter().filter(|summary| summary.id.is_some()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = open.iter().filter_map(|summary| summary.id.clone()).collect();
    let states = store::states(conn, &ids).await?;
    for summary in open {
        let Some(state) = summary.id.as_ref().and_then(|id| states.get(id)) else {
            summary.status = None;
            summary.reason = Some(REMOVED_REASON.to_owned());
            continue;
        };
        summary.status = Some(state.status);
        summary.transaction_hash.clone_from(&state.transaction_hash);
        summary.block = state.block;
        summary.reason.clone_from(&state.reason);
    }
    Ok(())
}
