//! The teacher's embeddings of proposals, which the image loss learns from, computed once.
//!
//! There are two steps, each into a folder of its own. [`propose`] takes images and writes boxes, from the annotations
//! (each object's box and some moved copies) and from a student's proposal head. [`embed`] takes those boxes and a
//! teacher and writes embeddings (ViLD, arXiv 2104.13921, section 3.3: computing them during training would make the
//! method unaffordable). Instead of a teacher that looks at crops, a large student may teach: one pass an image gives it
//! a region for each box. Both are a [`Table`] with a row an image, so both resume, can be split into shards and
//! merged.
//!
//! Images need no labels for this: a photograph that nobody annotated teaches as well.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use memmap2::Mmap;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use wordsight_detection::{Preprocessor, iou};
use wordsight_engines::{CpuEngine, Engine, Placement, Regions, StudentOutput};
use wordsight_files::Durability;
use wordsight_teacher::Teacher;

use crate::annotations::{self, Annotations};
use crate::coco::{Dataset, Image};
use crate::images::Images;
use crate::label::answers::AnswerManifest;
use crate::mistake::Mistake;
use crate::photographs::{Unreadable, check_size};
use crate::table::{self, Shard, Table};

/// Two proposals that overlap by more than this are one.
const SAME_PROPOSAL_IOU: f32 = 0.7;
/// Shorter sides than this many pixels show the teacher nothing.
const LEAST_SIDE: f32 = 4.0;
/// A moved box's side lies within this share of its length from the object's.
const MOST_MOVED: f32 = 0.2;
/// Images that a folder's rows belong to.
pub const IMAGES: &str = "images.json";
/// Bytes of the digest that a row of proposals ends in.
const DIGEST_BYTES: usize = 64;
/// Bytes of a box.
const BOX_BYTES: usize = 16;

/// Where proposals come from.
#[derive(Clone, Debug)]
pub struct ProposalSettings<'a> {
    /// Boxes an image; where there are fewer, empty ones follow.
    pub per_image: usize,
    /// Take annotated objects' own boxes, and this many moved copies of each; none: leave them out.
    pub moved_copies: Option<usize>,
    /// Take what this student proposes, best first.
    pub student: Option<&'a Path>,
    /// The seed of everything random.
    pub seed: u64,
    /// What becomes of images that can't be read; those that are left out get no boxes, and are tried again next time.
    pub unreadable: Unreadable,
}

/// What a folder of proposals is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ProposalManifest {
    per_image: usize,
    images: usize,
    /// SHA-256 over the student and the settings; in folders of before, over the annotations too.
    proposals: String,
    /// Whether each row ends in a digest of the image's name and annotations that it was made of, so that a repaired
    /// annotation file makes nothing else anew.
    #[serde(default)]
    has_digests: bool,
}

/// What a folder of embeddings is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct EmbeddingManifest {
    per_image: usize,
    images: usize,
    proposals: String,
    teacher: String,
    embedding_size: usize,
}

/// Writes proposals for the images of an annotation file, or for a shard of them, to the folder `output`.
pub fn propose(
    annotations: &Path,
    images: &Images,
    settings: &ProposalSettings<'_>,
    shard: Shard,
    output: &Path,
) -> Result<()> {
    ensure!(
        settings.student.is_some() || settings.moved_copies.is_some(),
        Mistake::new(
            "proposals come from a --student, from the annotations (--moved-copies), or both: name one"
        )
    );
    ensure!(settings.per_image > 0, Mistake::new("--per-image must be at least 1"));
    let found = Annotations::load_with_images(annotations, images)?;
    let student = match settings.student {
        Some(path) => {
            fs::read(path).with_context(|| format!("cannot read the student {}", path.display()))?
        }
        None => Vec::new(),
    };
    let drawn = format!("{:?} {}", settings.moved_copies, settings.seed);
    let manifest = ProposalManifest {
        per_image: settings.per_image,
        images: found.images.len(),
        proposals: table::digest(&[&student, drawn.as_bytes()]),
        has_digests: true,
    };
    table::start_or_resume(output, &manifest, "proposals")?;
    write_images(&Dataset::from(&found).images, output)?;

    let objects = found.by_image();
    let mut workers: Vec<Option<Proposer>> = (0..table::workers())
        .map(|_| settings.student.map(|student| Proposer::open(student, 1.into())).transpose())
        .collect::<Result<_>>()?;
    let digests: Vec<Vec<u8>> =
        found.images.iter().zip(&objects).map(|(image, objects)| digest_of(image, objects)).collect();
    let is_current = |index: usize, row: &[u8]| row.ends_with(&digests[index]);
    let table = proposals_table(output, &manifest);
    table.append_missing(shard, "proposals", &mut workers, is_current, |proposer, index| {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        rng.set_stream(index as u64);
        let image = &found.images[index];
        let boxes = boxes_of(image, images, &objects[index], settings, proposer, &mut rng);
        let Some(mut boxes) = settings.unreadable.take(boxes)? else {
            return Ok(vec![0; table.row_bytes]);
        };
        boxes.resize(settings.per_image, [0.0; 4]);
        let sides = boxes.iter().flatten().flat_map(|side| side.to_le_bytes());
        Ok(sides.chain(digests[index].iter().copied()).collect())
    })
}

/// The proposals of one image: annotated ones, moved copies of them, and a student's.
fn boxes_of(
    image: &annotations::Image,
    images: &Images,
    objects: &[&annotations::Object],
    settings: &ProposalSettings<'_>,
    proposer: &mut Option<Proposer>,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<[f32; 4]>> {
    let name = &image.file_name;
    let picture = proposer.as_ref().map(|_| images.picture(name, image.size)).transpose()?;
    let (width, height) = match &picture {
        Some(picture) => picture.dimensions(),
        None => images.size_of(name)?,
    };
    check_size(&images.path_of(name), (width, height), image.size)?;
    let mut boxes = Vec::new();
    if let Some(copies) = settings.moved_copies {
        let single = objects.iter().filter(|object| !object.crowd);
        let corners: Vec<[f32; 4]> = single.map(|object| object.corners).collect();
        boxes.extend(annotated(&corners, copies, [width as f32, height as f32], settings.per_image, rng));
    }
    if let (Some(proposer), Some(picture)) = (proposer, &picture) {
        for proposal in proposer.propose(picture)? {
            add_new(&mut boxes, proposal);
        }
    }
    Ok(boxes)
}

/// What an image's row is made of, beside the student and the settings.
fn digest_of(image: &annotations::Image, objects: &[&annotations::Object]) -> Vec<u8> {
    let single = objects.iter().filter(|object| !object.crowd);
    let corners: Vec<u8> =
        single.flat_map(|object| object.corners).flat_map(|side| side.to_le_bytes()).collect();
    let size = format!("{:?}", image.size);
    table::digest(&[image.file_name.as_bytes(), size.as_bytes(), &corners]).into_bytes()
}

/// What embeds boxes of a photograph, on one thread.
pub trait EmbedBoxes: Send {
    /// In whose space the embeddings are.
    fn teacher(&self) -> String;

    /// The length of every embedding.
    fn embedding_size(&self) -> usize;

    /// Boxes `[x1, y1, x2, y2]` in pixels to embeddings of length 1, one each; zeros for a box that it has no region for.
    ///
    /// # Errors
    /// When the model fails.
    fn embed(&mut self, picture: &RgbImage, boxes: &[[f32; 4]]) -> Result<Vec<Vec<f32>>>;
}

impl EmbedBoxes for Teacher {
    fn teacher(&self) -> String {
        self.id().to_owned()
    }

    fn embedding_size(&self) -> usize {
        Teacher::embedding_size(self)
    }

    fn embed(&mut self, picture: &RgbImage, boxes: &[[f32; 4]]) -> Result<Vec<Vec<f32>>> {
        Ok(self.embed_crops(picture, boxes)?)
    }
}

/// A box that no region of a student overlaps by this IoU is one that the student has no embedding for.
const SAME_REGION_IOU: f32 = 0.5;

/// A student whose regions' embeddings teach another.
pub struct StudentRegions(Proposer);

impl StudentRegions {
    /// Opens a student.
    ///
    /// # Errors
    /// When the file is no student.
    pub fn open(student: &Path, placement: Placement) -> Result<Self> {
        Ok(Self(Proposer::open(student, placement)?))
    }
}

impl EmbedBoxes for StudentRegions {
    fn teacher(&self) -> String {
        self.0.engine.facts().teacher.clone()
    }

    fn embedding_size(&self) -> usize {
        self.0.engine.facts().embedding_size
    }

    fn embed(&mut self, picture: &RgbImage, boxes: &[[f32; 4]]) -> Result<Vec<Vec<f32>>> {
        let regions = self.0.boxes_of(picture)?;
        let (size, embeddings) = (self.embedding_size(), &self.0.regions.text_embeddings);
        let of_box = |sides: &[f32; 4]| {
            let overlaps = regions.iter().map(|region| iou(*region, *sides)).enumerate();
            let nearest = overlaps
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .filter(|(_, overlap)| *overlap >= SAME_REGION_IOU);
            nearest.map_or_else(|| vec![0.0; size], |(place, _)| embeddings[place * size..][..size].to_vec())
        };
        Ok(boxes.iter().map(of_box).collect())
    }
}

/// Writes embeddings of the proposals in the folder `proposals`, or of a shard of them, to the
/// folder `output`. `teachers`: one a worker.
pub fn embed(
    proposals: &Path,
    images: &Images,
    mut teachers: Vec<Box<dyn EmbedBoxes>>,
    unreadable: Unreadable,
    shard: Shard,
    output: &Path,
) -> Result<()> {
    let of = proposal_manifest(proposals)?;
    let boxes = proposals_table(proposals, &of).map()?;
    let list = read_images(proposals)?;
    let first = teachers.first().context("a teacher is needed")?;
    let manifest = EmbeddingManifest {
        per_image: of.per_image,
        images: of.images,
        proposals: of.proposals.clone(),
        teacher: first.teacher(),
        embedding_size: first.embedding_size(),
    };
    table::start_or_resume(output, &manifest, "embeddings")?;
    let earlier = read_images(output).unwrap_or_default();
    write_images(&list, output)?;

    let table = embeddings_table(output, &manifest);
    let row_bytes = proposals_table(proposals, &of).row_bytes;
    let boxes_of = |index: usize| &boxes[index * row_bytes..][..of.per_image * BOX_BYTES];
    let is_same_file =
        |index: usize| earlier.get(index).is_none_or(|image| image.file_name == list[index].file_name);
    let is_current = |index: usize, row: &[u8]| row.starts_with(boxes_of(index)) && is_same_file(index);
    table.append_missing(shard, "embeddings", &mut teachers, is_current, |teacher, index| {
        let boxes = read_boxes(boxes_of(index), of.per_image);
        let real: Vec<[f32; 4]> =
            boxes.iter().copied().filter(|&box_in_image| is_a_box(box_in_image)).collect();
        let image = &list[index];
        let size = (image.width > 0 && image.height > 0).then_some([image.width, image.height]);
        let Some(picture) = unreadable.take(images.picture(&image.file_name, size))? else {
            return Ok(vec![0; table.row_bytes]);
        };
        let embeddings = teacher.embed(&picture, &real).with_context(|| {
            format!("cannot embed the proposals of {}", images.path_of(&image.file_name).display())
        })?;
        let mut row: Vec<u8> = boxes.iter().flatten().flat_map(|side| side.to_le_bytes()).collect();
        // Empty boxes come last, and so do their zeros.
        row.extend(table::f16_bytes(&embeddings.concat()));
        row.resize(table.row_bytes, 0);
        Ok(row)
    })
}

/// Joins the shards of a folder of proposals, of embeddings or of a detector's answers; says how many images it covers.
pub fn merge(folder: &Path) -> Result<usize> {
    if let Ok(Some(manifest)) = table::read_manifest::<EmbeddingManifest>(folder) {
        return embeddings_table(folder, &manifest).merge();
    }
    if let Ok(Some(manifest)) = table::read_manifest::<AnswerManifest>(folder) {
        return manifest.table(folder).merge();
    }
    let manifest = proposal_manifest(folder)?;
    proposals_table(folder, &manifest).merge()
}

/// A teacher's embeddings of proposals, memory-mapped.
pub struct Embedded {
    manifest: EmbeddingManifest,
    file_names: Vec<String>,
    rows: Mmap,
}

impl Embedded {
    /// Opens a finished folder of embeddings.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest: EmbeddingManifest = table::read_manifest(folder)?.with_context(|| {
            format!("{} holds no embeddings; make them with `wordsight-distill embed`", folder.display())
        })?;
        let rows = embeddings_table(folder, &manifest).map()?;
        let file_names = read_images(folder)?.into_iter().map(|image| image.file_name).collect();
        Ok(Self { manifest, file_names, rows })
    }

    /// How many images have embeddings.
    pub fn images(&self) -> usize {
        self.manifest.images
    }

    /// Boxes an image, empty ones included.
    pub fn per_image(&self) -> usize {
        self.manifest.per_image
    }

    /// Numbers in an embedding.
    pub fn embedding_size(&self) -> usize {
        self.manifest.embedding_size
    }

    /// Whose embeddings they are.
    pub fn teacher(&self) -> &str {
        &self.manifest.teacher
    }

    /// The images, in the order of the rows.
    pub fn file_names(&self) -> &[String] {
        &self.file_names
    }

    /// An image's boxes `[x1, y1, x2, y2]` in its pixels; empty ones are padding and come last.
    pub fn boxes_in_image(&self, image: usize) -> Vec<[f32; 4]> {
        read_boxes(self.row(image), self.manifest.per_image)
    }

    /// The teacher's embedding of one of an image's boxes, of length 1; zeros where the box is empty.
    pub fn embedding(&self, image: usize, place: usize) -> Vec<f32> {
        let EmbeddingManifest { per_image, embedding_size, .. } = self.manifest;
        let mut embedding = Vec::with_capacity(embedding_size);
        let embeddings = &self.row(image)[per_image * BOX_BYTES..];
        table::extend_from_f16(embeddings, place * embedding_size, embedding_size, &mut embedding);
        embedding
    }

    fn row(&self, image: usize) -> &[u8] {
        let length = embedding_row_bytes(&self.manifest);
        &self.rows[image * length..(image + 1) * length]
    }
}

/// A student's first stage on photographs of any size.
struct Proposer {
    engine: CpuEngine,
    preprocessor: Preprocessor,
    input: Vec<u8>,
    regions: Regions,
}

impl Proposer {
    fn open(student: &Path, placement: Placement) -> Result<Self> {
        let engine = CpuEngine::open(student, placement)?;
        let preprocessor = Preprocessor::new(engine.facts().resize);
        let input = vec![0; preprocessor.output_len()];
        Ok(Self { engine, preprocessor, input, regions: Regions::default() })
    }

    /// Boxes in the picture's pixels, best first.
    fn propose(&mut self, picture: &RgbImage) -> Result<Vec<[f32; 4]>> {
        let boxes = self.boxes_of(picture)?;
        let sureness = self.sureness();
        let mut order: Vec<usize> = (0..boxes.len()).collect();
        order.sort_by(|&a, &b| sureness[b].total_cmp(&sureness[a]));
        Ok(order.into_iter().map(|place| boxes[place]).collect())
    }

    /// How much each region looks like a thing: its objectness, or what it would score with a word of its own direction.
    fn sureness(&self) -> Vec<f32> {
        let Regions { objectness, logit_shift, logit_scale, .. } = &self.regions;
        if self.engine.facts().has(StudentOutput::Objectness) {
            return objectness.clone();
        }
        logit_shift.iter().zip(logit_scale).map(|(shift, scale)| (1.0 + shift) * scale).collect()
    }

    /// Boxes in the picture's pixels, in the student's order.
    fn boxes_of(&mut self, picture: &RgbImage) -> Result<Vec<[f32; 4]>> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let letterbox = self.preprocessor.run(picture.as_raw(), width, height, &mut self.input);
        self.engine.infer(&self.input, &mut self.regions)?;
        let boxes = self.regions.boxes_in_input.iter();
        Ok(boxes.map(|&proposal| letterbox.box_in_frame_from_input(proposal)).collect())
    }
}

/// Objects' own boxes, then moved copies of them, up to `most` in all.
fn annotated(
    objects: &[[f32; 4]],
    copies: usize,
    [width, height]: [f32; 2],
    most: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<[f32; 4]> {
    let mut own: Vec<[f32; 4]> = objects.iter().copied().filter(|&object| is_a_box(object)).collect();
    own.shuffle(rng);
    own.truncate(most);
    let mut boxes = own.clone();
    for object in own.iter().flat_map(|object| std::iter::repeat_n(*object, copies)) {
        let [x1, y1, x2, y2] = object;
        let mut moved = |at: f32, length: f32, limit: f32| {
            (at + length * rng.random_range(-MOST_MOVED..MOST_MOVED)).clamp(0.0, limit)
        };
        let (w, h) = (x2 - x1, y2 - y1);
        let copy = [moved(x1, w, width), moved(y1, h, height), moved(x2, w, width), moved(y2, h, height)];
        if boxes.len() < most && is_a_box(copy) {
            boxes.push(copy);
        }
    }
    boxes
}

/// Adds a proposal that is a box and not there yet.
fn add_new(boxes: &mut Vec<[f32; 4]>, proposal: [f32; 4]) {
    if is_a_box(proposal) && boxes.iter().all(|&other| iou(other, proposal) <= SAME_PROPOSAL_IOU) {
        boxes.push(proposal);
    }
}

fn is_a_box([x1, y1, x2, y2]: [f32; 4]) -> bool {
    x2 - x1 >= LEAST_SIDE && y2 - y1 >= LEAST_SIDE
}

fn proposal_manifest(folder: &Path) -> Result<ProposalManifest> {
    table::read_manifest(folder)?.with_context(|| {
        format!("{} holds no proposals; make them with `wordsight-distill proposals`", folder.display())
    })
}

fn proposals_table(folder: &Path, manifest: &ProposalManifest) -> Table {
    let digest = if manifest.has_digests { DIGEST_BYTES } else { 0 };
    let row_bytes = manifest.per_image * BOX_BYTES + digest;
    Table { path: folder.join("proposals.f32"), row_bytes, rows: manifest.images }
}

fn embeddings_table(folder: &Path, manifest: &EmbeddingManifest) -> Table {
    let row_bytes = embedding_row_bytes(manifest);
    Table { path: folder.join("embeddings.bin"), row_bytes, rows: manifest.images }
}

/// Boxes in FP32, then embeddings in FP16.
fn embedding_row_bytes(manifest: &EmbeddingManifest) -> usize {
    manifest.per_image * (BOX_BYTES + 2 * manifest.embedding_size)
}

fn read_boxes(bytes: &[u8], count: usize) -> Vec<[f32; 4]> {
    let sides: Vec<f32> = bytes[..count * BOX_BYTES]
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    sides.as_chunks::<4>().0.to_vec()
}

/// Shards begin at the same moment, and each of them writes the list.
fn write_images(images: &[Image], folder: &Path) -> Result<()> {
    let (path, list) = (folder.join(IMAGES), Dataset { images: images.to_vec(), ..Dataset::default() });
    let text = serde_json::to_string(&list)?;
    if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    wordsight_files::replace_beside_others(&path, Durability::Whole, text.as_bytes())
        .with_context(|| format!("cannot write the list of images {}", path.display()))
}

fn read_images(folder: &Path) -> Result<Vec<Image>> {
    Ok(Dataset::load(&folder.join(IMAGES))?.images)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn objects_come_first_and_their_copies_stay_in_the_image() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let objects = [[0.0, 0.0, 50.0, 40.0], [60.0, 60.0, 61.0, 99.0], [30.0, 10.0, 90.0, 100.0]];
        let boxes = annotated(&objects, 3, [100.0, 100.0], 6, &mut rng);
        assert_eq!(boxes.len(), 6);
        // The second is thinner than the teacher can see.
        assert!(boxes[..2].contains(&objects[0]) && boxes[..2].contains(&objects[2]));
        for copy in &boxes[2..] {
            assert!(copy.iter().all(|side| (0.0..=100.0).contains(side)), "{copy:?}");
            assert!(objects.iter().any(|&object| iou(*copy, object) > 0.4), "{copy:?}");
        }
    }

    #[test]
    fn a_proposal_that_is_there_already_or_no_box_is_left_out() {
        let mut boxes = vec![[0.0, 0.0, 50.0, 50.0]];
        for proposal in
            [[1.0, 0.0, 50.0, 50.0], [10.0, 10.0, 11.0, 40.0], [f32::NAN; 4], [60.0, 0.0, 90.0, 50.0]]
        {
            add_new(&mut boxes, proposal);
        }
        assert_eq!(boxes, [[0.0, 0.0, 50.0, 50.0], [60.0, 0.0, 90.0, 50.0]]);
    }
}
