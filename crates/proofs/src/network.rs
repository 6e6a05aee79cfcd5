//! The network of a policy in fixed point, where its action can be proved.

use am_rl::{ActionLayers, action_layers};
use am_zk::{FixedNetwork, FloatLayer};

/// A policy's network in fixed point, and its layers.
///
/// # Errors
/// Why it can't be proved.
pub fn fixed_network(weights: &[u8]) -> Result<(FixedNetwork, ActionLayers), String> {
    let layers = action_layers(weights).map_err(|error| error.to_string())?.ok_or(
        "its action is not the largest output of linear layers with ReLUs: PPO and DQN can be proved, SAC (tanh and a Gaussian) and Rainbow \
         (an expectation over a distribution) can't",
    )?;
    let floats: Vec<FloatLayer> = layers
        .layers
        .iter()
        .map(|layer| FloatLayer { weights: layer.weights.clone(), biases: layer.biases.clone() })
        .collect();
    let network = FixedNetwork::quantise(layers.state_length, &floats).map_err(|error| error.to_string())?;
    Ok((network, layers))
}
