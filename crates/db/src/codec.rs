//! Codecs of the coordinator's storage formats; no other module encodes or decodes them.
//!
//! SQLAlchemy stores a timestamp as naive text with exactly six digits of a second (three would be read as
//! microseconds), an enumeration by its member's name, and "no value" in a JSON column as the text `null`.

use std::{fmt::Write as _, sync::Arc};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::{Decode, Encode, Type, ValueRef as _, encode::IsNull, error::BoxDynError};
use utoipa::openapi::{
    ObjectBuilder, RefOr, Schema,
    schema::{self, KnownFormat, SchemaFormat, SchemaType},
};

use super::{
    Db,
    json_cell::{JsonCell, write_as_json},
};

type ArgumentBuffer = <Db as sqlx::Database>::ArgumentBuffer;
type ValueRef<'r> = <Db as sqlx::Database>::ValueRef<'r>;

/// A moment in UTC with microseconds: naive text in the database, RFC 3339 with `Z` and six digits in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub DateTime<Utc>);

/// Parse the coordinator's usual form, `2026-05-12 14:29:30.123456`. chrono's format interpreter takes ten times as
/// long, and each answer has several timestamps.
fn parse_exact_timestamp(text: &[u8]) -> Option<NaiveDateTime> {
    let shape = text.len() == 26 && [text[4], text[7], text[10], text[13], text[16], text[19]] == *b"-- ::.";
    let number = |range: std::ops::Range<usize>| {
        text[range]
            .iter()
            .try_fold(0u32, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
    };
    if !shape {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(number(0..4)?.cast_signed(), number(5..7)?, number(8..10)?)?;
    date.and_hms_micro_opt(number(11..13)?, number(14..16)?, number(17..19)?, number(20..26)?)
}

pub(super) fn parse_timestamp(text: &str) -> Result<NaiveDateTime, BoxDynError> {
    if let Some(naive) = parse_exact_timestamp(text.as_bytes()) {
        return Ok(naive);
    }
    // As lenient as SQLAlchemy: seconds and fraction are optional, 'T' may replace the space.
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"] {
        if let Ok(naive) = NaiveDateTime::parse_from_str(text, format) {
            return Ok(naive);
        }
    }
    Err(format!("not a timestamp: {text:?}").into())
}

/// Format date and time with six digits of a second and `separator` between the two.
pub(super) fn format_naive(naive: NaiveDateTime, separator: u8) -> String {
    let mut text = *b"0000-00-00 00:00:00.000000";
    let mut put = |range: std::ops::Range<usize>, mut value: u32| {
        for digit in text[range].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    // Years outside 0 to 9999 have no such form; the clock never returns them.
    put(0..4, naive.year().clamp(0, 9999).unsigned_abs());
    put(5..7, naive.month());
    put(8..10, naive.day());
    put(11..13, naive.hour());
    put(14..16, naive.minute());
    put(17..19, naive.second());
    put(20..26, (naive.nanosecond() / 1000).min(999_999));
    text[10] = separator;
    text.iter().map(|byte| char::from(*byte)).collect()
}

impl Timestamp {
    /// Parse the stored form.
    ///
    /// # Errors
    /// Fails when the text has none of SQLAlchemy's forms.
    pub fn from_stored(text: &str) -> Result<Self, BoxDynError> {
        Ok(Self(parse_timestamp(text)?.and_utc()))
    }

    /// The stored form, naive text in UTC.
    pub fn stored(self) -> String {
        format_naive(self.0.naive_utc(), b' ')
    }

    /// Seconds from `earlier` to this moment.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0).num_microseconds().unwrap_or(i64::MAX) as f64 / 1e6
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format_naive(self.0.naive_utc(), b'T'))?;
        f.write_str("Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = DateTime::<Utc>::deserialize(deserializer);
        read.map(Self).map_err(|_| serde::de::Error::custom("Should be a time, as \"2026-12-01T09:00:00Z\""))
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        ObjectBuilder::new().schema_type(schema::Type::String).format(Some(format)).into()
    }
}

impl utoipa::ToSchema for Timestamp {}

macro_rules! impl_text_codec {
    ($name:ty, $read:path) => {
        impl Type<Db> for $name {
            fn type_info() -> <Db as sqlx::Database>::TypeInfo {
                <String as Type<Db>>::type_info()
            }
            fn compatible(_: &<Db as sqlx::Database>::TypeInfo) -> bool {
                true
            }
        }
        impl<'q> Encode<'q, Db> for $name {
            fn encode_by_ref(&self, buffer: &mut ArgumentBuffer) -> Result<IsNull, BoxDynError> {
                <String as Encode<Db>>::encode(self.stored(), buffer)
            }
        }
        impl<'r> Decode<'r, Db> for $name {
            fn decode(value: ValueRef<'r>) -> Result<Self, BoxDynError> {
                $read(<&str as Decode<Db>>::decode(value)?)
            }
        }
    };
}

impl_text_codec!(Timestamp, Timestamp::from_stored);

/// The text of a JSON column, shared by its copies. `null`, or SQL's NULL read as [`JsonText::none`], is no value.
#[derive(Clone, Debug)]
pub struct JsonText(Option<Arc<RawValue>>);

impl JsonText {
    /// A column without a value.
    pub fn none() -> Self {
        Self(None)
    }

    /// Serialize `value` as JSON.
    ///
    /// # Errors
    /// Fails when `value` has no JSON form, such as a map whose keys are not strings.
    pub fn from_value(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self::from_raw(serde_json::value::to_raw_value(value)?))
    }

    /// Wrap JSON text.
    pub fn from_raw(raw: Box<RawValue>) -> Self {
        Self(Some(raw).filter(|raw| raw.get() != "null").map(Arc::from))
    }

    /// Parse the stored text of a JSON column.
    ///
    /// # Errors
    /// Fails when the text is neither JSON nor what Python writes for NaN and infinities.
    pub fn from_stored(text: &str) -> Result<Self, serde_json::Error> {
        let raw =
            RawValue::from_string(text.to_owned()).or_else(|_| RawValue::from_string(replace_nan_with_null(text)))?;
        Ok(Self::from_raw(raw))
    }

    /// The same value, or `{}` when there is none: for columns that the API documents as objects.
    #[must_use]
    pub fn or_empty_object(self) -> Self {
        if self.0.is_some() { self } else { Self::from_value(&serde_json::Map::new()).unwrap_or(self) }
    }

    /// The JSON text, `None` when there is no value.
    pub fn get(&self) -> Option<&RawValue> {
        self.0.as_deref()
    }

    /// A copy of the JSON text, `None` when there is no value.
    pub fn into_raw(self) -> Option<Box<RawValue>> {
        self.0.as_deref().map(ToOwned::to_owned)
    }

    /// Deserialize as `T`; `None` when there is no value.
    ///
    /// # Errors
    /// Fails when the text does not have the form of `T`.
    pub fn parse<T: for<'de> Deserialize<'de>>(&self) -> Result<Option<T>, serde_json::Error> {
        self.0.as_deref().map(|raw| serde_json::from_str(raw.get())).transpose()
    }
}

impl Serialize for JsonText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_deref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Box<RawValue>>::deserialize(deserializer)?.map_or(Self(None), Self::from_raw))
    }
}

impl utoipa::PartialSchema for JsonText {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(SchemaType::AnyValue).into()
    }
}

impl utoipa::ToSchema for JsonText {}

impl Type<Db> for JsonText {
    fn type_info() -> <Db as sqlx::Database>::TypeInfo {
        <String as Type<Db>>::type_info()
    }
    fn compatible(_: &<Db as sqlx::Database>::TypeInfo) -> bool {
        true
    }
}

impl<'q> Encode<'q, Db> for JsonText {
    fn encode_by_ref(&self, buffer: &mut ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <String as Encode<Db>>::encode(self.get().map_or("null", RawValue::get).to_owned(), buffer)
    }
}

impl<'r> Decode<'r, Db> for JsonText {
    fn decode(value: ValueRef<'r>) -> Result<Self, BoxDynError> {
        if value.is_null() {
            return Ok(Self::none());
        }
        Ok(Self::from_stored(<&str as Decode<Db>>::decode(value)?)?)
    }
}

/// A column whose JSON is read as `T`.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T> Json<T> {
    /// What was read.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Type<Db> for Json<T> {
    fn type_info() -> <Db as sqlx::Database>::TypeInfo {
        <String as Type<Db>>::type_info()
    }
    fn compatible(_: &<Db as sqlx::Database>::TypeInfo) -> bool {
        true
    }
}

impl<'r, T: for<'de> Deserialize<'de>> Decode<'r, Db> for Json<T> {
    fn decode(value: ValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(serde_json::from_str(<&str as Decode<Db>>::decode(value)?)?))
    }
}

/// A JSON column that is read as `T`, and as its default where there is no value.
#[derive(Clone, Copy, Debug)]
pub struct JsonOr<T>(pub T);

impl<T> JsonOr<T> {
    /// What was read.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Type<Db> for JsonOr<T> {
    fn type_info() -> <Db as sqlx::Database>::TypeInfo {
        <String as Type<Db>>::type_info()
    }
    fn compatible(_: &<Db as sqlx::Database>::TypeInfo) -> bool {
        true
    }
}

impl<'r, T: for<'de> Deserialize<'de> + Default> Decode<'r, Db> for JsonOr<T> {
    fn decode(value: ValueRef<'r>) -> Result<Self, BoxDynError> {
        if value.is_null() {
            return Ok(Self(T::default()));
        }
        let text = <&str as Decode<Db>>::decode(value)?;
        // What the coordinator writes for NaN and infinities is replaced only where there are some.
        let read = serde_json::from_str::<Option<T>>(text).or_else(|_| JsonText::from_stored(text)?.parse())?;
        Ok(Self(read.unwrap_or_default()))
    }
}

/// Replace NaN and infinities, which Python writes although JSON has none, by null.
fn replace_nan_with_null(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(c) = rest.chars().next() {
        let word = ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| !quoted && rest.starts_with(word));
        let taken = match word {
            Some(word) => {
                out.push_str("null");
                word.len()
            }
            None if quoted && c == '\\' => {
                let escape = rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at);
                out.push_str(&rest[..escape]);
                escape
            }
            None => {
                quoted ^= c == '"';
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

impl JsonCell for Timestamp {
    fn write(&self, out: &mut String) {
        let _ = write!(out, "\"{}\"", self.stored());
    }
}

/// JSON columns are stored as text.
impl JsonCell for JsonText {
    fn write(&self, out: &mut String) {
        write_as_json(self.get().map_or("null", RawValue::get), out);
    }
}

/// Define an enumeration that is stored under its member's name and shown to clients under its value.
///
/// The value is a token tree and not a literal: utoipa reads `serde(rename)` only from a literal that no macro has wrapped.
#[macro_export]
macro_rules! stored_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $stored:literal / $value:tt,)+ }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        $(#[$meta])*
        pub enum $name { $($(#[$variant_meta])* #[serde(rename = $value)] $variant,)+ }

        impl $name {
            /// All members in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The stored form: the member's name.
            pub fn stored(self) -> &'static str {
                match self { $(Self::$variant => $stored),+ }
            }
            /// The form shown to clients: the member's value.
            pub fn value(self) -> &'static str {
                match self { $(Self::$variant => $value),+ }
            }
            /// Parse the stored form; `None` when no member has this name.
            pub fn from_stored(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.stored() == text)
            }
            /// Parse the form that clients send; `None` when no member has this value.
            pub fn from_value(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.value() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.value())
            }
        }

        impl $crate::json_cell::JsonCell for $name {
            fn write(&self, out: &mut String) {
                $crate::json_cell::JsonCell::write(self.stored(), out);
            }
        }

        impl $crate::sqlx::Type<$crate::Db> for $name {
            fn type_info() -> <$crate::Db as $crate::sqlx::Database>::TypeInfo {
                <String as $crate::sqlx::Type<$crate::Db>>::type_info()
            }
        }

        impl<'q> $crate::sqlx::Encode<'q, $crate::Db> for $name {
            fn encode_by_ref(
                &self,
                buffer: &mut <$crate::Db as $crate::sqlx::Database>::ArgumentBuffer,
            ) -> std::result::Result<$crate::sqlx::encode::IsNull, $crate::sqlx::error::BoxDynError> {
                <&str as $crate::sqlx::Encode<$crate::Db>>::encode(self.stored(), buffer)
            }
        }

        impl<'r> $crate::sqlx::Decode<'r, $crate::Db> for $name {
            fn decode(value: <$crate::Db as $crate::sqlx::Database>::ValueRef<'r>) -> std::result::Result<Self, $crate::sqlx::error::BoxDynError> {
                let text = <&str as $crate::sqlx::Decode<$crate::Db>>::decode(value)?;
                Self::from_stored(text)
                    .ok_or_else(|| format!("{text:?} is no {}", stringify!($name)).into())
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    stored_enum! {
        /// For the test.
        pub enum CodecLevel {
            /// One.
            Basic = "BASIC" / "basic",
            /// Two.
            ZeroKnowledge = "ZERO_KNOWLEDGE" / "zero-knowledge",
        }
    }

    #[test]
    fn an_enumeration_has_a_name_and_a_value() {
        assert_eq!(CodecLevel::ZeroKnowledge.stored(), "ZERO_KNOWLEDGE");
        assert_eq!(serde_json::to_string(&CodecLevel::ZeroKnowledge).unwrap(), "\"zero-knowledge\"");
        assert_eq!(CodecLevel::from_value("basic"), Some(CodecLevel::Basic));
        assert_eq!(CodecLevel::from_value("BASIC"), None);
    }

    #[test]
    fn three_digits_are_read_as_a_fraction_and_written_as_six() {
        let read = Timestamp(parse_timestamp("2026-05-12 14:29:30.5").unwrap().and_utc());
        assert_eq!(read.stored(), "2026-05-12 14:29:30.500000");
        assert_eq!(read.to_string(), "2026-05-12T14:29:30.500000Z");
        let whole = Timestamp(parse_timestamp("2026-05-12 14:29:30").unwrap().and_utc());
        assert_eq!(whole.stored(), "2026-05-12 14:29:30.000000");
        assert!(parse_timestamp("yesterday").is_err());
    }

    #[test]
    fn what_python_calls_json_is_read() {
        assert_eq!(
            replace_nan_with_null(r#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \" Infinity"}"#),
            r#"{"a": null, "b": [null, null], "c": "NaN \" Infinity"}"#
        );
    }

    proptest! {
        #[test]
        fn a_timestamp_survives_the_database(micros in 0i64..4_000_000_000_000_000) {
            let moment = Timestamp(DateTime::from_timestamp_micros(micros).unwrap());
            prop_assert_eq!(Timestamp(parse_timestamp(&moment.stored()).unwrap().and_utc()), moment);
            prop_assert_eq!(moment.stored(), moment.0.format("%Y-%m-%d %H:%M:%S%.6f").to_string());
            let json = serde_json::to_string(&moment).unwrap();
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), moment);
        }

        #[test]
        fn a_document_survives(text in ".*") {
            let doc = JsonText::from_value(&text).unwrap();
            prop_assert_eq!(doc.parse::<String>().unwrap().unwrap(), text);
        }
    }
}
