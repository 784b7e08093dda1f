//! `wordsight bench --swaps`: measures swaps of the vocabulary while a stream runs.
//!
//! Measures each number of words that it is given, and reports a table. The vocabularies are made up, of random
//! directions in the student's space: they name nothing, and using them takes what using real ones takes.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use wordsight_detection::{DetectionSettings, Vocabulary, Word};
use wordsight_engines::{Engine, StudentFacts};

use super::flags::CommonArgs;
use super::installed::INSTALLED;
use super::measure::{Wanted, config_of, open_source};
use crate::bench::{Dice, Percentiles, SwapReport, Swaps, microseconds};
use crate::health::Health;
use crate::pipeline::{Control, Counters, Measurement, MeasurementSettings, OnFrame, Pipeline};
use crate::publish::{Outputs, Publisher};
use crate::scoring::FrameScorer;
use crate::service::{EngineTarget, WordsTarget};
use crate::threads::{Stop, locked};

/// Swaps of each size.
const SWAPS: usize = 200;
/// From one swap to the next: a few frames have run by then.
const PAUSE: Duration = Duration::from_millis(100);
/// Frames that the recorded times have room for.
const MOST_FRAMES: usize = 1 << 16;

/// What the frames tell: by which version of the words each was scored, and how long that took.
type Scored = Arc<Mutex<Vec<(u64, Duration)>>>;

/// Measures each size.
pub(super) fn measure_swaps(
    common: &CommonArgs,
    wanted: &Wanted<'_>,
    sizes: &[usize],
) -> anyhow::Result<SwapReport> {
    let config = config_of(common, wanted)?;
    let stop = Stop::on_signals()?;
    let mut engine = EngineTarget::of(&config)?.open(&INSTALLED, &stop, &|| ())?;
    let detection = WordsTarget::of(&config)?.detection;
    let name = engine.name().to_owned();
    let mut mode = wanted.mode.to_string();
    let mut done = Vec::new();
    for &words in sizes {
        let source = open_source(wanted, &config, &Health::default(), &stop)?;
        mode = format!("{}: {}", wanted.mode, source.name);
        let scored: Scored = Arc::new(Mutex::new(Vec::with_capacity(MOST_FRAMES)));
        let counters = Arc::new(Counters::default());
        counters.note_swaps(SWAPS);
        let scorer = scorer_of(words, 0, engine.facts(), detection)?;
        let outputs = Outputs { json: Some(Box::new(std::io::sink())), ..Outputs::default() };
        let publisher = Publisher::new(outputs)?;
        let measurement = Measurement {
            settings: MeasurementSettings {
                warm_up: Duration::ZERO,
                duration: Duration::MAX,
                slices: None,
                cpu_time: || None,
            },
            on_frame: record_into(Arc::clone(&scored)),
        };
        let pipeline = Pipeline {
            repeat: true,
            counters,
            measurement: Some(measurement),
            ..Pipeline::new(source.source, source.pacing, engine, scorer, publisher)
        };
        let (swaps, back) = run(pipeline, words, detection, &scored, &stop)?;
        engine = back;
        if stop.is_requested() {
            break;
        }
        done.push(swaps);
    }
    Ok(SwapReport { engine: name, mode, sizes: done })
}

/// Runs a stream, swaps its words, and has it pause, so that all that was captured comes out.
fn run(
    mut pipeline: Pipeline,
    words: usize,
    detection: DetectionSettings,
    scored: &Scored,
    stop: &Stop,
) -> anyhow::Result<(Swaps, Box<dyn Engine>)> {
    let control = Control::default();
    let (facts, ranks) = (pipeline.engine.facts().clone(), pipeline.engine.whole_frames().is_some());
    let (report, made) = thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let made = swap(&control, words, &facts, detection, ranks, stop);
            control.pause();
            made
        });
        let report = pipeline.run(stop, &control);
        let made =
            swapping.join().map_err(|_| anyhow::anyhow!("swapping panicked; this is a bug in wordsight"))?;
        anyhow::Ok((report?, made?))
    })?;
    if let Some(error) = report.given_up {
        return Err(crate::service::of_usage(error));
    }
    let pauses = report.counters.swaps_took();
    let published = report.publisher.summary().frames();
    let swaps = Swaps {
        words,
        swaps: pauses.len(),
        frames: report.frames.captured,
        lost: report.frames.captured - published,
        pause_us: Percentiles::of(pauses.into_iter().map(microseconds).collect()),
        first_frame_us: first_frames(&locked(scored)),
        made_ms: Percentiles::of(made.into_iter().map(|took| microseconds(took) / 1e3).collect()).p50,
    };
    Ok((swaps, report.engine))
}

/// Swaps again and again, and tells how long each vocabulary took to be made ready.
fn swap(
    control: &Control,
    words: usize,
    student: &StudentFacts,
    detection: DetectionSettings,
    ranks: bool,
    stop: &Stop,
) -> anyhow::Result<Vec<Duration>> {
    let mut made = Vec::with_capacity(SWAPS);
    for number in 1..=SWAPS as u64 {
        thread::sleep(PAUSE);
        if stop.is_requested() {
            break;
        }
        let start = Instant::now();
        let scorer = scorer_of(words, number, student, detection)?;
        made.push(start.elapsed());
        control.swap_words(scorer, ranks);
        control.drop_retired();
    }
    // The last ones are to be used too.
    thread::sleep(2 * PAUSE);
    Ok(made)
}

/// Words that are directions at random, others for each number.
fn scorer_of(
    words: usize,
    number: u64,
    student: &StudentFacts,
    detection: DetectionSettings,
) -> anyhow::Result<FrameScorer> {
    let size = student.embedding_size;
    let mut dice = Dice(number);
    let mut next = || (dice.next() >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let mut embeddings = Vec::with_capacity(words * size);
    for _ in 0..words {
        let first = embeddings.len();
        embeddings.extend((0..size).map(|_| next()));
        let length = embeddings[first..].iter().map(|x| x * x).sum::<f32>().sqrt();
        embeddings[first..].iter_mut().for_each(|x| *x /= length);
    }
    let word = |number: usize| Word::new(format!("word {number}"));
    let vocabulary = Vocabulary {
        teacher: student.teacher.clone(),
        student: None,
        words: (0..words).map(word).collect(),
        prompts: vec!["{}".to_owned()],
        embeddings,
        embedding_size: size,
    };
    FrameScorer::new(&vocabulary, student, detection).context("made-up words do not fit the student")
}

/// Only the publishing thread calls it, so its lock is always free.
fn record_into(scored: Scored) -> OnFrame {
    Box::new(move |job, _| {
        let mut scored = locked(&scored);
        if scored.len() < scored.capacity() {
            scored.push((job.vocabulary_version, job.times.scoring + job.times.nms));
        }
    })
}

/// By how much the first frames of each version took longer to be scored than the others in the median.
fn first_frames(scored: &[(u64, Duration)]) -> Percentiles {
    let is_first = |pair: &[(u64, Duration)]| pair[0].0 != pair[1].0;
    let times = |firsts: bool| {
        let pairs = scored.windows(2).filter(move |pair| is_first(pair) == firsts);
        pairs.map(|pair| microseconds(pair[1].1)).collect::<Vec<f64>>()
    };
    let usual = Percentiles::of(times(false)).p50;
    Percentiles::of(times(true).into_iter().map(|took| took - usual).collect())
}
