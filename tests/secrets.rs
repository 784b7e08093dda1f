//! A password or a token that a user writes somewhere is shown nowhere: not in a log, an error, a file or a page.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use support::*;

/// No part of it is a word of its own anywhere.
const SECRET: &str = "hunter2";

/// How people write a camera's address with a secret in it; nobody answers at any of them.
const FORMS: [&str; 46] = [
    "rtsp://me:hunter2@127.0.0.1:1/x",
    "rtsps://me:hunter2@127.0.0.1:1/x",
    "RTSP://me:hunter2@127.0.0.1:1/x",
    "rtsp://me:hunter2%21@127.0.0.1:1/x",
    "rtsp://me:pa@hunter2@127.0.0.1:1/x",
    "rtsp://me:a hunter2@127.0.0.1:1/x",
    "rtsp://me:hunter2 b@127.0.0.1:1/x",
    "rtsp://me:a/hunter2@127.0.0.1:1/x",
    "rtsp://me:a?hunter2@127.0.0.1:1/x",
    "rtsp://me:a#hunter2@127.0.0.1:1/x",
    "rtsp://me:12/hunter2@127.0.0.1:1/x",
    "rtsp://me:a@b/hunter2@127.0.0.1:1/x",
    "rtsp://:hunter2@127.0.0.1:1/x",
    "rtsp://me:hunter2@[::1]:1/x",
    "rtsp://me:hunter2@/x",
    "rtsp://me:hunter2@127.0.0.1:99999/x",
    "rtsp:/me:hunter2@127.0.0.1:1/x",
    "rtsp:me:hunter2@127.0.0.1:1/x",
    "rtsp ://me:hunter2@127.0.0.1:1/x",
    "me:hunter2@127.0.0.1/x",
    "me:a/hunter2@127.0.0.1/x",
    "http://me:hunter2@127.0.0.1:1/x",
    "rtmp://me:hunter2@127.0.0.1:1/x",
    "rtsp://127.0.0.1:1/x?password=hunter2",
    "rtsp://127.0.0.1:1/x?user=me&pass=hunter2",
    "rtsp://127.0.0.1:1/x?pwd=hunter2&channel=1",
    "rtsp://127.0.0.1:1/x?auth=hunter2",
    "rtsp://127.0.0.1:1/x?token=hunter2",
    "rtsp://127.0.0.1:1/x?loginuse=me&loginpas=hunter2",
    "rtsp://127.0.0.1:1/x?key=hunter2&subtype=0",
    "rtsp://127.0.0.1:1/x?hunter2hunter2",
    "rtsp://127.0.0.1:1/user=me_password=hunter2_channel=1",
    "rtsp://me:hunter2@127.0.0.1:1/x?token=hunter2",
    "gst:rtspsrc location=rtsp://me:hunter2@127.0.0.1:1/x ! appsink",
    "gst:rtspsrc location=rtsp://127.0.0.1:1/x user-id=me user-pw=hunter2 ! appsink",
    "gst:rtspsrc location=rtsp://127.0.0.1:1/x user-pw = \\\"a hunter2\\\" ! appsink",
    "gst:souphttpsrc location=http://127.0.0.1:1/x?token=hunter2 ! appsink",
    "gst:rtspsrc location=rtsp://127.0.0.1:1/x proxy-pw='hunter2' ! nonsense ! appsink",
    "ftp://me:hunter2@127.0.0.1/x",
    "rtsps://me:hunter2@host with blanks/x",
    "rtsp//me:hunter2@127.0.0.1:1/x",
    "rtsp://me:hunter2",
    "rtsp://me%3Ahunter2@127.0.0.1:1/x",
    "rtsp://127.0.0.1:1/x?user=me&hunter2",
    "v4l2:///dev/video99?password=hunter2",
    "127.0.0.1/x?password=hunter2",
];

fn assert_silent(form: &str, what: &str, said: &str) {
    assert!(!said.to_lowercase().contains(SECRET), "{what} tells the secret of {form:?}: {said}");
}

#[test]
fn all_forms_of_an_address_are_told_by_no_command_and_no_file() {
    let bench = Bench::new();
    let health = bench.path("health.json");
    let state = bench.path("state");
    for form in FORMS {
        let config = bench.write_config(&format!(
            "[engine]\nkind = \"onnxruntime\"\nthreads = 1\n[publish]\njson = \"lines.jsonl\"\nhealth = \"health.json\"\n\
             [source]\nuri = \"{form}\"\nwait_at_start = false\n[[lines]]\nto = \"events.jsonl\"\nevents = true\n"
        ));
        let config = config.to_str().unwrap();
        let commands: [&[&str]; 7] = [
            &["config", "--config", config],
            &["config", "--config", config, "--json"],
            &["check", config],
            &["check", config, "--json"],
            &["doctor", "--config", config],
            &["doctor", "--config", config, "--json"],
            &["run", "--config", config],
        ];
        for arguments in commands {
            let mut command = wordsight(arguments);
            command.env("WORDSIGHT_BOARD_ROOT", bench.path("no board"));
            command.env("RUST_LOG", "trace").env("STATE_DIRECTORY", &state).env_remove("NOTIFY_SOCKET");
            let outcome = Outcome::of(command.output().unwrap());
            assert_silent(form, arguments[0], &outcome.stdout);
            assert_silent(form, arguments[0], &outcome.stderr);
        }
        for file in ["health.json", "lines.jsonl", "events.jsonl"] {
            let path = bench.path(file);
            assert_silent(form, file, &std::fs::read_to_string(&path).unwrap_or_default());
            drop(std::fs::remove_file(path));
        }
        assert!(!health.exists());
    }
}

#[test]
fn mistakes_in_the_file_show_the_line_without_the_secret() {
    let bench = Bench::new();
    for text in [
        "[source]\nuri = \"rtsp://me:hunter2@camera/x\nfps = 5\n",
        "[source]\nuri = rtsp://me:hunter2@camera/x\n",
        "[source]\nuri = \"rtsp://me:hunter2@camera/x\" fps = 5\n",
        "[source]\nurl = \"rtsp://me:hunter2@camera/x\"\n",
        "[source]\nuri = [\"rtsp://me:hunter2@camera/x\"]\n",
        "[source]\nuri: rtsp://me:hunter2@camera/x\n",
        "[source]\nuri = \"\"\"\nrtsp://me:\nhunter2@camera/x\"\"\"\nuri = 3\n",
        "[source]\nfps = \"rtsp://me:hunter2@camera/x\"\n",
        "[source]\npacing = \"rtsp://me:hunter2@camera/x\"\n",
        "[source]\npassword = \"hunter2\"\n",
        "[[webhook]]\nurl = \"https://me:hunter2@example.com/\"\n",
        "[[webhook]]\nurl = \"https://example.com/\"\ntoken = \"hunter2\"\n",
        "[[video]]\nto = \"me:hunter2@camera/x\"\n",
        "[[mqtt]]\nurl = \"mqtt://me:hunter2@broker\"\n",
        "[[mqtt]]\nurl = \"mqtt://broker\"\npassword = \"hunter2\"\n",
    ] {
        let config = bench.write_config(text);
        for arguments in
            [["check", config.to_str().unwrap()].as_slice(), &["run", "--config", config.to_str().unwrap()]]
        {
            let outcome = Outcome::of(wordsight(arguments).output().unwrap());
            assert_ne!(outcome.code, Some(0), "{text}");
            assert_silent(text, arguments[0], &format!("{}{}", outcome.stdout, outcome.stderr));
        }
    }
}

#[test]
fn the_configuration_is_printed_without_the_secrets_of_its_outputs() {
    let bench = Bench::new();
    let config = bench.write_config(
        "[[webhook]]\nurl = \"https://hooks.example.com/services/T0/hunter2\"\n[[webhook]]\n\
         url = \"https://example.com?key=hunter2\"\n[[video]]\nto = \"rtsp://me:hunter2@server/x\"\n",
    );
    for more in [&[][..], &["--json"]] {
        let arguments = [&["config", "--config", config.to_str().unwrap()][..], more].concat();
        let outcome = Outcome::of(wordsight(&arguments).output().unwrap());
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert_silent("outputs", "config", &outcome.stdout);
        assert!(outcome.stdout.contains("https://hooks.example.com/***"), "{outcome:?}");
    }
}

/// What is answered to a request.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // Events are a stream without an end: so much of it as comes at once.
    let patience = if path == "/api/events" { std::time::Duration::from_millis(500) } else { PATIENCE };
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        answer.extend_from_slice(&bytes[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn pages_metrics_log_and_health_of_a_service_show_no_secret_also_after_a_bad_reload() {
    if cfg!(not(feature = "gstreamer")) {
        return skip("secrets of a network camera", "GStreamer is not there", "run `make camera-deps`");
    }
    let bench = Bench::new();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = |uri: &str| {
        format!(
            "[engine]\nkind = \"onnxruntime\"\nthreads = 1\n[publish]\njson = \"\"\nhealth = \"health.json\"\n\
             [http]\nlisten = \"{address}\"\n[source]\nwait_at_start = true\n{uri}"
        )
    };
    let source = "uri = \"rtsp://me:hunter2@127.0.0.1:1/x?token=hunter2\"\n";
    let config = bench.write_config(&text(source));
    let mut command = wordsight(&["run", "--config", config.to_str().unwrap()]);
    command.env("RUST_LOG", "debug").env("STATE_DIRECTORY", bench.path("state")).env_remove("NOTIFY_SOCKET");
    command.stdout(Stdio::null());
    let mut running = Process::start(command, &bench.path(""));
    let listens = || {
        assert!(running.ended().is_none(), "{}", running.stderr());
        TcpStream::connect(address).is_ok()
    };
    until_so(listens, || "it never listens".to_owned());
    let ask_all = || {
        ["/", "/api/status", "/healthz", "/metrics", "/api/events", "/api/board", "/nothing"]
            .map(|path| get(address, path))
            .concat()
    };
    assert_silent(source, "a page", &ask_all());
    running.health_when(|health| {
        health["source"].as_str().is_some_and(|source| source.starts_with("rtsp://me:***@"))
    });
    let mode = bench.path("health.json").metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o640, "the health file is not for everybody");
    for wrong in ["uri = \"rtsp://me:hunter2@127.0.0.1:1/x\n", "uri = \"rtsp:/me:hunter2@127.0.0.1:1/x\"\n"] {
        let before = running.health()["reload"]["refused"].as_u64().unwrap();
        bench.write_config(&text(wrong));
        running.signal(libc::SIGHUP);
        let health = running.health_when(|health| health["reload"]["refused"].as_u64() > Some(before));
        assert!(health["reload"]["last_error"].is_string(), "{health}");
        assert_silent(wrong, "the health file", &health.to_string());
        assert_silent(wrong, "a page", &ask_all());
    }
    assert_silent(source, "the log", &running.stderr());
}
