//! Amounts of money: decimal, with eight places, so that sums have no floating-point errors.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Sub},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, value::RawValue};
use sqlx::{Database, Decode, Encode, Type, encode::IsNull, error::BoxDynError};

mod decimal;

pub use decimal::{AmountError, StatedAmount, exact, exact_option};

/// Smallest units in one AIT.
const UNITS: i64 = 100_000_000;
/// Integers up to here are exact as `f64`.
const EXACT: u64 = 1 << 53;

/// An amount of AITBC (AIT) with eight decimal places, from about -92 to 92 thousand million; sums end there instead of
/// overflowing. A number in JSON and a REAL in columns, as the coordinator has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// The amount of nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(i64::MAX);

    /// The amount of this many smallest units, of which one AIT has 10^8.
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// Number of smallest units.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// The sum; `None` when it is beyond the range.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference; `None` when it is beyond the range.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The amount times `numerator / denominator`, rounded half away from zero; `None` when it is beyond the range, or the
    /// denominator is 0. Exact before it is rounded.
    pub fn mul_div(self, numerator: i64, denominator: i64) -> Option<Self> {
        let product = i128::from(self.0) * i128::from(numerator);
        let denominator = i128::from(denominator);
        let (quotient, rest) = (product.checked_div(denominator)?, product.checked_rem(denominator)?);
        let away = if (product < 0) == (denominator < 0) { 1 } else { -1 };
        let rounded = if 2 * rest.abs() >= denominator.abs() { quotient + away } else { quotient };
        i64::try_from(rounded).ok().map(Self)
    }

    /// The amount that a decimal text states exactly: digits with a point and an exponent, as JSON writes a number.
    ///
    /// # Errors
    /// [`AmountError`] when the text is no decimal number, finer than the smallest unit, or beyond the range.
    pub fn parse_decimal(text: &str) -> Result<Self, AmountError> {
        decimal::parse_units(text).map(Self)
    }

    /// The amount nearest to `amount`; what is not a number is nothing, what is too large the largest amount.
    pub const fn from_f64(amount: f64) -> Self {
        // The whole and the fraction apart: their products are rounded by less than a unit, that of `amount` is not. `as`
        // saturates, and turns what is not a number to 0.
        let whole = amount.trunc();
        let fraction = ((amount - whole) * UNITS as f64).round();
        Self((whole as i64).saturating_mul(UNITS).saturating_add(fraction as i64))
    }

    /// The amount nearest to `amount`; `None` for what is not a number or too large.
    pub fn try_from_f64(amount: f64) -> Option<Self> {
        ((amount * UNITS as f64).abs() < i64::MAX as f64).then(|| Self::from_f64(amount))
    }

    /// The amount in a document of the coordinator, whose later versions write decimals as texts; `None` for what is no amount.
    pub fn from_document(value: &Value) -> Option<Self> {
        let number = match value {
            Value::String(text) => text.trim().parse().ok()?,
            other => other.as_f64()?,
        };
        Some(number).filter(|number: &f64| number.is_finite()).map(Self::from_f64)
    }

    /// The amount as a floating-point number, which has all eight places up to 67 million AIT (2^26).
    pub fn to_f64(self) -> f64 {
        if self.0.unsigned_abs() <= EXACT {
            // Both are exact, so the quotient is the number nearest to the decimal.
            return self.0 as f64 / UNITS as f64;
        }
        self.to_string().parse().unwrap_or(self.0 as f64 / UNITS as f64)
    }

    /// Whether it is more than nothing.
    pub fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// The product with a factor without unit, rounded to eight places.
    pub fn scaled(self, factor: f64) -> Self {
        Self::from_f64(self.to_f64() * factor)
    }
}

impl fmt::Display for Money {
    /// All digits that are not zeros at the end: `0.01`, `3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, sign) = (self.0.unsigned_abs(), if self.0 < 0 { "-" } else { "" });
        let (whole, places) = (units / UNITS.unsigned_abs(), units % UNITS.unsigned_abs());
        let text = format!("{sign}{whole}.{places:08}");
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Money {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// A number with all digits. Where a double has fewer digits, the number is written as text.
impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.unsigned_abs() <= EXACT {
            return serializer.serialize_f64(self.to_f64());
        }
        let digits = self.to_string();
        let digits = if digits.contains('.') { digits } else { digits + ".0" };
        RawValue::from_string(digits).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amount = f64::deserialize(deserializer)?;
        Self::try_from_f64(amount).ok_or_else(|| {
            de::Error::invalid_value(de::Unexpected::Float(amount), &"an amount up to 92 thousand million")
        })
    }
}

/// For `deserialize_with`: an amount of a document that was stored when it could be any number. What is too large is
/// read as the largest amount.
///
/// # Errors
/// When there is no number.
pub fn deserialize_stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
    f64::deserialize(deserializer).map(Money::from_f64)
}

impl<DB: Database> Type<DB> for Money
where
    f64: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        f64::type_info()
    }

    fn compatible(ty: &DB::TypeInfo) -> bool {
        f64::compatible(ty)
    }
}

impl<'q, DB: Database> Encode<'q, DB> for Money
where
    f64: Encode<'q, DB>,
{
    fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.to_f64().encode_by_ref(buffer)
    }
}

/// The coordinator's columns may hold any number: what is too large is read as the largest amount.
impl<'r, DB: Database> Decode<'r, DB> for Money
where
    f64: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        f64::decode(value).map(Self::from_f64)
    }
}

impl utoipa::PartialSchema for Money {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::Number)
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::Double)))
            .description(Some("An amount in AITBC (AIT), with at most eight decimal places."))
            .into()
    }
}

impl utoipa::ToSchema for Money {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn ten_steps_of_a_cent_cost_ten_cents() {
        let total: Money = std::iter::repeat_n(Money::from_f64(0.01), 10).sum();
        assert_eq!(serde_json::to_string(&total).unwrap(), "0.1");
        assert_eq!(serde_json::to_string(&Money::from_f64(1.0)).unwrap(), "1.0");
        assert_eq!(total.to_string(), "0.1");
        assert_eq!((Money::from_f64(2.0) - Money::from_f64(4.5)).to_string(), "-2.5");
    }

    #[test]
    fn what_is_no_amount_is_refused_in_json_and_bounded_in_columns() {
        assert!(serde_json::from_value::<Money>(json!(1e12)).is_err());
        assert!(serde_json::from_value::<Money>(json!("1")).is_err());
        assert_eq!(serde_json::from_value::<Money>(json!(3)).unwrap(), Money::from_f64(3.0));
        assert_eq!(Money::from_f64(1e300), Money::MAX);
        assert_eq!(Money::from_f64(f64::NAN), Money::ZERO);
        assert_eq!(Money::MAX + Money::from_f64(1.0), Money::MAX);
    }

    #[test]
    fn a_share_is_rounded_half_away_from_zero() {
        let share = |units: i64, up: i64, down: i64| Money(units).mul_div(up, down).map(Money::units);
        assert_eq!(share(1000, 25, 1000), Some(25));
        assert_eq!(
            (share(5, 1, 2), share(-5, 1, 2), share(5, -1, 2), share(4, 1, 3)),
            (Some(3), Some(-3), Some(-3), Some(1))
        );
        assert_eq!((share(1, 1, 0), share(i64::MAX, 2, 1)), (None, None));
        assert_eq!(share(i64::MAX, 7, 7), Some(i64::MAX));
    }

    proptest! {
        #[test]
        fn an_amount_is_the_same_after_a_round_trip(units in -6_710_886_400_000_000_i64..6_710_886_400_000_000) {
            let text = serde_json::to_string(&Money(units)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&text).unwrap(), Money(units));
            prop_assert_eq!(text.parse::<f64>().unwrap(), Money(units).to_string().parse::<f64>().unwrap());
        }
    }
}
