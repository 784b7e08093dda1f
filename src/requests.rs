//! Change requests: what the page, programs and MQTT ask of a stream while it runs, other words or another threshold.
//!
//! The reloader takes them and applies each as it takes over a configuration: tried first, whole or not at all. A request
//! changes no file of the user's. What was chosen holds until the configuration says something else about the words, or
//! the program ends; with [`ChangeRequest::Keep`] it also holds after a restart.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use wordsight_teacher::words::ListedWords;

use crate::job::WordList;
use crate::threads::locked;

/// How long a request may take: an engine may be busy opening, or a teacher embedding.
const LONGEST: Duration = Duration::from_secs(30);
/// Requests that may wait.
const MOST_WAITING: usize = 16;

/// A change that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeRequest {
    /// Words of another file.
    Vocabulary(PathBuf),
    /// The same, by its name in the folder of vocabularies.
    VocabularyNamed(String),
    /// These words, which are embedded first where they are new.
    Words(ListedWords),
    /// Another score threshold, 0 to 1, of words without a threshold of their own.
    ScoreThreshold(f32),
    /// Whether what was chosen, now and later, also holds after a restart.
    Keep(bool),
    /// Everything as the configuration says.
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
    /// Whether that is what the configuration says, or what was asked for since.
    pub is_as_configured: bool,
    /// Whether what was asked for also holds after a restart.
    pub is_kept: bool,
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
