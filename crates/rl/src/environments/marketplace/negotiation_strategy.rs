//! negotiation_strategy: haggling with one buyer after another over a price between their least and our most.
//!
//! Between buyers, one comes in a step with probability `arrival`: of a kind (tough, fair or eager) drawn evenly, patient
//! by how well we are spoken of, and the more so the first bid. Then, in each round, we set our ask; at or below the bid
//! we close at the bid. Otherwise the buyer
//!
//! - accepts our ask with probability `agreeable x (the kind's) / gap^2`, the gap being the rungs between ask and bid;
//! - else leaves: with probability `impatience` when out of patience, and with probability `anger` if we raised the ask;
//! - else stays, loses a degree of patience with probability `patience_loss x (the kind's)`, and raises the bid by a rung
//!   with probability `yielding x (the kind's)`, `reciprocity` more if we came down.
//!
//! A price on rung `k` is worth `surplus x k / 6`; each round costs `round_cost`. What we are spoken of rises after low
//! prices and falls after high ones and after buyers who left.

use super::{Market, Move, parameters::parameters};

/// Rungs between the least that we take and the most that anybody pays.
const PRICES: usize = 7;
/// A buyer's patience, from none.
const PATIENCE: usize = 5;
/// No buyer, or one who is tough, fair or eager.
const KINDS: usize = 4;
const NOBODY: usize = 0;
/// How well we are spoken of.
const GOODWILL: usize = 3;
/// Prices up to this rung raise it...
const KIND_PRICE: usize = 2;
/// ... and from this rung on lower it.
const HARD_PRICE: usize = 5;
/// Of each kind: the patience with which it comes.
const PATIENCES: [usize; KINDS] = [0, 1, 3, 4];
/// How readily it accepts, in a fair buyer's measure; likewise below.
const AGREEABLE: [f64; KINDS] = [0.0, 0.4, 1.0, 1.6];
/// How readily it raises its bid unasked.
const YIELDING: [f64; KINDS] = [0.0, 0.0, 1.0, 2.0];
/// How quickly it loses patience.
const HASTE: [f64; KINDS] = [0.0, 2.0, 1.0, 0.5];

parameters! {
    /// Parameters of `negotiation_strategy`.
    NegotiationStrategy {
        /// What closing at the highest price is worth; at the lowest it is worth nothing.
        surplus: 4.0, 0.1 to 100.0;
        /// What a round costs us.
        round_cost: 0.05, 0.0 to 10.0;
        /// The probability that a fair buyer loses a degree of patience in a round.
        patience_loss: 0.35, 0.0 to 0.5;
        /// The probability that a buyer out of patience leaves.
        impatience: 0.6, 0.0 to 1.0;
        /// The probability that a fair buyer raises the bid by a rung in a round.
        yielding: 0.45, 0.0 to 0.5;
        /// By how much that grows if we have just come down.
        reciprocity: 0.1, 0.0 to 1.0;
        /// The probability that a fair buyer accepts an ask one rung above the bid.
        agreeable: 0.3, 0.0 to 1.0;
        /// The probability that a buyer leaves when we raise the ask.
        anger: 0.25, 0.0 to 1.0;
        /// The probability of a step without a buyer that one comes for the next.
        arrival: 0.2, 0.01 to 1.0;
    }
}

pub(in super::super) struct Negotiations {
    parameters: NegotiationStrategy,
}

impl Negotiations {
    /// What a step leads to after which no buyer is left over: a new one comes, or nobody.
    fn next(&self, probability: f64, goodwill: usize, mut visit: impl FnMut(f64, [usize; 5])) {
        let arrival = self.parameters.arrival;
        visit(probability * (1.0 - arrival), [0, 0, 0, NOBODY, goodwill]);
        let share = probability * arrival / (KINDS - 1) as f64;
        (1..KINDS).for_each(|kind| visit(share, [PRICES - 1, goodwill, PATIENCES[kind], kind, goodwill]));
    }

    /// What a step is worth in which we close on rung `price`.
    fn worth(&self, price: usize) -> f64 {
        self.parameters.surplus * price as f64 / (PRICES - 1) as f64 - self.parameters.round_cost
    }
}

/// How well we are spoken of after closing on rung `price`.
fn after(price: usize, goodwill: usize) -> usize {
    match price {
        ..=KIND_PRICE => (goodwill + 1).min(GOODWILL - 1),
        HARD_PRICE.. => goodwill.saturating_sub(1),
        _ => goodwill,
    }
}

impl Market<5> for Negotiations {
    type Parameters = NegotiationStrategy;

    const NAME: &'static str = "negotiation_strategy";
    const SUMMARY: &'static str = "A seller haggles with one buyer after another, tough, fair or eager, over a price on \
        a ladder of seven. increase raises our ask by a rung, which may drive the buyer away; decrease lowers it by \
        one, maintain holds it, dynamic meets the bid half way, rounded up. At or below the bid we close. Buyers accept \
        what is near their bid, raise it, lose patience or leave; low prices make us well spoken of, and later buyers \
        begin with a higher bid. The reward is the worth of the price agreed less a cost of each round.";
    const VERSION: u32 = 1;
    const HORIZON: u32 = 200;
    const SHAPE: [usize; 5] = [PRICES, PRICES, PATIENCE, KINDS, GOODWILL];
    const SHOWN: [(&'static str, &'static str); 5] = [
        ("price", "the rung of our ask"),
        ("demand", "the rung of the bid"),
        ("resources", "the buyer's patience"),
        ("competition", "nobody, or a tough, fair or eager buyer"),
        ("reputation", "how well we are spoken of"),
    ];

    fn new(parameters: NegotiationStrategy) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &NegotiationStrategy {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        self.next(1.0, GOODWILL / 2, visit);
    }

    fn outcomes(
        &self,
        [old, bid, patience, kind, goodwill]: [usize; 5],
        action: Move,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        if kind == NOBODY {
            return self.next(1.0, goodwill, |probability, state| visit(probability, state, 0.0));
        }
        let ask = match action {
            Move::Increase => (old + 1).min(PRICES - 1),
            Move::Decrease => old.saturating_sub(1),
            Move::Maintain => old,
            Move::Dynamic => (old + bid).div_ceil(2).min(old),
        };
        if ask <= bid {
            return self
                .next(1.0, after(bid, goodwill), |probability, state| visit(probability, state, self.worth(bid)));
        }
        let gap = (ask - bid) as f64;
        let accepts = (p.agreeable * AGREEABLE[kind] / (gap * gap)).min(1.0);
        self.next(accepts, after(ask, goodwill), |probability, state| visit(probability, state, self.worth(ask)));

        let tired = if patience == 0 { p.impatience } else { 0.0 };
        let angry = if ask > old { p.anger } else { 0.0 };
        let leaves = (1.0 - accepts) * tired.max(angry);
        let cost = -p.round_cost;
        self.next(leaves, goodwill.saturating_sub(1), |probability, state| visit(probability, state, cost));

        let stays = 1.0 - accepts - leaves;
        let returned = if ask < old { p.reciprocity } else { 0.0 };
        let raises = (p.yielding * YIELDING[kind] + returned).min(1.0);
        let loss = if patience > 0 { p.patience_loss * HASTE[kind] } else { 0.0 };
        for (of_bid, bid) in [(raises, (bid + 1).min(PRICES - 1)), (1.0 - raises, bid)] {
            for (of_patience, patience) in [(loss, patience.saturating_sub(1)), (1.0 - loss, patience)] {
                visit(stays * of_bid * of_patience, [ask, bid, patience, kind, goodwill], cost);
            }
        }
    }
}
