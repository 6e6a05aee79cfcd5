//! Values exactly as they are stored, whatever type their column declares: for hashes over rows, where each byte
//! counts.

use am_core::ids::TypedId;
use serde::{Deserialize, Serialize};
use sqlx::{Decode, Row as _, TypeInfo as _, ValueRef as _};

use super::{Db, Result, Row, json_cell::JsonCell};

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum SqlValue {
    /// A NULL value.
    Null,
    /// An integer or a boolean.
    Integer(i64),
    /// A text in UTF-8.
    Text(String),
    /// A value that these columns should not hold: text that is not UTF-8, a float or a blob.
    Unsupported {
        /// Kind of the value: `text`, `real`, `blob`, or `key` for an API key that is represented by its hash.
        kind: String,
        /// Bytes of the value in hex; of a float its IEEE 754 form, most significant byte first.
        hex: String,
    },
}

impl SqlValue {
    /// Read column `at` of `row`.
    ///
    /// # Errors
    /// Fails when there is no such column.
    pub fn from_row(row: &Row, at: usize) -> Result<Self> {
        let value = row.try_get_raw(at)?;
        if value.is_null() {
            return Ok(Self::Null);
        }
        let kind = value.type_info().name().to_owned();
        let failed = |error| super::DatabaseError::from(sqlx::Error::Decode(error));
        let odd = |kind: &str, bytes: &[u8]| Self::Unsupported { kind: kind.to_owned(), hex: hex::encode(bytes) };
        Ok(match kind.as_str() {
            "INTEGER" => Self::Integer(<i64 as Decode<Db>>::decode(value).map_err(failed)?),
            "REAL" => odd("real", &<f64 as Decode<Db>>::decode(value).map_err(failed)?.to_be_bytes()),
            "TEXT" => {
                let bytes = <&[u8] as Decode<Db>>::decode(value).map_err(failed)?;
                std::str::from_utf8(bytes).map_or_else(|_| odd("text", bytes), |text| Self::Text(text.to_owned()))
            }
            _ => odd("blob", <&[u8] as Decode<Db>>::decode(value).map_err(failed)?),
        })
    }

    /// Append an unambiguous encoding to `out`, so that different rows of values never have the same bytes: kind (1
    /// byte), length (4 bytes, most significant first), content.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u8, content: &[u8]| {
            out.push(kind);
            out.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(content);
        };
        match self {
            Self::Null => put(b'n', &[]),
            Self::Integer(number) => put(b'i', number.to_string().as_bytes()),
            Self::Text(text) => put(b't', text.as_bytes()),
            Self::Unsupported { kind, hex } => {
                // Not hex, which happens in an export that was tampered with. The text itself is hashed instead.
                let bytes = hex::decode(hex).unwrap_or_else(|_| hex.clone().into_bytes());
                put(if kind == "text" { b't' } else { kind.bytes().next().unwrap_or(b'?') }, &bytes);
            }
        }
    }

    /// Whether it has the one form in which this service shows it, so that two values with the same encoding look the same.
    pub fn is_canonical(&self) -> bool {
        match self {
            Self::Null | Self::Integer(_) | Self::Text(_) => true,
            Self::Unsupported { kind, hex } => match hex::decode(hex) {
                Ok(bytes) if hex::encode(&bytes) == *hex => match kind.as_str() {
                    "text" => std::str::from_utf8(&bytes).is_err(),
                    "real" | "blob" | "key" => true,
                    _ => false,
                },
                _ => false,
            },
        }
    }

    /// The text, `None` for other kinds.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, `None` for other kinds.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

impl From<&str> for SqlValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for SqlValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<K> From<TypedId<K>> for SqlValue {
    fn from(id: TypedId<K>) -> Self {
        Self::Text(id.into())
    }
}

impl<K> From<&TypedId<K>> for SqlValue {
    fn from(id: &TypedId<K>) -> Self {
        id.as_str().into()
    }
}

impl From<i64> for SqlValue {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for SqlValue {
    fn from(truth: bool) -> Self {
        Self::Integer(i64::from(truth))
    }
}

impl<T: Into<Self>> From<Option<T>> for SqlValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Values of the variant `Odd` are only read, never written.
impl JsonCell for SqlValue {
    fn write(&self, out: &mut String) {
        match self {
            SqlValue::Null | SqlValue::Unsupported { .. } => None::<i64>.write(out),
            SqlValue::Integer(number) => number.write(out),
            SqlValue::Text(text) => text.as_str().write(out),
        }
    }
}
