//! A detector's answers, kept in a table with a row a photograph: looking at a hundred thousand of them resumes after a
//! kill, and divides among the tasks of an array.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::yolox::{Answer, Suppression};
use super::{AnnotationFile, Detect, ImageEntry, detect};
use crate::images::Images;
use crate::photographs::Unreadable;
use crate::table::{self, Shard, Table};

/// The most answers that are kept of a photograph, the surest.
const MOST: usize = 200;
/// Bytes of an answer: its word plus one, its score, its corners.
const ANSWER_BYTES: usize = 24;
/// Bytes of the digest that a row ends in.
const DIGEST_BYTES: usize = 64;

/// What a folder of answers is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerManifest {
    images: usize,
    most_answers: usize,
    /// SHA-256 over the detector, its words and the settings.
    answers: String,
}

impl AnswerManifest {
    /// Of a file's images; `detector`: the bytes that make its answers what they are.
    pub fn new(file: &AnnotationFile, detector: &[&[u8]], suppression: &Suppression) -> Self {
        let settings = format!("{suppression:?}");
        let parts: Vec<&[u8]> = detector.iter().copied().chain([settings.as_bytes()]).collect();
        Self { images: file.images.len(), most_answers: MOST, answers: table::digest(&parts) }
    }

    /// The table in a folder.
    pub fn table(&self, folder: &Path) -> Table {
        let row_bytes = self.most_answers * ANSWER_BYTES + DIGEST_BYTES;
        Table { path: folder.join("answers.bin"), row_bytes, rows: self.images }
    }
}

/// Looks at a shard's photographs, those that the folder lacks. `detectors`: one a thread.
///
/// # Errors
/// When a picture can't be read or isn't of the size that the file says, ONNX Runtime fails, or the folder is of other
/// photographs or of another detector.
pub fn look(
    detectors: &mut [Box<dyn Detect>],
    file: &AnnotationFile,
    images: &Images,
    unreadable: Unreadable,
    (manifest, suppression): (&AnswerManifest, &Suppression),
    shard: Shard,
    folder: &Path,
) -> Result<()> {
    table::start_or_resume(folder, manifest, "answers")?;
    let digest_of = |index: usize| digest_of(&file.images[index], images, file.lacks_sizes);
    let table = manifest.table(folder);
    // A picture that can't be read any more has no row to keep.
    let is_current =
        |index: usize, row: &[u8]| digest_of(index).is_ok_and(|digest| row.ends_with(digest.as_bytes()));
    table.append_missing(shard, "photographs", detectors, is_current, |detector, index| {
        let image = &file.images[index];
        let found = detect(detector.as_mut(), image, images, suppression);
        let mut row = match unreadable.take(found)? {
            Some(answers) => row_of(answers),
            None => return Ok(vec![0; table.row_bytes]),
        };
        row.resize(table.row_bytes - DIGEST_BYTES, 0);
        row.extend(digest_of(index)?.as_bytes());
        Ok(row)
    })
}

/// The answers of a finished folder, in the order of the images.
///
/// # Errors
/// When shards are missing.
pub fn read(manifest: &AnswerManifest, folder: &Path) -> Result<Vec<Vec<Answer>>> {
    let table = manifest.table(folder);
    let rows = table.map()?;
    Ok(rows.chunks_exact(table.row_bytes).map(answers_of).collect())
}

fn digest_of(image: &ImageEntry, images: &Images, lacks_size: bool) -> Result<String> {
    let size = if lacks_size { Some(images.size_of(&image.file_name)?.into()) } else { image.size() };
    Ok(table::digest(&[image.file_name.as_bytes(), format!("{size:?}").as_bytes()]))
}

fn row_of(mut answers: Vec<Answer>) -> Vec<u8> {
    answers.sort_by(|a, b| b.score.total_cmp(&a.score));
    answers.truncate(MOST);
    let bytes = |answer: &Answer| {
        let numbers = [answer.score].into_iter().chain(answer.corners_in_frame);
        let numbers: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
        (answer.word as u32 + 1).to_le_bytes().into_iter().chain(numbers).collect::<Vec<u8>>()
    };
    answers.iter().flat_map(bytes).collect()
}

fn answers_of(row: &[u8]) -> Vec<Answer> {
    let (answers, _) = row[..row.len() - DIGEST_BYTES].as_chunks::<ANSWER_BYTES>();
    let answers = answers.iter().map(|bytes| {
        let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let word = u32::from_le_bytes(four(0)).checked_sub(1)? as usize;
        let score = f32::from_le_bytes(four(4));
        Some(Answer { word, score, corners_in_frame: [8, 12, 16, 20].map(|at| f32::from_le_bytes(four(at))) })
    });
    answers.map_while(|answer| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_their_row_and_the_surest_are_kept() {
        let answer = |word: usize| Answer {
            word,
            score: 1.0 / (word + 1) as f32,
            corners_in_frame: [word as f32, 1.5, 20.25, 30.0],
        };
        for count in [0, 1, MOST, MOST + 5] {
            let answers: Vec<Answer> = (0..count).map(answer).collect();
            let mut row = row_of(answers.iter().rev().copied().collect());
            row.resize(MOST * ANSWER_BYTES + DIGEST_BYTES, 0);
            assert_eq!(answers_of(&row), answers[..count.min(MOST)]);
        }
    }
}
