//! The student: a small detector that answers with embeddings instead of classes.
//!
//! Flows in: normalised images `[N, height, width, 3]`. Flows out: an objectness and a box for every cell, and for
//! every region asked for a text and an image embedding.
//!
//! 1. A backbone, EfficientNet-Lite0 ([`backbone`]).
//! 2. A neck over its maps of strides 8, 16 and 32, and a class-agnostic, anchor-free proposal head: distances to the
//!    four sides (FCOS, Tian et al., 2019) and an objectness that is trained to be the box's IoU (VarifocalNet, Zhang
//!    et al., 2021) ([`neck`]).
//! 3. RoI pooling ([`roi`]).
//! 4. A refiner that moves the sides of a pooled box (Fast R-CNN's regression, Girshick, 2015; class-agnostic
//!    as in ViLD).
//! 5. A region head of one or two embeddings ([`Head`]: ViLD and its variants, arXiv 2104.13921,
//!    figure 3).
//!
//! The region head knows before it trains. The backbone's own ImageNet head, applied to the cells of the stride-32
//! map and averaged under the box, classifies a region; the class probabilities mix the text embeddings of the class
//! names (ConSE: Norouzi et al., 2014). Training adds a correction to each embedding, which starts at zero. The 1x1
//! head convolution runs once on the map instead of once on 49 cells of every region: the same classifier at a
//! hundredth of the cost. A *fresh* head does without the classifier and starts from nothing, as ViLD's does: that is
//! what compares losses honestly.

pub mod backbone;
pub mod imitation;
pub mod layer;
pub mod neck;
pub mod roi;
pub mod suppression;

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::store::{BurnpackStore, ModuleSnapshot};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use wordsight_teacher::efficientnet::{Classifier, EfficientNetLite, FoldedConvolution, Weights};

use crate::kernels::Activation;
pub use backbone::{Backbone, Features, TrainFrom};
use layer::Layer;
pub use neck::{DenseProposals, Neck, ProposalHead};

/// Input pixels a cell, level by level.
pub const STRIDES: [usize; 3] = [8, 16, 32];
/// Channels of the backbone's maps, level by level.
pub const BACKBONE_CHANNELS: [usize; 3] = [40, 112, 320];
/// Bounds of the logarithm of a distance in strides: e^-4 to e^4.
pub const LOG_DISTANCE_BOUNDS: (f32, f32) = (-4.0, 4.0);
/// Guards the division by an embedding's length.
pub const NORM_EPSILON: f32 = 1e-12;
/// Width of the refiner's hidden layer.
const REFINER_WIDTH: usize = 128;

/// A box, `[x1, y1, x2, y2]`.
pub type Box4 = [f32; 4];

/// A student's sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudentConfig {
    /// Side of the square input in pixels; a multiple of 32.
    pub input_size: usize,
    /// Whether the backbone has a detail branch ([`Backbone::detail`]).
    #[serde(default)]
    pub detail_branch: bool,
    /// Channels of the neck's maps.
    pub neck_channels: usize,
    /// Separable convolutions behind each of the neck's sums.
    pub neck_depth: usize,
    /// Separable convolutions of the proposal head, at each level.
    pub tower_depth: usize,
    /// Channels of the map that regions are pooled from.
    pub region_channels: usize,
    /// Width of the region head's hidden layers.
    pub region_width: usize,
    /// Size of an embedding: the teacher's.
    pub embedding_size: usize,
    /// Proposals that an exported student returns.
    pub proposals: usize,
}

impl StudentConfig {
    /// The shipped sizes, for a teacher whose embeddings have `embedding_size` numbers.
    pub fn new(embedding_size: usize) -> Self {
        Self {
            input_size: 416,
            detail_branch: true,
            neck_channels: 128,
            neck_depth: 1,
            tower_depth: 2,
            region_channels: 64,
            region_width: 384,
            embedding_size,
            proposals: 100,
        }
    }

    /// Whether an input of this side has as many cells as there are proposals.
    ///
    /// # Errors
    /// When it is too small.
    pub fn check_side(&self, side: usize) -> Result<()> {
        let cells: usize = STRIDES.iter().map(|stride| (side / stride).pow(2)).sum();
        ensure!(
            cells >= self.proposals,
            "an input of {side} pixels has {cells} cells, fewer than the student's {} proposals: give a larger one",
            self.proposals
        );
        Ok(())
    }

    /// Cells a side, level by level.
    pub fn grids(&self) -> [usize; 3] {
        STRIDES.map(|stride| self.input_size / stride)
    }

    /// Centres of all cells in input pixels, level by level, row by row.
    pub fn centres_in_input(&self) -> Vec<[f32; 2]> {
        STRIDES
            .iter()
            .zip(self.grids())
            .flat_map(|(&stride, grid)| {
                let at = move |cell: usize| (cell as f32 + 0.5) * stride as f32;
                (0..grid * grid).map(move |cell| [at(cell % grid), at(cell / grid)])
            })
            .collect()
    }

    /// Strides of all cells, in the order of [`Self::centres_in_input`].
    pub fn strides_of_cells(&self) -> Vec<f32> {
        STRIDES
            .iter()
            .zip(self.grids())
            .flat_map(|(&stride, grid)| std::iter::repeat_n(stride as f32, grid * grid))
            .collect()
    }
}

/// The whole network.
#[derive(Module, Debug)]
pub struct Student {
    /// Features.
    pub backbone: Backbone,
    /// Features of three strides that know of each other.
    pub neck: Neck,
    /// Objectness and boxes.
    pub proposals: ProposalHead,
    /// Better boxes of the best proposals.
    pub refiner: Refiner,
    /// Embeddings.
    pub regions: RegionHead,
    /// Reads a detector's features from the towers, in a training that is taught them.
    pub imitation: Option<imitation::Imitation>,
}

/// Moves the sides of boxes by what lies in them.
#[derive(Module, Debug)]
pub struct Refiner {
    /// From the pooled map to a hidden layer.
    pub hidden: Linear,
    /// To the four sides' shifts in shares of the box's width and height; zero before training.
    pub shifts: Linear,
}

/// What a region head answers with and what it learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// One embedding that meets learned vectors of the training's words (figure 3a).
    Supervised,
    /// One embedding that meets text embeddings and a learned background (figure 3b, section 3.2).
    VildText,
    /// One embedding that follows the teacher's of the same crop (figure 3c, section 3.3).
    VildImage,
    /// One embedding, both losses (figure 3d).
    Vild,
    /// Two embeddings, one a loss, combined when scored (section 3.4).
    VildEnsemble,
}

impl Head {
    /// All of them, in the order of the paper's figure.
    pub const ALL: [Self; 5] =
        [Self::Supervised, Self::VildText, Self::VildImage, Self::Vild, Self::VildEnsemble];

    /// Whether it has an embedding of its own for the image loss.
    pub fn has_image_branch(self) -> bool {
        self == Self::VildEnsemble
    }

    /// Whether it learns from words (the supervised one: from their learned vectors).
    pub fn learns_words(self) -> bool {
        self != Self::VildImage
    }

    /// Whether it learns from the teacher's embeddings of crops.
    pub fn learns_crops(self) -> bool {
        matches!(self, Self::VildImage | Self::Vild | Self::VildEnsemble)
    }

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supervised => "supervised",
            Self::VildText => "vild-text",
            Self::VildImage => "vild-image",
            Self::Vild => "vild",
            Self::VildEnsemble => "vild-ensemble",
        }
    }
}

/// One or two embeddings of every region.
#[derive(Module, Debug)]
pub struct RegionHead {
    /// The backbone's 1x1 head convolution; frozen.
    pub cells: Layer,
    /// What the pretrained classifier says; none in a fresh head.
    pub mixture: Option<ClassMixture>,
    /// From the pooled map to a hidden layer.
    pub hidden: Linear,
    /// From the mean of the cells under the region to the same layer.
    pub from_cells: Linear,
    /// A second hidden layer.
    pub hidden2: Linear,
    /// To the text embedding, or the only one; on top of a mixture a correction, zero before training.
    pub text: Linear,
    /// To the image embedding, where it is another.
    pub image: Option<Linear>,
    /// The text head's embedding of the background, `[D]`; not normalised.
    pub background: Param<Tensor<1>>,
    /// Learned vectors of the training's words, `[words, D]`, not normalised: a supervised head's alone.
    pub words: Option<Param<Tensor<2>>>,
}

/// The backbone's classifier, its classes read as text embeddings of their names; frozen.
#[derive(Module, Debug)]
pub struct ClassMixture {
    /// The classifier.
    pub classifier: Linear,
    /// Text embeddings of the class names, `[classes, D]`.
    pub embeddings: Param<Tensor<2>>,
}

/// What regions are looked at in.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The neck's finest map, `[N, h, w, region_channels]`.
    pub regions: Tensor<4>,
    /// The backbone's coarsest, `[N, h, w, 320]`.
    pub coarse: Tensor<4>,
}

impl Sight {
    /// The same without gradients.
    pub fn inner(&self) -> Self {
        Self { regions: self.regions.clone().inner(), coarse: self.coarse.clone().inner() }
    }
}

/// What the region head says of regions: L2-normalised embeddings, each `[N, regions, D]`.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// Of the text head.
    pub text: Tensor<3>,
    /// Of the image head.
    pub image: Tensor<3>,
    /// What the backbone's classifier says, `[N, regions, classes]`; none in a fresh head.
    pub class_logits: Option<Tensor<3>>,
}

impl Student {
    /// A student whose neck and heads are untrained but for the backbone's classifier.
    ///
    /// `weights`: EfficientNet-Lite0's; `class_embeddings`: text embeddings of its class names, in its order.
    pub fn new(
        config: &StudentConfig,
        weights: &Weights,
        class_embeddings: &[Vec<f32>],
        device: &Device,
    ) -> Result<Self> {
        let network = EfficientNetLite::LITE0;
        let (head, classifier) = (network.head_convolution(weights)?, network.classifier(weights)?);
        ensure!(
            class_embeddings.len() == classifier.classes
                && class_embeddings.iter().all(|row| row.len() == config.embedding_size),
            "the classifier has {} classes and embeddings of size {}; got {} embeddings",
            classifier.classes,
            config.embedding_size,
            class_embeddings.len()
        );
        let backbone = Backbone::pretrained(weights, device)?;
        Ok(Self {
            backbone: if config.detail_branch { backbone.with_detail_branch() } else { backbone },
            neck: Neck::random(config, device),
            proposals: ProposalHead::random(config, device),
            refiner: Refiner::new(config, device),
            regions: RegionHead::warm(config, &head, &classifier, class_embeddings, device),
            imitation: None,
        })
    }

    /// The same student with an untrained region head that has no classifier behind it; `words`: how
    /// many a supervised head learns vectors of.
    #[must_use]
    pub fn with_fresh_head(
        mut self,
        config: &StudentConfig,
        head: &FoldedConvolution,
        kind: Head,
        words: usize,
        device: &Device,
    ) -> Self {
        self.regions = RegionHead::fresh(config, head, kind, words, device);
        self
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.backbone.stem.weight.val().device()
    }

    /// The same student, of whose backbone only what lies behind `from` trains.
    #[must_use]
    pub fn trained_from(mut self, from: TrainFrom) -> Self {
        self.backbone = self.backbone.trained_from(from);
        self
    }

    /// A batch of pictures, RGB bytes `[N, side, side, 3]`, as the backbone takes them.
    pub fn normalised(pixels: &[u8], side: usize, device: &Device) -> Tensor<4> {
        let images = pixels.len() / (side * side * 3).max(1);
        let (mean, std) = (EfficientNetLite::INPUT_MEAN, EfficientNetLite::INPUT_STD);
        let numbers: Vec<f32> = pixels.iter().map(|&x| (f32::from(x) - mean) / std).collect();
        Tensor::from_data(TensorData::new(numbers, [images, side, side, 3]), device)
    }

    /// What it sees in normalised images `[N, side, side, 3]`, and what it proposes there.
    pub fn propose(&self, config: &StudentConfig, images: Tensor<4>) -> (Sight, DenseProposals) {
        let (sight, proposals, _) = self.propose_with_towers(config, images);
        (sight, proposals)
    }

    /// The same, with the maps of the proposal head's towers.
    pub fn propose_with_towers(
        &self,
        config: &StudentConfig,
        images: Tensor<4>,
    ) -> (Sight, DenseProposals, [Tensor<4>; 3]) {
        let features = self.backbone.forward(images);
        let (maps, regions) = self.neck.forward(&features);
        let [.., coarse] = features.maps;
        let towers = self.proposals.towers(&maps);
        let proposals = self.proposals.answers(config, &towers);
        (Sight { regions, coarse }, proposals, towers)
    }

    /// The same student with a detail branch: the branch keeps what the backbone learnt of strides 8 and 16, and the
    /// backbone is `pretrained` again.
    #[must_use]
    pub fn with_detail_branch(mut self, pretrained: Backbone) -> Self {
        let detail = self.backbone.with_detail_branch().detail;
        self.backbone = Backbone { detail, ..pretrained };
        self.neck = self.neck.with_detail_branch();
        self
    }

    /// The best proposals of every image, `[N, K, 4]` in input pixels as lists, and the same refined.
    pub fn refined(
        &self,
        config: &StudentConfig,
        sight: &Sight,
        dense: &DenseProposals,
    ) -> [Vec<Vec<Box4>>; 2] {
        let proposals: Vec<Vec<Box4>> = corner_boxes(dense.best(config).1.flatten(0, 1))
            .chunks_exact(config.proposals)
            .map(<[Box4]>::to_vec)
            .collect();
        let pooled = roi::Pooling::new(config, &proposals).pool(&sight.regions);
        let boxes = self.refiner.forward(config, &pooled, &proposals);
        let refined =
            corner_boxes(boxes.flatten(0, 1)).chunks_exact(config.proposals).map(<[Box4]>::to_vec).collect();
        [proposals, refined]
    }

    /// Rounds every weight to the nearest FP16 number: what the exported file stores.
    pub fn rounded_to_f16(self) -> Self {
        struct Round;
        impl burn::module::ModuleMapper for Round {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|tensor| {
                    let device = tensor.device();
                    let data = tensor.into_data();
                    let shape = data.shape().clone();
                    let rounded: Vec<f32> =
                        data.iter::<f32>().map(|x| half::f16::from_f32(x).to_f32()).collect();
                    Tensor::from_data(TensorData::new(rounded, shape), &device)
                })
            }
        }
        self.map(&mut Round)
    }

    /// Writes the weights in Burn's own format, which keeps the parameters' identities: an optimiser's
    /// state belongs to them.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut store = BurnpackStore::from_file(path).auto_extension(false).overwrite(true);
        self.save_into(&mut store)
            .map_err(|error| anyhow!("cannot write the weights {}: {error}", path.display()))
    }

    /// Replaces the weights by those in a file that [`Self::save`] wrote.
    pub fn load(mut self, path: &Path) -> Result<Self> {
        ensure!(path.is_file(), "there are no weights at {}; train first", path.display());
        let mut store = BurnpackStore::from_file(path).auto_extension(false);
        self.load_from(&mut store)
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("{} does not hold this student's weights", path.display()))?;
        Ok(self)
    }
}

impl Refiner {
    fn new(config: &StudentConfig, device: &Device) -> Self {
        let pooled = config.region_channels * roi::BINS * roi::BINS;
        Self {
            hidden: LinearConfig::new(pooled, REFINER_WIDTH).init(device),
            shifts: LinearConfig::new(REFINER_WIDTH, 4).with_initializer(Initializer::Zeros).init(device),
        }
    }

    /// `boxes_in_input[n][k]` refined and clipped to the input, `[N, K, 4]`; `pooled`: the map pooled
    /// under them.
    pub fn forward(
        &self,
        config: &StudentConfig,
        pooled: &Tensor<3>,
        boxes_in_input: &[Vec<Box4>],
    ) -> Tensor<3> {
        let [images, regions, _] = pooled.dims();
        let device = pooled.device();
        let rows = |of: &dyn Fn(&Box4) -> Box4| {
            let values: Vec<f32> = boxes_in_input.iter().flatten().flat_map(of).collect();
            Tensor::<3>::from_data(TensorData::new(values, [images, regions, 4]), &device)
        };
        let (boxes, sizes) =
            (rows(&|side| *side), rows(&|[x1, y1, x2, y2]| [x2 - x1, y2 - y1, x2 - x1, y2 - y1]));
        let shifts = self.shifts.forward(relu(self.hidden.forward(pooled.clone())));
        (boxes + shifts * sizes).clamp(0.0, config.input_size as f32)
    }
}

impl RegionHead {
    /// A head that starts from the backbone's classifier.
    fn warm(
        config: &StudentConfig,
        head: &FoldedConvolution,
        classifier: &Classifier,
        class_embeddings: &[Vec<f32>],
        device: &Device,
    ) -> Self {
        let size = config.embedding_size;
        let table: Vec<f32> = class_embeddings.iter().flatten().copied().collect();
        let embeddings = TensorData::new(table, [classifier.classes, size]);
        let (classes, features) = (classifier.classes, classifier.features);
        let mixture = ClassMixture {
            classifier: frozen_linear(&classifier.weight, classes, features, &classifier.bias, device),
            embeddings: Param::from_tensor(Tensor::from_data(embeddings, device)).set_require_grad(false),
        };
        let zero =
            || LinearConfig::new(config.region_width, size).with_initializer(Initializer::Zeros).init(device);
        let mean: Vec<f32> = (0..size)
            .map(|d| class_embeddings.iter().map(|row| row[d]).sum::<f32>() / class_embeddings.len() as f32)
            .collect();
        Self {
            mixture: Some(mixture),
            text: zero(),
            image: Some(zero()),
            // A region of which the classifier is unsure mixes many names: close to their mean.
            background: Param::from_tensor(Tensor::from_data(mean.as_slice(), device)),
            ..Self::fresh(config, head, Head::VildEnsemble, 0, device)
        }
    }

    /// A head that starts from nothing; `words`: how many a supervised one learns vectors of.
    fn fresh(
        config: &StudentConfig,
        head: &FoldedConvolution,
        kind: Head,
        words: usize,
        device: &Device,
    ) -> Self {
        let outputs = head.shape[0];
        let (width, size) = (config.region_width, config.embedding_size);
        let pooled = config.region_channels * roi::BINS * roi::BINS;
        let vectors = Initializer::Normal { mean: 0.0, std: 1.0 / (size as f64).sqrt() };
        let layer = |from: usize, to: usize| LinearConfig::new(from, to).init(device);
        Self {
            cells: Layer::pretrained(head, 1, Activation::Relu6, device).no_grad(),
            mixture: None,
            hidden: layer(pooled, width),
            from_cells: layer(outputs, width),
            hidden2: layer(width, width),
            text: layer(width, size),
            image: kind.has_image_branch().then(|| layer(width, size)),
            background: vectors.init([size], device),
            words: (kind == Head::Supervised).then(|| vectors.init([words, size], device)),
        }
    }

    /// Embeddings of regions; both the same where the head has one branch.
    ///
    /// `pooling`: which cells each region covers.
    pub fn forward(&self, sight: &Sight, pooling: &roi::Pooling) -> Embeddings {
        let features = self.features(&sight.coarse, pooling);
        let class_logits = self.mixture.as_ref().map(|mixture| mixture.classifier.forward(features.clone()));
        let known =
            self.mixture.as_ref().zip(class_logits.clone()).map(|(mixture, logits)| mixture.mix(logits));

        let hidden = self.hidden.forward(pooling.pool(&sight.regions)) + self.from_cells.forward(features);
        let hidden = relu(self.hidden2.forward(relu(hidden)));
        let embed = |layer: &Linear| {
            let answer = layer.forward(hidden.clone());
            normalise(match &known {
                Some(known) => known.clone() + answer,
                None => answer,
            })
        };
        let text = embed(&self.text);
        let image = self.image.as_ref().map_or_else(|| text.clone(), embed);
        Embeddings { text, image, class_logits }
    }

    /// What the backbone's classifier says of regions in a coarsest map `[N, h, w, 320]`: logits `[N, regions, classes]`,
    /// none where the head starts from none.
    pub fn class_logits(&self, coarse: &Tensor<4>, pooling: &roi::Pooling) -> Option<Tensor<3>> {
        Some(self.mixture.as_ref()?.classifier.forward(self.features(coarse, pooling)))
    }

    /// The head convolution's cells, averaged under each region: `[N, regions, 1280]`.
    fn features(&self, coarse: &Tensor<4>, pooling: &roi::Pooling) -> Tensor<3> {
        let cells = self.cells.forward(coarse.clone());
        let [images, rows, columns, channels] = cells.dims();
        let cells = cells.reshape([images, rows * columns, channels]);
        pooling.shares_of_coarse(coarse).matmul(cells)
    }

    /// The background's embedding, L2-normalised, `[D]`.
    pub fn background(&self) -> Tensor<1> {
        let row = self.background.val().unsqueeze::<3>();
        normalise(row).flatten(0, 2)
    }

    /// The learned vectors of a supervised head's words, L2-normalised, `[words, D]`.
    pub fn words(&self) -> Option<Tensor<2>> {
        let rows = self.words.as_ref()?.val().unsqueeze::<3>();
        Some(normalise(rows).flatten(0, 1))
    }
}

impl ClassMixture {
    /// The classifier's opinion of every region, as a mixture of class embeddings.
    fn mix(&self, logits: Tensor<3>) -> Tensor<3> {
        let classes = softmax(logits, 2);
        classes.matmul(self.embeddings.val().unsqueeze())
    }
}

/// Rows `[n,4]` as boxes.
pub fn corner_boxes(rows: Tensor<2>) -> Vec<Box4> {
    let values: Vec<f32> = rows.into_data().iter().collect();
    values.chunks_exact(4).map(|row| [row[0], row[1], row[2], row[3]]).collect()
}

/// Rows to unit length.
fn normalise(rows: Tensor<3>) -> Tensor<3> {
    let length = rows.clone().powi_scalar(2).sum_dim(2).add_scalar(NORM_EPSILON).sqrt();
    rows / length
}

/// A linear layer that never trains, from `weight` `[outputs, inputs]`.
fn frozen_linear(weight: &[f32], outputs: usize, inputs: usize, bias: &[f32], device: &Device) -> Linear {
    let weight = Tensor::<2>::from_data(TensorData::new(weight.to_vec(), [outputs, inputs]), device);
    Linear {
        weight: Param::from_tensor(weight.transpose()),
        bias: Some(Param::from_tensor(Tensor::from_data(bias, device))),
    }
    .no_grad()
}
