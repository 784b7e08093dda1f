//! A frame's path through a GPU, on the GPU that is there, or else on a stand-in for CUDA's driver
//! (`cuda_stand_in.cpp`) that runs the same kernels on the processor.
//!
//! The driver is found by the loader's path, which is read when a program starts: so without a GPU each test runs
//! itself again as a process of its own, with the stand-in on that path.
#![cfg(feature = "tensorrt")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stand_in;

use std::ffi::c_void;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cudarc::driver::sys::{self, CUstreamCaptureMode, CUstreamCaptureStatus};
use cudarc::driver::{
    CudaContext, CudaGraph, CudaSlice, CudaStream, DevicePtr, DriverError, LaunchConfig, PushKernelArg,
    result,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wordsight_detection::{
    Detection, DetectionSettings, FrameView, PixelFormat, Resampler, ResizeFilter, ResizeMode,
    ResizeSettings, ScoreFunction, Scorer, TextWeights, Vocabulary, Word, YuvEncoding,
};
use wordsight_engines::gpu::{GpuEngine, Memory, Network, Stream};
use wordsight_engines::{
    Engine, EngineError, FrameBuffer, Regions, SharedEngine, StudentFacts, StudentOutput, WholeFrames, nvidia,
};

/// Where the process of a test finds the stand-in.
const STAND_IN: &str = "WORDSIGHT_TEST_CUDA_STAND_IN";

/// What it is asked for.
const ASKED: &str = "WORDSIGHT_TEST_CUDA";

/// The folder of the compiled stand-in.
fn stand_in_folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        stand_in::compile_into(folder.path(), Path::new(env!("CARGO_MANIFEST_DIR")));
        folder
    });
    folder.path()
}

/// Runs the body of the test of that name where there is a GPU to run it on.
fn on_a_gpu(name: &str, body: impl FnOnce()) {
    if std::env::var_os(STAND_IN).is_some() || nvidia::gpus().is_ok_and(|gpus| !gpus.is_empty()) {
        return body();
    }
    // Not by eprintln!, which the test runner keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "{name}: there is no GPU, a stand-in takes its place");
    // With memory pools, as an Orin has them, and without.
    for asked in ["", "no_pools=1"] {
        run_beside(name, stand_in_folder(), asked);
    }
}

/// Runs the test of that name in a process of its own, with the stand-in of a folder.
fn run_beside(name: &str, folder: &Path, asked: &str) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("LD_LIBRARY_PATH", folder)
        .env(STAND_IN, "1")
        .env(ASKED, asked)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && told.contains("1 passed"), "{asked}: {told}");
}

/// Asks the stand-in for something that goes wrong (`asked_for` of its source); `false` on a real GPU.
fn ask(words: &str) -> bool {
    // SAFETY: nothing else of this process reads or writes the environment meanwhile: it runs this one test.
    unsafe { std::env::set_var(ASKED, words) };
    std::env::var_os(STAND_IN).is_some()
}

const REGIONS: usize = 100;
const SIZE: usize = 48;
const INPUT: (usize, usize) = (64, 48);

fn facts() -> StudentFacts {
    StudentFacts {
        teacher: "t".to_owned(),
        resize: ResizeSettings::letterbox(INPUT.0, INPUT.1),
        outputs: StudentOutput::OF_SOFTMAX.to_vec(),
        proposals: REGIONS,
        embedding_size: SIZE,
        scores: ScoreFunction::Softmax {
            temperature: 0.02,
            background: unit(&mut StdRng::seed_from_u64(9)),
            text_weights: TextWeights { trained: 0.7, others: 0.3 },
        },
        objectness_weight: 0.4,
        region_statistics: None,
        stated_id: None,
        training: serde_json::Value::Null,
    }
}

fn unit(random: &mut StdRng) -> Vec<f32> {
    let row: Vec<f32> = (0..SIZE).map(|_| random.random_range(-1.0..1.0)).collect();
    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter().map(|x| x / length).collect()
}

fn random_regions(seed: u64) -> Regions {
    let mut random = StdRng::seed_from_u64(seed);
    let mut objectness: Vec<f32> = (0..REGIONS).map(|_| random.random_range(0.0..1.0)).collect();
    objectness.sort_by(|a, b| b.total_cmp(a));
    let boxes_in_input = (0..REGIONS)
        .map(|_| {
            let (left, top) = (random.random_range(0.0..40.0), random.random_range(0.0..30.0));
            [left, top, left + random.random_range(1.0..24.0), top + random.random_range(1.0..18.0)]
        })
        .collect();
    let mut rows = || (0..REGIONS).flat_map(|_| unit(&mut random)).collect::<Vec<f32>>();
    let (text_embeddings, image_embeddings) = (rows(), rows());
    Regions { boxes_in_input, objectness, text_embeddings, image_embeddings, ..Regions::default() }
}

fn vocabulary(words: usize, seed: u64) -> Vocabulary {
    let mut random = StdRng::seed_from_u64(seed);
    let named = |word: usize| Word {
        threshold: (word % 5 == 3).then_some(0.05),
        trained_on: word.is_multiple_of(2),
        ..Word::new(format!("w{word}"))
    };
    Vocabulary {
        teacher: "t".to_owned(),
        student: None,
        embedding_size: SIZE,
        prompts: Vec::new(),
        words: (0..words).map(named).collect(),
        embeddings: (0..words).flat_map(|_| unit(&mut random)).collect(),
    }
}

/// How the stand-in for a network behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    /// Is captured for so long that other threads come meanwhile.
    SlowToCapture,
    /// Does not let itself be captured.
    Uncapturable,
    /// Fails from its second run on.
    Failing,
}

/// How often a network was queued to run at once, and how often to be captured.
#[derive(Default)]
struct Counts {
    plain: AtomicUsize,
    captured: AtomicUsize,
}

impl Counts {
    fn get(&self) -> (usize, usize) {
        (self.plain.load(Ordering::Relaxed), self.captured.load(Ordering::Relaxed))
    }
}

/// Finds the same regions in every frame, except that its text embeddings begin with the bytes of its input: what
/// came out of the letterbox.
struct Canned {
    stream: Arc<CudaStream>,
    outputs: Vec<(StudentOutput, CudaSlice<f32>)>,
    shows_input: bool,
    manner: Manner,
    runs: usize,
    counts: Arc<Counts>,
    ports: Vec<(String, Memory)>,
}

impl Canned {
    fn new(regions: &Regions, shows_input: bool, manner: Manner) -> Result<Self, EngineError> {
        let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
        let outputs = StudentOutput::ALL.into_iter().filter(|output| !regions.output(*output).is_empty());
        let outputs =
            outputs.map(|output| (output, stream.clone_htod(regions.output(output)).unwrap())).collect();
        stream.synchronize().unwrap();
        let counts = Arc::default();
        Ok(Self { stream, outputs, shows_input, manner, runs: 0, counts, ports: Vec::new() })
    }
}

impl Network for Canned {
    fn bind(&mut self, port: &str, memory: Memory) -> Result<(), String> {
        self.ports.push((port.to_owned(), memory));
        Ok(())
    }

    fn queue(&mut self, stream: Stream) -> Result<(), String> {
        self.runs += 1;
        // SAFETY: the stream is alive.
        let status = unsafe { result::stream::is_capturing(stream.as_ptr().cast()) };
        let is_plain =
            status.is_ok_and(|status| status == CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
        let count = if is_plain { &self.counts.plain } else { &self.counts.captured };
        count.fetch_add(1, Ordering::Relaxed);
        if self.manner == Manner::SlowToCapture && !is_plain {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.manner == Manner::Failing && self.runs > 1 {
            return Err("the network has had enough".to_owned());
        }
        // The second run is the first that would be captured.
        if self.manner == Manner::Uncapturable && self.runs == 2 {
            return Err("not while capturing".to_owned());
        }
        let of = |name: &str| self.ports.iter().find(|(port, _)| port == name).unwrap().1;
        let copy = |to: Memory, from: u64, len: usize| {
            // SAFETY: both are on the GPU, and `len` is within both.
            unsafe { result::memcpy_dtod_async(to.address, from, len, stream.as_ptr().cast()) }
                .map_err(|error| format!("CUDA cannot copy: {error:?}"))
        };
        // What isn't bound the student doesn't have.
        let is_bound = |of: &StudentOutput| self.ports.iter().any(|(port, _)| port == of.name());
        for (of_student, output) in self.outputs.iter().filter(|(of, _)| is_bound(of)) {
            let to = of(of_student.name());
            assert_eq!(to.len, 4 * output.len());
            copy(to, output.device_ptr(&self.stream).0, to.len)?;
        }
        if self.shows_input {
            let input = of(StudentFacts::INPUT);
            copy(of("text_embeddings"), input.address, input.len)?;
        }
        Ok(())
    }
}

fn engine(regions: &Regions, shows_input: bool, manner: Manner) -> GpuEngine<Canned> {
    GpuEngine::new("canned", facts(), || Canned::new(regions, shows_input, manner)).unwrap()
}

/// OWLv2's numbers of regions and words; the size of its embeddings is 512.
const MANY_REGIONS: usize = 3600;

/// A student whose scores are a sigmoid's, without objectness.
fn sigmoid_facts() -> StudentFacts {
    use StudentOutput::{Boxes, LogitScale, LogitShift, TextEmbeddings};
    StudentFacts {
        outputs: vec![LogitScale, Boxes, TextEmbeddings, LogitShift],
        proposals: MANY_REGIONS,
        scores: ScoreFunction::Sigmoid,
        objectness_weight: 0.0,
        ..facts()
    }
}

fn sigmoid_regions() -> Regions {
    let mut random = StdRng::seed_from_u64(4);
    let boxes = (0..MANY_REGIONS).map(|at| {
        let (left, top) = ((at % 60) as f32, (at / 60) as f32 * 0.8);
        [left, top, left + 1.0, top + 0.8]
    });
    let boxes_in_input = boxes.collect();
    let mut numbers = |range: std::ops::Range<f32>| -> Vec<f32> {
        (0..MANY_REGIONS).map(|_| random.random_range(range.clone())).collect()
    };
    let (logit_shift, logit_scale) = (numbers(-0.8..-0.3), numbers(2.0..12.0));
    let text_embeddings = (0..MANY_REGIONS).flat_map(|_| unit(&mut random)).collect();
    let objectness = vec![1.0; MANY_REGIONS];
    Regions { boxes_in_input, objectness, text_embeddings, logit_shift, logit_scale, ..Regions::default() }
}

fn frame_bytes(format: PixelFormat, width: usize, height: usize, seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..format.frame_len(width, height).unwrap()).map(|_| random.random()).collect()
}

/// What came out of the letterbox, from the engine's regions.
fn shown_input(regions: &Regions) -> Vec<u8> {
    regions
        .text_embeddings
        .iter()
        .flat_map(|value| value.to_bits().to_le_bytes())
        .take(3 * INPUT.0 * INPUT.1)
        .collect()
}

fn planes_of(frame: &FrameView<'_>) -> Vec<u8> {
    let mut planes = vec![0; 3 * INPUT.0 * INPUT.1];
    Resampler::new(ResizeSettings::letterbox(INPUT.0, INPUT.1)).run(frame, &mut planes);
    planes
}

const SETTINGS: DetectionSettings = DetectionSettings {
    score_threshold: 0.1,
    nms_iou: 0.5,
    voting_iou: 0.6,
    max_detections: 50,
    words_per_region: 1,
    weak_fraction: 1.0,
};

fn scorer(vocabulary: &Vocabulary) -> Scorer {
    let facts = facts();
    Scorer::new(vocabulary, &facts.scores, facts.objectness_weight).unwrap()
}

/// Detections by the processor.
fn detect(scorer: &mut Scorer, regions: &Regions, settings: &DetectionSettings) -> Vec<Detection> {
    let mut found = Vec::new();
    scorer.detect(regions.view(), settings, &mut found);
    found
}

/// Detections from words that were ranked on the GPU.
fn settle(scorer: &mut Scorer, regions: &Regions, settings: &DetectionSettings) -> Vec<Detection> {
    let mut found = Vec::new();
    let ranked = regions.ranked.as_ref().expect("ranked words");
    scorer.take_ranked(&regions.boxes_in_input, &regions.objectness, ranked, settings);
    scorer.select(settings, &mut found);
    found
}

fn assert_same(found: &[Detection], wanted: &[Detection]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!((found.word, found.region, found.is_weak), (wanted.word, wanted.region, wanted.is_weak));
        assert!((found.score - wanted.score).abs() < 1e-4, "{found:?} {wanted:?}");
        for (found, wanted) in found.box_in_input.iter().zip(wanted.box_in_input) {
            assert!((found - wanted).abs() < 1e-2);
        }
    }
}

#[test]
fn the_letterbox_is_its_twin_s_to_the_last_bit() {
    on_a_gpu("the_letterbox_is_its_twin_s_to_the_last_bit", || {
        let mut engine = engine(&random_regions(1), true, Manner::Good);
        let mut regions = Regions::default();
        for (width, height) in [(64, 48), (2, 2), (640, 360), (30, 202), (640, 360), (48, 64)] {
            for format in PixelFormat::ALL {
                for encoding in [YuvEncoding::Bt601, YuvEncoding::Bt601Full, YuvEncoding::Bt709] {
                    let bytes = frame_bytes(format, width, height, 7);
                    let frame = FrameView { bytes: &bytes, width, height, format, encoding };
                    // The first comes alone, the second through a graph.
                    for _ in 0..3 {
                        WholeFrames::start(&mut engine, &frame).unwrap();
                        engine.finish(&mut regions).unwrap();
                        assert!(
                            shown_input(&regions) == planes_of(&frame),
                            "{format:?} {encoding:?} {width}x{height}"
                        );
                    }
                }
            }
        }
        let bytes = frame_bytes(PixelFormat::Rgb, 31, 17, 3);
        let frame = FrameView::rgb(&bytes, 31, 17);
        WholeFrames::start(&mut engine, &frame).unwrap();
        engine.finish(&mut regions).unwrap();
        assert!(shown_input(&regions) == planes_of(&frame), "odd sides");
    });
}

#[test]
fn ranked_words_are_those_of_the_scorer() {
    on_a_gpu("ranked_words_are_those_of_the_scorer", || {
        let found = random_regions(2);
        let mut engine = engine(&found, false, Manner::Good);
        let bytes = frame_bytes(PixelFormat::Rgb, 32, 24, 1);
        let mut regions = Regions::default();
        for (words, words_per_region) in [(1, 1), (2, 1), (63, 2), (64, 1), (65, 3), (300, 1), (1203, 1)] {
            let vocabulary = vocabulary(words, words as u64);
            let weak_fraction = if words == 300 { 0.5 } else { 1.0 };
            let settings = DetectionSettings { words_per_region, weak_fraction, ..SETTINGS };
            let mut scorer = scorer(&vocabulary);
            engine.set_words(&scorer.table(&settings)).unwrap();
            for _ in 0..3 {
                WholeFrames::start(&mut engine, &FrameView::rgb(&bytes, 32, 24)).unwrap();
                engine.finish(&mut regions).unwrap();
                assert!(regions.text_embeddings.is_empty(), "embeddings stay on the GPU");
                let wanted = detect(&mut scorer, &found, &settings);
                assert!(!wanted.is_empty() && wanted.len() < REGIONS);
                assert_same(&settle(&mut scorer, &regions, &settings), &wanted);
            }
        }
    });
}

#[test]
fn words_of_a_sigmoid_are_those_of_the_scorer() {
    on_a_gpu("words_of_a_sigmoid_are_those_of_the_scorer", || {
        let found = sigmoid_regions();
        let network = || Canned::new(&found, false, Manner::Good);
        let mut engine = GpuEngine::new("canned", sigmoid_facts(), network).unwrap();
        let mut regions = Regions::default();
        engine.infer(&[3; 3 * INPUT.0 * INPUT.1], &mut regions).unwrap();
        assert!(regions == found, "objectness is 1 where the student doesn't tell it");
        let bytes = frame_bytes(PixelFormat::Rgb, 32, 24, 1);
        for (words, words_per_region) in [(1, 1), (80, 3), (1203, 1)] {
            let settings = DetectionSettings {
                words_per_region,
                score_threshold: 0.25,
                max_detections: MANY_REGIONS,
                ..SETTINGS
            };
            let mut scorer =
                Scorer::new(&vocabulary(words, words as u64), &ScoreFunction::Sigmoid, 0.0).unwrap();
            engine.set_words(&scorer.table(&settings)).unwrap();
            for _ in 0..3 {
                WholeFrames::start(&mut engine, &FrameView::rgb(&bytes, 32, 24)).unwrap();
                engine.finish(&mut regions).unwrap();
                assert!(regions.text_embeddings.is_empty() && regions.logit_scale.is_empty());
                let wanted = detect(&mut scorer, &found, &settings);
                assert!(wanted.len() > 20, "{}", wanted.len());
                // Of thousands some score the same to the last digits, and come in another order.
                let by_region = |mut found: Vec<Detection>| {
                    found.sort_by_key(|found| (found.region, found.word));
                    found
                };
                assert_same(&by_region(settle(&mut scorer, &regions, &settings)), &by_region(wanted));
            }
        }
    });
}

#[test]
fn frames_are_stretched_and_padded_as_by_the_twin() {
    on_a_gpu("frames_are_stretched_and_padded_as_by_the_twin", || {
        let found = random_regions(1);
        for (mode, filter) in [
            (ResizeMode::Stretch, ResizeFilter::Bicubic),
            (ResizeMode::Pad, ResizeFilter::Gaussian),
            (ResizeMode::Pad, ResizeFilter::Bilinear),
            (ResizeMode::Letterbox, ResizeFilter::Bicubic),
        ] {
            let resize = ResizeSettings { mode, filter, padding: [1, 200, 90], ..facts().resize };
            let network = || Canned::new(&found, true, Manner::Good);
            let mut engine = GpuEngine::new("canned", StudentFacts { resize, ..facts() }, network).unwrap();
            let (mut twin, mut regions) = (Resampler::new(resize), Regions::default());
            for (width, height) in [(64, 48), (640, 360), (30, 202), (46, 8)] {
                for format in PixelFormat::ALL {
                    let bytes = frame_bytes(format, width, height, 7);
                    let frame =
                        FrameView { bytes: &bytes, width, height, format, encoding: YuvEncoding::Bt709 };
                    WholeFrames::start(&mut engine, &frame).unwrap();
                    engine.finish(&mut regions).unwrap();
                    let mut planes = vec![0; resize.input_len()];
                    twin.run(&frame, &mut planes);
                    assert!(
                        shown_input(&regions) == planes,
                        "{mode:?} {filter:?} {format:?} {width}x{height}"
                    );
                }
            }
        }
    });
}

#[test]
fn hidden_words_compete_on_the_gpu_as_they_do_in_the_scorer() {
    on_a_gpu("hidden_words_compete_on_the_gpu_as_they_do_in_the_scorer", || {
        let found = random_regions(2);
        let mut engine = engine(&found, false, Manner::Good);
        let bytes = frame_bytes(PixelFormat::Rgb, 32, 24, 1);
        let mut regions = Regions::default();
        for (words, shown, words_per_region) in [(65, 40, 1), (65, 40, 3), (300, 100, 1), (300, 2, 5)] {
            let mut vocabulary = vocabulary(words, words as u64);
            for word in &mut vocabulary.words[shown..] {
                (word.hidden, word.threshold) = (true, None);
            }
            let settings = DetectionSettings { words_per_region, score_threshold: 0.01, ..SETTINGS };
            let mut scorer = scorer(&vocabulary);
            engine.set_words(&scorer.table(&settings)).unwrap();
            WholeFrames::start(&mut engine, &FrameView::rgb(&bytes, 32, 24)).unwrap();
            engine.finish(&mut regions).unwrap();
            let wanted = detect(&mut scorer, &found, &settings);
            assert!(!wanted.is_empty() && wanted.iter().all(|found| found.word < shown));
            assert_same(&settle(&mut scorer, &regions, &settings), &wanted);
        }
    });
}

#[test]
fn two_frames_are_under_way_and_come_in_order() {
    on_a_gpu("two_frames_are_under_way_and_come_in_order", || {
        let mut engine = engine(&random_regions(3), true, Manner::Good);
        let mut regions = Regions::default();
        let frames: Vec<(usize, Vec<u8>)> = (0..12)
            .map(|at| {
                // The size changes while frames are under way.
                let width = if at < 6 { 40 } else { 90 };
                (width, frame_bytes(PixelFormat::Yuyv, width, 30, at))
            })
            .collect();
        let view = |at: usize| {
            let (width, bytes) = &frames[at];
            FrameView {
                bytes,
                width: *width,
                height: 30,
                format: PixelFormat::Yuyv,
                encoding: YuvEncoding::Bt601,
            }
        };
        WholeFrames::start(&mut engine, &view(0)).unwrap();
        for at in 1..frames.len() {
            WholeFrames::start(&mut engine, &view(at)).unwrap();
            engine.finish(&mut regions).unwrap();
            assert!(shown_input(&regions) == planes_of(&view(at - 1)), "frame {}", at - 1);
        }
        engine.finish(&mut regions).unwrap();
        assert!(shown_input(&regions) == planes_of(&view(frames.len() - 1)));
        engine.finish(&mut regions).unwrap();
        assert!(regions.boxes_in_input.is_empty(), "nothing is under way");
    });
}

/// Where the frame that has finished was copied to the GPU from; nowhere on a real GPU.
fn last_upload() -> Option<usize> {
    type LastUpload = unsafe extern "C" fn() -> *const u8;
    // SAFETY: the stand-in's signature.
    unsafe {
        sys::culib().get::<LastUpload>(b"wordsight_test_last_upload\0").ok().map(|last| last() as usize)
    }
}

fn yuyv(bytes: &[u8]) -> FrameView<'_> {
    FrameView { format: PixelFormat::Yuyv, ..FrameView::rgb(bytes, 40, 30) }
}

#[test]
fn a_frame_in_the_engine_s_own_memory_goes_to_the_gpu_from_where_it_was_captured() {
    on_a_gpu("a_frame_in_the_engine_s_own_memory_goes_to_the_gpu_from_where_it_was_captured", || {
        let network = Canned::new(&random_regions(3), true, Manner::Good).unwrap();
        let counts = Arc::clone(&network.counts);
        let mut engine = GpuEngine::new("canned", facts(), || Ok(network)).unwrap();
        let memory = engine.frame_memory().unwrap();
        // As a stream's jobs: each is captured into again when its frame has come home.
        let mut buffers: Vec<FrameBuffer> =
            (0..3).map(|_| FrameBuffer::in_memory(Arc::clone(&memory))).collect();
        let mut regions = Regions::default();
        let capture = |buffer: &mut FrameBuffer, at: usize| {
            buffer.clear();
            buffer.extend_from_slice(&frame_bytes(PixelFormat::Yuyv, 40, 30, at as u64));
        };
        capture(&mut buffers[0], 0);
        WholeFrames::start(&mut engine, &yuyv(&buffers[0])).unwrap();
        for at in 1..12 {
            capture(&mut buffers[at % 3], at);
            WholeFrames::start(&mut engine, &yuyv(&buffers[at % 3])).unwrap();
            engine.finish(&mut regions).unwrap();
            let before = &buffers[(at - 1) % 3];
            assert!(shown_input(&regions) == planes_of(&yuyv(before)), "frame {}", at - 1);
            if let Some(from) = last_upload() {
                assert_eq!(from, before.as_ptr() as usize, "without a copy on the processor");
            }
        }
        engine.finish(&mut regions).unwrap();
        assert_eq!(counts.get(), (1, 2), "by graphs from the second frame on");

        // What lies elsewhere is copied first, and may be gone at once; the two take turns.
        for at in 0..6 {
            let mut elsewhere = frame_bytes(PixelFormat::Yuyv, 40, 30, 100 + at);
            let (wanted, place) = (planes_of(&yuyv(&elsewhere)), elsewhere.as_ptr() as usize);
            WholeFrames::start(&mut engine, &yuyv(&elsewhere)).unwrap();
            elsewhere.fill(0);
            engine.finish(&mut regions).unwrap();
            assert!(
                shown_input(&regions) == wanted && last_upload() != Some(place),
                "frame {at} of elsewhere"
            );
            WholeFrames::start(&mut engine, &yuyv(&buffers[0])).unwrap();
            engine.finish(&mut regions).unwrap();
            assert!(shown_input(&regions) == planes_of(&yuyv(&buffers[0])));
        }
        engine.time_steps(&yuyv(&buffers[1])).unwrap();
        // Frames may outlive the engine that they were captured for.
        drop(engine);
        assert_eq!(buffers[1].len(), 2 * 40 * 30);
    });
}

#[test]
fn the_steps_of_a_frame_have_times() {
    on_a_gpu("the_steps_of_a_frame_have_times", || {
        let found = random_regions(8);
        let mut engine = engine(&found, false, Manner::Good);
        let mut scorer = scorer(&vocabulary(300, 1));
        engine.set_words(&scorer.table(&SETTINGS)).unwrap();
        let bytes = frame_bytes(PixelFormat::Nv12, 640, 360, 1);
        let frame = FrameView { format: PixelFormat::Nv12, ..FrameView::rgb(&bytes, 640, 360) };
        let mut regions = Regions::default();
        for _ in 0..3 {
            let times = engine.time_steps(&frame).unwrap().named();
            assert!(times.iter().all(|(_, ms)| *ms > 0.0), "{times:?}");
            let _ = writeln!(std::io::stderr(), "{times:?}");
            WholeFrames::start(&mut engine, &frame).unwrap();
            engine.finish(&mut regions).unwrap();
            assert_same(&settle(&mut scorer, &regions, &SETTINGS), &detect(&mut scorer, &found, &SETTINGS));
        }
    });
}

#[test]
fn planes_go_to_embeddings_whatever_words_are_set() {
    on_a_gpu("planes_go_to_embeddings_whatever_words_are_set", || {
        let found = random_regions(4);
        let mut engine = engine(&found, false, Manner::Good);
        let (planes, frame) = (vec![3; 3 * INPUT.0 * INPUT.1], frame_bytes(PixelFormat::Rgb, 8, 8, 1));
        let mut regions = Regions::default();
        let mut scorer = scorer(&vocabulary(20, 1));
        for _ in 0..2 {
            engine.infer(&planes, &mut regions).unwrap();
            assert!(regions == found, "the regions of the network");
            engine.set_words(&scorer.table(&SETTINGS)).unwrap();
            engine.infer(&planes, &mut regions).unwrap();
            assert!(regions == found, "the regions of the network");
            WholeFrames::start(&mut engine, &FrameView::rgb(&frame, 8, 8)).unwrap();
            engine.finish(&mut regions).unwrap();
            assert_same(&settle(&mut scorer, &regions, &SETTINGS), &detect(&mut scorer, &found, &SETTINGS));
        }
        let short = engine.infer(&planes[1..], &mut regions).unwrap_err();
        assert!(matches!(short, EngineError::BadInput { .. }), "{short}");
    });
}

#[test]
fn frames_and_planes_take_turns_each_by_its_own_way() {
    on_a_gpu("frames_and_planes_take_turns_each_by_its_own_way", || {
        let mut engine = engine(&random_regions(9), true, Manner::Good);
        let mut regions = Regions::default();
        let (bytes, planes) =
            (frame_bytes(PixelFormat::Rgb, 40, 30, 1), frame_bytes(PixelFormat::Rgb, INPUT.0, INPUT.1, 2));
        let frame = FrameView::rgb(&bytes, 40, 30);
        // The first planes come when frames have a graph already.
        for turns in [3, 1, 2] {
            for _ in 0..turns {
                WholeFrames::start(&mut engine, &frame).unwrap();
                engine.finish(&mut regions).unwrap();
                assert!(shown_input(&regions) == planes_of(&frame), "a frame");
            }
            for _ in 0..turns {
                engine.infer(&planes, &mut regions).unwrap();
                assert!(shown_input(&regions) == planes, "planes");
            }
        }
    });
}

#[test]
fn a_network_that_is_not_captured_runs_all_the_same() {
    on_a_gpu("a_network_that_is_not_captured_runs_all_the_same", || {
        let found = random_regions(5);
        let mut engine = engine(&found, false, Manner::Uncapturable);
        let mut regions = Regions::default();
        for _ in 0..4 {
            engine.infer(&vec![0; 3 * INPUT.0 * INPUT.1], &mut regions).unwrap();
            assert!(regions == found, "the regions of the network");
        }
    });
}

#[test]
fn what_fails_is_told_with_the_reason() {
    on_a_gpu("what_fails_is_told_with_the_reason", || {
        let mut engine = engine(&random_regions(6), false, Manner::Failing);
        let mut regions = Regions::default();
        let planes = vec![0; 3 * INPUT.0 * INPUT.1];
        engine.infer(&planes, &mut regions).unwrap();
        let told: Vec<String> = (0..3)
            .filter_map(|_| engine.infer(&planes, &mut regions).err())
            .map(|error| error.to_string())
            .collect();
        assert!(
            !told.is_empty() && told.iter().all(|told| told.contains("canned: the network has had enough")),
            "{told:?}"
        );

        let bytes = vec![0; 10];
        let odd = FrameView { format: PixelFormat::Nv12, ..FrameView::rgb(&bytes, 5, 2) };
        let told = WholeFrames::start(&mut engine, &odd).unwrap_err().to_string();
        assert!(told.contains("5x2") && told.contains("Nv12"), "{told}");
    });
}

#[test]
fn kernels_load_as_machine_code_or_by_the_driver_s_compiler() {
    on_a_gpu("kernels_load_as_machine_code_or_by_the_driver_s_compiler", || {
        let open =
            || GpuEngine::new("canned", facts(), || Canned::new(&random_regions(1), false, Manner::Good));
        for asked in ["no_jit=1", "no_cubin=1"] {
            ask(asked);
            assert!(open().is_ok(), "{asked}");
        }
        if ask("no_jit=1 no_cubin=1") {
            let error = open().err().unwrap().to_string();
            assert!(error.contains("CUDA cannot load wordsight's kernels"), "{error}");
        }
    });
}

/// An engine whose network counts how it is queued.
fn counting_engine(found: &Regions) -> (GpuEngine<Canned>, Arc<Counts>) {
    let network = Canned::new(found, false, Manner::Good).unwrap();
    let counts = Arc::clone(&network.counts);
    (GpuEngine::new("canned", facts(), || Ok(network)).unwrap(), counts)
}

/// A vocabulary's words and settings, to be set one after the other.
fn words_for(engine: &mut GpuEngine<Canned>, words: usize, settings: &DetectionSettings) {
    engine.set_words(&scorer(&vocabulary(words, words as u64)).table(settings)).unwrap();
}

/// What is found in four frames, two of which are under way at a time.
fn four_frames(engine: &mut GpuEngine<Canned>, (width, height): (usize, usize)) -> Vec<Regions> {
    let bytes = frame_bytes(PixelFormat::Rgb, width, height, 1);
    let mut found = Vec::new();
    for _ in 0..2 {
        for _ in 0..2 {
            WholeFrames::start(engine, &FrameView::rgb(&bytes, width, height)).unwrap();
        }
        for _ in 0..2 {
            let mut regions = Regions::default();
            engine.finish(&mut regions).unwrap();
            found.push(regions);
        }
    }
    found
}

/// What a new engine finds by these words: its frames go plain, and then by graphs of its own.
fn found_anew(found: &Regions, words: usize, settings: &DetectionSettings) -> Vec<Regions> {
    let (mut engine, counts) = counting_engine(found);
    words_for(&mut engine, words, settings);
    let regions = four_frames(&mut engine, (32, 24));
    assert_eq!(counts.get(), (1, 2), "a first frame, and a graph for each of the two under way");
    regions
}

#[test]
fn other_words_are_patched_into_the_graphs_that_are_there() {
    on_a_gpu("other_words_are_patched_into_the_graphs_that_are_there", || {
        let found = random_regions(2);
        let (mut engine, counts) = counting_engine(&found);
        let weak = DetectionSettings { weak_fraction: 0.5, score_threshold: 0.02, ..SETTINGS };
        // Fewer and more words than a block has columns; other thresholds.
        for (words, settings) in [
            (20, SETTINGS),
            (300, SETTINGS),
            (1, weak),
            (1203, SETTINGS),
            (64, weak),
            (65, SETTINGS),
            (20, weak),
        ] {
            words_for(&mut engine, words, &settings);
            let now = four_frames(&mut engine, (32, 24));
            assert!(now == found_anew(&found, words, &settings), "{words} words, to the last bit");
            assert!(now[3].ranked.as_ref().is_some_and(|ranked| !ranked.is_empty()), "{words} words");
            assert_eq!(counts.get(), (1, 2), "{words} words: nothing is captured again");
        }
        // What a graph has copied to other places can't be patched.
        let more = DetectionSettings { words_per_region: 3, ..SETTINGS };
        words_for(&mut engine, 65, &more);
        assert!(four_frames(&mut engine, (32, 24)) == found_anew(&found, 65, &more), "three words a region");
        assert_eq!(counts.get(), (2, 4));
        four_frames(&mut engine, (40, 30));
        assert_eq!(counts.get(), (3, 6), "another frame");
        words_for(&mut engine, 20, &more);
        assert!(four_frames(&mut engine, (40, 30)) == found_anew(&found, 20, &more));
        assert_eq!(counts.get(), (3, 6));
    });
}

#[test]
fn words_are_swapped_while_frames_are_under_way_and_planes_come_between() {
    on_a_gpu("words_are_swapped_while_frames_are_under_way_and_planes_come_between", || {
        let found = random_regions(2);
        let (mut engine, _) = counting_engine(&found);
        let (bytes, planes) = (frame_bytes(PixelFormat::Rgb, 32, 24, 1), vec![3; 3 * INPUT.0 * INPUT.1]);
        for words in [20, 70] {
            words_for(&mut engine, words, &SETTINGS);
            let wanted = found_anew(&found, words, &SETTINGS);
            assert!(four_frames(&mut engine, (32, 24)) == wanted);
            // One of the two graphs is of planes then, which know no words.
            let mut regions = Regions::default();
            engine.infer(&planes, &mut regions).unwrap();
            assert!(regions == found);
            assert!(four_frames(&mut engine, (32, 24)) == wanted);
            WholeFrames::start(&mut engine, &FrameView::rgb(&bytes, 32, 24)).unwrap();
        }
    });
}

/// Keeps what is logged.
struct Told(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Told {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                let _ = write!(self.0, "{field}={value:?} ");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Swaps words where a driver does not patch: graphs are captured again, without a plain frame, and it is told once.
fn assert_captured_again(reason: &str) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let _guard = tracing::subscriber::set_default(Told(Arc::clone(&told)));
    let found = random_regions(2);
    let (mut engine, counts) = counting_engine(&found);
    for (swaps, words) in [20, 70, 1].into_iter().enumerate() {
        words_for(&mut engine, words, &SETTINGS);
        let asked = std::env::var(ASKED).unwrap_or_default();
        assert!(four_frames(&mut engine, (32, 24)) == found_anew(&found, words, &SETTINGS), "{asked}");
        assert_eq!(counts.get(), (1, 2 + 2 * swaps), "{asked}");
    }
    let told = told.lock().unwrap();
    let told: Vec<&String> = told.iter().filter(|line| line.contains("does not patch")).collect();
    assert!(told.len() == 1 && told[0].contains(reason), "{told:?}");
}

#[test]
fn where_patching_is_refused_graphs_are_captured_again() {
    on_a_gpu("where_patching_is_refused_graphs_are_captured_again", || {
        // The first kernel of the first graph, its second one, and the second graph's.
        for asked in ["no_patch=1", "no_patch=2", "no_patch=4"] {
            if ask(asked) {
                assert_captured_again("CUDA cannot patch a graph");
            }
        }
    });
}

#[test]
fn a_driver_of_before_cuda_12_captures_again() {
    const NAME: &str = "a_driver_of_before_cuda_12_captures_again";
    if std::env::var_os(STAND_IN).is_some() {
        return assert_captured_again("cuGraphKernelNodeGetParams_v2");
    }
    let folder = tempfile::tempdir().unwrap();
    stand_in::compile_driver_into(
        folder.path(),
        &["-DCUDA_STAND_IN_OF_11"],
        Path::new(env!("CARGO_MANIFEST_DIR")),
    );
    run_beside(NAME, folder.path(), "");
}

/// A launch of one block row, as a graph's node has it.
fn launch_of(
    function: sys::CUfunction,
    blocks: u32,
    parameters: *mut *mut c_void,
) -> sys::CUDA_KERNEL_NODE_PARAMS_v2 {
    sys::CUDA_KERNEL_NODE_PARAMS_v2 {
        func: function,
        gridDimX: blocks,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 256,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        kernelParams: parameters,
        extra: std::ptr::null_mut(),
        kern: std::ptr::null_mut(),
        ctx: std::ptr::null_mut(),
    }
}

#[test]
fn the_stand_in_patches_only_what_a_driver_patches() {
    on_a_gpu("the_stand_in_patches_only_what_a_driver_patches", || {
        if std::env::var_os(STAND_IN).is_none() {
            return;
        }
        let context = CudaContext::new(0).unwrap();
        let stream = context.new_stream().unwrap();
        let module = context.load_module(cudarc::nvrtc::Ptx::from_src("stand-in")).unwrap();
        let rank = module.load_function("rank").unwrap();
        let none = [0_u64; 16];
        // A kernel and a memset.
        let captured = || {
            stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
            let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
            // SAFETY: what is captured is never run.
            unsafe {
                stream.launch_builder(&rank).arg(&none).launch(config).unwrap();
                result::memset_d8_async(1, 0, 1, stream.cu_stream()).unwrap();
            }
            stream.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap().unwrap()
        };
        let nodes = |graph: &CudaGraph| {
            let (mut nodes, mut count) = ([std::ptr::null_mut(); 2], 2);
            // SAFETY: there is place for two.
            unsafe { sys::cuGraphGetNodes(graph.cu_graph(), nodes.as_mut_ptr(), &raw mut count) }
                .result()
                .unwrap();
            assert_eq!(count, 2);
            nodes
        };
        let (one, other) = (captured(), captured());
        let ([kernel, memset], [foreign, _]) = (nodes(&one), nodes(&other));
        let mut argument = none.as_ptr().cast_mut().cast::<c_void>();
        let (arguments, nothing) = (&raw mut argument, std::ptr::null_mut());
        let set = |node: sys::CUgraphNode, to: sys::CUDA_KERNEL_NODE_PARAMS_v2| {
            // SAFETY: the graph is alive and never run.
            unsafe { sys::cuGraphExecKernelNodeSetParams_v2(one.cu_graph_exec(), node, &raw const to) as u32 }
        };
        let rank = rank.cu_function();
        assert_eq!(set(kernel, launch_of(rank, 7, arguments)), 0, "its own kernel, with another grid");
        assert_eq!(set(foreign, launch_of(rank, 7, arguments)), 1, "a node of another graph");
        assert_eq!(set(memset, launch_of(rank, 7, arguments)), 1, "no kernel");
        assert_eq!(set(kernel, launch_of(rank, 0, arguments)), 1, "a grid of nothing");
        assert_eq!(set(kernel, launch_of(rank, 1, nothing)), 1, "no parameters");
        assert_eq!(set(kernel, launch_of(std::ptr::null_mut(), 1, arguments)), 400, "no function");
        // A thread has no context before it makes one its own.
        let (exec, node) = (one.cu_graph_exec() as usize, kernel as usize);
        let elsewhere = std::thread::spawn(move || {
            let (exec, node) = (exec as sys::CUgraphExec, node as sys::CUgraphNode);
            // SAFETY: it is refused before anything is looked at.
            unsafe { sys::cuGraphExecKernelNodeSetParams_v2(exec, node, std::ptr::null()) as u32 }
        });
        assert_eq!(elsewhere.join().unwrap(), 201);
    });
}

/// What the other tests rely on: the stand-in is as strict as a driver.
#[test]
fn the_stand_in_refuses_what_a_driver_refuses() {
    on_a_gpu("the_stand_in_refuses_what_a_driver_refuses", || {
        if std::env::var_os(STAND_IN).is_none() {
            return;
        }
        let code = |result: Result<(), DriverError>| result.map_or_else(|error| error.0 as u32, |()| 0);
        let stream = CudaContext::new(0).unwrap().new_stream().unwrap();
        let buffer: CudaSlice<u8> = stream.alloc_zeros(16).unwrap();
        let (raw, address) = (stream.cu_stream(), buffer.device_ptr(&stream).0);
        // A thread has no context before it makes one its own.
        // SAFETY: nothing is reserved.
        let elsewhere = std::thread::spawn(|| unsafe { result::malloc_sync(16) }.map(|_| ()).err());
        assert_eq!(elsewhere.join().unwrap().map(|error| error.0 as u32), Some(201));

        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        let captured = |under_capture: &dyn Fn() -> Result<(), DriverError>| {
            // SAFETY: the stream is alive, and what is captured is never run.
            unsafe { result::stream::begin_capture(raw, mode) }.unwrap();
            let during = code(under_capture());
            (during, code(unsafe { result::stream::end_capture(raw) }.map(|_| ())))
        };
        // SAFETY: the buffer is as long as what would be copied, and pinned memory as long as the test.
        unsafe {
            assert_eq!(captured(&|| result::stream::synchronize(raw)), (900, 901), "a wait");
            let pageable = vec![7_u8; 16];
            let from_pageable = || result::memcpy_htod_async(address, &pageable, raw);
            assert_eq!(captured(&from_pageable), (900, 901), "memory that is not pinned");
            let pinned = result::malloc_host(16, 0).unwrap();
            let from_pinned = || {
                result::memcpy_htod_async(address, std::slice::from_raw_parts(pinned.cast::<u8>(), 16), raw)
            };
            assert_eq!(captured(&from_pinned), (0, 0), "pinned memory");
            result::free_host(pinned).unwrap();
            assert_eq!(code(result::stream::synchronize(raw)), 0, "and the stream goes on");
        }
    });
}

/// Streams of frames that share an engine.
fn streams(engine: GpuEngine<Canned>, number: usize) -> Vec<SharedEngine> {
    let engine = SharedEngine::new(Box::new(engine)).unwrap();
    (0..number).map(|_| engine.for_another().unwrap()).collect()
}

/// Sends a frame of noise on its way in a stream.
fn start_in(stream: &mut SharedEngine, (width, height): (usize, usize)) {
    let bytes = frame_bytes(PixelFormat::Rgb, width, height, 1);
    stream.whole_frames().unwrap().start(&FrameView::rgb(&bytes, width, height)).unwrap();
}

fn finish_in(stream: &mut SharedEngine) -> Regions {
    let mut regions = Regions::default();
    stream.whole_frames().unwrap().finish(&mut regions).unwrap();
    regions
}

#[test]
fn streams_share_a_network_and_each_has_words_and_graphs_of_its_own() {
    on_a_gpu("streams_share_a_network_and_each_has_words_and_graphs_of_its_own", || {
        let found = random_regions(2);
        let (engine, counts) = counting_engine(&found);
        let mut streams = streams(engine, 3);
        let mut words = [20, 300, 64];
        let sizes = [(32, 24), (64, 36), (24, 32)];
        let set = |stream: &mut SharedEngine, words: usize| {
            let table = scorer(&vocabulary(words, words as u64)).table(&SETTINGS);
            stream.whole_frames().unwrap().set_words(&table).unwrap();
        };
        streams.iter_mut().zip(words).for_each(|(stream, words)| set(stream, words));
        for round in 0..4 {
            // All have two frames under way, before any of them finishes one.
            for _ in 0..2 {
                streams.iter_mut().zip(sizes).for_each(|(stream, size)| start_in(stream, size));
            }
            for (at, stream) in streams.iter_mut().enumerate() {
                let settings = SETTINGS;
                let mut scorer = scorer(&vocabulary(words[at], words[at] as u64));
                let wanted = detect(&mut scorer, &found, &settings);
                for _ in 0..2 {
                    let regions = finish_in(stream);
                    assert_same(&settle(&mut scorer, &regions, &settings), &wanted);
                }
            }
            // A first frame and a graph for each of two places, whatever words a stream gets.
            assert_eq!(counts.get(), (3, if round == 0 { 3 } else { 6 }), "round {round}");
            words[round % 3] += 1;
            set(&mut streams[round % 3], words[round % 3]);
        }
    });
}

#[test]
fn a_stream_that_goes_leaves_the_frames_of_others_on_their_way() {
    on_a_gpu("a_stream_that_goes_leaves_the_frames_of_others_on_their_way", || {
        let mut streams = streams(engine(&random_regions(1), true, Manner::Good), 2);
        for _ in 0..3 {
            start_in(&mut streams[0], (32, 24));
            start_in(&mut streams[1], (64, 36));
            drop(finish_in(&mut streams[0]));
            drop(finish_in(&mut streams[1]));
        }
        start_in(&mut streams[0], (32, 24));
        start_in(&mut streams[1], (64, 36));
        start_in(&mut streams[0], (32, 24));
        drop(streams.remove(0));
        let bytes = frame_bytes(PixelFormat::Rgb, 64, 36, 1);
        assert!(shown_input(&finish_in(&mut streams[0])) == planes_of(&FrameView::rgb(&bytes, 64, 36)));
        start_in(&mut streams[0], (30, 30));
        let bytes = frame_bytes(PixelFormat::Rgb, 30, 30, 1);
        assert!(shown_input(&finish_in(&mut streams[0])) == planes_of(&FrameView::rgb(&bytes, 30, 30)));
    });
}

/// Threads that capture, queue, reserve and free in one CUDA stream, all at once.
#[test]
fn streams_of_several_threads_do_not_mix() {
    const STREAMS: usize = 3;
    const CHANGES: usize = 5;
    on_a_gpu("streams_of_several_threads_do_not_mix", || {
        let found = random_regions(2);
        let made = |shows_input| {
            let network = Canned::new(&found, shows_input, Manner::SlowToCapture).unwrap();
            let counts = Arc::clone(&network.counts);
            (streams(GpuEngine::new("canned", facts(), || Ok(network)).unwrap(), STREAMS), counts)
        };
        // A frame of another size takes another letterbox, and other words another ranking, while others capture.
        let (showing, of_showing) = made(true);
        let (ranking, of_ranking) = made(false);
        std::thread::scope(|scope| {
            for (number, mut stream) in showing.into_iter().enumerate() {
                scope.spawn(move || {
                    for frame in 0..4 * CHANGES {
                        let (width, height) = (16 + 2 * number + 8 * (frame / 4), 24);
                        let bytes = frame_bytes(PixelFormat::Rgb, width, height, frame as u64);
                        let view = FrameView::rgb(&bytes, width, height);
                        stream.whole_frames().unwrap().start(&view).unwrap();
                        let shown = shown_input(&finish_in(&mut stream));
                        assert!(shown == planes_of(&view), "frame {frame} of stream {number}");
                    }
                });
            }
            for (number, mut stream) in ranking.into_iter().enumerate() {
                let found = &found;
                scope.spawn(move || {
                    for swap in 0..CHANGES {
                        let words = 1 + 40 * number + 7 * swap;
                        let mut scorer = scorer(&vocabulary(words, words as u64));
                        // Another number of words a region takes other graphs.
                        let words_per_region = 1 + swap % 2;
                        let settings =
                            DetectionSettings { words_per_region, score_threshold: 0.02, ..SETTINGS };
                        stream.whole_frames().unwrap().set_words(&scorer.table(&settings)).unwrap();
                        let wanted = detect(&mut scorer, found, &settings);
                        // A stream that comes and goes.
                        drop(stream.for_another().unwrap());
                        for _ in 0..3 {
                            start_in(&mut stream, (32, 24));
                            let regions = finish_in(&mut stream);
                            assert_same(&settle(&mut scorer, &regions, &settings), &wanted);
                        }
                    }
                });
            }
        });
        // A plain frame and a capture for each: none was spoilt by another thread.
        let each = STREAMS * CHANGES;
        assert_eq!((of_showing.get(), of_ranking.get()), ((each, each), (each, each)));
    });
}

#[test]
fn a_gpu_that_fails_for_good_is_told_and_left() {
    on_a_gpu("a_gpu_that_fails_for_good_is_told_and_left", || {
        let found = random_regions(2);
        let scorer = scorer(&vocabulary(20, 1));
        let bytes = frame_bytes(PixelFormat::Rgb, 32, 24, 1);
        let run = |after: usize| {
            ask("");
            let mut engine = engine(&found, false, Manner::Good);
            if !ask(&format!("fails_after={after}")) {
                return None;
            }
            let mut regions = Regions::default();
            let mut go = || {
                engine.set_words(&scorer.table(&SETTINGS))?;
                for _ in 0..3 {
                    WholeFrames::start(&mut engine, &FrameView::rgb(&bytes, 32, 24))?;
                    engine.finish(&mut regions)?;
                }
                Ok::<_, EngineError>(())
            };
            // Whatever is freed afterwards is freed on a GPU that answers nothing.
            Some(go())
        };
        let mut told = 0;
        // Every third call: each is met in one frame or another.
        for after in (0..).step_by(3) {
            match run(after) {
                Some(Err(error)) => assert!(error.to_string().contains("CUDA cannot"), "{after}: {error}"),
                Some(Ok(())) | None => break,
            }
            told += 1;
        }
        ask("");
        assert!(std::env::var_os(STAND_IN).is_none() || told > 15, "{told} places");
        assert!(
            engine(&found, false, Manner::Good)
                .infer(&vec![0; 3 * INPUT.0 * INPUT.1], &mut Regions::default())
                .is_ok()
        );
    });
}

#[test]
fn without_a_driver_there_is_a_sentence() {
    if nvidia::has_driver() {
        return;
    }
    let error = GpuEngine::new("canned", facts(), || Canned::new(&random_regions(7), false, Manner::Good))
        .err()
        .unwrap();
    assert!(error.to_string().contains("no NVIDIA driver"), "{error}");
}
