//! Writes files for `torch.load`: an uncompressed zip file with one pickle and the bytes of each tensor.
//!
//! The pickle is `{"model": {name: tensor}}`, which the official scripts load. It also loads with `weights_only=True`.

use super::{CheckpointError, HostTensor, TensorFile};
use crate::durable;
use std::io::{self, Write as _};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const FOLDER: &str = "archive";
/// Alignment of tensors in bytes, as in PyTorch. `torch.load(mmap=True)` needs this alignment.
const ALIGNMENT: u16 = 64;

/// Writes the tensors to the file `out` in the format of `torch.save`, atomically.
///
/// Equal tensors give equal bytes.
pub fn write_torch(file: &TensorFile, out: &Path) -> Result<(), CheckpointError> {
    bytes(file)
        .map_err(io::Error::from)
        .and_then(|bytes| durable::write(out, &bytes))
        .map_err(|source| CheckpointError::Write { path: out.into(), source })
}

fn bytes(file: &TensorFile) -> zip::result::ZipResult<Vec<u8>> {
    let mut zip = ZipWriter::new(io::Cursor::new(Vec::new()));
    let mut entry = |name: &str, bytes: &[u8]| {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(u32::try_from(bytes.len()).is_err());
        zip.start_file(format!("{FOLDER}/{name}"), options)?;
        zip.write_all(bytes)?;
        zip::result::ZipResult::Ok(())
    };
    entry("data.pkl", &pickle(file))?;
    entry("byteorder", b"little")?;
    for (index, tensor) in file.tensors.values().enumerate() {
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        entry(&format!("data/{index}"), &bytes)?;
    }
    entry("version", b"3\n")?;
    Ok(zip.finish()?.into_inner())
}

/// Returns a pickle of the dict `{"model": {name: tensor}}`.
fn pickle(file: &TensorFile) -> Vec<u8> {
    let mut pickle = Pickle(vec![PROTO, 2]);
    pickle.dict(|pickle| {
        pickle.text("model");
        pickle.dict(|pickle| {
            for (index, (name, tensor)) in file.tensors.iter().enumerate() {
                pickle.text(name);
                pickle.tensor(index, tensor);
            }
        });
    });
    pickle.0.push(STOP);
    pickle.0
}

// Opcodes of a pickle. Python's `pickletools` documents them.
const PROTO: u8 = 0x80;
const EMPTY_DICT: u8 = b'}';
const MARK: u8 = b'(';
const SET_ITEMS: u8 = b'u';
const TUPLE: u8 = b't';
const EMPTY_TUPLE: u8 = b')';
const GLOBAL: u8 = b'c';
const REDUCE: u8 = b'R';
const PERSISTENT_ID: u8 = b'Q';
const TEXT: u8 = b'X';
const LONG: u8 = 0x8a;
const FALSE: u8 = 0x89;
const STOP: u8 = b'.';

/// The opcodes of a pickle. Each method appends opcodes for one value.
struct Pickle(Vec<u8>);

impl Pickle {
    /// Appends a dict. `items` appends its keys and values: key, value, key, value.
    fn dict(&mut self, items: impl FnOnce(&mut Self)) {
        self.0.extend([EMPTY_DICT, MARK]);
        items(self);
        self.0.push(SET_ITEMS);
    }

    fn tuple(&mut self, items: impl FnOnce(&mut Self)) {
        self.0.push(MARK);
        items(self);
        self.0.push(TUPLE);
    }

    fn text(&mut self, text: &str) {
        self.0.push(TEXT);
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.bytes());
    }

    fn int(&mut self, value: usize) {
        self.0.extend([LONG, 8]);
        self.0.extend((value as i64).to_le_bytes());
    }

    fn ints(&mut self, values: impl IntoIterator<Item = usize>) {
        self.tuple(|pickle| values.into_iter().for_each(|value| pickle.int(value)));
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.push(GLOBAL);
        self.0.extend(format!("{module}\n{name}\n").bytes());
    }

    /// Appends a contiguous tensor. Its values are in the archive entry `data/<index>`.
    fn tensor(&mut self, index: usize, tensor: &HostTensor) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.tuple(|pickle| {
            pickle.tuple(|pickle| {
                pickle.text("storage");
                pickle.global("torch", "FloatStorage");
                pickle.text(&index.to_string());
                pickle.text("cpu");
                pickle.int(tensor.values.len());
            });
            pickle.0.push(PERSISTENT_ID);
            let offset = 0;
            pickle.int(offset);
            pickle.ints(tensor.shape.iter().copied());
            pickle.ints(strides(&tensor.shape));
            // No gradient and no hooks.
            pickle.0.push(FALSE);
            pickle.global("collections", "OrderedDict");
            pickle.0.extend([EMPTY_TUPLE, REDUCE]);
        });
        self.0.push(REDUCE);
    }
}

/// Returns the strides of a row-major tensor, in elements.
fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

#[cfg(test)]
mod tests {
    use super::strides;

    #[test]
    fn strides_are_row_major() {
        assert_eq!(strides(&[2, 3, 4]), [12, 4, 1]);
        assert_eq!(strides(&[]), [0; 0]);
    }
}
