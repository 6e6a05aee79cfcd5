//! x
use serde::{Deserialize, Serialize};

use super::{Market, Parameters, feature, walk, within};
use crate::rl::FEATURES;

const TIERS: usize = 4;
const CONDITIONS: usize = 3;
const DIFFICULTIES: usize = 3;
const STANDINGS: usize = 4;
const LOYALTIES: usize = 3;

/// Parameters of `service_selection`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSelection {
    pub payment: f64,
    pub standing_bonus: f64,
    pub price: f64,
    pub price_ratio: f64,
    pub loyalty_discount: f64,
    pub loyalty_gain: f64,
    pub failure_cost: f64,
    pub standing_gain: f64,
    pub standing_loss: f64,
    pub wear: f64,
    pub repair: f64,
    pub difficulty_change: f64,
    pub survey_cost: f64,
}

impl Default for ServiceSelection {
    fn default() -> Self {
        Self {
            payment: 0.8,
            standing_bonus: 0.35,
            price: 0.2,
            price_ratio: 1.7,
            loyalty_discount: 0.15,
            loyalty_gain: 0.25,
            failure_cost: 0.2,
            standing_gain: 0.2,
            standing_loss: 0.6,
            wear: 0.12,
            repair: 0.08,
            difficulty_change: 0.12,
            survey_cost: 0.4,
        }
    }
}

impl Parameters for ServiceSelection {
    fn validate(&self) -> Result<(), String> {
        within("price", self.price, 0.01, 2.0)
    }
}

pub(in super::super) struct Services {
    parameters: ServiceSelection,
}

impl Market<5> for Services {
    type Parameters = ServiceSelection;

    const NAME: &'static str = "service_selection";
    const SUMMARY: &'static str = "";
    const VERSION: u32 = 1;
    const SHAPE: [usize; 5] = [TIERS, CONDITIONS, DIFFICULTIES, STANDINGS, LOYALTIES];

    fn new(parameters: ServiceSelection) -> Self {
        Self { parameters }
    }

    fn parameters(&self) -> &ServiceSelection {
        &self.parameters
    }

    fn start(&self, visit: &mut dyn FnMut(f64, [usize; 5])) {
        (0..DIFFICULTIES).for_each(|difficulty| visit(1.0 / DIFFICULTIES as f64, [1, 2, difficulty, 1, 0]));
    }

    fn outcomes(
        &self,
        [tier, condition, difficulty, standing, loyalty]: [usize; 5],
        action: usize,
        visit: &mut dyn FnMut(f64, [usize; 5], f64),
    ) {
        let p = &self.parameters;
        let any = [0.15, 0.3, 0.55];
        let stay = |condition: usize| std::array::from_fn(|c| f64::from(c == condition));
        let (tier, conditions, loyalty, survey): (_, [f64; 3], _, _) = match action {
            0 if tier + 1 < TIERS => (tier + 1, any, 0, 0.0),
            1 if tier > 0 => (tier - 1, any, 0, 0.0),
            3 => (tier, [0.0, 0.1, 0.9], 0, p.survey_cost),
            _ => (tier, stay(condition), loyalty, 0.0),
        };
        let price = p.price * p.price_ratio.powi(tier as i32) * (1.0 - p.loyalty_discount * loyalty as f64);
        for (condition, of_condition) in conditions.into_iter().enumerate() {
            if of_condition == 0.0 {
                continue;
            }
            let success = 1.0 / (1.0 + (-(0.8 + 1.1 * tier as f64 + 1.2 * condition as f64 - 1.5 * difficulty as f64 - 1.2)).exp());
            let paid = p.payment * (1.0 + p.standing_bonus * standing as f64) - price - survey;
            for (of_result, reward, (down, up)) in [
                (success, paid, (0.0, p.standing_gain)),
                (1.0 - success, -p.failure_cost - price - survey, (p.standing_loss, 0.0)),
            ] {
                for (of_standing, standing) in walk(standing, STANDINGS, down, up) {
                    for (of_wear, condition) in walk(condition, CONDITIONS, p.wear, p.repair) {
                        for (of_loyalty, loyalty) in walk(loyalty, LOYALTIES, 0.0, p.loyalty_gain) {
                            for (of_difficulty, difficulty) in
                                walk(difficulty, DIFFICULTIES, p.difficulty_change, p.difficulty_change)
                            {
                                let probability =
                                    of_condition * of_result * of_standing * of_wear * of_loyalty * of_difficulty;
                                visit(probability, [tier, condition, difficulty, standing, loyalty], reward);
                            }
                        }
                    }
                }
            }
        }
    }

    fn observe(&self, [tier, condition, difficulty, standing, loyalty]: [usize; 5]) -> [f32; FEATURES.len()] {
        [
            feature(tier, TIERS),
            feature(loyalty, LOYALTIES),
            feature(difficulty, DIFFICULTIES),
            feature(condition, CONDITIONS),
            0.0,
            feature(standing, STANDINGS),
            0.0,
            0.0,
            0.0,
        ]
    }
}
