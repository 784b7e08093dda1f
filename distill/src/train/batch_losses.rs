//! The losses of one batch.

use anyhow::Result;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use wordsight_detection::iou;

use super::assign::{self, Label, Positive, Region};
use super::box_teacher::{BoxTeacher, LEAST_TEACHING_SCORE};
use super::frozen::FrozenBackbone;
use super::quality::{DetectorAnswers, Qualities};
use super::soft_words::{ANNOTATED_SHARE, SharedWords, SoftTargets};
use super::words::{Words, set_at};
use super::{Learn, Metrics, TrainConfig, losses};
use crate::label::yolox::Dense;
use crate::sets::{Sets, TrainingImage};
use crate::student::roi::Pooling;
use crate::student::{
    Backbone, Box4, DenseProposals, Features, RegionMaps, Student, StudentConfig, corner_boxes,
};

/// Regions an image that the embeddings learn from, beside those that the teacher has looked at.
const REGIONS: usize = 64;
/// Regions an image that the teacher has looked at.
const TEACHER_REGIONS: usize = 6;
/// Proposals an image among which regions are chosen.
const CANDIDATE_PROPOSALS: usize = 100;
/// Boxes an image that the refiner learns from.
const REFINED_BOXES: usize = 24;
/// A region of which this share lies in what is to be ignored is not background.
const IGNORED_SHARE: f32 = 0.5;
/// A region that stands for none, so that every image has as many.
const NOWHERE: Box4 = [0.0, 0.0, 8.0, 8.0];

/// What all batches of a training have in common.
pub(super) struct LossContext<'a> {
    pub sets: &'a Sets,
    pub words: Words,
    /// The box teacher's words.
    pub detector_words: SharedWords,
    pub config: &'a TrainConfig,
    pub device: Device,
    pub box_teacher: Option<&'a BoxTeacher>,
    /// The backbone as it was before any training, without gradients.
    pub pretrained: Option<&'a Backbone>,
    /// The backbone, where it doesn't train and ONNX Runtime can compute it.
    pub frozen: Option<&'a FrozenBackbone>,
}

/// One batch.
pub(super) struct Batch<'a> {
    pub images: &'a [TrainingImage],
    /// The student's sizes at this batch's input.
    pub sizes: StudentConfig,
}

impl Batch<'_> {
    /// The pictures as the backbone takes them.
    pub fn pixels(&self, device: &Device) -> Tensor<4> {
        let pixels: Vec<u8> = self.images.iter().flat_map(|image| image.pixels.iter().copied()).collect();
        Student::normalised(&pixels, self.sizes.input_size, device)
    }
}

fn boxes_of(image: &TrainingImage) -> Vec<Box4> {
    image.objects.iter().map(|object| object.box_in_input).collect()
}

/// The proposals of every image, one image's behind another's. Without gradients.
fn best_boxes(dense: &DenseProposals, batch: &Batch<'_>) -> Vec<Box4> {
    corner_boxes(dense.best(&batch.sizes).1.flatten(0, 1))
}

impl LossContext<'_> {
    /// The weighted sum of what is to be learnt on a batch, and its parts.
    pub fn loss(
        &self,
        student: &Student,
        batch: &Batch<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Result<(Tensor<1>, Metrics)> {
        if self.config.learn == Learn::Regions {
            // What stays needs no gradient, which is two thirds of its cost.
            let features = self.features(&student.valid(), batch, &self.device.clone().inner())?;
            let (region_maps, dense, _) = student.valid().propose_from(&batch.sizes, features);
            let regions = self.regions(&best_boxes(&dense, batch), batch, rng);
            let region_maps =
                RegionMaps { regions: region_maps.regions.autodiff(), coarse: region_maps.coarse.autodiff() };
            let answers = self.answers_of_box_teacher(batch)?;
            return Ok(self.region_losses(student, batch, &region_maps, &regions, answers.as_deref(), rng));
        }
        let features = self.features(student, batch, &self.device)?;
        let (region_maps, dense, towers) = student.propose_from(&batch.sizes, features);
        let (objectness, boxes) = self.proposal_losses(&dense, batch);
        let best = best_boxes(&dense, batch);
        let refined = self.refiner_loss(student, &best, batch, &region_maps, rng);
        let mut parts = Metrics {
            objectness: objectness.clone().into_scalar(),
            boxes: boxes.clone().into_scalar(),
            refined: refined.clone().into_scalar(),
            ..Metrics::default()
        };
        let mut loss = objectness + (boxes + refined).mul_scalar(self.config.box_weight);
        let answers = self.answers_of_box_teacher(batch)?;
        if let Some(answers) = answers.as_ref().filter(|_| self.shares_cells(batch)) {
            let taught = self.taught_loss(&dense, answers);
            parts.taught = taught.clone().into_scalar();
            loss = loss + taught.mul_scalar(self.config.box_teacher_weight);
            if let Some(imitation) = &student.imitation {
                let features = imitation.forward(towers).flatten(0, 1);
                let imitated = losses::imitation(features, answers);
                parts.imitated = imitated.clone().into_scalar();
                loss = loss + imitated.mul_scalar(self.config.imitation_weight);
            }
        }
        if self.config.learn == Learn::All {
            let regions = self.regions(&best, batch, rng);
            let (of_regions, of_kind) =
                self.region_losses(student, batch, &region_maps, &regions, answers.as_deref(), rng);
            (parts.text, parts.image, parts.forgotten) = (of_kind.text, of_kind.image, of_kind.forgotten);
            (parts.quality, parts.soft_words) = (of_kind.quality, of_kind.soft_words);
            loss = loss + of_regions;
        }
        Ok((loss, parts))
    }

    /// The neck's inputs for a batch.
    fn features(&self, student: &Student, batch: &Batch<'_>, device: &Device) -> Result<Features> {
        match self.frozen {
            Some(frozen) => Ok(student.backbone.features(frozen.forward(batch.images, device)?)),
            None => Ok(student.backbone.forward(batch.pixels(device))),
        }
    }

    /// What the detector says of the pictures, where there is one and anything is learnt from it.
    fn answers_of_box_teacher(&self, batch: &Batch<'_>) -> Result<Option<Vec<Dense>>> {
        let config = self.config;
        let of_cells = config.learn != Learn::Regions && self.shares_cells(batch);
        let of_regions = config.learn != Learn::Proposals
            && (config.soft_word_weight > 0.0 || config.soft_quality_share > 0.0);
        let teacher = self.box_teacher.filter(|_| of_cells || of_regions);
        teacher.map(|teacher| teacher.answers(batch.images)).transpose()
    }

    /// Whether the detector's cells lie where the student's do.
    fn shares_cells(&self, batch: &Batch<'_>) -> bool {
        self.box_teacher.is_some_and(|teacher| teacher.shares_cells(batch.sizes.input_size))
    }

    /// What the detector's answers teach of every cell.
    fn taught_loss(&self, dense: &DenseProposals, answers: &[Dense]) -> Tensor<1> {
        let scores: Vec<f32> = answers.iter().flat_map(|answer| answer.scores.iter().copied()).collect();
        let (mut places, mut boxes, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (image, answer) in answers.iter().enumerate() {
            for cell in answer.sure_cells(LEAST_TEACHING_SCORE) {
                places.push((image * answer.scores.len() + cell) as i64);
                boxes.extend(answer.boxes_in_input[cell]);
                weights.push(answer.scores[cell]);
            }
        }
        let targets = Tensor::<1>::from_data(scores.as_slice(), &self.device);
        let loss =
            losses::quality_focal(dense.logits.clone().flatten(0, 1), targets.clone(), targets.ones_like());
        if places.is_empty() {
            return loss;
        }
        let count = places.len();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &self.device);
        let learning = dense.boxes_in_input.clone().flatten::<2>(0, 1).select(0, places);
        let taught = Tensor::<2>::from_data(TensorData::new(boxes, [count, 4]), &self.device);
        let weights = Tensor::from_data(weights.as_slice(), &self.device);
        loss + losses::boxes(learning, taught, weights).mul_scalar(self.config.box_weight)
    }

    /// The text and the image loss of regions, weighted.
    fn region_losses(
        &self,
        student: &Student,
        batch: &Batch<'_>,
        region_maps: &RegionMaps,
        regions: &[Vec<Region>],
        answers: Option<&[Dense]>,
        rng: &mut ChaCha8Rng,
    ) -> (Tensor<1>, Metrics) {
        let boxes_in_input: Vec<Vec<Box4>> = regions
            .iter()
            .map(|regions| regions.iter().map(|region| region.box_in_input).collect())
            .collect();
        let pooling = Pooling::new(&batch.sizes, &boxes_in_input);
        let embeddings = student
            .regions
            .forward_with(region_maps, &pooling, |hidden| losses::dropout(hidden, self.config.dropout, rng));
        let flat = |embeddings: Tensor<3>| embeddings.flatten::<2>(0, 1);
        let (mut loss, mut parts) = (Tensor::<1>::zeros([1], &self.device), Metrics::default());
        if let Some(logits) = embeddings.quality.clone() {
            let quality = self.quality_loss(batch, regions, logits.flatten(0, 2), answers);
            parts.quality = quality.clone().into_scalar();
            loss = loss + quality.mul_scalar(self.config.quality_weight);
        }
        let head = self.config.head();
        if head.learns_words() {
            let answers = answers.filter(|_| self.config.soft_word_weight > 0.0);
            let soft = answers.map(|answers| self.detector_words.targets(batch.images, regions, answers));
            let text = self.text_loss(student, batch, regions, flat(embeddings.text.clone()), soft.as_ref());
            parts.text = text.clone().into_scalar();
            loss = loss + text.mul_scalar(self.config.text_weight);
            if let Some(soft) = soft {
                let soft = self.soft_word_loss(student, soft, flat(embeddings.text));
                parts.soft_words = soft.clone().into_scalar();
                loss = loss + soft.mul_scalar(self.config.soft_word_weight);
            }
        }
        if head.learns_crops() && self.sets.embedding_size() > 0 {
            let image = self.image_loss(regions, flat(embeddings.image));
            parts.image = image.clone().into_scalar();
            loss = loss + image.mul_scalar(self.config.image_weight);
        }
        if let Some((logits, earlier)) =
            embeddings.class_logits.zip(self.earlier_logits(student, batch, &pooling))
        {
            let weights: Vec<f32> =
                boxes_in_input.iter().flatten().map(|of| f32::from(u8::from(*of != NOWHERE))).collect();
            let weights = Tensor::from_data(weights.as_slice(), &self.device);
            let forgotten = losses::forgotten(flat(logits), flat(earlier), weights);
            parts.forgotten = forgotten.clone().into_scalar();
            loss = loss + forgotten.mul_scalar(self.config.retain_weight);
        }
        (loss, parts)
    }

    /// How well boxes fit, against what the annotations and the detector say.
    fn quality_loss(
        &self,
        batch: &Batch<'_>,
        regions: &[Vec<Region>],
        logits: Tensor<1>,
        answers: Option<&[Dense]>,
    ) -> Tensor<1> {
        let share = self.config.soft_quality_share;
        let heard = answers.filter(|_| share > 0.0).map(|answers| DetectorAnswers {
            answers,
            words: &self.detector_words,
            share,
        });
        let doubtful = self.config.doubtful_weight;
        let Qualities { targets, weights } =
            Qualities::new(batch.images, regions, self.sets, doubtful, heard.as_ref());
        let [targets, weights] = [targets, weights].map(|of| Tensor::from_data(of.as_slice(), &self.device));
        losses::quality_focal(logits, targets, weights)
    }

    /// What the classifier said of regions before training; none where it is not to be held to that.
    fn earlier_logits(&self, student: &Student, batch: &Batch<'_>, pooling: &Pooling) -> Option<Tensor<3>> {
        let backbone = self.pretrained.filter(|_| self.config.retain_weight > 0.0)?;
        let [.., coarse] = backbone.forward(batch.pixels(&self.device.clone().inner())).maps;
        let logits = student.valid().regions.class_logits(&coarse, pooling)?;
        Some(logits.autodiff())
    }

    fn proposal_losses(&self, dense: &DenseProposals, batch: &Batch<'_>) -> (Tensor<1>, Tensor<1>) {
        let [images, cells, _] = dense.boxes_in_input.dims();
        let centres = batch.sizes.centres_in_input();
        let objectness: Vec<f32> =
            burn::tensor::activation::sigmoid(dense.logits.clone()).into_data().iter().collect();
        let boxes = corner_boxes(dense.boxes_in_input.clone().flatten(0, 1));
        let mut targets = vec![0.0; images * cells];
        let mut trust = Vec::with_capacity(images * cells);
        let (mut places, mut objects, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (place, image) in batch.images.iter().enumerate() {
            let own = place * cells..(place + 1) * cells;
            let truth = boxes_of(image);
            trust.extend(self.trust(image, &centres));
            for Positive { cell, object, target, share } in
                assign::assign(&centres, &objectness[own.clone()], &boxes[own], &truth)
            {
                targets[place * cells + cell] = target;
                places.push((place * cells + cell) as i64);
                objects.extend(truth[object]);
                weights.push(share * image.objects[object].weight);
            }
        }
        let targets = Tensor::<1>::from_data(targets.as_slice(), &self.device);
        let trust = Tensor::<1>::from_data(trust.as_slice(), &self.device);
        let objectness = losses::objectness(dense.logits.clone().flatten(0, 1), targets, trust);
        if places.is_empty() {
            return (objectness.clone(), objectness.zeros_like());
        }
        let count = places.len();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &self.device);
        let learning = dense.boxes_in_input.clone().flatten::<2>(0, 1).select(0, places);
        let objects = Tensor::<2>::from_data(TensorData::new(objects, [count, 4]), &self.device);
        (objectness, losses::boxes(learning, objects, Tensor::from_data(weights.as_slice(), &self.device)))
    }

    /// How sure it is of each cell that it is empty where no object is: 0 to 1.
    fn trust(&self, image: &TrainingImage, centres: &[[f32; 2]]) -> Vec<f32> {
        let inside = |[x, y]: [f32; 2], [x1, y1, x2, y2]: Box4| x >= x1 && x < x2 && y >= y1 && y < y2;
        let of_cell = |&centre: &[f32; 2]| {
            if image.ignored.iter().any(|&ignored| inside(centre, ignored)) {
                return 0.0;
            }
            let tile = image.tiles.iter().find(|tile| inside(centre, tile.box_in_input));
            match tile {
                Some(tile) if !self.sets.sets[tile.set].exhaustive => self.config.doubtful_weight,
                _ => 1.0,
            }
        };
        centres.iter().map(of_cell).collect()
    }

    /// Generalised IoU loss of what the refiner makes of boxes near objects. `best`: the proposals of all images.
    fn refiner_loss(
        &self,
        student: &Student,
        best: &[Box4],
        batch: &Batch<'_>,
        region_maps: &RegionMaps,
        rng: &mut ChaCha8Rng,
    ) -> Tensor<1> {
        let side = batch.sizes.input_size as f32;
        let (mut rough, mut objects, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (image, proposals) in batch.images.iter().zip(best.chunks_exact(batch.sizes.proposals)) {
            let pairs = assign::rough_boxes(REFINED_BOXES, side, proposals, &boxes_of(image), rng);
            for pair in &pairs {
                objects.extend(pair.map_or(NOWHERE, |(_, object)| object));
                weights.push(f32::from(u8::from(pair.is_some())));
            }
            let of_image = pairs.into_iter().map(|pair| pair.map_or(NOWHERE, |(rough, _)| rough));
            rough.push(of_image.collect::<Vec<Box4>>());
        }
        let pooled = Pooling::new(&batch.sizes, &rough).pool(&region_maps.regions);
        let refined = student.refiner.forward(&batch.sizes, &pooled, &rough).flatten(0, 1);
        let objects = Tensor::<2>::from_data(TensorData::new(objects, [weights.len(), 4]), &self.device);
        losses::boxes(refined, objects, Tensor::from_data(weights.as_slice(), &self.device))
    }

    /// The regions that the embeddings learn from: some that the teacher has looked at, and others sampled for the
    /// words; as many for every image. `best`: the proposals of all images.
    fn regions(&self, best: &[Box4], batch: &Batch<'_>, rng: &mut ChaCha8Rng) -> Vec<Vec<Region>> {
        let side = batch.sizes.input_size as f32;
        let with_teacher = self.config.head().learns_crops() && self.sets.embedding_size() > 0;
        let of_image = |(image, proposals): (&TrainingImage, &[Box4])| {
            let truth = boxes_of(image);
            let mut regions = Vec::new();
            if with_teacher {
                regions = assign::seen_by_teacher(TEACHER_REGIONS, &image.teacher_regions, &truth, rng);
                let nowhere =
                    Region { box_in_input: NOWHERE, label: Label::Unclear, overlap: None, teacher_row: None };
                regions.resize(TEACHER_REGIONS, nowhere);
            }
            let liked = &proposals[..CANDIDATE_PROPOSALS.min(proposals.len())];
            regions.extend(assign::sample_regions(REGIONS, side, liked, &truth, rng));
            for region in &mut regions {
                if region.label == Label::Background && is_ignored(region.box_in_input, &image.ignored) {
                    (region.label, region.overlap) = (Label::Unclear, None);
                }
            }
            regions
        };
        batch.images.iter().zip(best.chunks_exact(batch.sizes.proposals)).map(of_image).collect()
    }

    fn text_loss(
        &self,
        student: &Student,
        batch: &Batch<'_>,
        regions: &[Vec<Region>],
        embeddings: Tensor<2>,
        soft: Option<&SoftTargets>,
    ) -> Tensor<1> {
        let doubtful = self.config.doubtful_weight;
        let mut targets = self.words.targets(batch.images, regions, self.sets, doubtful, &self.device);
        for (weight, soft) in targets.weights.iter_mut().zip(soft.map_or(&[][..], |soft| &soft.weights)) {
            *weight *= 1.0 - soft * (1.0 - ANNOTATED_SHARE);
        }
        let background = student.regions.background().unsqueeze::<2>();
        let classes = Tensor::cat(vec![background, self.word_embeddings(student)], 0);
        losses::text(embeddings, classes, targets, self.config.temperature)
    }

    /// The sets' words `[words, D]`, as the student has learnt them or as the teacher says them.
    fn word_embeddings(&self, student: &Student) -> Tensor<2> {
        student.regions.words().unwrap_or_else(|| self.words.embeddings.clone())
    }

    /// What the detector's scores teach of regions' words.
    fn soft_word_loss(&self, student: &Student, targets: SoftTargets, embeddings: Tensor<2>) -> Tensor<1> {
        let places: Vec<i64> = self.detector_words.of_sets.iter().map(|&place| place as i64).collect();
        let shape = [targets.weights.len(), 1 + places.len()];
        let places = Tensor::<1, Int>::from_data(places.as_slice(), &self.device);
        let words = self.word_embeddings(student).select(0, places);
        let classes = Tensor::cat(vec![student.regions.background().unsqueeze::<2>(), words], 0);
        let shares = Tensor::<2>::from_data(TensorData::new(targets.shares, shape), &self.device);
        let weights = Tensor::<1>::from_data(targets.weights.as_slice(), &self.device);
        losses::soft_words(embeddings, classes, shares, weights, self.config.temperature)
    }

    fn image_loss(&self, regions: &[Vec<Region>], embeddings: Tensor<2>) -> Tensor<1> {
        let size = self.sets.embedding_size();
        let (mut teacher, mut weights) = (Vec::new(), Vec::new());
        for region in regions.iter().flatten() {
            let row = region.teacher_row.and_then(|row| self.sets.embedding(row));
            weights.push(f32::from(u8::from(row.is_some())));
            teacher.extend(row.unwrap_or_else(|| vec![0.0; size]));
        }
        let teacher = Tensor::<2>::from_data(TensorData::new(teacher, [weights.len(), size]), &self.device);
        losses::image(embeddings, teacher, Tensor::<1>::from_data(weights.as_slice(), &self.device))
    }

    /// How a student does on pictures that training doesn't see.
    pub fn validate(&self, student: &Student, batch: &Batch<'_>, tally: &mut Tally) {
        let student = student.valid();
        let device = self.device.clone().inner();
        let (region_maps, dense) = student.propose(&batch.sizes, batch.pixels(&device));
        let [_, refined] = student.refined(&batch.sizes, &region_maps, &dense);
        for (image, proposals) in batch.images.iter().zip(&refined) {
            for object in &image.objects {
                tally.add_box(object.box_in_input, proposals);
            }
        }
        self.validate_names(&student, batch, &region_maps, tally);
    }

    /// Whether the objects' own boxes are named rightly among the words of their set.
    fn validate_names(
        &self,
        student: &Student,
        batch: &Batch<'_>,
        region_maps: &RegionMaps,
        tally: &mut Tally,
    ) {
        let most = batch.images.iter().map(|image| image.objects.len()).max().unwrap_or(0);
        if most == 0 {
            return;
        }
        let boxes: Vec<Vec<Box4>> = batch.images.iter().map(boxes_of).collect();
        let filled = |mut boxes: Vec<Box4>| {
            boxes.resize(most, NOWHERE);
            boxes
        };
        let boxes: Vec<Vec<Box4>> = boxes.into_iter().map(filled).collect();
        let embeddings = student.regions.forward(region_maps, &Pooling::new(&batch.sizes, &boxes)).text;
        let words = student.regions.words().unwrap_or_else(|| self.words.embeddings.clone().inner());
        let cosines = embeddings.matmul(words.transpose().unsqueeze::<3>());
        let cosines: Vec<f32> = cosines.into_data().iter().collect();
        let rows = cosines.chunks_exact(self.words.len());
        let places = batch.images.iter().flat_map(|image| (0..most).map(move |place| (image, place)));
        for ((image, place), row) in places.zip(rows) {
            let Some(object) = image.objects.get(place) else { continue };
            let (Some(word), Some(set)) = (object.word, set_at(image, object.box_in_input)) else { continue };
            let known = self.words.complete_for(set);
            let best = (0..row.len()).filter(|&word| known[word]).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            tally.named += f32::from(u8::from(best == Some(word)));
            tally.words += 1;
        }
    }
}

fn is_ignored([x1, y1, x2, y2]: Box4, ignored: &[Box4]) -> bool {
    let area = (x2 - x1) * (y2 - y1);
    ignored.iter().any(|&[a1, b1, a2, b2]| {
        let common = (x2.min(a2) - x1.max(a1)).max(0.0) * (y2.min(b2) - y1.max(b1)).max(0.0);
        common > IGNORED_SHARE * area
    })
}

/// Counts over validation pictures.
#[derive(Default)]
pub(super) struct Tally {
    boxes: usize,
    of_ten: f32,
    average: f32,
    words: usize,
    named: f32,
}

impl Tally {
    fn add_box(&mut self, object: Box4, proposals: &[Box4]) {
        let closest =
            |proposals: &[Box4]| proposals.iter().map(|&proposal| iou(proposal, object)).fold(0.0, f32::max);
        self.boxes += 1;
        self.of_ten += f32::from(u8::from(closest(&proposals[..10.min(proposals.len())]) >= 0.5));
        let overlap = closest(proposals);
        self.average += (0..10).filter(|step| overlap >= 0.5 + 0.05 * *step as f32).count() as f32 / 10.0;
    }

    /// Writes the shares into a line of metrics.
    pub fn write(&self, line: &mut Metrics) {
        let share = |sum: f32, of: usize| (of > 0).then(|| sum / of as f32);
        line.recall_of_ten = share(self.of_ten, self.boxes);
        line.average_recall = share(self.average, self.boxes);
        line.named = share(self.named, self.words);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use rand::SeedableRng;

    use super::*;
    use crate::sets::{Tile, TrainingObject};

    const OBJECT: Box4 = [8.0, 8.0, 30.0, 30.0];

    /// One picture of 64 pixels: the left half shows a photograph of an exhaustive set, the right half one of another.
    fn image(ignored: Vec<Box4>) -> TrainingImage {
        let tile = |box_in_input, set| Tile { box_in_input, set };
        TrainingImage {
            pixels: vec![0; 64 * 64 * 3],
            side: 64,
            objects: vec![TrainingObject { box_in_input: OBJECT, word: Some(0), weight: 1.0 }],
            ignored,
            tiles: vec![tile([0.0, 0.0, 32.0, 64.0], 0), tile([32.0, 0.0, 64.0, 48.0], 1)],
            teacher_regions: Vec::new(),
        }
    }

    fn with_loss_context<T>(ask: impl FnOnce(&LossContext<'_>) -> T) -> T {
        let sets = Sets::without_photographs(&["cup"], &[(&[0], true), (&[0], false)]);
        let device = Device::flex();
        let config = TrainConfig::default();
        let words = Words::new(&sets, &[vec![1.0, 0.0]], &device);
        ask(&LossContext {
            sets: &sets,
            words,
            detector_words: SharedWords::default(),
            config: &config,
            device,
            box_teacher: None,
            pretrained: None,
            frozen: None,
        })
    }

    /// The labels of the regions that an image's words are learnt from.
    fn labels(image: TrainingImage) -> Vec<Label> {
        let sizes = StudentConfig { input_size: 64, proposals: 40, ..StudentConfig::new(2) };
        let centres = sizes.centres_in_input();
        let boxes: Vec<f32> =
            centres.iter().flat_map(|&[x, y]| [x - 6.0, y - 6.0, x + 6.0, y + 6.0]).collect();
        let logits: Vec<f32> = (0..centres.len()).map(|cell| (cell as f32).sin()).collect();
        let device = Device::flex();
        let dense = DenseProposals {
            logits: Tensor::from_data(TensorData::new(logits, [1, centres.len()]), &device),
            boxes_in_input: Tensor::from_data(TensorData::new(boxes, [1, centres.len(), 4]), &device),
        };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let images = [image];
        let batch = Batch { images: &images, sizes };
        let regions =
            with_loss_context(|context| context.regions(&best_boxes(&dense, &batch), &batch, &mut rng));
        regions.concat().iter().map(|region| region.label).collect()
    }

    #[test]
    fn what_is_ignored_is_no_background() {
        let count = |labels: &[Label], label| labels.iter().filter(|&&other| other == label).count();
        let without = labels(image(Vec::new()));
        assert!(
            count(&without, Label::Background) > 4 && count(&without, Label::Object(0)) > 0,
            "{without:?}"
        );
        let covered = labels(image(vec![[0.0, 0.0, 64.0, 64.0]]));
        assert_eq!(count(&covered, Label::Background), 0, "{covered:?}");
        assert_eq!(count(&covered, Label::Object(0)), count(&without, Label::Object(0)), "objects stay");
    }

    #[test]
    fn an_empty_cell_counts_as_far_as_its_photograph_is_known() {
        let image = image(vec![[0.0, 40.0, 16.0, 64.0]]);
        let centres = [[20.0, 20.0], [8.0, 50.0], [40.0, 20.0], [40.0, 60.0]];
        let trust = with_loss_context(|context| context.trust(&image, &centres));
        let doubtful = TrainConfig::default().doubtful_weight;
        assert_eq!(trust, [1.0, 0.0, doubtful, 1.0], "exhaustive, ignored, not exhaustive, padding");
    }
}
