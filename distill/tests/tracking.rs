//! Clips from a made-up collection, and the shipped student through the tracker.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use wordsight_distill::scenes::clips::{Clip, Props};

const GUIDE: &str = include_str!("../../docs/tracking.md");

#[test]
fn a_clip_is_the_same_for_a_seed_in_whatever_order_its_frames_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let collection = support::write_collection(folder.path());
    let words = collection.words();
    let props = Props::gather(&collection, &folder.path().join("backgrounds"), &words).unwrap();
    let clip = |seed, number| Clip::new(&props, seed, number, 4.0).unwrap();
    let (first, again) = (clip(1, 1), clip(1, 1));
    let times = [0.0, 0.5, 1.5, 3.5];
    let forwards: Vec<_> = times.iter().map(|&seconds| first.frame(seconds)).collect();
    let backwards: Vec<_> = times.iter().rev().map(|&seconds| again.frame(seconds)).collect();
    assert!(forwards.iter().eq(backwards.iter().rev()));
    for other in [clip(2, 1), clip(1, 2)] {
        assert!(other.frame(0.5).0 != forwards[1].0);
    }
}

#[test]
fn every_thing_keeps_its_number_moves_little_between_frames_and_lies_in_the_frame() {
    let folder = tempfile::tempdir().unwrap();
    let collection = support::write_collection(folder.path());
    let words = collection.words();
    let props = Props::gather(&collection, &folder.path().join("backgrounds"), &words).unwrap();
    for number in 0..4 {
        let clip = Clip::new(&props, 3, number, 6.0).unwrap();
        assert_eq!(clip.words().len(), 5);
        assert!(number % 2 == 0 || clip.words()[3] == clip.words()[4], "two of a kind cross");
        let mut seen = [0; 5];
        for frame in 0..30_u8 {
            let (picture, sightings) = clip.frame(f32::from(frame) / 5.0);
            let mut ids: Vec<u64> = sightings.iter().map(|sighting| sighting.id).collect();
            ids.dedup();
            assert_eq!(ids.len(), sightings.len());
            for sighting in sightings {
                let [left, top, right, bottom] = sighting.box_in_frame;
                assert!(left >= 0.0 && top >= 0.0 && right > left && bottom > top);
                assert!(right <= picture.width() as f32 && bottom <= picture.height() as f32);
                seen[sighting.id as usize - 1] += 1;
            }
        }
        assert!(seen.iter().all(|frames| *frames >= 5), "{seen:?}");
    }
}

#[test]
fn clips_without_the_vocabularys_words_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let collection = support::write_collection(folder.path());
    let words = ["nothing like it".to_owned()];
    let error = Props::gather(&collection, &folder.path().join("backgrounds"), &words).err().unwrap();
    assert!(error.to_string().contains("cutouts"), "{error}");
}

#[test]
fn the_tracker_keeps_numbers_and_words_better_than_detections_linked_frame_by_frame() {
    let (Some(data), Some(teacher)) = (
        support::needed("../shared/data", "it holds the cutouts to move and is not part of the repository"),
        support::needed(".deps/teacher", "run `make teacher` first"),
    ) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    // The command that docs/tracking.md gives, on fewer clips, and at a threshold that costs many detections: it is what
    // weak ones make up for.
    let command = GUIDE.split("```sh\n").nth(1).unwrap().lines().next().unwrap();
    let mut words = command.split(' ').map(|word| match word {
        "../shared/data" => data.as_os_str(),
        ".deps/teacher" => teacher.as_os_str(),
        word => OsStr::new(word),
    });
    assert_eq!(words.next().unwrap(), "wordsight-distill");
    let output = Command::new(env!("CARGO_BIN_EXE_wordsight-distill"))
        .args(words)
        .args(["--clips", "6", "--length-s", "4", "--score-threshold", "0.4", "--json"])
        .arg(&json)
        .current_dir(support::checkout("."))
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let rows: Vec<serde_json::Value> = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(rows.len(), 6, "three ways at two rates");
    for (ways, is_fast) in rows.chunks(3).zip([true, false]) {
        let figure = |way: usize, name: &str| ways[way][name].as_f64().unwrap();
        let [linked, tracked, with_weak] = [0, 1, 2].map(|way| figure(way, "idf1"));
        assert!(with_weak > tracked && with_weak > linked + 0.03, "{linked} {tracked} {with_weak}");
        // At five frames a second a thing that is found in three of ten is often gone before it is confirmed.
        assert!(!is_fast || tracked > linked + 0.03, "{linked} {tracked}");
        for way in [1, 2] {
            assert!(figure(way, "flips_voted") < figure(way, "flips_raw") / 3.0);
            let [before, after] = [0, way].map(|way| ways[way]["identity"]["switches"].as_u64().unwrap());
            assert!(2 * after < before, "{before} {after}");
        }
    }
}
