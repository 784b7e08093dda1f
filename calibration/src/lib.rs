//! INT8 post-training quantisation of an ONNX graph, and its conversion to FP16.
//!
//! The input is a model and the values that its tensors take on real photographs. The output is the same model with
//! `QuantizeLinear`/`DequantizeLinear` pairs where a runtime fuses them: explicit quantisation, which TensorRT 10 and
//! 11, TensorRT for RTX and ONNX Runtime all understand. Nothing here runs a model: [`observed`] adds the tensors to
//! be watched as outputs, the caller runs the model with any runtime, and [`Ranges`] collects the values.
//!
//! 1. [`Layers::of`] or [`Layers::for_processor`] says what can be quantised, [`Layers::without`] keeps layers in
//!    float;
//! 2. [`observed`], a few hundred photographs, [`Ranges::add`];
//! 3. [`quantize`] with a [`Method`] for the thresholds and a [`Target`] for the arithmetic.
//!
//! [`to_f16`] makes a model smaller and faster too, and needs no photographs. [`to_f16_around_integers`] is for a plan
//! of a quantised model, and [`without_integers`] for a runtime that can't build such a plan. [`fold_casts`] stores
//! weights in the type that they are used in.
//!
//! The two targets need different integers. TensorRT takes symmetric `int8` for weights and activations. ONNX
//! Runtime's fast convolution on x86 takes `uint8` activations with a zero point and `int8` weights, and is not faster
//! with `int8` activations.

mod folding;
mod half_precision;
mod integers;
mod layers;
mod normalisation;
mod quantize;
mod ranges;
mod types;
mod view;
mod weights;

pub use folding::fold_casts;
pub use half_precision::{to_f16, to_f16_around_integers};
pub use integers::without_integers;
pub use layers::{Bias, Kind, Layer, Layers};
pub use quantize::{Target, observed, quantize};
pub use ranges::{Method, Ranges, Threshold};
pub use types::element_types;
pub use weights::smaller_weights;

/// Why a graph can't be quantised.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// The model has no convolution that could be.
    #[error("the model has no layer to quantise, or all are pinned to float")]
    NothingToQuantise,
    /// It has been quantised before.
    #[error("the model is quantised already: start from the one in floating point")]
    QuantisedAlready,
    /// It isn't quantised, or for another runtime, or with steps that FP16 can't say.
    #[error(
        "the model has not the integers of one that was quantised for TensorRT, with steps of FP16: quantise it again"
    )]
    OtherIntegers,
    /// A tensor was never watched.
    #[error("nothing is known of what `{0}` holds: calibrate on the model that is to be quantised")]
    NeverSeen(String),
    /// A layer that the model doesn't have.
    #[error("the model has no layer `{0}` that could be pinned; its layers are listed in the report")]
    NoSuchLayer(String),
    /// A weight that isn't a constant of the file.
    #[error("the weights of `{0}` are not constants of the file")]
    NoWeights(String),
}
