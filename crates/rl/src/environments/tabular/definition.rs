//! The tables of a finite environment, as they are sent and stored, and what is checked of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::TabularModel;
use am_core::{
    crypto,
    validation::{FieldPath, PathSegment, Violation, Violations, has_length},
};

/// Most states of an environment.
const MAX_STATES: usize = 4096;
/// Most states that are observed as one number each.
const MAX_ONE_HOT_STATES: usize = 512;
/// Most actions of an environment.
const MAX_ACTIONS: usize = 64;
/// Most rows of the table of transitions.
const MAX_TRANSITIONS: usize = 100_000;
/// Most numbers of an observation.
const MAX_FEATURES: usize = 512;
/// Most steps of an episode.
const MAX_HORIZON: u32 = 100_000;
/// Most steps of an episode times the rows and pairs that are visited in each of them, so that solving takes about a second.
const MAX_WORK: u64 = 100_000_000;
/// Largest absolute reward: its square is exact enough in 32 bits.
const MAX_REWARD: f64 = 1e6;
/// Most that probabilities may sum to beside 1: rounding to a few digits.
const SUM_TOLERANCE: f64 = 1e-6;
/// Longest name of a state, an action or a feature, in characters.
const MAX_NAME_CHARS: usize = 100;
/// Longest description, in characters.
const MAX_DESCRIPTION_CHARS: usize = 2000;
/// Most faults that are told at once.
const MAX_FAULTS: usize = 100;

/// A row of the table of transitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = TransitionRow)]
pub struct TransitionRow {
    /// State in which the action is taken.
    pub state: String,
    /// Action that is taken.
    pub action: String,
    /// State after it.
    pub next: String,
    /// Probability of this row, above 0 and at most 1. Those of one state and action sum to 1, to a millionth; they are divided by
    /// their sum. Default 1.
    #[serde(default = "certain")]
    #[schema(default = 1.0)]
    pub probability: f64,
    /// Reward of this row, at most a million and at least minus a million. Default 0.
    #[serde(default)]
    pub reward: f64,
}

fn certain() -> f64 {
    1.0
}

/// What a policy sees of each state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = FeatureTable)]
pub struct FeatureTable {
    /// Name of each number of an observation, 1 to 512.
    pub names: Vec<String>,
    /// Numbers of each state, in the order of the states. Finite as 32-bit floats.
    pub rows: Vec<Vec<f64>>,
}

/// Observations of all states.
pub(super) struct StateObservations {
    /// Name of each number of an observation.
    pub(super) names: Vec<String>,
    /// Smallest and largest value of each number.
    pub(super) bounds: Vec<(Option<f32>, Option<f32>)>,
    /// Numbers of the states, one state after the other.
    pub(super) numbers: Vec<f32>,
}

fn default_discount() -> f64 {
    0.99
}

/// The tables of a finite environment. Members not listed here are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EnvironmentTables)]
pub struct TabularDefinition {
    /// What it models, for people, at most 2000 characters. Default: empty. It is no part of the content hash.
    #[serde(default)]
    pub description: String,
    /// Names of the states, 1 to 4096, all different.
    pub states: Vec<String>,
    /// Names of the actions, 1 to 64, all different. Each can be taken in each state that is not terminal.
    pub actions: Vec<String>,
    /// What each action does in each state, at most 100 000 rows. Several rows of one state and action are its possible
    /// outcomes.
    pub transitions: Vec<TransitionRow>,
    /// Probability of each state in which an episode begins; they sum to 1, to a millionth.
    pub start: BTreeMap<String, f64>,
    /// States that end an episode when they are entered; nothing happens in them. Default: none, and every episode ends at the horizon.
    #[serde(default)]
    pub terminal: Vec<String>,
    /// Discount of the next step's reward, 0 to 1: for the discounted optimum, and as the default of the setting `gamma`
    /// of trainings. Returns that are shown are not discounted. Default 0.99.
    #[serde(default = "default_discount")]
    #[schema(default = 0.99)]
    pub discount: f64,
    /// Steps after which an episode is cut short, 1 to 100 000. Multiplied by the rows, and by the states times the
    /// actions, at most 100 million together.
    pub horizon: u32,
    /// What a policy sees; null: one number for each state, 1 in that state and 0 elsewhere, for at most 512 states.
    #[serde(default)]
    pub features: Option<FeatureTable>,
}

/// Positions of names; the first fault is told of each name.
fn name_index<'a>(
    violations: &mut Violations,
    member: &'static str,
    names: &'a [String],
    most: usize,
) -> HashMap<&'a str, usize> {
    violations.require_within(Some(names.len()), &(1..=most), member);
    let mut index = HashMap::with_capacity(names.len());
    for (at, name) in names.iter().enumerate().take(most) {
        if !has_length(name, &(1..=MAX_NAME_CHARS)) {
            violations.add(place(member, at, None), format!("must have 1 to {MAX_NAME_CHARS} characters"));
        } else if let Some(first) = index.insert(name.as_str(), at) {
            violations.add(place(member, at, None), format!("'{name}' is the name of number {first} too"));
        }
    }
    index
}

fn place(member: &'static str, at: usize, inner: Option<&'static str>) -> FieldPath {
    [PathSegment::from(member), at.into()].into_iter().chain(inner.map(Into::into)).collect()
}

impl TabularDefinition {
    /// Check the tables.
    ///
    /// # Errors
    /// What is wrong and where, the first hundred faults.
    pub fn check(&self) -> Result<(), Vec<Violation>> {
        let mut violations = Violations::default();
        let described = has_length(&self.description, &(0..=MAX_DESCRIPTION_CHARS));
        violations.require(described, "description", format!("must have at most {MAX_DESCRIPTION_CHARS} characters"));
        let states = name_index(&mut violations, "states", &self.states, MAX_STATES);
        let actions = name_index(&mut violations, "actions", &self.actions, MAX_ACTIONS);
        violations.require_within(Some(self.transitions.len()), &(1..=MAX_TRANSITIONS), "transitions");
        violations.require_within(Some(self.discount), &(0.0..=1.0), "discount");
        violations.require_within(Some(self.horizon), &(1..=MAX_HORIZON), "horizon");
        let each = self.transitions.len() as u64 + self.states.len() as u64 * self.actions.len() as u64;
        let work = u64::from(self.horizon).saturating_mul(each);
        violations.require(
            work <= MAX_WORK,
            "horizon",
            format!("times the rows, and the states times the actions ({each} together), must be at most {MAX_WORK}"),
        );
        let terminal = self.check_terminal(&mut violations, &states);
        self.check_start(&mut violations, &states, &terminal);
        self.check_transitions(&mut violations, (&states, &actions), &terminal);
        self.check_features(&mut violations);
        violations.finish().map_err(|mut found| {
            found.truncate(MAX_FAULTS);
            found
        })
    }

    fn check_terminal(&self, violations: &mut Violations, states: &HashMap<&str, usize>) -> BTreeSet<usize> {
        let mut terminal = BTreeSet::new();
        for (at, name) in self.terminal.iter().enumerate().take(MAX_STATES) {
            match states.get(name.as_str()) {
                None => violations.add(place("terminal", at, None), format!("'{name}' is none of the states")),
                Some(state) if !terminal.insert(*state) => {
                    violations.add(place("terminal", at, None), format!("'{name}' stands here twice"));
                }
                Some(_) => {}
            }
        }
        violations.require(self.terminal.len() <= MAX_STATES, "terminal", "has more names than there may be states");
        terminal
    }

    fn check_start(&self, violations: &mut Violations, states: &HashMap<&str, usize>, terminal: &BTreeSet<usize>) {
        let mut sum = 0.0;
        for (name, probability) in self.start.iter().take(MAX_STATES) {
            let at = || FieldPath::from(["start", name.as_str()]);
            match states.get(name.as_str()) {
                None => violations.add(at(), format!("'{name}' is none of the states")),
                Some(state) if terminal.contains(state) => violations.add(at(), "is terminal: no episode begins there"),
                Some(_) => {}
            }
            violations.require_within(Some(*probability), &(0.0..=1.0), at());
            sum += probability;
        }
        let whole = (sum - 1.0).abs() <= SUM_TOLERANCE;
        violations.require(whole, "start", format!("the probabilities sum to {sum}, not 1"));
    }

    fn check_transitions(
        &self,
        violations: &mut Violations,
        (states, actions): (&HashMap<&str, usize>, &HashMap<&str, usize>),
        terminal: &BTreeSet<usize>,
    ) {
        let mut sums = vec![None; self.states.len().min(MAX_STATES) * self.actions.len().min(MAX_ACTIONS)];
        // Sums are told of only where the rows themselves are in order.
        let mut sound = true;
        for (at, row) in self.transitions.iter().enumerate().take(MAX_TRANSITIONS) {
            let mut tell = |member: &'static str, message: String| {
                sound = false;
                violations.add(place("transitions", at, Some(member)), message);
            };
            let state = states.get(row.state.as_str());
            match state {
                None => tell("state", format!("'{}' is none of the states", row.state)),
                Some(state) if terminal.contains(state) => {
                    tell("state", format!("'{}' is terminal: no action is taken there", row.state));
                }
                Some(_) => {}
            }
            let action = actions.get(row.action.as_str());
            if action.is_none() {
                tell("action", format!("'{}' is none of the actions", row.action));
            }
            if !states.contains_key(row.next.as_str()) {
                tell("next", format!("'{}' is none of the states", row.next));
            }
            if !(row.probability > 0.0 && row.probability <= 1.0) {
                tell("probability", "must be above 0 and at most 1".to_owned());
            }
            if row.reward.is_nan() || row.reward.abs() > MAX_REWARD {
                tell("reward", format!("must be from -{MAX_REWARD} to {MAX_REWARD}"));
            }
            if let Some((state, action)) = state.zip(action)
                && let Some(sum) = sums.get_mut(state * actions.len() + action)
            {
                *sum.get_or_insert(0.0) += row.probability;
            }
        }
        if !sound || sums.len() != states.len() * actions.len() {
            return;
        }
        let mut faults = 0;
        for (pair, sum) in sums.iter().enumerate() {
            let (state, action) = (pair / actions.len(), pair % actions.len());
            if terminal.contains(&state) || faults == MAX_FAULTS {
                continue;
            }
            let (state, action) = (&self.states[state], &self.actions[action]);
            match sum {
                None => violations.add("transitions", format!("none is of action '{action}' in state '{state}'")),
                Some(sum) if (sum - 1.0).abs() > SUM_TOLERANCE => violations.add(
                    "transitions",
                    format!("the probabilities of action '{action}' in state '{state}' sum to {sum}, not 1"),
                ),
                Some(_) => continue,
            }
            faults += 1;
        }
    }

    fn check_features(&self, violations: &mut Violations) {
        let Some(FeatureTable { names, rows }) = &self.features else {
            let few = self.states.len() <= MAX_ONE_HOT_STATES;
            let message = format!("must be given for more than {MAX_ONE_HOT_STATES} states");
            return violations.require(few, "features", message);
        };
        let mut of_names = Violations::default();
        name_index(&mut of_names, "names", names, MAX_FEATURES);
        let of_names = Vec::from(of_names).into_iter().map(|violation| violation.within(["features"]));
        violations.extend(of_names);
        let (count, length) = (self.states.len(), rows.len());
        let message = format!("{count} rows are needed, one for each state, these are {length}");
        violations.require(count == length, ["features", "rows"], message);
        for (at, row) in rows.iter().enumerate().take(MAX_STATES) {
            let path = || place("rows", at, None).within(["features"]);
            if row.len() != names.len() {
                violations.add(path(), format!("{} numbers are needed, these are {}", names.len(), row.len()));
            }
            if let Some(bad) = row.iter().position(|number| !(*number as f32).is_finite()) {
                let mut path = path();
                path.push(bad);
                violations.add(path, "is not finite as a 32-bit float");
            }
        }
    }

    /// SHA-256 of the tables, 64 hex digits: of their JSON with members in the order of the schema, transitions as they were
    /// sent, without the description.
    ///
    /// # Errors
    /// Only if a value has no JSON form, which does not happen in practice.
    pub fn content_hash(&self) -> Result<String, serde_json::Error> {
        let content = Self { description: String::new(), ..self.clone() };
        Ok(crypto::sha256_hex(&serde_json::to_vec(&content)?))
    }

    /// Build the model; `name` is how runs refer to it.
    ///
    /// # Errors
    /// As [`TabularDefinition::check`].
    pub fn model(&self, name: &str) -> Result<TabularModel, Vec<Violation>> {
        self.check()?;
        let hash = self.content_hash();
        let sha256 = hash.map_err(|error| vec![Violation::new(FieldPath::default(), error.to_string())])?;
        Ok(TabularModel::new(name, sha256, self))
    }

    /// What policies see of the states.
    pub(super) fn observations(&self) -> StateObservations {
        let count = self.states.len();
        let Some(FeatureTable { names, rows }) = &self.features else {
            let numbers = (0..count * count).map(|at| f32::from(u8::from(at / count == at % count))).collect();
            let names = self.states.iter().map(|state| format!("is_{state}")).collect();
            return StateObservations { names, bounds: vec![(Some(0.0), Some(1.0)); count], numbers };
        };
        let of = |column: usize| rows.iter().map(move |row| row[column] as f32);
        let bounds = (0..names.len()).map(|column| {
            (Some(of(column).fold(f32::INFINITY, f32::min)), Some(of(column).fold(f32::NEG_INFINITY, f32::max)))
        });
        let numbers = rows.iter().flatten().map(|number| *number as f32).collect();
        StateObservations { names: names.clone(), bounds: bounds.collect(), numbers }
    }

    /// What the environment is, in words.
    pub(super) fn summary(&self) -> String {
        let (states, actions, rows) = (self.states.len(), self.actions.len(), self.transitions.len());
        let facts = format!("{states} states, {actions} actions and {rows} transitions, sent as tables.");
        match self.description.is_empty() {
            true => facts,
            false => format!("{} {facts}", self.description),
        }
    }
}
