//! A picture as a list of shapes, and its SVG.
//!
//! The shapes are in order, from the bottom to the top. `raster` makes pixels of the same list, so that a picture is
//! laid out once. A plotting library with two backends would still need a font of our own in the second, for the device
//! program has only the bitmaps that it writes into photographs.
//!
//! Positions are in pixels of the raster, and the SVG uses the same. It scales; its text is set in the same width of
//! letters, whatever font the viewer has.

use std::fmt::{self, Write};

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster_width};

/// Red, green, blue.
pub type Colour = [u8; 3];
/// x to the right, y down.
pub type Point = (f64, f64);

/// Something to draw.
#[derive(Debug, Clone)]
pub enum Shape {
    /// An area: left, top, right, bottom.
    Area([f64; 4], Colour, f64),
    /// A line through points, of a width.
    Line(Vec<Point>, f64, Colour),
    /// Dots of a radius.
    Dots(Vec<Point>, f64, Colour, f64),
    /// A line of text.
    Text(Text),
}

/// A line of text.
#[derive(Debug, Clone)]
pub struct Text {
    /// The middle of its height, and what `anchor` says of its width.
    pub at: Point,
    /// What it says.
    pub text: String,
    /// How large.
    pub size: RasterHeight,
    /// In which colour.
    pub colour: Colour,
    /// Where `at` is.
    pub anchor: Anchor,
}

/// The part of a text that its place is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It is centred.
    Middle,
    /// It ends there.
    End,
}

/// The width of a letter, pixels.
pub fn letter_width(size: RasterHeight) -> f64 {
    get_raster_width(FontWeight::Bold, size) as f64
}

/// Shapes on white.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// From the bottom to the top.
    pub shapes: Vec<Shape>,
}

impl Picture {
    /// The picture as SVG.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        // Writing to a string can't fail.
        let _ = self.write_svg(&mut svg);
        svg
    }

    fn write_svg(&self, svg: &mut String) -> fmt::Result {
        let (width, height) = (self.width, self.height);
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"'Noto Sans Mono','DejaVu Sans Mono',monospace\" font-weight=\"600\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>"
        )?;
        self.shapes.iter().try_for_each(|shape| shape.write_svg(svg))?;
        svg.write_str("</svg>\n")
    }
}

impl Shape {
    fn write_svg(&self, svg: &mut String) -> fmt::Result {
        match self {
            Self::Area([left, top, right, bottom], colour, opacity) => {
                let (width, height) = (right - left, bottom - top);
                writeln!(
                    svg,
                    "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{}\" \
                     fill-opacity=\"{opacity}\"/>",
                    hex(*colour)
                )
            }
            Self::Line(points, width, colour) => {
                write!(
                    svg,
                    "<path fill=\"none\" stroke-linejoin=\"round\" stroke=\"{}\" stroke-width=\"{width}\" d=\"",
                    hex(*colour)
                )?;
                for (at, (x, y)) in points.iter().enumerate() {
                    write!(svg, "{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' })?;
                }
                writeln!(svg, "\"/>")
            }
            Self::Dots(points, radius, colour, opacity) => {
                // Lines of no length with round ends: a tenth of the text of as many circles.
                write!(
                    svg,
                    "<path stroke=\"{}\" stroke-width=\"{}\" stroke-opacity=\"{opacity}\" stroke-linecap=\"round\" d=\"",
                    hex(*colour),
                    2.0 * radius
                )?;
                points.iter().try_for_each(|(x, y)| write!(svg, "M{x:.1} {y:.1}h0"))?;
                writeln!(svg, "\"/>")
            }
            Self::Text(text) => text.write_svg(svg),
        }
    }
}

impl Text {
    fn write_svg(&self, svg: &mut String) -> fmt::Result {
        let Self { at: (x, y), text, size, colour, anchor } = self;
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        // Letters of a monospaced font are 0.6 of its size wide, and the middle of small ones lies 0.35 above the
        // line that they stand on.
        let size = letter_width(*size) / 0.6;
        let y = y + 0.35 * size;
        write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size:.1}\" text-anchor=\"{anchor}\" fill=\"{}\">",
            hex(*colour)
        )?;
        for letter in text.chars() {
            match letter {
                '&' => svg.push_str("&amp;"),
                '<' => svg.push_str("&lt;"),
                '>' => svg.push_str("&gt;"),
                // XML has no way to write these at all.
                letter if letter.is_control() => svg.push('\u{FFFD}'),
                letter => svg.push(letter),
            }
        }
        writeln!(svg, "</text>")
    }
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_writes_cannot_break_the_svg() {
        let text = Text {
            at: (1.0, 2.0),
            text: "<a & b>\u{1}\n".to_owned(),
            size: RasterHeight::Size16,
            colour: [0; 3],
            anchor: Anchor::End,
        };
        let svg = Picture { width: 10, height: 10, shapes: vec![Shape::Text(text)] }.svg();
        assert!(
            svg.contains("text-anchor=\"end\" fill=\"#000000\">&lt;a &amp; b&gt;\u{FFFD}\u{FFFD}</text>"),
            "{svg}"
        );
    }

    #[test]
    fn every_kind_of_shape_is_in_the_svg() {
        let shapes = vec![
            Shape::Area([1.0, 2.0, 4.0, 8.0], [255, 0, 0], 0.5),
            Shape::Line(vec![(0.0, 0.0), (9.0, 9.0)], 2.0, [0, 255, 0]),
            Shape::Dots(vec![(3.0, 3.0), (4.0, 4.0)], 1.5, [0, 0, 255], 0.25),
        ];
        let svg = Picture { width: 10, height: 10, shapes }.svg();
        for told in [
            "width=\"3.0\" height=\"6.0\" fill=\"#ff0000\"",
            "d=\"M0.0 0.0L9.0 9.0\"",
            "d=\"M3.0 3.0h0M4.0 4.0h0\"",
        ] {
            assert!(svg.contains(told), "{told}: {svg}");
        }
    }
}
