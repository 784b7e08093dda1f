//! `auto` while a GPU can't be used, with made-up engines and a clock that doesn't wait.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use wordsight_capture::{Pacing, ReconnectSettings, SourceUri, StreamSettings};
use wordsight_detection::{DetectionSettings, ResizeSettings, ScoreFunction, TextWeights, Vocabulary, Word};
use wordsight_engines::gpu::GpuError;
use wordsight_engines::nvidia::DriverError;
use wordsight_engines::tensorrt::TensorRtError;
use wordsight_engines::{Engine, EngineError, Regions, StudentFacts, StudentOutput};

use super::*;
use crate::pipeline::{EngineKind, Precision, Report};
use crate::threads::Stop;

/// What TensorRT answers at one try.
#[derive(Clone, Copy)]
enum Answer {
    Runs,
    NoGpu,
    NotInstalled,
}

/// Engines whose TensorRT answers like this, one try after the other, and the last answer from then on.
struct Made {
    answers: Vec<Answer>,
    tries: AtomicU32,
    waited: Mutex<Duration>,
    /// Requested by an engine of TensorRT's after some frames.
    stop: Stop,
}

impl Made {
    fn new(answers: &[Answer]) -> Self {
        Self {
            answers: answers.to_vec(),
            tries: AtomicU32::new(0),
            waited: Mutex::default(),
            stop: Stop::default(),
        }
    }

    fn tries(&self) -> u32 {
        self.tries.load(Ordering::Relaxed)
    }
}

impl Engines for Made {
    fn on_processor(&self, _: &EngineTarget) -> anyhow::Result<Box<dyn Engine>> {
        Ok(Box::new(MadeEngine { title: "the processor", facts: facts(), frames_left: None }))
    }

    fn on_tensorrt(
        &self,
        _: &EngineTarget,
        _: &Stop,
        _: &(dyn Fn() + Sync),
    ) -> anyhow::Result<Box<dyn Engine>> {
        let at = self.tries.fetch_add(1, Ordering::Relaxed) as usize;
        Err(match self.answers.get(at).or(self.answers.last()).unwrap() {
            Answer::Runs => {
                let frames_left = Some((20, self.stop.clone()));
                return Ok(Box::new(MadeEngine { title: "TensorRT", facts: facts(), frames_left }));
            }
            Answer::NoGpu => EngineError::Gpu {
                engine: "TensorRT".to_owned(),
                reason: GpuError::Driver(DriverError::Unusable(999)),
            },
            Answer::NotInstalled => EngineError::TensorRt(TensorRtError::Missing {
                tried: "libnvinfer.so.10".to_owned(),
                place: "there".to_owned(),
            }),
        }
        .into())
    }

    fn wait(&self, duration: Duration, _: &Stop) {
        *self.waited.lock().unwrap() += duration;
    }
}

struct MadeEngine {
    title: &'static str,
    facts: StudentFacts,
    frames_left: Option<(u32, Stop)>,
}

impl Engine for MadeEngine {
    fn name(&self) -> &str {
        self.title
    }

    fn facts(&self) -> &StudentFacts {
        &self.facts
    }

    fn infer(&mut self, _: &[u8], regions: &mut Regions) -> Result<(), EngineError> {
        regions.clear();
        if let Some((left, stop)) = &mut self.frames_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                stop.request();
            }
        }
        Ok(())
    }
}

fn facts() -> StudentFacts {
    StudentFacts {
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
    }
}

/// A stream of `source` without end, named by a vocabulary that lies in `folder`.
fn target(folder: &Path, source: &str) -> Target {
    let vocabulary = folder.join("words.safetensors");
    let words = Vocabulary {
        teacher: "t".to_owned(),
        student: None,
        words: vec![Word::new("thing")],
        prompts: vec!["{}".to_owned()],
        embeddings: vec![1.0, 0.0],
        embedding_size: 2,
    };
    words.save(&vocabulary).unwrap();
    let detection = DetectionSettings {
        score_threshold: 0.5,
        nms_iou: 0.5,
        voting_iou: 1.0,
        max_detections: 10,
        words_per_region: 1,
        weak_fraction: 1.0,
    };
    Target {
        engine: EngineTarget {
            student: folder.join("student.onnx"),
            kind: EngineKind::Auto,
            threads: 1,
            tensorrt: None,
            builds_plans: true,
            precision: Precision::Auto,
            workspace_mib: 0,
        },
        words: WordsTarget {
            student: "student.onnx".into(),
            vocabulary,
            listed: None,
            shown: None,
            teacher: None,
            detection,
        },
        source: SourceTarget {
            uri: SourceUri::parse(source).unwrap(),
            pacing: Pacing::Lossless,
            repeat: false,
            stream: StreamSettings { latency_ms: 100 },
            reconnect: ReconnectSettings {
                stalled_after: Duration::from_secs(5),
                longest_wait: Duration::from_secs(5),
                give_up_after: None,
                waits_at_start: false,
            },
        },
        zones: Default::default(),
        tracking: None,
        sinks: Vec::new(),
        name: "stream".to_owned(),
        share: target::Share { priority: 1.0, max_fps: None },
        is_camera: false,
        http: None,
        vocabularies: "vocabularies".into(),
        health: None,
        governor: None,
    }
}

fn run(engines: &Made, target: &Target) -> anyhow::Result<Report> {
    let service = Service {
        load: &|_| Ok(target.clone()),
        configuration: None,
        frames: None,
        inputs_to_keep: 0,
        // For ever: it would end the tests' process.
        longest_stop: Duration::MAX,
        stop: engines.stop.clone(),
        engines,
        gpu_wait: GpuWait { at_start: Duration::ZERO, later: Duration::ZERO },
    };
    service.run()
}

/// The engine that `auto` takes when it may wait so long, whether it goes on asking, and what it has waited.
fn taken(engines: &Made, longest: Duration) -> (String, bool, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path(), "test://ff0000").engine;
    let opened = target.open_with(engines, longest, &Stop::default(), &|| ()).unwrap();
    let waited = *engines.waited.lock().unwrap();
    (opened.health().name, opened.gpu_may_come(), waited)
}

#[test]
fn a_gpu_that_comes_up_within_half_a_minute_is_waited_for() {
    use Answer::{NoGpu, Runs};
    let longest = GpuWait::SERVICE.at_start;
    let engines = Made::new(&[NoGpu, NoGpu, NoGpu, Runs]);
    assert_eq!(taken(&engines, longest), ("TensorRT".to_owned(), false, Duration::from_secs(3)));
    let never = Made::new(&[NoGpu]);
    assert_eq!(taken(&never, longest), ("the processor".to_owned(), true, Duration::from_secs(30)));
    assert_eq!(never.tries(), 31);
    let at_once = Made::new(&[NoGpu]);
    assert_eq!(taken(&at_once, Duration::ZERO), ("the processor".to_owned(), true, Duration::ZERO));
}

#[test]
fn what_no_waiting_mends_is_not_waited_for() {
    let engines = Made::new(&[Answer::NotInstalled]);
    let (name, asks_again, waited) = taken(&engines, GpuWait::SERVICE.at_start);
    assert_eq!(
        (name.as_str(), asks_again, waited, engines.tries()),
        ("the processor", false, Duration::ZERO, 1)
    );
}

#[test]
fn a_gpu_that_comes_up_later_takes_the_stream_over_from_the_processor() {
    use Answer::{NoGpu, Runs};
    let folder = tempfile::tempdir().unwrap();
    let engines = Made::new(&[NoGpu, NoGpu, NoGpu, Runs]);
    let report = run(&engines, &target(folder.path(), "test://ff0000?width=32&height=32")).unwrap();
    assert_eq!((report.engine.title(), engines.tries()), ("TensorRT", 4));
    let frames = report.publisher.summary().frames();
    assert!(frames > 0 && frames <= report.frames.captured, "{frames}");
}

#[test]
fn a_source_that_is_wrong_is_told_before_any_engine_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let engines = Made::new(&[Answer::Runs]);
    let missing = folder.path().join("missing.mjpeg");
    let error = run(&engines, &target(folder.path(), missing.to_str().unwrap())).err().unwrap();
    assert!(format!("{error:#}").contains("missing.mjpeg"), "{error:#}");
    assert_eq!(engines.tries(), 0);
    run(&engines, &target(folder.path(), "test://ff0000?width=32&height=32")).unwrap();
    assert_eq!(engines.tries(), 1, "a source that is right lets it be opened");
}
