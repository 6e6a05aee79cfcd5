//! Builder of an ONNX graph. Each node's output has a generated name by which later nodes take it as input.

use super::proto::{
    ATTRIBUTE_INT, ATTRIBUTE_INTS, AttributeProto, DimensionProto, DimensionValue, GraphProto as Message, NodeProto,
    TENSOR_FLOAT, TENSOR_INT64, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::network::WeightArray;

#[derive(Default)]
pub(super) struct GraphBuilder {
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
}

impl GraphBuilder {
    /// Add a graph input of rows x `width`.
    pub(super) fn input(&mut self, name: &str, width: usize) {
        self.inputs.push(tensor_info(name, Some(width)));
    }

    /// Add a graph output of rows x `width`, or of rows when `width` is `None`.
    pub(super) fn output(&mut self, name: &str, width: Option<usize>) {
        self.outputs.push(tensor_info(name, width));
    }

    /// Add a policy's tensor under its own name.
    pub(super) fn array(&mut self, array: &WeightArray) -> String {
        let dims = array.shape.iter().map(|length| *length as i64).collect();
        self.add_tensor(
            &array.name,
            dims,
            TENSOR_FLOAT,
            array.numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        )
    }

    /// Add a constant number.
    pub(super) fn number(&mut self, name: &str, number: f32) -> String {
        self.add_tensor(name, Vec::new(), TENSOR_FLOAT, number.to_le_bytes().into())
    }

    /// Add constant integers: axes, or a shape.
    pub(super) fn add_integers(&mut self, name: &str, integers: &[i64]) -> String {
        let bytes = integers.iter().flat_map(|integer| integer.to_le_bytes()).collect();
        self.add_tensor(name, vec![integers.len() as i64], TENSOR_INT64, bytes)
    }

    /// Add a tensor, unless one of this name is in the graph already.
    fn add_tensor(&mut self, name: &str, dims: Vec<i64>, data_type: i32, raw_data: Vec<u8>) -> String {
        if !self.tensors.iter().any(|tensor| tensor.name == name) {
            self.tensors.push(TensorProto { dims, data_type, name: name.to_owned(), raw_data });
        }
        name.to_owned()
    }

    /// Add a node and return the name of its output.
    pub(super) fn node(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.add_node_with(operator, inputs, &[])
    }

    pub(super) fn add_node_with(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, i64)]) -> String {
        let output = format!("{}_{}", operator.to_lowercase(), self.nodes.len());
        self.add_output_node_with(operator, inputs, &output, attributes);
        output
    }

    /// Add a node that reduces one axis, which is kept with length 1.
    pub(super) fn add_node_over_axis(&mut self, operator: &str, inputs: &[&str], axis: i64) -> String {
        let output = self.add_node_with(operator, inputs, &[("keepdims", 1)]);
        if let Some(node) = self.nodes.last_mut() {
            node.attribute.push(AttributeProto {
                name: "axes".to_owned(),
                i: None,
                ints: vec![axis],
                kind: ATTRIBUTE_INTS,
            });
        }
        output
    }

    /// Add a node whose output is one of the graph's outputs.
    pub(super) fn add_output_node(&mut self, operator: &str, inputs: &[&str], output: &str) {
        self.add_output_node_with(operator, inputs, output, &[]);
    }

    pub(super) fn add_output_node_with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, i64)],
    ) {
        let attribute = attributes
            .iter()
            .map(|(name, i)| AttributeProto {
                name: (*name).to_owned(),
                i: Some(*i),
                ints: Vec::new(),
                kind: ATTRIBUTE_INT,
            })
            .collect();
        self.nodes.push(NodeProto {
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
fn tensor_info(name: &str, width: Option<usize>) -> ValueInfoProto {
    let rows = DimensionValue::Named("rows".to_owned());
    let lengths = std::iter::once(rows).chain(width.map(|width| DimensionValue::Fixed(width as i64)));
    let dim = lengths.map(|length| DimensionProto { length: Some(length) }).collect();
    let tensor_type = TensorTypeProto { elem_type: TENSOR_FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), kind: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
