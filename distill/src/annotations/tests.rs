#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn file(annotations: Value) -> Value {
    json!({
        "images": [
            {"id": 1, "file_name": "cat.jpg", "width": 480, "height": 360},
            {"id": 2, "file_name": "dog.jpg", "width": 480, "height": 360},
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    })
}

fn read(file: &Value) -> (Annotations, String) {
    let (annotations, oddities) = Annotations::parse(&file.to_string()).unwrap();
    (annotations, oddities.told().unwrap_or_default())
}

fn refused(file: &Value) -> String {
    format!("{:#}", Annotations::parse(&file.to_string()).unwrap_err())
}

#[test]
fn boxes_without_an_area_in_their_image_are_left_out_and_named_in_one_line() {
    for (bbox, reason) in [
        (json!([100, 100, -50, -50]), "no area or a negative side"),
        (json!([10, 20, 5.54, 0.0]), "no area or a negative side"),
        (json!([200, 100, 0, 0]), "no area or a negative side"),
        (json!([1000, 1000, 50, 50]), "outside of their images"),
        (json!([-60, 10, 50, 50]), "outside of their images"),
        (json!([null, 10, 50, 50]), "no numbers"),
        (json!([1e300, 10, 1e300, 50]), "no numbers"),
        (json!([1, 2, 3]), "four numbers"),
        (json!([]), "four numbers"),
        (json!(null), "four numbers"),
    ] {
        let (annotations, told) = read(&file(json!([
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 466.12, 360]},
            {"id": 101, "image_id": 2, "category_id": 1, "bbox": bbox, "area": 0},
        ])));
        assert_eq!(annotations.objects.len(), 1, "{bbox}");
        assert_eq!(annotations.objects[0].corners, [0.0, 0.0, 466.12, 360.0]);
        assert!(
            told.contains(reason) && told.contains("annotation 101 of image 2 (dog.jpg)"),
            "{bbox}: {told}"
        );
        assert_eq!(told.lines().count(), 1);
    }
}

#[test]
fn a_box_that_reaches_out_is_cut_for_pixels_and_stays_for_figures() {
    let (annotations, told) = read(&file(json!([
        {"id": 7, "image_id": 1, "category_id": 1, "bbox": [-20, 10, 600, 20]},
        {"id": 8, "image_id": 1, "category_id": 1, "bbox": [0, 0, 480.4, 360.2]},
    ])));
    assert_eq!(annotations.objects[0].corners, [0.0, 10.0, 480.0, 30.0]);
    assert_eq!(annotations.objects[0].annotated, [-20.0, 10.0, 600.0, 20.0]);
    assert_eq!(annotations.objects[1].corners, [0.0, 0.0, 480.0, 360.0]);
    assert!(told.contains("annotation 7 of image 1") && !told.contains("annotation 8"), "{told}");
}

#[test]
fn what_pycocotools_reads_is_read() {
    let text = json!({
        "images": [
            {"id": "0001", "file_name": "cat.jpg", "width": "480", "height": 360.0},
            {"id": "b", "coco_url": "http://images.cocodataset.org/val2017/dog.jpg", "neg_category_ids": ["x"]},
            {"id": -5, "file_name": "a\\b.jpg"},
        ],
        "annotations": [
            {"id": "first", "image_id": 1, "category_id": "x", "bbox": ["1", 2, 3, 4], "iscrowd": false},
            {"image_id": "b", "category_id": 3.0, "bbox": [1, 2, 3, 4], "iscrowd": true, "area": 6},
            {"id": 4, "image_id": -5, "category_id": 3, "bbox": [1, 2, 3, 4], "ignore": 1, "score": 0.5},
            {"id": 4, "image_id": -5, "bbox": [1, 2, 3, 4]},
        ],
        "categories": [{"id": "x", "name": "cat"}, {"id": 3, "name": "dog", "frequency": "r"}],
        "info": {"anything": [1, {"x": null}]},
    });
    let (annotations, told) = read(&text);
    let images: Vec<_> =
        annotations.images.iter().map(|image| (image.id, image.file_name.as_str(), image.size)).collect();
    assert_eq!(images, [(1, "cat.jpg", Some([480, 360])), (2, "dog.jpg", None), (3, "a/b.jpg", None)]);
    let categories: Vec<_> =
        annotations.categories.iter().map(|category| (category.id, category.name.as_str())).collect();
    assert_eq!(categories, [(4, "cat"), (3, "dog")]);
    assert_eq!(annotations.images[1].negative_categories, [4]);
    let objects: Vec<_> = annotations
        .objects
        .iter()
        .map(|object| (object.image, object.category, object.crowd, object.area))
        .collect();
    assert_eq!(
        objects,
        [
            (0, Some(4), false, 12.0),
            (1, Some(3), true, 6.0),
            (2, Some(3), false, 12.0),
            (2, None, false, 12.0)
        ]
    );
    let ids: HashSet<u64> = annotations.objects.iter().map(|object| object.id).collect();
    assert_eq!(ids.len(), 4);
    assert!(annotations.objects[2].ignored && annotations.objects[2].score == Some(0.5));
    assert!(told.contains("new id"), "{told}");
}

#[test]
fn an_image_that_only_its_address_names_lies_in_the_folder_or_in_that_of_its_split() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lvis.json");
    let address = |name: &str| format!("http://images.cocodataset.org/{name}");
    let file = json!({
        "images": [
            {"id": 1, "coco_url": address("train2017/1.jpg")}, {"id": 2, "coco_url": address("val2017/2.jpg")},
            {"id": 3, "coco_url": address("train2017/3.jpg")}, {"id": 4, "coco_url": address("../4.jpg")},
            {"id": 5, "file_name": "5.jpg", "coco_url": address("train2017/5.jpg")}, {"id": 6, "coco_url": "6.jpg"},
        ],
        "annotations": [], "categories": [],
    });
    fs::write(&path, format!("\u{feff}{file}").replace(',', ",\r\n")).unwrap();
    let images = folder.path().join("images");
    for name in ["train2017/1.jpg", "2.jpg", "val2017/2.jpg", "train2017/5.jpg", "6.jpg"] {
        fs::create_dir_all(images.join(name).parent().unwrap()).unwrap();
        fs::write(images.join(name), "").unwrap();
    }
    let expected = ["train2017/1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg"];
    let opened = Images::open(&images).unwrap();
    let names = |found: &Annotations| -> Vec<String> {
        found.images.iter().map(|image| image.file_name.clone()).collect()
    };
    assert_eq!(names(&Annotations::load_with_images(&path, &opened).unwrap()), expected);
    let (found, parts) = Annotations::load_with_parts(&path, &opened).unwrap();
    assert_eq!((names(&found), &parts["images"]), (expected.map(str::to_owned).to_vec(), &file["images"]));
    assert_eq!(names(&Annotations::load(&path).unwrap())[0], "1.jpg");
}

#[test]
fn one_id_for_two_images_or_two_categories_is_refused_with_both() {
    let mut twice = file(json!([]));
    twice["images"][1]["id"] = json!(1);
    let told = refused(&twice);
    assert!(told.contains("cat.jpg and dog.jpg both have the id 1"), "{told}");
    twice["images"][1]["file_name"] = json!("cat.jpg");
    let (annotations, told) = read(&twice);
    assert!(annotations.images.len() == 1 && told.contains("listed twice"), "{told}");

    let mut twice = file(json!([]));
    twice["categories"][1]["id"] = json!("1");
    let told = refused(&twice);
    assert!(told.contains("\"cat\" and \"dog\" both have the id 1"), "{told}");
}

#[test]
fn categories_of_one_name_are_one() {
    for (first, second) in [(0, 1), (1, 0)] {
        let mut roboflow = file(json!([{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}]));
        roboflow["categories"] = json!([
            {"id": first, "name": "cat", "supercategory": "none"}, {"id": second, "name": "Cat"}, {"id": 2, "name": "dog"},
        ]);
        let (annotations, told) = read(&roboflow);
        let ids: Vec<u64> = annotations.categories.iter().map(|category| category.id).collect();
        assert_eq!(ids, [1, 2]);
        assert_eq!(annotations.objects[0].category, Some(1));
        assert!(told.contains("another of their name"), "{told}");
    }
}

#[test]
fn what_refers_to_nothing_is_refused_by_name() {
    let told = refused(&file(json!([{"id": 9, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]}])));
    assert!(told.contains("annotation 9 refers to image 7"), "{told}");
    let told = refused(&file(json!([{"id": 9, "image_id": 1, "category_id": 7, "bbox": [0, 0, 1, 1]}])));
    assert!(told.contains("annotation 9 is of image 1 and category 7"), "{told}");
    let mut nameless = file(json!([]));
    nameless["images"][0].as_object_mut().unwrap().remove("file_name");
    assert!(refused(&nameless).contains("image 1 names no file"));
    assert!(refused(&json!({"boxes": []})).contains("not a COCO or LVIS annotation file"));
}

#[test]
fn what_is_wrong_in_a_file_of_one_line_is_named_by_its_place_in_the_lists() {
    let annotation = |id: Value| json!({"id": 1, "image_id": id, "category_id": 1, "bbox": [0, 0, 9, 9]});
    let mut wrong = file(json!([annotation(json!(1)), annotation(json!(null))]));
    assert!(
        refused(&wrong).contains("annotations[1].image_id: an id is a number or a text"),
        "{}",
        refused(&wrong)
    );
    wrong["annotations"][1].as_object_mut().unwrap().remove("image_id");
    assert!(refused(&wrong).contains("annotations[1]: missing field `image_id`"), "{}", refused(&wrong));
    let mut nameless = file(json!([]));
    nameless["categories"][1]["name"] = json!(null);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nameless.json");
    fs::write(&path, nameless.to_string()).unwrap();
    for error in [
        Annotations::load(&path).unwrap_err(),
        Annotations::load_with_parts(&path, &Images::open(folder.path()).unwrap()).unwrap_err(),
    ] {
        assert!(
            error.to_string().contains("nameless.json: ") && error.to_string().contains("categories[1].name"),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_text_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("annotations.json");
    let utf_16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, remedy) in [
        (&b"\x1f\x8b\x08\0\0\0\0\0"[..], "unpack it"),
        (b"PK\x03\x04\x14\0\xff\xff", "unpack it"),
        (&utf_16, "save it as UTF-8"),
        (b"{\"images\": \"\xe9\"}", "no UTF-8 text"),
    ] {
        fs::write(&path, bytes).unwrap();
        let told = format!("{:#}", Annotations::load(&path).unwrap_err());
        assert!(told.contains("annotations.json") && told.contains(remedy), "{told}");
    }
}
