//! What a machine and this process say of themselves: what somebody else needs to get the same number.
//!
//! In flow files of `/proc`, `/sys`, `/etc` and `/var`, under a root that is `/` or a test's folder; out flow
//! [`Machine`] (what stays while a run goes on), [`Readings`] (what changes: clocks, heat, load) and [`Process`] (time
//! and memory of this program).
//!
//! The one surprising thing: nothing here fails. A PC has no power mode, a virtual machine no clocks, and a sensor of
//! a sleeping Jetson answers "try again": what isn't there is absent, and a measurement never ends for it. No other
//! program is run either: `nvpmodel -q` prints what its two files say, and wants root on some releases.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Linux tells processor time in hundredths of a second, whatever the kernel's own tick (`USER_HZ`; man 5 proc).
const TICKS_PER_SECOND: f64 = 100.0;

/// What stays the same while a run goes on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The board, from its device tree: "NVIDIA Jetson Orin Nano Developer Kit".
    pub board: Option<String>,
    /// The processor.
    pub cpu: Option<String>,
    /// Cores that are switched on.
    pub cores: Option<usize>,
    /// Cores that this process may use, where the system gives it fewer (taskset, a container's cpuset).
    pub cores_allowed: Option<usize>,
    /// "x86_64", "aarch64".
    pub architecture: String,
    /// Linux' version.
    pub kernel: Option<String>,
    /// The distribution.
    pub os: Option<String>,
    /// Release of NVIDIA's software for Jetson: "R36.4.3".
    pub l4t: Option<String>,
    /// NVIDIA's graphics cards, on a machine that has such.
    pub gpus: Vec<String>,
    /// Version of NVIDIA's driver.
    pub nvidia_driver: Option<String>,
    /// nvpmodel's power mode, by name.
    pub power_mode: Option<String>,
    /// cpufreq's governor; several, with commas, where the cores differ.
    pub governor: Option<String>,
    /// The highest clock that the present settings allow, MHz; of the fastest core.
    pub cpu_limit_mhz: Option<u32>,
    /// The highest clock that the processor has, MHz.
    pub cpu_max_mhz: Option<u32>,
    /// The highest clock that the present settings allow to the GPU, MHz.
    pub gpu_limit_mhz: Option<u32>,
    /// Memory, MiB.
    pub memory_mib: Option<u64>,
}

impl Machine {
    /// Asks the machine whose file system is at `root`.
    pub fn read(root: &Path) -> Self {
        let cpuinfo = text(&root.join("proc/cpuinfo")).unwrap_or_default();
        let cores = core_folders(root);
        let of_cores = |name: &str| {
            cores.iter().filter_map(|core| number(&core.join("cpufreq").join(name))).max().map(mhz_from_khz)
        };
        let gpu = gpu_folder(root);
        let online = text(&root.join("sys/devices/system/cpu/online")).and_then(|list| count_of_list(&list));
        let processors = || cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let online = online.or_else(|| Some(processors()).filter(|count| *count > 0));
        let status = text(&root.join("proc/self/status")).unwrap_or_default();
        let allowed = value_of(&status, "Cpus_allowed_list", ':').and_then(count_of_list);
        Self {
            board: text(&root.join("proc/device-tree/model")),
            cpu: cpu_model(&cpuinfo),
            cores: online,
            cores_allowed: allowed.filter(|allowed| online.is_none_or(|online| *allowed < online)),
            architecture: std::env::consts::ARCH.to_owned(),
            kernel: text(&root.join("proc/sys/kernel/osrelease")),
            os: text(&root.join("etc/os-release")).and_then(|release| {
                Some(value_of(&release, "PRETTY_NAME", '=')?.trim_matches('"').to_owned())
            }),
            l4t: text(&root.join("etc/nv_tegra_release")).and_then(|release| l4t_release(&release)),
            gpus: graphics_cards(root),
            nvidia_driver: text(&root.join("proc/driver/nvidia/version"))
                .and_then(|version| driver_version(&version)),
            power_mode: power_mode(root),
            governor: governor(&cores),
            cpu_limit_mhz: of_cores("scaling_max_freq"),
            cpu_max_mhz: of_cores("cpuinfo_max_freq"),
            gpu_limit_mhz: gpu.and_then(|gpu| number(&gpu.join("max_freq"))).map(mhz_from_hz),
            memory_mib: text(&root.join("proc/meminfo")).and_then(|info| mib_of(&info, "MemTotal")),
        }
    }
}

/// What changes while a run goes on: taken at its start and at its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Readings {
    /// The clock of each core, MHz.
    pub cpu_mhz: Vec<u32>,
    /// The GPU's clock, MHz.
    pub gpu_mhz: Option<u32>,
    /// How busy the GPU is, percent.
    pub gpu_load_percent: Option<f64>,
    /// Degrees Celsius by thermal zone, in the system's order.
    pub temperatures: Vec<Temperature>,
    /// Memory that programs could still have, MiB.
    pub memory_available_mib: Option<u64>,
    /// How many processes wanted to run, averaged over the last minute: an honest reading of who else is there.
    pub load_average: Option<f64>,
}

/// One thermal zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// Its kind, as the system names it: "cpu-thermal".
    pub zone: String,
    /// Degrees Celsius.
    pub celsius: f64,
}

impl Readings {
    /// Asks the machine whose file system is at `root`.
    pub fn read(root: &Path) -> Self {
        let cores = core_folders(root);
        let clock = |core: &PathBuf| number(&core.join("cpufreq/scaling_cur_freq")).map(mhz_from_khz);
        let mut cpu_mhz: Vec<u32> = cores.iter().filter_map(clock).collect();
        if cpu_mhz.is_empty() {
            cpu_mhz = clocks_of_cpuinfo(&text(&root.join("proc/cpuinfo")).unwrap_or_default());
        }
        let gpu = gpu_folder(root);
        let of_gpu = |name: &str| number(&gpu.as_ref()?.join(name));
        let meminfo = text(&root.join("proc/meminfo"));
        Self {
            cpu_mhz,
            gpu_mhz: of_gpu("cur_freq").map(mhz_from_hz),
            // In thousandths.
            gpu_load_percent: of_gpu("device/load").map(|load| load as f64 / 10.0),
            temperatures: temperatures(root),
            memory_available_mib: meminfo.and_then(|info| mib_of(&info, "MemAvailable")),
            load_average: text(&root.join("proc/loadavg"))
                .and_then(|loads| loads.split_whitespace().next()?.parse().ok()),
        }
    }
}

/// Time and memory of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// Processor time of all threads, in the program and in the kernel, to a hundredth of a second.
    pub cpu_time: Option<Duration>,
    /// Memory that is resident now, MiB.
    pub resident_mib: Option<f64>,
    /// The most that ever was, MiB.
    pub peak_mib: Option<f64>,
}

impl Process {
    /// Asks the system whose file system is at `root` about the process that asks.
    pub fn read(root: &Path) -> Self {
        let status = text(&root.join("proc/self/status")).unwrap_or_default();
        let mib = |name: &str| kib_of(&status, name).map(|kib| kib as f64 / 1024.0);
        Self {
            cpu_time: text(&root.join("proc/self/stat")).and_then(|stat| cpu_time(&stat)),
            resident_mib: mib("VmRSS"),
            peak_mib: mib("VmHWM"),
        }
    }
}

/// A file's text without the white space and zeros at its ends; nothing when there is none.
fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

/// The value in the line `name: value` of a text, with any white space around both.
fn value_of<'a>(text: &'a str, name: &str, separator: char) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(separator)?;
        (key.trim() == name && !value.trim().is_empty()).then(|| value.trim())
    })
}

fn kib_of(text: &str, name: &str) -> Option<u64> {
    value_of(text, name, ':')?.strip_suffix("kB")?.trim().parse().ok()
}

fn mib_of(text: &str, name: &str) -> Option<u64> {
    Some(kib_of(text, name)? / 1024)
}

fn mhz_from_khz(khz: u64) -> u32 {
    u32::try_from(khz / 1000).unwrap_or(u32::MAX)
}

fn mhz_from_hz(hz: u64) -> u32 {
    mhz_from_khz(hz / 1000)
}

/// The folders in `folder` whose names are `prefix` and a number, in the order of these.
fn numbered(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let number = |name: &str| name.strip_prefix(prefix)?.parse::<u32>().ok();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((number(&entry.file_name().to_string_lossy())?, entry.path())))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn core_folders(root: &Path) -> Vec<PathBuf> {
    numbered(&root.join("sys/devices/system/cpu"), "cpu")
}

/// How many are in the kernel's manner of listing cores: "0-3,6".
fn count_of_list(list: &str) -> Option<usize> {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    };
    list.split(',').map(count).sum()
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let implementer = value_of(cpuinfo, "CPU implementer", ':');
    let part = value_of(cpuinfo, "CPU part", ':');
    // First, for ARM's "model name" is "ARMv8 Processor rev 1 (v8l)", whichever it is.
    let core = implementer.zip(part).and_then(|(implementer, part)| arm_core(implementer, part));
    let named = value_of(cpuinfo, "model name", ':').map(str::to_owned);
    let unnamed = || Some(format!("ARM, implementer {}, part {}", implementer?, part?));
    core.map(str::to_owned).or(named).or_else(unnamed)
}

/// The cores of the boards that this program is for, and of the servers that it is built on (the main ID register's
/// implementer and part number, as in ARM's reference manuals).
fn arm_core(implementer: &str, part: &str) -> Option<&'static str> {
    Some(match (implementer, part) {
        ("0x41", "0xd03") => "ARM Cortex-A53",
        ("0x41", "0xd07") => "ARM Cortex-A57",
        ("0x41", "0xd08") => "ARM Cortex-A72",
        ("0x41", "0xd0b") => "ARM Cortex-A76",
        ("0x41", "0xd0c") => "ARM Neoverse N1",
        ("0x41", "0xd40") => "ARM Neoverse V1",
        ("0x41", "0xd42") => "ARM Cortex-A78AE",
        ("0x41", "0xd4f") => "ARM Neoverse V2",
        ("0x41", "0xd83") => "ARM Neoverse V3AE",
        ("0x4e", "0x003") => "NVIDIA Denver 2",
        ("0x4e", "0x004") => "NVIDIA Carmel",
        _ => return None,
    })
}

/// "# R36 (release), REVISION: 4.3, GCID: ..." is R36.4.3.
fn l4t_release(release: &str) -> Option<String> {
    let (_, after) = release.split_once("# R")?;
    let major: String = after.chars().take_while(char::is_ascii_digit).collect();
    let (_, revision) = after.split_once("REVISION:")?;
    let revision = revision.split(',').next()?.trim();
    (!major.is_empty() && !revision.is_empty()).then(|| format!("R{major}.{revision}"))
}

/// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.133.20  Sun ..." has one word of numbers with dots.
fn driver_version(version: &str) -> Option<String> {
    let first = version.lines().next()?;
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    first.split_whitespace().find(is_version).map(str::to_owned)
}

fn graphics_cards(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("proc/driver/nvidia/gpus")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path().join("information")).collect();
    paths.sort();
    paths.iter().filter_map(|path| Some(value_of(&text(path)?, "Model", ':')?.to_owned())).collect()
}

/// The name of the power mode that nvpmodel set last: the number from its state, the name from its configuration.
fn power_mode(root: &Path) -> Option<String> {
    let status = text(&root.join("var/lib/nvpmodel/status"))?;
    let id: u32 = value_of(&status, "pmode", ':')?.split_whitespace().next()?.parse().ok()?;
    let configuration = text(&root.join("etc/nvpmodel.conf")).unwrap_or_default();
    let name = configuration.lines().find_map(|line| {
        // < POWER_MODEL ID=0 NAME=15W >
        let line = line.trim().strip_prefix('<')?.trim_end_matches('>').trim();
        let fields = line.strip_prefix("POWER_MODEL")?;
        let field = |name: &str| fields.split_whitespace().find_map(|field| field.strip_prefix(name));
        (field("ID=")?.parse() == Ok(id)).then(|| field("NAME="))?
    });
    Some(name.map_or_else(|| format!("mode {id}"), str::to_owned))
}

fn governor(cores: &[PathBuf]) -> Option<String> {
    let mut governors: Vec<String> =
        cores.iter().filter_map(|core| text(&core.join("cpufreq/scaling_governor"))).collect();
    governors.sort();
    governors.dedup();
    (!governors.is_empty()).then(|| governors.join(", "))
}

/// The GPU of a Jetson, which is a device whose clock the kernel steers: "17000000.gpu", before JetPack 6
/// "17000000.ga10b" and "17000000.gv11b".
fn gpu_folder(root: &Path) -> Option<PathBuf> {
    let is_gpu = |path: &PathBuf| {
        let kind = path.extension().unwrap_or_default();
        kind == "gpu" || kind == "ga10b" || kind == "gv11b" || kind == "gp10b"
    };
    let entries = fs::read_dir(root.join("sys/class/devfreq")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_gpu).min()
}

fn temperatures(root: &Path) -> Vec<Temperature> {
    let zones = numbered(&root.join("sys/class/thermal"), "thermal_zone");
    let read = |zone: PathBuf| {
        let millidegrees: f64 = text(&zone.join("temp"))?.parse().ok()?;
        let celsius = millidegrees / 1000.0;
        // A sensor that is switched off says -256 or 0 K.
        (-100.0 < celsius).then_some(Temperature { zone: text(&zone.join("type"))?, celsius })
    };
    zones.into_iter().filter_map(read).collect()
}

fn clocks_of_cpuinfo(cpuinfo: &str) -> Vec<u32> {
    let clock = |line: &str| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "cpu MHz").then(|| value.trim().parse::<f64>().ok())?
    };
    cpuinfo.lines().filter_map(clock).map(|mhz| mhz.round() as u32).collect()
}

/// User and system time, the 14th and 15th field; the second, the program's name in brackets, may have blanks in it.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    let ticks = fields.next()?? + fields.next()??;
    Some(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn machine_of(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn pc() -> tempfile::TempDir {
        let core = "model name\t: Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz\ncpu MHz\t\t: 1799.998\n";
        machine_of(&[
            ("proc/cpuinfo", &format!("processor\t: 0\n{core}\nprocessor\t: 1\n{core}")),
            ("proc/meminfo", "MemTotal:        8027196 kB\nMemFree:  100 kB\nMemAvailable:    4096000 kB\n"),
            ("proc/loadavg", "0.52 0.61 0.43 2/411 7512\n"),
            ("proc/sys/kernel/osrelease", "6.12.48+deb13-amd64\n"),
            ("etc/os-release", "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n"),
            ("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA RTX A2000\nIRQ:   1\n"),
            (
                "proc/driver/nvidia/version",
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build\nGCC version:",
            ),
            ("sys/class/thermal/thermal_zone0/type", "acpitz\n"),
            ("sys/class/thermal/thermal_zone0/temp", "27800\n"),
            ("sys/class/thermal/cooling_device0/type", "Fan\n"),
            (
                "proc/self/status",
                "Name:\twordsight\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\nCpus_allowed_list:\t0-1\n",
            ),
            (
                "proc/self/stat",
                "4242 (a (b) c) S 1 4242 4242 0 -1 4194560 900 0 0 0 1234 66 0 0 20 0 9 0 86000 1 2 3",
            ),
        ])
    }

    fn orin() -> tempfile::TempDir {
        let mut files = vec![
            ("proc/device-tree/model", "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n",
            ),
            ("sys/devices/system/cpu/online", "0-3,5\n"),
            ("proc/self/status", "Cpus_allowed_list:\t0,2\n"),
            (
                "etc/nv_tegra_release",
                "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8\n",
            ),
            (
                "etc/nvpmodel.conf",
                "# comment\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n<POWER_MODEL ID=2 NAME=MAXN_SUPER>\n< PM_CONFIG DEFAULT=0 >\n",
            ),
            ("var/lib/nvpmodel/status", "pmode:0002\n"),
            ("sys/class/devfreq/15480000.nvdec/cur_freq", "1\n"),
            ("sys/class/devfreq/17000000.gpu/cur_freq", "624750000\n"),
            ("sys/class/devfreq/17000000.gpu/max_freq", "1020000000\n"),
            ("sys/class/devfreq/17000000.gpu/device/load", "973\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "48250\n"),
            ("sys/class/thermal/thermal_zone1/type", "gpu-thermal\n"),
            ("sys/class/thermal/thermal_zone2/type", "cv0-thermal\n"),
            ("sys/class/thermal/thermal_zone2/temp", "-256000\n"),
            ("sys/class/thermal/thermal_zone10/type", "tj-thermal\n"),
            ("sys/class/thermal/thermal_zone10/temp", "49000\n"),
        ];
        for (core, clock) in [("cpu0", "729600\n"), ("cpu1", "1510400\n")] {
            for (name, text) in [
                ("scaling_cur_freq", clock),
                ("scaling_max_freq", "1510400\n"),
                ("cpuinfo_max_freq", "1728000\n"),
                ("scaling_governor", "schedutil\n"),
            ] {
                let path = format!("sys/devices/system/cpu/{core}/cpufreq/{name}");
                files.push((path.leak(), text));
            }
        }
        machine_of(&files)
    }

    #[test]
    fn a_pc_tells_its_processor_system_memory_and_card() {
        let root = pc();
        let machine = Machine::read(root.path());
        let expected = Machine {
            cpu: Some("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz".to_owned()),
            cores: Some(2),
            architecture: std::env::consts::ARCH.to_owned(),
            kernel: Some("6.12.48+deb13-amd64".to_owned()),
            os: Some("Debian GNU/Linux 13 (trixie)".to_owned()),
            gpus: vec!["NVIDIA RTX A2000".to_owned()],
            nvidia_driver: Some("570.133.20".to_owned()),
            memory_mib: Some(7839),
            ..Machine::default()
        };
        assert_eq!(machine, expected);
        let readings = Readings::read(root.path());
        assert_eq!(readings.cpu_mhz, [1800, 1800], "without cpufreq the kernel's estimate");
        assert_eq!(readings.temperatures, [Temperature { zone: "acpitz".to_owned(), celsius: 27.8 }]);
        assert_eq!((readings.memory_available_mib, readings.load_average), (Some(4000), Some(0.52)));
    }

    #[test]
    fn an_orin_tells_its_board_release_power_mode_and_clocks() {
        let root = orin();
        let machine = Machine::read(root.path());
        let board = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super";
        assert_eq!(machine.board.as_deref(), Some(board), "without the device tree's zero");
        assert_eq!(machine.cpu.as_deref(), Some("ARM Cortex-A78AE"));
        assert_eq!((machine.cores, machine.cores_allowed), (Some(5), Some(2)));
        assert_eq!(machine.l4t.as_deref(), Some("R36.4.3"));
        assert_eq!(machine.power_mode.as_deref(), Some("MAXN_SUPER"));
        assert_eq!(machine.governor.as_deref(), Some("schedutil"));
        assert_eq!((machine.cpu_limit_mhz, machine.cpu_max_mhz), (Some(1510), Some(1728)));
        assert_eq!(machine.gpu_limit_mhz, Some(1020));
    }

    #[test]
    fn an_orins_readings_have_the_gpu_and_only_the_sensors_that_answer() {
        let root = orin();
        let readings = Readings::read(root.path());
        assert_eq!(readings.cpu_mhz, [729, 1510]);
        assert_eq!((readings.gpu_mhz, readings.gpu_load_percent), (Some(624), Some(97.3)));
        let zones: Vec<&str> = readings.temperatures.iter().map(|zone| zone.zone.as_str()).collect();
        assert_eq!(zones, ["cpu-thermal", "tj-thermal"], "one has no value, one is switched off");
    }

    #[test]
    fn a_power_mode_without_a_name_is_told_by_its_number() {
        let root = machine_of(&[("var/lib/nvpmodel/status", "pmode:0003 fmode:quiet\npmode:0003\n")]);
        assert_eq!(Machine::read(root.path()).power_mode.as_deref(), Some("mode 3"));
    }

    #[test]
    fn a_process_tells_its_time_and_memory_whatever_its_name() {
        let root = pc();
        let process = Process::read(root.path());
        assert_eq!(process.cpu_time, Some(Duration::from_secs(13)));
        assert_eq!((process.resident_mib, process.peak_mib), (Some(100.0), Some(200.0)));
    }

    #[test]
    fn a_machine_that_says_nothing_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let nothing = Machine { architecture: std::env::consts::ARCH.to_owned(), ..Machine::default() };
        assert_eq!(Machine::read(root.path()), nothing);
        assert_eq!(Readings::read(root.path()), Readings::default());
        assert_eq!(Process::read(root.path()), Process::default());
    }

    #[test]
    fn files_full_of_nonsense_are_no_error_either() {
        let nonsense = "\u{0}:=,-\n : \n<>\n< POWER_MODEL >\nR\n9-1\n(\n)\npmode:x\n";
        let root = machine_of(&[
            ("proc/cpuinfo", nonsense),
            ("proc/meminfo", nonsense),
            ("proc/loadavg", nonsense),
            ("proc/self/stat", nonsense),
            ("proc/self/status", nonsense),
            ("etc/nv_tegra_release", nonsense),
            ("etc/nvpmodel.conf", nonsense),
            ("var/lib/nvpmodel/status", "pmode:0000"),
            ("sys/devices/system/cpu/online", nonsense),
            ("sys/class/thermal/thermal_zone0/temp", nonsense),
        ]);
        assert_eq!(Machine::read(root.path()).power_mode.as_deref(), Some("mode 0"));
        assert_eq!(Readings::read(root.path()), Readings::default());
        assert_eq!(Process::read(root.path()), Process::default());
    }

    #[test]
    fn this_machine_answers() {
        let root = Path::new("/");
        let machine = Machine::read(root);
        assert!(machine.kernel.is_some() && machine.cores >= Some(1) && machine.memory_mib > Some(0));
        let process = Process::read(root);
        assert!(process.cpu_time.is_some() && process.peak_mib >= process.resident_mib);
    }
}
