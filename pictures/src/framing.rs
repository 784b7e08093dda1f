//! Finds the JPEGs in a Motion-JPEG stream.
//!
//! A Motion-JPEG file is one JPEG after another and nothing else; this returns the bytes of each. Looking for the end
//! marker FF D9 is not enough: a JPEG may carry a thumbnail, a JPEG itself with an end marker of its own, inside one
//! of its segments. So the markers are followed from segment to segment (ITU-T T.81, annex B), and only the
//! entropy-coded data, in which an FF is always followed by 00 or a restart marker, is searched byte by byte.

use std::io::{self, BufRead, Read};

/// More than any frame's JPEG has.
const MOST_BYTES: u64 = 256 << 20;
/// The first two bytes of every JPEG.
pub const START_OF_IMAGE: [u8; 2] = [0xFF, SOI];

const TEM: u8 = 0x01;
const RST0: u8 = 0xD0;
const RST7: u8 = 0xD7;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;

/// Why the next JPEG cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FramingError {
    /// The bytes stop in the middle of a JPEG.
    #[error("it is cut off in the middle")]
    Truncated,
    /// The bytes are no JPEG where they should be one.
    #[error("it is damaged ({0})")]
    Damaged(&'static str),
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Whether `bytes` start with one whole JPEG.
pub fn check_whole(bytes: &[u8]) -> Result<(), FramingError> {
    Framer::new(bytes).next_jpeg(&mut Vec::new()).map(|_| ())
}

/// Cuts a stream into JPEGs.
pub struct Framer<R> {
    reader: R,
    /// The start of the next image was already read: the last one was torn there.
    at_image: bool,
}

impl<R: BufRead> Framer<R> {
    /// A framer at the start of a stream.
    pub fn new(reader: R) -> Self {
        Self { reader, at_image: false }
    }

    /// Puts the bytes of the next JPEG into `jpeg`; `false` when there is none before the end.
    /// Bytes between JPEGs are passed over.
    ///
    /// # Errors
    /// When the next JPEG is torn or the file cannot be read; asking again looks for the one behind.
    pub fn next_jpeg(&mut self, jpeg: &mut Vec<u8>) -> Result<bool, FramingError> {
        jpeg.clear();
        if !std::mem::take(&mut self.at_image) && !self.skip_to_image()? {
            return Ok(false);
        }
        jpeg.extend(START_OF_IMAGE);
        let mut marker = self.read_marker(jpeg)?;
        loop {
            marker = match marker {
                EOI => return Ok(true),
                SOI => {
                    // The next image begins before this one ended.
                    self.at_image = true;
                    return Err(FramingError::Truncated);
                }
                TEM | RST0..=RST7 => self.read_marker(jpeg)?,
                SOS => {
                    self.read_segment(jpeg)?;
                    self.read_entropy_coded(jpeg)?
                }
                _ => {
                    self.read_segment(jpeg)?;
                    self.read_marker(jpeg)?
                }
            };
        }
    }

    /// Reads past the next FF D8; `false` at the end of the stream.
    fn skip_to_image(&mut self) -> Result<bool, FramingError> {
        loop {
            // Without keeping what is passed over, which may be gigabytes of something else.
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                return Ok(false);
            }
            let Some(at) = available.iter().position(|byte| *byte == 0xFF) else {
                let passed_over = available.len();
                self.reader.consume(passed_over);
                continue;
            };
            self.reader.consume(at + 1);
            loop {
                match self.peek()? {
                    Some(SOI) => {
                        self.reader.consume(1);
                        return Ok(true);
                    }
                    // FF FF D8: the first FF is a fill byte.
                    Some(0xFF) => self.reader.consume(1),
                    Some(_) => break,
                    None => return Ok(false),
                }
            }
        }
    }

    /// Reads FF and a marker, with any number of fill bytes between; returns the marker.
    fn read_marker(&mut self, jpeg: &mut Vec<u8>) -> Result<u8, FramingError> {
        if self.read_byte(jpeg)? != 0xFF {
            return Err(FramingError::Damaged("a marker is missing"));
        }
        self.read_marker_code(jpeg)
    }

    /// Reads the byte behind an FF, and the fill bytes before it.
    fn read_marker_code(&mut self, jpeg: &mut Vec<u8>) -> Result<u8, FramingError> {
        loop {
            match self.read_byte(jpeg)? {
                0xFF => {}
                0x00 => return Err(FramingError::Damaged("a marker is missing")),
                marker => return Ok(marker),
            }
        }
    }

    /// Reads a segment: two bytes of length, which count themselves, and the rest.
    fn read_segment(&mut self, jpeg: &mut Vec<u8>) -> Result<(), FramingError> {
        let length = u16::from_be_bytes([self.read_byte(jpeg)?, self.read_byte(jpeg)?]);
        let Some(mut missing) = usize::from(length).checked_sub(2) else {
            return Err(FramingError::Damaged("a segment is shorter than its own length"));
        };
        while missing > 0 {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                return Err(FramingError::Truncated);
            }
            let taken = available.len().min(missing);
            jpeg.extend_from_slice(&available[..taken]);
            self.reader.consume(taken);
            missing -= taken;
        }
        Ok(())
    }

    /// Reads entropy-coded data up to the marker that ends it; returns that marker.
    fn read_entropy_coded(&mut self, jpeg: &mut Vec<u8>) -> Result<u8, FramingError> {
        loop {
            let room = MOST_BYTES.saturating_sub(jpeg.len() as u64);
            self.reader.by_ref().take(room).read_until(0xFF, jpeg)?;
            if jpeg.last() != Some(&0xFF) {
                let is_too_long = jpeg.len() as u64 >= MOST_BYTES;
                return Err(if is_too_long {
                    FramingError::Damaged("it is longer than any frame")
                } else {
                    FramingError::Truncated
                });
            }
            match self.peek()?.ok_or(FramingError::Truncated)? {
                0x00 | RST0..=RST7 => {
                    self.read_byte(jpeg)?;
                }
                _ => return self.read_marker_code(jpeg),
            }
        }
    }

    fn read_byte(&mut self, jpeg: &mut Vec<u8>) -> Result<u8, FramingError> {
        let byte = self.peek()?.ok_or(FramingError::Truncated)?;
        self.reader.consume(1);
        jpeg.push(byte);
        Ok(byte)
    }

    fn peek(&mut self) -> Result<Option<u8>, FramingError> {
        Ok(self.reader.fill_buf()?.first().copied())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// A JPEG in outline: a segment, a scan with a stuffed FF and a restart marker, an end. `tag`
    /// tells one from another.
    fn jpeg(tag: u8) -> Vec<u8> {
        let mut bytes = vec![0xFF, SOI];
        bytes.extend([0xFF, 0xE0, 0, 4, tag, tag]);
        bytes.extend([0xFF, SOS, 0, 3, 1]);
        bytes.extend([tag, 0xFF, 0x00, tag, 0xFF, RST0 + 1, tag]);
        bytes.extend([0xFF, EOI]);
        bytes
    }

    /// Every JPEG or error of a stream, read through a buffer of `capacity` bytes.
    fn frames_of(stream: &[u8], capacity: usize) -> Vec<Result<Vec<u8>, String>> {
        let mut framer = Framer::new(io::BufReader::with_capacity(capacity, stream));
        let mut frames = Vec::new();
        let mut bytes = Vec::new();
        loop {
            match framer.next_jpeg(&mut bytes) {
                Ok(true) => frames.push(Ok(bytes.clone())),
                Ok(false) => return frames,
                Err(error) => frames.push(Err(error.to_string())),
            }
            assert!(frames.len() < 100, "the framer doesn't move");
        }
    }

    #[test]
    fn jpegs_one_after_another_come_out_one_by_one_whatever_the_buffer() {
        let stream = [jpeg(1), jpeg(2), jpeg(3)].concat();
        for capacity in [1, 2, 3, 7, 4096] {
            assert_eq!(frames_of(&stream, capacity), [Ok(jpeg(1)), Ok(jpeg(2)), Ok(jpeg(3))]);
        }
    }

    #[test]
    fn a_thumbnail_in_a_segment_is_not_a_frame() {
        let thumbnail = jpeg(9);
        let mut outer = vec![0xFF, SOI, 0xFF, 0xE1, 0, 2 + thumbnail.len() as u8];
        outer.extend(&thumbnail);
        outer.extend(&jpeg(1)[2..]);
        assert_eq!(frames_of(&[outer.clone(), jpeg(2)].concat(), 64), [Ok(outer), Ok(jpeg(2))]);
    }

    #[test]
    fn several_scans_and_fill_bytes_belong_to_one_frame() {
        let mut progressive = jpeg(1);
        progressive.truncate(progressive.len() - 2);
        progressive.extend([0xFF, 0xFF, 0xC4, 0, 3, 7]);
        progressive.extend([0xFF, SOS, 0, 3, 1, 5, 5, 0xFF, 0xFF, EOI]);
        assert_eq!(frames_of(&[progressive.clone(), jpeg(2)].concat(), 8), [Ok(progressive), Ok(jpeg(2))]);
    }

    #[test]
    fn garbage_between_frames_is_passed_over() {
        let stream =
            [b"--boundary\xFF\x00\xFF".to_vec(), jpeg(1), b"\r\n\xFF".to_vec(), jpeg(2), vec![0xFF]].concat();
        assert_eq!(frames_of(&stream, 16), [Ok(jpeg(1)), Ok(jpeg(2))]);
    }

    #[test]
    fn a_stream_without_a_jpeg_has_no_frames() {
        for stream in [&b""[..], b"no picture", &[0xFF], &[0xFF; 9]] {
            assert_eq!(frames_of(stream, 4), []);
        }
    }

    #[test]
    fn a_last_frame_cut_anywhere_is_reported_and_the_first_is_not_lost() {
        let last = jpeg(2);
        for kept in 2..last.len() {
            let stream = [&jpeg(1), &last[..kept]].concat();
            let frames = frames_of(&stream, 16);
            assert_eq!(frames[0], Ok(jpeg(1)));
            assert_eq!(frames[1..], [Err("it is cut off in the middle".into())], "{kept} bytes kept");
        }
    }

    #[test]
    fn a_frame_torn_in_its_scan_is_reported_and_the_next_one_is_found() {
        let torn = &jpeg(1)[..16];
        let frames = frames_of(&[torn, &jpeg(2)].concat(), 16);
        assert_eq!(frames, [Err("it is cut off in the middle".into()), Ok(jpeg(2))]);
    }

    #[test]
    fn a_frame_with_a_damaged_segment_is_reported_and_a_later_one_is_found() {
        let mut damaged = jpeg(1);
        damaged[5] = 1;
        let frames = frames_of(&[damaged, jpeg(2)].concat(), 16);
        assert!(frames[0].as_ref().unwrap_err().contains("damaged"), "{frames:?}");
        assert_eq!(frames.last(), Some(&Ok(jpeg(2))));
    }
}
