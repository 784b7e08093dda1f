//! Resizes RGB by the crate `fast_image_resize`, whose code is made for each pixel type where it is called: here once, and
//! not in every crate that resizes.

use fast_image_resize::images::{TypedCroppedImageMut, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{ResizeAlg, ResizeOptions};
use image::RgbImage;

pub use fast_image_resize::FilterType;

/// Why a picture can't be resized: a size of nothing, or a part that isn't all in the picture.
#[derive(Debug, thiserror::Error)]
#[error("a picture can't be resized: {0}")]
pub struct ResizeError(String);

/// Resizes pictures, and keeps its buffers from one to the next.
#[derive(Default)]
pub struct Resizer(fast_image_resize::Resizer);

/// Rows of RGB that are drawn into.
pub struct Canvas<'a> {
    /// `[height, width, 3]`.
    pub pixels: &'a mut [u8],
    /// Width and height in pixels.
    pub size: [u32; 2],
}

impl Resizer {
    /// A whole picture at another size, in pixels.
    ///
    /// # Errors
    /// See [`ResizeError`].
    pub fn resize(
        &mut self,
        picture: &RgbImage,
        size: [u32; 2],
        filter: FilterType,
    ) -> Result<RgbImage, ResizeError> {
        let [width, height] = size;
        let mut resized = RgbImage::new(width, height);
        let whole = [0.0, 0.0, f64::from(picture.width()), f64::from(picture.height())];
        let canvas = Canvas { pixels: &mut resized, size };
        self.draw(picture, whole, filter, canvas, [0, 0, width, height])?;
        Ok(resized)
    }

    /// Draws a part `[x, y, width, height]` of a picture into a rectangle `[x, y, width, height]` of a canvas. Where the
    /// part is made smaller, pixels beside it count at its border, as in Pillow's `resize` with a `box`.
    ///
    /// # Errors
    /// See [`ResizeError`].
    pub fn draw(
        &mut self,
        picture: &RgbImage,
        part: [f64; 4],
        filter: FilterType,
        canvas: Canvas<'_>,
        rectangle: [u32; 4],
    ) -> Result<(), ResizeError> {
        let source = TypedImageRef::<U8x3>::from_buffer(picture.width(), picture.height(), picture.as_raw());
        let source = source.map_err(refused)?;
        let [width, height] = canvas.size;
        let target = TypedImage::<U8x3>::from_buffer(width, height, canvas.pixels).map_err(refused)?;
        let [left, top, width, height] = rectangle;
        let mut target = TypedCroppedImageMut::new(target, left, top, width, height).map_err(refused)?;
        let [x, y, width, height] = part;
        let options =
            ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(x, y, width, height);
        self.0.resize_typed(&source, &mut target, &options).map_err(refused)
    }
}

fn refused(error: impl std::fmt::Display) -> ResizeError {
    ResizeError(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_part_is_drawn_into_its_rectangle_and_nowhere_else() {
        // White from the third column on: made half as wide, a pixel also sees two columns beside the part.
        let picture = RgbImage::from_fn(8, 4, |x, _| image::Rgb([if x < 2 { 0 } else { 255 }; 3]));
        let mut pixels = vec![7; 3 * 6 * 4];
        let canvas = Canvas { pixels: &mut pixels, size: [6, 4] };
        Resizer::default()
            .draw(&picture, [4.0, 0.0, 4.0, 4.0], FilterType::Bilinear, canvas, [1, 1, 2, 2])
            .unwrap();
        for (place, pixel) in pixels.as_chunks::<3>().0.iter().enumerate() {
            let (x, y) = (place % 6, place / 6);
            let is_inside = (1..3).contains(&x) && (1..3).contains(&y);
            assert_eq!(*pixel, [if is_inside { 255 } else { 7 }; 3], "{x} {y}");
        }
    }

    #[test]
    fn what_is_not_in_the_picture_or_on_the_canvas_is_refused() {
        let picture = RgbImage::new(8, 4);
        let draw = |part, rectangle| {
            let mut pixels = vec![0; 3 * 6 * 4];
            let canvas = Canvas { pixels: &mut pixels, size: [6, 4] };
            Resizer::default().draw(&picture, part, FilterType::Bilinear, canvas, rectangle)
        };
        assert!(draw([0.0, 0.0, 8.0, 4.0], [0, 0, 6, 4]).is_ok());
        assert!(draw([4.0, 0.0, 8.0, 4.0], [0, 0, 6, 4]).is_err());
        assert!(draw([0.0, 0.0, 8.0, 4.0], [1, 0, 6, 4]).is_err());
        let canvas = Canvas { pixels: &mut [0; 3], size: [6, 4] };
        let whole = [0.0, 0.0, 8.0, 4.0];
        assert!(
            Resizer::default().draw(&picture, whole, FilterType::Bilinear, canvas, [0, 0, 6, 4]).is_err()
        );
    }
}
