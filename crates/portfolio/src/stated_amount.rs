//! Amounts as a client states them: what is no amount is refused by the operation itself, which tells the audit log of it.

use am_core::{
    money::{AmountError, Money},
    validation::Violations,
};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

/// An amount that a client states: a JSON number, or a text that holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatedAmount(Result<Money, AmountError>);

impl StatedAmount {
    /// The amount; `None`, and a violation at `member`, where it is none or not more than nothing.
    pub(crate) fn positive(self, member: &str, violations: &mut Violations) -> Option<Money> {
        let amount = self.amount(member, violations)?;
        violations.require(amount.is_positive(), member, "must be more than 0");
        Some(amount).filter(|amount| amount.is_positive())
    }

    /// The amount; `None`, and a violation at `member`, where it is none.
    pub(crate) fn amount(self, member: &str, violations: &mut Violations) -> Option<Money> {
        self.0.map_err(|error| violations.add(member, error.to_string())).ok()
    }

    /// Whether it is this amount.
    pub(crate) fn is(self, amount: Money) -> bool {
        self.0 == Ok(amount)
    }
}

impl<'de> Deserialize<'de> for StatedAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = match raw.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(raw.get()).map_err(de::Error::custom)?,
            Some(b'-' | b'0'..=b'9') => raw.get().to_owned(),
            _ => return Err(de::Error::custom("should be an amount: a number, or a text that holds one")),
        };
        Ok(Self(Money::parse_decimal(text.trim())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_amount_is_refused_where_it_is_used() {
        for (sent, wanted) in [
            (json!(1.5), Some("1.5")),
            (json!("1.50"), Some("1.5")),
            (json!(0), None),
            (json!(-1), None),
            (json!("0.000000001"), None),
            (json!(1e300), None),
            (json!("much"), None),
        ] {
            let stated: StatedAmount = serde_json::from_str(&sent.to_string()).unwrap();
            let mut violations = Violations::default();
            let found = stated.positive("amount", &mut violations).map(|amount| amount.to_string());
            assert_eq!((found.as_deref(), violations.finish().is_ok()), (wanted, wanted.is_some()), "{sent}");
        }
        for sent in ["null", "true", "[]", "{}"] {
            assert!(serde_json::from_str::<StatedAmount>(sent).is_err(), "{sent}");
        }
    }
}
