//! Opens the data set of a recipe: chooses the format, and compares the number of classes and images with the recipe.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::recipe::{BadVal, DataFacts, DataPlan, Format};
use crate::text::one_line;

use super::augment::evaluation::EvalTransform;
use super::decode::opened_image::decode_file;
use super::decode::picture::Reading;
use super::error::DataError;
use super::formats::class_names::readable_names;
use super::formats::found::{Found, Integrity, Labels, hex};
use super::formats::split::Split;
use super::formats::subset::Subset;
use super::formats::{cifar, digits, image_folder, synthetic, web_dataset};

/// A data set of images: splits, class names and fingerprint.
#[derive(Clone)]
pub struct DataSet {
    pub train: Arc<dyn Split>,
    /// The validation split; `None` if the data set has none.
    pub val: Option<Arc<dyn Split>>,
    /// Readable class names in label order; empty if the images have no classes.
    pub class_names: Vec<String>,
    pub facts: DataFacts,
    /// SHA-256 hash in hexadecimal that identifies the data.
    ///
    /// The hash covers the file contents, or the file names and sizes, depending on the format.
    pub fingerprint: String,
    /// Fingerprint of the same data from older versions of mae; `None` if equal to `fingerprint`.
    pub former_fingerprint: Option<String>,
    /// How `mae data pack` re-encoded the images; `None` for original images.
    pub note: Option<String>,
    /// Missing samples and missing checksums of tar shards.
    pub integrity: Integrity,
    /// Number of ignored files for each reason, such as "hidden files".
    pub passed_over: BTreeMap<String, u64>,
    /// One message for each unreadable image that [`DataSet::with_readable_val`] removed from the validation split.
    ///
    /// `None` if that function was not called, with `data.bad_val = "stop"`, or without a validation split.
    pub val_skipped: Option<Arc<[String]>>,
}

impl DataSet {
    /// Returns the data set without the unreadable images of the validation split.
    ///
    /// `unreadable` lists these images as (index in the validation split, error), sorted by index.
    ///
    /// Fails if no readable image remains. With [`BadVal::Stop`], fails if any image is unreadable.
    pub fn with_readable_val(
        &self,
        bad_val: BadVal,
        unreadable: &[(usize, DataError)],
    ) -> Result<Self, DataError> {
        let Some(val) = &self.val else { return Ok(self.clone()) };
        let files: Vec<String> =
            unreadable.iter().map(|(index, error)| error.about(&val.name(*index))).collect();
        if !files.is_empty() && (bad_val == BadVal::Stop || files.len() == val.len()) {
            return Err(unreadable_val(bad_val, &files, val.len()));
        }
        if bad_val == BadVal::Stop {
            return Ok(self.clone());
        }
        let left_out: Vec<usize> = unreadable.iter().map(|(index, _)| *index).collect();
        let val: Arc<dyn Split> = match &left_out[..] {
            [] => Arc::clone(val),
            left_out => Arc::new(Subset::without(Arc::clone(val), left_out)),
        };
        let facts = DataFacts { val_images: val.len(), ..self.facts };
        Ok(Self { val: Some(val), facts, val_skipped: Some(files.into()), ..self.clone() })
    }
}

/// Maximum number of files in the error about unreadable validation images.
const LISTED: usize = 1000;

fn unreadable_val(bad_val: BadVal, files: &[String], images: usize) -> DataError {
    let are = if files.len() == 1 { "is" } else { "are" };
    let mut lines = vec![format!(
        "cannot evaluate: {} of {images} validation images {are} unreadable:",
        files.len()
    )];
    lines.extend(files.iter().take(LISTED).map(|file| format!("  {file}")));
    if files.len() > LISTED {
        lines.push(format!("  and {} more", files.len() - LISTED));
    }
    let hint = match bad_val {
        BadVal::Stop => {
            "download these files again or delete these files. To leave these files out of every accuracy, set `data.bad_val = \"skip\"`"
        }
        BadVal::Skip => "download these files again: no readable validation image remains",
    };
    DataError::setting(lines.join("\n"), hint)
}

/// Maximum number of problems in the warning about incomplete tar shards.
const SHOWN: usize = 5;

/// Opens the data set of `plan`. Does not decode images.
///
/// Fails if the number of classes or images differs from the recipe. Logs a warning if tar shards may be incomplete.
pub fn open(plan: &DataPlan, labels: Labels) -> Result<DataSet, DataError> {
    let data = data_set(plan, find(plan, labels)?)?;
    if !data.passed_over.is_empty() {
        tracing::info!("files that mae does not use: {}", listed(&data.passed_over));
    }
    let lost = &data.integrity.lost;
    if !lost.is_empty() {
        let shown = lost[..lost.len().min(SHOWN)].join("; ");
        tracing::warn!(
            "the tar shards may be incomplete ({} {}): {shown}. The run uses the remaining samples. Run `mae data \
             check` to list all problems",
            lost.len(),
            if lost.len() == 1 { "problem" } else { "problems" }
        );
    }
    Ok(data)
}

/// Opens a data set without its damaged tar shards, and without labels if the labels are invalid.
///
/// Also returns the errors about damaged shards or invalid labels. Fails if no images remain.
pub(super) fn open_past_damage(
    plan: &DataPlan,
    labels: Labels,
) -> Result<(DataSet, Vec<DataError>), DataError> {
    let (found, problems) = match find_past_problems(plan, labels) {
        Err(first) if plan.format != Format::WebDataset => match find(plan, Labels::Unneeded) {
            Ok(found) => (found, vec![first]),
            Err(_) => return Err(first),
        },
        opened => opened?,
    };
    Ok((data_set(plan, found)?, problems))
}

/// Finds the files of the data set. Fails if the folder layout does not match the format.
pub(super) fn find(plan: &DataPlan, labels: Labels) -> Result<Found, DataError> {
    let (found, problems) = find_past_problems(plan, labels)?;
    match problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(found),
    }
}

/// Finds the files of the data set. Returns problems as a list if some images remain usable.
fn find_past_problems(
    plan: &DataPlan,
    labels: Labels,
) -> Result<(Found, Vec<DataError>), DataError> {
    let found = match plan.format {
        Format::Digits => digits::find(plan),
        Format::Synthetic => synthetic::find(plan),
        Format::ImageFolder => return image_folder::find(plan, labels),
        Format::WebDataset => return web_dataset::find(plan, labels),
        #[cfg(feature = "parquet")]
        Format::Parquet => super::formats::parquet::find(plan, labels)?,
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => {
            return Err(DataError::setting(
                "cannot read `data.format = \"parquet\"`: this build of mae has no parquet support",
                "build mae with the default features, or with `--features parquet`",
            ));
        }
        Format::Cifar10 => cifar::find(plan, &cifar::CIFAR10)?,
        Format::Cifar100 => cifar::find(plan, &cifar::CIFAR100)?,
    };
    Ok((found, Vec::new()))
}

/// Compares the data with the recipe, and adds readable class names.
fn data_set(plan: &DataPlan, found: Found) -> Result<DataSet, DataError> {
    let facts = check_promises(plan, &found)?;
    let class_names = readable_names(&found.classes, plan.class_map.as_deref())?;
    let (fingerprint, former) = (hex(found.hash), found.former.map(hex));
    Ok(DataSet {
        class_names,
        train: found.train,
        val: found.val,
        facts,
        former_fingerprint: former.filter(|former| *former != fingerprint),
        fingerprint,
        note: found.note,
        integrity: found.integrity,
        passed_over: found.passed_over,
        val_skipped: None,
    })
}

fn listed(passed_over: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> =
        passed_over.iter().map(|(what, count)| format!("{}: {count}", one_line(what))).collect();
    counts.join(", ")
}

/// Reads the image file at `path`, and preprocesses the image as in evaluation. Returns `[C, H, W]`.
///
/// For the digits data set, converts the image to grey and resizes the image without antialiasing.
pub fn transform_picture(path: &Path, plan: &DataPlan) -> Result<Vec<f32>, DataError> {
    let transform = EvalTransform::new(plan);
    let picture = if plan.format == Format::Digits {
        digits::read_like_a_digit(path, plan.input_size)?
    } else {
        decode_file(path, Reading::of(plan)?)?
    };
    Ok(transform.apply(&picture))
}

/// Counts classes and images. Fails if the counts differ from the recipe.
fn check_promises(plan: &DataPlan, found: &Found) -> Result<DataFacts, DataError> {
    let promised = plan.promised;
    // Data without classes, such as for pre-training, does not contradict the recipe's number of classes.
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
