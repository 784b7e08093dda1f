#![allow(clippy::unwrap_used)]
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;
use wordsight_board::fixtures::Board;

use super::*;
use crate::config::{ChosenCameras, ConfigError};
use crate::service::{CAMERAS, GPUS, devices};

/// 2026-01-01.
const NOW_S: u64 = 1_767_225_600;

fn device(root: &Path) -> Device {
    Device {
        file: Some("/etc/wordsight/wordsight.toml".into()),
        configured: Err(ConfigError::NotAPhotograph("none".into())),
        others: Vec::new(),
        chosen: ChosenCameras::default(),
        root: root.to_owned(),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_S),
    }
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn orin() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    Board::OrinNano.write(root.path()).unwrap();
    root
}

/// What is found about something, as state and text.
fn about(root: &Path, what: &str) -> (State, String) {
    let found = examine(&device(root)).into_iter().find(|finding| finding.about == what);
    let finding = found.unwrap_or_else(|| Finding::ok("nothing", ""));
    (finding.state, format!("{} {}", finding.found, finding.todo.unwrap_or_default()))
}

#[test]
fn a_configuration_that_is_wrong_leaves_the_rest_to_be_looked_at() {
    let root = orin();
    let findings = examine(&device(root.path()));
    assert_eq!((findings[0].about, findings[0].state), ("configuration", State::Wrong));
    let about: Vec<&str> = findings.iter().map(|finding| finding.about).collect();
    assert_eq!(
        about,
        [
            "configuration",
            "permissions",
            "releases",
            "TensorRT",
            "power mode",
            "heat",
            "disk",
            "clock",
            "service"
        ]
    );
}

#[test]
fn a_service_user_without_cameras_is_told_its_groups() {
    let root = orin();
    write(root.path(), "etc/passwd", "root:x:0:0::/root:/bin/sh\nwordsight:x:990:990::/:/usr/sbin/nologin\n");
    write(root.path(), "etc/group", "video:x:44:ubuntu,wordsight\nrender:x:109:ubuntu\n");
    let (state, told) = about(root.path(), "permissions");
    assert_eq!(state, State::Wrong);
    assert!(
        told.contains("not in the group render") && told.contains("usermod -aG render wordsight"),
        "{told}"
    );
    write(root.path(), "etc/group", "video:x:44:wordsight\nrender:x:109:ubuntu,wordsight\n");
    assert_eq!(about(root.path(), "permissions").0, State::Ok);
}

#[test]
fn the_devices_that_cuda_opens_on_an_orin_are_looked_at() {
    let root = orin();
    let nodes = [
        "dri/card0",
        "dri/renderD128",
        "host1x-fence",
        "null",
        "nvgpu/igpu0/ctrl",
        "nvhost-gpu",
        "nvmap",
        "video0",
    ];
    nodes.iter().for_each(|node| write(root.path(), &format!("dev/{node}"), ""));
    let dev = root.path().join("dev");
    let found = devices(&dev, &[CAMERAS, GPUS].concat());
    let expected: Vec<_> = nodes
        .iter()
        .filter(|node| !["dri/card0", "null"].contains(node))
        .map(|node| dev.join(node))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_jetpack_that_is_too_old_says_which_one_to_take() {
    let root = orin();
    assert_eq!(about(root.path(), "releases"), (State::Ok, "JetPack 6.2, L4T R36.4.3 ".to_owned()));
    // The oldest whose TensorRT is 10 is JetPack 6.1.
    for (release, revision, expected) in [
        ("R32", "7.1", State::Wrong),
        ("R35", "5.0", State::Wrong),
        ("R36", "3.0", State::Warning),
        ("R36", "4.0", State::Ok),
        ("R38", "2.1", State::Ok),
    ] {
        let text = format!("# {release} (release), REVISION: {revision}, GCID: 1\n");
        write(root.path(), "etc/nv_tegra_release", &text);
        let (state, told) = about(root.path(), "releases");
        assert_eq!(state, expected, "{told}");
        assert!(state == State::Ok || told.contains("JetPack 6.1 or newer"), "{told}");
    }
}

#[test]
fn a_power_mode_that_holds_clocks_back_is_told_with_the_number_of_the_one_that_does_not() {
    let root = orin();
    assert_eq!(about(root.path(), "power mode").1, "MAXN_SUPER ");
    write(root.path(), "var/lib/nvpmodel/status", "pmode:0001\n");
    assert_eq!(about(root.path(), "power mode").1, "25W; `sudo nvpmodel -m 2` sets MAXN_SUPER, the fastest ");
    // An Orin Nano of before JetPack 6.2 has no such mode.
    write(root.path(), "etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >\n");
    assert_eq!(about(root.path(), "power mode").1, "7W ");
    let root = tempfile::tempdir().unwrap();
    Board::AgxOrin.write(root.path()).unwrap();
    let told = about(root.path(), "power mode").1;
    assert!(told.starts_with("MODE_30W; `sudo nvpmodel -m 0` sets MAXN,"), "{told}");
}

#[test]
fn heat_and_a_weak_supply_are_warned_of() {
    let root = orin();
    assert_eq!(about(root.path(), "heat").0, State::Ok);
    assert_eq!(about(root.path(), "supply").1, " ", "nothing to say");
    write(root.path(), "sys/class/thermal/thermal_zone1/temp", "96000\n");
    assert_eq!(about(root.path(), "heat").0, State::Warning);
    write(root.path(), "sys/class/thermal/cooling_device2/cur_state", "3\n");
    assert!(about(root.path(), "heat").1.contains("is slowed for heat"));
    write(root.path(), "sys/class/hwmon/hwmon3/oc1_event_cnt", "12\n");
    let (state, told) = about(root.path(), "supply");
    assert!(
        state == State::Warning && told.contains("12 times") && told.contains("stronger supply"),
        "{told}"
    );
}

#[test]
fn a_clock_that_was_never_set_is_wrong_and_one_that_was_not_compared_is_warned_of() {
    let root = orin();
    let of = |now_s| system::clock(root.path(), SystemTime::UNIX_EPOCH + Duration::from_secs(now_s)).state;
    assert_eq!((of(86_400), of(NOW_S)), (State::Wrong, State::Ok));
    fs::create_dir_all(root.path().join("run/systemd/timesync")).unwrap();
    assert_eq!(of(NOW_S), State::Warning);
    write(root.path(), "run/systemd/timesync/synchronized", "");
    assert_eq!(of(NOW_S), State::Ok);
}

#[test]
fn a_service_says_how_it_is_and_one_that_says_nothing_any_more_is_wrong() {
    let root = orin();
    let health = |state: &str, age_s: u64| {
        let health = json!({
            "state": state, "for_s": 12.0, "reason": "unplugged", "published": 7, "written_at": NOW_S - age_s,
            "engine": {"name": "TensorRT 10.3.0 (fp16)"},
            "reload": {"last_error": "line 3 is wrong"}, "governor": {"limit_fps": 7.5, "reason": "hot"},
        });
        write(root.path(), "run/wordsight/health.json", &health.to_string());
        about(root.path(), "service")
    };
    assert_eq!(about(root.path(), "service").0, State::Ok, "not installed");
    write(root.path(), "usr/lib/systemd/system/wordsight.service", "");
    let (state, told) = about(root.path(), "service");
    assert!(state == State::Warning && told.contains("systemctl enable --now wordsight"), "{told}");
    assert_eq!(
        health("running", 1),
        (State::Ok, "running by TensorRT 10.3.0 (fp16), 7 frames published ".to_owned())
    );
    let (state, told) = health("lost", 1);
    assert!(state == State::Wrong && told.contains("unplugged"), "{told}");
    assert!(about(root.path(), "reload").1.contains("line 3 is wrong"));
    assert!(about(root.path(), "governor").1.contains("held back to 7.5 frames/s (hot)"));
    let (state, told) = health("running", 60);
    assert!(state == State::Wrong && told.contains("60 s ago"), "{told}");
}

#[test]
fn a_full_disk_is_found_by_the_nearest_folder_that_exists() {
    let root = orin();
    let finding = system::disk(root.path(), &["/proc/nothing/here".into()]);
    assert!(finding.state == State::Wrong && finding.found.contains("0.0 GiB"), "{finding:?}");
}
