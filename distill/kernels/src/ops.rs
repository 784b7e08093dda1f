//! The kernels as operations of Burn, with gradients. On a device that they don't run on, a GPU, the same operations
//! are composed of Burn's own ([`composed`]).

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Device, Tensor, TensorData};
use burn_flex::FlexTensor;

use super::convolution::{Convolution, Operands, Size};
use super::{BINS, composed, enlarge, pooling};

/// Boxes of all images one after another, as many for each.
pub type Boxes = Arc<Vec<[f32; 4]>>;

/// What a backend must be able to do with a map `[N, height, width, channels]`.
#[backend_extension(Flex, Autodiff)]
pub trait ChannelsLast: Backend {
    /// One convolution with its bias `[outputs]` and activation.
    fn convolution(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self>;

    /// A map with every cell four times.
    fn enlarged(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// RoIAlign: `[N * regions, bins, bins, channels]`.
    fn pooled(map: FloatTensor<Self>, boxes_in_input: Boxes, stride: usize) -> FloatTensor<Self>;
}

/// A convolution of a map; weights as [`super::Kind`] has them.
pub fn convolution(
    input: Tensor<4>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    convolution: Convolution,
) -> Tensor<4> {
    if !has_kernels(&input) {
        return composed::convolution(input, weight, bias, convolution);
    }
    Tensor::from_dispatch(Dispatch::convolution(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        convolution,
    ))
}

/// A map with every cell four times: twice as high and wide.
pub fn enlarged(map: Tensor<4>) -> Tensor<4> {
    if !has_kernels(&map) {
        return composed::enlarged(map);
    }
    Tensor::from_dispatch(Dispatch::enlarged(map.into_dispatch()))
}

/// RoIAlign of boxes in input pixels, as many for every image: `[N * regions, bins, bins, channels]`.
pub fn pooled(map: Tensor<4>, boxes_in_input: Boxes, stride: usize) -> Tensor<4> {
    if !has_kernels(&map) {
        return composed::pooled(map, &boxes_in_input, stride);
    }
    Tensor::from_dispatch(Dispatch::pooled(map.into_dispatch(), boxes_in_input, stride))
}

/// Whether a tensor lies where the kernels run; with or without gradients.
fn has_kernels(tensor: &Tensor<4>) -> bool {
    tensor.device() == Device::flex()
}

fn numbers(tensor: &FlexTensor) -> std::borrow::Cow<'_, [f32]> {
    match tensor.as_slice::<f32>() {
        Some(numbers) => numbers.into(),
        None => tensor.to_contiguous().as_slice::<f32>().unwrap_or_default().to_vec().into(),
    }
}

fn size_of(tensor: &FlexTensor) -> Size {
    let dims = tensor.layout().shape();
    Size::new(std::array::from_fn(|place| dims[place]))
}

fn tensor<const D: usize>(numbers: Vec<f32>, dims: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers, dims))
}

impl ChannelsLast for Flex {
    fn convolution(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        convolution: Convolution,
    ) -> FlexTensor {
        let size = size_of(&input);
        let bias = numbers(&bias);
        let operands = Operands { input: &numbers(&input), size, weight: &numbers(&weight) };
        let out = convolution.forward(operands, &bias);
        tensor(out, convolution.output_size(size, bias.len()).dims())
    }

    fn enlarged(input: FlexTensor) -> FlexTensor {
        let size = size_of(&input);
        let out = enlarge::forward(&numbers(&input), size);
        tensor(out, [size.images, 2 * size.height, 2 * size.width, size.channels])
    }

    fn pooled(map: FlexTensor, boxes_in_input: Boxes, stride: usize) -> FlexTensor {
        let size = size_of(&map);
        let out = pooling::forward(&numbers(&map), size, &boxes_in_input, stride);
        tensor(out, [boxes_in_input.len(), BINS, BINS, size.channels])
    }
}

#[derive(Debug)]
struct ConvolutionBackward;

impl Backward<Flex, 3> for ConvolutionBackward {
    /// Input, weights, output.
    type State = (FlexTensor, FlexTensor, FlexTensor, Convolution);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_input, of_weight, of_bias] = ops.parents;
        let gradient = grads.consume::<Flex>(&ops.node);
        let (input, weight, output, convolution) = ops.state;
        let (size, outputs) = (size_of(&input), size_of(&output).channels);
        let weight_dims = [weight.layout().shape()[0], weight.layout().shape()[1]];
        let operands = Operands { input: &numbers(&input), size, weight: &numbers(&weight) };
        let gradients = convolution.backward(
            operands,
            &numbers(&output),
            &numbers(&gradient),
            outputs,
            of_input.is_some(),
        );
        if let (Some(node), Some(values)) = (of_input, gradients.input) {
            grads.register::<Flex>(node.id, tensor(values, size.dims()));
        }
        if let Some(node) = of_weight {
            grads.register::<Flex>(node.id, tensor(gradients.weight, weight_dims));
        }
        if let Some(node) = of_bias {
            grads.register::<Flex>(node.id, tensor(gradients.bias, [outputs]));
        }
    }
}

#[derive(Debug)]
struct EnlargedBackward;

impl Backward<Flex, 1> for EnlargedBackward {
    type State = Size;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let gradient = grads.consume::<Flex>(&ops.node);
        if let Some(node) = parent {
            let out = enlarge::backward(&numbers(&gradient), ops.state);
            grads.register::<Flex>(node.id, tensor(out, ops.state.dims()));
        }
    }
}

#[derive(Debug)]
struct PooledBackward;

impl Backward<Flex, 1> for PooledBackward {
    type State = (Size, Boxes, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let gradient = grads.consume::<Flex>(&ops.node);
        let (size, boxes_in_input, stride) = ops.state;
        if let Some(node) = parent {
            let out = pooling::backward(&numbers(&gradient), size, &boxes_in_input, stride);
            grads.register::<Flex>(node.id, tensor(out, size.dims()));
        }
    }
}

impl<C: CheckpointStrategy> ChannelsLast for Autodiff<Flex, C> {
    fn convolution(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        convolution: Convolution,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node(), bias.node()];
        let (input, weight) = (input.into_primitive(), weight.into_primitive());
        let output = Flex::convolution(input.clone(), weight.clone(), bias.into_primitive(), convolution);
        match ConvolutionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                prepared.finish((input, weight, output.clone(), convolution), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn enlarged(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [input.node()];
        let size = size_of(input.primitive());
        let output = Flex::enlarged(input.into_primitive());
        match EnlargedBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(size, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn pooled(map: FloatTensor<Self>, boxes_in_input: Boxes, stride: usize) -> FloatTensor<Self> {
        let nodes = [map.node()];
        let size = size_of(map.primitive());
        let output = Flex::pooled(map.into_primitive(), Arc::clone(&boxes_in_input), stride);
        match PooledBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((size, boxes_in_input, stride), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}
