//! Streams through GStreamer, the real program at one end and real pipelines at the other: video files, a network camera
//! that is killed, stalls and comes back, and any pipeline.
//!
//! The network camera is an RTSP server on loopback, made of Debian's gst-rtsp-server by `helper.c`.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::*;

/// How long anything may take that has no bar.
const PATIENCE: Duration = Duration::from_secs(20);
/// The bar: detecting again so soon after a camera is back.
const BACK_WITHIN: Duration = Duration::from_secs(3);
/// The bar: a clean stop takes no longer.
const STOPPED_WITHIN: Duration = Duration::from_secs(2);

/// The compiled `helper.c`; the folder lives as long as the tests.
static HELPER: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("helper");
    let flags = Command::new("pkg-config")
        .args(["--cflags", "--libs", "gstreamer-rtsp-server-1.0"])
        .output()
        .expect("pkg-config is there (make setup)");
    assert!(
        flags.status.success(),
        "libgstrtspserver-1.0-dev is missing: `scripts/setup cameras` installs it"
    );
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams/helper.c");
    let compiled = Command::new("cc")
        .arg(source)
        .arg("-o")
        .arg(&program)
        .args(String::from_utf8(flags.stdout).unwrap().split_whitespace())
        .status();
    assert!(compiled.unwrap().success());
    (folder, program)
});

/// Tests that measure how long something takes, one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn helper() -> Command {
    Command::new(&HELPER.1)
}

/// A process that is killed when the test is over, however it ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Open files and threads of the process.
    fn holdings(&self) -> [usize; 2] {
        ["fd", "task"].map(|what| {
            std::fs::read_dir(format!("/proc/{}/{what}", self.0.id())).map_or(0, |entries| entries.count())
        })
    }
}

/// A network camera that sees one colour.
fn camera(port: u16, pattern: &str, width: u32) -> Process {
    let height = width * 3 / 4;
    let launch = format!(
        "( videotestsrc is-live=true pattern={pattern} ! video/x-raw,format=I420,width={width},height={height},framerate=30/1 \
         ! jpegenc ! rtpjpegpay name=pay0 )"
    );
    let mut command = helper();
    command.args(["serve", &port.to_string(), &launch]).stdout(Stdio::piped());
    let mut server = Process(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    server
}

/// The program on a stream, its lines read as they come.
struct Run {
    process: Process,
    lines: Receiver<Value>,
    health: PathBuf,
}

impl Run {
    fn start(bench: &Bench, source: &str, more: &[&str]) -> Self {
        let health = bench.path("health.json");
        let mut command = bench.command(&["run", "--source", source]);
        command.args(more).arg("--health").arg(&health);
        let mut child = spawn(command);
        let (send, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = send.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { process: Process(child), lines, health }
    }

    /// The next line; what came before now is passed over.
    fn next_line(&self) -> Value {
        while self.lines.try_recv().is_ok() {}
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    /// What the file says; null while the program hasn't got so far.
    fn health(&self) -> Value {
        std::fs::read(&self.health).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap())
    }

    fn wait_for_state(&self, state: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let health = self.health();
            if health["state"] == state {
                return health;
            }
            assert!(Instant::now() < until, "{health} is never {state}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks for an end and returns what was said.
    fn stop(mut self) -> Outcome {
        let asked = Instant::now();
        self.process.signal("-TERM");
        let status = self.process.0.wait().unwrap();
        let took = asked.elapsed();
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut self.process.0.stderr.take().unwrap(), &mut stderr).unwrap();
        assert!(took < STOPPED_WITHIN, "{took:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        Outcome { code: status.code(), stdout: String::new(), stderr }
    }
}

fn url(port: u16) -> String {
    format!("rtsp://127.0.0.1:{port}/camera")
}

#[test]
fn every_frame_of_a_video_file_comes_out_once_and_again_in_a_loop() {
    let bench = Bench::new();
    for (muxer, encoder, name) in
        [("matroskamux", "vp8enc deadline=1", "clip.mkv"), ("avimux", "jpegenc", "clip with spaces.avi")]
    {
        let clip = bench.path(name);
        let launch = format!(
            "videotestsrc num-buffers=40 pattern=green ! video/x-raw,format=I420,width=322,height=242 ! {encoder} \
             ! {muxer} ! filesink location=\"{}\"",
            clip.display()
        );
        assert!(helper().args(["record", &launch]).status().unwrap().success(), "{launch}");
        let clip = clip.to_str().unwrap();
        let lines = bench.run(&["run", "--source", clip]).lines();
        let frames: Vec<u64> = lines.iter().map(|line| line["frame"].as_u64().unwrap()).collect();
        assert_eq!(frames, (0..40).collect::<Vec<u64>>(), "{name}");
        assert!(lines.iter().all(|line| words_of(line)[0] == "green" && line["source"] == clip));
        let again = bench.run(&["run", "--source", clip, "--loop", "--frames", "100"]).lines();
        assert_eq!(again.len(), 100);
    }
}

#[test]
fn a_file_that_is_no_video_is_refused_with_what_gstreamer_says() {
    let bench = Bench::new();
    let text = bench.write("notes.txt", "no video at all");
    let outcome = bench.run(&["run", "--source", text.to_str().unwrap()]);
    assert!(
        outcome.sentence(1).contains("cannot open") && outcome.stderr.contains("notes.txt"),
        "{outcome:?}"
    );
}

#[test]
fn any_pipeline_is_a_camera_and_its_frames_are_young() {
    let bench = Bench::new();
    let source = "gst:videotestsrc is-live=true pattern=blue ! video/x-raw,width=320,height=240,framerate=30/1 ! appsink";
    let lines = bench.run(&["run", "--source", source, "--frames", "20"]).lines();
    assert_eq!(lines.len(), 20);
    assert!(lines.iter().all(|line| words_of(line)[0] == "blue"));
    let mut ages: Vec<f64> = lines.iter().map(|line| line["age_ms"].as_f64().unwrap()).collect();
    ages.sort_by(f64::total_cmp);
    assert!(ages[10] > 0.0 && ages[10] < 100.0, "{ages:?}");
}

#[test]
fn a_network_camera_that_is_killed_is_detected_on_again_within_three_seconds_of_its_return() {
    let _alone = ALONE.lock();
    let (bench, port) = (Bench::new(), free_port());
    let mut server = camera(port, "red", 320);
    let run = Run::start(&bench, &url(port), &["--json", "-"]);
    assert_eq!(words_of(&run.next_line())[0], "red");
    let mut first_holdings = None;
    for (round, (pattern, width)) in [("green", 320), ("blue", 640), ("red", 160)].into_iter().enumerate() {
        drop(server);
        let health = run.wait_for_state("lost");
        assert!(!health["reason"].as_str().unwrap().is_empty(), "{health}");
        // Until it has been asked for in vain, and waits its longest.
        std::thread::sleep(Duration::from_millis(2_500));
        assert!(run.health()["attempts"].as_u64().unwrap() >= 2, "{}", run.health());
        server = camera(port, pattern, width);
        let back = Instant::now();
        let line = run.next_line();
        let took = back.elapsed();
        println!("detecting again {:.2} s after the camera's return", took.as_secs_f64());
        assert!(took < BACK_WITHIN, "{took:?}");
        assert_eq!(words_of(&line)[0], pattern);
        let boxes =
            line["detections"].as_array().unwrap().iter().map(|found| found["box_in_frame"][2].as_f64());
        let right = boxes.map(Option::unwrap).fold(0.0, f64::max);
        assert!((right - f64::from(width)).abs() < 2.0, "{line}: the frame's new width");
        let health = run.wait_for_state("running");
        assert_eq!(health["losses"], round as u64 + 1);
        let holdings = run.process.holdings();
        let [files, threads] = *first_holdings.get_or_insert(holdings);
        assert!(
            holdings[0] <= files + 2 && holdings[1] <= threads + 2,
            "{holdings:?} after {files} and {threads}"
        );
    }
    let outcome = run.stop();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("is back after") && outcome.stderr.contains("latency"), "{outcome:?}");
    // Some tries are told, and not each of them.
    let told = outcome.stderr.lines().filter(|line| line.contains("WARN")).count();
    assert!((6..40).contains(&told), "{told}: {}", outcome.stderr);
}

#[test]
fn a_network_camera_that_stalls_is_lost_and_comes_back_when_it_goes_on() {
    let _alone = ALONE.lock();
    let (bench, port) = (Bench::new(), free_port());
    let server = camera(port, "red", 320);
    let config = bench.write_config("[source]\nstalled_after_s = 1.0\n");
    let run = Run::start(&bench, &url(port), &["--config", config.to_str().unwrap()]);
    assert_eq!(words_of(&run.next_line())[0], "red");
    server.signal("-STOP");
    let health = run.wait_for_state("lost");
    assert!(health["reason"].as_str().unwrap().contains("no frame for 1."), "{health}");
    server.signal("-CONT");
    assert_eq!(words_of(&run.next_line())[0], "red");
    run.wait_for_state("running");
    assert_eq!(run.stop().code, Some(0));
}

#[test]
fn a_stream_whose_camera_is_gone_stops_as_cleanly_as_any() {
    let _alone = ALONE.lock();
    let (bench, port) = (Bench::new(), free_port());
    let config = bench.write_config("[source]\nwait_at_start = true\n");
    let run = Run::start(&bench, &url(port), &["--config", config.to_str().unwrap()]);
    run.wait_for_state("lost");
    let outcome = run.stop();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("frames    0"), "{outcome:?}");
}

#[test]
fn a_camera_that_never_was_there_is_an_error_and_one_that_stays_away_too_long_as_well() {
    let bench = Bench::new();
    let source = format!("rtsp://me:secret@127.0.0.1:{}/camera", free_port());
    let outcome = bench.run(&["run", "--source", &source]);
    let sentence = outcome.sentence(1);
    assert!(
        sentence.contains("cannot open rtsp://me:***@127.0.0.1") && !sentence.contains("secret"),
        "{sentence}"
    );
    let config = bench.write_config("[source]\nwait_at_start = true\ngive_up_after_s = 1.0\n");
    let outcome = bench.run(&["run", "--config", config.to_str().unwrap(), "--source", &source]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.stderr.contains("did not come back") && !outcome.stderr.contains("secret"),
        "{outcome:?}"
    );
}
