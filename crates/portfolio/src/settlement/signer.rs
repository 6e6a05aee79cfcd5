//! Calls of the contract, and transactions that carry them, signed here. Built with feature `contract-settlement` only.

use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_primitives::{Address, B256, Signature, TxKind, U256, hex, keccak256};
use alloy_sol_types::{SolCall as _, SolEvent as _, sol};
use k256::ecdsa::SigningKey;

use super::{
    fees::FeeTerms,
    model::{ContractCall, SignedCall, TradeLeg, settlement_key},
    start_error::SettlementStartError,
};

// The interface of the contract (docs/ECONOMY.md): all that this service asks of it.
sol! {
    struct TradeLine { bytes32 sellToken; bytes32 buyToken; uint256 sellAmount; uint256 receivedAmount; }
    function create(bytes32 settlement, address agent);
    function deposit(bytes32 settlement, address agent, bytes32 token, uint256 amount);
    function withdraw(bytes32 settlement, address agent, bytes32 token, uint256 amount);
    function trade(bytes32 settlement, address agent, TradeLine[] trades);
    function settled(bytes32 settlement) view returns (bool);
    event Settled(bytes32 indexed settlement, address indexed agent, uint256 portfolio);
}

/// Signs for one account on one chain, to one contract.
pub(crate) struct ContractSigner {
    key: SigningKey,
    sender: Address,
    contract: Address,
    chain_id: u64,
}

impl ContractSigner {
    /// A signer with the key `secret`.
    ///
    /// # Errors
    /// When the secret is no key, or the contract no address.
    pub fn new(secret: &[u8; 32], contract: &str, chain_id: u64) -> Result<Self, SettlementStartError> {
        let key = SigningKey::from_slice(secret).map_err(|_| SettlementStartError::BadKey)?;
        let contract = contract.parse().map_err(|_| SettlementStartError::BadContract)?;
        let public = key.verifying_key().to_sec1_point(false);
        // An account is the end of its public key's hash.
        let hash = keccak256(&public.as_bytes()[1..]);
        Ok(Self { key, sender: Address::from_slice(&hash[12..]), contract, chain_id })
    }

    /// Address of the account, in small letters.
    pub fn sender(&self) -> String {
        address_text(self.sender)
    }

    /// Hash of the event with which the contract says that it has recorded a settlement.
    pub fn settled_topic(&self) -> String {
        hex::encode_prefixed(Settled::SIGNATURE_HASH)
    }

    /// Bytes of a call, in hex. The contract knows the settlement by [`settlement_key`].
    ///
    /// # Errors
    /// When an address, a token or an amount can't be written.
    pub fn call_data(&self, settlement: &str, agent: &str, call: &ContractCall) -> Result<String, String> {
        Ok(hex::encode_prefixed(encode(settlement, agent, call)?))
    }

    /// Bytes of the question whether the contract has a settlement, in hex.
    ///
    /// # Errors
    /// When the settlement's id can't be written.
    pub fn settled_question(&self, settlement: &str) -> Result<String, String> {
        Ok(hex::encode_prefixed(settledCall { settlement: key_word(settlement)? }.abi_encode()))
    }

    /// A signed transaction with this number that makes the call.
    ///
    /// # Errors
    /// As [`ContractSigner::call_data`].
    pub fn sign(
        &self,
        settlement: &str,
        agent: &str,
        call: &ContractCall,
        nonce: u64,
        fees: FeeTerms,
    ) -> Result<SignedCall, String> {
        self.signed(self.contract, encode(settlement, agent, call)?, nonce, fees)
    }

    /// A signed transaction with this number that moves nothing, to the account itself.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn sign_filler(&self, nonce: u64, fees: FeeTerms) -> Result<SignedCall, String> {
        self.signed(self.sender, Vec::new(), nonce, fees)
    }

    fn signed(&self, to: Address, input: Vec<u8>, nonce: u64, fees: FeeTerms) -> Result<SignedCall, String> {
        let transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit: fees.gas_limit,
            max_fee_per_gas: u128::from(fees.max_fee),
            max_priority_fee_per_gas: u128::from(fees.priority_fee),
            to: TxKind::Call(to),
            value: U256::ZERO,
            access_list: Default::default(),
            input: input.into(),
        };
        let hash = transaction.signature_hash();
        let (signature, recovery) = self.key.sign_prehash_recoverable(hash.as_slice());
        let bytes = signature.to_bytes();
        let (r, s) = (U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..]));
        let signed = transaction.into_signed(Signature::new(r, s, recovery.is_y_odd()));
        let mut raw = Vec::new();
        signed.eip2718_encode(&mut raw);
        Ok(SignedCall { raw: hex::encode_prefixed(&raw), hash: hex::encode_prefixed(signed.hash()) })
    }
}

fn address_text(address: Address) -> String {
    hex::encode_prefixed(address)
}

fn key_word(settlement: &str) -> Result<B256, String> {
    settlement_key(settlement).parse().map_err(|_| "the settlement's id can't be written".to_owned())
}

/// A symbol as the contract has it: its characters, zeros behind them.
fn token_word(token: &str) -> Result<B256, String> {
    let mut word = [0; 32];
    let place = word.get_mut(..token.len()).ok_or_else(|| format!("the token {token} can't be written"))?;
    place.copy_from_slice(token.as_bytes());
    Ok(word.into())
}

fn amount_word(units: i64) -> Result<U256, String> {
    u64::try_from(units).map(U256::from).map_err(|_| "an amount is below zero".to_owned())
}

fn line_of(leg: &TradeLeg) -> Result<TradeLine, String> {
    Ok(TradeLine {
        sellToken: token_word(&leg.sell_token)?,
        buyToken: token_word(&leg.buy_token)?,
        sellAmount: amount_word(leg.sell_amount)?,
        receivedAmount: amount_word(leg.received_amount)?,
    })
}

fn encode(settlement: &str, agent: &str, call: &ContractCall) -> Result<Vec<u8>, String> {
    let settlement = key_word(settlement)?;
    let agent: Address = agent.parse().map_err(|_| format!("{agent} is no address"))?;
    Ok(match call {
        ContractCall::Create => createCall { settlement, agent }.abi_encode(),
        ContractCall::Deposit { token, amount } => {
            let (token, amount) = (token_word(token)?, amount_word(*amount)?);
            depositCall { settlement, agent, token, amount }.abi_encode()
        }
        ContractCall::Withdraw { token, amount } => {
            let (token, amount) = (token_word(token)?, amount_word(*amount)?);
            withdrawCall { settlement, agent, token, amount }.abi_encode()
        }
        ContractCall::Trade { trades } => {
            let trades = trades.iter().map(line_of).collect::<Result<_, _>>()?;
            tradeCall { settlement, agent, trades }.abi_encode()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first account of every local test chain, whose key is public.
    const SECRET: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    const CONTRACT: &str = "0x5fbdb2315678afecb367f032d93f642f64180aa3";
    const AGENT: &str = "0x00000000000000000000000000000000000000a1";

    fn signer() -> ContractSigner {
        let mut secret = [0; 32];
        hex::decode_to_slice(SECRET, &mut secret).unwrap();
        ContractSigner::new(&secret, CONTRACT, 31_337).unwrap()
    }

    #[test]
    fn the_account_is_that_of_the_key() {
        assert_eq!(signer().sender(), "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");
        assert!(ContractSigner::new(&[0; 32], CONTRACT, 1).is_err());
        assert!(ContractSigner::new(&[1; 32], "0x12", 1).is_err());
    }

    #[test]
    fn calls_are_written_as_the_interface_says() {
        let data = signer().call_data("settle_1", AGENT, &ContractCall::Create).unwrap();
        assert_eq!(data.len(), 2 + 8 + 2 * 64);
        assert_eq!(&data[10..74], &settlement_key("settle_1")[2..]);
        assert_eq!(&data[74..], format!("{:0>64}", &AGENT[2..]));
        let call = ContractCall::Deposit { token: "AIT".into(), amount: 150_000_000 };
        let data = signer().call_data("settle_1", AGENT, &call).unwrap();
        assert_eq!(&data[138..202], format!("{:0<64}", "414954"));
        assert_eq!(&data[202..], format!("{:064x}", 150_000_000));
        let bad = ContractCall::Deposit { token: "AIT".into(), amount: -1 };
        assert!(signer().call_data("settle_1", AGENT, &bad).is_err());
        assert!(signer().call_data("settle_1", "0x12", &ContractCall::Create).is_err());
    }

    /// The same content gives the same bytes: a transaction that is signed again is the one that was stored.
    #[test]
    fn signing_is_repeatable_and_tells_what_differs() {
        let fees = FeeTerms { gas_limit: 300_000, max_fee: 3_000_000_000, priority_fee: 1_000_000_000 };
        let sign = |nonce, fees| signer().sign("settle_1", AGENT, &ContractCall::Create, nonce, fees).unwrap();
        let first = sign(7, fees);
        assert_eq!(first, sign(7, fees));
        assert!(first.raw.starts_with("0x02f8"), "{}", first.raw);
        assert_eq!(first.hash, hex::encode_prefixed(keccak256(hex::decode(&first.raw).unwrap())));
        assert_ne!(first.hash, sign(8, fees).hash);
        assert_ne!(first.hash, sign(7, FeeTerms { max_fee: 4_000_000_000, ..fees }).hash);
    }
}
