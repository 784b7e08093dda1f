//! What a measurement was taken on: what somebody else needs to get the same number.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{core_folders, gpu_folder, kib, mhz_from_hz, mhz_from_khz, number, text, value_of};

/// JetPack by the release of L4T that it came with (NVIDIA's JetPack archive). A release that isn't here is reported by its
/// generation only.
const JETPACKS: [(&str, &str); 24] = [
    ("R38.4.0", "7.1"),
    ("R38.2.1", "7.0"),
    ("R38.2.0", "7.0"),
    ("R36.5.0", "6.2.2"),
    ("R36.4.4", "6.2.1"),
    ("R36.4.3", "6.2"),
    ("R36.4.0", "6.1"),
    ("R36.3.0", "6.0"),
    ("R36.2.0", "6.0 DP"),
    ("R35.6.1", "5.1.5"),
    ("R35.6.0", "5.1.4"),
    ("R35.5.0", "5.1.3"),
    ("R35.4.1", "5.1.2"),
    ("R35.3.1", "5.1.1"),
    ("R35.2.1", "5.1"),
    ("R35.1.0", "5.0.2"),
    ("R34.1.1", "5.0.1 DP"),
    ("R34.1.0", "5.0 DP"),
    ("R32.7.6", "4.6.6"),
    ("R32.7.5", "4.6.5"),
    ("R32.7.4", "4.6.4"),
    ("R32.7.3", "4.6.3"),
    ("R32.7.2", "4.6.2"),
    ("R32.7.1", "4.6.1"),
];
/// The generation of JetPack by that of L4T.
const GENERATIONS: [(&str, &str); 6] =
    [("R32", "4"), ("R34", "5"), ("R35", "5"), ("R36", "6"), ("R38", "7"), ("R39", "7")];

/// What stays the same while a program runs.
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
    /// NVIDIA's JetPack, which came with it: "6.2".
    pub jetpack: Option<String>,
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
            cores
                .iter()
                .filter_map(|core| number::<u64>(&core.join("cpufreq").join(name)))
                .max()
                .map(mhz_from_khz)
        };
        let gpu = gpu_folder(root);
        let online = text(&root.join("sys/devices/system/cpu/online")).and_then(|list| count_of_list(&list));
        let processors = || cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let online = online.or_else(|| Some(processors()).filter(|count| *count > 0));
        let l4t = text(&root.join("etc/nv_tegra_release")).and_then(|release| l4t_release(&release));
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
            jetpack: jetpack(root, l4t.as_deref()),
            l4t,
            gpus: graphics_cards(root),
            nvidia_driver: text(&root.join("proc/driver/nvidia/version"))
                .and_then(|version| driver_version(&version)),
            power_mode: power_mode(root),
            governor: governor(&cores),
            cpu_limit_mhz: of_cores("scaling_max_freq"),
            cpu_max_mhz: of_cores("cpuinfo_max_freq"),
            gpu_limit_mhz: gpu.and_then(|gpu| number(&gpu.join("max_freq"))).map(mhz_from_hz),
            memory_mib: text(&root.join("proc/meminfo"))
                .and_then(|info| Some(kib(value_of(&info, "MemTotal", ':')?)? / 1024)),
        }
    }
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

/// JetPack as it is installed, or else as it came with this release of L4T. The package is a bundle that many boards don't
/// have: they were flashed with L4T alone.
fn jetpack(root: &Path, l4t: Option<&str>) -> Option<String> {
    let installed = text(&root.join("var/lib/dpkg/status")).and_then(|status| {
        let package = status.split("\n\n").find(|package| {
            value_of(package, "Package", ':') == Some("nvidia-jetpack")
                && value_of(package, "Status", ':').is_some_and(|status| status.ends_with(" installed"))
        })?;
        // 6.2+b77
        value_of(package, "Version", ':')?.split(['+', '-']).next().map(str::to_owned)
    });
    installed.or_else(|| {
        let l4t = l4t?;
        let exact = JETPACKS.iter().find(|(release, _)| *release == l4t);
        let generation = GENERATIONS.iter().find(|(release, _)| l4t.split('.').next() == Some(release));
        exact
            .map(|(_, jetpack)| (*jetpack).to_owned())
            .or(generation.map(|(_, jetpack)| format!("{jetpack}.x")))
    })
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
    let name = power_modes(root).into_iter().find(|mode| mode.id == id).map(|mode| mode.name);
    Some(name.unwrap_or_else(|| format!("mode {id}")))
}

/// A power mode of nvpmodel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerMode {
    /// What `nvpmodel -m` takes.
    pub id: u32,
    /// "25W", "MAXN_SUPER".
    pub name: String,
}

impl PowerMode {
    /// The mode of this board that holds no clock back, where it has one. Its number differs from board to board:
    /// an Orin Nano Super's is 2, where an AGX Orin's is 0.
    pub fn unlimited(root: &Path) -> Option<Self> {
        let modes = power_modes(root);
        let named = |name: &str| modes.iter().find(|mode| mode.name == name).cloned();
        named("MAXN_SUPER")
            .or_else(|| named("MAXN"))
            .or_else(|| modes.iter().find(|mode| mode.name.starts_with("MAXN")).cloned())
    }
}

fn power_modes(root: &Path) -> Vec<PowerMode> {
    let configuration = text(&root.join("etc/nvpmodel.conf")).unwrap_or_default();
    let mode = |line: &str| {
        // < POWER_MODEL ID=0 NAME=15W >
        let line = line.trim().strip_prefix('<')?.trim_end_matches('>').trim();
        let fields = line.strip_prefix("POWER_MODEL")?;
        let field = |name: &str| fields.split_whitespace().find_map(|field| field.strip_prefix(name));
        Some(PowerMode { id: field("ID=")?.parse().ok()?, name: field("NAME=")?.to_owned() })
    };
    configuration.lines().filter_map(mode).collect()
}

fn governor(cores: &[PathBuf]) -> Option<String> {
    let mut governors: Vec<String> =
        cores.iter().filter_map(|core| text(&core.join("cpufreq/scaling_governor"))).collect();
    governors.sort();
    governors.dedup();
    (!governors.is_empty()).then(|| governors.join(", "))
}
