//! `service_selection`: the choice of a provider for tasks of varying difficulty.
//!
//! Providers come in tiers: a step at tier `t` costs `price x price_ratio^t`, minus `loyalty_discount` of it per level
//! of loyalty. A task succeeds with the logistic probability
//!
//! `1 / (1 + exp(-(quality x t + condition_weight x condition - difficulty_weight x difficulty - threshold)))`.
//!
//! Success pays `payment x (1 + standing_bonus x standing)` and may raise the standing with clients; failure costs
//! `failure_cost` and may lower it. Moving to another tier finds a provider in a random condition and resets the
//! loyalty; a survey, for `survey_cost`, finds one in the same tier that is probably in good condition. Condition,
//! difficulty and loyalty follow walks.

use super::{MarketAction, MarketModel, parameters::market_parameters, walk_transitions};

/// Number of provider tiers, from the cheapest.
const TIER_COUNT: usize = 4;
/// Number of provider conditions: poor, fair, good.
const CONDITION_LEVELS: usize = 3;
/// Number of task difficulties: easy, usual, hard.
const DIFFICULTY_LEVELS: usize = 3;
/// Number of levels of the standing with clients, from the worst.
const REPUTATION_LEVELS: usize = 4;
/// Number of loyalty levels, from none.
const LOYALTY_LEVELS: usize = 3;
/// Tier, condition and standing at the start of an episode.
const INITIAL_STATE: (usize, usize, usize) = (1, 2, 1);
/// Probability of each condition of a provider after a change of tier.
const CONDITION_PROBABILITIES: [f64; CONDITION_LEVELS] = [0.15, 0.3, 0.55];
/// Probability of each condition after a survey.
const SURVEYED_CONDITION_PROBABILITIES: [f64; CONDITION_LEVELS] = [0.0, 0.1, 0.9];

market_parameters! {
    /// Parameters of `service_selection`.
    ServiceSelection {
        /// Payment by a client for a success at the worst standing.
        payment: 0.8, 0.1 to 10.0;
        /// Share by which each level of standing raises the payment.
        standing_bonus: 0.35, 0.0 to 2.0;
        /// Cost per step of the cheapest tier.
        price: 0.2, 0.0 to 5.0;
        /// Ratio of neighbouring tiers' prices.
        price_ratio: 1.7, 1.0 to 4.0;
        /// Share of the price saved by each level of loyalty.
        loyalty_discount: 0.15, 0.0 to 0.5;
        /// Probability that a step with the same provider raises the loyalty.
        loyalty_gain: 0.25, 0.0 to 1.0;
        /// Contribution of a tier to the logit of success.
        quality: 1.1, 0.0 to 5.0;
        /// Contribution of a level of the provider's condition to the logit.
        condition_weight: 1.2, 0.0 to 5.0;
        /// Decrease of the logit for a level of difficulty.
        difficulty_weight: 1.5, 0.0 to 5.0;
        /// Decrease of the logit that puts tier 0 in poor condition below even odds on an easy task.
        threshold: 0.4, -5.0 to 5.0;
        /// Cost of a failure, in addition to the price.
        failure_cost: 0.2, 0.0 to 5.0;
        /// Probability that a success raises the standing.
        standing_gain: 0.2, 0.0 to 1.0;
        /// Probability that a failure lowers the standing.
        standing_loss: 0.6, 0.0 to 1.0;
        /// Probability per step that the provider's condition gets worse.
        wear: 0.12, 0.0 to 0.5;
        /// Probability per step that the provider's condition gets better.
        repair: 0.08, 0.0 to 0.5;
        /// Probability per step that tasks get harder; the same for easier.
        difficulty_change: 0.12, 0.01 to 0.5;
        /// Cost of a survey.
        survey_cost: 0.4, 0.0 to 5.0;
    }
}

pub(in super::super) struct ServiceMarket {
    parameters: ServiceSelection,
}

impl ServiceMarket {
    fn success(&self, tier: usize, condition: usize, difficulty: usize) -> f64 {
        let p = &self.parameters;
        let logit = p.quality * tier as f64 + p.condition_weight * condition as f64
            - p.difficulty_weight * difficulty as f64
            - p.threshold;
        1.0 / (1.0 + (-logit).exp())
    }

    /// Visit every result of a task with this probability of success: its probability, the standing after it, and its
    /// payment.
    fn results(&self, success: f64, standing: usize, mut visit: impl FnMut(f64, usize, f64)) {
        let p = &self.parameters;
        let paid = p.payment * (1.0 + p.standing_bonus * standing as f64);
        for (of_standing, after) in walk_transitions(standing, REPUTATION_LEVELS, 0.0, p.standing_gain) {
            visit(success * of_standing, after, paid);
        }
        for (of_standing, after) in walk_transitions(standing, REPUTATION_LEVELS, p.standing_loss, 0.0) {
            visit((1.0 - success) * of_standing, after, -p.failure_cost);
        }
    }
}

impl MarketModel<5> for ServiceMarket {
    type Parameters = ServiceSelection;

    const NAME: &'static str = "service_selection";
    const SUMMARY: &'static str = "An agent buys services for its clients' tasks from providers of four tiers, the \
        better ones dearer, whose condition wears and whose loyal customers pay less; tasks get harder and easier, and \
        failures spoil what clients think and pay. increase and decrease move to a provider of the next tier up and \
        down, found in a random condition; maintain stays; dynamic surveys our tier for one in good condition, at a \
        cost. The reward is the client's payment less the provider's price, the survey and the cost of failures.";
    const VERSION: u32 = 1;
    const STATE_SHAPE: [usize; 5] =
        [TIER_COUNT, CONDITION_LEVELS, DIFFICULTY_LEVELS, REPUTATION_LEVELS, LOYALTY_LEVELS];
    const FEATURE_MAP: [(&'static str, &'static str); 5] = [
        ("price", "the provider's tier"),
        ("supply", "its condition: poor, fair, good"),
        ("demand", "difficulty of the tasks"),
        ("reputation", "standing with clients"),
        ("volume", "loyalty to the provider"),
    ];

    fn new(parameters: ServiceSelection) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &ServiceSelection {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        let (tier, condition, standing) = INITIAL_STATE;
        let share = 1.0 / DIFFICULTY_LEVELS as f64;
        (0..DIFFICULTY_LEVELS).for_each(|difficulty| visit(share, [tier, condition, difficulty, standing, 0]));
    }

    fn outcomes(
        &self,
        [tier, condition, difficulty, standing, loyalty]: [usize; 5],
        action: MarketAction,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        let (tier, conditions, loyalty, survey) = match action {
            MarketAction::Increase if tier + 1 < TIER_COUNT => (tier + 1, CONDITION_PROBABILITIES, 0, 0.0),
            MarketAction::Decrease if tier > 0 => (tier - 1, CONDITION_PROBABILITIES, 0, 0.0),
            MarketAction::Dynamic => (tier, SURVEYED_CONDITION_PROBABILITIES, 0, p.survey_cost),
            _ => (tier, std::array::from_fn(|other| f64::from(other == condition)), loyalty, 0.0),
        };
        let price = p.price * p.price_ratio.powi(tier as i32) * (1.0 - p.loyalty_discount * loyalty as f64);
        for (condition, of_condition) in conditions.into_iter().enumerate().filter(|(_, share)| *share > 0.0) {
            let success = self.success(tier, condition, difficulty);
            self.results(success, standing, |of_result, standing, paid| {
                let reward = paid - price - survey;
                for (of_wear, condition) in walk_transitions(condition, CONDITION_LEVELS, p.wear, p.repair) {
                    for (of_loyalty, loyalty) in walk_transitions(loyalty, LOYALTY_LEVELS, 0.0, p.loyalty_gain) {
                        let change = p.difficulty_change;
                        for (of_difficulty, difficulty) in
                            walk_transitions(difficulty, DIFFICULTY_LEVELS, change, change)
                        {
                            let probability = of_condition * of_result * of_wear * of_loyalty * of_difficulty;
                            visit(probability, [tier, condition, difficulty, standing, loyalty], reward);
                        }
                    }
                }
            });
        }
    }
}
