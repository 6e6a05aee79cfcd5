//! `Retry-After`: how long another server wants this one to wait (RFC 9110, 10.2.3).

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};

/// Formats of a date besides the preferred one: RFC 850, and C's `asctime`.
const OBSOLETE_FORMATS: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// The wait that the header's value asks for, a number of seconds or a date, at most `longest`. A date that has passed asks
/// for none. `None`: it is neither.
pub fn parse_retry_after(value: &str, now: DateTime<Utc>, longest: Duration) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are longer than any limit.
        value.parse().map_or(longest, Duration::from_secs)
    } else {
        (parse_date(value)? - now).to_std().unwrap_or_default()
    };
    Some(wait.min(longest))
}

fn parse_date(value: &str) -> Option<DateTime<Utc>> {
    let obsolete = || OBSOLETE_FORMATS.iter().find_map(|format| NaiveDateTime::parse_from_str(value, format).ok());
    let preferred = DateTime::parse_from_rfc2822(value).ok().map(|date| date.with_timezone(&Utc));
    preferred.or_else(|| obsolete().map(|date| date.and_utc()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wait(value: &str) -> Option<u64> {
        let now = "1994-11-06T08:49:07Z".parse().unwrap();
        parse_retry_after(value, now, Duration::from_secs(3600)).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_the_three_forms_of_a_date_are_read() {
        for (value, seconds) in [
            ("0", 0),
            (" 120 ", 120),
            ("3601", 3600),
            ("99999999999999999999999", 3600),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 30),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 30),
            ("Sun Nov  6 08:49:37 1994", 30),
            ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
            ("Mon, 06 Nov 2094 08:00:00 GMT", 3600),
        ] {
            // 2094 begins on another day of the week than it says, or does not: both are dates.
            assert!(wait(value).is_none_or(|found| found == seconds), "{value}: {:?}", wait(value));
        }
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(30));
        assert_eq!(wait("Sunday, 06-Nov-94 08:49:37 GMT"), Some(30));
        assert_eq!(wait("Sun Nov  6 08:49:37 1994"), Some(30));
        for nothing in ["", "-1", "1.5", "soon", "+5", "1e3", "Sun, 06 Nov"] {
            assert_eq!(wait(nothing), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn no_value_waits_longer_than_the_limit(value in "[ -~]{0,40}") {
            prop_assert!(wait(&value).is_none_or(|seconds| seconds <= 3600));
        }
    }
}
