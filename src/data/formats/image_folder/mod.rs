//! Folders of image files: `train/<class>/<name>.jpg`, or images in any folder if labels are not needed.

mod left_out;
mod listing;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::data::decode::picture::Colour;
use crate::data::error::DataError;
use crate::recipe::DataPlan;

use super::found::{Found, Integrity, Labels};
use super::listing_cache::ListingCache;
use super::split::Split;
pub(in crate::data) use left_out::left_out;
use listing::Listing;

/// Lists the images of an image folder data set.
///
/// If labels are needed, fails unless `train/` and `val/` have the same classes.
pub(in crate::data) fn find(plan: &DataPlan, labels: Labels) -> Result<Found, DataError> {
    let colour = Colour::of_channels(plan.in_chans)?;
    if !plan.path.is_dir() {
        let problem = "the folder does not exist (`data.path`)";
        return Err(DataError::layout(&plan.path, problem, layout_hint(labels)));
    }
    let (train_dir, val_dir) = (plan.path.join("train"), plan.path.join("val"));
    let mut cache = ListingCache::of(&plan.path);
    let train = match labels {
        Labels::Unneeded if !train_dir.is_dir() => Listing::read(&plan.path, &mut cache)?,
        _ => Listing::read(existing(&train_dir, labels)?, &mut cache)?,
    };
    let val = match labels {
        Labels::Unneeded if !(train_dir.is_dir() && val_dir.is_dir()) => None,
        _ => Some(Listing::read(existing(&val_dir, labels)?, &mut cache)?),
    };
    cache.keep();
    if train.len() == 0 {
        let folder = if train_dir.is_dir() { &train_dir } else { &plan.path };
        let problem = "the folder contains no images (jpg, png, webp, …)";
        return Err(DataError::layout(folder, problem, layout_hint(labels)));
    }
    if labels == Labels::Needed {
        check_classes(&train_dir, &train)?;
        if let Some(val) = &val {
            check_same_classes(&plan.path, &train, val)?;
            check_classes(&val_dir, val)?;
        }
    }
    Ok(found(train, val, colour))
}

fn found(train: Listing, val: Option<Listing>, colour: Colour) -> Found {
    let mut hash = Sha256::new();
    for (name, listing) in [("train", Some(&train)), ("val", val.as_ref())] {
        if let Some(listing) = listing {
            hash.update(name);
            listing.hash_into(&mut hash);
        }
    }
    let labelled = train.is_labelled();
    let classes = if labelled { train.classes.clone() } else { Vec::new() };
    let split =
        |listing: Listing| -> Arc<dyn Split> { Arc::new(listing.into_split(labelled, colour)) };
    Found {
        train: split(train),
        val: val.map(split),
        classes,
        hash,
        note: None,
        integrity: Integrity::default(),
    }
}

fn layout_hint(labels: Labels) -> &'static str {
    match labels {
        Labels::Needed => "put the images in `train/<class>/` and `val/<class>/` under `data.path`",
        Labels::Unneeded => {
            "put images, or folders of images, in `data.path` or in `train/` under `data.path`"
        }
    }
}

fn existing(folder: &Path, labels: Labels) -> Result<&Path, DataError> {
    let missing = || DataError::layout(folder, "the folder does not exist", layout_hint(labels));
    folder.is_dir().then_some(folder).ok_or_else(missing)
}

fn check_classes(folder: &Path, listing: &Listing) -> Result<(), DataError> {
    if !listing.is_labelled() {
        let problem = "some images are not in a class folder";
        return Err(DataError::layout(folder, problem, layout_hint(Labels::Needed)));
    }
    let empty = listing.empty_classes();
    if empty.is_empty() {
        return Ok(());
    }
    let problem = format!("class folders without images: {}", some_of(&empty));
    let hint = "add images (jpg, png, webp, …), or remove these folders from `train/` and `val/`";
    Err(DataError::layout(folder, problem, hint))
}

fn check_same_classes(path: &Path, train: &Listing, val: &Listing) -> Result<(), DataError> {
    let [train, val]: [BTreeSet<&str>; 2] =
        [train, val].map(|listing| listing.classes.iter().map(String::as_str).collect());
    let only = |a: &BTreeSet<&str>, b: &BTreeSet<&str>, place: &str| {
        let names: Vec<&str> = a.difference(b).copied().collect();
        (!names.is_empty()).then(|| format!("only in {place}: {}", some_of(&names)))
    };
    let differences: Vec<String> =
        [only(&train, &val, "train/"), only(&val, &train, "val/")].into_iter().flatten().collect();
    if differences.is_empty() {
        return Ok(());
    }
    let problem = format!("`train/` and `val/` have different classes; {}", differences.join("; "));
    let hint = "use the same class folders in `train/` and `val/`, because a label is the index of a class in sorted order";
    Err(DataError::layout(path, problem, hint))
}

/// Returns the first few names in quotes, and the number of other names.
fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    if names.len() > SHOWN {
        text.push(format!("and {} more", names.len() - SHOWN));
    }
    text.join(", ")
}
