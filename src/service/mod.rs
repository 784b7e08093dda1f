//! The service: runs a stream, reloads its configuration while it runs, and reports its health.
//!
//! Takes what a stream is to be made of ([`Target`]), and again whenever the configuration or the vocabulary changes or
//! SIGHUP comes; ends with the [`Report`](crate::pipeline::Report) of the last of its streams. The parts: [`reload`]
//! finds out what has changed and makes it anew, `systemd` tells how the stream is, `last_good` keeps what works, and
//! `kept_choices` what was chosen on the page.
//!
//! The stream stops for nothing that can be exchanged. Words and thresholds are swapped between two frames. For another
//! source, student or output the stream pauses: its last frames come out, and it goes on with every part that is the
//! same, an open camera and a warm engine among them. New parts are made and tried before that, so that one that fails
//! never replaces one that works.

mod cameras;
mod change;
mod devices;
mod engines;
mod file_watch;
mod kept_choices;
mod last_good;
mod overrides;
mod photographs;
mod reload;
mod run;
mod shared_engines;
mod start;
mod systemd;
mod target;

pub use cameras::CameraService;
pub use devices::{CAMERAS, GPUS, devices, may_use};
#[cfg(feature = "tensorrt")]
pub use engines::BuildProgress;
pub use engines::{Engines, GpuWait, Installed};
pub use kept_choices::KeptCameras;
pub use last_good::kept_configuration;
pub use photographs::{answer as answer_photographs, check_files, show_files};
pub use start::Service;
pub use target::{
    DeviceTarget, EngineTarget, OpenedWords, Share, SourceTarget, Target, WordsTarget, inputs_of, is_list,
    of_usage,
};

#[cfg(all(test, feature = "tensorrt"))]
mod tests;
