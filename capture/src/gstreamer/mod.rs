//! GStreamer sources: network and CSI cameras, video files, any pipeline.
//!
//! Runs a pipeline that ends in an appsink, and gives the frames that arrive there, in whichever of our formats they
//! are: decoders keep their own, and nothing is converted that the letterbox can read.
//!
//! A source counts as open only when its first frame has come. Until then a pipeline may report for seconds that all is
//! well while a server doesn't answer; this way whoever waits for the opening is told why it failed.

mod pipelines;
mod start;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gstreamer::prelude::*;
use gstreamer::{self as gst, MessageView};
use gstreamer_app::AppSink;
use gstreamer_video::{self as gst_video, VideoFormat, VideoFrameExt, VideoInfo};
use wordsight_detection::{PixelFormat, YuvEncoding};

use crate::password::without_password;
use crate::secret::Secret;
use crate::{CaptureError, Captured, Frame, LONGEST_NAP, Source};
use pipelines::file_pipeline;
pub(crate) use pipelines::{Description, csi_pipeline, own_pipeline, rtsp_pipeline, v4l2_pipeline};
use start::has_element;
pub use start::init;

/// How long a pipeline may take to its first frame. Network cameras wait for a key frame, some seconds.
const LONGEST_OPENING: Duration = Duration::from_secs(10);
/// How long a camera may take to say that it has stopped. NVIDIA's camera daemon stays wedged if it isn't let finish.
const LONGEST_FAREWELL: Duration = Duration::from_millis(500);
/// Ages that no camera's frame has: its clock must be another than the one it is compared with.
const OLDEST: Duration = Duration::from_secs(10);
/// The formats that frames may have, the ones first that cost least to make and to read.
const FORMATS: [(VideoFormat, PixelFormat); 6] = [
    (VideoFormat::Nv12, PixelFormat::Nv12),
    (VideoFormat::I420, PixelFormat::I420),
    (VideoFormat::Yuy2, PixelFormat::Yuyv),
    (VideoFormat::Uyvy, PixelFormat::Uyvy),
    (VideoFormat::Gray8, PixelFormat::Grey),
    (VideoFormat::Rgb, PixelFormat::Rgb),
];

/// Why a pipeline gives no frame.
struct Failure {
    reason: String,
    /// Whether another pipeline for the same source may do better.
    is_of_pipeline: bool,
}

/// A pipeline that runs.
pub(crate) struct GstSource {
    pipeline: gst::Pipeline,
    sink: AppSink,
    bus: gst::Bus,
    name: Arc<str>,
    is_live: bool,
    /// The first frame, until somebody asks for it.
    first: Option<gst::Sample>,
    /// What the frames are, as long as their caps are the same.
    shape: Option<(gst::Caps, Shape)>,
    /// It failed: there is nobody left to say farewell to.
    has_failed: bool,
}

#[derive(Clone)]
struct Shape {
    info: VideoInfo,
    format: PixelFormat,
    encoding: YuvEncoding,
}

impl GstSource {
    /// Opens a live pipeline: its newest frame wins.
    pub(crate) fn open_live(description: &Description, name: &str) -> Result<Self, CaptureError> {
        Self::open(description, name, true)
    }

    /// Opens a video file, of which no frame is lost.
    pub(crate) fn open_file(path: &Path, name: &str) -> Result<Self, CaptureError> {
        Self::open(&file_pipeline(path), name, false)
    }

    fn open(description: &Description, name: &str, is_live: bool) -> Result<Self, CaptureError> {
        let unopened = |reason: String| CaptureError::Unopened {
            source_name: name.to_owned(),
            reason: without_password(&reason),
        };
        init().map_err(unopened)?;
        if let Some((element, origin)) = description.needs
            && !has_element(element)
        {
            return Err(unopened(format!("GStreamer has no {element}, which comes with {origin}")));
        }
        let mut failure = "it has no pipeline".to_owned();
        for (at, launch) in description.launches.iter().enumerate() {
            match Self::open_one(launch, &description.properties, name, is_live) {
                Ok(opened) => {
                    if description.launches.len() > 1 {
                        tracing::info!("{name} comes through `{launch}`");
                    }
                    return Ok(opened);
                }
                Err(Failure { reason, is_of_pipeline }) => {
                    let is_last = at + 1 == description.launches.len();
                    failure = reason;
                    if !is_of_pipeline || is_last {
                        break;
                    }
                    tracing::debug!("{name} does not come through `{launch}`: {failure}");
                }
            }
        }
        Err(unopened(failure))
    }

    fn open_one(
        launch: &str,
        properties: &[(&'static str, Secret)],
        name: &str,
        is_live: bool,
    ) -> Result<Self, Failure> {
        let of_pipeline = |reason| Failure { reason, is_of_pipeline: true };
        let (pipeline, sink) = parse(launch).map_err(of_pipeline)?;
        if let Some(source) = pipeline.by_name("source") {
            for (property, value) in properties {
                source.set_property_from_str(property, value.reveal());
            }
        }
        set_up(&sink, is_live);
        let bus = pipeline.bus().ok_or_else(|| of_pipeline("its pipeline has no bus".to_owned()))?;
        // Nobody looks at the bus while frames come: what isn't an error would pile up there for as long as they do.
        bus.set_sync_handler(|_, message| match message.type_() {
            gst::MessageType::Error => gst::BusSyncReply::Pass,
            _ => gst::BusSyncReply::Drop,
        });
        let (name, shape) = (Arc::from(name), None);
        let mut opened = Self { pipeline, sink, bus, name, is_live, first: None, shape, has_failed: false };
        opened.wait_for_first_frame()?;
        Ok(opened)
    }

    fn wait_for_first_frame(&mut self) -> Result<(), Failure> {
        let of_source = |reason| Failure { reason, is_of_pipeline: false };
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            self.has_failed = true;
            let unsaid =
                || Failure { reason: "its pipeline does not start".to_owned(), is_of_pipeline: true };
            return Err(self.failure().unwrap_or_else(unsaid));
        }
        let start = Instant::now();
        while start.elapsed() < LONGEST_OPENING {
            self.first = self.sink.try_pull_sample(clock_time(LONGEST_NAP));
            if self.first.is_some() {
                return Ok(());
            }
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            if self.sink.is_eos() {
                return Err(of_source("it ended before its first frame".to_owned()));
            }
        }
        // It hangs somewhere, and would hang in a farewell too.
        self.has_failed = true;
        Err(of_source(format!("no frame came within {} s", LONGEST_OPENING.as_secs())))
    }

    /// What the pipeline says has failed, if anything.
    fn failure(&mut self) -> Option<Failure> {
        let message = self.bus.pop_filtered(&[gst::MessageType::Error])?;
        let MessageView::Error(error) = message.view() else { return None };
        self.has_failed = true;
        let element = error.src().map(|element| element.name().to_string()).unwrap_or_default();
        // A file or a server that isn't there is so for every pipeline; a decoder's device is not.
        let is_of_pipeline = element != "source" || !error.error().is::<gst::ResourceError>();
        let mut reason = format!("{} ({element})", error.error());
        // The last line of what is for developers names what is missing or refused.
        if let Some(debug) = error.debug()
            && let Some(line) = debug.lines().map(str::trim).rfind(|line| !line.is_empty())
        {
            let _ = write!(reason, ": {line}");
        }
        if error.error().matches(gst::CoreError::MissingPlugin) {
            reason.push_str(
                "; Debian's gstreamer1.0-plugins-good and gstreamer1.0-libav have most decoders, a Jetson's L4T has its own",
            );
        }
        Some(Failure { reason, is_of_pipeline })
    }

    fn lost(&self, reason: String) -> CaptureError {
        CaptureError::Lost { source_name: self.name.to_string(), reason: without_password(&reason) }
    }

    /// Copies a sample's rows into the frame, one after the other.
    fn fill(&mut self, sample: &gst::Sample, frame: &mut Frame) -> Result<(), String> {
        let buffer = sample.buffer().ok_or("a sample came without a buffer")?;
        let caps = sample.caps().ok_or("a frame came without saying what it is")?;
        if self.shape.as_ref().is_none_or(|(known, _)| known.as_ptr() != caps.as_mut_ptr()) {
            self.shape = Some((caps.to_owned(), Shape::of(caps)?));
        }
        let Some((_, shape)) = &self.shape else { return Ok(()) };
        let video = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &shape.info)
            .map_err(|_| "a frame is shorter than its size says")?;
        // Where pixels share their colour, a last odd column or row is left out.
        let (width, height) = shape.size();
        (frame.width, frame.height) = (width, height);
        (frame.format, frame.encoding) = (shape.format, shape.encoding);
        frame.bytes.clear();
        // Where the engine reads it: this is the one copy that the processor makes.
        frame.bytes.reserve(shape.format.frame_len(width, height).unwrap_or(0));
        for (plane, (row_len, rows)) in (0..shape.info.n_planes()).zip(shape.format.planes(width, height)) {
            let bytes = video.plane_data(plane).map_err(|error| error.to_string())?;
            let stride = usize::try_from(video.plane_stride()[plane as usize])
                .map_err(|_| "its rows run backwards, which wordsight can't read")?;
            for row in bytes.chunks(stride).take(rows) {
                frame.bytes.extend_from_slice(row.get(..row_len).ok_or("a row is shorter than its width")?);
            }
        }
        if !frame.view().is_whole() {
            return Err("a frame is shorter than its size says".to_owned());
        }
        Ok(())
    }

    /// How long ago a live sample was captured, by the pipeline's own clock.
    fn age(&self, sample: &gst::Sample) -> Option<Duration> {
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
        let running_time = segment.to_running_time(sample.buffer()?.pts()?)?;
        let captured = self.pipeline.base_time()? + running_time;
        let age = self.pipeline.clock()?.time().checked_sub(captured)?;
        Some(Duration::from_nanos(age.nseconds())).filter(|age| *age < OLDEST)
    }
}

impl Source for GstSource {
    fn capture(&mut self, frame: &mut Frame) -> Result<Captured, CaptureError> {
        let sample = self.first.take().or_else(|| self.sink.try_pull_sample(clock_time(LONGEST_NAP)));
        let Some(sample) = sample else {
            if let Some(failure) = self.failure() {
                return Err(self.lost(failure.reason));
            }
            return Ok(if self.sink.is_eos() { Captured::End } else { Captured::NotYet });
        };
        let age = if self.is_live { self.age(&sample).unwrap_or_default() } else { Duration::ZERO };
        frame.stamp_aged(&self.name, age);
        match self.fill(&sample, frame) {
            Ok(()) => Ok(Captured::Frame),
            Err(reason) => Err(CaptureError::BadPicture { name: self.name.to_string(), reason }),
        }
    }

    fn rewind(&mut self) -> Result<(), CaptureError> {
        if self.is_live {
            return Ok(());
        }
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
        self.pipeline
            .seek_simple(flags, gst::ClockTime::ZERO)
            .map_err(|_| self.lost("it can't be played again from its beginning".to_owned()))
    }
}

impl Drop for GstSource {
    fn drop(&mut self) {
        if self.is_live && !self.has_failed && self.pipeline.send_event(gst::event::Eos::new()) {
            // The sink takes what still comes, so that the end can pass.
            let until = Instant::now() + LONGEST_FAREWELL;
            while !self.sink.is_eos() && Instant::now() < until {
                if self.failure().is_some() {
                    break;
                }
                drop(self.sink.try_pull_sample(clock_time(Duration::from_millis(20))));
            }
        }
        // Nothing is left that could be done about it.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Shape {
    fn of(caps: &gst::CapsRef) -> Result<Self, String> {
        let info = VideoInfo::from_caps(caps).map_err(|_| format!("{caps} is no raw video"))?;
        let known = FORMATS.iter().find(|(theirs, _)| *theirs == info.format());
        let &(_, format) = known.ok_or_else(|| {
            format!(
                "{} is a format that wordsight can't read: put `videoconvert` before the appsink",
                info.format()
            )
        })?;
        let colours = info.colorimetry();
        let is_full = colours.range() == gst_video::VideoColorRange::Range0_255;
        let encoding = YuvEncoding::of(colours.matrix() == gst_video::VideoColorMatrix::Bt709, is_full);
        let shape = Self { info, format, encoding };
        let (width, height) = shape.size();
        if format.frame_len(width, height).is_none() {
            return Err(format!(
                "frames of {}x{} pixels are too small",
                shape.info.width(),
                shape.info.height()
            ));
        }
        Ok(shape)
    }

    fn size(&self) -> (usize, usize) {
        let (width, height) = (self.info.width() as usize, self.info.height() as usize);
        if self.format.is_yuv() { (width & !1, height & !1) } else { (width, height) }
    }
}

/// The pipeline of a description, and the appsink in it.
fn parse(launch: &str) -> Result<(gst::Pipeline, AppSink), String> {
    let parsed = gst::parse::launch(launch).map_err(|error| format!("{error} in `{launch}`"))?;
    let pipeline = match parsed.downcast::<gst::Pipeline>() {
        Ok(pipeline) => pipeline,
        Err(element) => {
            let pipeline = gst::Pipeline::new();
            pipeline.add(&element).map_err(|error| error.to_string())?;
            pipeline
        }
    };
    let mut sinks = pipeline.iterate_sinks().into_iter().flatten();
    let sink = sinks.find_map(|element| element.downcast::<AppSink>().ok());
    let sink = sink.ok_or_else(|| format!("`{launch}` does not end in an appsink: write `... ! appsink`"))?;
    Ok((pipeline, sink))
}

fn set_up(sink: &AppSink, is_live: bool) {
    // A pipeline's own caps stay, if they are narrower.
    if sink.caps().is_none_or(|caps| caps.is_any()) {
        let formats = FORMATS.map(|(theirs, _)| theirs);
        sink.set_caps(Some(&gst_video::VideoCapsBuilder::new().format_list(formats).build()));
    }
    sink.set_sync(false);
    sink.set_qos(false);
    sink.set_enable_last_sample(false);
    sink.set_max_buffers(if is_live { 1 } else { 2 });
    sink.set_drop(is_live);
}

fn clock_time(duration: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(duration.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::uri::CameraRequest;

    fn open(launch: &str) -> Result<GstSource, CaptureError> {
        GstSource::open_live(&own_pipeline(launch), &format!("gst:{launch}"))
    }

    /// The next frame, however often there is none yet.
    fn next(source: &mut GstSource) -> Frame {
        let mut frame = Frame::default();
        loop {
            match source.capture(&mut frame).unwrap() {
                Captured::Frame => return frame,
                Captured::NotYet => {}
                Captured::End => panic!("the end"),
            }
        }
    }

    fn colour_in_the_middle(frame: &Frame) -> [u8; 3] {
        let mut rgb = Vec::new();
        frame.view().write_rgb(&mut rgb);
        rgb.as_chunks::<3>().0[frame.height / 2 * frame.width + frame.width / 2]
    }

    #[test]
    fn frames_come_in_each_of_our_formats_with_their_colours_and_without_padding() {
        for (name, format) in [
            ("NV12", PixelFormat::Nv12),
            ("I420", PixelFormat::I420),
            ("YUY2", PixelFormat::Yuyv),
            ("UYVY", PixelFormat::Uyvy),
            ("RGB", PixelFormat::Rgb),
            ("GRAY8", PixelFormat::Grey),
        ] {
            // GStreamer pads these rows to multiples of four.
            let launch = format!(
                "videotestsrc is-live=true pattern=red ! video/x-raw,format={name},width=322,height=242,framerate=50/1 ! appsink"
            );
            let frame = next(&mut open(&launch).unwrap());
            assert_eq!((frame.width, frame.height, frame.format), (322, 242, format));
            let [red, green, blue] = colour_in_the_middle(&frame);
            let is_red = red > 245 && green < 10 && blue < 10;
            assert!(is_red || (format == PixelFormat::Grey && red == green), "{name}: {red} {green} {blue}");
        }
    }

    #[test]
    fn a_frame_is_copied_once_into_room_of_its_own_size() {
        for (format, bytes) in [("NV12", 322 * 242 * 3 / 2), ("RGB", 322 * 242 * 3)] {
            let launch = format!(
                "videotestsrc is-live=true ! video/x-raw,format={format},width=322,height=242,framerate=50/1 ! appsink"
            );
            let mut source = open(&launch).unwrap();
            let mut frame = Frame::default();
            let mut place = None;
            for _ in 0..3 {
                while source.capture(&mut frame).unwrap() != Captured::Frame {}
                assert_eq!((frame.bytes.len(), frame.bytes.capacity()), (bytes, bytes), "{format}");
                // It stays where it is, so that an engine's memory is reserved once.
                assert_eq!(*place.get_or_insert(frame.bytes.as_ptr()), frame.bytes.as_ptr());
            }
        }
    }

    #[test]
    fn other_formats_become_one_of_ours_or_are_refused_with_what_to_add() {
        let start = "videotestsrc is-live=true ! video/x-raw,format=BGRA,width=64,height=48";
        assert_eq!(next(&mut open(&format!("{start} ! videoconvert ! appsink")).unwrap()).width, 64);
        let error = open(&format!("{start} ! appsink")).err().unwrap().to_string();
        assert!(error.contains("cannot open gst:"), "{error}");
    }

    #[test]
    fn a_live_frame_is_as_old_as_the_pipeline_says() {
        let mut source = open(
            "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=20/1 ! queue ! appsink",
        )
        .unwrap();
        let mut age = || {
            let frame = next(&mut source);
            frame.received_at - frame.captured_at
        };
        // Of the first frame it isn't told. A busy machine is late for some frames, a wrong clock for all.
        age();
        let ages: Vec<Duration> = std::iter::repeat_with(&mut age).take(20).collect();
        assert!(ages.iter().all(|age| *age > Duration::ZERO), "{ages:?}");
        let is_young = |age: &Duration| *age < Duration::from_millis(50);
        let is_ever_young = ages.iter().any(is_young) || (0..400).any(|_| is_young(&age()));
        assert!(is_ever_young, "{ages:?}");
    }

    #[test]
    fn a_stream_that_changes_its_size_goes_on_with_the_new_one() {
        let mut source = open(
            "videotestsrc is-live=true ! video/x-raw,framerate=50/1 ! capsfilter name=size \
             caps=video/x-raw,width=64,height=48 ! appsink",
        )
        .unwrap();
        assert_eq!(next(&mut source).width, 64);
        let size = source.pipeline.by_name("size").unwrap();
        size.set_property_from_str("caps", "video/x-raw,width=128,height=96");
        // Of the old size are those that are under way already.
        let mut widths = std::iter::repeat_with(|| next(&mut source).width).take(500);
        assert!(widths.any(|width| width == 128));
    }

    #[test]
    fn a_stream_that_ends_says_so_and_one_that_fails_says_why() {
        let mut ends = open("videotestsrc num-buffers=3 ! appsink").unwrap();
        let mut frame = Frame::default();
        // Each asks for as long as LONGEST_NAP: minutes, before it is given up.
        let mut asked = (0..3_000).map(|_| ends.capture(&mut frame).unwrap());
        assert!(asked.any(|captured| captured == Captured::End));
        let mut fails = open("videotestsrc is-live=true ! identity error-after=5 ! appsink").unwrap();
        let error = (0..3_000).find_map(|_| fails.capture(&mut frame).err()).unwrap();
        assert!(matches!(error, CaptureError::Lost { .. }), "{error}");
        assert!(error.to_string().contains("identity"), "{error}");
    }

    #[test]
    fn what_cannot_be_opened_says_why_and_shows_no_password() {
        for (launch, expected) in [
            ("videotestsrc ! fakesink", "end in an appsink"),
            ("nosuchelement ! appsink", "nosuchelement"),
            ("filesrc location=/nowhere/x.mp4 ! decodebin ! appsink", "/nowhere/x.mp4"),
            ("rtspsrc location=rtsp://me:secret@127.0.0.1:1/x ! decodebin ! appsink", "connect"),
        ] {
            let opened = GstSource::open_live(&own_pipeline(launch), "camera");
            let error = opened.err().unwrap().to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{launch}: {error}");
        }
        let error = GstSource::open_live(&csi_pipeline(0, &CameraRequest::default()), "csi://0");
        let has_argus = gst::ElementFactory::find("nvarguscamerasrc").is_some();
        assert!(has_argus || error.err().unwrap().to_string().contains("needs a Jetson"));
    }

    #[test]
    fn where_one_pipeline_fails_the_next_is_tried_unless_it_is_the_source_that_fails() {
        let of = |launches: &[&str]| Description {
            launches: launches.iter().map(|launch| (*launch).to_owned()).collect(),
            ..own_pipeline("")
        };
        let good = "videotestsrc is-live=true ! video/x-raw,width=64,height=48 ! appsink";
        for bad in [
            "nosuchelement ! appsink",
            "videotestsrc is-live=true ! identity error-after=1 ! appsink",
            "videotestsrc ! video/x-raw,format=BGRA ! appsink",
        ] {
            let mut source = GstSource::open_live(&of(&[bad, good]), "camera").unwrap();
            assert_eq!(next(&mut source).width, 64, "{bad}");
        }
        let missing = "filesrc name=source location=/nowhere/x.mp4 ! decodebin ! appsink";
        let error = GstSource::open_live(&of(&[missing, good]), "camera").err().unwrap().to_string();
        assert!(error.contains("/nowhere/x.mp4"), "{error}");
        let error = GstSource::open_live(&of(&["nosuchelement ! appsink", "none ! appsink"]), "camera");
        assert!(error.err().unwrap().to_string().contains("none"), "the last is told");
    }
}
