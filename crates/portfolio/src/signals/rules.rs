//! What a rule finds in prices and holdings, without I/O.

use std::collections::BTreeMap;

use am_ledger::AIT;

use crate::model::{SignalKind, SignalRule, SignalSide};

/// Prices of a window that a rule needs at least.
const MIN_CLOSES: usize = 4;
/// Percent in the whole.
const WHOLE: f64 = 100.0;

/// What a rule found of a token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SignalFinding {
    pub rule: SignalKind,
    pub side: SignalSide,
    pub token: String,
    /// Points off the target, percent of change, or standard deviations from the mean.
    pub measured: f64,
    pub threshold: f64,
    /// 0.5 at the threshold, 1 from twice of it on.
    pub strength: f64,
    pub confidence: f64,
    /// Price that the rule expects.
    pub price_target: f64,
    /// Price at which its condition is over, all else unchanged.
    pub void_price: f64,
    pub reasoning: String,
    /// Points by which a rebalance moves the target, below 0 down.
    pub tilt: f64,
    pub expires_days: i64,
}

/// A holding as rule `drift` sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldingView {
    /// Percent of the whole that it is, and that it should be.
    pub percent: f64,
    pub target: f64,
    pub price: f64,
    /// Age of the price over the greatest that is taken, 0 to 1.
    pub staleness: f64,
}

fn finding(rule: &SignalRule, token: &str, measured: f64, side: SignalSide) -> SignalFinding {
    let strength = (measured.abs() / (2.0 * rule.threshold())).min(1.0);
    let points = if side == SignalSide::Buy { rule.tilt() } else { -rule.tilt() };
    SignalFinding {
        rule: rule.rule,
        side,
        token: token.to_owned(),
        measured,
        threshold: rule.threshold(),
        strength,
        confidence: 0.0,
        price_target: 0.0,
        void_price: 0.0,
        reasoning: String::new(),
        tilt: points * strength,
        expires_days: rule.expires_days(),
    }
}

/// Factor of the price at which a holding that is `share` of the whole becomes `wanted` of it, all else unchanged; 1 where no price
/// does that.
fn price_factor(share: f64, wanted: f64) -> f64 {
    let inside = |value: f64| value > 0.0 && value < 1.0;
    if inside(share) && inside(wanted) { wanted / (1.0 - wanted) * (1.0 - share) / share } else { 1.0 }
}

/// A holding that is further off its target than the threshold.
pub(super) fn drift(rule: &SignalRule, token: &str, holding: HoldingView) -> Option<SignalFinding> {
    let off = holding.percent - holding.target;
    if off.abs() <= rule.threshold() {
        return None;
    }
    let side = if off > 0.0 { SignalSide::Sell } else { SignalSide::Buy };
    let share = holding.percent / WHOLE;
    let void = (holding.target + off.signum() * rule.threshold()) / WHOLE;
    Some(SignalFinding {
        confidence: (1.0 - holding.staleness).clamp(0.0, 1.0),
        price_target: holding.price * price_factor(share, holding.target / WHOLE),
        void_price: holding.price * price_factor(share, void),
        reasoning: format!("{:.2} % are held, {} % are aimed at", holding.percent, holding.target),
        ..finding(rule, token, off, side)
    })
}

/// Share of the way of the prices that leads from the first to the last (Kaufman's efficiency ratio): 1 where they go one way only.
fn efficiency(closes: &[f64]) -> f64 {
    let way: f64 = closes.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
    match (closes.first(), closes.last()) {
        (Some(first), Some(last)) if way > 0.0 => ((last - first).abs() / way).min(1.0),
        _ => 0.0,
    }
}

/// What rule `momentum` or `reversion` finds in a token's daily prices, the oldest first. `None`: nothing, or fewer than half of the days
/// have a price.
pub(super) fn from_prices(rule: &SignalRule, token: &str, closes: &[f64]) -> Option<SignalFinding> {
    let enough = closes.len() >= MIN_CLOSES && 2 * closes.len() as i64 > rule.days();
    let (first, last) = (*closes.first()?, *closes.last()?);
    if !enough || first <= 0.0 || last <= 0.0 {
        return None;
    }
    match rule.rule {
        SignalKind::Drift => None,
        SignalKind::Momentum => momentum(rule, token, closes, (first, last)),
        SignalKind::Reversion => reversion(rule, token, closes, last),
    }
}

fn momentum(rule: &SignalRule, token: &str, closes: &[f64], (first, last): (f64, f64)) -> Option<SignalFinding> {
    let change = WHOLE * (last / first - 1.0);
    if change.abs() < rule.threshold() {
        return None;
    }
    let side = if change > 0.0 { SignalSide::Buy } else { SignalSide::Sell };
    let horizon = rule.expires_days() as f64 / rule.days() as f64;
    Some(SignalFinding {
        confidence: efficiency(closes),
        price_target: (last * (1.0 + change / WHOLE * horizon)).max(0.0),
        void_price: (first * (1.0 + change.signum() * rule.threshold() / WHOLE)).max(0.0),
        reasoning: format!("It changed by {change:.2} % in {} days", rule.days()),
        ..finding(rule, token, change, side)
    })
}

fn reversion(rule: &SignalRule, token: &str, closes: &[f64], last: f64) -> Option<SignalFinding> {
    let count = closes.len() as f64;
    let mean = closes.iter().sum::<f64>() / count;
    let squares: f64 = closes.iter().map(|close| (close - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    if deviation <= 1e-12 * mean {
        return None;
    }
    let off = (last - mean) / deviation;
    if off.abs() < rule.threshold() {
        return None;
    }
    let side = if off > 0.0 { SignalSide::Sell } else { SignalSide::Buy };
    Some(SignalFinding {
        confidence: 1.0 - efficiency(closes),
        price_target: mean,
        void_price: (mean + off.signum() * rule.threshold() * deviation).max(0.0),
        reasoning: format!("It is {off:.2} standard deviations off its mean of {} days", rule.days()),
        ..finding(rule, token, off, side)
    })
}

/// The targets, in percent, with `points` more for one token, or less below 0; the others keep their proportions, and what nobody else
/// is aimed at goes to AIT.
pub(super) fn tilted(targets: &BTreeMap<String, f64>, token: &str, points: f64) -> BTreeMap<String, f64> {
    let sum: f64 = targets.values().sum();
    let before = targets.get(token).copied().unwrap_or(0.0).min(sum);
    let after = (before + points).clamp(0.0, sum);
    let others = sum - before;
    let scale = if others > 0.0 { (sum - after) / others } else { 0.0 };
    let mut tilted: BTreeMap<String, f64> =
        targets.iter().map(|(other, percent)| (other.clone(), percent * scale)).collect();
    tilted.insert(token.to_owned(), after);
    if others <= 0.0 {
        *tilted.entry(AIT.to_owned()).or_default() += sum - after;
    }
    tilted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(kind: SignalKind, threshold: f64, days: Option<i64>) -> SignalRule {
        SignalRule { rule: kind, threshold: Some(threshold), days, tilt: None, expires_days: None }
    }

    fn targets(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|(token, share)| ((*token).to_owned(), *share)).collect()
    }

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9 * one.abs().max(1.0)
    }

    #[test]
    fn drift_names_the_prices_at_which_it_ends() {
        let rule = rule(SignalKind::Drift, 5.0, None);
        let view = |percent| HoldingView { percent, target: 50.0, price: 20.0, staleness: 0.25 };
        assert_eq!(drift(&rule, "ETH", view(55.0)), None, "the threshold itself is allowed");
        let found = drift(&rule, "ETH", view(60.0)).unwrap();
        assert_eq!((found.side, found.strength, found.confidence, found.tilt), (SignalSide::Sell, 1.0, 0.75, 0.0));
        // 60 of 100 are held: at two thirds of the price it is 40 of 80.
        assert!(near(found.price_target, 20.0 * 2.0 / 3.0), "{found:?}");
        // 55 %: 55 / 45 of the 40 that are held otherwise.
        assert!(near(found.void_price, 20.0 * (40.0 * 55.0 / 45.0) / 60.0), "{found:?}");
        let found = drift(&rule, "ETH", view(0.0)).unwrap();
        assert_eq!((found.side, found.price_target), (SignalSide::Buy, 20.0), "no price makes something of nothing");
    }

    #[test]
    fn momentum_is_change_and_its_confidence_is_directness() {
        let rule = rule(SignalKind::Momentum, 10.0, Some(5));
        let found = from_prices(&rule, "ETH", &[100.0, 104.0, 108.0, 112.0, 120.0]).unwrap();
        assert_eq!((found.side, found.confidence), (SignalSide::Buy, 1.0));
        assert!(near(found.strength, 1.0) && near(found.measured, 20.0) && near(found.tilt, 10.0), "{found:?}");
        assert!(near(found.price_target, 120.0 * 1.04) && near(found.void_price, 110.0), "{found:?}");
        let found = from_prices(&rule, "ETH", &[100.0, 110.0, 80.0, 90.0, 85.0]).unwrap();
        assert_eq!(found.side, SignalSide::Sell);
        assert!(near(found.confidence, 15.0 / 55.0) && near(found.strength, 0.75), "{found:?}");
        assert_eq!(from_prices(&rule, "ETH", &[100.0, 100.0, 100.0, 100.0, 109.9]), None);
        assert_eq!(from_prices(&rule, "ETH", &[100.0, 110.0, 120.0]), None, "too few prices");
        assert_eq!(from_prices(&SignalRule { days: Some(8), ..rule }, "ETH", &[1.0, 2.0, 3.0, 4.0]), None);
    }

    #[test]
    fn reversion_is_distance_from_the_mean() {
        let rule = rule(SignalKind::Reversion, 1.5, Some(6));
        let closes = [10.0, 10.0, 10.0, 10.0, 10.0, 16.0];
        let found = from_prices(&rule, "ETH", &closes).unwrap();
        let deviation = (30.0_f64 / 5.0).sqrt();
        assert_eq!((found.side, found.price_target, found.confidence), (SignalSide::Sell, 11.0, 0.0));
        assert!(near(found.measured, 5.0 / deviation) && near(found.void_price, 11.0 + 1.5 * deviation), "{found:?}");
        assert_eq!(from_prices(&rule, "ETH", &[10.0; 6]), None, "what does not vary is nowhere off");
        let found = from_prices(&rule, "ETH", &[10.0, 12.0, 10.0, 12.0, 10.0, 4.0]).unwrap();
        assert_eq!(found.side, SignalSide::Buy);
        assert!(near(found.confidence, 1.0 - 6.0 / 14.0), "{found:?}");
    }

    #[test]
    fn tilts_go_to_the_token_and_come_from_the_others() {
        let half = targets(&[("AIT", 20.0), ("BTC", 30.0), ("ETH", 50.0)]);
        assert_eq!(tilted(&half, "ETH", 10.0), targets(&[("AIT", 16.0), ("BTC", 24.0), ("ETH", 60.0)]));
        assert_eq!(tilted(&half, "ETH", -60.0), targets(&[("AIT", 40.0), ("BTC", 60.0), ("ETH", 0.0)]));
        assert_eq!(tilted(&half, "ETH", 70.0), targets(&[("AIT", 0.0), ("BTC", 0.0), ("ETH", 100.0)]));
        let all = targets(&[("ETH", 100.0)]);
        assert_eq!(tilted(&all, "ETH", -10.0), targets(&[("AIT", 10.0), ("ETH", 90.0)]));
    }

    proptest! {
        /// Whatever the prices: figures are finite and within their bounds, and the void price lies where the condition ends.
        #[test]
        fn findings_keep_their_bounds(
            closes in prop::collection::vec(0.01f64..1e6, 4..120),
            threshold in 0.1f64..10.0,
            is_momentum: bool,
        ) {
            let kind = if is_momentum { SignalKind::Momentum } else { SignalKind::Reversion };
            let rule = rule(kind, threshold, Some(closes.len() as i64));
            if let Some(found) = from_prices(&rule, "ETH", &closes) {
                prop_assert!((0.5 - 1e-9..=1.0).contains(&found.strength), "{found:?}");
                prop_assert!((0.0..=1.0).contains(&found.confidence), "{found:?}");
                prop_assert!(found.price_target.is_finite() && found.void_price.is_finite() && found.void_price >= 0.0);
                let last = closes[closes.len() - 1];
                let above = found.measured > 0.0;
                let (least, most) = if above { (0.0, last * (1.0 + 1e-9)) } else { (last * (1.0 - 1e-9), f64::MAX) };
                prop_assert!((least..=most).contains(&found.void_price), "{found:?}");
            }
        }

        /// Tilted targets still sum to what they did, and none is below 0.
        #[test]
        fn tilts_keep_the_sum(weights in prop::collection::vec(0u32..50, 1..6), points in -120.0f64..120.0) {
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            let targets: BTreeMap<String, f64> = weights.iter().enumerate()
                .map(|(at, weight)| (format!("T{at}"), 100.0 * f64::from(*weight) / f64::from(sum))).collect();
            let after = tilted(&targets, "T0", points);
            prop_assert!((after.values().sum::<f64>() - 100.0).abs() < 1e-9);
            prop_assert!(after.values().all(|percent| *percent >= -1e-12), "{after:?}");
        }
    }
}
