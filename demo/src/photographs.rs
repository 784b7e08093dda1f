//! How right the device program is on the demo's photographs: precision and recall, overall and for each word.
//!
//! Takes the truth in COCO's format and the lines of `wordsight detect --json`, one a photograph, and returns a
//! [`Report`]. A detection is right if it overlaps an object of its word with an IoU of at least 0.5 and no detection
//! with a higher score has taken that object. In a box with `iscrowd`, which marks several such things or one that may
//! be such a thing, it is neither right nor wrong. All objects count, small ones too; the recall of the larger ones is
//! given beside it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::check::{Detection, LEAST_IOU, iou};

/// From this share of a detection in a crowd's box on, it shows the crowd.
const LEAST_SHARE_IN_CROWD: f64 = 0.5;
/// An object is not small when its box has at least the area of a square of this side, in pixels of the photograph.
const SMALL_SIDE: f64 = 32.0;

/// An annotation file in COCO's format; what is not needed here is overlooked.
#[derive(Clone, Debug, Deserialize)]
pub struct Truth {
    images: Vec<Image>,
    categories: Vec<Category>,
    annotations: Vec<Annotation>,
}

#[derive(Clone, Debug, Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Clone, Debug, Deserialize)]
struct Category {
    id: u64,
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u64,
    /// Left, top, width, height in pixels.
    bbox: [f64; 4],
    #[serde(default)]
    iscrowd: u8,
}

impl Annotation {
    fn sides(&self) -> [f64; 4] {
        let [left, top, width, height] = self.bbox;
        [left, top, left + width, top + height]
    }
}

impl Truth {
    /// Reads an annotation file and checks that its parts fit together.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read the truth {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let truth: Self = serde_json::from_str(text).context("not annotations in COCO's format")?;
        for annotation in &truth.annotations {
            let image = truth.images.iter().find(|image| image.id == annotation.image_id);
            let image = image.with_context(|| {
                format!("an annotation is of image {}, which is not there", annotation.image_id)
            })?;
            truth.word(annotation.category_id).with_context(|| {
                format!("an annotation is of category {}, which is not there", annotation.category_id)
            })?;
            let [left, top, right, bottom] = annotation.sides();
            ensure!(
                0.0 <= left
                    && left < right
                    && right <= f64::from(image.width)
                    && 0.0 <= top
                    && top < bottom
                    && bottom <= f64::from(image.height),
                "the box {:?} does not lie in {}, which has {}x{} pixels",
                annotation.bbox,
                image.file_name,
                image.width,
                image.height
            );
        }
        Ok(truth)
    }

    fn word(&self, category: u64) -> Option<&str> {
        self.categories.iter().find(|known| known.id == category).map(|known| known.name.as_str())
    }
}

#[derive(Deserialize)]
struct Line {
    source: String,
    detections: Vec<Detection>,
}

/// What was found in each photograph, by its file's name.
pub type Found = BTreeMap<String, Vec<Detection>>;

/// Reads the lines of `wordsight detect --json`.
pub fn load_found(path: &Path) -> Result<Found> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the detections {}", path.display()))?;
    parse_found(&text).with_context(|| path.display().to_string())
}

fn parse_found(text: &str) -> Result<Found> {
    let mut found = Found::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line)
            .with_context(|| format!("line {} is not a line of 'wordsight detect --json'", number + 1))?;
        let name = Path::new(&line.source).file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.with_context(|| format!("line {} names no file: '{}'", number + 1, line.source))?;
        let before = found.insert(name, line.detections);
        ensure!(before.is_none(), "line {} is the second for {}", number + 1, line.source);
    }
    Ok(found)
}

/// What is there of one word, or of all, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Objects, without crowds.
    pub objects: usize,
    /// Those of them whose box has at least 32x32 pixels.
    pub larger_objects: usize,
    /// Detections that are right or wrong.
    pub shown: usize,
    /// Right ones.
    pub right: usize,
    /// Right ones on the larger objects.
    pub right_on_larger: usize,
    /// How many of what is shown are right, 0 to 1; none where nothing is shown.
    pub precision: Option<f64>,
    /// How many of the objects are found, 0 to 1; none where there is no object.
    pub recall: Option<f64>,
    /// How many of the larger objects are found, 0 to 1; none where there is no such object.
    pub recall_of_larger: Option<f64>,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.objects += other.objects;
        self.larger_objects += other.larger_objects;
        self.shown += other.shown;
        self.right += other.right;
        self.right_on_larger += other.right_on_larger;
    }

    fn with_shares(self) -> Self {
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        Self {
            precision: share(self.right, self.shown),
            recall: share(self.right, self.objects),
            recall_of_larger: share(self.right_on_larger, self.larger_objects),
            ..self
        }
    }
}

/// One word's counts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WordCounts {
    /// The word.
    pub word: String,
    /// Its counts.
    #[serde(flatten)]
    pub counts: Counts,
}

/// The whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Photographs.
    pub photographs: usize,
    /// Over all words.
    pub overall: Counts,
    /// One entry a word of the truth, those without an object among them.
    pub words: Vec<WordCounts>,
}

impl Report {
    /// Compares what was found with the truth. Fails where photographs or words are not the truth's.
    pub fn of(truth: &Truth, found: &Found) -> Result<Self> {
        for name in found.keys() {
            ensure!(
                truth.images.iter().any(|image| image.file_name == *name),
                "'{name}' is not a photograph of the truth: the detections are of other photographs"
            );
        }
        let mut words = vec![Counts::default(); truth.categories.len()];
        for image in &truth.images {
            let detections = found.get(&image.file_name).with_context(|| {
                format!("no line for '{}': run 'wordsight detect --json' on all photographs", image.file_name)
            })?;
            for detection in detections {
                ensure!(
                    truth.categories.iter().any(|category| category.name == detection.word),
                    "'{}' in '{}' is not a word of the truth: the detections are of another vocabulary",
                    detection.word,
                    image.file_name
                );
            }
            for (category, counts) in truth.categories.iter().zip(&mut words) {
                let of_word = |annotation: &&Annotation| {
                    annotation.image_id == image.id && annotation.category_id == category.id
                };
                let annotations: Vec<_> = truth.annotations.iter().filter(of_word).collect();
                let shown: Vec<_> = detections.iter().filter(|found| found.word == category.name).collect();
                counts.add(&judge(&annotations, shown));
            }
        }
        let mut overall = Counts::default();
        words.iter().for_each(|counts| overall.add(counts));
        let named = truth.categories.iter().zip(words);
        let words = named.map(|(category, counts)| WordCounts {
            word: category.name.clone(),
            counts: counts.with_shares(),
        });
        Ok(Self { photographs: truth.images.len(), overall: overall.with_shares(), words: words.collect() })
    }

    /// The table for people: the words with the most objects first, then those of which there is none.
    pub fn to_table(&self) -> String {
        let mut table = format!(
            "{:<14} {:>7} {:>6} {:>6} {:>9} {:>7} {:>17}\n",
            "word", "objects", "shown", "right", "precision", "recall", "from 32x32 pixels"
        );
        let mut words: Vec<_> = self.words.iter().collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.counts.objects));
        let everything = format!("{} photographs", self.photographs);
        let rows = words.iter().map(|word| (word.word.as_str(), &word.counts));
        for (name, counts) in rows.chain([(everything.as_str(), &self.overall)]) {
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "{name:<14} {:>7} {:>6} {:>6} {:>9} {:>7} {:>17}",
                counts.objects,
                counts.shown,
                counts.right,
                percent(counts.precision),
                percent(counts.recall),
                percent(counts.recall_of_larger)
            );
        }
        table
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.0}%", 100.0 * share))
}

/// Counts for the annotations and the detections of one word in one photograph.
fn judge(annotations: &[&Annotation], mut shown: Vec<&Detection>) -> Counts {
    let is_larger =
        |annotation: &Annotation| annotation.bbox[2] * annotation.bbox[3] >= SMALL_SIDE * SMALL_SIDE;
    let (crowds, objects): (Vec<&Annotation>, Vec<&Annotation>) =
        annotations.iter().copied().partition(|annotation| annotation.iscrowd != 0);
    let larger_objects = objects.iter().filter(|object| is_larger(object)).count();
    let mut counts = Counts { objects: objects.len(), larger_objects, ..Counts::default() };
    let mut is_taken = vec![false; objects.len()];
    shown.sort_by(|a, b| b.score.total_cmp(&a.score));
    for detection in shown {
        let free = objects.iter().enumerate().filter(|(place, _)| !is_taken[*place]);
        let overlaps = free.map(|(place, object)| (iou(object.sides(), detection.box_in_frame), place));
        let best = overlaps.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(overlap, _)| *overlap >= LEAST_IOU);
        if let Some((_, place)) = best {
            is_taken[place] = true;
            counts.right += 1;
            counts.right_on_larger += usize::from(is_larger(objects[place]));
        } else if crowds.iter().any(|crowd| is_in(crowd.sides(), detection.box_in_frame)) {
            continue;
        }
        counts.shown += 1;
    }
    counts
}

/// Whether half of a detection or more lies in a crowd's box.
fn is_in(crowd: [f64; 4], detection: [f64; 4]) -> bool {
    let area = |[left, top, right, bottom]: [f64; 4]| (right - left).max(0.0) * (bottom - top).max(0.0);
    let [left, top, right, bottom] = detection;
    let shared = [left.max(crowd[0]), top.max(crowd[1]), right.min(crowd[2]), bottom.min(crowd[3])];
    area(shared) >= LEAST_SHARE_IN_CROWD * area(detection)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// A street with two cars, one of them small, and a crowd of people; a kitchen with a cup. No dog anywhere.
    const TRUTH: &str = r#"{
        "images": [{"id": 1, "file_name": "street.jpg", "width": 640, "height": 480},
                   {"id": 2, "file_name": "kitchen.jpg", "width": 640, "height": 480}],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}, {"id": 3, "name": "cup"}, {"id": 4, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 50], "iscrowd": 0},
                        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [300, 0, 20, 20], "iscrowd": 0},
                        {"id": 3, "image_id": 1, "category_id": 2, "bbox": [0, 200, 640, 100], "iscrowd": 1},
                        {"id": 4, "image_id": 2, "category_id": 3, "bbox": [50, 50, 40, 40]}]}"#;

    fn report(street: &str, kitchen: &str) -> Report {
        let lines = format!(
            "{{\"source\": \"demo/photographs/street.jpg\", \"detections\": [{street}]}}\n\
             {{\"source\": \"demo/photographs/kitchen.jpg\", \"detections\": [{kitchen}]}}\n"
        );
        Report::of(&Truth::parse(TRUTH).unwrap(), &parse_found(&lines).unwrap()).unwrap()
    }

    fn detection(word: &str, score: f64, [left, top, right, bottom]: [u32; 4]) -> String {
        format!(
            r#"{{"word": "{word}", "score": {score}, "box_in_frame": [{left}, {top}, {right}, {bottom}]}}"#
        )
    }

    fn counts(report: &Report, word: &str) -> Counts {
        report.words.iter().find(|counts| counts.word == word).unwrap().counts.clone()
    }

    #[test]
    fn a_word_that_is_right_counts_for_precision_and_recall_and_one_that_is_not_there_against_precision() {
        let car = detection("car", 0.9, [0, 0, 100, 45]);
        let dog = detection("dog", 0.8, [0, 0, 100, 45]);
        let report = report(&format!("{car}, {dog}"), "");
        let overall = &report.overall;
        assert_eq!((overall.objects, overall.shown, overall.right), (3, 2, 1));
        assert_eq!((overall.precision, overall.recall), (Some(0.5), Some(1.0 / 3.0)));
        assert_eq!(counts(&report, "dog").precision, Some(0.0));
        assert_eq!((counts(&report, "dog").recall, counts(&report, "cup").precision), (None, None));
    }

    #[test]
    fn one_object_makes_one_detection_right_and_the_surer_one_has_it() {
        let sure = detection("car", 0.9, [0, 0, 100, 30]);
        let exact = detection("car", 0.5, [0, 0, 100, 50]);
        let cars = counts(&report(&format!("{exact}, {sure}"), ""), "car");
        assert_eq!((cars.shown, cars.right), (2, 1));
    }

    #[test]
    fn the_right_word_in_another_photograph_or_with_too_little_overlap_is_wrong() {
        let elsewhere = report("", &detection("car", 0.9, [0, 0, 100, 50]));
        assert_eq!((counts(&elsewhere, "car").shown, counts(&elsewhere, "car").right), (1, 0));
        let beside = report("", &detection("cup", 0.9, [70, 50, 110, 90]));
        assert_eq!((counts(&beside, "cup").shown, counts(&beside, "cup").right), (1, 0));
    }

    #[test]
    fn what_lies_in_a_crowd_is_neither_right_nor_wrong() {
        let people =
            [detection("person", 0.9, [10, 210, 30, 290]), detection("person", 0.8, [50, 210, 70, 290])];
        let person = counts(&report(&people.join(", "), ""), "person");
        assert_eq!((person.objects, person.shown), (0, 0));
        let outside = counts(&report(&detection("person", 0.9, [10, 50, 30, 210]), ""), "person");
        assert_eq!((outside.shown, outside.right), (1, 0));
    }

    #[test]
    fn a_small_object_counts_for_recall_and_not_for_recall_from_32x32_pixels() {
        let cars = counts(&report(&detection("car", 0.9, [0, 0, 100, 50]), ""), "car");
        assert_eq!((cars.recall, cars.recall_of_larger), (Some(0.5), Some(1.0)));
        let small = counts(&report(&detection("car", 0.9, [300, 0, 320, 20]), ""), "car");
        assert_eq!((small.recall, small.recall_of_larger), (Some(0.5), Some(0.0)));
    }

    #[test]
    fn other_photographs_other_words_and_missing_lines_are_named() {
        let truth = Truth::parse(TRUTH).unwrap();
        let message =
            |lines: &str| format!("{:#}", Report::of(&truth, &parse_found(lines).unwrap()).unwrap_err());
        let other = message(r#"{"source": "beach.jpg", "detections": []}"#);
        assert!(other.contains("beach.jpg"), "{other}");
        let missing = message(r#"{"source": "street.jpg", "detections": []}"#);
        assert!(missing.contains("kitchen.jpg"), "{missing}");
        let words = format!(
            r#"{{"source": "street.jpg", "detections": [{}]}}"#,
            detection("boat", 0.9, [0, 0, 9, 9])
        );
        assert!(message(&words).contains("boat"), "{}", message(&words));
        let broken = format!("{:#}", parse_found("street").unwrap_err());
        assert!(broken.contains("line 1"), "{broken}");
    }

    #[test]
    fn annotations_that_leave_their_photograph_or_belong_to_none_are_refused() {
        let outside = Truth::parse(&TRUTH.replace("[300, 0, 20, 20]", "[630, 0, 20, 20]")).unwrap_err();
        assert!(outside.to_string().contains("street.jpg"), "{outside}");
        let nowhere = Truth::parse(&TRUTH.replace("\"image_id\": 2", "\"image_id\": 3")).unwrap_err();
        assert!(nowhere.to_string().contains("image 3"), "{nowhere}");
    }

    #[test]
    fn the_table_has_a_line_a_word_and_one_for_all() {
        let table = report(&detection("car", 0.9, [0, 0, 100, 50]), "").to_table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 6, "{table}");
        assert!(lines[1].starts_with("car") && lines[1].contains("50%"), "{table}");
        assert!(lines[5].starts_with("2 photographs") && lines[5].contains("33%"), "{table}");
    }
}
