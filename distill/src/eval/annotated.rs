//! Average precision and recall of a student on annotated images, and of its teacher on the same boxes.
//!
//! Takes a COCO or LVIS annotation file with its images, a student and a vocabulary that has a word for every
//! category. Returns [`Row`]s of figures by the set's own protocol, for all words, for those that training had boxes
//! of (base) and for the others (novel).
//!
//! The teacher's row is what ViLD compares itself with (arXiv 2104.13921, section 3.1): each proposal is cut out,
//! embedded by the teacher and scored like the student's. That takes two crops a proposal, so it can be limited to the
//! first images; the student's row beside it is then of these images too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use image::RgbImage;
use rayon::prelude::*;
use serde::Serialize;
use wordsight_detection::{Letterbox, RegionsView, Scorer, Vocabulary};
use wordsight_evaluation::{
    Area, Category, Dataset, Detection, Evaluation, GroundTruth, Image, Over, Protocol, Summary, evaluate,
};
use wordsight_teacher::{Teacher, prompts};

pub use super::tables::{aligned, table, word_table};
use super::{Detector, EVALUATION, teacher_scorer};
use crate::annotations::{self, Annotations};
use crate::images::Images;
use crate::photographs::Unreadable;
use crate::progress;

/// Whose rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Rules {
    /// COCO's, with 100 and 300 detections an image.
    Coco,
    /// LVIS's, with 300 detections an image.
    Lvis,
    /// LVIS's with 10,000 detections a category ("fixed AP").
    LvisFixed,
}

impl Rules {
    fn protocol(self) -> Protocol {
        match self {
            Self::Coco => {
                Protocol::Coco { max_detections: vec![COCO_DETECTIONS, 300], class_agnostic: false }
            }
            Self::Lvis => Protocol::lvis(),
            Self::LvisFixed => Protocol::lvis_fixed(),
        }
    }

    /// What the usual figures are taken over.
    fn usual(self, iou: Option<f64>, area: Area) -> Over {
        Over { iou, area, max_detections: (self == Self::Coco).then_some(COCO_DETECTIONS) }
    }
}

/// Detections an image in COCO's average precision.
const COCO_DETECTIONS: usize = 100;
/// Proposals an image whose recall is reported.
const PROPOSALS: usize = 100;

/// Annotated images.
#[derive(Clone)]
pub struct AnnotatedSet {
    /// What is in them.
    pub truth: Dataset,
    /// The categories' names by their numbers, and back: to the letter, and as captions spell them.
    names: HashMap<u64, String>,
    by_name: HashMap<String, u64>,
    by_caption: HashMap<String, u64>,
    files: Vec<AnnotatedFile>,
}

/// One image.
#[derive(Clone, Debug)]
pub struct AnnotatedFile {
    /// Its number.
    pub id: u64,
    /// Its file, as errors name it.
    pub path: PathBuf,
    /// Width and height that its annotations say.
    pub size: Option<[u32; 2]>,
    images: Images,
    name: String,
}

impl AnnotatedFile {
    /// Its pixels.
    ///
    /// # Errors
    /// When it can't be read, or is of another size than its annotations.
    pub fn open(&self) -> Result<RgbImage> {
        self.images.picture(&self.name, self.size)
    }
}

/// What is there, as the evaluation takes it: boxes as they were annotated.
fn truth_of(found: &Annotations) -> Dataset {
    let image = |image: &annotations::Image| Image {
        id: image.id,
        negative_categories: image.negative_categories.clone(),
        not_exhaustive_categories: image.not_exhaustive_categories.clone(),
    };
    let truth = |object: &annotations::Object| {
        Some(GroundTruth {
            image: found.images[object.image].id,
            category: object.category?,
            box_in_image: object.annotated,
            area: object.area,
            crowd: object.crowd,
            ignored: object.ignored,
        })
    };
    let category =
        |category: &annotations::Category| Category { id: category.id, frequency: category.frequency };
    Dataset {
        images: found.images.iter().map(image).collect(),
        ground_truths: found.objects.iter().filter_map(truth).collect(),
        categories: found.categories.iter().map(category).collect(),
    }
}

impl AnnotatedSet {
    /// Reads an annotation file in COCO's or LVIS's format; images are not opened yet.
    ///
    /// # Errors
    /// When the file can't be read or is of another format, or lists no images.
    pub fn load(annotations: &Path, images: &Path) -> Result<Self> {
        Self::of_images(annotations, &Images::open(images)?)
    }

    /// The same, of images that are open already.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_images(annotations: &Path, images: &Images) -> Result<Self> {
        let found = Annotations::load_with_images(annotations, images)?;
        ensure!(!found.images.is_empty(), "{} lists no images", annotations.display());
        let files = found.images.iter().map(|image| AnnotatedFile {
            id: image.id,
            path: images.path_of(&image.file_name),
            size: image.size,
            images: images.clone(),
            name: image.file_name.clone(),
        });
        let names = found.categories.iter().map(|category| (category.id, category.name.clone())).collect();
        Ok(Self::new(truth_of(&found), names, files.collect()))
    }

    fn new(truth: Dataset, names: HashMap<u64, String>, files: Vec<AnnotatedFile>) -> Self {
        let by_name = names.iter().map(|(&id, name)| (name.clone(), id)).collect();
        let by_caption = names.iter().map(|(&id, name)| (prompts::clean(name), id)).collect();
        Self { truth, names, by_name, by_caption, files }
    }

    /// The categories' names, in the file's order.
    pub fn names(&self) -> Vec<String> {
        self.truth.categories.iter().map(|category| self.names[&category.id].clone()).collect()
    }

    /// The categories' numbers and names.
    pub fn categories(&self) -> impl Iterator<Item = (u64, &str)> {
        self.names.iter().map(|(&id, name)| (id, name.as_str()))
    }

    /// The first `count` images alone.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let mut part = self.clone();
        part.files.truncate(count);
        part.truth.images.retain(|image| part.files.iter().any(|file| file.id == image.id));
        part
    }

    /// Some of the categories alone, and the images that have an annotation of one of them.
    ///
    /// # Errors
    /// When a name is no category's.
    pub fn of_words(&self, words: &[String]) -> Result<Self> {
        let missing: Vec<&String> =
            words.iter().filter(|word| !self.names.values().any(|name| name == *word)).collect();
        ensure!(
            missing.is_empty(),
            "the annotations have no category for {} words, among them {:?}",
            missing.len(),
            &missing[..missing.len().min(5)]
        );
        let mut names = self.names.clone();
        names.retain(|_, name| words.contains(name));
        let mut truth = self.truth.clone();
        truth.categories.retain(|category| names.contains_key(&category.id));
        truth.ground_truths.retain(|object| names.contains_key(&object.category));
        let shown: HashSet<u64> = truth.ground_truths.iter().map(|object| object.image).collect();
        truth.images.retain(|image| shown.contains(&image.id));
        let files = self.files.iter().filter(|file| shown.contains(&file.id)).cloned().collect();
        Ok(Self::new(truth, names, files))
    }

    /// The images that can be read alone, where the others are to be left out.
    ///
    /// # Errors
    /// When all are left out, or one is of another size than its annotations.
    pub fn readable(self, unreadable: Unreadable) -> Result<Self> {
        if unreadable == Unreadable::Refused {
            return Ok(self);
        }
        let read = |file: &AnnotatedFile| Ok(unreadable.take(file.open())?.map(|_| file.clone()));
        let files: Vec<Option<AnnotatedFile>> = self.files.par_iter().map(read).collect::<Result<_>>()?;
        let files: Vec<AnnotatedFile> = files.into_iter().flatten().collect();
        ensure!(!files.is_empty(), "none of the {} images can be read", self.files.len());
        let kept: HashSet<u64> = files.iter().map(|file| file.id).collect();
        let mut part = Self { files, ..self };
        part.truth.images.retain(|image| kept.contains(&image.id));
        part.truth.ground_truths.retain(|object| kept.contains(&object.image));
        Ok(part)
    }

    /// How many images.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The images.
    pub fn files(&self) -> &[AnnotatedFile] {
        &self.files
    }

    /// The category of this name, if there is one: the same to the letter, or else as captions spell it.
    pub fn category_of(&self, word: &str) -> Option<u64> {
        let caption = prompts::clean(word);
        let by_caption = || self.by_caption.get(&caption);
        self.by_name.get(word).or_else(by_caption).copied()
    }

    /// For each shown word of a vocabulary the category of this name, if there is one.
    ///
    /// # Errors
    /// When a category has no word.
    pub fn category_of_words(&self, vocabulary: &Vocabulary) -> Result<Vec<Option<u64>>> {
        let found: Vec<Option<u64>> =
            vocabulary.shown().iter().map(|word| self.category_of(&word.word)).collect();
        let missing: Vec<&str> = self
            .names
            .iter()
            .filter(|(id, _)| !found.contains(&Some(**id)))
            .map(|(_, name)| name.as_str())
            .take(5)
            .collect();
        ensure!(
            missing.is_empty(),
            "the vocabulary has no word for the categories {missing:?}: add them, or leave --vocabulary out to \
             have one made of the categories"
        );
        Ok(found)
    }
}

/// What was found in a set, and how long it took.
#[derive(Default)]
struct Found {
    detections: Vec<Detection>,
    /// Boxes alone, whatever they show.
    proposals: Vec<Detection>,
    time: Duration,
    images: usize,
}

/// A line of the table. Shares of 0 to 1; none where there was nothing to find.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Student or teacher.
    pub who: String,
    /// Images.
    pub images: usize,
    /// Over all words.
    pub all: Summary,
    /// Over words that training had boxes of.
    pub base: Option<Summary>,
    /// Over the others.
    pub novel: Option<Summary>,
    /// Average recall of at most 100 proposals an image, all categories as one.
    pub proposal_recall: Option<f64>,
    /// The same by size: small, medium, large.
    pub proposal_recall_by_size: [Option<f64>; 3],
    /// Milliseconds an image, reading it left out.
    pub milliseconds: f64,
    /// Each word by itself, those that there are objects of.
    pub words: BTreeMap<String, WordFigures>,
}

/// How well one word's objects were found.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WordFigures {
    /// How many there are, crowds left out.
    pub objects: usize,
    /// Over IoUs from 0.5 to 0.95.
    #[serde(rename = "AP")]
    pub ap: f64,
    /// At an IoU of 0.5.
    #[serde(rename = "AP50")]
    pub ap50: f64,
    /// Average recall.
    #[serde(rename = "AR")]
    pub ar: f64,
}

/// The student's row.
pub fn student_row(
    who: &str,
    detector: &mut Detector,
    vocabulary: &Vocabulary,
    set: &AnnotatedSet,
    rules: Rules,
) -> Result<Row> {
    let categories = set.category_of_words(vocabulary)?;
    let mut found = Found::default();
    let bar = progress::bar(set.len() as u64, "images");
    for file in set.files() {
        let picture = file.open()?;
        found.add_student(file.id, &picture, detector, &categories)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(found.row(who, vocabulary, set, &categories, rules))
}

/// The student's row and the teacher's over the same proposals.
pub fn student_and_teacher_rows(
    detector: &mut Detector,
    teacher: &mut Teacher,
    vocabulary: &Vocabulary,
    set: &AnnotatedSet,
    rules: Rules,
) -> Result<[Row; 2]> {
    let categories = set.category_of_words(vocabulary)?;
    let mut scorer = teacher_scorer(vocabulary, detector.facts())?;
    let (mut by_student, mut by_teacher) = (Found::default(), Found::default());
    let bar = progress::bar(set.len() as u64, "images, two crops a proposal");
    for file in set.files() {
        let picture = file.open()?;
        let letterbox = by_student.add_student(file.id, &picture, detector, &categories)?;
        by_teacher.add_teacher(file.id, &picture, detector, letterbox, &mut scorer, teacher, &categories)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok([
        by_student.row("student", vocabulary, set, &categories, rules),
        by_teacher.row("teacher on crops", vocabulary, set, &categories, rules),
    ])
}

impl Found {
    /// Takes in what a student finds in a picture; says how it lies in the input.
    fn add_student(
        &mut self,
        image: u64,
        picture: &RgbImage,
        detector: &mut Detector,
        categories: &[Option<u64>],
    ) -> Result<Letterbox> {
        let began = Instant::now();
        let letterbox = detector.infer(picture)?;
        let detections = detector.detect_for_evaluation();
        self.time += began.elapsed();
        self.add(image, &letterbox, detector, &detections, categories);
        Ok(letterbox)
    }

    /// Takes in what the teacher makes of the student's proposals.
    #[allow(clippy::too_many_arguments)]
    fn add_teacher(
        &mut self,
        image: u64,
        picture: &RgbImage,
        detector: &Detector,
        letterbox: Letterbox,
        scorer: &mut Scorer,
        teacher: &mut Teacher,
        categories: &[Option<u64>],
    ) -> Result<()> {
        let began = Instant::now();
        let regions = &detector.regions;
        let in_frame =
            regions.boxes_in_input.iter().map(|&proposal| letterbox.box_in_frame_from_input(proposal));
        // What lies in the padding shows the teacher nothing.
        let kept: Vec<(usize, [f32; 4])> =
            in_frame.enumerate().filter(|(_, [x1, y1, x2, y2])| x2 - x1 >= 1.0 && y2 - y1 >= 1.0).collect();
        let boxes: Vec<[f32; 4]> = kept.iter().map(|(_, in_frame)| *in_frame).collect();
        let embeddings = teacher.embed_crops(picture, &boxes)?.concat();
        let boxes_in_input: Vec<[f32; 4]> =
            kept.iter().map(|(place, _)| regions.boxes_in_input[*place]).collect();
        let objectness: Vec<f32> = kept.iter().map(|(place, _)| regions.objectness[*place]).collect();
        let mut detections = Vec::new();
        let of_teacher = RegionsView::of_two_heads(&boxes_in_input, &objectness, &embeddings, &embeddings);
        scorer.detect(of_teacher, &EVALUATION, &mut detections);
        self.time += began.elapsed();
        self.add(image, &letterbox, detector, &detections, categories);
        Ok(())
    }

    fn add(
        &mut self,
        image: u64,
        letterbox: &Letterbox,
        detector: &Detector,
        detections: &[wordsight_detection::Detection],
        categories: &[Option<u64>],
    ) {
        let found = |category: u64, score: f32, box_in_input: [f32; 4]| {
            let [x1, y1, x2, y2] = letterbox.box_in_frame_from_input(box_in_input).map(f64::from);
            Detection { image, category, score: f64::from(score), box_in_image: [x1, y1, x2 - x1, y2 - y1] }
        };
        self.images += 1;
        self.detections.extend(detections.iter().filter_map(|detection| {
            Some(found(categories[detection.word]?, detection.score, detection.box_in_input))
        }));
        let regions = &detector.regions;
        let proposals = regions.boxes_in_input.iter().zip(&regions.objectness).take(PROPOSALS);
        self.proposals.extend(proposals.map(|(&proposal, &objectness)| found(0, objectness, proposal)));
    }

    fn row(
        &self,
        who: &str,
        vocabulary: &Vocabulary,
        set: &AnnotatedSet,
        categories: &[Option<u64>],
        rules: Rules,
    ) -> Row {
        let trained: HashSet<u64> = vocabulary
            .shown()
            .iter()
            .zip(categories)
            .filter_map(|(word, category)| category.filter(|_| word.trained_on))
            .collect();
        self.row_for_base(who, set, &trained, rules)
    }

    fn row_for_base(&self, who: &str, set: &AnnotatedSet, base: &HashSet<u64>, rules: Rules) -> Row {
        let evaluation = evaluate(&set.truth, &self.detections, &rules.protocol());
        let is_base = |category: &Category| base.contains(&category.id);
        let base = summary(&evaluation.of_categories(is_base), rules);
        let novel = summary(&evaluation.of_categories(|category| !is_base(category)), rules);
        let recalls = proposal_recalls(&set.truth, &self.proposals);
        Row {
            who: who.to_owned(),
            images: self.images,
            all: summary(&evaluation, rules),
            base: base.ap.is_some().then_some(base),
            novel: novel.ap.is_some().then_some(novel),
            proposal_recall: recalls[0],
            proposal_recall_by_size: [recalls[1], recalls[2], recalls[3]],
            milliseconds: self.time.as_secs_f64() * 1e3 / self.images.max(1) as f64,
            words: by_word(&evaluation, set, rules),
        }
    }
}

/// Each word by itself.
fn by_word(evaluation: &Evaluation, set: &AnnotatedSet, rules: Rules) -> BTreeMap<String, WordFigures> {
    let mut objects: HashMap<u64, usize> = HashMap::new();
    for object in set.truth.ground_truths.iter().filter(|object| !object.crowd) {
        *objects.entry(object.category).or_default() += 1;
    }
    let words = set.names.iter().filter_map(|(&id, name)| {
        let of_word = evaluation.of_categories(|category| category.id == id);
        let summary = summary(&of_word, rules);
        let figures = WordFigures {
            objects: objects.get(&id).copied().unwrap_or_default(),
            ap: summary.ap?,
            ap50: summary.ap50?,
            ar: of_word.average_recall(rules.usual(None, Area::All))?,
        };
        Some((name.clone(), figures))
    });
    words.collect()
}

/// The row of a detector of fixed words, all of which it was trained on. Its detections are its proposals.
pub fn fixed_words_row(
    who: &str,
    set: &AnnotatedSet,
    detections: Vec<Detection>,
    time: Duration,
    rules: Rules,
) -> Row {
    let base = set.names.keys().copied().collect();
    let proposals = detections.iter().map(|&detection| Detection { category: 0, ..detection }).collect();
    let found = Found { proposals, detections, time, images: set.len() };
    found.row_for_base(who, set, &base, rules)
}

/// The usual numbers; by COCO's rules precision is at 100 detections, though recall at 300 is reported too.
fn summary(evaluation: &Evaluation, rules: Rules) -> Summary {
    let mut summary = evaluation.summary();
    let at = |iou, area| evaluation.average_precision(rules.usual(iou, area));
    summary.ap = at(None, Area::All);
    summary.ap50 = at(Some(0.5), Area::All);
    summary.ap75 = at(Some(0.75), Area::All);
    summary.ap_small = at(None, Area::Small);
    summary.ap_medium = at(None, Area::Medium);
    summary.ap_large = at(None, Area::Large);
    summary
}

/// Average recall of proposals: of all objects, small, medium and large ones.
fn proposal_recalls(truth: &Dataset, proposals: &[Detection]) -> [Option<f64>; 4] {
    let mut truth = truth.clone();
    truth.categories = vec![Category { id: 0, frequency: None }];
    for object in &mut truth.ground_truths {
        object.category = 0;
    }
    let protocol = Protocol::Coco { max_detections: vec![PROPOSALS], class_agnostic: true };
    let evaluation = evaluate(&truth, proposals, &protocol);
    [Area::All, Area::Small, Area::Medium, Area::Large]
        .map(|area| evaluation.average_recall(Over { area, ..Over::default() }))
}
