//! Test sets besides the validation split: ImageNet-A, -R, -V2, -Sketch, -C, and other folders with class folders.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::recipe::DataPlan;

use super::decode::picture::Reading;
use super::error::{DataError, first_of};
use super::formats::class_names::imagenet1k;
use super::formats::image_folder::{ImageFolder, Listing};
use super::formats::split::Split;

/// The 15 corruptions of ImageNet-C with the error of `AlexNet` (0..1), for the mean corruption error.
///
/// Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations".
pub const CORRUPTIONS: [(&str, f64); 15] = [
    ("gaussian_noise", 0.886_428),
    ("shot_noise", 0.894_468),
    ("impulse_noise", 0.922_640),
    ("defocus_blur", 0.819_880),
    ("glass_blur", 0.826_268),
    ("motion_blur", 0.785_948),
    ("zoom_blur", 0.798_360),
    ("snow", 0.866_816),
    ("frost", 0.826_572),
    ("fog", 0.819_324),
    ("brightness", 0.564_592),
    ("contrast", 0.853_204),
    ("elastic_transform", 0.646_056),
    ("pixelate", 0.717_840),
    ("jpeg_compression", 0.606_500),
];
/// Number of severities of each corruption. The folders are named 1 to 5.
pub const SEVERITIES: usize = 5;
/// Maximum number of folder or class names in a message.
const SHOWN: usize = 3;
const HINT: &str = "rename the class folders to match the class folders of the training data";

/// A test set whose labels match the classes of a checkpoint.
pub struct TestImages {
    /// One part for each corruption and severity of ImageNet-C; a single part for other test sets.
    pub parts: Vec<TestPart>,
    /// Labels of the classes that occur in the test set, in ascending order.
    pub classes: Vec<u32>,
}

/// A part of a test set.
pub struct TestPart {
    /// Name of the corruption; `None` unless the test set is ImageNet-C.
    pub corruption: Option<&'static str>,
    pub split: Arc<dyn Split>,
}

/// Opens the test set in the folder `path`. `names` are the checkpoint's class names in label order.
///
/// The folder may contain class folders, a data set with `val/`, or ImageNet-C. The name of a
/// class folder is a class name, a `WordNet` ID or a label.
pub fn open_test_set(
    path: &Path,
    plan: &DataPlan,
    names: &[String],
) -> Result<TestImages, DataError> {
    if !path.is_dir() {
        let hint = "correct the path of the test set";
        return Err(DataError::layout(path, "the folder does not exist", hint));
    }
    let corrupted = corrupted(path);
    let folders = match &corrupted[..] {
        [] if path.join("val").is_dir() => vec![(None, path.join("val"))],
        [] => vec![(None, path.to_owned())],
        corrupted => all_severities(path, corrupted)?,
    };
    let (mut parts, mut classes) = (Vec::new(), BTreeSet::new());
    for (corruption, folder) in folders {
        let split = labelled(&folder, plan, names)?;
        classes.extend((0..split.len()).map(|index| split.label(index)));
        parts.push(TestPart { corruption, split: Arc::new(split) });
    }
    Ok(TestImages { parts, classes: classes.into_iter().collect() })
}

/// Finds the corruption folders of ImageNet-C in `path` or in subfolders of `path`.
fn corrupted(path: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut groups: Vec<PathBuf> = vec![path.to_owned()];
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    groups.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
    groups.sort();
    let folder = |(name, _): &(&'static str, f64)| {
        let folders = groups.iter().map(|group| group.join(name));
        let mut found = folders.filter(|folder| folder.join("1").is_dir());
        found.next().map(|folder| (*name, folder))
    };
    CORRUPTIONS.iter().filter_map(folder).collect()
}

/// Returns the folders of all severities of all corruptions. Fails if a folder is missing.
fn all_severities(
    path: &Path,
    corrupted: &[(&'static str, PathBuf)],
) -> Result<Vec<(Option<&'static str>, PathBuf)>, DataError> {
    let mut folders = Vec::new();
    for (name, _) in CORRUPTIONS {
        let found = corrupted.iter().find(|(found, _)| *found == name);
        let folder = found.map_or_else(|| path.join(name), |(_, folder)| folder.clone());
        for severity in 1..=SEVERITIES {
            let folder = folder.join(severity.to_string());
            if !folder.is_dir() {
                let problem = "the folder does not exist, but the mCE needs all 15 corruptions of ImageNet-C with all 5 severities";
                return Err(DataError::layout(
                    &folder,
                    problem,
                    "extract all archives of ImageNet-C",
                ));
            }
            folders.push((Some(name), folder));
        }
    }
    Ok(folders)
}

/// Lists the images in the class folders of `folder`. A label is an index in `names`.
fn labelled(folder: &Path, plan: &DataPlan, names: &[String]) -> Result<ImageFolder, DataError> {
    let mut listing = Listing::of(folder, plan)?;
    listing.drop_loose();
    if !listing.is_labelled() {
        let problem = "the folder contains no class folders with images";
        return Err(DataError::layout(
            folder,
            problem,
            "pass a folder that contains one folder for each class",
        ));
    }
    let labels = matched(&listing.classes, names)
        .map_err(|problem| DataError::layout(folder, problem, HINT))?;
    Ok(listing.into_split(Reading::of(plan)?, |class| labels[class as usize]))
}

/// Returns the label of each class folder, which is an index in `names`.
///
/// Fails if a folder matches no class.
fn matched(folders: &[String], names: &[String]) -> Result<Vec<u32>, String> {
    let wnids: Vec<[String; 2]> = imagenet1k().collect();
    let by_wnid: HashMap<&str, (u32, &str)> = (0..)
        .zip(&wnids)
        .map(|(label, [wnid, name])| (wnid.as_str(), (label, name.as_str())))
        .collect();
    // Two classes of ImageNet have the same readable name, so compare WordNet IDs.
    let is_imagenet =
        wnids.len() == names.len() && wnids.iter().zip(names).all(|([_, name], own)| name == own);
    let mut known: HashMap<&str, Vec<u32>> = HashMap::new();
    for (label, name) in names.iter().enumerate() {
        known.entry(name).or_default().push(label as u32);
    }
    let by_name = |folder: &String| -> Option<u32> {
        let class = by_wnid.get(folder.as_str());
        if is_imagenet && let Some((label, _)) = class {
            return Some(*label);
        }
        let name = class.map(|(_, name)| *name).filter(|name| known.contains_key(name));
        match &known.get(name.unwrap_or(folder))?[..] {
            [label] => Some(*label),
            _ => None,
        }
    };
    let found: Vec<Option<u32>> = folders.iter().map(by_name).collect();
    let labels: Option<Vec<u32>> = found.iter().copied().collect();
    if let Some(labels) = labels {
        return Ok(labels);
    }
    // ImageNet-V2 names its folders by label.
    let by_label: Option<Vec<u32>> = folders.iter().map(|folder| folder.parse().ok()).collect();
    let is_label = |label: &u32| (*label as usize) < names.len();
    if let Some(labels) = by_label.filter(|labels| labels.iter().all(is_label))
        && found.iter().all(Option::is_none)
    {
        return Ok(labels);
    }
    let unknown = folders.iter().zip(&found).filter(|(_, label)| label.is_none());
    let unknown: Vec<&str> = unknown.map(|(folder, _)| folder.as_str()).collect();
    let own: Vec<&str> = names.iter().map(String::as_str).collect();
    Err(format!(
        "{} of {} class folders match no class of the checkpoint: {}. The classes of the checkpoint are {}",
        unknown.len(),
        folders.len(),
        first_of(&unknown, SHOWN),
        first_of(&own, SHOWN)
    ))
}

#[cfg(test)]
mod tests {
    use super::matched;
    use crate::data::formats::class_names::imagenet1k_names;

    fn labels(folders: &[&str], names: &[String]) -> Result<Vec<u32>, String> {
        let folders: Vec<String> = folders.iter().map(ToString::to_string).collect();
        matched(&folders, names)
    }

    #[test]
    fn folders_are_matched_by_name_id_or_label() {
        let names = ["cat", "dog", "owl"].map(str::to_owned);
        assert_eq!(labels(&["owl", "cat"], &names), Ok(vec![2, 0]));
        assert_eq!(labels(&["1", "2"], &names), Ok(vec![1, 2]));
        assert!(labels(&["3"], &names).is_err());
        let error = labels(&["owl", "bat", "1"], &names).unwrap_err();
        assert!(
            error.starts_with(
                "2 of 3 class folders match no class of the checkpoint: `bat`, `1`. The"
            ),
            "{error}"
        );
        // Both classes are named "crane": a bird and a machine.
        let imagenet = imagenet1k_names();
        let cranes = labels(&["n02012849", "n03126707"], &imagenet).unwrap();
        assert_eq!(cranes, [134, 517]);
        assert_eq!(imagenet[134], imagenet[517]);
        // A checkpoint for a subset of ImageNet has only readable names.
        let part = [imagenet[1].clone(), imagenet[0].clone()];
        assert_eq!(labels(&["n01440764", "n01443537"], &part), Ok(vec![1, 0]));
        assert!(labels(&["n02012849"], &[imagenet[134].clone(), imagenet[517].clone()]).is_err());
    }
}
