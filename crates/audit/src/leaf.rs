//! An entry as the row it becomes, and the leaf over it: all columns and who wrote it, to the byte.

use super::{
    merkle::{self, Hash},
    model::{Entry, INVESTIGATE, Source, risk, signature_valid},
};
use am_core::crypto;
use am_db::{codec::Timestamp, raw::Raw};
use serde_json::{Map, Value};

/// The columns of `agent_audit_logs`, in the order of the leaf.
pub const COLUMNS: [&str; 19] = [
    "id",
    "event_type",
    "timestamp",
    "workflow_id",
    "execution_id",
    "step_id",
    "user_id",
    "security_level",
    "ip_address",
    "user_agent",
    "event_data",
    "previous_state",
    "new_state",
    "risk_score",
    "requires_investigation",
    "investigation_notes",
    "cryptographic_hash",
    "signature_valid",
    "created_at",
];

/// What stands before the columns in a leaf, so that it is a leaf of this kind and no other.
const DOMAIN: &[u8] = b"aitbc agent_audit_logs 1\n";

/// The leaf's hash: RFC 6962 over the domain, who wrote the entry, and each column (see [`Raw::encode`]).
pub fn hash<'a>(source: Source, columns: impl IntoIterator<Item = &'a Raw>) -> Hash {
    let mut input = Vec::with_capacity(1024);
    input.extend_from_slice(DOMAIN);
    input.extend_from_slice(source.word().as_bytes());
    input.push(b'\n');
    columns.into_iter().for_each(|column| column.encode(&mut input));
    merkle::leaf(&input)
}

/// An entry as a row, with what the log says of it.
pub struct Sealed {
    /// In the order of [`COLUMNS`].
    pub columns: [Raw; COLUMNS.len()],
    pub leaf: Hash,
    pub event: &'static str,
    pub level: &'static str,
    pub risk: i64,
}

impl Sealed {
    /// Of `entry`, under this id.
    pub fn of(entry: &Entry, id: String, now: Timestamp) -> Self {
        let (event, level) = (entry.event.stored(), entry.level.stored());
        let none = Map::new();
        let members = entry.data.as_object().unwrap_or(&none);
        let risk = risk(entry.event, entry.level, members);
        let signature = signature_valid(members);
        // The form that the hash is made over is the one that is stored: ASCII, so that it is a text whatever was in it.
        let data = crypto::audit(&entry.data);
        let data_hash = (!members.is_empty()).then(|| crypto::sha256_hex(&data));
        let state = |value: &Value| Raw::from(String::from_utf8_lossy(&crypto::audit(value)).into_owned());
        let origin = entry.origin.as_deref();
        let plain = |text: Option<&String>| Raw::from(text.map(|text| text.replace('\0', "\u{fffd}")));
        let columns = [
            id.into(),
            event.into(),
            entry.at.stored().into(),
            plain(entry.workflow_id.as_ref()),
            plain(entry.execution_id.as_ref()),
            plain(entry.step_id.as_ref()),
            plain(entry.user_id.as_ref()),
            level.into(),
            plain(origin.and_then(|origin| origin.ip_address.as_ref())),
            plain(origin.and_then(|origin| origin.user_agent.as_ref())),
            String::from_utf8_lossy(&data).into_owned().into(),
            state(&entry.previous),
            state(&entry.new),
            risk.into(),
            (risk >= INVESTIGATE).into(),
            Raw::Null,
            data_hash.into(),
            signature.into(),
            now.stored().into(),
        ];
        Self { leaf: hash(Source::Service, &columns), columns, event, level, risk }
    }
}
