//! Whether TensorRT finds what ONNX Runtime finds of the same student in the same inputs: the gate of `--compare-engine`.
//!
//! In flow regions of both engines, out flow cosines between their embeddings and what they are to be at least. The plan
//! computes in other numbers than ONNX Runtime, and may add up products of FP16 in FP16: over the 3,136 of the widest
//! linear layer that rounds 3,136 times by up to 2^-11 of the sum, a few percent of it where all go one way, and of an
//! embedding that is off by 5% in every direction the cosine is 0.9988. What is below [`Bound::OF_FLOATS`] is no rounding.

use std::fmt;

use wordsight_detection::iou;
use wordsight_engines::Regions;

/// Regions of two engines are of the same thing from this overlap on.
const SAME_PLACE: f32 = 0.7;

/// How near two engines are to one another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// The median cosine between embeddings of the same region, of both heads.
    median_cosine: f32,
    /// A tenth of the cosines are below this.
    lowest_tenth: f32,
    /// The share of ONNX Runtime's regions that the other proposes too.
    kept: f32,
}

/// What an [`Agreement`] is to be at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    median_cosine: f32,
    lowest_tenth: f32,
    kept: f32,
}

impl Bound {
    /// Of plans in FP32, TF32 and FP16.
    const OF_FLOATS: Self = Self { median_cosine: 0.995, lowest_tenth: 0.98, kept: 0.9 };
    /// Of plans in INT8: where a value falls beside another step, what follows does too.
    const OF_INTEGERS: Self = Self { median_cosine: 0.98, lowest_tenth: 0.95, kept: 0.8 };

    /// For an engine by its name, `TensorRT 10.3.0 (fp16)`.
    pub fn of(engine: &str) -> Self {
        if engine.contains("(int8)") { Self::OF_INTEGERS } else { Self::OF_FLOATS }
    }
}

impl Agreement {
    /// Of what ONNX Runtime and another engine found in each input; `size` numbers are an embedding.
    pub fn between(found: &[(Regions, Regions)], size: usize) -> Self {
        let (mut cosines, mut all) = (Vec::new(), 0);
        for (reference, other) in found {
            for (at, corners) in reference.boxes_in_input.iter().enumerate() {
                all += 1;
                let overlaps = other.boxes_in_input.iter().map(|there| iou(*corners, *there)).enumerate();
                let best = overlaps.max_by(|a, b| a.1.total_cmp(&b.1));
                let Some((place, _)) = best.filter(|(_, overlap)| *overlap >= SAME_PLACE) else { continue };
                for (ours, theirs) in [
                    (&reference.text_embeddings, &other.text_embeddings),
                    (&reference.image_embeddings, &other.image_embeddings),
                ] {
                    let rows = ours.iter().skip(at * size).zip(theirs.iter().skip(place * size));
                    let cosine: f32 = rows.take(size).map(|(a, b)| a * b).sum();
                    // What is no number agrees with nothing.
                    cosines.push(if cosine.is_finite() { cosine } else { -1.0 });
                }
            }
        }
        cosines.sort_by(f32::total_cmp);
        let at = |share: usize| cosines.get(cosines.len() / share).copied().unwrap_or(0.0);
        let kept = cosines.len() as f32 / 2.0 / all.max(1) as f32;
        Self { median_cosine: at(2), lowest_tenth: at(10), kept }
    }

    /// What it misses of a bound, in words.
    pub fn missed(self, bound: Bound) -> Option<String> {
        [
            ("the median cosine", self.median_cosine, bound.median_cosine),
            ("the lowest tenth of cosines", self.lowest_tenth, bound.lowest_tenth),
            ("the share of regions that both find", self.kept, bound.kept),
        ]
        .into_iter()
        .find(|(_, is, least)| is < least)
        .map(|(what, is, least)| format!("{what} is {is:.4}, below {least}"))
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median_cosine, lowest_tenth, kept } = self;
        write!(
            out,
            "median cosine {median_cosine:.4}, a tenth below {lowest_tenth:.4}, {:.0}% of regions",
            100.0 * kept
        )
    }
}

#[cfg(test)]
mod tests {
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
            ranked: None,
        }
    }

    fn missed(angle: f32, right: f32, engine: &str) -> Option<String> {
        Agreement::between(&[(turned(0.0, 0.0), turned(angle, right))], 2).missed(Bound::of(engine))
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
