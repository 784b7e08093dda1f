//! Compares what the device program found with the truth.
//!
//! For each shot and word of the vocabulary, over the frames that show such an object: the share in
//! which the frame's best-scored detection is the object and bears its word (`first`), and the share
//! in which any detection does (`found`). "Is the object" means IoU of 0.5 or more.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::boxes::Vocabulary;
use crate::truth::{FrameTruth, Truth};

/// The least IoU at which a detection is the object.
pub const LEAST_IOU: f64 = 0.5;
/// The least share of frames that must be right.
const LEAST_SHARE: f64 = 0.5;

/// One detection of the device program; its lines carry more, which is not needed here.
#[derive(Clone, Debug, Deserialize)]
pub struct Detection {
    /// The word it was given.
    pub word: String,
    /// 0 to 1.
    pub score: f64,
    /// x1, y1, x2, y2 in the frame's pixels.
    pub box_in_frame: [f64; 4],
}

#[derive(Deserialize)]
struct Line {
    frame: usize,
    detections: Vec<Detection>,
}

/// Reads JSON lines. The result has one entry a frame of the clip, `None` where there was no line.
pub fn load_detections(path: &Path, frames: usize) -> Result<Vec<Option<Vec<Detection>>>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the detections {}", path.display()))?;
    parse_detections(&text, frames).with_context(|| path.display().to_string())
}

fn parse_detections(text: &str, frames: usize) -> Result<Vec<Option<Vec<Detection>>>> {
    let mut seen: Vec<Option<Vec<Detection>>> = vec![None; frames];
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line)
            .with_context(|| format!("line {} is not a line of 'wordsight run'", number + 1))?;
        ensure!(
            line.frame < frames,
            "line {} is for frame {}, and the clip has {frames} frames (from 0): the lines are of another clip or of a loop over it",
            number + 1,
            line.frame
        );
        let before = seen[line.frame].replace(line.detections);
        ensure!(before.is_none(), "line {} is the second for frame {}", number + 1, line.frame);
    }
    Ok(seen)
}

/// How well one word was found in one shot.
#[derive(Clone, Debug, Serialize)]
pub struct WordReport {
    /// The shot's name.
    pub shot: String,
    /// The word.
    pub word: String,
    /// Frames of the shot that show such an object.
    pub frames: usize,
    /// Those of them for which the device program printed no line.
    pub frames_without_line: usize,
    /// Share of the frames in which the best-scored detection is the object and bears the word.
    pub first: f64,
    /// Share of the frames in which some detection is the object and bears the word.
    pub found: f64,
    /// The best IoU of a detection that bears the word, over all the frames.
    pub best_iou: f64,
    /// Whether the share that counts for the vocabulary reaches one half.
    pub passed: bool,
    /// Whether it is known that it doesn't: such a miss fails nothing.
    pub known_miss: bool,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which of the two vocabularies was checked.
    pub vocabulary: Vocabulary,
    /// Whether every word passed in every shot, but for known misses.
    pub passed: bool,
    /// One entry for each shot and word, in the clip's order.
    pub words: Vec<WordReport>,
}

impl Report {
    /// Compares `seen` (one entry a frame) with the truth.
    pub fn of(truth: &Truth, seen: &[Option<Vec<Detection>>], vocabulary: Vocabulary) -> Result<Self> {
        let mut words: Vec<WordReport> = Vec::new();
        for (shot, word) in shots_and_words(truth, vocabulary) {
            words.push(judge(truth, seen, vocabulary, shot, word));
        }
        ensure!(!words.is_empty(), "the truth has no object of this vocabulary");
        Ok(Self { vocabulary, passed: words.iter().all(|word| word.passed), words })
    }

    /// The same, in which shots that are known to be missed fail nothing.
    pub fn with_known_misses(mut self, shots: &[String]) -> Result<Self> {
        for shot in shots {
            let mut of_shot = self.words.iter_mut().filter(|word| &word.shot == shot).peekable();
            ensure!(
                of_shot.peek().is_some(),
                "--known-misses: the clip has no shot {shot:?} of this vocabulary"
            );
            of_shot.for_each(|word| word.known_miss = true);
        }
        self.passed = self.words.iter().all(|word| word.passed || word.known_miss);
        Ok(self)
    }

    /// The table for people.
    pub fn to_table(&self) -> String {
        let mut table = format!(
            "{:<14} {:<14} {:>6} {:>6} {:>6} {:>8}\n",
            "shot", "word", "frames", "first", "found", "best IoU"
        );
        for word in &self.words {
            let verdict = match (word.passed, word.known_miss) {
                (true, false) => "ok",
                (true, true) => "ok, and no longer a known miss",
                (false, false) => "UNDER ONE HALF",
                (false, true) => "under one half, as known",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "{:<14} {:<14} {:>6} {:>5.0}% {:>5.0}% {:>8.2}  {verdict}",
                word.shot,
                word.word,
                word.frames,
                100.0 * word.first,
                100.0 * word.found,
                word.best_iou
            );
            if word.frames_without_line > 0 {
                let _ = writeln!(
                    table,
                    "    {} of these frames have no line and count as wrong",
                    word.frames_without_line
                );
            }
        }
        table
    }
}

fn shots_and_words(truth: &Truth, vocabulary: Vocabulary) -> Vec<(&str, &str)> {
    let mut pairs = Vec::new();
    for frame in &truth.frames {
        for object in frame.objects.iter().filter(|object| object.vocabulary == vocabulary) {
            let pair = (frame.shot.as_str(), object.word.as_str());
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
    }
    pairs
}

fn judge(
    truth: &Truth,
    seen: &[Option<Vec<Detection>>],
    vocabulary: Vocabulary,
    shot: &str,
    word: &str,
) -> WordReport {
    let (mut frames, mut frames_without_line, mut first, mut found) = (0, 0, 0, 0);
    let mut best_iou: f64 = 0.0;
    for frame in truth.frames.iter().filter(|frame| frame.shot == shot) {
        let boxes = boxes_of(frame, vocabulary, word);
        if boxes.is_empty() {
            continue;
        }
        frames += 1;
        let Some(detections) = &seen[frame.frame] else {
            frames_without_line += 1;
            continue;
        };
        let best_of = |detection: &Detection| {
            let overlaps = boxes.iter().map(|&truth| iou(truth, detection.box_in_frame));
            if detection.word == word { overlaps.fold(0.0, f64::max) } else { 0.0 }
        };
        let best_in_frame = detections.iter().map(best_of).fold(0.0, f64::max);
        best_iou = best_iou.max(best_in_frame);
        found += usize::from(best_in_frame >= LEAST_IOU);
        // Of equal scores the first: the lines are in the device program's own order.
        let top = detections.iter().reduce(|best, next| if next.score > best.score { next } else { best });
        first += usize::from(top.is_some_and(|top| best_of(top) >= LEAST_IOU));
    }
    let share = |count: usize| count as f64 / frames.max(1) as f64;
    let deciding = match vocabulary {
        Vocabulary::Main => share(first),
        Vocabulary::Other => share(found),
    };
    WordReport {
        shot: shot.to_owned(),
        word: word.to_owned(),
        frames,
        frames_without_line,
        first: share(first),
        found: share(found),
        best_iou,
        passed: deciding >= LEAST_SHARE,
        known_miss: false,
    }
}

fn boxes_of(frame: &FrameTruth, vocabulary: Vocabulary, word: &str) -> Vec<[f64; 4]> {
    let wanted = frame.objects.iter().filter(|object| object.vocabulary == vocabulary && object.word == word);
    wanted.map(|object| object.box_in_frame).collect()
}

/// Intersection over union of two boxes x1, y1, x2, y2 in the same space.
pub fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let area = |c: [f64; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let union = area(a) + area(b) - width * height;
    if union > 0.0 { width * height / union } else { 0.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn iou_of_boxes_that_share_a_third_half_and_nothing() {
        let a = [0.0, 0.0, 10.0, 10.0];
        assert_eq!(iou(a, a), 1.0);
        assert!((iou(a, [5.0, 0.0, 15.0, 10.0]) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(iou(a, [0.0, 0.0, 10.0, 5.0]), 0.5);
        assert_eq!(iou(a, [10.0, 0.0, 20.0, 10.0]), 0.0);
        assert_eq!(iou([3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0]), 0.0);
    }

    /// Two frames of one shot: a cat, and an eye within it.
    fn truth() -> Truth {
        let frame = |frame| {
            format!(
                r#"{{"frame": {frame}, "shot": "s", "objects": [
                    {{"vocabulary": "main", "word": "cat", "box_in_frame": [0, 0, 100, 100]}},
                    {{"vocabulary": "other", "word": "eye", "box_in_frame": [20, 20, 40, 40]}}]}}"#
            )
        };
        let text = format!(
            r#"{{"width": 640, "height": 480, "frames_per_second": 15, "frames": [{}, {}]}}"#,
            frame(0),
            frame(1)
        );
        serde_json::from_str(&text).unwrap()
    }

    const CAT: &str = r#"{"word": "cat", "score": 0.6, "objectness": 0.9, "box_in_frame": [0, 0, 100, 90]}"#;
    const EYE: &str = r#"{"word": "eye", "score": 0.2, "objectness": 0.5, "box_in_frame": [20, 20, 40, 38]}"#;
    const DOG: &str = r#"{"word": "dog", "score": 0.7, "objectness": 0.9, "box_in_frame": [0, 0, 100, 100]}"#;

    fn report(vocabulary: Vocabulary, frames: &[&str]) -> Report {
        let lines: Vec<_> = frames
            .iter()
            .enumerate()
            .map(|(frame, detections)| {
                format!(r#"{{"source": "clip", "frame": {frame}, "detections": [{detections}]}}"#)
            })
            .collect();
        Report::of(&truth(), &parse_detections(&lines.join("\n"), 2).unwrap(), vocabulary).unwrap()
    }

    #[test]
    fn one_frame_of_two_is_enough_and_none_is_not() {
        assert!(report(Vocabulary::Main, &[CAT, DOG]).passed);
        assert!(!report(Vocabulary::Main, &[DOG, DOG]).passed);
    }

    #[test]
    fn the_main_word_has_to_be_the_best_scored_of_the_frame() {
        let both = format!("{CAT}, {DOG}");
        let report = report(Vocabulary::Main, &[&both, &both]);
        assert_eq!((report.words[0].first, report.words[0].found), (0.0, 1.0));
        assert!(!report.passed);
    }

    #[test]
    fn an_other_thing_may_stand_anywhere_in_the_ranking() {
        let both = format!("{DOG}, {EYE}");
        assert!(report(Vocabulary::Other, &[&both, &both]).passed);
    }

    #[test]
    fn the_right_word_on_the_wrong_place_is_not_found() {
        let elsewhere = CAT.replace("[0, 0, 100, 90]", "[0, 0, 100, 49]");
        let report = report(Vocabulary::Main, &[&elsewhere, &elsewhere]);
        assert!(!report.passed);
        assert!((report.words[0].best_iou - 0.49).abs() < 1e-9);
    }

    #[test]
    fn a_frame_without_a_line_counts_as_wrong_and_the_table_says_so() {
        let report = report(Vocabulary::Main, &[CAT]);
        assert_eq!(report.words[0].first, 0.5);
        assert!(report.to_table().contains("1 of these frames"), "{}", report.to_table());
    }

    #[test]
    fn lines_beyond_the_clip_and_lines_that_are_no_lines_are_named() {
        let beyond = parse_detections(r#"{"frame": 2, "detections": []}"#, 2).unwrap_err();
        assert!(beyond.to_string().contains("frame 2"), "{beyond}");
        let broken = parse_detections("{\"frame\": 0, \"detections\": []}\nframe", 2).unwrap_err();
        assert!(broken.to_string().contains("line 2"), "{broken}");
    }
}
