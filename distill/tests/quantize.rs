//! The quantised shipped student: close to the one in float, readable by every runtime, refused where it makes no
//! sense.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use wordsight_engines::{CpuEngine, Engine};

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// A folder with every sixth frame of the demo's clip.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("images")).unwrap();
        for (at, frame) in support::clip_frames(6).iter().enumerate() {
            frame.save(folder.path().join(format!("images/{at:03}.png"))).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn quantize(&self, student: &Path, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_wordsight-distill"))
            .args(["quantize", "--student", student.to_str().unwrap()])
            .args(["--images", self.path("images").to_str().unwrap()])
            .args(["--output", self.path("student-int8.onnx").to_str().unwrap()])
            .args(["--json", self.path("report.json").to_str().unwrap()])
            .args(more)
            .output()
            .unwrap()
    }

    fn report(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path("report.json")).unwrap()).unwrap()
    }
}

fn shipped() -> PathBuf {
    support::checkout("demo/student.onnx")
}

#[test]
fn the_shipped_student_keeps_its_embeddings_in_integers() {
    let bench = Bench::new();
    let output = bench.quantize(&shipped(), &["--target", "cpu", "--few-images", "--method", "max"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = bench.report();
    let cosine = report["students"][1]["agreement"]["median_cosine"].as_f64().unwrap();
    assert!((0.98..0.999_999).contains(&cosine), "{report:#}");

    let engine = CpuEngine::open(&bench.path("student-int8.onnx"), 1).unwrap();
    assert_eq!(engine.facts(), CpuEngine::open(&shipped(), 1).unwrap().facts());
    let model = wordsight_onnx::read(&bench.path("student-int8.onnx")).unwrap();
    assert_eq!(wordsight_onnx::metadata(&model, "wordsight.precision"), Some("int8"));
    let graph = model.graph.unwrap();
    let count = |op: &str| graph.node.iter().filter(|node| node.op_type == op).count();
    assert!(count("QuantizeLinear") > 60, "{}", count("QuantizeLinear"));
    // Matrix products with weights became Gemm with a bias in integers, but for the classes' mixture, the boxes' shifts
    // and their quality; suppression's are in float; the image's normalisation is in the stem.
    let biases: Vec<&String> =
        graph.node.iter().filter(|node| node.op_type == "Gemm").flat_map(|node| node.input.last()).collect();
    assert_eq!(biases.len(), 8, "{biases:?}");
    let is_dequantised = |name: &&&String| name.ends_with("_dequantised");
    assert_eq!(biases.iter().filter(is_dequantised).count(), 8, "{biases:?}");
    assert_eq!((count("MatMul"), count("Pad"), count("Div")), (8, 1, 2));
    let suppression = graph.node.iter().filter(|node| node.name.starts_with("proposals/MatMul"));
    let inputs: Vec<&String> = suppression.flat_map(|node| &node.input).collect();
    assert!(inputs.len() == 4 && !inputs.iter().any(|name| name.ends_with("_dequantised")), "{inputs:?}");

    // And it is not quantised twice.
    let quantised = bench.path("quantised.onnx");
    fs::rename(bench.path("student-int8.onnx"), &quantised).unwrap();
    let again = bench.quantize(&quantised, &["--target", "cpu", "--few-images"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("quantised already"), "{again:?}");
}

#[test]
fn the_costliest_layers_are_pinned_until_the_budget_holds() {
    let bench = Bench::new();
    let plot = bench.path("report.svg");
    let budget = |least_cosine: f64, least_tenth: f64| {
        let (least_cosine, least_tenth) = (format!("{least_cosine:.4}"), format!("{least_tenth:.4}"));
        let flags =
            ["--target", "tensorrt", "--few-images", "--count", "4", "--method", "max", "--least-kept", "0"];
        let least = ["--least-cosine", &least_cosine, "--least-lowest-tenth", &least_tenth];
        let plot = ["--plot", plot.to_str().unwrap()];
        let output = bench.quantize(&shipped(), &[&flags[..], &least, &plot].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        bench.report()
    };
    let loose = budget(0.5, 0.5);
    assert_eq!(loose["students"].as_array().unwrap().len(), 2, "nothing to pin: {loose:#}");
    let agreement = |student: &Value, what: &str| student["agreement"][what].as_f64().unwrap();
    let before = |what| agreement(&loose["students"][1], what);
    let least_cosine = f64::midpoint(before("median_cosine"), 1.0);
    let least_tenth = before("lowest_tenth") + (1.0 - before("lowest_tenth")) / 4.0;
    let tight = budget(least_cosine, least_tenth);
    let last = tight["students"].as_array().unwrap().last().unwrap();
    let pinned = last["pinned"].as_array().unwrap();
    assert!(!pinned.is_empty(), "{tight:#}");
    assert!(agreement(last, "median_cosine") >= least_cosine - 1e-4, "{tight:#}");
    assert!(agreement(last, "lowest_tenth") >= least_tenth - 1e-4, "{tight:#}");
    let costliest = &tight["sensitivities"][0]["layer"];
    assert_eq!(pinned.iter().filter(|layer| *layer == costliest).count(), 1);
    // The picture has the students and what was tried.
    let drawn = fs::read_to_string(&plot).unwrap();
    assert!(drawn.contains("median cosine") && drawn.contains(costliest.as_str().unwrap()), "{drawn}");
}

#[test]
fn the_shipped_student_in_fp16_finds_the_same() {
    let bench = Bench::new();
    let output = bench.quantize(&shipped(), &["--precision", "fp16", "--count", "8"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let agreement = &bench.report()["students"][1]["agreement"];
    assert!(agreement["median_cosine"].as_f64().unwrap() > 0.9999, "{agreement}");
    assert!(agreement["regions_kept"].as_f64().unwrap() > 0.95, "{agreement}");
    // Weights are in FP16, and nothing casts them back.
    let model = wordsight_onnx::read(&bench.path("student-int8.onnx")).unwrap();
    let graph = model.graph.unwrap();
    let weights: Vec<&String> =
        graph.node.iter().filter(|node| node.op_type == "Conv").map(|node| &node.input[1]).collect();
    assert!(
        weights
            .iter()
            .all(|weight| graph.initializer.iter().any(|own| own.name == **weight && own.data_type == 10))
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let bench = Bench::new();
    let told = |student: &Path, more: &[&str]| {
        let output = bench.quantize(student, &[&["--target", "cpu"], more].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !told.contains("panicked"), "{told}");
        told
    };
    let untargeted = ["quantize", "--student", "/s.onnx", "--images", "/", "-o", "/x.onnx"];
    for more in [&[][..], &["--precision", "int8"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"))
            .args(untargeted)
            .args(more)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "INT8 of what runs it: {output:?}");
    }
    let output = bench.quantize(&shipped(), &["--precision", "fp16", "--target", "cpu"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("FP16 as FP32"), "{output:?}");
    let few = told(&shipped(), &[]);
    assert!(few.contains("500") && few.contains("--few-images"), "{few}");
    let flags = ["--few-images", "--count", "2"];
    let unknown = told(&shipped(), &[&flags[..], &["--pin", "backbone/Conv_none"]].concat());
    assert!(unknown.contains("no layer `backbone/Conv_none`"), "{unknown}");
    let missing = told(Path::new("/nowhere.onnx"), &flags);
    assert!(missing.contains("/nowhere.onnx"), "{missing}");
    let nowhere = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"))
        .args([
            "quantize",
            "--student",
            shipped().to_str().unwrap(),
            "--target",
            "cpu",
            "-o",
            "/nowhere/x.onnx",
        ])
        .args(["--images", bench.path("images").to_str().unwrap()])
        .args(flags)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("no folder /nowhere"), "{nowhere:?}");
    fs::write(bench.path("images/000.png"), b"no picture").unwrap();
    let broken = told(&shipped(), &flags);
    assert!(broken.contains("000.png"), "{broken}");
    assert!(!bench.path("student-int8.onnx").exists());
}
