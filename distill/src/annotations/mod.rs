//! Reads COCO's and LVIS's annotation files, the same way for all commands.
//!
//! Reads one JSON file (`raw`) into [`Annotations`], in which ids are numbers and unique, and every object is in an
//! image of the list and has a box with an area in that image. What can't be made so is refused with its image and
//! annotation; what training and evaluation can do without is left out or corrected, and counted in one line of the
//! log.
//!
//! A box has two forms. Evaluations take it as it was annotated, as `pycocotools` does; code that looks at pixels
//! takes it clipped to its image.

mod raw;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use wordsight_evaluation::Frequency;
use wordsight_teacher::prompts;

use crate::images::Images;
use raw::Id;

/// How many of each oddity are named.
const NAMED: usize = 3;
const NO_ANNOTATIONS: &str = "it is not a COCO or LVIS annotation file";
/// A box may reach out of its image by so many pixels without a word: annotators round.
const ROUNDING: f64 = 1.0;

/// One annotation file.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    /// The images, in the file's order.
    pub images: Vec<Image>,
    /// The objects in them, in the file's order.
    pub objects: Vec<Object>,
    /// The words for the objects, in the file's order.
    pub categories: Vec<Category>,
}

/// One image file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// Its number.
    pub id: u64,
    /// Its file, relative to the folder of images.
    pub file_name: String,
    /// Width and height in pixels, where the file says them.
    pub size: Option<[u32; 2]>,
    /// The same in a folder of its split, `train2017/1.jpg`, where only its address names it, as in LVIS.
    in_split: Option<String>,
    /// Whether every object in it is annotated: see [`crate::coco::Image`].
    pub exhaustive: bool,
    /// Categories that LVIS's annotators know to be absent.
    pub negative_categories: Vec<u64>,
    /// Categories of which LVIS's annotators may have missed some.
    pub not_exhaustive_categories: Vec<u64>,
    /// Its place in the file's list.
    pub place: usize,
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its number.
    pub id: u64,
    /// The place of its image in [`Annotations::images`].
    pub image: usize,
    /// Its category's number; none: an object without a name.
    pub category: Option<u64>,
    /// `[x, y, width, height]` as it was annotated.
    pub annotated: [f64; 4],
    /// `[x1, y1, x2, y2]` cut to its image.
    pub corners: [f32; 4],
    /// Area in pixels: that of its mask, or of its box.
    pub area: f64,
    /// A group of things in one box.
    pub crowd: bool,
    /// Not to be counted.
    pub ignored: bool,
    /// How sure a detector was that made it.
    pub score: Option<f32>,
    /// Its place in the file's list.
    pub place: usize,
}

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub struct Category {
    /// Its number.
    pub id: u64,
    /// The word.
    pub name: String,
    /// How often LVIS's training set has it.
    pub frequency: Option<Frequency>,
    /// Its place in the file's list.
    pub place: usize,
}

/// What is odd in a file: kinds, how many of each, and the first of them by name.
#[derive(Debug, Default)]
struct Oddities(BTreeMap<&'static str, (usize, Vec<String>)>);

impl Annotations {
    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read or is of another format, when ids are there twice, or an annotation is in an image or of a
    /// category that isn't listed.
    pub fn load(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        Self::told(Self::parse(&text), path)
    }

    /// The same, of images somewhere: those that only an address names lie there, or in a folder of their split there.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with_images(path: &Path, images: &Images) -> Result<Self> {
        Ok(Self::load(path)?.found_in(images))
    }

    /// The same, and the parts of the file as they are, with `null` for what is no number.
    pub(crate) fn load_with_parts(path: &Path, images: &Images) -> Result<(Self, Value)> {
        let parts: Value = serde_json::from_str(&raw::without_nan(&read_text(path)?))
            .with_context(|| format!("{}: {NO_ANNOTATIONS}", path.display()))?;
        let file = serde_path_to_error::deserialize(&parts).context(NO_ANNOTATIONS);
        Ok((Self::told(file.and_then(Self::of_file), path)?.found_in(images), parts))
    }

    /// Names the file in an error, and tells its oddities.
    fn told(read: Result<(Self, Oddities)>, path: &Path) -> Result<Self> {
        let (annotations, oddities) = read.map_err(|error| anyhow!("{}: {error:#}", path.display()))?;
        if let Some(told) = oddities.told() {
            tracing::warn!("{}: {told}", path.display());
        }
        Ok(annotations)
    }

    fn found_in(mut self, images: &Images) -> Self {
        for image in &mut self.images {
            let in_split =
                image.in_split.take().filter(|name| !images.has(&image.file_name) && images.has(name));
            image.file_name = in_split.unwrap_or_else(|| std::mem::take(&mut image.file_name));
        }
        self
    }

    fn parse(text: &str) -> Result<(Self, Oddities)> {
        let text = raw::without_nan(text);
        let file = serde_json::from_str(&text).or_else(|_| {
            // Again, for the place in the lists: the whole file may be one line.
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text))
        });
        Self::of_file(file.context(NO_ANNOTATIONS)?)
    }

    fn of_file(file: raw::File) -> Result<(Self, Oddities)> {
        let mut oddities = Oddities::default();
        let (categories, category_ids) = categories_of(file.categories, &file.annotations, &mut oddities)?;
        let (images, image_places) = images_of(file.images, &category_ids, &mut oddities)?;
        let mut annotations = Self { images, objects: Vec::new(), categories };
        annotations.add_objects(file.annotations, &image_places, &category_ids, &mut oddities)?;
        Ok((annotations, oddities))
    }

    fn add_objects(
        &mut self,
        found: Vec<raw::Annotation>,
        image_places: &HashMap<Id, usize>,
        category_ids: &HashMap<Id, u64>,
        oddities: &mut Oddities,
    ) -> Result<()> {
        let mut ids = ObjectIds::beside(&found);
        for (place, annotation) in found.into_iter().enumerate() {
            let name = annotation.id.as_ref().map_or_else(|| format!("number {}", place + 1), Id::to_string);
            let image = *image_places.get(&annotation.image_id).with_context(|| {
                format!(
                    "annotation {name} refers to image {}, which is not there: add it to \"images\"",
                    annotation.image_id
                )
            })?;
            let category = match &annotation.category_id {
                None => None,
                Some(id) => Some(*category_ids.get(id).with_context(|| {
                    format!(
                        "annotation {name} is of image {} and category {id}, which is not in \"categories\": add it there",
                        annotation.image_id
                    )
                })?),
            };
            let of = &self.images[image];
            let about = || format!("annotation {name} of image {} ({})", annotation.image_id, of.file_name);
            let (annotated, corners) = match box_of(&annotation.bbox.0, of.size) {
                Ok(found) => found,
                Err(oddity) => {
                    oddities.add(oddity, about);
                    continue;
                }
            };
            if reaches_out(annotated, of.size) {
                oddities.add("boxes cut to their images, out of which they reach", about);
            }
            let (id, is_new) = ids.of(&annotation);
            if is_new && annotation.id.is_some() {
                oddities.add("annotations with a new id, since theirs is no number or there twice", about);
            }
            let area = Some(annotation.area.0).filter(|area| area.is_finite() && *area >= 0.0);
            let score = Some(annotation.score.0 as f32).filter(|score| score.is_finite());
            self.objects.push(Object {
                id,
                image,
                category,
                annotated,
                corners,
                area: area.unwrap_or(annotated[2] * annotated[3]),
                crowd: annotation.iscrowd.0,
                ignored: annotation.ignore.0,
                score,
                place,
            });
        }
        Ok(())
    }

    /// The objects of each image, in the images' order.
    pub fn by_image(&self) -> Vec<Vec<&Object>> {
        let mut objects = vec![Vec::new(); self.images.len()];
        self.objects.iter().for_each(|object| objects[object.image].push(object));
        objects
    }
}

/// Gives ids to annotations that have none of their own.
struct ObjectIds {
    seen: HashSet<u64>,
    next: u64,
}

impl ObjectIds {
    /// New ids are above all that these annotations have.
    fn beside(annotations: &[raw::Annotation]) -> Self {
        let own = annotations.iter().filter_map(|annotation| annotation.id.as_ref().and_then(number_of));
        Self { seen: HashSet::new(), next: own.max().map_or(1, |most| most.saturating_add(1)) }
    }

    /// An annotation's id, and whether it is a new one.
    fn of(&mut self, annotation: &raw::Annotation) -> (u64, bool) {
        match annotation.id.as_ref().and_then(number_of).filter(|id| self.seen.insert(*id)) {
            Some(id) => (id, false),
            None => {
                self.next += 1;
                (self.next - 1, true)
            }
        }
    }
}

/// The text of an annotation file, without a byte order mark.
fn read_text(path: &Path) -> Result<String> {
    let unreadable = || format!("cannot read the annotations {}", path.display());
    let bytes = fs::read(path).with_context(unreadable)?;
    let kind = match bytes[..] {
        [0x1f, 0x8b, ..] => "it is compressed by gzip: unpack it first",
        [b'P', b'K', 3, 4, ..] => "it is a ZIP archive: unpack it first",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16: save it as UTF-8",
        _ => "it is no UTF-8 text",
    };
    let text = String::from_utf8(bytes).map_err(|_| anyhow!(kind)).with_context(unreadable)?;
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

/// A number of its own for each id: itself where it is a number from 0 on, or one behind them.
fn numbered<'a>(ids: impl Iterator<Item = &'a Id> + Clone) -> HashMap<Id, u64> {
    let mut next = ids.clone().filter_map(number_of).max().map_or(1, |most| most.saturating_add(1));
    let mut numbers = HashMap::new();
    for id in ids {
        numbers.entry(id.clone()).or_insert_with(|| {
            number_of(id).unwrap_or_else(|| {
                next += 1;
                next - 1
            })
        });
    }
    numbers
}

fn number_of(id: &Id) -> Option<u64> {
    match id {
        Id::Number(number) => u64::try_from(*number).ok(),
        Id::Text(_) => None,
    }
}

/// The categories, those of one name as one, and the number of each id.
fn categories_of(
    found: Vec<raw::Category>,
    annotations: &[raw::Annotation],
    oddities: &mut Oddities,
) -> Result<(Vec<Category>, HashMap<Id, u64>)> {
    let used: HashSet<&Id> =
        annotations.iter().filter_map(|annotation| annotation.category_id.as_ref()).collect();
    let mut numbers = numbered(found.iter().map(|category| &category.id));
    let mut by_name: HashMap<String, u64> = HashMap::new();
    // The one that has annotations gives its number: Roboflow's root category has none, and may have a real one's name.
    for is_used in [true, false] {
        for category in found.iter().filter(|category| used.contains(&category.id) == is_used) {
            by_name.entry(prompts::clean(&category.name.0)).or_insert(numbers[&category.id]);
        }
    }
    let mut seen: HashMap<Id, String> = HashMap::new();
    let mut taken = HashSet::new();
    let mut categories = Vec::with_capacity(found.len());
    for (place, raw::Category { id, name, frequency }) in found.into_iter().enumerate() {
        let caption = prompts::clean(&name.0);
        if let Some(other) = seen.insert(id.clone(), caption.clone()).filter(|other| *other != caption) {
            bail!("the categories {other:?} and {:?} both have the id {id}: give each its own", name.0);
        }
        let number = by_name[&caption];
        if numbers.insert(id.clone(), number) != Some(number) {
            oddities
                .add("categories taken as one with another of their name", || format!("{id} ({:?})", name.0));
        }
        // In the place of the one that gave the number.
        if number_is_of(&id, number, &numbers) && taken.insert(number) {
            categories.push(Category { id: number, name: name.0, frequency, place });
        }
    }
    Ok((categories, numbers))
}

/// Whether a number is an id's own, or given to it alone.
fn number_is_of(id: &Id, number: u64, numbers: &HashMap<Id, u64>) -> bool {
    number_of(id).map_or_else(|| numbers.get(id) == Some(&number), |own| own == number)
}

/// The images, and the place of each id.
fn images_of(
    found: Vec<raw::Image>,
    category_ids: &HashMap<Id, u64>,
    oddities: &mut Oddities,
) -> Result<(Vec<Image>, HashMap<Id, usize>)> {
    let numbers = numbered(found.iter().map(|image| &image.id));
    let mut places: HashMap<Id, usize> = HashMap::new();
    let mut images: Vec<Image> = Vec::with_capacity(found.len());
    for (place, image) in found.into_iter().enumerate() {
        let own_name = image.file_name.clone().filter(|name| !name.is_empty());
        let address = image.coco_url.as_deref().filter(|_| own_name.is_none());
        let of_address = || address?.rsplit('/').next().map(str::to_owned);
        let in_split = address.and_then(|address| {
            let mut parts = address.rsplitn(3, '/');
            let (name, split) = (parts.next()?, parts.next()?);
            (!matches!(split, "" | "." | "..")).then(|| format!("{split}/{name}"))
        });
        let named = own_name.or_else(of_address);
        let file_name = named.with_context(|| {
            format!("image {} names no file: it needs a file_name, or LVIS's coco_url", image.id)
        })?;
        let categories = |ids: &[Id]| ids.iter().filter_map(|id| category_ids.get(id).copied()).collect();
        let normal = Image {
            id: numbers[&image.id],
            // As Windows writes it.
            file_name: if file_name.contains('/') { file_name } else { file_name.replace('\\', "/") },
            in_split,
            size: size_of(image.width.0, image.height.0),
            exhaustive: image.exhaustive.is_none_or(|flag| flag.0),
            negative_categories: categories(&image.neg_category_ids),
            not_exhaustive_categories: categories(&image.not_exhaustive_category_ids),
            place,
        };
        if let Some(&earlier) = places.get(&image.id) {
            let other = &images[earlier].file_name;
            ensure!(
                *other == normal.file_name,
                "the images {other} and {} both have the id {}: nobody can tell whose the annotations are; give each image \
                 its own id",
                normal.file_name,
                image.id
            );
            oddities.add("images listed twice", || normal.file_name.clone());
            continue;
        }
        places.insert(image.id, images.len());
        images.push(normal);
    }
    Ok((images, places))
}

fn size_of(width: f64, height: f64) -> Option<[u32; 2]> {
    let side = |length: f64| (length >= 1.0 && length <= f64::from(u32::MAX)).then_some(length as u32);
    Some([side(width)?, side(height)?])
}

/// A box as it was annotated and cut to its image, or what is odd about it.
fn box_of(sides: &[f64], size: Option<[u32; 2]>) -> Result<([f64; 4], [f32; 4]), &'static str> {
    let Ok(annotated) = <[f64; 4]>::try_from(sides) else {
        return Err("annotations left out, which have no box of four numbers");
    };
    let [x, y, width, height] = annotated;
    if !annotated.iter().all(|side| side.is_finite() && side.abs() < 1e9) {
        return Err("annotations left out, whose boxes have sides that are no numbers");
    }
    if width <= 0.0 || height <= 0.0 {
        return Err("annotations left out, whose boxes have no area or a negative side");
    }
    let [right, bottom] = size.map_or([f64::INFINITY; 2], |size| size.map(f64::from));
    let cut =
        [x.max(0.0), y.max(0.0), (x + width).min(right), (y + height).min(bottom)].map(|side| side as f32);
    if cut[2] <= cut[0] || cut[3] <= cut[1] {
        return Err("annotations left out, whose boxes lie outside of their images");
    }
    Ok((annotated, cut))
}

fn reaches_out([x, y, width, height]: [f64; 4], size: Option<[u32; 2]>) -> bool {
    let is_beyond = size.is_some_and(|[right, bottom]| {
        x + width > f64::from(right) + ROUNDING || y + height > f64::from(bottom) + ROUNDING
    });
    x < -ROUNDING || y < -ROUNDING || is_beyond
}

impl Oddities {
    fn add(&mut self, kind: &'static str, which: impl FnOnce() -> String) {
        let (count, named) = self.0.entry(kind).or_default();
        *count += 1;
        if named.len() < NAMED {
            named.push(which());
        }
    }

    /// All oddities in one line, if there are any.
    fn told(&self) -> Option<String> {
        let mut told = String::new();
        for (kind, (count, named)) in &self.0 {
            let more = if *count > named.len() { ", ..." } else { "" };
            let separator = if told.is_empty() { "" } else { "; " };
            write!(told, "{separator}{count} {kind}: {}{more}", named.join(", ")).ok()?;
        }
        (!told.is_empty()).then_some(told)
    }
}

#[cfg(test)]
mod tests;
