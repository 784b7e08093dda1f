//! A day in the life of a device: Debian with systemd in a virtual machine, the kernel's virtual camera, our package.
//!
//! Each scenario is a function, and leaves the device as it found it: detecting red, the only colour that the camera
//! shows. The student sees colours and takes a millisecond, since the real one takes seconds where everything is
//! emulated; the device is seen once with the real one, as the package brings it.
//!
//! `make device-test` builds the package and runs the whole day, `make device` the short one. The device needs
//! Debian's packages, root's rights or a user namespace, and QEMU; where they can't be had the tests say that they are
//! skipped, and fail where `WORDSIGHT_REQUIRE_REFERENCE` is set on a machine that could have them.
//!
//! Timeouts leave room for a host with other work to do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

/// Runs scenarios one after the other, by their names.
macro_rules! scenarios {
    ($day:ident: $($name:ident),+ $(,)?) => {
        $(scenario($day, &stringify!($name).replace('_', " "), $name);)+
    };
}

mod chance;
mod disk;
mod drivers;
mod machine;
#[path = "../../engines/tests/stand_in/mod.rs"]
mod stand_in;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chance::Chance;
use disk::Disk;
use drivers::drivers_that_are_late_and_a_gpu_that_is_none;
use machine::{Device, Parts};
use serde_json::Value;
use support::*;

/// The code of `tests/device/image` where there can be no device.
const NO_DEVICE: i32 = 3;
/// How often the power is cut in a long day.
const CUTS: usize = 10;

/// The most that `systemd-analyze security` may count.
const EXPOSURE: f64 = 2.5;

/// From a file's change to detections with it, from a death to detections, from a boot to them.
const SOON: Duration = Duration::from_secs(120);
/// Over the unit's WatchdogSec of half a minute and the time that dying may take.
const WATCHDOG: Duration = Duration::from_secs(240);
/// For apt.
const INSTALLED: Duration = Duration::from_secs(300);
/// For one frame through the real student.
const REAL_STUDENT: Duration = Duration::from_secs(900);

/// Prints the health once the service detects a word: the newest line has nothing but the word in it, frames come, and the
/// newest was published just now by whoever lives now.
///
/// The line is read first: a health that is read before it may be of the words before.
fn detecting(word: &str) -> String {
    format!(
        r#"line=$(tail -n 1 /run/wordsight/detections.jsonl) && [[ $line == *'"word":"{word}"'*'}}' ]] &&
           others=${{line//'"word":"{word}"'/}} && [[ $others != *'"word"'* ]] &&
           health=$(cat /run/wordsight/health.json) && [[ $health == *'"state":"running"'* ]] &&
           [[ $health =~ '"last_published_s":'([0-9]+) ]] && ((BASH_REMATCH[1] < 3)) &&
           [[ $health =~ '"written_at":'([0-9]+) ]] && age=$(($(date +%s) - BASH_REMATCH[1])) && ((age > -3 && age < 5)) &&
           [ "$(systemctl is-active wordsight)" = active ] && echo "$health""#
    )
}

/// A device, its disk between two boots, and what a day needs.
struct Day {
    parts: Parts,
    device: Option<Device>,
    chance: Chance,
    begun: Instant,
    /// Whether the gifts have stand-ins for a GPU's libraries.
    has_stand_ins: bool,
    _folder: tempfile::TempDir,
}

impl Day {
    /// A device fresh from the image; `None` where there can't be one.
    fn begin() -> Option<Self> {
        let begun = Instant::now();
        let package = std::env::var_os("WORDSIGHT_DEB").map_or_else(package_made_here, PathBuf::from);
        assert!(package.exists(), "{} is not there: `make deb` makes it", package.display());
        let image = image()?;
        let folder = tempfile::tempdir().unwrap();
        let gifts = folder.path().join("gifts");
        let has_stand_ins = make_gifts(&package, &folder.path().join("gifts.d"), &gifts);
        let parts = Parts { image, gifts, folder: folder.path().to_owned() };
        let seed = match std::env::var("WORDSIGHT_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
        };
        let day = Self {
            parts,
            device: None,
            chance: Chance::from_seed(seed),
            begun,
            has_stand_ins,
            _folder: folder,
        };
        day.says(&format!("the seed of chance is {seed}: WORDSIGHT_SEED={seed} has it again"));
        let disk = Disk::of_image(&day.parts.image.join("disk")).unwrap();
        Some(day.on(disk))
    }

    fn says(&self, text: &str) {
        println!("{:6.1} s  {text}", self.begun.elapsed().as_secs_f64());
    }

    fn on(mut self, disk: Disk) -> Self {
        self.switch_on(disk);
        self
    }

    fn switch_on(&mut self, disk: Disk) {
        let mut device = Device::boot(&self.parts, disk);
        device.does("mkdir -p /gifts && mount -o ro /dev/vdb /gifts");
        self.device = Some(device);
    }

    fn device(&mut self) -> &mut Device {
        self.device.as_mut().unwrap()
    }

    fn does(&mut self, script: &str) -> String {
        self.device().does(script)
    }

    /// Waits until the service detects a word, and returns its health then.
    #[track_caller]
    fn detects(&mut self, word: &str) -> Value {
        let text = self.device().awaits(&format!("{word} is detected"), SOON, &detecting(word));
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until the health is as a condition in bash says, in which $health is its text.
    #[track_caller]
    fn health_with(&mut self, condition: &str) -> Value {
        let script = format!("health=$(cat /run/wordsight/health.json) && {condition} && echo \"$health\"");
        let text = self.device().awaits(condition, SOON, &script);
        serde_json::from_str(&text).unwrap()
    }

    fn installs(&mut self, package: &str) {
        let apt = format!("DEBIAN_FRONTEND=noninteractive apt-get install -y -qq {package}");
        self.device().does_within(INSTALLED, &apt);
    }

    /// A property of the service's unit.
    fn unit(&mut self, property: &str) -> String {
        self.does(&format!("systemctl show wordsight --value --property {property}")).trim().to_owned()
    }

    /// What the service, and systemd about it, have written into the journal of this boot since a moment.
    fn journal_since(&mut self, moment: &Moment) -> String {
        self.does(&format!("{JOURNAL} | tail -n +{}", moment.0 + 1))
    }

    #[track_caller]
    fn expect_in_journal(&mut self, moment: &Moment, text: &str) {
        let script = format!("{JOURNAL} | tail -n +{} | grep -F -e '{text}'", moment.0 + 1);
        self.device().awaits(&format!("the journal says `{text}`"), SOON, &script);
    }

    fn moment(&mut self) -> Moment {
        let lines = self.does(&format!("journalctl --sync; {JOURNAL} | wc -l"));
        Moment(lines.trim().parse().unwrap())
    }
}

/// What is in the journal about the service since the boot.
const JOURNAL: &str = "journalctl --no-pager -q -b -o cat -u wordsight";

/// How much of that there was at a moment: a clock may jump.
struct Moment(usize);

/// Where `make deb` leaves the package for this machine.
fn package_made_here() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join(concat!("debian/wordsight_", env!("CARGO_PKG_VERSION"), "-1_amd64.deb"))
}

/// The folder of the device's image; `None` where it can't be made.
fn image() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/device/image");
    let output = Command::new(script).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => Some(String::from_utf8(output.stdout).unwrap().trim().into()),
        Some(NO_DEVICE) => {
            let required = std::env::var_os("WORDSIGHT_REQUIRE_REFERENCE").is_some();
            let is_debian = fs::read_to_string("/etc/os-release")
                .is_ok_and(|release| release.lines().any(|line| line == "ID=debian"));
            assert!(!(required && is_debian && cfg!(target_arch = "x86_64")), "{said}");
            skip_anywhere(&format!("SKIPPED: no device without hardware: {said}"));
            None
        }
        _ => panic!("{said}"),
    }
}

fn command(program: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command.args(arguments.iter().map(|argument| argument.as_ref()));
    let output = output.env("PATH", format!("{path}:/usr/sbin:/sbin")).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the device is given, on a disk of its own: the package and a later one, a student that sees colours, vocabularies,
/// a configuration, a frame of the demo's clip, and where they can be made stand-ins for a GPU's libraries: whether they are
/// there.
fn make_gifts(package: &Path, folder: &Path, disk: &Path) -> bool {
    fs::create_dir_all(folder).unwrap();
    fs::copy(package, folder.join("wordsight.deb")).unwrap();
    let later = folder.with_extension("later");
    command("dpkg-deb", &[&"-R", &package, &later]);
    let control = fs::read_to_string(later.join("DEBIAN/control")).unwrap();
    let control: Vec<String> = control
        .lines()
        .map(|line| if line.starts_with("Version: ") { format!("{line}+later") } else { line.to_owned() })
        .collect();
    fs::write(later.join("DEBIAN/control"), control.join("\n") + "\n").unwrap();
    command(
        "dpkg-deb",
        &[&"--root-owner-group", &"-Zgzip", &"-z1", &"-b", &later, &folder.join("later.deb")],
    );
    fs::remove_dir_all(&later).unwrap();

    write_student(&folder.join("student.onnx"));
    write_vocabulary(&folder.join("red.safetensors"), &[("red", RED), ("green", GREEN), ("blue", BLUE)]);
    write_vocabulary(&folder.join("crimson.safetensors"), &[("crimson", RED), ("moss", GREEN)]);
    let whole = fs::read(folder.join("crimson.safetensors")).unwrap();
    fs::write(folder.join("cut.safetensors"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.join("wordsight.toml"), CONFIGURATION).unwrap();
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/clip.mjpeg");
    let clip = fs::read(clip).unwrap();
    let second = clip.windows(4).skip(1).position(|bytes| bytes == [0xff, 0xd8, 0xff, 0xe0]).unwrap() + 1;
    fs::write(folder.join("frame.jpg"), &clip[..second]).unwrap();
    let has_stand_ins = drivers::compile_stand_ins(&folder.join("stand-ins"));
    command("mke2fs", &[&"-q", &"-t", &"ext4", &"-d", &folder, &disk, &"160M"]);
    has_stand_ins
}

/// What the engineer of this device has written. The camera shows red.
const CONFIGURATION: &str = r#"student = "student.onnx"
vocabulary = "words.safetensors"
[source]
uri = "v4l2:///dev/video0?format=yuyv&width=320&height=180&fps=5&test_pattern=7&osd_text_mode=2"
wait_at_start = true
[engine]
kind = "onnxruntime"
threads = 1
[publish]
json = "/run/wordsight/detections.jsonl"
health = "/run/wordsight/health.json"
"#;

fn the_package_is_installed_by_apt_and_its_service_is_started(day: &mut Day) {
    day.installs("/gifts/wordsight.deb");
    assert_eq!(day.unit("UnitFileState"), "enabled");
    let state = day.unit("ActiveState");
    assert!(["activating", "active"].contains(&state.as_str()), "{state}");
}

fn the_package_s_own_student_finds_things_in_a_frame_of_the_demo(day: &mut Day) {
    day.does("systemctl stop wordsight");
    let script = "wordsight detect /gifts/frame.jpg --student /usr/share/wordsight/student.onnx --vocabulary \
                  /usr/share/wordsight/words.safetensors --json - 2>/tmp/said || { cat /tmp/said; exit 1; }";
    let begun = Instant::now();
    let found = day.device().does_within(REAL_STUDENT, script);
    let line: Value = serde_json::from_str(found.lines().next().unwrap()).unwrap();
    let words = words_of(&line);
    let seconds = begun.elapsed().as_secs_f64();
    day.says(&format!("the package's own student finds {} in {seconds:.0} s, emulated", words.join(", ")));
    assert!(!words.is_empty(), "{line}");
    day.does("systemctl start wordsight");
    day.detects("red");
}

fn the_engineer_s_student_words_and_configuration_are_taken_up(day: &mut Day) {
    day.does(
        "cp /gifts/student.onnx /etc/wordsight/ && cp /gifts/red.safetensors /etc/wordsight/words.safetensors && \
         cp /gifts/wordsight.toml /etc/wordsight/wordsight.toml && systemctl restart wordsight",
    );
    day.detects("red");
}

fn it_starts_on_boot_and_detects(day: &mut Day) {
    let disk = day.device.take().unwrap().shut_down();
    day.switch_on(disk);
    let health = day.detects("red");
    let up = day.device().since.elapsed().as_secs_f64();
    let ready = day.does(
        "ready=$(systemctl show wordsight --value --property ActiveEnterTimestampMonotonic) && \
         started=$(systemctl show wordsight --value --property ExecMainStartTimestampMonotonic) && \
         echo $((ready / 1000)) $((started / 1000))",
    );
    let times: Vec<f64> = ready.split_whitespace().map(|ms| ms.parse::<f64>().unwrap() / 1e3).collect();
    day.says(&format!(
        "after the kernel's start the service was started at {:.1} s and READY at {:.1} s; detections were seen {up:.1} s \
         after power on",
        times[1], times[0]
    ));
    assert_eq!(health["losses"], 0, "{health}");
    assert_eq!(day.unit("NRestarts"), "0");
    let status = day.unit("StatusText");
    assert!(status.contains("3 words") && status.contains("v4l2:///dev/video0"), "{status}");
    let fields =
        day.does("journalctl -b -u wordsight -o json | grep -o '\"WORDSIGHT_WORDS\":\"[0-9]*\"' | tail -n 1");
    assert_eq!(fields.trim(), "\"WORDSIGHT_WORDS\":\"3\"", "values are fields of the journal");
    let security = day.does("systemd-analyze security --no-pager wordsight | tail -n 1");
    day.says(security.trim_start_matches([' ', '→']).trim_end());
    let exposure = security.split_whitespace().find_map(|part| part.parse::<f64>().ok()).unwrap();
    assert!(exposure <= EXPOSURE, "{security}");
}

/// Runs a scenario in which the service goes on: the same process, which nobody has restarted.
fn in_one_life(day: &mut Day, scenario: impl FnOnce(&mut Day)) {
    let before = (day.unit("MainPID"), day.unit("NRestarts"));
    scenario(day);
    let after = (day.unit("MainPID"), day.unit("NRestarts"));
    assert_eq!(before, after, "the process and how often it was restarted");
}

/// So many words are in use, after at least so many changes.
fn reloaded(words: usize, count: u64) -> String {
    format!(
        r#"[[ $health == *'"words":{words}}}'* && $health =~ '"count":'([0-9]+) ]] && ((BASH_REMATCH[1] >= {count}))"#
    )
}

fn a_vocabulary_written_in_place_or_renamed_into_place_is_taken_up(day: &mut Day) {
    let moment = day.moment();
    in_one_life(day, |day| {
        let before = day.detects("red")["reload"]["count"].as_u64().unwrap();
        day.does("cat /gifts/crimson.safetensors >/etc/wordsight/words.safetensors");
        day.detects("crimson");
        // The health is a file of its own, written within a tenth of a second: it follows the lines, and is waited for.
        day.health_with(&reloaded(2, before + 1));
        day.does(
            "cd /etc/wordsight && cp /gifts/red.safetensors words.new && mv words.new words.safetensors",
        );
        day.detects("red");
        let health = day.health_with(&reloaded(3, before + 2));
        assert_eq!(health["losses"], 0, "the camera was left alone: {health}");
    });
    day.expect_in_journal(&moment, "what has changed is used from now on");
}

fn a_bad_vocabulary_and_a_bad_configuration_are_refused_and_told(day: &mut Day) {
    let moment = day.moment();
    in_one_life(day, |day| {
        let before = day.detects("red")["reload"]["refused"].as_u64().unwrap();
        let refused = |more: u64| {
            format!(
                r#"[[ $health =~ '"refused":'([0-9]+) ]] && ((BASH_REMATCH[1] >= {})) && [[ $health != *'"last_error":null'* ]]"#,
                before + more
            )
        };
        day.does("cat /gifts/cut.safetensors >/etc/wordsight/words.safetensors");
        let health = day.health_with(&refused(1));
        assert!(health["reload"]["last_error"].as_str().unwrap().contains("words.safetensors"), "{health}");
        let status = day.unit("StatusText");
        assert!(status.contains("refused"), "{status}");
        day.detects("red");

        day.does("cp /gifts/red.safetensors /etc/wordsight/words.safetensors");
        day.health_with(r#"[[ $health == *'"last_error":null'* ]]"#);
        day.does("echo 'vocabulry = \"words.safetensors\"' >/etc/wordsight/wordsight.toml");
        let health = day.health_with(&refused(2));
        assert!(health["reload"]["last_error"].as_str().unwrap().contains("vocabulry"), "{health}");
        day.detects("red");
        day.does("cp /gifts/wordsight.toml /etc/wordsight/wordsight.toml");
        day.health_with(r#"[[ $health == *'"last_error":null'* ]]"#);
        day.detects("red");
    });
    day.expect_in_journal(&moment, "what has changed is not used, and what was before goes on");
}

fn after_a_restart_with_a_bad_vocabulary_the_last_good_one_holds(day: &mut Day) {
    let moment = day.moment();
    day.does("cat /gifts/cut.safetensors >/etc/wordsight/words.safetensors && systemctl restart wordsight");
    day.detects("red");
    let journal = day.journal_since(&moment);
    assert!(journal.contains("the vocabulary that last worked is used"), "{journal}");
    day.does("cp /gifts/red.safetensors /etc/wordsight/words.safetensors");
    day.health_with(r#"[[ $health == *'"last_error":null'* ]]"#);
    day.detects("red");
}

fn a_camera_that_is_unplugged_is_waited_for_and_found_again(day: &mut Day) {
    let moment = day.moment();
    in_one_life(day, |day| {
        day.does("echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind");
        let health = day.health_with(r#"[[ $health == *'"state":"lost"'* ]]"#);
        assert!(health["losses"].as_u64().unwrap() >= 1, "{health}");
        assert_eq!(day.unit("ActiveState"), "active");
        // Long enough that the watchdog would have noticed a service that doesn't feed it while it waits.
        day.does("sleep 35");
        let status = day.unit("StatusText");
        assert!(status.contains("lost"), "{status}");
        day.does("echo vivid.0 >/sys/bus/platform/drivers/vivid/bind");
        day.detects("red");
    });
    let journal = day.journal_since(&moment);
    assert!(!journal.contains("atchdog timeout"), "{journal}");
}

fn a_camera_whose_module_comes_after_the_service_is_found(day: &mut Day) {
    // The kernel takes no module away that somebody uses.
    day.does("! rmmod vivid && systemctl stop wordsight && rmmod vivid && systemctl start wordsight");
    assert_eq!(day.unit("ActiveState"), "active", "READY without a camera");
    let health = day.health_with(r#"[[ $health == *'"state":"lost"'* ]]"#);
    assert!(health["reason"].as_str().unwrap().contains("no such device"), "{health}");
    day.does("modprobe vivid");
    day.detects("red");
}

fn a_killed_process_is_started_again(day: &mut Day) {
    let (moment, process) = (day.moment(), day.unit("MainPID"));
    day.does(&format!("kill -KILL {process}"));
    let other = format!("p=$(systemctl show wordsight --value -p MainPID) && ((p > 0 && p != {process}))");
    day.device().awaits("another process", SOON, &other);
    day.detects("red");
    day.expect_in_journal(&moment, "code=killed, status=9/KILL");
}

fn a_process_that_hangs_is_brought_back_by_the_watchdog(day: &mut Day) {
    let (moment, process) = (day.moment(), day.unit("MainPID"));
    day.does(&format!("kill -STOP {process}"));
    let begun = Instant::now();
    let other = format!("p=$(systemctl show wordsight --value -p MainPID) && ((p > 0 && p != {process}))");
    day.device().awaits("another process", WATCHDOG, &other);
    day.detects("red");
    day.says(&format!("detecting again {:.0} s after it hung", begun.elapsed().as_secs_f64()));
    day.expect_in_journal(&moment, "Watchdog timeout");
}

fn a_full_disk_stops_nothing(day: &mut Day) {
    // Whoever is root may take what is reserved, too.
    let fill = "fallocate -l 900M /filler 2>/dev/null; cat /dev/zero >/filler.rest 2>/dev/null; sync; df --output=avail / | tail -n 1";
    in_one_life(day, |day| {
        let left = day.does(fill);
        day.says(&format!("KiB left on the disk: {}", left.trim()));
        assert_eq!(left.trim(), "0");
        day.detects("red");
        // A vocabulary written in place: what it leaves free is somebody else's before the new one comes.
        day.does(
            "cd /etc/wordsight && : >words.safetensors && sync && { cat /dev/zero >>/filler.rest 2>/dev/null; sync; \
             ! cat /gifts/crimson.safetensors >words.safetensors; }",
        );
        let health = day.health_with(r#"[[ $health != *'"last_error":null'* ]]"#);
        assert!(health["reload"]["last_error"].as_str().unwrap().contains("words.safetensors"), "{health}");
        day.detects("red");
    });
    // It starts, too, from the last good state.
    day.does("systemctl restart wordsight");
    day.detects("red");
    day.does("rm /filler /filler.rest; cp /gifts/red.safetensors /etc/wordsight/words.safetensors");
    day.health_with(r#"[[ $health == *'"last_error":null'* ]]"#);
    day.detects("red");
}

fn a_clock_that_jumps_stops_nothing(day: &mut Day) {
    let moment = day.moment();
    in_one_life(day, |day| {
        for jump in ["+400 days", "-800 days", "+400 days"] {
            day.does(&format!("date -s \"$(date -d '{jump}')\" >/dev/null"));
            day.detects("red");
            // Beyond half of WatchdogSec, by the clock that doesn't jump.
            day.does("sleep 16");
            let health = day.detects("red");
            assert_eq!((&health["state"], &health["losses"]), (&"running".into(), &0.into()), "{health}");
        }
    });
    let journal = day.journal_since(&moment);
    assert!(!journal.contains("atchdog timeout"), "{journal}");
}

fn an_upgrade_brings_the_later_version_and_keeps_what_the_engineer_wrote(day: &mut Day) {
    let process = day.unit("MainPID");
    day.installs("/gifts/later.deb");
    let version = day.does("dpkg-query -W -f '${Version}' wordsight");
    assert!(version.ends_with("+later"), "{version}");
    let other = format!("p=$(systemctl show wordsight --value -p MainPID) && ((p > 0 && p != {process}))");
    day.device().awaits("the later version runs", SOON, &other);
    day.detects("red");
    day.does("cmp /gifts/wordsight.toml /etc/wordsight/wordsight.toml && test -z \"$(dpkg --audit)\"");
}

/// What goes on when the power is cut.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Nothing but detection.
    Steady,
    /// Vocabularies are renamed into place, each after it is on the disk.
    Renames,
    /// Vocabularies are written in place: half of one is what may be left.
    Writes,
    /// apt installs the package over itself.
    Installs,
}

impl Work {
    /// Has the device go on with it until the power is cut.
    fn begin(&self, device: &mut Device) {
        match self {
            Work::Steady => {}
            Work::Renames => device.begins(
                "work",
                "cd /etc/wordsight; while :; do for name in red crimson; do cp /gifts/$name.safetensors words.new && \
                 sync words.new && mv words.new words.safetensors; done; done",
            ),
            Work::Writes => device.begins(
                "work",
                "cd /etc/wordsight; while :; do for name in red crimson; do cat /gifts/$name.safetensors \
                 >words.safetensors; sleep 0.5; done; done",
            ),
            Work::Installs => device.begins(
                "work",
                "export DEBIAN_FRONTEND=noninteractive; while :; do apt-get install -y -qq --reinstall /gifts/later.deb; \
                 sleep 1; done",
            ),
        }
    }
}

fn the_power_is_cut(day: &mut Day, work: Work) {
    work.begin(day.device());
    // A reinstallation takes a while.
    let longest = if matches!(work, Work::Installs) { 30_000 } else { 8_000 };
    let after = Duration::from_millis(500 + day.chance.upto(longest));
    std::thread::sleep(after);
    let device = day.device.take().unwrap();
    let (disk, (kept, cached)) = device.cut_power(&mut day.chance);
    day.says(&format!(
        "{work:?}: the power was cut after {:.1} s; of {cached} blocks in the disk's cache {kept} were kept",
        after.as_secs_f64()
    ));
    day.switch_on(disk);
    let script = detecting("WORD").replace("WORD", "red");
    let other = detecting("crimson");
    let text = day.device().awaits(
        "(red|crimson) is detected",
        SOON,
        &format!("if ( {script} ); then :; else {other}; fi"),
    );
    let health: Value = serde_json::from_str(&text).unwrap();
    let up = day.device().since.elapsed().as_secs_f64();
    let vocabulary = day.does(
        "cd /etc/wordsight; for name in red crimson; do cmp -s /gifts/$name.safetensors words.safetensors && echo $name; done; \
         rm -f words.new",
    );
    let vocabulary = vocabulary.trim();
    day.says(&format!(
        "detecting again {up:.1} s after power on; the vocabulary is {}",
        if vocabulary.is_empty() { "torn" } else { vocabulary }
    ));
    match work {
        Work::Writes => {}
        _ => assert!(!vocabulary.is_empty(), "a vocabulary that was neither: {health}"),
    }
    if vocabulary.is_empty() {
        // What it started from was the last good one.
        assert!(health["reload"]["last_error"].is_string(), "{health}");
    }
    let errors = day.does("dmesg | grep -iE 'EXT4-fs (error|warning)|I/O error' || true");
    assert_eq!(errors, "");
    if matches!(work, Work::Installs) {
        // What was broken off in the middle, apt's own means bring to an end.
        day.device()
            .does_within(INSTALLED, "DEBIAN_FRONTEND=noninteractive dpkg --configure -a --force-confold");
        day.installs("--reinstall /gifts/later.deb");
        day.detects(if vocabulary == "crimson" { "crimson" } else { "red" });
    }
    day.does("dpkg --audit >/tmp/audit; test ! -s /tmp/audit && dpkg --verify wordsight | grep -v ' c /' >/tmp/audit; test ! -s /tmp/audit");
    day.does("cmp /gifts/wordsight.toml /etc/wordsight/wordsight.toml && cp /gifts/red.safetensors /etc/wordsight/words.safetensors && sync");
    day.detects("red");
}

/// The disk, looked at from outside after everything.
fn nothing_on_the_disk_is_corrupt(day: &mut Day) {
    let disk = day.device.take().unwrap().shut_down();
    let file = day.parts.folder.join("after");
    disk.save(&file).unwrap();
    command("e2fsck", &[&"-f", &"-n", &file]);
}

/// Tells how long a scenario took.
fn scenario(day: &mut Day, name: &str, run: impl FnOnce(&mut Day)) {
    day.says(name);
    run(day);
}

fn a_device_with_our_package(day: &mut Day) {
    scenarios!(day:
        the_package_is_installed_by_apt_and_its_service_is_started,
        the_engineer_s_student_words_and_configuration_are_taken_up,
        it_starts_on_boot_and_detects,
        a_vocabulary_written_in_place_or_renamed_into_place_is_taken_up,
        a_bad_vocabulary_and_a_bad_configuration_are_refused_and_told,
        a_killed_process_is_started_again,
    );
}

#[test]
#[ignore = "takes a package: make device"]
fn a_short_day_in_the_life_of_a_device() {
    let Some(mut day) = Day::begin() else { return };
    let day = &mut day;
    a_device_with_our_package(day);
    scenarios!(day: drivers_that_are_late_and_a_gpu_that_is_none);
    scenario(day, "the power is cut", |day| the_power_is_cut(day, Work::Renames));
    scenarios!(day: nothing_on_the_disk_is_corrupt);
    day.says("the day is over");
}

#[test]
#[ignore = "takes a package and twenty minutes: make device-test"]
fn a_day_in_the_life_of_a_device() {
    let Some(mut day) = Day::begin() else { return };
    let day = &mut day;
    a_device_with_our_package(day);
    scenarios!(day:
        the_package_s_own_student_finds_things_in_a_frame_of_the_demo,
        after_a_restart_with_a_bad_vocabulary_the_last_good_one_holds,
        a_camera_that_is_unplugged_is_waited_for_and_found_again,
        a_camera_whose_module_comes_after_the_service_is_found,
        drivers_that_are_late_and_a_gpu_that_is_none,
        a_process_that_hangs_is_brought_back_by_the_watchdog,
        a_full_disk_stops_nothing,
        a_clock_that_jumps_stops_nothing,
        an_upgrade_brings_the_later_version_and_keeps_what_the_engineer_wrote,
    );
    for cut in 0..CUTS {
        let work = [Work::Renames, Work::Installs, Work::Writes, Work::Steady][cut % 4];
        scenario(day, &format!("the power is cut, {} of {CUTS}", cut + 1), |day| the_power_is_cut(day, work));
    }
    scenarios!(day: nothing_on_the_disk_is_corrupt);
    day.says("the day is over");
}
