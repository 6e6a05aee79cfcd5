//! What the messages of one transaction cost: one entry of the ledger for each sender.

use std::collections::BTreeMap;

use super::OutgoingMessage;
use crate::error::Result;
use am_core::{
    ids::{AgentId, MessageId, PrincipalId},
    money::Money,
};
use am_db::{Tx, bulk_insert::RowBatch};
use am_ledger::{BudgetUse, CostPayee, EntryTags, LedgerService, cost_entry};

/// Costs of the messages that were added to a batch.
#[derive(Default)]
pub(super) struct BatchCosts(BTreeMap<(PrincipalId, AgentId), SenderCosts>);

/// Costs of one sender's messages.
struct SenderCosts {
    /// The first of them.
    first: MessageId,
    messages: usize,
    price: Money,
}

impl BatchCosts {
    /// Check that the budgets of whoever sends a message have room for its price, beside those of the batch that are not posted yet.
    ///
    /// # Errors
    /// A budget's refusal; a database error.
    pub(super) async fn check(
        &self,
        ledger: &LedgerService,
        tx: &mut Tx,
        letter: &OutgoingMessage,
        price: Money,
    ) -> Result<()> {
        let (principal, sender) = (letter.by.id(), &letter.draft.sender);
        let spending = BudgetUse { principal: &principal, agent: Some(sender), workflow: None };
        if !ledger.binds(&spending) {
            return Ok(());
        }
        let own = self.0.iter().filter(|((payer, _), _)| *payer == principal);
        let pending: Money = own.map(|(_, costs)| costs.price).sum();
        Ok(ledger.check_budgets(tx, &spending, pending + price).await?)
    }

    /// Add the price of a message.
    pub(super) fn add(&mut self, letter: &OutgoingMessage, id: &MessageId, price: Money) {
        let key = (letter.by.id(), letter.draft.sender.clone());
        let new = || SenderCosts { first: id.clone(), messages: 0, price: Money::ZERO };
        let costs = self.0.entry(key).or_insert_with(new);
        costs.messages += 1;
        costs.price += price;
    }

    /// Add the rows of their entries.
    pub(super) fn add_rows(self, ledger: &LedgerService, rows: &mut RowBatch) -> Result<()> {
        for ((principal, sender), SenderCosts { first, messages, price }) in self.0 {
            let tags = EntryTags { principal: Some(principal), agent: Some(sender), ..EntryTags::default() };
            let entry = cost_entry(tags, CostPayee::Service, price).of("message", first.as_str());
            let entry = if messages > 1 { entry.note(format!("{messages} messages")) } else { entry };
            ledger.add_entry_rows(rows, &entry)?;
        }
        Ok(())
    }
}
