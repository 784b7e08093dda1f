//! Zones and masks of a running stream: of the configuration, in every output that is a file or is asked.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use support::serving::*;
use support::*;

/// The upper left quarter, where red comes and goes; the lower right one, where blue does.
const RED_CORNER: &str = "name = \"red corner\"\npoints = [[0, 0], [0.6, 0], [0.6, 0.6], [0, 0.6]]\n";
const BLUE_CORNER: &str = "[[0.5, 0.6], [1, 0.6], [1, 1], [0.5, 1]]";

/// Things that come and go all the time, served.
fn configure_zones(bench: &Bench, address: SocketAddr, zones: &str) -> PathBuf {
    bench.write("clip.mjpeg", comings_and_goings());
    bench.write_config(&format!(
        "name = \"the hall\"\n[publish]\njson = \"lines.jsonl\"\n[engine]\nkind = \"onnxruntime\"\nthreads = 1\n[source]\n\
         uri = \"clip.mjpeg\"\npacing = \"camera\"\nfps = 25\nloop = true\n\
         [tracking]\nconfirm_after = 2\nforget_after_s = 0.1\n[http]\nlisten = \"{address}\"\n\
         [[lines]]\nto = \"events.jsonl\"\nframes = false\nevents = true\n{zones}"
    ))
}

fn start_zones(bench: &Bench, zones: &str) -> Running {
    let address = free_address();
    let configuration = configure_zones(bench, address, zones);
    start_configured(bench, &configuration, address, &[])
}

fn events(bench: &Bench) -> Vec<Value> {
    let text = fs::read_to_string(bench.path("events.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits until an event was told that is this.
fn await_event(bench: &Bench, running: &Running, is_it: impl Fn(&Value) -> bool) -> Value {
    until(
        || events(bench).into_iter().find(&is_it),
        || format!("{:?}; {}", events(bench).last(), running.stderr()),
    )
}

#[test]
fn what_enters_and_leaves_a_zone_is_told_in_lines_status_and_metrics() {
    let bench = Bench::new();
    let zones = format!(
        "[[zone]]\n{RED_CORNER}words = [\"red\"]\ndwell_s = 0.1\n[[zone]]\nname = \"blue corner\"\npoints = {BLUE_CORNER}\n\
         [[pictures]]\nfolder = \"entered\"\non = \"enter\"\nzones = [\"blue corner\"]\nevery_s = 0\n"
    );
    let running = start_zones(&bench, &zones);
    let exited =
        await_event(&bench, &running, |event| event["event"] == "exited" && event["zone"] == "red corner");
    let of_track: Vec<Value> =
        events(&bench).into_iter().filter(|event| event["track"] == exited["track"]).collect();
    let kinds: Vec<&str> = of_track.iter().map(|event| event["event"].as_str().unwrap()).collect();
    // Eight frames of 40 ms; a busy machine may show fewer.
    let expected = ["appeared", "entered", "dwelled", "exited", "left"];
    assert!(expected.iter().filter(|kind| kinds.contains(kind)).eq(kinds.iter()), "{kinds:?}");
    assert_eq!((&exited["word"], exited.get("line")), (&json!("red"), None));
    let seen =
        (exited["last_seen_ns"].as_u64().unwrap() - exited["first_seen_ns"].as_u64().unwrap()) as f64 / 1e9;
    assert!((exited["dwell_s"].as_f64().unwrap() - seen).abs() < 0.002, "{exited}");
    await_event(&bench, &running, |event| event["event"] == "dwelled" && event["zone"] == "red corner");
    await_event(&bench, &running, |event| event["event"] == "entered" && event["zone"] == "blue corner");
    let wrong = |event: &Value| event["zone"] == "blue corner" && event["word"] != "blue";
    assert!(!events(&bench).iter().any(wrong));
    let ids = running.process.event_ids();
    let distinct: std::collections::HashSet<&String> = ids.iter().collect();
    assert_eq!(ids.len(), distinct.len());

    let status = running.get("/api/status").json();
    let zone = &status["zones"]["zones"][0];
    assert_eq!((&zone["name"], &zone["words"][0]["word"]), (&json!("red corner"), &json!("red")));
    let total = zone["entered"]["total"].as_u64().unwrap();
    let by_hour = zone["entered"]["by_hour"].as_array().unwrap();
    assert!(total >= 1 && by_hour.len() == 24, "{zone}");
    assert_eq!(by_hour.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), total);
    let entries = running.metric("wordsight_zone_entries_total{zone=\"red corner\",word=\"red\"}");
    assert!(entries >= total as f64, "{entries} of {total}");
    assert!(running.metric("wordsight_zone_things{zone=\"red corner\",word=\"red\"}") <= 1.0);
    let has_picture = || {
        let days = fs::read_dir(bench.path("entered")).into_iter().flatten().flatten();
        days.flat_map(|day| fs::read_dir(day.path()).unwrap().flatten())
            .any(|file| file.file_name().to_string_lossy().contains("-blue-"))
    };
    until_so(has_picture, || running.stderr());
}

#[test]
fn what_lies_in_a_mask_is_told_nowhere() {
    let bench = Bench::new();
    let running = start_zones(&bench, &format!("[[mask]]\npoints = {BLUE_CORNER}\n"));
    let is_red = |event: &Value| event["word"] == "red";
    until_so(|| events(&bench).iter().filter(|event| is_red(event)).count() >= 6, || running.stderr());
    assert!(events(&bench).iter().all(is_red), "{:?}", events(&bench));
    let lines = fs::read_to_string(bench.path("lines.jsonl")).unwrap();
    assert!(!lines.contains("\"blue\"") && lines.contains("\"red\""));
    assert!(running.get("/api/status").json().get("zones").is_none());
}

#[test]
fn zones_that_are_configured_anew_end_no_track_and_lose_no_count() {
    let bench = Bench::new();
    let address = free_address();
    // Red is there all the time.
    let still = |zones: &str| {
        let path = configure_zones(&bench, address, zones);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("uri = \"clip.mjpeg\"", "uri = \"test://ff0000?width=64&height=64\""))
            .unwrap();
        path
    };
    let one = format!("[[zone]]\n{RED_CORNER}");
    let running = start_configured(&bench, &still(&one), address, &[]);
    await_event(&bench, &running, |event| event["event"] == "entered");
    still(&format!("{one}[[zone]]\nname = \"all\"\npoints = [[0, 0], [1, 0], [1, 1], [0, 1]]\n"));
    await_event(&bench, &running, |event| event["event"] == "entered" && event["zone"] == "all");
    let told = events(&bench);
    assert!(told.iter().all(|event| event["event"] != "left" && event["event"] != "exited"), "{told:?}");
    let of_red = told.iter().filter(|event| event["zone"] == "red corner");
    assert_eq!(of_red.count(), 1, "{told:?}");
    assert_eq!(running.metric("wordsight_zone_entries_total{zone=\"red corner\",word=\"red\"}"), 1.0);
    // What can't be is refused, and what was before goes on.
    still("[[zone]]\nname = \"a\"\npoints = [[0, 0], [1, 1]]\n");
    running.process.await_said("it has 2 points: a polygon takes 3 to 64");
    assert_eq!(running.metric("wordsight_zone_things{zone=\"all\",word=\"red\"}"), 4.0);
}

#[test]
fn zones_are_checked_with_the_configuration_and_shown_with_it() {
    let bench = Bench::new();
    bench.write("clip.mjpeg", comings_and_goings());
    let check = |more: &str| {
        let file = bench.write_config(&format!("[source]\nuri = \"clip.mjpeg\"\n{more}"));
        Outcome::of(wordsight(&["check", file.to_str().unwrap()]).output().unwrap())
    };
    let fine = check(&format!("[[zone]]\n{RED_CORNER}words = [\"red\"]\n[[mask]]\npoints = {BLUE_CORNER}\n"));
    assert_eq!(fine.code, Some(0), "{fine:?}");
    assert!(fine.stdout.contains("1 zone, 1 mask"), "{}", fine.stdout);
    let cases = [
        (format!("[[zone]]\n{RED_CORNER}words = [\"gren\"]\n"), "\"gren\" is no word of"),
        (format!("[[zone]]\n{RED_CORNER}words = [\"gren\"]\n"), "did you mean \"green\"?"),
        (
            format!("[[zone]]\n{RED_CORNER}[tracking]\nenabled = false\n"),
            "set enabled = true under [tracking]",
        ),
        (
            format!(
                "[[zone]]\n{RED_CORNER}[[pictures]]\nfolder = \"a\"\non = \"enter\"\nzones = [\"red cornr\"]\n"
            ),
            "\"red cornr\" is no zone or line: did you mean \"red corner\"?",
        ),
        ("[zone]\nname = \"a\"\n".to_owned(), "it is written [[zone]]"),
        ("[[zone]]\nname = \"a\"\npoint = [[0, 0]]\n".to_owned(), "did you mean `points`, under [[zone]]?"),
    ];
    for (text, reason) in cases {
        let outcome = check(&text);
        assert_eq!(outcome.code, Some(2), "{text}: {outcome:?}");
        assert!(outcome.stdout.contains(reason), "{text}: {outcome:?}");
    }
    let file = bench.write_config(&format!("[[zone]]\n{RED_CORNER}"));
    let shown = Outcome::of(wordsight(&["config", "--config", file.to_str().unwrap()]).output().unwrap());
    assert!(shown.stdout.contains("[[zone]]\nname = \"red corner\"  # of the file"), "{}", shown.stdout);
    assert!(shown.stdout.contains("# dwell_s is not set"), "{}", shown.stdout);
}

#[test]
fn zones_that_are_asked_for_are_checked_watched_kept_and_taken_back() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure_zones(&bench, address, &format!("[[zone]]\n{RED_CORNER}"));
    let mut running = start_configured(&bench, &configuration, address, &[]);
    let before = running.get("/api/zones").json();
    assert_eq!(
        (&before["zone"][0]["name"], &before["is_as_configured"]),
        (&json!("red corner"), &json!(true))
    );
    let zone = |name: &str, points: Value| json!({ "zone": [{ "name": name, "points": points }] });
    let all = json!([[0, 0], [1, 0], [1, 1], [0, 1]]);
    for (body, status, reason) in [
        (zone("a", json!([[0, 0], [1, 1]])), 422, "zone \"a\": it has 2 points"),
        (zone("", all.clone()), 422, "a name is to be 1 to 64 characters"),
        (zone("a", json!([[0, 0], [2, 0], [1, 1]])), 422, "point 2 is [2, 0], outside of the picture"),
        (json!({ "zones": [] }), 422, "unknown field `zones`"),
        (zone("a", json!([[0, 0], [1, 1], [1, 0], [0, 1]])), 409, "cross or touch"),
    ] {
        let error = running.put("/api/zones", &body).error(status);
        assert!(error.contains(reason), "{body}: {error}");
    }
    assert_eq!(running.get("/api/zones").json(), before, "what is refused changes nothing");
    assert!(running.get("/api/zones?format=xml").error(400).contains("json or toml"));

    let now = running.put("/api/zones", &zone("all", all.clone())).json();
    assert_eq!((&now["zone"][0]["name"], &now["is_as_configured"]), (&json!("all"), &json!(false)));
    assert_eq!(running.get("/api/status").json()["in_use"]["is_as_configured"], true, "the words are");
    await_event(&bench, &running, |event| event["event"] == "entered" && event["zone"] == "all");
    let toml = running.get("/api/zones?format=toml");
    assert_eq!(toml.headers["content-type"], "application/toml");
    let pasted = format!("[source]\nuri = \"clip.mjpeg\"\n{}", toml.text());
    let elsewhere = bench.write(
        "pasted.toml",
        format!("student = \"student.onnx\"\nvocabulary = \"words.safetensors\"\n{pasted}"),
    );
    let checked = Outcome::of(wordsight(&["check", elsewhere.to_str().unwrap()]).output().unwrap());
    assert!(checked.code == Some(0) && checked.stdout.contains("1 zone"), "{checked:?}");

    // They end with the program unless they are to be kept, and taking back the words leaves them.
    assert_eq!(running.put("/api/choices", &json!({ "keep": true })).status, 200);
    assert_eq!(running.ask("DELETE", "/api/choices", "", "").status, 200);
    running.process.terminate();
    let running = start_configured(&bench, &configuration, address, &[]);
    let kept = running.get("/api/zones").json();
    assert_eq!((&kept["zone"][0]["name"], &kept["is_kept"]), (&json!("all"), &json!(true)));
    let taken_back = running.ask("DELETE", "/api/zones", "", "").json();
    assert_eq!((&taken_back["zone"], &taken_back["is_as_configured"]), (&before["zone"], &json!(true)));
    // The configuration has the last word.
    running.put("/api/zones", &zone("all", all));
    configure_zones(&bench, address, &format!("[[zone]]\n{}", RED_CORNER.replace("red corner", "corner")));
    let names = || running.get("/api/zones").json()["zone"][0]["name"].clone();
    until_so(|| names() == json!("corner"), || format!("{} {}", names(), running.stderr()));
}

#[test]
fn zones_are_refused_where_nothing_is_followed_and_masks_are_not() {
    let bench = Bench::new();
    let address = free_address();
    let configuration = configure_zones(&bench, address, "");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("[tracking]", "[tracking]\nenabled = false")).unwrap();
    let running = start_configured(&bench, &configuration, address, &[]);
    let points = json!([[0, 0], [1, 0], [1, 1]]);
    let error = running.put("/api/zones", &json!({ "zone": [{ "name": "a", "points": points }] })).error(409);
    assert!(error.contains("set enabled = true under [tracking]"), "{error}");
    assert_eq!(running.put("/api/zones", &json!({ "mask": [{ "points": points }] })).status, 200);
}

const PAGE: &str = include_str!("../docs/zones.md");

#[test]
fn the_configurations_and_the_event_of_the_page_about_zones_are_real() {
    let blocks = |language: &str| -> Vec<&'static str> {
        let fence = format!("```{language}\n");
        PAGE.split(&fence).skip(1).map(|text| text.split("```").next().unwrap()).collect()
    };
    let bench = Bench::new();
    bench.write("clip.mjpeg", comings_and_goings());
    write_vocabulary(&bench.path("words.safetensors"), &[("person", RED), ("car", BLUE)]);
    let [zones, pictures] = blocks("toml")[..] else { panic!() };
    let file = bench.write_config(&format!("[source]\nuri = \"clip.mjpeg\"\n{zones}{pictures}"));
    let outcome = Outcome::of(wordsight(&["check", file.to_str().unwrap()]).output().unwrap());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let bench = Bench::new();
    let running = start_zones(&bench, &format!("[[zone]]\n{RED_CORNER}"));
    let exited = await_event(&bench, &running, |event| event["event"] == "exited");
    let keys = |event: &Value| event.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&json_lines(blocks("json")[0])[0]), keys(&exited));
}
