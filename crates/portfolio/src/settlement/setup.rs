//! The parts of settlement in a contract, made from the settings at the start.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use am_core::{
    boxed,
    config::{SettlementConfig, SettlementMode},
    crypto::read_secret,
};
use tokio::sync::Notify;

use super::{
    json_rpc::{ChainClient, RpcFault},
    signer::ContractSigner,
    start_error::SettlementStartError,
};

/// Time that a start waits for the chain's node.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// What settlement in a contract needs.
pub struct SettlementSetup {
    pub(super) client: ChainClient,
    pub(super) signer: ContractSigner,
    pub(super) settings: SettlementConfig,
    /// Address of the account that signs.
    pub(super) sender: String,
    /// Chain and sender, whose transactions have numbers of their own.
    pub(super) account: String,
    pub(super) wake: Notify,
    /// Hash of the chain's first block, once it was seen.
    pub(super) genesis: OnceLock<String>,
}

impl SettlementSetup {
    /// The parts, by the settings; `None`: changes are settled in the ledger alone. A node that does not answer keeps nothing from
    /// starting: changes wait for it.
    ///
    /// # Errors
    /// [`SettlementStartError`]; the key is in no text of it.
    #[boxed]
    pub async fn open(settings: &SettlementConfig) -> Result<Option<Self>, SettlementStartError> {
        if settings.mode == SettlementMode::Ledger {
            return Ok(None);
        }
        if cfg!(not(feature = "contract-settlement")) {
            return Err(SettlementStartError::NotBuilt);
        }
        let missing = SettlementStartError::Missing;
        let url = settings.rpc_url.clone().ok_or(missing("PORTFOLIO_SETTLEMENT_RPC_URL"))?;
        let path: PathBuf = settings.key_file.clone().ok_or(missing("PORTFOLIO_SETTLEMENT_KEY_FILE"))?;
        let secret = read_secret(&path)?;
        let signer = ContractSigner::new(&secret, &settings.contract, settings.chain_id)?;
        let client = ChainClient::new(url)?;
        let asked = tokio::time::timeout(START_PATIENCE, client.chain_id()).await;
        match asked.unwrap_or_else(|_| Err(RpcFault::Lost("it takes too long".to_owned()))) {
            Ok(found) if found == settings.chain_id => {}
            Ok(found) => return Err(SettlementStartError::OtherChain { found, wanted: settings.chain_id }),
            Err(error) => tracing::warn!(%error, "the chain's node can't be asked: settlements wait for it"),
        }
        let sender = signer.sender();
        let account = format!("{}:{sender}", settings.chain_id);
        tracing::info!(sender, contract = settings.contract, "portfolios are settled in a contract");
        Ok(Some(Self {
            client,
            signer,
            settings: settings.clone(),
            sender,
            account,
            wake: Notify::new(),
            genesis: OnceLock::new(),
        }))
    }
}
