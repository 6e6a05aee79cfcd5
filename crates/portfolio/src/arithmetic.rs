//! Amounts of tokens times prices, in whole units of the eighth decimal place: nothing is lost, and the direction of each rounding is
//! said.

use am_core::money::Money;

/// Smallest units in one token, and in one AIT.
const UNITS: i128 = 100_000_000;
/// Basis points in the whole.
const BASIS_POINTS: i128 = 10_000;

/// In which direction a quotient that is no whole number is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Towards less, as amounts that a portfolio receives.
    Down,
    /// Towards more, as amounts that it pays.
    Up,
}

fn quotient(numerator: i128, denominator: i128, rounding: Rounding) -> Option<Money> {
    if denominator <= 0 {
        return None;
    }
    let (whole, rest) = (numerator.div_euclid(denominator), numerator.rem_euclid(denominator));
    let whole = if rounding == Rounding::Up && rest > 0 { whole + 1 } else { whole };
    i64::try_from(whole).ok().map(Money::from_units)
}

/// What `amount` tokens are worth at `price` AIT each, rounded down; `None` beyond the range.
pub(crate) fn value_of(amount: Money, price: Money) -> Option<Money> {
    quotient(i128::from(amount.units()) * i128::from(price.units()), UNITS, Rounding::Down)
}

/// How many tokens at `price` AIT each are worth `value`; `None` beyond the range, or without a price.
pub(crate) fn amount_for(value: Money, price: Money, rounding: Rounding) -> Option<Money> {
    quotient(i128::from(value.units()) * UNITS, i128::from(price.units()), rounding)
}

/// `amount` times `numerator` / `denominator`; `None` beyond the range.
pub(crate) fn exchanged(amount: Money, numerator: Money, denominator: Money) -> Option<Money> {
    let product = i128::from(amount.units()) * i128::from(numerator.units());
    quotient(product, i128::from(denominator.units()), Rounding::Down)
}

/// So many basis points (a ten-thousandth each) of `amount`, rounded up; `None` beyond the range.
pub(crate) fn basis_points_of(amount: Money, points: u32) -> Option<Money> {
    quotient(i128::from(amount.units()) * i128::from(points), BASIS_POINTS, Rounding::Up)
}

/// The largest multiple of `lot` that is not above `amount`; `amount` itself where the lot is nothing.
pub(crate) fn whole_lots(amount: Money, lot: Money) -> Money {
    match lot.units() {
        lot if lot > 0 => Money::from_units(amount.units() - amount.units().rem_euclid(lot)),
        _ => amount,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn money(text: &str) -> Money {
        Money::parse_decimal(text).unwrap()
    }

    #[test]
    fn value_and_amount_are_rounded_as_they_say() {
        assert_eq!(value_of(money("3"), money("0.33333333")), Some(money("0.99999999")));
        assert_eq!(value_of(money("0.00000001"), money("0.5")), Some(Money::ZERO));
        assert_eq!(amount_for(money("1"), money("3"), Rounding::Down), Some(money("0.33333333")));
        assert_eq!(amount_for(money("1"), money("3"), Rounding::Up), Some(money("0.33333334")));
        assert_eq!(amount_for(money("1"), Money::ZERO, Rounding::Up), None);
        assert_eq!(exchanged(money("2"), money("10"), money("4")), Some(money("5")));
        assert_eq!(exchanged(Money::MAX, money("10"), money("4")), None);
        assert_eq!(basis_points_of(money("1"), 10), Some(money("0.001")));
        assert_eq!(basis_points_of(money("0.00000001"), 1), Some(money("0.00000001")), "a fee is never nothing");
        assert_eq!(whole_lots(money("1.29"), money("0.5")), money("1"));
        assert_eq!(whole_lots(money("1.29"), Money::ZERO), money("1.29"));
    }

    proptest! {
        /// There and back again never makes money.
        #[test]
        fn an_exchange_and_back_earns_nothing(
            amount in 1i64..1_000_000_000_000,
            one in 1i64..100_000_000_000,
            other in 1i64..100_000_000_000,
        ) {
            let (amount, one, other) = (Money::from_units(amount), Money::from_units(one), Money::from_units(other));
            if let Some(bought) = exchanged(amount, one, other) {
                let back = exchanged(bought, other, one).unwrap();
                prop_assert!(back <= amount, "{back} of {amount}");
            }
        }

        #[test]
        fn lots_are_whole_and_not_above(amount in 0i64..i64::MAX, lot in 1i64..1_000_000_000_000) {
            let (amount, lot) = (Money::from_units(amount), Money::from_units(lot));
            let whole = whole_lots(amount, lot);
            prop_assert!(whole <= amount && whole.units() % lot.units() == 0);
            prop_assert!(amount.units() - whole.units() < lot.units());
        }
    }
}
