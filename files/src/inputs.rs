//! What a command was given to read, so that it isn't written to.
//!
//! The inputs of one call are collected before anything is opened for writing; each output is then compared with them
//! by its path, and by its inode, which a symbolic or a hard link shares. A file that exists already is replaced only
//! by one of its own kind: with `--json *.jpg` the shell names a photograph as the place for JSON.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirEntry, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{is_standard_output, unfinished};

/// Endings of files that are pictures.
const PICTURES: [&str; 10] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "avif"];
/// Endings of files that are something else than what a command writes, with what they are.
const OTHERS: [(&str, &[&str]); 6] = [
    ("a video", &["mp4", "mkv", "mov", "avi", "webm", "mjpeg", "mjpg", "ts", "h264", "h265"]),
    ("a student or another network", &["onnx", "pth", "pt", "plan", "engine"]),
    ("a vocabulary or other weights", &["safetensors", "bin"]),
    ("a configuration or a list of words", &["toml", "yaml", "yml", "txt"]),
    ("JSON", &["json", "jsonl", "ndjson"]),
    ("a plot", &["svg"]),
];
/// What is neither a picture nor a text.
const BINARY: &str = "something else";
/// How much of a file is read to recognise its content.
const LOOKED_AT: u64 = 512;

/// What an output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A JSON text, or one a line.
    Json,
    /// A network.
    Onnx,
    /// A vocabulary.
    Safetensors,
    /// A plot.
    Svg,
    /// Annotations as XML.
    Xml,
    /// A plot in pixels.
    Png,
    /// A video.
    Video,
    /// A network as TensorRT compiled it.
    Plan,
}

/// Why something is no place for an output.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// It was given as an input.
    #[error(
        "{} would be overwritten, and it was given as an input ({}): name another file for the output",
        output.display(), input.display()
    )]
    IsInput {
        /// Where the output was to go.
        output: PathBuf,
        /// The input that it is.
        input: PathBuf,
    },
    /// A folder of originals, where copies of the same names were to go.
    #[error(
        "{} holds {}, which was given as an input: pictures that are saved there could overwrite it; name another folder",
        folder.display(), input.display()
    )]
    HoldsInputs {
        /// Where pictures were to go.
        folder: PathBuf,
        /// One of the inputs in it.
        input: PathBuf,
    },
    /// A folder where a file was to go.
    #[error("{} is a folder: name a file in it for the output", .0.display())]
    Folder(PathBuf),
    /// A file where a folder was to be.
    #[error("{} is a file: name a folder for the output", .0.display())]
    File(PathBuf),
    /// A file of another kind lies there.
    #[error(
        "{} is there already and is {found}, not {written}: it is not overwritten; name another file for the output, or \
         remove it",
        output.display()
    )]
    OtherContent {
        /// Where the output was to go.
        output: PathBuf,
        /// What lies there.
        found: &'static str,
        /// What was to be written.
        written: &'static str,
    },
}

/// A file, whatever it is called: its file system and its number there.
type Identity = (u64, u64);

/// What one call was given to read.
#[derive(Debug, Default)]
pub struct Inputs {
    files: HashMap<Identity, PathBuf>,
    /// The folders that these lie in.
    parents: HashSet<Identity>,
    /// Whether one of them may have another name elsewhere.
    has_hard_links: bool,
    /// As they were written: an input may be missing, which is reported when it is read.
    paths: Vec<PathBuf>,
    folders: Vec<Folder>,
}

#[derive(Debug)]
struct Folder {
    identity: Identity,
    path: PathBuf,
    only_pictures: bool,
}

impl Inputs {
    /// These files, and folders with all that is in them.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut inputs = Self::default();
        paths.into_iter().for_each(|path| inputs.add(path));
        inputs
    }

    /// A file, or a folder with all that is in it.
    pub fn add(&mut self, path: &Path) {
        self.add_with(path, false);
    }

    /// A photograph, or a folder of which the pictures are read.
    pub fn add_pictures(&mut self, path: &Path) {
        self.add_with(path, true);
    }

    fn add_with(&mut self, path: &Path, only_pictures: bool) {
        self.paths.push(path.to_owned());
        let Ok(metadata) = path.metadata() else { return };
        let identity = identity_of(&metadata);
        if metadata.is_dir() {
            let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            self.folders.push(Folder { identity, path, only_pictures });
        } else if metadata.is_file() {
            let folder = path.canonicalize().ok().and_then(|path| path.parent()?.metadata().ok());
            self.parents.extend(folder.as_ref().map(identity_of));
            self.has_hard_links |= metadata.nlink() > 1 || folder.is_none();
            self.files.insert(identity, path.to_owned());
        }
    }

    /// Whether a file may be written.
    ///
    /// # Errors
    /// When it is an input, a folder, or there and of another kind.
    pub fn check(&self, output: &Path, content: Content) -> Result<(), OutputError> {
        if is_standard_output(output) {
            return Ok(());
        }
        if output.is_dir() {
            return Err(OutputError::Folder(output.to_owned()));
        }
        for path in
            [Some(output.to_owned()), unfinished(output, crate::UNFINISHED).ok()].into_iter().flatten()
        {
            if let Some(input) = self.input_at(&path) {
                return Err(OutputError::IsInput { output: path, input });
            }
        }
        match other_content(output, content) {
            Some(found) => {
                Err(OutputError::OtherContent { output: output.to_owned(), found, written: content.name() })
            }
            None => Ok(()),
        }
    }

    /// Whether pictures may be saved in a folder, whatever they are called.
    ///
    /// # Errors
    /// When a picture in it is an input.
    pub fn check_pictures(&self, folder: &Path) -> Result<(), OutputError> {
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        // It may hold years of pictures, and is looked at each time that a configuration is loaded.
        let only_links = !self.may_have_files_in(folder);
        let is_plain = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
        let looked_at = entries.flatten().filter(|entry| !only_links || !is_plain(entry));
        let mut pictures = looked_at.map(|entry| entry.path()).filter(|path| is_named_as_picture(path));
        match pictures.find_map(|path| self.input_at(&path)) {
            Some(input) => Err(OutputError::HoldsInputs { folder: folder.to_owned(), input }),
            None => Ok(()),
        }
    }

    /// Whether an input may be a file of a folder, and not only what a symbolic link there names.
    fn may_have_files_in(&self, folder: &Path) -> bool {
        let is_parent = |metadata: Metadata| self.parents.contains(&identity_of(&metadata));
        !self.folders.is_empty() || self.has_hard_links || folder.metadata().is_ok_and(is_parent)
    }

    /// Whether a command may write its files into a folder.
    ///
    /// # Errors
    /// When it is a file, or a folder that is read.
    pub fn check_folder(&self, folder: &Path) -> Result<(), OutputError> {
        let Ok(metadata) = folder.metadata() else { return Ok(()) };
        if !metadata.is_dir() {
            return Err(OutputError::File(folder.to_owned()));
        }
        let identity = identity_of(&metadata);
        match self.folders.iter().find(|given| given.identity == identity) {
            Some(given) => Err(OutputError::IsInput { output: folder.to_owned(), input: given.path.clone() }),
            None => Ok(()),
        }
    }

    /// The input that writing to a path would change, if there is one.
    fn input_at(&self, path: &Path) -> Option<PathBuf> {
        let Ok(metadata) = path.metadata() else {
            return self.paths.iter().find(|given| *given == path).cloned();
        };
        if !metadata.is_file() {
            return None;
        }
        let identity = identity_of(&metadata);
        if let Some(input) = self.files.get(&identity) {
            return Some(input.clone());
        }
        let canonical = path.canonicalize().ok()?;
        let holds = |folder: &&Folder| canonical.starts_with(&folder.path) && folder.reads(&canonical);
        if self.folders.iter().any(|folder| holds(&folder)) {
            return Some(canonical);
        }
        // Only what has several names can lie in a folder under another.
        if metadata.nlink() < 2 {
            return None;
        }
        self.folders.iter().find_map(|folder| folder.find(&folder.path, identity))
    }
}

impl Folder {
    fn reads(&self, path: &Path) -> bool {
        !self.only_pictures || is_named_as_picture(path)
    }

    /// The file of an identity in a folder of it.
    fn find(&self, folder: &Path, identity: Identity) -> Option<PathBuf> {
        fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
            let (path, metadata) = (entry.path(), entry.metadata().ok()?);
            if metadata.is_dir() {
                self.find(&path, identity)
            } else {
                (identity_of(&metadata) == identity && self.reads(&path)).then_some(path)
            }
        })
    }
}

impl Content {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Onnx => "a student",
            Self::Safetensors => "a vocabulary",
            Self::Svg | Self::Png => "a plot",
            Self::Xml => "XML",
            Self::Video => "a video",
            Self::Plan => "a plan",
        }
    }

    fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Json => &["json", "jsonl", "ndjson", "txt"],
            Self::Onnx => &["onnx"],
            Self::Safetensors => &["safetensors"],
            Self::Svg => &["svg"],
            Self::Xml => &["xml"],
            Self::Png => &["png"],
            Self::Video => &["mp4", "mkv"],
            Self::Plan => &["plan", "engine"],
        }
    }

    /// Whether a file may begin so that holds this.
    fn begins_so(self, start: &[u8]) -> bool {
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
        match self {
            Self::Json => text.is_empty() || text.starts_with(b"{") || text.starts_with(b"["),
            // The first field of a model, its version of the format.
            Self::Onnx => start.starts_with(&[0x08]),
            // The header's length, eight bytes, and the header.
            Self::Safetensors => start.get(8) == Some(&b'{'),
            Self::Svg | Self::Xml => text.starts_with(b"<"),
            Self::Png => start.starts_with(b"\x89PNG"),
            Self::Video => start.starts_with(b"\x1a\x45\xdf\xa3") || start.get(4..8) == Some(b"ftyp"),
            Self::Plan => kind_of_start(start) == BINARY,
        }
    }
}

/// Whether a file's name says that it is a picture.
pub fn is_named_as_picture(path: &Path) -> bool {
    ending_of(path).is_some_and(|ending| PICTURES.contains(&ending.as_str()))
}

fn ending_of(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

fn identity_of(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// What lies at a path, in words, if it is something else than `content`.
fn other_content(path: &Path, content: Content) -> Option<&'static str> {
    let metadata = path.metadata().ok()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return None;
    }
    let mut start = Vec::new();
    File::open(path).ok()?.take(LOOKED_AT).read_to_end(&mut start).ok()?;
    let ending = ending_of(path).unwrap_or_default();
    let by_name = if content.endings().contains(&ending.as_str()) { None } else { kind_of_ending(&ending) };
    by_name.or_else(|| (!content.begins_so(&start)).then(|| kind_of_start(&start)))
}

fn kind_of_ending(ending: &str) -> Option<&'static str> {
    if PICTURES.contains(&ending) {
        return Some("a picture");
    }
    OTHERS.iter().find(|(_, endings)| endings.contains(&ending)).map(|(kind, _)| *kind)
}

fn kind_of_start(start: &[u8]) -> &'static str {
    let is_picture = [b"\xff\xd8\xff".as_slice(), b"\x89PNG", b"GIF8", b"BM"];
    if is_picture.iter().any(|magic| start.starts_with(magic)) || start.get(8..12) == Some(b"WEBP") {
        return "a picture";
    }
    if start.contains(&0) { BINARY } else { "a text" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0 a photograph";

    fn folder_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    #[test]
    fn an_input_is_no_output_whatever_it_is_called() {
        let folder = folder_with(&[("student.onnx", &[8, 7])]);
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(at("student.onnx"), at("link.onnx")).unwrap();
        fs::hard_link(at("student.onnx"), at("hard.onnx")).unwrap();
        let inputs = Inputs::of([at("student.onnx").as_path(), &at("missing.onnx")]);
        for name in ["student.onnx", "./student.onnx", "link.onnx", "hard.onnx", "missing.onnx"] {
            let error = inputs.check(&at(name), Content::Onnx).unwrap_err();
            assert!(matches!(error, OutputError::IsInput { .. }), "{name}: {error}");
        }
        inputs.check(&at("other.onnx"), Content::Onnx).unwrap();
        // What would be written first is as little to be an input.
        fs::hard_link(at("student.onnx"), at("new.onnx.partial")).unwrap();
        assert!(inputs.check(&at("new.onnx"), Content::Onnx).is_err());
    }

    #[test]
    fn what_lies_in_a_folder_that_is_read_is_no_output() {
        let folder = folder_with(&[
            ("teacher/config.json", b"{}"),
            ("images/a.jpg", JPEG),
            ("images/old.json", b"{}"),
        ]);
        let at = |name: &str| folder.path().join(name);
        let mut inputs = Inputs::of([at("teacher").as_path()]);
        inputs.add_pictures(&at("images"));
        fs::hard_link(at("teacher/config.json"), at("hard.json")).unwrap();
        for name in ["teacher/config.json", "hard.json", "images/a.jpg"] {
            assert!(inputs.check(&at(name), Content::Json).is_err(), "{name}");
        }
        // Figures beside photographs are written again.
        inputs.check(&at("images/old.json"), Content::Json).unwrap();
        assert!(inputs.check_folder(&at("images/../images")).is_err());
        inputs.check_folder(&at("new")).unwrap();
    }

    #[test]
    fn a_folder_of_originals_is_no_place_for_copies() {
        let folder = folder_with(&[("album/a.JPG", JPEG), ("out/old.jpg", JPEG), ("hard/x", b"")]);
        let at = |name: &str| folder.path().join(name);
        fs::hard_link(at("album/a.JPG"), at("hard/b.jpg")).unwrap();
        std::os::unix::fs::symlink(at("album"), at("link")).unwrap();
        fs::create_dir(at("links")).unwrap();
        std::os::unix::fs::symlink(at("album/a.JPG"), at("links/b.jpg")).unwrap();
        let mut of_folder = Inputs::default();
        of_folder.add_pictures(&at("album"));
        let mut of_file = Inputs::default();
        of_file.add_pictures(&at("album/a.JPG"));
        for inputs in [of_folder, of_file] {
            for name in ["album", "link", "hard", "links"] {
                assert!(inputs.check_pictures(&at(name)).is_err(), "{name}");
            }
            inputs.check_pictures(&at("out")).unwrap();
            inputs.check_pictures(&at("album/new")).unwrap();
            assert!(inputs.check_folder(&at("out/old.jpg")).is_err(), "a file is no folder");
        }
    }

    #[test]
    fn an_input_without_other_names_is_seen_in_its_folder_and_behind_links() {
        let folder = folder_with(&[("album/a.jpg", JPEG), ("out/old.jpg", JPEG)]);
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("links")).unwrap();
        std::os::unix::fs::symlink(at("album/a.jpg"), at("links/b.jpg")).unwrap();
        std::os::unix::fs::symlink(at("album"), at("other")).unwrap();
        for given in ["album/a.jpg", "links/b.jpg", "other/a.jpg"] {
            let mut inputs = Inputs::default();
            inputs.add_pictures(&at(given));
            for name in ["album", "other", "links"] {
                assert!(inputs.check_pictures(&at(name)).is_err(), "{given} in {name}");
            }
            inputs.check_pictures(&at("out")).unwrap();
            assert!(!inputs.may_have_files_in(&at("out")), "of {given} no picture there is looked at");
        }
    }

    #[test]
    fn what_is_there_is_replaced_by_its_own_kind_only() {
        let folder = folder_with(&[
            ("a.jpg", JPEG),
            ("named.json", JPEG),
            ("words.toml", b"[a]"),
            ("notes", b"notes"),
            ("old.json", b" {\"a\": 1}\n"),
            ("old.onnx", &[8, 9]),
            ("old.safetensors", b"\x10\0\0\0\0\0\0\0{}"),
            ("empty.jpg", b""),
        ]);
        let check = |name: &str, content| Inputs::default().check(&folder.path().join(name), content);
        for (name, content) in [
            ("a.jpg", Content::Json),
            ("named.json", Content::Json),
            ("words.toml", Content::Json),
            ("words.toml", Content::Safetensors),
            ("notes", Content::Json),
            ("notes", Content::Onnx),
            ("old.json", Content::Svg),
            ("old.onnx", Content::Safetensors),
        ] {
            let error = check(name, content).unwrap_err();
            assert!(matches!(error, OutputError::OtherContent { .. }), "{name}: {error}");
        }
        assert!(matches!(check("", Content::Json), Err(OutputError::Folder(_))));
        for (name, content) in [
            ("old.json", Content::Json),
            ("old.onnx", Content::Onnx),
            ("old.safetensors", Content::Safetensors),
            ("empty.jpg", Content::Json),
            ("new.jpg", Content::Json),
            ("-", Content::Json),
        ] {
            check(name, content).unwrap();
        }
        Inputs::default().check(Path::new("/dev/null"), Content::Json).unwrap();
    }
}
