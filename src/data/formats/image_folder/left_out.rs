use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::data::formats::image_names::ImageNames;
use crate::data::formats::passed_over::of_no_use;
use crate::data::formats::shards::val_folder;

use super::listing::{MAX_DEPTH, leads_back};

/// Counts the files that are not images, by file extension. Does not count hidden files and system files.
///
/// Returns pairs (extension, number of files), the most frequent extension first.
pub(in crate::data) fn left_out(data: &Path, images: ImageNames) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    let train = data.join("train");
    if train.is_dir() {
        count_others(&train, 0, images, &mut counts);
        if let Some(val) = val_folder(data) {
            count_others(&val, 0, images, &mut counts);
        }
    } else {
        count_others(data, 0, images, &mut counts);
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

fn count_others(
    folder: &Path,
    depth: usize,
    images: ImageNames,
    counts: &mut BTreeMap<String, usize>,
) {
    // Ignores unreadable folders, because `Listing::read` reports them.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, path) = (PathBuf::from(entry.file_name()), entry.path());
        if of_no_use(&name.to_string_lossy()).is_some() || images.contain(&name) {
            continue;
        }
        if path.is_dir() {
            if depth < MAX_DEPTH && !leads_back(&path) {
                count_others(&path, depth + 1, images, counts);
            }
            continue;
        }
        let extension = name.extension().map(|text| text.to_string_lossy().to_lowercase());
        *counts.entry(extension.unwrap_or_default()).or_default() += 1;
    }
}
