//! What `wordsight` says, and how it ends, when something is missing or wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;

use support::*;

/// Runs `wordsight run` with a configuration for the bench's files, and `more` at its end.
fn run_with_config(bench: &Bench, more: &str) -> Outcome {
    let config = bench.write_config(more);
    Outcome::of(wordsight(&["run", "--config", config.to_str().unwrap()]).output().unwrap())
}

fn detect_one(bench: &Bench) -> Outcome {
    let photograph = bench.write("photo.jpg", jpeg(64, 64, [RED; 4], None));
    bench.run(&["detect", photograph.to_str().unwrap()])
}

#[test]
fn a_missing_student_is_named() {
    let bench = Bench::new();
    std::fs::remove_file(bench.path("student.onnx")).unwrap();
    let outcome = detect_one(&bench);
    assert!(outcome.sentence(1).contains("student.onnx"), "{outcome:?}");
}

#[test]
fn a_corrupt_student_is_named() {
    let bench = Bench::new();
    let whole = std::fs::read(bench.path("student.onnx")).unwrap();
    for bytes in [&b"no model"[..], &whole[..whole.len() / 2], b""] {
        bench.write("student.onnx", bytes);
        let outcome = detect_one(&bench);
        assert!(outcome.sentence(1).contains("student.onnx"), "{outcome:?}");
    }
}

#[test]
fn a_missing_vocabulary_is_named() {
    let bench = Bench::new();
    std::fs::remove_file(bench.path("words.safetensors")).unwrap();
    let outcome = detect_one(&bench);
    assert!(outcome.sentence(1).contains("words.safetensors"), "{outcome:?}");
}

#[test]
fn a_corrupt_vocabulary_is_named() {
    let bench = Bench::new();
    let whole = std::fs::read(bench.path("words.safetensors")).unwrap();
    for bytes in [&b"no words"[..], &whole[..whole.len() / 2], b""] {
        bench.write("words.safetensors", bytes);
        let outcome = detect_one(&bench);
        assert!(outcome.sentence(1).contains("words.safetensors"), "{outcome:?}");
    }
}

#[test]
fn a_vocabulary_of_another_teacher_is_a_wrong_configuration() {
    let bench = Bench::new();
    let mut other = vocabulary(&[("red", RED)]);
    other.teacher = "clip".into();
    other.save(&bench.path("words.safetensors")).unwrap();
    let outcome = detect_one(&bench);
    let sentence = outcome.sentence(2);
    assert!(
        sentence.contains("`clip`") && sentence.contains(TEACHER) && sentence.contains("words.safetensors"),
        "{sentence}"
    );
}

#[test]
fn a_vocabulary_of_another_size_is_a_wrong_configuration() {
    let bench = Bench::new();
    let mut other = vocabulary(&[("red", RED)]);
    (other.embeddings, other.embedding_size) = (vec![1.0, 0.0], 2);
    other.save(&bench.path("words.safetensors")).unwrap();
    let outcome = detect_one(&bench);
    assert!(outcome.sentence(2).contains("have 2 numbers"), "{outcome:?}");
}

#[test]
fn a_missing_onnx_runtime_is_one_sentence_with_what_to_do() {
    let bench = Bench::new();
    let photograph = bench.write("photo.jpg", jpeg(64, 64, [RED; 4], None));
    let not_a_library = bench.write("libonnxruntime.so", "no library");
    for library in [bench.path("absent.so"), not_a_library] {
        let mut command = bench.command(&["detect", photograph.to_str().unwrap()]);
        let outcome = Outcome::of(command.env("ORT_DYLIB_PATH", library).output().unwrap());
        let sentence = outcome.sentence(1);
        assert!(sentence.contains("make deps") && sentence.contains("ORT_DYLIB_PATH"), "{sentence}");
    }
}

#[test]
fn a_mistake_in_the_configuration_is_shown_with_its_line() {
    let bench = Bench::new();
    let cases = [
        ("[source]\nurl = \"clip.mjpeg\"", "url", "line 4"),
        ("[detection]\nscore_threshold = 30", "30 is not between 0 and 1", "line 4"),
        ("[engine]\nthreads = \"two\"", "threads", "line 4"),
        ("[publish", "]", "line 3"),
    ];
    for (text, reason, line) in cases {
        let outcome = run_with_config(&bench, text);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(reason) && outcome.stderr.contains(line), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("wordsight.toml"), "{}", outcome.stderr);
    }
}

#[test]
fn a_configuration_written_on_windows_is_read() {
    let bench = Bench::new();
    bench.write("clip.mjpeg", motion_jpeg(&[RED]));
    let text =
        "student = \"student.onnx\"\nvocabulary = \"words.safetensors\"\n[source]\nuri = \"clip.mjpeg\"\n";
    let config = bench.write("wordsight.toml", format!("\u{feff}{text}").replace('\n', "\r\n"));
    let outcome = Outcome::of(wordsight(&["run", "--config", config.to_str().unwrap()]).output().unwrap());
    assert_eq!(words_of(&outcome.lines()[0])[0], "red");
}

/// What git keeps in the place of a large file.
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258\
                       daaa5e2ca24d17e2393\nsize 12345\n";

#[test]
fn a_pointer_of_git_lfs_is_no_student_no_vocabulary_and_no_photograph() {
    let bench = Bench::new();
    let student = std::fs::read(bench.path("student.onnx")).unwrap();
    bench.write("student.onnx", POINTER);
    assert!(detect_one(&bench).sentence(1).contains("student.onnx"));
    bench.write("student.onnx", student);
    let words = std::fs::read(bench.path("words.safetensors")).unwrap();
    bench.write("words.safetensors", POINTER);
    assert!(detect_one(&bench).sentence(1).contains("words.safetensors"));
    bench.write("words.safetensors", words);
    let pointer = bench.write("pointer.jpg", POINTER);
    let outcome = bench.run(&["detect", pointer.to_str().unwrap()]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("none of JPEG, PNG and WebP"), "{outcome:?}");
}

#[test]
fn a_missing_configuration_is_a_wrong_configuration() {
    let outcome = Outcome::of(wordsight(&["run", "--config", "/nowhere/wordsight.toml"]).output().unwrap());
    assert!(outcome.sentence(2).contains("/nowhere/wordsight.toml"), "{outcome:?}");
}

#[test]
fn a_missing_source_has_failed_and_one_of_no_known_kind_is_misconfigured() {
    let bench = Bench::new();
    let missing = run_with_config(&bench, "[source]\nuri = \"absent.mjpeg\"");
    assert!(missing.sentence(1).contains("absent.mjpeg"), "{missing:?}");
    let unknown = run_with_config(&bench, "[source]\nuri = \"ftp://host/clip.mjpeg\"");
    assert!(unknown.sentence(2).contains("ftp://host/clip.mjpeg"), "{unknown:?}");
    // As other programs call the first camera.
    for name in ["0", "webcam", "camera", "/dev/video0"] {
        let camera = run_with_config(&bench, &format!("[source]\nuri = \"{name}\""));
        assert!(camera.sentence(2).contains("v4l2:///dev/video0"), "{camera:?}");
        let flag = bench.run(&["run", "--source", name]);
        assert!(flag.sentence(2).contains("v4l2:///dev/video0"), "{flag:?}");
    }
    // What GStreamer makes of it, or that this program was built without.
    bench.write("notes.txt", "text");
    let no_picture = run_with_config(&bench, "[source]\nuri = \"notes.txt\"");
    let code = if cfg!(feature = "gstreamer") { 1 } else { 2 };
    assert!(no_picture.sentence(code).contains("notes.txt"), "{no_picture:?}");
}

#[test]
fn a_stream_given_for_a_photograph_is_bad_usage() {
    let bench = Bench::new();
    let clip = bench.write("clip.mjpeg", motion_jpeg(&[RED]));
    let outcome = bench.run(&["detect", clip.to_str().unwrap()]);
    assert!(outcome.sentence(2).contains("wordsight run"), "{outcome:?}");
}

#[test]
fn bad_flags_are_bad_usage() {
    for arguments in [
        &["detect"][..],
        &["run", "--score-threshold", "1.1"],
        &["run", "--max-detections", "0"],
        &["run", "--frames", "0"],
        &["run", "--pacing", "slow"],
        &["look"],
    ] {
        let outcome = Outcome::of(wordsight(arguments).output().unwrap());
        assert_eq!(outcome.code, Some(2), "{arguments:?}: {outcome:?}");
    }
}

#[test]
fn an_output_that_cannot_be_written_has_failed() {
    let bench = Bench::new();
    let photograph = bench.write("photo.jpg", jpeg(64, 64, [RED; 4], None));
    let photograph = photograph.to_str().unwrap();
    let json = bench.run(&["detect", photograph, "--json", "/nowhere/out.jsonl"]);
    assert!(json.sentence(1).contains("/nowhere/out.jsonl"), "{json:?}");
    // A file where the folder should be.
    let save = bench.run(&["detect", photograph, "--save", photograph]);
    assert!(save.sentence(1).contains("annotated pictures"), "{save:?}");
}

#[test]
fn without_a_checkout_the_built_in_configuration_says_what_to_name() {
    let bench = Bench::new();
    let elsewhere = bench.path("bin/wordsight");
    std::fs::create_dir(bench.path("bin")).unwrap();
    folders::copy_executable(Path::new(env!("CARGO_BIN_EXE_wordsight")), &elsewhere);
    let output =
        std::process::Command::new(&elsewhere).arg("run").current_dir(bench.path("bin")).output().unwrap();
    let outcome = Outcome::of(output);
    let sentence = outcome.sentence(1);
    assert!(sentence.contains("demo/student.onnx") && sentence.contains("--student"), "{sentence}");
}
