//! Parsing of a policy file: detection of the algorithm and assignment of the tensors.

use safetensors::SafeTensors;

use super::{
    LoadError, PolicyActions, PolicySpec,
    file::{WeightsFile, serialize},
    layers::{DeviationSource, LinearLayer, NetworkBody, NetworkLayers, WeightArray},
};

/// Default bounds of Rainbow's support, where a file has none.
pub(crate) const DEFAULT_SUPPORT: [f32; 2] = [-10.0, 10.0];
/// Default bounds of the logarithm of SAC's standard deviation, where a file has none.
const DEFAULT_LOG_STD: [f32; 2] = [-5.0, 2.0];

/// A parsed policy file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ParsedPolicy {
    pub(crate) form: PolicySpec,
    pub(crate) layers: NetworkLayers<WeightArray>,
}

/// Kinds of networks, with the prefixes of their tensors' names.
const KIND_PREFIXES: [(PolicyKind, &[&str]); 3] = [
    (PolicyKind::Ppo, &["actor.", "critic."]),
    (PolicyKind::Values, &["feature_layer.", "value_stream.", "advantage_stream."]),
    (PolicyKind::Sac, &["actor.", "actor_mean.", "actor_log_std", "qf1.", "qf2."]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PolicyKind {
    Ppo,
    /// Rainbow or DQN, told apart by the number of atoms.
    Values,
    Sac,
}

impl ParsedPolicy {
    /// Parse a safetensors file of PPO, Rainbow, DQN or SAC, with the contract's names.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        let mut file = WeightsFile::open(bytes)?;
        let kind = detect_kind(&file)?;
        let parameters = file.parameters();
        let (mut form, body) = match kind {
            PolicyKind::Ppo => read_ppo(&mut file)?,
            PolicyKind::Values => read_q_network(&mut file)?,
            PolicyKind::Sac => read_sac(&mut file)?,
        };
        let normalisation = read_normalisation(&mut file, form.state_length)?;
        file.finish()?;
        form.parameters = parameters;
        form.normalized = normalisation.is_some();
        Ok(Self { form, layers: NetworkLayers { normalisation, body } })
    }
}

/// Detect the kind by the metadata's algorithm, or else by most of the tensors' names.
fn detect_kind(file: &WeightsFile) -> Result<PolicyKind, LoadError> {
    match file.metadata("algorithm") {
        Some("ppo" | "a2c") => return Ok(PolicyKind::Ppo),
        Some("rainbow_dqn" | "dqn") => return Ok(PolicyKind::Values),
        Some("sac") => return Ok(PolicyKind::Sac),
        Some(other) => return Err(LoadError::Algorithm(other.to_owned())),
        None => {}
    }
    let names = file.names();
    let count =
        |prefixes: &[&str]| names.iter().filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).count();
    // The first among equals: an actor alone is PPO.
    let nearest = KIND_PREFIXES.iter().rev().max_by_key(|(_, prefixes)| count(prefixes));
    match nearest {
        Some((kind, prefixes)) if count(prefixes) > 0 => Ok(*kind),
        _ => Err(LoadError::UnknownKind),
    }
}

fn build_spec(
    algorithm: &str,
    first: &LinearLayer<WeightArray>,
    actions: PolicyActions,
    hidden: &[&[LinearLayer<WeightArray>]],
) -> PolicySpec {
    PolicySpec {
        algorithm: algorithm.to_owned(),
        state_length: first.inputs(),
        actions,
        hidden: hidden.iter().flat_map(|layers| layers.iter().map(LinearLayer::outputs)).collect(),
        atoms: None,
        parameters: 0,
        normalized: false,
    }
}

/// PPO: actor S-H-H-A, critic S-H-H-1.
fn read_ppo(file: &mut WeightsFile) -> Result<(PolicySpec, NetworkBody<WeightArray>), LoadError> {
    let actor = file.sequential("actor", 3, None, None)?;
    let critic = file.sequential("critic", 3, Some(actor[0].inputs()), Some(1))?;
    let actions = PolicyActions::Discrete { count: actor[2].outputs() };
    Ok((build_spec("ppo", &actor[0], actions, &[&actor[..2]]), NetworkBody::ActorCritic { actor, critic }))
}

/// Rainbow and DQN: feature layers S-H-H, value stream H-V-N, advantage stream H-V-(A N), for N atoms.
fn read_q_network(file: &mut WeightsFile) -> Result<(PolicySpec, NetworkBody<WeightArray>), LoadError> {
    let feature = file.sequential("feature_layer", 2, None, None)?;
    let inner = Some(feature[1].outputs());
    let one = (file.metadata("algorithm") == Some("dqn")).then_some(1);
    let value = file.sequential("value_stream", 2, inner, one)?;
    let advantage = file.sequential("advantage_stream", 2, inner, None)?;
    let (atoms, outputs) = (value[1].outputs(), advantage[1].outputs());
    if !outputs.is_multiple_of(atoms) {
        let tensor = &advantage[1].weight;
        let reason = format!("{outputs} outputs are not a multiple of the value stream's {atoms} atoms");
        return Err(LoadError::Value { tensor: tensor.name.clone(), element: 0, reason });
    }
    let distributional = atoms > 1 || file.has("support") || file.metadata("algorithm") == Some("rainbow_dqn");
    let support = if distributional { Some(read_support(file, atoms)?) } else { None };
    let dueling = match file.metadata("dueling") {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => return Err(metadata_error("dueling", format!("'{other}' is neither 'true' nor 'false'"))),
    };
    let actions = outputs / atoms;
    let algorithm = if distributional { "rainbow_dqn" } else { "dqn" };
    let mut form =
        build_spec(algorithm, &feature[0], PolicyActions::Discrete { count: actions }, &[&feature, &advantage[..1]]);
    form.atoms = distributional.then_some(atoms);
    Ok((form, NetworkBody::Values { feature, value, advantage, actions, dueling, support }))
}

/// Read the support from the file, or space it evenly from the metadata's `v_min` to `v_max`, by default [`DEFAULT_SUPPORT`].
fn read_support(file: &mut WeightsFile, atoms: usize) -> Result<WeightArray, LoadError> {
    if file.has("support") {
        let support = file.array("support", &[Some(atoms)])?;
        return match support.numbers.windows(2).position(|pair| pair[0] >= pair[1]) {
            None => Ok(support),
            Some(at) => Err(value_error(&support, at + 1, "each number must be above the one before it")),
        };
    }
    let [least, most] = parse_bounds(file.metadata("v_min"), file.metadata("v_max"))?;
    let gap = (most - least) / (atoms.max(2) - 1) as f32;
    let numbers = (0..atoms).map(|index| least + gap * index as f32).collect();
    Ok(WeightArray { name: "support".to_owned(), shape: vec![atoms], numbers })
}

fn parse_bounds(least: Option<&str>, most: Option<&str>) -> Result<[f32; 2], LoadError> {
    let read = |key: &str, text: Option<&str>, default: f32| match text.map(str::parse::<f32>) {
        None => Ok(default),
        Some(Ok(number)) if number.is_finite() => Ok(number),
        Some(_) => Err(metadata_error(key, "it is not a finite number".to_owned())),
    };
    let (least, most) = (read("v_min", least, DEFAULT_SUPPORT[0])?, read("v_max", most, DEFAULT_SUPPORT[1])?);
    match least < most && (most - least).is_finite() {
        true => Ok([least, most]),
        false => Err(metadata_error("v_max", format!("{most} is not above v_min, {least}"))),
    }
}

/// SAC: two critics (S+A)-H-H-1 and an actor, in one of two forms. Either `actor_mean` S-H-H-A with an `actor_log_std`
/// [1, A] that is the same in each state, and the mean is clamped; or hidden layers `actor` followed by the layers
/// `actor_mean` and `actor_log_std`, and the mean is squashed by tanh.
fn read_sac(file: &mut WeightsFile) -> Result<(PolicySpec, NetworkBody<WeightArray>), LoadError> {
    let heads = ["actor_mean.weight", "actor_log_std.weight"].iter().any(|name| file.has(name));
    let trunk = file.names().iter().any(|name| name.starts_with("actor."));
    let heads = heads || trunk && !file.has("actor_mean.0.weight");
    let (mean, deviation) = if heads {
        let mut mean = file.sequential("actor", 2, None, None)?;
        let inner = Some(mean[1].outputs());
        mean.push(file.linear("actor_mean", [None, inner])?);
        let layer = file.linear("actor_log_std", [Some(mean[2].outputs()), inner])?;
        let [least, most] = read_log_std_bounds(file)?;
        (mean, DeviationSource::Head { layer, least, most })
    } else {
        let mean = file.sequential("actor_mean", 3, None, None)?;
        let log_std = file.array("actor_log_std", &[Some(1), Some(mean[2].outputs())])?;
        (mean, DeviationSource::Fixed(log_std))
    };
    let (states, actions) = (mean[0].inputs(), mean[2].outputs());
    let mut critic = |name: &str| file.sequential(name, 3, Some(states + actions), Some(1));
    let critics = [critic("qf1")?, critic("qf2")?];
    let [low, high] = read_action_bounds(file, actions)?;
    let scores = file.metadata("actions") == Some("scores");
    // Scores are compared after squashing, as in training.
    let squashed = heads || scores;
    let bounds = if squashed { None } else { Some([low.clone(), high.clone()]) };
    let actions = match scores {
        true => PolicyActions::Scores { count: actions },
        false => PolicyActions::Continuous { low: low.numbers, high: high.numbers, squashed },
    };
    Ok((
        build_spec("sac", &mean[0], actions, &[&mean[..2]]),
        NetworkBody::Gaussian { mean, deviation, critics, bounds },
    ))
}

/// Read the action bounds from the file; by default -1 and 1.
fn read_action_bounds(file: &mut WeightsFile, actions: usize) -> Result<[WeightArray; 2], LoadError> {
    let mut read = |name: &str, default: f32| match file.has(name) {
        true => file.array(name, &[Some(actions)]),
        false => Ok(WeightArray { name: name.to_owned(), shape: vec![actions], numbers: vec![default; actions] }),
    };
    let (low, high) = (read("action_low", -1.0)?, read("action_high", 1.0)?);
    match low.numbers.iter().zip(&high.numbers).position(|(low, high)| low > high) {
        None => Ok([low, high]),
        Some(at) => Err(value_error(&high, at, "it is below action_low")),
    }
}

fn read_log_std_bounds(file: &WeightsFile) -> Result<[f32; 2], LoadError> {
    let Some(text) = file.metadata("log_std_bounds") else { return Ok(DEFAULT_LOG_STD) };
    let read = serde_json::from_str::<[f32; 2]>(text).ok();
    let fits = |[least, most]: &[f32; 2]| least <= most && least.is_finite() && most.is_finite();
    read.filter(fits)
        .ok_or_else(|| metadata_error("log_std_bounds", format!("'{text}' is not two numbers [smallest, largest]")))
}

/// Read means and standard deviations for normalising states, if the file has them.
fn read_normalisation(file: &mut WeightsFile, states: usize) -> Result<Option<[WeightArray; 2]>, LoadError> {
    if !file.has("observation_mean") && !file.has("observation_std") {
        return Ok(None);
    }
    let mean = file.array("observation_mean", &[Some(states)])?;
    let deviation = file.array("observation_std", &[Some(states)])?;
    match deviation.numbers.iter().position(|number| *number <= 0.0) {
        None => Ok(Some([mean, deviation])),
        Some(at) => Err(value_error(&deviation, at, "a standard deviation is above 0")),
    }
}

fn value_error(tensor: &WeightArray, element: usize, reason: &str) -> LoadError {
    LoadError::Value { tensor: tensor.name.clone(), element, reason: reason.to_owned() }
}

fn metadata_error(key: &str, reason: String) -> LoadError {
    LoadError::Metadata { key: key.to_owned(), reason }
}

/// Write the bounds of a Rainbow policy's support into the file's metadata, as `v_min` and `v_max`, for files that have
/// no support of their own.
///
/// # Errors
/// When `least` is not below `most`, when the policy has no support or a tensor for it, and as for any file.
pub fn with_support(bytes: &[u8], least: f32, most: f32) -> Result<Vec<u8>, LoadError> {
    let policy = ParsedPolicy::read(bytes)?;
    if policy.form.atoms.is_none() {
        return Err(metadata_error("v_min", format!("{} has no support", policy.form.algorithm)));
    }
    let mut file = WeightsFile::open(bytes)?;
    if file.has("support") {
        return Err(metadata_error("v_min", "the file has a tensor 'support' already".to_owned()));
    }
    let texts = [("v_min", least.to_string()), ("v_max", most.to_string())];
    parse_bounds(Some(&texts[0].1), Some(&texts[1].1))?;
    let mut notes = file.take_metadata();
    notes.extend(texts.map(|(key, text)| (key.to_owned(), text)));
    let format = |error: safetensors::SafeTensorError| LoadError::Format(error.to_string());
    let tensors = SafeTensors::deserialize(bytes).map_err(format)?;
    serialize(tensors.iter(), notes).map_err(format)
}
