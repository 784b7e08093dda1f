//! A report as a table for a terminal of a hundred columns.
//!
//! A row whose values are unknown is left out: a PC has no power mode, and a dash for it would say nothing.

use std::fmt;

use wordsight_board::{Look, Machine, Readings};

use super::report::{Report, Settings};
use crate::governor::Governed;

/// The columns of a terminal that everybody has.
const COLUMNS: usize = 100;
/// Of a row's name.
const NAME: usize = 13;
/// Growth of the age over a run below which it counts as flat, percent.
const FLAT_PERCENT: f64 = 5.0;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_rate(f)?;
        writeln!(f)?;
        self.write_stages(f)?;
        writeln!(f)?;
        self.write_costs(f)?;
        writeln!(f)?;
        for (name, value) in self.settings.rows() {
            row(f, name, &value)?;
        }
        let program = format!("wordsight {}", self.wordsight);
        for (name, value) in machine_rows(&self.machine, program, self.settings.engine_version.as_deref()) {
            row(f, name, &value)?;
        }
        self.write_readings(f)
    }
}

impl Report {
    fn write_rate(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { mode, camera_fps, warm_up_seconds, .. } = &self.settings;
        let rate = camera_fps.map_or_else(String::new, |fps| format!(" at {fps} frames/s"));
        let (started, seconds) = (&self.started_at, self.seconds);
        row(
            f,
            "measured",
            &format!("{mode}{rate}, {seconds:.1} s after {warm_up_seconds:.1} s of warm-up, {started}"),
        )?;
        let lost = match self.drops.total() {
            0 => "none dropped".to_owned(),
            dropped => format!("{dropped} dropped"),
        };
        row(f, "rate", &format!("{:.1} frames/s ({} frames, {lost})", self.fps, self.frames))?;
        if let Some((bare, efficiency)) = self.bare_engine_fps.zip(self.pipeline_efficiency) {
            let told = format!("{bare:.1} frames/s; the pipeline reaches {efficiency:.3} of it");
            row(f, "engine alone", &told)?;
        }
        Ok(())
    }

    fn write_stages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<NAME$}", "ms")?;
        let names = ["min", "mean", "median", "p90", "p95", "p99", "max"];
        names.iter().try_for_each(|name| write!(f, "{name:>11}"))?;
        writeln!(f)?;
        for (name, ms) in self.stages_ms.named() {
            write!(f, "{name:<NAME$}")?;
            let values = [ms.min, ms.mean, ms.median, ms.p90, ms.p95, ms.p99, ms.max];
            values.iter().try_for_each(|value| write!(f, "{value:>11.3}"))?;
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_told = |(place, count): &(&str, u64)| *count > 0 || *place != "governor";
        let drops = self.drops.named().into_iter().filter(is_told);
        let drops: Vec<String> = drops.map(|(place, count)| format!("{place} {count}")).collect();
        row(f, "dropped", &drops.join(", "))?;
        let growth = self.age.growth_percent();
        let verdict = match growth {
            growth if growth > FLAT_PERCENT => "it grows",
            growth if growth < -FLAT_PERCENT => "it shrinks",
            _ => "flat",
        };
        let (first, last) = (self.age.first_tenth_ms, self.age.last_tenth_ms);
        row(
            f,
            "age",
            &format!(
                "{first:.2} ms in the first tenth, {last:.2} ms in the last ({growth:+.1} %): {verdict}"
            ),
        )?;
        if let Some(cpu) = &self.cpu {
            let (one, all) = (cpu.percent_of_one_core, cpu.percent_of_all_cores);
            row(f, "processor", &format!("{one:.0} % of one core, {all:.0} % of all"))?;
        }
        if let Some(memory) = &self.memory {
            let (resident, peak) = (memory.resident_mib, memory.peak_mib);
            row(f, "memory", &format!("{resident:.0} MiB resident, {peak:.0} MiB at its peak"))?;
        }
        if let Some(allocations) = &self.allocations {
            let (per_frame, total, frames) = (allocations.per_frame, allocations.total, allocations.frames);
            row(f, "allocations", &format!("{} a frame ({total} in {frames} frames)", short(per_frame)))?;
        }
        Ok(())
    }

    fn write_readings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (&self.readings.start, &self.readings.end);
        let clocks: Vec<String> = [cpu_clocks(end), gpu_clock(end)].into_iter().flatten().collect();
        if !clocks.is_empty() {
            row(f, "clocks", &format!("{}, at the end", clocks.join("; ")))?;
        }
        let heat: Vec<String> = (end.temperatures.iter())
            .map(|after| {
                let before = start.temperatures.iter().find(|before| before.zone == after.zone);
                let before = before.map_or_else(String::new, |before| format!("{:.0} to ", before.celsius));
                let zone = after.zone.trim_end_matches("-thermal").trim_end_matches("_thermal");
                format!("{zone} {before}{:.0} °C", after.celsius)
            })
            .collect();
        if !heat.is_empty() {
            row(f, "heat", &heat.join(", "))?;
        }
        if let Some((before, after)) = start.watts().zip(end.watts()) {
            row(f, "takes", &format!("{before:.1} to {after:.1} W"))?;
        }
        let look = Look::between(start, end);
        if look.over_currents > 0 {
            row(
                f,
                "over-current",
                &format!("{} alarms meanwhile, each of which lowers clocks", look.over_currents),
            )?;
        }
        if look.is_throttled {
            row(f, "throttled", "for heat: other runs are comparable only if they were, too")?;
        }
        if let Some(governed) = &self.governed {
            let Governed { seconds, least_fps, reason } = governed;
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            row(
                f,
                "governor",
                &format!("held the stream back for {seconds:.0} s, to {least_fps:.1} frames/s{reason}"),
            )?;
        }
        if let Some((before, after)) = start.load_average.zip(end.load_average) {
            row(f, "load", &format!("{before:.1} before, {after:.1} after (processes, of the last minute)"))?;
        }
        Ok(())
    }
}

impl Settings {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let threads = match self.threads {
            None => String::new(),
            Some(1) => ", 1 thread".to_owned(),
            Some(threads) => format!(", {threads} threads"),
        };
        let frame = &self.frame;
        let sha256 = self.student.sha256.get(..12).unwrap_or(&self.student.sha256);
        vec![
            ("engine", format!("{}, {}{threads}", self.engine, self.precision)),
            ("student", format!("{} (sha256 {sha256})", self.student.file)),
            ("vocabulary", format!("{} ({} words)", self.vocabulary.file, self.vocabulary.words)),
            ("source", format!("{}, {}x{} {}", self.source, frame.width, frame.height, frame.format)),
        ]
    }
}

fn machine_rows(
    machine: &Machine,
    program: String,
    engine_version: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut cores = machine.cores.map(|cores| format!("{cores} cores"));
    if let Some((cores, allowed)) = cores.as_mut().zip(machine.cores_allowed) {
        cores.push_str(&format!(" ({allowed} of them allowed)"));
    }
    let memory = machine.memory_mib.map(|mib| format!("{:.1} GiB", mib as f64 / 1024.0));
    let hardware =
        [machine.board.clone(), machine.cpu.clone(), cores, memory, Some(machine.architecture.clone())];
    let kernel = machine.kernel.as_ref().map(|kernel| format!("Linux {kernel}"));
    let l4t = machine.l4t.as_ref().map(|release| format!("L4T {release}"));
    let jetpack = machine.jetpack.as_ref().map(|release| format!("JetPack {release}"));
    let software =
        [Some(program), engine_version.map(str::to_owned), jetpack, l4t, machine.os.clone(), kernel];
    let driver = machine.nvidia_driver.as_ref().map(|version| format!("driver {version}"));
    let cards = machine.gpus.iter().cloned().map(Some).chain([driver]);
    let mode = machine.power_mode.as_ref().map(|mode| format!("power mode {mode}"));
    let governor = machine.governor.as_ref().map(|governor| format!("governor {governor}"));
    let limit = |what, limit: Option<u32>| limit.map(|mhz| format!("{what} up to {mhz} MHz"));
    let power = [mode, governor, limit("CPU", machine.cpu_limit_mhz), limit("GPU", machine.gpu_limit_mhz)];
    let rows = [
        ("machine", joined(hardware)),
        ("graphics", joined(cards)),
        ("software", joined(software)),
        ("power", joined(power)),
    ];
    rows.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

fn joined(parts: impl IntoIterator<Item = Option<String>>) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// "CPU 6 cores at 1510 MHz", or from the slowest core's to the fastest's.
fn cpu_clocks(readings: &Readings) -> Option<String> {
    let (slowest, fastest) = (readings.cpu_mhz.iter().min()?, readings.cpu_mhz.iter().max()?);
    Some(if slowest == fastest {
        format!("CPU {fastest} MHz")
    } else {
        format!("CPU {slowest} to {fastest} MHz")
    })
}

fn gpu_clock(readings: &Readings) -> Option<String> {
    let load = readings.gpu_load_percent.map_or_else(String::new, |load| format!(" ({load:.0} % busy)"));
    Some(format!("GPU {} MHz{load}", readings.gpu_mhz?))
}

/// A number that may be 0, hundredths or thousands.
fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 10.0 => format!("{value:.2}"),
        value => format!("{value:.0}"),
    }
}

/// A name and a value, whose words go on in the next line where there is no room.
pub fn row(f: &mut impl fmt::Write, name: &str, value: &str) -> fmt::Result {
    write!(f, "{name:<NAME$}")?;
    let mut column = NAME;
    for (at, word) in value.split(' ').enumerate() {
        let width = word.chars().count();
        if at > 0 && column + 1 + width > COLUMNS {
            write!(f, "\n{:<NAME$}", "")?;
            column = NAME;
        } else if at > 0 {
            write!(f, " ")?;
            column += 1;
        }
        write!(f, "{word}")?;
        column += width;
    }
    writeln!(f)
}
