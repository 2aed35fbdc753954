//! Opens the data set of a recipe: chooses the format, and compares the number of classes and images with the recipe.

use std::path::Path;
use std::sync::Arc;

use crate::recipe::{DataFacts, DataPlan, Format};

use super::augment::evaluation::EvalTransform;
use super::decode::opened_image::decode_file;
use super::decode::picture::Colour;
use super::error::DataError;
use super::formats::class_names::readable_names;
use super::formats::found::{Found, Integrity, Labels, hex};
use super::formats::split::Split;
use super::formats::{cifar, digits, image_folder, synthetic, web_dataset};

/// A data set: splits, class names and fingerprint.
#[derive(Clone)]
pub struct DataSet {
    pub train: Arc<dyn Split>,
    /// The validation split; `None` if the data set has none.
    pub val: Option<Arc<dyn Split>>,
    /// Readable class names, indexed by label; empty for images without classes.
    pub class_names: Vec<String>,
    pub facts: DataFacts,
    /// SHA-256 that identifies the data, in hexadecimal.
    ///
    /// Depending on the format, covers the file contents, or file names and sizes.
    pub fingerprint: String,
    /// Describes how `mae data pack` re-encoded the images; `None` for original images.
    pub note: Option<String>,
    /// Missing samples and missing checksums of tar shards.
    pub integrity: Integrity,
}

/// Maximum number of problems in the warning about incomplete tar shards.
const SHOWN: usize = 5;

/// Opens the data set of `plan` without decoding images.
///
/// Fails if the number of classes or images differs from the recipe. Logs a warning if tar shards seem incomplete.
pub fn open(plan: &DataPlan, labels: Labels) -> Result<DataSet, DataError> {
    let data = data_set(plan, find(plan, labels)?)?;
    let lost = &data.integrity.lost;
    if !lost.is_empty() {
        let shown = lost[..lost.len().min(SHOWN)].join("; ");
        tracing::warn!(
            "the tar shards may lack samples ({} {}): {shown}. The run uses the remaining samples. Run `mae data \
             check` to list all problems",
            lost.len(),
            if lost.len() == 1 { "problem" } else { "problems" }
        );
    }
    Ok(data)
}

/// Opens a data set without damaged tar shards, or without labels if the labels are invalid.
///
/// Also returns the errors of the damaged shards or labels.
///
/// Fails if no images remain.
pub(super) fn open_past_damage(
    plan: &DataPlan,
    labels: Labels,
) -> Result<(DataSet, Vec<DataError>), DataError> {
    let opened = find(plan, labels).and_then(|found| data_set(plan, found));
    let first = match opened {
        Ok(data) => return Ok((data, Vec::new())),
        Err(error) => error,
    };
    if plan.format == Format::WebDataset {
        let (found, problems) = web_dataset::find_past_damage(plan)?;
        let problems = if problems.is_empty() { vec![first] } else { problems };
        return Ok((data_set(plan, found)?, problems));
    }
    match find(plan, Labels::Unneeded).and_then(|found| data_set(plan, found)) {
        Ok(data) => Ok((data, vec![first])),
        Err(error) => Err(error),
    }
}

/// Finds the files of the data set. Fails if the folder layout does not match the format.
pub(super) fn find(plan: &DataPlan, labels: Labels) -> Result<Found, DataError> {
    match plan.format {
        Format::Digits => Ok(digits::find(plan)),
        Format::Synthetic => Ok(synthetic::find(plan)),
        Format::ImageFolder => image_folder::find(plan, labels),
        Format::WebDataset => web_dataset::find(plan, labels),
        #[cfg(feature = "parquet")]
        Format::Parquet => super::formats::parquet::find(plan, labels),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => Err(DataError::setting(
            "cannot read `data.format = \"parquet\"`: this build of mae has no parquet support",
            "build mae with the default features, or with `--features parquet`",
        )),
        Format::Cifar10 => cifar::find(plan, &cifar::CIFAR10),
        Format::Cifar100 => cifar::find(plan, &cifar::CIFAR100),
    }
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
        integrity: found.integrity,
    })
}

/// Reads the image file at `path` as evaluation does. Returns `[C, H, W]`.
///
/// For the digits data set, converts the image to grey without antialiasing.
pub fn transform_picture(path: &Path, plan: &DataPlan) -> Result<Vec<f32>, DataError> {
    let transform = EvalTransform::new(plan);
    if plan.format == Format::Digits {
        let grey = decode_file(path, Colour::Grey)?;
        return Ok(transform.apply(&digits::like_a_digit(&grey, plan.input_size)));
    }
    Ok(transform.apply(&decode_file(path, Colour::of_channels(plan.in_chans)?)?))
}

/// Counts classes and images. Fails if the counts differ from the recipe.
fn check_promises(plan: &DataPlan, found: &Found) -> Result<DataFacts, DataError> {
    let promised = plan.promised;
    // Data without classes, as for pre-training, does not contradict the recipe's number of classes.
    let num_classes = match found.classes.len() {
        0 => promised.num_classes.unwrap_or(0),
        classes => classes,
    };
    let val_images = found.val.as_ref().map(|val| val.len());
    for (key, what, promised, found) in [
        ("num_classes", "classes", promised.num_classes, Some(num_classes)),
        ("train_images", "training images", promised.train_images, Some(found.train.len())),
        ("val_images", "validation images", promised.val_images, val_images),
    ] {
        if let (Some(promised), Some(found)) = (promised, found)
            && promised != found
        {
            return Err(DataError::setting(
                format!(
                    "the recipe has `data.{key} = {promised}`, but the data has {found} {what}"
                ),
                format!("correct or remove `data.{key}`, or check `data.path`"),
            ));
        }
    }
    let val_images = val_images.or(promised.val_images).unwrap_or(0);
    Ok(DataFacts { num_classes, train_images: found.train.len(), val_images })
}
