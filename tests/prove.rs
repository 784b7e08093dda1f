//! The scripts that prove on a device what no other machine can show, run here: they say what they can't run, and do
//! the rest.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::*;

/// The report of a script on the small student, and of each of its steps the state.
fn prove(script: &str, only: &str, more: &[&str]) -> Value {
    let bench = Bench::new();
    let out = bench.path("proof.json");
    let path = |name: &str| bench.path(name).display().to_string();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
    let (student, words) = (path("student.onnx"), path("words.safetensors"));
    let outcome = Command::new(script)
        .args(["--wordsight", env!("CARGO_BIN_EXE_wordsight"), "--students", &student])
        .args(["--vocabulary", &words, "--seconds", "1", "--only", only, "--out", out.to_str().unwrap()])
        .args(more)
        .output()
        .unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    let text = std::fs::read_to_string(out).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Step, state.
fn states(report: &Value) -> Vec<(&str, &str)> {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().map(|step| (step["name"].as_str().unwrap(), step["state"].as_str().unwrap())).collect()
}

fn step<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["steps"].as_array().unwrap().iter().find(|step| step["name"] == name).unwrap()
}

fn has_driver() -> bool {
    wordsight_engines::nvidia::has_driver()
}

#[test]
fn on_a_machine_that_is_no_jetson_the_jetsons_script_does_what_it_can_and_says_what_it_cannot() {
    if has_driver() || Path::new("/etc/nv_tegra_release").exists() {
        return;
    }
    let only = "system,doctor,gpu_tests,plans,killed_build,bench,agreement,swaps";
    let report = prove("prove-on-jetson", only, &["--board", "orin-nano-super"]);
    assert_eq!((&report["kind"], &report["by"]), (&"proof".into(), &"prove-on-jetson".into()));
    let expected = [
        ("system", "cannot"),
        ("doctor", "ok"),
        ("gpu_tests", "cannot"),
        ("plans", "cannot"),
        ("killed_build", "cannot"),
        ("bench", "ok"),
        ("agreement", "cannot"),
        ("swaps", "ok"),
    ];
    assert_eq!(states(&report), expected, "{report:#}");
    assert!(step(&report, "system")["said"].as_str().unwrap().ends_with("this is no Jetson"));
    assert!(step(&report, "swaps")["said"].as_str().unwrap().contains("20 swaps and 5 reloads"));
    assert!(step(&report, "doctor")["found"].as_array().unwrap().len() > 3);
    let found = &step(&report, "bench")["found"];
    assert!(found[0]["settings"]["engine"].as_str().unwrap().starts_with("onnxruntime"), "{found:#}");
    assert_eq!(found[1]["kind"], "estimate", "the estimate stands beside the measurement");
}

#[test]
fn without_a_gpu_the_gpus_script_says_of_each_step_what_lacks() {
    if has_driver() {
        return;
    }
    let report = prove("prove-on-gpu", "gpu_tests,plans,killed_build,agreement", &[]);
    for step in report["steps"].as_array().unwrap() {
        assert_eq!((&step["state"], &step["exit_code"]), (&"cannot".into(), &3.into()), "{step}");
        assert!(!step["said"].as_str().unwrap().is_empty(), "{step}");
    }
    assert_eq!(report["steps"].as_array().unwrap().len(), 4);
}

#[test]
fn a_flag_that_is_none_and_a_program_that_is_not_there_are_told() {
    for script in ["prove-on-jetson", "prove-on-gpu"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
        let of = |arguments: &[&str]| Outcome::of(Command::new(&path).args(arguments).output().unwrap());
        assert!(of(&["--nonsense", "1"]).sentence(2).contains("--nonsense is no flag"));
        assert!(of(&["--wordsight", "/nowhere"]).sentence(2).contains("/nowhere is not there"));
    }
}
