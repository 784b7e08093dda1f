//! `wordsight board`: the board's power, heat, clocks and alarms, on one screen.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use wordsight_board::{Machine, Rail, Readings, Temperature};

use super::print::print;
use crate::bench;
use crate::governor::board_root;

/// Tells what the board says of itself: its releases and power mode, power, heat, clocks, fans and alarms.
#[derive(Debug, Args)]
pub struct BoardArgs {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Read a copy of another board's /sys, /proc, /etc and /var in this folder
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

#[derive(Serialize)]
struct Told<'a> {
    machine: &'a Machine,
    readings: &'a Readings,
    /// What the board takes in all.
    watts: Option<f64>,
    /// The zone that is nearest to where the board is slowed for it, and by how many degrees.
    hottest: Option<&'a str>,
    margin_c: Option<f64>,
    is_throttled: bool,
}

impl BoardArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let root = self.root.unwrap_or_else(board_root);
        anyhow::ensure!(
            root.is_dir(),
            "{} is no folder: --root takes one with a copy of a board's /sys and /proc",
            root.display()
        );
        let (machine, readings) = (Machine::read(&root), Readings::read(&root));
        if self.json {
            let told = Told {
                machine: &machine,
                readings: &readings,
                watts: readings.watts(),
                hottest: readings.hottest().map(|(zone, _)| zone.zone.as_str()),
                margin_c: readings.hottest().map(|(_, margin)| margin),
                is_throttled: readings.is_throttled(),
            };
            print(&(serde_json::to_string_pretty(&told)? + "\n"))?;
        } else {
            print(&table(&machine, &readings))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A row for everything that is known.
fn table(machine: &Machine, readings: &Readings) -> String {
    let mut text = String::new();
    let mut row = |name: &str, parts: Vec<Option<String>>| {
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            // A text has room for everything.
            let _ = bench::row(&mut text, name, &parts.join(", "));
        }
    };
    let cores = machine.cores.map(|cores| format!("{cores} cores"));
    let memory = machine.memory_mib.map(|mib| format!("{:.1} GiB", mib as f64 / 1024.0));
    let hardware = machine.board.clone().or_else(|| Some(machine.architecture.clone()));
    row("board", vec![hardware, machine.cpu.clone(), cores, memory]);
    row("graphics", machine.gpus.iter().cloned().map(Some).collect());
    let labelled =
        |label: &str, value: &Option<String>| value.as_ref().map(|value| format!("{label} {value}"));
    row(
        "software",
        vec![
            labelled("JetPack", &machine.jetpack),
            labelled("L4T", &machine.l4t),
            labelled("NVIDIA driver", &machine.nvidia_driver),
            machine.os.clone(),
            labelled("Linux", &machine.kernel),
        ],
    );
    row("power mode", vec![machine.power_mode.clone(), labelled("CPU governor", &machine.governor)]);
    row("clocks", vec![cpu_clocks(machine, readings), gpu_clock(machine, readings), memory_clock(readings)]);
    let in_all = readings.watts().map(|watts| format!("{watts:.1} W in all"));
    row(
        "power",
        std::iter::once(in_all).chain(readings.rails.iter().map(|rail| Some(rail_of(rail)))).collect(),
    );
    row("heat", readings.temperatures.iter().map(|zone| Some(zone_of(zone))).collect());
    let hottest = readings.hottest().map(|(zone, margin)| {
        let zone = short(&zone.zone);
        format!("{margin:.0} degrees until the board is slowed ({zone})")
    });
    let throttled = readings.is_throttled().then(|| "THE BOARD IS SLOWED for heat now".to_owned());
    row("margin", vec![hottest, throttled]);
    row(
        "fan",
        readings
            .fans
            .iter()
            .map(|fan| {
                let percent = fan.percent.map(|percent| format!("{percent:.0} %"));
                let rpm = fan.rpm.map(|rpm| format!("{rpm} rpm"));
                Some([percent, rpm].into_iter().flatten().collect::<Vec<_>>().join(" at "))
            })
            .collect(),
    );
    row("alarms", alarms(readings));
    let available = readings
        .memory_available_mib
        .map(|mib| format!("{:.1} GiB of memory available", mib as f64 / 1024.0));
    let load = readings.load_average.map(|load| format!("{load:.1} processes want to run"));
    row("load", vec![available, load]);
    text
}

/// "CPU 729 to 1510 of 1728 MHz".
fn cpu_clocks(machine: &Machine, readings: &Readings) -> Option<String> {
    let (slowest, fastest) = (readings.cpu_mhz.iter().min()?, readings.cpu_mhz.iter().max()?);
    let range = if slowest == fastest { String::new() } else { format!("{slowest} to ") };
    Some(format!("CPU {range}{fastest}{} MHz", of_limit(machine.cpu_limit_mhz)))
}

fn gpu_clock(machine: &Machine, readings: &Readings) -> Option<String> {
    let load = readings.gpu_load_percent.map_or_else(String::new, |load| format!(" ({load:.0} % busy)"));
    Some(format!("GPU {}{} MHz{load}", readings.gpu_mhz?, of_limit(machine.gpu_limit_mhz)))
}

fn memory_clock(readings: &Readings) -> Option<String> {
    readings.memory_mhz.map(|mhz| format!("memory {mhz} MHz"))
}

fn of_limit(limit: Option<u32>) -> String {
    limit.map_or_else(String::new, |limit| format!(" of {limit}"))
}

fn rail_of(rail: &Rail) -> String {
    let watts =
        rail.milliwatts.map_or_else(|| "?".to_owned(), |mw| format!("{:.1} W", f64::from(mw) / 1000.0));
    let volts = rail.millivolts.map_or_else(String::new, |mv| format!(" at {:.1} V", f64::from(mv) / 1000.0));
    format!("{} {watts}{volts}", rail.name)
}

fn zone_of(zone: &Temperature) -> String {
    format!("{} {:.0} °C", short(&zone.zone), zone.celsius)
}

fn short(zone: &str) -> &str {
    zone.trim_end_matches("-thermal").trim_end_matches("_thermal").trim_end_matches("-therm")
}

fn alarms(readings: &Readings) -> Vec<Option<String>> {
    let of = |count: u64| if count == 0 { "never".to_owned() } else { format!("{count} times") };
    let over =
        readings.over_currents.iter().map(|alarm| format!("{}: {}", alarm.meaning(), of(alarm.events)));
    let cores = readings.core_throttles.map(|count| format!("cores slowed for heat: {}", of(count)));
    over.chain(cores).map(Some).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wordsight_board::fixtures::Board;

    use super::*;

    fn table_of(board: Board) -> String {
        let root = tempfile::tempdir().unwrap();
        board.write(root.path()).unwrap();
        table(&Machine::read(root.path()), &Readings::read(root.path()))
    }

    /// A text without its lines.
    fn words(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_jetson_tells_everything_on_one_screen() {
        let table = table_of(Board::OrinNano);
        for told in [
            "JetPack 6.2, L4T R36.4.3",
            "power mode   MAXN_SUPER",
            "CPU 1510 of 1728 MHz, GPU 624 of 1020 MHz (97 % busy)",
            "9.3 W in all, VDD_IN 9.3 W at 5.0 V",
            "gpu 54 °C",
            "45 degrees until the board is slowed (gpu)",
            "24 % at 2140 rpm",
            "the supply's voltage was too low: never",
            "too much current for a moment: 37 times",
        ] {
            assert!(words(&table).contains(&words(told)), "{told}:\n{table}");
        }
        assert!(
            table.lines().count() <= 24 && table.lines().all(|line| line.chars().count() <= 100),
            "{table}"
        );
    }

    #[test]
    fn a_pc_tells_what_it_has_and_no_row_is_empty() {
        let table = table_of(Board::Pc);
        assert!(
            table.contains("NVIDIA RTX A2000") && words(&table).contains("cores slowed for heat: 7 times"),
            "{table}"
        );
        assert!(!table.contains("power mode") && !table.contains("JetPack"), "{table}");
        assert!(table.lines().all(|line| line.trim().len() > 13), "{table}");
    }

    #[test]
    fn a_board_that_is_slowed_says_so_aloud() {
        let root = tempfile::tempdir().unwrap();
        Board::OrinNano.write(root.path()).unwrap();
        std::fs::write(root.path().join("sys/class/thermal/cooling_device2/cur_state"), "4\n").unwrap();
        let table = table(&Machine::read(root.path()), &Readings::read(root.path()));
        assert!(table.contains("THE BOARD IS SLOWED"), "{table}");
    }
}
