//! Boxes and labels, drawn into a picture.
//!
//! In flow the RGB of a frame and what was found in it, out flows the picture with it drawn in: the same for photographs,
//! streams, the live page and video. Nothing is allocated, but where a word is drawn for the first time that takes a font
//! of the system.
//!
//! A word's colour comes from its letters, so it is the same in every picture and in every vocabulary, whatever else is
//! found. It is always a light one. So black text can be read on it, and a line of it between two dark ones is seen on
//! any background: what swallows the one shows the other (the tests measure both, by WCAG's contrast ratio).

mod bitmap_font;
mod label;
mod word_images;

use noto_sans_mono_bitmap::RasterizedChar;

use self::bitmap_font::{TextSize, coverage};
use self::label::{Label, Word};
use self::word_images::WordImages;
use super::system_fonts::WordImage;
use crate::job::{Detection, WordList};

/// The part of a picture's shorter side that a line of text is high.
const TEXT_PART: f32 = 1.0 / 26.0;
/// The part of a picture's shorter side that a box's line is thick.
const LINE_PART: f32 = 1.0 / 180.0;
/// The shorter side of the smallest picture that has room for labels, pixels.
const LEAST_SIDE_FOR_TEXT: i64 = 32;
/// The most labels that are kept apart from one another; more would cover the picture anyway.
const MOST_PLACED: usize = 128;
/// A label that hides more than this part of its size of others, one in so many, is left out.
const MOST_HIDDEN: i64 = 8;
/// The least luminance of a word's colour, 0 to 1, by WCAG's definition: nine times black's, and so one of a line and its rim
/// has three times the contrast that it needs, on every background.
const LEAST_LUMINANCE: f32 = 0.43;
/// What is beside lines and around plates, and how much of it, of 255: what is behind it still shows.
const RIM: (Colour, u8) = ([0; 3], 240);
/// Text, and how much of it, of 255, the number of a track is: there, and not in the way.
const TEXT: Colour = [0; 3];
const NUMBER_OPACITY: u8 = 165;

type Colour = [u8; 3];

/// What draws, and keeps the pictures of words that it has drawn by fonts of the system.
#[derive(Default)]
pub(super) struct Annotator {
    images: WordImages,
}

impl Annotator {
    /// Draws all things, the best last and so on top, and all labels over all boxes.
    pub(super) fn draw(
        &mut self,
        rgb: &mut [u8],
        (width, height): (usize, usize),
        found: &[Detection],
        words: &WordList,
    ) {
        let mut canvas = Canvas { rgb, width: width as i64, height: height as i64 };
        let style = Style::of(&canvas);
        for thing in found.iter().rev() {
            canvas.outline(corners_of(thing), style, colour_of(words.get(thing.shown().0)));
        }
        if canvas.width.min(canvas.height) < LEAST_SIDE_FOR_TEXT {
            return;
        }
        // The best choose their places first, and are drawn last.
        let labelled = &found[..found.len().min(MOST_PLACED)];
        let shown = labelled.iter().map(|thing| words.get(thing.shown().0));
        self.images.make(shown, style.text.height() as usize);
        let mut plates = [Area::default(); MOST_PLACED];
        for (place, thing) in labelled.iter().enumerate() {
            let label = Label::of(thing, words, &self.images, style.text, style.room(canvas.width));
            let size = style.plate_size(&label);
            plates[place] = canvas.place_for(size, corners_of(thing), style, &plates[..place]);
        }
        for (thing, plate) in labelled.iter().zip(plates).rev().filter(|(_, plate)| *plate != Area::default())
        {
            let label = Label::of(thing, words, &self.images, style.text, style.room(canvas.width));
            canvas.label(&label, plate, style, colour_of(words.get(thing.shown().0)));
        }
    }
}

fn corners_of(thing: &Detection) -> Area {
    // Nothing that an engine says is so far away that counting in pixels would overflow.
    let [left, top, right, bottom] = thing.box_in_frame.map(|side| side.clamp(-1e6, 1e6).round() as i64);
    Area { left, top, right, bottom }
}

/// A word's colour, everywhere: its hue from its letters, light enough for black text.
pub fn colour_of(word: &str) -> [u8; 3] {
    // FNV-1a, and a last step that spreads what the last letter changed over all bits. Any hash of
    // short words will do, and must never change.
    let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hue = (hash >> 32) as f32 / u32::MAX as f32 * 6.0;
    // HSV with value 1, and as much saturation as leaves it light: yellow and green stay as they are, blue and red pale.
    let mut saturation = 0.85;
    loop {
        let colour = [0.0, 4.0, 2.0].map(|shift| {
            let distance = ((hue + shift) % 6.0 - 3.0).abs() - 1.0;
            (255.0 * (1.0 - saturation * (1.0 - distance.clamp(0.0, 1.0)))).round() as u8
        });
        if luminance(colour) >= LEAST_LUMINANCE || saturation <= 0.0 {
            return colour;
        }
        saturation -= 0.01;
    }
}

/// Relative luminance, 0 to 1 (WCAG 2.2, of sRGB).
fn luminance(colour: Colour) -> f32 {
    let [red, green, blue] = colour.map(|channel| {
        let part = f32::from(channel) / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

/// How thick and how large everything in a picture is, pixels.
#[derive(Clone, Copy)]
struct Style {
    line: i64,
    rim: i64,
    text: TextSize,
    padding: i64,
}

impl Style {
    fn of(canvas: &Canvas<'_>) -> Self {
        let shorter_side = canvas.width.min(canvas.height) as f32;
        let line = ((shorter_side * LINE_PART).round() as i64).max(1);
        let text = TextSize::for_height(shorter_side * TEXT_PART);
        Self { line, rim: (line / 2).max(1), text, padding: (text.height() / 5).max(2) }
    }

    /// How wide a label's text may be in a picture so wide: whole characters.
    fn room(self, width: i64) -> i64 {
        let character = self.text.character_width();
        let room = width - 2 * (self.padding + self.rim);
        (room / character).max(1) * character
    }

    /// With its rim.
    fn plate_size(self, label: &Label<'_>) -> (i64, i64) {
        (label.width() + 2 * (self.padding + self.rim), self.text.height() + 2 * self.rim)
    }
}

/// A rectangle of pixels; right and bottom are outside of it.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Area {
    left: i64,
    top: i64,
    right: i64,
    bottom: i64,
}

impl Area {
    fn at(left: i64, top: i64, (width, height): (i64, i64)) -> Self {
        Self { left, top, right: left + width, bottom: top + height }
    }

    /// Larger by so much on every side.
    fn grown(self, by: i64) -> Self {
        Self { left: self.left - by, top: self.top - by, right: self.right + by, bottom: self.bottom + by }
    }

    /// The pixels that both have.
    fn shared_with(self, other: Self) -> i64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0) * height.max(0)
    }
}

/// A picture to draw on; what lies outside of it is clipped.
struct Canvas<'a> {
    rgb: &'a mut [u8],
    width: i64,
    height: i64,
}

impl Canvas<'_> {
    /// The four lines of a box, inside of its corners, with a rim on both of their sides.
    fn outline(&mut self, area: Area, style: Style, colour: Colour) {
        self.frame(area.grown(style.rim), style.rim, RIM.0, RIM.1);
        self.frame(area.grown(-style.line), style.rim, RIM.0, RIM.1);
        self.frame(area, style.line, colour, 255);
    }

    /// Four lines inside of the edges of an area, no pixel twice.
    fn frame(&mut self, area: Area, thickness: i64, colour: Colour, opacity: u8) {
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
    fn place_for(&self, size: (i64, i64), thing: Area, style: Style, others: &[Area]) -> Area {
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
    fn label(&mut self, label: &Label<'_>, plate: Area, style: Style, colour: Colour) {
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
    fn text(
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
    fn word(&mut self, image: &WordImage, (first, count): (i64, i64), (left, top): (i64, i64)) {
        for (y, row) in image.pixels.chunks_exact(image.width.max(1)).enumerate() {
            let columns = row.iter().skip(first.max(0) as usize).take(count as usize);
            for (x, [red, green, blue, opacity]) in columns.enumerate().filter(|(_, pixel)| pixel[3] > 0) {
                let place = Area::at(left + x as i64, top + y as i64, (1, 1));
                self.blend(place, [*red, *green, *blue], *opacity);
            }
        }
    }

    fn glyph(&mut self, glyph: &RasterizedChar, (left, top): (i64, i64), zoom: i64, most: u8) {
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

    fn blend(&mut self, area: Area, colour: Colour, opacity: u8) {
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
fn blended(over: Colour, opacity: u8, under: Colour) -> Colour {
    let (opacity, rest) = (u16::from(opacity), u16::from(255 - opacity));
    std::array::from_fn(|channel| {
        ((u16::from(over[channel]) * opacity + u16::from(under[channel]) * rest) / 255) as u8
    })
}

#[cfg(test)]
mod tests;
