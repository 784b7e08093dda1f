//! Reads named tensors from a PyTorch `.pth` file: a state dictionary as `torch.save` writes it.
//!
//! A pickle is a program, and unpickling a stranger's file runs it. The crate `pytorch-reader` accepts only the
//! instructions and names that a dictionary of tensors consists of. Integer tensors (batch-norm's step counters) are
//! left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use pytorch_reader::{DType, PytorchReader};

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
    #[error("cannot read the weights {path}: {reason}; `make deps` fetches the packages they come from")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// It holds something else.
    #[error(
        "{path} is not a PyTorch state dictionary: {problem}; fetch it again if it was damaged (`make deps`)"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was met in it.
        problem: String,
    },
}

/// Reads every FP32 tensor of a `.pth` file.
///
/// # Errors
/// When the file can't be read, is truncated, or holds anything but a dictionary of tensors.
pub fn read_pth(path: &Path) -> Result<BTreeMap<String, NamedTensor>, PthError> {
    // The reader's own error doesn't tell a file that isn't there from one that is no state dictionary.
    let metadata = File::open(path).and_then(|file| file.metadata());
    let size = metadata.map_err(|reason| PthError::Read { path: path.into(), reason })?.len();
    let malformed = |problem: String| PthError::Malformed { path: path.into(), problem };
    let reader = PytorchReader::new(path).map_err(|error| malformed(error.to_string()))?;
    let floats = reader.into_tensors().into_iter().filter(|(_, tensor)| tensor.dtype() == DType::F32);
    floats
        .map(|(name, tensor)| {
            // A view of stride 0 could claim more numbers than memory holds.
            if tensor.byte_len() as u64 > size {
                return Err(malformed(format!("{name} is larger than the file")));
            }
            let bytes = tensor.read().map_err(|error| malformed(error.to_string()))?;
            let (numbers, _) = bytes.as_chunks();
            let data = numbers.iter().map(|&number| f32::from_ne_bytes(number)).collect();
            Ok((name, NamedTensor { shape: tensor.shape().to_vec(), data }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    const HEADER: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00X\x0d\x00\x00\x00little_endian\x88s.";

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
            assert!(error.contains("weights.pth") && error.contains("make deps"), "{error}");
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
        bytes.extend(b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00truetR.\x80\x02](e.");
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains("os.system"), "{error}");
    }

    #[test]
    fn a_tensor_larger_than_its_storage_is_refused() {
        let tensors = [tensor("weight", "FloatStorage", "7", &[2, 200], &[0, 0])];
        let error = read(&file(&tensors, &[("7", &floats(&[1.0; 6]), 4)])).unwrap_err().to_string();
        assert!(error.contains("weight is larger than the file"), "{error}");
    }
}
