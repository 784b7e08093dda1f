//! Builds a graph node by node.
//!
//! Every method that adds a node returns the [`Value`] that it makes, so a network reads like an expression. Shapes
//! are not checked here: `onnx.checker` and the runtime infer them.

use half::f16;

use crate::proto::{
    AttributeProto, AttributeType, Dimension, DimensionProto, ElementType, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};

/// IR version 9: read by ONNX Runtime 1.16 and by TensorRT 8.6 and newer.
const IR_VERSION: i64 = 9;
/// Operator set 17: the first with LayerNormalization, and old enough for TensorRT 8.6.
const OPSET: i64 = 17;
/// Constants below this size stay FP32 whatever the [`Storage`]: biases, scales, scalars.
const SMALLEST_F16_CONSTANT: usize = 1024;

/// The name of something that a node makes or a caller feeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// The value's name in the file.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// How large weights are stored; computation is FP32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// 4 bytes a weight.
    F32,
    /// 2 bytes a weight and a `Cast` in the graph.
    F16,
}

/// A node's attribute.
#[derive(Clone, Debug)]
pub enum Attribute<'a> {
    /// One float.
    Float(f32),
    /// One integer.
    Int(i64),
    /// Integers.
    Ints(&'a [i64]),
    /// Text.
    Text(&'a str),
}

/// A graph under construction.
#[derive(Debug)]
pub struct Graph {
    graph: GraphProto,
    storage: Storage,
    /// Counts names, so that each is given once.
    next: usize,
    /// Names are prefixed with it, so that a reader of the file can tell the parts apart.
    scope: String,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: &str, storage: Storage) -> Self {
        let graph = GraphProto { name: name.to_owned(), ..GraphProto::default() };
        Self { graph, storage, next: 0, scope: String::new() }
    }

    /// Names of nodes from here on start with `scope/`.
    pub fn scope(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
    }

    /// Declares an input. A dimension of -1 is the batch, known at run time.
    pub fn input(&mut self, name: &str, element: ElementType, shape: &[i64]) -> Value {
        self.graph.input.push(value_info(name, element, shape));
        Value(name.to_owned())
    }

    /// Declares `value` an output under the name `name`.
    pub fn output(&mut self, value: &Value, name: &str, element: ElementType, shape: &[i64]) {
        self.graph.node.push(NodeProto {
            input: vec![value.0.clone()],
            output: vec![name.to_owned()],
            name: format!("output/{name}"),
            op_type: "Identity".to_owned(),
            ..NodeProto::default()
        });
        self.graph.output.push(value_info(name, element, shape));
    }

    /// A constant of floats, row-major. Large ones obey the graph's [`Storage`].
    ///
    /// # Panics
    /// When `shape` and the number of elements disagree: a mistake in the code that calls it.
    pub fn floats(&mut self, shape: &[usize], data: &[f32]) -> Value {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?} of a constant");
        if self.storage == Storage::F16 && data.len() >= SMALLEST_F16_CONSTANT {
            let raw = data.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
            let stored = self.constant(ElementType::Float16, shape, raw);
            return self.cast(&stored, ElementType::Float);
        }
        let raw = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.constant(ElementType::Float, shape, raw)
    }

    /// A constant of floats that stays FP32 whatever the graph's [`Storage`]: for coordinates and
    /// tables whose precision matters.
    ///
    /// # Panics
    /// As [`Self::floats`].
    pub fn exact_floats(&mut self, shape: &[usize], data: &[f32]) -> Value {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?} of a constant");
        self.constant(ElementType::Float, shape, data.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// A scalar.
    pub fn scalar(&mut self, x: f32) -> Value {
        self.exact_floats(&[], &[x])
    }

    /// A constant vector of integers.
    pub fn ints(&mut self, data: &[i64]) -> Value {
        self.constant(ElementType::Int64, &[data.len()], data.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// Any operator with one output.
    pub fn node(&mut self, op: &str, inputs: &[&Value], attributes: &[(&str, Attribute)]) -> Value {
        let [value] = self.node_with_outputs(op, inputs, attributes);
        value
    }

    /// Any operator with several outputs.
    pub fn node_with_outputs<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
    ) -> [Value; N] {
        let outputs: [Value; N] = std::array::from_fn(|_| Value(self.fresh_name(op)));
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: outputs.iter().map(|value| value.0.clone()).collect(),
            name: outputs.first().map(|value| value.0.clone()).unwrap_or_default(),
            op_type: op.to_owned(),
            attribute: attributes
                .iter()
                .map(|(name, attribute)| AttributeProto::new(name, attribute))
                .collect(),
            ..NodeProto::default()
        });
        outputs
    }

    /// Elementwise sum, broadcast.
    pub fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.node("Add", &[a, b], &[])
    }

    /// Elementwise difference, broadcast.
    pub fn sub(&mut self, a: &Value, b: &Value) -> Value {
        self.node("Sub", &[a, b], &[])
    }

    /// Elementwise product, broadcast.
    pub fn mul(&mut self, a: &Value, b: &Value) -> Value {
        self.node("Mul", &[a, b], &[])
    }

    /// Elementwise quotient, broadcast.
    pub fn div(&mut self, a: &Value, b: &Value) -> Value {
        self.node("Div", &[a, b], &[])
    }

    /// Matrix product over the last two axes, batched over the others.
    pub fn matmul(&mut self, a: &Value, b: &Value) -> Value {
        self.node("MatMul", &[a, b], &[])
    }

    /// `x · weight + bias`, with `weight` `[inputs, outputs]`.
    pub fn linear(&mut self, x: &Value, weight: &Value, bias: &Value) -> Value {
        let product = self.matmul(x, weight);
        self.add(&product, bias)
    }

    /// Changes the element type.
    pub fn cast(&mut self, x: &Value, to: ElementType) -> Value {
        self.node("Cast", &[x], &[("to", Attribute::Int(to as i64))])
    }

    /// A new shape; 0 keeps a dimension and -1 takes what is left.
    pub fn reshape(&mut self, x: &Value, shape: &[i64]) -> Value {
        let shape = self.ints(shape);
        self.node("Reshape", &[x, &shape], &[])
    }

    /// Reorders axes.
    pub fn transpose(&mut self, x: &Value, order: &[i64]) -> Value {
        self.node("Transpose", &[x], &[("perm", Attribute::Ints(order))])
    }

    /// Joins along an axis.
    pub fn concat(&mut self, parts: &[&Value], axis: i64) -> Value {
        self.node("Concat", parts, &[("axis", Attribute::Int(axis))])
    }

    /// Softmax along an axis.
    pub fn softmax(&mut self, x: &Value, axis: i64) -> Value {
        self.node("Softmax", &[x], &[("axis", Attribute::Int(axis))])
    }

    /// Limits to `low..=high`.
    pub fn clip(&mut self, x: &Value, low: f32, high: f32) -> Value {
        let (low, high) = (self.scalar(low), self.scalar(high));
        self.node("Clip", &[x, &low, &high], &[])
    }

    /// Sum over axes, which stay with length 1.
    pub fn reduce_sum(&mut self, x: &Value, axes: &[i64]) -> Value {
        let axes = self.ints(axes);
        self.node("ReduceSum", &[x, &axes], &[("keepdims", Attribute::Int(1))])
    }

    /// Rows (last axis) to unit length; `epsilon` guards the zero row.
    pub fn l2_normalise(&mut self, x: &Value, epsilon: f32) -> Value {
        let squares = self.mul(x, x);
        let sum = self.reduce_sum(&squares, &[-1]);
        let epsilon = self.scalar(epsilon);
        let sum = self.add(&sum, &epsilon);
        let norm = self.node("Sqrt", &[&sum], &[]);
        self.div(x, &norm)
    }

    /// Finishes the graph: a model with `metadata` in its `metadata_props`.
    pub fn into_model(self, metadata: &[(&str, String)]) -> ModelProto {
        ModelProto {
            ir_version: IR_VERSION,
            producer_name: "wordsight".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            doc_string: String::new(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props: metadata
                .iter()
                .map(|(key, value)| StringStringEntryProto { key: (*key).to_owned(), value: value.clone() })
                .collect(),
            functions: Vec::new(),
        }
    }

    fn constant(&mut self, element: ElementType, shape: &[usize], raw_data: Vec<u8>) -> Value {
        let name = self.fresh_name("constant");
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        self.graph.initializer.push(TensorProto::constant(&name, element, &dims, raw_data));
        Value(name)
    }

    fn fresh_name(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{}/{}_{}", self.scope, kind, self.next)
    }
}

fn value_info(name: &str, element: ElementType, shape: &[i64]) -> ValueInfoProto {
    let dimension = |&size: &i64| DimensionProto {
        value: Some(if size < 0 { Dimension::Named("batch".to_owned()) } else { Dimension::Fixed(size) }),
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor_type = TensorTypeProto { elem_type: element as i32, shape: Some(shape) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

impl AttributeProto {
    /// A node's attribute.
    pub fn new(name: &str, attribute: &Attribute) -> Self {
        let mut proto = Self { name: name.to_owned(), ..Self::default() };
        let kind = match attribute {
            Attribute::Float(x) => {
                proto.f = Some(*x);
                AttributeType::Float
            }
            Attribute::Int(x) => {
                proto.i = Some(*x);
                AttributeType::Int
            }
            Attribute::Ints(x) => {
                proto.ints = x.to_vec();
                AttributeType::Ints
            }
            Attribute::Text(x) => {
                proto.s = Some(x.as_bytes().to_vec());
                AttributeType::String
            }
        };
        proto.r#type = kind as i32;
        proto
    }
}

impl NodeProto {
    /// A node with one output, which gives it its name.
    pub fn new(op: &str, inputs: Vec<String>, output: &str, attributes: &[(&str, Attribute)]) -> Self {
        Self {
            input: inputs,
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op.to_owned(),
            attribute: attributes
                .iter()
                .map(|(name, attribute)| AttributeProto::new(name, attribute))
                .collect(),
            ..Self::default()
        }
    }
}

impl TensorProto {
    /// A constant; `raw_data` is row-major and little-endian.
    pub fn constant(name: &str, element: ElementType, dims: &[i64], raw_data: Vec<u8>) -> Self {
        Self {
            dims: dims.to_vec(),
            data_type: element as i32,
            name: name.to_owned(),
            raw_data,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::{metadata, read, write};

    fn small_model(storage: Storage) -> ModelProto {
        let mut graph = Graph::new("small", storage);
        let x = graph.input("x", ElementType::Float, &[-1, 64]);
        let weight = graph.floats(&[64, 32], &[0.5; 64 * 32]);
        let bias = graph.floats(&[32], &[0.1; 32]);
        let y = graph.linear(&x, &weight, &bias);
        graph.output(&y, "y", ElementType::Float, &[-1, 32]);
        graph.into_model(&[("key", "value".to_owned())])
    }

    #[test]
    fn a_written_model_reads_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.onnx");
        let model = small_model(Storage::F32);
        write(&model, &path).unwrap();
        let again = read(&path).unwrap();
        assert_eq!(again, model);
        assert_eq!(metadata(&again, "key"), Some("value"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary is left");
    }

    #[test]
    fn f16_storage_halves_large_constants_and_leaves_small_ones_exact() {
        let graph = small_model(Storage::F16).graph.unwrap();
        let kinds: Vec<i32> = graph.initializer.iter().map(|tensor| tensor.data_type).collect();
        assert_eq!(kinds, [ElementType::Float16 as i32, ElementType::Float as i32]);
        assert!(graph.node.iter().any(|node| node.op_type == "Cast"));
    }

    #[test]
    fn a_truncated_file_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.onnx");
        write(&small_model(Storage::F32), &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("cut.onnx") && error.contains("not an ONNX model"), "{error}");
    }
}
