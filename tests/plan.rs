//! `wordsight plan` with a real TensorRT: plans are built on the processor for a GPU that is not there, and nothing that
//! is wrong with a plan, a library or a model is more than a sentence.
//!
//! TensorRT for RTX comes from a wheel (`make tensorrt`). Without it these tests say that they are skipped, and fail
//! where `WORDSIGHT_REQUIRE_REFERENCE` is set.
#![cfg(feature = "tensorrt")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::*;
use wordsight_calibration::{Layers, Method, Ranges, Target, quantize, to_f16};
use wordsight_onnx::proto::ModelProto;

/// The folder of TensorRT's libraries.
fn libraries() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/tensorrt/lib");
    if folder.join("libtensorrt_rtx.so.1").exists() {
        return Some(folder);
    }
    let lacking = format!("{} has no TensorRT for RTX; run `make tensorrt` first", folder.display());
    assert!(std::env::var_os("WORDSIGHT_REQUIRE_REFERENCE").is_none(), "{lacking}");
    // Not by eprintln!, which the test runner keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {lacking}");
    None
}

fn has_driver() -> bool {
    Command::new("nvidia-smi").output().is_ok_and(|output| output.status.success())
}

/// A bench whose `plan` commands know TensorRT and a state directory.
struct Plans {
    bench: Bench,
    libraries: PathBuf,
}

impl Plans {
    fn new() -> Option<Self> {
        Some(Self { libraries: libraries()?, bench: Bench::new() })
    }

    fn state(&self) -> PathBuf {
        self.bench.path("state/plans")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = wordsight(&["plan"]);
        command.args(arguments).env("STATE_DIRECTORY", self.bench.path("state"));
        if arguments[0] != "list" {
            command.arg("--tensorrt").arg(&self.libraries);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(arguments).output().unwrap())
    }

    /// Builds for compute capability 8.9 and returns what `--json` says.
    fn build(&self, model: &str, more: &[&str]) -> Value {
        let outcome = self.run(&[&["build", model, "--target", "89", "--json"], more].concat());
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    fn student(&self) -> String {
        self.bench.path("student.onnx").to_str().unwrap().to_owned()
    }

    /// A plan of the small student in a file of its own.
    fn plan(&self) -> PathBuf {
        let path = self.bench.path("small.plan");
        self.build(&self.student(), &["--out", path.to_str().unwrap()]);
        path
    }
}

fn shipped() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/student.onnx").to_str().unwrap().to_owned()
}

#[test]
fn the_shipped_student_becomes_a_plan_that_is_found_again() {
    let Some(plans) = Plans::new() else { return };
    let built = plans.build(&shipped(), &[]);
    assert_eq!(built["is_new"], true);
    let manifest = &built["manifest"];
    assert_eq!(manifest["key"]["flavour"], "TensorRT for RTX");
    assert_eq!(manifest["key"]["gpu"], "8.9");
    assert_eq!(manifest["precision"], "fp32");
    assert_eq!(manifest["inputs"][0]["name"], "image");
    assert_eq!(manifest["inputs"][0]["element_type"], "uint8");
    let outputs: Vec<&str> =
        manifest["outputs"].as_array().unwrap().iter().map(|port| port["name"].as_str().unwrap()).collect();
    assert_eq!(outputs, ["boxes", "objectness", "text_embeddings", "image_embeddings"]);
    // A plan holds the weights at least: 4.6 million of them.
    assert!(manifest["plan_bytes"].as_u64().unwrap() > 5_000_000, "{manifest}");

    let again = plans.build(&shipped(), &[]);
    assert_eq!((&again["is_new"], &again["plan"]), (&Value::from(false), &built["plan"]));
    let other = plans.build(&shipped(), &["--workspace", "64"]);
    assert_ne!(other["plan"], built["plan"], "other settings are another plan");

    let listed = plans.run(&["list"]);
    assert_eq!(listed.stdout.lines().count(), 2, "{listed:?}");
    let shown = plans.run(&["inspect", built["plan"].as_str().unwrap()]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("compute capability 8.9"), "{shown:?}");
    if !has_driver() {
        assert!(shown.stdout.contains("no NVIDIA driver"), "{shown:?}");
    }
}

#[test]
fn students_in_fp16_and_int8_become_plans_that_say_so() {
    let Some(plans) = Plans::new() else { return };
    let model = wordsight_onnx::read(Path::new(&shipped())).unwrap();
    let outputs = &plans.build(&shipped(), &[])["manifest"]["outputs"];
    let is_built = |name: &str, model: &ModelProto| {
        let path = plans.bench.path(name).with_extension("onnx");
        wordsight_onnx::write(model, &path).unwrap();
        let built = plans.build(path.to_str().unwrap(), &[]);
        assert_eq!(
            (&built["manifest"]["precision"], &built["manifest"]["outputs"]),
            (&Value::from(name), outputs)
        );
    };
    is_built("fp16", &to_f16(&model).unwrap());
    let layers = Layers::of(&model).unwrap();
    // What flows is made up: whether TensorRT takes the graph does not depend on it.
    let mut ranges = Ranges::default();
    layers.tensors().into_iter().for_each(|tensor| ranges.add(tensor, &[-1.0, 6.0]));
    let quantised = quantize(&model, &layers, &ranges, Method::Max, Target::TensorRt).unwrap();
    is_built("int8", &quantised);
}

#[test]
fn every_command_of_the_guide_runs() {
    let Some(plans) = Plans::new() else { return };
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["demo", ".deps"] {
        std::os::unix::fs::symlink(checkout.join(name), plans.bench.path(name)).unwrap();
    }
    let guide = include_str!("../docs/tensorrt.md");
    let block = guide.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(block.lines().count(), 4);
    for line in block.lines() {
        let arguments: Vec<&str> = line.split(' ').collect();
        assert_eq!(arguments[0], "wordsight");
        let mut command = wordsight(&arguments[1..]);
        command.current_dir(plans.bench.path("")).env("STATE_DIRECTORY", plans.bench.path("state"));
        let outcome = Outcome::of(command.output().unwrap());
        assert_eq!(outcome.code, Some(0), "{line}: {outcome:?}");
    }
}

#[test]
fn what_cannot_be_built_is_a_sentence() {
    let Some(plans) = Plans::new() else { return };
    let student = plans.student();
    let refused = |arguments: &[&str], parts: &[&str]| {
        let outcome = plans.run(&[&["build"], arguments].concat());
        let sentence = outcome.sentence(1);
        for part in parts {
            assert!(sentence.contains(part), "{sentence} does not say {part}");
        }
    };
    refused(&["/nowhere.onnx", "--target", "89"], &["/nowhere.onnx", "No such file"]);
    let bytes = fs::read(&student).unwrap();
    for (name, bytes) in
        [("empty.onnx", &b""[..]), ("text.onnx", b"no model"), ("half.onnx", &bytes[..bytes.len() / 2])]
    {
        let path = plans.bench.write(name, bytes);
        refused(&[path.to_str().unwrap(), "--target", "89"], &[name, "is not a model"]);
    }
    refused(&[&student, "--target", "87"], &["TensorRT for RTX", "Compute capability"]);
    refused(&[&student, "--target", "89", "--out", "/proc/x.plan"], &["cannot write /proc/x.plan"]);
    if !has_driver() {
        refused(&[&student], &["no NVIDIA driver", "--target 89"]);
    }
    assert!(!plans.state().exists() || fs::read_dir(plans.state()).unwrap().next().is_none());
}

#[test]
fn a_library_that_is_none_or_damaged_is_a_sentence() {
    let Some(mut plans) = Plans::new() else { return };
    let student = plans.student();
    let whole = fs::read(plans.libraries.join("libtensorrt_onnxparser_rtx.so.1")).unwrap();
    let cases = [
        ("nothing", None, "none of libnvinfer.so.11"),
        ("empty", Some(&b""[..]), "cannot be loaded"),
        ("text", Some(b"not an ELF file"), "cannot be loaded"),
        ("half", Some(&whole[..whole.len() / 2]), "cut off"),
        // The parser is a library, and not this one.
        ("other", Some(&whole[..]), "cannot be loaded"),
    ];
    for (name, bytes, expected) in cases {
        let folder = plans.bench.path(name);
        fs::create_dir(&folder).unwrap();
        if let Some(bytes) = bytes {
            fs::write(folder.join("libtensorrt_rtx.so.1"), bytes).unwrap();
        }
        plans.libraries = folder;
        let outcome = plans.run(&["build", &student, "--target", "89"]);
        assert!(outcome.sentence(1).contains(expected), "{name}: {outcome:?}");
    }
}

#[test]
fn a_plan_that_is_damaged_or_of_another_tensorrt_is_told_before_it_is_loaded() {
    let Some(plans) = Plans::new() else { return };
    let plan = plans.plan();
    let manifest = plan.with_extension("plan.json");
    let (bytes, text) = (fs::read(&plan).unwrap(), fs::read_to_string(&manifest).unwrap());
    let inspect = || plans.run(&["inspect", plan.to_str().unwrap()]);

    let mut random = bytes.clone();
    random.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 7919 % 251) as u8);
    for (wrong, expected) in [
        (&b""[..], "has 0 bytes"),
        (&bytes[..bytes.len() / 2], "its manifest says"),
        (&random, "not those that its manifest was written for"),
    ] {
        fs::write(&plan, wrong).unwrap();
        let outcome = inspect();
        let sentence = outcome.sentence(1);
        assert!(sentence.contains(expected) && sentence.contains("wordsight plan build"), "{sentence}");
    }
    fs::write(&plan, &bytes).unwrap();

    for (wrong, expected) in [
        ("", "no manifest"),
        ("{}", "no manifest"),
        (&text[..text.len() / 2], "no manifest"),
        (r#"{"format":99}"#, "format 99"),
        (r#"{"format":1}"#, "is wrong"),
    ] {
        fs::write(&manifest, wrong).unwrap();
        assert!(inspect().sentence(1).contains(expected), "{wrong}");
    }
    fs::remove_file(&manifest).unwrap();
    assert!(inspect().sentence(1).contains("cannot be read"));

    let mut other: Value = serde_json::from_str(&text).unwrap();
    other["key"]["version"] = "1.0.0".into();
    fs::write(&manifest, other.to_string()).unwrap();
    let shown = inspect();
    assert!(shown.stdout.contains("version 1.0.0, not 1."), "{shown:?}");
    other["key"]["flavour"] = "TensorRT".into();
    fs::write(&manifest, other.to_string()).unwrap();
    assert!(inspect().stdout.contains("it was built by TensorRT, not TensorRT for RTX"));

    fs::remove_file(&plan).unwrap();
    assert!(inspect().sentence(1).contains("small.plan"));
    // And a build puts all of it right.
    plans.plan();
    assert_eq!(inspect().code, Some(0));
}

#[test]
fn two_processes_that_want_one_plan_build_it_once() {
    let Some(plans) = Plans::new() else { return };
    let student = plans.student();
    let both = [(); 2].map(|()| spawn(plans.command(&["build", &student, "--target", "89", "--json"])));
    let mut new: Vec<bool> = both
        .map(|child| {
            let outcome = Outcome::of(child.wait_with_output().unwrap());
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
            let built: Value = serde_json::from_str(&outcome.stdout).unwrap();
            built["is_new"].as_bool().unwrap()
        })
        .to_vec();
    new.sort_unstable();
    assert_eq!(new, [false, true]);
}

#[test]
fn a_kill_while_a_plan_is_written_leaves_no_half_plan() {
    let Some(plans) = Plans::new() else { return };
    let files = || -> Vec<String> {
        let entries = fs::read_dir(plans.state()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let mut killed_while_writing = 0;
    for _ in 0..5 {
        let mut child = spawn(plans.command(&["build", &shipped(), "--target", "89", "--rebuild"]));
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none() {
            if files().iter().any(|name| name.ends_with(".partial")) {
                child.kill().unwrap();
                killed_while_writing += 1;
                break;
            }
        }
        child.wait().unwrap();
        // What is called a plan is whole, or is known not to fit its manifest.
        for name in files().iter().filter(|name| name.ends_with(".plan")) {
            let path = plans.state().join(name);
            let shown = plans.run(&["inspect", path.to_str().unwrap()]);
            assert!(shown.code == Some(0) || shown.stderr.contains("not a whole plan"), "{shown:?}");
        }
    }
    assert!(killed_while_writing > 0, "no build was caught while it wrote");
    let built = plans.build(&shipped(), &[]);
    let shown = plans.run(&["inspect", built["plan"].as_str().unwrap()]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let mut files = files();
    files.sort();
    assert_eq!(files.len(), 2, "a plan and its manifest, and nothing left over: {files:?}");
}
