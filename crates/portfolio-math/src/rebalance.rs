//! The trades that bring holdings to their target weights, with what they cost.

use crate::error::{MathError, Result, at_least, finite, length, within};

/// Rounds of fixing what trades cost; each is closer by the cost rate.
const COST_ROUNDS: usize = 60;

/// Holdings, targets, and what trading costs.
#[derive(Debug, Clone, Copy)]
pub struct RebalanceRequest<'a> {
    /// Units of each asset, 0 or above.
    pub holdings: &'a [f64],
    /// Money for a unit of each asset, above 0.
    pub prices: &'a [f64],
    /// Each asset's part of the portfolio's value, 0 or above; what is missing to 1 stays in cash.
    pub targets: &'a [f64],
    /// Money that is not invested, 0 or above.
    pub cash: f64,
    /// The unit of trading of each asset, in units of the asset; 0 for any amount. `None` for any amount of each.
    pub lot_sizes: Option<&'a [f64]>,
    /// Fee as a part of the traded value, from 0, below 0.5.
    pub fee_rate: f64,
    /// What a trade loses by moving the price, as a part of the traded value, from 0, below 0.5.
    pub slippage_rate: f64,
    /// Trades of a lower value are left out, in money.
    pub minimum_trade: f64,
    /// Assets whose weight is nearer to its target are left alone: 0.01 is a percentage point.
    pub minimum_drift: f64,
    /// The traded value at most, as a part of the portfolio's value; `None` for any.
    pub turnover_limit: Option<f64>,
}

/// One purchase or sale of an asset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedTrade {
    /// The asset, by its index.
    pub asset: usize,
    /// Units bought, or sold if below 0.
    pub units: f64,
    /// The absolute value of what is traded, at the price before slippage.
    pub value: f64,
    /// The fee of this trade, in money.
    pub fee: f64,
    /// What slippage costs.
    pub slippage: f64,
}

/// Trades, sales first, and the portfolio after them.
#[derive(Debug, Clone, PartialEq)]
pub struct RebalancePlan {
    /// The trades; none if all assets are near enough to their targets.
    pub trades: Vec<PlannedTrade>,
    /// Money that is not invested afterwards, 0 or above.
    pub cash_after: f64,
    /// The traded value as a part of the portfolio's value before.
    pub turnover: f64,
    /// Each asset's part of the portfolio's value before.
    pub weights_before: Vec<f64>,
    /// Each asset's part of the portfolio's value afterwards.
    pub weights_after: Vec<f64>,
}

/// Plans the trades. Targets are of the value that is left after costs. An asset within `minimum_drift` of its target is
/// left alone; if the turnover limit is exceeded, all trades are made smaller by one factor; lots are rounded towards no
/// trade; purchases that the cash does not pay for are made smaller by one factor. Fails if an argument is outside its
/// range, or nothing is held.
pub fn plan_rebalance(request: &RebalanceRequest<'_>) -> Result<RebalancePlan> {
    check(request)?;
    let values: Vec<f64> = request.holdings.iter().zip(request.prices).map(|(units, price)| units * price).collect();
    let total = values.iter().sum::<f64>() + request.cash;
    if total <= 0.0 {
        return Err(MathError::invalid("holdings", "the portfolio is worth nothing"));
    }
    let weights_before: Vec<f64> = values.iter().map(|value| value / total).collect();
    let mut wanted = wanted_trades(request, &values, total);
    let traded: f64 = wanted.iter().map(|value| value.abs()).sum();
    if let Some(limit) = request.turnover_limit.filter(|limit| traded > limit * total) {
        wanted.iter_mut().for_each(|value| *value *= limit * total / traded);
    }
    let sales: Vec<PlannedTrade> =
        (0..wanted.len()).filter(|at| wanted[*at] < 0.0).filter_map(|at| trade(request, at, wanted[at])).collect();
    let cash = request.cash + sales.iter().map(|sale| sale.value - sale.fee - sale.slippage).sum::<f64>();
    let mut trades = sales;
    trades.extend(purchases(request, &wanted, cash));
    let mut holdings = request.holdings.to_vec();
    let mut cash_after = request.cash;
    for trade in &trades {
        holdings[trade.asset] = (holdings[trade.asset] + trade.units).max(0.0);
        cash_after -= trade.units.signum() * trade.value + trade.fee + trade.slippage;
    }
    // Below 0 by rounding only: purchases fit into the cash.
    let cash_after = cash_after.max(0.0);
    let values: Vec<f64> = holdings.iter().zip(request.prices).map(|(units, price)| units * price).collect();
    let after = values.iter().sum::<f64>() + cash_after;
    Ok(RebalancePlan {
        turnover: trades.iter().map(|trade| trade.value).sum::<f64>() / total,
        trades,
        cash_after,
        weights_before,
        weights_after: values.iter().map(|value| if after > 0.0 { value / after } else { 0.0 }).collect(),
    })
}

fn check(request: &RebalanceRequest<'_>) -> Result<()> {
    let assets = request.holdings.len();
    at_least("holdings", 1, assets)?;
    let no_lots = vec![0.0; assets];
    let lists = [
        ("holdings", request.holdings),
        ("prices", request.prices),
        ("targets", request.targets),
        ("lot_sizes", request.lot_sizes.unwrap_or(&no_lots)),
    ];
    for (argument, values) in lists {
        length(argument, assets, values.len())?;
        finite(argument, values)?;
        if let Some(at) = values.iter().position(|value| *value < 0.0 || (argument == "prices" && *value == 0.0)) {
            return Err(MathError::invalid(argument, format!("{} at {at} is too low", values[at])));
        }
    }
    let sum: f64 = request.targets.iter().sum();
    if sum > 1.0 + 1e-9 {
        return Err(MathError::invalid("targets", format!("sum to {sum}, above 1")));
    }
    within("cash", request.cash, 0.0, f64::MAX)?;
    within("fee_rate", request.fee_rate, 0.0, 0.499_999)?;
    within("slippage_rate", request.slippage_rate, 0.0, 0.499_999)?;
    within("minimum_trade", request.minimum_trade, 0.0, f64::MAX)?;
    within("minimum_drift", request.minimum_drift, 0.0, 1.0)?;
    within("turnover_limit", request.turnover_limit.unwrap_or(0.0), 0.0, f64::MAX)
}

/// The value to trade of each asset, below 0 for a sale: towards its target of what is left after costs.
fn wanted_trades(request: &RebalanceRequest<'_>, values: &[f64], total: f64) -> Vec<f64> {
    let rate = request.fee_rate + request.slippage_rate;
    let drifts = |at: usize| (values[at] / total - request.targets[at]).abs() >= request.minimum_drift;
    let wanted = |left: f64| -> Vec<f64> {
        let of_asset = |at: usize| if drifts(at) { request.targets[at] * left - values[at] } else { 0.0 };
        (0..values.len()).map(of_asset).collect()
    };
    let mut left = total;
    for _ in 0..COST_ROUNDS {
        left = total - rate * wanted(left).iter().map(|value| value.abs()).sum::<f64>();
    }
    wanted(left)
}

/// A trade of about this value, or none if it is too small.
fn trade(request: &RebalanceRequest<'_>, asset: usize, value: f64) -> Option<PlannedTrade> {
    let price = request.prices[asset];
    let lot = request.lot_sizes.map_or(0.0, |lots| lots[asset]);
    let mut units = value.abs() / price;
    // All of a holding can be sold, whatever the lots.
    let held = request.holdings[asset];
    if value < 0.0 && units >= held * (1.0 - 1e-12) {
        units = held;
    } else if lot > 0.0 {
        units = (units / lot + 1e-9).floor() * lot;
    }
    let traded = units * price;
    if units <= 0.0 || traded < request.minimum_trade {
        return None;
    }
    Some(PlannedTrade {
        asset,
        units: if value < 0.0 { -units } else { units },
        value: traded,
        fee: traded * request.fee_rate,
        slippage: traded * request.slippage_rate,
    })
}

/// Purchases that the cash pays for.
fn purchases(request: &RebalanceRequest<'_>, wanted: &[f64], cash: f64) -> Vec<PlannedTrade> {
    let planned = |factor: f64| -> Vec<PlannedTrade> {
        let buys = (0..wanted.len()).filter(|at| wanted[*at] > 0.0);
        buys.filter_map(|at| trade(request, at, wanted[at] * factor)).collect()
    };
    let cost = |trades: &[PlannedTrade]| trades.iter().map(|buy| buy.value + buy.fee + buy.slippage).sum::<f64>();
    let mut factor = 1.0;
    let mut trades = planned(factor);
    // A lot that rounds up by a hair, or a factor's own rounding, is met by the next round.
    for _ in 0..COST_ROUNDS {
        let needed = cost(&trades);
        if needed <= cash {
            return trades;
        }
        factor *= cash / needed * (1.0 - 1e-12);
        trades = planned(factor);
    }
    while cost(&trades) > cash && trades.pop().is_some() {}
    trades
}
