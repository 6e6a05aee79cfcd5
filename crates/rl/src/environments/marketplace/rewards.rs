//! Markets whose parameters are drawn, and what each action pays at once in each state: tasks for meta-learning.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    MARKET_ACTIONS, MarketDynamics, MarketModel, NegotiationMarket, PortfolioMarket, PricingMarket, ResourceMarket,
    ServiceMarket, TradingMarket, parameters::MarketParameters, state_from_index,
};
use crate::environments::{EnvironmentParameter, simulation::Dynamics};

/// A market, by the environment that it is the model of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarketKind {
    Trading,
    Resources,
    Prices,
    Services,
    Negotiation,
    Portfolio,
}

/// What actions pay at once in the states of a market.
pub(crate) trait MarketRewards {
    /// Number of states.
    fn states(&self) -> usize;

    /// Write what a policy sees of a state.
    fn write_features(&self, state: usize, out: &mut [f32]);

    /// Expected reward of an action.
    fn expected(&self, state: usize, action: usize) -> f64;

    /// Reward in the outcome in whose share of [0, 1) the number `share` lies.
    fn drawn(&self, state: usize, action: usize, share: f64) -> f64;
}

impl<const N: usize, M: MarketModel<N>> MarketRewards for MarketDynamics<N, M>
where
    [usize; N]: Serialize + DeserializeOwned,
{
    fn states(&self) -> usize {
        M::STATE_SHAPE.iter().product()
    }

    fn write_features(&self, state: usize, out: &mut [f32]) {
        Dynamics::observe(self, &state_from_index(M::STATE_SHAPE, state), 0, out);
    }

    fn expected(&self, state: usize, action: usize) -> f64 {
        let mut sum = 0.0;
        let state = state_from_index(M::STATE_SHAPE, state);
        self.market.outcomes(state, MARKET_ACTIONS[action], &mut |probability, _, reward| sum += probability * reward);
        sum
    }

    fn drawn(&self, state: usize, action: usize, share: f64) -> f64 {
        let (mut rest, mut taken) = (share, f64::NAN);
        let state = state_from_index(M::STATE_SHAPE, state);
        self.market.outcomes(state, MARKET_ACTIONS[action], &mut |probability, _, reward| {
            // The last possible outcome stays taken when rounding leaves the sum of the probabilities just under 1.
            if rest >= 0.0 && probability > 0.0 {
                taken = reward;
                rest -= probability;
            }
        });
        taken
    }
}

fn market<const N: usize, M: MarketModel<N> + 'static>(
    draw: &mut dyn FnMut(&EnvironmentParameter) -> f64,
) -> Box<dyn MarketRewards>
where
    [usize; N]: Serialize + DeserializeOwned,
{
    let described = MarketParameters::describe(&M::Parameters::default());
    let drawn: Map<String, Value> = described.iter().map(|one| (one.name.to_owned(), json!(draw(one)))).collect();
    // They are numbers, by the names that the market has.
    let parameters: M::Parameters = serde_json::from_value(Value::Object(drawn)).unwrap_or_default();
    Box::new(MarketDynamics::new(M::new(parameters)))
}

/// A market with parameters that `draw` chooses, each within its range.
pub(crate) fn drawn_market(
    kind: MarketKind,
    draw: &mut dyn FnMut(&EnvironmentParameter) -> f64,
) -> Box<dyn MarketRewards> {
    match kind {
        MarketKind::Trading => market::<4, TradingMarket>(draw),
        MarketKind::Resources => market::<5, ResourceMarket>(draw),
        MarketKind::Prices => market::<5, PricingMarket>(draw),
        MarketKind::Services => market::<5, ServiceMarket>(draw),
        MarketKind::Negotiation => market::<5, NegotiationMarket>(draw),
        MarketKind::Portfolio => market::<5, PortfolioMarket>(draw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_rewards_have_the_expected_mean_whatever_the_parameters() {
        let kinds = [
            MarketKind::Trading,
            MarketKind::Resources,
            MarketKind::Prices,
            MarketKind::Services,
            MarketKind::Negotiation,
            MarketKind::Portfolio,
        ];
        for kind in kinds {
            for part in [0.0, 0.4] {
                let market = drawn_market(kind, &mut |one| one.default + part * (one.high - one.default));
                for state in (0..market.states()).step_by(211) {
                    for action in 0..MARKET_ACTIONS.len() {
                        let count = 1000;
                        let shares = (0..count).map(|at| (f64::from(at) + 0.5) / f64::from(count));
                        let rewards: Vec<f64> = shares.map(|share| market.drawn(state, action, share)).collect();
                        let mean = rewards.iter().sum::<f64>() / f64::from(count);
                        let widest = rewards.iter().fold(0.0f64, |most, reward| most.max(reward.abs()));
                        let expected = market.expected(state, action);
                        assert!(
                            (mean - expected).abs() <= 0.05 * widest + 1e-9,
                            "{kind:?} {state} {action}: {mean} {expected}"
                        );
                    }
                }
            }
        }
    }
}
