//! Exact values of policies in Markov decision processes that are small enough to enumerate.

/// A possible next state of a step, with its probability.
#[derive(Debug, Clone, Copy)]
struct OutcomeBranch {
    next: u32,
    probability: f64,
}

/// An enumerated Markov decision process with finitely many states and actions and a fixed number of steps.
///
/// Built once by visiting every outcome of every action in every state; each value below is then a backward induction
/// over the horizon (Bellman 1957): `V_t(s) = sum over s' of p(s' | s, a) * (r(s, a) + V_(t+1)(s'))`, with `V_H = 0`.
pub(super) struct MarkovProcess {
    actions: usize,
    horizon: u32,
    /// Initial states with their probabilities.
    start: Vec<(usize, f64)>,
    /// Index of branches: those of state `s` and action `a` lie from `offsets[s * actions + a]` to the next offset.
    offsets: Vec<usize>,
    branches: Vec<OutcomeBranch>,
    /// Expected reward of action `a` in state `s`, at `s * actions + a`.
    rewards: Vec<f64>,
}

/// Most sweeps that only evaluate between two that choose.
const MAX_EVALUATING_SWEEPS: usize = 64;

/// A process solved for discounted rewards.
pub(super) struct DiscountedValues {
    /// Lower bound of the optimal expected discounted return.
    pub(super) low: f64,
    /// Upper bound of it.
    pub(super) high: f64,
    /// Action in each state whose expected discounted return is not below `low`.
    pub(super) best: Vec<usize>,
    /// Sweeps over the states.
    pub(super) sweeps: u32,
}

/// Probabilities of the actions in each state, at `state * actions + action`.
pub(super) type PolicyTable = Vec<f64>;

impl MarkovProcess {
    /// Enumerate a process of `states` states. `outcomes(state, action, visit)` calls `visit` with the probability, the
    /// next state and the reward of every possible outcome.
    pub(super) fn new(
        states: usize,
        actions: usize,
        horizon: u32,
        start: Vec<(usize, f64)>,
        outcomes: impl Fn(usize, usize, &mut dyn FnMut(f64, usize, f64)),
    ) -> Self {
        let mut process = Self { actions, horizon, start, offsets: vec![0], branches: Vec::new(), rewards: Vec::new() };
        for state in 0..states {
            for action in 0..actions {
                let (first, mut expected) = (process.branches.len(), 0.0);
                outcomes(state, action, &mut |probability, next, reward| {
                    expected += probability * reward;
                    process.branches.push(OutcomeBranch { next: next as u32, probability });
                });
                process.merge(first);
                process.offsets.push(process.branches.len());
                process.rewards.push(expected);
            }
        }
        process
    }

    /// Combine the branches from `first` on that lead to the same state, and drop impossible ones.
    fn merge(&mut self, first: usize) {
        self.branches[first..].sort_by_key(|branch| branch.next);
        let mut kept = first;
        for index in first..self.branches.len() {
            let branch = self.branches[index];
            if kept > first && self.branches[kept - 1].next == branch.next {
                self.branches[kept - 1].probability += branch.probability;
            } else if branch.probability > 0.0 {
                self.branches[kept] = branch;
                kept += 1;
            }
        }
        self.branches.truncate(kept);
    }

    fn states(&self) -> usize {
        self.rewards.len() / self.actions
    }

    /// Value of a state and action, at `state * actions + action`, given the values `after` of the next states,
    /// discounted by `discount`.
    fn worth(&self, pair: usize, after: &[f64], discount: f64) -> f64 {
        let mut then = 0.0;
        for branch in &self.branches[self.offsets[pair]..self.offsets[pair + 1]] {
            then += branch.probability * after[branch.next as usize];
        }
        self.rewards[pair] + discount * then
    }

    /// Values of all actions in all states.
    fn action_values(&self, after: &[f64], discount: f64, out: &mut [f64]) {
        out.iter_mut().enumerate().for_each(|(pair, out)| *out = self.worth(pair, after, discount));
    }

    fn initial_value(&self, values: &[f64]) -> f64 {
        self.start.iter().map(|(state, probability)| probability * values[*state]).sum()
    }

    /// Highest expected return of any policy, including policies that know the step number.
    pub(super) fn optimum(&self) -> f64 {
        let mut values = vec![0.0; self.states()];
        self.backward(&mut values, |_, _| ());
        self.initial_value(&values)
    }

    /// Run backward induction over the horizon; `show` receives each step's number and its action values, the last step
    /// first.
    fn backward(&self, values: &mut [f64], mut show: impl FnMut(u32, &[f64])) {
        let mut of_actions = vec![0.0; self.rewards.len()];
        for step in (0..self.horizon).rev() {
            self.action_values(values, 1.0, &mut of_actions);
            show(step, &of_actions);
            for (value, row) in values.iter_mut().zip(of_actions.chunks(self.actions)) {
                *value = row[argmax(row)];
            }
        }
    }

    /// Optimal action in each state at each step, at `step * states + state`.
    #[cfg(test)]
    pub(super) fn plan(&self) -> Vec<u8> {
        let states = self.states();
        let mut plan = vec![0; states * self.horizon as usize];
        self.backward(&mut vec![0.0; states], |step, of_actions| {
            let row = &mut plan[step as usize * states..(step as usize + 1) * states];
            row.iter_mut().zip(of_actions.chunks(self.actions)).for_each(|(out, row)| *out = argmax(row) as u8);
        });
        plan
    }

    /// Expected return of `policy`, which is the same at every step.
    pub(super) fn value_of(&self, policy: &PolicyTable) -> f64 {
        let taken = policy.iter().copied().enumerate().filter(|(_, probability)| *probability > 0.0);
        let taken: Vec<(usize, f64)> = taken.collect();
        let mut values = vec![0.0; self.states()];
        let mut before = vec![0.0; values.len()];
        for _ in 0..self.horizon {
            before.fill(0.0);
            for (pair, probability) in &taken {
                before[pair / self.actions] += probability * self.worth(*pair, &values, 1.0);
            }
            std::mem::swap(&mut values, &mut before);
        }
        self.initial_value(&values)
    }

    /// Policy that takes every action with equal probability.
    pub(super) fn random(&self) -> PolicyTable {
        vec![1.0 / self.actions as f64; self.rewards.len()]
    }

    /// Policy that always takes the same action.
    pub(super) fn constant(&self, action: usize) -> PolicyTable {
        (0..self.rewards.len()).map(|pair| f64::from(pair % self.actions == action)).collect()
    }

    /// Policy that takes the action with the highest expected immediate reward.
    pub(super) fn myopic(&self) -> PolicyTable {
        self.greedy(&self.rewards)
    }

    /// Best policy that does not know the step, for rewards discounted by `discount` per step: the most that a trained
    /// policy can reach. Found by value iteration until all values change by the same amount to within a millionth of a
    /// reward of 1; no action's advantage changes after that (Puterman 1994, section 6.6.2).
    #[cfg(test)]
    pub(super) fn stationary_policy(&self, discount: f64) -> PolicyTable {
        let mut values = vec![0.0; self.states()];
        let mut of_actions = vec![0.0; self.rewards.len()];
        loop {
            self.action_values(&values, discount, &mut of_actions);
            let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
            for (value, row) in values.iter_mut().zip(of_actions.chunks(self.actions)) {
                let change = row[argmax(row)] - *value;
                (least, most) = (least.min(change), most.max(change));
                *value += change;
            }
            if most - least < 1e-6 {
                return self.greedy(&of_actions);
            }
        }
    }

    /// Solve the process for rewards discounted by `discount`, below 1, without an end: by modified policy iteration
    /// (Puterman and Shin 1978), a sweep of value iteration that chooses the actions, then sweeps that only evaluate
    /// them. The bounds are those of MacQueen (1966) for the last choosing sweep: where it changed the values by `d`,
    /// the optimal ones lie between `min d` and `max d`, times `discount / (1 - discount)`, above its result. It ends
    /// when they are closer than `precision`, or when `work` outcomes have been visited; the bounds hold either way.
    pub(super) fn solve_discounted(&self, discount: f64, precision: f64, work: u64) -> DiscountedValues {
        let states = self.states();
        let each = (self.branches.len() + self.rewards.len()).max(1) as u64;
        let mut values = vec![0.0; states];
        let mut of_actions = vec![0.0; self.rewards.len()];
        let mut best = vec![0; states];
        let (mut sweeps, mut visited) = (0, 0);
        loop {
            self.action_values(&values, discount, &mut of_actions);
            let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
            for (state, row) in of_actions.chunks(self.actions).enumerate() {
                best[state] = argmax(row);
                let change = row[best[state]] - values[state];
                (least, most) = (least.min(change), most.max(change));
                values[state] += change;
            }
            (sweeps, visited) = (sweeps + 1, visited + each);
            let factor = discount / (1.0 - discount);
            let (below, above) = (factor * least, factor * most);
            if above - below < precision || visited >= work {
                let value = self.initial_value(&values);
                return DiscountedValues { low: value + below, high: value + above, best, sweeps };
            }
            // As many evaluating sweeps as cost about four choosing ones.
            let evaluating = (4 * self.actions).min(MAX_EVALUATING_SWEEPS);
            for _ in 0..evaluating {
                for (state, action) in best.iter().enumerate() {
                    values[state] = self.worth(state * self.actions + action, &values, discount);
                }
            }
            (sweeps, visited) = (sweeps + evaluating as u32, visited + evaluating as u64 * each / self.actions as u64);
        }
    }

    /// Policy that always takes action `best[state]`.
    pub(super) fn deterministic(&self, best: &[usize]) -> PolicyTable {
        best.iter().flat_map(|best| (0..self.actions).map(move |action| f64::from(action == *best))).collect()
    }

    fn greedy(&self, of_actions: &[f64]) -> PolicyTable {
        let row = |row: &[f64]| (0..self.actions).map(|action| f64::from(action == argmax(row))).collect::<Vec<_>>();
        of_actions.chunks(self.actions).flat_map(row).collect()
    }
}

/// Index of the highest number; the lowest index among equals.
fn argmax(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, index| if row[index] > row[best] { index } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two states: in 0, action 0 stays for a reward of 1, action 1 goes to state 1 with probability 1/2 for nothing; in
    /// 1, both actions give 3 and go back to 0.
    fn example(horizon: u32) -> MarkovProcess {
        MarkovProcess::new(2, 2, horizon, vec![(0, 1.0)], |state, action, visit| match (state, action) {
            (0, 0) => visit(1.0, 0, 1.0),
            (0, _) => {
                visit(0.25, 1, 0.0);
                visit(0.5, 0, 0.0);
                visit(0.25, 1, 0.0);
            }
            _ => visit(1.0, 0, 3.0),
        })
    }

    #[test]
    fn values_are_those_computed_by_hand() {
        // With n steps left: V1 = (1, 3); V2 = (max(2, 0 + (1 + 3) / 2), 4) = (2, 4);
        // V3 = (max(3, (2 + 4) / 2), 5) = (3, 5).
        assert_eq!([1, 2, 3].map(|horizon| example(horizon).optimum()), [1.0, 2.0, 3.0]);
        let process = example(3);
        assert_eq!(process.value_of(&process.constant(0)), 3.0);
        // 0 steps: 0; 1: (0, 3); 2: (1.5, 3); 3: (2.25, 4.5).
        assert_eq!(process.value_of(&process.constant(1)), 2.25);
        // 1: (0.5, 3); 2: 1/2 (1 + 0.5) + 1/2 (0.5 + 3) / 2 = 1.625, 3.5; 3: 1/2 2.625 + 1/4 (1.625 + 3.5) = 2.59375.
        assert_eq!(process.value_of(&process.random()), 2.59375);
        assert_eq!(process.myopic(), [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(process.plan(), [0; 6]);
        assert_eq!(process.branches.len(), 5, "two ways to the same state are one");
    }

    #[test]
    fn discounted_values_are_bounded_from_both_sides() {
        // Staying in 0 gives 1 a step: 1 / (1 - 0.9) = 10. Going: v0 = 0.9 (v0 + v1) / 2, v1 = 3 + 0.9 v0, so
        // v0 = 1.35 / (1 - 0.45 - 0.405) = 9.3103...: staying is better, and 10 is the optimum.
        let process = example(1);
        for precision in [1e-3, 1e-9] {
            let found = process.solve_discounted(0.9, precision, 1 << 40);
            assert!(found.low <= 10.0 + 1e-9 && found.high >= 10.0 - 1e-9, "{} to {}", found.low, found.high);
            assert!(found.high - found.low < precision + 1e-9, "{}", found.high - found.low);
            assert_eq!(found.best[0], 0);
        }
        // Stopped early, the bounds are wide and hold: from (1, 3) the lower one is 1 + 9 * 1, the upper one 1 + 9 * 3.
        let early = process.solve_discounted(0.9, 1e-9, 1);
        assert!(early.sweeps == 1 && early.low < 10.0 + 1e-9 && early.high > 20.0, "{} to {}", early.low, early.high);
        // Nearer to 1 it takes no longer: going is worth 1.4985 / 0.0014995 = 999.3, staying 1000.
        let nearly = process.solve_discounted(0.999, 1e-6, 1 << 40);
        assert!(nearly.low <= 1000.0 + 1e-6 && nearly.high >= 1000.0 - 1e-6);
        assert_eq!(process.deterministic(&[0, 1]), [1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn a_stationary_policy_looks_beyond_the_reward_of_a_step() {
        // Going to state 1 is worth 2/3 a step without discount, staying 1. Of half the staying's reward, going is right.
        let process = MarkovProcess::new(2, 2, 50, vec![(0, 1.0)], |state, action, visit| match (state, action) {
            (0, 0) => visit(1.0, 0, 0.5),
            (0, _) => visit(1.0, 1, 0.0),
            _ => visit(1.0, 0, 3.0),
        });
        let policy = process.stationary_policy(0.99);
        assert_eq!(policy, [0.0, 1.0, 1.0, 0.0]);
        assert_eq!(process.value_of(&policy), 75.0);
        assert_eq!(process.optimum(), 75.0);
        assert_eq!(process.value_of(&process.myopic()), 25.0);
    }
}
