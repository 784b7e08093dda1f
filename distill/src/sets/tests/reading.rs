//! What readers make of files: words, boxes, what is ignored, what is complete, and what is refused.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::super::order::Order;
use super::super::{AnnotatedObject, Sets};
use super::{COCO, Made, OBJECTS};
use crate::photographs::{Collection, Unreadable};

fn object(corners: [f32; 4], word: usize) -> AnnotatedObject {
    AnnotatedObject { box_in_photograph: corners, word: Some(word), weight: 1.0 }
}

#[test]
fn crowds_and_ignored_annotations_are_ignored_and_scores_are_weights() {
    let made = Made::new();
    made.write_coco(|file| {
        file["annotations"][0]["iscrowd"] = json!(1);
        file["annotations"][1]["ignore"] = json!(true);
        file["annotations"][2]["score"] = json!(0.5);
        file["annotations"][3]["category_id"] = json!(null);
    });
    let sets = made.sets(COCO).unwrap();
    let [crowd, ignored, scored, unnamed] = sets.photographs.as_slice() else { panic!("four photographs") };
    assert!(crowd.objects.is_empty() && ignored.objects.is_empty());
    assert_eq!(crowd.ignored, [OBJECTS[0].map(|side| side as f32)]);
    assert_eq!(ignored.ignored, [OBJECTS[1].map(|side| side as f32)]);
    assert_eq!(scored.objects[0].weight, 0.5);
    assert_eq!(unnamed.objects[0].word, None);
}

#[test]
fn ids_may_be_texts_and_boxes_that_are_none_or_reach_out_are_left_out_or_cut() {
    let made = Made::new();
    made.write_coco(|file| {
        file["images"][0]["id"] = json!("zero");
        file["annotations"][0]["image_id"] = json!("zero");
        file["annotations"][0]["bbox"] = json!([-10, -10, 50, 60]);
        file["annotations"][1]["image_id"] = json!("1");
        file["annotations"][2]["bbox"] = json!([20, 20, 0, 10]);
        file["annotations"][3]["bbox"] = json!([400, 20, 30, 10]);
    });
    let sets = made.sets(COCO).unwrap();
    assert_eq!(sets.photographs[0].objects[0].box_in_photograph, [0.0, 0.0, 40.0, 50.0]);
    assert_eq!(sets.photographs[1].objects.len(), 1);
    assert!(sets.photographs[2].objects.is_empty() && sets.photographs[3].objects.is_empty());
}

#[test]
fn each_set_is_complete_for_its_own_words_and_synonyms_are_one_word() {
    let made = Made::new();
    made.write_coco(|file| file["categories"][0]["name"] = json!("sofa"));
    let other = std::fs::read_to_string(made.path().join("instances.json")).unwrap();
    made.write("other.json", other.replace("\"sofa\"", "\"couch\"").replace("\"green\"", "\"kite\""));
    let list = format!(
        "{COCO}complete = \"exhaustive\"\n{}complete = \"its-words\"\ncomplete_for = [\"sofa\", \"bird\"]\n\
         rename = {{ kite = \"bird\" }}\n{}",
        COCO.replace("colours", "others").replace("instances", "other"),
        COCO.replace("colours", "third"),
    );
    let sets = made.sets(&list).unwrap();
    assert_eq!(sets.words, ["couch", "green", "blue", "yellow", "bird"]);
    assert_eq!(sets.sets[0].complete_for, [0, 1, 2, 3]);
    assert_eq!(sets.sets[1].complete_for, [0, 4]);
    assert!(sets.sets[2].complete_for.is_empty(), "nothing is said of the third set");
    assert_eq!(sets.sets.iter().map(|set| set.exhaustive).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(sets.photographs[4].objects[0].word, Some(0));
    assert_eq!(sets.photographs[5].objects[0].word, Some(4));
    assert_eq!(sets.photographs[5].set, 1);
}

#[test]
fn a_set_is_also_complete_for_the_words_that_a_detector_completed() {
    let made = Made::new();
    made.write_coco(|_| ());
    made.write("own.json", "{\"images\": [], \"categories\": [{\"id\": 1, \"name\": \"cup\"}]}");
    let more = COCO.replace("colours", "more").replace("instances", "own");
    made.write("names.txt", "red\nblue\n\n");
    for (complete, expected) in [("its-words", vec![0, 2, 4]), ("positives-only", vec![0, 2])] {
        let completed = format!("complete = \"{complete}\"\ncompleted_for = \"names.txt\"\n");
        let sets = made.sets(&format!("{COCO}{more}{completed}")).unwrap();
        assert_eq!(sets.sets[1].complete_for, expected, "{complete}");
    }
    made.write("names.txt", "zebra\n");
    let told = made.refusal(&format!("{COCO}{more}completed_for = \"names.txt\"\n"));
    assert!(told.contains("zebra") && told.contains("completed_for"), "{told}");
}

#[test]
fn a_set_is_written_as_annotations_that_read_back_as_the_same() {
    let made = Made::new();
    made.write_coco(|_| ());
    let sets = made.sets(COCO).unwrap();
    let dataset = sets.dataset("colours", &made.path().join("images")).unwrap();
    dataset.save(&made.path().join("instances.json")).unwrap();
    let again = made.sets(COCO).unwrap();
    assert_eq!((&sets.words, &sets.photographs), (&again.words, &again.photographs));
    let told = format!("{:#}", again.dataset("shapes", made.path()).unwrap_err());
    assert!(told.contains("shapes") && told.contains("colours"), "{told}");
    let told = format!("{:#}", again.dataset("colours", &made.path().join("pictures")).unwrap_err());
    assert!(told.contains("does not lie in"), "{told}");
}

#[test]
fn photographs_in_shards_are_those_in_a_folder() {
    let made = Made::new();
    made.write_coco(|_| ());
    for (shard, numbers) in [[0, 1], [2, 3]].iter().enumerate() {
        let mut tar =
            tar::Builder::new(fs::File::create(made.path().join(format!("s-{shard}.tar"))).unwrap());
        for number in numbers {
            let path = made.path().join(format!("images/{number}.png"));
            tar.append_path_with_name(path, format!("{number}.png")).unwrap();
        }
        tar.finish().unwrap();
    }
    let set = |format: &str, images: &str| {
        let annotations = if format == "coco" { "annotations = \"instances.json\"\n" } else { "" };
        let list =
            format!("[[set]]\nname = \"a\"\nformat = \"{format}\"\n{annotations}images = \"{images}\"\n");
        made.sets(&list).unwrap()
    };
    for format in ["coco", "folder"] {
        let [files, shards] = ["images", "s-{0..1}.tar"].map(|images| set(format, images));
        for (of_file, of_shard) in files.photographs.iter().zip(&shards.photographs) {
            assert_eq!((&of_file.objects, of_file.size), (&of_shard.objects, of_shard.size));
            assert_eq!(files.picture(of_file).unwrap(), shards.picture(of_shard).unwrap());
        }
        assert_eq!(shards.photographs.len(), 4);
        let [files, shards] =
            [files, shards].map(|sets| sets.dataset("a", &made.path().join("images")).unwrap());
        assert_eq!(files.images, shards.images);
    }
    fs::File::options().write(true).open(made.path().join("s-1.tar")).unwrap().set_len(600).unwrap();
    let cut = "[[set]]\nname = \"a\"\nformat = \"coco\"\nannotations = \"instances.json\"\nimages = \"s-{0..1}.tar\"\n";
    let told = made.refusal(cut);
    assert!(told.contains("1 of its 4 photographs are not there"), "{told}");
}

#[test]
fn boxes_of_other_words_than_those_asked_for_are_dropped_and_not_ignored() {
    let made = Made::new();
    made.write_coco(|_| ());
    made.write("words.json", r#"{"base": ["red", "blue"], "novel": ["green"]}"#);
    let sets = made.sets(&format!("{COCO}complete = \"its-words\"\nonly_words = \"words.json\"\n")).unwrap();
    assert_eq!(sets.words, ["red", "blue"]);
    assert_eq!(sets.sets[0].complete_for, [0, 1]);
    assert_eq!(sets.photographs.len(), 4);
    assert!(sets.photographs[1].objects.is_empty() && sets.photographs[1].ignored.is_empty());
    assert_eq!(sets.photographs[2].objects[0].word, Some(1));
}

#[test]
fn photographs_are_left_out_by_number_by_name_by_word_and_by_list() {
    let made = Made::new();
    made.write_coco(|_| ());
    made.write("train.txt", "0 1\n2  1\n3\n");
    let left = |lines: &str| -> Vec<String> {
        let sets = made.sets(&format!("{COCO}{lines}\n")).unwrap();
        sets.photographs.iter().map(|photograph| super::super::file_name(&photograph.path)).collect()
    };
    assert_eq!(left("leave_out = [0, \"2.png\"]"), ["1.png", "3.png"]);
    assert_eq!(left("split = \"train.txt\""), ["0.png", "2.png", "3.png"]);
    assert_eq!(left("leave_out_words = [\"yellow\"]"), ["0.png", "1.png", "2.png"]);
}

#[test]
fn voc_counts_from_one_and_difficult_objects_are_ignored_and_parts_are_none() {
    let made = Made::new();
    made.write_photographs();
    let bounds = |x1, y1, x2, y2| {
        format!("<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>")
    };
    let description = format!(
        "<annotation><filename>elsewhere.jpg</filename>\
         <size><width>200</width><height>150</height><depth>3</depth></size>\
         <object><name>sofa</name><difficult>0</difficult>{}<part><name>leg</name>{}</part></object>\
         <object><name>dog</name><difficult>1</difficult>{}</object></annotation>",
        bounds(61, 51, 140, 110),
        bounds(61, 100, 70, 110),
        bounds(1, 1, 20, 30)
    );
    made.write("Annotations/0.xml", &description);
    let list =
        "[[set]]\nname = \"voc\"\nformat = \"voc\"\nannotations = \"Annotations\"\nimages = \"images\"\n";
    let sets = made.sets(list).unwrap();
    assert_eq!(sets.words, ["couch"]);
    assert_eq!(sets.photographs[0].path, made.path().join("images/0.png"));
    assert_eq!(sets.photographs[0].objects, [object([60.0, 50.0, 140.0, 110.0], 0)]);
    assert_eq!(sets.photographs[0].ignored, [[0.0, 0.0, 20.0, 30.0]]);
    made.write("Annotations/0.xml", description.replace("<xmin>61</xmin>", "<xmin>left</xmin>"));
    let told = made.refusal(list);
    assert!(told.contains("0.xml") && told.contains("left") && told.contains("no number"), "{told}");
}

#[test]
fn yolo_has_names_in_any_of_its_ways_and_labels_beside_images_or_apart() {
    let made = Made::new();
    made.write_photographs();
    made.write("labels/0.txt", "1 0.5 0.5333333 0.4 0.4\n0 0.1 0.1 0.2 0.2 0.75\n");
    made.write("images/1.txt", "0 0 0 0.5 0 0.5 0.5 0.25 0.25\n\n");
    let list = "[[set]]\nname = \"y\"\nformat = \"yolo\"\nannotations = \"data.yaml\"\nimages = \"images\"\n";
    for names in [
        "nc: 2\nnames: ['traffic light', sofa]\n",
        "names: [\n  traffic light,\n  sofa\n]\n",
        "path: x\nnames:\n  0: traffic light # red\n  1: \"sofa\"\nnc: 2\n",
        "names:\n- traffic light\n- sofa\n",
    ] {
        made.write("data.yaml", names);
        let sets = made.sets(list).unwrap();
        assert_eq!(sets.words, ["traffic light", "couch"], "{names}");
        assert_eq!(sets.photographs.len(), 4, "an image without labels shows no object");
        let [couch, light] = sets.photographs[0].objects.as_slice() else { panic!("two objects") };
        assert_eq!((couch.word, light.word, light.weight), (Some(1), Some(0), 0.75));
        for (found, side) in couch.box_in_photograph.iter().zip([60.0, 50.0, 140.0, 110.0]) {
            assert!((found - side).abs() < 0.01, "{:?}", couch.box_in_photograph);
        }
        assert_eq!(sets.photographs[1].objects, [object([0.0, 0.0, 60.0, 90.0], 0)], "a polygon's outline");
    }
    made.write("images/1.txt", "2 0.5 0.5 0.5 0.5\n");
    let told = made.refusal(list);
    assert!(told.contains("1.txt") && told.contains("line 1") && told.contains("2 names"), "{told}");
}

#[test]
fn a_folder_of_photographs_is_a_set_of_which_nothing_is_known() {
    let made = Made::new();
    made.write_photographs();
    let sets = made.sets("[[set]]\nname = \"f\"\nformat = \"folder\"\nimages = \"images\"\n").unwrap();
    assert_eq!(sets.photographs.len(), 4);
    assert!(sets.words.is_empty() && sets.sets[0].complete_for.is_empty() && !sets.sets[0].exhaustive);
}

#[test]
fn a_path_begins_with_a_root_of_the_file_or_of_the_command_line() {
    let made = Made::new();
    made.write_coco(|_| ());
    let list = COCO.replace("instances.json", "{data}/instances.json");
    let told = made.refusal(&list);
    assert!(told.contains("{data}") && told.contains("--root data="), "{told}");
    assert!(made.sets(&format!("{list}[roots]\ndata = \".\"\n")).is_ok());
    let path = made.write("sets.toml", format!("{list}[roots]\ndata = \"nowhere\"\n"));
    assert!(Sets::load_with_roots(&path, &[("data".to_owned(), made.path().to_owned())]).is_ok());
}

#[test]
fn wrong_sets_are_refused_with_their_file_and_what_to_do() {
    let made = Made::new();
    made.write_coco(|file| file["annotations"][0]["category_id"] = json!(99));
    let told = made.refusal(COCO);
    assert!(told.contains("colours") && told.contains("category 99") && told.contains("add it"), "{told}");
    made.write_coco(|file| file["images"][0]["file_name"] = json!("gone.png"));
    let told = made.refusal(COCO);
    assert!(told.contains("1 of its 4") && told.contains("gone.png") && told.contains("images"), "{told}");
    made.write_coco(|file| file["images"][1]["id"] = json!(0));
    assert!(made.refusal(COCO).contains("both have the id 0"));
    made.write_coco(|_| ());
    let told = made.refusal(&COCO.replace("instances", "missing"));
    assert!(told.contains("missing.json") && told.contains("cannot read"), "{told}");
    let told = made.refusal(&format!("{COCO}complete_for = [\"zebra\"]\n"));
    assert!(told.contains("zebra") && told.contains("none of its words"), "{told}");
    assert!(made.refusal(&format!("{COCO}wieght = 2\n")).contains("wieght"));
    assert!(made.refusal(&format!("{COCO}weight = -1\n")).contains("from 0 on"));
    assert!(made.refusal(&format!("{COCO}{COCO}")).contains("twice"));
}

#[test]
fn what_cannot_be_read_is_left_out_where_that_is_asked_for_and_ends_the_work_otherwise() {
    let made = Made::new();
    made.write_coco(|_| ());
    made.write("more/instances.json", fs::read_to_string(made.path().join("instances.json")).unwrap());
    fs::create_dir(made.path().join("more/images")).unwrap();
    for number in 0..4 {
        let name = format!("images/{number}.png");
        fs::copy(made.path().join(&name), made.path().join("more").join(name)).unwrap();
    }
    made.write("images/1.png", "torn");
    made.write("more/images/3.png", "torn");
    image::RgbaImage::from_pixel(4, 4, image::Rgba([9; 4])).save(made.path().join("whole.png")).unwrap();
    made.write("torn.png", "torn");
    made.write(
        "cutouts.json",
        r#"[{"file": "torn.png", "word": "red"}, {"file": "whole.png", "word": "red"}]"#,
    );
    let other = COCO.replace("colours", "more").replace("instances", "more/instances");
    let list = format!("{COCO}{other}[[cutouts]]\nfolder = \".\"\nlist = \"cutouts.json\"\n");
    let all = made.sets(&list).unwrap().readable(Unreadable::Refused).unwrap();
    assert_eq!((all.photographs.len(), all.cutouts.len()), (8, 2));
    let sets = made.sets(&list).unwrap().readable(Unreadable::Skipped).unwrap();
    assert_eq!((sets.photographs.len(), sets.cutouts.len()), (6, 1));
    let ranges: Vec<_> = sets.sets.iter().map(|set| set.photographs.clone()).collect();
    assert_eq!(ranges, [0..3, 3..6]);
    for (place, set) in sets.sets.iter().enumerate() {
        assert!(sets.photographs[set.photographs.clone()].iter().all(|photograph| photograph.set == place));
    }
    for number in 0..4 {
        made.write(&format!("images/{number}.png"), "torn");
    }
    let told = made.sets(COCO).unwrap().readable(Unreadable::Skipped).err().unwrap().to_string();
    assert!(told.contains("none of the 4 photographs"), "{told}");
}

#[test]
fn an_epoch_visits_each_photograph_as_often_as_its_sets_weight_says() {
    let made = Made::new();
    made.write_coco(|_| ());
    let list = format!("{COCO}weight = 2.5\n{}", COCO.replace("colours", "others"));
    let sets = made.sets(&list).unwrap();
    let mut order = Order::new(&sets, 7);
    assert_eq!(order.length(), 14);
    let mut once_more = std::collections::BTreeSet::new();
    let mut orders = std::collections::BTreeSet::new();
    for epoch in 0..20 {
        let visits = order.epoch(epoch).to_vec();
        let count = |photograph: u32| visits.iter().filter(|visit| **visit == photograph).count();
        assert!((0..4).all(|photograph| (2..=3).contains(&count(photograph))), "{visits:?}");
        assert!((4..8).all(|photograph| count(photograph) == 1), "{visits:?}");
        once_more.extend((0..4).filter(|photograph| count(*photograph) == 3));
        orders.insert(visits);
    }
    assert_eq!(once_more.len(), 4, "every photograph is once among those that are seen more often");
    assert_eq!(orders.len(), 20, "every epoch has an order of its own");
    assert_eq!(Order::new(&sets, 7).epoch(3), order.epoch(3));
}

#[test]
fn the_shared_sets_hold_nothing_that_is_tested_on() {
    let list = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sets/shared.toml");
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if !data.join("annotated").exists() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {} is not there", data.display());
        return;
    }
    let sets = Sets::load(&list).unwrap();
    let collection = Collection::load(&data).unwrap();
    let tested: Vec<&str> = collection
        .novel()
        .iter()
        .chain(&collection.held_out())
        .map(|photograph| photograph.file.rsplit('/').next().unwrap())
        .collect();
    let validation = std::fs::read_to_string(data.join("annotated/coco/coco_val.json")).unwrap();
    let in_coco = &sets.photographs[sets.sets[0].photographs.clone()];
    assert!(!in_coco.iter().any(|p| validation.contains(&super::super::file_name(&p.path))));
    assert!(!sets.photographs.iter().any(|p| tested.contains(&super::super::file_name(&p.path).as_str())));
    for word in ["tiger", "projector", "fire truck", "bottle cap", "tvmonitor", "sofa"] {
        assert!(!sets.words.iter().any(|other| other == word), "{word} is a word");
    }
}
