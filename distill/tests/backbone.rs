//! The backbone that trains is the one that the graph of the same weights computes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use burn::tensor::Device;
use image::imageops::{self, FilterType};
use wordsight_distill::input::InputMaker;
use wordsight_distill::student::{BACKBONE_CHANNELS, Backbone, STRIDES};
use wordsight_engines::{Input, OnnxSession, TensorView};
use wordsight_onnx::proto::ElementType;
use wordsight_onnx::{Graph, Storage};
use wordsight_standin::efficientnet::{EfficientNetLite, Weights};
use wordsight_standin::pth;

/// A side at which stride-2 layers see odd and even maps: 224, 112, 56, 28, 14, 7.
const SIDE: usize = 224;

/// The graph of the backbone's stages that ends at strides 8, 16 and 32.
fn session(weights: &Weights) -> OnnxSession {
    let mut graph = Graph::new("backbone", Storage::F32);
    let side = SIDE as i64;
    let image = graph.input("image", ElementType::Uint8, &[1, 3, side, side]);
    let floats = graph.cast(&image, ElementType::Float);
    let normalised = EfficientNetLite::add_normalisation(&mut graph, &floats);
    let stages = EfficientNetLite::LITE0.add_stages(&mut graph, weights, &normalised, SIDE, SIDE).unwrap();
    for (stride, channels) in STRIDES.into_iter().zip(BACKBONE_CHANNELS) {
        let stage = stages.iter().rfind(|stage| stage.stride == stride).unwrap();
        let cells = (SIDE / stride) as i64;
        let shape = [1, channels as i64, cells, cells];
        graph.output(&stage.value, &format!("stride{stride}"), ElementType::Float, &shape);
    }
    OnnxSession::from_bytes(&wordsight_onnx::encode(&graph.into_model(&[])), "the backbone", 1).unwrap()
}

#[test]
fn the_backbone_that_trains_answers_as_onnx_runtime_does() {
    let made_by = "run `make deps host-deps` first";
    let runtime = support::needed(".deps/onnxruntime/libonnxruntime.so.1", made_by);
    let weights = support::needed(".deps/efficientnet-lite0.pth", made_by);
    let (Some(_), Some(weights)) = (runtime, weights) else { return };
    let weights = pth::read_pth(&weights).unwrap();
    let picture = imageops::resize(&support::clip_frames(40)[1], 320, 240, FilterType::Triangle);
    let mut input = InputMaker::new(SIDE);

    let pixels = input.planes(&picture).to_vec();
    let data = TensorView::U8(&pixels);
    let graph = session(&weights).run(&[Input { name: "image", shape: &[1, 3, SIDE, SIDE], data }]).unwrap();

    let device = Device::flex();
    let backbone = Backbone::pretrained(&weights, &device).unwrap();
    let trained = backbone.forward(input.tensor(&picture, &device));
    for ((map, graph), stride) in trained.maps.into_iter().zip(graph).zip(STRIDES) {
        let map = map.permute([0, 3, 1, 2]);
        assert_eq!(map.dims().to_vec(), graph.shape, "stride {stride}");
        let map: Vec<f32> = map.into_data().iter().collect();
        let apart = map.iter().zip(&graph.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let largest = map.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        println!("stride {stride}: apart by {apart} of {largest}");
        assert!(apart < 1e-4 * largest, "stride {stride}: apart by {apart} of {largest}");
        assert!(largest > 0.5, "stride {stride}: the maps are empty");
    }
}
