//! Findings about the system: users and devices, releases, power and heat, the disk, the clock.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wordsight_board::{Machine, PowerMode, Readings};

use super::finding::Finding;
use crate::service::{CAMERAS, GPUS, devices, may_use};

/// The service's user, and the groups that cameras and GPUs belong to.
const USER: &str = "wordsight";
const GROUPS: [&str; 2] = ["video", "render"];
/// The oldest release of L4T whose TensorRT this program can call: R36.4 is JetPack 6.1, with TensorRT 10.3. JetPack 6.0
/// has 8.6.
const OLDEST_L4T: [u32; 2] = [36, 4];
/// Less free space than this is too little for a plan or a timing cache, and far less for anything at all, MiB.
const LITTLE_SPACE_MIB: u64 = 1024;
const NO_SPACE_MIB: u64 = 64;
/// A clock that is before this has never been set: 2025-11-01, seconds since 1970. The program is younger.
const EARLIEST: Duration = Duration::from_secs(1_761_955_200);

/// Whether this user, and the service's, may use cameras and GPUs.
pub fn permissions(root: &Path) -> Vec<Finding> {
    let about = "permissions";
    let mut found = Vec::new();
    let closed: Vec<String> = devices(&root.join("dev"), &[CAMERAS, GPUS].concat())
        .into_iter()
        .filter(|device| may_use(device).is_err())
        .map(|device| {
            let owner = fs::metadata(&device).ok().and_then(|device| group_of(root, device.gid()));
            format!("{} (group {})", device.display(), owner.unwrap_or_else(|| "unknown".to_owned()))
        })
        .collect();
    if !closed.is_empty() {
        found.push(Finding::warning(
            about,
            format!("this user may not use {}", closed.join(", ")),
            "add it to the group, and log in again: `sudo usermod -aG video,render $USER`",
        ));
    }
    let users = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    if users.lines().any(|line| line.split(':').next() == Some(USER)) {
        let lacks: Vec<&str> =
            GROUPS.into_iter().filter(|group| is_member(root, group) == Some(false)).collect();
        if !lacks.is_empty() {
            found.push(Finding::wrong(
                about,
                format!("the service's user {USER} is not in the group {}", lacks.join(" and ")),
                format!("`sudo usermod -aG {} {USER} && sudo systemctl restart {USER}`", lacks.join(",")),
            ));
        }
    }
    if found.is_empty() {
        found.push(Finding::ok(about, "cameras and GPUs that are here may be used"));
    }
    found
}

fn groups(root: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root.join("etc/group")).unwrap_or_default();
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}

fn group_of(root: &Path, id: u32) -> Option<String> {
    let is_it = |fields: &Vec<String>| fields.get(2).is_some_and(|gid| gid.parse() == Ok(id));
    groups(root).into_iter().find(is_it)?.into_iter().next()
}

/// Whether the service's user is in a group; nothing where there is no such group.
fn is_member(root: &Path, group: &str) -> Option<bool> {
    let fields = groups(root).into_iter().find(|fields| fields.first().is_some_and(|name| name == group))?;
    Some(fields.get(3).is_some_and(|members| members.split(',').any(|member| member == USER)))
}

/// NVIDIA's software, on a machine that has it.
pub fn releases(machine: &Machine) -> Finding {
    let about = "releases";
    let Some(l4t) = &machine.l4t else {
        let driver = machine.nvidia_driver.as_ref().map(|version| format!(", NVIDIA driver {version}"));
        let os = machine.os.as_deref().unwrap_or("an unknown system");
        return Finding::ok(about, format!("no Jetson: {os}{}", driver.unwrap_or_default()));
    };
    let jetpack = machine.jetpack.as_ref().map_or(String::new(), |jetpack| format!("JetPack {jetpack}, "));
    let numbers = l4t.trim_start_matches('R').split('.').map_while(|number| number.parse().ok());
    let release: Vec<u32> = numbers.collect();
    let found = format!("{jetpack}L4T {l4t}");
    if release.is_empty() || release[..] >= OLDEST_L4T[..] {
        Finding::ok(about, found)
    } else if release[0] == OLDEST_L4T[0] {
        let found = format!(
            "{found} has TensorRT 8.6, which this program can't call: the processor runs the student"
        );
        Finding::warning(about, found, "upgrade to JetPack 6.1 or newer")
    } else {
        Finding::wrong(
            about,
            format!("{found} is older than what this program is built for"),
            "flash JetPack 6.1 or newer",
        )
    }
}

/// Power mode, heat, and what the supply gives.
pub fn power(root: &Path, machine: &Machine, readings: &Readings) -> Vec<Finding> {
    let mut found = Vec::new();
    let (is_jetson, mode) = (machine.l4t.is_some(), machine.power_mode.as_deref());
    found.extend(match mode {
        Some(mode) if mode.starts_with("MAXN") => Some(Finding::ok("power mode", mode)),
        Some(mode) => Some(Finding::ok(
            "power mode",
            match PowerMode::unlimited(root) {
                Some(PowerMode { id, name }) => {
                    format!("{mode}; `sudo nvpmodel -m {id}` sets {name}, the fastest")
                }
                None => mode.to_owned(),
            },
        )),
        None if is_jetson => Some(Finding::warning(
            "power mode",
            "it can't be told",
            "look whether nvpmodel runs: `systemctl status nvpmodel`",
        )),
        None => None,
    });
    let hottest = readings.hottest();
    found.extend(hottest.map(|(zone, margin)| {
        let told = format!(
            "{} is at {:.0} °C, {margin:.0} degrees below where the board is slowed",
            zone.zone, zone.celsius
        );
        let todo = "give it more air or a fan, or a lower power mode";
        if readings.is_throttled() {
            Finding::warning("heat", format!("the board is slowed for heat: {told}"), todo)
        } else if margin < 5.0 {
            Finding::warning("heat", told, todo)
        } else {
            Finding::ok("heat", told)
        }
    }));
    let low_voltage = readings.over_currents.iter().find(|alarm| alarm.alarm == 1 && alarm.events > 0);
    found.extend(low_voltage.map(|alarm| {
        Finding::warning(
            "supply",
            format!("its voltage was too low {} times since the board was started, and clocks may have been lowered for it", alarm.events),
            "take a stronger supply and a shorter, thicker cable",
        )
    }));
    found
}

/// Free space where something is written; the nearest folder that exists counts.
pub fn disk(root: &Path, written: &[PathBuf]) -> Finding {
    let about = "disk";
    let own = ["var/lib/wordsight", "var/cache/wordsight"].map(|folder| root.join(folder));
    let least = own.iter().chain(written).filter_map(|folder| Some((free_mib(folder)?, folder))).min();
    let Some((free, folder)) = least else { return Finding::ok(about, "its free space can't be told") };
    let found = format!("{:.1} GiB are free for {}", free as f64 / 1024.0, folder.display());
    let todo = "make room: `sudo journalctl --vacuum-size=100M`, `sudo apt clean`, old pictures";
    if free < NO_SPACE_MIB {
        Finding::wrong(about, found, todo)
    } else if free < LITTLE_SPACE_MIB {
        Finding::warning(about, found, todo)
    } else {
        Finding::ok(about, found)
    }
}

fn free_mib(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    let path = CString::new(there.as_os_str().as_bytes()).ok()?;
    // SAFETY: all zeros are a value of it, and the call fills it.
    let mut space: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: both live while they are used.
    let answered = unsafe { libc::statvfs(path.as_ptr(), &raw mut space) } == 0;
    // The fields' types differ between systems.
    #[allow(clippy::unnecessary_cast)]
    answered.then(|| (space.f_bavail as u64).saturating_mul(space.f_frsize as u64) >> 20)
}

/// Whether the clock is set: results carry its time.
pub fn clock(root: &Path, now: SystemTime) -> Finding {
    let about = "clock";
    let todo =
        "have it set from the network: `sudo timedatectl set-ntp true`; a board without a battery forgets it";
    if now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() < EARLIEST {
        return Finding::wrong(about, "it is not set: its time is before this program was made", todo);
    }
    let timesyncd = root.join("run/systemd/timesync");
    if timesyncd.is_dir() && !timesyncd.join("synchronized").exists() {
        return Finding::warning(
            about,
            "it is set, and has not been compared with the network's since the start",
            todo,
        );
    }
    Finding::ok(about, "set")
}
