//! Augmentation: one training picture of photographs through random windows, alone or four in a mosaic, with changed
//! colours.
//!
//! Takes decoded photographs, their annotations and a random generator, and returns pixels and the boxes moved with
//! their objects. Nothing else is random, so the same generator makes the same bytes.

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use wordsight_pictures::resize::Resizer;

use super::cache::Cache;
use super::colour::ColourChange;
use super::picture::{Tile, TrainingImage};
use super::view::View;
use super::{Photograph, Sets, scaled};
use crate::scenes::compose;

/// Cutouts in a picture that has any.
const CUTOUTS: std::ops::RangeInclusive<usize> = 1..=3;
/// Longest side of a cutout as a share of the input's.
const CUTOUT_SCALE: std::ops::Range<f32> = 0.08..0.45;
/// A tile shows at least this share of one object's width and height.
const LEAST_SHOWN: f64 = 0.7;
/// Where the four tiles of a mosaic meet, as a share of the input's side.
const MOSAIC_CENTRE: std::ops::Range<f32> = 0.3..0.7;
/// Sizes of a file and of its annotations may differ by so much in shape before they are of two pictures.
const MOST_SHAPE_DIFFERENCE: f32 = 0.02;

/// How much pictures are changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Augmentation {
    /// A photograph's size, where 1 fits it into the input: from and to.
    pub scale: [f32; 2],
    /// The same for the four of a mosaic.
    pub mosaic_scale: [f32; 2],
    /// The aspect ratio changes by up to this factor, the area stays.
    pub stretch: f32,
    /// How often a photograph is mirrored.
    pub flip: f64,
    /// How often a picture is a mosaic of four.
    pub mosaic: f64,
    /// How often cutouts are pasted in, where there are any.
    pub cutouts: f64,
    /// How far light and colour change; 1 is usual, 0 not at all.
    pub colour: f32,
}

impl Augmentation {
    /// What training takes.
    pub fn strong() -> Self {
        Self {
            scale: [0.6, 1.5],
            mosaic_scale: [0.45, 1.1],
            stretch: 1.25,
            flip: 0.5,
            mosaic: 0.5,
            cutouts: 0.15,
            colour: 1.0,
        }
    }

    /// Letterboxed as the device does it and otherwise as it is: for validation.
    pub fn plain() -> Self {
        Self {
            scale: [1.0; 2],
            mosaic_scale: [0.5; 2],
            stretch: 1.0,
            flip: 0.0,
            mosaic: 0.0,
            cutouts: 0.0,
            colour: 0.0,
        }
    }

    fn keeps_size(&self) -> bool {
        self.scale == [1.0; 2] && self.stretch == 1.0
    }

    /// Says what is wrong, if anything is.
    pub(super) fn check(&self) -> Result<()> {
        for [least, most] in [self.scale, self.mosaic_scale] {
            ensure!(
                0.01 <= least && least <= most && most <= 100.0,
                "a photograph's size is drawn from {least} to {most}; give two numbers from 0.01 to 100, the smaller first"
            );
        }
        for (odds, what) in
            [(self.flip, "mirrored"), (self.mosaic, "a mosaic"), (self.cutouts, "with cutouts")]
        {
            ensure!(
                (0.0..=1.0).contains(&odds),
                "{odds} of the pictures are {what}: give a share from 0 to 1"
            );
        }
        ensure!(
            (1.0..=4.0).contains(&self.stretch),
            "a stretch by {}: give a factor from 1 to 4",
            self.stretch
        );
        ensure!((0.0..=3.0).contains(&self.colour), "a colour change of {}: give 0 to 3", self.colour);
        Ok(())
    }
}

/// Makes training pictures; one a thread.
pub(super) struct Augmenter<'a> {
    sets: &'a Sets,
    cache: &'a Cache,
    resizer: Resizer,
}

impl<'a> Augmenter<'a> {
    /// Of photographs of `sets`, which `cache` holds.
    pub fn new(sets: &'a Sets, cache: &'a Cache) -> Self {
        Self { sets, cache, resizer: Resizer::default() }
    }

    /// The picture that shows `photograph`; a mosaic's other three are drawn from `others`.
    pub fn picture(
        &mut self,
        photograph: usize,
        others: &[u32],
        augmentation: &Augmentation,
        side: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<TrainingImage> {
        let mut canvas = TrainingImage::new(side);
        if rng.random_bool(augmentation.mosaic) {
            let mut centre = || ((side as f32 * rng.random_range(MOSAIC_CENTRE)) as usize).clamp(1, side - 1);
            let (x, y) = (centre(), centre());
            let tiles = [[0, 0, x, y], [x, 0, side, y], [0, y, x, side], [x, y, side, side]];
            let first = rng.random_range(0..tiles.len());
            for (place, tile) in tiles.into_iter().enumerate() {
                let other = others.choose(rng).map_or(photograph, |other| *other as usize);
                let shown = if place == first { photograph } else { other };
                self.show(shown, tile, augmentation, augmentation.mosaic_scale, &mut canvas, rng)?;
            }
        } else {
            self.show(photograph, [0, 0, side, side], augmentation, augmentation.scale, &mut canvas, rng)?;
        }
        if rng.random_bool(augmentation.cutouts) {
            self.paste_cutouts(&mut canvas, rng)?;
        }
        Ok(canvas)
    }

    /// Pastes a few objects where they hide little of the others.
    fn paste_cutouts(&self, canvas: &mut TrainingImage, rng: &mut ChaCha8Rng) -> Result<()> {
        for _ in 0..rng.random_range(CUTOUTS) {
            let Some(cutout) = self.sets.cutouts.choose(rng) else { break };
            let scale = rng.random_range(CUTOUT_SCALE.start.ln()..CUTOUT_SCALE.end.ln()).exp();
            let side = canvas.side as u32;
            let sprite = compose::random_sprite(cutout.picture()?, (side, side), scale, rng);
            canvas.paste_somewhere(&sprite, cutout.word, rng);
        }
        Ok(())
    }

    /// Shows a photograph somewhere in a tile.
    fn show(
        &mut self,
        photograph: usize,
        tile: [usize; 4],
        augmentation: &Augmentation,
        scales: [f32; 2],
        canvas: &mut TrainingImage,
        rng: &mut ChaCha8Rng,
    ) -> Result<()> {
        let picture = self.cache.picture(self.sets, photograph)?;
        let found = &self.sets.photographs[photograph];
        let size = [picture.width() as usize, picture.height() as usize];
        let units = units(found, size)?;
        let whole_input = tile == [0, 0, canvas.side, canvas.side];
        let mut view = if augmentation.keeps_size() && whole_input {
            View::letterboxed(size, canvas.side)
        } else {
            let focus = found.objects.choose(rng).map(|object| scaled(object.box_in_photograph, units));
            let scale = random_scale(size, canvas.side, augmentation, scales, rng);
            let scale = focus.map_or(scale, |focus| keeping(focus, tile, scale));
            View::random(size, tile, scale, focus, rng)
        };
        view.is_flipped = rng.random_bool(augmentation.flip);
        let colours = (augmentation.colour > 0.0).then(|| ColourChange::random(augmentation.colour, rng));
        canvas
            .draw(&picture, &view, colours.as_ref(), &mut self.resizer)
            .with_context(|| format!("cannot resize {}", found.path.display()))?;
        canvas.tiles.push(Tile { box_in_input: view.bounds(), set: found.set });
        canvas.annotate(found, units, &view);
        for (region, row) in self.sets.teacher_regions(found) {
            canvas.add_region(view.box_in_input(region), view.bounds(), row);
        }
        Ok(())
    }
}

/// Pixels of the file for one of the annotations, along x and y: copies of photographs in another size keep their
/// annotations.
fn units(photograph: &Photograph, [width, height]: [usize; 2]) -> Result<[f32; 2]> {
    let Some(annotated) = photograph.size else { return Ok([1.0; 2]) };
    let units = [width as f32 / annotated[0] as f32, height as f32 / annotated[1] as f32];
    ensure!(
        (units[0] / units[1] - 1.0).abs() <= MOST_SHAPE_DIFFERENCE,
        "{} has {width}x{height} pixels, its annotations are of {}x{}: annotate it anew, or name it in `leave_out`",
        photograph.path.display(),
        annotated[0],
        annotated[1]
    );
    Ok(units)
}

/// A scale at which a tile has room for most of an object: this one, or as much smaller as that takes.
fn keeping(object: [f32; 4], tile: [usize; 4], scale: [f64; 2]) -> [f64; 2] {
    let shrinking = [0, 1].map(|axis| {
        let length = f64::from(object[axis + 2] - object[axis]) * scale[axis];
        (tile[axis + 2] - tile[axis]) as f64 / (LEAST_SHOWN * length)
    });
    scale.map(|scale| scale * shrinking[0].min(shrinking[1]).min(1.0))
}

/// Pixels of the input for one of the photograph's, along x and y.
fn random_scale(
    [width, height]: [usize; 2],
    side: usize,
    augmentation: &Augmentation,
    [least, most]: [f32; 2],
    rng: &mut ChaCha8Rng,
) -> [f64; 2] {
    let fit = side as f64 / width.max(height) as f64;
    let scale = fit * f64::from(rng.random_range(least..=most));
    let reach = augmentation.stretch.ln();
    let stretch = f64::from(rng.random_range(-reach..=reach) / 2.0).exp();
    [scale * stretch, scale / stretch]
}
