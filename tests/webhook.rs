//! The output to a web server, against a test server that fails in every way that a server can.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use support::*;

const SECRET: &str = "it is a secret";

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Takes,
    Answers(u16),
    /// Asks to be asked again in so many seconds.
    Busy(u64),
    /// Takes it, and dies before it says so.
    Dies,
    Hangs,
}

#[derive(Debug, Clone)]
struct Request {
    headers: HashMap<String, String>,
    body: Vec<u8>,
    manner: Manner,
    at: Instant,
}

impl Request {
    fn key(&self) -> &str {
        &self.headers["idempotency-key"]
    }

    fn ids(&self) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["stream"], "front door");
        let events = body["events"].as_array().unwrap();
        events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The signature is of this body, with the secret, and new.
    fn assert_signed(&self) {
        let signature = &self.headers["wordsight-signature"];
        let (time, mac) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        let mut expected = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        expected.update(time.as_bytes());
        expected.update(b".");
        expected.update(&self.body);
        assert_eq!(mac, hex::encode(expected.finalize().into_bytes()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(time.parse().unwrap()) < 300, "{time}");
    }
}

/// The server.
struct Server {
    port: u16,
    manner: Arc<Mutex<Manner>>,
    requests: Arc<Mutex<Vec<Request>>>,
    is_up: Arc<AtomicBool>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

impl Server {
    fn new(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let port = free_port();
        let manner = Arc::new(Mutex::new(Manner::Takes));
        let server = Self { port, manner, requests: Arc::default(), is_up: Arc::default(), tls };
        server.go_up();
        server
    }

    fn go_up(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.is_up.store(true, Ordering::Relaxed);
        let (is_up, manner, requests) =
            (Arc::clone(&self.is_up), Arc::clone(&self.manner), Arc::clone(&self.requests));
        let tls = self.tls.clone();
        thread::spawn(move || {
            while is_up.load(Ordering::Relaxed) {
                let Ok((socket, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                socket.set_nonblocking(false).unwrap();
                // One after the other but for those that hang: requests come one at a time.
                let (manner, requests, tls) = (Arc::clone(&manner), Arc::clone(&requests), tls.clone());
                thread::spawn(move || match tls {
                    None => serve(&mut { socket }, &manner, &requests),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls).unwrap();
                        serve(&mut rustls::StreamOwned::new(session, socket), &manner, &requests)
                    }
                });
            }
        });
    }

    fn go_down(&self) {
        self.is_up.store(false, Ordering::Relaxed);
        until_so(|| TcpStream::connect(("127.0.0.1", self.port)).is_err(), || "it stays up".to_owned());
    }

    fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until there are so many more requests of a kind.
    fn await_more(&self, manner: Manner, more: usize, running: &Process) {
        let count = || self.requests().iter().filter(|request| request.manner == manner).count();
        let before = count();
        until_so(|| count() >= before + more, || format!("no {manner:?} request: {}", running.stderr()));
    }
}

/// Reads one request and does with it as is the manner.
fn serve(wire: &mut dyn Wire, manner: &Mutex<Manner>, requests: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(wire);
    let mut first = String::new();
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    assert!(first.starts_with("POST /hook?key=hidden HTTP/1.1"), "{first}");
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let manner = *manner.lock().unwrap();
    requests.lock().unwrap().push(Request { headers, body, manner, at: Instant::now() });
    let answer = match manner {
        Manner::Takes => "204 No Content\r\n".to_owned(),
        Manner::Answers(status) => format!("{status} So\r\nLocation: http://127.0.0.1:1/\r\n"),
        Manner::Busy(seconds) => format!("429 Too Many Requests\r\nRetry-After: {seconds}\r\n"),
        Manner::Dies => return,
        Manner::Hangs => return thread::sleep(Duration::from_secs(20)),
    };
    let wire = reader.into_inner();
    drop(write!(wire, "HTTP/1.1 {answer}Content-Length: 0\r\nConnection: close\r\n\r\n"));
    drop(wire.flush());
}

/// The stream, with this server as an output.
fn start(bench: &Bench, server: &Server, more: &str) -> Process {
    bench.write("secret", format!("{SECRET}\n"));
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    bench.start_comings_and_goings(&format!(
        "[[webhook]]\nurl = \"{scheme}://localhost:{}/hook?key=hidden\"\nsecret_file = \"secret\"\nspool = \"spool\"\n\
         batch_s = 0.1\ntimeout_s = 0.5\n{more}",
        server.port
    ))
}

/// The same once more, after it has ended.
fn start_again(bench: &Bench) -> Process {
    bench.start(&bench.path("wordsight.toml"))
}

/// The names of the batches that wait in the spool.
fn waiting(bench: &Bench) -> Vec<String> {
    files(&bench.path("spool")).into_iter().filter(|name| name.ends_with(".json")).collect()
}

/// All batches that wait.
fn spooled_text(bench: &Bench) -> String {
    let read = |name: &String| fs::read_to_string(bench.path("spool").join(name)).unwrap_or_default();
    waiting(bench).iter().map(read).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a reader makes of requests: each batch once, by its key, and the events in order. And how many came again.
fn read(requests: &[Request]) -> (Vec<String>, usize) {
    let mut bodies: HashMap<&str, &[u8]> = HashMap::new();
    let (mut ids, mut again) = (Vec::new(), 0);
    for request in requests.iter().filter(|request| matches!(request.manner, Manner::Takes | Manner::Dies)) {
        match bodies.insert(request.key(), &request.body) {
            None => ids.extend(request.ids()),
            Some(before) => {
                assert_eq!(before, request.body, "one key, one batch");
                again += 1;
            }
        }
    }
    (ids, again)
}

#[test]
fn every_event_arrives_in_order_whatever_the_server_does_and_though_we_are_killed() {
    let bench = Bench::new();
    let server = Server::new(None);
    let mut running = start(&bench, &server, "");
    server.await_more(Manner::Takes, 3, &running);
    for manner in [Manner::Answers(500), Manner::Dies, Manner::Hangs, Manner::Answers(307)] {
        server.set(manner);
        server.await_more(manner, 2, &running);
        server.set(Manner::Takes);
        server.await_more(Manner::Takes, 2, &running);
    }
    running.await_said("the server doesn't answer within 500ms");
    running.await_said("works again");
    server.go_down();
    running.await_events(20);
    // As by a power cut, with what has happened in the last moment not yet gathered; what was before that is in the spool.
    until_so(
        || running.event_ids().last().is_some_and(|id| spooled_text(&bench).contains(id)),
        || format!("the spool has not the newest event: {}", running.stderr()),
    );
    running.kill();
    let first = running.event_ids();
    let spooled = waiting(&bench).len();
    assert!(spooled >= 4, "{spooled} batches");
    let running = start_again(&bench);
    running.await_said(&format!("{spooled} batches of events wait in"));
    running.await_said("nobody listens at the server");
    running.await_events(6);
    server.go_up();
    let second = running.event_ids();
    let last = second.last().unwrap();
    until_so(|| read(&server.requests()).0.contains(last), || running.stderr());

    let requests = server.requests();
    requests.iter().for_each(Request::assert_signed);
    let (ids, again) = read(&requests);
    let (from_first, from_second): (Vec<_>, Vec<_>) = ids.iter().partition(|id| first.contains(id));
    let lost = first.len() - from_first.len();
    println!(
        "requests: {}, events: {}, batches in the spool when killed: {spooled}, events lost with the memory of the killed: \
         {lost}, batches that came again with their key: {again}",
        requests.len(),
        ids.len()
    );
    assert!(from_first.iter().copied().eq(&first[..first.len() - lost]), "in order and without a gap");
    // What happens within the 0.1 s of a batch, and while it is written.
    assert!(lost <= 6, "{lost}");
    let length = second.len().min(from_second.len());
    assert_eq!(from_second[..length].iter().copied().cloned().collect::<Vec<_>>(), second[..length]);
    assert!(again >= 1, "a batch that was taken and not acknowledged comes again");
    let request = requests.last().unwrap();
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["user-agent"], format!("wordsight/{}", env!("CARGO_PKG_VERSION")));
    let said = running.stderr();
    assert!(!said.contains("hidden") && !said.contains(SECRET), "{said}");
}

#[test]
fn a_batch_that_is_refused_is_set_aside_and_the_next_is_sent() {
    let bench = Bench::new();
    let server = Server::new(None);
    server.set(Manner::Answers(410));
    let running = start(&bench, &server, "");
    running.await_said("the server answers 410 Gone; such batches are set aside in");
    server.await_more(Manner::Answers(410), 2, &running);
    server.set(Manner::Takes);
    server.await_more(Manner::Takes, 2, &running);
    running.await_said("works again");
    let refused = files(&bench.path("spool/refused"));
    let requests = server.requests();
    let mut keys: Vec<String> = requests
        .iter()
        .filter(|request| request.manner == Manner::Answers(410))
        .map(|request| format!("{}.json", request.key()))
        .collect();
    keys.sort();
    assert_eq!(refused, keys, "each once");
    let health: Value = serde_json::from_slice(&fs::read(bench.path("health.json")).unwrap()).unwrap();
    assert!(health["published"].as_u64().unwrap() > 0);
}

#[test]
fn a_server_that_is_busy_is_asked_again_when_it_said() {
    let bench = Bench::new();
    let server = Server::new(None);
    server.set(Manner::Busy(3));
    let running = start(&bench, &server, "");
    in_one_of_some_tries(|| {
        server.await_more(Manner::Busy(3), 2, &running);
        let requests = server.requests();
        let [first, second] = requests.last_chunk().unwrap();
        assert_eq!(first.key(), second.key());
        let wait = second.at - first.at;
        assert!(wait >= Duration::from_millis(2_900), "{wait:?}");
        within(Duration::from_secs(8), wait)
    });
}

#[test]
fn what_waits_at_the_end_is_sent_or_stays_and_a_server_that_hangs_holds_nobody_up() {
    let bench = Bench::new();
    let server = Server::new(None);
    let mut running = start(&bench, &server, "");
    server.await_more(Manner::Takes, 2, &running);
    running.terminate();
    assert_eq!(waiting(&bench), Vec::<String>::new());
    let (ids, _) = read(&server.requests());
    assert_eq!(ids, running.event_ids());
    let text = fs::read_to_string(bench.path("wordsight.toml")).unwrap();
    bench.write("wordsight.toml", text.replace("timeout_s = 0.5", "timeout_s = 30"));
    server.set(Manner::Hangs);
    in_one_of_some_tries(|| {
        let mut running = start_again(&bench);
        server.await_more(Manner::Hangs, 1, &running);
        let took = running.terminate();
        assert!(!waiting(&bench).is_empty());
        within(Duration::from_secs(4), took)
    });
}

#[test]
fn garbage_in_the_spool_is_set_aside_and_said_and_a_full_spool_loses_its_oldest() {
    let bench = Bench::new();
    let server = Server::new(None);
    server.go_down();
    bench.write("spool/000000000007-ab.json", "{\"stream\":\"front door\",\"events\":[{\"id\":\"torn");
    bench.write("spool/000000000008-ab.json", vec![0; 512]);
    for number in [3, 4] {
        let body = format!(
            "{{\"stream\":\"front door\",\"pad\":\"{}\",\"events\":[{{\"id\":\"old-{number}\"}}]}}",
            "x".repeat(520_000)
        );
        bench.write(&format!("spool/00000000000{number}-ab.json"), body);
    }
    let running = start(&bench, &server, "spool_mib = 1\n");
    running.await_said("000000000007-ab.json is no batch of events and is set aside");
    running.await_said("000000000008-ab.json is no batch of events and is set aside");
    assert_eq!(files(&bench.path("spool/garbage")), ["000000000007-ab.json", "000000000008-ab.json"]);
    running.await_events(6);
    running.await_said("is full: 1 events are lost, the oldest");
    server.go_up();
    let last = running.event_ids().last().unwrap().clone();
    until_so(|| read(&server.requests()).0.contains(&last), || running.stderr());
    let (ids, _) = read(&server.requests());
    assert_eq!(ids[0], "old-4");
    assert_eq!(ids[1], running.event_ids()[0]);
}

#[test]
fn events_wait_in_memory_while_the_disk_takes_nothing() {
    let bench = Bench::new();
    let server = Server::new(None);
    let running = start(&bench, &server, "");
    server.await_more(Manner::Takes, 2, &running);
    // A disk that is full is as hard to come by as a folder that is gone.
    fs::rename(bench.path("spool"), bench.path("elsewhere")).unwrap();
    running.await_said("cannot write into the spool");
    running.await_events(6);
    fs::rename(bench.path("elsewhere"), bench.path("spool")).unwrap();
    let last = running.event_ids().last().unwrap().clone();
    until_so(|| read(&server.requests()).0.contains(&last), || running.stderr());
    let (ids, _) = read(&server.requests());
    assert_eq!(ids, running.event_ids()[..ids.len()]);
    running.await_said("works again");
}

#[test]
fn only_events_that_are_wanted_are_sent() {
    let bench = Bench::new();
    let server = Server::new(None);
    let running = start(&bench, &server, "words = [\"blue\"]\n");
    server.await_more(Manner::Takes, 3, &running);
    for request in server.requests() {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert!(body["events"].as_array().unwrap().iter().all(|event| event["word"] == "blue"), "{body}");
    }
}

#[test]
fn tls_is_spoken_with_a_server_whose_authority_is_known_and_with_no_other() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    if !has_openssl("TLS with a web server") {
        return;
    }
    let bench = Bench::new();
    certificates(&bench, "own");
    certificates(&bench, "other");
    let chain = CertificateDer::pem_file_iter(bench.path("own.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(bench.path("own.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let server = Server::new(Some(Arc::new(tls)));
    let running = start(&bench, &server, "ca_file = \"other-ca.pem\"\n");
    running.await_said("no TLS with the server");
    running.await_said("`ca_file`");
    assert!(server.requests().is_empty());
    drop(running);
    let running = start(&bench, &server, "ca_file = \"own-ca.pem\"\n");
    server.await_more(Manner::Takes, 1, &running);
}

const PAGE: &str = include_str!("../docs/outputs.md");

fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    PAGE.split(&fence).skip(1).map(|text| text.split("```").next().unwrap()).collect()
}

#[test]
fn every_configuration_of_the_page_about_outputs_is_one() {
    let bench = Bench::new();
    bench.write("clip.mjpeg", comings_and_goings());
    write_vocabulary(&bench.path("words.safetensors"), &[("person", RED), ("car", BLUE)]);
    assert_eq!(blocks("toml").len(), 4);
    for block in blocks("toml") {
        let file = bench.write_config(&format!("{block}[source]\nuri = \"clip.mjpeg\"\n"));
        let outcome = Outcome::of(wordsight(&["check", file.to_str().unwrap()]).output().unwrap());
        // The page's secrets and certificates are nobody's.
        let wrong: Vec<&str> = outcome.stdout.lines().filter(|line| line.starts_with("WRONG")).collect();
        let is_missing = |line: &&str| line.contains("/etc/wordsight/") && line.contains("No such file");
        assert!(wrong.iter().all(is_missing), "{block}: {outcome:?}");
        let told =
            ["broker", "example.com", "results.sock"].iter().any(|place| outcome.stdout.contains(place));
        assert!(told, "{outcome:?}");
    }
}

#[test]
fn the_pages_python_knows_our_signature_from_others_and_its_event_has_the_keys_of_a_real_one() {
    let bench = Bench::new();
    let server = Server::new(None);
    let running = start(&bench, &server, "");
    server.await_more(Manner::Takes, 1, &running);
    let request = server.requests()[0].clone();
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let keys = |event: &Value| event.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json_lines(blocks("json")[0])[0]), keys(&body["events"][0]));
    bench.write("body", &request.body);
    let program = format!(
        "{}\nimport sys\nbody = open('body', 'rb').read()\nsecret, header = sys.argv[1].encode(), sys.argv[2]\n\
         print(is_genuine(secret, header, body), is_genuine(b'other', header, body), is_genuine(secret, header, body + b' '))\n",
        blocks("python")[0]
    );
    bench.write("verify.py", program);
    let mut python = Command::new("python3");
    python.current_dir(bench.path("")).args(["verify.py", SECRET, &request.headers["wordsight-signature"]]);
    let Ok(told) = python.output() else {
        return skip(
            "the signature as the page's Python checks it",
            "python3 is not installed",
            "Debian: python3",
        );
    };
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "True False False", "{told:?}");
}
