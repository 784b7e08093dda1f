//! Reads pictures for both programs, and with the feature `resize` resizes them.
//!
//! Takes the bytes of one JPEG, PNG or WebP, recognised by its content and not by the file's name, and returns rows of
//! RGB as people see them: turned upright as EXIF says, and over white where they are transparent. A picture that is
//! cut off is refused: the decoder would fill the missing part with grey.

pub mod framing;
mod jpeg;
#[cfg(feature = "resize")]
pub mod resize;

use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage, RgbaImage};

/// Endings of files that are looked at in a folder.
pub const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// More pixels than any camera's picture has. A damaged header may claim any number, and memory for it is taken before
/// the decoder finds out.
const MOST_PIXELS: u64 = 200_000_000;

/// Why a file is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The system would not give the bytes.
    #[error("cannot read the picture {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The bytes are no picture that can be decoded.
    #[error("{} is not a usable picture: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Whether a file's name says that it is a picture.
pub fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|found| ENDINGS.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// Whether a file in a folder is the system's and no user's: macOS lays `._cat.jpg` beside `cat.jpg`.
pub fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// The pictures directly in a folder, by name, without hidden files.
///
/// # Errors
/// When the folder can't be listed.
pub fn pictures_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let mut pictures: Vec<PathBuf> = entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| is_picture(path) && !is_hidden(path) && !path.is_dir())
        .collect();
    pictures.sort();
    Ok(pictures)
}

/// The most bytes of a picture's file.
pub const MOST_BYTES: u64 = 256 << 20;

/// The bytes of a picture's file. No pipe without a writer, which would block for ever, no device, and nothing that is
/// longer than any picture.
///
/// # Errors
/// When it can't be read.
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    wordsight_files::read_whole(path, MOST_BYTES)
}

/// Reads a picture.
///
/// # Errors
/// When it can't be read, or is no whole picture.
pub fn open(path: &Path) -> Result<RgbImage, PictureError> {
    open_bytes(path, read_bytes(path))
}

/// Reads a picture whose file's bytes were had elsewhere, if they could be; `path`: what errors name.
///
/// # Errors
/// As [`open`].
pub fn open_bytes(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<RgbImage, PictureError> {
    of_bytes(path, bytes, decode)
}

/// Reads a picture with its transparency: what is to be pasted over another.
///
/// # Errors
/// When it can't be read, or is no whole picture.
pub fn open_with_alpha(path: &Path) -> Result<RgbaImage, PictureError> {
    of_bytes(path, read_bytes(path), |bytes| {
        let mended = mended(bytes)?;
        let mut decoder = checked_decoder_of(mended.as_deref().unwrap_or(bytes))?;
        let orientation = orientation_of(&mut decoder);
        Ok(turned(decoder, orientation)?.into_rgba8())
    })
}

/// Width and height of a picture as [`open`] gives it, from its header alone.
///
/// # Errors
/// When it can't be read, or is no picture.
pub fn size_of(path: &Path) -> Result<(u32, u32), PictureError> {
    // All of it: what stands before a JPEG's size may be long, and damaged headers are mended in memory.
    size_of_bytes(path, read_bytes(path))
}

/// The same of a picture whose file's bytes were had elsewhere, if they could be; `path`: what errors name.
///
/// # Errors
/// As [`size_of`].
pub fn size_of_bytes(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<(u32, u32), PictureError> {
    of_bytes(path, bytes, |bytes| {
        let mended = mended(bytes)?;
        let mut decoder = decoder_of(mended.as_deref().unwrap_or(bytes))?;
        Ok(upright(decoder.dimensions(), orientation_of(&mut decoder)))
    })
}

/// What `decode` makes of a file's bytes.
fn of_bytes<T>(
    path: &Path,
    bytes: io::Result<Vec<u8>>,
    decode: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<T, PictureError> {
    let bytes = bytes.map_err(|reason| PictureError::Unreadable { path: path.to_owned(), reason })?;
    decode(&bytes).map_err(|reason| PictureError::Unusable { path: path.to_owned(), reason })
}

/// Decodes a picture.
///
/// # Errors
/// What is wrong with it, in words.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    let (mut size, mut pixels) = ((0, 0), Vec::new());
    decode_into(bytes, |width, height| {
        size = (width, height);
        pixels.resize(3 * width * height, 0);
        &mut pixels
    })?;
    RgbImage::from_raw(size.0 as u32, size.1 as u32, pixels).ok_or_else(|| "it has no pixels".to_owned())
}

/// Decodes a picture into the buffer that `room` gives for its width and height: three bytes a pixel.
///
/// # Errors
/// What is wrong with the picture, in words.
pub fn decode_into<'a>(bytes: &[u8], room: impl FnOnce(usize, usize) -> &'a mut [u8]) -> Result<(), String> {
    let mended = mended(bytes)?;
    let mut decoder = checked_decoder_of(mended.as_deref().unwrap_or(bytes))?;
    let (width, height) = decoder.dimensions();
    let orientation = orientation_of(&mut decoder);
    if decoder.color_type() == ColorType::Rgb8 && orientation == Orientation::NoTransforms {
        return decoder.read_image(room(width as usize, height as usize)).map_err(|error| error.to_string());
    }
    let rgb = over_white(turned(decoder, orientation)?);
    room(rgb.width() as usize, rgb.height() as usize).copy_from_slice(&rgb);
    Ok(())
}

/// A picture as people see it, whichever way its camera was held.
fn turned(decoder: impl ImageDecoder, orientation: Orientation) -> Result<DynamicImage, String> {
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// A picture over white. The colour of a transparent pixel may be anything.
fn over_white(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let rgba = picture.into_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [red, green, blue, alpha] = rgba.get_pixel(x, y).0.map(u32::from);
        image::Rgb(
            [red, green, blue].map(|colour| ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8),
        )
    })
}

/// The bytes as the decoder takes them, where that is not as they are.
fn mended(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if bytes.starts_with(&framing::START_OF_IMAGE) { jpeg::mended(bytes) } else { Ok(None) }
}

fn decoder_of(bytes: &[u8]) -> Result<impl ImageDecoder + '_, String> {
    let reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let is_read = |format| matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP);
    if !reader.format().is_some_and(is_read) {
        return Err("it is none of JPEG, PNG and WebP".to_owned());
    }
    reader.into_decoder().map_err(|error| error.to_string())
}

/// The same, for a picture of a size that there are.
fn checked_decoder_of(bytes: &[u8]) -> Result<impl ImageDecoder + '_, String> {
    let decoder = decoder_of(bytes)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(format!("it claims to have {width}x{height} pixels, more than any camera's picture has"));
    }
    if width == 0 || height == 0 {
        return Err("it has no pixels".to_owned());
    }
    Ok(decoder)
}

fn orientation_of(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

fn upright((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        _ => (width, height),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn devices_and_what_is_longer_than_any_picture_are_refused() {
        assert!(read_bytes(Path::new("/dev/zero")).unwrap_err().to_string().contains("no file"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.jpg");
        // Sparse: it takes no room on the disk.
        fs::File::create(&path).unwrap().set_len(MOST_BYTES + 1).unwrap();
        assert!(read_bytes(&path).unwrap_err().to_string().contains("more than 256 MiB"));
    }

    fn png(picture: &DynamicImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn jpeg(exif_orientation: Option<u8>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
        if let Some(orientation) = exif_orientation {
            let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0";
            encoder.add_app_segment(1, [exif, &[orientation, 0, 0, 0, 0, 0, 0][..]].concat()).unwrap();
        }
        let rgb: Vec<u8> =
            (0..32 * 16).flat_map(|pixel| if pixel % 32 < 16 { [250, 0, 0] } else { [0, 0, 250] }).collect();
        encoder.encode(&rgb, 32, 16, jpeg_encoder::ColorType::Rgb).unwrap();
        bytes
    }

    #[test]
    fn what_is_transparent_shows_white_and_not_what_it_hides() {
        for (alpha, expected) in [(0, 255), (255, 40), (128, 147)] {
            let rgba = image::RgbaImage::from_pixel(3, 2, image::Rgba([40, 40, 40, alpha]));
            let picture = decode(&png(&DynamicImage::ImageRgba8(rgba))).unwrap();
            assert!(picture.iter().all(|colour| *colour == expected), "alpha {alpha}: {picture:?}");
            let grey = image::GrayAlphaImage::from_pixel(3, 2, image::LumaA([40, alpha]));
            let picture = decode(&png(&DynamicImage::ImageLumaA8(grey))).unwrap();
            assert!(picture.iter().all(|colour| *colour == expected), "grey, alpha {alpha}: {picture:?}");
        }
    }

    #[test]
    fn a_picture_is_upright_and_so_is_its_size_whatever_the_file_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        for (orientation, size, first) in
            [(None, (32, 16), 0), (Some(3), (32, 16), 2), (Some(6), (16, 32), 0), (Some(8), (16, 32), 2)]
        {
            fs::write(&path, jpeg(orientation)).unwrap();
            let picture = open(&path).unwrap();
            assert_eq!((picture.dimensions(), size_of(&path).unwrap()), (size, size), "{orientation:?}");
            assert!(picture.get_pixel(1, 1).0[first] > 200, "{orientation:?}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_picture_is_refused_with_a_reason() {
        let (photograph, drawing) = (jpeg(None), png(&DynamicImage::new_rgb8(64, 64)));
        for (bytes, reason) in [
            (&b""[..], "empty"),
            (b"this is text", "none of JPEG, PNG and WebP"),
            (b"GIF89a\x01\0\x01\0\0\0\0;", "none of JPEG, PNG and WebP"),
            (b"BM\x1e\0\0\0\0\0\0\0\x1a\0\0\0\x0c\0", "none of JPEG, PNG and WebP"),
            (&photograph[..photograph.len() / 2], "cut off"),
            (&photograph[..photograph.len() - 2], "cut off"),
            (&photograph[..3], "cut off"),
            (&drawing[..drawing.len() / 2], ""),
        ] {
            let error = decode(bytes).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn hidden_files_and_folders_are_no_pictures_of_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.jpg", "A.JPG", "._A.JPG", ".hidden.png", "Thumbs.db", ".DS_Store", "notes.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("c.png")).unwrap();
        let found = pictures_in(folder.path()).unwrap();
        assert_eq!(found, ["A.JPG", "b.jpg"].map(|name| folder.path().join(name)));
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe.jpg");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("it is a pipe"), "{error}");
    }
}
