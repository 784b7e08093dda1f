//! The region head: embeddings of one or two kinds for a box, and how well the box fits ([`super`] describes it).

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{relu, sigmoid, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use wordsight_distill_kernels::{Activation, BINS};
use wordsight_standin::efficientnet::{Classifier, FoldedConvolution};

use super::layer::Layer;
use super::{NORM_EPSILON, StudentConfig, roi};

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
    /// To a logit of the box's IoU with a thing; none in a student that leaves that to the cell.
    pub quality: Option<Linear>,
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

/// The maps that regions are pooled from.
#[derive(Clone, Debug)]
pub struct RegionMaps {
    /// The neck's finest map, `[N, h, w, region_channels]`.
    pub regions: Tensor<4>,
    /// The backbone's coarsest, `[N, h, w, 320]`.
    pub coarse: Tensor<4>,
}

impl RegionMaps {
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
    /// Logits of the boxes' IoU with a thing, `[N, regions, 1]`; none where the head doesn't say.
    pub quality: Option<Tensor<3>>,
}

impl Embeddings {
    /// The objectness of regions whose cells have this one, `[N, regions]`: the geometric mean with the box's quality.
    pub fn objectness(&self, of_cells: Tensor<2>) -> Tensor<2> {
        match self.quality.clone() {
            Some(quality) => (of_cells * sigmoid(quality).squeeze_dim(2)).sqrt(),
            None => of_cells,
        }
    }
}

impl RegionHead {
    /// A head that starts from the backbone's classifier.
    pub(super) fn warm(
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
    pub(super) fn fresh(
        config: &StudentConfig,
        head: &FoldedConvolution,
        kind: Head,
        words: usize,
        device: &Device,
    ) -> Self {
        let outputs = head.shape[0];
        let (width, size) = (config.region_width, config.embedding_size);
        let pooled = config.region_channels * BINS * BINS;
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
            quality: config.region_quality.then(|| Self::untrained_quality(width, device)),
            background: vectors.init([size], device),
            words: (kind == Head::Supervised).then(|| vectors.init([words, size], device)),
        }
    }

    /// Before training, every box fits as well as another.
    pub(super) fn untrained_quality(width: usize, device: &Device) -> Linear {
        LinearConfig::new(width, 1).with_initializer(Initializer::Zeros).init(device)
    }

    /// Embeddings of regions; both the same where the head has one branch.
    ///
    /// `pooling`: which cells each region covers.
    pub fn forward(&self, region_maps: &RegionMaps, pooling: &roi::Pooling) -> Embeddings {
        self.forward_with(region_maps, pooling, |hidden| hidden)
    }

    /// The same with both hidden layers `[N, regions, width]` through `regularise`: dropout, in training.
    pub fn forward_with(
        &self,
        region_maps: &RegionMaps,
        pooling: &roi::Pooling,
        mut regularise: impl FnMut(Tensor<3>) -> Tensor<3>,
    ) -> Embeddings {
        let features = self.features(&region_maps.coarse, pooling);
        let class_logits = self.mixture.as_ref().map(|mixture| mixture.classifier.forward(features.clone()));
        let known =
            self.mixture.as_ref().zip(class_logits.clone()).map(|(mixture, logits)| mixture.mix(logits));

        let hidden =
            self.hidden.forward(pooling.pool(&region_maps.regions)) + self.from_cells.forward(features);
        let hidden = regularise(relu(hidden));
        let hidden = regularise(relu(self.hidden2.forward(hidden)));
        let embed = |layer: &Linear| {
            let answer = layer.forward(hidden.clone());
            normalise(match &known {
                Some(known) => known.clone() + answer,
                None => answer,
            })
        };
        let text = embed(&self.text);
        let image = self.image.as_ref().map_or_else(|| text.clone(), &embed);
        let quality = self.quality.as_ref().map(|layer| layer.forward(hidden));
        Embeddings { text, image, class_logits, quality }
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
