//! Adapter that gives discrete environments a continuous action space, for algorithms such as SAC.

use serde_json::Value;

use super::{
    ActionSpace, Environment, EnvironmentAction, EnvironmentDescription, EnvironmentParameter, EnvironmentStep,
    ReferenceReturns,
};

/// Wrap `environment` so that an action is a vector of one number in [-1, 1] per discrete action: the action with the
/// highest number is done, the first among equals. Rewards, observations, snapshots and [`ReferenceReturns`] are unchanged. An
/// environment with continuous actions is returned as it is.
pub fn with_score_actions(environment: Box<dyn Environment>) -> Box<dyn Environment> {
    let mut description = environment.description().clone();
    let ActionSpace::Discrete { names } = &description.actions else { return environment };
    description.summary += &format!(
        " An action is a number from -1 to 1 for each of {}; that of the highest is done, the first of equals.",
        names.join(", ")
    );
    description.actions = ActionSpace::Continuous { low: vec![-1.0; names.len()], high: vec![1.0; names.len()] };
    Box::new(ScoreActionEnvironment { environment, description })
}

struct ScoreActionEnvironment {
    environment: Box<dyn Environment>,
    description: EnvironmentDescription,
}

/// Index of the highest number after clamping; the lowest index among equals.
fn argmax(scores: &[impl Into<f64> + Copy]) -> usize {
    let clamped = |index: usize| scores[index].into().clamp(-1.0, 1.0);
    (1..scores.len()).fold(0, |best, index| if clamped(index) > clamped(best) { index } else { best })
}

impl Environment for ScoreActionEnvironment {
    fn description(&self) -> &EnvironmentDescription {
        &self.description
    }

    fn parameters(&self) -> Vec<EnvironmentParameter> {
        self.environment.parameters()
    }

    fn reset(&mut self, seed: Option<u64>) {
        self.environment.reset(seed);
    }

    fn observe(&self, out: &mut [f32]) {
        self.environment.observe(out);
    }

    fn step(&mut self, action: EnvironmentAction<'_>) -> EnvironmentStep {
        match (action, &self.description.actions) {
            (EnvironmentAction::Continuous(scores), ActionSpace::Continuous { low, .. })
                if scores.len() == low.len() && scores.iter().all(|score| score.is_finite()) =>
            {
                self.environment.step(EnvironmentAction::Discrete(argmax(scores)))
            }
            _ => EnvironmentStep { reward: f64::NAN, terminated: false, truncated: false },
        }
    }

    fn snapshot(&self) -> Value {
        self.environment.snapshot()
    }

    fn restore(&mut self, snapshot: &Value) -> Result<(), serde_json::Error> {
        self.environment.restore(snapshot)
    }

    fn reference(&self) -> Option<ReferenceReturns> {
        self.environment.reference()
    }

    fn expected_return(&self, policy: &mut dyn FnMut(&[f32]) -> Vec<f64>) -> Option<f64> {
        let ActionSpace::Continuous { low, .. } = &self.description.actions else { return None };
        let mut finite = true;
        let expected = self.environment.expected_return(&mut |observations| {
            let mut rows = policy(observations);
            finite = rows.iter().all(|number| number.is_finite());
            for row in rows.chunks_mut(low.len()) {
                let taken = argmax(row);
                row.iter_mut().enumerate().for_each(|(index, out)| *out = f64::from(index == taken));
            }
            rows
        });
        expected.filter(|_| finite)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{ActionBatch, VectorEnv, make_environment},
        *,
    };

    fn made(name: &str) -> Box<dyn Environment> {
        make_environment(name, None).unwrap()
    }

    #[test]
    fn the_action_of_the_highest_number_is_done() {
        let rows: [([f32; 4], i64); 6] = [
            ([-0.9, -0.2, -0.3, -1.0], 1),
            ([0.1, 0.2, 0.3, 0.9], 3),
            ([0.0, 0.0, 0.0, 0.0], 0),
            ([-1.0, 0.5, 0.5, 0.1], 1),
            ([0.2, 0.1, 7.0, 9.0], 2),
            ([-3.0, -2.0, -0.9, -1.0], 2),
        ];
        let mut scored = VectorEnv::new(vec![with_score_actions(made("price_optimization"))]).unwrap();
        let mut plain = VectorEnv::new(vec![made("price_optimization")]).unwrap();
        scored.reset(3).unwrap();
        plain.reset(3).unwrap();
        for (step, (numbers, action)) in rows.iter().cycle().take(250).enumerate() {
            scored.step(ActionBatch::Continuous(numbers)).unwrap();
            plain.step(ActionBatch::Discrete(&[*action])).unwrap();
            assert_eq!(scored.snapshot().unwrap(), plain.snapshot().unwrap(), "step {step}");
        }
        let refused = scored.step(ActionBatch::Discrete(&[1])).unwrap_err();
        assert_eq!(refused.to_string(), "the environments take 1 vectors of 4 numbers");
    }

    #[test]
    fn the_world_is_the_same() {
        let (mut scored, plain) = (with_score_actions(made("marketplace_trading")), made("marketplace_trading"));
        assert_eq!(scored.description().observations, plain.description().observations);
        assert_eq!(scored.parameters(), plain.parameters());
        assert_eq!(scored.reference(), plain.reference());
        let rows = |row: [f64; 4]| move |observations: &[f32]| row.repeat(observations.len() / 9);
        let expected = plain.expected_return(&mut rows([0.0, 0.0, 0.0, 1.0]));
        assert!(expected.is_some());
        assert_eq!(scored.expected_return(&mut rows([0.1, -0.3, -0.9, 0.2])), expected);
        assert_eq!(scored.expected_return(&mut rows([f64::NAN, -0.3, -0.9, 0.2])), None);
        let before = scored.snapshot();
        for wrong in [
            EnvironmentAction::Discrete(0),
            EnvironmentAction::Continuous(&[0.0; 3]),
            EnvironmentAction::Continuous(&[0.0, 0.0, f32::NAN, 0.0]),
        ] {
            assert!(scored.step(wrong).reward.is_nan());
            assert_eq!(scored.snapshot(), before, "{wrong:?}");
        }
        assert_eq!(with_score_actions(made("Pendulum-v1")).description(), made("Pendulum-v1").description());
    }
}
