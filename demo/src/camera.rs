//! The camera's path: from a view at the first frame to a view at the last, eased, and how it moves a box.

/// The least share of an object's marked area that must be in view for the object to count as shown.
/// Half: with less, even people disagree whether "the dog is in the picture".
pub const LEAST_VISIBLE_SHARE: f64 = 0.5;

/// The view (x1, y1, x2, y2 in the photograph's pixels) in frame `frame` of `frames`, counted from 0.
///
/// Smoothstep in time: the camera starts and ends at rest, as a hand moves it. Corners move linearly
/// in the eased time, so a view stays within the photograph if its ends do.
pub fn view_in_photo(start: [f64; 4], end: [f64; 4], frame: usize, frames: usize) -> [f64; 4] {
    let time = frame as f64 / (frames - 1) as f64;
    let eased = time * time * (3.0 - 2.0 * time);
    std::array::from_fn(|i| start[i] + (end[i] - start[i]) * eased)
}

/// A marked box as the frame shows it: x1, y1, x2, y2 in the frame's pixels, clipped to the frame.
/// `None` where less than [`LEAST_VISIBLE_SHARE`] of it is in view.
pub fn box_in_frame_from_photo(
    box_in_photo: [f64; 4],
    view_in_photo: [f64; 4],
    width: u32,
    height: u32,
) -> Option<[f64; 4]> {
    let [view_x1, view_y1, view_x2, view_y2] = view_in_photo;
    let [x1, y1, x2, y2] = box_in_photo;
    let visible = [x1.max(view_x1), y1.max(view_y1), x2.min(view_x2), y2.min(view_y2)];
    let (visible_width, visible_height) = (visible[2] - visible[0], visible[3] - visible[1]);
    let share = visible_width.max(0.0) * visible_height.max(0.0) / ((x2 - x1) * (y2 - y1));
    if share < LEAST_VISIBLE_SHARE {
        return None;
    }
    let scale_x = f64::from(width) / (view_x2 - view_x1);
    let scale_y = f64::from(height) / (view_y2 - view_y1);
    Some([
        (visible[0] - view_x1) * scale_x,
        (visible[1] - view_y1) * scale_y,
        (visible[2] - view_x1) * scale_x,
        (visible[3] - view_y1) * scale_y,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: [f64; 4] = [0.0, 0.0, 80.0, 60.0];
    const END: [f64; 4] = [40.0, 20.0, 80.0, 50.0];

    #[test]
    fn the_camera_starts_and_ends_where_the_path_says_and_is_half_way_at_half_time() {
        assert_eq!(view_in_photo(START, END, 0, 5), START);
        assert_eq!(view_in_photo(START, END, 2, 5), [20.0, 10.0, 80.0, 55.0]);
        assert_eq!(view_in_photo(START, END, 4, 5), END);
    }

    #[test]
    fn the_camera_is_slower_at_its_ends_than_in_the_middle() {
        let x = |frame| view_in_photo(START, END, frame, 9)[0];
        assert!(x(1) - x(0) < (x(5) - x(4)) / 2.0);
    }

    #[test]
    fn a_box_grows_and_moves_as_the_camera_closes_in() {
        let object = [50.0, 30.0, 60.0, 40.0];
        assert_eq!(box_in_frame_from_photo(object, START, 160, 120), Some([100.0, 60.0, 120.0, 80.0]));
        assert_eq!(box_in_frame_from_photo(object, END, 160, 120), Some([40.0, 40.0, 80.0, 80.0]));
    }

    #[test]
    fn a_box_is_clipped_to_the_frame_and_gone_when_less_than_half_is_in_view() {
        // Three quarters in view, then a quarter.
        assert_eq!(
            box_in_frame_from_photo([30.0, 25.0, 70.0, 45.0], END, 160, 120),
            Some([0.0, 20.0, 120.0, 100.0])
        );
        assert_eq!(box_in_frame_from_photo([10.0, 25.0, 50.0, 45.0], END, 160, 120), None);
        assert_eq!(box_in_frame_from_photo([0.0, 0.0, 10.0, 10.0], END, 160, 120), None);
    }
}
