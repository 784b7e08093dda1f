//! Depthwise convolutions: channels side by side in vectors.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::convolution::{Activation, Convolution, Gradients, Operands, Size};
use super::pointwise::{masked, summed};
use super::{Shared, unwritten};

/// Channels that are summed at a time.
const LANES: usize = 16;

/// One axis of a convolution: which taps of which cell meet which.
#[derive(Clone, Copy)]
struct Axis {
    inputs: usize,
    outputs: usize,
    stride: usize,
    padding: usize,
    kernel: usize,
}

impl Axis {
    fn new(convolution: &Convolution, inputs: usize) -> Self {
        Self {
            inputs,
            outputs: inputs.div_ceil(convolution.stride),
            stride: convolution.stride,
            padding: convolution.padding(inputs),
            kernel: convolution.kernel,
        }
    }

    /// Taps that lie inside, for an output.
    #[inline(always)]
    fn taps(&self, output: usize) -> Range<usize> {
        let start = output * self.stride;
        self.padding.saturating_sub(start).min(self.kernel)
            ..(self.inputs + self.padding).saturating_sub(start).min(self.kernel)
    }

    /// The input that a tap of an output meets; the tap must be one of [`Self::taps`].
    #[inline(always)]
    fn input(&self, output: usize, tap: usize) -> usize {
        output * self.stride + tap - self.padding
    }
}

pub(super) fn forward(convolution: &Convolution, operands: Operands<'_>, bias: &[f32]) -> Vec<f32> {
    let size = operands.size;
    let out_size = convolution.output_size(size, size.channels);
    let row = out_size.width * size.channels;
    let mut out = unwritten(out_size.len());
    let arch = Arch::new();
    out.par_chunks_mut(row).enumerate().for_each(|(place, out)| {
        let (image, y) = (place / out_size.height, place % out_size.height);
        arch.dispatch(
            #[inline(always)]
            || match (convolution.kernel, convolution.activation) {
                (3, Activation::Relu6) => {
                    forward_row(convolution, operands, bias, image, y, out, 3, Activation::Relu6);
                }
                (5, Activation::Relu6) => {
                    forward_row(convolution, operands, bias, image, y, out, 5, Activation::Relu6);
                }
                (5, Activation::Relu) => {
                    forward_row(convolution, operands, bias, image, y, out, 5, Activation::Relu);
                }
                (kernel, activation) => {
                    forward_row(convolution, operands, bias, image, y, out, kernel, activation);
                }
            },
        );
    });
    out
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn forward_row(
    convolution: &Convolution,
    operands: Operands<'_>,
    bias: &[f32],
    image: usize,
    y: usize,
    out: &mut [f32],
    kernel: usize,
    activation: Activation,
) {
    let Operands { input, size, weight } = operands;
    let channels = size.channels;
    let (down, across) = (Axis::new(convolution, size.height), Axis::new(convolution, size.width));
    let row_taps = down.taps(y);
    for first in (0..channels).step_by(LANES) {
        let lanes = LANES.min(channels - first);
        for x in 0..across.outputs {
            let column_taps = across.taps(x);
            let mut sums = [0.0_f32; LANES];
            sums[..lanes].copy_from_slice(&bias[first..first + lanes]);
            for i in row_taps.clone() {
                let row = (image * size.height + down.input(y, i)) * size.width;
                for j in column_taps.clone() {
                    let from = (row + across.input(x, j)) * channels + first;
                    let with = (i * kernel + j) * channels + first;
                    multiply_add(&mut sums, &input[from..], &weight[with..], lanes);
                }
            }
            for (out, sum) in out[x * channels + first..][..lanes].iter_mut().zip(sums) {
                *out = activation.apply(sum);
            }
        }
    }
}

/// `sums += a * b`, lane by lane.
#[inline(always)]
fn multiply_add(sums: &mut [f32; LANES], a: &[f32], b: &[f32], lanes: usize) {
    if lanes == LANES {
        let (a, b) = (&a[..LANES], &b[..LANES]);
        for lane in 0..LANES {
            sums[lane] = a[lane].mul_add(b[lane], sums[lane]);
        }
    } else {
        for lane in 0..lanes {
            sums[lane] = a[lane].mul_add(b[lane], sums[lane]);
        }
    }
}

pub(super) fn backward(
    convolution: &Convolution,
    operands: Operands<'_>,
    output: &[f32],
    gradient: &[f32],
    of_input: bool,
) -> Gradients {
    let size = operands.size;
    let out_size = convolution.output_size(size, size.channels);
    let (of_image, into_image) = (out_size.len() / size.images, size.len() / size.images);
    let mut into = of_input.then(|| unwritten(size.len()));
    let shared = into.as_mut().map(|values| Shared(values.as_mut_ptr()));
    let arch = Arch::new();
    let sums: Vec<[Vec<f32>; 2]> = (0..size.images)
        .into_par_iter()
        .map(|image| {
            let mut of_weight = vec![0.0; operands.weight.len()];
            let mut of_bias = vec![0.0; size.channels];
            let mut before = unwritten(of_image);
            let places = image * of_image..(image + 1) * of_image;
            masked(
                &gradient[places.clone()],
                &output[places],
                convolution.activation,
                &mut before,
                &mut of_bias,
            );
            let input = &operands.input[image * into_image..(image + 1) * into_image];
            arch.dispatch(
                #[inline(always)]
                || match convolution.kernel {
                    3 => weight_gradient::<3>(convolution, size, input, &before, &mut of_weight),
                    5 => weight_gradient::<5>(convolution, size, input, &before, &mut of_weight),
                    _ => weight_gradient_of_any(convolution, size, input, &before, &mut of_weight),
                },
            );
            if let Some(shared) = shared {
                // SAFETY: an image's gradient is this thread's.
                let out = unsafe { shared.slice(image * into_image, into_image) };
                arch.dispatch(
                    #[inline(always)]
                    || input_gradient(convolution, size, operands.weight, &before, out),
                );
            }
            [of_weight, of_bias]
        })
        .collect();
    let [weight, bias] = summed(sums);
    Gradients { input: into, weight, bias }
}

/// Adds one image's share to the weights' gradient.
#[inline(always)]
fn weight_gradient<const K: usize>(
    convolution: &Convolution,
    size: Size,
    input: &[f32],
    gradient: &[f32],
    out: &mut [f32],
) {
    let channels = size.channels;
    let (down, across) = (Axis::new(convolution, size.height), Axis::new(convolution, size.width));
    if channels % LANES != 0 {
        return weight_gradient_of_any(convolution, size, input, gradient, out);
    }
    // Columns whose taps all lie inside.
    let inside: Vec<bool> = (0..across.outputs).map(|x| across.taps(x) == (0..K)).collect();
    for first in (0..channels).step_by(LANES) {
        let mut sums = [[[0.0_f32; LANES]; K]; K];
        for y in 0..down.outputs {
            for i in down.taps(y) {
                let row = down.input(y, i) * size.width;
                let sums = &mut sums[i];
                for x in 0..across.outputs {
                    let g = &gradient[(y * across.outputs + x) * channels + first..][..LANES];
                    if inside[x] {
                        let from = (row + x * across.stride - across.padding) * channels + first;
                        for (j, sums) in sums.iter_mut().enumerate() {
                            multiply_add(sums, &input[from + j * channels..], g, LANES);
                        }
                    } else {
                        for j in across.taps(x) {
                            let from = (row + across.input(x, j)) * channels + first;
                            multiply_add(&mut sums[j], &input[from..], g, LANES);
                        }
                    }
                }
            }
        }
        for (tap, sums) in sums.as_flattened().iter().enumerate() {
            super::add(&mut out[tap * channels + first..][..LANES], sums);
        }
    }
}

/// The same for any window and any number of channels.
#[inline(always)]
fn weight_gradient_of_any(
    convolution: &Convolution,
    size: Size,
    input: &[f32],
    gradient: &[f32],
    out: &mut [f32],
) {
    let channels = size.channels;
    let (down, across) = (Axis::new(convolution, size.height), Axis::new(convolution, size.width));
    for (cell, g) in gradient.chunks_exact(channels).enumerate() {
        let (y, x) = (cell / across.outputs, cell % across.outputs);
        for i in down.taps(y) {
            for j in across.taps(x) {
                let from = (down.input(y, i) * size.width + across.input(x, j)) * channels;
                let out = &mut out[(i * convolution.kernel + j) * channels..][..channels];
                for ((out, input), g) in out.iter_mut().zip(&input[from..]).zip(g) {
                    *out += input * g;
                }
            }
        }
    }
}

/// Writes one image's input gradient.
#[inline(always)]
fn input_gradient(
    convolution: &Convolution,
    size: Size,
    weight: &[f32],
    gradient: &[f32],
    out: &mut [f32],
) {
    let (channels, kernel) = (size.channels, convolution.kernel);
    let (down, across) = (Axis::new(convolution, size.height), Axis::new(convolution, size.width));
    for y in 0..size.height {
        let rows = meeting(&down, y);
        for first in (0..channels).step_by(LANES) {
            let lanes = LANES.min(channels - first);
            for x in 0..size.width {
                let mut sums = [0.0_f32; LANES];
                for (i, output_row) in rows.clone() {
                    for (j, output) in meeting(&across, x) {
                        let from = (output_row * across.outputs + output) * channels + first;
                        let with = (i * kernel + j) * channels + first;
                        multiply_add(&mut sums, &gradient[from..], &weight[with..], lanes);
                    }
                }
                let out = &mut out[(y * size.width + x) * channels + first..][..lanes];
                out.copy_from_slice(&sums[..lanes]);
            }
        }
    }
}

/// Taps through which an input reaches an output, each with that output.
#[inline(always)]
fn meeting(axis: &Axis, input: usize) -> impl Iterator<Item = (usize, usize)> + Clone + use<> {
    let axis = *axis;
    let reach = input + axis.padding;
    let first = reach % axis.stride;
    (first..axis.kernel.min(reach + 1)).step_by(axis.stride).filter_map(move |tap| {
        let output = (reach - tap) / axis.stride;
        (output < axis.outputs).then_some((tap, output))
    })
}
