//! `wordsight run` as a service: its configuration changes while it runs, and it tells systemd how it is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(feature = "tensorrt")]
#[path = "../engines/tests/stand_in/mod.rs"]
mod stand_in;
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::*;

/// A stream that runs, its lines, and what systemd would hear of it.
struct Running {
    process: Process,
    lines: BufReader<ChildStdout>,
    socket: UnixDatagram,
    told: Vec<String>,
    folder: PathBuf,
}

/// Red frames without end, as fast as a camera's, as the bench's `wordsight.toml` asks for, with `more` at its end.
fn configure(bench: &Bench, more: &str) -> PathBuf {
    bench.write_config(&format!(
        "[publish]\nhealth = \"health.json\"\n[engine]\nthreads = 1\n[source]\nuri = \"test://ff0000?width=64&height=64\"\n\
         pacing = \"camera\"\nfps = 50\n{more}"
    ))
}

fn start(bench: &Bench, configuration: &Path, environment: &[(&str, &str)]) -> Running {
    let address = bench.path("notify");
    drop(fs::remove_file(&address));
    let socket = UnixDatagram::bind(&address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut command = wordsight(&["run", "--config", configuration.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", &address).env_remove("STATE_DIRECTORY").envs(environment.iter().copied());
    command.stdout(Stdio::piped());
    let mut process = Process::start(command, &bench.path(""));
    let lines = BufReader::new(process.child.stdout.take().unwrap());
    Running { process, lines, socket, told: Vec::new(), folder: bench.path("") }
}

impl Running {
    fn line(&mut self) -> Value {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        assert!(read > 0, "it has ended: {}", self.stderr());
        serde_json::from_str(&line).unwrap()
    }

    fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Reads lines until one has this as its best word, and returns all of them.
    fn lines_until(&mut self, word: &str) -> Vec<Value> {
        self.lines_to(word, |line| words_of(line).first() == Some(&word))
    }

    /// Reads lines to the first that is awaited, and returns all of them.
    fn lines_to(&mut self, awaited: &str, is_awaited: impl Fn(&Value) -> bool) -> Vec<Value> {
        let until = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            let is_it = is_awaited(&line);
            lines.push(line);
            if is_it {
                return lines;
            }
            assert!(Instant::now() < until, "no {awaited}; {}", self.stderr());
        }
    }

    /// Hears what systemd is told until something of it begins like this.
    fn hear(&mut self, beginning: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.told.iter().position(|told| told.starts_with(beginning)) {
                return self.told.drain(..=found).next_back().unwrap();
            }
            assert!(Instant::now() < until, "no {beginning} in {:?}; {}", self.told, self.stderr());
            let mut datagram = [0; 4096];
            if let Ok(length) = self.socket.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
                self.told.extend(text.lines().map(str::to_owned));
            }
            // Somebody must read, or the stream would wait.
            self.line();
        }
    }

    /// Waits until the health says something; the lines are read meanwhile, or the stream would wait.
    #[track_caller]
    fn health(&mut self, what: impl Fn(&Value) -> bool) -> Value {
        let Self { process, lines, .. } = self;
        let look = || {
            let found = Some(process.health()).filter(|health| !health.is_null() && what(health));
            if found.is_none() {
                assert!(lines.read_line(&mut String::new()).unwrap() > 0, "it ends: {}", process.stderr());
            }
            found
        };
        until(look, || format!("the health is {}; {}", process.health(), process.stderr()))
    }

    /// Ends it as systemd does: it ends well.
    fn terminate(mut self) {
        // Whoever reads the lines goes on until there are no more.
        let mut lines = self.lines;
        let reader = std::thread::spawn(move || drop(std::io::copy(&mut lines, &mut std::io::sink())));
        self.process.terminate();
        reader.join().unwrap();
    }
}

/// Writes beside and renames, as careful editors do.
fn replace(path: &Path, write: impl Fn(&Path)) {
    let beside = path.with_extension("new");
    write(&beside);
    fs::rename(beside, path).unwrap();
}

#[test]
fn a_vocabulary_that_is_written_in_place_or_renamed_over_names_the_next_frames_and_none_is_lost() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let words = bench.path("words.safetensors");
    // As fast as the lines are read: a camera's pace would drop frames on a busy machine.
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("pacing = \"camera\"\nfps = 50\n", "")).unwrap();
    let mut running = start(&bench, &configuration, &[]);
    let mut lines = running.lines_until("red");
    write_vocabulary(&words, &[("ruby", RED), ("leaf", GREEN)]);
    lines.extend(running.lines_until("ruby"));
    replace(&words, |path| write_vocabulary(path, &[("rose", RED)]));
    lines.extend(running.lines_until("rose"));
    let frames: Vec<u64> = lines.iter().map(|line| line["frame"].as_u64().unwrap()).collect();
    assert!(frames.windows(2).all(|pair| pair[1] == pair[0] + 1), "{frames:?}");
    let health = running.health(|health| health["reload"]["count"] == 2);
    assert_eq!((&health["vocabulary"]["words"], &health["reload"]["refused"]), (&1.into(), &0.into()));
    running.terminate();
}

#[test]
fn a_bad_vocabulary_is_refused_and_said_everywhere_and_the_next_good_one_is_taken() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let words = bench.path("words.safetensors");
    let mut running = start(&bench, &configuration, &[]);
    running.hear("READY=1");
    let whole = fs::read(&words).unwrap();
    fs::write(&words, &whole[..whole.len() / 2]).unwrap();
    let health = running.health(|health| health["reload"]["refused"] == 1);
    let reason = health["reload"]["last_error"].as_str().unwrap();
    assert!(reason.contains("words.safetensors"), "{reason}");
    let status = running.hear("STATUS=");
    let status = if status.contains("refused") { status } else { running.hear("STATUS=") };
    assert!(status.contains("refused") && status.contains("words.safetensors"), "{status}");
    assert!(running.stderr().contains("what was before goes on"), "{}", running.stderr());
    assert_eq!(words_of(&running.line())[0], "red", "the old words hold");
    replace(&words, |path| write_vocabulary(path, &[("rose", RED)]));
    running.lines_until("rose");
    let health = running.health(|health| health["reload"]["count"] == 1);
    assert_eq!(health["reload"]["last_error"], Value::Null);
    running.terminate();
}

#[test]
fn systemd_and_the_health_are_told_which_engine_runs_and_in_what_it_computes() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let mut running = start(&bench, &configuration, &[]);
    let name = "ONNX Runtime on the processor (fp32)";
    let health = running.health(|health| health["engine"]["name"] != "");
    assert_eq!(health["engine"]["name"], name);
    while !running.hear("STATUS=").contains(&format!("3 words, {name}")) {}
    running.terminate();
}

/// With a stand-in for CUDA's driver, whose first calls of cuInit fail, and no TensorRT behind it.
#[cfg(feature = "tensorrt")]
#[test]
fn a_service_waits_for_a_gpu_that_comes_up_late_and_says_what_lacks_then() {
    let bench = Bench::new();
    let (driver, nothing) = (bench.path("driver"), bench.path("nothing"));
    for folder in [&driver, &nothing] {
        fs::create_dir(folder).unwrap();
    }
    stand_in::compile_into(&driver, &Path::new(env!("CARGO_MANIFEST_DIR")).join("engines"));
    let configuration = configure(&bench, "");
    let text = fs::read_to_string(&configuration).unwrap();
    let engine = "[engine]\nkind = \"auto\"\ntensorrt = \"nothing\"";
    fs::write(&configuration, text.replace("[engine]", engine)).unwrap();
    let environment = [("LD_LIBRARY_PATH", driver.to_str().unwrap()), ("CUDA_STAND_IN_INIT_FAILS", "2")];
    let mut running = start(&bench, &configuration, &environment);
    let health = running.health(|health| health["engine"]["name"] != "");
    let reason = health["engine"]["instead_of_tensorrt"].as_str().unwrap();
    assert!(reason.contains("TensorRT was not found"), "the third call found the GPU: {reason}");
    let told = running.stderr();
    assert!(told.contains("the GPU is waited for") && told.contains("CUDA_ERROR_UNKNOWN"), "{told}");
    while !running.hear("STATUS=").contains("instead of TensorRT: TensorRT was not found") {}
    running.terminate();
}

/// What is answered to `GET path`.
#[cfg(feature = "tensorrt")]
fn get(address: std::net::SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Beside the stand-ins for CUDA's driver, whose first call of cuInit fails, and for TensorRT. It takes the half a minute
/// that lies between two questions.
#[cfg(feature = "tensorrt")]
#[test]
fn tensorrt_takes_a_stream_over_from_the_processor_when_the_gpu_has_come_up() {
    let bench = Bench::new();
    let libraries = bench.path("libraries");
    fs::create_dir(&libraries).unwrap();
    let engines = Path::new(env!("CARGO_MANIFEST_DIR")).join("engines");
    stand_in::compile_into(&libraries, &engines);
    if !stand_in::compile_tensorrt_into(&libraries, &engines) {
        return;
    }
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let configuration = configure(&bench, &format!("[http]\nlisten = \"{address}\"\n"));
    let (state, log) = (bench.path("state"), bench.path("tensorrt.log"));
    let environment = [
        ("LD_LIBRARY_PATH", libraries.to_str().unwrap()),
        ("CUDA_STAND_IN_INIT_FAILS", "1"),
        ("STATE_DIRECTORY", state.to_str().unwrap()),
        ("WORDSIGHT_TEST_TENSORRT_LOG", log.to_str().unwrap()),
        // Without systemd nobody waits for a GPU at the start.
        ("NOTIFY_SOCKET", ""),
    ];
    let mut running = start(&bench, &configuration, &environment);
    let health = running.health(|health| health["engine"]["name"] != "");
    assert_eq!(health["engine"]["name"], "ONNX Runtime on the processor (fp32)");
    let reason = health["engine"]["instead_of_tensorrt"].as_str().unwrap();
    assert!(reason.contains("CUDA_ERROR_UNKNOWN"), "{reason}");
    assert!(get(address, "/api/status").contains("ONNX Runtime on the processor (fp32)"));
    let mut lines = running.lines_until("red");
    assert!(!log.exists(), "TensorRT was asked for a plan without a GPU");

    let name = "TensorRT 10.3.0 (tf32)";
    let longest = Instant::now() + 2 * PATIENCE;
    let is_taken_over = |running: &Running| {
        fs::read_to_string(running.folder.join("health.json")).is_ok_and(|health| health.contains(name))
    };
    while !is_taken_over(&running) {
        assert!(Instant::now() < longest, "{}", running.stderr());
        lines.push(running.line());
    }
    // What the stand-in finds is not where the student finds something.
    let place = |line: &Value| line["detections"][0]["box_in_frame"].clone();
    let before = place(&lines[0]);
    lines.extend(running.lines_to("other box", |line| place(line) != before));
    let health = running.health(|health| health["engine"]["name"] == name);
    assert_eq!(health["engine"]["instead_of_tensorrt"], Value::Null);
    assert_eq!((&health["losses"], &health["state"]), (&0.into(), &"running".into()), "{health}");
    let status = get(address, "/api/status");
    assert!(status.contains(name) && !status.contains("CUDA_ERROR"), "{status}");
    let frames: Vec<u64> = lines.iter().map(|line| line["frame"].as_u64().unwrap()).collect();
    assert!(frames.windows(2).all(|pair| pair[0] < pair[1]), "numbers go on: {frames:?}");
    let built = fs::read_to_string(&log).unwrap();
    assert_eq!(built.lines().filter(|line| line.starts_with("build ")).count(), 1, "{built}");
    running.terminate();
}

#[test]
fn sighup_loads_again_between_reloading_and_ready() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let mut running = start(&bench, &configuration, &[]);
    running.hear("READY=1");
    running.process.signal(libc::SIGHUP);
    running.hear("RELOADING=1");
    assert!(running.hear("MONOTONIC_USEC=").len() > "MONOTONIC_USEC=".len());
    running.hear("READY=1");
    running.terminate();
}

#[test]
fn thresholds_sources_students_and_outputs_change_while_it_runs() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let mut running = start(&bench, &configuration, &[]);
    running.lines_until("red");
    // A file in the place of the pattern, and another way of going through it.
    bench.write("clip.mjpeg", motion_jpeg(&[BLUE, BLUE, BLUE]));
    let clip = |more: &str| {
        bench.write_config(&format!(
            "[source]\nuri = \"clip.mjpeg\"\npacing = \"camera\"\nfps = 60\nloop = true\n[publish]\nhealth = \"health.json\"\n{more}"
        ));
    };
    clip("");
    let lines = running.lines_until("blue");
    let last = lines.last().unwrap();
    assert!(last["source"].as_str().unwrap().ends_with("clip.mjpeg"), "{last}");
    let frames: Vec<u64> = lines.iter().map(|line| line["frame"].as_u64().unwrap()).collect();
    assert!(frames.windows(2).all(|pair| pair[1] > pair[0]), "numbers go on: {frames:?}");
    // Another student, which is another file of the same.
    fs::copy(bench.path("student.onnx"), bench.path("other.onnx")).unwrap();
    let text = fs::read_to_string(&configuration).unwrap();
    bench.write("wordsight.toml", text.replace("student.onnx", "other.onnx"));
    running.health(|health| health["reload"]["count"] == 2);
    running.lines_until("blue");
    // A threshold that nothing reaches: swapped between two frames.
    let text = fs::read_to_string(&configuration).unwrap();
    bench.write("wordsight.toml", format!("{text}[detection]\nscore_threshold = 1.0\n"));
    running.health(|health| health["reload"]["count"] == 3);
    until_so(|| words_of(&running.line()).is_empty(), || "something is found".to_owned());
    running.terminate();
}

#[test]
fn a_configuration_that_is_wrong_anywhere_is_refused_whole() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let good = fs::read_to_string(&configuration).unwrap();
    let mut running = start(&bench, &configuration, &[]);
    running.lines_until("red");
    let missing = good.replace("student.onnx", "missing.onnx");
    let no_source = good.replace("test://ff0000?width=64&height=64", "nowhere.mjpeg");
    let both = no_source.replace("words.safetensors", "others.safetensors");
    write_vocabulary(&bench.path("others.safetensors"), &[("rose", RED)]);
    let cases = [
        (format!("{good}\nnonsense"), "wordsight.toml"),
        (format!("{good}studend = 1\n"), "studend"),
        (missing, "missing.onnx"),
        (no_source, "nowhere.mjpeg"),
        (both, "nowhere.mjpeg"),
    ];
    for (number, (text, reason)) in (1_u64..).zip(cases) {
        fs::write(&configuration, text).unwrap();
        let health = running.health(|health| health["reload"]["refused"] == number);
        let told = health["reload"]["last_error"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
        assert_eq!(words_of(&running.line())[0], "red");
    }
    fs::write(&configuration, good.replace("words.safetensors", "others.safetensors")).unwrap();
    running.lines_until("rose");
    running.terminate();
}

#[test]
fn a_service_that_starts_with_what_does_not_work_uses_what_last_did() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let state = bench.path("state");
    let environment = [("STATE_DIRECTORY", state.to_str().unwrap())];
    let mut running = start(&bench, &configuration, &environment);
    running.lines_until("red");
    await_kept(&mut running, &state, &bench.path("words.safetensors"));
    drop(running);
    // A power cut, and then neither the words nor the configuration are what they were.
    fs::write(bench.path("words.safetensors"), "no words").unwrap();
    let mut running = start(&bench, &configuration, &environment);
    running.lines_until("red");
    let health = running.health(|health| health["reload"]["refused"] == 1);
    assert!(health["reload"]["last_error"].as_str().unwrap().contains("words.safetensors"));
    drop(running);
    let good = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, "nonsense").unwrap();
    let mut running = start(&bench, &configuration, &environment);
    running.lines_until("red");
    assert!(running.stderr().contains("the configuration that last worked is used"), "{}", running.stderr());
    // Repaired while it runs.
    write_vocabulary(&bench.path("words.safetensors"), &[("rose", RED)]);
    fs::write(&configuration, good).unwrap();
    running.lines_until("rose");
    drop(running);
    // Without a state directory there is nothing to fall back on.
    fs::write(&configuration, "nonsense").unwrap();
    let outcome =
        Outcome::of(wordsight(&["run", "--config", configuration.to_str().unwrap()]).output().unwrap());
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
}

#[test]
fn the_watchdog_is_fed_while_frames_come_and_not_while_the_stream_hangs() {
    let bench = Bench::new();
    bench.write("clip.mjpeg", motion_jpeg(&[RED; 4]));
    let configuration =
        bench.write_config("[engine]\nthreads = 1\n[source]\nuri = \"clip.mjpeg\"\nloop = true\n");
    let mut running = start(&bench, &configuration, &[("WATCHDOG_USEC", "400000")]);
    running.hear("READY=1");
    for _ in 0..3 {
        running.hear("WATCHDOG=1");
    }
    // Nobody reads the lines any more: the pipe fills, and the stream of a file waits, which can. Everything said so far is
    // heard first.
    let mut datagram = [0; 4096];
    let gets_no_further = || {
        drop(running.socket.recv(&mut datagram));
        running.stderr().contains("publish stage gets no further")
    };
    until_so(gets_no_further, || running.stderr());
    let mut silent_since = Instant::now();
    let until = Instant::now() + PATIENCE;
    while silent_since.elapsed() < Duration::from_secs(2) {
        assert!(Instant::now() < until, "it is fed though nothing comes out");
        if let Ok(length) = running.socket.recv(&mut datagram)
            && datagram[..length].starts_with(b"WATCHDOG=1")
        {
            silent_since = Instant::now();
        }
    }
}

#[test]
fn a_reader_who_does_not_read_costs_a_camera_s_stream_lines_and_nothing_else() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let mut running = start(&bench, &configuration, &[("WATCHDOG_USEC", "400000")]);
    running.hear("READY=1");
    // A pipe holds some hundred lines, the queue 64: both are full after a few seconds of 50 frames each.
    let published = |running: &mut Running| running.health(|_| true)["published"].as_u64().unwrap();
    let before = published(&mut running);
    until_so(|| published(&mut running) > before + 400, || "the stream waits for its reader".to_owned());
    running.hear("WATCHDOG=1");
    let numbers: Vec<u64> = (0..400).map(|_| running.line()["frame"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers[399] > 399, "some are lost, and those that come are in order");
}

#[test]
fn a_port_that_somebody_else_has_costs_a_service_its_page_and_not_its_detections() {
    let bench = Bench::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("[http]\nlisten = \"{}\"\n", taken.local_addr().unwrap());
    let configuration = configure(&bench, &listen);
    let mut running = start(&bench, &configuration, &[]);
    running.lines_until("red");
    assert!(running.stderr().contains("nothing is served over HTTP"), "{}", running.stderr());
    let outcome =
        Outcome::of(wordsight(&["run", "--config", configuration.to_str().unwrap()]).output().unwrap());
    assert!(outcome.sentence(1).contains("cannot listen on"), "{outcome:?}");
}

#[test]
fn systemd_hears_of_the_start_the_status_and_the_end() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let mut running = start(&bench, &configuration, &[]);
    running.hear("STATUS=opening the student");
    running.hear("READY=1");
    let status = running.hear("STATUS=");
    assert!(status.contains("frames come from test://ff0000") && status.contains("3 words"), "{status}");
    running.process.signal(libc::SIGTERM);
    let until = Instant::now() + PATIENCE;
    let mut datagram = [0; 4096];
    loop {
        assert!(Instant::now() < until);
        if let Ok(length) = running.socket.recv(&mut datagram)
            && datagram[..length].starts_with(b"STOPPING=1")
        {
            break;
        }
    }
}

#[cfg(feature = "v4l2")]
#[test]
fn a_service_whose_camera_is_not_there_is_up_and_says_so() {
    let bench = Bench::new();
    let configuration = bench.write_config(
        "[publish]\nhealth = \"health.json\"\n[source]\nuri = \"v4l2:///dev/no-camera\"\nwait_at_start = true\n",
    );
    let running = start(&bench, &configuration, &[]);
    let (mut told, mut datagram) = (String::new(), [0; 4096]);
    let until = Instant::now() + PATIENCE;
    while !(told.contains("READY=1") && told.contains("/dev/no-camera is lost")) {
        assert!(Instant::now() < until, "{told}; {}", running.stderr());
        if let Ok(length) = running.socket.recv(&mut datagram) {
            told.push_str(&String::from_utf8_lossy(&datagram[..length]));
            told.push('\n');
        }
    }
    running.terminate();
}

#[test]
fn a_disk_that_is_full_costs_a_live_stream_its_lines_and_not_its_life() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let text = fs::read_to_string(&configuration).unwrap();
    bench.write("wordsight.toml", text.replace("[publish]\n", "[publish]\njson = \"/dev/full\"\n"));
    let mut command = wordsight(&["run", "--frames", "100", "--config", configuration.to_str().unwrap()]);
    let outcome = Outcome::of(command.output().unwrap());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(
        outcome.stderr.matches("cannot write the results, and goes on without").count(),
        1,
        "{outcome:?}"
    );
    // A file's results are wanted, and a run that can't give them has failed.
    let clip = bench.write("clip.mjpeg", motion_jpeg(&[RED, GREEN]));
    let outcome = bench.run(&["run", "--json", "/dev/full", "--source", clip.to_str().unwrap()]);
    assert!(outcome.sentence(1).contains("cannot write the results"), "{outcome:?}");
}

/// Waits until this vocabulary is what is kept in a state directory.
fn await_kept(running: &mut Running, state: &Path, words: &Path) {
    let (kept, folder) = (state.join("last-good/words.safetensors"), running.folder.clone());
    let is_kept = || {
        running.line();
        fs::read(&kept).ok() == fs::read(words).ok()
    };
    until_so(is_kept, || fs::read_to_string(folder.join("stderr")).unwrap());
}

#[test]
fn what_was_refused_is_never_kept_whatever_else_changes_after_it() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let (state, words) = (bench.path("state"), bench.path("words.safetensors"));
    let environment = [("STATE_DIRECTORY", state.to_str().unwrap())];
    let mut running = start(&bench, &configuration, &environment);
    await_kept(&mut running, &state, &words);
    let good = fs::read(&words).unwrap();
    fs::write(&words, "no words").unwrap();
    running.health(|health| health["reload"]["refused"] == 1);
    // Something else, which alone would be taken; and then nothing new at all.
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, format!("{text}[governor]\nmargin_c = 9.0\n")).unwrap();
    running.health(|health| health["reload"]["refused"] == 2);
    running.process.signal(libc::SIGHUP);
    let health = running.health(|health| health["reload"]["refused"] == 3);
    assert!(health["reload"]["last_error"].as_str().unwrap().contains("words.safetensors"), "{health}");
    for _ in 0..100 {
        assert_eq!(words_of(&running.line())[0], "red");
    }
    assert_eq!(fs::read(state.join("last-good/words.safetensors")).unwrap(), good);
    drop(running);
    let mut running = start(&bench, &configuration, &environment);
    running.lines_until("red");
}

#[test]
fn an_output_that_cannot_be_made_at_a_start_is_a_reason_for_what_last_worked_too() {
    let bench = Bench::new();
    let configuration = configure(&bench, "");
    let (state, words) = (bench.path("state"), bench.path("words.safetensors"));
    let environment = [("STATE_DIRECTORY", state.to_str().unwrap())];
    let mut running = start(&bench, &configuration, &environment);
    await_kept(&mut running, &state, &words);
    drop(running);
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("health.json", "nowhere/health.json")).unwrap();
    let mut running = start(&bench, &configuration, &environment);
    running.lines_until("red");
    assert!(running.stderr().contains("nowhere/health.json"), "{}", running.stderr());
}

#[test]
fn a_source_of_one_picture_outlives_every_change() {
    let bench = Bench::new();
    bench.write("picture.jpg", jpeg(64, 64, [RED; 4], None));
    let text = |save: &str| {
        bench.write_config(&format!(
            "[publish]\nhealth = \"health.json\"\n{save}[source]\nuri = \"picture.jpg\"\npacing = \"camera\"\nfps = 50\nloop = true\n"
        ))
    };
    let configuration = text("");
    let mut running = start(&bench, &configuration, &[]);
    running.lines_until("red");
    for change in 1..=6 {
        text(&format!("save = \"pictures-{change}\"\nsave_every = 1000\n"));
        running.health(|health| health["reload"]["count"] == change);
        running.lines_until("red");
    }
    running.terminate();
}

#[test]
fn lines_in_a_file_are_kept_when_a_service_starts_again_and_when_a_change_is_undone() {
    let bench = Bench::new();
    let to = |name: &str| {
        bench.write_config(&format!(
            "[publish]\nhealth = \"health.json\"\njson = \"{name}\"\n[engine]\nthreads = 1\n[source]\n\
             uri = \"test://ff0000?width=64&height=64\"\npacing = \"camera\"\nfps = 50\n"
        ))
    };
    let configuration = to("a.jsonl");
    let lines = |name: &str| {
        let text = fs::read_to_string(bench.path(name)).unwrap_or_default();
        text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count()
    };
    let wait_for = |what: &dyn Fn() -> bool| {
        until_so(what, || "the lines never came".to_owned());
    };
    let running = start(&bench, &configuration, &[]);
    wait_for(&|| lines("a.jsonl") > 5);
    to("b.jsonl");
    wait_for(&|| lines("b.jsonl") > 5);
    let before = lines("a.jsonl");
    to("a.jsonl");
    wait_for(&|| lines("a.jsonl") > before + 5);
    drop(running);
    // Torn by a power cut.
    let whole = lines("a.jsonl");
    let mut text = fs::read(bench.path("a.jsonl")).unwrap();
    text.extend(b"{\"source\":\"te");
    fs::write(bench.path("a.jsonl"), text).unwrap();
    let running = start(&bench, &configuration, &[]);
    wait_for(&|| lines("a.jsonl") > whole + 5);
    drop(running);
    let text = fs::read_to_string(bench.path("a.jsonl")).unwrap();
    let broken = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
    assert!(broken <= 2, "the torn line, and one of the last kill");
}

#[cfg(feature = "v4l2")]
#[test]
fn a_lost_camera_that_is_exchanged_for_a_file_is_lost_no_more() {
    let bench = Bench::new();
    let with = |uri: &str| {
        bench.write_config(&format!(
            "[publish]\nhealth = \"health.json\"\n[source]\nuri = \"{uri}\"\nwait_at_start = true\npacing = \"auto\"\nloop = true\n"
        ))
    };
    bench.write("clip.mjpeg", motion_jpeg(&[BLUE, BLUE]));
    let configuration = with("v4l2:///dev/no-camera");
    let mut running = start(&bench, &configuration, &[]);
    let state = || {
        let health = fs::read(bench.path("health.json")).ok()?;
        Some(serde_json::from_slice::<Value>(&health).ok()?["state"].as_str()?.to_owned())
    };
    until_so(|| state().as_deref() == Some("lost"), || running.stderr());
    with("clip.mjpeg");
    running.lines_until("blue");
    let health = running.health(|health| health["state"] == "running");
    assert_eq!((&health["reason"], &health["reload"]["count"]), (&Value::Null, &1.into()));
}
