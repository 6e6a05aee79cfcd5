//! The layers of a policy that decide its action, where the action is the largest output of linear layers with ReLUs between them.

use super::{LinearLayer, LoadError, NetworkBody, ParsedPolicy, WeightArray, row_outputs::normalise};

/// Weights and biases of a layer, outputs x inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionLayer {
    /// Weights, row by row.
    pub weights: Vec<f32>,
    /// Biases, one for each output.
    pub biases: Vec<f32>,
}

/// The layers that decide a policy's greedy action.
#[derive(Clone, Debug)]
pub struct ActionLayers {
    /// Length of a state.
    pub state_length: usize,
    /// The layers from the state to the actions, with a ReLU between each two.
    pub layers: Vec<ActionLayer>,
    normalisation: Option<[WeightArray; 2]>,
}

fn layers_of(stack: &[LinearLayer<WeightArray>]) -> impl Iterator<Item = ActionLayer> + '_ {
    stack.iter().map(|layer| ActionLayer { weights: layer.weight.numbers.clone(), biases: layer.bias.numbers.clone() })
}

/// The layers of a safetensors file; `None` where the action is not the largest output of such layers: SAC's is a squashed Gaussian's,
/// Rainbow's an expectation over a distribution.
///
/// # Errors
/// A file that is no policy.
pub fn action_layers(weights: &[u8]) -> Result<Option<ActionLayers>, LoadError> {
    let ParsedPolicy { form, layers } = ParsedPolicy::read(weights)?;
    let found: Vec<ActionLayer> = match &layers.body {
        NetworkBody::ActorCritic { actor, .. } => layers_of(actor).collect(),
        // What the value stream adds is the same for all actions.
        NetworkBody::Values { feature, advantage, support: None, .. } => {
            layers_of(feature).chain(layers_of(advantage)).collect()
        }
        NetworkBody::Values { .. } | NetworkBody::Gaussian { .. } => return Ok(None),
    };
    Ok(Some(ActionLayers { state_length: form.state_length, layers: found, normalisation: layers.normalisation }))
}

impl ActionLayers {
    /// A state as the first layer takes it: in 32 bits, and normalised where the policy does.
    pub fn first_input(&self, state: &[f64]) -> Vec<f32> {
        let mut numbers: Vec<f32> = state.iter().map(|number| *number as f32).collect();
        normalise(self.normalisation.as_ref(), &mut numbers);
        numbers
    }
}
