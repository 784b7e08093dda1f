//! Quantises an exported student, and measures what that costs.
//!
//! Takes a student in float and photographs like those that it will see. Returns the student with `QuantizeLinear` in
//! its graph, and how far its embeddings moved.
//!
//! The budget is not one of average precision, which changes by a point when a few boxes change places. It limits how
//! far the embeddings may move, by the cosines between those before and after, over thousands of regions: their
//! median, and their lowest tenth, which moves first. It also requires that regions are still proposed at all.

pub mod plot;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use wordsight_calibration::{Layers, Method, Ranges, Target, observed, quantize, to_f16};
use wordsight_detection::Preprocessor;
use wordsight_engines::{
    Agreement, Cosines, CpuEngine, Engine, Input, OnnxSession, Regions, StudentFacts, TensorView,
};
use wordsight_onnx::proto::{ModelProto, StringStringEntryProto};

use crate::photographs::open_picture;
use crate::progress;

/// Fewer photographs than this leave too much to chance.
pub const FEWEST_IMAGES: usize = 500;
/// The layer-by-layer sweep compares on so many images.
const SWEEP_IMAGES: usize = 8;
/// Budgets are held on so many.
pub const BUDGET_IMAGES: usize = 64;

/// A student to be quantised and the images to do it with, letterboxed.
pub struct Calibration {
    model: ModelProto,
    layers: Layers,
    ranges: Ranges,
    /// Images that the ranges are of.
    watched: usize,
    images: Vec<Vec<u8>>,
    /// What the student in float finds on the first [`BUDGET_IMAGES`].
    reference: Vec<Regions>,
}

/// What [`Agreement`] is to be at least.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Of the median cosine.
    pub median_cosine: f32,
    /// Of the cosine that a tenth are below.
    pub lowest_tenth: f32,
    /// Of the share of regions that are still proposed.
    pub regions_kept: f32,
}

impl Budget {
    /// What an agreement misses, first that of the embeddings.
    fn missed(self, agreement: Agreement) -> Option<Missed> {
        [
            ("median cosine", "--least-cosine", agreement.median_cosine, self.median_cosine),
            ("lowest tenth of cosines", "--least-lowest-tenth", agreement.lowest_tenth, self.lowest_tenth),
            ("share of regions kept", "--least-kept", agreement.regions_kept, self.regions_kept),
        ]
        .into_iter()
        .find(|(.., is, least)| is < least)
        .map(|(what, flag, is, least)| Missed { what, flag, is, least })
    }

    /// Whether an agreement is enough.
    pub fn holds(self, agreement: Agreement) -> bool {
        self.missed(agreement).is_none()
    }
}

/// A part of a [`Budget`] that isn't held.
struct Missed {
    what: &'static str,
    flag: &'static str,
    is: f32,
    least: f32,
}

/// What a layer costs when it alone is in integers.
#[derive(Clone, Debug, Serialize)]
pub struct Sensitivity {
    /// The layer's name.
    pub layer: String,
    /// The mean of 1 - cosine.
    pub error: f32,
    /// The share of regions that are no longer proposed.
    pub regions_lost: f32,
}

impl Calibration {
    /// Watches what flows through a student's layers on images.
    ///
    /// # Errors
    /// When the student is none, is quantised already, or an image can't be read.
    pub fn watch(student: &Path, target: Target, images: &[PathBuf]) -> Result<Self> {
        let model = wordsight_onnx::read(student)?;
        let layers = match target {
            Target::TensorRt => Layers::of(&model)?,
            Target::Cpu => Layers::for_processor(&model)?,
        };
        Self::of(student, model, layers, images)
    }

    /// A student without layers that could be quantised, for what takes no thresholds: FP16, and to compare with.
    ///
    /// # Errors
    /// When the student is none, or an image can't be read.
    pub fn unwatched(student: &Path, images: &[PathBuf]) -> Result<Self> {
        Self::of(student, wordsight_onnx::read(student)?, Layers::default(), images)
    }

    fn of(student: &Path, model: ModelProto, layers: Layers, images: &[PathBuf]) -> Result<Self> {
        let mut engine = CpuEngine::open(student, 0)?;
        let facts = engine.facts().clone();
        let tensors: Vec<&str> = layers.tensors().into_iter().collect();
        let mut session = if tensors.is_empty() {
            None
        } else {
            let watching = wordsight_onnx::encode(&observed(&model, tensors.iter().copied()));
            Some(OnnxSession::from_bytes(&watching, "the watched student", 0)?)
        };
        let mut preprocessor = Preprocessor::new(facts.resize);
        let shape = [1, 3, facts.input_height(), facts.input_width()];

        let mut ranges = Ranges::default();
        let (mut kept, mut reference) = (Vec::new(), Vec::new());
        let bar = progress::bar(images.len() as u64, "calibrating");
        for path in images {
            let picture = open_picture(path)?;
            let mut image = vec![0; preprocessor.output_len()];
            preprocessor.run(
                picture.as_raw(),
                picture.width() as usize,
                picture.height() as usize,
                &mut image,
            );
            if let Some(session) = &mut session {
                let input = Input { name: StudentFacts::INPUT, shape: &shape, data: TensorView::U8(&image) };
                session.run_each(&[input], |output, _, values| {
                    let tensor = output.checked_sub(facts.outputs.len()).and_then(|at| tensors.get(at));
                    if let Some(tensor) = tensor {
                        ranges.add(tensor, values);
                    }
                })?;
            }
            if reference.len() < BUDGET_IMAGES {
                let mut regions = Regions::default();
                engine.infer(&image, &mut regions)?;
                reference.push(regions);
                kept.push(image);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        ensure!(!kept.is_empty(), "there is no image to calibrate on");
        Ok(Self { model, layers, ranges, watched: images.len(), images: kept, reference })
    }

    /// On how many images the thresholds are chosen.
    pub fn image_count(&self) -> usize {
        self.watched
    }

    /// How many layers there are to quantise.
    pub fn layer_count(&self) -> usize {
        self.layers.iter().count()
    }

    /// The student with all layers in integers but the pinned ones; for TensorRT the others in FP16.
    ///
    /// # Errors
    /// When a pinned layer is none of the student's.
    pub fn quantised(&self, method: Method, target: Target, pinned: &BTreeSet<String>) -> Result<ModelProto> {
        let layers = self.layers.without(pinned)?;
        let mut model = quantize(&self.model, &layers, &self.ranges, method, target)?;
        if target == Target::TensorRt {
            // A GPU computes in FP16 what is left in float; a processor would be slower.
            model = to_f16(&model)?;
        }
        let summary = serde_json::json!({ "method": method, "target": target, "pinned": pinned }).to_string();
        mark(&mut model, &[("wordsight.precision", "int8"), ("wordsight.quantisation", &summary)]);
        Ok(model)
    }

    /// The student in FP16.
    ///
    /// # Errors
    /// When it has no convolution.
    pub fn in_f16(&self) -> Result<ModelProto> {
        let mut model = to_f16(&self.model)?;
        mark(&mut model, &[("wordsight.precision", "fp16")]);
        Ok(model)
    }

    /// How near a model is to the student in float, computed as its target would.
    ///
    /// # Errors
    /// When ONNX Runtime can't run it.
    pub fn agreement(&self, model: &ModelProto, target: Target) -> Result<Agreement> {
        Ok(self.cosines(model, target, self.images.len())?.agreement())
    }

    /// Cosines between what a model and the student in float find in so many of the images.
    fn cosines(&self, model: &ModelProto, target: Target, images: usize) -> Result<Cosines> {
        let mut engine = engine_as_on(model, target)?;
        let size = engine.facts().embedding_size;
        let (mut regions, mut cosines) = (Regions::default(), Cosines::default());
        for (image, reference) in self.images.iter().zip(&self.reference).take(images) {
            engine.infer(image, &mut regions)?;
            cosines.add(reference, &regions, size);
        }
        Ok(cosines)
    }

    /// What each layer costs alone, the costliest first.
    ///
    /// # Errors
    /// When ONNX Runtime can't run one of the models.
    pub fn sweep(&self, method: Method, target: Target) -> Result<Vec<Sensitivity>> {
        let bar = progress::bar(self.layer_count() as u64, "layers");
        let mut sensitivities = Vec::new();
        for layer in self.layers.iter() {
            let model = quantize(&self.model, &self.layers.only(&layer.name), &self.ranges, method, target)?;
            let cosines = self.cosines(&model, target, SWEEP_IMAGES)?;
            let (error, regions_lost) = (cosines.mean_error(), 1.0 - cosines.regions_kept());
            sensitivities.push(Sensitivity { layer: layer.name.clone(), error, regions_lost });
            bar.inc(1);
        }
        bar.finish_and_clear();
        sensitivities.sort_by(|a, b| b.error.total_cmp(&a.error));
        Ok(sensitivities)
    }

    /// Pins the costliest layers, one after another, until the budget holds: those that move embeddings most, and where
    /// only regions are lost those that lose most.
    ///
    /// # Errors
    /// When not even half of the layers in float are enough.
    pub fn pin_until(
        &self,
        method: Method,
        target: Target,
        sensitivities: &[Sensitivity],
        budget: Budget,
        mut pinned: BTreeSet<String>,
    ) -> Result<BTreeSet<String>> {
        loop {
            let agreement = self.agreement(&self.quantised(method, target, &pinned)?, target)?;
            let Some(Missed { what, flag, is, least }) = budget.missed(agreement) else { return Ok(pinned) };
            let lost_alone = Budget { regions_kept: 0.0, ..budget }.holds(agreement);
            let cost = |layer: &Sensitivity| if lost_alone { layer.regions_lost } else { layer.error };
            let others = sensitivities.iter().filter(|layer| !pinned.contains(&layer.layer));
            let next = others.max_by(|a, b| cost(a).total_cmp(&cost(b)));
            let next = next.filter(|_| pinned.len() < self.layer_count() / 2).with_context(|| {
                format!(
                    "half of the layers are in float and the {what} is {is:.4}, below {least}: ask for less with {flag}, \
                     or keep the student in float"
                )
            })?;
            tracing::info!(layer = next.layer, "{what} {is:.4}, pinned to float");
            pinned.insert(next.layer.clone());
        }
    }

    /// Median times of the student in float and of a model, run in turns.
    ///
    /// # Errors
    /// When ONNX Runtime can't run one of them.
    pub fn latencies(&self, model: &ModelProto, rounds: usize) -> Result<[Duration; 2]> {
        let mut engines = [&self.model, model]
            .map(|model| CpuEngine::from_bytes(&wordsight_onnx::encode(model), "a student", 0));
        let mut times = [Vec::new(), Vec::new()];
        let mut regions = Regions::default();
        for round in 0..rounds + 3 {
            for (engine, times) in engines.iter_mut().zip(&mut times) {
                let engine = engine.as_mut().map_err(|error| anyhow::anyhow!("{error}"))?;
                let began = Instant::now();
                engine.infer(&self.images[round % self.images.len()], &mut regions)?;
                // The first rounds lay out memory.
                if round >= 3 {
                    times.push(began.elapsed());
                }
            }
        }
        Ok(times.map(|mut times| {
            times.sort();
            times.get(times.len() / 2).copied().unwrap_or_default()
        }))
    }
}

/// A student whose integers come out as on its target: TensorRT's don't saturate, so they are computed in
/// float; the processor's own are what a processor shows.
///
/// # Errors
/// When ONNX Runtime can't run it.
pub fn engine_as_on(model: &ModelProto, target: Target) -> Result<CpuEngine> {
    let (bytes, name) = (wordsight_onnx::encode(model), "the converted student");
    Ok(match target {
        Target::TensorRt => CpuEngine::from_bytes_in_float(&bytes, name, 0)?,
        Target::Cpu => CpuEngine::from_bytes(&bytes, name, 0)?,
    })
}

/// Writes entries of a model's metadata, in place of older ones.
fn mark(model: &mut ModelProto, entries: &[(&str, &str)]) {
    for (key, value) in entries {
        model.metadata_props.retain(|entry| entry.key != *key);
        model
            .metadata_props
            .push(StringStringEntryProto { key: (*key).to_owned(), value: (*value).to_owned() });
    }
}
