//! Pictures that a list of words names as examples, as a student sees them.
//!
//! Gives the regions that show the words. The process that looks at photographs finds them, and they are kept in the
//! state directory by the pictures' content: a second start and a change of thresholds look at no picture.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use wordsight_capture::{Frame, decode_photograph};
use wordsight_detection::WordExamples;
use wordsight_engines::StudentFacts;
use wordsight_teacher::words::{ExampleFile, ShownFile};

use super::region::region_of;
use super::worker::{Worker, find};
use crate::files::{Durability, replace, state_folder};
use crate::http::DetectError;
use crate::requests::examples_of;
use crate::service::file_watch::Watched;
use crate::threads::Stop;

/// The most regions that are kept of pictures that are in use no more.
const MOST_KEPT: usize = 2_000;
/// After so many new ones they are kept, so that a stop costs no more.
const KEPT_AFTER: usize = 50;
/// Longer files are no photographs: their size is told before they are read.
const LONGEST_PICTURE: u64 = 64 << 20;

/// What is known of pictures that were shown to one student.
struct KeptRegions {
    path: PathBuf,
    /// By the picture's content and the box.
    regions: BTreeMap<String, Vec<f32>>,
    /// How many are not in the file yet.
    changed: usize,
}

impl KeptRegions {
    fn of(student: &str) -> Self {
        let path = state_folder().join("examples").join(format!("{student}.json"));
        let read = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, regions: read.unwrap_or_default(), changed: 0 }
    }

    /// Forgets what is in use no more, if there is much of it.
    fn forget_others(&mut self, in_use: &BTreeSet<String>) {
        if self.changed > 0 && self.regions.len() > MOST_KEPT {
            self.regions.retain(|key, _| in_use.contains(key));
        }
    }

    /// Keeps them for the next time; without it they are found again.
    fn keep(&mut self) {
        if std::mem::take(&mut self.changed) == 0 {
            return;
        }
        let kept = serde_json::to_vec(&self.regions).map_err(std::io::Error::other).and_then(|bytes| {
            fs::create_dir_all(self.path.parent().unwrap_or(Path::new("")))?;
            replace(&self.path, Durability::Whole, &bytes)
        });
        if let Err(error) = kept {
            tracing::warn!(
                "pictures are looked at again at the next start: {}: {error}",
                self.path.display()
            );
        }
    }
}

/// What a student makes of the pictures of a list of words, word by word. A picture in which it doesn't see the thing is left
/// out with a warning where the word has others.
///
/// # Errors
/// When a picture can't be read, or the student sees a word's thing in none of its pictures.
pub fn show_files(
    files: &[ShownFile],
    student: &Path,
    facts: &StudentFacts,
    stop: &Stop,
) -> anyhow::Result<Vec<WordExamples>> {
    let mut words: Vec<WordExamples> = Vec::new();
    let mut not_seen = Vec::new();
    let kept = KeptRegions::of(&facts.id());
    let mut viewer =
        PictureViewer { student: Watched::new(student), worker: None, kept, in_use: BTreeSet::new(), stop };
    for ShownFile { word, file, is_negative } in files {
        let examples = examples_of(&mut words, word, *is_negative);
        for picture in pictures_of(file)? {
            let region = viewer.region(&picture, file.box_in_image);
            let refused = || no_example(&picture, word, *is_negative);
            match region.with_context(refused)? {
                Ok(region) => examples.regions.push(region),
                Err(told) => not_seen.push((format!("{}: {told}", refused()), word, is_negative)),
            }
        }
    }
    viewer.kept.forget_others(&viewer.in_use);
    for (told, word, is_negative) in not_seen {
        ensure!(!examples_of(&mut words, word, *is_negative).regions.is_empty(), told);
        tracing::warn!("{told}; it is left out");
    }
    Ok(words)
}

fn no_example(picture: &Path, word: &str, is_negative: bool) -> String {
    let kind = if is_negative { "negative example" } else { "example" };
    format!("{} is no {kind} of {word:?}", picture.display())
}

/// Whether the pictures of a list can be read, without a student that looks at them.
///
/// # Errors
/// The first that can't be.
pub fn check_files(files: &[ShownFile]) -> anyhow::Result<()> {
    let mut frame = Frame::default();
    for ShownFile { word, file, is_negative } in files {
        for picture in pictures_of(file)? {
            let name = picture.display().to_string();
            let decoded = read(&picture).and_then(|bytes| Ok(decode_photograph(&bytes, &name, &mut frame)?));
            decoded.with_context(|| no_example(&picture, word, *is_negative))?;
        }
    }
    Ok(())
}

/// The bytes of a picture, if they can be those of one.
fn read(picture: &Path) -> anyhow::Result<Vec<u8>> {
    let facts = fs::metadata(picture).context("cannot read it")?;
    ensure!(facts.len() <= LONGEST_PICTURE, "it has {} MiB, and a picture has 64 at most", facts.len() >> 20);
    wordsight_capture::read_picture_file(picture).context("cannot read it")
}

/// The picture, or all of its folder.
fn pictures_of(ExampleFile { image, box_in_image }: &ExampleFile) -> anyhow::Result<Vec<PathBuf>> {
    if !image.is_dir() {
        return Ok(vec![image.clone()]);
    }
    ensure!(
        box_in_image.is_none(),
        "{} is a folder, and a box is in one picture: a folder's pictures show the thing alone",
        image.display()
    );
    let pictures =
        wordsight_capture::pictures_in(image).with_context(|| format!("cannot list {}", image.display()))?;
    ensure!(!pictures.is_empty(), "there are no pictures in {}", image.display());
    Ok(pictures)
}

/// Looks at pictures, one after the other.
struct PictureViewer<'a> {
    student: Watched,
    worker: Option<Worker>,
    kept: KeptRegions,
    in_use: BTreeSet<String>,
    stop: &'a Stop,
}

impl PictureViewer<'_> {
    /// The region that shows the thing, or why none does.
    fn region(
        &mut self,
        picture: &Path,
        box_in_image: Option<[f32; 4]>,
    ) -> anyhow::Result<Result<Vec<f32>, String>> {
        let bytes = read(picture)?;
        let key = format!("{} {box_in_image:?}", hex::encode(Sha256::digest(&bytes)));
        self.in_use.insert(key.clone());
        if let Some(region) = self.kept.regions.get(&key) {
            return Ok(Ok(region.clone()));
        }
        let found = match find(&mut self.worker, bytes, &self.student, self.stop) {
            Ok(found) => found,
            Err(DetectError::Unavailable(_)) if self.stop.is_requested() => bail!("the program ends"),
            Err(error) => return Err(error.into()),
        };
        let region = region_of(&found, box_in_image);
        if let Ok(region) = &region {
            self.kept.regions.insert(key, region.clone());
            self.kept.changed += 1;
            if self.kept.changed >= KEPT_AFTER {
                self.kept.keep();
            }
        }
        Ok(region)
    }
}

impl Drop for PictureViewer<'_> {
    /// Also where a later picture is refused.
    fn drop(&mut self) {
        self.kept.keep();
    }
}
