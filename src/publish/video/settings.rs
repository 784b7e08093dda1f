//! `[[video]]` of a configuration: where a video goes, how fast and how large.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use wordsight_capture::{Secret, StreamUrl, without_password};

use crate::settings::{FramesPerSecond, Seconds, SettingError};

/// Frames a second and kilobits a second, where the configuration doesn't say.
const USUAL_FPS: f64 = 15.0;
const USUAL_KBPS: u32 = 4000;

/// One `[[video]]` of a configuration, as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VideoKeys {
    to: String,
    fps: Option<FramesPerSecond>,
    bitrate_kbps: Option<u32>,
    rotate_mib: Option<u32>,
    rotate_s: Option<Seconds>,
    keep: Option<u32>,
    /// Of which cameras, where there are several; without it, of all.
    pub cameras: Option<Vec<String>>,
}

/// What the output is made from, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoSettings {
    pub(super) to: Target,
    /// Of a camera the most frames a second, of a recording all of them so fast.
    pub(super) fps: f64,
    pub(super) bitrate_kbps: u32,
}

/// Where a video goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// A file, or a number of files one after the other.
    File(Files),
    /// A server that takes streams, by RTSP.
    Rtsp(StreamUrl),
    /// What the user wrote, behind an appsrc.
    Own(Secret),
}

/// A file, and when another is begun.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Files {
    pub(super) path: PathBuf,
    pub(super) container: Container,
    /// 0: not by its size.
    pub(super) rotate_bytes: u64,
    /// 0: not by its age.
    pub(super) rotate_after: Duration,
    /// How many stay of those that were put aside; 0: all.
    pub(super) keep: usize,
}

/// What a file's name ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Matroska,
    Mp4,
}

impl VideoKeys {
    /// Resolves paths, which are relative to `folder`, and checks what can be checked.
    ///
    /// # Errors
    /// When a value can't be what it is, or this program was built without GStreamer.
    pub fn resolve(&self, folder: &Path) -> Result<VideoSettings, SettingError> {
        let wrong = |reason: String| SettingError { section: "[video]", reason };
        if cfg!(not(feature = "gstreamer")) {
            return Err(wrong(
                "this wordsight was built without GStreamer: leave [[video]] out, or build it with `cargo build --release \
                 --features gstreamer`"
                    .to_owned(),
            ));
        }
        let to = self.target(folder).map_err(wrong)?;
        let rotates = self.rotate_mib.is_some() || self.rotate_s.is_some() || self.keep.is_some();
        if rotates && !matches!(to, Target::File(_)) {
            return Err(wrong("rotate_mib, rotate_s and keep are for files".to_owned()));
        }
        let bitrate_kbps = self.bitrate_kbps.unwrap_or(USUAL_KBPS);
        if !(50..=200_000).contains(&bitrate_kbps) {
            return Err(wrong(format!("bitrate_kbps is {bitrate_kbps}, and must be between 50 and 200000")));
        }
        let fps = self.fps.map_or(USUAL_FPS, FramesPerSecond::get);
        if !(0.01..=240.0).contains(&fps) {
            return Err(wrong(format!("fps is {fps}, and must be between 0.01 and 240")));
        }
        Ok(VideoSettings { to, fps, bitrate_kbps })
    }

    fn target(&self, folder: &Path) -> Result<Target, String> {
        if let Some(pipeline) = self.to.strip_prefix("gst:") {
            let pipeline = pipeline.trim();
            if pipeline.is_empty() {
                return Err("to = \"gst:\" has no pipeline: write \"gst:videoconvert ! ... \"".to_owned());
            }
            return Ok(Target::Own(pipeline.to_owned().into()));
        }
        if self.to.starts_with("rtsp://") || self.to.starts_with("rtsps://") {
            let url = StreamUrl::parse(&self.to)
                .map_err(|reason| format!("the address of `to` is wrong: {reason}"))?;
            return Ok(Target::Rtsp(url));
        }
        let ending = Path::new(&self.to).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let container = match ending.to_ascii_lowercase().as_str() {
            "mkv" => Container::Matroska,
            "mp4" => Container::Mp4,
            _ => {
                // What was hardly meant for a file may have been an address with a password.
                let shown = if self.to.contains('@') { "***".to_owned() } else { without_password(&self.to) };
                return Err(format!(
                    "to = {shown:?} is none of a file that ends in .mkv or .mp4, \"rtsp://host/path\" and \
                     \"gst:videoconvert ! ...\""
                ));
            }
        };
        Ok(Target::File(Files {
            path: folder.join(&self.to),
            container,
            rotate_bytes: u64::from(self.rotate_mib.unwrap_or(0)) << 20,
            rotate_after: self.rotate_s.map_or(Duration::ZERO, |Seconds(after)| after),
            keep: self.keep.unwrap_or(0) as usize,
        }))
    }
}

impl VideoSettings {
    /// The same for one of several cameras: a file gets its name, `out-front-door.mkv`.
    pub fn of_camera(mut self, camera: &str) -> Self {
        if let Target::File(files) = &mut self.to {
            let name =
                |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
            let (stem, ending) = (name(files.path.file_stem()), name(files.path.extension()));
            files.path.set_file_name(format!("{stem}-{camera}.{ending}"));
        }
        self
    }

    /// Where it goes, for people, without secrets.
    pub fn place(&self) -> String {
        match &self.to {
            Target::File(files) => files.path.display().to_string(),
            Target::Rtsp(url) => url.shown.clone(),
            Target::Own(pipeline) => format!("gst:{}", without_password(pipeline.reveal())),
        }
    }

    /// The file that it is written to, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.to {
            Target::File(files) => Some(&files.path),
            Target::Rtsp(_) | Target::Own(_) => None,
        }
    }

    /// The folder on this machine that it writes to, if it does.
    pub fn folder(&self) -> Option<&Path> {
        match &self.to {
            Target::File(files) => files.path.parent(),
            Target::Rtsp(_) | Target::Own(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolve(text: &str) -> Result<VideoSettings, String> {
        let keys: VideoKeys = toml::from_str(text).unwrap();
        keys.resolve(Path::new("/var")).map_err(|error| error.to_string())
    }

    #[cfg(feature = "gstreamer")]
    #[test]
    fn a_video_goes_to_a_file_a_server_or_a_pipeline_and_shows_no_password() {
        let place = |text: &str| resolve(text).unwrap().place();
        assert_eq!(place("to = \"out.mkv\""), "/var/out.mkv");
        assert_eq!(place("to = \"/a/out.MP4\"\nrotate_s = 3600\nkeep = 24"), "/a/out.MP4");
        let server = place("to = \"rtsp://me:secret@host:8554/x\"");
        assert!(server.contains("host:8554/x") && !server.contains("secret"), "{server}");
        let own = place("to = \"gst: videoconvert ! x location=rtsp://me:secret@host/x\"");
        assert!(own.starts_with("gst:videoconvert") && !own.contains("secret"), "{own}");
    }

    #[cfg(feature = "gstreamer")]
    #[test]
    fn what_can_not_be_is_refused_in_words() {
        for (text, expected) in [
            ("to = \"out.avi\"", ".mkv or .mp4"),
            ("to = \"\"", ".mkv or .mp4"),
            ("to = \"gst:\"", "has no pipeline"),
            ("to = \"rtsp://host/x\"\nkeep = 3", "are for files"),
            ("to = \"out.mkv\"\nbitrate_kbps = 3", "between 50 and 200000"),
            ("to = \"out.mkv\"\nfps = 1000", "between 0.01 and 240"),
        ] {
            let error = resolve(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[cfg(not(feature = "gstreamer"))]
    #[test]
    fn without_gstreamer_the_error_says_how_to_build_with_it() {
        assert!(resolve("to = \"out.mkv\"").unwrap_err().contains("--features gstreamer"));
    }
}
