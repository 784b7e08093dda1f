//! Looks at photographs: regions from the process beside, named by the stream's words or others.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use wordsight_detection::VocabularyError;
use wordsight_engines::StudentFacts;
use wordsight_teacher::words::ListedWords;

use super::region::region_of;
use super::worker::{self, Found, SOURCE, Sizes, Worker, other_student};
use crate::http::{DetectError, DetectPhotograph, Photograph, Thing};
use crate::job::Job;
use crate::pipeline::Control;
use crate::publish::Record;
use crate::requests::ShownExamples;
use crate::scoring::FrameScorer;
use crate::service::file_watch::Watched;
use crate::service::target::{OpenedWords, WordsTarget};
use crate::threads::{Stop, locked};

const NOT_YET: &str = "the stream has not begun yet";

/// The student and words of photographs: the stream's.
pub struct PhotographTarget {
    /// The student's file, as it was when the stream opened it.
    pub student: Watched,
    /// What the student says of itself.
    pub facts: StudentFacts,
    /// How words that are asked for are embedded and told.
    pub words: WordsTarget,
    /// What knows the words that name the stream's frames now.
    pub control: Arc<Control>,
    /// Whoever ends the service.
    pub stop: Stop,
}

/// Looks at photographs, one at a time.
#[derive(Default)]
pub struct Photographs {
    target: Mutex<Option<Arc<PhotographTarget>>>,
    worker: Mutex<Option<Worker>>,
}

impl Photographs {
    /// Looks with this student and these words from now on.
    pub fn set(&self, target: PhotographTarget) {
        *locked(&self.target) = Some(Arc::new(target));
    }

    fn target(&self) -> Result<Arc<PhotographTarget>, DetectError> {
        locked(&self.target).clone().ok_or_else(|| DetectError::Unavailable(NOT_YET.to_owned()))
    }

    fn find(&self, photograph: Vec<u8>, target: &PhotographTarget) -> Result<Found, DetectError> {
        let found = worker::find(&mut locked(&self.worker), photograph, &target.student, &target.stop)?;
        target.check(&found)?;
        Ok(found)
    }

    /// Ends the process that finds regions, if no photograph has come for a while.
    pub fn end_idle(&self, now: Instant) {
        // While it is at work it is in use.
        let Ok(mut worker) = self.worker.try_lock() else { return };
        if worker.as_ref().is_some_and(|worker| worker.is_idle(now)) {
            *worker = None;
        }
    }
}

impl DetectPhotograph for Photographs {
    fn detect(&self, photograph: Photograph, words: Option<&ListedWords>) -> Result<Record, DetectError> {
        let target = self.target()?;
        let not_yet = || DetectError::Unavailable(NOT_YET.to_owned());
        let mut scorer = match words {
            Some(words) => target.scorer_of(words)?,
            None => target.control.scorer().ok_or_else(not_yet)?,
        };
        let Photograph { bytes, received_at, timestamp_ns } = photograph;
        let found = self.find(bytes, &target)?;
        let Found { sizes, regions } = found;
        let mut job = Job { regions, ..Job::default() };
        job.letterbox = sizes.letterbox;
        job.frame.source = Arc::from(SOURCE);
        (job.frame.width, job.frame.height) = sizes.size;
        (job.frame.captured_at, job.frame.timestamp_ns) = (received_at, timestamp_ns);
        (job.times.preprocess, job.times.engine) = (sizes.preprocess, sizes.engine);
        scorer.run(&mut job);
        // They are for trackers, and of a photograph nothing is tracked.
        job.detections.retain(|detection| !detection.is_weak);
        Ok(Record::of(&job, received_at.elapsed()))
    }

    fn example(&self, photograph: Photograph, thing: Thing) -> Result<ShownExamples, DetectError> {
        let target = self.target()?;
        if target.facts.region_statistics.is_none() {
            return Err(DetectError::NoExample(VocabularyError::NoRegionStatistics.to_string()));
        }
        let found = self.find(photograph.bytes, &target)?;
        let region = region_of(&found, thing.box_in_photograph).map_err(DetectError::NoExample)?;
        Ok(thing.seen(&target.facts.id(), region))
    }
}

impl PhotographTarget {
    fn scorer_of(&self, words: &ListedWords) -> Result<FrameScorer, DetectError> {
        let opened = self.words.of_list(words).open(&self.facts, &self.stop);
        opened.map(|OpenedWords { scorer, .. }| scorer).map_err(|error| match self.stop.is_requested() {
            true => DetectError::Unavailable("the service ends".to_owned()),
            false => DetectError::Words(format!("{error:#}")),
        })
    }

    /// What was found can be named by the stream's words only if the very same student has found it.
    fn check(&self, found: &Found) -> Result<(), DetectError> {
        let facts = &self.facts;
        let Sizes { input_size, regions, embedding_size, .. } = found.sizes;
        let is_it = input_size == facts.resize.input_size
            && (regions, embedding_size) == (facts.proposals, facts.embedding_size);
        if is_it { Ok(()) } else { Err(other_student(&self.student)) }
    }
}
