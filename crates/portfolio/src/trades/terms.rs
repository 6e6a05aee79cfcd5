//! The terms of a trade, from two prices: what is paid for what, with fee and slippage apart. Without I/O.

use am_core::money::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    arithmetic::{basis_points_of, exchanged, value_of},
    error::{PortfolioError, Result},
};

/// What a trade costs beside its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TradeRates {
    /// Basis points of what is bought that are the service's fee.
    pub fee: u32,
    /// Basis points that the price is worse than the recorded one.
    pub slippage: u32,
}

/// The terms of a trade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TradeTerms {
    /// Symbol of the token that is sold.
    pub sell_token: String,
    /// Symbol of the token that is bought.
    pub buy_token: String,
    /// Amount that is sold.
    #[serde(with = "am_core::money::exact")]
    pub sell_amount: Money,
    /// Recorded price of the token that is sold, in AIT.
    #[serde(with = "am_core::money::exact")]
    pub sell_price: Money,
    /// Recorded price of the token that is bought, in AIT.
    #[serde(with = "am_core::money::exact")]
    pub buy_price: Money,
    /// Amount sold times its price over the other price, rounded down, less `slippage_amount`.
    #[serde(with = "am_core::money::exact")]
    pub buy_amount: Money,
    /// What the trade is assumed to lose to the market, in the token that is bought, rounded up.
    #[serde(with = "am_core::money::exact")]
    pub slippage_amount: Money,
    /// The service's fee, in the token that is bought, rounded up.
    #[serde(with = "am_core::money::exact")]
    pub fee_amount: Money,
    /// What the portfolio receives: `buy_amount` less `fee_amount`.
    #[serde(with = "am_core::money::exact")]
    pub received_amount: Money,
    /// What was sold, in AIT at its recorded price.
    #[serde(with = "am_core::money::exact")]
    pub sell_value: Money,
    /// What is received, in AIT at its recorded price.
    #[serde(with = "am_core::money::exact")]
    pub received_value: Money,
}

impl TradeTerms {
    /// The terms of selling `sell_amount` of one token for another.
    ///
    /// # Errors
    /// [`PortfolioError::Invalid`] where so little would be bought that nothing is received, or an amount is beyond the range.
    pub(crate) fn at_prices(
        (sell_token, buy_token): (&str, &str),
        sell_amount: Money,
        (sell_price, buy_price): (Money, Money),
        rates: TradeRates,
    ) -> Result<Self> {
        let beyond = || PortfolioError::invalid("sell_amount", "is worth more than can be counted");
        let gross = exchanged(sell_amount, sell_price, buy_price).ok_or_else(beyond)?;
        let slippage_amount = basis_points_of(gross, rates.slippage).ok_or_else(beyond)?.min(gross);
        let buy_amount = gross - slippage_amount;
        let fee_amount = basis_points_of(buy_amount, rates.fee).ok_or_else(beyond)?.min(buy_amount);
        let received_amount = buy_amount - fee_amount;
        if !received_amount.is_positive() {
            let text = format!("is worth nothing in {buy_token} after fee and slippage");
            return Err(PortfolioError::invalid("sell_amount", text));
        }
        Ok(Self {
            sell_token: sell_token.to_owned(),
            buy_token: buy_token.to_owned(),
            sell_amount,
            sell_price,
            buy_price,
            buy_amount,
            slippage_amount,
            fee_amount,
            received_amount,
            sell_value: value_of(sell_amount, sell_price).ok_or_else(beyond)?,
            received_value: value_of(received_amount, buy_price).ok_or_else(beyond)?,
        })
    }

    /// What the trade costs in AIT: the values' difference.
    pub(crate) fn cost(&self) -> Money {
        self.sell_value - self.received_value
    }

    /// How many of the token bought are received for one sold, before the fee.
    pub(crate) fn rate(&self) -> f64 {
        self.buy_amount.to_f64() / self.sell_amount.to_f64()
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
    fn fee_and_slippage_stand_apart() {
        let rates = TradeRates { fee: 10, slippage: 5 };
        let terms = TradeTerms::at_prices(("AIT", "ETH"), money("1000"), (money("1"), money("20")), rates).unwrap();
        let amounts = [terms.buy_amount, terms.slippage_amount, terms.fee_amount, terms.received_amount];
        assert_eq!(amounts, ["49.975", "0.025", "0.049975", "49.925025"].map(money));
        assert_eq!(
            (terms.sell_value, terms.received_value, terms.cost()),
            (money("1000"), money("998.5005"), money("1.4995"))
        );
    }

    #[test]
    fn what_is_worth_nothing_is_refused() {
        let rates = TradeRates { fee: 10, slippage: 5 };
        let tiny = TradeTerms::at_prices(("AIT", "BTC"), money("0.00000001"), (money("1"), money("60000")), rates);
        assert!(matches!(tiny, Err(PortfolioError::Invalid(_))));
        let huge = TradeTerms::at_prices(("BTC", "AIT"), Money::MAX, (money("60000"), money("1")), rates);
        assert!(matches!(huge, Err(PortfolioError::Invalid(_))));
    }

    proptest! {
        /// No trade makes money at the prices it is made at, and nothing vanishes: what is bought is slippage, fee and receipt.
        #[test]
        fn no_trade_earns(
            amount in 1i64..1_000_000_000_000_000,
            prices in (1i64..10_000_000_000_000, 1i64..10_000_000_000_000),
            fee in 0u32..1000,
            slippage in 0u32..1000,
        ) {
            let (amount, prices) = (Money::from_units(amount), (Money::from_units(prices.0), Money::from_units(prices.1)));
            if let Ok(terms) = TradeTerms::at_prices(("A", "B"), amount, prices, TradeRates { fee, slippage }) {
                let gross = exchanged(amount, prices.0, prices.1).unwrap();
                prop_assert_eq!(terms.slippage_amount + terms.fee_amount + terms.received_amount, gross);
                prop_assert!(terms.received_value <= terms.sell_value, "{terms:?}");
                prop_assert!(terms.received_amount.is_positive());
            }
        }
    }
}
