//! `wordsight bench` as a user runs it: earlier measurements compared, and errors in files and flags.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};
use support::{Bench, Outcome, wordsight};

fn run(arguments: &[&str]) -> Outcome {
    Outcome::of(wordsight(arguments).output().unwrap())
}

fn compare(a: &Path, b: &Path, more: &[&str]) -> Outcome {
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    run(&[&["bench", "--compare", a, b], more].concat())
}

/// A measurement as `wordsight bench --json` writes it, of frames that take about so many microseconds each.
fn measurement(microseconds: u64, precision: &str) -> Value {
    let frames = 1000;
    // Frames differ by a tenth, in an order without a pattern: the multiples of 617 modulo 1000.
    let took: Vec<u64> =
        (0..frames).map(|frame| microseconds + microseconds * (frame * 617 % frames) / 10_000).collect();
    let at: Vec<u64> = took
        .iter()
        .scan(0, |at, took| {
            *at += took;
            Some(*at)
        })
        .collect();
    let seconds = at[at.len() - 1] as f64 / 1e6;
    let zeros = vec![0; took.len()];
    let median = microseconds as f64 * 1.05 / 1e3;
    let statistics =
        |ms: f64| json!({"min": ms, "mean": ms, "median": ms, "p90": ms, "p95": ms, "p99": ms, "max": ms});
    let of_all = |ms: Value, zero: Value| {
        json!({
            "capture": zero, "preprocess": zero, "engine": ms, "scoring": zero, "nms": zero, "publish": zero,
            "end_to_end": ms, "age": ms,
        })
    };
    let mut samples = of_all(json!(took), json!(zeros));
    samples["every"] = json!(1);
    samples["at"] = json!(at);
    json!({
        "format": 1,
        "wordsight": "0.1.0",
        "started_at": "2025-11-26T08:04:01Z",
        "seconds": seconds,
        "frames": frames,
        "fps": frames as f64 / seconds,
        "inference_median_ms": median,
        "stages_ms": of_all(statistics(median), statistics(0.0)),
        "drops": {
            "camera": 0, "unreadable": 0, "before_preprocess": 0, "before_engine": 0, "before_publish": 0,
        },
        "age": {"first_tenth_ms": median, "last_tenth_ms": median},
        "settings": {
            "mode": "throughput", "warm_up_seconds": 2.0, "source": "demo/clip.mjpeg", "engine": "TensorRT",
            "frame": {"width": 640, "height": 480, "format": "MJPG"}, "precision": precision,
            "student": {"file": "student.onnx", "sha256": "00"}, "vocabulary": {"file": "words", "words": 3},
            "config": {},
        },
        "machine": {"architecture": "aarch64"},
        "readings": {"start": {}, "end": {}},
        "samples_us": samples,
    })
}

/// A folder with two measurements, B a tenth slower.
fn two() -> (tempfile::TempDir, [std::path::PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.json", "b.json"].map(|name| folder.path().join(name));
    for (path, measurement) in paths.iter().zip([measurement(8000, "INT8"), measurement(8800, "FP16")]) {
        std::fs::write(path, measurement.to_string()).unwrap();
    }
    (folder, paths)
}

#[test]
fn two_measurements_are_compared_without_a_student() {
    let (_folder, [a, b]) = two();
    let outcome = compare(&a, &b, &[]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "slower alone is no failure");
    let row = |name: &str| outcome.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(row("rate").contains("0.909") && row("rate").ends_with("slower"), "{}", outcome.stdout);
    assert!(
        row("engine, median").contains("1.100") && row("engine, median").ends_with("slower"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stdout.contains("precision          INT8 | FP16"), "{}", outcome.stdout);
}

#[test]
fn a_comparison_on_the_standard_output_is_json_and_nothing_else() {
    let (folder, [a, b]) = two();
    let outcome = compare(&b, &a, &["--json", "-"]);
    let comparison: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(comparison["rows"][0]["verdict"], "faster");
    assert_eq!(comparison["differences"][0], json!({"what": "precision", "a": "FP16", "b": "INT8"}));
    let file = folder.path().join("comparison.json");
    let outcome = compare(&b, &a, &["--json", file.to_str().unwrap()]);
    assert!(outcome.stdout.contains("verdict on B"), "with a file the table is there too");
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(file).unwrap()).unwrap(), comparison);
}

#[test]
fn ci_can_fail_for_what_got_slower_and_for_nothing_else() {
    let (_folder, [a, b]) = two();
    assert_eq!(compare(&a, &b, &["--fail-if-slower"]).code, Some(1));
    assert_eq!(compare(&b, &a, &["--fail-if-slower"]).code, Some(0));
    assert_eq!(compare(&a, &a, &["--fail-if-slower"]).code, Some(0));
}

#[test]
fn a_file_that_is_no_measurement_says_what_to_do() {
    let (folder, [a, _]) = two();
    let mut newer = measurement(8000, "INT8");
    newer["format"] = json!(2);
    let cases = [
        ("words.toml", "words = []".to_owned(), "make one with `wordsight bench --json FILE`"),
        ("other.json", "{\"frames\": 3}".to_owned(), "it names no format"),
        ("newer.json", newer.to_string(), "has format 2, and this wordsight reads format 1: measure again"),
    ];
    for (name, text, told) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        for outcome in [compare(&a, &path, &[]), compare(&path, &a, &["--fail-if-slower"])] {
            let sentence = outcome.sentence(2);
            assert!(sentence.contains(name) && sentence.contains(told), "{sentence}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_a_failure_and_no_mistake_of_usage() {
    let (folder, [a, _]) = two();
    let outcome = compare(&a, &folder.path().join("missing.json"), &[]);
    assert!(outcome.sentence(1).contains("cannot read the report"), "{outcome:?}");
    let outcome = compare(&a, &a, &["--json", "/missing/comparison.json"]);
    assert!(outcome.stderr.contains("cannot write the comparison /missing/comparison.json"), "{outcome:?}");
}

#[test]
fn wrong_usage_is_told_before_anything_is_read() {
    let cases: [(&[&str], &str); 7] = [
        (&["--compare", "a.json"], "2 values required"),
        (&["--compare", "a.json", "b.json", "--seconds", "3"], "cannot be used with '--seconds"),
        (&["--compare", "a.json", "b.json", "--student", "s.onnx"], "cannot be used with"),
        (&["--fail-if-slower"], "--compare"),
        (&["--seconds", "0"], "--seconds"),
        (&["--mode", "fast"], "throughput, live"),
        (&["--plot", "latency.pdf"], "write FILE.svg, FILE.png, or FILE for both"),
    ];
    for (arguments, told) in cases {
        let outcome = run(&[&["bench"], arguments].concat());
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(told), "{arguments:?}: {}", outcome.stderr);
    }
}

/// Measurements disturb one another: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// `wordsight bench` on a stream of its own, its report, and what it said.
fn measured(bench: &support::Bench, arguments: &[&str]) -> (Value, Outcome) {
    let _alone = ALONE.lock();
    let json = bench.path("report.json");
    let outcome = bench.run(&[&["bench", "--json", json.to_str().unwrap()], arguments].concat());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    (serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap(), outcome)
}

#[test]
fn a_measurement_says_what_it_measured_and_on_what() {
    let bench = support::Bench::new();
    let plot = bench.path("latency");
    let arguments = "--seconds 3 --warm-up 1 --source test://bars?width=320&height=240&format=nv12 --plot";
    let arguments: Vec<&str> = arguments.split_whitespace().chain([plot.to_str().unwrap()]).collect();
    // A network of a millisecond, beside which the pipeline's own work is large: what counts here is that both were seen.
    let (report, outcome) = support::in_one_of_some_tries(|| {
        let (report, outcome) = measured(&bench, &arguments);
        let efficiency = report["pipeline_efficiency"].as_f64().unwrap();
        if (0.05..2.0).contains(&efficiency) { Ok((report, outcome)) } else { Err(efficiency.to_string()) }
    });
    let number = |pointer: &str| {
        report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}"))
    };
    assert!(number("/frames") > 10.0 && number("/fps") > 0.0 && number("/bare_engine_fps") > 0.0);
    for stage in ["capture", "preprocess", "engine", "scoring", "publish", "end_to_end", "age"] {
        let of = |name: &str| number(&format!("/stages_ms/{stage}/{name}"));
        let ordered = ["min", "median", "p90", "p95", "p99", "max"].map(of);
        assert!(ordered[0] > 0.0 && ordered.is_sorted(), "{stage}: {ordered:?}");
    }
    assert!(number("/seconds") > 1.0 && number("/seconds") < 3.0, "without the engine's slices");
    assert!(number("/cpu/percent_of_one_core") > 0.0 && number("/memory/resident_mib") > 1.0);
    assert_eq!(
        report["drops"],
        json!({
            "camera": 0, "unreadable": 0, "governor": 0, "before_preprocess": 0, "before_engine": 0, "before_publish": 0
        })
    );
    assert_eq!(report["settings"]["frame"], json!({"width": 320, "height": 240, "format": "NV12"}));
    assert_eq!(report["settings"]["precision"], "FP32");
    assert!(report["settings"]["engine_version"].as_str().unwrap().starts_with("ONNX Runtime 1."));
    for expected in ["frames/s", "the pipeline reaches", "p99", "allocations", "machine"] {
        assert!(outcome.stdout.contains(expected), "{expected}: {}", outcome.stdout);
    }
    assert!(plot.with_extension("svg").exists() && plot.with_extension("png").exists());
}

#[test]
fn after_the_warm_up_no_frame_allocates_in_whatever_format_it_comes() {
    let bench = support::Bench::new();
    for format in ["rgb", "yuyv", "uyvy", "nv12", "i420", "grey"] {
        let source = format!("test://bars?width=320&height=240&format={format}");
        support::in_one_of_some_tries(|| {
            let (report, _) = measured(&bench, &["--seconds", "1", "--warm-up", "1", "--source", &source]);
            let allocations = &report["allocations"];
            assert_eq!(allocations["total"], 0, "{format}: {allocations}");
            if allocations["frames"].as_u64() > Some(50) { Ok(()) } else { Err(allocations.to_string()) }
        });
    }
}

#[test]
fn behind_an_engine_ten_times_too_slow_the_age_stays_flat_and_below_two_inferences() {
    let bench = support::Bench::new();
    let arguments = "--mode live --fps 50 --least-inference-ms 200 --seconds 12 --warm-up 2 \
                     --source test://bars?width=320&height=240&format=yuyv";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let (report, _) = measured(&bench, &arguments);
    assert_eq!(report["allocations"]["total"], 0);
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap();
    // By the program's own clock: on a busy machine an inference takes longer than it has to. Frames that queued up would
    // be older by ten inferences for each one inferred.
    let (median, longest) = (number("/stages_ms/engine/median"), number("/stages_ms/engine/p95"));
    let (age, oldest) = (number("/stages_ms/age/median"), number("/stages_ms/age/p95"));
    assert!(age < 2.0 * median && oldest < 2.0 * longest, "{}", report["stages_ms"]);
    let (first, last) = (number("/age/first_tenth_ms"), number("/age/last_tenth_ms"));
    assert!(last - first < median, "{first} ms, then {last} ms: {}", report["stages_ms"]);
    // The engine is never without a frame, and of all that come in an inference's time the newest is taken; the others
    // make way before the engine.
    let (frames, seconds) = (number("/frames"), number("/seconds"));
    assert!(frames * median > 700.0 * seconds, "{frames} frames in {seconds} s: {}", report["stages_ms"]);
    assert!(number("/drops/before_engine") > 2.0 * frames, "{}", report["drops"]);
    let moments = report["samples_us"]["drops_at"].as_array().unwrap();
    // A busy machine may be late with a letterbox as well.
    let before = ["preprocess", "engine", "publish"].map(|stage| number(&format!("/drops/before_{stage}")));
    assert_eq!(moments.len() as f64, before.iter().sum::<f64>(), "each drop has its moment");
    assert_eq!(report["pipeline_efficiency"], Value::Null);
}

#[test]
fn a_source_without_a_frame_is_a_sentence() {
    let bench = support::Bench::new();
    std::fs::create_dir(bench.path("empty")).unwrap();
    let outcome = bench.run(&["bench", "--source", bench.path("empty").to_str().unwrap()]);
    assert!(outcome.sentence(1).contains("no photographs"), "{outcome:?}");
    let outcome = bench.run(&["bench", "--mode", "throughput", "--fps", "0"]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
}

#[test]
fn an_estimate_says_what_it_is_and_what_it_assumes_in_words_and_in_json() {
    let student = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/student.onnx");
    let student = student.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = wordsight(&["bench", "--estimate", "orin-nano-super", "--student", student]);
        Outcome::of(command.args(arguments).output().unwrap())
    };
    let table = run(&[]);
    assert_eq!(table.code, Some(0), "{table:?}");
    for part in ["An estimate, and nothing measured", "GPU 1020 MHz", "FP16", "INT8", "% of the bandwidth"] {
        assert!(table.stdout.contains(part), "{part}: {}", table.stdout);
    }
    let json: Value = serde_json::from_str(&run(&["--json", "-"]).stdout).unwrap();
    assert_eq!((&json["kind"], &json["board"]["gpu_mhz"]), (&json!("estimate"), &json!(1020)));
    for range in json["ranges"].as_array().unwrap() {
        let (low, high) = (range["low"]["ms"].as_f64().unwrap(), range["high"]["ms"].as_f64().unwrap());
        assert!(0.0 < low && low < high, "{range}");
    }
    let bench = Bench::new();
    let broken = bench.write("student.onnx", b"no model");
    let broken = ["bench", "--estimate", "orin-nx", "--student", broken.to_str().unwrap()];
    let outcome = Outcome::of(wordsight(&broken).output().unwrap());
    assert!(outcome.sentence(1).contains("student.onnx"), "{outcome:?}");
}
