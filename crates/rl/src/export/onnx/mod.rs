//! ONNX export: a policy's network as a graph of operators.

mod graph;
mod proto;

use prost::Message;

use self::{graph::GraphBuilder, proto::ModelProto};
use crate::network::{DeviationSource, LinearLayer, MAX_NORMALISED, NetworkBody, ParsedPolicy, WeightArray};

/// Version of the file format: that of ONNX 1.12.
const IR_VERSION: i64 = 8;
/// Version of the operator set.
const OPERATOR_SET: i64 = 17;

/// Build a model with the input `state` and the outputs that [`super`] documents.
pub(super) fn build_model(policy: &ParsedPolicy) -> Vec<u8> {
    let mut graph = GraphBuilder::default();
    let width = policy.form.actions.count();
    graph.input("state", policy.form.state_length);
    let input = add_normalisation(&mut graph, policy.layers.normalisation.as_ref());
    match &policy.layers.body {
        NetworkBody::ActorCritic { actor, critic } => add_actor_critic(&mut graph, &input, actor, critic),
        NetworkBody::Values { .. } => add_q_network(&mut graph, &input, &policy.layers.body),
        NetworkBody::Gaussian { .. } => add_gaussian(&mut graph, &input, &policy.layers.body),
    }
    for name in policy.layers.output_names() {
        graph.output(name, (*name != "value").then_some(width));
    }
    let actions = serde_json::to_string(&policy.form.actions).unwrap_or_default();
    let metadata = [("algorithm", policy.form.algorithm.clone()), ("actions", actions)];
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph.finish("policy")),
        opset_import: vec![proto::OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET }],
        metadata_props: metadata
            .map(|(key, value)| proto::StringStringEntryProto { key: key.to_owned(), value })
            .into(),
    }
    .encode_to_vec()
}

fn add_normalisation(graph: &mut GraphBuilder, normalisation: Option<&[WeightArray; 2]>) -> String {
    let Some([mean, deviation]) = normalisation else { return "state".to_owned() };
    let (mean, deviation) = (graph.array(mean), graph.array(deviation));
    let centred = graph.node("Sub", &["state", &mean]);
    let scaled = graph.node("Div", &[&centred, &deviation]);
    let (least, most) =
        (graph.number("normalised_least", -MAX_NORMALISED), graph.number("normalised_most", MAX_NORMALISED));
    graph.node("Clip", &[&scaled, &least, &most])
}

fn add_linear(graph: &mut GraphBuilder, layer: &LinearLayer<WeightArray>, input: &str) -> String {
    let (weight, bias) = (graph.array(&layer.weight), graph.array(&layer.bias));
    graph.add_node_with("Gemm", &[input, &weight, &bias], &[("transB", 1)])
}

/// Add `layers` with a ReLU between each two.
fn add_layers(graph: &mut GraphBuilder, layers: &[LinearLayer<WeightArray>], input: &str) -> String {
    let mut present = input.to_owned();
    for (index, layer) in layers.iter().enumerate() {
        if index > 0 {
            present = graph.node("Relu", &[&present]);
        }
        present = add_linear(graph, layer, &present);
    }
    present
}

/// Reshape rows x 1 to rows.
fn add_flatten(graph: &mut GraphBuilder, input: &str, output: &str) {
    let last = graph.add_integers("last_axis", &[-1]);
    graph.add_output_node("Squeeze", &[input, &last], output);
}

fn add_actor_critic(
    graph: &mut GraphBuilder,
    input: &str,
    actor: &[LinearLayer<WeightArray>],
    critic: &[LinearLayer<WeightArray>],
) {
    let logits = add_layers(graph, actor, input);
    graph.add_output_node_with("Softmax", &[&logits], "probabilities", &[("axis", -1)]);
    let value = add_layers(graph, critic, input);
    add_flatten(graph, &value, "value");
}

fn add_q_network(graph: &mut GraphBuilder, input: &str, body: &NetworkBody<WeightArray>) {
    let NetworkBody::Values { feature, value, advantage, actions, dueling, support } = body else { return };
    let inner = add_layers(graph, feature, input);
    let inner = graph.node("Relu", &[&inner]);
    let atoms = value.last().map_or(1, LinearLayer::outputs) as i64;
    let advantage = add_layers(graph, advantage, &inner);
    let by_action = graph.add_integers("by_action", &[-1, *actions as i64, atoms]);
    let mut outputs = graph.node("Reshape", &[&advantage, &by_action]);
    if *dueling {
        let mean = graph.add_node_over_axis("ReduceMean", &[&outputs], 1);
        let value = add_layers(graph, value, &inner);
        let of_all = graph.add_integers("of_all_actions", &[-1, 1, atoms]);
        let value = graph.node("Reshape", &[&value, &of_all]);
        let sum = graph.node("Add", &[&value, &outputs]);
        outputs = graph.node("Sub", &[&sum, &mean]);
    }
    let Some(support) = support else { return add_flatten(graph, &outputs, "q") };
    let probabilities = graph.add_node_with("Softmax", &[&outputs], &[("axis", -1)]);
    let support = graph.array(support);
    let shares = graph.node("Mul", &[&probabilities, &support]);
    let last = graph.add_integers("last_axis", &[-1]);
    graph.add_output_node_with("ReduceSum", &[&shares, &last], "q", &[("keepdims", 0)]);
}

fn add_gaussian(graph: &mut GraphBuilder, input: &str, body: &NetworkBody<WeightArray>) {
    let NetworkBody::Gaussian { mean, deviation, critics, bounds } = body else { return };
    let [hidden @ .., last] = &mean[..] else { return };
    let inner = add_layers(graph, hidden, input);
    let inner = graph.node("Relu", &[&inner]);
    let mean = add_linear(graph, last, &inner);
    graph.add_output_node("Identity", &[&mean], "mean");
    match deviation {
        DeviationSource::Fixed(log_std) => {
            let log_std = graph.array(log_std);
            let rows = graph.node("Shape", &[&mean]);
            let wide = graph.node("Expand", &[&log_std, &rows]);
            graph.add_output_node("Exp", &[&wide], "std");
        }
        DeviationSource::Head { layer, least, most } => {
            let head = add_linear(graph, layer, &inner);
            let squashed = graph.node("Tanh", &[&head]);
            let (one, half) = (graph.number("one", 1.0), graph.number("log_std_half", 0.5 * (most - least)));
            let least = graph.number("log_std_least", *least);
            let above = graph.node("Add", &[&squashed, &one]);
            let scaled = graph.node("Mul", &[&above, &half]);
            let log_std = graph.node("Add", &[&scaled, &least]);
            graph.add_output_node("Exp", &[&log_std], "std");
        }
    }
    let action = match bounds {
        Some([low, high]) => {
            let (low, high) = (graph.array(low), graph.array(high));
            let above = graph.node("Max", &[&mean, &low]);
            graph.node("Min", &[&above, &high])
        }
        None => graph.node("Tanh", &[&mean]),
    };
    let both = graph.add_node_with("Concat", &[input, &action], &[("axis", 1)]);
    let [first, second] = [&critics[0], &critics[1]].map(|critic| add_layers(graph, critic, &both));
    let least = graph.node("Min", &[&first, &second]);
    add_flatten(graph, &least, "value");
}

#[cfg(test)]
mod tests {
    use super::{super::tests::kinds, *};

    #[test]
    fn a_graph_is_whole_and_its_outputs_are_named() {
        for (name, weights) in kinds() {
            let policy = ParsedPolicy::read(&weights).unwrap();
            let model = ModelProto::decode(&self::build_model(&policy)[..]).unwrap();
            let graph = model.graph.unwrap();
            let names: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
            assert_eq!(names, policy.layers.output_names(), "{name}");
            // Each node takes what is there before it.
            let mut known: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
            known.extend(graph.input.iter().map(|input| input.name.as_str()));
            for node in &graph.node {
                assert!(node.input.iter().all(|input| known.contains(&input.as_str())), "{name}: {node:?}");
                assert!(!known.contains(&node.output[0].as_str()), "{name}: {node:?}");
                known.push(&node.output[0]);
            }
            assert!(names.iter().all(|output| known.contains(output)), "{name}");
        }
    }
}
