//! What the end-to-end tests stand on: a student that sees colours, words for colours, pictures of
//! colours, and the real `wordsight` run on them.
//!
//! The student is a real ONNX file: it looks at the four quarters of its input and calls each
//! quarter's mean colour an embedding. So what is found depends on the picture, on where in the
//! picture it is, and on the vocabulary, as with a trained student, and takes a millisecond.
#![allow(dead_code, reason = "each test file uses its own part of the support")]

pub mod folders;
mod running;
pub mod serving;
mod skipping;
pub mod teacher;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use wordsight_detection::{Vocabulary, Word};
use wordsight_onnx::proto::ElementType;
use wordsight_onnx::{Attribute, Graph, Storage};

pub use running::*;
pub use skipping::*;

/// The side of the student's square input, pixels.
pub const INPUT_SIZE: usize = 64;
pub const TEACHER: &str = "colours";

pub type Colour = [u8; 3];
pub const RED: Colour = [255, 0, 0];
pub const GREEN: Colour = [0, 255, 0];
pub const BLUE: Colour = [0, 0, 255];
pub const YELLOW: Colour = [255, 255, 0];
pub const GREY: Colour = [127, 127, 127];

/// A port of 127.0.0.1 that nothing listens on, another at each call.
///
/// It lies below those that the kernel gives to outgoing connections: one of these could take it before its owner binds
/// it, and a client that tries again and again until somebody listens could be connected to itself.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // Programs of tests that run one after the other begin at different ports.
    let first = std::process::id().wrapping_mul(64) % COUNT;
    loop {
        let offset = (first + CALLS.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A folder of one test, with a student and a vocabulary of red, green and blue in it.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        write_student(&bench.path("student.onnx"));
        write_vocabulary(&bench.path("words.safetensors"), &[("red", RED), ("green", GREEN), ("blue", BLUE)]);
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A configuration for this folder's student and words, with `more` at its end.
    pub fn write_config(&self, more: &str) -> PathBuf {
        let text = format!("student = \"student.onnx\"\nvocabulary = \"words.safetensors\"\n{more}");
        self.write("wordsight.toml", text)
    }

    /// `wordsight` with these arguments and this folder's student and words.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = wordsight(arguments);
        command.arg("--student").arg(self.path("student.onnx"));
        command.arg("--vocabulary").arg(self.path("words.safetensors"));
        command
    }

    /// `wordsight run` with a configuration, its health and its state in this folder; its lines go nowhere.
    pub fn start(&self, configuration: &Path) -> Process {
        let mut command = wordsight(&["run", "--config", configuration.to_str().unwrap()]);
        command.env("STATE_DIRECTORY", self.path("state")).env_remove("NOTIFY_SOCKET").stdout(Stdio::null());
        Process::start(command, &self.path(""))
    }

    /// `wordsight run` on a clip in which things come and go all the time, with outputs of a configuration.
    pub fn start_comings_and_goings(&self, outputs: &str) -> Process {
        self.start_comings_and_goings_with("", outputs)
    }

    /// The same with more keys.
    pub fn start_comings_and_goings_with(&self, keys: &str, outputs: &str) -> Process {
        self.write("clip.mjpeg", comings_and_goings());
        self.start(&self.write_config(&format!(
            "{keys}name = \"front door\"\n[engine]\nkind = \"onnxruntime\"\nthreads = 1\n[publish]\njson = \"\"\n\
             health = \"health.json\"\n[source]\nuri = \"clip.mjpeg\"\npacing = \"camera\"\nfps = 25\nloop = true\n\
             [tracking]\nconfirm_after = 2\nforget_after_s = 0.1\n\
             [[lines]]\nto = \"events.jsonl\"\nframes = false\nevents = true\n{outputs}"
        )))
    }

    /// Runs [`Bench::command`] to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(arguments).output().unwrap())
    }
}

/// `wordsight` with these arguments and nothing else.
pub fn wordsight(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wordsight"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// `wordsight` running, with its outputs to be read.
pub fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// How a run ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked") && !stderr.contains("backtrace"), "{stderr}");
        Self { code: output.status.code(), stdout: String::from_utf8(output.stdout).unwrap(), stderr }
    }

    /// The lines of JSON on the standard output of a run that went well.
    pub fn lines(&self) -> Vec<Value> {
        assert_eq!(self.code, Some(0), "{self:?}");
        json_lines(&self.stdout)
    }

    /// The one sentence on stderr of a run that failed with `code`.
    pub fn sentence(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        let sentence = self.stderr.trim_end();
        assert!(!sentence.is_empty() && !sentence.contains('\n'), "one sentence: {sentence}");
        sentence
    }
}

pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The words of a line of JSON, best first.
pub fn words_of(line: &Value) -> Vec<&str> {
    line["detections"].as_array().unwrap().iter().map(|found| found["word"].as_str().unwrap()).collect()
}

/// The box of the detection of `word`, which stands once in a line.
pub fn box_of(line: &Value, word: &str) -> [f64; 4] {
    let mut of_word = line["detections"].as_array().unwrap().iter().filter(|found| found["word"] == word);
    let found = of_word.next().unwrap_or_else(|| panic!("no {word} in {line}"));
    assert!(of_word.next().is_none(), "more than one {word} in {line}");
    std::array::from_fn(|side| found["box_in_frame"][side].as_f64().unwrap())
}

/// Compares boxes to a pixel and a half.
pub fn assert_near(found: [f64; 4], expected: [f64; 4]) {
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1.5);
    assert!(near, "{found:?} is not {expected:?}");
}

/// A student that calls the mean colours of its input's quarters embeddings.
pub fn write_student(path: &Path) {
    let side = INPUT_SIZE as i64;
    let half = side / 2;
    let mut graph = Graph::new("colours", Storage::F32);
    let image = graph.input("image", ElementType::Uint8, &[1, 3, side, side]);
    let pixels = graph.cast(&image, ElementType::Float);
    let grey = graph.scalar(127.0);
    let coloured = graph.sub(&pixels, &grey);
    let quarter = [half, half];
    let means = graph.node(
        "AveragePool",
        &[&coloured],
        &[("kernel_shape", Attribute::Ints(&quarter)), ("strides", Attribute::Ints(&quarter))],
    );
    let means = graph.reshape(&means, &[3, 4]);
    let means = graph.transpose(&means, &[1, 0]);
    // The fourth number is what grey consists of: the background.
    let background = graph.floats(&[4, 1], &[20.0; 4]);
    let rows = graph.concat(&[&means, &background], 1);
    let embeddings = graph.l2_normalise(&rows, 1e-12);
    let (side, half) = (side as f32, half as f32);
    let quarters =
        [[0.0, 0.0, half, half], [half, 0.0, side, half], [0.0, half, half, side], [half, half, side, side]];
    let boxes = graph.floats(&[4, 4], quarters.as_flattened());
    let objectness = graph.floats(&[4], &[0.9, 0.8, 0.7, 0.6]);
    graph.output(&boxes, "boxes", ElementType::Float, &[4, 4]);
    graph.output(&objectness, "objectness", ElementType::Float, &[4]);
    graph.output(&embeddings, "text_embeddings", ElementType::Float, &[4, 4]);
    graph.output(&embeddings, "image_embeddings", ElementType::Float, &[4, 4]);
    let metadata = [
        ("wordsight.format", "1"),
        ("wordsight.teacher", TEACHER),
        ("wordsight.temperature", "0.1"),
        ("wordsight.background", "[0, 0, 0, 1]"),
        ("wordsight.ensemble_lambda", "0.33"),
        ("wordsight.objectness_weight", "0.2"),
        ("wordsight.training", "{}"),
        (
            "wordsight.region_statistics",
            r#"{"text_mean": [0, 0, 0, 0.5], "image_mean": [0, 0, 0, 0.5], "spread": 0.9}"#,
        ),
    ];
    let model = graph.into_model(&metadata.map(|(key, value)| (key, value.to_owned())));
    wordsight_onnx::write(&model, path).unwrap();
}

/// A vocabulary of colours, in the student's space.
pub fn vocabulary(words: &[(&str, Colour)]) -> Vocabulary {
    let embedding = |colour: &Colour| {
        let row = colour.map(|channel| f32::from(channel) - 127.0);
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        [row[0] / length, row[1] / length, row[2] / length, 0.0]
    };
    Vocabulary {
        teacher: TEACHER.into(),
        student: None,
        words: words.iter().map(|(name, _)| Word::new(*name)).collect(),
        prompts: vec!["{}".into()],
        embeddings: words.iter().flat_map(|(_, colour)| embedding(colour)).collect(),
        embedding_size: 4,
    }
}

pub fn write_vocabulary(path: &Path, words: &[(&str, Colour)]) {
    vocabulary(words).save(path).unwrap();
}

/// The same with competitors, which are never told.
pub fn write_vocabulary_hiding(path: &Path, words: &[(&str, Colour)], hidden: &[(&str, Colour)]) {
    let mut vocabulary = vocabulary(&[words, hidden].concat());
    vocabulary.words[words.len()..].iter_mut().for_each(|word| word.hidden = true);
    vocabulary.save(path).unwrap();
}

/// Rows of pixels of a picture that is grey but for its quarters' inner parts: top left, top right,
/// bottom left, bottom right.
pub fn quarters(width: usize, height: usize, colours: [Colour; 4]) -> Vec<u8> {
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            rgb.extend(colours[2 * usize::from(y >= height / 2) + usize::from(x >= width / 2)]);
        }
    }
    rgb
}

/// A JPEG of such a picture; `exif_orientation` as in the EXIF standard, 1 to 8.
pub fn jpeg(width: usize, height: usize, colours: [Colour; 4], exif_orientation: Option<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
    if let Some(orientation) = exif_orientation {
        let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        encoder.add_app_segment(1, exif).unwrap();
    }
    let rgb = quarters(width, height, colours);
    encoder.encode(&rgb, width as u16, height as u16, jpeg_encoder::ColorType::Rgb).unwrap();
    bytes
}

/// A Motion-JPEG stream of whole frames of one colour each.
pub fn motion_jpeg(colours: &[Colour]) -> Vec<u8> {
    colours.iter().flat_map(|colour| jpeg(64, 64, [*colour; 4], None)).collect()
}

/// A Motion-JPEG stream, to be repeated, in which a red thing comes and goes, the next time with a blue one.
pub fn comings_and_goings() -> Vec<u8> {
    let phase = |colours, frames| std::iter::repeat_n(jpeg(64, 64, colours, None), frames).flatten();
    let (one, none, two) = ([RED, GREY, GREY, GREY], [GREY; 4], [RED, GREY, GREY, BLUE]);
    phase(one, 8).chain(phase(none, 8)).chain(phase(two, 8)).chain(phase(none, 8)).collect()
}

/// Whether OpenSSL's program is here, to make certificates for a test; says so where it isn't.
pub fn has_openssl(test: &str) -> bool {
    let is_there =
        Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        skip(test, "OpenSSL's program is not installed", "Debian: openssl");
    }
    is_there
}

/// `NAME-ca.pem`, an authority, and `NAME.pem` and `NAME.key`, a certificate of it for this machine, made with OpenSSL's
/// program.
pub fn certificates(bench: &Bench, name: &str) {
    let openssl = |arguments: &[&str]| {
        let outcome = Command::new("openssl").args(arguments).current_dir(bench.path("")).output().unwrap();
        assert!(outcome.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&outcome.stderr));
    };
    let (ca, ca_key, key, request, certificate, extensions) = (
        format!("{name}-ca.pem"),
        format!("{name}-ca.key"),
        format!("{name}.key"),
        format!("{name}.csr"),
        format!("{name}.pem"),
        format!("{name}.ext"),
    );
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let ca_arguments =
        ["req", "-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", &ca_key, "-out", &ca];
    openssl(&[&ca_arguments[..], &curve].concat());
    openssl(&[&["req", "-subj", "/CN=localhost", "-keyout", &key, "-out", &request][..], &curve].concat());
    bench.write(&extensions, "subjectAltName = DNS:localhost, IP:127.0.0.1\n");
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
        "-out",
        &certificate,
        "-extfile",
        &extensions,
    ]);
}
