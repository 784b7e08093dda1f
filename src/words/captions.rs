//! Captions as a device embeds them: those that are known from files, and the others by whoever can.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wordsight_detection::{Vocabulary, VocabularyError};
use wordsight_teacher::{CAPTIONS_FILE, Caption, CaptionCache, EmbedCaptions, TeacherError};

use crate::files::state_folder;

/// What embeds captions that nobody has yet: each of them once, as the words of a vocabulary.
pub type Embed<'a> = &'a mut dyn FnMut(&[Caption]) -> Result<Vocabulary, TeacherError>;

/// The captions of one teacher.
pub struct Captions<'a> {
    cache: CaptionCache,
    /// Where what is embedded is kept.
    file: PathBuf,
    embed: Embed<'a>,
}

/// Where a teacher's captions are kept: its name may be anything.
fn kept_file(teacher: &str) -> PathBuf {
    let name = hex::encode(&Sha256::digest(teacher)[..8]);
    state_folder().join("captions").join(format!("{name}.safetensors"))
}

impl<'a> Captions<'a> {
    /// What is known of a teacher's captions: those that came with it in `folder`, and those that were embedded here.
    ///
    /// A file of captions that can't be used costs their embedding, and a warning.
    pub fn of(teacher: &str, folder: Option<&Path>, embed: Embed<'a>) -> Self {
        let (mut cache, file) = (CaptionCache::new(teacher), kept_file(teacher));
        let given = folder.map(|folder| folder.join(CAPTIONS_FILE));
        let given = given.map(|given| cache.add_given(&given));
        for read in given.into_iter().chain([cache.add_kept(&file)]) {
            if let Err(error) = unless_missing(read) {
                tracing::warn!("captions that were embedded before are embedded again: {error}");
            }
        }
        Self { cache, file, embed }
    }

    /// Keeps what was embedded just now, for the next time; without it the vocabulary is the same.
    fn keep(&self, in_use: &[Caption]) {
        let in_use: HashSet<&str> = in_use.iter().map(|caption| caption.text.as_str()).collect();
        let made = self.file.parent().map_or(Ok(()), fs::create_dir_all);
        let told = match made {
            Ok(()) => self.cache.save(&self.file, &in_use).map_err(|error| error.to_string()),
            Err(error) => Err(format!("{}: {error}", self.file.display())),
        };
        if let Err(error) = told {
            tracing::warn!("what was embedded is not kept, and is embedded again at the next start: {error}");
        }
    }
}

impl EmbedCaptions for Captions<'_> {
    fn id(&self) -> &str {
        self.cache.teacher()
    }

    fn embed_captions(&mut self, captions: &[Caption]) -> Result<Vec<Vec<f32>>, TeacherError> {
        let mut seen = HashSet::new();
        let lacking: Vec<Caption> = captions
            .iter()
            .filter(|caption| self.cache.get(&caption.text).is_none() && seen.insert(caption.text.as_str()))
            .cloned()
            .collect();
        if !lacking.is_empty() {
            let embedded = (self.embed)(&lacking)?;
            if embedded.teacher != self.cache.teacher() {
                let problem = format!(
                    "the teacher that is here is `{}`, and the student speaks `{}`: install the student's, or name its folder \
                     as `teacher` in the configuration",
                    embedded.teacher,
                    self.cache.teacher()
                );
                return Err(TeacherError::Elsewhere(problem));
            }
            self.cache.add(&embedded);
            self.keep(captions);
        }
        let of = |caption: &Caption| match self.cache.get(&caption.text) {
            Some(known) if caption.must_be_known && !known.is_name_known => {
                Err(TeacherError::UnknownName(caption.name.clone()))
            }
            Some(known) => Ok(known.embedding.clone()),
            None => Err(TeacherError::Elsewhere(format!(
                "{:?} was not embedded; this is a bug in wordsight",
                caption.text
            ))),
        };
        captions.iter().map(of).collect()
    }
}

fn unless_missing(read: Result<(), VocabularyError>) -> Result<(), VocabularyError> {
    match read {
        Err(VocabularyError::Unreadable { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => Ok(()),
        read => read,
    }
}
