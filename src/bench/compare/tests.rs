#![allow(clippy::unwrap_used)]
use std::time::{Duration, SystemTime};

use super::*;
use crate::bench::recorder::{FrameTimes, Recorder};
use crate::bench::report::tests::settings;
use crate::bench::report::{Allocations, Cpu, Drops, Measured, StartAndEnd};

/// A simulated run: latencies that wander as an autoregressive process of the first order, around a mean.
#[derive(Clone, Copy)]
struct Simulated {
    frames: usize,
    /// Milliseconds a frame.
    mean: f64,
    /// Standard deviation in the mean.
    spread: f64,
    /// Correlation of neighbours.
    memory: f64,
    /// How much slower the last frame is than the first, in the mean.
    slope: f64,
}

const USUAL: Simulated = Simulated { frames: 1200, mean: 8.0, spread: 0.08, memory: 0.9, slope: 0.0 };

/// A number of the normal distribution (Box and Muller).
fn normal(dice: &mut Dice) -> f64 {
    let mut uniform = || (dice.next() >> 11) as f64 / (1_u64 << 53) as f64;
    let (radius, angle) = (uniform().max(1e-300), uniform());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

impl Simulated {
    fn run(self, dice: &mut Dice) -> Report {
        let mut recorder = Recorder::new(self.frames);
        let mut at = Duration::ZERO;
        let mut state = normal(dice);
        for frame in 0..self.frames {
            state = self.memory * state + (1.0 - self.memory * self.memory).sqrt() * normal(dice);
            let slope = 1.0 + self.slope * frame as f64 / self.frames as f64;
            let ms = self.mean * slope * (1.0 + self.spread * state).max(0.05);
            let took = Duration::from_secs_f64(ms / 1e3);
            at += took;
            let engine = took.mul_f64(0.8);
            recorder.record(&FrameTimes {
                at,
                engine,
                end_to_end: took,
                age: took * 2,
                ..FrameTimes::default()
            });
        }
        let measured = Measured {
            started_at: SystemTime::UNIX_EPOCH,
            duration: at,
            recorder: &recorder,
            bare_engine_fps: None,
            drops: Drops::default(),
            drops_at: Vec::new(),
            cpu: Some(Cpu { percent_of_one_core: 100.0, percent_of_all_cores: 50.0 }),
            memory: None,
            allocations: Some(Allocations::new(0, 1)),
            machine: wordsight_board::Machine::default(),
            readings: StartAndEnd::default(),
            governed: None,
        };
        Report::new(settings(), measured)
    }
}

fn verdicts(a: &Report, b: &Report) -> Vec<Verdict> {
    compare(("a", a), ("b", b)).rows.iter().take(FIGURES.len()).map(|row| row.verdict).collect()
}

/// Of how many pairs of runs of the same program anything is called different, in percent.
fn false_alarms(simulated: Simulated, pairs: u64) -> f64 {
    let is_alarm = |seed: &u64| {
        let mut dice = Dice(*seed);
        let (a, b) = (simulated.run(&mut dice), simulated.run(&mut dice));
        let comparison = compare_by(500, ("a", &a), ("b", &b));
        comparison.rows.iter().any(|row| matches!(row.verdict, Verdict::Faster | Verdict::Slower))
    };
    100.0 * (1000..1000 + pairs).filter(is_alarm).count() as f64 / pairs as f64
}

#[test]
fn a_program_is_called_different_from_itself_in_no_more_than_a_twentieth_of_comparisons() {
    // Nominal: 5 %. Of 300 pairs at that rate, 7 % and fewer are seen in 19 of 20 such tests.
    let cases = [
        ("usual", USUAL, 300),
        ("no memory", Simulated { memory: 0.0, ..USUAL }, 300),
        ("short", Simulated { frames: 400, ..USUAL }, 300),
        ("long memory, long run", Simulated { memory: 0.97, frames: 7500, ..USUAL }, 80),
    ];
    std::thread::scope(|scope| {
        for (name, simulated, pairs) in cases {
            scope.spawn(move || {
                let alarms = false_alarms(simulated, pairs);
                println!("{name}: {alarms:.1} %");
                assert!(alarms <= 7.0, "{name}: {alarms} %");
            });
        }
    });
}

#[test]
fn a_twentieth_slower_is_found_in_a_run_that_is_long_enough() {
    let found = (0..20).filter(|seed| {
        let mut dice = Dice(*seed);
        let a = Simulated { frames: 7500, ..USUAL }.run(&mut dice);
        let b = Simulated { frames: 7500, mean: 1.05 * USUAL.mean, ..USUAL }.run(&mut dice);
        let verdicts = verdicts(&a, &b);
        verdicts[0] == Verdict::Slower && verdicts[1] == Verdict::Slower && verdicts[4] == Verdict::Slower
    });
    let found = found.count();
    assert!(found >= 18, "{found} of 20");
}

#[test]
fn faster_and_slower_are_said_of_b() {
    let mut dice = Dice(7);
    let (slow, fast) = (USUAL.run(&mut dice), Simulated { mean: 6.0, ..USUAL }.run(&mut dice));
    assert_eq!(
        verdicts(&slow, &fast),
        [Verdict::Faster; FIGURES.len()],
        "more frames a second are faster too"
    );
    assert_eq!(verdicts(&fast, &slow), [Verdict::Slower; FIGURES.len()]);
    assert!(
        compare(("a", &fast), ("b", &slow)).is_slower() && !compare(("a", &slow), ("b", &fast)).is_slower()
    );
}

#[test]
fn a_difference_no_larger_than_the_drift_inside_a_run_is_none() {
    let mut dice = Dice(3);
    let steady = Simulated { spread: 0.01, ..USUAL };
    let a = Simulated { slope: 0.3, ..steady }.run(&mut dice);
    let b = Simulated { slope: 0.3, mean: 1.05 * USUAL.mean, ..steady }.run(&mut dice);
    let comparison = compare(("a", &a), ("b", &b));
    assert!(comparison.rows[1].drift > Some(0.1), "{:?}", comparison.rows[1]);
    assert_eq!(comparison.rows[1].verdict, Verdict::NoDifferenceShown);
}

#[test]
fn the_same_reports_give_the_same_comparison_and_equal_ones_no_difference() {
    let mut dice = Dice(1);
    let (a, b) = (USUAL.run(&mut dice), USUAL.run(&mut dice));
    assert_eq!(compare(("a", &a), ("b", &b)), compare(("a", &a), ("b", &b)));
    assert_eq!(verdicts(&a, &a), [Verdict::NoDifferenceShown; FIGURES.len()]);
}

#[test]
fn a_percentile_is_tested_only_with_frames_beyond_it() {
    let mut dice = Dice(1);
    let of_frames = |frames, dice: &mut Dice| {
        let run = Simulated { frames, ..USUAL }.run(dice);
        verdicts(&run, &run).iter().filter(|verdict| **verdict == Verdict::TooFewFrames).count()
    };
    // The rate needs a frame before the first.
    let untested = [0, 1, 30, 31, 101, 501].map(|frames| of_frames(frames, &mut dice));
    assert_eq!(untested, [6, 6, 6, 2, 1, 0], "all, then both tails, then p99");
}

#[test]
fn a_value_that_a_run_has_once_gets_no_verdict() {
    let mut dice = Dice(1);
    let (a, mut b) = (USUAL.run(&mut dice), USUAL.run(&mut dice));
    b.cpu = Some(Cpu { percent_of_one_core: 150.0, percent_of_all_cores: 75.0 });
    let comparison = compare(("a", &a), ("b", &b));
    let rows: Vec<(&str, Option<f64>, Verdict)> =
        comparison.rows[FIGURES.len()..].iter().map(|row| (row.name, row.ratio, row.verdict)).collect();
    let expected =
        [("processor", Some(1.5), Verdict::OneValueARun), ("allocations", None, Verdict::OneValueARun)];
    assert_eq!(rows, expected, "nobody measured memory, and 0 allocations have no ratio");
}

#[test]
fn what_differs_between_the_runs_is_named() {
    let mut dice = Dice(1);
    let (a, mut b) = (USUAL.run(&mut dice), USUAL.run(&mut dice));
    assert!(compare(("a", &a), ("b", &a)).differences.is_empty());
    b.settings.precision = "FP16".to_owned();
    b.settings.threads = Some(4);
    b.settings.student.sha256 = "0".repeat(64);
    b.machine.power_mode = Some("15W".to_owned());
    b.settings.config.insert("detection.nms_iou".to_owned(), serde_json::json!(0.6));
    let comparison = compare(("a", &a), ("b", &b));
    let named: Vec<String> =
        comparison.differences.iter().map(|it| format!("{}: {} | {}", it.what, it.a, it.b)).collect();
    let expected = [
        "precision: INT8 | FP16",
        "threads: unknown | 4",
        "student: 1f3c9a0b1d2e | 000000000000",
        "power mode: unknown | 15W",
        "configuration: detection.nms_iou = 0.5 | detection.nms_iou = 0.6",
    ];
    assert_eq!(named, expected);
    let table = comparison.to_string();
    assert!(table.contains("Not the same in A and B") && table.contains("power mode"), "{table}");
}

#[test]
fn the_table_fits_a_terminal() {
    let mut dice = Dice(7);
    let (a, b) = (USUAL.run(&mut dice), Simulated { mean: 900.0, ..USUAL }.run(&mut dice));
    let table = compare(("a.json", &a), ("b.json", &b)).to_string();
    println!("{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    for told in ["A  a.json", "95 % interval", "slower", "one value a run", "measure A twice"] {
        assert!(table.contains(told), "{told}: {table}");
    }
}

#[test]
fn a_block_is_a_second_within_bounds() {
    let length = |frames: usize, milliseconds: f64| {
        let simulated = Simulated { frames, mean: milliseconds, spread: 0.0, ..USUAL };
        Run::of(&simulated.run(&mut Dice(1))).block_length()
    };
    assert_eq!(length(1001, 10.0), 100, "a second of ten");
    assert_eq!(length(101, 10.0), 12, "an eighth of a short run");
    assert_eq!(length(12_001, 10.0), 400, "a thirtieth of a long one");
    assert_eq!(length(41, 1000.0), 4, "the third root at the least");
}

#[test]
fn percentiles_of_stretches_are_those_of_their_values() {
    let column = Column::of(&[50, 10, 40, 10, 30, 20]);
    let mut counts = Vec::new();
    let mut of = |blocks: &[Block]| column.percentiles([50.0, 95.0], blocks, &mut counts);
    assert_eq!(of(&[(0, 6)]), [20.0, 50.0]);
    assert_eq!(of(&[(1, 1), (3, 1), (1, 1)]), [10.0, 10.0]);
    assert_eq!(of(&[(2, 3), (2, 3)]), [30.0, 40.0]);
    assert!(of(&[])[0].is_nan());
}

#[test]
fn a_stopped_clock_is_no_verdict() {
    let mut dice = Dice(1);
    let mut a = USUAL.run(&mut dice);
    a.samples_us.at.fill(7);
    a.samples_us.stages.age.fill(0);
    let verdicts = verdicts(&a, &USUAL.run(&mut dice));
    assert_eq!((verdicts[0], verdicts[5]), (Verdict::TooFewFrames, Verdict::TooFewFrames));
}
