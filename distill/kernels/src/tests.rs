//! The kernels against Burn's own operations, forwards and backwards.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use burn::tensor::activation::relu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor, TensorData};

use super::{Activation, Convolution, Kind, composed, ops};

fn random<const D: usize>(dims: [usize; D]) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::random(dims, Distribution::Uniform(-1.0, 1.0), &device)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

/// What an operation answers, and the gradients of its inputs under a loss of these weights on the answer.
struct Answer {
    map: Vec<f32>,
    gradients: Vec<Vec<f32>>,
}

fn assert_same(kernels: &Answer, burn: &Answer, what: &str) {
    let pairs = [(&kernels.map, &burn.map)].into_iter().chain(kernels.gradients.iter().zip(&burn.gradients));
    assert_eq!(kernels.gradients.len(), burn.gradients.len());
    for (place, (kernels, burn)) in pairs.enumerate() {
        assert_eq!(kernels.len(), burn.len(), "{what}: {place}");
        let apart = kernels.iter().zip(burn).map(|(a, b)| (a - b).abs() / (1.0 + b.abs()));
        let worst = apart.fold(0.0, f32::max);
        assert!(worst < 1e-4, "{what}: number {place} of map, input, weight and bias is apart by {worst}");
    }
}

type Operation<'a> = &'a dyn Fn(Tensor<4>, Tensor<2>, Tensor<1>, Convolution) -> Tensor<4>;

/// The same random numbers through any way to convolve.
struct Numbers {
    input: Tensor<4>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    loss: Tensor<4>,
}

impl Numbers {
    fn new(convolution: Convolution, [height, width]: [usize; 2], channels: usize, outputs: usize) -> Self {
        let taps = convolution.kernel * convolution.kernel;
        let rows = if convolution.kind == Kind::Depthwise { taps } else { taps * channels };
        let [down, across] = [height, width].map(|side| side.div_ceil(convolution.stride));
        Self {
            input: random([2, height, width, channels]),
            // Wide enough that ReLU6 reaches its upper end.
            weight: random([rows, outputs]) * 3.0,
            bias: random([outputs]),
            loss: random([2, down, across, outputs]),
        }
    }

    fn through(&self, operation: Operation<'_>, convolution: Convolution) -> Answer {
        let input = self.input.clone().require_grad();
        let weight = self.weight.clone().require_grad();
        let bias = self.bias.clone().require_grad();
        let map = operation(input.clone(), weight.clone(), bias.clone(), convolution);
        let gradients = (map.clone() * self.loss.clone()).sum().backward();
        let gradients = vec![
            numbers(input.grad(&gradients).unwrap()),
            numbers(weight.grad(&gradients).unwrap()),
            numbers(bias.grad(&gradients).unwrap()),
        ];
        Answer { map: numbers(map), gradients }
    }
}

/// Burn's convolution with the channels first, padded as TensorFlow's "SAME".
fn of_burn(input: Tensor<4>, weight: Tensor<2>, bias: Tensor<1>, convolution: Convolution) -> Tensor<4> {
    let [_, height, width, channels] = input.dims();
    let Convolution { kind, kernel, stride, activation } = convolution;
    let (inputs, groups) = if kind == Kind::Depthwise { (1, channels) } else { (channels, 1) };
    let outputs = weight.dims()[1];
    let padding = [height, width].map(|side| {
        let both = ((side.div_ceil(stride) - 1) * stride + kernel).saturating_sub(side);
        (both / 2, both.div_ceil(2))
    });
    let weight = weight.reshape([kernel, kernel, inputs, outputs]).permute([3, 2, 0, 1]);
    let options = ConvOptions::new_with_padding([stride; 2], padding, [1; 2], groups);
    let map = conv2d(input.permute([0, 3, 1, 2]), weight, Some(bias), options).permute([0, 2, 3, 1]);
    match activation {
        Activation::None => map,
        Activation::Relu => relu(map),
        Activation::Relu6 => map.clamp(0.0, 6.0),
    }
}

fn cases() -> Vec<(Convolution, [usize; 2], usize, usize)> {
    let (none, relu, relu6) = (Activation::None, Activation::Relu, Activation::Relu6);
    let case = |kind, kernel, stride, activation| Convolution { kind, kernel, stride, activation };
    vec![
        (case(Kind::Pointwise, 1, 1, none), [5, 7], 12, 9),
        (case(Kind::Pointwise, 1, 1, relu6), [8, 8], 33, 24),
        (case(Kind::Depthwise, 3, 1, relu), [6, 9], 16, 16),
        (case(Kind::Depthwise, 3, 2, relu6), [8, 11], 21, 21),
        (case(Kind::Depthwise, 5, 1, relu6), [7, 8], 32, 32),
        (case(Kind::Depthwise, 5, 2, none), [10, 9], 40, 40),
        (case(Kind::Dense, 3, 2, relu6), [12, 10], 3, 16),
        (case(Kind::Dense, 3, 1, none), [5, 6], 4, 6),
    ]
}

#[test]
fn the_kernels_convolve_as_burn_does() {
    for (convolution, size, channels, outputs) in cases() {
        let numbers = Numbers::new(convolution, size, channels, outputs);
        let kernels = numbers.through(&ops::convolution, convolution);
        let burn = numbers.through(&of_burn, convolution);
        assert_same(&kernels, &burn, &format!("{convolution:?} {size:?}"));
    }
}

#[test]
fn what_a_gpu_computes_is_what_the_kernels_compute() {
    for (convolution, size, channels, outputs) in cases() {
        let numbers = Numbers::new(convolution, size, channels, outputs);
        let kernels = numbers.through(&ops::convolution, convolution);
        let composed = numbers.through(&composed::convolution, convolution);
        assert_same(&kernels, &composed, &format!("{convolution:?} {size:?}"));
    }
}

fn of_map(map: &Tensor<4>, operation: &dyn Fn(Tensor<4>) -> Tensor<4>) -> Answer {
    let map = map.clone().require_grad();
    let answer = operation(map.clone());
    // Another weight for every number, so that none stands in for another.
    let weights = (0..answer.dims().iter().product()).map(|place: usize| (place as f32).sin());
    let weights = TensorData::new(weights.collect::<Vec<f32>>(), answer.dims());
    let loss = answer.clone() * Tensor::from_data(weights, &answer.device());
    let gradients = loss.sum().backward();
    Answer { map: numbers(answer), gradients: vec![numbers(map.grad(&gradients).unwrap())] }
}

#[test]
fn a_gpu_enlarges_maps_as_the_kernels_do() {
    let map = random([2, 3, 5, 4]);
    let kernels = of_map(&map, &ops::enlarged);
    assert_same(&kernels, &of_map(&map, &composed::enlarged), "enlarged");
    let first = numbers(map.slice([0..1, 0..1, 0..1, 0..4]));
    assert_eq!([&kernels.map[..4], &kernels.map[4..8]], [&first[..]; 2], "each cell stands twice in a row");
}

#[test]
fn a_gpu_pools_regions_as_the_kernels_do() {
    let map = random([2, 8, 8, 5]);
    // Inside, over the border, thinner than a cell, and in the corner that has no neighbour.
    let boxes = vec![
        [3.0, 5.5, 40.0, 61.0],
        [-9.0, 10.0, 70.0, 30.0],
        [20.0, 20.0, 21.0, 50.0],
        [60.0, 58.0, 64.0, 64.0],
    ];
    let boxes = Arc::new(boxes);
    let kernels = of_map(&map, &|map| ops::pooled(map, Arc::clone(&boxes), 8));
    let composed = of_map(&map, &|map| composed::pooled(map, &boxes, 8));
    assert_same(&kernels, &composed, "pooled");
}
