//! `wordsight words`: makes vocabularies of words, shows them, and says what is wrong with them.

mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use wordsight_detection::{Vocabulary, Word};
use wordsight_teacher::words::{self, WordList, near_duplicates};
use wordsight_teacher::{TeacherError, TextTeacher};

use super::check::facts_of;
use super::print::print;
use crate::config::ConfigError;
use crate::files::{Content, Inputs};
use crate::service::{check_files, is_list, show_files};
use crate::threads::Stop;
use crate::words::{Pack, answer, make_here, teacher_folder};
use report::{CheckReport, Finding, PacksReport, ShowReport, named_duplicates};

/// Makes, shows and checks vocabularies.
#[derive(Debug, Subcommand)]
pub enum WordsCommand {
    /// Makes a vocabulary of a list of words: words.toml to words.safetensors
    Make(MakeArgs),
    /// Shows a vocabulary's words, and what each is near to
    Show(ShowArgs),
    /// Says which words are hardly told apart, and which the teacher knows nothing of
    Check(CheckArgs),
    /// Lists ready lists of words (COCO, LVIS, ...), or prints one
    Packs(PacksArgs),
    /// Embeds captions for a stream, in a process of its own
    #[command(hide = true)]
    Embed(EmbedArgs),
}

/// A teacher, where words are to be embedded.
#[derive(Debug, Args)]
struct TeacherArgs {
    /// The folder of the teacher that embeds words; without it the installed one's
    #[arg(long, value_name = "DIR")]
    teacher: Option<PathBuf>,
}

/// Makes a vocabulary.
#[derive(Debug, Args)]
pub struct MakeArgs {
    /// The list of words (TOML)
    #[arg(value_name = "WORDS.TOML")]
    words: PathBuf,
    /// The vocabulary to write (.safetensors)
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// The student to which the list's pictures are shown, where it has `examples`
    #[arg(long, value_name = "FILE")]
    student: Option<PathBuf>,
    #[command(flatten)]
    teacher: TeacherArgs,
}

/// Shows a vocabulary.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A vocabulary (.safetensors), or a list of words (TOML)
    #[arg(value_name = "FILE")]
    words: PathBuf,
    /// Show the hidden words too
    #[arg(long)]
    hidden: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    teacher: TeacherArgs,
}

/// Checks words.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A list of words (TOML), or a vocabulary (.safetensors)
    #[arg(value_name = "FILE")]
    words: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    teacher: TeacherArgs,
}

/// Lists packs, or prints one.
#[derive(Debug, Args)]
pub struct PacksArgs {
    /// Print this one, as a words.toml
    #[arg(value_enum, value_name = "PACK")]
    pack: Option<Pack>,
    /// List them as JSON
    #[arg(long, conflicts_with = "pack")]
    json: bool,
}

/// Embeds captions.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// The teacher's folder
    #[arg(long, value_name = "DIR")]
    teacher: PathBuf,
}

impl WordsCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Make(args) => args.run(),
            Self::Show(args) => args.run(),
            Self::Check(args) => args.run(),
            Self::Packs(args) => args.run(),
            Self::Embed(args) => answer(&args.teacher).map(|()| ExitCode::SUCCESS),
        }
    }
}

impl TeacherArgs {
    fn folder(&self) -> anyhow::Result<PathBuf> {
        Ok(teacher_folder(self.teacher.as_deref())?)
    }

    /// A vocabulary: read, or made of a list.
    fn vocabulary(&self, path: &Path) -> anyhow::Result<Vocabulary> {
        if !is_list(path) {
            return Ok(Vocabulary::load(path)?);
        }
        let list = words::read(path).map_err(TeacherError::from)?;
        Ok(make_here(&list, &self.folder()?).map_err(|error| list.error_at_its_place(error, path))?)
    }
}

impl MakeArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let folder = self.teacher.folder()?;
        let mut inputs = Inputs::of([self.words.as_path()]);
        inputs.add(&folder);
        self.student.iter().for_each(|student| inputs.add(student));
        inputs.check(&self.output, Content::Safetensors).map_err(ConfigError::from)?;
        let list = words::read(&self.words).map_err(TeacherError::from)?;
        let mut made =
            make_here(&list, &folder).map_err(|error| list.error_at_its_place(error, &self.words))?;
        self.add_examples(&list, &mut made)?;
        made.save(&self.output)?;
        if let Some(told) = named_duplicates(&near_duplicates(&made)) {
            tell!("wordsight: {told}");
        }
        print(&format!(
            "{} words of {} in {}, beside {} hidden competitors\n",
            made.shown().len(),
            made.teacher,
            self.output.display(),
            made.hidden().len()
        ))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Has the student look at the pictures that the list names.
    fn add_examples(&self, list: &WordList, made: &mut Vocabulary) -> anyhow::Result<()> {
        if list.shown.is_empty() {
            return Ok(());
        }
        let student =
            self.student.as_ref().ok_or_else(|| ConfigError::ExamplesWithoutStudent(self.words.clone()))?;
        let facts = facts_of(student)?;
        made.check_against(&facts.teacher, facts.embedding_size)?;
        let shown = show_files(&list.shown, student, &facts, &Stop::default())?;
        Ok(made.add_examples(facts.shown(&facts.id()), &shown)?)
    }
}

impl ShowArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let vocabulary = self.teacher.vocabulary(&self.words)?;
        let report = ShowReport::of(&vocabulary, self.hidden);
        if self.json {
            print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
        } else {
            print(&report)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl CheckArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let report = self.check()?;
        if self.json {
            print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
        } else {
            print(&report)?;
        }
        Ok(if report.is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn check(&self) -> anyhow::Result<CheckReport> {
        if !is_list(&self.words) {
            return Ok(CheckReport::of(&Vocabulary::load(&self.words)?, Vec::new()));
        }
        let mut list = words::read(&self.words).map_err(TeacherError::from)?;
        check_files(&list.shown)?;
        let folder = self.teacher.folder()?;
        let unknown = without_unknown(&mut list, &TextTeacher::open(&folder)?)?;
        if list.words.iter().all(|word| word.hidden) {
            return Ok(CheckReport::of_findings(unknown));
        }
        Ok(CheckReport::of(&make_here(&list, &folder)?, unknown))
    }
}

impl PacksArgs {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self.pack {
            Some(pack) => print(&pack.text())?,
            None if self.json => print(&(serde_json::to_string_pretty(&PacksReport::new()?)? + "\n"))?,
            None => print(&PacksReport::new()?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Takes the words out of which a teacher's tokenizer knows nothing, and the synonyms, and says which they were.
fn without_unknown(list: &mut WordList, teacher: &TextTeacher) -> Result<Vec<Finding>, TeacherError> {
    let (mut unknown, mut known) = (Vec::new(), Vec::new());
    for (mut word, &(line, column)) in std::mem::take(&mut list.words).into_iter().zip(&list.places) {
        let has_examples = list.has_examples(&word.word);
        let mut note = |name: &str| -> Result<bool, TeacherError> {
            let is_known = has_examples || teacher.sees(name)?;
            if !is_known {
                unknown.push(Finding::unknown(name, line, column));
            }
            Ok(is_known)
        };
        let is_known = note(&word.word)?;
        let mut synonyms = Vec::new();
        for synonym in std::mem::take(&mut word.synonyms) {
            if note(&synonym)? {
                synonyms.push(synonym);
            }
        }
        if is_known {
            known.push((Word { synonyms, ..word }, (line, column)));
        }
    }
    (list.words, list.places) = known.into_iter().unzip();
    Ok(unknown)
}
