//! Returns of a portfolio that money flows into and out of.

use crate::error::{MathError, Result, at_least, finite};

/// Steps of the root search at most; bisection alone needs about 60.
const ROOT_STEPS: u32 = 200;
/// The largest growth exponent of a year that is looked for: e to that power.
const GROWTH_BOUND: f64 = 512.0;

/// A portfolio's value just before money flows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValuationPoint {
    /// The value just before the flow; 0 before the first deposit.
    pub value_before_flow: f64,
    /// Money that flows in (above 0) or out (below 0) at this moment.
    pub flow: f64,
}

/// The time-weighted return: the growth between flows, chain-linked: Π value before a flow / (value before the last
/// flow + that flow), less 1 (GIPS 2020). The last point's flow is not counted. Spans in which nothing is invested are
/// left out. Fails below two points, or if a value is below 0 or a span begins with less than 0 or gains from nothing.
pub fn time_weighted_return(points: &[ValuationPoint]) -> Result<f64> {
    at_least("points", 2, points.len())?;
    let mut growth = 1.0;
    for (at, pair) in points.windows(2).enumerate() {
        finite("points", &[pair[0].value_before_flow, pair[0].flow, pair[1].value_before_flow])?;
        let (begin, end) = (pair[0].value_before_flow + pair[0].flow, pair[1].value_before_flow);
        if begin < 0.0 || end < 0.0 || (begin == 0.0 && end > 0.0) {
            let reason = format!("the span from point {at} begins with {begin} and ends with {end}");
            return Err(MathError::invalid("points", reason));
        }
        if begin > 0.0 {
            growth *= end / begin;
        }
    }
    Ok(growth - 1.0)
}

/// Money between an investor and a portfolio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CashFlow {
    /// The time in years since any one moment.
    pub years: f64,
    /// What the investor gets (above 0: withdrawals, the final value) or pays (below 0: deposits, the opening value).
    pub amount: f64,
}

/// A money-weighted return.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MoneyWeightedReturn {
    /// The return of a year.
    pub rate: f64,
    /// Whether it is the only one: flows, by time, change their sign once (Descartes). Otherwise several rates may solve
    /// the equation, and this is one near 0.
    pub unique: bool,
    /// Steps of the search.
    pub iterations: u32,
}

/// The internal rate of return: the rate at which all flows are worth nothing together, Σ amount / (1 + rate)^years = 0.
/// The root is bracketed, then found by Newton's method, with bisection where a step would leave the bracket. Fails
/// unless there are flows in both directions at different times, or if no rate solves the equation.
pub fn money_weighted_return(flows: &[CashFlow]) -> Result<MoneyWeightedReturn> {
    at_least("flows", 2, flows.len())?;
    let (mut flows, first) = (flows.to_vec(), flows.iter().fold(f64::INFINITY, |least, flow| least.min(flow.years)));
    for flow in &mut flows {
        finite("flows", &[flow.years, flow.amount])?;
        flow.years -= first;
    }
    flows.sort_by(|a, b| a.years.total_cmp(&b.years));
    let flows: Vec<CashFlow> = flows.into_iter().filter(|flow| flow.amount != 0.0).collect();
    let changes = flows.windows(2).filter(|pair| pair[0].amount.signum() != pair[1].amount.signum()).count();
    if changes == 0 {
        return Err(MathError::invalid("flows", "are all in one direction"));
    }
    if flows.first().map(|flow| flow.years) == flows.last().map(|flow| flow.years) {
        return Err(MathError::invalid("flows", "are all at one moment"));
    }
    let size: f64 = flows.iter().map(|flow| flow.amount.abs()).sum();
    // Of the growth exponent g = ln(1 + rate), in which the sum is smooth for all rates.
    let worth = |growth: f64| -> (f64, f64) {
        flows.iter().fold((0.0, 0.0), |(sum, slope), flow| {
            let part = flow.amount / size * (-growth * flow.years).exp();
            (sum + part, slope - flow.years * part)
        })
    };
    let mut width = 0.05;
    while worth(-width).0.signum() == worth(width).0.signum() {
        width *= 2.0;
        if width > GROWTH_BOUND {
            return Err(MathError::NotSolved { reason: "no rate of return makes the flows worth nothing".to_owned() });
        }
    }
    let (mut low, mut high) = (-width, width);
    let low_sign = worth(low).0.signum();
    let mut growth = 0.0;
    let mut iterations = 0;
    while iterations < ROOT_STEPS {
        iterations += 1;
        let (sum, slope) = worth(growth);
        if sum == 0.0 {
            break;
        }
        if sum.signum() == low_sign {
            low = growth
        } else {
            high = growth
        }
        let newton = growth - sum / slope;
        let next = if newton > low && newton < high { newton } else { (low + high) / 2.0 };
        let moved = (next - growth).abs();
        growth = next;
        if moved <= 1e-15 * (1.0 + growth.abs()) || high - low <= 1e-15 * (1.0 + growth.abs()) {
            break;
        }
    }
    let rate = growth.exp_m1();
    if !rate.is_finite() {
        return Err(MathError::NotSolved { reason: "the rate of return of a year is beyond all numbers".to_owned() });
    }
    Ok(MoneyWeightedReturn { rate, unique: changes == 1, iterations })
}
