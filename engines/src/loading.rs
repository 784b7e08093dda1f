//! Helpers to load a shared library at run time.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The loader's own words, which libloading keeps one level down.
pub fn said_by_loader(error: &libloading::Error) -> String {
    one_line(&std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string))
}

/// Whether a file is a 64-bit ELF library that ends before its section table, which stands last.
/// What is no such file is the loader's to judge.
pub fn is_cut_off(path: &Path) -> bool {
    let mut header = [0; 64];
    let Ok(length) = File::open(path).and_then(|mut file| {
        file.read_exact(&mut header)?;
        Ok(file.metadata()?.len())
    }) else {
        return false;
    };
    let number = |place: usize, bytes: usize| {
        header[place..place + bytes].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    // Magic, 64 bits, little-endian; then e_shoff, e_shentsize and e_shnum of the ELF header.
    let end = number(0x28, 8).saturating_add(number(0x3A, 2) * number(0x3C, 2));
    header.starts_with(b"\x7FELF\x02\x01") && end > length
}

/// A message on one line: libraries' span several, and an error here is one sentence.
pub fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
