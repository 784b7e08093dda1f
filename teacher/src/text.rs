//! The text tower: captions to embeddings of length 1.
//!
//! Returns the rows of the model's text output, L2-normalised whether or not the export does it. With an attention
//! mask, a batch is padded to its longest caption. Without one, every caption is padded to the model's length, because
//! SigLIP was trained on the padding and pools its last token. CLIP's exports have no mask either and ignore padding:
//! for them this costs time and changes nothing.

use std::path::Path;

use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};
use wordsight_engines::{Input, OnnxSession, Placement, TensorView};

use crate::error::{TeacherError, read_json};

/// Captions a batch: keeps the memory small and the processor busy.
const BATCH: usize = 32;
/// Tokens that a caption may have where the export doesn't say: CLIP's default and SigLIP's. Files that
/// `save_pretrained` wrote leave a default out.
const CLIP_LENGTH: usize = 77;
const SIGLIP_LENGTH: usize = 64;
/// From here on a tokenizer's length is transformers' way to say that it has none (it writes 1e30).
const NO_LENGTH: f64 = 1e6;

/// Names that exports give the output, best first.
const OUTPUTS: [&str; 2] = ["text_embeds", "pooler_output"];

/// A tokenizer and the model behind it.
pub(crate) struct TextTower {
    session: OnnxSession,
    tokenizer: Tokenizer,
    padding_id: i64,
    padded_length: Option<usize>,
    output: usize,
    has_mask: bool,
    has_segments: bool,
}

/// A batch of captions as the model takes them, row-major.
struct Tokens {
    length: usize,
    ids: Vec<i64>,
    mask: Vec<i64>,
}

/// What the tower needs to know that the model and the tokenizer don't say.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct TextConfig {
    pub(crate) model_type: Option<String>,
    /// The longest caption, in tokens, begin and end included.
    pub(crate) max_position_embeddings: Option<usize>,
}

/// The part of `tokenizer_config.json` that is read, where there is one.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    pad_token: Option<TokenText>,
    /// A float, because 1e30 is among its values.
    model_max_length: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Described { content: String },
}

impl TextTower {
    pub(crate) fn open(
        directory: &Path,
        config: TextConfig,
        placement: Placement,
    ) -> Result<Self, TeacherError> {
        let model = directory.join("onnx/text_model.onnx");
        let session = OnnxSession::open(&model, placement)?;
        for port in session.inputs() {
            if !["input_ids", "attention_mask", "token_type_ids"].contains(&port.name.as_str()) {
                return Err(TeacherError::unusable(&model, format!("its input `{}` is unknown", port.name)));
            }
        }
        let output = output_named(&session, &OUTPUTS, &model)?;
        let has = |name: &str| session.inputs().iter().any(|port| port.name == name);
        let (has_mask, has_segments) = (has("attention_mask"), has("token_type_ids"));
        let fixed = session.inputs().first().and_then(|port| usize::try_from(*port.shape.get(1)?).ok());
        let tokenizer_config = TokenizerConfig::read(directory)?;
        let longest = longest_caption(&config, &tokenizer_config).min(fixed.unwrap_or(usize::MAX));
        let (tokenizer, padding_id) = open_tokenizer(directory, &tokenizer_config, longest)?;
        let padding_id = match padding_id {
            None if !has_mask => {
                let problem = "neither it nor tokenizer_config.json names the padding's token, and without an \
                               attention mask the model reads it";
                return Err(TeacherError::unusable(&directory.join("tokenizer.json"), problem.to_owned()));
            }
            padding_id => i64::from(padding_id.unwrap_or(0)),
        };
        let padded_length = fixed.or((!has_mask).then_some(longest));
        Ok(Self { session, tokenizer, padding_id, padded_length, output, has_mask, has_segments })
    }

    /// The embeddings' length, where the model states it.
    pub(crate) fn stated_size(&self) -> Option<usize> {
        stated_size(&self.session, self.output)
    }

    /// One embedding of length 1 a text.
    pub(crate) fn embed(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, TeacherError> {
        let mut embeddings = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            self.embed_batch(batch, &mut embeddings)?;
        }
        Ok(embeddings)
    }

    /// The tokens of a caption that is alone in its batch.
    pub(crate) fn tokens(&self, text: &str) -> Result<Vec<i64>, TeacherError> {
        Ok(self.tokenize(&[text.to_owned()])?.ids)
    }

    /// Whether any token of a text is one that the tokenizer knows.
    pub(crate) fn sees(&self, text: &str) -> Result<bool, TeacherError> {
        sees(&self.tokenizer, text)
            .map_err(|error| TeacherError::Tokenizer { text: text.to_owned(), problem: error.to_string() })
    }

    fn embed_batch(&mut self, texts: &[String], embeddings: &mut Vec<Vec<f32>>) -> Result<(), TeacherError> {
        let Tokens { length, ids, mask } = self.tokenize(texts)?;
        let shape = [texts.len(), length];
        let segments = vec![0; ids.len()];
        let mut inputs = vec![Input { name: "input_ids", shape: &shape, data: TensorView::I64(&ids) }];
        if self.has_mask {
            inputs.push(Input { name: "attention_mask", shape: &shape, data: TensorView::I64(&mask) });
        }
        if self.has_segments {
            inputs.push(Input { name: "token_type_ids", shape: &shape, data: TensorView::I64(&segments) });
        }
        run_rows(&mut self.session, &inputs, self.output, texts.len(), embeddings)
    }

    fn tokenize(&self, texts: &[String]) -> Result<Tokens, TeacherError> {
        let encodings =
            self.tokenizer.encode_batch(texts.to_vec(), true).map_err(|error| TeacherError::Tokenizer {
                text: texts.first().cloned().unwrap_or_default(),
                problem: error.to_string(),
            })?;
        let longest = encodings.iter().map(|encoding| encoding.get_ids().len()).max().unwrap_or(0);
        let length = self.padded_length.unwrap_or(longest);
        let mut ids = vec![self.padding_id; texts.len() * length];
        let mut mask = vec![0; texts.len() * length];
        let rows = ids.chunks_exact_mut(length.max(1)).zip(mask.chunks_exact_mut(length.max(1)));
        for (encoding, (ids, mask)) in encodings.iter().zip(rows) {
            for ((id, mask), &token) in ids.iter_mut().zip(mask).zip(encoding.get_ids()) {
                *id = i64::from(token);
                *mask = 1;
            }
        }
        Ok(Tokens { length, ids, mask })
    }
}

impl TokenizerConfig {
    fn read(directory: &Path) -> Result<Self, TeacherError> {
        let path = directory.join("tokenizer_config.json");
        if path.exists() { read_json(&path) } else { Ok(Self::default()) }
    }
}

fn sees(tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<bool> {
    // Names of the token for what a vocabulary lacks: BERT's, and SentencePiece's. CLIP's knows every byte.
    let unknown = ["[UNK]", "<unk>"].map(|name| tokenizer.token_to_id(name));
    let encoding = tokenizer.encode(text, false)?;
    Ok(encoding.get_ids().iter().any(|id| !unknown.contains(&Some(*id))))
}

/// The longest caption that both the model and the tokenizer allow, in tokens.
fn longest_caption(model: &TextConfig, tokenizer: &TokenizerConfig) -> usize {
    let of_tokenizer =
        tokenizer.model_max_length.filter(|&length| length < NO_LENGTH).map(|length| length as usize);
    let stated = [model.max_position_embeddings, of_tokenizer].into_iter().flatten().min();
    let is_siglip = model.model_type.as_deref().is_some_and(|name| name.starts_with("siglip"));
    stated.unwrap_or(if is_siglip { SIGLIP_LENGTH } else { CLIP_LENGTH })
}

/// The tokenizer, its own padding off and captions cut at `longest` tokens; and the padding's token, where the files
/// name it. As in transformers, tokenizer_config.json has the first word.
fn open_tokenizer(
    directory: &Path,
    config: &TokenizerConfig,
    longest: usize,
) -> Result<(Tokenizer, Option<u32>), TeacherError> {
    let path = directory.join("tokenizer.json");
    let bytes = std::fs::read(&path).map_err(|source| TeacherError::unreadable(&path, source))?;
    let problem = |error: tokenizers::Error| TeacherError::unusable(&path, error.to_string());
    let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(problem)?;
    let named = config.pad_token.as_ref().and_then(|token| match token {
        TokenText::Plain(text) | TokenText::Described { content: text } => tokenizer.token_to_id(text),
    });
    let padding_id = named.or(tokenizer.get_padding().map(|padding| padding.pad_id));
    let truncation = TruncationParams { max_length: longest, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(problem)?;
    tokenizer.with_padding(None);
    Ok((tokenizer, padding_id))
}

/// The place of the first of `names` among a model's outputs.
pub(crate) fn output_named(
    session: &OnnxSession,
    names: &[&str],
    model: &Path,
) -> Result<usize, TeacherError> {
    let place = |name: &&str| session.outputs().iter().position(|port| port.name == *name);
    names.iter().find_map(place).ok_or_else(|| {
        let found: Vec<&str> = session.outputs().iter().map(|port| port.name.as_str()).collect();
        TeacherError::unusable(model, format!("its outputs are {found:?}, and none is called {names:?}"))
    })
}

/// The length of an output's rows, where the model fixes it.
pub(crate) fn stated_size(session: &OnnxSession, output: usize) -> Option<usize> {
    session.outputs().get(output)?.shape.last().and_then(|&size| usize::try_from(size).ok())
}

/// Runs a model whose output is `[rows, D]` and appends its rows, made to length 1.
pub(crate) fn run_rows(
    session: &mut OnnxSession,
    inputs: &[Input],
    output: usize,
    rows: usize,
    embeddings: &mut Vec<Vec<f32>>,
) -> Result<(), TeacherError> {
    session.run_each(inputs, |index, _, data| {
        if index == output {
            let size = data.len() / rows.max(1);
            embeddings.extend(data.chunks_exact(size.max(1)).map(|row| normalised(row.to_vec())));
        }
    })?;
    Ok(())
}

/// The vector at length 1; a zero vector stays one.
pub(crate) fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    for x in &mut vector {
        *x /= length;
    }
    vector
}

/// The mean direction of some vectors of one length.
pub(crate) fn mean_direction(vectors: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        for (total, x) in sum.iter_mut().zip(vector) {
            *total += x;
        }
    }
    normalised(sum)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn longest(model: &str, tokenizer: &str) -> usize {
        longest_caption(&serde_json::from_str(model).unwrap(), &serde_json::from_str(tokenizer).unwrap())
    }

    #[test]
    fn a_caption_is_as_long_as_model_and_tokenizer_allow() {
        assert_eq!(longest(r#"{"max_position_embeddings": 20}"#, "{}"), 20);
        assert_eq!(longest(r#"{"max_position_embeddings": 20}"#, r#"{"model_max_length": 16}"#), 16);
        assert_eq!(longest(r#"{"max_position_embeddings": 20}"#, r#"{"model_max_length": 77}"#), 20);
        let unlimited = r#"{"model_max_length": 1000000000000000019884624838656}"#;
        assert_eq!(longest(r#"{"max_position_embeddings": 20}"#, unlimited), 20);
    }

    #[test]
    fn a_word_of_which_every_token_is_unknown_is_not_seen() {
        let tokenizer = Tokenizer::from_bytes(
            br###"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
                "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
                "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "cat": 1, "##s": 2}}}"###,
        )
        .unwrap();
        for (text, is_seen) in
            [("cat", true), ("cats", true), ("\u{1f431} cat", true), ("\u{1f431}", false), ("", false)]
        {
            assert_eq!(sees(&tokenizer, text).unwrap(), is_seen, "{text:?}");
        }
    }

    #[test]
    fn an_unsaid_length_is_the_model_s_default() {
        assert_eq!(longest("{}", "{}"), 77);
        assert_eq!(longest(r#"{"model_type": "clip_text_model"}"#, "{}"), 77);
        assert_eq!(longest(r#"{"model_type": "siglip_text_model"}"#, "{}"), 64);
    }
}
