//! From a picture's bytes to RGB.
//!
//! In flow the bytes of one JPEG, PNG or WebP, out flow rows of RGB in the caller's buffer. The one
//! surprising thing: a picture may lie on its side. What a camera wrote into EXIF about the way it
//! was held is applied here, so that everything behind sees the picture as people do.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageReader};

use super::Frame;
use super::framing;

/// Decodes `bytes` into `frame`: its pixels and its size, and nothing else of it.
///
/// # Errors
/// What is wrong with the picture, in words.
pub(super) fn decode(bytes: &[u8], frame: &mut Frame) -> Result<(), String> {
    // The decoder fills what is missing of a torn JPEG with grey, and we would rather know.
    if bytes.starts_with(&framing::START_OF_IMAGE) {
        framing::check_whole(bytes).map_err(|error| error.to_string())?;
    }
    let reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let mut decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    if decoder.color_type() == ColorType::Rgb8 && orientation == Orientation::NoTransforms {
        let (width, height) = decoder.dimensions();
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
