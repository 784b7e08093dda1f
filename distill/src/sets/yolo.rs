//! YOLO's annotation format: one text file a photograph, a line an object, and a file of names.
//!
//! Takes `data.yaml` or a text with a name a line, and a folder of images. Returns photographs with boxes. An image's
//! text lies beside it, or in `labels/` where the image lies in `images/`. A line is `word x y width height`, the
//! box's centre and sides as fractions of the image's; a sixth number is a detector's score, and more numbers are a
//! polygon, whose bounding box is taken. An image without a text shows no object.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::file::{SetEntry, SetsFile};
use super::folder::pictures_in;
use super::{Annotated, AnnotatedObject, Annotations, Photograph, clipped, file_name};

/// Reads a set.
pub(super) fn read(file: &SetsFile, entry: &SetEntry) -> Result<Annotations> {
    let path = entry.annotations(file)?;
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read the file of names {}", path.display()))?;
    let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let words = if is_yaml { yaml_names(&text) } else { lines_of(&text) };
    ensure!(!words.is_empty(), "{} has no names; YOLO's data.yaml has them as `names:`", path.display());
    let mut photographs = Vec::new();
    let (mut labelled, mut left_out) = (0, 0);
    let folder = entry.images(file)?;
    for picture in pictures_in(&folder)? {
        let labels = labels_of(&picture);
        let (width, height) = wordsight_pictures::size_of(&picture)?;
        let id = file_name(&picture);
        let mut photograph =
            Photograph { path: picture, size: Some([width, height]), ..Photograph::default() };
        if let Some(labels) = labels {
            labelled += 1;
            left_out += add_objects(&labels, words.len(), &mut photograph)
                .with_context(|| format!("the labels {}", labels.display()))?;
        }
        photographs.push(Annotated { id, photograph });
    }
    ensure!(
        labelled > 0,
        "no image in {} has a .txt of labels beside it or in `labels` beside `images`",
        folder.display()
    );
    if left_out > 0 {
        tracing::warn!("{}: left out {left_out} objects that are no boxes", folder.display());
    }
    Ok(Annotations { words, photographs, shards: None })
}

/// Where an image's labels are, if it has any.
fn labels_of(picture: &Path) -> Option<PathBuf> {
    let beside = picture.with_extension("txt");
    let parts: Vec<_> = picture.components().collect();
    let apart = parts.iter().rposition(|part| part.as_os_str() == "images").map(|at| {
        let mut moved = parts.clone();
        moved[at] = std::path::Component::Normal("labels".as_ref());
        moved.iter().collect::<PathBuf>().with_extension("txt")
    });
    [Some(beside), apart].into_iter().flatten().find(|path| path.is_file())
}

/// Adds the objects of one file; says how many are no boxes.
fn add_objects(labels: &Path, words: usize, photograph: &mut Photograph) -> Result<usize> {
    let text = fs::read_to_string(labels)?;
    let size = photograph.size;
    let mut left_out = 0;
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        let (word, shares, weight) =
            parse(line).with_context(|| format!("line {number}, {line:?}, is no object"))?;
        ensure!(word < words, "line {number} has word {word}, and there are {words} names, from 0 on");
        let [width, height] = size.unwrap_or([1; 2]).map(|side| side as f32);
        let [x1, y1, x2, y2] = shares;
        match clipped([x1 * width, y1 * height, x2 * width, y2 * height], size) {
            Some(box_in_photograph) => {
                photograph.objects.push(AnnotatedObject { box_in_photograph, word: Some(word), weight });
            }
            None => left_out += 1,
        }
    }
    Ok(left_out)
}

/// The word, the corners as shares of the image's sides, and the score of one line.
fn parse(line: &str) -> Result<(usize, [f32; 4], f32)> {
    let mut parts = line.split_whitespace();
    let word = parts.next().context("it is empty")?.parse().context("its first number is no word's")?;
    let numbers: Vec<f32> = parts.map(str::parse).collect::<Result<_, _>>()?;
    match *numbers.as_slice() {
        [x, y, w, h] => Ok((word, around(x, y, w, h), 1.0)),
        [x, y, w, h, score] => Ok((word, around(x, y, w, h), score.clamp(0.0, 1.0))),
        ref outline if outline.len() >= 6 && outline.len().is_multiple_of(2) => {
            let start = [f32::MAX, f32::MAX, f32::MIN, f32::MIN];
            let corners = outline
                .as_chunks::<2>()
                .0
                .iter()
                .fold(start, |[x1, y1, x2, y2], &[x, y]| [x1.min(x), y1.min(y), x2.max(x), y2.max(y)]);
            Ok((word, corners, 1.0))
        }
        _ => bail!("a box has four numbers behind its word's; this has {}", numbers.len()),
    }
}

fn around(x: f32, y: f32, w: f32, h: f32) -> [f32; 4] {
    [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0]
}

fn lines_of(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The `names` of a `data.yaml`: `[a, b]`, `- a` or `0: a`, in their order.
fn yaml_names(text: &str) -> Vec<String> {
    let is_names = |line: &&str| line.starts_with("names:");
    let Some(first) = text.lines().find(is_names) else { return Vec::new() };
    let inline = first.trim_start_matches("names:").trim();
    if let Some(listed) = inline.strip_prefix(['[', '{']) {
        // A flow list may go on over several lines.
        let all = text.split_once("names:").map_or(listed, |(_, rest)| rest);
        let all = all.trim_start().trim_start_matches(['[', '{']);
        let end = all.find([']', '}']).unwrap_or(all.len());
        return all[..end].split(',').map(yaml_name).filter(|name| !name.is_empty()).collect();
    }
    let below = text.lines().skip_while(|line| !is_names(line)).skip(1);
    below
        .take_while(|line| line.starts_with([' ', '\t', '-', '#']) || line.trim().is_empty())
        .map(|line| yaml_name(line.trim().trim_start_matches('-')))
        .filter(|name| !name.is_empty())
        .collect()
}

/// A name without its number, its quotes and a comment.
fn yaml_name(item: &str) -> String {
    let item = item.trim();
    if item.starts_with('#') {
        return String::new();
    }
    let item = match item.split_once(':') {
        Some((number, name)) if number.trim().parse::<usize>().is_ok() => name.trim(),
        _ => item,
    };
    for quote in ['"', '\''] {
        if let Some((name, _)) = item.strip_prefix(quote).and_then(|item| item.split_once(quote)) {
            return name.to_owned();
        }
    }
    item.split(" #").next().unwrap_or(item).trim().to_owned()
}
