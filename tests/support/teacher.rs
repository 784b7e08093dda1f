//! The text half of a teacher that knows colours by name: a real ONNX file and a real tokenizer, in the student's space.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use wordsight_onnx::proto::{Dimension, ElementType};
use wordsight_onnx::{Attribute, Graph, Storage};
use wordsight_teacher::TextOnly;

use super::{BLUE, Colour, GREEN, RED, TEACHER, YELLOW};

/// Names of colours, by which the teacher knows them.
const NAMES: [(&str, Colour); 6] =
    [("red", RED), ("ruby", RED), ("green", GREEN), ("leaf", GREEN), ("blue", BLUE), ("yellow", YELLOW)];
/// What captions have beside names: nothing to see.
const FILLERS: [&str; 6] = ["[PAD]", "a", "photo", "of", ".", "an"];

/// Writes a teacher that the student understands, into a folder that may have to be made. What it doesn't know means
/// grey, which is the student's background.
pub fn write_text_teacher(folder: &Path) {
    write_text_teacher_as(folder, TEACHER);
}

/// The same as the text half of another teacher.
pub fn write_text_teacher_as(folder: &Path, id: &str) {
    fs::create_dir_all(folder.join("onnx")).unwrap();
    // As many zeros in front as the tokens that mean nothing, but for the first, which is what it doesn't know.
    let mut rows: Vec<[f32; 4]> = vec![[0.0, 0.0, 0.0, 1.0]];
    rows.extend([[0.0; 4]; FILLERS.len()]);
    rows.extend(NAMES.map(|(_, colour)| {
        let [red, green, blue] = colour.map(|channel| (f32::from(channel) - 127.0) / 128.0);
        [red, green, blue, 0.0]
    }));
    let mut graph = Graph::new("colours", Storage::F32);
    let ids = graph.input("input_ids", ElementType::Int64, &[-1, -1]);
    let table = graph.floats(&[rows.len(), 4], rows.as_flattened());
    let tokens = graph.node("Gather", &[&table, &ids], &[("axis", Attribute::Int(0))]);
    let sum = graph.reduce_sum(&tokens, &[1]);
    let axis = graph.ints(&[1]);
    let sum = graph.node("Squeeze", &[&sum, &axis], &[]);
    graph.output(&sum, "text_embeds", ElementType::Float, &[-1, 4]);
    let mut model = graph.into_model(&[]);
    // The second dimension is not the batch.
    let input = &mut model.graph.as_mut().unwrap().input[0];
    let shape = input.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
    shape.dim[1].value = Some(Dimension::Named("sequence".to_owned()));
    wordsight_onnx::write(&model, &folder.join("onnx/text_model.onnx")).unwrap();

    let tokens = ["[UNK]"].into_iter().chain(FILLERS).chain(NAMES.map(|(name, _)| name));
    let vocabulary: Map<String, Value> =
        tokens.enumerate().map(|(id, token)| (token.to_owned(), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": { "type": "BertPreTokenizer" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" },
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(folder.join("tokenizer_config.json"), r#"{"pad_token": "[PAD]"}"#).unwrap();
    let config = json!({
        "model_type": "colours",
        "text_config": { "max_position_embeddings": 16 },
        "text_only": TextOnly::of_directory(folder, id).unwrap(),
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}
