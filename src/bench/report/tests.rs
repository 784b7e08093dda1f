#![allow(clippy::unwrap_used)]
use wordsight_board::Reason;

use super::*;
use wordsight_board::Temperature;

pub fn settings() -> Settings {
    Settings {
        mode: Mode::Throughput,
        camera_fps: None,
        warm_up_seconds: 2.0,
        source: "demo/clip.mjpeg".to_owned(),
        frame: Frame { width: 1280, height: 720, format: "MJPG".to_owned() },
        engine: "TensorRT".to_owned(),
        engine_version: Some("TensorRT 10.3.0".to_owned()),
        precision: "INT8".to_owned(),
        threads: None,
        student: Student { file: "demo/student.onnx".to_owned(), sha256: "1f3c9a0b1d2e".repeat(5) },
        vocabulary: Vocabulary { file: "demo/words.safetensors".to_owned(), words: 12 },
        config: BTreeMap::from([("detection.nms_iou".to_owned(), serde_json::json!(0.5))]),
    }
}

fn measured(recorder: &Recorder) -> Measured<'_> {
    let degrees = |celsius| Readings {
        temperatures: [Temperature {
            zone: "gpu-thermal".try_into().unwrap(),
            celsius,
            ..Temperature::default()
        }]
        .into_iter()
        .collect(),
        cpu_mhz: [1510; 6].into_iter().collect(),
        gpu_mhz: Some(624),
        gpu_load_percent: Some(97.3),
        ..Readings::default()
    };
    Measured {
        started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_144_241),
        duration: Duration::from_secs(10),
        recorder,
        bare_engine_fps: Some(125.0),
        drops: Drops { before_preprocess: 2, ..Drops::default() },
        drops_at: vec![Duration::from_millis(4)],
        cpu: Some(Cpu { percent_of_one_core: 187.0, percent_of_all_cores: 31.2 }),
        memory: Some(Memory { resident_mib: 212.4, peak_mib: 230.0 }),
        allocations: Some(Allocations::new(0, 1000)),
        machine: Machine {
            board: Some("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super".to_owned()),
            cpu: Some("ARM Cortex-A78AE".to_owned()),
            cores: Some(6),
            architecture: "aarch64".to_owned(),
            kernel: Some("5.15.148-tegra".to_owned()),
            os: Some("Ubuntu 22.04.5 LTS".to_owned()),
            l4t: Some("R36.4.3".to_owned()),
            jetpack: Some("6.2".to_owned()),
            power_mode: Some("MAXN_SUPER".to_owned()),
            governor: Some("schedutil".to_owned()),
            cpu_limit_mhz: Some(1510),
            gpu_limit_mhz: Some(1020),
            memory_mib: Some(7620),
            ..Machine::default()
        },
        readings: StartAndEnd { start: degrees(47.0), end: degrees(58.3) },
        governed: Some(Governed { seconds: 4.0, least_fps: 80.0, reason: Some(Reason::Hot) }),
    }
}

/// A thousand frames, a hundred a second, that take 1 to 10 ms in the engine, in turn.
fn thousand_frames() -> Recorder {
    let mut recorder = Recorder::new(2000);
    for frame in 0..1000 {
        let engine = Duration::from_millis(1 + frame % 10);
        let times = FrameTimes {
            at: Duration::from_millis(10 * (frame + 1)),
            engine,
            end_to_end: engine + Duration::from_micros(1500),
            age: Duration::from_micros(if frame < 500 { 20_000 } else { 20_400 }),
            ..FrameTimes::default()
        };
        recorder.record(&times);
    }
    recorder
}

pub fn report() -> Report {
    Report::new(settings(), measured(&thousand_frames()))
}

#[test]
fn statistics_are_values_that_occurred() {
    let of = |ms: &[u64]| Statistics::of(ms.iter().map(|ms| Duration::from_millis(*ms)));
    let hundred: Vec<u64> = (1..=100).rev().collect();
    let found = of(&hundred);
    let expected =
        Statistics { min: 1.0, mean: 50.5, median: 50.0, p90: 90.0, p95: 95.0, p99: 99.0, max: 100.0 };
    assert_eq!(found, expected);
    assert_eq!(of(&[7]).p99, of(&[7]).min);
    assert_eq!(of(&[]), Statistics::default());
}

#[test]
fn efficiency_is_the_pipelines_rate_in_that_of_the_engine_alone() {
    let report = report();
    assert_eq!((report.frames, report.fps), (1000, 100.0));
    assert_eq!(report.pipeline_efficiency, Some(0.8));
    assert_eq!(report.inference_median_ms, 5.0);
    let recorder = thousand_frames();
    let alone = Measured { bare_engine_fps: Some(0.0), ..measured(&recorder) };
    assert_eq!(Report::new(settings(), alone).pipeline_efficiency, None, "an engine that never ran");
}

#[test]
fn an_age_that_grows_is_told() {
    let report = report();
    assert_eq!((report.age.first_tenth_ms, report.age.last_tenth_ms), (20.0, 20.4));
    assert!((report.age.growth_percent() - 2.0).abs() < 1e-9);
    assert_eq!(Age::of(&[]).growth_percent(), 0.0);
}

#[test]
fn processor_time_is_that_between_two_looks() {
    let at = |seconds| Process { cpu_time: Some(Duration::from_secs(seconds)), ..Process::default() };
    let cpu = Cpu::between(&at(3), &at(18), Duration::from_secs(10), 6).unwrap();
    assert_eq!((cpu.percent_of_one_core, cpu.percent_of_all_cores), (150.0, 25.0));
    assert_eq!(Cpu::between(&at(3), &Process::default(), Duration::from_secs(10), 6), None);
    assert_eq!(Cpu::between(&at(3), &at(3), Duration::ZERO, 6), None);
}

#[test]
fn a_report_comes_back_from_its_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let report = report();
    report.write(&path).unwrap();
    assert_eq!(Report::read(&path).unwrap(), report);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().count() < 250, "columns of samples are a line each");
    assert!(text.contains("\n  \"pipeline_efficiency\": 0.8,\n"), "{}", &text[..600]);
}

#[test]
fn a_long_run_has_no_more_samples_than_a_file_should() {
    let mut recorder = Recorder::new(50_000);
    (0..70_000).for_each(|frame| {
        recorder.record(&FrameTimes { at: Duration::from_millis(frame), ..FrameTimes::default() });
    });
    let samples = Samples::of(&recorder, &[]);
    assert_eq!((samples.every, samples.at.len()), (4, 17_500));
    assert_eq!(samples.at[1], 4000, "microseconds");
    assert_eq!(samples.fault(), None);
}

#[test]
fn a_file_that_is_no_report_of_this_format_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let torn = {
        let mut report = report();
        report.samples_us.at.pop();
        serde_json::to_string(&report).unwrap()
    };
    let cases = [
        ("", "make one with `wordsight bench --json FILE`"),
        ("[]", "no report of `wordsight bench`"),
        ("{\"frames\": 3}", "it names no format"),
        (
            "{\"format\": 2, \"wordsight\": \"9.0\", \"new\": []}",
            "has format 2, and this wordsight reads format 1",
        ),
        ("{\"format\": 1, \"wordsight\": \"0.1.0\"}", "missing field"),
        (torn.as_str(), "differ in length"),
    ];
    for (text, told) in cases {
        std::fs::write(&path, text).unwrap();
        let error = Report::read(&path).unwrap_err();
        assert!(error.is_a_mistake_of_usage());
        let error = error.to_string();
        assert!(error.contains(told) && error.contains("report.json"), "{error}");
    }
    let error = Report::read(&folder.path().join("missing.json")).unwrap_err();
    assert!(
        !error.is_a_mistake_of_usage() && error.to_string().contains("cannot read the report"),
        "{error}"
    );
}

#[test]
fn the_table_fits_a_terminal_and_tells_what_is_known() {
    let table = report().to_string();
    assert!(table.lines().all(|line| line.chars().count() <= 100 && line == line.trim_end()), "{table}");
    for told in [
        "100.0 frames/s (1000 frames, 2 dropped)",
        "the pipeline reaches 0.800 of it",
        "camera 0, unreadable 0, before preprocess 2, before engine 0, before publish 0",
        "(+2.0 %): flat",
        "187 % of one core, 31 % of all",
        "0 a frame (0 in 1000 frames)",
        "TensorRT, INT8",
        "JetPack 6.2, L4T R36.4.3",
        "held the stream back for 4 s, to 80.0 frames/s: the board is hot",
        "power mode MAXN_SUPER",
        "gpu 47 to 58 °C",
        "GPU 624 MHz (97 % busy)",
    ] {
        assert!(table.contains(told), "{told}:\n{table}");
    }
    assert!(!table.contains("graphics"), "there is no card");
}

#[test]
fn a_student_is_told_by_the_hash_of_its_bytes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "abc").unwrap();
    let student = Student::of(file.path()).unwrap();
    assert_eq!(student.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert!(Student::of(Path::new("/missing")).is_err());
}
