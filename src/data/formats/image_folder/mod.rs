//! Folders of image files: `train/<class>/<name>.jpg`, or images in any folder if labels are not needed.

mod left_out;
mod listing;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::data::decode::picture::Reading;
use crate::data::error::{DataError, first_of};
use crate::recipe::DataPlan;

use super::found::{Found, Labels};
use super::image_names::ImageNames;
use super::listing_cache::ListingCache;
use super::passed_over::{self, PassedOver};
use super::shards::{VAL_FOLDERS, val_folder};
use super::split::Split;
pub(in crate::data) use left_out::left_out;
pub(in crate::data) use listing::{ImageFolder, Listing};

/// Maximum number of class folders that a message lists.
const SHOWN: usize = 5;
/// The hint for a folder of `.npy` files. They count as images only if the recipe sets `data.range`.
const ARRAYS: &str = "set `data.range = [lo, hi]` to read the .npy files. To find the range, set any range and run \
                      `mae data check`, which prints the percentiles of the values";
/// Extensions of archives that may contain the missing images of a folder.
const ARCHIVES: [&str; 9] = ["zip", "tar", "gz", "tgz", "zst", "xz", "bz2", "7z", "rar"];

/// Lists the images of the data set that `plan` describes. Also returns all problems with the folders.
///
/// With [`Labels::Needed`], `train/` and `val/` must have the same class folders. Fails if there are no training
/// images.
pub(in crate::data) fn find(
    plan: &DataPlan,
    labels: Labels,
) -> Result<(Found, Vec<DataError>), DataError> {
    let reading = Reading::of(plan)?;
    if !plan.path.is_dir() {
        let problem = "the folder does not exist (`data.path`)";
        return Err(DataError::layout(&plan.path, problem, layout_hint(labels)));
    }
    let mut cache = ListingCache::of(plan);
    let train_dir = plan.path.join("train");
    let has_train = train_dir.is_dir();
    if !has_train && labels == Labels::Needed {
        let problem = "the folder does not exist";
        return Err(DataError::layout(&train_dir, problem, layout_hint(labels)));
    }
    let root = if has_train { &train_dir } else { &plan.path };
    let mut train = Listing::read(root, &mut cache)?;
    let val_dir = val_folder(&plan.path).filter(|_| has_train);
    let mut val = match &val_dir {
        Some(folder) => Some(Listing::read(folder, &mut cache)?),
        None => None,
    };
    cache.keep();
    if train.len() == 0 {
        return Err(no_images(plan, root, labels));
    }
    let mut problems = std::mem::take(&mut train.problems);
    problems.extend(val.iter_mut().flat_map(|val| std::mem::take(&mut val.problems)));
    let mut passed_over = PassedOver::new();
    for listing in std::iter::once(&train).chain(&val) {
        passed_over::merge(&mut passed_over, &listing.passed_over);
    }
    if labels == Labels::Needed {
        let val_dir = val_dir.clone().unwrap_or_else(|| plan.path.join(VAL_FOLDERS[0]));
        let splits = [(&train_dir, Some(&mut train)), (&val_dir, val.as_mut())];
        for (folder, listing) in splits {
            match listing {
                None => {
                    let problem = "the folder does not exist";
                    problems.push(DataError::layout(folder, problem, layout_hint(labels)));
                }
                Some(listing) => problems.extend(drop_loose(folder, listing, &mut passed_over)),
            }
        }
        let is_usable = |listing: &Listing| !listing.classes.is_empty();
        if let Some(val) = val.as_ref().filter(|val| is_usable(val) && is_usable(&train)) {
            problems.extend(empty_classes(&train_dir, &train));
            problems.extend(different_classes(&plan.path, &train, (&val_dir, val)));
            problems.extend(empty_classes(&val_dir, val));
        }
    }
    if train.len() == 0 {
        return Err(problems.into_iter().next().unwrap_or_else(|| no_images(plan, root, labels)));
    }
    let val_is_new = val_dir.is_some_and(|folder| !folder.ends_with(VAL_FOLDERS[0]));
    Ok((Found { passed_over, ..found(train, val, reading, val_is_new) }, problems))
}

fn found(train: Listing, val: Option<Listing>, reading: Reading, val_is_new: bool) -> Found {
    let hash_of = |val: Option<&Listing>| {
        let mut hash = Sha256::new();
        for (name, listing) in [("train", Some(&train)), ("val", val)] {
            if let Some(listing) = listing {
                hash.update(name);
                listing.hash_into(&mut hash);
            }
        }
        hash
    };
    let hash = hash_of(val.as_ref());
    let former = hash_of(val.as_ref().filter(|_| !val_is_new));
    let labelled = train.is_labelled();
    let classes = if labelled { train.classes.clone() } else { Vec::new() };
    let label = |class| if labelled { class } else { 0 };
    let split =
        |listing: Listing| -> Arc<dyn Split> { Arc::new(listing.into_split(reading, label)) };
    Found { former: Some(former), ..Found::of(split(train), val.map(split), classes, hash) }
}

/// Returns the error about a folder without images. Mentions archives that may contain the images.
fn no_images(plan: &DataPlan, folder: &Path, labels: Labels) -> DataError {
    let problem = "the folder contains no images (jpg, png, webp, …)";
    let is_archive = |(extension, _): &&(String, usize)| ARCHIVES.contains(&extension.as_str());
    let others = left_out(&plan.path, ImageNames::of(plan));
    if others.iter().any(|(extension, _)| extension == "npy") {
        return DataError::layout(folder, problem, ARRAYS);
    }
    let archives: Vec<String> =
        others.iter().filter(is_archive).map(|(ext, count)| format!("{count} .{ext}")).collect();
    if archives.is_empty() {
        return DataError::layout(folder, problem, layout_hint(labels));
    }
    let problem = format!("{problem}. The folder contains archives: {}", archives.join(", "));
    DataError::layout(
        folder,
        problem,
        "unpack the archives; or set `data.format = \"webdataset\"` for tar shards",
    )
}

/// Removes the images outside of class folders from `listing`, as torchvision does.
///
/// Counts the removed images in `passed_over`. Returns an error if there are no class folders.
fn drop_loose(
    folder: &Path,
    listing: &mut Listing,
    passed_over: &mut PassedOver,
) -> Option<DataError> {
    let loose = listing.loose();
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if listing.classes.is_empty() {
        let problem = match loose {
            0 => "the folder has no class folders".to_owned(),
            1 => format!("1 image is directly in {name}/, not in a class folder"),
            _ => format!("{loose} images are directly in {name}/, not in class folders"),
        };
        return Some(DataError::layout(folder, problem, layout_hint(Labels::Needed)));
    }
    if loose > 0 {
        listing.drop_loose();
        let what = format!("images directly in {name}/, not in class folders");
        passed_over::count(passed_over, &what, &what, loose as u64);
    }
    None
}

fn layout_hint(labels: Labels) -> &'static str {
    match labels {
        Labels::Needed | Labels::IfAny => {
            "put the images in `train/<class>/` and `val/<class>/` under `data.path`"
        }
        Labels::Unneeded => {
            "put images, or folders of images, in `data.path` or in `train/` under `data.path`"
        }
    }
}

fn empty_classes(folder: &Path, listing: &Listing) -> Option<DataError> {
    let empty = listing.empty_classes();
    if empty.is_empty() {
        return None;
    }
    let problem = format!("these class folders contain no images: {}", first_of(&empty, SHOWN));
    let hint = "add images (jpg, png, webp, …), or remove these folders from `train/` and `val/`";
    Some(DataError::layout(folder, problem, hint))
}

/// Returns an error if `train` and `val` have different class folders. `val` is (folder, listing).
fn different_classes(path: &Path, train: &Listing, val: (&Path, &Listing)) -> Option<DataError> {
    let val_name = val.0.file_name().unwrap_or_default().to_string_lossy();
    let [train, val]: [BTreeSet<&str>; 2] =
        [train, val.1].map(|listing| listing.classes.iter().map(String::as_str).collect());
    let only = |a: &BTreeSet<&str>, b: &BTreeSet<&str>, place: &str| {
        let names: Vec<&str> = a.difference(b).copied().collect();
        (!names.is_empty()).then(|| format!("only in {place}/: {}", first_of(&names, SHOWN)))
    };
    let differences: Vec<String> = [only(&train, &val, "train"), only(&val, &train, &val_name)]
        .into_iter()
        .flatten()
        .collect();
    if differences.is_empty() {
        return None;
    }
    let numbers = if train.len() == val.len() {
        String::new()
    } else {
        format!(" ({} and {} class folders)", train.len(), val.len())
    };
    let problem = format!(
        "`train/` and `{val_name}/` have different classes{numbers}; {}",
        differences.join("; ")
    );
    let hint = format!(
        "use the same class folders in `train/` and `{val_name}/`, because a label is the index of a class in sorted order"
    );
    Some(DataError::layout(path, problem, hint))
}
