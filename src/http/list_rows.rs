//! Rows of lists as they are sent: members that are long are left out and named, and a page ends before it has too many bytes.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Bytes above which a member is left out of a list's row.
const MAX_MEMBER_BYTES: usize = 8192;
/// Maximum bytes of the rows of a page; its first row may have more.
const MAX_PAGE_BYTES: usize = 4 << 20;
/// Bytes for which a page takes memory at once, for each of its rows.
const USUAL_ROW_BYTES: usize = 768;
/// The member that names those that are left out.
const OMITTED: &str = "omitted";

/// Members of an object, in their order.
struct RowMembers<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RowMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RowMembers<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(RowMembers(members))
            }
        }
        from.deserialize_map(Members)
    }
}

/// What stands for a member that is left out: the empty value of its type.
fn empty(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'"') => r#""""#,
        Some(b'{') => "{}",
        Some(b'[') => "[]",
        _ => "null",
    }
}

/// Rows of a page as they are sent: a JSON array.
pub struct SentRows {
    /// The array's text.
    pub json: Vec<u8>,
    /// Number of its rows.
    pub count: usize,
}

impl SentRows {
    /// So many of a page's rows as it may have, at least one.
    ///
    /// # Errors
    /// Fails when a row has no JSON form.
    pub fn of_page<T: Serialize>(rows: &[T]) -> Result<Self, serde_json::Error> {
        Self::within(MAX_PAGE_BYTES, rows)
    }

    /// All rows.
    ///
    /// # Errors
    /// As [`SentRows::of_page`].
    pub fn all<T: Serialize>(rows: &[T]) -> Result<Self, serde_json::Error> {
        Self::within(usize::MAX, rows)
    }

    fn within<T: Serialize>(max_bytes: usize, rows: &[T]) -> Result<Self, serde_json::Error> {
        let mut sent = Self { json: Vec::with_capacity(rows.len() * USUAL_ROW_BYTES + 2), count: 0 };
        sent.json.push(b'[');
        let mut bytes = 0usize;
        for row in rows {
            let end = sent.json.len();
            if sent.count > 0 {
                sent.json.push(b',');
            }
            let begin = sent.json.len();
            push_row(&mut sent.json, row)?;
            bytes = bytes.saturating_add(sent.json.len() - begin);
            if sent.count > 0 && bytes > max_bytes {
                sent.json.truncate(end);
                break;
            }
            sent.count += 1;
        }
        sent.json.push(b']');
        Ok(sent)
    }
}

/// Append a row as it is sent in a list.
fn push_row(json: &mut Vec<u8>, row: &impl Serialize) -> Result<(), serde_json::Error> {
    let begin = json.len();
    serde_json::to_writer(&mut *json, row)?;
    if json.len() - begin > MAX_MEMBER_BYTES
        && let Some(shortened) = without_long_members(&json[begin..])?
    {
        json.truncate(begin);
        json.extend_from_slice(shortened.as_bytes());
    }
    Ok(())
}

/// A row without its members that are long; `None`: there are none. What is no object has none to leave out.
fn without_long_members(row: &[u8]) -> Result<Option<String>, serde_json::Error> {
    let Ok(RowMembers(members)) = serde_json::from_slice(row) else { return Ok(None) };
    let is_long = |value: &RawValue| value.get().len() > MAX_MEMBER_BYTES;
    if !members.iter().any(|(_, value)| is_long(value)) {
        return Ok(None);
    }
    let mut omitted: Vec<&str> = Vec::new();
    let mut text = String::from("{");
    for (name, value) in &members {
        if name == OMITTED {
            omitted.extend(serde_json::from_str::<Vec<&str>>(value.get()).unwrap_or_default());
            continue;
        }
        let shown = if is_long(value) {
            omitted.push(name);
            empty(value.get())
        } else {
            value.get()
        };
        text.push_str(&format!("{}:{shown},", serde_json::to_string(name)?));
    }
    text.push_str(&format!("\"{OMITTED}\":{}}}", serde_json::to_string(&omitted)?));
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn shown(row: &Value) -> Value {
        let mut json = Vec::new();
        push_row(&mut json, row).unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn long_members_are_empty_and_named() {
        let long = "ü".repeat(4096);
        let short = json!({"id": "a", "text": "x".repeat(8190), "deep": [1, {"b": null}]});
        assert_eq!(shown(&short), short, "as long as a member may be");
        let row = json!({"id": "a", "text": long, "doc": {"a": long}, "list": [long], "n": 1.0, "omitted": ["before"]});
        let expected = json!({"id": "a", "text": "", "doc": {}, "list": [], "n": 1.0, "omitted": ["text", "doc", "list", "before"]});
        assert_eq!(shown(&row), expected);
        assert_eq!(shown(&json!([long])), json!([long]), "no object");
    }

    #[test]
    fn a_page_has_a_row_and_ends_before_it_is_too_long() {
        let row = |bytes: usize| "x".repeat(bytes - 2);
        for (rows, expected) in [
            (vec![], 0),
            (vec![row(5 << 20), row(2)], 1),
            (vec![row(2 << 20), row(2 << 20), row(2)], 2),
            (vec![row(10), row(10)], 2),
        ] {
            let sent = SentRows::of_page(&rows).unwrap();
            assert_eq!(sent.count, expected);
            assert_eq!(serde_json::from_slice::<Vec<String>>(&sent.json).unwrap(), rows[..expected]);
            assert_eq!(SentRows::all(&rows).unwrap().count, rows.len());
        }
    }

    proptest! {
        #[test]
        fn what_is_not_named_is_what_it_was(sizes in prop::collection::vec(0usize..10_000, 1..6)) {
            let members: Map<String, Value> =
                sizes.iter().enumerate().map(|(at, size)| (format!("m{at}\""), json!("y".repeat(*size)))).collect();
            let row = Value::Object(members.clone());
            let Value::Object(mut shown) = shown(&row) else { panic!() };
            let omitted: Vec<String> =
                shown.shift_remove("omitted").map(|names| serde_json::from_value(names).unwrap()).unwrap_or_default();
            for (name, value) in &members {
                let is_long = value.to_string().len() > MAX_MEMBER_BYTES;
                prop_assert_eq!(omitted.contains(name), is_long);
                let expected = if is_long { json!("") } else { value.clone() };
                prop_assert_eq!(&shown[name], &expected);
            }
        }
    }
}
