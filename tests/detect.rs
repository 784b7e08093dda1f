//! `wordsight detect` on real files: photographs in, named boxes out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use support::*;

#[test]
fn things_are_named_and_their_boxes_are_in_pixels_of_the_photograph() {
    let bench = Bench::new();
    let wide = bench.write("wide.jpg", jpeg(256, 128, [RED, GREY, GREY, BLUE], None));
    let tall = bench.write("tall.jpg", jpeg(100, 200, [GREY, GREEN, GREY, GREY], None));
    let lines = bench.run(&["detect", wide.to_str().unwrap(), tall.to_str().unwrap(), "--json", "-"]).lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["source"], wide.to_str().unwrap());
    assert_eq!((&lines[0]["frame"], &lines[1]["frame"]), (&0.into(), &1.into()));
    assert_eq!(words_of(&lines[0]), ["red", "blue"]);
    assert_near(box_of(&lines[0], "red"), [0.0, 0.0, 128.0, 64.0]);
    assert_near(box_of(&lines[0], "blue"), [128.0, 64.0, 256.0, 128.0]);
    assert_eq!(words_of(&lines[1]), ["green"]);
    assert_near(box_of(&lines[1], "green"), [50.0, 0.0, 100.0, 100.0]);
}

#[test]
fn a_line_carries_all_that_it_promises() {
    let bench = Bench::new();
    let photograph = bench.write("red.jpg", jpeg(64, 64, [RED; 4], None));
    let lines = bench.run(&["detect", photograph.to_str().unwrap(), "--json", "-"]).lines();
    let line = lines[0].as_object().unwrap();
    let keys: Vec<&str> = line.keys().map(String::as_str).collect();
    let mut expected = ["source", "frame", "timestamp_ns", "age_ms", "latency_ms", "detections"];
    expected.sort_unstable();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    let (age, latency) = (line["age_ms"].as_f64().unwrap(), line["latency_ms"].as_f64().unwrap());
    assert!(0.0 < latency && latency <= age, "latency {latency}, age {age}");
    let scores: Vec<f64> =
        line["detections"].as_array().unwrap().iter().map(|found| found["score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 4 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert_eq!(line["detections"][0]["objectness"], 0.9);
}

#[test]
fn other_words_find_other_things_with_the_same_student() {
    let bench = Bench::new();
    let photograph = bench.write("photo.jpg", jpeg(64, 64, [RED, GREY, GREY, YELLOW], None));
    let arguments = ["detect", photograph.to_str().unwrap(), "--json", "-"];
    assert!(words_of(&bench.run(&arguments).lines()[0]).contains(&"red"));
    write_vocabulary(&bench.path("words.safetensors"), &[("lemon", YELLOW), ("tomato", RED)]);
    let lines = bench.run(&arguments).lines();
    assert_near(box_of(&lines[0], "lemon"), [32.0, 32.0, 64.0, 64.0]);
}

#[test]
fn what_a_hidden_word_names_better_is_not_told_at_all() {
    let bench = Bench::new();
    let photograph = bench.write("photo.jpg", jpeg(64, 64, [RED, YELLOW, BLUE, YELLOW], None));
    let arguments = ["detect", photograph.to_str().unwrap(), "--json", "-"];
    let words = [("tomato", RED), ("plum", BLUE)];
    let count = |lines: &[serde_json::Value]| words_of(&lines[0]).len();
    write_vocabulary(&bench.path("words.safetensors"), &words);
    assert!(count(&bench.run(&arguments).lines()) > 2, "yellow is a tomato for want of a better word");
    write_vocabulary_hiding(&bench.path("words.safetensors"), &words, &[("lemon", YELLOW)]);
    let lines = bench.run(&arguments).lines();
    let mut told = words_of(&lines[0]);
    told.sort_unstable();
    assert_eq!(told, ["plum", "tomato"]);
    assert_near(box_of(&lines[0], "tomato"), [0.0, 0.0, 32.0, 32.0]);
}

#[test]
fn a_photograph_taken_with_the_camera_on_its_side_is_seen_upright() {
    let bench = Bench::new();
    // Orientation 6: turn clockwise to see it upright, so the stored top left comes to the top right.
    let photograph = bench.write("side.jpg", jpeg(128, 64, [RED, GREY, GREY, GREY], Some(6)));
    let lines = bench.run(&["detect", photograph.to_str().unwrap(), "--json", "-"]).lines();
    assert_near(box_of(&lines[0], "red"), [32.0, 0.0, 64.0, 64.0]);
}

#[test]
fn a_folder_stands_for_its_photographs_in_the_order_of_their_names() {
    let bench = Bench::new();
    bench.write("album/b.jpg", jpeg(64, 64, [BLUE; 4], None));
    bench.write("album/a.jpeg", jpeg(64, 64, [RED; 4], None));
    bench.write("album/notes.txt", "no photograph");
    let rgb = quarters(64, 64, [GREEN; 4]);
    image::save_buffer(bench.path("album/c.png"), &rgb, 64, 64, image::ColorType::Rgb8).unwrap();
    let lines = bench.run(&["detect", bench.path("album").to_str().unwrap(), "--json", "-"]).lines();
    let words: Vec<&str> = lines.iter().map(|line| words_of(line)[0]).collect();
    assert_eq!(words, ["red", "blue", "green"]);
}

#[test]
fn a_photograph_whose_name_is_no_text_is_read_told_and_saved() {
    let bench = Bench::new();
    let name = OsStr::from_bytes(b"caf\xe9.jpg");
    std::fs::create_dir(bench.path("album")).unwrap();
    std::fs::write(bench.path("album").join(name), jpeg(64, 64, [RED; 4], None)).unwrap();
    for given in [bench.path("album"), bench.path("album").join(name)] {
        let out = bench.path("out");
        let mut command = bench.command(&["detect", "--json", "-"]);
        command.arg("--save").arg(&out).arg(given);
        let lines = Outcome::of(command.output().unwrap()).lines();
        assert_eq!(words_of(&lines[0])[0], "red");
        assert!(lines[0]["source"].as_str().unwrap().ends_with("caf\u{fffd}.jpg"), "{}", lines[0]);
        assert!(out.join("caf\u{fffd}.jpg").is_file());
        std::fs::remove_dir_all(out).unwrap();
    }
}

#[test]
fn what_cannot_be_read_is_named_and_the_others_are_done() {
    let bench = Bench::new();
    let good = bench.write("good.jpg", jpeg(64, 64, [RED; 4], None));
    let corrupt = bench.write("corrupt.jpg", "this is text");
    let whole = jpeg(64, 64, [BLUE; 4], None);
    let torn = bench.write("torn.jpg", &whole[..whole.len() / 2]);
    let missing = bench.path("missing.jpg");
    std::fs::create_dir(bench.path("empty")).unwrap();
    let empty = bench.path("empty");
    let paths = [&corrupt, &missing, &empty, &torn, &good].map(|path| path.to_str().unwrap());
    let outcome = bench.run(&[&["detect", "--json", "-"][..], &paths].concat());
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let lines = json_lines(&outcome.stdout);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["source"], paths[4]);
    for path in &paths[..4] {
        let about: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(path)).collect();
        assert_eq!(about.len(), 1, "{path}: {}", outcome.stderr);
    }
}

#[test]
fn annotated_copies_are_saved_in_the_size_of_the_originals() {
    let bench = Bench::new();
    let photographs = [
        bench.write("a/one.jpg", jpeg(200, 100, [RED, GREY, GREY, GREY], None)),
        bench.write("b/one.jpg", jpeg(64, 64, [BLUE; 4], None)),
    ];
    let [first, second] = photographs.each_ref().map(|path| path.to_str().unwrap());
    let out = bench.path("out");
    let outcome = bench.run(&["detect", first, second, "--save", out.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let annotated = image::open(out.join("one.jpg")).unwrap().into_rgb8();
    let original = image::open(first).unwrap().into_rgb8();
    assert_eq!(annotated.dimensions(), original.dimensions());
    let changed =
        annotated.pixels().zip(original.pixels()).filter(|(a, b)| a.0[1].abs_diff(b.0[1]) > 60).count();
    assert!(changed > 200, "{changed} pixels of a box and a label");
    assert!(out.join("one-2.jpg").exists());
}

#[test]
fn people_get_a_table_and_a_file_gets_the_lines() {
    let bench = Bench::new();
    let red = bench.write("red.jpg", jpeg(64, 64, [RED, GREY, GREY, GREY], None));
    let grey = bench.write("grey.jpg", jpeg(64, 64, [GREY; 4], None));
    let json = bench.path("out.jsonl");
    let outcome = bench.run(&[
        "detect",
        red.to_str().unwrap(),
        grey.to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
    ]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let rows: Vec<&str> = outcome.stdout.lines().collect();
    assert!(rows[0].contains("file") && rows[0].contains("score"), "{rows:?}");
    assert!(
        rows[1].contains("red.jpg") && rows[1].contains("red ") && rows[1].ends_with("0, 0, 32, 32"),
        "{rows:?}"
    );
    assert!(rows[2].contains("grey.jpg") && rows[2].contains("nothing found"), "{rows:?}");
    assert_eq!(json_lines(&std::fs::read_to_string(json).unwrap()).len(), 2);
}

#[test]
fn thresholds_and_limits_of_the_command_line_hold() {
    let bench = Bench::new();
    let photograph = bench.write("photo.jpg", jpeg(64, 64, [RED, GREEN, BLUE, RED], None));
    let found = |more: &[&str]| {
        let arguments = [&["detect", photograph.to_str().unwrap(), "--json", "-"][..], more].concat();
        words_of(&bench.run(&arguments).lines()[0]).len()
    };
    assert_eq!(found(&[]), 4);
    assert_eq!(found(&["--max-detections", "2"]), 2);
    assert_eq!(found(&["--score-threshold", "1"]), 0);
    assert_eq!(found(&["--score-threshold", "0", "--words-per-region", "3"]), 12);
}

#[test]
fn nothing_is_written_to_the_users_home() {
    let bench = Bench::new();
    let photograph = bench.write("red.jpg", jpeg(64, 64, [RED; 4], None));
    let home = tempfile::tempdir().unwrap();
    let mut command = bench.command(&["detect", photograph.to_str().unwrap()]);
    command.env("HOME", home.path()).env_remove("XDG_CACHE_HOME");
    // ONNX Runtime tells nothing where these say that nobody is at home.
    for evidence in ["CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY"] {
        command.env_remove(evidence);
    }
    assert_eq!(Outcome::of(command.output().unwrap()).code, Some(0));
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
