//! Test patterns: `test://bars`, `test://noise`, `test://ff8000`.
//!
//! Makes frames of any size and format. A box moves in them, so that neighbouring frames differ, but in the smallest
//! pictures. The picture is made once and only the box is drawn into each frame, because a pattern stands in for a
//! camera, and a camera costs the processor next to nothing.

use std::sync::Arc;

use wordsight_detection::{PixelFormat, YuvEncoding};

use crate::{CaptureError, Captured, Frame, Source};

/// The part of the picture's shorter side that the moving box is wide and high.
const BOX_PART: usize = 8;
/// Frames in which the box crosses the picture.
const CROSSING: u64 = 90;

/// What is in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Eight bars: white, yellow, cyan, green, magenta, red, blue, black.
    Bars,
    /// Every pixel at random: the worst that a compressor can meet.
    Noise,
    /// One colour.
    Colour([u8; 3]),
}

impl Pattern {
    /// The pattern of a name; a colour is six hexadecimal digits.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        match name {
            "bars" => return Ok(Self::Bars),
            "noise" => return Ok(Self::Noise),
            _ => {}
        }
        let digits = name.len() == 6 && name.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u32::from_str_radix(name, 16).ok().filter(|_| digits);
        number.map(|number| Self::Colour([16, 8, 0].map(|shift| (number >> shift) as u8))).ok_or_else(|| {
            format!(
                "`{name}` is no pattern: there are test://bars, test://noise and colours like test://ff8000"
            )
        })
    }

    fn colour_at(self, x: usize, width: usize, random: &mut u64) -> [u8; 3] {
        match self {
            Self::Bars => {
                let bar = 8 * x / width;
                // The classic order: green goes last, red after two, blue after one.
                [bar & 2 == 0, bar & 4 == 0, bar & 1 == 0].map(|on| if on { 191 } else { 0 })
            }
            Self::Noise => {
                // Marsaglia's xorshift: the same noise every time.
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                [24, 32, 40].map(|shift| (*random >> shift) as u8)
            }
            Self::Colour(colour) => colour,
        }
    }
}

/// A pattern that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TestPattern {
    pattern: Pattern,
    size: (usize, usize),
    format: PixelFormat,
    frames: Option<u64>,
}

impl TestPattern {
    /// A pattern of `size` (width, height); without `frames` it has no end.
    pub(super) fn new(
        pattern: Pattern,
        size: (usize, usize),
        format: PixelFormat,
        frames: Option<u64>,
    ) -> Result<Self, String> {
        if format.frame_len(size.0, size.1).is_none() {
            return Err(format!(
                "{}x{}: frames whose pixels share their colour have even sides",
                size.0, size.1
            ));
        }
        Ok(Self { pattern, size, format, frames })
    }

    pub(super) fn open(&self, display: &str) -> TestSource {
        let (width, height) = self.size;
        let mut random = 0x9e37_79b9_7f4a_7c15;
        let still =
            bytes_of(self.format, width, height, |x, _| self.pattern.colour_at(x, width, &mut random));
        TestSource { pattern: self.clone(), still, source: Arc::from(display), next: 0 }
    }
}

/// An open pattern.
pub(super) struct TestSource {
    pattern: TestPattern,
    /// The picture without the box.
    still: Vec<u8>,
    source: Arc<str>,
    next: u64,
}

impl Source for TestSource {
    fn capture(&mut self, frame: &mut Frame) -> Result<Captured, CaptureError> {
        if self.pattern.frames.is_some_and(|frames| self.next >= frames) {
            return Ok(Captured::End);
        }
        let TestPattern { size: (width, height), format, .. } = self.pattern;
        (frame.width, frame.height) = (width, height);
        (frame.format, frame.encoding) = (format, YuvEncoding::default());
        frame.bytes.clear();
        frame.bytes.extend_from_slice(&self.still);
        let side = (width.min(height) / BOX_PART).max(1);
        let phase = self.next % (2 * CROSSING);
        let forth_and_back = phase.min(2 * CROSSING - phase) as usize;
        let left = (width - side) * forth_and_back / CROSSING as usize;
        invert(frame, left, (height - side) / 2, side);
        frame.stamp(&self.source);
        self.next += 1;
        Ok(Captured::Frame)
    }

    fn rewind(&mut self) -> Result<(), CaptureError> {
        self.next = 0;
        Ok(())
    }
}

/// Turns the brightness of a square around: what every format has as its first channel, or as all three.
fn invert(frame: &mut Frame, left: usize, top: usize, side: usize) {
    let channels = frame.format.channels(frame.width, frame.height);
    let count = if frame.format == PixelFormat::Rgb { 3 } else { 1 };
    for channel in &channels[..count] {
        for y in top..top + side {
            for x in left..left + side {
                let byte = &mut frame.bytes[channel.byte_of(x, y)];
                *byte = 255 - *byte;
            }
        }
    }
}

/// A frame's bytes from the colours of its pixels; where pixels share a colour, the first one's counts.
fn bytes_of(
    format: PixelFormat,
    width: usize,
    height: usize,
    mut colour_at: impl FnMut(usize, usize) -> [u8; 3],
) -> Vec<u8> {
    let mut bytes = vec![0; format.frame_len(width, height).unwrap_or(0)];
    let channels = format.channels(width, height);
    for y in 0..height {
        for x in 0..width {
            let rgb = colour_at(x, y);
            let samples = match format {
                PixelFormat::Rgb => rgb,
                PixelFormat::Grey => [luma(rgb); 3],
                _ => yuv(rgb),
            };
            for (channel, sample) in channels.iter().zip(samples) {
                let first = !(channel.shares_columns && x % 2 == 1 || channel.shares_rows && y % 2 == 1);
                if first {
                    bytes[channel.byte_of(x, y)] = sample;
                }
            }
        }
    }
    bytes
}

fn luma([red, green, blue]: [u8; 3]) -> u8 {
    (0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)).round() as u8
}

/// ITU-R BT.601 with Y from 16 to 235, as the frames say (`YuvEncoding::default()`).
fn yuv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = [red, green, blue].map(|value| f32::from(value) / 255.0);
    let y = 0.299 * red + 0.587 * green + 0.114 * blue;
    let (u, v) = ((blue - y) / 1.772, (red - y) / 1.402);
    [16.0 + 219.0 * y, 128.0 + 224.0 * u, 128.0 + 224.0 * v].map(|value| value.round() as u8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn open(pattern: Pattern, format: PixelFormat, frames: Option<u64>) -> TestSource {
        TestPattern::new(pattern, (640, 480), format, frames).unwrap().open("test://x")
    }

    #[test]
    fn bars_are_the_same_colours_in_every_format_that_has_colours() {
        for format in PixelFormat::ALL {
            let mut frame = Frame::default();
            assert_eq!(open(Pattern::Bars, format, None).capture(&mut frame).unwrap(), Captured::Frame);
            let mut rgb = Vec::new();
            frame.view().write_rgb(&mut rgb);
            if format == PixelFormat::Grey {
                continue;
            }
            let bars = [
                [191, 191, 191],
                [191, 191, 0],
                [0, 191, 191],
                [0, 191, 0],
                [191, 0, 191],
                [191, 0, 0],
                [0, 0, 191],
                [0; 3],
            ];
            for (bar, wanted) in bars.into_iter().enumerate() {
                let found = &rgb[3 * (80 * bar + 40)..][..3];
                let near = found.iter().zip(wanted).all(|(a, b): (&u8, i32)| (i32::from(*a) - b).abs() <= 3);
                assert!(near, "{format:?}: bar {bar} is {found:?}");
            }
        }
    }

    #[test]
    fn something_moves_from_frame_to_frame_and_the_stream_ends_when_it_should() {
        for format in PixelFormat::ALL {
            let mut source = open(Pattern::Colour([10, 20, 30]), format, Some(3));
            let (mut one, mut other) = (Frame::default(), Frame::default());
            source.capture(&mut one).unwrap();
            source.capture(&mut other).unwrap();
            assert!(one.bytes != other.bytes, "{format:?}");
            assert!(one.view().is_whole());
            assert_eq!(source.capture(&mut one).unwrap(), Captured::Frame);
            assert_eq!(source.capture(&mut one).unwrap(), Captured::End);
            source.rewind().unwrap();
            assert_eq!(source.capture(&mut one).unwrap(), Captured::Frame);
        }
    }

    #[test]
    fn noise_is_the_same_every_time_and_no_two_rows_are_alike() {
        let (mut one, mut other) = (Frame::default(), Frame::default());
        open(Pattern::Noise, PixelFormat::Rgb, None).capture(&mut one).unwrap();
        open(Pattern::Noise, PixelFormat::Rgb, None).capture(&mut other).unwrap();
        assert!(one.bytes == other.bytes);
        let mut rows: Vec<&[u8]> = one.bytes.chunks(3 * 640).collect();
        rows.sort();
        rows.dedup();
        assert_eq!(rows.len(), 480);
    }
}
