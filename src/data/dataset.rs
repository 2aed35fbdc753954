//! Opens the data of a recipe: chooses the format, and checks the counts that the recipe promises.

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

/// The splits of a data set and what is known about it.
#[derive(Clone)]
pub struct DataSet {
    pub train: Arc<dyn Split>,
    /// `None` only with [`Labels::Unneeded`].
    pub val: Option<Arc<dyn Split>>,
    /// Readable names by label; empty if the images have no classes.
    pub class_names: Vec<String>,
    pub facts: DataFacts,
    /// SHA-256 in hexadecimal of what identifies the data: file names and sizes, or the bytes themselves.
    pub fingerprint: String,
    /// How `data pack` changed the images, if it did.
    pub note: Option<String>,
    /// Lost samples and missing checksums of tar shards.
    pub integrity: Integrity,
}

/// Findings that a warning lists; `data check` lists all.
const SHOWN: usize = 5;

/// Finds the data of `plan` and compares it with the counts that the recipe promises. Decodes no images.
///
/// Logs a warning if samples of tar shards may be missing.
pub fn open(plan: &DataPlan, labels: Labels) -> Result<DataSet, DataError> {
    let data = data_set(plan, find(plan, labels)?)?;
    let lost = &data.integrity.lost;
    if !lost.is_empty() {
        let shown = lost[..lost.len().min(SHOWN)].join("; ");
        tracing::warn!(
            "samples may be missing from the tar shards (findings: {}); `mae` uses the images that are left; \
             `mae data check` lists every finding: {shown}",
            lost.len()
        );
    }
    Ok(data)
}

/// Opens the data like [`open`], but leaves out what is damaged or missing, if anything remains, and returns the problems.
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

/// Finds the data of `plan`, and checks that it has the layout of its format.
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
            "cannot read data.format = \"parquet\": this build has no parquet support",
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

/// Returns the image file at `path` as evaluation passes it to a model of `plan`, `[C, H, W]`.
///
/// For a model of the digits, the image becomes grey and is resized like the digits.
pub fn transform_picture(path: &Path, plan: &DataPlan) -> Result<Vec<f32>, DataError> {
    let transform = EvalTransform::new(plan);
    if plan.format == Format::Digits {
        let grey = decode_file(path, Colour::Grey)?;
        return Ok(transform.apply(&digits::like_a_digit(&grey, plan.input_size)));
    }
    Ok(transform.apply(&decode_file(path, Colour::of_channels(plan.in_chans)?)?))
}

/// Returns the counts found. Fails if the recipe promises different ones.
fn check_promises(plan: &DataPlan, found: &Found) -> Result<DataFacts, DataError> {
    let promised = plan.promised;
    // Images without classes do not contradict the promised number of classes.
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
                format!("the recipe says data.{key} = {promised}, but the data has {found}"),
                format!("correct or remove data.{key}, or check data.path"),
            ));
        }
    }
    let val_images = val_images.or(promised.val_images).unwrap_or(0);
    Ok(DataFacts { num_classes, train_images: found.train.len(), val_images })
}
