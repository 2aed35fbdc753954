//! `WebDataset` shards: tar files. Members with the same name form a sample: an image and its class.
//!
//! Opening the data indexes all shards, or takes the index from the listing cache. So the shuffle covers all samples,
//! and each sample can be read directly. Images are read with a seek, not through a memory map. So reading past the end
//! of a truncated shard is an error, not a signal that kills the process.
//!
//! `mae data pack` writes checksum files beside its shards. Indexing a shard compares its classes with the checksum
//! file. Reading an image compares the image's bytes with its hash. Other signs of missing samples, such as data after
//! the end marker, become warnings in [`Integrity`].

pub(in crate::data) mod checksums;
mod index;
mod label;
pub(in crate::data) mod packed;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::data::decode::picture::{Colour, Stored};
use crate::data::error::DataError;
use crate::recipe::DataPlan;

use super::found::{Found, Integrity, Labels};
use super::listing_cache::ListingCache;
use super::shards::Shards;
use super::split::Split;
use checksums::{ImageHash, image_hash};
use packed::{CLASSES, Packed, ShardCounts};

const EXTENSION: &str = "tar";
/// The hint of errors about damaged shards.
const AGAIN: &str = "download or pack the shard again, or delete the shard";
const HINT: &str = "put tar shards in `train/` and `val/` under `data.path`. Or put all shards directly in \
                    `data.path`, with `val` in the names of validation shards";

/// Finds and indexes the tar shards of the data set. Fails if a shard is damaged.
pub(in crate::data) fn find(plan: &DataPlan, labels: Labels) -> Result<Found, DataError> {
    let (found, problems) = find_with(plan, labels)?;
    match problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(found),
    }
}

/// Finds and indexes all undamaged tar shards. Also returns the errors of damaged shards.
pub(in crate::data) fn find_past_damage(
    plan: &DataPlan,
) -> Result<(Found, Vec<DataError>), DataError> {
    find_with(plan, Labels::Unneeded)
}

fn find_with(plan: &DataPlan, labels: Labels) -> Result<(Found, Vec<DataError>), DataError> {
    let colour = Colour::of_channels(plan.in_chans)?;
    let shards = Shards::find(&plan.path, EXTENSION, labels, HINT)?;
    let packed = Packed::read(&plan.path)?;
    let counts = ShardCounts { train: shards.train.len(), val: shards.val.len() };
    let incomplete = packed.as_ref().and_then(|packed| packed.problem(&plan.path, counts));
    let checksummed = packed.as_ref().is_some_and(|packed| packed.checksums);
    let changed = packed.as_ref().and_then(|packed| packed.changed_classes(&plan.path));
    let mut findings =
        Findings { problems: Vec::from_iter(incomplete), lost: Vec::from_iter(changed) };
    let mut cache = ListingCache::of(&plan.path);
    let mut open = |shards: Vec<PathBuf>| {
        WebDataset::open(shards, colour, checksummed, &mut cache, &mut findings)
    };
    let train = open(shards.train);
    let val = (!shards.val.is_empty()).then(|| open(shards.val));
    cache.keep();
    let Findings { problems, lost } = findings;
    if train.is_empty() {
        let problem = DataError::layout(&plan.path, "the training shards contain no images", HINT);
        return Err(problems.into_iter().next().unwrap_or(problem));
    }
    let both = || std::iter::once(&train).chain(&val);
    let unlabelled = both().find_map(WebDataset::unlabelled);
    if let (Labels::Needed, Some(image)) = (labels, &unlabelled) {
        let hint = "add the class as a whole number: in a `.cls` file with the same name, or as `label` in a `.json` file";
        return Err(DataError::layout(image, "the image has no class", hint));
    }
    let number = both().map(WebDataset::classes).max().unwrap_or(0);
    let classes = if unlabelled.is_some() { Vec::new() } else { classes(plan, number)? };
    let mut hash = Sha256::new();
    both().for_each(|split| split.hash_into(&mut hash));
    let reencoded = packed.and_then(|packed| packed.reencoded);
    let note = reencoded.map(|reencoded| reencoded.to_string());
    let unchecked = both().flat_map(|split| &split.samples).filter(|s| s.hash.is_none()).count();
    let integrity = Integrity { lost, unchecked };
    let val = val.map(|val| Arc::new(val) as Arc<dyn Split>);
    Ok((Found { train: Arc::new(train), val, classes, hash, note, integrity }, problems))
}

/// Reads the class names. Falls back to the class numbers below `found`.
fn classes(plan: &DataPlan, found: usize) -> Result<Vec<String>, DataError> {
    let file = plan.path.join(CLASSES);
    let too_many = |known: usize, by: &str| {
        let problem =
            format!("an image has class {}, but `{by}` states only {known} classes", found - 1);
        DataError::layout(
            &plan.path,
            problem,
            "correct the class or the number of classes. The first class is 0",
        )
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

struct Findings {
    /// Errors that stop a run.
    problems: Vec<DataError>,
    /// Warnings about samples that may be missing.
    lost: Vec<String>,
}

/// A split: the samples of one or more shards.
struct WebDataset {
    shards: Vec<PathBuf>,
    samples: Vec<Sample>,
    colour: Colour,
}

struct Sample {
    shard: u32,
    offset: u64,
    size: u64,
    label: Option<u32>,
    /// First half of the image's hash; `None` without a checksum file.
    hash: Option<ImageHash>,
    /// File name inside the shard.
    name: Box<str>,
}

impl WebDataset {
    /// Indexes `shards`. Skips damaged shards and adds the errors to `findings`.
    fn open(
        shards: Vec<PathBuf>,
        colour: Colour,
        checksummed: bool,
        cache: &mut ListingCache,
        findings: &mut Findings,
    ) -> Self {
        let mut samples = Vec::new();
        let indexed = index::read_all(&shards, checksummed, cache);
        for (number, (path, indexed)) in shards.iter().zip(indexed).enumerate() {
            let index = match indexed {
                Ok(index) => index,
                Err(problem) => {
                    findings.problems.push(problem);
                    continue;
                }
            };
            let lost = index.lost.into_iter().map(|lost| format!("{}: {lost}", path.display()));
            findings.lost.extend(lost);
            samples.extend(index.images.into_iter().map(|image| Sample {
                shard: number as u32,
                offset: image.offset,
                size: image.size,
                label: image.label,
                hash: image.hash.and_then(|hash| hash.try_into().ok()),
                name: image.name.into(),
            }));
        }
        Self { shards, samples, colour }
    }

    /// Returns the path of the first image without a class.
    fn unlabelled(&self) -> Option<PathBuf> {
        let place = self.samples.iter().position(|sample| sample.label.is_none())?;
        Some(self.name(place))
    }

    /// Returns the number of classes: the largest class plus 1.
    fn classes(&self) -> usize {
        let largest = self.samples.iter().filter_map(|sample| sample.label).max();
        largest.map_or(0, |label| label as usize + 1)
    }

    /// Adds name, size and class of each sample to `hash`.
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
        let Sample { shard, offset, size, hash, .. } = &self.samples[index];
        buffer.clear();
        let read = File::open(&self.shards[*shard as usize]).and_then(|mut file| {
            file.seek(SeekFrom::Start(*offset))?;
            file.take(*size).read_to_end(buffer)
        });
        let read = read.map_err(|e| DataError::unreadable(&self.name(index), e))?;
        if read as u64 != *size {
            let problem =
                "the shard ends inside this image, so the shard has changed since the run started";
            return Err(DataError::bad_image(&self.name(index), problem));
        }
        if hash.is_some_and(|hash| image_hash(buffer) != hash) {
            let problem = "the image is corrupt: its BLAKE3 checksum differs from the checksum that `mae data pack` stored";
            return Err(DataError::bad_image(&self.name(index), problem));
        }
        Ok(Stored::File { bytes: buffer, colour: self.colour })
    }

    fn name(&self, index: usize) -> PathBuf {
        let sample = &self.samples[index];
        self.shards[sample.shard as usize].join(&*sample.name)
    }
}
