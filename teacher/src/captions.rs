//! Captions and who embeds them: a teacher, or what remembers what one has embedded.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use wordsight_detection::{Vocabulary, VocabularyError, Word};

use crate::error::TeacherError;
use crate::prompts::caption;
use crate::text::mean_direction;

/// The file of captions that comes with a text-only teacher, in its directory.
pub const CAPTIONS_FILE: &str = "captions.safetensors";
/// Captions that a cache's file keeps beside those in use.
const MOST_KEPT: usize = 16_384;

/// One text to be embedded.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caption {
    /// The text.
    pub text: String,
    /// The name in it.
    pub name: String,
    /// Whether the teacher must know something of the name.
    pub must_be_known: bool,
}

/// A word with its other names, and whether a teacher must know something of each.
pub(crate) struct Names<'a> {
    pub(crate) word: &'a str,
    pub(crate) synonyms: &'a [String],
    pub(crate) must_be_known: bool,
}

/// What makes embeddings of captions.
pub trait EmbedCaptions {
    /// Which teacher's they are: a short name and the first 12 hexadecimal digits of a SHA-256. Two teachers with one id
    /// have one embedding space.
    fn id(&self) -> &str;

    /// Captions to embeddings of length 1, one each.
    ///
    /// # Errors
    /// [`TeacherError::UnknownName`], or when the tokenizer or the model fails.
    fn embed_captions(&mut self, captions: &[Caption]) -> Result<Vec<Vec<f32>>, TeacherError>;

    /// Words with their synonyms to one embedding of length 1 each: the mean over the prompts for each name, then over the
    /// names, each step normalised (ViLD, arXiv 2104.13921, appendix on prompts).
    ///
    /// # Errors
    /// When a prompt has no place for the word, or the model fails.
    fn embed_words(
        &mut self,
        prompts: &[String],
        words: &[(&str, &[String])],
    ) -> Result<Vec<Vec<f32>>, TeacherError> {
        let names: Vec<Names> =
            words.iter().map(|&(word, synonyms)| Names { word, synonyms, must_be_known: false }).collect();
        embed_names(self, prompts, &names)
    }

    /// As [`Self::embed_words`] for one word.
    ///
    /// # Errors
    /// As [`Self::embed_words`].
    fn embed_word(
        &mut self,
        prompts: &[String],
        word: &str,
        synonyms: &[String],
    ) -> Result<Vec<f32>, TeacherError> {
        Ok(self.embed_words(prompts, &[(word, synonyms)])?.concat())
    }
}

/// [`EmbedCaptions::embed_words`], all in one call: who asks another process for it starts that once.
pub(crate) fn embed_names<T: EmbedCaptions + ?Sized>(
    teacher: &mut T,
    prompts: &[String],
    words: &[Names],
) -> Result<Vec<Vec<f32>>, TeacherError> {
    let mut captions = Vec::new();
    for Names { word, synonyms, must_be_known } in words {
        for name in std::iter::once(*word).chain(synonyms.iter().map(String::as_str)) {
            for prompt in prompts {
                let text = caption(prompt, name)?;
                captions.push(Caption { text, name: name.to_owned(), must_be_known: *must_be_known });
            }
        }
    }
    let embeddings = teacher.embed_captions(&captions)?;
    let names: Vec<Vec<f32>> = embeddings.chunks_exact(prompts.len().max(1)).map(mean_direction).collect();
    let mut rest = names.as_slice();
    let mut of_words = Vec::with_capacity(words.len());
    for Names { synonyms, .. } in words {
        let (own, others) = rest.split_at_checked(1 + synonyms.len()).unwrap_or((rest, &[]));
        of_words.push(mean_direction(own));
        rest = others;
    }
    Ok(of_words)
}

/// Captions that one teacher has embedded already.
///
/// Its files are vocabularies whose words are captions, the newest first. `trained_on` says of a caption whether the
/// teacher's tokenizer knows the name in it: a competitor may be unknown, and is not to pass for known when it is looked for.
#[derive(Clone, Debug)]
pub struct CaptionCache {
    teacher: String,
    embeddings: HashMap<String, KnownCaption>,
    /// Those of the file that is written, the newest first.
    order: Vec<String>,
}

/// A caption that was embedded.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownCaption {
    /// Its embedding, of length 1.
    pub embedding: Vec<f32>,
    /// Whether the teacher knows something of the name in it.
    pub is_name_known: bool,
}

impl CaptionCache {
    /// Of this teacher, without any.
    pub fn new(teacher: &str) -> Self {
        Self { teacher: teacher.to_owned(), embeddings: HashMap::new(), order: Vec::new() }
    }

    /// Whose captions they are.
    pub fn teacher(&self) -> &str {
        &self.teacher
    }

    /// Adds those of a file that comes with a teacher and is not written to. Another teacher's is left alone.
    ///
    /// # Errors
    /// When the file can't be read or is no vocabulary.
    pub fn add_given(&mut self, file: &Path) -> Result<(), VocabularyError> {
        let captions = self.read(file)?;
        self.embeddings.extend(captions);
        Ok(())
    }

    /// Adds those of the file that [`Self::save`] writes. Another teacher's is left alone.
    ///
    /// # Errors
    /// When the file can't be read or is no vocabulary.
    pub fn add_kept(&mut self, file: &Path) -> Result<(), VocabularyError> {
        let captions = self.read(file)?;
        self.order.extend(captions.iter().map(|(caption, _)| caption.clone()));
        self.embeddings.extend(captions);
        Ok(())
    }

    /// Adds captions that were embedded.
    pub fn add(&mut self, captions: &Vocabulary) {
        for (caption, known) in known_captions(captions) {
            if self.embeddings.insert(caption.clone(), known).is_none() {
                self.order.insert(0, caption);
            }
        }
    }

    fn read(&self, file: &Path) -> Result<Vec<(String, KnownCaption)>, VocabularyError> {
        let captions = Vocabulary::load(file)?;
        Ok(if captions.teacher == self.teacher { known_captions(&captions).collect() } else { Vec::new() })
    }

    /// A caption, if it was embedded.
    pub fn get(&self, caption: &str) -> Option<&KnownCaption> {
        self.embeddings.get(caption)
    }

    /// Writes those that came from no given file, whole or not at all: all of `in_use`, and of the others the newest.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, file: &Path, in_use: &HashSet<&str>) -> Result<(), VocabularyError> {
        let (mut words, mut embeddings, mut others) = (Vec::new(), Vec::new(), 0);
        let mut embedding_size = 0;
        for caption in &self.order {
            let is_in_use = in_use.contains(caption.as_str());
            others += usize::from(!is_in_use);
            if let Some(KnownCaption { embedding, is_name_known }) = self.embeddings.get(caption)
                && (is_in_use || others <= MOST_KEPT)
            {
                embedding_size = embedding.len();
                words.push(Word { trained_on: *is_name_known, ..Word::new(caption) });
                embeddings.extend_from_slice(embedding);
            }
        }
        let prompts = vec!["{}".to_owned()];
        let teacher = self.teacher.clone();
        Vocabulary { teacher, student: None, words, prompts, embeddings, embedding_size }.save(file)
    }
}

/// Captions, each once, as the words of a vocabulary; `is_known` says which of their names the teacher knows.
pub fn vocabulary_of_captions(
    captions: &[Caption],
    is_known: &[bool],
    embeddings: &[Vec<f32>],
    teacher: &str,
) -> Vocabulary {
    let words = captions.iter().zip(is_known);
    Vocabulary {
        teacher: teacher.to_owned(),
        student: None,
        words: words.map(|(of, &trained_on)| Word { trained_on, ..Word::new(&of.text) }).collect(),
        prompts: vec!["{}".to_owned()],
        embeddings: embeddings.concat(),
        embedding_size: embeddings.first().map_or(0, Vec::len),
    }
}

fn known_captions(captions: &Vocabulary) -> impl Iterator<Item = (String, KnownCaption)> {
    let rows = captions.embeddings.chunks_exact(captions.embedding_size.max(1));
    captions.words.iter().zip(rows).map(|(caption, row)| {
        (caption.word.clone(), KnownCaption { embedding: row.to_vec(), is_name_known: caption.trained_on })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn embedded(captions: &[(&str, bool, [f32; 2])]) -> Vocabulary {
        let of = |&(text, ..): &(&str, bool, [f32; 2])| Caption {
            text: text.to_owned(),
            name: text.to_owned(),
            must_be_known: true,
        };
        let known: Vec<bool> = captions.iter().map(|caption| caption.1).collect();
        let rows: Vec<Vec<f32>> = captions.iter().map(|caption| caption.2.to_vec()).collect();
        vocabulary_of_captions(&captions.iter().map(of).collect::<Vec<_>>(), &known, &rows, "t")
    }

    #[test]
    fn captions_come_back_from_their_file_the_newest_first_and_another_teachers_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("captions.safetensors");
        let mut cache = CaptionCache::new("t");
        cache.add(&embedded(&[("a cat", true, [1.0, 0.0]), ("\u{1f415}", false, [0.0, 1.0])]));
        cache.save(&file, &HashSet::new()).unwrap();
        let mut again = CaptionCache::new("t");
        again.add_kept(&file).unwrap();
        assert_eq!(again.get("a cat"), cache.get("a cat"));
        assert!(!again.get("\u{1f415}").unwrap().is_name_known && again.get("a cow").is_none());
        assert_eq!(again.order, ["\u{1f415}", "a cat"]);
        let mut other = CaptionCache::new("another");
        other.add_kept(&file).unwrap();
        assert_eq!(other.get("a cat"), None);
    }

    #[test]
    fn what_is_given_is_not_written_again_and_what_is_in_use_is_kept_however_old() {
        let folder = tempfile::tempdir().unwrap();
        let (given, kept) = (folder.path().join("given.safetensors"), folder.path().join("kept.safetensors"));
        let mut cache = CaptionCache::new("t");
        cache.add(&embedded(&[("given", true, [1.0, 0.0])]));
        cache.save(&given, &HashSet::new()).unwrap();
        let mut cache = CaptionCache::new("t");
        cache.add_given(&given).unwrap();
        cache.add(&embedded(&[("the oldest", true, [1.0, 0.0])]));
        // The newest stand first; here, to be quick, they are put there at once.
        let others: Vec<String> = (0..=MOST_KEPT).rev().map(|number| number.to_string()).collect();
        let known = cache.get("given").unwrap().clone();
        cache.embeddings.extend(others.iter().map(|other| (other.clone(), known.clone())));
        cache.order.splice(0..0, others);
        cache.save(&kept, &HashSet::from(["the oldest"])).unwrap();
        let mut again = CaptionCache::new("t");
        again.add_kept(&kept).unwrap();
        assert!(again.get("the oldest").is_some() && again.get("given").is_none());
        assert!(again.get("0").is_none() && again.get("1").is_some(), "the oldest of the others goes");
    }
}
