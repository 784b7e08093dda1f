//! The logarithm of a sum of exponentials, sixteen at a time and in one pass.

use super::panels::{LANES, Lanes};

/// How far a logit may lie above the reference: e^40 is 2e17, and 10^20 of them are still a float.
const MOST_ABOVE_REFERENCE: f32 = 40.0;

/// 1.5 · 2^23: a small float that is added to it loses what is behind the point, and has the rest in its low bits.
pub const ROUNDER: f32 = 12_582_912.0;

/// What a softmax divides by, while logits come.
///
/// Every term is e^(logit - reference). The reference is the largest of the first logits and moves only when one lies far
/// above it, which a float's range allows and its precision doesn't notice: so no pass is spent on the largest.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Sum {
    lanes: Lanes,
    reference: f32,
}

impl Sum {
    /// Of nothing.
    pub const EMPTY: Self = Self { reference: f32::NEG_INFINITY, lanes: [0.0; LANES] };

    /// Of one logit.
    pub fn of(logit: f32) -> Self {
        let mut lanes = [0.0; LANES];
        lanes[0] = 1.0;
        Self { reference: logit, lanes }
    }

    /// Adds sixteen logits, each term to [`ROUGHLY`] of itself: two thirds of the instructions. The terms are told, as
    /// shares of e^reference, which doesn't become less.
    #[inline(always)]
    pub fn add_roughly<const FUSED: bool>(&mut self, logits: &Lanes) -> Lanes {
        self.raise_reference(logits);
        let mut terms = [0.0; LANES];
        for ((sum, term), &logit) in self.lanes.iter_mut().zip(&mut terms).zip(logits) {
            *term = exp_roughly::<FUSED>(logit - self.reference);
            *sum += *term;
        }
        terms
    }

    /// The sum as a share of e^reference.
    pub fn share(&self) -> f32 {
        self.lanes.iter().sum()
    }

    #[inline(always)]
    fn raise_reference(&mut self, logits: &Lanes) {
        let limit = self.reference + MOST_ABOVE_REFERENCE;
        if logits.iter().fold(false, |above, &logit| above | (logit > limit)) {
            self.move_reference(logits);
        }
    }

    /// Adds sixteen logits.
    #[inline(always)]
    pub fn add<const FUSED: bool>(&mut self, logits: &Lanes) {
        self.raise_reference(logits);
        for (sum, &logit) in self.lanes.iter_mut().zip(logits) {
            *sum += exp::<FUSED>(logit - self.reference);
        }
    }

    /// Makes the largest of these the reference, where it is larger.
    #[cold]
    #[inline(never)]
    pub fn move_reference(&mut self, logits: &Lanes) {
        let reference = logits.iter().copied().fold(self.reference, f32::max);
        let factor = (self.reference - reference).exp();
        self.lanes.iter_mut().for_each(|sum| *sum *= factor);
        self.reference = reference;
    }

    /// The logarithm of the sum.
    pub fn ln(&self) -> f32 {
        self.reference + self.lanes.iter().sum::<f32>().ln()
    }

    /// The largest of the logits that came first, or one that lay far above: a value near the largest.
    #[cfg(test)]
    fn reference(&self) -> f32 {
        self.reference
    }
}

/// e^x to 2e-7 of itself for x from -87 to 88; below that 1e-38 or so, and NaN of NaN.
///
/// Cephes' expf without its branches, so that a loop over it becomes vector instructions: sixteen took 5 ns where the
/// library's took 60.
#[inline(always)]
pub fn exp<const FUSED: bool>(x: f32) -> f32 {
    // ln 2 in two parts, the first short enough to be multiplied without rounding.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Not `max`, which would make a number of NaN.
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUNDER);
    let power = rounded - ROUNDER;
    let rest = multiply_add::<FUSED>(-power, LN2_LOW, multiply_add::<FUSED>(-power, LN2_HIGH, x));
    let mut tail = 1.987_569_1e-4;
    for factor in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
        tail = multiply_add::<FUSED>(tail, rest, factor);
    }
    let mantissa = multiply_add::<FUSED>(tail, rest * rest, rest) + 1.0;
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    mantissa * scale
}

/// How far off [`exp_roughly`] is, as a share of the value.
pub const ROUGHLY: f32 = 2e-4;

/// e^x for x from -87 to 88, below that 1e-37 or less, and NaN of NaN: a cubic where [`exp`] has a polynomial of degree 6.
#[inline(always)]
fn exp_roughly<const FUSED: bool>(x: f32) -> f32 {
    let power = x * std::f32::consts::LOG2_E;
    let power = if power < -125.0 { -125.0 } else { power };
    let rounded = power + ROUNDER;
    let rest = power - (rounded - ROUNDER);
    let mut mantissa = 0.055_171_66;
    for factor in [0.242_611_12, 0.693_260_99, 0.999_928_07] {
        mantissa = multiply_add::<FUSED>(mantissa, rest, factor);
    }
    // The power of two is added to the exponent, which has room for it on both sides.
    f32::from_bits(mantissa.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// a · b + c, rounded once where the processor has an instruction for that: without one, it is a slow function.
#[inline(always)]
pub fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The weighted mean of both heads' logits.
///
/// A loop and no `array::from_fn`: closures don't have the instructions of the function that they are written in.
#[inline(always)]
pub fn weighted<const FUSED: bool>(text_weight: f32, text: &Lanes, image: &Lanes) -> Lanes {
    let mut values = [0.0; LANES];
    for (value, (text, image)) in values.iter_mut().zip(text.iter().zip(image)) {
        *value = multiply_add::<FUSED>(text_weight, *text, (1.0 - text_weight) * image);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_the_librarys_to_its_last_digits() {
        for step in -86_000..88_000 {
            let x = step as f32 * 1e-3;
            let (found, wanted) = (f64::from(exp::<false>(x)), f64::from(x).exp());
            assert!((found / wanted - 1.0).abs() < 2e-7, "{x}: {found} {wanted}");
        }
        assert_eq!(exp::<true>(0.0), 1.0);
        assert!(exp::<true>(-1e30) < 1e-37 && exp::<false>(f32::NEG_INFINITY) < 1e-37);
        assert!(exp::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn the_rough_exponential_is_as_rough_as_it_says() {
        for step in -86_000..88_000 {
            let x = step as f32 * 1e-3;
            let (found, wanted) = (f64::from(exp_roughly::<false>(x)), f64::from(x).exp());
            assert!((found / wanted - 1.0).abs() < f64::from(ROUGHLY), "{x}: {found} {wanted}");
        }
        assert!(exp_roughly::<false>(-1e30) < 1e-37 && exp_roughly::<true>(-1e30) >= 0.0);
    }

    #[test]
    fn a_sum_is_the_same_whichever_logit_comes_first() {
        let logits: Vec<f32> = (0..64).map(|at| 45.0 * (at as f32 * 0.7).sin() + at as f32).collect();
        let wanted = logits.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln();
        let panels = logits.as_chunks::<LANES>().0;
        for first in 0..panels.len() {
            let mut sum = Sum::EMPTY;
            for at in 0..panels.len() {
                sum.add::<false>(&panels[(first + at) % panels.len()]);
            }
            assert!((f64::from(sum.ln()) - wanted).abs() < 1e-5, "{} {wanted}", sum.ln());
            assert!(sum.reference() <= 110.0);
        }
    }

    #[test]
    fn a_sum_of_one_far_below_is_still_a_sum() {
        let mut sum = Sum::of(-5000.0);
        sum.add::<false>(&[super::super::panels::NO_WORD; LANES]);
        assert!((sum.ln() + 5000.0).abs() < 1e-3);
    }
}
