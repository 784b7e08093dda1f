//! The governor on simulated boards: what it gives of the frame rate, and what the board's own protection would.
//!
//! A board is two thermal resistances and capacities in a row, a chip on a sink (an RC network of second order), and
//! a protection as Linux and an Orin's firmware have it. The kernel's step-wise governor (drivers/thermal/gov_step_wise.c)
//! looks once a second: above the trip point and getting hotter it takes the clocks down a step of ten, below it and
//! getting cooler up one. At 103 °C the firmware takes them to a quarter until it is five degrees cooler. A frame costs
//! the same energy at any clock, which is kind to the protection: a lower clock makes it slower, and that is told apart.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use wordsight_board::{Decision, Governor, GovernorSettings, Look, Reason};

const TRIP_C: f64 = 99.0;
const FIRMWARE_TRIP_C: f64 = 103.0;
/// From one step of the simulation to the next, seconds.
const STEP_S: f64 = 0.25;
/// The highest of the clocks' steps.
const STEPS: i32 = 9;

#[derive(Clone, Copy, Debug)]
struct Board {
    /// From the sink to the air, and from the chip to the sink, °C/W.
    sink_c_per_w: f64,
    chip_c_per_w: f64,
    /// How long the sink and the chip take for 63 % of a change, seconds.
    sink_s: f64,
    chip_s: f64,
    idle_w: f64,
    /// What the full frame rate takes on top.
    frames_w: f64,
    /// A sensor's last digit, °C.
    digit_c: f64,
}

/// A passive sink in a box: much heat, which takes minutes to leave.
const SEALED_BOX: Board = Board {
    sink_c_per_w: 4.0,
    chip_c_per_w: 0.9,
    sink_s: 240.0,
    chip_s: 3.0,
    idle_w: 5.0,
    frames_w: 10.0,
    digit_c: 0.1,
};

struct Simulation {
    board: Board,
    sink_c: f64,
    chip_c: f64,
    /// Steps that the kernel took the clocks down by.
    slowed: i32,
    /// What it saw when it looked last.
    before_c: f64,
    firmware_slows: bool,
    random: u64,
}

/// What there was in a second.
#[derive(Clone, Copy, Debug)]
struct Second {
    chip_c: f64,
    /// Of the full frame rate.
    rate: f64,
    /// Of the full clock.
    clock: f64,
    decision: Decision,
}

impl Simulation {
    fn new(board: Board, air_c: f64) -> Self {
        let warm = air_c + board.idle_w * board.sink_c_per_w;
        Self {
            board,
            sink_c: warm,
            chip_c: warm,
            slowed: 0,
            before_c: warm,
            firmware_slows: false,
            random: 88_172_645_463_325_252,
        }
    }

    /// Between -0.5 and 0.5 (Marsaglia's xorshift).
    fn noise(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }

    fn clock(&self) -> f64 {
        if self.firmware_slows { 0.25 } else { 1.0 - 0.1 * f64::from(self.slowed) }
    }

    /// The frame rate that comes of a limit in a step of the simulation.
    fn step(&mut self, air_c: f64, limit: f64) -> f64 {
        let rate = limit.min(self.clock());
        let Board { sink_c_per_w, chip_c_per_w, sink_s, chip_s, idle_w, frames_w, .. } = self.board;
        // Scenes differ, and so does what a frame takes.
        let watts = idle_w + frames_w * rate * (1.0 + 0.2 * self.noise());
        self.sink_c += (air_c + watts * sink_c_per_w - self.sink_c) * STEP_S / sink_s;
        self.chip_c += (self.sink_c + watts * chip_c_per_w - self.chip_c) * STEP_S / chip_s;
        let firmware_trip = if self.firmware_slows { FIRMWARE_TRIP_C - 5.0 } else { FIRMWARE_TRIP_C };
        self.firmware_slows = self.chip_c >= firmware_trip;
        rate
    }

    /// What the kernel does once a second.
    fn protect(&mut self) {
        let change = match (self.chip_c >= TRIP_C, self.chip_c > self.before_c) {
            (true, true) => 1,
            (false, false) => -1,
            _ => 0,
        };
        self.slowed = (self.slowed + change).clamp(0, STEPS);
        self.before_c = self.chip_c;
    }

    fn look(&self) -> Look {
        let told = (self.chip_c / self.board.digit_c).floor() * self.board.digit_c;
        Look { margin_c: Some((TRIP_C - told) as f32), is_throttled: self.slowed > 0, over_currents: 0 }
    }

    /// So many seconds in air that is as warm as `air_c` says of each.
    fn run(
        &mut self,
        seconds: usize,
        air_c: impl Fn(f64) -> f64,
        mut governor: Option<&mut Governor>,
    ) -> Vec<Second> {
        let mut decision = Decision::FREE;
        let mut second = |at: usize| {
            let looks = (1.0 / STEP_S) as usize;
            let step =
                |step| self.step(air_c(at as f64 + step as f64 * STEP_S), f64::from(decision.fraction));
            let rate = (0..looks).map(step).sum::<f64>() / looks as f64;
            self.protect();
            let (told, clock) = (decision, self.clock());
            if let Some(governor) = governor.as_deref_mut() {
                decision = governor.decide(Duration::from_secs(1), &self.look());
            }
            Second { chip_c: self.chip_c, rate, clock, decision: told }
        };
        (0..seconds).map(&mut second).collect()
    }
}

fn governor() -> Governor {
    Governor::new(GovernorSettings::default())
}

fn mean(seconds: &[Second]) -> f64 {
    seconds.iter().map(|second| second.rate).sum::<f64>() / seconds.len() as f64
}

/// How much longer a frame takes than at full clocks, in the mean.
fn slowness(seconds: &[Second]) -> f64 {
    seconds.iter().map(|second| second.clock.recip()).sum::<f64>() / seconds.len() as f64
}

/// From the lowest to the highest rate of a second.
fn spread(seconds: &[Second]) -> f64 {
    let rates = || seconds.iter().map(|second| second.rate);
    rates().fold(0.0, f64::max) - rates().fold(1.0, f64::min)
}

fn hottest(seconds: &[Second]) -> f64 {
    seconds.iter().map(|second| second.chip_c).fold(f64::MIN, f64::max)
}

#[test]
fn without_a_governor_a_hot_board_passes_its_trip_point_and_its_rate_goes_up_and_down() {
    let seconds = Simulation::new(SEALED_BOX, 50.0).run(3600, |_| 50.0, None);
    let last = &seconds[1800..];
    println!(
        "alone: at most {:.1} °C, rate {:.2} in the mean, seconds' {:.3} apart, a frame takes {:.2} times as long",
        hottest(&seconds),
        mean(last),
        spread(last),
        slowness(last)
    );
    assert!(hottest(&seconds) > TRIP_C);
    assert!(spread(last) > 0.15, "{}", spread(last));
    assert!(slowness(last) > 1.5, "{}", slowness(last));
}

#[test]
fn with_it_the_same_board_stays_below_and_its_rate_is_steady() {
    let mut governor = governor();
    let seconds = Simulation::new(SEALED_BOX, 50.0).run(3600, |_| 50.0, Some(&mut governor));
    let last = &seconds[1800..];
    println!(
        "governed: at most {:.1} °C, rate {:.2} in the mean, seconds' {:.3} apart, a frame takes {:.2} times as long",
        hottest(&seconds),
        mean(last),
        spread(last),
        slowness(last)
    );
    assert!(hottest(&seconds) < TRIP_C, "{}", hottest(&seconds));
    assert!(spread(last) <= 0.05, "{}", spread(last));
    assert_eq!(slowness(&seconds), 1.0, "its clocks stay up");
    assert!(last.iter().all(|second| second.decision.reason == Some(Reason::Hot)));
    // What the board can stand at the temperature that is wanted.
    let Board { sink_c_per_w, chip_c_per_w, idle_w, frames_w, .. } = SEALED_BOX;
    let best = ((TRIP_C - 5.0 - 50.0) / (sink_c_per_w + chip_c_per_w) - idle_w) / frames_w;
    assert!((mean(last) - best).abs() < 0.05, "{} of {best}", mean(last));
}

#[test]
fn the_full_rate_comes_back_when_the_air_cools_and_the_board_never_throttles() {
    // Noon, and the evening after it.
    let air_c =
        |second: f64| if second < 3600.0 { 50.0 } else { (50.0 - (second - 3600.0) / 60.0).max(15.0) };
    let mut governor = governor();
    let seconds = Simulation::new(SEALED_BOX, 20.0).run(10_800, air_c, Some(&mut governor));
    assert!(hottest(&seconds) < TRIP_C);
    let free = seconds.iter().rposition(|second| second.decision != Decision::FREE).unwrap() + 1;
    println!("evening: the full rate is back after {} s of cooling", free - 3600);
    assert!(free < 3600 + 2400, "{free}");
    // Once held back and once let go, and not again and again.
    let turns = seconds
        .windows(2)
        .filter(|pair| (pair[0].decision.reason.is_none()) != (pair[1].decision.reason.is_none()));
    assert_eq!(turns.count(), 2);
}

#[test]
fn a_board_that_is_cool_enough_is_never_held_back() {
    let mut governor = governor();
    let seconds = Simulation::new(SEALED_BOX, 15.0).run(3600, |_| 15.0, Some(&mut governor));
    assert!(seconds.iter().all(|second| second.decision == Decision::FREE && second.rate == 1.0));
}

#[test]
fn boards_of_all_kinds_are_held_steady_below_their_trip_point_by_the_same_settings() {
    let mut worst = (0.0_f64, f64::MIN);
    // By how many degrees the frames of the full rate heat the chip in the end.
    for heat_c in [20.0, 30.0, 40.0] {
        for sink_s in [20.0, 60.0, 240.0, 900.0] {
            for chip_share in [0.1, 0.3] {
                for digit_c in [0.03, 0.5] {
                    let (sink_c_per_w, chip_c_per_w) = (4.0 * (1.0 - chip_share), 4.0 * chip_share);
                    let (idle_w, frames_w) = (5.0, heat_c / 4.0);
                    let board =
                        Board { sink_c_per_w, chip_c_per_w, sink_s, chip_s: 2.0, idle_w, frames_w, digit_c };
                    // Air in which the board can stand 60 % of the rate.
                    let air_c = TRIP_C - 5.0 - 4.0 * idle_w - 0.6 * heat_c;
                    let mut governor = governor();
                    let seconds = Simulation::new(board, air_c).run(14_400, |_| air_c, Some(&mut governor));
                    let last = &seconds[7200..];
                    worst = (worst.0.max(spread(last)), worst.1.max(hottest(&seconds)));
                    assert!(hottest(&seconds) < TRIP_C, "{board:?}: {}", hottest(&seconds));
                    assert!(spread(last) <= 0.1, "{board:?}: {}", spread(last));
                    assert!((mean(last) - 0.6).abs() < 0.08, "{board:?}: {}", mean(last));
                }
            }
        }
    }
    println!("48 boards: at most {:.1} °C, rates of the second half at most {:.3} apart", worst.1, worst.0);
}
