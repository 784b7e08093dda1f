//! OV-COCO: the base and novel words of COCO that open-vocabulary detectors are compared on.
//!
//! Takes a student, COCO annotations, and the split of Bansal et al. (ECCV 2018): 48 base and 17 novel words; COCO's
//! other 15 are left out. Returns AP50 of novel, base and all words in the *generalised* setting, in which all 65
//! compete for each region, beside what ViLD's authors published.
//!
//! The split decides which words are novel, not the vocabulary. A student that trained on boxes of novel words gets
//! its figures all the same, and [`OvCoco::novel_trained_on`] says so.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use wordsight_detection::Vocabulary;

use super::annotated::{self, AnnotatedSet, Row, Rules};
use super::{Detector, tables};

/// Which words are base and which are novel.
#[derive(Clone, Debug, Deserialize)]
pub struct Split {
    /// Those whose boxes training may see.
    pub base: Vec<String>,
    /// Those that it may not.
    pub novel: Vec<String>,
}

/// AP50, 0 to 1; none where there was nothing to find.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ap50 {
    /// Mean over the novel words.
    pub novel: Option<f64>,
    /// Mean over the base words.
    pub base: Option<f64>,
    /// Mean over both.
    pub all: Option<f64>,
}

/// ViLD with a ResNet-50 on COCO's whole val2017 (Gu et al., arXiv 2104.13921).
pub const VILD: Ap50 = Ap50 { novel: Some(0.276), base: Some(0.595), all: Some(0.513) };

/// How good a student is on the split.
#[derive(Clone, Debug, Serialize)]
pub struct OvCoco {
    /// Images with an annotation of one of the words.
    pub images: usize,
    /// Words that there are objects of: novel, base.
    pub words: [usize; 2],
    /// The student's figures.
    pub student: Ap50,
    /// ViLD's, as published.
    pub vild: Ap50,
    /// Novel words that the student's training had boxes of. A figure for open vocabulary has none.
    pub novel_trained_on: Vec<String>,
}

impl Split {
    /// Reads the split, a JSON object with the lists `base` and `novel`.
    ///
    /// # Errors
    /// When it can't be read, or a word is both.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read the split {}", path.display()))?;
        let split: Self = serde_json::from_str(&text).with_context(|| {
            format!("{} is no split: it is a JSON object with the lists base and novel", path.display())
        })?;
        let both: Vec<&String> = split.novel.iter().filter(|word| split.base.contains(word)).collect();
        ensure!(both.is_empty(), "{}: {both:?} are base and novel at once", path.display());
        Ok(split)
    }

    /// All its words, base first.
    pub fn words(&self) -> Vec<String> {
        [self.base.as_slice(), &self.novel].concat()
    }

    /// The figures of a row over these words.
    fn ap50(&self, row: &Row) -> Ap50 {
        let mean = |words: &[&[String]]| {
            let found: Vec<f64> =
                words.concat().iter().filter_map(|word| Some(row.words.get(word)?.ap50)).collect();
            (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
        };
        Ap50 { novel: mean(&[&self.novel]), base: mean(&[&self.base]), all: mean(&[&self.base, &self.novel]) }
    }
}

/// Evaluates a student on the split's words. `vocabulary`: just [`Split::words`].
///
/// # Errors
/// When the set lacks one of the words, or an image can't be read.
pub fn evaluate(
    detector: &mut Detector,
    vocabulary: &Vocabulary,
    set: &AnnotatedSet,
    split: &Split,
) -> Result<OvCoco> {
    let set = set.of_words(&split.words()).context("OV-COCO needs annotations of all its words")?;
    let row = annotated::student_row("student", detector, vocabulary, &set, Rules::Coco)?;
    let with_objects = |words: &[String]| words.iter().filter(|word| row.words.contains_key(*word)).count();
    let trained = detector.facts().trained_words();
    Ok(OvCoco {
        images: set.len(),
        words: [with_objects(&split.novel), with_objects(&split.base)],
        student: split.ap50(&row),
        vild: VILD,
        novel_trained_on: split.novel.iter().filter(|word| trained.contains(*word)).cloned().collect(),
    })
}

/// The figures as a table for people, in percent, and what differs between the lines.
pub fn table(figures: &OvCoco) -> String {
    let [novel, base] = figures.words;
    let heading =
        ["OV-COCO, AP50".into(), format!("novel ({novel})"), format!("base ({base})"), "all".into()];
    let line = |who: &str, ap50: Ap50| {
        let cells = [ap50.novel, ap50.base, ap50.all].map(tables::percent);
        [vec![who.to_owned()], cells.to_vec()].concat()
    };
    let lines = [heading.to_vec(), line("student", figures.student), line("ViLD, ResNet-50", figures.vild)];
    let trained = match figures.novel_trained_on.len() {
        0 => "The student's training had no boxes of the novel words.".to_owned(),
        count => format!(
            "The student's training had boxes of {count} of the novel words: its novel figure is not one of open vocabulary."
        ),
    };
    format!(
        "{}ViLD's line is as published (arXiv 2104.13921): a ResNet-50 with CLIP as its teacher, on all of COCO \
         val2017. The student's is on {} photographs. {trained}\n",
        tables::aligned(&lines),
        figures.images
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use serde_json::json;
    use wordsight_evaluation::Detection;

    use super::*;

    /// A cat, a dog and a car in an image each, a lamp in a fourth; only the dog and the car are found.
    fn set_and_row(folder: &Path) -> (AnnotatedSet, Row) {
        let image = |id: u64| json!({"id": id, "file_name": format!("{id}.png")});
        let object = |id: u64| json!({"id": id, "image_id": id, "category_id": id, "bbox": [0, 0, 50, 50], "area": 2500});
        let category = |(id, name): (u64, &str)| json!({"id": id, "name": name});
        let annotations = json!({
            "images": ([1, 2, 3, 4].map(image)),
            "annotations": ([1, 2, 3, 4].map(object)),
            "categories": ([(1, "cat"), (2, "dog"), (3, "car"), (4, "lamp")].map(category)),
        });
        let path = folder.join("annotations.json");
        fs::write(&path, annotations.to_string()).unwrap();
        let set = AnnotatedSet::load(&path, folder).unwrap();
        let found = [2, 3].map(|id| Detection {
            image: id,
            category: id,
            score: 0.9,
            box_in_image: [0.0, 0.0, 50.0, 50.0],
        });
        let set = set.of_words(&split().words()).unwrap();
        let row = annotated::fixed_words_row("", &set, found.to_vec(), Duration::ZERO, Rules::Coco);
        (set, row)
    }

    fn split() -> Split {
        Split { base: vec!["car".into()], novel: vec!["cat".into(), "dog".into()] }
    }

    #[test]
    fn images_and_annotations_of_other_words_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (set, _) = set_and_row(folder.path());
        assert_eq!((set.len(), set.truth.ground_truths.len(), set.names().len()), (3, 3, 3));
        let unknown = set.of_words(&["lamp".into()]).err().unwrap().to_string();
        assert!(unknown.contains("lamp"), "{unknown}");
    }

    #[test]
    fn each_group_is_the_mean_over_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let (_, row) = set_and_row(folder.path());
        let Ap50 { novel, base, all } = split().ap50(&row);
        for (found, wanted) in [(novel, 0.5), (base, 1.0), (all, 2.0 / 3.0)] {
            assert!((found.unwrap() - wanted).abs() < 1e-9, "{found:?} for {wanted}");
        }
    }

    #[test]
    fn a_table_says_when_novel_words_were_trained_on() {
        let figures = |novel_trained_on: Vec<String>| OvCoco {
            images: 3,
            words: [2, 1],
            student: VILD,
            vild: VILD,
            novel_trained_on,
        };
        assert!(table(&figures(vec![])).contains("had no boxes of the novel words"));
        assert!(table(&figures(vec!["cat".into()])).contains("had boxes of 1 of the novel words"));
    }
}
