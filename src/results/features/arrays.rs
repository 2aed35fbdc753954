//! The formats `.npy` and `.safetensors`: one array of all features, and a CSV file beside it.

use super::{FeatureRow, Writer, table};
use crate::durable::{self, OutputFile};
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

struct Array {
    file: OutputFile,
    tail: Vec<u8>,
    /// Path and content of the CSV file with image names and classes.
    beside: (PathBuf, Vec<u8>),
}

/// The magic bytes of a `.npy` file, then format version 1.0.
const START: &[u8] = b"\x93NUMPY\x01\x00";

pub(super) fn npy(
    path: &Path,
    shape: &[usize],
    rows: &[FeatureRow],
) -> io::Result<Box<dyn Writer>> {
    let shape: Vec<String> =
        std::iter::once(&rows.len()).chain(shape).map(ToString::to_string).collect();
    let dictionary =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", shape.join(", "));
    // The data starts at a multiple of 64 bytes.
    let length = (START.len() + 2 + dictionary.len() + 1).next_multiple_of(64) - START.len() - 2;
    let mut header = START.to_vec();
    header.extend((length as u16).to_le_bytes());
    header.extend(format!("{dictionary:<width$}\n", width = length - 1).bytes());
    create(path, &header, Vec::new(), rows)
}

/// Creates a safetensors file with `features` and, if there are classes, `labels`.
pub(super) fn safetensors(
    path: &Path,
    shape: &[usize],
    rows: &[FeatureRow],
) -> io::Result<Box<dyn Writer>> {
    let labels: Option<Vec<u32>> =
        rows.iter().map(|row| row.class.as_ref().map(|(label, _)| *label)).collect();
    let labels = labels.unwrap_or_default();
    let shape: Vec<usize> = std::iter::once(&rows.len()).chain(shape).copied().collect();
    let end = 4 * shape.iter().product::<usize>();
    let mut tensors = json!({
        "__metadata__": { "format": "pt" },
        "features": { "dtype": "F32", "shape": shape, "data_offsets": [0, end] },
    });
    let tail: Vec<u8> = labels.iter().flat_map(|label| i64::from(*label).to_le_bytes()).collect();
    if !labels.is_empty() {
        let offsets = [end, end + tail.len()];
        tensors["labels"] =
            json!({ "dtype": "I64", "shape": [labels.len()], "data_offsets": offsets });
    }
    let text = tensors.to_string();
    let length = text.len().next_multiple_of(8);
    let mut header = (length as u64).to_le_bytes().to_vec();
    header.extend(format!("{text:<length$}").bytes());
    create(path, &header, tail, rows)
}

fn create(
    path: &Path,
    header: &[u8],
    tail: Vec<u8>,
    rows: &[FeatureRow],
) -> io::Result<Box<dyn Writer>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".csv");
    let mut file = OutputFile::create(path)?;
    file.write_all(header)?;
    let rows = table::names(rows);
    Ok(Box::new(Array { file, tail, beside: (name.into(), rows) }))
}

impl Writer for Array {
    fn append(&mut self, values: &[f32]) -> io::Result<()> {
        values.iter().try_for_each(|value| self.file.write_all(&value.to_le_bytes()))
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.file.write_all(&self.tail)?;
        durable::write_output(&self.beside.0, &self.beside.1)?;
        self.file.finish()
    }
}
