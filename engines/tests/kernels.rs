//! The kernels that the program carries are those of `kernels.cu`: NVRTC compiles it to the same PTX for every GPU and
//! machine code for Orin's.
//!
//! NVIDIA's assembler makes machine code of that PTX, as the driver's does, for the GPUs that we expect, and no kernel
//! needs more registers than let an Ampere GPU run enough threads.
//!
//! NVRTC and the assembler (nvJitLink) come from wheels (`make nvrtc`). Without them this says that it is skipped.
//! After a change to the kernels: `make kernels`.
#![cfg(feature = "tensorrt")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../tests/support/skipping.rs"]
mod skipping;

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// The oldest GPU that TensorRT 10 supports.
const PTX: &str = "--gpu-architecture=compute_75";
/// Orin.
const CUBIN: &str = "--gpu-architecture=sm_87";
/// No fused multiply-adds, so that sums are those of the processor's twin.
const OPTIONS: [&str; 2] = ["--fmad=false", "--std=c++17"];

/// The kernels, by name.
const KERNELS: [&str; 4] = ["letterbox_columns", "letterbox_rows", "similarities", "rank"];

/// The folder of the libraries, one of which is asked for.
fn libraries(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/nvrtc/lib");
    if !folder.join(name).exists() {
        skipping::skip(
            "the kernels as NVIDIA's compiler sees them",
            &format!("{name} is not there"),
            "`make nvrtc`",
        );
        return None;
    }
    Some(folder)
}

fn nvrtc() -> Option<ManuallyDrop<Library>> {
    let folder = libraries("libnvrtc.so.12")?;
    let names = ["libnvrtc-builtins.so.12.6", "libnvrtc.so.12"].map(|name| folder.join(name));
    // NVRTC looks for its builtins by name alone: they must be there before it does.
    // SAFETY: NVIDIA's libraries, from the wheel whose hash was checked; never unloaded.
    let [_, nvrtc] = names
        .map(|path| ManuallyDrop::new(unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.unwrap()));
    Some(nvrtc)
}

/// What NVRTC makes of a source for an architecture; `result` is what its functions call that.
fn compile(nvrtc: &Library, source: &str, architecture: &str, result: &str) -> Vec<u8> {
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
    let options: Vec<CString> =
        OPTIONS.iter().chain([&architecture]).map(|option| CString::new(*option).unwrap()).collect();
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    // SAFETY: these are the signatures of nvrtc.h, and every pointer outlives its call.
    unsafe {
        let create = nvrtc.get::<Create>(b"nvrtcCreateProgram\0").unwrap();
        let compile = nvrtc.get::<Compile>(b"nvrtcCompileProgram\0").unwrap();
        let mut program = null_mut();
        assert_eq!(create(&raw mut program, source.as_ptr(), name.as_ptr(), 0, null(), null()), 0);
        let compiled = compile(program, options.len() as c_int, options.as_ptr());
        let bytes = |what: &str| {
            let mut length = 0;
            let (size, get) = (format!("nvrtcGet{what}Size\0"), format!("nvrtcGet{what}\0"));
            assert_eq!(nvrtc.get::<Size>(size.as_bytes()).unwrap()(program, &raw mut length), 0);
            let mut bytes = vec![0_u8; length];
            assert_eq!(nvrtc.get::<Text>(get.as_bytes()).unwrap()(program, bytes.as_mut_ptr().cast()), 0);
            bytes
        };
        let log = String::from_utf8(bytes("ProgramLog")).unwrap();
        assert!(compiled == 0 && log.trim_end_matches('\0').trim().is_empty(), "{log}");
        bytes(result)
    }
}

#[test]
fn what_the_program_carries_is_what_nvrtc_makes_of_the_kernels() {
    let Some(nvrtc) = nvrtc() else { return };
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gpu");
    let source = fs::read_to_string(folder.join("kernels.cu")).unwrap();
    let mut ptx = compile(&nvrtc, &source, PTX, "PTX");
    // It ends with a zero, which is none of the text.
    assert_eq!(ptx.pop(), Some(0));
    let cubin = compile(&nvrtc, &source, CUBIN, "CUBIN");
    for (kept, made) in [("kernels.ptx", &ptx), ("kernels.sm_87.cubin", &cubin)] {
        let path = folder.join(kept);
        if std::env::var_os("WORDSIGHT_UPDATE_PTX").is_some() {
            fs::write(&path, made).unwrap();
        }
        let same = fs::read(&path).is_ok_and(|kept| kept == *made);
        assert!(same, "{kept} is not of this kernels.cu: run `make kernels`");
    }
    let text = String::from_utf8_lossy(&ptx);
    for kernel in KERNELS {
        assert!(text.contains(&format!(".visible .entry {kernel}(")), "{kernel} is missing");
        let section = format!(".text.{kernel}\0");
        assert!(cubin.windows(section.len()).any(|bytes| bytes == section.as_bytes()), "{kernel} is missing");
    }
}

/// Machine code of the program's PTX for an architecture, by nvJitLink, and what it tells of it (`-verbose`).
fn assemble(library: &Library, architecture: &str) -> (Vec<u8>, String) {
    type Handle = *mut c_void;
    type Create = unsafe extern "C" fn(*mut Handle, u32, *const *const c_char) -> c_int;
    type Add = unsafe extern "C" fn(Handle, c_int, *const c_void, usize, *const c_char) -> c_int;
    type Step = unsafe extern "C" fn(Handle) -> c_int;
    type Size = unsafe extern "C" fn(Handle, *mut usize) -> c_int;
    type Bytes = unsafe extern "C" fn(Handle, *mut c_char) -> c_int;
    const PTX_INPUT: c_int = 2;
    let mut ptx = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gpu/kernels.ptx")).unwrap();
    ptx.push(0);
    let options =
        [format!("-arch={architecture}"), "-verbose".to_owned()].map(|option| CString::new(option).unwrap());
    let options = options.each_ref().map(|option| option.as_ptr());
    // SAFETY: these are the signatures of nvJitLink.h, whose functions have their version in their names; every pointer
    // outlives its call.
    unsafe {
        let symbol = |name: &str| format!("__nvJitLink{name}_12_6\0");
        let mut handle = null_mut();
        let create = library.get::<Create>(symbol("Create").as_bytes()).unwrap();
        assert_eq!(create(&raw mut handle, options.len() as u32, options.as_ptr()), 0);
        let bytes = |what: &str| {
            let mut length = 0;
            let size = library.get::<Size>(symbol(&format!("Get{what}Size")).as_bytes()).unwrap();
            assert_eq!(size(handle, &raw mut length), 0, "{what}");
            let mut bytes = vec![0_u8; length.max(1)];
            let get = library.get::<Bytes>(symbol(&format!("Get{what}")).as_bytes()).unwrap();
            assert_eq!(get(handle, bytes.as_mut_ptr().cast()), 0, "{what}");
            bytes
        };
        let log = |what: &str| String::from_utf8_lossy(&bytes(what)).trim_end_matches('\0').to_owned();
        let add = library.get::<Add>(symbol("AddData").as_bytes()).unwrap();
        let added = add(handle, PTX_INPUT, ptx.as_ptr().cast(), ptx.len(), c"kernels.ptx".as_ptr());
        assert_eq!(added, 0, "{architecture}: {}", log("ErrorLog"));
        let complete = library.get::<Step>(symbol("Complete").as_bytes()).unwrap();
        assert_eq!(complete(handle), 0, "{architecture}: {}", log("ErrorLog"));
        (bytes("LinkedCubin"), log("InfoLog"))
    }
}

#[test]
fn the_ptx_becomes_machine_code_that_leaves_registers_free() {
    let Some(folder) = libraries("libnvJitLink.so.12") else { return };
    // SAFETY: NVIDIA's library, from the wheel whose hash was checked; never unloaded.
    let library = unsafe { Library::open(Some(folder.join("libnvJitLink.so.12")), RTLD_NOW) };
    let library = ManuallyDrop::new(library.unwrap());
    for architecture in ["sm_75", "sm_80", "sm_87", "sm_90"] {
        let (cubin, told) = assemble(&library, architecture);
        let _ = writeln!(std::io::stderr(), "{architecture}: {told}");
        for kernel in KERNELS {
            let section = format!(".text.{kernel}\0");
            assert!(
                cubin.windows(section.len()).any(|bytes| bytes == section.as_bytes()),
                "{architecture}: {kernel}"
            );
        }
        let registers: Vec<u32> = told
            .split("Used ")
            .skip(1)
            .map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(registers.len(), KERNELS.len(), "{told}");
        // Six blocks of 256 threads on one of Ampere's multiprocessors.
        let is_ampere = matches!(architecture, "sm_80" | "sm_87");
        assert!(!is_ampere || registers.iter().all(|count| *count <= 40), "{architecture}: {told}");
        assert_eq!(
            told.matches("0 bytes spill stores, 0 bytes spill loads").count(),
            KERNELS.len(),
            "{told}"
        );
    }
}
