//! Clips: cutouts that move over a background, with the true track of each.
//!
//! Takes the cutouts of some words and a folder of backgrounds, and gives frames as a camera would, each with the
//! boxes of what is in region_maps. Each clip has the situations that trackers find hard: two objects cross, one passes
//! behind another, one leaves and comes back, and in every second clip the two that cross have the same word and the
//! camera shakes.
//!
//! A clip is a function of time. Any frame can be asked for in any order and has the same bytes for the same seed, so
//! a lower frame rate is the same clip with frames left out.

use std::f32::consts::TAU;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use image::imageops::{self, FilterType};
use image::{RgbImage, RgbaImage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::compose::{self, Canvas};
use super::{files_in, light, pick};
use crate::photographs::{Collection, Photograph, open_picture};

/// Width and height of a frame in pixels: not the student's, so that the letterbox has its part.
const FRAME: (u32, u32) = (640, 480);
/// The camera shakes by at most so many pixels to each side.
const MOST_SHAKE_PX: u32 = 24;
/// Backgrounds whose names start so are those that training leaves out.
const BACKGROUNDS: &str = "lomiri-wallpapers";
/// Longest side of a thing, relative to the frame's height.
const SCALE: std::ops::Range<f32> = 0.2..0.42;

/// What clips are made of.
pub struct Props<'a> {
    collection: &'a Collection,
    /// Photographs with a cutout, and the places of their words.
    cutouts: Vec<(&'a Photograph, usize)>,
    backgrounds: Vec<PathBuf>,
}

impl<'a> Props<'a> {
    /// Gathers what shows one of `words`.
    ///
    /// # Errors
    /// When there are no cutouts of these words, or no backgrounds.
    pub fn gather(collection: &'a Collection, backgrounds: &Path, words: &[String]) -> Result<Self> {
        let place_of = |photograph: &Photograph| words.iter().position(|word| *word == photograph.name);
        let cutouts: Vec<(&Photograph, usize)> = collection
            .with_cutouts()
            .into_iter()
            .filter_map(|photograph| Some((photograph, place_of(photograph)?)))
            .collect();
        let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let backgrounds: Vec<PathBuf> = files_in(backgrounds)?
            .into_iter()
            .filter(|path| name_of(path).starts_with(BACKGROUNDS))
            .collect();
        ensure!(
            !(cutouts.is_empty() || backgrounds.is_empty()),
            "clips need cutouts of the vocabulary's words and backgrounds {BACKGROUNDS}*; found {} and {}",
            cutouts.len(),
            backgrounds.len()
        );
        Ok(Self { collection, cutouts, backgrounds })
    }

    /// A random cutout and its word, drawn as it will look.
    fn thing(&self, rng: &mut ChaCha8Rng) -> Result<(RgbaImage, usize)> {
        let (photograph, word) = pick(&self.cutouts, rng);
        let file = photograph.cutout.clone().unwrap_or_default();
        let cutout = compose::trim(&wordsight_pictures::open_with_alpha(&self.collection.folder.join(file))?);
        Ok((compose::random_sprite(&cutout, FRAME, rng.random_range(SCALE), rng), *word))
    }
}

/// One thing in a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sighting {
    /// Its number in the clip, from 1.
    pub id: u64,
    /// Left, top, right, bottom of what is in region_maps, in pixels of the frame.
    pub box_in_frame: [f32; 4],
}

/// A clip.
pub struct Clip {
    /// Larger than a frame by what the camera shakes.
    background: RgbImage,
    /// Those behind first; the n-th has the number n.
    actors: Vec<Actor>,
    shake_px: f32,
    noise: f32,
    rng: ChaCha8Rng,
}

struct Actor {
    sprite: RgbaImage,
    word: usize,
    path: Trajectory,
}

/// How a thing moves.
struct Trajectory {
    /// Where its centre is at time 0, pixels.
    start: [f32; 2],
    /// Pixels a second.
    velocity: [f32; 2],
    /// When it turns back the way it came, seconds.
    turns_at_s: f32,
    /// Up and down by so many pixels, and larger and smaller by so large a share, in so many seconds.
    sway_px: f32,
    swell: f32,
    sway_s: f32,
}

impl Trajectory {
    fn centre(&self, seconds: f32) -> [f32; 2] {
        let travelled_s = self.turns_at_s - (seconds - self.turns_at_s).abs();
        let sway_px = self.sway_px * (TAU * seconds / self.sway_s).sin();
        [
            self.start[0] + travelled_s * self.velocity[0],
            self.start[1] + travelled_s * self.velocity[1] + sway_px,
        ]
    }

    fn scale(&self, seconds: f32) -> f32 {
        1.0 + self.swell * (TAU * seconds / self.sway_s).cos()
    }
}

impl Clip {
    /// The clip of this number, `length_s` seconds long.
    pub fn new(props: &Props<'_>, seed: u64, number: u64, length_s: f32) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        let shape = (FRAME.0 + 2 * MOST_SHAKE_PX, FRAME.1 + 2 * MOST_SHAKE_PX);
        let background: &PathBuf = pick(&props.backgrounds, &mut rng);
        let background = compose::random_background(&open_picture(background)?, shape, &mut rng);
        let is_hard = number % 2 == 1;
        let mut actors = Vec::from(behind_another(props, length_s, &mut rng)?);
        actors.extend(leaving(props, length_s, &mut rng)?);
        actors.extend(crossing(props, is_hard, length_s, &mut rng)?);
        let shake_px = if is_hard { rng.random_range(0.25..1.0) * MOST_SHAKE_PX as f32 } else { 0.0 };
        let noise = rng.random_range(1.0..6.0);
        Ok(Self { background, actors, shake_px, noise, rng })
    }

    /// The word of each thing, by number from 1.
    pub fn words(&self) -> Vec<usize> {
        self.actors.iter().map(|actor| actor.word).collect()
    }

    /// The camera's frame after so many seconds.
    pub fn frame(&self, seconds: f32) -> (RgbImage, Vec<Sighting>) {
        let mut rng = self.rng.clone();
        rng.set_stream(u64::from(seconds.to_bits()) | 1 << 40);
        let [shake_x, shake_y] = self.shake(seconds, &mut rng);
        let (left, top) = (MOST_SHAKE_PX as i32 + shake_x, MOST_SHAKE_PX as i32 + shake_y);
        let view = imageops::crop_imm(&self.background, left as u32, top as u32, FRAME.0, FRAME.1).to_image();
        let mut canvas = Canvas::new(view);
        for (actor, id) in self.actors.iter().zip(1..) {
            let scale = actor.path.scale(seconds);
            let scaled = |side: u32| ((side as f32 * scale).round() as u32).max(2);
            let (width, height) = (scaled(actor.sprite.width()), scaled(actor.sprite.height()));
            let sprite = imageops::resize(&actor.sprite, width, height, FilterType::Triangle);
            let [x, y] = actor.path.centre(seconds);
            let corner =
                |centre: f32, side: u32, shake: i32| (centre - side as f32 / 2.0).round() as i32 - shake;
            canvas.blend(&sprite, corner(x, width, shake_x), corner(y, height, shake_y), id);
        }
        let (mut picture, visible) = canvas.finish();
        light::add_noise(&mut picture, self.noise, &mut rng);
        (picture, visible.into_iter().map(|(box_in_frame, id)| Sighting { id, box_in_frame }).collect())
    }

    /// Where the camera points, pixels aside: a hand's slow sway and its tremor.
    fn shake(&self, seconds: f32, rng: &mut ChaCha8Rng) -> [i32; 2] {
        [(1.1, 0.0), (0.8, 1.0)].map(|(hertz, phase)| {
            let sway = (TAU * hertz * seconds + phase).sin() + 0.5 * (TAU * 2.7 * hertz * seconds).sin();
            let tremor = rng.random_range(-1.0..1.0_f32);
            let most = MOST_SHAKE_PX as f32;
            (self.shake_px * (0.45 * sway + 0.25 * tremor)).round().clamp(-most, most) as i32
        })
    }
}

/// A thing that stands, and one that passes behind it and comes back.
fn behind_another(props: &Props<'_>, length_s: f32, rng: &mut ChaCha8Rng) -> Result<[Actor; 2]> {
    let (stander, stander_word) = props.thing(rng)?;
    let (passer, passer_word) = props.thing(rng)?;
    let centre =
        [FRAME.0 as f32 * rng.random_range(0.35..0.65), FRAME.1 as f32 * rng.random_range(0.6..0.75)];
    let reach = rng.random_range(150.0..260.0_f32) * if rng.random_bool(0.5) { 1.0 } else { -1.0 };
    let turns_at_s = length_s * rng.random_range(0.5..0.7);
    let path = Trajectory {
        start: [centre[0] - reach, centre[1] - 10.0],
        velocity: [2.0 * reach / turns_at_s, 0.0],
        turns_at_s,
        ..sway(rng)
    };
    let still = Trajectory {
        start: centre,
        velocity: [0.0; 2],
        turns_at_s: length_s,
        sway_px: 0.0,
        swell: 0.0,
        sway_s: 1.0,
    };
    Ok([
        Actor { sprite: passer, word: passer_word, path },
        Actor { sprite: stander, word: stander_word, path: still },
    ])
}

/// A thing that leaves the frame and comes back.
fn leaving(props: &Props<'_>, length_s: f32, rng: &mut ChaCha8Rng) -> Result<[Actor; 1]> {
    let (sprite, word) = props.thing(rng)?;
    let start = [FRAME.0 as f32 * rng.random_range(0.2..0.8), FRAME.1 as f32 * rng.random_range(0.35..0.6)];
    let is_right = rng.random_bool(0.5);
    let edge = if is_right { FRAME.0 as f32 } else { 0.0 };
    // Beyond the edge by up to its own width: it is away for a moment or for a second or two.
    let beyond = sprite.width() as f32 * rng.random_range(0.5..1.2) * if is_right { 1.0 } else { -1.0 };
    let turns_at_s = length_s * rng.random_range(0.35..0.65);
    let velocity = [(edge + beyond - start[0]) / turns_at_s, 0.0];
    Ok([Actor { sprite, word, path: Trajectory { start, velocity, turns_at_s, ..sway(rng) } }])
}

/// Two things that cross; `alike`: of a kind.
fn crossing(props: &Props<'_>, alike: bool, length_s: f32, rng: &mut ChaCha8Rng) -> Result<[Actor; 2]> {
    let (sprite, word) = props.thing(rng)?;
    let (other, other_word) = if alike { (sprite.clone(), word) } else { props.thing(rng)? };
    let y = FRAME.1 as f32 * rng.random_range(0.2..0.4);
    let (left, right) =
        (rng.random_range(40.0..120.0_f32), FRAME.0 as f32 - rng.random_range(40.0..120.0_f32));
    let travel_s = length_s * rng.random_range(0.7..1.1);
    let speed = (right - left) / travel_s;
    let rise = rng.random_range(-30.0..30.0_f32);
    let mut way = |start: [f32; 2], velocity: [f32; 2]| Trajectory {
        start,
        velocity,
        turns_at_s: 2.0 * length_s,
        ..sway(rng)
    };
    let there = way([left, y - rise], [speed, 2.0 * rise / travel_s]);
    let back = way([right, y - rise], [-speed, 2.0 * rise / travel_s]);
    Ok([Actor { sprite, word, path: there }, Actor { sprite: other, word: other_word, path: back }])
}

/// A way that leads nowhere, with a sway of its own.
fn sway(rng: &mut ChaCha8Rng) -> Trajectory {
    Trajectory {
        start: [0.0; 2],
        velocity: [0.0; 2],
        turns_at_s: 0.0,
        sway_px: rng.random_range(0.0..12.0),
        swell: rng.random_range(0.0..0.12),
        sway_s: rng.random_range(1.5..4.0),
    }
}
