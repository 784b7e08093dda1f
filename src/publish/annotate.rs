//! Boxes and labels, drawn into a picture.
//!
//! Draws what was found in a frame into its RGB, in the same way for photographs, streams, the live page and video.
//! Nothing is allocated, but where a word is drawn for the first time that takes a font of the system.
//!
//! A word's colour comes from its letters, so it is the same in every picture and in every vocabulary, whatever else is
//! found. It is always a light one. So black text can be read on it, and a line of it between two dark ones is seen on
//! any background: what swallows the one shows the other (the tests measure both, by WCAG's contrast ratio).

mod bitmap_font;
mod canvas;
mod label;
mod outlines;
mod word_images;

use self::canvas::{Area, Canvas, Colour, LEAST_SIDE_FOR_TEXT, Style};
use self::label::Label;
use self::word_images::WordImages;
use crate::job::{Detection, WordList, Zones};

/// The most labels that are kept apart from one another; more would cover the picture anyway.
const MOST_PLACED: usize = 128;
/// The least luminance of a word's colour, 0 to 1, by WCAG's definition: nine times black's, and so one of a line and its rim
/// has three times the contrast that it needs, on every background.
const LEAST_LUMINANCE: f32 = 0.43;

/// What draws, and keeps the pictures of words that it has drawn by fonts of the system.
#[derive(Default)]
pub(super) struct Annotator {
    images: WordImages,
}

impl Annotator {
    /// Draws the outlines of zones, all things, the best last and so on top, and all labels over all boxes.
    pub(super) fn draw(
        &mut self,
        rgb: &mut [u8],
        (width, height): (usize, usize),
        found: &[Detection],
        words: &WordList,
        zones: Option<&Zones>,
    ) {
        let mut canvas = Canvas { rgb, width: width as i64, height: height as i64 };
        let style = Style::of(&canvas);
        if let Some(zones) = zones {
            outlines::draw(&mut canvas, zones, style, &mut self.images);
        }
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

#[cfg(test)]
mod tests;
