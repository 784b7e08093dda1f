//! The forward pass with AVX-512, eight cells side by side: their additions don't depend on each other, and a weight
//! is read once for all eight. Compilers keep such sums in memory where the loops over taps are not of constant
//! length; half of the time of a training was spent there.

use std::arch::x86_64::{
    __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_set1_ps, _mm512_storeu_ps,
};

use super::{Axis, LANES, forward_cells};
use crate::convolution::{Activation, Convolution, Operands};

/// Cells that are summed at a time.
const TOGETHER: usize = 8;

/// Writes one row of an image's output.
#[target_feature(enable = "avx512f")]
pub(super) fn forward_row(
    convolution: &Convolution,
    operands: Operands<'_>,
    bias: &[f32],
    [image, y]: [usize; 2],
    out: &mut [f32],
) {
    let Operands { input, size, weight } = operands;
    let channels = size.channels;
    let (down, across) = (Axis::new(convolution, size.height), Axis::new(convolution, size.width));
    let inside = across.whole();
    // The last group overlaps the one before where they don't divide: what is written twice is the same.
    let last = inside.end.saturating_sub(TOGETHER).max(inside.start);
    let grouped = if inside.len() < TOGETHER { 0..0 } else { inside };
    let starts = grouped.clone().step_by(TOGETHER).map(|x| x.min(last));
    let whole_lanes = channels / LANES * LANES;
    let mut alone = |range: [usize; 2], cells| {
        forward_cells(convolution, operands, bias, [image, y], range, cells, out);
    };
    alone([0, channels], 0..grouped.start);
    alone([0, channels], grouped.end..across.outputs);
    if whole_lanes < channels {
        alone([whole_lanes, channels], grouped.clone());
    }

    let rows = down.taps(y);
    let first_row = (image * size.height + down.input(y, rows.start)) * size.width;
    let taps = Taps {
        rows: rows.len(),
        columns: convolution.kernel,
        row_step: size.width * channels,
        channels,
        cell_step: convolution.stride * channels,
    };
    let bounds = bounds(convolution.activation);
    for first in (0..whole_lanes).step_by(LANES) {
        let weight = &weight[rows.start * convolution.kernel * channels + first..];
        for x in starts.clone() {
            let input = &input[(first_row + across.input(x, 0)) * channels + first..];
            let out = &mut out[x * channels + first..];
            assert!(taps.fit(input.len(), weight.len(), out.len()), "a row that reaches beyond its map");
            // SAFETY: all taps of all cells lie in the slices.
            unsafe { taps.sum(input.as_ptr(), weight.as_ptr(), &bias[first..], bounds, out.as_mut_ptr()) };
        }
    }
}

#[target_feature(enable = "avx512f")]
fn bounds(activation: Activation) -> [__m512; 2] {
    let (low, high) = match activation {
        Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
        Activation::Relu => (0.0, f32::INFINITY),
        Activation::Relu6 => (0.0, 6.0),
    };
    [_mm512_set1_ps(low), _mm512_set1_ps(high)]
}

/// Where the taps of cells side by side lie.
struct Taps {
    rows: usize,
    columns: usize,
    row_step: usize,
    channels: usize,
    cell_step: usize,
}

impl Taps {
    fn fit(&self, input: usize, weight: usize, out: usize) -> bool {
        let reach = (self.rows - 1) * self.row_step + (self.columns - 1) * self.channels;
        input >= reach + (TOGETHER - 1) * self.cell_step + LANES
            && weight >= (self.rows * self.columns - 1) * self.channels + LANES
            && out >= (TOGETHER - 1) * self.channels + LANES
    }

    /// Sums [`LANES`] channels of [`TOGETHER`] cells.
    ///
    /// # Safety
    ///
    /// [`Self::fit`] must hold for what lies behind the pointers.
    #[target_feature(enable = "avx512f")]
    unsafe fn sum(
        &self,
        input: *const f32,
        weight: *const f32,
        bias: &[f32],
        [low, high]: [__m512; 2],
        out: *mut f32,
    ) {
        // SAFETY: the caller's promise; the bias has as many numbers as the channels.
        unsafe {
            let mut sums = [_mm512_loadu_ps(bias.as_ptr()); TOGETHER];
            for i in 0..self.rows {
                for j in 0..self.columns {
                    let with = _mm512_loadu_ps(weight.add((i * self.columns + j) * self.channels));
                    let from = input.add(i * self.row_step + j * self.channels);
                    for (place, sum) in sums.iter_mut().enumerate() {
                        let cell = _mm512_loadu_ps(from.add(place * self.cell_step));
                        *sum = _mm512_fmadd_ps(cell, with, *sum);
                    }
                }
            }
            for (place, sum) in sums.into_iter().enumerate() {
                let bounded = _mm512_min_ps(_mm512_max_ps(sum, low), high);
                _mm512_storeu_ps(out.add(place * self.channels), bounded);
            }
        }
    }
}
