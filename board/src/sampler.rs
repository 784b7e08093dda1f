//! Reads the kernel's files into [`Readings`].
//!
//! Where each file is, which thermal zone throttles what and which power rail has which name are looked up once; after
//! that a sample reads some dozens of short files. The type of a trip point doesn't tell what it does: Orins have one
//! of type "passive" at 70 °C that only turns on a warning of a hot surface, and another at 99 °C that lowers clocks.
//! The cooling devices bound to a trip point tell them apart.

use std::fs;
use std::path::{Path, PathBuf};

use crate::files::{
    core_folders, find_line, gpu_folder, kib, mhz_from_hz, mhz_from_khz, number, numbered, parsed, text,
    value_in,
};
use crate::readings::{Cooling, Fan, Name, OverCurrent, Rail, Readings, Temperature, slows};

/// Trip points outside of these are no temperatures at which a chip is slowed: 0 stands for none.
const PLAUSIBLE_TRIPS_C: std::ops::RangeInclusive<f64> = 30.0..=150.0;

/// Takes readings of a board, again and again.
pub struct Sampler {
    cpu_clocks: Vec<PathBuf>,
    cpuinfo: PathBuf,
    gpu_clock: PathBuf,
    gpu_load: PathBuf,
    memory_clocks: [PathBuf; 2],
    zones: Vec<Zone>,
    rails: Vec<RailFiles>,
    fans: Vec<FanFiles>,
    cooling: Vec<(Name, PathBuf)>,
    over_currents: Vec<(u8, PathBuf, PathBuf)>,
    core_throttles: Vec<PathBuf>,
    meminfo: PathBuf,
    loadavg: PathBuf,
}

struct Zone {
    name: Name,
    temperature: PathBuf,
    throttles_at: Option<f64>,
    shuts_down_at: Option<f64>,
}

struct RailFiles {
    name: Name,
    millivolts: PathBuf,
    milliamperes: PathBuf,
    power: Power,
    critical_milliamperes: PathBuf,
}

/// Where a rail's power stands.
enum Power {
    /// Nowhere: it is voltage times current.
    Product,
    /// In a file, and so many of its units are a thousandth of a watt.
    File(PathBuf, i64),
}

struct FanFiles {
    name: Name,
    /// 0 to 255.
    drive: Option<PathBuf>,
    rpm: Option<PathBuf>,
}

impl Sampler {
    /// Finds out what the board has whose file system is at `root`.
    pub fn open(root: &Path) -> Self {
        let cores = core_folders(root);
        let gpu = gpu_folder(root).unwrap_or_else(|| root.join("no-gpu"));
        let hwmons = numbered(&root.join("sys/class/hwmon"), "hwmon");
        let throttles = cores.iter().map(|core| core.join("thermal_throttle/core_throttle_count"));
        Self {
            cpu_clocks: (cores.iter().map(|core| core.join("cpufreq/scaling_cur_freq")))
                .filter(|clock| clock.exists())
                .collect(),
            cpuinfo: root.join("proc/cpuinfo"),
            gpu_clock: gpu.join("cur_freq"),
            gpu_load: gpu.join("device/load"),
            memory_clocks: ["sys/class/devfreq/bwmgr/cur_freq", "sys/kernel/debug/bpmp/debug/clk/emc/rate"]
                .map(|clock| root.join(clock)),
            zones: (numbered(&root.join("sys/class/thermal"), "thermal_zone").iter())
                .filter_map(|folder| Zone::find(folder))
                .collect(),
            rails: rails(root, &hwmons),
            fans: fans(root, &hwmons),
            cooling: (numbered(&root.join("sys/class/thermal"), "cooling_device").into_iter())
                .filter_map(|folder| Some((name_in(&folder.join("type"))?, folder.join("cur_state"))))
                .collect(),
            over_currents: over_currents(&hwmons),
            core_throttles: throttles.filter(|count| count.exists()).collect(),
            meminfo: root.join("proc/meminfo"),
            loadavg: root.join("proc/loadavg"),
        }
    }

    /// Takes the readings of this moment. It allocates nothing.
    pub fn read(&self) -> Readings {
        let mut readings = Readings {
            gpu_mhz: number(&self.gpu_clock).map(mhz_from_hz),
            memory_mhz: self.memory_clocks.iter().find_map(|clock| number(clock)).map(mhz_from_hz),
            // In thousandths.
            gpu_load_percent: number(&self.gpu_load).map(|load: u32| f64::from(load) / 10.0),
            memory_available_mib: find_line(&self.meminfo, |line| kib(value_in(line, "MemAvailable", ':')?))
                .map(|kib| kib / 1024),
            load_average: parsed(&self.loadavg, |loads| loads.split_whitespace().next()?.parse().ok()),
            ..Readings::default()
        };
        // What there is no room for is left out: no board has as many.
        self.read_cpu_clocks(&mut readings);
        for zone in &self.zones {
            let _ = zone.read().map(|temperature| readings.temperatures.push(temperature));
        }
        for rail in &self.rails {
            let _ = rail.read().map(|rail| readings.rails.push(rail));
        }
        for fan in &self.fans {
            let _ = fan.read().map(|fan| readings.fans.push(fan));
        }
        for (name, state) in &self.cooling {
            let cooling = number(state).map(|state| Cooling { name: name.clone(), state });
            let _ = cooling.map(|cooling| readings.cooling.push(cooling));
        }
        for (alarm, events, throttles) in &self.over_currents {
            let throttles = number(throttles) != Some(0);
            let counted = number(events).map(|events| OverCurrent { alarm: *alarm, events, throttles });
            let _ = counted.map(|counted| readings.over_currents.push(counted));
        }
        for count in &self.core_throttles {
            let count: u64 = number(count).unwrap_or_default();
            *readings.core_throttles.get_or_insert_default() += count;
        }
        readings
    }

    /// Those of cpufreq, or without it the kernel's estimates.
    fn read_cpu_clocks(&self, readings: &mut Readings) {
        for clock in &self.cpu_clocks {
            let _ = number(clock).map(|khz| readings.cpu_mhz.push(mhz_from_khz(khz)));
        }
        if readings.cpu_mhz.is_empty() {
            find_line::<()>(&self.cpuinfo, |line| {
                let mhz: f64 = value_in(line, "cpu MHz", ':')?.parse().ok()?;
                let _ = readings.cpu_mhz.push(mhz.round() as u32);
                None
            });
        }
    }
}

impl Readings {
    /// Asks the board whose file system is at `root`, once.
    pub fn read(root: &Path) -> Self {
        Sampler::open(root).read()
    }
}

impl Zone {
    fn find(folder: &Path) -> Option<Self> {
        let celsius = |place: usize| {
            number(&folder.join(format!("trip_point_{place}_temp"))).map(|trip: f64| trip / 1000.0)
        };
        let kinds = (0..).map_while(|place| text(&folder.join(format!("trip_point_{place}_type"))));
        let trips: Vec<(usize, String, f64)> = (kinds.enumerate())
            .filter_map(|(place, kind)| Some((place, kind, celsius(place)?)))
            .filter(|(_, _, celsius)| PLAUSIBLE_TRIPS_C.contains(celsius))
            .collect();
        // Which trip point makes what work: what a zone can do is linked into its folder.
        let bound = |cooling: PathBuf| {
            let trip = folder.join(format!("{}_trip_point", cooling.file_name()?.to_str()?));
            Some((number::<usize>(&trip)?, text(&cooling.join("type"))?))
        };
        let bound: Vec<(usize, String)> = numbered(folder, "cdev").into_iter().filter_map(bound).collect();
        let lowest = |is_it: &dyn Fn(usize, &str) -> bool| {
            let trips = trips.iter().filter(|(place, kind, _)| is_it(*place, kind));
            trips.map(|(_, _, celsius)| *celsius).min_by(f64::total_cmp)
        };
        let throttles = |place: usize, kind: &str| {
            let mut does = bound.iter().filter(|(trip, _)| *trip == place);
            matches!(kind, "passive" | "hot") && (bound.is_empty() || does.any(|(_, what)| slows(what)))
        };
        Some(Self {
            name: name_in(&folder.join("type"))?,
            temperature: folder.join("temp"),
            throttles_at: lowest(&throttles),
            shuts_down_at: lowest(&|_, kind| kind == "critical"),
        })
    }

    fn read(&self) -> Option<Temperature> {
        let celsius = number::<f64>(&self.temperature)? / 1000.0;
        // A sensor that is switched off says -256 or 0 K.
        (-100.0 < celsius).then(|| Temperature {
            zone: self.name.clone(),
            celsius,
            throttles_at: self.throttles_at,
            shuts_down_at: self.shuts_down_at,
        })
    }
}

impl RailFiles {
    fn read(&self) -> Option<Rail> {
        let (millivolts, milliamperes) = (number(&self.millivolts), number(&self.milliamperes));
        let product = || Some((i64::from(millivolts?) * i64::from(milliamperes?)) / 1000);
        let milliwatts = match &self.power {
            Power::Product => product(),
            Power::File(path, unit) => number::<i64>(path).map(|power| power / unit).or_else(product),
        };
        let milliwatts = milliwatts.and_then(|milliwatts| i32::try_from(milliwatts).ok());
        // JetPack 4 writes "3600 ma".
        let first = |text: &str| text.split_whitespace().next()?.parse().ok();
        let critical_milliamperes = parsed(&self.critical_milliamperes, first);
        let name = self.name.clone();
        (millivolts.is_some() || milliwatts.is_some()).then_some(Rail {
            name,
            millivolts,
            milliamperes,
            milliwatts,
            critical_milliamperes,
        })
    }
}

impl FanFiles {
    fn read(&self) -> Option<Fan> {
        let drive: Option<f64> = self.drive.as_deref().and_then(number);
        let percent = drive.map(|drive| (drive / 2.55).round());
        let rpm = self.rpm.as_deref().and_then(number);
        (percent.is_some() || rpm.is_some()).then(|| Fan { name: self.name.clone(), percent, rpm })
    }
}

/// Rails are measured by TI's INA3221, three each; a Thor's input by an INA238. Before JetPack 5 the driver was another.
fn rails(root: &Path, hwmons: &[PathBuf]) -> Vec<RailFiles> {
    let mut rails = Vec::new();
    for folder in hwmons {
        let kind = text(&folder.join("name")).unwrap_or_default();
        if !(kind.starts_with("ina3221") || kind.starts_with("ina238")) {
            continue;
        }
        for channel in 1..=3 {
            let Some(name) = name_in(&folder.join(format!("in{channel}_label"))) else { continue };
            let of = |what: &str| folder.join(what.replace('#', &channel.to_string()));
            let power = of("power#_input");
            rails.push(RailFiles {
                name,
                millivolts: of("in#_input"),
                milliamperes: of("curr#_input"),
                power: if power.exists() { Power::File(power, 1000) } else { Power::Product },
                critical_milliamperes: of("curr#_crit"),
            });
        }
    }
    for folder in numbered(&root.join("sys/bus/iio/devices"), "iio:device") {
        for channel in 0..3 {
            let Some(name) = name_in(&folder.join(format!("rail_name_{channel}"))) else { continue };
            let of = |what: &str| folder.join(what.replace('#', &channel.to_string()));
            rails.push(RailFiles {
                name,
                millivolts: of("in_voltage#_input"),
                milliamperes: of("in_current#_input"),
                power: Power::File(of("in_power#_input"), 1),
                critical_milliamperes: of("crit_current_limit_#"),
            });
        }
    }
    // Not connected.
    rails.retain(|rail| rail.name != "NC");
    rails
}

/// Fans with their drives and tachometers. A Jetson's tachometer is a device of its own.
fn fans(root: &Path, hwmons: &[PathBuf]) -> Vec<FanFiles> {
    let there = |path: PathBuf| path.exists().then_some(path);
    let mut fans = Vec::new();
    let mut tachometers = Vec::new();
    for folder in hwmons {
        let Some(name) = name_in(&folder.join("name")) else { continue };
        for number in 1..=8 {
            let drive = there(folder.join(format!("pwm{number}")));
            let rpm = there(folder.join(format!("fan{number}_input")));
            match (drive, rpm) {
                (None, None) => {}
                (None, Some(rpm)) if name.contains("tach") => tachometers.push(rpm),
                (drive, rpm) => fans.push(FanFiles { name: name.clone(), drive, rpm }),
            }
        }
        tachometers.extend(there(folder.join("rpm")));
    }
    let silent = fans.iter_mut().filter(|fan| fan.rpm.is_none());
    silent.zip(tachometers).for_each(|(fan, tachometer)| fan.rpm = Some(tachometer));
    // Before JetPack 5.
    let old = root.join("sys/devices/pwm-fan");
    if let (Some(drive), Ok(name)) = (there(old.join("cur_pwm")), Name::try_from("pwm-fan")) {
        fans.push(FanFiles { name, drive: Some(drive), rpm: there(old.join("rpm_measured")) });
    }
    fans
}

/// The counters of a Jetson's over-current alarms.
fn over_currents(hwmons: &[PathBuf]) -> Vec<(u8, PathBuf, PathBuf)> {
    let alarms = |folder: &PathBuf| {
        let folder = folder.clone();
        (1..=4).map(move |alarm| {
            let of = |what: &str| folder.join(format!("oc{alarm}_{what}"));
            (alarm, of("event_cnt"), of("throt_en"))
        })
    };
    hwmons.iter().flat_map(alarms).filter(|(_, events, _)| events.exists()).collect()
}

/// The name in a file, cut to what there is room for.
fn name_in(path: &Path) -> Option<Name> {
    let text = fs::read_to_string(path).ok()?;
    let mut name = Name::new();
    text.trim().chars().try_for_each(|letter| name.push(letter)).ok();
    (!name.is_empty()).then_some(name)
}
