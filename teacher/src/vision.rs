//! The vision tower: crops of a photograph to embeddings of length 1.
//!
//! Takes a photograph and boxes. The embedding of a box is the normalised sum of two crops' embeddings, the box itself
//! and the box at one and a half times its size (ViLD, arXiv 2104.13921, section 3.3).
//!
//! CLIP's own preprocessing cuts the middle out of an image, so a long thin object would lose its ends. Here a crop is
//! resized whole into the model's square, and the rest is filled with the mean colour, which becomes zero in the
//! normalisation.

use std::path::Path;

use image::RgbImage;
use serde::Deserialize;
use serde::de::IgnoredAny;
use wordsight_engines::{Input, OnnxSession, Placement, TensorView};
use wordsight_pictures::resize::{FilterType, Resizer};

use crate::error::{TeacherError, read_json};
use crate::text::{mean_direction, output_named, run_rows, stated_size};

/// Crops a batch.
const BATCH: usize = 16;
/// The two crops of a box, as multiples of its sides.
const CROP_SCALES: [f32; 2] = [1.0, 1.5];
/// Names that exports give the output, best first.
const OUTPUTS: [&str; 2] = ["image_embeds", "pooler_output"];

/// The image model and what its images must look like.
pub(crate) struct VisionTower {
    session: OnnxSession,
    preprocessing: Preprocessing,
    output: usize,
    batch: usize,
    resizer: Resizer,
}

/// How pixel values become the model's input.
struct Preprocessing {
    side: usize,
    /// A pixel value x (0..255) becomes `x * scale + offset`, by channel.
    scale: [f32; 3],
    offset: [f32; 3],
    filter: FilterType,
}

/// The part of `preprocessor_config.json` that is read.
#[derive(Deserialize)]
struct PreprocessorConfig {
    do_center_crop: Option<bool>,
    crop_size: Option<SizeField>,
    size: Option<SizeField>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f32>,
    do_normalize: Option<bool>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    resample: Option<u8>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum SizeField {
    Side(usize),
    Sides {
        height: usize,
        width: usize,
    },
    ShortestEdge {
        shortest_edge: usize,
    },
    /// A form that leaves pictures which aren't square, `longest_edge` among them.
    Other(IgnoredAny),
}

/// A part of a photograph, in its pixels; always inside it and never empty.
#[derive(Clone, Copy, Debug)]
struct Crop {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl VisionTower {
    pub(crate) fn open(directory: &Path, placement: Placement) -> Result<Self, TeacherError> {
        let preprocessing = Preprocessing::read(&directory.join("preprocessor_config.json"))?;
        let model = directory.join("onnx/vision_model.onnx");
        let session = OnnxSession::open(&model, placement)?;
        let [input] = session.inputs() else {
            return Err(TeacherError::unusable(&model, "it has several inputs".to_owned()));
        };
        if input.name != "pixel_values" {
            return Err(TeacherError::unusable(
                &model,
                format!("its input is `{}`, not `pixel_values`", input.name),
            ));
        }
        let batch = match input.shape.first() {
            None | Some(..=0) => BATCH,
            Some(1) => 1,
            Some(fixed) => {
                return Err(TeacherError::unusable(&model, format!("its batch is fixed at {fixed} images")));
            }
        };
        let output = output_named(&session, &OUTPUTS, &model)?;
        Ok(Self { session, preprocessing, output, batch, resizer: Resizer::default() })
    }

    /// The embeddings' length, where the model states it.
    pub(crate) fn stated_size(&self) -> Option<usize> {
        stated_size(&self.session, self.output)
    }

    /// One embedding of length 1 a box `[x1, y1, x2, y2]`.
    pub(crate) fn embed(
        &mut self,
        image: &RgbImage,
        boxes_in_image: &[[f32; 4]],
    ) -> Result<Vec<Vec<f32>>, TeacherError> {
        let mut crops = Vec::with_capacity(boxes_in_image.len() * CROP_SCALES.len());
        for &box_in_image in boxes_in_image {
            for scale in CROP_SCALES {
                crops.push(Crop::around(box_in_image, scale, image)?);
            }
        }
        let mut embeddings = Vec::with_capacity(crops.len());
        for batch in crops.chunks(self.batch) {
            self.embed_batch(image, batch, &mut embeddings)?;
        }
        Ok(embeddings.chunks_exact(CROP_SCALES.len()).map(mean_direction).collect())
    }

    fn embed_batch(
        &mut self,
        image: &RgbImage,
        crops: &[Crop],
        embeddings: &mut Vec<Vec<f32>>,
    ) -> Result<(), TeacherError> {
        let side = self.preprocessing.side;
        // Zeros are the mean colour.
        let mut pixels = vec![0.0; crops.len() * 3 * side * side];
        for (crop, planes) in crops.iter().zip(pixels.chunks_exact_mut(3 * side * side)) {
            self.preprocessing.write(image, crop, &mut self.resizer, planes)?;
        }
        let shape = [crops.len(), 3, side, side];
        let input = Input { name: "pixel_values", shape: &shape, data: TensorView::F32(&pixels) };
        run_rows(&mut self.session, &[input], self.output, crops.len(), embeddings)
    }
}

impl Preprocessing {
    fn read(path: &Path) -> Result<Self, TeacherError> {
        let config: PreprocessorConfig = read_json(path)?;
        let crop_size = config.crop_size.filter(|_| config.do_center_crop != Some(false));
        let side = match crop_size.or(config.size) {
            Some(SizeField::Side(side) | SizeField::ShortestEdge { shortest_edge: side }) => side,
            Some(SizeField::Sides { height, width }) if height == width => height,
            _ => {
                let problem = "it states no square size: `size` or `crop_size` is to be a number, or to have \
                               `shortest_edge`, or `height` and `width` of one length";
                return Err(TeacherError::unusable(path, problem.to_owned()));
            }
        };
        if side == 0 {
            return Err(TeacherError::unusable(path, "its size is 0".to_owned()));
        }
        let rescale =
            if config.do_rescale == Some(false) { 1.0 } else { config.rescale_factor.unwrap_or(1.0 / 255.0) };
        let normalises = config.do_normalize != Some(false);
        let (mean, std) = match (config.image_mean, config.image_std) {
            _ if !normalises => ([0.0; 3], [1.0; 3]),
            (Some(mean), Some(std)) => (mean, std),
            _ => return Err(TeacherError::unusable(path, "it lacks image_mean or image_std".to_owned())),
        };
        if !std.iter().all(|std| std.is_normal()) {
            return Err(TeacherError::unusable(path, format!("its image_std is {std:?}")));
        }
        Ok(Self {
            side,
            scale: std.map(|std| rescale / std),
            offset: std::array::from_fn(|channel| -mean[channel] / std[channel]),
            filter: filter(config.resample).ok_or_else(|| {
                TeacherError::unusable(path, format!("its resample is {:?}", config.resample))
            })?,
        })
    }

    /// Writes a crop, whole and centred, into three planes that hold the padding already.
    fn write(
        &self,
        image: &RgbImage,
        crop: &Crop,
        resizer: &mut Resizer,
        planes: &mut [f32],
    ) -> Result<(), TeacherError> {
        let (width, height) = self.size_of(crop);
        let (left, top) = ((self.side - width) / 2, (self.side - height) / 2);
        let resized = resize(image, crop, (width, height), self.filter, resizer)?;
        for (y, row) in resized.rows().enumerate() {
            for channel in 0..3 {
                let start = (channel * self.side + top + y) * self.side + left;
                for (value, pixel) in planes[start..start + width].iter_mut().zip(row.clone()) {
                    *value = f32::from(pixel.0[channel]) * self.scale[channel] + self.offset[channel];
                }
            }
        }
        Ok(())
    }

    /// Width and height of a crop in the model's square, at least a pixel each.
    fn size_of(&self, crop: &Crop) -> (usize, usize) {
        let scale = self.side as f64 / f64::from(crop.width.max(crop.height));
        let pixels = |length: u32| ((f64::from(length) * scale).round() as usize).clamp(1, self.side);
        (pixels(crop.width), pixels(crop.height))
    }
}

/// The filter that `resample` means as PIL counts them; bicubic, which all these models were trained with, where it is
/// not said.
fn filter(resample: Option<u8>) -> Option<FilterType> {
    match resample {
        Some(1) => Some(FilterType::Lanczos3),
        Some(2) => Some(FilterType::Bilinear),
        Some(3) | None => Some(FilterType::CatmullRom),
        Some(4) => Some(FilterType::Box),
        Some(5) => Some(FilterType::Hamming),
        Some(_) => None,
    }
}

impl Crop {
    /// The part of the image that a box covers when its sides are multiplied by `scale` about its centre.
    fn around(box_in_image: [f32; 4], scale: f32, image: &RgbImage) -> Result<Self, TeacherError> {
        let (image_width, image_height) = (image.width() as usize, image.height() as usize);
        let empty = TeacherError::EmptyBox { box_in_image, width: image_width, height: image_height };
        if !box_in_image.iter().all(|x| x.is_finite()) {
            return Err(empty);
        }
        let [x1, y1, x2, y2] = box_in_image.map(f64::from);
        let side = |low: f64, high: f64, limit: usize| {
            let (centre, half) = (f64::midpoint(low, high), (high - low) / 2.0 * f64::from(scale));
            let (low, high) = ((centre - half).max(0.0), (centre + half).min(limit as f64));
            (low < high).then(|| (low.floor() as u32, (high.ceil() - low.floor()) as u32))
        };
        match (side(x1, x2, image_width), side(y1, y2, image_height)) {
            (Some((left, width)), Some((top, height))) => Ok(Self { left, top, width, height }),
            _ => Err(empty),
        }
    }
}

/// A crop of an image at another size, row by row.
///
/// Rows first and columns after, as Pillow does it, which CLIP's own preprocessing resizes with: in one go
/// fast_image_resize takes the columns first, and a fifth of the values come out different by a level, a few by more.
fn resize(
    image: &RgbImage,
    crop: &Crop,
    (width, height): (usize, usize),
    filter: FilterType,
    resizer: &mut Resizer,
) -> Result<RgbImage, TeacherError> {
    // Cut out first and resized whole: with a crop box of its own, fast_image_resize 6.1 has read
    // outside of the picture.
    let cut = image::imageops::crop_imm(image, crop.left, crop.top, crop.width, crop.height).to_image();
    let narrowed = resizer.resize(&cut, [width as u32, cut.height()], filter)?;
    Ok(resizer.resize(&narrowed, [width as u32, height as u32], filter)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn preprocessing(config: &str) -> Result<Preprocessing, TeacherError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preprocessor_config.json");
        std::fs::write(&path, config).unwrap();
        Preprocessing::read(&path)
    }

    const CLIP: &str = r#"{"crop_size": {"height": 8, "width": 8}, "size": {"shortest_edge": 9}, "do_rescale": true,
        "rescale_factor": 0.00392156862745098, "do_normalize": true, "resample": 3,
        "image_mean": [0.5, 0.4, 0.2], "image_std": [0.25, 0.5, 0.5]}"#;

    #[test]
    fn clip_s_configuration_is_understood() {
        let read = preprocessing(CLIP).unwrap();
        assert_eq!((read.side, read.filter), (8, FilterType::CatmullRom));
        let white: Vec<f32> = (0..3).map(|c| 255.0 * read.scale[c] + read.offset[c]).collect();
        for (value, expected) in white.iter().zip([2.0, 1.2, 1.6]) {
            assert!((value - expected).abs() < 1e-5, "{white:?}");
        }
    }

    #[test]
    fn a_configuration_without_a_square_is_refused() {
        for size in [r#"{"height": 8, "width": 9}"#, r#"{"longest_edge": 260}"#, "[]"] {
            let error = preprocessing(&format!(r#"{{"size": {size}}}"#)).err().unwrap().to_string();
            assert!(error.contains("preprocessor_config.json") && error.contains("square"), "{error}");
        }
    }

    #[test]
    fn sizes_are_read_in_every_form_that_files_have() {
        let side = |sizes: &str| {
            let config =
                format!(r#"{{{sizes}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}}"#);
            preprocessing(&config).unwrap().side
        };
        assert_eq!(side(r#""size": 9, "crop_size": 8"#), 8);
        assert_eq!(side(r#""size": {"height": 9, "width": 9}"#), 9);
        assert_eq!(side(r#""size": {"shortest_edge": 9}, "crop_size": {"height": 8, "width": 8}"#), 8);
        // SigLIP's processor doesn't cut at all.
        assert_eq!(side(r#""size": {"height": 9, "width": 9}, "crop_size": 8, "do_center_crop": false"#), 9);
    }

    #[test]
    fn filters_are_numbered_as_pillow_numbers_them() {
        let filter =
            |code: &str| preprocessing(&CLIP.replace("\"resample\": 3", &format!("\"resample\": {code}")));
        assert_eq!(filter("1").unwrap().filter, FilterType::Lanczos3);
        assert_eq!(filter("2").unwrap().filter, FilterType::Bilinear);
        assert_eq!(filter("null").unwrap().filter, FilterType::CatmullRom);
        assert!(filter("0").err().unwrap().to_string().contains("resample"));
    }

    #[test]
    fn a_normalisation_without_its_numbers_is_refused() {
        let error = preprocessing(r#"{"size": 8, "image_mean": [0.5, 0.5, 0.5]}"#).err().unwrap().to_string();
        assert!(error.contains("image_std"), "{error}");
        assert_eq!(preprocessing(r#"{"size": 8, "do_normalize": false}"#).unwrap().offset, [0.0; 3]);
    }

    /// Pillow is what transformers resizes with; `tests/reference_clip.py` made the pictures. Measured: at most 32 of
    /// 4800 values differ, and by 1.
    #[test]
    fn pictures_are_resized_as_by_pillow() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        for side in [32, 40] {
            for name in ["square20", "square32", "square40", "square77", "square120"] {
                let open = |folder: &str| {
                    image::open(fixtures.join(format!("{folder}/{name}.png"))).unwrap().to_rgb8()
                };
                let (source, theirs) = (open("images"), open(&format!("resized/{side}")));
                let whole = Crop { left: 0, top: 0, width: source.width(), height: source.height() };
                let filter = FilterType::CatmullRom;
                let ours = resize(&source, &whole, (side, side), filter, &mut Resizer::default()).unwrap();
                let both = ours.as_raw().iter().zip(theirs.as_raw());
                let differences: Vec<u8> = both.map(|(a, b)| a.abs_diff(*b)).filter(|&x| x > 0).collect();
                assert!(differences.iter().all(|&x| x == 1), "{name} to {side}: {differences:?}");
                assert!(differences.len() * 100 <= theirs.len(), "{name} to {side}: {}", differences.len());
            }
        }
    }

    #[test]
    fn a_long_crop_is_kept_whole_between_bars_of_the_mean_colour() {
        let read = preprocessing(CLIP).unwrap();
        // 16x4: a white left end, a black right end.
        let image = RgbImage::from_fn(16, 4, |x, _| image::Rgb(if x < 8 { [255; 3] } else { [0; 3] }));
        let crop = Crop::around([0.0, 0.0, 16.0, 4.0], 1.0, &image).unwrap();
        let mut planes = vec![0.0; 3 * 64];
        read.write(&image, &crop, &mut Resizer::default(), &mut planes).unwrap();
        let red_row = |y: usize| &planes[y * 8..(y + 1) * 8];
        for y in [0, 1, 2, 5, 6, 7] {
            assert!(red_row(y).iter().all(|&x| x == 0.0), "row {y} is padding");
        }
        for y in [3, 4] {
            assert!(
                (red_row(y)[0] - 2.0).abs() < 1e-5 && (red_row(y)[7] + 2.0).abs() < 1e-5,
                "{:?}",
                red_row(y)
            );
        }
    }

    #[test]
    fn a_crop_grows_about_its_centre_and_stops_at_the_border() {
        let image = RgbImage::new(100, 100);
        let crop = Crop::around([40.0, 0.0, 60.0, 20.0], 1.5, &image).unwrap();
        assert_eq!((crop.left, crop.top, crop.width, crop.height), (35, 0, 30, 25));
    }

    #[test]
    fn a_box_without_area_in_the_image_is_an_error_that_shows_it() {
        let image = RgbImage::new(100, 50);
        for bad in [[10.0, 10.0, 10.0, 20.0], [200.0, 0.0, 300.0, 10.0], [f32::NAN, 0.0, 5.0, 5.0]] {
            let error = Crop::around(bad, 1.0, &image).unwrap_err().to_string();
            assert!(error.contains("100x50"), "{error}");
        }
    }
}
