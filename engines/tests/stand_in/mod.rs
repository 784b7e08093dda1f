//! Compiles the stand-ins for CUDA's driver and for TensorRT 10, for the tests of this crate and of the device program.
#![allow(dead_code, reason = "each test file uses its own part")]

#[allow(clippy::duplicate_mod, reason = "the device program's tests have it beside their support")]
#[path = "../../../tests/support/skipping.rs"]
mod skipping;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn compiler() -> Command {
    Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()))
}

fn run(command: &mut Command) {
    assert!(command.status().expect("a C++ compiler (`make setup`)").success(), "{command:?}");
}

/// Writes `libcuda.so.1` into a folder, from the sources in the folder of the crate `engines`.
pub fn compile_into(folder: &Path, engines: &Path) {
    compile_driver_into(folder, &[], engines);
}

/// The same with more of the compiler's arguments: `-DCUDA_STAND_IN_OF_11` for a driver that lacks what CUDA 12 brought.
pub fn compile_driver_into(folder: &Path, more: &[&str], engines: &Path) {
    run(compiler()
        .args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-ffp-contract=off", "-fPIC", "-shared"])
        .args(more)
        .arg("-o")
        .arg(folder.join("libcuda.so.1"))
        .arg(engines.join("tests/cuda_stand_in.cpp")));
}

/// The folder of a set of TensorRT's headers, `TRT-Enterprise-10.16`.
pub fn headers(name: &str, engines: &Path) -> Option<PathBuf> {
    let folder = engines.join("../.deps/tensorrt/headers").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    skipping::skip(
        "what stands in for TensorRT 10",
        &format!("there are no headers {name}"),
        "`make tensorrt`",
    );
    None
}

/// Compiles one of `tests/tensorrt/` against a set of TensorRT's headers.
pub fn compile_with_headers(source: &str, to: &Path, more: &[&str], headers: &Path, engines: &Path) {
    run(compiler()
        .args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wno-deprecated-declarations"])
        .args(more)
        .arg("-isystem")
        .arg(headers)
        .arg("-isystem")
        .arg(engines.join("src/tensorrt/cuda"))
        .arg("-o")
        .arg(to)
        .arg(engines.join("tests/tensorrt").join(source))
        .arg("-ldl"));
}

/// Writes `libnvinfer.so.10` and `libnvonnxparser.so.10` into a folder; `false`, and said, where the headers lack.
pub fn compile_tensorrt_into(folder: &Path, engines: &Path) -> bool {
    let Some(headers) = headers("TRT-Enterprise-10.16", engines) else { return false };
    let core = folder.join("libnvinfer.so.10");
    compile_with_headers("stand_in.cpp", &core, &["-fPIC", "-shared"], &headers, engines);
    fs::copy(&core, folder.join("libnvonnxparser.so.10")).expect("a folder to write to");
    true
}
