//! Builds a graph, and counts the operators of any file:
//!
//!     cargo run -p wordsight-onnx --example small_graph -- demo/student.onnx
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;

use wordsight_onnx::proto::{ElementType, ModelProto};
use wordsight_onnx::{Graph, OnnxFileError, Storage};

/// Twice the input, plus one.
fn small_graph() -> ModelProto {
    let mut graph = Graph::new("small", Storage::F32);
    let x = graph.input("x", ElementType::Float, &[1, 4]);
    let (two, one) = (graph.scalar(2.0), graph.scalar(1.0));
    let doubled = graph.mul(&x, &two);
    let y = graph.add(&doubled, &one);
    graph.output(&y, "y", ElementType::Float, &[1, 4]);
    graph.into_model(&[("author", "an example".to_owned())])
}

fn main() -> Result<(), OnnxFileError> {
    let model = match std::env::args().nth(1) {
        Some(path) => wordsight_onnx::read(Path::new(&path))?,
        None => small_graph(),
    };
    let mut operators: BTreeMap<String, usize> = BTreeMap::new();
    for node in model.graph.unwrap_or_default().node {
        *operators.entry(node.op_type).or_default() += 1;
    }
    for (operator, count) in operators {
        println!("{count:>5} {operator}");
    }
    Ok(())
}
