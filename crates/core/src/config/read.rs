//! Typed reading of one setting after another. A bad value is noted and the default taken in its place, so that all
//! faults are found in one start.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use secrecy::SecretString;
use serde_json::Value;

use super::{Fault, KEYS, sources::Settings};

/// Reads settings and gathers what is wrong with them.
pub(super) struct Reader {
    settings: Settings,
    /// What was found wrong so far.
    pub faults: Vec<Fault>,
}

impl Reader {
    pub fn new(settings: Settings, faults: Vec<Fault>) -> Self {
        Self { settings, faults }
    }

    pub fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.faults.push(Fault { key: key.to_owned(), message: message.into() });
    }

    pub fn variable(&self, name: &str) -> Option<&str> {
        self.settings.variables.get(name).map(String::as_str)
    }

    pub fn value(&self, key: &'static str) -> Option<&Value> {
        debug_assert!(KEYS.contains(&key), "{key} is not in KEYS");
        self.settings.values.get(key)
    }

    /// A plain value as text, as it would stand in the environment.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) => Some(text.trim().to_owned()),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                self.fault(key, "should be one plain value, not a list or table");
                None
            }
            plain => Some(plain.to_string()),
        }
    }

    /// What `accept` makes of the text; `good` says what it accepts.
    pub fn parsed<T>(&mut self, key: &'static str, default: T, good: &str, accept: impl Fn(&str) -> Option<T>) -> T {
        let Some(text) = self.text(key) else { return default };
        accept(&text).unwrap_or_else(|| {
            self.fault(key, format!("`{text}` is not good: should be {good}"));
            default
        })
    }

    /// A number within `range`.
    pub fn number<T>(&mut self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + Display,
    {
        let good = format!("a number from {} to {}", range.start(), range.end());
        self.parsed(key, default, &good, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    pub fn seconds(&mut self, key: &'static str, default: Duration, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.number(key, default.as_secs(), range))
    }

    pub fn milliseconds(&mut self, key: &'static str, default: Duration, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(key, default.as_millis() as u64, range))
    }

    pub fn microseconds(&mut self, key: &'static str, default: Duration, range: RangeInclusive<u64>) -> Duration {
        Duration::from_micros(self.number(key, default.as_micros() as u64, range))
    }

    pub fn truth(&mut self, key: &'static str, default: bool) -> bool {
        self.parsed(key, default, "true or false", |text| match text.to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        })
    }

    /// A list: of the file, or text that is a JSON list or comma-separated. Its faults never show the value, which may be a secret.
    pub fn list(&mut self, key: &'static str) -> Vec<String> {
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
            let in_dotenv = format!("in .env a JSON list stands in single quotes: {key}='[\"a\", \"b\"]'");
            self.fault(key, format!("should be a JSON list of strings, or comma-separated ({in_dotenv})"));
            return Vec::new();
        };
        texts.retain(|text| !text.is_empty());
        texts
    }

    pub fn secrets(&mut self, key: &'static str) -> Vec<SecretString> {
        self.list(key).into_iter().map(SecretString::from).collect()
    }

    pub fn secret(&mut self, key: &'static str) -> Option<SecretString> {
        self.text(key).map(SecretString::from)
    }
}
