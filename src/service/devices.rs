//! Device nodes of cameras and GPUs, and those that the unit's device rules deny because their driver came late.
//!
//! systemd turns `DeviceAllow=char-NAME` into numbers of drivers when it starts the service. A driver that is loaded later
//! and whose number Linux hasn't fixed is in none of them: this process can't open its nodes, whatever groups it is in, and
//! the next process can.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Devices of cameras, by the beginning of their names.
pub const CAMERAS: &[&str] = &["video", "media"];
/// Those of NVIDIA's GPUs. CUDA on an Orin opens those of nvgpu/igpu0, or of nvhost-*-gpu, and waits for the GPU by
/// host1x-fence.
pub const GPUS: &[&str] = &["nvidia", "nvhost-", "nvmap", "dri/renderD", "nvgpu/igpu0/", "host1x-fence"];

/// The devices in the folder `dev` whose names begin with one of these.
pub fn devices(dev: &Path, beginnings: &[&str]) -> Vec<PathBuf> {
    let beginning_with = |beginning: &&str| -> Vec<PathBuf> {
        let folder = beginning.rsplit_once('/').map_or(dev.to_owned(), |(folder, _)| dev.join(folder));
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let is_it = |path: &PathBuf| {
            path.strip_prefix(dev)
                .is_ok_and(|name| name.as_os_str().as_bytes().starts_with(beginning.as_bytes()))
        };
        entries.map(|entry| entry.path()).filter(is_it).filter(|path| !path.is_dir()).collect()
    };
    let mut all: Vec<PathBuf> = beginnings.iter().flat_map(beginning_with).collect();
    all.sort();
    all
}

/// Whether this process may read and write a file, without opening it.
///
/// # Errors
/// What the system refuses it for: EPERM where device rules do, EACCES where the file's owner and mode do.
pub fn may_use(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the text lives while it is read.
    if unsafe { libc::access(path.as_ptr(), libc::R_OK | libc::W_OK) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Tells nodes of GPUs that came after this process from those that were there.
#[derive(Debug)]
pub struct LateDevices {
    dev: PathBuf,
    /// Those that were there. What is denied though it was there would be denied to the next process as well.
    known: BTreeSet<PathBuf>,
    may_use: fn(&Path) -> io::Result<()>,
}

impl Default for LateDevices {
    /// What comes after now is late.
    fn default() -> Self {
        Self::among(Path::new("/dev"), may_use)
    }
}

impl LateDevices {
    fn among(dev: &Path, may_use: fn(&Path) -> io::Result<()>) -> Self {
        Self { dev: dev.to_owned(), known: devices(dev, GPUS).into_iter().collect(), may_use }
    }

    /// A node of a GPU's that came late and that device rules deny to this process.
    pub fn denied(&self) -> Option<PathBuf> {
        let is_denied = |path: &PathBuf| {
            let refused = (self.may_use)(path).err().and_then(|error| error.raw_os_error());
            !self.known.contains(path) && refused == Some(libc::EPERM)
        };
        devices(&self.dev, GPUS).into_iter().find(is_denied)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// Rules that deny what has "uvm" in its name, and a mode that does "ctl".
    fn made_rules(path: &Path) -> io::Result<()> {
        let name = path.to_str().unwrap();
        let code = if name.contains("uvm") { libc::EPERM } else { libc::EACCES };
        if name.contains("uvm") || name.contains("ctl") {
            Err(io::Error::from_raw_os_error(code))
        } else {
            Ok(())
        }
    }

    #[test]
    fn what_came_late_and_is_denied_by_rules_is_told_from_all_else() {
        let dev = tempfile::tempdir().unwrap();
        let appears = |name: &str| fs::write(dev.path().join(name), b"").unwrap();
        appears("nvidia-uvm-tools");
        let late = LateDevices::among(dev.path(), made_rules);
        assert_eq!(late.denied(), None, "it was there");
        for name in ["nvidia0", "nvidiactl", "video-uvm", "uvm"] {
            appears(name);
            assert_eq!(late.denied(), None, "{name}: open, closed by its mode, a camera's, nobody's");
        }
        appears("nvidia-uvm");
        assert_eq!(late.denied(), Some(dev.path().join("nvidia-uvm")));
        assert_eq!(
            LateDevices::among(dev.path(), made_rules).denied(),
            None,
            "the next process ends for none"
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_systems_reason() {
        let folder = tempfile::tempdir().unwrap();
        assert!(may_use(folder.path()).is_ok());
        let missing = may_use(&folder.path().join("nvidia0")).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
        assert!(may_use(Path::new("nvidia\0")).is_err());
    }
}
