//! Where a frame lies in a student's input, and how boxes are mapped back.
//!
//! A [`Letterbox`] is computed from the frame's size and the student's [`ResizeSettings`]. Where nothing else is said,
//! the frame keeps its aspect ratio, fills one side of the input and is centred along the other. The resized frame has a
//! whole number of pixels, so its true scale differs slightly between the axes. Boxes are mapped with the true scales;
//! otherwise a box at the far edge of a large frame would be off by a few pixels.
//!
//! [`Preprocessor`] makes the input on a processor, in integers where the student allows it; [`Resampler`] is the float
//! arithmetic that the GPU's kernel is compared with.

mod cubic;
mod fixed_point;
mod float;
mod gaussian;
mod preprocessor;
mod settings;
mod taps;

use serde::{Deserialize, Serialize};

pub use float::{Channel, Resampler, Tables};
pub use preprocessor::Preprocessor;
pub use settings::{PADDING, ResizeFilter, ResizeMode, ResizeSettings};
pub use taps::{Side, Taps};

/// The placing of one frame in one input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Letterbox {
    frame_size: [usize; 2],
    /// Of the frame in the input; with [`ResizeMode::Pad`], of the frame with its padding.
    resized_size: [usize; 2],
    pad: [usize; 2],
    pixels_per_sample: [f64; 2],
}

impl Letterbox {
    /// The placing of a frame of `frame_size` in an input of `input_size`, both (width, height) in
    /// pixels. A side of 0 is taken as 1.
    pub fn new(frame_size: (usize, usize), input_size: (usize, usize)) -> Self {
        Self::placed(frame_size, input_size, ResizeMode::Letterbox)
    }

    /// The placing of a frame of `frame_size` (width, height), pixels, as a student wants it.
    pub fn of(frame_size: (usize, usize), settings: &ResizeSettings) -> Self {
        Self::placed(frame_size, settings.input_size, settings.mode)
    }

    fn placed(frame_size: (usize, usize), input_size: (usize, usize), mode: ResizeMode) -> Self {
        let frame_size = [frame_size.0.max(1), frame_size.1.max(1)];
        let input_size = [input_size.0.max(1), input_size.1.max(1)];
        let scale = ratio(input_size[0], frame_size[0]).min(ratio(input_size[1], frame_size[1]));
        let resized_size = match mode {
            ResizeMode::Letterbox => [0, 1].map(|axis| {
                let exact = frame_size[axis] as f64 * scale;
                (exact.round() as usize).clamp(1, input_size[axis])
            }),
            ResizeMode::Stretch | ResizeMode::Pad => input_size,
        };
        let pad = [0, 1].map(|axis| (input_size[axis] - resized_size[axis]) / 2);
        let pixels_per_sample = match mode {
            ResizeMode::Pad => [scale; 2],
            _ => [0, 1].map(|axis| ratio(resized_size[axis], frame_size[axis])),
        };
        Self { frame_size, resized_size, pad, pixels_per_sample }
    }

    /// The frame's (width, height), pixels.
    pub fn frame_size(&self) -> (usize, usize) {
        self.frame_size.into()
    }

    /// The (width, height) that the frame has in the input, pixels; with its padding where it is padded first.
    pub fn resized_size(&self) -> (usize, usize) {
        self.resized_size.into()
    }

    /// The columns left of the frame and the rows above it, pixels of the input. When the padding
    /// is odd, the right or the lower side has the one more.
    pub fn pad(&self) -> (usize, usize) {
        self.pad.into()
    }

    /// Pixels of the input for one pixel of the frame, along x and along y.
    pub fn scale(&self) -> [f32; 2] {
        self.pixels_per_sample.map(|scale| scale as f32)
    }

    /// A box (left, top, right, bottom) of the input in pixels of the frame, clipped to the frame.
    pub fn box_in_frame_from_input(&self, box_in_input: [f32; 4]) -> [f32; 4] {
        let scale = self.scale();
        std::array::from_fn(|side| {
            let axis = side % 2;
            let in_frame = (box_in_input[side] - self.pad[axis] as f32) / scale[axis];
            in_frame.clamp(0.0, self.frame_size[axis] as f32)
        })
    }

    /// A box (left, top, right, bottom) of the frame in pixels of the input.
    pub fn box_in_input_from_frame(&self, box_in_frame: [f32; 4]) -> [f32; 4] {
        let scale = self.scale();
        std::array::from_fn(|side| {
            let axis = side % 2;
            box_in_frame[side] * scale[axis] + self.pad[axis] as f32
        })
    }
}

fn ratio(numerator: usize, denominator: usize) -> f64 {
    numerator as f64 / denominator as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_frame_gets_bars_above_and_below() {
        let letterbox = Letterbox::new((1280, 720), (320, 320));
        assert_eq!(letterbox.resized_size(), (320, 180));
        assert_eq!(letterbox.pad(), (0, 70));
        assert_eq!(letterbox.box_in_input_from_frame([0.0, 0.0, 1280.0, 720.0]), [0.0, 70.0, 320.0, 250.0]);
        assert_eq!(
            letterbox.box_in_frame_from_input([80.0, 115.0, 160.0, 160.0]),
            [320.0, 180.0, 640.0, 360.0]
        );
    }

    #[test]
    fn a_tall_frame_gets_bars_left_and_right_with_the_odd_column_on_the_right() {
        let letterbox = Letterbox::new((100, 199), (320, 320));
        assert_eq!(letterbox.resized_size(), (161, 320));
        assert_eq!(letterbox.pad(), (79, 0));
    }

    #[test]
    fn a_small_frame_is_enlarged() {
        assert_eq!(Letterbox::new((16, 8), (320, 320)).resized_size(), (320, 160));
    }

    #[test]
    fn a_box_survives_the_way_there_and_back_in_frames_of_all_shapes() {
        for frame_size in [(1, 1), (3, 1000), (640, 480), (1921, 1079), (320, 320), (4000, 7)] {
            let letterbox = Letterbox::new(frame_size, (320, 192));
            let (width, height) = (frame_size.0 as f32, frame_size.1 as f32);
            let box_in_frame = [width * 0.125, height * 0.25, width, height];
            let back = letterbox.box_in_frame_from_input(letterbox.box_in_input_from_frame(box_in_frame));
            for (side, (expected, found)) in box_in_frame.into_iter().zip(back).enumerate() {
                let tolerance = 1e-3 * width.max(height).max(1.0);
                assert!(
                    (expected - found).abs() < tolerance,
                    "{frame_size:?} side {side}: {expected} {found}"
                );
            }
        }
    }

    #[test]
    fn a_frame_is_stretched_or_padded_where_its_student_wants_that() {
        let settings = |mode| ResizeSettings { mode, ..ResizeSettings::letterbox(320, 320) };
        let stretched = Letterbox::of((640, 160), &settings(ResizeMode::Stretch));
        assert_eq!(
            (stretched.resized_size(), stretched.pad(), stretched.scale()),
            ((320, 320), (0, 0), [0.5, 2.0])
        );
        let padded = Letterbox::of((640, 163), &settings(ResizeMode::Pad));
        assert_eq!((padded.pad(), padded.scale()), ((0, 0), [0.5, 0.5]));
        assert_eq!(padded.box_in_frame_from_input([10.0, 20.0, 320.0, 320.0]), [20.0, 40.0, 640.0, 163.0]);
        assert_eq!(
            Letterbox::of((640, 163), &settings(ResizeMode::Letterbox)),
            Letterbox::new((640, 163), (320, 320))
        );
    }

    #[test]
    fn a_box_in_the_padding_is_clipped_to_the_frame() {
        let letterbox = Letterbox::new((1280, 720), (320, 320));
        assert_eq!(letterbox.box_in_frame_from_input([-5.0, 0.0, 400.0, 320.0]), [0.0, 0.0, 1280.0, 720.0]);
    }

    #[test]
    fn a_frame_without_pixels_divides_nothing_by_zero() {
        let letterbox = Letterbox::new((0, 0), (320, 320));
        assert!(letterbox.box_in_frame_from_input([1.0; 4]).iter().all(|side| side.is_finite()));
    }
}
