//! One recording: a GStreamer pipeline from an appsrc to a file, a server or the user's own elements.
//!
//! Takes pixels with their times. The encoder is chosen from what the machine has: hardware first, then what makes
//! H.264, then what Debian has without patents.
//!
//! Nothing here waits inside of GStreamer. A pipeline whose server is gone would never come back from there; so whether
//! it has room is asked before a frame is pushed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gstreamer::prelude::*;
use gstreamer::{self as gst, MessageView};
use gstreamer_app::AppSrc;
use gstreamer_video::{self as gst_video, VideoFormat, VideoFrameFlags};
use wordsight_capture::start_gstreamer;

use super::settings::{Container, Target, VideoSettings};

/// How many frames may wait for the encoder: it works on one while the next comes.
const MOST_WAITING: u64 = 3;
/// From one frame that can be decoded by itself to the next.
const KEY_FRAMES: Duration = Duration::from_secs(2);

/// What makes video of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoder {
    element: &'static str,
    is_h264: bool,
}

/// The best first.
const ENCODERS: [Encoder; 6] = [
    Encoder { element: "nvv4l2h264enc", is_h264: true },
    Encoder { element: "nvh264enc", is_h264: true },
    Encoder { element: "x264enc", is_h264: true },
    Encoder { element: "openh264enc", is_h264: true },
    Encoder { element: "vp8enc", is_h264: false },
    Encoder { element: "jpegenc", is_h264: false },
];
/// What brings one, for people.
const H264_PACKAGES: &str = "gstreamer1.0-plugins-bad (openh264enc, h264parse) or also gstreamer1.0-plugins-ugly (x264enc); a \
                             Jetson's is in nvidia-l4t-gstreamer";

/// The encoder for a video, of those that this machine has.
///
/// # Errors
/// What to install, when there is none or something else lacks.
pub(super) fn encoder_for(to: &Target) -> Result<Option<Encoder>, String> {
    start_gstreamer()?;
    let needs = match to {
        Target::Own(_) => return Ok(None),
        Target::Rtsp(_) => ("rtspclientsink", "gstreamer1.0-rtsp"),
        Target::File(files) => match files.container {
            Container::Matroska => ("matroskamux", "gstreamer1.0-plugins-good"),
            Container::Mp4 => ("mp4mux", "gstreamer1.0-plugins-good"),
        },
    };
    let is_there = |element: &str| gst::ElementFactory::find(element).is_some();
    for (element, package) in [("appsrc", BASE), ("videoconvert", BASE), needs] {
        if !is_there(element) {
            return Err(format!("GStreamer has no {element}, which comes with Debian's {package}"));
        }
    }
    choose(to, is_there).map(Some)
}

const BASE: &str = "gstreamer1.0-plugins-base";

fn choose(to: &Target, is_there: impl Fn(&str) -> bool) -> Result<Encoder, String> {
    let is_mp4 = matches!(to, Target::File(files) if files.container == Container::Mp4);
    let can = |encoder: &&Encoder| {
        is_there(encoder.element) && if encoder.is_h264 { is_there("h264parse") } else { !is_mp4 }
    };
    ENCODERS.iter().find(can).copied().ok_or_else(|| {
        if is_mp4 {
            format!(
                "GStreamer has no H.264 encoder, which .mp4 takes: install Debian's {H264_PACKAGES}; or write a .mkv, which \
                 takes others too"
            )
        } else {
            format!(
                "GStreamer has no video encoder: install Debian's gstreamer1.0-plugins-good (vp8enc, jpegenc), or for \
                 H.264 {H264_PACKAGES}"
            )
        }
    })
}

impl Encoder {
    /// From raw frames to encoded ones.
    fn launch(self, settings: &VideoSettings) -> String {
        let kbps = settings.bitrate_kbps;
        let bps = u64::from(kbps) * 1000;
        let key = ((settings.fps * KEY_FRAMES.as_secs_f64()).round() as u32).max(1);
        let i420 = "videoconvert ! video/x-raw,format=I420";
        match self.element {
            "nvv4l2h264enc" => format!(
                "{i420} ! nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! nvv4l2h264enc bitrate={bps} insert-sps-pps=true \
                 iframeinterval={key} ! h264parse"
            ),
            "nvh264enc" => {
                format!("{i420} ! nvh264enc bitrate={kbps} gop-size={key} ! h264parse")
            }
            "x264enc" => format!(
                "{i420} ! x264enc bitrate={kbps} speed-preset=veryfast tune=zerolatency key-int-max={key} ! h264parse"
            ),
            "openh264enc" => {
                format!("{i420} ! openh264enc bitrate={bps} complexity=low gop-size={key} ! h264parse")
            }
            "vp8enc" => {
                format!("{i420} ! vp8enc deadline=1 cpu-used=8 target-bitrate={bps} keyframe-max-dist={key}")
            }
            _ => format!("{i420} ! jpegenc quality=85"),
        }
    }
}

/// From the appsrc on, without what a user's text is set on apart.
fn launch(settings: &VideoSettings, encoder: Option<Encoder>) -> String {
    let encoding = encoder.map_or_else(String::new, |encoder| encoder.launch(settings));
    match &settings.to {
        Target::Own(pipeline) => format!("appsrc name=wordsight ! {}", pipeline.reveal()),
        Target::Rtsp(_) => format!("appsrc name=wordsight ! {encoding} ! rtspclientsink name=target"),
        Target::File(files) => {
            let muxer = match files.container {
                Container::Matroska => "matroskamux",
                Container::Mp4 => "mp4mux",
            };
            format!("appsrc name=wordsight ! {encoding} ! {muxer} ! filesink name=target sync=false")
        }
    }
}

/// A picture's pixels, which GStreamer holds until they are encoded.
struct Pixels(Arc<Vec<u8>>);

impl AsRef<[u8]> for Pixels {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A pipeline at work.
pub(super) struct Recording {
    pipeline: gst::Pipeline,
    source: AppSrc,
    bus: gst::Bus,
    /// Pixels of a picture.
    size: (usize, usize),
    /// From one frame to the next, as it is told to the encoder.
    period: gst::ClockTime,
    /// What the times of the first picture were, by its clock and by the pipeline's.
    first: Option<(u64, gst::ClockTime)>,
    last: Option<gst::ClockTime>,
    begun: Instant,
}

impl Recording {
    /// Begins a video of pictures of this size; a file's goes to `path`.
    ///
    /// # Errors
    /// Why the pipeline doesn't start.
    pub(super) fn begin(
        settings: &VideoSettings,
        encoder: Option<Encoder>,
        size: (usize, usize),
        path: Option<&Path>,
    ) -> Result<Self, String> {
        start_gstreamer()?;
        let launch = launch(settings, encoder);
        let parsed = gst::parse::launch(&launch).map_err(|error| format!("{error} in `{launch}`"))?;
        let pipeline =
            parsed.downcast::<gst::Pipeline>().map_err(|_| format!("`{launch}` is no pipeline"))?;
        let source = pipeline.by_name("wordsight").and_then(|source| source.downcast::<AppSrc>().ok());
        let source = source.ok_or_else(|| format!("`{launch}` has no appsrc"))?;
        if let Some(target) = pipeline.by_name("target") {
            match (&settings.to, path) {
                (Target::Rtsp(url), _) => {
                    target.set_property_from_str("location", url.location.reveal());
                    // Apart from the location, in which some characters would end them.
                    if let Some(user) = &url.user {
                        target.set_property_from_str("user-id", user);
                    }
                    if let Some(password) = &url.password {
                        target.set_property_from_str("user-pw", password.reveal());
                    }
                }
                (_, Some(path)) => target.set_property("location", path.display().to_string()),
                _ => {}
            }
        }
        set_up(&source, settings, size)?;
        let bus = pipeline.bus().ok_or("its pipeline has no bus")?;
        // Nobody looks at the bus while frames go: what is of no interest would pile up there.
        bus.set_sync_handler(|_, message| match message.type_() {
            gst::MessageType::Error | gst::MessageType::Eos => gst::BusSyncReply::Pass,
            _ => gst::BusSyncReply::Drop,
        });
        let period = gst::ClockTime::from_nseconds((1e9 / settings.fps) as u64);
        let (first, last, begun) = (None, None, Instant::now());
        let recording = Self { pipeline, source, bus, size, period, first, last, begun };
        match recording.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(recording),
            Err(_) => Err(recording.failure().unwrap_or_else(|| "its pipeline does not start".to_owned())),
        }
    }

    pub(super) fn size(&self) -> (usize, usize) {
        self.size
    }

    pub(super) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether another frame can be pushed without anybody waiting.
    pub(super) fn has_room(&self) -> bool {
        let (width, height) = self.size;
        self.source.current_level_bytes() < MOST_WAITING * 3 * (width * height) as u64
    }

    /// What the pipeline says has failed, if anything.
    pub(super) fn failure(&self) -> Option<String> {
        self.bus.pop_filtered(&[gst::MessageType::Error]).and_then(|message| said(&message))
    }

    /// Puts a picture into the video: at its time, or without one a period behind the last.
    ///
    /// # Errors
    /// Why it can't be.
    pub(super) fn push(&mut self, pixels: &Arc<Vec<u8>>, timestamp_ns: Option<u64>) -> Result<(), String> {
        let pts = self.time_of(timestamp_ns);
        let (width, height) = self.size;
        let mut buffer = gst::Buffer::from_slice(Pixels(Arc::clone(pixels)));
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(pts);
            buffer.set_duration(self.period);
            // Rows without padding, and a last odd column or row left out: GStreamer's own would be padded.
            let (seen, stride) = (even(self.size), (3 * width) as i32);
            gst_video::VideoMeta::add_full(
                buffer,
                VideoFrameFlags::empty(),
                VideoFormat::Rgb,
                seen.0 as u32,
                seen.1 as u32,
                &[0],
                &[stride],
            )
            .map_err(|error| format!("a frame of {width}x{height} pixels: {error}"))?;
        }
        self.last = Some(pts);
        self.source.push_buffer(buffer).map(drop).map_err(|error| {
            self.failure().unwrap_or_else(|| format!("its pipeline takes no more frames ({error:?})"))
        })
    }

    /// When a picture is shown, by the pipeline's time: always later than the one before.
    fn time_of(&mut self, timestamp_ns: Option<u64>) -> gst::ClockTime {
        let next = self.last.map_or(gst::ClockTime::ZERO, |last| last + self.period);
        let Some(timestamp_ns) = timestamp_ns else { return next };
        let is_live = self.source.is_live();
        let (first_ns, at) = *self.first.get_or_insert_with(|| {
            // A server is sent frames when they come; a file begins at 0.
            let now = if is_live { self.pipeline.current_running_time() } else { None };
            (timestamp_ns, now.unwrap_or(gst::ClockTime::ZERO))
        });
        let pts = at + gst::ClockTime::from_nseconds(timestamp_ns.saturating_sub(first_ns));
        // A clock that was put back: the video goes on.
        if self.last.is_some_and(|last| pts <= last) { next } else { pts }
    }

    /// Ends the video, so that it can be played.
    ///
    /// # Errors
    /// Why it may not be whole.
    pub(super) fn finish(self, longest: Duration) -> Result<(), String> {
        if self.source.end_of_stream().is_err() {
            return Err(self.failure().unwrap_or_else(|| "it could not be ended".to_owned()));
        }
        let longest = gst::ClockTime::from_nseconds(longest.as_nanos() as u64);
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        match self.bus.timed_pop_filtered(longest, &kinds) {
            Some(message) if message.type_() == gst::MessageType::Eos => Ok(()),
            Some(message) => Err(said(&message).unwrap_or_default()),
            None => Err(format!("it was not finished within {} s", longest.seconds_f64())),
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Nothing is left that could be done about it.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// What a message says has failed.
fn said(message: &gst::MessageRef) -> Option<String> {
    let MessageView::Error(error) = message.view() else { return None };
    let (said, debug) = (error.error().to_string(), error.debug().unwrap_or_default());
    // The last line of what is for developers names what is missing or refused, if it isn't a place in their source.
    let mut lines = debug.lines().map(str::trim);
    let line = lines.rfind(|line| !line.is_empty() && !line.contains("): /Gst"));
    let said = said.trim_end_matches('.');
    Some(line.map_or_else(|| said.to_owned(), |line| format!("{said}: {line}")))
}

/// Where pixels share their colour, as they do in video, a last odd one is left out.
fn even((width, height): (usize, usize)) -> (usize, usize) {
    (width & !1, height & !1)
}

fn set_up(source: &AppSrc, settings: &VideoSettings, size: (usize, usize)) -> Result<(), String> {
    let (width, height) = even(size);
    if width == 0 || height == 0 {
        return Err(format!("pictures of {}x{} pixels are too small for a video", size.0, size.1));
    }
    let rate = gst::Fraction::approximate_f64(settings.fps).unwrap_or(gst::Fraction::new(15, 1));
    let caps = gst_video::VideoCapsBuilder::new()
        .format(VideoFormat::Rgb)
        .width(width as i32)
        .height(height as i32)
        .pixel_aspect_ratio(gst::Fraction::new(1, 1))
        .framerate(rate)
        .build();
    source.set_caps(Some(&caps));
    source.set_format(gst::Format::Time);
    source.set_is_live(!matches!(settings.to, Target::File(_)));
    source.set_block(false);
    // Whether there is room is asked before.
    source.set_max_bytes(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::settings::Files;
    use super::*;

    fn file(container: Container) -> Target {
        let (rotate_bytes, rotate_after, keep) = (0, Duration::ZERO, 0);
        Target::File(Files { path: "x".into(), container, rotate_bytes, rotate_after, keep })
    }

    #[test]
    fn the_best_encoder_is_taken_that_is_there_and_without_one_it_is_said_what_to_install() {
        let of = |to: &Target, there: &[&str]| {
            choose(to, |element| there.contains(&element)).map(|encoder| encoder.element)
        };
        let (mkv, mp4) = (file(Container::Matroska), file(Container::Mp4));
        let all = ["jpegenc", "vp8enc", "openh264enc", "x264enc", "nvv4l2h264enc", "h264parse"];
        assert_eq!(of(&mkv, &all).unwrap(), "nvv4l2h264enc");
        assert_eq!(of(&mp4, &all[..4]).unwrap_err().matches("h264parse").count(), 1, "nothing parses it");
        assert_eq!(of(&mkv, &all[..4]).unwrap(), "vp8enc");
        assert_eq!(of(&mkv, &all[..1]).unwrap(), "jpegenc");
        assert!(of(&mp4, &["vp8enc"]).unwrap_err().contains("or write a .mkv"));
        assert!(of(&mkv, &[]).unwrap_err().contains("gstreamer1.0-plugins-good"));
    }
}
