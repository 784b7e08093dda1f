//! Wrong input to the host program: one sentence that says what to do, and no panic.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::process::{Command, Output};

fn distill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wordsight-distill")).args(arguments).output().unwrap()
}

/// Asserts a failure told in one line that contains all of `parts`.
fn assert_told(output: &Output, code: i32, parts: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(!told.contains("panicked") && !told.contains("stack backtrace"), "{told}");
    for part in parts {
        assert!(told.contains(part), "{told:?} does not say {part:?}");
    }
}

#[test]
fn an_unknown_command_is_bad_usage() {
    assert_told(&distill(&["paint"]), 2, &["unrecognized subcommand"]);
}

#[test]
fn a_missing_file_is_named() {
    assert_told(
        &distill(&["scenes", "--data", "/nowhere", "-o", "/tmp/wordsight-none"]),
        1,
        &["/nowhere/imagenet.json"],
    );
    assert_told(
        &distill(&["vocabulary", "/nowhere.toml", "--teacher", "/nowhere", "-o", "/tmp/wordsight-none"]),
        1,
        &["/nowhere"],
    );
    let output =
        distill(&["vocabulary", "/nowhere.toml", "--teacher", "/nowhere", "-o", "/tmp/wordsight-none"]);
    let told = String::from_utf8_lossy(&output.stderr);
    let reasons = distill(&[
        "quantize",
        "--student",
        "/no.onnx",
        "--target",
        "cpu",
        "--images",
        "/",
        "-o",
        "/tmp/wordsight-none.onnx",
    ]);
    for told in [told, String::from_utf8_lossy(&reasons.stderr)] {
        assert!(told.matches("os error 2").count() <= 1, "a reason is told twice: {told}");
    }
    let eval = ["eval-photographs", "--student", "/no.onnx", "--data", "/nowhere", "--teacher", "/nowhere"];
    assert_told(&distill(&eval), 1, &["/nowhere"]);
    let eval = ["eval-tracking", "--student", "/no.onnx", "--data", "/nowhere", "--teacher", "/nowhere"];
    assert_told(&distill(&eval), 1, &["/nowhere/imagenet.json"]);
    let eval =
        ["eval", "--student", "/no.onnx", "--annotations", "/no.json", "--images", "/", "--vocabulary", "/v"];
    assert_told(&distill(&eval), 1, &["/no.json"]);
}

#[test]
fn sets_that_cannot_be_trained_on_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let sets = folder.path().join("sets.toml");
    let teacher = support::checkout("teacher/tests/fixtures/clip");
    let [sets, teacher, output] =
        [sets, teacher, folder.path().join("out")].map(|path| path.to_str().unwrap().to_owned());
    let train = ["train", "--sets", &sets, "--teacher", &teacher, "-o", &output];
    let refused = |parts: &[&str]| assert_told(&distill(&train), 2, parts);
    refused(&[&sets]);

    fs::write(&sets, "[[set]]\nname = \"mine\"\nformat = \"coco\"\nannotation = \"x.json\"\n").unwrap();
    refused(&[&sets, "annotation"]);
    fs::write(&sets, "[[set]]\nname = \"mine\"\nformat = \"coco\"\nannotations = \"{data}/x.json\"\n")
        .unwrap();
    refused(&["mine", "data", "--root"]);
    fs::write(&sets, "[[set]]\nname = \"mine\"\nformat = \"yolo\"\n").unwrap();
    refused(&["mine", "`annotations`"]);
    // A set that the list names rightly, and that is not there.
    fs::write(&sets, "[[set]]\nname = \"mine\"\nformat = \"coco\"\nannotations = \"x.json\"\n").unwrap();
    assert_told(&distill(&train), 1, &["mine", "x.json"]);

    // Embeddings of another teacher.
    support::made_up::write_sets(folder.path(), true);
    refused(&["made up", "wordsight-distill embed"]);
}

#[test]
fn a_device_that_is_not_there_is_refused_before_any_work() {
    let train =
        |device| distill(&["train", "--sets", "/x", "--teacher", "/x", "-o", "/x", "--device", device]);
    assert_told(&train("gpu"), 2, &["cpu, cuda or cuda:N"]);
    // Whether it was built without CUDA, or finds no driver, or no thousandth GPU.
    assert_told(&train("cuda:999"), 1, &["--device"]);
}

#[test]
fn a_weight_that_is_no_share_is_refused_before_any_work() {
    let export = ["export", "--training", "/x", "--teacher", "/x", "-o", "/x", "--ensemble-lambda", "1.5"];
    assert_told(&distill(&export), 2, &["--ensemble-lambda", "0 to 1"]);
}

#[test]
fn a_mistake_in_the_command_line_that_flags_alone_do_not_show_is_bad_usage() {
    let train = |flag: &str, value: &str| {
        distill(&["train", "--sets", "/x", "--teacher", "/x", "-o", "/x", flag, value])
    };
    for (flag, value) in
        [("--batch", "0"), ("--text-weight", "NaN"), ("--dropout", "1"), ("--temperature", "0")]
    {
        assert_told(&train(flag, value), 2, &[flag]);
    }
    let eval = ["eval", "--student", "/x", "--annotations", "/a", "--annotations", "/b", "--images", "/x"];
    let eval = distill(&[&eval[..], &["--vocabulary", "/v"]].concat());
    assert_told(&eval, 2, &["2 --annotations and 1 --images"]);
    let label = ["label", "--detector", "/x", "--images", "/x", "-o", "/tmp/wordsight-none.json"];
    assert_told(&distill(&label), 1, &["/x"]);
}

#[test]
fn a_list_of_words_with_a_mistake_is_bad_usage() {
    let folder = tempfile::tempdir().unwrap();
    let words = folder.path().join("words.toml");
    let output = folder.path().join("words.safetensors");
    let teacher = support::checkout("teacher/tests/fixtures/clip");
    let [words, output, teacher] = [words, output, teacher].map(|path| path.to_str().unwrap().to_owned());
    let vocabulary = || distill(&["vocabulary", &words, "--teacher", &teacher, "-o", &output]);
    for (text, part) in [("words = [\"cat\", \"cat\"]\n", "cat"), ("word = [\"cat\"]\n", "word")] {
        fs::write(&words, text).unwrap();
        if vocabulary().status.code() == Some(1) {
            assert_told(&vocabulary(), 1, &["ONNX Runtime"]);
            return;
        }
        assert_told(&vocabulary(), 2, &[&words, part]);
    }
}

#[test]
fn an_export_that_lacks_what_its_precision_takes_is_bad_usage() {
    let export = |more: &[&str]| {
        distill(
            &[&["export", "--training", "/x", "--teacher", "/x", "-o", "/tmp/wordsight-none.onnx"], more]
                .concat(),
        )
    };
    assert_told(&export(&["--precision", "int8", "--target", "cpu"]), 2, &["--images"]);
    assert_told(&export(&["--precision", "int8", "--images", "/x"]), 2, &["--target"]);
    assert_told(&export(&["--precision", "fp16"]), 2, &["--images"]);
    assert_told(&export(&["--precision", "fp16", "--images", "/x", "--target", "cpu"]), 2, &["FP16 as FP32"]);
    assert_told(&export(&["--annotations", "/x.json", "--annotated-images", "/x"]), 2, &["--images"]);
    assert_told(&export(&["--json", "/tmp/wordsight-none.json"]), 2, &["--images"]);
    // And what it can look for is looked for before the training is read.
    assert_told(&export(&["--precision", "fp16", "--images", "/nowhere"]), 1, &["/nowhere"]);
}

#[test]
fn annotations_that_refer_to_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("annotations.json");
    let annotation = r#"{"id":1,"image_id":9,"category_id":1,"bbox":[0,0,1,1],"area":1,"iscrowd":0}"#;
    fs::write(&path, format!(r#"{{"images":[],"annotations":[{annotation}],"categories":[]}}"#)).unwrap();
    let error = wordsight_distill::coco::Dataset::load(&path).unwrap_err().to_string();
    assert!(error.contains("annotation 1") && error.contains("image 9"), "{error}");
}

#[test]
fn proposals_and_shards_that_make_no_sense_are_refused() {
    let scenes = ["proposals", "--scenes", "/x", "-o", "/tmp/wordsight-none"];
    assert_told(&distill(&scenes), 2, &["--student", "--moved-copies"]);
    let shard =
        ["proposals", "--scenes", "/x", "-o", "/tmp/wordsight-none", "--moved-copies", "1", "--shard", "5/4"];
    assert_told(&distill(&shard), 2, &["--shard", "from 1 to n"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_told(&distill(&["merge", path]), 1, &[path, "holds no proposals"]);
    let output = folder.path().join("out");
    let output = output.to_str().unwrap();
    let embed = ["embed", "--proposals", path, "--images", path, "--teacher", path, "-o", output];
    assert_told(&distill(&embed), 1, &["is not a teacher"]);
}

#[test]
fn a_vocabulary_that_lacks_a_category_is_named_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let annotations = folder.path().join("annotations.json");
    let category = r#"{"id":1,"name":"flying saucer"}"#;
    let image = r#"{"id":1,"file_name":"1.jpg","width":8,"height":8}"#;
    fs::write(&annotations, format!(r#"{{"images":[{image}],"annotations":[],"categories":[{category}]}}"#))
        .unwrap();
    let words = support::checkout("demo/words.safetensors");
    let vocabulary = wordsight_detection::Vocabulary::load(&words).unwrap();
    let set = wordsight_distill::eval::annotated::AnnotatedSet::load(&annotations, folder.path()).unwrap();
    let error = set.category_of_words(&vocabulary).unwrap_err().to_string();
    assert!(error.contains("flying saucer"), "{error}");
}
