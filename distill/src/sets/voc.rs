//! PASCAL VOC's annotation format: one XML file a photograph.
//!
//! Takes a folder of XML files and one of images, and returns photographs with boxes. Objects marked as difficult are
//! ignored, as in VOC's own evaluation. The parts of a person (`part`) are not objects. VOC counts pixels from 1, the
//! last included.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use roxmltree::{Document, Node};

use super::file::{SetEntry, SetsFile};
use super::folder::{files_in, picture_named};
use super::{Annotated, AnnotatedObject, Annotations, Photograph, check_files, clipped};

/// Reads a set.
pub(super) fn read(file: &SetsFile, entry: &SetEntry) -> Result<Annotations> {
    let folder = entry.annotations(file)?;
    let images = match &entry.images {
        Some(images) => file.resolve(images)?,
        None => folder.with_file_name("JPEGImages"),
    };
    let descriptions = files_in(&folder, &["xml"])?;
    ensure!(!descriptions.is_empty(), "{} holds no .xml files", folder.display());
    let mut found = Annotations::default();
    let mut left_out = 0;
    for path in descriptions {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (annotated, no_boxes) = read_one(&text, &path, &images, &mut found.words)
            .with_context(|| format!("{} is no annotation of VOC's", path.display()))?;
        found.photographs.push(annotated);
        left_out += no_boxes;
    }
    if left_out > 0 {
        tracing::warn!("{}: left out {left_out} objects that are no boxes", folder.display());
    }
    check_files(&found.photographs, None)?;
    Ok(found)
}

/// One photograph, and how many of its objects are no boxes.
fn read_one(text: &str, path: &Path, images: &Path, words: &mut Vec<String>) -> Result<(Annotated, usize)> {
    let document = Document::parse(text)?;
    let root = document.root_element();
    ensure!(root.has_tag_name("annotation"), "it begins with <{}>", root.tag_name().name());
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let size = child(root, "size").and_then(|size| {
        let side = |name| number(size, name).ok().map(|side| side as u32).filter(|side| *side > 0);
        Some([side("width")?, side("height")?])
    });
    let mut photograph = Photograph { path: picture_of(root, images, &stem), size, ..Photograph::default() };
    let mut left_out = 0;
    for object in root.children().filter(|node| node.has_tag_name("object")) {
        let name = text_of(object, "name").context("an object has no <name>")?;
        let bounds = child(object, "bndbox").with_context(|| format!("the {name} has no <bndbox>"))?;
        let corners = [
            number(bounds, "xmin")? - 1.0,
            number(bounds, "ymin")? - 1.0,
            number(bounds, "xmax")?,
            number(bounds, "ymax")?,
        ];
        let Some(corners) = clipped(corners, size) else {
            left_out += 1;
            continue;
        };
        if text_of(object, "difficult") == Some("1") {
            photograph.ignored.push(corners);
        } else {
            let word = words.iter().position(|word| word == name).unwrap_or_else(|| {
                words.push(name.to_owned());
                words.len() - 1
            });
            let object = AnnotatedObject { box_in_photograph: corners, word: Some(word), weight: 1.0 };
            photograph.objects.push(object);
        }
    }
    Ok((Annotated { id: stem, photograph }, left_out))
}

/// The photograph that the file names, or the one with the file's own name: many tools write another's.
fn picture_of(root: Node<'_, '_>, images: &Path, stem: &str) -> PathBuf {
    let named = text_of(root, "filename").map(|name| images.join(name));
    let own = || picture_named(images, stem);
    named.clone().filter(|path| path.is_file()).or_else(own).or(named).unwrap_or_else(|| images.join(stem))
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn text_of<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)?.text().map(str::trim)
}

fn number(node: Node<'_, '_>, name: &str) -> Result<f32> {
    let text = text_of(node, name).with_context(|| format!("there is no <{name}>"))?;
    text.parse().with_context(|| format!("<{name}>{text}</{name}> is no number"))
}
