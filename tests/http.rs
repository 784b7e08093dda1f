//! The live page's server: the real `wordsight run` with `[http]`, asked over plain sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::serving::*;
use support::*;

/// Reads until so many whole JPEGs came, and returns them.
fn read_pictures(stream: &mut TcpStream, number: usize) -> Vec<Vec<u8>> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 16 << 10]);
    loop {
        let pictures: Vec<Vec<u8>> = pictures_in(&bytes);
        if pictures.len() >= number {
            return pictures;
        }
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "the stream ends: {}", String::from_utf8_lossy(&bytes));
        bytes.extend(&chunk[..read]);
    }
}

fn pictures_in(bytes: &[u8]) -> Vec<Vec<u8>> {
    let find = |from: usize, what: &[u8]| {
        bytes[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
    };
    let (mut pictures, mut at) = (Vec::new(), 0);
    while let Some(start) = find(at, b"\xff\xd8\xff") {
        let Some(end) = find(start, b"\xff\xd9\r\n") else { break };
        pictures.push(bytes[start..end + 2].to_vec());
        at = end;
    }
    pictures
}

#[test]
fn what_there_is_not_is_said_in_json_and_the_page_runs_nothing_but_its_own() {
    let bench = Bench::new();
    let running = start(&bench, "");
    let page = running.get("/");
    assert_eq!(page.status, 200);
    assert!(page.headers["content-type"].starts_with("text/html") && page.text().contains("</html>"));
    let policy = &page.headers["content-security-policy"];
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(running.get("/nothing").error(404).contains("nothing"));
    assert!(running.get("/../../etc/passwd").error(404).contains("nothing"));
    let wrong = running.ask("DELETE", "/metrics", "", "");
    assert!(wrong.error(405).contains("method"));
    assert_eq!(wrong.headers["allow"], "GET,HEAD");
    let head = running.ask("HEAD", "/api/status", "", "");
    assert!(head.status == 200 && head.body.is_empty(), "{head:?}");
    for path in ["/", "/nothing", "/api/status"] {
        let headers = running.get(path).headers;
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cache-control"], "no-store");
    }
    let document = running.get("/api/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn without_a_token_only_names_of_this_machine_are_answered_to_and_other_sites_change_nothing() {
    let bench = Bench::new();
    let running = start(&bench, "");
    for host in ["localhost", "127.0.0.1:8620", "[::1]:8620"] {
        assert_eq!(running.ask("GET", "/api/status", &format!("Host: {host}\r\n"), "").status, 200, "{host}");
    }
    for host in ["evil.example", "evil.example:8620", "127.0.0.1.evil.example", "192.168.1.7"] {
        let answer = running.ask("GET", "/api/status", &format!("Host: {host}\r\n"), "");
        assert!(answer.error(403).contains("localhost"), "{host}");
    }
    let put = |headers: &str| running.ask("PUT", "/api/threshold", headers, "{\"score\": 0.5}");
    let json = "Content-Type: application/json\r\n";
    assert!(put("").error(415).contains("application/json"));
    assert!(put("Content-Type: text/plain\r\n").error(415).contains("application/json"));
    for other in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert!(put(&format!("{json}{other}")).error(403).contains("another site"), "{other}");
    }
    let delete = running.ask("DELETE", "/api/choices", "Origin: http://evil.example\r\n", "");
    assert!(delete.error(403).contains("another site"));
    assert_eq!(running.get("/api/status").json()["in_use"]["is_as_configured"], true);
    let own = format!("{json}Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", running.address);
    assert_eq!(put(&own).status, 200);
}

#[test]
fn whoever_has_the_token_is_let_in_by_header_or_cookie_and_nobody_else_and_it_is_told_nowhere() {
    let bench = Bench::new();
    bench.write("token", format!("{TOKEN}\n"));
    let mut running = start(&bench, "token_file = \"token\"\n");
    assert_eq!(running.get("/").status, 200, "the page, with its form");
    for path in
        ["/api/status", "/metrics", "/healthz", "/readyz", "/stream.mjpg", "/snapshot.jpg", "/nothing"]
    {
        let answer = running.get(path);
        assert!(answer.error(401).contains("token"), "{path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    let query = running.get(&format!("/api/status?token={TOKEN}"));
    assert_eq!(query.status, 401, "never in a URL");
    let begin = Instant::now();
    assert_eq!(
        running.ask("GET", "/api/status", "Authorization: Bearer wrong-wrong-wrong\r\n", "").status,
        401
    );
    assert!(begin.elapsed() >= Duration::from_secs(1), "whoever guesses waits");
    let json = "Content-Type: application/json\r\n";
    let login = |token: &str| running.ask("POST", "/login", json, &json!({ "token": token }).to_string());
    assert!(login("wrong-wrong-wrong").error(401).contains("not the token"));
    let answer = login(TOKEN);
    assert_eq!(answer.status, 204, "{answer:?}");
    let cookie = &answer.headers["set-cookie"];
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(TOKEN), "{cookie}");
    let pair = cookie.split(';').next().unwrap().to_owned();
    let by_cookie =
        running.ask("GET", "/api/status", &format!("Cookie: {pair}\r\nHost: camera.local\r\n"), "");
    assert_eq!(by_cookie.status, 200, "with a token any name will do");
    let cross = format!("{json}Cookie: {pair}\r\nOrigin: http://evil.example\r\n");
    assert_eq!(running.ask("PUT", "/api/threshold", &cross, "{\"score\": 0.5}").status, 403);
    running.token = Some(TOKEN);
    assert_eq!(running.get("/api/status").status, 200);
    let told = running.stderr();
    assert_eq!(told.matches("wrong token").count(), 1, "said once for both: {told}");
    assert!(!told.contains(TOKEN) && !told.contains("wrong-wrong"), "{told}");
    assert!(!running.get("/api/status").text().contains(TOKEN));
}

#[test]
fn what_would_be_open_to_others_or_has_no_token_does_not_start() {
    let bench = Bench::new();
    let run = |flags: &[&str], configuration: &str| {
        let path = bench.write_config(configuration);
        let mut command = wordsight(&["run", "--frames", "1", "--config", path.to_str().unwrap()]);
        Outcome::of(command.args(["--source", "test://ff0000"]).args(flags).output().unwrap())
    };
    let open = run(&["--http", "0.0.0.0:0"], "");
    assert!(open.sentence(2).contains("token_file"), "{open:?}");
    let open = run(&[], "[http]\nlisten = \"[::]:0\"\n");
    assert!(open.sentence(2).contains("token_file"), "{open:?}");
    bench.write("token", "short");
    let short = run(&[], "[http]\nlisten = \"0.0.0.0:0\"\ntoken_file = \"token\"\n");
    assert!(short.sentence(2).contains("16 characters") && !short.stderr.contains("short"), "{short:?}");
    let missing = run(&[], "[http]\nlisten = \"0.0.0.0:0\"\ntoken_file = \"missing\"\n");
    assert!(missing.sentence(1).contains("missing"), "{missing:?}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let outcome = run(&["--http", &address], "");
    assert!(outcome.sentence(1).contains(&address), "{outcome:?}");
}

#[test]
fn a_vocabulary_that_is_asked_for_names_the_next_frames_until_it_is_taken_back() {
    let bench = Bench::new();
    let running = start(&bench, "");
    bench.write("vocabularies/broken.safetensors", "no words");
    bench.write("secret.safetensors", "");
    std::os::unix::fs::symlink(bench.path("secret.safetensors"), bench.path("vocabularies/link.safetensors"))
        .unwrap();
    running.await_word("red");
    let listed = running.get("/api/vocabularies").json();
    let names: Vec<&str> =
        listed["vocabularies"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["broken", "roses"], "what leads out of the folder isn't listed");
    assert_eq!(listed["vocabularies"][1]["words"], 1);
    assert!(listed["vocabularies"][0]["trouble"].as_str().unwrap().contains("not a usable vocabulary"));

    let in_use = running.put("/api/vocabulary", &json!({ "name": "roses" }));
    assert_eq!(in_use.status, 200, "{in_use:?}");
    assert_eq!(in_use.json()["vocabulary"], "roses");
    assert_eq!(in_use.json()["is_as_configured"], false);
    running.await_word("rose");
    assert_eq!(running.get("/api/words").json()["words"][0]["word"], "rose");
    assert_eq!(running.get("/api/vocabularies").json()["vocabularies"][1]["is_in_use"], true);
    assert_eq!(words_of(&running.get("/api/detections").json())[0], "rose");

    for name in ["../words", "/etc/passwd", "..", "", "roses\0", "link", ".hidden", "a/../roses"] {
        let answer = running.put("/api/vocabulary", &json!({ "name": name }));
        answer.error(422);
    }
    assert!(
        running.put("/api/vocabulary", &json!({ "name": "missing" })).error(404).contains("no vocabulary")
    );
    let refused = running.put("/api/vocabulary", &json!({ "name": "broken" }));
    assert!(refused.error(409).contains("not a usable vocabulary"), "{refused:?}");
    running.await_word("rose");

    let taken_back = running.ask("DELETE", "/api/choices", "", "");
    assert_eq!(taken_back.json()["vocabulary"], "words");
    assert_eq!(taken_back.json()["is_as_configured"], true);
    running.await_word("red");
}

#[test]
fn words_that_are_asked_for_name_the_next_frames_until_they_are_taken_back() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure_with_teacher(&bench, address);
    let running = start_configured(&bench, &configuration, address, &[]);
    running.await_word("red");
    let wanted = json!({ "words": ["ruby", { "word": "blue", "synonyms": ["yellow"], "threshold": 0.2 }] });
    let in_use = running.put("/api/words", &wanted);
    assert_eq!(in_use.status, 200, "{in_use:?}");
    let in_use = in_use.json();
    assert_eq!((&in_use["words"], &in_use["is_as_configured"]), (&json!(2), &json!(false)));
    running.await_word("ruby");
    assert_eq!(running.get("/api/words").json()["words"][1]["word"], "blue");
    for wrong in [
        json!({ "words": [] }),
        json!({ "words": [""] }),
        json!({ "words": [{ "word": "cup", "treshold": 0.2 }] }),
        json!({ "words": [{ "word": "cup", "threshold": 2 }] }),
        json!({ "words": "cup" }),
        json!({}),
    ] {
        running.put("/api/words", &wrong).error(422);
    }
    for none in [
        json!(["cup", "Cup"]),
        json!(["\u{200b}"]),
        json!([{ "word": "cup", "hidden": true, "threshold": 0.2 }]),
    ] {
        running.put("/api/words", &json!({ "words": none })).error(409);
    }
    let many: Vec<String> = (0..1_001).map(|word| format!("word {word}")).collect();
    let refused = running.put("/api/words", &json!({ "words": many })).error(409);
    assert!(refused.contains("1001 words") && refused.contains("wordsight words make"), "{refused}");
    for unknown in ["forklift", "\u{1f431}", "\" or 'nothing\u{7}"] {
        let refused = running.put("/api/words", &json!({ "words": [unknown] })).error(409);
        assert!(refused.contains("knows nothing of"), "{refused}");
    }
    running.await_word("ruby");
    assert_eq!(running.ask("DELETE", "/api/choices", "", "").json()["vocabulary"], "words");
    running.await_word("red");
    fs::rename(bench.path("teacher"), bench.path("away")).unwrap();
    assert_eq!(running.put("/api/words", &wanted).status, 200, "what was embedded once takes no teacher");
    running.await_word("ruby");
    let refused = running.put("/api/words", &json!({ "words": ["red ruby"] })).error(409);
    assert!(refused.contains("is not a teacher"), "{refused}");
    running.await_word("ruby");
}

#[test]
fn vocabularies_are_uploaded_downloaded_and_deleted_by_name() {
    let bench = Bench::new();
    let address = free_address();
    // None is named: they lie in the state directory.
    let configuration = configure(&bench, address, "");
    let text = fs::read_to_string(&configuration).unwrap().replace("vocabularies = ", "# vocabularies = ");
    fs::write(&configuration, text).unwrap();
    let running = start_configured(&bench, &configuration, address, &[]);
    running.await_word("red");
    let file = bench.path("upload.safetensors");
    write_vocabulary(&file, &[("poppy", RED), ("corn", BLUE)]);
    let bytes = fs::read(&file).unwrap();
    let send = |name: &str, kind: &str, bytes: &[u8]| {
        let length = bytes.len();
        let headers =
            format!("Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        let mut request = running.head("PUT", &format!("/api/vocabularies/{name}"), &headers).into_bytes();
        request.extend(bytes);
        running.raw(request)
    };
    let octets = "application/octet-stream";
    let kept = send("my%20words", octets, &bytes);
    assert_eq!(
        (kept.status, kept.json()),
        (201, json!({ "name": "my words", "words": 2, "teacher": TEACHER }))
    );
    assert_eq!(send("my%20words", octets, &bytes).status, 200, "exchanged");
    assert_eq!(running.get("/api/vocabularies/my%20words").body, bytes);
    assert_eq!(running.get("/api/vocabularies").json()["vocabularies"][0]["name"], "my words");
    assert_eq!(running.put("/api/vocabulary", &json!({ "name": "my words" })).status, 200);
    running.await_word("poppy");
    let delete = |name: &str| running.ask("DELETE", &format!("/api/vocabularies/{name}"), "", "");
    assert!(delete("my%20words").error(409).contains("in use"));
    // One that is in use is taken up between two frames.
    write_vocabulary(&file, &[("tulip", RED)]);
    assert_eq!(send("my%20words", octets, &fs::read(&file).unwrap()).status, 200);
    running.await_word("tulip");
    for (name, kind, bytes, status) in [
        ("broken", octets, &b"no words"[..], 409),
        ("empty", octets, b"", 409),
        ("..%2Fwords", octets, &bytes, 422),
        (".hidden", octets, &bytes, 422),
        ("typed", "application/json", &bytes, 415),
        ("typed", "text/plain", &bytes, 415),
    ] {
        send(name, kind, bytes).error(status);
    }
    let folder = bench.path("state/wordsight/vocabularies");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing else is there");
    let long = running.head("PUT", "/api/vocabularies/long", &format!("Content-Type: {octets}\r\n"));
    let long = running.raw(format!("{long}Content-Length: 70000000\r\nConnection: close\r\n\r\n"));
    assert!(long.error(413).contains("64 MiB"));
    running.get("/api/vocabularies/none").error(404);
    delete("none").error(404);
    assert_eq!(running.ask("DELETE", "/api/choices", "", "").status, 200);
    running.await_word("red");
    assert_eq!(delete("my%20words").status, 204);
    running.get("/api/vocabularies/my%20words").error(404);
}

#[test]
fn what_was_chosen_is_gone_after_a_restart_unless_it_is_kept_or_the_configuration_says_something_else() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure_with_teacher(&bench, address);
    let text = fs::read_to_string(&configuration).unwrap();
    let start = || start_configured(&bench, &configuration, address, &[]);
    let in_use = |running: &Running| running.get("/api/status").json()["in_use"].clone();
    let ruby = json!({ "words": ["ruby", { "word": "blue", "threshold": 0.2 }] });

    let running = start();
    assert_eq!(running.put("/api/words", &ruby).status, 200);
    running.await_word("ruby");
    assert_eq!(in_use(&running)["is_kept"], false);
    drop(running);
    let running = start();
    running.await_word("red");
    // Kept: what was chosen before, and what is chosen after.
    assert_eq!(running.put("/api/words", &ruby).status, 200);
    assert_eq!(running.put("/api/choices", &json!({ "keep": true })).json()["is_kept"], true);
    assert_eq!(running.put("/api/threshold", &json!({ "score": 0.25 })).json()["is_kept"], true);
    running.put("/api/choices", &json!({ "keep": 1 })).error(422);
    drop(running);
    let running = start();
    running.await_word("ruby");
    let kept = in_use(&running);
    assert_eq!((&kept["is_kept"], &kept["is_as_configured"]), (&json!(true), &json!(false)));
    assert_eq!(kept["score_threshold"], 0.25);
    drop(running);
    // Neither the teacher is there any more, nor what it embedded.
    fs::rename(bench.path("teacher"), bench.path("away")).unwrap();
    fs::rename(bench.path("state/wordsight/captions"), bench.path("captions")).unwrap();
    let running = start();
    running.await_word("red");
    assert!(running.stderr().contains("does not work any more"), "{}", running.stderr());
    drop(running);
    fs::rename(bench.path("captions"), bench.path("state/wordsight/captions")).unwrap();
    let running = start();
    running.await_word("ruby");
    // The configuration has the last word, for good.
    let other = text.replace("\"words.safetensors\"", "\"vocabularies/roses.safetensors\"");
    fs::write(&configuration, other).unwrap();
    running.await_word("rose");
    assert_eq!(in_use(&running)["is_kept"], false);
    drop(running);
    fs::write(&configuration, &text).unwrap();
    let running = start();
    running.await_word("red");
    // Where nothing can be written that is said, and the choice holds as long as the program runs.
    assert_eq!(running.put("/api/words", &ruby).status, 200);
    fs::create_dir_all(bench.path("state/wordsight/chosen")).unwrap();
    fs::remove_dir(bench.path("state/wordsight/chosen")).unwrap();
    bench.write("state/wordsight/chosen", "a file and no folder");
    let refused = running.put("/api/choices", &json!({ "keep": true })).error(409);
    assert!(refused.contains("/chosen"), "{refused}");
    assert_eq!(in_use(&running)["is_kept"], false);
    running.await_word("ruby");
}

#[test]
fn a_threshold_that_is_asked_for_holds_from_the_next_frame_on() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    let in_use = running.put("/api/threshold", &json!({ "score": 1.0 }));
    assert_eq!((in_use.status, &in_use.json()["score_threshold"]), (200, &json!(1.0)));
    running.await_word("nothing");
    for wrong in
        [json!({ "score": 1.01 }), json!({ "score": -1 }), json!({ "score": "0.5" }), json!({}), json!(1)]
    {
        running.put("/api/threshold", &wrong).error(422);
    }
    let broken = running.ask("PUT", "/api/threshold", "Content-Type: application/json\r\n", "{");
    broken.error(400);
    assert_eq!(running.ask("DELETE", "/api/choices", "", "").status, 200);
    running.await_word("red");
}

#[test]
fn what_is_too_long_or_too_slow_is_refused_and_costs_nobody_else_anything() {
    let bench = Bench::new();
    let running = start(&bench, "");
    let json = "Content-Type: application/json\r\n";
    let long = "x".repeat(70_000);
    assert!(running.ask("PUT", "/api/threshold", json, &long).error(413).contains("64 KiB"));
    let chunked = running.head("PUT", "/api/threshold", &format!("{json}Transfer-Encoding: chunked\r\n"));
    let chunks = format!("{chunked}\r\n{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    assert!(running.raw(chunks).error(413).contains("64 KiB"));
    // Who sends half a request is given up after ten seconds; who comes meanwhile is answered meanwhile.
    let begin = Instant::now();
    let (headers, body, other) = thread::scope(|scope| {
        let headers = scope.spawn(|| {
            let mut stream = running.connect();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: local").unwrap();
            drop(stream.read_to_end(&mut Vec::new()));
            begin.elapsed()
        });
        let body = scope.spawn(|| {
            let head = running.head("PUT", "/api/threshold", &format!("{json}Content-Length: 100\r\n"));
            running.raw(format!("{head}\r\n{{")).error(408);
            begin.elapsed()
        });
        let other = scope.spawn(|| {
            assert_eq!(running.get("/api/status").status, 200);
            begin.elapsed()
        });
        (headers.join().unwrap(), body.join().unwrap(), other.join().unwrap())
    });
    assert!(headers.min(body) > Duration::from_secs(8), "headers: {headers:?}, a body: {body:?}");
    assert!(other < headers.min(body), "{other:?}: others are served meanwhile");
}

#[test]
fn two_viewers_get_pictures_at_once_and_without_viewers_none_is_made() {
    let bench = Bench::new();
    let running = start(&bench, "picture_fps = 30\n");
    running.await_word("red");
    assert_eq!(running.metric("wordsight_pictures_total"), 0.0);
    let mut streams = [running.open("/stream.mjpg"), running.open("/stream.mjpg")];
    for stream in &mut streams {
        let pictures = read_pictures(stream, 5);
        for jpeg in pictures {
            let decoded = image_size(&jpeg);
            assert_eq!(decoded, (64, 64));
        }
    }
    assert_eq!(running.metric("wordsight_viewers"), 2.0);
    drop(streams);
    until_so(|| running.metric("wordsight_viewers") == 0.0, || "they are still counted".to_owned());
    // One may have been under way when the last viewer left.
    in_one_of_some_tries(|| {
        let [made, published] =
            ["wordsight_pictures_total", "wordsight_frames_total"].map(|of| running.metric(of));
        assert!(made >= 5.0, "{made}");
        let goes_on = || running.metric("wordsight_frames_total") > published + 50.0;
        until_so(goes_on, || "the stream stands".to_owned());
        let later = running.metric("wordsight_pictures_total");
        if later == made { Ok(()) } else { Err(format!("nobody looks, and {made} pictures become {later}")) }
    });
    let snapshot = running.get("/snapshot.jpg");
    assert_eq!((snapshot.status, snapshot.headers["content-type"].as_str()), (200, "image/jpeg"));
    assert_eq!(image_size(&snapshot.body), (64, 64));
}

/// The size that a JPEG's first frame header tells.
fn image_size(jpeg: &[u8]) -> (usize, usize) {
    let at = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    let number = |at: usize| usize::from(jpeg[at]) << 8 | usize::from(jpeg[at + 1]);
    (number(at + 7), number(at + 5))
}

#[test]
fn the_seventeenth_viewer_is_told_that_there_are_too_many_and_so_is_the_sixty_fifth_connection() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    let mut viewers: Vec<TcpStream> = (0..16).map(|_| running.open("/stream.mjpg")).collect();
    viewers.iter_mut().for_each(|viewer| drop(read_pictures(viewer, 1)));
    assert!(running.get("/stream.mjpg").error(503).contains("too many"));
    assert_eq!(running.get("/api/status").status, 200);
    let idle: Vec<TcpStream> = (0..48).map(|_| running.connect()).collect();
    // As soon as all of them are accepted.
    let refused = until(
        || Some(running.get("/api/status")).filter(|answer| answer.status == 503),
        || "more than 64 connections are served".to_owned(),
    );
    assert!(refused.error(503).contains("too many"));
    drop((viewers, idle));
    until_so(|| running.get("/api/status").status == 200, || "places are never free again".to_owned());
}

#[test]
fn a_viewer_who_does_not_read_is_given_up() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure(&bench, address, "picture_fps = 60\n");
    // Pictures that don't compress.
    let source = ["--source", "test://noise?width=640&height=480"];
    let running = start_configured(&bench, &configuration, address, &source);
    let sleeper = running.open("/stream.mjpg");
    until_so(|| running.metric("wordsight_viewers") == 1.0, || "it never looks".to_owned());
    let begin = Instant::now();
    until_so(|| running.metric("wordsight_viewers") == 0.0, || "it is still served".to_owned());
    assert!(begin.elapsed() > Duration::from_secs(5), "it has its time: {:?}", begin.elapsed());
    drop(sleeper);
}

#[test]
fn it_serves_elsewhere_when_that_is_configured_and_lets_go_of_whoever_was_connected() {
    let bench = Bench::new();
    let mut running = start(&bench, "");
    running.await_word("red");
    let mut viewer = running.open("/stream.mjpg");
    read_pictures(&mut viewer, 1);
    let mut listener = running.open("/api/events");
    listener.read_exact(&mut [0; 200]).unwrap();
    let (before, address) = (running.address, free_address());
    configure(&bench, address, "");
    until_so(|| TcpStream::connect(address).is_ok(), || running.stderr());
    running.address = address;
    assert_eq!(running.get("/api/status").status, 200);
    assert!(TcpStream::connect(before).is_err(), "nobody listens there any more");
    let mut rest = Vec::new();
    drop(viewer.read_to_end(&mut rest));
    let mut viewer = running.open("/stream.mjpg");
    read_pictures(&mut viewer, 1);
}

#[test]
fn it_ends_in_time_with_viewers_and_listeners_connected() {
    in_one_of_some_tries(|| {
        let bench = Bench::new();
        let mut running = start(&bench, "");
        running.await_word("red");
        let mut viewer = running.open("/stream.mjpg");
        read_pictures(&mut viewer, 1);
        let _listener = running.open("/api/events");
        // One that sends nothing, and one whose answer waits for a stream that ends.
        let _idle = running.connect();
        within(Duration::from_secs(2), running.process.terminate())
    });
}

#[test]
fn the_flag_serves_too() {
    let bench = Bench::new();
    let address = free_address();
    let configuration =
        bench.write_config("[source]\nuri = \"test://ff0000?width=64&height=64\"\npacing = \"camera\"\n");
    let running = start_configured(&bench, &configuration, address, &["--http", &address.to_string()]);
    assert_eq!(running.get("/api/status").status, 200);
    let answer = running.put("/api/vocabulary", &json!({ "name": "roses" }));
    assert!(answer.error(404).contains("no vocabulary of that name"), "{answer:?}");
    let listed = running.get("/api/vocabularies").json();
    assert_eq!((&listed["is_there"], listed["vocabularies"].as_array().unwrap().len()), (&json!(false), 0));
}

#[test]
fn the_metrics_are_what_prometheus_reads_and_count_what_happens() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure(&bench, address, "");
    // A board that tells something of itself.
    wordsight_board::fixtures::Board::OrinNano.write(&bench.path("board")).unwrap();
    write_vocabulary(&bench.path("words.safetensors"), &[("a \"red\" \\ thing", RED), ("green", GREEN)]);
    fs::create_dir_all(bench.path("vocabularies")).unwrap();
    let mut command = wordsight(&["run", "--config", configuration.to_str().unwrap()]);
    command.env("WORDSIGHT_BOARD_ROOT", bench.path("board")).stdout(Stdio::null());
    let running = Running::start(command, &bench, address);
    running.await_word("a \"red\" \\ thing");
    let text = running.get("/metrics");
    assert_eq!(text.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let series = text.text().lines().filter(|line| !line.starts_with('#'));
    let mut seen = BTreeMap::new();
    for line in series {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(seen.insert(series.to_owned(), value).is_none(), "{line} is there twice");
    }
    let of =
        |series: &str| seen.get(series).copied().unwrap_or_else(|| panic!("no {series} in {}", text.text()));
    assert!(of("wordsight_frames_total") > 0.0 && of("wordsight_things_total") > 0.0);
    assert_eq!(of("wordsight_vocabulary_words"), 2.0);
    assert_eq!(of("wordsight_source_up"), 1.0);
    assert_eq!(of("wordsight_source_state{state=\"running\"}"), 1.0);
    assert!(of("wordsight_stage_duration_seconds_count{stage=\"engine\"}") > 0.0);
    assert!(of("wordsight_frame_age_seconds_bucket{le=\"+Inf\"}") > 0.0);
    assert!(of("wordsight_board_temperature_celsius{zone=\"cpu-thermal\"}") > 0.0);
    assert!(of("process_resident_memory_bytes") > 1e6);
    let output = seen.keys().find(|series| series.starts_with("wordsight_output_sent_total")).unwrap();
    assert!(output.contains("lines.jsonl"), "{output}");
    until_so(
        || running.get("/metrics").text().contains("word=\"a \\\"red\\\" \\\\ thing\"}"),
        || running.get("/metrics").text().to_owned(),
    );
    check_by_promtool(&running.get("/metrics").body);
}

/// Has Prometheus's own tool read the text.
fn check_by_promtool(text: &[u8]) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        return skip("metrics as promtool reads them", "promtool is not installed", "Debian: prometheus");
    };
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.trim().is_empty(), "{told}");
}

/// Server-Sent Events as they come, by name and data.
fn read_events(
    stream: &mut TcpStream,
    is_enough: impl Fn(&[(String, Value)]) -> bool,
) -> Vec<(String, Value)> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    let end = Instant::now() + PATIENCE;
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let field = |block: &str, name: &str| {
            block.lines().find_map(|line| line.split_once(name).map(|(_, rest)| rest.to_owned()))
        };
        // In chunks, whose lengths stand on lines of their own.
        let blocks = text.split("\n\n").filter(|block| text.contains(&format!("{block}\n\n")));
        let events: Vec<(String, Value)> = blocks
            .filter_map(|block| {
                let data = field(block, "data: ")?;
                Some((field(block, "event: ")?, serde_json::from_str(&data).ok()?))
            })
            .collect();
        if is_enough(&events) {
            return events;
        }
        assert!(Instant::now() < end, "{text}");
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "it ends: {text}");
        bytes.extend(&chunk[..read]);
    }
}

#[test]
fn whoever_listens_hears_of_frames_events_and_the_status_and_of_what_was_before() {
    let bench = Bench::new();
    let running = start(&bench, "");
    running.await_word("red");
    let of =
        |events: &[(String, Value)], name: &str| events.iter().filter(|(event, _)| event == name).count();
    let mut listener = running.open("/api/events");
    // On a busy machine it may have left in between, and appeared again.
    let appeared_in = |events: &[(String, Value)]| {
        let appeared = |(name, data): &&(String, Value)| name == "event" && data["event"] == "appeared";
        events.iter().find(appeared).map(|(_, data)| data.clone())
    };
    let is_enough = |events: &[(String, Value)]| {
        of(events, "status") >= 3 && of(events, "frame") >= 5 && appeared_in(events).is_some()
    };
    let begin = Instant::now();
    let events = read_events(&mut listener, is_enough);
    let seconds = begin.elapsed().as_secs_f64();
    assert!(of(&events, "frame") as f64 <= 10.0 * seconds + 2.0, "50 come a second, and ten are told");
    let appeared = appeared_in(&events).unwrap();
    assert_eq!(appeared["word"], "red");
    let (_, frame) = events.iter().rfind(|(name, _)| name == "frame").unwrap();
    assert_eq!(words_of(frame)[0], "red");
    let colour = frame["colours"]["red"].as_str().unwrap();
    assert_eq!(colour, appeared["colour"], "one word, one colour");
    assert_eq!(running.get("/api/words").json()["words"][0]["colour"], colour);
    let (_, status) = events.iter().rfind(|(name, _)| name == "status").unwrap();
    assert_eq!((&status["name"], &status["is_well"]), (&json!("the hall"), &json!(true)), "{status}");
    assert!(status["rates"]["fps"].as_f64().unwrap() > 1.0, "{status}");
}

#[test]
fn words_are_told_some_at_a_time_however_many_there_are() {
    let bench = Bench::new();
    let words: Vec<(String, Colour)> = (0..3_000).map(|word| (format!("word {word}"), RED)).collect();
    let words: Vec<(&str, Colour)> = words.iter().map(|(word, colour)| (word.as_str(), *colour)).collect();
    let hidden = [("wall", BLUE)];
    write_vocabulary_hiding(&bench.path("words.safetensors"), &words, &hidden);
    let running = start(&bench, "");
    let page = |query: &str| running.get(&format!("/api/words{query}")).json();
    let number = |page: &Value| page["words"].as_array().unwrap().len();
    assert_eq!((number(&page("")), &page("")["total"]), (100, &json!(3_000)));
    assert_eq!(number(&page("?limit=99999")), 1_000);
    let last = page("?offset=2990&limit=50");
    assert_eq!((number(&last), &last["words"][9]["word"]), (10, &json!("word 2999")));
    assert_eq!(number(&page("?offset=4294967295")), 0);
    running.get("/api/words?offset=x").error(400);
    running.get("/api/words?more=1").error(400);
}

#[cfg(feature = "v4l2")]
#[test]
fn a_camera_that_is_lost_is_not_ready_and_the_program_is_alive() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = bench.write_config(&format!(
        "[publish]\njson = \"\"\n[source]\nuri = \"v4l2:///dev/no-camera\"\nwait_at_start = true\n[http]\nlisten = \"{address}\"\n"
    ));
    let running = start_configured(&bench, &configuration, address, &[]);
    until_so(
        || running.get("/readyz").text().contains("/dev/no-camera"),
        || running.get("/readyz").text().to_owned(),
    );
    let (ready, health) = (running.get("/readyz"), running.get("/healthz"));
    assert_eq!((ready.status, &ready.json()["is_well"]), (503, &json!(false)));
    assert_eq!((health.status, health.json()), (200, json!({ "is_well": true, "reasons": [] })));
    assert!(running.get("/api/detections").error(503).contains("no frame"));
    assert!(running.get("/snapshot.jpg").error(503).contains("readyz"));
    let status = running.get("/api/status").json();
    assert!(status["reasons"][0].as_str().unwrap().contains("is lost"), "{status}");
}

#[test]
fn a_stage_that_hangs_is_no_life() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure(&bench, address, "");
    // Nobody reads the lines: the pipe fills, and the publishing stage of a file's stream waits.
    bench.write("clip.mjpeg", motion_jpeg(&[RED; 10]));
    let clip = bench.path("clip.mjpeg");
    let flags = ["--json", "-", "--loop", "--source", clip.to_str().unwrap()];
    let mut command = wordsight(&["run", "--config", configuration.to_str().unwrap()]);
    command.args(flags).stdout(Stdio::piped());
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("\"camera\"", "\"lossless\"")).unwrap();
    let mut running = Running::start(command, &bench, address);
    assert_eq!(running.get("/healthz").status, 200);
    until_so(|| running.get("/healthz").status == 503, || running.get("/api/status").text().to_owned());
    let health = running.get("/healthz").json();
    assert!(health["reasons"][0].as_str().unwrap().contains("gets no further"), "{health}");
    let mut lines = running.process.child.stdout.take().unwrap();
    thread::spawn(move || drop(std::io::copy(&mut lines, &mut std::io::sink())));
    until_so(|| running.get("/healthz").status == 200, || running.get("/healthz").text().to_owned());
}
