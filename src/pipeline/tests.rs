//! The pipeline with made-up engines: one that takes inputs, and one that takes whole frames.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use wordsight_capture::{CaptureError, Captured, Frame};
use wordsight_detection::{
    DetectionSettings, FrameView, Ranked, RankingTable, ResizeSettings, ScoreFunction, TextWeights,
    Vocabulary, Word,
};
use wordsight_engines::{
    EngineError, FrameBlock, FrameMemory, ManyStreams, Regions, StepTimes, StudentFacts, StudentOutput,
    WholeFrames,
};

use super::*;
use crate::job::Stage;
use crate::publish::Outputs;

mod cameras;

/// After so long what is waited for will never be, on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something is so, however long a busy machine takes.
fn until_so(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What is done before a frame of a number is captured or inferred.
type Before = Box<dyn FnMut(u8) + Send>;

/// Frames of one grey each, which is their number.
struct Greys {
    next: u8,
    count: u8,
    before: Before,
}

impl Source for Greys {
    fn capture(&mut self, frame: &mut Frame) -> Result<Captured, CaptureError> {
        if self.next == self.count {
            return Ok(Captured::End);
        }
        (self.before)(self.next);
        (frame.width, frame.height) = (32, 32);
        frame.captured_at = Instant::now();
        frame.received_at = frame.captured_at;
        frame.bytes.clear();
        frame.bytes.resize(3 * 32 * 32, self.next);
        self.next += 1;
        Ok(Captured::Frame)
    }

    fn rewind(&mut self) -> Result<(), CaptureError> {
        self.next = 0;
        Ok(())
    }
}

/// Finds one region a frame: as wide as the grey is bright.
struct Made {
    facts: StudentFacts,
    takes_frames: bool,
    words: Option<RankingTable>,
    /// Greys of frames, and where these lie.
    under_way: VecDeque<(u8, *const u8)>,
    /// Its own memory for frames, if it has some.
    memory: Option<Arc<Noted>>,
    /// The most frames that were under way at once.
    most: Arc<Mutex<usize>>,
    fails_at: Option<u8>,
    /// How long it takes for an input.
    takes: Duration,
    before: Before,
}

// SAFETY: pointers are all that isn't Send by itself, and what they lead to the pool keeps.
unsafe impl Send for Made {}

/// Memory for frames that knows its blocks.
#[derive(Default)]
struct Noted(Mutex<Vec<std::ops::Range<usize>>>);

impl Noted {
    fn holds(&self, bytes: &[u8]) -> bool {
        let at = bytes.as_ptr() as usize;
        self.0.lock().unwrap().iter().any(|block| block.start == at && block.len() == bytes.len())
    }
}

struct NotedBlock(Box<[u8]>);

impl std::ops::Deref for NotedBlock {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::DerefMut for NotedBlock {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl FrameBlock for NotedBlock {}

impl FrameMemory for Noted {
    fn block(&self, bytes: usize) -> Option<Box<dyn FrameBlock>> {
        let block = NotedBlock(vec![0xA5; bytes].into());
        let start = block.0.as_ptr() as usize;
        self.0.lock().unwrap().push(start..start + bytes);
        Some(Box::new(block))
    }
}

impl Made {
    fn new(takes_frames: bool) -> Self {
        let facts = StudentFacts {
            teacher: "t".to_owned(),
            resize: ResizeSettings::letterbox(32, 32),
            outputs: StudentOutput::OF_SOFTMAX.to_vec(),
            proposals: 1,
            embedding_size: 2,
            scores: ScoreFunction::Softmax {
                temperature: 0.1,
                background: vec![0.0, 1.0],
                text_weights: TextWeights { trained: 0.5, others: 0.5 },
            },
            objectness_weight: 0.5,
            region_statistics: None,
            stated_id: None,
            training: Value::Null,
        };
        Self {
            facts,
            takes_frames,
            words: None,
            under_way: VecDeque::new(),
            memory: None,
            most: Arc::default(),
            fails_at: None,
            takes: Duration::ZERO,
            before: Box::new(|_| ()),
        }
    }

    fn fill(&self, grey: u8, regions: &mut Regions) {
        regions.clear();
        regions.boxes_in_input.push([0.0, 0.0, f32::from(grey) / 4.0 + 1.0, 32.0]);
        regions.objectness.push(1.0);
        if self.takes_frames {
            assert_eq!(
                self.words.as_ref().map(|words| words.thresholds.len()),
                Some(1),
                "the words were set"
            );
            regions.ranked.get_or_insert_default().push(Ranked { region: 0, word: 0, score: 0.9 });
        } else {
            regions.text_embeddings.extend([1.0, 0.0]);
            regions.image_embeddings.extend([1.0, 0.0]);
        }
    }
}

impl Engine for Made {
    fn name(&self) -> &str {
        "made"
    }

    fn facts(&self) -> &StudentFacts {
        &self.facts
    }

    fn infer(&mut self, image: &[u8], regions: &mut Regions) -> Result<(), EngineError> {
        (self.before)(image[0]);
        thread::sleep(self.takes);
        self.fill(image[0], regions);
        Ok(())
    }

    fn whole_frames(&mut self) -> Option<&mut dyn WholeFrames> {
        if self.takes_frames { Some(self) } else { None }
    }

    fn many_streams(&self) -> Option<&dyn ManyStreams> {
        if self.takes_frames { Some(self) } else { None }
    }
}

impl ManyStreams for Made {
    fn for_another(&self) -> Result<Box<dyn ManyStreams>, EngineError> {
        Ok(Box::new(Self { most: Arc::clone(&self.most), takes: self.takes, ..Self::new(self.takes_frames) }))
    }
}

impl WholeFrames for Made {
    fn set_words(&mut self, words: &RankingTable) -> Result<(), EngineError> {
        self.words = Some(words.clone());
        Ok(())
    }

    fn frame_memory(&self) -> Option<Arc<dyn FrameMemory>> {
        self.memory.clone().map(|memory| memory as Arc<dyn FrameMemory>)
    }

    fn start(&mut self, frame: &FrameView<'_>) -> Result<(), EngineError> {
        assert!(frame.is_whole() && self.under_way.len() < 2);
        assert!(self.memory.as_ref().is_none_or(|memory| memory.holds(frame.bytes)), "captured elsewhere");
        self.under_way.push_back((frame.bytes[0], frame.bytes.as_ptr()));
        let mut most = self.most.lock().unwrap();
        *most = self.under_way.len().max(*most);
        Ok(())
    }

    fn finish(&mut self, regions: &mut Regions) -> Result<(), EngineError> {
        // As long as a network takes, so that the next frame is there before this one is done.
        thread::sleep(Duration::from_millis(2));
        let (grey, place) = self.under_way.pop_front().expect("a frame under way");
        // SAFETY: the pool outlives the engine's frames.
        assert_eq!(unsafe { place.read_volatile() }, grey, "the frame is as it was until it has finished");
        if Some(grey) == self.fails_at {
            let reason = "a made-up failure".to_owned();
            return Err(EngineError::Failed { model: "made".to_owned(), reason });
        }
        self.fill(grey, regions);
        Ok(())
    }

    fn time_steps(&mut self, _: &FrameView<'_>) -> Result<StepTimes, EngineError> {
        Ok(StepTimes::default())
    }
}

/// One word for all that is found.
fn scorer(engine: &Made, word: &str) -> FrameScorer {
    let vocabulary = Vocabulary {
        teacher: "t".to_owned(),
        student: None,
        words: vec![Word::new(word)],
        prompts: vec!["{}".to_owned()],
        embeddings: vec![1.0, 0.0],
        embedding_size: 2,
    };
    let settings = DetectionSettings {
        score_threshold: 0.3,
        nms_iou: 0.5,
        voting_iou: 1.0,
        max_detections: 5,
        words_per_region: 1,
        weak_fraction: 1.0,
    };
    FrameScorer::new(&vocabulary, &engine.facts, settings).unwrap()
}

fn greys(count: u8, before: impl FnMut(u8) + Send + 'static) -> Box<dyn Source> {
    Box::new(Greys { next: 0, count, before: Box::new(before) })
}

fn pipeline(engine: Made, pacing: Pacing, count: u8, json: &std::path::Path) -> Pipeline {
    let (source, scorer) = (greys(count, |_| ()), scorer(&engine, "grey"));
    let json = Box::new(std::fs::File::create(json).unwrap());
    let publisher = Publisher::new(Outputs { json: Some(json), ..Outputs::default() }).unwrap();
    let stream = Pipeline::new(source, pacing, Box::new(engine), scorer, publisher);
    Pipeline { inputs_to_keep: 3, ..stream }
}

/// The right sides of the boxes in each line.
fn widths(json: &std::path::Path) -> Vec<f64> {
    let text = std::fs::read_to_string(json).unwrap();
    let width = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["detections"][0]["box_in_frame"][2].as_f64().unwrap()
    };
    text.lines().map(width).collect()
}

#[test]
fn an_engine_that_takes_whole_frames_tells_what_the_other_tells() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<f64> = (0..60).map(|grey| f64::from(grey) / 4.0 + 1.0).collect();
    for takes_frames in [false, true] {
        let json = folder.path().join("lines.jsonl");
        let made = Made::new(takes_frames);
        let most = Arc::clone(&made.most);
        let report =
            pipeline(made, Pacing::Lossless, 60, &json).run(&Stop::default(), &Control::default()).unwrap();
        assert_eq!(widths(&json), all, "every frame, in order");
        assert_eq!(report.kept_inputs, [0, 1, 2].map(|grey| vec![grey; 3 * 32 * 32]));
        assert_eq!(*most.lock().unwrap(), if takes_frames { 2 } else { 0 });
    }
}

#[test]
fn frames_are_captured_into_the_engine_s_own_memory_and_left_alone_until_they_have_finished() {
    let folder = tempfile::tempdir().unwrap();
    for pacing in [Pacing::Lossless, Pacing::Camera { period: Duration::from_millis(1) }] {
        let json = folder.path().join("lines.jsonl");
        let memory = Arc::new(Noted::default());
        let made = Made { memory: Some(Arc::clone(&memory)), ..Made::new(true) };
        let stream = pipeline(made, pacing, 100, &json);
        let health = stream.health.clone();
        // However late the other stages come, some frames get as far as the engine.
        let source = greys(100, move |number| {
            until_so("a tenth is published", || health.report().published >= u64::from(number) / 10);
        });
        Pipeline { source, ..stream }.run(&Stop::default(), &Control::default()).unwrap();
        assert!(widths(&json).is_sorted_by(|a, b| a < b) && widths(&json).len() >= 9);
        let blocks = memory.0.lock().unwrap().len();
        assert!((2..=CAMERA_JOBS.get()).contains(&blocks), "one for each job that had a frame: {blocks}");
    }
}

#[test]
fn from_a_camera_a_result_does_not_wait_for_the_next_frame() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("lines.jsonl");
    let stream = pipeline(Made::new(true), Pacing::Camera { period: Duration::from_millis(1) }, 5, &json);
    let health = stream.health.clone();
    // A camera that gives a frame when the one before is told.
    let source = greys(5, move |number| {
        until_so("all frames are told", || health.report().published == u64::from(number));
    });
    Pipeline { source, ..stream }.run(&Stop::default(), &Control::default()).unwrap();
    assert_eq!(widths(&json), [0.0, 1.0, 2.0, 3.0, 4.0].map(|grey| grey / 4.0 + 1.0));
}

#[test]
fn an_engine_that_fails_ends_the_stream_with_the_frame_s_number() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("lines.jsonl");
    let made = Made { fails_at: Some(7), ..Made::new(true) };
    let error =
        pipeline(made, Pacing::Lossless, 60, &json).run(&Stop::default(), &Control::default()).err().unwrap();
    let told = format!("{error:#}");
    assert!(told.contains("frame 7") && told.contains("a made-up failure"), "{told}");
}

#[test]
fn behind_a_slow_engine_the_newest_frame_wins_and_the_others_are_counted_where_they_waited() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("lines.jsonl");
    let counters = Arc::new(Counters::default());
    let dropped = |counters: &Counters| counters.drops(false).before[Stage::Engine as usize];
    let is_busy = Arc::new(AtomicBool::new(false));
    let health = Health::default();
    // An engine that is at the first frame until all others wait for it or have been pushed out, and at the next until the
    // first is told; and a camera that gives a frame when the one before has come so far.
    let before = {
        let (is_busy, counters, health) = (Arc::clone(&is_busy), Arc::clone(&counters), health.clone());
        Box::new(move |number| {
            is_busy.store(true, Ordering::Relaxed);
            until_so("the others came", || dropped(&counters) == 98);
            until_so("the first is told", || number == 0 || health.report().published == 1);
        })
    };
    let stream = pipeline(
        Made { before, ..Made::new(false) },
        Pacing::Camera { period: Duration::from_micros(1) },
        100,
        &json,
    );
    let control = Arc::new(Control::default());
    let source = {
        let control = Arc::clone(&control);
        greys(100, move |number| {
            until_so("the engine has the first", || number == 0 || is_busy.load(Ordering::Relaxed));
            let letterboxed = || control.pulse().read().turns(Stage::Preprocess);
            until_so("the frame before waits for the engine", || letterboxed() == u64::from(number));
        })
    };
    let report = Pipeline { source, counters, health, ..stream }.run(&Stop::default(), &control).unwrap();
    assert_eq!(widths(&json), [1.0, 99.0 / 4.0 + 1.0], "the newest is not lost");
    let drops = report.counters.drops(false);
    assert_eq!((drops.before, drops.camera), ([0, 0, 98, 0], 0));
    assert_eq!(report.publisher.summary().frames(), 2);
}

#[test]
fn a_measurement_counts_frames_and_the_engine_alone_and_ends_by_itself() {
    for takes_frames in [false, true] {
        measure_made(Made { takes: Duration::from_millis(2), ..Made::new(takes_frames) });
    }
}

fn measure_made(made: Made) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("lines.jsonl");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&seen);
    let settings = MeasurementSettings {
        warm_up: Duration::from_millis(50),
        duration: Duration::from_millis(600),
        slices: Some(Slices { stream: Duration::from_millis(150), alone: Duration::from_millis(50) }),
        cpu_time: || Some(Duration::ZERO),
    };
    let on_frame: OnFrame = Box::new(move |job, ended| {
        times.lock().unwrap().push((job.measured_at.unwrap(), job.times.engine, ended.age));
    });
    let measurement = Some(Measurement { settings, on_frame });
    let measured = Pipeline { repeat: true, measurement, ..pipeline(made, Pacing::Lossless, 100, &json) };
    let report = measured.run(&Stop::default(), &Control::default()).unwrap();
    let Rates { stream, alone, cpu_time, since } = report.rates.unwrap();
    let elapsed = since.unwrap().elapsed();
    let seen = seen.lock().unwrap();
    assert_eq!((stream.frames, cpu_time), (seen.len() as u64, Some(Duration::ZERO)));
    assert!(stream.frames > 1 && alone.frames > 1, "{stream:?} {alone:?}");
    // The clock of the measurement stands still while the engine is alone.
    assert!(seen.is_sorted_by(|a, b| a.0 < b.0) && seen.last().unwrap().0 <= stream.time);
    assert!(seen.iter().all(|(_, engine, age)| *engine >= Duration::from_millis(2) && age > engine));
    assert!(alone.time >= Duration::from_millis(50), "{alone:?}");
    assert!(
        stream.time + alone.time <= elapsed,
        "without the engine's slices: {stream:?} {alone:?} {elapsed:?}"
    );
}

/// The words of each line, with those that follow on equal ones left out.
fn words_in_order(json: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(json).unwrap();
    let word = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["detections"][0]["word"].as_str().unwrap().to_owned()
    };
    let mut words: Vec<String> = text.lines().map(word).collect();
    words.dedup();
    words
}

#[test]
fn words_are_swapped_between_two_frames_of_either_engine_and_no_frame_is_lost() {
    for takes_frames in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("out.jsonl");
        let mut made = Made::new(takes_frames);
        made.takes = Duration::from_millis(2);
        let others: Vec<FrameScorer> =
            (0..8).map(|number| scorer(&made, &format!("word {number}"))).collect();
        let control = Arc::new(Control::default());
        let stream = pipeline(made, Pacing::Lossless, 250, &json);
        let swapper = thread::spawn({
            let (control, health) = (Arc::clone(&control), stream.health.clone());
            move || {
                for (other, published) in others.into_iter().zip((20..).step_by(20)) {
                    until_so("frames come", || health.report().published >= published);
                    control.swap_words(other, takes_frames);
                    control.drop_retired();
                }
            }
        });
        let source = {
            let control = Arc::clone(&control);
            greys(250, move |number| until_so("all were swapped", || number < 200 || control.newest() == 8))
        };
        let report = Pipeline { source, ..stream }.run(&Stop::default(), &control).unwrap();
        swapper.join().unwrap();
        assert_eq!((report.frames.captured, report.publisher.summary().frames()), (250, 250));
        let words = words_in_order(&json);
        assert_eq!((&*words[0], &**words.last().unwrap()), ("grey", "word 7"), "{words:?}");
        let numbers: Vec<u32> =
            words.iter().filter_map(|word| word.strip_prefix("word ")?.parse().ok()).collect();
        assert!(numbers.is_sorted(), "no word comes back: {words:?}");
        let beside = control.scorer().unwrap();
        assert_eq!(beside.words().get(0), "word 7", "whoever names beside the stream has its words");
        drop((beside, report));
        control.drop_retired();
        assert!(control.has_nothing_retired());
    }
}

#[test]
fn what_was_swapped_while_no_frame_came_names_the_first_that_does() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.jsonl");
    let made = Made::new(false);
    let control = Control::default();
    for word in ["never seen", "seen"] {
        control.swap_words(scorer(&made, word), false);
    }
    pipeline(made, Pacing::Lossless, 3, &json).run(&Stop::default(), &control).unwrap();
    assert_eq!(words_in_order(&json), ["seen"]);
}

#[test]
fn a_stream_that_pauses_gives_its_parts_back_and_another_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.jsonl");
    let mut made = Made::new(false);
    made.takes = Duration::from_millis(2);
    let control = Arc::new(Control::default());
    let source = {
        let control = Arc::clone(&control);
        greys(120, move |number| {
            if number == 60 {
                control.pause();
            }
        })
    };
    let first = Pipeline { source, ..pipeline(made, Pacing::Lossless, 120, &json) };
    let first = first.run(&Stop::default(), &control).unwrap();
    let captured = first.frames.captured;
    assert_eq!((captured, first.publisher.summary().frames()), (61, 61), "what was captured came out");
    control.resume();
    let next = first.next().ok().unwrap();
    let report = next.run(&Stop::default(), &control).unwrap();
    assert_eq!((report.frames.captured, report.publisher.summary().frames()), (120, 120));
    let expected: Vec<f64> = (0..120).map(|grey| f64::from(grey) / 4.0 + 1.0).collect();
    assert_eq!(widths(&json), expected);
}

#[test]
fn words_that_waited_for_a_frame_do_not_take_the_place_of_newer_ones() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.jsonl");
    let made = Made::new(false);
    let control = Control::default();
    control.swap_words(scorer(&made, "waited"), false);
    control.discard_waiting();
    let newest = Box::new(scorer(&made, "newest"));
    let stream = Pipeline { scorer: newest, ..pipeline(made, Pacing::Lossless, 3, &json) };
    stream.run(&Stop::default(), &control).unwrap();
    assert_eq!(words_in_order(&json), ["newest"]);
}

#[test]
fn an_engine_that_takes_whole_frames_is_at_rest_when_no_frame_comes() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.jsonl");
    for takes_frames in [false, true] {
        let control = Control::default();
        pipeline(Made::new(takes_frames), Pacing::Lossless, 5, &json)
            .run(&Stop::default(), &control)
            .unwrap();
        let before = control.pulse().read();
        control.pulse().done(Stage::Capture);
        assert_eq!(control.pulse().read().stuck_since(&before), None);
    }
}
