//! Named tensors out of a PyTorch `.pth` file in the format that `torch.save` wrote before version 1.6.
//!
//! Flows in: a file of five pickles (magic number, protocol, system facts, a state dictionary, the storages' keys)
//! followed by the storages' raw bytes in the keys' order. Flows out: FP32 tensors by name, row-major.
//!
//! The surprising thing: a pickle is a program, and unpickling a stranger's file runs it. This reader knows the
//! twenty-odd instructions and four names that a dictionary of tensors consists of, and refuses every other.
//! Integer tensors (batch-norm's step counters) are read past and left out.
//!
//! Format: `torch/serialization.py`, `_legacy_save`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// `torch.serialization.MAGIC_NUMBER`, as the pickled long's little-endian bytes.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;
/// How `torch.save` writes today: a zip archive, which is another format.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// A tensor of FP32 numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub data: Vec<f32>,
}

/// Why a `.pth` file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PthError {
    /// The file could not be read.
    #[error("cannot read the weights {path}: {source}; `make deps` fetches the packages they come from")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The bytes are not what this reader takes.
    #[error(
        "{path} is not a PyTorch state dictionary in the legacy format: at byte {offset}, {problem}; fetch it again \
         if it was damaged (`make deps`)"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        offset: usize,
        /// What was met there.
        problem: String,
    },
}

/// Reads every FP32 tensor of a legacy `.pth` file.
///
/// # Errors
/// When the file can't be read, is truncated, or holds anything but a flat dictionary of tensors.
pub fn read_pth(path: &Path) -> Result<BTreeMap<String, NamedTensor>, PthError> {
    let bytes = fs::read(path).map_err(|source| PthError::Read { path: path.into(), source })?;
    let mut reader = Reader { bytes: &bytes, offset: 0 };
    reader.tensors().map_err(|problem| PthError::Malformed {
        path: path.into(),
        offset: reader.offset,
        problem,
    })
}

/// The place reached in the file. Problems are plain text here; [`read_pth`] adds file and offset.
struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

/// What the unpickler's stack holds.
#[derive(Clone, Debug)]
enum Object {
    Nothing,
    Bool,
    Int(i64),
    /// An integer of more than 64 bits, little-endian.
    Long(Vec<u8>),
    Text(String),
    Name(Name),
    Tuple(Vec<Object>),
    List(Vec<Object>),
    Dictionary(Vec<(Object, Object)>),
    Storage(StorageReference),
    Tensor(View),
}

/// The importable names that a dictionary of tensors mentions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    OrderedDict,
    RebuildTensor,
    FloatStorage,
    LongStorage,
}

#[derive(Clone, Debug)]
struct StorageReference {
    key: String,
    is_float: bool,
}

/// A tensor as a view of a storage, in elements. Strides matter: weights that came from TensorFlow are stored transposed.
#[derive(Clone, Debug)]
struct View {
    storage: StorageReference,
    start: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Reader<'_> {
    fn tensors(&mut self) -> Result<BTreeMap<String, NamedTensor>, String> {
        self.header()?;
        let Object::Dictionary(entries) = self.unpickle()? else {
            return Err("the file holds something other than a dictionary".to_owned());
        };
        let mut views = Vec::new();
        for entry in entries {
            match entry {
                (Object::Text(name), Object::Tensor(view)) => views.push((name, view)),
                (key, _) => return Err(format!("the entry {key:?} isn't a named tensor")),
            }
        }
        let storages = self.storages(&views)?;
        let float_views = views.into_iter().filter(|(_, view)| view.storage.is_float);
        float_views
            .map(|(name, view)| {
                let storage =
                    storages.get(&view.storage.key).ok_or(format!("the storage of {name} is missing"))?;
                let tensor = view.gather(storage).ok_or(format!("{name} reaches beyond its storage"))?;
                Ok((name, tensor))
            })
            .collect()
    }

    fn header(&mut self) -> Result<(), String> {
        if self.bytes.starts_with(ZIP_MAGIC) {
            return Err("the file is in the newer zip format; save it again in torch with \
                        _use_new_zipfile_serialization=False"
                .to_owned());
        }
        if !matches!(self.unpickle()?, Object::Long(magic) if magic == MAGIC) {
            return Err("the magic number is another one".to_owned());
        }
        if !matches!(self.unpickle()?, Object::Int(PROTOCOL)) {
            return Err(format!("the protocol is not {PROTOCOL}"));
        }
        // Facts about the machine that saved the file. Only the byte order matters, and torch has
        // written little-endian storages on every machine.
        self.unpickle()?;
        Ok(())
    }

    /// The raw FP32 storages by key. The file gives them in an order of its own: the fifth pickle.
    fn storages(&mut self, views: &[(String, View)]) -> Result<HashMap<String, Vec<f32>>, String> {
        let float_keys: HashMap<&str, bool> =
            views.iter().map(|(_, view)| (view.storage.key.as_str(), view.storage.is_float)).collect();
        let Object::List(keys) = self.unpickle()? else {
            return Err("the list of storages is missing".to_owned());
        };
        let mut storages = HashMap::new();
        for key in keys {
            let Object::Text(key) = key else { return Err("a storage's key isn't text".to_owned()) };
            let is_float =
                *float_keys.get(key.as_str()).ok_or(format!("no tensor uses the storage {key}"))?;
            let length = self.u64()?;
            let element_size: usize = if is_float { 4 } else { 8 };
            let size = usize::try_from(length).ok().and_then(|length| length.checked_mul(element_size));
            let raw = self.take(size.ok_or(format!("the storage {key} is impossibly long"))?)?;
            if is_float {
                let floats = raw.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
                storages.insert(key, floats.collect());
            }
        }
        if self.offset != self.bytes.len() {
            return Err("bytes follow the last storage".to_owned());
        }
        Ok(storages)
    }

    /// Runs one pickle to its end and returns what it made.
    fn unpickle(&mut self) -> Result<Object, String> {
        let mut machine = Machine::default();
        loop {
            let start = self.offset;
            let opcode = self.u8()?;
            if opcode == b'.' {
                return machine.pop();
            }
            let done = self.instruction(opcode, &mut machine);
            done.inspect_err(|_| self.offset = start)?;
        }
    }

    /// One instruction of pickle protocol 2; names as in Python's `pickletools`.
    fn instruction(&mut self, opcode: u8, machine: &mut Machine) -> Result<(), String> {
        match opcode {
            // PROTO
            0x80 => match self.u8()? {
                2 => Ok(()),
                version => Err(format!("it is a pickle of protocol {version}, not 2")),
            },
            // NONE, NEWTRUE, NEWFALSE
            b'N' => machine.push(Object::Nothing),
            0x88 | 0x89 => machine.push(Object::Bool),
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let bytes = self.array()?;
                machine.push(Object::Int(i64::from(i32::from_le_bytes(bytes))))
            }
            b'K' => {
                let value = self.u8()?;
                machine.push(Object::Int(i64::from(value)))
            }
            b'M' => {
                let bytes = self.array()?;
                machine.push(Object::Int(i64::from(u16::from_le_bytes(bytes))))
            }
            0x8a => {
                let length = self.u8()?;
                let bytes = self.take(usize::from(length))?.to_vec();
                machine.push(Object::Long(bytes))
            }
            // BINUNICODE
            b'X' => {
                let length = self.u32()?;
                let text = str::from_utf8(self.take(length)?).map_err(|_| "a text isn't UTF-8".to_owned())?;
                machine.push(Object::Text(text.to_owned()))
            }
            // GLOBAL
            b'c' => {
                let name = (self.line()?, self.line()?);
                machine.push(Object::Name(importable(&name)?))
            }
            // BINPUT, LONG_BINPUT, BINGET, LONG_BINGET
            b'q' => {
                let index = usize::from(self.u8()?);
                machine.remember(index)
            }
            b'r' => {
                let index = self.u32()?;
                machine.remember(index)
            }
            b'h' => {
                let index = usize::from(self.u8()?);
                machine.recall(index)
            }
            b'j' => {
                let index = self.u32()?;
                machine.recall(index)
            }
            _ => machine.structure(opcode),
        }
    }

    fn take(&mut self, length: usize) -> Result<&[u8], String> {
        let taken = self.offset.checked_add(length).and_then(|end| self.bytes.get(self.offset..end));
        let taken = taken.ok_or("the file ends too early".to_owned())?;
        self.offset += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "the file ends too early".to_owned())
    }

    fn u8(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<usize, String> {
        self.array().map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.offset..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("a name doesn't end".to_owned())?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.offset += length + 1;
        Ok(line)
    }
}

fn importable((module, name): &(String, String)) -> Result<Name, String> {
    match (module.as_str(), name.as_str()) {
        ("collections", "OrderedDict") => Ok(Name::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Ok(Name::RebuildTensor),
        ("torch", "FloatStorage") => Ok(Name::FloatStorage),
        ("torch", "LongStorage") => Ok(Name::LongStorage),
        _ => Err(format!("it asks for {module}.{name}, which a dictionary of FP32 tensors doesn't need")),
    }
}

/// The unpickler's stack, the marks on it, and its memo.
#[derive(Default)]
struct Machine {
    stack: Vec<Object>,
    marks: Vec<usize>,
    memo: HashMap<usize, Object>,
}

impl Machine {
    /// The instructions that carry no bytes of their own: they build structures from the stack.
    fn structure(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            // MARK
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE
            b')' => self.push(Object::Tuple(Vec::new())),
            0x85 => self.tuple_of(1),
            0x86 => self.tuple_of(2),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Tuple(items))
            }
            // EMPTY_DICT, EMPTY_LIST
            b'}' => self.push(Object::Dictionary(Vec::new())),
            b']' => self.push(Object::List(Vec::new())),
            // SETITEM, SETITEMS, APPENDS
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![key, value])
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(items)
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                match self.stack.last_mut() {
                    Some(Object::List(list)) => list.extend(items),
                    _ => return Err("items are appended to something other than a list".to_owned()),
                }
                Ok(())
            }
            // BINPERSID
            b'Q' => {
                let storage = storage_reference(self.pop()?)?;
                self.push(Object::Storage(storage))
            }
            // REDUCE
            b'R' => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.push(call(&callee, arguments)?)
            }
            // BUILD: sets the dictionary's `_metadata` attribute, which holds versions of modules.
            b'b' => match (self.pop()?, self.stack.last()) {
                (Object::Dictionary(_), Some(Object::Dictionary(_))) => Ok(()),
                _ => Err("attributes are set on something other than the dictionary".to_owned()),
            },
            _ => Err(format!(
                "the pickle instruction 0x{opcode:02x} isn't one that a dictionary of tensors needs"
            )),
        }
    }

    fn push(&mut self, object: Object) -> Result<(), String> {
        self.stack.push(object);
        Ok(())
    }

    fn pop(&mut self) -> Result<Object, String> {
        self.stack.pop().ok_or("the pickle takes from an empty stack".to_owned())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Object>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or("the pickle lacks a mark".to_owned())?))
    }

    fn tuple_of(&mut self, length: usize) -> Result<(), String> {
        let start =
            self.stack.len().checked_sub(length).ok_or("the pickle takes from an empty stack".to_owned())?;
        let items = self.stack.split_off(start);
        self.push(Object::Tuple(items))
    }

    fn set_items(&mut self, items: Vec<Object>) -> Result<(), String> {
        let Some(Object::Dictionary(entries)) = self.stack.last_mut() else {
            return Err("items are set on something other than a dictionary".to_owned());
        };
        let mut items = items.into_iter();
        while let Some(key) = items.next() {
            entries.push((key, items.next().ok_or("a key lacks its value".to_owned())?));
        }
        Ok(())
    }

    /// Keeps the top of the stack under a number. Lists and dictionaries are still growing at this point, and no
    /// dictionary of tensors refers to one twice, so they are not kept: recalling one is an error.
    fn remember(&mut self, index: usize) -> Result<(), String> {
        let top = self.stack.last().ok_or("the pickle remembers an empty stack".to_owned())?;
        if !matches!(top, Object::List(_) | Object::Dictionary(_)) {
            self.memo.insert(index, top.clone());
        }
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<(), String> {
        let object =
            self.memo.get(&index).ok_or(format!("the pickle recalls {index}, which it never kept"))?;
        self.stack.push(object.clone());
        Ok(())
    }
}

/// `("storage", type, key, location, elements, view)`.
fn storage_reference(object: Object) -> Result<StorageReference, String> {
    let Object::Tuple(fields) = object else { return Err("a storage isn't described by a tuple".to_owned()) };
    match fields.as_slice() {
        [
            Object::Text(kind),
            Object::Name(element),
            Object::Text(key),
            _,
            Object::Int(_),
            Object::Nothing,
        ] if kind == "storage" => {
            let is_float = match element {
                Name::FloatStorage => true,
                Name::LongStorage => false,
                _ => return Err(format!("the storage {key} has an unknown element type")),
            };
            Ok(StorageReference { key: key.clone(), is_float })
        }
        _ => Err("a storage's description has another form".to_owned()),
    }
}

/// The two calls that occur: an empty ordered dictionary, and a tensor from
/// `(storage, start, shape, strides, requires_grad, hooks)`.
fn call(callee: &Object, arguments: Object) -> Result<Object, String> {
    let (Object::Name(name), Object::Tuple(arguments)) = (callee, arguments) else {
        return Err("something that isn't a function is called".to_owned());
    };
    match (name, arguments.as_slice()) {
        (Name::OrderedDict, []) => Ok(Object::Dictionary(Vec::new())),
        (
            Name::RebuildTensor,
            [
                Object::Storage(storage),
                Object::Int(start),
                Object::Tuple(shape),
                Object::Tuple(strides),
                Object::Bool,
                Object::Dictionary(_),
            ],
        ) if shape.len() == strides.len() => Ok(Object::Tensor(View {
            storage: storage.clone(),
            start: usize::try_from(*start).map_err(|_| "a tensor starts before its storage".to_owned())?,
            shape: sizes(shape)?,
            strides: sizes(strides)?,
        })),
        _ => Err(format!("{name:?} is called with unexpected arguments")),
    }
}

fn sizes(objects: &[Object]) -> Result<Vec<usize>, String> {
    let size = |object: &Object| match object {
        Object::Int(size) => usize::try_from(*size).ok(),
        _ => None,
    };
    objects.iter().map(|object| size(object).ok_or("a size isn't a natural number".to_owned())).collect()
}

impl View {
    /// Copies the view's elements out in row-major order; `None` when one lies outside the storage.
    fn gather(&self, storage: &[f32]) -> Option<NamedTensor> {
        let elements = self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
        // A broadcast view (stride 0) could claim more elements than the file has bytes.
        if elements > storage.len() {
            return None;
        }
        let mut data = Vec::with_capacity(elements);
        let mut index = vec![0usize; self.shape.len()];
        for _ in 0..elements {
            let offset = index.iter().zip(&self.strides).try_fold(self.start, |offset, (&i, &stride)| {
                i.checked_mul(stride).and_then(|step| offset.checked_add(step))
            })?;
            data.push(*storage.get(offset)?);
            for (i, &size) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < size {
                    break;
                }
                *i = 0;
            }
        }
        Some(NamedTensor { shape: self.shape.clone(), data })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEADER: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.";

    /// `name: tensor of a storage` in the pickle's instructions, as torch writes it.
    fn tensor(name: &str, storage: &str, key: &str, shape: &[u8], strides: &[u8]) -> Vec<u8> {
        let text =
            |text: &str| [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
        let sizes = |sizes: &[u8]| {
            let items: Vec<u8> = sizes.iter().flat_map(|&size| [b'K', size]).collect();
            [b"(".as_slice(), &items, b"t"].concat()
        };
        let storage = [
            b"((".as_slice(),
            &text("storage"),
            format!("ctorch\n{storage}\n").as_bytes(),
            &text(key),
            &text("cpu"),
            b"K\x06NtQK\x00",
        ]
        .concat();
        let hooks = b"\x89ccollections\nOrderedDict\n)RtR";
        [
            &text(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n".as_slice(),
            &storage,
            &sizes(shape),
            &sizes(strides),
            hooks,
        ]
        .concat()
    }

    /// A file with the tensors given, then the raw storages given, in this order.
    fn file(tensors: &[Vec<u8>], storages: &[(&str, &[u8], usize)]) -> Vec<u8> {
        let mut bytes =
            [HEADER, b"\x80\x02ccollections\nOrderedDict\n)R(", &tensors.concat(), b"u.\x80\x02]("].concat();
        for (key, _, _) in storages {
            bytes.extend([b"X".as_slice(), &(key.len() as u32).to_le_bytes(), key.as_bytes()].concat());
        }
        bytes.extend(b"e.");
        for (_, raw, element_size) in storages {
            bytes.extend((raw.len() as u64 / *element_size as u64).to_le_bytes());
            bytes.extend(*raw);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<BTreeMap<String, NamedTensor>, PthError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        fs::write(&path, bytes).unwrap();
        read_pth(&path)
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn two_tensors() -> Vec<u8> {
        let tensors = [
            tensor("weight", "FloatStorage", "7", &[2, 3], &[1, 2]),
            tensor("steps", "LongStorage", "8", &[6], &[1]),
        ];
        file(&tensors, &[("8", &[0; 48], 8), ("7", &floats(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]), 4)])
    }

    #[test]
    fn a_transposed_tensor_comes_out_row_major_and_counters_are_left_out() {
        let tensors = read(&two_tensors()).unwrap();
        let expected = NamedTensor { shape: vec![2, 3], data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        assert_eq!(tensors, BTreeMap::from([("weight".to_owned(), expected)]));
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_and_never_a_panic() {
        let whole = two_tensors();
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err().to_string();
            assert!(error.contains("weights.pth") && error.contains("at byte"), "{error}");
        }
    }

    #[test]
    fn a_file_with_any_byte_changed_is_read_or_refused_and_never_a_panic() {
        let whole = two_tensors();
        for index in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[index] ^= flip;
                let _ = read(&bytes);
            }
        }
    }

    #[test]
    fn a_pickle_that_asks_for_code_is_refused() {
        let mut bytes = HEADER.to_vec();
        bytes.extend(b"\x80\x02cos\nsystem\n");
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains("os.system"), "{error}");
    }

    #[test]
    fn a_tensor_larger_than_its_storage_is_refused() {
        let tensors = [tensor("weight", "FloatStorage", "7", &[2, 200], &[0, 0])];
        let error = read(&file(&tensors, &[("7", &floats(&[1.0; 6]), 4)])).unwrap_err().to_string();
        assert!(error.contains("weight reaches beyond its storage"), "{error}");
    }

    #[test]
    fn the_newer_format_is_named() {
        let error = read(b"PK\x03\x04 and so on").unwrap_err().to_string();
        assert!(error.contains("newer zip format"), "{error}");
    }
}
