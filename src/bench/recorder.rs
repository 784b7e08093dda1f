//! Records the times of every frame in memory that is taken before the first one.
//!
//! Takes one [`FrameTimes`] a frame and keeps rows in the order of time. It takes all its memory, and touches it,
//! before the first frame: a recorder that grew would be seen in the latencies, in the resident memory and in the count
//! of allocations that it is there to report.
//!
//! A full recorder doesn't stop. It drops every second row and from then on takes every second frame, and so on, so
//! that the rows are always equally spaced over the whole run and every frame had the same chance to be among them. Its
//! count of frames still includes them all.

use std::time::Duration;

/// The most rows: 200,000 of them are 29 MB, and half an hour at 100 frames a second.
const MOST_ROWS: usize = 200_000;
/// The fewest, so that a short run's rows are never thinned.
const FEWEST_ROWS: usize = 1024;
/// No pipeline is expected to be faster than this; one that is gets thinned, and nothing is lost but rows.
const GENEROUS_FPS: f64 = 2000.0;

/// What one frame took, stage by stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameTimes {
    /// When it was inferred, since the measurement began. Where the measurement pauses, for the engine alone say,
    /// this clock pauses too: rates are taken from its differences.
    pub at: Duration,
    /// From the source into memory: reading and decoding, without the wait for the frame.
    pub capture: Duration,
    /// Letterboxing; zero where the engine takes whole frames.
    pub preprocess: Duration,
    /// Inference, as the pipeline waits for it.
    pub engine: Duration,
    /// Words meet regions.
    pub scoring: Duration,
    /// Non-maximum suppression.
    pub nms: Duration,
    /// Writing the results.
    pub publish: Duration,
    /// The stages' work on this frame together, without the waits between them.
    pub end_to_end: Duration,
    /// From capture to published, waits included.
    pub age: Duration,
}

/// Rows of [`FrameTimes`] in memory that is taken at the start.
#[derive(Debug)]
pub struct Recorder {
    rows: Vec<FrameTimes>,
    /// How many rows there may be; what the vector reserved may be more.
    capacity: usize,
    every: u64,
    frames: u64,
}

impl Recorder {
    /// A recorder with room for `capacity` rows, at least two.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(2);
        let mut rows = Vec::with_capacity(capacity);
        // Touched once, for the system gives memory only then.
        rows.resize(capacity, FrameTimes { at: Duration::MAX, ..FrameTimes::default() });
        rows.clear();
        Self { rows, capacity, every: 1, frames: 0 }
    }

    /// A recorder with room for a run this long, within reason.
    pub fn for_run_of(duration: Duration) -> Self {
        // A cast of a number too large gives the largest.
        let frames = (duration.as_secs_f64() * GENEROUS_FPS) as usize;
        Self::new(frames.clamp(FEWEST_ROWS, MOST_ROWS))
    }

    /// Notes one frame. Never allocates.
    pub fn record(&mut self, times: &FrameTimes) {
        let is_taken = self.frames.is_multiple_of(self.every);
        self.frames += 1;
        if !is_taken {
            return;
        }
        if self.rows.len() == self.capacity {
            self.halve();
            // The frame's number may be odd in terms of the new step.
            if !(self.frames - 1).is_multiple_of(self.every) {
                return;
            }
        }
        self.rows.push(*times);
    }

    fn halve(&mut self) {
        let kept = self.rows.len().div_ceil(2);
        for row in 0..kept {
            self.rows[row] = self.rows[2 * row];
        }
        self.rows.truncate(kept);
        self.every *= 2;
    }

    /// The frames that have a row, in the order of time.
    pub fn rows(&self) -> &[FrameTimes] {
        &self.rows
    }

    /// Of how many frames one has a row.
    pub fn every(&self) -> u64 {
        self.every
    }

    /// All frames, with a row or without.
    pub fn frames(&self) -> u64 {
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_frames(capacity: usize, frames: u64) -> Recorder {
        let mut recorder = Recorder::new(capacity);
        for frame in 0..frames {
            recorder.record(&FrameTimes { at: Duration::from_millis(frame), ..FrameTimes::default() });
        }
        recorder
    }

    fn numbers(recorder: &Recorder) -> Vec<u128> {
        recorder.rows().iter().map(|row| row.at.as_millis()).collect()
    }

    #[test]
    fn every_frame_has_a_row_while_there_is_room() {
        let recorder = after_frames(8, 8);
        assert_eq!(numbers(&recorder), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((recorder.frames(), recorder.every()), (8, 1));
    }

    #[test]
    fn a_full_recorder_keeps_equally_spaced_frames_of_the_whole_run_and_counts_all() {
        for (capacity, frames) in [(8, 9), (8, 16), (8, 17), (8, 1000), (7, 100), (2, 50), (0, 3)] {
            let recorder = after_frames(capacity, frames);
            let every = u128::from(recorder.every());
            let expected: Vec<u128> = (0..u128::from(frames)).step_by(every as usize).collect();
            assert_eq!(numbers(&recorder), expected, "{capacity} rows, {frames} frames");
            assert_eq!(recorder.frames(), frames);
            assert!(2 * recorder.rows().len() >= capacity, "half of the room is used at least");
        }
    }

    #[test]
    fn recording_never_allocates() {
        let mut recorder = Recorder::new(64);
        let (place, room) = (recorder.rows.as_ptr(), recorder.rows.capacity());
        (0..10_000).for_each(|_| recorder.record(&FrameTimes::default()));
        assert_eq!((recorder.rows.as_ptr(), recorder.rows.capacity()), (place, room));
    }

    #[test]
    fn the_room_follows_the_length_of_the_run_within_bounds() {
        let room = |seconds| Recorder::for_run_of(Duration::from_secs(seconds)).capacity;
        assert_eq!((room(0), room(10), room(u64::MAX)), (FEWEST_ROWS, 20_000, MOST_ROWS));
    }
}
