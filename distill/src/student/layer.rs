//! The student's layers: convolutions with the channels last.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use wordsight_distill_kernels::{Activation, Convolution, Kind, ops};
use wordsight_standin::efficientnet::FoldedConvolution;

/// One convolution with its bias and activation. Maps are `[N, height, width, channels]`.
#[derive(Module, Debug)]
pub struct Layer {
    /// As [`Kind`] has them.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub bias: Param<Tensor<1>>,
    /// Everything but the numbers.
    #[module(skip)]
    pub convolution: Convolution,
}

impl Layer {
    /// A layer of random weights (He et al., 2015) and no bias.
    pub fn random(convolution: Convolution, inputs: usize, outputs: usize, device: &Device) -> Self {
        let taps = convolution.kernel * convolution.kernel;
        let (rows, summed) = match convolution.kind {
            Kind::Depthwise => (taps, taps),
            Kind::Pointwise | Kind::Dense => (taps * inputs, taps * inputs),
        };
        let gain = if convolution.activation == Activation::None { 1.0 } else { 2.0 };
        let std = (gain / summed as f64).sqrt();
        Self {
            weight: Initializer::Normal { mean: 0.0, std }.init([rows, outputs], device),
            bias: Initializer::Zeros.init([outputs], device),
            convolution,
        }
    }

    /// A layer of pretrained weights.
    pub fn pretrained(
        weights: &FoldedConvolution,
        stride: usize,
        activation: Activation,
        device: &Device,
    ) -> Self {
        let [outputs, inputs, kernel, _] = weights.shape;
        let kind = match (kernel, inputs) {
            (1, _) => Kind::Pointwise,
            (_, 1) => Kind::Depthwise,
            _ => Kind::Dense,
        };
        let taps = kernel * kernel;
        // [outputs, inputs, taps] becomes [taps, inputs, outputs].
        let numbers: Vec<f32> = (0..taps * inputs * outputs)
            .map(|place| {
                let (output, input, tap) =
                    (place % outputs, place / outputs % inputs, place / outputs / inputs);
                weights.weight[(output * inputs + input) * taps + tap]
            })
            .collect();
        let data = TensorData::new(numbers, [taps * inputs, outputs]);
        Self {
            weight: Param::from_tensor(Tensor::from_data(data, device)),
            bias: Param::from_tensor(Tensor::from_data(weights.bias.as_slice(), device)),
            convolution: Convolution { kind, kernel, stride, activation },
        }
    }

    /// The layer's weights as ONNX has them: `[outputs, inputs a group, kernel, kernel]`.
    pub fn folded(&self) -> FoldedConvolution {
        let [rows, outputs] = self.weight.val().dims();
        let taps = self.convolution.kernel * self.convolution.kernel;
        let inputs = rows / taps;
        let numbers: Vec<f32> = self.weight.val().into_data().iter().collect();
        let weight = (0..numbers.len())
            .map(|place| {
                let (tap, input, output) = (place % taps, place / taps % inputs, place / taps / inputs);
                numbers[(tap * inputs + input) * outputs + output]
            })
            .collect();
        FoldedConvolution {
            shape: [outputs, inputs, self.convolution.kernel, self.convolution.kernel],
            weight,
            bias: self.bias.val().into_data().iter().collect(),
        }
    }

    /// The map behind it.
    pub fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        ops::convolution(map, self.weight.val(), self.bias.val(), self.convolution)
    }
}

/// A depthwise 5x5 and a pointwise convolution, each with ReLU: a dense one at a tenth of the arithmetic.
#[derive(Module, Debug)]
pub struct Separable {
    /// Sums a window of each channel.
    pub depthwise: Layer,
    /// Mixes the channels.
    pub pointwise: Layer,
}

impl Separable {
    /// Random weights.
    pub fn random(channels: usize, stride: usize, device: &Device) -> Self {
        let depthwise =
            Convolution { kind: Kind::Depthwise, kernel: 5, stride, activation: Activation::Relu };
        Self {
            depthwise: Layer::random(depthwise, channels, channels, device),
            pointwise: Layer::random(pointwise(Activation::Relu), channels, channels, device),
        }
    }

    /// The map behind it.
    pub fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        self.pointwise.forward(self.depthwise.forward(map))
    }

    /// Both layers, in their order.
    pub fn layers(&self) -> [&Layer; 2] {
        [&self.depthwise, &self.pointwise]
    }
}

/// A 1x1 convolution.
pub fn pointwise(activation: Activation) -> Convolution {
    Convolution { kind: Kind::Pointwise, kernel: 1, stride: 1, activation }
}
