//! What a label says, and how wide it is.

use std::fmt::{self, Write};

use super::bitmap_font::TextSize;
use super::word_images::WordImages;
use crate::job::{Detection, WordList};
use crate::publish::system_fonts::WordImage;

/// Of a word that is cut off so many characters stay, or the score goes before.
const LEAST_WORD: i64 = 4;
/// What stands for what is cut off.
const DOTS: &str = "..";

/// What a label says: "cat 83% #7", and less where there is no room. Its widths are pixels.
pub(super) struct Label<'a> {
    pub(super) word: Word<'a>,
    /// Of the word so much, and two dots where that is not all.
    pub(super) kept: i64,
    is_cut: bool,
    score: Short,
    number: Short,
    character: i64,
}

/// How a word is drawn.
pub(super) enum Word<'a> {
    /// In the built-in font.
    BuiltIn(&'a str),
    /// By fonts of the system.
    Image(&'a WordImage),
}

impl<'a> Word<'a> {
    /// A word, and how wide it is.
    fn of(word: &'a str, images: &'a WordImages, character: i64) -> (Self, i64) {
        match images.get(word) {
            Some(image) => (Word::Image(image), image.width as i64),
            None => (Word::BuiltIn(word), word.chars().count() as i64 * character),
        }
    }
}

/// How much of a word so long is shown, and whether that is not all.
fn kept_of(length: i64, room: i64, character: i64) -> (i64, bool) {
    let is_cut = length > room;
    (if is_cut { (room - DOTS.len() as i64 * character).max(0) } else { length }, is_cut)
}

impl<'a> Label<'a> {
    pub(super) fn of(
        thing: &Detection,
        words: &'a WordList,
        images: &'a WordImages,
        text: TextSize,
        room: i64,
    ) -> Self {
        let (word, score) = thing.shown();
        let character = text.character_width();
        let (word, length) = Word::of(words.get(word), images, character);
        let mut score = Short::of(format_args!(" {:.0}%", score * 100.0));
        let mut number = match thing.track {
            Some(track) => Short::of(format_args!(" #{}", track.id)),
            None => Short::default(),
        };
        let width = |short: &Short| short.length as i64 * character;
        // The number is the first to go, then the end of a long word, then the score.
        if length + width(&score) + width(&number) > room {
            number = Short::default();
        }
        if length + width(&score) > room && width(&score) + LEAST_WORD * character > room {
            score = Short::default();
        }
        let room = (room - width(&score)).max(0);
        let (kept, is_cut) = kept_of(length, room, character);
        Self { word, kept, is_cut, score, number, character }
    }

    /// The name of a zone or a line.
    pub(super) fn of_name(name: &'a str, images: &'a WordImages, text: TextSize, room: i64) -> Self {
        let character = text.character_width();
        let (word, length) = Word::of(name, images, character);
        let (kept, is_cut) = kept_of(length, room, character);
        Self { word, kept, is_cut, score: Short::default(), number: Short::default(), character }
    }

    pub(super) fn width(&self) -> i64 {
        let characters = self.dots().count() + self.score.length + self.number.length;
        self.kept + characters as i64 * self.character
    }

    pub(super) fn dots(&self) -> impl Iterator<Item = char> {
        if self.is_cut { DOTS } else { "" }.chars()
    }

    pub(super) fn score(&self) -> impl Iterator<Item = char> {
        self.score.chars()
    }

    pub(super) fn number(&self) -> impl Iterator<Item = char> {
        self.number.chars()
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
