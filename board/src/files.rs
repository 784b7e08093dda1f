//! Files that the kernel makes, read as numbers, names and lines; nothing where there is nothing to read.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A file's text without the white space and zeros at its ends; nothing when there is none.
pub(crate) fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = trimmed(&text);
    (!text.is_empty()).then(|| text.to_owned())
}

/// Parses a short file without allocating.
pub(crate) fn parsed<T>(path: &Path, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let mut bytes = [0; 128];
    let length = File::open(path).ok()?.read(&mut bytes).ok()?;
    parse(trimmed(std::str::from_utf8(&bytes[..length]).ok()?))
}

/// The number that a file holds.
pub(crate) fn number<T: FromStr>(path: &Path) -> Option<T> {
    parsed(path, |text| text.parse().ok())
}

/// Calls `see` with each line of a file until it returns something, without allocating. Of a line with more than 256
/// bytes the rest is left out.
pub(crate) fn find_line<T>(path: &Path, mut see: impl FnMut(&str) -> Option<T>) -> Option<T> {
    let mut file = File::open(path).ok()?;
    let (mut bytes, mut line, mut length) = ([0; 1024], [0; 256], 0);
    let mut told = |line: &[u8]| see(std::str::from_utf8(line).ok()?);
    loop {
        let read = file.read(&mut bytes).ok()?;
        for &byte in &bytes[..read] {
            if byte == b'\n' {
                if let Some(found) = told(&line[..length]) {
                    return Some(found);
                }
                length = 0;
            } else if let Some(place) = line.get_mut(length) {
                *place = byte;
                length += 1;
            }
        }
        if read == 0 {
            return told(&line[..length]);
        }
    }
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

/// The value in the line `name: value` of a text, with any white space around both.
pub(crate) fn value_of<'a>(text: &'a str, name: &str, separator: char) -> Option<&'a str> {
    text.lines().find_map(|line| value_in(line, name, separator))
}

/// The same of one line.
pub(crate) fn value_in<'a>(line: &'a str, name: &str, separator: char) -> Option<&'a str> {
    let (key, value) = line.split_once(separator)?;
    (key.trim() == name && !value.trim().is_empty()).then(|| value.trim())
}

/// The KiB in "4096 kB".
pub(crate) fn kib(value: &str) -> Option<u64> {
    value.strip_suffix("kB")?.trim().parse().ok()
}

pub(crate) fn mhz_from_khz(khz: u64) -> u32 {
    u32::try_from(khz / 1000).unwrap_or(u32::MAX)
}

pub(crate) fn mhz_from_hz(hz: u64) -> u32 {
    mhz_from_khz(hz / 1000)
}

/// The folders in `folder` whose names are `prefix` and a number, in the order of these.
pub(crate) fn numbered(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let number = |name: &str| name.strip_prefix(prefix)?.parse::<u32>().ok();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((number(&entry.file_name().to_string_lossy())?, entry.path())))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// The folders of the processor's cores.
pub(crate) fn core_folders(root: &Path) -> Vec<PathBuf> {
    numbered(&root.join("sys/devices/system/cpu"), "cpu")
}

/// The GPU of a Jetson, which is a device whose clock the kernel steers: "gpu-gpc-0" on a Thor, "17000000.gpu" on an
/// Orin, before JetPack 6 "17000000.ga10b" and "17000000.gv11b".
pub(crate) fn gpu_folder(root: &Path) -> Option<PathBuf> {
    let is_gpu = |path: &PathBuf| {
        let kind = path.extension().unwrap_or_default();
        path.file_name().is_some_and(|name| name == "gpu-gpc-0")
            || ["gpu", "ga10b", "gv11b", "gp10b"].iter().any(|gpu| kind == *gpu)
    };
    let entries = fs::read_dir(root.join("sys/class/devfreq")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_gpu).min()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_found_wherever_the_file_is_cut_into_pieces() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let flags = "x".repeat(5000);
        fs::write(file.path(), format!("flags: {flags}\ncpu MHz: 1800\nlast: 7")).unwrap();
        let mut lengths = Vec::new();
        let last = find_line(file.path(), |line| {
            lengths.push(line.len());
            value_in(line, "last", ':')?.parse::<u32>().ok()
        });
        assert_eq!((last, lengths), (Some(7), vec![256, 13, 7]));
        assert_eq!(find_line(Path::new("/nowhere"), |_| Some(())), None);
    }
}
