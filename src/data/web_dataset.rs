//! Shards of `WebDataset`: tar files whose members come in groups of one name, an image and its class.
//!
//! An index of all shards is made when the data is opened, so the shuffle is over all samples and any of them can be read
//! at once. Members are read by their place in the file: a shard that is cut short is an error, where a mapping of it into
//! memory would end the process.

mod index;
mod label;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::recipe::DataPlan;

use super::dataset::{self, Found, Labels};
use super::decode::Colour;
use super::error::DataError;
use super::split::{Split, Stored};

/// What a shard's file name ends in.
const EXTENSION: &str = "tar";
/// Names that validation shards go by.
const VAL: [&str; 2] = ["val", "test"];
/// Names of the classes, one a line, beside the shards.
pub(super) const CLASSES: &str = "classes.txt";
/// What `data pack` leaves beside the shards.
pub(super) const PACK: &str = "pack.json";
const HINT: &str = "expected tar shards in train/ and val/ under data.path, or there itself, with `val` in the names of \
                    those for validation";

/// How shards were packed.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Packed {
    pub(super) samples_per_shard: usize,
    /// SHA-256 of what was packed, as of a run on it.
    pub(super) source: String,
    pub(super) reencoded: Option<Reencoded>,
}

/// How images were made smaller.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Reencoded {
    /// The most pixels of the shorter side.
    pub short_side: usize,
    /// Of the JPEG files, 1 to 100.
    pub quality: u8,
}

impl std::fmt::Display for Reencoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { short_side, quality } = self;
        write!(f, "images re-encoded: short side at most {short_side} px, JPEG quality {quality}")
    }
}

/// Where the shards of a data set are.
struct Layout {
    train: Vec<PathBuf>,
    val: Vec<PathBuf>,
}

impl Layout {
    /// Finds shards in `train/` and `val/` below `path`; without them in `path` itself, where those whose names have
    /// `val` or `test` in them are for validation.
    fn find(path: &Path) -> Result<Self, DataError> {
        if path.join("train").is_dir() {
            let val = path.join("val");
            return Ok(Self {
                train: shards_in(&path.join("train"))?,
                val: if val.is_dir() { shards_in(&val)? } else { Vec::new() },
            });
        }
        let is_val = |shard: &PathBuf| {
            let name = shard.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            VAL.iter().any(|word| name.contains(word))
        };
        let (val, train) = shards_in(path)?.into_iter().partition(is_val);
        Ok(Self { train, val })
    }
}

/// Finds the shards of `plan` and makes their index.
pub(super) fn find(plan: &DataPlan, labels: Labels) -> Result<Found, DataError> {
    let (found, problems) = find_with(plan, labels)?;
    match problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(found),
    }
}

/// As [`find`] without labels, but damaged shards are left out, and told.
pub(super) fn find_past_damage(plan: &DataPlan) -> Result<(Found, Vec<DataError>), DataError> {
    find_with(plan, Labels::Unneeded)
}

fn find_with(plan: &DataPlan, labels: Labels) -> Result<(Found, Vec<DataError>), DataError> {
    let colour = dataset::colour(plan)?;
    if !plan.path.is_dir() {
        return Err(DataError::layout(&plan.path, "no such folder (data.path)", HINT));
    }
    let layout = Layout::find(&plan.path)?;
    let needs_val = labels == Labels::Needed && layout.val.is_empty();
    for (missing, what) in [(layout.train.is_empty(), "training"), (needs_val, "validation")] {
        if missing {
            return Err(DataError::layout(&plan.path, format!("no shards for {what}"), HINT));
        }
    }
    let mut problems = Vec::new();
    let train = WebDataset::open(layout.train, colour, &mut problems);
    let has_val = !layout.val.is_empty();
    let val = has_val.then(|| WebDataset::open(layout.val, colour, &mut problems));
    if train.is_empty() {
        let problem = DataError::layout(&plan.path, "no images in the shards for training", HINT);
        return Err(problems.into_iter().next().unwrap_or(problem));
    }
    let both = || std::iter::once(&train).chain(&val);
    let unlabelled = both().find_map(WebDataset::unlabelled);
    if let (Labels::Needed, Some(image)) = (labels, &unlabelled) {
        let hint =
            "expected a whole number in a .cls file of the same name, or as `label` in a .json one";
        return Err(DataError::layout(image, "this image has no class", hint));
    }
    let number = both().map(WebDataset::classes).max().unwrap_or(0);
    let classes = if unlabelled.is_some() { Vec::new() } else { classes(plan, number)? };
    let mut hash = Sha256::new();
    both().for_each(|split| split.hash_into(&mut hash));
    let note = note(&plan.path)?;
    let val = val.map(|val| Arc::new(val) as Arc<dyn Split>);
    Ok((Found { train: Arc::new(train), val, classes, hash, note }, problems))
}

/// The classes' own names: those that were packed with the shards, or numbers.
fn classes(plan: &DataPlan, found: usize) -> Result<Vec<String>, DataError> {
    let file = plan.path.join(CLASSES);
    let too_many = |known: usize, by: &str| {
        let problem = format!("an image has class {}, and {by} has {known}", found - 1);
        DataError::layout(&plan.path, problem, "classes are counted from 0")
    };
    if file.is_file() {
        let text = fs::read_to_string(&file).map_err(|e| DataError::unreadable(&file, e))?;
        let names: Vec<String> = text.lines().map(str::to_owned).collect();
        return if names.len() < found { Err(too_many(names.len(), CLASSES)) } else { Ok(names) };
    }
    let classes = plan.promised.num_classes.unwrap_or(found);
    if classes < found {
        return Err(too_many(classes, "data.num_classes"));
    }
    Ok((0..classes).map(|class| class.to_string()).collect())
}

/// What `data pack` says it did to the images.
fn note(path: &Path) -> Result<Option<String>, DataError> {
    let file = path.join(PACK);
    let Ok(bytes) = fs::read(&file) else { return Ok(None) };
    let packed: Packed = serde_json::from_slice(&bytes).map_err(|e| {
        DataError::layout(&file, format!("damaged: {e}"), "delete it, or pack the images again")
    })?;
    Ok(packed.reencoded.map(|reencoded| reencoded.to_string()))
}

/// The shards in a folder, in the order of their names.
fn shards_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |e| DataError::unreadable(folder, e);
    let mut shards = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case(EXTENSION)) && !hidden {
            shards.push(path);
        }
    }
    shards.sort();
    Ok(shards)
}

/// A split's samples, over all its shards.
struct WebDataset {
    shards: Vec<PathBuf>,
    samples: Vec<Sample>,
    colour: Colour,
}

/// An image in a shard.
struct Sample {
    shard: u32,
    offset: u64,
    size: u64,
    label: Option<u32>,
    /// The image's name in the shard.
    name: Box<str>,
}

impl WebDataset {
    /// Makes the index of `shards`. Damaged ones are left out, and added to `problems`.
    fn open(shards: Vec<PathBuf>, colour: Colour, problems: &mut Vec<DataError>) -> Self {
        let mut samples = Vec::new();
        for (number, shard) in index::read_all(&shards).into_iter().enumerate() {
            match shard {
                Ok(images) => samples.extend(images.into_iter().map(|image| Sample {
                    shard: number as u32,
                    offset: image.offset,
                    size: image.size,
                    label: image.label,
                    name: image.name.into(),
                })),
                Err(problem) => problems.push(problem),
            }
        }
        Self { shards, samples, colour }
    }

    /// The first image without a class.
    fn unlabelled(&self) -> Option<PathBuf> {
        let place = self.samples.iter().position(|sample| sample.label.is_none())?;
        Some(self.name(place))
    }

    /// One more than the largest class.
    fn classes(&self) -> usize {
        let largest = self.samples.iter().filter_map(|sample| sample.label).max();
        largest.map_or(0, |label| label as usize + 1)
    }

    /// Adds what identifies the samples to a hash: names, sizes and classes, in order.
    fn hash_into(&self, hash: &mut Sha256) {
        for Sample { name, size, label, .. } in &self.samples {
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(size.to_le_bytes());
            hash.update(label.unwrap_or(u32::MAX).to_le_bytes());
        }
    }
}

impl Split for WebDataset {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.samples[index].label.unwrap_or(0)
    }

    fn read<'a>(&self, index: usize, buffer: &'a mut Vec<u8>) -> Result<Stored<'a>, DataError> {
        let Sample { shard, offset, size, .. } = &self.samples[index];
        buffer.clear();
        let read = File::open(&self.shards[*shard as usize]).and_then(|mut file| {
            file.seek(SeekFrom::Start(*offset))?;
            file.take(*size).read_to_end(buffer)
        });
        let read = read.map_err(|e| DataError::unreadable(&self.name(index), e))?;
        if read as u64 != *size {
            let problem = "the shard ends inside this image: it has changed since the run started";
            return Err(DataError::bad_image(&self.name(index), problem));
        }
        Ok(Stored::File { bytes: buffer, colour: self.colour })
    }

    fn name(&self, index: usize) -> PathBuf {
        let sample = &self.samples[index];
        self.shards[sample.shard as usize].join(&*sample.name)
    }
}
