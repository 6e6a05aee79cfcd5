//! What a portfolio holds, and what becomes of it, without I/O.

use std::collections::BTreeMap;

use am_core::money::Money;
use am_db::codec::Timestamp;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::{
    arithmetic::value_of,
    error::{PortfolioError, Result},
    model::is_cash,
    prices::PricePoint,
};

/// What is held of a token.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Position {
    /// Amount that is held.
    pub amount: Money,
    /// Last price in AIT; `None`: there is none.
    pub price: Option<PricePoint>,
    /// Deposits and what was bought, less withdrawals and what was sold, each at its price then, in AIT.
    pub net_invested: Money,
    /// What was paid for what is held, at its average, in AIT.
    pub cost: Money,
}

impl Position {
    /// What it is worth; `None` without a price.
    pub fn value(&self) -> Option<Money> {
        if !self.amount.is_positive() {
            return Some(Money::ZERO);
        }
        value_of(self.amount, self.price?.price)
    }

    /// The part of the cost that `amount` of it has.
    fn cost_of(&self, amount: Money) -> Money {
        let share = self.cost.mul_div(amount.units(), self.amount.units().max(1));
        share.map_or(self.cost, |share| share.min(self.cost))
    }
}

/// A position as it is kept with a measured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedPosition {
    pub token: String,
    #[serde(with = "am_core::money::exact")]
    pub amount: Money,
    #[serde(with = "am_core::money::exact")]
    pub price: Money,
    #[serde(with = "am_core::money::exact")]
    pub value: Money,
    #[serde(with = "am_core::money::exact")]
    pub net_invested: Money,
}

/// All positions of a portfolio by token, those that were held once too.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PositionSet(pub BTreeMap<String, Position>);

fn beyond_range() -> PortfolioError {
    PortfolioError::Ledger(am_ledger::LedgerError::OutOfRange)
}

impl PositionSet {
    /// Price of a token that is not older than `max_age` at `now`.
    pub fn fresh_price(&self, token: &str, now: Timestamp, max_age: TimeDelta) -> Result<Money> {
        let Some(point) = self.0.get(token).and_then(|position| position.price) else {
            return Err(PortfolioError::Conflict("price_missing", format!("No price of {token} is recorded")));
        };
        if now.0 - point.at.0 > max_age && !is_cash(token) {
            let text = format!("The last price of {token}, at {}, is older than {} s", point.at, max_age.num_seconds());
            return Err(PortfolioError::Conflict("price_too_old", text));
        }
        Ok(point.price)
    }

    /// What all of it is worth, at prices that are not older than `max_age`.
    pub fn total(&self, now: Timestamp, max_age: TimeDelta) -> Result<Money> {
        let mut total = Money::ZERO;
        for (token, position) in &self.0 {
            if position.amount.is_positive() {
                let price = self.fresh_price(token, now, max_age)?;
                let value = value_of(position.amount, price).ok_or_else(beyond_range)?;
                total = total.checked_add(value).ok_or_else(beyond_range)?;
            }
        }
        Ok(total)
    }

    /// Tokens that are held.
    pub fn held(&self) -> impl Iterator<Item = (&String, &Position)> {
        self.0.iter().filter(|(_, position)| position.amount.is_positive())
    }

    /// Percent of `total` that each held token is.
    pub fn percents(&self, total: Money) -> BTreeMap<&str, f64> {
        let whole = total.to_f64();
        let percent = |position: &Position| match position.value() {
            Some(value) if whole > 0.0 => 100.0 * value.to_f64() / whole,
            _ => 0.0,
        };
        self.held().map(|(token, position)| (token.as_str(), percent(position))).collect()
    }

    /// The positions as they are kept with a value; those that hold nothing and never gained are left out.
    pub fn recorded(&self) -> Vec<RecordedPosition> {
        let kept =
            self.0.iter().filter(|(_, position)| position.amount.is_positive() || position.net_invested != Money::ZERO);
        let record = |(token, position): (&String, &Position)| RecordedPosition {
            token: token.clone(),
            amount: position.amount,
            price: position.price.map_or(Money::ZERO, |point| point.price),
            value: position.value().unwrap_or_default(),
            net_invested: position.net_invested,
        };
        kept.map(record).collect()
    }

    /// `amount` came in, at this value, for which `cost` was paid.
    pub fn add(&mut self, token: &str, amount: Money, value: Money, cost: Money) -> Result<()> {
        let position = self.0.entry(token.to_owned()).or_default();
        position.amount = position.amount.checked_add(amount).ok_or_else(beyond_range)?;
        position.net_invested = position.net_invested.checked_add(value).ok_or_else(beyond_range)?;
        position.cost = position.cost.checked_add(cost).ok_or_else(beyond_range)?;
        Ok(())
    }

    /// `amount` went out, at this value. The ledger refuses more than there is.
    pub fn take(&mut self, token: &str, amount: Money, value: Money) -> Result<()> {
        let position = self.0.entry(token.to_owned()).or_default();
        position.cost = position.cost - position.cost_of(amount);
        position.amount = position.amount.checked_sub(amount).ok_or_else(beyond_range)?;
        position.net_invested = position.net_invested.checked_sub(value).ok_or_else(beyond_range)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn money(text: &str) -> Money {
        Money::parse_decimal(text).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp(chrono::DateTime::from_timestamp(second, 0).unwrap())
    }

    #[test]
    fn a_value_needs_prices_that_are_not_too_old() {
        let mut set = PositionSet::default();
        set.add("ETH", money("2"), money("20"), money("20")).unwrap();
        let hour = TimeDelta::hours(1);
        let code = |found: Result<Money>| match found.unwrap_err() {
            PortfolioError::Conflict(code, _) => code,
            other => panic!("{other}"),
        };
        assert_eq!(code(set.total(at(0), hour)), "price_missing");
        set.0.get_mut("ETH").unwrap().price = Some(PricePoint { price: money("12.5"), at: at(0) });
        assert_eq!(set.total(at(3600), hour).unwrap(), money("25"));
        assert_eq!(code(set.total(at(3601), hour)), "price_too_old");
        assert_eq!(set.percents(money("50"))["ETH"], 50.0);
    }

    #[test]
    fn cost_is_averaged_and_leaves_with_what_is_sold() {
        let mut set = PositionSet::default();
        set.add("ETH", money("1"), money("10"), money("10")).unwrap();
        set.add("ETH", money("1"), money("20"), money("20")).unwrap();
        set.take("ETH", money("0.5"), money("30")).unwrap();
        let eth = &set.0["ETH"];
        assert_eq!((eth.amount, eth.cost, eth.net_invested), (money("1.5"), money("22.5"), Money::ZERO));
        set.take("ETH", money("1.5"), money("1")).unwrap();
        assert_eq!((set.0["ETH"].amount, set.0["ETH"].cost), (Money::ZERO, Money::ZERO));
        assert_eq!(set.recorded().len(), 1, "what was lost with it stays known");
    }

    proptest! {
        /// Nothing is left of the cost when nothing is held, whatever was taken in which parts.
        #[test]
        fn no_cost_is_left_over(paid in 1i64..1_000_000_000_000, amount in 1i64..1_000_000_000, parts in prop::collection::vec(1u8..9, 0..20)) {
            let mut set = PositionSet::default();
            set.add("ETH", Money::from_units(amount), Money::ZERO, Money::from_units(paid)).unwrap();
            for part in parts {
                let amount = Money::from_units(set.0["ETH"].amount.units() / i64::from(part));
                set.take("ETH", amount, Money::ZERO).unwrap();
                let eth = &set.0["ETH"];
                prop_assert!(eth.cost.units() >= 0 && eth.amount.units() >= 0);
                if eth.amount.units() == 0 {
                    prop_assert_eq!(eth.cost, Money::ZERO);
                }
            }
        }
    }
}
