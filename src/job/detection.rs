//! Detections in a frame, and the words that name them.

use std::sync::Arc;

/// One detection: a thing found in a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// The word's place in the vocabulary.
    pub word: usize,
    /// How sure, 0 to 1.
    pub score: f32,
    /// How much it looks like a thing at all, 0 to 1.
    pub objectness: f32,
    /// Left, top, right, bottom in pixels of the frame.
    pub box_in_frame: [f32; 4],
    /// Whether the score is below the word's threshold: for tracking alone, which takes such things out again.
    pub is_weak: bool,
    /// By tracking: which of the things that are followed it is, once it was seen often enough.
    pub track: Option<Tracked>,
}

/// A thing that is followed from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tracked {
    /// From 1, and never given twice while the program runs.
    pub id: u64,
    /// The word's place in the vocabulary, by the votes of the track's frames.
    pub word: usize,
    /// How sure, by the votes, 0 to 1.
    pub score: f32,
}

impl Detection {
    /// The word and score to be shown: by the votes of its track, or else of this frame.
    pub fn shown(&self) -> (usize, f32) {
        self.track.map_or((self.word, self.score), |track| (track.word, track.score))
    }
}

/// The words that a vocabulary shows, by their place in it. Its hidden words stay in the scorer.
#[derive(Debug, Clone, Default)]
pub struct WordList(Arc<[String]>);

impl FromIterator<String> for WordList {
    fn from_iter<I: IntoIterator<Item = String>>(words: I) -> Self {
        Self(words.into_iter().collect())
    }
}

impl WordList {
    /// The word at a place.
    pub fn get(&self, place: usize) -> &str {
        self.0.get(place).map_or("?", String::as_str)
    }

    /// The words, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(String::as_str)
    }

    /// Whether these are the very words, and not others that may be equal.
    pub fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.0, &others.0)
    }

    /// Whether nobody else holds them.
    pub fn have_one_owner(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The characters of the longest.
    pub fn longest(&self) -> usize {
        self.0.iter().map(|word| word.chars().count()).max().unwrap_or(0)
    }
}
