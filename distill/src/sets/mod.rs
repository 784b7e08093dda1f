//! Annotated photographs of any number of sets, as training takes them.
//!
//! Reads a `sets.toml` that names the sets, each in its own format, and what is complete in each. [`Sets`] is one list
//! of photographs and one list of words; a [`Loader`] makes batches of augmented pictures of them in the order of the
//! training's steps.
//!
//! A set is annotated for its own words only. A zebra in a photograph of a set without zebras is neither a zebra nor
//! background there. So every picture says which rectangle of it belongs to which set ([`Tile`]), and
//! [`Set::complete_for`] says which words are known to be absent where no box has them.

mod augment;
mod cache;
mod coco;
mod colour;
mod cutouts;
mod file;
mod folder;
mod imagenet;
mod loader;
mod order;
mod picture;
pub mod show;
#[cfg(test)]
mod tests;
mod view;
mod voc;
mod words;
mod yolo;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use rayon::prelude::*;
use wordsight_files::Inputs;

use crate::coco::{Annotation, Category, Dataset, Image};
use crate::embed::Embedded;
use crate::images::Images;
use crate::mistake::Mistake;
use crate::photographs::{Unreadable, open_picture};
use cutouts::Cutout;
use file::{Complete, Format, SetEntry, SetsFile};
use words::WordTable;

pub use augment::Augmentation;
pub use loader::{Loader, LoaderSettings, Phase};
pub use picture::{Tile, TrainingImage, TrainingObject};

/// Any number of annotated sets side by side.
pub struct Sets {
    /// The words of all sets, each once; synonyms are one word.
    pub words: Vec<String>,
    /// The sets, in the file's order.
    pub sets: Vec<Set>,
    /// The photographs of all sets, set after set.
    pub photographs: Vec<Photograph>,
    cutouts: Vec<Cutout>,
    /// Files and folders of annotations that were read.
    annotations: Vec<PathBuf>,
}

/// One annotated set.
pub struct Set {
    /// Its name in the file.
    pub name: String,
    /// Places in [`Sets::words`], ascending: every object of these is annotated in the set's photographs (or ignored);
    /// of other words nothing is known where no box has them.
    pub complete_for: Vec<usize>,
    /// Whether a place without a box is known to show nothing that anybody would annotate.
    pub exhaustive: bool,
    /// How often each photograph is seen an epoch.
    pub weight: f32,
    /// Its photographs: places in [`Sets::photographs`].
    pub photographs: Range<usize>,
    /// Where they lie, if in tar shards.
    shards: Option<Images>,
    embeddings: Option<Embeddings>,
}

/// The teacher's embeddings of a set's proposals.
struct Embeddings {
    table: Embedded,
    /// The row of the first box of the first image among all sets' rows.
    first_row: usize,
}

/// One photograph and what is annotated in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Photograph {
    /// Its file; in a tar shard, the shard with its member behind it.
    pub path: PathBuf,
    /// What it is called in its set's shards, if it lies there.
    in_shards: Option<String>,
    /// The place of its set in [`Sets::sets`].
    pub set: usize,
    /// Width and height in pixels that the annotations are in; none: the file's own.
    pub size: Option<[u32; 2]>,
    /// Its objects.
    pub objects: Vec<AnnotatedObject>,
    /// Boxes `[x1, y1, x2, y2]` of crowds and of what the annotators marked as not to be counted.
    pub ignored: Vec<[f32; 4]>,
    /// Its place among the images of its set's embeddings.
    embedded: Option<usize>,
}

/// One annotated object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnnotatedObject {
    /// `[x1, y1, x2, y2]` in the photograph's pixels.
    pub box_in_photograph: [f32; 4],
    /// Its word's place in [`Sets::words`]; none: an object without a name.
    pub word: Option<usize>,
    /// How sure the annotation is: 1, or the score of the detector that made it.
    pub weight: f32,
}

/// What a reader of one format hands over: the words are the set's own.
#[derive(Debug, Default)]
struct Annotations {
    words: Vec<String>,
    photographs: Vec<Annotated>,
    shards: Option<Images>,
}

/// One photograph as a reader found it; its objects' words are places in [`Annotations::words`].
#[derive(Debug, Default)]
struct Annotated {
    /// What lists of photographs may call it, beside its file's name.
    id: String,
    photograph: Photograph,
}

impl Sets {
    /// Reads a `sets.toml`; paths in it are relative to it.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_with_roots(path, &[])
    }

    /// Reads a `sets.toml` with folders for the `{name}`s that its paths may begin with; they go before those of the
    /// file's own `[roots]`.
    pub fn load_with_roots(path: &Path, roots: &[(String, PathBuf)]) -> Result<Self> {
        let file = SetsFile::load(path, roots).map_err(|error| Mistake::of(&error))?;
        let mut words = WordTable::new()?;
        let mut sets = Self {
            words: Vec::new(),
            sets: Vec::new(),
            photographs: Vec::new(),
            cutouts: Vec::new(),
            annotations: Vec::new(),
        };
        let mut rows = 0;
        for entry in &file.sets {
            let about = || format!("{}: the set {}", path.display(), entry.name);
            ensure!(
                sets.sets.iter().all(|set| set.name != entry.name),
                Mistake::new(format!("{} is there twice; give one of them another name", about()))
            );
            sets.add(&file, entry, &mut words, &mut rows).with_context(about)?;
        }
        for entry in &file.cutouts {
            let cutouts = cutouts::read(&file, entry, &mut words);
            sets.cutouts.extend(cutouts.with_context(|| format!("{}: cutouts", path.display()))?);
        }
        ensure!(!sets.photographs.is_empty(), "{}: its sets have no photographs", path.display());
        sets.words = words.into_words();
        let objects: usize = sets.photographs.iter().map(|photograph| photograph.objects.len()).sum();
        tracing::info!(
            "{} photographs with {objects} objects of {} words in {} sets, and {} cutouts",
            sets.photographs.len(),
            sets.words.len(),
            sets.sets.len(),
            sets.cutouts.len()
        );
        Ok(sets)
    }

    fn add(
        &mut self,
        file: &SetsFile,
        entry: &SetEntry,
        words: &mut WordTable,
        rows: &mut usize,
    ) -> Result<()> {
        let mut annotations = match entry.format {
            Format::Coco => coco::read(file, entry)?,
            Format::Voc => voc::read(file, entry)?,
            Format::Yolo => yolo::read(file, entry)?,
            Format::Imagenet => imagenet::read(file, entry)?,
            Format::Folder => folder::read(file, entry)?,
        };
        self.annotations.extend(entry.annotations(file).ok());
        let taken = select(&mut annotations, file, entry, words)?;
        let places: Vec<Option<usize>> = taken
            .iter()
            .zip(&annotations.words)
            .map(|(taken, word)| taken.then(|| words.place(entry.renamed(word))))
            .collect();
        let completed = entry.completed_words(file)?;
        let complete_for = complete_for(&places, &completed, entry, words)?;
        let set = self.sets.len();
        let embeddings = match &entry.embeddings {
            Some(folder) => {
                Some(Embeddings { table: Embedded::open(&file.resolve(folder)?)?, first_row: *rows })
            }
            None => None,
        };
        let embedded = embeddings.as_ref().map(Embeddings::images).unwrap_or_default();
        if let Some(Embeddings { table, .. }) = &embeddings {
            *rows += table.images() * table.per_image();
            self.check_teacher(table)?;
        }
        let first = self.photographs.len();
        self.photographs.extend(annotations.photographs.into_iter().map(
            |Annotated { mut photograph, .. }| {
                photograph.set = set;
                photograph.embedded = embedded.get(&photograph.file_name()).copied();
                for object in &mut photograph.objects {
                    object.word = object.word.and_then(|word| places[word]);
                }
                photograph
            },
        ));
        self.sets.push(Set {
            name: entry.name.clone(),
            complete_for,
            exhaustive: entry.complete == Complete::Exhaustive,
            weight: entry.weight,
            photographs: first..self.photographs.len(),
            shards: annotations.shards,
            embeddings,
        });
        Ok(())
    }

    /// The sets without the photographs and cutouts that can't be read, where these are to be left out: each is read once
    /// for it.
    ///
    /// # Errors
    /// When none is left.
    pub fn readable(mut self, unreadable: Unreadable) -> Result<Self> {
        if unreadable == Unreadable::Refused {
            return Ok(self);
        }
        let can_be_read = |photograph: &Photograph| Ok(unreadable.take(self.picture(photograph))?.is_some());
        let kept: Vec<bool> = self.photographs.par_iter().map(can_be_read).collect::<Result<_>>()?;
        let place = |before: usize| kept[..before].iter().filter(|kept| **kept).count();
        for set in &mut self.sets {
            set.photographs = place(set.photographs.start)..place(set.photographs.end);
        }
        let mut is_kept = kept.iter();
        self.photographs.retain(|_| is_kept.next() == Some(&true));
        ensure!(!self.photographs.is_empty(), "none of the {} photographs can be read", kept.len());
        let cutouts = std::mem::take(&mut self.cutouts).into_iter().map(|cutout| {
            let is_kept = unreadable.take(cutout.picture().map(drop))?.is_some();
            Ok(is_kept.then_some(cutout))
        });
        self.cutouts = cutouts.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        Ok(self)
    }

    /// A photograph's pixels.
    ///
    /// # Errors
    /// When it can't be read.
    fn picture(&self, photograph: &Photograph) -> Result<RgbImage> {
        match (&photograph.in_shards, &self.sets[photograph.set].shards) {
            (Some(name), Some(shards)) => shards.picture(name, None),
            _ => open_picture(&photograph.path),
        }
    }

    /// What was read for them, beside the list itself.
    pub fn inputs(&self, list: &Path) -> Inputs {
        let mut inputs = Inputs::of([list]);
        self.annotations.iter().for_each(|path| inputs.add(path));
        self.photographs.iter().for_each(|photograph| inputs.add_pictures(&photograph.path));
        inputs
    }

    fn check_teacher(&self, table: &Embedded) -> Result<()> {
        let Some(teacher) = self.teacher() else { return Ok(()) };
        ensure!(
            teacher == table.teacher(),
            Mistake::new(format!(
                "its embeddings are of the teacher {}, an earlier set's of {teacher}; embed both with one teacher",
                table.teacher()
            ))
        );
        Ok(())
    }

    /// One of the sets as annotations, with file names relative to the folder `images`.
    pub fn dataset(&self, name: &str, images: &Path) -> Result<Dataset> {
        let set = self.sets.iter().find(|set| set.name == name).with_context(|| {
            let names: Vec<&str> = self.sets.iter().map(|set| set.name.as_str()).collect();
            Mistake::new(format!("there is no set {name:?}; there are {names:?}"))
        })?;
        let mut dataset = Dataset::default();
        let words = self.words.iter().zip(1..);
        dataset.categories = words.map(|(name, id)| Category { id, name: name.clone() }).collect();
        for (photograph, id) in self.photographs[set.photographs.clone()].iter().zip(1..) {
            let in_folder = || {
                let file_name = photograph.path.strip_prefix(images).with_context(|| {
                    format!("{} does not lie in {}", photograph.path.display(), images.display())
                })?;
                anyhow::Ok(file_name.to_string_lossy().into_owned())
            };
            let file_name = photograph.in_shards.clone().map_or_else(in_folder, Ok)?;
            let [width, height] = match (photograph.size, &set.shards) {
                (Some(size), _) => size,
                (None, Some(shards)) => shards.size_of(&file_name)?.into(),
                (None, None) => wordsight_pictures::size_of(&photograph.path)?.into(),
            };
            dataset.images.push(Image { id, file_name, width, height, exhaustive: set.exhaustive });
            for object in &photograph.objects {
                let ([x1, y1, x2, y2], Some(word)) = (object.box_in_photograph, object.word) else {
                    continue;
                };
                dataset.annotations.push(Annotation {
                    id: dataset.annotations.len() as u64 + 1,
                    image_id: id,
                    category_id: word as u64 + 1,
                    bbox: [x1, y1, x2 - x1, y2 - y1],
                    area: (x2 - x1) * (y2 - y1),
                    iscrowd: 0,
                });
            }
        }
        Ok(dataset)
    }

    /// Whose embeddings the sets have, if any has.
    pub fn teacher(&self) -> Option<&str> {
        self.tables().next().map(|embeddings| embeddings.table.teacher())
    }

    /// Numbers in a teacher's embedding; 0 where no set has embeddings.
    pub fn embedding_size(&self) -> usize {
        self.tables().next().map_or(0, |embeddings| embeddings.table.embedding_size())
    }

    /// The embedding in a row of the table, of length 1; none where there is no such row, or the teacher saw nothing there.
    pub fn embedding(&self, row: usize) -> Option<Vec<f32>> {
        let Embeddings { table, first_row } = self.tables().filter(|table| table.first_row <= row).last()?;
        let (image, place) = ((row - first_row) / table.per_image(), (row - first_row) % table.per_image());
        let embedding = (image < table.images()).then(|| table.embedding(image, place))?;
        embedding.iter().any(|value| *value != 0.0).then_some(embedding)
    }

    fn tables(&self) -> impl Iterator<Item = &Embeddings> {
        self.sets.iter().filter_map(|set| set.embeddings.as_ref())
    }

    /// The boxes `[x1, y1, x2, y2]` of a photograph, in its file's pixels, that the teacher has looked at, and their
    /// rows.
    fn teacher_regions(&self, photograph: &Photograph) -> Vec<([f32; 4], usize)> {
        let embeddings = self.sets[photograph.set].embeddings.as_ref();
        let (Some(Embeddings { table, first_row }), Some(image)) = (embeddings, photograph.embedded) else {
            return Vec::new();
        };
        let boxes = table.boxes_in_image(image).into_iter().zip(first_row + image * table.per_image()..);
        boxes.filter(|([x1, y1, x2, y2], _)| x2 > x1 && y2 > y1).collect()
    }
}

impl Photograph {
    /// What it is called among its set's embeddings.
    fn file_name(&self) -> String {
        file_name(self.in_shards.as_deref().map_or(&self.path, Path::new))
    }
}

impl Annotated {
    /// What lists of photographs may call it.
    fn names(&self) -> [String; 3] {
        let name = self.photograph.file_name();
        let stem = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        [self.id.clone(), name, stem]
    }
}

impl Embeddings {
    /// The place of each image by its file's name.
    fn images(&self) -> HashMap<String, usize> {
        let names = self.table.file_names().iter().map(|name| file_name(Path::new(name)));
        names.zip(0..).collect()
    }
}

/// A box in other units along x and y.
fn scaled([x1, y1, x2, y2]: [f32; 4], [x, y]: [f32; 2]) -> [f32; 4] {
    [x1 * x, y1 * y, x2 * x, y2 * y]
}

/// A box cut to its photograph, if its size is known; none where nothing is left of it.
fn clipped([x1, y1, x2, y2]: [f32; 4], size: Option<[u32; 2]>) -> Option<[f32; 4]> {
    let [width, height] = size.map_or([f32::MAX; 2], |size| size.map(|side| side as f32));
    let is_finite = [x1, y1, x2, y2].iter().all(|side| side.is_finite());
    view::intersection([x1, y1, x2, y2], [0.0, 0.0, width, height]).filter(|_| is_finite)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Leaves out the photographs and the boxes that the file leaves out. Says which of the set's words are left.
fn select(
    annotations: &mut Annotations,
    file: &SetsFile,
    entry: &SetEntry,
    words: &WordTable,
) -> Result<Vec<bool>> {
    let Annotations { words: own, photographs, .. } = annotations;
    if let Some(split) = &entry.split {
        let split = file.photographs_named(split)?;
        photographs.retain(|annotated| annotated.names().iter().any(|name| split.contains(name)));
        ensure!(
            !photographs.is_empty(),
            Mistake::new("none of its photographs is in `split`: compare the names")
        );
    }
    if let Some(left_out) = &entry.leave_out {
        let left_out = file.photographs_named(left_out)?;
        photographs.retain(|annotated| !annotated.names().iter().any(|name| left_out.contains(name)));
    }
    let canonical = |word: &'_ String| words.canonical(entry.renamed(word)).to_owned();
    let left_out: HashSet<String> = entry.leave_out_words.iter().map(canonical).collect();
    let left_out: Vec<bool> = own.iter().map(|word| left_out.contains(&canonical(word))).collect();
    photographs.retain(|Annotated { photograph, .. }| {
        !photograph.objects.iter().any(|object| object.word.is_some_and(|word| left_out[word]))
    });
    let Some(only) = entry.only_words(file)? else {
        return Ok(left_out.iter().map(|left_out| !left_out).collect());
    };
    let only: HashSet<String> = only.iter().map(canonical).collect();
    let taken: Vec<bool> = own
        .iter()
        .zip(left_out)
        .map(|(word, left_out)| !left_out && only.contains(&canonical(word)))
        .collect();
    ensure!(taken.contains(&true), Mistake::new("none of its words is in `only_words`: compare the names"));
    for Annotated { photograph, .. } in photographs {
        photograph.objects.retain(|object| object.word.is_none_or(|word| taken[word]));
    }
    Ok(taken)
}

/// The places of the words that a set is complete for; `completed`: those that a detector has completed.
fn complete_for(
    own: &[Option<usize>],
    completed: &[String],
    entry: &SetEntry,
    words: &WordTable,
) -> Result<Vec<usize>> {
    let mut places: Vec<usize> = match (&entry.complete_for, entry.complete) {
        (Some(listed), _) => {
            let listed = listed.iter().map(|word| {
                let place = words.find(word).filter(|place| own.contains(&Some(*place)));
                place.with_context(|| {
                    Mistake::new(format!("it is `complete_for` {word:?}, which is none of its words"))
                })
            });
            listed.collect::<Result<_>>()?
        }
        (None, Complete::Exhaustive | Complete::ItsWords) => own.iter().copied().flatten().collect(),
        (None, Complete::PositivesOnly) => Vec::new(),
    };
    // The detector's words are those of other sets; of one it may have found nothing here.
    for word in completed {
        places.push(words.find(word).with_context(|| {
            Mistake::new(format!(
                "it is `completed_for` {word:?}, which is no word of it or of the sets before it"
            ))
        })?);
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

/// Checks that every photograph's file is there; a list of files of the folder would not see sub-folders.
fn check_files(photographs: &[Annotated], shards: Option<&Images>) -> Result<()> {
    let is_there = |photograph: &Photograph| match (&photograph.in_shards, shards) {
        (Some(name), Some(shards)) => shards.has(name),
        _ => photograph.path.is_file(),
    };
    let missing: Vec<&Path> = photographs
        .iter()
        .filter(|annotated| !is_there(&annotated.photograph))
        .map(|annotated| annotated.photograph.path.as_path())
        .collect();
    let Some(first) = missing.first() else { return Ok(()) };
    bail!(
        "{} of its {} photographs are not there, the first {}; is `images` the folder that the annotations' names are \
         relative to?",
        missing.len(),
        photographs.len(),
        first.display()
    )
}
