//! Typed reading of one setting after another. A bad value is recorded and the default taken in its place, so that one
//! start finds everything that is wrong.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use secrecy::SecretString;
use serde_json::Value;

use crate::{
    money::Money,
    validation::{FieldPath, Violation},
};

/// The dearest a step, a second or a call may be.
pub(super) const MAX_PRICE: f64 = 1e9;

/// Reads settings and collects what is wrong with them.
pub(super) struct SettingReader {
    /// By name in lower case, unknown ones included.
    pub values: BTreeMap<String, Value>,
    /// Every variable of the environment and `.env`, for settings that name one.
    pub variables: HashMap<String, String>,
    /// Each with the setting's name, or the file, as its path.
    pub violations: Vec<Violation>,
}

impl SettingReader {
    pub fn reject(&mut self, path: impl Into<FieldPath>, message: impl Into<String>) {
        self.violations.push(Violation::new(path, message));
    }

    /// Whether something is wrong with the setting itself.
    pub fn has_rejected(&self, key: &str) -> bool {
        self.violations.iter().any(|violation| violation.path.segments().first().is_some_and(|first| first == key))
    }

    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(&key.to_lowercase())
    }

    /// A scalar value as text, in the form of an environment variable.
    pub fn text(&mut self, key: &str) -> Option<String> {
        let text = self.plain_text(key);
        if text.is_none() && self.value(key).is_some() {
            self.reject(key, "should be a single value, not a list or table");
        }
        text
    }

    /// The same, where what is wrong with it is recorded elsewhere.
    pub fn plain_text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) => Some(text.trim().to_owned()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
            plain => Some(plain.to_string()),
        }
    }

    /// A list: of the file, or text that is a JSON list or comma-separated. No message shows the value, which may be a secret.
    pub fn list(&mut self, key: &str) -> Vec<String> {
        let items = match self.value(key) {
            None => return Vec::new(),
            Some(Value::String(text)) if text.trim_start().starts_with('[') => serde_json::from_str(text).ok(),
            Some(Value::String(text)) => Some(text.split(',').map(Value::from).collect()),
            Some(Value::Array(items)) => Some(items.clone()),
            Some(_) => None,
        };
        let texts = items.and_then(|items: Vec<Value>| {
            items.iter().map(|item| item.as_str().map(|text| text.trim().to_owned())).collect::<Option<Vec<_>>>()
        });
        let Some(mut texts) = texts else {
            let in_dotenv = format!("in .env write a JSON list in single quotes: {key}='[\"a\", \"b\"]'");
            self.reject(key, format!("should be a JSON list of strings, or comma-separated ({in_dotenv})"));
            return Vec::new();
        };
        texts.retain(|text| !text.is_empty());
        texts
    }
}

// Readers, as `settings!` takes them.

/// What `parse` makes of the text; `expected` says what it takes.
pub(super) fn parsed<T>(
    expected: impl Into<String>,
    parse: impl Fn(&str) -> Option<T>,
) -> impl FnOnce(&mut SettingReader, &str, T) -> T {
    let expected = expected.into();
    move |from, key, default| {
        let Some(text) = from.text(key) else { return default };
        parse(&text).unwrap_or_else(|| {
            from.reject(key, format!("`{text}` is invalid: should be {expected}"));
            default
        })
    }
}

/// A number within `range`.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl FnOnce(&mut SettingReader, &str, T) -> T
where
    T: FromStr + PartialOrd + Display,
{
    let expected = format!("a number from {} to {}", range.start(), range.end());
    parsed(expected, move |text| text.parse().ok().filter(|number| range.contains(number)))
}

/// A time in whole units of so many microseconds.
fn time(unit: u64, range: RangeInclusive<u64>) -> impl FnOnce(&mut SettingReader, &str, Duration) -> Duration {
    move |from, key, default| {
        let units = u64::try_from(default.as_micros()).unwrap_or(u64::MAX) / unit;
        Duration::from_micros(unit * number(range)(from, key, units))
    }
}

pub(super) fn microseconds(range: RangeInclusive<u64>) -> impl FnOnce(&mut SettingReader, &str, Duration) -> Duration {
    time(1, range)
}

pub(super) fn milliseconds(range: RangeInclusive<u64>) -> impl FnOnce(&mut SettingReader, &str, Duration) -> Duration {
    time(1_000, range)
}

pub(super) fn seconds(range: RangeInclusive<u64>) -> impl FnOnce(&mut SettingReader, &str, Duration) -> Duration {
    time(1_000_000, range)
}

pub(super) fn hours(range: RangeInclusive<u64>) -> impl FnOnce(&mut SettingReader, &str, Duration) -> Duration {
    time(3_600_000_000, range)
}

pub(super) fn days(range: RangeInclusive<u64>) -> impl FnOnce(&mut SettingReader, &str, Duration) -> Duration {
    time(86_400_000_000, range)
}

/// Seconds with a fraction.
pub(super) fn fraction(range: RangeInclusive<f64>) -> impl FnOnce(&mut SettingReader, &str, Duration) -> Duration {
    move |from, key, default| Duration::from_secs_f64(number(range)(from, key, default.as_secs_f64()))
}

/// A price in the marketplace's currency.
pub(super) fn price(from: &mut SettingReader, key: &str, default: Money) -> Money {
    Money::from_f64(number(0.0..=MAX_PRICE)(from, key, default.to_f64()))
}

pub(super) fn boolean(from: &mut SettingReader, key: &str, default: bool) -> bool {
    let parse = |text: &str| match text.to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    };
    parsed("true or false", parse)(from, key, default)
}

pub(super) fn optional_path(from: &mut SettingReader, key: &str, default: Option<PathBuf>) -> Option<PathBuf> {
    from.text(key).map(PathBuf::from).or(default)
}

pub(super) fn secret(from: &mut SettingReader, key: &str, default: Option<SecretString>) -> Option<SecretString> {
    from.text(key).map(SecretString::from).or(default)
}

pub(super) fn read_secrets(from: &mut SettingReader, key: &str, _: Vec<SecretString>) -> Vec<SecretString> {
    from.list(key).into_iter().map(SecretString::from).collect()
}
