//! Everything that GStreamer can open: network and CSI cameras, video files, any pipeline.
//!
//! In flows a pipeline's description that ends in an appsink, out flow the frames that arrive there, in whichever of our
//! formats they are: decoders keep their own, and nothing is converted that the letterbox can read.
//!
//! The one surprising thing: a source counts as open only when its first frame is there. Until then a pipeline may say
//! for seconds that all is well while a server doesn't answer, and whoever waits for the opening is told why it failed
//! rather than that frames don't come.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gstreamer::prelude::*;
use gstreamer::{self as gst, MessageView};
use gstreamer_app::AppSink;
use gstreamer_video::{self as gst_video, VideoFormat, VideoFrameExt, VideoInfo};
use wordsight_detection::{PixelFormat, YuvEncoding};

use super::uri::{CameraRequest, without_password};
use super::{CaptureError, Captured, Frame, LONGEST_NAP, Source};

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
/// Of what is decoded only the newest is kept, so that a slow stream doesn't hold its decoder up.
const NEWEST: &str = "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0";

/// A pipeline, and what is set on its elements apart: text of a user's needs no quoting there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Description {
    launch: String,
    /// Of the element with the name `source`.
    properties: Vec<(&'static str, String)>,
    /// What it takes that a machine may not have: an element, and where it comes from.
    needs: Option<(&'static str, &'static str)>,
}

impl Description {
    fn of(launch: String) -> Self {
        Self { launch, properties: Vec::new(), needs: None }
    }
}

/// A user's own pipeline.
pub(super) fn own_pipeline(launch: &str) -> Description {
    Description::of(launch.to_owned())
}

/// A network camera. The newest frame is worth more than a whole one: what comes too late is dropped.
pub(super) fn rtsp_pipeline(uri: &str, latency_ms: u32) -> Description {
    let launch = format!(
        "rtspsrc name=source latency={latency_ms} drop-on-latency=true timeout=3000000 tcp-timeout=3000000 \
         ! application/x-rtp,media=video ! decodebin ! {NEWEST} ! {} ! appsink",
        converter()
    );
    Description {
        properties: vec![("location", uri.to_owned())],
        needs: Some(("rtspsrc", "Debian's gstreamer1.0-plugins-good")),
        ..Description::of(launch)
    }
}

/// A camera on a Jetson's CSI connector, by way of NVIDIA's camera daemon.
pub(super) fn csi_pipeline(sensor: u32, request: &CameraRequest) -> Description {
    let mut caps = "video/x-raw(memory:NVMM),format=NV12".to_owned();
    push_size_and_rate(&mut caps, request);
    let launch = format!(
        "nvarguscamerasrc sensor-id={sensor} ! {caps} ! nvvidconv ! video/x-raw,format=NV12 ! {NEWEST} ! appsink"
    );
    let needs = "NVIDIA's L4T, its package nvidia-l4t-gstreamer: a CSI camera needs a Jetson";
    Description { needs: Some(("nvarguscamerasrc", needs)), ..Description::of(launch) }
}

/// A camera of the kernel's, where this program was built without v4l2, or the camera sends H.264.
pub(super) fn v4l2_pipeline(request: &CameraRequest) -> Result<Description, String> {
    if !request.controls.is_empty() {
        return Err("controls need a wordsight built with `--features v4l2`".to_owned());
    }
    let mut caps = match request.format.as_deref() {
        None => "video/x-raw".to_owned(),
        Some("mjpg" | "mjpeg" | "jpeg") => "image/jpeg".to_owned(),
        Some("h264") => "video/x-h264".to_owned(),
        Some(raw) => {
            let named = match raw {
                "yuyv" => "YUY2",
                "uyvy" => "UYVY",
                "nv12" => "NV12",
                "yu12" | "i420" => "I420",
                "grey" => "GRAY8",
                "rgb" | "rgb3" => "RGB",
                other => {
                    return Err(format!(
                        "format={other} is none of yuyv, uyvy, nv12, i420, grey, rgb, mjpg, h264"
                    ));
                }
            };
            format!("video/x-raw,format={named}")
        }
    };
    push_size_and_rate(&mut caps, request);
    let launch = format!("v4l2src name=source ! {caps} ! decodebin ! {NEWEST} ! {} ! appsink", converter());
    Ok(Description {
        properties: vec![("device", request.device.display().to_string())],
        needs: Some(("v4l2src", "Debian's gstreamer1.0-plugins-good")),
        ..Description::of(launch)
    })
}

fn file_pipeline(path: &Path) -> Description {
    let launch = format!("filesrc name=source ! decodebin ! {} ! appsink", converter());
    Description { properties: vec![("location", path.display().to_string())], ..Description::of(launch) }
}

/// What makes one of our formats of a decoder's: on a Jetson the one that reads NVIDIA's memory.
fn converter() -> &'static str {
    let has_nvvidconv = init().is_ok() && gst::ElementFactory::find("nvvidconv").is_some();
    if has_nvvidconv { "nvvidconv ! video/x-raw,format=NV12" } else { "videoconvert" }
}

fn push_size_and_rate(caps: &mut String, request: &CameraRequest) {
    // Writing to a string can't fail.
    if let (Some(width), Some(height)) = (request.width, request.height) {
        let _ = write!(caps, ",width={width},height={height}");
    }
    if let Some(fps) = request.fps {
        // 29.97 is 30000/1001 to a camera: whatever is within a hundredth will do.
        let thousandths = |fps: f64| (fps * 1000.0).round() as u64;
        let (least, most) = (thousandths(fps * 0.99), thousandths(fps * 1.01));
        let _ = write!(caps, ",framerate=[{least}/1000,{most}/1000]");
    }
}

/// Starts GStreamer, once a process.
pub(crate) fn init() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED.get_or_init(|| gst::init().map_err(|error| format!("GStreamer does not start: {error}"))).clone()
}

/// A pipeline that runs.
pub(super) struct GstSource {
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
    pub(super) fn open_live(description: &Description, name: &str) -> Result<Self, CaptureError> {
        Self::open(description, name, true)
    }

    /// Opens a video file, of which no frame is lost.
    pub(super) fn open_file(path: &Path, name: &str) -> Result<Self, CaptureError> {
        Self::open(&file_pipeline(path), name, false)
    }

    fn open(description: &Description, name: &str, is_live: bool) -> Result<Self, CaptureError> {
        let unopened = |reason: String| CaptureError::Unopened {
            source_name: name.to_owned(),
            reason: without_password(&reason),
        };
        init().map_err(unopened)?;
        if let Some((element, origin)) = description.needs
            && gst::ElementFactory::find(element).is_none()
        {
            return Err(unopened(format!("GStreamer has no {element}, which comes with {origin}")));
        }
        let (pipeline, sink) = parse(&description.launch).map_err(unopened)?;
        if let Some(source) = pipeline.by_name("source") {
            for (property, value) in &description.properties {
                source.set_property_from_str(property, value);
            }
        }
        set_up(&sink, is_live);
        let bus = pipeline.bus().ok_or_else(|| unopened("its pipeline has no bus".to_owned()))?;
        // Nobody looks at the bus while frames come: what isn't an error would pile up there for as long as they do.
        bus.set_sync_handler(|_, message| match message.type_() {
            gst::MessageType::Error => gst::BusSyncReply::Pass,
            _ => gst::BusSyncReply::Drop,
        });
        let (name, shape) = (Arc::from(name), None);
        let mut opened = Self { pipeline, sink, bus, name, is_live, first: None, shape, has_failed: false };
        opened.wait_for_first_frame().map_err(unopened)?;
        Ok(opened)
    }

    fn wait_for_first_frame(&mut self) -> Result<(), String> {
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            self.has_failed = true;
            return Err(self.failure().unwrap_or_else(|| "its pipeline does not start".to_owned()));
        }
        let start = Instant::now();
        while start.elapsed() < LONGEST_OPENING {
            self.first = self.sink.try_pull_sample(clock_time(LONGEST_NAP));
            if self.first.is_some() {
                return Ok(());
            }
            if let Some(reason) = self.failure() {
                return Err(reason);
            }
            if self.sink.is_eos() {
                return Err("it ended before its first frame".to_owned());
            }
        }
        // It hangs somewhere, and would hang in a farewell too.
        self.has_failed = true;
        Err(format!("no frame came within {} s", LONGEST_OPENING.as_secs()))
    }

    /// What the pipeline says has failed, if anything.
    fn failure(&mut self) -> Option<String> {
        let message = self.bus.pop_filtered(&[gst::MessageType::Error])?;
        let MessageView::Error(error) = message.view() else { return None };
        self.has_failed = true;
        let element = error.src().map(|element| element.name().to_string()).unwrap_or_default();
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
        Some(reason)
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
            if let Some(reason) = self.failure() {
                return Err(self.lost(reason));
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
        let ages = (0..20).map(|_| next(&mut source)).map(|frame| frame.received_at - frame.captured_at);
        let youngest = ages.skip(1).min().unwrap();
        assert!(youngest > Duration::ZERO && youngest < Duration::from_millis(50), "{youngest:?}");
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
        let until = Instant::now() + Duration::from_secs(5);
        let mut widths =
            std::iter::repeat_with(|| next(&mut source).width).take_while(|_| Instant::now() < until);
        assert!(widths.any(|width| width == 128));
    }

    #[test]
    fn a_stream_that_ends_says_so_and_one_that_fails_says_why() {
        let mut ends = open("videotestsrc num-buffers=3 ! appsink").unwrap();
        let mut frame = Frame::default();
        let until = Instant::now() + Duration::from_secs(5);
        while ends.capture(&mut frame).unwrap() != Captured::End {
            assert!(Instant::now() < until);
        }
        let mut fails = open("videotestsrc is-live=true ! identity error-after=5 ! appsink").unwrap();
        let error = loop {
            assert!(Instant::now() < until);
            if let Err(error) = fails.capture(&mut frame) {
                break error;
            }
        };
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
    fn cameras_are_asked_for_their_size_rate_and_format() {
        let request = CameraRequest {
            device: "/dev/video3".into(),
            width: Some(1280),
            height: Some(720),
            fps: Some(29.97),
            format: Some("mjpg".to_owned()),
            controls: Vec::new(),
        };
        let v4l2 = v4l2_pipeline(&request).unwrap();
        assert!(
            v4l2.launch
                .contains("image/jpeg,width=1280,height=720,framerate=[29670/1000,30270/1000] ! decodebin")
        );
        assert_eq!(v4l2.properties, [("device", "/dev/video3".to_owned())]);
        let csi = csi_pipeline(1, &request).launch;
        assert!(csi.starts_with(
            "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,width=1280,height=720,framerate=[29670/1000,30270/1000]"
        ));
        let wrong = CameraRequest { format: Some("h265x".to_owned()), ..request.clone() };
        assert!(v4l2_pipeline(&wrong).unwrap_err().contains("h265x"));
        let controlled = CameraRequest { controls: vec![("gain".to_owned(), 1)], ..request };
        assert!(v4l2_pipeline(&controlled).unwrap_err().contains("--features v4l2"));
    }
}
