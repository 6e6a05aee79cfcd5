//! Entries about the log itself: a change of its key, and a restore. They are signed, so that verification need not trust
//! the database.

use serde_json::{Map, Value, json};

use am_core::{
    crypto::{self, Ed25519PublicKey, Signer},
    strict_json::parse_strict_json,
};

/// The resource in such an entry's data.
pub const LOG_RESOURCE: &str = "audit_log";
/// The key was changed; both keys signed it.
pub const KEY_ROTATED: &str = "key_rotated";
/// The key was changed, and the one before was lost.
pub const KEY_REPLACED: &str = "key_replaced";
/// An older state of the database was restored.
pub const RESTORED: &str = "restored";

/// Complete and sign an entry's data: by the key before, if there is one, then over that as well by the current key.
pub fn sign_members(
    action: &str,
    mut members: Map<String, Value>,
    signer: &Signer,
    previous: Option<&Signer>,
) -> Map<String, Value> {
    members.insert("resource".into(), json!(LOG_RESOURCE));
    members.insert("action".into(), json!(action));
    if let Some(previous) = previous {
        members.insert("old_public_key".into(), json!(previous.public_key_hex()));
        let message = crypto::canonical_receipt_json(&Value::Object(members.clone()));
        members.insert("old_signature".into(), json!(hex::encode(previous.sign_bytes(&message))));
    }
    let message = crypto::canonical_receipt_json(&Value::Object(members.clone()));
    members.insert("signature".into(), json!(hex::encode(signer.sign_bytes(&message))));
    members.insert("public_key".into(), json!(signer.public_key_hex()));
    members
}

/// What an entry about the log says, with the keys whose signatures hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogStatement {
    /// The key `old` was replaced by `new`, and both signed that.
    KeyRotated { old: Ed25519PublicKey, new: Ed25519PublicKey },
    /// Another key signs from here on, and only that one says so.
    KeyReplaced { new: Ed25519PublicKey },
    /// The heads over more than `head_size` entries, up to `lost_size`, were lost by a restore.
    Restored { by: Ed25519PublicKey, epoch: u64, head_size: u64, lost_size: u64, reason: String },
}

impl LogStatement {
    /// Read an entry's data; `None` when it is not about the log or a signature does not hold.
    pub fn read(data: &str) -> Option<Self> {
        let Value::Object(mut members) = parse_strict_json(data.as_bytes()).ok()? else { return None };
        if members.get("resource")? != LOG_RESOURCE {
            return None;
        }
        let new = key(&members.remove("public_key")?)?;
        let signature = hex::decode(members.remove("signature")?.as_str()?).ok()?;
        if !new.verifies(&crypto::canonical_receipt_json(&Value::Object(members.clone())), &signature) {
            return None;
        }
        let number = |name: &str| members.get(name).and_then(Value::as_u64);
        match members.get("action")?.as_str()? {
            KEY_ROTATED => {
                let signature = hex::decode(members.remove("old_signature")?.as_str()?).ok()?;
                let old = key(members.get("old_public_key")?)?;
                let good = old.verifies(&crypto::canonical_receipt_json(&Value::Object(members)), &signature);
                good.then_some(Self::KeyRotated { old, new })
            }
            KEY_REPLACED => Some(Self::KeyReplaced { new }),
            RESTORED => Some(Self::Restored {
                epoch: number("epoch")?,
                head_size: number("head_size")?,
                lost_size: number("lost_size")?,
                reason: members.get("reason")?.as_str()?.to_owned(),
                by: new,
            }),
            _ => None,
        }
    }
}

fn key(value: &Value) -> Option<Ed25519PublicKey> {
    Ed25519PublicKey::from_hex(value.as_str()?).ok()
}
