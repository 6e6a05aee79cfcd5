//! Ids of calls of a policy. An id says by itself which version answered and when, so that calls need not be stored; a keyed
//! hash keeps callers from making ids of calls that were never answered.

use am_core::crypto::sha256_hex;
use am_db::codec::Timestamp;

/// What all ids of calls begin with.
const CALL_PREFIX: &str = "call_";
/// Digits of the version, of the time, of the random number and of the hash: hexadecimal, but for the time's.
const DIGITS: [usize; 4] = [8, 20, 16, 16];

/// Maker of call ids.
#[derive(Clone)]
pub struct CallSigner(String);

impl std::fmt::Debug for CallSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallSigner")
    }
}

impl CallSigner {
    /// Create the maker with a secret that all processes of the service have.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(sha256_hex(secret))
    }

    fn hash(&self, policy: &str, digits: &str) -> String {
        let inner = sha256_hex(format!("{}{policy}\0{digits}", self.0).as_bytes());
        sha256_hex(format!("{}{inner}", self.0).as_bytes())[..DIGITS[3]].to_owned()
    }

    /// Make the id of a call that version `version` of `policy` answered at `at`.
    pub(super) fn issue(&self, policy: &str, version: u32, at: Timestamp, random: u64) -> String {
        // The stored form has the time to the microsecond.
        let time: String = at.stored().chars().filter(char::is_ascii_digit).collect();
        let digits = format!("{version:08x}{time:0<20}{random:016x}");
        format!("{CALL_PREFIX}{digits}{}", self.hash(policy, &digits))
    }

    /// Read the version and the time of a call from its id; `None`: it is no id of a call of `policy`.
    pub(super) fn read(&self, policy: &str, id: &str) -> Option<(u32, Timestamp)> {
        let text = id.strip_prefix(CALL_PREFIX)?;
        let length: usize = DIGITS.iter().sum();
        if text.len() != length || !text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')) {
            return None;
        }
        let (digits, hash) = text.split_at(length - DIGITS[3]);
        // Hashed once more, so that the time of the comparison says nothing.
        if sha256_hex(hash.as_bytes()) != sha256_hex(self.hash(policy, digits).as_bytes()) {
            return None;
        }
        let version = u32::from_str_radix(&digits[..DIGITS[0]], 16).ok()?;
        let time = &digits[DIGITS[0]..DIGITS[0] + DIGITS[1]];
        let date = format!("{}-{}-{}", &time[..4], &time[4..6], &time[6..8]);
        let clock = format!("{}:{}:{}.{}", &time[8..10], &time[10..12], &time[12..14], &time[14..]);
        Some((version, Timestamp::from_stored(&format!("{date} {clock}")).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_which_version_answered_and_when() {
        let signer = CallSigner::new(&[7; 32]);
        let at = Timestamp::from_stored("2026-05-12 14:29:30.123456").unwrap();
        let id = signer.issue("p", 3, at, 42);
        assert_eq!(signer.read("p", &id), Some((3, at)));
        assert_eq!(signer.read("q", &id), None, "of another policy");
        assert_eq!(CallSigner::new(&[8; 32]).read("p", &id), None, "of another service");
        for (place, _) in id.char_indices() {
            let mut other = id.clone();
            let digit = if &id[place..=place] == "0" { "1" } else { "0" };
            other.replace_range(place..=place, digit);
            assert_eq!(signer.read("p", &other), None, "{other}");
        }
        for wrong in ["", "call_", "call_ä", &id[..id.len() - 1], &format!("{id}0"), &id.to_uppercase()] {
            assert_eq!(signer.read("p", wrong), None, "{wrong}");
        }
    }
}
