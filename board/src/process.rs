//! Time and memory of this process.

use std::path::Path;
use std::time::Duration;

use crate::files::{kib, text, value_of};

/// Linux reports processor time in hundredths of a second, whatever the kernel's own tick (`USER_HZ`; man 5 proc).
const TICKS_PER_SECOND: f64 = 100.0;

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
        let mib = |name: &str| Some(kib(value_of(&status, name, ':')?)? as f64 / 1024.0);
        Self {
            cpu_time: text(&root.join("proc/self/stat")).and_then(|stat| cpu_time(&stat)),
            resident_mib: mib("VmRSS"),
            peak_mib: mib("VmHWM"),
        }
    }
}

/// User and system time, the 14th and 15th field; the second, the program's name in brackets, may have blanks in it.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    let ticks = fields.next()?? + fields.next()??;
    Some(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
}
