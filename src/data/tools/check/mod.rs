//! `mae data check`: decodes every image of a data set.
//!
//! The check finds unusable, damaged and duplicate images, and computes the mean and standard deviation of each
//! channel.

mod look;
mod numbers;
pub(in crate::data) mod report;
mod sums;

use std::collections::HashMap;
use std::sync::Arc;

use crate::data::dataset::{DataSet, open_past_damage};
use crate::data::error::DataError;
use crate::data::formats::found::Labels;
use crate::data::formats::image_folder;
use crate::data::formats::image_names::ImageNames;
use crate::data::formats::listing_cache::ListingCache;
use crate::data::formats::split::Split;
use crate::data::loader::workers::{self, Workers};
use crate::recipe::{DataPlan, Format, Threads};

use look::{Looked, look_at};
use report::Checked;
use sums::SplitSums;

/// Number of images that a worker checks at a time.
const CHUNK: usize = 16;

/// Decodes every image of a data set on `plan.workers` threads.
///
/// Calls `progress(checked images, all images)`. If `progress` returns false, stops and returns `None`.
pub fn check(
    plan: &DataPlan,
    labels: Labels,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Option<Checked>, DataError> {
    ListingCache::forget(plan);
    let (data, problems) = open_past_damage(plan, labels)?;
    let lost = data.integrity.lost.iter().cloned();
    let problems: Vec<String> = problems.iter().map(ToString::to_string).chain(lost).collect();
    let left_out = match plan.format {
        Format::ImageFolder => image_folder::left_out(&plan.path, ImageNames::of(plan)),
        _ => Vec::new(),
    };
    let unchecked = data.integrity.unchecked;
    let passed_over = data.passed_over.clone();
    let is_sound = labels == Labels::IfAny && problems.is_empty();
    let notes = if is_sound { notes(&data) } else { Vec::new() };
    let mut checked =
        Checked { problems, left_out, passed_over, notes, unchecked, ..Checked::default() };
    let total = data.train.len() + data.val.as_ref().map_or(0, |val| val.len());
    let (mut hashes, mut done) = (HashMap::new(), 0);
    for (name, split) in [("train", Some(&data.train)), ("val", data.val.as_ref())] {
        let Some(split) = split else { continue };
        let mut sums = SplitSums::new(name, split.len());
        // Only the training images determine the suggested `data.range`.
        let mut workers = look(split, name == "train", plan.workers);
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
            (checked.numbers, checked.cut_images) = (sums.numbers(), sums.cut_images);
        }
        checked.splits.push(sums.split(&data));
    }
    Ok(Some(checked))
}

/// Returns notes about tasks for which the data is not suitable, such as fine-tuning without classes.
fn notes(data: &DataSet) -> Vec<String> {
    let only = "so the data can only be used for pre-training";
    let without_val =
        data.val.is_none().then(|| format!("the data has no validation split, {only}"));
    let without_classes = (data.val.is_some() && data.class_names.is_empty())
        .then(|| format!("the images have no classes, {only}"));
    without_val.into_iter().chain(without_classes).collect()
}

/// Starts threads that check the images of a split in chunks. Results arrive in order.
fn look(split: &Arc<dyn Split>, with_numbers: bool, workers: Threads) -> Workers<Vec<Looked>> {
    let threads = workers::count(workers);
    let split = Arc::clone(split);
    let chunks = split.len().div_ceil(CHUNK);
    Workers::start(threads, 4 * threads, 0..chunks, move |chunk| {
        let mut buffer = Vec::new();
        let places = chunk * CHUNK..((chunk + 1) * CHUNK).min(split.len());
        Ok(places.map(|index| look_at(&*split, index, with_numbers, &mut buffer)).collect())
    })
}
