//! `WebDataset` shards: tar files. Members with the same name form a sample: an image and its class.
//!
//! Opening the data set indexes all shards, or reads the index from the listing cache. With the index, the shuffle
//! covers all samples, and the loader reads each sample directly. The loader does not use memory maps, because a
//! truncated shard would then kill the process with a signal.
//!
//! `mae data pack` writes checksum files beside its shards. Indexing a shard compares its classes with the checksum
//! file. Reading an image compares the image's bytes with its hash. Other signs of missing samples, such as data after
//! the end marker, become warnings in [`Integrity`].

pub(in crate::data) mod checksums;
mod index;
mod label;
pub(in crate::data) mod packed;
mod python_json;
mod sample;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::data::decode::picture::{Reading, Stored};
use crate::data::error::DataError;
use crate::recipe::DataPlan;

use super::classes::{ClassTable, KnownNames, Naming, ReadClass};
use super::found::{Found, Integrity, Labels};
use super::image_names::ImageNames;
use super::listing_cache::ListingCache;
use super::passed_over::{self, PassedOver};
use super::shards::Shards;
use super::split::Split;
use checksums::{ImageHash, image_hash};
use index::Rules;
use packed::{CLASSES, Packed, ShardCounts};

const EXTENSION: &str = "tar";
const AGAIN: &str = "download or pack the shard again, or delete the shard";
const HINT: &str = "put tar shards in `train/` and `val/` under `data.path`. Or put all shards directly in \
                    `data.path`, with `val` in the names of validation shards";

const NO_CLASS: &str = "add a `.cls` file with the class of each image, or a `.json` file with the class as `label`. A class is a whole number from 0, or a name";

/// Finds and indexes the tar shards of the data set that `plan` describes. Skips damaged shards.
///
/// Also returns errors, such as damaged shards or images without a class. Fails if there are no training images.
pub(in crate::data) fn find(
    plan: &DataPlan,
    labels: Labels,
) -> Result<(Found, Vec<DataError>), DataError> {
    let reading = Reading::of(plan)?;
    let (shards, no_val) = Shards::find(&plan.path, EXTENSION, HINT)?.checked(labels, HINT);
    let packed = Packed::read(&plan.path)?;
    let counts = ShardCounts { train: shards.train.len(), val: shards.val.len() };
    let incomplete = packed.as_ref().and_then(|packed| packed.problem(&plan.path, counts));
    let checksummed = packed.as_ref().is_some_and(|packed| packed.checksums);
    let changed = packed.as_ref().and_then(|packed| packed.changed_classes(&plan.path));
    let mut findings = Findings {
        problems: no_val.into_iter().chain(incomplete).collect(),
        lost: shards.not_read.iter().cloned().chain(changed).collect(),
        passed_over: shards.passed_over.clone(),
        classes: ClassTable::default(),
    };
    let mut cache = ListingCache::of(plan);
    let rules = Rules { keys: &plan.image_key, images: ImageNames::of(plan), checksummed };
    let mut open =
        |shards: Vec<PathBuf>| WebDataset::open(shards, reading, rules, &mut cache, &mut findings);
    let mut train = open(shards.train);
    let mut val = (!shards.val.is_empty()).then(|| open(shards.val));
    cache.keep();
    let Findings { mut problems, lost, passed_over, classes } = findings;
    if train.is_empty() {
        let problem = no_images(plan, &lost, &passed_over);
        return Err(problems.into_iter().next().unwrap_or(problem));
    }
    let (known, promised) = (class_names(&plan.path)?, plan.promised.num_classes);
    let mut classes = classes.number(Naming { known, promised, data: &plan.path, hint: NO_CLASS });
    for sample in train.samples.iter_mut().chain(val.iter_mut().flat_map(|val| &mut val.samples)) {
        sample.label = classes.label(sample.class);
    }
    if labels.are_needed(val.is_some() && !classes.none) {
        problems.extend(classes.problem.take());
    }
    let hash = hash_of(&train, val.as_ref(), classes.stored_names(), false);
    let former = hash_of(&train, val.as_ref().filter(|_| !shards.val_is_new), &[], true);
    let reencoded = packed.and_then(|packed| packed.reencoded);
    let note = reencoded.map(|reencoded| reencoded.to_string());
    let both = || std::iter::once(&train).chain(&val);
    let unchecked = both().flat_map(|split| &split.samples).filter(|s| s.hash.is_none()).count();
    let integrity = Integrity { lost, unchecked };
    let val = val.map(|val| Arc::new(val) as Arc<dyn Split>);
    let found = Found::of(Arc::new(train), val, classes.classes, hash);
    Ok((Found { former: Some(former), note, integrity, passed_over, ..found }, problems))
}

/// Reads the class names from the file [`CLASSES`], which `mae data pack` writes; `None` if the file does not exist.
fn class_names(folder: &Path) -> Result<Option<KnownNames>, DataError> {
    let file = folder.join(CLASSES);
    if !file.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(&file).map_err(|e| DataError::unreadable(&file, e))?;
    let names = text.lines().map(str::to_owned).collect();
    Ok(Some(KnownNames { file, names, by: CLASSES }))
}

/// Returns the error for training shards that contain no images.
fn no_images(plan: &DataPlan, lost: &[String], passed_over: &PassedOver) -> DataError {
    let mut problem = "the training shards contain no images".to_owned();
    if !plan.image_key.is_empty() && !passed_over.is_empty() {
        let keys = plan.image_key.join(";");
        let hint = "set `data.image_key` to the ending of the image names after the first dot, such as `depth.png`. Or remove `data.image_key`";
        return DataError::layout(
            &plan.path,
            format!("{problem} (`data.image_key = \"{keys}\"`)"),
            hint,
        );
    }
    if let Some(archives) = lost.iter().find(|lost| lost.contains(index::ARCHIVES)) {
        problem = format!("{problem}; {archives}");
        return DataError::layout(&plan.path, problem, "unpack these archives");
    }
    DataError::layout(&plan.path, problem, HINT)
}

/// Returns the fingerprint of the data: name, size and class of each sample, and the class names `names`.
///
/// If `former` is true, leaves out classes that older versions of this program did not read.
fn hash_of(train: &WebDataset, val: Option<&WebDataset>, names: &[String], former: bool) -> Sha256 {
    let mut hash = Sha256::new();
    for Sample { name, size, label, dotted, .. } in
        std::iter::once(train).chain(val).flat_map(|split| &split.samples)
    {
        let label = label.filter(|_| !(former && *dotted)).unwrap_or(u32::MAX);
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(size.to_le_bytes());
        hash.update(label.to_le_bytes());
    }
    for name in names {
        hash.update(name.as_bytes());
        hash.update([0]);
    }
    hash
}

struct Findings {
    /// Errors that stop a run.
    problems: Vec<DataError>,
    /// Warnings about samples that may be missing.
    lost: Vec<String>,
    passed_over: PassedOver,
    classes: ClassTable,
}

/// A split whose samples are in one or more tar shards.
struct WebDataset {
    shards: Vec<PathBuf>,
    samples: Vec<Sample>,
    reading: Reading,
}

struct Sample {
    shard: u32,
    offset: u64,
    size: u64,
    class: ReadClass,
    /// The label; `None` if the image has no usable class, or before all shards are indexed.
    label: Option<u32>,
    /// Whether older versions of this program ignored the class of this sample.
    dotted: bool,
    /// The image's hash; `None` if the shard has no checksum file.
    hash: Option<ImageHash>,
    /// The image's file name inside the shard.
    name: Box<str>,
}

impl WebDataset {
    /// Indexes `shards`. Skips damaged shards, and adds their errors to `findings`.
    fn open(
        shards: Vec<PathBuf>,
        reading: Reading,
        rules: Rules<'_>,
        cache: &mut ListingCache,
        findings: &mut Findings,
    ) -> Self {
        let mut samples = Vec::new();
        let indexed = index::read_all(&shards, rules, cache);
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
            passed_over::merge(&mut findings.passed_over, &index.passed_over);
            samples.extend(index.images.into_iter().map(|image| Sample {
                shard: number as u32,
                offset: image.offset,
                size: image.size,
                class: findings.classes.add(path, &image.name, image.class),
                label: None,
                dotted: image.dotted,
                hash: image.hash.and_then(|hash| hash.try_into().ok()),
                name: image.name.into(),
            }));
        }
        Self { shards, samples, reading }
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
        Ok(Stored::File { bytes: buffer, reading: self.reading })
    }

    fn name(&self, index: usize) -> PathBuf {
        let sample = &self.samples[index];
        self.shards[sample.shard as usize].join(&*sample.name)
    }

    fn holds_levels(&self) -> bool {
        self.reading.gives_levels()
    }
}
