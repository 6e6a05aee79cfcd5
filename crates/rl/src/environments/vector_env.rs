//! Several environments stepped together.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize, de::Error as _};
use serde_json::Value;

use super::{
    ActionBatch, ActionSpace, Environment, EnvironmentAction, EnvironmentDescription, EnvironmentError,
    bridge::{BridgeRows, BridgeVector},
    simulation::EnvironmentRng,
};

/// An episode that ended in the last step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FinishedEpisode {
    /// Index of its environment.
    pub index: usize,
    /// Sum of its rewards.
    pub total: f64,
    /// Number of its steps.
    pub length: u32,
    /// Whether it ended by itself; otherwise it was cut short at the horizon.
    pub terminated: bool,
}

/// Environments of one kind, each of which starts its next episode as soon as one ends.
///
/// All results are flat slices, environment after environment, which [`VectorEnv::step`] overwrites; a step of simulated
/// environments allocates nothing.
pub struct VectorEnv {
    side: EnvironmentSide,
    /// The environments of each part.
    parts: Vec<Range<usize>>,
    /// Length of one observation.
    width: usize,
    present: VectorState,
}

/// Where the environments are.
enum EnvironmentSide {
    /// In this process.
    Simulated(Vec<Box<dyn Environment>>),
    /// In the process behind a bridge, in the parts that are stepped by themselves.
    Bridged(Vec<BridgeVector>),
}

/// Results of the last step, and the sums of the running episodes.
#[derive(Serialize, Deserialize)]
struct VectorState {
    observations: Vec<f32>,
    finals: Vec<f32>,
    rewards: Vec<f32>,
    terminated: Vec<bool>,
    truncated: Vec<bool>,
    ended: Vec<FinishedEpisode>,
    totals: Vec<f64>,
    lengths: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct VectorSnapshot<P> {
    environments: Vec<Value>,
    #[serde(flatten)]
    present: P,
}

/// All that is kept of environments behind a bridge, whose state is unknown here.
#[derive(Serialize, Deserialize)]
struct BridgedSnapshot {
    /// How often they were reset.
    resets: u64,
}

impl VectorState {
    fn new(count: usize, width: usize) -> Self {
        Self {
            observations: vec![0.0; count * width],
            finals: vec![0.0; count * width],
            rewards: vec![0.0; count],
            terminated: vec![false; count],
            truncated: vec![false; count],
            ended: Vec::with_capacity(count),
            totals: vec![0.0; count],
            lengths: vec![0; count],
        }
    }

    /// Begin new episodes everywhere.
    fn clear(&mut self) {
        let Self { finals, rewards, terminated, truncated, ended, totals, lengths, .. } = self;
        finals.fill(0.0);
        rewards.fill(0.0);
        terminated.fill(false);
        truncated.fill(false);
        ended.clear();
        totals.fill(0.0);
        lengths.fill(0);
    }

    /// Count a step of environment `index`, whose flags are set; returns whether its episode has ended.
    fn count(&mut self, index: usize, reward: f64) -> bool {
        self.totals[index] += reward;
        self.lengths[index] += 1;
        let terminated = self.terminated[index];
        if !terminated && !self.truncated[index] {
            return false;
        }
        let (total, length) = (self.totals[index], self.lengths[index]);
        self.ended.push(FinishedEpisode { index, total, length, terminated });
        (self.totals[index], self.lengths[index]) = (0.0, 0);
        true
    }
}

/// Seeds of the parts that one seed gives.
fn part_seeds(seed: u64) -> impl Iterator<Item = u64> {
    (0u64..).map(move |part| seed ^ part.wrapping_mul(0xD1B5_4A32_D192_ED03))
}

impl VectorEnv {
    /// Combine `environments`; their present episodes count as new.
    ///
    /// # Errors
    /// [`EnvironmentError::MixedDescriptions`] when there are none or their descriptions differ.
    pub fn new(environments: Vec<Box<dyn Environment>>) -> Result<Self, EnvironmentError> {
        let Some(first) = environments.first() else { return Err(EnvironmentError::MixedDescriptions) };
        if environments.iter().any(|other| other.description() != first.description()) {
            return Err(EnvironmentError::MixedDescriptions);
        }
        let (count, width) = (environments.len(), first.description().observations.len());
        let present = VectorState::new(count, width);
        let parts = std::iter::once(0..count).collect();
        let mut vector = Self { side: EnvironmentSide::Simulated(environments), parts, width, present };
        vector.observe();
        Ok(vector)
    }

    /// Environments behind a bridge, one part or several of the same kind. Reset them before their observations are read.
    pub fn bridged(vectors: Vec<BridgeVector>) -> Self {
        let width = vectors[0].description().observations.len();
        let mut count = 0;
        let part = |vector: &BridgeVector| {
            count += vector.count();
            count - vector.count()..count
        };
        let parts = vectors.iter().map(part).collect();
        Self { side: EnvironmentSide::Bridged(vectors), parts, width, present: VectorState::new(count, width) }
    }

    /// Whether [`VectorEnv::restore`] begins new episodes, because the environments' state is not in the snapshot.
    pub fn forgets_its_state(&self) -> bool {
        matches!(self.side, EnvironmentSide::Bridged(_))
    }

    /// Start new episodes everywhere. Each environment gets a seed drawn from a generator seeded with `seed`, so that
    /// runs with neighbouring seeds share no environment seed.
    ///
    /// # Errors
    /// Those of a bridge: [`EnvironmentError::Bridge`] and [`EnvironmentError::BridgeGone`].
    pub fn reset(&mut self, seed: u64) -> Result<(), EnvironmentError> {
        self.present.clear();
        match &mut self.side {
            EnvironmentSide::Simulated(all) => {
                let mut seeds = EnvironmentRng::seed_from_u64(seed);
                all.iter_mut().for_each(|environment| environment.reset(Some(seeds.next_u64())));
                self.observe();
            }
            EnvironmentSide::Bridged(vectors) => {
                let mut rows = self.present.observations.as_mut_slice();
                for (vector, seed) in vectors.iter_mut().zip(part_seeds(seed)) {
                    let (own, rest) = rows.split_at_mut(vector.count() * self.width);
                    vector.reset(seed, own)?;
                    rows = rest;
                }
            }
        }
        Ok(())
    }

    fn observe(&mut self) {
        if let EnvironmentSide::Simulated(all) = &self.side {
            for (environment, out) in all.iter().zip(self.present.observations.chunks_mut(self.width)) {
                environment.observe(out);
            }
        }
    }

    /// Number of environments.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.present.rewards.len()
    }

    /// The environments of each part: parts can be stepped by themselves. Simulated environments are one.
    pub fn parts(&self) -> &[Range<usize>] {
        &self.parts
    }

    /// Description of each environment.
    pub fn description(&self) -> &EnvironmentDescription {
        match &self.side {
            EnvironmentSide::Simulated(all) => all[0].description(),
            EnvironmentSide::Bridged(vectors) => vectors[0].description(),
        }
    }

    /// Length of one observation.
    pub fn observation_length(&self) -> usize {
        self.width
    }

    /// Present observations, `len` x `observation_length`: where an episode has just ended, the first of the next.
    pub fn observations(&self) -> &[f32] {
        &self.present.observations
    }

    /// Last observations of the episodes that ended in the last step, in the rows of their environments; other rows are
    /// old or zero. At a truncation, bootstrap from these.
    pub fn final_observations(&self) -> &[f32] {
        &self.present.finals
    }

    /// Rewards of the last step, `len` numbers.
    pub fn rewards(&self) -> &[f32] {
        &self.present.rewards
    }

    /// Flags of episodes that the last step ended by themselves, `len` of them.
    pub fn terminated(&self) -> &[bool] {
        &self.present.terminated
    }

    /// Flags of episodes whose last step reached the horizon; as in Gymnasium, an episode can have both flags.
    pub fn truncated(&self) -> &[bool] {
        &self.present.truncated
    }

    /// Episodes that ended in the last step, by environment.
    pub fn ended(&self) -> &[FinishedEpisode] {
        &self.present.ended
    }

    /// Do one step in each environment.
    ///
    /// # Errors
    /// [`EnvironmentError::Actions`] for the wrong kind or number of actions, [`EnvironmentError::Action`] for one outside the space; no
    /// environment has been stepped then. Those of a bridge: [`EnvironmentError::Bridge`] and [`EnvironmentError::BridgeGone`].
    pub fn step(&mut self, actions: ActionBatch<'_>) -> Result<(), EnvironmentError> {
        if self.parts.len() == 1 {
            self.begin(0, actions)?;
            return self.finish(0);
        }
        let per_action = self.check(actions, self.len())?;
        for part in 0..self.parts.len() {
            let actions = actions.part(&self.parts[part], per_action);
            self.begin(part, actions)?;
        }
        let mut ended = Vec::new();
        for part in 0..self.parts.len() {
            self.finish(part)?;
            ended.append(&mut self.present.ended);
        }
        self.present.ended = ended;
        Ok(())
    }

    /// Begin a step of a part's environments: other work can be done until [`VectorEnv::finish`] waits for what it results in.
    ///
    /// # Errors
    /// As [`VectorEnv::step`].
    pub fn begin(&mut self, part: usize, actions: ActionBatch<'_>) -> Result<(), EnvironmentError> {
        let per_action = self.check(actions, self.parts[part].len())?;
        let Self { side, present, width, .. } = self;
        match side {
            EnvironmentSide::Simulated(all) => {
                present.ended.clear();
                for (index, environment) in all.iter_mut().enumerate() {
                    let outcome = environment.step(match actions {
                        ActionBatch::Discrete(all) => EnvironmentAction::Discrete(all[index] as usize),
                        ActionBatch::Continuous(all) => {
                            EnvironmentAction::Continuous(&all[index * per_action..(index + 1) * per_action])
                        }
                    });
                    let row = index * *width..(index + 1) * *width;
                    present.rewards[index] = outcome.reward as f32;
                    (present.terminated[index], present.truncated[index]) = (outcome.terminated, outcome.truncated);
                    if present.count(index, outcome.reward) {
                        environment.observe(&mut present.finals[row.clone()]);
                        environment.reset(None);
                    }
                    environment.observe(&mut present.observations[row]);
                }
            }
            EnvironmentSide::Bridged(vectors) => vectors[part].begin(actions)?,
        }
        Ok(())
    }

    /// Wait for the end of the step of a part that was begun. Episodes that [have ended](VectorEnv::ended) are those of the part then.
    ///
    /// # Errors
    /// Those of a bridge: [`EnvironmentError::Bridge`] and [`EnvironmentError::BridgeGone`].
    pub fn finish(&mut self, part: usize) -> Result<(), EnvironmentError> {
        let environments = self.parts[part].clone();
        let Self { side: EnvironmentSide::Bridged(vectors), present, width, .. } = self else { return Ok(()) };
        let rows = environments.start * *width..environments.end * *width;
        let vector = &mut vectors[part];
        vector.finish(&mut BridgeRows {
            observations: &mut present.observations[rows.clone()],
            finals: &mut present.finals[rows],
            rewards: &mut present.rewards[environments.clone()],
            terminated: &mut present.terminated[environments.clone()],
            truncated: &mut present.truncated[environments.clone()],
        })?;
        let horizon = vector.description().horizon;
        present.ended.clear();
        for index in environments {
            let reward = f64::from(present.rewards[index]);
            if !present.count(index, reward) && present.lengths[index] >= horizon {
                return Err(EnvironmentError::Bridge(format!(
                    "environment {index} has not ended its episode within {horizon} steps, the run's horizon"
                )));
            }
        }
        Ok(())
    }

    /// Check the actions of `count` environments and return the length of one.
    fn check(&self, actions: ActionBatch<'_>, count: usize) -> Result<usize, EnvironmentError> {
        let (wrong, per_action) = match (&self.description().actions, actions) {
            (ActionSpace::Discrete { names }, ActionBatch::Discrete(all)) if all.len() == count => {
                (all.iter().position(|index| !(0..names.len() as i64).contains(index)), 1)
            }
            (ActionSpace::Continuous { low, .. }, ActionBatch::Continuous(all)) if all.len() == count * low.len() => {
                (all.iter().position(|number| !number.is_finite()), low.len())
            }
            (ActionSpace::Discrete { .. }, _) => {
                return Err(EnvironmentError::Actions { expected: format!("{count} indexes of discrete actions") });
            }
            (ActionSpace::Continuous { low, .. }, _) => {
                return Err(EnvironmentError::Actions {
                    expected: format!("{count} vectors of {} numbers", low.len()),
                });
            }
        };
        wrong.map_or(Ok(per_action), |position| Err(EnvironmentError::Action { position }))
    }

    /// Return the environments' snapshots, the running episodes and the results of the last step. Of environments behind
    /// a bridge only how often they were reset.
    ///
    /// # Errors
    /// Only if a value has no JSON form, which does not happen in practice.
    pub fn snapshot(&self) -> Result<Value, serde_json::Error> {
        match &self.side {
            EnvironmentSide::Simulated(all) => {
                let environments = all.iter().map(|environment| environment.snapshot()).collect();
                serde_json::to_value(VectorSnapshot { environments, present: &self.present })
            }
            EnvironmentSide::Bridged(vectors) => serde_json::to_value(BridgedSnapshot { resets: vectors[0].resets() }),
        }
    }

    /// Restore the state of `snapshot`. Environments behind a bridge begin new episodes, with other seeds than those
    /// before; if the bridge fails meanwhile, the next step says so.
    ///
    /// # Errors
    /// When it belongs to other environments, or to another number of them. Some environments may have been restored
    /// then: reset, or restore another snapshot.
    pub fn restore(&mut self, snapshot: &Value) -> Result<(), serde_json::Error> {
        if let EnvironmentSide::Bridged(vectors) = &mut self.side {
            let BridgedSnapshot { resets } = BridgedSnapshot::deserialize(snapshot)?;
            self.present.clear();
            let mut rows = self.present.observations.as_mut_slice();
            for vector in vectors {
                let (own, rest) = rows.split_at_mut(vector.count() * self.width);
                vector.reset_after(resets, own);
                rows = rest;
            }
            return Ok(());
        }
        let VectorSnapshot { environments, present } = VectorSnapshot::<VectorState>::deserialize(snapshot)?;
        let (count, numbers) = (self.len(), self.len() * self.width);
        let lengths = [
            (environments.len(), count),
            (present.observations.len(), numbers),
            (present.finals.len(), numbers),
            (present.rewards.len(), count),
            (present.terminated.len(), count),
            (present.truncated.len(), count),
            (present.totals.len(), count),
            (present.lengths.len(), count),
        ];
        if lengths.iter().any(|(got, expected)| got != expected) {
            return Err(serde_json::Error::custom(format!("the snapshot is not of {count} such environments")));
        }
        if let EnvironmentSide::Simulated(all) = &mut self.side {
            for (environment, snapshot) in all.iter_mut().zip(&environments) {
                environment.restore(snapshot)?;
            }
        }
        self.present = present;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::make_environment, *};

    fn vector(name: &str, count: usize) -> VectorEnv {
        VectorEnv::new((0..count).map(|_| make_environment(name, None).unwrap()).collect()).unwrap()
    }

    /// Actions that depend on where it is only through the step's number.
    fn scripted(step: usize, count: usize) -> Vec<i64> {
        (0..count).map(|index| ((step * 7 + index * 3) % 5 % 2) as i64).collect()
    }

    #[test]
    fn an_end_keeps_the_last_observation_and_begins_the_next_episode() {
        let mut vector = vector("CartPole-v1", 3);
        vector.reset(5).unwrap();
        let mut alone: Vec<_> = (0..3).map(|_| make_environment("CartPole-v1", None).unwrap()).collect();
        let mut seeds = EnvironmentRng::seed_from_u64(5);
        alone.iter_mut().for_each(|environment| environment.reset(Some(seeds.next_u64())));
        let (mut sums, mut ends) = ([(0.0, 0u32); 3], 0);
        for step in 0..400 {
            let actions = scripted(step, 3);
            vector.step(ActionBatch::Discrete(&actions)).unwrap();
            for (index, environment) in alone.iter_mut().enumerate() {
                let outcome = environment.step(EnvironmentAction::Discrete(actions[index] as usize));
                let mut observation = [0f32; 4];
                environment.observe(&mut observation);
                sums[index] = (sums[index].0 + outcome.reward, sums[index].1 + 1);
                assert_eq!(vector.rewards()[index], outcome.reward as f32);
                assert_eq!(vector.terminated()[index], outcome.terminated);
                let ended = vector.ended().iter().find(|ended| ended.index == index);
                assert_eq!(ended.is_some(), outcome.terminated || outcome.truncated);
                if let Some(ended) = ended {
                    assert_eq!((ended.total, ended.length), sums[index]);
                    assert_eq!(vector.final_observations()[index * 4..][..4], observation);
                    environment.reset(None);
                    environment.observe(&mut observation);
                    (sums[index], ends) = ((0.0, 0), ends + 1);
                }
                assert_eq!(vector.observations()[index * 4..][..4], observation, "step {step}");
            }
        }
        assert!(ends > 10, "only {ends} episodes ended");
    }

    #[test]
    fn it_goes_on_from_a_snapshot_that_went_through_text() {
        let mut one = vector("CartPole-v1", 4);
        one.reset(11).unwrap();
        (0..57).for_each(|step| one.step(ActionBatch::Discrete(&scripted(step, 4))).unwrap());
        let text = one.snapshot().unwrap().to_string();
        let mut other = vector("CartPole-v1", 4);
        other.restore(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(other.snapshot().unwrap(), one.snapshot().unwrap());
        for step in 57..300 {
            one.step(ActionBatch::Discrete(&scripted(step, 4))).unwrap();
            other.step(ActionBatch::Discrete(&scripted(step, 4))).unwrap();
            assert_eq!(other.snapshot().unwrap(), one.snapshot().unwrap());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut two = vector("CartPole-v1", 2);
        let before = two.snapshot().unwrap();
        let refused = [
            (ActionBatch::Discrete(&[0]), "the environments take 2 indexes of discrete actions"),
            (ActionBatch::Continuous(&[0.0, 1.0]), "the environments take 2 indexes of discrete actions"),
            (ActionBatch::Discrete(&[1, 2]), "the action at position 1 is not in the space"),
            (ActionBatch::Discrete(&[-1, 0]), "the action at position 0 is not in the space"),
        ];
        for (actions, message) in refused {
            assert_eq!(two.step(actions).unwrap_err().to_string(), message);
        }
        assert_eq!(two.snapshot().unwrap(), before);
        let mut continuous = vector("identity-continuous", 2);
        assert_eq!(
            continuous.step(ActionBatch::Continuous(&[0.0; 3])).unwrap_err().to_string(),
            "the environments take 2 vectors of 2 numbers"
        );
        assert_eq!(
            continuous.step(ActionBatch::Continuous(&[0.0, 0.0, f32::NAN, 0.0])),
            Err(EnvironmentError::Action { position: 2 })
        );
        assert!(continuous.restore(&before).is_err());
        let mixed =
            vec![make_environment("CartPole-v1", None).unwrap(), make_environment("identity-discrete", None).unwrap()];
        assert_eq!(VectorEnv::new(mixed).err(), Some(EnvironmentError::MixedDescriptions));
        assert_eq!(VectorEnv::new(vec![]).err(), Some(EnvironmentError::MixedDescriptions));
    }
}
