//! What each board says of itself, from files as it has them.
#![cfg(feature = "fixtures")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use wordsight_board::fixtures::Board;
use wordsight_board::{Look, Machine, Process, Readings, Sampler};

fn of(board: Board) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    board.write(root.path()).unwrap();
    root
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn zones(readings: &Readings) -> Vec<&str> {
    readings.temperatures.iter().map(|zone| zone.zone.as_str()).collect()
}

fn rails(readings: &Readings) -> Vec<(&str, Option<i32>)> {
    readings.rails.iter().map(|rail| (rail.name.as_str(), rail.milliwatts)).collect()
}

#[test]
fn every_board_tells_its_name_releases_and_power_mode() {
    let expected = [
        (
            Board::OrinNano,
            Some("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"),
            Some("R36.4.3"),
            Some("6.2"),
            Some("MAXN_SUPER"),
            "ARM Cortex-A78AE",
        ),
        (
            Board::OrinNx,
            Some("NVIDIA Orin NX Developer Kit"),
            Some("R35.5.0"),
            Some("5.1.3"),
            Some("25W"),
            "ARM Cortex-A78AE",
        ),
        (
            Board::AgxOrin,
            Some("NVIDIA Jetson AGX Orin Developer Kit"),
            Some("R36.3.0"),
            Some("6.0"),
            Some("MODE_30W"),
            "ARM Cortex-A78AE",
        ),
        (
            Board::Thor,
            Some("NVIDIA Jetson AGX Thor Developer Kit"),
            Some("R38.2.1"),
            Some("7.0"),
            Some("120W"),
            "ARM Neoverse V3AE",
        ),
        (Board::Pc, None, None, None, None, "Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz"),
    ];
    for (board, model, l4t, jetpack, mode, cpu) in expected {
        let root = of(board);
        let machine = Machine::read(root.path());
        assert_eq!(machine.board.as_deref(), model, "without the device tree's zero");
        assert_eq!(machine.l4t.as_deref(), l4t, "{board:?}");
        assert_eq!(machine.jetpack.as_deref(), jetpack, "{board:?}");
        assert_eq!(machine.power_mode.as_deref(), mode, "{board:?}");
        assert_eq!(machine.cpu.as_deref(), Some(cpu), "{board:?}");
    }
}

#[test]
fn a_jetsons_clocks_are_those_of_its_processor_gpu_and_memory() {
    let clocks = |board| {
        let root = of(board);
        let (machine, readings) = (Machine::read(root.path()), Readings::read(root.path()));
        let cpu = (readings.cpu_mhz.len(), readings.cpu_mhz.first().copied());
        (cpu, machine.cpu_limit_mhz, machine.gpu_limit_mhz, readings.gpu_mhz, readings.memory_mhz)
    };
    assert_eq!(clocks(Board::OrinNano), ((6, Some(1510)), Some(1728), Some(1020), Some(624), None));
    assert_eq!(clocks(Board::OrinNx), ((8, Some(729)), Some(1497), Some(408), Some(408), Some(3199)));
    assert_eq!(clocks(Board::AgxOrin), ((8, Some(1728)), Some(1728), Some(612), Some(612), None));
    assert_eq!(clocks(Board::Thor), ((14, Some(972)), Some(2601), Some(1386), Some(1386), Some(4266)));
    assert_eq!(clocks(Board::Pc), ((2, Some(1800)), None, None, None, None), "the kernel's estimate");
    let load = |board| Readings::read(of(board).path()).gpu_load_percent;
    assert_eq!((load(Board::OrinNano), load(Board::Thor)), (Some(97.3), None));
}

#[test]
fn only_sensors_that_answer_have_a_temperature() {
    let zones_of = |board| zones(&Readings::read(of(board).path())).join(" ");
    assert_eq!(
        zones_of(Board::OrinNano),
        "cpu-thermal gpu-thermal soc0-thermal soc1-thermal soc2-thermal tj-thermal"
    );
    assert_eq!(zones_of(Board::OrinNx), "CPU-therm GPU-therm SOC0-therm tj-thermal");
    assert_eq!(zones_of(Board::Thor), "cpu-thermal soc012-thermal soc345-thermal tj-thermal");
    assert_eq!(zones_of(Board::Pc), "acpitz x86_pkg_temp");
}

#[test]
fn an_orin_is_slowed_at_99_degrees_and_only_warns_of_its_surface_at_70() {
    let readings = Readings::read(of(Board::OrinNano).path());
    let cpu = &readings.temperatures[0];
    assert_eq!((cpu.throttles_at, cpu.shuts_down_at), (Some(99.0), Some(104.5)));
    let junction = readings.temperatures.last().unwrap();
    assert_eq!(
        (junction.throttles_at, junction.shuts_down_at),
        (None, Some(104.5)),
        "its other one is the fan's"
    );
    let (hottest, margin) = readings.hottest().unwrap();
    assert_eq!(hottest.zone.as_str(), "gpu-thermal");
    assert!((margin - 45.313).abs() < 1e-9);
}

#[test]
fn a_trip_point_that_nothing_is_bound_to_counts_when_that_is_so_of_all() {
    let root = tempfile::tempdir().unwrap();
    let zone =
        |name: &str, text: &str| write(root.path(), &format!("sys/class/thermal/thermal_zone0/{name}"), text);
    zone("type", "cpu-thermal\n");
    zone("temp", "50000\n");
    zone("trip_point_0_type", "passive\n");
    zone("trip_point_0_temp", "85000\n");
    zone("trip_point_1_type", "hot\n");
    zone("trip_point_1_temp", "95000\n");
    let throttles_at = || Readings::read(root.path()).temperatures[0].throttles_at;
    assert_eq!(throttles_at(), Some(85.0));
    zone("cdev0/type", "cpufreq-cpu0\n");
    zone("cdev0_trip_point", "1\n");
    assert_eq!(throttles_at(), Some(95.0));
    zone("cdev0_trip_point", "-1\n");
    assert_eq!(throttles_at(), Some(85.0), "bound to none");
}

#[test]
fn rails_tell_their_power_and_what_the_board_takes_in_all() {
    let readings = |board| Readings::read(of(board).path());
    let nano = readings(Board::OrinNano);
    assert_eq!(
        rails(&nano),
        [("VDD_IN", Some(9309)), ("VDD_CPU_GPU_CV", Some(3205)), ("VDD_SOC", Some(1602))]
    );
    assert_eq!(nano.rails[0].critical_milliamperes, Some(4984));
    assert_eq!(nano.watts(), Some(9.309));
    let agx = readings(Board::AgxOrin);
    let expected =
        [("VDD_GPU_SOC", 6307), ("VDD_CPU_CV", 1578), ("VIN_SYS_5V0", 4757), ("VDDQ_VDD2_1V8AO", 1006)];
    assert_eq!(
        rails(&agx),
        expected.map(|(name, power)| (name, Some(power))),
        "and none that isn't connected"
    );
    assert_eq!(
        agx.watts().map(|watts| (watts * 1000.0).round()),
        Some(12642.0),
        "VDDQ is fed by VIN_SYS_5V0"
    );
    let thor = readings(Board::Thor);
    assert_eq!(thor.rails.last().map(|rail| rail.name.as_str()), Some("VIN"));
    assert_eq!(thor.watts(), Some(29.19), "microwatts");
    assert_eq!(readings(Board::Pc).watts(), None);
}

#[test]
fn rails_of_jetpack_4_are_found_as_well() {
    let root = tempfile::tempdir().unwrap();
    let device = |name: &str, text: &str| {
        write(root.path(), &format!("sys/bus/iio/devices/iio:device0/{name}"), text);
    };
    device("rail_name_0", "VDD_IN\n");
    device("in_power0_input", "4210\n");
    device("in_voltage0_input", "4960\n");
    device("in_current0_input", "849\n");
    device("crit_current_limit_0", "3600 ma\n");
    let readings = Readings::read(root.path());
    assert_eq!(rails(&readings), [("VDD_IN", Some(4210))]);
    assert_eq!(readings.rails[0].critical_milliamperes, Some(3600));
    assert_eq!(readings.watts(), Some(4.21));
}

#[test]
fn a_fan_has_a_drive_and_a_tachometer_wherever_that_is() {
    let fan = |board| {
        let readings = Readings::read(of(board).path());
        readings.fans.first().map(|fan| (fan.percent, fan.rpm))
    };
    assert_eq!(fan(Board::OrinNano), Some((Some(24.0), Some(2140))));
    assert_eq!(fan(Board::Thor), Some((Some(23.0), Some(1786))));
    assert_eq!(fan(Board::Pc), Some((Some(50.0), Some(3041))));
    assert_eq!(fan(Board::OrinNx), None);
}

#[test]
fn alarms_and_throttling_are_seen_between_two_looks() {
    let root = of(Board::Thor);
    let sampler = Sampler::open(root.path());
    let before = sampler.read();
    let alarms: Vec<(u8, u64)> =
        before.over_currents.iter().map(|alarm| (alarm.alarm, alarm.events)).collect();
    assert_eq!(alarms, [(1, 0), (2, 8), (3, 813)]);
    write(root.path(), "sys/class/hwmon/hwmon3/oc3_event_cnt", "815\n");
    write(root.path(), "sys/class/thermal/cooling_device0/cur_state", "1\n");
    let look = Look::between(&before, &sampler.read());
    assert_eq!((look.over_currents, look.is_throttled), (2, true));
    let margin = look.margin_c.unwrap();
    assert!((margin - (114.5 - 5.5 - 55.1)).abs() < 1e-4, "below where it is switched off: {margin}");

    let root = of(Board::Pc);
    let sampler = Sampler::open(root.path());
    let before = sampler.read();
    assert_eq!(before.core_throttles, Some(7));
    assert!(!Look::between(&before, &sampler.read()).is_throttled);
    write(root.path(), "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "5\n");
    assert!(Look::between(&before, &sampler.read()).is_throttled);
}

#[test]
fn a_release_that_is_not_in_the_table_is_told_by_its_generation() {
    let root = of(Board::AgxOrin);
    let jetpack = || Machine::read(root.path()).jetpack;
    write(root.path(), "etc/nv_tegra_release", "# R36 (release), REVISION: 9.9, GCID: 1\n");
    assert_eq!(jetpack().as_deref(), Some("6.x"));
    write(root.path(), "etc/nv_tegra_release", "# R99 (release), REVISION: 1.0, GCID: 1\n");
    assert_eq!(jetpack(), None);
    let removed = "Package: nvidia-jetpack\nStatus: deinstall ok config-files\nVersion: 6.2\n";
    write(root.path(), "var/lib/dpkg/status", removed);
    assert_eq!(jetpack(), None, "removed");
}

#[test]
fn a_pc_tells_its_processor_system_memory_and_card() {
    let root = of(Board::Pc);
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
    assert_eq!((readings.memory_available_mib, readings.load_average), (Some(4000), Some(0.52)));
}

#[test]
fn cores_that_are_off_or_not_allowed_are_told() {
    let root = of(Board::OrinNano);
    write(root.path(), "sys/devices/system/cpu/online", "0-3,5\n");
    write(root.path(), "proc/self/status", "Cpus_allowed_list:\t0,2\n");
    let machine = Machine::read(root.path());
    assert_eq!((machine.cores, machine.cores_allowed), (Some(5), Some(2)));
    assert_eq!(machine.governor.as_deref(), Some("schedutil"));
}

#[test]
fn a_power_mode_without_a_name_is_told_by_its_number() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "var/lib/nvpmodel/status", "pmode:0003 fmode:quiet\npmode:0003\n");
    assert_eq!(Machine::read(root.path()).power_mode.as_deref(), Some("mode 3"));
}

#[test]
fn a_process_tells_its_time_and_memory_whatever_its_name() {
    let root = of(Board::Pc);
    let process = Process::read(root.path());
    assert_eq!(process.cpu_time, Some(Duration::from_secs(13)));
    assert_eq!((process.resident_mib, process.peak_mib), (Some(100.0), Some(200.0)));
}

#[test]
fn readings_come_back_from_json_as_they_were() {
    for board in Board::ALL {
        let readings = Readings::read(of(board).path());
        let text = serde_json::to_string(&readings).unwrap();
        assert_eq!(serde_json::from_str::<Readings>(&text).unwrap(), readings, "{text}");
    }
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
    let root = tempfile::tempdir().unwrap();
    let nonsense = "\u{0}:=,-\n : \n<>\n< POWER_MODEL >\nR\n9-1\n(\n)\npmode:x\n";
    for name in [
        "proc/cpuinfo",
        "proc/meminfo",
        "proc/loadavg",
        "proc/self/stat",
        "proc/self/status",
        "etc/nv_tegra_release",
        "etc/nvpmodel.conf",
        "var/lib/dpkg/status",
        "sys/devices/system/cpu/online",
        "sys/class/devfreq/1.gpu/cur_freq",
        "sys/class/thermal/thermal_zone0/temp",
        "sys/class/thermal/thermal_zone0/trip_point_0_type",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp",
        "sys/class/thermal/cooling_device0/cur_state",
        "sys/class/hwmon/hwmon0/pwm1",
        "sys/class/hwmon/hwmon0/oc1_event_cnt",
        "sys/class/hwmon/hwmon1/in1_input",
    ] {
        write(root.path(), name, nonsense);
    }
    write(root.path(), "var/lib/nvpmodel/status", "pmode:0000");
    write(root.path(), "sys/class/hwmon/hwmon1/name", "ina3221");
    write(root.path(), "sys/class/hwmon/hwmon1/in1_label", "VDD_IN");
    fs::write(root.path().join("sys/class/hwmon/hwmon1/curr1_input"), [0xff, 0xfe]).unwrap();
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
    assert!(Readings::read(root).memory_available_mib > Some(0));
}
