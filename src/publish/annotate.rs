//! Boxes and labels, drawn into a picture.
//!
//! In flow the RGB of a frame and what was found in it, out flows the picture with it drawn in: the same for photographs,
//! streams, the live page and video. Nothing is allocated.
//!
//! A word's colour comes from its letters, so it is the same in every picture and in every vocabulary, whatever else is
//! found. It is always a light one. So black text can be read on it, and a line of it between two dark ones is seen on
//! any background: what swallows the one shows the other (the tests measure both, by WCAG's contrast ratio).

use std::fmt::{self, Write};

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

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

/// Draws all things, the best last and so on top, and all labels over all boxes.
pub(super) fn draw(rgb: &mut [u8], (width, height): (usize, usize), found: &[Detection], words: &WordList) {
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
    let mut plates = [Area::default(); MOST_PLACED];
    for (place, thing) in labelled.iter().enumerate() {
        let label = Label::of(thing, words, style.most_characters(canvas.width));
        let size = style.plate_size(&label);
        plates[place] = canvas.place_for(size, corners_of(thing), style, &plates[..place]);
    }
    for (thing, plate) in labelled.iter().zip(plates).rev().filter(|(_, plate)| *plate != Area::default()) {
        let label = Label::of(thing, words, style.most_characters(canvas.width));
        canvas.label(&label, plate, style, colour_of(words.get(thing.shown().0)));
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

/// What a label says: "cat 83% #7", and less where there is no room.
struct Label<'a> {
    word: &'a str,
    /// Of the word's characters so many, and two dots where that is not all.
    kept: usize,
    is_cut: bool,
    score: Short,
    number: Short,
}

impl<'a> Label<'a> {
    fn of(thing: &Detection, words: &'a WordList, most: usize) -> Self {
        let (word, score) = thing.shown();
        let word = words.get(word);
        let length = word.chars().count();
        let mut score = Short::of(format_args!(" {:.0}%", score * 100.0));
        let mut number = match thing.track {
            Some(track) => Short::of(format_args!(" #{}", track.id)),
            None => Short::default(),
        };
        // The number is the first to go, then the end of a long word, then the score.
        if length + score.length + number.length > most {
            number = Short::default();
        }
        const LEAST_WORD: usize = 4;
        if length + score.length > most && score.length + LEAST_WORD > most {
            score = Short::default();
        }
        let room = most - score.length.min(most);
        let is_cut = length > room;
        let kept = if is_cut { room.saturating_sub(2) } else { length };
        Self { word, kept, is_cut, score, number }
    }

    fn characters(&self) -> usize {
        self.kept + 2 * usize::from(self.is_cut) + self.score.length + self.number.length
    }

    /// Each character, and whether it is the number's.
    fn iter(&self) -> impl Iterator<Item = (char, bool)> {
        let dots = if self.is_cut { ".." } else { "" };
        let word = self.word.chars().take(self.kept).chain(dots.chars()).chain(self.score.chars());
        word.map(|character| (character, false)).chain(self.number.chars().map(|character| (character, true)))
    }
}

/// A few ASCII characters, without a heap; what doesn't fit is left out.
#[derive(Default)]
struct Short {
    bytes: [u8; 24],
    length: usize,
}

impl Short {
    fn of(text: fmt::Arguments<'_>) -> Self {
        let mut short = Self::default();
        // It never fails.
        let _ = short.write_fmt(text);
        short
    }

    fn chars(&self) -> impl Iterator<Item = char> {
        self.bytes[..self.length].iter().copied().map(char::from)
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (place, byte) in self.bytes[self.length..].iter_mut().zip(text.bytes()) {
            *place = byte;
            self.length += 1;
        }
        Ok(())
    }
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

    /// How many characters a label may have in a picture so wide.
    fn most_characters(self, width: i64) -> usize {
        let room = width - 2 * (self.padding + self.rim);
        (room / self.text.character_width()).max(1) as usize
    }

    /// With its rim.
    fn plate_size(self, label: &Label<'_>) -> (i64, i64) {
        let width = label.characters() as i64 * self.text.character_width();
        (width + 2 * (self.padding + self.rim), self.text.height() + 2 * self.rim)
    }
}

/// A raster of the font, and how many pixels each of its pixels becomes: the font has four sizes,
/// and a photograph of 24 megapixels wants more.
#[derive(Clone, Copy)]
struct TextSize {
    raster: RasterHeight,
    zoom: i64,
}

impl TextSize {
    fn for_height(height: f32) -> Self {
        // Large enough that what is made larger is made of the largest.
        let zoom = if height <= 36.0 { 1 } else { ((height / 26.0).round() as i64).max(2) };
        let raster = match height / zoom as f32 {
            x if x < 18.0 => RasterHeight::Size16,
            x if x < 22.0 => RasterHeight::Size20,
            x if x < 28.0 => RasterHeight::Size24,
            _ => RasterHeight::Size32,
        };
        Self { raster, zoom }
    }

    fn height(self) -> i64 {
        self.raster.val() as i64 * self.zoom
    }

    fn character_width(self) -> i64 {
        get_raster_width(FontWeight::Bold, self.raster) as i64 * self.zoom
    }

    fn glyph(self, character: char) -> Option<RasterizedChar> {
        let raster = |character| get_raster(character, FontWeight::Bold, self.raster);
        raster(character).or_else(|| raster('\u{FFFD}')).or_else(|| raster('?'))
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
        let mut x = inner.left + style.padding;
        for (character, is_number) in label.iter() {
            if let Some(glyph) = style.text.glyph(character) {
                let opacity = if is_number { NUMBER_OPACITY } else { 255 };
                self.glyph(&glyph, (x, inner.top), style.text.zoom, opacity);
            }
            x += style.text.character_width();
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

/// How much of a pixel of an enlarged glyph is ink: between the raster's pixels it is interpolated, and made steeper, so
/// that large letters have edges and no steps.
fn coverage(glyph: &RasterizedChar, (x, y): (i64, i64), zoom: i64) -> u8 {
    let at = |x: i64, y: i64| {
        let places = usize::try_from(x).ok().zip(usize::try_from(y).ok());
        places.and_then(|(x, y)| glyph.pixel(x, y)).map_or(0, i64::from)
    };
    if zoom == 1 {
        return at(x, y) as u8;
    }
    // Counted in halves of an enlarged pixel, so that all is whole: the raster's pixel i has its middle at (2 i + 1) zoom.
    let whole = 2 * zoom;
    let split = |place: i64| {
        let from_first_middle = 2 * place + 1 - zoom;
        (from_first_middle.div_euclid(whole), from_first_middle.rem_euclid(whole))
    };
    let ((column, right), (row, lower)) = (split(x), split(y));
    let along = |row: i64| at(column, row) * (whole - right) + at(column + 1, row) * right;
    let value = (along(row) * (whole - lower) + along(row + 1) * lower) / (whole * whole);
    ((value - 128) * zoom * 3 / 4 + 128).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests;
