//! Opens a source: GStreamer, V4L2, a file, a folder or a test pattern, as its URI asks for.

use std::path::Path;

use wordsight_pictures::is_picture;

use crate::file_kind::is_motion_jpeg;
use crate::uri::{Kind, SourceUri};
use crate::{CaptureError, MotionJpeg, Photographs, Source, UriError};

/// How live streams are opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamSettings {
    /// How long GStreamer may hold packets of a network camera back to put them in order.
    pub latency_ms: u32,
}

impl SourceUri {
    /// Opens it. For a live source this may take as long as the device or the daemon behind it likes.
    ///
    /// # Errors
    /// When it is missing, of no known kind, or can't give what was asked for.
    pub fn open(&self, settings: &StreamSettings) -> Result<Box<dyn Source>, CaptureError> {
        #[cfg(not(feature = "gstreamer"))]
        let _ = settings;
        match &self.kind {
            Kind::File(path) => open_file(path, &self.display),
            Kind::Test(pattern) => Ok(Box::new(pattern.open(&self.display))),
            #[cfg(feature = "v4l2")]
            Kind::V4l2(request) if request.format.as_deref() != Some("h264") => {
                Ok(Box::new(crate::v4l2::V4l2Source::open(request, &self.display)?))
            }
            #[cfg(feature = "gstreamer")]
            _ => Ok(Box::new(crate::gstreamer::GstSource::open_live(
                &self.pipeline(settings)?,
                &self.display,
            )?)),
            #[cfg(not(feature = "gstreamer"))]
            kind => Err(self.not_built(kind).into()),
        }
    }

    /// Looks whether it can give what is asked for, without starting it.
    ///
    /// # Errors
    /// As [`Self::open`], as far as that can be told.
    pub fn check(&self, settings: &StreamSettings) -> Result<(), CaptureError> {
        match &self.kind {
            // What is no plain file may be a pipe, which can be opened once.
            Kind::File(path) if path.exists() && !path.is_file() => Ok(()),
            Kind::File(_) | Kind::Test(_) => self.open(settings).map(drop),
            #[cfg(feature = "v4l2")]
            Kind::V4l2(request) if request.format.as_deref() != Some("h264") => {
                crate::v4l2::V4l2Source::check(request, &self.display)
            }
            #[cfg(feature = "gstreamer")]
            _ => Ok(self.pipeline(settings).map(drop)?),
            #[cfg(not(feature = "gstreamer"))]
            kind => Err(self.not_built(kind).into()),
        }
    }

    #[cfg(feature = "gstreamer")]
    fn pipeline(&self, settings: &StreamSettings) -> Result<crate::gstreamer::Description, UriError> {
        use crate::gstreamer::{csi_pipeline, own_pipeline, rtsp_pipeline, v4l2_pipeline};
        Ok(match &self.kind {
            Kind::V4l2(request) => v4l2_pipeline(request)
                .map_err(|reason| UriError::Wrong { uri: self.display.clone(), reason })?,
            Kind::Csi { sensor, request } => csi_pipeline(*sensor, request),
            Kind::Rtsp(uri) => rtsp_pipeline(uri, settings.latency_ms),
            Kind::Gst(launch) => own_pipeline(launch.reveal()),
            Kind::File(_) | Kind::Test(_) => own_pipeline(""),
        })
    }

    #[cfg(not(feature = "gstreamer"))]
    fn not_built(&self, kind: &Kind) -> UriError {
        UriError::NotBuilt {
            uri: self.display.clone(),
            feature: if matches!(kind, Kind::V4l2(_)) { "v4l2" } else { "gstreamer" },
            otherwise: "without it there are files, folders and test://",
        }
    }
}

/// Opens a file or folder; `display` stands for it in results.
fn open_file(path: &Path, display: &str) -> Result<Box<dyn Source>, CaptureError> {
    let metadata = std::fs::metadata(path).map_err(|reason| {
        // As other programs call the first camera.
        let is_camera =
            ["webcam", "camera"].contains(&display) || display.bytes().all(|byte| byte.is_ascii_digit());
        if is_camera && !display.is_empty() {
            let reason = "a camera of the kernel's is written v4l2:///dev/video0".to_owned();
            return CaptureError::Uri(UriError::Wrong { uri: display.to_owned(), reason });
        }
        CaptureError::Unreadable { path: path.to_path_buf(), reason }
    })?;
    if metadata.is_dir() || is_picture(path) {
        return Ok(Box::new(Photographs::open(&[path.to_path_buf()])));
    }
    if is_motion_jpeg(path) {
        return Ok(Box::new(MotionJpeg::open(path, display)?));
    }
    open_video(path, display)
}

#[cfg(feature = "gstreamer")]
fn open_video(path: &Path, display: &str) -> Result<Box<dyn Source>, CaptureError> {
    Ok(Box::new(crate::gstreamer::GstSource::open_file(path, display)?))
}

#[cfg(not(feature = "gstreamer"))]
fn open_video(_: &Path, display: &str) -> Result<Box<dyn Source>, CaptureError> {
    Err(UriError::NotBuilt {
        uri: display.to_owned(),
        feature: "gstreamer",
        otherwise: "a Motion-JPEG file (.mjpeg, .mjpg), a photograph (.jpg, .jpeg, .png, .webp) or a folder of \
                    photographs needs none",
    }
    .into())
}
