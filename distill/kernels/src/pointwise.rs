//! 1x1 convolutions: matrix products, a block of cells at a time.

use rayon::prelude::*;

use super::convolution::{Activation, Convolution, Gradients, Operands};
use super::{Matrix, SharedPointer, add, multiply, unwritten};

/// Numbers of a block's input and output together: half a megabyte, what a core's cache holds.
const BLOCK_NUMBERS: usize = 128 << 10;

fn rows_of_block(channels: usize, outputs: usize) -> usize {
    (BLOCK_NUMBERS / (channels + outputs)).clamp(64, 1024)
}

vectorised! {
    /// Adds the bias to rows and applies the activation.
    pub(super) fn finish(rows: &mut [f32], bias: &[f32], activation: Activation) {
        match activation {
            Activation::None => finish_with(rows, bias, Activation::None),
            Activation::Relu => finish_with(rows, bias, Activation::Relu),
            Activation::Relu6 => finish_with(rows, bias, Activation::Relu6),
        }
    }
}

#[inline(always)]
fn finish_with(rows: &mut [f32], bias: &[f32], activation: Activation) {
    for row in rows.chunks_exact_mut(bias.len()) {
        for (x, bias) in row.iter_mut().zip(bias) {
            *x = activation.apply(*x + bias);
        }
    }
}

vectorised! {
    /// Writes the gradient before the activation to `out` and adds its sums over rows to `bias`.
    pub(super) fn masked(
        gradient: &[f32],
        output: &[f32],
        activation: Activation,
        out: &mut [f32],
        bias: &mut [f32],
    ) {
        match activation {
            Activation::None => masked_with(gradient, output, Activation::None, out, bias),
            Activation::Relu => masked_with(gradient, output, Activation::Relu, out, bias),
            Activation::Relu6 => masked_with(gradient, output, Activation::Relu6, out, bias),
        }
    }
}

#[inline(always)]
fn masked_with(gradient: &[f32], output: &[f32], activation: Activation, out: &mut [f32], bias: &mut [f32]) {
    let columns = bias.len();
    let rows = gradient.chunks_exact(columns).zip(output.chunks_exact(columns));
    for ((gradient, output), out) in rows.zip(out.chunks_exact_mut(columns)) {
        for (((gradient, output), out), bias) in gradient.iter().zip(output).zip(out).zip(bias.iter_mut()) {
            let masked = activation.backward(*gradient, *output);
            *out = masked;
            *bias += masked;
        }
    }
}

pub(super) fn forward(convolution: &Convolution, operands: Operands<'_>, bias: &[f32]) -> Vec<f32> {
    let Operands { input, size, weight } = operands;
    let (channels, outputs) = (size.channels, bias.len());
    let block = rows_of_block(channels, outputs);
    let mut out = unwritten(size.cells() * outputs);
    out.par_chunks_mut(block * outputs).zip(input.par_chunks(block * channels)).for_each(|(out, input)| {
        let shape = [input.len() / channels, channels, outputs];
        let (a, b) = (Matrix::rows(input, channels), Matrix::rows(weight, outputs));
        // SAFETY: the chunks have so many rows, the weights are [channels, outputs], and `out` is this thread's.
        unsafe { multiply(shape, a, b, out.as_mut_ptr(), false) };
        finish(out, bias, convolution.activation);
    });
    out
}

pub(super) fn backward(
    convolution: &Convolution,
    operands: Operands<'_>,
    output: &[f32],
    gradient: &[f32],
    outputs: usize,
    of_input: bool,
) -> Gradients {
    let Operands { input, size, weight } = operands;
    let (cells, channels) = (size.cells(), size.channels);
    let block = rows_of_block(channels, outputs);
    let mut into = of_input.then(|| unwritten(cells * channels));
    let shared = into.as_mut().map(|values| SharedPointer(values.as_mut_ptr()));
    // More pieces than threads, or one that has other work to do keeps the rest waiting.
    let pieces = (4 * rayon::current_num_threads()).min(cells.div_ceil(block)).max(1);
    let rows_of_piece = cells.div_ceil(pieces).next_multiple_of(block);
    let sums: Vec<[Vec<f32>; 2]> = (0..pieces)
        .into_par_iter()
        .map(|piece| {
            let mut of_weight = vec![0.0; channels * outputs];
            let mut of_bias = vec![0.0; outputs];
            let mut before = unwritten(block * outputs);
            let last = cells.min((piece + 1) * rows_of_piece);
            for first in (piece * rows_of_piece..last).step_by(block) {
                let rows = block.min(last - first);
                let of_block = first * outputs..(first + rows) * outputs;
                let before = &mut before[..rows * outputs];
                let (gradient, output) = (&gradient[of_block.clone()], &output[of_block]);
                masked(gradient, output, convolution.activation, before, &mut of_bias);
                let input = &input[first * channels..(first + rows) * channels];
                let (x, g) = (Matrix::rows(input, channels), Matrix::rows(before, outputs));
                // SAFETY: both blocks have `rows` rows, and the sums are this thread's.
                unsafe {
                    multiply([channels, rows, outputs], x.transposed(), g, of_weight.as_mut_ptr(), true);
                }
                if let Some(shared) = shared {
                    let weight = Matrix::rows(weight, outputs).transposed();
                    // SAFETY: these rows of the input's gradient are this block's alone.
                    unsafe {
                        let out = shared.slice(first * channels, rows * channels);
                        multiply([rows, outputs, channels], g, weight, out.as_mut_ptr(), false);
                    }
                }
            }
            [of_weight, of_bias]
        })
        .collect();
    let [weight, bias] = summed(sums);
    Gradients { input: into, weight, bias }
}

/// The sums of all pieces, in their order: the same for every number of threads that makes as many pieces.
pub(super) fn summed(pieces: Vec<[Vec<f32>; 2]>) -> [Vec<f32>; 2] {
    let mut pieces = pieces.into_iter();
    let mut all = pieces.next().unwrap_or_default();
    for piece in pieces {
        for (all, piece) in all.iter_mut().zip(&piece) {
            add(all, piece);
        }
    }
    all
}
