//! The readings of one moment, in types of fixed size: reading them once a second for a year allocates nothing.

use heapless::{String, Vec};

/// Of a zone, a rail, a fan. The kernel's own names for thermal zones have 19 letters at most; a longer one is cut.
pub type Name = String<24>;

/// Between the temperature at which NVIDIA's boards are switched off and that at which they are throttled: 104.5 and
/// 99 °C on an Orin. For zones that have only the first.
const SLOWED_BELOW_OFF_C: f64 = 5.5;
/// For a processor's zone that has neither.
const ASSUMED_TRIP_C: f64 = 95.0;
/// Zones of a chip that is slowed when they are hot, by the beginning of their names: those of the Jetsons.
const ZONES_OF_CHIPS: [&str; 7] = ["cpu", "gpu", "soc", "cv", "tj", "x86_pkg", "pll"];

/// What changes while a program runs.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct Readings {
    /// The clock of each core, MHz.
    pub cpu_mhz: Vec<u32, 256>,
    /// The GPU's clock, MHz.
    pub gpu_mhz: Option<u32>,
    /// The memory's clock, MHz. Only root may read it before JetPack 7.
    pub memory_mhz: Option<u32>,
    /// How busy the GPU is, percent.
    pub gpu_load_percent: Option<f64>,
    /// By thermal zone, in the system's order.
    pub temperatures: Vec<Temperature, 32>,
    /// By power rail.
    pub rails: Vec<Rail, 16>,
    /// Fans.
    pub fans: Vec<Fan, 8>,
    /// What the kernel does against heat.
    pub cooling: Vec<Cooling, 64>,
    /// What a Jetson's over-current protection counts.
    pub over_currents: Vec<OverCurrent, 4>,
    /// How often cores of a PC were slowed for heat since it was started.
    pub core_throttles: Option<u64>,
    /// Memory that programs could still have, MiB.
    pub memory_available_mib: Option<u64>,
    /// How many processes wanted to run, averaged over the last minute: an honest reading of who else is there.
    pub load_average: Option<f64>,
}

/// One thermal zone.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct Temperature {
    /// Its kind, as the system names it: "cpu-thermal".
    pub zone: Name,
    /// Degrees Celsius.
    pub celsius: f64,
    /// Where the kernel slows the board for this zone's sake, degrees Celsius.
    #[cfg_attr(feature = "std", serde(default, skip_serializing_if = "Option::is_none"))]
    pub throttles_at: Option<f64>,
    /// Where it switches the board off.
    #[cfg_attr(feature = "std", serde(default, skip_serializing_if = "Option::is_none"))]
    pub shuts_down_at: Option<f64>,
}

impl Temperature {
    /// How many degrees are left until the board is slowed; nothing for a zone that slows nothing.
    pub fn margin_c(&self) -> Option<f64> {
        let is_chip = || ZONES_OF_CHIPS.iter().any(|name| starts_with(&self.zone, name));
        let trip = self.throttles_at.or(self.shuts_down_at.map(|off| off - SLOWED_BELOW_OFF_C));
        Some(trip.or_else(|| is_chip().then_some(ASSUMED_TRIP_C))? - self.celsius)
    }
}

/// JetPack 4 writes "CPU-therm".
fn starts_with(name: &str, beginning: &str) -> bool {
    name.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

/// One power rail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct Rail {
    /// As the board names it: "VDD_IN".
    pub name: Name,
    /// Volts, in thousandths.
    pub millivolts: Option<i32>,
    /// Amperes, in thousandths. A rail that is switched off may read a little below 0.
    pub milliamperes: Option<i32>,
    /// Watts, in thousandths.
    pub milliwatts: Option<i32>,
    /// Amperes, in thousandths, above which the board is slowed at once.
    pub critical_milliamperes: Option<i32>,
}

/// One fan.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct Fan {
    /// As the system names its driver: "pwmfan".
    pub name: Name,
    /// How much it is driven, of all it could be.
    pub percent: Option<f64>,
    /// Turns a minute.
    pub rpm: Option<u32>,
}

/// One thing that the kernel can do against heat: a fan, or a clock that it lowers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct Cooling {
    /// Its kind, as the system names it: "cpufreq-cpu0", "gpu-throttle-alert".
    pub name: Name,
    /// How much of it is done, 0 for nothing.
    pub state: i64,
}

impl Cooling {
    /// Whether it makes the board slower when it is at work: a fan doesn't, nor does the warning of a hot surface, which
    /// Orins give from 70 °C on.
    pub fn slows(&self) -> bool {
        slows(&self.name)
    }
}

/// Of the names that kernels give: cpufreq-cpu0, thermal-cpufreq-0, devfreq-17000000.gpu, cpu-throttle-alert, Processor.
pub(crate) fn slows(cooling: &str) -> bool {
    cooling.contains("cpufreq")
        || cooling.contains("devfreq")
        || cooling.ends_with("throttle-alert")
        || cooling == "Processor"
}

/// What one of a Jetson's over-current alarms counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct OverCurrent {
    /// 1: the supply's voltage was too low; 2: the current was too high on average; 3: for a moment.
    pub alarm: u8,
    /// How often since the board was started.
    pub events: u64,
    /// Whether clocks are lowered for it.
    pub throttles: bool,
}

impl OverCurrent {
    /// What it means, in words (NVIDIA's Jetson Linux Developer Guide, "Over-current throttling", of the Orins).
    pub fn meaning(&self) -> &'static str {
        match self.alarm {
            1 => "the supply's voltage was too low",
            2 => "too much current on average",
            3 => "too much current for a moment",
            _ => "over-current",
        }
    }
}

impl Readings {
    /// The zone that is nearest to where the board is slowed for it, and by how many degrees.
    pub fn hottest(&self) -> Option<(&Temperature, f64)> {
        let zones = self.temperatures.iter().filter_map(|zone| Some((zone, zone.margin_c()?)));
        zones.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Whether the kernel holds clocks down for heat at this moment.
    pub fn is_throttled(&self) -> bool {
        self.cooling.iter().any(|cooling| cooling.slows() && cooling.state > 0)
    }

    /// Events of the over-current alarms that lower clocks, since the board was started.
    pub fn over_current_events(&self) -> u64 {
        self.over_currents.iter().filter(|alarm| alarm.throttles).map(|alarm| alarm.events).sum()
    }

    /// The board's total power, watts, if its rails have it.
    ///
    /// VDD_IN, VIN and POM_5V_IN are the module's or the board's input. An AGX Orin has none of them and three rails
    /// side by side, of which VDDQ_VDD2_1V8AO is fed by the third.
    pub fn watts(&self) -> Option<f64> {
        let watts = |rail: &Rail| rail.milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0);
        let inputs = ["VDD_IN", "VIN", "POM_5V_IN"];
        if let Some(input) = self.rails.iter().find(|rail| inputs.contains(&rail.name.as_str())) {
            return watts(input);
        }
        let is_agx_orin = self.rails.iter().any(|rail| rail.name == "VDD_GPU_SOC");
        let fed = |rail: &&Rail| !rail.name.starts_with("VDDQ");
        is_agx_orin.then(|| self.rails.iter().filter(fed).filter_map(watts).sum())
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(text: &str) -> Name {
        text.try_into().unwrap()
    }

    fn zone(zone: &str, celsius: f64, throttles_at: Option<f64>, shuts_down_at: Option<f64>) -> Temperature {
        Temperature { zone: name(zone), celsius, throttles_at, shuts_down_at }
    }

    #[test]
    fn the_hottest_zone_is_the_one_nearest_to_its_own_limit() {
        let readings = Readings {
            temperatures: [
                zone("cpu-thermal", 80.0, Some(99.0), Some(104.5)),
                zone("x86_pkg_temp", 70.0, Some(75.0), None),
                zone("iwlwifi_1", 94.0, None, None),
            ]
            .into_iter()
            .collect(),
            ..Readings::default()
        };
        let (hottest, margin) = readings.hottest().unwrap();
        assert_eq!((hottest.zone.as_str(), margin), ("x86_pkg_temp", 5.0));
        assert_eq!(Readings::default().hottest(), None);
    }

    #[test]
    fn a_zone_without_a_limit_of_its_own_has_one_below_where_the_board_is_switched_off_or_a_careful_one() {
        assert_eq!(zone("tj-thermal", 60.0, None, Some(104.5)).margin_c(), Some(39.0));
        assert_eq!(zone("GPU-therm", 60.0, None, None).margin_c(), Some(35.0));
        assert_eq!(zone("iwlwifi_1", 60.0, None, None).margin_c(), None);
    }

    #[test]
    fn a_fan_and_the_warning_of_a_hot_surface_are_no_throttling() {
        let with = |cooling: &str, state| Readings {
            cooling: [Cooling { name: name(cooling), state }].into_iter().collect(),
            ..Readings::default()
        };
        for harmless in ["pwm-fan", "hot-surface-alert", "Fan", "intel_powerclamp"] {
            assert!(!with(harmless, 3).is_throttled(), "{harmless}");
        }
        for slow in ["cpufreq-cpu4", "devfreq-17000000.gpu", "gpu-throttle-alert", "Processor"] {
            assert!(with(slow, 1).is_throttled() && !with(slow, 0).is_throttled(), "{slow}");
        }
    }

    #[test]
    fn an_alarm_that_lowers_no_clock_counts_for_nothing() {
        let alarm = |alarm, events, throttles| OverCurrent { alarm, events, throttles };
        let over_currents = [alarm(1, 2, true), alarm(2, 30, false), alarm(3, 4, true)];
        let readings = Readings { over_currents: over_currents.into_iter().collect(), ..Readings::default() };
        assert_eq!(readings.over_current_events(), 6);
    }
}
