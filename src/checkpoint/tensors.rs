//! Reads and writes safetensors files of float32 tensors, with one JSON note in the header.

use super::CheckpointError;
use crate::durable;
use safetensors::tensor::{TensorView, View};
use safetensors::{Dtype, SafeTensors};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

// The header has no other key. So files with the same content have the same bytes.
const NOTE: &str = "mae";

/// A float32 tensor in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl View for &HostTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        if cfg!(target_endian = "little") {
            return Cow::Borrowed(bytemuck::cast_slice(&self.values));
        }
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        size_of_val(&self.values[..])
    }
}

/// The content of a safetensors file: tensors, and a JSON note about the content.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorFile {
    pub tensors: BTreeMap<String, HostTensor>,
    /// The JSON note in the file's header; empty if there is no note.
    pub note: String,
}

impl TensorFile {
    /// Reads a safetensors file. Converts all float types to float32.
    ///
    /// Skips tensors that are not floats.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        Self::read_all(path).map(|(file, _)| file)
    }

    /// Reads a safetensors file.
    ///
    /// Also returns the tensors that are not floats, as (name, description).
    pub(super) fn read_all(path: &Path) -> Result<(Self, Vec<(String, String)>), CheckpointError> {
        let damaged = |problem: String| CheckpointError::Damaged { path: path.into(), problem };
        let bytes = durable::read(path).map_err(|e| CheckpointError::unread(path, e))?;
        let not_whole = |e: safetensors::SafeTensorError| {
            damaged(format!("this is not a complete safetensors file ({e})"))
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(not_whole)?;
        let file = SafeTensors::deserialize(&bytes).map_err(not_whole)?;
        let (mut tensors, mut others) = (BTreeMap::new(), Vec::new());
        for (name, view) in file.iter() {
            let shape = view.shape().to_vec();
            if let Some(values) = floats(&view) {
                tensors.insert(name.to_owned(), HostTensor { shape, values });
            } else {
                others.push((name.to_owned(), format!("{:?} tensor {shape:?}", view.dtype())));
            }
        }
        let note = header.metadata().as_ref().and_then(|m| m.get(NOTE).cloned());
        Ok((Self { tensors, note: note.unwrap_or_default() }, others))
    }

    /// Returns the bytes of a safetensors file. Equal tensors and notes give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_bytes_as(NOTE, &self.note)
    }

    /// Returns the bytes of a safetensors file. Its header has the entry `key: word` instead of the JSON note.
    pub(super) fn to_bytes_as(&self, key: &str, word: &str) -> Vec<u8> {
        let note = (!word.is_empty()).then(|| HashMap::from([(key.to_owned(), word.to_owned())]));
        safetensors::serialize(&self.tensors, note).expect("names and shapes are plain")
    }

    /// Writes the tensors and the JSON note to the safetensors file `path`, atomically.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        durable::write(path, &self.to_bytes())
            .map_err(|source| CheckpointError::Write { path: path.into(), source })
    }
}

fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let halves = |widen: fn(u16) -> f32| {
        view.data().chunks_exact(2).map(|b| widen(u16::from_le_bytes([b[0], b[1]]))).collect()
    };
    match view.dtype() {
        Dtype::F32 => Some(
            view.data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        ),
        Dtype::F64 => {
            let (values, _) = view.data().as_chunks();
            Some(values.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect())
        }
        Dtype::F16 => Some(halves(|bits| burn::tensor::f16::from_bits(bits).to_f32())),
        Dtype::BF16 => Some(halves(|bits| burn::tensor::bf16::from_bits(bits).to_f32())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{HostTensor, TensorFile};

    #[test]
    fn a_file_is_read_back_and_a_truncated_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let tensor =
            HostTensor { shape: vec![2, 2], values: vec![1.0, -2.5, f32::MIN_POSITIVE, 0.1] };
        let file = TensorFile {
            tensors: [("w".to_owned(), tensor)].into(),
            note: r#"{"epoch":3}"#.to_owned(),
        };
        file.write(&path).unwrap();
        assert_eq!(TensorFile::read(&path).unwrap(), file);
        let bytes = std::fs::read(&path).unwrap();
        for end in [0, 7, 20, bytes.len() - 1] {
            crate::durable::write(&path, &bytes[..end]).unwrap();
            let error = TensorFile::read(&path).unwrap_err().to_string();
            assert!(error.contains("not a complete safetensors file"), "{error}");
        }
    }
}
