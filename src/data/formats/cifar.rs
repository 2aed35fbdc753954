//! Reads the binary version of CIFAR-10 and CIFAR-100.
//!
//! A record has one or two labels, then three planes of 32 x 32 pixels.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::data::decode::picture::{Picture, Pixels, Stored};
use crate::data::error::DataError;
use crate::recipe::DataPlan;

use super::found::Found;
use super::split::Split;

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

pub(in crate::data) struct CifarLayout {
    /// Name of the folder in the downloaded archive, such as `cifar-100-binary`.
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static [&'static str],
    /// Name of the file with one class name per line.
    names: &'static str,
    /// Number of label bytes per image: 1 for CIFAR-10, 2 for CIFAR-100. The class is the last label byte.
    labels: usize,
    classes: usize,
    archive: &'static str,
}

pub(in crate::data) const CIFAR10: CifarLayout = CifarLayout {
    folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: &["test_batch.bin"],
    names: "batches.meta.txt",
    labels: 1,
    classes: 10,
    archive: "cifar-10-binary.tar.gz",
};

pub(in crate::data) const CIFAR100: CifarLayout = CifarLayout {
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: &["test.bin"],
    names: "fine_label_names.txt",
    labels: 2,
    classes: 100,
    archive: "cifar-100-binary.tar.gz",
};

/// Reads a CIFAR data set into memory.
///
/// `data.path` is the unpacked archive, or a folder that contains the unpacked archive.
pub(in crate::data) fn find(plan: &DataPlan, layout: &CifarLayout) -> Result<Found, DataError> {
    if plan.in_chans != 3 {
        return Err(DataError::setting(
            format!("cannot use `data.in_chans = {}`: CIFAR images have 3 channels", plan.in_chans),
            "set `data.in_chans = 3`",
        ));
    }
    let inside = plan.path.join(layout.folder);
    let folder = if inside.is_dir() { inside } else { plan.path.clone() };
    let hint = format!(
        "unpack `{}`, the \"binary version\" of the data set, and set `data.path` to the unpacked folder",
        layout.archive
    );
    if !folder.join(layout.train[0]).is_file() {
        return Err(DataError::layout(&folder, format!("`{}` is missing", layout.train[0]), hint));
    }
    let mut hash = Sha256::new();
    let mut split = |files: &[&str]| -> Result<Arc<dyn Split>, DataError> {
        let mut records = Vec::new();
        for name in files {
            let file = folder.join(name);
            let bytes = fs::read(&file).map_err(|e| DataError::unreadable(&file, e))?;
            check(&file, &bytes, layout, &hint)?;
            records.extend_from_slice(&bytes);
        }
        hash.update(&records);
        Ok(Arc::new(Records { bytes: records, labels: layout.labels, folder: folder.clone() }))
    };
    let (train, val) = (split(layout.train)?, split(layout.test)?);
    Ok(Found::of(train, Some(val), classes(&folder, layout), hash))
}

fn check(file: &Path, bytes: &[u8], layout: &CifarLayout, hint: &str) -> Result<(), DataError> {
    let record = layout.labels + PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        let problem = format!(
            "the file has {} bytes, but its size must be a multiple of {record} bytes",
            bytes.len()
        );
        return Err(DataError::layout(file, problem, hint));
    }
    let labels = bytes.iter().skip(layout.labels - 1).step_by(record);
    match labels.enumerate().find(|(_, label)| usize::from(**label) >= layout.classes) {
        Some((place, label)) => {
            let problem = format!(
                "record {place} has label {label}, but the data set has only {} classes",
                layout.classes
            );
            Err(DataError::layout(file, problem, hint))
        }
        None => Ok(()),
    }
}

/// Reads the class names from a file in `folder`.
///
/// Returns the class numbers as names if the file is missing or has a wrong number of names.
fn classes(folder: &Path, layout: &CifarLayout) -> Vec<String> {
    let text = fs::read_to_string(folder.join(layout.names)).unwrap_or_default();
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if names.len() == layout.classes {
        return names;
    }
    (0..layout.classes).map(|class| class.to_string()).collect()
}

struct Records {
    bytes: Vec<u8>,
    labels: usize,
    folder: PathBuf,
}

impl Records {
    fn record(&self, index: usize) -> &[u8] {
        let len = self.labels + PIXELS;
        &self.bytes[index * len..(index + 1) * len]
    }
}

impl Split for Records {
    fn len(&self) -> usize {
        self.bytes.len() / (self.labels + PIXELS)
    }

    fn label(&self, index: usize) -> u32 {
        u32::from(self.record(index)[self.labels - 1])
    }

    fn read<'a>(&self, index: usize, _: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError> {
        let planes = &self.record(index)[self.labels..];
        let area = SIDE * SIDE;
        let pixels = (0..area).flat_map(|at| [0, 1, 2].map(|c| planes[c * area + at])).collect();
        let pixels = Pixels::U8(pixels);
        Ok(Stored::Picture(Picture { width: SIDE, height: SIDE, channels: 3, pixels }))
    }

    fn name(&self, index: usize) -> PathBuf {
        self.folder.join(format!("record {index}"))
    }
}
