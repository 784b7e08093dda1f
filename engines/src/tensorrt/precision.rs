//! The precision of a plan, decided when it is built, and the model that TensorRT is given for it.
//!
//! TensorRT's networks are strongly typed: they compute in the types of the file. A student in FP32 is converted to
//! FP16 before it is given to TensorRT, unless that is forbidden; one that is in FP16 already stays as it is. One in
//! INT8 gets FP16 around its integers, which operator set 19 allows and our files don't use; where TensorRT can't
//! build that, it is converted to FP16 without integers.

use serde::{Deserialize, Serialize};
use wordsight_calibration::{fold_casts, to_f16, to_f16_around_integers, without_integers};
use wordsight_onnx::proto::ModelProto;

/// What a student in FP32 may become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// FP16: about half the time, and what is sensitive in FP32 (`to_f16` says what that is).
    #[default]
    Auto,
    /// What it is.
    Fp32,
    /// FP16, as with [`Self::Auto`] now.
    Fp16,
}

impl Precision {
    /// Its name, as the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
        }
    }
}

/// What a plan computes in, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// `fp32`, `tf32`, `fp16`, `int8`.
    pub precision: String,
    /// Why, in words.
    pub because: String,
}

impl Decided {
    /// What the plan of a model for a GPU (87 for 8.7) is to compute in.
    pub(super) fn of(model: &ModelProto, wanted: Precision, gpu: u32) -> Self {
        let own = wordsight_onnx::precision_of(model);
        let convolutions =
            model.graph.as_ref().is_some_and(|graph| graph.node.iter().any(|node| node.op_type == "Conv"));
        let (precision, because) = match (own, wanted) {
            ("fp32", Precision::Auto | Precision::Fp16) if convolutions => (
                "fp16",
                format!("made of a student in FP32, as engine.precision = \"{}\" has it", wanted.name()),
            ),
            // TensorRT's default from compute capability 8.0 on: 10 bits of mantissa in products.
            ("fp32", _) if gpu >= 80 => ("tf32", Self::left(wanted)),
            ("fp32", _) => ("fp32", Self::left(wanted)),
            ("int8", _) if to_f16_around_integers(model).is_err() => (
                own,
                "as the student's file has it, with FP32 around its integers: `wordsight-distill quantize --target \
                 tensorrt` of this version makes one that gets FP16"
                    .to_owned(),
            ),
            (own, _) => (own, "as the student's file has it".to_owned()),
        };
        Self { precision: precision.to_owned(), because }
    }

    /// What the plan of a student in INT8 is to compute in after TensorRT has refused to build it.
    pub(super) fn without_integers(refusal: &str) -> Self {
        // What is added about memory is advice for whoever watches the build.
        let refusal = refusal.split("; ").next().unwrap_or(refusal);
        let because = format!("for TensorRT can't build this student in INT8 here ({refusal})");
        Self { precision: "fp16".to_owned(), because }
    }

    /// Whether it is in integers.
    pub(super) fn is_in_integers(&self) -> bool {
        self.precision == "int8"
    }

    fn left(wanted: Precision) -> String {
        match wanted {
            Precision::Fp32 => "as engine.precision = \"fp32\" has it".to_owned(),
            _ => "the model has no convolution that could be in FP16".to_owned(),
        }
    }

    /// The model that TensorRT is to be given.
    pub(super) fn model(&self, model: &ModelProto) -> ModelProto {
        let changed = match (wordsight_onnx::precision_of(model), self.precision.as_str()) {
            ("fp32", "fp16") => to_f16(model).ok(),
            ("int8", "int8") => to_f16_around_integers(model).ok(),
            ("int8", "fp16") => without_integers(model).and_then(|float| to_f16(&float)).ok(),
            _ => None,
        };
        fold_casts(changed.as_ref().unwrap_or(model))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    fn decided(model: &ModelProto, wanted: Precision, gpu: u32) -> (String, String) {
        let decided = Decided::of(model, wanted, gpu);
        let given = wordsight_onnx::precision_of(&decided.model(model)).to_owned();
        (decided.precision, given)
    }

    #[test]
    fn a_student_in_fp32_is_halved_and_one_that_is_halved_already_stays() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/student.onnx");
        let shipped = wordsight_onnx::read(&shipped).unwrap();
        let both = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        for wanted in [Precision::Auto, Precision::Fp16] {
            assert_eq!(decided(&shipped, wanted, 87), both("fp16", "fp16"));
        }
        assert_eq!(decided(&shipped, Precision::Fp32, 87), both("tf32", "fp32"));
        assert_eq!(decided(&shipped, Precision::Fp32, 75), both("fp32", "fp32"));
        let halved = to_f16(&shipped).unwrap();
        for wanted in [Precision::Auto, Precision::Fp32, Precision::Fp16] {
            assert_eq!(decided(&halved, wanted, 87), both("fp16", "fp16"));
        }
    }

    #[test]
    fn a_student_in_int8_has_fp16_around_its_integers_or_takes_their_place() {
        use wordsight_calibration::{Layers, Method, Ranges, Target, quantize};
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/student.onnx");
        let shipped = wordsight_onnx::read(&shipped).unwrap();
        let layers = Layers::of(&shipped).unwrap();
        let mut ranges = Ranges::default();
        layers.tensors().into_iter().for_each(|tensor| ranges.add(tensor, &[-1.0, 6.0]));
        let of = |target| quantize(&shipped, &layers, &ranges, Method::Max, target).unwrap();
        let model = to_f16(&of(Target::TensorRt)).unwrap();
        for wanted in [Precision::Auto, Precision::Fp32, Precision::Fp16] {
            let int8 = Decided::of(&model, wanted, 87);
            assert_eq!(
                (int8.precision.as_str(), int8.because.as_str()),
                ("int8", "as the student's file has it")
            );
            assert_eq!(int8.model(&model).opset_import[0].version, 19);
        }
        let instead = Decided::without_integers("no kernel");
        assert_eq!(wordsight_onnx::precision_of(&instead.model(&model)), "fp16");
        assert!(instead.because.contains("INT8 here (no kernel)"), "{}", instead.because);
        // Of another target, or of before: as it was, and that is said.
        let other = of(Target::Cpu);
        let decided = Decided::of(&other, Precision::Auto, 87);
        assert!(decided.because.contains("FP32 around its integers"), "{}", decided.because);
        assert_eq!(decided.model(&other).opset_import[0].version, 17);
    }

    #[test]
    fn no_weights_come_out_of_a_cast_where_tensorrt_s_parser_would_take_them_for_what_changes() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/student.onnx");
        let shipped = wordsight_onnx::read(&shipped).unwrap();
        let dynamic = |model: &ModelProto| {
            let graph = model.graph.as_ref().unwrap();
            let is_made =
                |name: &String| graph.node.iter().any(|node| node.output.iter().any(|output| output == name));
            let convolutions = graph.node.iter().filter(|node| node.op_type == "Conv");
            convolutions.flat_map(|node| &node.input[1..]).filter(|input| is_made(input)).count()
        };
        assert!(dynamic(&shipped) > 0, "the file has its weights in FP16 and casts them");
        for wanted in [Precision::Fp16, Precision::Fp32] {
            assert_eq!(dynamic(&Decided::of(&shipped, wanted, 87).model(&shipped)), 0);
        }
    }

    #[test]
    fn whatever_a_plan_in_fp16_or_int8_is_made_of_it_pools_in_fp16() {
        use wordsight_calibration::{Layers, Method, Ranges, Target, element_types, quantize};
        use wordsight_onnx::proto::ElementType;
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/student.onnx");
        let shipped = wordsight_onnx::read(&shipped).unwrap();
        let layers = Layers::of(&shipped).unwrap();
        let mut ranges = Ranges::default();
        layers.tensors().into_iter().for_each(|tensor| ranges.add(tensor, &[-1.0, 6.0]));
        let int8 =
            to_f16(&quantize(&shipped, &layers, &ranges, Method::Max, Target::TensorRt).unwrap()).unwrap();
        // Products by the element type of what they take and make.
        let products = |model: &ModelProto, element: ElementType| {
            let graph = model.graph.as_ref().unwrap();
            let types = element_types(graph);
            let is_of = |name: &String| types.get(name.as_str()) == Some(&(element as i32));
            let products = graph.node.iter().filter(|node| node.op_type == "MatMul");
            products.filter(|node| node.input.iter().chain(&node.output).all(is_of)).count()
        };
        let fp32 = Decided::of(&shipped, Precision::Fp32, 87).model(&shipped);
        assert_eq!((products(&fp32, ElementType::Float), products(&fp32, ElementType::Float16)), (16, 0));
        for (what, decided, model) in [
            ("FP16", Decided::of(&shipped, Precision::Auto, 87), &shipped),
            ("INT8", Decided::of(&int8, Precision::Auto, 87), &int8),
            ("FP16 of INT8", Decided::without_integers("no kernel"), &int8),
        ] {
            let given = decided.model(model);
            // Suppression's stay: they count.
            let found = (products(&given, ElementType::Float), products(&given, ElementType::Float16));
            assert_eq!(found, (2, 14), "{what}");
        }
    }
}
