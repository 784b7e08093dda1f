//! V4L2 cameras (`v4l2://`).
//!
//! Sets a camera up as the user asks, and makes frames of the buffers that its driver fills: in the camera's own format
//! without padding, or in RGB where that is a compressed one. Each frame has the moment at which the camera took it.
//!
//! Of several frames that are ready, a late reader gets the newest; the older ones go back to the driver unread and are
//! counted as missed.

mod controls;
mod device;
mod layout;
mod listing;
mod offers;
mod open;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use v4l::v4l_sys as sys;
use wordsight_detection::YuvEncoding;

use crate::decode::decode;
use crate::uri::CameraRequest;
use crate::{CaptureError, Captured, Frame, LONGEST_NAP, Source, UriError};
use device::{Device, Filled, PictureFormat, Readiness, Stream};
use layout::Layout;
pub use listing::{Camera, cameras};
use offers::{Choice, Coding, is_near, list};
pub use offers::{Offer, Rate, Size, SizeOffer, name_of};
use open::{open_device, why_lost, why_not_set_up, why_not_started};

/// Buffers of the driver's: one that is filled, one that is next, and two for a moment in which nobody fetches them.
const BUFFERS: u32 = 4;
/// A frame that is older than this was stamped by another clock.
const OLDEST: Duration = Duration::from_secs(10);
/// A gap in the driver's count that is longer than this is no gap but another count.
const LONGEST_GAP: u32 = 10_000;

/// An open camera.
pub struct V4l2Source {
    stream: Stream,
    source: Arc<str>,
    width: usize,
    height: usize,
    pixels: Pixels,
    last_sequence: Option<u32>,
    /// Frames that nobody has seen since the last one that somebody has.
    missed: u64,
}

/// Opens a camera and chooses among what it offers.
fn choose(request: &CameraRequest, display: &str) -> Result<(Device, Vec<Offer>, Choice), CaptureError> {
    let unopened = |reason: String| CaptureError::Unopened { source_name: display.to_owned(), reason };
    let device = open_device(&request.device).map_err(unopened)?;
    let now = device.format().map_err(|error| unopened(why_not_set_up(&error)))?;
    let size_now = (now.width, now.height);
    let offers = device.offers(Some(request.width.zip(request.height).unwrap_or(size_now)));
    let choice = offers::choose(&offers, size_now, request)
        .map_err(|reason| UriError::Wrong { uri: display.to_owned(), reason })?;
    Ok((device, offers, choice))
}

/// What to make of a buffer.
enum Pixels {
    Raw { format: wordsight_detection::PixelFormat, encoding: YuvEncoding, layout: Layout },
    Jpeg,
}

impl V4l2Source {
    /// Opens a camera, sets it up as asked and starts it; `display` stands for it in results.
    ///
    /// # Errors
    /// When it can't be opened, and as a mistake of the URI, when it doesn't have what is asked for: what it has.
    pub fn open(request: &CameraRequest, display: &str) -> Result<Self, CaptureError> {
        let unopened = |reason: String| CaptureError::Unopened { source_name: display.to_owned(), reason };
        let wrong = |reason: String| UriError::Wrong { uri: display.to_owned(), reason };
        let (mut device, offers, choice) = choose(request, display)?;
        let format = device
            .set_format(choice.format.fourcc, choice.size)
            .map_err(|error| unopened(why_not_set_up(&error)))?;
        check_format(&format, &choice, request.width.is_some(), &offers).map_err(wrong)?;
        if let (Some(fps), Some(interval)) = (request.fps, choice.interval) {
            let set = device.set_interval(interval).map_err(|error| match error.raw_os_error() {
                Some(libc::EBUSY) => unopened(why_not_set_up(&error)),
                _ => wrong(format!("fps={fps}: the camera can't be set to a rate ({error})")).into(),
            })?;
            check_rate(fps, set).map_err(wrong)?;
        }
        set_controls(&device, &request.controls).map_err(wrong)?;
        let (width, height) = (format.width as usize, format.height as usize);
        let pixels = match choice.format.coding {
            Coding::Jpeg => Pixels::Jpeg,
            Coding::Raw(pixel_format) => {
                if pixel_format.frame_len(width, height).is_none() {
                    return Err(wrong(format!(
                        "the camera gives {width}x{height}, and pictures in {} have even sides",
                        choice.format.name()
                    ))
                    .into());
                }
                let encoding =
                    layout::encoding(format.colorspace, format.ycbcr_encoding, format.quantization);
                let layout = Layout::new(pixel_format, width, height, format.stride as usize);
                Pixels::Raw { format: pixel_format, encoding, layout }
            }
        };
        device.watch_source();
        let source: Arc<str> = Arc::from(display);
        let fps = device.interval().and_then(|(n, d)| Rate::exact(n, d)).map(Rate::best);
        let stream = Stream::start(device, BUFFERS).map_err(|error| unopened(why_not_started(&error)))?;
        let name = choice.format.name();
        tracing::info!(format = name, width, height, fps, "opened the camera {source}");
        Ok(Self { stream, source, width, height, pixels, last_sequence: None, missed: 0 })
    }

    /// Whether a camera has what is asked for; nothing is set, and one that is in use can be asked too.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn check(request: &CameraRequest, display: &str) -> Result<(), CaptureError> {
        choose(request, display).map(drop)
    }

    /// Takes everything that is ready and keeps the newest whole picture; or else says what is wrong with the last one.
    fn newest(&mut self) -> io::Result<Option<Result<Filled, String>>> {
        let (mut newest, mut fault, mut skipped) = (None::<Filled>, None, 0_u32);
        let mut sequence = None;
        // Not for ever: a camera may be faster than this loop.
        for _ in 0..self.stream.len() {
            let Some(filled) = self.stream.take()? else { break };
            sequence = Some(filled.sequence);
            match self.fault_of(&filled) {
                None => {
                    if let Some(older) = newest.replace(filled) {
                        skipped += 1;
                        self.stream.give_back(older)?;
                    }
                }
                Some(reason) => {
                    skipped += u32::from(fault.replace(reason).is_some());
                    self.stream.give_back(filled)?;
                }
            }
        }
        let Some(sequence) = sequence else { return Ok(None) };
        if newest.is_some() {
            skipped += u32::from(fault.is_some());
        }
        self.missed += missed(self.last_sequence, sequence, skipped);
        self.last_sequence = Some(sequence);
        Ok(newest.map(Ok).or_else(|| fault.map(Err)))
    }

    /// Why a buffer has no picture in it.
    fn fault_of(&self, filled: &Filled) -> Option<String> {
        let has = self.stream.bytes(filled).len();
        let wanted = match &self.pixels {
            Pixels::Raw { layout, .. } => layout.len(),
            Pixels::Jpeg => 1,
        };
        if filled.flags & sys::V4L2_BUF_FLAG_ERROR != 0 {
            Some("the driver says that it is damaged".to_owned())
        } else if has < wanted {
            Some(format!("it has {has} bytes and not {wanted}"))
        } else {
            None
        }
    }

    fn lost(&self, reason: String) -> CaptureError {
        CaptureError::Lost { source_name: self.source.to_string(), reason }
    }

    fn bad_picture(&self, reason: String) -> CaptureError {
        CaptureError::BadPicture { name: format!("a frame of {}", self.source), reason }
    }
}

impl Source for V4l2Source {
    fn capture(&mut self, frame: &mut Frame) -> Result<Captured, CaptureError> {
        let readiness = self.stream.wait(LONGEST_NAP).map_err(|error| self.lost(why_lost(&error)))?;
        match readiness {
            Readiness::Nothing => return Ok(Captured::NotYet),
            Readiness::SourceChanged => {
                return Err(self.lost("the format of its picture has changed".to_owned()));
            }
            Readiness::Filled | Readiness::Failed => {}
        }
        let newest = self.newest().map_err(|error| self.lost(why_lost(&error)))?;
        let filled = match newest {
            Some(Ok(newest)) => newest,
            Some(Err(reason)) => return Err(self.bad_picture(reason)),
            None if readiness == Readiness::Failed => {
                return Err(self.lost("its driver reports an error".to_owned()));
            }
            None => return Ok(Captured::NotYet),
        };
        frame.stamp_aged(&self.source, age_of(filled.flags, filled.timestamp, device::monotonic_now()));
        frame.missed = std::mem::take(&mut self.missed);
        let bytes = self.stream.bytes(&filled);
        let decoded = match &self.pixels {
            Pixels::Jpeg => decode(bytes, frame),
            Pixels::Raw { format, encoding, layout } => {
                (frame.width, frame.height) = (self.width, self.height);
                (frame.format, frame.encoding) = (*format, *encoding);
                layout.unpack(bytes, &mut frame.bytes);
                Ok(())
            }
        };
        self.stream.give_back(filled).map_err(|error| self.lost(why_lost(&error)))?;
        decoded.map_err(|reason| self.bad_picture(reason))?;
        Ok(Captured::Frame)
    }
}

/// Whether the driver has done what it was asked for.
fn check_format(set: &PictureFormat, choice: &Choice, asked: bool, offers: &[Offer]) -> Result<(), String> {
    let name = choice.format.name();
    if set.fourcc != choice.format.fourcc {
        return Err(format!("format={name}: the camera gives {} instead", name_of(set.fourcc)));
    }
    if asked && (set.width, set.height) != choice.size {
        let of_format = offers.iter().filter(|offer| offer.fourcc == set.fourcc);
        let sizes: Vec<String> =
            of_format.flat_map(|offer| &offer.sizes).map(|offer| offer.size.to_string()).collect();
        let has =
            if sizes.is_empty() { String::new() } else { format!("; it lists {}", list(sizes.into_iter())) };
        let (width, height) = choice.size;
        return Err(format!(
            "width={width}&height={height}: the camera gives {}x{} instead{has}",
            set.width, set.height
        ));
    }
    Ok(())
}

fn check_rate(fps: f64, set: Option<(u32, u32)>) -> Result<(), String> {
    match set.and_then(|(numerator, denominator)| Rate::exact(numerator, denominator)) {
        Some(rate) if is_near(rate.best(), fps) => Ok(()),
        Some(rate) => Err(format!("fps={fps}: the camera gives {rate} frames a second instead")),
        None => Err(format!("fps={fps}: the camera doesn't say what it makes of that")),
    }
}

/// Sets controls one by one in the order that the user wrote: one that is automatic may stand before what it frees.
fn set_controls(device: &Device, wanted: &[(String, i64)]) -> Result<(), String> {
    if wanted.is_empty() {
        return Ok(());
    }
    let controls = device.controls();
    for (name, value) in wanted {
        let control = controls::find(&controls, name)?;
        control.check(*value, |entry| device.has_menu_entry(control.id, entry))?;
        device.set_control(control.id, *value, control.has_64_bits).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EACCES | libc::EBUSY) => "; does another control, an automatic one, hold it?",
                _ => "",
            };
            format!("{name}={value}: the camera refuses it ({error}){hint}")
        })?;
    }
    Ok(())
}

/// How long ago a frame was taken; zero, where the driver's clock is not the one that is known here.
fn age_of(flags: u32, timestamp: Duration, now: Duration) -> Duration {
    let is_monotonic = flags & sys::V4L2_BUF_FLAG_TIMESTAMP_MASK == sys::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    let age = now.checked_sub(timestamp).filter(|age| is_monotonic && *age <= OLDEST);
    age.unwrap_or_default()
}

/// How many frames nobody has seen before the one of `sequence`: what the driver's count says, and where that is no
/// count, those that were `skipped` here.
fn missed(last_sequence: Option<u32>, sequence: u32, skipped: u32) -> u64 {
    let gap = last_sequence.map(|last| sequence.wrapping_sub(last).wrapping_sub(1));
    u64::from(gap.filter(|&gap| gap <= LONGEST_GAP).unwrap_or_default().max(skipped))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_frames_age_is_known_only_by_a_clock_that_we_know_and_within_reason() {
        let (now, at) = (Duration::from_secs(100), Duration::from_millis(99_960));
        let monotonic = sys::V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
        assert_eq!(age_of(monotonic | sys::V4L2_BUF_FLAG_DONE, at, now), Duration::from_millis(40));
        assert_eq!(age_of(0, at, now), Duration::ZERO);
        assert_eq!(age_of(sys::V4L2_BUF_FLAG_TIMESTAMP_COPY, at, now), Duration::ZERO);
        assert_eq!(age_of(monotonic, now + Duration::from_millis(1), now), Duration::ZERO, "from the future");
        assert_eq!(age_of(monotonic, Duration::from_secs(80), now), Duration::ZERO, "by another clock");
    }

    #[test]
    fn missed_frames_are_counted_by_the_driver_or_else_by_us() {
        assert_eq!(missed(None, 7, 0), 0);
        assert_eq!(missed(Some(7), 8, 0), 0);
        assert_eq!(missed(Some(7), 11, 2), 3);
        assert_eq!(missed(Some(u32::MAX), 1, 0), 1);
        assert_eq!(missed(Some(0), 0, 2), 2, "a driver that doesn't count");
        assert_eq!(missed(Some(500), 0, 0), 0, "a driver that begins again");
    }

    #[test]
    fn a_device_that_is_none_is_answered_with_what_to_do() {
        let open = |path: &str| {
            let request = CameraRequest { device: path.into(), ..CameraRequest::default() };
            V4l2Source::open(&request, "v4l2://x").err().unwrap().to_string()
        };
        let missing = open("/dev/video-nowhere");
        assert!(missing.starts_with("cannot open v4l2://x: there is no such device; there "), "{missing}");
        let null = open("/dev/null");
        assert!(null.contains("it is no camera"), "{null}");
        assert!(open("/dev/vi\0deo").contains("cannot open"));
    }

    #[test]
    fn a_driver_that_gives_something_else_is_refused_only_if_that_was_asked_for() {
        let format = &offers::KNOWN[0];
        let choice = Choice { format, size: (640, 480), interval: None };
        let set = PictureFormat {
            fourcc: *b"YUYV",
            width: 320,
            height: 240,
            stride: 640,
            colorspace: 0,
            ycbcr_encoding: 0,
            quantization: 0,
        };
        assert_eq!(check_format(&set, &choice, false, &[]), Ok(()));
        let refused = check_format(&set, &choice, true, &[]).unwrap_err();
        assert_eq!(refused, "width=640&height=480: the camera gives 320x240 instead");
        let other = PictureFormat { fourcc: *b"MJPG", ..set };
        let refused = check_format(&other, &choice, false, &[]).unwrap_err();
        assert_eq!(refused, "format=yuyv: the camera gives mjpg instead");
        assert_eq!(check_rate(30.0, Some((1001, 30_000))), Ok(()));
        assert!(check_rate(30.0, Some((1, 15))).unwrap_err().contains("gives 15 frames a second instead"));
        assert!(check_rate(30.0, None).is_err());
    }
}
