//! Transactions that no block takes: when they are replaced, and fillers of numbers that nobody's transaction has.

use am_audit::{AuditEntry, EventType};
use am_core::boxed;
use am_db::{DatabaseError, Tx, codec::Timestamp};
use serde_json::json;

use super::{
    chain_state::{ChainView, RoundFault},
    fees::{FeeMarket, PaidOffer},
    json_rpc::RpcFault,
    setup::SettlementSetup,
    state::{ChainSight, ReplacementTerms, WaitingTransaction, missing_nonce, replacement_due},
    store::{self, NewTransaction, StoredTransaction},
};
use crate::{PortfolioService, error::PortfolioError};

/// Gas of a transaction that moves nothing.
const FILLER_GAS: u64 = 21_000;
/// Fillers of one number that are read at most: more than replacements are ever made.
const MAX_FILLERS: i64 = 64;

impl SettlementSetup {
    /// When transactions are replaced without being asked for.
    pub(super) fn replacement_terms(&self) -> ReplacementTerms {
        ReplacementTerms { wait: self.settings.replace_after.as_secs_f64(), most: self.settings.max_replacements }
    }
}

/// The last of a settlement's transactions, as one that waits.
pub(super) fn waiting(transactions: &[StoredTransaction], now: Timestamp) -> Option<WaitingTransaction> {
    let last = transactions.last()?;
    let same = transactions.iter().filter(|one| one.nonce == last.nonce).count() as u64;
    let waited = now.seconds_since(last.created_at);
    Some(WaitingTransaction { nonce: last.nonce.cast_unsigned(), waited, replaced: same.saturating_sub(1) })
}

/// What a stored transaction offers.
pub(super) fn offer_of(transaction: &StoredTransaction) -> PaidOffer {
    let priority_fee = transaction.priority_fee.unwrap_or(transaction.max_fee);
    PaidOffer { max_fee: transaction.max_fee.cast_unsigned(), priority_fee: priority_fee.cast_unsigned() }
}

impl PortfolioService {
    /// Give the number that the chain waits for to a transaction that moves nothing, where the first of those under way has a later one
    /// and has waited long enough, and the node has none with it. Of what has the number otherwise and this one, one can happen.
    ///
    /// # Errors
    /// As the node and the database.
    #[boxed]
    pub(super) async fn fill_gap(
        &self,
        setup: &SettlementSetup,
        chain: &ChainView,
        first: WaitingTransaction,
    ) -> Result<(), RoundFault> {
        let terms = setup.replacement_terms();
        let Some(nonce) = missing_nonce(first, chain.count, terms) else { return Ok(()) };
        let number = nonce.cast_signed();
        let known = store::fillers(&mut *self.0.db.read().await?, &setup.account, number, MAX_FILLERS).await?;
        let last = known.first();
        if let Some(last) = last {
            let waited = self.now().seconds_since(last.created_at);
            let one = WaitingTransaction { nonce, waited, replaced: known.len() as u64 - 1 };
            if !replacement_due(ChainSight::Known, one, chain.count, terms) {
                return match setup.client.knows(&last.hash).await? {
                    true => Ok(()),
                    false => send_filler(setup, &last.raw).await,
                };
            }
        } else if setup.client.pending_count(&setup.sender).await? > nonce {
            // Somebody's transaction has the number, and waits for a block.
            return Ok(());
        }
        let market = FeeMarket { gas_limit: FILLER_GAS, ..self.fee_market(setup, chain).await? };
        let offer = last.map_or_else(
            || market.offer(0),
            |last| {
                let (max_fee, priority_fee) = (last.max_fee.cast_unsigned(), last.priority_fee.cast_unsigned());
                market.raised_offer(PaidOffer { max_fee, priority_fee }, 0)
            },
        );
        let fees = match offer {
            Ok(fees) => fees,
            Err(dear) => {
                tracing::warn!(nonce, reason = dear, "a number that nobody's transaction has is not filled");
                return Ok(());
            }
        };
        let (me, now) = (self.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let Some(setup) = &me.0.settlement else { return Ok(None) };
            let signed = setup.signer.sign_filler(nonce, fees).map_err(DatabaseError::InvalidValue)?;
            let (max_fee, priority_fee) = (fees.max_fee.cast_signed(), fees.priority_fee.cast_signed());
            let new =
                NewTransaction { account: &setup.account, nonce: number, max_fee, priority_fee, signed: &signed, now };
            store::store_filler(tx, &new).await?;
            let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("portfolio", "settlement_gap_filled");
            let entry = entry.data("nonce", json!(nonce)).data("transaction", json!(signed.hash));
            me.0.audit.append(tx, vec![entry]).await?;
            Ok::<_, PortfolioError>(Some(signed))
        };
        let Some(signed) = self.0.db.write(work).await? else { return Ok(()) };
        self.0.metrics.settlement_fillers.inc();
        send_filler(setup, &signed.raw).await
    }
}

/// Send a stored filler. What the node thinks of it is seen in the next round.
async fn send_filler(setup: &SettlementSetup, raw: &str) -> Result<(), RoundFault> {
    match setup.client.send(raw).await {
        Ok(_) => Ok(()),
        Err(RpcFault::Refused { message, .. }) => {
            tracing::warn!(reason = message, "the node refuses the filler of a number");
            Ok(())
        }
        Err(lost) => Err(lost.into()),
    }
}
