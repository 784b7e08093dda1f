//! `POST /api/detect` and `/api/examples`: one photograph, looked at beside a stream.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;

use serde_json::{Value, json};
use support::serving::*;
use support::*;

/// A photograph whose quarters are red, green, blue and grey.
fn photograph() -> Vec<u8> {
    jpeg(128, 128, [RED, GREEN, BLUE, GREY], None)
}

/// The detections of an answer.
fn detections(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["detections"].clone()
}

/// The words of an answer.
fn words(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = answer.json();
    let mut words: Vec<String> = words_of(&line).into_iter().map(str::to_owned).collect();
    words.sort();
    words
}

/// A number of `/proc/PID/stat` by its place, from 1.
fn stat(pid: u32, place: usize) -> Option<i64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = text.rsplit_once(')')?;
    behind_name.split_whitespace().nth(place.checked_sub(3)?)?.parse().ok()
}

/// The process that looks at photographs, if there is one.
fn worker(running: &Running) -> Option<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_worker = command.split(|byte| *byte == 0).any(|argument| argument == b"regions");
        is_worker && stat(*pid, 4) == Some(running.process.child.id().into())
    })
}

/// Whether a process has ended, be it that nobody has asked how.
fn is_dead(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: it takes two numbers, the first of which is that of a test's own program.
    assert_eq!(unsafe { libc::kill(pid.cast_signed(), signal) }, 0);
}

#[test]
fn a_photograph_of_the_demo_is_told_as_detect_tells_it() {
    let bench = Bench::new();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    let configuration = bench.write("demo.toml", {
        let (student, words) = (demo.join("student.onnx"), demo.join("photographs.safetensors"));
        format!(
            "student = {student:?}\nvocabulary = {words:?}\n[engine]\nkind = \"onnxruntime\"\nthreads = 1\n"
        )
    });
    let path = demo.join("photographs/kitchen.jpg");
    let detect =
        ["detect", path.to_str().unwrap(), "--json", "-", "--config", configuration.to_str().unwrap()];
    let expected = Outcome::of(wordsight(&detect).output().unwrap()).lines().remove(0);
    assert!(!words_of(&expected).is_empty(), "{expected}");

    let address = free_address();
    let text = fs::read_to_string(&configuration).unwrap();
    let more = format!(
        "[publish]\njson = \"\"\n[source]\nuri = \"test://bars?width=64&height=64\"\npacing = \"camera\"\nfps = 0.5\n\
         [http]\nlisten = \"{address}\"\n"
    );
    fs::write(&configuration, text + &more).unwrap();
    let running = start_configured(&bench, &configuration, address, &[]);
    until_so(|| running.get("/readyz").status == 200, || running.stderr());
    let photograph = fs::read(path).unwrap();
    for _ in 0..2 {
        // A photograph gives way to all that runs, and is given up where that takes too long.
        let look = || Some(running.post("/api/detect", &photograph)).filter(|answer| answer.status != 503);
        let answer = until(look, || running.stderr());
        assert_eq!(detections(&answer), expected["detections"]);
        let line = answer.json();
        let keys = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&line), keys(&expected));
        assert_eq!((&line["source"], &line["frame"]), (&json!("request"), &json!(0)));
        let [age, latency] = ["age_ms", "latency_ms"].map(|key| line[key].as_f64().unwrap());
        assert!(0.0 < latency && latency <= age, "{line}");
    }
}

#[test]
fn a_photograph_is_told_by_its_bytes_and_seen_upright() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    let rgb = quarters(64, 64, [GREEN, GREY, GREY, GREY]);
    for format in [image::ImageFormat::Png, image::ImageFormat::WebP] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::write_buffer_with_format(&mut bytes, &rgb, 64, 64, image::ColorType::Rgb8, format).unwrap();
        let line = running.post("/api/detect", bytes.get_ref()).json();
        assert_near(box_of(&line, "green"), [0.0, 0.0, 32.0, 32.0]);
    }
    let line = running.post("/api/detect", &jpeg(128, 64, [RED, GREY, GREY, GREY], Some(6))).json();
    assert_near(box_of(&line, "red"), [32.0, 0.0, 64.0, 64.0]);
}

#[test]
fn the_words_are_those_of_the_stream_at_that_moment_or_those_that_are_asked_for() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure_with_teacher(&bench, address);
    let running = start_configured(&bench, &configuration, address, &[]);
    running.await_word("red");
    let ask = |query: &str| running.post(&format!("/api/detect{query}"), &photograph());
    assert_eq!(words(&ask("")), ["blue", "green", "red"]);
    assert_eq!(running.put("/api/vocabulary", &json!({ "name": "roses" })).status, 200);
    running.await_word("rose");
    assert!(words(&ask("")).contains(&"rose".to_owned()));
    assert_eq!(words(&ask("?words=ruby,%20%22leaf%22")), ["leaf", "ruby"]);
    running.await_word("rose");
    for (query, part) in [
        ("?words=", "is empty"),
        ("?words=ruby,,leaf", "word 2 is empty"),
        ("?words=%22ruby", "quote"),
        ("?word=ruby", "`words`"),
        ("?words=ruby&words=leaf", "`words`"),
    ] {
        let told = ask(query).error(400);
        assert!(told.contains(part), "{query}: {told}");
    }
    assert!(ask("?words=ruby,RUBY").error(409).contains("twice"));
    assert!(ask("?words=forklift").error(409).contains("knows nothing of"));
    fs::rename(bench.path("teacher"), bench.path("away")).unwrap();
    assert_eq!(words(&ask("?words=ruby,leaf")), ["leaf", "ruby"], "what was embedded once takes no teacher");
    ask("?words=blue").error(409);
}

#[test]
fn words_without_a_teacher_name_the_package_that_has_one() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    let told = running.post("/api/detect?words=red%20cup", &photograph()).error(409);
    assert!(told.contains("wordsight-teacher-standin"), "{told}");
    assert_eq!(worker(&running), None, "no photograph is looked at in vain");
}

#[test]
fn what_is_no_photograph_is_refused_with_a_reason_and_the_next_one_is_looked_at() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    let whole = photograph();
    let refused = |bytes: &[u8], status: u16, part: &str| {
        let told = running.post("/api/detect", bytes).error(status);
        assert!(told.contains(part), "{told}");
    };
    refused(b"", 400, "there is no photograph");
    refused(b"this is text", 415, "JPEG, PNG or WebP");
    refused(b"GIF89a\x01\0\x01\0", 415, "JPEG, PNG or WebP");
    refused(&whole[..whole.len() / 2], 400, "cut off");
    refused(&claiming_pixels(60_000, 60_000), 400, "more than any camera's picture has");
    refused(&claiming_pixels(0, 7), 400, "");
    let long = "Content-Length: 16777217\r\n";
    let told = running.raw(format!("{}\r\n", running.head("POST", "/api/detect", long))).error(413);
    assert!(told.contains("16 MiB"), "{told}");
    running.get("/api/detect").error(405);
    let other = running.head("POST", "/api/detect", "Origin: http://evil.example\r\nContent-Length: 0\r\n");
    assert!(running.raw(format!("{other}Connection: close\r\n\r\n")).error(403).contains("another site"));
    assert_eq!(words(&running.post("/api/detect", &whole)), ["blue", "green", "red"]);
}

/// The beginning of a PNG that claims to have so many pixels.
fn claiming_pixels(width: u32, height: u32) -> Vec<u8> {
    let header = [&b"IHDR"[..], &width.to_be_bytes(), &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let check = header.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1)))
    });
    let (start, pixels) = (b"\x89PNG\r\n\x1a\n\0\0\0\x0d", b"\0\0\x10\0IDAT\x78\x9c");
    [&start[..], &header, &(!check).to_be_bytes(), pixels].concat()
}

#[test]
fn a_photograph_takes_the_token() {
    let bench = Bench::new();
    bench.write("token", format!("{TOKEN}\n"));
    let mut running = start(&bench, "token_file = \"token\"\n");
    running.await_word("red");
    assert!(running.post("/api/detect", &photograph()).error(401).contains("token"));
    running.token = Some(TOKEN);
    assert_eq!(words(&running.post("/api/detect", &photograph())), ["blue", "green", "red"]);
}

/// Sends a photograph, and leaves the connection open.
fn send(running: &Running) -> TcpStream {
    let (mut stream, body) = (running.connect(), photograph());
    let length = format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(running.head("POST", "/api/detect", &length).as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    stream
}

#[test]
fn four_photographs_wait_for_their_turn_and_the_next_are_told_to_come_back() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    assert_eq!(running.post("/api/detect", &photograph()).status, 200);
    // Whoever looks stands still, and the stream does not.
    let worker = worker(&running).unwrap();
    signal(worker, libc::SIGSTOP);
    let (tell, told) = std::sync::mpsc::channel();
    let asked: Vec<_> = (0..6)
        .map(|_| {
            let (mut stream, tell) = (send(&running), tell.clone());
            thread::spawn(move || {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unwrap();
                tell.send(Answer::of(&bytes)).unwrap();
            })
        })
        .collect();
    for _ in 0..2 {
        let refused = told.recv_timeout(PATIENCE).unwrap();
        assert!(refused.error(503).contains("ask again later"), "{refused:?}");
        assert_eq!(refused.headers["retry-after"], "5");
    }
    let published = running.metric("wordsight_frames_total");
    until_so(
        || running.metric("wordsight_frames_total") > published + 50.0,
        || "the stream stands".to_owned(),
    );
    signal(worker, libc::SIGCONT);
    for _ in 0..4 {
        assert_eq!(words(&told.recv_timeout(PATIENCE).unwrap()), ["blue", "green", "red"]);
    }
    asked.into_iter().for_each(|asked| asked.join().unwrap());
}

#[test]
fn the_stream_loses_no_frame_to_photographs() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure(&bench, address, "");
    // So few that a busy machine keeps up with them.
    let text = fs::read_to_string(&configuration).unwrap().replace("fps = 50", "fps = 5");
    fs::write(&configuration, text).unwrap();
    let running = start_configured(&bench, &configuration, address, &[]);
    running.await_word("red");
    let of_stage =
        |stage: &str| running.metric(&format!("wordsight_frames_dropped_total{{before=\"{stage}\"}}"));
    let lost = || ["preprocess", "engine", "publish"].map(of_stage).iter().sum::<f64>();
    in_one_of_some_tries(|| {
        let (before, published) = (lost(), running.metric("wordsight_frames_total"));
        while running.metric("wordsight_frames_total") < published + 10.0 {
            assert_eq!(running.post("/api/detect", &photograph()).status, 200);
        }
        let during = lost() - before;
        if during == 0.0 { Ok(()) } else { Err(format!("{during} frames were lost")) }
    });
}

#[test]
fn the_process_that_looks_gives_way_to_all_others_is_replaced_when_it_dies_and_ends_when_it_is_idle() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    assert_eq!(worker(&running), None, "before there is a photograph");
    let ask = || assert_eq!(words(&running.post("/api/detect", &photograph())), ["blue", "green", "red"]);
    ask();
    let first = worker(&running).unwrap();
    for thread in fs::read_dir(format!("/proc/{first}/task")).unwrap().flatten() {
        let thread = thread.file_name().to_str().unwrap().parse().unwrap();
        assert_eq!(stat(thread, 19), Some(19), "each of its threads is as nice as can be");
    }
    assert_eq!(fs::read_to_string(format!("/proc/{first}/oom_score_adj")).unwrap().trim(), "500");
    ask();
    assert_eq!(worker(&running), Some(first), "one serves several");
    signal(first, libc::SIGKILL);
    until_so(|| is_dead(first), || "it lives on".to_owned());
    ask();
    assert_ne!(worker(&running), Some(first));
    until_so(|| worker(&running).is_none(), || "it never ends".to_owned());
    ask();
}

#[test]
fn a_student_that_was_exchanged_is_not_mixed_with_the_one_that_runs() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    let student = fs::read(bench.path("student.onnx")).unwrap();
    fs::write(bench.path("new.onnx"), &student).unwrap();
    fs::rename(bench.path("new.onnx"), bench.path("student.onnx")).unwrap();
    let told = running.post("/api/detect", &photograph()).error(503);
    assert!(told.contains("student.onnx has changed") && told.contains("reload"), "{told}");
    running.process.signal(libc::SIGHUP);
    until_so(|| running.post("/api/detect", &photograph()).status == 200, || running.stderr());
}

/// What is neither red, green nor blue to a vocabulary of these.
const YELLOW: Colour = [250, 250, 4];

/// Waits until a photograph shows these words: others are taken between two frames of the stream.
fn await_words(running: &Running, photograph: &[u8], expected: &[impl AsRef<str>]) {
    let seen = || words(&running.post("/api/detect", photograph));
    let is_so = || seen().iter().map(String::as_str).eq(expected.iter().map(AsRef::as_ref));
    until_so(is_so, || format!("{:?}; {}", seen(), running.stderr()));
}

/// Where the upper left quarter of the photographs is.
const UPPER_LEFT: &str = "/api/examples?word=sun&box=2,1,62,63";

#[test]
fn a_thing_that_is_shown_is_found_by_its_name_and_forgotten_when_asked() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    let photograph = jpeg(128, 128, [YELLOW, RED, BLUE, GREY], None);
    let before = words(&running.post("/api/detect", &photograph));
    assert!(!before.contains(&"sun".to_owned()), "{before:?}");

    let added = running.post(UPPER_LEFT, &photograph);
    assert_eq!(added.status, 200, "{}", added.text());
    let in_use = added.json();
    assert_eq!(in_use["examples"], json!([{ "word": "sun", "examples": 1, "negative": 0 }]));
    assert_eq!(in_use["is_as_configured"], json!(false));
    await_words(&running, &photograph, &["blue", "red", "sun"]);
    let line = running.post("/api/detect", &photograph).json();
    assert_near(box_of(&line, "sun"), [0.0, 0.0, 64.0, 64.0]);
    assert_eq!(running.get("/api/examples").json(), json!({ "words": in_use["examples"] }));
    let listed = running.get("/api/words").json().to_string();
    assert!(listed.contains("\"sun\""), "{listed}");

    // A new word's example is not to take the others' things.
    running.await_word("red");
    let forgotten = running.ask("DELETE", "/api/examples?word=sun", "", "");
    assert_eq!(forgotten.status, 200, "{}", forgotten.text());
    await_words(&running, &photograph, &before);
    assert_eq!(running.ask("DELETE", "/api/examples?word=sun", "", "").status, 409);
}

#[test]
fn what_a_thing_is_not_takes_its_regions_and_is_told_nowhere() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    let photograph = jpeg(128, 128, [YELLOW, RED, BLUE, GREY], None);
    assert_eq!(running.post(UPPER_LEFT, &photograph).status, 200);
    await_words(&running, &photograph, &["blue", "red", "sun"]);
    let not_it = running.post("/api/examples?word=red&negative=true&box=65,1,127,63", &photograph);
    let examples = json!([
        { "word": "sun", "examples": 1, "negative": 0 },
        { "word": "red", "examples": 0, "negative": 1 },
    ]);
    assert_eq!(not_it.json()["examples"], examples, "{}", not_it.text());
    await_words(&running, &photograph, &["blue", "sun"]);
}

#[test]
fn examples_hold_after_a_restart_where_that_is_asked_and_for_their_student_alone() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure(&bench, address, "");
    let photograph = jpeg(128, 128, [YELLOW, RED, BLUE, GREY], None);
    let running = start_configured(&bench, &configuration, address, &[]);
    running.await_word("red");
    assert_eq!(running.put("/api/choices", &json!({ "keep": true })).status, 200);
    assert_eq!(running.post(UPPER_LEFT, &photograph).status, 200);
    drop(running);

    let running = start_configured(&bench, &configuration, address, &[]);
    running.await_word("red");
    assert!(words(&running.post("/api/detect", &photograph)).contains(&"sun".to_owned()));
    drop(running);

    let student = bench.path("student.onnx");
    let mut model = wordsight_onnx::read(&student).unwrap();
    wordsight_onnx::set_metadata(&mut model, "wordsight.background", Some("[0, 0, 0.6, 0.8]".to_owned()));
    wordsight_onnx::write(&model, &student).unwrap();
    let running = start_configured(&bench, &configuration, address, &[]);
    until_so(|| running.get("/readyz").status == 200, || running.stderr());
    assert!(!words(&running.post("/api/detect", &photograph)).contains(&"sun".to_owned()));
    assert!(running.stderr().contains("shown to another student"), "{}", running.stderr());
}

#[test]
fn what_can_be_no_example_is_refused_with_what_to_do() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    let photograph = jpeg(128, 128, [YELLOW, RED, BLUE, GREY], None);
    for (query, status, told) in [
        ("", 400, "`word`"),
        ("?word=", 400, "empty"),
        ("?word=%E2%80%8B", 409, "visible"),
        ("?word=sun&box=1,2,3", 400, "left, top, right and bottom"),
        ("?word=sun&box=60,60,2,2", 409, "no area"),
        ("?word=sun&box=500,500,600,600", 409, "128x128"),
        ("?word=sun&box=40,40,90,90", 409, "sees no thing"),
        ("?word=sun&colour=yellow", 400, "colour"),
    ] {
        let answer = running.post(&format!("/api/examples{query}"), &photograph);
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
        assert!(answer.text().contains(told), "{query}: {}", answer.text());
    }
    assert_eq!(running.post(UPPER_LEFT, b"no picture").status, 415);
    assert_eq!(running.post(UPPER_LEFT, b"").status, 400);
    assert_eq!(running.get("/api/examples").json(), json!({ "words": [] }));
}

#[test]
fn a_snapshot_comes_without_boxes_where_it_is_asked_for() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    let picture = |path: &str| {
        let answer = running.get(path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        image::load_from_memory(&answer.body).unwrap().to_rgb8()
    };
    let is_red = |pixel: &image::Rgb<u8>| pixel.0[0] > 240 && pixel.0[1] < 20 && pixel.0[2] < 20;
    // Above the square that moves in the middle of the test pattern.
    let other = |path: &str| picture(path).pixels().take(64 * 16).find(|pixel| !is_red(pixel)).copied();
    assert_eq!(other("/snapshot.jpg?boxes=false"), None);
    assert_ne!(other("/snapshot.jpg"), None);
    assert_eq!(running.get("/snapshot.jpg?boxes=perhaps").status, 400);
}
