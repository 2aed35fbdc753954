//! Shards of `WebDataset`: tar files whose members come in groups of one name, an image and its class.
//!
//! An index of all shards is made, or taken over from an earlier start, when the data is opened, so the shuffle is over all
//! samples and any of them can be read at once. Members are read by their place in the file: a shard that is cut short is an
//! error, where a mapping of it into memory would end the process.

mod index;
mod label;
mod packed;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::recipe::DataPlan;

use super::dataset::{self, Found, Labels};
use super::decode::Colour;
use super::error::DataError;
use super::listing_cache::ListingCache;
use super::shards::Shards;
use super::split::{Split, Stored};
pub use packed::Reencoded;
pub(super) use packed::{PACK, Packed, ShardCounts};

/// What a shard's file name ends in.
const EXTENSION: &str = "tar";
/// Names of the classes, one a line, beside the shards.
pub(super) const CLASSES: &str = "classes.txt";
const HINT: &str = "expected tar shards in train/ and val/ under data.path, or there itself, with `val` in the names of \
                    those for validation";

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
    let shards = Shards::find(&plan.path, EXTENSION, labels, HINT)?;
    let packed = Packed::read(&plan.path)?;
    let counts = ShardCounts { train: shards.train.len(), val: shards.val.len() };
    let lacking = packed.as_ref().and_then(|packed| packed.problem(&plan.path, counts));
    let mut problems = Vec::from_iter(lacking);
    let mut known = ListingCache::of(&plan.path);
    let mut open =
        |shards: Vec<PathBuf>| WebDataset::open(shards, colour, &mut known, &mut problems);
    let train = open(shards.train);
    let val = (!shards.val.is_empty()).then(|| open(shards.val));
    known.keep();
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
    let reencoded = packed.and_then(|packed| packed.reencoded);
    let note = reencoded.map(|reencoded| reencoded.to_string());
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
    fn open(
        shards: Vec<PathBuf>,
        colour: Colour,
        known: &mut ListingCache,
        problems: &mut Vec<DataError>,
    ) -> Self {
        let mut samples = Vec::new();
        for (number, shard) in index::read_all(&shards, known).into_iter().enumerate() {
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
