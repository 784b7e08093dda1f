//! Decodes JPEG, PNG and WebP to RGB in a frame's own buffer, by the crate `wordsight-pictures`.

use crate::Frame;

/// Decodes `bytes` into `frame`: its pixels and its size, and nothing else of it.
///
/// # Errors
/// What is wrong with the picture, in words.
pub(super) fn decode(bytes: &[u8], frame: &mut Frame) -> Result<(), String> {
    wordsight_pictures::decode_into(bytes, |width, height| {
        frame.set_rgb(width, height);
        frame.bytes.resize(3 * width * height, 0);
        &mut frame.bytes
    })
}
