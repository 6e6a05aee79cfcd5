//! What stands for the signer in an executable that is built without feature `contract-settlement`: there is none.

use super::{
    fees::FeeTerms,
    model::{ContractCall, SignedCall},
    start_error::SettlementStartError,
};

pub(crate) use AbsentSigner as ContractSigner;

/// No signer: nothing can make one.
pub(crate) enum AbsentSigner {}

impl AbsentSigner {
    /// No signer.
    ///
    /// # Errors
    /// Always [`SettlementStartError::NotBuilt`].
    pub fn new(_: &[u8; 32], _: &str, _: u64) -> Result<Self, SettlementStartError> {
        Err(SettlementStartError::NotBuilt)
    }

    pub fn sender(&self) -> String {
        match *self {}
    }

    pub fn settled_topic(&self) -> String {
        match *self {}
    }

    pub fn call_data(&self, _: &str, _: &str, _: &ContractCall) -> Result<String, String> {
        match *self {}
    }

    pub fn settled_question(&self, _: &str) -> Result<String, String> {
        match *self {}
    }

    pub fn sign_filler(&self, _: u64, _: FeeTerms) -> Result<SignedCall, String> {
        match *self {}
    }

    pub fn sign(&self, _: &str, _: &str, _: &ContractCall, _: u64, _: FeeTerms) -> Result<SignedCall, String> {
        match *self {}
    }
}
