//! Pictures in forms that cameras, scanners and programs write, which other readers refuse or read wrongly.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use wordsight_pictures::decode;

const SIDE: u16 = 64;

/// Broad stripes, of which compression loses little.
fn stripes() -> RgbImage {
    let colours = [[200, 40, 60], [40, 180, 90], [60, 80, 210], [230, 220, 90]];
    RgbImage::from_fn(SIDE.into(), SIDE.into(), |x, _| image::Rgb(colours[x as usize / 16]))
}

fn jpeg(change: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 95);
    encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
    change(&mut encoder);
    encoder.encode(&stripes(), SIDE, SIDE, ColorType::Rgb).unwrap();
    bytes
}

fn png(picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// The largest difference of a channel.
fn apart(one: &RgbImage, other: &RgbImage) -> u8 {
    assert_eq!(one.dimensions(), other.dimensions());
    one.as_raw().iter().zip(other.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn jpegs_for_printers_have_the_colours_of_the_picture() {
    for kind in [ColorType::Cmyk, ColorType::CmykAsYcck] {
        let cmyk: Vec<u8> = stripes()
            .pixels()
            .flat_map(|pixel| {
                let [red, green, blue] = pixel.0;
                let black = 255 - red.max(green).max(blue);
                let ink = |channel: u8| {
                    let light = 255 - u16::from(black);
                    ((light - u16::from(channel)) * 255 / light) as u8
                };
                [ink(red), ink(green), ink(blue), black]
            })
            .collect();
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 95);
        encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
        encoder.encode(&cmyk, SIDE, SIDE, kind).unwrap();
        let found = decode(&bytes).unwrap();
        assert!(apart(&found, &stripes()) < 16, "{kind:?}: {}", apart(&found, &stripes()));
    }
}

#[test]
fn a_progressive_jpeg_with_restart_intervals_is_the_picture() {
    let bytes = jpeg(|encoder| {
        encoder.set_progressive(true);
        encoder.set_restart_interval(3);
    });
    assert!(apart(&decode(&bytes).unwrap(), &stripes()) < 16);
}

#[test]
fn what_a_camera_leaves_before_a_restart_marker_spoils_no_picture() {
    let whole = jpeg(|encoder| encoder.set_restart_interval(8));
    let scan = whole.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let marker = scan + whole[scan..].windows(2).position(|pair| pair == [0xff, 0xd1]).unwrap();
    let odd = [&whole[..marker], &[0x12, 0x34, 0x56][..], &whole[marker..]].concat();
    assert!(apart(&decode(&odd).unwrap(), &decode(&whole).unwrap()) < 3);
}

#[test]
fn of_several_pictures_in_one_file_the_first_is_read() {
    let index = [&b"MPF\0II*\0\x08\0\0\0"[..], &[0; 30]].concat();
    let first = jpeg(|encoder| encoder.add_app_segment(2, index).unwrap());
    let second = png(&DynamicImage::new_rgb8(8, 8));
    let also = jpeg(|_| ());
    for behind in [&also, &second] {
        assert!(apart(&decode(&[&first[..], behind].concat()).unwrap(), &stripes()) < 16);
    }
}

#[test]
fn pngs_of_sixteen_bits_and_of_a_palette_have_the_picture_s_colours() {
    let deep = DynamicImage::ImageRgb16(DynamicImage::ImageRgb8(stripes()).into_rgb16());
    assert_eq!(decode(&png(&deep)).unwrap(), stripes());
    let grey = DynamicImage::ImageLuma16(DynamicImage::ImageRgb8(stripes()).into_luma16());
    let expected = DynamicImage::ImageRgb8(stripes()).into_luma8();
    let found = decode(&png(&grey)).unwrap();
    assert!(
        found
            .pixels()
            .zip(expected.pixels())
            .all(|(found, grey)| found.0.iter().all(|c| c.abs_diff(grey.0[0]) < 2))
    );

    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIDE.into(), SIDE.into());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Two);
    encoder.set_palette((0..4).flat_map(|place| stripes().get_pixel(16 * place, 0).0).collect::<Vec<u8>>());
    let row: Vec<u8> = (0..16).map(|byte| [0x00, 0x55, 0xaa, 0xff][byte / 4]).collect();
    encoder.write_header().unwrap().write_image_data(&row.repeat(SIDE.into())).unwrap();
    assert_eq!(decode(&bytes).unwrap(), stripes());
}

#[test]
fn a_picture_of_one_column_is_one_and_what_no_camera_takes_is_refused_before_it_has_memory() {
    for (width, height) in [(1, 1), (1, 500), (500, 1)] {
        let picture = DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, image::Rgb([9, 8, 7])));
        assert_eq!(decode(&png(&picture)).unwrap(), picture.into_rgb8());
    }
    let mut bytes = Vec::new();
    let mut writer = png::Encoder::new(&mut bytes, 30_000, 30_000).write_header().unwrap();
    writer.write_chunk(png::chunk::IDAT, b"\x78\x9c").unwrap();
    drop(writer);
    let told = decode(&bytes).unwrap_err();
    assert!(told.contains("30000x30000 pixels"), "{told}");
}
