//! Ready lists of words: the categories of sets that everybody knows.
//!
//! `scripts/fetch-packages packs` writes them. A teacher's package brings a vocabulary of each.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use wordsight_teacher::words::{WordList, WordsError, parse};

use super::teacher_folder::installed;

/// The folder of a package's vocabularies, under `share/wordsight` of the prefix.
const FOLDER: &str = "vocabularies";

/// A ready list of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pack {
    /// 80 everyday things.
    Coco,
    /// 20 everyday things.
    Voc,
    /// 1,203 things, rare ones among them.
    Lvis,
    /// 601 things, and parts of people and vehicles.
    OpenImages,
    /// 1,000 things, half of them animals and plants.
    Imagenet,
}

impl Pack {
    /// All of them, the most used first.
    pub const ALL: [Self; 5] = [Self::Coco, Self::Voc, Self::Lvis, Self::OpenImages, Self::Imagenet];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coco => "coco",
            Self::Voc => "voc",
            Self::Lvis => "lvis",
            Self::OpenImages => "open-images",
            Self::Imagenet => "imagenet",
        }
    }

    /// The list as a file of words (TOML).
    pub fn text(self) -> &'static str {
        match self {
            Self::Coco => include_str!("packs/coco.toml"),
            Self::Voc => include_str!("packs/voc.toml"),
            Self::Lvis => include_str!("packs/lvis.toml"),
            Self::OpenImages => include_str!("packs/open-images.toml"),
            Self::Imagenet => include_str!("packs/imagenet.toml"),
        }
    }

    /// Whose words they are: the first line of the list.
    pub fn about(self) -> &'static str {
        self.text().lines().next().unwrap_or_default().trim_start_matches("# ")
    }

    /// The words.
    ///
    /// # Errors
    /// None of these: a test reads them all.
    pub fn words(self) -> Result<WordList, WordsError> {
        parse(self.text(), Path::new(self.name()))
    }

    /// The vocabulary of it that a teacher's package has installed, if one has.
    pub fn vocabulary(self) -> Option<PathBuf> {
        let file = installed(FOLDER)?.join(format!("{}.safetensors", self.name()));
        file.is_file().then_some(file)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_pack_is_a_list_of_as_many_words_as_its_set_has() {
        let counts = Pack::ALL.map(|pack| pack.words().unwrap().words.len());
        assert_eq!(counts, [80, 20, 1203, 601, 1000]);
        for pack in Pack::ALL {
            assert!(pack.about().ends_with('.') && !pack.about().starts_with('#'), "{}", pack.about());
            assert_eq!(pack.to_possible_value().unwrap().get_name(), pack.name());
        }
    }
}
