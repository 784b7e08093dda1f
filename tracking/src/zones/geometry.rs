//! Points, polygons and directed lines, in parts of the picture's width and height.
//!
//! A border is on exactly one side of itself, so a way that ends on it is never on both or on neither.

/// A place in a picture: x from the left and y from the top, 0 to 1.
pub type Point = [f64; 2];

/// Where a way crosses a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crossing {
    /// The part of the way until there, 0 to 1.
    pub fraction: f64,
    /// Whether it leads to the right-hand side of the line, as seen by someone who goes along the line.
    pub to_right: bool,
}

/// Twice the area of the triangle of a line and a point: positive on the right-hand side of the line, where y grows
/// downwards.
fn side(from: Point, to: Point, point: Point) -> f64 {
    (to[0] - from[0]) * (point[1] - from[1]) - (to[1] - from[1]) * (point[0] - from[0])
}

/// Where the way from one point to another crosses the line between two others, if it does. A point on the line is on
/// its right-hand side.
pub fn crossing([from, to]: [Point; 2], [start, end]: [Point; 2]) -> Option<Crossing> {
    let (before, after) = (side(from, to, start), side(from, to, end));
    let to_right = after >= 0.0;
    if (before >= 0.0) == to_right {
        return None;
    }
    let fraction = before / (before - after);
    let along = [to[0] - from[0], to[1] - from[1]];
    let met: Point = std::array::from_fn(|axis| start[axis] + fraction * (end[axis] - start[axis]));
    let reached = (met[0] - from[0]) * along[0] + (met[1] - from[1]) * along[1];
    let length = along[0] * along[0] + along[1] * along[1];
    (0.0..=length).contains(&reached).then_some(Crossing { fraction, to_right })
}

/// The sides of a polygon, the last of which leads back to its first point.
pub fn sides(polygon: &[Point]) -> impl Iterator<Item = [Point; 2]> + Clone {
    let ends = polygon.iter().cycle().skip(1);
    polygon.iter().zip(ends).map(|(from, to)| [*from, *to])
}

/// Whether a point is in a polygon: a line from it to the right crosses an odd number of sides.
pub fn contains(polygon: &[Point], [x, y]: Point) -> bool {
    let is_crossed = |[[from_x, from_y], [to_x, to_y]]: &[Point; 2]| {
        (*from_y > y) != (*to_y > y) && x < from_x + (y - from_y) / (to_y - from_y) * (to_x - from_x)
    };
    sides(polygon).filter(is_crossed).count() % 2 == 1
}

/// How far a point is from a line between two points, in heights of a picture that is `aspect` times as wide as high.
pub fn distance([from, to]: [Point; 2], point: Point, aspect: f64) -> f64 {
    let from_start = |[x, y]: Point| [(x - from[0]) * aspect, y - from[1]];
    let ([along_x, along_y], [x, y]) = (from_start(to), from_start(point));
    let length = along_x * along_x + along_y * along_y;
    let part = if length > 0.0 { ((x * along_x + y * along_y) / length).clamp(0.0, 1.0) } else { 0.0 };
    (x - part * along_x).hypot(y - part * along_y)
}

/// How far a point is from a polygon's border. What of it lies on the picture's edge is none: nothing is seen to cross it.
pub fn distance_to_border(polygon: &[Point], point: Point, aspect: f64) -> f64 {
    let inner = sides(polygon).filter(|side| !is_on_edge(side));
    inner.map(|line| distance(line, point, aspect)).fold(f64::INFINITY, f64::min)
}

fn is_on_edge([from, to]: &[Point; 2]) -> bool {
    (0..2).any(|axis| from[axis] == to[axis] && [0.0, 1.0].contains(&from[axis]))
}

/// The area of a polygon whose sides don't meet, of the picture's.
pub fn area(polygon: &[Point]) -> f64 {
    let twice: f64 = sides(polygon).map(|[from, to]| from[0] * to[1] - to[0] * from[1]).sum();
    twice.abs() / 2.0
}

/// The numbers of two sides of a polygon that meet elsewhere than at a corner that they share, if there are any.
pub fn sides_that_meet(polygon: &[Point]) -> Option<(usize, usize)> {
    let sides: Vec<[Point; 2]> = sides(polygon).collect();
    let pairs = (0..sides.len()).flat_map(|one| (one + 1..sides.len()).map(move |other| (one, other)));
    let mut meeting = pairs.filter(|&(one, other)| {
        let (one_line, other_line) = (sides[one], sides[other]);
        let is_next = other == one + 1 || (one == 0 && other == sides.len() - 1);
        if is_next {
            // They share a corner. One that turns back on itself lies on the other.
            let (corner, ends) = if other == one + 1 {
                (one_line[1], [one_line[0], other_line[1]])
            } else {
                (one_line[0], [one_line[1], other_line[0]])
            };
            let [to_one, to_other] = ends.map(|end| [end[0] - corner[0], end[1] - corner[1]]);
            let same_way = to_one[0] * to_other[0] + to_one[1] * to_other[1] > 0.0;
            return same_way && side(corner, ends[0], ends[1]).abs() < 1e-12;
        }
        touch(one_line, other_line)
    });
    meeting.next()
}

/// Whether two lines have a point in common.
fn touch(one: [Point; 2], other: [Point; 2]) -> bool {
    let [to_start, to_end] = other.map(|point| side(one[0], one[1], point));
    let [from_start, from_end] = one.map(|point| side(other[0], other[1], point));
    let are_apart = |one: f64, other: f64| (one > 0.0 && other > 0.0) || (one < 0.0 && other < 0.0);
    if are_apart(to_start, to_end) || are_apart(from_start, from_end) {
        return false;
    }
    // Lines on one line have nothing in common where they are beside each other.
    (0..2).all(|axis| {
        let least = |line: [Point; 2]| line[0][axis].min(line[1][axis]);
        let most = |line: [Point; 2]| line[0][axis].max(line[1][axis]);
        least(one) <= most(other) && least(other) <= most(one)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: [Point; 4] = [[0.2, 0.2], [0.6, 0.2], [0.6, 0.6], [0.2, 0.6]];
    /// A "U" that opens upwards.
    const CUP: [Point; 8] =
        [[0.1, 0.1], [0.3, 0.1], [0.3, 0.6], [0.7, 0.6], [0.7, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]];

    #[test]
    fn a_point_is_in_a_polygon_or_not_whatever_its_form() {
        for (point, is_in) in
            [([0.4, 0.4], true), ([0.1, 0.4], false), ([0.7, 0.4], false), ([0.4, 0.7], false)]
        {
            assert_eq!(contains(&SQUARE, point), is_in, "{point:?}");
        }
        for (point, is_in) in
            [([0.2, 0.5], true), ([0.5, 0.5], false), ([0.5, 0.7], true), ([0.8, 0.2], true)]
        {
            assert_eq!(contains(&CUP, point), is_in, "{point:?}");
        }
    }

    #[test]
    fn of_two_polygons_with_a_common_border_exactly_one_has_each_point_of_it() {
        let left: [Point; 4] = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]];
        let right: [Point; 4] = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]];
        for step in 0..10_u8 {
            let point = [0.5, f64::from(step) / 10.0];
            assert!(contains(&left, point) != contains(&right, point), "{point:?}");
        }
    }

    #[test]
    fn the_direction_in_which_a_corner_order_goes_does_not_matter() {
        let mut turned = CUP;
        turned.reverse();
        for x in 0..20_u8 {
            for y in 0..20_u8 {
                let point = [f64::from(x) / 20.0 + 0.01, f64::from(y) / 20.0 + 0.01];
                assert_eq!(contains(&CUP, point), contains(&turned, point), "{point:?}");
            }
        }
        assert!((area(&CUP) - area(&turned)).abs() < 1e-12 && (area(&SQUARE) - 0.16).abs() < 1e-12);
    }

    #[test]
    fn a_way_crosses_a_line_between_its_ends_and_to_a_side() {
        // From the left to the right of the picture: below is its right-hand side.
        let line = [[0.2, 0.5], [0.8, 0.5]];
        let down = crossing(line, [[0.5, 0.25], [0.5, 0.75]]);
        assert_eq!(down, Some(Crossing { fraction: 0.5, to_right: true }));
        let up = crossing(line, [[0.5, 0.6], [0.5, 0.2]]).map(|crossing| crossing.to_right);
        assert_eq!(up, Some(false));
        assert_eq!(crossing(line, [[0.1, 0.3], [0.1, 0.7]]), None, "beside its end");
        assert_eq!(crossing(line, [[0.3, 0.3], [0.7, 0.4]]), None);
        assert_eq!(crossing(line, [[0.0, 0.5], [1.0, 0.5]]), None, "along it");
    }

    #[test]
    fn a_way_that_stops_on_a_line_crosses_it_once_in_all() {
        let line = [[0.2, 0.5], [0.8, 0.5]];
        let count = |way: &[Point]| -> i32 {
            let steps = way.windows(2).filter_map(|step| crossing(line, [step[0], step[1]]));
            steps.map(|crossing| if crossing.to_right { 1 } else { -1 }).sum()
        };
        assert_eq!(count(&[[0.5, 0.3], [0.5, 0.5], [0.5, 0.7]]), 1);
        assert_eq!(count(&[[0.5, 0.7], [0.5, 0.5], [0.5, 0.3]]), -1);
        assert_eq!(count(&[[0.5, 0.3], [0.5, 0.5], [0.5, 0.3]]), 0);
    }

    #[test]
    fn distances_are_as_they_look_and_not_as_they_are_measured() {
        let upright = [[0.5, 0.0], [0.5, 1.0]];
        assert!((distance(upright, [0.6, 0.5], 2.0) - 0.2).abs() < 1e-12);
        assert!((distance(upright, [0.5, 1.5], 2.0) - 0.5).abs() < 1e-12, "beyond its end");
        assert!((distance_to_border(&SQUARE, [0.4, 0.3], 1.0) - 0.1).abs() < 1e-12);
        let right = [[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]];
        assert!(
            (distance_to_border(&right, [0.7, 0.99], 1.0) - 0.2).abs() < 1e-12,
            "the picture's edge is none"
        );
        assert_eq!(distance([[0.5; 2]; 2], [0.5, 0.7], 1.0), 0.7 - 0.5, "a line without a length");
    }

    #[test]
    fn sides_that_cross_or_touch_or_turn_back_are_found() {
        assert_eq!(sides_that_meet(&SQUARE), None);
        assert_eq!(sides_that_meet(&CUP), None);
        let bow: [Point; 4] = [[0.2, 0.2], [0.6, 0.6], [0.6, 0.2], [0.2, 0.6]];
        assert_eq!(sides_that_meet(&bow), Some((0, 2)));
        let spike: [Point; 4] = [[0.2, 0.2], [0.6, 0.2], [0.8, 0.2], [0.4, 0.2]];
        assert!(sides_that_meet(&spike).is_some());
        let touching: [Point; 5] = [[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.5, 0.2], [0.2, 0.8]];
        assert!(sides_that_meet(&touching).is_some());
        let flat: [Point; 3] = [[0.2, 0.2], [0.4, 0.2], [0.8, 0.2]];
        assert!(sides_that_meet(&flat).is_some(), "its last side lies on the others");
    }
}
