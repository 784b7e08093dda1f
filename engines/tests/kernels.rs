//! The kernels that the program carries are those of `kernels.cu`: NVRTC makes the same PTX of it again.
//!
//! NVRTC comes from a wheel (`make nvrtc`). Without it this says that it is skipped, and fails where
//! `WORDSIGHT_REQUIRE_REFERENCE` is set. After a change to the kernels: `make kernels`.
#![cfg(feature = "tensorrt")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// The oldest GPU that TensorRT 10 supports; no fused multiply-adds, so that sums are those of the processor's twin.
const OPTIONS: [&str; 3] = ["--gpu-architecture=compute_75", "--fmad=false", "--std=c++17"];

fn nvrtc() -> Option<ManuallyDrop<Library>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/nvrtc/lib");
    if !folder.is_dir() {
        let lacking = format!("{} is not there; run `make nvrtc` first", folder.display());
        assert!(std::env::var_os("WORDSIGHT_REQUIRE_REFERENCE").is_none(), "{lacking}");
        // Not by eprintln!, which the test runner keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {lacking}");
        return None;
    }
    let names = ["libnvrtc-builtins.so.12.6", "libnvrtc.so.12"].map(|name| folder.join(name));
    // NVRTC looks for its builtins by name alone: they must be there before it does.
    // SAFETY: NVIDIA's libraries, from the wheel whose hash was checked; never unloaded.
    let [_, nvrtc] = names
        .map(|path| ManuallyDrop::new(unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.unwrap()));
    Some(nvrtc)
}

/// What NVRTC makes of a source.
fn compile(nvrtc: &Library, source: &str) -> String {
    type Program = *mut c_void;
    type Create = unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const c_void,
        *const c_void,
    ) -> c_int;
    type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
    type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
    type Text = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
    let (source, name) = (CString::new(source).unwrap(), CString::new("kernels.cu").unwrap());
    let options = OPTIONS.map(|option| CString::new(option).unwrap());
    let options = options.each_ref().map(|option| option.as_ptr());
    // SAFETY: these are the signatures of nvrtc.h, and every pointer outlives its call.
    unsafe {
        let create = nvrtc.get::<Create>(b"nvrtcCreateProgram\0").unwrap();
        let compile = nvrtc.get::<Compile>(b"nvrtcCompileProgram\0").unwrap();
        let mut program = null_mut();
        assert_eq!(create(&raw mut program, source.as_ptr(), name.as_ptr(), 0, null(), null()), 0);
        let compiled = compile(program, options.len() as c_int, options.as_ptr());
        let text = |size: &[u8], text: &[u8]| {
            let mut length = 0;
            assert_eq!(nvrtc.get::<Size>(size).unwrap()(program, &raw mut length), 0);
            let mut bytes = vec![0_u8; length];
            assert_eq!(nvrtc.get::<Text>(text).unwrap()(program, bytes.as_mut_ptr().cast()), 0);
            String::from_utf8(bytes).unwrap().trim_end_matches('\0').to_owned()
        };
        let log = text(b"nvrtcGetProgramLogSize\0", b"nvrtcGetProgramLog\0");
        assert!(compiled == 0 && log.trim().is_empty(), "{log}");
        text(b"nvrtcGetPTXSize\0", b"nvrtcGetPTX\0")
    }
}

#[test]
fn the_ptx_is_what_nvrtc_makes_of_the_kernels() {
    let Some(nvrtc) = nvrtc() else { return };
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gpu");
    let made = compile(&nvrtc, &fs::read_to_string(folder.join("kernels.cu")).unwrap());
    let kept = folder.join("kernels.ptx");
    if std::env::var_os("WORDSIGHT_UPDATE_PTX").is_some() {
        fs::write(&kept, &made).unwrap();
    }
    let same = fs::read_to_string(&kept).is_ok_and(|kept| kept == made);
    assert!(same, "kernels.ptx is not of this kernels.cu: run `make kernels`");
    for kernel in ["letterbox", "similarities", "rank"] {
        assert!(made.contains(&format!(".visible .entry {kernel}(")), "{kernel} is missing");
    }
}
