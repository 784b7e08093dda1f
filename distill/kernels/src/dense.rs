//! Dense convolutions: a window's numbers in a row, then a matrix product. Only the stem is one, so it isn't
//! optimised.

use rayon::prelude::*;

use super::convolution::{Convolution, Gradients, Operands, Size};
use super::pointwise::{finish, masked, summed};
use super::{Matrix, SharedPointer, add, multiply, unwritten};

/// Calls `each` with the start of an input cell (none in the padding) and the start of its place in the row, for all
/// cells under the windows of one row of outputs.
fn windows(
    convolution: &Convolution,
    size: Size,
    y: usize,
    outputs: usize,
    mut each: impl FnMut(Option<usize>, usize),
) {
    let (kernel, stride) = (convolution.kernel, convolution.stride);
    let (top, left) = (convolution.padding(size.height), convolution.padding(size.width));
    for x in 0..outputs {
        for tap in 0..kernel * kernel {
            let row = (y * stride + tap / kernel).checked_sub(top).filter(|row| *row < size.height);
            let column = (x * stride + tap % kernel).checked_sub(left).filter(|column| *column < size.width);
            let cell = row.zip(column).map(|(row, column)| (row * size.width + column) * size.channels);
            each(cell, (x * kernel * kernel + tap) * size.channels);
        }
    }
}

fn gather(convolution: &Convolution, size: Size, image: &[f32], y: usize, rows: &mut [f32]) {
    let window = convolution.kernel * convolution.kernel * size.channels;
    windows(convolution, size, y, rows.len() / window, |cell, place| {
        let row = &mut rows[place..place + size.channels];
        match cell {
            Some(cell) => row.copy_from_slice(&image[cell..cell + size.channels]),
            None => row.fill(0.0),
        }
    });
}

pub(super) fn forward(convolution: &Convolution, operands: Operands<'_>, bias: &[f32]) -> Vec<f32> {
    let Operands { input, size, weight } = operands;
    let (outputs, of_image) = (bias.len(), size.len() / size.images.max(1));
    let out_size = convolution.output_size(size, outputs);
    let window = weight.len() / outputs;
    let mut out = unwritten(out_size.len());
    out.par_chunks_mut(out_size.width * outputs).enumerate().for_each_init(
        || unwritten(out_size.width * window),
        |rows, (place, out)| {
            let (image, y) = (place / out_size.height, place % out_size.height);
            gather(convolution, size, &input[image * of_image..][..of_image], y, rows);
            let (a, b) = (Matrix::rows(rows, window), Matrix::rows(weight, outputs));
            // SAFETY: the rows are [width, window], the weights [window, outputs], and `out` is this thread's.
            unsafe { multiply([out_size.width, window, outputs], a, b, out.as_mut_ptr(), false) };
            finish(out, bias, convolution.activation);
        },
    );
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
    let (of_image, window) = (size.len() / size.images.max(1), weight.len() / outputs);
    let out_size = convolution.output_size(size, outputs);
    let row = out_size.width * outputs;
    let mut into = of_input.then(|| vec![0.0; size.len()]);
    let shared = into.as_mut().map(|values| SharedPointer(values.as_mut_ptr()));
    let sums: Vec<[Vec<f32>; 2]> = (0..size.images)
        .into_par_iter()
        .map(|image| {
            let (mut of_weight, mut of_bias) = (vec![0.0; weight.len()], vec![0.0; outputs]);
            let (mut rows, mut before) = (unwritten(out_size.width * window), unwritten(row));
            for y in 0..out_size.height {
                let places = (image * out_size.height + y) * row..(image * out_size.height + y + 1) * row;
                let (gradient, output) = (&gradient[places.clone()], &output[places]);
                masked(gradient, output, convolution.activation, &mut before, &mut of_bias);
                gather(convolution, size, &input[image * of_image..][..of_image], y, &mut rows);
                let (x, g) = (Matrix::rows(&rows, window), Matrix::rows(&before, outputs));
                let shape = [window, out_size.width, outputs];
                // SAFETY: both have a row for every output, and the sums are this thread's.
                unsafe { multiply(shape, x.transposed(), g, of_weight.as_mut_ptr(), true) };
                if let Some(shared) = shared {
                    let weight = Matrix::rows(weight, outputs).transposed();
                    let shape = [out_size.width, outputs, window];
                    // SAFETY: as above, and an image's gradient is this thread's.
                    let out = unsafe {
                        multiply(shape, g, weight, rows.as_mut_ptr(), false);
                        shared.slice(image * of_image, of_image)
                    };
                    windows(convolution, size, y, out_size.width, |cell, place| {
                        if let Some(cell) = cell {
                            add(&mut out[cell..cell + size.channels], &rows[place..place + size.channels]);
                        }
                    });
                }
            }
            [of_weight, of_bias]
        })
        .collect();
    let [weight, bias] = summed(sums);
    Gradients { input: into, weight, bias }
}
