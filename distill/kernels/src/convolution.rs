//! One convolution of any kind, forwards and backwards.

use super::{dense, depthwise, pointwise};

/// What a convolution sums over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All channels of one cell; weights `[inputs, outputs]`.
    Pointwise,
    /// A window of one channel; weights `[kernel * kernel, channels]`.
    Depthwise,
    /// A window of all channels; weights `[kernel * kernel * inputs, outputs]`.
    Dense,
}

/// What follows the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
}

/// A convolution without its numbers. Padding is TensorFlow's "SAME": the odd pixel at the right and at the bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// What it sums over.
    pub kind: Kind,
    /// Side of the window in cells.
    pub kernel: usize,
    /// Cells from one output to the next.
    pub stride: usize,
    /// What follows.
    pub activation: Activation,
}

/// Sizes of a map `[images, height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Images.
    pub images: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Size {
    /// From a tensor's dimensions.
    pub fn new([images, height, width, channels]: [usize; 4]) -> Self {
        Self { images, height, width, channels }
    }

    /// As a tensor's dimensions.
    pub fn dims(self) -> [usize; 4] {
        [self.images, self.height, self.width, self.channels]
    }

    /// Cells of all images.
    pub fn cells(self) -> usize {
        self.images * self.height * self.width
    }

    /// Numbers.
    pub fn len(self) -> usize {
        self.cells() * self.channels
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Numbers that a convolution works on.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    /// The input map.
    pub input: &'a [f32],
    /// Its sizes.
    pub size: Size,
    /// The weights; [`Kind`] has their shape.
    pub weight: &'a [f32],
}

/// What a convolution's gradient is made of.
pub struct Gradients {
    /// Of the input, where it was asked for.
    pub input: Option<Vec<f32>>,
    /// Of the weights.
    pub weight: Vec<f32>,
    /// Of the bias.
    pub bias: Vec<f32>,
}

impl Activation {
    /// Applies it.
    #[inline(always)]
    pub(super) fn apply(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Relu => x.max(0.0),
            Self::Relu6 => x.clamp(0.0, 6.0),
        }
    }

    /// A gradient behind it as one before it, by what it answered.
    #[inline(always)]
    pub(super) fn backward(self, gradient: f32, output: f32) -> f32 {
        match self {
            Self::None => gradient,
            Self::Relu => {
                if output > 0.0 {
                    gradient
                } else {
                    0.0
                }
            }
            Self::Relu6 => {
                if output > 0.0 && output < 6.0 {
                    gradient
                } else {
                    0.0
                }
            }
        }
    }
}

impl Convolution {
    /// Sizes of the output for an input of these sizes; `outputs`: its channels.
    pub fn output_size(&self, input: Size, outputs: usize) -> Size {
        let shrink = |side: usize| side.div_ceil(self.stride);
        Size { height: shrink(input.height), width: shrink(input.width), channels: outputs, ..input }
    }

    /// Cells of padding before the first row or column of so many.
    pub fn padding(&self, side: usize) -> usize {
        self.paddings(side).0
    }

    /// Cells of padding before the first and behind the last row or column of so many.
    pub fn paddings(&self, side: usize) -> (usize, usize) {
        let outputs = side.div_ceil(self.stride);
        let both = ((outputs.max(1) - 1) * self.stride + self.kernel).saturating_sub(side);
        (both / 2, both - both / 2)
    }

    /// The output map.
    pub fn forward(&self, operands: Operands<'_>, bias: &[f32]) -> Vec<f32> {
        match self.kind {
            Kind::Pointwise => pointwise::forward(self, operands, bias),
            Kind::Depthwise => depthwise::forward(self, operands, bias),
            Kind::Dense => dense::forward(self, operands, bias),
        }
    }

    /// Gradients of the operands, from the output and its gradient; `bias`: its length, the output's channels.
    pub fn backward(
        &self,
        operands: Operands<'_>,
        output: &[f32],
        gradient: &[f32],
        bias: usize,
        of_input: bool,
    ) -> Gradients {
        match self.kind {
            Kind::Pointwise => pointwise::backward(self, operands, output, gradient, bias, of_input),
            Kind::Depthwise => depthwise::backward(self, operands, output, gradient, of_input),
            Kind::Dense => dense::backward(self, operands, output, gradient, bias, of_input),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn numbers(len: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// The definition, a number at a time, in double precision.
    fn naive(convolution: &Convolution, operands: Operands<'_>, bias: &[f32]) -> Vec<f64> {
        let size = operands.size;
        let out = convolution.output_size(size, bias.len());
        let (top, left) = (convolution.padding(size.height), convolution.padding(size.width));
        let mut answer = Vec::new();
        for cell in 0..out.cells() {
            let (n, y, x) =
                (cell / (out.width * out.height), cell / out.width % out.height, cell % out.width);
            for (o, &bias) in bias.iter().enumerate() {
                let mut sum = f64::from(bias);
                for tap in 0..convolution.kernel * convolution.kernel {
                    let row = (y * convolution.stride + tap / convolution.kernel).checked_sub(top);
                    let column = (x * convolution.stride + tap % convolution.kernel).checked_sub(left);
                    let (Some(row), Some(column)) = (row, column) else { continue };
                    if row >= size.height || column >= size.width {
                        continue;
                    }
                    let cell = ((n * size.height + row) * size.width + column) * size.channels;
                    let channels =
                        if convolution.kind == Kind::Depthwise { o..o + 1 } else { 0..size.channels };
                    for c in channels {
                        let weight = match convolution.kind {
                            Kind::Depthwise => operands.weight[tap * size.channels + o],
                            _ => operands.weight[(tap * size.channels + c) * out.channels + o],
                        };
                        sum += f64::from(weight) * f64::from(operands.input[cell + c]);
                    }
                }
                answer.push(match convolution.activation {
                    Activation::None => sum,
                    Activation::Relu => sum.max(0.0),
                    Activation::Relu6 => sum.clamp(0.0, 6.0),
                });
            }
        }
        answer
    }

    fn cases() -> Vec<(Convolution, Size, usize)> {
        let mut cases = Vec::new();
        for (kind, kernel, channels, outputs) in [
            (Kind::Pointwise, 1, 40, 24),
            (Kind::Pointwise, 1, 7, 5),
            (Kind::Depthwise, 3, 32, 32),
            (Kind::Depthwise, 5, 21, 21),
            (Kind::Dense, 3, 3, 16),
        ] {
            for stride in [1, 2] {
                if kind == Kind::Pointwise && stride == 2 {
                    continue;
                }
                for (height, width) in [(8, 12), (5, 21), (7, 9), (3, 2)] {
                    let size = Size { images: 3, height, width, channels };
                    for activation in [Activation::None, Activation::Relu, Activation::Relu6] {
                        cases.push((Convolution { kind, kernel, stride, activation }, size, outputs));
                    }
                }
            }
        }
        cases
    }

    fn weights(convolution: &Convolution, size: Size, outputs: usize) -> Vec<f32> {
        let taps = convolution.kernel * convolution.kernel;
        let inputs = if convolution.kind == Kind::Depthwise { 1 } else { size.channels };
        numbers(taps * inputs * outputs, 5).iter().map(|x| x * 2.0).collect()
    }

    #[test]
    fn every_kind_is_the_sum_that_its_definition_says() {
        for (convolution, size, outputs) in cases() {
            let (input, bias) = (numbers(size.len(), 1), numbers(outputs, 2));
            let weight = weights(&convolution, size, outputs);
            let operands = Operands { input: &input, size, weight: &weight };
            let (ours, true_sums) =
                (convolution.forward(operands, &bias), naive(&convolution, operands, &bias));
            assert_eq!(ours.len(), true_sums.len());
            for (ours, exact) in ours.iter().zip(&true_sums) {
                assert!((f64::from(*ours) - exact).abs() < 1e-4, "{convolution:?} {size:?}: {ours} {exact}");
            }
        }
    }

    /// A loss of random weights on the outputs; its slope by differences against the gradients.
    #[test]
    fn gradients_are_the_slopes_of_the_sum() {
        for (convolution, size, outputs) in cases() {
            let (input, bias) = (numbers(size.len(), 1), numbers(outputs, 2));
            let weight = weights(&convolution, size, outputs);
            let operands = Operands { input: &input, size, weight: &weight };
            let output = convolution.forward(operands, &bias);
            let gradient = numbers(output.len(), 3);
            let loss = |input: &[f32], weight: &[f32], bias: &[f32]| -> f64 {
                let answer = naive(&convolution, Operands { input, size, weight }, bias);
                answer.iter().zip(&gradient).map(|(y, g)| y * f64::from(*g)).sum()
            };
            let ours = convolution.backward(operands, &output, &gradient, outputs, true);
            let of_input = ours.input.unwrap_or_default();
            let step = 1e-4_f32;
            // Where a kink of the activation lies within a step, the slopes to both sides differ, and the gradient is one
            // of them or between.
            let slopes = |place: usize, which: usize| {
                let at = |shift: f32| {
                    let mut moved = [input.clone(), weight.clone(), bias.clone()];
                    moved[which][place] += shift;
                    loss(&moved[0], &moved[1], &moved[2])
                };
                let (before, here, behind) = (at(-step), at(0.0), at(step));
                [here - before, behind - here].map(|rise| rise / f64::from(step))
            };
            for (which, gradients) in [&of_input, &ours.weight, &ours.bias].into_iter().enumerate() {
                assert_eq!(gradients.len(), [input.len(), weight.len(), bias.len()][which]);
                for place in [0, gradients.len() / 3, gradients.len() / 2, gradients.len() - 1] {
                    let ([left, right], ours) = (slopes(place, which), f64::from(gradients[place]));
                    let rounding = 0.02 + 0.02 * left.abs();
                    assert!(
                        ours > left.min(right) - rounding && ours < left.max(right) + rounding,
                        "{convolution:?} {size:?} {which}: {ours}, and by differences {left} and {right}"
                    );
                }
            }
            assert!(convolution.backward(operands, &output, &gradient, outputs, false).input.is_none());
        }
    }
}
