//! `mae eval --per-class`: writes a table with a row for each class.

use super::super::CliError;
use super::write_csv;
use crate::infer::{ClassTally, Tally};
use std::path::Path;

const HEADER: [&str; 7] =
    ["label", "class", "images", "top1", "top5", "confused_with", "confused_images"];

/// Writes a CSV table with the results of each class.
///
/// The column `confused_with` names the most frequent wrong prediction.
pub(super) fn write(path: &Path, tally: &Tally, names: &[String]) -> Result<(), CliError> {
    let name = |label: u32| names.get(label as usize).cloned().unwrap_or_default();
    let rows = tally.by_class().into_iter().map(|row: ClassTally| {
        let (confused, images) = match row.confused {
            Some((class, images)) => (name(class), images),
            None => (String::new(), 0),
        };
        vec![
            row.label.to_string(),
            name(row.label),
            row.images.to_string(),
            format!("{:.2}", row.top1),
            format!("{:.2}", row.top5),
            confused,
            images.to_string(),
        ]
    });
    write_csv(path, &HEADER, rows)
}
