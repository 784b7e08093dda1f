//! What a user of one word sees in the demo's clip, with competitors and without, and what examples of it give.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use wordsight_detection::Vocabulary;
use wordsight_distill::eval::annotated::AnnotatedSet;
use wordsight_distill::eval::small_vocabularies::{Contender, Row, rows, table};
use wordsight_distill::eval::{examples, region_statistics};
use wordsight_engines::CpuEngine;

/// One frame of the clip out of so many.
const STEP: usize = 30;

/// One frame of the clip out of so many, and their marked boxes, in COCO's format; cats are a category, and dogs.
fn annotated_clip(folder: &Path, step: usize) -> AnnotatedSet {
    let truth: Value =
        serde_json::from_slice(&fs::read(support::checkout("demo/clip.truth.json")).unwrap()).unwrap();
    let truth = truth["frames"].as_array().unwrap().iter().step_by(step);
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for (id, (frame, truth)) in support::clip_frames(step).iter().zip(truth).enumerate() {
        let name = format!("{id}.png");
        frame.save(folder.join(&name)).unwrap();
        images.push(json!({ "id": id, "file_name": name, "width": 640, "height": 480 }));
        for object in truth["objects"].as_array().unwrap() {
            let category = ["cat", "dog"].iter().position(|name| object["word"] == *name);
            let (Some(category), "main") = (category, object["vocabulary"].as_str().unwrap()) else {
                continue;
            };
            let sides: Vec<f64> = object["box_in_frame"]
                .as_array()
                .unwrap()
                .iter()
                .map(|side| side.as_f64().unwrap())
                .collect();
            let (width, height) = (sides[2] - sides[0], sides[3] - sides[1]);
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": id, "category_id": category, "iscrowd": 0,
                "bbox": [sides[0], sides[1], width, height], "area": width * height,
            }));
        }
    }
    let categories = json!([{ "id": 0, "name": "cat" }, { "id": 1, "name": "dog" }]);
    let file = folder.join("annotations.json");
    let text = json!({ "images": images, "annotations": annotations, "categories": categories });
    fs::write(&file, text.to_string()).unwrap();
    AnnotatedSet::load(&file, folder).unwrap()
}

/// The demo's words, those named first and the others hidden or not there at all.
fn demo_words(shown: &[&str], hides_others: bool) -> Vocabulary {
    let all = Vocabulary::load(&support::checkout("demo/words.safetensors")).unwrap();
    let size = all.embedding_size;
    let mut part = Vocabulary { words: vec![], embeddings: vec![], ..all.clone() };
    for is_hidden in [false, true] {
        for (word, embedding) in all.shown().iter().zip(all.embeddings.chunks_exact(size)) {
            if shown.contains(&word.word.as_str()) != is_hidden && (hides_others || !is_hidden) {
                let mut word = word.clone();
                word.hidden = is_hidden;
                part.words.push(word);
                part.embeddings.extend(embedding);
            }
        }
    }
    part
}

fn rows_of(contenders: &[(&str, Vocabulary)], set: &AnnotatedSet) -> anyhow::Result<Vec<Row>> {
    let contenders: Vec<Contender> = contenders
        .iter()
        .map(|(name, vocabulary)| Contender { name: (*name).to_owned(), vocabulary: vocabulary.clone() })
        .collect();
    rows(CpuEngine::open(&support::checkout("demo/student.onnx"), 0).unwrap(), &contenders, set)
}

#[test]
fn competitors_keep_other_things_from_being_the_only_word() {
    if support::needed(".deps/onnxruntime", "run `make deps` first").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let set = annotated_clip(folder.path(), STEP);
    let vocabularies = [
        ("alone", demo_words(&["cat"], false)),
        ("beside hidden words", demo_words(&["cat"], true)),
        ("all shown", demo_words(&["cat", "drum"], true)),
    ];
    let rows = rows_of(&vocabularies, &set).unwrap();
    let [alone, beside, two] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(alone.objects > 0 && alone.objects == beside.objects);
    assert_eq!((alone.words, alone.competitors, beside.words, beside.competitors), (1, 0, 1, 11));
    assert!(beside.default.precision > alone.default.precision, "{:?}, {:?}", beside.default, alone.default);
    assert!(beside.default.right > 0 && beside.default.right == alone.default.right);
    assert!(two.not_judged > 0 && two.annotated_words == 1, "there are drums, and nobody annotated them");
    let text = table(&rows);
    assert!(text.contains("alone") && text.contains("1 of the words aren't annotated"), "{text}");
}

#[test]
fn words_that_nobody_annotated_are_refused() {
    if support::needed(".deps/onnxruntime", "run `make deps` first").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let set = annotated_clip(folder.path(), STEP);
    let error = rows_of(&[("drums", demo_words(&["drum"], true))], &set).unwrap_err().to_string();
    assert!(error.contains("drums") && error.contains("cat"), "{error}");
}

#[test]
fn examples_name_what_they_show_and_statistics_are_those_of_the_students_regions() {
    if support::needed(".deps/onnxruntime", "run `make deps` first").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let set = annotated_clip(folder.path(), 2);
    let (student, vocabulary) = (support::checkout("demo/student.onnx"), demo_words(&["cat", "dog"], false));
    let report = examples::evaluate(&student, &vocabulary, (&set, &set), &[1, 2], 1).unwrap();
    assert_eq!((report.words, report.rows.len()), (2, 2), "{report:?}");
    // Two words, of things that are in the clip again and again.
    for row in &report.rows {
        assert!(row.alone.words > 0.6 && row.both.words > 0.6, "{report:?}");
    }
    let text = examples::table(&report);
    assert!(text.contains("mean over 2 words"), "{text}");
    let error = examples::evaluate(&student, &vocabulary, (&set, &set), &[10_000], 1).unwrap_err();
    assert!(error.to_string().contains("no word has 10000 examples"), "{error}");

    let pictures: Vec<_> = set.files().iter().map(|file| file.path.clone()).collect();
    let mut engine = CpuEngine::open(&student, 0).unwrap();
    let measured = region_statistics::measure_regions(&mut engine, &pictures).unwrap();
    let known = wordsight_engines::Engine::facts(&engine).region_statistics.clone().unwrap();
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    // Few frames, of drawn-together photographs.
    assert!(cosine(&measured.text_mean, &known.text_mean) > 0.95);
    assert!((measured.spread / known.spread - 1.0).abs() < 0.3, "{} {}", measured.spread, known.spread);
}
