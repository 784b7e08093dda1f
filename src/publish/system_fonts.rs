//! Words that the built-in font lacks letters for, drawn with the fonts of the system.
//!
//! Makes pictures of words ([`WordImage`]): shaped, and from right to left where their script asks for it. It says
//! beforehand which words no font has letters for ([`Undrawable`]), and which package has them.
//!
//! The fonts are looked for when the first such word comes, once in the life of the process: a vocabulary of Latin words
//! costs nothing.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, OnceLock};

use cosmic_text::skrifa::{FontRef, MetadataProvider};
use cosmic_text::{
    Attrs, Buffer, Family, FontSystem, Metrics, PhysicalGlyph, Shaping, SwashCache, SwashContent, SwashImage,
    Weight, Wrap,
};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};
use unicode_script::{Script, UnicodeScript};

use crate::threads::locked;

/// Of a line's height, how large its letters are, and where their baseline is, as in the built-in font.
const SIZE_PART: f32 = 0.75;
const BASELINE_PART: f32 = 0.78;
/// The most characters of a word that are drawn: no picture is as wide.
const MOST_CHARACTERS: usize = 250;
/// How many words are told that can't be drawn.
const MOST_TOLD: usize = 5;

/// Whether the built-in font has all letters of a word.
pub fn is_built_in(word: &str) -> bool {
    word.chars().all(has_built_in)
}

fn has_built_in(character: char) -> bool {
    get_raster(character, FontWeight::Bold, RasterHeight::Size16).is_some()
}

/// A word as a picture, as high as a line.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct WordImage {
    pub width: usize,
    pub height: usize,
    /// Row by row: red, green, blue, and how much of it there is, of 255.
    pub pixels: Vec<[u8; 4]>,
    /// Whether it is read from right to left.
    pub is_right_to_left: bool,
}

/// Draws a word as high as this; nothing where no font of the system has any of the letters that the built-in one lacks.
pub fn draw_word(word: &str, height: usize) -> Option<WordImage> {
    locked(system_fonts()).draw(word, height)
}

fn system_fonts() -> &'static Mutex<Fonts> {
    static FONTS: OnceLock<Mutex<Fonts>> = OnceLock::new();
    FONTS.get_or_init(|| Mutex::new(Fonts::new(FontSystem::new())))
}

/// Words of a vocabulary that neither the built-in font nor the system's can draw.
#[derive(Debug, PartialEq, Eq)]
pub struct Undrawable {
    words: Vec<String>,
    /// Debian's packages that have their letters, as far as they are known.
    packages: BTreeSet<&'static str>,
}

impl Undrawable {
    /// Those among these words, if there are any.
    pub fn among<'a>(words: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        if words.clone().all(is_built_in) {
            return None;
        }
        locked(system_fonts()).undrawable(words)
    }

    /// What to do about them.
    pub fn remedy(&self) -> String {
        if self.packages.is_empty() {
            return "install a font that has them, below /usr/share/fonts, and start again".to_owned();
        }
        let packages: Vec<&str> = self.packages.iter().copied().collect();
        format!("`apt install {}`, and start again", packages.join(" "))
    }
}

impl fmt::Display for Undrawable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<String> = self.words.iter().take(MOST_TOLD).map(|word| format!("{word:?}")).collect();
        write!(f, "pictures can't show all letters of {}", told.join(", "))?;
        match self.words.len().saturating_sub(MOST_TOLD) {
            0 => {}
            more => write!(f, " and {more} more words")?,
        }
        write!(f, ": no font of this system has them")
    }
}

/// Debian's package of fonts with a character; nothing where no package is known to have it.
fn package_of(character: char) -> Option<&'static str> {
    // Punctuation of East Asia, and letters as wide as its own.
    if matches!(character, '\u{3000}'..='\u{30ff}' | '\u{ff00}'..='\u{ffef}') {
        return Some("fonts-noto-cjk");
    }
    match character.script() {
        Script::Han | Script::Hiragana | Script::Katakana | Script::Hangul | Script::Bopomofo => {
            Some("fonts-noto-cjk")
        }
        Script::Common if matches!(character, '\u{1f000}'..='\u{1faff}') => Some("fonts-noto-color-emoji"),
        Script::Unknown => None,
        _ => Some("fonts-noto-core"),
    }
}

/// Whether a character is one that only says how others are drawn: joiners, directions, variants.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The letters of a word that the built-in font lacks.
fn foreign(word: &str) -> impl Iterator<Item = char> {
    word.chars().filter(|character| !has_built_in(*character) && !is_invisible(*character))
}

/// The fonts of a system.
struct Fonts {
    system: FontSystem,
    glyphs: SwashCache,
    /// Of each character that was asked for, whether a font has it.
    known: HashMap<char, bool>,
}

impl Fonts {
    fn new(system: FontSystem) -> Self {
        Self { system, glyphs: SwashCache::new(), known: HashMap::new() }
    }

    fn undrawable<'a>(&mut self, words: impl Iterator<Item = &'a str> + Clone) -> Option<Undrawable> {
        self.look_up(words.clone().flat_map(foreign));
        let lacks = |character: &char| self.known.get(character) == Some(&false);
        let lacking: Vec<String> =
            words.clone().filter(|word| foreign(word).any(|c| lacks(&c))).map(str::to_owned).collect();
        let packages = words.flat_map(foreign).filter(lacks).filter_map(package_of).collect();
        (!lacking.is_empty()).then_some(Undrawable { words: lacking, packages })
    }

    /// Looks through the fonts for characters that were not asked for before.
    fn look_up(&mut self, characters: impl Iterator<Item = char>) {
        let mut wanted: BTreeSet<char> =
            characters.filter(|character| !self.known.contains_key(character)).collect();
        let fonts = self.system.db();
        for face in fonts.faces() {
            if wanted.is_empty() {
                break;
            }
            fonts.with_face_data(face.id, |bytes, index| {
                let Ok(font) = FontRef::from_index(bytes, index) else { return };
                let letters = font.charmap();
                let known = &mut self.known;
                wanted.retain(|character| {
                    let is_there = letters.map(*character).is_some();
                    if is_there {
                        known.insert(*character, true);
                    }
                    !is_there
                });
            });
        }
        self.known.extend(wanted.into_iter().map(|character| (character, false)));
    }

    fn draw(&mut self, word: &str, height: usize) -> Option<WordImage> {
        self.look_up(foreign(word));
        if !foreign(word).any(|character| self.known.get(&character) == Some(&true)) {
            return None;
        }
        let mut line = self.lay_out(word, height as f32 * SIZE_PART);
        let ink = line.ink();
        if ink.height() > height as i32 {
            // Marks above and below letters that are high themselves.
            line = self.lay_out(word, height as f32 * SIZE_PART * height as f32 / ink.height() as f32);
        }
        Some(line.draw(height))
    }

    fn lay_out(&mut self, word: &str, size: f32) -> Line {
        let mut text: String = word.chars().take(MOST_CHARACTERS).collect();
        if text.len() < word.len() {
            text.push('…');
        }
        let mut buffer = Buffer::new_empty(Metrics::new(size, size * 2.0));
        buffer.set_wrap(Wrap::None);
        let bold = Attrs::new().family(Family::SansSerif).weight(Weight::BOLD);
        buffer.set_text(&text, &bold, Shaping::Advanced, None);
        buffer.shape_until_scroll(&mut self.system, false);
        let Some(run) = buffer.layout_runs().next() else { return Line::default() };
        let placed = run.glyphs.iter().map(|glyph| glyph.physical((0.0, 0.0), 1.0));
        let glyphs = placed.filter_map(|PhysicalGlyph { cache_key, x, y }| {
            let image = self.glyphs.get_image_uncached(&mut self.system, cache_key)?;
            Some(Glyph { left: x + image.placement.left, top: y - image.placement.top, image })
        });
        Line { width: run.line_w, glyphs: glyphs.collect(), is_right_to_left: run.rtl }
    }
}

/// A word that is laid out: its letters, around a baseline at 0.
#[derive(Default)]
struct Line {
    width: f32,
    glyphs: Vec<Glyph>,
    is_right_to_left: bool,
}

struct Glyph {
    left: i32,
    top: i32,
    image: SwashImage,
}

impl Glyph {
    fn right(&self) -> i32 {
        self.left + self.image.placement.width as i32
    }

    fn bottom(&self) -> i32 {
        self.top + self.image.placement.height as i32
    }

    /// Its pixels, each with its place.
    fn pixels(&self) -> impl Iterator<Item = (i32, i32, [u8; 4])> {
        let (bytes, width) = match self.image.content {
            SwashContent::Mask => (1, self.image.placement.width as usize),
            SwashContent::Color | SwashContent::SubpixelMask => (4, self.image.placement.width as usize),
        };
        self.image.data.chunks_exact(bytes).enumerate().map(move |(place, pixel)| {
            let (x, y) = ((place % width.max(1)) as i32, (place / width.max(1)) as i32);
            let colour = match *pixel {
                [opacity] => [0, 0, 0, opacity],
                [red, green, blue, opacity] => [red, green, blue, opacity],
                _ => [0; 4],
            };
            (self.left + x, self.top + y, colour)
        })
    }
}

/// What letters cover, pixels from the beginning of the baseline.
#[derive(Default, Clone, Copy)]
struct Ink {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

impl Ink {
    fn height(self) -> i32 {
        self.bottom - self.top
    }
}

impl Line {
    fn ink(&self) -> Ink {
        let side = |of: fn(&Glyph) -> i32| self.glyphs.iter().map(of);
        Ink {
            left: side(|glyph| glyph.left).min().unwrap_or(0).min(0),
            right: side(Glyph::right).max().unwrap_or(0).max(self.width.ceil() as i32),
            top: side(|glyph| glyph.top).min().unwrap_or(0),
            bottom: side(Glyph::bottom).max().unwrap_or(0),
        }
    }

    fn draw(&self, height: usize) -> WordImage {
        let ink = self.ink();
        let baseline = (height as f32 * BASELINE_PART).round() as i32;
        // Not at its baseline where it would be cut off there.
        let down = baseline.min(height as i32 - ink.bottom).max(-ink.top);
        let width = (ink.right - ink.left) as usize;
        let mut pixels = vec![[0; 4]; width * height];
        for (x, y, colour) in self.glyphs.iter().flat_map(Glyph::pixels) {
            let (x, y) = (x - ink.left, y + down);
            if (0..width as i32).contains(&x) && (0..height as i32).contains(&y) {
                let pixel = &mut pixels[y as usize * width + x as usize];
                *pixel = over(colour, *pixel);
            }
        }
        WordImage { width, height, pixels, is_right_to_left: self.is_right_to_left }
    }
}

/// What is seen of a pixel with another over it: the colour of the more opaque of the two, as opaque as both together.
fn over(upper: [u8; 4], lower: [u8; 4]) -> [u8; 4] {
    let [red, green, blue, opacity] = if upper[3] >= lower[3] { upper } else { lower };
    let other = upper[3].min(lower[3]);
    let both = u16::from(opacity) + u16::from(other) * (255 - u16::from(opacity)) / 255;
    [red, green, blue, both as u8]
}

#[cfg(test)]
mod tests;
