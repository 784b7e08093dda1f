//! `wordsight detect`: photographs in, annotated photographs, a table and JSON out.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use wordsight_capture::{Pacing, Photographs, is_motion_jpeg};
use wordsight_teacher::words::{ListedWords, parse_line};

use super::flags::CommonArgs;
use super::installed::INSTALLED;
use super::run::LONGEST_STOP;
use crate::config::{Config, ConfigError};
use crate::files::{Content, Durability, OutputError, is_standard_output, open_result};
use crate::job::WordList;
use crate::pipeline::{Control, Pipeline};
use crate::publish::{Outputs, PictureNames, Publisher, SaveSettings, SinkSettings, Table, Undrawable};
use crate::service::{EngineTarget, OpenedWords, WordsTarget};
use crate::threads::Stop;

/// Names the things in photographs.
#[derive(Debug, Args)]
pub struct DetectArgs {
    /// Photographs (.jpg, .jpeg, .png, .webp) and folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    photographs: Vec<PathBuf>,
    /// A folder for annotated copies of the photographs
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Write JSON lines, one a photograph, to a file, or to the standard output (-) instead of the table
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// What to look for, in the place of a vocabulary: "cat, red cup"; takes a teacher
    #[arg(long, value_name = "WORDS", value_parser = listed_words, conflicts_with = "vocabulary")]
    words: Option<ListedWords>,
    /// The folder of the teacher that embeds words; without it the installed one's
    #[arg(long, value_name = "DIR")]
    teacher: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Words as a flag lists them.
fn listed_words(line: &str) -> Result<ListedWords, String> {
    ListedWords::of(parse_line(line)?)
}

impl DetectArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(stream) = self.photographs.iter().find(|path| is_motion_jpeg(path)) {
            return Err(ConfigError::NotAPhotograph(stream.clone()).into());
        }
        let config = self.load_config()?;
        self.check_outputs(&config)?;
        let stop = Stop::on_signals()?;
        let engine = EngineTarget::of(&config)?.open(&INSTALLED, &stop, &|| ())?;
        let OpenedWords { scorer, .. } = self.words_target(&config)?.open(engine.facts(), &stop)?;
        if self.save.is_some() {
            warn_of_undrawable(&scorer.words());
        }
        let photographs = Photographs::open(&self.photographs);
        let json_on_stdout = self.json.as_deref().is_some_and(is_standard_output);
        let table = (!json_on_stdout).then(|| {
            Table::new(Box::new(std::io::stdout()), photographs.longest_name(), scorer.words().longest())
        });
        let save = self.save.map(|folder| SaveSettings {
            folder,
            every: NonZeroUsize::MIN,
            names: PictureNames::Photographs,
        });
        let open_json =
            |path: &Path| open_result(path).with_context(|| format!("cannot write {}", path.display()));
        let (json, lines) = self.json.as_deref().map(open_json).transpose()?.unzip();
        let sinks =
            save.map(|save| (SinkSettings::Pictures(save.clone()), save.open())).into_iter().collect();
        let outputs = Outputs { json, table, sinks, ..Outputs::default() };
        let publisher = Publisher::new(outputs)?;
        let pipeline = Pipeline::new(Box::new(photographs), Pacing::Lossless, engine, scorer, publisher);
        stop.ends_process_after(LONGEST_STOP)?;
        let report = pipeline.run(&stop, &Control::default())?;
        if let (Some(lines), Some(path)) = (lines.flatten(), &self.json) {
            lines.finish(Durability::Whole).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let (summary, unreadable) = (report.publisher.summary(), report.frames.unreadable);
        let (photographs, things) = (summary.frames(), summary.things());
        tell!("{things} things in {photographs} photographs, {unreadable} not readable");
        Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn load_config(&self) -> Result<Config, ConfigError> {
        let mut config = self.common.load_config()?;
        if self.words.is_some() {
            config.words.clone_from(&self.words);
        }
        if self.teacher.is_some() {
            config.teacher.clone_from(&self.teacher);
        }
        Ok(config)
    }

    /// The words that are looked for, as errors are to name them.
    fn words_target(&self, config: &Config) -> Result<WordsTarget, ConfigError> {
        let target = WordsTarget::of(config)?;
        Ok(self.words.as_ref().map_or_else(|| target.clone(), |words| target.of_list(words)))
    }

    /// Nothing that is read is written.
    fn check_outputs(&self, config: &Config) -> anyhow::Result<()> {
        let mut inputs = self.common.inputs(config, None);
        self.photographs.iter().for_each(|path| inputs.add_pictures(path));
        let refused = |error: OutputError| ConfigError::from(error);
        self.json.as_ref().map(|path| inputs.check(path, Content::Json)).transpose().map_err(refused)?;
        self.save.as_ref().map(|folder| inputs.check_pictures(folder)).transpose().map_err(refused)?;
        Ok(())
    }
}

/// Says which words the annotated copies can't show, and what to do.
fn warn_of_undrawable(words: &WordList) {
    if let Some(undrawable) = Undrawable::among(words.iter()) {
        tell!("{undrawable}; {}", undrawable.remedy());
    }
}
