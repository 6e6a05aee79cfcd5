//! `negotiation_strategy`: price negotiation with one buyer after another.
//!
//! Without a buyer, one arrives per step with probability `arrival`. Its kind (tough, fair or eager) is drawn
//! uniformly; its first patience depends on the kind and the seller's reputation, and its first bid on the patience. In
//! each round the seller sets an ask; at or below the bid the deal closes at the bid. Otherwise the buyer
//!
//! - accepts the ask with probability `agreeable x (factor of the kind) / gap^2`, the gap being the levels between ask
//!   and bid;
//! - or leaves: with probability `impatience` when out of patience, and with probability `anger` if the ask was raised;
//! - or stays, loses a level of patience with probability `patience_loss x (factor of the kind)`, and raises the bid by
//!   one level with probability `yielding x (factor of the kind)`, plus `reciprocity` if the ask was lowered.
//!
//! A price at level `k` is worth `surplus x k / 6`; each round costs `round_cost`. The seller's reputation rises after
//! low prices and falls after high ones and after buyers who left.

use super::{MarketAction, MarketModel, parameters::market_parameters};

/// Number of price levels between the seller's minimum and the highest price that any buyer pays.
const PRICE_LEVELS: usize = 7;
/// Number of patience levels of a buyer.
const PATIENCE_LEVELS: usize = 5;
/// Number of buyer kinds: none, tough, fair, eager.
const BUYER_KINDS: usize = 4;
const NO_BUYER: usize = 0;
/// Number of levels of the seller's reputation.
const REPUTATION_LEVELS: usize = 3;
/// Highest price level that improves the reputation.
const MAX_LOW_PRICE: usize = 2;
/// Lowest price level that harms the reputation.
const MIN_HIGH_PRICE: usize = 5;
/// Initial patience of each kind.
const INITIAL_PATIENCE: [usize; BUYER_KINDS] = [0, 1, 3, 4];
/// Readiness of each kind to accept an ask, relative to a fair buyer.
const ACCEPTANCE_FACTORS: [f64; BUYER_KINDS] = [0.0, 0.4, 1.0, 1.6];
/// Readiness of each kind to raise its bid, relative to a fair buyer.
const CONCESSION_FACTORS: [f64; BUYER_KINDS] = [0.0, 0.0, 1.0, 2.0];
/// Rate at which each kind loses patience, relative to a fair buyer.
const PATIENCE_LOSS_FACTORS: [f64; BUYER_KINDS] = [0.0, 2.0, 1.0, 0.5];

market_parameters! {
    /// Parameters of `negotiation_strategy`.
    NegotiationStrategy {
        /// Value of closing at the highest price; closing at the lowest is worth 0.
        surplus: 4.0, 0.1 to 100.0;
        /// Cost of a round to the seller.
        round_cost: 0.05, 0.0 to 10.0;
        /// Probability that a fair buyer loses a level of patience in a round.
        patience_loss: 0.35, 0.0 to 0.5;
        /// Probability that a buyer without patience leaves.
        impatience: 0.6, 0.0 to 1.0;
        /// Probability that a fair buyer raises the bid by one level in a round.
        yielding: 0.45, 0.0 to 0.5;
        /// Increase of that probability when the seller has just lowered the ask.
        reciprocity: 0.1, 0.0 to 1.0;
        /// Probability that a fair buyer accepts an ask one level above the bid.
        agreeable: 0.3, 0.0 to 1.0;
        /// Probability that a buyer leaves when the ask is raised.
        anger: 0.25, 0.0 to 1.0;
        /// Probability per step without a buyer that one arrives for the next step.
        arrival: 0.2, 0.01 to 1.0;
    }
}

pub(in super::super) struct NegotiationMarket {
    parameters: NegotiationStrategy,
}

impl NegotiationMarket {
    /// Visit the states after a step that leaves no buyer: a new one arrives, or none.
    fn next(&self, probability: f64, goodwill: usize, mut visit: impl FnMut(f64, [usize; 5])) {
        let arrival = self.parameters.arrival;
        visit(probability * (1.0 - arrival), [0, 0, 0, NO_BUYER, goodwill]);
        let share = probability * arrival / (BUYER_KINDS - 1) as f64;
        (1..BUYER_KINDS)
            .for_each(|kind| visit(share, [PRICE_LEVELS - 1, goodwill, INITIAL_PATIENCE[kind], kind, goodwill]));
    }

    /// Reward of a step that closes the deal at price level `price`.
    fn worth(&self, price: usize) -> f64 {
        self.parameters.surplus * price as f64 / (PRICE_LEVELS - 1) as f64 - self.parameters.round_cost
    }
}

/// Reputation after closing at price level `price`.
fn reputation_after(price: usize, goodwill: usize) -> usize {
    match price {
        ..=MAX_LOW_PRICE => (goodwill + 1).min(REPUTATION_LEVELS - 1),
        MIN_HIGH_PRICE.. => goodwill.saturating_sub(1),
        _ => goodwill,
    }
}

impl MarketModel<5> for NegotiationMarket {
    type Parameters = NegotiationStrategy;

    const NAME: &'static str = "negotiation_strategy";
    const SUMMARY: &'static str = "A seller haggles with one buyer after another, tough, fair or eager, over a price on \
        a ladder of seven. increase raises our ask by a rung, which may drive the buyer away; decrease lowers it by \
        one, maintain holds it, dynamic meets the bid half way, rounded up. At or below the bid we close. Buyers accept \
        what is near their bid, raise it, lose patience or leave; low prices make us well spoken of, and later buyers \
        begin with a higher bid. The reward is the worth of the price agreed less a cost of each round.";
    const VERSION: u32 = 1;
    const HORIZON: u32 = 200;
    const STATE_SHAPE: [usize; 5] = [PRICE_LEVELS, PRICE_LEVELS, PATIENCE_LEVELS, BUYER_KINDS, REPUTATION_LEVELS];
    const FEATURE_MAP: [(&'static str, &'static str); 5] = [
        ("price", "price level of the ask"),
        ("demand", "price level of the bid"),
        ("resources", "the buyer's patience"),
        ("competition", "nobody, or a tough, fair or eager buyer"),
        ("reputation", "the seller's reputation"),
    ];

    fn new(parameters: NegotiationStrategy) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &NegotiationStrategy {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        self.next(1.0, REPUTATION_LEVELS / 2, visit);
    }

    fn outcomes(
        &self,
        [old, bid, patience, kind, goodwill]: [usize; 5],
        action: MarketAction,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        if kind == NO_BUYER {
            return self.next(1.0, goodwill, |probability, state| visit(probability, state, 0.0));
        }
        let ask = match action {
            MarketAction::Increase => (old + 1).min(PRICE_LEVELS - 1),
            MarketAction::Decrease => old.saturating_sub(1),
            MarketAction::Maintain => old,
            MarketAction::Dynamic => (old + bid).div_ceil(2).min(old),
        };
        if ask <= bid {
            return self.next(1.0, reputation_after(bid, goodwill), |probability, state| {
                visit(probability, state, self.worth(bid))
            });
        }
        let gap = (ask - bid) as f64;
        let accepts = (p.agreeable * ACCEPTANCE_FACTORS[kind] / (gap * gap)).min(1.0);
        self.next(accepts, reputation_after(ask, goodwill), |probability, state| {
            visit(probability, state, self.worth(ask))
        });

        let tired = if patience == 0 { p.impatience } else { 0.0 };
        let angry = if ask > old { p.anger } else { 0.0 };
        let leaves = (1.0 - accepts) * tired.max(angry);
        let cost = -p.round_cost;
        self.next(leaves, goodwill.saturating_sub(1), |probability, state| visit(probability, state, cost));

        let stays = 1.0 - accepts - leaves;
        let returned = if ask < old { p.reciprocity } else { 0.0 };
        let raises = (p.yielding * CONCESSION_FACTORS[kind] + returned).min(1.0);
        let loss = if patience > 0 { p.patience_loss * PATIENCE_LOSS_FACTORS[kind] } else { 0.0 };
        for (of_bid, bid) in [(raises, (bid + 1).min(PRICE_LEVELS - 1)), (1.0 - raises, bid)] {
            for (of_patience, patience) in [(loss, patience.saturating_sub(1)), (1.0 - loss, patience)] {
                visit(stays * of_bid * of_patience, [ask, bid, patience, kind, goodwill], cost);
            }
        }
    }
}
