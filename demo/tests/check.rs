//! `wordsight-demo check` as a process, on the clip's own truth and word files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn demo_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn truth() -> Value {
    serde_json::from_str(&std::fs::read_to_string(demo_file("clip.truth.json")).unwrap()).unwrap()
}

/// The lines that a device program would print which finds exactly what `keep(frame, object)` lets through.
fn lines(keep: impl Fn(u64, &Value) -> bool) -> String {
    let truth = truth();
    let mut lines = String::new();
    for frame in truth["frames"].as_array().unwrap() {
        let index = frame["frame"].as_u64().unwrap();
        let objects = frame["objects"].as_array().unwrap().iter().filter(|object| keep(index, object));
        let detections: Vec<_> = objects
            .map(|object| json!({"word": object["word"], "score": 0.5, "objectness": 0.9, "box_in_frame": object["box_in_frame"]}))
            .collect();
        lines += &json!({"source": "clip", "frame": index, "timestamp_ns": 1, "detections": detections})
            .to_string();
        lines.push('\n');
    }
    lines
}

fn check(lines: &str, vocabulary: &str) -> (Output, Value) {
    check_but(lines, vocabulary, &[])
}

fn check_but(lines: &str, vocabulary: &str, known_misses: &[&str]) -> (Output, Value) {
    let folder = tempfile::tempdir().unwrap();
    let (detections, report) = (folder.path().join("out.jsonl"), folder.path().join("report.json"));
    std::fs::write(&detections, lines).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wordsight-demo"))
        .args(["check", "--vocabulary", vocabulary, "--truth"])
        .arg(demo_file("clip.truth.json"))
        .arg("--detections")
        .arg(&detections)
        .arg("--json")
        .arg(&report)
        .args(known_misses.iter().flat_map(|shot| ["--known-misses", shot]))
        .output()
        .unwrap();
    let report =
        std::fs::read_to_string(&report).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    (output, report)
}

#[test]
fn finding_everything_passes_for_both_vocabularies() {
    for vocabulary in ["main", "other"] {
        let (output, report) = check(&lines(|_, object| object["vocabulary"] == vocabulary), vocabulary);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(report["passed"], true);
    }
}

#[test]
fn one_object_found_in_less_than_half_of_its_frames_fails_with_exit_code_1_and_its_line_says_so() {
    let seen =
        lines(|frame, object| object["vocabulary"] == "main" && (object["word"] != "dog" || frame % 3 == 0));
    let (output, report) = check(&seen, "main");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(report["passed"], false);
    let table = String::from_utf8(output.stdout).unwrap();
    let failing: Vec<_> = table.lines().filter(|line| line.contains("UNDER ONE HALF")).collect();
    assert!(failing.len() == 1 && failing[0].starts_with("dog"), "{table}");
}

#[test]
fn a_shot_that_is_known_to_be_missed_fails_nothing_and_one_that_isnt_there_is_named() {
    let seen = lines(|_, object| object["vocabulary"] == "main" && object["word"] != "dog");
    let (output, report) = check_but(&seen, "main", &["dog"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(report["passed"], true);
    assert!(String::from_utf8(output.stdout).unwrap().contains("under one half, as known"));

    let (output, _) = check_but(&seen, "main", &["cat", "dragon"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no shot \"dragon\""));
}

#[test]
fn lines_that_are_not_the_device_programs_fail_with_one_sentence() {
    let (output, _) = check("no json\n", "main");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.lines().count() == 1 && message.contains("line 1"), "{message}");
}

#[test]
fn every_word_of_the_truth_stands_in_its_word_file() {
    for (vocabulary, file) in [("main", "words.toml"), ("other", "other-words.toml")] {
        let text = std::fs::read_to_string(demo_file(file)).unwrap();
        let words: toml::Table = toml::from_str(&text).unwrap();
        let name = |word: &toml::Value| word.as_str().or_else(|| word["word"].as_str()).unwrap().to_owned();
        let known: BTreeSet<_> = words["words"].as_array().unwrap().iter().map(name).collect();
        let truth = truth();
        let objects =
            truth["frames"].as_array().unwrap().iter().flat_map(|frame| frame["objects"].as_array().unwrap());
        for object in objects.filter(|object| object["vocabulary"] == vocabulary) {
            assert!(known.contains(object["word"].as_str().unwrap()), "{object} is not in {file}");
        }
    }
}
