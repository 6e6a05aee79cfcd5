//! Moments from which on lists are shown.

use std::time::Duration;

use am_core::ambient::Clock;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

/// Moment from which on rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinceMoment {
    /// So long before now.
    Ago(Duration),
    /// At this time.
    At(DateTime<Utc>),
}

impl SinceMoment {
    /// The moment itself.
    pub fn instant(self, clock: &Clock) -> DateTime<Utc> {
        match self {
            Self::Ago(duration) => clock.now() - duration,
            Self::At(moment) => moment,
        }
    }
}

/// Read a duration, a date or a time.
///
/// # Errors
/// What would be read.
pub fn parse_since(text: &str) -> Result<SinceMoment, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(SinceMoment::At(date.and_time(NaiveTime::MIN).and_utc()));
    }
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(SinceMoment::At(moment.to_utc()));
    }
    let ago = humantime::parse_duration(text).ok().filter(|ago| *ago < Duration::from_secs(100 * 365 * 86_400));
    ago.map(SinceMoment::Ago)
        .ok_or_else(|| "should be a duration such as 12h or 7d, or a date such as 2027-01-31".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_duration_a_date_or_a_time() {
        let at = |text: &str| Some(SinceMoment::At(text.parse().unwrap()));
        for (text, expected) in [
            ("7d", Some(SinceMoment::Ago(Duration::from_secs(7 * 86400)))),
            ("1h 30m", Some(SinceMoment::Ago(Duration::from_secs(5400)))),
            ("2027-01-31", at("2027-01-31T00:00:00Z")),
            ("2027-01-31T12:00:00+02:00", at("2027-01-31T10:00:00Z")),
            ("", None),
            ("yesterday", None),
            ("-1d", None),
            ("99999999999999y", None),
            ("9999999y", None),
        ] {
            assert_eq!(parse_since(text).ok(), expected, "{text}");
        }
    }
}
