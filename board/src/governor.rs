//! The frame rate that a board can keep up.
//!
//! The governor takes a [`Look`] at the board about once a second and returns a [`Decision`]: the fraction of the full
//! frame rate that keeps the board cooler than the point where its own protection slows it. That protection is coarse:
//! it lowers clocks in large steps when the board is hot and raises them again when it has cooled, so the frame rate
//! would swing by the minute. Fewer frames make less heat, and the rate that a board can keep up is steady.
//!
//! The temperature is held by a proportional-integral controller in its velocity form (Åström and Hägglund, "PID
//! Controllers", 1995, section 3.5), which has no integral that could wind up. Boards differ in how much heat a frame
//! makes and how fast it leaves: a fan, a heat sink of a kilogram, a sealed box. The gains are low enough to be stable
//! for all of them, and the rate falls faster than it rises. Events (the kernel throttles, an over-current alarm)
//! don't say how much less is enough: the rate falls while they come, then waits, then rises again.
//!
//! Over-current alarms are not always obeyed. A peak that every single frame draws comes at any frame rate, and some
//! boards count thousands of such alarms in an hour without harm. If half the rate doesn't stop the alarm, a lower
//! rate won't either, and the governor ignores it for a while.

use core::fmt;
use core::time::Duration;

/// Change of the fraction per degree.
const PROPORTIONAL_PER_C: f32 = 0.05;
/// Change of the fraction per degree and second.
const INTEGRAL_PER_C_S: f32 = 0.000_5;
/// A sensor's last digit and a load's noise are smoothed over about so long, seconds.
const SMOOTHING_S: f32 = 5.0;
/// The margin that counts is the one that there will be so much later if the board goes on as it does, seconds: between the
/// first frame on a hot day and the trip point there may be half a minute.
const AHEAD_S: f32 = 10.0;
/// Within so many degrees of what is wanted nothing is wrong.
const DEAD_BAND_C: f32 = 0.75;
/// How fast the fraction falls and rises, at most, per second.
const FALL_PER_S: f32 = 0.05;
const RISE_PER_S: f32 = 0.01;
/// Smaller changes are not applied: a rate that changes with every look is not steady.
const LEAST_CHANGE: f32 = 0.02;
/// How long no event may come before the fraction rises again, seconds.
const CALM_S: f32 = 10.0;
/// Over-current alarms lower the fraction to this and no further.
const LEAST_FOR_OVER_CURRENT: f32 = 0.5;
/// If they still come so long after that, they don't depend on the rate.
const PATIENCE_S: f32 = 60.0;
/// For how long they are left alone then.
const LEFT_ALONE_S: f32 = 600.0;
/// A look that comes later than this after the one before (the machine slept) counts as one that came then, seconds.
const LONGEST_STEP_S: f32 = 5.0;

/// Settings of the governor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GovernorSettings {
    /// How far the hottest zone is kept below its throttling temperature, degrees Celsius.
    pub margin_c: f32,
    /// The fraction of the full rate below which it is never lowered, 0 to 1.
    pub least_fraction: f32,
}

impl Default for GovernorSettings {
    fn default() -> Self {
        Self { margin_c: 5.0, least_fraction: 0.2 }
    }
}

/// The board as the governor needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Look {
    /// How many degrees the hottest zone is below its throttling temperature; nothing if no zone has one.
    pub margin_c: Option<f32>,
    /// Whether clocks were held down for heat since the last look.
    pub is_throttled: bool,
    /// Over-current alarms since the last look.
    pub over_currents: u64,
}

impl Look {
    /// From readings; counters are compared with those of the readings before.
    pub fn between(before: &crate::Readings, now: &crate::Readings) -> Self {
        // A counter that went down began anew.
        let new = |before: u64, now: u64| now.saturating_sub(before);
        let throttles = before.core_throttles.zip(now.core_throttles);
        Self {
            margin_c: now.hottest().map(|(_, margin)| margin as f32),
            is_throttled: now.is_throttled() || throttles.is_some_and(|(before, now)| new(before, now) > 0),
            over_currents: new(before.over_current_events(), now.over_current_events()),
        }
    }
}

/// Why the rate is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Reason {
    /// A zone is close to its throttling temperature.
    Hot,
    /// The board is slowed for heat already.
    Throttled,
    /// An over-current alarm slows it.
    OverCurrent,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hot => "the board is hot",
            Self::Throttled => "the board is throttled for heat",
            Self::OverCurrent => "the board's over-current alarm lowers its clocks",
        })
    }
}

/// The governor's decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Of the full frame rate, 0 to 1.
    pub fraction: f32,
    /// Why it is below 1; nothing when it isn't.
    pub reason: Option<Reason>,
}

impl Decision {
    /// The full rate.
    pub const FREE: Self = Self { fraction: 1.0, reason: None };
}

/// Decides the frame rate.
#[derive(Debug, Clone)]
pub struct Governor {
    settings: GovernorSettings,
    /// The fraction that the temperature allows.
    heat: f32,
    /// The margin, smoothed.
    margin_c: Option<f32>,
    /// How the margin changes.
    slope_c_per_s: f32,
    /// By how much the margin to come was more than what is wanted.
    too_cool_c: f32,
    throttling: Brake,
    over_current: Brake,
    /// The fraction, as far as it may have fallen and risen.
    slewed: f32,
    decision: Decision,
}

impl Governor {
    /// A governor that starts at the full rate.
    pub fn new(settings: GovernorSettings) -> Self {
        let GovernorSettings { margin_c, least_fraction } = settings;
        let settings = GovernorSettings { margin_c, least_fraction: least_fraction.clamp(0.0, 1.0) };
        Self {
            settings,
            heat: 1.0,
            margin_c: None,
            slope_c_per_s: 0.0,
            too_cool_c: 0.0,
            throttling: Brake::new(settings.least_fraction, false),
            over_current: Brake::new(settings.least_fraction.max(LEAST_FOR_OVER_CURRENT), true),
            slewed: 1.0,
            decision: Decision::FREE,
        }
    }

    /// Takes other settings, and goes on from where it is.
    pub fn set(&mut self, settings: GovernorSettings) {
        let new = Self::new(settings);
        let change_c = self.settings.margin_c - new.settings.margin_c;
        self.too_cool_c += change_c;
        self.throttling.least = new.throttling.least;
        self.over_current.least = new.over_current.least;
        self.settings = new.settings;
        self.heat = self.heat.max(self.settings.least_fraction);
    }

    /// Decides after a look, `elapsed` after the one before.
    pub fn decide(&mut self, elapsed: Duration, look: &Look) -> Decision {
        let seconds = elapsed.as_secs_f32().min(LONGEST_STEP_S);
        self.feel(seconds, look.margin_c);
        self.throttling.step(seconds, look.is_throttled);
        self.over_current.step(seconds, look.over_currents > 0);
        let limits = [
            (self.heat, Reason::Hot),
            (self.throttling.fraction, Reason::Throttled),
            (self.over_current.fraction, Reason::OverCurrent),
        ];
        let first = limits[0];
        let (fraction, reason) =
            limits[1..].iter().fold(first, |least, limit| if limit.0 < least.0 { *limit } else { least });
        let (lowest, highest) = (self.slewed - FALL_PER_S * seconds, self.slewed + RISE_PER_S * seconds);
        self.slewed = fraction.clamp(lowest, highest);
        let fraction = self.slewed;
        if fraction >= 1.0 {
            self.decision = Decision::FREE;
        } else if (fraction - self.decision.fraction).abs() >= LEAST_CHANGE
            || (fraction <= self.settings.least_fraction && fraction != self.decision.fraction)
        {
            self.decision = Decision { fraction, reason: Some(reason) };
        }
        self.decision
    }

    fn feel(&mut self, seconds: f32, margin_c: Option<f32>) {
        let Some(margin_c) = margin_c else {
            (self.margin_c, self.slope_c_per_s, self.too_cool_c) = (None, 0.0, 0.0);
            self.heat = (self.heat + RISE_PER_S * seconds).min(1.0);
            return;
        };
        let before = self.margin_c.unwrap_or(margin_c);
        let smoothed = before + (margin_c - before) * seconds / (SMOOTHING_S + seconds);
        self.margin_c = Some(smoothed);
        let slope_c_per_s = if seconds > 0.0 { (smoothed - before) / seconds } else { 0.0 };
        let slope_before = self.slope_c_per_s;
        self.slope_c_per_s += (slope_c_per_s - slope_before) * seconds / (SMOOTHING_S + seconds);
        let too_cool_c = smoothed + AHEAD_S * self.slope_c_per_s - self.settings.margin_c;
        let too_cool_before_c = core::mem::replace(&mut self.too_cool_c, too_cool_c);
        let is_free = self.heat >= 1.0;
        if is_free && too_cool_c > 0.0 {
            return;
        }
        // Degrees that there were to spare while nothing was held back are no reason to hold anything back.
        let gained_c = too_cool_c - if is_free { too_cool_before_c.min(0.0) } else { too_cool_before_c };
        let is_right = too_cool_c.abs() < DEAD_BAND_C;
        let integral = if is_right { 0.0 } else { INTEGRAL_PER_C_S * too_cool_c * seconds };
        let change = PROPORTIONAL_PER_C * gained_c + integral;
        self.heat = (self.heat + change).clamp(self.settings.least_fraction, 1.0);
    }
}

/// Lowers a fraction while something happens, and raises it again when it has not happened for a while.
#[derive(Debug, Clone)]
struct Brake {
    fraction: f32,
    least: f32,
    /// Whether it ignores events that don't stop at a lower rate.
    gives_up: bool,
    calm_s: f32,
    in_vain_s: f32,
    left_alone_s: f32,
}

impl Brake {
    fn new(least: f32, gives_up: bool) -> Self {
        Self { fraction: 1.0, least, gives_up, calm_s: 0.0, in_vain_s: 0.0, left_alone_s: 0.0 }
    }

    fn step(&mut self, seconds: f32, happened: bool) {
        self.left_alone_s = (self.left_alone_s - seconds).max(0.0);
        if happened && self.left_alone_s == 0.0 {
            self.calm_s = 0.0;
            if self.fraction <= self.least {
                self.in_vain_s += seconds;
            }
            self.fraction = (self.fraction - FALL_PER_S * seconds).max(self.least);
            if self.gives_up && self.in_vain_s >= PATIENCE_S {
                (self.in_vain_s, self.left_alone_s) = (0.0, LEFT_ALONE_S);
            }
            return;
        }
        self.calm_s += seconds;
        if self.calm_s >= CALM_S {
            self.in_vain_s = 0.0;
            self.fraction = (self.fraction + RISE_PER_S * seconds).min(1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn governor() -> Governor {
        Governor::new(GovernorSettings::default())
    }

    /// The last of so many decisions on the same look.
    fn after(governor: &mut Governor, looks: u32, look: Look) -> Decision {
        (0..looks).fold(Decision::FREE, |_, _| governor.decide(SECOND, &look))
    }

    fn margin(margin_c: f32) -> Look {
        Look { margin_c: Some(margin_c), ..Look::default() }
    }

    #[test]
    fn a_board_that_is_cool_enough_or_tells_nothing_is_left_alone() {
        let mut governor = governor();
        assert_eq!(after(&mut governor, 1000, margin(5.1)), Decision::FREE);
        assert_eq!(after(&mut governor, 1000, Look::default()), Decision::FREE);
    }

    #[test]
    fn the_rate_falls_smoothly_to_its_least_and_no_further_while_the_board_is_hot() {
        let mut governor = governor();
        let mut last = 1.0;
        for _ in 0..2000 {
            let Decision { fraction, reason } = governor.decide(SECOND, &margin(0.0));
            assert!(fraction <= last && last - fraction <= FALL_PER_S + LEAST_CHANGE);
            assert!(fraction == 1.0 || reason == Some(Reason::Hot));
            last = fraction;
        }
        assert_eq!(last, 0.2);
    }

    #[test]
    fn it_comes_back_to_the_full_rate_when_the_board_is_cool_slower_than_it_fell() {
        let mut governor = governor();
        let held = after(&mut governor, 2000, margin(0.0)).fraction;
        let mut looks = 0;
        while governor.decide(SECOND, &margin(30.0)) != Decision::FREE {
            looks += 1;
            assert!(looks < 200);
        }
        assert!(looks as f32 * RISE_PER_S >= 1.0 - held - LEAST_CHANGE, "{looks}");
    }

    #[test]
    fn a_zone_that_trembles_within_the_dead_band_changes_nothing() {
        let mut governor = governor();
        after(&mut governor, 300, margin(3.0));
        let mut rate = after(&mut governor, 300, margin(5.0)).fraction;
        assert!(rate < 1.0);
        let mut changes = 0;
        for look in 0..600 {
            let next = governor.decide(SECOND, &margin(if look % 2 == 0 { 5.4 } else { 4.6 })).fraction;
            changes += u32::from(next != rate);
            rate = next;
        }
        assert!(changes <= 1, "{changes}");
    }

    #[test]
    fn throttling_lowers_the_rate_even_where_no_zone_tells_why() {
        let mut governor = governor();
        let throttled = Look { is_throttled: true, ..Look::default() };
        let decision = after(&mut governor, 3, throttled);
        assert_eq!(decision.reason, Some(Reason::Throttled));
        assert!((0.8..0.9).contains(&decision.fraction), "{decision:?}");
        assert_eq!(after(&mut governor, 9, Look::default()), decision, "it waits");
        assert_eq!(after(&mut governor, 60, Look::default()), Decision::FREE);
    }

    #[test]
    fn over_current_halves_the_rate_at_most_and_is_let_go_of_when_that_is_in_vain() {
        let mut governor = governor();
        let alarm = Look { over_currents: 3, ..Look::default() };
        let decision = after(&mut governor, 30, alarm);
        assert_eq!(decision, Decision { fraction: 0.5, reason: Some(Reason::OverCurrent) });
        assert_eq!(after(&mut governor, 40, alarm), decision, "it is patient");
        assert_eq!(after(&mut governor, 120, alarm), Decision::FREE, "every frame draws that peak");
        assert_eq!(after(&mut governor, 400, alarm), Decision::FREE);
        assert!(after(&mut governor, 200, alarm).fraction < 1.0, "it tries again");
    }

    #[test]
    fn over_current_that_ends_lets_the_rate_come_back() {
        let mut governor = governor();
        let alarm = Look { over_currents: 1, ..Look::default() };
        assert!(after(&mut governor, 4, alarm).fraction < 0.9);
        assert_eq!(after(&mut governor, 60, Look::default()), Decision::FREE);
    }

    #[test]
    fn a_machine_that_slept_makes_no_leap() {
        let mut governor = governor();
        let decision = governor.decide(Duration::from_secs(86_400), &margin(-3.0));
        assert!(decision.fraction >= 1.0 - FALL_PER_S * LONGEST_STEP_S);
    }

    #[test]
    fn new_settings_hold_from_the_next_look_on_and_the_rate_goes_on_from_where_it_is() {
        let mut governor = governor();
        let held = after(&mut governor, 100, margin(2.0)).fraction;
        governor.set(GovernorSettings { margin_c: 1.0, least_fraction: 0.1 });
        let next = governor.decide(SECOND, &margin(2.0)).fraction;
        assert!((next - held).abs() <= 2.0 * LEAST_CHANGE, "{held} {next}");
        assert_eq!(after(&mut governor, 3000, margin(2.0)), Decision::FREE);
    }
}
