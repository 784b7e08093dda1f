//! Assigns cells to objects, and chooses the regions that the embeddings learn from.
//!
//! All on plain numbers: no gradient flows through it.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use wordsight_detection::iou;

/// Cells that learn one object's box.
const CELLS_AN_OBJECT: usize = 10;
/// Exponent of the IoU in the alignment of a cell with an object (TOOD, Feng et al., 2021, beta).
const IOU_EXPONENT: i32 = 6;
/// The objectness of an object's best cell, however badly it boxes the object: what is not proposed is not learnt.
const LEAST_TARGET: f32 = 0.3;
/// A region this close to an object is it; one farther than the second from all is background.
const OBJECT_IOU: f32 = 0.5;
const BACKGROUND_IOU: f32 = 0.3;
/// The refiner learns from boxes that overlap an object by at least this much.
const ROUGH_IOU: f32 = 0.4;

/// A cell that learns an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Positive {
    /// The cell.
    pub cell: usize,
    /// The object, by its place among the image's.
    pub object: usize,
    /// The objectness that the cell should have, 0 to 1.
    pub target: f32,
    /// How much it counts in the box loss, 0 to 1; 1 for each object's best cell.
    pub share: f32,
}

/// Assigns cells to objects by task alignment (TOOD, section 3.2): inside every object the ten cells of
/// highest `objectness x IoU^6`; a cell that two objects want goes to the one it overlaps more. A cell's
/// target is its alignment, scaled so that the object's best cell has the object's best IoU, or [`LEAST_TARGET`].
///
/// The paper weighs the box loss by that target too. Small objects' boxes overlap little at first, so they would hardly
/// be learnt (measured: after 1,200 steps 2 % of them were found among a hundred proposals): here every object counts
/// as much.
pub fn assign(
    centres: &[[f32; 2]],
    objectness: &[f32],
    boxes_in_input: &[[f32; 4]],
    objects_in_input: &[[f32; 4]],
) -> Vec<Positive> {
    let mut owners: std::collections::BTreeMap<usize, (usize, f32, f32)> = std::collections::BTreeMap::new();
    for (object, &bounds) in objects_in_input.iter().enumerate() {
        let mut inside: Vec<(usize, f32, f32)> = cells_inside(centres, bounds)
            .map(|cell| {
                let overlap = iou(boxes_in_input[cell], bounds);
                (cell, overlap, objectness[cell] * overlap.powi(IOU_EXPONENT))
            })
            .collect();
        inside.sort_by(|a, b| b.2.total_cmp(&a.2));
        inside.truncate(CELLS_AN_OBJECT);
        for (cell, overlap, alignment) in inside {
            let owner = owners.entry(cell).or_insert((object, overlap, alignment));
            if overlap > owner.1 {
                *owner = (object, overlap, alignment);
            }
        }
    }
    let mut best = vec![(0.0_f32, 0.0_f32); objects_in_input.len()];
    for &(object, overlap, alignment) in owners.values() {
        let (best_overlap, best_alignment) = &mut best[object];
        *best_overlap = best_overlap.max(overlap);
        *best_alignment = best_alignment.max(alignment);
    }
    owners
        .into_iter()
        .map(|(cell, (object, _, alignment))| {
            let (best_overlap, best_alignment) = best[object];
            let share = if best_alignment > 0.0 { alignment / best_alignment } else { 1.0 };
            Positive { cell, object, target: share * best_overlap.max(LEAST_TARGET), share }
        })
        .collect()
}

/// Cells whose centre lies in the box; the nearest one where the box is too small to hold any.
fn cells_inside(centres: &[[f32; 2]], [x1, y1, x2, y2]: [f32; 4]) -> impl Iterator<Item = usize> {
    let inside = move |[x, y]: [f32; 2]| x > x1 && x < x2 && y > y1 && y < y2;
    let mut cells: Vec<usize> = (0..centres.len()).filter(|&cell| inside(centres[cell])).collect();
    if cells.is_empty() {
        let (cx, cy) = ((x1 + x2) / 2.0, (y1 + y2) / 2.0);
        let distance = |cell: &usize| {
            let [x, y] = centres[*cell];
            (x - cx).powi(2) + (y - cy).powi(2)
        };
        cells.extend((0..centres.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))));
    }
    cells.into_iter()
}

/// A region that the embeddings learn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// Where.
    pub box_in_input: [f32; 4],
    /// What the text embedding should say.
    pub label: Label,
    /// Its IoU with the closest object; none where nothing is known.
    pub overlap: Option<f32>,
    /// The row of the teacher's embedding that the image embedding should match.
    pub teacher_row: Option<usize>,
}

/// What is in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// An object, by its place among the image's.
    Object(usize),
    /// None.
    Background,
    /// Too close to an object to be background, too far to be it.
    Unclear,
}

/// `count` regions of an image: every object's box a little moved, what the proposal head likes most
/// now, and random boxes.
pub fn sample_regions(
    count: usize,
    input_size: f32,
    proposals_in_input: &[[f32; 4]],
    objects_in_input: &[[f32; 4]],
    rng: &mut ChaCha8Rng,
) -> Vec<Region> {
    let mut objects = objects_in_input.to_vec();
    objects.shuffle(rng);
    objects.truncate(count / 2);
    let mut boxes: Vec<[f32; 4]> = objects.into_iter().map(|object| moved(object, input_size, rng)).collect();
    let liked = count.saturating_sub(boxes.len()) * 3 / 4;
    if !proposals_in_input.is_empty() {
        boxes.extend((0..liked).map(|_| proposals_in_input[rng.random_range(0..proposals_in_input.len())]));
    }
    while boxes.len() < count {
        boxes.push(random_box(input_size, rng));
    }
    boxes.into_iter().map(|box_in_input| label(box_in_input, objects_in_input)).collect()
}

/// A region that the teacher has not looked at, labelled by what it overlaps.
pub fn label(box_in_input: [f32; 4], objects_in_input: &[[f32; 4]]) -> Region {
    let closest = objects_in_input
        .iter()
        .map(|&object| iou(box_in_input, object))
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1));
    let label = match closest {
        Some((object, overlap)) if overlap >= OBJECT_IOU => Label::Object(object),
        Some((_, overlap)) if overlap >= BACKGROUND_IOU => Label::Unclear,
        _ => Label::Background,
    };
    Region {
        box_in_input,
        label,
        overlap: Some(closest.map_or(0.0, |(_, overlap)| overlap)),
        teacher_row: None,
    }
}

/// Up to `count` of the boxes that the teacher has looked at, each with the row of what it said.
pub fn seen_by_teacher(
    count: usize,
    seen: &[([f32; 4], usize)],
    objects_in_input: &[[f32; 4]],
    rng: &mut ChaCha8Rng,
) -> Vec<Region> {
    let chosen = seen.choose_multiple(rng, count);
    chosen
        .map(|&(box_in_input, row)| Region {
            teacher_row: Some(row),
            ..label(box_in_input, objects_in_input)
        })
        .collect()
}

/// `count` examples for the refiner: boxes near objects, each with its object; half the objects' own boxes
/// moved, half proposals. Nothing where there is no more to learn.
pub fn rough_boxes(
    count: usize,
    input_size: f32,
    proposals_in_input: &[[f32; 4]],
    objects_in_input: &[[f32; 4]],
    rng: &mut ChaCha8Rng,
) -> Vec<Option<([f32; 4], [f32; 4])>> {
    let near = |rough: [f32; 4]| {
        let overlaps = objects_in_input.iter().map(|&object| (iou(rough, object), object));
        overlaps.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(overlap, _)| *overlap >= ROUGH_IOU)
    };
    let mut examples: Vec<Option<([f32; 4], [f32; 4])>> = proposals_in_input
        .iter()
        .filter_map(|&rough| near(rough).map(|(_, object)| Some((rough, object))))
        .collect();
    examples.shuffle(rng);
    examples.truncate(count / 2);
    if !objects_in_input.is_empty() {
        while examples.len() < count {
            let object = objects_in_input[rng.random_range(0..objects_in_input.len())];
            examples.push(Some((moved(moved(object, input_size, rng), input_size, rng), object)));
        }
    }
    examples.resize(count, None);
    examples
}

/// A box with each side moved by up to a tenth of its length.
fn moved([x1, y1, x2, y2]: [f32; 4], input_size: f32, rng: &mut ChaCha8Rng) -> [f32; 4] {
    let (w, h) = (x2 - x1, y2 - y1);
    let mut shift = |at: f32, length: f32| (at + length * rng.random_range(-0.1..0.1)).clamp(0.0, input_size);
    [shift(x1, w), shift(y1, h), shift(x2, w), shift(y2, h)]
}

fn random_box(input_size: f32, rng: &mut ChaCha8Rng) -> [f32; 4] {
    let mut side = || {
        let length = input_size * rng.random_range(0.08..0.8_f32);
        let from = rng.random_range(0.0..input_size - length);
        (from, from + length)
    };
    let ((x1, x2), (y1, y2)) = (side(), side());
    [x1, y1, x2, y2]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_best_aligned_cell_is_taught_the_best_overlap() {
        let centres = [[10.0, 10.0], [20.0, 20.0], [90.0, 90.0]];
        let object = [0.0, 0.0, 40.0, 40.0];
        let boxes = [[0.0, 0.0, 40.0, 32.0], [0.0, 0.0, 40.0, 20.0], object];
        let positives = assign(&centres, &[0.5, 0.5, 0.9], &boxes, &[object]);
        let cells: Vec<usize> = positives.iter().map(|positive| positive.cell).collect();
        assert_eq!(cells, [0, 1], "a cell outside the object never answers for it");
        assert!((positives[0].target - 0.8).abs() < 1e-6);
        assert!(positives[1].target < 0.05);
    }

    #[test]
    fn a_cell_that_two_objects_want_goes_to_the_one_it_overlaps_more() {
        let boxes = [[0.0, 0.0, 20.0, 20.0]];
        let objects = [[0.0, 0.0, 40.0, 40.0], [0.0, 0.0, 22.0, 22.0]];
        let positives = assign(&[[10.0, 10.0]], &[0.5], &boxes, &objects);
        assert_eq!(positives.len(), 1);
        assert_eq!(positives[0].object, 1);
    }

    #[test]
    fn an_object_smaller_than_a_cell_is_still_learnt() {
        let positives = assign(
            &[[4.0, 4.0], [12.0, 4.0]],
            &[0.5; 2],
            &[[8.0, 0.0, 12.0, 4.0]; 2],
            &[[8.5, 1.0, 10.0, 3.0]],
        );
        assert_eq!(positives.iter().map(|p| p.cell).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn regions_are_labelled_by_their_overlap() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let objects = [[20.0, 20.0, 120.0, 120.0], [200.0, 200.0, 300.0, 300.0]];
        let regions = sample_regions(64, 320.0, &[[150.0, 20.0, 180.0, 60.0]], &objects, &mut rng);
        assert_eq!(regions.len(), 64);
        for region in &regions {
            let overlaps = objects.map(|object| iou(region.box_in_input, object));
            match region.label {
                Label::Object(object) => assert!(overlaps[object] >= 0.5),
                Label::Background => assert!(overlaps.iter().all(|&overlap| overlap < 0.3)),
                Label::Unclear => assert!(overlaps.iter().any(|&overlap| (0.3..0.5).contains(&overlap))),
            }
        }
        assert!(regions.iter().any(|region| region.label == Label::Background));
    }

    #[test]
    fn of_the_boxes_that_the_teacher_saw_some_are_learnt_from_each_with_what_it_said() {
        let objects = [[20.0, 20.0, 120.0, 120.0]];
        let seen = [
            ([20.0, 20.0, 120.0, 120.0], 7),
            ([200.0, 200.0, 260.0, 260.0], 8),
            ([20.0, 20.0, 120.0, 60.0], 9),
        ];
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut all = seen_by_teacher(8, &seen, &objects, &mut rng);
        all.sort_by_key(|region| region.teacher_row);
        let expected = [Label::Object(0), Label::Background, Label::Unclear];
        assert_eq!(all.len(), seen.len(), "no box is learnt from twice");
        for ((region, (box_in_input, row)), label) in all.iter().zip(seen).zip(expected) {
            let overlap = Some(iou(box_in_input, objects[0]));
            assert_eq!(*region, Region { box_in_input, label, overlap, teacher_row: Some(row) });
        }

        let chosen: std::collections::BTreeSet<Option<usize>> = (0..40)
            .flat_map(|_| seen_by_teacher(1, &seen, &objects, &mut rng))
            .map(|region| region.teacher_row)
            .collect();
        assert_eq!(chosen.len(), 3, "each is chosen at times");
        assert!(seen_by_teacher(4, &[], &objects, &mut rng).is_empty());
    }
}
