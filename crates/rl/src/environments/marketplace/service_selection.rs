//! service_selection: which provider to buy from for tasks that differ in difficulty.
//!
//! Providers come in tiers: a step of tier `t` costs `price x price_ratio^t`, less `loyalty_discount` of it for each degree
//! of loyalty. A task succeeds with the logistic probability
//!
//! `1 / (1 + exp(-(quality x t + condition_weight x condition - difficulty_weight x difficulty - threshold)))`.
//!
//! Success pays `payment x (1 + standing_bonus x standing)` and may raise our standing; failure costs `failure_cost` and
//! may lower it. Moving to another tier finds a provider in a random condition and loses the loyalty; a survey, for
//! `survey_cost`, finds one of our tier that is probably in good condition. Condition, difficulty and loyalty walk.

use super::{Market, Move, parameters::parameters, walk};

/// Tiers of providers, from the cheapest.
const TIERS: usize = 4;
/// A provider's condition: poor, fair, good.
const CONDITIONS: usize = 3;
/// Difficulty of the tasks: easy, usual, hard.
const DIFFICULTIES: usize = 3;
/// What our clients think of us, from the worst.
const STANDINGS: usize = 4;
/// Loyalty to the provider, from none.
const LOYALTIES: usize = 3;
/// The tier, the condition and the standing at the start.
const FIRST: (usize, usize, usize) = (1, 2, 1);
/// How probable each condition is of a provider that is new to us.
const FOUND: [f64; CONDITIONS] = [0.15, 0.3, 0.55];
/// The same after a survey.
const SURVEYED: [f64; CONDITIONS] = [0.0, 0.1, 0.9];

parameters! {
    /// Parameters of `service_selection`.
    ServiceSelection {
        /// What a client pays for a success at the worst standing.
        payment: 0.8, 0.1 to 10.0;
        /// By what share each degree of standing raises that.
        standing_bonus: 0.35, 0.0 to 2.0;
        /// What the cheapest tier costs in a step.
        price: 0.2, 0.0 to 5.0;
        /// The ratio of neighbouring tiers' prices.
        price_ratio: 1.7, 1.0 to 4.0;
        /// The share of the price that each degree of loyalty saves.
        loyalty_discount: 0.15, 0.0 to 0.5;
        /// The probability that a step with the same provider deepens loyalty.
        loyalty_gain: 0.25, 0.0 to 1.0;
        /// What a tier adds to the logit of success.
        quality: 1.1, 0.0 to 5.0;
        /// What a degree of the provider's condition adds to it.
        condition_weight: 1.2, 0.0 to 5.0;
        /// What a degree of difficulty takes from it.
        difficulty_weight: 1.5, 0.0 to 5.0;
        /// The logit that tier 0 in poor condition lacks to even odds on an easy task.
        threshold: 0.4, -5.0 to 5.0;
        /// What a failure costs, beside the price.
        failure_cost: 0.2, 0.0 to 5.0;
        /// The probability that a success raises our standing.
        standing_gain: 0.2, 0.0 to 1.0;
        /// The probability that a failure lowers it.
        standing_loss: 0.6, 0.0 to 1.0;
        /// The probability of a step that the provider's condition gets worse.
        wear: 0.12, 0.0 to 0.5;
        /// The probability of a step that it gets better.
        repair: 0.08, 0.0 to 0.5;
        /// The probability of a step that tasks get harder, and the same for easier.
        difficulty_change: 0.12, 0.01 to 0.5;
        /// What a survey costs.
        survey_cost: 0.4, 0.0 to 5.0;
    }
}

pub(in super::super) struct Services {
    parameters: ServiceSelection,
}

impl Services {
    fn success(&self, tier: usize, condition: usize, difficulty: usize) -> f64 {
        let p = &self.parameters;
        let logit = p.quality * tier as f64 + p.condition_weight * condition as f64
            - p.difficulty_weight * difficulty as f64
            - p.threshold;
        1.0 / (1.0 + (-logit).exp())
    }

    /// Visit everything that a task in `condition` may lead to: its probability, our standing after it, and what it pays.
    fn results(&self, success: f64, standing: usize, mut visit: impl FnMut(f64, usize, f64)) {
        let p = &self.parameters;
        let paid = p.payment * (1.0 + p.standing_bonus * standing as f64);
        for (of_standing, after) in walk(standing, STANDINGS, 0.0, p.standing_gain) {
            visit(success * of_standing, after, paid);
        }
        for (of_standing, after) in walk(standing, STANDINGS, p.standing_loss, 0.0) {
            visit((1.0 - success) * of_standing, after, -p.failure_cost);
        }
    }
}

impl Market<5> for Services {
    type Parameters = ServiceSelection;

    const NAME: &'static str = "service_selection";
    const SUMMARY: &'static str = "An agent buys services for its clients' tasks from providers of four tiers, the \
        better ones dearer, whose condition wears and whose loyal customers pay less; tasks get harder and easier, and \
        failures spoil what clients think and pay. increase and decrease move to a provider of the next tier up and \
        down, found in a random condition; maintain stays; dynamic surveys our tier for one in good condition, at a \
        cost. The reward is the client's payment less the provider's price, the survey and the cost of failures.";
    const VERSION: u32 = 1;
    const SHAPE: [usize; 5] = [TIERS, CONDITIONS, DIFFICULTIES, STANDINGS, LOYALTIES];
    const SHOWN: [(&'static str, &'static str); 5] = [
        ("price", "the provider's tier"),
        ("supply", "its condition: poor, fair, good"),
        ("demand", "difficulty of the tasks"),
        ("reputation", "our standing with clients"),
        ("volume", "loyalty to the provider"),
    ];

    fn new(parameters: ServiceSelection) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &ServiceSelection {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        let (tier, condition, standing) = FIRST;
        let share = 1.0 / DIFFICULTIES as f64;
        (0..DIFFICULTIES).for_each(|difficulty| visit(share, [tier, condition, difficulty, standing, 0]));
    }

    fn outcomes(
        &self,
        [tier, condition, difficulty, standing, loyalty]: [usize; 5],
        action: Move,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        let (tier, conditions, loyalty, survey) = match action {
            Move::Increase if tier + 1 < TIERS => (tier + 1, FOUND, 0, 0.0),
            Move::Decrease if tier > 0 => (tier - 1, FOUND, 0, 0.0),
            Move::Dynamic => (tier, SURVEYED, 0, p.survey_cost),
            _ => (tier, std::array::from_fn(|other| f64::from(other == condition)), loyalty, 0.0),
        };
        let price = p.price * p.price_ratio.powi(tier as i32) * (1.0 - p.loyalty_discount * loyalty as f64);
        for (condition, of_condition) in conditions.into_iter().enumerate().filter(|(_, share)| *share > 0.0) {
            let success = self.success(tier, condition, difficulty);
            self.results(success, standing, |of_result, standing, paid| {
                let reward = paid - price - survey;
                for (of_wear, condition) in walk(condition, CONDITIONS, p.wear, p.repair) {
                    for (of_loyalty, loyalty) in walk(loyalty, LOYALTIES, 0.0, p.loyalty_gain) {
                        let change = p.difficulty_change;
                        for (of_difficulty, difficulty) in walk(difficulty, DIFFICULTIES, change, change) {
                            let probability = of_condition * of_result * of_wear * of_loyalty * of_difficulty;
                            visit(probability, [tier, condition, difficulty, standing, loyalty], reward);
                        }
                    }
                }
            });
        }
    }
}
