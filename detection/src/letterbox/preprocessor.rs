//! Makes a student's input from a frame: resized, centred on grey, one plane a channel.
//!
//! Takes an RGB frame, rows of interleaved pixels, and writes the three planes `[3, H, W]` that the engine takes,
//! still one byte a channel, because the normalisation is in the student's graph.
//!
//! The resize is bilinear *with the kernel widened by the scale* (antialiased, as in PIL and TensorFlow and not in
//! OpenCV). A student that was trained with one and runs with the other loses accuracy silently, so this is the only
//! resize in the project.

use super::Letterbox;
use super::fixed_point::FixedPointResizer;

/// The grey around a letterboxed frame, in every channel.
pub const PADDING: u8 = 127;

/// Letterboxes frames into one student's input; keeps its tables and buffers while the frames keep their size.
pub struct Preprocessor {
    input_width: usize,
    input_height: usize,
    resizer: FixedPointResizer,
}

impl Preprocessor {
    /// For a student whose input is `input_width` by `input_height` pixels.
    pub fn new(input_width: usize, input_height: usize) -> Self {
        Self { input_width, input_height, resizer: FixedPointResizer::new() }
    }

    /// Bytes that [`Preprocessor::run`] writes: 3 · width · height of the input.
    pub fn output_len(&self) -> usize {
        3 * self.input_width * self.input_height
    }

    /// Letterboxes one frame.
    ///
    /// `rgb`: `height` rows of `width` interleaved pixels; `out`: three planes of the input's size,
    /// every byte of which is written.
    ///
    /// # Panics
    /// When `rgb` or `out` has another length than its size says, or the frame has no pixels:
    /// mistakes in the calling code.
    pub fn run(&mut self, rgb: &[u8], width: usize, height: usize, out: &mut [u8]) -> Letterbox {
        assert_eq!(rgb.len(), 3 * width * height, "an RGB frame of {width}x{height}");
        assert_eq!(out.len(), self.output_len(), "the planes of a student's input");
        assert!(!rgb.is_empty(), "a frame has at least one pixel");
        let letterbox = Letterbox::new((width, height), (self.input_width, self.input_height));
        if letterbox.resized_size() != (self.input_width, self.input_height) {
            out.fill(PADDING);
        }
        self.resizer.run(rgb, &letterbox, self.input_width, out);
        letterbox
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame whose pixels are given by a function of x and y.
    fn frame(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> Vec<u8> {
        (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| pixel(x, y)).collect()
    }

    #[test]
    fn channels_go_to_their_planes_and_the_rest_is_grey() {
        let rgb = frame(8, 4, |_, _| [10, 20, 30]);
        let mut out = vec![0; 3 * 16 * 16];
        let letterbox = Preprocessor::new(16, 16).run(&rgb, 8, 4, &mut out);
        assert_eq!((letterbox.resized_size(), letterbox.pad()), ((16, 8), (0, 4)));
        for (plane, colour) in out.chunks_exact(256).zip([10, 20, 30]) {
            let (bar, inside) = (&plane[..4 * 16], &plane[4 * 16..12 * 16]);
            assert!(bar.iter().all(|&x| x == PADDING));
            assert!(inside.iter().all(|&x| x == colour));
            assert!(plane[12 * 16..].iter().all(|&x| x == PADDING));
        }
    }

    #[test]
    fn a_frame_of_the_inputs_size_is_copied() {
        let rgb = frame(32, 32, |x, y| [(7 * x + 13 * y) as u8, (x * y) as u8, 255 - x as u8]);
        let mut out = vec![0; rgb.len()];
        Preprocessor::new(32, 32).run(&rgb, 32, 32, &mut out);
        for (channel, plane) in out.chunks_exact(32 * 32).enumerate() {
            assert!(rgb.iter().skip(channel).step_by(3).eq(plane));
        }
    }

    #[test]
    fn a_buffer_used_before_keeps_nothing_of_the_last_frame() {
        let mut preprocessor = Preprocessor::new(16, 16);
        let mut used = vec![0; 3 * 256];
        preprocessor.run(&frame(4, 8, |_, _| [200; 3]), 4, 8, &mut used);
        preprocessor.run(&frame(8, 4, |_, _| [1; 3]), 8, 4, &mut used);
        let mut fresh = vec![9; 3 * 256];
        Preprocessor::new(16, 16).run(&frame(8, 4, |_, _| [1; 3]), 8, 4, &mut fresh);
        assert_eq!(used, fresh);
    }

    #[test]
    fn a_fine_pattern_shrinks_to_its_mean_and_not_to_a_sample_of_it() {
        let rgb = frame(128, 128, |x, y| if (x + y) % 2 == 0 { [0; 3] } else { [200; 3] });
        let mut out = vec![0; 3 * 256];
        Preprocessor::new(16, 16).run(&rgb, 128, 128, &mut out);
        assert!(out.iter().all(|x| (99..=101).contains(x)), "{:?}", &out[..16]);
    }

    #[test]
    fn a_thing_lies_where_the_letterbox_says() {
        let rgb =
            frame(
                64,
                48,
                |x, y| if (16..32).contains(&x) && (8..24).contains(&y) { [255; 3] } else { [0; 3] },
            );
        let mut out = vec![0; 3 * 32 * 32];
        let letterbox = Preprocessor::new(32, 32).run(&rgb, 64, 48, &mut out);
        let [left, top, right, bottom] = letterbox.box_in_input_from_frame([16.0, 8.0, 32.0, 24.0]);
        for y in 0..32 {
            for x in 0..32 {
                let (centre_x, centre_y) = (x as f32 + 0.5, y as f32 + 0.5);
                let inside = centre_x > left && centre_x < right && centre_y > top && centre_y < bottom;
                assert_eq!(out[y * 32 + x] > 127, inside, "at {x}, {y}");
            }
        }
    }
}
