//! Boards to test with: the part of their `/sys`, `/proc`, `/etc` and `/var` that this crate reads, written into a
//! folder.
//!
//! Paths, names and limits are those of the real boards (kernel sources, NVIDIA's Jetson Linux Developer Guide for R36
//! and R38, listings that owners published). Clocks and temperatures are made up. None was copied from a board.

use std::fs;
use std::io;
use std::path::Path;

/// A board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Board {
    /// Jetson Orin Nano with JetPack 6.2.
    OrinNano,
    /// Jetson Orin NX with JetPack 5.1.3.
    OrinNx,
    /// Jetson AGX Orin with JetPack 6.0, of which the package is not installed.
    AgxOrin,
    /// Jetson AGX Thor with JetPack 7.0.
    Thor,
    /// A laptop of Intel's with a graphics card of NVIDIA's.
    Pc,
}

impl Board {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::OrinNano, Self::OrinNx, Self::AgxOrin, Self::Thor, Self::Pc];

    /// Writes the board's files under `root`.
    ///
    /// # Errors
    /// When one can't be written.
    pub fn write(self, root: &Path) -> io::Result<()> {
        let tree = Tree { root };
        match self {
            Self::OrinNano => orin_nano(&tree),
            Self::OrinNx => orin_nx(&tree),
            Self::AgxOrin => agx_orin(&tree),
            Self::Thor => thor(&tree),
            Self::Pc => pc(&tree),
        }
    }
}

/// A folder to write into.
struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.root.join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)
    }

    fn all(&self, files: &[(&str, &str)]) -> io::Result<()> {
        files.iter().try_for_each(|(name, text)| self.write(name, &format!("{text}\n")))
    }

    /// Files of one folder.
    fn folder(&self, folder: &str, files: &[(&str, &str)]) -> io::Result<()> {
        files
            .iter()
            .try_for_each(|(name, text)| self.write(&format!("{folder}/{name}"), &format!("{text}\n")))
    }

    fn jetson(&self, model: &str, kernel: &str, os: &str, l4t: &str, memory_kib: u64) -> io::Result<()> {
        // The device tree's strings end with a zero.
        self.write("proc/device-tree/model", &format!("{model}\0"))?;
        self.all(&[
            ("proc/sys/kernel/osrelease", kernel),
            ("etc/os-release", &format!("NAME=\"Ubuntu\"\nPRETTY_NAME=\"{os}\"")),
            ("etc/nv_tegra_release", l4t),
            (
                "proc/meminfo",
                &format!("MemTotal:       {memory_kib} kB\nMemFree: 9 kB\nMemAvailable:    4096000 kB"),
            ),
            ("proc/loadavg", "1.50 1.20 0.90 2/411 7512"),
        ])
    }

    /// Cores with their clocks, kHz: now, allowed, possible.
    fn cores(&self, part: &str, count: usize, khz: [&str; 3]) -> io::Result<()> {
        let core = |number| {
            format!(
                "processor\t: {number}\nmodel name\t: ARMv8 Processor rev 1 (v8l)\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
            )
        };
        self.write("proc/cpuinfo", &(0..count).map(core).collect::<String>())?;
        self.write("sys/devices/system/cpu/online", &format!("0-{}\n", count - 1))?;
        (0..count).try_for_each(|core| {
            let folder = format!("sys/devices/system/cpu/cpu{core}/cpufreq");
            self.folder(
                &folder,
                &[
                    ("scaling_cur_freq", khz[0]),
                    ("scaling_max_freq", khz[1]),
                    ("cpuinfo_max_freq", khz[2]),
                    ("scaling_governor", "schedutil"),
                ],
            )
        })
    }

    /// An Orin's zone: warning of a hot surface at 70 °C, slower at 99, off at 104.5. A sensor whose unit sleeps has no
    /// temperature: reading it fails.
    fn orin_zone(&self, place: usize, name: &str, millidegrees: Option<&str>) -> io::Result<()> {
        let folder = format!("sys/class/thermal/thermal_zone{place}");
        let unit = name.trim_end_matches("-thermal");
        self.folder(
            &folder,
            &[
                ("type", name),
                ("trip_point_0_type", "passive"),
                ("trip_point_0_temp", "99000"),
                ("trip_point_1_type", "critical"),
                ("trip_point_1_temp", "104500"),
                ("trip_point_2_type", "passive"),
                ("trip_point_2_temp", "70000"),
                ("cdev0/type", "hot-surface-alert"),
                ("cdev0_trip_point", "2"),
                ("cdev1/type", &format!("{unit}-throttle-alert")),
                ("cdev1_trip_point", "0"),
            ],
        )?;
        millidegrees.map_or(Ok(()), |text| self.folder(&folder, &[("temp", text)]))
    }

    /// The zone of the hottest, which drives the fan.
    fn junction(&self, place: usize, millidegrees: &str, critical: &str) -> io::Result<()> {
        self.folder(
            &format!("sys/class/thermal/thermal_zone{place}"),
            &[
                ("type", "tj-thermal"),
                ("temp", millidegrees),
                ("trip_point_0_type", "active"),
                ("trip_point_0_temp", "51000"),
                ("trip_point_1_type", "critical"),
                ("trip_point_1_temp", critical),
                ("cdev0/type", "pwm-fan"),
                ("cdev0_trip_point", "0"),
            ],
        )
    }

    fn cooling(&self, names: &[(&str, &str)]) -> io::Result<()> {
        names.iter().enumerate().try_for_each(|(place, (name, state))| {
            let folder = format!("sys/class/thermal/cooling_device{place}");
            self.folder(&folder, &[("type", name), ("cur_state", state), ("max_state", "10")])
        })
    }

    /// An INA3221 with its three channels: name, mV, mA, limit in mA.
    fn ina3221(&self, place: usize, channels: [(&str, &str, &str, &str); 3]) -> io::Result<()> {
        let folder = format!("sys/class/hwmon/hwmon{place}");
        self.folder(&folder, &[("name", "ina3221"), ("in7_label", "sum of shunt voltages")])?;
        channels.iter().zip(1..).try_for_each(|((name, mv, ma, limit), channel)| {
            self.folder(
                &folder,
                &[
                    (&format!("in{channel}_label"), name),
                    (&format!("in{channel}_input"), mv),
                    (&format!("curr{channel}_input"), ma),
                    (&format!("curr{channel}_crit"), limit),
                    (&format!("curr{channel}_max"), limit),
                ],
            )
        })
    }

    fn over_currents(&self, place: usize, events: [&str; 3]) -> io::Result<()> {
        let folder = format!("sys/class/hwmon/hwmon{place}");
        self.folder(&folder, &[("name", "soctherm_oc")])?;
        events.iter().zip(1..).try_for_each(|(events, alarm)| {
            self.folder(
                &folder,
                &[(&format!("oc{alarm}_event_cnt"), events), (&format!("oc{alarm}_throt_en"), "1")],
            )
        })
    }

    fn fan(&self, place: usize, drive: &str, rpm: &str) -> io::Result<()> {
        self.folder(&format!("sys/class/hwmon/hwmon{place}"), &[("name", "pwmfan"), ("pwm1", drive)])?;
        let tachometer = format!("sys/class/hwmon/hwmon{}", place + 1);
        self.folder(&tachometer, &[("name", "pwm_tach"), ("rpm", rpm)])
    }

    fn jetpack(&self, version: &str) -> io::Result<()> {
        self.write(
            "var/lib/dpkg/status",
            &format!(
                "Package: adduser\nStatus: install ok installed\nVersion: 3.118\n\nPackage: nvidia-jetpack\nStatus: install ok installed\nArchitecture: arm64\nVersion: {version}\n\n"
            ),
        )
    }

    fn power_mode(&self, modes: &[(&str, &str)], mode: &str) -> io::Result<()> {
        let model = |(id, name): &(&str, &str)| {
            format!("< POWER_MODEL ID={id} NAME={name} >\nCPU_ONLINE CORE_0 1\n\n")
        };
        let modes: String = modes.iter().map(model).collect();
        self.write("etc/nvpmodel.conf", &format!("# nvpmodel\n{modes}< PM_CONFIG DEFAULT=0 >\n"))?;
        self.write("var/lib/nvpmodel/status", &format!("pmode:{mode}\n"))
    }
}

const ORIN_COOLING: [(&str, &str); 6] = [
    ("cpufreq-cpu0", "0"),
    ("cpufreq-cpu4", "0"),
    ("devfreq-17000000.gpu", "0"),
    ("cpu-throttle-alert", "0"),
    ("hot-surface-alert", "0"),
    ("pwm-fan", "1"),
];

fn orin_nano(tree: &Tree<'_>) -> io::Result<()> {
    tree.jetson(
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "5.15.148-tegra",
        "Ubuntu 22.04.5 LTS",
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8",
        7_802_744,
    )?;
    tree.jetpack("6.2+b77")?;
    tree.power_mode(&[("0", "15W"), ("1", "25W"), ("2", "MAXN_SUPER")], "0002")?;
    tree.cores("0xd42", 6, ["1510400", "1728000", "1728000"])?;
    tree.all(&[
        ("sys/class/devfreq/15480000.nvdec/cur_freq", "1"),
        ("sys/class/devfreq/17000000.gpu/cur_freq", "624750000"),
        ("sys/class/devfreq/17000000.gpu/max_freq", "1020000000"),
        ("sys/class/devfreq/17000000.gpu/device/load", "973"),
    ])?;
    let zones = ["cpu", "gpu", "cv0", "cv1", "cv2", "soc0", "soc1", "soc2"];
    let degrees =
        [Some("52250"), Some("53687"), None, None, None, Some("51500"), Some("52000"), Some("51906")];
    zones.iter().zip(degrees).enumerate().try_for_each(|(place, (zone, degrees))| {
        tree.orin_zone(place, &format!("{zone}-thermal"), degrees)
    })?;
    tree.junction(8, "53687", "104500")?;
    tree.cooling(&ORIN_COOLING)?;
    tree.ina3221(
        1,
        [
            ("VDD_IN", "5016", "1856", "4984"),
            ("VDD_CPU_GPU_CV", "5008", "640", "4984"),
            ("VDD_SOC", "5008", "320", "4984"),
        ],
    )?;
    tree.over_currents(3, ["0", "0", "37"])?;
    tree.fan(4, "61", "2140")
}

fn orin_nx(tree: &Tree<'_>) -> io::Result<()> {
    tree.jetson(
        "NVIDIA Orin NX Developer Kit",
        "5.10.192-tegra",
        "Ubuntu 20.04.6 LTS",
        "# R35 (release), REVISION: 5.0, GCID: 35550185, BOARD: t186ref, EABI: aarch64, DATE: Tue Feb 20",
        15_814_000,
    )?;
    tree.jetpack("5.1.3-b29")?;
    tree.power_mode(&[("0", "MAXN"), ("1", "10W"), ("2", "15W"), ("3", "25W")], "0003")?;
    tree.cores("0xd42", 8, ["729600", "1497600", "1984000"])?;
    tree.all(&[
        ("sys/class/devfreq/17000000.ga10b/cur_freq", "408000000"),
        ("sys/class/devfreq/17000000.ga10b/max_freq", "408000000"),
        ("sys/class/devfreq/17000000.ga10b/device/load", "641"),
        ("sys/kernel/debug/bpmp/debug/clk/emc/rate", "3199000000"),
    ])?;
    // The driver of JetPack 5 tells a sleeping unit as colder than there is.
    let zones = [("CPU", "61000"), ("GPU", "60500"), ("CV0", "-256000"), ("SOC0", "59000")];
    zones.iter().enumerate().try_for_each(|(place, (zone, degrees))| {
        tree.orin_zone(place, &format!("{zone}-therm"), Some(degrees))
    })?;
    tree.junction(4, "61000", "105000")?;
    tree.cooling(&ORIN_COOLING)?;
    tree.ina3221(
        4,
        [
            ("VDD_IN", "19840", "608", "5000"),
            ("VDD_CPU_GPU_CV", "19840", "184", "5000"),
            ("VDD_SOC", "19840", "96", "5000"),
        ],
    )?;
    tree.over_currents(5, ["0", "0", "0"])
}

fn agx_orin(tree: &Tree<'_>) -> io::Result<()> {
    tree.jetson(
        "NVIDIA Jetson AGX Orin Developer Kit",
        "5.15.136-tegra",
        "Ubuntu 22.04.4 LTS",
        "# R36 (release), REVISION: 3.0, GCID: 36106755, BOARD: generic, EABI: aarch64, DATE: Thu Apr 25",
        64_350_520,
    )?;
    tree.power_mode(&[("0", "MAXN"), ("1", "MODE_15W"), ("2", "MODE_30W"), ("3", "MODE_50W")], "0002")?;
    tree.cores("0xd42", 8, ["1728000", "1728000", "2201600"])?;
    tree.all(&[
        ("sys/class/devfreq/17000000.gpu/cur_freq", "612000000"),
        ("sys/class/devfreq/17000000.gpu/max_freq", "612000000"),
        ("sys/class/devfreq/17000000.gpu/device/load", "512"),
    ])?;
    tree.orin_zone(0, "cpu-thermal", Some("47500"))?;
    tree.orin_zone(1, "gpu-thermal", Some("45218"))?;
    tree.junction(2, "47500", "104500")?;
    tree.cooling(&ORIN_COOLING)?;
    tree.ina3221(
        2,
        [
            ("VDD_GPU_SOC", "19712", "320", "32760"),
            ("VDD_CPU_CV", "19728", "80", "32760"),
            ("VIN_SYS_5V0", "5040", "944", "32760"),
        ],
    )?;
    tree.ina3221(
        3,
        [
            ("NC", "5040", "0", "32760"),
            ("VDDQ_VDD2_1V8AO", "5032", "200", "32760"),
            ("NC", "0", "0", "32760"),
        ],
    )?;
    tree.over_currents(4, ["0", "0", "0"])?;
    tree.fan(5, "0", "0")
}

fn thor(tree: &Tree<'_>) -> io::Result<()> {
    tree.jetson(
        "NVIDIA Jetson AGX Thor Developer Kit",
        "6.8.12-tegra",
        "Ubuntu 24.04.3 LTS",
        "# R38 (release), REVISION: 2.1, GCID: 42061081, BOARD: generic, EABI: aarch64, DATE: Wed Sep 10",
        128_790_092,
    )?;
    tree.jetpack("7.0-b128")?;
    tree.power_mode(&[("0", "MAXN"), ("1", "120W"), ("2", "90W"), ("3", "70W")], "0001")?;
    tree.cores("0xd83", 14, ["972000", "2601000", "2601000"])?;
    tree.all(&[
        ("sys/class/devfreq/gpu-gpc-0/cur_freq", "1386000000"),
        ("sys/class/devfreq/gpu-gpc-0/max_freq", "1386000000"),
        ("sys/class/devfreq/gpu-nvd-0/cur_freq", "1190000000"),
        ("sys/class/devfreq/bwmgr/cur_freq", "4266000000"),
        (
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.00  Release Build",
        ),
    ])?;
    // The GPU's zone answers only while the GPU is awake.
    let zones = [("cpu", Some("53700")), ("gpu", None), ("soc012", Some("55100")), ("soc345", Some("53700"))];
    zones.iter().enumerate().try_for_each(|(place, (zone, degrees))| {
        let folder = format!("sys/class/thermal/thermal_zone{place}");
        tree.folder(
            &folder,
            &[
                ("type", &format!("{zone}-thermal")),
                ("trip_point_0_type", "critical"),
                ("trip_point_0_temp", "114500"),
            ],
        )?;
        degrees.map_or(Ok(()), |degrees| tree.folder(&folder, &[("temp", degrees)]))
    })?;
    tree.junction(4, "55100", "114500")?;
    tree.cooling(&[("gpu-throttle-alert", "0"), ("cpu-throttle-alert", "0"), ("pwm-fan", "1")])?;
    tree.ina3221(
        1,
        [
            ("VDD_GPU", "19700", "261", "5060"),
            ("VDD_CPU_SOC_MSS", "19700", "330", "5060"),
            ("VIN_SYS_5V0", "4980", "1310", "9000"),
        ],
    )?;
    tree.folder(
        "sys/class/hwmon/hwmon2",
        &[
            ("name", "ina238"),
            ("in1_label", "VIN"),
            ("in1_input", "19720"),
            ("curr1_input", "1480"),
            ("power1_input", "29190000"),
        ],
    )?;
    tree.over_currents(3, ["0", "8", "813"])?;
    tree.fan(4, "58", "1786")
}

fn pc(tree: &Tree<'_>) -> io::Result<()> {
    let core = "model name\t: Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz\ncpu MHz\t\t: 1799.998\n";
    tree.all(&[
        ("proc/cpuinfo", &format!("processor\t: 0\n{core}\nprocessor\t: 1\n{core}")),
        ("proc/meminfo", "MemTotal:        8027196 kB\nMemFree:  100 kB\nMemAvailable:    4096000 kB"),
        ("proc/loadavg", "0.52 0.61 0.43 2/411 7512"),
        ("proc/sys/kernel/osrelease", "6.12.48+deb13-amd64"),
        ("etc/os-release", "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\""),
        ("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA RTX A2000\nIRQ:   1"),
        (
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build\nGCC version:",
        ),
        ("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3"),
        ("sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "4"),
        ("sys/class/thermal/thermal_zone0/type", "acpitz"),
        ("sys/class/thermal/thermal_zone0/temp", "27800"),
        ("sys/class/thermal/thermal_zone0/trip_point_0_type", "critical"),
        ("sys/class/thermal/thermal_zone0/trip_point_0_temp", "119000"),
        ("sys/class/thermal/thermal_zone1/type", "x86_pkg_temp"),
        ("sys/class/thermal/thermal_zone1/temp", "61000"),
        ("sys/class/thermal/thermal_zone1/trip_point_0_type", "passive"),
        ("sys/class/thermal/thermal_zone1/trip_point_0_temp", "0"),
        ("sys/class/hwmon/hwmon0/name", "thinkpad"),
        ("sys/class/hwmon/hwmon0/pwm1", "128"),
        ("sys/class/hwmon/hwmon0/fan1_input", "3041"),
    ])?;
    tree.cooling(&[("Processor", "0"), ("Processor", "0"), ("intel_powerclamp", "-1")])?;
    // Written as the kernel does it, with what a name may have in it.
    tree.write(
        "proc/self/status",
        "Name:\twordsight\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\nCpus_allowed_list:\t0-1\n",
    )?;
    tree.write(
        "proc/self/stat",
        "4242 (a (b) c) S 1 4242 4242 0 -1 4194560 900 0 0 0 1234 66 0 0 20 0 9 0 86000 1 2 3",
    )
}
