//! Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438).

/// Experience of several environments over several steps; each slice is ordered by step, and within a step by
/// environment.
pub(super) struct GaeRollout<'a> {
    /// Rewards; where an episode was truncated, the discounted value of the next state is added.
    pub(super) rewards: &'a [f32],
    /// Critic's values of the states before each step.
    pub(super) values: &'a [f32],
    /// Whether the episode ended with the step, in either way.
    pub(super) ends: &'a [bool],
    /// Critic's values of the states after the last step, one per environment.
    pub(super) last_values: &'a [f32],
}

impl GaeRollout<'_> {
    /// Compute the advantages: `A_t = d_t + gamma lambda A_(t+1)`, `d_t = r_t + gamma V_(t+1) - V_t` (equations 11, 12
    /// and 16), where the terms of the next step are 0 after an end.
    pub(super) fn advantages(&self, gamma: f32, lambda: f32) -> Vec<f32> {
        let count = self.last_values.len();
        let mut advantages = vec![0f32; self.rewards.len()];
        for environment in 0..count {
            let (mut next_value, mut advantage) = (self.last_values[environment], 0f32);
            for at in (environment..self.rewards.len()).step_by(count).rev() {
                let goes_on = if self.ends[at] { 0.0 } else { 1.0 };
                let delta = self.rewards[at] + gamma * next_value * goes_on - self.values[at];
                advantage = delta + gamma * lambda * goes_on * advantage;
                advantages[at] = advantage;
                next_value = self.values[at];
            }
        }
        advantages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_are_those_computed_by_hand() {
        // Two environments, three steps; the second one's episode ends with its second step.
        let experience = GaeRollout {
            rewards: &[1.0, 2.0, 0.0, 4.0, 3.0, 1.0],
            values: &[0.5, 1.0, 1.0, 2.0, 2.0, 0.0],
            ends: &[false, false, false, true, false, false],
            last_values: &[4.0, 2.0],
        };
        // First: d = (1 + 0.5 - 0.5, 0 + 1 - 1, 3 + 2 - 2) = (1, 0, 3); A3 = 3, A2 = 0 + 0.25 * 3, A1 = 1 + 0.25 * 0.75.
        // Second: d = (2 + 1 - 1, 4 - 2, 1 + 1 - 0) = (2, 2, 2); A3 = 2, A2 = 2, A1 = 2 + 0.25 * 2.
        assert_eq!(experience.advantages(0.5, 0.5), [1.1875, 2.5, 0.75, 2.0, 3.0, 2.0]);
        // With lambda 1, advantage and value make the discounted return: 1 + 0 + 0.25 * 3 + 0.125 * 4 = 2.25.
        assert_eq!(experience.advantages(0.5, 1.0)[0], 2.25 - 0.5);
    }
}
