//! Parameters of networks in one flat tensor, so that an optimiser or target update is one operation.

use tch::{Device, TchError, Tensor};

use super::{TrainingError, checkpoint::TrainerCheckpoint};

/// Parameters of several networks and their gradients, concatenated.
pub(crate) struct NetworkParameters {
    pub(crate) values: Tensor,
    pub(crate) gradients: Tensor,
}

impl NetworkParameters {
    pub(crate) fn new(values: &[f32], device: Device) -> Result<Self, TchError> {
        let values = Tensor::f_from_slice(values)?.f_to_device(device)?;
        let gradients = values.f_zeros_like()?;
        Ok(Self { values, gradients })
    }

    /// Scale the gradients so that their Euclidean norm is at most `most`; returns the norm before.
    pub(crate) fn clip(&mut self, most: f64) -> Result<f64, TchError> {
        let norm = f64::try_from(self.gradients.f_norm()?)?;
        if norm > most {
            let _ = self.gradients.f_mul_scalar_(most / (norm + 1e-6))?;
        }
        Ok(norm)
    }

    /// Move towards `others` by `share` of the way: Polyak averaging.
    pub(crate) fn follow(&mut self, others: &Self, share: f64) -> Result<(), TchError> {
        self.values.f_lerp_(&others.values, share).map(drop)
    }
}

/// Adam optimiser (Kingma, Ba 2015, arXiv:1412.6980) on flat parameters, with a state that can be saved.
pub(crate) struct Adam {
    mean: Tensor,
    variance: Tensor,
    scratch: Tensor,
    steps: i32,
    /// Added to the root of the variance.
    epsilon: f64,
}

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;

impl Adam {
    pub(crate) fn new(parameters: &NetworkParameters, epsilon: f64) -> Result<Self, TchError> {
        let zeros = || parameters.values.f_zeros_like();
        Ok(Self { mean: zeros()?, variance: zeros()?, scratch: zeros()?, steps: 0, epsilon })
    }

    /// Apply the paper's algorithm 1 in place: `p += m / (-(c1 / a) * (sqrt(v) / sqrt(c2) + e))`, where `c1` and `c2`
    /// correct the bias of the two moments.
    pub(crate) fn step(&mut self, parameters: &mut NetworkParameters, learning_rate: f64) -> Result<(), TchError> {
        self.steps += 1;
        if learning_rate <= 0.0 {
            return Ok(());
        }
        let gradients = &parameters.gradients;
        let _ = self.mean.f_lerp_(gradients, 1.0 - BETA_1)?;
        let _ = gradients.f_mul_out(&self.scratch, gradients)?;
        let _ = self.variance.f_lerp_(&self.scratch, 1.0 - BETA_2)?;
        let _ = self.variance.f_sqrt_out(&self.scratch)?;
        let size = (1.0 - BETA_1.powi(self.steps)) / learning_rate;
        let root = (1.0 - BETA_2.powi(self.steps)).sqrt();
        let _ = self.scratch.f_mul_scalar_(-size / root)?.f_add_scalar_(-size * self.epsilon)?;
        parameters.values.f_addcdiv_(&self.mean, &self.scratch).map(drop)
    }

    pub(crate) fn save(&self, name: &str, into: &mut TrainerCheckpoint<'_>) -> Result<(), TrainingError> {
        into.put(&format!("{name}.mean"), &self.mean)?;
        into.put(&format!("{name}.variance"), &self.variance)?;
        into.put_state(&format!("{name}.steps"), &self.steps)
    }

    pub(crate) fn restore(&mut self, name: &str, from: &TrainerCheckpoint<'_>) -> Result<(), TrainingError> {
        from.get(&format!("{name}.mean"), &mut self.mean)?;
        from.get(&format!("{name}.variance"), &mut self.variance)?;
        self.steps = from.state(&format!("{name}.steps"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tch::nn::{self, OptimizerConfig};

    use super::{super::device_tensors::tensor_numbers, *};

    #[test]
    fn adam_is_libtorchs() {
        let store = nn::VarStore::new(Device::Cpu);
        let mut theirs = store.root().zeros("x", &[4]);
        tch::no_grad(|| theirs.copy_(&Tensor::from_slice(&[1.0f32, -2.0, 0.5, 0.0])));
        let mut optimiser = nn::Adam { eps: 1e-5, ..nn::Adam::default() }.build(&store, 0.01).unwrap();
        let mut ours = NetworkParameters::new(&[1.0, -2.0, 0.5, 0.0], Device::Cpu).unwrap();
        let mut adam = Adam::new(&ours, 1e-5).unwrap();
        let mut kept = None;
        for step in 0..20 {
            let factor = Tensor::from_slice(&[1.0f32, 0.1, 30.0, 0.0]) * (f64::from(step) * 0.7).sin();
            optimiser.backward_step(&(theirs.square() * &factor).sum(tch::Kind::Float));
            let gradient = (&ours.values * &factor) * 2.0;
            ours.gradients.copy_(&gradient);
            adam.step(&mut ours, 0.01).unwrap();
            for (one, other) in
                tensor_numbers(&ours.values).unwrap().iter().zip(tensor_numbers(&theirs.detach()).unwrap())
            {
                assert!((one - other).abs() < 1e-6, "step {step}: {one} is not {other}");
            }
            if step == 9 {
                let mut checkpoint = TrainerCheckpoint::default();
                adam.save("adam", &mut checkpoint).unwrap();
                kept = Some(checkpoint);
            }
        }
        let before = tensor_numbers(&ours.values).unwrap();
        adam.step(&mut ours, 0.0).unwrap();
        assert_eq!(tensor_numbers(&ours.values).unwrap(), before, "nothing is learnt at rate 0");
        adam.restore("adam", &kept.unwrap()).unwrap();
        assert_eq!(adam.steps, 10);
    }

    #[test]
    fn gradients_are_clipped_by_their_norm_and_targets_follow() {
        let mut one = NetworkParameters::new(&[0.0, 0.0], Device::Cpu).unwrap();
        one.gradients.copy_(&Tensor::from_slice(&[3.0f32, 4.0]));
        assert_eq!(one.clip(10.0).unwrap(), 5.0);
        assert_eq!(tensor_numbers(&one.gradients).unwrap(), [3.0, 4.0]);
        one.clip(0.5).unwrap();
        let clipped = tensor_numbers(&one.gradients).unwrap();
        assert!((clipped[0] - 0.3).abs() < 1e-5 && (clipped[1] - 0.4).abs() < 1e-5);
        let other = NetworkParameters::new(&[1.0, -2.0], Device::Cpu).unwrap();
        one.follow(&other, 0.25).unwrap();
        assert_eq!(tensor_numbers(&one.values).unwrap(), [0.25, -0.5]);
    }
}
