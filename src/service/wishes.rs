//! What is asked of a stream while it runs, from elsewhere than its files: other words, another threshold.
//!
//! In flow wishes from whoever serves people (HTTP), out they flow to the reloader, which grants them as it takes over a
//! configuration: tried first, whole or not at all.
//!
//! The one surprising thing: a wish changes no file. It holds until the configuration says something else about the words,
//! or the program ends.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::wanted::WordsWanted;
use crate::scoring::Words;
use crate::threads::locked;

/// How long a wish may take to be granted: an engine may be busy opening.
const LONGEST: Duration = Duration::from_secs(30);
/// Wishes that may wait.
const MOST_WAITING: usize = 16;

/// Something that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Words of another file.
    Vocabulary(PathBuf),
    /// Another least score, 0 to 1, of words without a threshold of their own.
    ScoreThreshold(f32),
    /// Everything as the configuration says.
    AsConfigured,
}

/// A wish, and where its answer goes.
pub(super) struct Asked {
    pub wish: Wish,
    pub answer: mpsc::Sender<Result<(), String>>,
}

/// What is in use.
#[derive(Debug, Clone, Default)]
pub struct InUseShown {
    /// What the stream is called.
    pub stream: String,
    /// The vocabulary's file.
    pub vocabulary: PathBuf,
    /// Its words.
    pub words: Words,
    /// The least score of words without a threshold of their own.
    pub score_threshold: f32,
    /// Whether that is what the configuration says, or what was asked for since.
    pub is_as_configured: bool,
    /// The student's file.
    pub student: PathBuf,
    /// What runs it.
    pub engine: String,
}

/// Shared by whoever asks and whoever grants. Cheap to clone.
#[derive(Clone, Default)]
pub struct Wishes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Vec<Asked>>,
    in_use: Mutex<InUseShown>,
}

impl Wishes {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Why it isn't granted; what was before goes on then.
    pub fn ask(&self, wish: Wish) -> Result<(), String> {
        let (answer, answered) = mpsc::channel();
        {
            let mut waiting = locked(&self.0.waiting);
            if waiting.len() >= MOST_WAITING {
                return Err("too much is asked for at once; ask again".to_owned());
            }
            waiting.push(Asked { wish, answer });
        }
        let answer = answered.recv_timeout(LONGEST);
        answer.unwrap_or_else(|_| Err("the stream is busy or has ended; ask again".to_owned()))
    }

    /// What is in use now.
    pub fn in_use(&self) -> InUseShown {
        locked(&self.0.in_use).clone()
    }

    pub(super) fn show(&self, in_use: InUseShown) {
        *locked(&self.0.in_use) = in_use;
    }

    /// What waits to be granted.
    pub(super) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *locked(&self.0.waiting))
    }
}

/// What was granted, over the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Granted {
    vocabulary: Option<PathBuf>,
    score_threshold: Option<f32>,
}

impl Granted {
    /// With one more.
    pub fn and(&self, wish: &Wish) -> Self {
        let mut granted = self.clone();
        match wish {
            Wish::Vocabulary(path) => granted.vocabulary = Some(path.clone()),
            Wish::ScoreThreshold(score) => granted.score_threshold = Some(*score),
            Wish::AsConfigured => granted = Self::default(),
        }
        granted
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is wanted then.
    pub fn apply(&self, words: &mut WordsWanted) {
        if let Some(vocabulary) = &self.vocabulary {
            words.vocabulary.clone_from(vocabulary);
        }
        if let Some(score_threshold) = self.score_threshold {
            words.detection.score_threshold = score_threshold;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_waits_for_its_answer() {
        let wishes = Wishes::default();
        let asking = wishes.clone();
        let asked = std::thread::spawn(move || asking.ask(Wish::ScoreThreshold(0.5)));
        loop {
            if let Some(Asked { wish, answer }) = wishes.take().pop() {
                assert_eq!(wish, Wish::ScoreThreshold(0.5));
                drop(answer.send(Err("no".to_owned())));
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(asked.join().ok(), Some(Err("no".to_owned())));
    }

    #[test]
    fn later_wishes_go_before_earlier_ones_and_all_can_be_taken_back() {
        let granted = Granted::default().and(&Wish::ScoreThreshold(0.5)).and(&Wish::ScoreThreshold(0.7));
        assert_eq!(granted.score_threshold, Some(0.7));
        assert!(granted.and(&Wish::AsConfigured).is_empty());
    }
}
