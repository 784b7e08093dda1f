//! What TensorRT's regions are to be like beside ONNX Runtime's, of the same student in the same inputs: the gate of
//! `--compare-engine`.
//!
//! The plan computes in other numbers than ONNX Runtime, and may add up products of FP16 in FP16: over the 3,136 of the
//! widest linear layer that rounds 3,136 times by up to 2^-11 of the sum, a few percent of it where all go one way, and of
//! an embedding that is off by 5% in every direction the cosine is 0.9988. What is below [`Bound::OF_FLOATS`] is no
//! rounding.

use wordsight_engines::Agreement;

/// What an [`Agreement`] is to be at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    median_cosine: f32,
    lowest_tenth: f32,
    regions_kept: f32,
}

impl Bound {
    /// Of plans in FP32, TF32 and FP16.
    const OF_FLOATS: Self = Self { median_cosine: 0.995, lowest_tenth: 0.98, regions_kept: 0.9 };
    /// Of plans in INT8: where a value falls beside another step, what follows does too.
    const OF_INTEGERS: Self = Self { median_cosine: 0.98, lowest_tenth: 0.95, regions_kept: 0.8 };

    /// For an engine by its name, `TensorRT 10.3.0 (fp16)`.
    pub fn of(engine: &str) -> Self {
        if engine.contains("(int8)") { Self::OF_INTEGERS } else { Self::OF_FLOATS }
    }

    /// What an agreement misses of it, in words.
    pub fn missed(self, agreement: Agreement) -> Option<String> {
        [
            ("the median cosine", agreement.median_cosine, self.median_cosine),
            ("the lowest tenth of cosines", agreement.lowest_tenth, self.lowest_tenth),
            ("the share of regions that both find", agreement.regions_kept, self.regions_kept),
        ]
        .into_iter()
        .find(|(_, is, least)| is < least)
        .map(|(what, is, least)| format!("{what} is {is:.4}, below {least}"))
    }
}

#[cfg(test)]
mod tests {
    use wordsight_engines::{Cosines, Regions};

    use super::*;

    /// Ten regions whose embeddings of two numbers are turned by an angle.
    fn turned(angle: f32, right: f32) -> Regions {
        let embeddings: Vec<f32> = (0..10).flat_map(|_| [angle.cos(), angle.sin()]).collect();
        Regions {
            boxes_in_input: (0..10)
                .map(|at| at as f32 * 20.0 + right)
                .map(|x| [x, 0.0, x + 10.0, 10.0])
                .collect(),
            objectness: vec![0.5; 10],
            text_embeddings: embeddings.clone(),
            image_embeddings: embeddings,
            ..Regions::default()
        }
    }

    fn missed(angle: f32, right: f32, engine: &str) -> Option<String> {
        let mut cosines = Cosines::default();
        cosines.add(&turned(0.0, 0.0), &turned(angle, right), 2);
        Bound::of(engine).missed(cosines.agreement())
    }

    #[test]
    fn rounding_is_within_the_bound_and_another_answer_is_not() {
        let (half, integers) = ("TensorRT 10.3.0 (fp16)", "TensorRT 10.3.0 (int8)");
        // 5% off to the side, as all products of a sum rounded one way.
        assert_eq!(missed(0.05, 0.0, half), None);
        let told = missed(0.15, 0.0, half);
        assert!(
            told.as_deref().is_some_and(|told| told.contains("median cosine is 0.9888, below 0.995")),
            "{told:?}"
        );
        assert_eq!(missed(0.15, 0.0, integers), None);
        assert!(missed(0.3, 0.0, integers).is_some());
        let told = missed(0.0, 5.0, half);
        assert!(told.is_some(), "regions of other places");
        assert!(missed(f32::NAN, 0.0, integers).is_some(), "what is no number");
    }
}
