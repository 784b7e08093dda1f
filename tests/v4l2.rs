//! `wordsight` with a virtual camera, the kernel's own `vivid`, in a virtual machine.
//!
//! The machine boots once for all of these tests. `tests/v4l2/init` runs in it and leaves files behind;
//! `tests/v4l2/boot` makes the machine and fetches them; the expectations are here. Debian's kernel, QEMU and a few
//! tools are needed (`make camera-deps`); where they can't be had the tests say that they are skipped, and fail where
//! `WORDSIGHT_REQUIRE_REFERENCE` is set on a machine that could have them.
//!
//! Everything in the machine is emulated, and slow on a busy host: assertions about times leave room for that.
#![cfg(feature = "v4l2")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use support::*;

/// When the machine is stopped if it isn't done, seconds; it takes a minute or two of an idle host.
const LONGEST: &str = "1800";
/// The code of `tests/v4l2/boot` where there can be no machine.
const NO_MACHINE: i32 = 3;
/// How often the camera is lost while resources are counted.
const LOSSES: u64 = 21;

const WHITE: Colour = [255; 3];

/// What the scenarios left behind.
struct Machine {
    results: PathBuf,
}

/// The machine after its scenarios, or `None` where there can't be one.
fn machine() -> Option<&'static Machine> {
    static MACHINE: OnceLock<Result<Machine, Option<String>>> = OnceLock::new();
    match MACHINE.get_or_init(boot) {
        Ok(machine) => Some(machine),
        Err(None) => None,
        Err(Some(error)) => panic!("{error}"),
    }
}

fn boot() -> Result<Machine, Option<String>> {
    let bench = Bench::new();
    let words = [("red", RED), ("green", GREEN), ("blue", BLUE), ("white", WHITE)];
    write_vocabulary(&bench.path("words.safetensors"), &words);
    bench.write_config("[engine]\nthreads = 1\n");
    // Losses that follow on one another are waited for longer and longer; not here.
    let life = "student = \"student.onnx\"\nvocabulary = \"words.safetensors\"\n[engine]\nthreads = 1\n\
                [source]\nlongest_wait_s = 0.25\nstalled_after_s = 10\n";
    bench.write("life.toml", life);
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("v4l2");
    drop(fs::remove_dir_all(&results));
    fs::create_dir_all(&results).unwrap();

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let runtime = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let output = Command::new(root.join("tests/v4l2/boot"))
        .arg(env!("CARGO_BIN_EXE_wordsight"))
        .arg(runtime.unwrap_or_else(|| root.join(".deps/onnxruntime/libonnxruntime.so.1")))
        .arg(bench.path(""))
        .arg(&results)
        .arg(LONGEST)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => Ok(Machine { results }),
        Some(NO_MACHINE) => {
            let required = std::env::var_os("WORDSIGHT_REQUIRE_REFERENCE").is_some();
            // Where Debian's kernel can be had; Ubuntu, for one, packages its own in another way.
            let is_debian = fs::read_to_string("/etc/os-release")
                .is_ok_and(|release| release.lines().any(|line| line == "ID=debian"));
            if required && is_debian && cfg!(target_arch = "x86_64") {
                return Err(Some(said));
            }
            skip_anywhere(&format!("SKIPPED: no machine with a camera: {said}"));
            Err(None)
        }
        _ => Err(Some(said)),
    }
}

impl Machine {
    fn text(&self, name: &str) -> String {
        let path = self.results.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn numbers(&self, name: &str) -> Vec<i64> {
        self.text(name).split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    /// How a run ended and what it said.
    fn outcome(&self, name: &str) -> Outcome {
        let code = Some(self.numbers(&format!("{name}.code"))[0] as i32);
        let stderr = self.text(&format!("{name}.err"));
        assert!(!stderr.contains("panicked"), "{name}: {stderr}");
        Outcome { code, stdout: self.text(&format!("{name}.jsonl")), stderr }
    }

    /// A run's health at a moment.
    fn health(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap()
    }

    /// What a run that was ended by SIGTERM said, less than two seconds later.
    fn terminated(&self, name: &str) -> Outcome {
        let outcome = self.outcome(name);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.stderr.contains("latency"), "a summary: {}", outcome.stderr);
        let hundredths = self.numbers(&format!("{name}.end"))[0];
        assert!(hundredths < 200, "it took {hundredths} hundredths of a second to end");
        outcome
    }
}

/// The right and lower end of everything in a line.
fn extent(line: &Value) -> [f64; 2] {
    let found = line["detections"].as_array().unwrap();
    [2, 3].map(|side| {
        found.iter().map(|found| found["box_in_frame"][side].as_f64().unwrap()).fold(0.0, f64::max)
    })
}

/// Frames of a run with one word in them, from a camera of this size.
fn assert_frames(machine: &Machine, name: &str, word: &str, size: [f64; 2]) {
    let lines = machine.outcome(name).lines();
    assert_eq!(lines.len(), 4, "{name}");
    for line in &lines {
        let words = words_of(line);
        assert!(!words.is_empty() && words.iter().all(|found| *found == word), "{name}: {words:?}");
        assert_eq!(extent(line), size, "{name}");
        let age = line["age_ms"].as_f64().unwrap();
        assert!(age > 0.0 && age < 2_000.0, "{name}: {age} ms");
    }
}

#[test]
fn every_format_has_the_right_colours_at_the_right_size() {
    let Some(machine) = machine() else { return };
    assert_frames(machine, "yuyv", "red", [640.0, 360.0]);
    assert_frames(machine, "nv12", "green", [640.0, 360.0]);
    assert_frames(machine, "uyvy", "blue", [320.0, 180.0]);
    assert_frames(machine, "rgb", "blue", [320.0, 180.0]);
    assert_frames(machine, "i420", "red", [1280.0, 720.0]);
    assert_frames(machine, "grey", "white", [320.0, 180.0]);
}

#[test]
fn controls_are_set() {
    let Some(machine) = machine() else { return };
    let said = machine.text("rgb.controls");
    assert!(said.contains("brightness: 100") && said.contains("test_pattern: 9"), "{said}");
}

#[test]
fn what_the_camera_does_not_have_is_a_wrong_configuration_and_told_with_what_it_has() {
    let Some(machine) = machine() else { return };
    for (name, expected) in [
        ("no-format", "format=mjpg: the camera has yuyv, uyvy,"),
        ("no-size", "width=123&height=45: the camera has 320x180, 640x360, 640x480, 1280x720,"),
        (
            "no-rate",
            "fps=1000: at 640x360 the camera gives 1, 2, 4, 5, 10, 12.5, 15, 25, 30, 40 frames a second",
        ),
        (
            "no-control",
            "the camera has no `zoom`; beside width, height, fps and format it takes brightness, contrast,",
        ),
        ("no-value", "brightness=999: it takes 0 to 255"),
    ] {
        let outcome = machine.outcome(name);
        assert!(outcome.sentence(2).contains(expected), "{outcome:?}");
    }
}

#[test]
fn what_cannot_be_opened_is_told_with_what_to_do() {
    let Some(machine) = machine() else { return };
    for (name, expected) in [
        ("no-device", "there is no such device; there are /dev/video0 (vivid-000-vid-cap),"),
        ("no-pictures", "no pictures come out of it; there are /dev/video0"),
        ("no-metadata", "it carries what a camera tells about its pictures, not the pictures; there are"),
        (
            "no-planes",
            "pictures in several planes, which only GStreamer reads here: gst:v4l2src device=/dev/",
        ),
        ("no-turn", "another program is using it"),
        ("no-stream", "cannot open v4l2:///dev/video0: its driver says: Invalid argument"),
    ] {
        let outcome = machine.outcome(name);
        assert!(outcome.sentence(1).contains(expected), "{outcome:?}");
    }
}

#[test]
fn the_cameras_are_listed_with_what_to_write_for_them() {
    let Some(machine) = machine() else { return };
    let text = machine.text("cameras.txt");
    for expected in [
        "/dev/video0  vivid (vivid, platform:vivid-000)\n    v4l2:///dev/video0?format=yuyv&width=",
        "640x480 at 1, 2, 4, 5, 10, 12.5, 15, 25\n",
        "its driver gives pictures in several planes",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let cameras = machine.health("cameras.json");
    assert_eq!(cameras.as_array().unwrap().len(), 2, "no metadata, no outputs");
    let nv12 = cameras[0]["formats"].as_array().unwrap().iter().find(|format| format["format"] == "nv12");
    assert_eq!(nv12.unwrap()["sizes"][0]["width"], 320);
}

#[test]
fn a_damaged_frame_is_told_and_dropped_ones_are_counted_and_the_stream_goes_on() {
    let Some(machine) = machine() else { return };
    let outcome = machine.outcome("life");
    let damaged = "is not a usable picture: the driver says that it is damaged";
    assert_eq!(outcome.stderr.matches(damaged).count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("unreadable 1"), "{}", outcome.stderr);
    let dropped =
        outcome.stderr.split("(before) the camera ").nth(1).expect("frames that the camera dropped");
    let dropped: u64 = dropped.split([',', '\n']).next().unwrap().parse().unwrap();
    // 15 frames a second for two seconds, of which 70 in a hundred are dropped.
    assert!(dropped >= 10, "{dropped}");
    let health = machine.health("life.damaged");
    assert_eq!((&health["state"], &health["losses"]), (&"running".into(), &0.into()), "{health}");
}

#[test]
fn a_camera_whose_driver_fails_is_opened_again_and_once_more_if_it_will_not_start() {
    let Some(machine) = machine() else { return };
    let health = machine.health("life.fatal");
    let reason = health["reason"].as_str().unwrap();
    assert!(reason.contains("its driver has failed (EIO)"), "{reason}");
    assert_eq!(machine.health("life.healed")["state"], "running");
    let refused = machine.health("life.refused");
    assert_eq!((&refused["state"], &refused["losses"]), (&"running".into(), &2.into()), "{refused}");
    let log = machine.outcome("life").stderr;
    assert!(log.contains("its driver says: Invalid argument") && log.contains("and 2 tries"), "{log}");
}

#[test]
fn after_many_losses_no_file_and_no_mapping_is_left_behind() {
    let Some(machine) = machine() else { return };
    assert_eq!(machine.health("life.many")["losses"], LOSSES);
    let (first, last) = (machine.numbers("life.first"), machine.numbers("life.last"));
    println!(
        "open files, mappings, the camera's mappings: {first:?} after one loss, {last:?} after {LOSSES}"
    );
    assert_eq!(first[0], last[0], "open files");
    assert_eq!((first[2], last[2]), (4, 4), "the camera's buffers");
    // The allocator takes a few as it needs them; twenty losses would leave eighty of the camera's.
    assert!(last[1] < first[1] + 40, "mappings: {first:?} {last:?}");
    assert!(machine.outcome("life").stderr.contains("it was unplugged, or its driver was unloaded (ENODEV)"));
}

#[test]
fn a_camera_that_comes_back_with_another_size_is_seen_at_that_size() {
    let Some(machine) = machine() else { return };
    let reason = machine.health("life.hidden")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("unplugged") || reason.contains("there is no such device"), "{reason}");
    assert_eq!(machine.health("life.resized")["state"], "running");
    let before = machine.numbers("life.lines")[0] as usize;
    let lines = machine.terminated("life").lines();
    assert!(lines.len() > before);
    for (number, line) in lines.iter().enumerate() {
        // What was under way when the lines were counted is of the old size.
        let sizes: &[[f64; 2]] = match number {
            _ if number < before => &[[640.0, 360.0]],
            _ if number < before + 4 => &[[640.0, 360.0], [320.0, 180.0]],
            _ => &[[320.0, 180.0]],
        };
        assert!(sizes.contains(&extent(line)), "line {number} after {before}: {line}");
    }
    assert_eq!(extent(lines.last().unwrap()), [320.0, 180.0]);
}

#[test]
fn a_sender_behind_hdmi_that_changes_its_picture_makes_the_camera_be_opened_again() {
    let Some(machine) = machine() else { return };
    assert_eq!(machine.health("hdmi.changed")["reason"], "the format of its picture has changed");
    assert_eq!(machine.health("hdmi.back")["state"], "running");
    machine.terminated("hdmi");
}

#[test]
fn who_comes_late_gets_the_newest_frame_with_the_age_that_the_camera_gives_it() {
    let Some(machine) = machine() else { return };
    let [stopped, continued] =
        ["stopped", "continued"].map(|moment| machine.numbers(&format!("away.{moment}"))[0] as f64 / 100.0);
    assert!(continued - stopped >= 1.5);
    // While the program slept, the camera filled its four buffers, one every fifth of a second, and then had none left.
    // By the program's own clock nothing was captured in that time; of the four it took the newest, and told its age.
    let lines = machine.outcome("away").lines();
    let age = |line: &Value| line["age_ms"].as_f64().unwrap() / 1e3;
    let captured = |line: &Value| line["timestamp_ns"].as_f64().unwrap() / 1e9;
    let asleep = |line: &&Value| stopped < captured(line) && captured(line) < continued;
    let stale = lines.iter().filter(asleep).max_by(|a, b| age(a).total_cmp(&age(b)));
    let stale = stale.unwrap_or_else(|| panic!("no frame from between {stopped} and {continued}"));
    assert!(age(stale) > 0.4, "{stale}");
    // Two of the others at least would be between it and its neighbours, had they been taken, too.
    for line in lines.iter().filter(|line| line["frame"] != stale["frame"]) {
        assert!((captured(line) - captured(stale)).abs() > 0.4, "{line} beside {stale}");
    }
    assert_eq!(machine.health("away.late")["losses"], 0);
}

#[test]
fn a_camera_that_is_taken_away_and_brought_back_is_seen_again_within_three_seconds() {
    let Some(machine) = machine() else { return };
    let gone = machine.health("away.gone");
    assert_eq!(gone["state"], "lost");
    let waiting = machine.health("away.waiting");
    assert!(waiting["reason"].as_str().unwrap().contains("there is no such device"), "{waiting}");
    assert!(waiting["attempts"].as_u64().unwrap() >= 2, "{waiting}");
    assert_eq!(machine.health("away.back")["state"], "running");
    let hundredths = machine.numbers("away.return")[1];
    println!("detecting again {hundredths} hundredths of a second after the camera's return");
    assert!(hundredths < 300, "it took {hundredths} hundredths of a second");
}

#[test]
fn sigterm_ends_a_stream_whose_camera_is_gone_within_two_seconds() {
    let Some(machine) = machine() else { return };
    assert_eq!(machine.health("away.again")["state"], "lost");
    machine.terminated("away");
}
