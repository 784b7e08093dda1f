//! The four losses.

use burn::tensor::activation::{log_softmax, sigmoid};
use burn::tensor::{Bool, Int, Tensor, TensorData};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::words::TextTargets;
use crate::label::yolox::Dense;

/// Weight of a cell without an object, times its objectness squared (VarifocalNet, section 3.2).
const EMPTY_CELL_WEIGHT: f32 = 0.75;

/// Varifocal loss: cross entropy of objectness logits `[cells]` against targets in 0..1; cells with a
/// target weigh it, empty cells weigh what they wrongly claim times `trust` (0..1: how sure it is that
/// they are empty). Summed, then divided by the targets' sum.
pub fn objectness(logits: Tensor<1>, targets: Tensor<1>, trust: Tensor<1>) -> Tensor<1> {
    let claimed = sigmoid(logits.clone()).detach();
    let empty: Tensor<1, Bool> = targets.clone().lower_equal_scalar(0.0);
    let wrong = claimed.powi_scalar(2).mul_scalar(EMPTY_CELL_WEIGHT) * trust;
    let weights = targets.clone().mask_where(empty, wrong);
    (cross_entropy(logits, targets.clone()) * weights).sum() / targets.sum().clamp_min(1.0)
}

/// Quality focal loss (Li et al., 2020) of logits `[n]` against targets of 0 to 1: cross entropy, weighed by the square of
/// what they differ by, and by `weights`. Summed, then divided by the targets' sum.
pub fn quality_focal(logits: Tensor<1>, targets: Tensor<1>, weights: Tensor<1>) -> Tensor<1> {
    let apart = (sigmoid(logits.clone()).detach() - targets.clone()).powi_scalar(2);
    (cross_entropy(logits, targets.clone()) * apart * weights).sum() / targets.sum().clamp_min(1.0)
}

/// Weight of a cell where the detector finds nothing, compared with 1 where it is sure.
const EMPTY_FEATURES_WEIGHT: f32 = 0.03;

/// Mean squared error of features `[cells, features]` against a detector's, each of which has mean 0 and variance 1; cells
/// count as the detector's scores do.
pub fn imitation(features: Tensor<2>, answers: &[Dense]) -> Tensor<1> {
    let [cells, count] = features.dims();
    let weights: Vec<f32> = answers
        .iter()
        .flat_map(|answer| answer.scores.iter().map(|score| score.max(EMPTY_FEATURES_WEIGHT)))
        .collect();
    let total = weights.iter().sum::<f32>();
    let rows = || answers.iter().flat_map(|answer| answer.features.chunks_exact(count)).zip(&weights);
    let weighted_mean = |of: &dyn Fn(usize, f32) -> f32| {
        let mut sums = vec![0.0_f32; count];
        for (row, weight) in rows() {
            for (place, (sum, x)) in sums.iter_mut().zip(row).enumerate() {
                *sum += weight / total * of(place, *x);
            }
        }
        sums
    };
    let mean = weighted_mean(&|_, x| x);
    let variance = weighted_mean(&|place, x| (x - mean[place]).powi(2));
    let scale: Vec<f32> = variance.iter().map(|variance| 1.0 / (variance + 1e-6).sqrt()).collect();
    let targets: Vec<f32> = rows()
        .flat_map(|(row, _)| row.iter().zip(&mean).zip(&scale).map(|((x, mean), scale)| (x - mean) * scale))
        .collect();
    let device = features.device();
    let targets = Tensor::<2>::from_data(TensorData::new(targets, [cells, count]), &device);
    let weights = Tensor::<2>::from_data(TensorData::new(weights, [cells, 1]), &device);
    let apart = features - targets;
    (apart.clone() * apart * weights).sum() / (total * count as f32)
}

/// Cross entropy of logits against targets of 0 to 1.
fn cross_entropy(logits: Tensor<1>, targets: Tensor<1>) -> Tensor<1> {
    // max(x, 0) - x t + ln(1 + e^-|x|) does not overflow.
    let softplus = logits.clone().abs().neg().exp().add_scalar(1.0).log();
    logits.clone().clamp_min(0.0) - logits * targets + softplus
}

/// Generalised IoU loss (Rezatofighi et al., 2019) of boxes `[n,4]` against objects `[n,4]`, weighted.
pub fn boxes(boxes: Tensor<2>, objects: Tensor<2>, weights: Tensor<1>) -> Tensor<1> {
    let side = |boxes: &Tensor<2>, side: usize| {
        boxes.clone().slice([0..boxes.dims()[0], side..side + 1]).flatten::<1>(0, 1)
    };
    let [a1, b1, a2, b2]: [Tensor<1>; 4] = std::array::from_fn(|i| side(&boxes, i));
    let [c1, d1, c2, d2]: [Tensor<1>; 4] = std::array::from_fn(|i| side(&objects, i));
    let area_a = (a2.clone() - a1.clone()) * (b2.clone() - b1.clone());
    let area_b = (c2.clone() - c1.clone()) * (d2.clone() - d1.clone());
    let width = a2.clone().min_pair(c2.clone()) - a1.clone().max_pair(c1.clone());
    let height = b2.clone().min_pair(d2.clone()) - b1.clone().max_pair(d1.clone());
    let both = width.clamp_min(0.0) * height.clamp_min(0.0);
    let either = (area_a + area_b - both.clone()).clamp_min(1e-6);
    let hull = ((a2.max_pair(c2) - a1.min_pair(c1)) * (b2.max_pair(d2) - b1.min_pair(d1))).clamp_min(1e-6);
    let giou = both / either.clone() - (hull.clone() - either) / hull;
    ((giou.neg() + 1.0) * weights.clone()).sum() / weights.sum().clamp_min(1e-6)
}

/// ViLD-text (arXiv 2104.13921, equation 2): cross entropy of cosine / temperature over the background
/// (class 0) and the words (1..). `embeddings` `[n,D]`, `words` `[1 + words, D]`, both L2-normalised; a target's weight
/// is 0 for regions that teach nothing.
pub fn text(embeddings: Tensor<2>, words: Tensor<2>, targets: TextTargets, temperature: f32) -> Tensor<1> {
    let device = embeddings.device();
    let TextTargets { labels, weights, mask } = targets;
    let count = labels.len();
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [count, 1]), &device);
    let weights = Tensor::<1>::from_data(weights.as_slice(), &device);
    let logits = embeddings.matmul(words.transpose()).div_scalar(temperature) + mask;
    let likelihood = log_softmax(logits, 1).gather(1, labels).flatten::<1>(0, 1);
    (likelihood.neg() * weights.clone()).sum() / weights.sum().clamp_min(1.0)
}

/// Cross entropy of cosine / temperature against soft targets (Hinton et al., 2015). `embeddings` `[n,D]` and `words`
/// `[words,D]`, L2-normalised; `targets` `[n,words]`, rows that sum to 1; `weights` `[n]`.
pub fn soft_words(
    embeddings: Tensor<2>,
    words: Tensor<2>,
    targets: Tensor<2>,
    weights: Tensor<1>,
    temperature: f32,
) -> Tensor<1> {
    let logits = embeddings.matmul(words.transpose()).div_scalar(temperature);
    let likelihood = (log_softmax(logits, 1) * targets).sum_dim(1).flatten::<1>(0, 1);
    (likelihood.neg() * weights.clone()).sum() / weights.sum().clamp_min(1.0)
}

/// Learning without forgetting (Li and Hoiem, 2016): what a classifier's opinions differ by from those before training,
/// as Kullback and Leibler measure it. Logits `[n, classes]`, the earlier ones without gradients.
pub fn forgotten(logits: Tensor<2>, earlier: Tensor<2>, weights: Tensor<1>) -> Tensor<1> {
    let earlier = log_softmax(earlier, 1);
    let apart = (earlier.clone() - log_softmax(logits, 1)) * earlier.exp();
    (apart.sum_dim(1).flatten::<1>(0, 1) * weights.clone()).sum() / weights.sum().clamp_min(1.0)
}

/// Leaves out this share of the numbers and enlarges the others, so that their sum stays (Srivastava et al., 2014). Burn's
/// own dropout draws from a generator of the device, which a resumed training doesn't find where it was.
pub fn dropout(numbers: Tensor<3>, share: f32, rng: &mut ChaCha8Rng) -> Tensor<3> {
    if share <= 0.0 {
        return numbers;
    }
    let kept = 1.0 / (1.0 - share);
    let shape = numbers.dims();
    let factors: Vec<f32> =
        (0..shape.iter().product()).map(|_| if rng.random::<f32>() < share { 0.0 } else { kept }).collect();
    let factors = Tensor::<3>::from_data(TensorData::new(factors, shape), &numbers.device());
    numbers * factors
}

/// ViLD-image (equation 4): mean L1 distance of embeddings `[n,D]` to the teacher's, times D.
pub fn image(embeddings: Tensor<2>, teacher: Tensor<2>, weights: Tensor<1>) -> Tensor<1> {
    let distance = (embeddings - teacher).abs().sum_dim(1).flatten::<1>(0, 1);
    (distance * weights.clone()).sum() / weights.sum().clamp_min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use burn::tensor::Device;
    use rand::SeedableRng;

    use super::*;

    fn value(loss: Tensor<1>) -> f32 {
        loss.into_scalar()
    }

    #[test]
    fn giou_loss_is_zero_on_the_object_and_grows_beyond_one_when_apart() {
        let device = Device::flex();
        let tensor = |b: [f32; 4]| Tensor::<2>::from_data([b], &device);
        let weight = Tensor::<1>::from_data([1.0], &device);
        let object = [10.0, 10.0, 30.0, 30.0];
        assert!(value(boxes(tensor(object), tensor(object), weight.clone())).abs() < 1e-6);
        // Half covered: IoU 0.5, and the hull is the union.
        let half = value(boxes(tensor([10.0, 10.0, 30.0, 20.0]), tensor(object), weight.clone()));
        assert!((half - 0.5).abs() < 1e-6, "{half}");
        // Two 10x10 boxes at the ends of a 40x10 hull: 1 - (0 - 200/400).
        let apart = value(boxes(tensor([0.0, 0.0, 10.0, 10.0]), tensor([30.0, 0.0, 40.0, 10.0]), weight));
        assert!((apart - 1.5).abs() < 1e-6, "{apart}");
    }

    #[test]
    fn objectness_loss_is_least_where_the_logit_says_the_target() {
        let device = Device::flex();
        let loss = |logit: f32, target: f32| {
            let one = |x: f32| Tensor::<1>::from_data([x], &device);
            value(objectness(one(logit), one(target), one(1.0)))
        };
        let logit = (0.7_f32 / 0.3).ln();
        assert!(loss(logit, 0.7) < loss(logit + 0.5, 0.7));
        assert!(loss(logit, 0.7) < loss(logit - 0.5, 0.7));
        assert!(loss(-8.0, 0.0) < 1e-6 && loss(3.0, 0.0) > 1.0);
        let one = |x: f32| Tensor::<1>::from_data([x], &device);
        let doubted = value(objectness(one(3.0), one(0.0), one(0.25)));
        assert!((doubted - 0.25 * loss(3.0, 0.0)).abs() < 1e-6, "{doubted}");
    }

    #[test]
    fn nothing_is_forgotten_while_the_classifier_says_the_same() {
        let device = Device::flex();
        let row = |row: [f32; 3]| Tensor::<2>::from_data([row], &device);
        let loss =
            |logits| value(forgotten(row(logits), row([1.0, 2.0, 3.0]), Tensor::from_data([1.0], &device)));
        assert!(loss([1.0, 2.0, 3.0]).abs() < 1e-6 && loss([5.0, 6.0, 7.0]).abs() < 1e-5);
        assert!(loss([3.0, 2.0, 1.0]) > 0.5);
    }

    #[test]
    fn features_are_held_against_a_detectors_as_far_as_it_is_sure() {
        let device = Device::flex();
        let answer = Dense {
            scores: vec![0.5, 0.5, 0.0],
            word_scores: Vec::new(),
            boxes_in_input: vec![[0.0; 4]; 3],
            features: vec![100.0, 1.0, 102.0, 3.0, 101.0, 2.0],
        };
        let loss = |rows: [[f32; 2]; 3]| {
            value(imitation(Tensor::from_data(rows, &device), std::slice::from_ref(&answer)))
        };
        // Mean 101 and 2; the two sure cells lie a standard deviation from it, but for the third's small weight.
        let deviation = (1.03_f32).sqrt();
        assert!(loss([[-deviation; 2], [deviation; 2], [0.0; 2]]) < 1e-6);
        assert!((loss([[0.0; 2]; 3]) - 1.0).abs() < 1e-5, "who knows nothing is a variance away");
        let apart = loss([[-deviation; 2], [deviation; 2], [1.0; 2]]);
        assert!((apart - 0.03 / 1.03).abs() < 1e-5, "{apart}");
    }

    #[test]
    fn a_quality_is_least_missed_where_it_is_said() {
        let device = Device::flex();
        let one = |x: f32| Tensor::<1>::from_data([x], &device);
        let loss = |logit: f32| value(quality_focal(one(logit), one(0.7), one(1.0)));
        let logit = (0.7_f32 / 0.3).ln();
        assert!(loss(logit) < 1e-6);
        assert!(loss(logit + 1.0) > 0.0 && loss(logit - 1.0) > 0.0);
    }

    #[test]
    fn soft_words_are_least_missed_where_the_shares_are_the_targets() {
        let device = Device::flex();
        let words = Tensor::<2>::from_data([[1.0, 0.0], [0.0, 1.0]], &device);
        let loss = |embedding: [f32; 2], weight: f32| {
            let embeddings = Tensor::<2>::from_data([embedding], &device);
            let targets = Tensor::<2>::from_data([[0.75, 0.25]], &device);
            value(soft_words(embeddings, words.clone(), targets, Tensor::from_data([weight], &device), 0.5))
        };
        // Logits that are ln 3 apart are shares of 3 to 1.
        let apart = 0.5 * 3.0_f32.ln();
        let entropy = -(0.75 * 0.75_f32.ln() + 0.25 * 0.25_f32.ln());
        assert!((loss([apart, 0.0], 1.0) - entropy).abs() < 1e-5);
        assert!(loss([1.0, 0.0], 1.0) > entropy && loss([0.0, 0.0], 1.0) > entropy);
        assert_eq!(loss([0.0, 1.0], 0.0), 0.0, "what the detector doesn't see teaches nothing");
    }

    #[test]
    fn dropout_leaves_out_its_share_and_keeps_the_mean_the_same_each_time() {
        let device = Device::flex();
        let ones = Tensor::<3>::ones([10, 20, 50], &device);
        let numbers = |share| -> Vec<f32> {
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            dropout(ones.clone(), share, &mut rng).into_data().iter().collect()
        };
        let thinned = numbers(0.2);
        let left_out = thinned.iter().filter(|&&x| x == 0.0).count();
        assert!((1800..2200).contains(&left_out), "{left_out}");
        assert!(thinned.iter().all(|&x| x == 0.0 || (x - 1.25).abs() < 1e-6));
        assert_eq!(thinned, numbers(0.2));
        assert!(numbers(0.0).iter().all(|&x| x == 1.0));
    }

    #[test]
    fn text_loss_is_the_cross_entropy_of_the_scaled_cosines() {
        let device = Device::flex();
        let embeddings = Tensor::<2>::from_data([[1.0, 0.0]], &device);
        let words = Tensor::<2>::from_data([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]], &device);
        let loss = |mask: [f32; 3]| {
            let mask = Tensor::<2>::from_data([mask], &device);
            let targets = TextTargets { labels: vec![2], weights: vec![1.0], mask };
            value(text(embeddings.clone(), words.clone(), targets, 0.5))
        };
        let logits = [0.0_f32, 2.0, 1.2];
        let expected = logits.iter().map(|x| x.exp()).sum::<f32>().ln() - 1.2;
        assert!((loss([0.0; 3]) - expected).abs() < 1e-5, "{} against {expected}", loss([0.0; 3]));
        // Without the second class, as if it were not there.
        let alone = (1.0 + 1.2_f32.exp()).ln() - 1.2;
        assert!((loss([0.0, -1e4, 0.0]) - alone).abs() < 1e-5);
    }
}
