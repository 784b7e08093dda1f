//! Whether a student names objects whose boxes are given, and whether its teacher does.
//!
//! Takes annotated images, an exported student read back as a model (the exported file chooses its own boxes), and the
//! teacher. Returns how often the right word is the first, and among the first five, of all. Proposals play no part in
//! it: it compares the region head with the teacher.

use std::collections::HashMap;

use anyhow::{Context, Result};
use burn::tensor::Device;
use serde::Serialize;
use wordsight_detection::{DetectionSettings, Letterbox, RegionsView, Scorer, Vocabulary};
use wordsight_engines::StudentFacts;
use wordsight_teacher::Teacher;

use super::annotated::{AnnotatedSet, aligned};
use super::{scorer, teacher_scorer};
use crate::input::InputMaker;
use crate::progress;
use crate::student::roi::Pooling;
use crate::student::{Student, StudentConfig};

/// Objects from this area on are also counted separately; smaller ones are hardly visible.
const VISIBLE_AREA: f64 = 32.0 * 32.0;
/// Right among this many.
const TOP: usize = 5;
/// One region at a time, all words against each other.
const NAMING: DetectionSettings = DetectionSettings {
    score_threshold: 0.0,
    nms_iou: 1.0,
    voting_iou: 1.0,
    max_detections: TOP,
    words_per_region: TOP,
    weak_fraction: 1.0,
};

/// Counts of objects.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Named {
    /// All.
    pub objects: usize,
    /// The right word came first.
    pub first: usize,
    /// The right word was among the first five.
    pub first_five: usize,
}

/// What was named: by the student, and by the teacher.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TrueBoxes {
    /// The student, on objects of at least 32x32 pixels.
    pub student: Named,
    /// The teacher, on the same.
    pub teacher: Named,
    /// The student, on all objects.
    pub student_all: Named,
    /// The teacher, on all objects.
    pub teacher_all: Named,
}

impl Named {
    fn add(&mut self, rank: Option<usize>) {
        self.objects += 1;
        self.first += usize::from(rank == Some(0));
        self.first_five += usize::from(rank.is_some());
    }
}

/// Names all objects of a set, crowds left out. `config` and `facts`: the student's own.
pub fn name_true_boxes(
    student: &Student,
    config: &StudentConfig,
    facts: &StudentFacts,
    teacher: &mut Teacher,
    vocabulary: &Vocabulary,
    set: &AnnotatedSet,
) -> Result<TrueBoxes> {
    let categories = set.category_of_words(vocabulary)?;
    let (mut of_student, mut of_teacher) = (scorer(vocabulary, facts)?, teacher_scorer(vocabulary, facts)?);
    let mut input = InputMaker::new(config.input_size);
    let mut by_image: HashMap<u64, Vec<_>> = HashMap::new();
    for object in set.truth.ground_truths.iter().filter(|object| !object.crowd) {
        by_image.entry(object.image).or_default().push(object);
    }
    let mut named = TrueBoxes::default();
    let bar = progress::bar(set.len() as u64, "images, true boxes");
    for file in set.files() {
        bar.inc(1);
        let Some(objects) = by_image.get(&file.id) else { continue };
        let picture = file.open()?;
        let boxes: Vec<[f32; 4]> = objects
            .iter()
            .map(|object| {
                let [x, y, w, h] = object.box_in_image;
                let (right, bottom) = (f64::from(picture.width()), f64::from(picture.height()));
                // The teacher looks at pixels, and there are none outside.
                [x.max(0.0), y.max(0.0), (x + w).min(right), (y + h).min(bottom)].map(|side| side as f32)
            })
            .collect();
        let size = (picture.width() as usize, picture.height() as usize);
        let letterbox = Letterbox::new(size, (config.input_size, config.input_size));
        let boxes_in_input: Vec<[f32; 4]> =
            boxes.iter().map(|&in_frame| letterbox.box_in_input_from_frame(in_frame)).collect();

        let (region_maps, _) = student.propose(config, input.tensor(&picture, &Device::flex()));
        let embeddings = student.regions.forward(&region_maps, &Pooling::new(config, &[boxes_in_input]));
        let text: Vec<f32> = embeddings.text.into_data().iter().collect();
        let image: Vec<f32> = embeddings.image.into_data().iter().collect();
        let crops = teacher.embed_crops(&picture, &boxes)?;
        for (place, object) in objects.iter().enumerate() {
            let word = categories.iter().position(|category| *category == Some(object.category));
            let word = word.context("an annotation has a category that is not listed")?;
            let row = place * config.embedding_size..(place + 1) * config.embedding_size;
            let by_student = rank(&mut of_student, [&text[row.clone()], &image[row]], word);
            let by_teacher = rank(&mut of_teacher, [&crops[place], &crops[place]], word);
            named.student_all.add(by_student);
            named.teacher_all.add(by_teacher);
            if object.area >= VISIBLE_AREA {
                named.student.add(by_student);
                named.teacher.add(by_teacher);
            }
        }
    }
    bar.finish_and_clear();
    Ok(named)
}

/// The place of the right word among the first five.
fn rank(scorer: &mut Scorer, [text, image]: [&[f32]; 2], word: usize) -> Option<usize> {
    let mut best = Vec::new();
    let region = RegionsView::of_two_heads(&[[0.0, 0.0, 1.0, 1.0]], &[1.0], text, image);
    scorer.detect(region, &NAMING, &mut best);
    best.iter().position(|detection| detection.word == word)
}

/// The counts as a table for people.
pub fn table(named: &TrueBoxes) -> String {
    let line = |who: &str, named: &Named| {
        let share = |count: usize| format!("{:.1}", 100.0 * count as f64 / named.objects.max(1) as f64);
        vec![who.to_owned(), named.objects.to_string(), share(named.first), share(named.first_five)]
    };
    aligned(&[
        ["true boxes, % named", "objects", "first", "first five"].map(str::to_owned).to_vec(),
        line("student, from 32x32 pixels", &named.student),
        line("teacher, from 32x32 pixels", &named.teacher),
        line("student, all", &named.student_all),
        line("teacher, all", &named.teacher_all),
    ])
}
