//! The top-level modules of `src/` import downwards only, and no files import one another in a circle.
//!
//! This reads every file of `src/` and of `capture/src/`, resolves `use` items and plain paths that begin with
//! `crate`, `super`, `self` or a child module, follows re-exports to the file that defines a name, and reports which
//! top-level modules (`config`, `publish`, `http`, ...) and which files import one another in a circle. Test modules
//! are left out: a test may import anything.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module by its path from the crate's root: `["publish", "mqtt"]`.
type ModulePath = Vec<String>;

/// What is known of a module, be it a file or inline.
#[derive(Default)]
struct Module {
    /// The file that it stands in.
    file: PathBuf,
    /// Names that its `use` items bring in, with the absolute path of each.
    imported: BTreeMap<String, ModulePath>,
    /// Absolute paths that it names, by `use` or in the middle of code.
    named: Vec<ModulePath>,
    /// Re-exports; they are dependencies of the module only where it uses the name itself.
    exported: Vec<(String, ModulePath)>,
    /// How often each word stands in it.
    words: BTreeMap<String, usize>,
}

type Modules = BTreeMap<ModulePath, Module>;

/// The layers from the bottom to the top: each imports only layers that stand before it.
const LAYERS: [&str; 22] = [
    "allocations",
    "logging",
    "threads",
    "files",
    "settings",
    "health",
    "source",
    "job",
    "preprocess",
    "scoring",
    "tracking",
    "requests",
    "publish",
    "pipeline",
    "governor",
    "http",
    "bench",
    "words",
    "config",
    "service",
    "doctor",
    "cli",
];

/// A graph: who imports whom.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// A file's words and signs, without comments, texts and lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
        let raw_hashes = raw_string_hashes(rest);
        if rest.starts_with(b"//") {
            at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        } else if rest.starts_with(b"/*") {
            at += text[at..].find("*/").map_or(rest.len(), |end| end + 2);
        } else if let Some(hashes) = raw_hashes {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = text[at..].find('"').unwrap_or(0) + 1;
            at += open + text[at + open..].find(&end).map_or(rest.len(), |found| found + end.len());
        } else if rest[0] == b'"' {
            at += quoted(rest, b'"');
        } else if rest[0] == b'\'' {
            // A lifetime has no quote behind it; a character has, one (or an escape) further on.
            let is_character = rest.get(1) == Some(&b'\\') || text[at + 1..].chars().nth(1) == Some('\'');
            at += if is_character { quoted(rest, b'\'') } else { 1 };
        } else if is_word(&rest[0]) {
            let length = rest.iter().position(|byte| !is_word(byte)).unwrap_or(rest.len());
            found.push(text[at..at + length].to_owned());
            at += length;
        } else if rest.starts_with(b"::") {
            found.push("::".to_owned());
            at += 2;
        } else {
            if !rest[0].is_ascii_whitespace() {
                found.push((rest[0] as char).to_string());
            }
            at += 1;
        }
    }
    found
}

/// How many hashes a raw string that begins here has; nothing where none does.
fn raw_string_hashes(bytes: &[u8]) -> Option<usize> {
    let prefix = if bytes.starts_with(b"br") { 2 } else { 1 };
    if !bytes.starts_with(b"r") && prefix == 1 {
        return None;
    }
    let hashes = bytes[prefix..].iter().take_while(|byte| **byte == b'#').count();
    (bytes.get(prefix + hashes) == Some(&b'"')).then_some(hashes)
}

/// The length of what stands in quotes, with them.
fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// Where the item that begins at `at` ends.
fn item_end(tokens: &[String], mut at: usize) -> usize {
    let is_use = tokens[at..].iter().take(6).any(|token| token == "use");
    let mut depth = 0_i32;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth -= 1;
                if depth < 0 {
                    return at;
                }
                if depth == 0 && tokens[at] == "}" && !is_use {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Takes out what is compiled for tests alone; returns it with the names of test modules in files of their own.
fn without_tests(tokens: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut test_modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at] == "#" && tokens.get(at + 1).is_some_and(|next| next == "[") {
            let end = item_end_of_attribute(tokens, at + 1);
            let attribute = &tokens[at..end];
            let has = |word: &str| attribute.iter().any(|token| token == word);
            if has("cfg") && has("test") && !has("not") {
                let mut start = end;
                while tokens.get(start).is_some_and(|token| token == "#") {
                    start = item_end_of_attribute(tokens, start + 1);
                }
                let item_end = item_end(tokens, start);
                let item = &tokens[start..item_end];
                if let Some(place) = item.iter().position(|token| token == "mod")
                    && item.get(place + 2).is_some_and(|token| token == ";")
                {
                    test_modules.push(item[place + 1].clone());
                }
                at = item_end;
                continue;
            }
            at = end;
            continue;
        }
        kept.push(tokens[at].clone());
        at += 1;
    }
    (kept, test_modules)
}

fn item_end_of_attribute(tokens: &[String], mut at: usize) -> usize {
    let mut depth = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "[" => depth += 1,
            "]" => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// All paths of a `use` tree, with the name that each is known by.
fn use_tree(tokens: &[String], at: &mut usize, prefix: &[String], found: &mut Vec<(String, ModulePath)>) {
    let mut path = prefix.to_vec();
    while *at < tokens.len() {
        match tokens[*at].as_str() {
            "{" => {
                *at += 1;
                while *at < tokens.len() && tokens[*at] != "}" {
                    use_tree(tokens, at, &path, found);
                    if tokens.get(*at).is_some_and(|token| token == ",") {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            "," | ";" | "}" => break,
            "::" => *at += 1,
            "as" => {
                let name = tokens[*at + 1].clone();
                *at += 2;
                found.push((name, path));
                return;
            }
            "self" if !path.is_empty() => *at += 1,
            word => {
                path.push(word.to_owned());
                *at += 1;
            }
        }
    }
    let name = path.last().cloned().unwrap_or_default();
    found.push((name, path));
}

/// The program's files, without those of tests, and what each says.
struct Reader {
    modules: Modules,
    /// `use` items and paths as they are written, with the module that they stand in.
    written: Vec<Written>,
}

struct Written {
    module: ModulePath,
    path: Vec<String>,
    /// The name it brings in, and whether others may see it, where it is a `use` item.
    import: Option<(String, bool)>,
}

impl Reader {
    fn read(src: &Path, root: &str) -> Self {
        let mut reader = Self { modules: Modules::new(), written: Vec::new() };
        reader.read_file(&src.join(root), src, Vec::new());
        reader
    }

    /// Reads a module's file, and those of its children.
    fn read_file(&mut self, file: &Path, folder: &Path, module: ModulePath) {
        let text =
            std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (tokens, test_modules) = without_tests(&tokens(&text));
        let mut children = Vec::new();
        self.read_module(&tokens, file, &module, &mut children);
        for child in children {
            if test_modules.contains(&child) {
                continue;
            }
            let path = [folder.join(format!("{child}.rs")), folder.join(&child).join("mod.rs")];
            let path = path.into_iter().find(|path| path.exists());
            let path = path.unwrap_or_else(|| panic!("{}: no file of mod {child}", file.display()));
            let inner = [module.clone(), vec![child.clone()]].concat();
            self.read_file(&path, &folder.join(&child), inner);
        }
    }

    fn read_module(
        &mut self,
        tokens: &[String],
        file: &Path,
        module: &ModulePath,
        children: &mut Vec<String>,
    ) {
        let known = self.modules.entry(module.clone()).or_default();
        known.file = file.to_owned();
        for token in tokens {
            *known.words.entry(token.clone()).or_default() += 1;
        }
        let (mut at, mut is_public) = (0, false);
        while at < tokens.len() {
            match tokens[at].as_str() {
                "pub" => is_public = true,
                "(" | ")" | "crate" | "super" | "in" if is_public && tokens[at - 1] != ")" => {
                    // Of `pub(crate)`.
                    if tokens[at] == "crate" && tokens[at - 1] != "(" {
                        is_public = false;
                        at = self.read_path(tokens, at, module);
                        continue;
                    }
                }
                "mod" if tokens.get(at + 2).is_some_and(|next| next == ";") => {
                    children.push(tokens[at + 1].clone());
                    (is_public, at) = (false, at + 2);
                }
                "mod" if tokens.get(at + 2).is_some_and(|next| next == "{") => {
                    let end = item_end(tokens, at);
                    let inner = [module.clone(), vec![tokens[at + 1].clone()]].concat();
                    self.read_module(&tokens[at + 3..end - 1], file, &inner, &mut Vec::new());
                    (is_public, at) = (false, end - 1);
                }
                // And not the `use<'_>` of a bound.
                "use" if tokens.get(at + 1).is_none_or(|next| next != "<") => {
                    let (mut found, mut place) = (Vec::new(), at + 1);
                    use_tree(tokens, &mut place, &[], &mut found);
                    for (name, path) in found {
                        let import = Some((name, is_public));
                        self.written.push(Written { module: module.clone(), path, import });
                    }
                    (is_public, at) = (false, place);
                }
                _ => {
                    is_public = false;
                    at = self.read_path(tokens, at, module);
                    continue;
                }
            }
            at += 1;
        }
    }

    /// A path in the middle of code, where one begins here; returns where to go on.
    fn read_path(&mut self, tokens: &[String], at: usize, module: &ModulePath) -> usize {
        let is_after_path = at > 0 && tokens[at - 1] == "::";
        if is_after_path || tokens.get(at + 1).is_none_or(|next| next != "::") {
            return at + 1;
        }
        let mut path = vec![tokens[at].clone()];
        let mut end = at + 1;
        while tokens.get(end).is_some_and(|token| token == "::")
            && tokens
                .get(end + 1)
                .is_some_and(|token| token.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        {
            path.push(tokens[end + 1].clone());
            end += 2;
        }
        self.written.push(Written { module: module.clone(), path, import: None });
        end
    }

    /// Everything as paths from the root.
    fn resolved(mut self) -> Modules {
        for Written { module, path, import } in std::mem::take(&mut self.written) {
            let Some(absolute) = self.absolute(&module, &path) else { continue };
            let Some(known) = self.modules.get_mut(&module) else { continue };
            match import {
                Some((name, true)) => {
                    known.imported.insert(name.clone(), absolute.clone());
                    known.exported.push((name, absolute));
                }
                Some((name, false)) => {
                    known.imported.insert(name, absolute.clone());
                    known.named.push(absolute);
                }
                None => known.named.push(absolute),
            }
        }
        self.modules
    }

    /// A written path from the root; nothing where it is of another crate.
    fn absolute(&self, module: &ModulePath, path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([module.as_slice(), rest].concat()),
            "super" => {
                let up = path.iter().take_while(|segment| *segment == "super").count();
                let base = module.get(..module.len().checked_sub(up)?)?;
                Some([base, &path[up..]].concat())
            }
            child => {
                let inner = [module.as_slice(), &[child.to_owned()]].concat();
                self.modules.contains_key(&inner).then(|| [module.as_slice(), path].concat())
            }
        }
    }
}

/// The module that defines what a path from the root names: re-exports are followed.
fn definition(modules: &Modules, path: &[String], depth: usize) -> ModulePath {
    let mut module = Vec::new();
    for (place, segment) in path.iter().enumerate() {
        let inner = [module.as_slice(), std::slice::from_ref(segment)].concat();
        if modules.contains_key(&inner) {
            module = inner;
            continue;
        }
        let imported = modules.get(&module).and_then(|known| known.imported.get(segment));
        match imported {
            Some(target) if depth > 0 => {
                return definition(modules, &[target.as_slice(), &path[place + 1..]].concat(), depth - 1);
            }
            _ => return module,
        }
    }
    module
}

/// Who imports whom: among layers, and among files.
fn graphs(modules: &Modules, src: &Path) -> (Graph, Graph) {
    let (mut layers, mut files) = (Graph::new(), Graph::new());
    for (path, module) in modules {
        let own = module.exported.iter().filter(|(name, _)| {
            // Once where it is exported, and again where it is used.
            module.words.get(name).copied().unwrap_or(0) > 1
        });
        let own = own.map(|(_, target)| target);
        for target in module.named.iter().chain(own) {
            let place = definition(modules, target, 9);
            if let (Some(from), Some(to)) = (path.first(), target.first()) {
                // To a layer by the door that the path names, and through it to where the name is defined.
                for to in [to, place.first().unwrap_or(to)] {
                    if from != to && modules.contains_key(std::slice::from_ref(to)) {
                        layers.entry(from.clone()).or_default().insert(to.clone());
                    }
                }
            }
            let name = |file: &Path| file.strip_prefix(src).unwrap_or(file).display().to_string();
            let (from, to) = (name(&module.file), name(&modules[&place].file));
            if from != to {
                files.entry(from).or_default().insert(to);
            }
        }
    }
    (layers, files)
}

/// Everybody that can be reached from `start`.
fn reachable<'a>(graph: &'a Graph, start: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
    while let Some(node) = next.pop() {
        for other in graph.get(node).into_iter().flatten() {
            if seen.insert(other.as_str()) {
                next.push(other);
            }
        }
    }
    seen
}

/// Strongly connected components of more than one.
fn circles(graph: &Graph) -> Vec<BTreeSet<&str>> {
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    for node in graph.keys() {
        if found.iter().any(|circle| circle.contains(node.as_str())) {
            continue;
        }
        let ahead = reachable(graph, node);
        let circle: BTreeSet<&str> =
            ahead.into_iter().filter(|other| reachable(graph, other).contains(node.as_str())).collect();
        if circle.len() > 1 {
            found.push(circle);
        }
    }
    found
}

/// Who imports whom in one of the repository's folders of sources.
fn graphs_of(folder: &str) -> (Graph, Graph) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    graphs(&Reader::read(&src, "lib.rs").resolved(), &src)
}

/// Prints each circle with the imports that make it.
fn show(graph: &Graph, circles: &[BTreeSet<&str>]) {
    for circle in circles {
        println!("a circle of {}:", circle.len());
        for from in circle {
            let inside: Vec<&str> =
                graph[*from].iter().map(String::as_str).filter(|to| circle.contains(to)).collect();
            println!("  {from} -> {}", inside.join(", "));
        }
    }
}

#[test]
fn each_layer_imports_only_layers_below_it_and_none_in_a_circle() {
    let (layers, _) = graphs_of("src");
    let height = |layer: &str| {
        let place = LAYERS.iter().position(|known| *known == layer);
        place.unwrap_or_else(|| {
            panic!("src/{layer} is new: give it a place in LAYERS and in docs/architecture.md")
        })
    };
    let upwards: Vec<String> = layers
        .iter()
        .flat_map(|(from, to)| to.iter().map(move |to| (from, to)))
        .filter(|(from, to)| height(from) <= height(to))
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect();
    let of_layers = circles(&layers);
    show(&layers, &of_layers);
    assert!(upwards.is_empty(), "these import a layer above them: {}", upwards.join(", "));
    assert_eq!(of_layers.len(), 0);
}

#[test]
fn no_files_of_the_program_and_of_capture_import_one_another_in_a_circle() {
    for folder in ["src", "capture/src"] {
        let (_, files) = graphs_of(folder);
        assert!(files.len() > 10, "{folder} has files that import others");
        let of_files = circles(&files);
        show(&files, &of_files);
        let entangled: usize = of_files.iter().map(BTreeSet::len).sum();
        assert_eq!(entangled, 0, "so many files of {folder} are in the circles above");
    }
}

#[test]
fn the_architecture_names_every_layer_and_only_files_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let section = |title: &str| text.split(title).nth(1).unwrap().split("\n## ").next().unwrap();
    let directions = section("## Directions");
    let layers = directions
        .split("| modules |")
        .nth(1)
        .unwrap()
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let named: Vec<&str> =
        layers.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect();
    assert_eq!(named, LAYERS);
    let paths = section("## Where is what").split('`').skip(1).step_by(2).filter(|path| path.contains('/'));
    let missing: Vec<&str> = paths.filter(|path| !root.join(path).exists()).collect();
    assert!(missing.is_empty(), "{}", missing.join(", "));
}

/// Source files below a folder, but those of tests, builds and what is fetched.
fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir()
            && !path.is_symlink()
            && !name.starts_with('.')
            && !path.join("CACHEDIR.TAG").exists()
            && name != "tests"
        {
            source_files(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

#[test]
fn no_file_has_over_600_lines_before_its_tests() {
    let mut files = Vec::new();
    source_files(Path::new(env!("CARGO_MANIFEST_DIR")), &mut files);
    assert!(files.len() > 300, "{} files", files.len());
    let lines_of = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().take_while(|line| *line != "#[cfg(test)]").count()
    };
    let long: Vec<_> =
        files.iter().map(|file| (file, lines_of(file))).filter(|(_, lines)| *lines > 600).collect();
    assert!(long.is_empty(), "{long:?}");
}

/// The layers and files of a made-up program, and who imports whom among them.
fn graphs_of_text(written: &[(&str, &str)]) -> (Graph, Graph) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "imports-{}-{}",
        std::process::id(),
        written.len()
    ));
    for (name, text) in written {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let modules = Reader::read(&folder, "lib.rs").resolved();
    std::fs::remove_dir_all(&folder).unwrap();
    graphs(&modules, &folder)
}

#[test]
fn imports_are_found_in_use_items_in_code_and_through_re_exports_and_not_in_tests_comments_or_texts() {
    let (layers, _) = graphs_of_text(&[
        ("lib.rs", "mod a; mod b; mod c; mod d; #[cfg(test)] mod t;"),
        ("a/mod.rs", "mod inner; pub use inner::Thing; pub use crate::b::Other;"),
        ("a/inner.rs", "pub struct Thing; fn f<'a>(x: &'a str) -> char { drop(x); 'x' } // crate::d::x()"),
        (
            "b.rs",
            "pub struct Other; const TEXT: &str = r#\"use crate::a::Thing;\"#; fn g() { crate::c::f(); }",
        ),
        ("c.rs", "use super::{a::{Other as O, Thing}, d};\n#[cfg(test)]\nmod tests { use crate::b::Other; }"),
        ("d.rs", "pub fn h() {}"),
        ("t.rs", "use crate::d::h;"),
    ]);
    let of = |layer: &str| layers.get(layer).map(|to| to.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(of("a"), None, "a re-export that the layer doesn't use is its users' import");
    assert_eq!(of("b"), Some(vec!["c"]));
    assert_eq!(of("c"), Some(vec!["a", "b", "d"]));
    assert_eq!((of("d"), of("t")), (None, None));
    assert_eq!(circles(&layers), [BTreeSet::from(["b", "c"])]);
}

#[test]
fn files_of_one_folder_and_the_crates_root_are_in_circles_too() {
    let (layers, files) = graphs_of_text(&[
        ("lib.rs", "mod a; mod b; pub struct Top; fn f() { b::run(); }"),
        ("a/mod.rs", "mod part; pub use part::Part; pub struct Whole { part: part::Part }"),
        ("a/part.rs", "pub struct Part; fn f(_: &super::Whole) {}"),
        ("b.rs", "use crate::Top; pub fn run() {}"),
    ]);
    assert_eq!(circles(&layers), [] as [BTreeSet<&str>; 0]);
    assert_eq!(
        circles(&files),
        [BTreeSet::from(["a/mod.rs", "a/part.rs"]), BTreeSet::from(["b.rs", "lib.rs"])]
    );
}
