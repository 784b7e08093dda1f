//! The student: a small detector that returns embeddings instead of classes.
//!
//! Takes normalised images `[N, height, width, 3]`. Returns an objectness and a box for every cell, and for every
//! region asked for a text and an image embedding.
//!
//! 1. A backbone, EfficientNet-Lite0 ([`backbone`]).
//! 2. A neck over its maps of strides 8, 16 and 32, and a class-agnostic, anchor-free proposal head: distances to the
//!    four sides (FCOS, Tian et al., 2019) and an objectness that is trained to be the box's IoU (VarifocalNet, Zhang
//!    et al., 2021) ([`neck`]).
//! 3. RoI pooling ([`roi`]).
//! 4. A refiner that moves the sides of a pooled box (Fast R-CNN's regression, Girshick, 2015; class-agnostic as in
//!    ViLD).
//! 5. A region head of one or two embeddings ([`Head`]: ViLD and its variants, arXiv 2104.13921, figure 3), and of how
//!    well the box fits an object (IoU-Net, Jiang et al., 2018): a region's objectness is the geometric mean of that
//!    and of the cell's.
//!
//! The region head classifies before it is trained. The backbone's own ImageNet head, applied to the cells of the
//! stride-32 map and averaged over the box, classifies a region; the class probabilities weigh the text embeddings of
//! the class names (ConSE: Norouzi et al., 2014). Training adds a correction to each embedding, which starts at zero.
//! The 1x1 head convolution runs once on the map instead of once on 49 cells of every region: the same classifier at a
//! hundredth of the cost. A *fresh* head does without the classifier and starts from nothing, as ViLD's does, which
//! makes a comparison of losses fair.

pub mod backbone;
pub mod imitation;
pub mod layer;
pub mod neck;
mod refiner;
mod regions;
pub mod roi;
pub mod suppression;

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use burn::module::{Module, Param};
use burn::store::{BurnpackStore, ModuleSnapshot};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use wordsight_standin::efficientnet::{EfficientNetLite, FoldedConvolution, Weights};

pub use backbone::{Backbone, Features, TrainFrom};
pub use neck::{DenseProposals, Neck, ProposalHead};
pub use refiner::Refiner;
pub use regions::{ClassMixture, Embeddings, Head, RegionHead, RegionMaps};

/// Input pixels a cell, level by level.
pub const STRIDES: [usize; 3] = [8, 16, 32];
/// Channels of the backbone's maps, level by level.
pub const BACKBONE_CHANNELS: [usize; 3] = [40, 112, 320];
/// Bounds of the logarithm of a distance in strides: e^-4 to e^4.
pub const LOG_DISTANCE_BOUNDS: (f32, f32) = (-4.0, 4.0);
/// Guards the division by an embedding's length.
pub const NORM_EPSILON: f32 = 1e-12;

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
    /// Whether the region head says how well a box fits a thing ([`RegionHead::quality`]).
    #[serde(default)]
    pub region_quality: bool,
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
            region_quality: true,
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

    /// The same student with a region head that says how well boxes fit.
    #[must_use]
    pub fn with_region_quality(mut self) -> Self {
        let [width, _] = self.regions.text.weight.val().dims();
        self.regions.quality = Some(RegionHead::untrained_quality(width, &self.device()));
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

    /// The region head's maps of normalised images `[N, side, side, 3]`, and the proposals in them.
    pub fn propose(&self, config: &StudentConfig, images: Tensor<4>) -> (RegionMaps, DenseProposals) {
        let (region_maps, proposals, _) = self.propose_from(config, self.backbone.forward(images));
        (region_maps, proposals)
    }

    /// The same from the neck's inputs, with the maps of the proposal head's towers.
    pub fn propose_from(
        &self,
        config: &StudentConfig,
        features: Features,
    ) -> (RegionMaps, DenseProposals, [Tensor<4>; 3]) {
        let (maps, regions) = self.neck.forward(&features);
        let [.., coarse] = features.maps;
        let towers = self.proposals.towers(&maps);
        let proposals = self.proposals.answers(config, &towers);
        (RegionMaps { regions, coarse }, proposals, towers)
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
        region_maps: &RegionMaps,
        dense: &DenseProposals,
    ) -> [Vec<Vec<Box4>>; 2] {
        let proposals: Vec<Vec<Box4>> = corner_boxes(dense.best(config).1.flatten(0, 1))
            .chunks_exact(config.proposals)
            .map(<[Box4]>::to_vec)
            .collect();
        let pooled = roi::Pooling::new(config, &proposals).pool(&region_maps.regions);
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

/// Rows `[n,4]` as boxes.
pub fn corner_boxes(rows: Tensor<2>) -> Vec<Box4> {
    let values: Vec<f32> = rows.into_data().iter().collect();
    values.chunks_exact(4).map(|row| [row[0], row[1], row[2], row[3]]).collect()
}
