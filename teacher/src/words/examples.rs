//! Examples as they are written beside a word: pictures, and where in them the thing is.
//!
//! ```toml
//! words = [{ word = "mug", examples = ["mug.jpg", { image = "shelf.jpg", box = [120, 80, 200, 180] }, "more-mugs/"] }]
//! ```
//!
//! What they are to a student is its own affair, and the device program's: here they are names of files.

use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use wordsight_detection::Word;

/// A picture that shows a thing, or a folder of pictures of it alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExampleFile {
    /// The file.
    pub image: PathBuf,
    /// Where the thing is: left, top, right, bottom in pixels; none: it takes up the picture.
    #[serde(rename = "box", skip_serializing_if = "Option::is_none")]
    pub box_in_image: Option<[f32; 4]>,
}

/// An example, with its word.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownFile {
    /// The word.
    pub word: String,
    /// The picture.
    pub file: ExampleFile,
    /// Whether it shows what the word is not.
    pub is_negative: bool,
}

/// A word as it is written, alone or as a table with more about it: only its form has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenWord {
    /// The word.
    pub word: Word,
    /// Pictures of it.
    pub examples: Vec<ExampleFile>,
    /// Pictures of what it is not.
    pub negative_examples: Vec<ExampleFile>,
}

/// The table of a word, as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WordTable {
    word: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    synonyms: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold: Option<f32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    trained_on: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    hidden: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    examples: Vec<ExampleFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    negative_examples: Vec<ExampleFile>,
}

impl From<WordTable> for WrittenWord {
    fn from(table: WordTable) -> Self {
        let WordTable { word, synonyms, threshold, trained_on, hidden, examples, negative_examples } = table;
        let word = Word { synonyms, threshold, trained_on, hidden, ..Word::new(word) };
        Self { word, examples, negative_examples }
    }
}

impl WordTable {
    /// A word as it would be written.
    pub(super) fn of(word: &Word, shown: &[ShownFile]) -> Self {
        let files = |is_negative| -> Vec<ExampleFile> {
            let of_word =
                shown.iter().filter(|shown| shown.word == word.word && shown.is_negative == is_negative);
            of_word.map(|shown| shown.file.clone()).collect()
        };
        let Word { word: name, synonyms, threshold, trained_on, hidden, .. } = word.clone();
        let (examples, negative_examples) = (files(false), files(true));
        Self { word: name, synonyms, threshold, trained_on, hidden, examples, negative_examples }
    }
}

impl WrittenWord {
    /// A word with nothing more said about it.
    pub fn plain(word: impl Into<String>) -> Self {
        Self { word: Word::new(word), examples: Vec::new(), negative_examples: Vec::new() }
    }

    /// The examples, under this name; relative paths are in `folder`.
    pub(super) fn shown(&self, name: &str, folder: &Path) -> Vec<ShownFile> {
        let files = [(&self.examples, false), (&self.negative_examples, true)];
        let shown = files.into_iter().flat_map(|(files, is_negative)| {
            files.iter().map(move |file| {
                let file = ExampleFile { image: folder.join(&file.image), ..file.clone() };
                ShownFile { word: name.to_owned(), file, is_negative }
            })
        });
        shown.collect()
    }

    /// Why its examples can be none, whatever is in the pictures.
    pub(super) fn check_examples(&self) -> Result<(), String> {
        let name = &self.word.word;
        let mut files = self.examples.iter().chain(&self.negative_examples);
        if self.word.hidden && !(self.examples.is_empty() && self.negative_examples.is_empty()) {
            return Err(format!(
                "\"{name}\" is hidden: pictures of what a word is not stand beside that word, as negative_examples"
            ));
        }
        if files.clone().any(|file| file.image.as_os_str().is_empty()) {
            return Err(format!("a picture of \"{name}\" has an empty path"));
        }
        let is_wrong = |file: &&ExampleFile| {
            file.box_in_image.is_some_and(|[left, top, right, bottom]| !(left < right && top < bottom))
        };
        match files.find(is_wrong) {
            Some(file) => Err(format!(
                "the box in {} has no area: it is left, top, right, bottom in pixels",
                file.image.display()
            )),
            None => Ok(()),
        }
    }
}

// By hand and not as an untagged enum, whose errors would lose which key is unknown and where it stands.
impl<'de> Deserialize<'de> for ExampleFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            image: PathBuf,
            #[serde(rename = "box")]
            box_in_image: Option<[f32; 4]>,
        }

        struct ExampleVisitor;

        impl<'de> Visitor<'de> for ExampleVisitor {
            type Value = ExampleFile;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter
                    .write_str("a picture (\"mug.jpg\") or a table ({ image = \"shelf.jpg\", box = [120, 80, 200, 180] })")
            }

            fn visit_str<E: Error>(self, image: &str) -> Result<ExampleFile, E> {
                Ok(ExampleFile { image: image.into(), box_in_image: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<ExampleFile, A::Error> {
                let Table { image, box_in_image } = Table::deserialize(MapAccessDeserializer::new(table))?;
                Ok(ExampleFile { image, box_in_image })
            }
        }

        deserializer.deserialize_any(ExampleVisitor)
    }
}
