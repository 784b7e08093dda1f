//! `wordsight-distill eval`: how good a student is on annotated images.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use wordsight_detection::{DetectionSettings, Vocabulary};
use wordsight_distill::eval::annotated::{self, AnnotatedSet, Row, Rules};
use wordsight_distill::eval::ov_coco::{self, OvCoco, Split};
use wordsight_distill::eval::true_boxes::{self, TrueBoxes};
use wordsight_distill::eval::{Detector, EVALUATION};
use wordsight_distill::mistake::Mistake;
use wordsight_distill::photographs::Unreadable;
use wordsight_teacher::Teacher;

use super::report::{trained_on, true_boxes_of, vocabulary_for, write_json};

/// Arguments of `eval`.
#[derive(Args)]
pub struct Eval {
    /// The student.
    #[arg(long)]
    student: PathBuf,
    /// Annotations in COCO's or LVIS's format; several for several sets, each with its --images.
    #[arg(long, required = true)]
    annotations: Vec<PathBuf>,
    /// The images' folder, one for each --annotations.
    #[arg(long, required = true)]
    images: Vec<PathBuf>,
    /// Words, one of them for every category; by default the categories' names, embedded by --teacher.
    #[arg(long, required_unless_present = "teacher")]
    vocabulary: Option<PathBuf>,
    /// Whose rules apply.
    #[arg(long, value_enum, default_value_t = Rules::Coco)]
    protocol: Rules,
    /// The teacher's folder.
    #[arg(long)]
    teacher: Option<PathBuf>,
    /// Have the teacher judge crops of the student's proposals too, on so many of the images.
    #[arg(long, default_value_t = 0, requires = "teacher")]
    teacher_on_crops: usize,
    /// Also name the objects in their true boxes, by student and teacher.
    #[arg(long, requires = "teacher")]
    true_boxes: bool,
    /// Also show these words by themselves, comma-separated.
    #[arg(long, value_delimiter = ',')]
    word_rows: Vec<String>,
    /// Also evaluate novel, base and all words of this split (JSON with the lists base and novel), competing with
    /// each other and no others. The annotations are COCO's.
    #[arg(long, requires = "teacher")]
    ov_coco: Option<PathBuf>,
    /// EfficientNet-Lite0's weights, for --true-boxes.
    #[arg(long, default_value = super::BACKBONE)]
    backbone: PathBuf,
    /// Leave out, by name, pictures that can't be read, instead of ending.
    #[arg(long)]
    skip_unreadable: bool,
    /// How many words a region may carry: ViLD's evaluation has several, and with 1 it has its best one, as transformers
    /// evaluates OWL-ViT.
    #[arg(long, default_value_t = EVALUATION.words_per_region)]
    words_per_region: usize,
    /// The overlap (IoU) above which of two detections of a word one goes; 1: none does, as transformers has it.
    #[arg(long, default_value_t = EVALUATION.nms_iou, value_parser = super::share)]
    nms_iou: f32,
    /// The most detections an image; COCO's and LVIS's own limits come on top.
    #[arg(long, default_value_t = EVALUATION.max_detections)]
    max_detections: usize,
    #[command(flatten)]
    small: super::small_vocabularies::Arguments,
    /// Also write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What is said of one set.
struct Figures {
    rows: Vec<Row>,
    true_boxes: Option<TrueBoxes>,
    ov_coco: Option<OvCoco>,
}

/// Average precision on annotated images.
pub fn run(arguments: &Eval) -> Result<()> {
    let (annotations, images) = (&arguments.annotations, &arguments.images);
    arguments.check_outputs()?;
    arguments.check_sets()?;
    let alone = annotations.len() == 1;
    let sets: Vec<AnnotatedSet> = annotations
        .iter()
        .zip(images)
        .map(|(annotations, images)| {
            AnnotatedSet::load(annotations, images)?.readable(Unreadable::of_flag(arguments.skip_unreadable))
        })
        .collect::<Result<_>>()?;
    for word in &arguments.word_rows {
        let is_known = sets.iter().any(|set| set.categories().any(|(_, name)| name == word));
        ensure!(is_known, Mistake::new(format!("--word-rows: no annotations have the category {word:?}")));
    }
    if let (true, Some(teacher)) = (arguments.small.are_asked_for(), &arguments.teacher) {
        ensure!(
            alone,
            Mistake::new("--words and --small-vocabularies take one set: leave the other --annotations out")
        );
        let json = arguments.json.as_deref();
        return arguments.small.run(&arguments.student, &sets[0], teacher, json);
    }
    let mut teacher = arguments.teacher.as_deref().map(Teacher::open).transpose()?;
    let (mut rows, mut true_boxes, mut ov_coco) = (Vec::new(), None, None);
    for (annotations, set) in annotations.iter().zip(&sets) {
        let mut figures = figures_of(arguments, set, teacher.as_mut())?;
        if !alone {
            let set = set_name(annotations);
            figures.rows.iter_mut().for_each(|row| row.who = format!("{set}, {}", row.who));
        }
        rows.append(&mut figures.rows);
        (true_boxes, ov_coco) = (figures.true_boxes, figures.ov_coco);
    }
    print!("{}", annotated::table(&rows));
    if !arguments.word_rows.is_empty() {
        print!("{}", annotated::word_table(&rows, &arguments.word_rows));
    }
    if let Some(named) = &true_boxes {
        print!("{}", true_boxes::table(named));
    }
    if let Some(figures) = &ov_coco {
        print!("{}", ov_coco::table(figures));
    }
    write_json(
        arguments.json.as_deref(),
        &json!({ "rows": rows, "true_boxes": true_boxes, "ov_coco": ov_coco }),
    )
}

impl Eval {
    fn evaluation(&self) -> DetectionSettings {
        // Without suppression no box is another one's.
        let voting_iou = if self.nms_iou < 1.0 { EVALUATION.voting_iou } else { 1.0 };
        DetectionSettings {
            words_per_region: self.words_per_region.max(1),
            nms_iou: self.nms_iou,
            voting_iou,
            max_detections: self.max_detections,
            ..EVALUATION
        }
    }

    /// Each set has annotations and images, and what takes one set has one.
    fn check_sets(&self) -> Result<()> {
        let (annotations, images) = (self.annotations.len(), self.images.len());
        ensure!(
            annotations == images,
            Mistake::new(format!(
                "{annotations} --annotations and {images} --images: each set has one of both"
            ))
        );
        ensure!(
            annotations == 1 || (!self.true_boxes && self.ov_coco.is_none()),
            Mistake::new("--true-boxes and --ov-coco take one set: leave the other --annotations out")
        );
        Ok(())
    }

    /// Nothing that is read is written.
    fn check_outputs(&self) -> Result<()> {
        let given =
            [Some(&self.student), self.vocabulary.as_ref(), self.ov_coco.as_ref(), Some(&self.backbone)];
        let mut inputs = super::inputs(given.into_iter().chain(self.annotations.iter().map(Some)));
        self.images.iter().for_each(|folder| inputs.add_pictures(folder));
        self.teacher.iter().for_each(|teacher| super::add_teacher(&mut inputs, teacher));
        super::check_report(&inputs, self.json.as_ref(), None)
    }
}

/// A set by its annotations' folder and file: `voc2012/instances`.
fn set_name(annotations: &Path) -> String {
    let name = |path: Option<&std::ffi::OsStr>| path.unwrap_or_default().to_string_lossy().into_owned();
    let folder = name(annotations.parent().and_then(Path::file_name));
    let file = name(annotations.file_stem());
    if folder.is_empty() { file } else { format!("{folder}/{file}") }
}

fn figures_of(arguments: &Eval, set: &AnnotatedSet, mut teacher: Option<&mut Teacher>) -> Result<Figures> {
    let vocabulary = match (&arguments.vocabulary, teacher.as_deref_mut()) {
        (Some(path), _) => Vocabulary::load(path)?,
        (None, Some(teacher)) => {
            let mut vocabulary = vocabulary_for(&arguments.student, set.names(), teacher)?;
            if let Some(competitors) = &arguments.small.competitors {
                competitors.append_to(&mut vocabulary, teacher)?;
            }
            vocabulary
        }
        (None, None) => anyhow::bail!(Mistake::new("name a --vocabulary or a --teacher")),
    };
    let mut detector = Detector::open(&arguments.student, &vocabulary)?;
    detector.set_evaluation(arguments.evaluation());
    println!("{} words of {}, {}", vocabulary.shown().len(), vocabulary.teacher, trained_on(&vocabulary));
    let mut figures = Figures { rows: Vec::new(), true_boxes: None, ov_coco: None };
    if let Some(teacher) = teacher {
        figures.add_with_teacher(arguments, set, &vocabulary, &mut detector, teacher)?;
    }
    if arguments.teacher_on_crops < set.len() {
        let rules = arguments.protocol;
        figures.rows.push(annotated::student_row("student", &mut detector, &vocabulary, set, rules)?);
    }
    Ok(figures)
}

impl Figures {
    /// What needs a teacher.
    fn add_with_teacher(
        &mut self,
        arguments: &Eval,
        set: &AnnotatedSet,
        vocabulary: &Vocabulary,
        detector: &mut Detector,
        teacher: &mut Teacher,
    ) -> Result<()> {
        let student = &arguments.student;
        let learned_from = &detector.facts().teacher;
        ensure!(
            teacher.id() == learned_from,
            Mistake::new(format!("the student learned from {learned_from}, not from {}", teacher.id()))
        );
        if arguments.teacher_on_crops > 0 {
            let part = set.first(arguments.teacher_on_crops);
            let rules = arguments.protocol;
            self.rows
                .extend(annotated::student_and_teacher_rows(detector, teacher, vocabulary, &part, rules)?);
        }
        if arguments.true_boxes {
            let backbone = &arguments.backbone;
            self.true_boxes = Some(true_boxes_of(student, backbone, detector, teacher, vocabulary, set)?);
        }
        if let Some(split) = &arguments.ov_coco {
            let split = Split::load(split)?;
            let words = vocabulary_for(student, split.words(), teacher)?;
            let mut detector = Detector::open(student, &words)?;
            let figures = ov_coco::evaluate(&mut detector, &words, set, &split);
            self.ov_coco = Some(figures.with_context(|| format!("cannot evaluate {}", student.display()))?);
        }
        Ok(())
    }
}
