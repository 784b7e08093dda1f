//! Depthwise convolutions, vectorised over channels.

#[cfg(target_arch = "x86_64")]
mod avx512;

use std::ops::Range;

use rayon::prelude::*;

use super::convolution::{Activation, Convolution, Gradients, Operands, Size};
use super::pointwise::{masked, summed};
use super::{SharedPointer, unwritten};

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

    /// Outputs all of whose taps lie inside.
    #[inline(always)]
    fn whole(&self) -> Range<usize> {
        let start = self.padding.div_ceil(self.stride).min(self.outputs);
        let end = (self.inputs + self.padding + self.stride).saturating_sub(self.kernel) / self.stride;
        start..end.clamp(start, self.outputs)
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
    out.par_chunks_mut(row).enumerate().for_each(|(place, out)| {
        let (image, y) = (place / out_size.height, place % out_size.height);
        forward_row(convolution, operands, bias, [image, y], out);
    });
    out
}

/// Writes one row of an image's output.
fn forward_row(
    convolution: &Convolution,
    operands: Operands<'_>,
    bias: &[f32],
    place: [usize; 2],
    out: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has what it was compiled for.
        return unsafe { avx512::forward_row(convolution, operands, bias, place, out) };
    }
    let channels = operands.size.channels;
    let across = Axis::new(convolution, operands.size.width);
    forward_cells(convolution, operands, bias, place, [0, channels], 0..across.outputs, out);
}

vectorised! {
    /// Writes some cells of a row, in the channels from the first to before the second, one after another.
    fn forward_cells(
        convolution: &Convolution,
        operands: Operands<'_>,
        bias: &[f32],
        place: [usize; 2],
        range: [usize; 2],
        cells: Range<usize>,
        out: &mut [f32],
    ) {
        let ([image, y], [from, to], size) = (place, range, operands.size);
        let axes = [&Axis::new(convolution, size.height), &Axis::new(convolution, size.width)];
        for first in (from..to).step_by(LANES) {
            let lanes = LANES.min(to - first);
            let mut start = [0.0_f32; LANES];
            start[..lanes].copy_from_slice(&bias[first..first + lanes]);
            for x in cells.clone() {
                let cell = Cell { image, y, x, first, lanes };
                let sums = sums_of_one(operands, convolution.kernel, axes, cell, start);
                for (out, sum) in out[x * size.channels + first..][..lanes].iter_mut().zip(sums) {
                    *out = convolution.activation.apply(sum);
                }
            }
        }
    }
}

/// Some channels of one output cell.
#[derive(Clone, Copy)]
struct Cell {
    image: usize,
    y: usize,
    x: usize,
    first: usize,
    lanes: usize,
}

#[inline(always)]
fn sums_of_one(
    operands: Operands<'_>,
    kernel: usize,
    [down, across]: [&Axis; 2],
    cell: Cell,
    mut sums: [f32; LANES],
) -> [f32; LANES] {
    let Operands { input, size, weight } = operands;
    for i in down.taps(cell.y) {
        let row = (cell.image * size.height + down.input(cell.y, i)) * size.width;
        for j in across.taps(cell.x) {
            let from = (row + across.input(cell.x, j)) * size.channels + cell.first;
            let with = (i * kernel + j) * size.channels + cell.first;
            multiply_add(&mut sums, &input[from..], &weight[with..], cell.lanes);
        }
    }
    sums
}

#[inline(always)]
fn lanes_at(values: &[f32], start: usize) -> &[f32; LANES] {
    debug_assert!(start + LANES <= values.len());
    // SAFETY: the callers' cells and channels lie inside, as the assertion has it in tests.
    unsafe { &*values.as_ptr().add(start).cast() }
}

/// `sums += a * b`, lane by lane.
#[inline(always)]
fn multiply_add(sums: &mut [f32; LANES], a: &[f32], b: &[f32], lanes: usize) {
    if lanes == LANES {
        let (a, b) = (&a[..LANES], &b[..LANES]);
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    } else {
        for lane in 0..lanes {
            sums[lane] += a[lane] * b[lane];
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
    let shared = into.as_mut().map(|values| SharedPointer(values.as_mut_ptr()));
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
            weight_gradient(convolution, size, input, &before, &mut of_weight);
            if let Some(shared) = shared {
                // SAFETY: an image's gradient is this thread's.
                let out = unsafe { shared.slice(image * into_image, into_image) };
                input_gradient(convolution, size, operands.weight, &before, out);
            }
            [of_weight, of_bias]
        })
        .collect();
    let [weight, bias] = summed(sums);
    Gradients { input: into, weight, bias }
}

vectorised! {
    /// Adds one image's share to the weights' gradient.
    fn weight_gradient(
        convolution: &Convolution,
        size: Size,
        input: &[f32],
        gradient: &[f32],
        out: &mut [f32],
    ) {
        match convolution.kernel {
            _ if !size.channels.is_multiple_of(LANES) => weight_gradient_of_any(convolution, size, input, gradient, out),
            3 => weight_gradient_of::<3>(convolution, size, input, gradient, out),
            5 => weight_gradient_of::<5>(convolution, size, input, gradient, out),
            _ => weight_gradient_of_any(convolution, size, input, gradient, out),
        }
    }
}

/// The same for windows of `K` cells a side and whole groups of channels.
#[inline(always)]
fn weight_gradient_of<const K: usize>(
    convolution: &Convolution,
    size: Size,
    input: &[f32],
    gradient: &[f32],
    out: &mut [f32],
) {
    let channels = size.channels;
    let (down, across) = (Axis::new(convolution, size.height), Axis::new(convolution, size.width));
    let (rows, columns) = (down.whole(), across.whole());
    for first in (0..channels).step_by(LANES) {
        let mut sums = [[[0.0_f32; LANES]; K]; K];
        for y in 0..down.outputs {
            let cell = |x: usize| (y * across.outputs + x) * channels + first;
            let near = if rows.contains(&y) { columns.clone() } else { 0..0 };
            for x in (0..near.start).chain(near.end..across.outputs) {
                let g = lanes_at(gradient, cell(x));
                for i in down.taps(y) {
                    for j in across.taps(x) {
                        let from = (down.input(y, i) * size.width + across.input(x, j)) * channels + first;
                        multiply_add(&mut sums[i][j], &input[from..], g, LANES);
                    }
                }
            }
            for x in near {
                let g = lanes_at(gradient, cell(x));
                let corner = (down.input(y, 0) * size.width + across.input(x, 0)) * channels + first;
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (j, sums) in sums.iter_mut().enumerate() {
                        let input = lanes_at(input, corner + (i * size.width + j) * channels);
                        for lane in 0..LANES {
                            sums[lane] += input[lane] * g[lane];
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
fn input_gradient(convolution: &Convolution, size: Size, weight: &[f32], gradient: &[f32], out: &mut [f32]) {
    if convolution.stride > 1 {
        return spread_gradient(convolution, size, weight, gradient, out);
    }
    // With stride 1 and an odd window it is the convolution of the gradient with the window turned around.
    let flipped: Vec<f32> = weight.chunks_exact(size.channels).rev().flatten().copied().collect();
    let turned = Convolution { activation: Activation::None, ..*convolution };
    let operands = Operands { input: gradient, size: Size { images: 1, ..size }, weight: &flipped };
    let bias = vec![0.0; size.channels];
    for (y, out) in out.chunks_exact_mut(size.width * size.channels).enumerate() {
        forward_row(&turned, operands, &bias, [0, y], out);
    }
}

vectorised! {
    /// The same for any stride: every output's gradient goes to the inputs that it was made of.
    fn spread_gradient(
        convolution: &Convolution,
        size: Size,
        weight: &[f32],
        gradient: &[f32],
        out: &mut [f32],
    ) {
        let channels = size.channels;
        let (down, across) = (Axis::new(convolution, size.height), Axis::new(convolution, size.width));
        out.fill(0.0);
        for (cell, g) in gradient.chunks_exact(channels).enumerate() {
            let (y, x) = (cell / across.outputs, cell % across.outputs);
            for i in down.taps(y) {
                for j in across.taps(x) {
                    let to = (down.input(y, i) * size.width + across.input(x, j)) * channels;
                    let weight = &weight[(i * convolution.kernel + j) * channels..][..channels];
                    for ((out, g), weight) in out[to..to + channels].iter_mut().zip(g).zip(weight) {
                        *out += g * weight;
                    }
                }
            }
        }
    }
}
