//! The six marketplace environments of the wire contract.
//!
//! Each is a finite Markov decision process: its state is a few small integers, and every outcome of an action is
//! enumerated with its probability. The same enumeration is used for simulation and for exact solution, so the best
//! possible expected return is known ([`ReferenceReturns`]).
//!
//! In these files a "walk" is a process that moves one level up or down with given probabilities and does not leave its
//! range.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    ActionSpace, Environment, EnvironmentAction, EnvironmentDescription, EnvironmentParameter, ReferenceReturns,
    mdp::MarkovProcess,
    simulation::{Dynamics, EnvironmentRng, SimulatedEnvironment, sample_unit},
};
use crate::{ACTION_NAMES, FEATURE_NAMES};

mod calibration;
mod marketplace_trading;
mod negotiation_strategy;
mod parameters;
mod poisson_fit;
mod portfolio_management;
mod price_optimization;
mod resource_allocation;
mod rewards;
mod service_selection;
#[cfg(test)]
mod tests;

use parameters::MarketParameters;
pub(crate) use rewards::{MarketKind, drawn_market};
pub use {
    calibration::{FittedParameter, MIN_RECORDS, PriceCalibration, PriceRecord, TooFewRecords, calibrate_prices},
    marketplace_trading::MarketplaceTrading,
    negotiation_strategy::NegotiationStrategy,
    portfolio_management::{PortfolioLevels, PortfolioManagement},
    price_optimization::PriceOptimization,
    resource_allocation::ResourceAllocation,
    service_selection::ServiceSelection,
};
pub(super) use {
    marketplace_trading::TradingMarket, negotiation_strategy::NegotiationMarket, portfolio_management::PortfolioMarket,
    price_optimization::PricingMarket, resource_allocation::ResourceMarket, service_selection::ServiceMarket,
};

/// A market action, in the order of [`ACTION_NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarketAction {
    Increase,
    Decrease,
    Maintain,
    Dynamic,
}

const MARKET_ACTIONS: [MarketAction; ACTION_NAMES.len()] =
    [MarketAction::Increase, MarketAction::Decrease, MarketAction::Maintain, MarketAction::Dynamic];

/// Model of a market with a state of `N` integers.
pub(super) trait MarketModel<const N: usize>: Send + Sized {
    /// Parameters of the model.
    type Parameters: MarketParameters;

    /// Name in the API.
    const NAME: &'static str;
    /// Description of the model, of the effect of each action, and of the reward.
    const SUMMARY: &'static str;
    /// Version of the dynamics, raised with every change to them.
    const VERSION: u32;
    /// Steps of an episode.
    const HORIZON: u32 = 100;
    /// Number of values of each state variable, which start at 0.
    const STATE_SHAPE: [usize; N];
    /// For each state variable, the feature of [`FEATURE_NAMES`] that shows it, and its meaning.
    const FEATURE_MAP: [(&'static str, &'static str); N];

    /// Create the model from valid parameters.
    fn new(parameters: Self::Parameters) -> Self;

    fn parameters(&self) -> &Self::Parameters;

    /// Visit every initial state with its probability.
    fn start(&self, visit: &mut dyn FnMut(f64, [usize; N]));

    /// Visit every outcome of an action: its probability, the next state, the reward.
    fn outcomes(&self, state: [usize; N], action: MarketAction, visit: &mut dyn FnMut(f64, [usize; N], f64));
}

/// Create the market `M`, in an episode started with seed 0.
pub(super) fn make_market<const N: usize, M: MarketModel<N> + 'static>(
    parameters: Option<&Value>,
) -> Result<Box<dyn Environment>, String>
where
    [usize; N]: Serialize + DeserializeOwned,
{
    let parameters = M::Parameters::read(parameters)?;
    let played = MarketDynamics::new(M::new(parameters));
    let description = EnvironmentDescription {
        name: M::NAME.into(),
        summary: format!("{} {}", M::SUMMARY, describe_features::<N, M>()),
        observations: FEATURE_NAMES.map(str::to_owned).into(),
        bounds: vec![(Some(-MAX_FEATURE), Some(MAX_FEATURE)); FEATURE_NAMES.len()],
        actions: ActionSpace::Discrete { names: ACTION_NAMES.map(str::to_owned).into() },
        horizon: M::HORIZON,
    };
    Ok(Box::new(SimulatedEnvironment::new(played, description)))
}

/// Describe in one sentence what the features show.
fn describe_features<const N: usize, M: MarketModel<N>>() -> String {
    let shown = M::FEATURE_MAP.iter().zip(M::STATE_SHAPE);
    let shown: Vec<_> = shown.map(|((name, meaning), values)| format!("{name} ({meaning}; {values} values)")).collect();
    format!(
        "Features, each spread evenly from -{MAX_FEATURE} to {MAX_FEATURE}: {}; the others are 0.",
        shown.join(", ")
    )
}

/// A market model as an environment's dynamics.
struct MarketDynamics<const N: usize, M> {
    market: M,
    /// Index in the observation of the feature that shows each state variable.
    places: [usize; N],
}

impl<const N: usize, M: MarketModel<N>> MarketDynamics<N, M> {
    fn new(market: M) -> Self {
        let place = |name| FEATURE_NAMES.iter().position(|feature| *feature == name).unwrap_or(FEATURE_NAMES.len());
        Self { market, places: M::FEATURE_MAP.map(|(name, _)| place(name)) }
    }

    fn process(&self) -> MarkovProcess {
        let states = M::STATE_SHAPE.iter().product();
        let mut start = Vec::new();
        self.market.start(&mut |probability, state| start.push((state_index(M::STATE_SHAPE, state), probability)));
        MarkovProcess::new(states, ACTION_NAMES.len(), M::HORIZON, start, |state, action, visit| {
            self.market.outcomes(
                state_from_index(M::STATE_SHAPE, state),
                MARKET_ACTIONS[action],
                &mut |probability, next, reward| {
                    visit(probability, state_index(M::STATE_SHAPE, next), reward);
                },
            );
        })
    }
}

impl<const N: usize, M: MarketModel<N>> Dynamics for MarketDynamics<N, M>
where
    [usize; N]: Serialize + DeserializeOwned,
{
    type State = [usize; N];

    const VERSION: u32 = M::VERSION;

    fn parameters(&self) -> Vec<EnvironmentParameter> {
        self.market.parameters().describe()
    }

    fn holds(&self, state: &[usize; N]) -> bool {
        state.iter().zip(M::STATE_SHAPE).all(|(digit, values)| *digit < values)
    }

    fn begin(&self, generator: &mut EnvironmentRng) -> [usize; N] {
        let mut draw = ChoiceSampler::new(generator, [0; N]);
        self.market.start(&mut |probability, state| draw.offer(probability, state));
        draw.taken
    }

    fn observe(&self, state: &[usize; N], _: u32, out: &mut [f32]) {
        out.fill(0.0);
        for ((place, digit), values) in self.places.into_iter().zip(state).zip(M::STATE_SHAPE) {
            out[place] = scale_feature(*digit, values);
        }
    }

    fn advance(
        &self,
        state: &mut [usize; N],
        _: u32,
        action: EnvironmentAction<'_>,
        generator: &mut EnvironmentRng,
    ) -> (f64, bool) {
        let EnvironmentAction::Discrete(action) = action else { return (f64::NAN, false) };
        let action = MARKET_ACTIONS[action];
        let mut draw = ChoiceSampler::new(generator, (*state, f64::NAN));
        self.market.outcomes(*state, action, &mut |probability, next, reward| draw.offer(probability, (next, reward)));
        let (next, reward) = draw.taken;
        *state = next;
        (reward, false)
    }

    fn reference(&self) -> Option<ReferenceReturns> {
        Some(reference_returns(&self.process()))
    }

    fn expected_return(&self, policy: &mut dyn FnMut(&[f32]) -> Vec<f64>) -> Option<f64> {
        let states: usize = M::STATE_SHAPE.iter().product();
        let mut observations = vec![0.0; states * FEATURE_NAMES.len()];
        for (state, out) in observations.chunks_mut(FEATURE_NAMES.len()).enumerate() {
            self.observe(&state_from_index(M::STATE_SHAPE, state), 0, out);
        }
        let policy = policy(&observations);
        let fits = policy.len() == states * ACTION_NAMES.len() && policy.iter().all(|number| number.is_finite());
        fits.then(|| self.process().value_of(&policy))
    }
}

/// Compute the reference returns of a process.
fn reference_returns(process: &MarkovProcess) -> ReferenceReturns {
    let constants = (0..ACTION_NAMES.len()).map(|action| process.value_of(&process.constant(action)));
    let (action, constant) =
        constants.enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other)).unwrap_or((0, f64::NAN));
    ReferenceReturns {
        optimum: process.optimum(),
        random: process.value_of(&process.random()),
        myopic: process.value_of(&process.myopic()),
        constant,
        constant_action: ACTION_NAMES[action].into(),
    }
}

/// Selection of one of several options by their probabilities: the one in whose share of [0, 1) a drawn number lies.
struct ChoiceSampler<T> {
    /// Remainder of the drawn number.
    rest: f64,
    taken: T,
}

impl<T> ChoiceSampler<T> {
    /// Draw a number; `none` is taken when no option is offered.
    fn new(generator: &mut EnvironmentRng, none: T) -> Self {
        Self { rest: sample_unit(generator), taken: none }
    }

    /// The last possible option stays selected when rounding leaves the sum of the probabilities just under 1.
    fn offer(&mut self, probability: f64, offer: T) {
        if self.rest >= 0.0 && probability > 0.0 {
            self.taken = offer;
            self.rest -= probability;
        }
    }
}

/// Index of a state among all states of this shape.
fn state_index<const N: usize>(shape: [usize; N], state: [usize; N]) -> usize {
    state.iter().zip(shape).fold(0, |index, (digit, values)| index * values + digit)
}

/// State with this index.
fn state_from_index<const N: usize>(shape: [usize; N], mut index: usize) -> [usize; N] {
    let mut state = [0; N];
    for (digit, values) in state.iter_mut().zip(shape).rev() {
        *digit = index % values;
        index /= values;
    }
    state
}

/// Largest value of a feature; the smallest is its negative.
const MAX_FEATURE: f32 = 1.5;

/// Map `value`, one of `values` integers from 0, linearly to the range from -[`MAX_FEATURE`] to [`MAX_FEATURE`].
fn scale_feature(value: usize, values: usize) -> f32 {
    MAX_FEATURE * (2.0 * value as f32 / (values - 1) as f32 - 1.0)
}

/// Return the possible next values of a walk on `rungs` levels from `rung`, with their probabilities. A step that would
/// leave the range is not taken.
fn walk_transitions(rung: usize, rungs: usize, down: f64, up: f64) -> [(f64, usize); 3] {
    let down = if rung > 0 { down } else { 0.0 };
    let up = if rung + 1 < rungs { up } else { 0.0 };
    [(down, rung.saturating_sub(1)), (1.0 - down - up, rung), (up, (rung + 1).min(rungs - 1))]
}

/// Poisson distribution with this mean; the whole tail is added to the last of `N` counts.
fn poisson_probabilities<const N: usize>(mean: f64) -> [f64; N] {
    let mut term = (-mean).exp();
    let mut rest = 1.0;
    std::array::from_fn(|count| {
        let probability = if count + 1 < N { term } else { f64::max(rest, 0.0) };
        rest -= probability;
        term *= mean / (count + 1) as f64;
        probability
    })
}
