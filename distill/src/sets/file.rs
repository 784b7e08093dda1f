//! `sets.toml`: which sets a training takes, and what is known about each.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::cutouts::CutoutsEntry;
use crate::mistake::Mistake;

/// A `sets.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetsFile {
    /// Folders that paths may begin with, as `{name}`.
    #[serde(default)]
    roots: BTreeMap<String, PathBuf>,
    /// The sets.
    #[serde(rename = "set")]
    pub sets: Vec<SetEntry>,
    /// Objects alone that are pasted into pictures.
    #[serde(default)]
    pub cutouts: Vec<CutoutsEntry>,
    /// The file's own folder, which paths are relative to.
    #[serde(skip)]
    folder: PathBuf,
}

/// One `[[set]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetEntry {
    /// What messages call it.
    pub name: String,
    /// How it is annotated.
    pub format: Format,
    /// The annotations: a file or a folder, as the format has it.
    annotations: Option<String>,
    /// The folder of images.
    pub images: Option<String>,
    /// What is known where no box is.
    #[serde(default)]
    pub complete: Complete,
    /// The words that are complete, where they are not all of the set's.
    pub complete_for: Option<Vec<String>>,
    /// Words of which a detector has completed the annotations, beside those: a text with one a line.
    pub completed_for: Option<String>,
    /// How often each photograph is seen an epoch.
    #[serde(default = "one")]
    pub weight: f32,
    /// Photographs to leave out.
    pub leave_out: Option<PhotographList>,
    /// The only photographs to take.
    pub split: Option<PhotographList>,
    /// The only words whose boxes are taken: a JSON list, or an object with such a list as `base`.
    pub only_words: Option<String>,
    /// Photographs that show one of these are left out whole.
    #[serde(default)]
    pub leave_out_words: Vec<String>,
    /// Other names for some of its words.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// The teacher's embeddings of its proposals.
    pub embeddings: Option<String>,
}

fn one() -> f32 {
    1.0
}

/// How a set is annotated.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// One JSON file in COCO's format.
    Coco,
    /// A folder of XML files, one a photograph.
    Voc,
    /// A file of names, and a text beside each image.
    Yolo,
    /// A folder with `imagenet.json`: one object a photograph.
    Imagenet,
    /// Images alone.
    Folder,
}

/// What is known where no box is.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Complete {
    /// Nothing that anybody would annotate; and the set is complete for its words.
    Exhaustive,
    /// None of the set's words; there may be other things.
    ItsWords,
    /// Nothing is known.
    #[default]
    PositivesOnly,
}

/// Photographs by name or number: in the file, or a path to a JSON list or to a text with one a line.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum PhotographList {
    /// A path.
    File(String),
    /// Names and numbers.
    Listed(Vec<NameOrNumber>),
}

/// A photograph's name or number.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum NameOrNumber {
    /// A number.
    Number(i64),
    /// A name.
    Name(String),
}

impl std::fmt::Display for NameOrNumber {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(formatter),
            Self::Name(name) => name.fmt(formatter),
        }
    }
}

impl SetsFile {
    /// Reads a `sets.toml`; `roots` go before its own.
    pub fn load(path: &Path, roots: &[(String, PathBuf)]) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the list of sets {}", path.display()))?;
        let mut file: Self =
            toml::from_str(&text).with_context(|| format!("{} is not a list of sets", path.display()))?;
        file.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        for root in file.roots.values_mut() {
            *root = file.folder.join(&*root);
        }
        file.roots.extend(roots.iter().cloned());
        for entry in &file.sets {
            ensure!(
                entry.weight.is_finite() && entry.weight >= 0.0,
                "{}: the set {} has the weight {}; a weight is a number from 0 on",
                path.display(),
                entry.name,
                entry.weight
            );
        }
        Ok(file)
    }

    /// A path in the file: `{root}/…` in that root's folder, others relative to the file.
    pub fn resolve(&self, path: &str) -> Result<PathBuf> {
        let Some((root, rest)) = path.strip_prefix('{').and_then(|path| path.split_once('}')) else {
            return Ok(self.folder.join(path));
        };
        let folder = self.roots.get(root).with_context(|| {
            Mistake::new(format!(
                "the path {path} begins with {{{root}}}, which is no root; give it by --root {root}=FOLDER"
            ))
        })?;
        Ok(folder.join(rest.trim_start_matches('/')))
    }

    /// The photographs of a list.
    pub fn photographs_named(&self, list: &PhotographList) -> Result<HashSet<String>> {
        let path = match list {
            PhotographList::Listed(list) => return Ok(list.iter().map(ToString::to_string).collect()),
            PhotographList::File(path) => self.resolve(path)?,
        };
        if path.extension().is_some_and(|extension| extension == "json") {
            let list: Vec<NameOrNumber> = read_json(&path, "a JSON list of photographs' names or numbers")?;
            return Ok(list.iter().map(ToString::to_string).collect());
        }
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read the list of photographs {}", path.display()))?;
        // VOC's lists of a class have a second column: 1 where it is in the photograph.
        Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }
}

impl SetEntry {
    /// Where the annotations are.
    pub fn annotations(&self, file: &SetsFile) -> Result<PathBuf> {
        let missing = || Mistake::new("its format needs `annotations`: a file or a folder");
        let path = self.annotations.as_ref().with_context(missing)?;
        file.resolve(path)
    }

    /// Where the images are, for formats without another way to know.
    pub fn images(&self, file: &SetsFile) -> Result<PathBuf> {
        let missing = || Mistake::new("its format needs `images`: a folder");
        file.resolve(self.images.as_ref().with_context(missing)?)
    }

    /// The name that a word of this set has among all sets.
    pub fn renamed<'a>(&'a self, word: &'a str) -> &'a str {
        self.rename.get(word).map_or(word, String::as_str)
    }

    /// The only words whose boxes are taken, if the file says.
    pub fn only_words(&self, file: &SetsFile) -> Result<Option<Vec<String>>> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Words {
            Listed(Vec<String>),
            Split { base: Vec<String> },
        }
        let Some(path) = &self.only_words else { return Ok(None) };
        let words =
            read_json(&file.resolve(path)?, "a JSON list of words, or an object with one as \"base\"")?;
        match words {
            Words::Listed(words) | Words::Split { base: words } => Ok(Some(words)),
        }
    }

    /// The words that a detector has completed, none if the file says nothing.
    pub fn completed_words(&self, file: &SetsFile) -> Result<Vec<String>> {
        let Some(path) = &self.completed_for else { return Ok(Vec::new()) };
        let path = file.resolve(path)?;
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }
}

/// Reads a JSON file; `what`: what it should be.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not {what}", path.display()))
}
