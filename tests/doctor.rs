//! `wordsight doctor`: each thing is made wrong, and the doctor says what to do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::*;
use wordsight_board::fixtures::Board;

/// The doctor's findings on an Orin Nano with this folder's configuration, and its exit code.
fn doctor(bench: &Bench, configuration: &Path) -> (Vec<Value>, Option<i32>) {
    let mut command = wordsight(&["doctor", "--json", "--config", configuration.to_str().unwrap()]);
    let outcome = Outcome::of(command.env("WORDSIGHT_BOARD_ROOT", bench.path("orin")).output().unwrap());
    let findings: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"));
    (findings.as_array().unwrap().clone(), outcome.code)
}

fn orin() -> Bench {
    let bench = Bench::new();
    Board::OrinNano.write(&bench.path("orin")).unwrap();
    bench
}

/// What is wrong, and in which words.
fn wrong(findings: &[Value]) -> Vec<(&str, &str)> {
    let wrong = findings.iter().filter(|finding| finding["state"] == "wrong");
    wrong.map(|finding| (finding["about"].as_str().unwrap(), finding["found"].as_str().unwrap())).collect()
}

const WORKS: &str =
    "[engine]\nkind = \"onnxruntime\"\nthreads = 1\n[source]\nuri = \"test://ff0000?width=64&height=64\"\n";

#[test]
fn where_nothing_is_wrong_all_is_looked_at_and_the_exit_code_is_0() {
    let bench = orin();
    let (findings, code) = doctor(&bench, &bench.write_config(WORKS));
    assert_eq!((wrong(&findings), code), (vec![], Some(0)), "{findings:#?}");
    let found = |about: &str| {
        let finding = findings.iter().find(|finding| finding["about"] == about).unwrap();
        finding["found"].as_str().unwrap().to_owned()
    };
    assert!(
        found("student")
            .contains("64x64, of the teacher colours; run by ONNX Runtime on the processor (fp32)")
    );
    assert!(found("vocabulary").contains("3 words, which fit the student"));
    assert!(found("source").contains("opens") && found("releases").contains("JetPack 6.2"));
    assert_eq!(found("power mode"), "MAXN_SUPER");
}

#[test]
fn each_part_of_a_stream_that_does_not_work_is_named_and_the_others_are_still_looked_at() {
    let bench = orin();
    let config = bench.write_config(WORKS);
    fs::remove_file(bench.path("student.onnx")).unwrap();
    bench.write("words.safetensors", "nonsense");
    let source = "[engine]\nkind = \"onnxruntime\"\n[source]\nuri = \"missing.mjpeg\"\n";
    let (findings, code) = doctor(&bench, &bench.write_config(source));
    assert_eq!(code, Some(1));
    let about: Vec<&str> = wrong(&findings).iter().map(|(about, _)| *about).collect();
    assert_eq!(about, ["student", "vocabulary", "source"], "{findings:#?}");
    assert!(wrong(&findings)[2].1.contains("missing.mjpeg"));

    fs::write(&config, "studend = \"x\"\n").unwrap();
    let (findings, code) = doctor(&bench, &config);
    assert_eq!(code, Some(1));
    let [("configuration", told)] = wrong(&findings)[..] else { panic!("{findings:#?}") };
    assert!(told.contains("studend"), "{told}");
    assert!(findings.iter().any(|finding| finding["about"] == "clock"), "the rest is looked at");
}

#[test]
fn words_of_another_teacher_are_wrong_for_this_student() {
    let bench = orin();
    let mut other = vocabulary(&[("red", RED)]);
    other.teacher = "another".to_owned();
    other.save(&bench.path("words.safetensors")).unwrap();
    let (findings, _) = doctor(&bench, &bench.write_config(WORKS));
    let [("vocabulary", told)] = wrong(&findings)[..] else { panic!("{findings:#?}") };
    assert!(told.contains("does not fit the student") && told.contains("another"), "{told}");
}

#[test]
fn each_cameras_words_are_held_against_the_student_and_named() {
    let bench = orin();
    let mut other = vocabulary(&[("red", RED)]);
    other.teacher = "another".to_owned();
    other.save(&bench.path("other.safetensors")).unwrap();
    let cameras =
        "[[camera]]\nname = \"yard\"\n[[camera]]\nname = \"door\"\nvocabulary = \"other.safetensors\"\n";
    let (findings, code) = doctor(&bench, &bench.write_config(&format!("{WORKS}{cameras}")));
    let [("vocabulary", told)] = wrong(&findings)[..] else { panic!("{findings:#?}") };
    assert!(told.starts_with("camera door: ") && told.contains("does not fit the student"), "{told}");
    let fits = |finding: &&Value| finding["about"] == "vocabulary" && finding["state"] == "ok";
    let found = findings.iter().find(fits).unwrap()["found"].as_str().unwrap();
    assert!(found.starts_with("camera yard: ") && found.ends_with("which fit the student"), "{found}");
    assert_eq!(code, Some(1));
}

#[test]
fn cameras_that_were_asked_for_over_http_are_looked_at_as_the_service_runs_them() {
    let bench = orin();
    let cameras =
        "[[camera]]\nname = \"yard\"\n[[camera]]\nname = \"door\"\nvocabulary = \"missing.safetensors\"\n";
    let config = bench.write_config(&format!("{WORKS}{cameras}"));
    let folder = bench.path("orin/etc/wordsight");
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(config.parent().unwrap(), &folder).unwrap();
    let kept = bench.path("orin/var/lib/wordsight/chosen");
    fs::create_dir_all(&kept).unwrap();
    let chosen = r#"{"set": {"shed": "name = \"shed\"\nuri = \"test://00ff00?width=32&height=32\"\n"}, "removed": ["door"]}"#;
    fs::write(kept.join("cameras.json"), chosen).unwrap();
    let mut command = wordsight(&["doctor", "--json"]);
    let outcome = Outcome::of(command.env("WORDSIGHT_BOARD_ROOT", bench.path("orin")).output().unwrap());
    let findings: Vec<Value> =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"));
    assert_eq!((wrong(&findings), outcome.code), (vec![], Some(0)), "{findings:#?}");
    let found = |about: &str| -> Vec<&str> {
        let of = findings.iter().filter(|finding| finding["about"] == about);
        of.map(|finding| finding["found"].as_str().unwrap()).collect()
    };
    let told = "asked for: shed; taken away: door; DELETE /api/cameras takes it back";
    assert_eq!(found("cameras over HTTP"), [told]);
    let sources = found("source");
    assert!(
        sources.len() == 2 && sources[1].starts_with("camera shed: ") && sources[1].contains("32"),
        "{sources:?}"
    );
}

#[test]
fn the_table_has_a_line_for_each_and_says_what_to_do() {
    let bench = orin();
    fs::write(bench.path("orin/sys/class/hwmon/hwmon3/oc1_event_cnt"), "5\n").unwrap();
    let config = bench.write_config(WORKS);
    let mut command = wordsight(&["doctor", "--config", config.to_str().unwrap()]);
    let outcome = Outcome::of(command.env("WORDSIGHT_BOARD_ROOT", bench.path("orin")).output().unwrap());
    assert_eq!(outcome.code, Some(0), "a warning is nothing wrong: {outcome:?}");
    assert!(outcome.stdout.contains("ok           vocabulary:"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("warning      supply:"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("-> take a stronger supply"), "{}", outcome.stdout);
    assert!(outcome.stdout.lines().all(|line| line.chars().count() <= 100), "{}", outcome.stdout);
}
