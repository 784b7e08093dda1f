//! `wordsight-demo check-photographs` as a process, and what lies in demo/photographs/, on the demo's own truth.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn demo_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn truth() -> Value {
    serde_json::from_str(&std::fs::read_to_string(demo_file("photographs.truth.json")).unwrap()).unwrap()
}

fn list<'a>(truth: &'a Value, name: &str) -> &'a Vec<Value> {
    truth[name].as_array().unwrap()
}

/// The lines of a device program that finds every object.
fn perfect_lines() -> String {
    let truth = truth();
    let word = |id: &Value| {
        list(&truth, "categories").iter().find(|category| category["id"] == *id).unwrap()["name"].clone()
    };
    let mut lines = String::new();
    for image in list(&truth, "images") {
        let objects = list(&truth, "annotations").iter().filter(|object| object["image_id"] == image["id"]);
        let detections: Vec<_> = objects
            .filter(|object| object["iscrowd"] == 0)
            .map(|object| {
                let [x, y, width, height] = [0, 1, 2, 3].map(|side| object["bbox"][side].as_f64().unwrap());
                json!({"word": word(&object["category_id"]), "score": 0.9, "box_in_frame": [x, y, x + width, y + height]})
            })
            .collect();
        let source = format!("demo/photographs/{}", image["file_name"].as_str().unwrap());
        lines += &json!({"source": source, "frame": 0, "detections": detections}).to_string();
        lines.push('\n');
    }
    lines
}

fn check(lines: &str) -> (Output, Value) {
    let folder = tempfile::tempdir().unwrap();
    let (detections, report) = (folder.path().join("out.jsonl"), folder.path().join("report.json"));
    std::fs::write(&detections, lines).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wordsight-demo"))
        .args(["check-photographs", "--truth"])
        .arg(demo_file("photographs.truth.json"))
        .arg("--detections")
        .arg(&detections)
        .arg("--json")
        .arg(&report)
        .output()
        .unwrap();
    let report =
        std::fs::read_to_string(&report).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    (output, report)
}

#[test]
fn finding_every_object_is_all_precision_and_all_recall() {
    let (output, report) = check(&perfect_lines());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!((&report["overall"]["precision"], &report["overall"]["recall"]), (&json!(1.0), &json!(1.0)));
    assert_eq!(report["photographs"], list(&truth(), "images").len());
}

#[test]
fn lines_that_are_not_of_the_photographs_fail_with_one_sentence() {
    let (output, _) = check("{\"source\": \"beach.jpg\", \"detections\": []}\n");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.lines().count() == 1 && message.contains("beach.jpg"), "{message}");
}

#[test]
fn the_truth_has_every_photograph_of_the_folder_at_its_size() {
    let truth = truth();
    let images = list(&truth, "images");
    let mut bytes = 0;
    let mut names = BTreeSet::new();
    for image in images {
        let path = demo_file("photographs").join(image["file_name"].as_str().unwrap());
        bytes += std::fs::metadata(&path).unwrap().len();
        let (width, height) = image::image_dimensions(&path).unwrap();
        assert_eq!(
            (&image["width"], &image["height"]),
            (&json!(width), &json!(height)),
            "{}",
            path.display()
        );
        names.insert(path);
    }
    let folder = std::fs::read_dir(demo_file("photographs")).unwrap().map(|entry| entry.unwrap().path());
    let jpegs: BTreeSet<_> =
        folder.filter(|path| path.extension().is_some_and(|ending| ending == "jpg")).collect();
    assert_eq!(jpegs, names);
    assert!(bytes <= 600_000, "the photographs are to stay small: {bytes} bytes");
}

#[test]
fn every_photograph_has_its_source_and_licence() {
    let sources = std::fs::read_to_string(demo_file("photographs/SOURCES.md")).unwrap();
    let notice = std::fs::read_to_string(demo_file("../NOTICE")).unwrap();
    for image in list(&truth(), "images") {
        let name = image["file_name"].as_str().unwrap();
        assert!(sources.contains(&format!("`{name}`")) && notice.contains(name), "{name}");
    }
}

#[test]
fn the_words_of_the_truth_are_those_of_the_word_file() {
    let text = std::fs::read_to_string(demo_file("photographs.toml")).unwrap();
    let words: toml::Table = toml::from_str(&text).unwrap();
    let name = |word: &toml::Value| word.as_str().or_else(|| word["word"].as_str()).unwrap().to_owned();
    let words: Vec<_> = words["words"].as_array().unwrap().iter().map(name).collect();
    let truth = truth();
    let categories: Vec<_> =
        list(&truth, "categories").iter().map(|category| category["name"].as_str().unwrap()).collect();
    assert_eq!(words, categories);
}
