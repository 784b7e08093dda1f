//! The output to an MQTT broker, against a real one: Mosquitto, and its `mosquitto_sub`.
//!
//! The broker is down for 30 seconds in the longest test; `WORDSIGHT_BREAK_S` makes that another number. Where Mosquitto
//! isn't installed, tests say that they are skipped.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::teacher::write_text_teacher;
use support::*;

/// Whether there is a broker to test against; says so where there isn't.
fn has_mosquitto() -> bool {
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
    let found = ["mosquitto", "mosquitto_sub", "mosquitto_pub", "mosquitto_passwd"]
        .iter()
        .all(|program| std::env::split_paths(&path).any(|folder| folder.join(program).exists()));
    if !found {
        skip(
            "a test with an MQTT broker",
            "Mosquitto is not installed",
            "Debian: mosquitto, mosquitto-clients",
        );
    }
    found
}

fn program(name: &str) -> Command {
    let at = ["/usr/sbin", "/usr/local/sbin"].map(|folder| Path::new(folder).join(name));
    Command::new(at.into_iter().find(|path| path.exists()).unwrap_or_else(|| name.into()))
}

/// A broker of the test's own, on a port of this machine's.
struct Broker {
    process: Process,
    port: u16,
}

impl Broker {
    /// Starts it in a folder, with `more` in its configuration.
    fn start(bench: &Bench, port: u16, more: &str) -> Self {
        // It keeps nothing: what a broker forgets must be told again.
        let configuration = format!("user root\npersistence false\nlistener {port} 127.0.0.1\n{more}\n");
        let path = bench.write("mosquitto/mosquitto.conf", configuration);
        let mut command = program("mosquitto");
        command.arg("-c").arg(&path).stdout(Stdio::null());
        let mut broker = Self { process: Process::start(command, path.parent().unwrap()), port };
        let listens = || {
            assert!(broker.process.ended().is_none(), "mosquitto ended: {}", broker.process.stderr());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        };
        until_so(listens, || "mosquitto never listens".to_owned());
        broker
    }

    fn anonymous(bench: &Bench) -> Self {
        Self::start(bench, free_port(), "allow_anonymous true")
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
    process: Process,
    heard: Arc<Mutex<Vec<Heard>>>,
    _folder: tempfile::TempDir,
}

impl Ear {
    /// Returns when it hears.
    fn open(port: u16, more: &[&str]) -> Self {
        let port = port.to_string();
        let base = ["-h", "127.0.0.1", "-p", &port];
        let mut command = Command::new("mosquitto_sub");
        command.args(base).args(["-q", "1", "-t", "#", "-F", "%r\t%t\t%x"]).args(more);
        command.stdout(Stdio::piped());
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start(command, folder.path());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (lines, to) = (BufReader::new(process.child.stdout.take().unwrap()).lines(), Arc::clone(&heard));
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut fields = line.split('\t');
                let is_retained = fields.next() == Some("1");
                let topic = fields.next().unwrap().to_owned();
                let payload = hex::decode(fields.next().unwrap_or_default()).unwrap();
                to.lock().unwrap().push(Heard { is_retained, topic, payload, at: Instant::now() });
            }
        });
        let mut ear = Self { process, heard, _folder: folder };
        let knock = || {
            assert!(ear.process.ended().is_none(), "mosquitto_sub ended: {}", ear.process.stderr());
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

/// A way to the broker that can be closed, so that who comes first to a new broker is the test's choice.
struct Way {
    port: u16,
    to: u16,
    is_open: Arc<AtomicBool>,
    keeper: Option<thread::JoinHandle<()>>,
}

impl Way {
    fn to(broker: u16) -> Self {
        let is_open = Arc::new(AtomicBool::new(false));
        let mut way = Self { port: free_port(), to: broker, is_open, keeper: None };
        way.open();
        way
    }

    fn open(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.is_open.store(true, Ordering::Relaxed);
        let (is_open, to) = (Arc::clone(&self.is_open), self.to);
        self.keeper = Some(thread::spawn(move || {
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
        }));
    }

    /// Returns when nobody listens any more.
    fn close(&mut self) {
        self.is_open.store(false, Ordering::Relaxed);
        self.keeper.take().unwrap().join().unwrap();
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
    let mut way = Way::to(broker.port);
    let running =
        bench.start_comings_and_goings(&format!("[[mqtt]]\nurl = \"mqtt://127.0.0.1:{}\"\n", way.port));
    let events = "wordsight/front_door/events";
    let ear = Ear::open(broker.port, &[]);
    // Not in the very moment in which one is under way: that it comes twice then is what QoS 1 means.
    let is_quiet = || {
        let all = ear.all(events);
        all.len() >= 4 && (60..150).contains(&all.last().unwrap().at.elapsed().as_millis())
    };
    until_so(is_quiet, || running.stderr());

    broker.process.kill();
    way.close();
    // What the broker had told by then.
    thread::sleep(Duration::from_millis(200));
    let before = ids_of(&ear.all(events));
    drop(ear);
    thread::sleep(Duration::from_secs_f64(length));
    // On a busy machine less happens in that time.
    let told = before.len();
    until_so(|| running.event_ids().len() > told + length as usize + 2, || running.stderr());
    running.await_said("it is tried again");
    let port = broker.port;
    drop(broker);
    let broker = Broker::start(&bench, port, "allow_anonymous true");
    let ear = Ear::open(broker.port, &[]);
    let expected = running.event_ids();
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
fn a_broker_that_is_away_at_the_start_is_told_when_it_comes() {
    if !has_mosquitto() {
        return;
    }
    let bench = Bench::new();
    let port = free_port();
    let running = bench.start_comings_and_goings(&format!("[[mqtt]]\nurl = \"mqtt://127.0.0.1:{port}\"\n"));
    running.await_said("it is tried again");
    let broker = Broker::start(&bench, port, "allow_anonymous true");
    let ear = Ear::open(broker.port, &[]);
    ear.hear("wordsight/front_door/availability", |heard| heard.text() == "online");
    ear.hear("wordsight/front_door/events", |_| true);
}

#[test]
fn snapshots_for_a_broker_are_no_saved_pictures() {
    let bench = Bench::new();
    bench.write("clip.mjpeg", motion_jpeg(&[RED, GREY, GREEN, GREY]));
    let config = bench.write_config(&format!(
        "[source]\nuri = \"clip.mjpeg\"\n[publish]\njson = \"\"\nsave = \"pictures\"\n[tracking]\nconfirm_after = 1\n\
         [[mqtt]]\nurl = \"mqtt://127.0.0.1:{}\"\nsnapshots = true\n",
        free_port()
    ));
    let mut command = wordsight(&["run", "--config", config.to_str().unwrap()]);
    let outcome = Outcome::of(command.env("STATE_DIRECTORY", bench.path("state")).output().unwrap());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let saved: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("saved ")).collect();
    assert!(
        saved.len() == 1 && saved[0].contains("4 pictures in") && saved[0].ends_with("/pictures"),
        "{saved:?}"
    );
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
    let mut running = bench.start_comings_and_goings(&output);
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
    // On a busy machine fewer, for a while; never more than the camera has.
    let fps = |heard: &Heard| heard.json()["frames_per_second"].as_f64().unwrap_or(0.0);
    later.hear("a/b/front_door/state", |heard| fps(heard) > 5.0);
    let fastest = later.all("a/b/front_door/state").iter().map(fps).fold(0.0, f64::max);
    assert!(fastest < 30.0, "{fastest}");
    // Killed: the broker says so. Ended: we do.
    later.forget();
    running.kill();
    later.hear("a/b/front_door/availability", |heard| heard.text() == "offline");
    let mut running = bench.start(&bench.path("wordsight.toml"));
    later.hear("a/b/front_door/availability", |heard| heard.text() == "online");
    later.forget();
    until_so(|| running.event_ids().len() >= 2, || running.stderr());
    running.terminate();
    later.hear("a/b/front_door/availability", |heard| heard.text() == "offline");
    let last = running.event_ids().last().unwrap().clone();
    later.hear("a/b/front_door/events", |heard| heard.json()["id"].as_str() == Some(&last));
}

#[test]
fn a_zone_has_retained_topics_and_a_sensor_in_home_assistant() {
    if !has_mosquitto() {
        return;
    }
    let bench = Bench::new();
    let broker = Broker::anonymous(&bench);
    let output = format!(
        "[[mqtt]]\nurl = \"mqtt://127.0.0.1:{}\"\nhome_assistant = true\n\
         [[zone]]\nname = \"red corner\"\npoints = [[0, 0], [0.6, 0], [0.6, 0.6], [0, 0.6]]\nwords = [\"red\"]\n",
        broker.port
    );
    let mut running = bench.start_comings_and_goings(&output);
    let ear = Ear::open(broker.port, &[]);
    let topic = "wordsight/front_door/zones/red_corner";
    for count in ["1", "0", "1"] {
        ear.hear(&format!("{topic}/count"), |heard| heard.text() == count);
        ear.forget();
    }
    let entered = ear.hear("wordsight/front_door/events", |heard| heard.json()["event"] == "entered").json();
    assert_eq!((&entered["zone"], &entered["word"]), (&"red corner".into(), &"red".into()));
    let later = Ear::open(broker.port, &[]);
    let all = later.hear(topic, |heard| heard.is_retained).json();
    assert!(all["words"]["red"]["entered"].as_u64().unwrap() >= 2, "{all}");
    let config = "homeassistant/sensor/wordsight_front_door/";
    let is_sensor = |heard: &Heard| heard.topic.starts_with(config) && heard.topic.ends_with("/config");
    let sensor = later.heard.lock().unwrap().iter().find(|heard| is_sensor(heard)).cloned().unwrap().json();
    assert_eq!(
        (&sensor["name"], &sensor["state_topic"]),
        (&"red corner".into(), &format!("{topic}/count").into())
    );
    // Another run without the zone takes away what the broker keeps of it.
    running.terminate();
    let text = std::fs::read_to_string(bench.path("wordsight.toml")).unwrap();
    let without = text.split("[[zone]]").next().unwrap();
    let _running = bench.start(&bench.write("wordsight.toml", without));
    later.hear(&format!("{topic}/count"), |heard| heard.payload.is_empty());
    later.hear(topic, |heard| heard.payload.is_empty());
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
    let running = bench.start_comings_and_goings(&format!(
        "[[mqtt]]\nurl = \"mqtt://127.0.0.1:{}\"\nusername = \"camera\"\npassword_file = \"password\"\n",
        broker.port
    ));
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
    let running = bench.start_comings_and_goings(&output("other-ca.pem"));
    running.await_said("no TLS with mqtts://localhost");
    running.await_said("`ca_file`");
    running.assert_goes_on();
    assert!(ear.all("wordsight/front_door/availability").is_empty());
    drop(running);
    let running = bench.start_comings_and_goings(&output("own-ca.pem"));
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
    let mut running = bench.start_comings_and_goings(&output);
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
    let _running = bench.start(&bench.path("wordsight.toml"));
    ear.hear(&config("rose"), |_| true);
    for gone in [config("ruby_red").as_str(), "wordsight/front_door/ruby_red", "wordsight/front_door/blue"] {
        ear.hear(gone, |heard| heard.payload.is_empty());
    }
    // What a broker keeps is what there is.
    let later = Ear::open(broker.port, &[]);
    later.hear("wordsight/front_door/rose", |heard| heard.is_retained);
    assert!(later.all("wordsight/front_door/blue").is_empty());
}

#[test]
fn words_are_chosen_through_the_broker_and_what_is_in_use_is_kept_there() {
    if !has_mosquitto() {
        return;
    }
    let bench = Bench::new();
    write_text_teacher(&bench.path("teacher"));
    let broker = Broker::anonymous(&bench);
    let port = broker.port;
    // A command that the broker has kept would come again with each connection.
    let say = |topic: &str, payload: &str, more: &[&str]| {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic, "-m", payload]);
        assert!(command.args(more).status().unwrap().success());
    };
    say("wordsight/front_door/words/set", "green", &["-r"]);
    let ear = Ear::open(port, &[]);
    let more = format!(
        "[[mqtt]]\nurl = \"mqtt://127.0.0.1:{port}\"\ncontrol = true\nhome_assistant = true\n\
         [http]\nvocabularies = \"vocabularies\"\n"
    );
    std::fs::create_dir(bench.path("vocabularies")).unwrap();
    write_vocabulary(&bench.path("vocabularies/roses.safetensors"), &[("rose", RED)]);
    let running = bench.start_comings_and_goings_with("teacher = \"teacher\"\n", &more);
    let field = ear.hear("homeassistant/text/wordsight_front_door/words/config", |_| true).json();
    assert_eq!(field["command_topic"], "wordsight/front_door/words/set");
    let words = |is_it: &dyn Fn(&Value) -> bool| {
        ear.hear("wordsight/front_door/words", |heard| !heard.payload.is_empty() && is_it(&heard.json()))
            .json()
    };
    let configured = words(&|told| told["is_as_configured"] == true);
    assert_eq!((&configured["vocabulary"], &configured["error"]), (&"words".into(), &Value::Null));
    assert!(configured["words"].as_array().unwrap().contains(&"red".into()), "{configured}");
    until_so(|| running.stderr().contains("retained message"), || running.stderr());

    say("wordsight/front_door/words/set", "ruby, blue", &[]);
    let chosen = words(&|told| told["words"] == serde_json::json!(["ruby", "blue"]));
    assert_eq!((&chosen["is_as_configured"], &chosen["is_kept"]), (&false.into(), &false.into()), "{chosen}");
    ear.hear("wordsight/front_door/ruby", |heard| heard.text() == "1");
    ear.hear("wordsight/front_door/green", |heard| heard.payload.is_empty());
    say("wordsight/front_door/words/set", "forklift", &[]);
    let refused = words(&|told| told["error"] != Value::Null);
    assert!(refused["error"].as_str().unwrap().contains("forklift"), "{refused}");
    assert_eq!(refused["words"], serde_json::json!(["ruby", "blue"]));
    say("wordsight/front_door/vocabulary/set", "../words", &[]);
    words(&|told| told["error"].as_str().is_some_and(|error| error.contains("not by a path")));
    say("wordsight/front_door/vocabulary/set", "roses", &[]);
    words(&|told| told["words"] == serde_json::json!(["rose"]));
    ear.hear("wordsight/front_door/vocabulary", |heard| heard.text() == "roses");
    say("wordsight/front_door/words/set", r#"{"words": ["ruby"], "keep": true}"#, &[]);
    words(&|told| told["words"] == serde_json::json!(["ruby"]) && told["is_kept"] == true);
    ear.forget();
    say("wordsight/front_door/words/set", "", &[]);
    words(&|told| told["is_as_configured"] == true && told["is_kept"] == false);
    let later = Ear::open(port, &[]);
    later.hear("wordsight/front_door/words", |heard| {
        heard.is_retained && heard.json()["vocabulary"] == "words"
    });
}

/// A broker that takes whatever comes; what is published to it, in order.
fn taking_broker(listener: std::net::TcpListener) -> std::sync::mpsc::Receiver<(String, String)> {
    use std::io::{Read, Write};
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            let kind = byte[0];
            let (mut length, mut shift) = (0, 0);
            loop {
                stream.read_exact(&mut byte)?;
                length |= usize::from(byte[0] & 0x7f) << shift;
                shift += 7;
                if byte[0] & 0x80 == 0 {
                    break;
                }
            }
            let mut packet = vec![0; length];
            stream.read_exact(&mut packet)?;
            match kind >> 4 {
                1 => stream.write_all(&[0x20, 2, 0, 0])?,
                3 => {
                    let topic_end = 2 + usize::from(u16::from_be_bytes([packet[0], packet[1]]));
                    let is_acknowledged = kind & 0b110 != 0;
                    if is_acknowledged {
                        stream.write_all(&[0x40, 2, packet[topic_end], packet[topic_end + 1]])?;
                    }
                    let payload = &packet[topic_end + 2 * usize::from(is_acknowledged)..];
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    if tell.send((text(&packet[2..topic_end]), text(payload))).is_err() {
                        return Ok(());
                    }
                }
                12 => stream.write_all(&[0xd0, 0])?,
                _ => {}
            }
        }
    });
    told
}

#[test]
fn a_stream_in_which_nothing_happens_says_offline_when_it_is_ended() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    bench.write("grey.mjpeg", motion_jpeg(&[GREY; 4]));
    let mut running = bench.start(&bench.write_config(&format!(
        "name = \"front door\"\n[engine]\nkind = \"onnxruntime\"\nthreads = 1\n[publish]\njson = \"\"\n\
         health = \"health.json\"\n[source]\nuri = \"grey.mjpeg\"\npacing = \"camera\"\nfps = 25\nloop = true\n\
         [[mqtt]]\nurl = \"mqtt://127.0.0.1:{port}\"\n"
    )));
    let told = taking_broker(listener);
    let (mut said, mut states) = (Vec::new(), 0);
    for (topic, payload) in told {
        if topic.ends_with("/availability") {
            said.push(payload);
        } else if topic.ends_with("/state") {
            states += 1;
            // By now all is said, and the connection is idle.
            if states == 2 {
                running.terminate();
            }
        }
    }
    assert_eq!(said, ["online", "offline"]);
}
