//! Compiles the stand-in for CUDA's driver, for the tests of this crate and of the device program.

use std::path::Path;
use std::process::Command;

/// Writes `libcuda.so.1` into a folder, from the sources in the folder of the crate `engines`.
pub fn compile_into(folder: &Path, engines: &Path) {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let compiled = Command::new(compiler)
        .args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-ffp-contract=off", "-fPIC", "-shared", "-o"])
        .arg(folder.join("libcuda.so.1"))
        .arg(engines.join("tests/cuda_stand_in.cpp"))
        .status();
    assert!(compiled.expect("a C++ compiler (`make setup`)").success());
}
