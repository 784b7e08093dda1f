//! Draws the boxes of training pictures into them, for people to look at.

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::picture::TrainingImage;

const OBJECT: Rgb<u8> = Rgb([0, 230, 0]);
const IGNORED: Rgb<u8> = Rgb([255, 40, 40]);
const TILE: Rgb<u8> = Rgb([60, 120, 255]);
const REGION: Rgb<u8> = Rgb([255, 220, 0]);
const FONT: (FontWeight, RasterHeight) = (FontWeight::Bold, RasterHeight::Size16);

/// The picture with tiles in blue, the teacher's regions in yellow, what is ignored in red, and objects in green with
/// their words, of `words`.
pub fn annotated(picture: &TrainingImage, words: &[String]) -> RgbImage {
    let side = picture.side as u32;
    let mut canvas = RgbImage::from_raw(side, side, picture.pixels.clone()).unwrap_or_default();
    for tile in &picture.tiles {
        outline(&mut canvas, tile.box_in_input, TILE);
    }
    for (region, _) in &picture.teacher_regions {
        outline(&mut canvas, *region, REGION);
    }
    for ignored in &picture.ignored {
        outline(&mut canvas, *ignored, IGNORED);
    }
    for object in &picture.objects {
        outline(&mut canvas, object.box_in_input, OBJECT);
    }
    for object in &picture.objects {
        let word = object.word.and_then(|word| words.get(word)).map_or("?", String::as_str);
        let [x, y, ..] = object.box_in_input.map(|side| side as u32);
        if object.weight < 1.0 {
            write(&mut canvas, &format!("{word} {:.2}", object.weight), x, y);
        } else {
            write(&mut canvas, word, x, y);
        }
    }
    canvas
}

/// A line along the inside of a box.
fn outline(canvas: &mut RgbImage, corners: [f32; 4], colour: Rgb<u8>) {
    let last = canvas.width().saturating_sub(1) as f32;
    let [x1, y1, x2, y2] = [corners[0], corners[1], corners[2] - 1.0, corners[3] - 1.0]
        .map(|side| side.round().clamp(0.0, last) as u32);
    for x in x1..=x2.max(x1) {
        canvas.put_pixel(x, y1, colour);
        canvas.put_pixel(x, y2, colour);
    }
    for y in y1..=y2.max(y1) {
        canvas.put_pixel(x1, y, colour);
        canvas.put_pixel(x2, y, colour);
    }
}

/// Green text on black, as much of it as there is room for.
fn write(canvas: &mut RgbImage, text: &str, x: u32, y: u32) {
    let width = get_raster_width(FONT.0, FONT.1) as u32;
    let rasters = text.chars().filter_map(|letter| get_raster(letter, FONT.0, FONT.1));
    for (letter, left) in rasters.zip((x..).step_by(width as usize)) {
        for (row, top) in letter.rows().zip(y..) {
            for (&light, column) in row.iter().zip(left..) {
                if let Some(pixel) = canvas.get_pixel_mut_checked(column, top) {
                    *pixel = Rgb([0, light, 0]);
                }
            }
        }
    }
}
