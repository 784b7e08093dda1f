//! A stream that serves HTTP: the real `wordsight run` with `[http]`, asked over plain sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::teacher::write_text_teacher;
use super::{Bench, PATIENCE, Process, RED, free_port, until_so, words_of, wordsight, write_vocabulary};

pub const TOKEN: &str = "0123456789abcdef0123";

/// A stream that runs and serves, with its lines in a file.
pub struct Running {
    pub process: Process,
    pub address: SocketAddr,
    folder: PathBuf,
    pub token: Option<&'static str>,
}

/// An address that nobody listens on.
pub fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// The bench's configuration: red frames without end, words in a folder that may be switched among, `http` under [http].
pub fn configure(bench: &Bench, address: SocketAddr, http: &str) -> PathBuf {
    bench.write_config(&format!(
        "name = \"the hall\"\n[publish]\njson = \"lines.jsonl\"\n[engine]\nthreads = 1\n[source]\n\
         uri = \"test://ff0000?width=64&height=64\"\npacing = \"camera\"\nfps = 50\n\
         [http]\nlisten = \"{address}\"\nvocabularies = \"vocabularies\"\n{http}"
    ))
}

/// The same with a teacher, so that words can be asked for.
pub fn configure_with_teacher(bench: &Bench, address: SocketAddr) -> PathBuf {
    write_text_teacher(&bench.path("teacher"));
    let configuration = configure(bench, address, "");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, format!("teacher = \"teacher\"\n{text}")).unwrap();
    configuration
}

pub fn start(bench: &Bench, http: &str) -> Running {
    let address = free_address();
    let configuration = configure(bench, address, http);
    start_configured(bench, &configuration, address, &[])
}

pub fn start_configured(bench: &Bench, configuration: &Path, address: SocketAddr, flags: &[&str]) -> Running {
    fs::create_dir_all(bench.path("vocabularies")).unwrap();
    write_vocabulary(&bench.path("vocabularies/roses.safetensors"), &[("rose", RED)]);
    let mut command = wordsight(&["run", "--config", configuration.to_str().unwrap()]);
    command.args(flags).stdout(Stdio::null()).env_remove("STATE_DIRECTORY");
    command.env("XDG_STATE_HOME", bench.path("state"));
    Running::start(command, bench, address)
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn of(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has headers");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The sentence of an error with this status.
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        json["error"].as_str().unwrap().to_owned()
    }
}

impl Running {
    /// Returns when it listens.
    pub fn start(command: Command, bench: &Bench, address: SocketAddr) -> Self {
        let folder = bench.path("");
        let mut running = Self { process: Process::start(command, &folder), address, folder, token: None };
        let listens = || {
            let ended = running.process.ended();
            assert!(ended.is_none(), "{ended:?}: {}", running.process.stderr());
            TcpStream::connect(address).is_ok()
        };
        until_so(listens, || "it never listens".to_owned());
        running
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes and reads until the other side closes.
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        // It may be refused before all of it is sent.
        drop(stream.write_all(bytes.as_ref()));
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        Answer::of(&bytes)
    }

    pub fn head(&self, method: &str, path: &str, headers: &str) -> String {
        let token = self.token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let host =
            if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.address) };
        format!("{method} {path} HTTP/1.1\r\n{host}{token}{headers}")
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = self.head(method, path, headers);
        self.raw(format!("{head}{length}Connection: close\r\n\r\n{body}"))
    }

    /// Sends a photograph, or what is none.
    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        let head =
            self.head("POST", path, &format!("Content-Length: {}\r\nConnection: close\r\n", body.len()));
        self.raw([head.as_bytes(), b"\r\n", body].concat())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.ask("PUT", path, "Content-Type: application/json\r\n", &body.to_string())
    }

    /// Asks for something that has no end, and leaves the connection open behind the headers.
    pub fn open(&self, path: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(format!("{}\r\n", self.head("GET", path, "")).as_bytes()).unwrap();
        stream
    }

    /// The best word of each of the newest lines, once something else than before is in them.
    pub fn newest_words(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("lines.jsonl")).unwrap();
        let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok()).take(5);
        lines.map(|line| words_of(&line).first().unwrap_or(&"nothing").to_string()).collect()
    }

    pub fn await_word(&self, word: &str) {
        let is_it =
            || self.newest_words().iter().all(|newest| newest == word) && !self.newest_words().is_empty();
        until_so(is_it, || format!("no {word}, but {:?}; {}", self.newest_words(), self.stderr()));
    }

    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// The value of one series of the metrics.
    pub fn metric(&self, series: &str) -> f64 {
        let answer = self.get("/metrics");
        let line = answer.text().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {}", answer.text())).parse().unwrap()
    }
}
