//! Completes annotations with a detector, so that training doesn't take an unannotated person for background.
//!
//! Takes an annotation file in COCO's format, or a folder of photographs without one, and the detections of a detector
//! ([`yolox`]) in each photograph. Returns the same file with the detector's sure detections as further annotations,
//! with a `score` and a `source`, and its doubtful ones with `"ignore": 1`: training counts those neither as objects
//! nor as background.
//!
//! Existing annotations stay: a detection that covers an annotated box is dropped, whatever its word. Where a set
//! annotates its own words completely, a further detection of one of them is either a false alarm or an object that
//! the annotators missed, and nobody knows which: it is ignored, however sure the detector is.

pub mod answers;
mod detect;
mod file;
mod formats;
pub mod yolox;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rayon::prelude::*;
use wordsight_detection::iou;
use wordsight_evaluation::Detection;

pub use detect::{Detect, StudentDetector};
pub use file::{AnnotationEntry, AnnotationFile, CategoryEntry, ImageEntry};
pub use formats::{Format, check_folder, write};
use yolox::{Answer, Suppression};

use crate::eval::annotated::AnnotatedSet;
use crate::images::Images;
use crate::photographs::Unreadable;
use crate::progress;

/// A detection that overlaps an annotated box by this IoU is that object.
const ANNOTATED_IOU: f32 = 0.5;
/// A detection that overlaps an annotated box of its own word by this IoU may be that object, badly boxed.
const DOUBTFUL_IOU: f32 = 0.3;
/// A detection with this share of its area in an annotated box of its own word may be a part of the object,
/// or one of several that share a box.
const DOUBTFUL_SHARE: f32 = 0.7;

/// To label, an object gets one box: of two words for it the surer one stays.
pub const TO_LABEL: Suppression =
    Suppression { score_threshold: 0.1, same_word_iou: 0.5, any_word_iou: 0.65 };

/// To evaluate, as the detector's authors do: weak detections too, each word by itself.
pub const TO_EVALUATE: Suppression =
    Suppression { score_threshold: 0.001, same_word_iou: 0.65, any_word_iou: 1.0 };

/// How photographs are completed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Detections of this score and more are objects.
    pub object_score: f32,
    /// Detections of this score and more are ignored, if they aren't objects.
    pub ignore_score: f32,
    /// The annotations' own categories are annotated completely.
    pub complete_for_own: bool,
    /// Further words that are annotated completely, though the file has no category for them.
    pub complete_for: Vec<String>,
}

/// What became of the detections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Photographs.
    pub images: usize,
    /// Boxes that were annotated before.
    pub annotated: usize,
    /// Detections that are objects now.
    pub objects: usize,
    /// Detections that are ignored now.
    pub ignored: usize,
    /// Detections dropped because an annotated box has their object.
    pub dropped: usize,
}

/// What the detector finds in every image of a file, in the file's order. `detectors`: one a thread.
///
/// # Errors
/// When a picture can't be read or isn't of the size that the file says, or ONNX Runtime fails.
pub fn detect_all(
    detectors: &mut [Box<dyn Detect>],
    file: &AnnotationFile,
    images: &Images,
    unreadable: Unreadable,
    suppression: &Suppression,
) -> Result<Vec<Vec<Answer>>> {
    let next = AtomicUsize::new(0);
    let bar = progress::bar(file.images.len() as u64, "photographs");
    let found: Vec<Vec<(usize, Vec<Answer>)>> = detectors
        .par_iter_mut()
        .map(|detector| {
            let mut found = Vec::new();
            while let Some((place, image)) = at_next(&next, &file.images) {
                found.extend(
                    unreadable
                        .take(detect(detector.as_mut(), image, images, suppression))?
                        .map(|found| (place, found)),
                );
                bar.inc(1);
            }
            Ok(found)
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let mut answers = vec![Vec::new(); file.images.len()];
    for (place, found) in found.into_iter().flatten() {
        answers[place] = found;
    }
    Ok(answers)
}

fn at_next<'a, T>(next: &AtomicUsize, of: &'a [T]) -> Option<(usize, &'a T)> {
    let place = next.fetch_add(1, Ordering::Relaxed);
    Some((place, of.get(place)?))
}

fn detect(
    detector: &mut dyn Detect,
    image: &ImageEntry,
    images: &Images,
    suppression: &Suppression,
) -> Result<Vec<Answer>> {
    let picture = images.picture(&image.file_name, image.size())?;
    detector
        .detect(&picture, suppression)
        .with_context(|| format!("cannot detect in {}", images.path_of(&image.file_name).display()))
}

/// Adds a detector's answers, for each image in the file's order, to a file's annotations. `names`: the
/// detector's words; `source`: what the new annotations say they come from.
pub fn complete(
    file: &mut AnnotationFile,
    answers: &[Vec<Answer>],
    names: &[String],
    source: &str,
    settings: &Settings,
) -> Counts {
    let mut counts =
        Counts { images: file.images.len(), annotated: file.annotations.len(), ..Counts::default() };
    let own: Vec<(u64, String)> =
        file.categories.iter().map(|category| (category.id, normal_name(&category.name))).collect();
    let words: Vec<Word> = names.iter().map(|name| Word::new(name, &own, settings)).collect();
    let annotated = file.boxes_by_image();
    let mut next_id = file.annotations.iter().map(|annotation| annotation.id).max().unwrap_or(0) + 1;
    let ids: Vec<u64> = file.images.iter().map(|image| image.id).collect();
    for ((image_id, boxes), answers) in ids.into_iter().zip(&annotated).zip(answers) {
        for answer in answers.iter().filter(|answer| answer.score >= settings.ignore_score) {
            let word = &words[answer.word];
            let Some(is_object) = fate(answer, word, boxes, settings) else {
                counts.dropped += 1;
                continue;
            };
            *(if is_object { &mut counts.objects } else { &mut counts.ignored }) += 1;
            let category_id = file.category_id(&word.name, &names[answer.word]);
            file.annotations.push(AnnotationEntry::of_detection(
                next_id,
                image_id,
                category_id,
                answer.corners_in_frame,
                answer.score,
                is_object,
                source,
            ));
            next_id += 1;
        }
    }
    counts
}

/// A detector's answers for each image in the file's order as detections of a set's categories, those that the set
/// has.
pub fn detections(
    file: &AnnotationFile,
    answers: &[Vec<Answer>],
    names: &[String],
    set: &AnnotatedSet,
) -> Vec<Detection> {
    let by_name: HashMap<String, u64> = set.categories().map(|(id, name)| (normal_name(name), id)).collect();
    let categories: Vec<Option<u64>> =
        names.iter().map(|name| by_name.get(&normal_name(name)).copied()).collect();
    let found = file.images.iter().zip(answers).flat_map(|(image, answers)| {
        let of_image = answers.iter().filter_map(|answer| {
            let [x1, y1, x2, y2] = answer.corners_in_frame.map(f64::from);
            Some(Detection {
                image: image.id,
                category: categories[answer.word]?,
                score: f64::from(answer.score),
                box_in_image: [x1, y1, x2 - x1, y2 - y1],
            })
        });
        of_image.collect::<Vec<_>>()
    });
    found.collect()
}

/// A detector's word, and what it is to the annotations.
struct Word {
    /// Its name as [`normal_name`] has it.
    name: String,
    /// The categories that are this word, a kind of it, or one that it is a kind of.
    related: Vec<u64>,
    /// Whether all of its objects are annotated.
    is_complete: bool,
}

impl Word {
    fn new(name: &str, own: &[(u64, String)], settings: &Settings) -> Self {
        let name = normal_name(name);
        let related: Vec<u64> =
            own.iter().filter(|(_, other)| are_related(&name, other)).map(|(id, _)| *id).collect();
        let is_complete = (settings.complete_for_own && !related.is_empty())
            || settings.complete_for.iter().any(|word| normal_name(word) == name);
        Self { name, related, is_complete }
    }
}

/// Whether a detection becomes an object (`true`), is ignored (`false`), or dropped.
fn fate(answer: &Answer, word: &Word, annotated: &[(u64, [f32; 4])], settings: &Settings) -> Option<bool> {
    let mut is_doubtful = word.is_complete;
    for (category, corners) in annotated {
        let overlap = iou(answer.corners_in_frame, *corners);
        if overlap >= ANNOTATED_IOU {
            return None;
        }
        let is_near =
            overlap >= DOUBTFUL_IOU || share_within(answer.corners_in_frame, *corners) >= DOUBTFUL_SHARE;
        is_doubtful |= is_near && word.related.contains(category);
    }
    Some(!is_doubtful && answer.score >= settings.object_score)
}

/// The share of a box's area that lies in another.
fn share_within([x1, y1, x2, y2]: [f32; 4], other: [f32; 4]) -> f32 {
    let width = (x2.min(other[2]) - x1.max(other[0])).max(0.0);
    let height = (y2.min(other[3]) - y1.max(other[1])).max(0.0);
    width * height / ((x2 - x1) * (y2 - y1)).max(f32::MIN_POSITIVE)
}

/// VOC's names and other spellings, and COCO's for them.
const SYNONYMS: [(&str, &str); 12] = [
    ("aeroplane", "airplane"),
    ("cellphone", "cell phone"),
    ("diningtable", "dining table"),
    ("doughnut", "donut"),
    ("hair dryer", "hair drier"),
    ("mobile phone", "cell phone"),
    ("motorbike", "motorcycle"),
    ("pottedplant", "potted plant"),
    ("sofa", "couch"),
    ("television", "tv"),
    ("traffic signal", "traffic light"),
    ("tvmonitor", "tv"),
];

/// Kinds of a word whose names don't end in it.
const KINDS: [(&str, &[&str]); 5] = [
    ("bird", &["chicken", "duck", "hummingbird", "pelican"]),
    ("car", &["ambulance"]),
    ("handbag", &["bag"]),
    ("laptop", &["computer"]),
    ("truck", &["ambulance", "excavator"]),
];

/// A name as names are compared: in small letters, one space between words, COCO's name of several.
pub fn normal_name(name: &str) -> String {
    let small = name.to_lowercase().replace(['_', '-'], " ");
    let spaced = small.split_whitespace().collect::<Vec<_>>().join(" ");
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == spaced);
    synonym.map_or(spaced, |(_, name)| (*name).to_owned())
}

/// Whether one of two normal names is the other or a kind of it: "plastic bottle" and "bottle".
fn are_related(detected: &str, annotated: &str) -> bool {
    let is_kind = |kind: &str, of: &str| kind.strip_suffix(of).is_some_and(|rest| rest.ends_with(' '));
    detected == annotated
        || is_kind(annotated, detected)
        || is_kind(detected, annotated)
        || KINDS.iter().any(|(of, kinds)| *of == detected && kinds.contains(&annotated))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn file() -> AnnotationFile {
        let text = r#"{
            "info": {"year": 2012},
            "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 100, "coco_split": "val"}],
            "annotations": [{"id": 3, "image_id": 7, "category_id": 2, "bbox": [10.0, 10.0, 40.0, 40.0], "area": 900,
                "iscrowd": 0, "segmentation": [[1, 2, 3]]}],
            "categories": [{"id": 2, "name": "sofa"}, {"id": 5, "name": "plastic bottle"}]
        }"#;
        serde_json::from_str(text).unwrap()
    }

    fn settings() -> Settings {
        Settings { object_score: 0.35, ignore_score: 0.1, complete_for_own: true, complete_for: vec![] }
    }

    fn names() -> Vec<String> {
        ["couch", "person", "bottle", "airplane"].map(str::to_owned).to_vec()
    }

    /// The file completed by one detection, and what became of it.
    fn completed(word: usize, score: f32, corners_in_frame: [f32; 4], settings: &Settings) -> AnnotationFile {
        let mut file = file();
        let answers = [vec![Answer { word, score, corners_in_frame }]];
        let counts = complete(&mut file, &answers, &names(), "yolox", settings);
        assert_eq!(counts.objects + counts.ignored + counts.dropped, usize::from(score >= 0.1));
        assert_eq!(file.annotations.len(), 1 + counts.objects + counts.ignored);
        file
    }

    /// Whether the only detection is ignored; none: it is not in the file.
    fn is_ignored(file: &AnnotationFile) -> Option<bool> {
        file.annotations.get(1).map(|annotation| annotation.ignore == 1)
    }

    const FREE: [f32; 4] = [60.0, 60.0, 90.0, 80.0];

    #[test]
    fn a_sure_detection_of_another_word_is_an_object_with_its_score_and_source() {
        let file = completed(1, 0.5, FREE, &settings());
        let object = serde_json::to_value(&file.annotations[1]).unwrap();
        assert_eq!(
            object,
            serde_json::json!({
                "id": 4, "image_id": 7, "category_id": 6, "bbox": [60.0, 60.0, 30.0, 20.0], "area": 600.0,
                "iscrowd": 0, "score": 0.5, "source": "yolox",
            })
        );
        let person = file.categories.last().unwrap();
        assert_eq!((person.id, person.name.as_str()), (6, "person"));
    }

    #[test]
    fn what_the_file_had_before_is_kept_to_the_last_field() {
        let before = serde_json::to_value(file()).unwrap();
        let after = serde_json::to_value(completed(1, 0.5, FREE, &settings())).unwrap();
        for (name, before) in before.as_object().unwrap() {
            match before.as_array() {
                Some(before) => assert_eq!(after[name].as_array().unwrap()[..before.len()], before[..]),
                None => assert_eq!(&after[name], before),
            }
        }
        assert_eq!(before["annotations"][0]["segmentation"][0][2], 3);
        assert_eq!(before["images"][0]["coco_split"], "val");
    }

    #[test]
    fn a_doubtful_detection_is_ignored_and_a_weaker_one_left_out() {
        assert_eq!(is_ignored(&completed(1, 0.2, FREE, &settings())), Some(true));
        assert_eq!(is_ignored(&completed(1, 0.05, FREE, &settings())), None);
    }

    #[test]
    fn a_detection_of_an_annotated_object_is_dropped_and_one_inside_of_it_kept() {
        assert_eq!(is_ignored(&completed(1, 0.9, [12.0, 10.0, 50.0, 50.0], &settings())), None);
        assert_eq!(is_ignored(&completed(1, 0.9, [20.0, 20.0, 40.0, 40.0], &settings())), Some(false));
    }

    #[test]
    fn words_that_a_set_annotates_completely_are_ignored_and_so_are_their_kinds() {
        for word in [0, 2] {
            assert_eq!(is_ignored(&completed(word, 0.9, FREE, &settings())), Some(true), "word {word}");
            let incomplete = Settings { complete_for_own: false, ..settings() };
            assert_eq!(is_ignored(&completed(word, 0.9, FREE, &incomplete)), Some(false), "word {word}");
        }
        let no_plane = Settings { complete_for: vec!["Aeroplane".into()], ..settings() };
        assert_eq!(is_ignored(&completed(3, 0.9, FREE, &no_plane)), Some(true));
    }

    #[test]
    fn in_an_incomplete_set_a_part_of_an_object_of_the_same_word_is_ignored() {
        let incomplete = Settings { complete_for_own: false, ..settings() };
        assert_eq!(is_ignored(&completed(0, 0.9, [20.0, 20.0, 40.0, 40.0], &incomplete)), Some(true));
    }

    #[test]
    fn a_category_takes_detections_of_its_synonyms() {
        let incomplete = Settings { complete_for_own: false, ..settings() };
        let file = completed(0, 0.9, FREE, &incomplete);
        assert_eq!(file.annotations[1].category_id, 2, "sofa is couch");
        assert_eq!(file.categories.len(), 2);
        assert_eq!(normal_name("TVMonitor"), "tv");
        assert_eq!(normal_name("Dining-Table"), "dining table");
    }
}
