//! What must hold for any input.

use proptest::prelude::*;

use super::{close, market, objectives, problem};
use crate::{
    Allocation, AllocationLimits, AllocationObjective, AttributionPeriod, CashFlow, CovarianceMethod, CvarProblem,
    DenseMatrix, LinkageMethod, RebalanceRequest, SectorLimit, TurnoverLimit, attribute, efficient_frontier,
    estimate_covariance, hierarchical_risk_parity, matrix::dot, max_drawdown, mean_historical_return, measure_risk,
    minimise_cvar, money_weighted_return, optimise, plan_rebalance,
};

fn estimates(returns: &DenseMatrix) -> (DenseMatrix, Vec<f64>) {
    let covariance = estimate_covariance(returns, &CovarianceMethod::LedoitWolf, 252.0).unwrap().matrix;
    (covariance, mean_historical_return(returns, 252.0, false).unwrap())
}

/// Limits that some weights satisfy: those around equal ones do.
fn limits(kind: usize, assets: usize) -> AllocationLimits {
    let even = 1.0 / assets as f64;
    let mut limits = match kind % 3 {
        0 => AllocationLimits::long_only(assets),
        1 => AllocationLimits::between(assets, 0.0, (6.0 * even).min(1.0)),
        _ => AllocationLimits::between(assets, -0.1, 0.4_f64.max(even)),
    };
    if kind >= 3 {
        let members: Vec<usize> = (0..assets).filter(|at| at % 3 == 0).collect();
        let share = members.len() as f64 * even;
        let sector = SectorLimit { name: "every third".to_owned(), assets: members, least: share * 0.9, most: share };
        limits.sectors.push(sector);
    }
    if kind >= 6 {
        limits.turnover = Some(TurnoverLimit { current: vec![even; assets], most: 0.7 });
    }
    limits
}

/// What an objective makes small, and whether weights meet its target.
fn value(objective: &AllocationObjective, found: &Allocation) -> (f64, bool) {
    let variance = found.volatility * found.volatility;
    let expected = found.expected_return.unwrap();
    match objective {
        AllocationObjective::MinimumVariance => (variance, true),
        AllocationObjective::MaximumSharpe => (-found.sharpe_ratio.unwrap(), true),
        AllocationObjective::EfficientReturn { target_return } => (variance, expected >= target_return - 1e-7),
        AllocationObjective::EfficientRisk { target_volatility } => {
            (-expected, found.volatility <= target_volatility + 1e-7)
        }
        AllocationObjective::QuadraticUtility { risk_aversion } => (risk_aversion / 2.0 * variance - expected, true),
        AllocationObjective::RiskParity { .. } => (0.0, true),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_keep_their_limits_and_none_is_better_by_its_objective(
        seed in 0_u64..1000, assets in 3_usize..70, kind in 0_usize..9,
    ) {
        let (covariance, returns) = estimates(&market(seed, 120, assets));
        let limits = limits(kind, assets);
        let problem = problem(&covariance, &returns, &limits);
        let safest = optimise(&problem, &AllocationObjective::MinimumVariance).unwrap();
        let frontier = efficient_frontier(&problem, 3).unwrap();
        let middle = &frontier[1];
        let mut answers = Vec::new();
        for objective in objectives(middle.expected_return.unwrap(), middle.volatility) {
            let short = limits.lower.iter().any(|lower| *lower < 0.0);
            if short && matches!(objective, AllocationObjective::RiskParity { .. }) {
                continue;
            }
            match optimise(&problem, &objective) {
                Ok(found) => answers.push((objective, found)),
                Err(error) => prop_assert_eq!(error.argument(), "risk_free_rate", "{:?}: {}", objective, error),
            }
        }
        for (objective, found) in &answers {
            prop_assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{objective:?}");
            prop_assert!(limits.allow(&found.weights), "{objective:?}: {:?}", found.weights);
            prop_assert!(found.gap < 1e-6, "{objective:?}: {}", found.gap);
            let (own, met) = value(objective, found);
            prop_assert!(met, "{objective:?}: {found:?}");
            let others = answers.iter().map(|(_, other)| other).chain(&frontier).chain([&safest]);
            for other in others {
                let (other, met) = value(objective, other);
                prop_assert!(!met || own <= other + 1e-6, "{objective:?}: {own}, and {other} is better");
            }
        }
        // No exchange of weight between two assets lowers the variance.
        if limits.sectors.is_empty() {
            let slopes = covariance.times(&safest.weights);
            let can = |at: usize, bounds: &[f64]| (safest.weights[at] - bounds[at]).abs() > 1e-6;
            let most = (0..assets).filter(|at| can(*at, &limits.lower)).map(|at| slopes[at]).fold(f64::MIN, f64::max);
            let least = (0..assets).filter(|at| can(*at, &limits.upper)).map(|at| slopes[at]).fold(f64::MAX, f64::min);
            prop_assert!(most - least < 1e-6, "{most} and {least}");
        }
    }

    #[test]
    fn risk_contributions_are_their_budgets(seed in 0_u64..1000, assets in 2_usize..60) {
        let (covariance, returns) = estimates(&market(seed, 90, assets));
        let limits = AllocationLimits::long_only(assets);
        let problem = problem(&covariance, &returns, &limits);
        let budgets: Vec<f64> = (0..assets).map(|at| 1.0 + (at % 4) as f64).collect();
        let total: f64 = budgets.iter().sum();
        let objective = AllocationObjective::RiskParity { budgets: Some(budgets.clone()) };
        let found = optimise(&problem, &objective).unwrap();
        let slopes = covariance.times(&found.weights);
        let variance = dot(&slopes, &found.weights);
        for ((slope, weight), budget) in slopes.iter().zip(&found.weights).zip(&budgets) {
            prop_assert!((slope * weight / variance - budget / total).abs() < 1e-9);
        }
        // A limit that the answer keeps changes nothing; one that it breaks is kept.
        let largest = found.weights.iter().fold(0.0_f64, |most, weight| most.max(*weight));
        let wide = AllocationLimits::between(assets, 0.0, largest + 1e-6);
        let same = optimise(&super::problem(&covariance, &returns, &wide), &objective).unwrap();
        prop_assert_eq!(&same.weights, &found.weights);
        let cap = (0.5 * (largest + 1.0 / assets as f64)).max(1.0 / assets as f64 + 1e-3);
        let narrow = AllocationLimits::between(assets, 0.0, cap);
        let capped = optimise(&super::problem(&covariance, &returns, &narrow), &objective).unwrap();
        prop_assert!(narrow.allow(&capped.weights));
    }

    /// The tree of two pairs is even, so no half of its leaves depends on the order of the tokens.
    #[test]
    fn hierarchical_weights_of_two_pairs_ignore_the_order(
        seed in 0_u64..1000, order in Just(vec![0_usize, 1, 2, 3]).prop_shuffle(),
    ) {
        let drawn = market(seed, 200, 6);
        let column = |token: usize| -> Vec<f64> {
            let (common, own) = (drawn.column(token / 2), drawn.column(token + 2));
            common.iter().zip(&own).map(|(common, own)| common + 0.05 * own).collect()
        };
        let weights = |order: &[usize]| -> Vec<f64> {
            let columns: Vec<Vec<f64>> = order.iter().map(|token| column(*token)).collect();
            let returns = DenseMatrix::from_columns(&columns).unwrap();
            hierarchical_risk_parity(&returns, LinkageMethod::Single, 252.0).unwrap().weights
        };
        let (plain, shuffled) = (weights(&[0, 1, 2, 3]), weights(&order));
        for (place, token) in order.iter().enumerate() {
            prop_assert!((shuffled[place] - plain[*token]).abs() < 1e-9, "{order:?}: {plain:?}, {shuffled:?}");
        }
    }

    #[test]
    fn hierarchical_weights_sum_to_one_and_ignore_the_scale(seed in 0_u64..1000, assets in 2_usize..40) {
        let returns = market(seed, 80, assets);
        for linkage in [LinkageMethod::Single, LinkageMethod::Complete, LinkageMethod::Average] {
            let found = hierarchical_risk_parity(&returns, linkage, 252.0).unwrap();
            prop_assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            prop_assert!(found.weights.iter().all(|weight| *weight > 0.0));
            let twice = returns.clone().map(|_, _, value| 2.0 * value);
            let scaled = hierarchical_risk_parity(&twice, linkage, 252.0).unwrap();
            close("weights", &scaled.weights, &found.weights, 1e-12);
        }
    }

    #[test]
    fn no_other_weights_have_a_lower_conditional_value_at_risk(
        seed in 0_u64..1000, assets in 3_usize..60, periods in 40_usize..200,
    ) {
        let scenarios = market(seed, periods, assets);
        let limits = AllocationLimits::between(assets, 0.0, (4.0 / assets as f64).min(1.0));
        let problem = CvarProblem {
            scenarios: &scenarios, expected_returns: None, confidence: 0.9, target_return: None, limits: &limits,
        };
        let found = minimise_cvar(&problem).unwrap();
        prop_assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert!(limits.allow(&found.weights));
        prop_assert!(found.cvar >= found.value_at_risk - 1e-12);
        let tail = |weights: &[f64]| {
            let mut losses: Vec<f64> = scenarios.times(weights).iter().map(|value| -value).collect();
            losses.sort_by(f64::total_cmp);
            losses.reverse();
            let size = 0.1 * periods as f64;
            let whole = size.floor() as usize;
            let rest = losses.get(whole).map_or(0.0, |loss| loss * (size - whole as f64));
            (losses[..whole].iter().sum::<f64>() + rest) / size
        };
        prop_assert!((tail(&found.weights) - found.cvar).abs() < 1e-9);
        // Towards equal weights, and towards each asset with room, it only rises.
        let even = 1.0 / assets as f64;
        let towards = |other: &dyn Fn(usize) -> f64| -> Vec<f64> {
            found.weights.iter().enumerate().map(|(at, weight)| 0.99 * weight + 0.01 * other(at)).collect()
        };
        prop_assert!(tail(&towards(&|_| even)) >= found.cvar - 1e-8);
        for asset in 0..assets {
            let moved = towards(&|at| f64::from(u8::from(at == asset)));
            prop_assert!(!limits.allow(&moved) || tail(&moved) >= found.cvar - 1e-8);
        }
    }

    #[test]
    fn drawdowns_are_between_values_of_the_series(returns in prop::collection::vec(-0.5_f64..0.5, 1..200)) {
        let found = max_drawdown(&returns).unwrap();
        prop_assert!((-1.0..=0.0).contains(&found.depth));
        prop_assert!(found.peak <= found.trough && found.recovery.is_none_or(|at| at > found.trough));
        let mut values = vec![1.0];
        for value in &returns {
            values.push(values.last().unwrap() * (1.0 + value));
        }
        let fall = values[found.trough] / values[found.peak] - 1.0;
        prop_assert!((fall - found.depth).abs() < 1e-12);
        for (at, value) in values.iter().enumerate() {
            let highest = values[..=at].iter().fold(0.0_f64, |most, value| most.max(*value));
            prop_assert!(value / highest - 1.0 >= found.depth - 1e-12);
        }
        let risk = measure_risk(&returns, &crate::RiskOptions::default()).unwrap();
        prop_assert!(risk.cvar_95 <= risk.var_95 + 1e-15 && risk.var_99 <= risk.var_95);
        let score = crate::rate_risk(&risk).score;
        prop_assert!((0.0..=100.0).contains(&score));
    }

    #[test]
    fn contributions_sum_to_the_return(
        seed in 0_u64..1000, assets in 1_usize..8, periods in 1_usize..40,
    ) {
        let returns = market(seed, periods, assets);
        let mut values: Vec<f64> = (0..assets).map(|at| 100.0 + at as f64).collect();
        let mut spans = Vec::new();
        let mut growth = 1.0;
        for row in 0..periods {
            let gains: Vec<f64> = values.iter().zip(returns.row(row)).map(|(value, change)| value * change).collect();
            let begin: f64 = values.iter().sum();
            growth *= 1.0 + gains.iter().sum::<f64>() / begin;
            spans.push(AttributionPeriod { begin_values: values.clone(), gains: gains.clone() });
            // Deposits between the spans don't count.
            values = values.iter().zip(&gains).map(|(value, gain)| value + gain + 5.0).collect();
        }
        let found = attribute(&spans).unwrap();
        let sum: f64 = found.assets.iter().map(|asset| asset.contribution).sum();
        prop_assert_eq!(sum, found.total_return);
        prop_assert!((found.total_return - (growth - 1.0)).abs() < 1e-12);
        let gained: f64 = spans.iter().flat_map(|span| &span.gains).sum();
        prop_assert!((found.assets.iter().map(|asset| asset.gain).sum::<f64>() - gained).abs() < 1e-9);
    }

    #[test]
    fn flows_are_worth_nothing_at_their_rate(
        deposits in prop::collection::vec((0.0_f64..5.0, 1.0_f64..1000.0), 1..20), rate in -0.9_f64..4.0,
    ) {
        // What the deposits grow to at the rate is taken out after the last.
        let end: f64 = deposits.iter().map(|(years, amount)| amount * (1.0 + rate).powf(6.0 - years)).sum();
        let mut flows: Vec<CashFlow> =
            deposits.iter().map(|(years, amount)| CashFlow { years: *years, amount: -amount }).collect();
        flows.push(CashFlow { years: 6.0, amount: end });
        let found = money_weighted_return(&flows).unwrap();
        prop_assert!(found.unique);
        prop_assert!((found.rate - rate).abs() < 1e-9 * (1.0 + rate.abs()), "{} for {rate}", found.rate);
    }

    #[test]
    fn plans_spend_what_there_is(
        holdings in prop::collection::vec(0.0_f64..50.0, 2..10), seed in 0_u64..1000, cash in 0.0_f64..5000.0,
        fee in 0.0_f64..0.02, lots in any::<bool>(), limit in prop::option::of(0.05_f64..1.0), drift in 0.0_f64..0.05,
    ) {
        let assets = holdings.len();
        let noise = market(seed, 2, assets);
        let prices: Vec<f64> = (0..assets).map(|at| 20.0 + at as f64 + 100.0 * noise.get(0, at).abs()).collect();
        let raw: Vec<f64> = (0..assets).map(|at| noise.get(1, at).abs() + 1e-3).collect();
        let total: f64 = raw.iter().sum();
        let targets: Vec<f64> = raw.iter().map(|value| value / total).collect();
        let lot_sizes = vec![0.5; assets];
        let request = RebalanceRequest {
            holdings: &holdings, prices: &prices, targets: &targets, cash: cash + 1.0,
            lot_sizes: lots.then_some(&lot_sizes), fee_rate: fee, slippage_rate: 0.001, minimum_trade: 5.0,
            minimum_drift: drift, turnover_limit: limit,
        };
        let plan = plan_rebalance(&request).unwrap();
        prop_assert!(plan.cash_after >= 0.0);
        let before = dot(&holdings, &prices) + request.cash;
        let costs: f64 = plan.trades.iter().map(|trade| trade.fee + trade.slippage).sum();
        let mut after = holdings.clone();
        for trade in &plan.trades {
            after[trade.asset] += trade.units;
            prop_assert!(trade.value >= 5.0 && (trade.value - trade.units.abs() * prices[trade.asset]).abs() < 1e-9);
            let whole = (trade.units / 0.5).round() * 0.5;
            let all = after[trade.asset].abs() < 1e-12;
            prop_assert!(!lots || all || (trade.units - whole).abs() < 1e-9, "{} units", trade.units);
            let weight = plan.weights_before[trade.asset];
            prop_assert!((weight - targets[trade.asset]).abs() >= drift);
        }
        prop_assert!(after.iter().all(|units| *units >= -1e-12));
        prop_assert!((dot(&after, &prices) + plan.cash_after + costs - before).abs() < 1e-6 * before);
        prop_assert!(plan.turnover <= limit.unwrap_or(2.0) + 1e-9);
        if !lots && limit.is_none() && drift == 0.0 {
            close("weights", &plan.weights_after, &targets, 0.02);
        }
    }
}
