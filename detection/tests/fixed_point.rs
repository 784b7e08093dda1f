//! A frame comes out of the letterbox with the bytes that the crate `fast_image_resize` makes of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{CpuExtensions, FilterType, ResizeAlg, ResizeOptions, Resizer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wordsight_detection::{PADDING, Preprocessor, ResizeSettings};

/// The instructions that the crate has ways for, as far as this processor has them.
fn extensions() -> Vec<CpuExtensions> {
    #[cfg(target_arch = "x86_64")]
    let all = vec![CpuExtensions::None, CpuExtensions::Sse4_1, CpuExtensions::Avx2];
    #[cfg(target_arch = "aarch64")]
    let all = vec![CpuExtensions::None, CpuExtensions::Neon];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let all = vec![CpuExtensions::None];
    all.into_iter().filter(CpuExtensions::is_supported).collect()
}

/// The letterbox as the crate resizes for it.
struct Crate {
    resizer: Resizer,
    resized: Vec<U8x3>,
}

impl Crate {
    fn new(extension: CpuExtensions) -> Self {
        let mut resizer = Resizer::new();
        // SAFETY: only those that this processor supports are passed.
        unsafe { resizer.set_cpu_extensions(extension) };
        Self { resizer, resized: Vec::new() }
    }

    fn run(&mut self, rgb: &[u8], width: usize, height: usize, input: [usize; 2], out: &mut [u8]) {
        let letterbox = wordsight_detection::Letterbox::new((width, height), input.into());
        let (resized_width, resized_height) = letterbox.resized_size();
        let (pad_x, pad_y) = letterbox.pad();
        self.resized.resize(resized_width * resized_height, U8x3::new([0; 3]));
        let source = TypedImageRef::<U8x3>::from_buffer(width as u32, height as u32, rgb).unwrap();
        let mut target =
            TypedImage::from_pixels_slice(resized_width as u32, resized_height as u32, &mut self.resized)
                .unwrap();
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        self.resizer.resize_typed(&source, &mut target, &options).unwrap();
        if letterbox.resized_size() != input.into() {
            out.fill(PADDING);
        }
        let [input_width, input_height] = input;
        let (red, rest) = out.split_at_mut(input_width * input_height);
        let (green, blue) = rest.split_at_mut(input_width * input_height);
        for (y, row) in self.resized.chunks_exact(resized_width).enumerate() {
            let start = (y + pad_y) * input_width + pad_x;
            let span = start..start + resized_width;
            let planes = red[span.clone()].iter_mut().zip(&mut green[span.clone()]).zip(&mut blue[span]);
            for (pixel, ((red, green), blue)) in row.iter().zip(planes) {
                [*red, *green, *blue] = pixel.0;
            }
        }
    }
}

/// Frames of pixels as scenes have them, of noise, of extremes only, and of the brightest alone.
fn frames(width: usize, height: usize, random: &mut StdRng) -> [Vec<u8>; 4] {
    let wave = |at: usize, length: f32| (at as f32 / length).sin() * 90.0 + 128.0;
    let pixels = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let scene = pixels().flat_map(|(x, y)| [wave(x, 9.0), wave(y, 5.0), wave(x + 2 * y, 13.0)]);
    let scene = scene.map(|value| (value + random.random_range(-20.0..20.0)) as u8).collect();
    let noise = (0..3 * width * height).map(|_| random.random()).collect();
    let board =
        pixels().flat_map(|(x, y)| [0, 1, 2].map(|colour| 255 * ((x + y + colour) % 2) as u8)).collect();
    [scene, noise, board, vec![255; 3 * width * height]]
}

fn assert_same(sizes: impl IntoIterator<Item = (usize, usize)>, inputs: &[[usize; 2]]) {
    let mut random = StdRng::seed_from_u64(7);
    let mut crates = extensions().into_iter().map(Crate::new).collect::<Vec<_>>();
    let mut ours = inputs
        .iter()
        .map(|[width, height]| Preprocessor::new(ResizeSettings::letterbox(*width, *height)))
        .collect::<Vec<_>>();
    for (width, height) in sizes {
        for (kind, rgb) in frames(width, height, &mut random).into_iter().enumerate() {
            for (input, ours) in inputs.iter().zip(&mut ours) {
                let (mut found, mut wanted) = (vec![1; ours.output_len()], vec![2; ours.output_len()]);
                ours.run(&rgb, width, height, &mut found);
                for theirs in &mut crates {
                    theirs.run(&rgb, width, height, *input, &mut wanted);
                    let extension = theirs.resizer.cpu_extensions();
                    let first = found.iter().zip(&wanted).position(|(a, b)| a != b);
                    assert_eq!(first, None, "{width}x{height} into {input:?}, {extension:?}, frame {kind}");
                }
            }
        }
    }
}

const INPUTS: [[usize; 2]; 6] = [[384, 384], [416, 416], [320, 192], [97, 31], [16, 16], [1, 1]];

#[test]
fn frames_of_cameras_have_the_crates_bytes() {
    assert_same([(640, 480), (1280, 720), (1920, 1080), (800, 600), (384, 384), (352, 288)], &INPUTS[..3]);
}

#[test]
fn frames_of_odd_shapes_have_the_crates_bytes() {
    let sizes =
        [(1, 1), (1, 2), (2, 1), (3, 5), (3000, 7), (7, 3000), (1, 2000), (2000, 1), (21, 22), (15, 64)];
    assert_same(sizes, &INPUTS);
    assert_same([(3001, 2), (5, 5000), (20_000, 3)], &INPUTS);
}

#[test]
fn frames_of_random_sizes_have_the_crates_bytes() {
    let mut random = StdRng::seed_from_u64(1);
    let sizes: Vec<_> = (0..60)
        .map(|at| {
            let longest = if at % 2 == 0 { 60 } else { 700 };
            (random.random_range(1..longest), random.random_range(1..longest))
        })
        .collect();
    assert_same(sizes, &INPUTS);
}
