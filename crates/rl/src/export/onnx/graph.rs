//! Builder of an ONNX graph. Each node's output has a generated name by which later nodes take it as input.

use super::proto::{
    Attribute, Dimension, FLOAT, Graph as Message, INT, INT64, INTS, Length, Node, Shape, Tensor, TensorType, Type,
    ValueInfo,
};
use crate::network::Array;

#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    tensors: Vec<Tensor>,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
}

impl Graph {
    /// Add a graph input of rows x `width`.
    pub(super) fn input(&mut self, name: &str, width: usize) {
        self.inputs.push(value(name, Some(width)));
    }

    /// Add a graph output of rows x `width`, or of rows when `width` is `None`.
    pub(super) fn output(&mut self, name: &str, width: Option<usize>) {
        self.outputs.push(value(name, width));
    }

    /// Add a policy's tensor under its own name.
    pub(super) fn array(&mut self, array: &Array) -> String {
        let dims = array.shape.iter().map(|length| *length as i64).collect();
        self.tensor(&array.name, dims, FLOAT, array.numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    /// Add a constant number.
    pub(super) fn number(&mut self, name: &str, number: f32) -> String {
        self.tensor(name, Vec::new(), FLOAT, number.to_le_bytes().into())
    }

    /// Add constant integers: axes, or a shape.
    pub(super) fn integers(&mut self, name: &str, integers: &[i64]) -> String {
        let bytes = integers.iter().flat_map(|integer| integer.to_le_bytes()).collect();
        self.tensor(name, vec![integers.len() as i64], INT64, bytes)
    }

    /// Add a tensor, unless one of this name is in the graph already.
    fn tensor(&mut self, name: &str, dims: Vec<i64>, data_type: i32, raw_data: Vec<u8>) -> String {
        if !self.tensors.iter().any(|tensor| tensor.name == name) {
            self.tensors.push(Tensor { dims, data_type, name: name.to_owned(), raw_data });
        }
        name.to_owned()
    }

    /// Add a node and return the name of its output.
    pub(super) fn node(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.node_with(operator, inputs, &[])
    }

    pub(super) fn node_with(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, i64)]) -> String {
        let output = format!("{}_{}", operator.to_lowercase(), self.nodes.len());
        self.node_to_with(operator, inputs, &output, attributes);
        output
    }

    /// Add a node that reduces one axis, which is kept with length 1.
    pub(super) fn node_over(&mut self, operator: &str, inputs: &[&str], axis: i64) -> String {
        let output = self.node_with(operator, inputs, &[("keepdims", 1)]);
        if let Some(node) = self.nodes.last_mut() {
            node.attribute.push(Attribute { name: "axes".to_owned(), i: None, ints: vec![axis], kind: INTS });
        }
        output
    }

    /// Add a node whose output is one of the graph's outputs.
    pub(super) fn node_to(&mut self, operator: &str, inputs: &[&str], output: &str) {
        self.node_to_with(operator, inputs, output, &[]);
    }

    pub(super) fn node_to_with(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) {
        let attribute = attributes
            .iter()
            .map(|(name, i)| Attribute { name: (*name).to_owned(), i: Some(*i), ints: Vec::new(), kind: INT })
            .collect();
        self.nodes.push(Node {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("{operator}_{}", self.nodes.len()),
            op_type: operator.to_owned(),
            attribute,
        });
    }

    pub(super) fn finish(self, name: &str) -> Message {
        Message {
            node: self.nodes,
            name: name.to_owned(),
            initializer: self.tensors,
            input: self.inputs,
            output: self.outputs,
        }
    }
}

/// Describe a tensor with any number of rows.
fn value(name: &str, width: Option<usize>) -> ValueInfo {
    let rows = Length::Named("rows".to_owned());
    let lengths = std::iter::once(rows).chain(width.map(|width| Length::Fixed(width as i64)));
    let dim = lengths.map(|length| Dimension { length: Some(length) }).collect();
    let tensor_type = TensorType { elem_type: FLOAT, shape: Some(Shape { dim }) };
    ValueInfo { name: name.to_owned(), kind: Some(Type { tensor_type: Some(tensor_type) }) }
}
