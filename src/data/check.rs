//! Looks at every image of a data set: what cannot be decoded, what is damaged, what is in both splits, and the numbers that
//! a recipe wants.

mod table;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::recipe::{DataPlan, Format, Threads};

use super::dataset::{DataSet, Labels, open_past_damage};
use super::decode::OpenedImage;
use super::error::DataError;
use super::image_folder;
use super::listing_cache::ListingCache;
use super::picture::Pixels;
use super::split::{Split, Stored};
use super::workers::{self, Workers};

/// Images that a worker looks at before it reports.
const CHUNK: usize = 16;

/// What was found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Checked {
    /// `train`, and `val` where there is one.
    pub splits: Vec<CheckedSplit>,
    /// What is wrong with the data set as a whole: missing classes, damaged shards.
    pub problems: Vec<String>,
    /// Files of an image folder that are not called like images, by their endings; "" stands for none.
    pub left_out: Vec<(String, usize)>,
    /// Images with the same bytes in both splits: the one in `train`, the one in `val`.
    pub in_both: Vec<[PathBuf; 2]>,
    /// Of each channel over the pixels of the training images, on the 0..1 scale; every image counts the same.
    pub mean: Vec<f64>,
    pub std: Vec<f64>,
}

/// One split.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CheckedSplit {
    pub name: &'static str,
    pub images: usize,
    pub bytes: u64,
    /// Images of each class by its name; none where there are no classes.
    pub classes: Vec<(String, usize)>,
    /// Smallest, median and largest width and height, in pixels.
    pub width: [usize; 3],
    pub height: [usize; 3],
    /// Files that cannot be used, and why.
    pub bad: Vec<(PathBuf, String)>,
    /// Files that are decoded as far as they go: the decoder's warning.
    pub damaged: Vec<(PathBuf, String)>,
}

impl Checked {
    /// Tells that a run on the data would stop, or pass over files.
    pub fn is_bad(&self) -> bool {
        !self.problems.is_empty() || self.splits.iter().any(|split| !split.bad.is_empty())
    }
}

/// What one image gave.
struct Looked {
    result: Result<Image, String>,
    name: Option<PathBuf>,
}

struct Image {
    size: (usize, usize),
    bytes: u64,
    hash: [u8; 32],
    warning: Option<String>,
    /// Of each channel: the mean level, and the mean of its square.
    moments: Vec<[f64; 2]>,
}

/// Decodes every image that `plan` names, on `plan.workers` threads. `progress` is told how many of how many are done, and
/// ends it early by saying no: then there is no result.
pub fn check(
    plan: &DataPlan,
    labels: Labels,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Option<Checked>, DataError> {
    ListingCache::forget(&plan.path);
    let (data, problems) = open_past_damage(plan, labels)?;
    let problems = problems.iter().map(ToString::to_string).collect();
    let total = data.train.len() + data.val.as_ref().map_or(0, |val| val.len());
    let mut checked = Checked {
        splits: Vec::new(),
        problems,
        left_out: left_out(plan),
        in_both: Vec::new(),
        mean: vec![],
        std: vec![],
    };
    let (mut hashes, mut done) = (HashMap::new(), 0);
    for (name, split) in [("train", Some(&data.train)), ("val", data.val.as_ref())] {
        let Some(split) = split else { continue };
        let mut sums = ChannelSums::new(name, split.len());
        let mut workers = look(split, plan.workers);
        for first in (0..split.len()).step_by(CHUNK) {
            for (index, looked) in (first..).zip(workers.take()?) {
                sums.add(&data, split.label(index), &looked);
                let Ok(image) = &looked.result else { continue };
                if name == "train" {
                    hashes.entry(image.hash).or_insert(index);
                } else if let Some(train) = hashes.get(&image.hash) {
                    checked.in_both.push([data.train.name(*train), split.name(index)]);
                }
            }
            done += CHUNK.min(split.len() - first);
            if !progress(done, total) {
                return Ok(None);
            }
        }
        if name == "train" {
            (checked.mean, checked.std) = sums.mean_and_std();
        }
        checked.splits.push(sums.split(&data));
    }
    Ok(Some(checked))
}

/// What lies beside the images of an image folder, in the folders that are read.
fn left_out(plan: &DataPlan) -> Vec<(String, usize)> {
    let splits = ["train", "val"].map(|split| plan.path.join(split));
    match plan.format {
        Format::ImageFolder if splits[0].is_dir() => image_folder::left_out(&splits),
        Format::ImageFolder => image_folder::left_out(std::slice::from_ref(&plan.path)),
        _ => Vec::new(),
    }
}

/// Threads that look at chunks of a split, in order.
fn look(split: &Arc<dyn Split>, workers: Threads) -> Workers<Vec<Looked>> {
    let threads = workers::count(workers);
    let split = Arc::clone(split);
    let chunks = split.len().div_ceil(CHUNK);
    Workers::start(threads, 4 * threads, 0..chunks, move |chunk| {
        let mut buffer = Vec::new();
        let places = chunk * CHUNK..((chunk + 1) * CHUNK).min(split.len());
        Ok(places.map(|index| look_at(&*split, index, &mut buffer)).collect())
    })
}

fn look_at(split: &dyn Split, index: usize, buffer: &mut Vec<u8>) -> Looked {
    let result = match split.read(index, buffer) {
        Ok(stored) => image(stored),
        Err(error) => Err(error.problem()),
    };
    let named = !matches!(&result, Ok(Image { warning: None, .. }));
    Looked { result, name: named.then(|| split.name(index)) }
}

fn image(stored: Stored<'_>) -> Result<Image, String> {
    let (bytes, hash) = match &stored {
        Stored::File { bytes, .. } => (bytes.len(), Sha256::digest(bytes)),
        Stored::Picture(picture) => match &picture.pixels {
            Pixels::U8(levels) => (levels.len(), Sha256::digest(levels)),
            Pixels::F32(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                (bytes.len(), Sha256::digest(&bytes))
            }
        },
    };
    let (picture, warning) = OpenedImage::stored(stored)?.whole_and_warning()?;
    let moments = (0..picture.channels).map(|channel| match &picture.pixels {
        Pixels::U8(levels) => moments_of_levels(levels, channel, picture.channels),
        Pixels::F32(values) => moments_of_values(values, channel, picture.channels),
    });
    Ok(Image {
        size: (picture.width, picture.height),
        bytes: bytes as u64,
        hash: hash.into(),
        warning,
        moments: moments.collect(),
    })
}

fn moments_of_levels(levels: &[u8], channel: usize, channels: usize) -> [f64; 2] {
    let (mut sum, mut squares) = (0u64, 0u64);
    for level in levels.iter().skip(channel).step_by(channels) {
        let level = u64::from(*level);
        sum += level;
        squares += level * level;
    }
    let pixels = (levels.len() / channels) as f64;
    [sum as f64 / 255.0 / pixels, squares as f64 / (255.0 * 255.0) / pixels]
}

fn moments_of_values(values: &[f32], channel: usize, channels: usize) -> [f64; 2] {
    let values = || values.iter().skip(channel).step_by(channels).map(|v| f64::from(*v));
    let pixels = values().count() as f64;
    [values().sum::<f64>() / pixels, values().map(|v| v * v).sum::<f64>() / pixels]
}

/// A split's numbers as they come.
struct ChannelSums {
    split: CheckedSplit,
    sizes: [Vec<usize>; 2],
    counts: Vec<usize>,
    moments: Vec<[f64; 2]>,
}

impl ChannelSums {
    fn new(name: &'static str, images: usize) -> Self {
        let split = CheckedSplit {
            name,
            images,
            bytes: 0,
            classes: Vec::new(),
            width: [0; 3],
            height: [0; 3],
            bad: Vec::new(),
            damaged: Vec::new(),
        };
        Self { split, sizes: [vec![], vec![]], counts: vec![], moments: vec![] }
    }

    fn add(&mut self, data: &DataSet, label: u32, looked: &Looked) {
        let label = label as usize;
        if label < data.class_names.len() {
            self.counts.resize(data.class_names.len(), 0);
            self.counts[label] += 1;
        }
        let name = || looked.name.clone().unwrap_or_default();
        match &looked.result {
            Err(problem) => self.split.bad.push((name(), problem.clone())),
            Ok(image) => {
                self.split.bytes += image.bytes;
                self.sizes[0].push(image.size.0);
                self.sizes[1].push(image.size.1);
                self.moments.resize(image.moments.len(), [0.0; 2]);
                for (sum, moment) in self.moments.iter_mut().zip(&image.moments) {
                    sum[0] += moment[0];
                    sum[1] += moment[1];
                }
                if let Some(warning) = &image.warning {
                    self.split.damaged.push((name(), warning.clone()));
                }
            }
        }
    }

    fn mean_and_std(&self) -> (Vec<f64>, Vec<f64>) {
        let images = self.sizes[0].len().max(1) as f64;
        let mean = |moment: &[f64; 2]| moment[0] / images;
        let std = |moment: &[f64; 2]| (moment[1] / images - mean(moment).powi(2)).max(0.0).sqrt();
        (self.moments.iter().map(mean).collect(), self.moments.iter().map(std).collect())
    }

    fn split(mut self, data: &DataSet) -> CheckedSplit {
        let three = |sizes: &mut Vec<usize>| {
            sizes.sort_unstable();
            let at = |place: usize| sizes.get(place).copied().unwrap_or(0);
            [at(0), at(sizes.len() / 2), sizes.last().copied().unwrap_or(0)]
        };
        self.split.classes = data.class_names.iter().cloned().zip(self.counts).collect();
        self.split.width = three(&mut self.sizes[0]);
        self.split.height = three(&mut self.sizes[1]);
        self.split
    }
}
