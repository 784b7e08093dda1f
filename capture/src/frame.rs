//! A frame: its bytes as the camera gave them, and when it was captured.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wordsight_detection::{FrameView, PixelFormat, YuvEncoding};
use wordsight_engines::FrameBuffer;

/// One frame as it was captured.
#[derive(Debug)]
pub struct Frame {
    /// Its rows, one after the other without padding; reused from frame to frame.
    pub bytes: FrameBuffer,
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// What the bytes mean.
    pub format: PixelFormat,
    /// And what YUV means, where they are YUV.
    pub encoding: YuvEncoding,
    /// The file or URI it came from, as the user wrote it, without a password.
    pub source: Arc<str>,
    /// When the camera took it, by its own clock where it has one; or else when its bytes were there, before they were
    /// decoded. What ages are counted from.
    pub captured_at: Instant,
    /// When this program had its bytes: what end-to-end times are counted from.
    pub received_at: Instant,
    /// `captured_at` in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// Frames that the camera or its driver dropped since the last one, by their own count.
    pub missed: u64,
}

impl Default for Frame {
    /// A frame without pixels, to be filled.
    fn default() -> Self {
        let now = Instant::now();
        Self {
            bytes: FrameBuffer::default(),
            width: 0,
            height: 0,
            format: PixelFormat::Rgb,
            encoding: YuvEncoding::default(),
            source: Arc::default(),
            captured_at: now,
            received_at: now,
            timestamp_ns: 0,
            missed: 0,
        }
    }
}

impl Frame {
    /// The frame as the letterbox takes it.
    pub fn view(&self) -> FrameView<'_> {
        FrameView {
            bytes: &self.bytes,
            width: self.width,
            height: self.height,
            format: self.format,
            encoding: self.encoding,
        }
    }

    /// Notes that the frame's bytes are there now, and were captured now.
    pub(crate) fn stamp(&mut self, source: &Arc<str>) {
        self.stamp_aged(source, Duration::ZERO);
    }

    /// Notes that the frame's bytes are there now, and were captured `age` ago.
    pub(crate) fn stamp_aged(&mut self, source: &Arc<str>, age: Duration) {
        if !Arc::ptr_eq(&self.source, source) {
            self.source = Arc::clone(source);
        }
        self.received_at = Instant::now();
        // A machine that has run for less than the age has never seen that moment.
        self.captured_at = self.received_at.checked_sub(age).unwrap_or(self.received_at);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.timestamp_ns = since_1970.saturating_sub(age).as_nanos() as u64;
        self.missed = 0;
    }

    /// Takes RGB's place in the frame: the size and the format, the bytes follow.
    pub(crate) fn set_rgb(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        (self.format, self.encoding) = (PixelFormat::Rgb, YuvEncoding::default());
    }
}
