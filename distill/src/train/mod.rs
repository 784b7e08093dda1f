//! Training on cached features: proposals and the two embeddings at once.
//!
//! Flows in: a [`Cache`], a [`Student`] and the words' text embeddings. Flows out: a folder with the
//! weights, the optimiser's state, one line of metrics every few steps and a plot of them.
//!
//! The surprising thing: nothing random is carried from step to step. The order of scenes comes from
//! (seed, epoch) and the regions of a step from (seed, step), so a run that is killed and resumed sees
//! what an uninterrupted one would have seen.

mod assign;
mod average;
mod checkpoint;
pub mod losses;
mod plot;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use wordsight_detection::{Letterbox, iou};

use crate::embed::Embedded;
use crate::features::Cache;
use crate::progress;
use crate::student::roi::Pooling;
use crate::student::{Box4, DenseProposals, Head, Student, StudentConfig, corner_boxes};
use assign::{Label, Positive, Region};
use average::Average;
pub use checkpoint::Checkpoint;

/// Scenes at the end of the cache that training does not see.
const VALIDATION_SCENES: usize = 200;
/// Regions an image that the embeddings learn from.
const REGIONS: usize = 12;
/// Proposals an image among which regions are chosen.
const LIKED_PROPOSALS: usize = 32;
/// Boxes an image that the refiner learns from.
const REFINED_BOXES: usize = 16;
/// Steps between two lines of metrics.
const METRICS_EVERY: usize = 25;

/// What a training changes; the rest of the student stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Learn {
    /// Everything at once.
    All,
    /// The pyramid and the proposal head: where things are.
    Proposals,
    /// The region head: what they are. The pyramid and the proposals stay, so that heads trained on the
    /// same ones can be compared.
    Regions,
}

/// An optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Loshchilov and Hutter, 2019.
    #[value(name = "adamw")]
    AdamW,
    /// With Nesterov's momentum of 0.9, as ViLD's own training has without Nesterov.
    Sgd,
}

impl Optimizer {
    fn init(self, weight_decay: f32) -> ModuleOptimizer {
        let clipping = Some(GradientClippingConfig::Norm(5.0));
        match self {
            Self::AdamW => {
                AdamWConfig::new().with_weight_decay(weight_decay).with_grad_clipping(clipping).init()
            }
            Self::Sgd => {
                let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: true };
                SgdConfig::new()
                    .with_weight_decay(Some(WeightDecayConfig::new(weight_decay)))
                    .with_momentum(Some(momentum))
                    .with_gradient_clipping(clipping)
                    .init()
            }
        }
    }
}

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// What changes.
    pub learn: Learn,
    /// A region head that starts from nothing; by default it is ViLD-ensemble's, from the classifier.
    pub fresh_head: Option<Head>,
    /// Which optimiser.
    pub optimizer: Optimizer,
    /// Steps in all.
    pub steps: usize,
    /// Scenes a step.
    pub batch: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps of warm-up, before the cosine.
    pub warm_up: usize,
    /// Weight decay: decoupled in AdamW, on the gradient in SGD.
    pub weight_decay: f32,
    /// Weight of the box loss; objectness weighs 1.
    pub box_weight: f32,
    /// Weight of the text loss.
    pub text_weight: f32,
    /// ViLD's w: weight of the image loss.
    pub image_weight: f32,
    /// Temperature of the text loss.
    pub temperature: f32,
    /// Weight of empty cells in scenes that are not exhaustively annotated, 0 to 1.
    pub doubtful_weight: f32,
    /// What a step leaves of the weights' moving average.
    pub average_decay: f32,
    /// Seed of everything random.
    pub seed: u64,
    /// Steps between two checkpoints.
    pub checkpoint_every: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            learn: Learn::All,
            fresh_head: None,
            optimizer: Optimizer::AdamW,
            steps: 3500,
            batch: 16,
            learning_rate: 1e-3,
            warm_up: 150,
            weight_decay: 0.05,
            box_weight: 2.0,
            text_weight: 0.2,
            image_weight: 0.5,
            temperature: 0.01,
            doubtful_weight: 0.4,
            average_decay: 0.998,
            seed: 1,
            checkpoint_every: 250,
        }
    }
}

impl TrainConfig {
    /// The region head that this training has.
    pub fn head(&self) -> Head {
        self.fresh_head.unwrap_or(Head::VildEnsemble)
    }

    /// Linear warm-up, then a cosine to a hundredth.
    fn learning_rate_at(&self, step: usize) -> f64 {
        if step < self.warm_up {
            return self.learning_rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let progress = (step - self.warm_up) as f64 / (self.steps - self.warm_up).max(1) as f64;
        self.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()))
    }
}

/// One line of metrics: means since the line before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Steps done.
    pub step: usize,
    /// Objectness loss.
    pub objectness: f32,
    /// Box loss.
    pub boxes: f32,
    /// Loss of refined boxes.
    #[serde(default)]
    pub refined: f32,
    /// ViLD-text loss.
    pub text: f32,
    /// ViLD-image loss.
    pub image: f32,
    /// Share of validation objects covered with IoU >= 0.5 by the ten best proposals, where measured.
    pub recall_of_ten: Option<f32>,
    /// Share covered by all proposals, averaged over IoUs from 0.5 to 0.95 (COCO's AR@100), where measured.
    pub average_recall: Option<f32>,
}

/// The scenes as training reads them.
struct Lessons<'a> {
    cache: &'a Cache,
    /// The teacher's embeddings of stored proposals, scene by scene, for the image loss.
    embedded: Option<&'a Embedded>,
    config: &'a StudentConfig,
    /// Objects of each scene.
    objects: Vec<Vec<Object>>,
}

#[derive(Clone, Copy)]
struct Object {
    box_in_input: [f32; 4],
    /// Place of its word among the categories.
    category: usize,
}

/// What a training reads.
#[derive(Clone, Copy)]
pub struct Material<'a> {
    /// Scenes as feature maps, with their objects.
    pub cache: &'a Cache,
    /// The teacher's embeddings of stored proposals in the first of these scenes, or in all; training
    /// then sees only scenes that have them.
    pub embedded: Option<&'a Embedded>,
    /// Text embeddings of the cache's categories, in their order, L2-normalised.
    pub words: &'a [Vec<f32>],
}

/// Trains `student` until the configured step, from the checkpoint in `folder` if there is one, and
/// returns where it stands; the weights are in the folder.
///
/// Everything computes on the device that the student lies on, which must know gradients
/// (`Device::autodiff`). `stop` ends training early, after a checkpoint.
pub fn train(
    mut student: Student,
    student_config: &StudentConfig,
    config: &TrainConfig,
    material: Material<'_>,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<Checkpoint> {
    let training_scenes = material.training_scenes(config)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let device = student.device();
    let lessons = Lessons::new(&material, student_config)?;
    let words = Tensor::<2>::from_data(
        TensorData::new(material.words.concat(), [material.words.len(), student_config.embedding_size]),
        &device,
    );
    let mut optimizer = config.optimizer.init(config.weight_decay);
    let mut checkpoint = Checkpoint::resume(folder, config)?;
    let mut average = Average::new(&student, config.average_decay);
    if checkpoint.step > 0 {
        let averaged;
        (student, averaged, optimizer) = checkpoint.restore(folder, student, optimizer)?;
        average = Average::new(&averaged, config.average_decay);
        tracing::info!(step = checkpoint.step, "resumed");
    }

    checkpoint.words = material.cache.dataset.categories.iter().map(|word| word.name.clone()).collect();

    let bar = progress::bar(config.steps as u64, "training");
    let mut pace = Pace::default();
    let mut sums = Metrics::default();
    while checkpoint.step < config.steps {
        let step = checkpoint.step;
        let began = Instant::now();
        bar.set_position(step as u64);
        let scenes = scenes_of_step(config, training_scenes, step);
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(step as u64 + 1);
        let (loss, parts) = lessons.loss(&student, config, &words, &scenes, &mut rng, &device);
        let gradients = GradientsParams::from_grads(loss.backward(), &student);
        student = optimizer.step(config.learning_rate_at(step), student, gradients);
        average.add(&student, step);
        checkpoint.step += 1;
        checkpoint.scenes_per_second = pace.add(config.batch, began.elapsed());

        sums.add(&parts);
        let last = checkpoint.step == config.steps || stop.load(Ordering::Relaxed);
        let save = last || checkpoint.step % config.checkpoint_every == 0;
        if save || checkpoint.step % METRICS_EVERY == 0 {
            let mut line = std::mem::take(&mut sums).mean(checkpoint.step);
            bar.set_message(format!(
                "objectness {:.2}, boxes {:.2}/{:.2}, text {:.2}, image {:.2}",
                line.objectness, line.boxes, line.refined, line.text, line.image
            ));
            let averaged = save.then(|| average.student(&student));
            if let Some(averaged) = &averaged {
                let recall = lessons.validate(averaged);
                (line.recall_of_ten, line.average_recall) = (Some(recall.of_ten), Some(recall.average));
                tracing::info!(step = checkpoint.step, of_ten = recall.of_ten, average = recall.average);
            }
            checkpoint.metrics.push(line);
            if let Some(averaged) = averaged {
                checkpoint.save(folder, &student, &averaged, &optimizer)?;
                write_metrics(&checkpoint.metrics, &folder.join("metrics.jsonl"))?;
                plot::draw(&checkpoint.metrics, &folder.join("training.svg"))?;
            }
        }
        if last {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(checkpoint)
}

/// One JSON object a line.
fn write_metrics(metrics: &[Metrics], path: &Path) -> Result<()> {
    let lines: Result<Vec<String>, _> = metrics.iter().map(serde_json::to_string).collect();
    fs::write(path, lines?.join("\n") + "\n").with_context(|| format!("cannot write {}", path.display()))
}

impl Material<'_> {
    /// How many scenes training sees: the first ones, up to those kept for validation.
    fn training_scenes(&self, config: &TrainConfig) -> Result<usize> {
        let images = &self.cache.dataset.images;
        ensure!(images.len() > 2 * VALIDATION_SCENES, "{} scenes are too few to train on", images.len());
        let scenes = images.len() - VALIDATION_SCENES;
        let Some(embedded) = self.embedded.filter(|_| config.learn != Learn::Proposals) else {
            ensure!(
                config.learn == Learn::Proposals || !config.head().learns_crops(),
                "the {} head learns from the teacher's embeddings of crops: make them with `wordsight-distill \
                 proposals` and `embed` and name their folder with --embeddings",
                config.head().name()
            );
            return Ok(scenes);
        };
        let names = images.iter().map(|image| &image.file_name).zip(embedded.file_names());
        if let Some((image, other)) = names.clone().find(|(image, other)| image != other) {
            bail!("the embeddings are of other images: {other} where the cache has {image}");
        }
        let covered = scenes.min(embedded.images());
        ensure!(covered >= config.batch, "the embeddings cover {covered} scenes: too few to train on");
        Ok(covered)
    }
}

/// The scenes of a step: the next `batch` of the epoch's shuffled order.
fn scenes_of_step(config: &TrainConfig, scenes: usize, step: usize) -> Vec<usize> {
    let steps_an_epoch = (scenes / config.batch).max(1);
    let (epoch, place) = (step / steps_an_epoch, step % steps_an_epoch);
    let mut order: Vec<usize> = (0..scenes).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed.wrapping_mul(0x9E37_79B9).wrapping_add(epoch as u64));
    order.shuffle(&mut rng);
    order[place * config.batch..(place + 1) * config.batch].to_vec()
}

impl<'a> Lessons<'a> {
    fn new(material: &Material<'a>, config: &'a StudentConfig) -> Result<Self> {
        let cache = material.cache;
        let dataset = &cache.dataset;
        let places: std::collections::HashMap<u64, usize> =
            dataset.images.iter().enumerate().map(|(place, image)| (image.id, place)).collect();
        let categories: std::collections::HashMap<u64, usize> =
            dataset.categories.iter().enumerate().map(|(place, category)| (category.id, place)).collect();
        let mut objects = vec![Vec::new(); dataset.images.len()];
        for object in &dataset.annotations {
            let place = places[&object.image_id];
            let image = &dataset.images[place];
            let letterbox = Letterbox::new(
                (image.width as usize, image.height as usize),
                (config.input_size, config.input_size),
            );
            let category = *categories
                .get(&object.category_id)
                .with_context(|| format!("annotation {} has an unknown category", object.id))?;
            let box_in_input = letterbox.box_in_input_from_frame(object.corners_in_frame());
            objects[place].push(Object { box_in_input, category });
        }
        Ok(Self { cache, embedded: material.embedded, config, objects })
    }

    /// Features of scenes, level by level.
    fn features(&self, scenes: &[usize], device: &Device) -> [Tensor<4>; 3] {
        std::array::from_fn(|level| {
            let mut values = Vec::new();
            for &scene in scenes {
                self.cache.read_level(scene, level, &mut values);
            }
            Tensor::from_data(TensorData::new(values, self.config.map_shape(level, scenes.len())), device)
        })
    }

    fn boxes_of(&self, scene: usize) -> Vec<[f32; 4]> {
        self.objects[scene].iter().map(|object| object.box_in_input).collect()
    }

    /// The weighted sum of what is to be learnt on some scenes, and its parts.
    fn loss(
        &self,
        student: &Student,
        config: &TrainConfig,
        words: &Tensor<2>,
        scenes: &[usize],
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> (Tensor<1>, Metrics) {
        if config.learn == Learn::Regions {
            // What stays needs no gradient, which is two thirds of its cost.
            let features = self.features(scenes, &device.clone().inner());
            let (maps, dense) = student.valid().propose(self.config, &features);
            let regions = self.regions(&dense, scenes, rng);
            let [.., coarse] = features;
            let [fine, ..] = maps;
            return self.region_losses(
                student,
                config,
                words,
                scenes,
                &regions,
                [&coarse.autodiff(), &fine.autodiff()],
            );
        }
        let features = self.features(scenes, device);
        let (maps, dense) = student.propose(self.config, &features);
        let (objectness, boxes) = self.proposal_losses(config, &dense, scenes, device);
        let mut parts = Metrics {
            objectness: objectness.clone().into_scalar(),
            boxes: boxes.clone().into_scalar(),
            ..Metrics::default()
        };
        let plain =
            DenseProposals { logits: dense.logits.inner(), boxes_in_input: dense.boxes_in_input.inner() };
        let refined = self.refiner_loss(student, &plain, scenes, &maps[0], rng);
        parts.refined = refined.clone().into_scalar();
        let mut loss = objectness + (boxes + refined).mul_scalar(config.box_weight);
        if config.learn == Learn::All {
            let regions = self.regions(&plain, scenes, rng);
            let (of_regions, region_parts) =
                self.region_losses(student, config, words, scenes, &regions, [&features[2], &maps[0]]);
            (parts.text, parts.image) = (region_parts.text, region_parts.image);
            loss = loss + of_regions;
        }
        (loss, parts)
    }

    /// The text and the image loss of regions, weighted; `maps`: the backbone's coarse and the
    /// pyramid's fine one.
    fn region_losses(
        &self,
        student: &Student,
        config: &TrainConfig,
        words: &Tensor<2>,
        scenes: &[usize],
        regions: &[Vec<Region>],
        [coarse, fine]: [&Tensor<4>; 2],
    ) -> (Tensor<1>, Metrics) {
        let device = coarse.device();
        let boxes_in_input: Vec<Vec<[f32; 4]>> = regions
            .iter()
            .map(|regions| regions.iter().map(|region| region.box_in_input).collect())
            .collect();
        let pooling = Pooling::new(self.config, &boxes_in_input, &device);
        let embeddings = student.regions.forward(coarse, fine, &pooling);
        let flat = |embeddings: Tensor<3>| embeddings.flatten::<2>(0, 1);
        let (mut loss, mut parts) = (Tensor::<1>::zeros([1], &device), Metrics::default());
        if config.head().learns_words() {
            let text = self.text_loss(student, config, words, scenes, regions, flat(embeddings.text));
            parts.text = text.clone().into_scalar();
            loss = loss + text.mul_scalar(config.text_weight);
        }
        if let Some(embedded) = self.embedded.filter(|_| config.head().learns_crops()) {
            let image = self.image_loss(embedded, scenes, regions, flat(embeddings.image));
            parts.image = image.clone().into_scalar();
            loss = loss + image.mul_scalar(config.image_weight);
        }
        (loss, parts)
    }

    fn proposal_losses(
        &self,
        config: &TrainConfig,
        dense: &DenseProposals,
        scenes: &[usize],
        device: &Device,
    ) -> (Tensor<1>, Tensor<1>) {
        let [images, cells, _] = dense.boxes_in_input.dims();
        let centres = self.config.centres_in_input();
        let objectness: Vec<f32> =
            burn::tensor::activation::sigmoid(dense.logits.clone()).into_data().iter().collect();
        let boxes = corner_boxes(dense.boxes_in_input.clone().flatten(0, 1));
        let mut targets = vec![0.0; images * cells];
        let mut trust = Vec::with_capacity(images * cells);
        let (mut places, mut objects, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (image, &scene) in scenes.iter().enumerate() {
            let own = image * cells..(image + 1) * cells;
            let truth = self.boxes_of(scene);
            let sure = self.cache.dataset.images[scene].exhaustive;
            trust.extend(std::iter::repeat_n(if sure { 1.0 } else { config.doubtful_weight }, cells));
            for Positive { cell, object, target } in
                assign::assign(&centres, &objectness[own.clone()], &boxes[own], &truth)
            {
                targets[image * cells + cell] = target;
                places.push((image * cells + cell) as i64);
                objects.extend(truth[object]);
                weights.push(target);
            }
        }
        let targets = Tensor::<1>::from_data(targets.as_slice(), device);
        let trust = Tensor::<1>::from_data(trust.as_slice(), device);
        let objectness = losses::objectness(dense.logits.clone().flatten(0, 1), targets, trust);
        if places.is_empty() {
            return (objectness.clone(), objectness.zeros_like());
        }
        let count = places.len();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), device);
        let learning = dense.boxes_in_input.clone().flatten::<2>(0, 1).select(0, places);
        let objects = Tensor::<2>::from_data(TensorData::new(objects, [count, 4]), device);
        (objectness, losses::boxes(learning, objects, Tensor::from_data(weights.as_slice(), device)))
    }

    /// Generalised IoU loss of what the refiner makes of boxes near objects. `dense` without gradients.
    fn refiner_loss(
        &self,
        student: &Student,
        dense: &DenseProposals,
        scenes: &[usize],
        fine: &Tensor<4>,
        rng: &mut ChaCha8Rng,
    ) -> Tensor<1> {
        let best = corner_boxes(dense.best(self.config).1.flatten(0, 1));
        let (mut rough, mut objects, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (&scene, proposals) in scenes.iter().zip(best.chunks_exact(self.config.proposals)) {
            let side = self.config.input_size as f32;
            let lessons = assign::rough_boxes(REFINED_BOXES, side, proposals, &self.boxes_of(scene), rng);
            for lesson in &lessons {
                objects.extend(lesson.map_or([0.0, 0.0, 8.0, 8.0], |(_, object)| object));
                weights.push(f32::from(u8::from(lesson.is_some())));
            }
            rough.push(
                lessons
                    .into_iter()
                    .map(|lesson| lesson.map_or([0.0, 0.0, 8.0, 8.0], |(rough, _)| rough))
                    .collect::<Vec<Box4>>(),
            );
        }
        let device = fine.device();
        let pooled = Pooling::new(self.config, &rough, &device).pool(fine);
        let refined = student.refiner.forward(self.config, &pooled, &rough).flatten(0, 1);
        let objects = Tensor::<2>::from_data(TensorData::new(objects, [weights.len(), 4]), &device);
        losses::boxes(refined, objects, Tensor::from_data(weights.as_slice(), &device))
    }

    /// The regions that some scenes' embeddings learn from: the stored proposals, for which there are
    /// embeddings of the teacher, and others sampled for the words. `dense` without gradients.
    fn regions(&self, dense: &DenseProposals, scenes: &[usize], rng: &mut ChaCha8Rng) -> Vec<Vec<Region>> {
        let (_, best) = dense.best(self.config);
        let best = corner_boxes(best.flatten(0, 1));
        let side = self.config.input_size as f32;
        scenes
            .iter()
            .zip(best.chunks_exact(self.config.proposals))
            .map(|(&scene, proposals)| {
                let truth = self.boxes_of(scene);
                let mut regions = self.stored_regions(scene, &truth);
                let liked = &proposals[..LIKED_PROPOSALS];
                regions.extend(assign::sample_regions(REGIONS, side, liked, &truth, rng));
                regions
            })
            .collect()
    }

    /// A scene's stored proposals. An empty one stands for nothing, in a corner, so that every scene has
    /// as many.
    fn stored_regions(&self, scene: usize, truth: &[[f32; 4]]) -> Vec<Region> {
        let Some(embedded) = self.embedded else { return Vec::new() };
        let letterbox = self.letterbox(scene);
        let boxes_in_image = embedded.boxes_in_image(scene);
        let regions = boxes_in_image.iter().enumerate().map(|(place, &box_in_image)| {
            let empty = box_in_image[2] <= box_in_image[0] || box_in_image[3] <= box_in_image[1];
            if empty {
                let box_in_input = [0.0, 0.0, 8.0, 8.0];
                return Region { box_in_input, label: Label::Unclear, stored: None };
            }
            let region = assign::label(letterbox.box_in_input_from_frame(box_in_image), truth);
            Region { stored: Some(place), ..region }
        });
        regions.collect()
    }

    fn letterbox(&self, scene: usize) -> Letterbox {
        let image = &self.cache.dataset.images[scene];
        let side = self.config.input_size;
        Letterbox::new((image.width as usize, image.height as usize), (side, side))
    }

    fn text_loss(
        &self,
        student: &Student,
        config: &TrainConfig,
        words: &Tensor<2>,
        scenes: &[usize],
        regions: &[Vec<Region>],
        embeddings: Tensor<2>,
    ) -> Tensor<1> {
        let (labels, weights): (Vec<i64>, Vec<f32>) = with_scenes(scenes, regions)
            .map(|(scene, region)| match region.label {
                Label::Object(object) => (self.objects[scene][object].category as i64 + 1, 1.0),
                Label::Background if self.cache.dataset.images[scene].exhaustive => (0, 1.0),
                Label::Background => (0, config.doubtful_weight),
                Label::Unclear => (0, 0.0),
            })
            .unzip();
        let background = student.regions.background().unsqueeze::<2>();
        let words = student.regions.words().unwrap_or_else(|| words.clone());
        let classes = Tensor::cat(vec![background, words], 0);
        let weights = Tensor::from_data(weights.as_slice(), &embeddings.device());
        losses::text(embeddings, classes, labels, weights, config.temperature)
    }

    fn image_loss(
        &self,
        embedded: &Embedded,
        scenes: &[usize],
        regions: &[Vec<Region>],
        embeddings: Tensor<2>,
    ) -> Tensor<1> {
        let size = self.config.embedding_size;
        let (mut teacher, mut weights) = (Vec::new(), Vec::new());
        for (scene, region) in with_scenes(scenes, regions) {
            match region.stored {
                Some(place) => teacher.extend(embedded.embedding(scene, place)),
                None => teacher.extend(std::iter::repeat_n(0.0, size)),
            }
            weights.push(f32::from(u8::from(region.stored.is_some())));
        }
        let device = embeddings.device();
        let teacher = Tensor::<2>::from_data(TensorData::new(teacher, [weights.len(), size]), &device);
        losses::image(embeddings, teacher, Tensor::<1>::from_data(weights.as_slice(), &device))
    }

    /// How many of the validation scenes' objects the proposals cover.
    fn validate(&self, student: &Student) -> Recall {
        let student = student.valid();
        let (mut of_ten, mut average, mut objects) = (0.0, 0.0, 0);
        let images = self.cache.manifest.images;
        let scenes: Vec<usize> = (images - VALIDATION_SCENES..images).collect();
        for scenes in scenes.chunks(20) {
            let features = self.features(scenes, &student.device());
            let (maps, dense) = student.propose(self.config, &features);
            let [_, refined] = student.refined(self.config, &maps[0], &dense);
            for (&scene, proposals) in scenes.iter().zip(&refined) {
                for object in self.boxes_of(scene) {
                    let closest = |proposals: &[[f32; 4]]| {
                        proposals.iter().map(|&proposal| iou(proposal, object)).fold(0.0, f32::max)
                    };
                    objects += 1;
                    of_ten += f32::from(u8::from(closest(&proposals[..10]) >= 0.5));
                    let overlap = closest(proposals);
                    average +=
                        (0..10).filter(|step| overlap >= 0.5 + 0.05 * *step as f32).count() as f32 / 10.0;
                }
            }
        }
        let count = objects.max(1) as f32;
        Recall { of_ten: of_ten / count, average: average / count }
    }
}

/// How fast a run is.
#[derive(Default)]
struct Pace {
    scenes: usize,
    time: Duration,
}

impl Pace {
    /// Takes in a step; scenes a second so far.
    fn add(&mut self, scenes: usize, time: Duration) -> f32 {
        self.scenes += scenes;
        self.time += time;
        self.scenes as f32 / self.time.as_secs_f32().max(1e-6)
    }
}

/// Shares of objects covered.
struct Recall {
    /// By one of the ten best proposals, with IoU >= 0.5.
    of_ten: f32,
    /// By any proposal, averaged over IoUs from 0.5 to 0.95.
    average: f32,
}

impl Metrics {
    /// Adds a step's losses; `step` counts them.
    fn add(&mut self, step: &Metrics) {
        self.step += 1;
        self.objectness += step.objectness;
        self.boxes += step.boxes;
        self.refined += step.refined;
        self.text += step.text;
        self.image += step.image;
    }

    /// The means of a sum over several steps, of which the last is `step`.
    fn mean(self, step: usize) -> Self {
        let count = self.step.max(1) as f32;
        Self {
            step,
            objectness: self.objectness / count,
            boxes: self.boxes / count,
            refined: self.refined / count,
            text: self.text / count,
            image: self.image / count,
            recall_of_ten: None,
            average_recall: None,
        }
    }
}

/// Every region with its scene.
fn with_scenes<'r>(
    scenes: &'r [usize],
    regions: &'r [Vec<Region>],
) -> impl Iterator<Item = (usize, &'r Region)> {
    let by_scene = scenes.iter().zip(regions);
    by_scene.flat_map(|(&scene, regions)| regions.iter().map(move |region| (scene, region)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn an_epoch_shows_every_scene_once_and_the_next_in_another_order() {
        let config = TrainConfig { batch: 4, ..TrainConfig::default() };
        let epoch = |epoch: usize| -> Vec<usize> {
            (0..5).flat_map(|step| scenes_of_step(&config, 20, epoch * 5 + step)).collect()
        };
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        for mut order in [first, second] {
            order.sort_unstable();
            assert_eq!(order, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_learning_rate_warms_up_and_falls_to_a_hundredth() {
        let config = TrainConfig { steps: 1000, warm_up: 100, ..TrainConfig::default() };
        assert!(config.learning_rate_at(0) < 0.02 * config.learning_rate);
        assert!((config.learning_rate_at(100) - config.learning_rate).abs() < 1e-9);
        assert!((config.learning_rate_at(1000) - 0.01 * config.learning_rate).abs() < 1e-9);
    }
}
