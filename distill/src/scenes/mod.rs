//! Scenes: photographs that training can learn boxes from, made out of few.
//!
//! Flows in: a [`Collection`] of labelled photographs with cutouts of their objects, and a folder of
//! backgrounds. Flows out: JPEG images and a COCO annotation file. Four kinds of scene take turns:
//! a photograph seen through a random window, the same with cutouts pasted beside its own object
//! (which keeps its box), a mosaic of four photographs, and cutouts on a background.
//!
//! The surprising thing: every scene has a random generator of its own, seeded by (seed, number), so
//! scenes are made in parallel and yet byte-identical for a seed, whatever the number of threads.

mod compose;
mod light;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::coco::{Annotation, Category, Dataset, Image};
use crate::photographs::{Collection, Photograph};
use crate::progress;
use compose::Canvas;

/// Longest side of a scene in pixels: the student's input, so that nothing is resized twice.
const LONGEST_SIDE: u32 = 320;
/// Shapes of scenes, as cameras and photographs have them (width, height).
const SHAPES: [(u32, u32); 5] = [(320, 240), (320, 240), (320, 320), (240, 320), (320, 180)];
/// Cutouts larger than this share of a canvas side are not pasted beside a photograph's own object.
const COMPANION_SCALE: std::ops::Range<f32> = 0.12..0.45;
/// Size of a pasted object's longest side relative to the canvas's shorter one.
const OBJECT_SCALE: std::ops::Range<f32> = 0.15..0.95;

/// What to make.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many scenes.
    pub count: usize,
    /// The seed that fixes every byte.
    pub seed: u64,
    /// Backgrounds whose file names start with one of these are left out: pictures that a student
    /// will be tested on must not teach it that nothing is there.
    pub leave_out: Vec<String>,
}

/// A photograph in memory with what training may know of it.
struct Source {
    image: RgbImage,
    /// `[x1, y1, x2, y2]` in the photograph's pixels.
    box_in_photograph: [f32; 4],
    category: u64,
}

/// The ingredients, decoded once.
struct Pantry {
    photographs: Vec<Source>,
    /// Trimmed RGBA cutouts and their categories.
    cutouts: Vec<(image::RgbaImage, u64)>,
    backgrounds: Vec<RgbImage>,
}

/// Makes scenes from what training may see of `collection` and writes them to `output`:
/// `images/NNNNNN.jpg` and `annotations.json`.
pub fn make(
    collection: &Collection,
    backgrounds: &Path,
    settings: &Settings,
    output: &Path,
) -> Result<Dataset> {
    let training = collection.training();
    let categories: Vec<Category> =
        training.iter().zip(1..).map(|(p, id)| Category { id, name: p.name.clone() }).collect();
    let pantry = stock(collection, &training, backgrounds, &settings.leave_out)?;

    let images = output.join("images");
    fs::create_dir_all(&images).with_context(|| format!("cannot make the folder {}", images.display()))?;
    let bar = progress::bar(settings.count as u64, "scenes");
    let made: Vec<(Image, Vec<Placed>)> = (0..settings.count)
        .into_par_iter()
        .map(|number| {
            let scene = make_one(&pantry, settings.seed, number as u64, &images);
            bar.inc(1);
            scene
        })
        .collect::<Result<_>>()?;
    bar.finish();

    let dataset = assemble(made, categories);
    dataset.save(&output.join("annotations.json"))?;
    Ok(dataset)
}

/// An object in a finished scene.
struct Placed {
    /// `[x1, y1, x2, y2]` in the scene's pixels.
    box_in_scene: [f32; 4],
    category: u64,
}

fn assemble(made: Vec<(Image, Vec<Placed>)>, categories: Vec<Category>) -> Dataset {
    let mut dataset = Dataset { categories, ..Dataset::default() };
    for (image, objects) in made {
        for object in objects {
            let [x1, y1, x2, y2] = object.box_in_scene;
            dataset.annotations.push(Annotation {
                id: dataset.annotations.len() as u64 + 1,
                image_id: image.id,
                category_id: object.category,
                bbox: [x1, y1, x2 - x1, y2 - y1],
                area: (x2 - x1) * (y2 - y1),
                iscrowd: 0,
            });
        }
        dataset.images.push(image);
    }
    dataset
}

fn stock(
    collection: &Collection,
    training: &[&Photograph],
    backgrounds: &Path,
    leave_out: &[String],
) -> Result<Pantry> {
    let mut pantry = Pantry { photographs: Vec::new(), cutouts: Vec::new(), backgrounds: Vec::new() };
    for (photograph, category) in training.iter().zip(1..) {
        if let Some(box_in_photograph) = photograph.likely_box() {
            let image = open(&collection.folder.join(&photograph.file))?.to_rgb8();
            pantry.photographs.push(Source { image, box_in_photograph, category });
        }
        if let Some(cutout) = &photograph.cutout {
            let cutout = open(&collection.folder.join(cutout))?.to_rgba8();
            pantry.cutouts.push((compose::trim(&cutout), category));
        }
    }
    let left_out = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        leave_out.iter().any(|prefix| name.starts_with(prefix))
    };
    for path in files_in(backgrounds)?.into_iter().filter(|path| !left_out(path)) {
        pantry.backgrounds.push(open(&path)?.to_rgb8());
    }
    ensure!(
        !(pantry.photographs.is_empty() || pantry.cutouts.is_empty() || pantry.backgrounds.is_empty()),
        "scenes need photographs with a box, cutouts and backgrounds; found {}, {} and {}",
        pantry.photographs.len(),
        pantry.cutouts.len(),
        pantry.backgrounds.len()
    );
    tracing::info!(
        "scenes are made of {} photographs, {} cutouts and {} backgrounds",
        pantry.photographs.len(),
        pantry.cutouts.len(),
        pantry.backgrounds.len()
    );
    Ok(pantry)
}

fn open(path: &Path) -> Result<image::DynamicImage> {
    image::open(path).with_context(|| format!("cannot read the picture {}", path.display()))
}

/// The files of a folder in the order of their names.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(|| format!("cannot list the backgrounds in {}", folder.display()))?;
    files.sort();
    Ok(files)
}

fn make_one(pantry: &Pantry, seed: u64, number: u64, folder: &Path) -> Result<(Image, Vec<Placed>)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    let (mut picture, objects) = match number % 6 {
        0 | 1 => photograph_scene(pantry, 0, &mut rng),
        2 => photograph_scene(pantry, 2, &mut rng),
        3 => mosaic_scene(pantry, &mut rng),
        _ => background_scene(pantry, &mut rng),
    };
    light::disturb(&mut picture, &mut rng);

    let file_name = format!("{number:06}.jpg");
    let path = folder.join(&file_name);
    let file =
        fs::File::create(&path).with_context(|| format!("cannot write the scene {}", path.display()))?;
    let quality = rng.random_range(70..=95);
    image::codecs::jpeg::JpegEncoder::new_with_quality(std::io::BufWriter::new(file), quality)
        .encode_image(&picture)
        .with_context(|| format!("cannot write the scene {}; is the disk full?", path.display()))?;
    let image = Image { id: number + 1, file_name, width: picture.width(), height: picture.height() };
    Ok((image, objects))
}

/// A photograph through a random window, with up to `companions` cutouts beside its own object.
fn photograph_scene(pantry: &Pantry, companions: usize, rng: &mut ChaCha8Rng) -> (RgbImage, Vec<Placed>) {
    let source = pick(&pantry.photographs, rng);
    let window = compose::random_window(&source.image, source.box_in_photograph, rng);
    let size = stretched_size(window, rng);
    let (view, box_in_scene) = compose::show(&source.image, source.box_in_photograph, window, size, rng);
    let mut canvas = Canvas::new(view);
    canvas.keep(box_in_scene, source.category);
    let most = rng.random_range(0..=companions);
    for _ in 0..most {
        let (cutout, category) = pick(&pantry.cutouts, rng);
        canvas.paste(cutout, *category, COMPANION_SCALE, rng);
    }
    finish(canvas)
}

/// The size of a window in a scene: as it is, or with its aspect ratio changed.
fn stretched_size([left, top, right, bottom]: [u32; 4], rng: &mut ChaCha8Rng) -> (u32, u32) {
    let stretch = if rng.random_bool(0.5) { compose::random_stretch(1.6, rng).sqrt() } else { 1.0 };
    let (width, height) = ((right - left) as f32 * stretch, (bottom - top) as f32 / stretch);
    let scale = LONGEST_SIDE as f32 / width.max(height);
    let scaled = |side: f32| ((side * scale).round() as u32).clamp(16, LONGEST_SIDE);
    (scaled(width), scaled(height))
}

/// Four photographs in the quarters of one picture (YOLOv4, Bochkovskiy et al., 2020): smaller objects,
/// and several of them, in natural surroundings.
fn mosaic_scene(pantry: &Pantry, rng: &mut ChaCha8Rng) -> (RgbImage, Vec<Placed>) {
    let mut picture = RgbImage::new(LONGEST_SIDE, LONGEST_SIDE);
    let mut middle = || rng.random_range(LONGEST_SIDE / 3..=LONGEST_SIDE * 2 / 3);
    let (split_x, split_y) = (middle(), middle());
    let mut objects = Vec::new();
    for (left, right) in [(0, split_x), (split_x, LONGEST_SIDE)] {
        for (top, bottom) in [(0, split_y), (split_y, LONGEST_SIDE)] {
            let Source { image, box_in_photograph, category } = pick(&pantry.photographs, rng);
            let window = compose::random_window(image, *box_in_photograph, rng);
            let size = (right - left, bottom - top);
            let (view, [x1, y1, x2, y2]) = compose::show(image, *box_in_photograph, window, size, rng);
            image::imageops::replace(&mut picture, &view, i64::from(left), i64::from(top));
            let (dx, dy) = (left as f32, top as f32);
            objects.push(Placed { box_in_scene: [x1 + dx, y1 + dy, x2 + dx, y2 + dy], category: *category });
        }
    }
    (picture, objects)
}

/// One to five cutouts on a background.
fn background_scene(pantry: &Pantry, rng: &mut ChaCha8Rng) -> (RgbImage, Vec<Placed>) {
    let shape = *SHAPES.choose(rng).unwrap_or(&SHAPES[0]);
    let mut canvas = Canvas::new(compose::random_background(pick(&pantry.backgrounds, rng), shape, rng));
    for _ in 0..rng.random_range(1..=5) {
        let (cutout, category) = pick(&pantry.cutouts, rng);
        canvas.paste(cutout, *category, OBJECT_SCALE, rng);
    }
    finish(canvas)
}

fn finish(canvas: Canvas) -> (RgbImage, Vec<Placed>) {
    let (picture, visible) = canvas.finish();
    let objects =
        visible.into_iter().map(|(box_in_scene, category)| Placed { box_in_scene, category }).collect();
    (picture, objects)
}

/// One of `items`, which the pantry has checked not to be empty.
fn pick<'a, T>(items: &'a [T], rng: &mut ChaCha8Rng) -> &'a T {
    &items[rng.random_range(0..items.len())]
}
