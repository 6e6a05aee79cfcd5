//! Signatures over canonical JSON.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{canonical_receipt_json, public_key::Ed25519PublicKey};

/// The only signature algorithm that the coordinator uses.
pub(super) const SIGNATURE_ALGORITHM: &str = "Ed25519";

/// A signature, in the JSON form that accompanies the signed document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Signature algorithm; always `Ed25519`.
    pub alg: String,
    /// Public key of the signer, base64url without padding.
    pub key_id: String,
    /// Signature of 64 bytes, base64url without padding.
    pub sig: String,
}

/// Reason why a signature was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// `alg` is not `Ed25519`.
    #[error("the signature's algorithm is unknown, only Ed25519 is accepted")]
    UnknownAlgorithm,
    /// `key_id` names none of the accepted keys.
    #[error("the signature's key is not one of the accepted keys")]
    UnknownKey,
    /// `sig` is not 64 bytes in base64url without padding.
    #[error("the signature is malformed: it should be 64 bytes in base64url without padding")]
    Malformed,
    /// The signature belongs to another document or another key.
    #[error("the signature does not match what it is said to sign")]
    Mismatch,
}

/// Verify `signature` over the canonical JSON of `payload`. The key is looked up by its id in `accepted`: a key that
/// came with the document would prove nothing.
pub fn verify_signature(
    payload: &Value,
    signature: &Signature,
    accepted: &[Ed25519PublicKey],
) -> Result<(), VerifyError> {
    if signature.alg != SIGNATURE_ALGORITHM {
        return Err(VerifyError::UnknownAlgorithm);
    }
    let key = accepted.iter().find(|key| key.key_id() == signature.key_id).ok_or(VerifyError::UnknownKey)?;
    let bytes = URL_SAFE_NO_PAD.decode(&signature.sig).map_err(|_| VerifyError::Malformed)?;
    let bytes = bytes.as_slice().try_into().map_err(|_| VerifyError::Malformed)?;
    // Strict verification: points of small order, which some implementations accept, are refused.
    key.inner().verify_strict(&canonical_receipt_json(payload), &bytes).map_err(|_| VerifyError::Mismatch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::crypto::Signer;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../../../tests/fixtures/vectors/receipts.json")).unwrap()
    }

    fn signer() -> Signer {
        Signer::from_hex(vectors()["signing_key_hex"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn the_coordinators_signatures_are_made_and_accepted() {
        let (vectors, signer) = (vectors(), signer());
        assert_eq!(signer.public_key_hex(), vectors["public_key_hex"].as_str().unwrap());
        let public = Ed25519PublicKey::from_hex(vectors["public_key_hex"].as_str().unwrap()).unwrap();
        assert_eq!(&public, signer.public_key());
        for vector in vectors["vectors"].as_array().unwrap() {
            let theirs: Signature = serde_json::from_value(vector["signature"].clone()).unwrap();
            assert_eq!(signer.sign(&vector["payload"]), theirs);
            assert_eq!(serde_json::to_value(&theirs).unwrap(), vector["signature"]);
            assert_eq!(verify_signature(&vector["payload"], &theirs, std::slice::from_ref(&public)), Ok(()));
        }
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let (signer, payload) = (signer(), json!({"a": 1}));
        let other = Signer::from_hex(&"17".repeat(32)).unwrap();
        let accepted = [other.public_key().clone(), signer.public_key().clone()];
        let good = signer.sign(&payload);
        assert_eq!(verify_signature(&payload, &good, &accepted), Ok(()));
        assert_eq!(verify_signature(&json!({"a": 2}), &good, &accepted), Err(VerifyError::Mismatch));
        assert_eq!(verify_signature(&payload, &good, &accepted[..1]), Err(VerifyError::UnknownKey));
        assert_eq!(verify_signature(&payload, &good, &[]), Err(VerifyError::UnknownKey));
        for alg in ["ed25519", "none", "", "HS256"] {
            let bad = Signature { alg: alg.into(), ..good.clone() };
            assert_eq!(verify_signature(&payload, &bad, &accepted), Err(VerifyError::UnknownAlgorithm));
        }
        for sig in ["", "AAAA", "not base64!", &format!("{}==", good.sig), &format!("{}AA", good.sig)] {
            let bad = Signature { sig: sig.into(), ..good.clone() };
            assert_eq!(verify_signature(&payload, &bad, &accepted), Err(VerifyError::Malformed), "{sig}");
        }
        let stolen = Signature { key_id: other.key_id().into(), ..good };
        assert_eq!(verify_signature(&payload, &stolen, &accepted), Err(VerifyError::Mismatch));
    }

    /// A receipt with its signature inside, as a file on disk would hold it. No member is null: those are not signed.
    fn signed_document() -> Vec<u8> {
        let payload = json!({
            "execution_id": "exec_1", "cost": 0.03, "tiny": 1e-5, "big": 1e16, "count": 3, "ok": true,
            "text": "naïve \"✓\" 😀", "steps": [{"key": "a", "output": {}}, {"key": "b", "output": [1, 2.5]}],
        });
        let mut document = payload.clone();
        document["signature"] = serde_json::to_value(signer().sign(&payload)).unwrap();
        serde_json::to_vec(&document).unwrap()
    }

    fn is_valid(document: &[u8], accepted: &[Ed25519PublicKey]) -> bool {
        let Ok(Value::Object(mut document)) = serde_json::from_slice(document) else { return false };
        let Some(signature) = document.remove("signature") else { return false };
        let Ok(signature) = serde_json::from_value(signature) else { return false };
        verify_signature(&Value::Object(document), &signature, accepted).is_ok()
    }

    #[test]
    fn any_flipped_bit_of_a_signed_receipt_shows() {
        let (document, accepted) = (signed_document(), [signer().public_key().clone()]);
        let meant: Value = serde_json::from_slice(&document).unwrap();
        assert!(is_valid(&document, &accepted));
        let mut flips = 0;
        for place in 0..document.len() {
            for bit in 0..8 {
                let mut changed = document.clone();
                changed[place] ^= 1 << bit;
                // `1e-5` and `1E-5` are the same number: a change of spelling is no change of the document.
                if serde_json::from_slice::<Value>(&changed).is_ok_and(|value| value == meant) {
                    continue;
                }
                flips += 1;
                assert!(!is_valid(&changed, &accepted), "bit {bit} of byte {place}: {:?}", document[place] as char);
            }
        }
        assert!(flips > document.len() * 8 - 8, "nearly every flip changes the meaning");
    }

    proptest! {
        #[test]
        fn a_replaced_byte_or_a_cut_shows(place in 0..10_000usize, byte in any::<u8>()) {
            let (document, accepted) = (signed_document(), [signer().public_key().clone()]);
            let meant: Value = serde_json::from_slice(&document).unwrap();
            let mut changed = document.clone();
            let place = place % document.len();
            changed[place] = byte;
            let same = serde_json::from_slice::<Value>(&changed).is_ok_and(|value| value == meant);
            prop_assert_eq!(is_valid(&changed, &accepted), same);
            prop_assert!(!is_valid(&document[..place], &accepted));
        }
    }
}
