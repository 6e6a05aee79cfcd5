//! Whether the chain is still the one that the settlements are of.

use am_audit::{AuditEntry, EventType};
use am_core::boxed;
use am_db::Tx;
use serde_json::json;

use super::{
    fees::FeeMarket,
    json_rpc::{ChainBlock, RpcFault},
    setup::SettlementSetup,
    store,
};
use crate::{PortfolioService, error::PortfolioError};

/// Reason why a round of the worker ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundFault {
    /// The node gave no answer, or none that can be used.
    #[error(transparent)]
    Rpc(#[from] RpcFault),
    /// Nothing may be sent to what the node shows.
    #[error("{0}")]
    Halted(String),
    /// The database failed.
    #[error(transparent)]
    Portfolio(#[from] PortfolioError),
}

impl From<am_db::DatabaseError> for RoundFault {
    fn from(error: am_db::DatabaseError) -> Self {
        Self::Portfolio(error.into())
    }
}

/// The chain at a moment.
#[derive(Clone, Debug)]
pub(crate) struct ChainView {
    /// The newest block.
    pub head: ChainBlock,
    /// Number of the newest block.
    pub number: u64,
    /// The sender's transactions that are in the chain.
    pub count: u64,
    /// Those that are in it for good.
    pub final_count: u64,
}

impl PortfolioService {
    /// Look at the chain, unless it is another one than before.
    ///
    /// # Errors
    /// [`RoundFault::Halted`] where nothing may be sent: another id, another first block, no contract, or fewer transactions than are
    /// there for good.
    #[boxed]
    pub(super) async fn view_chain(&self, setup: &SettlementSetup) -> Result<ChainView, RoundFault> {
        let (wanted, contract) = (setup.settings.chain_id, &setup.settings.contract);
        let found = setup.client.chain_id().await?;
        if found != wanted {
            return Err(RoundFault::Halted(format!("the node's chain has the id {found}, and not {wanted}")));
        }
        let genesis = setup.client.block_hash(0).await?;
        let genesis = genesis.ok_or_else(|| RpcFault::Lost("it has no first block".to_owned()))?;
        let known = setup.genesis.get();
        if known.is_none_or(|known| *known != genesis) {
            if !setup.client.has_code(contract).await? {
                return Err(RoundFault::Halted(format!("there is no contract at {contract}")));
            }
            let bound = self.bound_genesis(setup, &genesis).await?;
            if bound != genesis {
                let text =
                    "it is another chain with the same id: its first block differs. What was settled is not in it";
                return Err(RoundFault::Halted(text.to_owned()));
            }
            let _ = setup.genesis.set(genesis);
        }
        let head = setup.client.latest_block().await?;
        let number = head.number()?;
        let count = setup.client.transaction_count(&setup.sender, None).await?;
        let mined = store::last_mined_nonce(&mut *self.0.db.read().await?, &setup.account).await?;
        if mined.is_some_and(|nonce| count <= nonce.cast_unsigned()) {
            let text =
                format!("the chain went back: it has {count} transactions of {}, fewer than before", setup.sender);
            return Err(RoundFault::Halted(text));
        }
        let last_final = (number + 1).checked_sub(setup.settings.confirmations);
        let final_count = match last_final {
            Some(block) => setup.client.transaction_count(&setup.sender, Some(block)).await?,
            None => 0,
        };
        Ok(ChainView { head, number, count, final_count })
    }

    /// The prices of the chain, and the limits of the settings.
    pub(super) async fn fee_market(&self, setup: &SettlementSetup, chain: &ChainView) -> Result<FeeMarket, RpcFault> {
        Ok(FeeMarket {
            base_fee: chain.head.base_fee()?,
            priority_fee: setup.client.priority_fee().await?,
            max_gwei: setup.settings.max_gas_gwei,
            gas_limit: setup.settings.gas_limit,
        })
    }

    /// The first block of the chain that the contract was first seen on: `genesis`, where it was seen on none.
    async fn bound_genesis(&self, setup: &SettlementSetup, genesis: &str) -> Result<String, RoundFault> {
        let (chain_id, contract) = (setup.settings.chain_id.cast_signed(), setup.settings.contract.clone());
        if let Some(bound) = store::chain_genesis(&mut *self.0.db.read().await?, chain_id, &contract).await? {
            return Ok(bound);
        }
        let (me, genesis, now) = (self.clone(), genesis.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            store::bind_chain(tx, chain_id, &contract, &genesis, now).await?;
            let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("portfolio", "settlement_chain");
            let entry = entry.data("chain_id", json!(chain_id)).data("contract", json!(contract));
            me.0.audit.append(tx, vec![entry.data("genesis", json!(genesis))]).await?;
            // Another process may have been first.
            let bound = store::chain_genesis(tx.conn().await?, chain_id, &contract).await?;
            Ok::<_, PortfolioError>(bound.unwrap_or(genesis))
        };
        Ok(self.0.db.write(work).await?)
    }
}
