//! A training's checkpoint: it can be killed at any time and resumes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::{Metrics, Optimizers, TrainConfig};
use crate::student::{Student, StudentConfig};

/// The weights in a checkpoint.
const STUDENT: &str = "student.bpk";
/// Their moving average: what is validated and exported.
const AVERAGED: &str = "averaged.bpk";
/// The optimisers' states in a checkpoint.
const BACKBONE_OPTIMIZER: &str = "backbone-optimizer.bpk";
const OPTIMIZER: &str = "optimizer.bpk";

/// Where a training stands. Weights and optimiser lie beside it in the same folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Steps done.
    pub step: usize,
    /// How it trains; a resumed run must train the same way.
    pub config: TrainConfig,
    /// The words that it learns.
    pub words: Vec<String>,
    /// The student's sizes.
    #[serde(default)]
    pub sizes: Option<StudentConfig>,
    /// How fast the last run of it was: images a second, validation left out.
    pub images_per_second: f32,
    /// Seconds that all steps took, validation left out.
    #[serde(default)]
    pub seconds: f64,
    /// Processor time of all steps in seconds.
    #[serde(default)]
    pub processor_seconds: f64,
    /// Lines of metrics so far.
    pub metrics: Vec<Metrics>,
}

impl Checkpoint {
    /// The checkpoint in `folder`, or a fresh start.
    pub fn resume(folder: &Path, config: &TrainConfig) -> Result<Self> {
        let Some(current) = current(folder) else {
            return Ok(Self { config: config.clone(), ..Self::default() });
        };
        let checkpoint = Self::read(&current)?;
        ensure!(
            &checkpoint.config == config,
            "{} holds a training with other settings; give the same ones or another folder",
            folder.display()
        );
        Ok(checkpoint)
    }

    /// Where the training in `folder` stands, whatever its settings.
    pub fn open(folder: &Path) -> Result<Self> {
        let current = current(folder).with_context(|| {
            format!("there is no checkpoint in {}; run `wordsight-distill train`", folder.display())
        })?;
        Self::read(&current)
    }

    /// The student that this training left in `folder`, with averaged weights.
    pub fn student(&self, folder: &Path, student: Student) -> Result<Student> {
        let current = current(folder).context("the checkpoint vanished")?;
        student.load(&current.join(AVERAGED))
    }

    /// The sizes of the student that this training left in `folder`.
    pub fn sizes(&self, folder: &Path) -> Result<StudentConfig> {
        self.sizes.clone().with_context(|| {
            format!("the training in {} is of an older version; train again", folder.display())
        })
    }

    /// What the student's metadata say of its training.
    pub fn summary(&self) -> Result<serde_json::Value> {
        let last = self.metrics.last().context("the training has no metrics")?;
        Ok(
            serde_json::json!({ "steps": self.step, "config": self.config, "last": last, "words": self.words }),
        )
    }

    /// The checkpoint's weights and their moving average; the optimisers take up their states.
    pub(super) fn restore(
        &self,
        folder: &Path,
        student: Student,
        optimizers: &mut Optimizers,
    ) -> Result<(Student, Student)> {
        let current = current(folder).context("the checkpoint vanished")?;
        let averaged = student.clone().load(&current.join(AVERAGED))?;
        let student = student.load(&current.join(STUDENT))?;
        for (optimizer, name) in
            [(&mut optimizers.backbone, BACKBONE_OPTIMIZER), (&mut optimizers.rest, OPTIMIZER)]
        {
            let path = current.join(name);
            *optimizer = optimizer
                .clone()
                .load(&path)
                .map_err(|error| anyhow!("cannot read {}: {error}", path.display()))?;
        }
        Ok((student, averaged))
    }

    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("state.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes a checkpoint beside the old one, then takes its place.
    pub(super) fn save(
        &self,
        folder: &Path,
        student: &Student,
        averaged: &Student,
        optimizers: &Optimizers,
    ) -> Result<()> {
        let partial = folder.join("checkpoint.partial");
        let context = || format!("cannot write the checkpoint in {}; is the disk full?", folder.display());
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(context)?;
        }
        fs::create_dir_all(&partial).with_context(context)?;
        student.save(&partial.join(STUDENT))?;
        averaged.save(&partial.join(AVERAGED))?;
        for (optimizer, name) in [(&optimizers.backbone, BACKBONE_OPTIMIZER), (&optimizers.rest, OPTIMIZER)] {
            optimizer.save(partial.join(name)).map_err(|error| anyhow!("{error}")).with_context(context)?;
        }
        fs::write(partial.join("state.json"), serde_json::to_string_pretty(self)?).with_context(context)?;

        let (place, old) = (folder.join("checkpoint"), folder.join("checkpoint.old"));
        if place.exists() {
            if old.exists() {
                fs::remove_dir_all(&old).with_context(context)?;
            }
            fs::rename(&place, &old).with_context(context)?;
        }
        fs::rename(&partial, &place).with_context(context)
    }
}

/// The newest complete checkpoint: the old one where a kill fell between the two renames.
fn current(folder: &Path) -> Option<std::path::PathBuf> {
    ["checkpoint", "checkpoint.old"]
        .map(|name| folder.join(name))
        .into_iter()
        .find(|path| path.join("state.json").is_file())
}
