//! Finds TensorRT, and decides whether its version can be called.

use std::ffi::{CStr, c_char};
use std::fmt;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use libloading::Symbol;

use super::TensorRtError;
use super::ffi::{self, Functions};
use crate::loading::{is_cut_off, one_line, said_by_loader};

/// The libraries' names: the core and its ONNX parser. Without a development package there is no
/// plain `.so`.
const NAMES: [(Kind, &str, &str); 3] = [
    (Kind::Enterprise, "libnvinfer.so.11", "libnvonnxparser.so.11"),
    (Kind::Enterprise, "libnvinfer.so.10", "libnvonnxparser.so.10"),
    (Kind::Rtx, "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"),
];

/// The two products of that name, whose versions have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Enterprise,
    Rtx,
}

/// A version, as the library says it: 10.3.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(i32);

impl Version {
    fn major(self) -> i32 {
        if self.0 < 10_000 { self.0 / 1000 } else { self.0 / 10_000 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Before 10 a major version was a thousand.
        let (minor, patch) = (self.0 / 100 % if self.0 < 10_000 { 10 } else { 100 }, self.0 % 100);
        write!(formatter, "{}.{minor}.{patch}", self.major())
    }
}

/// TensorRT, loaded and of a version that this program can call.
///
/// Cloning it is cheap. The libraries are never unloaded, since TensorRT does not survive it.
#[derive(Clone)]
pub struct Library {
    inner: Arc<Inner>,
}

struct Inner {
    functions: &'static Functions,
    handle: *mut ffi::Library,
    /// One call at a time: the handle holds the last error's text.
    calls: Mutex<()>,
    kind: Kind,
    version: Version,
    /// What is missing to build plans.
    lacks: Option<String>,
}

// SAFETY: the handle is factories that may be called from any thread, and an error's text, which is written and read
// under `calls`.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the handle came from `open`, and nothing made from it is left: all of it holds this Arc.
        unsafe { (self.functions.close)(self.handle) }
    }
}

impl Library {
    /// Loads TensorRT: from `folder`, or else by the system's loader (`LD_LIBRARY_PATH`, ld.so.conf).
    /// Of several the newest of Jetson's family is taken, and TensorRT for RTX last.
    ///
    /// # Errors
    /// When there is none, when it is damaged, or when this program was not built for its family.
    pub fn open(folder: Option<&Path>) -> Result<Self, TensorRtError> {
        for (kind, core, parser) in NAMES {
            let place = |name: &str| folder.map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
            let (core, parser) = (place(core), place(parser));
            if folder.is_some() && !core.exists() {
                continue;
            }
            match load(&core) {
                Ok(core_library) => return Self::from_libraries(kind, &core, &core_library, &parser),
                Err(Unloaded::Absent) if folder.is_none() => {}
                Err(Unloaded::Without(dependency)) => {
                    return Err(TensorRtError::MissingDependency { path: core, dependency });
                }
                Err(reason) => {
                    return Err(TensorRtError::Unloadable { path: core, reason: reason.to_string() });
                }
            }
        }
        Err(TensorRtError::Missing {
            tried: NAMES.map(|(_, core, _)| core).join(", "),
            place: folder
                .map_or("on the loader's path".to_owned(), |folder| format!("in {}", folder.display())),
        })
    }

    fn from_libraries(
        kind: Kind,
        path: &Path,
        core: &libloading::Library,
        parser: &Path,
    ) -> Result<Self, TensorRtError> {
        let no_tensorrt = |_| TensorRtError::Unloadable {
            path: path.to_owned(),
            reason: "it is not TensorRT: it lacks TensorRT's functions".to_owned(),
        };
        // SAFETY: these are the signatures of NVIDIA's headers, which have not changed since TensorRT 5.
        let (version, runtime, builder) = unsafe {
            let version: Symbol<'_, extern "C" fn() -> i32> =
                core.get(b"getInferLibVersion\0").map_err(no_tensorrt)?;
            let runtime: Symbol<'_, ffi::Factory> =
                core.get(b"createInferRuntime_INTERNAL\0").map_err(no_tensorrt)?;
            // A lean runtime has none.
            let builder =
                core.get::<ffi::Factory>(b"createInferBuilder_INTERNAL\0").ok().map(|symbol| *symbol);
            (Version(version()), *runtime, builder)
        };
        let functions = matching(kind, version)?;
        // A machine that only runs plans needs no parser.
        let loaded_parser = load(parser).map_err(|reason| match reason {
            Unloaded::Absent => format!("there is no {}", parser.display()),
            Unloaded::Without(dependency) => {
                format!("{} needs {dependency}, which was not found", parser.display())
            }
            Unloaded::Bad(said) => format!("{} cannot be loaded ({said})", parser.display()),
        });
        let make_parser = loaded_parser.and_then(|library| {
            // SAFETY: as above.
            let symbol = unsafe { library.get::<ffi::ParserFactory>(b"createNvOnnxParser_INTERNAL\0") };
            symbol.map(|symbol| *symbol).map_err(|_| format!("{} is not its ONNX parser", parser.display()))
        });
        let lacks = match (&make_parser, builder) {
            (Ok(_), Some(_)) => None,
            (Err(reason), Some(_)) => Some(reason.clone()),
            (_, None) => Some(format!("{} is a lean runtime", path.display())),
        };
        // SAFETY: the functions' libraries are never unloaded.
        let handle =
            unsafe { (functions.open)(builder, Some(runtime), make_parser.ok(), version.0, forward_log) };
        tracing::debug!(path = %path.display(), %version, "loaded TensorRT");
        Ok(Self { inner: Arc::new(Inner { functions, handle, calls: Mutex::new(()), kind, version, lacks }) })
    }

    /// `TensorRT 10.3.0`, `TensorRT for RTX 1.7.1`.
    pub fn name(&self) -> String {
        format!("{} {}", self.flavour(), self.inner.version)
    }

    /// Which product it is: plans of one are nothing to the other.
    pub fn flavour(&self) -> &'static str {
        match self.inner.kind {
            Kind::Enterprise => "TensorRT",
            Kind::Rtx => "TensorRT for RTX",
        }
    }

    /// Its version, `10.3.0`.
    pub fn version(&self) -> String {
        self.inner.version.to_string()
    }

    /// Whether it can build plans for GPUs that are not there.
    pub fn builds_for_other_gpus(&self) -> bool {
        self.inner.kind == Kind::Rtx
    }

    /// That it has all that building takes.
    pub(super) fn can_build(&self) -> Result<(), TensorRtError> {
        let lacks = self.inner.lacks.clone();
        lacks.map_or(Ok(()), |reason| Err(TensorRtError::NoParser { library: self.name(), reason }))
    }

    pub(super) fn functions(&self) -> &'static Functions {
        self.inner.functions
    }

    /// Calls the shim; a status other than [`ffi::OK`] comes back with what TensorRT said.
    pub(super) fn call(
        &self,
        function: impl FnOnce(&'static Functions, *mut ffi::Library) -> i32,
    ) -> Result<(), (i32, String)> {
        let inner = &*self.inner;
        let _one_at_a_time = inner.calls.lock().unwrap_or_else(PoisonError::into_inner);
        match function(inner.functions, inner.handle) {
            ffi::OK => Ok(()),
            // SAFETY: the handle lives as long as this does, and the text until the next call.
            status => Err((status, text_of(unsafe { (inner.functions.last_error)(inner.handle) }))),
        }
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

/// The oldest library that a shim can call: vtables only grow within a family, so a newer library works with older headers.
fn oldest_served(functions: &Functions) -> Version {
    /// What is called stands in the same place in all of 10.x (tests/tensorrt/slots.10).
    const FIRST_10: Version = Version(100_000);
    let headers = Version(functions.header_version);
    if functions.is_rtx == 0 && headers.major() == FIRST_10.major() {
        FIRST_10
    } else {
        Version(headers.0 / 100 * 100)
    }
}

/// The shim for a library.
fn matching(kind: Kind, version: Version) -> Result<&'static Functions, TensorRtError> {
    let name = |kind, version| match kind {
        Kind::Enterprise => format!("TensorRT {version}"),
        Kind::Rtx => format!("TensorRT for RTX {version}"),
    };
    let families = ffi::families();
    let kind_of = |functions: &Functions| if functions.is_rtx == 1 { Kind::Rtx } else { Kind::Enterprise };
    let serves = |functions: &Functions| {
        let oldest = oldest_served(functions);
        kind_of(functions) == kind && oldest.major() == version.major() && oldest <= version
    };
    families.iter().copied().find(|functions| serves(functions)).ok_or_else(|| {
        let built_for: Vec<String> = families
            .iter()
            .map(|functions| {
                let oldest = oldest_served(functions);
                format!("{} or a later {}.x", name(kind_of(functions), oldest), oldest.major())
            })
            .collect();
        TensorRtError::OtherFamily { library: name(kind, version), built_for: built_for.join(", ") }
    })
}

/// Why a library was not loaded.
#[derive(Debug, PartialEq, Eq)]
enum Unloaded {
    /// There is none of that name.
    Absent,
    /// One that it needs is not there.
    Without(String),
    /// It is a bad one, in the loader's words.
    Bad(String),
}

impl fmt::Display for Unloaded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("No such file or directory"),
            Self::Without(dependency) => write!(formatter, "it needs {dependency}"),
            Self::Bad(said) => formatter.write_str(said),
        }
    }
}

impl Unloaded {
    /// What the loader means. It says "NAME: cannot open shared object file: No such file or directory" of the library
    /// that was asked for and of one that that one needs, each by its name.
    fn of(path: &Path, said: &str) -> Self {
        match said.split_once(": ") {
            Some((name, reason)) if reason.contains("No such file") => {
                if Path::new(name) == path {
                    Self::Absent
                } else {
                    Self::Without(name.to_owned())
                }
            }
            _ => Self::Bad(said.to_owned()),
        }
    }
}

/// Loads a library for good.
fn load(path: &Path) -> Result<ManuallyDrop<libloading::Library>, Unloaded> {
    if path.is_file() && is_cut_off(path) {
        return Err(Unloaded::Bad("the file is cut off".to_owned()));
    }
    // SAFETY: this is the TensorRT that the user or the installation named, trusted as the rest of it is.
    let loaded = unsafe { libloading::Library::new(path) };
    loaded.map(ManuallyDrop::new).map_err(|error| Unloaded::of(path, &said_by_loader(&error)))
}

/// A C string of the shim's, on one line.
pub(super) fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the shim's strings end with a zero.
    one_line(&unsafe { CStr::from_ptr(text) }.to_string_lossy())
}

/// TensorRT's log goes to `tracing`. Its errors go to DEBUG: each of them also comes back as the error
/// of the call, and an error is reported once.
extern "C" fn forward_log(severity: i32, message: *const c_char) {
    let message = text_of(message);
    match severity {
        0 | 1 => tracing::debug!(target: "tensorrt", severity = "error", "{message}"),
        2 => tracing::info!(target: "tensorrt", severity = "warning", "{message}"),
        3 => tracing::debug!(target: "tensorrt", "{message}"),
        _ => tracing::trace!(target: "tensorrt", "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn versions_are_written_as_nvidia_writes_them() {
        for (number, text) in [(10_701, "1.7.1"), (100_300, "10.3.0"), (110_400, "11.4.0"), (8602, "8.6.2")] {
            assert_eq!(Version(number).to_string(), text);
        }
    }

    /// The shims that this program was built with, by kind and major version.
    fn shim(kind: Kind, major: i32) -> Option<&'static Functions> {
        let is_rtx = i32::from(kind == Kind::Rtx);
        ffi::families()
            .into_iter()
            .find(|shim| shim.is_rtx == is_rtx && Version(shim.header_version).major() == major)
    }

    #[test]
    fn every_tensorrt_10_is_served_which_jetpack_6_and_7_have() {
        let Some(ten) = shim(Kind::Enterprise, 10) else {
            let lacking = "this program was built without the headers of TensorRT 10: run `make tensorrt`";
            assert!(std::env::var_os("WORDSIGHT_REQUIRE_REFERENCE").is_none(), "{lacking}");
            let _ = writeln!(std::io::stderr(), "SKIPPED: {lacking}");
            return;
        };
        for version in [100_000, 100_300, 101_302, 101_600, 109_900] {
            let shim = matching(Kind::Enterprise, Version(version)).map(std::ptr::from_ref);
            assert!(shim.is_ok_and(|shim| shim == std::ptr::from_ref(ten)), "{version}");
        }
        assert!(matching(Kind::Enterprise, Version(8602)).is_err());
    }

    #[test]
    fn a_library_that_lacks_another_is_there() {
        let path = Path::new("libnvinfer.so.10");
        let missing = "cannot open shared object file: No such file or directory";
        assert_eq!(Unloaded::of(path, &format!("libnvinfer.so.10: {missing}")), Unloaded::Absent);
        assert_eq!(
            Unloaded::of(path, &format!("libnvdla_compiler.so: {missing}")),
            Unloaded::Without("libnvdla_compiler.so".to_owned())
        );
        assert_eq!(
            Unloaded::of(path, "/lib/libnvinfer.so.10: file too short"),
            Unloaded::Bad("/lib/libnvinfer.so.10: file too short".to_owned())
        );
    }

    #[test]
    fn a_library_is_served_by_headers_of_its_family_that_are_no_newer() {
        let Some(rtx) = shim(Kind::Rtx, 1) else {
            // Not by println!, which the test runner keeps to itself when a test passes.
            let lacking = "SKIPPED: this program was built without the headers of TensorRT for RTX";
            let _ = writeln!(std::io::stderr(), "{lacking}");
            return;
        };
        let version = rtx.header_version;
        assert!(matching(Kind::Rtx, Version(version)).is_ok());
        assert!(matching(Kind::Rtx, Version(version + 1000)).is_ok());
        for (kind, other) in
            [(Kind::Rtx, version - 100), (Kind::Rtx, version + 10_000), (Kind::Enterprise, 8602)]
        {
            let error =
                matching(kind, Version(other)).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(
                error.contains("TENSORRT_INCLUDE_DIR") && error.contains("TensorRT for RTX 1."),
                "{error}"
            );
        }
    }
}
