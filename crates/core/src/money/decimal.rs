//! Amounts as decimal texts: read and written without a double in between.

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::Money;
use crate::validation::{FieldPath, Violations};

/// Decimal places of the smallest unit.
const PLACES: i64 = 8;
/// Maximum length of a text that is read as an amount, in bytes.
const MAX_TEXT_LEN: usize = 400;
/// Maximum number of digits that are computed with: more are beyond the range.
const MAX_DIGITS: usize = 36;

/// Why a text or a number is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// It is no decimal number.
    #[error("is not a decimal number")]
    NotDecimal,
    /// It has more than eight decimal places.
    #[error("is finer than 0.00000001, the smallest unit")]
    TooFine,
    /// It is beyond the range.
    #[error("is beyond 92233720368.54775807, the largest amount")]
    OutOfRange,
    /// It is below zero where that makes no sense.
    #[error("must not be negative")]
    Negative,
}

/// Parse a decimal text to smallest units.
pub(super) fn parse_units(text: &str) -> Result<i64, AmountError> {
    if text.len() > MAX_TEXT_LEN {
        return Err(AmountError::OutOfRange);
    }
    let (is_negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(AmountError::NotDecimal);
    }
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let kept = digits.trim_end_matches('0');
    if kept.is_empty() {
        return Ok(0);
    }
    // The value is `kept` times ten to this power, in smallest units.
    let power = exponent - fraction.len() as i64 + (digits.len() - kept.len()) as i64 + PLACES;
    if power < 0 {
        return Err(AmountError::TooFine);
    }
    if kept.len() as i64 + power > MAX_DIGITS as i64 {
        return Err(AmountError::OutOfRange);
    }
    let power = u32::try_from(power).map_err(|_| AmountError::OutOfRange)?;
    let digits: i128 = kept.parse().map_err(|_| AmountError::OutOfRange)?;
    let units = digits * 10_i128.pow(power);
    i64::try_from(if is_negative { -units } else { units }).map_err(|_| AmountError::OutOfRange)
}

fn parse_exponent(text: &str) -> Result<i64, AmountError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AmountError::NotDecimal);
    }
    // An exponent of more digits is as far away as this one.
    let size: i64 = digits.parse().unwrap_or(i64::from(i32::MAX)).min(i64::from(i32::MAX));
    Ok(if text.starts_with('-') { -size } else { size })
}

/// Read a JSON number, or a text that holds one: the one rule by which amounts are read. The inner result is what it states.
fn read_stated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Result<Money, AmountError>, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => {
            let inner: String = serde_json::from_str(text).map_err(de::Error::custom)?;
            Ok(Money::parse_decimal(inner.trim()))
        }
        Some(b'-' | b'0'..=b'9') => Ok(Money::parse_decimal(text)),
        _ => Err(de::Error::custom("should be an amount: a number, or a text that holds one")),
    }
}

fn read_exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
    read_stated(deserializer)?.map_err(de::Error::custom)
}

/// An amount as a client states it: a JSON number, or a text that holds one. What is no amount, or a negative one, is refused by
/// the operation that it is for, which names the field and tells the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatedAmount(Result<Money, AmountError>);

impl StatedAmount {
    /// The amount, where it is one of 0 or more.
    ///
    /// # Errors
    /// Why it is none.
    pub fn get(self) -> Result<Money, AmountError> {
        self.0.and_then(|amount| if amount < Money::ZERO { Err(AmountError::Negative) } else { Ok(amount) })
    }

    /// The amount, 0 or more; `None`, and a violation at `field`, where it is none.
    pub fn amount(self, field: impl Into<FieldPath>, violations: &mut Violations) -> Option<Money> {
        self.get().map_err(|error| violations.add(field, error.to_string())).ok()
    }

    /// The amount, more than 0; `None`, and a violation at `field`, where it is none or nothing.
    pub fn positive(self, field: impl Into<FieldPath>, violations: &mut Violations) -> Option<Money> {
        let fault = match self.get() {
            Ok(amount) if amount.is_positive() => return Some(amount),
            Ok(_) => "must be more than 0".to_owned(),
            Err(error) => error.to_string(),
        };
        violations.add(field, fault);
        None
    }

    /// Whether it is this amount.
    pub fn is(self, amount: Money) -> bool {
        self.0 == Ok(amount)
    }
}

impl From<Money> for StatedAmount {
    fn from(amount: Money) -> Self {
        Self(Ok(amount))
    }
}

impl<'de> Deserialize<'de> for StatedAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_stated(deserializer).map(Self)
    }
}

impl utoipa::PartialSchema for StatedAmount {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::Number)
            .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::Double)))
            .minimum(Some(0))
            .description(Some(
                "An amount with at most eight decimal places, 0 or more. A text that holds the number is accepted too.",
            ))
            .into()
    }
}

impl utoipa::ToSchema for StatedAmount {
    fn name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }
}

/// For `#[serde(with)]`: an amount, of either sign, that is written and read with all digits. Only for JSON.
pub mod exact {
    use serde::{Deserializer, Serialize, Serializer};

    use super::{Money, read_exact};

    /// Write it.
    ///
    /// # Errors
    /// As the serializer.
    pub fn serialize<S: Serializer>(amount: &Money, serializer: S) -> Result<S::Ok, S::Error> {
        amount.serialize(serializer)
    }

    /// Read it.
    ///
    /// # Errors
    /// When it is no amount.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
        read_exact(deserializer)
    }
}

/// For `#[serde(with)]`: the same, where null is no amount. With `#[serde(default)]` the member may be missing.
pub mod exact_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Money, exact};

    /// Write it.
    ///
    /// # Errors
    /// As the serializer.
    pub fn serialize<S: Serializer>(amount: &Option<Money>, serializer: S) -> Result<S::Ok, S::Error> {
        amount.serialize(serializer)
    }

    /// Read it.
    ///
    /// # Errors
    /// When it is neither an amount nor null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Money>, D::Error> {
        #[derive(Deserialize)]
        struct ExactMoney(#[serde(with = "exact")] Money);
        Ok(Option::<ExactMoney>::deserialize(deserializer)?.map(|amount| amount.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct ExactDocument {
        #[serde(with = "exact")]
        amount: Money,
        #[serde(default, with = "exact_option")]
        other: Option<Money>,
    }

    #[test]
    fn decimal_texts_are_read_exactly() {
        for (text, units) in [
            ("0", 0),
            ("1.50", 150_000_000),
            ("0E-8", 0),
            ("-0.0", 0),
            ("1e2", 10_000_000_000),
            ("1E-8", 1),
            ("100e-10", 1),
            ("-3", -300_000_000),
            ("0.000000010000", 1),
            ("92233720368.54775807", i64::MAX),
            ("-92233720368.54775808", i64::MIN),
        ] {
            assert_eq!(parse_units(text), Ok(units), "{text}");
        }
        for (text, error) in [
            ("", AmountError::NotDecimal),
            (".5", AmountError::NotDecimal),
            ("1.", AmountError::NotDecimal),
            ("+1", AmountError::NotDecimal),
            ("1e", AmountError::NotDecimal),
            ("NaN", AmountError::NotDecimal),
            ("Infinity", AmountError::NotDecimal),
            ("0x10", AmountError::NotDecimal),
            ("1_000", AmountError::NotDecimal),
            ("0.000000001", AmountError::TooFine),
            ("1e-9", AmountError::TooFine),
            ("1e-99999999999", AmountError::TooFine),
            ("92233720368.54775808", AmountError::OutOfRange),
            ("1e11", AmountError::OutOfRange),
            ("1e99999999999", AmountError::OutOfRange),
        ] {
            assert_eq!(parse_units(text), Err(error), "{text}");
        }
    }

    #[test]
    fn an_amount_of_a_client_is_a_number_or_a_text() {
        for (text, units) in [
            ("1.5", Some(150_000_000)),
            ("\" 1.50\"", Some(150_000_000)),
            ("92233720368.54775807", Some(i64::MAX)),
            ("0", None),
            ("-1", None),
            ("\"-0.01\"", None),
            ("1e-9", None),
            ("1e300", None),
            ("\"\"", None),
            ("\"NaN\"", None),
            ("\"much\"", None),
        ] {
            let stated: StatedAmount = serde_json::from_str(text).unwrap();
            let mut violations = Violations::default();
            let found = stated.positive("amount", &mut violations).map(Money::units);
            assert_eq!((found, violations.finish().is_ok()), (units, units.is_some()), "{text}");
        }
        for text in ["null", "true", "[1]", "{}"] {
            assert!(serde_json::from_str::<StatedAmount>(text).is_err(), "{text}");
        }
        let nothing: StatedAmount = serde_json::from_str("0").unwrap();
        assert_eq!(nothing.get(), Ok(Money::ZERO));
        assert_eq!(StatedAmount::from(Money::from_units(-1)).get(), Err(AmountError::Negative));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn every_amount_is_the_same_after_a_round_trip(units in any::<i64>(), other in any::<Option<i64>>()) {
            let document = ExactDocument { amount: Money::from_units(units), other: other.map(Money::from_units) };
            let text = serde_json::to_string(&document).unwrap();
            prop_assert_eq!(&serde_json::from_str::<ExactDocument>(&text).unwrap(), &document);
            let plain = Money::from_units(units).to_string();
            prop_assert_eq!(Money::parse_decimal(&plain), Ok(Money::from_units(units)));
        }
    }
}
