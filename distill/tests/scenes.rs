//! Scenes from a made-up collection of photographs.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use wordsight_distill::photographs::Collection;
use wordsight_distill::scenes::{self, Part, Settings};

fn make(collection: &Collection, seed: u64, output: &Path) -> BTreeMap<String, Vec<u8>> {
    let settings = Settings { part: Part::Training, count: 15, seed, leave_out: Vec::new() };
    scenes::make(collection, &collection.folder.join("backgrounds"), &settings, output).unwrap();
    let images = fs::read_dir(output.join("images")).unwrap().map(|entry| entry.unwrap().path());
    images
        .chain([output.join("annotations.json")])
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn the_same_seed_makes_the_same_bytes_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let collection = support::write_collection(folder.path());
    let [first, again, other] =
        [(1, "a"), (1, "b"), (2, "c")].map(|(seed, name)| make(&collection, seed, &folder.path().join(name)));
    assert_eq!(first.len(), 16);
    assert!(first == again, "two runs with one seed differ");
    assert!(
        first["000000.jpg"] != other["000000.jpg"] && first["annotations.json"] != other["annotations.json"]
    );
}

#[test]
fn novel_and_held_out_words_never_enter_and_every_box_lies_in_its_scene() {
    let folder = tempfile::tempdir().unwrap();
    let collection = support::write_collection(folder.path());
    let settings = Settings { part: Part::Training, count: 40, seed: 3, leave_out: Vec::new() };
    let dataset =
        scenes::make(&collection, &folder.path().join("backgrounds"), &settings, &folder.path().join("out"))
            .unwrap();
    let forbidden: Vec<&str> = collection
        .novel()
        .iter()
        .chain(&collection.held_out())
        .map(|photograph| photograph.name.as_str())
        .collect();
    assert!(!forbidden.is_empty());
    assert!(dataset.categories.iter().all(|category| !forbidden.contains(&category.name.as_str())));
    assert!(dataset.annotations.len() > 40);
    for annotation in &dataset.annotations {
        assert!(dataset.categories.iter().any(|category| category.id == annotation.category_id));
        let image = &dataset.images[annotation.image_id as usize - 1];
        let [x, y, width, height] = annotation.bbox;
        assert!(x >= 0.0 && y >= 0.0 && x + width <= image.width as f32 && y + height <= image.height as f32);
        assert!(width >= 8.0 && height >= 8.0);
    }
}

#[test]
fn a_background_left_out_by_name_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let collection = support::write_collection(folder.path());
    let settings = Settings {
        part: Part::Training,
        count: 1,
        seed: 1,
        leave_out: ["40", "90", "lomiri"].map(str::to_owned).to_vec(),
    };
    let error =
        scenes::make(&collection, &folder.path().join("backgrounds"), &settings, &folder.path().join("out"))
            .unwrap_err()
            .to_string();
    assert!(error.contains("backgrounds"), "{error}");
}
