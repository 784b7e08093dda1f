//! One training picture: its pixels and its boxes.
//!
//! Takes photographs with the views that they are seen through, and cutouts. Returns a [`TrainingImage`].

use anyhow::Result;
use image::{RgbImage, Rgba, RgbaImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use wordsight_detection::PADDING;
use wordsight_pictures::resize::{Canvas, FilterType, Resizer};

use super::colour::ColourChange;
use super::view::{View, area, intersection};
use super::{Photograph, scaled};

/// An object of which less than this fraction stays visible is ignored.
const LEAST_VISIBLE: f32 = 0.3;
/// The same for a region that the teacher embedded as a whole.
const LEAST_VISIBLE_REGION: f32 = 0.7;
/// Objects with a side shorter than this many pixels are ignored.
const LEAST_SIDE: f32 = 3.0;
/// A cutout hides at most this share of an object.
const MOST_HIDDEN: f32 = 0.25;
/// Tries to place a cutout before it is left out.
const TRIES: usize = 8;

/// One picture as augmentation made it.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingImage {
    /// RGB, interleaved: `[side, side, 3]`.
    pub pixels: Vec<u8>,
    /// Its side in pixels.
    pub side: usize,
    /// The objects in it.
    pub objects: Vec<TrainingObject>,
    /// Boxes where an object may be or not: crowds, what the annotators ignored, objects cut to a sliver.
    pub ignored: Vec<[f32; 4]>,
    /// What shows a photograph; all else is padding.
    pub tiles: Vec<Tile>,
    /// Boxes in the input that the teacher has looked at, and the rows of [`super::Sets::embedding`].
    pub teacher_regions: Vec<([f32; 4], usize)>,
}

/// One object of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingObject {
    /// `[x1, y1, x2, y2]` in the input's pixels, clipped to its tile.
    pub box_in_input: [f32; 4],
    /// The place of its word in [`super::Sets::words`]; none: an object without a name.
    pub word: Option<usize>,
    /// How sure the annotation is: 1, or the score of the detector that made it.
    pub weight: f32,
}

/// A rectangle of a picture that shows a photograph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tile {
    /// `[x1, y1, x2, y2]` in the input's pixels.
    pub box_in_input: [f32; 4],
    /// The place of the photograph's set in [`super::Sets::sets`].
    pub set: usize,
}

impl TrainingImage {
    /// Nothing but padding.
    pub(super) fn new(side: usize) -> Self {
        Self {
            pixels: vec![PADDING; 3 * side * side],
            side,
            objects: Vec::new(),
            ignored: Vec::new(),
            tiles: Vec::new(),
            teacher_regions: Vec::new(),
        }
    }

    /// Draws what a view shows of a photograph.
    pub(super) fn draw(
        &mut self,
        picture: &RgbImage,
        view: &View,
        colours: Option<&ColourChange>,
        resizer: &mut Resizer,
    ) -> Result<()> {
        let [left, top, right, bottom] = view.rectangle;
        let side = self.side as u32;
        let canvas = Canvas { pixels: &mut self.pixels, size: [side; 2] };
        let rectangle = [left, top, right - left, bottom - top].map(|pixels| pixels as u32);
        resizer.draw(picture, view.window, FilterType::Bilinear, canvas, rectangle)?;
        for row in self.pixels.chunks_exact_mut(3 * self.side).take(bottom).skip(top) {
            let row = &mut row[3 * left..3 * right];
            if view.is_flipped {
                row.as_chunks_mut::<3>().0.reverse();
            }
            if let Some(colours) = colours {
                colours.apply(row);
            }
        }
        Ok(())
    }

    /// Adds what is annotated in a photograph, where the view puts it.
    pub(super) fn annotate(&mut self, photograph: &Photograph, units: [f32; 2], view: &View) {
        for object in &photograph.objects {
            let whole = view.box_in_input(scaled(object.box_in_photograph, units));
            let Some(visible) = intersection(whole, view.bounds()) else { continue };
            if area(visible) < LEAST_VISIBLE * area(whole) || is_tiny(visible) {
                self.ignored.push(visible);
            } else {
                let (word, weight) = (object.word, object.weight);
                self.objects.push(TrainingObject { box_in_input: visible, word, weight });
            }
        }
        let ignored = photograph.ignored.iter().map(|ignored| view.box_in_input(scaled(*ignored, units)));
        self.ignored.extend(ignored.filter_map(|whole| intersection(whole, view.bounds())));
    }

    /// Adds a region of the teacher's, most of which is in region_maps.
    pub(super) fn add_region(&mut self, whole: [f32; 4], bounds: [f32; 4], row: usize) {
        let visible = intersection(whole, bounds).filter(|visible| !is_tiny(*visible));
        if let Some(visible) = visible.filter(|visible| area(*visible) >= LEAST_VISIBLE_REGION * area(whole))
        {
            self.teacher_regions.push((visible, row));
        }
    }

    /// Pastes a cutout where it hides little of what is there, if there is such a place.
    pub(super) fn paste_somewhere(&mut self, sprite: &RgbaImage, word: usize, rng: &mut ChaCha8Rng) {
        let bounds = [0.0, 0.0, self.side as f32, self.side as f32];
        let taken: Vec<[f32; 4]> = self
            .objects
            .iter()
            .map(|object| object.box_in_input)
            .chain(self.ignored.iter().copied())
            .collect();
        for _ in 0..TRIES {
            // Up to a quarter of it may leave the picture on any side.
            let mut start = |length: u32| {
                let (length, side) = (length as i32, self.side as i32);
                rng.random_range(-length / 4..=(side - length + length / 4).max(1))
            };
            let (x, y) = (start(sprite.width()), start(sprite.height()));
            let [x2, y2] = [x + sprite.width() as i32, y + sprite.height() as i32];
            let Some(visible) = intersection([x, y, x2, y2].map(|side| side as f32), bounds) else {
                continue;
            };
            let hides = |taken: &[f32; 4]| hidden_share(*taken, visible) > MOST_HIDDEN;
            if is_tiny(visible) || taken.iter().any(hides) {
                continue;
            }
            self.blend(sprite, x, y);
            self.objects.push(TrainingObject { box_in_input: visible, word: Some(word), weight: 1.0 });
            self.teacher_regions.retain(|(region, _)| hidden_share(*region, visible) <= MOST_HIDDEN);
            return;
        }
    }

    /// Draws a cutout, its upper left corner at a place.
    fn blend(&mut self, sprite: &RgbaImage, x: i32, y: i32) {
        let side = self.side as i32;
        for (sx, sy, &Rgba([r, g, b, alpha])) in sprite.enumerate_pixels() {
            let (px, py) = (x + sx as i32, y + sy as i32);
            if alpha == 0 || px < 0 || py < 0 || px >= side || py >= side {
                continue;
            }
            let at = 3 * (py * side + px) as usize;
            for (under, over) in self.pixels[at..at + 3].iter_mut().zip([r, g, b]) {
                let mixed = u32::from(*under) * u32::from(255 - alpha) + u32::from(over) * u32::from(alpha);
                *under = ((mixed + 127) / 255) as u8;
            }
        }
    }
}

/// How much of a box another hides, 0 to 1.
fn hidden_share(hidden: [f32; 4], by: [f32; 4]) -> f32 {
    intersection(hidden, by).map_or(0.0, |common| area(common) / area(hidden))
}

fn is_tiny([x1, y1, x2, y2]: [f32; 4]) -> bool {
    x2 - x1 < LEAST_SIDE || y2 - y1 < LEAST_SIDE
}
