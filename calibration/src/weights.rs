//! Weights that take little room in a file, for a model that is loaded, run for a moment and dropped again: tables in INT8
//! with a step for each row, matrices of products in FP16. All computation stays in FP32; of a table only the rows that
//! are looked up are turned into floats.
//!
//! Products in INT8 would halve the file again and cost too much: of MiniLM's embeddings the least cosine to FP32 is 0.9982
//! with a step for each row, 0.9993 with one for 64 weights, and 0.9998 with FP16.

use std::collections::HashSet;

use half::f16;
use wordsight_onnx::Attribute;
use wordsight_onnx::proto::{ElementType, ModelProto, NodeProto, TensorProto};

use crate::CalibrationError;
use crate::view::{View, remove_unused};

/// Constants below this size stay as they are: they save nothing.
const SMALLEST: usize = 4096;
/// Steps of a row of a table to each side of 0.
const STEPS: f32 = 127.0;
const TO_FLOAT: [(&str, Attribute<'static>); 1] = [("to", Attribute::Int(ElementType::Float as i64))];

/// The same model with smaller weights.
///
/// # Errors
/// When it has no products or tables whose weights are constants of floats in the file.
pub fn smaller_weights(model: &ModelProto) -> Result<ModelProto, CalibrationError> {
    let view = View::of(model).ok_or(CalibrationError::NothingToQuantise)?;
    let mut rewriter =
        Rewriter { view: &view, nodes: Vec::new(), constants: Vec::new(), made: HashSet::new() };
    for node in &view.graph.node {
        rewriter.rewrite(node);
    }
    let Rewriter { nodes, constants, made, .. } = rewriter;
    if made.is_empty() {
        return Err(CalibrationError::NothingToQuantise);
    }
    let mut rewritten = model.clone();
    if let Some(graph) = &mut rewritten.graph {
        graph.node = nodes;
        graph.initializer.extend(constants);
        remove_unused(graph);
    }
    Ok(rewritten)
}

struct Rewriter<'a> {
    view: &'a View<'a>,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    /// Names of what was added, each once.
    made: HashSet<String>,
}

impl Rewriter<'_> {
    fn rewrite(&mut self, node: &NodeProto) {
        let axis = node.attribute.iter().find(|of| of.name == "axis").and_then(|of| of.i).unwrap_or(0);
        let mut node = node.clone();
        match node.op_type.as_str() {
            "MatMul" | "Gemm" => self.product(&mut node),
            "Gather" if axis == 0 && self.look_up(&node) => return,
            _ => {}
        }
        self.nodes.push(node);
    }

    /// Has a product take its second matrix from FP16.
    fn product(&mut self, node: &mut NodeProto) {
        let Some(weight) = node.input.get(1).cloned() else { return };
        let Some((dims, values)) = self.matrix(&weight) else { return };
        let made = format!("{weight}_of_f16");
        if self.made.insert(made.clone()) {
            let bytes = values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
            let stored = self.constant(&format!("{made}_stored"), ElementType::Float16, &dims, bytes);
            self.nodes.push(NodeProto::new("Cast", vec![stored], &made, &TO_FLOAT));
        }
        node.input[1] = made;
    }

    /// Looks rows up among integers, and turns those alone into floats; false where they are no constants.
    fn look_up(&mut self, node: &NodeProto) -> bool {
        let ([table, places], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
            return false;
        };
        let Some((dims, values)) = self.matrix(table) else { return false };
        let (stored, steps) = (format!("{table}_rows_of_i8"), format!("{table}_steps_of_rows"));
        if self.made.insert(stored.clone()) {
            let (integers, of_rows) = integers(&values, dims[1]);
            self.constant(&stored, ElementType::Int8, &dims, bytes_of(&integers));
            self.floats(&steps, &[dims[0], 1], &of_rows);
        }
        let part = |name: &str| format!("{output}_{name}");
        let gather = |from: String, to: &str| NodeProto::new("Gather", vec![from, places.clone()], to, &[]);
        let (rows, floats, step) = (part("rows"), part("floats"), part("steps"));
        self.nodes.push(gather(stored, &rows));
        self.nodes.push(NodeProto::new("Cast", vec![rows], &floats, &TO_FLOAT));
        self.nodes.push(gather(steps, &step));
        self.nodes.push(NodeProto::new("Mul", vec![floats, step], output, &[]));
        true
    }

    /// Sizes and values of a constant that is worth it.
    fn matrix(&self, name: &str) -> Option<([usize; 2], Vec<f32>)> {
        let (dims, values) = self.view.floats(name)?;
        let &[rows, columns] = dims else { return None };
        let dims = [usize::try_from(rows).ok()?, usize::try_from(columns).ok()?];
        (values.len() >= SMALLEST && values.len() == dims[0] * dims[1]).then_some((dims, values))
    }

    fn constant(&mut self, name: &str, element: ElementType, dims: &[usize], bytes: Vec<u8>) -> String {
        let dims: Vec<i64> = dims.iter().map(|&size| size as i64).collect();
        self.constants.push(TensorProto::constant(name, element, &dims, bytes));
        name.to_owned()
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::Float, dims, bytes)
    }
}

fn bytes_of(integers: &[i8]) -> Vec<u8> {
    integers.iter().map(|integer| integer.cast_unsigned()).collect()
}

/// Symmetric integers row by row, and each row's step.
fn integers(values: &[f32], columns: usize) -> (Vec<i8>, Vec<f32>) {
    let mut integers = Vec::with_capacity(values.len());
    let steps = values.chunks_exact(columns.max(1)).map(|row| {
        let largest = row.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let step = if largest > 0.0 { largest / STEPS } else { 1.0 };
        integers.extend(row.iter().map(|x| (x / step).round().clamp(-STEPS, STEPS) as i8));
        step
    });
    let steps = steps.collect();
    (integers, steps)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wordsight_onnx::{Graph, Storage};

    use super::*;

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0).collect()
    }

    fn model(storage: Storage) -> ModelProto {
        let mut graph = Graph::new("text", storage);
        let ids = graph.input("ids", ElementType::Int64, &[-1, -1]);
        let table = graph.floats(&[128, 64], &values(128 * 64));
        let rows = graph.node("Gather", &[&table, &ids], &[("axis", Attribute::Int(0))]);
        let weight = graph.floats(&[64, 96], &values(64 * 96));
        let product = graph.matmul(&rows, &weight);
        let again = graph.floats(&[96, 8], &values(96 * 8));
        let product = graph.matmul(&product, &again);
        graph.output(&product, "text_embeds", ElementType::Float, &[-1, -1, 8]);
        graph.into_model(&[])
    }

    #[test]
    fn tables_are_integers_products_in_fp16_and_small_ones_stay() {
        for storage in [Storage::F32, Storage::F16] {
            let small = smaller_weights(&model(storage)).unwrap().graph.unwrap();
            let of = |element: ElementType| {
                let of = small.initializer.iter().filter(|constant| constant.data_type == element as i32);
                of.map(|constant| constant.raw_data.len()).sum::<usize>()
            };
            assert_eq!(of(ElementType::Int8), 128 * 64, "{storage:?}");
            assert_eq!(of(ElementType::Float16), 2 * 64 * 96, "{storage:?}");
            assert_eq!(of(ElementType::Float), 4 * (128 + 96 * 8), "{storage:?}");
        }
    }

    #[test]
    fn integers_are_at_most_half_a_step_from_the_values() {
        let values = values(96 * 8);
        let (integers, steps) = integers(&values, 8);
        for ((row, integers), step) in values.chunks(8).zip(integers.chunks(8)).zip(steps) {
            for (value, integer) in row.iter().zip(integers) {
                assert!((f32::from(*integer) * step - value).abs() <= step * 0.500_1);
            }
        }
        assert_eq!(super::integers(&[0.0; 8], 4), (vec![0; 8], vec![1.0; 2]));
    }

    #[test]
    fn a_model_without_weights_is_refused() {
        let mut graph = Graph::new("nothing", Storage::F32);
        let x = graph.input("x", ElementType::Float, &[-1, 8]);
        graph.output(&x, "y", ElementType::Float, &[-1, 8]);
        let error = smaller_weights(&graph.into_model(&[])).unwrap_err();
        assert!(matches!(error, CalibrationError::NothingToQuantise), "{error}");
    }
}
