//! A graph small enough to be computed by hand, and the shipped student.
#![allow(clippy::unwrap_used)]

use wordsight_onnx::proto::ElementType;
use wordsight_onnx::{Attribute, Graph, Storage};

use super::kernels::Unit;
use super::*;

/// Pixels, less a constant; a convolution of each channel by itself, ReLU; one over channels; two reshaped branches that
/// read it: a product, and a maximum over windows.
fn small() -> ModelProto {
    let mut graph = Graph::new("small", Storage::F16);
    let image = graph.input("image", ElementType::Uint8, &[1, 4, 8, 8]);
    let pixels = graph.cast(&image, ElementType::Float);
    let grey = graph.scalar(127.0);
    let pixels = graph.sub(&pixels, &grey);
    let strides = [2, 2];
    let each = graph.floats(&[4, 1, 2, 2], &[0.5; 16]);
    let halved = graph.node(
        "Conv",
        &[&pixels, &each],
        &[
            ("group", Attribute::Int(4)),
            ("kernel_shape", Attribute::Ints(&strides)),
            ("strides", Attribute::Ints(&strides)),
        ],
    );
    let halved = graph.node("Relu", &[&halved], &[]);
    let over = graph.floats(&[6, 4, 1, 1], &[0.5; 24]);
    let mixed = graph.node("Conv", &[&halved, &over], &[("kernel_shape", Attribute::Ints(&[1, 1]))]);
    let rows = graph.reshape(&mixed, &[6, -1]);
    let columns = graph.floats(&[16, 3], &[0.5; 48]);
    let product = graph.matmul(&rows, &columns);
    let pooled = graph.node(
        "MaxPool",
        &[&mixed],
        &[("kernel_shape", Attribute::Ints(&strides)), ("strides", Attribute::Ints(&strides))],
    );
    graph.output(&product, "product", ElementType::Float, &[6, 3]);
    graph.output(&pooled, "pooled", ElementType::Float, &[1, 6, 2, 2]);
    graph.into_model(&[])
}

#[test]
fn what_kernels_multiply_and_move_is_what_a_sum_on_paper_says() {
    let kernels = kernels(small().graph.as_ref().unwrap()).unwrap();
    let of = |macs, unit, activations, byte_activations, weights| Kernel {
        macs,
        unit,
        activations,
        byte_activations,
        weights,
    };
    assert_eq!(
        kernels,
        [
            // 4x8x8 bytes in, as many floats out, one constant.
            of(0, Unit::Tensor, 256, 256, 1),
            // To 4x4x4 by 2x2 weights a channel, with ReLU behind it.
            of(64 * 4, Unit::Vector, 256 + 64, 0, 16),
            // To 6x4x4, written once for both readers.
            of(96 * 4, Unit::Tensor, 64 + 96, 0, 24),
            // 6x16 by 16x3.
            of(18 * 16, Unit::Tensor, 96 + 18, 0, 48),
            // To 6x2x2.
            of(0, Unit::Tensor, 96 + 24, 0, 0),
        ]
    );
}

#[test]
fn the_ends_of_the_range_are_sums_of_their_terms() {
    let estimate = Estimate::of(&small(), "small.onnx", Board::OrinNano).unwrap();
    let counts = Counts { macs: 256 + 384 + 288, kernels: 5, activations: 256 + 970, weights: 89 };
    assert_eq!(estimate.counts, counts);
    let fp16 = &estimate.ranges[1];
    assert_eq!(fp16.precision, Precision::Fp16);
    let near = |is: f64, expected: f64| assert!((is / expected - 1.0).abs() < 1e-9, "{is} is not {expected}");
    // Two bytes a value and a weight, one a pixel; every kernel waits for memory; 5 kernels of 3 and of 6 us.
    let bytes = 2.0 * (970.0 + 89.0) + 256.0;
    near(fp16.low.bandwidth_ms, 1e3 * bytes / (0.75 * 68e9));
    near(fp16.high.bandwidth_ms, 1e3 * bytes / (0.5 * 68e9));
    assert_eq!((fp16.low.compute_ms, fp16.low.bound_by), (0.0, Bound::Kernels));
    near(fp16.low.kernels_ms, 0.015);
    near(fp16.high.kernels_ms, 0.030);
    near(fp16.high.ms, 0.030 + fp16.high.bandwidth_ms);
}

#[test]
fn a_product_that_is_large_is_bound_by_the_tensor_cores() {
    let mut graph = Graph::new("large", Storage::F32);
    let a = graph.input("image", ElementType::Float, &[1024, 4096]);
    let weights = graph.floats(&[4096, 1024], &vec![0.5; 4096 * 1024]);
    let product = graph.matmul(&a, &weights);
    graph.output(&product, "product", ElementType::Float, &[1024, 1024]);
    let estimate = Estimate::of(&graph.into_model(&[]), "large.onnx", Board::AgxOrin).unwrap();
    let int8 = &estimate.ranges[2];
    assert_eq!(int8.high.bound_by, Bound::Compute);
    // 2048 a clock on 16 multiprocessors at 1.3 GHz, a fifth of it.
    let expected = 1e3 * (1u64 << 32) as f64 / (0.2 * 2048.0 * 16.0 * 1.3e9);
    assert!((int8.high.compute_ms / expected - 1.0).abs() < 1e-9, "{int8:?}");
}

#[test]
fn an_operator_that_is_not_known_is_named() {
    let mut graph = Graph::new("odd", Storage::F32);
    let image = graph.input("image", ElementType::Float, &[1, 2]);
    let odd = graph.node("Einsum", &[&image], &[]);
    graph.output(&odd, "out", ElementType::Float, &[1, 2]);
    let refused = Estimate::of(&graph.into_model(&[]), "odd.onnx", Board::OrinNx).unwrap_err();
    assert!(refused.contains("Einsum"), "{refused}");
}

#[test]
fn the_shipped_student_takes_some_milliseconds_and_waits_for_memory_and_kernels_more_than_for_products() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/student.onnx");
    let model = wordsight_onnx::read(&path).unwrap();
    let of = |board| Estimate::of(&model, "student.onnx", board).unwrap();
    let estimate = of(Board::OrinNanoSuper);
    let Counts { macs, kernels, activations, .. } = estimate.counts;
    assert!((1_000_000_000..4_000_000_000).contains(&macs), "{macs}");
    assert!((80..250).contains(&kernels), "{kernels}");
    assert!((20_000_000..120_000_000).contains(&activations), "{activations}");
    let [tf32, fp16, int8] = &estimate.ranges[..] else { panic!() };
    assert!((1.0..5.0).contains(&fp16.low.ms) && (2.0..10.0).contains(&fp16.high.ms), "{fp16:?}");
    assert!(fp16.low.ms < tf32.low.ms && int8.low.ms < fp16.low.ms && fp16.low.ms < fp16.high.ms);
    assert_ne!(fp16.low.bound_by, Bound::Compute, "{fp16:?}");
    assert!(of(Board::OrinNano).ranges[1].low.ms > of(Board::AgxOrin).ranges[1].high.ms);
    let told = estimate.to_string();
    assert!(told.starts_with("An estimate, and nothing measured"), "{told}");
    assert!(told.contains("1020 MHz") && told.contains("75 % of the bandwidth"), "{told}");
}
