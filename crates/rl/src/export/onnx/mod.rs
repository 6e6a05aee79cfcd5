//! ONNX export: a policy's network as a graph of operators.

mod graph;
mod proto;

use prost::Message;

use self::{graph::Graph, proto::Model};
use crate::network::{Array, Body, Deviation, Linear, MOST, Policy};

/// Version of the file format: that of ONNX 1.12.
const IR_VERSION: i64 = 8;
/// Version of the operator set.
const OPERATOR_SET: i64 = 17;

/// Build a model with the input `state` and the outputs that [`super`] documents.
pub(super) fn model(policy: &Policy) -> Vec<u8> {
    let mut graph = Graph::default();
    let width = policy.form.actions.count();
    graph.input("state", policy.form.state_length);
    let input = normalised(&mut graph, policy.layers.normalisation.as_ref());
    match &policy.layers.body {
        Body::ActorCritic { actor, critic } => actor_critic(&mut graph, &input, actor, critic),
        Body::Values { .. } => values(&mut graph, &input, &policy.layers.body),
        Body::Gaussian { .. } => gaussian(&mut graph, &input, &policy.layers.body),
    }
    for name in policy.layers.output_names() {
        graph.output(name, (*name != "value").then_some(width));
    }
    let actions = serde_json::to_string(&policy.form.actions).unwrap_or_default();
    let metadata = [("algorithm", policy.form.algorithm.clone()), ("actions", actions)];
    Model {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph.finish("policy")),
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: OPERATOR_SET }],
        metadata_props: metadata.map(|(key, value)| proto::Entry { key: key.to_owned(), value }).into(),
    }
    .encode_to_vec()
}

fn normalised(graph: &mut Graph, normalisation: Option<&[Array; 2]>) -> String {
    let Some([mean, deviation]) = normalisation else { return "state".to_owned() };
    let (mean, deviation) = (graph.array(mean), graph.array(deviation));
    let centred = graph.node("Sub", &["state", &mean]);
    let scaled = graph.node("Div", &[&centred, &deviation]);
    let (least, most) = (graph.number("normalised_least", -MOST), graph.number("normalised_most", MOST));
    graph.node("Clip", &[&scaled, &least, &most])
}

fn linear(graph: &mut Graph, layer: &Linear<Array>, input: &str) -> String {
    let (weight, bias) = (graph.array(&layer.weight), graph.array(&layer.bias));
    graph.node_with("Gemm", &[input, &weight, &bias], &[("transB", 1)])
}

/// Add `layers` with a ReLU between each two.
fn through(graph: &mut Graph, layers: &[Linear<Array>], input: &str) -> String {
    let mut present = input.to_owned();
    for (index, layer) in layers.iter().enumerate() {
        if index > 0 {
            present = graph.node("Relu", &[&present]);
        }
        present = linear(graph, layer, &present);
    }
    present
}

/// Reshape rows x 1 to rows.
fn flat(graph: &mut Graph, input: &str, output: &str) {
    let last = graph.integers("last_axis", &[-1]);
    graph.node_to("Squeeze", &[input, &last], output);
}

fn actor_critic(graph: &mut Graph, input: &str, actor: &[Linear<Array>], critic: &[Linear<Array>]) {
    let logits = through(graph, actor, input);
    graph.node_to_with("Softmax", &[&logits], "probabilities", &[("axis", -1)]);
    let value = through(graph, critic, input);
    flat(graph, &value, "value");
}

fn values(graph: &mut Graph, input: &str, body: &Body<Array>) {
    let Body::Values { feature, value, advantage, actions, dueling, support } = body else { return };
    let inner = through(graph, feature, input);
    let inner = graph.node("Relu", &[&inner]);
    let atoms = value.last().map_or(1, Linear::outputs) as i64;
    let advantage = through(graph, advantage, &inner);
    let by_action = graph.integers("by_action", &[-1, *actions as i64, atoms]);
    let mut outputs = graph.node("Reshape", &[&advantage, &by_action]);
    if *dueling {
        let mean = graph.node_over("ReduceMean", &[&outputs], 1);
        let value = through(graph, value, &inner);
        let of_all = graph.integers("of_all_actions", &[-1, 1, atoms]);
        let value = graph.node("Reshape", &[&value, &of_all]);
        let sum = graph.node("Add", &[&value, &outputs]);
        outputs = graph.node("Sub", &[&sum, &mean]);
    }
    let Some(support) = support else { return flat(graph, &outputs, "q") };
    let probabilities = graph.node_with("Softmax", &[&outputs], &[("axis", -1)]);
    let support = graph.array(support);
    let shares = graph.node("Mul", &[&probabilities, &support]);
    let last = graph.integers("last_axis", &[-1]);
    graph.node_to_with("ReduceSum", &[&shares, &last], "q", &[("keepdims", 0)]);
}

fn gaussian(graph: &mut Graph, input: &str, body: &Body<Array>) {
    let Body::Gaussian { mean, deviation, critics, bounds } = body else { return };
    let [hidden @ .., last] = &mean[..] else { return };
    let inner = through(graph, hidden, input);
    let inner = graph.node("Relu", &[&inner]);
    let mean = linear(graph, last, &inner);
    graph.node_to("Identity", &[&mean], "mean");
    match deviation {
        Deviation::Fixed(log_std) => {
            let log_std = graph.array(log_std);
            let rows = graph.node("Shape", &[&mean]);
            let wide = graph.node("Expand", &[&log_std, &rows]);
            graph.node_to("Exp", &[&wide], "std");
        }
        Deviation::Head { layer, least, most } => {
            let head = linear(graph, layer, &inner);
            let squashed = graph.node("Tanh", &[&head]);
            let (one, half) = (graph.number("one", 1.0), graph.number("log_std_half", 0.5 * (most - least)));
            let least = graph.number("log_std_least", *least);
            let above = graph.node("Add", &[&squashed, &one]);
            let scaled = graph.node("Mul", &[&above, &half]);
            let log_std = graph.node("Add", &[&scaled, &least]);
            graph.node_to("Exp", &[&log_std], "std");
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
    let both = graph.node_with("Concat", &[input, &action], &[("axis", 1)]);
    let [first, second] = [&critics[0], &critics[1]].map(|critic| through(graph, critic, &both));
    let least = graph.node("Min", &[&first, &second]);
    flat(graph, &least, "value");
}

#[cfg(test)]
mod tests {
    use super::{super::tests::kinds, *};

    #[test]
    fn a_graph_is_whole_and_its_outputs_are_named() {
        for (name, weights) in kinds() {
            let policy = Policy::read(&weights).unwrap();
            let model = Model::decode(&self::model(&policy)[..]).unwrap();
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
