//! Change requests: what the page, programs and MQTT ask of a stream while it runs, other words or another threshold.
//!
//! The reloader takes them and applies each as it takes over a configuration: tried first, whole or not at all. A request
//! changes no file of the user's. What was chosen holds until the configuration says something else about the words, or
//! the program ends; with [`ChangeRequest::Keep`] it also holds after a restart.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wordsight_detection::WordExamples;
use wordsight_teacher::words::ListedWords;

use crate::job::WordList;
use crate::threads::locked;
use crate::tracking::WrittenZones;

/// How long a request may take: an engine may be busy opening, or a teacher embedding.
const LONGEST: Duration = Duration::from_secs(30);
/// Requests that may wait.
const MOST_WAITING: usize = 16;

/// The most examples of a word, and the most words with examples.
const MOST_EXAMPLES: usize = 100;
const MOST_WORDS_WITH_EXAMPLES: usize = 200;

/// Examples that were shown to a student, by word.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShownExamples {
    /// The student's id.
    pub student: String,
    /// Words and what was shown of them.
    pub words: Vec<WordExamples>,
}

impl ShownExamples {
    /// With what was shown since. Examples of another student are given up for it.
    ///
    /// # Errors
    /// When there are too many.
    pub fn with(mut self, more: Self) -> Result<Self, String> {
        if self.student != more.student {
            return Ok(more);
        }
        for word in more.words {
            examples_of(&mut self.words, &word.word, word.is_negative).regions.extend(word.regions);
        }
        if self.words.len() > MOST_WORDS_WITH_EXAMPLES {
            return Err(format!(
                "{MOST_WORDS_WITH_EXAMPLES} words at most can have examples: forget some first"
            ));
        }
        match self.words.iter().find(|word| word.regions.len() > MOST_EXAMPLES) {
            Some(WordExamples { word, .. }) => {
                Err(format!("{word:?} has {MOST_EXAMPLES} examples already, and more would change nothing"))
            }
            None => Ok(self),
        }
    }
}

/// The examples of a word, or of what it is not; none yet where it is new.
pub fn examples_of<'a>(
    words: &'a mut Vec<WordExamples>,
    word: &str,
    is_negative: bool,
) -> &'a mut WordExamples {
    let known = words.iter().position(|known| known.word == word && known.is_negative == is_negative);
    let place = known.unwrap_or_else(|| {
        words.push(WordExamples { word: word.to_owned(), regions: Vec::new(), is_negative });
        words.len() - 1
    });
    &mut words[place]
}

/// A word with examples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExampleCount {
    word: String,
    /// How many show it, and how many show what it is not.
    examples: usize,
    negative: usize,
}

impl ExampleCount {
    /// Of each word, in the order in which they first were shown.
    pub fn of(shown: &ShownExamples) -> Vec<Self> {
        let mut counts: Vec<Self> = Vec::new();
        for WordExamples { word, regions, is_negative } in &shown.words {
            let place = counts.iter().position(|known| known.word == *word).unwrap_or_else(|| {
                counts.push(Self { word: word.clone(), examples: 0, negative: 0 });
                counts.len() - 1
            });
            let count = &mut counts[place];
            *(if *is_negative { &mut count.negative } else { &mut count.examples }) += regions.len();
        }
        counts
    }
}

/// A change that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeRequest {
    /// Words of another file.
    Vocabulary(PathBuf),
    /// The same, by its name in the folder of vocabularies.
    VocabularyNamed(String),
    /// These words, which are embedded first where they are new.
    Words(ListedWords),
    /// Also what an example shows, from now on.
    AddExamples(ShownExamples),
    /// A word's examples no more, those of what it is not among them.
    ForgetExamples(String),
    /// Another score threshold, 0 to 1, of words without a threshold of their own.
    ScoreThreshold(f32),
    /// These zones, lines and masks.
    Zones(WrittenZones),
    /// The zones, lines and masks that the configuration has.
    ZonesAsConfigured,
    /// Whether what was chosen, now and later, also holds after a restart.
    Keep(bool),
    /// Words and threshold as the configuration says.
    AsConfigured,
}

/// A request, and where its answer goes.
pub struct Pending {
    /// What is asked for.
    pub request: ChangeRequest,
    /// Told whether it is used now, or why not.
    pub answer: mpsc::Sender<Result<(), String>>,
}

/// What is in use.
#[derive(Debug, Clone, Default)]
pub struct Current {
    /// What the stream is called.
    pub stream: String,
    /// The vocabulary's file.
    pub vocabulary: PathBuf,
    /// Its words.
    pub words: WordList,
    /// The score threshold of words without a threshold of their own.
    pub score_threshold: f32,
    /// Whether words and threshold are what the configuration says, or what was asked for since.
    pub is_as_configured: bool,
    /// Whether what was asked for also holds after a restart.
    pub is_kept: bool,
    /// What was shown on the page or by programs.
    pub examples: Vec<ExampleCount>,
    /// The zones, lines and masks.
    pub zones: WrittenZones,
    /// Whether these are those of the configuration.
    pub are_zones_configured: bool,
    /// The student's file.
    pub student: PathBuf,
    /// What runs it.
    pub engine: String,
}

impl Current {
    /// What the vocabulary is asked for by: its file's name without `.safetensors`.
    pub fn vocabulary_name(&self) -> String {
        let name = self.vocabulary.file_name().unwrap_or_default().to_string_lossy();
        name.strip_suffix(".safetensors").unwrap_or(&name).to_owned()
    }
}

/// Shared by whoever asks and the reloader. Cheap to clone.
#[derive(Clone, Default)]
pub struct Requests(Arc<RequestQueue>);

#[derive(Default)]
struct RequestQueue {
    waiting: Mutex<Vec<Pending>>,
    /// Something waits.
    woken: Condvar,
    current: Mutex<Current>,
}

impl Requests {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Why it is refused; what was before goes on then.
    pub fn ask(&self, request: ChangeRequest) -> Result<(), String> {
        let (answer, answered) = mpsc::channel();
        {
            let mut waiting = locked(&self.0.waiting);
            if waiting.len() >= MOST_WAITING {
                return Err("too much is asked for at once; ask again".to_owned());
            }
            waiting.push(Pending { request, answer });
        }
        self.0.woken.notify_one();
        let answer = answered.recv_timeout(LONGEST);
        answer.unwrap_or_else(|_| Err("the stream is busy or has ended; ask again".to_owned()))
    }

    /// What is in use now.
    pub fn current(&self) -> Current {
        locked(&self.0.current).clone()
    }

    /// Shows what is in use from now on.
    pub fn show(&self, current: Current) {
        *locked(&self.0.current) = current;
    }

    /// What waits to be applied, as soon as something does, and nothing where nothing came within so long.
    pub fn take_within(&self, longest: Duration) -> Vec<Pending> {
        let waiting = locked(&self.0.waiting);
        let waited = self.0.woken.wait_timeout_while(waiting, longest, |waiting| waiting.is_empty());
        let (mut waiting, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::take(&mut *waiting)
    }
}

/// A change of the list of cameras.
#[derive(Debug, Clone, PartialEq)]
pub enum CameraChange {
    /// A camera of this name with these keys: one more, or in the place of the one that there is.
    Set(String, toml::Table),
    /// The camera of this name no more.
    Remove(String),
    /// The cameras that the configuration lists, as it lists them.
    AsConfigured,
}

/// Changes of the list of cameras, and where each answer goes. Cheap to clone.
#[derive(Clone, Default)]
pub struct CameraRequests(Arc<Mutex<Vec<PendingCamera>>>);

/// What is asked for, and where it is told whether it is so now, or why not.
pub type PendingCamera = (CameraChange, mpsc::Sender<Result<(), String>>);

impl CameraRequests {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Why it is refused; the cameras go on as they were.
    pub fn ask(&self, change: CameraChange) -> Result<(), String> {
        let (answer, answered) = mpsc::channel();
        {
            let mut waiting = locked(&self.0);
            if waiting.len() >= MOST_WAITING {
                return Err("too much is asked for at once; ask again".to_owned());
            }
            waiting.push((change, answer));
        }
        let answer = answered.recv_timeout(LONGEST);
        answer.unwrap_or_else(|_| Err("the cameras are busy or have ended; ask again".to_owned()))
    }

    /// What waits to be done.
    pub fn take(&self) -> Vec<PendingCamera> {
        std::mem::take(&mut locked(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_as_it_comes_and_waits_for_its_answer() {
        let requests = Requests::default();
        assert!(requests.take_within(Duration::ZERO).is_empty());
        let asking = requests.clone();
        let asked = std::thread::spawn(move || asking.ask(ChangeRequest::ScoreThreshold(0.5)));
        for Pending { request, answer } in requests.take_within(Duration::from_secs(600)) {
            assert_eq!(request, ChangeRequest::ScoreThreshold(0.5));
            drop(answer.send(Err("no".to_owned())));
        }
        assert_eq!(asked.join().ok(), Some(Err("no".to_owned())));
    }
}
