//! Rows of lists as they are sent: members that are long are left out and named, and a page ends before it has too many bytes.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::{RawValue, to_raw_value};

/// Bytes above which a member is left out of a list's row.
const MAX_MEMBER_BYTES: usize = 8192;
/// Maximum bytes of the rows of a page; its first row may have more.
const MAX_PAGE_BYTES: usize = 4 << 20;
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

/// A row as it is sent in a list.
///
/// # Errors
/// Fails when the row has no JSON form.
pub fn list_row(row: &impl Serialize) -> Result<Box<RawValue>, serde_json::Error> {
    let whole = to_raw_value(row)?;
    if whole.get().len() <= MAX_MEMBER_BYTES {
        return Ok(whole);
    }
    // What is no object has no members to leave out.
    let Ok(RowMembers(members)) = serde_json::from_str(whole.get()) else { return Ok(whole) };
    let is_long = |value: &RawValue| value.get().len() > MAX_MEMBER_BYTES;
    if !members.iter().any(|(_, value)| is_long(value)) {
        return Ok(whole);
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
    RawValue::from_string(text)
}

/// The rows of a page as they are sent: so many as it may have, at least one.
///
/// # Errors
/// As [`list_row`].
pub fn sent_rows<T: Serialize>(rows: &[T]) -> Result<Vec<Box<RawValue>>, serde_json::Error> {
    let mut sent = rows.iter().map(list_row).collect::<Result<Vec<_>, _>>()?;
    sent.truncate(fitting_rows(&sent));
    Ok(sent)
}

/// How many rows from the first on a page may have.
fn fitting_rows(rows: &[Box<RawValue>]) -> usize {
    let mut sum = 0;
    let fitting = rows.iter().map(|row| row.get().len()).take_while(|length| {
        sum += length;
        sum <= MAX_PAGE_BYTES
    });
    fitting.count().max(rows.len().min(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn shown(row: &Value) -> Value {
        serde_json::from_str(list_row(row).unwrap().get()).unwrap()
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
        let row = |bytes: usize| to_raw_value(&"x".repeat(bytes - 2)).unwrap();
        for (rows, expected) in [
            (vec![], 0),
            (vec![row(5 << 20), row(2)], 1),
            (vec![row(2 << 20), row(2 << 20), row(2)], 2),
            (vec![row(10), row(10)], 2),
        ] {
            assert_eq!(fitting_rows(&rows), expected);
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
