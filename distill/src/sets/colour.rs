//! Brightness, contrast, saturation and hue, all in one pass over the pixels.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Bits behind the point of the fixed-point numbers.
const BITS: u32 = 12;
/// How red, green and blue make grey (Rec. 601).
const GREY: [f32; 3] = [0.299, 0.587, 0.114];

/// A linear change of colours.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ColourChange {
    matrix: [[i32; 3]; 3],
    offset: [i32; 3],
}

impl ColourChange {
    /// A random change; `strength` 1 is what photographs of one thing differ by, 0 changes nothing.
    pub fn random(strength: f32, rng: &mut ChaCha8Rng) -> Self {
        let mut draw = |most: f32| strength * rng.random_range(-most..=most);
        let (brightness, contrast) = (255.0 * draw(0.12), draw(0.25).exp());
        let (saturation, hue) = (draw(0.45).exp(), draw(0.2));
        Self::new(brightness, contrast, saturation, hue)
    }

    /// `brightness`: added grey levels; `contrast` and `saturation`: factors; `hue`: radians.
    fn new(brightness: f32, contrast: f32, saturation: f32, hue: f32) -> Self {
        // A turn about the grey axis keeps what is grey.
        let (sin, cos) = hue.sin_cos();
        let third = (1.0 - cos) / 3.0;
        let root = sin / 3.0_f32.sqrt();
        let turn = [
            [cos + third, third - root, third + root],
            [third + root, cos + third, third - root],
            [third - root, third + root, cos + third],
        ];
        let matrix = std::array::from_fn(|row| {
            std::array::from_fn(|column| {
                let grey: f32 = (0..3).map(|k| GREY[k] * turn[k][column]).sum();
                let colour = grey + saturation * (turn[row][column] - grey);
                fixed(contrast * colour)
            })
        });
        // Half a step more, so that the shift rounds.
        let offset = fixed(brightness + 127.5 * (1.0 - contrast)) + (1 << (BITS - 1));
        Self { matrix, offset: [offset; 3] }
    }

    /// Changes a row of interleaved pixels.
    pub fn apply(&self, row: &mut [u8]) {
        let [a, b, c] = self.matrix;
        let [p, q, r] = self.offset;
        for pixel in row.as_chunks_mut::<3>().0 {
            let [x, y, z] = pixel.map(i32::from);
            let mixed = |[u, v, w]: [i32; 3], offset: i32| {
                ((u * x + v * y + w * z + offset) >> BITS).clamp(0, 255) as u8
            };
            *pixel = [mixed(a, p), mixed(b, q), mixed(c, r)];
        }
    }
}

fn fixed(value: f32) -> i32 {
    (value * (1 << BITS) as f32).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_change_changes_nothing_and_grey_stays_grey() {
        let mut row: Vec<u8> = (0..=255).flat_map(|v| [v, 255 - v, v / 2]).collect();
        let before = row.clone();
        ColourChange::new(0.0, 1.0, 1.0, 0.0).apply(&mut row);
        assert_eq!(row, before);
        let mut grey: Vec<u8> = (0..=255).flat_map(|v| [v; 3]).collect();
        ColourChange::new(0.0, 1.0, 1.4, 0.2).apply(&mut grey);
        for (v, pixel) in grey.as_chunks::<3>().0.iter().enumerate() {
            assert!(pixel.iter().all(|c| c.abs_diff(v as u8) <= 1), "grey {v} became {pixel:?}");
        }
    }

    #[test]
    fn light_is_added_contrast_is_about_the_middle_and_saturation_spreads_colours() {
        let change = |brightness, contrast, saturation| {
            let mut pixel = [200, 100, 100];
            ColourChange::new(brightness, contrast, saturation, 0.0).apply(&mut pixel);
            pixel
        };
        assert_eq!(change(20.0, 1.0, 1.0), [220, 120, 120]);
        assert_eq!(change(0.0, 2.0, 1.0), [255, 73, 73]);
        let [r, g, b] = change(0.0, 1.0, 0.5);
        assert!(r < 200 && g > 100 && g == b, "{r} {g} {b}");
    }
}
