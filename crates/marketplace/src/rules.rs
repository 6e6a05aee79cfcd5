//! The rules of the marketplace as formulas without I/O. Their source is the coordinator's marketplace of services; docs/ECONOMY.md
//! lists them.

use std::ops::RangeInclusive;

use chrono::TimeDelta;

use am_core::money::Money;
use am_db::codec::Timestamp;

/// Range of the base price of a service, in units of 1e-8 AIT: 0.001 to 1000 AIT.
pub const BASE_PRICE_UNITS: RangeInclusive<i64> = 100_000..=100_000_000_000;
/// Lengths of a service's description, in characters.
pub const DESCRIPTION_LEN: RangeInclusive<usize> = 10..=5000;
/// Lengths of a name of a service, in characters.
pub const SERVICE_NAME_LEN: RangeInclusive<usize> = 1..=100;
/// Lengths of a guild's name, in characters.
pub const GUILD_NAME_LEN: RangeInclusive<usize> = 3..=100;
/// Reputation, of 10 000, that an agent needs to list a service.
pub const MIN_LISTING_REPUTATION: f64 = 500.0;
/// Largest time from a request to its deadline.
pub const MAX_DEADLINE: TimeDelta = TimeDelta::days(365);
/// Time after a request's deadline in which it may be rated.
pub const RATING_WINDOW: TimeDelta = TimeDelta::days(30);
/// The platform's share of a payment: 25 of 1000.
pub const FEE_SHARE: (i64, i64) = (25, 1000);
/// Jobs beyond which an agent's experience raises its price.
pub const EXPERIENCED_JOBS: i64 = 10;
/// Basis points of which a guild's contribution is counted.
pub const BASIS_POINTS: i64 = 10_000;
/// Range of the share of its members' income that a guild may ask for, in basis points.
pub const CONTRIBUTION_POINTS: RangeInclusive<i64> = 0..=5000;

/// What the price of an accepted request is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceFacts {
    /// Base price of the service.
    pub base_price: Money,
    /// Most that the client pays.
    pub budget: Money,
    /// Reputation of the agent, 0 to 10 000.
    pub reputation: f64,
    /// Paid requests that the agent has completed.
    pub jobs: i64,
    /// Mean rating of the service, 1 to 5; 0: it has none.
    pub rating: f64,
}

/// Price of a request on its acceptance, at most the budget:
/// base × (1 + reputation / 10000 × 0.5) × (1 + jobs / 100 × 0.5, beyond 10 jobs) × (1 + rating / 5 × 0.3), rounded to 8 places.
pub fn acceptance_price(facts: PriceFacts) -> Money {
    let reputation = 1.0 + facts.reputation / 10_000.0 * 0.5;
    let experience = if facts.jobs > EXPERIENCED_JOBS { 1.0 + facts.jobs as f64 / 100.0 * 0.5 } else { 1.0 };
    let rating = 1.0 + facts.rating / 5.0 * 0.3;
    facts.base_price.scaled(reputation * experience * rating).min(facts.budget)
}

/// The platform's fee of a payment: 2.5 %, rounded half up to a unit.
pub fn platform_fee(payment: Money) -> Money {
    payment.mul_div(FEE_SHARE.0, FEE_SHARE.1).unwrap_or(Money::ZERO)
}

/// How a payment is divided: the sum of the three is the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentShares {
    /// What the provider gets.
    pub provider: Money,
    /// What the platform gets.
    pub fee: Money,
    /// What the treasury of the agent's guild gets.
    pub guild: Money,
}

/// Divide a payment; the guild's share is of what is left after the fee.
pub fn divide_payment(payment: Money, contribution_points: i64) -> PaymentShares {
    let fee = platform_fee(payment);
    let rest = payment - fee;
    let guild = rest.mul_div(contribution_points, BASIS_POINTS).unwrap_or(Money::ZERO);
    PaymentShares { provider: rest - guild, fee, guild }
}

/// Change of reputation, of 10 000, by a rating: +200, +100, 0, −100, −200 for 5 to 1; `None` for what is no rating.
pub fn rating_change(rating: i64) -> Option<f64> {
    match rating {
        5 => Some(200.0),
        4 => Some(100.0),
        3 => Some(0.0),
        2 => Some(-100.0),
        1 => Some(-200.0),
        _ => None,
    }
}

/// Whether a request with this deadline may still be rated.
pub fn may_be_rated(deadline: Timestamp, now: Timestamp) -> bool {
    now.0 <= deadline.0 + RATING_WINDOW
}

/// Whether an agent of this reputation may join a guild: it has at least half the guild's, which is null without members.
pub fn may_join(reputation: f64, guild: Option<f64>) -> bool {
    guild.is_none_or(|guild| reputation >= guild / 2.0)
}

/// Reputation of a guild: the mean of its members'; `None` without members.
pub fn mean_reputation(members: &[f64]) -> Option<f64> {
    (!members.is_empty()).then(|| members.iter().sum::<f64>() / members.len() as f64)
}

/// Relative change from `before` to `after`; `None` where there was nothing before.
pub fn growth(before: f64, after: f64) -> Option<f64> {
    (before > 0.0).then(|| (after - before) / before)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts() -> PriceFacts {
        PriceFacts {
            base_price: Money::from_f64(10.0),
            budget: Money::from_f64(100.0),
            reputation: 0.0,
            jobs: 0,
            rating: 0.0,
        }
    }

    #[test]
    fn a_price_follows_reputation_experience_and_rating() {
        let price = |facts| acceptance_price(facts).to_f64();
        assert_eq!(price(facts()), 10.0);
        assert_eq!(price(PriceFacts { reputation: 5000.0, ..facts() }), 12.5);
        assert_eq!(price(PriceFacts { jobs: 10, ..facts() }), 10.0, "experience counts beyond ten jobs");
        assert_eq!(price(PriceFacts { jobs: 11, ..facts() }), 10.55);
        assert_eq!(price(PriceFacts { rating: 5.0, ..facts() }), 13.0);
        let all = PriceFacts { reputation: 10_000.0, jobs: 100, rating: 4.0, ..facts() };
        assert_eq!(price(all), 27.9);
        assert_eq!(price(PriceFacts { budget: Money::from_f64(20.0), ..all }), 20.0, "never more than the budget");
    }

    #[test]
    fn a_fee_is_two_and_a_half_percent_rounded_to_the_unit() {
        assert_eq!(platform_fee(Money::from_f64(40.0)), Money::from_f64(1.0));
        assert_eq!(platform_fee(Money::from_units(20)), Money::from_units(1), "half a unit is rounded up");
        assert_eq!(platform_fee(Money::from_units(19)), Money::ZERO);
    }

    #[test]
    fn ratings_change_reputation_as_the_contract_says() {
        let changes: Vec<Option<f64>> = (0..=6).map(rating_change).collect();
        assert_eq!(changes, [None, Some(-200.0), Some(-100.0), Some(0.0), Some(100.0), Some(200.0), None]);
    }

    #[test]
    fn a_guild_is_joined_with_half_its_reputation() {
        assert_eq!(mean_reputation(&[4000.0, 6000.0]), Some(5000.0));
        assert_eq!(mean_reputation(&[]), None);
        assert!(may_join(0.0, None) && may_join(2500.0, Some(5000.0)) && !may_join(2499.9, Some(5000.0)));
    }

    #[test]
    fn rating_ends_thirty_days_after_the_deadline() {
        let deadline = Timestamp::from_stored("2026-05-01 00:00:00.000000").unwrap();
        let at = |text| Timestamp::from_stored(text).unwrap();
        assert!(may_be_rated(deadline, at("2026-05-31 00:00:00.000000")));
        assert!(!may_be_rated(deadline, at("2026-05-31 00:00:00.000001")));
    }

    #[test]
    fn growth_of_nothing_is_unknown() {
        assert_eq!((growth(0.0, 5.0), growth(4.0, 5.0), growth(4.0, 0.0)), (None, Some(0.25), Some(-1.0)));
    }

    proptest! {
        #[test]
        fn a_payment_is_divided_without_a_rest(units in 0i64..=100_000_000_000_000, points in 0i64..=5000) {
            let payment = Money::from_units(units);
            let shares = divide_payment(payment, points);
            prop_assert_eq!(shares.provider + shares.fee + shares.guild, payment);
            prop_assert!(shares.provider >= Money::ZERO && shares.fee >= Money::ZERO && shares.guild >= Money::ZERO);
        }

        #[test]
        fn a_price_is_from_the_base_to_the_budget(
            base in 100_000i64..=100_000_000_000, more in 0i64..1_000_000_000, reputation in 0.0f64..=10_000.0,
            jobs in 0i64..10_000, rating in 0.0f64..=5.0,
        ) {
            let (base_price, budget) = (Money::from_units(base), Money::from_units(base + more));
            let price = acceptance_price(PriceFacts { base_price, budget, reputation, jobs, rating });
            prop_assert!(price >= base_price && price <= budget, "{price}");
        }
    }
}
