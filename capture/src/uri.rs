//! Parses source URIs.
//!
//! Turns text into the source that it asks for, and checks it as far as that goes without looking at any device:
//!
//! | written | what it is |
//! |---|---|
//! | `clip.mjpeg`, `clip.mp4`, `album/`, `photo.jpg`, `file:///...` | a file or folder |
//! | `v4l2:///dev/video0?width=1280&height=720&fps=30&format=mjpg&gain=10` | a camera of the kernel's |
//! | `csi://0?width=1920&height=1080&fps=30` | a camera on a Jetson's CSI connector |
//! | `rtsp://user:password@host/path` | a network camera |
//! | `gst:videotestsrc ! appsink` | any GStreamer pipeline that ends in an appsink |
//! | `test://bars?width=1280&height=720&format=yuyv&frames=100` | a pattern made here |
//!
//! A URI can hold a password. What is shown anywhere is [`SourceUri::display`], which has none.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use wordsight_detection::PixelFormat;

use crate::UriError;
use crate::password::{without_password, without_user};
use crate::secret::{Secret, StreamUrl};
use crate::test_pattern::{Pattern, TestPattern};

/// A source that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceUri {
    pub(crate) display: String,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    not(all(feature = "gstreamer", feature = "v4l2")),
    allow(dead_code, reason = "what is asked for is read by the parts that can open it")
)]
pub(crate) enum Kind {
    File(PathBuf),
    V4l2(CameraRequest),
    Csi { sensor: u32, request: CameraRequest },
    Rtsp(StreamUrl),
    Gst(Secret),
    Test(TestPattern),
}

/// What a camera is asked for; what is absent is left as the camera has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CameraRequest {
    /// The device's file; empty for a camera without one.
    pub device: PathBuf,
    /// Pixels a row.
    pub width: Option<u32>,
    /// Rows.
    pub height: Option<u32>,
    /// Frames per second.
    pub fps: Option<f64>,
    /// The format by the name that the user gave it, in small letters: `yuyv`, `mjpg`.
    pub format: Option<String>,
    /// Controls and their values, by the names that `v4l2-ctl --list-ctrls` prints.
    pub controls: Vec<(String, i64)>,
}

impl SourceUri {
    /// Reads what a user wrote. Paths are as they were written: see [`SourceUri::path`].
    ///
    /// # Errors
    /// When the scheme is unknown or a part is wrong.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let display = without_password(text);
        let wrong = |reason: String| UriError::Wrong {
            uri: without_password(text),
            reason: without_password(&reason),
        };
        if let Some(pipeline) = text.strip_prefix("gst:") {
            return Ok(Self { display, kind: Kind::Gst(pipeline.trim().to_owned().into()) });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            check_path(text)?;
            return Ok(Self { display, kind: Kind::File(PathBuf::from(text)) });
        };
        let scheme = scheme.to_ascii_lowercase();
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let kind = match scheme.as_str() {
            "file" => {
                let path =
                    percent_decode_str(rest).decode_utf8().map_err(|error| wrong(error.to_string()))?;
                Kind::File(PathBuf::from(path.into_owned()))
            }
            "v4l2" => {
                let device = PathBuf::from(place);
                if !device.is_absolute() {
                    return Err(wrong(
                        "a camera's file is written with three slashes: v4l2:///dev/video0".into(),
                    ));
                }
                Kind::V4l2(camera_request(device, query, true).map_err(wrong)?)
            }
            "csi" => {
                let sensor = if place.is_empty() { "0" } else { place };
                let sensor = sensor.parse().map_err(|_| {
                    wrong(format!("`{sensor}` is no number of a CSI sensor: the first is csi://0"))
                })?;
                Kind::Csi { sensor, request: camera_request(PathBuf::new(), query, false).map_err(wrong)? }
            }
            "rtsp" | "rtsps" => {
                let url = StreamUrl::parse(text).map_err(wrong)?;
                return Ok(Self { display: url.shown.clone(), kind: Kind::Rtsp(url) });
            }
            "test" => Kind::Test(test_pattern(place, query).map_err(wrong)?),
            _ => return Err(UriError::UnknownScheme(display)),
        };
        Ok(Self { display, kind })
    }

    /// How it is shown: as it was written, without a password.
    pub fn display(&self) -> &str {
        &self.display
    }

    /// Whether it has a clock of its own: frames that nobody fetches are lost, and it may vanish and come back.
    pub fn is_live(&self) -> bool {
        match &self.kind {
            Kind::V4l2(_) | Kind::Csi { .. } | Kind::Rtsp(_) | Kind::Gst(_) => true,
            Kind::File(_) | Kind::Test(_) => false,
        }
    }

    /// The path of a file or folder, as it was written.
    pub fn path(&self) -> Option<&Path> {
        match &self.kind {
            Kind::File(path) => Some(path),
            _ => None,
        }
    }

    /// The same file or folder, to be found at another path.
    pub fn at(self, path: PathBuf) -> Self {
        Self { kind: Kind::File(path), ..self }
    }
}

/// Refuses what is written as a path and was hardly meant for one.
fn check_path(text: &str) -> Result<(), UriError> {
    let wrong = |uri: String, reason: &str| Err(UriError::Wrong { uri, reason: reason.to_owned() });
    let start = text.split('/').next().unwrap_or_default();
    let scheme = start.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let is_known =
        ["rtsp", "rtsps", "rtmp", "http", "https", "v4l2", "csi", "test", "file"].contains(&scheme.as_str());
    if start.contains(':') && is_known {
        return wrong(
            without_user(text),
            "behind the scheme's colon there are two slashes: rtsp://host/path",
        );
    }
    // A path with a colon and an @ is written ./a:b@c. Of the scheme the slashes alone may be left, or the colon be missing.
    let behind_slashes = text.split_once("//").and_then(|(_, behind)| behind.rsplit_once('@'));
    if (start.contains(':') && text.contains('@'))
        || behind_slashes.is_some_and(|(user, _)| user.contains(':'))
    {
        return wrong(
            without_user(text),
            "it has a user and a password and no scheme: a network camera is written rtsp://user:password@host/path, and \
             a file ./NAME",
        );
    }
    let shown = without_password(text);
    if text.starts_with("/dev/video") {
        let reason = format!("a camera of the kernel's is written v4l2://{shown}");
        return wrong(shown, &reason);
    }
    if !text.starts_with(['/', '.']) && shown != text {
        return wrong(
            shown,
            "it has a password or a token and no scheme: a network camera is written rtsp://host/path?..., and a file \
             ./NAME",
        );
    }
    Ok(())
}

/// The `key=value` pairs of a query.
fn pairs(query: &str) -> impl Iterator<Item = Result<(&str, &str), String>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').ok_or_else(|| format!("`{pair}` has no value: write `{pair}=...`")))
}

fn camera_request(device: PathBuf, query: &str, has_controls: bool) -> Result<CameraRequest, String> {
    let mut request = CameraRequest { device, ..CameraRequest::default() };
    for pair in pairs(query) {
        let (key, value) = pair?;
        match key {
            "width" => request.width = Some(side(key, value)?),
            "height" => request.height = Some(side(key, value)?),
            "fps" => {
                let fps = value.parse().ok().filter(|fps| (0.001..=10_000.0).contains(fps));
                request.fps =
                    Some(fps.ok_or_else(|| format!("fps={value} is no number of frames per second"))?);
            }
            "format" => request.format = Some(value.to_ascii_lowercase()),
            control if has_controls => {
                let value = match value {
                    "true" => 1,
                    "false" => 0,
                    number => number.parse().map_err(|_| {
                        format!("{control}={number}: it takes width, height, fps, format, and controls of the camera with whole numbers")
                    })?,
                };
                request.controls.push((control.to_owned(), value));
            }
            unknown => return Err(format!("`{unknown}` is unknown: it takes width, height, fps and format")),
        }
    }
    if request.width.is_some() != request.height.is_some() {
        return Err("width and height come together".to_owned());
    }
    Ok(request)
}

fn side(key: &str, value: &str) -> Result<u32, String> {
    let pixels = value.parse().ok().filter(|pixels| (1..=16_384).contains(pixels));
    pixels.ok_or_else(|| format!("{key}={value} is no number of pixels (1 to 16384)"))
}

fn test_pattern(place: &str, query: &str) -> Result<TestPattern, String> {
    let pattern = Pattern::named(place)?;
    let (mut width, mut height, mut format, mut frames) = (640, 480, PixelFormat::Rgb, None);
    for pair in pairs(query) {
        let (key, value) = pair?;
        match key {
            "width" => width = side(key, value)?,
            "height" => height = side(key, value)?,
            "format" => format = pixel_format(value)?,
            "frames" => {
                let number = value.parse().map_err(|_| format!("frames={value} is no number of frames"))?;
                frames = Some(number);
            }
            unknown => {
                return Err(format!("`{unknown}` is unknown: it takes width, height, format and frames"));
            }
        }
    }
    TestPattern::new(pattern, (width as usize, height as usize), format, frames)
}

fn pixel_format(name: &str) -> Result<PixelFormat, String> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "rgb" => PixelFormat::Rgb,
        "yuyv" => PixelFormat::Yuyv,
        "uyvy" => PixelFormat::Uyvy,
        "nv12" => PixelFormat::Nv12,
        "i420" => PixelFormat::I420,
        "grey" => PixelFormat::Grey,
        _ => return Err(format!("format={name} is none of rgb, yuyv, uyvy, nv12, i420, grey")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn camera(uri: &str) -> CameraRequest {
        match SourceUri::parse(uri).unwrap().kind {
            Kind::V4l2(request) | Kind::Csi { request, .. } => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_camera_is_asked_for_what_the_uri_says_and_nothing_else() {
        let request =
            camera("v4l2:///dev/video2?width=1280&height=720&fps=29.97&format=MJPG&gain=10&hflip=true");
        assert_eq!(request.device, Path::new("/dev/video2"));
        assert_eq!((request.width, request.height, request.fps), (Some(1280), Some(720), Some(29.97)));
        assert_eq!(request.format.as_deref(), Some("mjpg"));
        assert_eq!(request.controls, [("gain".to_owned(), 10), ("hflip".to_owned(), 1)]);
        let plain = CameraRequest { device: "/dev/video0".into(), ..CameraRequest::default() };
        assert_eq!(camera("v4l2:///dev/video0"), plain);
    }

    #[test]
    fn files_are_paths_or_uris_with_percent_signs() {
        for (uri, path) in [
            ("clip.mjpeg", "clip.mjpeg"),
            ("/a/b c.mp4", "/a/b c.mp4"),
            ("file:///a/b%20c.mp4", "/a/b c.mp4"),
            ("file:///what?.mp4", "/what?.mp4"),
        ] {
            let uri = SourceUri::parse(uri).unwrap();
            assert_eq!(uri.path(), Some(Path::new(path)));
            assert!(!uri.is_live());
        }
    }

    #[test]
    fn cameras_and_streams_are_live_and_patterns_are_not() {
        for uri in ["v4l2:///dev/video0", "csi://1", "csi://", "rtsp://h/p", "gst:videotestsrc ! appsink"] {
            assert!(SourceUri::parse(uri).unwrap().is_live(), "{uri}");
        }
        assert!(!SourceUri::parse("test://bars?width=64&height=48&format=nv12&frames=3").unwrap().is_live());
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (uri, expected) in [
            ("/dev/video0", "v4l2:///dev/video0"),
            ("rtsp:/host/x", "two slashes"),
            ("me:secret@host/x", "no scheme"),
            ("ftp://host/clip.mp4", "v4l2://, csi://, rtsp://, gst: or test://"),
            ("v4l2://dev/video0", "three slashes"),
            ("v4l2:///dev/video0?width=1280", "width and height come together"),
            ("v4l2:///dev/video0?width=0&height=1", "width=0 is no number of pixels"),
            ("v4l2:///dev/video0?fps=fast", "fps=fast"),
            ("v4l2:///dev/video0?gain=much", "gain=much"),
            ("v4l2:///dev/video0?gain", "`gain` has no value"),
            ("csi://front", "the first is csi://0"),
            ("csi://0?gain=3", "`gain` is unknown"),
            ("test://stripes", "bars"),
            ("test://bars?format=h264", "rgb, yuyv"),
            ("test://bars?fps=3", "`fps` is unknown"),
            ("test://bars?width=63&height=48&format=yuyv", "even"),
        ] {
            let error = SourceUri::parse(uri).unwrap_err().to_string();
            assert!(error.contains(expected), "{uri}: {error}");
        }
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        for (uri, shown) in [
            ("rtsp://me:secret@host:554/x?a=b", "rtsp://me:***@host:554/x?a=***"),
            ("rtsp://me:sec@ret@host/x", "rtsp://me:***@host/x"),
            ("rtsp://me:sec ret@host/x", "rtsp://me:***@host/x"),
            ("rtsp://me@host/x", "rtsp://me@host/x"),
            ("rtsp://me:Secret1!@host/x", "rtsp://me:***@host/x"),
            ("RTSP://me:secret@host/x", "RTSP://me:***@host/x"),
            (
                "rtsp://host/x?user=me&password=secret&channel=1&tcp",
                "rtsp://host/x?user=me&password=***&channel=1&tcp",
            ),
            ("rtsp://host/x?PWD=secret", "rtsp://host/x?PWD=***"),
            ("rtsp://host/user=me_password=secret_channel=1", "rtsp://host/user=me_password=***"),
            (
                "gst:rtspsrc user-pw=\"two words\" name=a rtspsrc proxy-pw = 'b c' user-pw=d ! appsink",
                "gst:rtspsrc user-pw=*** name=a rtspsrc proxy-pw=*** user-pw=*** ! appsink",
            ),
            (
                "gst:rtspsrc location=rtsp://a:b@h/x user-pw=c d=e ! appsink",
                "gst:rtspsrc location=rtsp://a:***@h/x user-pw=*** d=e ! appsink",
            ),
            (
                "gst:souphttpsrc extra-headers=\"a,Authorization=(string)\\\"Basic secret\\\",b=(string)c\" ! appsink",
                "gst:souphttpsrc extra-headers=\"a,Authorization=***,b=(string)c\" ! appsink",
            ),
            (
                "gst:rtspsrc location=rtsp://h:554/x ! appsink",
                "gst:rtspsrc location=rtsp://h:554/x ! appsink",
            ),
            ("rtsp://me%3Asecret@host/x", "rtsp://me:***@host/x"),
            ("rtsp://[::1]:554/x?tcp&secret", "rtsp://[::1]:554/x?tcp&***"),
            ("rtsp://host/x?channel=1;secret", "rtsp://host/x?channel=***"),
            ("file:///a:b/c:d.mp4", "file:///a:b/c:d.mp4"),
            ("./cat:1@home.jpg", "./cat:1@home.jpg"),
            ("/films/compass=3/cat.mp4", "/films/compass=***"),
        ] {
            assert_eq!(SourceUri::parse(uri).unwrap().display(), shown);
        }
        for wrong in [
            "ftp://me:secret@host/",
            "rtsp:/me:secret@host/x",
            "rtsp:me:secret@host/x",
            "me:secret@host/x",
            "me:se/cret@host/x",
            "rtsp://me:se/cret@host/x",
            "rtsp://me:secret?@host/x",
            "rtsp ://me:secret@host/x",
            "rtsp//me:secret@host/x",
            "//me:secret@host/x",
            "rtsp://me:secret",
            "rtsp://me:secret/x",
            "v4l2:///dev/video0?password=secret",
            "/dev/video0?password=secret",
            "host/x?password=secret",
            "photo.jpg?token=secret",
        ] {
            let error = SourceUri::parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret") && !error.contains("cret@"), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_printed_for_debugging() {
        let printed = format!("{:?}", SourceUri::parse("gst:rtspsrc user-pw=secret ! appsink").unwrap());
        assert!(!printed.contains("secret"), "{printed}");
    }
}
