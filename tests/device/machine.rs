//! The device: a virtual machine that is switched on and off, and a shell in it.
//!
//! It takes scripts and returns what they printed. Everything is emulated (KVM is not everywhere, and hangs in some
//! virtual machines that offer it), so a process takes a tenth of a second to start and a boot a quarter of a minute,
//! on an idle host.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::chance::Chance;
use super::disk::{Disk, Served};

/// Until the device answers after it was switched on, and until it is off: on a host with all its hands full.
const LONGEST_BOOT: Duration = Duration::from_secs(300);
/// For a write to come in the middle of which the power is cut.
const LONGEST_TO_WRITE: Duration = Duration::from_secs(5);
/// Beyond what the device gives a script.
const LONGEST_ANSWER: Duration = Duration::from_secs(120);

/// Where the parts of a device lie.
pub struct Parts {
    /// `tests/device/image` made it.
    pub image: PathBuf,
    /// A second disk, that can only be read: what the device is given.
    pub gifts: PathBuf,
    /// For sockets and logs.
    pub folder: PathBuf,
}

/// A device that is on.
pub struct Device {
    qemu: Child,
    disk: Option<Served>,
    folder: PathBuf,
    line: BufReader<UnixStream>,
    asked: u64,
    /// When it was switched on.
    pub since: Instant,
}

impl Device {
    /// Switches a device on and waits until it answers.
    pub fn boot(parts: &Parts, disk: Disk) -> Self {
        let socket = |name: &str| {
            let path = parts.folder.join(name);
            drop(fs::remove_file(&path));
            path
        };
        let (disk_at, line_at) = (socket("disk.sock"), socket("line.sock"));
        let disk = Served::at(&disk_at, disk).unwrap();
        let since = Instant::now();
        // However this process ends, QEMU ends with it.
        let qemu = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .arg("-serial")
            .arg(format!("file:{}", parts.folder.join("console").display()))
            .arg("-kernel")
            .arg(parts.image.join("vmlinuz"))
            .arg("-initrd")
            .arg(parts.image.join("initramfs"))
            .args(["-append", "console=ttyS0 quiet loglevel=4 panic=-1"])
            .arg("-drive")
            // The device sees a disk with a cache that it has to flush; QEMU keeps none.
            .arg(format!(
                "if=none,id=disk,format=raw,cache=none,file.driver=nbd,file.server.type=unix,file.server.path={}",
                disk_at.display()
            ))
            .args(["-device", "virtio-blk-pci,drive=disk"])
            .arg("-drive")
            .arg(format!("if=none,id=gifts,format=raw,readonly=on,file={}", parts.gifts.display()))
            .args(["-device", "virtio-blk-pci,drive=gifts", "-device", "virtio-serial-pci"])
            .arg("-chardev")
            .arg(format!("socket,id=line,server=on,wait=off,path={}", line_at.display()))
            .args(["-device", "virtserialport,chardev=line,name=line"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(parts.folder.join("qemu")).unwrap())
            .spawn()
            .unwrap();
        let folder = parts.folder.clone();
        let line = loop {
            match UnixStream::connect(&line_at) {
                Ok(line) => break line,
                Err(error) => {
                    assert!(since.elapsed() < Duration::from_secs(20), "{error}: {}", logs(&folder))
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut device = Self { qemu, disk: Some(disk), folder, line: BufReader::new(line), asked: 0, since };
        device.ask("true", LONGEST_BOOT - LONGEST_ANSWER);
        device
    }

    fn tell(&mut self, script: &str, longest: Duration) {
        self.asked += 1;
        let request = format!("{} {} {}\n", self.asked, longest.as_secs().max(1), base64(script.as_bytes()));
        self.line.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// What a script printed and with what code it ended; 124: it took too long.
    fn ask(&mut self, script: &str, longest: Duration) -> (i32, String) {
        self.tell(script, longest);
        self.line.get_mut().set_read_timeout(Some(longest + LONGEST_ANSWER)).unwrap();
        let mut answer = String::new();
        let read = self.line.read_line(&mut answer);
        let mut fields = answer.trim_end().split(' ');
        let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok());
        let (Ok(_), Some(asked), Some(code)) = (read, number(), number()) else {
            panic!("the device doesn't answer to `{script}`; {}", logs(&self.folder))
        };
        assert_eq!(asked, self.asked, "{}", logs(&self.folder));
        let text = String::from_utf8_lossy(&from_base64(fields.next().unwrap_or_default())).into_owned();
        (code as i32, text)
    }

    /// What a script printed that went well or not.
    pub fn tries(&mut self, script: &str) -> String {
        self.ask(script, Duration::from_secs(60)).1
    }

    /// What a script printed that has to go well within two minutes.
    #[track_caller]
    pub fn does(&mut self, script: &str) -> String {
        self.does_within(Duration::from_secs(120), script)
    }

    /// What a script printed that has to go well.
    #[track_caller]
    pub fn does_within(&mut self, longest: Duration, script: &str) -> String {
        let (code, text) = self.ask(script, longest);
        assert_eq!(code, 0, "`{script}` failed: {text}");
        text
    }

    /// Waits until a script goes well, and returns what it printed then. The device asks itself, five times a second.
    #[track_caller]
    pub fn awaits(&mut self, what: &str, longest: Duration, script: &str) -> String {
        let repeated = format!("until ( {script} ) 2>/dev/null; do sleep 0.2; done");
        let (code, text) = self.ask(&repeated, longest);
        if code != 0 {
            let story = self.tries(
                "cat /run/wordsight/health.json; systemctl status wordsight --no-pager; \
                 journalctl -b --no-pager -o short-monotonic | tail -n 40",
            );
            panic!("not within {longest:?}: {what}; what was printed last: {text}\n{story}");
        }
        text
    }

    /// Switches it off in good order.
    pub fn shut_down(mut self) -> Disk {
        // It may be off before it has answered.
        self.tell("systemctl poweroff --no-block", Duration::from_secs(30));
        let begun = Instant::now();
        while self.qemu.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < LONGEST_BOOT, "it doesn't go off; {}", logs(&self.folder));
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut disk = self.disk.take().unwrap().end();
        // Who switches off in good order waits for the disk.
        disk.flush();
        disk
    }

    /// Cuts its power, in the middle of a write to its disk if one comes soon. Returns the disk, and how many of the
    /// blocks in its cache it kept.
    pub fn cut_power(mut self, chance: &mut Chance) -> (Disk, (usize, usize)) {
        let disk = self.disk.take().unwrap();
        disk.fall_silent(1 + chance.upto(16) as usize, LONGEST_TO_WRITE);
        self.qemu.kill().unwrap();
        self.qemu.wait().unwrap();
        let mut disk = disk.end();
        let kept = disk.lose_power(chance);
        (disk, kept)
    }

    /// Starts a script that goes on while others are run.
    pub fn begins(&mut self, name: &str, script: &str) {
        let unit = format!(
            "systemd-run --quiet --unit={name} bash -c \"$(base64 -d <<<{})\"",
            base64(script.as_bytes())
        );
        self.does(&unit);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

/// The ends of the console and of what QEMU said.
fn logs(folder: &Path) -> String {
    let end = |name: &str| {
        let text = fs::read(folder.join(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    };
    format!("the end of the console:\n{}\nQEMU said: {}", end("console"), end("qemu"))
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0, |number, at| number << 8 | usize::from(*three.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = char::from(DIGITS[number >> (18 - 6 * at) & 63]);
            text.push(if at <= three.len() { digit } else { '=' });
        }
    }
    text
}

fn from_base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut number, mut bits) = (Vec::new(), 0, 0);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
        number = (number << 6 | digit) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((number >> bits) as u8);
        }
    }
    bytes
}
