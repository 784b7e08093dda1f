//! Finding and loading ONNX Runtime, once a process.
//!
//! The search, in order:
//! 1. `ORT_DYLIB_PATH`, when it is set and not empty: this file and no other;
//! 2. `libonnxruntime.so*` beside the executable, in `../lib/NAME` of it, where NAME is its own, and in
//!    `../lib/wordsight`: an installation;
//! 3. `.deps/onnxruntime/libonnxruntime.so*` under the current directory, and under each directory
//!    above the executable: a checkout, where `make deps` puts it;
//! 4. the system loader's own search for `libonnxruntime.so`.
//!
//! The first file that exists is the one: if it will not load, that is the error, because a second
//! library quietly taking its place would be far harder to understand.
//!
//! The library is opened here and asked for its version before it is handed to the `ort` crate, which
//! panics on a library that it cannot use. Before that, the file is checked for being whole: the
//! system's loader would map the missing end of a truncated download, and the process would die of a
//! bus error.

use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::LibraryError;
use crate::loading::{is_cut_off, one_line, said_by_loader};

/// What the loader is asked for when no file was found.
const SYSTEM_NAME: &str = "libonnxruntime.so";

/// What ONNX Runtime asks before it makes its first environment.
const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

/// The environment that every session of this process shares.
///
/// It lives as long as the process: ONNX Runtime's threads must not meet its destructors.
pub(super) fn environment() -> Result<&'static Environment, LibraryError> {
    static ENVIRONMENT: OnceLock<Result<Environment, LibraryError>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| load(&chosen_library())).as_ref().map_err(Clone::clone)
}

/// The version of the library that this process has loaded: `1.32.0`; `None` before a model was opened.
pub fn loaded_version() -> Option<&'static str> {
    VERSION.get().map(String::as_str)
}

static VERSION: OnceLock<String> = OnceLock::new();

/// The file (or, without a directory in it, the name) that the search above settles on.
fn chosen_library() -> PathBuf {
    if let Some(named) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return named.into();
    }
    let executable = std::env::current_exe().ok();
    let current = std::env::current_dir().ok();
    search_folders(executable.as_deref(), current.as_deref())
        .iter()
        .find_map(|folder| library_in(folder))
        .unwrap_or_else(|| SYSTEM_NAME.into())
}

/// Where to look, in order, for an executable and a current directory.
fn search_folders(executable: Option<&Path>, current: Option<&Path>) -> Vec<PathBuf> {
    let beside = executable.and_then(Path::parent);
    let mut folders = Vec::new();
    if let Some(beside) = beside {
        folders.push(beside.to_path_buf());
        let own = executable.and_then(Path::file_name).filter(|name| *name != "wordsight");
        folders.extend(own.map(|name| beside.join("../lib").join(name)));
        folders.push(beside.join("../lib/wordsight"));
    }
    let above = beside.into_iter().flat_map(Path::ancestors);
    folders.extend(current.into_iter().chain(above).map(|folder| folder.join(".deps/onnxruntime")));
    folders
}

/// The library in one folder: `libonnxruntime.so` itself, or else the newest `libonnxruntime.so.N`.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let suffix = name.to_str()?.strip_prefix(SYSTEM_NAME)?;
            Some((version_of_suffix(suffix)?, entry.path()))
        })
        .collect();
    found.sort();
    match found.first() {
        Some((version, plain)) if version.is_empty() => Some(plain.clone()),
        _ => found.pop().map(|(_, newest)| newest),
    }
}

/// `.1.32.0` as `[1, 32, 0]`, nothing as `[]`; `None` for `.debug` and the like.
fn version_of_suffix(suffix: &str) -> Option<Vec<u32>> {
    let mut parts = suffix.split('.');
    if parts.next() != Some("") {
        return None;
    }
    parts.map(|part| part.parse().ok()).collect()
}

/// Loads the library, checks it, and hands it to `ort`.
fn load(path: &Path) -> Result<Environment, LibraryError> {
    let unloadable =
        |reason: String| LibraryError::Unloadable { path: path.to_path_buf(), reason: one_line(&reason) };
    turn_off_telemetry();
    let probed = probe(path)?;
    let version = VERSION.get_or_init(|| probed);
    tracing::debug!(path = %path.display(), version, "loaded ONNX Runtime");
    let environment = ort::init_from(path)
        .map_err(|error| unloadable(error.to_string()))?
        .with_name("wordsight")
        .with_telemetry(false)
        .with_logger(Arc::new(forward_log))
        .build()
        .map_err(|error| unloadable(error.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

/// Turns off ONNX Runtime's telemetry: from 1.32 on it makes an identifier of the machine, keeps a file of events in
/// the user's home and sends them to Microsoft. `with_telemetry` alone comes too late, after the identifier.
fn turn_off_telemetry() {
    if std::env::var_os(NO_TELEMETRY).is_none() {
        // SAFETY: Rust's own accesses are locked, and no other thread of ours has C code read the environment before
        // an engine is open: ONNX Runtime's threads start after this, GStreamer after the engine.
        unsafe { std::env::set_var(NO_TELEMETRY, "1") };
    }
}

/// Opens the library and asks for its version, as `ort` will, but without a panic in reach.
fn probe(path: &Path) -> Result<String, LibraryError> {
    let unloadable =
        |reason: &str| LibraryError::Unloadable { path: path.to_path_buf(), reason: one_line(reason) };
    if path != Path::new(SYSTEM_NAME) && is_cut_off(path) {
        return Err(unloadable("the file is cut off"));
    }
    // SAFETY: loading a library runs its initialisers; this is the ONNX Runtime that the user or
    // the installation named, and it is trusted as the rest of the installation is. It is never
    // unloaded, because its threads and thread-locals would outlive its code.
    let library = match unsafe { libloading::Library::new(path) } {
        Ok(library) => ManuallyDrop::new(library),
        Err(error) if path == Path::new(SYSTEM_NAME) => {
            return Err(LibraryError::Missing {
                minimum_minor: ort::MINOR_VERSION,
                loader_said: said_by_loader(&error),
            });
        }
        Err(error) => return Err(unloadable(&said_by_loader(&error))),
    };
    type GetApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: the symbol's type is fixed by ONNX Runtime's C header since its first release.
    let get_api_base: libloading::Symbol<'_, GetApiBase> = unsafe { library.get(b"OrtGetApiBase\0") }
        .map_err(|_| unloadable("it is not ONNX Runtime: it has no OrtGetApiBase"))?;
    // SAFETY: the function takes nothing and returns a pointer to a static, or null.
    let base =
        unsafe { get_api_base().as_ref() }.ok_or_else(|| unloadable("its OrtGetApiBase returned nothing"))?;
    // SAFETY: `base` is not null, and the version is a static C string.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
    // SAFETY: asking for an API version is what GetApi is for; null means that it is not offered.
    let offers_our_api = unsafe { !(base.GetApi)(ort::MINOR_VERSION).is_null() };
    if !offers_our_api || minor_of(&version) < Some(ort::MINOR_VERSION) {
        return Err(LibraryError::TooOld {
            path: path.to_path_buf(),
            found: version,
            minimum_minor: ort::MINOR_VERSION,
        });
    }
    Ok(version)
}

/// The 32 of 1.32.0.
fn minor_of(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

/// ONNX Runtime's own log goes to `tracing`. Its errors go to DEBUG: each of them also comes back
/// as the error of the call, and an error is reported once.
fn forward_log(level: LogLevel, _category: &str, _id: &str, place: &str, message: &str) {
    match level {
        LogLevel::Warning => tracing::info!(target: "onnxruntime", place, "{message}"),
        LogLevel::Error | LogLevel::Fatal | LogLevel::Info => {
            tracing::debug!(target: "onnxruntime", place, "{message}");
        }
        LogLevel::Verbose => tracing::trace!(target: "onnxruntime", place, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_search_goes_from_the_installation_to_the_checkout() {
        let folders =
            search_folders(Some(Path::new("/src/target/release/wordsight")), Some(Path::new("/home/me")));
        let expected = [
            "/src/target/release",
            "/src/target/release/../lib/wordsight",
            "/home/me/.deps/onnxruntime",
            "/src/target/release/.deps/onnxruntime",
            "/src/target/.deps/onnxruntime",
            "/src/.deps/onnxruntime",
            "/.deps/onnxruntime",
        ];
        assert_eq!(folders, expected.map(PathBuf::from));
        let of_host_program = search_folders(Some(Path::new("/usr/bin/wordsight-distill")), None);
        let expected = ["/usr/bin", "/usr/bin/../lib/wordsight-distill", "/usr/bin/../lib/wordsight"];
        assert_eq!(of_host_program[..3], expected.map(PathBuf::from));
    }

    #[test]
    fn the_newest_of_several_versions_is_taken_and_the_plain_name_before_all() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.32.0",
            "libonnxruntime.so.1.32.0.debug",
            "libonnxruntime_providers_shared.so",
        ] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let newest = library_in(folder.path()).unwrap();
        assert!(newest.ends_with("libonnxruntime.so.1.32.0"), "{newest:?}");
        std::fs::write(folder.path().join(SYSTEM_NAME), b"").unwrap();
        let plain = library_in(folder.path()).unwrap();
        assert!(plain.ends_with("libonnxruntime.so"), "{plain:?}");
    }

    #[test]
    fn a_file_that_is_no_library_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SYSTEM_NAME);
        std::fs::write(&path, b"not an ELF file").unwrap();
        let error = probe(&path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains("make deps"), "{error}");
    }

    #[test]
    fn a_library_that_is_cut_off_is_a_sentence_and_no_bus_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SYSTEM_NAME);
        // Any library will do, and this test's own executable is one as far as its header goes.
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        std::fs::write(&path, &whole).unwrap();
        assert!(!is_cut_off(&path));
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = probe(&path).unwrap_err().to_string();
        assert!(error.contains("cut off"), "{error}");
    }

    #[test]
    fn a_library_that_is_not_onnx_runtime_is_refused() {
        let error = probe(Path::new("libc.so.6")).unwrap_err().to_string();
        assert!(error.contains("OrtGetApiBase"), "{error}");
    }
}
