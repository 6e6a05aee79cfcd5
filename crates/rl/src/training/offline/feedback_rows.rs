//! Feedback as numbers, checked against the policy.

use std::collections::HashMap;

use super::{
    super::{TrainingError, argmax},
    FeedbackAction, FeedbackSample, OfflineSettings,
    advantages::{StandardScores, advantages},
};
use crate::network::{NetworkAction, PolicyActions, PolicySpec};

/// Rows of feedback.
pub(super) struct FeedbackRows {
    /// States, each of the network's length.
    pub(super) states: Vec<f32>,
    /// Indices of discrete actions, also where the policy uses scores.
    pub(super) indices: Vec<i64>,
    /// Actions in the form that a Gaussian policy's critics take.
    pub(super) taken: Vec<f32>,
    /// Rewards in standard deviations from their mean.
    pub(super) rewards: Vec<f32>,
    /// Weights of the actions for imitation.
    pub(super) weights: Vec<f32>,
    /// Mean and standard deviation of the rewards as they were given.
    pub(super) given: [f64; 2],
    actions: Vec<NetworkAction>,
    length: usize,
}

impl FeedbackRows {
    /// Check the feedback against the policy and convert it to numbers.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] that names the first row which does not fit the policy.
    pub(super) fn from_feedback(
        feedback: &[FeedbackSample],
        form: &PolicySpec,
        settings: &OfflineSettings,
    ) -> Result<Self, TrainingError> {
        if feedback.is_empty() {
            return Err(TrainingError::Setting { name: "feedback", reason: "there is none".to_owned() });
        }
        let length = form.state_length;
        let mut rows = Self {
            states: Vec::with_capacity(feedback.len() * length),
            indices: Vec::new(),
            taken: Vec::new(),
            rewards: Vec::new(),
            weights: Vec::new(),
            given: [0.0; 2],
            actions: Vec::with_capacity(feedback.len()),
            length,
        };
        for (at, one) in feedback.iter().enumerate() {
            rows.add(one, form)
                .map_err(|reason| TrainingError::Setting { name: "feedback", reason: format!("row {at}: {reason}") })?;
        }
        let given: Vec<f64> = feedback.iter().map(|one| one.reward).collect();
        let StandardScores { scores, mean, deviation } = StandardScores::new(&given);
        rows.rewards = scores.iter().map(|score| *score as f32).collect();
        rows.given = [mean, deviation];
        let weight = |advantage: f64| (advantage / settings.temperature).exp().min(settings.most_weight) as f32;
        rows.weights = advantages(&rows.states, &given).into_iter().map(weight).collect();
        Ok(rows)
    }

    fn add(&mut self, one: &FeedbackSample, form: &PolicySpec) -> Result<(), String> {
        if one.state.len() != self.length {
            return Err(format!("a state of {} numbers is needed, not of {}", self.length, one.state.len()));
        }
        if !(one.reward as f32).is_finite() {
            return Err("the reward is not finite as a 32-bit float".to_owned());
        }
        let state = check_finite(&one.state, "state")?;
        match &form.actions {
            PolicyActions::Discrete { count } => {
                let FeedbackAction::Index(index) = &one.action else {
                    return Err(format!("an action is needed that is an index below {count}"));
                };
                self.indices.push(check_index(*index, *count)?);
                self.actions.push(NetworkAction::Discrete(*index as usize));
            }
            PolicyActions::Scores { count } => {
                // In the form that the environment takes: the action with the highest number, clamped to [-1, 1].
                let scores = match &one.action {
                    FeedbackAction::Index(index) => {
                        let index = check_index(*index, *count)?;
                        (0..*count as i64).map(|at| if at == index { 1.0 } else { -1.0 }).collect()
                    }
                    FeedbackAction::Vector(scores) => check_length(&check_finite(scores, "action")?, *count)?
                        .iter()
                        .map(|score| score.clamp(-1.0, 1.0))
                        .collect::<Vec<f32>>(),
                };
                let index = argmax(&scores);
                self.indices.push(index as i64);
                self.actions.push(NetworkAction::Discrete(index));
                self.taken.extend(scores);
            }
            PolicyActions::Continuous { low, high, squashed } => {
                let FeedbackAction::Vector(action) = &one.action else {
                    return Err(format!("an action is needed that is a vector of {}", low.len()));
                };
                let action = check_finite(action, "action")?;
                let bounds = low.iter().zip(high);
                let taken = check_length(&action, low.len())?.iter().zip(bounds).map(|(number, (low, high))| {
                    let number = number.clamp(*low, *high);
                    match *squashed {
                        true if high > low => 2.0 * (number - low) / (high - low) - 1.0,
                        true => 0.0,
                        false => number,
                    }
                });
                self.taken.extend(taken);
                self.actions.push(NetworkAction::Continuous(action));
            }
        }
        self.states.extend(state);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.actions.len()
    }

    /// Return the rows to agree with: the best of their state, and above the mean reward where rewards differ.
    pub(super) fn best(&self) -> Vec<usize> {
        let mean = self.rewards.iter().map(|reward| f64::from(*reward)).sum::<f64>() / self.len() as f64;
        let differ = self.rewards.iter().any(|reward| *reward != self.rewards[0]);
        let key = |at: usize| self.state(at).iter().map(|number| number.to_bits()).collect::<Vec<u32>>();
        let mut most: HashMap<Vec<u32>, f32> = HashMap::new();
        for (at, reward) in self.rewards.iter().enumerate() {
            most.entry(key(at)).and_modify(|most| *most = most.max(*reward)).or_insert(*reward);
        }
        let good = |at: &usize| {
            let reward = self.rewards[*at];
            most.get(&key(*at)) == Some(&reward) && (!differ || f64::from(reward) > mean)
        };
        (0..self.len()).filter(good).collect()
    }

    pub(super) fn state(&self, at: usize) -> &[f32] {
        &self.states[at * self.length..][..self.length]
    }

    /// Check whether `act` equals the action of that row; continuous numbers may differ by a tenth of their range.
    pub(super) fn agrees(&self, at: usize, act: &NetworkAction, actions: &PolicyActions) -> bool {
        match (&self.actions[at], act, actions) {
            (
                NetworkAction::Continuous(done),
                NetworkAction::Continuous(would),
                PolicyActions::Continuous { low, high, .. },
            ) => {
                let ranges = low.iter().zip(high).map(|(low, high)| 0.1 * (high - low));
                done.iter().zip(would).zip(ranges).all(|((done, would), near)| (done - would).abs() <= near)
            }
            (done, would, _) => done == would,
        }
    }
}

fn check_finite(numbers: &[f64], what: &str) -> Result<Vec<f32>, String> {
    let rounded: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
    match rounded.iter().position(|number| !number.is_finite()) {
        None => Ok(rounded),
        Some(at) => Err(format!("the {what}'s number at position {at} is not finite as a 32-bit float")),
    }
}

fn check_index(index: u64, count: usize) -> Result<i64, String> {
    i64::try_from(index)
        .ok()
        .filter(|index| (*index as u64) < count as u64)
        .ok_or_else(|| format!("the action {index} is not below {count}"))
}

fn check_length(numbers: &[f32], count: usize) -> Result<&[f32], String> {
    match numbers.len() == count {
        true => Ok(numbers),
        false => Err(format!("an action of {count} numbers is needed, not of {}", numbers.len())),
    }
}
