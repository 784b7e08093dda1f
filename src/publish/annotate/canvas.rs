//! A picture to draw on: rectangles, lines and labels, clipped to it, and their sizes.

use noto_sans_mono_bitmap::RasterizedChar;

use super::bitmap_font::{TextSize, coverage};
use super::label::{Label, Word};
use crate::publish::system_fonts::WordImage;

/// The part of a picture's shorter side that a line of text is high.
pub(super) const TEXT_PART: f32 = 1.0 / 26.0;
/// The part of a picture's shorter side that a box's line is thick.
pub(super) const LINE_PART: f32 = 1.0 / 180.0;
/// The shorter side of the smallest picture that has room for labels, pixels.
pub(super) const LEAST_SIDE_FOR_TEXT: i64 = 32;
/// A label that hides more than this part of its size of others, one in so many, is left out.
pub(super) const MOST_HIDDEN: i64 = 8;
/// What is beside lines and around plates, and how much of it, of 255: what is behind it still shows.
pub(super) const RIM: (Colour, u8) = ([0; 3], 240);
/// Text, and how much of it, of 255, the number of a track is: there, and not in the way.
pub(super) const TEXT: Colour = [0; 3];
pub(super) const NUMBER_OPACITY: u8 = 165;

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

/// How thick and how large everything in a picture is, pixels.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) line: i64,
    pub(super) rim: i64,
    pub(super) text: TextSize,
    pub(super) padding: i64,
}

impl Style {
    pub(super) fn of(canvas: &Canvas<'_>) -> Self {
        let shorter_side = canvas.width.min(canvas.height) as f32;
        let line = ((shorter_side * LINE_PART).round() as i64).max(1);
        let text = TextSize::for_height(shorter_side * TEXT_PART);
        Self { line, rim: (line / 2).max(1), text, padding: (text.height() / 5).max(2) }
    }

    /// How wide a label's text may be in a picture so wide: whole characters.
    pub(super) fn room(self, width: i64) -> i64 {
        let character = self.text.character_width();
        let room = width - 2 * (self.padding + self.rim);
        (room / character).max(1) * character
    }

    /// With its rim.
    pub(super) fn plate_size(self, label: &Label<'_>) -> (i64, i64) {
        (label.width() + 2 * (self.padding + self.rim), self.text.height() + 2 * self.rim)
    }
}

/// A rectangle of pixels; right and bottom are outside of it.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) left: i64,
    pub(super) top: i64,
    pub(super) right: i64,
    pub(super) bottom: i64,
}

impl Area {
    pub(super) fn at(left: i64, top: i64, (width, height): (i64, i64)) -> Self {
        Self { left, top, right: left + width, bottom: top + height }
    }

    /// Larger by so much on every side.
    pub(super) fn grown(self, by: i64) -> Self {
        Self { left: self.left - by, top: self.top - by, right: self.right + by, bottom: self.bottom + by }
    }

    /// The pixels that both have.
    pub(super) fn shared_with(self, other: Self) -> i64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0) * height.max(0)
    }
}

/// A picture to draw on; what lies outside of it is clipped.
pub(super) struct Canvas<'a> {
    pub(super) rgb: &'a mut [u8],
    pub(super) width: i64,
    pub(super) height: i64,
}

impl Canvas<'_> {
    /// The four lines of a box, inside of its corners, with a rim on both of their sides.
    pub(super) fn outline(&mut self, area: Area, style: Style, colour: Colour) {
        self.frame(area.grown(style.rim), style.rim, RIM.0, RIM.1);
        self.frame(area.grown(-style.line), style.rim, RIM.0, RIM.1);
        self.frame(area, style.line, colour, 255);
    }

    /// Four lines inside of the edges of an area, no pixel twice.
    pub(super) fn frame(&mut self, area: Area, thickness: i64, colour: Colour, opacity: u8) {
        let Area { left, top, right, bottom } = area;
        if right - left <= 2 * thickness || bottom - top <= 2 * thickness {
            return self.blend(area, colour, opacity);
        }
        let (inner_top, inner_bottom) = (top + thickness, bottom - thickness);
        self.blend(Area { bottom: inner_top, ..area }, colour, opacity);
        self.blend(Area { top: inner_bottom, ..area }, colour, opacity);
        let sides = Area { top: inner_top, bottom: inner_bottom, ..area };
        self.blend(Area { right: left + thickness, ..sides }, colour, opacity);
        self.blend(Area { left: right - thickness, ..sides }, colour, opacity);
    }

    /// Where a plate of this size goes: over the box, or else in it, under it or a row further away, wherever it covers the
    /// least of other plates; never out of the picture where it has room in it. Nowhere, where it would hide much of
    /// another: the box alone says more than two labels that can't be read.
    pub(super) fn place_for(&self, size: (i64, i64), thing: Area, style: Style, others: &[Area]) -> Area {
        let (width, height) = size;
        let Area { left, top, right, bottom } = thing.grown(style.rim);
        let (above, within) = (top - height + style.rim, top + style.line + style.rim);
        let (below, within_below) = (bottom - style.rim, bottom - style.line - style.rim - height);
        let (inner_left, inner_right) =
            (left + style.line + style.rim, right - style.line - style.rim - width);
        let wanted = [
            (left, above),
            (inner_left, within),
            (right - width, above),
            (left, below),
            (inner_right, within),
            (inner_left, within_below),
            (right - width, below),
            (inner_left, within + height),
            (left, above - height),
            (left, below + height),
            (inner_left, within + 2 * height),
            (left, above - 2 * height),
        ];
        let mut best = (i64::MAX, Area::default());
        let most_hidden = width * height / MOST_HIDDEN;
        for (x, y) in wanted {
            let inside = Area::at(x.min(self.width - width).max(0), y.min(self.height - height).max(0), size);
            let hidden = others.iter().map(|other| inside.shared_with(*other)).sum::<i64>();
            // Moved up or down it lies on the box's own line, which is worth avoiding too.
            let cost = hidden + (inside.top - y).abs() * width / 4;
            if cost < best.0 && hidden <= most_hidden {
                best = (cost, inside);
            }
        }
        best.1
    }

    /// A plate in the word's colour, and text on it.
    pub(super) fn label(&mut self, label: &Label<'_>, plate: Area, style: Style, colour: Colour) {
        self.frame(plate, style.rim, RIM.0, RIM.1);
        let inner = plate.grown(-style.rim);
        self.blend(inner, colour, 255);
        let (mut x, top) = (inner.left + style.padding, inner.top);
        match label.word {
            Word::BuiltIn(word) => {
                let kept = (label.kept / style.text.character_width()) as usize;
                x = self.text(word.chars().take(kept), (x, top), style.text, 255);
                x = self.text(label.dots(), (x, top), style.text, 255);
            }
            // What is cut off is a word's end, which is on the left of one that is read from right to left.
            Word::Image(image) if image.is_right_to_left => {
                x = self.text(label.dots(), (x, top), style.text, 255);
                self.word(image, (image.width as i64 - label.kept, label.kept), (x, top));
                x += label.kept;
            }
            Word::Image(image) => {
                self.word(image, (0, label.kept), (x, top));
                x = self.text(label.dots(), (x + label.kept, top), style.text, 255);
            }
        }
        x = self.text(label.score(), (x, top), style.text, 255);
        self.text(label.number(), (x, top), style.text, NUMBER_OPACITY);
    }

    /// Characters of the built-in font; returns where the next one goes.
    pub(super) fn text(
        &mut self,
        characters: impl Iterator<Item = char>,
        (mut x, top): (i64, i64),
        text: TextSize,
        opacity: u8,
    ) -> i64 {
        for character in characters {
            if let Some(glyph) = text.glyph(character) {
                self.glyph(&glyph, (x, top), text.zoom(), opacity);
            }
            x += text.character_width();
        }
        x
    }

    /// Columns of a word's picture, from the first and so many.
    pub(super) fn word(&mut self, image: &WordImage, (first, count): (i64, i64), (left, top): (i64, i64)) {
        for (y, row) in image.pixels.chunks_exact(image.width.max(1)).enumerate() {
            let columns = row.iter().skip(first.max(0) as usize).take(count as usize);
            for (x, [red, green, blue, opacity]) in columns.enumerate().filter(|(_, pixel)| pixel[3] > 0) {
                let place = Area::at(left + x as i64, top + y as i64, (1, 1));
                self.blend(place, [*red, *green, *blue], *opacity);
            }
        }
    }

    pub(super) fn glyph(&mut self, glyph: &RasterizedChar, (left, top): (i64, i64), zoom: i64, most: u8) {
        for y in 0..glyph.height() as i64 * zoom {
            for x in 0..glyph.width() as i64 * zoom {
                let opacity = coverage(glyph, (x, y), zoom);
                if opacity > 0 {
                    let opacity = (u16::from(opacity) * u16::from(most) / 255) as u8;
                    self.blend(Area::at(left + x, top + y, (1, 1)), TEXT, opacity);
                }
            }
        }
    }

    pub(super) fn blend(&mut self, area: Area, colour: Colour, opacity: u8) {
        let (left, right) = (area.left.clamp(0, self.width), area.right.clamp(0, self.width));
        let (top, bottom) = (area.top.clamp(0, self.height), area.bottom.clamp(0, self.height));
        if right <= left {
            return;
        }
        for y in top..bottom {
            let row =
                &mut self.rgb[3 * (y * self.width + left) as usize..3 * (y * self.width + right) as usize];
            for pixel in row.as_chunks_mut().0 {
                *pixel = blended(colour, opacity, *pixel);
            }
        }
    }
}

/// A colour over another.
pub(super) fn blended(over: Colour, opacity: u8, under: Colour) -> Colour {
    let (opacity, rest) = (u16::from(opacity), u16::from(255 - opacity));
    std::array::from_fn(|channel| {
        ((u16::from(over[channel]) * opacity + u16::from(under[channel]) * rest) / 255) as u8
    })
}
