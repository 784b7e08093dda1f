//! Draws a [`Picture`]'s shapes into rows of RGB, and writes a PNG.
//!
//! Edges are smooth: a pixel is covered by how far its centre is from a shape's edge. A dot on a dot is darker, so that
//! density is seen; in the SVG, where all dots of a colour are one path, it isn't.

use std::io::{self, Write};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use noto_sans_mono_bitmap::{FontWeight, get_raster};

use super::picture::{Anchor, Colour, Picture, Point, Shape, Text, letter_width};

/// Writes a picture as PNG.
pub fn write_png(picture: &Picture, output: &mut dyn Write) -> io::Result<()> {
    let canvas = Canvas::of(picture);
    let (width, height) = (picture.width as u32, picture.height as u32);
    PngEncoder::new_with_quality(output, CompressionType::Best, FilterType::Adaptive)
        .write_image(&canvas.rgb, width, height, ExtendedColorType::Rgb8)
        .map_err(io::Error::other)
}

struct Canvas {
    rgb: Vec<u8>,
    width: usize,
    height: usize,
}

impl Canvas {
    fn of(picture: &Picture) -> Self {
        let (width, height) = (picture.width, picture.height);
        let mut canvas = Self { rgb: vec![255; 3 * width * height], width, height };
        picture.shapes.iter().for_each(|shape| canvas.draw(shape));
        canvas
    }

    fn draw(&mut self, shape: &Shape) {
        match shape {
            Shape::Area(area, colour, opacity) => self.area(*area, *colour, *opacity),
            Shape::Line(points, width, colour) => {
                points.windows(2).for_each(|ends| self.stroke(ends[0], ends[1], width / 2.0, *colour, 1.0));
            }
            Shape::Dots(points, radius, colour, opacity) => {
                points.iter().for_each(|point| self.stroke(*point, *point, *radius, *colour, *opacity));
            }
            Shape::Text(text) => self.text(text),
        }
    }

    fn area(&mut self, [left, top, right, bottom]: [f64; 4], colour: Colour, opacity: f64) {
        let covered =
            |from: f64, to: f64, at: usize| (to.min(at as f64 + 1.0) - from.max(at as f64)).clamp(0.0, 1.0);
        for y in pixels(top, bottom, self.height) {
            for x in pixels(left, right, self.width) {
                let part = covered(left, right, x) * covered(top, bottom, y);
                self.blend(x, y, colour, opacity * part);
            }
        }
    }

    /// All that is nearer than `radius` to the line between two points, or to the one point that they are.
    fn stroke(&mut self, from: Point, to: Point, radius: f64, colour: Colour, opacity: f64) {
        let reach = radius + 0.5;
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx * dx + dy * dy;
        for y in pixels(from.1.min(to.1) - reach, from.1.max(to.1) + reach, self.height) {
            for x in pixels(from.0.min(to.0) - reach, from.0.max(to.0) + reach, self.width) {
                let (px, py) = (x as f64 + 0.5 - from.0, y as f64 + 0.5 - from.1);
                let along = if length > 0.0 { ((px * dx + py * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
                let distance = (px - along * dx).hypot(py - along * dy);
                self.blend(x, y, colour, opacity * (reach - distance).clamp(0.0, 1.0));
            }
        }
    }

    fn text(&mut self, Text { at, text, size, colour, anchor }: &Text) {
        let step = letter_width(*size);
        let width = step * text.chars().count() as f64;
        let start = at.0
            - match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => width / 2.0,
                Anchor::End => width,
            };
        let top = (at.1 - size.val() as f64 / 2.0).round();
        let raster = |letter| get_raster(letter, FontWeight::Bold, *size);
        for (place, letter) in text.chars().enumerate() {
            let Some(glyph) = raster(letter).or_else(|| raster('\u{FFFD}')).or_else(|| raster('?')) else {
                continue;
            };
            let left = (start + step * place as f64).round();
            for (y, row) in glyph.rows().enumerate() {
                for (x, opacity) in row.iter().enumerate().filter(|(_, opacity)| **opacity > 0) {
                    let (x, y) = (left + x as f64, top + y as f64);
                    if x >= 0.0 && y >= 0.0 {
                        self.blend(x as usize, y as usize, *colour, f64::from(*opacity) / 255.0);
                    }
                }
            }
        }
    }

    fn blend(&mut self, x: usize, y: usize, colour: Colour, opacity: f64) {
        if x >= self.width || y >= self.height {
            return;
        }
        let start = 3 * (y * self.width + x);
        for (under, over) in self.rgb[start..start + 3].iter_mut().zip(colour) {
            *under = (f64::from(over) * opacity + f64::from(*under) * (1.0 - opacity)).round() as u8;
        }
    }
}

/// The pixels between two places, as far as they are in the picture; none for what isn't a number.
fn pixels(from: f64, to: f64, end: usize) -> std::ops::Range<usize> {
    // Casts of what is negative or no number give 0.
    from.floor() as usize..(to.ceil() as usize).min(end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use noto_sans_mono_bitmap::RasterHeight;

    use super::*;

    fn drawn(shape: Shape) -> Canvas {
        Canvas::of(&Picture { width: 20, height: 20, shapes: vec![shape] })
    }

    fn pixel(canvas: &Canvas, x: usize, y: usize) -> u8 {
        canvas.rgb[3 * (y * canvas.width + x)]
    }

    #[test]
    fn an_areas_edge_covers_pixels_by_part() {
        let canvas = drawn(Shape::Area([2.0, 2.0, 4.5, 4.0], [0; 3], 1.0));
        assert_eq!([1, 2, 3, 4, 5].map(|x| pixel(&canvas, x, 3)), [255, 0, 0, 128, 255]);
        assert_eq!([1, 2, 3, 4].map(|y| pixel(&canvas, 2, y)), [255, 0, 0, 255]);
    }

    #[test]
    fn a_line_has_its_width_and_ends_where_it_ends() {
        let canvas = drawn(Shape::Line(vec![(5.0, 10.0), (15.0, 10.0)], 2.0, [0; 3]));
        assert_eq!([8, 9, 10, 11].map(|y| pixel(&canvas, 10, y)), [255, 0, 0, 255]);
        assert_eq!([2, 17].map(|x| pixel(&canvas, x, 10)), [255, 255]);
    }

    #[test]
    fn dots_on_one_another_are_darker() {
        let dots = |count| pixel(&drawn(Shape::Dots(vec![(10.5, 10.5); count], 2.0, [0; 3], 0.5)), 10, 10);
        assert_eq!([dots(1), dots(2)], [128, 64]);
    }

    #[test]
    fn text_stands_where_its_anchor_says() {
        let ink = |anchor| {
            let text = Text {
                at: (10.0, 10.0),
                text: "H".into(),
                size: RasterHeight::Size16,
                colour: [0; 3],
                anchor,
            };
            let canvas = drawn(Shape::Text(text));
            let has_ink = |x: &usize| (0..20).any(|y| pixel(&canvas, *x, y) < 128);
            (0..20).filter(has_ink).map(|x| x as f64).sum::<f64>() / (0..20).filter(has_ink).count() as f64
        };
        assert!(ink(Anchor::End) < 10.0 && ink(Anchor::Start) > 10.0);
        assert!((ink(Anchor::Middle) - 9.5).abs() <= 1.0);
    }

    #[test]
    fn what_lies_outside_is_clipped() {
        for far in [-1e9, -30.0, 19.9, 1e9, f64::NAN] {
            drawn(Shape::Area([far, far, far + 10.0, far + 10.0], [0; 3], 1.0));
            drawn(Shape::Dots(vec![(far, far)], 3.0, [0; 3], 1.0));
            let text = Text {
                at: (far, far),
                text: "é☕".into(),
                size: RasterHeight::Size32,
                colour: [0; 3],
                anchor: Anchor::Middle,
            };
            drawn(Shape::Text(text));
        }
    }
}
