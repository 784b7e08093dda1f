//! What a drawn picture shows: boxes on their edges, and labels that can be read.
use super::bitmap_font::TextSize;
use super::canvas::{MOST_HIDDEN, NUMBER_OPACITY, RIM, TEXT, TEXT_PART, blended};
use super::label::Word;
use super::*;
use crate::allocations;
use crate::job::Tracked;

/// A grey picture with things drawn in.
struct Picture {
    rgb: Vec<u8>,
    width: usize,
}

fn draw(width: usize, height: usize, found: &[Detection], words: &WordList) -> Picture {
    let mut rgb = vec![128; 3 * width * height];
    Annotator::default().draw(&mut rgb, (width, height), found, words, None);
    Picture { rgb, width }
}

fn found(box_in_frame: [f32; 4]) -> Detection {
    Detection { word: 0, score: 0.5, objectness: 1.0, box_in_frame, is_weak: false, track: None }
}

fn tracked(id: u64) -> Detection {
    let track = Some(Tracked { id, word: 0, score: 0.5 });
    Detection { track, ..found([100.0, 100.0, 300.0, 300.0]) }
}

fn words(word: &str) -> WordList {
    WordList::from_iter([word.to_owned()])
}

/// Many, of all hues.
fn colours() -> impl Iterator<Item = Colour> {
    (0..2000).map(|number| colour_of(&format!("word {number}")))
}

fn contrast(one: Colour, other: Colour) -> f32 {
    let (one, other) = (luminance(one) + 0.05, luminance(other) + 0.05);
    one.max(other) / one.min(other)
}

fn pixel(frame: &Picture, x: usize, y: usize) -> Colour {
    let start = 3 * (y * frame.width + x);
    [frame.rgb[start], frame.rgb[start + 1], frame.rgb[start + 2]]
}

/// The pixels over the box that things here have.
fn plate(frame: &Picture) -> Vec<Colour> {
    (60..99).flat_map(|y| (90..400).map(move |x| (x, y))).map(|(x, y)| pixel(frame, x, y)).collect()
}

#[test]
fn a_box_is_drawn_on_its_edge_and_not_inside() {
    let frame = draw(640, 480, &[found([100.0, 100.0, 300.0, 300.0])], &words("cat"));
    let colour = colour_of("cat");
    for (x, y) in [(100, 200), (299, 200), (200, 299), (250, 100)] {
        assert_eq!(pixel(&frame, x, y), colour, "at {x}, {y}");
    }
    assert_eq!(pixel(&frame, 200, 200), [128; 3]);
    assert_eq!(pixel(&frame, 98, 200), [128; 3]);
    let rim = blended(RIM.0, RIM.1, [128; 3]);
    assert_eq!([pixel(&frame, 99, 200), pixel(&frame, 103, 200)], [rim; 2], "dark on both sides of it");
}

#[test]
fn a_label_is_a_plate_in_the_boxs_colour_with_text_on_it() {
    let frame = draw(640, 480, &[found([100.0, 100.0, 300.0, 300.0])], &words("cat"));
    let plate = plate(&frame);
    let of = |colour: Colour| plate.iter().filter(|pixel| **pixel == colour).count();
    assert!(of(colour_of("cat")) > 500, "the plate");
    assert!(of(TEXT) > 50, "the text");
}

#[test]
fn text_can_be_read_on_every_words_colour_and_so_can_the_number_that_is_discreet() {
    let worst = |opacity| {
        let contrasts = colours().map(|colour| contrast(colour, blended(TEXT, opacity, colour)));
        contrasts.min_by(f32::total_cmp).unwrap_or(0.0)
    };
    let (text, number) = (worst(255), worst(NUMBER_OPACITY));
    assert!(text > 7.0 && number >= 4.5 && number < text, "{text} and {number}");
}

#[test]
fn an_outline_is_seen_on_every_background() {
    let steps = || (0..=255).step_by(15);
    let backgrounds =
        steps().flat_map(|red| steps().flat_map(move |green| steps().map(move |blue| [red, green, blue])));
    let lightest = colours().min_by(|a, b| luminance(*a).total_cmp(&luminance(*b))).unwrap_or_default();
    for background in backgrounds {
        let rim = blended(RIM.0, RIM.1, background);
        let seen = contrast(lightest, background).max(contrast(rim, background));
        assert!(seen >= 3.0, "{background:?}: {seen}");
    }
}

#[test]
fn a_tracked_thing_shows_its_number_and_where_there_is_no_room_a_label_says_less() {
    let words = words("a walrus with a hat");
    let (images, size) = (WordImages::default(), TextSize::for_height(16.0));
    let text = |thing: &Detection, most: i64| {
        let label = Label::of(thing, &words, &images, size, most * size.character_width());
        let Word::BuiltIn(word) = label.word else { return String::new() };
        let kept = word.chars().take((label.kept / size.character_width()) as usize);
        kept.chain(label.dots()).chain(label.score()).chain(label.number()).collect::<String>()
    };
    assert_eq!(text(&found([0.0; 4]), 40), "a walrus with a hat 50%");
    let thing = tracked(7);
    let said = [40, 26, 25, 23, 22, 12, 8, 7, 3, 1].map(|most| text(&thing, most));
    let expected = [
        "a walrus with a hat 50% #7",
        "a walrus with a hat 50% #7",
        "a walrus with a hat 50%",
        "a walrus with a hat 50%",
        "a walrus with a .. 50%",
        "a walr.. 50%",
        "a .. 50%",
        "a wal..",
        "a..",
        "..",
    ];
    assert_eq!(said, expected);
    assert_eq!(text(&tracked(u64::MAX), 99), "a walrus with a hat 50% #18446744073709551615");
}

#[test]
fn labels_of_things_at_one_place_do_not_cover_one_another() {
    let canvas = Canvas { rgb: &mut [], width: 640, height: 480 };
    let style = Style::of(&canvas);
    for corner in [0, 5, 100, 300] {
        let mut plates: Vec<Area> = Vec::new();
        for shift in 0..6 {
            let (left, top) = (corner + shift, corner + 2 * shift);
            let thing = Area { left, top, right: left + 150, bottom: top + 150 };
            plates.push(canvas.place_for((120, 22), thing, style, &plates));
        }
        for (place, plate) in plates.iter().enumerate() {
            let inside = Area { left: 0, top: 0, right: 640, bottom: 480 };
            assert_eq!(plate.shared_with(inside), 120 * 22, "{plate:?} is in the picture");
            let covered = plates[..place].iter().map(|other| plate.shared_with(*other)).sum::<i64>();
            assert_eq!(covered, 0, "at {corner}: {plates:?}");
        }
    }
}

#[test]
fn a_label_that_would_hide_another_is_left_out() {
    let canvas = Canvas { rgb: &mut [], width: 64, height: 64 };
    let thing = Area { left: 4, top: 4, right: 60, bottom: 60 };
    let mut plates: Vec<Area> = Vec::new();
    for _ in 0..9 {
        plates.push(canvas.place_for((60, 18), thing, Style::of(&canvas), &plates));
    }
    let drawn: Vec<&Area> = plates.iter().filter(|plate| **plate != Area::default()).collect();
    assert!((2..=4).contains(&drawn.len()), "{plates:?}");
    for (place, plate) in drawn.iter().enumerate() {
        let hidden = drawn[..place].iter().map(|other| plate.shared_with(**other)).sum::<i64>();
        assert!(hidden <= 60 * 18 / MOST_HIDDEN, "{plates:?}");
    }
}

#[test]
fn the_best_of_many_keep_their_labels_apart_and_more_are_drawn_all_the_same() {
    let many = vec![found([10.0, 10.0, 50.0, 50.0]); MOST_PLACED + 50];
    assert!(draw(640, 480, &many, &words("cat")).rgb.iter().any(|channel| *channel != 128));
}

#[test]
fn drawing_allocates_nothing() {
    let words = words("a cup of tea ☕");
    let things = [tracked(1), found([-9.0, -9.0, 60.0, 40.0]), tracked(u64::MAX)];
    for (width, height) in [(64, 64), (640, 480), (1920, 1080)] {
        let mut rgb = vec![128; 3 * width * height];
        let mut annotator = Annotator::default();
        // A word's picture is made once, where a font of the system has it.
        annotator.draw(&mut rgb, (width, height), &things, &words, None);
        let before = allocations::on_this_thread();
        annotator.draw(&mut rgb, (width, height), &things, &words, None);
        assert_eq!(allocations::on_this_thread(), before, "{width}x{height}");
    }
}

#[test]
fn things_at_and_beyond_the_edges_are_clipped_in_pictures_of_every_size() {
    for (width, height) in [(1, 1), (7, 300), (33, 34), (640, 480), (5000, 40)] {
        let (right, bottom) = (width as f32, height as f32);
        let edges = [
            [0.0, 0.0, right, bottom],
            [-50.0, -50.0, 2.0, 2.0],
            [right - 1.0, bottom - 1.0, right + 90.0, bottom + 90.0],
            [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e30],
        ];
        let frame = draw(width, height, &edges.map(found), &words("a very long word ☕ indeed"));
        assert!(frame.rgb.iter().any(|channel| *channel != 128), "{width}x{height}");
    }
}

#[test]
fn words_that_differ_in_a_letter_differ_in_colour() {
    for (a, b) in [("cat", "car"), ("cat", "bat"), ("cup", "cap"), ("w10", "w11")] {
        let (one, other) = (colour_of(a), colour_of(b));
        let distance: u32 = one.iter().zip(other).map(|(x, y)| u32::from(x.abs_diff(y))).sum();
        assert!(distance > 60, "{a} {one:?}, {b} {other:?}");
    }
}

#[test]
fn text_grows_with_the_picture() {
    let heights =
        [240.0, 480.0, 700.0, 1080.0, 4000.0].map(|side| TextSize::for_height(side * TEXT_PART).height());
    assert!(heights.is_sorted(), "{heights:?}");
    assert!(heights[4] > 100, "{heights:?}");
}

#[test]
fn zones_and_lines_are_outlined_behind_boxes_and_named() {
    let (width, height) = (640, 480);
    let zones = Zones::made_up();
    let mut rgb = vec![128; 3 * width * height];
    // On the zone's left side.
    let things = [found([100.0, 200.0, 300.0, 300.0])];
    Annotator::default().draw(&mut rgb, (width, height), &things, &words("cat"), Some(&zones));
    let frame = Picture { rgb, width };
    for (x, y) in [(160, 340), (480, 200), (320, 400), (320, 360)] {
        assert_eq!(pixel(&frame, x, y), [255; 3], "on the outline, at {x}, {y}");
    }
    assert_eq!([pixel(&frame, 159, 340), pixel(&frame, 161, 340)], [[0; 3]; 2], "its rim");
    assert_eq!(pixel(&frame, 162, 340), [128; 3], "not inside");
    assert_eq!(pixel(&frame, 160, 200), colour_of("cat"), "the box is over it");
    // The line leads down, so its right-hand side is on the left.
    assert_eq!((pixel(&frame, 310, 240), pixel(&frame, 335, 240)), ([255; 3], [128; 3]));
    let dark = (162..220).flat_map(|x| (121..140).map(move |y| (x, y)));
    assert!(dark.filter(|(x, y)| pixel(&frame, *x, *y) == [0; 3]).count() > 30, "its name");
}
