//! YOLOX, a detector of fixed words, as its own export writes it to ONNX.
//!
//! Takes a photograph of any size, and returns [`Answer`]s: boxes in the photograph's pixels with one word each, after
//! suppression.
//!
//! Its input is `1x3xSxS`, blue, green, red from 0 to 255, the photograph in the upper left corner of a grey of 114.
//! Its output has a row for each cell of strides 8, 16 and 32: the centre's offset from the cell's corner and the
//! logarithm of width and height, all in strides, then objectness and the words' scores, both after the sigmoid.
//! <https://github.com/Megvii-BaseDetection/YOLOX>, arXiv 2107.08430.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use wordsight_detection::{Letterbox, Preprocessor, ResizeSettings, iou};
use wordsight_engines::{Input, OnnxSession, TensorView};
use wordsight_onnx::proto::{ModelProto, ValueInfoProto};

const STRIDES: [usize; 3] = [8, 16, 32];
const PADDING: f32 = 114.0;
/// Numbers of a row before the words' scores: centre, size, objectness.
const BEFORE_WORDS: usize = 5;
/// The most boxes of one photograph that suppression looks at.
const MOST_CANDIDATES: usize = 1000;

/// The 80 words of a detector that COCO trained, in its output's order, one a line.
pub const COCO_NAMES: &str = include_str!("coco_names.txt");

/// One thing that a detector found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Its word's place in the detector's list.
    pub word: usize,
    /// Objectness times the word's score, 0 to 1.
    pub score: f32,
    /// `[x1, y1, x2, y2]` in the photograph's pixels.
    pub corners_in_frame: [f32; 4],
}

/// What a detector says of every cell, whatever its words: strides 8, 16 and 32, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dense {
    /// Objectness times the best word's score, 0 to 1.
    pub scores: Vec<f32>,
    /// The words' scores, 0 to 1, `[cells, words]`.
    pub word_scores: Vec<f32>,
    /// `[x1, y1, x2, y2]` in pixels of the input.
    pub boxes_in_input: Vec<[f32; 4]>,
    /// The features that words and box are predicted from, `[cells, features]`.
    pub features: Vec<f32>,
}

impl Dense {
    /// The cells of at least this score.
    pub fn sure_cells(&self, least_score: f32) -> Vec<usize> {
        (0..self.scores.len()).filter(|&cell| self.scores[cell] >= least_score).collect()
    }

    /// The words' scores of a cell.
    pub fn word_scores_of(&self, cell: usize) -> &[f32] {
        let words = self.word_scores.len() / self.scores.len().max(1);
        &self.word_scores[cell * words..(cell + 1) * words]
    }
}

/// How many boxes of one photograph are left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suppression {
    /// Boxes of a lower score are left out.
    pub score_threshold: f32,
    /// Of two boxes of one word that overlap by more than this IoU, the better stays.
    pub same_word_iou: f32,
    /// The same for two boxes of any words.
    pub any_word_iou: f32,
}

/// A detector that is loaded and ready to run, on one thread.
pub struct Yolox {
    session: OnnxSession,
    names: Arc<[String]>,
    side: usize,
    /// Channels of the outputs behind the first: for each stride the map that words are predicted from, and the map that the
    /// box is.
    features: Vec<usize>,
    input: Vec<f32>,
    planes: Vec<u8>,
}

impl Yolox {
    /// Opens a detector for these words.
    ///
    /// # Errors
    /// When the file is no ONNX model or not shaped as YOLOX with so many words is.
    pub fn open(path: &Path, names: Arc<[String]>) -> Result<Self> {
        Self::of_session(OnnxSession::open(path, 1)?, path, names)
    }

    /// The same with the features that words and boxes are predicted from, for [`Self::dense`].
    ///
    /// # Errors
    /// As [`Self::open`], and when the file's heads are not YOLOX's.
    pub fn open_with_features(path: &Path, names: Arc<[String]>) -> Result<Self> {
        let mut model = wordsight_onnx::read(path)?;
        let features = output_features(&mut model, names.len())
            .with_context(|| format!("{}: it has not the three heads of YOLOX", path.display()))?;
        let bytes = wordsight_onnx::encode(&model);
        let session = OnnxSession::from_bytes(&bytes, &path.display().to_string(), 1)?;
        Ok(Self { features, ..Self::of_session(session, path, names)? })
    }

    /// Features of a cell that [`Self::dense`] returns; 0 if it was opened without.
    pub fn features(&self) -> usize {
        self.features.iter().take(self.features.len() / STRIDES.len()).sum()
    }

    fn of_session(session: OnnxSession, path: &Path, names: Arc<[String]>) -> Result<Self> {
        let shape = session.inputs().first().map_or(&[][..], |input| &input.shape);
        let &[1, 3, height, width] = shape else {
            anyhow::bail!("{}: its input is {shape:?}, YOLOX takes [1, 3, S, S]", path.display());
        };
        ensure!(
            height == width && height >= 32 && height % 32 == 0,
            "{}: its input is {width}x{height}, YOLOX takes squares whose side is a multiple of 32",
            path.display()
        );
        let side = height as usize;
        let output = session.outputs().first().map_or(&[][..], |output| &output.shape);
        let expected = [1, cells(side) as i64, (BEFORE_WORDS + names.len()) as i64];
        ensure!(
            output.len() == 3
                && output.iter().zip(expected).all(|(&size, wanted)| size == wanted || size < 0),
            "{}: its output is {output:?}, YOLOX with {} words has {expected:?}: name its words with --names",
            path.display(),
            names.len()
        );
        let input = vec![PADDING; 3 * side * side];
        Ok(Self { session, names, side, features: Vec::new(), input, planes: Vec::new() })
    }

    /// Its words, in the output's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Finds things in a photograph, best first.
    ///
    /// # Errors
    /// When ONNX Runtime fails or the output has another shape than the file said.
    pub fn detect(&mut self, picture: &RgbImage, suppression: &Suppression) -> Result<Vec<Answer>> {
        ensure!(picture.width() > 0 && picture.height() > 0, "the picture has no pixels");
        let letterbox =
            self.fill_input(picture.as_raw(), picture.width() as usize, picture.height() as usize);
        let (side, words) = (self.side, self.names.len());
        let mut found = self.run(|rows| decode(rows, side, words, suppression.score_threshold), |_| ())?;
        for answer in &mut found {
            answer.corners_in_frame = letterbox.box_in_frame_from_input(answer.corners_in_frame);
        }
        found.retain(|answer| {
            let [x1, y1, x2, y2] = answer.corners_in_frame;
            x2 - x1 >= 1.0 && y2 - y1 >= 1.0
        });
        Ok(suppress(found, suppression))
    }

    /// Side of its input in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Its outputs for every cell of an input, RGB bytes `[side, side, 3]`, which is resized to the detector's own size.
    ///
    /// # Errors
    /// When there are not as many bytes, ONNX Runtime fails or the output has another shape than the file said.
    pub fn dense(&mut self, pixels: &[u8], input_side: usize) -> Result<Dense> {
        let (side, words) = (self.side, self.names.len());
        ensure!(
            input_side > 0 && pixels.len() == 3 * input_side * input_side,
            "an input of {input_side}x{input_side} pixels has {} bytes",
            pixels.len()
        );
        self.fill_input(pixels, input_side, input_side);
        let scale = input_side as f32 / side as f32;
        let channels = self.features.clone();
        let mut maps = Vec::new();
        let mut dense = self.run(
            |rows| {
                let mut dense = Dense::default();
                for (row, place) in rows.chunks_exact(BEFORE_WORDS + words).zip(places(side)) {
                    let (score, corners) = answer_of(row, place)
                        .map_or((0.0, [0.0; 4]), |answer| (answer.score, answer.corners_in_frame));
                    dense.scores.push(score);
                    dense.boxes_in_input.push(corners.map(|x| x * scale));
                    dense.word_scores.extend_from_slice(&row[BEFORE_WORDS..]);
                }
                dense
            },
            |map| maps.push(map.to_vec()),
        )?;
        ensure!(maps.len() == channels.len(), "the detector has other maps than its file says");
        let heads = channels.len() / STRIDES.len();
        for (level, stride) in STRIDES.iter().enumerate().take_while(|_| heads > 0) {
            let cells = (side / stride).pow(2);
            let of_level = level * heads..(level + 1) * heads;
            for cell in 0..cells {
                for (map, &channels) in maps[of_level.clone()].iter().zip(&channels[of_level.clone()]) {
                    dense.features.extend((0..channels).map(|channel| map[channel * cells + cell]));
                }
            }
        }
        Ok(dense)
    }

    /// Runs it on its input and reads the output's rows, and each of the maps behind it.
    fn run<T>(&mut self, read: impl FnOnce(&[f32]) -> T, mut read_map: impl FnMut(&[f32])) -> Result<T> {
        let port = self.session.inputs().first().context("the detector has no input")?.name.clone();
        let shape = [1, 3, self.side, self.side];
        let input = Input { name: &port, shape: &shape, data: TensorView::F32(&self.input) };
        let expected = cells(self.side) * (BEFORE_WORDS + self.names.len());
        let (mut read, mut answer) = (Some(read), None);
        self.session.run_each(&[input], |place, _, rows| {
            if place > 0 {
                read_map(rows);
            } else if rows.len() == expected {
                answer = read.take().map(|read| read(rows));
            }
        })?;
        answer.context("the detector's output has another shape than its file says")
    }

    /// Writes a photograph, rows of interleaved RGB, into the upper left corner of the input.
    fn fill_input(&mut self, rgb: &[u8], width: usize, height: usize) -> Letterbox {
        let (across, down) = Letterbox::new((width, height), (self.side, self.side)).resized_size();
        let mut preprocessor = Preprocessor::new(ResizeSettings::letterbox(across, down));
        self.planes.resize(preprocessor.output_len(), 0);
        let letterbox = preprocessor.run(rgb, width, height, &mut self.planes);
        self.input.fill(PADDING);
        let planes = self.planes.chunks_exact(across * down).rev(); // red, green, blue to blue, green, red
        for (plane, into) in planes.zip(self.input.chunks_exact_mut(self.side * self.side)) {
            for (row, into) in plane.chunks_exact(across).zip(into.chunks_exact_mut(self.side)) {
                for (&value, into) in row.iter().zip(into) {
                    *into = f32::from(value);
                }
            }
        }
        letterbox
    }
}

/// Makes outputs of the maps that each stride's words and box are predicted from; their channels, in the outputs' order.
fn output_features(model: &mut ModelProto, words: usize) -> Result<Vec<usize>> {
    let graph = model.graph.as_mut().context("the file has no graph")?;
    let shape = |name: &String| graph.initializer.iter().find(|weight| &weight.name == name).map(|w| &w.dims);
    let mut maps: Vec<(String, usize)> = Vec::new();
    for node in graph.node.iter().filter(|node| node.op_type == "Conv") {
        let (Some(map), Some(Some(&[outputs, inputs, 1, 1]))) =
            (node.input.first(), node.input.get(1).map(|name| shape(name).map(Vec::as_slice)))
        else {
            continue;
        };
        // The objectness is told from the box's map.
        if outputs as usize == words || outputs == 4 {
            maps.push((map.clone(), inputs as usize));
        }
    }
    ensure!(maps.len() == 2 * STRIDES.len(), "{} of its convolutions tell words or boxes", maps.len());
    for (map, _) in &maps {
        graph.output.push(ValueInfoProto { name: map.clone(), r#type: None });
    }
    Ok(maps.into_iter().map(|(_, channels)| channels).collect())
}

/// Rows of the output for an input of this side.
fn cells(side: usize) -> usize {
    STRIDES.iter().map(|stride| (side / stride).pow(2)).sum()
}

/// A cell's stride, column and row.
type Place = (f32, f32, f32);

/// The places of all cells of an input of this side.
fn places(side: usize) -> impl Iterator<Item = Place> {
    STRIDES.into_iter().flat_map(move |stride| {
        let grid = side / stride;
        (0..grid * grid).map(move |cell| (stride as f32, (cell % grid) as f32, (cell / grid) as f32))
    })
}

/// The boxes of an output, in the input's pixels, each with its best word.
fn decode(rows: &[f32], side: usize, words: usize, score_threshold: f32) -> Vec<Answer> {
    rows.chunks_exact(BEFORE_WORDS + words)
        .zip(places(side))
        .filter(|(row, _)| row[BEFORE_WORDS - 1] >= score_threshold)
        .filter_map(|(row, place)| answer_of(row, place))
        .filter(|answer| answer.score >= score_threshold)
        .collect()
}

/// What a row says of its cell; none where its numbers are none.
fn answer_of(row: &[f32], (stride, column, line): Place) -> Option<Answer> {
    let (&[x, y, width, height, objectness], scores) = row.split_first_chunk()?;
    let (word, best) = scores.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let (centre_x, centre_y) = ((x + column) * stride, (y + line) * stride);
    let (half_width, half_height) = (width.exp() * stride / 2.0, height.exp() * stride / 2.0);
    let corners_in_frame =
        [centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height];
    let answer = Answer { word, score: objectness * best, corners_in_frame };
    (answer.score.is_finite() && corners_in_frame.iter().all(|side| side.is_finite())).then_some(answer)
}

/// Non-maximum suppression; what is left, best first.
fn suppress(mut found: Vec<Answer>, suppression: &Suppression) -> Vec<Answer> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(MOST_CANDIDATES);
    let mut kept: Vec<Answer> = Vec::new();
    for answer in found {
        let is_double = kept.iter().any(|better| {
            let overlap = iou(better.corners_in_frame, answer.corners_in_frame);
            overlap > suppression.any_word_iou
                || (better.word == answer.word && overlap > suppression.same_word_iou)
        });
        if !is_double {
            kept.push(answer);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use wordsight_onnx::proto::ElementType;
    use wordsight_onnx::{Graph, Storage};

    use super::*;

    const SUPPRESSION: Suppression =
        Suppression { score_threshold: 0.1, same_word_iou: 0.5, any_word_iou: 0.65 };

    fn answer(word: usize, score: f32, corners_in_frame: [f32; 4]) -> Answer {
        Answer { word, score, corners_in_frame }
    }

    #[test]
    fn a_cell_of_each_stride_tells_its_box_in_pixels() {
        let (side, words) = (64, 2);
        let mut rows = vec![0.0; cells(side) * (BEFORE_WORDS + words)];
        // Strides 8, 16, 32 have 64, 16 and 4 cells. Column 3 of line 2, then column 1 of line 0, then the last.
        for (cell, row) in [
            (2 * 8 + 3, [0.5, 0.25, 0.0, 2f32.ln(), 0.5, 0.1, 0.8]),
            (64 + 1, [0.0, 1.0, 0.0, 0.0, 1.0, 0.9, 0.1]),
            (64 + 16 + 3, [0.5, 0.5, 0.0, 0.0, 0.05, 1.0, 0.0]),
        ] {
            rows[cell * row.len()..(cell + 1) * row.len()].copy_from_slice(&row);
        }
        assert_eq!(
            decode(&rows, side, words, 0.1),
            [answer(1, 0.4, [24.0, 10.0, 32.0, 26.0]), answer(0, 0.9, [8.0, 8.0, 24.0, 24.0]),],
            "the last is below the threshold"
        );
    }

    /// A model whose heads for three strides predict `words` words from three channels and a box from five.
    fn model_with_heads(words: usize) -> ModelProto {
        let mut graph = Graph::new("detector", Storage::F32);
        for stride in STRIDES {
            let cells = (64 / stride) as i64;
            for (outputs, inputs) in [(words, 3), (4, 5), (1, 5)] {
                let name = format!("{stride}-{outputs}");
                let map = graph.input(&name, ElementType::Float, &[1, inputs as i64, cells, cells]);
                let weight = graph.floats(&[outputs, inputs, 1, 1], &vec![0.0; outputs * inputs]);
                graph.node("Conv", &[&map, &weight], &[]);
            }
        }
        graph.into_model(&[])
    }

    #[test]
    fn the_maps_that_words_and_boxes_are_told_from_become_outputs() {
        let mut model = model_with_heads(7);
        assert_eq!(output_features(&mut model, 7).unwrap(), [3, 5, 3, 5, 3, 5]);
        let outputs = model.graph.unwrap().output;
        let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names, ["8-7", "8-4", "16-7", "16-4", "32-7", "32-4"]);
        let error = output_features(&mut model_with_heads(7), 80).unwrap_err().to_string();
        assert!(error.contains("3 of its convolutions tell words or boxes"), "{error}");
    }

    #[test]
    fn numbers_that_are_none_make_no_box() {
        let mut rows = vec![0.0; cells(32) * 6];
        rows[..6].copy_from_slice(&[0.5, 0.5, f32::INFINITY, 0.0, 1.0, 1.0]);
        rows[6..12].copy_from_slice(&[0.5, 0.5, 0.0, 0.0, f32::NAN, 1.0]);
        rows[12..18].copy_from_slice(&[0.5, 0.5, 0.0, 0.0, 1.0, f32::NAN]);
        assert_eq!(decode(&rows, 32, 1, 0.1), []);
    }

    #[test]
    fn of_boxes_of_one_thing_the_best_is_left_and_other_words_may_overlap_more() {
        let found = vec![
            answer(0, 0.5, [0.0, 0.0, 10.0, 10.0]),
            answer(0, 0.9, [0.0, 0.0, 10.0, 9.0]),
            answer(1, 0.8, [0.0, 0.0, 10.0, 5.0]),
            answer(1, 0.7, [1.0, 0.0, 10.0, 9.0]),
        ];
        let kept = suppress(found, &SUPPRESSION);
        assert_eq!(kept.iter().map(|kept| (kept.word, kept.score)).collect::<Vec<_>>(), [(0, 0.9), (1, 0.8)]);
    }
}
