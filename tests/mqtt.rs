//! The output to an MQTT broker, against a real one: Mosquitto, and its `mosquitto_sub`.
//!
//! The broker is down for 30 seconds in the longest test; `WORDSIGHT_BREAK_S` makes that another number. Where Mosquitto
//! isn't installed, tests are skipped, unless `WORDSIGHT_REQUIRE_REFERENCE=1`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::*;

/// How long anything may take that should happen soon, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether there is a broker to test against; says so where there isn't.
fn has_mosquitto() -> bool {
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
    let found = ["mosquitto", "mosquitto_sub", "mosquitto_pub", "mosquitto_passwd"]
        .iter()
        .all(|program| std::env::split_paths(&path).any(|folder| folder.join(program).exists()));
    if !found {
        assert!(
            std::env::var("WORDSIGHT_REQUIRE_REFERENCE").as_deref() != Ok("1"),
            "Mosquitto is required and not installed: apt-get install mosquitto mosquitto-clients"
        );
        eprintln!("SKIPPED: Mosquitto is not installed (Debian: mosquitto, mosquitto-clients)");
    }
    found
}

fn program(name: &str) -> Command {
    let at = ["/usr/sbin", "/usr/local/sbin"].map(|folder| Path::new(folder).join(name));
    Command::new(at.into_iter().find(|path| path.exists()).unwrap_or_else(|| name.into()))
}

/// Waits until something is there.
fn until<T>(mut look: impl FnMut() -> Option<T>, or_else: impl Fn() -> String) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{}", or_else());
        thread::sleep(Duration::from_millis(20));
    }
}

/// A broker of the test's own, on a port of this machine's.
struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    /// Starts it in a folder, with `more` in its configuration.
    fn start(bench: &Bench, port: u16, more: &str) -> Self {
        // It keeps nothing: what a broker forgets must be told again.
        let configuration = format!("user root\npersistence false\nlistener {port} 127.0.0.1\n{more}\n");
        let path = bench.write("mosquitto.conf", configuration);
        let log = fs::File::create(bench.path("mosquitto.log")).unwrap();
        let mut command = program("mosquitto");
        command.arg("-c").arg(path).stdout(log.try_clone().unwrap()).stderr(log);
        let mut broker = Self { child: command.spawn().unwrap(), port };
        let said = || fs::read_to_string(bench.path("mosquitto.log")).unwrap();
        let listens = || {
            assert!(broker.child.try_wait().unwrap().is_none(), "mosquitto ended: {}", said());
            TcpStream::connect(("127.0.0.1", port)).ok()
        };
        until(listens, said);
        broker
    }

    fn anonymous(bench: &Bench) -> Self {
        Self::start(bench, free_port(), "allow_anonymous true")
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[derive(Debug, Clone)]
struct Heard {
    is_retained: bool,
    topic: String,
    payload: Vec<u8>,
    at: Instant,
}

impl Heard {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// `mosquitto_sub`, which hears everything.
struct Ear {
    child: Child,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Ear {
    /// Returns when it hears.
    fn open(port: u16, more: &[&str]) -> Self {
        let port = port.to_string();
        let base = ["-h", "127.0.0.1", "-p", &port];
        let mut command = Command::new("mosquitto_sub");
        command.args(base).args(["-q", "1", "-t", "#", "-F", "%r\t%t\t%x"]).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (lines, to) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&heard));
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut fields = line.split('\t');
                let is_retained = fields.next() == Some("1");
                let topic = fields.next().unwrap().to_owned();
                let hex = fields.next().unwrap_or_default().as_bytes();
                let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
                let payload = hex.chunks(2).map(byte).collect();
                to.lock().unwrap().push(Heard { is_retained, topic, payload, at: Instant::now() });
            }
        });
        let mut ear = Self { child, heard };
        let knock = || {
            assert!(ear.child.try_wait().unwrap().is_none(), "mosquitto_sub ended");
            let mut command = Command::new("mosquitto_pub");
            command.args(base).args(["-t", "knock", "-m", "knock"]).args(more).status().unwrap();
            thread::sleep(Duration::from_millis(50));
            ear.has("knock", |_| true)
        };
        until(knock, || "mosquitto_sub hears nothing".to_owned());
        ear
    }

    fn all(&self, topic: &str) -> Vec<Heard> {
        self.heard.lock().unwrap().iter().filter(|heard| heard.topic == topic).cloned().collect()
    }

    fn has(&self, topic: &str, is_it: impl Fn(&Heard) -> bool) -> Option<Heard> {
        self.all(topic).into_iter().find(is_it)
    }

    /// Waits for a message.
    fn hear(&self, topic: &str, is_it: impl Fn(&Heard) -> bool) -> Heard {
        until(
            || self.has(topic, &is_it),
            || {
                let heard = self.heard.lock().unwrap();
                let all: Vec<_> = heard.iter().map(|heard| (&heard.topic, heard.payload.len())).collect();
                format!("nothing such on {topic} among {all:?}")
            },
        )
    }

    fn forget(&self) {
        self.heard.lock().unwrap().clear();
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A way to the broker that can be closed, so that who comes first to a new broker is the test's choice.
struct Way {
    port: u16,
    to: u16,
    is_open: Arc<AtomicBool>,
}

impl Way {
    fn to(broker: u16) -> Self {
        let way = Self { port: free_port(), to: broker, is_open: Arc::new(AtomicBool::new(false)) };
        way.open();
        way
    }

    fn open(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.is_open.store(true, Ordering::Relaxed);
        let (is_open, to) = (Arc::clone(&self.is_open), self.to);
        thread::spawn(move || {
            while is_open.load(Ordering::Relaxed) {
                if let Ok((one, _)) = listener.accept() {
                    one.set_nonblocking(false).unwrap();
                    if let Ok(other) = TcpStream::connect(("127.0.0.1", to)) {
                        for (mut from, mut to) in [
                            (one.try_clone().unwrap(), other.try_clone().unwrap()),
                            (other.try_clone().unwrap(), one.try_clone().unwrap()),
                        ] {
                            thread::spawn(move || {
                                drop(std::io::copy(&mut from, &mut to));
                                drop(to.shutdown(Shutdown::Both));
                            });
                        }
                    }
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
    }

    fn close(&self) {
        self.is_open.store(false, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(50));
    }
}

/// `wordsight run`, on a clip in which things come and go all the time.
struct Running {
    child: Child,
    folder: PathBuf,
}

fn start(bench: &Bench, output: &str) -> Running {
    bench.write("clip.mjpeg", comings_and_goings());
    let configuration = bench.write_config(&format!(
        "name = \"front door\"\n[engine]\nkind = \"onnxruntime\"\nthreads = 1\n[publish]\njson = \"\"\nhealth = \"health.json\"\n\
         [source]\nuri = \"clip.mjpeg\"\npacing = \"camera\"\nfps = 25\nloop = true\n\
         [tracking]\nconfirm_after = 2\nforget_after_s = 0.1\n\
         [[lines]]\nto = \"events.jsonl\"\nframes = false\nevents = true\n{output}"
    ));
    run(bench, &configuration)
}

fn run(bench: &Bench, configuration: &Path) -> Running {
    let mut command = wordsight(&["run", "--config", configuration.to_str().unwrap()]);
    command.env("STATE_DIRECTORY", bench.path("state")).env_remove("NOTIFY_SOCKET");
    command.stdout(Stdio::null()).stderr(fs::File::create(bench.path("stderr")).unwrap());
    Running { child: command.spawn().unwrap(), folder: bench.path("") }
}

impl Running {
    fn stderr(&self) -> String {
        fs::read_to_string(self.folder.join("stderr")).unwrap()
    }

    fn await_said(&self, what: &str) {
        until(|| self.stderr().contains(what).then_some(()), || format!("no {what:?} in {}", self.stderr()));
    }

    /// The ids of the events so far, as a file has them, and when each was written down.
    fn ids(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("events.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        json_lines(whole).iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }

    fn published(&self) -> u64 {
        let read = fs::read(self.folder.join("health.json")).unwrap_or_default();
        let health: Value = serde_json::from_slice(&read).unwrap_or_default();
        health["published"].as_u64().unwrap_or(0)
    }

    /// The stream goes on, whatever its outputs do.
    fn assert_goes_on(&self) {
        let before = self.published();
        until(
            || (self.published() > before + 10).then_some(()),
            || format!("no frames come: {}", self.stderr()),
        );
    }

    fn terminate(&mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "{}", self.stderr());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn ids_of(heard: &[Heard]) -> Vec<String> {
    heard.iter().map(|heard| heard.json()["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_happened_while_the_broker_was_away_arrives_once_and_in_order_when_it_is_back() {
    if !has_mosquitto() {
        return;
    }
    let length = std::env::var("WORDSIGHT_BREAK_S").map_or(30.0, |text| text.parse().unwrap());
    let bench = Bench::new();
    let mut broker = Broker::anonymous(&bench);
    let way = Way::to(broker.port);
    let running = start(&bench, &format!("[[mqtt]]\nurl = \"mqtt://127.0.0.1:{}\"\n", way.port));
    let events = "wordsight/front_door/events";
    let ear = Ear::open(broker.port, &[]);
    // Not in the very moment in which one is under way: that it comes twice then is what QoS 1 means.
    let is_quiet = || {
        let all = ear.all(events);
        all.len() >= 4 && (60..150).contains(&all.last().unwrap().at.elapsed().as_millis())
    };
    until(|| is_quiet().then_some(()), || running.stderr());

    broker.kill();
    way.close();
    // What the broker had told by then.
    thread::sleep(Duration::from_millis(200));
    let before = ids_of(&ear.all(events));
    drop(ear);
    thread::sleep(Duration::from_secs_f64(length));
    running.await_said("it is tried again");
    let port = broker.port;
    drop(broker);
    let broker = Broker::start(&bench, port, "allow_anonymous true");
    let ear = Ear::open(broker.port, &[]);
    let expected = running.ids();
    way.open();
    let back = Instant::now();

    let last = expected.last().unwrap().clone();
    let first = ear.hear(events, |_| true).at.duration_since(back);
    ear.hear(events, |heard| heard.json()["id"].as_str() == Some(&last));
    let done = back.elapsed();
    let received = ids_of(&ear.all(events));
    // The first of these may have been told to a broker that was killed before it acknowledged it.
    let known: HashSet<&String> = before.iter().collect();
    let missed: Vec<&String> = expected.iter().filter(|id| !known.contains(id)).collect();
    let received: Vec<&String> = received.iter().take_while(|id| **id != last).chain([&last]).collect();
    let duplicates = received.len() - received.iter().collect::<HashSet<_>>().len()
        + received.iter().filter(|id| known.contains(**id)).count();
    let place = |id: &&String| expected.iter().position(|other| other == *id);
    let places: Vec<Option<usize>> = received.iter().map(place).collect();
    let disordered = places.windows(2).filter(|pair| pair[0] >= pair[1]).count();
    println!(
        "broker away for {length} s; events during the break: {}, received: {}, duplicates: {duplicates}, out of order: \
         {disordered}, first after {:.1} s, all after {:.1} s",
        missed.len(),
        received.len(),
        first.as_secs_f64(),
        done.as_secs_f64()
    );
    assert_eq!((&received, duplicates, disordered), (&missed, 0, 0), "{}", running.stderr());
    assert!(missed.len() as f64 > length, "too little happened: {}", missed.len());
    running.await_said("works again");
    // A broker that has forgotten everything is told again what it is to keep.
    ear.hear("wordsight/front_door/availability", |heard| heard.text() == "online");
    ear.hear("wordsight/front_door/green", |heard| heard.text() == "0");
    running.assert_goes_on();
}

#[test]
fn the_broker_keeps_counts_snapshots_and_the_state_and_that_we_are_gone() {
    if !has_mosquitto() {
        return;
    }
    let bench = Bench::new();
    let broker = Broker::anonymous(&bench);
    let output = format!(
        "[[mqtt]]\nurl = \"mqtt://127.0.0.1:{}\"\nprefix = \"a/b\"\nsnapshots = true\nframes = true\n",
        broker.port
    );
    let mut running = start(&bench, &output);
    let ear = Ear::open(broker.port, &[]);
    for count in ["1", "0", "1"] {
        ear.hear("a/b/front_door/red", |heard| heard.text() == count);
        ear.forget();
    }
    ear.hear("a/b/front_door/blue/snapshot", |_| true);
    let frame = ear.hear("a/b/front_door/frames", |_| true).json();
    assert!(frame["detections"].is_array(), "{frame}");
    let event = ear.hear("a/b/front_door/events", |heard| heard.json()["event"] == "appeared").json();
    assert!(["red", "blue"].contains(&event["word"].as_str().unwrap()), "{event}");
    // Who comes later hears what was kept.
    let later = Ear::open(broker.port, &[]);
    let snapshot = later.hear("a/b/front_door/blue/snapshot", |heard| heard.is_retained).payload;
    let picture = image_size(&snapshot);
    assert_eq!(picture, Some((64, 64)), "a JPEG of the frame");
    later.hear("a/b/front_door/green", |heard| heard.is_retained && heard.text() == "0");
    later.hear("a/b/front_door/availability", |heard| heard.is_retained && heard.text() == "online");
    let state =
        later.hear("a/b/front_door/state", |heard| heard.json()["frames_per_second"].is_number()).json();
    assert_eq!(state["words"], 3);
    assert!(state["source"].as_str().unwrap().ends_with("clip.mjpeg"), "{state}");
    let fps = state["frames_per_second"].as_f64().unwrap();
    assert!(fps > 5.0 && fps < 30.0, "{fps}");
    // Killed: the broker says so. Ended: we do.
    later.forget();
    running.child.kill().unwrap();
    later.hear("a/b/front_door/availability", |heard| heard.text() == "offline");
    let mut running = run(&bench, &bench.path("wordsight.toml"));
    later.hear("a/b/front_door/availability", |heard| heard.text() == "online");
    later.forget();
    until(|| (running.ids().len() >= 2).then_some(()), || running.stderr());
    running.terminate();
    later.hear("a/b/front_door/availability", |heard| heard.text() == "offline");
    let last = running.ids().last().unwrap().clone();
    later.hear("a/b/front_door/events", |heard| heard.json()["id"].as_str() == Some(&last));
}

/// The width and height of a JPEG that is whole.
fn image_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let picture = image::load_from_memory_with_format(bytes, image::ImageFormat::Jpeg).ok()?;
    Some((picture.width(), picture.height()))
}

#[test]
fn a_wrong_password_is_said_and_costs_the_stream_nothing_and_a_new_one_is_taken_from_its_file() {
    if !has_mosquitto() {
        return;
    }
    let bench = Bench::new();
    let passwords = bench.path("passwords");
    let mut command = program("mosquitto_passwd");
    assert!(
        command.args(["-b", "-c"]).arg(&passwords).args(["camera", "right-one"]).status().unwrap().success()
    );
    let more = format!("allow_anonymous false\npassword_file {}", passwords.display());
    let broker = Broker::start(&bench, free_port(), &more);
    bench.write("password", "wrong-one\n");
    let running = start(
        &bench,
        &format!(
            "[[mqtt]]\nurl = \"mqtt://127.0.0.1:{}\"\nusername = \"camera\"\npassword_file = \"password\"\n",
            broker.port
        ),
    );
    running.await_said("refuses the user name or the password: see `username` and `password_file`");
    running.assert_goes_on();
    let said = running.stderr();
    assert_eq!(said.matches("refuses the user name").count(), 1, "said once: {said}");
    assert!(!said.contains("wrong-one"), "{said}");
    let ear = Ear::open(broker.port, &["-u", "camera", "-P", "right-one"]);
    bench.write("password", "right-one\n");
    ear.hear("wordsight/front_door/events", |_| true);
    running.await_said("works again");
    assert!(!running.stderr().contains("right-one"));
}

#[test]
fn tls_is_spoken_with_a_broker_whose_authority_is_known_and_with_no_other() {
    if !has_mosquitto() {
        return;
    }
    let bench = Bench::new();
    certificates(&bench, "own");
    certificates(&bench, "other");
    let at = |name: &str| bench.path(name).display().to_string();
    let secure = free_port();
    let more = format!(
        "allow_anonymous true\nlistener {secure} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true",
        at("own-ca.pem"),
        at("own.pem"),
        at("own.key")
    );
    let broker = Broker::start(&bench, free_port(), &more);
    let output = |ca: &str| {
        format!(
            "[[mqtt]]\nurl = \"mqtts://localhost:{secure}\"\nca_file = \"{ca}\"\ncertificate_file = \"own.pem\"\n\
             key_file = \"own.key\"\n"
        )
    };
    let ear = Ear::open(broker.port, &[]);
    let running = start(&bench, &output("other-ca.pem"));
    running.await_said("no TLS with mqtts://localhost");
    running.await_said("`ca_file`");
    running.assert_goes_on();
    assert!(ear.all("wordsight/front_door/availability").is_empty());
    drop(running);
    let running = start(&bench, &output("own-ca.pem"));
    ear.hear("wordsight/front_door/events", |_| true);
    assert!(!running.stderr().contains("ERROR"), "{}", running.stderr());
}

#[test]
fn home_assistant_is_told_of_words_and_that_they_are_gone_also_when_they_went_while_we_did_not_run() {
    if !has_mosquitto() {
        return;
    }
    let bench = Bench::new();
    let broker = Broker::anonymous(&bench);
    let output = format!("[[mqtt]]\nurl = \"mqtt://127.0.0.1:{}\"\nhome_assistant = true\n", broker.port);
    let ear = Ear::open(broker.port, &[]);
    let mut running = start(&bench, &output);
    let config = |word: &str| format!("homeassistant/binary_sensor/wordsight_front_door/{word}/config");
    let of_red = ear.hear(&config("red"), |_| true).json();
    assert_eq!(of_red["name"], "red");
    assert_eq!(of_red["state_topic"], "wordsight/front_door/red");
    assert_eq!(of_red["availability_topic"], "wordsight/front_door/availability");
    ear.hear("wordsight/front_door/red", |heard| heard.text() == "1");
    ear.hear(&config("blue"), |_| true);
    ear.forget();
    write_vocabulary(&bench.path("words.safetensors"), &[("ruby red", RED), ("blue", BLUE)]);
    ear.hear(&config("ruby_red"), |heard| heard.json()["name"] == "ruby red");
    for gone in [config("red").as_str(), "wordsight/front_door/red", "wordsight/front_door/green"] {
        ear.hear(gone, |heard| heard.payload.is_empty());
    }
    ear.hear("wordsight/front_door/ruby_red", |heard| heard.text() == "1");
    assert!(ear.has(&config("blue"), |heard| heard.payload.is_empty()).is_none(), "it is still there");
    running.terminate();
    drop(running);
    // The words are others when it starts again.
    write_vocabulary(&bench.path("words.safetensors"), &[("rose", RED)]);
    ear.forget();
    let _running = run(&bench, &bench.path("wordsight.toml"));
    ear.hear(&config("rose"), |_| true);
    for gone in [config("ruby_red").as_str(), "wordsight/front_door/ruby_red", "wordsight/front_door/blue"] {
        ear.hear(gone, |heard| heard.payload.is_empty());
    }
    // What a broker keeps is what there is.
    let later = Ear::open(broker.port, &[]);
    later.hear("wordsight/front_door/rose", |heard| heard.is_retained);
    assert!(later.all("wordsight/front_door/blue").is_empty());
}
