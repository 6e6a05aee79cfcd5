//! What alerts are raised for, without I/O.

use serde_json::{Value, json};

/// Points off the target from which a holding has drifted.
pub(super) const DRIFT_POINTS: f64 = 5.0;

/// Percent by which a fall may miss its bound through rounding and reach it all the same.
const ROUNDING_PERCENT: f64 = 1e-9;

/// Kind of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlertKind {
    /// A unit is too far below its peak.
    Drawdown,
    /// A holding is too far off its target.
    Drift,
    /// A unit lost too much in 24 hours.
    Loss,
    /// A price is missing or too old.
    PriceAge,
}

impl AlertKind {
    /// All kinds that need a measured value.
    pub const MEASURED: [Self; 3] = [Self::Drawdown, Self::Drift, Self::Loss];

    pub fn word(self) -> &'static str {
        match self {
            Self::Drawdown => "drawdown",
            Self::Drift => "drift",
            Self::Loss => "loss",
            Self::PriceAge => "price_age",
        }
    }

    pub fn severity(self) -> &'static str {
        match self {
            Self::Drawdown | Self::Loss => "critical",
            Self::Drift | Self::PriceAge => "warning",
        }
    }
}

/// A condition that holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AlertCondition {
    pub kind: AlertKind,
    /// Token that it is about; empty: the whole.
    pub token: String,
    pub message: String,
    pub data: Value,
}

/// What the conditions are checked with.
#[derive(Clone, Copy, Debug)]
pub(super) struct AlertFigures {
    pub unit_value: f64,
    pub peak_unit: f64,
    /// The worth of a unit 24 hours ago; `None`: it was not recorded.
    pub unit_before: Option<f64>,
    /// Points of the holding that is farthest off its target.
    pub drift: f64,
    /// The strategy's bounds, in percent.
    pub max_drawdown: f64,
    pub max_loss: f64,
}

/// Percent by which `value` is below `before`; below 0 when it is above.
fn fall(value: f64, before: f64) -> f64 {
    if before > 0.0 { 100.0 * (1.0 - value / before) } else { 0.0 }
}

/// The conditions that hold of a measured portfolio.
pub(super) fn measured_conditions(figures: &AlertFigures) -> Vec<AlertCondition> {
    let mut found = Vec::new();
    let mut add = |kind: AlertKind, message: String, data: Value| {
        found.push(AlertCondition { kind, token: String::new(), message, data });
    };
    let drawdown = fall(figures.unit_value, figures.peak_unit);
    if drawdown >= figures.max_drawdown - ROUNDING_PERCENT {
        let message = format!("It is {drawdown:.2} % below its peak, {} % are allowed", figures.max_drawdown);
        add(AlertKind::Drawdown, message, json!({"percent": drawdown, "limit": figures.max_drawdown}));
    }
    if figures.drift > DRIFT_POINTS {
        let message = format!("A holding is {:.2} points off its target", figures.drift);
        add(AlertKind::Drift, message, json!({"points": figures.drift, "limit": DRIFT_POINTS}));
    }
    let loss = figures.unit_before.map_or(0.0, |before| fall(figures.unit_value, before));
    if figures.unit_before.is_some() && loss >= figures.max_loss - ROUNDING_PERCENT {
        let message = format!("It lost {loss:.2} % in 24 hours, {} % are allowed", figures.max_loss);
        add(AlertKind::Loss, message, json!({"percent": loss, "limit": figures.max_loss}));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(unit_value: f64, unit_before: Option<f64>, drift: f64) -> Vec<&'static str> {
        let figures =
            AlertFigures { unit_value, peak_unit: 2.0, unit_before, drift, max_drawdown: 20.0, max_loss: 10.0 };
        measured_conditions(&figures).iter().map(|condition| condition.kind.word()).collect()
    }

    #[test]
    fn conditions_hold_from_their_bounds_on() {
        assert_eq!(kinds(2.0, Some(2.0), 5.0), Vec::<&str>::new());
        assert_eq!(kinds(1.61, Some(1.61), 5.01), ["drift"]);
        assert_eq!(kinds(1.6, Some(1.7), 0.0), ["drawdown"]);
        assert_eq!(kinds(1.8, Some(2.0), 0.0), ["loss"]);
        assert_eq!(kinds(1.0, None, 0.0), ["drawdown"], "what was not recorded is no loss");
    }
}
