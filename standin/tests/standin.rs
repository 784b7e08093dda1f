//! The stand-in teacher, assembled from the real packages and asked about real photographs.
//!
//! Tests whose packages (`make deps host-deps`) or photographs are missing say so on the terminal and pass.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../tests/support/skipping.rs"]
mod skipping;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use image::RgbImage;
use serde::Deserialize;
use wordsight_standin::{StandinError, assemble, class_names};
use wordsight_teacher::{EmbedCaptions, Teacher, words};

/// What `standin/tests/reference_minilm.py` printed: the first eight numbers of three sentences' embeddings.
const REFERENCE: [(&str, [f32; 8]); 3] = [
    ("a photo of a cat.", [0.041517, 0.087891, 0.027096, 0.029989, -0.056948, 0.003440, 0.052269, 0.009935]),
    (
        "An espresso machine, steaming",
        [-0.055316, 0.000071, -0.044462, 0.064356, 0.006468, -0.012703, 0.027135, -0.025457],
    ),
    (
        "the quick brown fox jumps over thirteen lazy dogs",
        [0.026523, 0.048273, 0.031843, 0.022791, -0.007293, 0.002223, -0.018139, -0.056452],
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Past the test harness, which keeps what a passing test prints with `eprintln`.
fn tell(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn packages(test: &str) -> Option<PathBuf> {
    let deps = root().join(".deps");
    let files = ["efficientnet-lite2.pth", "minilm/model.safetensors", "onnxruntime/libonnxruntime.so.1"];
    let all = files.iter().all(|file| deps.join(file).exists());
    // ONNX Runtime is looked for under the current directory, which cargo makes the crate's and not the checkout's.
    std::env::set_current_dir(root()).unwrap();
    if !all {
        skipping::skip(test, "the packages are not in .deps", "`make deps host-deps`");
    }
    all.then_some(deps)
}

/// The photographs that are no part of the repository.
fn photographs(test: &str) -> Option<PathBuf> {
    let data = root().parent().unwrap().join("shared/data");
    let there = data.join("imagenet.json").exists();
    if !there {
        skipping::skip_anywhere(&format!("SKIPPED: {test}: the photographs are not in ../shared/data"));
    }
    there.then_some(data)
}

/// The stand-in, assembled once a run.
fn standin_directory(test: &str) -> Option<&'static Path> {
    static ASSEMBLED: OnceLock<PathBuf> = OnceLock::new();
    let packages = packages(test)?;
    Some(ASSEMBLED.get_or_init(|| {
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("standin");
        assemble(&packages, &class_names(), &output).unwrap();
        output
    }))
}

/// A teacher's directory whose files are links, so that one of them can be spoilt.
fn copy_of(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("onnx")).unwrap();
    for file in ["config.json", "preprocessor_config.json", "tokenizer.json"]
        .into_iter()
        .chain(["onnx/text_model.onnx", "onnx/vision_model.onnx"])
    {
        std::os::unix::fs::symlink(directory.join(file), copy.path().join(file)).unwrap();
    }
    copy
}

fn replace(copy: &tempfile::TempDir, file: &str, bytes: &[u8]) {
    fs::remove_file(copy.path().join(file)).unwrap();
    fs::write(copy.path().join(file), bytes).unwrap();
}

fn error_of(directory: &Path) -> String {
    Teacher::open(directory).err().unwrap().to_string()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn text_embeddings_agree_with_a_reference_in_double_precision_alone_and_in_a_batch() {
    let Some(directory) = standin_directory("text embeddings against the reference") else { return };
    let mut teacher = Teacher::open(directory).unwrap();
    let sentences = REFERENCE.map(|(sentence, _)| sentence.to_owned());
    let together = teacher.text().embed_texts(&sentences).unwrap();
    for ((sentence, expected), embedding) in REFERENCE.iter().zip(&together) {
        assert_eq!(embedding.len(), teacher.embedding_size());
        assert!((dot(embedding, embedding) - 1.0).abs() < 1e-5, "{sentence} has another length than 1");
        let alone = teacher.text().embed_texts(&[(*sentence).to_owned()]).unwrap();
        for ((expected, together), alone) in expected.iter().zip(embedding).zip(&alone[0]) {
            assert!((expected - together).abs() < 1e-4, "{sentence}: {together}, reference {expected}");
            assert!((together - alone).abs() < 1e-5, "{sentence}: {together} in a batch, {alone} alone");
        }
    }
}

#[test]
fn a_word_with_a_synonym_lies_between_both() {
    let Some(directory) = standin_directory("synonyms") else { return };
    let mut teacher = Teacher::open(directory).unwrap();
    let prompts = words::default_prompts();
    let cup = teacher.embed_word(&prompts, "cup", &[]).unwrap();
    let sofa = teacher.embed_word(&prompts, "sofa", &[]).unwrap();
    let both = teacher.embed_word(&prompts, "cup", &["sofa".to_owned()]).unwrap();
    assert!((dot(&both, &both) - 1.0).abs() < 1e-5);
    assert!((dot(&both, &cup) - dot(&both, &sofa)).abs() < 1e-4);
    assert!(dot(&both, &cup) > dot(&cup, &sofa));
}

#[test]
fn many_words_are_embedded_as_each_alone() {
    let Some(directory) = standin_directory("many words") else { return };
    let mut teacher = Teacher::open(directory).unwrap();
    let prompts = words::default_prompts();
    let synonyms = ["mug".to_owned()];
    let together = teacher.embed_words(&prompts, &[("cat", &[]), ("cup", &synonyms), ("dog", &[])]).unwrap();
    let alone = [
        teacher.embed_word(&prompts, "cat", &[]).unwrap(),
        teacher.embed_word(&prompts, "cup", &synonyms).unwrap(),
        teacher.embed_word(&prompts, "dog", &[]).unwrap(),
    ];
    for (together, alone) in together.iter().zip(&alone) {
        assert!(dot(together, alone) > 0.99999);
    }
}

#[test]
fn a_words_file_becomes_a_vocabulary_that_survives_its_file() {
    let Some(directory) = standin_directory("vocabulary") else { return };
    let mut teacher = Teacher::open(directory).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("words.toml");
    fs::write(&file, "words = [\"cat\", { word = \"cup\", synonyms = [\"mug\"], threshold = 0.4 }]").unwrap();
    let vocabulary = words::make_vocabulary(&file, &mut teacher).unwrap();
    assert_eq!(vocabulary.teacher, teacher.id());
    assert_eq!(vocabulary.words[1].synonyms, ["mug"]);
    let saved = folder.path().join("words.safetensors");
    vocabulary.save(&saved).unwrap();
    assert_eq!(wordsight_detection::Vocabulary::load(&saved).unwrap(), vocabulary);
}

#[test]
fn competitors_are_hidden_behind_the_words_and_none_means_the_same() {
    let Some(directory) = standin_directory("competitors") else { return };
    let mut teacher = Teacher::open(directory).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut made = |text: &str| {
        let file = folder.path().join("words.toml");
        fs::write(&file, text).unwrap();
        let vocabulary = words::make_vocabulary(&file, &mut teacher).unwrap();
        vocabulary.save(&folder.path().join("words.safetensors")).unwrap();
        let hidden = vocabulary.hidden().iter().map(|word| word.word.clone()).collect::<Vec<_>>();
        (vocabulary.shown().len(), hidden)
    };
    let (shown, hidden) = made("words = [\"spaniel\", \"cup\", \"sedan\"]");
    assert_eq!(shown, 3);
    for (name, competes) in [("dog", false), ("car", false), ("cat", true), ("wall", true), ("horse", true)] {
        assert_eq!(hidden.iter().any(|hidden| hidden == name), competes, "{name}");
    }
    assert_eq!(made("competitors = \"none\"\nwords = [\"cup\"]"), (1, vec![]));
    assert_eq!(made("competitors = [\"mug\"]\nwords = [\"cup\"]"), (1, vec!["mug".to_owned()]));
}

#[test]
fn assembling_again_replaces_the_stand_in_and_keeps_its_identity() {
    let Some(packages) = packages("assembling again") else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("teacher");
    assemble(&packages, &class_names(), &output).unwrap();
    let id = Teacher::open(&output).unwrap().id().to_owned();
    assemble(&packages, &class_names(), &output).unwrap();
    assert_eq!(Teacher::open(&output).unwrap().id(), id);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    let (name, digits) = id.rsplit_once('-').unwrap();
    assert_eq!(name, "standin-efficientnet-lite2-minilm-l6");
    assert!(digits.len() == 12 && digits.chars().all(|digit| digit.is_ascii_hexdigit()), "{id}");
}

#[test]
fn other_peoples_directories_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    let error = assemble(Path::new("none"), &class_names(), folder.path()).unwrap_err();
    assert!(matches!(error, StandinError::Occupied { .. }), "{error}");
    assert!(folder.path().join("thesis.tex").exists());
}

#[test]
fn missing_packages_and_a_wrong_number_of_names_are_sentences() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("teacher");
    let error = assemble(folder.path(), &class_names(), &output).unwrap_err().to_string();
    assert!(error.contains("efficientnet-lite2.pth") && error.contains("make "), "{error}");
    let Some(packages) = packages("wrong number of names") else { return };
    let error = assemble(&packages, &["cat".to_owned()], &output).unwrap_err().to_string();
    assert!(error.contains("1000 classes") && error.contains("1 names"), "{error}");
    assert!(!output.exists());
}

#[test]
fn a_directory_that_is_no_teacher_names_the_missing_file_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let error = error_of(folder.path());
    assert!(error.contains("config.json") && error.contains("wordsight-distill teacher standin"), "{error}");
}

#[test]
fn damaged_files_are_named() {
    let Some(directory) = standin_directory("damaged files") else { return };
    let damages: [(&str, &[u8]); 6] = [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("preprocessor_config.json", b"{\"size\": {\"height\": 1, \"width\": 2}}"),
        ("tokenizer.json", b"{}"),
        ("onnx/text_model.onnx", b"not an onnx model"),
        ("onnx/vision_model.onnx", b""),
    ];
    for (file, bytes) in damages {
        let copy = copy_of(directory);
        replace(&copy, file, bytes);
        let error = error_of(copy.path());
        assert!(error.contains(file), "{file}: {error}");
    }
}

#[test]
fn swapped_models_are_noticed() {
    let Some(directory) = standin_directory("swapped models") else { return };
    let copy = copy_of(directory);
    let text = fs::read(directory.join("onnx/text_model.onnx")).unwrap();
    replace(&copy, "onnx/vision_model.onnx", &text);
    let error = error_of(copy.path());
    assert!(error.contains("vision_model.onnx") && error.contains("input"), "{error}");
}

#[test]
fn a_foreign_teacher_is_identified_by_its_files() {
    let Some(directory) = standin_directory("foreign identity") else { return };
    let copy = copy_of(directory);
    let config = br#"{"_name_or_path": "somebody/Some-CLIP", "model_type": "clip", "projection_dim": 384}"#;
    replace(&copy, "config.json", config);
    let id = Teacher::open(copy.path()).unwrap().id().to_owned();
    assert!(id.starts_with("some-clip-"), "{id}");
    let mut tokenizer = fs::read(directory.join("tokenizer.json")).unwrap();
    tokenizer.push(b'\n');
    replace(&copy, "tokenizer.json", &tokenizer);
    assert_ne!(Teacher::open(copy.path()).unwrap().id(), id);
}

/// Photographs with the number of their class.
fn sample(data: &Path, every: usize) -> Vec<(PathBuf, String)> {
    #[derive(Deserialize)]
    struct Photographs {
        photos: Vec<Photograph>,
    }
    #[derive(Deserialize)]
    struct Photograph {
        file: String,
        name: String,
    }
    let text = fs::read_to_string(data.join("imagenet.json")).unwrap();
    let all: Photographs = serde_json::from_str(&text).unwrap();
    all.photos.into_iter().step_by(every).map(|photo| (data.join(photo.file), photo.name)).collect()
}

/// The square that ImageNet's classifiers are tested on: 7/8 of the shorter side, in the middle.
fn middle_of(picture: &RgbImage) -> [f32; 4] {
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    let half = width.min(height) * 7.0 / 16.0;
    [width / 2.0 - half, height / 2.0 - half, width / 2.0 + half, height / 2.0 + half]
}

fn open(path: &Path) -> RgbImage {
    image::open(path).unwrap().to_rgb8()
}

/// Measured: 88 of 100 in the first place, 98 in the first five.
#[test]
fn photographs_find_their_word_among_all_thousand() {
    let test = "photographs through the text space";
    let (Some(directory), Some(data)) = (standin_directory(test), photographs(test)) else { return };
    let mut teacher = Teacher::open(directory).unwrap();
    let names = class_names();
    let named: Vec<(&str, &[String])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
    let embeddings = teacher.embed_words(&words::default_prompts(), &named).unwrap();
    let photographs = sample(&data, 9);
    let (mut first, mut first_five) = (0, 0);
    for (path, name) in &photographs {
        let picture = open(path);
        let image = teacher.embed_crops(&picture, &[middle_of(&picture)]).unwrap().remove(0);
        let scores: Vec<f32> = embeddings.iter().map(|text| dot(text, &image)).collect();
        // The collection and our list spell two classes differently ("crane", "maillot").
        let Some(truth) = names.iter().position(|own| own == name || own.starts_with(&format!("{name} ")))
        else {
            panic!("{name} is no class")
        };
        let better = scores.iter().filter(|&&score| score > scores[truth]).count();
        first += usize::from(better == 0);
        first_five += usize::from(better < 5);
    }
    tell(&format!("{test}: {first} first, {first_five} in five, of {}", photographs.len()));
    assert!(first * 100 >= 86 * photographs.len(), "{first} of {} in the first place", photographs.len());
    assert!(first_five * 100 >= 94 * photographs.len(), "{first_five} of {} in five", photographs.len());
}

/// Measured over 290 objects of at least 32x32 pixels: 37.2% in the first place of 80 words, 66.2% in the first
/// five; over the 85 of them that are large and not people: 47.1% and 82.4%.
#[test]
fn objects_of_a_collection_it_was_not_made_for_find_their_word() {
    let test = "COCO's objects through the text space";
    let (Some(directory), Some(data)) = (standin_directory(test), photographs(test)) else { return };
    let mut teacher = Teacher::open(directory).unwrap();
    let coco: Coco =
        serde_json::from_str(&fs::read_to_string(data.join("coco_tiny/instances.json")).unwrap()).unwrap();
    let named: Vec<(&str, &[String])> =
        coco.categories.iter().map(|category| (category.name.as_str(), &[][..])).collect();
    let texts = teacher.embed_words(&words::default_prompts(), &named).unwrap();
    let (mut all, mut large) = (Tally::default(), Tally::default());
    for photograph in &coco.images {
        let picture = open(&data.join("coco_tiny/images").join(&photograph.file_name));
        let objects: Vec<&Annotation> = coco.objects_of(photograph.id).collect();
        let boxes: Vec<[f32; 4]> = objects.iter().map(|object| object.corners()).collect();
        let crops = teacher.embed_crops(&picture, &boxes).unwrap();
        for (object, crop) in objects.iter().zip(&crops) {
            let truth =
                coco.categories.iter().position(|category| category.id == object.category_id).unwrap();
            let score = dot(&texts[truth], crop);
            let better = texts.iter().filter(|text| dot(text, crop) > score).count();
            all.count(better);
            if object.bbox[2] * object.bbox[3] > 96.0 * 96.0 && coco.categories[truth].name != "person" {
                large.count(better);
            }
        }
    }
    tell(&format!("{test}: all {all:?}, large and no people {large:?}"));
    assert!(
        large.first * 100 >= 43 * large.objects && large.first_five * 100 >= 78 * large.objects,
        "{large:?}"
    );
    assert!(all.first * 100 >= 33 * all.objects, "{all:?}");
}

#[derive(Debug, Default)]
struct Tally {
    objects: usize,
    first: usize,
    first_five: usize,
}

impl Tally {
    fn count(&mut self, better: usize) {
        self.objects += 1;
        self.first += usize::from(better == 0);
        self.first_five += usize::from(better < 5);
    }
}

#[derive(Deserialize)]
struct Coco {
    images: Vec<CocoImage>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct CocoImage {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u64,
    iscrowd: u8,
    /// x, y, width, height in pixels.
    bbox: [f32; 4],
}

impl Annotation {
    fn corners(&self) -> [f32; 4] {
        let [x, y, width, height] = self.bbox;
        [x, y, x + width, y + height]
    }
}

impl Coco {
    /// An image's annotated objects but crowds and those smaller than 32x32 pixels.
    fn objects_of(&self, image: u64) -> impl Iterator<Item = &Annotation> {
        let wanted = move |object: &&Annotation| {
            object.image_id == image && object.iscrowd == 0 && object.bbox[2] * object.bbox[3] >= 32.0 * 32.0
        };
        self.annotations.iter().filter(wanted)
    }
}
