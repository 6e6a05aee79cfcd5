//! Errors of the start of settlement in a contract.

use am_core::crypto::KeyFileError;

/// Reason why settlement in a contract can't begin.
#[derive(Debug, thiserror::Error)]
pub enum SettlementStartError {
    /// The executable has no signer.
    #[error("`contract` needs an executable that is built with `--features contract-settlement`, and this one is not")]
    NotBuilt,
    /// A setting is missing.
    #[error("{0} is needed with `contract`")]
    Missing(&'static str),
    /// The key file can't be read.
    #[error("PORTFOLIO_SETTLEMENT_KEY_FILE: {0}")]
    KeyFile(#[from] KeyFileError),
    /// The key file holds no key of the curve.
    #[error("PORTFOLIO_SETTLEMENT_KEY_FILE: it holds no key of secp256k1")]
    BadKey,
    /// The contract's address is none.
    #[error("PORTFOLIO_SETTLEMENT_CONTRACT: it is no address")]
    BadContract,
    /// The chain has another id.
    #[error(
        "the node's chain has the id {found}, and PORTFOLIO_SETTLEMENT_CHAIN_ID says {wanted}: nothing is signed for it"
    )]
    OtherChain {
        /// Id that the node says.
        found: u64,
        /// Id of the settings.
        wanted: u64,
    },
    /// The HTTP client can't be made.
    #[error("the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}
