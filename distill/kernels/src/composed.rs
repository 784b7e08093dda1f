//! The kernels' operations composed of Burn's own, for devices that the kernels don't run on.
//!
//! Maps and weights have the layout of [`super::ops`]; Burn's convolutions take the channels first.

use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Tensor, TensorData};

use super::convolution::{Activation, Convolution, Kind};
use super::{BINS, bin_weights};

/// One convolution with its bias `[outputs]` and activation.
pub fn convolution(
    input: Tensor<4>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    convolution: Convolution,
) -> Tensor<4> {
    let output = match convolution.kind {
        Kind::Pointwise => {
            let [images, height, width, channels] = input.dims();
            let outputs = weight.dims()[1];
            let cells = input.reshape([images * height * width, channels]);
            (cells.matmul(weight) + bias.unsqueeze()).reshape([images, height, width, outputs])
        }
        Kind::Depthwise | Kind::Dense => windowed(input, weight, bias, convolution),
    };
    activate(output, convolution.activation)
}

fn windowed(input: Tensor<4>, weight: Tensor<2>, bias: Tensor<1>, convolution: Convolution) -> Tensor<4> {
    let [_, height, width, channels] = input.dims();
    let (kernel, stride) = (convolution.kernel, convolution.stride);
    let (inputs, groups) = if convolution.kind == Kind::Depthwise { (1, channels) } else { (channels, 1) };
    let outputs = weight.dims()[1];
    let weight = weight.reshape([kernel, kernel, inputs, outputs]).permute([3, 2, 0, 1]);
    let [rows, columns] = [height, width].map(|side| convolution.paddings(side));
    let input = input.permute([0, 3, 1, 2]).pad([rows, columns], PadMode::Constant(0.0));
    let options = ConvOptions::new([stride; 2], [0; 2], [1; 2], groups);
    conv2d(input, weight, Some(bias), options).permute([0, 2, 3, 1])
}

/// A map of sums as it is behind an activation.
fn activate(map: Tensor<4>, activation: Activation) -> Tensor<4> {
    match activation {
        Activation::None => map,
        Activation::Relu => burn::tensor::activation::relu(map),
        Activation::Relu6 => map.clamp(0.0, 6.0),
    }
}

/// A map with every cell four times: twice as high and wide.
pub fn enlarged(map: Tensor<4>) -> Tensor<4> {
    let [images, height, width, channels] = map.dims();
    let cells = map.reshape([images, height, 1, width, 1, channels]);
    cells.repeat_dim(2, 2).repeat_dim(4, 2).reshape([images, 2 * height, 2 * width, channels])
}

/// RoIAlign as two products of matrices: `[N * regions, bins, bins, channels]`.
pub fn pooled(map: Tensor<4>, boxes_in_input: &[[f32; 4]], stride: usize) -> Tensor<4> {
    let [images, height, width, channels] = map.dims();
    let (boxes, device) = (boxes_in_input.len(), map.device());
    let regions = boxes / images.max(1);
    let down = boxes_in_input.iter().flat_map(|&[_, y1, _, y2]| bin_weights(y1, y2, stride, height));
    let across = boxes_in_input.iter().flat_map(|&[x1, _, x2, _]| bin_weights(x1, x2, stride, width));
    let down = TensorData::new(down.collect::<Vec<f32>>(), [images, regions * BINS, height]);
    let across = TensorData::new(across.collect::<Vec<f32>>(), [boxes, 1, BINS, width]);
    let rows = Tensor::<3>::from_data(down, &device).matmul(map.reshape([images, height, width * channels]));
    let across = Tensor::<4>::from_data(across, &device).repeat_dim(1, BINS);
    across.matmul(rows.reshape([boxes, BINS, width, channels]))
}
