//! `COORDINATOR_CLIENT_ID`: under which id the coordinator knows a caller.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{setting_reader::SettingReader, validate::has_principal_form};

/// Bytes of the longest id.
const MAX_ID_BYTES: usize = 128;
const EXPECTED: &str =
    r#"should be a JSON object: {"key_...": "0x..."}, from principals to the coordinator's ids of clients"#;

/// Ids of clients by the principal. Neither is shown in a refusal: who mistakes the setting may have put a key there.
pub(super) fn read_client_ids(
    from: &mut SettingReader,
    key: &str,
    _: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let table = match from.value(key) {
        None => return BTreeMap::new(),
        Some(Value::String(text)) if text.trim().is_empty() => return BTreeMap::new(),
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        Some(value) => Some(value.clone()),
    };
    let Some(Value::Object(table)) = table else {
        from.reject(key, EXPECTED);
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for (place, (principal, id)) in (1..).zip(table) {
        let id = id.as_str().unwrap_or_default();
        let plain = (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        let fault = if !has_principal_form(&principal) {
            Some("has no principal on its left: key_ or jwt_ and 20 hex digits")
        } else if !plain || has_principal_form(id) {
            Some("has no client's id on its right: 1 to 128 visible ASCII characters, and no principal")
        } else {
            None
        };
        match fault {
            Some(fault) => from.reject(key, format!("entry {place} {fault}")),
            None => drop(found.insert(principal, id.to_owned())),
        }
    }
    found
}
