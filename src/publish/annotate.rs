//! Boxes and labels, drawn into a picture.
//!
//! In flow the RGB of a frame and what was found in it, out flows the picture with it drawn in. The one
//! surprising thing: a word's colour comes from its letters, so it is the same in every picture and
//! in every vocabulary, whatever else is found.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

use crate::scoring::{Found, Words};

/// The part of a picture's shorter side that a line of text is high.
const TEXT_PART: f32 = 1.0 / 22.0;
/// The part of a picture's shorter side that a box's line is thick.
const LINE_PART: f32 = 1.0 / 160.0;

pub type Colour = [u8; 3];

/// Draws all things, the best last and so on top.
pub(super) fn draw(rgb: &mut [u8], (width, height): (usize, usize), found: &[Found], words: &Words) {
    let shorter_side = width.min(height) as f32;
    let text = TextSize::for_height(shorter_side * TEXT_PART);
    let thickness = ((shorter_side * LINE_PART).round() as i64).max(1);
    let mut canvas = Canvas { rgb, width: width as i64, height: height as i64 };
    for thing in found.iter().rev() {
        let (word, score) = thing.shown();
        let word = words.get(word);
        let colour = colour_of(word);
        let corners = thing.box_in_frame.map(|side| side.round() as i64);
        canvas.outline(corners, thickness, colour);
        let label = format!("{word} {:.0}%", score * 100.0);
        canvas.label(&label, corners, thickness, text, colour);
    }
}

/// A colour for a word: its hue from its letters, bright enough for black text or dark enough for
/// white.
pub fn colour_of(word: &str) -> Colour {
    // FNV-1a, and a last step that spreads what the last letter changed over all bits. Any hash of
    // short words will do, and must never change.
    let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hue = (hash >> 32) as f32 / u32::MAX as f32 * 6.0;
    // HSV with saturation 0.8 and value 1.
    let channel = |shift: f32| {
        let distance = ((hue + shift) % 6.0 - 3.0).abs() - 1.0;
        (255.0 * (0.2 + 0.8 * distance.clamp(0.0, 1.0))).round() as u8
    };
    [channel(0.0), channel(4.0), channel(2.0)]
}

/// Black or white, whichever can be read on a colour (luminance by ITU-R BT.601).
fn text_colour_on([red, green, blue]: Colour) -> Colour {
    let luminance = 0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue);
    if luminance > 140.0 { [0; 3] } else { [255; 3] }
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
        let zoom = ((height / 32.0).round() as i64).max(1);
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

    fn width_of(self, text: &str) -> i64 {
        (get_raster_width(FontWeight::Bold, self.raster) * text.chars().count()) as i64 * self.zoom
    }

    fn glyph(self, character: char) -> Option<RasterizedChar> {
        let raster = |character| get_raster(character, FontWeight::Bold, self.raster);
        raster(character).or_else(|| raster('\u{FFFD}')).or_else(|| raster('?'))
    }
}

/// A picture to draw on; what lies outside of it is clipped.
struct Canvas<'a> {
    rgb: &'a mut [u8],
    width: i64,
    height: i64,
}

impl Canvas<'_> {
    /// The four lines of a box, inside of its corners.
    fn outline(&mut self, [left, top, right, bottom]: [i64; 4], thickness: i64, colour: Colour) {
        self.fill([left, top, right, top + thickness], colour);
        self.fill([left, bottom - thickness, right, bottom], colour);
        self.fill([left, top, left + thickness, bottom], colour);
        self.fill([right - thickness, top, right, bottom], colour);
    }

    /// A filled plate with text: on top of the box, or inside of it where there is no room above,
    /// and never out of the picture on the right.
    fn label(&mut self, text: &str, corners: [i64; 4], thickness: i64, size: TextSize, colour: Colour) {
        let [box_left, box_top, ..] = corners;
        let padding = thickness.max(2);
        let (width, height) = (size.width_of(text) + 2 * padding, size.height());
        let left = box_left.min(self.width - width).max(0);
        let top = if box_top >= height { box_top - height } else { box_top.max(0) };
        self.fill([left, top, left + width, top + height], colour);
        let text_colour = text_colour_on(colour);
        let mut x = left + padding;
        for glyph in text.chars().filter_map(|character| size.glyph(character)) {
            self.glyph(&glyph, x, top, size.zoom, text_colour);
            x += glyph.width() as i64 * size.zoom;
        }
    }

    fn glyph(&mut self, glyph: &RasterizedChar, left: i64, top: i64, zoom: i64, colour: Colour) {
        for (y, row) in glyph.rows().enumerate() {
            for (x, &opacity) in row.iter().enumerate().filter(|(_, opacity)| **opacity > 0) {
                let (x, y) = (left + x as i64 * zoom, top + y as i64 * zoom);
                self.blend([x, y, x + zoom, y + zoom], colour, opacity);
            }
        }
    }

    fn fill(&mut self, area: [i64; 4], colour: Colour) {
        self.blend(area, colour, 255);
    }

    fn blend(&mut self, [left, top, right, bottom]: [i64; 4], colour: Colour, opacity: u8) {
        let (left, right) = (left.clamp(0, self.width), right.clamp(0, self.width));
        let (top, bottom) = (top.clamp(0, self.height), bottom.clamp(0, self.height));
        if right <= left {
            return;
        }
        let opacity = u16::from(opacity);
        for y in top..bottom {
            let row =
                &mut self.rgb[3 * (y * self.width + left) as usize..3 * (y * self.width + right) as usize];
            for (index, channel) in row.iter_mut().enumerate() {
                let (over, under) = (u16::from(colour[index % 3]), u16::from(*channel));
                *channel = ((over * opacity + under * (255 - opacity)) / 255) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grey picture with things drawn in.
    struct Picture {
        rgb: Vec<u8>,
        width: usize,
    }

    fn draw(width: usize, height: usize, found: &[Found], words: &Words) -> Picture {
        let mut rgb = vec![128; 3 * width * height];
        super::draw(&mut rgb, (width, height), found, words);
        Picture { rgb, width }
    }

    fn found(box_in_frame: [f32; 4]) -> Found {
        Found { word: 0, score: 0.5, objectness: 1.0, box_in_frame, track: None }
    }

    fn words(word: &str) -> Words {
        Words::from_iter([word.to_owned()])
    }

    fn pixel(frame: &Picture, x: usize, y: usize) -> Colour {
        let start = 3 * (y * frame.width + x);
        [frame.rgb[start], frame.rgb[start + 1], frame.rgb[start + 2]]
    }

    #[test]
    fn a_box_is_drawn_on_its_edge_and_not_inside() {
        let frame = draw(640, 480, &[found([100.0, 100.0, 300.0, 300.0])], &words("cat"));
        let colour = colour_of("cat");
        for (x, y) in [(100, 200), (299, 200), (200, 299), (250, 100)] {
            assert_eq!(pixel(&frame, x, y), colour, "at {x}, {y}");
        }
        assert_eq!(pixel(&frame, 200, 200), [128; 3]);
        assert_eq!(pixel(&frame, 99, 200), [128; 3]);
    }

    #[test]
    fn a_label_is_a_plate_in_the_boxs_colour_with_text_that_can_be_read_on_it() {
        let frame = draw(640, 480, &[found([100.0, 100.0, 300.0, 300.0])], &words("cat"));
        let plate: Vec<Colour> = (60..100)
            .flat_map(|y| (100..300).map(move |x| (x, y)))
            .map(|(x, y)| pixel(&frame, x, y))
            .collect();
        let of = |colour: Colour| plate.iter().filter(|pixel| **pixel == colour).count();
        assert!(of(colour_of("cat")) > 500, "the plate");
        assert!(of(text_colour_on(colour_of("cat"))) > 50, "the text");
    }

    #[test]
    fn things_at_and_beyond_the_edges_are_clipped_in_pictures_of_every_size() {
        for (width, height) in [(1, 1), (7, 300), (640, 480), (5000, 40)] {
            let (right, bottom) = (width as f32, height as f32);
            let edges = [
                [0.0, 0.0, right, bottom],
                [-50.0, -50.0, 2.0, 2.0],
                [right - 1.0, bottom - 1.0, right + 90.0, bottom + 90.0],
            ];
            let frame = draw(width, height, &edges.map(found), &words("a very long word ☕ indeed"));
            assert!(frame.rgb.iter().any(|channel| *channel != 128), "{width}x{height}");
        }
    }

    #[test]
    fn words_that_differ_in_a_letter_differ_in_colour() {
        for (a, b) in [("cat", "car"), ("cat", "bat"), ("cup", "cap"), ("w10", "w11")] {
            let (one, other) = (colour_of(a), colour_of(b));
            let distance: u32 = one.iter().zip(other).map(|(x, y)| u32::from(x.abs_diff(y))).sum();
            assert!(distance > 60, "{a} {one:?}, {b} {other:?}");
        }
    }

    #[test]
    fn text_grows_with_the_picture() {
        let heights =
            [240.0, 480.0, 700.0, 1080.0, 4000.0].map(|side| TextSize::for_height(side * TEXT_PART).height());
        assert!(heights.is_sorted(), "{heights:?}");
        assert!(heights[4] > 100, "{heights:?}");
    }
}
