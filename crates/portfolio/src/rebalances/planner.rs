//! Which trades bring holdings to their targets, without I/O.

use am_core::money::Money;

use crate::{
    arithmetic::{Rounding, amount_for, value_of, whole_lots},
    trades::TradeRates,
};

/// Share of the whole below which a trade is left out: one point.
const MIN_SHARE: f64 = 0.01;
/// Points that a holding may be off its target before a rebalance is due.
const MAX_DRIFT_POINTS: f64 = 5.0;
/// Rounds in which what the trades cost is found. Each makes the error smaller by the costs' rate, at most a fifth.
const COST_ROUNDS: usize = 60;
/// Basis points in the whole.
const BASIS_POINTS: f64 = 10_000.0;

/// A token that is held or aimed at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlanItem {
    pub token: String,
    pub amount: Money,
    pub price: Money,
    /// Share of the whole, 0 to 1.
    pub target: f64,
    /// Amounts sold are multiples of it; nothing: any.
    pub lot: Money,
}

/// A trade to make: so much of one item is sold for another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlannedTrade {
    /// Place of the item that is sold.
    pub sell: usize,
    /// Place of the item that is bought.
    pub buy: usize,
    pub sell_amount: Money,
}

/// Value of an item, and how far it is above what it should be (below 0: what it lacks), both in AIT.
fn excesses(items: &[PlanItem], values: &[f64], costs: f64) -> Vec<f64> {
    let whole: f64 = values.iter().sum();
    // Targets are shares of what remains after the costs of getting there, which depend on what is sold.
    let sold = |remaining: f64| -> f64 {
        items.iter().zip(values).map(|(item, value)| (value - item.target * remaining).max(0.0)).sum()
    };
    let mut remaining = whole;
    for _ in 0..COST_ROUNDS {
        remaining = whole - costs * sold(remaining);
    }
    items.iter().zip(values).map(|(item, value)| value - item.target * remaining).collect()
}

/// The trades that bring `items` to their targets, each of one point of the whole at least. Their sum is bounded by `max_turnover`, a
/// share of the whole.
pub(crate) fn plan_trades(items: &[PlanItem], rates: TradeRates, max_turnover: Option<f64>) -> Vec<PlannedTrade> {
    let values: Vec<f64> =
        items.iter().map(|item| value_of(item.amount, item.price).unwrap_or_default().to_f64()).collect();
    let whole: f64 = values.iter().sum();
    if whole <= 0.0 {
        return Vec::new();
    }
    let kept = (1.0 - f64::from(rates.slippage) / BASIS_POINTS) * (1.0 - f64::from(rates.fee) / BASIS_POINTS);
    let least = MIN_SHARE * whole;
    let excess = excesses(items, &values, 1.0 - kept);
    let mut sells: Vec<(usize, f64)> = excess.iter().copied().enumerate().filter(|(_, over)| *over >= least).collect();
    // What must be sold to buy what is lacking.
    let lack = excess.iter().enumerate().map(|(at, over)| (at, -over / kept));
    let mut buys: Vec<(usize, f64)> = lack.filter(|(_, lack)| *lack >= least).collect();
    let total = |side: &[(usize, f64)]| side.iter().map(|(_, value)| value).sum::<f64>();
    let most = max_turnover.map_or(f64::INFINITY, |share| share * whole);
    let scale = (most / total(&sells).min(total(&buys))).min(1.0);
    for (_, value) in sells.iter_mut().chain(&mut buys) {
        *value *= scale;
    }
    // The largest first; of equal ones the first, so that the same holdings always give the same trades.
    sells.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    buys.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    let mut trades = Vec::new();
    let (mut sell, mut buy) = (0, 0);
    while let (Some((from, over)), Some((to, lack))) = (sells.get(sell).copied(), buys.get(buy).copied()) {
        let value = over.min(lack);
        trades.extend(trade(items, (from, to), value, least));
        sells[sell].1 -= value;
        buys[buy].1 -= value;
        sell += usize::from(over <= lack);
        buy += usize::from(lack <= over);
    }
    trades
}

/// One trade of a value; `None` where it is too small, or less than a lot.
fn trade(items: &[PlanItem], (sell, buy): (usize, usize), value: f64, least: f64) -> Option<PlannedTrade> {
    if value < least {
        return None;
    }
    let (from, to) = (items.get(sell)?, items.get(buy)?);
    let amount = amount_for(Money::try_from_f64(value)?, from.price, Rounding::Down)?.min(from.amount);
    let sell_amount = whole_lots(amount, from.lot);
    let bought = amount_for(value_of(sell_amount, from.price)?, to.price, Rounding::Down)?;
    (sell_amount.is_positive() && bought >= to.lot).then_some(PlannedTrade { sell, buy, sell_amount })
}

/// Why a rebalance is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DueReason {
    /// The strategy's time has passed since the last one.
    Frequency,
    /// A holding is more than five points off its target.
    Drift,
}

impl DueReason {
    pub fn word(self) -> &'static str {
        match self {
            Self::Frequency => "frequency",
            Self::Drift => "drift",
        }
    }
}

/// Points (percent of the whole) by which the holding that is farthest off its target is off.
pub(crate) fn largest_drift<'a>(shares: impl Iterator<Item = (f64, f64)> + 'a) -> f64 {
    shares.map(|(percent, target)| (percent - target).abs()).fold(0.0, f64::max)
}

/// Whether a rebalance is due: `elapsed` seconds after the last one, and with a holding `drift` points off its target.
pub(crate) fn due_reason(elapsed: f64, frequency: i64, drift: f64) -> Option<DueReason> {
    match (drift > MAX_DRIFT_POINTS, elapsed >= frequency as f64) {
        (true, _) => Some(DueReason::Drift),
        (false, true) => Some(DueReason::Frequency),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trades::TradeTerms;

    const RATES: TradeRates = TradeRates { fee: 10, slippage: 5 };

    fn item(token: &str, amount: &str, price: &str, target: f64) -> PlanItem {
        let money = |text| Money::parse_decimal(text).unwrap();
        PlanItem { token: token.into(), amount: money(amount), price: money(price), target, lot: Money::ZERO }
    }

    /// Shares of the whole after the trades, and the value sold.
    fn applied(items: &[PlanItem], trades: &[PlannedTrade], rates: TradeRates) -> (Vec<f64>, f64) {
        let (mut amounts, mut sold) = (items.iter().map(|item| item.amount).collect::<Vec<_>>(), 0.0);
        for trade in trades {
            let (from, to) = (&items[trade.sell], &items[trade.buy]);
            let pair = (from.token.as_str(), to.token.as_str());
            let terms = TradeTerms::at_prices(pair, trade.sell_amount, (from.price, to.price), rates).unwrap();
            amounts[trade.sell] = amounts[trade.sell] - terms.sell_amount;
            amounts[trade.buy] += terms.received_amount;
            sold += terms.sell_value.to_f64();
            assert!(amounts[trade.sell] >= Money::ZERO, "{trade:?}");
        }
        let values: Vec<f64> =
            items.iter().zip(&amounts).map(|(item, amount)| value_of(*amount, item.price).unwrap().to_f64()).collect();
        let whole: f64 = values.iter().sum();
        (values.iter().map(|value| value / whole).collect(), sold)
    }

    #[test]
    fn targets_are_reached_after_costs() {
        let items = [
            item("AIT", "1000", "1", 0.1),
            item("BTC", "0", "50", 0.5),
            item("ETH", "0", "7", 0.4),
            item("SOL", "0", "3", 0.0),
        ];
        let trades = plan_trades(&items, RATES, None);
        let (shares, _) = applied(&items, &trades, RATES);
        for (item, share) in items.iter().zip(shares) {
            assert!((share - item.target).abs() < 1e-7, "{} {share}", item.token);
        }
    }

    #[test]
    fn what_is_less_than_a_point_stays() {
        let items = [item("AIT", "509", "1", 0.5), item("ETH", "491", "1", 0.5)];
        assert_eq!(plan_trades(&items, RATES, None), []);
        let items = [item("AIT", "515", "1", 0.5), item("ETH", "485", "1", 0.5)];
        assert_eq!(plan_trades(&items, RATES, None).len(), 1);
        assert_eq!(plan_trades(&[item("AIT", "0", "1", 1.0)], RATES, None), []);
    }

    #[test]
    fn lots_and_turnover_bound_what_is_traded() {
        let mut items = [item("AIT", "0", "1", 0.5), item("ETH", "10", "100", 0.5)];
        items[1].lot = Money::parse_decimal("2").unwrap();
        let trades = plan_trades(&items, RATES, None);
        assert_eq!(trades[0].sell_amount.to_string(), "4", "5 are two lots and a half");
        items[0].lot = Money::parse_decimal("401").unwrap();
        assert_eq!(plan_trades(&items, RATES, None), [], "less than a lot would be bought");
        let items = [item("AIT", "0", "1", 0.5), item("ETH", "10", "100", 0.5)];
        let (_, sold) = applied(&items, &plan_trades(&items, RATES, Some(0.2)), RATES);
        assert!((sold - 200.0).abs() < 1e-6, "{sold}");
        assert_eq!(plan_trades(&items, RATES, Some(0.009)), []);
    }

    #[test]
    fn due_is_after_the_time_or_when_far_off() {
        assert_eq!(due_reason(10.0, 60, 5.0), None);
        assert_eq!(due_reason(10.0, 60, 5.1), Some(DueReason::Drift));
        assert_eq!(due_reason(60.0, 60, 0.0), Some(DueReason::Frequency));
        assert_eq!(largest_drift([(10.0, 12.5), (90.0, 87.5)].into_iter()), 2.5);
    }

    proptest! {
        /// Whatever is held: no more is sold than there is, no bound is broken, and no holding is farther off than before by more than a
        /// point and the costs.
        #[test]
        fn plans_keep_their_bounds(
            amounts in prop::collection::vec(0i64..1_000_000_000_000, 6),
            prices in prop::collection::vec(1_000i64..100_000_000_000, 6),
            weights in prop::collection::vec(0u32..100, 6),
            turnover in prop::option::of(0.01f64..1.0),
        ) {
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            let items: Vec<PlanItem> = (0..6).map(|at| PlanItem {
                token: format!("T{at}"),
                amount: Money::from_units(amounts[at]),
                price: Money::from_units(prices[at]),
                target: f64::from(weights[at]) / f64::from(sum),
                lot: Money::ZERO,
            }).collect();
            let trades = plan_trades(&items, RATES, turnover);
            let values: Vec<f64> = items.iter().map(|item| value_of(item.amount, item.price).unwrap().to_f64()).collect();
            let whole: f64 = values.iter().sum();
            prop_assume!(whole > 1.0);
            let (after, sold) = applied(&items, &trades, RATES);
            prop_assert!(sold <= turnover.unwrap_or(1.0) * whole + 1e-6);
            for trade in &trades {
                let value = value_of(trade.sell_amount, items[trade.sell].price).unwrap().to_f64();
                prop_assert!(value >= MIN_SHARE * whole - items[trade.sell].price.to_f64() - 1e-6, "{trade:?}");
            }
            if turnover.is_none() {
                for (item, share) in items.iter().zip(after) {
                    prop_assert!((share - item.target).abs() < 0.07, "{} {share} {}", item.token, item.target);
                }
            }
        }
    }
}
