//! The text half of a teacher, cut out for a device: small, of the same id, with nearly the same embeddings.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../tests/support/skipping.rs"]
mod skipping;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use wordsight_standin::text_only::{Weights, cut};
use wordsight_standin::{StandinError, assemble, class_names};
use wordsight_teacher::words::{self, default_prompts};
use wordsight_teacher::{CAPTIONS_FILE, CaptionCache, EmbedCaptions, TextTeacher, competitors, prompts};

/// What a package on a device may take.
const MOST_BYTES: u64 = 40_000_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Whether these files are in `.deps`; says so where they aren't.
fn has(test: &str, files: &[&str]) -> bool {
    // ONNX Runtime is looked for under the current directory, which cargo makes the crate's and not the checkout's.
    std::env::set_current_dir(root()).unwrap();
    let has_all = files.iter().all(|file| root().join(".deps").join(file).exists());
    if !has_all {
        skipping::skip(test, "the packages are not in .deps", "`make deps host-deps`");
    }
    has_all
}

fn open(directory: &Path) -> TextTeacher {
    TextTeacher::open_at(directory, 1).unwrap()
}

fn fixture(test: &str, name: &str) -> Option<PathBuf> {
    has(test, &["onnxruntime/libonnxruntime.so.1"]).then(|| root().join("teacher/tests/fixtures").join(name))
}

/// The least cosine between the embeddings of these captions by two teachers.
fn least_cosine(a: &mut TextTeacher, b: &mut TextTeacher, captions: &[String]) -> f32 {
    let (a, b) = (a.embed_texts(captions).unwrap(), b.embed_texts(captions).unwrap());
    let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    a.iter().zip(&b).map(cosine).fold(1.0, f32::min)
}

fn built_in_texts() -> Vec<String> {
    competitors::built_in_captions().into_iter().map(|caption| caption.text).collect()
}

fn bytes_in(folder: &Path) -> u64 {
    let of = |entry: fs::DirEntry| {
        let path = entry.path();
        if path.is_dir() { bytes_in(&path) } else { path.metadata().unwrap().len() }
    };
    fs::read_dir(folder).unwrap().map(|entry| of(entry.unwrap())).sum()
}

#[test]
fn a_text_half_has_the_teachers_id_and_brings_the_competitors_embedded() {
    let Some(clip) = fixture("a text half", "clip") else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("text");
    let first = cut(&clip, Weights::Small, &output).unwrap();
    let again = cut(&clip, Weights::Small, &output).unwrap();
    assert_eq!((first.id, first.captions), (again.id, again.captions));
    let (mut whole, mut half) = (open(&clip), open(&output));
    assert_eq!((half.id(), half.embedding_size()), (whole.id(), whole.embedding_size()));
    let captions = built_in_texts();
    assert!(least_cosine(&mut whole, &mut half, &captions) >= 0.999);
    let mut cache = CaptionCache::new(half.id());
    cache.add_given(&output.join(CAPTIONS_FILE)).unwrap();
    assert!(captions.iter().all(|caption| cache.get(caption).is_some()));
    assert!(!output.join("onnx/vision_model.onnx").exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    // A half of a half is the same.
    let of_half = folder.path().join("again");
    cut(&output, Weights::AsTheyAre, &of_half).unwrap();
    assert_eq!(open(&of_half).id(), whole.id());
}

#[test]
fn weights_in_a_file_of_their_own_stay_as_they_are() {
    let Some(openclip) = fixture("a text half with weights beside it", "openclip") else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("text");
    let error = cut(&openclip, Weights::Small, &output).unwrap_err().to_string();
    assert!(error.contains("weights as they are") && !output.exists(), "{error}");
    cut(&openclip, Weights::AsTheyAre, &output).unwrap();
    assert_eq!(open(&output).id(), open(&openclip).id());
}

#[test]
fn what_is_no_text_half_is_not_replaced_nor_is_the_teacher() {
    let Some(clip) = fixture("what is not replaced", "clip") else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    for other in [folder.path(), &clip] {
        let error = cut(&clip, Weights::Small, other).unwrap_err();
        assert!(matches!(error, StandinError::Occupied { .. }), "{error}");
    }
    assert!(folder.path().join("thesis.tex").exists() && clip.join("onnx/vision_model.onnx").exists());
}

/// The stand-in, assembled once a run.
fn standin(test: &str) -> Option<&'static Path> {
    static ASSEMBLED: OnceLock<PathBuf> = OnceLock::new();
    let files = ["efficientnet-lite2.pth", "minilm/model.safetensors", "onnxruntime/libonnxruntime.so.1"];
    has(test, &files).then(|| {
        let assembled = ASSEMBLED.get_or_init(|| {
            let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("standin-to-cut");
            assemble(&root().join(".deps"), &class_names(), &output).unwrap();
            output
        });
        assembled.as_path()
    })
}

/// Measured on every word of the demo and every built-in competitor, by both default prompts: a
/// cosine of 0.99984 at the least, 36,050,655 bytes.
#[test]
fn the_stand_ins_text_half_is_small_and_embeds_as_the_whole_does() {
    let Some(teacher) = standin("the stand-in's text half") else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("text");
    cut(teacher, Weights::Small, &output).unwrap();
    let bytes = bytes_in(&output);
    assert!(bytes < MOST_BYTES, "{bytes} bytes");
    let mut captions = built_in_texts();
    for file in ["demo/words.toml", "demo/other-words.toml", "demo/photographs.toml"] {
        for word in words::read(&root().join(file)).unwrap().words {
            for name in std::iter::once(&word.word).chain(&word.synonyms) {
                captions
                    .extend(default_prompts().iter().map(|prompt| prompts::caption(prompt, name).unwrap()));
            }
        }
    }
    let (mut whole, mut half) = (open(teacher), open(&output));
    assert_eq!(half.id(), whole.id());
    let least = least_cosine(&mut whole, &mut half, &captions);
    let told = format!("{} captions: a cosine of {least:.5} at the least, {bytes} bytes\n", captions.len());
    std::io::stderr().write_all(told.as_bytes()).unwrap();
    assert!(least >= 0.999, "{least}");
}
