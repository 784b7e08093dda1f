//! Repairs what cameras and programs do wrong in JPEGs, for the decoder.

use crate::framing::{self, START_OF_IMAGE};

/// A segment by which the decoder takes a JPEG for a frame of an AVI, whose Huffman tables are always the same (ITU-T
/// T.81, K.3) and may be left out. Many webcams leave them out, and some of those the segment too.
const OF_AVI: [u8; 10] = *b"\xff\xe0\0\x08AVI1\0\0";
const TABLES: u8 = 0xC4;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SCAN: u8 = 0xDA;

/// The bytes as the decoder takes them, where that is not as they are.
///
/// # Errors
/// When the JPEG is cut off or damaged.
pub(crate) fn mended(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let cleaned = without_stray_bytes(bytes);
    let jpeg = cleaned.as_deref().unwrap_or(bytes);
    framing::check_whole(jpeg).map_err(|error| error.to_string())?;
    if lacks_huffman_tables(jpeg) {
        let (start, rest) = jpeg.split_at(START_OF_IMAGE.len());
        return Ok(Some([start, &OF_AVI, rest].concat()));
    }
    Ok(cleaned)
}

/// A JPEG without what stands between the segments of its header, a second start among it: libjpeg passes over it. `None`
/// where there is nothing, or what is there is no JPEG.
fn without_stray_bytes(jpeg: &[u8]) -> Option<Vec<u8>> {
    let mut clean: Option<Vec<u8>> = None;
    let mut at = START_OF_IMAGE.len();
    loop {
        let begun = at;
        at += jpeg[at..].windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF))?;
        // Bytes of FF before a marker belong to it.
        let is_stray = jpeg[at + 1] == SOI || jpeg[begun..at].iter().any(|byte| *byte != 0xFF);
        if is_stray && clean.is_none() {
            clean = Some(jpeg[..begun].to_vec());
        }
        let marker = jpeg[at + 1];
        if marker == SOI {
            at += 2;
            continue;
        }
        if marker == EOI {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([*jpeg.get(at + 2)?, *jpeg.get(at + 3)?]));
        let end = (at + 2).checked_add(length).filter(|end| length >= 2 && *end <= jpeg.len())?;
        let is_scan = marker == SCAN;
        if let Some(clean) = &mut clean {
            clean.extend(&jpeg[at..if is_scan { jpeg.len() } else { end }]);
        }
        if is_scan {
            return clean;
        }
        at = end;
    }
}

/// Whether a JPEG brings no Huffman tables before its first scan.
fn lacks_huffman_tables(jpeg: &[u8]) -> bool {
    let mut rest = &jpeg[START_OF_IMAGE.len()..];
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
    use crate::decode;

    fn photograph() -> Vec<u8> {
        let mut whole = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut whole, 90);
        let rgb: Vec<u8> = (0..64 * 64).flat_map(|pixel| [(pixel % 64 * 4) as u8, 90, 30]).collect();
        encoder.encode(&rgb, 64, 64, jpeg_encoder::ColorType::Rgb).unwrap();
        whole
    }

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
        let whole = photograph();
        let bare = without_huffman_tables(&whole);
        assert!(
            bare.len() + 400 < whole.len() && lacks_huffman_tables(&bare) && !lacks_huffman_tables(&whole)
        );
        assert!(decode(&bare).unwrap() == decode(&whole).unwrap());
        // What webcams leave behind a picture in a buffer does no harm; a picture that is cut off is told.
        decode(&[&bare[..], &[0; 100]].concat()).unwrap();
        assert!(decode(&bare[..bare.len() - 50]).unwrap_err().contains("cut off"));
        assert!(decode(&[0; 100]).is_err());
    }

    #[test]
    fn what_stands_between_the_segments_of_a_header_is_passed_over() {
        let whole = photograph();
        let expected = decode(&whole).unwrap();
        let first = 4 + usize::from(u16::from_be_bytes([whole[4], whole[5]])) - 2 + 2;
        for stray in [&b"\0\0\0"[..], b"\xff\xd8", b"\x12\x34\xff\x00\x56", b"\xff\xff"] {
            for at in [2, first] {
                let odd = [&whole[..at], stray, &whole[at..]].concat();
                assert!(decode(&odd).unwrap() == expected, "{stray:?} at {at}");
            }
        }
        assert!(without_stray_bytes(&whole).is_none());
    }

    #[test]
    fn frames_of_a_recording_are_decoded_with_and_without_their_tables() {
        let clip = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/clip.mjpeg")).unwrap();
        let (mut framer, mut jpeg) = (framing::Framer::new(&clip[..]), Vec::new());
        for _ in 0..3 {
            assert!(framer.next_jpeg(&mut jpeg).unwrap());
            let picture = decode(&jpeg).unwrap();
            assert!(decode(&without_huffman_tables(&jpeg)).unwrap() == picture && picture.width() > 100);
        }
    }
}
