//! Errors of TensorRT and its plans; each says what to do.

use std::path::PathBuf;

/// Why a plan could not be built, kept or loaded.
#[derive(Debug, thiserror::Error)]
pub enum TensorRtError {
    /// No library was found by any of its names.
    #[error(
        "TensorRT was not found: none of {tried} is {place}; install it (JetPack has it), or name the folder of its \
         libraries with --tensorrt"
    )]
    Missing {
        /// The names that were tried.
        tried: String,
        /// Where.
        place: String,
    },
    /// A library was found, and the loader will not have it.
    #[error("TensorRT at {} cannot be loaded ({reason}): install it again", path.display())]
    Unloadable {
        /// The file that was tried.
        path: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
    /// A library was found, and one that it needs itself was not.
    #[error("TensorRT at {} needs {dependency}, which was not found: install the package that has it", path.display())]
    MissingDependency {
        /// The file that was tried.
        path: PathBuf,
        /// What it needs.
        dependency: String,
    },
    /// The library has come without what reads models.
    #[error(
        "{library} can run plans and not build them: {reason}; install its ONNX parser (JetPack's libnvonnxparsers10)"
    )]
    NoParser {
        /// The library and its version.
        library: String,
        /// What is missing.
        reason: String,
    },
    /// This program was compiled against headers of another family.
    #[error(
        "{library} is not what this program was built for ({built_for}): build wordsight with TENSORRT_INCLUDE_DIR set \
         to that TensorRT's headers"
    )]
    OtherFamily {
        /// The library and its version.
        library: String,
        /// The families that this program can serve.
        built_for: String,
    },
    /// There is no GPU, and what was asked for needs one.
    #[error("there is no NVIDIA driver (libcuda.so.1) on this machine: {what_to_do}")]
    NoDriver {
        /// What to do about it.
        what_to_do: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// TensorRT does not understand the model.
    #[error(
        "{model} is not a model that {library} understands: {reason}; give it a student that `wordsight-distill \
         export` or `quantize --target tensorrt` made"
    )]
    NotAModel {
        /// The model's file.
        model: String,
        /// The library and its version.
        library: String,
        /// TensorRT's own words.
        reason: String,
    },
    /// The library cannot do what was asked for.
    #[error("{library} cannot build that: {reason}")]
    Refused {
        /// The library and its version.
        library: String,
        /// TensorRT's own words.
        reason: String,
    },
    /// Builds that the system killed, and no other is made.
    #[error(
        "{times} builds of a plan of {} were killed before their end, most likely for lack of memory: stop what else runs \
         and build it with `{build}`, or start the board again",
        model.display()
    )]
    BuildsKilled {
        /// The model's file.
        model: PathBuf,
        /// How many.
        times: u32,
        /// The command that builds it all the same.
        build: String,
    },
    /// The caller stopped the build.
    #[error("the build was stopped")]
    Stopped,
    /// A plan is damaged, or not one at all.
    #[error("{} is not a whole plan: {reason}; build it again with `wordsight plan build`", path.display())]
    DamagedPlan {
        /// The plan's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A whole plan, made by or for something else.
    #[error("{} is of no use here: {}; build it again with `{rebuild}`", path.display(), differences.join("; "))]
    StalePlan {
        /// The plan's file.
        path: PathBuf,
        /// Everything that differs, each with what it is and what it should be.
        differences: Vec<String>,
        /// The command that makes a plan that fits.
        rebuild: String,
    },
    /// There is no plan, and none may be built.
    #[error("there is no plan of {} for this machine: build it with `{build}`", model.display())]
    NoPlan {
        /// The student's file.
        model: PathBuf,
        /// The command that makes one.
        build: String,
    },
    /// TensorRT will not load a plan whose manifest fits.
    #[error("{library} will not load {}: {reason}; build it again with `wordsight plan build`", path.display())]
    WontLoad {
        /// The plan's file.
        path: PathBuf,
        /// The library and its version.
        library: String,
        /// TensorRT's own words.
        reason: String,
    },
}
