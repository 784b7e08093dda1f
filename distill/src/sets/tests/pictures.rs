//! Whether boxes go where augmentation moves the pixels, and whether the same seed makes the same bytes.

use std::fs;
use std::sync::Arc;

use image::{Rgba, RgbaImage};
use serde_json::json;

use super::super::colour::ColourChange;
use super::super::picture::TrainingImage;
use super::super::view::View;
use super::super::{AnnotatedObject, Augmentation, Loader, LoaderSettings, Phase, Photograph, Sets};
use super::{COCO, COLOURS, Made};
use crate::coco::{Dataset, Image};
use crate::table;

const SIDE: usize = 128;

fn settings(augmentation: Augmentation) -> LoaderSettings {
    LoaderSettings {
        seed: 5,
        batch: 4,
        phases: Phase::always(SIDE, augmentation),
        threads: 2,
        cache_bytes: 1 << 20,
    }
}

fn pictures(sets: &Arc<Sets>, settings: LoaderSettings, first: usize, steps: usize) -> Vec<TrainingImage> {
    let mut loader = Loader::new(sets.clone(), settings, first, steps).unwrap();
    (0..steps).flat_map(|_| loader.next().unwrap()).collect()
}

/// The extent of a colour's pixels in a part of a picture; none where there are none.
fn extent_of(picture: &TrainingImage, colour: usize, within: [f32; 4]) -> Option<[f32; 4]> {
    let wanted = COLOURS[colour].0.map(|channel| channel > 127);
    let [x1, y1, x2, y2] = within.map(|side| side as usize);
    let mut extent = None;
    for (x, y) in (y1..y2).flat_map(|y| (x1..x2).map(move |x| (x, y))) {
        let at = 3 * (y * picture.side + x);
        let pixel = &picture.pixels[at..at + 3];
        // Padding is as light in all channels as an edge may be.
        let is_grey = pixel.iter().max().unwrap().abs_diff(*pixel.iter().min().unwrap()) < 8;
        if !is_grey && pixel.iter().zip(wanted).all(|(channel, light)| (*channel > 127) == light) {
            let (x, y) = (x as f32, y as f32);
            let [a, b, c, d] = extent.unwrap_or([x, y, x, y]);
            extent = Some([a.min(x), b.min(y), c.max(x + 1.0), d.max(y + 1.0)]);
        }
    }
    extent
}

/// Checks every object of one colour against the pixels of its tile; says how many there were.
fn check(picture: &TrainingImage, seen: &str) -> usize {
    for object in &picture.objects {
        let [x1, y1, x2, y2] = object.box_in_input;
        let (x, y) = ((x1 + x2) / 2.0, (y1 + y2) / 2.0);
        let tile = picture.tiles.iter().map(|tile| tile.box_in_input);
        let tile = tile.clone().find(|[a, b, c, d]| *a <= x && x <= *c && *b <= y && y <= *d).unwrap();
        let extent = extent_of(picture, object.word.unwrap(), tile).expect(seen);
        for (side, pixels) in object.box_in_input.iter().zip(extent) {
            assert!((side - pixels).abs() <= 2.0, "{seen}: {:?}, its pixels {extent:?}", object.box_in_input);
        }
    }
    picture.objects.len()
}

fn only(change: impl FnOnce(&mut Augmentation)) -> Augmentation {
    let mut augmentation = Augmentation::plain();
    change(&mut augmentation);
    augmentation
}

#[test]
fn boxes_follow_their_pixels_through_every_augmentation() {
    let made = Made::new();
    made.write_coco(|_| ());
    let sets = Arc::new(made.sets(COCO).unwrap());
    let all = Augmentation { colour: 0.0, ..Augmentation::strong() };
    for (name, augmentation) in [
        ("letterbox", only(|_| ())),
        ("flip", only(|a| a.flip = 1.0)),
        ("smaller", only(|a| a.scale = [0.4, 0.8])),
        ("larger", only(|a| a.scale = [1.2, 2.0])),
        ("stretch", only(|a| a.stretch = 1.5)),
        ("mosaic", only(|a| (a.mosaic, a.mosaic_scale) = (1.0, [0.4, 1.2]))),
        ("all", all),
    ] {
        let pictures = pictures(&sets, settings(augmentation), 0, 10);
        let found: usize = pictures.iter().map(|picture| check(picture, name)).sum();
        assert!(found >= 40, "{name}: {found} objects in 40 pictures");
    }
}

#[test]
fn a_letterboxed_photograph_is_where_the_device_shows_it() {
    let made = Made::new();
    made.write_coco(|_| ());
    let sets = Arc::new(made.sets(COCO).unwrap());
    for picture in pictures(&sets, settings(Augmentation::plain()), 0, 2) {
        let word = picture.objects[0].word.unwrap();
        let (width, height) = super::SIZES[word];
        let letterbox = wordsight_detection::Letterbox::new((width as usize, height as usize), (SIDE, SIDE));
        let expected = letterbox.box_in_input_from_frame(super::OBJECTS[word].map(|side| side as f32));
        for (side, expected) in picture.objects[0].box_in_input.iter().zip(expected) {
            assert!((side - expected).abs() < 0.01);
        }
    }
}

#[test]
fn a_picture_is_the_same_whatever_the_threads_the_cache_and_the_step_that_it_goes_on_from() {
    let made = Made::new();
    made.write_coco(|_| ());
    let sets = Arc::new(made.sets(COCO).unwrap());
    let base = LoaderSettings {
        phases: vec![
            Phase { from_step: 0, sides: vec![96, 128], augmentation: Augmentation::strong() },
            Phase { from_step: 4, sides: vec![64], augmentation: Augmentation::plain() },
        ],
        ..settings(Augmentation::strong())
    };
    let made_by = |threads, cache_bytes, first| {
        let settings = LoaderSettings { threads, cache_bytes, ..base.clone() };
        pictures(&sets, settings, first, 6 - first)
    };
    let pictures_of_two = made_by(2, 1 << 20, 0);
    assert!(pictures_of_two == made_by(1, 0, 0), "without a cache, on one thread");
    assert!(pictures_of_two == made_by(5, 1 << 20, 0), "on five threads");
    assert!(pictures_of_two[12..] == made_by(2, 0, 3), "from step 3 on");
    assert!(pictures_of_two[0..16].iter().any(|picture| picture.side == 96));
    assert!(pictures_of_two[0..16].iter().any(|picture| picture.side == 128));
    assert!(pictures_of_two[16..].iter().all(|picture| picture.side == 64));
    let other = LoaderSettings { seed: 6, ..base.clone() };
    assert!(pictures_of_two != pictures(&sets, other, 0, 6), "another seed makes others");
}

#[test]
fn what_a_window_cuts_to_a_sliver_or_shows_too_small_is_ignored_and_the_rest_is_cut() {
    let whole = |corners| AnnotatedObject { box_in_photograph: corners, word: Some(0), weight: 1.0 };
    let photograph = Photograph {
        objects: vec![
            whole([40.0, 20.0, 80.0, 60.0]),  // half of it in the window
            whole([0.0, 20.0, 70.0, 60.0]),   // a seventh
            whole([0.0, 0.0, 30.0, 30.0]),    // nothing
            whole([70.0, 70.0, 74.0, 90.0]),  // two pixels wide
            whole([70.0, 10.0, 150.0, 50.0]), // all of it
        ],
        ignored: vec![[50.0, 50.0, 65.0, 90.0]],
        ..Photograph::default()
    };
    // The right part of a photograph, at half its size.
    let view = View { window: [60.0, 0.0, 100.0, 100.0], rectangle: [10, 20, 60, 70], is_flipped: false };
    let mut picture = TrainingImage::new(100);
    picture.annotate(&photograph, [1.0; 2], &view);
    let boxes: Vec<[f32; 4]> = picture.objects.iter().map(|object| object.box_in_input).collect();
    assert_eq!(boxes, [[10.0, 30.0, 20.0, 50.0], [15.0, 25.0, 55.0, 45.0]]);
    let ignored = [[10.0, 30.0, 15.0, 50.0], [15.0, 55.0, 17.0, 65.0], [10.0, 45.0, 12.5, 65.0]];
    assert_eq!(picture.ignored, ignored);
}

#[test]
fn a_photograph_of_one_object_never_loses_it_whatever_the_scale() {
    let made = Made::new();
    made.write_coco(|_| ());
    let sets = Arc::new(made.sets(COCO).unwrap());
    for augmentation in
        [only(|a| a.scale = [3.0, 6.0]), only(|a| (a.mosaic, a.mosaic_scale) = (1.0, [2.0, 4.0]))]
    {
        for picture in pictures(&sets, settings(augmentation), 0, 10) {
            assert!(picture.ignored.is_empty() && picture.objects.len() == picture.tiles.len());
        }
    }
}

#[test]
fn a_copy_in_another_size_keeps_its_annotations_and_another_picture_is_refused() {
    let made = Made::new();
    made.write_coco(|file| {
        file["images"][0]["width"] = json!(400);
        file["images"][0]["height"] = json!(300);
        file["annotations"][0]["bbox"] = json!([120, 100, 160, 120]);
    });
    let sets = Arc::new(made.sets(COCO).unwrap());
    pictures(&sets, settings(Augmentation::plain()), 0, 2).iter().for_each(|picture| {
        check(picture, "a smaller copy");
    });
    made.write_coco(|file| {
        file["images"][0]["width"] = json!(150);
        file["images"][0]["height"] = json!(200);
    });
    let sets = Arc::new(made.sets(COCO).unwrap());
    let mut loader = Loader::new(sets, settings(Augmentation::plain()), 0, 2).unwrap();
    let told = (0..2).find_map(|_| loader.next().err()).map(|error| format!("{error:#}")).unwrap();
    assert!(told.contains("0.png") && told.contains("200x150") && told.contains("leave_out"), "{told}");
}

#[test]
fn a_cutout_has_a_box_around_it_and_hides_little_of_other_objects() {
    let made = Made::new();
    made.write_coco(|_| ());
    let mut cutout = RgbaImage::new(60, 60);
    (10..50).for_each(|at| (20..40).for_each(|y| cutout.put_pixel(at, y, Rgba([255, 0, 255, 255]))));
    cutout.save(made.path().join("cutout.png")).unwrap();
    made.write("cutouts.json", r#"[{"file": "cutout.png", "word": "purple"}]"#);
    let list = format!("{COCO}[[cutouts]]\nfolder = \".\"\nlist = \"cutouts.json\"\n");
    let sets = Arc::new(made.sets(&list).unwrap());
    assert_eq!(sets.words[4], "purple");
    let augmentation = only(|augmentation| augmentation.cutouts = 1.0);
    let is_purple = |pixel: &[u8]| pixel[0] > 90 && pixel[2] > 90 && pixel[1] < 90;
    let mut pasted = 0;
    for mut picture in pictures(&sets, settings(augmentation), 0, 10) {
        // Its pixels as the first colour, so that their extent is found; all others black.
        let mut purple = TrainingImage::new(SIDE);
        for (pixel, marked) in picture.pixels.chunks(3).zip(purple.pixels.chunks_mut(3)) {
            marked.copy_from_slice(if is_purple(pixel) { &COLOURS[0].0 } else { &[0; 3] });
        }
        for object in picture.objects.iter().filter(|object| object.word == Some(4)) {
            pasted += 1;
            let extent = extent_of(&purple, 0, object.box_in_input).unwrap();
            for (side, pixels) in object.box_in_input.iter().zip(extent) {
                assert!((side - pixels).abs() <= 2.0, "{:?}, its pixels {extent:?}", object.box_in_input);
            }
        }
        for object in picture.objects.iter().filter(|object| object.word == Some(4)) {
            let [x1, y1, x2, y2] = object.box_in_input.map(|side| side as usize);
            for y in y1..y2 {
                purple.pixels[3 * (y * SIDE + x1)..3 * (y * SIDE + x2)].fill(0);
            }
        }
        assert!(purple.pixels.iter().all(|channel| *channel == 0), "a cutout reaches out of its box");
        let own = picture.objects.remove(0);
        let extent = extent_of(&picture, own.word.unwrap(), [0.0, 0.0, SIDE as f32, SIDE as f32]).unwrap();
        assert!(super::super::view::area(extent) >= 0.5 * super::super::view::area(own.box_in_input));
    }
    assert!(pasted >= 40, "{pasted} cutouts in 40 pictures");
}

#[test]
fn light_and_colour_leave_the_padding_and_the_boxes_as_they_are() {
    let made = Made::new();
    made.write_coco(|_| ());
    let sets = Arc::new(made.sets(COCO).unwrap());
    let dark = pictures(&sets, settings(only(|_| ())), 0, 4);
    let lit = pictures(&sets, settings(only(|augmentation| augmentation.colour = 1.0)), 0, 4);
    let mut changed = 0;
    for (dark, lit) in dark.iter().zip(&lit) {
        assert_eq!(dark.objects, lit.objects);
        changed += usize::from(dark.pixels != lit.pixels);
        let [_, y1, ..] = dark.tiles[0].box_in_input.map(|side| side as usize);
        assert_eq!(dark.pixels[..3 * SIDE * y1], lit.pixels[..3 * SIDE * y1]);
    }
    assert_eq!(changed, 16);
    let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(1);
    let mut row = [10, 200, 30];
    ColourChange::random(0.0, &mut rng).apply(&mut row);
    assert_eq!(row, [10, 200, 30]);
}

#[test]
fn the_teachers_regions_follow_their_pixels_and_name_the_rows_of_their_embeddings() {
    let made = Made::new();
    made.write_coco(|_| ());
    // Of the last photograph and the first: its object, and an empty box.
    let folder = made.path().join("embeddings");
    let manifest = json!({
        "per_image": 2, "images": 2, "proposals": "", "teacher": "tiny", "embedding_size": 3,
    });
    table::start_or_resume(&folder, &manifest, "embeddings").unwrap();
    let mut images = Vec::new();
    let mut rows = Vec::new();
    for (id, number) in [(1, 3), (2, 0)] {
        let (width, height) = super::SIZES[number];
        images.push(Image { id, file_name: format!("{number}.png"), width, height, exhaustive: true });
        let boxes = [super::OBJECTS[number].map(|side| side as f32), [0.0; 4]];
        rows.extend(boxes.iter().flatten().flat_map(|side| side.to_le_bytes()));
        rows.extend(table::f16_bytes(&[number as f32, 0.5, 0.25, 0.0, 0.0, 0.0]));
    }
    Dataset { images, ..Dataset::default() }.save(&folder.join("images.json")).unwrap();
    fs::write(folder.join("embeddings.bin"), rows).unwrap();
    let other = COCO.replace("colours", "others");
    let list = format!("{COCO}embeddings = \"embeddings\"\n{other}embeddings = \"embeddings\"\n");
    let sets = Arc::new(made.sets(&list).unwrap());
    assert_eq!((sets.teacher(), sets.embedding_size()), (Some("tiny"), 3));
    assert!(sets.embedding(8).is_none());
    let mut seen = std::collections::BTreeSet::new();
    for picture in pictures(&sets, settings(only(|augmentation| augmentation.flip = 0.5)), 0, 4) {
        let word = picture.objects[0].word.unwrap();
        assert_eq!(picture.teacher_regions.len(), usize::from(word == 0 || word == 3));
        for (region, row) in &picture.teacher_regions {
            assert_eq!(*region, picture.objects[0].box_in_input);
            assert_eq!(sets.embedding(*row).unwrap(), [word as f32, 0.5, 0.25]);
            seen.insert(*row);
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 2, 4, 6]);
}
