//! Opens the data a recipe names, and checks that it is what the recipe promises.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::recipe::{DataFacts, DataPlan, Format};

use super::class_names::readable_names;
use super::decode::{Colour, decode_file};
use super::digits::{self, Digits};
use super::error::DataError;
use super::evaluation::EvalTransform;
use super::image_folder::Listing;
use super::listing_cache::ListingCache;
use super::picture::{Picture, Pixels};
use super::resize::bilinear;
use super::split::Split;
use super::synthetic::{Synthetic, SyntheticPart};
use super::{cifar, web_dataset};

/// Whether a stage looks at the classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// Fine-tuning, probing, evaluation: `train/` and `val/` with the same class folders.
    Needed,
    /// Pre-training alone: any folder of images will do, with or without `train/`.
    Unneeded,
}

/// The splits of a data set and what is known of it.
#[derive(Clone)]
pub struct DataSet {
    pub train: Arc<dyn Split>,
    /// `None` only with [`Labels::Unneeded`].
    pub val: Option<Arc<dyn Split>>,
    /// Readable, by label; empty where the images have no classes.
    pub class_names: Vec<String>,
    pub facts: DataFacts,
    /// SHA-256, in hexadecimal, of what identifies the data: file names and sizes, or the bytes themselves.
    pub fingerprint: String,
    /// What was done to the images before this program saw them, where that is known.
    pub note: Option<String>,
}

/// Splits, the classes' own names and what was hashed of the data, before anything is checked.
pub(super) struct Found {
    pub(super) train: Arc<dyn Split>,
    pub(super) val: Option<Arc<dyn Split>>,
    pub(super) classes: Vec<String>,
    pub(super) hash: Sha256,
    pub(super) note: Option<String>,
}

/// Finds the data of `plan` and checks it against the counts that the recipe promises. Decodes nothing.
pub fn open(plan: &DataPlan, labels: Labels) -> Result<DataSet, DataError> {
    data_set(plan, find(plan, labels)?)
}

/// As [`open`], but what is damaged or missing is left out where there is something else, and told.
pub(super) fn open_past_damage(
    plan: &DataPlan,
    labels: Labels,
) -> Result<(DataSet, Vec<DataError>), DataError> {
    let first = match open(plan, labels) {
        Ok(data) => return Ok((data, Vec::new())),
        Err(error) => error,
    };
    if plan.format == Format::WebDataset {
        let (found, problems) = web_dataset::find_past_damage(plan)?;
        let problems = if problems.is_empty() { vec![first] } else { problems };
        return Ok((data_set(plan, found)?, problems));
    }
    match open(plan, Labels::Unneeded) {
        Ok(data) => Ok((data, vec![first])),
        Err(error) => Err(error),
    }
}

/// Finds the data of `plan`, and checks that it is laid out as its format is.
pub(super) fn find(plan: &DataPlan, labels: Labels) -> Result<Found, DataError> {
    Ok(match plan.format {
        Format::Digits => open_digits(plan),
        Format::Synthetic => open_synthetic(plan),
        Format::ImageFolder => open_image_folder(plan, labels)?,
        Format::WebDataset => web_dataset::find(plan, labels)?,
        #[cfg(feature = "parquet")]
        Format::Parquet => super::parquet::find(plan, labels)?,
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => {
            let problem = "data.format = \"parquet\": this build cannot read parquet files";
            return Err(DataError::setting(
                problem,
                "build it with the default features, or `--features parquet`",
            ));
        }
        Format::Cifar10 => open_cifar(plan, &cifar::CIFAR10)?,
        Format::Cifar100 => open_cifar(plan, &cifar::CIFAR100)?,
    })
}

fn data_set(plan: &DataPlan, found: Found) -> Result<DataSet, DataError> {
    let facts = check_promises(plan, &found)?;
    Ok(DataSet {
        class_names: readable_names(&found.classes, plan.class_map.as_deref())?,
        train: found.train,
        val: found.val,
        facts,
        fingerprint: hex(found.hash),
        note: found.note,
    })
}

/// Gives any image file as the model of `plan` would see it in evaluation, `[C, H, W]`.
///
/// For a model of the digits it becomes grey and is resized as they are.
pub fn transform_picture(path: &Path, plan: &DataPlan) -> Result<Vec<f32>, DataError> {
    let transform = EvalTransform::new(plan);
    if plan.format == Format::Digits {
        let grey = decode_file(path, Colour::Grey)?;
        return Ok(transform.apply(&like_a_digit(&grey, plan.input_size)));
    }
    Ok(transform.apply(&decode_file(path, colour(plan)?)?))
}

fn like_a_digit(grey: &Picture, side: usize) -> Picture {
    let Pixels::U8(levels) = &grey.pixels else { unreachable!("files hold levels") };
    let values: Vec<f32> = levels.iter().map(|&level| f32::from(level) / 255.0).collect();
    let pixels = Pixels::F32(bilinear(&values, grey.width, grey.height, side));
    Picture { width: side, height: side, channels: 1, pixels }
}

fn open_digits(plan: &DataPlan) -> Found {
    Found {
        train: Arc::new(Digits::new("train", plan.input_size)),
        val: Some(Arc::new(Digits::new("val", plan.input_size))),
        classes: (0..10).map(|digit| digit.to_string()).collect(),
        hash: Sha256::new_with_prefix(digits::BYTES),
        note: None,
    }
}

fn open_synthetic(plan: &DataPlan) -> Found {
    let num_classes = plan.promised.num_classes.unwrap_or(1000).max(1);
    let split = |part, images| {
        let (input_size, in_chans) = (plan.input_size, plan.in_chans);
        Arc::new(Synthetic { part, images, num_classes, input_size, in_chans })
    };
    let (train, val) =
        (plan.promised.train_images.unwrap_or(1024), plan.promised.val_images.unwrap_or(256));
    let identity = format!("synthetic {num_classes} {train} {val}");
    Found {
        train: split(SyntheticPart::Train, train),
        val: Some(split(SyntheticPart::Val, val)),
        classes: (0..num_classes).map(|class| format!("class {class}")).collect(),
        hash: Sha256::new_with_prefix(identity),
        note: None,
    }
}

fn open_cifar(plan: &DataPlan, layout: &cifar::CifarLayout) -> Result<Found, DataError> {
    if plan.in_chans != 3 {
        return Err(DataError::setting(
            format!("CIFAR's images have 3 channels (data.in_chans = {})", plan.in_chans),
            "use data.in_chans = 3",
        ));
    }
    let cifar::Cifar { train, val, classes, hash } = cifar::read(&plan.path, layout)?;
    Ok(Found { train, val: Some(val), classes, hash, note: None })
}

fn open_image_folder(plan: &DataPlan, labels: Labels) -> Result<Found, DataError> {
    let colour = colour(plan)?;
    if !plan.path.is_dir() {
        let problem = "no such folder (data.path)";
        return Err(DataError::layout(&plan.path, problem, layout_hint(labels)));
    }
    let (train_dir, val_dir) = (plan.path.join("train"), plan.path.join("val"));
    let mut known = ListingCache::of(&plan.path);
    let train = match labels {
        Labels::Unneeded if !train_dir.is_dir() => Listing::read(&plan.path, &mut known)?,
        _ => Listing::read(existing(&train_dir, labels)?, &mut known)?,
    };
    let val = match labels {
        Labels::Unneeded if !(train_dir.is_dir() && val_dir.is_dir()) => None,
        _ => Some(Listing::read(existing(&val_dir, labels)?, &mut known)?),
    };
    known.keep();
    if train.len() == 0 {
        let folder = if train_dir.is_dir() { &train_dir } else { &plan.path };
        let problem = "no images (jpg, png, webp, …) in this folder";
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
    Found { train: split(train), val: val.map(split), classes, hash, note: None }
}

pub(super) fn colour(plan: &DataPlan) -> Result<Colour, DataError> {
    match plan.in_chans {
        1 => Ok(Colour::Grey),
        3 => Ok(Colour::Rgb),
        other => Err(DataError::setting(
            format!("image files have no {other} channels (data.in_chans = {other})"),
            "use data.in_chans = 3 for colour or 1 for grey",
        )),
    }
}

fn layout_hint(labels: Labels) -> &'static str {
    match labels {
        Labels::Needed => "expected train/<class>/*.jpg and val/<class>/*.jpg under data.path",
        Labels::Unneeded => "expected images, or folders of images, under data.path or its train/",
    }
}

fn existing(folder: &Path, labels: Labels) -> Result<&Path, DataError> {
    let missing = || DataError::layout(folder, "no such folder", layout_hint(labels));
    folder.is_dir().then_some(folder).ok_or_else(missing)
}

fn check_classes(folder: &Path, listing: &Listing) -> Result<(), DataError> {
    if !listing.is_labelled() {
        let problem = "some images are in no class folder";
        return Err(DataError::layout(folder, problem, layout_hint(Labels::Needed)));
    }
    let empty = listing.empty_classes();
    if empty.is_empty() {
        return Ok(());
    }
    let problem = format!("no images in class folder {}", some_of(&empty));
    let hint = "put images (jpg, png, webp, …) there, or remove the folder from train/ and val/";
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
    let problem = format!("train/ and val/ have different classes; {}", differences.join("; "));
    let hint = "labels are the classes' places in sorted order: both folders need the same ones";
    Err(DataError::layout(path, problem, hint))
}

/// The first few of many names.
fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    if names.len() > SHOWN {
        text.push(format!("and {} more", names.len() - SHOWN));
    }
    text.join(", ")
}

/// Gives the counts found; refuses those that a recipe states otherwise.
fn check_promises(plan: &DataPlan, found: &Found) -> Result<DataFacts, DataError> {
    let promised = plan.promised;
    // Images without classes leave a promised number of classes as it is.
    let num_classes = match found.classes.len() {
        0 => promised.num_classes.unwrap_or(0),
        classes => classes,
    };
    let val_images = found.val.as_ref().map(|val| val.len());
    for (key, promised, found) in [
        ("num_classes", promised.num_classes, Some(num_classes)),
        ("train_images", promised.train_images, Some(found.train.len())),
        ("val_images", promised.val_images, val_images),
    ] {
        if let (Some(promised), Some(found)) = (promised, found)
            && promised != found
        {
            return Err(DataError::setting(
                format!("the recipe says data.{key} = {promised}, the data has {found}"),
                format!("correct or remove data.{key}, or check data.path"),
            ));
        }
    }
    let val_images = val_images.or(promised.val_images).unwrap_or(0);
    Ok(DataFacts { num_classes, train_images: found.train.len(), val_images })
}

pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes any text");
        text
    })
}
