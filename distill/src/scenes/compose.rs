//! Geometry of a scene: windows into photographs, cutouts on canvases, and which object hides which.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage, Rgba, RgbaImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Alpha from which a cutout's pixel counts as its object.
const SOLID: u8 = 128;
/// An object of which less than this fraction stays visible loses its box.
const LEAST_VISIBLE: f32 = 0.4;
/// A cutout may hide at most this share of a photograph's own object, whose outline is unknown.
const MOST_HIDDEN_OF_KEPT: f32 = 0.25;
/// Boxes thinner than this many pixels teach nothing.
const LEAST_SIDE: f32 = 8.0;
/// A cutout's aspect ratio changes by up to this factor: thin things are rare among photographs.
const MOST_STRETCH: f32 = 2.0;
/// Tries to place a cutout before giving it up.
const TRIES: usize = 8;

/// A picture under composition, which knows who covers which pixel.
pub struct Canvas {
    picture: RgbImage,
    /// 0 for the background, n for the n-th pasted object.
    owners: Vec<u16>,
    pasted: Vec<Pasted>,
    /// Objects that were in the picture from the start.
    kept: Vec<([f32; 4], u64)>,
}

struct Pasted {
    category: u64,
    /// Solid pixels that fell on the canvas, hidden or not, and those that fell beside it.
    pixels: usize,
}

impl Canvas {
    pub fn new(picture: RgbImage) -> Self {
        let owners = vec![0; picture.width() as usize * picture.height() as usize];
        Self { picture, owners, pasted: Vec::new(), kept: Vec::new() }
    }

    /// Declares an object that is already in the picture.
    pub fn keep(&mut self, box_in_scene: [f32; 4], category: u64) {
        self.kept.push((box_in_scene, category));
    }

    /// Pastes a cutout, turned, flipped and lit at random, where it does not hide a kept object. `scale`:
    /// its longest side as a share of the canvas's shorter one.
    pub fn paste(&mut self, cutout: &RgbaImage, category: u64, scale: f32, rng: &mut ChaCha8Rng) {
        let sprite = random_sprite(cutout, self.picture.dimensions(), scale, rng);
        let (width, height) = self.picture.dimensions();
        for _ in 0..TRIES {
            // Up to a quarter of the sprite may leave the canvas on any side.
            let x = random_offset(width, sprite.width(), rng);
            let y = random_offset(height, sprite.height(), rng);
            let box_in_scene =
                [x as f32, y as f32, (x + sprite.width() as i32) as f32, (y + sprite.height() as i32) as f32];
            if self.kept.iter().all(|(kept, _)| covered_share(*kept, box_in_scene) <= MOST_HIDDEN_OF_KEPT) {
                self.blend(&sprite, x, y, category);
                return;
            }
        }
    }

    /// Pastes up to `most` sprites of one cutout side by side, a little apart or overlapping, each
    /// mirrored, turned and lit by itself; says how many.
    pub fn paste_row(
        &mut self,
        cutout: &RgbaImage,
        category: u64,
        scale: f32,
        most: usize,
        rng: &mut ChaCha8Rng,
    ) -> usize {
        let (width, height) = self.picture.dimensions();
        let count = rng.random_range(1..=most.clamp(1, 6));
        let first = random_sprite(cutout, (width, height), scale, rng);
        let mut x = random_offset(width, first.width(), rng);
        let y = random_offset(height, first.height(), rng);
        for _ in 0..count {
            let sprite = random_sprite(cutout, (width, height), scale, rng);
            let sway = first.height() as i32 / 8;
            self.blend(&sprite, x, y + rng.random_range(-sway..=sway), category);
            x += (sprite.width() as f32 * rng.random_range(0.8..1.2)) as i32;
        }
        count
    }

    /// The picture and the visible objects: `[x1, y1, x2, y2]` of what is left in region_maps, and category.
    pub fn finish(self) -> (RgbImage, Vec<([f32; 4], u64)>) {
        let width = self.picture.width() as usize;
        let mut extents = vec![(0_usize, [usize::MAX, usize::MAX, 0, 0]); self.pasted.len()];
        for (at, &owner) in self.owners.iter().enumerate().filter(|(_, owner)| **owner > 0) {
            let (count, extent) = &mut extents[usize::from(owner) - 1];
            let (x, y) = (at % width, at / width);
            *count += 1;
            *extent = [extent[0].min(x), extent[1].min(y), extent[2].max(x + 1), extent[3].max(y + 1)];
        }
        let visible = self.pasted.iter().zip(extents).filter_map(|(pasted, (count, extent))| {
            let in_sight = count as f32 >= LEAST_VISIBLE * pasted.pixels as f32;
            (in_sight && count > 0).then(|| (extent.map(|v| v as f32), pasted.category))
        });
        let objects = self
            .kept
            .into_iter()
            .chain(visible)
            .filter(|([x1, y1, x2, y2], _)| x2 - x1 >= LEAST_SIDE && y2 - y1 >= LEAST_SIDE);
        (self.picture, objects.collect())
    }

    /// Pastes a sprite as it is, its upper left corner at a place.
    pub fn blend(&mut self, sprite: &RgbaImage, x: i32, y: i32, category: u64) {
        let (width, height) = self.picture.dimensions();
        let owner = self.pasted.len() as u16 + 1;
        let mut pixels = 0;
        for (sx, sy, &Rgba([r, g, b, alpha])) in sprite.enumerate_pixels() {
            pixels += usize::from(alpha >= SOLID);
            let (cx, cy) = (x + sx as i32, y + sy as i32);
            if alpha == 0 || cx < 0 || cy < 0 || cx >= width as i32 || cy >= height as i32 {
                continue;
            }
            let (cx, cy) = (cx as u32, cy as u32);
            let under = self.picture.get_pixel_mut(cx, cy);
            *under = mix(*under, Rgb([r, g, b]), alpha);
            if alpha >= SOLID {
                self.owners[(cy * width + cx) as usize] = owner;
            }
        }
        self.pasted.push(Pasted { category, pixels });
    }
}

/// Cuts away the empty margin of a cutout.
pub fn trim(cutout: &RgbaImage) -> RgbaImage {
    let solid = cutout.enumerate_pixels().filter(|(_, _, pixel)| pixel[3] >= SOLID);
    let extent = solid.fold(None, |extent: Option<[u32; 4]>, (x, y, _)| {
        let [x1, y1, x2, y2] = extent.unwrap_or([x, y, x, y]);
        Some([x1.min(x), y1.min(y), x2.max(x), y2.max(y)])
    });
    let Some([x1, y1, x2, y2]) = extent else { return cutout.clone() };
    imageops::crop_imm(cutout, x1, y1, x2 - x1 + 1, y2 - y1 + 1).to_image()
}

/// A window `[x1, y1, x2, y2]` of a photograph, in whole pixels, that shows most of its object. Two
/// windows in five are the whole photograph.
pub fn random_window(photograph: &RgbImage, [x1, y1, x2, y2]: [f32; 4], rng: &mut ChaCha8Rng) -> [u32; 4] {
    let (width, height) = photograph.dimensions();
    if rng.random_bool(0.4) {
        return [0, 0, width, height];
    }
    // Each side lies somewhere between the photograph's edge and a little inside the object.
    let (inset_x, inset_y) = (0.08 * (x2 - x1), 0.08 * (y2 - y1));
    let mut before = |side: f32| rng.random_range(0.0..=side) as u32;
    let (left, top) = (before(x1 + inset_x), before(y1 + inset_y));
    let mut after =
        |side: f32, end: u32| rng.random_range(side.min(end as f32 - 1.0)..=end as f32).ceil() as u32;
    [left, top, after(x2 - inset_x, width), after(y2 - inset_y, height)]
}

/// A window of a photograph at another size, and where its object lies in it. Half are mirrored.
pub fn show(
    photograph: &RgbImage,
    [x1, y1, x2, y2]: [f32; 4],
    [left, top, right, bottom]: [u32; 4],
    (width, height): (u32, u32),
    rng: &mut ChaCha8Rng,
) -> (RgbImage, [f32; 4]) {
    let window = imageops::crop_imm(photograph, left, top, right - left, bottom - top).to_image();
    let mut view = imageops::resize(&window, width, height, FilterType::Triangle);
    let (width, height) = (width as f32, height as f32);
    let scaled = |at: f32, from: u32, to: u32, side: f32| {
        ((at - from as f32) * side / (to - from) as f32).clamp(0.0, side)
    };
    let mut object = [
        scaled(x1, left, right, width),
        scaled(y1, top, bottom, height),
        scaled(x2, left, right, width),
        scaled(y2, top, bottom, height),
    ];
    if rng.random_bool(0.5) {
        imageops::flip_horizontal_in_place(&mut view);
        object = [width - object[2], object[1], width - object[0], object[3]];
    }
    (view, object)
}

/// A factor between `1 / most` and `most`, each as likely as its inverse.
pub fn random_stretch(most: f32, rng: &mut ChaCha8Rng) -> f32 {
    rng.random_range(-most.ln()..most.ln()).exp()
}

/// A random window of a background, of the scene's shape.
pub fn random_background(
    background: &RgbImage,
    (width, height): (u32, u32),
    rng: &mut ChaCha8Rng,
) -> RgbImage {
    let fit = (background.width() as f32 / width as f32).min(background.height() as f32 / height as f32);
    let zoom = fit * rng.random_range(0.5..=1.0);
    let (w, h) = ((width as f32 * zoom) as u32, (height as f32 * zoom) as u32);
    let x = rng.random_range(0..=background.width() - w);
    let y = rng.random_range(0..=background.height() - h);
    let window = imageops::crop_imm(background, x, y, w.max(1), h.max(1)).to_image();
    let mut view = imageops::resize(&window, width, height, FilterType::Triangle);
    if rng.random_bool(0.5) {
        imageops::flip_horizontal_in_place(&mut view);
    }
    view
}

/// A cutout at a scale of the canvas, mirrored, turned and lit.
pub fn random_sprite(
    cutout: &RgbaImage,
    (width, height): (u32, u32),
    scale: f32,
    rng: &mut ChaCha8Rng,
) -> RgbaImage {
    let side = width.min(height) as f32 * scale;
    let factor = side / cutout.width().max(cutout.height()) as f32;
    let stretch = random_stretch(MOST_STRETCH, rng).sqrt();
    let resized = |length: u32, stretch: f32| ((length as f32 * factor * stretch).round() as u32).max(2);
    let mut sprite = imageops::resize(
        cutout,
        resized(cutout.width(), stretch),
        resized(cutout.height(), 1.0 / stretch),
        FilterType::Triangle,
    );
    if rng.random_bool(0.5) {
        imageops::flip_horizontal_in_place(&mut sprite);
    }
    let gain = rng.random_range(0.7..1.3_f32);
    for Rgba([r, g, b, _]) in sprite.pixels_mut() {
        for channel in [r, g, b] {
            *channel = (f32::from(*channel) * gain).clamp(0.0, 255.0) as u8;
        }
    }
    if rng.random_bool(0.5) { trim(&turned(&sprite, rng.random_range(-0.4..0.4))) } else { sprite }
}

/// The sprite turned about its centre by `angle` radians, on a canvas that holds all of it.
fn turned(sprite: &RgbaImage, angle: f32) -> RgbaImage {
    let (sin, cos) = angle.sin_cos();
    let (w, h) = (sprite.width() as f32, sprite.height() as f32);
    let width = (w * cos.abs() + h * sin.abs()).ceil();
    let height = (w * sin.abs() + h * cos.abs()).ceil();
    RgbaImage::from_fn(width as u32, height as u32, |x, y| {
        let (dx, dy) = (x as f32 + 0.5 - width / 2.0, y as f32 + 0.5 - height / 2.0);
        bilinear(sprite, cos * dx + sin * dy + w / 2.0 - 0.5, cos * dy - sin * dx + h / 2.0 - 0.5)
    })
}

/// The sprite at a point between pixels; clear outside. Colours are weighted by their alpha, or the
/// clear border would bleed into the edge.
fn bilinear(sprite: &RgbaImage, x: f32, y: f32) -> Rgba<u8> {
    let (x0, y0) = (x.floor(), y.floor());
    let mut colour = [0.0_f32; 3];
    let mut alpha = 0.0;
    for (ox, oy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let (px, py) = (x0 as i64 + ox, y0 as i64 + oy);
        if px < 0 || py < 0 || px >= i64::from(sprite.width()) || py >= i64::from(sprite.height()) {
            continue;
        }
        let Rgba([r, g, b, a]) = *sprite.get_pixel(px as u32, py as u32);
        let share = (1.0 - (x - px as f32).abs()) * (1.0 - (y - py as f32).abs()) * f32::from(a);
        alpha += share;
        for (sum, channel) in colour.iter_mut().zip([r, g, b]) {
            *sum += share * f32::from(channel);
        }
    }
    let [r, g, b] = colour.map(|sum| if alpha > 0.0 { (sum / alpha).round() as u8 } else { 0 });
    Rgba([r, g, b, alpha.round() as u8])
}

fn random_offset(canvas: u32, sprite: u32, rng: &mut ChaCha8Rng) -> i32 {
    let slack = sprite as i32 / 4;
    let last = (canvas as i32 - sprite as i32 + slack).max(1 - slack);
    rng.random_range(-slack..=last)
}

/// How much of `box_a` lies under `box_b`, 0 to 1.
fn covered_share(box_a: [f32; 4], box_b: [f32; 4]) -> f32 {
    let w = box_a[2].min(box_b[2]) - box_a[0].max(box_b[0]);
    let h = box_a[3].min(box_b[3]) - box_a[1].max(box_b[1]);
    let area = (box_a[2] - box_a[0]) * (box_a[3] - box_a[1]);
    if w <= 0.0 || h <= 0.0 || area <= 0.0 { 0.0 } else { w * h / area }
}

fn mix(Rgb(under): Rgb<u8>, Rgb(over): Rgb<u8>, alpha: u8) -> Rgb<u8> {
    let alpha = u32::from(alpha);
    Rgb(std::array::from_fn(|c| {
        ((u32::from(under[c]) * (255 - alpha) + u32::from(over[c]) * alpha + 127) / 255) as u8
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use rand::SeedableRng;

    #[test]
    fn an_object_hidden_by_a_later_one_loses_its_box_or_shrinks_to_what_is_in_sight() {
        let sprite = RgbaImage::from_pixel(40, 40, Rgba([200, 0, 0, 255]));
        let mut canvas = Canvas::new(RgbImage::new(200, 100));
        canvas.blend(&sprite, 10, 10, 1);
        canvas.blend(&sprite, 12, 12, 2); // hides nearly all of the first
        canvas.blend(&sprite, 100, 10, 3);
        canvas.blend(&sprite, 100, 30, 4); // hides the lower half of the third
        let (_, objects) = canvas.finish();
        assert_eq!(
            objects,
            [([12.0, 12.0, 52.0, 52.0], 2), ([100.0, 10.0, 140.0, 30.0], 3), ([100.0, 30.0, 140.0, 70.0], 4)]
        );
    }

    #[test]
    fn the_box_follows_the_object_through_a_random_view() {
        // A white object on black: its box must be where the white is.
        let mut photograph = RgbImage::new(200, 150);
        for y in 50..110 {
            for x in 60..140 {
                photograph.put_pixel(x, y, Rgb([255; 3]));
            }
        }
        let object = [60.0, 50.0, 140.0, 110.0];
        for seed in 0..50 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let window = random_window(&photograph, object, &mut rng);
            let (view, found) = show(&photograph, object, window, (320, 200), &mut rng);
            let white = view.enumerate_pixels().filter(|(_, _, p)| p[0] > 127);
            let extent = white.fold([f32::MAX, f32::MAX, 0.0, 0.0], |e: [f32; 4], (x, y, _)| {
                let (x, y) = (x as f32, y as f32);
                [e[0].min(x), e[1].min(y), e[2].max(x + 1.0), e[3].max(y + 1.0)]
            });
            for (found, true_side) in found.iter().zip(extent) {
                assert!((found - true_side).abs() <= 2.5, "seed {seed}: {found:?} against {extent:?}");
            }
        }
    }
}
