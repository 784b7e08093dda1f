//! Where a box is, and where it should be by now.
//!
//! Takes boxes and the seconds between them, and returns smoothed and predicted boxes. A Kalman filter of constant
//! velocity over centre and size, as in BoT-SORT (Aharon et al., 2022, arXiv 2206.14651, section 3.1). The four
//! coordinates are independent, so each has a filter with a state of two numbers and no matrix is inverted. Noise is
//! given in box sizes, because a near object is larger and moves as much more, and in seconds, because frames are
//! dropped.
//!
//! The velocity of a track that isn't seen decays. An object that goes behind another may stop there, and the prediction
//! must not have drifted away when it comes out again.

/// Standard deviation of where a detector puts a box, box sizes.
const MEASUREMENT: f32 = 0.1;
/// Standard deviation of the velocity of an object never seen before, box sizes a second.
const FIRST_VELOCITY: f32 = 1.0;
/// How much a velocity changes in a second, box sizes a second: centres and sizes.
const ACCELERATION: [f32; 2] = [0.8, 0.3];
/// In this time the velocity of an unseen track falls to 0.37 of its value, seconds: centres and sizes.
const COASTING_S: [f32; 2] = [2.0, 0.3];
/// A box is never taken for smaller than this, pixels.
const LEAST_SIDE: f32 = 0.5;

/// One coordinate: its value and velocity, and how unsure both are.
#[derive(Debug, Clone, Copy)]
struct Axis {
    value: f32,
    velocity: f32,
    /// Variances of value and velocity, and their covariance.
    value_variance: f32,
    velocity_variance: f32,
    covariance: f32,
}

impl Axis {
    fn new(value: f32, size: f32) -> Self {
        Self {
            value,
            velocity: 0.0,
            value_variance: square(MEASUREMENT * size),
            velocity_variance: square(FIRST_VELOCITY * size),
            covariance: 0.0,
        }
    }

    fn predict(&mut self, seconds: f32, acceleration: f32, coasting_s: f32) {
        let kept = (-seconds / coasting_s).exp();
        let reach_s = coasting_s * (1.0 - kept);
        let noise = square(acceleration);
        self.value += reach_s * self.velocity;
        self.velocity *= kept;
        self.value_variance += reach_s * (2.0 * self.covariance + reach_s * self.velocity_variance)
            + noise * seconds.powi(3) / 3.0;
        self.covariance =
            kept * (self.covariance + reach_s * self.velocity_variance) + noise * square(seconds) / 2.0;
        self.velocity_variance = square(kept) * self.velocity_variance + noise * seconds;
    }

    fn correct(&mut self, measured: f32, deviation: f32) {
        let variance = self.value_variance + square(deviation);
        // No seconds and no size leave nothing to be unsure of.
        if variance <= 0.0 {
            return;
        }
        let (gain, velocity_gain) = (self.value_variance / variance, self.covariance / variance);
        let innovation = measured - self.value;
        self.value += gain * innovation;
        self.velocity += velocity_gain * innovation;
        self.velocity_variance -= velocity_gain * self.covariance;
        self.covariance *= 1.0 - gain;
        self.value_variance *= 1.0 - gain;
    }
}

/// A box that moves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Motion {
    /// Centre x, centre y, width, height, in pixels of the frame.
    axes: [Axis; 4],
    seen_in_frame: [f32; 4],
}

impl Motion {
    pub(crate) fn new(box_in_frame: [f32; 4]) -> Self {
        let measured = centre_and_size(box_in_frame);
        let [_, _, width, height] = measured;
        let sizes = [width, height, width, height];
        let axes = std::array::from_fn(|axis| Axis::new(measured[axis], sizes[axis]));
        Self { axes, seen_in_frame: box_in_frame }
    }

    /// Moves on by so many seconds, unseen.
    pub(crate) fn predict(&mut self, seconds: f32) {
        let sizes = self.sizes();
        for (axis, filter) in self.axes.iter_mut().enumerate() {
            let of_size = axis / 2;
            filter.predict(seconds, ACCELERATION[of_size] * sizes[axis], COASTING_S[of_size]);
        }
    }

    /// Takes in where it was seen.
    pub(crate) fn correct(&mut self, box_in_frame: [f32; 4]) {
        let (measured, sizes) = (centre_and_size(box_in_frame), self.sizes());
        for (axis, filter) in self.axes.iter_mut().enumerate() {
            filter.correct(measured[axis], MEASUREMENT * sizes[axis]);
        }
        self.seen_in_frame = box_in_frame;
    }

    /// Where it is, or should be.
    pub(crate) fn box_in_frame(&self) -> [f32; 4] {
        let [x, y, ..] = self.axes.map(|axis| axis.value);
        let [width, height, ..] = self.sizes();
        [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
    }

    /// Where it was last seen.
    pub(crate) fn seen_in_frame(&self) -> [f32; 4] {
        self.seen_in_frame
    }

    /// Width and height, for each of the four coordinates the one that it is measured by.
    fn sizes(&self) -> [f32; 4] {
        let [width, height] = [2, 3].map(|axis: usize| self.axes[axis].value.max(LEAST_SIDE));
        [width, height, width, height]
    }
}

fn centre_and_size([left, top, right, bottom]: [f32; 4]) -> [f32; 4] {
    [(left + right) / 2.0, (top + bottom) / 2.0, right - left, bottom - top]
}

fn square(value: f32) -> f32 {
    value * value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f32) -> [f32; 4] {
        [x - 20.0, 80.0, x + 20.0, 120.0]
    }

    fn centre(motion: &Motion) -> f32 {
        centre_and_size(motion.box_in_frame())[0]
    }

    #[test]
    fn a_velocity_is_learnt_from_a_few_boxes_whatever_the_time_between_them() {
        for seconds in [[0.033; 4], [0.2; 4], [0.033, 0.3, 0.066, 0.1]] {
            let (mut motion, mut x) = (Motion::new(at(0.0)), 0.0);
            for step in seconds.into_iter().cycle().take(24) {
                motion.predict(step);
                x += 60.0 * step;
                motion.correct(at(x));
            }
            motion.predict(0.2);
            assert!((centre(&motion) - (x + 12.0)).abs() < 4.0, "{seconds:?}: {} after {x}", centre(&motion));
        }
    }

    #[test]
    fn a_box_that_trembles_is_smoothed_and_goes_nowhere() {
        let mut motion = Motion::new(at(100.0));
        for frame in 0..60 {
            motion.predict(0.033);
            motion.correct(at(if frame % 2 == 0 { 102.0 } else { 98.0 }));
        }
        assert!((centre(&motion) - 100.0).abs() < 1.5, "{}", centre(&motion));
        motion.predict(1.0);
        assert!((centre(&motion) - 100.0).abs() < 20.0, "{}", centre(&motion));
    }

    #[test]
    fn a_thing_unseen_for_long_does_not_run_away_or_turn_inside_out() {
        let mut motion = Motion::new(at(0.0));
        for frame in 1..10_u8 {
            motion.predict(0.1);
            let x = 20.0 * f32::from(frame);
            let side = 20.0 - 2.0 * f32::from(frame);
            motion.correct([x - side, 100.0 - side, x + side, 100.0 + side]);
        }
        motion.predict(1000.0);
        let [left, top, right, bottom] = motion.box_in_frame();
        assert!(right > left && bottom > top && right < 600.0, "{left} {top} {right} {bottom}");
    }

    #[test]
    fn no_time_between_two_frames_is_no_error() {
        let mut motion = Motion::new(at(0.0));
        for _ in 0..100 {
            motion.predict(0.0);
            motion.correct(at(0.0));
        }
        assert_eq!(centre(&motion), 0.0);
    }
}
