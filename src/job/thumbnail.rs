//! Scene changes: a thumbnail of each frame, compared with the last one.
//!
//! Takes frames and gives [`Thumbnail`]s of a few hundred grey pixels, two of which can be compared.
//!
//! Thumbnails are compared by their correlation and not by their difference. A lamp that is switched on changes every
//! pixel and leaves everything where it is; after a cut, or when the camera is turned, nothing is where it was, and
//! tracks by place must end.

use wordsight_detection::{FrameView, PixelFormat};

const COLUMNS: usize = 24;
const ROWS: usize = 18;
/// Below this correlation two frames show different scenes. In the demo's clip those of a moving shot have 0.5 and more, those on
/// the two sides of a cut 0.1 and less.
const LEAST_CORRELATION: f32 = 0.3;
/// A picture whose grey levels vary less than this, standard deviation, has nothing to be known by.
const LEAST_DEVIATION: f32 = 6.0;

/// A frame in grey, as small as can be: samples in the middles of a grid's cells.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    grey: [u8; COLUMNS * ROWS],
    mean: f32,
    deviation: f32,
}

impl Default for Thumbnail {
    fn default() -> Self {
        Self { grey: [0; COLUMNS * ROWS], mean: 0.0, deviation: 0.0 }
    }
}

impl Thumbnail {
    /// Of a frame; where it lacks bytes, of nothing.
    pub fn of(frame: &FrameView<'_>) -> Self {
        let mut grey = [0; COLUMNS * ROWS];
        // Green stands for grey where there are colours: it is most of it.
        let (step, first) = match frame.format {
            PixelFormat::Rgb => (3, 1),
            PixelFormat::Yuyv => (2, 0),
            PixelFormat::Uyvy => (2, 1),
            PixelFormat::Nv12 | PixelFormat::I420 | PixelFormat::Grey => (1, 0),
        };
        for (place, sample) in grey.iter_mut().enumerate() {
            let x = (2 * (place % COLUMNS) + 1) * frame.width / (2 * COLUMNS);
            let y = (2 * (place / COLUMNS) + 1) * frame.height / (2 * ROWS);
            *sample = frame.bytes.get(step * (y * frame.width + x) + first).copied().unwrap_or(0);
        }
        let count = (COLUMNS * ROWS) as f32;
        let mean = grey.iter().map(|grey| f32::from(*grey)).sum::<f32>() / count;
        let variance = grey.iter().map(|grey| (f32::from(*grey) - mean).powi(2)).sum::<f32>() / count;
        Self { grey, mean, deviation: variance.sqrt() }
    }

    /// Whether this is of another scene.
    pub fn is_cut_from(&self, before: &Self) -> bool {
        if self.deviation.min(before.deviation) < LEAST_DEVIATION {
            return false;
        }
        let products = self.grey.iter().zip(&before.grey);
        let products =
            products.map(|(now, then)| (f32::from(*now) - self.mean) * (f32::from(*then) - before.mean));
        let covariance = products.sum::<f32>() / (COLUMNS * ROWS) as f32;
        covariance < LEAST_CORRELATION * self.deviation * before.deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scene of its own, seen from so many pixels further to the right, so bright and with so much noise.
    fn frame(scene: u32, shift: usize, brightness: f32, noise: u32) -> Vec<u8> {
        let (width, height) = (320, 240);
        let mut chance = 1_u32;
        let mut bytes = Vec::new();
        for place in 0..width * height {
            let (x, y) = ((place % width + shift) as f32, (place / width) as f32);
            let phase = scene as f32;
            let wave = (x * (0.011 + 0.004 * phase) + phase).sin()
                + (y * (0.02 + 0.003 * phase) + 2.0 * phase).cos();
            chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (chance >> 16) % (noise + 1);
            bytes.push(((60.0 + 25.0 * wave) * brightness) as u8 + noise as u8);
        }
        bytes
    }

    fn thumbnail(bytes: &[u8]) -> Thumbnail {
        let (width, height, format) = (320, 240, PixelFormat::Grey);
        Thumbnail::of(&FrameView { bytes, width, height, format, encoding: Default::default() })
    }

    #[test]
    fn another_scene_is_a_cut_and_what_happens_in_one_is_not() {
        let before = thumbnail(&frame(1, 0, 1.0, 10));
        for (name, bytes, is_cut) in [
            ("noise", frame(1, 0, 1.0, 25), false),
            ("a lamp that is switched on", frame(1, 0, 2.0, 10), false),
            ("a camera that shakes", frame(1, 20, 1.0, 10), false),
            ("another scene", frame(2, 0, 1.0, 10), true),
            ("nothing to be seen", vec![7; 320 * 240], false),
        ] {
            assert_eq!(thumbnail(&bytes).is_cut_from(&before), is_cut, "{name}");
        }
    }

    #[test]
    fn every_format_gives_the_same_grey() {
        let grey = frame(2, 0, 1.0, 0);
        let expected = thumbnail(&grey);
        let coloured = |step: usize, first: usize| -> Vec<u8> {
            grey.iter()
                .flat_map(|grey| (0..step).map(move |place| if place == first { *grey } else { 128 }))
                .collect()
        };
        for (format, bytes) in [
            (PixelFormat::Rgb, coloured(3, 1)),
            (PixelFormat::Yuyv, coloured(2, 0)),
            (PixelFormat::Uyvy, coloured(2, 1)),
            (PixelFormat::Nv12, [grey.clone(), vec![128; 160 * 240]].concat()),
        ] {
            let view =
                FrameView { bytes: &bytes, width: 320, height: 240, format, encoding: Default::default() };
            assert_eq!(Thumbnail::of(&view).grey, expected.grey, "{format:?}");
        }
    }

    #[test]
    fn a_frame_without_its_bytes_is_of_nothing_and_no_cut() {
        let view = FrameView {
            bytes: &[],
            width: 640,
            height: 480,
            format: PixelFormat::Rgb,
            encoding: Default::default(),
        };
        assert!(!Thumbnail::of(&view).is_cut_from(&thumbnail(&frame(1, 0, 1.0, 0))));
    }
}
