//! The worker that writes settlements to the contract: signs, stores, sends, and asks what became of them.

use std::{collections::HashMap, time::Duration};

use am_audit::{AuditEntry, EventType};
use am_core::boxed;
use am_db::Tx;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    chain_state::{ChainView, RoundFault},
    fees::{FeeMarket, FeeTerms},
    json_rpc::RpcFault,
    model::settlement_key,
    receipt::{ChainReceipt, SettleOutcome, revert_reason},
    replacement::{offer_of, waiting},
    setup::SettlementSetup,
    state::{ChainSight, SettlementStep, WaitingTransaction, next_step, replacement_due},
    store::{self, NewTransaction, OpenSettlement, SettlementEnd, StoredTransaction},
};
use crate::{PortfolioService, error::PortfolioError, model::SettlementStatus};

/// Settlements that are under way at once.
const MAX_IN_FLIGHT: usize = 16;
/// Longest time between two rounds while they fail.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// How many numbers the chain may be ahead of those that were signed here: more is no answer that can be believed.
const MAX_NONCES_AHEAD: u64 = 10_000;

/// Time until the next round, after so many failures in a row.
fn wait_after(interval: Duration, failures: u32) -> Duration {
    interval.saturating_mul(1 << failures.min(16)).min(MAX_BACK_OFF.max(interval))
}

/// What was seen of a settlement under way.
struct SettlementSight {
    sight: ChainSight,
    mined: Option<MinedCall>,
}

/// A transaction that a block has, with its receipt.
struct MinedCall {
    hash: String,
    block: u64,
    receipt: ChainReceipt,
}

impl PortfolioService {
    /// Write settlements to the contract, until `stop`. Where changes are settled in the ledger alone, it waits for `stop`.
    #[boxed]
    pub async fn settlement_loop(self, stop: CancellationToken) {
        let Some(setup) = &self.0.settlement else { return stop.cancelled().await };
        let mut failures = 0;
        loop {
            // What was signed is stored, so that a round can be left anywhere.
            let round = tokio::select! {
                () = stop.cancelled() => return,
                round = self.settlement_round(setup) => round,
            };
            let halted = matches!(round, Err(RoundFault::Halted(_)));
            match round {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = u32::saturating_add(failures, 1);
                    self.0.metrics.settlement_failures.inc();
                    tracing::warn!(%error, failures, "settlements could not be written to the contract");
                }
            }
            self.0.metrics.settlement_halted.set(i64::from(halted));
            let pause = wait_after(setup.settings.interval, failures);
            tokio::select! {
                () = stop.cancelled() => return,
                () = setup.wake.notified(), if failures == 0 => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Look after all that are under way, and send what waits.
    async fn settlement_round(&self, setup: &SettlementSetup) -> Result<(), RoundFault> {
        let mut conn = self.0.db.read().await?;
        let flying = store::in_flight(&mut conn, MAX_IN_FLIGHT as i64).await?;
        let pending = store::next_pending(&mut conn).await?;
        self.measure(&mut conn, flying.first().or(pending.as_ref())).await?;
        let ids: Vec<String> = flying.iter().map(|settlement| settlement.id.clone()).collect();
        let mut signed: HashMap<String, Vec<StoredTransaction>> = HashMap::new();
        for transaction in store::transactions(&mut conn, &ids).await? {
            signed.entry(transaction.settlement_id.clone()).or_default().push(transaction);
        }
        drop(conn);
        if flying.is_empty() && pending.is_none() {
            return Ok(());
        }
        let chain = self.view_chain(setup).await?;
        let mut under_way = flying.len();
        let mut all_sent = true;
        let mut first: Option<WaitingTransaction> = None;
        for settlement in &flying {
            let transactions = signed.remove(&settlement.id).unwrap_or_default();
            // Those of another account, or of another contract's time, are not this one's to follow.
            let own: Vec<_> = transactions.into_iter().filter(|one| one.account == setup.account).collect();
            if own.is_empty() {
                continue;
            }
            first = first.into_iter().chain(waiting(&own, self.now())).min_by_key(|one| one.nonce);
            match self.follow(setup, &chain, settlement, &own).await? {
                SettlementStatus::Sent => {}
                SettlementStatus::Signed | SettlementStatus::Unknown => all_sent = false,
                _ => under_way -= 1,
            }
        }
        if let Some(first) = first {
            self.fill_gap(setup, &chain, first).await?;
        }
        // Nothing new is signed while the fate of an earlier one is open.
        if all_sent && pending.is_some() {
            self.send_pending(setup, &chain, under_way).await?;
        }
        let mut conn = self.0.db.read().await?;
        let flying = store::in_flight(&mut conn, 1).await?;
        let pending = store::next_pending(&mut conn).await?;
        self.measure(&mut conn, flying.first().or(pending.as_ref())).await?;
        Ok(())
    }

    /// Tell the metrics how many are open, and how long the oldest is.
    async fn measure(
        &self,
        conn: &mut am_db::Connection,
        oldest: Option<&OpenSettlement>,
    ) -> Result<(), PortfolioError> {
        let (pending, flying) = store::count_open(conn).await?;
        let age = oldest.map_or(0.0, |oldest| self.now().seconds_since(oldest.queued_at).max(0.0));
        self.0.metrics.settlements_open.set(pending + flying);
        self.0.metrics.oldest_settlement.set(age);
        Ok(())
    }

    /// Look after one settlement; the state that it is in then.
    async fn follow(
        &self,
        setup: &SettlementSetup,
        chain: &ChainView,
        settlement: &OpenSettlement,
        transactions: &[StoredTransaction],
    ) -> Result<SettlementStatus, RoundFault> {
        let Some(last) = transactions.last() else { return Ok(settlement.status) };
        let seen = self.look(setup, chain, transactions).await?;
        let next = next_step(seen.sight, setup.settings.confirmations);
        let terms = setup.replacement_terms();
        let due =
            waiting(transactions, self.now()).is_some_and(|one| replacement_due(seen.sight, one, chain.count, terms));
        let is_asked = settlement.reprice && matches!(seen.sight, ChainSight::Known | ChainSight::Missing);
        if (due || is_asked)
            && let Some(status) = self.reprice(setup, chain, settlement, last).await?
        {
            return Ok(status);
        }
        match (next, seen.mined) {
            (SettlementStep::Resend, _) => self.hand_over(setup, settlement, last).await,
            (SettlementStep::AskContract, _) => {
                let end = match self.contract_has(setup, &settlement.id).await? {
                    true => known_to_contract(),
                    false => SettlementEnd {
                        status: SettlementStatus::Superseded,
                        hash: None,
                        block: None,
                        reason: Some("another transaction of the same account took its number".to_owned()),
                        contract_portfolio: None,
                    },
                };
                self.conclude(setup, settlement, end).await
            }
            (SettlementStep::Conclude, Some(mined)) => {
                let end = self.end_of(setup, settlement, mined).await?;
                self.conclude(setup, settlement, end).await
            }
            (SettlementStep::Wait | SettlementStep::Conclude, _) => {
                self.mark(settlement, SettlementStatus::Sent, None).await?;
                Ok(SettlementStatus::Sent)
            }
        }
    }

    /// What the chain says of a settlement's transactions.
    async fn look(
        &self,
        setup: &SettlementSetup,
        chain: &ChainView,
        transactions: &[StoredTransaction],
    ) -> Result<SettlementSight, RpcFault> {
        let last = transactions.last();
        // Those with an earlier number came to their end before the last one was signed.
        let current = transactions.iter().filter(|one| last.is_some_and(|last| one.nonce == last.nonce));
        for transaction in current {
            let Some(receipt) = setup.client.receipt::<ChainReceipt>(&transaction.hash).await? else { continue };
            let (block, hash) = receipt.block_of(&transaction.hash, &setup.settings.contract)?;
            let is_canonical = setup.client.block_hash(block).await?.is_some_and(|found| found == hash);
            let depth = if is_canonical { (chain.number + 1).saturating_sub(block) } else { 0 };
            let mined = Some(MinedCall { hash: transaction.hash.clone(), block, receipt });
            return Ok(SettlementSight { sight: ChainSight::Mined { depth }, mined });
        }
        let replaced = last.is_some_and(|last| chain.final_count > last.nonce.cast_unsigned());
        let sight = match last {
            _ if replaced => ChainSight::Replaced,
            Some(last) if setup.client.knows(&last.hash).await? => ChainSight::Known,
            _ => ChainSight::Missing,
        };
        Ok(SettlementSight { sight, mined: None })
    }

    /// Whether the contract has a settlement.
    async fn contract_has(&self, setup: &SettlementSetup, id: &str) -> Result<bool, RpcFault> {
        let question = setup.signer.settled_question(id).map_err(RpcFault::Lost)?;
        let answer = setup.client.view(&setup.sender, &setup.settings.contract, &question, None).await?;
        match answer.strip_prefix("0x").map(|word| word.trim_start_matches('0')) {
            Some("1") => Ok(true),
            Some("") if answer.len() == 66 => Ok(false),
            _ => Err(RpcFault::Lost("the contract does not say whether it has the settlement".to_owned())),
        }
    }

    /// The end of a settlement whose transaction a block has for good.
    async fn end_of(
        &self,
        setup: &SettlementSetup,
        settlement: &OpenSettlement,
        mined: MinedCall,
    ) -> Result<SettlementEnd, RoundFault> {
        let (contract, topic) = (&setup.settings.contract, setup.signer.settled_topic());
        let outcome = mined.receipt.outcome(contract, &topic, &settlement_key(&settlement.id))?;
        let (status, reason, contract_portfolio) = match outcome {
            SettleOutcome::Settled { portfolio } => (SettlementStatus::Confirmed, None, Some(portfolio)),
            SettleOutcome::Reverted => {
                // An earlier transaction may have done it.
                if self.contract_has(setup, &settlement.id).await? {
                    return Ok(known_to_contract());
                }
                let reason = self.reason_of(setup, settlement, mined.block).await?;
                (SettlementStatus::Reverted, Some(reason), None)
            }
            SettleOutcome::Silent => {
                let reason = "the call went through, but the contract does not say that it has the settlement";
                (SettlementStatus::Reverted, Some(reason.to_owned()), None)
            }
        };
        let block = Some(mined.block.cast_signed());
        Ok(SettlementEnd { status, hash: Some(mined.hash), block, reason, contract_portfolio })
    }

    /// Why the contract refused, from the same call again, at the block that has it.
    async fn reason_of(
        &self,
        setup: &SettlementSetup,
        settlement: &OpenSettlement,
        block: u64,
    ) -> Result<String, RpcFault> {
        let data = setup.signer.call_data(&settlement.id, &settlement.agent_address, &settlement.content);
        let data = data.map_err(RpcFault::Lost)?;
        match setup.client.view(&setup.sender, &setup.settings.contract, &data, Some(block)).await {
            Err(RpcFault::Refused { message, data }) => Ok(data.as_deref().and_then(revert_reason).unwrap_or(message)),
            Err(lost) => Err(lost),
            Ok(_) => Ok("the contract refused it, and takes the same call now; it may have run out of gas".to_owned()),
        }
    }

    async fn conclude(
        &self,
        setup: &SettlementSetup,
        settlement: &OpenSettlement,
        end: SettlementEnd,
    ) -> Result<SettlementStatus, RoundFault> {
        am_core::crash_point!("settlement.before_end");
        let (me, settlement, now, status) = (self.clone(), settlement.clone(), self.now(), end.status);
        let contract = setup.settings.contract.clone();
        let work = async move |tx: &mut Tx| {
            if !store::end(tx, &settlement, &end, now).await? {
                return Ok(());
            }
            let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("portfolio", "settlement_ended");
            let entry =
                entry.data("portfolio", json!(settlement.portfolio_id)).data("settlement", json!(settlement.id));
            let entry = entry.data("kind", json!(settlement.kind)).data("subject", json!(settlement.subject_id));
            let entry = entry.data("status", json!(end.status)).data("contract", json!(contract));
            me.0.audit.append(tx, vec![entry.data("transaction", json!(end.hash))]).await?;
            match end.status {
                SettlementStatus::Confirmed => me.0.metrics.settlements_confirmed.inc(),
                _ => me.0.metrics.settlements_refused.inc(),
            };
            Ok::<_, PortfolioError>(())
        };
        self.0.db.write(work).await?;
        Ok(status)
    }

    /// Write down what is known of a settlement, where that is new.
    async fn mark(
        &self,
        settlement: &OpenSettlement,
        status: SettlementStatus,
        reason: Option<String>,
    ) -> Result<(), PortfolioError> {
        if settlement.status == status && (settlement.reason == reason || settlement.reprice) {
            return Ok(());
        }
        let (id, now) = (settlement.id.clone(), self.now());
        let work = async move |tx: &mut Tx| store::mark(tx, &id, status, reason.as_deref(), now).await;
        self.0.db.write(work).await
    }

    /// Send a stored transaction, for the first time or again, and write down what the node says.
    async fn hand_over(
        &self,
        setup: &SettlementSetup,
        settlement: &OpenSettlement,
        transaction: &StoredTransaction,
    ) -> Result<SettlementStatus, RoundFault> {
        am_core::crash_point!("settlement.before_send");
        let answer = setup.client.send(&transaction.raw).await;
        am_core::crash_point!("settlement.after_send");
        let (status, reason) = match &answer {
            Ok(hash) if *hash == transaction.hash => (SettlementStatus::Sent, None),
            Ok(_) => {
                let text = "the node answered with the hash of another transaction";
                (SettlementStatus::Unknown, Some(text.to_owned()))
            }
            Err(fault) => (SettlementStatus::Unknown, Some(fault.to_string())),
        };
        if status == SettlementStatus::Unknown {
            self.0.metrics.settlements_unknown.inc();
        }
        self.mark(settlement, status, reason).await?;
        match answer {
            Err(lost @ RpcFault::Lost(_)) => Err(lost.into()),
            _ => Ok(status),
        }
    }

    /// Sign what waits, in its order, and send each, until one is not taken.
    async fn send_pending(
        &self,
        setup: &SettlementSetup,
        chain: &ChainView,
        mut under_way: usize,
    ) -> Result<(), RoundFault> {
        let market = self.fee_market(setup, chain).await?;
        if let Err(dear) = market.offer(0) {
            tracing::warn!(reason = dear, "settlements wait");
            return Ok(());
        }
        while under_way < MAX_IN_FLIGHT {
            let Some((settlement, transaction)) = self.sign_next(chain.count, market).await? else { return Ok(()) };
            am_core::crash_point!("settlement.after_sign");
            if self.hand_over(setup, &settlement, &transaction).await? != SettlementStatus::Sent {
                return Ok(());
            }
            under_way += 1;
        }
        Ok(())
    }

    /// Give the settlement that is next a number, sign its transaction, and store both, in one transaction of the database. `count` is
    /// the number of the sender's transactions in the chain. `None`: none waits.
    async fn sign_next(
        &self,
        count: u64,
        market: FeeMarket,
    ) -> Result<Option<(OpenSettlement, StoredTransaction)>, RoundFault> {
        let (me, now) = (self.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let Some(setup) = &me.0.settlement else { return Ok(None) };
            let Some(settlement) = store::next_pending(tx.conn().await?).await? else { return Ok(None) };
            let last = store::last_nonce(tx.conn().await?, &setup.account).await?;
            let own = last.map_or(0, |last| last.cast_unsigned() + 1);
            if last.is_some() && count > own + MAX_NONCES_AHEAD {
                let text = format!("the chain has {count} transactions of {}, far more than were signed", setup.sender);
                return Err(PortfolioError::Busy(text));
            }
            // Another user of the key may be ahead.
            let nonce = own.max(count);
            let Ok(fees) = market.offer(settlement.content.further_trades()) else { return Ok(None) };
            let stored = sign_and_store(tx, setup, &settlement, nonce, fees, now).await?;
            let signed = OpenSettlement { status: SettlementStatus::Signed, reason: None, ..settlement };
            Ok::<_, PortfolioError>(Some((signed, stored)))
        };
        Ok(self.0.db.write(work).await?)
    }

    /// Replace the transaction of a settlement by one with the same number that pays more, and send it; the state that it is in then.
    /// `None`: that is too dear, and nobody asked for it.
    async fn reprice(
        &self,
        setup: &SettlementSetup,
        chain: &ChainView,
        settlement: &OpenSettlement,
        last: &StoredTransaction,
    ) -> Result<Option<SettlementStatus>, RoundFault> {
        let market = self.fee_market(setup, chain).await?;
        let offer = market.raised_offer(offer_of(last), settlement.content.further_trades());
        let (me, settlement, nonce, now) = (self.clone(), settlement.clone(), last.nonce.cast_unsigned(), self.now());
        let fees = match offer {
            Ok(fees) => fees,
            Err(_) if !settlement.reprice => return Ok(None),
            Err(dear) => {
                let id = settlement.id.clone();
                let work = async move |tx: &mut Tx| store::refuse_reprice(tx, &id, &dear, now).await;
                self.0.db.write(work).await?;
                return Ok(Some(settlement.status));
            }
        };
        let open = settlement.clone();
        let work = async move |tx: &mut Tx| {
            let Some(setup) = &me.0.settlement else { return Ok(None) };
            sign_and_store(tx, setup, &open, nonce, fees, now).await.map(Some)
        };
        let Some(stored) = self.0.db.write(work).await? else { return Ok(Some(settlement.status)) };
        self.0.metrics.settlement_replacements.inc();
        let signed = OpenSettlement { status: SettlementStatus::Signed, reason: None, reprice: false, ..settlement };
        Ok(Some(self.hand_over(setup, &signed, &stored).await?))
    }
}

/// The end of a settlement that the contract has by a transaction that is not known here.
fn known_to_contract() -> SettlementEnd {
    SettlementEnd {
        status: SettlementStatus::Confirmed,
        hash: None,
        block: None,
        reason: Some("the contract has it, by an earlier transaction".to_owned()),
        contract_portfolio: None,
    }
}

/// Sign a settlement's call with this number, and store the transaction before anybody sees it.
async fn sign_and_store(
    tx: &mut Tx,
    setup: &SettlementSetup,
    settlement: &OpenSettlement,
    nonce: u64,
    fees: FeeTerms,
    now: am_db::codec::Timestamp,
) -> Result<StoredTransaction, PortfolioError> {
    let (agent, call) = (&settlement.agent_address, &settlement.content);
    let signed = setup.signer.sign(&settlement.id, agent, call, nonce, fees);
    let signed = signed.map_err(|error| am_db::DatabaseError::InvalidValue(format!("{}: {error}", settlement.id)))?;
    let (nonce, max_fee, priority_fee) =
        (nonce.cast_signed(), fees.max_fee.cast_signed(), fees.priority_fee.cast_signed());
    let new = NewTransaction { account: &setup.account, nonce, max_fee, priority_fee, signed: &signed, now };
    store::store_transaction(tx, &settlement.id, &new).await?;
    Ok(StoredTransaction {
        hash: signed.hash,
        settlement_id: settlement.id.clone(),
        account: setup.account.clone(),
        nonce,
        raw: signed.raw,
        max_fee,
        priority_fee: Some(priority_fee),
        created_at: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_wait_up_to_a_minute() {
        let waits: Vec<u64> =
            [0, 1, 2, 3, 4, 40].map(|failures| wait_after(Duration::from_secs(5), failures).as_secs()).into();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        assert_eq!(wait_after(Duration::from_secs(120), 3).as_secs(), 120);
    }
}
