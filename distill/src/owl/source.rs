//! The files of an export: graphs, and what stands beside them in JSON.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use wordsight_detection::{ResizeFilter, ResizeMode};
use wordsight_onnx::proto::{ModelProto, TensorProto};
use wordsight_teacher::read_json;

/// How long a caption may be where `config.json` doesn't say: OWL's.
const LONGEST_CAPTION: usize = 16;
/// The most bytes of a JSON file.
const LONGEST_JSON: u64 = 256 << 20;
/// The most of either: more than any text tower has.
const MOST_TOKENS: u64 = 1 << 20;
/// How many tokens there are where it doesn't say: CLIP's.
const TOKENS: usize = 49_408;
/// The most bytes of weights that one file can hold: protocol buffers end at 2 GiB.
const MOST_BYTES: u64 = (1 << 31) - (1 << 20);

/// An export.
pub(super) struct Source {
    /// Where the JSON files are.
    pub folder: PathBuf,
    /// One graph with both towers, or two.
    pub graphs: Vec<(PathBuf, ModelProto)>,
    pub config: Config,
    pub preprocessor: Preprocessor,
}

/// What `config.json` says.
pub(super) struct Config {
    pub name: String,
    pub model_type: String,
    pub longest_caption: usize,
    pub tokens: usize,
}

/// What `preprocessor_config.json` says.
pub(super) struct Preprocessor {
    pub input_size: (usize, usize),
    pub mode: ResizeMode,
    pub filter: ResizeFilter,
    pub padding: [u8; 3],
    /// What bytes are multiplied by, and then added to them, to become what the model takes; per channel.
    pub factor: [f32; 3],
    pub offset: [f32; 3],
}

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        let (folder, files) = files_of(path)?;
        for name in ["config.json", "preprocessor_config.json", "tokenizer.json"] {
            let path = folder.join(name);
            wordsight_files::open_whole(&path, LONGEST_JSON)
                .with_context(|| format!("cannot read {}, which comes with the export", path.display()))?;
        }
        let config = Config::read(&folder)?;
        let preprocessor = Preprocessor::read(&folder, &config)?;
        let mut graphs = Vec::new();
        for file in files {
            let mut model = wordsight_onnx::read(&file)?;
            check_operators(&model).with_context(|| format!("{} can't be imported", file.display()))?;
            load_weights_beside(&mut model, &file)?;
            graphs.push((file, model));
        }
        Ok(Self { folder, graphs, config, preprocessor })
    }
}

/// The folder of the JSON files, and the graphs: one with both towers, or two.
fn files_of(path: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    if path.exists() && !path.is_dir() {
        let parent = wordsight_files::folder_of(path);
        let is_below =
            !parent.join("config.json").is_file() && parent.file_name().is_some_and(|name| name == "onnx");
        let folder = if is_below { parent.join("..") } else { parent.to_owned() };
        return Ok((folder, vec![path.to_owned()]));
    }
    ensure!(path.is_dir(), "there is no {}: name an export's folder or its model.onnx", path.display());
    for folder in [path.to_owned(), path.join("onnx")] {
        if folder.join("model.onnx").is_file() {
            return Ok((path.to_owned(), vec![folder.join("model.onnx")]));
        }
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut graphs: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.extension().is_some_and(|extension| extension == "onnx"))
            .collect();
        graphs.sort();
        match graphs.len() {
            0 => {}
            1 | 2 => return Ok((path.to_owned(), graphs)),
            count => bail!("{} has {count} .onnx files: name the one with both towers", folder.display()),
        }
    }
    bail!("{} has no .onnx file", path.display())
}

impl Config {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let config: Value = read_json(&path)?;
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let Some(model_type) =
            text(&config["model_type"]).filter(|kind| ["owlvit", "owlv2"].contains(&kind.as_str()))
        else {
            bail!(
                "{} says that its model is of the type {}, and `owlvit` and `owlv2` can be imported",
                path.display(),
                config["model_type"]
            );
        };
        let named = text(&config["_name_or_path"]);
        let last = named.as_deref().and_then(|name| name.trim_end_matches('/').rsplit('/').next());
        let number = |key: &str, default: usize| -> Result<usize> {
            let value = &config["text_config"][key];
            let number = if value.is_null() { Some(default as u64) } else { value.as_u64() };
            let number = number.filter(|number| (4..=MOST_TOKENS).contains(number));
            let number = number.with_context(|| {
                format!(
                    "{}: `text_config.{key}` is {value}, and must be from 4 to {MOST_TOKENS}",
                    path.display()
                )
            })?;
            Ok(number as usize)
        };
        Ok(Self {
            name: last.filter(|name| !name.is_empty()).unwrap_or(&model_type).to_owned(),
            longest_caption: number("max_position_embeddings", LONGEST_CAPTION)?,
            tokens: number("vocab_size", TOKENS)?,
            model_type,
        })
    }
}

/// The part of `preprocessor_config.json` that is read.
#[derive(Deserialize)]
struct PreprocessorFile {
    size: Value,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    rescale_factor: Option<f32>,
    resample: Option<u32>,
    do_pad: Option<bool>,
    do_center_crop: Option<bool>,
    do_resize: Option<bool>,
    do_normalize: Option<bool>,
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
}

impl PreprocessorFile {
    /// Whose processor it is of, where it says so: `Owlv2ImageProcessor`, `OwlViTFeatureExtractor`.
    fn model_type(&self) -> Option<&'static str> {
        let named =
            self.image_processor_type.as_ref().or(self.feature_extractor_type.as_ref())?.to_lowercase();
        ["owlvit", "owlv2"].into_iter().find(|kind| named.starts_with(kind))
    }

    /// Width and height of the model's input, in pixels.
    fn input_size(&self) -> Option<(usize, usize)> {
        let side =
            |value: &Value| value.as_u64().map(|side| side as usize).filter(|side| (1..=4096).contains(side));
        let (height, width) = match &self.size {
            Value::Object(size) => (size.get("height").and_then(side), size.get("width").and_then(side)),
            Value::Array(size) => (size.first().and_then(side), size.get(1).and_then(side)),
            other => (side(other), side(other)),
        };
        width.zip(height)
    }
}

/// CLIP's, which OWL's are trained with.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

impl Preprocessor {
    fn read(folder: &Path, config: &Config) -> Result<Self> {
        let path = folder.join("preprocessor_config.json");
        let file: PreprocessorFile = read_json(&path)?;
        ensure!(
            file.do_resize != Some(false),
            "{} has no do_resize, and a camera's frames are of other sizes than a model's input",
            path.display()
        );
        ensure!(
            file.do_center_crop != Some(true),
            "{} has do_center_crop, which a detector can't have: what is cut off is never found",
            path.display()
        );
        // The graphs of both are alike, so that only these two files tell which it is.
        if let Some(other) = file.model_type().filter(|kind| *kind != config.model_type) {
            bail!(
                "{} is of an {other}, and config.json beside it says `{}`: take both from one model",
                path.display(),
                config.model_type
            );
        }
        let Some(input_size) = file.input_size() else {
            bail!("{}: `size` is {}, and must be a height and a width", path.display(), file.size);
        };
        let is_padded = file.do_pad.unwrap_or(config.model_type == "owlv2");
        let (mode, filter) = match (is_padded, file.resample) {
            (true, _) => (ResizeMode::Pad, ResizeFilter::Gaussian),
            // PIL's numbers.
            (false, Some(2)) => (ResizeMode::Stretch, ResizeFilter::Bilinear),
            (false, Some(3) | None) => (ResizeMode::Stretch, ResizeFilter::Bicubic),
            (false, Some(other)) => {
                bail!("{}: `resample` is {other}, and 2 (bilinear) and 3 (bicubic) are known", path.display())
            }
        };
        let normalises = file.do_normalize.unwrap_or(true);
        let mean = if normalises { file.image_mean.unwrap_or(MEAN) } else { [0.0; 3] };
        let deviation = if normalises { file.image_std.unwrap_or(DEVIATION) } else { [1.0; 3] };
        let rescale = file.rescale_factor.unwrap_or(1.0 / 255.0);
        let is_above_0 = |number: &f32| *number > 0.0 && number.is_finite();
        ensure!(
            deviation.iter().all(is_above_0)
                && is_above_0(&rescale)
                && mean.iter().all(|mean| mean.is_finite()),
            "{}: `image_std` is {deviation:?} and `rescale_factor` {rescale}, and must be above 0",
            path.display()
        );
        Ok(Self {
            input_size,
            mode,
            filter,
            // OWLv2 pads with one half; of whole levels this is the nearer one to what training has seen.
            padding: [128; 3],
            factor: deviation.map(|deviation| rescale / deviation),
            offset: [0, 1, 2].map(|channel| -mean[channel] / deviation[channel]),
        })
    }
}

/// That a graph is of ONNX's own operators, of a version whose meaning is known.
fn check_operators(model: &ModelProto) -> Result<()> {
    let own = model.opset_import.iter().find(|set| set.domain.is_empty() || set.domain == "ai.onnx");
    let version = own.map_or(0, |set| set.version);
    ensure!(
        (11..=22).contains(&version),
        "it is of operator set {version}, and 11 to 22 are known: export it with --opset 17"
    );
    ensure!(
        model.functions.is_empty()
            && model.graph.as_ref().is_some_and(|graph| graph.sparse_initializer.is_empty()),
        "it has functions or sparse weights of its own: export it by torch.onnx.export with dynamo=False"
    );
    let others = model.graph.iter().flat_map(|graph| &graph.node);
    let foreign = others.map(|node| &node.domain).find(|domain| !domain.is_empty() && *domain != "ai.onnx");
    if let Some(domain) = foreign {
        bail!(
            "it has operators of `{domain}`, which TensorRT doesn't have: take the export before a runtime optimised or \
             quantised it"
        );
    }
    Ok(())
}

/// Reads weights that lie in files beside the graph into it.
fn load_weights_beside(model: &mut ModelProto, file: &Path) -> Result<()> {
    let folder = wordsight_files::folder_of(file);
    let mut left = MOST_BYTES;
    let Some(graph) = &mut model.graph else { return Ok(()) };
    for constant in &mut graph.initializer {
        if constant.data_location == Some(1) {
            load_weight(constant, folder, &mut left)
                .with_context(|| format!("{}: the weights of `{}`", file.display(), constant.name))?;
        }
    }
    Ok(())
}

fn load_weight(constant: &mut TensorProto, folder: &Path, left: &mut u64) -> Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let entry =
        |key: &str| constant.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let location = entry("location").context("it isn't said in which file they lie")?.clone();
    let number = |key: &str| entry(key).map(|text| text.parse::<u64>()).transpose();
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    let is_plain =
        Path::new(&location).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    ensure!(is_plain, "they lie in {location:?}, outside of the export's folder");
    let path = folder.join(&location);
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(&path)?;
        let length = length.unwrap_or(file.metadata()?.len().saturating_sub(offset));
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length.min(MOST_BYTES)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes =
        read().with_context(|| format!("cannot read {}, which comes with the export", path.display()))?;
    ensure!(
        length.is_none_or(|length| length == bytes.len() as u64),
        "{} ends before them: fetch it again",
        path.display()
    );
    *left = left.checked_sub(bytes.len() as u64).context(
        "with those before they are over 2 GiB, which one ONNX file can't hold: export it in FP16",
    )?;
    constant.raw_data = bytes;
    constant.external_data.clear();
    constant.data_location = None;
    Ok(())
}
