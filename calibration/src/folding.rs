//! Folds casts of weights: weights are stored in the type that they are used in.

use std::collections::BTreeSet;

use wordsight_onnx::Attribute;
use wordsight_onnx::proto::{AttributeProto, ElementType, ModelProto, NodeProto, TensorProto};

use crate::view::{View, remove_unused};

/// The model with constants of FP32 in the place of those that are stored in FP16 and cast: TensorRT's parser takes a
/// convolution whose weights come out of a node for one with weights that change from run to run
/// (onnx-tensorrt, onnxOpImporters.cpp, `DEFINE_BUILTIN_OP_IMPORTER(Conv)`).
pub fn fold_casts(model: &ModelProto) -> ModelProto {
    let Some(view) = View::of(model) else { return model.clone() };
    let mut constants: Vec<TensorProto> = Vec::new();
    for node in view.graph.node.iter().filter(|node| casts_to_f32(node)) {
        if let ([input], [output]) = (&node.input[..], &node.output[..])
            && view.producer(input).is_none()
            && let Some((dims, values)) = view.floats(input)
        {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            constants.push(TensorProto::constant(output, ElementType::Float, dims, bytes));
        }
    }
    let folded: BTreeSet<String> = constants.iter().map(|constant| constant.name.clone()).collect();
    let mut graph = view.graph.clone();
    graph.node.retain(|node| !node.output.iter().any(|output| folded.contains(output)));
    graph.initializer.extend(constants);
    remove_unused(&mut graph);
    ModelProto { graph: Some(graph), ..model.clone() }
}

fn casts_to_f32(node: &NodeProto) -> bool {
    node.op_type == "Cast"
        && node.attribute == [AttributeProto::new("to", &Attribute::Int(ElementType::Float as i64))]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wordsight_onnx::{Graph, Storage};

    use super::*;

    #[test]
    fn weights_in_f16_stand_in_f32_and_casts_of_what_flows_stay() {
        let mut graph = Graph::new("folding", Storage::F16);
        let image = graph.input("image", ElementType::Uint8, &[1, 1, 2, 2]);
        let pixels = graph.cast(&image, ElementType::Float);
        let weights = graph.floats(&[1024, 1, 1, 1], &[0.5; 1024]);
        let found = graph.node("Conv", &[&pixels, &weights], &[]);
        graph.output(&found, "found", ElementType::Float, &[1, 1024, 2, 2]);
        let model = graph.into_model(&[]);
        let casts = |model: &ModelProto| {
            let nodes = &model.graph.as_ref().unwrap().node;
            nodes.iter().filter(|node| node.op_type == "Cast").count()
        };
        assert_eq!(casts(&model), 2);
        let folded = fold_casts(&model);
        assert_eq!(casts(&folded), 1, "that of the pixels");
        let graph = folded.graph.as_ref().unwrap();
        let convolution = graph.node.iter().find(|node| node.op_type == "Conv").unwrap();
        let weights =
            graph.initializer.iter().find(|constant| constant.name == convolution.input[1]).unwrap();
        assert_eq!((weights.data_type, &weights.dims[..]), (ElementType::Float as i32, &[1024, 1, 1, 1][..]));
        assert_eq!(weights.raw_data, 0.5_f32.to_le_bytes().repeat(1024));
        assert_eq!(graph.initializer.len(), 1, "and what is stored in FP16 is gone");
    }
}
