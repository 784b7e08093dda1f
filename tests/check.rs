//! `wordsight check` and `wordsight config`: what a configuration is, before anything runs by it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use support::*;

fn ask(arguments: &[&str]) -> Outcome {
    Outcome::of(wordsight(arguments).output().unwrap())
}

#[test]
fn a_configuration_that_works_is_fine_part_by_part() {
    let bench = Bench::new();
    bench.write("clip.mjpeg", motion_jpeg(&[RED]));
    let config = bench.write_config("[source]\nuri = \"clip.mjpeg\"\n");
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!((outcome.code, outcome.stdout.matches("fine ").count()), (Some(0), 5), "{outcome:?}");
    for expected in ["64x64, 4 regions, teacher colours", "3 words, which the student understands"] {
        assert!(outcome.stdout.contains(expected), "{outcome:?}");
    }
    let outcome = ask(&["check", config.to_str().unwrap(), "--json"]);
    let checked: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&checked["is_fine"], checked["parts"].as_array().unwrap().len()), (&true.into(), 5));
}

#[test]
fn hidden_words_are_not_counted() {
    let bench = Bench::new();
    let hidden = [("green", GREEN), ("blue", BLUE)];
    write_vocabulary_hiding(&bench.path("words.safetensors"), &[("red", RED)], &hidden);
    let config = bench.write_config("[source]\nuri = \"test://bars\"\n");
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert!(outcome.stdout.contains(".safetensors: 1 words"), "{outcome:?}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_the_exit_code_of_the_worst() {
    let bench = Bench::new();
    let mut other = vocabulary(&[("red", RED)]);
    other.teacher = "somebody else".to_owned();
    other.save(&bench.path("words.safetensors")).unwrap();
    let config =
        bench.write_config("[source]\nuri = \"missing.mjpeg\"\n[publish]\njson = \"nowhere/out.jsonl\"\n");
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!((outcome.code, outcome.stdout.matches("WRONG").count()), (Some(2), 3), "{outcome:?}");
    for expected in ["somebody else", "missing.mjpeg", "nowhere/out.jsonl is not there"] {
        assert!(outcome.stdout.contains(expected), "{expected}: {outcome:?}");
    }
    std::fs::remove_file(bench.path("student.onnx")).unwrap();
    write_vocabulary(&bench.path("words.safetensors"), &[("red", RED)]);
    let config = bench.write_config("[source]\nuri = \"test://bars\"\n");
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(1), "a file that is not there: {outcome:?}");
}

#[test]
fn a_page_that_could_not_be_served_is_told_too() {
    let bench = Bench::new();
    let check = |http: &str| {
        let config = bench.write_config(&format!("[source]\nuri = \"test://bars\"\n[http]\n{http}"));
        ask(&["check", config.to_str().unwrap()])
    };
    let outcome = check("listen = \"127.0.0.1:8620\"\n");
    assert!(outcome.code == Some(0) && outcome.stdout.contains("http://127.0.0.1:8620/"), "{outcome:?}");
    bench.write("token", "short");
    let outcome = check("listen = \"0.0.0.0:8620\"\ntoken_file = \"token\"\n");
    assert!(outcome.code == Some(2) && outcome.stdout.contains("16 characters"), "{outcome:?}");
    let outcome = check("listen = \"127.0.0.1:8620\"\nvocabularies = \"nowhere\"\n");
    assert!(outcome.code == Some(1) && outcome.stdout.contains("nowhere is not there"), "{outcome:?}");
}

#[test]
fn a_configuration_with_a_wrong_key_is_told_with_what_was_meant() {
    let bench = Bench::new();
    let config = bench.write_config("[detection]\nscore_treshold = 0.5\n");
    let outcome = ask(&["check", config.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stdout.contains("did you mean `score_threshold`"), "{outcome:?}");
}

#[test]
fn what_holds_is_printed_as_a_configuration_that_means_the_same() {
    let bench = Bench::new();
    let config = bench.write_config(
        "[source]\nuri = \"test://bars\"\nfps = 5\n[[lines]]\nto = \"a.jsonl\"\n[[lines]]\nto = \"b.jsonl\"\nkeep = 1\n",
    );
    let first = ask(&["config", "--config", config.to_str().unwrap()]);
    assert!(first.stdout.contains("fps = 5  # of the file"), "{first:?}");
    let again = bench.write("again.toml", &first.stdout);
    let second = ask(&["config", "--config", again.to_str().unwrap(), "--json"]);
    let values: Value = serde_json::from_str(&second.stdout).unwrap();
    assert_eq!(values["source"]["fps"]["value"], 5);
    assert_eq!(
        (&values["lines"][1]["to"]["value"], values["lines"][1]["keep"]["value"].as_i64()),
        (&"b.jsonl".into(), Some(1))
    );
    assert_eq!(values["student"]["value"].as_str().unwrap(), bench.path("student.onnx").to_str().unwrap());
    assert_eq!(values["detection"]["nms_iou"]["from"], "file", "all that holds was printed");
}
