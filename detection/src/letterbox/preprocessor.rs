//! Makes a student's input from a frame: resized, centred on grey, one plane a channel.
//!
//! Takes an RGB frame, rows of interleaved pixels, and writes the three planes `[3, H, W]` that the engine takes,
//! still one byte a channel, because the normalisation is in the student's graph.
//!
//! Where a student doesn't ask for another filter, the resize is bilinear *with the kernel widened by the scale* (antialiased, as in PIL and TensorFlow and not in
//! OpenCV). A student that was trained with one and runs with the other loses accuracy silently, so this is the only
//! place in the project where frames are resized.

use super::cubic::CubicResizer;
use super::fixed_point::FixedPointResizer;
use super::gaussian::GaussianResizer;
use super::{Letterbox, Resampler, ResizeFilter, ResizeMode, ResizeSettings};
use crate::FrameView;

/// Resizes frames into one student's input; keeps its tables and buffers while the frames keep their size.
pub struct Preprocessor {
    settings: ResizeSettings,
    arithmetic: Arithmetic,
}

/// In what a student's frames are resized.
enum Arithmetic {
    /// Integers: what our students were trained and are evaluated with.
    Integers(FixedPointResizer),
    /// Pillow's integers.
    Cubic(CubicResizer),
    /// OWLv2's processor's floats.
    Gaussian(GaussianResizer),
    /// The weights of cameras' formats: no program has other ones to be equal to.
    Floats(Box<Resampler>),
}

impl Preprocessor {
    /// For a student that wants frames so.
    pub fn new(settings: ResizeSettings) -> Self {
        let arithmetic = match (settings.filter, settings.mode) {
            (ResizeFilter::Bilinear, ResizeMode::Letterbox | ResizeMode::Stretch) => {
                Arithmetic::Integers(FixedPointResizer::new())
            }
            (ResizeFilter::Bicubic, ResizeMode::Letterbox | ResizeMode::Stretch) => {
                Arithmetic::Cubic(CubicResizer::new())
            }
            (ResizeFilter::Gaussian, _) => Arithmetic::Gaussian(GaussianResizer::default()),
            (_, ResizeMode::Pad) => Arithmetic::Floats(Box::new(Resampler::new(settings))),
        };
        Self { settings, arithmetic }
    }

    /// Bytes that [`Preprocessor::run`] writes: 3 · width · height of the input.
    pub fn output_len(&self) -> usize {
        self.settings.input_len()
    }

    /// Resizes one frame.
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
        let letterbox = Letterbox::of((width, height), &self.settings);
        if letterbox.resized_size() != self.settings.input_size {
            self.settings.fill(out);
        }
        let input_width = self.settings.input_size.0;
        match &mut self.arithmetic {
            Arithmetic::Integers(resizer) => resizer.run(rgb, &letterbox, input_width, out),
            Arithmetic::Cubic(resizer) => resizer.run(rgb, &letterbox, input_width, out),
            Arithmetic::Gaussian(resizer) => resizer.run(rgb, &letterbox, &self.settings, out),
            Arithmetic::Floats(resampler) => {
                resampler.run(&FrameView::rgb(rgb, width, height), out);
            }
        }
        letterbox
    }
}

#[cfg(test)]
mod tests {
    use super::super::PADDING;
    use super::*;

    fn preprocessor(width: usize, height: usize) -> Preprocessor {
        Preprocessor::new(ResizeSettings::letterbox(width, height))
    }

    /// A frame whose pixels are given by a function of x and y.
    fn frame(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> Vec<u8> {
        (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| pixel(x, y)).collect()
    }

    #[test]
    fn channels_go_to_their_planes_and_the_rest_is_grey() {
        let rgb = frame(8, 4, |_, _| [10, 20, 30]);
        let mut out = vec![0; 3 * 16 * 16];
        let letterbox = preprocessor(16, 16).run(&rgb, 8, 4, &mut out);
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
        preprocessor(32, 32).run(&rgb, 32, 32, &mut out);
        for (channel, plane) in out.chunks_exact(32 * 32).enumerate() {
            assert!(rgb.iter().skip(channel).step_by(3).eq(plane));
        }
    }

    #[test]
    fn a_buffer_used_before_keeps_nothing_of_the_last_frame() {
        let mut one = preprocessor(16, 16);
        let mut used = vec![0; 3 * 256];
        one.run(&frame(4, 8, |_, _| [200; 3]), 4, 8, &mut used);
        one.run(&frame(8, 4, |_, _| [1; 3]), 8, 4, &mut used);
        let mut fresh = vec![9; 3 * 256];
        preprocessor(16, 16).run(&frame(8, 4, |_, _| [1; 3]), 8, 4, &mut fresh);
        assert_eq!(used, fresh);
    }

    #[test]
    fn a_fine_pattern_shrinks_to_its_mean_and_not_to_a_sample_of_it() {
        let rgb = frame(128, 128, |x, y| if (x + y) % 2 == 0 { [0; 3] } else { [200; 3] });
        let mut out = vec![0; 3 * 256];
        preprocessor(16, 16).run(&rgb, 128, 128, &mut out);
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
        let letterbox = preprocessor(32, 32).run(&rgb, 64, 48, &mut out);
        let [left, top, right, bottom] = letterbox.box_in_input_from_frame([16.0, 8.0, 32.0, 24.0]);
        for y in 0..32 {
            for x in 0..32 {
                let (centre_x, centre_y) = (x as f32 + 0.5, y as f32 + 0.5);
                let inside = centre_x > left && centre_x < right && centre_y > top && centre_y < bottom;
                assert_eq!(out[y * 32 + x] > 127, inside, "at {x}, {y}");
            }
        }
    }

    #[test]
    fn a_padded_frame_lies_at_the_upper_left_and_blends_with_its_colour() {
        let padding = [10, 20, 30];
        let settings = ResizeSettings { mode: ResizeMode::Pad, padding, ..ResizeSettings::letterbox(16, 16) };
        for filter in [ResizeFilter::Bilinear, ResizeFilter::Bicubic, ResizeFilter::Gaussian] {
            let mut preprocessor = Preprocessor::new(ResizeSettings { filter, ..settings });
            let rgb = frame(40, 25, |_, _| [200, 100, 50]);
            let mut out = vec![0; 3 * 256];
            preprocessor.run(&rgb, 40, 25, &mut out);
            for ((plane, colour), padding) in out.chunks_exact(256).zip([200, 100, 50]).zip(padding) {
                let column: Vec<u8> = (0..16).map(|row| plane[16 * row + 8]).collect();
                assert_eq!(column[..7], [colour; 7], "{filter:?}");
                // The frame ends at 10 rows exactly.
                assert!(column[9] <= colour && column[10] >= padding.min(column[10]), "{filter:?}");
                assert_eq!(column[13..], [padding; 3], "{filter:?}");
                assert!(plane.chunks_exact(16).all(|row| row.iter().all(|pixel| *pixel == row[0])));
            }
        }
    }

    #[test]
    fn a_stretched_frame_fills_the_input() {
        let settings = ResizeSettings { mode: ResizeMode::Stretch, ..ResizeSettings::letterbox(16, 16) };
        for filter in [ResizeFilter::Bilinear, ResizeFilter::Bicubic, ResizeFilter::Gaussian] {
            let mut out = vec![0; 3 * 256];
            let mut preprocessor = Preprocessor::new(ResizeSettings { filter, ..settings });
            let placed =
                preprocessor.run(&frame(40, 10, |x, _| [if x < 20 { 0 } else { 240 }; 3]), 40, 10, &mut out);
            assert_eq!(placed.scale(), [0.4, 1.6]);
            for row in out.chunks_exact(16) {
                assert_eq!((row[..6].to_vec(), row[10..].to_vec()), (vec![0; 6], vec![240; 6]), "{filter:?}");
            }
        }
    }
}
