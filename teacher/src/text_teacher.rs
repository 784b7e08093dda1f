//! The text half of a teacher, which is all that words need.

use std::path::Path;

use wordsight_detection::Vocabulary;
use wordsight_engines::Placement;

use crate::captions::{Caption, EmbedCaptions, vocabulary_of_captions};
use crate::error::TeacherError;
use crate::identity::Identity;
use crate::prompts;
use crate::text::TextTower;

/// A caption to measure embeddings by: Optimum's exports leave their size open.
const PROBE: &str = "a";

/// A text model that is ready to embed, and which teacher it is of.
pub struct TextTeacher {
    id: String,
    embedding_size: usize,
    tower: TextTower,
}

impl TextTeacher {
    /// Opens the text half of a teacher's directory, whether the vision half lies beside it or not; it runs on all cores.
    ///
    /// # Errors
    /// When a file is missing or not what it should be, the files are others than the id was stated for, or ONNX Runtime
    /// is missing.
    pub fn open(directory: &Path) -> Result<Self, TeacherError> {
        Self::open_at(directory, 0)
    }

    /// As [`Self::open`], on so many threads of the processor, or elsewhere.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(directory: &Path, placement: impl Into<Placement>) -> Result<Self, TeacherError> {
        let Identity { id, text_config } = Identity::of(directory)?;
        let mut tower = TextTower::open(directory, text_config, placement.into())?;
        let embedding_size = match tower.stated_size() {
            Some(size) => size,
            None => tower.embed(&[PROBE.to_owned()])?.concat().len(),
        };
        Ok(Self { id, embedding_size, tower })
    }

    /// The length of every embedding.
    pub fn embedding_size(&self) -> usize {
        self.embedding_size
    }

    /// Captions to embeddings of length 1, one each.
    ///
    /// # Errors
    /// When the tokenizer or the model fails.
    pub fn embed_texts(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, TeacherError> {
        self.tower.embed(texts)
    }

    /// The tokens that the text model is given for a caption on its own, to see what is left of a long one: begin and
    /// end included, cut to the model's length with the end kept, and padded to that length where the model takes no
    /// attention mask.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn tokens(&self, text: &str) -> Result<Vec<i64>, TeacherError> {
        self.tower.tokens(text)
    }

    /// Whether the text model is told anything of a name: not where all its tokens say "unknown", or there are none.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn sees(&self, name: &str) -> Result<bool, TeacherError> {
        self.tower.sees(&prompts::clean(name))
    }
}

impl TextTeacher {
    /// Captions, each of them once, as the words of a vocabulary that a [`CaptionCache`] takes.
    ///
    /// # Errors
    /// As [`EmbedCaptions::embed_captions`].
    ///
    /// [`CaptionCache`]: crate::CaptionCache
    pub fn vocabulary_of(&mut self, captions: &[Caption]) -> Result<Vocabulary, TeacherError> {
        let embeddings = self.embed_captions(captions)?;
        let known: Result<Vec<bool>, _> = captions.iter().map(|caption| self.sees(&caption.name)).collect();
        Ok(vocabulary_of_captions(captions, &known?, &embeddings, &self.id))
    }
}

impl EmbedCaptions for TextTeacher {
    fn id(&self) -> &str {
        &self.id
    }

    fn embed_captions(&mut self, captions: &[Caption]) -> Result<Vec<Vec<f32>>, TeacherError> {
        let mut seen = "";
        for caption in captions.iter().filter(|caption| caption.must_be_known) {
            // A name's captions, one a prompt, stand side by side.
            if caption.name != seen && !self.sees(&caption.name)? {
                return Err(TeacherError::UnknownName(caption.name.clone()));
            }
            seen = &caption.name;
        }
        let texts: Vec<String> = captions.iter().map(|caption| caption.text.clone()).collect();
        self.tower.embed(&texts)
    }
}
