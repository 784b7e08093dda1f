//! Doubles a map's height and width, repeating every cell four times.

use rayon::prelude::*;

use super::convolution::Size;
use super::unwritten;

/// The enlarged map.
pub fn forward(input: &[f32], size: Size) -> Vec<f32> {
    let row = size.width * size.channels;
    let mut out = unwritten(4 * size.len());
    out.par_chunks_mut(4 * row).zip(input.par_chunks(row)).for_each(|(out, input)| {
        let (first, second) = out.split_at_mut(2 * row);
        for (out, cell) in first.chunks_exact_mut(2 * size.channels).zip(input.chunks_exact(size.channels)) {
            out[..size.channels].copy_from_slice(cell);
            out[size.channels..].copy_from_slice(cell);
        }
        second.copy_from_slice(first);
    });
    out
}

/// The gradient of the small map, of these sizes, from the large one's.
pub fn backward(gradient: &[f32], size: Size) -> Vec<f32> {
    let row = size.width * size.channels;
    let mut out = unwritten(size.len());
    out.par_chunks_mut(row).zip(gradient.par_chunks(4 * row)).for_each(|(out, gradient)| {
        let (first, second) = gradient.split_at(2 * row);
        let pairs = first.chunks_exact(2 * size.channels).zip(second.chunks_exact(2 * size.channels));
        for (out, (a, b)) in out.chunks_exact_mut(size.channels).zip(pairs) {
            for place in 0..size.channels {
                let next = place + size.channels;
                out[place] = a[place] + a[next] + b[place] + b[next];
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_becomes_four_and_gets_their_gradients() {
        let size = Size { images: 1, height: 1, width: 2, channels: 2 };
        let large = forward(&[1.0, 2.0, 3.0, 4.0], size);
        let row = [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0];
        assert_eq!(large, [row, row].concat());
        assert_eq!(backward(&large, size), [4.0, 8.0, 12.0, 16.0]);
    }
}
