//! `wordsight plan` with a real TensorRT: plans are built on the processor for a GPU that is not there, and nothing that
//! is wrong with a plan, a library or a model is more than a sentence.
//!
//! TensorRT for RTX comes from a wheel (`make tensorrt`). Without it these tests say that they are skipped, and fail
//! where `WORDSIGHT_REQUIRE_REFERENCE` is set.
#![cfg(feature = "tensorrt")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../engines/tests/stand_in/mod.rs"]
mod stand_in;
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::*;
use wordsight_board::fixtures::Board;
use wordsight_calibration::{Layers, Method, Ranges, Target, fold_casts, quantize, to_f16};
use wordsight_engines::nvidia::{gpus, has_driver};
use wordsight_engines::{CpuEngine, Engine, Regions};
use wordsight_onnx::proto::ModelProto;

/// The folder of TensorRT's libraries.
fn libraries() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps/tensorrt/lib");
    if folder.join("libtensorrt_rtx.so.1").exists() {
        return Some(folder);
    }
    skip("a test of plans", "TensorRT for RTX is not there", "`make tensorrt`");
    None
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
    assert_eq!(manifest["key"]["precision"], "fp16");
    assert_eq!(manifest["inputs"][0]["name"], "image");
    assert_eq!(manifest["inputs"][0]["element_type"], "uint8");
    let outputs: Vec<&str> =
        manifest["outputs"].as_array().unwrap().iter().map(|port| port["name"].as_str().unwrap()).collect();
    assert_eq!(outputs, ["boxes", "objectness", "text_embeddings", "image_embeddings"]);
    // A plan holds the weights at least: 4.6 million of them, in FP16.
    assert!(manifest["plan_bytes"].as_u64().unwrap() > 5_000_000, "{manifest}");

    let again = plans.build(&shipped(), &[]);
    assert_eq!((&again["is_new"], &again["plan"]), (&Value::from(false), &built["plan"]));
    let roomier = plans.build(&shipped(), &["--workspace", "64"]);
    assert_eq!((&roomier["is_new"], &roomier["plan"]), (&Value::from(false), &built["plan"]));
    let other = plans.build(&shipped(), &["--workspace", "64", "--precision", "fp32"]);
    assert_ne!(other["plan"], built["plan"], "another precision is another plan");
    let other = &other["manifest"];
    assert_eq!(
        (&other["key"]["precision"], &other["workspace_mib"]),
        (&Value::from("tf32"), &Value::from(64))
    );

    let listed = plans.run(&["list"]);
    assert_eq!(listed.stdout.lines().count(), 2, "{listed:?}");
    let shown = plans.run(&["inspect", built["plan"].as_str().unwrap()]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("compute capability 8.9"), "{shown:?}");
    assert!(
        shown.stdout.contains("fp16, made of a student in FP32, as engine.precision = \"auto\""),
        "{shown:?}"
    );
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
            (&built["manifest"]["key"]["precision"], &built["manifest"]["outputs"]),
            (&Value::from(name), outputs)
        );
    };
    is_built("fp16", &to_f16(&model).unwrap());
    let layers = Layers::of(&model).unwrap();
    // What flows is made up: whether TensorRT takes the graph does not depend on it.
    let mut ranges = Ranges::default();
    layers.tensors().into_iter().for_each(|tensor| ranges.add(tensor, &[-1.0, 6.0]));
    let quantised = quantize(&model, &layers, &ranges, Method::Max, Target::TensorRt).unwrap();
    // As `wordsight-distill quantize` makes it: what isn't in integers is in FP16.
    is_built("int8", &to_f16(&quantised).unwrap());
}

#[test]
fn weights_that_stand_as_they_are_used_find_what_they_found_behind_a_cast() {
    let folder = tempfile::tempdir().unwrap();
    let model = wordsight_onnx::read(Path::new(&shipped())).unwrap();
    let folded = folder.path().join("folded.onnx");
    wordsight_onnx::write(&fold_casts(&model), &folded).unwrap();
    let found = [Path::new(&shipped()), &folded].map(|path| {
        let mut engine = CpuEngine::open(path, 0).unwrap();
        let (width, height) = (engine.facts().input_width(), engine.facts().input_height());
        let image: Vec<u8> = (0..3 * width * height).map(|at| (at * 7919 % 251) as u8).collect();
        let mut regions = Regions::default();
        engine.infer(&image, &mut regions).unwrap();
        regions
    });
    assert!(found[0] == found[1] && found[0].objectness[0] > 0.0);
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
        (r#"{"format":1}"#, "format 1"),
        (r#"{"format":2}"#, "is wrong"),
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

/// `wordsight run` on the small student, with TensorRT's libraries named in the configuration.
fn run_with_engine(plans: &Plans, kind: &str, more: &str, driver: Option<&Path>) -> Outcome {
    plans.bench.write("clip.mjpeg", motion_jpeg(&[RED, BLUE, GREEN]));
    let config = plans.bench.write_config(&format!(
        "[source]\nuri = \"clip.mjpeg\"\n[engine]\nkind = \"{kind}\"\ntensorrt = \"{}\"\n{more}",
        plans.libraries.display()
    ));
    let mut command = wordsight(&["run", "--config", config.to_str().unwrap()]);
    command.env("STATE_DIRECTORY", plans.bench.path("state"));
    if let Some(folder) = driver {
        command.env("LD_LIBRARY_PATH", folder);
    }
    Outcome::of(command.output().unwrap())
}

#[test]
fn without_a_driver_onnx_runtime_takes_over_where_it_may() {
    if has_driver() {
        return;
    }
    let Some(plans) = Plans::new() else { return };
    let alone = run_with_engine(&plans, "tensorrt", "", None);
    assert!(alone.sentence(1).contains("no NVIDIA driver"), "{alone:?}");
    for kind in ["auto", "onnxruntime"] {
        let outcome = run_with_engine(&plans, kind, "", None);
        assert_eq!((outcome.code, outcome.lines().len()), (Some(0), 3), "{outcome:?}");
        assert!(outcome.stderr.starts_with("engine    onnxruntime-cpu\n"), "{outcome:?}");
    }
    let wrong = run_with_engine(&plans, "tensorflow", "", None);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("`onnxruntime`, `tensorrt`"), "{wrong:?}");
}

/// A driver that TensorRT can't use: a stand-in for CUDA's, which knows what `wordsight` calls and no more.
#[test]
fn with_a_driver_that_tensorrt_refuses_that_is_said_once() {
    if has_driver() {
        return;
    }
    let Some(plans) = Plans::new() else { return };
    let folder = plans.bench.path("driver");
    fs::create_dir(&folder).unwrap();
    stand_in::compile_into(&folder, &Path::new(env!("CARGO_MANIFEST_DIR")).join("engines"));

    let alone = run_with_engine(&plans, "tensorrt", "", Some(&folder));
    assert!(alone.sentence(1).contains("TensorRT for RTX"), "{alone:?}");
    let instead = run_with_engine(&plans, "auto", "", Some(&folder));
    assert_eq!((instead.code, instead.lines().len()), (Some(0), 3), "{instead:?}");
    assert_eq!(instead.stderr.matches("and not TensorRT: TensorRT for RTX").count(), 1, "{instead:?}");

    // No plan, and none may be built; then one for another GPU than this stand-in's 8.7.
    let student = plans.student();
    let none = run_with_engine(&plans, "tensorrt", "build_plans = false\n", Some(&folder));
    assert!(none.sentence(1).contains(&format!("`wordsight plan build {student}`")), "{none:?}");
    plans.build(&student, &[]);
    let stale = run_with_engine(&plans, "tensorrt", "build_plans = false\n", Some(&folder));
    assert!(stale.sentence(1).contains("it is for compute capability 8.9, not 8.7"), "{stale:?}");
}

/// `wordsight` beside stand-ins for CUDA's driver and TensorRT 10.
struct Jetson {
    bench: Bench,
    libraries: PathBuf,
}

impl Jetson {
    fn new() -> Option<Self> {
        let bench = Bench::new();
        let libraries = bench.path("libraries");
        fs::create_dir(&libraries).unwrap();
        let engines = Path::new(env!("CARGO_MANIFEST_DIR")).join("engines");
        stand_in::compile_into(&libraries, &engines);
        stand_in::compile_tensorrt_into(&libraries, &engines).then_some(Self { bench, libraries })
    }

    /// Runs a command where the stand-in for TensorRT has been told this (`Demands` of its source).
    fn run(&self, arguments: &[&str], demands: &str) -> Output {
        self.run_command(wordsight(arguments), demands)
    }

    fn run_command(&self, mut command: Command, demands: &str) -> Output {
        command.env("STATE_DIRECTORY", self.bench.path("state")).env("LD_LIBRARY_PATH", &self.libraries);
        command.env("WORDSIGHT_TEST_TENSORRT", demands);
        command.env("WORDSIGHT_TEST_TENSORRT_LOG", self.bench.path("tensorrt.log"));
        command.output().unwrap()
    }
}

#[test]
fn a_build_that_is_killed_is_tried_with_less_and_then_the_processor_takes_over() {
    let Some(jetson) = Jetson::new() else { return };
    jetson.bench.write("clip.mjpeg", motion_jpeg(&[RED, BLUE, GREEN]));
    let config = jetson.bench.write_config("[source]\nuri = \"clip.mjpeg\"\n[engine]\nworkspace_mib = 400\n");
    let run = ["run", "--config", config.to_str().unwrap()];
    for _ in 0..2 {
        let killed = jetson.run(&run, "killed_above=100");
        assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
    }
    let instead = Outcome::of(jetson.run(&run, "killed_above=100"));
    assert_eq!((instead.code, instead.lines().len()), (Some(0), 3), "{instead:?}");
    assert!(instead.stderr.contains("engine    onnxruntime-cpu\n"), "{instead:?}");
    assert!(instead.stderr.contains("2 builds of a plan of"), "{instead:?}");
    let student = jetson.bench.path("student.onnx").to_str().unwrap().to_owned();
    let advice = format!("`wordsight plan build {student} --rebuild --workspace 128`");
    assert!(instead.stderr.contains(&advice), "{instead:?}");

    let build = ["plan", "build", &student, "--rebuild", "--workspace", "100"];
    let built = Outcome::of(jetson.run(&build, "killed_above=100"));
    assert_eq!(built.code, Some(0), "{built:?}");
    // Of a configuration with another workspace: it is the plan all the same.
    let after = Outcome::of(jetson.run(&run, "killed_above=100"));
    assert_eq!((after.code, after.lines().len()), (Some(0), 3), "{after:?}");
    assert!(after.stderr.contains("engine    TensorRT 10.3.0 (tf32)\n"), "{after:?}");
    let log = fs::read_to_string(jetson.bench.path("tensorrt.log")).unwrap();
    let workspaces: Vec<&str> =
        log.lines().filter_map(|line| line.strip_prefix("build workspace_mib=")).collect();
    assert_eq!(workspaces, ["400", "256", "100"]);
}

#[test]
fn a_plan_that_is_refused_and_whose_next_build_is_killed_gives_way_to_the_processor() {
    let Some(jetson) = Jetson::new() else { return };
    jetson.bench.write("clip.mjpeg", motion_jpeg(&[RED, BLUE, GREEN]));
    let config = jetson.bench.write_config("[source]\nuri = \"clip.mjpeg\"\n[engine]\nworkspace_mib = 400\n");
    let run = |demands: &str| jetson.run(&["run", "--config", config.to_str().unwrap()], demands);
    assert_eq!(run("").status.code(), Some(0));
    for _ in 0..2 {
        assert_eq!(run("refuses_plans=1 killed_above=100").status.signal(), Some(9));
    }
    let instead = Outcome::of(run("refuses_plans=1 killed_above=100"));
    assert_eq!((instead.code, instead.lines().len()), (Some(0), 3), "{instead:?}");
    assert!(instead.stderr.contains("2 builds of a plan of"), "{instead:?}");
}

#[test]
fn doctor_names_the_plan_that_is_wanted_and_bench_what_it_computes_in() {
    let Some(jetson) = Jetson::new() else { return };
    jetson.bench.write("clip.mjpeg", motion_jpeg(&[RED, BLUE, GREEN]));
    Board::OrinNano.write(&jetson.bench.path("orin")).unwrap();
    let student = jetson.bench.path("student.onnx").display().to_string();
    let advice = |precision: &str| -> String {
        let config =
            jetson.bench.write_config(&format!("[source]\nuri = \"clip.mjpeg\"\n[engine]\n{precision}\n"));
        let mut doctor = wordsight(&["doctor", "--json", "--config", config.to_str().unwrap()]);
        doctor.env("WORDSIGHT_BOARD_ROOT", jetson.bench.path("orin"));
        let told = Outcome::of(jetson.run_command(doctor, ""));
        let findings: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
        let of_tensorrt = findings.as_array().unwrap().iter().find(|finding| finding["about"] == "TensorRT");
        of_tensorrt.unwrap_or_else(|| panic!("{findings:#}"))["todo"].to_string()
    };
    assert!(advice("").contains(&format!("`wordsight plan build {student}`")), "{}", advice(""));
    let wanted = format!("`wordsight plan build {student} --precision fp32`");
    assert!(advice("precision = \"fp32\"").contains(&wanted), "{}", advice("precision = \"fp32\""));

    let measured = |precision: &str| -> Value {
        let config = jetson.bench.write_config(&format!("[engine]\nprecision = \"{precision}\"\n"));
        let (config, json) = (config.display().to_string(), jetson.bench.path("bench.json"));
        let arguments = ["bench", "--config", &config, "--source", "test://ff0000?width=64&height=64"];
        let times = ["--seconds", "1", "--warm-up", "0", "--json", json.to_str().unwrap()];
        let outcome = Outcome::of(jetson.run(&[&arguments[..], &times].concat(), ""));
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        serde_json::from_str::<Value>(&fs::read_to_string(json).unwrap()).unwrap()["settings"].clone()
    };
    // The small student has no convolution that could be in FP16.
    let settings = measured("fp32");
    assert_eq!(
        (&settings["precision"], &settings["engine"]),
        (&Value::from("TF32"), &Value::from("TensorRT 10.3.0 (tf32)"))
    );
}

#[test]
fn a_plan_that_finds_something_else_than_onnx_runtime_is_told() {
    let Some(jetson) = Jetson::new() else { return };
    jetson.bench.write("clip.mjpeg", motion_jpeg(&[RED, BLUE, GREEN]));
    let config = jetson.bench.write_config("[source]\nuri = \"clip.mjpeg\"\n");
    // The stand-in's regions follow from a hash of the model, whatever it is shown.
    let told =
        Outcome::of(jetson.run(&["run", "--compare-engine", "--config", config.to_str().unwrap()], ""));
    assert_eq!((told.code, told.stdout.lines().count()), (Some(1), 3), "{told:?}");
    assert!(told.stderr.contains("agreement median cosine"), "{told:?}");
    assert!(told.stderr.contains("(tf32) does not find what ONNX Runtime finds"), "{told:?}");
    let student = jetson.bench.path("student.onnx").display().to_string();
    assert!(told.stderr.contains(&format!("`wordsight plan build {student} --rebuild`")), "{told:?}");
}

/// What only a GPU can show: the plan of the shipped student runs, and finds what ONNX Runtime finds.
#[test]
fn on_a_gpu_the_shipped_student_finds_what_it_finds_on_the_processor() {
    if !has_driver() {
        skip_anywhere("SKIPPED: there is no GPU to run a plan on");
        return;
    }
    // Those that TensorRT for RTX knows; a data centre's Hopper is none of them.
    let gpu = gpus().ok().and_then(|gpus| gpus.first().copied());
    if !gpu.is_some_and(|gpu| [75, 80, 86, 89, 120, 121].contains(&gpu)) {
        skip_anywhere(&format!("SKIPPED: TensorRT for RTX does not run on this GPU ({gpu:?})"));
        return;
    }
    let Some(plans) = Plans::new() else { return };
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let found = |kind: &str| {
        let config = plans.bench.write(
            "gpu.toml",
            format!(
                "student = \"{0}/student.onnx\"\nvocabulary = \"{0}/words.safetensors\"\n[source]\nuri = \
                 \"{0}/clip.mjpeg\"\n[engine]\nkind = \"{kind}\"\ntensorrt = \"{1}\"\n",
                demo.display(),
                plans.libraries.display()
            ),
        );
        let mut command = wordsight(&["run", "--config", config.to_str().unwrap(), "--compare-engine"]);
        let outcome =
            Outcome::of(command.env("STATE_DIRECTORY", plans.bench.path("state")).output().unwrap());
        let _ = writeln!(std::io::stderr(), "{}", outcome.stderr);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.lines()
    };
    let (here, there) = (found("onnxruntime"), found("tensorrt"));
    assert_eq!(here.len(), there.len());
    let words = |lines: &[Value]| lines.iter().map(|line| words_of(line).len()).sum::<usize>();
    let same = here.iter().zip(&there).filter(|(here, there)| words_of(here) == words_of(there)).count();
    // The kernels' letterbox rounds once where the processor's rounds twice: what stands at a threshold may differ.
    assert!(same * 10 >= here.len() * 9, "{same} of {} frames alike", here.len());
    assert!(words(&here).abs_diff(words(&there)) * 20 <= words(&here));
}
