//! OWL-ViT and OWLv2 of six sizes, imported, against transformers' processors, models and post-processing.
//!
//! The models are small and have random weights; `distill/tests/reference_owl.py` has made them and what is expected.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::SafeTensors;
use serde_json::Value;
use wordsight_detection::{DetectionSettings, Preprocessor, Scorer, Vocabulary, Word};
use wordsight_distill::embed::Embedded;
use wordsight_distill::owl::{ImportSettings, Imported, import};
use wordsight_engines::{CpuEngine, Engine, Regions};
use wordsight_onnx::proto::{ModelProto, NodeProto, StringStringEntryProto};
use wordsight_teacher::{EmbedCaptions, TextTeacher};

const MODELS: [&str; 6] = ["owlvit-a", "owlvit-b", "owlvit-c", "owlv2-a", "owlv2-b", "owlv2-c"];

fn fixtures() -> PathBuf {
    support::checkout("distill/tests/fixtures/owl")
}

/// What an import has written.
struct Made {
    student: PathBuf,
    teacher: PathBuf,
    imported: Imported,
}

fn imported(source: &Path, folder: &Path) -> anyhow::Result<Made> {
    let (student, teacher) = (folder.join("student.onnx"), folder.join("teacher"));
    let settings =
        ImportSettings { student: &student, teacher: &teacher, name: None, objectness_weight: 0.0 };
    let imported = import(source, &settings)?;
    Ok(Made { student, teacher, imported })
}

/// The words, their captions and the pictures that transformers was given.
fn asked() -> [Vec<String>; 3] {
    let text = fs::read_to_string(fixtures().join("expected/words.json")).unwrap();
    let asked: Value = serde_json::from_str(&text).unwrap();
    ["words", "captions", "images"].map(|key| serde_json::from_value(asked[key].clone()).unwrap())
}

struct Expected(Vec<u8>);

impl Expected {
    fn of(model: &str) -> Self {
        Self(fs::read(fixtures().join(format!("expected/{model}.safetensors"))).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let data = tensors.tensor(name).unwrap();
        data.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

/// Every region by its best word, whatever its score, as transformers gives them.
const EVERY_REGION: DetectionSettings = DetectionSettings {
    score_threshold: 0.0,
    nms_iou: 1.0,
    voting_iou: 1.0,
    max_detections: usize::MAX,
    words_per_region: 1,
    weak_fraction: 1.0,
};

fn vocabulary(teacher: &mut TextTeacher, words: &[String], captions: &[String]) -> Vocabulary {
    let embeddings = teacher.embed_texts(captions).unwrap();
    Vocabulary {
        teacher: teacher.id().to_owned(),
        student: None,
        words: words.iter().map(Word::new).collect(),
        prompts: vec!["{}".to_owned()],
        embedding_size: embeddings[0].len(),
        embeddings: embeddings.concat(),
    }
}

fn clipped([left, top, right, bottom]: [f32; 4], (width, height): (f32, f32)) -> [f32; 4] {
    [left.clamp(0.0, width), top.clamp(0.0, height), right.clamp(0.0, width), bottom.clamp(0.0, height)]
}

/// The largest differences of scores and of boxes (as a share of the photograph's longer side).
fn differences(made: &Made, model: &str) -> (f32, f32) {
    let [words, captions, images] = asked();
    let expected = Expected::of(model);
    let mut teacher = TextTeacher::open(&made.teacher).unwrap();
    let vocabulary = vocabulary(&mut teacher, &words, &captions);
    let of_texts = largest(&vocabulary.embeddings, &expected.floats("text_embeddings"));
    assert!(of_texts < 1e-5, "{model}: text embeddings are off by {of_texts}");

    let mut engine = CpuEngine::open(&made.student, 1).unwrap();
    let facts = engine.facts().clone();
    let mut scorer = Scorer::new(&vocabulary, &facts.scores, facts.objectness_weight).unwrap();
    let mut preprocessor = Preprocessor::new(facts.resize);
    let (mut input, mut regions) = (vec![0; preprocessor.output_len()], Regions::default());
    let (mut found, mut worst) = (Vec::new(), (0.0_f32, 0.0_f32));
    for image in &images {
        let picture = image::open(fixtures().join(format!("images/{image}.png"))).unwrap().to_rgb8();
        let size = (picture.width() as usize, picture.height() as usize);
        let letterbox = preprocessor.run(picture.as_raw(), size.0, size.1, &mut input);
        engine.infer(&input, &mut regions).unwrap();
        scorer.detect(regions.view(), &EVERY_REGION, &mut found);
        assert_eq!(found.len(), facts.proposals);
        let frame = (size.0 as f32, size.1 as f32);
        let boxes = expected.floats(&format!("boxes_{image}"));
        let scores = expected.floats(&format!("scores_{image}"));
        let labels = expected.floats(&format!("labels_{image}"));
        for ((wanted, score), label) in boxes.as_chunks().0.iter().zip(&scores).zip(&labels) {
            let wanted = clipped(*wanted, frame);
            // Of the best 64 some stand in another order here, by differences in the last digits.
            let nearest = found.iter().filter(|found| found.word as f32 == *label).map(|found| {
                let here = letterbox.box_in_frame_from_input(found.box_in_input);
                (largest(&here, &wanted) / frame.0.max(frame.1), (found.score - score).abs())
            });
            let (of_box, of_score) = nearest.min_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1))).unwrap();
            worst = (worst.0.max(of_score), worst.1.max(of_box));
        }
    }
    worst
}

fn largest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn an_imported_model_finds_what_transformers_finds() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    for model in MODELS {
        let folder = tempfile::tempdir().unwrap();
        let made = imported(&fixtures().join(model), folder.path()).unwrap();
        let (of_scores, of_boxes) = differences(&made, model);
        println!("{model}: scores within {of_scores:.1e}, boxes within {of_boxes:.1e}");
        assert!(of_scores < 1e-4 && of_boxes < 1e-4, "{model}: {of_scores} {of_boxes}");
    }
}

#[test]
fn a_photograph_becomes_the_processors_bytes() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    for model in ["owlvit-a", "owlv2-a"] {
        let folder = tempfile::tempdir().unwrap();
        let made = imported(&fixtures().join(model), folder.path()).unwrap();
        let [_, _, images] = asked();
        let picture = image::open(fixtures().join(format!("images/{}.png", images[0]))).unwrap().to_rgb8();
        let resize = CpuEngine::open(&made.student, 1).unwrap().facts().resize;
        let mut input = vec![0; resize.input_len()];
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        Preprocessor::new(resize).run(picture.as_raw(), width, height, &mut input);
        let pixels = Expected::of(model).floats("pixel_values");
        let config = fs::read_to_string(fixtures().join(model).join("preprocessor_config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        let number = |key: &str, channel: usize| config[key][channel].as_f64().unwrap();
        let plane = pixels.len() / 3;
        let others = pixels.iter().zip(&input).enumerate().filter(|(at, (pixel, byte))| {
            let (deviation, mean) = (number("image_std", at / plane), number("image_mean", at / plane));
            let level = (f64::from(**pixel) * deviation + mean) * 255.0;
            (level - f64::from(**byte)).abs() > 0.01
        });
        assert_eq!(others.count(), 0, "{model}, of {}", input.len());
    }
}

#[test]
fn two_graphs_are_imported_as_the_one_is() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    let folder = tempfile::tempdir().unwrap();
    let made = imported(&fixtures().join("owlvit-b-two"), folder.path()).unwrap();
    let Imported { regions, input_size, .. } = made.imported;
    assert_eq!((regions, input_size), (49, (98, 98)));
    let (of_scores, of_boxes) = differences(&made, "owlvit-b");
    assert!(of_scores < 1e-4 && of_boxes < 1e-4, "{of_scores} {of_boxes}");
}

/// COCO's 80 words over ten photographs, whose objects were made from a part of the model's detections.
#[test]
fn the_table_of_80_words_is_that_of_pycocotools_over_transformers_detections() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    for model in ["owlvit-a", "owlv2-a"] {
        let folder = tempfile::tempdir().unwrap();
        let made = imported(&fixtures().join(model), folder.path()).unwrap();
        let annotations = fixtures().join(format!("eval/{model}/annotations.json"));
        let of_file: Value = serde_json::from_str(&fs::read_to_string(&annotations).unwrap()).unwrap();
        let names =
            of_file["categories"].as_array().unwrap().iter().map(|category| category["name"].as_str());
        let names: Vec<String> = names.map(|name| name.unwrap().to_owned()).collect();
        let captions: Vec<String> = names.iter().map(|name| format!("a photo of a {name}")).collect();
        let mut teacher = TextTeacher::open(&made.teacher).unwrap();
        let words = folder.path().join("coco.safetensors");
        vocabulary(&mut teacher, &names, &captions).save(&words).unwrap();
        let json = folder.path().join("figures.json");
        let done = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"))
            .arg("eval")
            .args(["--words-per-region", "1", "--nms-iou", "1", "--max-detections", "100"])
            .args([Path::new("--student"), &made.student, Path::new("--vocabulary"), &words])
            .args([Path::new("--annotations"), &annotations, Path::new("--json"), &json])
            .args([Path::new("--images"), &fixtures().join("images")])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let found: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        let expected = fs::read_to_string(fixtures().join(format!("eval/{model}/expected.json"))).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        // The table has recall at COCO's largest number of detections alone.
        let wanted =
            expected.as_object().unwrap().iter().filter(|(key, _)| !["AR1", "AR10"].contains(&key.as_str()));
        for (key, wanted) in wanted {
            let found = found["rows"][0]["all"][key].as_f64();
            assert!(
                found.is_some_and(|found| (found - wanted.as_f64().unwrap()).abs() < 1e-6),
                "{model} {key}: {found:?}, pycocotools has {wanted}"
            );
        }
    }
}

/// A copy of an export with another graph.
fn changed(model: &str, folder: &Path, change: impl FnOnce(&mut ModelProto)) -> PathBuf {
    let copy = folder.join("export");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(fixtures().join(model)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let path = copy.join("model.onnx");
    let mut graph = wordsight_onnx::read(&path).unwrap();
    change(&mut graph);
    wordsight_onnx::write(&graph, &path).unwrap();
    copy
}

fn refusal(change: impl FnOnce(&mut ModelProto)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let export = changed("owlvit-b", folder.path(), change);
    let error = imported(&export, folder.path()).err().expect("it is refused");
    assert!(!folder.path().join("student.onnx").exists() && !folder.path().join("teacher").exists());
    format!("{error:#}")
}

fn node_of<'a>(model: &'a mut ModelProto, operator: &str) -> &'a mut NodeProto {
    let nodes = &mut model.graph.as_mut().unwrap().node;
    nodes.iter_mut().rev().find(|node| node.op_type == operator).unwrap()
}

#[test]
fn what_is_no_such_export_is_refused_in_a_sentence() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    let of_operator_set_9 = refusal(|model| model.opset_import[0].version = 9);
    assert!(
        of_operator_set_9.contains("operator set 9") && of_operator_set_9.contains("--opset 17"),
        "{of_operator_set_9}"
    );

    let optimised = refusal(|model| node_of(model, "Einsum").domain = "com.microsoft".to_owned());
    assert!(optimised.contains("com.microsoft") && optimised.contains("TensorRT"), "{optimised}");

    let missing = refusal(|model| {
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.retain(|constant| !constant.name.contains("class_head.dense0"));
    });
    assert!(missing.contains("class_head.dense0") && missing.contains("nothing makes it"), "{missing}");

    // Another arithmetic behind the product.
    let otherwise = refusal(|model| node_of(model, "Where").op_type = "Softmax".to_owned());
    assert!(otherwise.contains("`Softmax`") && otherwise.contains("a shift and a scale"), "{otherwise}");

    // The same structure, of which one operand is exchanged: found only by running both.
    let exchanged = refusal(|model| {
        let graph = model.graph.as_mut().unwrap();
        graph.output.retain(|output| output.name != "pred_boxes");
        let node = graph.node.iter_mut().find(|node| node.output[0] == "pred_boxes").unwrap();
        node.output[0] = "elsewhere".to_owned();
    });
    assert!(exchanged.contains("no output `pred_boxes`"), "{exchanged}");

    let folder = tempfile::tempdir().unwrap();
    let export = changed("owlvit-b", folder.path(), |_| ());
    let bytes = fs::read(export.join("model.onnx")).unwrap();
    fs::write(export.join("model.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    let torn = format!("{:#}", imported(&export, folder.path()).err().unwrap());
    assert!(torn.contains("model.onnx is not an ONNX model"), "{torn}");
    fs::write(export.join("config.json"), r#"{"model_type": "clip"}"#).unwrap();
    let other = format!("{:#}", imported(&export, folder.path()).err().unwrap());
    assert!(other.contains("\"clip\"") && other.contains("owlv2"), "{other}");
    let config = fs::read_to_string(fixtures().join("owlvit-b/config.json")).unwrap();
    fs::write(export.join("config.json"), config.replace("\"owlvit\"", "\"owlv2\"")).unwrap();
    let mixed = format!("{:#}", imported(&export, folder.path()).err().unwrap());
    assert!(mixed.contains("is of an owlvit") && mixed.contains("`owlv2`"), "{mixed}");
    fs::remove_file(export.join("preprocessor_config.json")).unwrap();
    fs::copy(fixtures().join("owlvit-b/config.json"), export.join("config.json")).unwrap();
    let without = format!("{:#}", imported(&export, folder.path()).err().unwrap());
    assert!(without.contains("preprocessor_config.json"), "{without}");
}

#[test]
fn a_text_tower_of_another_size_is_refused() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    let folder = tempfile::tempdir().unwrap();
    let other = imported(&fixtures().join("owlv2-a"), folder.path()).unwrap();
    let export = folder.path().join("mixed");
    fs::create_dir(&export).unwrap();
    for file in ["config.json", "preprocessor_config.json", "tokenizer.json", "image_encoder.onnx"] {
        fs::copy(fixtures().join("owlvit-b-two").join(file), export.join(file)).unwrap();
    }
    fs::copy(other.teacher.join("onnx/text_model.onnx"), export.join("text_encoder.onnx")).unwrap();
    let again = tempfile::tempdir().unwrap();
    let refused = format!("{:#}", imported(&export, again.path()).err().unwrap());
    assert!(refused.contains("20 numbers and the image's 16"), "{refused}");
}

#[test]
fn weights_beside_the_graph_are_read_and_missed() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut weights = Vec::new();
    let export = changed("owlvit-b", folder.path(), |model| {
        for constant in &mut model.graph.as_mut().unwrap().initializer {
            if constant.raw_data.len() < 64 {
                continue;
            }
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
            constant.external_data = vec![
                entry("location", "model.onnx_data".to_owned()),
                entry("offset", weights.len().to_string()),
                entry("length", constant.raw_data.len().to_string()),
            ];
            constant.data_location = Some(1);
            weights.append(&mut constant.raw_data);
        }
    });
    let refused = format!("{:#}", imported(&export, folder.path()).err().unwrap());
    assert!(refused.contains("model.onnx_data") && refused.contains("comes with the export"), "{refused}");
    fs::write(export.join("model.onnx_data"), &weights[..weights.len() - 1]).unwrap();
    let refused = format!("{:#}", imported(&export, folder.path()).err().unwrap());
    assert!(refused.contains("ends before them"), "{refused}");
    fs::write(export.join("model.onnx_data"), &weights).unwrap();
    let made = imported(&export, folder.path()).unwrap();
    let (of_scores, of_boxes) = differences(&made, "owlvit-b");
    assert!(of_scores < 1e-4 && of_boxes < 1e-4, "{of_scores} {of_boxes}");
    // A second import takes the place of the first; nothing else is replaced.
    imported(&export, folder.path()).unwrap();
    fs::write(made.teacher.join("config.json"), "{}").unwrap();
    let refused = format!("{:#}", imported(&export, folder.path()).err().unwrap());
    assert!(refused.contains("teacher"), "{refused}");
}

fn distill(arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_wordsight-distill")).args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{arguments:?}: {told}");
    told.into_owned()
}

/// An imported model, and a vocabulary of two words.
fn labeller(folder: &Path) -> (Made, PathBuf) {
    let made = imported(&fixtures().join("owlvit-a"), folder).unwrap();
    let mut teacher = TextTeacher::open(&made.teacher).unwrap();
    let [words, captions, _] = asked();
    let path = folder.join("words.safetensors");
    vocabulary(&mut teacher, &words[..2], &captions[..2]).save(&path).unwrap();
    (made, path)
}

#[test]
fn an_imported_model_labels_photographs_in_parts_as_at_once() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (made, words) = labeller(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let images = fixtures().join("images").to_str().unwrap().to_owned();
    let (student, words) = (made.student.to_str().unwrap(), words.to_str().unwrap());
    let label = |more: &[&str]| {
        let given =
            ["label", "--student", student, "--vocabulary", words, "--images", &images, "--object", "0.6"];
        distill(&[&given[..], more].concat())
    };
    label(&["-o", &path("at-once.json")]);
    for shard in ["2/3", "1/3", "3/3"] {
        label(&["--answers", &path("answers"), "--shard", shard]);
    }
    assert!(distill(&["merge", &path("answers")]).contains("10 rows"));
    label(&["--answers", &path("answers"), "-o", &path("in-parts.json")]);
    let read = |name: &str| fs::read_to_string(path(name)).unwrap();
    assert!(read("in-parts.json") == read("at-once.json"), "in parts and at once");
    let found: Value = serde_json::from_str(&read("at-once.json")).unwrap();
    let annotations = found["annotations"].as_array().unwrap();
    let sure = annotations.iter().filter(|annotation| annotation.get("ignore").is_none());
    assert!(annotations.len() > 20 && sure.clone().count() > 5, "{}", annotations.len());
    assert!(
        sure.clone()
            .all(|annotation| annotation["score"].as_f64() >= Some(0.6) && annotation["source"] == "student")
    );
    // The same for people's tools.
    label(&["--answers", &path("answers"), "--format", "cvat", "-o", &path("all.xml")]);
    assert_eq!(read("all.xml").matches("<box ").count(), annotations.len());
    label(&["--answers", &path("answers"), "--format", "yolo", "-o", &path("yolo")]);
    let lines = fs::read_dir(path("yolo/labels")).unwrap();
    let lines = lines.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap().lines().count());
    assert_eq!(lines.sum::<usize>(), sure.count());
}

#[test]
fn a_student_s_regions_teach_in_the_place_of_crops() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (made, _) = labeller(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let images = fixtures().join("images").to_str().unwrap().to_owned();
    let annotations = fixtures().join("eval/owlvit-a/annotations.json").to_str().unwrap().to_owned();
    let student = made.student.to_str().unwrap();
    let proposals = path("proposals");
    distill(&[
        "proposals",
        "--annotations",
        &annotations,
        "--images",
        &images,
        "--student",
        student,
        "--per-image",
        "6",
        "-o",
        &proposals,
    ]);
    distill(&[
        "embed",
        "--proposals",
        &proposals,
        "--images",
        &images,
        "--from-student",
        student,
        "-o",
        &path("embeddings"),
    ]);
    let embedded = Embedded::open(Path::new(&path("embeddings"))).unwrap();
    assert_eq!((embedded.images(), embedded.teacher()), (10, made.imported.teacher.as_str()));
    let mut seen = 0;
    for image in 0..embedded.images() {
        for (place, sides) in embedded.boxes_in_image(image).into_iter().enumerate() {
            let length = embedded.embedding(image, place).iter().map(|x| x * x).sum::<f32>().sqrt();
            let is_box = sides[2] > sides[0] && sides[3] > sides[1];
            // Its own region overlaps it wholly.
            assert!((length - f32::from(u8::from(is_box))).abs() < 1e-2, "{sides:?} {length}");
            seen += usize::from(is_box);
        }
    }
    assert!(seen > 20, "{seen}");
}

/// A word's boxes in a file of annotations: image, category, box and score, in this order.
fn boxes_of(path: &Path) -> Vec<[f64; 7]> {
    let labels: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    let mut boxes: Vec<[f64; 7]> = labels["annotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|annotation| {
            let [x, y, width, height] = [0, 1, 2, 3].map(|side| number(&annotation["bbox"][side]));
            let [image, category, score] =
                ["image_id", "category_id", "score"].map(|key| number(&annotation[key]));
            [image, category, x, y, width, height, score]
        })
        .collect();
    boxes.sort_by(|a, b| a.partial_cmp(b).unwrap());
    boxes
}

#[test]
fn a_gpu_labels_as_the_processor_does_or_says_what_it_lacks() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (made, words) = labeller(folder.path());
    let label = |device: &str| {
        let done = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"))
            .args([Path::new("label"), Path::new("--student"), &made.student])
            .args([Path::new("--vocabulary"), &words, Path::new("--images"), &fixtures().join("images")])
            .args(["--device", device, "--object", "0.6", "-o"])
            .arg(folder.path().join(device))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        done.status.success().then(|| boxes_of(&folder.path().join(device))).ok_or(told)
    };
    let on_processor = label("cpu").unwrap();
    assert!(!on_processor.is_empty());
    match label("cuda") {
        Ok(on_gpu) => {
            assert_eq!(on_gpu.len(), on_processor.len());
            // Pixels and scores; products of matrices have ten bits of fraction there (TF32).
            for (gpu, processor) in on_gpu.iter().flatten().zip(on_processor.iter().flatten()) {
                assert!((gpu - processor).abs() < 0.5, "{on_gpu:?} beside {on_processor:?}");
            }
        }
        Err(told) => {
            assert!(told.contains("no CUDA provider") && told.contains("onnxruntime-gpu"), "{told}");
            support::skipping::skip_anywhere("SKIPPED: labels of a GPU: there is no ONNX Runtime with CUDA");
        }
    }
}

/// The device program that lies beside the host program, with the feature of a subcommand; nothing, said aloud, where it
/// doesn't.
fn wordsight(subcommand: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_wordsight-distill")).with_file_name("wordsight");
    let has_it =
        Command::new(&path).args([subcommand, "--help"]).output().is_ok_and(|done| done.status.success());
    if !has_it {
        support::skipping::skip(
            "a test of imported models on the device",
            &format!("{} has no `{subcommand}`", path.display()),
            "`cargo build --features tensorrt`",
        );
    }
    has_it.then_some(path)
}

#[test]
fn the_device_program_finds_what_transformers_finds() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    let Some(program) = wordsight("detect") else { return };
    for model in ["owlvit-a", "owlv2-a"] {
        let folder = tempfile::tempdir().unwrap();
        let made = imported(&fixtures().join(model), folder.path()).unwrap();
        let [words, captions, images] = asked();
        let mut teacher = TextTeacher::open(&made.teacher).unwrap();
        let list = folder.path().join("words.safetensors");
        vocabulary(&mut teacher, &words, &captions).save(&list).unwrap();
        let expected = Expected::of(model);
        for image in &images {
            let scores = expected.floats(&format!("scores_{image}"));
            // Those above the best 30: few enough that all of them are among the 64 that are known.
            let threshold = (scores[29] + scores[30]) / 2.0;
            let done = Command::new(&program)
                .arg("detect")
                .arg(fixtures().join(format!("images/{image}.png")))
                .args([Path::new("--student"), &made.student, Path::new("--vocabulary"), &list])
                .args([
                    "--nms-iou",
                    "1",
                    "--max-detections",
                    "100",
                    "--score-threshold",
                    &threshold.to_string(),
                ])
                .args(["--engine", "onnxruntime", "--json", "-"])
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let found: Value = serde_json::from_slice(&done.stdout).unwrap();
            let found: Vec<(f32, [f32; 4])> = found["detections"]
                .as_array()
                .unwrap()
                .iter()
                .map(|found| {
                    let sides = serde_json::from_value(found["box_in_frame"].clone()).unwrap();
                    (found["score"].as_f64().unwrap() as f32, sides)
                })
                .collect();
            let boxes = expected.floats(&format!("boxes_{image}"));
            let picture = image::open(fixtures().join(format!("images/{image}.png"))).unwrap();
            let frame = (picture.width() as f32, picture.height() as f32);
            // What lies in the padding alone isn't told.
            let has_area = |[left, top, right, bottom]: [f32; 4]| right > left && bottom > top;
            let known = boxes.as_chunks().0.iter().map(|sides| clipped(*sides, frame)).zip(&scores).take(30);
            let known: Vec<([f32; 4], &f32)> = known.filter(|(sides, _)| has_area(*sides)).collect();
            assert_eq!(found.len(), known.len(), "{model} {image}");
            for ((score, sides), (known, known_score)) in found.iter().zip(known) {
                // Scores are told to four digits, boxes to hundredths of a pixel.
                let differences = ((score - known_score).abs(), largest(sides, &known));
                assert!(differences.0 < 1e-4 && differences.1 < 0.02, "{model} {image}: {differences:?}");
            }
        }
    }
}

#[test]
fn imported_models_become_plans_in_fp16() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    let Some(libraries) = support::needed(".deps/tensorrt/lib", "make tensorrt") else { return };
    let Some(program) = wordsight("plan") else { return };
    for model in ["owlvit-c", "owlv2-b"] {
        let folder = tempfile::tempdir().unwrap();
        let made = imported(&fixtures().join(model), folder.path()).unwrap();
        let done = Command::new(&program)
            .args(["plan", "build", made.student.to_str().unwrap(), "--target", "89", "--json", "--tensorrt"])
            .arg(&libraries)
            .env("STATE_DIRECTORY", folder.path().join("state"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let built: Value = serde_json::from_slice(&done.stdout).unwrap();
        let manifest = &built["manifest"];
        assert_eq!(manifest["key"]["precision"], "fp16", "{model}");
        let outputs =
            manifest["outputs"].as_array().unwrap().iter().map(|port| port["name"].as_str().unwrap());
        let outputs: Vec<&str> = outputs.collect();
        assert_eq!(outputs, ["boxes", "text_embeddings", "logit_shift", "logit_scale"]);
    }
}

#[test]
fn values_that_no_model_has_are_named_by_their_file() {
    let Some(_) = support::needed(".deps/onnxruntime", "make deps") else { return };
    let folder = tempfile::tempdir().unwrap();
    let export = changed("owlvit-b", folder.path(), |_| ());
    let refused = |file: &str, change: &dyn Fn(&mut Value)| {
        let path = export.join(file);
        let before = fs::read_to_string(&path).unwrap();
        let mut value: Value = serde_json::from_str(&before).unwrap();
        change(&mut value);
        fs::write(&path, value.to_string()).unwrap();
        let told = format!("{:#}", imported(&export, folder.path()).err().expect("it is refused"));
        fs::write(&path, before).unwrap();
        assert!(!folder.path().join("student.onnx").exists() && !folder.path().join("teacher").exists());
        assert!(told.contains(file), "{told}");
        told
    };
    let preprocessor = "preprocessor_config.json";
    refused(preprocessor, &|value| value["rescale_factor"] = 0.into());
    refused(preprocessor, &|value| value["image_std"] = serde_json::json!([0.2, 0.0, 0.2]));
    refused(preprocessor, &|value| value["do_resize"] = false.into());
    refused(preprocessor, &|value| value["size"] = serde_json::json!({"height": 0, "width": 98}));
    let told =
        refused(preprocessor, &|value| value["size"] = serde_json::json!({"height": 112, "width": 112}));
    assert!(told.contains("112x112"), "{told}");
    refused("config.json", &|value| value["text_config"]["max_position_embeddings"] = 1_000_000_000.into());
    refused("config.json", &|value| value["text_config"]["max_position_embeddings"] = 17.into());
    fs::remove_file(export.join("config.json")).unwrap();
    assert!(Command::new("mkfifo").arg(export.join("config.json")).status().unwrap().success());
    let told = format!("{:#}", imported(&export, folder.path()).err().unwrap());
    assert!(told.contains("it is a pipe"), "{told}");
}
