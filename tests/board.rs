//! `wordsight board`, and what the governor does about a hot board in a stream and in a measurement.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use support::*;
use wordsight_board::fixtures::Board;

const ROOT: &str = "WORDSIGHT_BOARD_ROOT";
/// The files of an Orin Nano whose GPU is so warm, in thousandths of a degree.
fn orin(bench: &Bench, gpu: &str) -> PathBuf {
    let root = bench.path("orin");
    Board::OrinNano.write(&root).unwrap();
    heat(&root, gpu);
    root
}

/// Above 99 °C the kernel holds the GPU's clock down.
fn heat(root: &Path, gpu: &str) {
    let thermal = root.join("sys/class/thermal");
    let is_slowed = gpu.parse::<u32>().unwrap() >= 99_000;
    fs::write(thermal.join("thermal_zone1/temp"), gpu).unwrap();
    fs::write(thermal.join("cooling_device2/cur_state"), if is_slowed { "3" } else { "0" }).unwrap();
}

#[test]
fn a_board_is_told_as_a_table_and_as_json() {
    let bench = Bench::new();
    let root = orin(&bench, "53687");
    let board = |arguments: &[&str]| {
        let mut command = wordsight(&["board"]);
        Outcome::of(command.args(arguments).env(ROOT, &root).output().unwrap())
    };
    let table = board(&[]);
    assert_eq!(table.code, Some(0), "{table:?}");
    assert!(table.stdout.contains("JetPack 6.2") && table.stdout.contains("MAXN_SUPER"), "{}", table.stdout);
    let json: Value = serde_json::from_str(&board(&["--json"]).stdout).unwrap();
    assert_eq!(json["machine"]["l4t"], "R36.4.3");
    assert_eq!((&json["watts"], &json["hottest"]), (&9.309.into(), &"gpu-thermal".into()));
    assert_eq!(json["readings"]["over_currents"][2]["events"], 37);
    let nowhere = Outcome::of(wordsight(&["board", "--root", "/nowhere"]).output().unwrap());
    assert!(nowhere.sentence(1).contains("--root takes one with a copy"), "{nowhere:?}");
}

#[test]
fn this_machine_is_told_whatever_it_is() {
    let outcome = Outcome::of(wordsight(&["board"]).output().unwrap());
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.stdout.lines().count() >= 2, "{outcome:?}");
}

#[test]
fn a_hot_board_gets_fewer_frames_and_all_of_them_again_when_that_is_not_wanted_any_more() {
    let bench = Bench::new();
    let root = orin(&bench, "99500");
    let config = |governor: &str| {
        bench.write_config(&format!(
            "[publish]\njson = \"lines.jsonl\"\nhealth = \"health.json\"\n[engine]\nthreads = 1\n[source]\n\
             uri = \"test://ff0000?width=64&height=64\"\npacing = \"camera\"\nfps = 50\n[governor]\n{governor}"
        ))
    };
    let path = config("least_fraction = 0.5");
    let mut command = wordsight(&["run", "--config", path.to_str().unwrap()]);
    command.env(ROOT, &root).stdout(Stdio::null());
    let mut running = Process::start(command, &bench.path(""));

    let held = running.health_when(|health| {
        let governor = &health["governor"];
        let full = governor["full_fps"].as_f64().unwrap_or(f64::NAN);
        governor["limit_fps"].as_f64().is_some_and(|limit| (limit - 0.5 * full).abs() < 0.05 * full)
    });
    let governor = &held["governor"];
    assert_eq!((&governor["reason"], &governor["hottest"]), (&"throttled".into(), &"gpu-thermal".into()));
    assert_eq!(governor["margin_c"], -0.5);
    // As many as it says, by its own clock, give or take what a busy machine loses.
    let at = |health: &Value| (health["published"].as_f64().unwrap(), health["written_at"].as_f64().unwrap());
    let (from, since) = at(&held);
    let now = running.health_when(|health| at(health).1 > since + 3.0);
    let fps = (at(&now).0 - from) / (at(&now).1 - since);
    let limit = governor["limit_fps"].as_f64().unwrap();
    assert!(fps < 1.25 * limit + 2.0, "{fps} frames/s, {limit} allowed");

    // Rates change without a pause.
    config("enabled = false");
    let free = running.health_when(|health| health["governor"].is_null());
    assert_eq!(free["reload"]["count"], 1, "{free}");
    running.terminate();
    let told = running.stderr();
    assert!(told.contains("the stream is held back to"), "{told}");
    assert!(told.contains("the stream is free again"), "{told}");
    assert!(told.contains("frames, for the board's sake"), "{told}");
}

#[test]
fn a_measurement_on_a_hot_board_says_that_it_was_held_back() {
    let bench = Bench::new();
    let root = orin(&bench, "99500");
    let json = bench.path("report.json");
    let clip = bench.write("clip.mjpeg", motion_jpeg(&[RED; 10]));
    let mut command =
        bench.command(&["bench", "--seconds", "4", "--warm-up", "1", "--mode", "live", "--fps", "50"]);
    command.arg("--source").arg(&clip).arg("--json").arg(&json).env(ROOT, &root);
    let outcome = Outcome::of(command.output().unwrap());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("held the stream back for"), "{}", outcome.stdout);
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["machine"]["power_mode"], "MAXN_SUPER");
    assert_eq!(report["governed"]["reason"], "hot", "first");
    assert!(report["governed"]["least_fps"].as_f64() < Some(50.0), "{}", report["governed"]);
    assert!(report["drops"]["governor"].as_u64() > Some(0), "{}", report["drops"]);

    heat(&root, "50000");
    let cool = Outcome::of(command.output().unwrap());
    assert!(cool.code == Some(0) && !cool.stdout.contains("held the stream back"), "{}", cool.stdout);
}
