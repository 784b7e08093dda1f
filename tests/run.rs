//! `wordsight run` on real files: a stream in, a line a frame out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::*;

#[test]
fn every_frame_of_a_file_comes_out_once_and_in_order() {
    let bench = Bench::new();
    let colours: Vec<Colour> = (0..60).map(|index| [RED, GREEN, BLUE][index % 3]).collect();
    let clip = bench.write("clip.mjpeg", motion_jpeg(&colours));
    let outcome = bench.run(&["run", "--source", clip.to_str().unwrap()]);
    let lines = outcome.lines();
    assert_eq!(lines.len(), 60);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["frame"], index);
        assert_eq!(line["source"], clip.to_str().unwrap());
        assert_eq!(words_of(line)[0], ["red", "green", "blue"][index % 3]);
    }
    for expected in ["60 in", "frames/s", "p50", "p99", "red 20, green 20, blue 20"] {
        assert!(outcome.stderr.contains(expected), "{expected}: {}", outcome.stderr);
    }
}

#[test]
fn the_vocabulary_named_in_the_configuration_decides_what_is_found() {
    let bench = Bench::new();
    bench.write("clip.mjpeg", motion_jpeg(&[YELLOW, BLUE]));
    write_vocabulary(&bench.path("fruit.safetensors"), &[("lemon", YELLOW), ("plum", BLUE)]);
    write_vocabulary(&bench.path("weather.safetensors"), &[("sun", YELLOW), ("sky", BLUE)]);
    let words = |vocabulary: &str| {
        let config = bench.write(
            "wordsight.toml",
            format!(
                "student = \"student.onnx\"\nvocabulary = \"{vocabulary}\"\n[source]\nuri = \"clip.mjpeg\"\n"
            ),
        );
        let outcome =
            Outcome::of(wordsight(&["run", "--config", config.to_str().unwrap()]).output().unwrap());
        outcome.lines().iter().map(|line| words_of(line)[0].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(words("fruit.safetensors"), ["lemon", "plum"]);
    assert_eq!(words("weather.safetensors"), ["sun", "sky"]);
}

#[test]
fn every_key_of_the_configuration_does_what_it_says() {
    let bench = Bench::new();
    bench.write("clip.mjpeg", motion_jpeg(&[RED, GREEN, BLUE]));
    let config = bench.write_config(
        "[source]\nuri = \"clip.mjpeg\"\npacing = \"camera\"\nfps = 100\nloop = true\n\
         [detection]\nscore_threshold = 0.2\nnms_iou = 0.4\nmax_detections = 1\nwords_per_region = 1\n\
         [engine]\nthreads = 1\n[publish]\njson = \"out.jsonl\"\nsave = \"pictures\"\nsave_every = 1\n",
    );
    let outcome = Outcome::of(
        wordsight(&["run", "--config", config.to_str().unwrap(), "--frames", "7"]).output().unwrap(),
    );
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{outcome:?}");
    let lines = json_lines(&std::fs::read_to_string(bench.path("out.jsonl")).unwrap());
    assert_eq!(lines.len(), 7);
    assert!(lines.iter().all(|line| words_of(line).len() == 1), "{lines:?}");
    assert!(std::fs::read_dir(bench.path("pictures")).unwrap().count() >= 1);
}

#[test]
fn a_torn_last_frame_is_reported_and_the_others_are_done() {
    let bench = Bench::new();
    let whole = motion_jpeg(&[RED, GREEN]);
    let clip = bench.write("clip.mjpeg", &whole[..whole.len() - 20]);
    let outcome = bench.run(&["run", "--source", clip.to_str().unwrap()]);
    assert_eq!(outcome.lines().len(), 1);
    assert!(
        outcome.stderr.contains("frame 1 of") && outcome.stderr.contains("cut off"),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("unreadable 1"), "{}", outcome.stderr);
}

#[test]
fn a_stream_goes_on_behind_a_damaged_frame() {
    let bench = Bench::new();
    let mut damaged = jpeg(64, 64, [GREEN; 4], None);
    damaged.truncate(damaged.len() - 10);
    let stream = [motion_jpeg(&[RED]), damaged, b"noise".to_vec(), motion_jpeg(&[BLUE])].concat();
    let clip = bench.write("clip.mjpeg", stream);
    let lines = bench.run(&["run", "--source", clip.to_str().unwrap()]).lines();
    let found: Vec<(u64, &str)> =
        lines.iter().map(|line| (line["frame"].as_u64().unwrap(), words_of(line)[0])).collect();
    assert_eq!(found, [(0, "red"), (2, "blue")]);
}

#[test]
fn a_stream_without_a_frame_is_a_failure() {
    let bench = Bench::new();
    for bytes in ["", "this is no stream"] {
        let clip = bench.write("clip.mjpeg", bytes);
        let outcome = bench.run(&["run", "--loop", "--source", clip.to_str().unwrap()]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("not a Motion-JPEG file"), "{outcome:?}");
    }
}

#[test]
fn a_stream_in_which_nothing_is_found_says_how_many_words_were_looked_for() {
    let bench = Bench::new();
    let clip = bench.write("clip.mjpeg", motion_jpeg(&[GREY; 3]));
    let outcome = bench.run(&["run", "--source", clip.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("nothing of the 3 words"), "{}", outcome.stderr);
}

#[test]
fn lines_in_a_new_file_can_be_followed_while_the_stream_goes_on() {
    let bench = Bench::new();
    let clip = bench.write("clip.mjpeg", motion_jpeg(&[RED, GREEN, BLUE]));
    let lines = bench.path("lines.jsonl");
    let mut command = bench.command(&["run", "--loop", "--source", clip.to_str().unwrap()]);
    command.arg("--json").arg(&lines);
    let mut running = Process::start(command, &bench.path(""));
    let is_followed = || std::fs::read_to_string(&lines).is_ok_and(|text| text.lines().count() >= 3);
    until_so(is_followed, || running.stderr());
    assert!(running.ended().is_none(), "it still writes: {}", running.stderr());
    running.terminate();
}

#[test]
fn a_loop_begins_again_until_there_are_enough_frames() {
    let bench = Bench::new();
    let clip = bench.write("clip.mjpeg", motion_jpeg(&[RED, GREEN, BLUE]));
    let lines = bench.run(&["run", "--loop", "--frames", "8", "--source", clip.to_str().unwrap()]).lines();
    let words: Vec<&str> = lines.iter().map(|line| words_of(line)[0]).collect();
    assert_eq!(words, ["red", "green", "blue", "red", "green", "blue", "red", "green"]);
}

#[test]
fn a_camera_keeps_its_pace_and_its_frames_stay_young() {
    let bench = Bench::new();
    let clip = bench.write("clip.mjpeg", motion_jpeg(&[RED; 20]));
    in_one_of_some_tries(|| {
        let start = Instant::now();
        let outcome =
            bench.run(&["run", "--pacing", "camera", "--fps", "40", "--source", clip.to_str().unwrap()]);
        let lines = outcome.lines();
        assert!(start.elapsed() > Duration::from_millis(19 * 25));
        // On a busy machine frames may be dropped, but never most of them and never out of order.
        let frames: Vec<u64> = lines.iter().map(|line| line["frame"].as_u64().unwrap()).collect();
        assert!(frames.is_sorted_by(|a, b| a < b), "{frames:?}");
        let ages = lines.iter().map(|line| line["age_ms"].as_f64().unwrap());
        let youngest = ages.fold(f64::INFINITY, f64::min);
        if frames.len() >= 10 && youngest < 25.0 { Ok(()) } else { Err(format!("{frames:?}, {youngest} ms")) }
    });
}

#[test]
fn one_of_so_many_frames_is_saved_under_its_number() {
    let bench = Bench::new();
    let clip = bench.write("clip.mjpeg", motion_jpeg(&[RED; 10]));
    let out = bench.path("out");
    let arguments =
        ["run", "--source", clip.to_str().unwrap(), "--save", out.to_str().unwrap(), "--save-every", "4"];
    let outcome = bench.run(&arguments);
    assert_eq!(outcome.lines().len(), 10);
    let mut pictures: Vec<String> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pictures.sort();
    assert_eq!(pictures, ["000000.jpg", "000004.jpg", "000008.jpg"]);
    assert!(outcome.stderr.contains("3 pictures"), "{}", outcome.stderr);
}

#[test]
fn a_folder_is_a_stream_of_its_photographs() {
    let bench = Bench::new();
    bench.write("album/1.jpg", jpeg(64, 64, [RED; 4], None));
    bench.write("album/2.jpg", jpeg(200, 100, [BLUE; 4], None));
    let lines = bench.run(&["run", "--source", bench.path("album").to_str().unwrap()]).lines();
    assert_eq!(lines.iter().map(|line| words_of(line)[0]).collect::<Vec<_>>(), ["red", "blue"]);
}

#[test]
fn the_engine_alone_is_measured_when_asked_for() {
    let bench = Bench::new();
    let clip = bench.write("clip.mjpeg", motion_jpeg(&[RED; 5]));
    let outcome = bench.run(&["run", "--compare-engine", "--source", clip.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("alone     onnxruntime-cpu "), "{}", outcome.stderr);
}

#[test]
fn a_reader_who_goes_away_ends_the_stream_and_that_is_no_error() {
    let bench = Bench::new();
    let clip = bench.write("clip.mjpeg", motion_jpeg(&[RED; 3]));
    let mut child = spawn(bench.command(&["run", "--loop", "--source", clip.to_str().unwrap()]));
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("red"), "{line}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn sigterm_and_sigint_end_the_stream_cleanly_with_its_summary() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let bench = Bench::new();
        let clip = bench.write("clip.mjpeg", motion_jpeg(&[RED; 3]));
        let arguments =
            ["run", "--loop", "--pacing", "camera", "--fps", "20", "--source", clip.to_str().unwrap()];
        let mut command = bench.command(&arguments);
        command.stdout(Stdio::piped());
        let mut running = Process::start(command, &bench.path(""));
        let mut lines = BufReader::new(running.child.stdout.take().unwrap());
        lines.read_line(&mut String::new()).unwrap();
        running.signal(signal);
        lines.read_to_string(&mut String::new()).unwrap();
        assert_eq!(running.child.wait().unwrap().code(), Some(0), "{}", running.stderr());
        assert!(running.stderr().contains("latency"), "{}", running.stderr());
    }
}

/// Whether one of a process's threads hangs in a write to the standard output, as the kernel tells it.
fn waits_for_its_reader(process: u32) -> bool {
    let in_write = format!("{} 0x1 ", libc::SYS_write);
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let mut calls = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("syscall")).ok());
    calls.any(|call| call.starts_with(&in_write))
}

#[test]
fn a_stream_whose_results_nobody_reads_ends_all_the_same() {
    let bench = Bench::new();
    let health = bench.path("health.json");
    let arguments = ["run", "--source", "test://bars", "--health", health.to_str().unwrap()];
    let mut command = bench.command(&arguments);
    command.stdout(Stdio::piped());
    let mut running = Process::start(command, &bench.path(""));
    // Nobody reads its lines: soon the pipe is full and the stream waits, which its health shows.
    until_so(|| waits_for_its_reader(running.child.id()), || "the pipe is never full".to_owned());
    running.health_when(|health| health["last_published_s"].as_f64().is_some_and(|age| age > 1.0));
    running.signal(libc::SIGTERM);
    let status = until(|| running.ended(), || "it waits for its reader".to_owned());
    assert_eq!(status.code(), Some(1), "{}", running.stderr());
    assert!(running.stderr().contains("whoever reads the results"), "{}", running.stderr());
}
