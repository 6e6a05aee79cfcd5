//! x
use serde::{Deserialize, Serialize};

use super::{Market, Parameters, feature, within};
use crate::rl::FEATURES;

const PRICES: usize = 7;
const PATIENCE: usize = 5;
const KINDS: usize = 4;
const GOODWILL: usize = 3;

/// Parameters of `negotiation_strategy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NegotiationStrategy {
    pub surplus: f64,
    pub round_cost: f64,
    pub patience_loss: f64,
    pub yielding: f64,
    pub reciprocity: f64,
    pub agreeable: f64,
    pub anger: f64,
    pub arrival: f64,
}

impl Default for NegotiationStrategy {
    fn default() -> Self {
        Self {
            surplus: 4.0,
            round_cost: 0.05,
            patience_loss: 0.35,
            yielding: 0.45,
            reciprocity: 0.1,
            agreeable: 0.3,
            anger: 0.25,
            arrival: 0.2,
        }
    }
}

impl Parameters for NegotiationStrategy {
    fn validate(&self) -> Result<(), String> {
        within("surplus", self.surplus, 0.01, 20.0)
    }
}

pub(in super::super) struct Negotiations {
    parameters: NegotiationStrategy,
}

impl Negotiations {
    fn next(&self, probability: f64, goodwill: usize, visit: &mut dyn FnMut(f64, [usize; 5])) {
        let p = &self.parameters;
        visit(probability * (1.0 - p.arrival), [0, 0, 0, 0, goodwill]);
        for kind in 1..KINDS {
            visit(probability * p.arrival / (KINDS - 1) as f64, [PRICES - 1, goodwill, [0, 1, 3, 4][kind], kind, goodwill]);
        }
    }
}

impl Market<5> for Negotiations {
    type Parameters = NegotiationStrategy;

    const NAME: &'static str = "negotiation_strategy";
    const SUMMARY: &'static str = "";
    const VERSION: u32 = 1;
    const HORIZON: u32 = 200;
    /// Our ask, their bid, their patience, how eager they are, goodwill.
    const SHAPE: [usize; 5] = [PRICES, PRICES, PATIENCE, KINDS, GOODWILL];

    fn new(parameters: NegotiationStrategy) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &NegotiationStrategy {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        self.next(1.0, 1, visit);
    }

    fn outcomes(
        &self,
        [old, bid, patience, kind, goodwill]: [usize; 5],
        action: usize,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        if kind == 0 {
            return self.next(1.0, goodwill, &mut |probability, state| visit(probability, state, 0.0));
        }
        let ask = match action {
            0 => (old + 1).min(PRICES - 1),
            1 => old.saturating_sub(1),
            2 => old,
            _ => (old + bid).div_ceil(2).min(old),
        };
        let worth = |price: usize| p.surplus * price as f64 / (PRICES - 1) as f64 - p.round_cost;
        let after = |price: usize| match price {
            0..=2 => (goodwill + 1).min(GOODWILL - 1),
            3..=4 => goodwill,
            _ => goodwill.saturating_sub(1),
        };
        if ask <= bid {
            return self.next(1.0, after(bid), &mut |probability, state| visit(probability, state, worth(bid)));
        }
        let gap = ask - bid;
        let conceded = old.saturating_sub(ask);
        // they accept
        let accepts = (p.agreeable * [0.0, 0.4, 1.0, 1.6][kind] / (gap * gap) as f64).min(1.0);
        self.next(accepts, after(ask), &mut |probability, state| visit(probability, state, worth(ask)));
        // they walk off
        let raised = ask > old;
        let tired = if patience == 0 { 0.6 } else { 0.0 };
        let walks = (1.0 - accepts) * f64::max(tired, if raised { p.anger } else { 0.0 });
        self.next(walks, goodwill.saturating_sub(1), &mut |probability, state| visit(probability, state, -p.round_cost));
        let stays = 1.0 - accepts - walks;
        let raises = (p.yielding * [0.0, 0.0, 1.0, 2.0][kind] + if conceded > 0 { p.reciprocity } else { 0.0 }).min(1.0);
        for (of_raise, bid) in [(raises, (bid + 1).min(PRICES - 1)), (1.0 - raises, bid)] {
            let loss = if patience > 0 { p.patience_loss * [0.0, 2.0, 1.0, 0.5][kind] } else { 0.0 };
            for (of_patience, patience) in [(loss, patience.saturating_sub(1)), (1.0 - loss, patience)] {
                visit(stays * of_raise * of_patience, [ask, bid, patience, kind, goodwill], -p.round_cost);
            }
        }
    }

    fn observe(&self, [ask, bid, patience, kind, goodwill]: [usize; 5]) -> [f32; FEATURES.len()] {
        [
            feature(ask, PRICES),
            0.0,
            feature(bid, PRICES),
            0.0,
            feature(kind, KINDS),
            feature(goodwill, GOODWILL),
            feature(patience, PATIENCE),
            0.0,
            0.0,
        ]
    }
}
