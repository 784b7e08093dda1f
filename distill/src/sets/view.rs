//! Where a part of a photograph lies in the input, and how boxes are mapped.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use wordsight_detection::Letterbox;

/// A window of a photograph and the rectangle of the input that shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct View {
    /// Left, top, width and height of the window, in the photograph's pixels.
    pub window: [f64; 4],
    /// `[x1, y1, x2, y2]` in the input, whole pixels.
    pub rectangle: [usize; 4],
    /// Mirrored, left to right.
    pub is_flipped: bool,
}

impl View {
    /// The whole photograph in the middle of a square input, as the device shows a frame.
    pub fn letterboxed(size: [usize; 2], side: usize) -> Self {
        let letterbox = Letterbox::new(size.into(), (side, side));
        let ((width, height), (left, top)) = (letterbox.resized_size(), letterbox.pad());
        Self {
            window: [0.0, 0.0, size[0] as f64, size[1] as f64],
            rectangle: [left, top, left + width, top + height],
            is_flipped: false,
        }
    }

    /// A photograph at a scale (pixels of the input for one of its own, along x and y) somewhere in a tile of the
    /// input: whole where it fits, else through a window that shows as much of `focus` as it can.
    pub fn random(
        size: [usize; 2],
        tile: [usize; 4],
        scale: [f64; 2],
        focus: Option<[f32; 4]>,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let mut view = Self { window: [0.0; 4], rectangle: [0; 4], is_flipped: false };
        for axis in 0..2 {
            let (length, room) = (size[axis] as f64, tile[axis + 2] - tile[axis]);
            let shown = ((length * scale[axis]).round() as usize).max(1);
            let start = tile[axis] + rng.random_range(0..=room.saturating_sub(shown));
            view.rectangle[axis] = start;
            view.rectangle[axis + 2] = start + shown.min(room);
            let window = (room as f64 / scale[axis]).min(length);
            view.window[axis + 2] = if shown <= room { length } else { window };
            let focus = focus.map(|focus| [f64::from(focus[axis]), f64::from(focus[axis + 2])]);
            view.window[axis] = random_start(length, view.window[axis + 2], focus, rng);
        }
        view
    }

    /// A box of the photograph in the input, not clipped to the rectangle.
    pub fn box_in_input(&self, box_in_photograph: [f32; 4]) -> [f32; 4] {
        let mut placed: [f32; 4] = std::array::from_fn(|side| {
            let axis = side % 2;
            let shown = (self.rectangle[axis + 2] - self.rectangle[axis]) as f64;
            let from_start = f64::from(box_in_photograph[side]) - self.window[axis];
            (from_start * shown / self.window[axis + 2] + self.rectangle[axis] as f64) as f32
        });
        if self.is_flipped {
            let sum = (self.rectangle[0] + self.rectangle[2]) as f32;
            placed = [sum - placed[2], placed[1], sum - placed[0], placed[3]];
        }
        placed
    }

    /// The rectangle as a box.
    pub fn bounds(&self) -> [f32; 4] {
        self.rectangle.map(|side| side as f32)
    }
}

/// Where a window of a length starts along one axis of a photograph, so that it holds `focus` or is inside it.
fn random_start(length: f64, window: f64, focus: Option<[f64; 2]>, rng: &mut ChaCha8Rng) -> f64 {
    let last = (length - window).max(0.0);
    let [least, most] = match focus {
        Some([start, end]) => {
            let (a, b) = (end - window, start);
            [a.min(b).clamp(0.0, last), a.max(b).clamp(0.0, last)]
        }
        None => [0.0, last],
    };
    least + (most - least) * rng.random_range(0.0..=1.0)
}

/// The common part of two boxes; none where they have none.
pub(super) fn intersection(a: [f32; 4], b: [f32; 4]) -> Option<[f32; 4]> {
    let common = [a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])];
    (common[2] > common[0] && common[3] > common[1]).then_some(common)
}

/// A box's area in square pixels.
pub(super) fn area([x1, y1, x2, y2]: [f32; 4]) -> f32 {
    (x2 - x1) * (y2 - y1)
}
