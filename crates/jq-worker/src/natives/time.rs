//! Points in time.

use jaq_json::Val;

use super::{
    NativeFilters, bound, one_value,
    time_reader::{TimeReader, days_before},
};
use crate::value::{JqError, JqResult, JqValue, number};

const DAY_SECONDS: i64 = 86_400;

/// Return the filters of this module.
pub fn filters() -> NativeFilters {
    vec![
        // Seconds since 1970 of a broken-down time, whose members may be out of their ranges; null if one is no number.
        ("_timegm", bound(&[]), |cv| one_value(seconds(&cv.1))),
        // The broken-down time that a text says; null if the text is of another format.
        ("_strptime", bound(&["$format"]), |mut cv| {
            let format = cv.0.pop_var();
            one_value(Ok(parse_time(&cv.1, &format).unwrap_or_default()))
        }),
        ("_time_format", bound(&[]), |cv| one_value(Ok(plain_format(&cv.1)))),
    ]
}

/// Return a format without what depends on a place, by C's.
fn plain_format(format: &JqValue) -> JqValue {
    let format = String::from_utf8_lossy(format.as_text().unwrap_or_default()).into_owned();
    let (mut out, mut characters) = (String::new(), format.chars());
    while let Some(character) = characters.next() {
        out.push(character);
        if character != '%' {
            continue;
        }
        let Some(directive) = characters.next() else { break };
        let instead = match directive {
            'c' => "a %b %e %H:%M:%S %Y",
            'x' => "m/%d/%y",
            'X' => "H:%M:%S",
            'Z' => {
                out.pop();
                "GMT"
            }
            other => {
                out.push(other);
                continue;
            }
        };
        out.push_str(instead);
    }
    JqValue::text(out)
}

fn parse_time(text: &JqValue, format: &JqValue) -> Option<JqValue> {
    let (text, format) = (std::str::from_utf8(text.as_text()?).ok()?, std::str::from_utf8(format.as_text()?).ok()?);
    let mut read = TimeReader::new(text);
    read.format(format)?;
    let rest = read.rest;
    if !rest.is_empty() && !rest.starts_with(|character: char| character.is_ascii_whitespace()) {
        return None;
    }
    let mut members = read.broken_down();
    if !rest.is_empty() {
        members.push(JqValue::text(rest));
    }
    Some(members.into_iter().collect())
}

fn seconds(value: &JqValue) -> JqResult {
    let Val::Arr(members) = &value.0 else { return Ok(JqValue::NULL) };
    let mut parts = [0i64; 6];
    for (part, member) in parts.iter_mut().zip(members.iter()) {
        let Val::Num(number) = member else { return Ok(JqValue::NULL) };
        let float = number::float(number);
        if float.is_nan() {
            return Ok(JqValue::NULL);
        }
        *part = float.clamp(f64::from(i32::MIN), f64::from(i32::MAX)) as i64;
    }
    if members.iter().skip(6).any(|member| !matches!(member, Val::Num(number) if !number::float(number).is_nan())) {
        return Ok(JqValue::NULL);
    }
    let [year, month, day, hour, minute, second] = parts;
    let days = days_before(year + month.div_euclid(12), month.rem_euclid(12)) + day - 1;
    let total = days * DAY_SECONDS + hour * 3600 + minute * 60 + second;
    isize::try_from(total).map(JqValue::from).map_err(JqError::str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_out_of_their_ranges_are_carried() {
        let seconds = |text: &str| seconds(&JqValue(jaq_json::read::parse_single(text.as_bytes()).unwrap())).unwrap();
        assert_eq!(seconds("[1970,0,1,0,0,0]").to_string(), "0");
        assert_eq!(seconds("[2015,2,5,23,51,47.9,4,63]").to_string(), "1425599507");
        assert_eq!(seconds("[2024,1,29,0,0,0]").to_string(), "1709164800");
        assert_eq!(seconds("[2023,13,29,24,60,60]").to_string(), "1709254860");
        assert_eq!(seconds("[1900]").to_string(), "-2209075200");
        assert_eq!(seconds("[\"a\",0]").to_string(), "null");
        assert_eq!(seconds("7").to_string(), "null");
    }
}
