//! Runs both halves against the whole.

use anyhow::{Context, Result, ensure};
use wordsight_engines::{CpuEngine, Input, OnnxSession, StudentFacts, Tensor, TensorView};

use super::graph::{self, Halves, StudentParts};
use super::source::Source;

/// Captions that are tried together.
const CAPTIONS: usize = 3;
/// What rounding may do to a logit or to a box's side, as a share of the largest one.
const TOLERANCE: f32 = 1e-3;
/// How far an embedding's length may be from 1 to count as 1.
const LENGTH_TOLERANCE: f32 = 1e-3;

/// The largest differences between the halves together and the whole.
pub(super) struct Agreement {
    pub logits: f32,
    pub boxes: f32,
}

/// Tries an image and some captions on both.
///
/// # Errors
/// When a half doesn't run, or they answer otherwise than the whole.
pub(super) fn run(source: &Source, halves: &Halves) -> Result<(StudentParts, Agreement)> {
    let (width, height) = source.preprocessor.input_size;
    let image = picture(width, height);
    let pixels = normalised(source, &image);
    let shape = [1, 3, height, width];
    let as_floats = |name| Input { name, shape: &shape, data: TensorView::F32(&pixels) };

    let mut probe = session(&graph::probe(halves), "the image's side of the export")?;
    let probed = probe.run(&[as_floats(graph::image_input(halves))]).with_context(|| {
        format!("the model doesn't run on an image of {width}x{height}: does `size` in preprocessor_config.json fit it?")
    })?;
    drop(probe);
    let parts = parts_of(&probed)?;
    let captions = Captions::new(source);
    let text = embedded(halves, &captions, parts.embedding_size)?;

    let student = graph::student(source, halves, &parts, &[]);
    let mut student = session(&student, "the student")?;
    let input = Input { name: StudentFacts::INPUT, shape: &shape, data: TensorView::U8(&image) };
    let found = student.run(&[input])?;
    let [boxes, embeddings, shift, scale, ..] = found.as_slice() else {
        anyhow::bail!("the student has no outputs")
    };
    let logits = logits_of(&embeddings.data, &shift.data, &scale.data, &text);
    drop(student);

    let (whole_logits, whole_boxes) = match source.graphs.as_slice() {
        [(path, _)] => {
            let mut whole = OnnxSession::open(path, 0)?;
            let mut inputs = vec![as_floats(graph::image_input(halves))];
            let taken: Vec<String> = whole.inputs().iter().map(|port| port.name.clone()).collect();
            inputs.extend(captions.inputs(taken.iter().map(String::as_str)));
            let names: Vec<String> = whole.outputs().iter().map(|port| port.name.clone()).collect();
            let outputs = whole.run(&inputs).context("the export doesn't run as a whole")?;
            let named = |names_of: &[&str]| {
                let place = names.iter().position(|name| names_of.contains(&name.as_str()));
                place.map(|place| outputs[place].data.clone()).unwrap_or_default()
            };
            (named(&["logits", "pred_logits"]), named(&["pred_boxes", "boxes"]))
        }
        // Two graphs are whole only in what was asked of them.
        _ => {
            let [embeddings, shift, scale, boxes, ..] = probed.as_slice() else {
                unreachable!("parts_of has looked")
            };
            let rows = of_length_1(&embeddings.data, parts.embedding_size);
            (logits_of(&rows, &shift.data, &scale.data, &text), boxes.data.clone())
        }
    };
    let agreement = Agreement {
        logits: largest_difference(&logits, &whole_logits, "logits")?,
        boxes: largest_difference(
            &as_shares(&boxes.data, width, height, parts.has_corners),
            &whole_boxes,
            "boxes",
        )?,
    };
    Ok((parts, agreement))
}

/// Opens a file's bytes as a device does.
pub(super) fn open_as_student(bytes: &[u8]) -> Result<()> {
    CpuEngine::from_bytes(bytes, "the student", 0)?;
    Ok(())
}

fn session(model: &wordsight_onnx::proto::ModelProto, name: &str) -> Result<OnnxSession> {
    Ok(OnnxSession::from_bytes(&wordsight_onnx::encode(model), name, 0)?)
}

fn parts_of(probed: &[Tensor]) -> Result<StudentParts> {
    let [embeddings, shift, scale, boxes, ..] = probed else {
        anyhow::bail!("the image's side has no outputs")
    };
    let regions = shift.data.len();
    let fits = regions > 0 && scale.data.len() == regions && boxes.data.len() == 4 * regions;
    ensure!(
        fits && embeddings.data.len().is_multiple_of(regions) && !embeddings.data.is_empty(),
        "its patches don't fit together: {} shifts, {} scales, {} numbers of boxes and {} of embeddings",
        regions,
        scale.data.len(),
        boxes.data.len(),
        embeddings.data.len()
    );
    let embedding_size = embeddings.data.len() / regions;
    let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    let is_normalised =
        embeddings.data.chunks_exact(embedding_size).all(|row| (length(row) - 1.0).abs() < LENGTH_TOLERANCE);
    // Of centres and sizes some are further right than wide.
    let has_corners =
        boxes.data.as_chunks().0.iter().all(|[left, top, right, bottom]| left <= right && top <= bottom);
    let sample = embeddings.data.iter().take(embedding_size).copied().collect();
    Ok(StudentParts { regions, embedding_size, is_normalised, has_corners, sample })
}

/// Made-up captions, as tokens.
struct Captions {
    ids: Vec<i64>,
    mask: Vec<i64>,
    shape: [usize; 2],
}

impl Captions {
    fn new(source: &Source) -> Self {
        let (length, tokens) = (source.config.longest_caption.max(4), source.config.tokens.max(8) as i64);
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for caption in 0..CAPTIONS as i64 {
            // The last token ends a caption, and none is 0 at its beginning: that would hide it.
            let words = [tokens - 2, 1 + caption, 2 + 2 * caption % (tokens - 4), tokens - 1];
            ids.extend(words.into_iter().chain(std::iter::repeat_n(0, length - words.len())));
            mask.extend((0..length).map(|at| i64::from(at < words.len())));
        }
        Self { ids, mask, shape: [CAPTIONS, length] }
    }

    /// As those of a model's inputs that take captions.
    fn inputs<'a>(&'a self, names: impl Iterator<Item = &'a str>) -> Vec<Input<'a>> {
        let input = |name| {
            let data = match name {
                "input_ids" => &self.ids,
                "attention_mask" => &self.mask,
                _ => return None,
            };
            Some(Input { name, shape: &self.shape, data: TensorView::I64(data) })
        };
        names.filter_map(input).collect()
    }
}

/// The captions' embeddings of length 1, by the text half.
fn embedded(halves: &Halves, captions: &Captions, size: usize) -> Result<Vec<f32>> {
    let mut text = session(&graph::text_model(halves, None), "the captions' side of the export")?;
    let names: Vec<String> = text.inputs().iter().map(|port| port.name.clone()).collect();
    let found = text.run(&captions.inputs(names.iter().map(String::as_str))).with_context(|| {
        format!(
            "the model doesn't run on captions of {} tokens: does `text_config` in config.json fit it?",
            captions.shape[1]
        )
    })?;
    let numbers = found.first().map_or(0, |embeddings| embeddings.data.len());
    ensure!(
        numbers == CAPTIONS * size,
        "the captions' embeddings have {} numbers and the image's {size}: the text tower is another model's",
        numbers / CAPTIONS
    );
    Ok(of_length_1(&found[0].data, size))
}

fn of_length_1(rows: &[f32], size: usize) -> Vec<f32> {
    let mut rows = rows.to_vec();
    for row in rows.chunks_exact_mut(size) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt() + 1e-6;
        row.iter_mut().for_each(|x| *x /= length);
    }
    rows
}

/// `[K, captions]`: what the device computes before the logistic function.
fn logits_of(embeddings: &[f32], shift: &[f32], scale: &[f32], text: &[f32]) -> Vec<f32> {
    let size = text.len() / CAPTIONS;
    let regions = embeddings.chunks_exact(size).zip(shift.iter().zip(scale));
    regions
        .flat_map(|(region, (shift, scale))| {
            text.chunks_exact(size).map(move |caption| {
                let cosine: f32 = region.iter().zip(caption).map(|(a, b)| a * b).sum();
                (cosine + shift) * scale
            })
        })
        .collect()
}

/// Corners in pixels as the export has them: in shares of the sides, or as centre and size.
fn as_shares(boxes: &[f32], width: usize, height: usize, has_corners: bool) -> Vec<f32> {
    let (width, height) = (width as f32, height as f32);
    let shares = |[left, top, right, bottom]: &[f32; 4]| {
        if has_corners {
            return [left / width, top / height, right / width, bottom / height];
        }
        [
            (left + right) / 2.0 / width,
            (top + bottom) / 2.0 / height,
            (right - left) / width,
            (bottom - top) / height,
        ]
    };
    boxes.as_chunks().0.iter().flat_map(shares).collect()
}

fn largest_difference(halves: &[f32], whole: &[f32], what: &str) -> Result<f32> {
    ensure!(
        halves.len() == whole.len(),
        "the whole export has {} numbers of {what} and its halves together {}",
        whole.len(),
        halves.len()
    );
    let largest = whole.iter().fold(1.0, |largest: f32, value| largest.max(value.abs()));
    let differences = halves.iter().zip(whole).map(|(a, b)| (a - b).abs() / largest);
    // What is no number differs from everything.
    let worst =
        differences.fold(0.0, |worst: f32, difference| if difference <= worst { worst } else { difference });
    ensure!(
        worst <= TOLERANCE,
        "its {what} by the two halves are off by {worst:.2e} from those of the whole: the graph was cut wrongly, since it isn't \
         built as OWL's are"
    );
    Ok(worst)
}

/// A picture of soft waves, `[3, H, W]`.
fn picture(width: usize, height: usize) -> Vec<u8> {
    let level = |channel: usize, x: usize, y: usize| {
        let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
        let wave =
            ((9.0 + channel as f32) * x + 5.0 * y).sin() + (7.0 * y - (3.0 + channel as f32) * x).cos();
        (wave * 60.0 + 128.0) as u8
    };
    (0..3)
        .flat_map(|channel| (0..height).flat_map(move |y| (0..width).map(move |x| level(channel, x, y))))
        .collect()
}

fn normalised(source: &Source, image: &[u8]) -> Vec<f32> {
    let preprocessor = &source.preprocessor;
    let planes =
        image.chunks_exact(image.len() / 3).zip(preprocessor.factor.iter().zip(&preprocessor.offset));
    planes
        .flat_map(|(plane, (factor, offset))| {
            plane.iter().map(move |byte| f32::from(*byte) * factor + offset)
        })
        .collect()
}
