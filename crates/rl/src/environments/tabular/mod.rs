//! Environments whose states, actions and transitions are sent as tables.

mod definition;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use self::definition::StateObservations;
pub use self::definition::{FeatureTable, TabularDefinition, TransitionRow};
use super::{
    ActionSpace, Environment, EnvironmentAction, EnvironmentDescription, ReferenceReturns,
    mdp::MarkovProcess,
    simulation::{Dynamics, EnvironmentRng, SimulatedEnvironment, sample_unit},
};

/// Bounds of a discounted optimum are computed to this share of the largest reward divided by `1 - discount`.
const RELATIVE_PRECISION: f64 = 1e-9;
/// Outcomes that are visited at most while a discounted optimum is bounded: about a second.
const MAX_SOLVING_WORK: u64 = 400_000_000;

/// A possible result of an action in a state.
#[derive(Debug, Clone, PartialEq)]
struct TabularOutcome {
    next: u32,
    probability: f64,
    reward: f64,
}

/// A finite environment that was checked.
#[derive(Debug, PartialEq)]
pub struct TabularModel {
    description: EnvironmentDescription,
    /// SHA-256 of the definition, 64 hex digits.
    sha256: String,
    actions: usize,
    terminal: Vec<bool>,
    /// Outcomes of state `s` and action `a` lie from `offsets[s * actions + a]` to the next offset.
    offsets: Vec<usize>,
    outcomes: Vec<TabularOutcome>,
    start: Vec<(usize, f64)>,
    /// Observation of each state, one after the other.
    observations: Vec<f32>,
    discount: f64,
}

/// The discounted optimum of a finite environment, without an end but that of terminal states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = DiscountedOptimum)]
pub struct DiscountedOptimum {
    /// Discount of the next step's reward.
    pub discount: f64,
    /// Lower bound of the highest expected discounted return of any policy; MacQueen's bounds.
    pub low: f64,
    /// Upper bound of it.
    pub high: f64,
    /// Expected return, not discounted, over the horizon of the policy that is best for discounted rewards: one that
    /// does not know the step, as trained policies are.
    pub policy_return: f64,
    /// Index of the action that this policy takes in each state; left out in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy: Vec<usize>,
    /// Sweeps over the states that it took.
    pub sweeps: u32,
}

/// A finite environment solved: what the best policies reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EnvironmentSolution)]
pub struct EnvironmentSolution {
    /// Expected returns over the horizon, not discounted: of the optimum (backward induction) and of simple policies.
    pub returns: ReferenceReturns,
    /// The discounted optimum; null with a discount of 1, under which it need not be finite.
    pub discounted: Option<DiscountedOptimum>,
}

impl TabularModel {
    /// Build the model of a definition that was checked; `name` is how runs refer to it.
    pub(super) fn new(name: &str, sha256: String, definition: &TabularDefinition) -> Self {
        let (count, actions) = (definition.states.len(), definition.actions.len());
        let places = |names: &'_ [String]| -> HashMap<String, usize> {
            names.iter().cloned().enumerate().map(|(at, name)| (name, at)).collect()
        };
        let (states, moves) = (places(&definition.states), places(&definition.actions));
        let index = |state: &String| states.get(state).copied();
        let mut terminal = vec![false; count];
        definition.terminal.iter().filter_map(index).for_each(|state| terminal[state] = true);
        let mut pairs = vec![Vec::new(); count * actions];
        for row in &definition.transitions {
            let pair = index(&row.state).zip(moves.get(&row.action).copied()).zip(index(&row.next));
            let Some(((state, action), next)) = pair else { continue };
            pairs[state * actions + action].push(TabularOutcome {
                next: next as u32,
                probability: row.probability,
                reward: row.reward,
            });
        }
        let (mut offsets, mut outcomes) = (vec![0], Vec::with_capacity(definition.transitions.len()));
        for mut pair in pairs {
            // Sums of texts that were rounded to a few digits are not quite 1.
            let sum: f64 = pair.iter().map(|outcome| outcome.probability).sum();
            pair.iter_mut().for_each(|outcome| outcome.probability /= sum);
            outcomes.append(&mut pair);
            offsets.push(outcomes.len());
        }
        let sum: f64 = definition.start.values().sum();
        let start = definition.start.iter().filter(|(_, probability)| **probability > 0.0);
        let start = start.filter_map(|(state, probability)| Some((index(state)?, probability / sum))).collect();
        let StateObservations { names, bounds, numbers } = definition.observations();
        let description = EnvironmentDescription {
            name: name.to_owned(),
            summary: definition.summary(),
            observations: names,
            bounds,
            actions: ActionSpace::Discrete { names: definition.actions.clone() },
            horizon: definition.horizon,
        };
        Self {
            description,
            sha256,
            actions,
            terminal,
            offsets,
            outcomes,
            start,
            observations: numbers,
            discount: definition.discount,
        }
    }

    /// Description of the environment.
    pub fn description(&self) -> &EnvironmentDescription {
        &self.description
    }

    /// SHA-256 of the definition, 64 hex digits.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Discount of the next step's reward, 0 to 1.
    pub fn discount(&self) -> f64 {
        self.discount
    }

    /// Number of states.
    pub fn states(&self) -> usize {
        self.terminal.len()
    }

    /// An environment with these dynamics, in an episode started with seed 0.
    pub fn environment(self: &Arc<Self>) -> Box<dyn Environment> {
        Box::new(SimulatedEnvironment::new(TabularDynamics(self.clone()), self.description.clone()))
    }

    /// The model as a process, in which a terminal state stays and earns nothing.
    fn process(&self) -> MarkovProcess {
        let horizon = self.description.horizon;
        MarkovProcess::new(self.states(), self.actions, horizon, self.start.clone(), |state, action, visit| {
            if self.terminal[state] {
                return visit(1.0, state, 0.0);
            }
            let pair = state * self.actions + action;
            for outcome in &self.outcomes[self.offsets[pair]..self.offsets[pair + 1]] {
                visit(outcome.probability, outcome.next as usize, outcome.reward);
            }
        })
    }

    fn returns(&self, process: &MarkovProcess) -> ReferenceReturns {
        let constants = (0..self.actions).map(|action| process.value_of(&process.constant(action)));
        let best = constants.enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other));
        let (action, constant) = best.unwrap_or((0, f64::NAN));
        let name = match &self.description.actions {
            ActionSpace::Discrete { names } => names.get(action).cloned().unwrap_or_default(),
            ActionSpace::Continuous { .. } => String::new(),
        };
        ReferenceReturns {
            optimum: process.optimum(),
            random: process.value_of(&process.random()),
            myopic: process.value_of(&process.myopic()),
            constant,
            constant_action: name,
        }
    }

    /// Solve the model. Takes up to two seconds for the largest.
    pub fn solve(&self) -> EnvironmentSolution {
        let process = self.process();
        let discounted = (self.discount < 1.0).then(|| {
            let most = self.outcomes.iter().map(|outcome| outcome.reward.abs()).fold(0.0, f64::max);
            let precision = RELATIVE_PRECISION * most.max(f64::MIN_POSITIVE) / (1.0 - self.discount);
            let found = process.solve_discounted(self.discount, precision, MAX_SOLVING_WORK);
            let policy_return = process.value_of(&process.deterministic(&found.best));
            DiscountedOptimum {
                discount: self.discount,
                low: found.low,
                high: found.high,
                policy_return,
                policy: found.best,
                sweeps: found.sweeps,
            }
        });
        EnvironmentSolution { returns: self.returns(&process), discounted }
    }
}

/// A finite environment's dynamics.
struct TabularDynamics(Arc<TabularModel>);

impl TabularDynamics {
    /// Which of `options`, whose probabilities sum to 1, a drawn number falls on; the last if rounding leaves it out.
    fn choose<'a, T>(
        generator: &mut EnvironmentRng,
        options: &'a [T],
        probability: impl Fn(&T) -> f64,
    ) -> Option<&'a T> {
        let mut rest = sample_unit(generator);
        let possible = options.iter().filter(|option| probability(option) > 0.0);
        let mut last = None;
        for option in possible {
            last = Some(option);
            rest -= probability(option);
            if rest < 0.0 {
                break;
            }
        }
        last
    }
}

impl Dynamics for TabularDynamics {
    /// Index of the state.
    type State = usize;

    const VERSION: u32 = 1;

    fn definition_hash(&self) -> Option<&str> {
        Some(&self.0.sha256)
    }

    fn holds(&self, state: &usize) -> bool {
        *state < self.0.states()
    }

    fn reference(&self) -> Option<ReferenceReturns> {
        Some(self.0.returns(&self.0.process()))
    }

    fn expected_return(&self, policy: &mut dyn FnMut(&[f32]) -> Vec<f64>) -> Option<f64> {
        let rows = policy(&self.0.observations);
        let fits = rows.len() == self.0.states() * self.0.actions && rows.iter().all(|number| number.is_finite());
        fits.then(|| self.0.process().value_of(&rows))
    }

    fn begin(&self, generator: &mut EnvironmentRng) -> usize {
        Self::choose(generator, &self.0.start, |(_, probability)| *probability).map_or(0, |(state, _)| *state)
    }

    fn observe(&self, state: &usize, _: u32, out: &mut [f32]) {
        let width = out.len();
        out.copy_from_slice(&self.0.observations[state * width..(state + 1) * width]);
    }

    fn advance(
        &self,
        state: &mut usize,
        _: u32,
        action: EnvironmentAction<'_>,
        generator: &mut EnvironmentRng,
    ) -> (f64, bool) {
        let EnvironmentAction::Discrete(action) = action else { return (f64::NAN, false) };
        let pair = *state * self.0.actions + action;
        let options = &self.0.outcomes[self.0.offsets[pair]..self.0.offsets[pair + 1]];
        // A terminal state has none, and its episode is over.
        let Some(taken) = Self::choose(generator, options, |outcome| outcome.probability) else { return (0.0, true) };
        *state = taken.next as usize;
        (taken.reward, self.0.terminal[*state])
    }
}
