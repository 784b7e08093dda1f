//! Foreign teachers: tiny CLIP and SigLIP models with random weights, against Hugging Face's transformers and PyTorch.
//!
//! `teacher/tests/reference_clip.py` made everything under `fixtures/`: the models in the layout of their exports, the
//! pictures, and what transformers makes of them. Here nothing but ONNX Runtime is needed; where it is missing
//! (`make deps`), the tests say so on the terminal and pass.

#![allow(clippy::unwrap_used)]

#[path = "../../tests/support/skipping.rs"]
mod skipping;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Deserialize;
use wordsight_teacher::{EmbedCaptions, Teacher, TeacherError, TextOnly, TextTeacher};

const TEACHERS: [&str; 3] = ["clip", "openclip", "siglip"];
/// The largest difference of a number of an embedding where both sides computed on the same input.
const SAME_INPUT: f32 = 1e-4;
/// The same where the picture was resized, by two programs.
const RESIZED: f32 = 3e-3;

#[derive(Deserialize)]
struct Expected {
    side: u32,
    texts: Vec<Text>,
    images: Vec<Picture>,
    boxes: Vec<BoxInPicture>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    tokens: Vec<i64>,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Picture {
    image: String,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct BoxInPicture {
    image: String,
    #[serde(rename = "box")]
    corners: [f32; 4],
    embedding: Vec<f32>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Past the test harness, which keeps what a passing test prints with `eprintln`.
fn tell(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Each teacher with what is expected of it; none where ONNX Runtime is missing.
fn teachers(test: &str) -> Vec<(&'static str, Teacher, Expected)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // ONNX Runtime is looked for under the current directory, which cargo makes the crate's and not the checkout's.
    std::env::set_current_dir(root).unwrap();
    if !root.join(".deps/onnxruntime/libonnxruntime.so.1").exists() {
        skipping::skip(test, "ONNX Runtime is not in .deps", "`make deps`");
        return Vec::new();
    }
    let open = |name| {
        let directory = fixtures().join(name);
        let expected = fs::read_to_string(directory.join("expected.json")).unwrap();
        (name, Teacher::open_at(&directory, 1).unwrap(), serde_json::from_str(&expected).unwrap())
    };
    TEACHERS.into_iter().map(open).collect()
}

fn picture(name: &str) -> RgbImage {
    image::open(fixtures().join(format!("images/{name}.png"))).unwrap().to_rgb8()
}

fn largest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn captions_become_the_tokens_that_transformers_makes() {
    for (name, mut teacher, expected) in teachers("tokens against transformers") {
        for text in &expected.texts {
            assert_eq!(teacher.text().tokens(&text.text).unwrap(), text.tokens, "{name}: \"{}\"", text.text);
        }
    }
}

#[test]
fn a_caption_that_is_too_long_keeps_its_end() {
    for (name, mut teacher, expected) in teachers("a long caption's end") {
        let end = *teacher.text().tokens("").unwrap().get(usize::from(name != "siglip")).unwrap();
        let longest = expected.texts.iter().max_by_key(|text| text.text.len()).unwrap();
        let tokens = teacher.text().tokens(&longest.text).unwrap();
        assert_eq!(tokens.iter().position(|&token| token == end), Some(tokens.len() - 1), "{name}");
    }
}

#[test]
fn captions_are_embedded_as_by_pytorch_alone_and_in_a_batch() {
    for (name, mut teacher, expected) in teachers("caption embeddings against PyTorch") {
        let texts: Vec<String> = expected.texts.iter().map(|text| text.text.clone()).collect();
        let together = teacher.text().embed_texts(&texts).unwrap();
        let mut worst: f32 = 0.0;
        for (text, together) in expected.texts.iter().zip(&together) {
            assert_eq!(text.embedding.len(), teacher.embedding_size(), "{name}");
            let alone = teacher.text().embed_texts(std::slice::from_ref(&text.text)).unwrap().remove(0);
            for ours in [together, &alone] {
                let difference = largest_difference(ours, &text.embedding);
                worst = worst.max(difference);
                assert!(difference < SAME_INPUT, "{name}: \"{}\" differs by {difference}", text.text);
            }
        }
        tell(&format!("{name}: captions differ from PyTorch's by {worst:.1e} at most"));
    }
}

/// A box over a whole square picture is the picture twice, which is the picture. Pictures at the model's size reach
/// both models as the same numbers. The others were resized by Pillow there and by us here, and a few in a thousand of
/// their values came out a level apart (`pictures_are_resized_as_by_pillow` in vision.rs). Random weights make much of
/// that: measured are 1.2e-3 in a number of an embedding of length 1, where different pictures are 1.8e-1 apart and
/// more.
#[test]
fn square_pictures_are_embedded_as_by_transformers() {
    for (name, mut teacher, expected) in teachers("picture embeddings against transformers") {
        let (mut worst_same, mut worst_resized) = (0.0_f32, 0.0_f32);
        for Picture { image, embedding } in &expected.images {
            let picture = picture(image);
            let side = picture.width() as f32;
            let ours = teacher.embed_crops(&picture, &[[0.0, 0.0, side, side]]).unwrap().remove(0);
            let difference = largest_difference(&ours, embedding);
            let same_input = picture.width() == expected.side;
            let worst = if same_input { &mut worst_same } else { &mut worst_resized };
            *worst = worst.max(difference);
            let bound = if same_input { SAME_INPUT } else { RESIZED };
            assert!(difference < bound, "{name}: {image} differs by {difference}");
        }
        assert!(worst_same > 0.0 && worst_resized > 0.0, "{name} has pictures of both kinds");
        tell(&format!(
            "{name}: pictures differ by {worst_same:.1e} at most, resized ones by {worst_resized:.1e}"
        ));
    }
}

/// The two crops of a box, cut, resized and padded by Pillow and NumPy from ViLD's description of it and embedded by
/// PyTorch: inside the picture, at its border, between pixels, and long and thin. Measured: 7e-4 at most.
#[test]
fn boxes_are_embedded_as_the_sum_of_two_padded_crops() {
    for (name, mut teacher, expected) in teachers("box embeddings against Pillow and PyTorch") {
        let mut worst: f32 = 0.0;
        for BoxInPicture { image, corners, embedding } in &expected.boxes {
            let ours = teacher.embed_crops(&picture(image), &[*corners]).unwrap().remove(0);
            let difference = largest_difference(&ours, embedding);
            worst = worst.max(difference);
            assert!(difference < RESIZED, "{name}: the box {corners:?} differs by {difference}");
        }
        tell(&format!("{name}: boxes differ by {worst:.1e} at most"));
    }
}

/// A teacher's files in a folder of their own, where one can be spoilt.
fn copy_of(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("onnx")).unwrap();
    for folder in ["", "onnx"] {
        for entry in fs::read_dir(fixtures().join(name).join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.path().join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    copy
}

#[test]
fn weights_beside_the_graph_are_part_of_the_identity() {
    if teachers("identity with weights beside the graph").is_empty() {
        return;
    }
    let id_of = |directory: &Path| Teacher::open(directory).unwrap().id().to_owned();
    let copy = copy_of("openclip");
    let id = id_of(copy.path());
    assert_eq!(id, id_of(&fixtures().join("openclip")));
    for file in ["onnx/text_model.onnx_data", "onnx/vision_model.onnx_data"] {
        let path = copy.path().join(file);
        let bytes = fs::read(&path).unwrap();
        let mut other = bytes.clone();
        other[0] ^= 1;
        fs::write(&path, other).unwrap();
        assert_ne!(id_of(copy.path()), id, "{file}");
        fs::write(&path, bytes).unwrap();
    }
}

/// `save_pretrained` leaves defaults out of config.json, and a tokenizer may state no length, which is written as 1e30.
#[test]
fn siglip_s_captions_are_padded_to_64_where_no_file_says_so() {
    for (name, mut teacher, expected) in teachers("SigLIP's default length") {
        if name == "siglip" {
            let copy = copy_of(name);
            let config =
                r#"{"pad_token": {"content": "</s>"}, "model_max_length": 1000000000000000019884624838656}"#;
            fs::write(copy.path().join("tokenizer_config.json"), config).unwrap();
            let mut unsaid = Teacher::open(copy.path()).unwrap();
            for text in &expected.texts {
                assert_eq!(
                    unsaid.text().tokens(&text.text).unwrap(),
                    teacher.text().tokens(&text.text).unwrap()
                );
            }
        }
    }
}

#[test]
fn a_padding_that_is_read_and_not_named_is_an_error() {
    if teachers("unnamed padding").is_empty() {
        return;
    }
    let copy = copy_of("siglip");
    fs::remove_file(copy.path().join("tokenizer_config.json")).unwrap();
    let error = Teacher::open(copy.path()).err().unwrap().to_string();
    assert!(error.contains("tokenizer_config.json") && error.contains("padding"), "{error}");
}

#[test]
fn towers_of_different_models_are_refused() {
    if teachers("towers of different models").is_empty() {
        return;
    }
    let copy = copy_of("openclip");
    fs::copy(fixtures().join("clip/onnx/vision_model.onnx"), copy.path().join("onnx/vision_model.onnx"))
        .unwrap();
    let error = Teacher::open(copy.path()).err().unwrap().to_string();
    assert!(error.contains("16 numbers") && error.contains("20"), "{error}");
}

/// The text half of a teacher in a folder of its own, as `wordsight-distill teacher text-only` lays it out.
fn text_half_of(name: &str) -> tempfile::TempDir {
    let copy = copy_of(name);
    let id = Teacher::open(copy.path()).unwrap().id().to_owned();
    for entry in fs::read_dir(copy.path().join("onnx")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("vision") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::remove_file(copy.path().join("preprocessor_config.json")).unwrap();
    let config = copy.path().join("config.json");
    let mut of_whole: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    let stated = TextOnly::of_directory(copy.path(), &id).unwrap();
    of_whole["text_only"] = serde_json::to_value(stated).unwrap();
    fs::write(&config, of_whole.to_string()).unwrap();
    copy
}

#[test]
fn a_text_half_by_itself_has_the_id_and_the_embeddings_of_the_whole() {
    for (name, mut whole, expected) in teachers("a text half by itself") {
        let half = text_half_of(name);
        let mut teacher = TextTeacher::open_at(half.path(), 1).unwrap();
        assert_eq!((teacher.id(), teacher.embedding_size()), (whole.id(), whole.embedding_size()));
        let texts: Vec<String> = expected.texts.iter().map(|text| text.text.clone()).collect();
        assert_eq!(teacher.embed_texts(&texts).unwrap(), whole.text().embed_texts(&texts).unwrap());
        let error = Teacher::open(half.path()).err().unwrap().to_string();
        assert!(error.contains("preprocessor_config.json"), "{name}: {error}");
    }
}

#[test]
fn a_text_half_that_was_changed_or_does_not_say_whose_it_is_is_refused() {
    if teachers("a changed text half").is_empty() {
        return;
    }
    for file in
        ["tokenizer_config.json", "tokenizer.json", "onnx/text_model.onnx", "onnx/text_model.onnx_data"]
    {
        let half = text_half_of("openclip");
        let path = half.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes.push(b'\n');
        fs::write(&path, bytes).unwrap();
        let error = TextTeacher::open(half.path()).err().unwrap();
        assert!(matches!(error, TeacherError::Changed { .. }), "{file}: {error}");
        assert!(error.to_string().contains("openclip"), "{error}");
    }
    let half = copy_of("clip");
    fs::remove_file(half.path().join("onnx/vision_model.onnx")).unwrap();
    let error = TextTeacher::open(half.path()).err().unwrap().to_string();
    assert!(error.contains("text-only"), "{error}");
}
