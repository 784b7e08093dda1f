//! Annotations in the formats that tools for people read: YOLO's, VOC's, Label Studio's and CVAT's.
//!
//! COCO's is what [`AnnotationFile::save`] writes. What training is to ignore becomes `difficult` in VOC's, is left out of
//! YOLO's, which has no word for it, and stays with its score in the other two, for people to decide.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use wordsight_files::Durability;
use wordsight_pictures::is_hidden;

use super::{AnnotationEntry, AnnotationFile, ImageEntry};
use crate::mistake::Mistake;

/// How annotations are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON file in COCO's format, with what the annotations had before.
    Coco,
    /// A folder with `data.yaml` and `labels/`, a text a photograph.
    Yolo,
    /// A folder with an XML file a photograph, PASCAL VOC's.
    Voc,
    /// One JSON file of tasks with predictions for Label Studio, whose labelling interface has RectangleLabels `label` on
    /// an Image `image`.
    LabelStudio,
    /// One XML file, CVAT for images 1.1.
    Cvat,
}

/// A file's annotations by photograph.
struct ByImage<'a> {
    names: HashMap<u64, &'a str>,
    annotations: HashMap<u64, Vec<&'a AnnotationEntry>>,
}

impl<'a> ByImage<'a> {
    fn of(file: &'a AnnotationFile) -> Self {
        let mut annotations: HashMap<u64, Vec<&AnnotationEntry>> = HashMap::new();
        for annotation in &file.annotations {
            annotations.entry(annotation.image_id).or_default().push(annotation);
        }
        let names = file.categories.iter().map(|category| (category.id, category.name.as_str())).collect();
        Self { names, annotations }
    }

    fn of_image(&self, image: &ImageEntry) -> impl Iterator<Item = (&'a AnnotationEntry, &'a str)> {
        let annotations = self.annotations.get(&image.id).into_iter().flatten();
        annotations.filter_map(|annotation| Some((*annotation, *self.names.get(&annotation.category_id)?)))
    }
}

/// Writes annotations; `output` is a file or a folder, as the format has it.
///
/// # Errors
/// When the disk is full or the folder can't be written to.
pub fn write(file: &AnnotationFile, format: Format, output: &Path) -> Result<()> {
    match format {
        Format::Coco => file.save(output),
        Format::Yolo => write_yolo(file, output),
        Format::Voc => write_voc(file, output),
        Format::LabelStudio => write_file(output, &format!("{:#}\n", label_studio(file))),
        Format::Cvat => write_file(output, &cvat(file)),
    }
}

/// Whether a format's folder may be written into: into one that is new, empty, or of the same format alone.
///
/// # Errors
/// When something else lies in it.
pub fn check_folder(format: Format, folder: &Path) -> Result<()> {
    let own: &dyn Fn(&Path, bool) -> bool = match format {
        Format::Yolo => &|path, is_folder| match path.components().count() {
            // The photographs belong beside the labels.
            1 => {
                path == Path::new("data.yaml")
                    || (is_folder && ["images", "labels"].iter().any(|name| path == Path::new(name)))
            }
            _ => path.starts_with("images") || is_folder || has_ending(path, "txt"),
        },
        Format::Voc => &|path, is_folder| is_folder || has_ending(path, "xml"),
        Format::Coco | Format::LabelStudio | Format::Cvat => return Ok(()),
    };
    if let Some(other) = other_in(folder, Path::new(""), own)? {
        bail!(Mistake::new(format!(
            "{} has {} in it, which is none of what this format writes: name a new folder or an empty one",
            folder.display(),
            other.display()
        )));
    }
    Ok(())
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

/// The first entry below a folder that isn't its own, hidden ones aside; photographs are not looked through.
fn other_in(folder: &Path, below: &Path, own: &dyn Fn(&Path, bool) -> bool) -> Result<Option<PathBuf>> {
    let here = folder.join(below);
    if !here.is_dir() || below == Path::new("images") {
        return Ok(None);
    }
    let context = || format!("cannot list the folder {}", here.display());
    let mut entries = fs::read_dir(&here)
        .with_context(context)?
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(context)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries.iter().filter(|entry| !is_hidden(&entry.path())) {
        let (path, is_folder) = (below.join(entry.file_name()), entry.path().is_dir());
        if !own(&path, is_folder) {
            return Ok(Some(path));
        }
        if let Some(other) = other_in(folder, &path, own)?.filter(|_| is_folder) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    wordsight_files::replace(path, Durability::Whole, text.as_bytes())
        .with_context(|| format!("cannot write {}; is the disk full?", path.display()))
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))
}

/// A photograph's file in a folder, with another extension.
fn path_of(image: &ImageEntry, folder: &Path, extension: &str) -> Result<PathBuf> {
    let is_inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    ensure!(
        Path::new(&image.file_name).components().all(is_inside),
        "the photograph {} has a name that leads out of {}: give it a name relative to --images",
        image.file_name,
        folder.display()
    );
    let path = folder.join(&image.file_name).with_extension(extension);
    make_folder(wordsight_files::folder_of(&path))?;
    Ok(path)
}

fn write_yolo(file: &AnnotationFile, folder: &Path) -> Result<()> {
    let by_image = ByImage::of(file);
    let places: HashMap<u64, usize> =
        file.categories.iter().enumerate().map(|(place, category)| (category.id, place)).collect();
    let labels = folder.join("labels");
    make_folder(&labels)?;
    for image in &file.images {
        let mut lines = String::new();
        let (width, height) = (f64::from(image.width.max(1)), f64::from(image.height.max(1)));
        for (annotation, _) in by_image.of_image(image).filter(|(annotation, _)| annotation.ignore == 0) {
            let [x, y, w, h] = annotation.bbox;
            let centre = [(x + w / 2.0) / width, (y + h / 2.0) / height, w / width, h / height];
            let place = places.get(&annotation.category_id).copied().unwrap_or_default();
            let [x, y, w, h] = centre.map(|share| share.clamp(0.0, 1.0));
            writeln!(lines, "{place} {x:.6} {y:.6} {w:.6} {h:.6}")?;
        }
        write_file(&path_of(image, &labels, "txt")?, &lines)?;
    }
    let mut yaml =
        "# The images belong into `images` beside `labels`.\npath: .\ntrain: images\nval: images\nnames:\n"
            .to_owned();
    for (place, category) in file.categories.iter().enumerate() {
        writeln!(yaml, "  {place}: {}", Value::from(category.name.as_str()))?;
    }
    write_file(&folder.join("data.yaml"), &yaml)
}

fn write_voc(file: &AnnotationFile, folder: &Path) -> Result<()> {
    let by_image = ByImage::of(file);
    make_folder(folder)?;
    for image in &file.images {
        let mut xml = format!(
            "<annotation>\n  <filename>{}</filename>\n  <size><width>{}</width><height>{}</height><depth>3</depth></size>\n",
            escaped(&image.file_name),
            image.width,
            image.height
        );
        for (annotation, name) in by_image.of_image(image) {
            let [x, y, width, height] = annotation.bbox;
            // Pixels are counted from 1, the last included.
            let (left, top) = (x.round() + 1.0, y.round() + 1.0);
            let (right, bottom) = ((x + width).round().max(left), (y + height).round().max(top));
            writeln!(
                xml,
                "  <object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>\
                 <xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>",
                escaped(name),
                annotation.ignore
            )?;
        }
        xml += "</annotation>\n";
        write_file(&path_of(image, folder, "xml")?, &xml)?;
    }
    Ok(())
}

/// Tasks with predictions: <https://labelstud.io/guide/predictions>. Sides are in hundredths of the photograph's.
fn label_studio(file: &AnnotationFile) -> Value {
    let by_image = ByImage::of(file);
    let task = |image: &ImageEntry| {
        let (width, height) = (f64::from(image.width.max(1)), f64::from(image.height.max(1)));
        let result = |(annotation, name): (&AnnotationEntry, &str)| {
            let [x, y, w, h] = annotation.bbox;
            json!({
                "id": annotation.id.to_string(), "from_name": "label", "to_name": "image", "type": "rectanglelabels",
                "original_width": image.width, "original_height": image.height, "image_rotation": 0,
                "score": annotation.score(),
                "value": {
                    "x": 100.0 * x / width, "y": 100.0 * y / height, "width": 100.0 * w / width,
                    "height": 100.0 * h / height, "rotation": 0, "rectanglelabels": [name],
                },
            })
        };
        let results: Vec<Value> = by_image.of_image(image).map(result).collect();
        json!({
            "data": { "image": format!("/data/local-files/?d={}", image.file_name) },
            "predictions": [{ "model_version": "wordsight", "result": results }],
        })
    };
    file.images.iter().map(task).collect()
}

/// CVAT for images 1.1: <https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/>.
fn cvat(file: &AnnotationFile) -> String {
    let by_image = ByImage::of(file);
    let mut xml =
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<annotations>\n  <version>1.1</version>\n".to_owned();
    for (place, image) in file.images.iter().enumerate() {
        xml += &format!(
            "  <image id=\"{place}\" name=\"{}\" width=\"{}\" height=\"{}\">\n",
            escaped(&image.file_name),
            image.width,
            image.height
        );
        for (annotation, name) in by_image.of_image(image) {
            let [x, y, width, height] = annotation.bbox;
            xml += &format!(
                "    <box label=\"{}\" source=\"auto\" occluded=\"0\" xtl=\"{x:.2}\" ytl=\"{y:.2}\" xbr=\"{:.2}\" \
                 ybr=\"{:.2}\" z_order=\"0\"></box>\n",
                escaped(name),
                x + width,
                y + height
            );
        }
        xml += "  </image>\n";
    }
    xml + "</annotations>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file() -> AnnotationFile {
        serde_json::from_value(json!({
            "images": [{"id": 7, "file_name": "day/a & b.png", "width": 200, "height": 100},
                {"id": 8, "file_name": "c.png", "width": 20, "height": 10}],
            "annotations": [
                {"id": 1, "image_id": 7, "category_id": 3, "bbox": [20.0, 10.0, 40.0, 20.0], "score": 0.75},
                {"id": 2, "image_id": 7, "category_id": 9, "bbox": [0.0, 0.0, 10.0, 10.0], "ignore": 1, "score": 0.2}],
            "categories": [{"id": 3, "name": "red \"cup\""}, {"id": 9, "name": "dog"}]
        }))
        .unwrap()
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_refused() {
        for (format, others) in [
            (Format::Yolo, ["notes.md", "labels/a.xml", "train/a.txt"]),
            (Format::Voc, ["notes.md", "day/a.txt", "a.png"]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            assert!(check_folder(format, &folder.path().join("new")).is_ok());
            assert!(check_folder(format, folder.path()).is_ok());
            // Its own, of before, is replaced.
            write(&file(), format, folder.path()).unwrap();
            fs::create_dir_all(folder.path().join("images")).unwrap();
            assert!(check_folder(format, folder.path()).is_ok());
            for other in others {
                let path = folder.path().join(other);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, "mine").unwrap();
                let told = check_folder(format, folder.path()).unwrap_err().to_string();
                assert!(told.contains(other.split('/').next().unwrap()), "{other}: {told}");
                fs::remove_file(path).unwrap();
                drop(fs::remove_dir(folder.path().join("train")));
            }
            assert!(check_folder(format, folder.path()).is_ok());
        }
    }

    #[test]
    fn a_photographs_name_leads_out_of_no_folder() {
        for name in ["/etc/a.png", "../a.png", "a/../../b.png"] {
            let mut file = file();
            file.images[0].file_name = name.to_owned();
            let folder = tempfile::tempdir().unwrap();
            for format in [Format::Yolo, Format::Voc] {
                let told = write(&file, format, &folder.path().join("out")).unwrap_err().to_string();
                assert!(told.contains(name), "{told}");
            }
        }
    }

    #[test]
    fn yolo_has_shares_of_the_sides_and_names_by_place() {
        let folder = tempfile::tempdir().unwrap();
        write(&file(), Format::Yolo, folder.path()).unwrap();
        let text = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
        assert_eq!(text("labels/day/a & b.txt"), "0 0.200000 0.200000 0.200000 0.200000\n");
        assert_eq!(text("labels/c.txt"), "");
        assert!(
            text("data.yaml").contains("  0: \"red \\\"cup\\\"\"\n  1: \"dog\"\n"),
            "{}",
            text("data.yaml")
        );
    }

    #[test]
    fn voc_counts_pixels_from_1_and_what_is_ignored_is_difficult() {
        let folder = tempfile::tempdir().unwrap();
        write(&file(), Format::Voc, folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join("day/a & b.xml")).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        let texts = |name: &str| -> Vec<&str> {
            document
                .descendants()
                .filter(|node| node.has_tag_name(name))
                .filter_map(|node| node.text())
                .collect()
        };
        assert_eq!(texts("filename"), ["day/a & b.png"]);
        assert_eq!(texts("name"), ["red \"cup\"", "dog"]);
        assert_eq!(
            (texts("difficult"), texts("xmin"), texts("xmax")),
            (vec!["0", "1"], vec!["21", "1"], vec!["60", "10"])
        );
    }

    #[test]
    fn label_studio_has_hundredths_and_scores() {
        let tasks = label_studio(&file());
        let result = &tasks[0]["predictions"][0]["result"][0];
        assert_eq!(result["value"]["x"], 10.0);
        assert_eq!((&result["value"]["width"], &result["value"]["height"]), (&json!(20.0), &json!(20.0)));
        assert_eq!(
            (&result["score"], &result["value"]["rectanglelabels"][0]),
            (&json!(0.75), &json!("red \"cup\""))
        );
        assert_eq!(tasks[1]["predictions"][0]["result"], json!([]));
    }

    #[test]
    fn cvat_is_xml_with_every_image() {
        let text = cvat(&file());
        let document = roxmltree::Document::parse(&text).unwrap();
        let named =
            |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).collect::<Vec<_>>();
        assert_eq!((named("image").len(), named("box").len()), (2, 2));
        let first = named("box")[0];
        assert_eq!((first.attribute("label"), first.attribute("xbr")), (Some("red \"cup\""), Some("60.00")));
    }
}
