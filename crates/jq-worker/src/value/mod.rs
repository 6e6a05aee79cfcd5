//! Values of programs. They are jaq's, with jq's rules for operators, indexes and slices, and with jq's messages.

use std::{
    fmt,
    ops::{Add, Div, Mul, Neg, Rem, Sub},
    rc::Rc,
};

use jaq_core::{ValX, path::Opt, val};
use jaq_json::{Map, Num, Val};

mod access;
pub mod message;
pub mod number;
pub mod write;

pub use self::access::{cannot_index, index_value, item_place, part_places, slice_range};
use self::{
    message::{kind_and_text, kind_name, two_type_error, type_error},
    number::{divides_by_zero, remainder},
};

/// Maximum length of a text that a program makes by repeating one, in bytes.
const MAX_REPEATED_BYTES: usize = 1 << 30;

/// A value of a program: jaq's, with the operators and messages of jq.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct JqValue(pub Val);

/// Error of a program.
pub type JqError = jaq_core::Error<JqValue>;
/// A value, or an error.
pub type JqResult<T = JqValue> = Result<T, JqError>;

impl JqValue {
    /// The value null.
    pub const NULL: Self = Self(Val::Null);

    /// Return a string.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self(Val::utf8_str(text.into()))
    }

    /// Return an array.
    pub fn array(values: Vec<Val>) -> Self {
        Self(Val::Arr(values.into()))
    }

    /// Return the bytes of a string.
    pub fn as_text(&self) -> Option<&[u8]> {
        match &self.0 {
            Val::TStr(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for JqValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! from {
    ($($from:ty),*) => {
        $(impl From<$from> for JqValue {
            fn from(value: $from) -> Self {
                Self(value.into())
            }
        })*
    };
}
from!(bool, isize, usize, f64, String);

impl From<val::Range<Self>> for JqValue {
    /// Return a slice as a member of a path, which has both bounds in jq.
    fn from(range: val::Range<Self>) -> Self {
        let bound = |name: &str, bound: Option<Self>| (Val::utf8_str(name.to_owned()), bound.unwrap_or_default().0);
        Self(Val::obj(Map::from_iter([bound("start", range.start), bound("end", range.end)])))
    }
}

impl FromIterator<Self> for JqValue {
    fn from_iter<T: IntoIterator<Item = Self>>(values: T) -> Self {
        Self(values.into_iter().map(|value| value.0).collect())
    }
}

impl Add for JqValue {
    type Output = JqResult;
    fn add(self, right: Self) -> JqResult {
        use Val::{Arr, Null, Num, Obj, TStr};
        match (&self.0, &right.0) {
            (Null, _) | (_, Null) | (Num(_), Num(_)) | (TStr(_), TStr(_)) | (Arr(_), Arr(_)) | (Obj(_), Obj(_)) => {
                (self.0 + right.0).map(Self).map_err(own_error)
            }
            _ => Err(two_type_error(&self, &right, "cannot be added")),
        }
    }
}

impl Sub for JqValue {
    type Output = JqResult;
    fn sub(self, right: Self) -> JqResult {
        match (&self.0, &right.0) {
            (Val::Num(_), Val::Num(_)) | (Val::Arr(_), Val::Arr(_)) => (self.0 - right.0).map(Self).map_err(own_error),
            _ => Err(two_type_error(&self, &right, "cannot be subtracted")),
        }
    }
}

impl Mul for JqValue {
    type Output = JqResult;
    fn mul(self, right: Self) -> JqResult {
        match (&self.0, &right.0) {
            (Val::Num(_), Val::Num(_)) | (Val::Obj(_), Val::Obj(_)) => (self.0 * right.0).map(Self).map_err(own_error),
            (Val::TStr(text), Val::Num(times)) | (Val::Num(times), Val::TStr(text)) => repeat(text, times),
            _ => Err(two_type_error(&self, &right, "cannot be multiplied")),
        }
    }
}

/// Return a text as often as a number says, without its fraction; null for less than zero times.
fn repeat(text: &[u8], times: &Num) -> JqResult {
    let times = number::float(times);
    if times.is_nan() || times < 0.0 {
        return Ok(JqValue::NULL);
    }
    // Saturates.
    let times = times as usize;
    match text.len().checked_mul(times) {
        Some(length) if length <= MAX_REPEATED_BYTES => Ok(JqValue::text(text.repeat(times))),
        _ => Err(JqError::str("Repeat string result too long")),
    }
}

impl Div for JqValue {
    type Output = JqResult;
    fn div(self, right: Self) -> JqResult {
        match (&self.0, &right.0) {
            (Val::Num(_), Val::Num(divisor)) if divides_by_zero(divisor) => {
                Err(two_type_error(&self, &right, "cannot be divided because the divisor is zero"))
            }
            (Val::Num(left), Val::Num(divisor)) => Ok(Self(Val::Num(number::divide(left, divisor)))),
            (Val::TStr(_), Val::TStr(_)) => (self.0 / right.0).map(Self).map_err(own_error),
            _ => Err(two_type_error(&self, &right, "cannot be divided")),
        }
    }
}

impl Rem for JqValue {
    type Output = JqResult;
    fn rem(self, right: Self) -> JqResult {
        match (&self.0, &right.0) {
            (Val::Num(left), Val::Num(divisor)) => match remainder(left, divisor) {
                Some(rest) => Ok(Self(Val::Num(rest))),
                None => Err(two_type_error(&self, &right, "cannot be divided (remainder) because the divisor is zero")),
            },
            _ => Err(two_type_error(&self, &right, "cannot be divided (remainder)")),
        }
    }
}

impl Neg for JqValue {
    type Output = JqResult;
    fn neg(self) -> JqResult {
        match self.0 {
            Val::Num(number) => Ok(Self(Val::Num(-number))),
            _ => Err(type_error(&self, "cannot be negated")),
        }
    }
}

/// Return the error of jaq's own operation; those that are left to it have none.
fn own_error(error: jaq_json::Error) -> JqError {
    JqError::new(JqValue(error.into_val()))
}

type ValueIter = Box<dyn Iterator<Item = JqResult>>;

impl jaq_core::ValT for JqValue {
    fn from_num(digits: &str) -> JqResult {
        Ok(Self(Val::Num(number::literal(digits))))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(members: I) -> JqResult {
        let member = |(key, value): (Self, Self)| match key.0 {
            Val::TStr(_) => Ok((key.0, value.0)),
            _ => Err(JqError::str(format!("Cannot use {} as object key", kind_and_text(&key)))),
        };
        Ok(Self(Val::obj(members.into_iter().map(member).collect::<JqResult<_>>()?)))
    }

    fn key_values(self) -> Box<dyn Iterator<Item = JqResult<(Self, Self)>>> {
        match self.0 {
            Val::Arr(_) | Val::Obj(_) => Box::new(self.0.key_values().map(|member| match member {
                Ok((key, value)) => Ok((Self(key), Self(value))),
                Err(error) => Err(own_error(error)),
            })),
            _ => Box::new(std::iter::once(Err(cannot_iterate(&self)))),
        }
    }

    fn values(self) -> ValueIter {
        match self.0 {
            Val::Arr(_) | Val::Obj(_) => Box::new(self.0.values().map(|value| value.map(Self).map_err(own_error))),
            _ => Box::new(std::iter::once(Err(cannot_iterate(&self)))),
        }
    }

    fn index(self, index: &Self) -> JqResult {
        index_value(self, index)
    }

    fn range(self, range: val::Range<&Self>) -> JqResult {
        access::slice(self, range.start.map(|bound| &bound.0), range.end.map(|bound| &bound.0))
    }

    // Changes are made by paths (rewrite.rs), so that these are never called.
    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(self, _: Opt, _: impl Fn(Self) -> I) -> ValX<'a, Self> {
        Err(JqError::path_expr(self).into())
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        _: &Self,
        _: Opt,
        _: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        Err(JqError::path_expr(self).into())
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        _: val::Range<&Self>,
        _: Opt,
        _: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        Err(JqError::path_expr(self).into())
    }

    fn as_bool(&self) -> bool {
        !matches!(self.0, Val::Null | Val::Bool(false))
    }

    fn into_string(self) -> Self {
        match self.0 {
            Val::TStr(_) => self,
            _ => Self::text(write::json_text(&self.0)),
        }
    }
}

fn cannot_iterate(value: &JqValue) -> JqError {
    JqError::str(format!("Cannot iterate over {}", kind_and_text(value)))
}

impl jaq_std::ValT for JqValue {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        match self.0 {
            Val::Arr(values) => Ok(Rc::unwrap_or_clone(values).into_iter().map(Self).collect()),
            _ => Err(self),
        }
    }

    fn is_int(&self) -> bool {
        matches!(self.0, Val::Num(Num::Int(_) | Num::BigInt(_)))
    }

    fn as_isize(&self) -> Option<isize> {
        match &self.0 {
            Val::Num(number) => number::as_integer(number),
            _ => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match &self.0 {
            Val::Num(number) => Some(number::float(number)),
            _ => None,
        }
    }

    fn is_utf8_str(&self) -> bool {
        matches!(self.0, Val::TStr(_))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        self.as_text()
    }

    fn as_sub_str(&self, sub: &[u8]) -> Self {
        match &self.0 {
            Val::TStr(text) => Self(Val::utf8_str(text.slice_ref(sub))),
            _ => Self::text(sub),
        }
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self::text(bytes.as_ref())
    }
}

/// Return the kind of a value, as jq names it.
pub fn kind(value: &JqValue) -> &'static str {
    kind_name(&value.0)
}
