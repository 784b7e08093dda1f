//! A server that is sent arbitrary bytes: for tests, and for a fuzzer.
//!
//! Takes bytes as they would come over a connection, and gives those of the answers. There is no socket; the code that
//! parses, checks and answers is the same.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use wordsight_teacher::words::ListedWords;

use super::device::Device;
use super::photographs::{DetectError, DetectPhotograph, Photograph, Thing};
use super::routes;
use super::security::Guard;
use super::served_stream::{ServedCameras, ServedStream};
use super::settings::HttpSettings;
use super::state::SharedState;
use crate::publish::Record;
use crate::requests::ShownExamples;

/// How long a fuzzer listens to answers, some of which have no end.
const FUZZED_FOR: Duration = Duration::from_millis(20);

/// A stream that isn't there.
pub fn served_stream() -> ServedStream {
    ServedStream {
        live: Default::default(),
        health: Default::default(),
        counters: Arc::default(),
        control: Arc::default(),
        requests: Default::default(),
        photographs: Arc::new(NoStudent),
        camera: None,
    }
}

/// What looks at photographs where there is no student.
struct NoStudent;

impl DetectPhotograph for NoStudent {
    fn detect(&self, _: Photograph, _: Option<&ListedWords>) -> Result<Record, DetectError> {
        Err(DetectError::Unavailable("there is no student".to_owned()))
    }

    fn example(&self, _: Photograph, _: Thing) -> Result<ShownExamples, DetectError> {
        Err(DetectError::Unavailable("there is no student".to_owned()))
    }
}

/// What comes back for these bytes, of a connection that is closed behind them.
///
/// # Panics
/// When what answers does: that is what a fuzzer looks for.
pub fn answers(bytes: &[u8], longest: Duration) -> Vec<u8> {
    let settings = HttpSettings {
        listen: ([127, 0, 0, 1], 8620).into(),
        token_file: None,
        vocabularies: Some(std::env::temp_dir().join("wordsight-no-vocabularies")),
        picture_fps: 10.0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let answers = runtime.block_on(async {
        let (stop, stopped) = watch::channel(());
        let guard = Guard::new(&settings).unwrap();
        // A board that tells nothing: its files are looked for where none are.
        let shared = SharedState::new(&settings, guard, Path::new("/proc/self/fdinfo"), stopped);
        // Nobody is there to grant any, and a thread would wait for that.
        shared.seats.changes.close();
        let device = Device::new(ServedCameras::single(served_stream()), shared, routes::router);
        let router = routes::of_device(Arc::new(device));
        let router = TowerToHyperService::new(router);
        let service =
            service_fn(move |request: hyper::Request<Incoming>| router.call(request.map(Body::new)));
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let connection =
            tokio::spawn(http1::Builder::new().half_close(true).serve_connection(TokioIo::new(far), service));
        let mut answers = Vec::new();
        let talk = async {
            let mut bytes = bytes;
            drop(near.write_all_buf(&mut bytes).await);
            drop(near.shutdown().await);
            drop(near.read_to_end(&mut answers).await);
        };
        // A stream that nothing comes of has no end.
        drop(tokio::time::timeout(longest, talk).await);
        drop(stop);
        drop(near);
        let ended = tokio::time::timeout(longest, connection).await;
        assert!(!matches!(ended, Ok(Err(error)) if error.is_panic()), "what answers has panicked");
        answers
    });
    runtime.shutdown_background();
    answers
}

/// Feeds bytes to the server, and demands of what comes back that every error is one in JSON with a reason.
pub fn fuzz(bytes: &[u8]) {
    let answers = answers(bytes, FUZZED_FOR);
    let text = String::from_utf8_lossy(&answers);
    let is_error = ["HTTP/1.1 4", "HTTP/1.1 5", "HTTP/1.0 4"].iter().any(|start| text.starts_with(start));
    // What isn't HTTP at all is answered by hyper, without a body, and so is a HEAD.
    let has_body = !bytes.trim_ascii_start().starts_with(b"HEAD");
    if is_error && has_body && text.contains("content-type: application/json") {
        assert!(text.contains("{\"error\":\"") || text.contains("\"reasons\":"), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &str) -> String {
        // A busy machine is no wrong answer.
        String::from_utf8_lossy(&answers(request.as_bytes(), Duration::from_secs(5))).into_owned()
    }

    #[test]
    fn whatever_comes_is_answered_and_nothing_panics() {
        let put = |path: &str, body: &str| {
            format!(
                "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let post = |query: &str, body: &str| {
            let length = body.len();
            format!(
                "POST /api/detect{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        };
        let cases = [
            ("GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "200"),
            ("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "200"),
            ("GET /api/detections HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "503"),
            ("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "404"),
            ("PUT /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "405"),
            ("PUT /api/threshold HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "415"),
            ("DELETE /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "405"),
            ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), "403"),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n".to_owned(), "400"),
            ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "403"),
            ("GET /api/words?offset=4294967295&limit=0 HTTP/1.1\r\nHost: [::1]:1\r\n\r\n".to_owned(), "200"),
            ("GET /api/words?offset=-1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "400"),
            ("NONSENSE\r\n\r\n".to_owned(), "400"),
            ("HEAD /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "404"),
            (put("/api/threshold", "{\"score\": 0.5}"), "503"),
            (put("/api/threshold", "{\"score\": 2}"), "422"),
            (put("/api/threshold", "{\"score\": \"x\"}"), "422"),
            (put("/api/threshold", "{\"score\": 0.5, \"more\": 1}"), "422"),
            (put("/api/threshold", "{"), "400"),
            (put("/api/vocabulary", "{\"name\": \"../words\"}"), "422"),
            (put("/api/vocabulary", "{\"name\": \"a\\u0000\"}"), "422"),
            (put("/api/vocabulary", &"x".repeat(70_000)), "413"),
            (put("/api/words", "{\"words\": [\"cup\", {\"word\": \"mug\", \"threshold\": 0.3}]}"), "503"),
            (put("/api/words", "{\"words\": []}"), "422"),
            (put("/api/words", "{\"words\": [\"cup\", \"CUP\"]}"), "409"),
            (put("/api/words", "{\"words\": [{\"word\": \"cup\", \"more\": 1}]}"), "422"),
            (put("/api/words", "{\"words\": [\"\\u200b\"]}"), "409"),
            (put("/api/words", "{\"words\": [\"\"]}"), "422"),
            (put("/api/words", "{\"words\": [{\"word\": \"cup\", \"threshold\": 2}]}"), "422"),
            (post("", ""), "400"),
            (post("", "GIF89a is a picture too"), "415"),
            (post("", "\u{7f}ELF"), "415"),
            (post("?words=cat,%22red%20cup%22", "RIFF....WEBP"), "503"),
            (post("?words=cat,", "RIFF....WEBP"), "400"),
            (post("?words=cat,%22red", "RIFF....WEBP"), "400"),
            (post("?words=cat,Cat", "RIFF....WEBP"), "409"),
            (post("?word=cat", "RIFF....WEBP"), "400"),
            (post("?words=cat&words=dog", "RIFF....WEBP"), "400"),
            (post("", &"x".repeat(17 << 20)), "413"),
        ];
        for (request, status) in cases {
            let told = answer(&request);
            assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{request:.100}: {told}");
            fuzz(request.as_bytes());
        }
    }

    #[test]
    fn every_answer_says_that_it_is_what_it_says_and_is_not_to_be_kept() {
        for path in ["/", "/api/status", "/nothing"] {
            let told =
                answer(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).to_ascii_lowercase();
            for header in [
                "x-content-type-options: nosniff",
                "referrer-policy: no-referrer",
                "cache-control: no-store",
                "content-security-policy: default-src 'none'",
            ] {
                assert!(told.contains(header), "{path}: {told:.600}");
            }
        }
    }
}
