//! From a 1080p camera's YUYV to a student's input: at once, or by way of an RGB frame.
//!
//!     make bench
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use wordsight_detection::{FrameView, PixelFormat, Preprocessor, Resampler, YuvEncoding};
use yuv::{YuvPackedImage, YuvRange, YuvStandardMatrix};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
const INPUT: usize = 384;

fn letterbox(criterion: &mut Criterion) {
    let bytes: Vec<u8> = (0..2 * WIDTH * HEIGHT).map(|at| (at * 31 % 251) as u8).collect();
    let frame = FrameView {
        bytes: &bytes,
        width: WIDTH,
        height: HEIGHT,
        format: PixelFormat::Yuyv,
        encoding: YuvEncoding::Bt601,
    };
    let mut out = vec![0; 3 * INPUT * INPUT];
    let mut group = criterion.benchmark_group("1080p YUYV to 384x384");
    let mut resampler = Resampler::new(INPUT, INPUT);
    group.bench_function("at once", |bencher| bencher.iter(|| resampler.run(&frame, &mut out)));

    let mut preprocessor = Preprocessor::new(INPUT, INPUT);
    let mut rgb = vec![0; 3 * WIDTH * HEIGHT];
    group.bench_function("the crate yuv, then RGB resized", |bencher| {
        bencher.iter(|| {
            let packed = YuvPackedImage {
                yuy: &bytes,
                yuy_stride: 2 * WIDTH as u32,
                width: WIDTH as u32,
                height: HEIGHT as u32,
            };
            yuv::yuyv422_to_rgb(
                &packed,
                &mut rgb,
                3 * WIDTH as u32,
                YuvRange::Limited,
                YuvStandardMatrix::Bt601,
            )
            .unwrap();
            preprocessor.run(&rgb, WIDTH, HEIGHT, &mut out)
        });
    });
    group.bench_function("of that, the resize", |bencher| {
        bencher.iter(|| preprocessor.run(&rgb, WIDTH, HEIGHT, &mut out));
    });
    group.finish();
}

criterion_group!(benches, letterbox);
criterion_main!(benches);
