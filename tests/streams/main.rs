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
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::*;

/// The bar: detecting again so soon after a camera is back.
const BACK_WITHIN: Duration = Duration::from_secs(3);
/// The bar: a clean stop takes no longer.
const STOPPED_WITHIN: Duration = Duration::from_secs(2);

/// The compiled `helper.c`; the folder lives as long as the tests.
static HELPER: LazyLock<Option<(tempfile::TempDir, PathBuf)>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("helper");
    let mut flags = Command::new("pkg-config");
    let flags = flags.args(["--cflags", "--libs", "gstreamer-rtsp-server-1.0"]).output();
    let Some(flags) = flags.ok().filter(|flags| flags.status.success()) else {
        skip("streams of GStreamer's", "gst-rtsp-server is not there", "`scripts/setup cameras`");
        return None;
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams/helper.c");
    let compiled = Command::new("cc")
        .arg(source)
        .arg("-o")
        .arg(&program)
        .args(String::from_utf8(flags.stdout).unwrap().split_whitespace())
        .status();
    assert!(compiled.unwrap().success());
    Some((folder, program))
});

/// Tests that measure how long something takes, one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What records and serves; `None`, and said, where it can't be compiled.
fn helper() -> Option<Command> {
    HELPER.as_ref().map(|(_, program)| Command::new(program))
}

/// Open files and threads of a process.
fn holdings(process: &Process) -> [usize; 2] {
    ["fd", "task"].map(|what| {
        std::fs::read_dir(format!("/proc/{}/{what}", process.child.id())).map_or(0, |entries| entries.count())
    })
}

/// A network camera that sees one colour.
fn camera(folder: &Path, port: u16, pattern: &str, width: u32) -> Option<Process> {
    let height = width * 3 / 4;
    let launch = format!(
        "( videotestsrc is-live=true pattern={pattern} ! video/x-raw,format=I420,width={width},height={height},framerate=30/1 \
         ! jpegenc ! rtpjpegpay name=pay0 )"
    );
    let mut command = helper()?;
    command.args(["serve", &port.to_string(), &launch]).stdout(Stdio::piped());
    std::fs::create_dir_all(folder).unwrap();
    let mut server = Process::start(command, folder);
    let mut line = String::new();
    BufReader::new(server.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{}", server.stderr());
    Some(server)
}

/// The program on a stream, its lines read as they come.
struct Run {
    process: Process,
    lines: Receiver<Value>,
}

impl Run {
    fn start(bench: &Bench, source: &str, more: &[&str]) -> Self {
        let mut command = bench.command(&["run", "--source", source]);
        command.args(more).arg("--health").arg(bench.path("health.json")).stdout(Stdio::piped());
        let mut process = Process::start(command, &bench.path(""));
        let (send, lines) = mpsc::channel();
        let stdout = BufReader::new(process.child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = send.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { process, lines }
    }

    /// The next line; what came before now is passed over.
    fn next_line(&self) -> Value {
        while self.lines.try_recv().is_ok() {}
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    fn wait_for_state(&self, state: &str) -> Value {
        self.process.health_when(|health| health["state"] == state)
    }

    /// Asks for an end, which is a good one, and returns what was said, and how long it took.
    fn stop(mut self) -> (String, Duration) {
        let took = self.process.terminate();
        let said = self.process.stderr();
        assert!(!said.contains("panicked"), "{said}");
        (said, took)
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
        let Some(mut helper) = helper() else { return };
        assert!(helper.args(["record", &launch]).status().unwrap().success(), "{launch}");
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
    in_one_of_some_tries(|| {
        let lines = bench.run(&["run", "--source", source, "--frames", "20"]).lines();
        assert_eq!(lines.len(), 20);
        assert!(lines.iter().all(|line| words_of(line)[0] == "blue"));
        let mut ages: Vec<f64> = lines.iter().map(|line| line["age_ms"].as_f64().unwrap()).collect();
        ages.sort_by(f64::total_cmp);
        assert!(ages[0] > 0.0, "{ages:?}");
        if ages[10] < 100.0 { Ok(()) } else { Err(format!("{ages:?} ms")) }
    });
}

#[test]
fn a_network_camera_that_is_killed_is_detected_on_again_within_three_seconds_of_its_return() {
    let _alone = ALONE.lock();
    let (bench, port) = (Bench::new(), free_port());
    let folder = bench.path("camera");
    let Some(mut server) = camera(&folder, port, "red", 320) else { return };
    let run = Run::start(&bench, &url(port), &["--json", "-"]);
    assert_eq!(words_of(&run.next_line())[0], "red");
    let (mut first_holdings, mut losses) = (None, 0);
    for (pattern, width) in [("green", 320), ("blue", 640), ("red", 160)] {
        let line = in_one_of_some_tries(|| {
            server.kill();
            losses += 1;
            let health = run.wait_for_state("lost");
            assert!(!health["reason"].as_str().unwrap().is_empty(), "{health}");
            // Until it has been asked for in vain, and waits its longest.
            run.process.health_when(|health| health["attempts"].as_u64().unwrap() >= 4);
            server = camera(&folder, port, pattern, width).unwrap();
            let back = Instant::now();
            let line = run.next_line();
            let took = back.elapsed();
            println!("detecting again {:.2} s after the camera's return", took.as_secs_f64());
            within(BACK_WITHIN, took).map(|_| line)
        });
        assert_eq!(words_of(&line)[0], pattern);
        let boxes =
            line["detections"].as_array().unwrap().iter().map(|found| found["box_in_frame"][2].as_f64());
        let right = boxes.map(Option::unwrap).fold(0.0, f64::max);
        assert!((right - f64::from(width)).abs() < 2.0, "{line}: the frame's new width");
        let health = run.wait_for_state("running");
        assert_eq!(health["losses"], losses);
        let holdings = holdings(&run.process);
        let [files, threads] = *first_holdings.get_or_insert(holdings);
        assert!(
            holdings[0] <= files + 2 && holdings[1] <= threads + 2,
            "{holdings:?} after {files} and {threads}"
        );
    }
    let (said, _) = run.stop();
    assert!(said.contains("is back after") && said.contains("latency"), "{said}");
    // Some tries are told, and not each of them.
    let told = said.lines().filter(|line| line.contains("WARN")).count();
    assert!((2 * losses..14 * losses).contains(&told), "{told} in {losses} losses: {said}");
}

#[test]
fn a_network_camera_that_stalls_is_lost_and_comes_back_when_it_goes_on() {
    let _alone = ALONE.lock();
    let (bench, port) = (Bench::new(), free_port());
    let Some(server) = camera(&bench.path("camera"), port, "red", 320) else { return };
    let config = bench.write_config("[source]\nstalled_after_s = 1.0\n");
    let run = Run::start(&bench, &url(port), &["--config", config.to_str().unwrap()]);
    assert_eq!(words_of(&run.next_line())[0], "red");
    server.signal(libc::SIGSTOP);
    let health = run.wait_for_state("lost");
    let stalled = health["reason"].as_str().unwrap().split("no frame for ").nth(1).expect("a time");
    let stalled_s: f64 = stalled.split(' ').next().unwrap().parse().unwrap();
    assert!(stalled_s >= 1.0, "{health}");
    server.signal(libc::SIGCONT);
    assert_eq!(words_of(&run.next_line())[0], "red");
    run.wait_for_state("running");
    run.stop();
}

#[test]
fn a_stream_whose_camera_is_gone_stops_as_cleanly_as_any_and_as_soon() {
    let _alone = ALONE.lock();
    let (bench, port) = (Bench::new(), free_port());
    let config = bench.write_config("[source]\nwait_at_start = true\n");
    in_one_of_some_tries(|| {
        let run = Run::start(&bench, &url(port), &["--config", config.to_str().unwrap()]);
        run.wait_for_state("lost");
        let (said, took) = run.stop();
        assert!(said.contains("frames    0"), "{said}");
        within(STOPPED_WITHIN, took)
    });
}

#[test]
fn a_stream_whose_camera_is_there_stops_as_soon() {
    let _alone = ALONE.lock();
    let (bench, port) = (Bench::new(), free_port());
    let Some(_server) = camera(&bench.path("camera"), port, "red", 320) else { return };
    in_one_of_some_tries(|| {
        let run = Run::start(&bench, &url(port), &[]);
        run.next_line();
        within(STOPPED_WITHIN, run.stop().1)
    });
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
