//! A student with TensorRT 10, end to end: library, plan, kernels, graph, reload and what goes wrong, on stand-ins for
//! TensorRT (`tensorrt/stand_in.cpp`) and for CUDA's driver (`cuda_stand_in.cpp`).
//!
//! Both are found by the loader's path, which is read when a program starts: so each test runs itself again as a
//! process of its own, with the stand-ins on that path.
#![cfg(feature = "tensorrt")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stand_in;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use wordsight_calibration::{Layers, Method, Ranges, Target, quantize, to_f16};
use wordsight_detection::FrameView;
use wordsight_engines::tensorrt::{
    BuildPolicy, BuildSettings, Library, Plan, PlanRequest, PlanStore, Precision, TensorRtEngine,
    TensorRtSettings,
};
use wordsight_engines::{Engine, EngineError, Regions, StudentFacts, WholeFrames};
use wordsight_onnx::proto::StringStringEntryProto;

/// Set in the process of a test that has the stand-ins.
const STAND_INS: &str = "WORDSIGHT_TEST_STAND_INS";
/// What the stand-in for TensorRT is told (`Demands` of its source).
const DEMANDS: &str = "WORDSIGHT_TEST_TENSORRT";

fn engines() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the compiled stand-ins.
fn stand_ins() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        stand_in::compile_into(folder.path(), engines());
        stand_in::compile_tensorrt_into(folder.path(), engines()).then_some(folder)
    });
    folder.as_ref().map(tempfile::TempDir::path)
}

/// Runs the body of the test of that name beside the stand-ins.
fn beside_stand_ins(name: &str, body: impl FnOnce(&Device)) {
    if std::env::var_os(STAND_INS).is_some() {
        return body(&Device::new());
    }
    let Some(folder) = stand_ins() else { return };
    let child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("LD_LIBRARY_PATH", folder)
        .env(STAND_INS, folder)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
}

fn demand(words: &str) {
    // SAFETY: nothing else of this process reads or writes the environment meanwhile: it runs this one test.
    unsafe { std::env::set_var(DEMANDS, words) };
}

/// A device's disk: a student, another one, and a state directory.
struct Device {
    folder: tempfile::TempDir,
}

impl Device {
    fn new() -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        let shipped = engines().join("../demo/student.onnx");
        fs::copy(&shipped, this.path("student.onnx")).unwrap();
        let mut other = wordsight_onnx::read(&shipped).unwrap();
        let entry = StringStringEntryProto { key: "note".to_owned(), value: "another".to_owned() };
        other.metadata_props.push(entry);
        wordsight_onnx::write(&other, &this.path("other.onnx")).unwrap();
        // SAFETY: as in `demand`.
        unsafe { std::env::set_var("WORDSIGHT_TEST_TENSORRT_LOG", this.path("tensorrt.log")) };
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self) -> TensorRtSettings {
        TensorRtSettings {
            libraries: None,
            state: self.path("state"),
            builds_plans: true,
            build: BuildSettings::default(),
        }
    }

    fn open(&self, student: &str) -> Result<TensorRtEngine, EngineError> {
        TensorRtEngine::open(&self.path(student), &self.settings(), &|_| ControlFlow::Continue(()))
    }

    fn refusal(&self, student: &str) -> String {
        self.open(student).err().expect("a refusal").to_string()
    }

    /// What TensorRT was asked to do, in order.
    fn log(&self, begins: &str) -> Vec<String> {
        let log = fs::read_to_string(self.path("tensorrt.log")).unwrap_or_default();
        log.lines().filter(|line| line.starts_with(begins)).map(str::to_owned).collect()
    }

    /// Hashes of the models that plans were built of, by the plans' names.
    fn hashes(&self) -> Vec<u64> {
        let plans = fs::read_dir(self.path("state/plans")).unwrap().map(|entry| entry.unwrap().path());
        let mut plans: Vec<PathBuf> =
            plans.filter(|path| path.extension().is_some_and(|extension| extension == "plan")).collect();
        plans.sort();
        let hash = |path: &PathBuf| {
            let text = fs::read_to_string(path).unwrap();
            text.split(' ').nth(2).unwrap().parse().unwrap()
        };
        plans.iter().map(hash).collect()
    }
}

/// What the stand-in finds for a model of that hash.
fn found_by(hash: u64, facts: &StudentFacts) -> Regions {
    let rows = 0..facts.proposals;
    let size = facts.embedding_size;
    let embeddings: Vec<f32> = rows
        .clone()
        .flat_map(|row| {
            let place = hash.wrapping_add(row as u64) % size as u64;
            (0..size as u64).map(move |column| f32::from(u8::from(column == place)))
        })
        .collect();
    Regions {
        boxes_in_input: rows
            .clone()
            .map(|row| [row as f32, row as f32, (row + 10) as f32, (row + 10) as f32])
            .collect(),
        objectness: rows.map(|row| 1.0 / (row + 1) as f32).collect(),
        text_embeddings: embeddings.clone(),
        image_embeddings: embeddings,
        ..Regions::default()
    }
}

/// Runs planes and frames by every way, each often enough for a graph.
fn assert_runs(engine: &mut TensorRtEngine, hash: u64) {
    let wanted = found_by(hash, engine.facts());
    let planes = vec![7; engine.facts().resize.input_len()];
    let frame = vec![100; 3 * 64 * 48];
    let mut regions = Regions::default();
    for _ in 0..4 {
        engine.infer(&planes, &mut regions).unwrap();
        assert!(regions == wanted, "planes");
    }
    for _ in 0..4 {
        WholeFrames::start(engine, &FrameView::rgb(&frame, 64, 48)).unwrap();
        engine.finish(&mut regions).unwrap();
        assert!(regions == wanted, "frames");
    }
}

#[test]
fn a_plan_is_built_kept_found_again_and_run_as_a_graph() {
    beside_stand_ins("a_plan_is_built_kept_found_again_and_run_as_a_graph", |device| {
        for (at, (number, version)) in
            [(100_300, "10.3.0"), (101_302, "10.13.2"), (101_600, "10.16.0")].into_iter().enumerate()
        {
            demand(&format!("version={number}"));
            let mut engine = device.open("student.onnx").unwrap();
            assert_eq!(engine.name(), format!("TensorRT {version} (fp16)"));
            let [hash, ..] = device.hashes()[..] else { panic!("no plan") };
            assert_runs(&mut engine, hash);
            drop(engine);

            let mut again = device.open("student.onnx").unwrap();
            assert_runs(&mut again, hash);
            assert_eq!(device.log("build").len(), at + 1, "one build for each version: {:?}", device.log(""));
        }
        // Four frames and four planes each time; most of them without a call of TensorRT's.
        let (plain, captured) = (device.log("run capturing=0").len(), device.log("run capturing=1").len());
        assert!(captured >= 6 && plain + captured < 6 * 8, "{plain} plain and {captured} captured");
    });
}

#[test]
fn a_student_takes_another_s_place_and_errors_come_to_whom_they_concern() {
    beside_stand_ins("a_student_takes_another_s_place_and_errors_come_to_whom_they_concern", |device| {
        let mut first = device.open("student.onnx").unwrap();
        let [old] = device.hashes()[..] else { panic!("one plan") };
        let mut second = device.open("other.onnx").unwrap();
        let new = *device.hashes().iter().find(|hash| **hash != old).expect("two plans");
        assert_runs(&mut first, old);
        assert_runs(&mut second, new);
        // The first brought the logger that TensorRT keeps.
        drop(first);
        assert_runs(&mut second, new);

        demand("no_context=1");
        let refusal = device.refusal("student.onnx");
        assert!(refusal.contains("Requested size was 104857600 bytes"), "{refusal}");
        demand("");
        drop(second);
        assert_runs(&mut device.open("student.onnx").unwrap(), old);
    });
}

#[test]
fn a_plan_that_tensorrt_refuses_is_built_again_once() {
    beside_stand_ins("a_plan_that_tensorrt_refuses_is_built_again_once", |device| {
        drop(device.open("student.onnx").unwrap());
        demand("refuses_plans=1");
        let refusal = device.refusal("student.onnx");
        assert!(refusal.contains("will not load") && refusal.contains("Version tag"), "{refusal}");
        assert_eq!(device.log("build").len(), 2);
        demand("");
        drop(device.open("student.onnx").unwrap());
        assert_eq!(device.log("build").len(), 2, "what was built last is a plan");
    });
}

/// The plan of a student as `wordsight plan build` has it.
fn obtain(device: &Device, student: &str, settings: &BuildSettings, policy: BuildPolicy) -> Plan {
    let (library, model) = (Library::open(None).unwrap(), device.path(student));
    let request = PlanRequest {
        library: &library,
        model: &model,
        bytes: &fs::read(&model).unwrap(),
        settings,
        gpu: Some(87),
        policy,
    };
    PlanStore::in_state(&device.path("state")).obtain(&request, None, &|_| ControlFlow::Continue(())).unwrap()
}

fn build(device: &Device, settings: &BuildSettings) {
    assert!(obtain(device, "student.onnx", settings, BuildPolicy::IfMissing).is_new);
}

#[test]
fn a_plan_with_another_workspace_is_the_plan() {
    beside_stand_ins("a_plan_with_another_workspace_is_the_plan", |device| {
        build(device, &BuildSettings { workspace_mib: Some(64), ..BuildSettings::default() });
        drop(device.open("student.onnx").unwrap());
        assert_eq!(device.log("build"), ["build workspace_mib=64"]);
        // And one in FP32 is not.
        build(device, &BuildSettings { precision: Precision::Fp32, ..BuildSettings::default() });
        let settings = TensorRtSettings {
            build: BuildSettings { precision: Precision::Fp32, ..BuildSettings::default() },
            ..device.settings()
        };
        let engine =
            TensorRtEngine::open(&device.path("student.onnx"), &settings, &|_| ControlFlow::Continue(()))
                .unwrap();
        assert_eq!(engine.name(), "TensorRT 10.3.0 (tf32)");
        let log = device.log("build");
        assert_eq!(log.len(), 2);
        let default: u32 = log[1].split('=').nth(1).unwrap().parse().unwrap();
        assert!((64..=512).contains(&default), "{default} MiB");
    });
}

#[test]
fn a_plan_of_another_board_is_not_taken() {
    beside_stand_ins("a_plan_of_another_board_is_not_taken", |device| {
        drop(device.open("student.onnx").unwrap());
        // SAFETY: as in `demand`.
        unsafe { std::env::set_var("WORDSIGHT_TEST_CUDA", "multiprocessors=16") };
        let settings = TensorRtSettings { builds_plans: false, ..device.settings() };
        let refused =
            TensorRtEngine::open(&device.path("student.onnx"), &settings, &|_| ControlFlow::Continue(()));
        let refusal = refused.err().unwrap().to_string();
        assert!(
            refusal.contains("for the board Orin, 8 multi") && refusal.contains("not Orin, 16 multi"),
            "{refusal}"
        );
        drop(device.open("student.onnx").unwrap());
        assert_eq!(device.log("build").len(), 2);
    });
}

#[test]
fn a_build_that_finds_no_memory_says_so() {
    beside_stand_ins("a_build_that_finds_no_memory_says_so", |device| {
        demand("fails_above=32");
        let refusal = device.refusal("student.onnx");
        for part in
            ["Could not find any implementation", "where memory lacks: its workspace was", "workspace_mib"]
        {
            assert!(refusal.contains(part), "{refusal}");
        }
        // It has ended and was not killed: the next is as the first.
        demand("");
        drop(device.open("student.onnx").unwrap());
        let log = device.log("build");
        assert_eq!((log.len(), &log[0]), (2, &log[1]));
        let files: Vec<_> = fs::read_dir(device.path("state/plans"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(files.len(), 3, "a plan, its manifest and what was timed: {files:?}");
    });
}

#[test]
fn a_student_in_int8_that_has_no_kernels_becomes_one_in_fp16() {
    beside_stand_ins("a_student_in_int8_that_has_no_kernels_becomes_one_in_fp16", |device| {
        let model = wordsight_onnx::read(&device.path("student.onnx")).unwrap();
        let layers = Layers::of(&model).unwrap();
        let mut ranges = Ranges::default();
        layers.tensors().into_iter().for_each(|tensor| ranges.add(tensor, &[-1.0, 6.0]));
        let int8 = quantize(&model, &layers, &ranges, Method::Max, Target::TensorRt).unwrap();
        wordsight_onnx::write(&to_f16(&int8).unwrap(), &device.path("int8.onnx")).unwrap();

        demand("no_int8=1");
        for _ in 0..2 {
            let mut engine = device.open("int8.onnx").unwrap();
            assert_eq!(engine.name(), "TensorRT 10.3.0 (fp16)");
            let [hash] = device.hashes()[..] else { panic!("one plan") };
            assert_runs(&mut engine, hash);
        }
        assert_eq!(device.log("build").len(), 2, "integers are tried once");
        let plans = PlanStore::in_state(&device.path("state")).list().unwrap();
        let because = &plans[0].1.as_ref().unwrap().precision_because;
        assert!(because.contains("in INT8 here (") && because.contains("any implementation"), "{because}");
        assert!(!because.contains("memory"), "{because}");
        // What memory lacks for, FP16 has no more of; and what a student in FP32 lacks is no matter of integers.
        demand("fails_above=32");
        assert!(device.refusal("other.onnx").contains("Could not find any implementation"));
        assert_eq!(device.log("build").len(), 3);
        // With kernels for integers, after a wish to build again.
        demand("");
        let settings = BuildSettings::default();
        let plan = obtain(device, "int8.onnx", &settings, BuildPolicy::Always);
        assert_eq!((plan.manifest.key.precision.as_str(), plan.is_new), ("int8", true));
        assert_eq!(device.open("int8.onnx").unwrap().name(), "TensorRT 10.3.0 (int8)");
    });
}

#[test]
fn what_tensorrt_lacks_is_named() {
    beside_stand_ins("what_tensorrt_lacks_is_named", |device| {
        let from = PathBuf::from(std::env::var_os(STAND_INS).unwrap());
        let of_folder = |name: &str| {
            let folder = device.path(name);
            fs::create_dir(&folder).unwrap();
            fs::copy(from.join("libnvinfer.so.10"), folder.join("libnvinfer.so.10")).unwrap();
            folder
        };
        let open = |libraries: &Path| {
            let settings = TensorRtSettings { libraries: Some(libraries.to_owned()), ..device.settings() };
            TensorRtEngine::open(&device.path("student.onnx"), &settings, &|_| ControlFlow::Continue(()))
                .err()
                .expect("a refusal")
                .to_string()
        };
        // A library that another needs, and that is gone.
        fs::write(device.path("code.c"), "int wordsight_test(void) { return 0; }").unwrap();
        let gcc = |arguments: &[&str]| {
            assert!(
                Command::new("cc").current_dir(device.path("")).args(arguments).status().unwrap().success()
            );
        };
        gcc(&["-shared", "-fPIC", "-Wl,-soname,libnvdla_compiler.so", "-o", "libnvdla.so", "code.c"]);
        let needy = |name: &str| {
            gcc(&["-shared", "-fPIC", "-Wl,--no-as-needed", "-o", name, "code.c", "libnvdla.so"])
        };

        let alone = of_folder("alone");
        let refusal = open(&alone);
        assert!(refusal.contains("ONNX parser") && refusal.contains("libnvonnxparser.so.10"), "{refusal}");

        let without = of_folder("without");
        needy("without/libnvonnxparser.so.10");
        let refusal = open(&without);
        assert!(
            refusal.contains("ONNX parser") && refusal.contains("needs libnvdla_compiler.so"),
            "{refusal}"
        );

        needy("without/libnvinfer.so.10");
        let refusal = open(&without);
        assert!(refusal.contains("needs libnvdla_compiler.so, which was not found"), "{refusal}");
        // The same of a library that the loader finds by itself.
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["a_library_without_one_that_it_needs", "--exact", "--ignored", "--nocapture"])
            .env("LD_LIBRARY_PATH", &without)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
        assert!(told.contains("libnvinfer.so.10 needs libnvdla_compiler.so"), "{told}");
    });
}

/// A process of [`what_tensorrt_lacks_is_named`].
#[test]
#[ignore = "it is run by another test"]
fn a_library_without_one_that_it_needs() {
    println!("{}", Library::open(None).unwrap_err());
}

#[test]
fn what_is_called_stands_in_the_same_place_in_all_of_10_x() {
    let Some(headers) = stand_in::headers("TRT-Enterprise-10.16", engines()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("slots");
    stand_in::compile_with_headers("slots.cpp", &program, &[], &headers, engines());
    let slots = String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap();
    // Recorded from the headers of 10.16.
    assert_eq!(slots, include_str!("tensorrt/slots.10"));
}
