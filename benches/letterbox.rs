//! From a 1080p camera's YUYV to a student's input: at once, or by way of an RGB frame.
//!
//!     make bench
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use wordsight_detection::{FrameView, PixelFormat, Preprocessor, Resampler, ResizeSettings, YuvEncoding};
use yuv::{YuvPackedImage, YuvRange, YuvStandardMatrix};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
const INPUT: usize = 384;
/// What of the input's height a frame of 16 by 9 takes.
const RESIZED_HEIGHT: usize = 216;

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
    let mut resampler = Resampler::new(ResizeSettings::letterbox(INPUT, INPUT));
    group.bench_function("at once", |bencher| bencher.iter(|| resampler.run(&frame, &mut out)));

    let mut rgb = vec![0; 3 * WIDTH * HEIGHT];
    let convert = |rgb: &mut [u8]| {
        let packed = YuvPackedImage {
            yuy: &bytes,
            yuy_stride: 2 * WIDTH as u32,
            width: WIDTH as u32,
            height: HEIGHT as u32,
        };
        let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt601);
        yuv::yuyv422_to_rgb(&packed, rgb, 3 * WIDTH as u32, range, matrix).unwrap();
    };
    let mut resizer = Resizer::new();
    let mut resized = vec![U8x3::new([0; 3]); INPUT * RESIZED_HEIGHT];
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let mut resize = |rgb: &[u8]| {
        let source = TypedImageRef::<U8x3>::from_buffer(WIDTH as u32, HEIGHT as u32, rgb).unwrap();
        let mut target =
            TypedImage::from_pixels_slice(INPUT as u32, RESIZED_HEIGHT as u32, &mut resized).unwrap();
        resizer.resize_typed(&source, &mut target, &options).unwrap();
    };
    // Without the padding and the planes, which it takes too.
    group.bench_function("the crate yuv, then fast_image_resize", |bencher| {
        bencher.iter(|| {
            convert(&mut rgb);
            resize(&rgb);
        });
    });
    group.bench_function("of that, fast_image_resize", |bencher| bencher.iter(|| resize(&rgb)));
    let mut preprocessor = Preprocessor::new(ResizeSettings::letterbox(INPUT, INPUT));
    group.bench_function("our own of RGB, planes and padding included", |bencher| {
        bencher.iter(|| preprocessor.run(&rgb, WIDTH, HEIGHT, &mut out));
    });
    group.finish();
}

criterion_group!(benches, letterbox);
criterion_main!(benches);
