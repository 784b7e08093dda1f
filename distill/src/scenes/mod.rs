//! Scenes: many photographs with boxes, for training, made of few.
//!
//! Takes a [`Collection`] of labelled photographs with cutouts of their objects, and a folder of backgrounds. Writes
//! JPEG images and a COCO annotation file. The kinds of scene alternate: a photograph seen through a random window,
//! the same with cutouts pasted beside its own object (which keeps its box), mosaics of four and of nine to thirty-six
//! photographs, and cutouts on a background, from one that fills it to a dozen that are a few pixels each.
//!
//! [`clips`] makes moving ones, for trackers.
//!
//! Every scene has its own random generator, seeded by (seed, number), so scenes are made in parallel and are
//! byte-identical for a seed, whatever the number of threads.

pub mod clips;
pub(crate) mod compose;
mod light;

use std::collections::HashMap;
use std::fs;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use wordsight_files::Durability;

use crate::coco::{Annotation, Category, Dataset, Image};
use crate::photographs::{Collection, Photograph, Split, open_picture};
use crate::progress;
use compose::Canvas;

/// Longest side of a scene in pixels: the student's input, so that nothing is resized twice.
const LONGEST_SIDE: u32 = 416;
/// Shapes of scenes, as cameras and photographs have them (width, height).
const SHAPES: [(u32, u32); 5] = [(416, 312), (416, 312), (416, 416), (312, 416), (416, 234)];
/// Rows of the second of two kinds of mosaic in training. In validation it has three.
const MOSAIC_ROWS: RangeInclusive<u32> = 3..=6;
/// Longest side of a cutout beside a photograph's own object, relative to the canvas's shorter side.
const COMPANION_SCALE: Range<f32> = 0.06..0.45;
/// The same on a background, where a few objects lie.
const OBJECT_SCALE: Range<f32> = 0.15..0.95;
/// The same where many do.
const CROWD_SCALE: Range<f32> = 0.05..0.5;
/// One cutout in so many of a crowd comes as a row of alike ones.
const ROW_ODDS: f64 = 0.25;

/// Whom scenes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Made of what training may see.
    Training,
    /// To be tested on: photographs and backgrounds that training never sees, and cutouts of which a
    /// third are novel words', a third held-out words' and a third training's own.
    Validation,
}

/// What to make.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom for.
    pub part: Part,
    /// How many scenes.
    pub count: usize,
    /// The seed that fixes every byte.
    pub seed: u64,
    /// Backgrounds whose file names start with one of these are left out of training: pictures that a
    /// student will be tested on must not teach it that nothing is there. Validation has only these.
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
struct Ingredients {
    photographs: Vec<Source>,
    /// Trimmed RGBA cutouts and their categories, in groups that are drawn from equally often.
    cutouts: Vec<Vec<(image::RgbaImage, u64)>>,
    backgrounds: Vec<RgbImage>,
}

impl Ingredients {
    /// Any cutout: the group first, so that a small one is not drowned.
    fn cutout(&self, rng: &mut ChaCha8Rng) -> &(image::RgbaImage, u64) {
        let group = pick(&self.cutouts, rng);
        pick(group, rng)
    }
}

/// Makes scenes out of one part of `collection` and writes them to `output`: `images/NNNNNN.jpg` and
/// `annotations.json`.
pub fn make(
    collection: &Collection,
    backgrounds: &Path,
    settings: &Settings,
    output: &Path,
) -> Result<Dataset> {
    let (photographs, cutouts, words) = match settings.part {
        Part::Training => {
            let training = collection.training();
            (training.clone(), vec![training], collection.words_of(&collection.training()))
        }
        Part::Validation => {
            let (held_out, novel) = (collection.held_out(), collection.novel());
            let groups = vec![collection.training(), held_out.clone(), collection.of_split(Split::Novel)];
            ([held_out, novel].concat(), groups, collection.words())
        }
    };
    let categories: Vec<Category> =
        words.into_iter().zip(1..).map(|(name, id)| Category { id, name }).collect();
    let ingredients = stock(collection, &photographs, &cutouts, &categories, backgrounds, settings)?;

    let images = output.join("images");
    fs::create_dir_all(&images).with_context(|| format!("cannot make the folder {}", images.display()))?;
    let bar = progress::bar(settings.count as u64, "scenes");
    let made: Vec<(Image, Vec<Placed>)> = (0..settings.count)
        .into_par_iter()
        .map(|number| {
            let scene = make_one(&ingredients, settings, number as u64, &images);
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
    photographs: &[&Photograph],
    cutouts: &[Vec<&Photograph>],
    categories: &[Category],
    backgrounds: &Path,
    settings: &Settings,
) -> Result<Ingredients> {
    let ids: HashMap<&str, u64> =
        categories.iter().map(|category| (category.name.as_str(), category.id)).collect();
    let category_of = |photograph: &Photograph| {
        let id = ids.get(photograph.name.as_str()).copied();
        id.with_context(|| format!("the word {} has no category", photograph.name))
    };
    let mut ingredients =
        Ingredients { photographs: Vec::new(), cutouts: Vec::new(), backgrounds: Vec::new() };
    for photograph in photographs {
        if let Some(box_in_photograph) = photograph.likely_box() {
            let image = open_picture(&collection.folder.join(&photograph.file))?;
            ingredients.photographs.push(Source {
                image,
                box_in_photograph,
                category: category_of(photograph)?,
            });
        }
    }
    for group in cutouts {
        let cutouts = group.iter().filter_map(|photograph| Some((photograph, photograph.cutout.as_ref()?)));
        let trimmed = cutouts.map(|(photograph, cutout)| {
            let cutout = wordsight_pictures::open_with_alpha(&collection.folder.join(cutout))?;
            Ok((compose::trim(&cutout), category_of(photograph)?))
        });
        ingredients.cutouts.push(trimmed.collect::<Result<_>>()?);
    }
    let kept_from_training = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        settings.leave_out.iter().any(|prefix| name.starts_with(prefix))
    };
    let for_validation = settings.part == Part::Validation;
    for path in files_in(backgrounds)?.into_iter().filter(|path| kept_from_training(path) == for_validation) {
        ingredients.backgrounds.push(open_picture(&path)?);
    }
    let cutouts = ingredients.cutouts.iter().map(Vec::len);
    ensure!(
        !(ingredients.photographs.is_empty()
            || cutouts.clone().any(|n| n == 0)
            || ingredients.backgrounds.is_empty()),
        "scenes need photographs with a box, cutouts and backgrounds; found {}, {:?} and {}",
        ingredients.photographs.len(),
        cutouts.collect::<Vec<_>>(),
        ingredients.backgrounds.len()
    );
    tracing::info!(
        "scenes are made of {} photographs, {:?} cutouts and {} backgrounds",
        ingredients.photographs.len(),
        cutouts.collect::<Vec<_>>(),
        ingredients.backgrounds.len()
    );
    Ok(ingredients)
}

/// The files of a folder in the order of their names, without hidden ones.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .with_context(|| format!("cannot list the backgrounds in {}", folder.display()))?;
    files.retain(|path| !wordsight_pictures::is_hidden(path));
    files.sort();
    Ok(files)
}

fn make_one(
    ingredients: &Ingredients,
    settings: &Settings,
    number: u64,
    folder: &Path,
) -> Result<(Image, Vec<Placed>)> {
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    rng.set_stream(number);
    // Beside its own object a photograph shows things that nobody annotated.
    let (exhaustive, (mut picture, objects)) = match number % 8 {
        0 | 1 => (false, photograph_scene(ingredients, 0, &mut rng)),
        2 => (false, photograph_scene(ingredients, 6, &mut rng)),
        3 => (false, mosaic_scene(ingredients, 2, &mut rng)),
        4 => {
            let validation = settings.part == Part::Validation;
            let rows = if validation { 3 } else { rng.random_range(MOSAIC_ROWS) };
            (false, mosaic_scene(ingredients, rows, &mut rng))
        }
        5 => (true, background_scene(ingredients, 1..=5, OBJECT_SCALE, &mut rng)),
        _ => (true, background_scene(ingredients, 4..=14, CROWD_SCALE, &mut rng)),
    };
    light::disturb(&mut picture, &mut rng);

    let file_name = format!("{number:06}.jpg");
    let path = folder.join(&file_name);
    let quality = rng.random_range(70..=95);
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, quality)
        .encode_image(&picture)
        .and_then(|()| Ok(wordsight_files::replace(&path, Durability::Fleeting, &jpeg)?))
        .with_context(|| format!("cannot write the scene {}; is the disk full?", path.display()))?;
    let (width, height) = picture.dimensions();
    Ok((Image { id: number + 1, file_name, width, height, exhaustive }, objects))
}

/// A photograph through a random window, with up to `companions` cutouts beside its own object.
fn photograph_scene(
    ingredients: &Ingredients,
    companions: usize,
    rng: &mut ChaCha8Rng,
) -> (RgbImage, Vec<Placed>) {
    let source = pick(&ingredients.photographs, rng);
    let window = compose::random_window(&source.image, source.box_in_photograph, rng);
    let size = stretched_size(window, rng);
    let (view, box_in_scene) = compose::show(&source.image, source.box_in_photograph, window, size, rng);
    let mut canvas = Canvas::new(view);
    canvas.keep(box_in_scene, source.category);
    let most = rng.random_range(0..=companions);
    for _ in 0..most {
        let (cutout, category) = ingredients.cutout(rng);
        canvas.paste(cutout, *category, random_scale(COMPANION_SCALE, rng), rng);
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

/// Photographs in `side` rows and columns of one picture (YOLOv4, Bochkovskiy et al., 2020): smaller
/// objects, and several of them, in natural surroundings.
fn mosaic_scene(ingredients: &Ingredients, side: u32, rng: &mut ChaCha8Rng) -> (RgbImage, Vec<Placed>) {
    let mut picture = RgbImage::new(LONGEST_SIDE, LONGEST_SIDE);
    let pitch = LONGEST_SIDE / side;
    let mut splits = || -> Vec<u32> {
        let inner = (1..side).map(|line| line * pitch + rng.random_range(0..=pitch / 2) - pitch / 4);
        std::iter::once(0).chain(inner).chain([LONGEST_SIDE]).collect()
    };
    let (columns, rows) = (splits(), splits());
    let mut objects = Vec::new();
    for (left, right) in columns.iter().zip(&columns[1..]) {
        for (top, bottom) in rows.iter().zip(&rows[1..]) {
            let Source { image, box_in_photograph, category } = pick(&ingredients.photographs, rng);
            let window = compose::random_window(image, *box_in_photograph, rng);
            let size = (right - left, bottom - top);
            let (view, [x1, y1, x2, y2]) = compose::show(image, *box_in_photograph, window, size, rng);
            image::imageops::replace(&mut picture, &view, i64::from(*left), i64::from(*top));
            let (dx, dy) = (*left as f32, *top as f32);
            objects.push(Placed { box_in_scene: [x1 + dx, y1 + dy, x2 + dx, y2 + dy], category: *category });
        }
    }
    (picture, objects)
}

/// Cutouts on a background. In a crowd some come as rows: things of one kind often stand side by side,
/// and a detector must learn where one ends.
fn background_scene(
    ingredients: &Ingredients,
    count: RangeInclusive<usize>,
    scales: Range<f32>,
    rng: &mut ChaCha8Rng,
) -> (RgbImage, Vec<Placed>) {
    let shape = *SHAPES.choose(rng).unwrap_or(&SHAPES[0]);
    let mut canvas = Canvas::new(compose::random_background(pick(&ingredients.backgrounds, rng), shape, rng));
    let crowd = *count.start() > 1;
    let most = rng.random_range(count);
    let mut pasted = 0;
    while pasted < most {
        let (cutout, category) = ingredients.cutout(rng);
        let scale = random_scale(scales.clone(), rng);
        if crowd && rng.random_bool(ROW_ODDS) {
            pasted += canvas.paste_row(cutout, *category, scale.min(0.3), most - pasted, rng);
        } else {
            canvas.paste(cutout, *category, scale, rng);
            pasted += 1;
        }
    }
    finish(canvas)
}

/// A scale whose logarithm is uniform: as many between 1/16 and 1/8 as between 1/4 and 1/2.
fn random_scale(range: Range<f32>, rng: &mut ChaCha8Rng) -> f32 {
    rng.random_range(range.start.ln()..range.end.ln()).exp()
}

fn finish(canvas: Canvas) -> (RgbImage, Vec<Placed>) {
    let (picture, visible) = canvas.finish();
    let objects =
        visible.into_iter().map(|(box_in_scene, category)| Placed { box_in_scene, category }).collect();
    (picture, objects)
}

/// One of `items`, which `stock` has checked not to be empty.
fn pick<'a, T>(items: &'a [T], rng: &mut ChaCha8Rng) -> &'a T {
    &items[rng.random_range(0..items.len())]
}
