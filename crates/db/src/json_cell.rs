//! Values of a row that is inserted as JSON.

use std::fmt::Write as _;

use am_core::{ids::TypedId, money::Money};
use serde::Serialize;

/// A value of a row that can be written as JSON.
pub trait JsonCell {
    /// Append the value as JSON.
    fn write(&self, out: &mut String);
}

/// Append a number, text or boolean.
pub(super) fn write_as_json(value: &(impl Serialize + ?Sized), out: &mut String) {
    // Numbers, texts and booleans always have a JSON form.
    out.push_str(&serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()));
}

impl<T: JsonCell + ?Sized> JsonCell for &T {
    fn write(&self, out: &mut String) {
        (**self).write(out);
    }
}

impl JsonCell for str {
    fn write(&self, out: &mut String) {
        write_as_json(self, out);
    }
}

impl JsonCell for String {
    fn write(&self, out: &mut String) {
        write_as_json(self.as_str(), out);
    }
}

impl<K> JsonCell for TypedId<K> {
    fn write(&self, out: &mut String) {
        self.as_str().write(out);
    }
}

impl JsonCell for Money {
    fn write(&self, out: &mut String) {
        self.to_f64().write(out);
    }
}

impl JsonCell for i64 {
    fn write(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }
}

impl JsonCell for bool {
    fn write(&self, out: &mut String) {
        out.push(if *self { '1' } else { '0' });
    }
}

/// SQLite parses the text to the same float for magnitudes from 1e-9 to 1e15, those of prices, scores and seconds; far
/// outside, its decimal parser can be off in the last bit.
impl JsonCell for f64 {
    fn write(&self, out: &mut String) {
        write_as_json(self, out);
    }
}

impl<T: JsonCell> JsonCell for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }
}
