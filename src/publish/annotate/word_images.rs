//! Pictures of words that the built-in font lacks letters for: each is drawn once, and kept while pictures are of one size.

use std::collections::HashMap;

use crate::publish::system_fonts::{WordImage, draw_word, is_built_in};

/// All are drawn anew when those that are kept hold more than this, bytes: a vocabulary may have thousands of words.
const MOST_BYTES: usize = 16 << 20;

/// Pictures of words, in one height.
#[derive(Default)]
pub(super) struct WordImages {
    height: usize,
    /// Nothing for a word that no font has a letter of.
    images: HashMap<String, Option<WordImage>>,
    bytes: usize,
}

impl WordImages {
    /// Draws those of these words that lack, as high as this.
    pub(super) fn make<'a>(&mut self, words: impl Iterator<Item = &'a str>, height: usize) {
        if height != self.height || self.bytes > MOST_BYTES {
            *self = Self { height, ..Self::default() };
        }
        for word in words.filter(|word| !is_built_in(word)) {
            if !self.images.contains_key(word) {
                let image = draw_word(word, height);
                self.bytes +=
                    image.as_ref().map_or(0, |image| image.pixels.as_flattened().len()) + word.len();
                self.images.insert(word.to_owned(), image);
            }
        }
    }

    /// A word's picture, if it has one.
    pub(super) fn get(&self, word: &str) -> Option<&WordImage> {
        self.images.get(word)?.as_ref()
    }
}
