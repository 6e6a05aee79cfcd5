//! The coordinator's formats, decoded and encoded here and nowhere else.
//!
//! SQLAlchemy stores a timestamp as naive text with exactly six digits (three would be read as microseconds), an
//! enumeration by its member's name, and "no value" in a JSON column as the text `null`.

use chrono::{DateTime, Datelike, Local, NaiveDate, NaiveDateTime, TimeZone, Timelike, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::{Decode, Encode, Type, encode::IsNull, error::BoxDynError};

use super::Db;

type Arguments = <Db as sqlx::Database>::ArgumentBuffer;
type ValueRef<'r> = <Db as sqlx::Database>::ValueRef<'r>;

/// A moment: naive UTC text in the database, RFC 3339 with `Z` and six digits outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub DateTime<Utc>);

/// A moment in table `job`, where alone the coordinator writes its local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTimestamp(pub DateTime<Utc>);

/// `2026-05-12 14:29:30.123456`, the coordinator's own form, is read here: chrono's format interpreter takes ten times
/// as long, and each answer has some.
fn parse_exact(text: &[u8]) -> Option<NaiveDateTime> {
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

fn parse(text: &str) -> Result<NaiveDateTime, BoxDynError> {
    if let Some(naive) = parse_exact(text.as_bytes()) {
        return Ok(naive);
    }
    // As lenient as SQLAlchemy: seconds and fraction may be missing, 'T' may stand for the blank.
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"] {
        if let Ok(naive) = NaiveDateTime::parse_from_str(text, format) {
            return Ok(naive);
        }
    }
    Err(format!("not a timestamp: {text:?}").into())
}

/// Date and time with six digits, `separator` between the two.
fn write_naive(naive: NaiveDateTime, separator: u8) -> String {
    let mut text = *b"0000-00-00 00:00:00.000000";
    let mut put = |range: std::ops::Range<usize>, mut value: u32| {
        for digit in text[range].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    // Years outside of 0 to 9999 have no such form; the clock does not show them.
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
    /// From how it stands in the database.
    ///
    /// # Errors
    /// When it is none of SQLAlchemy's forms.
    pub fn from_stored(text: &str) -> Result<Self, BoxDynError> {
        Ok(Self(parse(text)?.and_utc()))
    }

    /// As it stands in the database.
    pub fn stored(self) -> String {
        write_naive(self.0.naive_utc(), b' ')
    }

    /// Seconds from `earlier` to this moment.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0).num_microseconds().unwrap_or(i64::MAX) as f64 / 1e6
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&write_naive(self.0.naive_utc(), b'T'))?;
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
        Ok(Self(DateTime::<Utc>::deserialize(deserializer)?))
    }
}

impl LocalTimestamp {
    fn stored(self) -> String {
        write_naive(self.0.with_timezone(&Local).naive_local(), b' ')
    }
}

fn read_local(text: &str) -> Result<LocalTimestamp, BoxDynError> {
    let naive = parse(text)?;
    // The hour that a change from summer time repeats is read as its first pass, the hour that is skipped as UTC.
    let local = Local.from_local_datetime(&naive).earliest();
    Ok(LocalTimestamp(local.map_or(naive.and_utc(), |local| local.with_timezone(&Utc))))
}

macro_rules! stored_as_text {
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
            fn encode_by_ref(&self, buffer: &mut Arguments) -> Result<IsNull, BoxDynError> {
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

stored_as_text!(Timestamp, Timestamp::from_stored);
stored_as_text!(LocalTimestamp, read_local);

/// A JSON column, kept as the text it is: `null` (or SQL's NULL, read as [`Doc::none`]) is no value.
#[derive(Clone, Debug)]
pub struct Doc(Option<Box<RawValue>>);

impl Doc {
    /// No value.
    pub fn none() -> Self {
        Self(None)
    }

    /// The JSON of `value`.
    ///
    /// # Errors
    /// When `value` can't be written as JSON (a map whose keys are no strings).
    pub fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self::raw(serde_json::value::to_raw_value(value)?))
    }

    /// This JSON text.
    pub fn raw(raw: Box<RawValue>) -> Self {
        Self(Some(raw).filter(|raw| raw.get() != "null"))
    }

    /// What a JSON column holds.
    ///
    /// # Errors
    /// When it is no JSON, not even Python's.
    pub fn from_stored(text: &str) -> Result<Self, serde_json::Error> {
        let raw = RawValue::from_string(text.to_owned()).or_else(|_| RawValue::from_string(without_nan(text)))?;
        Ok(Self::raw(raw))
    }

    /// The same, or `{}` where there is no value: for columns that clients know as objects.
    #[must_use]
    pub fn or_object(self) -> Self {
        if self.0.is_some() { self } else { Self::of(&serde_json::Map::new()).unwrap_or(self) }
    }

    /// The text, if there is a value.
    pub fn get(&self) -> Option<&RawValue> {
        self.0.as_deref()
    }

    /// The text, if there is a value.
    pub fn into_raw(self) -> Option<Box<RawValue>> {
        self.0
    }

    /// Parsed into `T`; `None` where there is no value.
    ///
    /// # Errors
    /// When the text has another shape.
    pub fn parse<T: for<'de> Deserialize<'de>>(&self) -> Result<Option<T>, serde_json::Error> {
        self.0.as_deref().map(|raw| serde_json::from_str(raw.get())).transpose()
    }
}

impl Serialize for Doc {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Doc {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Box<RawValue>>::deserialize(deserializer)?.map_or(Self(None), Self::raw))
    }
}

impl Type<Db> for Doc {
    fn type_info() -> <Db as sqlx::Database>::TypeInfo {
        <String as Type<Db>>::type_info()
    }
    fn compatible(_: &<Db as sqlx::Database>::TypeInfo) -> bool {
        true
    }
}

impl<'q> Encode<'q, Db> for Doc {
    fn encode_by_ref(&self, buffer: &mut Arguments) -> Result<IsNull, BoxDynError> {
        <String as Encode<Db>>::encode(self.get().map_or("null", RawValue::get).to_owned(), buffer)
    }
}

impl<'r> Decode<'r, Db> for Doc {
    fn decode(value: ValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self::from_stored(<&str as Decode<Db>>::decode(value)?)?)
    }
}

/// Python writes NaN and the infinities into JSON, which is none; they are read as null.
fn without_nan(text: &str) -> String {
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

/// An enumeration: its member's name in the database, its value outside.
#[macro_export]
macro_rules! stored_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $stored:literal / $value:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        pub enum $name { $($(#[$variant_meta])* #[serde(rename = $value)] $variant,)+ }

        impl $name {
            /// Every member.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// As the database holds it.
            pub fn stored(self) -> &'static str {
                match self { $(Self::$variant => $stored),+ }
            }
            /// As clients see it.
            pub fn value(self) -> &'static str {
                match self { $(Self::$variant => $value),+ }
            }
            /// From what the database holds.
            pub fn from_stored(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.stored() == text)
            }
            /// From what clients send.
            pub fn from_value(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.value() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.value())
            }
        }

        impl sqlx::Type<$crate::Db> for $name {
            fn type_info() -> <$crate::Db as sqlx::Database>::TypeInfo {
                <String as sqlx::Type<$crate::Db>>::type_info()
            }
        }

        impl<'q> sqlx::Encode<'q, $crate::Db> for $name {
            fn encode_by_ref(
                &self,
                buffer: &mut <$crate::Db as sqlx::Database>::ArgumentBuffer,
            ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
                <&str as sqlx::Encode<$crate::Db>>::encode(self.stored(), buffer)
            }
        }

        impl<'r> sqlx::Decode<'r, $crate::Db> for $name {
            fn decode(value: <$crate::Db as sqlx::Database>::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
                let text = <&str as sqlx::Decode<$crate::Db>>::decode(value)?;
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
        pub enum Level {
            /// One.
            Basic = "BASIC" / "basic",
            /// Two.
            ZeroKnowledge = "ZERO_KNOWLEDGE" / "zero-knowledge",
        }
    }

    #[test]
    fn an_enumeration_has_a_name_and_a_value() {
        assert_eq!(Level::ZeroKnowledge.stored(), "ZERO_KNOWLEDGE");
        assert_eq!(serde_json::to_string(&Level::ZeroKnowledge).unwrap(), "\"zero-knowledge\"");
        assert_eq!(Level::from_value("basic"), Some(Level::Basic));
        assert_eq!(Level::from_value("BASIC"), None);
    }

    #[test]
    fn three_digits_are_read_as_a_fraction_and_written_as_six() {
        let read = Timestamp(parse("2026-05-12 14:29:30.5").unwrap().and_utc());
        assert_eq!(read.stored(), "2026-05-12 14:29:30.500000");
        assert_eq!(read.to_string(), "2026-05-12T14:29:30.500000Z");
        assert_eq!(Timestamp(parse("2026-05-12 14:29:30").unwrap().and_utc()).stored(), "2026-05-12 14:29:30.000000");
        assert!(parse("yesterday").is_err());
    }

    #[test]
    fn what_python_calls_json_is_read() {
        assert_eq!(
            without_nan(r#"{"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \" Infinity"}"#),
            r#"{"a": null, "b": [null, null], "c": "NaN \" Infinity"}"#
        );
    }

    proptest! {
        #[test]
        fn a_timestamp_survives_the_database(micros in 0i64..4_000_000_000_000_000) {
            let moment = Timestamp(DateTime::from_timestamp_micros(micros).unwrap());
            prop_assert_eq!(Timestamp(parse(&moment.stored()).unwrap().and_utc()), moment);
            prop_assert_eq!(moment.stored(), moment.0.format("%Y-%m-%d %H:%M:%S%.6f").to_string());
            let json = serde_json::to_string(&moment).unwrap();
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), moment);
        }

        #[test]
        fn a_document_survives(text in ".*") {
            let doc = Doc::of(&text).unwrap();
            prop_assert_eq!(doc.parse::<String>().unwrap().unwrap(), text);
        }
    }
}
