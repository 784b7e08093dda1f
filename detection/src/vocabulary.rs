//! The words to look for, as embeddings: a `.safetensors` file.
//!
//! Reads a file that `wordsight words make` or `wordsight-distill vocabulary` made from a `words.toml` into a
//! [`Vocabulary`] in which everything has been checked. The file holds one tensor, `embeddings` `[words, D]` in 32-bit float with rows of length 1, and
//! in its metadata `format`, `teacher`, `words` (a JSON array, one object a row) and `prompts` (a JSON array of
//! templates).
//!
//! A vocabulary may have *hidden* words: competitors that take part in every softmax and are never reported, so that a
//! region need not be a cup for want of a better word. They come after the words that are shown, so a shown word has
//! the same place in [`Vocabulary::words`] as in [`Vocabulary::shown`]. Programs that don't know hidden words refuse a
//! file that has some.
//!
//! A word may have examples ([`crate::WordExamples`]): then its row holds for one student and has any length, the file
//! names that student as `student`, and its `format` is 2. A file without examples is of format 1 as before, and both are
//! read.
//!
//! The same words always make the same bytes. The header is written here and not by the safetensors crate, whose
//! metadata is in the random order of a hash map.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::json;
use wordsight_files::Durability;

/// What `format` says of texts alone.
const FORMAT: &str = "wordsight-vocabulary-1";
/// What `format` says where a word has examples.
const FORMAT_WITH_EXAMPLES: &str = "wordsight-vocabulary-2";
/// The name of the one tensor.
const TENSOR: &str = "embeddings";
/// The longest header that is read to count words; the format allows no longer one.
const LONGEST_HEADER: u64 = 100 << 20;
/// How far a row's length may be from 1: what a conversion through 16-bit float does, and more.
const LENGTH_TOLERANCE: f32 = 1e-2;
/// The longest row of a word with examples: far more than [`Vocabulary::add_examples`] makes.
const LONGEST_ROW: f32 = 100.0;

/// One thing to look for, or a competitor of such things.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// What the user calls it, and what a detection is called.
    pub word: String,
    /// Other names for it that went into its embedding.
    #[serde(default)]
    pub synonyms: Vec<String>,
    /// The least score, 0 to 1, with which it is reported; `None`: the common threshold.
    #[serde(default)]
    pub threshold: Option<f32>,
    /// Whether the student saw it by name in training; its two heads are weighed accordingly.
    #[serde(default)]
    pub trained_on: bool,
    /// Whether it only competes with the others for a region, and is never reported.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// How many examples are in its embedding, beside the text or in its place.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub examples: usize,
}

impl Word {
    /// Whether it says that training saw it, or it or one of its synonyms is among these words. A word with examples is as
    /// one that was: they are of the head that learnt words.
    pub fn is_trained(&self, trained: &HashSet<String>) -> bool {
        self.trained_on
            || self.examples > 0
            || trained.contains(&self.word)
            || self.synonyms.iter().any(|word| trained.contains(word))
    }

    /// A word with nothing more said about it.
    pub fn new(word: impl Into<String>) -> Self {
        Self { word: word.into(), ..Self::default() }
    }

    /// A word that only competes.
    pub fn competitor(word: impl Into<String>) -> Self {
        Self { hidden: true, ..Self::new(word) }
    }
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

// As above.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Words and their embeddings in one teacher's space.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// The teacher whose text tower embedded the words.
    pub teacher: String,
    /// The id of the student to which its examples were shown; none where there are no examples.
    pub student: Option<String>,
    /// The words, in the order of the rows: those that are shown, then the hidden ones.
    pub words: Vec<Word>,
    /// The prompt templates that were averaged into each embedding, `{}` standing for the word.
    pub prompts: Vec<String>,
    /// `[words, D]` row-major, rows of length 1, but for words with examples.
    pub embeddings: Vec<f32>,
    /// D.
    pub embedding_size: usize,
}

/// The part of a file's header that gives the number of words.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: HeaderMetadata,
    embeddings: HeaderTensor,
}

#[derive(Deserialize)]
struct HeaderMetadata {
    format: String,
    words: String,
}

#[derive(Deserialize)]
struct HeaderTensor {
    shape: [usize; 2],
}

/// The part of a word that says whether it counts.
#[derive(Deserialize)]
struct HeaderWord {
    #[serde(default)]
    hidden: bool,
}

/// Why a vocabulary cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// The file cannot be read.
    #[error("cannot read the vocabulary {}: {reason}", path.display())]
    Unreadable {
        /// The file that was asked for.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the vocabulary {}: {reason}", path.display())]
    Unwritable {
        /// The file that was to be made.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file is not a vocabulary.
    #[error("{} is not a usable vocabulary: {problem}; make it again with `wordsight words make` or `wordsight-distill vocabulary`", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The first thing that is wrong.
        problem: VocabularyProblem,
    },
    /// The words were embedded by another teacher than the student's.
    #[error(
        "the vocabulary is in the space of the teacher `{found}`, and the student speaks `{expected}`: make the vocabulary again with `wordsight words make` or `wordsight-distill vocabulary`, `--teacher` and the student's teacher"
    )]
    OtherTeacher {
        /// The student's teacher.
        expected: String,
        /// The vocabulary's.
        found: String,
    },
    /// Its examples were shown to another student.
    #[error(
        "the examples in the vocabulary were shown to the student `{found}`, and this is `{expected}`: make the vocabulary \
         again with this student (`wordsight words make --student`)"
    )]
    OtherStudent {
        /// The student's id.
        expected: String,
        /// The vocabulary's.
        found: String,
    },
    /// The student doesn't say what its regions are like.
    #[error(
        "the student's file doesn't say what its regions are like, so it can't be shown examples: add that by \
         `wordsight-distill measure-regions`, which takes students whose scores are a softmax's"
    )]
    NoRegionStatistics,
    /// Examples can't be used.
    #[error("{0}")]
    Examples(VocabularyProblem),
    /// The embeddings have another length than the student's.
    #[error(
        "the vocabulary's embeddings have {found} numbers, and the student's have {expected}: they come from different teachers, so make the vocabulary again with `wordsight words make` or `wordsight-distill vocabulary`"
    )]
    OtherSize {
        /// The student's embedding size.
        expected: usize,
        /// The vocabulary's.
        found: usize,
    },
}

/// What is wrong with the contents of a vocabulary.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct VocabularyProblem(String);

impl VocabularyProblem {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }
}

/// The most bytes of a vocabulary's file: a million words of 1,024 numbers.
const LONGEST_FILE: u64 = 4 << 30;

impl Vocabulary {
    /// Reads and checks a vocabulary file.
    ///
    /// # Errors
    /// When it cannot be read, is no safetensors file, or anything in it is not as the module says.
    pub fn load(path: &Path) -> Result<Self, VocabularyError> {
        let bytes = wordsight_files::read_whole(path, LONGEST_FILE)
            .map_err(|reason| VocabularyError::Unreadable { path: path.to_path_buf(), reason })?;
        Self::of_bytes(&bytes, path)
    }

    /// Checks a vocabulary file that was read already; `path` is for the error.
    ///
    /// # Errors
    /// When it is no safetensors file, or anything in it is not as the module says.
    pub fn of_bytes(bytes: &[u8], path: &Path) -> Result<Self, VocabularyError> {
        let unusable = |problem| VocabularyError::Unusable { path: path.to_path_buf(), problem };
        let vocabulary = Self::from_bytes(bytes).map_err(unusable)?;
        vocabulary.validate().map_err(unusable)?;
        Ok(vocabulary)
    }

    /// The words that are looked for. Their places are those in [`Self::words`].
    pub fn shown(&self) -> &[Word] {
        &self.words[..self.shown_count()]
    }

    /// The words that only compete.
    pub fn hidden(&self) -> &[Word] {
        &self.words[self.shown_count()..]
    }

    fn shown_count(&self) -> usize {
        self.words.partition_point(|word| !word.hidden)
    }

    /// How many words a file shows, by its header alone: listing a folder doesn't read whole files.
    ///
    /// # Errors
    /// When it cannot be read, or its header is not a vocabulary's.
    pub fn count(path: &Path) -> Result<usize, VocabularyError> {
        let unreadable = |reason| VocabularyError::Unreadable { path: path.to_path_buf(), reason };
        let unusable = |text: &str| VocabularyError::Unusable {
            path: path.to_path_buf(),
            problem: VocabularyProblem(text.to_owned()),
        };
        let mut file = std::fs::File::open(path).map_err(unreadable)?;
        let mut length = [0; 8];
        let is_cut_off = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => unusable("it is cut off"),
            _ => unreadable(error),
        };
        file.read_exact(&mut length).map_err(is_cut_off)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER {
            return Err(unusable("it is not a safetensors file"));
        }
        let mut header = Vec::new();
        file.take(length).read_to_end(&mut header).map_err(unreadable)?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_| unusable("it is not a safetensors file of words"))?;
        if ![FORMAT, FORMAT_WITH_EXAMPLES].contains(&header.metadata.format.as_str()) {
            return Err(unusable("its format is another than this version reads"));
        }
        let words: Vec<HeaderWord> = serde_json::from_str(&header.metadata.words)
            .map_err(|_| unusable("its words are not as this version reads them"))?;
        if words.len() != header.embeddings.shape[0] {
            return Err(unusable("it has another number of embeddings than of words"));
        }
        Ok(words.iter().filter(|word| !word.hidden).count())
    }

    /// Checks the vocabulary and writes it, whole or not at all.
    ///
    /// # Errors
    /// When it would not load again, or cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), VocabularyError> {
        self.validate().map_err(|problem| VocabularyError::Unusable { path: path.to_path_buf(), problem })?;
        let unwritable = |reason| VocabularyError::Unwritable { path: path.to_path_buf(), reason };
        let bytes = self.bytes().map_err(|error| unwritable(error.into()))?;
        wordsight_files::replace(path, Durability::Whole, &bytes).map_err(unwritable)
    }

    /// The bytes of its file. The same words always make the same.
    ///
    /// # Errors
    /// When they would not load again.
    pub fn to_bytes(&self) -> Result<Vec<u8>, VocabularyError> {
        let unusable = |problem| VocabularyError::Unusable { path: PathBuf::from("what was made"), problem };
        self.validate().map_err(unusable)?;
        self.bytes().map_err(|error| unusable(VocabularyProblem(error.to_string())))
    }

    /// Whether the words can meet a student's regions: same teacher, same embedding size.
    ///
    /// # Errors
    /// [`VocabularyError::OtherTeacher`] or [`VocabularyError::OtherSize`].
    pub fn check_against(&self, teacher: &str, embedding_size: usize) -> Result<(), VocabularyError> {
        if self.teacher != teacher {
            return Err(VocabularyError::OtherTeacher {
                expected: teacher.into(),
                found: self.teacher.clone(),
            });
        }
        if self.embedding_size != embedding_size {
            return Err(VocabularyError::OtherSize { expected: embedding_size, found: self.embedding_size });
        }
        Ok(())
    }

    /// Whether its examples, if it has any, were shown to this student.
    ///
    /// # Errors
    /// [`VocabularyError::OtherStudent`].
    pub fn check_student(&self, id: &str) -> Result<(), VocabularyError> {
        match &self.student {
            Some(found) if found != id => {
                Err(VocabularyError::OtherStudent { expected: id.to_owned(), found: found.clone() })
            }
            _ => Ok(()),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, VocabularyProblem> {
        let (_, header) = SafeTensors::read_metadata(bytes)
            .map_err(|error| VocabularyProblem(format!("it is not a safetensors file ({error})")))?;
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| VocabularyProblem(format!("it is not a safetensors file ({error})")))?;
        let entry = |key: &str| {
            let found = header.metadata().as_ref().and_then(|entries| entries.get(key));
            found.ok_or_else(|| VocabularyProblem(format!("its metadata has no `{key}`")))
        };
        let student = match entry("format")?.as_str() {
            FORMAT => None,
            FORMAT_WITH_EXAMPLES => Some(entry("student")?.clone()),
            format => {
                return Err(VocabularyProblem(format!(
                    "its format is `{format}`, and this version reads `{FORMAT}` and `{FORMAT_WITH_EXAMPLES}`"
                )));
            }
        };
        let tensor =
            tensors.tensor(TENSOR).map_err(|_| VocabularyProblem(format!("it has no tensor `{TENSOR}`")))?;
        let (Dtype::F32, &[rows, embedding_size]) = (tensor.dtype(), tensor.shape()) else {
            return Err(VocabularyProblem(format!(
                "`{TENSOR}` is {:?} {:?}, and must be F32 [words, D]",
                tensor.dtype(),
                tensor.shape()
            )));
        };
        let words: Vec<Word> = json_entry("words", entry("words")?)?;
        if rows != words.len() {
            return Err(VocabularyProblem(format!("it has {rows} embeddings for {} words", words.len())));
        }
        Ok(Self {
            teacher: entry("teacher")?.clone(),
            student,
            words,
            prompts: json_entry("prompts", entry("prompts")?)?,
            embeddings: tensor.data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect(),
            embedding_size,
        })
    }

    fn bytes(&self) -> serde_json::Result<Vec<u8>> {
        let data: Vec<u8> = self.embeddings.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut metadata = json!({
            "format": FORMAT,
            "prompts": serde_json::to_string(&self.prompts)?,
            "teacher": self.teacher,
            "words": serde_json::to_string(&self.words)?,
        });
        if let Some(student) = &self.student {
            (metadata["format"], metadata["student"]) =
                (FORMAT_WITH_EXAMPLES.into(), student.as_str().into());
        }
        let header = json!({
            "__metadata__": metadata,
            TENSOR: {
                "dtype": "F32",
                "shape": [self.words.len(), self.embedding_size],
                "data_offsets": [0, data.len()],
            },
        });
        let mut header = header.to_string().into_bytes();
        // The format wants the data at a multiple of 8, and allows spaces.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(data);
        Ok(bytes)
    }

    fn validate(&self) -> Result<(), VocabularyProblem> {
        let problem = |text: String| Err(VocabularyProblem(text));
        if self.words.is_empty() || self.embedding_size == 0 {
            return problem("it has no words".into());
        }
        if self.embeddings.len() != self.words.len() * self.embedding_size {
            return problem(format!(
                "{} numbers are not {} embeddings of {}",
                self.embeddings.len(),
                self.words.len(),
                self.embedding_size
            ));
        }
        self.validate_words()?;
        for (word, embedding) in self.words.iter().zip(self.embeddings.chunks_exact(self.embedding_size)) {
            let name = &word.word;
            let length = embedding.iter().map(|value| value * value).sum::<f32>().sqrt();
            if !length.is_finite() {
                return problem(format!("the embedding of `{name}` is not finite"));
            }
            if word.examples > 0 {
                if self.student.is_none() {
                    return problem(format!("`{name}` has examples, and it isn't said of which student"));
                }
                if length > LONGEST_ROW {
                    return problem(format!("the embedding of `{name}` has the length {length}"));
                }
            } else if (length - 1.0).abs() > LENGTH_TOLERANCE {
                return problem(format!(
                    "the embedding of `{name}` has the length {length}, and must have 1"
                ));
            }
        }
        Ok(())
    }

    fn validate_words(&self) -> Result<(), VocabularyProblem> {
        let problem = |text: String| Err(VocabularyProblem(text));
        if self.words.iter().all(|word| word.hidden) {
            return problem("all of its words are hidden, so it could show nothing".into());
        }
        let mut seen = HashSet::new();
        let mut last_hidden = None;
        for word in &self.words {
            let name = &word.word;
            if name.trim().is_empty() {
                return problem("one of its words is empty".into());
            }
            if !seen.insert(name) {
                return problem(format!("the word `{name}` stands in it twice"));
            }
            match (word.threshold, last_hidden) {
                (Some(_), _) if word.hidden => {
                    return problem(format!(
                        "the hidden word `{name}` has a threshold, and hidden words are never told"
                    ));
                }
                (Some(threshold), _) if !(0.0..=1.0).contains(&threshold) => {
                    return problem(format!(
                        "the threshold of `{name}` is {threshold}, and must be between 0 and 1"
                    ));
                }
                (_, Some(hidden)) if !word.hidden => {
                    return problem(format!(
                        "`{name}` stands behind the hidden word `{hidden}`, and hidden words come last"
                    ));
                }
                _ => {}
            }
            last_hidden = word.hidden.then_some(name);
        }
        Ok(())
    }
}

fn json_entry<T: serde::de::DeserializeOwned>(key: &str, text: &str) -> Result<T, VocabularyProblem> {
    serde_json::from_str(text).map_err(|error| VocabularyProblem(format!("`{key}` in its metadata: {error}")))
}

#[cfg(test)]
mod tests;
