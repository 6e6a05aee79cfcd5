//! Cosignatures of witnesses over signed heads (<https://c2sp.org/tlog-cosignature>, the kind for Ed25519): as of a time, this is
//! the largest head of the log that the witness has seen, and it continues all that it saw before.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::checkpoint::{CheckpointError, signature_line, signatures_by, split_note};
use am_core::crypto::{NoteKey, NoteKeyKind, Signer};
use am_db::codec::Timestamp;

/// Bytes of a line's base64: the key's id, the time and the signature.
const LINE_BYTES: usize = 4 + TIME_BYTES + 64;
/// Bytes of the time, in seconds since 1970, the most significant first.
const TIME_BYTES: usize = 8;
/// The last second that has a calendar's year of four digits, which is all that is stored and shown.
const MAX_SECONDS: u64 = 253_402_300_799;

/// A witness's cosignature over a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AuditCosignature)]
pub struct HeadCosignature {
    /// Name of the witness.
    pub witness: String,
    /// Id of its key in hex, the middle part of its verifier key.
    pub key_id: String,
    /// When the witness signed, in whole seconds.
    pub cosigned_at: Timestamp,
    /// Its signature line in the checkpoint, without the newline.
    pub line: String,
}

/// The message that a witness signs: a header, the time, and the note's text.
fn signed_message(text: &str, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{text}")
}

/// Cosign a signed note in the name of the witness `name` at time `at`. The answer is a signature line with its newline.
///
/// # Errors
/// Returns [`CheckpointError::Malformed`] when it is no note, or the time lies before 1970.
pub fn cosign(note: &str, name: &str, signer: &Signer, at: DateTime<Utc>) -> Result<String, CheckpointError> {
    let (text, _) = split_note(note).ok_or(CheckpointError::Malformed)?;
    let seconds = u64::try_from(at.timestamp()).map_err(|_| CheckpointError::Malformed)?;
    let id = NoteKey::new(name, NoteKeyKind::Cosignature, signer.public_key().clone()).id();
    let signature = signer.sign_bytes(signed_message(text, seconds).as_bytes());
    Ok(signature_line(name, id, &[&seconds.to_be_bytes()[..], &signature].concat()))
}

/// The cosignatures by `key` among `signatures` over a note's text; lines of other keys are ignored.
///
/// # Errors
/// Returns [`CheckpointError::Mismatch`] when one of them does not match the text.
pub(super) fn verify_cosignatures(
    text: &str,
    signatures: &str,
    key: &NoteKey,
) -> Result<Vec<HeadCosignature>, CheckpointError> {
    let verified = |bytes: Vec<u8>| {
        let (time, signature) = bytes.split_first_chunk::<TIME_BYTES>().ok_or(CheckpointError::Mismatch)?;
        let seconds = Some(u64::from_be_bytes(*time)).filter(|seconds| *seconds <= MAX_SECONDS);
        let at = seconds.and_then(|seconds| DateTime::from_timestamp(seconds.cast_signed(), 0));
        let (Some(seconds), Some(at)) = (seconds, at) else { return Err(CheckpointError::Mismatch) };
        if !key.key().verifies(signed_message(text, seconds).as_bytes(), signature) {
            return Err(CheckpointError::Mismatch);
        }
        Ok(HeadCosignature {
            witness: key.name().to_owned(),
            key_id: hex::encode(key.id()),
            cosigned_at: Timestamp(at),
            line: signature_line(key.name(), key.id(), &bytes).trim_end().to_owned(),
        })
    };
    signatures_by(signatures, key.name(), key.id()).map(verified).collect()
}

/// Number of signature lines that have the size of a cosignature, whoever made them.
pub(super) fn count_cosignatures(signatures: &str) -> u64 {
    let bytes = |line: &str| STANDARD.decode(line.rsplit_once(' ')?.1).ok();
    signatures.lines().filter(|line| bytes(line).is_some_and(|bytes| bytes.len() == LINE_BYTES)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::{super::checkpoint::LogCheckpoint, *};
    use am_core::crypto::Ed25519PublicKey;

    const NAME: &str = "witness.example.com/w1";
    /// The checkpoint of the specification, with its log's signature and its witness's.
    const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

    fn witness() -> (Signer, NoteKey) {
        let signer = Signer::from_hex(&"19".repeat(32)).unwrap();
        let key = NoteKey::new(NAME, NoteKeyKind::Cosignature, signer.public_key().clone());
        (signer, key)
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn the_line_of_the_specification_is_told_from_a_logs_own() {
        let (text, signatures) = split_note(EXAMPLE).unwrap();
        assert_eq!(LogCheckpoint::parse(EXAMPLE).unwrap().size, 20_852_163);
        assert_eq!(count_cosignatures(signatures), 1, "the log's own line is shorter");
        let bytes = signatures_by(signatures, NAME, [0x8d, 0x66, 0xcf, 0x3f]).next().unwrap();
        assert_eq!(bytes.len(), TIME_BYTES + 64);
        assert_eq!(u64::from_be_bytes(bytes[..8].try_into().unwrap()), 1_679_315_147, "the time of its message");
        assert_eq!(
            signature_line(NAME, [0x8d, 0x66, 0xcf, 0x3f], &bytes),
            signatures.lines().nth(1).unwrap().to_owned() + "\n"
        );
        // Its message is the one that the specification shows.
        assert_eq!(
            signed_message(text, 1_679_315_147),
            "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
        );
        assert_eq!(verify_cosignatures(text, signatures, &witness().1), Ok(Vec::new()), "another key is not judged");
    }

    #[test]
    fn a_cosignature_has_the_bytes_of_the_specification() {
        let (signer, key) = witness();
        let line = cosign(EXAMPLE, NAME, &signer, at(1_679_315_147)).unwrap();
        let encoded = line.strip_prefix(&format!("\u{2014} {NAME} ")).unwrap().strip_suffix('\n').unwrap();
        let bytes = STANDARD.decode(encoded).unwrap();
        assert_eq!(
            (bytes.len(), &bytes[..4], &bytes[4..12]),
            (LINE_BYTES, &key.id()[..], &1_679_315_147u64.to_be_bytes()[..])
        );
        let (text, signatures) = split_note(EXAMPLE).unwrap();
        assert!(signer.public_key().verifies(signed_message(text, 1_679_315_147).as_bytes(), &bytes[12..]));
        let found = verify_cosignatures(text, &format!("{signatures}{line}"), &key).unwrap();
        assert_eq!(
            (found.len(), found[0].cosigned_at, &*found[0].line),
            (1, Timestamp(at(1_679_315_147)), line.trim_end())
        );
        assert_eq!((found[0].witness.as_str(), found[0].key_id.clone()), (NAME, hex::encode(key.id())));
        assert!(cosign("no note", NAME, &signer, at(1)).is_err() && cosign(EXAMPLE, NAME, &signer, at(-1)).is_err());
    }

    #[test]
    fn a_cosignature_by_a_known_key_that_does_not_match_is_refused() {
        let (signer, key) = witness();
        let (text, _) = split_note(EXAMPLE).unwrap();
        let line = cosign(EXAMPLE, NAME, &signer, at(1_679_315_147)).unwrap();
        assert_eq!(
            verify_cosignatures(&text.replace("20852163", "20852164"), &line, &key),
            Err(CheckpointError::Mismatch)
        );
        let bytes = signatures_by(&line, NAME, key.id()).next().unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let changed = signature_line(NAME, key.id(), &changed);
            assert_eq!(verify_cosignatures(text, &changed, &key), Err(CheckpointError::Mismatch), "byte {at}");
            assert_eq!(verify_cosignatures(text, &format!("{line}{changed}"), &key), Err(CheckpointError::Mismatch));
        }
        for cut in [0, 7, 8, 71] {
            let short = signature_line(NAME, key.id(), &bytes[..cut]);
            assert_eq!(verify_cosignatures(text, &short, &key), Err(CheckpointError::Mismatch), "{cut} bytes");
        }
        // A plain signature by the same key, and the log's own kind of key, are something else.
        let plain = signature_line(NAME, key.id(), &signer.sign_bytes(text.as_bytes()));
        assert_eq!(verify_cosignatures(text, &plain, &key), Err(CheckpointError::Mismatch));
        let other: Ed25519PublicKey = Signer::from_hex(&"18".repeat(32)).unwrap().public_key().clone();
        let other = NoteKey::new(NAME, NoteKeyKind::Cosignature, other);
        assert_eq!(verify_cosignatures(text, &line, &other), Ok(Vec::new()));
    }
}
