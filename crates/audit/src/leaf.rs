//! An entry as a row, and its leaf hash over all columns and the writer, byte for byte.

use super::{
    merkle::{self, NodeHash},
    model::{AuditEntry, EntrySource, INVESTIGATION_THRESHOLD, risk_score, verify_embedded_signature},
};
use am_core::{crypto, ids::AuditId};
use am_db::{codec::Timestamp, sql_value::SqlValue};
use serde_json::{Map, Value};

macro_rules! columns {
    ($($column:ident),+ $(,)?) => {
        /// The columns of `agent_audit_logs`, in the order of the leaf.
        pub const LEAF_COLUMNS: [&str; 19] = [$(stringify!($column)),+];
        /// The same as a statement selects them from table `l`, each with a comma before it.
        pub const SELECTED: &str = concat!($(", l.", stringify!($column)),+);
    };
}

columns! {
    id,
    event_type,
    timestamp,
    workflow_id,
    execution_id,
    step_id,
    user_id,
    security_level,
    ip_address,
    user_agent,
    event_data,
    previous_state,
    new_state,
    risk_score,
    requires_investigation,
    investigation_notes,
    cryptographic_hash,
    signature_valid,
    created_at,
}

/// Prefix of the leaf's input, which separates these leaves from hashes of any other kind.
const LEAF_DOMAIN: &[u8] = b"aitbc agent_audit_logs 1\n";

/// Leaf hash: RFC 6962 over the prefix, the writer of the entry, and each column (see [`SqlValue::encode`]).
pub fn leaf_hash<'a>(source: EntrySource, columns: impl IntoIterator<Item = &'a SqlValue>) -> NodeHash {
    let mut input = Vec::with_capacity(1024);
    input.extend_from_slice(LEAF_DOMAIN);
    input.extend_from_slice(source.word().as_bytes());
    input.push(b'\n');
    columns.into_iter().for_each(|column| column.encode(&mut input));
    merkle::hash_leaf(&input)
}

/// An entry as a row, with the data of its log record.
pub struct SealedEntry {
    /// Values in the order of [`LEAF_COLUMNS`].
    pub columns: [SqlValue; LEAF_COLUMNS.len()],
    pub leaf: NodeHash,
    pub source: EntrySource,
    pub event: &'static str,
    pub level: &'static str,
    pub risk: i64,
}

impl SealedEntry {
    /// Seal `entry` under the given id.
    pub fn from_entry(entry: &AuditEntry, id: AuditId, now: Timestamp) -> Self {
        let (event, level) = (entry.event.stored(), entry.level.stored());
        let none = Map::new();
        let members = entry.data.as_object().unwrap_or(&none);
        let risk = risk_score(entry.event, entry.level, members);
        let signature = verify_embedded_signature(members);
        // The hash is computed over the stored form, which is ASCII and therefore a valid text whatever the data
        // contains.
        let data = crypto::canonical_audit_json(&entry.data);
        let data_hash = (!members.is_empty()).then(|| crypto::sha256_hex(&data));
        let state =
            |value: &Value| SqlValue::from(String::from_utf8_lossy(&crypto::canonical_audit_json(value)).into_owned());
        let origin = entry.origin.as_deref();
        let plain = |text: Option<&str>| SqlValue::from(text.map(|text| text.replace('\0', "\u{fffd}")));
        let columns = [
            id.into(),
            event.into(),
            entry.at.stored().into(),
            plain(entry.workflow_id.as_deref()),
            plain(entry.execution_id.as_deref()),
            plain(entry.step_id.as_deref()),
            plain(entry.user_id.as_deref()),
            level.into(),
            plain(origin.and_then(|origin| origin.ip_address.as_deref())),
            plain(origin.and_then(|origin| origin.user_agent.as_deref())),
            String::from_utf8_lossy(&data).into_owned().into(),
            state(&entry.previous),
            state(&entry.new),
            risk.into(),
            (risk >= INVESTIGATION_THRESHOLD).into(),
            SqlValue::Null,
            data_hash.into(),
            signature.into(),
            now.stored().into(),
        ];
        let source = entry.source;
        Self { leaf: leaf_hash(source, &columns), columns, source, event, level, risk }
    }
}
