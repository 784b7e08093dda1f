//! MiniLM (a BERT of six layers) as an ONNX graph, from the weights of its Hugging Face package.
//!
//! Takes `config.json` and `model.safetensors` of a BERT sentence encoder. Returns a model that takes `input_ids` and
//! `attention_mask` `[N,T]` and gives `text_embeds` `[N,D]`: the mean over the tokens that the mask keeps, of length
//! 1.
//!
//! There is no `token_type_ids` input. A caption is always the first segment, so the embedding of that segment is
//! added to those of the positions once, when the graph is built.
//!
//! Sources: BERT, arXiv 1810.04805; MiniLM, arXiv 2002.10957; pooling as in sentence-transformers, arXiv 1908.10084.

use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use wordsight_onnx::proto::{Dimension, ElementType, ModelProto};
use wordsight_onnx::{Attribute, Graph, Storage, Value};
use wordsight_teacher::{TeacherError, read_json};

use crate::efficientnet::transpose;
use crate::error::StandinError;

/// What is added to the attention scores of padding: far below any score, and finite in FP16 as well.
const MASKED_SCORE: f32 = -1e4;

/// The part of `config.json` that shapes the graph.
#[derive(Debug, Deserialize)]
struct Config {
    model_type: String,
    hidden_act: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    layer_norm_eps: f32,
}

/// A text encoder's model and the length of its embeddings.
pub(crate) struct TextModel {
    pub(crate) model: ModelProto,
    pub(crate) embedding_size: usize,
}

/// Builds the text model from a folder with `config.json` and `model.safetensors`.
///
/// # Errors
/// When a file is missing or isn't what this graph is made of.
pub(crate) fn build(folder: &Path) -> Result<TextModel, StandinError> {
    let config_path = folder.join("config.json");
    let config: Config = read_json(&config_path)?;
    if config.model_type != "bert" || config.hidden_act != "gelu" {
        let found = format!("it describes a {} with {}", config.model_type, config.hidden_act);
        return Err(TeacherError::unusable(
            &config_path,
            format!("{found}, and only BERT with gelu is known"),
        )
        .into());
    }
    if config.num_attention_heads == 0 || !config.hidden_size.is_multiple_of(config.num_attention_heads) {
        return Err(TeacherError::unusable(
            &config_path,
            "the heads don't divide the hidden size".to_owned(),
        )
        .into());
    }
    let weights_path = folder.join("model.safetensors");
    let bytes = fs::read(&weights_path).map_err(|source| TeacherError::unreadable(&weights_path, source))?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|error| TeacherError::unusable(&weights_path, error.to_string()))?;
    let mut encoder = Encoder {
        graph: Graph::new("minilm", Storage::F32),
        config: &config,
        tensors: &tensors,
        path: &weights_path,
    };
    let embeddings = encoder.whole()?;
    let size = config.hidden_size;
    encoder.graph.output(&embeddings, "text_embeds", ElementType::Float, &[-1, size as i64]);
    let mut model = encoder.graph.into_model(&[]);
    name_the_sequence(&mut model);
    Ok(TextModel { model, embedding_size: size })
}

/// The builder calls every open dimension the batch; the second of the inputs is another length.
fn name_the_sequence(model: &mut ModelProto) {
    let inputs = model.graph.iter_mut().flat_map(|graph| &mut graph.input);
    let shapes = inputs.filter_map(|input| input.r#type.as_mut()?.tensor_type.as_mut()?.shape.as_mut());
    for dimension in shapes.filter_map(|shape| shape.dim.get_mut(1)) {
        dimension.value = Some(Dimension::Named("sequence".to_owned()));
    }
}

/// The graph under construction and the weights that go into it.
struct Encoder<'a> {
    graph: Graph,
    config: &'a Config,
    tensors: &'a SafeTensors<'a>,
    path: &'a Path,
}

impl Encoder<'_> {
    fn whole(&mut self) -> Result<Value, StandinError> {
        self.graph.scope("embeddings");
        let ids = self.graph.input("input_ids", ElementType::Int64, &[-1, -1]);
        let mask = self.graph.input("attention_mask", ElementType::Int64, &[-1, -1]);
        let mut hidden = self.token_embeddings(&ids)?;
        let mask = self.graph.cast(&mask, ElementType::Float);
        let penalties = self.attention_penalties(&mask);
        for layer in 0..self.config.num_hidden_layers {
            self.graph.scope(&format!("layer_{layer}"));
            hidden = self.layer(layer, &hidden, &penalties)?;
        }
        self.graph.scope("pooling");
        Ok(self.mean_over_tokens(&hidden, &mask))
    }

    /// Word + position + first segment, normalised: `[N,T]` to `[N,T,D]`.
    fn token_embeddings(&mut self, ids: &Value) -> Result<Value, StandinError> {
        let (size, positions) = (self.config.hidden_size, self.config.max_position_embeddings);
        let (vocabulary, words) = self.table("embeddings.word_embeddings.weight")?;
        let words = self.graph.floats(&[vocabulary, size], &words);
        let words = self.graph.node("Gather", &[&words, ids], &[("axis", Attribute::Int(0))]);

        let mut position_table = self.floats("embeddings.position_embeddings.weight", positions * size)?;
        let (_, segments) = self.table("embeddings.token_type_embeddings.weight")?;
        for row in position_table.chunks_exact_mut(size) {
            for (position, segment) in row.iter_mut().zip(&segments) {
                *position += segment;
            }
        }
        let position_table = self.graph.floats(&[positions, size], &position_table);
        let (start, end) = (Attribute::Int(1), Attribute::Int(2));
        let length = self.graph.node("Shape", &[ids], &[("start", start), ("end", end)]);
        let zero = self.graph.ints(&[0]);
        let positions = self.graph.node("Slice", &[&position_table, &zero, &length], &[]);

        let sum = self.graph.add(&words, &positions);
        self.layer_norm(&sum, "embeddings.LayerNorm")
    }

    /// `[N,T]` of ones and zeros to `[N,1,1,T]` of zeros and large negative numbers.
    fn attention_penalties(&mut self, mask: &Value) -> Value {
        let (one, penalty) = (self.graph.scalar(1.0), self.graph.scalar(MASKED_SCORE));
        let padding = self.graph.sub(&one, mask);
        let penalties = self.graph.mul(&padding, &penalty);
        let axes = self.graph.ints(&[1, 2]);
        self.graph.node("Unsqueeze", &[&penalties, &axes], &[])
    }

    fn layer(&mut self, layer: usize, hidden: &Value, penalties: &Value) -> Result<Value, StandinError> {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let context = self.attention(&name("attention.self"), hidden, penalties)?;
        let attended = self.dense(&context, &name("attention.output.dense"))?;
        let attended = self.graph.add(&attended, hidden);
        let attended = self.layer_norm(&attended, &name("attention.output.LayerNorm"))?;
        let wide = self.dense(&attended, &name("intermediate.dense"))?;
        let wide = self.gelu(&wide);
        let output = self.dense(&wide, &name("output.dense"))?;
        let output = self.graph.add(&output, &attended);
        self.layer_norm(&output, &name("output.LayerNorm"))
    }

    /// Multi-head self-attention, `[N,T,D]` to `[N,T,D]`.
    fn attention(&mut self, name: &str, hidden: &Value, penalties: &Value) -> Result<Value, StandinError> {
        let heads = self.config.num_attention_heads;
        let head_size = self.config.hidden_size / heads;
        let mut in_heads = |part: &str, order: &[i64]| {
            let projected = self.dense(hidden, &format!("{name}.{part}"))?;
            let split = self.graph.reshape(&projected, &[0, 0, heads as i64, head_size as i64]);
            Ok::<_, StandinError>(self.graph.transpose(&split, order))
        };
        let query = in_heads("query", &[0, 2, 1, 3])?;
        let key = in_heads("key", &[0, 2, 3, 1])?;
        let value = in_heads("value", &[0, 2, 1, 3])?;
        let scores = self.graph.matmul(&query, &key);
        let scale = self.graph.scalar((head_size as f32).sqrt());
        let scores = self.graph.div(&scores, &scale);
        let scores = self.graph.add(&scores, penalties);
        let attention = self.graph.softmax(&scores, -1);
        let context = self.graph.matmul(&attention, &value);
        let context = self.graph.transpose(&context, &[0, 2, 1, 3]);
        Ok(self.graph.reshape(&context, &[0, 0, self.config.hidden_size as i64]))
    }

    fn gelu(&mut self, x: &Value) -> Value {
        let (root, one, half) =
            (self.graph.scalar(std::f32::consts::SQRT_2), self.graph.scalar(1.0), self.graph.scalar(0.5));
        let scaled = self.graph.div(x, &root);
        let erf = self.graph.node("Erf", &[&scaled], &[]);
        let gate = self.graph.add(&erf, &one);
        let gated = self.graph.mul(x, &gate);
        self.graph.mul(&gated, &half)
    }

    /// The mean of the tokens that the mask `[N,T]` counts, L2-normalised: `[N,T,D]` to `[N,D]`.
    fn mean_over_tokens(&mut self, hidden: &Value, mask: &Value) -> Value {
        // As a matrix product, [N,1,T] by [N,T,D]. The division by the count would be undone by the normalisation.
        let axis = self.graph.ints(&[1]);
        let row = self.graph.node("Unsqueeze", &[mask, &axis], &[]);
        let sum = self.graph.matmul(&row, hidden);
        let sum = self.graph.node("Squeeze", &[&sum, &axis], &[]);
        self.graph.l2_normalise(&sum, 1e-12)
    }

    fn dense(&mut self, x: &Value, name: &str) -> Result<Value, StandinError> {
        let bias = self.vector(&format!("{name}.bias"))?;
        let outputs = bias.len();
        let (rows, weight) = self.table(&format!("{name}.weight"))?;
        if rows != outputs || outputs == 0 {
            return Err(self.problem(format!("{name}: {rows} rows and {outputs} biases")));
        }
        let inputs = weight.len() / rows;
        let weight = self.graph.floats(&[inputs, outputs], &transpose(&weight, outputs, inputs));
        let bias = self.graph.floats(&[outputs], &bias);
        Ok(self.graph.linear(x, &weight, &bias))
    }

    fn layer_norm(&mut self, x: &Value, name: &str) -> Result<Value, StandinError> {
        let size = self.config.hidden_size;
        let scale = self.floats(&format!("{name}.weight"), size)?;
        let bias = self.floats(&format!("{name}.bias"), size)?;
        let (scale, bias) = (self.graph.floats(&[size], &scale), self.graph.floats(&[size], &bias));
        let (axis, epsilon) = (Attribute::Int(-1), Attribute::Float(self.config.layer_norm_eps));
        Ok(self.graph.node(
            "LayerNormalization",
            &[x, &scale, &bias],
            &[("axis", axis), ("epsilon", epsilon)],
        ))
    }

    /// A matrix whose columns must be a whole number: its rows and its elements.
    fn table(&self, name: &str) -> Result<(usize, Vec<f32>), StandinError> {
        let (shape, data) = self.tensor(name)?;
        match shape.as_slice() {
            &[rows, _] => Ok((rows, data)),
            shape => Err(self.problem(format!("{name} has shape {shape:?} and should be a matrix"))),
        }
    }

    fn vector(&self, name: &str) -> Result<Vec<f32>, StandinError> {
        Ok(self.tensor(name)?.1)
    }

    fn floats(&self, name: &str, elements: usize) -> Result<Vec<f32>, StandinError> {
        let (_, data) = self.tensor(name)?;
        if data.len() != elements {
            return Err(self.problem(format!("{name} has {} elements and needs {elements}", data.len())));
        }
        Ok(data)
    }

    fn tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), StandinError> {
        let tensor = self.tensors.tensor(name).map_err(|_| self.problem(format!("{name} is missing")))?;
        if tensor.dtype() != Dtype::F32 {
            return Err(self.problem(format!("{name} is {:?} and should be F32", tensor.dtype())));
        }
        let data = tensor.data().as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect();
        Ok((tensor.shape().to_vec(), data))
    }

    fn problem(&self, problem: String) -> StandinError {
        TeacherError::unusable(self.path, problem).into()
    }
}
