//! After a first frame nothing is allocated for the next ones of its size.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use allocation_counter::measure;
use wordsight_detection::{
    DetectionSettings, FrameView, PixelFormat, Preprocessor, Ranked, RegionsView, Resampler, ResizeSettings,
    ScoreFunction, Scorer, TextWeights, Vocabulary, Word, YuvEncoding,
};

/// Numbers from -0.5 to 0.5 that look like none in particular.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn unit_rows(count: usize, size: usize, seed: u64) -> Vec<f32> {
    let mut rows = numbers(count * size, seed);
    for row in rows.chunks_exact_mut(size) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= length);
    }
    rows
}

const REGIONS: usize = 60;
const WORDS: usize = 400;
/// Of them; the others are hidden.
const SHOWN: usize = 300;
const SIZE: usize = 64;

fn scorer() -> Scorer {
    let words = (0..WORDS).map(|index| Word {
        threshold: (index % 5 == 0 && index < SHOWN).then_some(0.25),
        trained_on: index % 3 == 0,
        hidden: index >= SHOWN,
        ..Word::new(format!("word {index}"))
    });
    let vocabulary = Vocabulary {
        teacher: "test".into(),
        student: None,
        words: words.collect(),
        prompts: vec!["{}".into()],
        embeddings: unit_rows(WORDS, SIZE, 1),
        embedding_size: SIZE,
    };
    let text_weights = TextWeights { trained: 0.67, others: 0.33 };
    let function =
        ScoreFunction::Softmax { temperature: 0.02, background: unit_rows(1, SIZE, 2), text_weights };
    Scorer::new(&vocabulary, &function, 0.5).unwrap()
}

/// Regions of a frame: in the first none comes to anything, in later ones many do.
fn frame(number: u64) -> (Vec<[f32; 4]>, Vec<f32>, Vec<f32>, Vec<f32>) {
    let boxes = (0..REGIONS).map(|index| [10.0 * index as f32, 0.0, 10.0 * index as f32 + 15.0, 9.0]);
    let objectness = if number == 0 { 0.1 } else { 0.99 };
    let (text, image) = (unit_rows(REGIONS, SIZE, 2 + number), unit_rows(REGIONS, SIZE, 90 + number));
    (boxes.collect(), vec![objectness; REGIONS], text, image)
}

#[test]
fn scoring_allocates_nothing_after_its_first_frame_however_much_more_comes() {
    for (words_per_region, score_threshold) in [(1, 0.3), (5, 0.0), (SHOWN, 0.3)] {
        let settings = DetectionSettings {
            score_threshold,
            nms_iou: 0.4,
            voting_iou: 0.4,
            max_detections: 20,
            words_per_region,
            weak_fraction: 1.0,
        };
        let (mut scorer, mut found) = (scorer(), Vec::new());
        for number in 0..4 {
            let (boxes, objectness, text, image) = frame(number);
            let regions = RegionsView::of_two_heads(&boxes, &objectness, &text, &image);
            let count = measure(|| {
                scorer.detect(regions, &settings, &mut found);
            })
            .count_total;
            assert!(number == 0 || !found.is_empty());
            assert!(number == 0 || count == 0, "{count} allocations, {words_per_region} words a region");
        }
    }
}

#[test]
fn settling_what_was_ranked_elsewhere_allocates_nothing_after_the_first_frame() {
    let settings = DetectionSettings {
        score_threshold: 0.3,
        nms_iou: 0.4,
        voting_iou: 0.4,
        max_detections: 20,
        words_per_region: 1,
        weak_fraction: 1.0,
    };
    let (mut scorer, mut found) = (scorer(), Vec::new());
    let (boxes, objectness, ..) = frame(1);
    for number in 0..4 {
        let ranked: Vec<Ranked> =
            (0..number * REGIONS / 3).map(|region| Ranked { region, word: region % 7, score: 0.5 }).collect();
        let count = measure(|| {
            scorer.take_ranked(&boxes, &objectness, &ranked, &settings);
            scorer.select(&settings, &mut found);
        })
        .count_total;
        assert!(number == 0 || count == 0, "{count} allocations");
    }
}

#[test]
fn resampling_allocates_nothing_after_the_first_frame_of_a_size() {
    let mut resampler = Resampler::new(ResizeSettings::letterbox(96, 96));
    let mut out = vec![0; 3 * 96 * 96];
    for (width, height) in [(160, 120), (62, 200)] {
        for format in [PixelFormat::Rgb, PixelFormat::Yuyv, PixelFormat::Nv12] {
            let bytes = vec![99; format.frame_len(width, height).unwrap()];
            let frame = FrameView { bytes: &bytes, width, height, format, encoding: YuvEncoding::Bt601 };
            resampler.run(&frame, &mut out);
            for _ in 0..3 {
                let count = measure(|| {
                    resampler.run(&frame, &mut out);
                })
                .count_total;
                assert_eq!(count, 0, "{format:?}, {width}x{height}");
            }
        }
    }
}

#[test]
fn preprocessing_allocates_nothing_after_the_first_frame_of_a_size() {
    let mut preprocessor = Preprocessor::new(ResizeSettings::letterbox(96, 96));
    let mut out = vec![0; 3 * 96 * 96];
    for (width, height) in [(160, 120), (62, 200), (96, 96), (1, 1)] {
        let rgb = vec![99; 3 * width * height];
        preprocessor.run(&rgb, width, height, &mut out);
        for _ in 0..3 {
            let count = measure(|| {
                preprocessor.run(&rgb, width, height, &mut out);
            })
            .count_total;
            assert_eq!(count, 0, "{width}x{height}");
        }
    }
}
