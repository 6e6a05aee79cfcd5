//! N-step returns: `R = r_t + gamma r_(t+1) + ... + gamma^(n-1) r_(t+n-1)`, plus the value of the state after them
//! discounted by `gamma^n`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::super::replay::Transition;

/// Latest steps of an episode whose returns are incomplete.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NStepWindow {
    steps: usize,
    gamma: f32,
    waiting: VecDeque<PendingReturn>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PendingReturn {
    observation: Vec<f32>,
    action: f32,
    /// Sum so far.
    reward: f32,
    /// Discount of the next reward in it.
    discount: f32,
}

impl NStepWindow {
    pub(super) fn new(steps: usize, gamma: f32) -> Self {
        Self { steps, gamma, waiting: VecDeque::with_capacity(steps) }
    }

    /// Forget the incomplete returns: what follows does not belong to them.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Add a step; `keep` receives the transitions that it completes, at the end of an episode all of them. After a
    /// termination the next state has the value 0, after a truncation its own.
    #[expect(clippy::too_many_arguments, reason = "a step's parts")]
    pub(super) fn add(
        &mut self,
        observation: Vec<f32>,
        action: usize,
        reward: f32,
        next: &[f32],
        terminated: bool,
        truncated: bool,
        mut keep: impl FnMut(&Transition<'_>),
    ) {
        self.waiting.push_back(PendingReturn { observation, action: action as f32, reward: 0.0, discount: 1.0 });
        for waiting in &mut self.waiting {
            waiting.reward += waiting.discount * reward;
            waiting.discount *= self.gamma;
        }
        let complete = match terminated || truncated {
            true => self.waiting.len(),
            false => self.waiting.len() / self.steps,
        };
        for waiting in self.waiting.drain(..complete) {
            keep(&Transition {
                observation: &waiting.observation,
                action: &[waiting.action],
                reward: waiting.reward,
                next,
                discount: if terminated { 0.0 } else { waiting.discount },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reward, discount, action and what is seen, of what is kept when these rewards come.
    fn kept(rewards: &[f32], terminated: bool, truncated: bool) -> Vec<(f32, f32, f32, f32)> {
        let (mut window, mut kept) = (NStepWindow::new(3, 0.5), Vec::new());
        for (at, reward) in rewards.iter().enumerate() {
            let last = at + 1 == rewards.len();
            window.add(vec![at as f32], at, *reward, &[at as f32 + 1.0], last && terminated, last && truncated, |t| {
                assert_eq!(t.observation, t.action);
                kept.push((t.reward, t.discount, t.action[0], t.next[0]));
            });
        }
        kept
    }

    #[test]
    fn returns_are_those_computed_by_hand() {
        // 1 + 0.5 * 2 + 0.25 * 4 = 3; 2 + 2 + 2 = 6.
        let rewards = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(kept(&rewards, false, false), [(3.0, 0.125, 0.0, 3.0), (6.0, 0.125, 1.0, 4.0)]);
        // At an end what remains is shorter: 4 + 4, and 8.
        let ended = [(3.0, 0.125, 0.0, 3.0), (6.0, 0.0, 1.0, 4.0), (8.0, 0.0, 2.0, 4.0), (8.0, 0.0, 3.0, 4.0)];
        assert_eq!(kept(&rewards, true, false), ended);
        // Cut short, what is seen counts, discounted by as many steps as there were.
        let cut = [(3.0, 0.125, 0.0, 3.0), (6.0, 0.125, 1.0, 4.0), (8.0, 0.25, 2.0, 4.0), (8.0, 0.5, 3.0, 4.0)];
        assert_eq!(kept(&rewards, false, true), cut);
        assert_eq!(kept(&rewards, true, true), ended);
    }
}
