//! Decodes JPEG, PNG and WebP to RGB.
//!
//! In flow the bytes of one JPEG, PNG or WebP, out flow rows of RGB in the caller's buffer. A picture may lie on its
//! side. What a camera wrote into EXIF about the way it was held is applied here, so that everything behind sees the
//! picture as people do.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageReader};

use crate::{Frame, framing};

/// A segment by which the decoder takes a JPEG for a frame of an AVI, whose Huffman tables are always the same (ITU-T
/// T.81, K.3) and may be left out. Many webcams leave them out, and some of those the segment too.
const OF_AVI: [u8; 10] = *b"\xff\xe0\0\x08AVI1\0\0";

/// Decodes `bytes` into `frame`: its pixels and its size, and nothing else of it.
///
/// # Errors
/// What is wrong with the picture, in words.
pub(super) fn decode(bytes: &[u8], frame: &mut Frame) -> Result<(), String> {
    // The decoder fills what is missing of a torn JPEG with grey, and we would rather know.
    if bytes.starts_with(&framing::START_OF_IMAGE) {
        framing::check_whole(bytes).map_err(|error| error.to_string())?;
        if lacks_huffman_tables(bytes) {
            let (start, rest) = bytes.split_at(framing::START_OF_IMAGE.len());
            return decode_whole(&[start, &OF_AVI, rest].concat(), frame);
        }
    }
    decode_whole(bytes, frame)
}

/// More pixels than any camera's picture has. A damaged header may claim any number, and memory for it is taken before
/// the decoder finds out.
const MOST_PIXELS: u64 = 200_000_000;

fn decode_whole(bytes: &[u8], frame: &mut Frame) -> Result<(), String> {
    let reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let mut decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(format!("it claims to have {width}x{height} pixels, more than any camera's picture has"));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    if decoder.color_type() == ColorType::Rgb8 && orientation == Orientation::NoTransforms {
        frame.set_rgb(width as usize, height as usize);
        frame.bytes.resize(3 * frame.width * frame.height, 0);
        decoder.read_image(&mut frame.bytes).map_err(|error| error.to_string())?;
    } else {
        let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
        picture.apply_orientation(orientation);
        let rgb = picture.into_rgb8();
        frame.set_rgb(rgb.width() as usize, rgb.height() as usize);
        frame.bytes.clear();
        frame.bytes.extend_from_slice(&rgb);
    }
    if frame.bytes.is_empty() {
        return Err("it has no pixels".into());
    }
    Ok(())
}

/// Whether a JPEG brings no Huffman tables before its first scan.
fn lacks_huffman_tables(jpeg: &[u8]) -> bool {
    const TABLES: u8 = 0xC4;
    const SCAN: u8 = 0xDA;
    let mut rest = &jpeg[framing::START_OF_IMAGE.len()..];
    loop {
        rest = match *rest {
            [0xFF, 0xFF, ..] => &rest[1..],
            [0xFF, SCAN, ..] => return true,
            [0xFF, TABLES, ..] => return false,
            [0xFF, _, high, low, ..] => {
                let length = 2 + usize::from(u16::from_be_bytes([high, low]));
                rest.get(length..).unwrap_or_default()
            }
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// A JPEG less its segments FF C4.
    fn without_huffman_tables(jpeg: &[u8]) -> Vec<u8> {
        let (mut bare, mut at) = (jpeg[..2].to_vec(), 2);
        while jpeg[at + 1] != 0xDA {
            let length = 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
            if jpeg[at + 1] != 0xC4 {
                bare.extend(&jpeg[at..at + length]);
            }
            at += length;
        }
        bare.extend(&jpeg[at..]);
        bare
    }

    #[test]
    fn a_webcams_jpeg_without_its_tables_is_decoded_as_one_with_them() {
        let mut whole = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut whole, 90);
        let rgb: Vec<u8> = (0..64 * 64).flat_map(|pixel| [(pixel % 64 * 4) as u8, 90, 30]).collect();
        encoder.encode(&rgb, 64, 64, jpeg_encoder::ColorType::Rgb).unwrap();
        let bare = without_huffman_tables(&whole);
        assert!(
            bare.len() + 400 < whole.len() && lacks_huffman_tables(&bare) && !lacks_huffman_tables(&whole)
        );
        let (mut with, mut without) = (Frame::default(), Frame::default());
        decode(&whole, &mut with).unwrap();
        decode(&bare, &mut without).unwrap();
        assert!(with.bytes == without.bytes && with.bytes.len() == 3 * 64 * 64);
        // What webcams leave behind a picture in a buffer does no harm; a picture that is cut off is told.
        decode(&[&bare[..], &[0; 100]].concat(), &mut with).unwrap();
        assert!(decode(&bare[..bare.len() - 50], &mut with).unwrap_err().contains("cut off"));
        assert!(decode(&[0; 100], &mut with).is_err());
    }

    #[test]
    fn frames_of_a_recording_are_decoded_with_and_without_their_tables() {
        let clip = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/clip.mjpeg")).unwrap();
        let (mut framer, mut jpeg) = (framing::Framer::new(&clip[..]), Vec::new());
        let (mut with, mut without) = (Frame::default(), Frame::default());
        for _ in 0..3 {
            assert!(framer.next_jpeg(&mut jpeg).unwrap());
            decode(&jpeg, &mut with).unwrap();
            decode(&without_huffman_tables(&jpeg), &mut without).unwrap();
            assert!(with.bytes == without.bytes && with.width > 100);
        }
    }
}
