//! The region of a photograph that shows a thing.

use wordsight_detection::iou;

use super::worker::Found;

/// The least overlap (IoU) of a region with the box that was drawn around a thing: people draw roughly.
const LEAST_OVERLAP: f32 = 0.4;

/// The text head's embedding of the region that lies in a box (left, top, right, bottom, in the photograph's pixels); without
/// a box of the one that takes up the photograph, or else of the most striking one.
///
/// # Errors
/// When no region lies in the box.
pub fn region_of(found: &Found, box_in_photograph: Option<[f32; 4]>) -> Result<Vec<f32>, String> {
    let Found { sizes, regions } = found;
    let (width, height) = (sizes.size.0 as f32, sizes.size.1 as f32);
    let letterbox = &sizes.letterbox;
    let wanted = match box_in_photograph {
        Some([left, top, right, bottom]) => {
            [left.max(0.0), top.max(0.0), right.min(width), bottom.min(height)]
        }
        None => [0.0, 0.0, width, height],
    };
    if wanted[2] - wanted[0] < 1.0 || wanted[3] - wanted[1] < 1.0 {
        return Err(format!("the box lies outside of the photograph, which is {width}x{height}"));
    }
    let overlap = |box_in_input: &[f32; 4]| iou(letterbox.box_in_frame_from_input(*box_in_input), wanted);
    let overlaps = regions.boxes_in_input.iter().map(overlap).enumerate();
    let nearest =
        overlaps.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, overlap)| *overlap >= LEAST_OVERLAP);
    let place = match (nearest, box_in_photograph) {
        (Some((place, _)), _) => place,
        (None, None) => most_striking(&regions.objectness),
        (None, Some(_)) => {
            return Err(
                "the student sees no thing in that box: draw it close around one whole thing".to_owned()
            );
        }
    };
    let embedding = regions.text_embeddings.get(place * sizes.embedding_size..).unwrap_or_default();
    match embedding.get(..sizes.embedding_size) {
        Some(embedding) => Ok(embedding.to_vec()),
        None => Err("the student finds no regions at all".to_owned()),
    }
}

/// The region with the most objectness; the first of them.
fn most_striking(objectness: &[f32]) -> usize {
    let places = objectness.iter().enumerate();
    places.rev().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(place, _)| place)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use wordsight_detection::Letterbox;
    use wordsight_engines::{Regions, StudentOutput};

    use super::*;
    use crate::service::photographs::worker::Sizes;

    /// A photograph of 200x100 pixels in an input of 100x100, with two regions.
    fn found() -> Found {
        let sizes = Sizes {
            size: (200, 100),
            input_size: (100, 100),
            letterbox: Letterbox::new((200, 100), (100, 100)),
            regions: 2,
            embedding_size: 2,
            numbers: [0; StudentOutput::ALL.len()],
            preprocess: Duration::ZERO,
            engine: Duration::ZERO,
        };
        let regions = Regions {
            boxes_in_input: vec![[0.0, 25.0, 10.0, 35.0], [50.0, 25.0, 100.0, 75.0]],
            objectness: vec![0.9, 0.8],
            text_embeddings: vec![1.0, 0.0, 0.0, 1.0],
            image_embeddings: vec![0.0; 4],
            ..Regions::default()
        };
        Found { sizes, regions }
    }

    #[test]
    fn a_box_is_met_by_the_region_that_overlaps_it_most_and_no_box_by_the_whole_picture_or_the_first() {
        let found = found();
        let of = |thing: [f32; 4]| region_of(&found, Some(thing));
        assert_eq!(of([0.0, 0.0, 22.0, 18.0]).unwrap(), [1.0, 0.0]);
        assert_eq!(of([90.0, 0.0, 900.0, 900.0]).unwrap(), [0.0, 1.0], "cut to the photograph");
        assert!(of([40.0, 0.0, 60.0, 20.0]).unwrap_err().contains("sees no thing"));
        assert!(of([300.0, 0.0, 400.0, 20.0]).unwrap_err().contains("200x100"));
        assert_eq!(region_of(&found, None).unwrap(), [0.0, 1.0], "half of the picture is enough");
        let mut cropped = found;
        cropped.regions.boxes_in_input[1] = [90.0, 65.0, 100.0, 75.0];
        assert_eq!(region_of(&cropped, None).unwrap(), [1.0, 0.0]);
    }
}
