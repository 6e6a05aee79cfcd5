//! Moments that requests name: a time, or how long ago.

use std::borrow::Cow;

use chrono::DateTime;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, value::StrDeserializer},
};

use super::codec::Timestamp;

/// What a time must look like.
const EXPECTED: &str = "Input should be a time such as 2026-05-12T14:29:30Z, or how long ago: 90s, 30m, 12h, 7d, 4w";

/// A moment that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryMoment {
    /// The moment itself.
    At(Timestamp),
    /// How long ago it is, in seconds.
    SecondsAgo(i64),
}

impl QueryMoment {
    fn parse(text: &str) -> Option<Self> {
        if let Some(seconds) = parse_duration(text) {
            return Some(Self::SecondsAgo(seconds));
        }
        // A plus that was not encoded comes as a blank.
        let text = if text.contains('+') { Cow::Borrowed(text) } else { Cow::Owned(text.replace(' ', "+")) };
        let at = DateTime::parse_from_rfc3339(&text).ok()?.to_utc();
        // What has another year has no stored form.
        (0..=9999).contains(&chrono::Datelike::year(&at)).then_some(Self::At(Timestamp(at)))
    }

    /// The moment, seen from `now`; one before all time is the first.
    pub fn seen_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::SecondsAgo(seconds) => {
                let ago = chrono::Duration::try_seconds(seconds).and_then(|ago| now.0.checked_sub_signed(ago));
                Timestamp(ago.unwrap_or(DateTime::UNIX_EPOCH))
            }
        }
    }
}

/// Read the time that a member of a body names, in any form that times have there, or how long ago it is.
///
/// # Errors
/// When it is neither.
pub fn read_moment<'de, D: Deserializer<'de>>(from: D) -> Result<Option<QueryMoment>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
    let moment = match QueryMoment::parse(text.trim()) {
        Some(moment) => moment,
        None => {
            let read = Timestamp::deserialize(StrDeserializer::<de::value::Error>::new(&text));
            QueryMoment::At(read.map_err(|_| de::Error::custom(EXPECTED))?)
        }
    };
    Ok(Some(moment))
}

/// A time as times are written, and `90s` for how long ago.
impl Serialize for QueryMoment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(at) => at.serialize(to),
            Self::SecondsAgo(seconds) => to.collect_str(&format_args!("{seconds}s")),
        }
    }
}

/// Seconds of a duration such as `7d`.
fn parse_duration(text: &str) -> Option<i64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let digits = text.get(..text.len() - 1)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u32>().ok().filter(|_| is_number).map(|count| i64::from(count) * unit)
}

impl<'de> Deserialize<'de> for QueryMoment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(from)?.trim()).ok_or_else(|| de::Error::custom(EXPECTED))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse().unwrap())
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now = at("2026-05-12T14:29:30Z");
        for (text, expected) in [
            ("2026-05-12T14:29:30Z", "2026-05-12T14:29:30Z"),
            ("2026-05-12T14:29:30.25+02:00", "2026-05-12T12:29:30.25Z"),
            ("2026-05-12T14:29:30 02:00", "2026-05-12T12:29:30Z"),
            ("90s", "2026-05-12T14:28:00Z"),
            ("30m", "2026-05-12T13:59:30Z"),
            ("12h", "2026-05-12T02:29:30Z"),
            ("7d", "2026-05-05T14:29:30Z"),
            ("4w", "2026-04-14T14:29:30Z"),
            ("4294967295w", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(QueryMoment::parse(text).unwrap().seen_from(now), at(expected), "{text}");
        }
        for text in
            ["", "7", "d", "-7d", "+7d", "1.5h", "7 d", "7y", "4294967296s", "2026-05-12", "yesterday", "\u{661}d"]
        {
            assert_eq!(QueryMoment::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_moment_or_none(text in "\\PC{0,40}") {
            let now = at("2026-05-12T14:29:30Z");
            if let Some(moment) = QueryMoment::parse(&text) {
                prop_assert_eq!(moment.seen_from(now).stored().len(), 26);
            }
        }
    }
}
